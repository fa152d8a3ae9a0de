//! Permits of one side to send requests (LEASE-03 to LEASE-10).

use std::time::{Duration, Instant};

use crate::{
    broken::{Check, hold, some},
    wire::Frame,
};

/// The permission of the newest LEASE that has come.
#[derive(Debug)]
pub(crate) struct Permits {
    negotiated: bool,
    newest: Option<(u32, Instant)>,
    /// Requests that have a permit and are not written, or never will be.
    unwritten: u64,
}

impl Permits {
    pub(crate) fn new(negotiated: bool) -> Self {
        Self { negotiated, newest: None, unwritten: 0 }
    }

    pub(crate) fn negotiated(&self) -> bool {
        self.negotiated
    }

    /// A LEASE has come: it replaces the one before (LEASE-06), and its time starts (LEASE-07).
    pub(crate) fn granted(&mut self, lease: &Frame, now: Instant) {
        let until = now + Duration::from_millis(lease.number().into());
        self.newest = Some((lease.requests(), until));
    }

    /// A resume begins anew (LEASE-20).
    pub(crate) fn void(&mut self) {
        self.newest = None;
    }

    /// The application's request is taken: it needs a permit now, whenever it is written.
    pub(crate) fn spend(&mut self, now: Instant) -> Check {
        if !self.negotiated {
            return Ok(());
        }
        let newest = self.newest.as_mut();
        let (left, until) = some!(newest, Lease, "LEASE-03: no LEASE has come");
        hold!(now < *until, Lease, "LEASE-07: its time is over");
        hold!(*left > 0, Lease, "LEASE-09: its requests are used up");
        *left -= 1;
        self.unwritten += 1;
        Ok(())
    }

    /// A request is written.
    pub(crate) fn write(&mut self) -> Check {
        if !self.negotiated {
            return Ok(());
        }
        hold!(self.unwritten > 0, Lease, "LEASE-09: nobody had a permit for it");
        self.unwritten -= 1;
        Ok(())
    }
}
