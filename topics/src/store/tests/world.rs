//! One seed is one world: topics, commits, cuts of power, and a plain model beside them.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    entry::Message,
    name::TopicName,
    position::{Epoch, Offset},
    store::{
        Engine, NewTopic, Record, Retention, Settings, TopicId, Unstaged,
        faulty::{Fault, Faulty, Random},
        files::StoreFile,
    },
};

/// A message, as it was given.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) time: u64,
    pub(super) id: Option<u128>,
    pub(super) closes: bool,
    pub(super) key: Option<String>,
    pub(super) headers: Option<String>,
    pub(super) data: Vec<u8>,
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.data.len())
    }
}

/// A topic, as it should be.
#[derive(Clone, Debug)]
struct Model {
    id: TopicId,
    epoch: Epoch,
    is_loose: bool,
    /// Retention may go beyond what the model knows.
    is_bounded: bool,
    settings: String,
    base: u64,
    next: u64,
    closed: Option<u64>,
    messages: BTreeMap<u64, Arc<Given>>,
}

type State = BTreeMap<String, Model>;

pub(super) struct World {
    random: Random,
    pub(super) disk: Faulty,
    settings: Settings,
    engine: Option<Engine<Faulty>>,
    /// The states that a cut may lead back to: what is synced, what was written since, and what is on its
    /// way.
    states: Vec<State>,
    /// The ends of the logs that were told, in each epoch.
    told: BTreeMap<(TopicId, u64), u64>,
    /// The state with all that is staged.
    staged: State,
    time: u64,
    serial: u64,
    pub(super) appended: u64,
    pub(super) seen: Seen,
}

/// The events behind the journal.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) barriers: u64,
    /// Packs of many that were named, and packs of one run, of which most was dead.
    pub(super) merged: u64,
    pub(super) cleaned: u64,
    /// Catalogues that were written anew.
    pub(super) catalogues: u64,
    pub(super) max_level: u32,
}

impl Seen {
    fn note(&mut self, before: &StoreFile, after: &StoreFile) {
        self.barriers += 1;
        self.catalogues += u64::from(before.catalogue.number != after.catalogue.number);
        for pack in &after.packs {
            if before.packs.iter().all(|other| other.id != pack.id) {
                let is_old = before.packs.iter().any(|other| other.run == pack.run);
                self.cleaned += u64::from(is_old);
                self.merged += u64::from(!is_old && pack.level > 0);
            }
            self.max_level = self.max_level.max(pack.level);
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.barriers += other.barriers;
        self.merged += other.merged;
        self.cleaned += other.cleaned;
        self.catalogues += other.catalogues;
        self.max_level = self.max_level.max(other.max_level);
    }
}

pub(super) fn small(random: &mut Random) -> Settings {
    Settings {
        journal_bytes: 4096 * (1 + random.below(4)),
        max_waiting_files: 1 + random.below(3) as usize,
        segment_bytes: 300 + random.below(2_000),
        max_open_segments: 1 + random.below(3) as usize,
        max_bytes: 1 << 40,
        batch_bytes: 300 + random.below(3_000) as usize,
        flush_bytes: 100 + random.below(1_500) as usize,
        pending_bytes: 4_000 + random.below(12_000),
        pack_bytes: 300 + random.below(3_000),
        max_runs: 2 + random.below(3) as usize,
        catalogue_bytes: 100 + random.below(1_500),
        accepts_damage: false,
    }
}

pub(super) fn name(text: &str) -> TopicName {
    TopicName::parse(text).expect("a name")
}

/// Messages with their offsets, and the damage that was met.
pub(super) type Messages = (Vec<(u64, Given)>, Option<String>);

/// The messages of a topic from an offset on.
pub(super) fn read_all(
    engine: &mut Engine<Faulty>,
    topic: TopicId,
    mut from: u64,
    max_bytes: usize,
) -> Result<Messages, String> {
    let mut messages = Vec::new();
    let mut damage = None;
    let disk = engine.disk().clone();
    let next = engine.topic(topic).expect("a topic").next.0;
    while from < next {
        let source = engine.read(topic, Offset(from), max_bytes);
        let block = source.map_err(|refusal| refusal.to_string())?.read(&disk);
        let block = block.map_err(|error| error.to_string())?;
        messages.extend(block.records().map(|record| (record.offset.0, given(&record))));
        damage = damage.or_else(|| block.damage().map(str::to_owned));
        assert!(block.next().0 > from, "no progress at {from} of {next}");
        from = block.next().0;
    }
    Ok((messages, damage))
}

pub(super) fn given(record: &Record<'_>) -> Given {
    Given {
        time: record.time,
        id: record.id,
        closes: record.closes,
        key: record.message.key.map(str::to_owned),
        headers: record.message.headers.map(str::to_owned),
        data: record.message.data.to_vec(),
    }
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x5851_f42d_4c95_7f2d));
        let settings = small(&mut random);
        let disk = Faulty::new(random.next());
        Self {
            random,
            disk,
            settings,
            engine: None,
            states: vec![State::new()],
            told: BTreeMap::new(),
            staged: State::new(),
            time: 1_000,
            serial: 0,
            appended: 0,
            seen: Seen::default(),
        }
    }

    /// Opens the store, and finds the state that it has come back to.
    pub(super) fn open(&mut self, after_cut: bool) -> Result<(), String> {
        let random = [self.random.next(), self.random.next(), self.random.next()];
        let mut engine = match Engine::open(self.disk.clone(), self.settings, random) {
            Ok(engine) => engine,
            Err(_) if self.disk.has_failed() => return Ok(()),
            Err(error) => return Err(format!("cannot be opened: {error}")),
        };
        if !engine.notes().is_empty() {
            return Err(format!("a crash looks like damage: {:?}", engine.notes()));
        }
        let mut why = Vec::new();
        let states = std::mem::take(&mut self.states);
        // Whoever was told of a message that is lost keeps its number: it never means another.
        for topic in engine.topics() {
            let told = self.told.get(&(topic.id, topic.epoch.0));
            if told.is_some_and(|next| *next > topic.next.0) {
                return Err(format!("offsets would be given twice: {topic:?}"));
            }
        }
        for state in states.iter().rev() {
            match self.compare(&mut engine, state, after_cut) {
                Ok(state) => {
                    self.states = vec![state.clone()];
                    self.staged = state;
                    self.engine = Some(engine);
                    return Ok(());
                }
                Err(_) if self.disk.has_failed() => {
                    self.states = states;
                    return Ok(());
                }
                Err(error) => why.push(error),
            }
        }
        Err(why.join("\n or "))
    }

    /// The state with what opening may change, if the engine's is the same.
    fn compare(
        &mut self,
        engine: &mut Engine<Faulty>,
        state: &State,
        after_cut: bool,
    ) -> Result<State, String> {
        let mut state = state.clone();
        let there: Vec<_> = engine.topics().collect();
        let names: Vec<_> = there.iter().map(|topic| topic.name.as_str()).collect();
        let expected: Vec<_> = state.keys().map(String::as_str).collect();
        if names != expected {
            return Err(format!("topics {names:?}, not {expected:?}"));
        }
        for topic in there {
            let model = state.get_mut(topic.name.as_str()).expect("compared");
            let what = format!("topic {}: {topic:?}, not {model:?}", topic.name);
            if topic.damage.is_some() {
                return Err(format!("a crash looks like damage: {what}"));
            }
            let is_same = topic.id == model.id
                && topic.next.0 == model.next
                && topic.closed.map(|closed| closed.0) == model.closed
                && topic.settings == model.settings;
            let is_base = topic.base.0 == model.base
                || (model.is_bounded && topic.base.0 > model.base && topic.base.0 <= model.next);
            let is_epoch = if model.is_loose && after_cut {
                // It may have been opened, and cut while it was.
                true
            } else {
                topic.epoch == model.epoch
            };
            if !(is_same && is_base && is_epoch) {
                return Err(what);
            }
            model.base = topic.base.0;
            model.epoch = topic.epoch;
            let base = model.base;
            model.messages.retain(|offset, _| *offset >= base);
            self.read(engine, model, base)?;
        }
        Ok(state)
    }

    fn read(
        &mut self,
        engine: &mut Engine<Faulty>,
        model: &Model,
        from: u64,
    ) -> Result<(), String> {
        let max_bytes = self.random.below(2_000) as usize;
        let (messages, damage) = read_all(engine, model.id, from, max_bytes)?;
        let expected = model.messages.range(from..);
        let is_same = expected.clone().count() == messages.len()
            && expected
                .zip(&messages)
                .all(|((offset, given), (other, read))| offset == other && **given == *read);
        if !is_same || damage.is_some() {
            let read: Vec<_> = messages.iter().map(|(offset, _)| offset).collect();
            let expected: Vec<_> = model.messages.range(from..).map(|(offset, _)| offset).collect();
            return Err(format!("messages {read:?} ({damage:?}), not {expected:?} of {model:?}"));
        }
        Ok(())
    }

    fn any(&mut self) -> Option<String> {
        let at = self.random.below(self.staged.len() as u64) as usize;
        self.staged.keys().nth(at).cloned()
    }

    /// Stages something. True if the batch was full.
    fn stage(&mut self) -> bool {
        let Some(engine) = &mut self.engine else { return false };
        let random = &mut self.random;
        let kind = random.below(40);
        if kind == 0 || self.staged.is_empty() {
            self.serial += 1;
            let (is_loose, is_bounded) = (random.once_in(3), random.once_in(3));
            let text = format!("topic.{}", self.serial % 7);
            let epoch = Epoch(random.next());
            let settings = format!("{{\"serial\":{}}}", self.serial);
            let bounds = |random: &mut Random| Retention {
                messages: Some(1 + random.below(20)),
                bytes: Some(500 + random.below(3_000)),
                age_ms: random.once_in(2).then(|| random.below(100)),
            };
            let retention = if is_bounded { bounds(random) } else { Retention::default() };
            let first = 1 + random.below(3);
            let new = NewTopic {
                name: &name(&text),
                epoch,
                first: Offset(first),
                is_loose,
                settings: &settings,
                retention,
            };
            let made = match engine.create(&new) {
                Ok(id) => id,
                Err(Unstaged::Later) => return true,
                Err(Unstaged::Refused(_)) => return false,
            };
            let model = Model {
                id: made,
                epoch,
                is_loose,
                is_bounded,
                settings,
                base: first,
                next: first,
                closed: None,
                messages: BTreeMap::new(),
            };
            self.staged.insert(text, model);
            return false;
        }
        let Some(topic) = self.any() else { return false };
        let Some(engine) = &mut self.engine else { return false };
        let random = &mut self.random;
        let model = self.staged.get_mut(&topic).expect("chosen");
        let is_later = |result: Result<(), Unstaged>| result == Err(Unstaged::Later);
        match kind {
            1 => {
                let result = engine.delete(model.id);
                if result.is_ok() {
                    self.staged.remove(&topic);
                }
                is_later(result)
            }
            2 => {
                // What is not committed is not dropped.
                let committed = engine.topic(model.id).expect("a topic").next.0;
                let base = if random.once_in(2) { committed } else { random.below(committed + 1) };
                let result = engine.trim(model.id, Offset(base));
                if result.is_ok() {
                    model.base = model.base.max(base);
                    model.messages.retain(|offset, _| *offset >= base);
                }
                is_later(result)
            }
            3 => {
                let settings = format!("{{\"n\":{}}}", random.below(1_000));
                let result = engine.configure(model.id, model.is_loose, &settings);
                if result.is_ok() {
                    model.settings = settings;
                }
                is_later(result)
            }
            _ => {
                self.time += random.below(3);
                self.appended += 1;
                let len = if random.once_in(30) { 1_500 } else { random.below(200) };
                let mut data = format!("{topic} {} {}", model.next, self.appended).into_bytes();
                data.resize(data.len() + len as usize, b'.');
                let given = Given {
                    time: self.time,
                    id: random.once_in(2).then(|| u128::from(random.next())),
                    closes: random.once_in(150),
                    key: random.once_in(4).then(|| "key".to_owned()),
                    headers: random.once_in(4).then(|| "{\"a\":1}".to_owned()),
                    data,
                };
                let record = Record {
                    offset: Offset(model.next),
                    time: given.time,
                    id: given.id,
                    closes: given.closes,
                    message: Message {
                        data: &given.data,
                        key: given.key.as_deref(),
                        headers: given.headers.as_deref(),
                        ..Message::default()
                    },
                };
                match engine.append(model.id, &record) {
                    Ok(()) => {
                        if given.closes {
                            model.closed = Some(model.next);
                        }
                        model.messages.insert(model.next, Arc::new(given));
                        model.next += 1;
                        false
                    }
                    refused => is_later(refused),
                }
            }
        }
    }

    fn commit(&mut self) -> Result<(), String> {
        let Some(engine) = &mut self.engine else { return Ok(()) };
        let Ok(Some(commit)) = engine.commit() else { return Ok(()) };
        let is_synced = commit.sync;
        self.states.push(self.staged.clone());
        // The next batch is gathered while this one is written.
        for _ in 0..self.random.below(3) {
            self.stage();
        }
        let Some(engine) = &mut self.engine else { return Ok(()) };
        let committed = commit.run(&self.disk);
        let finished = engine.finish_commit(committed);
        if let Ok(outcome) = &finished {
            for (id, next) in &outcome.moved {
                let epoch = engine.topic(*id).map(|topic| topic.epoch);
                self.told.extend(epoch.map(|epoch| ((*id, epoch.0), next.0)));
            }
        }
        match finished {
            Ok(outcome) if outcome.is_synced => {
                let last = self.states.pop().expect("pushed");
                self.states = vec![last];
                if !is_synced {
                    return Err("what was not synced is told to be".to_owned());
                }
            }
            Ok(_) if is_synced => return Err("a sync is not told".to_owned()),
            Ok(_) => {}
            Err(_) => self.engine = None,
        }
        Ok(())
    }

    fn step(&mut self) {
        let Some(engine) = &mut self.engine else { return };
        if (engine.wants_sync() || self.random.once_in(10))
            && let Some(sync) = engine.sync()
        {
            if engine.finish_sync(sync.run(&self.disk)).is_err() {
                self.engine = None;
                return;
            }
            let last = self.states.pop().expect("one at least");
            self.states = vec![last];
        }
        if engine.step(self.time).is_err() {
            self.engine = None;
            return;
        }
        if self.random.once_in(10) {
            engine.expire(self.time);
        }
    }

    /// A life of the process: until the disk fails, or so many steps.
    pub(super) fn live(&mut self, steps: u64) -> Result<(), String> {
        let mut barrier = None;
        for _ in 0..steps {
            match self.random.below(12) {
                0..5 => {
                    if self.stage() {
                        self.commit()?;
                    }
                }
                5..7 => self.commit()?,
                7..10 => self.step(),
                10 => {
                    let Some(engine) = &mut self.engine else { return Ok(()) };
                    barrier = barrier.or_else(|| engine.barrier());
                }
                _ => {
                    if let (Some(engine), Some(taken)) = (&mut self.engine, barrier.take()) {
                        let before = engine.file.clone();
                        if engine.finish_barrier(taken.run(&self.disk)).is_err() {
                            self.engine = None;
                        } else {
                            self.seen.note(&before, &engine.file);
                        }
                    }
                    self.check_reads()?;
                }
            }
            if self.engine.is_none() {
                break;
            }
        }
        // A job that was begun is ended.
        if let (Some(engine), Some(taken)) = (&mut self.engine, barrier)
            && engine.finish_barrier(taken.run(&self.disk)).is_err()
        {
            self.engine = None;
        }
        Ok(())
    }

    /// Reads what is committed, from anywhere.
    fn check_reads(&mut self) -> Result<(), String> {
        let Some(mut engine) = self.engine.take() else { return Ok(()) };
        let committed = self.states.last().expect("one at least").clone();
        for (text, model) in &committed {
            let Some(topic) = engine.topic(model.id) else { return Err(format!("{text} is gone")) };
            if topic.next.0 != model.next {
                return Err(format!("{text} ends at {}, not {}", topic.next, model.next));
            }
            if topic.base.0 != model.base && !(model.is_bounded && topic.base.0 > model.base) {
                return Err(format!("{text} begins at {}, not {}", topic.base, model.base));
            }
            let from = topic.base.0 + self.random.below(model.next - topic.base.0 + 1);
            match self.read(&mut engine, model, from) {
                Err(_) if self.disk.has_failed() => return Ok(()),
                result => result?,
            }
        }
        self.engine = Some(engine);
        Ok(())
    }

    /// Ends the life in order, by a kill, or by a cut. True if something written may be lost: the power was
    /// cut, or the disk has failed.
    pub(super) fn end(&mut self, is_cut: bool) -> Result<bool, String> {
        let engine = self.engine.take();
        if !is_cut && self.random.once_in(2) {
            if let Some(mut engine) = engine {
                let time = self.time;
                self.states.push(self.staged.clone());
                let closed = engine.close(time);
                if closed.is_ok() {
                    self.states = vec![self.states.pop().expect("pushed")];
                }
            }
        } else {
            drop(engine);
        }
        if is_cut {
            self.disk.cut();
            return Ok(true);
        }
        // What was written is there, though nobody has synced it. A batch that failed may be there.
        let has_failed = self.disk.has_failed();
        self.disk.kill();
        Ok(has_failed)
    }
}

/// A world of several lives, which ends when the disk has failed, or with some steps.
pub(super) fn run(seed: u64) -> Result<(u64, Seen), String> {
    let at = |world: &mut World| {
        (world.random.below(4) > 0).then(|| (1 + world.random.below(400), Fault::Cut))
    };
    lives(seed, 4, 400, at).map_err(|error| format!("seed {seed}: {error}"))
}

/// A world in which this call fails, in its first life.
pub(super) fn run_with(seed: u64, call: u64, fault: Fault) -> Result<(), String> {
    let mut first = Some((call, fault));
    let result = lives(seed, 2, 150, |_| first.take());
    result.map(drop).map_err(|error| format!("seed {seed}, {fault:?} at {call}: {error}"))
}

/// The calls of the first life of a world.
pub(super) fn calls(seed: u64) -> u64 {
    let mut world = World::new(seed);
    world.open(false).expect("nothing fails");
    world.live(150).expect("nothing fails");
    world.end(false).expect("nothing fails");
    world.disk.calls()
}

fn lives(
    seed: u64,
    lives: usize,
    steps: u64,
    mut fault: impl FnMut(&mut World) -> Option<(u64, Fault)>,
) -> Result<(u64, Seen), String> {
    let mut world = World::new(seed);
    let mut is_cut = false;
    let mut cuts = 0;
    for _ in 0..lives {
        let fault = fault(&mut world);
        if let Some((call, fault)) = fault {
            world.disk.fail_at(call, fault);
        }
        world.open(is_cut)?;
        let was_opened = world.engine.is_some();
        world.live(steps)?;
        let is_over = world.disk.has_failed() || world.random.once_in(3);
        let dies = match fault {
            Some((_, Fault::Error | Fault::Full)) => world.random.once_in(2),
            _ => is_over,
        };
        cuts += u64::from(dies);
        // Whoever was not told the epoch that a cut has led to is told when it is opened at last.
        is_cut = world.end(dies)? || (is_cut && !was_opened);
    }
    world.disk.heal();
    world.open(is_cut)?;
    Ok((cuts, world.seen))
}
