//! The work that goes through the disk: commits, publishers who wait for them, readers who are read for, and the start of a
//! service that finds its topics again.

use std::{
    cell::Cell,
    ops::Range,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use crate::{
    broken::hold,
    model::{Life, Sent},
    shelf::{News, Turn},
    subscription::{Reads, Subscription},
    topics::{
        Fill, Kind, Offset, Position, Recovered, Refusal, Segment, SyncMode, Topic, TopicSettings,
        Topics,
        store::{TopicId, TopicState},
    },
    world::World,
};

/// The part of a life that is on the disk.
#[derive(Debug, Default)]
pub(crate) struct OnDisk {
    /// The number that the store has given it.
    pub(crate) number: u64,
    /// Its place on the disk, once that is known.
    pub(crate) id: Cell<Option<TopicId>>,
    /// The end of what readers see.
    pub(crate) committed: Cell<u64>,
    pub(crate) is_loose: bool,
    /// The last message, which may be on its way.
    pub(crate) closing: Cell<Option<u64>>,
    pub(crate) has_failed: Cell<bool>,
    /// The base that the disk has told.
    pub(crate) trimmed: Cell<u64>,
    /// The disk has said that it is gone.
    pub(crate) is_gone: Cell<bool>,
}

/// A publisher who waits for the disk.
pub(crate) struct Ack {
    pub(crate) life: Rc<Life>,
    pub(crate) offset: u64,
    woken: Arc<Flag>,
}

#[derive(Debug, Default)]
pub(crate) struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Messages that are read for a reader, or have been.
#[derive(Debug)]
pub(crate) enum Load {
    Wanted(Range<Offset>),
    Given(Option<Arc<Segment>>, Offset),
}

/// A service that is started: what it finds, and what it has to find.
struct Found<'a> {
    state: &'a TopicState,
    before: Rc<Life>,
    /// Something that was written may be lost.
    is_torn: bool,
}

impl World {
    /// The disk does something.
    pub(crate) fn act_on_disk(self: &Rc<Self>) {
        match self.below(16) {
            0..8 => self.commit(),
            8..13 => self.finish_load(),
            13 => self.work_behind(),
            14 => self.send_some(),
            _ if self.depth.get() == 0 && self.one_in(6) => self.restart(),
            _ => {}
        }
    }

    /// The committer has its turn. Whether there is more for it to do.
    pub(crate) fn commit(self: &Rc<Self>) {
        let Some(shelf) = self.shelf.clone() else { return };
        if shelf.has_failed() || self.is_committing.replace(true) {
            return;
        }
        if self.plan.disk_fails && self.one_in(60) {
            shelf.fail_at(1 + u64::from(self.below(8)));
        }
        let turn = shelf.commit(self.now.get().unix_ms, || self.intrude());
        self.say(|| format!("committed: {turn:?}"));
        match turn {
            Turn::Idle => {}
            Turn::Told(news) => news.into_iter().for_each(|news| self.tell(news)),
            Turn::Failed(refusal) => self.disk_failed(&refusal),
        }
        self.is_committing.set(false);
        self.look_at_acks();
    }

    fn work_behind(self: &Rc<Self>) {
        let Some(shelf) = self.shelf.clone() else { return };
        if shelf.has_failed() || self.is_committing.replace(true) {
            return;
        }
        if !shelf.behind(self.now.get().unix_ms)
            && let Turn::Failed(refusal) = shelf.failed()
        {
            self.disk_failed(&refusal);
        }
        self.is_committing.set(false);
    }

    fn tell(self: &Rc<Self>, news: News) {
        let (News::Committed(number, _) | News::Based(number, _) | News::Deleted(number)) = news;
        let life = self.stored.borrow().get(&number).cloned();
        let Some(life) = life else { return };
        let Some(disk) = &life.disk else { return };
        let shelf = self.shelf.as_ref();
        disk.id.set(shelf.and_then(|shelf| shelf.id_of(number)));
        let topic = shelf.and_then(|shelf| shelf.topic(number));
        match news {
            News::Committed(_, next) => {
                disk.committed.set(disk.committed.get().max(next.0));
                if disk.closing.get().is_some_and(|last| last < next.0) {
                    life.is_closed.set(true);
                }
                self.count(|totals| totals.commits += 1);
                if let Some(topic) = topic
                    && topic.commit(next)
                {
                    self.begin_pump(topic);
                }
                self.wake_members();
            }
            News::Based(_, base) => {
                disk.trimmed.set(disk.trimmed.get().max(base.0));
                if let Some(topic) = topic {
                    topic.trimmed(base);
                }
            }
            News::Deleted(_) => disk.is_gone.set(true),
        }
        self.look();
        self.intrude();
    }

    fn disk_failed(self: &Rc<Self>, refusal: &Refusal) {
        let Some(shelf) = &self.shelf else { return };
        self.count(|totals| totals.disk_failures += 1);
        for number in shelf.numbers() {
            if let Some(life) = self.stored.borrow().get(&number)
                && let Some(disk) = &life.disk
            {
                disk.has_failed.set(true);
            }
            if let Some(topic) = shelf.topic(number)
                && topic.fail(&refusal.to_string())
            {
                self.begin_pump(topic);
            }
        }
        self.wake_members();
    }

    // ---- publishers ----

    /// A publisher waits until its message is on the disk.
    pub(crate) fn await_commit(&self, life: &Rc<Life>, topic: &Topic, offset: u64) {
        let Some(disk) = &life.disk else { return };
        let woken = Arc::new(Flag::default());
        let waker = Waker::from(Arc::clone(&woken));
        let polled = topic.poll_committed(Offset(offset), &Context::from_waker(&waker));
        let is_there = disk.committed.get() > offset;
        match polled {
            Poll::Ready(Ok(())) => {
                hold!(is_there, Answer, "{offset} is acknowledged before the disk")
            }
            Poll::Ready(Err(error)) => {
                hold!(disk.has_failed.get() && !is_there, Answer, "{offset}: {error}");
            }
            Poll::Pending => {
                hold!(!is_there && !disk.has_failed.get(), Answer, "{offset} is not acknowledged");
                let life = Rc::clone(life);
                self.acks.borrow_mut().push(Ack { life, offset, woken });
            }
        }
    }

    /// Those whose messages are on the disk have been told so, and nobody else.
    fn look_at_acks(&self) {
        self.wake_members();
        let mut acks = std::mem::take(&mut *self.acks.borrow_mut());
        acks.retain(|ack| {
            let Some(disk) = &ack.life.disk else { return false };
            let is_over = disk.committed.get() > ack.offset || disk.has_failed.get();
            let is_woken = ack.woken.0.load(Ordering::Relaxed);
            let Some(topic) = ack.life.topic.upgrade() else { return false };
            hold!(is_over == is_woken, Awake, "{} at {disk:?}: woken: {is_woken}", ack.offset);
            if is_over {
                self.await_commit(&ack.life, &topic, ack.offset);
            }
            !is_over
        });
        self.acks.borrow_mut().append(&mut acks);
    }

    /// Has a member, which does not wait with others, told when its message is on the disk. Whether it is.
    pub(crate) fn has_committed(
        &self,
        subscription: &Rc<Subscription>,
        topic: &Topic,
        filled: &Fill,
    ) -> bool {
        let Reads::Join(join) = &mut *subscription.reads.borrow_mut() else { return false };
        let Some(offset) = join.awaits(topic, filled) else { return false };
        let woken = Arc::new(Flag::default());
        let waker = Waker::from(Arc::clone(&woken));
        let is_there = topic.poll_committed(offset, &Context::from_waker(&waker)).is_ready();
        self.waits.borrow_mut().push((Rc::downgrade(subscription), woken));
        is_there
    }

    /// Those who wait for the disk, and are woken, have their turn again.
    fn wake_members(&self) {
        self.waits.borrow_mut().retain(|(subscription, woken)| {
            let is_woken = woken.0.load(Ordering::Relaxed);
            if let Some(subscription) = subscription.upgrade().filter(|_| is_woken)
                && let Some(connection) = subscription.connection.upgrade()
            {
                connection.enqueue(&subscription);
            }
            !is_woken
        });
    }

    // ---- readers ----

    /// The oldest message that is kept, as a reader may know it: the disk may have let more go than it has told.
    pub(crate) fn base_of(&self, topic: &Topic, life: &Life) -> u64 {
        let shelf = self.shelf.as_ref().zip(life.disk.as_ref());
        let on_disk = shelf.map_or(0, |(shelf, disk)| shelf.base(disk.number));
        topic.base().0.max(on_disk)
    }

    /// Messages are read for a reader: soon.
    pub(crate) fn load(&self, subscription: &Rc<Subscription>, wanted: Range<Offset>) {
        *subscription.load.borrow_mut() = Some(Load::Wanted(wanted));
        self.loads.borrow_mut().push_back(Rc::clone(subscription));
        self.count(|totals| totals.loads += 1);
    }

    /// Messages that were wanted have been read.
    pub(crate) fn finish_load(self: &Rc<Self>) {
        let Some(subscription) = self.loads.borrow_mut().pop_front() else { return };
        let wanted = subscription.load.take();
        let Some(Load::Wanted(wanted)) = wanted else { return };
        let topic = Arc::clone(subscription.reader.topic());
        let bytes = self.pick(&[1, 200, 5_000]);
        let loaded = topic.load(wanted.clone(), bytes, self.now.get());
        self.say(|| format!("topic {} was read: {wanted:?}", topic.name()));
        let Ok((segment, next)) = loaded else {
            hold!(self.plan.disk_fails, Whole, "{wanted:?} of {}: {loaded:?}", topic.name());
            drop(topic);
            return self.unsubscribe(&subscription);
        };
        *subscription.load.borrow_mut() = Some(Load::Given(segment, next));
        if let Some(connection) = subscription.connection.upgrade() {
            connection.enqueue(&subscription);
        }
    }

    // ---- the start of a service ----

    /// The service has ended, and is started over the same disk.
    pub(crate) fn reopen(&self, topics: &Topics) {
        let Some(shelf) = &self.shelf else { return };
        let before = self.stored.take();
        let ids: Vec<_> = before.keys().map(|number| (*number, shelf.id_of(*number))).collect();
        for (number, id) in ids {
            if let (Some(disk), Some(id)) = (&before[&number].disk, id) {
                disk.id.set(Some(id));
            }
        }
        let (is_orderly, is_cut) = (self.one_in(3), self.one_in(2));
        let now = self.now.get().unix_ms;
        let is_torn = shelf.end(is_orderly, is_cut && !is_orderly, now);
        self.say(|| format!("started again; in order: {is_orderly}, cut: {is_cut}"));
        let states = shelf.states();
        for life in before.values() {
            let Some(disk) = &life.disk else { continue };
            let is_there = states.iter().any(|state| Some(state.id) == disk.id.get());
            let may_be_gone = life.is_deleted.get() || disk.committed.get() == life.first;
            hold!(is_there || may_be_gone, Whole, "a topic is lost: {disk:?}");
            hold!(!(is_there && disk.is_gone.get()), Whole, "a topic is back: {disk:?}");
        }
        for state in &states {
            let of = |life: &&Rc<Life>| {
                life.disk.as_ref().is_some_and(|it| it.id.get() == Some(state.id))
            };
            let life = before.values().find(of).cloned();
            // One whose creation alone was written has had no news.
            let named = |life: &&Rc<Life>| self.plan.names[life.name] == state.name;
            let life = life.or_else(|| before.values().rev().find(named).cloned());
            let Some(before) = life else {
                return hold!(false, Whole, "a topic of nobody: {state:?}");
            };
            self.find(topics, &Found { state, before, is_torn });
        }
    }

    /// A topic was found on the disk.
    fn find(&self, topics: &Topics, found: &Found<'_>) {
        let Found { state, before, is_torn } = found;
        let Some(disk) = &before.disk else { return };
        let may_differ = disk.is_loose && *is_torn;
        let is_same = state.epoch == before.epoch;
        hold!(is_same || may_differ, Offsets, "another epoch: {state:?}");
        hold!(state.damage.is_none(), Whole, "a crash looks like damage: {state:?}");
        let (base, next) = (state.base.0, state.next.0);
        let (committed, staged) = (disk.committed.get(), before.next());
        hold!(next >= committed || !is_same, Whole, "{committed} were acknowledged: {state:?}");
        hold!(next <= staged || !is_same, Offsets, "{staged} were published: {state:?}");
        hold!(base >= disk.trimmed.get(), Whole, "{} was told: {state:?}", disk.trimmed.get());
        let last = disk.closing.get().filter(|last| *last < next);
        hold!(state.closed.map(|last| last.0) == last, Whole, "closed at {last:?}: {state:?}");
        let settings = Arc::clone(self.plan.settings.of(&state.name).expect("it was made"));
        let topic = self.adopt(topics, state, &settings);
        let shelf = self.shelf.as_ref().map_or(0, |shelf| shelf.number(&state.name));
        let life = self.life_of(before.name, &topic, settings.as_ref(), shelf);
        let now = self.now.get().monotonic;
        for sent in before.sent.borrow().iter().take((next.min(staged) - before.first) as usize) {
            // The epoch may be another.
            let json = sent.json.replace(&before.epoch.to_string(), &state.epoch.to_string());
            life.sent.borrow_mut().push(Sent {
                data: sent.data.clone(),
                json,
                key: sent.key.clone(),
                appended: now,
                ..*sent
            });
        }
        let remembered = base.max(next.saturating_sub(settings.dedup_entries as u64));
        for offset in remembered..next {
            if let Some(id) = life.with(offset, |sent| sent.id).flatten() {
                life.enter_id(id, offset);
            }
        }
        if let Some(disk) = &life.disk {
            disk.id.set(Some(state.id));
            disk.committed.set(next);
            disk.trimmed.set(base);
            disk.closing.set(last);
        }
        life.base.set(base);
        life.is_closed.set(last.is_some());
        hold!(
            topic.base().0 == base && topic.visible().0 == next,
            Whole,
            "{topic:?}, not {state:?}"
        );
        self.count(|totals| totals.found += 1);
        let life = Rc::new(life);
        self.stored.borrow_mut().insert(shelf, Rc::clone(&life));
        self.model.borrow_mut().names[before.name].life = Some(life);
        if is_same {
            // Whoever was there goes on, and misses nothing.
            let position = Position { epoch: state.epoch, after: Offset(committed - 1) };
            self.positions.borrow_mut().push_back((before.name, position, None));
        }
    }

    /// A topic is brought back, as a service does it.
    fn adopt(
        &self,
        topics: &Topics,
        state: &TopicState,
        settings: &Arc<TopicSettings>,
    ) -> Arc<Topic> {
        let Some(shelf) = &self.shelf else { unreachable!("it has states") };
        let (_, journal) = shelf.attach(state, settings);
        let recovered = Recovered {
            epoch: state.epoch,
            base: state.base,
            next: state.next,
            is_closed: state.closed.is_some(),
            time: state.time,
            damage: state.damage.clone(),
        };
        let (name, now) = (state.name.clone(), self.now.get());
        let reading = shelf.attach_reader(state);
        let topic = Topic::durable(name, &recovered, journal, Arc::clone(settings), topics.held());
        let remembered = u64::try_from(settings.dedup_entries).unwrap_or(u64::MAX);
        let mut from = state.base.max(Offset(state.next.0.saturating_sub(remembered)));
        while from < state.next {
            let read = reading.read(from, 3_000, &mut |staged| topic.restore(&staged, now));
            let next = read.unwrap_or_else(|error| panic!("{from} cannot be read: {error}"));
            if next <= from {
                break;
            }
            from = next;
        }
        topic.restored(&recovered);
        topics.adopt(topic)
    }

    /// The model of a topic that is on the disk.
    pub(crate) fn life_of(
        &self,
        name: usize,
        topic: &Arc<Topic>,
        settings: &TopicSettings,
        number: u64,
    ) -> Life {
        let mut life =
            Life::new(name, topic.epoch(), Arc::downgrade(topic), settings.clone(), 1, (0, 0));
        let is_loose = settings.sync != SyncMode::Always;
        debug_assert_eq!(settings.kind, Kind::Durable);
        let disk = OnDisk { number, is_loose, ..OnDisk::default() };
        disk.committed.set(1);
        disk.trimmed.set(1);
        life.disk = Some(disk);
        life
    }
}
