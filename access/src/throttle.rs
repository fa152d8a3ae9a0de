//! The slowing of who guesses.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    time::Duration,
};

use crate::name::MAX_NAME_BYTES;

/// Limits on guessing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThrottleLimits {
    /// Failures that cost nothing.
    pub free: u32,
    /// The time for which a failure counts.
    pub window: Duration,
    /// The longest wait before an attempt.
    pub max_wait: Duration,
    /// Addresses, and names at addresses, of which failures are kept.
    pub entries: usize,
}

impl Default for ThrottleLimits {
    fn default() -> Self {
        let (window, max_wait) = (Duration::from_secs(60), Duration::from_secs(60));
        Self { free: 5, window, max_wait, entries: 10_000 }
    }
}

/// The failures of late: of each address (of IPv6, a /64), and of each name at each address. Never of a name
/// alone, by which strangers would lock somebody out.
#[derive(Debug)]
pub struct Throttle {
    limits: ThrottleLimits,
    entries: HashMap<Source, Failures>,
    /// From the oldest on; those that have failed again since are passed over.
    order: VecDeque<(Source, u64)>,
    number: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Source {
    network: Network,
    name: Option<Box<str>>,
}

/// The part of an address that is one client's: of IPv4 all of it, of IPv6 the first 64 bits, within which
/// whoever has them may take any address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(Part);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Part {
    Address([u8; 4]),
    /// The first 64 bits.
    Net([u8; 8]),
    /// Not over IP.
    Local,
}

impl Network {
    /// The one that an address is in; without one it is this machine.
    pub fn of(address: Option<IpAddr>) -> Self {
        Self(match address.map(|address| address.to_canonical()) {
            None => Part::Local,
            Some(IpAddr::V4(address)) => Part::Address(address.octets()),
            Some(IpAddr::V6(address)) => {
                let mut net = [0; 8];
                net.copy_from_slice(&address.octets()[..8]);
                Part::Net(net)
            }
        })
    }
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    /// When the last one was, by the caller's clock.
    last: Duration,
    /// Its place in the order.
    number: u64,
}

impl Throttle {
    /// None have failed yet.
    pub fn new(limits: ThrottleLimits) -> Self {
        Self { limits, entries: HashMap::new(), order: VecDeque::new(), number: 0 }
    }

    /// The time that an attempt is to wait before it is looked at. `now` is the time by a clock that never goes
    /// back.
    pub fn wait(&self, from: Option<IpAddr>, name: Option<&str>, now: Duration) -> Duration {
        let of = |name| self.wait_of(&Source::new(from, name), now);
        match name {
            None => of(None),
            name => of(None).max(of(name)),
        }
    }

    fn wait_of(&self, source: &Source, now: Duration) -> Duration {
        let Some(failures) = self.entries.get(source) else { return Duration::ZERO };
        let since = now.saturating_sub(failures.last);
        let beyond = match failures.count.checked_sub(self.limits.free) {
            Some(beyond) if since < self.limits.window => beyond,
            _ => return Duration::ZERO,
        };
        // 1, 2, 4 … seconds.
        let wait = Duration::from_secs(1_u64.checked_shl(beyond.min(20)).unwrap_or(u64::MAX));
        wait.min(self.limits.max_wait)
    }

    /// An attempt has failed.
    pub fn failed(&mut self, from: Option<IpAddr>, name: Option<&str>, now: Duration) {
        self.count(Source::new(from, None), now);
        if name.is_some() {
            self.count(Source::new(from, name), now);
        }
    }

    fn count(&mut self, source: Source, now: Duration) {
        self.number += 1;
        let (window, number) = (self.limits.window, self.number);
        let failures =
            self.entries.entry(source.clone()).or_insert(Failures { count: 0, last: now, number });
        if now.saturating_sub(failures.last) >= window {
            failures.count = 0;
        }
        *failures = Failures { count: failures.count.saturating_add(1), last: now, number };
        self.order.push_back((source, number));
        self.forget();
    }

    /// An attempt was right: at this name nobody guesses.
    pub fn succeeded(&mut self, from: Option<IpAddr>, name: Option<&str>) {
        if name.is_some() {
            self.entries.remove(&Source::new(from, name));
        }
    }

    /// Keeps within the bound: the oldest go, and as many marks of what has failed again since.
    fn forget(&mut self) {
        while self.entries.len() > self.limits.entries || self.order.len() > 2 * self.limits.entries
        {
            let Some((source, number)) = self.order.pop_front() else { return };
            let is_newest = self.entries.get(&source).is_some_and(|known| known.number == number);
            if is_newest {
                self.entries.remove(&source);
            }
        }
    }

    /// The number of failures that are kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none are kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Source {
    fn new(from: Option<IpAddr>, name: Option<&str>) -> Self {
        // A peer chooses how long it is, and nobody has a longer one.
        Self {
            network: Network::of(from),
            name: name.filter(|name| name.len() <= MAX_NAME_BYTES).map(Box::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(address: &str) -> Option<IpAddr> {
        Some(address.parse().expect("an address"))
    }

    #[test]
    fn who_guesses_waits_longer_and_longer_and_others_do_not() {
        let mut throttle = Throttle::new(ThrottleLimits::default());
        let (from, now) = (at("10.0.0.1"), SECOND);
        let mut waits = Vec::new();
        for _ in 0..14 {
            waits.push(throttle.wait(from, Some("ann"), now).as_secs());
            throttle.failed(from, Some("ann"), now);
        }
        assert_eq!(waits, [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
        // Ann herself, from elsewhere; and that a name is guessed at does not concern another address.
        assert_eq!(throttle.wait(at("10.0.0.2"), Some("ann"), now), Duration::ZERO);
        // The address guesses, whatever the name.
        assert_eq!(throttle.wait(from, Some("bob"), now).as_secs(), 60);
        assert_eq!(throttle.wait(from, None, now).as_secs(), 60);
        assert_eq!(throttle.wait(from, Some("ann"), now + 60 * SECOND), Duration::ZERO);
    }

    #[test]
    fn addresses_of_one_network_are_one() {
        let mut throttle = Throttle::new(ThrottleLimits::default());
        for last in 0..6 {
            throttle.failed(at(&format!("2001:db8::{last}")), None, SECOND);
        }
        assert!(throttle.wait(at("2001:db8::ffff"), None, SECOND) >= SECOND);
        assert_eq!(throttle.wait(at("2001:db8:0:1::1"), None, SECOND), Duration::ZERO);
        assert_eq!(throttle.wait(None, None, SECOND), Duration::ZERO);
        for _ in 0..6 {
            throttle.failed(at("::ffff:10.0.0.9"), None, SECOND);
        }
        assert!(throttle.wait(at("10.0.0.9"), None, SECOND) >= SECOND);
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_oldest_go() {
        let limits = ThrottleLimits { entries: 100, ..ThrottleLimits::default() };
        let mut throttle = Throttle::new(limits);
        for number in 0..10_000_u32 {
            let from = Some(IpAddr::from(number.to_be_bytes()));
            throttle.failed(from, Some(&"x".repeat(1_000)), SECOND);
            assert!(throttle.len() <= 100 && throttle.order.len() <= 200);
        }
        // One that goes on guessing stays, whoever else does.
        for number in 0..1_000_u32 {
            throttle.failed(at("10.9.9.9"), None, SECOND);
            throttle.failed(Some(IpAddr::from(number.to_be_bytes())), None, SECOND);
        }
        assert_eq!(throttle.wait(at("10.9.9.9"), None, SECOND).as_secs(), 60);
        let before = throttle.len();
        throttle.succeeded(at("10.9.9.9"), Some("ann"));
        assert_eq!(throttle.len(), before);
    }
}
