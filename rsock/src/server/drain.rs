//! The end of a server: its connections are told, and waited for. And that of single connections, which have
//! been there for as long as they may.

use std::{
    future::poll_fn,
    hash::{BuildHasher, RandomState},
    pin::pin,
    sync::{Arc, PoisonError},
    task::Poll,
    time::Duration,
};

use rsock_proto::metadata::Notice;
use tokio::time::{Instant, sleep};

use crate::{
    connection::Mailbox,
    server::{AbortOnDrop, ServerBuilder, Service},
};

/// The time between connections that are told after one another that the server stops.
const SPREAD_STEP: Duration = Duration::from_millis(10);

/// Connections that are told something before others may run.
pub(super) const PORTION: usize = 256;

/// How long whoever heeds a notice is still served, of the time over which connections end half at most:
/// enough to connect elsewhere.
const MOVING: Duration = Duration::from_secs(1);

/// The ways in which connections end.
#[derive(Clone)]
pub(super) struct DrainSettings {
    limit: Duration,
    spread: Duration,
    max_age: Option<Duration>,
}

impl Default for DrainSettings {
    fn default() -> Self {
        Self { limit: Duration::from_secs(10), spread: Duration::ZERO, max_age: None }
    }
}

impl DrainSettings {
    /// When a connection is told that the server ends, at a time of its own, and when all are broken off.
    #[cfg(feature = "websocket")]
    pub(super) fn times(&self) -> (Duration, Duration) {
        let part = RandomState::new().hash_one(()) as f64 / u64::MAX as f64;
        (self.spread.min(self.limit).mul_f64(part), self.limit)
    }
}

/// How connections end.
impl ServerBuilder {
    /// How long open streams may take to end after a shutdown was asked for. Default 10 s.
    pub fn drain_limit(mut self, limit: Duration) -> Self {
        self.drain.limit = limit;
        self
    }

    /// The time over which connections are told after a shutdown that they end, so that their clients do not
    /// all connect elsewhere at once; part of the drain limit. One that was not told yet serves as before.
    /// By default all are told at once.
    ///
    /// Clients that [heed](crate::ClientBuilder::heed) it are sent a
    /// [`Notice::Drain`](crate::metadata::Notice::Drain) at the beginning, and end a second later than they
    /// would otherwise, or half of the spread if that is less: so they can go elsewhere without losing a
    /// request.
    pub fn drain_spread(mut self, spread: Duration) -> Self {
        self.drain.spread = spread;
        self
    }

    /// Ends each connection when it is as old, give or take a tenth: as at a shutdown, gently, and at once
    /// when the [drain limit](Self::drain_limit) is over. So connections that a balancer has shared out are
    /// shared out anew, to servers that have come since. Default none.
    pub fn max_connection_age(mut self, age: impl Into<Option<Duration>>) -> Self {
        self.drain.max_age = age.into();
        self
    }
}

/// When connections end after one another, by their places.
struct Turns {
    /// The places there are.
    places: usize,
    spread: Duration,
}

impl Turns {
    /// When connections that heed notices begin to end.
    fn begin(&self, heeds: bool) -> Duration {
        if heeds { MOVING.min(self.spread / 2) } else { Duration::ZERO }
    }

    /// When the connection in this place ends. Where there are few, they end one a step, so that it takes
    /// less.
    fn of(&self, place: usize, heeds: bool) -> Duration {
        let begin = self.begin(heeds);
        let part = place as f64 / self.places.max(1) as f64;
        let stepwise = SPREAD_STEP.saturating_mul(u32::try_from(place).unwrap_or(u32::MAX));
        begin + (self.spread - begin).mul_f64(part.min(1.0)).min(stepwise)
    }

    /// The places whose connections have ended then: all before this one.
    fn due(&self, elapsed: Duration, heeds: bool) -> usize {
        // The turns grow with the places.
        let (mut from, mut to) = (0, self.places);
        while from < to {
            let middle = from.midpoint(to);
            if self.of(middle, heeds) <= elapsed { from = middle + 1 } else { to = middle }
        }
        from
    }
}

impl Service {
    /// The number of places, of which the last is taken. They are at most as many as there have been
    /// connections at once.
    pub(super) fn places(&self) -> usize {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.iter().next_back().map_or(0, |(place, _)| place + 1)
    }

    /// Tells connections something, in portions between which others may run. The lock is held to look at one:
    /// who comes or goes meanwhile does not wait until all are told.
    async fn tell(&self, places: std::ops::Range<usize>, tell: impl Fn(usize, &Mailbox)) {
        for from in places.clone().step_by(PORTION) {
            let portion = from..(from + PORTION).min(places.end);
            let told = portion.clone().filter_map(|place| {
                let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
                live.get(place).map(|one| (place, Arc::clone(&one.mailbox)))
            });
            told.for_each(|(place, mailbox)| tell(place, &mailbox));
            tokio::task::yield_now().await;
        }
    }

    /// Ends all connections at once, as far as that can be done without waiting.
    pub(super) fn end_now(&self) {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let connected: Vec<_> = live.iter().map(|(_, one)| Arc::clone(&one.mailbox)).collect();
        // Ending wakes them, and who ends looks for this lock.
        drop(live);
        connected.iter().for_each(|mailbox| mailbox.end(true));
    }

    /// Tells those who heed it when they end, and of those who may come to heed it when they end at the
    /// latest.
    async fn notify(&self, turns: &Turns) {
        let limit = self.builder.drain.limit;
        let meter = &self.builder.settings.meter;
        self.tell(0..turns.places, |place, mailbox| {
            let requests = turns.of(place, true).min(limit);
            if mailbox.notify_drain(&Notice::Drain { requests, streams: limit }) {
                meter.drain_notice();
            }
        })
        .await;
    }

    /// Ends all connections gently, one after the other over the drain's spread. Those that come meanwhile are
    /// told at once.
    async fn end_spread(&self) {
        let begun = Instant::now();
        let turns = Turns { places: self.places(), spread: self.builder.drain.spread };
        self.notify(&turns).await;
        let mut ended = [0, 0];
        loop {
            let elapsed = begun.elapsed();
            for (ended, heeds) in ended.iter_mut().zip([false, true]) {
                let due = turns.due(elapsed, heeds);
                self.tell(*ended..due, |_, mailbox| {
                    if mailbox.heeds_drain() == heeds {
                        mailbox.end(false);
                    }
                })
                .await;
                *ended = due;
            }
            if ended == [turns.places; 2] {
                break;
            }
            sleep(SPREAD_STEP).await;
        }
        // Whoever has said meanwhile that it heeds notices may have missed its turn.
        self.tell(0..self.places(), |_, mailbox| {
            if mailbox.refusing().is_none() {
                mailbox.end(false);
            }
        })
        .await;
    }

    /// Ends all connections: gently until the drain limit, then at once.
    pub(super) async fn drain(&self) {
        self.draining.send_replace(true);
        self.doors.stop();
        let gently = async {
            let (mut ending, mut ended) = (pin!(self.end_spread()), pin!(self.all_ended()));
            // Nobody's turn is waited for when all have gone.
            poll_fn(|cx| match ended.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => ending.as_mut().poll(cx),
            })
            .await;
            self.all_ended().await;
        };
        if tokio::time::timeout(self.builder.drain.limit, gently).await.is_err() {
            self.tell(0..self.places(), |_, mailbox| mailbox.end(true)).await;
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

    /// Has a connection end when it is as old as it may be, unless it ends before.
    pub(super) fn age(&self, mailbox: &Arc<Mailbox>) -> Option<AbortOnDrop> {
        let DrainSettings { limit, max_age, .. } = self.builder.drain;
        let age = tenth_more_or_less(max_age?);
        let (mailbox, meter) = (Arc::clone(mailbox), Arc::clone(&self.builder.settings.meter));
        Some(AbortOnDrop(tokio::spawn(async move {
            sleep(age).await;
            meter.aged_connection();
            let moving = MOVING.min(limit);
            if mailbox.notify(&Notice::Drain { requests: moving, streams: limit }) {
                meter.drain_notice();
                sleep(moving).await;
            }
            mailbox.retire();
            sleep(limit).await;
            mailbox.end(true);
        })))
    }
}

/// A time of nine to eleven tenths: those who came together do not go together.
fn tenth_more_or_less(time: Duration) -> Duration {
    // The keys of a new state are random.
    let part = (RandomState::new().hash_one(()) >> 32) as f64 / f64::from(u32::MAX);
    time.mul_f64(0.9 + 0.2 * part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_spread_evenly_and_take_less_where_there_are_few() {
        let spread = Duration::from_secs(5);
        let many = Turns { places: 10_000, spread };
        let seconds = |place, heeds| many.of(place, heeds).as_secs_f64();
        assert_eq!((seconds(0, false), seconds(5_000, false)), (0.0, 2.5));
        assert_eq!((seconds(0, true), seconds(5_000, true)), (1.0, 3.0));
        let few = Turns { places: 3, spread };
        assert_eq!(few.of(2, false), SPREAD_STEP * 2);
        assert_eq!(few.of(2, true), MOVING + SPREAD_STEP * 2);
        let short = Turns { places: 3, spread: Duration::from_millis(10) };
        assert_eq!(short.begin(true), Duration::from_millis(5));
        let none = Turns { places: 3, spread: Duration::ZERO };
        assert_eq!((none.of(2, false), none.of(2, true)), (Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn whose_turn_has_come_is_due() {
        for places in [0, 1, 2, 700, 10_000] {
            for spread in [0, 10, 5_000].map(Duration::from_millis) {
                let turns = Turns { places, spread };
                for heeds in [false, true] {
                    for elapsed in [0, 9, 10, 1_000, 1_234, 4_999, 5_000].map(Duration::from_millis)
                    {
                        let due = turns.due(elapsed, heeds);
                        let expected =
                            (0..places).take_while(|place| turns.of(*place, heeds) <= elapsed);
                        assert_eq!(due, expected.count(), "{places} {spread:?} {elapsed:?}");
                    }
                    assert_eq!(turns.due(spread, heeds), places);
                }
            }
        }
    }

    #[test]
    fn ages_differ_by_a_tenth() {
        let ages: Vec<_> =
            (0..200).map(|_| tenth_more_or_less(Duration::from_secs(100)).as_secs_f64()).collect();
        assert!(ages.iter().all(|age| (90.0..=110.0).contains(age)), "{ages:?}");
        assert!(ages.iter().any(|age| *age < 95.0) && ages.iter().any(|age| *age > 105.0));
    }
}
