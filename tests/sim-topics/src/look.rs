//! Those who look on: what must hold of topics after every step.

use std::{rc::Rc, sync::Arc};

use crate::{
    broken::hold,
    model::Life,
    topics::{Instant, Topic, Topics},
    world::World,
};

impl World {
    /// Looks at what must hold after every step.
    pub(crate) fn look(&self) {
        let topics = Arc::clone(&self.topics.borrow());
        for name in 0..self.plan.names.len() {
            self.look_at_topic(&topics, name, None);
        }
        if self.depth.get() == 0 {
            for connection in self.connections.borrow().iter().filter(|one| !one.is_busy.get()) {
                for subscription in connection.subscriptions.borrow().iter() {
                    self.look_at_reader(connection, subscription);
                }
            }
        }
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
