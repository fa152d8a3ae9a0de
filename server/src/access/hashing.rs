//! Passwords are looked at: a few at a time, on threads of their own.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex},
};

use rsock_access::{Network, User};
use tokio::sync::Semaphore;

use super::lock;

/// The part of the queue that one address may have.
const SHARE: usize = 8;

/// Looks at passwords. Each takes a core and 19 MiB for tens of milliseconds.
#[derive(Debug)]
pub(super) struct Hashing {
    places: Arc<Semaphore>,
    max_waiting: usize,
    waiting: Mutex<Waiting>,
    /// Those who wait because they have guessed: they take nobody's place in the queue.
    delayed: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    all: usize,
    by_network: HashMap<Network, usize>,
}

/// There are too many to look at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Busy;

impl Hashing {
    pub(super) fn new(at_once: usize, max_waiting: usize) -> Self {
        let places = Arc::new(Semaphore::new(at_once.min(Semaphore::MAX_PERMITS)));
        Self { places, max_waiting, waiting: Mutex::default(), delayed: Mutex::default() }
    }

    /// Whether this is the user's password. One network has an eighth of the queue, so that whoever guesses
    /// keeps nobody else out.
    /// `told` hears it, also when nobody waits for it any more: who goes away has guessed as well.
    pub(super) async fn verify(
        &self,
        user: Arc<User>,
        password: Vec<u8>,
        from: Option<IpAddr>,
        told: impl FnOnce(bool) + Send + 'static,
    ) -> Result<bool, Busy> {
        let _waits = self.enter(from)?;
        // It is never closed.
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| Busy)?;
        let verifying = tokio::task::spawn_blocking(move || {
            let _place = place;
            let is_right = user.verify(&password);
            told(is_right);
            is_right
        });
        Ok(verifying.await.unwrap_or(false))
    }

    /// A place for whoever has to wait before a password is looked at: there are no more of these than of the
    /// others.
    pub(super) fn delay(&self, from: Option<IpAddr>) -> Result<Place<'_>, Busy> {
        self.enter_among(&self.delayed, from)
    }

    fn enter(&self, from: Option<IpAddr>) -> Result<Place<'_>, Busy> {
        self.enter_among(&self.waiting, from)
    }

    fn enter_among<'a>(
        &self,
        among: &'a Mutex<Waiting>,
        from: Option<IpAddr>,
    ) -> Result<Place<'a>, Busy> {
        // Whoever has a network has as many addresses as they like.
        let from = Network::of(from);
        let mut waiting = lock(among);
        let share = (self.max_waiting / SHARE).max(1);
        let of_address = waiting.by_network.get(&from).copied().unwrap_or(0);
        if waiting.all >= self.max_waiting || of_address >= share {
            return Err(Busy);
        }
        waiting.all += 1;
        waiting.by_network.insert(from, of_address + 1);
        Ok(Place { among, from })
    }
}

/// A place among those that wait.
pub(super) struct Place<'a> {
    among: &'a Mutex<Waiting>,
    from: Network,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = lock(self.among);
        waiting.all -= 1;
        if let Some(count) = waiting.by_network.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                waiting.by_network.remove(&self.from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_an_eighth_of_the_queue_and_all_have_all_of_it() {
        let hashing = Hashing::new(2, 64);
        let address = |n: u8| Some(IpAddr::from([10, 0, 0, n]));
        let mut places: Vec<_> = (0..8).map(|_| hashing.enter(address(1)).ok()).collect();
        assert!(places.iter().all(Option::is_some));
        assert!(hashing.enter(address(1)).is_err());
        for n in 2..9 {
            places.extend((0..8).map(|_| hashing.enter(address(n)).ok()));
        }
        assert!(hashing.enter(address(9)).is_err());
        places.pop();
        places.remove(0);
        assert!(hashing.enter(address(1)).is_ok());
        drop(places);
        assert!(lock(&hashing.waiting).by_network.is_empty() && lock(&hashing.waiting).all == 0);
    }

    /// Of IPv6 everybody has as many addresses as they like.
    #[test]
    fn a_network_has_no_more_of_the_queue_than_one_address() {
        let hashing = Hashing::new(2, 64);
        let address = |net: u16, n: u16| Some(IpAddr::from([0x2001, 0xdb8, 0, net, 0, 0, 0, n]));
        let places: Vec<_> = (0..64).map_while(|n| hashing.enter(address(1, n)).ok()).collect();
        assert_eq!(places.len(), 8);
        assert!(hashing.enter(address(2, 1)).is_ok());
    }
}
