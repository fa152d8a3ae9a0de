//! Segments: files of a topic's records, in the order of their offsets.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    disk::Disk,
    files::{pack_file, segment_file},
    format::{
        RECORD_HEAD, SEGMENT_HEAD, SegmentHead, claimed_len, claimed_offset, claimed_topic,
        parse_record, valid_record,
    },
    record::{Block, Lost},
};

/// Bytes between two marks of an index.
const MARK_EVERY: u64 = 4 << 10;
/// Bytes that are read at a time.
const READ_BYTES: usize = 64 << 10;

/// A segment, or an extent of a pack, as far as it is known without its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// The offset of its first record.
    pub(super) first: u64,
    /// The offset behind its last.
    pub(super) end: u64,
    /// Bytes of valid records, and of the head of a file of its own.
    pub(super) bytes: u64,
    /// The time of its first record.
    pub(super) time: u64,
    /// The pack that it is in; 0 if it has a file of its own.
    pub(super) pack: u32,
    /// The position of its first record in the pack.
    pub(super) place: u32,
}

impl Segment {
    /// Whether it has a file of its own.
    pub(super) fn is_own(&self) -> bool {
        self.pack == 0
    }

    /// The file that it is in.
    pub(super) fn key(&self, topic: u64) -> Key {
        if self.is_own() { Key::Segment(topic, self.first) } else { Key::Pack(self.pack) }
    }
}

/// A segment's file, open.
#[derive(Debug)]
pub(super) struct Opened<D: Disk> {
    pub(super) file: D::File,
    index: Mutex<Index>,
}

/// The positions of some records: one a few KiB, as far as the file has been looked through.
#[derive(Debug)]
struct Index {
    marks: Vec<(u64, u64)>,
    /// The offset and the position behind what was looked through.
    end: (u64, u64),
}

impl Index {
    fn new(first: u64) -> Self {
        Self { marks: Vec::new(), end: (first, SEGMENT_HEAD as u64) }
    }

    /// Notes a record that lies at the end of what was looked through.
    fn note(&mut self, offset: u64, len: usize) {
        let at = self.end.1;
        if self.marks.last().is_none_or(|(_, marked)| at - marked >= MARK_EVERY) {
            self.marks.push((offset, at));
        }
        self.end = (offset + 1, at + len as u64);
    }

    /// The last known position that is not behind this offset.
    fn find(&self, offset: u64) -> (u64, u64) {
        if offset >= self.end.0 {
            return self.end;
        }
        let behind = self.marks.partition_point(|(marked, _)| *marked <= offset);
        behind.checked_sub(1).map_or((0, SEGMENT_HEAD as u64), |at| self.marks[at])
    }
}

impl<D: Disk> Opened<D> {
    fn new(file: D::File, first: u64) -> Arc<Self> {
        Arc::new(Self { file, index: Mutex::new(Index::new(first)) })
    }

    /// Notes records that were written at a position.
    pub(super) fn note(&self, records: &[u8], at: u64) {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if index.end.1 != at {
            // Nobody has looked so far; whoever reads will.
            return;
        }
        for (offset, record) in heads(records) {
            index.note(offset, record.len());
        }
    }
}

/// The records in what we have encoded or checked ourselves, with their offsets.
pub(super) fn heads(mut records: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    std::iter::from_fn(move || {
        let (record, rest) = records.split_at_checked(claimed_len(records)?)?;
        records = rest;
        Some((claimed_offset(record)?, record))
    })
}

/// A file of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// A topic, and the first offset of a segment of it.
    Segment(u64, u64),
    Pack(u32),
}

impl Key {
    pub(super) fn path(self) -> String {
        match self {
            Self::Segment(topic, first) => segment_file(topic, first),
            Self::Pack(pack) => pack_file(pack),
        }
    }

    /// The offset that its index begins with; a pack has none.
    fn first(self) -> u64 {
        match self {
            Self::Segment(_, first) => first,
            Self::Pack(_) => 0,
        }
    }
}

/// Open segments and packs: those used last.
#[derive(Debug)]
pub(super) struct Cache<D: Disk> {
    /// Each with the time of its last use, in uses.
    open: HashMap<Key, (Arc<Opened<D>>, u64)>,
    used: BTreeMap<u64, Key>,
    uses: u64,
    limit: usize,
}

impl<D: Disk> Cache<D> {
    pub(super) fn new(limit: usize) -> Self {
        Self { open: HashMap::new(), used: BTreeMap::new(), uses: 0, limit: limit.max(1) }
    }

    /// The file, opened unless it is open.
    pub(super) fn get(&mut self, disk: &D, key: Key) -> io::Result<Arc<Opened<D>>> {
        if let Some((opened, used)) = self.open.get_mut(&key) {
            self.uses += 1;
            self.used.remove(used);
            *used = self.uses;
            self.used.insert(self.uses, key);
            return Ok(opened.clone());
        }
        let file = disk.open(&key.path())?;
        Ok(self.insert(key, Opened::new(file, key.first())))
    }

    /// Makes a file.
    pub(super) fn create(&mut self, disk: &D, key: Key) -> io::Result<Arc<Opened<D>>> {
        self.forget(key);
        let file = disk.create(&key.path())?;
        Ok(self.insert(key, Opened::new(file, key.first())))
    }

    fn insert(&mut self, key: Key, opened: Arc<Opened<D>>) -> Arc<Opened<D>> {
        if self.open.len() >= self.limit
            && let Some((_, oldest)) = self.used.pop_first()
        {
            self.open.remove(&oldest);
        }
        self.uses += 1;
        self.used.insert(self.uses, key);
        self.open.insert(key, (opened.clone(), self.uses));
        opened
    }

    /// Closes a file, when nobody reads it any more.
    pub(super) fn forget(&mut self, key: Key) {
        if let Some((_, used)) = self.open.remove(&key) {
            self.used.remove(&used);
        }
    }

    /// How many are open.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}

/// A part of a file, read ahead.
pub(super) struct Window<'a, D: Disk> {
    disk: &'a D,
    file: &'a D::File,
    bytes: Vec<u8>,
    /// The position of its first byte.
    at: u64,
    /// Behind this nothing counts.
    end: u64,
}

impl<'a, D: Disk> Window<'a, D> {
    pub(super) fn new(disk: &'a D, file: &'a D::File, end: u64) -> Self {
        Self { disk, file, bytes: Vec::new(), at: 0, end }
    }

    /// The bytes from a position on: so many at least, or as far as there are any.
    pub(super) fn get(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        let have = at.checked_sub(self.at).and_then(|skip| self.bytes.get(skip as usize..));
        let len = len.min(usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX));
        if have.is_none_or(|have| have.len() < len) {
            let ahead = usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX);
            self.bytes.resize(ahead.min(READ_BYTES.max(len)), 0);
            let read = self.disk.read_at(self.file, &mut self.bytes, at)?;
            self.bytes.truncate(read);
            self.at = at;
        }
        Ok(self.bytes.get((at - self.at) as usize..).unwrap_or_default())
    }

    /// The head of the record at a position: offset and length, unless it cannot be one of this topic.
    fn head(&mut self, topic: u64, at: u64) -> io::Result<Option<(u64, usize)>> {
        let end = self.end;
        let head = self.get(at, RECORD_HEAD)?;
        let head = head.get(..RECORD_HEAD).and_then(|head| {
            let len = claimed_len(head).filter(|len| at + *len as u64 <= end)?;
            Some((claimed_offset(head).filter(|_| claimed_topic(head) == Some(topic))?, len))
        });
        Ok(head)
    }

    fn time_of_segment(&mut self, topic: u64, first: u64) -> io::Result<Option<u64>> {
        let head = SegmentHead::read(self.get(0, SEGMENT_HEAD)?);
        if let Some(head) = head.filter(|head| head.topic == topic && head.first == first) {
            return Ok(Some(head.time));
        }
        let at = SEGMENT_HEAD as u64;
        let head = self.head(topic, at)?.filter(|(offset, _)| *offset == first);
        let Some((_, len)) = head else { return Ok(None) };
        Ok(self.record(at, len)?.and_then(parse_record).map(|record| record.time))
    }

    /// The position behind a record that is lost, if its length is not: the next one begins there, or nothing, where
    /// it is known to be the last.
    fn behind_lost(
        &mut self,
        topic: u64,
        at: u64,
        lost: u64,
        segment_end: Option<u64>,
    ) -> io::Result<Option<u64>> {
        let Some(len) = claimed_len(self.get(at, RECORD_HEAD)?) else { return Ok(None) };
        let (next, offset) = (at + len as u64, lost + 1);
        if next >= self.end {
            return Ok((next == self.end && Some(offset) == segment_end).then_some(next));
        }
        let head = self.head(topic, next)?.filter(|(claimed, _)| *claimed == offset);
        let Some((_, len)) = head else { return Ok(None) };
        Ok(self.record(next, len)?.map(|_| next))
    }

    /// The record at a position, if it is valid.
    fn record(&mut self, at: u64, len: usize) -> io::Result<Option<&[u8]>> {
        Ok(valid_record(self.get(at, len)?))
    }
}

/// A read of one segment, which needs nothing but the disk.
#[derive(Debug)]
pub struct Read<D: Disk> {
    pub(super) opened: Arc<Opened<D>>,
    pub(super) topic: u64,
    pub(super) segment: Segment,
    /// The first offset that is wanted.
    pub(super) from: u64,
    pub(super) max_bytes: usize,
}

impl<D: Disk> Read<D> {
    /// Reads as many records as fit in the bytes that were asked for, and one at least.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn run(self, disk: &D) -> io::Result<Block> {
        let Self { opened, topic, segment, from, max_bytes } = self;
        let place = u64::from(segment.place);
        let end = place + segment.bytes;
        let mut window = Window::new(disk, &opened.file, end);
        let mut block = Block { next: segment.end, ..Block::default() };
        let (mut expected, mut at) = if segment.is_own() {
            let mut index = opened.index.lock().unwrap_or_else(PoisonError::into_inner);
            while index.end.0 < from && index.end.1 < end {
                let head = window.head(topic, index.end.1)?;
                let Some((offset, len)) = head.filter(|(offset, _)| *offset == index.end.0) else {
                    break;
                };
                index.note(offset, len);
            }
            let (offset, at) = index.find(from);
            (offset.max(segment.first), at)
        } else {
            // It is short: it is looked through.
            (segment.first, place)
        };
        while at < end {
            let head = window.head(topic, at)?.filter(|(offset, _)| *offset == expected);
            if let Some((_, len)) = head
                && expected < from
            {
                (at, expected) = (at + len as u64, expected + 1);
                continue;
            }
            let record = match head {
                Some((_, len)) => window.record(at, len)?.filter(|it| parse_record(it).is_some()),
                None => None,
            };
            let Some(record) = record else {
                block.damage.get_or_insert_with(|| Lost {
                    from: expected,
                    text: format!(
                        "the disk has lost messages: {} is not what was written at byte {at}",
                        segment.key(topic).path()
                    ),
                });
                let Some(next) = window.behind_lost(topic, at, expected, Some(segment.end))? else {
                    break;
                };
                (at, expected) = (next, expected + 1);
                continue;
            };
            if !block.bytes.is_empty() && block.bytes.len() + record.len() > max_bytes {
                block.next = expected;
                break;
            }
            block.bytes.extend_from_slice(record);
            (at, expected) = (at + record.len() as u64, expected + 1);
        }
        Ok(block)
    }
}

/// A segment that was looked through: as far as it is valid, and what its last record is.
pub(super) struct Scanned {
    pub(super) segment: Segment,
    /// The time of its last record.
    pub(super) last_time: u64,
    /// Its last record closes the topic.
    pub(super) closes: bool,
    /// Bytes behind the last valid record.
    pub(super) behind: u64,
    /// The first record that is lost among those that are there.
    pub(super) lost: Option<Lost>,
}

/// The time of a segment's first record: its head says it, or, if that is lost, the record itself. Nothing if both
/// are lost.
pub(super) fn time_of<D: Disk>(
    disk: &D,
    file: &D::File,
    topic: u64,
    first: u64,
) -> io::Result<Option<u64>> {
    let mut window = Window::new(disk, file, disk.len(file)?);
    window.time_of_segment(topic, first)
}

/// Looks through a segment up to its last valid record below an offset. Nothing if neither its head nor its first
/// record is valid.
pub(super) fn scan<D: Disk>(
    disk: &D,
    file: &D::File,
    topic: u64,
    first: u64,
    below: u64,
) -> io::Result<Option<Scanned>> {
    let end = disk.len(file)?;
    let mut window = Window::new(disk, file, end);
    let Some(time) = window.time_of_segment(topic, first)? else { return Ok(None) };
    let at = SEGMENT_HEAD as u64;
    let segment = Segment { first, end: first, bytes: at, time, pack: 0, place: 0 };
    let mut scanned = Scanned { segment, last_time: time, closes: false, behind: 0, lost: None };
    let segment = &mut scanned.segment;
    while segment.end < below {
        let (at, offset) = (segment.bytes, segment.end);
        let head = window.head(topic, at)?.filter(|(claimed, _)| *claimed == offset);
        let record = match head {
            Some((_, len)) => window.record(at, len)?.and_then(parse_record),
            None => None,
        };
        if let (Some(record), Some((_, len))) = (record, head) {
            (scanned.last_time, scanned.closes) = (record.time, record.closes);
            segment.bytes = at + len as u64;
        } else if let Some(next) = window.behind_lost(topic, at, offset, None)? {
            segment.bytes = next;
            let path = segment_file(topic, first);
            let text = format!("{path} is not what was written there at byte {at}");
            scanned.lost.get_or_insert(Lost { from: offset, text });
        } else {
            break;
        }
        segment.end = offset + 1;
    }
    scanned.behind = end - segment.bytes;
    Ok(Some(scanned))
}
