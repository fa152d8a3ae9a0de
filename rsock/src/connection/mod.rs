//! A connection at work: one task that owns the socket and the protocol state, and the handles
//! that talk to it.

mod budget;
mod consumers;
mod doors;
mod driver;
mod mailbox;
mod producers;
mod sessions;
mod shares;
mod spare_inlets;

pub use consumers::{DEFAULT_CREDIT, Payloads};
pub(crate) use consumers::{
    DEFAULT_MAX_WAITING_BYTES, Feeder, Inflow, Inlet, Limit, default_window,
};
pub(crate) use doors::{DoorLimits, Doors, Newcomer};
pub(crate) use driver::{Driver, DriverOptions, Redialler};
pub use mailbox::ConnectionState;
pub(crate) use mailbox::{Command, Mailbox, Outgoing, Permit};
#[cfg(feature = "websocket")]
pub(crate) use producers::guard;
pub(crate) use sessions::Sessions;
#[cfg(feature = "websocket")]
pub(crate) use shares::{Holder, Shares, Spare};
pub(crate) use spare_inlets::{keep_inlet, take_inlet};
