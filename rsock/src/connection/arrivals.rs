//! Arrivals: how often connections of an address come.

use std::{collections::HashMap, num::NonZeroU32, time::Duration};

use tokio::time::Instant;

use crate::connection::shares::Holder;

/// The time of which an address may have as many connections as it likes, one after the other or at once.
const MINUTE: Duration = Duration::from_secs(60);
/// Addresses of which it is remembered. Others, while these come all the time, are not bounded.
const MAX_ADDRESSES: usize = 10_000;

/// How often at most it is looked for who may be forgotten: to look costs as much as there are.
const LOOK: Duration = Duration::from_secs(1);

/// When each address that came of late may come as if it never had: a token bucket for each.
#[derive(Default)]
pub(super) struct Arrivals {
    free: HashMap<Holder, Instant>,
    looked: Option<Instant>,
}

impl Arrivals {
    /// Whether one more may come of this address; then it has.
    pub(super) fn take(&mut self, holder: Holder, per_minute: NonZeroU32, now: Instant) -> bool {
        // Of the others nobody knows who they are, or they are users of this machine.
        if !matches!(holder, Holder::Address(_)) {
            return true;
        }
        if !self.free.contains_key(&holder) && self.free.len() >= MAX_ADDRESSES {
            if self.looked.is_none_or(|looked| now.saturating_duration_since(looked) >= LOOK) {
                self.free.retain(|_, free| *free > now);
                self.looked = Some(now);
            }
            if self.free.len() >= MAX_ADDRESSES {
                return true;
            }
        }
        let free = self.free.entry(holder).or_insert(now);
        let next = (*free).max(now) + MINUTE / per_minute.get();
        let may_come = next <= now + MINUTE;
        if may_come {
            *free = next;
        }
        may_come
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn address(n: u32) -> Holder {
        Holder::from(SocketAddr::from((n.to_be_bytes(), 1)))
    }

    #[test]
    fn an_address_comes_as_often_as_it_may_and_others_do_not_wait_for_it() {
        let per_minute = NonZeroU32::new(6).expect("it is not 0");
        let (mut arrivals, start) = (Arrivals::default(), Instant::now());
        let came = |arrivals: &mut Arrivals, holder, now| {
            (0..100).filter(|_| arrivals.take(holder, per_minute, now)).count()
        };
        assert_eq!(came(&mut arrivals, address(1), start), 6);
        assert_eq!(came(&mut arrivals, address(2), start), 6);
        assert_eq!(came(&mut arrivals, address(1), start + Duration::from_secs(9)), 0);
        assert_eq!(came(&mut arrivals, address(1), start + Duration::from_secs(10)), 1);
        assert_eq!(came(&mut arrivals, address(1), start + Duration::from_secs(600)), 6);
        assert_eq!(came(&mut arrivals, Holder::Unknown, start), 100);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let per_minute = NonZeroU32::MIN;
        let (mut arrivals, start) = (Arrivals::default(), Instant::now());
        for n in 0..20_000 {
            assert!(arrivals.take(address(n), per_minute, start));
            assert!(arrivals.free.len() <= MAX_ADDRESSES);
        }
        assert!(!arrivals.take(address(0), per_minute, start));
        // Those who have not come again are forgotten for others.
        assert!(arrivals.take(address(30_000), per_minute, start + MINUTE));
        assert_eq!(arrivals.free.len(), 1);
    }
}
