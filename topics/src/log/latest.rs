//! A log of the newest message of each key: what a later one replaces is gone at once.
//!
//! A deleted key leaves a tombstone for a while, so that those who have seen the key hear of it. Whoever
//! comes back behind that has to begin anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
    time::Duration,
};

use super::Segment;
use crate::{
    entry::{Encoder, Entry, Message},
    memory::Held,
    position::Offset,
    settings::Retention,
    time::{Instant, Now},
};

/// Bytes of a message's places: by its offset, by its key, and among its like.
const PLACES: usize = 160;

/// The newest message of each key, and tombstones of those that were deleted.
#[derive(Debug)]
pub struct Latest {
    /// Each is a segment of one message, and goes alone.
    messages: BTreeMap<Offset, Arc<Segment>>,
    by_key: BTreeMap<Arc<str>, Offset>,
    living: BTreeSet<Offset>,
    tombstones: BTreeSet<Offset>,
    next: Offset,
    /// The newest tombstone that has gone: whoever has not read up to it may have missed a deletion.
    forgotten: Offset,
    /// The time of the newest message: later ones are not older.
    newest: u64,
    /// Bytes of all that are here, without further forms.
    bytes: usize,
    retention: Retention,
    tombstone_ttl: Duration,
    max_keys: usize,
    held: Arc<Held>,
}

impl Latest {
    /// Nothing yet; the first message gets this offset. Of those before it, if there were any, nobody knows
    /// any more.
    pub fn new(
        first: Offset,
        retention: Retention,
        tombstone_ttl: Duration,
        max_keys: usize,
        held: Arc<Held>,
    ) -> Self {
        Self {
            messages: BTreeMap::new(),
            by_key: BTreeMap::new(),
            living: BTreeSet::new(),
            tombstones: BTreeSet::new(),
            next: first,
            forgotten: Offset(first.0 - 1),
            newest: 0,
            bytes: 0,
            retention,
            tombstone_ttl,
            max_keys,
            held,
        }
    }

    /// The oldest message that is kept: the next one, if none is.
    pub fn base(&self) -> Offset {
        self.messages.first_key_value().map_or(self.next, |(offset, _)| *offset)
    }

    /// The offset that the next message gets.
    pub fn next(&self) -> Offset {
        self.next
    }

    /// The newest tombstone that has gone. A reader that has read to an offset below this one has to begin
    /// anew, unless it has begun since.
    pub fn forgotten(&self) -> Offset {
        self.forgotten
    }

    /// The time of the newest message there was.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// Later messages have no time before this one.
    pub fn set_newest(&mut self, time: u64) {
        self.newest = self.newest.max(time);
    }

    /// Messages that are kept, tombstones among them.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Keys that have a message.
    pub fn keys(&self) -> usize {
        self.living.len()
    }

    /// The offset of a key's newest message, which may be a tombstone; none of a key that is not known.
    pub fn last_of(&self, key: &str) -> Option<Offset> {
        self.by_key.get(key).copied()
    }

    /// Whether there is room for a message of this key.
    pub fn has_room_for(&self, key: &str) -> bool {
        self.living.len() < self.max_keys
            || self.last_of(key).is_some_and(|offset| self.living.contains(&offset))
    }

    /// Adds a message, which replaces the one of its key.
    pub fn append(&mut self, encoder: &Encoder, message: &Message<'_>, now: Now) -> &Entry {
        let offset = self.next;
        self.newest = self.newest.max(now.unix_ms);
        let entry = Entry::new(encoder, offset, self.newest, now.monotonic, message);
        // Whoever publishes has been told that a key is needed.
        let key = entry.key.clone().unwrap_or_else(|| Arc::from(""));
        let kind = if entry.is_tombstone { &mut self.tombstones } else { &mut self.living };
        kind.insert(offset);
        if let Some(before) = self.by_key.insert(key, offset) {
            self.remove(before);
        }
        let (held, limit) = (Arc::clone(&self.held), self.retention.bytes);
        let segment = Segment::new(offset, 1, held, limit);
        self.held.add(PLACES);
        self.bytes += bytes(&entry);
        segment.set(0, entry);
        self.next = offset.next();
        let segment = self.messages.entry(offset).or_insert(segment);
        segment.get(offset).expect("it was set")
    }

    /// Lets go of what is too old, and of the oldest where there is too much. Keys that go leave a
    /// tombstone, as if they had been deleted. Whether there are such.
    pub fn retain(&mut self, encoder: &Encoder, now: Now) -> bool {
        let before = self.next;
        let age = |log: &Self, offset: Option<&Offset>| {
            let entry = offset.and_then(|offset| log.messages.get(offset)?.get(*offset));
            entry.map(|entry| now.monotonic.since(entry.appended))
        };
        while age(self, self.living.first()).is_some_and(|age| age >= self.retention.age) {
            self.delete_oldest(encoder, now);
        }
        while age(self, self.tombstones.first()).is_some_and(|age| age >= self.tombstone_ttl)
            || self.tombstones.len() > self.max_keys
        {
            self.forget_oldest();
        }
        // A state is worth more than what is known of deletions.
        while self.bytes > self.retention.bytes {
            if self.forget_oldest() > 0 {
                continue;
            }
            if self.living.len() < 2 {
                break;
            }
            self.delete_oldest(encoder, now);
        }
        self.next != before
    }

    /// The moment at which the oldest key or tombstone is too old.
    pub fn expires(&self) -> Option<Instant> {
        let oldest = |offset: Option<&Offset>| {
            let offset = offset?;
            self.messages.get(offset)?.get(*offset).map(|entry| entry.appended)
        };
        let living = oldest(self.living.first()).map(|appended| appended + self.retention.age);
        let tombstone = oldest(self.tombstones.first());
        let tombstone = tombstone.map(|appended| appended + self.tombstone_ttl);
        living.into_iter().chain(tombstone).min()
    }

    /// Gives up the oldest tombstone, for others' memory; its bytes, 0 if there are only keys.
    pub fn give_way(&mut self) -> usize {
        self.forget_oldest()
    }

    /// Gives up all of it. It takes an offset, as a deletion does: readers have to begin anew, also those
    /// who have read all there was.
    pub fn purge(&mut self) {
        self.next = self.next.next();
        self.held.release(self.messages.len() * PLACES);
        self.messages.clear();
        self.by_key.clear();
        self.living.clear();
        self.tombstones.clear();
        self.bytes = 0;
        self.forgotten = Offset(self.next.0 - 1);
    }

    /// The messages from this offset on, each as a segment of one.
    pub fn from(&self, offset: Offset) -> impl Iterator<Item = &Arc<Segment>> {
        self.messages.range(offset..).map(|(_, segment)| segment)
    }

    /// The messages before this offset, the newest first.
    pub fn before(&self, offset: Offset) -> impl Iterator<Item = &Arc<Segment>> {
        self.messages.range(..offset).rev().map(|(_, segment)| segment)
    }

    /// The first message that is not older than this.
    pub fn since(&self, time: u64) -> Offset {
        let is_older = |(offset, segment): &(&Offset, &Arc<Segment>)| {
            segment.get(**offset).is_some_and(|entry| entry.time < time)
        };
        let newer = self.messages.iter().rev().take_while(|message| !is_older(message));
        newer.last().map_or(self.next, |(offset, _)| *offset)
    }

    /// Deletes the oldest key, as if its owner had.
    fn delete_oldest(&mut self, encoder: &Encoder, now: Now) {
        let oldest = self.living.first().and_then(|offset| self.messages.get(offset)?.get(*offset));
        let Some(key) = oldest.and_then(|entry| entry.key.clone()) else { return };
        let message = Message { key: Some(&key), is_tombstone: true, ..Message::default() };
        self.append(encoder, &message, now);
    }

    /// Lets the oldest tombstone go; its bytes.
    fn forget_oldest(&mut self) -> usize {
        let Some(&oldest) = self.tombstones.first() else { return 0 };
        self.forgotten = self.forgotten.max(oldest);
        let before = self.bytes;
        if let Some(entry) = self.remove(oldest).as_ref().and_then(|segment| segment.get(oldest))
            && let Some(key) = &entry.key
        {
            self.by_key.remove(key);
        }
        before - self.bytes
    }

    /// Removes a message from all places but that of its key.
    fn remove(&mut self, offset: Offset) -> Option<Arc<Segment>> {
        self.living.remove(&offset);
        self.tombstones.remove(&offset);
        let segment = self.messages.remove(&offset)?;
        self.bytes -= segment.get(offset).map_or(0, bytes);
        self.held.release(PLACES);
        Some(segment)
    }
}

/// The memory of a message here, without further forms.
fn bytes(entry: &Entry) -> usize {
    size_of::<Segment>() + size_of::<OnceLock<Entry>>() - size_of::<Entry>()
        + entry.bytes()
        + PLACES
}

impl Drop for Latest {
    fn drop(&mut self) {
        self.held.release(self.messages.len() * PLACES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        entry::{Form, Meta},
        name::TopicName,
        position::Epoch,
        sync::{AtomicUsize, Ordering},
    };

    struct Log {
        latest: Latest,
        encoder: Encoder,
        all: Arc<AtomicUsize>,
    }

    fn at(ms: u64) -> Now {
        Now { monotonic: Instant(1_000 * ms), unix_ms: ms }
    }

    const TTL: Duration = Duration::from_secs(600);

    impl Log {
        fn new(bytes: usize, max_keys: usize) -> Self {
            let all = Arc::default();
            let held = Held::new(Arc::clone(&all));
            let retention = Retention { bytes, ..Retention::default() };
            let encoder = Encoder::new(&TopicName::parse("t").expect("a name"), Epoch(1));
            Self { latest: Latest::new(Offset(1), retention, TTL, max_keys, held), encoder, all }
        }

        fn append(&mut self, key: &str, data: Option<&str>, ms: u64) -> u64 {
            let message = Message {
                key: Some(key),
                data: data.unwrap_or_default().as_bytes(),
                is_tombstone: data.is_none(),
                ..Message::default()
            };
            let offset = self.latest.append(&self.encoder, &message, at(ms)).offset.0;
            self.retain(ms);
            offset
        }

        fn retain(&mut self, ms: u64) -> bool {
            self.latest.retain(&self.encoder, at(ms))
        }

        /// All from this offset on: `3 a x`, `4 b -`.
        fn read(&self, from: u64) -> Vec<String> {
            let text = |segment: &Arc<Segment>| {
                let offset = segment.first();
                let entry = segment.get(offset).expect("it is the one");
                let data = String::from_utf8_lossy(entry.data()).into_owned();
                let data = if entry.is_tombstone { "-".to_owned() } else { data };
                format!("{offset} {} {data}", entry.key.as_deref().expect("a key"))
            };
            self.latest.from(Offset(from)).map(text).collect()
        }

        /// Every place says the same, and all memory is counted.
        fn check(&self) {
            let latest = &self.latest;
            for (offset, segment) in &latest.messages {
                let entry = segment.get(*offset).expect("L1: it is set");
                let key = entry.key.as_deref().expect("a key");
                assert_eq!(latest.last_of(key), Some(*offset));
                assert_eq!(latest.tombstones.contains(offset), entry.is_tombstone);
                assert_eq!(latest.living.contains(offset), !entry.is_tombstone);
            }
            assert_eq!(latest.by_key.len(), latest.messages.len());
            assert_eq!(latest.living.len() + latest.tombstones.len(), latest.messages.len());
            assert!(latest.base() <= latest.next() && latest.forgotten() < latest.next());
            assert!(latest.keys() <= latest.max_keys);
            let segments = latest.messages.values().map(|segment| segment.bytes() + PLACES);
            assert_eq!(segments.sum::<usize>(), self.all.load(Ordering::Relaxed));
        }
    }

    #[test]
    fn the_newest_of_each_key_is_kept_in_its_order() {
        let mut log = Log::new(1 << 20, 10);
        for (key, data) in [("a", "1"), ("b", "2"), ("a", "3"), ("c", "4"), ("b", "5"), ("b", "6")]
        {
            log.append(key, Some(data), 0);
            log.check();
        }
        assert_eq!(log.read(0), ["3 a 3", "4 c 4", "6 b 6"]);
        assert_eq!(log.read(4), ["4 c 4", "6 b 6"], "a position: what is newer");
        assert_eq!((log.latest.base(), log.latest.keys()), (Offset(3), 3));
        assert_eq!(log.latest.last_of("b"), Some(Offset(6)));
        let before: Vec<_> =
            log.latest.before(Offset(6)).map(|message| message.first().0).collect();
        assert_eq!(before, [4, 3]);
    }

    #[test]
    fn what_is_superseded_is_freed_at_once() {
        let mut log = Log::new(1 << 20, 10);
        let large = "x".repeat(10_000);
        for n in 0..1_000 {
            log.append("a", Some(&large), n);
            assert!(log.all.load(Ordering::Relaxed) < 11_000);
        }
        assert_eq!(log.latest.forgotten(), Offset(0), "that is no gap");
        let read = Arc::clone(log.latest.from(Offset(0)).next().expect("one"));
        let form = |segment: &Arc<Segment>| {
            let entry = segment.get(Offset(1_000)).expect("the one");
            entry.item(Meta::None, Form::Plain, &segment.room()).size()
        };
        assert_eq!(form(&read), 10_000);
        assert!(log.all.load(Ordering::Relaxed) > 20_000, "further forms are counted");
        log.append("a", Some("y"), 0);
        assert!(log.all.load(Ordering::Relaxed) > 20_000, "and what a reader still has");
        drop(read);
        log.check();
        drop(log.latest);
        assert_eq!(log.all.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_tombstone_tells_of_a_deletion_for_its_time() {
        let mut log = Log::new(1 << 20, 10);
        log.append("a", Some("1"), 0);
        log.append("b", Some("2"), 0);
        log.append("a", None, 1_000);
        assert_eq!(log.read(0), ["2 b 2", "3 a -"]);
        assert_eq!(log.latest.expires(), Some(at(601_000).monotonic));
        assert!(!log.retain(600_999));
        assert_eq!(log.latest.forgotten(), Offset(0));
        log.retain(601_000);
        log.check();
        assert_eq!(log.read(0), ["2 b 2"]);
        assert_eq!(log.latest.forgotten(), Offset(3), "who was at 2 or below may have missed it");
        assert_eq!((log.latest.last_of("a"), log.latest.next()), (None, Offset(4)));
        // A key that comes again is no deletion any more.
        log.append("b", None, 601_000);
        log.append("b", Some("3"), 601_000);
        log.retain(2_000_000);
        assert_eq!(log.latest.forgotten(), Offset(3));
    }

    #[test]
    fn keys_that_are_too_old_are_deleted() {
        let mut log = Log::new(1 << 20, 10);
        log.append("a", Some("1"), 0);
        log.append("b", Some("2"), 3_600_000);
        let day = 24 * 3_600_000;
        assert_eq!(log.latest.expires(), Some(at(day).monotonic));
        assert!(log.retain(day), "there is a tombstone to be told of");
        log.check();
        assert_eq!(log.read(0), ["2 b 2", "3 a -"]);
    }

    #[test]
    fn keys_and_tombstones_are_bounded() {
        let mut log = Log::new(1 << 20, 3);
        for key in ["a", "b", "c"] {
            assert!(log.latest.has_room_for(key));
            log.append(key, Some("1"), 0);
        }
        assert!(log.latest.has_room_for("a") && !log.latest.has_room_for("d"));
        log.append("a", None, 0);
        assert!(log.latest.has_room_for("a") && log.latest.has_room_for("d"));
        log.append("d", Some("1"), 0);
        assert!(!log.latest.has_room_for("a"), "it is deleted, and others took its place");
        for n in 0..100 {
            log.append(&format!("deleted {n}"), None, 0);
            log.check();
            assert!(log.latest.len() <= 6);
        }
    }

    #[test]
    fn bytes_are_bounded_and_deletions_are_told_as_long_as_there_is_room() {
        let mut log = Log::new(100_000, 10_000);
        let data = "x".repeat(1_000);
        for n in 0..1_000 {
            log.append(&format!("key {n}"), Some(&data), n);
            log.check();
            assert!(log.latest.bytes <= 100_000);
        }
        assert!((50..100).contains(&log.latest.keys()), "{}", log.latest.keys());
        assert!(log.latest.last_of("key 999").is_some());
        assert!(log.latest.forgotten() > Offset(500));
        let before = log.all.load(Ordering::Relaxed);
        log.append("key 999", None, 1_000);
        assert!(log.latest.give_way() > 0);
        while log.latest.give_way() > 0 {}
        log.check();
        assert!(log.all.load(Ordering::Relaxed) < before && log.latest.keys() > 40);
    }

    #[test]
    fn since_a_time_is_found() {
        let mut log = Log::new(1 << 20, 1_000);
        for n in 0..300 {
            log.append(&format!("{}", n % 150), Some("x"), 10 * n);
        }
        assert_eq!(log.latest.since(0), Offset(151));
        assert_eq!(log.latest.since(2_990), Offset(300));
        assert_eq!(log.latest.since(2_985), Offset(300));
        assert_eq!(log.latest.since(2_991), log.latest.next());
    }

    /// A reader, and what it makes of what it read.
    #[derive(Default)]
    struct Reader {
        next: u64,
        known: u64,
        state: BTreeMap<String, String>,
        resets: u64,
    }

    impl Reader {
        fn read(&mut self, log: &Log, messages: usize) {
            for _ in 0..messages {
                let forgotten = log.latest.forgotten().0;
                if forgotten > self.known && self.next <= forgotten {
                    (self.next, self.known) = (log.latest.base().0, forgotten);
                    self.state.clear();
                    self.resets += 1;
                }
                let Some(segment) = log.latest.from(Offset(self.next)).next() else {
                    self.next = log.latest.next().0;
                    return;
                };
                let offset = segment.first();
                let entry = segment.get(offset).expect("it is the one");
                let key = entry.key.as_deref().expect("a key").to_owned();
                self.next = offset.0 + 1;
                if entry.is_tombstone {
                    self.state.remove(&key);
                } else {
                    let data = String::from_utf8_lossy(entry.data()).into_owned();
                    self.state.insert(key, data);
                }
            }
        }
    }

    /// Readers at any pace, from any place at which they left, come to have the same state.
    #[test]
    fn readers_at_any_pace_come_to_the_same_state() {
        let mut resets = 0;
        for seed in 0..60_u64 {
            let mut random = seed;
            let mut below = |bound: u64| {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (random >> 33) % bound
            };
            let mut log = Log::new(2_000 + 400 * below(20) as usize, 8);
            let mut readers: [Reader; 3] = Default::default();
            let (mut state, mut ms) = (BTreeMap::<String, String>::new(), 0);
            for n in 0..600 {
                let key = format!("k{}", below(12));
                match below(10) {
                    0..5 if log.latest.has_room_for(&key) => {
                        log.append(&key, Some(&n.to_string()), ms);
                        state.insert(key, n.to_string());
                    }
                    5..7 => {
                        log.append(&key, None, ms);
                        state.remove(&key);
                    }
                    7 => {
                        ms += 1 << below(21);
                        log.retain(ms);
                    }
                    8 if below(60) == 0 => {
                        log.latest.purge();
                        state.clear();
                    }
                    _ => {
                        let reader = below(3) as usize;
                        readers[reader].read(&log, 1 << below(4));
                    }
                }
                // Keys that had to go are gone for good.
                state.retain(|key, _| {
                    let last = log.latest.last_of(key);
                    last.is_some_and(|offset| log.latest.living.contains(&offset))
                });
                log.check();
            }
            for reader in &mut readers {
                reader.read(&log, usize::MAX);
                assert_eq!(reader.state, state, "seed {seed}");
                resets += reader.resets;
            }
        }
        assert!(resets > 20, "{resets}");
    }
}
