//! The end of a server: its connections are told, and waited for.

use std::{pin::pin, sync::PoisonError, time::Duration};

use crate::server::Service;

/// The time between connections that are told after one another that the server stops.
const SPREAD_STEP: Duration = Duration::from_millis(10);

/// Connections that are told something before others may run.
pub(super) const PORTION: usize = 256;

impl Service {
    /// Ends a portion of the connections, from this key on; the key to go on from, if there are more.
    /// The lock is held to look at them: who comes or goes meanwhile does not wait until all are woken.
    pub(super) fn end_some(&self, from: usize, portion: usize, now: bool) -> Option<usize> {
        let (told, next) = {
            let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
            // Keys are at most as many as there have been connections at once.
            let to = from + portion;
            let told: Vec<_> = (from..to).filter_map(|key| live.get(key).cloned()).collect();
            (told, (to < live.capacity()).then_some(to))
        };
        for mailbox in told {
            mailbox.end(now);
        }
        next
    }

    /// Ends all connections, and lets others run between portions. One that comes meanwhile sees that
    /// the server is draining.
    async fn end_all(&self, now: bool) {
        let mut from = Some(0);
        while let Some(key) = from {
            from = self.end_some(key, PORTION, now);
            tokio::task::yield_now().await;
        }
    }

    /// Ends all connections gently, one after the other over the drain's spread; where there are few, one a
    /// step, so that it takes less. Those that come meanwhile are told at once.
    async fn end_spread(&self) {
        let spread = self.builder.drain_spread;
        let places = self.live.lock().unwrap_or_else(PoisonError::into_inner).capacity();
        let begun = tokio::time::Instant::now();
        let mut from = Some(0);
        while let Some(key) = from {
            let part = begun.elapsed().as_secs_f64() / spread.as_secs_f64();
            // Without a spread the part is no number, and nobody asks.
            let due = (places as f64 * part) as usize;
            let portion = if spread.is_zero() { PORTION } else { due.saturating_sub(key).max(1) };
            from = self.end_some(key, portion.min(PORTION), false);
            match spread.is_zero() || portion > PORTION {
                true => tokio::task::yield_now().await,
                false => tokio::time::sleep(SPREAD_STEP).await,
            }
        }
    }

    /// Ends all connections: gently until the drain limit, then at once.
    pub(super) async fn drain(&self) {
        self.draining.send_replace(true);
        self.doors.stop();
        let gently = async {
            self.end_spread().await;
            self.all_ended().await;
        };
        if tokio::time::timeout(self.builder.drain_limit, gently).await.is_err() {
            self.end_all(true).await;
            #[cfg(feature = "websocket")]
            self.web.end();
            // What flushing and lingering take, and a little more.
            let _ = tokio::time::timeout(Duration::from_secs(3), self.all_ended()).await;
        }
    }

    async fn all_ended(&self) {
        loop {
            let mut deserted = pin!(self.deserted.notified());
            deserted.as_mut().enable();
            if self.live.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
                break;
            }
            deserted.await;
        }
        #[cfg(feature = "websocket")]
        self.web.deserted().await;
    }
}
