//! Rates: so many a second, and so many at once.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use crate::{refusal::Refusal, time::Instant};

/// The highest rate: above it the time from one to the next, in nanoseconds, becomes inexact.
const MAX_PER_SECOND: u32 = 1_000_000;

/// Nanoseconds of a moment's unit.
const NANOS: u64 = 1_000;

/// A rate that is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Form")]
pub struct Rate {
    per_second: u32,
    burst: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    per_second: u32,
    burst: Option<u32>,
}

impl TryFrom<Form> for Rate {
    type Error = String;

    fn try_from(Form { per_second, burst }: Form) -> Result<Self, String> {
        Self::new(per_second, burst.unwrap_or(per_second))
    }
}

impl Rate {
    /// So many a second in the long run, and so many at once.
    ///
    /// # Errors
    /// A sentence, if one of them is 0, which allows nothing, or the rate is more than can be measured.
    pub fn new(per_second: u32, burst: u32) -> Result<Self, String> {
        if !(1..=MAX_PER_SECOND).contains(&per_second) || burst == 0 {
            return Err(format!(
                "a rate allows 1 to {MAX_PER_SECOND} a second, and at least 1 at once; leave it out for no \
                 limit"
            ));
        }
        Ok(Self { per_second, burst })
    }

    /// How many a second, in the long run.
    pub fn per_second(self) -> u32 {
        self.per_second
    }

    /// Nanoseconds from one to the next.
    fn interval(self) -> u64 {
        1_000_000_000 / u64::from(self.per_second)
    }
}

/// A publish that comes sooner than a rate allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFast {
    /// The rate.
    pub rate: Rate,
    /// The time after which it may come.
    pub wait: Duration,
}

impl From<TooFast> for Refusal {
    fn from(TooFast { rate, wait }: TooFast) -> Self {
        Self::too_fast(rate.per_second(), wait)
    }
}

/// A bucket of tokens, of which each that is taken comes back after its time. It is full when it is new.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    rate: Rate,
    /// The moment at which it is full, in nanoseconds: the one number that says how many tokens are in it.
    full_at: u64,
}

impl Bucket {
    /// A full one.
    pub fn new(rate: Rate) -> Self {
        Self { rate, full_at: 0 }
    }

    /// Its rate.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now.0.saturating_mul(NANOS)
    }

    /// Takes a token.
    ///
    /// # Errors
    /// The time after which there will be one; nothing is taken.
    pub fn try_take(&mut self, now: Instant) -> Result<(), Duration> {
        let now = now.0.saturating_mul(NANOS);
        let interval = self.rate.interval();
        let full_at = self.full_at.max(now);
        // With one token taken more it is full after as many intervals as it holds, or sooner.
        let latest = now.saturating_add(interval.saturating_mul(self.rate.burst.into()));
        match full_at.saturating_add(interval).checked_sub(latest) {
            None | Some(0) => {
                self.full_at = full_at.saturating_add(interval);
                Ok(())
            }
            Some(early) => Err(Duration::from_nanos(early)),
        }
    }
}

/// Buckets of one rate, for each of many who come and go. One that is full again is not kept.
#[derive(Debug)]
pub struct Buckets<K> {
    rate: Rate,
    by_key: BTreeMap<K, Bucket>,
    /// When there are so many, the full ones go.
    sweep_at: usize,
}

/// Buckets that are kept without a look at whether they are full.
const FEW_BUCKETS: usize = 64;

impl<K: Ord> Buckets<K> {
    /// A full one for everybody.
    pub fn new(rate: Rate) -> Self {
        Self { rate, by_key: BTreeMap::new(), sweep_at: FEW_BUCKETS }
    }

    /// Takes a token from somebody's bucket.
    ///
    /// # Errors
    /// The time after which there will be one; nothing is taken.
    pub fn try_take(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        if self.by_key.len() >= self.sweep_at {
            self.by_key.retain(|_, bucket| !bucket.is_full(now));
            // As many come as there are before all are looked at again.
            self.sweep_at = (2 * self.by_key.len()).max(FEW_BUCKETS);
        }
        self.by_key.entry(key).or_insert_with(|| Bucket::new(self.rate)).try_take(now)
    }

    /// Their rate.
    pub fn rate(&self) -> Rate {
        self.rate
    }
}

/// The time over which publishes are counted.
const WINDOW: Duration = Duration::from_secs(10);

/// The publishes of the last ten seconds: those of the window that goes on, and of the one before as much as
/// it reaches into them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Recent {
    since: Instant,
    count: u32,
    before: u32,
}

impl Recent {
    /// Counts one.
    pub(crate) fn count(&mut self, now: Instant) {
        self.go_on(now);
        self.count = self.count.saturating_add(1);
    }

    fn go_on(&mut self, now: Instant) {
        let passed = now.since(self.since);
        if passed >= 2 * WINDOW {
            *self = Self { since: now, count: 0, before: 0 };
        } else if passed >= WINDOW {
            *self = Self { since: self.since + WINDOW, count: 0, before: self.count };
        }
    }

    /// How many a second.
    pub(crate) fn per_second(mut self, now: Instant) -> f64 {
        self.go_on(now);
        let passed = now.since(self.since).as_secs_f64() / WINDOW.as_secs_f64();
        (f64::from(self.before) * (1.0 - passed) + f64::from(self.count)) / WINDOW.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(per_second: u32, burst: u32) -> Bucket {
        Bucket::new(Rate::new(per_second, burst).expect("a rate"))
    }

    #[test]
    fn as_many_as_its_burst_are_taken_at_once_and_then_its_rate() {
        let mut bucket = bucket(50, 3);
        let start = Instant(7_000_000);
        for _ in 0..3 {
            assert_eq!(bucket.try_take(start), Ok(()));
        }
        assert_eq!(bucket.try_take(start), Err(Duration::from_millis(20)));
        let sooner = start + Duration::from_millis(15);
        assert_eq!(
            bucket.try_take(sooner),
            Err(Duration::from_millis(5)),
            "what was refused took none"
        );
        assert_eq!(bucket.try_take(start + Duration::from_millis(20)), Ok(()));
        // It holds no more than it did.
        let later = start + Duration::from_secs(3_600);
        for _ in 0..3 {
            assert_eq!(bucket.try_take(later), Ok(()));
        }
        assert_eq!(bucket.try_take(later), Err(Duration::from_millis(20)));
    }

    #[test]
    fn who_waits_as_long_as_was_said_is_served_and_no_sooner() {
        for (per_second, burst) in [(1, 1), (3, 2), (50, 100), (999_999, 7), (MAX_PER_SECOND, 1)] {
            let mut bucket = bucket(per_second, burst);
            let mut now = Instant(1);
            for taken in 0..1_000_u32 {
                if let Err(wait) = bucket.try_take(now) {
                    // The clock counts microseconds.
                    now.0 += u64::try_from(wait.as_nanos().div_ceil(1_000)).expect("seconds");
                    assert_eq!(bucket.try_take(now), Ok(()), "{per_second} {burst}");
                }
                let by_rate = now.0 as f64 / 1e6 * f64::from(per_second) * 1.001;
                assert!(f64::from(taken) <= f64::from(burst) + by_rate, "{per_second} {burst}");
            }
        }
    }

    #[test]
    fn everybody_has_a_bucket_for_as_long_as_it_is_not_full() {
        let mut buckets = Buckets::new(Rate::new(1_000, 2).expect("a rate"));
        for who in 0..10_000_u64 {
            // One each 10 µs: after 2 ms a bucket is full.
            let now = Instant(10 * who);
            assert_eq!(buckets.try_take(who, now), Ok(()));
            assert_eq!(buckets.try_take(who, now), Ok(()));
            assert_eq!(buckets.try_take(who, now), Err(Duration::from_millis(1)));
            assert!(buckets.by_key.len() <= 2 * 200 + FEW_BUCKETS, "{}", buckets.by_key.len());
        }
        // Those that are not full have not gone.
        assert!(buckets.try_take(9_999, Instant(100_000)).is_err());
    }

    #[test]
    fn nothing_a_second_is_not_a_rate() {
        assert!(Rate::new(0, 1).is_err() && Rate::new(1, 0).is_err());
        let read = |json| serde_json::from_str::<Rate>(json).map_err(|error| error.to_string());
        assert_eq!(read(r#"{"per_second":50}"#), Rate::new(50, 50));
        assert_eq!(read(r#"{"per_second":50,"burst":200}"#), Rate::new(50, 200));
        assert!(read(r#"{"per_second":0}"#).is_err_and(|error| error.contains("allows 1 to")));
        assert!(read(r#"{"per_second":1,"brust":2}"#).is_err());
    }

    #[test]
    fn the_publishes_of_the_last_ten_seconds_are_counted() {
        let at = |ms: u64| Instant(1_000 * ms);
        let mut recent = Recent::default();
        assert_eq!(recent.per_second(at(5)), 0.0);
        // Ten a second for half a minute, from some moment on.
        for n in 0..300 {
            recent.count(at(77_000 + 100 * n));
            let per_second = recent.per_second(at(77_000 + 100 * n));
            assert!(n < 100 || (9.8..=10.2).contains(&per_second), "{n}: {per_second}");
        }
        for (ms, expected) in [(30_000, 10.0), (35_000, 5.0), (40_000, 0.0), (60_000, 0.0)] {
            let per_second = recent.per_second(at(77_000 + ms));
            assert!((per_second - expected).abs() < 0.2, "{ms}: {per_second}");
        }
        recent.count(at(1_000_000));
        assert_eq!(recent.per_second(at(1_000_000)), 0.1);
    }
}
