//! Packs: files that many topics share, so that little of a topic costs no file of its own.
//!
//! ```text
//! magic [8] · format u32 · pack u32 · crc32 u32 · 0 [4]
//! records, those of a topic one behind another: an extent
//! an entry for each extent: topic u64 · first u64 · end u64 · time u64 · last time u64 · place u32 ·
//!                           bytes u32 · flags u32
//! crc32 u32 of the pack's number and of the entries
//! ```
//!
//! A pack is written once, and counts when `store.json` names it, which it does when a barrier has made it
//! safe: there is no torn one. It goes when no topic holds an extent of it any more and `store.json` does not
//! name it any more.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    files::pack_file,
    format::{FORMAT, RECORD_HEAD, parse_record, u32_at, u64_at},
    segment::{Segment, heads},
};

const MAGIC: &[u8; 8] = b"rsockpck";
/// Bytes of a pack before its extents.
pub(super) const PACK_HEAD: usize = 24;
/// Bytes of an entry of the index.
pub(super) const ENTRY: usize = 52;
const CLOSES: u32 = 1;

/// A pack, as `store.json` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PackFile {
    pub(super) id: u32,
    /// How often its records were put together.
    pub(super) level: u32,
    /// Packs that were made at once, each of other topics, have the same.
    pub(super) run: u32,
    /// Bytes before the index.
    pub(super) index_at: u64,
    pub(super) bytes: u64,
    /// The loss of a part of it was told to its topics: it is not put together with others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_told: bool,
}

/// An entry of a pack's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) topic: u64,
    pub(super) segment: Segment,
    /// The time of its last record.
    pub(super) last_time: u64,
    /// Its last record closes the topic.
    pub(super) closes: bool,
}

impl Extent {
    /// The extent of valid records that stand at a place of a pack: they follow each other.
    pub(super) fn of(topic: u64, pack: u32, place: u32, records: &[u8]) -> Option<Self> {
        let mut all = heads(records).map(|(_, record)| record);
        let first = parse_record(all.next()?)?;
        let last = match all.last() {
            Some(last) => parse_record(last)?,
            None => first,
        };
        let (first, time, end) = (first.offset, first.time, last.offset + 1);
        let segment = Segment { first, end, bytes: records.len() as u64, time, pack, place };
        Some(Self { topic, segment, last_time: last.time, closes: last.closes })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let Segment { first, end, bytes, time, place, .. } = self.segment;
        for number in [self.topic, first, end, time, self.last_time] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [place, bytes as u32, if self.closes { CLOSES } else { 0 }] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn read(pack: u32, entry: &[u8]) -> Option<Self> {
        let segment = Segment {
            first: u64_at(entry, 8)?,
            end: u64_at(entry, 16)?,
            bytes: u32_at(entry, 44)?.into(),
            time: u64_at(entry, 24)?,
            pack,
            place: u32_at(entry, 40)?,
        };
        let closes = u32_at(entry, 48)? & CLOSES != 0;
        Some(Self { topic: u64_at(entry, 0)?, segment, last_time: u64_at(entry, 32)?, closes })
    }
}

/// The beginning of a pack.
pub(super) fn pack_head(id: u32) -> Vec<u8> {
    let mut head = MAGIC.to_vec();
    head.extend_from_slice(&FORMAT.to_le_bytes());
    head.extend_from_slice(&id.to_le_bytes());
    head.extend_from_slice(&crc32fast::hash(&head).to_le_bytes());
    head.resize(PACK_HEAD, 0);
    head
}

fn index_crc(id: u32, entries: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&id.to_le_bytes());
    hasher.update(entries);
    hasher.finalize().to_le_bytes()
}

/// Ends an index: what stands in the file behind the extents.
pub(super) fn end_index(id: u32, mut entries: Vec<u8>) -> Vec<u8> {
    let crc = index_crc(id, &entries);
    entries.extend_from_slice(&crc);
    entries
}

/// Reads an index; nothing if it is not what was written.
pub(super) fn read_index(file: &PackFile, index: &[u8]) -> Option<Vec<Extent>> {
    let (entries, crc) = index.split_last_chunk::<4>()?;
    if *crc != index_crc(file.id, entries) || entries.len() % ENTRY != 0 {
        return None;
    }
    let extents = entries.chunks_exact(ENTRY).map(|entry| Extent::read(file.id, entry));
    let extents: Vec<_> = extents.collect::<Option<_>>()?;
    let is_sound = |extent: &Extent| {
        let Segment { first, end, bytes, place, .. } = extent.segment;
        first < end && u64::from(place) + bytes <= file.index_at && place as usize >= PACK_HEAD
    };
    extents.iter().all(is_sound).then_some(extents)
}

/// Makes the index anew from the records, up to the first place that is not valid: extents, and that place.
pub(super) fn index_again(id: u32, records: &[u8]) -> (Vec<Extent>, usize) {
    let mut extents: Vec<Extent> = Vec::new();
    let mut at = PACK_HEAD;
    while let Some(here) = records.get(at..)
        && let Some(record) = super::format::valid_record(here)
        && let (Some(fields), Ok(place)) = (parse_record(record), u32::try_from(at))
    {
        let last = extents.last_mut();
        let last = last.filter(|last| {
            last.topic == fields.topic && last.segment.end == fields.offset && !last.closes
        });
        match last {
            Some(last) => {
                last.segment.end += 1;
                last.segment.bytes += record.len() as u64;
                (last.last_time, last.closes) = (fields.time, fields.closes);
            }
            None => extents.extend(Extent::of(fields.topic, id, place, record)),
        }
        at += record.len();
    }
    (extents, at)
}

/// The largest number of records that can have been in so many bytes.
pub(super) fn most_records(bytes: u64) -> u64 {
    bytes / RECORD_HEAD as u64 + 1
}

/// A pack that is whole, or is being written.
#[derive(Debug)]
pub(super) struct Pack {
    pub(super) file: PackFile,
    /// Bytes of the extents that topics hold.
    pub(super) live: u64,
    /// Its index is written.
    pub(super) is_whole: bool,
    /// It may have what no topic is known for: it is neither removed nor put together with others.
    pub(super) is_kept: bool,
}

impl Pack {
    fn records(&self) -> u64 {
        self.file.index_at.saturating_sub(PACK_HEAD as u64)
    }

    /// Whether so much of it is dead that it is to be written anew: most, or, where there is no room any more, an
    /// eighth, which costs seven times what it gives.
    fn is_worth_it(&self, is_full: bool) -> bool {
        let (live, records) = (self.live, self.records());
        let is_enough = if is_full { live * 8 <= records * 7 } else { live * 2 < records };
        self.may_go_together() && live > 0 && is_enough
    }

    fn may_go_together(&self) -> bool {
        self.is_whole && !self.is_kept && !self.file.is_told
    }
}

/// Packs of one run whose live extents are to be put together.
#[derive(Debug)]
pub(super) struct Merge {
    pub(super) packs: Vec<u32>,
    /// Topics that are not done yet, the next one last.
    pub(super) topics: Vec<u64>,
    pub(super) level: u32,
    pub(super) run: u32,
}

/// A choice of packs to put together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) packs: Vec<u32>,
    pub(super) level: u32,
    /// That of the packs, if there is one; else they get one of their own.
    pub(super) run: Option<u32>,
    /// Bytes that they take at most when they are put together.
    pub(super) needed: u64,
}

/// The packs.
#[derive(Debug)]
pub(super) struct Packs {
    pub(super) all: BTreeMap<u32, Pack>,
    /// The one that is being written, and its index so far.
    pub(super) building: Option<(u32, Vec<u8>)>,
    pub(super) merge: Option<Merge>,
    pub(super) next_id: u32,
    /// Bytes that are being put together.
    pub(super) flying: u64,
    /// There was no room to put some together.
    pub(super) is_stuck: bool,
    /// It is not the time to put some together.
    pub(super) rests: bool,
}

impl Packs {
    pub(super) fn new(next_id: u32) -> Self {
        Self {
            all: BTreeMap::new(),
            building: None,
            merge: None,
            next_id,
            flying: 0,
            is_stuck: false,
            rests: false,
        }
    }

    /// Takes numbers for so many packs.
    pub(super) fn take_ids(&mut self, count: u32) -> u32 {
        self.next_id += count;
        self.next_id - count
    }

    /// Bytes of their files.
    pub(super) fn bytes(&self) -> u64 {
        self.all.values().map(|pack| pack.file.bytes).sum::<u64>() + self.flying
    }

    /// Takes a pack that is whole.
    pub(super) fn adopt(&mut self, file: PackFile, is_kept: bool) {
        self.all.insert(file.id, Pack { file, live: 0, is_whole: true, is_kept });
    }

    /// Notes that a topic holds an extent.
    pub(super) fn hold(&mut self, segment: &Segment) {
        if let Some(pack) = self.all.get_mut(&segment.pack) {
            pack.live += segment.bytes;
        }
    }

    /// Notes that a topic does not hold an extent any more.
    pub(super) fn release(&mut self, segment: &Segment) {
        if let Some(pack) = self.all.get_mut(&segment.pack) {
            pack.live = pack.live.saturating_sub(segment.bytes);
        }
    }

    /// The packs that `store.json` is to name.
    pub(super) fn named(&self) -> Vec<PackFile> {
        let named = self.all.values();
        let named = named.filter(|pack| pack.is_whole && (pack.live > 0 || pack.is_kept));
        named.map(|pack| pack.file).collect()
    }

    /// Whether there is one that nobody holds anything of.
    pub(super) fn has_dead(&self) -> bool {
        self.all.values().any(|pack| pack.is_whole && !pack.is_kept && pack.live == 0)
    }

    /// Packs to put together: those of a run of which most is dead, where it is full the one with the most that is
    /// dead and others of its run; or the oldest runs of a level that has many.
    pub(super) fn choose(&self, max_runs: usize, is_full: bool) -> Option<Choice> {
        let dead = self.all.values().filter(|pack| pack.is_worth_it(is_full));
        let most = |pack: &&Pack| pack.records().saturating_sub(pack.live);
        if let Some(dead) = dead.max_by_key(most) {
            let PackFile { run, level, .. } = dead.file;
            let others = self.all.values().filter(|pack| {
                pack.file.run == run && pack.file.id != dead.file.id && pack.is_worth_it(is_full)
            });
            // Within the room that is kept for it.
            let mut live = dead.live;
            let others = others.take_while(|pack| {
                live += pack.live;
                live <= dead.file.bytes
            });
            let chosen: Vec<_> = std::iter::once(dead).chain(others).collect();
            return Some(Choice::of(&chosen, level, Some(run)));
        }
        let mut levels: BTreeMap<u32, BTreeMap<u32, Vec<&Pack>>> = BTreeMap::new();
        for pack in self.all.values().filter(|pack| pack.may_go_together()) {
            let runs = levels.entry(pack.file.level).or_default();
            runs.entry(pack.file.run).or_default().push(pack);
        }
        let (level, runs) = levels.into_iter().find(|(_, runs)| runs.len() >= max_runs)?;
        let chosen: Vec<_> = runs.into_values().take(max_runs).flatten().collect();
        Some(Choice::of(&chosen, level + 1, None))
    }
}

impl Choice {
    fn of(packs: &[&Pack], level: u32, run: Option<u32>) -> Self {
        let index = |pack: &&Pack| pack.file.bytes - pack.file.index_at.min(pack.file.bytes);
        let needed = packs.iter().map(|pack| pack.live + index(pack) + PACK_HEAD as u64).sum();
        Self { packs: packs.iter().map(|pack| pack.file.id).collect(), level, run, needed }
    }
}

/// The number of a pack, from its file's name.
pub(super) fn pack_number(name: &str) -> Option<u32> {
    let id = name.parse().ok()?;
    pack_file(id).ends_with(&format!("/{name}")).then_some(id)
}
