//! Durable topics: between a topic and the files it is kept in.

use std::{
    fmt,
    path::Path,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use tokio::runtime::Handle;

use super::{Clock, Permit, Service, pump, random};
use crate::{
    dedup::{DedupKey, DedupSecret},
    memory::Held,
    name::TopicName,
    position::{Epoch, Offset},
    refusal::Refusal,
    registry::Topics,
    settings::{Kind, Settings, SyncMode, TopicSettings},
    store::{
        self, Directory, Disk, Engine, Listener, NewTopic, Record, Retention, StoreError,
        StoreFigures, Terms, TopicState, Waiting,
    },
    sync::{Mutex, lock},
    topic::{Journal, Recovered, Staged, Store, Topic},
};

/// Bytes that are read at once of what is brought back into memory.
const READ_BYTES: usize = 1 << 20;

/// A topic, as the committer's thread knows it.
struct Told {
    name: TopicName,
    topic: OnceLock<Weak<Topic>>,
    /// Readers are woken on this runtime.
    runtime: Handle,
    clock: Clock,
    on_damage: Arc<OnDamage>,
}

type Tell = dyn Fn(&DamagedTopic) + Send + Sync;

/// The place for whoever is told of topics that are found damaged while they are served, and for those that were
/// found before anybody was.
#[derive(Default)]
pub(super) struct OnDamage {
    tell: OnceLock<Box<Tell>>,
    before: Mutex<Vec<DamagedTopic>>,
}

impl OnDamage {
    fn tell(&self, damaged: DamagedTopic) {
        lock(&self.before).push(damaged);
        self.tell_all();
    }

    fn set(&self, tell: impl Fn(&DamagedTopic) + Send + Sync + 'static) {
        let _ = self.tell.set(Box::new(tell));
        self.tell_all();
    }

    fn tell_all(&self) {
        if let Some(tell) = self.tell.get() {
            std::mem::take(&mut *lock(&self.before)).iter().for_each(tell);
        }
    }
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Told").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Told {
    fn new(data: &Data, name: &TopicName) -> Arc<Self> {
        let (runtime, clock) = (data.runtime.clone(), data.clock);
        let (name, on_damage) = (name.clone(), Arc::clone(&data.on_damage));
        Arc::new(Self { name, topic: OnceLock::new(), runtime, clock, on_damage })
    }

    fn tell(&self, tell: impl FnOnce(&Topic) -> bool) {
        if let Some(topic) = self.topic.get().and_then(Weak::upgrade)
            && tell(&topic)
        {
            let _entered = self.runtime.enter();
            pump::pump(&topic, self.clock);
        }
    }
}

impl Listener for Told {
    fn committed(&self, next: Offset, _is_synced: bool) {
        self.tell(|topic| topic.commit(next));
    }

    fn based(&self, base: Offset) {
        self.tell(|topic| {
            topic.trimmed(base);
            false
        });
    }

    fn failed(&self, why: &Refusal) {
        self.tell(|topic| topic.fail(&why.to_string()));
    }

    fn damaged(&self, damage: &str) {
        let name = Some(self.name.clone());
        self.on_damage.tell(DamagedTopic { name, damage: damage.to_owned() });
        self.tell(|topic| topic.damaged(damage));
    }
}

/// The files of one topic.
#[derive(Debug)]
struct Files {
    store: Arc<store::Store>,
    topic: Arc<store::Durable>,
    told: Arc<Told>,
}

impl Journal for Files {
    fn bind(&self, topic: &Arc<Topic>) {
        // There is one topic of these files, and it is bound once.
        let _ = self.told.topic.set(Arc::downgrade(topic));
    }

    fn take(&self, staged: &Staged<'_>) -> Result<(), Refusal> {
        let Staged { offset, time, id, closes, message } = *staged;
        let id = id.map(|DedupKey([high, low])| u128::from(high) << 64 | u128::from(low));
        self.topic.append(&Record { offset, time, id, closes, message })
    }

    fn read(
        &self,
        from: Offset,
        max_bytes: usize,
        give: &mut dyn FnMut(Staged<'_>),
    ) -> Result<Offset, Refusal> {
        let block = self.store.read(self.topic.id(), from, max_bytes)?;
        block.records().map(staged).for_each(give);
        Ok(block.next())
    }

    fn trim(&self, base: Offset) -> Result<(), Refusal> {
        self.store.trim(self.topic.id(), base)
    }

    fn delete(&self) -> Result<(), Refusal> {
        self.store.delete(self.topic.id())
    }
}

fn staged(record: Record<'_>) -> Staged<'_> {
    let Record { offset, time, id, closes, message } = record;
    // Both halves, each whole.
    let id = id.map(|id| DedupKey([(id >> 64) as u64, id as u64]));
    Staged { offset, time, id, closes, message }
}

/// The data directory.
struct Data {
    store: Arc<store::Store>,
    runtime: Handle,
    clock: Clock,
    on_damage: Arc<OnDamage>,
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Data").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Data {
    fn terms(settings: &TopicSettings, told: &Arc<Told>) -> Terms {
        let pending = settings.pending;
        Terms {
            listener: Arc::clone(told) as Arc<dyn Listener>,
            waiting: Waiting { messages: pending.messages, bytes: pending.bytes },
            sync_within: match settings.sync {
                SyncMode::EveryMs(ms) => Some(Duration::from_millis(ms)),
                SyncMode::Always | SyncMode::Os => None,
            },
        }
    }

    fn retention(settings: &TopicSettings) -> Retention {
        let crate::settings::Retention { messages, bytes, age } = settings.retention;
        Retention {
            messages: Some(messages),
            bytes: u64::try_from(bytes).ok(),
            age_ms: u64::try_from(age.as_millis()).ok(),
        }
    }

    fn files(&self, topic: Arc<store::Durable>, told: Arc<Told>) -> Box<dyn Journal> {
        Box::new(Files { store: Arc::clone(&self.store), topic, told })
    }

    /// The settings of a topic that was found on disk: those of today, but that it stays durable whatever they
    /// say of such names now. Nothing that was acknowledged goes because of a word in them.
    fn settings_of(topics: &Topics, name: &TopicName) -> Arc<TopicSettings> {
        let settings = topics.settings().of(name).map(Arc::clone).unwrap_or_default();
        if settings.kind == Kind::Durable {
            return settings;
        }
        Arc::new(TopicSettings { kind: Kind::Durable, ..TopicSettings::clone(&settings) })
    }

    /// Brings back a topic that was found on disk.
    fn adopt(&self, topics: &Topics, state: &TopicState) -> Result<(), Refusal> {
        let name = &state.name;
        let settings = Self::settings_of(topics, name);
        let told = Told::new(self, name);
        let (retention, terms) = (Self::retention(&settings), Self::terms(&settings, &told));
        let topic = self.store.attach(state, retention, terms)?;
        let is_loose = settings.sync != SyncMode::Always;
        if state.is_loose != is_loose {
            // The settings have changed since it was made.
            self.store.configure(state.id, is_loose, state.settings.clone())?;
        }
        let recovered = Recovered {
            epoch: state.epoch,
            base: state.base,
            next: state.next,
            is_closed: state.closed.is_some(),
            time: state.time,
            damage: state.damage.clone(),
        };
        let remembered = u64::try_from(settings.dedup_entries).unwrap_or(u64::MAX);
        let journal = self.files(topic, told);
        let mut from = state.base.max(Offset(state.next.0.saturating_sub(remembered)));
        let topic = Topic::durable(name.clone(), &recovered, journal, settings, topics.held());
        let now = self.clock.now();
        while from < state.next {
            let block = self.store.read(state.id, from, READ_BYTES)?;
            block.records().for_each(|record| topic.restore(&staged(record), now));
            if block.next() <= from {
                break;
            }
            from = block.next();
        }
        topic.restored(&recovered);
        topics.adopt(topic);
        Ok(())
    }
}

impl Store for Data {
    fn create(
        &self,
        name: &TopicName,
        settings: &TopicSettings,
        epoch: Option<Epoch>,
    ) -> Result<(Recovered, Box<dyn Journal>), Refusal> {
        let (epoch, first) = (epoch.unwrap_or_else(|| Epoch(random())), Offset(1));
        let told = Told::new(self, name);
        let is_loose = settings.sync != SyncMode::Always;
        let retention = Self::retention(settings);
        let new = NewTopic { name, epoch, first, is_loose, settings: "", retention };
        let topic = self.store.create(&new, Self::terms(settings, &told))?;
        let recovered =
            Recovered { epoch, base: first, next: first, is_closed: false, time: 0, damage: None };
        Ok((recovered, self.files(topic, told)))
    }
}

/// A topic that was found damaged, when its data directory was opened or later: it can be read, and takes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedTopic {
    /// Its name; none for damage that belongs to no topic, or to all.
    pub name: Option<TopicName>,
    /// The place and the kind of the damage: a sentence.
    pub damage: String,
}

impl Service {
    /// Topics of which the durable ones are kept in this directory, which is made if there is none: those
    /// that are there already go on. It takes the time of a disk; with what was found damaged. To be called
    /// in a runtime, on which readers are woken.
    ///
    /// # Errors
    /// The directory is in use, is not one of ours, or its disk fails.
    pub fn open(
        settings: Settings,
        permit: impl Permit,
        directory: &Path,
        sizes: store::Settings,
    ) -> Result<(Self, Vec<DamagedTopic>), StoreError> {
        Self::open_on(settings, permit, Directory::open(directory)?, sizes)
    }

    /// The same on a disk of one's own.
    ///
    /// # Errors
    /// What is there is not ours, or the disk fails.
    pub fn open_on(
        settings: Settings,
        permit: impl Permit,
        disk: impl Disk,
        sizes: store::Settings,
    ) -> Result<(Self, Vec<DamagedTopic>), StoreError> {
        let unusable = |error: String| StoreError::Unusable(error);
        let clock = Clock::start();
        let engine = Engine::open(disk, sizes, [random(), random(), random()])?;
        let key = engine.hash_key();
        let secret = DedupSecret::new([(key >> 64) as u64, key as u64]);
        let mut damaged: Vec<_> =
            engine.notes().iter().map(|damage| (None, damage.clone())).collect();
        let states: Vec<_> = engine.topics().collect();
        let max_waiting = settings.limits().pending_bytes;
        let topics = Topics::new(settings, Epoch(random()));
        let held = Held::new(Arc::clone(topics.held()));
        let store = store::Store::start(engine, max_waiting, held, move || clock.now());
        let store = Arc::new(store.map_err(|error| {
            unusable(format!("the thread that writes cannot be started: {error}"))
        })?);
        let on_damage = Arc::<OnDamage>::default();
        let runtime = Handle::current();
        let data =
            Data { store: Arc::clone(&store), runtime, clock, on_damage: Arc::clone(&on_damage) };
        for state in &states {
            let name = state.name.clone();
            if let Some(damage) = &state.damage {
                damaged.push((Some(name.clone()), damage.clone()));
            }
            data.adopt(&topics, state)
                .map_err(|refusal| unusable(format!("topic \"{name}\": {refusal}")))?;
        }
        let service = Self::of(topics.with_store(Box::new(data)), permit, secret, clock);
        // Nobody else has set them.
        let _ = service.0.store.set((store, on_damage));
        let damaged = damaged.into_iter().map(|(name, damage)| DamagedTopic { name, damage });
        Ok((service, damaged.collect()))
    }

    /// Waits until all that was asked of the disk before is there.
    pub(super) async fn on_disk(&self) -> Result<(), Refusal> {
        let Some((store, _)) = self.0.store.get() else { return Ok(()) };
        let (done, is_done) = tokio::sync::oneshot::channel();
        store.after(move |result| drop(done.send(result)))?;
        let stopped =
            || Refusal::failed("outcome unknown: the service stopped before it was on disk");
        is_done.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// The figures of the data directory, if there is one.
    pub fn store_figures(&self) -> Option<StoreFigures> {
        self.0.store.get().map(|(store, _)| store.figures())
    }

    /// Has this called of each topic that is found damaged while it is served, by the thread that writes to the
    /// disk. The first that is given stays.
    pub fn on_damage(&self, tell: impl Fn(&DamagedTopic) + Send + Sync + 'static) {
        if let Some((_, on_damage)) = self.0.store.get() {
            on_damage.set(tell);
        }
    }

    /// Commits what waits for the disk, and takes nothing more. It takes the time of a disk. Without a data
    /// directory there is nothing to do.
    ///
    /// # Errors
    /// The disk's error. What was acknowledged is safe all the same.
    pub fn close(&self) -> Result<(), StoreError> {
        self.0.store.get().map_or(Ok(()), |(store, _)| store.close())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::AllowAll;

    /// Otherwise messages would be acknowledged as they were when the topic was made.
    #[tokio::test]
    async fn a_topic_is_synced_as_the_settings_say_today() {
        let place = std::env::temp_dir().join(format!("rsock-durable-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&place);
        let open = || {
            let directory = Directory::open(&place).expect("a directory");
            let sizes = store::Settings { journal_bytes: 64 << 10, ..store::Settings::default() };
            (Engine::open(directory, sizes, [1, 2, 3]).expect("it can be opened"), sizes)
        };
        let (mut engine, sizes) = open();
        let name = TopicName::parse("room").expect("a name");
        let new = NewTopic {
            name: &name,
            epoch: Epoch(7),
            first: Offset(1),
            is_loose: false,
            settings: "",
            retention: Retention::default(),
        };
        let room = engine.create(&new).expect("it is taken");
        engine.close(0).expect("closed");
        drop(engine);
        for (sync, is_loose) in [("\"os\"", true), ("\"always\"", false)] {
            let text = format!("topic = [{{ pattern = 'room', kind = 'durable', sync = {sync} }}]");
            let settings: Settings = toml::from_str(&text).expect("settings");
            let opened = Service::open(settings, AllowAll, &place, sizes);
            let (service, damaged) = opened.expect("it can be opened");
            assert_eq!(damaged, []);
            service.close().expect("closed");
            drop(service);
            let (engine, _) = open();
            assert_eq!(engine.topic(room).map(|topic| topic.is_loose), Some(is_loose), "{sync}");
        }
        std::fs::remove_dir_all(&place).expect("removed");
    }
}
