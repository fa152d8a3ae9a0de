//! The presence of all topics: kept for as long as somebody is there or watches.

use std::{collections::HashMap, fmt, sync::Arc};

use super::timer::Timer;
use crate::{
    memory::Held,
    name::TopicName,
    presence::{Presence, PresenceSettings, SessionId},
    refusal::Refusal,
    serve::{Clock, pump},
    sync::{AtomicU64, AtomicUsize, Mutex, Ordering, RwLock, lock, read, write},
    time::{Instant, Now},
    topic::Hubs,
};

/// The presence of one topic, as its sessions and watchers share it.
#[derive(Debug)]
pub(in crate::serve) struct Shared {
    pub(super) name: TopicName,
    /// No other has or had it.
    pub(super) number: u64,
    /// Sessions and watchers that hold it: see [`Place`].
    users: AtomicUsize,
    presence: Mutex<Presence>,
    /// Its memory, as part of that of all. Changed under the lock of the presence.
    held: Arc<Held>,
    /// The watchers, by connection.
    pub(in crate::serve) hubs: Hubs,
}

impl Shared {
    /// Looks at it.
    pub(super) fn look<T>(&self, look: impl FnOnce(&mut Presence) -> T) -> T {
        let mut presence = lock(&self.presence);
        let result = look(&mut presence);
        self.count(&presence);
        result
    }

    /// Counts the memory that it takes now.
    fn count(&self, presence: &Presence) {
        let (before, now) = (self.held.bytes(), presence.bytes());
        self.held.add(now.saturating_sub(before));
        self.held.release(before.saturating_sub(now));
    }

    /// Changes it, and tells its watchers. Returns when it is to be called next.
    pub(super) fn change<T>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Presence) -> T,
    ) -> (T, Option<Instant>) {
        let mut presence = lock(&self.presence);
        let before = presence.version();
        let result = change(&mut presence);
        let (is_news, deadline) = (presence.version() != before, presence.next_deadline());
        self.count(&presence);
        drop(presence);
        if is_news && self.hubs.tell() {
            pump::pump_presence(self);
        }
        (result, deadline)
    }
}

/// The presence of all topics.
#[derive(Debug)]
pub(in crate::serve) struct All {
    topics: RwLock<HashMap<TopicName, Arc<Shared>>>,
    /// Topics at most that somebody is in or watches.
    max_topics: usize,
    watchers: AtomicUsize,
    max_watchers: usize,
    bytes: Arc<AtomicUsize>,
    /// Bytes above which no changes are kept for watchers, and nobody more is seen.
    max_bytes: usize,
    /// Sessions that found no room, and watchers that were too slow.
    unseen: AtomicU64,
    overrun: AtomicU64,
    /// Numbers of sessions and of topics.
    numbers: AtomicU64,
    timer: Timer,
    clock: Clock,
}

impl All {
    pub(in crate::serve) fn new(
        max_topics: usize,
        max_watchers: usize,
        max_bytes: usize,
        clock: Clock,
    ) -> Arc<Self> {
        Arc::new(Self {
            topics: RwLock::default(),
            max_topics,
            watchers: AtomicUsize::new(0),
            max_watchers,
            bytes: Arc::default(),
            max_bytes,
            unseen: AtomicU64::new(0),
            overrun: AtomicU64::new(0),
            numbers: AtomicU64::new(0),
            timer: Timer::default(),
            clock,
        })
    }

    pub(super) fn now(&self) -> Now {
        self.clock.now()
    }

    /// The presence of this topic, if somebody is there or watches.
    pub(super) fn find(&self, name: &TopicName) -> Option<Arc<Shared>> {
        read(&self.topics).get(name).map(Arc::clone)
    }

    /// A place in the presence of this topic.
    ///
    /// # Errors
    /// [`Refusal::Rejected`] where there are as many topics as allowed.
    pub(super) fn open(
        self: &Arc<Self>,
        name: &TopicName,
        settings: PresenceSettings,
    ) -> Result<Place, Refusal> {
        self.timer.start(self);
        // Whoever forgets it has the map alone.
        let place = |shared: &Arc<Shared>| {
            shared.users.fetch_add(1, Ordering::Relaxed);
            Place { all: Arc::clone(self), shared: Arc::clone(shared) }
        };
        if let Some(shared) = read(&self.topics).get(name) {
            return Ok(place(shared));
        }
        let mut topics = write(&self.topics);
        if let Some(shared) = topics.get(name) {
            return Ok(place(shared));
        }
        if topics.len() >= self.max_topics {
            return Err(Refusal::too_many_topics(self.max_topics));
        }
        let shared = Arc::new(Shared {
            name: name.clone(),
            number: self.new_number(),
            users: AtomicUsize::new(0),
            presence: Mutex::new(Presence::new(name.clone(), settings)),
            held: Held::new(Arc::clone(&self.bytes)),
            hubs: Hubs::new(),
        });
        let place = place(&shared);
        topics.insert(name.clone(), shared);
        Ok(place)
    }

    /// Forgets a topic that nobody is in any more, and nobody watches.
    pub(super) fn forget(&self, shared: &Arc<Shared>) {
        let is_over = || {
            shared.users.load(Ordering::Relaxed) == 0 && shared.look(|presence| presence.is_idle())
        };
        if !is_over() {
            return;
        }
        let mut topics = write(&self.topics);
        let is_there = topics.get(&shared.name).is_some_and(|there| Arc::ptr_eq(there, shared));
        if is_there && is_over() {
            topics.remove(&shared.name);
            if topics.capacity() > 64 && topics.len() < topics.capacity() / 4 {
                topics.shrink_to_fit();
            }
        }
    }

    /// Changes the presence of a topic; the timer comes to it in time.
    pub(super) fn change<T>(
        &self,
        shared: &Arc<Shared>,
        change: impl FnOnce(&mut Presence, Now) -> T,
    ) -> T {
        let now = self.now();
        let (result, deadline) = shared.change(|presence| change(presence, now));
        if self.is_full() {
            // Watchers that have not read them begin anew.
            shared.look(|presence| presence.give_way());
        }
        if let Some(deadline) = deadline {
            self.timer.arm(shared, deadline);
        }
        result
    }

    pub(super) fn timer(&self) -> &Timer {
        &self.timer
    }

    pub(super) fn new_session(&self) -> SessionId {
        SessionId(self.new_number())
    }

    fn new_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether there is no more memory for it.
    pub(super) fn is_full(&self) -> bool {
        self.bytes() > self.max_bytes
    }

    pub(super) fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    pub(in crate::serve) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Counts one more watcher.
    ///
    /// # Errors
    /// [`Refusal::Rejected`] where there are as many as allowed.
    pub(super) fn add_watcher(&self) -> Result<(), Refusal> {
        if self.watchers.fetch_add(1, Ordering::Relaxed) < self.max_watchers {
            return Ok(());
        }
        self.remove_watcher();
        Err(Refusal::too_many_subscriptions(self.max_watchers))
    }

    pub(super) fn remove_watcher(&self) {
        self.watchers.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn count_unseen(&self) {
        self.unseen.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_overrun(&self, times: u64) {
        self.overrun.fetch_add(times, Ordering::Relaxed);
    }

    pub(in crate::serve) fn watchers(&self) -> usize {
        self.watchers.load(Ordering::Relaxed)
    }

    pub(in crate::serve) fn unseen(&self) -> u64 {
        self.unseen.load(Ordering::Relaxed)
    }

    pub(in crate::serve) fn overrun(&self) -> u64 {
        self.overrun.load(Ordering::Relaxed)
    }
}

/// The place of a session or a watcher in the presence of a topic, which is not forgotten for as long as this
/// is held.
pub(super) struct Place {
    pub(super) all: Arc<All>,
    pub(super) shared: Arc<Shared>,
}

impl Place {
    /// Changes the presence of the topic; the timer comes to it in time.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Presence, Now) -> T) -> T {
        self.all.change(&self.shared, change)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.shared.users.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.all.forget(&self.shared);
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.shared.name).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        options::PresenceOptions,
        presence::{Begun, SessionEnd},
        settings::TopicSettings,
    };

    fn name(text: &str) -> TopicName {
        TopicName::parse(text).expect("a name")
    }

    #[tokio::test]
    async fn topics_without_members_and_watchers_are_forgotten() {
        let all = All::new(2, 1, usize::MAX, Clock::start());
        let settings = PresenceSettings::of(&TopicSettings::default());
        let watching = all.open(&name("a"), settings).expect("room");
        let session = all.open(&name("a"), settings).expect("room");
        assert!(Arc::ptr_eq(&watching.shared, &session.shared));
        let watcher = watching.shared.look(|presence| presence.watch(PresenceOptions::default()));
        let id = all.new_session();
        let begun = session.change(|presence, now| presence.begin(id, "ann", None, now));
        assert_eq!(begun, Begun::Shown);
        let other = all.open(&name("b"), settings).expect("room");
        let refused = all.open(&name("c"), settings).expect_err("full");
        assert!(refused.to_string().starts_with("too many topics: 2"), "{refused}");
        drop(other);
        all.open(&name("c"), settings).expect("room again");
        watching.shared.look(|presence| presence.unwatch(watcher));
        drop(watching);
        session.change(|presence, now| presence.end(id, SessionEnd::Orderly, now));
        assert!(all.find(&name("a")).is_some());
        drop(session);
        assert!(read(&all.topics).is_empty());
        assert!(all.add_watcher().is_ok() && all.add_watcher().is_err());
        assert_eq!(all.bytes(), 0);
    }

    /// The memory of all topics is bounded: where there is none, no changes are kept for watchers.
    #[tokio::test]
    async fn the_memory_of_all_is_bounded() {
        let all = All::new(100, 100, 40_000, Clock::start());
        let settings = PresenceSettings::of(&TopicSettings::default());
        let places: Vec<_> =
            (0..20).map(|n| all.open(&name(&format!("t.{n}")), settings).expect("room")).collect();
        let watch = |place: &Place| {
            place.shared.look(|presence| presence.watch(PresenceOptions::default()))
        };
        let watchers: Vec<_> = places.iter().map(watch).collect();
        let id = all.new_session();
        for _ in 0..100 {
            for place in &places {
                let _ = place.change(|presence, now| presence.begin(id, "ann", None, now));
                place.change(|presence, now| presence.end(id, SessionEnd::Orderly, now));
                assert!(all.bytes() <= 40_000 + 1_000, "{}", all.bytes());
            }
        }
        assert!(all.bytes() > 20_000);
        for (place, watcher) in places.iter().zip(watchers) {
            place.shared.look(|presence| presence.unwatch(watcher));
        }
        assert_eq!(all.bytes(), 0);
        for n in 0..1_000 {
            let id = all.new_session();
            let member = format!("m{n}");
            let _ = places[0].change(|presence, now| presence.begin(id, &member, None, now));
        }
        assert!(all.is_full());
    }

    /// The timer comes to it, at each moment at which something is due, and forgets it at last.
    #[tokio::test(start_paused = true)]
    async fn whom_nobody_waits_for_is_forgotten_in_time() {
        let all = All::new(10, 10, usize::MAX, Clock::start());
        let settings = PresenceSettings::of(&TopicSettings::default());
        for (topic, at) in [("a", 0), ("b", 3), ("c", 1)] {
            let place = all.open(&name(topic), settings).expect("room");
            let id = all.new_session();
            let _ = place.change(|presence, now| presence.begin(id, "ann", None, now));
            tokio::time::advance(Duration::from_secs(at)).await;
            place.change(|presence, now| presence.end(id, SessionEnd::Lost, now));
        }
        let mut left = Vec::new();
        // Between two moments.
        tokio::time::sleep(Duration::from_millis(500)).await;
        for _ in 0..6 {
            left.push(read(&all.topics).len());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(left, [3, 2, 2, 2, 1, 0]);
        // Behind the end of all of it the task has gone.
        let timer = Arc::downgrade(&all.timer().sooner);
        drop(all);
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        assert_eq!(timer.strong_count(), 0);
    }
}
