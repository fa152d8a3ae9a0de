//! The bytes on disk: records, the batches of a journal, the heads of files.
//!
//! All numbers are little-endian. A record is the same in the journal and in a segment:
//!
//! ```text
//! len u32 · crc32 u32 · topic u64 · offset u64 · time u64 · kind u8 · flags u8 · key u8 · from u8 ·
//! headers u16 · 0 [2] · [id u128] · key · from · headers · data
//! ```
//!
//! `len` counts the whole record; the checksum covers all but itself. A batch of a journal begins at a
//! sector's border and is filled up to the next:
//!
//! ```text
//! len u32 · crc32 u32 of the records · number u64 · synced u64 · kind u8 · 0 [3] · crc32 u32 of the head · records
//! ```
//!
//! The head's checksum covers the generation of the file as well, so what an earlier use of the file has
//! left is never taken for a batch, and whether there is one is seen without reading it. `synced` is the last batch that was known to be on disk when this one was
//! written: a batch that is not valid was torn by a crash unless a later one says that it had been synced.

use crc32fast::Hasher;

/// The unit in which disks write: all of it or nothing.
pub(super) const SECTOR: usize = 512;
/// Bytes of a record before its parts.
pub(super) const RECORD_HEAD: usize = 40;
/// Bytes of a batch before its records.
pub(super) const BATCH_HEAD: usize = 32;
/// Bytes at the beginning of a segment.
pub(super) const SEGMENT_HEAD: usize = 40;

const JOURNAL_MAGIC: &[u8; 8] = b"rsockjnl";
const SEGMENT_MAGIC: &[u8; 8] = b"rsockseg";
/// The format of all files of a directory.
pub(super) const FORMAT: u32 = 2;

const HAS_ID: u8 = 1;
const HAS_KEY: u8 = 2;
const HAS_FROM: u8 = 4;
const HAS_HEADERS: u8 = 8;
const IS_TOMBSTONE: u8 = 16;
const CLOSES: u8 = 32;

/// The kinds of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A message of a topic.
    Message,
    /// A topic as it is from here on: its data are those of `topic.json`.
    Topic,
    /// The end of a topic.
    Delete,
}

/// The parts of a record, as they are in its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fields<'a> {
    pub(super) kind: Kind,
    pub(super) topic: u64,
    pub(super) offset: u64,
    pub(super) time: u64,
    pub(super) is_tombstone: bool,
    pub(super) closes: bool,
    pub(super) id: Option<u128>,
    pub(super) key: Option<&'a str>,
    pub(super) from: Option<&'a str>,
    pub(super) headers: Option<&'a str>,
    pub(super) data: &'a [u8],
}

impl Fields<'_> {
    /// A record without parts.
    pub(super) fn empty(kind: Kind, topic: u64) -> Self {
        Fields {
            kind,
            topic,
            offset: 0,
            time: 0,
            is_tombstone: false,
            closes: false,
            id: None,
            key: None,
            from: None,
            headers: None,
            data: &[],
        }
    }

    /// Bytes of the record.
    pub(super) fn len(&self) -> usize {
        let text = |text: Option<&str>| text.map_or(0, str::len);
        let id = if self.id.is_some() { 16 } else { 0 };
        let texts = text(self.key) + text(self.from) + text(self.headers);
        RECORD_HEAD + id + texts + self.data.len()
    }

    /// Whether the record can be written: its parts have lengths of 8 and 16 bits.
    pub(super) fn fits(&self) -> bool {
        let is_within = |text: Option<&str>, max: usize| text.is_none_or(|text| text.len() <= max);
        is_within(self.key, 255)
            && is_within(self.from, 255)
            && is_within(self.headers, 65_535)
            && self.len() <= u32::MAX as usize
    }

    /// Writes the record, which fits, behind what is there.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let len = self.len();
        out.reserve(len);
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        let flags = flag(self.id.is_some(), HAS_ID)
            | flag(self.key.is_some(), HAS_KEY)
            | flag(self.from.is_some(), HAS_FROM)
            | flag(self.headers.is_some(), HAS_HEADERS)
            | flag(self.is_tombstone, IS_TOMBSTONE)
            | flag(self.closes, CLOSES);
        let kind = match self.kind {
            Kind::Message => 1,
            Kind::Topic => 2,
            Kind::Delete => 3,
        };
        let text_len = |text: Option<&str>| text.map_or(0, str::len);
        let headers_len = text_len(self.headers) as u16;
        out.extend_from_slice(&(len as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.topic.to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.time.to_le_bytes());
        out.extend_from_slice(&[kind, flags, text_len(self.key) as u8, text_len(self.from) as u8]);
        out.extend_from_slice(&headers_len.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        if let Some(id) = self.id {
            out.extend_from_slice(&id.to_le_bytes());
        }
        for text in [self.key, self.from, self.headers].into_iter().flatten() {
            out.extend_from_slice(text.as_bytes());
        }
        out.extend_from_slice(self.data);
        let crc = record_crc(&out[start..]);
        out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    }
}

fn record_crc(record: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&record[..4]);
    hasher.update(&record[8..]);
    hasher.finalize()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// The length that a record claims, if it can be one.
pub(super) fn claimed_len(bytes: &[u8]) -> Option<usize> {
    let len = u32_at(bytes, 0)? as usize;
    (len >= RECORD_HEAD).then_some(len)
}

/// The offset that stands in the head of a record.
pub(super) fn claimed_offset(head: &[u8]) -> Option<u64> {
    u64_at(head, 16)
}

/// The topic that stands in the head of a record.
pub(super) fn claimed_topic(head: &[u8]) -> Option<u64> {
    u64_at(head, 8)
}

/// The record that begins here; nothing if there is none that is valid.
pub(super) fn valid_record(bytes: &[u8]) -> Option<&[u8]> {
    let record = bytes.get(..claimed_len(bytes)?)?;
    (u32_at(record, 4)? == record_crc(record)).then_some(record)
}

/// Reads the record that begins here, and its length; nothing if there is none that is valid.
pub(super) fn read_record(bytes: &[u8]) -> Option<(Fields<'_>, usize)> {
    let record = valid_record(bytes)?;
    Some((parse_record(record)?, record.len()))
}

/// Reads a record that is known to be valid.
pub(super) fn parse_record(record: &[u8]) -> Option<Fields<'_>> {
    if record.len() < RECORD_HEAD {
        return None;
    }
    let kind = match record[32] {
        1 => Kind::Message,
        2 => Kind::Topic,
        3 => Kind::Delete,
        _ => return None,
    };
    let flags = record[33];
    let mut rest = &record[RECORD_HEAD..];
    let mut take = |len: usize| {
        let (part, behind) = rest.split_at_checked(len)?;
        rest = behind;
        Some(part)
    };
    let id = if flags & HAS_ID == 0 {
        None
    } else {
        Some(u128::from_le_bytes(take(16)?.try_into().ok()?))
    };
    let mut text = |flag: u8, len: usize| {
        let part = std::str::from_utf8(take(len)?).ok()?;
        Some((flags & flag != 0).then_some(part))
    };
    let key = text(HAS_KEY, record[34].into())?;
    let from = text(HAS_FROM, record[35].into())?;
    let headers = text(HAS_HEADERS, u16_at(record, 36)?.into())?;
    let fields = Fields {
        kind,
        topic: u64_at(record, 8)?,
        offset: u64_at(record, 16)?,
        time: u64_at(record, 24)?,
        is_tombstone: flags & IS_TOMBSTONE != 0,
        closes: flags & CLOSES != 0,
        id,
        key,
        from,
        headers,
        data: rest,
    };
    Some(fields)
}

/// The kinds of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BatchKind {
    /// Records.
    Records,
    /// The end of a file: the generation of the next stands where records would.
    Seal,
}

/// The head of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) kind: BatchKind,
    pub(super) number: u64,
    /// The last batch that was known to be on disk.
    pub(super) synced: u64,
}

fn head_crc(generation: u64, head: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&generation.to_le_bytes());
    hasher.update(&head[..28]);
    hasher.finalize()
}

/// Bytes up to the next border of a sector.
pub(super) fn filled(len: usize) -> usize {
    len.next_multiple_of(SECTOR)
}

impl Batch {
    /// Writes the head of a batch whose records stand behind the place for it, and fills its last sector.
    pub(super) fn finish(self, generation: u64, batch: &mut Vec<u8>) {
        let len = batch.len() as u32;
        let crc = crc32fast::hash(&batch[BATCH_HEAD..]);
        batch[..4].copy_from_slice(&len.to_le_bytes());
        batch[4..8].copy_from_slice(&crc.to_le_bytes());
        batch[8..16].copy_from_slice(&self.number.to_le_bytes());
        batch[16..24].copy_from_slice(&self.synced.to_le_bytes());
        batch[24..BATCH_HEAD].fill(0);
        batch[24] = match self.kind {
            BatchKind::Records => 1,
            BatchKind::Seal => 2,
        };
        let crc = head_crc(generation, batch);
        batch[28..BATCH_HEAD].copy_from_slice(&crc.to_le_bytes());
        batch.resize(filled(batch.len()), 0);
    }

    /// The end of a file, whole.
    pub(super) fn seal(number: u64, synced: u64, generation: u64, next_generation: u64) -> Vec<u8> {
        let mut batch = vec![0; BATCH_HEAD];
        batch.extend_from_slice(&next_generation.to_le_bytes());
        Self { kind: BatchKind::Seal, number, synced }.finish(generation, &mut batch);
        batch
    }

    /// Reads the head of the batch that begins here, and its length without what fills its last sector.
    /// Nothing if it is not valid.
    pub(super) fn head(generation: u64, bytes: &[u8]) -> Option<(Self, usize)> {
        let head = bytes.get(..BATCH_HEAD)?;
        if u32_at(head, 28)? != head_crc(generation, head) {
            return None;
        }
        let kind = match head[24] {
            1 => BatchKind::Records,
            2 => BatchKind::Seal,
            _ => return None,
        };
        let len = u32_at(head, 0)? as usize;
        let batch = Self { kind, number: u64_at(head, 8)?, synced: u64_at(head, 16)? };
        (len >= BATCH_HEAD).then_some((batch, len))
    }

    /// The records of the batch that begins here, whose head is valid; nothing if they are not.
    pub(super) fn body(bytes: &[u8], len: usize) -> Option<&[u8]> {
        let body = bytes.get(BATCH_HEAD..len)?;
        (u32_at(bytes, 4)? == crc32fast::hash(body)).then_some(body)
    }

    /// The generation that a seal tells.
    pub(super) fn next_generation(body: &[u8]) -> Option<u64> {
        u64_at(body, 0)
    }
}

/// The first sector of a journal's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct JournalHead {
    /// Which file of the journal it is, counted from its beginning.
    pub(super) sequence: u64,
    /// Random bits: those of no other use of the same file.
    pub(super) generation: u64,
    /// The number of the first batch.
    pub(super) first: u64,
}

impl JournalHead {
    pub(super) fn write(self) -> Vec<u8> {
        let mut head = Vec::with_capacity(SECTOR);
        head.extend_from_slice(JOURNAL_MAGIC);
        head.extend_from_slice(&FORMAT.to_le_bytes());
        for number in [self.sequence, self.generation, self.first] {
            head.extend_from_slice(&number.to_le_bytes());
        }
        head.extend_from_slice(&crc32fast::hash(&head).to_le_bytes());
        head.resize(SECTOR, 0);
        head
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let is_valid = bytes.get(..8)? == JOURNAL_MAGIC
            && u32_at(bytes, 8)? == FORMAT
            && u32_at(bytes, 36)? == crc32fast::hash(bytes.get(..36)?);
        is_valid.then_some(())?;
        Some(Self {
            sequence: u64_at(bytes, 12)?,
            generation: u64_at(bytes, 20)?,
            first: u64_at(bytes, 28)?,
        })
    }
}

/// The head of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHead {
    pub(super) topic: u64,
    /// The offset of its first record.
    pub(super) first: u64,
    /// The time of its first record.
    pub(super) time: u64,
}

impl SegmentHead {
    pub(super) fn write(self) -> Vec<u8> {
        let mut head = Vec::with_capacity(SEGMENT_HEAD);
        head.extend_from_slice(SEGMENT_MAGIC);
        head.extend_from_slice(&FORMAT.to_le_bytes());
        for number in [self.topic, self.first, self.time] {
            head.extend_from_slice(&number.to_le_bytes());
        }
        head.extend_from_slice(&crc32fast::hash(&head).to_le_bytes());
        head
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let is_valid = bytes.get(..8)? == SEGMENT_MAGIC
            && u32_at(bytes, 8)? == FORMAT
            && u32_at(bytes, 36)? == crc32fast::hash(bytes.get(..36)?);
        is_valid.then_some(())?;
        Some(Self {
            topic: u64_at(bytes, 12)?,
            first: u64_at(bytes, 20)?,
            time: u64_at(bytes, 28)?,
        })
    }
}
