//! Packs are put together: what topics hold of many goes to few, so that a topic has few extents, and what
//! nobody holds any more takes no room.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
};

use super::{
    behind::Doomed,
    disk::Disk,
    engine::Engine,
    files::pack_file,
    format::{parse_record, valid_record},
    pack::{Choice, ENTRY, Extent, Merge, PACK_HEAD, PackFile, end_index, pack_head},
    record::{Lost, TopicId},
    segment::{Key, Segment, Window, heads},
};
use crate::position::Offset;

/// Bytes that are written at once.
const PIECE: usize = 1 << 20;

/// The extents that one barrier puts together.
#[derive(Debug)]
pub(super) struct Job {
    /// Of each topic those that follow each other, in order.
    extents: Vec<(u64, Vec<Segment>)>,
    level: u32,
    run: u32,
    /// The numbers that were taken for its packs: the first, and how many.
    first_pack: u32,
    most_packs: u32,
    /// The packs that were chosen, with the bytes of their live extents.
    live: Vec<(u32, u64)>,
    pack_bytes: u64,
    /// Bytes of the largest extent that is made of several.
    most: u64,
    /// All of the packs that were chosen is done with this.
    is_last: bool,
}

/// The outcome of a [`Job`].
#[derive(Debug, Default)]
pub(super) struct Merged {
    pub(super) packs: Vec<PackFile>,
    /// An extent, and those that it replaces.
    moved: Vec<(Extent, Vec<Segment>)>,
    /// Topics of which something is not what was written, and where.
    lost: Vec<(u64, Lost)>,
}

/// A pack that is being written.
struct Output<'a, D: Disk> {
    disk: &'a D,
    file: D::File,
    pack: PackFile,
    /// The bytes that are written next, at this position.
    piece: Vec<u8>,
    at: u64,
    index: Vec<u8>,
}

impl<'a, D: Disk> Output<'a, D> {
    fn begin(disk: &'a D, id: u32, level: u32, run: u32) -> io::Result<Self> {
        let file = disk.create(&pack_file(id))?;
        let pack =
            PackFile { id, level, run, index_at: PACK_HEAD as u64, bytes: 0, is_told: false };
        Ok(Self { disk, file, pack, piece: pack_head(id), at: 0, index: Vec::new() })
    }

    fn write(&mut self) -> io::Result<()> {
        self.disk.write_at(&self.file, &self.piece, self.at)?;
        self.at += self.piece.len() as u64;
        self.piece.clear();
        Ok(())
    }

    fn push(&mut self, topic: u64, records: &[u8]) -> io::Result<Option<Extent>> {
        let place = u32::try_from(self.pack.index_at).map_err(io::Error::other)?;
        let Some(extent) = Extent::of(topic, self.pack.id, place, records) else { return Ok(None) };
        extent.write(&mut self.index);
        self.piece.extend_from_slice(records);
        self.pack.index_at += records.len() as u64;
        if self.piece.len() >= PIECE {
            self.write()?;
        }
        Ok(Some(extent))
    }

    fn end(mut self) -> io::Result<PackFile> {
        self.piece.extend_from_slice(&end_index(self.pack.id, std::mem::take(&mut self.index)));
        self.write()?;
        self.pack.bytes = self.at;
        Ok(self.pack)
    }
}

/// The packs that are read.
struct Inputs<'a, D: Disk> {
    disk: &'a D,
    files: &'a BTreeMap<u32, D::File>,
    windows: BTreeMap<u32, Window<'a, D>>,
}

impl<D: Disk> Inputs<'_, D> {
    /// Reads an extent behind others; what is wrong with it, if it is not what was written.
    fn read(
        &mut self,
        topic: u64,
        segment: &Segment,
        into: &mut Vec<u8>,
    ) -> io::Result<Option<Lost>> {
        let (disk, start) = (self.disk, into.len());
        let len = usize::try_from(segment.bytes).map_err(io::Error::other)?;
        if let Some(file) = self.files.get(&segment.pack) {
            let window = self.windows.entry(segment.pack);
            let window = window.or_insert_with(|| Window::new(disk, file, u64::MAX));
            let read = window.get(segment.place.into(), len)?;
            into.extend_from_slice(read.get(..len).unwrap_or_default());
        }
        let mut next = segment.first;
        let mut valid = 0;
        for (offset, record) in heads(&into[start..]) {
            let is_valid = valid_record(record)
                .and_then(parse_record)
                .is_some_and(|fields| fields.topic == topic && offset == next);
            if !is_valid {
                break;
            }
            (next, valid) = (next + 1, valid + record.len());
        }
        if next == segment.end && valid == len {
            return Ok(None);
        }
        into.truncate(start);
        let text = format!(
            "{} is not what was written there at byte {}: messages {next} to {} are lost",
            pack_file(segment.pack),
            u64::from(segment.place) + valid as u64,
            segment.end - 1
        );
        Ok(Some(Lost { from: next, text }))
    }
}

impl Job {
    /// Bytes of its packs at most.
    pub(super) fn bytes(&self) -> u64 {
        let segments = self.extents.iter().flat_map(|(_, segments)| segments);
        segments.map(|segment| segment.bytes + ENTRY as u64).sum()
    }

    /// The packs that `store.json` is to name when this is done: those of before but the ones that nothing is
    /// held of any more, and the new ones.
    pub(super) fn named(&self, merged: &Merged, before: &[PackFile]) -> Vec<PackFile> {
        let mut left: HashMap<_, _> = self.live.iter().copied().collect();
        for segment in merged.moved.iter().flat_map(|(_, replaced)| replaced) {
            if let Some(left) = left.get_mut(&segment.pack) {
                *left = left.saturating_sub(segment.bytes);
            }
        }
        let stays = |pack: &&PackFile| left.get(&pack.id) != Some(&0);
        before.iter().filter(stays).chain(&merged.packs).copied().collect()
    }

    pub(super) fn run<D: Disk>(&self, disk: &D) -> io::Result<Merged> {
        let mut merged = Merged::default();
        let all = self.extents.iter().flat_map(|(_, segments)| segments);
        let mut files = BTreeMap::new();
        for pack in all.map(|segment| segment.pack).collect::<HashSet<_>>() {
            match disk.open(&pack_file(pack)) {
                Ok(file) => drop(files.insert(pack, file)),
                // It is told as what is read of it: nothing.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let mut inputs = Inputs { disk, files: &files, windows: BTreeMap::new() };
        let mut output: Option<Output<'_, D>> = None;
        let mut next_id = self.first_pack;
        for (topic, segments) in &self.extents {
            let mut rest = &segments[..];
            while let Some((first, behind)) = rest.split_first() {
                let mut count = 1;
                let mut bytes = first.bytes;
                let mut end = first.end;
                for next in behind {
                    if next.first != end || bytes + next.bytes > self.most {
                        break;
                    }
                    (count, bytes, end) = (count + 1, bytes + next.bytes, next.end);
                }
                let (mut these, behind) = rest.split_at(count);
                rest = behind;
                let mut records = Vec::new();
                for (at, segment) in these.iter().enumerate() {
                    if let Some(lost) = inputs.read(*topic, segment, &mut records)? {
                        merged.lost.push((*topic, lost));
                        // It stays where it is, and those behind it come next.
                        rest = &segments[segments.len() - rest.len() - count + at + 1..];
                        these = &these[..at];
                        break;
                    }
                }
                if records.is_empty() {
                    continue;
                }
                let is_full = |output: &Output<'_, D>| {
                    output.pack.index_at - PACK_HEAD as u64 >= self.pack_bytes
                };
                if let Some(full) = output.take_if(|output| is_full(output)) {
                    merged.packs.push(full.end()?);
                }
                let to = match &mut output {
                    Some(output) => output,
                    None => {
                        next_id += 1;
                        let (level, run) = (self.level, self.run);
                        output.insert(Output::begin(disk, next_id - 1, level, run)?)
                    }
                };
                if let Some(extent) = to.push(*topic, &records)? {
                    merged.moved.push((extent, these.to_vec()));
                }
            }
        }
        if let Some(last) = output {
            merged.packs.push(last.end()?);
        }
        Ok(merged)
    }
}

impl<D: Disk> Engine<D> {
    fn chosen_to_merge(&self) -> Option<Choice> {
        let choice = self.packs.choose(self.settings.max_runs, self.space.full.is_some())?;
        // The reserve is for what was taken; what makes room may use it.
        let is_room = choice.run.is_some();
        let reserve = if is_room { 0 } else { self.reserve() };
        (self.bytes() + choice.needed + reserve <= self.settings.max_bytes).then_some(choice)
    }

    /// Whether packs are to be put together.
    pub(super) fn wants_merge(&self) -> bool {
        let is_due = self.packs.merge.is_some() || self.chosen_to_merge().is_some();
        is_due && !self.packs.is_stuck && !self.packs.rests
    }

    /// The next packs, or part of them, to put together.
    pub(super) fn next_merge(&mut self) -> Option<Job> {
        if !self.wants_merge() {
            return None;
        }
        let pack_bytes = self.pack_bytes();
        if self.packs.merge.is_none() {
            let Choice { packs, level, run, .. } = self.chosen_to_merge()?;
            let chosen: HashSet<_> = packs.iter().copied().collect();
            let mut topics = self.topics.holding(&chosen);
            topics.sort_unstable_by(|one, other| other.cmp(one));
            let run = run.unwrap_or_else(|| self.packs.take_ids(1));
            self.packs.merge = Some(Merge { packs, topics, level, run });
        }
        let merge = self.packs.merge.as_mut()?;
        let chosen: HashSet<_> = merge.packs.iter().copied().collect();
        let mut extents = Vec::new();
        let mut bytes = 0;
        while bytes < 2 * pack_bytes
            && let Some(id) = merge.topics.pop()
        {
            let Some(topic) = self.topics.get(id) else { continue };
            let held = topic.segments.iter().filter(|segment| chosen.contains(&segment.pack));
            let held: Vec<_> = held.copied().collect();
            bytes += held.iter().map(|segment| segment.bytes).sum::<u64>();
            extents.push((id, held));
        }
        let (level, run) = (merge.level, merge.run);
        let is_last = merge.topics.is_empty();
        let most = self.settings.flush_bytes as u64;
        let live = |id: &u32| Some((*id, self.packs.all.get(id)?.live));
        let live = merge.packs.iter().filter_map(live).collect();
        let most_packs = u32::try_from(bytes / pack_bytes.max(1)).unwrap_or(u32::MAX) + 1;
        let first_pack = self.packs.take_ids(most_packs);
        let job =
            Job { extents, level, run, first_pack, most_packs, live, pack_bytes, most, is_last };
        self.packs.flying = job.bytes();
        Some(job)
    }

    /// Takes what was put together, which is safe.
    pub(super) fn finish_merge(&mut self, job: &Job, merged: Merged) {
        self.packs.flying = 0;
        for file in merged.packs {
            self.packs.adopt(file, false);
        }
        for (extent, replaced) in merged.moved {
            let Some(topic) = self.topics.get_mut(extent.topic) else { continue };
            let gone = topic.replace(&replaced, extent.segment);
            if !gone.is_empty() {
                self.packs.hold(&extent.segment);
            }
            for segment in gone {
                self.packs.release(&segment);
            }
        }
        for (id, lost) in merged.lost {
            // If there is no room in the batch, who reads it is told all the same.
            let _ = self.note_damage(TopicId(id), Offset(lost.from), &lost.text);
        }
        if job.is_last
            && let Some(merge) = self.packs.merge.take()
        {
            for id in merge.packs {
                if let Some(pack) = self.packs.all.get_mut(&id) {
                    // What is left of it could not be read.
                    pack.file.is_told |= pack.live > 0;
                }
            }
        }
        self.drop_packs();
    }

    /// Forgets what was put together in vain, for want of room.
    pub(super) fn abandon_merge(&mut self, job: &Job) {
        self.packs.flying = 0;
        self.packs.merge = None;
        for id in job.first_pack..job.first_pack + job.most_packs {
            self.backlog.doomed.push_back(Doomed::Pack(id));
        }
    }

    /// Has packs removed that `store.json` does not name any more, because no topic holds anything of them.
    pub(super) fn drop_packs(&mut self) {
        let named: HashSet<_> = self.file.packs.iter().map(|pack| pack.id).collect();
        let dead = self.packs.all.iter().filter(|(id, pack)| {
            pack.is_whole && !pack.is_kept && pack.live == 0 && !named.contains(id)
        });
        let dead: Vec<_> = dead.map(|(id, _)| *id).collect();
        for id in dead {
            self.packs.all.remove(&id);
            self.cache.forget(Key::Pack(id));
            self.backlog.doomed.push_back(Doomed::Pack(id));
        }
    }
}
