//! Settings of topics.

use std::time::Duration;
/// The bounds of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Messages older than two seconds.
    pub messages: u64,
    /// Bytes of memory.
    pub bytes: usize,
    /// The age beyond which a message is not delivered any more.
    pub age: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { messages: 1_024, bytes: 8 << 20, age: Duration::from_secs(24 * 60 * 60) }
    }
}
