//! The catalogue: which topics there are, in one file for all of them.
//!
//! It holds the records of the journal that make, change and delete topics, one behind another; the last of
//! a topic counts. A barrier writes those that have come, and `store.json` says how far the file is safe: what
//! stands behind that is in the journal, and is written again. When it has doubled it is written anew, without
//! what does not count, under another number.

use std::{collections::HashMap, io};

use serde::{Deserialize, Serialize};

use super::{
    disk::{Disk, read_all, read_named},
    files::{TopicFile, catalogue_file, read_checked},
    format::{Fields, Kind, claimed_len, claimed_topic, read_record},
};

/// The catalogue, as `store.json` names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CatalogueFile {
    /// 0 if there is none yet.
    pub(super) number: u32,
    /// Bytes that are safe.
    pub(super) bytes: u64,
    /// Bytes that it had when it was written anew.
    pub(super) fresh: u64,
}

/// The records that go to the catalogue.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    tail: Vec<u8>,
    /// A part of it is lost: it is not written anew any more.
    pub(super) is_kept: bool,
}

impl Catalogue {
    /// Takes a record.
    pub(super) fn push(&mut self, record: &[u8]) {
        self.tail.extend_from_slice(record);
    }

    /// Takes the end of a topic.
    pub(super) fn push_delete(&mut self, topic: u64) {
        Fields::empty(Kind::Delete, topic).write(&mut self.tail);
    }

    /// Bytes that wait for a barrier.
    pub(super) fn waiting(&self) -> usize {
        self.tail.len()
    }

    /// Drops what does not count of what waits.
    pub(super) fn shorten(&mut self) {
        if let Some(short) = shorten(&[&self.tail], false) {
            self.tail = short;
        }
    }

    /// The job that writes what waits.
    pub(super) fn write(&mut self, file: CatalogueFile, least: u64) -> Write {
        let tail = std::mem::take(&mut self.tail);
        let grown = file.bytes + tail.len() as u64;
        let is_anew = !self.is_kept && grown > 2 * file.fresh.max(least);
        Write { file, tail, is_anew }
    }

    /// Takes back what was not written.
    pub(super) fn take_back(&mut self, write: Write) {
        let behind = std::mem::replace(&mut self.tail, write.tail);
        self.tail.extend_from_slice(&behind);
    }
}

/// Records on their way to the catalogue.
#[derive(Debug)]
pub(super) struct Write {
    file: CatalogueFile,
    tail: Vec<u8>,
    is_anew: bool,
}

impl Write {
    /// Writes them, without a sync: the catalogue as it is safe after a barrier.
    pub(super) fn run<D: Disk>(&self, disk: &D) -> io::Result<CatalogueFile> {
        let Self { file, tail, is_anew } = self;
        if tail.is_empty() {
            return Ok(*file);
        }
        let path = catalogue_file(file.number);
        if *is_anew || file.number == 0 {
            let old = if file.number == 0 { Vec::new() } else { read_safe(disk, file)? };
            let is_whole = old.len() as u64 == file.bytes;
            if let Some(new) = shorten(&[&old, tail], true).filter(|_| is_whole) {
                let number = file.number + 1;
                let made = disk.create(&catalogue_file(number))?;
                disk.write_at(&made, &new, 0)?;
                let bytes = new.len() as u64;
                return Ok(CatalogueFile { number, bytes, fresh: bytes });
            }
            // Something of it is lost: the next start tells of it, and nothing more is to be.
        }
        let opened = disk.open(&path)?;
        disk.write_at(&opened, tail, file.bytes)?;
        Ok(CatalogueFile { bytes: file.bytes + tail.len() as u64, ..*file })
    }
}

/// The part of the file that is safe.
fn read_safe<D: Disk>(disk: &D, file: &CatalogueFile) -> io::Result<Vec<u8>> {
    let opened = disk.open(&catalogue_file(file.number))?;
    let mut bytes = read_all(disk, &opened)?;
    bytes.truncate(usize::try_from(file.bytes).unwrap_or(usize::MAX));
    Ok(bytes)
}

/// The records that count, in their order: the last of each topic, without those that are deleted if nothing
/// came before. Nothing if a record is not valid.
fn shorten(parts: &[&[u8]], is_all: bool) -> Option<Vec<u8>> {
    let mut last = HashMap::new();
    let mut order = 0_u64;
    for part in parts {
        let mut rest = *part;
        while !rest.is_empty() {
            let (record, len) = read_record(rest)?;
            let is_gone = is_all && record.kind == Kind::Delete;
            if is_gone {
                last.remove(&record.topic);
            } else {
                last.insert(record.topic, (order, &rest[..len]));
            }
            order += 1;
            rest = &rest[len..];
        }
    }
    let mut records: Vec<_> = last.into_values().collect();
    records.sort_unstable_by_key(|(order, _)| *order);
    Some(records.into_iter().flat_map(|(_, record)| record).copied().collect())
}

/// A catalogue, as it was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) topics: HashMap<u64, TopicFile>,
    /// The places that are not what was written there, each with the topic that it seems to be of.
    pub(super) lost: Vec<(String, Option<u64>)>,
}

/// Reads the catalogue.
pub(super) fn read<D: Disk>(disk: &D, file: &CatalogueFile) -> io::Result<Found> {
    let mut found = Found::default();
    if file.number == 0 {
        return Ok(found);
    }
    let path = catalogue_file(file.number);
    let lost = |from: usize, to: u64| {
        format!("{path} is not what was written there at bytes {from} to {to}")
    };
    let mut bytes = read_named(disk, &path)?.unwrap_or_default();
    bytes.truncate(usize::try_from(file.bytes).unwrap_or(usize::MAX));
    let mut last = HashMap::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        if let Some((record, len)) = read_record(rest)
            && record.kind != Kind::Message
        {
            last.insert(record.topic, (record.kind == Kind::Topic).then_some(record.data));
            at += len;
            continue;
        }
        let is_next = |to: usize| to == bytes.len() || read_record(&bytes[to..]).is_some();
        let to = claimed_len(rest).map(|len| at.saturating_add(len));
        let is_one = to.is_some_and(|to| to <= bytes.len() && is_next(to));
        let to = match to.filter(|_| is_one) {
            Some(to) => to,
            None => (at + 1..=bytes.len()).find(|to| is_next(*to)).unwrap_or(bytes.len()),
        };
        let topic = if is_one { claimed_topic(rest) } else { None };
        found.lost.push((lost(at, to as u64), topic));
        at = to;
    }
    if (bytes.len() as u64) < file.bytes {
        found.lost.push((lost(bytes.len(), file.bytes), None));
    }
    for (id, data) in last {
        let Some(data) = data else { continue };
        match read_checked::<TopicFile>(data).filter(|topic| topic.id == id) {
            Some(topic) => drop(found.topics.insert(id, topic)),
            None => found.lost.push((format!("{path} has no valid entry"), Some(id))),
        }
    }
    Ok(found)
}
