//! Ticks that nobody queues.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::Stream;
use tokio::time::{Instant, Sleep, sleep_until};

/// A tick at once, and then one at each multiple of an interval, for ever. Which tick it is is found
/// out when it is asked for: who asks late gets the newest, and is told how many there were before.
pub(super) struct Ticks {
    start: Instant,
    interval_ms: u64,
    /// The first tick that was neither given nor missed.
    next: u64,
    sleep: Pin<Box<Sleep>>,
}

/// A tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tick {
    /// Which one, from 0.
    pub(super) seq: u64,
    /// How many there were since the one before that nobody asked for.
    pub(super) missed: u64,
    /// How long ago it was due.
    pub(super) late: Duration,
}

impl Ticks {
    /// Starts now. An interval of 0 counts as 1.
    pub(super) fn every(interval_ms: u32) -> Self {
        let start = Instant::now();
        let interval_ms = u64::from(interval_ms.max(1));
        Self { start, interval_ms, next: 0, sleep: Box::pin(sleep_until(start)) }
    }

    fn due(&self, seq: u64) -> Duration {
        Duration::from_millis(seq.saturating_mul(self.interval_ms))
    }
}

impl Stream for Ticks {
    type Item = Tick;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Tick>> {
        loop {
            let elapsed = self.start.elapsed();
            // Milliseconds of half a billion years.
            let seq = elapsed.as_millis() as u64 / self.interval_ms;
            if seq >= self.next {
                let missed = seq - self.next;
                self.next = seq + 1;
                let late = elapsed.saturating_sub(self.due(seq));
                return Poll::Ready(Some(Tick { seq, missed, late }));
            }
            let at = self.start + self.due(self.next);
            self.sleep.as_mut().reset(at);
            ready!(self.sleep.as_mut().poll(cx));
        }
    }

    /// It never ends, so it need not be polled to find out.
    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::MAX, None)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_tick_comes_at_once_and_the_others_on_time() {
        let (start, mut ticks) = (Instant::now(), Ticks::every(250));
        for seq in 0..4 {
            let late = Duration::ZERO;
            assert_eq!(ticks.next().await, Some(Tick { seq, missed: 0, late }));
            assert_eq!(start.elapsed(), Duration::from_millis(250 * seq));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_late_gets_the_newest_and_the_number_missed() {
        let mut ticks = Ticks::every(100);
        assert_eq!(ticks.next().await.map(|tick| tick.seq), Some(0));
        advance(Duration::from_millis(1_030)).await;
        let late = Duration::from_millis(30);
        assert_eq!(ticks.next().await, Some(Tick { seq: 10, missed: 9, late }));
        let on_time = Tick { seq: 11, missed: 0, late: Duration::ZERO };
        assert_eq!(ticks.next().await, Some(on_time));
    }
}
