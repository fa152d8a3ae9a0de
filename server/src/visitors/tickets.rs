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
        let ticket = Ticket { identity, until: now + Self::LASTS };
        inner.by_secret.insert(secret, ticket);
        inner.oldest.push_back(secret);
        Ok(BASE64_URL_SAFE_NO_PAD.encode(secret))
    }

    /// The one whose ticket this is, which counts no more from now on; none if it does not.
    pub(super) fn redeem(&self, text: &str) -> Option<Option<Identity>> {
        let secret = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let secret: [u8; BYTES] = secret.try_into().ok()?;
        let ticket = self.lock().by_secret.remove(&secret)?;
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
        while let Some(oldest) = self.oldest.front() {
            let is_over = self.by_secret.get(oldest).is_none_or(|ticket| ticket.until <= now);
            if !is_over && self.oldest.len() < MAX_TICKETS {
                return;
            }
            self.by_secret.remove(oldest);
            self.oldest.pop_front();
        }
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
        let first = tickets.issue(None).expect("random numbers");
        for _ in 0..MAX_TICKETS {
            tickets.issue(None).expect("random numbers");
        }
        assert!(tickets.redeem(&first).is_none());
        assert_eq!(tickets.lock().by_secret.len(), MAX_TICKETS);
        assert_eq!(tickets.lock().oldest.len(), MAX_TICKETS);
    }
}
