//! KEEPALIVE: sent by the client at its interval, and the peer's life watched.

use std::time::{Duration, Instant};

use super::Connection;
use crate::frame::Setup;

/// The clock of one side. Any frame received counts as life for us; KEEPALIVE goes out for the
/// peer's sake whether or not other traffic flows (KA-02, KA-09).
#[derive(Debug)]
pub(crate) struct KeepaliveClock {
    interval: Duration,
    /// How long silence is tolerated: the lifetime, but never less than the interval (KA-10).
    tolerance: Duration,
    /// When the next KEEPALIVE is due; `None` for a server, which sends none by itself (KA-03).
    next: Option<Instant>,
    last_received: Instant,
    /// A KEEPALIVE is to be written: one, however late we are (KA-17).
    pub(crate) due: bool,
    /// When the one under way became due.
    asked: Option<Instant>,
    round_trip: Option<Duration>,
}

impl KeepaliveClock {
    /// A client's, which sends KEEPALIVEs.
    pub(crate) fn client(setup: &Setup, now: Instant) -> Self {
        let clock = Self::new(setup, now);
        Self { next: Some(now + clock.interval), ..clock }
    }

    /// A server's, which tolerates no more silence than `most`, whatever the client asks for.
    pub(crate) fn server(setup: &Setup, most: Duration, now: Instant) -> Self {
        let clock = Self::new(setup, now);
        Self { tolerance: clock.tolerance.min(most), ..clock }
    }

    fn new(setup: &Setup, now: Instant) -> Self {
        let interval = Duration::from_millis(setup.keepalive_interval_ms.into());
        let lifetime = Duration::from_millis(setup.max_lifetime_ms.into());
        Self {
            interval,
            tolerance: lifetime.max(interval),
            next: None,
            last_received: now,
            due: false,
            asked: None,
            round_trip: None,
        }
    }

    /// Tolerates no more silence than this from here on; never more than before.
    pub(crate) fn shorten(&mut self, most: Duration) {
        self.tolerance = self.tolerance.min(most.max(self.interval));
    }

    /// Begins anew on another transport, with the times that were agreed upon (RESUME-43).
    pub(crate) fn restart(&mut self, now: Instant) {
        self.next = self.next.map(|_| now + self.interval);
        self.last_received = now;
        self.due = false;
        self.asked = None;
    }

    /// The answer to a KEEPALIVE of ours has come.
    pub(crate) fn answered(&mut self, now: Instant) {
        if let Some(asked) = self.asked.take() {
            self.round_trip = Some(now.saturating_duration_since(asked));
        }
    }

    /// How long the last KEEPALIVE took there and back, the wait to be written included.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    pub(crate) fn received(&mut self, now: Instant) {
        self.last_received = now;
    }

    /// When to look again.
    pub(crate) fn deadline(&self) -> Instant {
        let death = self.last_received + self.tolerance;
        self.next.map_or(death, |next| next.min(death))
    }

    /// Looks at the time; false if the peer counts as dead.
    #[must_use]
    pub(crate) fn tick(&mut self, now: Instant) -> bool {
        if self.next.is_some_and(|next| next <= now) {
            self.next = Some(now + self.interval);
            self.due = true;
            self.asked.get_or_insert(now);
        }
        now < self.last_received + self.tolerance
    }
}

impl Connection {
    /// Tolerates no more silence of the peer than this from here on: for as long as somebody relies on it
    /// that whoever is connected is alive. It is never more than before, and never less than the interval
    /// at which the client sends KEEPALIVEs.
    pub fn shorten_lifetime(&mut self, most: Duration) {
        if let Some(clock) = &mut self.keepalive {
            clock.shorten(most);
        }
    }

    /// How long the last KEEPALIVE of the clock took there and back, from the time it was due on.
    /// None on a server, which sends none by itself.
    pub fn round_trip(&self) -> Option<Duration> {
        self.keepalive.as_ref().and_then(KeepaliveClock::round_trip)
    }
}
