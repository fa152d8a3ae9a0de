//! The end of a world: whoever can read reaches the head, and nothing is left.

use std::rc::Rc;

use crate::{broken::hold, world::World};

/// Rounds in which all that is under way has to come to its end.
const ROUNDS: u32 = 10_000;

impl World {
    /// Lets everything come to rest. In some worlds some connections never take anything again.
    pub(crate) fn settle(self: &Rc<Self>) {
        self.is_settling.set(true);
        self.settle_room();
        self.await_pauses();
        let connections = self.connections.borrow().clone();
        for connection in &connections {
            let never = self.plan.some_never_heal && self.one_in(3);
            connection.is_stalled.set(never);
            for subscription in connection.subscriptions.borrow().iter() {
                // Some never grant anything again, and nobody waits for them.
                let more = if self.plan.some_never_heal && self.one_in(3) { 0 } else { 1 << 30 };
                subscription.credit.set(subscription.credit.get() + more);
                connection.enqueue(subscription);
            }
        }
        self.commit_all();
        self.rest();
        for is_ephemeral in [false, true] {
            for name in 0..self.plan.names.len() {
                if self.model.borrow().names[name].life.is_some() {
                    self.publish_plainly(name, is_ephemeral);
                }
            }
            self.rest();
        }
        for connection in self.connections.borrow().iter().filter(|one| !one.is_stalled.get()) {
            for subscription in connection.subscriptions.borrow().iter() {
                let judge = subscription.judge.borrow();
                let is_behind = judge.is_behind(self.now.get());
                let has_credit = subscription.credit.get() > 0;
                hold!(
                    !(has_credit && is_behind),
                    Awake,
                    "at {} of {} at the end",
                    judge.at,
                    judge.life.visible()
                );
                let Some(member) = &subscription.member else { continue };
                let mut member = member.borrow_mut();
                let is_behind = member.is_behind(&judge.life);
                hold!(!(has_credit && is_behind), Awake, "not answered at the end: {member:?}");
                let is_held_back = member.is_held_back(&judge.life);
                hold!(!is_held_back, Awake, "not taken at the end: {member:?}");
            }
        }
        for name in 0..self.plan.names.len() {
            self.probe(name);
        }
        self.leave_nothing();
    }

    /// All that waits for the disk comes there.
    fn commit_all(self: &Rc<Self>) {
        while let Some(shelf) = self.shelf.as_ref().filter(|shelf| !shelf.has_failed())
            && shelf.has_orders()
        {
            let is_quiet = self.is_quiet.replace(true);
            self.commit();
            self.is_quiet.set(is_quiet);
        }
    }

    /// Pumps pump and drivers drive until none has anything to do.
    fn rest(self: &Rc<Self>) {
        for round in 0.. {
            hold!(round < ROUNDS, Awake, "it does not come to rest");
            // Others would go on for ever, where each message makes room for more than one.
            self.is_quiet.set(round > 20);
            self.commit_all();
            while !self.loads.borrow().is_empty() {
                self.finish_load();
            }
            while !self.pumps.borrow().is_empty() {
                self.pump(0);
            }
            let connections = self.connections.borrow().clone();
            let mut moves =
                connections.iter().filter(|one| !one.is_idle() && !one.is_stalled.get());
            let Some(connection) = moves.next() else {
                // Drivers may have had their turn when they were woken.
                if self.loads.borrow().is_empty() {
                    break;
                }
                continue;
            };
            self.drive(connection, 20);
        }
        self.look();
    }

    fn leave_nothing(self: &Rc<Self>) {
        for connection in self.connections.take() {
            let subscriptions = connection.subscriptions.borrow().clone();
            for subscription in subscriptions.into_iter().collect::<std::collections::VecDeque<_>>()
            {
                self.unsubscribe(&subscription);
            }
        }
        self.pumps.take();
        let topics = self.topics.borrow().clone();
        let readers = topics.subscriptions();
        hold!(readers == 0, Memory, "{readers} readers are left");
        for name in &self.plan.names {
            let has_failed = self.shelf.as_ref().is_some_and(|shelf| shelf.has_failed());
            let deleted = topics.delete(name, self.now.get());
            hold!(deleted.is_ok() || has_failed, Answer, "{deleted:?}");
            if deleted.is_err() {
                return;
            }
        }
        let (bytes, left) = (topics.bytes(), topics.len());
        hold!(left == 0, Memory, "{left} topics are left");
        hold!(bytes == 0, Memory, "{bytes} bytes are left");
    }
}
