//! A topic of the store: its segments, and the records that are not in them yet.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    ops::Bound,
};

use rustc_hash::FxHashMap;

use super::{
    Retention,
    disk::Disk,
    files::{TopicFile, topic_directory},
    format::{SEGMENT_HEAD, SegmentHead, parse_record},
    pack::Extent,
    pieces::{Known, Pieces},
    record::{Block, TopicId},
    segment::{Cache, Segment, heads},
};
use crate::{name::TopicName, position::Offset};

/// A topic of the store.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) file: TopicFile,
    /// Segments and extents of packs.
    pub(super) segments: Pieces,
    /// Records that are safe in the journal and not in a segment yet, one behind another.
    pub(super) pending: Vec<u8>,
    /// The offset behind the last record that is written.
    pub(super) next: u64,
    /// The offset behind the last that is staged.
    pub(super) staged: u64,
    /// The time of the last record.
    pub(super) time: u64,
    /// The last message of the topic, behind which nothing is taken.
    pub(super) closed: Option<u64>,
    /// The oldest file of the journal that holds records of the topic that no segment or pack does.
    pub(super) dirty: Option<u64>,
    /// The barrier before which it last wrote to a segment of its own.
    pub(super) alone_at: u64,
    /// The directory is there.
    pub(super) is_made: bool,
    /// A record that ends it, or closes it, is staged.
    pub(super) is_ending: bool,
    pub(super) retention: Retention,
    /// The file that it is to become, as it was last staged.
    pub(super) staged_file: Option<Box<TopicFile>>,
    /// The batch in which it was last seen to have moved.
    pub(super) moved_in: u64,
}

/// A topic, as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicState {
    /// Its number.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// Its numbering.
    pub epoch: crate::position::Epoch,
    /// The oldest offset that is kept.
    pub base: Offset,
    /// The offset of the message that comes next.
    pub next: Offset,
    /// The last message, if the topic was closed.
    pub closed: Option<Offset>,
    /// The time of the newest message.
    pub time: u64,
    /// Bytes of its messages on disk.
    pub bytes: u64,
    /// Its messages count as soon as they are written, and are synced later.
    pub is_loose: bool,
    /// The settings it was made with, as they were given.
    pub settings: String,
    /// The part of it that is lost: it can be read, and nothing is appended.
    pub damage: Option<String>,
}

impl Topic {
    pub(super) fn new(file: TopicFile, retention: Retention, known: &Known) -> Self {
        let next = file.base.max(file.next);
        let segments = Pieces::new(file.name.as_str().len(), known);
        Self {
            time: file.time,
            closed: file.closed,
            file,
            segments,
            pending: Vec::new(),
            next,
            staged: next,
            dirty: None,
            alone_at: u64::MAX,
            is_made: false,
            is_ending: false,
            retention,
            staged_file: None,
            moved_in: 0,
        }
    }

    pub(super) fn state(&self) -> TopicState {
        TopicState {
            id: TopicId(self.file.id),
            name: self.file.name.clone(),
            epoch: self.file.epoch,
            base: Offset(self.file.base),
            next: Offset(self.next),
            closed: self.closed.map(Offset),
            time: self.time,
            bytes: self.bytes(),
            is_loose: self.file.is_loose,
            settings: self.file.settings.clone(),
            damage: self.file.damage.clone(),
        }
    }

    /// Bytes of its records on disk and of those on their way.
    pub(super) fn bytes(&self) -> u64 {
        let segments: u64 = self.segments.iter().map(|segment| segment.bytes).sum();
        segments + self.pending.len() as u64
    }

    /// The file as it is to be from here on.
    pub(super) fn changed(&self, change: impl FnOnce(&mut TopicFile)) -> TopicFile {
        let mut file = self.file.clone();
        (file.time, file.closed) = (self.time, self.closed);
        change(&mut file);
        file
    }

    /// Takes a record that is written.
    pub(super) fn take(&mut self, record: &[u8], offset: u64, time: u64, closes: bool) {
        self.pending.extend_from_slice(record);
        self.next = offset + 1;
        self.staged = self.staged.max(self.next);
        self.time = time;
        if closes {
            self.closed = Some(offset);
        }
    }

    /// Takes what the catalogue is to say. The segments that it makes needless are given back.
    pub(super) fn become_file(&mut self, file: TopicFile) -> Vec<Segment> {
        let (base, next) = (file.base, file.base.max(file.next));
        if self.staged_file.as_deref() == Some(&file) {
            self.staged_file = None;
        }
        self.closed = file.closed.or(self.closed);
        self.time = self.time.max(file.time);
        self.file = file;
        if base >= self.next {
            self.pending.clear();
        }
        self.next = self.next.max(next);
        self.staged = self.staged.max(next);
        self.drop_needless()
    }

    /// The offset of the oldest message that is there; that of the next one if none is.
    pub(super) fn first(&self) -> u64 {
        let pending = || heads(&self.pending).next().map(|(offset, _)| offset);
        let first = self.segments.front().map(|first| first.first);
        first.or_else(pending).unwrap_or(self.next)
    }

    /// Gives back the segments that are below the base.
    pub(super) fn drop_needless(&mut self) -> Vec<Segment> {
        let base = self.file.base;
        let mut needless = Vec::new();
        // One that begins at the base may be empty, because a crash has torn it: it is made again.
        let is_needless = |segment: &&Segment| segment.end <= base && segment.first < base;
        while let Some(segment) = self.segments.front().filter(is_needless) {
            needless.push(*segment);
            self.segments.pop_front();
        }
        needless
    }

    /// Whether what is pending goes to a segment of its own: it is much, or goes behind what was since the
    /// last barrier.
    pub(super) fn goes_alone(&self, barrier: u64, much: usize) -> bool {
        let is_behind = |last: &Segment| last.is_own() && self.alone_at == barrier;
        self.pending.len() >= much || self.segments.back().is_some_and(is_behind)
    }

    /// Copies what is pending behind what goes to a pack, which stands at this position of it.
    pub(super) fn pack_up(&self, pack: u32, at: u64, out: &mut Vec<u8>, extents: &mut Vec<Extent>) {
        let mut rest = &self.pending[..];
        while let Some((first, _)) = heads(rest).next() {
            let (mut end, mut len) = (first, 0);
            for (offset, record) in heads(rest) {
                if offset != end {
                    break;
                }
                (end, len) = (end + 1, len + record.len());
            }
            let (records, behind) = rest.split_at(len);
            // Packs have so few bytes that their positions fit.
            let place = u32::try_from(at + out.len() as u64).unwrap_or(u32::MAX);
            extents.extend(Extent::of(self.file.id, pack, place, records));
            out.extend_from_slice(records);
            rest = behind;
        }
    }

    /// Puts an extent in the place of those that it was made of. Gives back those that were there yet; if
    /// none was, it is not taken.
    pub(super) fn replace(&mut self, old: &[Segment], new: Segment) -> Vec<Segment> {
        let from = self.segments.behind(new.first);
        let there = self.segments.iter().skip(from);
        let count = there.take_while(|segment| old.contains(segment)).count();
        if count > 0 { self.segments.replace(from..from + count, new) } else { Vec::new() }
    }

    /// Writes what is pending to segments of its own. What it has written is not pending any more, also if it
    /// fails. Returns whether a segment was begun.
    pub(super) fn flush<D: Disk>(
        &mut self,
        disk: &D,
        cache: &mut Cache<D>,
        segment_bytes: u64,
    ) -> io::Result<bool> {
        let id = self.file.id;
        if !self.is_made {
            disk.create_directory(&topic_directory(id))?;
            self.is_made = true;
        }
        let mut written = 0;
        let result = self.write_segments(disk, cache, segment_bytes, &mut written);
        if written == self.pending.len() {
            // Thousands of topics would keep what few need.
            self.pending = Vec::new();
        } else {
            self.pending.drain(..written);
        }
        result
    }

    fn write_segments<D: Disk>(
        &mut self,
        disk: &D,
        cache: &mut Cache<D>,
        segment_bytes: u64,
        written: &mut usize,
    ) -> io::Result<bool> {
        let id = self.file.id;
        let mut has_rolled = false;
        while *written < self.pending.len() {
            let rest = &self.pending[*written..];
            let mut records = heads(rest);
            // It holds a record: it is not at its end.
            let Some((first, record)) = records.next() else { break };
            let last = self.segments.back().copied().filter(|last| {
                last.is_own()
                    && last.end == first
                    && last.bytes + record.len() as u64 <= segment_bytes
            });
            let segment = last.unwrap_or_else(|| Segment {
                first,
                end: first,
                bytes: SEGMENT_HEAD as u64,
                time: parse_record(record).map_or(0, |record| record.time),
                pack: 0,
                place: 0,
            });
            let (mut len, mut end) = (record.len(), first + 1);
            for (offset, record) in records {
                let is_full = segment.bytes + (len + record.len()) as u64 > segment_bytes;
                if is_full || offset != end {
                    break;
                }
                (len, end) = (len + record.len(), offset + 1);
            }
            let chunk = &rest[..len];
            let opened = if last.is_some() {
                let opened = cache.get(disk, segment.key(id))?;
                disk.write_at(&opened.file, chunk, segment.bytes)?;
                opened
            } else {
                let opened = cache.create(disk, segment.key(id))?;
                let head = SegmentHead { topic: id, first, time: segment.time }.write();
                disk.write_at(&opened.file, &[&head, chunk].concat(), 0)?;
                opened
            };
            opened.note(chunk, segment.bytes);
            let segment = Segment { end, bytes: segment.bytes + len as u64, ..segment };
            if last.is_some() {
                self.segments.pop_back();
            } else {
                has_rolled = true;
            }
            self.segments.push_back(segment);
            *written += len;
        }
        Ok(has_rolled)
    }

    /// The segment in which to look for an offset: the first that ends behind it.
    pub(super) fn segment_of(&self, offset: u64) -> Option<Segment> {
        self.segments.get(self.segments.behind(offset)).copied()
    }

    /// Pending records from an offset on.
    pub(super) fn pending_from(&self, from: u64, max_bytes: usize) -> Block {
        let mut block = Block { next: self.next.max(from), ..Block::default() };
        for (offset, record) in heads(&self.pending) {
            if offset < from {
                continue;
            }
            if !block.bytes.is_empty() && block.bytes.len() + record.len() > max_bytes {
                block.next = offset;
                break;
            }
            block.bytes.extend_from_slice(record);
        }
        block
    }

    /// The oldest offset that retention keeps at this time, in milliseconds since 1970: whole segments go.
    pub(super) fn retained_from(&self, now: u64) -> u64 {
        let Retention { messages, bytes, age_ms } = self.retention;
        let mut held = self.bytes();
        let mut base = self.file.base;
        let oldest = age_ms.map(|age| now.saturating_sub(age));
        for (at, segment) in self.segments.iter().enumerate() {
            let behind = self.segments.get(at + 1);
            let is_last = behind.is_none();
            if is_last && !self.pending.is_empty() {
                break;
            }
            let newest = behind.map_or(self.time, |behind| behind.time);
            let is_old = oldest.is_some_and(|oldest| newest < oldest);
            let is_more = messages.is_some_and(|most| self.next - segment.end >= most)
                || bytes.is_some_and(|most| held > most);
            if !is_old && (is_last || !is_more) {
                break;
            }
            held -= segment.bytes;
            base = base.max(segment.end);
        }
        base
    }
}

/// The topics, by their numbers and names.
#[derive(Debug, Default)]
pub(super) struct Topics {
    by_id: FxHashMap<u64, Topic>,
    names: BTreeMap<TopicName, u64>,
    pub(super) next_id: u64,
    /// The topic that [`next_ids`](Self::next_ids) has come to.
    last: Option<TopicName>,
    /// The memory that they take to be known.
    pub(super) known: Known,
}

impl Topics {
    pub(super) fn new(next_id: u64) -> Self {
        Self { next_id, ..Self::default() }
    }

    pub(super) fn get(&self, id: u64) -> Option<&Topic> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut Topic> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn find(&self, name: &TopicName) -> Option<u64> {
        self.names.get(name).copied()
    }

    /// Takes a topic. If there is another of its name, it is given back.
    pub(super) fn insert(&mut self, topic: Topic) -> Option<Topic> {
        let id = topic.file.id;
        self.next_id = self.next_id.max(id + 1);
        let other = self.names.insert(topic.file.name.clone(), id).filter(|other| *other != id);
        self.by_id.insert(id, topic);
        other.and_then(|other| self.by_id.remove(&other))
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Topic> {
        let topic = self.by_id.remove(&id)?;
        if self.find(&topic.file.name) == Some(id) {
            self.names.remove(&topic.file.name);
        }
        Some(topic)
    }

    /// The numbers of so many topics, in turn: all of them over several calls.
    pub(super) fn next_ids(&mut self, most: usize) -> Vec<u64> {
        let behind = self.last.take().map_or(Bound::Unbounded, Bound::Excluded);
        let some = self.names.range((behind, Bound::Unbounded)).take(most);
        let (names, ids): (Vec<_>, Vec<_>) = some.map(|(name, id)| (name, *id)).unzip();
        self.last = names.last().filter(|_| names.len() == most).map(|last| (*last).clone());
        ids
    }

    /// The numbers of those that hold extents of some packs.
    pub(super) fn holding(&self, packs: &HashSet<u32>) -> Vec<u64> {
        let is_of = |segment: &Segment| packs.contains(&segment.pack);
        let holds = |id: &u64| self.get(*id).is_some_and(|topic| topic.segments.iter().any(is_of));
        self.ids().filter(holds).collect()
    }

    /// Their numbers, in the order of their names.
    pub(super) fn ids(&self) -> impl Iterator<Item = u64> {
        self.names.values().copied()
    }
}
