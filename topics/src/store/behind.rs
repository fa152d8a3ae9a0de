//! The work behind the journal: records go to segments, what is needless is removed, files of the journal are
//! given free.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
};

use super::{
    StoreError,
    disk::Disk,
    engine::{Engine, Outcome, Unstaged},
    files::{JOURNAL, STORE, StoreFile, replace_store, segment_file, topic_directory, topic_file},
    journal::RESERVE,
    record::TopicId,
    topic::Topic,
};
use crate::position::Offset;

/// Topics that are looked at for what has grown too old, in one call.
const TOPICS_A_CALL: usize = 4_096;

/// A file, or a directory, that is to be removed.
#[derive(Debug)]
pub(super) enum Doomed {
    Segment { topic: u64, first: u64, bytes: u64 },
    Topic { topic: u64, segments: Vec<(u64, u64)> },
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
        if let Some(id) = self.backlog.rolled.pop_front() {
            return Ok(self.retain(id, now));
        }
        // What is in a segment must not go farther than what is safe in the journal.
        if !self.journal.is_synced() {
            return Ok(false);
        }
        let Some(id) = self.next_to_flush() else { return Ok(false) };
        match self.flush(id) {
            Ok(()) => Ok(true),
            Err(error) if is_full(&error) => {
                if let Some(topic) = self.topics.get_mut(id)
                    && let Some(sequence) = topic.dirty.take()
                {
                    self.backlog.mark(topic, sequence);
                }
                self.space.full = Some(disk_full());
                Ok(false)
            }
            Err(error) => Err(self.fail(StoreError::new("write", &topic_directory(id), error))),
        }
    }

    fn next_to_flush(&mut self) -> Option<u64> {
        if let Some(id) = self.backlog.hot.pop_front() {
            return Some(id);
        }
        let up_to = self.flush_up_to();
        loop {
            let (sequence, id) = self.backlog.next_dirty(up_to?)?;
            // It may have been flushed since, because it was hot.
            if self.topics.get(id).is_some_and(|topic| topic.dirty == Some(sequence)) {
                return Some(id);
            }
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

    pub(super) fn flush(&mut self, id: u64) -> io::Result<()> {
        let Some(topic) = self.topics.get_mut(id) else { return Ok(()) };
        let (pending, held) = (topic.pending.len(), topic.bytes());
        let flushed = topic.flush(&*self.disk, &mut self.cache, self.settings.segment_bytes);
        let moved = (pending - topic.pending.len()) as u64;
        self.backlog.pending_bytes -= moved;
        // The heads of segments are new.
        self.backlog.segment_bytes += moved + topic.bytes() - held;
        if flushed? {
            self.backlog.rolled.push_back(id);
        }
        topic.dirty = None;
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
                self.cache.forget(topic, first);
                self.backlog.segment_bytes -= bytes;
            }
            Doomed::Topic { topic, segments } => {
                for (first, bytes) in segments {
                    remove(&segment_file(topic, first))?;
                    self.cache.forget(topic, first);
                    self.backlog.segment_bytes -= bytes;
                }
                remove(&topic_file(topic))?;
                remove(&format!("{}.new", topic_file(topic)))?;
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
        let reserve = RESERVE as u64 * file;
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

    /// The job that makes segments safe and files of the journal free, if any wait for it and nothing else
    /// has to be done before. It runs beside everything else; there is one at a time.
    pub fn barrier(&mut self) -> Option<Barrier> {
        let backlog = &self.backlog;
        let up_to = self.journal.sealed_up_to()?;
        let first_dirty = backlog.dirty.first_key_value().map(|(sequence, _)| *sequence);
        let is_ready = !backlog.has_barrier
            && self.failed.is_none()
            && backlog.doomed.is_empty()
            && first_dirty.is_none_or(|sequence| sequence > up_to);
        if !is_ready {
            return None;
        }
        self.backlog.has_barrier = true;
        let (sequence, generation, batch) = self.journal.unsealed();
        let next_topic = self.topics.next_id;
        let file = StoreFile { sequence, generation, batch, next_topic, ..self.file.clone() };
        Some(Barrier { up_to, file })
    }

    /// Takes note of a job's end.
    ///
    /// # Errors
    /// The error of the disk: nothing is written any more, and the next start reads the journal again.
    pub fn finish_barrier(&mut self, passed: Passed) -> Result<(), StoreError> {
        self.backlog.has_barrier = false;
        let Passed { barrier, result } = passed;
        match result {
            Ok(true) => {}
            // Segments are safe, which could not be written down: it is done again when there is room.
            Ok(false) => {
                self.space.full = Some(disk_full());
                return Ok(());
            }
            Err(error) => return Err(self.fail(error)),
        }
        self.journal.release(barrier.up_to);
        self.file = barrier.file;
        Ok(())
    }

    /// Ends in order: the next start has nothing to read again. What is staged is committed; no job is under
    /// way.
    ///
    /// # Errors
    /// The error of the disk. All that was acknowledged is safe without it.
    pub fn close(&mut self, now: u64) -> Result<(), StoreError> {
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
                let waiting = self.waiting_files();
                self.finish_barrier(barrier.run(&*disk))?;
                // On a full disk it has to be done again, which would be as vain now.
                is_idle &= self.waiting_files() == waiting;
            }
            if is_idle {
                return Ok(all);
            }
        }
    }

    /// Writes all that is pending to segments.
    pub(super) fn flush_all(&mut self) -> Result<(), StoreError> {
        while let Some((_, id)) = self.backlog.next_dirty(u64::MAX) {
            self.flush(id)
                .map_err(|error| StoreError::new("write", &topic_directory(id), error))?;
        }
        self.backlog.hot.clear();
        Ok(())
    }

    /// Makes everything safe in segments, and begins the journal anew.
    pub(super) fn checkpoint(&mut self, is_clean: bool) -> Result<(), StoreError> {
        self.flush_all()?;
        while let Some(doomed) = self.backlog.doomed.pop_front() {
            self.remove(doomed)?;
        }
        self.disk.barrier().map_err(|error| StoreError::new("sync", "", error))?;
        let (sequence, generation) = self.journal.next_file();
        let (batch, next_topic) = (self.journal.next_batch(), self.topics.next_id);
        let file =
            StoreFile { sequence, generation, batch, next_topic, is_clean, ..self.file.clone() };
        replace_store(&*self.disk, &file)
            .map_err(|error| StoreError::new("replace", STORE, error))?;
        self.file = StoreFile { is_clean: false, ..file };
        Ok(())
    }
}

/// A barrier on its way.
#[derive(Debug)]
pub struct Barrier {
    up_to: u64,
    file: StoreFile,
}

/// A barrier that has passed, or not.
#[derive(Debug)]
pub struct Passed {
    barrier: Barrier,
    /// Whether there was room to say so.
    result: Result<bool, StoreError>,
}

impl Barrier {
    /// Makes everything safe, and says so in `store.json`.
    pub fn run<D: Disk>(self, disk: &D) -> Passed {
        let safe = disk.barrier().map_err(|error| StoreError::new("sync", "", error));
        let result = safe.and_then(|()| match replace_store(disk, &self.file) {
            Ok(()) => Ok(true),
            Err(error) if is_full(&error) => Ok(false),
            Err(error) => Err(StoreError::new("replace", STORE, error)),
        });
        Passed { barrier: self, result }
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
