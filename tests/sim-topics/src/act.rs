//! Operations: what may happen next, each for itself or in the middle of another.

use std::{rc::Rc, sync::Arc, time::Duration};

use crate::{
    broken::hold,
    model::Model,
    topics::{Epoch, Now, Refusal, Topics},
    world::World,
};

const MINUTE: u64 = 60_000_000;

impl World {
    /// Something happens.
    pub(crate) fn act(self: &Rc<Self>) {
        self.count(|totals| totals.operations += 1);
        if self.shelf.is_some() && self.one_in(4) {
            self.act_on_disk();
            return self.look();
        }
        if self.room.is_some() && self.one_in(5) {
            self.act_in_room();
            return self.look();
        }
        match self.below(1_000) {
            0..290 => self.publish(),
            290..350 => self.send_some(),
            350..570 => self.drive_some(),
            570..690 => self.grant(),
            690..745 => self.subscribe_somewhere(),
            745..780 => self.join_somewhere(),
            780..810 => self.cancel(),
            810..920 => {
                let pumps = self.pumps.borrow().len();
                self.pump(self.below(pumps as u32) as usize);
            }
            920..950 => self.pass_time(),
            950..960 => self.tick(),
            960..966 => self.jump_clock(),
            966..974 => self.stall(),
            974..980 => self.lose_connection(),
            980..986 => self.purge(),
            986..990 => self.delete(),
            990..997 => self.probe(self.some_name()),
            997 if self.depth.get() == 0 => self.restart(),
            _ => drop(self.connect()),
        }
        self.look();
        self.lets_go.set(false);
    }

    fn drive_some(self: &Rc<Self>) {
        if let Some(connection) = self.some_connection() {
            let turns = self.pick(&[1, 2, 100]);
            self.drive(&connection, turns);
        }
    }

    /// A reader grants credit.
    fn grant(&self) {
        let Some(connection) = self.some_connection() else { return };
        let subscriptions = connection.subscriptions.borrow();
        let at = self.below(subscriptions.len() as u32) as usize;
        if let Some(subscription) = subscriptions.get(at) {
            let more = self.pick(&[1, 1, 2, 5, 100, 10_000]);
            subscription.credit.set(subscription.credit.get() + more);
            connection.enqueue(subscription);
            self.say(|| format!("connection {} grants {more}", connection.number));
        }
    }

    fn cancel(&self) {
        let Some(connection) = self.some_connection() else { return };
        let subscriptions = connection.subscriptions.borrow();
        let at = self.below(subscriptions.len() as u32) as usize;
        let subscription = subscriptions.get(at).cloned();
        drop(subscriptions);
        if let Some(subscription) = subscription {
            self.say(|| format!("connection {} cancels", connection.number));
            self.unsubscribe(&subscription);
        }
    }

    fn stall(&self) {
        if let Some(connection) = self.some_connection() {
            connection.is_stalled.set(!connection.is_stalled.get());
        }
    }

    fn lose_connection(&self) {
        if let Some(connection) = self.some_connection() {
            self.disconnect(&connection);
            if self.connections.borrow().is_empty() || self.one_in(2) {
                self.connect();
            }
        }
    }

    fn disconnect(&self, connection: &Rc<crate::connection::Connection>) {
        self.say(|| format!("connection {} is lost", connection.number));
        let subscriptions = connection.subscriptions.borrow().clone();
        for subscription in subscriptions.into_iter().collect::<std::collections::VecDeque<_>>() {
            self.unsubscribe(&subscription);
        }
        self.connections.borrow_mut().retain(|other| !Rc::ptr_eq(other, connection));
    }

    fn after(&self, micros: u64) {
        self.now.set(self.now.get().after(Duration::from_micros(micros)));
        self.end_pauses();
    }

    fn pass_time(&self) {
        let micros = match self.below(40) {
            0..20 => u64::from(self.below(100_000)),
            20..34 => 1_000_000 + u64::from(self.below(3_000_000)),
            34..38 => 6_000_000,
            38 => 61 * MINUTE,
            _ => 25 * 60 * MINUTE,
        };
        self.after(micros);
    }

    /// The clock is set to another time, and no time passes.
    fn jump_clock(&self) {
        let Now { monotonic, unix_ms } = self.now.get();
        let by = self.pick(&[1, 1_000, 100_000, 10_000_000]);
        let unix_ms = if self.one_in(2) { unix_ms + by } else { unix_ms.saturating_sub(by) };
        self.now.set(Now { monotonic, unix_ms });
    }

    /// The timer of all topics.
    pub(crate) fn tick(&self) {
        let (topics, now) = (self.topics.borrow().clone(), self.now.get());
        self.say(|| format!("tick at {now:?}"));
        self.held.set(topics.bytes());
        let to_pump = topics.tick(now);
        for name in 0..self.plan.names.len() {
            let life = self.model.borrow().names[name].life.clone();
            if let Some(life) = life.filter(|life| life.board.is_some())
                && let Some(topic) = topics.find(&self.plan.names[name])
                && std::ptr::eq(life.topic.as_ptr(), Arc::as_ptr(&topic))
            {
                self.follow(&life, &topic, true);
            }
            self.look_at_topic(&topics, name, Some(now.monotonic));
        }
        to_pump.into_iter().for_each(|topic| self.begin_pump(topic));
        let limits = self.plan.settings.limits();
        let memory = limits.topic_memory.as_micros() as u64;
        let names = &self.plan.names;
        self.model.borrow_mut().forget(names, now.monotonic, memory, limits.records);
        if self.depth.get() > 0 {
            return;
        }
        for of in &self.model.borrow().names {
            let Some(life) = &of.life else { continue };
            let (base, next) = (life.base.get(), life.next());
            let is_used = life.readers.get() > 0
                || self
                    .pumps
                    .borrow()
                    .iter()
                    .any(|pump| std::ptr::eq(Arc::as_ptr(&pump.topic), life.topic.as_ptr()));
            hold!(
                base < next || is_used || life.disk.is_some(),
                Memory,
                "an empty topic that nobody uses is not put away"
            );
            if base < next && life.board.is_none() && life.disk.is_none() {
                let last = (base + 63).min(next - 1);
                let age = life.with(last, |sent| now.monotonic.since(sent.appended));
                let is_young = age.is_some_and(|age| age < life.settings.retention.age);
                hold!(is_young, Retention, "{age:?} old, and kept");
            }
        }
    }

    fn purge(&self) {
        let topics = self.topics.borrow().clone();
        let name = self.some_name();
        let Some(topic) = topics.find(&self.plan.names[name]) else { return };
        self.lets_go.set(true);
        self.say(|| format!("purged {}", topic.name()));
        let life = self.model.borrow().names[name].life.clone();
        let pump = match topic.purge() {
            Ok(pump) => pump,
            Err(refusal) => return self.look_at_failure(&refusal),
        };
        life.iter().for_each(|life| life.push_purge(self.now.get()));
        if pump {
            self.begin_pump(Arc::clone(&topic));
        }
        hold!(topic.base() == topic.visible(), Whole, "purged, and {} is kept", topic.base());
        let has_ids = life.is_none_or(|life| life.had_ids.get());
        let bytes = topic.bytes();
        hold!(
            topic.is_durable() || self.depth.get() > 0 || has_ids || bytes == 0,
            Memory,
            "{bytes} bytes held by who reads nothing"
        );
    }

    fn delete(&self) {
        let topics = self.topics.borrow().clone();
        let name = self.some_name();
        let now = self.now.get();
        let deleted = match topics.delete(&self.plan.names[name], now) {
            Ok(deleted) => deleted,
            Err(refusal) => return self.look_at_failure(&refusal),
        };
        self.say(|| format!("deleted {}", self.plan.names[name]));
        let mut model = self.model.borrow_mut();
        let life = model.names[name].life.clone();
        hold!(deleted.is_some() == life.is_some(), Answer, "deleted, or not");
        model.names[name].ids.clear();
        let (Some((topic, pump)), Some(life)) = (deleted, life) else { return };
        life.is_deleted.set(true);
        life.push_purge(now);
        model.end_life(name, Some(now.monotonic));
        drop(model);
        if pump {
            self.begin_pump(topic);
        }
    }

    /// It was refused: its disk has failed.
    fn look_at_failure(&self, refusal: &Refusal) {
        let has_failed = self.shelf.as_ref().is_some_and(|shelf| shelf.has_failed());
        hold!(has_failed, Answer, "{refusal}");
    }

    /// The service is started again: connections go, topics begin anew.
    pub(crate) fn restart(&self) {
        let connections = self.connections.borrow().clone();
        for connection in &connections {
            self.disconnect(connection);
        }
        self.pumps.borrow_mut().clear();
        let epoch = Epoch(self.random());
        let mut topics = Topics::new(self.plan.settings.clone(), epoch);
        if let Some(shelf) = &self.shelf {
            topics = topics.with_store(Box::new(shelf.clone()));
        }
        self.acks.borrow_mut().clear();
        *self.topics.borrow_mut() = Arc::new(topics);
        *self.model.borrow_mut() = Model::new(self.plan.names.len());
        let topics = self.topics.borrow().clone();
        self.reopen(&topics);
        for _ in &connections {
            self.connect();
        }
    }
}
