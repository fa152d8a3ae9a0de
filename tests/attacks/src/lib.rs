//! Attacks at full size on the real `rsockd`: what they make it hold, and what others see of them.
//!
//! Each attack is a peer, or a crowd of them, that keeps to the letter of the protocol and to nothing
//! else. [`memory`] measures what one makes the process hold, against the [`budget`] of the
//! architecture, and what is left when it has gone; [`polite`] what a client sees that does nothing
//! but ask; [`cuts`] what becomes of sessions whose transports are disturbed; [`crashes`] what is left of durable
//! topics when their process is killed.
#![cfg(target_os = "linux")]

pub mod attack;
pub mod budget;
pub mod crashes;
pub mod cuts;
pub mod memory;
pub mod polite;
pub mod server;
pub mod target;
pub mod wire;
