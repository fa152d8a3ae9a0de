//! Connections: their drivers, and the groups of streams that wait together.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::{Rc, Weak},
    sync::Arc,
};

use crate::{
    broken::hold,
    subscription::Subscription,
    topics::{Reader, Refusal, Topic, Wake},
    world::{World, current},
};

/// The subscriptions of one connection to one topic that wait together.
pub(crate) struct Group {
    connection: Weak<Connection>,
    pub(crate) waiting: RefCell<Vec<Rc<Subscription>>>,
    pub(crate) is_listed: Cell<bool>,
    /// One of them has asked to be woken since the last wake.
    pub(crate) is_armed: Cell<bool>,
}

/// A connection, and its driver.
pub(crate) struct Connection {
    pub(crate) number: u64,
    pub(crate) subscriptions: RefCell<Vec<Rc<Subscription>>>,
    mailbox: RefCell<Vec<Rc<Group>>>,
    pub(crate) queue: RefCell<VecDeque<Rc<Subscription>>>,
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
        let world = current();
        world.is_some_and(|world| world.woken(self.0))
    }
}

impl World {
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
