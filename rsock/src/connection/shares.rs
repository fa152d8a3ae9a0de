//! Shares: who holds how much, and whose is the next to go where there is no more: the oldest of
//! whoever holds most, so that what one takes beyond his share he takes from himself.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
};

use crate::network::network_of;

/// The peer at the other end, as far as can be told. (An identity that an acceptor has established
/// will be another variant.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Holder {
    /// An address, without its port; of IPv6 the /64, all of which one host may have.
    Address(IpAddr),
    /// A user of this machine, on a Unix socket.
    #[cfg(unix)]
    User(u32),
    /// A byte stream of the caller's own: nobody knows whose, so no share is cut for it.
    Unknown,
}

impl From<SocketAddr> for Holder {
    fn from(address: SocketAddr) -> Self {
        Self::Address(network_of(address))
    }
}

/// The things of one kind that holders hold. Some of it is spare: it may be taken from them.
///
/// As large as what it accounts for, which its owner bounds.
pub(crate) struct Shares<T> {
    /// Those who hold anything. The hash is keyed: addresses are of the peers' choice.
    holders: HashMap<Holder, Share<T>>,
    /// Those who have anything spare: who holds most is the last, and of several the one whose spare
    /// thing is the oldest.
    givers: BTreeSet<Giver>,
    serial: u64,
}

type Giver = (usize, Reverse<u64>, Holder);

struct Share<T> {
    held: usize,
    /// The oldest first.
    spare: BTreeMap<u64, T>,
}

impl<T> Share<T> {
    fn giver(&self, holder: Holder) -> Option<Giver> {
        let (&oldest, _) = self.spare.first_key_value()?;
        Some((self.held, Reverse(oldest), holder))
    }
}

/// Names a spare thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spare {
    holder: Holder,
    serial: u64,
}

impl<T> Default for Shares<T> {
    fn default() -> Self {
        Self { holders: HashMap::new(), givers: BTreeSet::new(), serial: 0 }
    }
}

impl<T> Shares<T> {
    /// How much a holder has.
    pub(crate) fn held(&self, holder: Holder) -> usize {
        self.holders.get(&holder).map_or(0, |share| share.held)
    }

    /// A holder has one more.
    pub(crate) fn take(&mut self, holder: Holder) {
        self.change(holder, |share| share.held += 1);
    }

    /// A holder has one less, which is not spare.
    pub(crate) fn give_back(&mut self, holder: Holder) {
        self.change(holder, |share| share.held = share.held.saturating_sub(1));
    }

    /// Something that a holder has is spare from now on.
    pub(crate) fn offer(&mut self, holder: Holder, thing: T) -> Spare {
        self.serial += 1;
        let serial = self.serial;
        self.change(holder, |share| {
            share.spare.insert(serial, thing);
        });
        Spare { holder, serial }
    }

    /// It is not spare any more, if it still was.
    pub(crate) fn withdraw(&mut self, spare: Spare) -> Option<T> {
        self.change(spare.holder, |share| share.spare.remove(&spare.serial))
    }

    /// The value that a holder offers, to be looked at or changed.
    pub(crate) fn spare(&mut self, spare: Spare) -> Option<&mut T> {
        self.holders.get_mut(&spare.holder)?.spare.get_mut(&spare.serial)
    }

    /// Takes the oldest spare thing of this holder.
    pub(crate) fn oldest_of(&mut self, holder: Holder) -> Option<T> {
        let thing = self.change(holder, |share| share.spare.pop_first());
        thing.map(|(_, thing)| {
            self.give_back(holder);
            thing
        })
    }

    /// Takes the oldest spare thing of whoever holds most, for somebody who wants one more: his own
    /// where he holds as much as that, and nobody's who holds no more than he does.
    pub(crate) fn oldest_of_the_greediest(&mut self, asks: Holder) -> Option<T> {
        let gives = self.gives(asks)?;
        self.oldest_of(gives)
    }

    /// The value that would go next.
    pub(crate) fn next_to_go(&self, asks: Holder) -> Option<&T> {
        let share = self.holders.get(&self.gives(asks)?)?;
        share.spare.first_key_value().map(|(_, thing)| thing)
    }

    /// The holder that gives something up for this one.
    fn gives(&self, asks: Holder) -> Option<Holder> {
        let asker = self.held(asks);
        let &(most, _, holder) = self.givers.last()?;
        let has_spare = self.holders.get(&asks).is_some_and(|share| !share.spare.is_empty());
        if has_spare && asker >= most {
            Some(asks)
        } else if most > asker || asks == Holder::Unknown {
            Some(holder)
        } else {
            None
        }
    }

    fn change<R>(&mut self, holder: Holder, change: impl FnOnce(&mut Share<T>) -> R) -> R {
        let none = || Share { held: 0, spare: BTreeMap::new() };
        let share = self.holders.entry(holder).or_insert_with(none);
        let before = share.giver(holder);
        let changed = change(share);
        let now = share.giver(holder);
        let has_nothing = share.held == 0 && share.spare.is_empty();
        if before != now {
            before.map(|giver| self.givers.remove(&giver));
            self.givers.extend(now);
        }
        if has_nothing {
            self.holders.remove(&holder);
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(n: u8) -> Holder {
        Holder::from(SocketAddr::from(([10, 0, 0, n], 1_000 + u16::from(n))))
    }

    fn offer(shares: &mut Shares<u32>, holder: Holder, thing: u32) -> Spare {
        shares.take(holder);
        shares.offer(holder, thing)
    }

    #[test]
    fn a_holder_is_an_address_without_its_port_and_a_64_of_ipv6() {
        let holder = |address: &str| Holder::from(address.parse::<SocketAddr>().expect(address));
        assert_eq!(holder("10.0.0.1:1"), holder("10.0.0.1:2"));
        assert_eq!(holder("10.0.0.1:1"), holder("[::ffff:10.0.0.1]:1"));
        assert_ne!(holder("10.0.0.1:1"), holder("10.0.0.2:1"));
        assert_eq!(holder("[2001:db8:1:2::3]:1"), holder("[2001:db8:1:2:ffff::]:9"));
        assert_ne!(holder("[2001:db8:1:2::3]:1"), holder("[2001:db8:1:3::3]:1"));
    }

    #[test]
    fn the_oldest_of_whoever_holds_most_goes_first() {
        let mut shares = Shares::default();
        offer(&mut shares, holder(1), 10);
        for n in 20..23 {
            offer(&mut shares, holder(2), n);
        }
        // Three of his are not spare, so there is less to take than he holds.
        offer(&mut shares, holder(3), 30);
        (0..3).for_each(|_| shares.take(holder(3)));
        assert_eq!(shares.oldest_of_the_greediest(holder(9)), Some(30));
        assert_eq!(shares.oldest_of_the_greediest(holder(9)), Some(20));
        assert_eq!(shares.oldest_of_the_greediest(holder(9)), Some(21));
        assert_eq!(shares.held(holder(2)), 1);
        // Who asks holds as much as anyone with something spare, and nothing spare himself.
        shares.take(holder(9));
        assert_eq!(shares.oldest_of_the_greediest(holder(9)), None);
        // Where he has, it is his own that goes, whoever came first.
        let own = shares.offer(holder(9), 90);
        assert_eq!(shares.spare(own), Some(&mut 90));
        assert_eq!(shares.oldest_of_the_greediest(holder(9)), Some(90));
        assert_eq!(shares.withdraw(own), None);
        assert_eq!(shares.oldest_of_the_greediest(holder(9)), Some(10));
    }

    #[test]
    fn nothing_is_kept_of_who_holds_nothing() {
        let mut shares = Shares::default();
        for n in 0..100 {
            let spare = offer(&mut shares, holder(n), 0);
            assert_eq!(shares.withdraw(spare), Some(0));
            assert_eq!(shares.withdraw(spare), None);
            shares.give_back(holder(n));
        }
        assert!(shares.holders.is_empty() && shares.givers.is_empty());
    }
}
