//! Logs of messages.

mod latest;
mod ring;

pub use latest::Latest;
pub(crate) use ring::{KEPT_IN_MEMORY, KEPT_OF_DURABLE};
pub use ring::{Ring, Segment};
