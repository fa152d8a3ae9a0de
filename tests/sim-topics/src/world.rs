//! Worlds: topics, the connections that read them, and the pumps that wake them.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    rc::{Rc, Weak},
    sync::Arc,
};

use rsock_sim::{Choices, Rng};

use crate::{
    broken::hold,
    connection::{Connection, Group},
    disk::{Ack, Flag},
    fold::Fold,
    model::{Life, Model},
    plan::Plan,
    room::Room,
    shelf::Shelf,
    subscription::Subscription,
    topics::{DedupSecret, Epoch, Instant, Now, Position, Pumped, Topic, Topics},
    totals::Totals,
    trace,
};

/// Calls out of one call of the core's, in the middle of which other things may happen.
const MAX_DEPTH: u32 = 2;

thread_local! {
    /// The world that runs on this thread: the core calls a connection's wake, which knows its number alone.
    static WORLD: RefCell<Weak<World>> = const { RefCell::new(Weak::new()) };
}

/// That world.
pub(crate) fn current() -> Option<Rc<World>> {
    WORLD.with(|world| world.borrow().upgrade())
}

/// A pump that runs, or will.
pub(crate) struct Pump {
    pub(crate) topic: Arc<Topic>,
    pub(crate) is_running: bool,
}

/// A world.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) topics: RefCell<Arc<Topics>>,
    pub(crate) now: Cell<Now>,
    rng: RefCell<Rng>,
    pub(crate) model: RefCell<Model>,
    pub(crate) connections: RefCell<Vec<Rc<Connection>>>,
    pub(crate) groups: RefCell<Vec<Rc<Group>>>,
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
    /// Members who wait for it, and take payloads then.
    pub(crate) waits: RefCell<Vec<(Weak<Subscription>, Arc<Flag>)>>,
    pub(crate) is_committing: Cell<bool>,
    /// The presence of a topic.
    pub(crate) room: Option<Room>,
    /// The world comes to its end.
    pub(crate) is_settling: Cell<bool>,
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
            waits: RefCell::default(),
            is_committing: Cell::new(false),
            room: plan.room.map(|settings| Room::new(plan.names[0].clone(), settings)),
            is_settling: Cell::new(false),
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

    // ---- others, who do something in the middle of a call ----

    pub(crate) fn may_intrude(&self) -> bool {
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
}
