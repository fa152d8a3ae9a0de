//! Shares: how many of all topics one has made. A stranger is not to use up those of everybody.

use std::{collections::HashMap, sync::Arc};

use crate::{
    refusal::Refusal,
    sync::{Mutex, lock},
};

/// The one for whom a topic is made that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker<'a> {
    /// The service itself: it is not counted.
    Service,
    /// A connection whose user is not known.
    Connection(u64),
    /// A name that is authenticated, on whatever connection.
    Name(&'a str),
}

impl<'a> Maker<'a> {
    /// That of a request on this connection, 0 for none, by this name if it is authenticated.
    pub fn of(connection: u64, name: Option<&'a str>) -> Self {
        match (name, connection) {
            (Some(name), _) => Self::Name(name),
            (None, 0) => Self::Service,
            (None, connection) => Self::Connection(connection),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Owner {
    Connection(u64),
    Name(Box<str>),
}

/// The topics that each has made and that are still there: no more makers than topics.
#[derive(Debug)]
pub(super) struct Shares {
    counts: Mutex<HashMap<Owner, usize>>,
    limit: usize,
}

/// A topic that counts for its maker, for as long as this is held.
#[derive(Debug)]
pub(super) struct Share {
    shares: Arc<Shares>,
    owner: Owner,
}

impl Shares {
    /// So many for each.
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { counts: Mutex::default(), limit })
    }

    /// Counts one more.
    ///
    /// # Errors
    /// [`Refusal::Rejected`] where it has as many as allowed.
    pub(super) fn take(self: &Arc<Self>, maker: Maker<'_>) -> Result<Option<Share>, Refusal> {
        let owner = match maker {
            Maker::Service => return Ok(None),
            Maker::Connection(connection) => Owner::Connection(connection),
            Maker::Name(name) => Owner::Name(name.into()),
        };
        let mut counts = lock(&self.counts);
        let before = counts.get(&owner).copied().unwrap_or_default();
        if before >= self.limit {
            let name = match maker {
                Maker::Name(name) => Some(name),
                _ => None,
            };
            return Err(Refusal::too_many_topics_of(name, self.limit));
        }
        counts.insert(owner.clone(), before + 1);
        drop(counts);
        Ok(Some(Share { shares: Arc::clone(self), owner }))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = lock(&self.shares.counts);
        match counts.get_mut(&self.owner) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&self.owner)),
        }
        if counts.capacity() > 64 && counts.len() < counts.capacity() / 4 {
            counts.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_more_than_their_share_and_nothing_is_left_of_it() {
        let shares = Shares::new(2);
        let take = |maker| shares.take(maker).map(|share| share.expect("it counts"));
        let [one, other] = [(); 2].map(|()| take(Maker::Connection(7)).expect("room"));
        let refused = take(Maker::Connection(7)).expect_err("full").to_string();
        assert!(
            refused.starts_with("too many topics: 2 that this connection has made"),
            "{refused}"
        );
        let ann = Maker::of(7, Some("ann"));
        let hers = [(); 2].map(|()| take(ann).expect("a name has its own"));
        let refused = take(ann).expect_err("full").to_string();
        assert!(refused.starts_with("too many topics: 2 that \"ann\" has made"), "{refused}");
        drop(one);
        let another = take(Maker::Connection(7)).expect("room again");
        assert!(shares.take(Maker::of(0, None)).expect("it has all").is_none());
        drop((other, another, hers));
        assert!(lock(&shares.counts).is_empty());
    }
}
