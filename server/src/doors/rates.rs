//! How often a user may ask, and how many connections one may have.

use std::{
    collections::HashMap,
    net::SocketAddr,
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
    /// Those who have connections, and those who had of late and have asked much.
    users: Mutex<Users>,
}

#[derive(Debug, Default)]
struct Users {
    all: HashMap<Arc<str>, User>,
    /// As many as there are when those are next looked for who may be forgotten.
    looked_at: usize,
}

/// Users of whom none is looked for to be forgotten.
const FEW: usize = 1_024;

impl Users {
    /// Forgets those who have no connection, and may ask for as much as anybody who comes.
    fn forget(&mut self) {
        if self.all.len() < self.looked_at.max(FEW) {
            return;
        }
        self.all.retain(|_, user| !user.is_forgotten());
        self.looked_at = 2 * self.all.len();
    }
}

#[derive(Debug)]
struct User {
    connections: usize,
    limit: Option<Arc<RateLimit>>,
}

impl User {
    fn is_forgotten(&self) -> bool {
        self.connections == 0 && self.limit.as_ref().is_none_or(|limit| limit.is_rested())
    }
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

    /// Bounds what is asked by HTTP: of a user it counts as a connection for as long as it lasts, and those who are
    /// nobody share what an address may ask for.
    ///
    /// # Errors
    /// As for [`enter`](Self::enter).
    pub(crate) fn enter_over_http(
        self: &Arc<Self>,
        peer: &Peer,
        user: Option<&str>,
    ) -> Result<Option<OfUser>, Error> {
        match user {
            Some(_) => self.enter(peer, user),
            None if self.requests_per_second.is_none() => Ok(None),
            None => {
                let address = peer.address();
                let host = address.parse::<SocketAddr>().map(|it| it.ip().to_string());
                // No user is named so.
                let name = format!("~{}", host.as_deref().unwrap_or(address));
                self.enter_as(peer, &name, None).map(Some)
            }
        }
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
        let Some(name) = user.filter(|_| self.is_bounding()) else {
            if let Some(limit) = self.new_limit() {
                // Nobody has set one before.
                let _ = peer.limit_requests(limit);
            }
            return Ok(None);
        };
        self.enter_as(peer, name, self.max_connections_per_user).map(Some)
    }

    fn enter_as(
        self: &Arc<Self>,
        peer: &Peer,
        name: &str,
        max: Option<usize>,
    ) -> Result<OfUser, Error> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.forget();
        let users = &mut users.all;
        let name: Arc<str> = match users.get_key_value(name) {
            Some((known, _)) => Arc::clone(known),
            None => name.into(),
        };
        let user = users
            .entry(Arc::clone(&name))
            .or_insert_with(|| User { connections: 0, limit: self.new_limit() });
        if let Some(max) = max
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
        Ok(OfUser { name, rates: Arc::downgrade(self) })
    }

    fn new_limit(&self) -> Option<Arc<RateLimit>> {
        let per_second = self.requests_per_second?;
        Some(Arc::new(RateLimit::per_second(per_second).meter(Arc::clone(&self.meter))))
    }

    fn is_bounding(&self) -> bool {
        self.requests_per_second.is_some() || self.max_connections_per_user.is_some()
    }
}

impl Drop for OfUser {
    fn drop(&mut self) {
        let Some(rates) = self.rates.upgrade() else { return };
        let mut users = rates.users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(user) = users.all.get_mut(&self.name) {
            user.connections = user.connections.saturating_sub(1);
            // Whoever connects anew does not begin anew.
            if user.is_forgotten() {
                users.all.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Whoever ends a connection and comes again has asked as much as before.
    #[tokio::test(start_paused = true)]
    async fn a_user_who_connects_anew_does_not_begin_anew() {
        let rates = Rates::new(NonZeroU32::new(2), Some(1), Arc::default());
        let enter = || rates.enter(&Peer::local(), Some("ann"));
        let limit = || rates.users.lock().expect("whole").all["ann"].limit.clone().expect("set");
        let first = enter().expect("the first");
        enter().expect_err("there is one");
        assert!(limit().try_take().is_ok() && limit().try_take().is_ok());
        drop(first);
        let second = enter().expect("the first has ended");
        limit().try_take().expect_err("so much was asked for");
        tokio::time::advance(Duration::from_secs(1)).await;
        drop(second);
        assert!(rates.users.lock().expect("whole").all.is_empty(), "nothing is left to remember");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_remembered_is_forgotten_when_there_are_many() {
        let rates = Rates::new(NonZeroU32::new(1), None, Arc::default());
        for n in 0..10_000 {
            let name = format!("user {n}");
            let of_user = rates.enter(&Peer::local(), Some(&name)).expect("no bound");
            let limit = rates.users.lock().expect("whole").all[&*name].limit.clone();
            limit.expect("set").try_take().expect("the first");
            drop(of_user);
            tokio::time::advance(Duration::from_millis(2)).await;
        }
        let kept = rates.users.lock().expect("whole").all.len();
        assert!(kept <= 2_048, "{kept}");
    }
}
