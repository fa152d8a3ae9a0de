//! Subscribers: where they begin, from the model's list.

use std::rc::Rc;

use crate::{
    broken::hold,
    connection::Connection,
    fold::Fold,
    judge::Judge,
    model::Life,
    topics::{
        Cursor, Epoch, Fill, Form, Lag, Meta, Now, Offset, Position, Refusal, Sink, Start,
        SubscribeOptions,
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
        let Some(life) = self.open(name) else { return };
        let topics = self.topics.borrow().clone();
        let limits = self.plan.settings.limits();
        let readers = topics.subscriptions();
        // Gone since it was looked for: nobody else could have done it.
        let topic = life.topic.upgrade().expect("it was opened");
        let (reader, group) = match self.enter(&topic, connection) {
            Ok(entered) => entered,
            Err(refusal) => {
                drop(topic);
                let is_full = readers >= limits.subscriptions
                    || life.readers.get() >= life.settings.max_subscriptions;
                hold!(is_full, Answer, "{refusal} with {readers} readers");
                return;
            }
        };
        drop(topic);
        let is_full = readers >= limits.subscriptions
            || life.readers.get() >= life.settings.max_subscriptions;
        hold!(!is_full, Answer, "a reader more than allowed, beside {readers}");
        let options = self.draw_options(&life);
        let forms = [Some(Form::Plain), Some(Form::Composite), Some(Form::Composite), None];
        let form = self.pick(if life.board.is_some() { &forms[..3] } else { &forms[..] });
        let now = self.now.get();
        self.held.set(topics.bytes());
        let begun = Cursor::new(reader.topic(), &options, form, connection.number, now);
        self.say(|| {
            let (name, number) = (&self.plan.names[name], connection.number);
            format!("connection {number} subscribes to {name} {options:?} {form:?}: {begun:?}")
        });
        self.look();
        let expected = self.expect(&life, &options);
        let cursor = match begun {
            Ok(cursor) => cursor,
            Err(refusal) => {
                Self::look_at_refusal(&expected, &options, form, &refusal);
                drop((reader, group));
                self.look();
                return;
            }
        };
        life.readers.set(life.readers.get() + 1);
        let mut judge = self.judge(&life, &options, form, connection.number);
        self.begin_judge(&mut judge, &options, &expected, cursor.next().0);
        // History has no lag: it reads what there is.
        let is_history = options.lag == Lag::Gap && options.max_lag.is_none() && self.one_in(3);
        let until =
            is_history.then(|| (life.visible() + 4).saturating_sub(u64::from(self.below(12))));
        judge.until = until;
        let cursor = match until {
            Some(until) => cursor.until(Offset(until)),
            None => cursor,
        };
        let subscription = self.subscribe(connection, reader, group, cursor, judge);
        subscription.credit.set(self.pick(&[0, 1, 3, 1_000]));
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
            leaves_out: if options.has_echo { 0 } else { connection },
            lag: options.lag,
            max_lag: options.max_lag.unwrap_or(u64::MAX),
            meta: if form.is_none() { Meta::None } else { options.meta },
            form,
            event: life.events.borrow().len(),
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
        self.judge.item(payload.metadata.as_deref(), &payload.data, &moment);
        Ok(())
    }

    fn now(&self) -> Now {
        self.world.now.get()
    }
}
