//! Sessions whose token expires: when they end, and when their clients are told that before.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use rsock::metadata::Notice;

use super::session::Session;

/// How long before its end it is told that a token expires, in seconds.
const NOTICE: u64 = 60;

/// The times at which something falls due for sessions, by their numbers.
#[derive(Default)]
struct Due {
    by_time: BTreeSet<(u64, u64)>,
    by_session: HashMap<u64, u64>,
}

impl Due {
    /// Says when it does for one, if ever.
    fn set(&mut self, session: u64, at: Option<u64>) {
        if let Some(before) = self.by_session.remove(&session) {
            self.by_time.remove(&(before, session));
        }
        if let Some(at) = at {
            self.by_session.insert(session, at);
            self.by_time.insert((at, session));
        }
    }

    /// Takes those for whom it has.
    fn take(&mut self, now: u64) -> Vec<u64> {
        let mut due = Vec::new();
        while let Some(&(at, session)) = self.by_time.first()
            && at <= now
        {
            self.set(session, None);
            due.push(session);
        }
        due
    }
}

/// All sessions that expire, in seconds since 1970.
#[derive(Default)]
pub(super) struct Expiry {
    ends: Due,
    notices: Due,
}

impl Expiry {
    /// The token of a session expires then, and counts no more at its end, which is later: clocks differ.
    pub(super) fn set(&mut self, session: u64, expires: Option<u64>, ends: Option<u64>) {
        self.ends.set(session, ends);
        self.notices.set(session, expires.map(|expires| expires.saturating_sub(NOTICE)));
    }

    /// It is over.
    pub(super) fn forget(&mut self, session: u64) {
        self.set(session, None, None);
    }

    /// Takes the sessions whose token counts no more.
    pub(super) fn take_ended(&mut self, now: u64) -> Vec<u64> {
        self.ends.take(now)
    }

    /// Takes the sessions whose clients are to be told.
    pub(super) fn take_noticed(&mut self, now: u64) -> Vec<u64> {
        self.notices.take(now)
    }
}

/// Tells the client of a session, if it has one that heeds it, that its token expires; whether it has.
pub(super) fn notify(session: &Session, now: u64) -> bool {
    let Some(connection) = &session.connection else { return false };
    let Some(expires) = session.expires() else { return false };
    let after = Duration::from_secs(expires.saturating_sub(now));
    connection.requester.notify(&Notice::Expires { after })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_noticed_a_minute_before_it_expires_and_ended_once() {
        let mut expiry = Expiry::default();
        expiry.set(1, Some(1_000), Some(1_030));
        expiry.set(2, Some(990), Some(1_020));
        expiry.set(3, None, None);
        assert_eq!(expiry.take_noticed(929), [0; 0]);
        assert_eq!((expiry.take_noticed(940), expiry.take_noticed(941)), (vec![2, 1], vec![]));
        // Its token is a fresh one.
        expiry.set(2, Some(2_000), Some(2_030));
        assert_eq!((expiry.take_ended(1_029), expiry.take_ended(1_030)), (vec![], vec![1]));
        assert_eq!(expiry.take_noticed(1_939), [0; 0]);
        assert_eq!(expiry.take_noticed(1_940), [2]);
        expiry.forget(2);
        assert_eq!(expiry.take_ended(9_999), [0; 0]);
    }
}
