//! Opening: what a crash has left is made whole, and what is lost is told.
//!
//! Segments are the truth up to the first record of their topic in the journal, the journal from there on: all
//! that was written to segments since the last barrier is in it, and is written again. Packs and the catalogue
//! are the truth as far as `store.json` names them. So nothing that a disk may have lost without saying so is
//! relied on, and a crash while opening changes nothing.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    sync::Arc,
};

use super::{
    Settings, StoreError,
    behind::Doomed,
    catalogue::CatalogueFile,
    disk::{Disk, read_all, read_named},
    engine::{Engine, Retention, Unstaged},
    files::{
        CATALOGUE, FAILED, JOURNAL, PACKS, STORE, StoreFile, TOPICS, TopicFile, journal_file,
        read_checked, read_named_checked, replace_store, segment_file,
    },
    format::{
        Batch, FORMAT, Fields, JournalHead, Kind, RECORD_HEAD, SECTOR, claimed_len, claimed_offset,
        claimed_topic, read_record, valid_record,
    },
    found::{Found, look},
    journal::{Hole, Journal, Scan, mix, scan},
    pack::Packs,
    record::{Lost, TopicId},
    segment::{self, Key},
    topic::{Topic, Topics},
};
use crate::position::{Epoch, Offset};

/// A file of the journal that is read again.
struct Walked {
    place: u32,
    sequence: u64,
    scan: Scan,
}

/// The part of the journal that is read again.
#[derive(Default)]
struct Walk {
    files: Vec<Walked>,
    deleted: HashSet<u64>,
    next_sequence: u64,
    next_batch: u64,
    next_topic: u64,
    /// Damage for which no topic can be named.
    damage: Option<String>,
}

/// Topics that are not whole, and why.
#[derive(Default)]
pub(super) struct Damage {
    pub(super) topics: BTreeMap<u64, String>,
    /// The next offsets of topics that go on behind what they may have lost.
    raised: BTreeMap<u64, u64>,
    /// The last messages of a topic that the journal should have, and has not.
    missing: BTreeMap<u64, (u64, u64)>,
    pub(super) all: Option<String>,
    pub(super) notes: Vec<String>,
}

impl Damage {
    /// Notes what is lost of a topic, unless it was accepted, or has gone.
    fn meet(&mut self, file: &TopicFile, lost: Lost) {
        if lost.from >= file.accepted.max(file.base) {
            self.topics.entry(file.id).or_insert(lost.text);
        }
    }
}

impl<D: Disk> Engine<D> {
    /// Opens a directory, or makes one of an empty one.
    ///
    /// # Errors
    /// The directory is not one of ours, or its disk fails.
    pub fn open(disk: D, settings: Settings, random: [u64; 3]) -> Result<Self, StoreError> {
        settings.check().map_err(StoreError::Unusable)?;
        let disk = Arc::new(disk);
        let stored = read_named_checked::<D, StoreFile>(&disk, STORE).map_err(on("read", STORE))?;
        let mut file = match stored {
            None => make(&*disk, random)?,
            Some(Some(file)) if file.format == FORMAT && file.batch > 0 => file,
            Some(Some(file)) => {
                return Err(StoreError::Unusable(format!(
                    "not a valid data directory: its format is {}, and this program knows {FORMAT}",
                    file.format
                )));
            }
            Some(None) => {
                return Err(StoreError::Unusable(format!(
                    "not a valid data directory: {STORE} is not what was written there; put back the \
                     one of a copy of the directory"
                )));
            }
        };
        let boot = disk.boot();
        // Whoever was told that a message is written may know more than the disk.
        let has_failed = read_named(&*disk, FAILED).map_err(on("read", FAILED))?.is_some();
        file.renumber |= has_failed || (!file.is_clean && file.boot != boot);
        file.boot = boot;
        let mut damage = Damage::default();
        damage.topics.extend(std::mem::take(&mut file.damaged));
        damage.raised.extend(std::mem::take(&mut file.raised));
        let mut files = look(&*disk, &mut file, &mut damage)?;
        let mut found = std::mem::take(&mut files.topics);
        let heads = journal_heads(&*disk)?;
        let walk = walk_journal(&*disk, &heads, &file, &mut found)?;
        if let Some(lost) = &walk.damage {
            damage.all.get_or_insert_with(|| lost.clone());
        }
        let places = heads.last_key_value().map_or(0, |(place, _)| *place as usize + 1);
        let journal = Journal::new(
            places,
            settings.journal_bytes,
            settings.max_waiting_files,
            random[0],
            walk.next_sequence,
            walk.next_batch,
        );
        let last = found.last_key_value().map_or(0, |(id, _)| *id);
        let next_id = file.next_topic.max(walk.next_topic).max(last + 1);
        let topics = Topics::new(next_id);
        let packs = Packs::new(files.last_pack + 1);
        let mut engine = Self::assemble(disk, settings, file, topics, journal, packs);
        engine.catalogue.is_kept = files.is_catalogue_lost;
        for (pack, is_kept) in files.packs {
            engine.packs.adopt(pack, is_kept);
        }
        let mut tails = HashMap::new();
        for id in &walk.deleted {
            if let Some(found) = found.remove(id) {
                engine.doom(*id, found);
            }
        }
        for (id, mut found) in found {
            if let Some(file) = found.file.take() {
                tails.insert(id, (found.behind, found.lost.take()));
                engine.adopt(file, found, &mut damage);
            } else if !found.segments.is_empty() {
                damage.notes.push(format!(
                    "{CATALOGUE} has no topic {id:016x}, whose messages are there and are left alone"
                ));
            }
        }
        let mut replay = Replay { damage, seen: HashSet::new(), unknown: HashSet::new() };
        for walked in &walk.files {
            replay.file(&mut engine, walked, &walk.deleted)?;
        }
        for id in &walk.deleted {
            engine.catalogue.push_delete(*id);
        }
        let Replay { mut damage, seen, .. } = replay;
        engine.judge(&tails, &seen, files.lost_records, &mut damage);
        engine.finish_opening(&walk, damage)?;
        if engine.settings.accepts_damage {
            engine.accept_all()?;
        }
        Ok(engine)
    }

    /// Lets all damaged topics go on, and notes which they were.
    fn accept_all(&mut self) -> Result<(), StoreError> {
        let damaged = |topic: &Topic| {
            let damage = topic.file.damage.clone()?;
            Some((
                topic.file.id,
                format!("\"{}\" goes on without what is lost: {damage}", topic.file.name),
            ))
        };
        let all = self.topics.ids().filter_map(|id| damaged(self.topics.get(id)?));
        for (id, note) in all.collect::<Vec<_>>() {
            self.change_now(id, self.acceptance(id))?;
            self.notes.push(note);
        }
        self.settle(0).map(drop)
    }

    /// Takes a topic as it was found.
    fn adopt(&mut self, file: TopicFile, found: Found, damage: &mut Damage) {
        let id = file.id;
        let mut topic = Topic::new(file, Retention::default(), &self.topics.known);
        topic.is_made = found.is_made;
        if let Some(last) = found.segments.last() {
            topic.next = topic.next.max(last.end);
            topic.staged = topic.next;
            topic.time = topic.time.max(found.time);
            if found.closes {
                topic.closed = Some(last.end - 1);
            }
        }
        for segment in &found.segments {
            if segment.is_own() {
                self.backlog.segment_bytes += segment.bytes;
            } else {
                self.packs.hold(segment);
            }
        }
        topic.segments.set(found.segments);
        if let Some(other) = self.topics.insert(topic) {
            damage.notes.push(format!(
                "two topics have the name \"{}\": the older one, {:016x}, is left alone",
                other.file.name,
                other.file.id.min(id)
            ));
        }
    }

    /// Notes that what is there of a topic is to be removed.
    fn doom(&mut self, id: u64, found: Found) {
        let own: Vec<_> = found.segments.into_iter().filter(|segment| segment.is_own()).collect();
        self.backlog.segment_bytes += own.iter().map(|segment| segment.bytes).sum::<u64>();
        self.give_back(id, own);
        if found.is_made {
            self.backlog.doomed.push_back(Doomed::Topic(id));
        }
    }

    /// Looks for damage that the journal did not tell of, and drops what is below the topics' bases.
    fn judge(
        &mut self,
        tails: &HashMap<u64, (u64, Option<Lost>)>,
        seen: &HashSet<u64>,
        lost_records: u64,
        damage: &mut Damage,
    ) {
        let ids: Vec<_> = self.topics.ids().collect();
        for id in ids {
            let Some(topic) = self.topics.get_mut(id) else { continue };
            let mut raised = damage.raised.get(&id).copied().unwrap_or(0).max(topic.file.next);
            if lost_records > 0 {
                raised = topic.next.saturating_add(lost_records).min(Offset::MAX.0);
            }
            let (behind, lost) = tails.get(&id).cloned().unwrap_or_default();
            if let Some(lost) = lost.filter(|_| !seen.contains(&id)) {
                damage.meet(&topic.file, lost);
            }
            if let Some(last) = topic.segments.back()
                && behind > 0
                && last.is_own()
                && !seen.contains(&id)
                && topic.file.next <= last.end
            {
                let path = segment_file(id, last.first);
                damage.topics.entry(id).or_insert_with(|| {
                    format!("{path} is not what was written there from byte {} on", last.bytes)
                });
                // No offset is ever given twice: there cannot have been more messages than that.
                raised = raised.max(last.end + behind / RECORD_HEAD as u64 + 1);
            }
            if raised > topic.next {
                topic.next = raised;
                topic.staged = raised;
            }
            if raised > topic.file.next {
                damage.raised.insert(id, raised);
            }
            let base = topic.file.base;
            let first = topic.segments.iter().find(|segment| segment.end > base);
            let before = first.and_then(|first| Some((base, first.first.checked_sub(1)?)));
            let missing = damage.missing.get(&id).copied();
            let lost = [before, missing].into_iter().flatten().find(|(_, to)| *to >= base);
            if let Some((from, to)) = lost {
                let text = || format!("messages {} to {to} are lost", from.max(base));
                damage.topics.entry(id).or_insert_with(text);
            }
            let needless = topic.drop_needless();
            self.give_back(id, needless);
        }
    }

    /// Makes what was read again safe, begins the journal anew, and tells the topics' own files what is
    /// wrong with them.
    fn finish_opening(&mut self, walk: &Walk, damage: Damage) -> Result<(), StoreError> {
        let Damage { mut topics, mut raised, all, notes, .. } = damage;
        self.notes = notes;
        self.packs.rests = true;
        if let Some(all) = all {
            for id in self.topics.ids() {
                topics.entry(id).or_insert_with(|| all.clone());
            }
            self.notes.push(all);
        }
        topics
            .retain(|id, _| self.topics.get(*id).is_some_and(|topic| topic.file.damage.is_none()));
        raised.retain(|id, next| self.topics.get(*id).is_some_and(|it| it.file.next < *next));
        self.file.damaged = topics.into_iter().collect();
        self.file.raised = raised.into_iter().collect();
        self.checkpoint(false)?;
        self.make_files_whole(walk)?;
        let epochs: Vec<_> = if self.file.renumber {
            let loose = |id: &u64| self.topics.get(*id).is_some_and(|topic| topic.file.is_loose);
            self.topics.ids().filter(loose).collect()
        } else {
            Vec::new()
        };
        let (damaged, raised) = (self.file.damaged.clone(), self.file.raised.clone());
        let is_whole = damaged.is_empty() && raised.is_empty();
        if epochs.is_empty() && is_whole && !self.file.renumber {
            self.settle(0)?;
            self.packs.rests = false;
            return Ok(());
        }
        let (_, seed) = self.journal.next_file();
        for id in epochs {
            self.change_now(id, |file| file.epoch = Epoch(mix(file.epoch.0 ^ seed)))?;
        }
        for (id, text) in damaged {
            self.change_now(id, |file| file.damage = Some(text.clone()))?;
        }
        for (id, next) in raised {
            self.change_now(id, |file| file.next = next)?;
        }
        self.settle(0)?;
        self.packs.rests = false;
        self.file.renumber = false;
        self.file.damaged.clear();
        self.file.raised.clear();
        // What is said here is what the journal says: it goes on where it is.
        replace_store(&*self.disk, &self.file).map_err(on("replace", STORE))?;
        match self.disk.remove(FAILED) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(on("remove", FAILED)(error))
            }
            _ => Ok(()),
        }
    }

    fn change_now(&mut self, id: u64, change: impl Fn(&mut TopicFile)) -> Result<(), StoreError> {
        loop {
            match self.change(TopicId(id), &change) {
                Ok(()) => return Ok(()),
                Err(Unstaged::Refused(refusal)) => {
                    return Err(StoreError::Unusable(refusal.to_string()));
                }
                Err(Unstaged::Later) => drop(self.settle(0)?),
            }
            if let Err(full) = self.admit() {
                return Err(StoreError::Unusable(full.to_string()));
            }
        }
    }

    /// Keeps files of the journal in which something is lost, for who wants to look at them, and gives the
    /// others their whole length.
    fn make_files_whole(&mut self, walk: &Walk) -> Result<(), StoreError> {
        for walked in walk.files.iter().filter(|walked| !walked.scan.holes.is_empty()) {
            let path = journal_file(walked.place);
            let kept = format!("{JOURNAL}/damaged-{}", walked.sequence);
            self.disk.rename(&path, &kept).map_err(on("rename", &path))?;
        }
        for place in 0..self.journal.files() {
            let path = journal_file(place as u32);
            let file = match self.disk.open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.disk.create(&path),
                opened => opened,
            };
            let file = file.map_err(on("make", &path))?;
            let len = self.disk.len(&file).map_err(on("look at", &path))?;
            if len < self.settings.journal_bytes {
                let made = self.disk.preallocate(&file, self.settings.journal_bytes);
                made.and_then(|()| self.disk.sync(&file)).map_err(on("take room for", &path))?;
            }
        }
        self.disk.sync_directory(JOURNAL).map_err(on("sync", JOURNAL))
    }

    /// Cuts a topic's segments at an offset: the journal has all from there on.
    fn cut(&mut self, id: u64, offset: u64, damage: &mut Damage) -> Result<(), StoreError> {
        let Some(topic) = self.topics.get_mut(id) else { return Ok(()) };
        while let Some(last) = topic.segments.back().copied()
            && last.first >= offset
        {
            if !last.is_own() {
                break;
            }
            let path = segment_file(id, last.first);
            self.disk.remove(&path).map_err(on("remove", &path))?;
            self.cache.forget(Key::Segment(id, last.first));
            self.backlog.segment_bytes -= last.bytes;
            topic.segments.pop_back();
        }
        topic.closed = topic.closed.filter(|closed| *closed < offset);
        topic.next = topic.file.base.max(topic.segments.back().map_or(0, |last| last.end));
        if let Some(last) = topic.segments.back_mut().filter(|last| last.is_own()) {
            topic.next = topic.file.base;
            let path = segment_file(id, last.first);
            let file = self.disk.open(&path).map_err(on("open", &path))?;
            let scanned = segment::scan(&*self.disk, &file, id, last.first, offset);
            if let Some(scanned) = scanned.map_err(on("read", &path))? {
                if scanned.segment.end == offset && scanned.behind > 0 {
                    self.disk.set_len(&file, scanned.segment.bytes).map_err(on("cut", &path))?;
                }
                self.backlog.segment_bytes =
                    self.backlog.segment_bytes + scanned.segment.bytes - last.bytes;
                *last = scanned.segment;
                if let Some(lost) = scanned.lost {
                    damage.meet(&topic.file, lost);
                }
                topic.time = topic.file.time.max(scanned.last_time);
            }
            topic.next = topic.next.max(last.end);
            self.cache.forget(Key::Segment(id, last.first));
        }
        if topic.file.next <= offset {
            topic.next = topic.next.max(topic.file.next);
        }
        topic.staged = topic.next;
        Ok(())
    }
}

/// The journal, as it is read again.
struct Replay {
    damage: Damage,
    /// Topics with messages in the journal.
    seen: HashSet<u64>,
    unknown: HashSet<u64>,
}

impl Replay {
    fn file<D: Disk>(
        &mut self,
        engine: &mut Engine<D>,
        walked: &Walked,
        deleted: &HashSet<u64>,
    ) -> Result<(), StoreError> {
        let path = journal_file(walked.place);
        let file = engine.disk.open(&path).map_err(on("open", &path))?;
        let bytes = read_all(&*engine.disk, &file).map_err(on("read", &path))?;
        let mut holes = walked.scan.holes.iter().peekable();
        for (at, (start, len)) in walked.scan.batches.iter().enumerate() {
            while let Some(hole) = holes.next_if(|hole| hole.behind <= at) {
                self.hole(engine, walked, *hole, &bytes);
            }
            // It may have become shorter since it was looked through.
            let mut rest = bytes.get(*start..*start + *len).unwrap_or_default();
            while let Some((record, len)) = read_record(rest) {
                if !deleted.contains(&record.topic) {
                    self.record(engine, &record, &rest[..len])?;
                }
                rest = &rest[len..];
            }
            if engine.backlog.pending_bytes > engine.settings.pending_bytes / 2 {
                engine.flush_all()?;
            }
            if engine.catalogue.waiting() as u64 > engine.settings.pending_bytes / 4 {
                engine.catalogue.shorten();
            }
        }
        for hole in holes {
            self.hole(engine, walked, *hole, &bytes);
        }
        Ok(())
    }

    fn record<D: Disk>(
        &mut self,
        engine: &mut Engine<D>,
        record: &Fields<'_>,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        let id = record.topic;
        match record.kind {
            Kind::Delete => Ok(()),
            Kind::Topic => {
                let Some(file) = topic_in(record) else { return Ok(()) };
                if engine.topics.get(id).is_none() {
                    engine.adopt(file.clone(), Found::default(), &mut self.damage);
                }
                engine.catalogue.push(bytes);
                engine.take_topic(file);
                Ok(())
            }
            Kind::Message => {
                if engine.topics.get(id).is_none() {
                    if self.unknown.insert(id) {
                        self.damage.notes.push(format!(
                            "the journal has messages of topic {id:016x}, which is not there"
                        ));
                    }
                    return Ok(());
                }
                if self.seen.insert(id) {
                    engine.cut(id, record.offset, &mut self.damage)?;
                }
                let Some(topic) = engine.topics.get_mut(id) else { return Ok(()) };
                let next = topic.next;
                if record.offset < next {
                    // A pack has it; or retention was faster, or the whole log was dropped.
                    topic.time = topic.time.max(record.time);
                    if record.closes {
                        topic.closed = Some(record.offset);
                    }
                    return Ok(());
                }
                if record.offset > next {
                    // They may have been dropped, which is told later.
                    self.damage.missing.insert(id, (next, record.offset - 1));
                }
                let (offset, time) = (record.offset, record.time);
                engine.take_message(id, bytes, offset, time, record.closes, 0);
                Ok(())
            }
        }
    }

    /// Finds out whose records are lost in a place of the journal.
    fn hole<D: Disk>(&mut self, engine: &Engine<D>, walked: &Walked, hole: Hole, bytes: &[u8]) {
        let text = format!(
            "{} is not what was written there at bytes {} to {}; it is kept as {JOURNAL}/damaged-{}",
            journal_file(walked.place),
            hole.from,
            hole.to,
            walked.sequence
        );
        let lost = hole.batch.and_then(|(start, len)| {
            let mut rest = bytes.get(start..start + len)?;
            let mut topics = HashSet::new();
            while !rest.is_empty() {
                let (record, behind) = rest.split_at_checked(claimed_len(rest)?)?;
                rest = behind;
                let id = claimed_topic(record)?;
                let is_next = |topic: &Topic| claimed_offset(record) == Some(topic.next);
                let is_known = engine.topics.get(id).is_some_and(is_next);
                // What is lost may be the number of the topic.
                if valid_record(record).is_none() && (!is_known || topics.contains(&id)) {
                    return None;
                }
                topics.insert(id);
            }
            Some(topics)
        });
        match lost {
            Some(topics) => {
                for id in topics {
                    self.damage.topics.entry(id).or_insert_with(|| text.clone());
                }
            }
            None => drop(self.damage.all.get_or_insert(text)),
        }
    }
}

/// The topic that a record tells of.
fn topic_in(record: &Fields<'_>) -> Option<TopicFile> {
    read_checked::<TopicFile>(record.data).filter(|file| file.id == record.topic)
}

pub(super) fn on(action: &'static str, path: &str) -> impl Fn(io::Error) -> StoreError {
    let path = path.to_owned();
    move |error| StoreError::new(action, &path, error)
}

/// Makes a directory of an empty one.
fn make<D: Disk>(disk: &D, random: [u64; 3]) -> Result<StoreFile, StoreError> {
    for directory in [JOURNAL, CATALOGUE, PACKS, TOPICS] {
        match disk.list(directory) {
            Ok(names) if !names.is_empty() => {
                return Err(StoreError::Unusable(format!(
                    "not a valid data directory: it has a {directory}, and no {STORE}; put back the \
                     one of a copy of the directory, or take an empty directory"
                )));
            }
            _ => disk.create_directory(directory).map_err(on("make", directory))?,
        }
    }
    let file = StoreFile {
        format: FORMAT,
        key: format!("{:016x}{:016x}", random[1], random[2]),
        sequence: 1,
        generation: mix(random[0]),
        batch: 1,
        next_topic: 1,
        boot: disk.boot(),
        is_clean: true,
        renumber: false,
        damaged: Vec::new(),
        raised: Vec::new(),
        catalogue: CatalogueFile::default(),
        packs: Vec::new(),
    };
    disk.sync_directory("").map_err(on("sync", ""))?;
    replace_store(disk, &file).map_err(on("replace", STORE))?;
    Ok(file)
}

/// The heads of the journal's files, by their places.
fn journal_heads<D: Disk>(disk: &D) -> Result<BTreeMap<u32, Option<JournalHead>>, StoreError> {
    let mut heads = BTreeMap::new();
    for name in disk.list(JOURNAL).map_err(on("list", JOURNAL))? {
        let Some(place) = name.parse::<u32>().ok().filter(|place| {
            let path = journal_file(*place);
            path.strip_prefix(JOURNAL).is_some_and(|rest| rest[1..] == name)
        }) else {
            continue;
        };
        let path = journal_file(place);
        let file = disk.open(&path).map_err(on("open", &path))?;
        let mut head = [0; SECTOR];
        let read = disk.read_at(&file, &mut head, 0).map_err(on("read", &path))?;
        heads.insert(place, JournalHead::read(&head[..read]));
    }
    Ok(heads)
}

/// Follows the journal from its checkpoint to its end.
fn walk_journal<D: Disk>(
    disk: &D,
    heads: &BTreeMap<u32, Option<JournalHead>>,
    store: &StoreFile,
    found: &mut BTreeMap<u64, Found>,
) -> Result<Walk, StoreError> {
    let read = |place: u32| {
        let path = journal_file(place);
        let file = disk.open(&path).map_err(on("open", &path))?;
        read_all(disk, &file).map_err(on("read", &path))
    };
    let behind = |sequence: u64| {
        let heads = heads.values().flatten().filter(|head| head.sequence > sequence);
        heads.min_by_key(|head| head.sequence).copied()
    };
    let mut walk = Walk::default();
    let mut expected =
        JournalHead { sequence: store.sequence, generation: store.generation, first: store.batch };
    loop {
        walk.next_batch = walk.next_batch.max(expected.first);
        let of_head = heads.iter().find(|(_, head)| {
            head.is_some_and(|head| {
                head.sequence == expected.sequence && head.generation == expected.generation
            })
        });
        let mut at = of_head.map(|(place, _)| *place);
        if at.is_none() {
            // Its first sector may be lost, and the rest be there.
            for (place, _) in heads.iter().filter(|(_, head)| head.is_none()) {
                let bytes = read(*place)?;
                let first =
                    Batch::head(expected.generation, bytes.get(SECTOR..).unwrap_or_default());
                if first.is_some_and(|(batch, _)| batch.number == expected.first) {
                    at = Some(*place);
                    break;
                }
            }
        }
        let mut is_whole = false;
        if let Some(place) = at {
            let bytes = read(place)?;
            let scan = scan(&bytes, expected.generation, expected.first);
            for (start, len) in &scan.batches {
                let mut rest = bytes.get(*start..*start + *len).unwrap_or_default();
                while let Some((record, len)) = read_record(rest) {
                    match record.kind {
                        Kind::Delete => drop(walk.deleted.insert(record.topic)),
                        Kind::Topic => {
                            walk.next_topic = walk.next_topic.max(record.topic + 1);
                            // Its own file was being replaced: this is what it says, or said.
                            if let Some(found) = found.get_mut(&record.topic)
                                && found.file.is_none()
                            {
                                found.file = topic_in(&record);
                            }
                        }
                        Kind::Message => {}
                    }
                    rest = &rest[len..];
                }
            }
            walk.next_batch = walk.next_batch.max(scan.next_batch);
            let sequence = expected.sequence;
            is_whole = scan.next_generation.is_some();
            if let Some(generation) = scan.next_generation {
                expected =
                    JournalHead { sequence: sequence + 1, generation, first: scan.next_batch };
            }
            walk.files.push(Walked { place, sequence, scan });
        }
        if is_whole {
            continue;
        }
        // Only the newest file may end torn: a later one is begun when the end of this one is on disk.
        let Some(later) = behind(expected.sequence) else { break };
        walk.damage.get_or_insert_with(|| {
            format!(
                "file {} of the journal is lost, or its end is: file {} is there",
                expected.sequence, later.sequence
            )
        });
        expected = later;
    }
    let newest = heads.values().flatten().map(|head| head.sequence).max();
    walk.next_sequence = expected.sequence.max(newest.unwrap_or(0)) + 1;
    walk.next_batch = walk.next_batch.max(1);
    Ok(walk)
}
