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
    topics::{Cursor, Fill, Now, Reader, Refusal, Sink, Topic},
    world::World,
};

/// Calls of a sink in one filling, beyond which it does not end.
const MAX_CALLS: u32 = 100_000;
/// Positions that are remembered, to come back with.
const MAX_POSITIONS: usize = 16;

/// A subscription: a cursor, and what its connection knows of it.
pub(crate) struct Subscription {
    pub(crate) connection: Weak<Connection>,
    pub(crate) reader: Reader,
    pub(crate) cursor: RefCell<Cursor>,
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
        cursor: Cursor,
        judge: Judge,
    ) -> Rc<Subscription> {
        let place = Cell::new(cursor.next().0);
        let subscription = Rc::new(Subscription {
            connection: Rc::downgrade(connection),
            reader,
            cursor: RefCell::new(cursor),
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
                    let given = subscription.cursor.borrow_mut().give(segment, next, &topic);
                    if let Err(refusal) = given {
                        drop(topic);
                        self.end(subscription, Some(&refusal.to_string()));
                        return;
                    }
                }
                wanted @ Some(_) => {
                    *subscription.load.borrow_mut() = wanted;
                    return;
                }
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
            let filled = subscription.cursor.borrow_mut().fill(&topic, &mut out);
            let has_share = out.has_share;
            self.say(|| {
                let (number, judge) = (connection.number, subscription.judge.borrow());
                let of = topic.name();
                format!("connection {number} filled with {of} to {}: {filled:?}", judge.at)
            });
            self.look_at_place(&subscription);
            match filled {
                Fill::CaughtUp => {
                    let seen = subscription.cursor.borrow().seen();
                    hold!(seen >= before, Awake, "it has seen {seen}, and there was {before}");
                    let mut judge = subscription.judge.borrow_mut();
                    let is_all = topic.version() == seen;
                    let is_behind = is_all && judge.is_behind(self.now.get());
                    let (at, visible) = (judge.at, judge.life.visible());
                    hold!(!is_behind, Awake, "caught up at {at} of {visible}");
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
                    return;
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
        let place = subscription.cursor.borrow().next().0;
        let before = subscription.place.replace(place);
        let mut judge = subscription.judge.borrow_mut();
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
        subscription.judge.borrow().ended(failed, subscription.place.get(), &moment);
        drop(model);
        self.digest(failed.unwrap_or("ended").as_bytes());
        self.unsubscribe(&subscription);
        drop(subscription);
        self.look();
    }

    /// Checks that a reader with credit, room and something to read is on the way to it.
    pub(crate) fn look_at_reader(&self, connection: &Connection, subscription: &Rc<Subscription>) {
        if subscription.is_queued.get() || subscription.credit.get() == 0 {
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
        let is_behind = judge.is_behind(self.now.get());
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
            looked: std::mem::replace(&mut self.looked, self.topic.visible().0),
        };
        let mut judge = self.subscription.judge.borrow_mut();
        let missed = judge.told_missed;
        judge.item(payload.metadata.as_deref(), &payload.data, &moment);
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
