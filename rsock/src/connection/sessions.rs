//! The sessions of a server that can be resumed: which connection has which token.
//!
//! One lock, held for a look into a map. Bounds: at most `max` sessions; where one more is wanted,
//! the one that has been without a transport for the longest time ends (H120).

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, PoisonError},
};

use bytes::Bytes;

use crate::{
    connection::mailbox::{Command, Mailbox},
    sync::{Mutex, MutexGuard},
};

pub(crate) struct Sessions {
    table: Mutex<Table>,
    max: usize,
}

#[derive(Default)]
struct Table {
    /// The map's hash is keyed with random numbers, so that its look-ups tell nothing about tokens
    /// (RESUME-42).
    sessions: HashMap<Bytes, Session>,
    /// Those without a transport, the oldest first.
    suspended: BTreeMap<u64, Bytes>,
    suspensions: u64,
}

struct Session {
    mailbox: Arc<Mailbox>,
    /// The acceptor has taken it; before that there is nothing to resume.
    is_open: bool,
    suspended: Option<u64>,
}

impl Sessions {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { table: Mutex::default(), max })
    }

    /// Nothing of a user's runs under the lock, so a poisoned one still holds whole values.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a token for a connection, until the claim is dropped.
    ///
    /// # Errors
    /// Why it is not to be had: it is in use (RESUME-30), or there are too many sessions.
    pub(crate) fn claim(
        self: &Arc<Self>,
        token: &Bytes,
        mailbox: &Arc<Mailbox>,
    ) -> Result<Claim, &'static str> {
        let mut table = self.lock();
        if table.sessions.contains_key(token) {
            return Err("the resume token is in use");
        }
        let mut ended = None;
        if table.sessions.len() >= self.max {
            let Some((_, oldest)) = table.suspended.pop_first() else {
                return Err("too many resumable sessions");
            };
            ended = table.sessions.remove(&oldest);
        }
        // The slice of the token in SETUP would keep the buffer it was read into.
        let token = Bytes::copy_from_slice(token);
        let mailbox = Arc::clone(mailbox);
        let session = Session { mailbox: Arc::clone(&mailbox), is_open: false, suspended: None };
        table.sessions.insert(token.clone(), session);
        drop(table);
        if let Some(ended) = ended {
            // One that has ended meanwhile needs no telling.
            let _ = ended.mailbox.send(Command::Close);
        }
        Ok(Claim { sessions: Arc::clone(self), token, mailbox })
    }

    /// The connection whose session this token resumes.
    pub(crate) fn find(&self, token: &[u8]) -> Option<Arc<Mailbox>> {
        let table = self.lock();
        let session = table.sessions.get(token).filter(|session| session.is_open)?;
        Some(Arc::clone(&session.mailbox))
    }
}

/// A connection's right to its token.
pub(crate) struct Claim {
    sessions: Arc<Sessions>,
    token: Bytes,
    mailbox: Arc<Mailbox>,
}

impl Claim {
    /// The session is accepted, and can be resumed from now on.
    pub(crate) fn open(&self) {
        self.change(|session, _| session.is_open = true);
    }

    /// The session has lost its transport.
    pub(crate) fn suspended(&self) {
        self.change(|session, table| {
            table.suspensions += 1;
            let since = session.suspended.insert(table.suspensions);
            table.suspended.insert(*since, self.token.clone());
        });
    }

    /// The session has a transport again.
    pub(crate) fn resumed(&self) {
        self.change(|session, table| {
            if let Some(since) = session.suspended.take() {
                table.suspended.remove(&since);
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Session, &mut Table)) {
        let mut table = self.sessions.lock();
        // Taken out for the time, so that both can be changed.
        let Some(mut session) = table.sessions.remove(&self.token) else { return };
        if Arc::ptr_eq(&session.mailbox, &self.mailbox) {
            change(&mut session, &mut table);
        }
        table.sessions.insert(self.token.clone(), session);
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The token is a secret.
        f.debug_struct("Claim").finish_non_exhaustive()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.resumed();
        let mut table = self.sessions.lock();
        let is_ours = |session: &Session| Arc::ptr_eq(&session.mailbox, &self.mailbox);
        if table.sessions.get(&self.token).is_some_and(is_ours) {
            table.sessions.remove(&self.token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::ConnectionState;

    fn mailbox() -> Arc<Mailbox> {
        Mailbox::new(1, ConnectionState::Connecting)
    }

    fn is_told_to_close(mailbox: &Mailbox) -> bool {
        let (mut commands, mut ready) = (Vec::new(), Vec::new());
        mailbox.take(&mut commands, &mut ready);
        commands.iter().any(|command| matches!(command, Command::Close))
    }

    #[test]
    fn resume_03_30_tokens_are_bytes_and_held_by_one() {
        let sessions = Sessions::new(10);
        let [a, b] = [mailbox(), mailbox()];
        let first = Bytes::from_static(b"\xff\xff");
        let claim = sessions.claim(&first, &a).expect("a free token");
        assert!(sessions.claim(&first, &b).is_err());
        assert!(sessions.find(&first).is_none(), "it is not accepted yet");
        claim.open();
        assert!(sessions.find(&first).is_some());
        assert!(sessions.find(b"\xfe\xfe").is_none());
        drop(claim);
        assert!(sessions.find(&first).is_none());
        assert!(sessions.claim(&first, &b).is_ok());
    }

    #[test]
    fn h120_the_longest_abandoned_makes_room() {
        let sessions = Sessions::new(3);
        let mailboxes = [(); 3].map(|()| mailbox());
        let claims: Vec<_> = mailboxes
            .iter()
            .zip([b"a", b"b", b"c"])
            .map(|(mailbox, token)| {
                sessions.claim(&Bytes::from_static(token), mailbox).expect("room")
            })
            .collect();
        let next = mailbox();
        assert!(sessions.claim(&Bytes::from_static(b"d"), &next).is_err());
        claims[2].suspended();
        claims[0].suspended();
        claims[2].resumed();
        claims[1].suspended();
        let claim = sessions.claim(&Bytes::from_static(b"d"), &next);
        assert!(claim.is_ok());
        assert_eq!(
            mailboxes.each_ref().map(|mailbox| is_told_to_close(mailbox)),
            [true, false, false]
        );
        // What has been ended lets go of nothing that is another's.
        let again = sessions.claim(&Bytes::from_static(b"a"), &next).expect("room");
        again.open();
        drop(claims);
        assert!(sessions.find(b"a").is_some());
    }
}
