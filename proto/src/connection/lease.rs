//! Leases: how many requests one side may start, and until when. Both sides give
//! one, each for the requests it answers.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::{
    connection::{Connection, Event},
    error::ControlError,
    frame::{Lease, MAX_U31},
};

/// Requests that may be started until a time.
#[derive(Clone, Copy, Debug, Default)]
struct Permits {
    left: u32,
    /// `None` where no time is set, as where `left` is 0.
    until: Option<Instant>,
}

impl Permits {
    fn new(left: u32, until: Instant) -> Self {
        Self { left, until: (left > 0).then_some(until) }
    }

    fn expire(&mut self, now: Instant) {
        if self.until.is_some_and(|until| until <= now) {
            *self = Self::default();
        }
    }

    fn take(&mut self) -> bool {
        let allowed = self.left > 0;
        self.left -= u32::from(allowed);
        allowed
    }
}

/// The leases of a connection whose SETUP asked for them.
#[derive(Debug)]
pub(super) struct Leases {
    /// The lease that the peer gave us. Its time runs from its arrival (LEASE-07).
    held: Permits,
    /// The lease that we gave the peer.
    granted: Permits,
    /// The rest of the lease before that one: requests may have crossed its successor (LEASE-21).
    before: Permits,
    /// The rest when the transport was lost: requests that were sent under it come with the
    /// replay. It ends with the first lease after that.
    replayed: Permits,
    grace: Duration,
    /// The newest LEASE, to be written; one that it replaces is not (LEASE-06).
    unsent: Option<Lease>,
}

impl Leases {
    pub(super) fn new(grace: Duration) -> Self {
        Self {
            held: Permits::default(),
            granted: Permits::default(),
            before: Permits::default(),
            replayed: Permits::default(),
            grace,
            unsent: None,
        }
    }

    /// A resume begins without any (LEASE-20).
    pub(super) fn void(&mut self, now: Instant) {
        self.replayed.expire(now);
        let unspent = [self.replayed, self.before, self.granted];
        let left = unspent.iter().fold(0, |sum: u32, permits| sum.saturating_add(permits.left));
        *self = Self { replayed: Permits { left, until: None }, ..Self::new(self.grace) };
    }

    /// Spends a permit of the peer's; false if there is none (LEASE-09).
    pub(super) fn take(&mut self) -> bool {
        self.held.take()
    }

    /// Admits a request of the peer; false if it has no permit (LEASE-11).
    pub(super) fn admit(&mut self, now: Instant) -> bool {
        self.replayed.expire(now);
        self.before.expire(now);
        self.granted.expire(now);
        // What came with a replay is not known from what follows: it spends the lease too, so that
        // its owner sees in time what the peer believes to have spent.
        self.before.take() || self.granted.take() || self.replayed.take()
    }

    /// A LEASE has come; false if its fields are none (LEASE-19).
    pub(super) fn receive(&mut self, lease: &Lease, now: Instant) -> bool {
        if lease.ttl_ms > MAX_U31 || lease.requests > MAX_U31 {
            return false;
        }
        let until = now + Duration::from_millis(lease.ttl_ms.into());
        self.held = Permits::new(if lease.ttl_ms == 0 { 0 } else { lease.requests }, until);
        true
    }

    fn grant(&mut self, lease: Lease, ttl: Duration, now: Instant) {
        self.granted.expire(now);
        let crossing = self.granted.until.map_or(now, |until| until.min(now + self.grace));
        self.before = Permits::new(self.granted.left, crossing);
        self.granted = Permits::new(lease.requests, now + ttl + self.grace);
        self.replayed.until.get_or_insert(now + ttl + self.grace);
        self.unsent = Some(lease);
    }

    pub(super) fn take_unsent(&mut self) -> Option<Lease> {
        self.unsent.take()
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.unsent.is_some()
    }

    /// When what we hold ends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.held.until
    }

    pub(super) fn tick(&mut self, now: Instant) {
        self.held.expire(now);
    }
}

impl Connection {
    /// Allows the peer so many requests from now on, for so long; replaces what it was allowed
    /// before (LEASE-06). 0 requests stop it at once (LEASE-08). Both are cut to 2^31−1, the time
    /// counted in milliseconds.
    ///
    /// # Errors
    /// [`ControlError::NoLeases`] if SETUP did not ask for leases, [`ControlError::NotEstablished`]
    /// before it is accepted, [`ControlError::Suspended`] while the transport is lost,
    /// [`ControlError::Closed`] at the end.
    pub fn grant_lease(
        &mut self,
        requests: u32,
        ttl: Duration,
        metadata: Option<Bytes>,
        now: Instant,
    ) -> Result<(), ControlError> {
        self.check_open()?;
        if !self.has_transport() {
            return Err(ControlError::Suspended);
        }
        super::check_frame_len(Lease::FIXED_LEN + metadata.as_ref().map_or(0, Bytes::len))?;
        let leases = self.leases.as_mut().ok_or(ControlError::NoLeases)?;
        let ttl_ms = u32::try_from(ttl.as_millis()).unwrap_or(MAX_U31).min(MAX_U31);
        let requests = if ttl_ms == 0 { 0 } else { requests.min(MAX_U31) };
        let ttl = Duration::from_millis(ttl_ms.into());
        leases.grant(Lease { ttl_ms, requests, metadata }, ttl, now);
        Ok(())
    }

    /// Requests the peer's lease still allows us; `None` where requests need no lease. A lease that
    /// has run out is noticed by `handle_timeout`.
    pub fn permits(&self) -> Option<u32> {
        self.leases.as_ref().map(|leases| leases.held.left)
    }

    /// Requests our lease still allows the peer; `None` where requests need no lease. One that has
    /// run out is noticed with the peer's next request.
    pub fn granted_permits(&self) -> Option<u32> {
        self.leases.as_ref().map(|leases| leases.granted.left)
    }

    /// A LEASE frame; false if it means nothing here (LEASE-14, LEASE-19).
    pub(super) fn receive_lease(&mut self, lease: Lease, now: Instant) -> bool {
        let taken = self.leases.as_mut().is_some_and(|leases| leases.receive(&lease, now));
        if taken {
            self.events.push_back(Event::Leased(lease));
        }
        taken
    }
}
