//! Worlds: topics, the connections that read them, and the pumps that wake them.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    rc::{Rc, Weak},
    sync::Arc,
};

use rsock_proto::SharedPayload;
use rsock_sim::{Choices, Rng};

use crate::{
    broken::hold,
    disk::{Ack, Load},
    fold::Fold,
    judge::{Judge, Moment},
    model::{Life, Model},
    plan::Plan,
    shelf::Shelf,
    topics::{
        Cursor, DedupSecret, Epoch, Fill, Instant, Now, Position, Pumped, Reader, Refusal, Sink,
        Topic, Topics, Wake,
    },
    trace,
};

/// Calls out of one call of the core's, in the middle of which other things may happen.
const MAX_DEPTH: u32 = 2;
/// Calls of a sink in one filling, beyond which it does not end.
const MAX_CALLS: u32 = 100_000;
/// Positions that are remembered, to come back with.
const MAX_POSITIONS: usize = 16;

thread_local! {
    /// The world that runs on this thread: the core calls a connection's wake, which knows its number alone.
    static WORLD: RefCell<Weak<World>> = const { RefCell::new(Weak::new()) };
}

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
    is_queued: Cell<bool>,
    is_gone: Cell<bool>,
    /// The place of its cursor when it was last looked at.
    place: Cell<u64>,
}

/// The subscriptions of one connection to one topic that wait together.
pub(crate) struct Group {
    connection: Weak<Connection>,
    waiting: RefCell<Vec<Rc<Subscription>>>,
    is_listed: Cell<bool>,
    /// One of them has asked to be woken since the last wake.
    is_armed: Cell<bool>,
}

/// A connection, and its driver.
pub(crate) struct Connection {
    pub(crate) number: u64,
    pub(crate) subscriptions: RefCell<Vec<Rc<Subscription>>>,
    mailbox: RefCell<Vec<Rc<Group>>>,
    queue: RefCell<VecDeque<Rc<Subscription>>>,
    /// Its driver runs.
    pub(crate) is_busy: Cell<bool>,
    /// Its socket takes nothing.
    pub(crate) is_stalled: Cell<bool>,
}

/// A connection's wake as the core has it: the number of a group.
#[derive(Debug)]
struct Handle(usize);

impl Wake for Handle {
    fn wake(&self) -> bool {
        let world = WORLD.with(|world| world.borrow().upgrade());
        world.is_some_and(|world| world.woken(self.0))
    }
}

/// A pump that runs, or will.
pub(crate) struct Pump {
    pub(crate) topic: Arc<Topic>,
    pub(crate) is_running: bool,
}

/// Figures of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Operations, those in the middle of others among them.
    pub operations: u64,
    /// Messages and events that were published.
    pub published: u64,
    /// Publishes that were refused, and those that were answered again.
    pub refused: u64,
    /// See `refused`.
    pub duplicates: u64,
    /// Items that readers were sent, and the gaps and resets among them.
    pub items: u64,
    /// See `items`.
    pub gaps: u64,
    /// Streams that ended, and those that failed.
    pub ended: u64,
    /// See `ended`.
    pub failed: u64,
    /// Wakes of connections.
    pub wakes: u64,
    /// Handfuls after which a pump let others have their turn.
    pub handfuls: u64,
    /// Topics that were put away or deleted and opened again.
    pub reopened: u64,
    /// Messages that were let go.
    pub let_go: u64,
    /// Keys that topics deleted themselves, and tombstones that went.
    pub deletions: u64,
    /// See `deletions`.
    pub forgotten: u64,
    /// Batches that a disk took, of each topic, and its failures.
    pub commits: u64,
    /// See `commits`.
    pub disk_failures: u64,
    /// Portions that were read from a disk, and topics that were found there.
    pub loads: u64,
    /// See `loads`.
    pub found: u64,
    /// A digest of all that was answered and sent.
    pub digest: u64,
}

/// A world.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) topics: RefCell<Arc<Topics>>,
    pub(crate) now: Cell<Now>,
    rng: RefCell<Rng>,
    pub(crate) model: RefCell<Model>,
    pub(crate) connections: RefCell<Vec<Rc<Connection>>>,
    groups: RefCell<Vec<Rc<Group>>>,
    pub(crate) pumps: RefCell<Vec<Pump>>,
    /// The places of readers that have gone, and what they knew.
    pub(crate) positions: RefCell<VecDeque<(usize, Position, Option<Fold>)>>,
    pub(crate) numbers: Cell<u64>,
    pub(crate) totals: Cell<Totals>,
    pub(crate) depth: Cell<u32>,
    /// A purge, or another reason for which messages go without being too many or too old.
    pub(crate) lets_go: Cell<bool>,
    /// Bytes that all held before the operation with those of its message, and the latter.
    pub(crate) held: Cell<usize>,
    pub(crate) adds: Cell<usize>,
    pub(crate) secret: DedupSecret,
    /// The store, the topics on it by the numbers that it has given them, those who wait for it, and readers
    /// for whom it is read.
    pub(crate) shelf: Option<Shelf>,
    pub(crate) stored: RefCell<BTreeMap<u64, Rc<Life>>>,
    pub(crate) acks: RefCell<Vec<Ack>>,
    pub(crate) loads: RefCell<VecDeque<Rc<Subscription>>>,
    pub(crate) is_committing: Cell<bool>,
    /// Nobody does anything in the middle of something any more.
    pub(crate) is_quiet: Cell<bool>,
}

impl World {
    pub(crate) fn new(plan: Plan, mut rng: Rng) -> Rc<Self> {
        let epoch = Epoch(rng.number());
        let shelf = plan.disk.map(|sizes| Shelf::new(rng.number(), sizes));
        let mut topics = Topics::new(plan.settings.clone(), epoch);
        if let Some(shelf) = &shelf {
            topics = topics.with_store(Box::new(shelf.clone()));
        }
        let world = Rc::new(Self {
            topics: RefCell::new(Arc::new(topics)),
            now: Cell::new(Now { monotonic: Instant(0), unix_ms: 1_000_000 }),
            rng: RefCell::new(rng),
            model: RefCell::new(Model::new(plan.names.len())),
            connections: RefCell::default(),
            groups: RefCell::default(),
            pumps: RefCell::default(),
            positions: RefCell::default(),
            numbers: Cell::new(1),
            totals: Cell::default(),
            depth: Cell::new(0),
            lets_go: Cell::new(false),
            held: Cell::new(0),
            adds: Cell::new(0),
            secret: DedupSecret::new([1, 2]),
            shelf,
            stored: RefCell::default(),
            acks: RefCell::default(),
            loads: RefCell::default(),
            is_committing: Cell::new(false),
            is_quiet: Cell::new(false),
            plan,
        });
        for _ in 0..world.plan.connections {
            world.connect();
        }
        WORLD.with(|current| *current.borrow_mut() = Rc::downgrade(&world));
        world
    }

    /// Decisions are drawn from this from now on.
    pub(crate) fn draw_from(&self, rng: Rng) {
        *self.rng.borrow_mut() = rng;
    }

    pub(crate) fn below(&self, bound: u32) -> u32 {
        self.rng.borrow_mut().below(bound)
    }

    pub(crate) fn one_in(&self, odds: u32) -> bool {
        self.below(odds) == 0
    }

    pub(crate) fn pick<T: Copy>(&self, choices: &[T]) -> T {
        self.rng.borrow_mut().pick(choices)
    }

    pub(crate) fn random(&self) -> u64 {
        self.rng.borrow_mut().number()
    }

    pub(crate) fn number(&self) -> u64 {
        let number = self.numbers.get();
        self.numbers.set(number + 1);
        number
    }

    /// Adds a line to the story of the run, if somebody listens.
    pub(crate) fn say(&self, line: impl FnOnce() -> String) {
        trace::say(self.depth.get(), line);
    }

    pub(crate) fn count(&self, count: impl FnOnce(&mut Totals)) {
        let mut totals = self.totals.get();
        count(&mut totals);
        self.totals.set(totals);
    }

    pub(crate) fn digest(&self, bytes: &[u8]) {
        self.count(|totals| {
            for chunk in bytes.chunks(8) {
                let number =
                    chunk.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
                totals.digest =
                    (totals.digest.rotate_left(5) ^ number).wrapping_mul(0x517c_c1b7_2722_0a95);
            }
        });
    }

    // ---- connections and their drivers ----

    pub(crate) fn connect(&self) -> Rc<Connection> {
        let connection = Rc::new(Connection {
            number: self.number(),
            subscriptions: RefCell::default(),
            mailbox: RefCell::default(),
            queue: RefCell::default(),
            is_busy: Cell::new(false),
            is_stalled: Cell::new(false),
        });
        self.connections.borrow_mut().push(Rc::clone(&connection));
        connection
    }

    /// Some connection whose driver does not run.
    pub(crate) fn some_connection(&self) -> Option<Rc<Connection>> {
        let connections = self.connections.borrow();
        let at = self.below(connections.len() as u32) as usize;
        connections.get(at).filter(|connection| !connection.is_busy.get()).cloned()
    }

    /// Enters a topic as a reader of this connection.
    pub(crate) fn enter(
        &self,
        topic: &Arc<Topic>,
        connection: &Rc<Connection>,
    ) -> Result<(Reader, Rc<Group>), Refusal> {
        let topics = Arc::clone(&self.topics.borrow());
        let reader = topics.enter(topic, connection.number, || {
            let mut groups = self.groups.borrow_mut();
            groups.push(Rc::new(Group {
                connection: Rc::downgrade(connection),
                waiting: RefCell::default(),
                is_listed: Cell::new(false),
                is_armed: Cell::new(false),
            }));
            Box::new(Handle(groups.len() - 1))
        })?;
        let wake: &dyn Any = reader.wake();
        let Handle(number) = wake.downcast_ref().expect("all are made here");
        let group = Rc::clone(&self.groups.borrow()[*number]);
        Ok((reader, group))
    }

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

    /// A connection's driver has its turn: it takes its mail, and lets some of its streams be filled.
    pub(crate) fn drive(self: &Rc<Self>, connection: &Rc<Connection>, turns: u32) {
        if connection.is_busy.replace(true) {
            return;
        }
        let mail = std::mem::take(&mut *connection.mailbox.borrow_mut());
        for group in mail {
            group.is_listed.set(false);
            for subscription in group.waiting.take() {
                connection.enqueue(&subscription);
            }
        }
        for _ in 0..turns {
            let next = connection.queue.borrow_mut().pop_front();
            let Some(subscription) = next else { break };
            subscription.is_queued.set(false);
            self.poll(connection, subscription);
        }
        connection.is_busy.set(false);
    }

    /// A stream is filled, as a feed of its connection.
    fn poll(self: &Rc<Self>, connection: &Rc<Connection>, subscription: Rc<Subscription>) {
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

    /// A connection's wake was called.
    fn woken(self: &Rc<Self>, number: usize) -> bool {
        let group = Rc::clone(&self.groups.borrow()[number]);
        self.count(|totals| totals.wakes += 1);
        self.digest(&number.to_le_bytes());
        self.say(|| format!("group {number} is woken"));
        hold!(group.is_armed.replace(false), Quiet, "woken without having waited");
        let Some(connection) = group.connection.upgrade() else { return false };
        if !group.is_listed.replace(true) {
            connection.mailbox.borrow_mut().push(group);
        }
        if self.may_intrude() {
            self.depth.set(self.depth.get() + 1);
            // Mostly its driver is quicker than the pump.
            if self.one_in(4) {
                self.act()
            } else {
                self.drive(&connection, 8)
            }
            self.depth.set(self.depth.get() - 1);
        }
        true
    }

    // ---- others, who do something in the middle of a call ----

    fn may_intrude(&self) -> bool {
        !self.is_quiet.get() && self.depth.get() < MAX_DEPTH && self.one_in(self.plan.intrusion)
    }

    /// Other threads may do something here.
    pub(crate) fn intrude(self: &Rc<Self>) {
        if self.may_intrude() {
            self.depth.set(self.depth.get() + 1);
            for _ in 0..self.pick(&[1, 1, 2, 5]) {
                self.act();
            }
            self.depth.set(self.depth.get() - 1);
        }
    }

    // ---- pumps ----

    pub(crate) fn begin_pump(&self, topic: Arc<Topic>) {
        let mut pumps = self.pumps.borrow_mut();
        let is_there = pumps.iter().any(|pump| Arc::ptr_eq(&pump.topic, &topic));
        hold!(!is_there, Quiet, "two pumps of one topic");
        pumps.push(Pump { topic, is_running: false });
    }

    /// A pump wakes a handful.
    pub(crate) fn pump(self: &Rc<Self>, at: usize) {
        let mut pumps = self.pumps.borrow_mut();
        let Some(pump) = pumps.get_mut(at).filter(|pump| !pump.is_running) else { return };
        pump.is_running = true;
        let topic = Arc::clone(&pump.topic);
        drop(pumps);
        self.say(|| format!("topic {} is pumped", topic.name()));
        let pumped = topic.pump();
        self.say(|| format!("topic {} was pumped: {pumped:?}", topic.name()));
        let mut pumps = self.pumps.borrow_mut();
        let at = pumps.iter().position(|pump| Arc::ptr_eq(&pump.topic, &topic));
        let at = at.expect("it is taken off by itself alone");
        match pumped {
            Pumped::All => drop(pumps.remove(at)),
            Pumped::More => {
                pumps[at].is_running = false;
                self.count(|totals| totals.handfuls += 1);
            }
        }
    }

    // ---- those who look on ----

    /// Looks at what must hold after every step.
    pub(crate) fn look(&self) {
        let topics = Arc::clone(&self.topics.borrow());
        for name in 0..self.plan.names.len() {
            self.look_at_topic(&topics, name, None);
        }
        if self.depth.get() == 0 {
            for connection in self.connections.borrow().iter() {
                for subscription in connection.subscriptions.borrow().iter() {
                    self.look_at_reader(connection, subscription);
                }
            }
        }
    }

    /// Checks that a reader with credit, room and something to read is on the way to it.
    fn look_at_reader(&self, connection: &Connection, subscription: &Rc<Subscription>) {
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

    /// Looks at the topic of a name, which may have been opened or put away: at this moment, if it is told.
    pub(crate) fn look_at_topic(&self, topics: &Topics, name: usize, put_away: Option<Instant>) {
        let real = topics.find(&self.plan.names[name]);
        let life = self.model.borrow().names[name].life.clone();
        let is_same = match (&life, &real) {
            (Some(life), Some(real)) => std::ptr::eq(life.topic.as_ptr(), Arc::as_ptr(real)),
            (None, None) => true,
            _ => false,
        };
        if !is_same {
            if let Some(life) = &life {
                hold!(life.readers.get() == 0, Offsets, "put away with readers");
                self.look_at_end(life, put_away);
                let is_remembered = self.model.borrow_mut().end_life(name, put_away);
                hold!(is_remembered, Offsets, "put away without a trace");
            }
            if let Some(real) = &real {
                self.opened(name, real);
            }
        }
        let life = self.model.borrow().names[name].life.clone();
        if let (Some(life), Some(real)) = (life, real) {
            self.look_at_log(&life, &real);
        }
    }

    /// A topic was put away: all it had is gone, or too old since now.
    fn look_at_end(&self, life: &Life, put_away: Option<Instant>) {
        if let Some(board) = &life.board {
            self.forget_old(life, board);
            let kept = board.borrow().len();
            return hold!(kept == 0, Offsets, "put away with {kept} messages");
        }
        let (base, next) = (life.base.get(), life.next());
        let age = life.with(next - 1, |sent| self.now.get().monotonic.since(sent.appended));
        let is_old = age.is_some_and(|age| age >= life.settings.retention.age);
        let is_empty = base == next || (put_away.is_some() && is_old);
        hold!(is_empty, Offsets, "put away with messages from {base} to {next}");
        self.count(|totals| totals.let_go += next - base);
    }

    fn opened(&self, name: usize, real: &Arc<Topic>) {
        self.say(|| format!("topic {} is opened", real.name()));
        if let Some(shelf) = self.shelf.as_ref().filter(|_| real.is_durable()) {
            hold!(real.visible().0 == 1, Offsets, "a new one begins at {}", real.visible());
            let number = shelf.number(real.name());
            let life = Rc::new(self.life_of(name, real, real.settings(), number));
            self.stored.borrow_mut().insert(number, Rc::clone(&life));
            self.model.borrow_mut().names[name].life = Some(life);
            return;
        }
        let mut model = self.model.borrow_mut();
        let (begins, floor_time) = (model.begins(name), model.floor_time);
        let visible = real.visible().0;
        hold!(visible == begins, Offsets, "opened at {visible}, not {begins}");
        let of = &mut model.names[name];
        let later = of.past.iter().any(|(_, next)| *next > begins);
        hold!(!later, Offsets, "opened at {begins}, and had more than that");
        self.count(|totals| totals.reopened += u64::from(!of.past.is_empty()));
        let settings = real.settings().as_ref().clone();
        let before = of.record.map_or((0, floor_time), |record| (record.newest, record.gone));
        let life = Life::new(name, real.epoch(), Arc::downgrade(real), settings, begins, before);
        life.is_closed.set(of.record.is_some_and(|record| record.is_closed));
        of.record = None;
        let ids = std::mem::take(&mut of.ids);
        let known = real.ids();
        let are_forgotten = known == 0 && self.topics.borrow().forgotten_ids() > 0;
        hold!(
            known == ids.len() || are_forgotten,
            Answer,
            "{known} of {} ids are known",
            ids.len()
        );
        if known > 0 {
            *life.ids.borrow_mut() = ids;
            life.had_ids.set(true);
        }
        of.life = Some(Rc::new(life));
    }

    fn look_at_log(&self, life: &Life, real: &Topic) {
        // Others may have needed its memory.
        let is_short = self.held.get() > self.plan.settings.limits().memory;
        if real.visible().0 != life.visible() || is_short {
            self.follow(life, real, false);
        }
        let (base, visible, next) = (real.base().0, real.visible().0, life.visible());
        hold!(visible == next, Visible, "{visible} is seen, and {next} was acknowledged");
        let before = life.base.replace(base);
        hold!(
            before <= base && base <= visible,
            Whole,
            "kept from {base}, was {before} of {visible}"
        );
        let held = life.bytes.replace(real.bytes());
        if base == before || life.board.is_some() || life.disk.is_some() {
            return;
        }
        self.count(|totals| totals.let_go += base - before);
        // Pinned by who reads them, segments count on: there may be less room than it seems.
        if self.lets_go.get() || self.depth.get() > 0 {
            return;
        }
        let retention = life.settings.retention;
        let age = life.with(base - 1, |sent| self.now.get().monotonic.since(sent.appended));
        let age = age.unwrap_or_default();
        let is_old = age >= retention.age;
        let are_many = next - base >= retention.messages && age.as_secs() >= 2;
        let is_large = held + self.adds.get() + 25_000 > retention.bytes;
        // Who gives way to others keeps its last messages.
        let is_short = self.held.get() > self.plan.settings.limits().memory && next - base >= 16;
        hold!(
            is_old || are_many || is_large || is_short,
            Retention,
            "{before} to {base} of {next} went, {age:?} old, {held} bytes held, of {retention:?}"
        );
    }
}

impl Connection {
    pub(crate) fn enqueue(&self, subscription: &Rc<Subscription>) {
        if !subscription.is_gone.get() && !subscription.is_queued.replace(true) {
            self.queue.borrow_mut().push_back(Rc::clone(subscription));
        }
    }

    /// Whether its driver has nothing to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.borrow().is_empty() && self.mailbox.borrow().is_empty()
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
