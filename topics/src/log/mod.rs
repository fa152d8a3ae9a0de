//! Logs of messages.

mod ring;

pub use ring::{Ring, Segment};
