//! Readers that wait for news of a topic, by connection, and the pump that wakes them.

use std::{any::Any, fmt, mem, sync::Arc};

use rustc_hash::FxHashMap;

use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering, lock};

/// A way to have all readers of a connection look again.
pub trait Wake: Any + Send + Sync {
    /// Wakes those that wait. False if the connection is over.
    fn wake(&self) -> bool;
}

/// The cost of waking a connection, and that of each reader of it: a pump counts what it does in eighths.
const CONNECTION_COST: usize = 8;
/// Connections, each with one reader, that are woken before others have their turn.
const HANDFUL: usize = 64 * (CONNECTION_COST + 1);
/// Hubs without readers that may stay in the list of those that wait, beside half of it.
const LEFT: usize = 16;

/// The readers of one connection on one topic.
pub struct Hub {
    connection: u64,
    wake: Box<dyn Wake>,
    /// It is in the list of those that wait, or will be woken by whoever took it from there.
    is_waiting: AtomicBool,
    /// Readers of this connection. Changed under the lock of the topic's hubs.
    readers: AtomicUsize,
}

impl Hub {
    /// The way to wake its readers.
    pub(crate) fn wake(&self) -> &dyn Wake {
        &*self.wake
    }

    fn cost(&self) -> usize {
        CONNECTION_COST + self.readers.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("connection", &self.connection).finish_non_exhaustive()
    }
}

/// Whether a pump has more to wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pumped {
    /// All were woken that waited for news: the pump has ended.
    All,
    /// Others are to have their turn, then it goes on.
    More,
}

/// All hubs of a topic.
#[derive(Default)]
pub(crate) struct Hubs {
    by_connection: Mutex<FxHashMap<u64, Arc<Hub>>>,
    waiting: Mutex<Waiting>,
    /// As many as wait: a publisher looks at it without the lock.
    are_waiting: AtomicUsize,
    is_pumping: AtomicBool,
    /// The hubs that the pump has taken and not yet woken.
    pass: Mutex<Vec<Arc<Hub>>>,
    /// The version of the topic that everybody was told of who waited then.
    pumped: AtomicU64,
    /// Raised by what readers do not know yet. Its first value is 1: a reader that knows nothing has 0.
    version: AtomicU64,
}

/// The hubs that wait for news.
#[derive(Default)]
struct Waiting {
    hubs: Vec<Arc<Hub>>,
    /// Those of them at most whose last reader has left.
    left: usize,
}

impl Hubs {
    pub(crate) fn new() -> Self {
        Self { version: AtomicU64::new(1), pumped: AtomicU64::new(1), ..Self::default() }
    }

    /// The version of the topic: a reader that has seen all of this one may wait.
    #[inline]
    pub(crate) fn version(&self) -> u64 {
        // Behind `wait`, it is read after the registration is seen: see `tell`.
        self.version.load(Ordering::SeqCst)
    }

    /// Tells of news, after they can be seen. Whether the caller has to pump.
    #[must_use]
    pub(crate) fn tell(&self) -> bool {
        self.version.fetch_add(1, Ordering::SeqCst);
        // Whoever registers later than this sees the version above.
        self.are_waiting.load(Ordering::SeqCst) > 0 && !self.is_pumping.swap(true, Ordering::AcqRel)
    }

    /// One more reader of this connection.
    pub(crate) fn enter(&self, connection: u64, wake: impl FnOnce() -> Box<dyn Wake>) -> Arc<Hub> {
        let mut hubs = lock(&self.by_connection);
        let hub = hubs.entry(connection).or_insert_with(|| {
            let (is_waiting, readers) = (AtomicBool::new(false), AtomicUsize::new(0));
            Arc::new(Hub { connection, wake: wake(), is_waiting, readers })
        });
        hub.readers.fetch_add(1, Ordering::Relaxed);
        Arc::clone(hub)
    }

    /// One reader less.
    pub(crate) fn leave(&self, hub: &Hub) {
        let mut hubs = lock(&self.by_connection);
        if hub.readers.fetch_sub(1, Ordering::Relaxed) == 1 {
            hubs.remove(&hub.connection);
            if hubs.capacity() > 64 && hubs.len() < hubs.capacity() / 4 {
                hubs.shrink_to_fit();
            }
            drop(hubs);
            if hub.is_waiting.load(Ordering::Acquire) {
                self.one_has_left();
            }
        }
    }

    /// Lets go of the hubs without readers when they are many: nobody may come who would wake them.
    fn one_has_left(&self) {
        let mut waiting = lock(&self.waiting);
        waiting.left += 1;
        if waiting.left > LEFT + waiting.hubs.len() / 2 {
            waiting.left = 0;
            waiting.hubs.retain(|hub| hub.readers.load(Ordering::Relaxed) > 0);
            let few = 2 * waiting.hubs.len();
            waiting.hubs.shrink_to(few);
            self.are_waiting.store(waiting.hubs.len(), Ordering::SeqCst);
        }
    }

    /// Has the hub woken when there are news. To be called after its reader has joined what the hub
    /// wakes; it then looks at the version once more.
    pub(crate) fn wait(&self, hub: &Arc<Hub>) {
        // A hub that is taken already will be woken after this: see `pump`.
        if !hub.is_waiting.swap(true, Ordering::AcqRel) {
            let mut waiting = lock(&self.waiting);
            waiting.hubs.push(Arc::clone(hub));
            self.are_waiting.store(waiting.hubs.len(), Ordering::SeqCst);
        }
    }

    /// Wakes a handful of those that wait, after [`tell`](Self::tell) or `More` have said so.
    pub(crate) fn pump(&self) -> Pumped {
        self.pump_when(|| true)
    }

    /// The same, where a pass over all that wait begins if it may. If it may not, nobody is woken any more, and
    /// there is more to be done later.
    pub(crate) fn pump_when(&self, may_begin: impl Fn() -> bool) -> Pumped {
        let mut budget = HANDFUL;
        let mut pass = lock(&self.pass);
        loop {
            while let Some(hub) = pass.pop() {
                // Before it is woken: whoever finds it set relies on being woken after that.
                hub.is_waiting.swap(false, Ordering::AcqRel);
                let cost = hub.cost();
                hub.wake.wake();
                budget = budget.saturating_sub(cost);
                if budget == 0 {
                    return Pumped::More;
                }
            }
            let version = self.version();
            if self.pumped.load(Ordering::Relaxed) != version && !may_begin() {
                return Pumped::More;
            }
            if self.pumped.swap(version, Ordering::Relaxed) == version {
                self.is_pumping.swap(false, Ordering::AcqRel);
                // What was published since did not pump, because we did.
                let is_news =
                    self.version() != version && self.are_waiting.load(Ordering::SeqCst) > 0;
                if !is_news || self.is_pumping.swap(true, Ordering::AcqRel) {
                    return Pumped::All;
                }
                continue;
            }
            let mut waiting = lock(&self.waiting);
            mem::swap(&mut waiting.hubs, &mut *pass);
            waiting.left = 0;
            self.are_waiting.store(0, Ordering::SeqCst);
            drop(waiting);
            // The first who waited is woken first.
            pass.reverse();
        }
    }
}

impl fmt::Debug for Hubs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hubs").field("version", &self.version()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::AtomicUsize;

    struct Count(Arc<AtomicUsize>);

    impl Wake for Count {
        fn wake(&self) -> bool {
            self.0.fetch_add(1, Ordering::Relaxed);
            true
        }
    }

    struct World {
        hubs: Hubs,
        wakes: Arc<AtomicUsize>,
    }

    impl World {
        fn new() -> Self {
            Self { hubs: Hubs::new(), wakes: Arc::default() }
        }

        fn enter(&self, connection: u64) -> Arc<Hub> {
            self.hubs.enter(connection, || Box::new(Count(Arc::clone(&self.wakes))))
        }

        fn wakes(&self) -> usize {
            self.wakes.swap(0, Ordering::Relaxed)
        }
    }

    #[test]
    fn who_waits_is_woken_once_and_who_does_not_never() {
        let world = World::new();
        let hubs: Vec<_> = (1..=10).map(|connection| world.enter(connection)).collect();
        let another_reader = world.enter(1);
        assert!(Arc::ptr_eq(&hubs[0], &another_reader), "one for each connection");
        for hub in hubs[..5].iter().chain([&another_reader]) {
            world.hubs.wait(hub);
        }
        assert!(world.hubs.tell(), "somebody waits");
        assert!(!world.hubs.tell(), "one pumps");
        assert_eq!((world.hubs.pump(), world.wakes()), (Pumped::All, 5));
        assert!(!world.hubs.tell(), "nobody waits");
        world.hubs.wait(&hubs[7]);
        assert!(world.hubs.tell());
        assert_eq!((world.hubs.pump(), world.wakes()), (Pumped::All, 1));
    }

    #[test]
    fn a_pump_wakes_a_handful() {
        let world = World::new();
        let hubs: Vec<_> = (1..=1_000).map(|connection| world.enter(connection)).collect();
        for hub in &hubs {
            world.hubs.wait(hub);
        }
        assert!(world.hubs.tell());
        let mut handfuls = 0;
        while world.hubs.pump() == Pumped::More {
            assert_eq!(world.wakes(), 64);
            handfuls += 1;
        }
        assert_eq!((handfuls, world.wakes()), (1_000 / 64, 1_000 % 64));
    }

    /// Nothing is published, and readers come, wait and go.
    #[test]
    fn those_who_left_do_not_pile_up() {
        let world = World::new();
        let stays = world.enter(1);
        world.hubs.wait(&stays);
        for connection in 0..10_000 {
            let hub = world.enter(connection % 3 + 2);
            world.hubs.wait(&hub);
            world.hubs.leave(&hub);
            assert!(lock(&world.hubs.waiting).hubs.len() <= 2 * (LEFT + 2));
        }
        assert!(world.hubs.tell());
        assert_eq!(world.hubs.pump(), Pumped::All);
        assert!((1..=2 * (LEFT + 2)).contains(&world.wakes()));
        let hubs = world.hubs;
        assert!(Arc::strong_count(&stays) > 1);
        drop(hubs);
        assert_eq!(Arc::strong_count(&stays), 1);
    }
}
