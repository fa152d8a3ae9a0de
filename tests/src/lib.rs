//! Shared by the tests: a peer that is not ours, handlers to ask, pairs of ends to ask them, and
//! what watches the whole.

pub mod cutter;
pub mod fixture;
pub mod http;
pub mod link;
pub mod log;
pub mod process;
pub mod readiness;
pub mod record;
pub mod script;

use rsock::{CloseReason, Error, Sent};
pub use rsock_wire as wire;

/// The error of a request that ended with its connection, for this reason, and may have left.
pub fn maybe_sent(reason: CloseReason) -> Error {
    Error::Closed { reason, sent: Sent::Maybe, fragmented: None }
}

/// The error of a request that ended with its connection, for this reason, and never left.
pub fn never_sent(reason: CloseReason) -> Error {
    Error::Closed { reason, sent: Sent::Never, fragmented: None }
}
