//! Leases: those we give, by the policy, and requests that wait for one of the peer's.

use std::{collections::VecDeque, mem, time::Instant};

use super::{Driver, drop_guarded, fail::PORTION, guard};
use crate::{
    connection::Command,
    lease::{Grant, LeasePolicy, Load},
};

/// The leases that we give: the policy, and when it is asked again.
pub(super) struct Leases {
    policy: Box<dyn LeasePolicy>,
    /// A part of the last lease's time is over; `None` before the first.
    renew_at: Option<Instant>,
    /// How many requests the last lease allowed.
    granted: u32,
    /// How many ran when it was given.
    running: usize,
}

impl Leases {
    pub(super) fn new(policy: Box<dyn LeasePolicy>) -> Self {
        Self { policy, renew_at: None, granted: 0, running: 0 }
    }

    /// None is given any more, as after a resume (LEASE-20).
    pub(super) fn begin_anew(&mut self) {
        (self.renew_at, self.granted, self.running) = (None, 0, 0);
    }
}

impl Driver {
    /// When the policy is to be asked whatever happens.
    pub(super) fn lease_deadline(&self) -> Option<Instant> {
        self.lease.as_ref().and_then(|lease| lease.renew_at)
    }

    /// Asks the policy, if it is time to.
    #[cold]
    pub(super) fn renew_lease(&mut self, now: Instant) {
        let Some(lease) = &self.lease else { return };
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
        let Some(lease) = &mut self.lease else { return };
        let running = self.connection.inbound_streams();
        self.meter.lease(running);
        let (all_running, connections) = self.options.meter.leased();
        let load = Load { running, left, all_running, connections };
        // A policy that panics gives nothing; it is asked again.
        let grant = guard(|| lease.policy.next(&load))
            .unwrap_or_else(|_| Grant::new(0, std::time::Duration::from_secs(1)));
        if grant.requests == 0 && lease.granted == 0 && lease.renew_at.is_some() {
            // It has nothing, and knows.
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

    // ---- requests that wait -------------------------------------------------------------------

    /// Whether a request has to wait for a lease, or behind others that do. Each holds a permit of
    /// the mailbox, which bounds them.
    pub(super) fn waits_for_lease(&self) -> bool {
        !self.leaseless.is_empty() || self.connection.permits() == Some(0)
    }

    /// Whether requests that waited may go now.
    pub(super) fn has_leased(&self) -> bool {
        !self.leaseless.is_empty() && self.connection.permits() != Some(0)
    }

    /// Those who waited for a lease go first, a portion a poll: one frame of the peer lets thousands go.
    #[cold]
    pub(super) fn open_leased(&mut self) {
        let mut left = PORTION;
        while left > 0
            && self.has_leased()
            && let Some(command) = self.leaseless.pop_front()
        {
            self.obey_now(command);
            left -= 1;
        }
        if self.leaseless.is_empty() {
            self.leaseless = VecDeque::new();
        }
    }

    /// Requests that were cancelled while they waited are never sent (RR-10). All of them at once: a
    /// search for each would go through thousands that wait.
    pub(super) fn forget_cancelled(&mut self) {
        let is_cancelled = |command: &Command| matches!(command, Command::Request { inlet: Some(inlet), .. } if inlet.is_cancelled());
        let mut forgotten = VecDeque::new();
        for waiting in [&mut self.held, &mut self.leaseless] {
            if waiting.iter().any(is_cancelled) {
                let (cancelled, wanted): (VecDeque<_>, _) =
                    mem::take(waiting).into_iter().partition(is_cancelled);
                forgotten.extend(cancelled);
                *waiting = wanted;
            }
        }
        for command in forgotten {
            if let Command::Request { outgoing, permit, .. } = command {
                self.give_back(permit);
                drop_guarded(outgoing);
            }
        }
    }
}

/// How soon a policy is asked again at the least.
const SHORTEST: std::time::Duration = std::time::Duration::from_millis(10);
