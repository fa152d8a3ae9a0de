//! How often a user may ask, and how many connections one may have.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use rsock::{Error, Meter, Peer, RateLimit};

/// The limits on users, and on connections of who is none.
#[derive(Debug)]
pub(crate) struct Rates {
    requests_per_second: Option<NonZeroU32>,
    max_connections_per_user: Option<usize>,
    meter: Arc<Meter>,
    /// As many as there are users who have connections.
    users: Mutex<HashMap<Arc<str>, User>>,
}

#[derive(Debug)]
struct User {
    connections: usize,
    limit: Option<Arc<RateLimit>>,
}

/// One of the connections of a user, until it is dropped.
#[derive(Debug)]
pub(crate) struct OfUser {
    name: Arc<str>,
    rates: Weak<Rates>,
}

impl Rates {
    pub(crate) fn new(
        requests_per_second: Option<NonZeroU32>,
        max_connections_per_user: Option<usize>,
        meter: Arc<Meter>,
    ) -> Arc<Self> {
        let users = Mutex::default();
        Arc::new(Self { requests_per_second, max_connections_per_user, meter, users })
    }

    /// Bounds a connection: those of a user share what the user may ask for, and others have theirs each.
    ///
    /// # Errors
    /// The user has as many connections as one may.
    pub(crate) fn enter(
        self: &Arc<Self>,
        peer: &Peer,
        user: Option<&str>,
    ) -> Result<Option<OfUser>, Error> {
        let new_limit = || {
            self.requests_per_second.map(|per_second| {
                Arc::new(RateLimit::per_second(per_second).meter(Arc::clone(&self.meter)))
            })
        };
        let Some(name) = user.filter(|_| self.is_bounding()) else {
            if let Some(limit) = new_limit() {
                // Nobody has set one before.
                let _ = peer.limit_requests(limit);
            }
            return Ok(None);
        };
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let name: Arc<str> = match users.get_key_value(name) {
            Some((known, _)) => Arc::clone(known),
            None => name.into(),
        };
        let user = users
            .entry(Arc::clone(&name))
            .or_insert_with(|| User { connections: 0, limit: new_limit() });
        if let Some(max) = self.max_connections_per_user
            && user.connections >= max
        {
            return Err(Error::rejected(format_args!(
                "full: all {max} connections that one user may have are in use; end one of them"
            )));
        }
        user.connections += 1;
        if let Some(limit) = &user.limit {
            // As above.
            let _ = peer.limit_requests(Arc::clone(limit));
        }
        Ok(Some(OfUser { name, rates: Arc::downgrade(self) }))
    }

    fn is_bounding(&self) -> bool {
        self.requests_per_second.is_some() || self.max_connections_per_user.is_some()
    }
}

impl Drop for OfUser {
    fn drop(&mut self) {
        let Some(rates) = self.rates.upgrade() else { return };
        let mut users = rates.users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(user) = users.get_mut(&self.name) {
            user.connections = user.connections.saturating_sub(1);
            if user.connections == 0 {
                users.remove(&self.name);
            }
        }
    }
}
