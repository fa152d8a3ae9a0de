//! Subscribers: where they begin, from the model's list.

use std::rc::Rc;

use crate::{
    broken::hold,
    connection::{Connection, Group},
    fold::Fold,
    judge::Judge,
    member::Member,
    model::{LeavesOut, Life, Origin},
    subscription::Reads,
    topics::{
        Cursor, Epoch, Fill, Form, Lag, Meta, Now, Offset, Position, Reader, Receive, Refusal,
        Sink, Start, SubscribeOptions, join::Join,
    },
    world::World,
};

/// The place at which a reader has to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Beginning {
    next: u64,
    /// The first message that it missed at the latest, if it is to be told of some.
    gap: Option<u64>,
    reset: Option<Position>,
}

fn beginning(life: &Life, from: &Start, base: u64) -> Beginning {
    let (next, epoch) = (life.visible(), life.epoch);
    let forgotten = life.board.as_ref().map(|board| board.borrow().forgotten);
    let at = |next| Beginning { next, gap: None, reset: None };
    match *from {
        Start::New => at(next),
        Start::Oldest => at(base),
        Start::Last(count) => at(base.max(next.saturating_sub(count))),
        Start::Since(time) if life.board.is_some() => {
            let kept = life
                .board
                .iter()
                .flat_map(|board| board.borrow().kept_from(base).collect::<Vec<_>>());
            let is_young =
                |offset: &u64| life.with(*offset, |sent| sent.time >= time) == Some(true);
            at(kept.into_iter().find(is_young).unwrap_or(next))
        }
        Start::Since(time) => {
            let sent = life.sent.borrow();
            let first = sent.partition_point(|sent| sent.time < time) as u64 + life.first;
            if life.gone_before > 0 && life.gone_before >= time {
                Beginning { gap: Some(1), ..at(base) }
            } else if first < base {
                Beginning { gap: Some(life.first), ..at(base) }
            } else {
                at(first)
            }
        }
        Start::After(position)
            if position.epoch != epoch
                || position.after.0 >= next
                || forgotten.is_some_and(|forgotten| position.after.0 < forgotten) =>
        {
            Beginning { reset: Some(position), ..at(base) }
        }
        Start::After(position) => match position.after.0 + 1 {
            after if after < base && forgotten.is_none() => {
                Beginning { gap: Some(after), ..at(base) }
            }
            after => at(after),
        },
    }
}

/// A reader that has a place.
struct Entered {
    life: Rc<Life>,
    reader: Reader,
    group: Rc<Group>,
}

impl World {
    fn draw_start(&self, life: &Life) -> Start {
        let base = life.base.get();
        let near = |offset: u64| (offset + u64::from(self.below(8))).saturating_sub(4);
        let epoch = life.epoch;
        match self.below(10) {
            0 | 1 => Start::New,
            2 | 3 => Start::Oldest,
            4 => Start::Last(u64::from(self.below(20))),
            5 if life.disk.is_none() => {
                let between = self.below(life.sent.borrow().len().max(1) as u32);
                let of_one = life.with(life.first + u64::from(between), |sent| sent.time);
                Start::Since(near(of_one.unwrap_or_else(|| self.now.get().unix_ms)))
            }
            6 => {
                let offset = self.pick(&[base, life.next(), life.first]);
                Start::After(Position { epoch, after: Offset(near(offset)) })
            }
            7 => Start::After(Position { epoch: Epoch(7), after: Offset(near(life.next())) }),
            _ => {
                let positions = self.positions.borrow();
                let of_name = positions.iter().rev().filter(|(name, ..)| *name == life.name);
                let some = of_name.clone().nth(self.below(4) as usize).or_else(|| of_name.last());
                some.map_or(Start::New, |(_, position, _)| Start::After(*position))
            }
        }
    }

    fn draw_options(&self, life: &Life) -> SubscribeOptions {
        // A tombstone is told by its offset.
        let metas = [Meta::Full, Meta::Full, Meta::Offset, Meta::None];
        let metas = if life.board.is_some() { &metas[..3] } else { &metas[..] };
        SubscribeOptions {
            from: self.draw_start(life),
            lag: self.pick(&[Lag::Gap, Lag::Gap, Lag::Gap, Lag::Latest, Lag::Close, Lag::Conflate]),
            max_lag: self.pick(&[None, None, Some(1), Some(5), Some(100)]),
            tells_start: self.one_in(2),
            tells_live: self.one_in(2),
            meta: self.pick(metas),
            // Whose they were is not known of messages that are read from a disk.
            has_echo: life.disk.is_some() || !self.one_in(4),
            token: None,
        }
    }

    /// Somebody subscribes.
    pub(crate) fn subscribe_somewhere(self: &Rc<Self>) {
        let Some(connection) = self.some_connection() else { return };
        self.subscribe_on(&connection, self.some_name());
    }

    /// A connection subscribes to this topic.
    pub(crate) fn subscribe_on(self: &Rc<Self>, connection: &Rc<Connection>, name: usize) {
        let Some(entered) = self.enter_somewhere(connection, name) else { return };
        let form = self.draw_form(&entered.life);
        let options = self.draw_options(&entered.life);
        let Some((cursor, mut judge)) = self.begin(connection, &entered, &options, form) else {
            return self.leave(entered);
        };
        let Entered { life, reader, group } = entered;
        life.readers.set(life.readers.get() + 1);
        // History has no lag: it reads what there is.
        let is_history = options.lag == Lag::Gap && options.max_lag.is_none() && self.one_in(3);
        let until =
            is_history.then(|| (life.visible() + 4).saturating_sub(u64::from(self.below(12))));
        judge.until = until;
        let cursor = match until {
            Some(until) => cursor.until(Offset(until)),
            None => cursor,
        };
        let reads = Reads::Cursor(cursor);
        let subscription = self.subscribe(connection, reader, group, reads, judge, None);
        subscription.credit.set(self.pick(&[0, 1, 3, 1_000]));
    }

    /// Somebody joins.
    pub(crate) fn join_somewhere(self: &Rc<Self>) {
        let Some(connection) = self.some_connection() else { return };
        let Some(entered) = self.enter_somewhere(&connection, self.some_name()) else { return };
        let (form, options) = (self.draw_form(&entered.life), self.draw_options(&entered.life));
        let kinds =
            [Receive::Both, Receive::Acks, Receive::Messages, Receive::Messages, Receive::None];
        // Of these there is more to go wrong.
        let receive = match entered.life.disk.is_some() {
            true => self.pick(&kinds),
            false => self.pick(&[
                Receive::Both,
                Receive::Both,
                Receive::Acks,
                Receive::Messages,
                Receive::None,
            ]),
        };
        let begun = match receive.has_messages() {
            true => match self.begin(&connection, &entered, &options, form) {
                Some((cursor, judge)) => (Some(cursor), judge),
                None => return self.leave(entered),
            },
            false => {
                let options = SubscribeOptions::default();
                let mut judge = self.judge(&entered.life, &options, form, connection.number);
                (judge.at, judge.reads, judge.fold) = (entered.life.visible(), false, None);
                (None, judge)
            }
        };
        let (cursor, mut judge) = begun;
        let Entered { life, reader, group } = entered;
        let number = self.number();
        let join = Join::new(reader.topic(), number as u32, receive, form, cursor);
        let can_tell = form.is_some() || !receive.has_acks();
        self.say(|| format!("join {number} as {receive:?} with {form:?}: {join:?}"));
        hold!(join.is_ok() == can_tell, Begin, "{:?} with {form:?}", join.map(drop));
        let Ok(mut join) = join else { return self.leave(Entered { life, reader, group }) };
        if self.one_in(8) {
            join = join.unseen();
            for first in &mut judge.first {
                if let Some(start) = first.strip_suffix("}}").filter(|it| it.contains("start")) {
                    *first = format!(r#"{start},"presence":"full"}}}}"#);
                }
            }
        }
        life.readers.set(life.readers.get() + 1);
        let sender = Origin { connection: connection.number, join: number as u32 };
        judge.leaves_out.events_of = sender.join;
        judge.leaves_out.messages_of = if receive.has_acks() { 0 } else { sender.join };
        let name = self.pick(&["ann", "bob \"b\""]);
        let member = Some(Member::new(sender, name, receive, join.window()));
        let reads = Reads::Join(Box::new(join));
        let subscription = self.subscribe(&connection, reader, group, reads, judge, member);
        subscription.credit.set(self.pick(&[0, 0, 1, 3, 1_000]));
        self.count(|totals| totals.joins += 1);
    }

    /// A place among the readers of a topic, if there is one.
    fn enter_somewhere(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        name: usize,
    ) -> Option<Entered> {
        let life = self.open(name)?;
        let topics = self.topics.borrow().clone();
        let limits = self.plan.settings.limits();
        let readers = topics.subscriptions();
        // Gone since it was looked for: nobody else could have done it.
        let topic = life.topic.upgrade().expect("it was opened");
        let entered = self.enter(&topic, connection);
        drop(topic);
        let is_full = readers >= limits.subscriptions
            || life.readers.get() >= life.settings.max_subscriptions;
        match entered {
            Ok((reader, group)) => {
                hold!(!is_full, Answer, "a reader more than allowed, beside {readers}");
                Some(Entered { life, reader, group })
            }
            Err(refusal) => {
                hold!(is_full, Answer, "{refusal} with {readers} readers");
                None
            }
        }
    }

    /// Gives up a place.
    fn leave(&self, entered: Entered) {
        drop(entered);
        self.look();
    }

    fn draw_form(&self, life: &Life) -> Option<Form> {
        let forms = [Some(Form::Plain), Some(Form::Composite), Some(Form::Composite), None];
        self.pick(if life.board.is_some() { &forms[..3] } else { &forms[..] })
    }

    /// A cursor where these options have it begin, and its judge; none if it cannot.
    fn begin(
        &self,
        connection: &Connection,
        Entered { life, reader, .. }: &Entered,
        options: &SubscribeOptions,
        form: Option<Form>,
    ) -> Option<(Cursor, Judge)> {
        let now = self.now.get();
        self.held.set(self.topics.borrow().bytes());
        let begun = Cursor::new(reader.topic(), options, form, connection.number, now);
        self.say(|| {
            let (name, number) = (&self.plan.names[life.name], connection.number);
            format!("connection {number} subscribes to {name} {options:?} {form:?}: {begun:?}")
        });
        self.look();
        let expected = self.expect(life, options);
        let cursor = match begun {
            Ok(cursor) => cursor,
            Err(refusal) => {
                Self::look_at_refusal(&expected, options, form, &refusal);
                return None;
            }
        };
        let mut judge = self.judge(life, options, form, connection.number);
        self.begin_judge(&mut judge, options, &expected, cursor.next().0);
        Some((cursor, judge))
    }

    fn expect(&self, life: &Life, options: &SubscribeOptions) -> Beginning {
        let base = life.topic.upgrade().map_or(0, |topic| topic.base().0);
        beginning(life, &options.from, base)
    }

    fn judge(
        &self,
        life: &Rc<Life>,
        options: &SubscribeOptions,
        form: Option<Form>,
        connection: u64,
    ) -> Judge {
        Judge {
            life: Rc::clone(life),
            at: 0,
            first: Vec::new(),
            has_gap: false,
            live_due: options.tells_live,
            until: None,
            leaves_out: LeavesOut {
                connection: if options.has_echo { 0 } else { connection },
                ..LeavesOut::default()
            },
            lag: options.lag,
            max_lag: options.max_lag.unwrap_or(u64::MAX),
            meta: if form.is_none() { Meta::None } else { options.meta },
            form,
            reads: true,
            event: life.events.borrow().len(),
            base: 0,
            told_missed: 0,
            items: 0,
            is_anew: false,
            fold: life
                .board
                .as_ref()
                .map(|board| Fold { known: board.borrow().forgotten, ..Fold::default() }),
        }
    }

    fn begin_judge(
        &self,
        judge: &mut Judge,
        options: &SubscribeOptions,
        expected: &Beginning,
        place: u64,
    ) {
        let (next, base) = (expected.next, judge.life.base.get());
        hold!(place == next, Begin, "{options:?} begins at {place}, not {expected:?}");
        let epoch = judge.life.epoch;
        // One that cannot be told of it wants the newest alone.
        let gap = expected.gap.filter(|_| judge.form.is_some());
        judge.has_gap = gap.is_some();
        judge.at = gap.unwrap_or(next);
        if options.tells_start {
            let (next, head) = (judge.at, judge.life.visible() - 1);
            judge.first.push(format!(
                r#"{{"start":{{"epoch":"{epoch}","next":{next},"base":{base},"head":{head}}}}}"#
            ));
        }
        if let Some(Position { epoch: lost, after }) = expected.reset
            && judge.form.is_some()
        {
            let from = after.0 + 1;
            judge.first.push(format!(
                r#"{{"gap":{{"epoch":"{lost}","from":{from}}},"epoch":"{epoch}","base":{base}}}"#
            ));
        }
        match options.from {
            Start::After(position) => {
                let positions = self.positions.borrow();
                let mut known = positions.iter().rev();
                let saved = known.find(|(name, at, _)| *name == judge.life.name && *at == position);
                let saved = saved.and_then(|(.., fold)| fold.clone());
                judge.takes_up(position, saved, expected.reset.is_some());
            }
            Start::Oldest => {}
            _ => judge.fold.iter_mut().for_each(|fold| fold.begin = next),
        }
    }

    fn look_at_refusal(
        expected: &Beginning,
        options: &SubscribeOptions,
        form: Option<Form>,
        refusal: &Refusal,
    ) {
        let text = refusal.to_string();
        if text.starts_with("no metadata: ") {
            let asks = options.tells_start || options.tells_live;
            return hold!(form.is_none() && asks, Begin, "{text}");
        }
        let closes = options.lag == Lag::Close || (form.is_none() && options.lag != Lag::Conflate);
        hold!(closes, Begin, "refused, and did not ask for it: {text}");
        let is_right = match expected {
            Beginning { gap: Some(_), .. } => text.starts_with("overrun: "),
            Beginning { reset: Some(_), .. } => text.starts_with("began anew: "),
            _ => false,
        };
        hold!(is_right, Begin, "{text} instead of {expected:?}");
    }

    /// Reads all that a topic keeps, beside everybody else.
    pub(crate) fn probe(&self, name: usize) {
        let Some(life) = self.model.borrow().names[name].life.clone() else { return };
        let Some(topic) = life.topic.upgrade() else { return };
        let options = SubscribeOptions { from: Start::Oldest, ..SubscribeOptions::default() };
        let form = Some(self.pick(&[Form::Plain, Form::Composite]));
        let begun = Cursor::new(&topic, &options, form, 0, self.now.get());
        let mut cursor = begun.expect("nothing is missed");
        self.look();
        let mut judge = self.judge(&life, &options, form, 0);
        judge.at = cursor.next().0;
        let first = judge.at;
        hold!(first == topic.base().0, Begin, "the oldest is {first}, not {}", topic.base());
        let mut probe = Probe { world: self, topic: &topic, judge };
        let mut filled = cursor.fill(&topic, &mut probe);
        let mut portions = 0;
        while let Fill::Stored(wanted) = filled {
            portions += 1;
            hold!(portions < 10_000, Whole, "{wanted:?} are read again and again");
            let loaded = topic.load(wanted.clone(), 700, self.now.get());
            let Ok((segment, next)) = loaded else {
                return hold!(self.plan.disk_fails, Whole, "{wanted:?}: {loaded:?}");
            };
            let given = cursor.give(segment, next, &topic);
            hold!(given.is_ok(), Whole, "{given:?}");
            filled = cursor.fill(&topic, &mut probe);
        }
        let is_done = if life.is_closed.get() { Fill::Ended } else { Fill::CaughtUp };
        hold!(filled == is_done, Whole, "{filled:?} at {} of {}", probe.judge.at, life.visible());
        let next = life.visible();
        let kept = life.board.as_ref().map(|board| board.borrow().len() as u64);
        probe.judge.look_at_fold(next);
        let at = probe.judge.at;
        hold!(at == next, Whole, "{at} of {next}");
        let kept = kept.unwrap_or(next - first);
        // The disk may have let more go than it has told.
        let is_all =
            probe.judge.items == kept || probe.judge.told_missed > 0 && life.disk.is_some();
        hold!(is_all, Whole, "{} of {kept} from {first}", probe.judge.items);
        self.look_at_forgotten(&life, &topic);
    }
}

/// A sink with room for everything, whom nobody disturbs.
struct Probe<'a> {
    world: &'a World,
    topic: &'a crate::topics::Topic,
    judge: Judge,
}

impl Sink for Probe<'_> {
    fn has_room(&mut self) -> bool {
        hold!(self.judge.items < 1_000_000, Awake, "a filling that does not end");
        true
    }

    fn send(&mut self, item: &rsock_proto::SharedPayload) -> Result<(), Refusal> {
        let payload = item.to_payload();
        let model = self.world.model.borrow();
        let moment = crate::judge::Moment {
            model: &model,
            now: self.world.now.get(),
            base: self.world.base_of(self.topic, &self.judge.life),
            visible: self.topic.visible().0,
            looked: 0,
        };
        let json = self.judge.json(payload.metadata.as_deref()).to_owned();
        self.judge.item(&json, &payload.data, &moment);
        Ok(())
    }

    fn now(&self) -> Now {
        self.world.now.get()
    }
}
