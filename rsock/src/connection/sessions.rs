//! The sessions of a server that can be resumed: which connection has which token.
//!
//! One lock, held for a look into a map. A session is claimed when its acceptor has taken it, and not
//! before: what strangers ask for costs nobody anything. Bounds: at most `max` sessions, and
//! `max_per_address` of one address. Where one more is wanted, a session without a transport ends: the
//! longest abandoned of whoever holds most (H120).

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{Arc, PoisonError},
};

use bytes::Bytes;

use crate::{
    connection::{
        mailbox::Mailbox,
        shares::{Holder, Shares, Spare},
    },
    sync::{Mutex, MutexGuard},
    transport::socket::TransportIdentity,
};

pub(crate) struct Sessions {
    table: Mutex<Table>,
    max: usize,
    max_per_address: usize,
    /// Keyed with random numbers, so that how long a look-up takes tells nothing about tokens
    /// (RESUME-42).
    digest: RandomState,
}

/// A token's keyed digest. Tokens are compared only where it is the same, which nobody can bring
/// about who does not know the key.
type Digest = u64;

#[derive(Default)]
struct Table {
    sessions: HashMap<Digest, Session>,
    /// Those without a transport are spare.
    shares: Shares<Digest>,
}

struct Session {
    token: Bytes,
    mailbox: Arc<Mailbox>,
    holder: Holder,
    /// The identity of its client, proven by the transport that it began on.
    identity: TransportIdentity,
    suspended: Option<Spare>,
}

/// Why a session is not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoSession {
    /// Another has the token (RESUME-30).
    TokenInUse,
    /// The address holds as many as it may, each with a transport.
    ShareUsed { max: usize },
    /// There are as many as there may be, and none that may end for this one.
    Full { max: usize },
}

impl fmt::Display for NoSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TokenInUse => f.write_str("the resume token is in use"),
            Self::ShareUsed { max } => write!(
                f,
                "too many resumable sessions from this address: it may hold {max}; end some, or \
                 connect without resume"
            ),
            Self::Full { max } => write!(
                f,
                "too many resumable sessions: there may be {max}; try again later, or connect \
                 without resume"
            ),
        }
    }
}

impl Sessions {
    pub(crate) fn new(max: usize, max_per_address: usize) -> Arc<Self> {
        let digest = RandomState::new();
        Arc::new(Self { table: Mutex::default(), max, max_per_address, digest })
    }

    /// Nothing of a user's runs under the lock, so a poisoned one still holds whole values.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn digest(&self, token: &[u8]) -> Digest {
        self.digest.hash_one(token)
    }

    /// Whether a session has this token now. One that asks for it may still be accepted sooner.
    pub(crate) fn is_in_use(&self, token: &[u8]) -> bool {
        self.lock().sessions.contains_key(&self.digest(token))
    }

    /// Takes a token for a connection that was accepted, until the claim is dropped, and whether a
    /// session had to end for it.
    ///
    /// # Errors
    /// Why it is not to be had.
    pub(crate) fn claim(
        self: &Arc<Self>,
        token: &Bytes,
        mailbox: &Arc<Mailbox>,
        holder: Holder,
        identity: TransportIdentity,
    ) -> Result<(Claim, bool), NoSession> {
        let digest = self.digest(token);
        let mut table = self.lock();
        if table.sessions.contains_key(&digest) {
            return Err(NoSession::TokenInUse);
        }
        let mut ended = None;
        let is_share_used =
            holder != Holder::Unknown && table.shares.held(holder) >= self.max_per_address;
        if is_share_used || table.sessions.len() >= self.max {
            let (spare, error) = if is_share_used {
                let error = NoSession::ShareUsed { max: self.max_per_address };
                (table.shares.oldest_of(holder), error)
            } else {
                let error = NoSession::Full { max: self.max };
                (table.shares.oldest_of_the_greediest(holder), error)
            };
            ended = table.sessions.remove(&spare.ok_or(error)?);
        }
        // The slice of the token in SETUP would keep the buffer it was read into.
        let token = Bytes::copy_from_slice(token);
        let mailbox_of = Arc::clone(mailbox);
        let session = Session { token, mailbox: mailbox_of, holder, identity, suspended: None };
        table.sessions.insert(digest, session);
        table.shares.take(holder);
        drop(table);
        let has_ended = ended.is_some();
        if let Some(ended) = ended {
            ended.mailbox.end(true);
        }
        Ok((Claim { sessions: Arc::clone(self), digest, mailbox: Arc::clone(mailbox) }, has_ended))
    }

    /// The connection whose session this token resumes, and whether it is without a transport. Whoever has
    /// a token and is not the one that it was given to finds nothing (RESUME-42).
    pub(crate) fn find(
        &self,
        token: &[u8],
        identity: &TransportIdentity,
    ) -> Option<(Arc<Mailbox>, bool)> {
        let table = self.lock();
        let session = table.sessions.get(&self.digest(token))?;
        // Two digests that are the same by chance are told apart.
        (session.token == token && session.identity == *identity)
            .then(|| (Arc::clone(&session.mailbox), session.suspended.is_some()))
    }
}

/// A connection's right to its token.
pub(crate) struct Claim {
    sessions: Arc<Sessions>,
    digest: Digest,
    mailbox: Arc<Mailbox>,
}

impl Claim {
    /// The session has lost its transport.
    pub(crate) fn suspended(&self) {
        self.change(|session, shares| {
            if session.suspended.is_none() {
                session.suspended = Some(shares.offer(session.holder, self.digest));
            }
        });
    }

    /// The session has a transport again.
    pub(crate) fn resumed(&self) {
        self.change(|session, shares| {
            if let Some(spare) = session.suspended.take() {
                shares.withdraw(spare);
            }
        });
    }

    /// Changes the session, if it is still ours: it may have ended for another.
    fn change(&self, change: impl FnOnce(&mut Session, &mut Shares<Digest>)) {
        let table = &mut *self.sessions.lock();
        if let Some(session) = table.sessions.get_mut(&self.digest)
            && Arc::ptr_eq(&session.mailbox, &self.mailbox)
        {
            change(session, &mut table.shares);
        }
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
        let table = &mut *self.sessions.lock();
        let is_ours = |session: &Session| Arc::ptr_eq(&session.mailbox, &self.mailbox);
        if table.sessions.get(&self.digest).is_some_and(is_ours)
            && let Some(session) = table.sessions.remove(&self.digest)
        {
            if let Some(spare) = session.suspended {
                table.shares.withdraw(spare);
            }
            table.shares.give_back(session.holder);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::{connection::Command, state::ConnectionState};

    fn mailbox() -> Arc<Mailbox> {
        Mailbox::new(1, ConnectionState::Connecting)
    }

    fn holder(n: u8) -> Holder {
        Holder::from(SocketAddr::from(([10, 0, 0, n], 1)))
    }

    fn claim(sessions: &Arc<Sessions>, token: &'static [u8], of: u8) -> Result<Claim, NoSession> {
        let claimed = sessions.claim(&Bytes::from_static(token), &mailbox(), holder(of), None);
        claimed.map(|(claim, _)| claim)
    }

    fn is_told_to_close(mailbox: &Mailbox) -> bool {
        let (mut commands, mut ready) = (Vec::new(), Vec::new());
        mailbox.take(&mut commands, &mut ready);
        commands.iter().any(|command| matches!(command, Command::Close))
    }

    #[test]
    fn resume_03_30_tokens_are_bytes_and_held_by_one() {
        let sessions = Sessions::new(10, 10);
        let held = claim(&sessions, b"\xff\xff", 1).expect("a free token");
        assert!(sessions.is_in_use(b"\xff\xff"));
        assert_eq!(claim(&sessions, b"\xff\xff", 2).err(), Some(NoSession::TokenInUse));
        assert!(sessions.find(b"\xff\xff", &None).is_some_and(|(_, suspended)| !suspended));
        assert!(sessions.find(b"\xfe\xfe", &None).is_none());
        held.suspended();
        assert!(sessions.find(b"\xff\xff", &None).is_some_and(|(_, suspended)| suspended));
        assert_eq!(claim(&sessions, b"\xff\xff", 2).err(), Some(NoSession::TokenInUse));
        drop(held);
        assert!(sessions.find(b"\xff\xff", &None).is_none());
        assert!(claim(&sessions, b"\xff\xff", 2).is_ok());
    }

    #[test]
    fn resume_42_a_session_is_found_by_whom_it_began_with() {
        let sessions = Sessions::new(10, 10);
        let ann: TransportIdentity = Some(Box::new([1; 32]));
        let token = Bytes::from_static(b"x");
        let _held = sessions.claim(&token, &mailbox(), holder(1), ann.clone()).expect("free");
        assert!(sessions.find(b"x", &ann).is_some());
        assert!(sessions.find(b"x", &None).is_none());
        assert!(sessions.find(b"x", &Some(Box::new([2; 32]))).is_none());
        let _nobodys = claim(&sessions, b"y", 1).expect("a free token");
        assert!(sessions.find(b"y", &None).is_some() && sessions.find(b"y", &ann).is_none());
    }

    #[test]
    fn h120_the_longest_abandoned_makes_room() {
        let sessions = Sessions::new(3, 3);
        let claims: Vec<_> =
            [&b"a"[..], b"b", b"c"].map(|token| claim(&sessions, token, 1).expect("room")).into();
        assert_eq!(claim(&sessions, b"d", 2).err(), Some(NoSession::Full { max: 3 }));
        claims[2].suspended();
        claims[0].suspended();
        claims[2].resumed();
        claims[1].suspended();
        let next = claim(&sessions, b"d", 2).expect("the room of the first");
        assert_eq!([0, 1, 2].map(|n| is_told_to_close(&claims[n].mailbox)), [true, false, false]);
        // What has been ended lets go of nothing that is another's.
        let again = claim(&sessions, b"a", 2).expect("room");
        drop(claims);
        assert!(sessions.find(b"a", &None).is_some());
        drop((next, again));
    }

    #[test]
    fn an_address_takes_no_more_than_its_share_and_from_nobody_but_itself() {
        let sessions = Sessions::new(10, 5);
        let victim = claim(&sessions, b"victim", 1).expect("room");
        victim.suspended();
        let tokens: [&'static [u8]; 6] = [b"0", b"1", b"2", b"3", b"4", b"5"];
        let mut claims: Vec<_> =
            tokens[..5].iter().map(|token| claim(&sessions, token, 2).expect("room")).collect();
        let error = claim(&sessions, tokens[5], 2).err();
        assert_eq!(error, Some(NoSession::ShareUsed { max: 5 }));
        claims[3].suspended();
        claims.push(claim(&sessions, tokens[5], 2).expect("its own"));
        assert!(is_told_to_close(&claims[3].mailbox));
        assert!(!is_told_to_close(&victim.mailbox) && sessions.find(b"victim", &None).is_some());
        drop(claims);
        assert_eq!(sessions.lock().shares.held(holder(2)), 0);
    }

    #[test]
    fn many_addresses_take_the_room_of_the_one_that_holds_most() {
        let sessions = Sessions::new(8, 8);
        let victim = claim(&sessions, b"victim", 1).expect("room");
        victim.suspended();
        let mut claims = Vec::new();
        for n in 0..1_000_u32 {
            let token = Bytes::copy_from_slice(&n.to_be_bytes());
            let of = holder(2 + (n % 3) as u8);
            let (claim, _) = sessions.claim(&token, &mailbox(), of, None).expect("room");
            claim.suspended();
            claims.push(claim);
        }
        assert!(!is_told_to_close(&victim.mailbox) && sessions.find(b"victim", &None).is_some());
        assert_eq!(sessions.lock().sessions.len(), 8);
    }
}
