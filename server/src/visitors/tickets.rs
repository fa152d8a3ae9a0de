//! Tickets: who one is, in an address, once. Where a header cannot be sent, as by `EventSource` and `WebSocket` of a
//! browser.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rsock::Identity;
use tokio::time::Instant;

/// Tickets that nobody has used yet. The oldest goes for another.
const MAX_TICKETS: usize = 10_000;
/// Those of one, and of all who are nobody together: theirs go for others of theirs.
const MAX_OF_ONE: usize = 250;
/// Random bytes of a ticket.
const BYTES: usize = 24;

/// The tickets that count.
#[derive(Debug, Default)]
pub(super) struct Tickets(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    by_secret: HashMap<[u8; BYTES], Ticket>,
    /// In the order in which they end.
    oldest: VecDeque<[u8; BYTES]>,
    /// The same by whose they are.
    of_one: HashMap<Box<str>, VecDeque<[u8; BYTES]>>,
}

/// The name by which tickets are counted.
fn owner(identity: Option<&Identity>) -> &str {
    identity.map_or("", Identity::name)
}

#[derive(Debug)]
struct Ticket {
    /// Of none where nobody is asked who they are.
    identity: Option<Identity>,
    until: Instant,
}

impl Tickets {
    /// The time within which one is to be used.
    pub(super) const LASTS: Duration = Duration::from_secs(30);

    /// # Errors
    /// The system has no random numbers.
    pub(super) fn issue(&self, identity: Option<Identity>) -> Result<String, getrandom::Error> {
        let mut secret = [0; BYTES];
        getrandom::fill(&mut secret)?;
        let mut inner = self.lock();
        let now = Instant::now();
        inner.forget(now);
        let owner = owner(identity.as_ref());
        if inner.of_one.get(owner).is_some_and(|of_one| of_one.len() >= MAX_OF_ONE)
            && let Some(oldest) = inner.of_one.get(owner).and_then(|of_one| of_one.front().copied())
        {
            inner.remove(&oldest);
        }
        inner.of_one.entry(owner.into()).or_default().push_back(secret);
        let ticket = Ticket { identity, until: now + Self::LASTS };
        inner.by_secret.insert(secret, ticket);
        inner.oldest.push_back(secret);
        Ok(BASE64_URL_SAFE_NO_PAD.encode(secret))
    }

    /// The one whose ticket this is, which counts no more from now on; none if it does not.
    pub(super) fn redeem(&self, text: &str) -> Option<Option<Identity>> {
        let secret = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let secret: [u8; BYTES] = secret.try_into().ok()?;
        let ticket = self.lock().remove(&secret)?;
        (Instant::now() < ticket.until).then_some(ticket.identity)
    }

    /// It is changed by single calls, and right whoever panics.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Makes room for one, and lets those go that are over.
    fn forget(&mut self, now: Instant) {
        while let Some(oldest) = self.oldest.front().copied() {
            let is_over = self.by_secret.get(&oldest).is_none_or(|ticket| ticket.until <= now);
            if !is_over && self.by_secret.len() < MAX_TICKETS {
                break;
            }
            self.oldest.pop_front();
            self.remove(&oldest);
        }
        // Those that are gone otherwise may stand behind one that is not.
        if self.oldest.len() >= 2 * MAX_TICKETS {
            let Self { by_secret, oldest, .. } = self;
            oldest.retain(|secret| by_secret.contains_key(secret));
        }
    }

    fn remove(&mut self, secret: &[u8; BYTES]) -> Option<Ticket> {
        let ticket = self.by_secret.remove(secret)?;
        let owner = owner(ticket.identity.as_ref());
        if let Some(of_one) = self.of_one.get_mut(owner) {
            of_one.retain(|other| other != secret);
            if of_one.is_empty() {
                self.of_one.remove(owner);
            }
        }
        Some(ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_ticket_counts_once_and_not_for_long() {
        let tickets = Tickets::default();
        let issue = |name: &str| tickets.issue(Some(Identity::new(name))).expect("random numbers");
        let (first, second) = (issue("ann"), issue("bob"));
        let name = |identity: Option<Identity>| identity.map(|who| who.name().to_owned());
        assert_eq!(tickets.redeem(&first).map(name), Some(Some("ann".to_owned())));
        for wrong in [first.as_str(), "", "x", &second[1..], &format!("{second}A")] {
            assert!(tickets.redeem(wrong).is_none(), "{wrong}");
        }
        tokio::time::advance(Tickets::LASTS).await;
        assert!(tickets.redeem(&second).is_none());
        assert!(tickets.issue(None).is_ok_and(|text| tickets.redeem(&text).is_some()));
        let inner = tickets.lock();
        assert!(inner.by_secret.is_empty() && inner.oldest.len() <= 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_goes_for_another() {
        let tickets = Tickets::default();
        let of = |n: usize| tickets.issue(Some(Identity::new(format!("user {n}"))));
        let first = of(0).expect("random numbers");
        for n in 0..MAX_TICKETS {
            of(n / 10).expect("random numbers");
        }
        assert!(tickets.redeem(&first).is_none());
        let inner = tickets.lock();
        assert_eq!((inner.by_secret.len(), inner.oldest.len()), (MAX_TICKETS, MAX_TICKETS));
    }

    /// Whoever asks for many takes away nobody else's.
    #[tokio::test(start_paused = true)]
    async fn those_of_one_go_for_others_of_the_same() {
        let tickets = Tickets::default();
        let of_ann = tickets.issue(Some(Identity::new("ann"))).expect("random numbers");
        let first = tickets.issue(None).expect("random numbers");
        for _ in 0..2 * MAX_TICKETS {
            tickets.issue(None).expect("random numbers");
        }
        assert!(tickets.redeem(&first).is_none() && tickets.redeem(&of_ann).is_some());
        let inner = tickets.lock();
        assert_eq!(inner.by_secret.len(), MAX_OF_ONE);
        assert!(inner.oldest.len() <= 2 * MAX_TICKETS && inner.of_one.len() == 1);
    }
}
