//! A connection at work: one task that owns the socket and the protocol state, and the handles
//! that talk to it.

mod arrivals;
mod budget;
mod doors;
mod driver;
pub(crate) mod feed;
pub(crate) mod handle;
pub(crate) mod inflow;
mod inlet;
mod mailbox;
mod permit;
mod producers;
mod sessions;
mod shares;
mod snapshot;
mod spare_inlets;
mod wake_group;
pub(crate) mod work;

pub(crate) use doors::{DoorLimits, Doors, Newcomer};
pub(crate) use driver::{Driver, DriverOptions, Leases, Pace, Redialler};
pub(crate) use inlet::{Feeder, Inlet};
pub(crate) use mailbox::{Command, Mailbox, Outgoing, Permit};
pub(crate) use permit::{AwaitedPermit, refusal, refused};
pub(crate) use producers::{guard, panicked};
pub(crate) use sessions::Sessions;
#[cfg(feature = "websocket")]
pub(crate) use shares::{Holder, Shares, Spare};
pub(crate) use snapshot::{SeenStream, Snapshot};
pub(crate) use spare_inlets::{keep_inlet, take_inlet};
pub use wake_group::WakeGroup;
