//! The work behind the journal: records go to segments, what is needless is removed, files of the journal are
//! given free.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
};

use super::{
    StoreError,
    catalogue::Write,
    disk::Disk,
    engine::{Engine, Outcome, Unstaged},
    files::{
        CATALOGUE, JOURNAL, PACKS, STORE, StoreFile, catalogue_file, pack_file, replace_store,
        segment_file, topic_directory,
    },
    merge::{Job, Merged},
    pack::{PACK_HEAD, Pack, PackFile, end_index, pack_head},
    record::TopicId,
    segment::Key,
    topic::Topic,
};
use crate::position::Offset;

/// Topics that are looked at for what has grown too old, in one call.
const TOPICS_A_CALL: usize = 4_096;

/// Bytes of many topics that are written to a pack at once: commits wait meanwhile.
const PIECE: usize = 64 << 10;
/// Topics whose retention is looked at in one step.
const TOPICS_A_STEP: usize = 64;

/// A file, or a directory, that is to be removed.
#[derive(Debug)]
pub(super) enum Doomed {
    Segment {
        topic: u64,
        first: u64,
        bytes: u64,
    },
    Pack(u32),
    Catalogue(u32),
    /// A topic's directory, when its segments are gone.
    Topic(u64),
}

/// The work that is done behind the journal.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Topics of which much is pending.
    pub(super) hot: VecDeque<u64>,
    /// Topics by the oldest file of the journal that they need.
    pub(super) dirty: BTreeMap<u64, Vec<u64>>,
    pub(super) doomed: VecDeque<Doomed>,
    /// Topics that have a new segment: the oldest may go.
    pub(super) rolled: VecDeque<u64>,
    pub(super) pending_bytes: u64,
    pub(super) segment_bytes: u64,
    has_barrier: bool,
    /// The number of the next barrier.
    barrier: u64,
    /// The file of the journal whose topics are in the order of their numbers.
    sorted: Option<u64>,
}

/// The room that is left.
#[derive(Debug, Default)]
pub(super) struct Space {
    /// The reason why nothing more is taken.
    pub(super) full: Option<String>,
    /// Bytes written since the disk was asked.
    pub(super) written: u64,
}

impl<D: Disk> Engine<D> {
    /// Does one piece of the work behind the journal, at this time in milliseconds since 1970. Returns
    /// whether there was any; a full disk is no error, and the work is there again later.
    ///
    /// # Errors
    /// The error of the disk: nothing is written any more.
    pub fn step(&mut self, now: u64) -> Result<bool, StoreError> {
        if let Some(failed) = &self.failed {
            return Err(StoreError::Unusable(failed.to_string()));
        }
        if let Err(error) = self.look_for_room() {
            return Err(self.fail(error));
        }
        if let Some(doomed) = self.backlog.doomed.pop_front() {
            return self.remove(doomed).map(|()| true).map_err(|error| self.fail(error));
        }
        // Where it has to wait for a commit it must not hold up what the commit waits for.
        if !self.backlog.rolled.is_empty() && self.retain_some(now) {
            return Ok(true);
        }
        if self.is_pack_due() {
            return match self.end_pack() {
                Ok(()) => Ok(true),
                Err(error) if is_full(&error) => {
                    self.space.full = Some(disk_full());
                    Ok(false)
                }
                Err(error) => Err(self.fail(StoreError::new("write", PACKS, error))),
            };
        }
        // What is in a segment must not go farther than what is safe in the journal.
        if !self.journal.is_synced() {
            return Ok(false);
        }
        let hot = self.backlog.hot.pop_front();
        let hot = hot.and_then(|id| {
            let topic = self.topics.get_mut(id).filter(|topic| !topic.pending.is_empty())?;
            Some((topic.dirty.take()?, id))
        });
        let next = match (hot, self.flush_up_to()) {
            (Some(hot), _) => vec![hot],
            (None, Some(up_to)) => self.next_to_flush(up_to),
            (None, None) => Vec::new(),
        };
        if next.is_empty() {
            return Ok(false);
        }
        match self.flush(&next) {
            Ok(()) => Ok(true),
            Err(error) if is_full(&error) => {
                for (sequence, id) in next {
                    if let Some(topic) = self.topics.get_mut(id)
                        && !topic.pending.is_empty()
                    {
                        self.backlog.mark(topic, sequence);
                    }
                }
                self.space.full = Some(disk_full());
                Ok(false)
            }
            Err(error) => Err(self.fail(StoreError::new("write", &self.place_of(&next), error))),
        }
    }

    /// The place at which topics are written, to be told.
    fn place_of(&self, next: &[(u64, u64)]) -> String {
        match next {
            [(_, id)] if self.goes_alone(*id) => topic_directory(*id),
            _ => PACKS.to_owned(),
        }
    }

    fn goes_alone(&self, id: u64) -> bool {
        let (barrier, much) = (self.backlog.barrier, self.settings.flush_bytes);
        self.topics.get(id).is_some_and(|topic| topic.goes_alone(barrier, much))
    }

    /// Topics that are to be flushed, and the files of the journal that they needed: one that goes to a
    /// segment of its own, or some that go to a pack.
    fn next_to_flush(&mut self, up_to: u64) -> Vec<(u64, u64)> {
        let mut next = Vec::new();
        let mut bytes = 0;
        while bytes < PIECE
            && next.len() < TOPICS_A_CALL
            && let Some((sequence, id)) = self.backlog.next_dirty(up_to)
        {
            let goes_alone = self.goes_alone(id);
            // It may have been flushed since, because it was hot.
            let topic = self.topics.get_mut(id);
            let Some(topic) = topic.filter(|topic| topic.dirty == Some(sequence)) else { continue };
            if goes_alone && !next.is_empty() {
                // It comes next.
                self.backlog.dirty.entry(sequence).or_default().push(id);
                break;
            }
            topic.dirty = None;
            if topic.pending.is_empty() {
                continue;
            }
            bytes += topic.pending.len();
            next.push((sequence, id));
            if goes_alone {
                break;
            }
        }
        next
    }

    fn flush(&mut self, next: &[(u64, u64)]) -> io::Result<()> {
        match next {
            [(_, id)] if self.goes_alone(*id) => self.flush_alone(*id),
            _ => self.flush_together(next),
        }
    }

    /// The newest file of the journal whose topics are to be flushed.
    fn flush_up_to(&self) -> Option<u64> {
        let is_flooded = self.backlog.pending_bytes > self.settings.pending_bytes / 2;
        if is_flooded { Some(u64::MAX) } else { self.journal.sealed_up_to() }
    }

    /// Whether [`step`](Self::step) waits for a [`sync`](Self::sync).
    pub fn wants_sync(&self) -> bool {
        let oldest = self.backlog.dirty.first_key_value().map(|(sequence, _)| *sequence);
        let is_due = self.flush_up_to().is_some_and(|up_to| oldest.is_some_and(|it| it <= up_to));
        (is_due || !self.backlog.hot.is_empty()) && !self.journal.is_synced()
    }

    /// Drops what is too old by its age: of some thousands of topics a call, in turn.
    pub fn expire(&mut self, now: u64) {
        for id in self.topics.next_ids(TOPICS_A_CALL) {
            let topic = self.topics.get(id);
            if topic.is_some_and(|topic| topic.retained_from(now) > topic.file.base) {
                self.backlog.rolled.push_back(id);
            }
        }
    }

    /// Drops what retention does not keep of some topics. False if that has to wait for a commit.
    fn retain_some(&mut self, now: u64) -> bool {
        for _ in 0..TOPICS_A_STEP {
            let Some(id) = self.backlog.rolled.pop_front() else { break };
            if !self.retain(id, now) {
                return false;
            }
        }
        true
    }

    /// Drops what retention does not keep. False if that has to wait for a commit.
    fn retain(&mut self, id: u64, now: u64) -> bool {
        let Some(topic) = self.topics.get(id) else { return true };
        let base = topic.retained_from(now);
        let is_later =
            base > topic.file.base && self.trim(TopicId(id), Offset(base)) == Err(Unstaged::Later);
        if is_later {
            self.backlog.rolled.push_back(id);
        }
        !is_later
    }

    /// Writes what is pending of a topic to segments of its own.
    fn flush_alone(&mut self, id: u64) -> io::Result<()> {
        let Some(topic) = self.topics.get_mut(id) else { return Ok(()) };
        let (pending, held) = (topic.pending.len(), topic.bytes());
        let flushed = topic.flush(&*self.disk, &mut self.cache, self.settings.segment_bytes);
        let moved = (pending - topic.pending.len()) as u64;
        self.backlog.pending_bytes -= moved;
        // The heads of segments are new.
        self.backlog.segment_bytes += moved + topic.bytes() - held;
        topic.alone_at = self.backlog.barrier;
        if flushed? {
            self.backlog.rolled.push_back(id);
        }
        Ok(())
    }

    /// Writes what is pending of some topics to the pack that is being written.
    fn flush_together(&mut self, next: &[(u64, u64)]) -> io::Result<()> {
        let (id, opened) = match &self.packs.building {
            Some((id, _)) => (*id, self.cache.get(&self.disk, Key::Pack(*id))?),
            None => {
                let id = self.packs.take_ids(1);
                let opened = self.cache.create(&self.disk, Key::Pack(id))?;
                let at = PACK_HEAD as u64;
                let file =
                    PackFile { id, level: 0, run: id, index_at: at, bytes: 0, is_told: false };
                let pack = Pack { file, live: 0, is_whole: false, is_kept: false };
                self.packs.all.insert(id, pack);
                self.packs.building = Some((id, Vec::new()));
                (id, opened)
            }
        };
        let Some(pack) = self.packs.all.get_mut(&id) else { return Ok(()) };
        let at = pack.file.index_at;
        let (mut bytes, mut extents) = (Vec::new(), Vec::new());
        for topic in next.iter().filter_map(|(_, id)| self.topics.get(*id)) {
            topic.pack_up(id, at, &mut bytes, &mut extents);
        }
        if pack.file.bytes == 0 {
            let head = pack_head(id);
            self.disk.write_at(&opened.file, &[&head[..], &bytes].concat(), 0)?;
        } else {
            self.disk.write_at(&opened.file, &bytes, at)?;
        }
        pack.file.index_at += bytes.len() as u64;
        pack.file.bytes = pack.file.index_at;
        for extent in extents {
            let Some(topic) = self.topics.get_mut(extent.topic) else { continue };
            topic.segments.push_back(extent.segment);
            self.packs.hold(&extent.segment);
            if let Some((_, index)) = &mut self.packs.building {
                extent.write(index);
            }
        }
        for (_, id) in next {
            let Some(topic) = self.topics.get_mut(*id) else { continue };
            self.backlog.pending_bytes -= topic.pending.len() as u64;
            // Thousands of topics would keep what few need.
            topic.pending = Vec::new();
            if topic.retention != super::Retention::default() {
                self.backlog.rolled.push_back(*id);
            }
        }
        Ok(())
    }

    /// Whether the pack that is being written is to be ended: it is full, or a barrier waits for it.
    fn is_pack_due(&self) -> bool {
        let Some((id, _)) = &self.packs.building else { return false };
        let full = self.pack_bytes();
        let is_full = self.packs.all.get(id).is_some_and(|pack| pack.file.bytes >= full);
        let oldest = self.backlog.dirty.first_key_value().map(|(sequence, _)| *sequence);
        let is_last = |up_to| oldest.is_none_or(|sequence| sequence > up_to);
        is_full || self.journal.sealed_up_to().is_some_and(is_last)
    }

    /// Writes the index of the pack that is being written.
    fn end_pack(&mut self) -> io::Result<()> {
        let Some((id, index)) = &self.packs.building else { return Ok(()) };
        let id = *id;
        let index = end_index(id, index.clone());
        if let Some(pack) = self.packs.all.get_mut(&id) {
            let opened = self.cache.get(&self.disk, Key::Pack(id))?;
            self.disk.write_at(&opened.file, &index, pack.file.index_at)?;
            pack.file.bytes = pack.file.index_at + index.len() as u64;
            pack.is_whole = true;
        }
        self.packs.building = None;
        Ok(())
    }

    fn remove(&mut self, doomed: Doomed) -> Result<(), StoreError> {
        let remove = |path: &str| match self.disk.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::new("remove", path, error))
            }
            _ => Ok(()),
        };
        match doomed {
            Doomed::Segment { topic, first, bytes } => {
                remove(&segment_file(topic, first))?;
                self.cache.forget(Key::Segment(topic, first));
                self.backlog.segment_bytes -= bytes;
            }
            Doomed::Pack(pack) => {
                remove(&pack_file(pack))?;
                self.cache.forget(Key::Pack(pack));
            }
            Doomed::Catalogue(number) => remove(&catalogue_file(number))?,
            Doomed::Topic(topic) => {
                let directory = topic_directory(topic);
                match self.disk.remove_directory(&directory) {
                    // Others' files are left alone, and so is their directory.
                    Err(error)
                        if !matches!(
                            error.kind(),
                            io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
                        ) =>
                    {
                        return Err(StoreError::new("remove", &directory, error));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Keeps files of the journal ready, and looks whether more may be taken.
    fn look_for_room(&mut self) -> Result<(), StoreError> {
        let file = self.settings.journal_bytes;
        let is_due = self.space.written > file / 16 || self.space.full.is_some();
        if !is_due && !self.journal.wants_file() {
            return Ok(());
        }
        self.space.written = 0;
        let reserve = self.reserve();
        let most = self.settings.max_bytes;
        let free = self.disk.free().map_err(|error| StoreError::new("look at", "", error))?;
        let mut full = None;
        if self.bytes() + reserve > most {
            full = Some(format!(
                "disk full: the files of durable topics take {} bytes, and {most} are allowed, of which \
                 {reserve} are a reserve; delete topics, keep less of them, or allow more",
                self.bytes()
            ));
        } else if free < reserve {
            full = Some(disk_full());
        }
        self.packs.is_stuck &= free < reserve;
        if self.journal.wants_file() && full.is_none() {
            match self.journal.make_file(&self.disk) {
                Ok(()) => {}
                Err(error) if is_full(&error) => full = Some(disk_full()),
                Err(error) => {
                    return Err(StoreError::new("make a file of", JOURNAL, error));
                }
            }
        }
        self.space.full = full;
        Ok(())
    }

    /// Whether a barrier is under way.
    pub(super) fn has_barrier(&self) -> bool {
        self.backlog.has_barrier
    }

    /// The job that makes segments and packs safe and files of the journal free, if any wait for it and
    /// nothing else has to be done before; or that writes the catalogue, puts packs together, or has one named no
    /// more. It runs beside everything else; there is one at a time.
    pub fn barrier(&mut self) -> Option<Barrier> {
        let backlog = &self.backlog;
        if backlog.has_barrier || self.failed.is_some() || !backlog.doomed.is_empty() {
            return None;
        }
        let sealed = self.journal.sealed_up_to();
        if let Some(up_to) = sealed {
            let first_dirty = backlog.dirty.first_key_value().map(|(sequence, _)| *sequence);
            let is_ready = first_dirty.is_none_or(|sequence| sequence > up_to)
                && self.packs.building.is_none();
            if !is_ready {
                return None;
            }
        } else {
            // A full disk has no room to say so.
            let wants_removal = self.packs.has_dead() && !self.packs.is_stuck;
            if !wants_removal && !self.wants_merge() && !self.is_catalogue_due() {
                return None;
            }
        }
        let (sequence, generation, batch) = self.journal.unsealed();
        let next_topic = self.topics.next_id;
        let file = StoreFile { sequence, generation, batch, next_topic, ..self.file.clone() };
        let merge = self.next_merge();
        Some(self.begin_barrier(sealed.unwrap_or(0), file, merge))
    }

    /// Whether so much waits for the catalogue that it should not wait until a file of the journal is full.
    fn is_catalogue_due(&self) -> bool {
        let waiting = self.catalogue.waiting() as u64;
        waiting > self.settings.pending_bytes / 4 && self.space.full.is_none()
    }

    fn begin_barrier(&mut self, up_to: u64, file: StoreFile, merge: Option<Job>) -> Barrier {
        self.backlog.has_barrier = true;
        self.backlog.barrier += 1;
        let packs = self.packs.named();
        let catalogue = self.catalogue.write(file.catalogue, self.settings.catalogue_bytes);
        Barrier { up_to, file: StoreFile { packs, ..file }, catalogue, merge }
    }

    /// Takes note of a job's end.
    ///
    /// # Errors
    /// The error of the disk: nothing is written any more, and the next start reads the journal again.
    pub fn finish_barrier(&mut self, passed: Passed) -> Result<(), StoreError> {
        self.end_barrier(passed).map(drop)
    }

    /// As [`finish_barrier`](Self::finish_barrier). False if there was no room to write down what is safe.
    fn end_barrier(&mut self, passed: Passed) -> Result<bool, StoreError> {
        self.backlog.has_barrier = false;
        let Passed { barrier, result } = passed;
        let Barrier { up_to, file, catalogue, merge } = barrier;
        match result {
            Ok(Some(merged)) => {
                self.journal.release(up_to);
                if self.file.catalogue.number != file.catalogue.number {
                    let old = Doomed::Catalogue(self.file.catalogue.number);
                    self.backlog.doomed.push_back(old);
                }
                self.file = file;
                match merge {
                    Some(merge) => self.finish_merge(&merge, merged),
                    None => self.drop_packs(),
                }
                Ok(true)
            }
            // It is done again when there is room.
            Ok(None) => {
                self.space.full = Some(disk_full());
                self.catalogue.take_back(catalogue);
                self.packs.is_stuck = true;
                if let Some(merge) = &merge {
                    self.abandon_merge(merge);
                }
                Ok(false)
            }
            Err(error) => Err(self.fail(error)),
        }
    }

    /// Ends in order: the next start has nothing to read again. What is staged is committed; no job is under
    /// way.
    ///
    /// # Errors
    /// The error of the disk. All that was acknowledged is safe without it.
    pub fn close(&mut self, now: u64) -> Result<(), StoreError> {
        self.packs.rests = true;
        self.settle(now)?;
        if self.staged_bytes() > 0 {
            let full = self.space.full.clone().unwrap_or_else(disk_full);
            return Err(StoreError::Unusable(full));
        }
        self.checkpoint(true)
    }

    /// Commits what is staged, and does all the work behind it, here and now.
    ///
    /// # Errors
    /// The error of the disk.
    pub fn settle(&mut self, now: u64) -> Result<Outcome, StoreError> {
        let disk = self.disk.clone();
        let mut all = Outcome::default();
        loop {
            let mut is_idle = true;
            if let Ok(Some(commit)) = self.commit() {
                let mut outcome = self.finish_commit(commit.run(&disk))?;
                all.moved.append(&mut outcome.moved);
                all.changed.append(&mut outcome.changed);
                all.deleted.append(&mut outcome.deleted);
                all.is_synced = outcome.is_synced;
                is_idle = false;
            }
            if let Some(sync) = self.sync() {
                self.finish_sync(sync.run(&disk))?;
            }
            while self.step(now)? {
                is_idle = false;
            }
            if let Some(barrier) = self.barrier() {
                // On a full disk it has to be done again, which would be as vain now.
                is_idle &= !self.end_barrier(barrier.run(&*disk))?;
            }
            if is_idle {
                return Ok(all);
            }
        }
    }

    /// Writes all that is pending to segments and packs.
    pub(super) fn flush_all(&mut self) -> Result<(), StoreError> {
        self.backlog.hot.clear();
        self.backlog.sorted = None;
        loop {
            let next = self.next_to_flush(u64::MAX);
            if next.is_empty() {
                return Ok(());
            }
            let flushed = self.flush(&next);
            flushed.map_err(|error| StoreError::new("write", &self.place_of(&next), error))?;
            if self.is_pack_due() {
                self.end_pack().map_err(|error| StoreError::new("write", PACKS, error))?;
            }
        }
    }

    /// Makes everything safe in segments, and begins the journal anew.
    pub(super) fn checkpoint(&mut self, is_clean: bool) -> Result<(), StoreError> {
        self.flush_all()?;
        self.end_pack().map_err(|error| StoreError::new("write", PACKS, error))?;
        while let Some(doomed) = self.backlog.doomed.pop_front() {
            self.remove(doomed)?;
        }
        let (sequence, generation) = self.journal.next_file();
        let (batch, next_topic) = (self.journal.next_batch(), self.topics.next_id);
        let file =
            StoreFile { sequence, generation, batch, next_topic, is_clean, ..self.file.clone() };
        let barrier = self.begin_barrier(0, file, None);
        let disk = self.disk.clone();
        if !self.end_barrier(barrier.run(&*disk))? {
            return Err(StoreError::Unusable(disk_full()));
        }
        self.file.is_clean = false;
        Ok(())
    }
}

/// A barrier on its way.
#[derive(Debug)]
pub struct Barrier {
    up_to: u64,
    file: StoreFile,
    catalogue: Write,
    merge: Option<Job>,
}

/// A barrier that has passed, or not.
#[derive(Debug)]
pub struct Passed {
    barrier: Barrier,
    /// The packs that were put together; nothing if there was no room for them, or to say so.
    result: Result<Option<Merged>, StoreError>,
}

impl Barrier {
    /// Makes everything safe, and says so in `store.json`.
    pub fn run<D: Disk>(mut self, disk: &D) -> Passed {
        let result = self.pass(disk);
        Passed { barrier: self, result }
    }

    fn pass<D: Disk>(&mut self, disk: &D) -> Result<Option<Merged>, StoreError> {
        let has_room = |action, path, result| match result {
            Ok(()) => Ok(true),
            Err(error) if is_full(&error) => Ok(false),
            Err(error) => Err(StoreError::new(action, path, error)),
        };
        let mut merged = Merged::default();
        if !has_room("write", CATALOGUE, self.write_catalogue(disk))?
            || !has_room("write", PACKS, self.merge(disk, &mut merged))?
        {
            return Ok(None);
        }
        // Without room for what was written before, it is lost.
        disk.barrier().map_err(|error| StoreError::new("sync", "", error))?;
        let is_said = has_room("replace", STORE, replace_store(disk, &self.file))?;
        Ok(is_said.then_some(merged))
    }

    fn write_catalogue<D: Disk>(&mut self, disk: &D) -> io::Result<()> {
        self.file.catalogue = self.catalogue.run(disk)?;
        Ok(())
    }

    fn merge<D: Disk>(&mut self, disk: &D, merged: &mut Merged) -> io::Result<()> {
        let Some(merge) = &self.merge else { return Ok(()) };
        *merged = merge.run(disk)?;
        self.file.packs = merge.named(merged, &self.file.packs);
        Ok(())
    }
}

impl Backlog {
    pub(super) fn mark(&mut self, topic: &mut Topic, sequence: u64) {
        if topic.dirty.is_none() {
            topic.dirty = Some(sequence);
            self.dirty.entry(sequence).or_default().push(topic.file.id);
        }
    }

    /// A topic that needed a file of the journal up to this one, and that file.
    fn next_dirty(&mut self, up_to: u64) -> Option<(u64, u64)> {
        loop {
            let mut oldest = self.dirty.first_entry()?;
            let sequence = *oldest.key();
            if sequence > up_to {
                return None;
            }
            if self.sorted != Some(sequence) {
                self.sorted = Some(sequence);
                // The least comes first: packs are read in this order when they are put together.
                oldest.get_mut().sort_unstable_by(|one, other| other.cmp(one));
            }
            match oldest.get_mut().pop() {
                Some(id) => return Some((sequence, id)),
                None => drop(oldest.remove()),
            }
        }
    }
}

fn disk_full() -> String {
    "disk full: it has less room than the reserve of durable topics; make room on it".to_owned()
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
