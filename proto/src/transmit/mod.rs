//! From streams to the wire: who goes next, and what is on its way.

mod retained;
mod scheduler;
mod send_buf;

pub(crate) use retained::Retained;
pub(crate) use scheduler::Scheduler;
pub use send_buf::{Envelope, SendBuf};
