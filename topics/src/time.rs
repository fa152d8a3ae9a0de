//! Time, as it is given to the core.

use std::{ops::Add, time::Duration};

/// A moment, by both clocks. The core has none of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The clock that only goes forward: what ages or waits is measured by it.
    pub monotonic: Instant,
    /// Milliseconds since 1970, which may be set back or forward: messages carry them.
    pub unix_ms: u64,
}

/// A moment of the clock that only goes forward, in microseconds since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// The time since an earlier moment; zero for a later one.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Instant {
    /// The moment so long before; the beginning of the clock, if that is later.
    #[must_use]
    pub fn before(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(later.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Now {
    /// A later moment.
    #[must_use]
    pub fn after(self, later: Duration) -> Self {
        let millis = u64::try_from(later.as_millis()).unwrap_or(u64::MAX);
        Self { monotonic: self.monotonic + later, unix_ms: self.unix_ms.saturating_add(millis) }
    }
}
