//! The committer: a thread that takes all that waits, commits it at once, and tells whose it is.
//!
//! No timer gathers a group: while one is synced the next comes together.

use std::{
    fmt, io,
    sync::Arc,
    thread::{Builder, JoinHandle},
    time::Duration,
};

use rustc_hash::FxHashMap;
use serde::{Serialize, Serializer};

use super::{
    Behind, Block, Disk, Engine, NewTopic, Outcome, Retention, StoreError, TopicId, TopicState,
    Unstaged,
    intake::{Done, Durable, Intake, Order, Shared, Terms},
};
use crate::{
    memory::Held,
    position::Offset,
    refusal::Refusal,
    sync::{AtomicU64, Mutex, Ordering, PoisonError, lock},
    time::{Instant, Now},
};

/// Pieces of work behind the journal that are done between two commits while more waits.
const STEPS_BETWEEN: usize = 16;
/// Time after which there is something to look at though nobody has asked: the age of messages, a disk that
/// was full.
const IDLE: Duration = Duration::from_secs(1);

/// A store whose committer runs. The last to let go of it ends it.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    engine: Arc<dyn Look>,
    thread: Mutex<Option<JoinHandle<Result<(), StoreError>>>>,
    damaged_reads: AtomicU64,
}

/// How the store is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StoreFigures {
    /// Bytes of all files, and of what goes there.
    pub bytes: u64,
    /// Bytes of messages that wait for the disk.
    pub waiting_bytes: usize,
    /// Files of the journal whose records are not safe in segments yet.
    pub waiting_files: usize,
    /// Bytes of memory that it takes to know the topics and the pieces of their logs. They are part of those
    /// of all logs.
    pub known_bytes: usize,
    /// Reads that met what is not what was written there: messages are lost.
    pub damaged_reads: u64,
    /// The reason why no message is taken.
    #[serde(serialize_with = "as_text")]
    pub refusal: Option<Refusal>,
}

fn as_text<S: Serializer>(refusal: &Option<Refusal>, serializer: S) -> Result<S::Ok, S::Error> {
    refusal.as_ref().map(ToString::to_string).serialize(serializer)
}

/// An engine, whatever its disk.
trait Look: fmt::Debug + Send + Sync {
    fn read(&self, topic: TopicId, from: Offset, max_bytes: usize) -> Result<Block, Refusal>;
    fn topic(&self, topic: TopicId) -> Option<TopicState>;
    fn figures(&self) -> StoreFigures;
}

impl<D: Disk> Look for Mutex<Engine<D>> {
    fn read(&self, topic: TopicId, from: Offset, max_bytes: usize) -> Result<Block, Refusal> {
        let mut engine = lock(self);
        let disk = Arc::clone(engine.disk());
        let source = engine.read(topic, from, max_bytes)?;
        drop(engine);
        let read = source.read(&*disk);
        read.map_err(|error| Refusal::failed(format_args!("cannot be read: {error}")))
    }

    fn topic(&self, topic: TopicId) -> Option<TopicState> {
        lock(self).topic(topic)
    }

    fn figures(&self) -> StoreFigures {
        let engine = lock(self);
        StoreFigures {
            bytes: engine.bytes(),
            waiting_files: engine.waiting_files(),
            known_bytes: engine.known_bytes(),
            ..StoreFigures::default()
        }
    }
}

impl Store {
    /// Starts the committer of an engine. `max_waiting_bytes` bounds the messages that wait, of all topics
    /// together; the memory that it takes to know the topics is counted in `held`; `clock` tells the time.
    ///
    /// # Errors
    /// The system's, if it starts no thread.
    pub fn start<D: Disk>(
        engine: Engine<D>,
        max_waiting_bytes: usize,
        held: Arc<Held>,
        clock: impl Fn() -> Now + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Shared::new(max_waiting_bytes, engine.max_record(), engine.next_topic());
        let disk = Arc::clone(engine.disk());
        let engine = Arc::new(Mutex::new(engine));
        let mut committer = Committer {
            engine: Arc::clone(&engine),
            disk,
            shared: Arc::clone(&shared),
            clock: Box::new(clock),
            topics: FxHashMap::default(),
            flying: Vec::new(),
            done: Vec::new(),
            held,
            synced_at: Instant(0),
            expired_at: Instant(0),
        };
        committer.admit();
        let thread = Builder::new().name("rsock-committer".to_owned());
        let watch = Watch(Arc::clone(&shared));
        let thread = thread.spawn(move || {
            let _watch = watch;
            committer.run()
        })?;
        let thread = Mutex::new(Some(thread));
        Ok(Self { shared, engine, thread, damaged_reads: AtomicU64::new(0) })
    }

    /// Makes a topic, which takes messages at once. It is there after a crash if one of its messages was
    /// committed, or if [`after`](Self::after) has said so.
    ///
    /// # Errors
    /// The disk has failed, or is full.
    pub fn create(&self, new: &NewTopic<'_>, terms: Terms) -> Result<Arc<Durable>, Refusal> {
        self.shared.create(new, terms)
    }

    /// Goes on with a topic that was there when the engine was opened.
    ///
    /// # Errors
    /// The disk has failed.
    pub fn attach(
        &self,
        state: &TopicState,
        retention: Retention,
        terms: Terms,
    ) -> Result<Arc<Durable>, Refusal> {
        self.shared.attach(state, retention, terms)
    }

    /// Gives a topic other settings.
    ///
    /// # Errors
    /// The disk has failed.
    pub fn configure(
        &self,
        topic: TopicId,
        is_loose: bool,
        settings: String,
    ) -> Result<(), Refusal> {
        self.shared.order(Order::Configure { topic, is_loose, settings })
    }

    /// Drops messages below an offset.
    ///
    /// # Errors
    /// The disk has failed.
    pub fn trim(&self, topic: TopicId, base: Offset) -> Result<(), Refusal> {
        self.shared.order(Order::Trim(topic, base))
    }

    /// Lets a damaged topic go on without what is lost, when it is attached again.
    ///
    /// # Errors
    /// The disk has failed.
    pub fn accept_damage(&self, topic: TopicId) -> Result<(), Refusal> {
        self.shared.order(Order::AcceptDamage(topic))
    }

    /// Deletes a topic. Nothing is appended to it any more.
    ///
    /// # Errors
    /// The disk has failed.
    pub fn delete(&self, topic: TopicId) -> Result<(), Refusal> {
        self.shared.order(Order::Delete(topic))
    }

    /// Calls when all that was asked for before is on disk, or never will be.
    ///
    /// # Errors
    /// The disk has failed, and nobody will call.
    pub fn after(
        &self,
        done: impl FnOnce(Result<(), Refusal>) + Send + 'static,
    ) -> Result<(), Refusal> {
        self.shared.order(Order::After(Box::new(done)))
    }

    /// Records of a topic that are committed, from an offset on: as many as fit in so many bytes, and one at
    /// least. It reads a file, so it belongs on a thread that may wait.
    ///
    /// # Errors
    /// The topic is gone, or the disk fails.
    pub fn read(&self, topic: TopicId, from: Offset, max_bytes: usize) -> Result<Block, Refusal> {
        let block = self.engine.read(topic, from, max_bytes)?;
        if let Some(lost) = &block.damage {
            self.damaged_reads.fetch_add(1, Ordering::Relaxed);
            self.shared.note_damage(topic, lost);
        }
        Ok(block)
    }

    /// A topic, as it is on disk.
    pub fn topic(&self, topic: TopicId) -> Option<TopicState> {
        self.engine.topic(topic)
    }

    /// How it is.
    pub fn figures(&self) -> StoreFigures {
        let figures = self.engine.figures();
        let intake = lock(&self.shared.intake);
        let (waiting_bytes, refusal) = (intake.waiting, intake.refusal.clone());
        let damaged_reads = self.damaged_reads.load(Ordering::Relaxed);
        StoreFigures { waiting_bytes, damaged_reads, refusal, ..figures }
    }

    /// Commits what waits, and ends in order. Waits for the disk. What was written can be read until the store
    /// is dropped; then the directory is free for others.
    ///
    /// # Errors
    /// The disk's error. What was acknowledged is safe all the same.
    pub fn close(&self) -> Result<(), StoreError> {
        lock(&self.shared.intake).is_closing = true;
        self.shared.work.notify_all();
        let Some(thread) = lock(&self.thread).take() else { return Ok(()) };
        thread.join().unwrap_or_else(|_| {
            Err(StoreError::Unusable("the committer has panicked: this is a bug".to_owned()))
        })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Whoever wants to know has closed it before.
        let _ = self.close();
    }
}

/// Gives an order to the engine.
fn stage<D: Disk>(engine: &mut Engine<D>, order: &Order, bytes: &[u8]) -> Result<(), Unstaged> {
    match order {
        Order::Create(topic, new) => {
            let (name, id) = (topic.name(), topic.id());
            let (epoch, first, is_loose) = (new.epoch, new.first, new.is_loose);
            let (settings, retention) = (&new.settings[..], new.retention);
            let new = NewTopic { name, epoch, first, is_loose, settings, retention };
            engine.create_as(id, &new)
        }
        Order::Attach(topic, retention) => {
            engine.set_retention(topic.id(), *retention);
            Ok(())
        }
        Order::Append { start, len, .. } => engine.append_written(&bytes[*start..*start + *len]),
        Order::Configure { topic, is_loose, settings } => {
            engine.configure(*topic, *is_loose, settings)
        }
        Order::Trim(topic, base) => engine.trim(*topic, *base),
        Order::NoteDamage(topic, lost) => engine.note_damage(*topic, Offset(lost.from), &lost.text),
        Order::AcceptDamage(topic) => engine.accept_damage(*topic),
        Order::Delete(topic) => engine.delete(*topic),
        Order::After(_) => Ok(()),
    }
}

/// A guard of publishers: nobody waits in vain for a committer that has ended.
struct Watch(Arc<Shared>);

impl Drop for Watch {
    fn drop(&mut self) {
        let mut intake = lock(&self.0.intake);
        intake.has_failed = true;
        if intake.refusal.is_none() {
            let text = "outcome unknown: the thread that writes to the disk has ended";
            intake.refusal = Some(Refusal::failed(text));
        }
    }
}

/// The committer's own.
struct Committer<D: Disk> {
    engine: Arc<Mutex<Engine<D>>>,
    disk: Arc<D>,
    shared: Arc<Shared>,
    clock: Box<dyn Fn() -> Now + Send>,
    topics: FxHashMap<TopicId, Arc<Durable>>,
    /// Messages that are staged, with their bytes.
    flying: Vec<(Arc<Durable>, usize)>,
    /// Those to be told when what is staged is on disk.
    done: Vec<Done>,
    /// The memory that it takes to know the topics, as part of that of all logs.
    held: Arc<Held>,
    /// When what is written without a sync was last synced.
    synced_at: Instant,
    expired_at: Instant,
}

impl<D: Disk> Committer<D> {
    fn run(mut self) -> Result<(), StoreError> {
        let mut has_more = true;
        loop {
            let (orders, bytes, is_closing) = self.take(has_more);
            let is_idle = orders.is_empty();
            self.carry_out(orders, &bytes);
            self.commit();
            has_more = self.behind();
            self.admit();
            if is_closing && is_idle {
                return self.end();
            }
        }
    }

    /// Waits until there is something to do, and takes it.
    fn take(&mut self, has_more: bool) -> (Vec<Order>, Vec<u8>, bool) {
        let is_synced = lock(&self.engine).is_synced();
        let mut intake = lock(&self.shared.intake);
        let is_nothing = |intake: &mut Intake| {
            intake.orders.is_empty() && intake.passed.is_none() && !intake.is_closing
        };
        if !has_more && is_nothing(&mut intake) {
            let within = intake.sync_within.filter(|_| !is_synced).unwrap_or(IDLE).min(IDLE);
            let waited = self.shared.work.wait_timeout_while(intake, within, is_nothing);
            intake = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let orders = std::mem::take(&mut intake.orders);
        (orders, std::mem::take(&mut intake.bytes), intake.is_closing)
    }

    fn carry_out(&mut self, orders: Vec<Order>, bytes: &[u8]) {
        let engine = Arc::clone(&self.engine);
        let mut orders = orders.into_iter();
        let mut waits = None;
        while let Some(order) = waits.take().or_else(|| orders.next()) {
            let mut locked = lock(&engine);
            let mut staged = stage(&mut locked, &order, bytes);
            let mut order = order;
            while staged == Ok(()) {
                self.carried_out(order);
                order = match orders.next() {
                    Some(order) => order,
                    None => return,
                };
                staged = stage(&mut locked, &order, bytes);
            }
            drop(locked);
            match staged {
                Ok(()) => {}
                Err(Unstaged::Refused(refusal)) => self.refused(order, &refusal),
                Err(Unstaged::Later) => {
                    self.commit();
                    self.behind();
                    waits = Some(order);
                }
            }
        }
    }

    fn carried_out(&mut self, order: Order) {
        match order {
            Order::Create(topic, _) | Order::Attach(topic, _) => {
                self.topics.insert(topic.id(), topic);
            }
            Order::Append { topic, len, .. } => self.flying.push((topic, len)),
            Order::After(done) => self.done.push(done),
            Order::Configure { .. }
            | Order::Trim(..)
            | Order::NoteDamage(..)
            | Order::AcceptDamage(_) => {}
            Order::Delete(topic) => drop(self.topics.remove(&topic)),
        }
    }

    /// Ends the topic of an order that was taken and cannot be done: it would have a hole otherwise.
    fn refused(&mut self, order: Order, refusal: &Refusal) {
        match order {
            Order::Append { topic, len, .. } => {
                self.release(&topic, len);
                topic.end(refusal);
            }
            Order::Create(topic, _) => topic.end(refusal),
            Order::After(done) => done(Err(refusal.clone())),
            _ => {}
        }
    }

    fn release(&self, topic: &Durable, bytes: usize) {
        topic.release(bytes);
        lock(&self.shared.intake).waiting -= bytes;
    }

    /// Commits what is staged, and tells whose it is.
    fn commit(&mut self) {
        loop {
            let job = lock(&self.engine).commit();
            match job {
                Ok(Some(job)) => {
                    let committed = job.run(&*self.disk);
                    let result = lock(&self.engine).finish_commit(committed);
                    match result {
                        Ok(outcome) => self.tell(&outcome),
                        Err(_) => self.fail(),
                    }
                    return;
                }
                Ok(None) => break,
                Err(Behind) => {
                    if self.behind() {
                        continue;
                    }
                    let (failed, full) = {
                        let engine = lock(&self.engine);
                        (engine.failed().is_some(), engine.admit().err())
                    };
                    if failed {
                        break;
                    }
                    let is_closing = lock(&self.shared.intake).is_closing;
                    if let Some(full) = full.filter(|_| is_closing) {
                        // Nobody makes room any more.
                        lock(&self.engine).fail(StoreError::Unusable(full.to_string()));
                        break;
                    }
                    self.wait_for_barrier();
                }
            }
        }
        if lock(&self.engine).failed().is_some() {
            self.fail();
        } else if !self.done.is_empty() && self.sync() {
            // Nothing was staged: what was asked for before is done.
            for done in std::mem::take(&mut self.done) {
                done(Ok(()));
            }
        }
    }

    /// Waits for the barrier that is under way, or for room on the disk.
    fn wait_for_barrier(&self) {
        let intake = lock(&self.shared.intake);
        let waits = |intake: &mut Intake| intake.passed.is_none();
        drop(self.shared.work.wait_timeout_while(intake, IDLE / 10, waits));
    }

    fn tell(&mut self, outcome: &Outcome) {
        let bytes: usize = self.flying.iter().map(|(_, bytes)| bytes).sum();
        lock(&self.shared.intake).waiting -= bytes;
        for (topic, bytes) in self.flying.drain(..) {
            topic.release(bytes);
        }
        for (topic, next) in &outcome.moved {
            if let Some(topic) = self.topics.get(topic) {
                topic.listener.committed(*next, outcome.is_synced);
            }
        }
        for id in &outcome.changed {
            let state = lock(&self.engine).base_and_damage(*id);
            if let (Some(topic), Some((base, damage))) = (self.topics.get(id), state) {
                topic.listener.based(base);
                if let Some(damage) = damage {
                    topic.damage(&damage);
                }
            }
        }
        if !self.done.is_empty() && (outcome.is_synced || self.sync()) {
            for done in std::mem::take(&mut self.done) {
                done(Ok(()));
            }
        }
    }

    /// Syncs what was written without. False if the disk has failed.
    fn sync(&mut self) -> bool {
        self.synced_at = (self.clock)().monotonic;
        let job = lock(&self.engine).sync();
        let Some(job) = job else { return true };
        let synced = job.run(&*self.disk);
        let result = lock(&self.engine).finish_sync(synced);
        if result.is_err() {
            self.fail();
        }
        result.is_ok()
    }

    /// Does some of the work behind the journal. Whether there is more.
    fn behind(&mut self) -> bool {
        let now = (self.clock)();
        let (passed, within) = {
            let mut intake = lock(&self.shared.intake);
            (intake.passed.take(), intake.sync_within)
        };
        if let Some(passed) = passed {
            let result = lock(&self.engine).finish_barrier(passed);
            if result.is_err() {
                self.fail();
                return false;
            }
        }
        let is_due = within.is_some_and(|within| now.monotonic.since(self.synced_at) >= within);
        let wants_sync = is_due || lock(&self.engine).wants_sync();
        if wants_sync && !self.sync() {
            return false;
        }
        if now.monotonic.since(self.expired_at) >= IDLE {
            self.expired_at = now.monotonic;
            lock(&self.engine).expire(now.unix_ms);
        }
        let mut has_more = true;
        for _ in 0..STEPS_BETWEEN {
            let step = lock(&self.engine).step(now.unix_ms);
            has_more = match step {
                Ok(has_more) => has_more,
                Err(_) => {
                    self.fail();
                    return false;
                }
            };
            if !has_more {
                break;
            }
        }
        let barrier = lock(&self.engine).barrier();
        if let Some(barrier) = barrier {
            let (disk, shared) = (Arc::clone(&self.disk), Arc::clone(&self.shared));
            let pass = move || {
                let passed = barrier.run(&*disk);
                lock(&shared.intake).passed = Some(passed);
                shared.work.notify_all();
            };
            // It takes as long as the disk does, and commits go on beside it. There is one at a time.
            match Builder::new().name("rsock-barrier".to_owned()).spawn(pass) {
                Ok(_) => {}
                Err(error) => {
                    let error = StoreError::new("start a thread for", "", error);
                    drop(lock(&self.engine).fail(error));
                    self.fail();
                    return false;
                }
            }
        }
        // What retention has staged is committed with the next group, or alone.
        has_more || lock(&self.engine).staged_bytes() > 0
    }

    /// Tells publishers whether messages are taken, and what memory the topics take.
    fn admit(&mut self) {
        let (refusal, known) = {
            let engine = lock(&self.engine);
            (engine.admit().err(), engine.known_bytes())
        };
        let counted = self.held.bytes();
        self.held.add(known.saturating_sub(counted));
        self.held.release(counted.saturating_sub(known));
        let mut intake = lock(&self.shared.intake);
        if !intake.has_failed {
            intake.refusal = refusal;
        }
    }

    /// Tells everybody that the disk has failed; once.
    fn fail(&mut self) {
        let Err(refusal) = lock(&self.engine).admit() else { return };
        let orders = {
            let mut intake = lock(&self.shared.intake);
            intake.refusal = Some(refusal.clone());
            intake.has_failed = true;
            std::mem::take(&mut intake.orders)
        };
        for order in orders {
            self.refused(order, &refusal);
        }
        for (topic, bytes) in std::mem::take(&mut self.flying) {
            self.release(&topic, bytes);
        }
        for done in std::mem::take(&mut self.done) {
            done(Err(refusal.clone()));
        }
        for topic in std::mem::take(&mut self.topics).into_values() {
            topic.end(&refusal);
        }
    }

    /// Ends in order.
    fn end(mut self) -> Result<(), StoreError> {
        let failed = lock(&self.engine).failed().cloned();
        if let Some(failed) = failed {
            return Err(StoreError::Unusable(failed.to_string()));
        }
        // A barrier that is under way writes the same file.
        while lock(&self.engine).has_barrier() {
            self.wait_for_barrier();
            self.behind();
        }
        let now = (self.clock)().unix_ms;
        let result = lock(&self.engine).close(now);
        let refusal = Refusal::rejected("draining: the store is closed");
        lock(&self.shared.intake).refusal.get_or_insert(refusal);
        result
    }
}
