//! How many requests the other side may start: leases, and the policy that gives them.

use std::time::Duration;

use bytes::Bytes;

/// The load at which a lease is to be given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Load {
    /// Requests of this peer that are being served.
    pub running: usize,
    /// Requests that its last lease still allows.
    pub left: u32,
    /// Requests that are being served for all peers which leases bind, on all connections of the
    /// server or client, those of suspended sessions included.
    pub all_running: u64,
    /// Connections of the server or client whose peers leases bind, this one included. Those that
    /// have not asked for leases, were not accepted yet or have lost their transport do not count.
    pub connections: u64,
}

/// A lease to be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Requests allowed from now on; it replaces what was allowed before (LEASE-06). 0 stops the
    /// peer (LEASE-08).
    pub requests: u32,
    /// For how long; the next lease is given before that, after three quarters of it.
    pub ttl: Duration,
    /// More that the peer should know.
    pub metadata: Option<Bytes>,
}

impl Grant {
    /// So many requests for so long.
    pub fn new(requests: u32, ttl: Duration) -> Self {
        Self { requests, ttl, metadata: None }
    }
}

/// Decides how many requests a peer may start, and for how long.
///
/// It is asked when the connection is set up or resumed, when three quarters of a lease's time or
/// half of its requests are gone, and, after a lease of 0, when one of the peer's requests has ended.
/// Each connection has its own copy.
pub trait LeasePolicy: Send + 'static {
    /// The next lease.
    fn next(&mut self, load: &Load) -> Grant;
}

impl<F: FnMut(&Load) -> Grant + Send + 'static> LeasePolicy for F {
    fn next(&mut self, load: &Load) -> Grant {
        self(load)
    }
}

/// The default policy: grants what there is room for, shared evenly among connections.
///
/// So many requests may run at a time in all; the room left is divided by the connections that
/// leases bind. Whoever has not asked for leases takes no part in it.
/// A peer for which nothing runs may always start one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedLease {
    max_running: u32,
    ttl: Duration,
}

impl SharedLease {
    /// At most about `max_running` requests at a time over all connections, granted for 10 s.
    pub fn new(max_running: u32) -> Self {
        Self { max_running: max_running.max(1), ttl: Duration::from_secs(10) }
    }

    /// For how long a lease is given.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl.max(Duration::from_millis(1));
        self
    }
}

impl Default for SharedLease {
    /// 4,096 requests.
    fn default() -> Self {
        Self::new(4_096)
    }
}

impl LeasePolicy for SharedLease {
    fn next(&mut self, load: &Load) -> Grant {
        let room = u64::from(self.max_running).saturating_sub(load.all_running);
        // At most `max_running`, hence a u32.
        let share = (room / load.connections.max(1)) as u32;
        let least = u32::from(load.running == 0);
        Grant::new(share.max(least), self.ttl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_shared_and_nobody_starves() {
        let mut policy = SharedLease::new(100);
        for (running, all_running, connections, expected) in
            [(0, 0, 1, 100), (0, 0, 4, 25), (10, 60, 4, 10), (5, 100, 4, 0), (0, 100, 4, 1)]
        {
            let load = Load { running, all_running, connections, ..Load::default() };
            assert_eq!(policy.next(&load).requests, expected, "{load:?}");
        }
    }
}
