//! Rates: how much may come in a time, and when there may be more.

use std::{
    fmt,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{error::Error, meter::Meter};

const SECOND: u64 = 1_000_000_000;

/// A bound on the requests of a second, as [`Peer::limit_requests`](crate::Peer::limit_requests) takes it: of one
/// connection, or of all that share it. As many as a second is for may come at once; from then on each waits
/// for its time, and one that comes before it is refused with REJECTED, and told when to come again.
///
/// ```
/// # use std::{num::NonZeroU32, sync::Arc};
/// # use rsock::*;
/// # fn serve(app: Router<()>) -> impl Acceptor {
/// move |peer: Peer| {
///     let limit = RateLimit::per_second(const { NonZeroU32::new(100).unwrap() });
///     // It is the first to be set.
///     let _ = peer.limit_requests(Arc::new(limit));
///     std::future::ready(Ok(app.clone()))
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct RateLimit {
    per_second: NonZeroU32,
    began: Instant,
    bucket: Bucket,
    meter: Option<Arc<Meter>>,
}

impl RateLimit {
    /// At most so many requests a second.
    pub fn per_second(requests: NonZeroU32) -> Self {
        let bucket = Bucket::default();
        Self { per_second: requests, began: Instant::now(), bucket, meter: None }
    }

    /// Counts what is refused.
    #[must_use]
    pub fn meter(mut self, meter: Arc<Meter>) -> Self {
        self.meter = Some(meter);
        self
    }

    /// Takes the place of one request.
    ///
    /// # Errors
    /// It comes before its time: the time until then.
    pub fn try_take(&self) -> Result<(), Duration> {
        let now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let cost = SECOND / u64::from(self.per_second.get());
        let taken = self.bucket.take(now, cost, SECOND);
        if taken.is_err()
            && let Some(meter) = &self.meter
        {
            meter.rate_limited_request();
        }
        taken.map_err(Duration::from_nanos)
    }

    /// Whether as many may come at once as after a long silence.
    pub fn is_rested(&self) -> bool {
        let now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.bucket.is_full(now)
    }

    /// As [`try_take`](Self::try_take), with the refusal of a request.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.try_take().map_err(|wait| {
            let per_second = self.per_second;
            // Rounded up: who comes then is not told to come again.
            let wait = wait.as_millis() + 1;
            Error::rejected(format_args!("rate limit: {per_second} requests/s; again in {wait} ms"))
        })
    }
}

/// A token bucket in one number: the time, in nanoseconds, at which it is full again.
#[derive(Default)]
pub(crate) struct Bucket(AtomicU64);

impl Bucket {
    /// Takes what takes `cost` nanoseconds to flow in again, out of what flows in during `burst`.
    ///
    /// # Errors
    /// There is not as much: the nanoseconds until there is.
    pub(crate) fn take(&self, now: u64, cost: u64, burst: u64) -> Result<(), u64> {
        let mut wait = 0;
        let taken = self.0.fetch_update(Relaxed, Relaxed, |full| {
            let full_again = full.max(now).saturating_add(cost);
            wait = full_again.saturating_sub(now).saturating_sub(burst.max(cost));
            (wait == 0).then_some(full_again)
        });
        if taken.is_ok() { Ok(()) } else { Err(wait) }
    }
}

impl Bucket {
    fn is_full(&self, now: u64) -> bool {
        self.0.load(Relaxed) <= now
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_a_burst_and_then_as_much_as_flows_in() {
        let (bucket, start) = (Bucket::default(), 5_000);
        for _ in 0..10 {
            assert_eq!(bucket.take(start, 100, 1_000), Ok(()));
        }
        assert_eq!(bucket.take(start, 100, 1_000), Err(100));
        assert_eq!(bucket.take(start + 40, 100, 1_000), Err(60));
        assert_eq!(bucket.take(start + 100, 100, 1_000), Ok(()));
        assert_eq!(bucket.take(start + 100, 100, 1_000), Err(100));
        // A long silence gives no more than a burst.
        let later = start + 1_000_000;
        let taken = (0..100).filter(|_| bucket.take(later, 100, 1_000).is_ok()).count();
        assert_eq!(taken, 10);
        // What costs more than there ever is comes once the bucket is full.
        assert_eq!(Bucket::default().take(7, 5_000, 1_000), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_tells_when_to_come_again() {
        let limit = RateLimit::per_second(NonZeroU32::new(4).expect("it is not 0"));
        for _ in 0..4 {
            limit.try_take().expect("a second's worth may come at once");
        }
        let wait = limit.try_take().expect_err("it is too early");
        assert_eq!(wait, Duration::from_millis(250));
        let told = limit.check().expect_err("it is too early").to_string();
        assert!(told.contains("rate limit: 4 requests/s; again in 251 ms"), "{told}");
        tokio::time::advance(wait).await;
        limit.try_take().expect("it is time");
        tokio::time::advance(Duration::from_millis(999)).await;
        assert!(!limit.is_rested());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(limit.is_rested());
    }
}
