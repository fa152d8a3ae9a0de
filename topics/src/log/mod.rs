//! Logs of messages.

mod latest;
mod ring;

pub use latest::Latest;
pub use ring::{Ring, Segment};
