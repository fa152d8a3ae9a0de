//! The journal: numbered batches in a ring of files, written and synced in jobs that need no lock.

use std::{io, sync::Arc};

use super::{
    StoreError,
    disk::Disk,
    files::{JOURNAL, journal_file},
    format::{Batch, BatchKind, JournalHead, SECTOR, filled},
};

/// Files that are kept ready: what was taken can be written though the disk is full.
pub(super) const RESERVE: usize = 2;

/// The use of a file of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Free,
    /// It is full, and waits until its records are safe in segments.
    Sealed(u64),
    Current,
}

/// The file that batches are written to.
#[derive(Debug)]
struct Current<D: Disk> {
    place: usize,
    file: Arc<D::File>,
    sequence: u64,
    generation: u64,
    /// The number of its first batch.
    first: u64,
    /// The position of the next batch.
    at: u64,
}

/// The journal's files and numbers.
#[derive(Debug)]
pub(super) struct Journal<D: Disk> {
    places: Vec<Place>,
    current: Option<Current<D>>,
    /// Bytes of each file.
    file_bytes: u64,
    /// Files that may wait for a checkpoint.
    max_sealed: usize,
    seed: u64,
    next_sequence: u64,
    /// The number of the next batch.
    next_batch: u64,
    written: u64,
    synced: u64,
}

/// A batch on its way to the disk.
#[derive(Debug)]
pub struct Commit<D: Disk> {
    /// The end of the file before, synced before anything is written behind it.
    seal: Option<(Arc<D::File>, u64, Vec<u8>)>,
    file: Option<Arc<D::File>>,
    place: usize,
    at: u64,
    /// The batch, behind the head of its file if it is the first.
    bytes: Vec<u8>,
    sequence: u64,
    generation: u64,
    number: u64,
    pub(super) sync: bool,
}

/// A batch that was written, or not.
#[derive(Debug)]
pub struct Committed<D: Disk> {
    commit: Commit<D>,
    result: Result<(), StoreError>,
}

impl<D: Disk> Commit<D> {
    /// Writes once and syncs once; twice where a file of the journal ends.
    pub fn run(mut self, disk: &D) -> Committed<D> {
        let result = self.write(disk);
        Committed { commit: self, result }
    }

    fn write(&mut self, disk: &D) -> Result<(), StoreError> {
        let path = journal_file(self.place as u32);
        let fails = |action| {
            let path = &path;
            move |error| StoreError::new(action, path, error)
        };
        if let Some((file, at, seal)) = &self.seal {
            disk.write_at(file, seal, *at)
                .map_err(|error| StoreError::new("write", JOURNAL, error))?;
            disk.sync(file).map_err(|error| StoreError::new("sync", JOURNAL, error))?;
        }
        let file = match &self.file {
            Some(file) => file.clone(),
            None => Arc::new(disk.open(&path).map_err(fails("open"))?),
        };
        disk.write_at(&file, &self.bytes, self.at).map_err(fails("write"))?;
        if self.sync {
            disk.sync(&file).map_err(fails("sync"))?;
        }
        self.file = Some(file);
        Ok(())
    }
}

/// A sync of what was written without one.
#[derive(Debug)]
pub struct Sync<D: Disk> {
    file: Arc<D::File>,
    written: u64,
}

impl<D: Disk> Sync<D> {
    /// Syncs.
    pub fn run(self, disk: &D) -> Synced {
        let result = disk.sync(&self.file);
        Synced {
            written: self.written,
            result: result.map_err(|error| StoreError::new("sync", JOURNAL, error)),
        }
    }
}

/// The outcome of a [`Sync`].
#[derive(Debug)]
pub struct Synced {
    written: u64,
    result: Result<(), StoreError>,
}

/// A batch that is written.
#[derive(Debug)]
pub(super) struct Written {
    /// The batch, head and all.
    pub(super) bytes: Vec<u8>,
    /// The position of the batch in them.
    pub(super) start: usize,
    /// The file it is in.
    pub(super) sequence: u64,
    pub(super) number: u64,
}

/// Spreads the bits of a number over all of them.
pub(super) fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

impl<D: Disk> Journal<D> {
    /// A journal that goes on with this file and this batch, all of whose files are free.
    pub(super) fn new(
        files: usize,
        file_bytes: u64,
        max_sealed: usize,
        seed: u64,
        next_sequence: u64,
        next_batch: u64,
    ) -> Self {
        Self {
            places: vec![Place::Free; files],
            current: None,
            file_bytes,
            max_sealed,
            seed,
            next_sequence,
            next_batch,
            written: next_batch - 1,
            synced: next_batch - 1,
        }
    }

    /// The generation of a file in this life of the process: no two are the same, nor those of two lives.
    pub(super) fn generation(&self, sequence: u64) -> u64 {
        mix(self.seed ^ mix(sequence))
    }

    /// The file that is begun next, and its generation.
    pub(super) fn next_file(&self) -> (u64, u64) {
        (self.next_sequence, self.generation(self.next_sequence))
    }

    /// The number of the next batch.
    pub(super) fn next_batch(&self) -> u64 {
        self.next_batch
    }

    /// The first file that is not sealed, its generation, and the number of its first batch.
    pub(super) fn unsealed(&self) -> (u64, u64, u64) {
        let current = self.current.as_ref();
        let of = |current: &Current<D>| (current.sequence, current.generation, current.first);
        current.map_or_else(
            || (self.next_sequence, self.generation(self.next_sequence), self.next_batch),
            of,
        )
    }

    /// Files that are full and wait for a checkpoint, up to this one.
    pub(super) fn sealed_up_to(&self) -> Option<u64> {
        let sealed = self.places.iter().filter_map(|place| match place {
            Place::Sealed(sequence) => Some(*sequence),
            _ => None,
        });
        sealed.max()
    }

    fn count(&self, is_such: impl Fn(&Place) -> bool) -> usize {
        self.places.iter().filter(|place| is_such(place)).count()
    }

    /// Files of the journal.
    pub(super) fn files(&self) -> usize {
        self.places.len()
    }

    /// Files that are full.
    pub(super) fn sealed(&self) -> usize {
        self.count(|place| matches!(place, Place::Sealed(_)))
    }

    /// Whether another file is to be made ready.
    pub(super) fn wants_file(&self) -> bool {
        self.count(|place| *place == Place::Free) < RESERVE
            && self.places.len() < self.max_sealed + 1 + RESERVE
    }

    /// Makes another file ready.
    pub(super) fn make_file(&mut self, disk: &D) -> io::Result<()> {
        let path = journal_file(self.places.len() as u32);
        let file = disk.create(&path)?;
        let made = disk.preallocate(&file, self.file_bytes).and_then(|()| disk.sync(&file));
        if let Err(error) = made {
            drop(file);
            // The room is needed elsewhere; if it cannot be had back the file is found at the next start.
            let _ = disk.remove(&path);
            return Err(error);
        }
        disk.sync_directory(JOURNAL)?;
        self.places.push(Place::Free);
        Ok(())
    }

    /// Bytes of the largest batch.
    pub(super) fn max_batch(&self) -> u64 {
        self.file_bytes - 2 * SECTOR as u64
    }

    /// Whether a batch of this length can be written now: otherwise a checkpoint has to come first.
    pub(super) fn has_room(&self, len: usize) -> bool {
        let fits = |current: &Current<D>| self.fits(current, len);
        let sealed = usize::from(self.current.is_some()) + self.sealed();
        self.current.as_ref().is_some_and(fits)
            || (sealed <= self.max_sealed && self.places.contains(&Place::Free))
    }

    fn fits(&self, current: &Current<D>, len: usize) -> bool {
        current.at + (filled(len) + SECTOR) as u64 <= self.file_bytes
    }

    /// The job that writes a batch for which there is room: records behind the place of their head.
    pub(super) fn commit(&self, mut batch: Vec<u8>, sync: bool) -> Option<Commit<D>> {
        let (mut number, mut synced) = (self.next_batch, self.synced);
        if let Some(current) = &self.current
            && self.fits(current, batch.len())
        {
            Batch { kind: BatchKind::Records, number, synced }
                .finish(current.generation, &mut batch);
            return Some(Commit {
                seal: None,
                file: Some(current.file.clone()),
                place: current.place,
                at: current.at,
                bytes: batch,
                sequence: current.sequence,
                generation: current.generation,
                number,
                sync,
            });
        }
        let place = self.places.iter().position(|place| *place == Place::Free)?;
        let (sequence, generation) = self.next_file();
        let seal = self.current.as_ref().map(|current| {
            let seal = Batch::seal(number, synced, current.generation, generation);
            // It is synced before the batch is written.
            synced = number;
            number += 1;
            (current.file.clone(), current.at, seal)
        });
        Batch { kind: BatchKind::Records, number, synced }.finish(generation, &mut batch);
        let mut bytes = JournalHead { sequence, generation, first: number }.write();
        bytes.append(&mut batch);
        Some(Commit { seal, file: None, place, at: 0, bytes, sequence, generation, number, sync })
    }

    /// Takes note of a batch that was written. The error is that of the disk.
    pub(super) fn finish(&mut self, committed: Committed<D>) -> Result<Written, StoreError> {
        let Committed { commit, result } = committed;
        result?;
        let Commit { seal, file, place, at, bytes, sequence, generation, number, sync } = commit;
        let is_first = at == 0;
        if is_first {
            if let Some(last) = self.current.take() {
                self.places[last.place] = Place::Sealed(last.sequence);
            }
            self.places[place] = Place::Current;
            self.next_sequence = sequence + 1;
            // `run` has opened it.
            self.current = file.map(|file| Current {
                place,
                file,
                sequence,
                generation,
                first: number,
                at: 0,
            });
        }
        if seal.is_some() {
            self.synced = number - 1;
        }
        if let Some(current) = &mut self.current {
            current.at = at + bytes.len() as u64;
        }
        self.next_batch = number + 1;
        self.written = number;
        if sync {
            self.synced = number;
        }
        Ok(Written { bytes, start: if is_first { SECTOR } else { 0 }, sequence, number })
    }

    /// Whether all that was written is on disk.
    pub(super) fn is_synced(&self) -> bool {
        self.synced == self.written
    }

    /// The job that syncs what was written without.
    pub(super) fn sync(&self) -> Option<Sync<D>> {
        let current = self.current.as_ref().filter(|_| !self.is_synced())?;
        Some(Sync { file: current.file.clone(), written: self.written })
    }

    /// Takes note of a sync.
    pub(super) fn finish_sync(&mut self, synced: Synced) -> Result<(), StoreError> {
        synced.result?;
        self.synced = self.synced.max(synced.written);
        Ok(())
    }

    /// Gives free the files up to this one.
    pub(super) fn release(&mut self, up_to: u64) {
        for place in &mut self.places {
            if matches!(place, Place::Sealed(sequence) if *sequence <= up_to) {
                *place = Place::Free;
            }
        }
    }
}

/// A file of the journal that was looked through.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Positions and lengths of the records of each valid batch.
    pub(super) batches: Vec<(usize, usize)>,
    /// Places at which a batch had been synced, and is not valid any more.
    pub(super) holes: Vec<Hole>,
    /// The generation of the file behind it, if it ends in order.
    pub(super) next_generation: Option<u64>,
    /// The number of the batch that would be next.
    pub(super) next_batch: u64,
}

/// A place at which batches are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hole {
    pub(super) from: usize,
    pub(super) to: usize,
    /// Batches that come before it in [`Scan::batches`].
    pub(super) behind: usize,
    /// The one batch in it, if there is one, and its head is valid: position and length of its records.
    pub(super) batch: Option<(usize, usize)>,
}

/// Looks through a file of this generation, which begins with this batch. What is not valid behind the last
/// batch that is known to have been synced was torn, and is left out.
pub(super) fn scan(bytes: &[u8], generation: u64, first: u64) -> Scan {
    let mut scan = Scan { next_batch: first, ..Scan::default() };
    let mut at = SECTOR;
    loop {
        let here = bytes.get(at..).unwrap_or_default();
        let head = Batch::head(generation, here).filter(|(head, _)| head.number == scan.next_batch);
        if let Some((head, len)) = head
            && let Some(body) = Batch::body(here, len)
        {
            scan.next_batch += 1;
            if head.kind == BatchKind::Seal {
                scan.next_generation = Batch::next_generation(body);
                return scan;
            }
            scan.batches.push((at + super::format::BATCH_HEAD, body.len()));
            at += filled(len);
            continue;
        }
        // A later batch tells whether this one had been synced.
        let witness = (at..bytes.len()).step_by(SECTOR).find_map(|place| {
            let (later, _) = Batch::head(generation, &bytes[place..])?;
            let is_later = later.number > scan.next_batch && later.synced >= scan.next_batch;
            is_later.then_some((place, later.number))
        });
        let Some((to, number)) = witness else { return scan };
        let is_one = number == scan.next_batch + 1;
        let batch = head.filter(|(_, len)| is_one && at + filled(*len) == to);
        scan.holes.push(Hole {
            from: at,
            to,
            behind: scan.batches.len(),
            batch: batch
                .map(|(_, len)| (at + super::format::BATCH_HEAD, len - super::format::BATCH_HEAD)),
        });
        at = to;
        scan.next_batch = number;
    }
}
