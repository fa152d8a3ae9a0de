//! The leases that we give, by the policy.

use std::time::{Duration, Instant};

use super::{Driver, guard};
use crate::lease::{Grant, LeasePolicy, Load};

/// How soon a policy is asked again at the least.
const SHORTEST: Duration = Duration::from_millis(10);

/// The leases that we give: the policy, and when it is asked again.
pub(crate) struct Leases {
    policy: Box<dyn LeasePolicy>,
    /// A part of the last lease's time is over; `None` before the first.
    renew_at: Option<Instant>,
    /// How many requests the last lease allowed.
    granted: u32,
    /// How many ran when it was given.
    running: usize,
}

impl Leases {
    pub(crate) fn new(policy: Box<dyn LeasePolicy>) -> Self {
        Self { policy, renew_at: None, granted: 0, running: 0 }
    }

    /// None is given any more, as after a resume (LEASE-20).
    pub(super) fn begin_anew(&mut self) {
        (self.renew_at, self.granted, self.running) = (None, 0, 0);
    }
}

impl Driver {
    /// Those of the transport that is lost allow nothing any more, either way.
    pub(super) fn forget_leases(&mut self) {
        self.mailbox.leased(None);
        if let Some(lease) = &mut self.serving.lease {
            lease.begin_anew();
        }
    }

    /// When the policy is to be asked whatever happens.
    pub(super) fn lease_deadline(&self) -> Option<Instant> {
        self.serving.lease.as_ref().and_then(|lease| lease.renew_at)
    }

    /// Asks the policy, if it is time to.
    #[cold]
    pub(super) fn renew_lease(&mut self, now: Instant) {
        let Some(lease) = &self.serving.lease else { return };
        let Some(renew_at) = lease.renew_at else { return };
        let Some(left) = self.connection.granted_permits() else { return };
        let spent = if lease.granted == 0 {
            self.connection.inbound_streams() < lease.running
        } else {
            left <= lease.granted / 2
        };
        if spent || renew_at <= now {
            self.grant_lease(now);
        }
    }

    /// Gives the peer the lease that the policy has for it.
    pub(super) fn grant_lease(&mut self, now: Instant) {
        let Some(left) = self.connection.granted_permits() else { return };
        let Some(lease) = &mut self.serving.lease else { return };
        let running = self.connection.inbound_streams();
        self.meter.lease(running);
        let (all_running, connections) = self.options.meter.leased();
        let load = Load { running, left, all_running, connections };
        // A policy that panics gives nothing; it is asked again.
        let grant = guard(|| lease.policy.next(&load))
            .unwrap_or_else(|_| Grant::new(0, Duration::from_secs(1)));
        if grant.requests == 0 && lease.granted == 0 && lease.renew_at.is_some() {
            // The peer already holds an empty lease; another would tell it nothing.
            lease.running = running;
            lease.renew_at = Some(now + SHORTEST * 10);
            return;
        }
        lease.renew_at = Some(now + (grant.ttl / 4 * 3).max(SHORTEST));
        lease.granted = grant.requests;
        lease.running = running;
        // Without a transport, or at the end, there is nobody to give it to.
        let _ = self.connection.grant_lease(grant.requests, grant.ttl, grant.metadata, now);
    }
}
