//! All topics of a service: made when they are used, remembered when they are empty, and bounded together.

mod shares;

use std::{
    collections::{BTreeSet, BinaryHeap, HashMap},
    ops::Bound,
    sync::Arc,
};

pub use self::shares::Maker;
use self::shares::{Share, Shares};
use crate::{
    dedup::Ids,
    memory::Held,
    name::TopicName,
    position::{Epoch, Offset},
    rate::{Buckets, TooFast},
    refusal::Refusal,
    settings::{Kind, Settings, TopicSettings},
    sync::{AtomicU64, AtomicUsize, Mutex, Ordering, RwLock, lock, read, write},
    time::{Instant, Now},
    topic::{
        Ended, Hub, Place as ReadersPlace, Publish, Published, Store, TOPIC_BYTES, Topic, Wake,
    },
};

/// Maps of names: a publisher holds one for reading only.
const SHARDS: usize = 64;
/// The part of the memory of all logs that is made free when there is none left.
const FREED_PART: usize = 64;
/// The part of it that the idempotency keys of topics that were put away may have.
const IDS_PART: usize = 16;
/// Topics looked at for what has grown too old, in one call.
const TOPICS_A_TICK: usize = 8_192;

/// A topic, with its part of its maker's share, or what is left of one.
#[derive(Debug)]
enum Place {
    Topic(Arc<Topic>, #[allow(dead_code, reason = "it counts while it is here")] Option<Share>),
    Record(Record),
}

/// The memory of a topic without messages and readers: its offsets go on from here.
#[derive(Debug)]
struct Record {
    next: Offset,
    /// The time of its newest message, and of the newest that may have been before.
    newest: u64,
    gone: u64,
    since: Instant,
    is_closed: bool,
    /// The numbering of a durable topic that never had a message: who was there may come again.
    epoch: Option<Epoch>,
    /// Its idempotency keys: none, if there were none, or they had to go for others.
    ids: Option<Box<Ids>>,
}

impl Record {
    fn of(topic: &Topic, since: Instant) -> Self {
        let is_closed = topic.ended() == Ended::Closed;
        let newest = topic.newest();
        let gone = topic.gone().max(newest);
        let epoch = topic.is_durable().then(|| topic.epoch());
        Self { next: topic.visible(), newest, gone, since, is_closed, epoch, ids: None }
    }
}

/// All topics.
#[derive(Debug)]
pub struct Topics {
    settings: Arc<Settings>,
    /// The numbering of all topics that are in memory alone.
    epoch: Epoch,
    shards: Box<[RwLock<HashMap<TopicName, Place>>]>,
    index: Mutex<Index>,
    /// The place of durable topics, if there is one.
    store: Option<Box<dyn Store>>,
    /// Bytes of all logs in memory.
    held: Arc<AtomicUsize>,
    /// Those of them that the idempotency keys of topics have that were put away.
    put_away: Arc<Held>,
    /// No topic that nobody remembers had a message of this offset or a later one.
    floor: AtomicU64,
    /// Nor one that was younger than this.
    floor_time: AtomicU64,
    subscriptions: AtomicUsize,
    shares: Arc<Shares>,
    making_room: Mutex<()>,
    /// Bytes that were held when no topic could give way any more; 0 if some can.
    exhausted: AtomicUsize,
    /// The publishes of each connection, and of each name that is authenticated.
    connection_rates: Option<Mutex<Buckets<u64>>>,
    name_rates: Option<Mutex<Buckets<Box<str>>>>,
    dropped_for_memory: AtomicU64,
    forgotten_ids: AtomicU64,
}

/// The names in order, and the records by age.
#[derive(Debug, Default)]
struct Index {
    topics: BTreeSet<TopicName>,
    records: BTreeSet<(Instant, TopicName)>,
    /// Those of them that have idempotency keys.
    with_ids: BTreeSet<(Instant, TopicName)>,
    /// The topic that the last tick came to.
    ticked: Option<TopicName>,
    /// The time of the last tick, which is exact enough for what is remembered for a day.
    now: Instant,
}

impl Index {
    /// The record of this name is not there any more.
    fn forget(&mut self, since: Instant, name: &TopicName) {
        let record = (since, name.clone());
        self.records.remove(&record);
        self.with_ids.remove(&record);
    }
}

impl Topics {
    /// No topics yet. `epoch` is 64 random bits.
    pub fn new(settings: Settings, epoch: Epoch) -> Self {
        let limits = settings.limits();
        let held = Arc::default();
        Self {
            put_away: Held::new(Arc::clone(&held)),
            held,
            connection_rates: limits.connection_rate.map(|rate| Mutex::new(Buckets::new(rate))),
            name_rates: limits.name_rate.map(|rate| Mutex::new(Buckets::new(rate))),
            shares: Shares::new(limits.topics_of_one),
            settings: Arc::new(settings),
            epoch,
            store: None,
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            index: Mutex::default(),
            floor: AtomicU64::new(1),
            floor_time: AtomicU64::new(0),
            subscriptions: AtomicUsize::new(0),
            making_room: Mutex::new(()),
            exhausted: AtomicUsize::new(0),
            dropped_for_memory: AtomicU64::new(0),
            forgotten_ids: AtomicU64::new(0),
        }
    }

    /// The same, with a place for durable topics. Those that are there already are to be
    /// [adopted](Self::adopt).
    #[must_use]
    pub fn with_store(mut self, store: Box<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// Bytes of all logs in memory, as new topics count what they hold.
    pub fn held(&self) -> &Arc<AtomicUsize> {
        &self.held
    }

    /// Takes a topic that was found on disk. There is none of its name yet.
    pub fn adopt(&self, topic: Topic) -> Arc<Topic> {
        let topic = Arc::new(topic);
        let name = topic.name();
        let mut shard = write(self.shard(name));
        lock(&self.index).topics.insert(name.clone());
        shard.insert(name.clone(), Place::Topic(Arc::clone(&topic), None));
        topic.bind();
        drop(shard);
        topic
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Bytes of all logs in memory.
    pub fn bytes(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Readers there are.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions.load(Ordering::Relaxed)
    }

    /// Portions of the oldest messages that topics gave up because all held too much.
    pub fn dropped_for_memory(&self) -> u64 {
        self.dropped_for_memory.load(Ordering::Relaxed)
    }

    /// Idempotency keys of topics that were put away, which went because there was no memory for them.
    pub fn forgotten_ids(&self) -> u64 {
        self.forgotten_ids.load(Ordering::Relaxed)
    }

    /// Topics there are, without those that are only remembered.
    pub fn len(&self) -> usize {
        lock(&self.index).topics.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, name: &TopicName) -> &RwLock<HashMap<TopicName, Place>> {
        // A name that was made to lie beside others makes one shard slow, and no map: its hash is keyed.
        let bytes = name.as_str().as_bytes();
        let sum = bytes.iter().fold(0_usize, |sum, byte| sum.wrapping_mul(31) + usize::from(*byte));
        &self.shards[sum % SHARDS]
    }

    /// The topic of this name, if there is one.
    pub fn find(&self, name: &TopicName) -> Option<Arc<Topic>> {
        match read(self.shard(name)).get(name) {
            Some(Place::Topic(topic, _)) => Some(Arc::clone(topic)),
            _ => None,
        }
    }

    /// The topic of this name, made for the service itself if there is none.
    ///
    /// # Errors
    /// [`Refusal::Rejected`] where none of this name is made, or no more at all.
    pub fn open(&self, name: &TopicName) -> Result<Arc<Topic>, Refusal> {
        self.open_for(name, Maker::Service)
    }

    /// The same, made for somebody, of whose share it is then a part for as long as it is there.
    ///
    /// # Errors
    /// As for [`open`](Self::open), and where its maker has made as many as one may.
    pub fn open_for(&self, name: &TopicName, maker: Maker<'_>) -> Result<Arc<Topic>, Refusal> {
        if let Some(topic) = self.find(name) {
            return Ok(topic);
        }
        let Some(settings) = self.settings.of(name) else {
            return Err(Refusal::undeclared(name));
        };
        self.make_room(TOPIC_BYTES)?;
        let mut shard = write(self.shard(name));
        let record = match shard.get(name) {
            Some(Place::Topic(topic, _)) => return Ok(Arc::clone(topic)),
            Some(Place::Record(record)) => Some(record),
            None => None,
        };
        let mut index = lock(&self.index);
        let limit = self.settings.limits().topics;
        if index.topics.len() >= limit {
            return Err(Refusal::too_many_topics(limit));
        }
        let share = self.shares.take(maker)?;
        let topic = if settings.kind == Kind::Durable {
            self.create(name, settings, record.and_then(|record| record.epoch))?
        } else {
            self.in_memory(name, settings, record)
        };
        index.topics.insert(name.clone());
        if let Some(Record { since, .. }) = record {
            index.forget(*since, name);
        }
        let before = shard.remove(name);
        let topic = match before {
            Some(Place::Record(Record { ids: Some(ids), .. })) => topic.with_ids(*ids),
            _ => topic,
        };
        let topic = Arc::new(topic);
        shard.insert(name.clone(), Place::Topic(Arc::clone(&topic), share));
        topic.bind();
        Ok(topic)
    }

    /// A topic that goes on where the record of its name says, without the idempotency keys.
    fn in_memory(
        &self,
        name: &TopicName,
        settings: &Arc<TopicSettings>,
        record: Option<&Record>,
    ) -> Topic {
        let floor = || Offset(self.floor.load(Ordering::Acquire));
        let first = record.map_or_else(floor, |record| record.next);
        let is_closed = record.is_some_and(|record| record.is_closed);
        let ended = if is_closed { Ended::Closed } else { Ended::Not };
        let settings = Arc::clone(settings);
        let topic = Topic::new(name.clone(), self.epoch, first, ended, settings, &self.held);
        let floor_time = || self.floor_time.load(Ordering::Acquire);
        let newest = record.map_or(0, |record| record.newest);
        topic.after(newest, record.map_or_else(floor_time, |record| record.gone))
    }

    fn create(
        &self,
        name: &TopicName,
        settings: &Arc<TopicSettings>,
        epoch: Option<Epoch>,
    ) -> Result<Topic, Refusal> {
        let store = self.store.as_deref().ok_or_else(|| Refusal::no_disk(name))?;
        let (recovered, journal) = store.create(name, settings, epoch)?;
        let settings = Arc::clone(settings);
        Ok(Topic::durable(name.clone(), &recovered, journal, settings, &self.held))
    }

    /// Takes a token for a publish from each rate that it counts for: its connection's, that of its sender's
    /// name, and its topic's.
    ///
    /// # Errors
    /// The rate that is exceeded, and the time after which it is not.
    pub fn take_token(
        &self,
        topic: &Topic,
        connection: u64,
        name: Option<&str>,
        now: Now,
    ) -> Result<(), TooFast> {
        fn take<K: Ord>(buckets: &Mutex<Buckets<K>>, key: K, now: Now) -> Result<(), TooFast> {
            let mut buckets = lock(buckets);
            let rate = buckets.rate();
            buckets.try_take(key, now.monotonic).map_err(|wait| TooFast { rate, wait })
        }
        if let Some(buckets) = &self.connection_rates {
            take(buckets, connection, now)?;
        }
        if let (Some(buckets), Some(name)) = (&self.name_rates, name) {
            take(buckets, name.into(), now)?;
        }
        topic.take_token(now)
    }

    /// Publishes a message to the topic of this name, by a sender whose name is authenticated or none, and
    /// keeps the bound on the memory of all. The caller pumps the topic if the answer says so.
    ///
    /// # Errors
    /// Those of [`open`](Self::open) and of [`Topic::publish`].
    pub fn publish(
        &self,
        name: &TopicName,
        sender: Option<&str>,
        publish: &Publish<'_>,
        now: Now,
    ) -> Result<(Published, Arc<Topic>), Refusal> {
        let maker = Maker::of(publish.message.origin, sender);
        let mut topic = match self.open_for(name, maker) {
            Ok(topic) => topic,
            Err(refusal) => return self.find_put_away(name, publish).ok_or(refusal),
        };
        if let Err(too_fast) = self.take_token(&topic, publish.message.origin, sender, now) {
            let found = topic.find(publish).ok_or(too_fast)?;
            return Ok((found, topic));
        }
        loop {
            match self.append(&topic, publish, now) {
                // It went between the two: the next has its name.
                Err(_) if topic.ended() == Ended::Deleted => {
                    topic = self.open_for(name, maker)?;
                }
                published => return Ok((published?, topic)),
            }
        }
    }

    /// The answer to what was published to a topic that was put away, where it cannot be opened: from what is
    /// left of it, and with a topic that nobody else sees.
    fn find_put_away(
        &self,
        name: &TopicName,
        publish: &Publish<'_>,
    ) -> Option<(Published, Arc<Topic>)> {
        let shard = read(self.shard(name));
        let Some(Place::Record(record)) = shard.get(name) else { return None };
        let offset = record.ids.as_ref()?.find(publish.id?)?;
        let settings = self.settings.of(name)?;
        let published = Published::known(self.epoch, offset);
        Some((published, Arc::new(self.in_memory(name, settings, Some(record)))))
    }

    /// Publishes to this topic and to no later one of its name, whatever the rates are.
    ///
    /// # Errors
    /// Those of [`Topic::publish`], and where there is no memory.
    pub fn append(
        &self,
        topic: &Topic,
        publish: &Publish<'_>,
        now: Now,
    ) -> Result<Published, Refusal> {
        if let Err(refusal) = self.make_room(publish.message.data.len()) {
            return topic.find(publish).ok_or(refusal);
        }
        topic.publish(publish, now)
    }

    /// Lets messages of those topics go that hold most, if all together hold more than they may.
    fn make_room(&self, bytes: usize) -> Result<(), Refusal> {
        let limit = self.settings.limits().memory;
        if self.bytes().saturating_add(bytes) <= limit {
            let held = self.exhausted.load(Ordering::Relaxed);
            if held > 0 && self.bytes().saturating_add(limit / FREED_PART) <= held {
                self.exhausted.store(0, Ordering::Relaxed);
            }
            return Ok(());
        }
        // When all have given what they may, nobody is asked again before much of it has gone: to ask all
        // for each message that is refused would cost more than the messages.
        let is_exhausted = || self.exhausted.load(Ordering::Relaxed) > 0;
        if is_exhausted() {
            return Err(Refusal::no_memory(limit));
        }
        // Those who come while one makes room wait for it here.
        let _one_at_a_time = lock(&self.making_room);
        let enough = limit - (limit / FREED_PART).max(bytes).min(limit);
        if self.bytes() > enough && !is_exhausted() {
            let all = self.list(None, "", usize::MAX);
            // Whoever holds most gives way first, a portion at a time.
            let held = all.iter().enumerate().map(|(at, topic)| (topic.bytes(), at));
            let mut by_bytes: BinaryHeap<_> = held.collect();
            while self.bytes() > enough
                && let Some((_, at)) = by_bytes.pop()
            {
                if all[at].give_way() > 0 {
                    self.dropped_for_memory.fetch_add(1, Ordering::Relaxed);
                    by_bytes.push((all[at].bytes(), at));
                }
            }
            self.forget_ids(|| self.bytes() <= enough);
        }
        if self.bytes().saturating_add(bytes) <= limit {
            self.exhausted.store(0, Ordering::Relaxed);
            return Ok(());
        }
        self.exhausted.store(self.bytes(), Ordering::Relaxed);
        Err(Refusal::no_memory(limit))
    }

    /// One more reader.
    ///
    /// # Errors
    /// [`Refusal::Rejected`] where there are as many as allowed.
    pub fn enter(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
        connection: u64,
        wake: impl FnOnce() -> Box<dyn Wake>,
    ) -> Result<Reader, Refusal> {
        let limit = self.settings.limits().subscriptions;
        if self.subscriptions.fetch_add(1, Ordering::Relaxed) >= limit {
            self.subscriptions.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::too_many_subscriptions(limit));
        }
        let limit = topic.settings().max_subscriptions;
        if topic.readers() >= limit {
            self.subscriptions.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::too_many_subscriptions_of(topic.name(), limit));
        }
        let hub = topic.enter(connection, wake);
        let place = topic.enter_place();
        Ok(Reader { topics: Arc::clone(self), topic: Arc::clone(topic), hub, place })
    }

    /// Lets go of what is too old: messages, topics without any, and records. To be called each second; a
    /// call looks at no more than some thousand topics. Those of which readers wait to be told are for the
    /// caller to [pump](Topic::pump).
    pub fn tick(&self, now: Now) -> Vec<Arc<Topic>> {
        let mut to_pump = Vec::new();
        let names: Vec<_> = {
            let mut index = lock(&self.index);
            index.now = now.monotonic;
            let after = match index.ticked.take() {
                Some(name) => Bound::Excluded(name),
                None => Bound::Unbounded,
            };
            let names = index.topics.range((after, Bound::Unbounded));
            let names: Vec<_> = names.take(TOPICS_A_TICK).cloned().collect();
            index.ticked = names.last().cloned().filter(|_| names.len() == TOPICS_A_TICK);
            names
        };
        for name in names {
            if let Some(topic) = self.find(&name) {
                if topic.expire(now) {
                    to_pump.push(Arc::clone(&topic));
                }
                if topic.is_idle() {
                    self.put_away(&topic, Some(now.monotonic));
                }
            }
        }
        let most = self.settings.limits().memory / IDS_PART;
        self.forget_ids(|| self.put_away.bytes() <= most);
        let memory = self.settings.limits().topic_memory;
        self.forget(|index| {
            let oldest = index.records.first()?;
            let is_old = now.monotonic.since(oldest.0) >= memory;
            (is_old || index.records.len() > self.settings.limits().records)
                .then(|| oldest.1.clone())
        });
        to_pump
    }

    /// Keeps no more than a record of a topic that has no messages and that nobody uses, but the caller.
    /// Without the time there can be no record, and a topic that needs one stays.
    fn put_away(&self, topic: &Arc<Topic>, now: Option<Instant>) {
        let name = topic.name();
        let mut shard = write(self.shard(name));
        let is_there =
            matches!(shard.get(name), Some(Place::Topic(there, _)) if Arc::ptr_eq(there, topic));
        // It is here and in the map; nobody else can come to it while the shard is held.
        if !is_there || Arc::strong_count(topic) > 2 || !topic.is_idle() {
            return;
        }
        let mut record = Record::of(topic, now.unwrap_or_default());
        let mut index = lock(&self.index);
        if topic.is_durable() {
            // It never had a message, and its numbering is all there is to be remembered. Where its disk has failed it
            // stays.
            if topic.delete().is_ok() {
                record.since = now.unwrap_or(index.now);
                index.topics.remove(name);
                index.records.insert((record.since, name.clone()));
                shard.insert(name.clone(), Place::Record(record));
            }
            return;
        }
        let has_ids = topic.ids() > 0;
        if !record.is_closed && record.next.0 <= self.floor.load(Ordering::Acquire) && !has_ids {
            // One that is made anew begins no earlier.
            self.floor_time.fetch_max(record.gone, Ordering::AcqRel);
            index.topics.remove(name);
            shard.remove(name);
        } else if now.is_some() {
            index.topics.remove(name);
            index.records.insert((record.since, name.clone()));
            if has_ids {
                index.with_ids.insert((record.since, name.clone()));
                record.ids = Some(Box::new(topic.take_ids().held_by(&self.put_away)));
            }
            shard.insert(name.clone(), Place::Record(record));
        }
    }

    /// Forgets idempotency keys of topics that were put away, until it is enough: those of whichever was put
    /// away first.
    fn forget_ids(&self, is_enough: impl Fn() -> bool) {
        while !is_enough() {
            let Some((_, name)) = lock(&self.index).with_ids.first().cloned() else { return };
            let mut shard = write(self.shard(&name));
            let mut index = lock(&self.index);
            if let Some(Place::Record(record)) = shard.get_mut(&name)
                && let Some(ids) = record.ids.take()
            {
                index.with_ids.remove(&(record.since, name.clone()));
                self.forgotten_ids.fetch_add(ids.len() as u64, Ordering::Relaxed);
            }
        }
    }

    /// Forgets records: the floor rises above all that they gave.
    fn forget(&self, next: impl Fn(&Index) -> Option<TopicName>) {
        loop {
            let Some(name) = next(&lock(&self.index)) else { return };
            let mut shard = write(self.shard(&name));
            let mut index = lock(&self.index);
            if let Some(Place::Record(record)) = shard.get(&name) {
                self.floor.fetch_max(record.next.0, Ordering::AcqRel);
                self.floor_time.fetch_max(record.gone, Ordering::AcqRel);
                index.forget(record.since, &name);
                shard.remove(&name);
            }
        }
    }

    /// Deletes a topic: its readers complete, its messages go. Its offsets are remembered, as those of any
    /// topic that is empty. The topic, for the caller to pump.
    pub fn delete(
        &self,
        name: &TopicName,
        now: Now,
    ) -> Result<Option<(Arc<Topic>, bool)>, Refusal> {
        let mut shard = write(self.shard(name));
        let topic = match shard.get_mut(name) {
            Some(Place::Topic(topic, _)) => Arc::clone(topic),
            Some(Place::Record(record)) => {
                // There is no topic, and there will be none that has seen what this one had.
                lock(&self.index).with_ids.remove(&(record.since, name.clone()));
                (record.ids, record.epoch) = (None, None);
                return Ok(None);
            }
            None => return Ok(None),
        };
        let pump = topic.delete()?;
        let mut index = lock(&self.index);
        index.topics.remove(name);
        if topic.is_durable() {
            // The next of this name has a numbering of its own.
            shard.remove(name);
        } else {
            let record = Record::of(&topic, now.monotonic);
            index.records.insert((record.since, name.clone()));
            shard.insert(name.clone(), Place::Record(record));
        }
        Ok(Some((topic, pump)))
    }

    /// The topics behind this name, in order.
    pub fn list(&self, after: Option<&TopicName>, prefix: &str, at_most: usize) -> Vec<Arc<Topic>> {
        let begin = match after {
            Some(name) => Bound::Excluded(name.as_str()),
            None => Bound::Included(prefix),
        };
        // The index is let go before shards are looked at: who changes both takes the shard first.
        let names: Vec<_> = {
            let index = lock(&self.index);
            let names = index.topics.range::<str, _>((begin, Bound::Unbounded));
            let names = names.take_while(|name| name.as_str().starts_with(prefix));
            names.take(at_most).cloned().collect()
        };
        names.iter().filter_map(|name| self.find(name)).collect()
    }
}

/// A reader of a topic, for as long as this is held.
#[derive(Debug)]
pub struct Reader {
    topics: Arc<Topics>,
    topic: Arc<Topic>,
    hub: Arc<Hub>,
    place: Arc<ReadersPlace>,
}

impl Reader {
    /// The topic it reads.
    #[inline]
    pub fn topic(&self) -> &Arc<Topic> {
        &self.topic
    }

    /// Tells the message that it reads next, for whoever asks who is slow.
    #[inline]
    pub fn tell(&self, next: Offset) {
        self.place.tell(next);
    }

    /// The way to wake its connection's readers, as it was made for the first of them.
    pub fn wake(&self) -> &dyn Wake {
        self.hub.wake()
    }

    /// Has it woken when there are news: see [`Topic::wait`].
    #[inline]
    pub fn wait(&self) {
        self.topic.wait(&self.hub);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.topic.leave(&self.hub);
        self.topic.leave_place(&self.place);
        self.topics.subscriptions.fetch_sub(1, Ordering::Relaxed);
        // Who asks for topics and publishes nothing leaves none behind.
        if self.topic.is_idle() && self.topic.visible() == self.topic.first() {
            self.topics.put_away(&self.topic, None);
        }
    }
}

#[cfg(test)]
mod tests;
