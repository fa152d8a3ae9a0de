//! How long requests take: a histogram of nanoseconds, and what is read off it.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// Every doubling is divided into this many steps: a figure is true to 1.6 %.
const STEPS: u64 = 64;

/// Up to 2^36 ns, a bit more than a minute, after which a measurement is given up anyway.
const BUCKETS: usize = (36 - STEPS.ilog2() as usize + 1) * STEPS as usize;

/// Of this many requests of a task one is timed, unless there is one in flight alone: looking at
/// the clock for each would be a cost of ours in the measure of theirs.
pub(crate) const TIMED_ONE_IN: u64 = 16;

/// Counts requests by how long they took.
pub(crate) struct Histogram(Box<[AtomicU32]>);

/// The figures that are told of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Latency {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self((0..BUCKETS).map(|_| AtomicU32::new(0)).collect())
    }

    pub(crate) fn record(&self, took: Duration) {
        let bucket = bucket(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        self.0[bucket.min(BUCKETS - 1)].fetch_add(1, Ordering::Relaxed);
    }

    /// Forgets what was recorded.
    pub(crate) fn clear(&self) {
        self.0.iter().for_each(|count| count.store(0, Ordering::Relaxed));
    }

    /// `None` if nothing was recorded.
    pub(crate) fn latency(&self) -> Option<Latency> {
        let counts: Vec<_> =
            self.0.iter().map(|count| u64::from(count.load(Ordering::Relaxed))).collect();
        let all: u64 = counts.iter().sum();
        let quantile = |percent: u64| {
            let wanted = (all * percent).div_ceil(100).max(1);
            let mut seen = 0;
            let bucket = counts.iter().position(|count| {
                seen += count;
                seen >= wanted
            })?;
            Some(Duration::from_nanos(middle(bucket as u64)))
        };
        Some(Latency { p50: quantile(50)?, p99: quantile(99)? })
    }
}

/// Below `STEPS` each nanosecond has its own bucket; above, the leading digits of the binary
/// number choose the step and their position the doubling.
fn bucket(nanos: u64) -> usize {
    let doubling = nanos.max(STEPS).ilog2() - STEPS.ilog2();
    (u64::from(doubling) * STEPS + (nanos >> doubling)) as usize
}

fn middle(bucket: u64) -> u64 {
    let doubling = (bucket / STEPS).saturating_sub(1);
    let step = bucket - doubling * STEPS;
    (step << doubling) + (1 << doubling) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_back_what_went_in_but_for_its_width() {
        for nanos in (0..40_000).chain([1 << 20, 999_999_999, (1 << 36) - 1]) {
            let bucket = bucket(nanos);
            assert!(bucket < BUCKETS, "{nanos} is beyond the last bucket");
            assert!(middle(bucket as u64).abs_diff(nanos) <= nanos / STEPS, "{nanos}");
        }
    }

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let histogram = Histogram::new();
        assert_eq!(histogram.latency(), None);
        (1..=100).for_each(|nanos| histogram.record(Duration::from_nanos(nanos)));
        let latency = histogram.latency().map(|it| (it.p50.as_nanos(), it.p99.as_nanos()));
        assert_eq!(latency, Some((50, 99)));
        histogram.clear();
        assert_eq!(histogram.latency(), None);
    }

    #[test]
    fn what_is_beyond_the_last_bucket_is_in_it() {
        let histogram = Histogram::new();
        histogram.record(Duration::MAX);
        assert!(histogram.latency().is_some_and(|it| it.p50 > Duration::from_secs(60)));
    }
}
