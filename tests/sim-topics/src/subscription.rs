//! Subscriptions: streams that a cursor fills, as a feed of their connection.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    sync::Arc,
};

use rsock_proto::SharedPayload;

use crate::{
    broken::hold,
    connection::{Connection, Group},
    disk::Load,
    judge::{Judge, Moment},
    member::{Member, Payload, Sends, Told},
    topics::{Cursor, Fill, Now, Offset, Reader, Refusal, Segment, Sink, Topic, join::Join},
    world::World,
};

/// Calls of a sink in one filling, beyond which it does not end.
const MAX_CALLS: u32 = 100_000;
/// Positions that are remembered, to come back with.
const MAX_POSITIONS: usize = 16;

/// The part of the core that fills a stream.
pub(crate) enum Reads {
    Cursor(Cursor),
    Join(Box<Join<Payload>>),
}

impl Reads {
    /// The message that it reads next, if it reads any.
    fn next(&self) -> Option<Offset> {
        match self {
            Self::Cursor(cursor) => Some(cursor.next()),
            Self::Join(join) => join.next(),
        }
    }

    fn seen(&self) -> u64 {
        match self {
            Self::Cursor(cursor) => cursor.seen(),
            Self::Join(join) => join.seen(),
        }
    }

    fn give(
        &mut self,
        segment: Option<Arc<Segment>>,
        before: Offset,
        topic: &Topic,
    ) -> Result<(), Refusal> {
        match self {
            Self::Cursor(cursor) => cursor.give(segment, before, topic),
            Self::Join(join) => join.give(segment, before, topic),
        }
    }
}

/// A subscription: a cursor, or a join, and what its connection knows of it.
pub(crate) struct Subscription {
    pub(crate) connection: Weak<Connection>,
    pub(crate) reader: Reader,
    pub(crate) reads: RefCell<Reads>,
    /// Its member, if it is a join.
    pub(crate) member: Option<RefCell<Member>>,
    pub(crate) judge: RefCell<Judge>,
    pub(crate) group: Rc<Group>,
    pub(crate) credit: Cell<usize>,
    /// Messages that are read for it from the disk.
    pub(crate) load: RefCell<Option<Load>>,
    pub(crate) is_queued: Cell<bool>,
    pub(crate) is_gone: Cell<bool>,
    /// The place of its cursor when it was last looked at.
    place: Cell<u64>,
}

impl World {
    pub(crate) fn subscribe(
        &self,
        connection: &Rc<Connection>,
        reader: Reader,
        group: Rc<Group>,
        reads: Reads,
        judge: Judge,
        member: Option<Member>,
    ) -> Rc<Subscription> {
        let place = Cell::new(reads.next().map_or(0, |next| next.0));
        let subscription = Rc::new(Subscription {
            connection: Rc::downgrade(connection),
            reader,
            reads: RefCell::new(reads),
            member: member.map(RefCell::new),
            judge: RefCell::new(judge),
            group,
            credit: Cell::new(0),
            load: RefCell::default(),
            is_queued: Cell::new(false),
            is_gone: Cell::new(false),
            place,
        });
        connection.subscriptions.borrow_mut().push(Rc::clone(&subscription));
        connection.enqueue(&subscription);
        subscription
    }

    /// Ends a subscription: its stream is over, or its reader has cancelled it.
    pub(crate) fn unsubscribe(&self, subscription: &Rc<Subscription>) {
        if subscription.is_gone.replace(true) {
            return;
        }
        let judge = subscription.judge.borrow();
        let life = Rc::clone(&judge.life);
        let mut positions = self.positions.borrow_mut();
        // One that was not told yet that it begins anew comes back as if it had not been there.
        let fold = judge.fold.clone().filter(|_| judge.first.is_empty());
        positions.push_back((life.name, judge.position(), fold));
        if positions.len() > MAX_POSITIONS {
            positions.pop_front();
        }
        drop((positions, judge));
        subscription.group.waiting.borrow_mut().retain(|other| !Rc::ptr_eq(other, subscription));
        if let Some(connection) = subscription.connection.upgrade() {
            connection.queue.borrow_mut().retain(|other| !Rc::ptr_eq(other, subscription));
            connection.subscriptions.borrow_mut().retain(|other| !Rc::ptr_eq(other, subscription));
        }
        self.loads.borrow_mut().retain(|other| !Rc::ptr_eq(other, subscription));
        life.readers.set(life.readers.get() - 1);
        let keeps = Rc::strong_count(subscription);
        hold!(keeps == 1, Quiet, "{keeps} hold what has ended");
    }

    /// A stream is filled, as a feed of its connection.
    pub(crate) fn poll(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        subscription: Rc<Subscription>,
    ) {
        let topic = Arc::clone(subscription.reader.topic());
        let share = self.pick(&[1, 3, 1_000]);
        for looks in 0.. {
            hold!(looks < 1_000, Awake, "it looks again and again");
            let before = topic.version();
            match subscription.load.take() {
                Some(Load::Given(segment, next)) => {
                    let given = subscription.reads.borrow_mut().give(segment, next, &topic);
                    if let Err(refusal) = given {
                        drop(topic);
                        self.end(subscription, Some(&refusal.to_string()));
                        return;
                    }
                }
                wanted @ Some(_) => *subscription.load.borrow_mut() = wanted,
                None => {}
            }
            let mut out = Outgoing {
                world: self,
                connection,
                subscription: &subscription,
                topic: &topic,
                share,
                looked: topic.visible().0,
                calls: 0,
                may_send: false,
                has_share: true,
            };
            let life = Rc::clone(&subscription.judge.borrow().life);
            let member = subscription.member.as_ref();
            let mut sends = Sends { world: self, member, topic: &topic, life: &life };
            if subscription.load.borrow().is_some() {
                let taken = match &mut *subscription.reads.borrow_mut() {
                    Reads::Cursor(_) => Ok(()),
                    Reads::Join(join) => join.take(&topic, &mut sends, &out),
                };
                drop(life);
                if let Err(refusal) = taken {
                    drop(topic);
                    self.end(subscription, Some(&refusal.to_string()));
                }
                return;
            }
            let is_lost = member.is_some_and(|member| member.borrow().is_lost(&life));
            let filled = match &mut *subscription.reads.borrow_mut() {
                Reads::Cursor(cursor) => cursor.fill(&topic, &mut out),
                Reads::Join(join) => join.fill(&topic, &mut sends, &mut out),
            };
            drop(life);
            let is_over = matches!(filled, Fill::Failed(_) | Fill::Ended);
            hold!(!is_lost || is_over, Member, "goes on, and may have lost something: {member:?}");
            let has_share = out.has_share;
            self.say(|| {
                let (number, judge) = (connection.number, subscription.judge.borrow());
                let of = topic.name();
                format!("connection {number} filled with {of} to {}: {filled:?}", judge.at)
            });
            self.look_at_place(&subscription);
            match filled {
                Fill::CaughtUp => {
                    let seen = subscription.reads.borrow().seen();
                    hold!(seen >= before, Awake, "it has seen {seen}, and there was {before}");
                    let mut judge = subscription.judge.borrow_mut();
                    let is_all = topic.version() == seen;
                    let mut is_behind = judge.is_behind(self.now.get());
                    if let Some(member) = &subscription.member {
                        is_behind |= member.borrow().is_behind(&judge.life);
                    }
                    let is_behind = is_all && is_behind;
                    let (at, visible) = (judge.at, judge.life.visible());
                    let member = &subscription.member;
                    hold!(!is_behind, Awake, "caught up at {at} of {visible}: {member:?}");
                    if is_all && judge.until.is_none() {
                        judge.look_at_fold(visible);
                    }
                    drop(judge);
                    self.intrude();
                    let mut waiting = subscription.group.waiting.borrow_mut();
                    if !waiting.iter().any(|other| Rc::ptr_eq(other, &subscription)) {
                        waiting.push(Rc::clone(&subscription));
                    }
                    drop(waiting);
                    self.intrude();
                    subscription.group.is_armed.set(true);
                    subscription.reader.wait();
                    self.intrude();
                    // What came just before has woken nobody.
                    if topic.version() == seen || crate::is_broken("does_not_look_again") {
                        return;
                    }
                }
                Fill::NoRoom => {
                    if !has_share {
                        connection.enqueue(&subscription);
                    }
                    if !self.has_committed(&subscription, &topic, &filled) {
                        return;
                    }
                }
                Fill::Stored(wanted) => {
                    hold!(self.shelf.is_some(), Whole, "on a disk, and there is none");
                    self.load(&subscription, wanted);
                    return;
                }
                Fill::Ended => {
                    self.count(|totals| totals.ended += 1);
                    drop(topic);
                    self.end(subscription, None);
                    return;
                }
                Fill::Failed(refusal) => {
                    self.count(|totals| totals.failed += 1);
                    drop(topic);
                    self.end(subscription, Some(&refusal.to_string()));
                    return;
                }
            }
        }
    }

    fn look_at_place(&self, subscription: &Subscription) {
        if let (Reads::Join(join), Some(member)) =
            (&*subscription.reads.borrow(), &subscription.member)
        {
            let (unanswered, window) = (join.unanswered(), member.borrow().window());
            hold!(unanswered <= window, Member, "{unanswered} payloads without an answer");
        }
        let mut judge = subscription.judge.borrow_mut();
        judge.base = self.base_of(subscription.reader.topic(), &judge.life);
        let Some(place) = subscription.reads.borrow().next().map(|next| next.0) else { return };
        let before = subscription.place.replace(place);
        let is_anew = std::mem::take(&mut judge.is_anew);
        hold!(place >= before || is_anew, Forward, "from {before} back to {place}");
        hold!(place >= judge.at || judge.has_gap, Forward, "at {place}, told of {}", judge.at);
        if judge.first.is_empty() {
            judge.advance(place);
        }
    }

    fn end(&self, subscription: Rc<Subscription>, failed: Option<&str>) {
        let topic = subscription.reader.topic();
        let model = self.model.borrow();
        let moment = Moment {
            model: &model,
            now: self.now.get(),
            base: self.base_of(topic, &subscription.judge.borrow().life),
            visible: topic.visible().0,
            looked: 0,
        };
        let life = Rc::clone(&subscription.judge.borrow().life);
        let member = subscription.member.as_ref();
        let is_own_doing = member.is_some_and(|member| member.borrow_mut().ended(failed, &life));
        drop(life);
        if !is_own_doing {
            subscription.judge.borrow().ended(failed, subscription.place.get(), &moment);
        }
        drop(model);
        self.digest(failed.unwrap_or("ended").as_bytes());
        self.unsubscribe(&subscription);
        drop(subscription);
        self.look();
    }

    /// Checks that a reader with credit, room and something to read is on the way to it.
    pub(crate) fn look_at_reader(&self, connection: &Connection, subscription: &Rc<Subscription>) {
        if subscription.is_queued.get() {
            return;
        }
        let group = &subscription.group;
        let is_told = group.is_listed.get()
            && group.waiting.borrow().iter().any(|other| Rc::ptr_eq(other, subscription));
        if is_told || connection.is_stalled.get() || subscription.load.borrow().is_some() {
            return;
        }
        let topic = subscription.reader.topic();
        if self.pumps.borrow().iter().any(|pump| Arc::ptr_eq(&pump.topic, topic)) {
            return;
        }
        let judge = subscription.judge.borrow();
        if let Some(member) = &subscription.member {
            let mut member = member.borrow_mut();
            hold!(!member.is_held_back(&judge.life), Awake, "payloads wait: {member:?}");
            let is_behind = subscription.credit.get() > 0 && member.is_behind(&judge.life);
            hold!(!is_behind, Awake, "sleeps, and is to be answered: {member:?}");
        }
        let is_behind = subscription.credit.get() > 0 && judge.is_behind(self.now.get());
        hold!(!is_behind, Awake, "sleeps at {} of {}", judge.at, judge.life.visible());
    }
}

/// The outlet of a stream.
struct Outgoing<'a> {
    world: &'a Rc<World>,
    connection: &'a Connection,
    subscription: &'a Subscription,
    topic: &'a Topic,
    /// Items that it may send in this turn.
    share: u32,
    looked: u64,
    calls: u32,
    may_send: bool,
    has_share: bool,
}

impl Sink for Outgoing<'_> {
    fn has_room(&mut self) -> bool {
        self.calls += 1;
        hold!(self.calls < MAX_CALLS, Awake, "a filling that does not end");
        self.world.intrude();
        let credit = self.subscription.credit.get();
        self.has_share = self.share > 0 && !self.connection.is_stalled.get();
        self.may_send = credit > 0 && self.has_share;
        // Without credit it is not asked again before there is some.
        self.has_share |= credit == 0;
        self.may_send
    }

    fn send(&mut self, item: &SharedPayload) -> Result<(), Refusal> {
        hold!(std::mem::take(&mut self.may_send), Item, "an item without credit or room");
        self.share -= 1;
        self.subscription.credit.set(self.subscription.credit.get() - 1);
        let payload = item.to_payload();
        let model = self.world.model.borrow();
        let moment = Moment {
            model: &model,
            now: self.world.now.get(),
            base: self.world.base_of(self.topic, &self.subscription.judge.borrow().life),
            visible: self.topic.visible().0,
            looked: self.looked,
        };
        let mut judge = self.subscription.judge.borrow_mut();
        let missed = judge.told_missed;
        let json = judge.json(payload.metadata.as_deref()).to_owned();
        let told = match &self.subscription.member {
            Some(member) => member.borrow_mut().told(&json, &payload.data, &judge.life, judge.meta),
            None => Told::Message(json),
        };
        if let Told::Message(json) = told {
            self.looked = moment.visible;
            judge.item(&json, &payload.data, &moment);
        }
        self.world.count(|totals| {
            totals.items += 1;
            totals.gaps += u64::from(judge.told_missed > missed);
        });
        self.world.digest(payload.metadata.as_deref().unwrap_or(&payload.data));
        Ok(())
    }

    fn now(&self) -> Now {
        self.world.now.get()
    }
}
