//! Runtimes that share the connections of a server.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::runtime::Handle;

/// Runtimes that share the connections of a server, as one of one thread for each core: for
/// [`ServerBuilder::runtimes`](crate::ServerBuilder::runtimes).
///
/// A connection stays on its runtime, and so do its handlers and what they spawn: with one thread
/// each, nothing of a request crosses threads. A new one stays where it was taken, or goes to the
/// runtime that has the fewest if there are notably more here. A session that is resumed goes on
/// where it began.
///
/// They have to outlive the server. Cheap to clone.
#[derive(Clone)]
pub struct Runtimes(Arc<[Share]>);

struct Share {
    runtime: Handle,
    open: AtomicUsize,
    total: AtomicUsize,
}

impl Runtimes {
    /// Shares connections out among these.
    ///
    /// # Panics
    /// If there is none.
    pub fn new(runtimes: impl IntoIterator<Item = Handle>) -> Self {
        let share = |runtime| Share { runtime, open: 0.into(), total: 0.into() };
        let shares: Arc<[_]> = runtimes.into_iter().map(share).collect();
        assert!(!shares.is_empty(), "connections need a runtime to be served on");
        Self(shares)
    }

    /// For each runtime, in their order, the connections it has and those it has had.
    pub fn connections(&self) -> Vec<(usize, usize)> {
        let shares = self.0.iter();
        shares.map(|share| (share.open.load(Relaxed), share.total.load(Relaxed))).collect()
    }

    /// The runtimes, in their order.
    pub fn handles(&self) -> impl ExactSizeIterator<Item = &Handle> + Clone {
        self.0.iter().map(|share| &share.runtime)
    }

    /// The runtime for a connection that the runtime `here` has taken.
    pub(crate) fn place(&self, here: usize) -> Place {
        let open = |index: usize| self.0[index].open.load(Relaxed);
        let least = (0..self.0.len()).min_by_key(|index| open(*index)).unwrap_or(here);
        // Moving costs a little, so that where there are many an eighth more is let pass.
        let index = if open(here) > open(least) + open(least) / 8 { least } else { here };
        self.0[index].open.fetch_add(1, Relaxed);
        self.0[index].total.fetch_add(1, Relaxed);
        Place { runtimes: self.clone(), index }
    }
}

impl fmt::Debug for Runtimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Runtimes").field(&self.connections()).finish()
    }
}

/// A connection's place on one of the runtimes; counted until it is dropped.
pub(crate) struct Place {
    runtimes: Runtimes,
    index: usize,
}

impl Place {
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    pub(crate) fn runtime(&self) -> Handle {
        self.runtimes.0[self.index].runtime.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.runtimes.0[self.index].open.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtimes(count: usize) -> Runtimes {
        Runtimes::new((0..count).map(|_| Handle::current()))
    }

    fn open(runtimes: &Runtimes) -> Vec<usize> {
        runtimes.connections().into_iter().map(|(open, _)| open).collect()
    }

    #[tokio::test]
    async fn a_few_connections_are_shared_out_evenly_wherever_they_come() {
        let runtimes = runtimes(3);
        let places: Vec<_> = (0..9).map(|_| runtimes.place(1)).collect();
        assert_eq!(open(&runtimes), [3, 3, 3]);
        drop(places);
        assert_eq!(open(&runtimes), [0, 0, 0]);
        assert_eq!(runtimes.connections(), [(0, 3); 3]);
    }

    #[tokio::test]
    async fn connections_stay_where_they_came_unless_there_are_notably_more() {
        let runtimes = runtimes(2);
        let mut places: Vec<_> = (0..16).map(|index| runtimes.place(index % 2)).collect();
        places.extend((0..2).map(|_| runtimes.place(1)));
        assert_eq!(open(&runtimes), [8, 10]);
        places.push(runtimes.place(1));
        assert_eq!(open(&runtimes), [9, 10]);
        // Those that end leave room, which the next ones take.
        places.drain(..16);
        assert_eq!(open(&runtimes), [1, 2]);
        let next = runtimes.place(1);
        assert_eq!(next.index(), 0);
    }

    #[test]
    #[should_panic(expected = "need a runtime")]
    fn there_is_one_at_least() {
        Runtimes::new([]);
    }
}
