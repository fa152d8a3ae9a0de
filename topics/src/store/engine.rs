//! The engine: what is staged, written, flushed behind, and given free again.

use std::{io, sync::Arc};

use super::{
    Settings, StoreError,
    behind::{Backlog, Doomed, Space},
    catalogue::Catalogue,
    disk::Disk,
    files::{StoreFile, TopicFile, note_failure, write_checked},
    format::{BATCH_HEAD, Fields, Kind, parse_record},
    journal::{Commit, Committed, Journal, RESERVE, Sync, Synced},
    pack::Packs,
    record::{Block, Record, TopicId},
    segment::{Cache, Read, Segment},
    topic::{Topic, TopicState, Topics},
};
use crate::{
    name::TopicName,
    position::{Epoch, Offset},
    refusal::Refusal,
};

/// The bounds of a topic's log on disk. Whole segments go, so somewhat more is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Messages that are kept at least; no bound if absent.
    pub messages: Option<u64>,
    /// Bytes that are kept at most.
    pub bytes: Option<u64>,
    /// Milliseconds after which a message may go.
    pub age_ms: Option<u64>,
}

/// A topic that is to be made.
#[derive(Clone, Debug)]
pub struct NewTopic<'a> {
    /// Its name, which no other has.
    pub name: &'a TopicName,
    /// Its numbering: random bits.
    pub epoch: Epoch,
    /// The offset of its first message.
    pub first: Offset,
    /// Its messages count as soon as they are written, and are synced later.
    pub is_loose: bool,
    /// Text that the store carries for its owner, of 64 KiB at most.
    pub settings: &'a str,
    /// The bounds of its log. They are not kept: whoever opens the store sets them again.
    pub retention: Retention,
}

/// A reason why something is not staged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unstaged {
    /// The batch is full: it has to be committed first.
    Later,
    /// It is not taken.
    Refused(Refusal),
}

impl From<Refusal> for Unstaged {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A commit that has to wait: files of the journal, or records, have to go to segments first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind;

/// The changes that a commit has made true.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Topics that have new messages, each once, with the offset behind the last.
    pub moved: Vec<(TopicId, Offset)>,
    /// Topics that were made, or have other settings, another epoch or another base.
    pub changed: Vec<TopicId>,
    /// Topics that are gone.
    pub deleted: Vec<TopicId>,
    /// Whether it is on disk, and not merely written.
    pub is_synced: bool,
}

/// Bytes of settings that a topic may carry.
const MAX_SETTINGS: usize = 64 << 10;

/// A record on its way.
#[derive(Debug)]
pub(super) enum Staged {
    Message { topic: u64, start: usize, len: usize, offset: u64, time: u64, closes: bool },
    Topic { file: Box<TopicFile>, start: usize, len: usize },
    Delete { topic: u64, start: usize, len: usize },
}

/// The batch that is being gathered.
#[derive(Debug)]
pub(super) struct Batch {
    /// Records, behind the place of the batch's head.
    bytes: Vec<u8>,
    entries: Vec<Staged>,
    sync: bool,
}

impl Batch {
    /// A batch in the memory of one that was written.
    fn new(mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        bytes.resize(BATCH_HEAD, 0);
        Self { bytes, entries: Vec::new(), sync: false }
    }
}

/// A durability engine over a disk. See the [module](super).
#[derive(Debug)]
pub struct Engine<D: Disk> {
    pub(super) disk: Arc<D>,
    pub(super) settings: Settings,
    pub(super) file: StoreFile,
    pub(super) topics: Topics,
    pub(super) journal: Journal<D>,
    pub(super) cache: Cache<D>,
    pub(super) backlog: Backlog,
    pub(super) packs: Packs,
    pub(super) catalogue: Catalogue,
    pub(super) notes: Vec<String>,
    pub(super) batch: Batch,
    /// The memory of the last batch, for the next.
    spare: Vec<u8>,
    pub(super) flying: Option<Vec<Staged>>,
    pub(super) space: Space,
    pub(super) failed: Option<Arc<str>>,
}

impl<D: Disk> Engine<D> {
    pub(super) fn assemble(
        disk: Arc<D>,
        settings: Settings,
        file: StoreFile,
        topics: Topics,
        journal: Journal<D>,
        packs: Packs,
    ) -> Self {
        let cache = Cache::new(settings.max_open_segments);
        Self {
            disk,
            settings,
            file,
            topics,
            journal,
            cache,
            backlog: Backlog::default(),
            packs,
            catalogue: Catalogue::default(),
            notes: Vec::new(),
            batch: Batch::new(Vec::new()),
            spare: Vec::new(),
            flying: None,
            space: Space::default(),
            failed: None,
        }
    }

    /// The disk, to run jobs on.
    pub fn disk(&self) -> &Arc<D> {
        &self.disk
    }

    /// The key for hashes of idempotency keys: random bits, made with the directory.
    pub fn hash_key(&self) -> u128 {
        u128::from_str_radix(&self.file.key, 16).unwrap_or_default()
    }

    /// The topics, in the order of their names.
    pub fn topics(&self) -> impl Iterator<Item = TopicState> {
        self.topics.ids().filter_map(|id| self.topics.get(id)).map(Topic::state)
    }

    /// A topic.
    pub fn topic(&self, topic: TopicId) -> Option<TopicState> {
        self.topics.get(topic.0).map(Topic::state)
    }

    /// The topic of this name.
    pub fn find(&self, name: &TopicName) -> Option<TopicId> {
        self.topics.find(name).map(TopicId)
    }

    /// The damage that was found when it was opened and belongs to no topic, or to all.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The oldest offset of a topic that is kept, and its damage.
    pub(super) fn base_and_damage(&self, topic: TopicId) -> Option<(Offset, Option<String>)> {
        let file = &self.topics.get(topic.0)?.file;
        Some((Offset(file.base), file.damage.clone()))
    }

    /// Bytes of the largest record.
    pub(super) fn max_record(&self) -> usize {
        usize::try_from(self.journal.max_batch()).unwrap_or(usize::MAX) - BATCH_HEAD
    }

    /// Bytes of the directory's files, and of what is on its way there.
    pub fn bytes(&self) -> u64 {
        let journal = self.journal.files() as u64 * self.settings.journal_bytes;
        let catalogue = self.file.catalogue.bytes + self.catalogue.waiting() as u64;
        let shared = self.packs.bytes() + catalogue;
        journal + self.backlog.segment_bytes + shared + self.backlog.pending_bytes
    }

    /// Bytes that are kept for what was taken.
    pub(super) fn reserve(&self) -> u64 {
        RESERVE as u64 * self.settings.journal_bytes
    }

    /// Bytes of a pack: to put one together again the reserve is enough.
    pub(super) fn pack_bytes(&self) -> u64 {
        self.settings.pack_bytes.min(self.reserve())
    }

    /// Files of the journal that wait until their records are safe in segments.
    pub fn waiting_files(&self) -> usize {
        self.journal.sealed()
    }

    /// Bytes of memory that it takes to know its topics, and the pieces of their logs.
    pub fn known_bytes(&self) -> usize {
        self.topics.known.bytes()
    }

    /// Segments and packs that are open.
    pub fn open_segments(&self) -> usize {
        self.cache.len()
    }

    /// Bounds the log of a topic from now on.
    pub fn set_retention(&mut self, topic: TopicId, retention: Retention) {
        if let Some(topic) = self.topics.get_mut(topic.0) {
            topic.retention = retention;
        }
    }

    /// Whether messages may be staged. What is taken is never refused afterwards for want of room, as long
    /// as no more is on its way than two files of the journal hold.
    ///
    /// # Errors
    /// The reason why none may: the disk has failed, or is full.
    pub fn admit(&self) -> Result<(), Refusal> {
        if let Some(failed) = &self.failed {
            return Err(Refusal::failed(failed));
        }
        match &self.space.full {
            Some(full) => Err(Refusal::rejected(full)),
            None => Ok(()),
        }
    }

    /// The reason why nothing is written any more.
    pub fn failed(&self) -> Option<&Arc<str>> {
        self.failed.as_ref()
    }

    /// Bytes of the batch that is being gathered; none if nothing is.
    pub fn staged_bytes(&self) -> usize {
        if self.batch.entries.is_empty() { 0 } else { self.batch.bytes.len() }
    }

    fn alive(&self) -> Result<(), Refusal> {
        self.failed.as_ref().map_or(Ok(()), |failed| Err(Refusal::failed(failed)))
    }

    fn limit(&self) -> usize {
        let file = usize::try_from(self.journal.max_batch()).unwrap_or(usize::MAX);
        file.min(self.settings.batch_bytes)
    }

    /// Writes a record into the batch, if there is room; a batch of one may be longer than others.
    fn stage(
        &mut self,
        len: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(usize, usize), Unstaged> {
        let most = self.max_record();
        if len > most {
            return Err(Unstaged::Refused(Refusal::invalid(format_args!(
                "too large: a record of {len} bytes, and a file of the journal takes {most}"
            ))));
        }
        let start = self.batch.bytes.len();
        if start + len > self.limit() && !self.batch.entries.is_empty() {
            return Err(Unstaged::Later);
        }
        write(&mut self.batch.bytes);
        Ok((start, len))
    }

    fn stage_fields(&mut self, fields: &Fields<'_>) -> Result<(usize, usize), Unstaged> {
        if !fields.fits() {
            return Err(Unstaged::Refused(unfit()));
        }
        self.stage(fields.len(), |batch| fields.write(batch))
    }

    /// Stages a message. Its offset is the next of its topic.
    ///
    /// # Errors
    /// [`Unstaged::Later`] if the batch is full; otherwise the reason why it never will be taken.
    pub fn append(&mut self, topic: TopicId, record: &Record<'_>) -> Result<(), Unstaged> {
        let fields = record.fields(topic);
        self.check_append(&fields)?;
        let (start, len) = self.stage_fields(&fields)?;
        self.appended(&fields, start, len);
        Ok(())
    }

    /// As [`append`](Self::append), of a record that was written before.
    pub(super) fn append_written(&mut self, record: &[u8]) -> Result<(), Unstaged> {
        let Some(fields) = parse_record(record) else {
            return Err(Unstaged::Refused(unfit()));
        };
        self.check_append(&fields)?;
        let (start, len) = self.stage(record.len(), |batch| batch.extend_from_slice(record))?;
        self.appended(&fields, start, len);
        Ok(())
    }

    fn check_append(&self, record: &Fields<'_>) -> Result<(), Refusal> {
        self.alive()?;
        let offset = record.offset;
        let Some(known) = self.topics.get(record.topic) else {
            return Err(gone());
        };
        let name = &known.file.name;
        if let Some(damage) = &known.file.damage {
            return Err(Refusal::damaged(name, damage));
        }
        if known.is_ending || known.closed.is_some() {
            return Err(Refusal::closed(name, Offset(known.staged.saturating_sub(1))));
        }
        if offset != known.staged || offset > Offset::MAX.0 {
            return Err(Refusal::rejected(format_args!(
                "out of order: message {offset} of topic {name:?}, whose next is {}",
                known.staged
            )));
        }
        Ok(())
    }

    fn appended(&mut self, record: &Fields<'_>, start: usize, len: usize) {
        let Fields { topic, offset, time, closes, .. } = *record;
        if let Some(known) = self.topics.get_mut(topic) {
            known.staged = offset + 1;
            known.is_ending = closes;
            self.batch.sync |= !known.file.is_loose;
        }
        self.batch.entries.push(Staged::Message { topic, start, len, offset, time, closes });
    }

    /// Stages a topic. It can be appended to at once, and is there when the batch is committed.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn create(&mut self, new: &NewTopic<'_>) -> Result<TopicId, Unstaged> {
        let id = TopicId(self.topics.next_id);
        self.create_as(id, new).map(|()| id)
    }

    /// The number of the next topic that is made.
    pub(super) fn next_topic(&self) -> TopicId {
        TopicId(self.topics.next_id)
    }

    /// As [`create`](Self::create), with a number that no topic has had.
    pub(super) fn create_as(&mut self, id: TopicId, new: &NewTopic<'_>) -> Result<(), Unstaged> {
        self.alive()?;
        if let Some(there) = self.topics.find(new.name) {
            if self.is_leaving(there) {
                return Err(Unstaged::Later);
            }
            return Err(Unstaged::Refused(Refusal::rejected(format_args!(
                "there already: topic \"{}\"",
                new.name
            ))));
        }
        let file = TopicFile {
            id: id.0,
            name: new.name.clone(),
            epoch: new.epoch,
            base: new.first.0,
            next: 0,
            accepted: 0,
            time: 0,
            closed: None,
            is_loose: new.is_loose,
            settings: new.settings.to_owned(),
            damage: None,
        };
        self.stage_topic(file.clone())?;
        let topic = Topic::new(file, new.retention, &self.topics.known);
        self.topics.insert(topic);
        Ok(())
    }

    /// Whether the end of a topic is on its way: its name is free behind that.
    fn is_leaving(&self, id: u64) -> bool {
        let flying = self.flying.iter().flatten();
        self.batch
            .entries
            .iter()
            .chain(flying)
            .any(|of| matches!(of, Staged::Delete { topic, .. } if *topic == id))
    }

    /// Stages other settings of a topic.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn configure(
        &mut self,
        topic: TopicId,
        is_loose: bool,
        settings: &str,
    ) -> Result<(), Unstaged> {
        self.change(topic, |file| {
            file.is_loose = is_loose;
            settings.clone_into(&mut file.settings);
        })
    }

    /// Stages that messages below an offset are gone: retention, or all of them, up to the next.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn trim(&mut self, topic: TopicId, base: Offset) -> Result<(), Unstaged> {
        let next = self.topics.get(topic.0).map_or(0, |topic| topic.next);
        self.change(topic, |file| file.base = file.base.max(base.0.min(next)))
    }

    /// Stages that a damaged topic goes on without what is lost.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn accept_damage(&mut self, topic: TopicId) -> Result<(), Unstaged> {
        let acceptance = self.acceptance(topic.0);
        self.change(topic, acceptance)
    }

    /// The change of a damaged topic that goes on without what is lost.
    pub(super) fn acceptance(&self, topic: u64) -> impl Fn(&mut TopicFile) + use<D> {
        let known = self.topics.get(topic);
        let (first, next) = known.map_or((0, 0), |topic| (topic.first(), topic.next));
        move |file| {
            (file.damage, file.accepted) = (None, next);
            // Those that are not there are not missed any more.
            file.base = file.base.max(first);
        }
    }

    /// Stages that a topic is damaged: messages from this one on were found to be lost. Nothing is appended to
    /// it behind that. Where this is known, or was accepted, there is nothing to do.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn note_damage(
        &mut self,
        topic: TopicId,
        from: Offset,
        text: &str,
    ) -> Result<(), Unstaged> {
        let Some(known) = self.topics.get(topic.0) else { return Ok(()) };
        let file = known.staged_file.as_deref().unwrap_or(&known.file);
        if file.damage.is_some() || from.0 < file.accepted.max(file.base) {
            return Ok(());
        }
        self.change(topic, |file| file.damage = Some(text.to_owned()))
    }

    /// Stages that a topic is gone.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn delete(&mut self, topic: TopicId) -> Result<(), Unstaged> {
        self.alive()?;
        if self.topics.get(topic.0).is_none() {
            return Err(gone().into());
        }
        let (start, len) = self.stage_fields(&Fields::empty(Kind::Delete, topic.0))?;
        if let Some(topic) = self.topics.get_mut(topic.0) {
            topic.is_ending = true;
        }
        self.batch.entries.push(Staged::Delete { topic: topic.0, start, len });
        self.batch.sync = true;
        Ok(())
    }

    pub(super) fn change(
        &mut self,
        topic: TopicId,
        change: impl FnOnce(&mut TopicFile),
    ) -> Result<(), Unstaged> {
        self.alive()?;
        let Some(known) = self.topics.get(topic.0) else {
            return Err(gone().into());
        };
        let file = known.changed(|file| {
            // A change that is on its way already is changed again: the later one is the whole truth.
            if let Some(staged) = &known.staged_file {
                *file = TopicFile { time: file.time, closed: file.closed, ..(**staged).clone() };
            }
            change(file);
        });
        self.stage_topic(file)
    }

    fn stage_topic(&mut self, file: TopicFile) -> Result<(), Unstaged> {
        if file.settings.len() > MAX_SETTINGS {
            return Err(Unstaged::Refused(Refusal::invalid(format_args!(
                "too large: settings of {} bytes, a topic carries {MAX_SETTINGS}",
                file.settings.len()
            ))));
        }
        let data = write_checked(&file);
        let fields = Fields { data: &data, ..Fields::empty(Kind::Topic, file.id) };
        let (start, len) = self.stage_fields(&fields)?;
        let file = Box::new(file);
        if let Some(known) = self.topics.get_mut(file.id) {
            known.staged_file = Some(file.clone());
        }
        self.batch.entries.push(Staged::Topic { file, start, len });
        self.batch.sync = true;
        Ok(())
    }

    /// The job that writes what is staged; nothing if nothing is. There is one at a time, and while it runs
    /// the next batch is gathered.
    ///
    /// # Errors
    /// [`Behind`] if [`step`](Self::step) and [`barrier`](Self::barrier) have to make room first.
    pub fn commit(&mut self) -> Result<Option<Commit<D>>, Behind> {
        if self.failed.is_some() || self.flying.is_some() || self.batch.entries.is_empty() {
            return Ok(None);
        }
        let waiting = self.backlog.pending_bytes + self.catalogue.waiting() as u64;
        let is_flooded = waiting > self.settings.pending_bytes;
        if is_flooded || !self.journal.has_room(self.batch.bytes.len()) {
            return Err(Behind);
        }
        let next = Batch::new(std::mem::take(&mut self.spare));
        let Batch { bytes, entries, sync } = std::mem::replace(&mut self.batch, next);
        self.space.written += bytes.len() as u64;
        let commit = self.journal.commit(bytes, sync);
        self.flying = Some(entries);
        Ok(commit)
    }

    /// Takes note of a job's end.
    ///
    /// # Errors
    /// The error of the disk. Nothing of the batch counts, though it may be on the disk; nothing is written
    /// any more.
    pub fn finish_commit(&mut self, committed: Committed<D>) -> Result<Outcome, StoreError> {
        let entries = self.flying.take().unwrap_or_default();
        let written = match self.journal.finish(committed) {
            Ok(written) => written,
            Err(error) => return Err(self.fail(error)),
        };
        let batch = &written.bytes[written.start..];
        let mut outcome = Outcome { is_synced: self.journal.is_synced(), ..Outcome::default() };
        let number = written.number;
        for entry in entries {
            match entry {
                Staged::Message { topic: id, start, len, offset, time, closes } => {
                    let Some(topic) = self.topics.get_mut(id) else { continue };
                    if topic.moved_in != number {
                        topic.moved_in = number;
                        outcome.moved.push((TopicId(id), Offset(0)));
                    }
                    let record = &batch[start..start + len];
                    self.take_message(id, record, offset, time, closes, written.sequence);
                }
                Staged::Topic { file, start, len } => {
                    outcome.changed.push(TopicId(file.id));
                    // What was staged behind its end is nothing.
                    if self.topics.get(file.id).is_some() {
                        self.catalogue.push(&batch[start..start + len]);
                    }
                    self.take_topic(*file);
                }
                Staged::Delete { topic, start, len } => {
                    outcome.deleted.push(TopicId(topic));
                    self.catalogue.push(&batch[start..start + len]);
                    self.take_delete(topic);
                }
            }
        }
        // A single message may have been longer than batches are.
        if written.bytes.capacity() <= 2 * self.settings.batch_bytes {
            self.spare = written.bytes;
        }
        for (id, next) in &mut outcome.moved {
            next.0 = self.topics.get(id.0).map_or(0, |topic| topic.next);
        }
        Ok(outcome)
    }

    /// Whether all that was written is on disk.
    pub(super) fn is_synced(&self) -> bool {
        self.journal.is_synced()
    }

    /// The job that syncs what topics that need no sync have written.
    pub fn sync(&self) -> Option<Sync<D>> {
        if self.failed.is_some() { None } else { self.journal.sync() }
    }

    /// Takes note of a job's end.
    ///
    /// # Errors
    /// The error of the disk.
    pub fn finish_sync(&mut self, synced: Synced) -> Result<(), StoreError> {
        self.journal.finish_sync(synced).map_err(|error| self.fail(error))
    }

    pub(super) fn take_message(
        &mut self,
        id: u64,
        record: &[u8],
        offset: u64,
        time: u64,
        closes: bool,
        sequence: u64,
    ) {
        let Some(topic) = self.topics.get_mut(id) else { return };
        topic.take(record, offset, time, closes);
        self.backlog.pending_bytes += record.len() as u64;
        let (before, now) = (topic.pending.len() - record.len(), topic.pending.len());
        if before < self.settings.flush_bytes && now >= self.settings.flush_bytes {
            self.backlog.hot.push_back(id);
        }
        self.backlog.mark(topic, sequence);
    }

    pub(super) fn take_topic(&mut self, file: TopicFile) {
        let id = file.id;
        let Some(topic) = self.topics.get_mut(id) else { return };
        let pending = topic.pending.len();
        let needless = topic.become_file(file);
        self.backlog.pending_bytes -= (pending - topic.pending.len()) as u64;
        self.give_back(id, needless);
    }

    /// Has what a topic does not hold any more removed.
    pub(super) fn give_back(&mut self, topic: u64, segments: impl IntoIterator<Item = Segment>) {
        for segment in segments {
            if segment.is_own() {
                let Segment { first, bytes, .. } = segment;
                self.backlog.doomed.push_back(Doomed::Segment { topic, first, bytes });
            } else {
                self.packs.release(&segment);
            }
        }
    }

    pub(super) fn take_delete(&mut self, id: u64) {
        let Some(mut topic) = self.topics.remove(id) else { return };
        self.backlog.pending_bytes -= topic.pending.len() as u64;
        self.give_back(id, topic.segments.take());
        if topic.is_made {
            self.backlog.doomed.push_back(Doomed::Topic(id));
        }
    }

    pub(super) fn fail(&mut self, error: StoreError) -> StoreError {
        let text = format!(
            "outcome unknown: {error}; durable topics are read-only until the service is started again, \
             publish again then with the same id"
        );
        // What was written and could not be synced may be lost, and the next start cannot see that.
        let _ = note_failure(&*self.disk, &text);
        self.failed = Some(text.into());
        error
    }

    /// A place to read from: what is not in segments yet is read at once, a segment by a job that needs
    /// nothing of the engine.
    ///
    /// # Errors
    /// The topic is gone, or its file cannot be opened.
    pub fn read(
        &mut self,
        topic: TopicId,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Source<D>, Refusal> {
        let id = topic.0;
        let Some(topic) = self.topics.get(id) else { return Err(gone()) };
        let from = from.0.max(topic.file.base);
        let Some(segment) = topic.segment_of(from) else {
            return Ok(Source::Block(topic.pending_from(from, max_bytes)));
        };
        let key = segment.key(id);
        let opened = self.cache.get(&self.disk, key).map_err(|error| {
            let error = StoreError::new("open", &key.path(), error);
            Refusal::failed(format_args!("cannot be read: {error}"))
        })?;
        Ok(Source::Segment(Read { opened, topic: id, segment, from, max_bytes }))
    }
}

/// A place to read from.
#[derive(Debug)]
pub enum Source<D: Disk> {
    /// It is here.
    Block(Block),
    /// It is in a segment.
    Segment(Read<D>),
}

impl<D: Disk> Source<D> {
    /// The records.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn read(self, disk: &D) -> io::Result<Block> {
        match self {
            Self::Block(block) => Ok(block),
            Self::Segment(read) => read.run(disk),
        }
    }
}

/// A record whose parts are longer than their lengths can say.
fn unfit() -> Refusal {
    Refusal::invalid("too large: a key or a name has 255 bytes at most, headers 65535")
}

fn gone() -> Refusal {
    Refusal::rejected("no such topic: it was deleted; ask for it by its name again")
}
