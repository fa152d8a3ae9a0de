//! The pace at which a connection is read, where it is bounded: what comes faster waits in the peer's socket.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use super::Driver;

/// The time for which as much is read as is there, before the pace counts: what a peer that was silent may send
/// at once.
const BURST: Duration = Duration::from_secs(1);

/// How far a connection has been read ahead of its pace.
pub(crate) struct Pace {
    bytes_per_s: NonZeroU32,
    /// When all that was read will have been paid for.
    paid: Option<Instant>,
    /// Nothing is read before.
    resumes: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(bytes_per_s: NonZeroU32) -> Self {
        Self { bytes_per_s, paid: None, resumes: None }
    }

    fn took(&mut self, bytes: usize, now: Instant) {
        let nanoseconds = bytes as u64 * 1_000_000_000 / u64::from(self.bytes_per_s.get());
        let from = self.paid.map_or(now, |paid| paid.max(now));
        self.paid = Some(from + Duration::from_nanos(nanoseconds));
    }

    /// Until when nothing is to be read, if it is ahead.
    fn ahead_until(&self, now: Instant) -> Option<Instant> {
        let until = self.paid?.checked_sub(BURST)?;
        (until > now).then_some(until)
    }
}

impl Driver {
    /// So much was read.
    #[inline]
    pub(super) fn has_read(&mut self, bytes: usize, now: Instant) {
        if let Some(pace) = &mut self.options.pace {
            pace.took(bytes, now);
        }
    }

    /// Whether nothing is to be read for now.
    #[inline]
    pub(super) fn is_ahead(&mut self, now: Instant) -> bool {
        self.options.pace.is_some() && self.waits_for_pace(now)
    }

    #[cold]
    fn waits_for_pace(&mut self, now: Instant) -> bool {
        let Some(pace) = &mut self.options.pace else { return false };
        let until = pace.ahead_until(now);
        if until.is_some() {
            // That nothing comes is our doing.
            self.connection.handle_pause(now);
            if pace.resumes.is_none() {
                self.meter.paused_for_rate();
            }
        }
        pace.resumes = until;
        until.is_some()
    }

    /// When it is read again.
    pub(super) fn pace_deadline(&self) -> Option<Instant> {
        self.options.pace.as_ref()?.resumes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_faster_waits_as_long_as_it_was_too_fast() {
        let mut pace = Pace::new(NonZeroU32::new(1_000).expect("it is not 0"));
        let start = Instant::now() + Duration::from_secs(10);
        let after = |ms| start + Duration::from_millis(ms);
        pace.took(1_000, start);
        assert_eq!(pace.ahead_until(start), None);
        pace.took(500, start);
        assert_eq!(pace.ahead_until(start), Some(after(500)));
        assert_eq!(pace.ahead_until(after(499)), Some(after(500)));
        assert_eq!(pace.ahead_until(after(500)), None);
        // A silence is worth no more than a second.
        pace.took(1_000, after(60_000));
        assert_eq!(pace.ahead_until(after(60_000)), None);
        pace.took(1, after(60_000));
        assert_eq!(pace.ahead_until(after(60_000)), Some(after(60_001)));
    }
}
