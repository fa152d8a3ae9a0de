//! The clocks of the process.

use std::time::SystemTime;

use crate::time::{Instant, Now};

/// Both clocks, for those who give the topics the time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: tokio::time::Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { started: tokio::time::Instant::now() }
    }

    /// The time.
    #[expect(clippy::disallowed_methods, reason = "the one clock, which gives the core its time")]
    pub fn now(self) -> Now {
        let monotonic = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let unix_ms = u64::try_from(unix.as_millis()).unwrap_or(u64::MAX);
        Now { monotonic: Instant(monotonic), unix_ms }
    }
}
