//! The disk's side of a service: what `serve` and the committer's thread do with the engine, one step at a time,
//! over a disk that is cut off and fails.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use crate::topics::{
    DedupKey, Epoch, Journal, Message, Offset, Recovered, Refusal, Staged, Store, SyncMode, Topic,
    TopicName, TopicSettings,
    store::{
        Engine, NewTopic, Record, Retention, Settings, TopicId, TopicState, Unstaged,
        faulty::{Fault, Faulty},
    },
};

/// The store of a service.
#[derive(Clone, Debug)]
pub(crate) struct Shelf(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    disk: Faulty,
    settings: Settings,
    engine: Option<Engine<Faulty>>,
    /// Things that wait for the committer.
    orders: VecDeque<Order>,
    topics: BTreeMap<u64, OfTopic>,
    /// The number of the topic that has a name now.
    named: BTreeMap<TopicName, u64>,
    next: u64,
    /// Random bits for epochs.
    random: u64,
    refusal: Option<Refusal>,
}

/// A topic, by a number that no other has in any life of the service.
#[derive(Debug, Default)]
struct OfTopic {
    id: Option<TopicId>,
    topic: Weak<Topic>,
    /// Messages that wait for the disk.
    waiting: usize,
}

/// A thing to do, in the order in which it was asked for.
#[derive(Debug)]
enum Order {
    Create { number: u64, name: TopicName, epoch: Epoch, is_loose: bool, retention: Retention },
    Append { number: u64, message: Owned },
    Trim { number: u64, base: Offset },
    Delete { number: u64 },
}

/// A message, with all that is kept of it.
#[derive(Debug)]
struct Owned {
    offset: Offset,
    time: u64,
    id: Option<u128>,
    closes: bool,
    data: Vec<u8>,
    from: Option<String>,
    key: Option<String>,
    headers: Option<String>,
}

/// News of a topic, which is to be told.
#[derive(Debug)]
pub(crate) enum News {
    /// Messages before this one count.
    Committed(u64, Offset),
    /// The oldest that is kept is this one.
    Based(u64, Offset),
    /// It is gone.
    Deleted(u64),
}

/// The way in which a committer's turn ended.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Nothing waits.
    Idle,
    /// Something was committed.
    Told(Vec<News>),
    /// The disk has failed.
    Failed(Refusal),
}

fn retention(settings: &TopicSettings) -> Retention {
    let of = settings.retention;
    Retention {
        messages: Some(of.messages),
        bytes: u64::try_from(of.bytes).ok(),
        age_ms: u64::try_from(of.age.as_millis()).ok(),
    }
}

fn staged(record: Record<'_>) -> Staged<'_> {
    let Record { offset, time, id, closes, message } = record;
    let id = id.map(|id| DedupKey([(id >> 64) as u64, id as u64]));
    Staged { offset, time, id, closes, message }
}

impl Shelf {
    /// A store on an empty disk.
    pub(crate) fn new(seed: u64, settings: Settings) -> Self {
        let mut inner = Inner {
            disk: Faulty::new(seed),
            settings,
            engine: None,
            orders: VecDeque::new(),
            topics: BTreeMap::new(),
            named: BTreeMap::new(),
            next: 1,
            random: seed,
            refusal: None,
        };
        inner.open();
        Self(Arc::new(Mutex::new(inner)))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the topic that has this name now.
    pub(crate) fn number(&self, name: &TopicName) -> u64 {
        self.inner().named.get(name).copied().unwrap_or(0)
    }

    /// Messages of a topic that wait for the disk.
    pub(crate) fn waiting(&self, number: u64) -> usize {
        self.inner().topics.get(&number).map_or(0, |of| of.waiting)
    }

    /// The oldest message of a topic that is on the disk.
    pub(crate) fn base(&self, number: u64) -> u64 {
        let inner = self.inner();
        let id = inner.topics.get(&number).and_then(|of| of.id);
        let state = id.and_then(|id| inner.engine.as_ref()?.topic(id));
        state.map_or(0, |state| state.base.0)
    }

    pub(crate) fn topic(&self, number: u64) -> Option<Arc<Topic>> {
        self.inner().topics.get(&number)?.topic.upgrade()
    }

    /// All topics of this life of the service.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.inner().topics.keys().copied().collect()
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.inner().refusal.is_some()
    }

    /// Lets a call fail: the next is 1.
    pub(crate) fn fail_at(&self, call: u64) {
        self.inner().disk.fail_at(call, Fault::Error);
    }

    /// Whether something waits for the committer.
    pub(crate) fn has_orders(&self) -> bool {
        let inner = self.inner();
        let engine = inner.engine.as_ref();
        !inner.orders.is_empty() || engine.is_some_and(|engine| engine.staged_bytes() > 0)
    }

    /// Takes what waits, and commits it. `between` is what others do meanwhile: between two steps.
    pub(crate) fn commit(&self, now: u64, between: impl Fn()) -> Turn {
        self.stage();
        between();
        let mut tries = 0;
        let job = loop {
            let mut inner = self.inner();
            let Some(engine) = &mut inner.engine else { return Turn::Idle };
            match engine.commit() {
                Ok(Some(job)) => break job,
                Ok(None) if engine.failed().is_some() => {
                    drop(inner);
                    return self.failed();
                }
                Ok(None) => return Turn::Idle,
                Err(_) => {
                    drop(inner);
                    tries += 1;
                    assert!(tries < 1_000, "no room is made");
                    if !self.behind(now) {
                        return self.failed();
                    }
                }
            }
        };
        let disk = self.inner().disk.clone();
        let written = job.run(&disk);
        between();
        let mut inner = self.inner();
        let Some(engine) = &mut inner.engine else { return Turn::Idle };
        let Ok(outcome) = engine.finish_commit(written) else {
            drop(inner);
            return self.failed();
        };
        let bases: Vec<_> = outcome.changed.iter().filter_map(|id| engine.topic(*id)).collect();
        let numbers: BTreeMap<_, _> =
            inner.topics.iter().filter_map(|(number, of)| Some((of.id?, *number))).collect();
        for of in inner.topics.values_mut() {
            // All that was staged is in this batch, or waits as an order.
            of.waiting = 0;
        }
        let Inner { orders, topics, .. } = &mut *inner;
        for order in orders.iter() {
            if let Order::Append { number, .. } = order
                && let Some(of) = topics.get_mut(number)
            {
                of.waiting += 1;
            }
        }
        let number = |id: &TopicId| numbers.get(id).copied().unwrap_or(0);
        let moved = outcome.moved.iter().map(|(id, next)| News::Committed(number(id), *next));
        let based = bases.iter().map(|state| News::Based(number(&state.id), state.base));
        let deleted = outcome.deleted.iter().map(|id| News::Deleted(number(id)));
        Turn::Told(moved.chain(based).chain(deleted).collect())
    }

    /// Gives orders to the engine, as far as a batch holds them.
    fn stage(&self) {
        let mut inner = self.inner();
        let Inner { engine: Some(engine), orders, topics, .. } = &mut *inner else { return };
        if engine.failed().is_some() {
            return;
        }
        while let Some(order) = orders.pop_front() {
            let id = |number: &u64| topics.get(number).and_then(|of| of.id).unwrap_or(TopicId(0));
            let done = match &order {
                Order::Create { number, name, epoch, is_loose, retention } => {
                    let new = NewTopic {
                        name,
                        epoch: *epoch,
                        first: Offset(1),
                        is_loose: *is_loose,
                        settings: "",
                        retention: *retention,
                    };
                    let made = engine.create(&new);
                    made.map(|id| topics.entry(*number).or_default().id = Some(id))
                }
                Order::Append { number, message } => {
                    let Owned { offset, time, id: key, closes, .. } = *message;
                    let of = Message {
                        data: &message.data,
                        from: message.from.as_deref(),
                        key: message.key.as_deref(),
                        headers: message.headers.as_deref(),
                        ..Message::default()
                    };
                    engine
                        .append(id(number), &Record { offset, time, id: key, closes, message: of })
                }
                Order::Trim { number, base } => engine.trim(id(number), *base),
                Order::Delete { number } => engine.delete(id(number)),
            };
            match done {
                Ok(()) => {}
                Err(Unstaged::Later) => {
                    orders.push_front(order);
                    return;
                }
                Err(Unstaged::Refused(refusal)) => {
                    panic!("refused when it had been taken: {refusal}: {order:?}")
                }
            }
        }
    }

    /// Does some of the work behind the journal. False if the disk has failed.
    pub(crate) fn behind(&self, now: u64) -> bool {
        let mut inner = self.inner();
        let Inner { engine: Some(engine), disk, .. } = &mut *inner else { return true };
        let synced = engine.sync().map(|job| job.run(disk));
        if synced.is_some_and(|synced| engine.finish_sync(synced).is_err()) {
            return false;
        }
        engine.expire(now);
        for _ in 0..16 {
            match engine.step(now) {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => return false,
            }
        }
        let passed = engine.barrier().map(|barrier| barrier.run(disk));
        passed.is_none_or(|passed| engine.finish_barrier(passed).is_ok())
    }

    /// The disk has failed: nothing is taken any more.
    pub(crate) fn failed(&self) -> Turn {
        let mut inner = self.inner();
        let refusal = inner.engine.as_ref().and_then(|engine| engine.admit().err());
        let refusal = refusal.unwrap_or_else(|| Refusal::failed("outcome unknown: no disk"));
        inner.refusal = Some(refusal.clone());
        inner.orders.clear();
        Turn::Failed(refusal)
    }

    /// Ends the engine: in order, by a kill, or by a cut of the power. Whether something written may be lost.
    pub(crate) fn end(&self, is_orderly: bool, is_cut: bool, now: u64) -> bool {
        let mut inner = self.inner();
        let engine = inner.engine.take();
        let mut has_failed = inner.refusal.is_some() || inner.disk.has_failed();
        if let Some(mut engine) = engine.filter(|_| is_orderly) {
            has_failed |= engine.close(now).is_err();
        }
        if is_cut {
            inner.disk.cut();
        } else {
            inner.disk.kill();
        }
        (inner.refusal, inner.random) =
            (None, inner.random.wrapping_mul(0x5851_f42d_4c95_7f2d) + 1);
        inner.orders.clear();
        inner.topics.clear();
        inner.named.clear();
        inner.open();
        is_cut || has_failed
    }

    /// The topics that are on the disk.
    pub(crate) fn states(&self) -> Vec<TopicState> {
        let inner = self.inner();
        inner.engine.iter().flat_map(|engine| engine.topics().collect::<Vec<_>>()).collect()
    }

    /// The number of a topic on the disk, in the life before.
    pub(crate) fn id_of(&self, number: u64) -> Option<TopicId> {
        self.inner().topics.get(&number)?.id
    }

    /// A topic that was found on the disk: its number, and its journal.
    pub(crate) fn attach(
        &self,
        state: &TopicState,
        settings: &TopicSettings,
    ) -> (u64, Box<dyn Journal>) {
        let mut inner = self.inner();
        let number = inner.take_number(&state.name);
        inner.topics.entry(number).or_default().id = Some(state.id);
        if let Some(engine) = &mut inner.engine {
            engine.set_retention(state.id, retention(settings));
        }
        drop(inner);
        (number, self.journal(number, settings))
    }

    /// A reader of a topic that was found.
    pub(crate) fn attach_reader(&self, state: &TopicState) -> Box<dyn Journal> {
        let (shelf, number) = (self.clone(), self.number(&state.name));
        Box::new(Files { shelf, number, most: 0 })
    }

    fn journal(&self, number: u64, settings: &TopicSettings) -> Box<dyn Journal> {
        Box::new(Files { shelf: self.clone(), number, most: settings.pending.messages })
    }
}

impl Inner {
    fn open(&mut self) {
        let random = [self.random, self.random + 1, self.random + 2];
        let opened = Engine::open(self.disk.clone(), self.settings, random);
        let engine = opened.unwrap_or_else(|error| panic!("it is not opened again: {error}"));
        assert!(engine.notes().is_empty(), "a crash looks like damage: {:?}", engine.notes());
        self.engine = Some(engine);
    }

    fn take_number(&mut self, name: &TopicName) -> u64 {
        self.next += 1;
        self.named.insert(name.clone(), self.next);
        self.topics.insert(self.next, OfTopic::default());
        self.next
    }
}

impl Store for Shelf {
    fn create(
        &self,
        name: &TopicName,
        settings: &TopicSettings,
        epoch: Option<Epoch>,
    ) -> Result<(Recovered, Box<dyn Journal>), Refusal> {
        let mut inner = self.inner();
        if let Some(refusal) = &inner.refusal {
            return Err(refusal.clone());
        }
        let number = inner.take_number(name);
        let other = Epoch(inner.random.rotate_left(17) ^ number);
        let epoch = epoch.unwrap_or(other);
        let is_loose = settings.sync != SyncMode::Always;
        let (name, retention) = (name.clone(), retention(settings));
        inner.orders.push_back(Order::Create { number, name, epoch, is_loose, retention });
        drop(inner);
        let (base, next) = (Offset(1), Offset(1));
        let recovered = Recovered { epoch, base, next, is_closed: false, time: 0, damage: None };
        Ok((recovered, self.journal(number, settings)))
    }
}

/// The files of one topic.
#[derive(Debug)]
struct Files {
    shelf: Shelf,
    number: u64,
    /// Messages that may wait.
    most: usize,
}

impl Files {
    fn order(&self, order: Order) -> Result<(), Refusal> {
        let mut inner = self.shelf.inner();
        if let Some(refusal) = &inner.refusal {
            return Err(refusal.clone());
        }
        inner.orders.push_back(order);
        Ok(())
    }
}

impl Journal for Files {
    fn bind(&self, topic: &Arc<Topic>) {
        if let Some(of) = self.shelf.inner().topics.get_mut(&self.number) {
            of.topic = Arc::downgrade(topic);
        }
    }

    fn take(&self, staged: &Staged<'_>) -> Result<(), Refusal> {
        if let Some(of) = self.shelf.inner().topics.get_mut(&self.number) {
            if of.waiting >= self.most {
                return Err(Refusal::disk_behind(self.number));
            }
            of.waiting += 1;
        }
        let Staged { offset, time, id, closes, message } = *staged;
        let id = id.map(|DedupKey([high, low])| u128::from(high) << 64 | u128::from(low));
        let message = Owned {
            offset,
            time,
            id,
            closes,
            data: message.data.to_vec(),
            from: message.from.map(str::to_owned),
            key: message.key.map(str::to_owned),
            headers: message.headers.map(str::to_owned),
        };
        self.order(Order::Append { number: self.number, message })
    }

    fn read(
        &self,
        from: Offset,
        max_bytes: usize,
        give: &mut dyn FnMut(Staged<'_>),
    ) -> Result<Offset, Refusal> {
        let mut inner = self.shelf.inner();
        let id = inner.topics.get(&self.number).and_then(|of| of.id).unwrap_or(TopicId(0));
        let Inner { engine: Some(engine), disk, .. } = &mut *inner else {
            return Err(Refusal::failed("cannot be read: no disk"));
        };
        let block = engine.read(id, from, max_bytes)?.read(disk);
        drop(inner);
        let block =
            block.map_err(|error| Refusal::failed(format_args!("cannot be read: {error}")))?;
        block.records().map(staged).for_each(give);
        Ok(block.next())
    }

    fn trim(&self, base: Offset) -> Result<(), Refusal> {
        self.order(Order::Trim { number: self.number, base })
    }

    fn delete(&self) -> Result<(), Refusal> {
        self.order(Order::Delete { number: self.number })
    }
}
