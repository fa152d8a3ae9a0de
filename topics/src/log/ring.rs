//! A log in memory: segments of write-once entries, the oldest of which go.

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
    time::Duration,
};

use crate::{
    entry::{Encoder, Entry, Message, Room},
    memory::Held,
    position::Offset,
    settings::Retention,
    sync::{AtomicUsize, Ordering},
    time::{Instant, Now},
};

/// Entries of a segment at most: they are freed together. A log's first segments are smaller, so that the
/// log of a few messages is small.
const SEGMENT_ENTRIES: usize = 64;
const FIRST_SEGMENT_ENTRIES: usize = 4;
/// A segment is closed when it holds this part of the bytes that a log may.
const SEGMENT_PART: usize = 16;
/// Messages younger than this are spared by the bound on their number: a reader that was held up for a
/// moment would be overrun by a burst.
const SPARED: Duration = Duration::from_secs(2);
/// Messages that a log keeps when others need memory.
pub(crate) const KEPT_IN_MEMORY: u64 = 16;
/// The same of one whose messages are on disk, from where they are read again.
pub(crate) const KEPT_OF_DURABLE: u64 = 1;

/// Entries that follow each other, written once and read without a lock.
#[derive(Debug)]
pub struct Segment {
    first: Offset,
    entries: Box<[OnceLock<Entry>]>,
    held: Arc<Held>,
    /// The memory of its entries, and of further forms of them.
    bytes: AtomicUsize,
    forms: AtomicUsize,
    /// The most that its log may hold with further forms.
    limit: usize,
}

impl Segment {
    pub(super) fn new(first: Offset, entries: usize, held: Arc<Held>, limit: usize) -> Arc<Self> {
        let entries: Box<[_]> = (0..entries).map(|_| OnceLock::new()).collect();
        let bytes = size_of::<Self>() + entries.len() * size_of::<OnceLock<Entry>>();
        held.add(bytes);
        let bytes = AtomicUsize::new(bytes);
        Arc::new(Self { first, entries, held, bytes, forms: AtomicUsize::new(0), limit })
    }

    /// The entry of this offset, if it is here.
    #[inline]
    pub fn get(&self, offset: Offset) -> Option<&Entry> {
        let index = offset.0.checked_sub(self.first.0)?;
        self.entries.get(usize::try_from(index).ok()?)?.get()
    }

    /// The room for further forms of its entries.
    pub fn room(&self) -> Room<'_> {
        Room { of: &self.forms, held: &self.held, limit: self.limit }
    }

    /// Messages that were read from a disk, in their order. Where the disk has lost some there are holes; what
    /// lies behind a large one is left out. None if there are none.
    pub(crate) fn of(entries: Vec<Entry>, held: &Arc<Held>) -> Option<Arc<Self>> {
        const LONGEST: u64 = 4_096;
        let first = entries.first()?.offset;
        let mut entries = entries;
        entries.retain(|entry| entry.offset.0 - first.0 < LONGEST);
        let last = entries.last()?.offset;
        // Forms that few ask for are made for each of them.
        let len = usize::try_from(last.0 + 1 - first.0).ok()?;
        let segment = Self::new(first, len, Arc::clone(held), 0);
        for entry in entries {
            let index = usize::try_from(entry.offset.0 - first.0).ok()?;
            segment.set(index, entry);
        }
        Some(segment)
    }

    /// The offset behind the last that it has room for.
    pub fn end(&self) -> Offset {
        Offset(self.first.0 + self.entries.len() as u64)
    }

    /// The offset of its first entry.
    pub fn first(&self) -> Offset {
        self.first
    }

    pub(super) fn set(&self, index: usize, entry: Entry) {
        let bytes = entry.bytes();
        self.held.add(bytes);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let set = self.entries.get(index).map(|place| place.set(entry));
        debug_assert!(matches!(set, Some(Ok(()))), "L2: an entry is written once, in its place");
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed) + self.forms.load(Ordering::Relaxed)
    }

    /// Its entries, in their order.
    pub(crate) fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter().filter_map(OnceLock::get)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.held.release(self.bytes());
    }
}

/// The messages of a topic, from the oldest that is kept to the newest.
#[derive(Debug)]
pub struct Ring {
    segments: VecDeque<Kept>,
    /// The oldest that is kept; the next one where nothing is.
    base: Offset,
    next: Offset,
    /// The time of the newest message: later ones are not older.
    newest: u64,
    /// That of the newest message that has gone.
    newest_gone: Option<u64>,
    retention: Retention,
    held: Arc<Held>,
}

#[derive(Debug)]
struct Kept {
    segment: Arc<Segment>,
    /// That of the segment, by which one is found without a look at each.
    first: Offset,
    len: usize,
    /// The moment that the age of its newest entry counts from.
    newest: Instant,
}

impl Kept {
    /// The offset behind its newest entry.
    fn end(&self) -> Offset {
        Offset(self.segment.first.0 + self.len as u64)
    }
}

impl Ring {
    /// Nothing yet; the first message gets this offset.
    pub fn new(first: Offset, retention: Retention, held: Arc<Held>) -> Self {
        let segments = VecDeque::new();
        Self { segments, base: first, next: first, newest: 0, newest_gone: None, retention, held }
    }

    /// The time of the newest message there was.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// The oldest message that is kept: the next one, if none is.
    pub fn base(&self) -> Offset {
        self.base
    }

    /// The offset that the next message gets.
    pub fn next(&self) -> Offset {
        self.next
    }

    /// Messages that are kept.
    pub fn len(&self) -> u64 {
        self.next.0 - self.base.0
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.base == self.next
    }

    /// The time that a message of now gets: no less than the one before.
    pub fn time(&self, now: Now) -> u64 {
        self.newest.max(now.unix_ms)
    }

    /// Later messages have no time before this one.
    pub fn set_newest(&mut self, time: u64) {
        self.newest = self.newest.max(time);
    }

    /// Adds a message.
    pub fn append(&mut self, encoder: &Encoder, message: &Message<'_>, now: Now) -> &Entry {
        self.newest = self.time(now);
        self.add(Entry::new(encoder, self.next, self.newest, now.monotonic, message))
    }

    /// Adds a message of before, by its time of then.
    pub fn restore(&mut self, encoder: &Encoder, message: &Message<'_>, time: u64, now: Now) {
        self.newest = self.newest.max(time);
        let age = Duration::from_millis(now.unix_ms.saturating_sub(time));
        let appended = now.monotonic.before(age);
        self.add(Entry::new(encoder, self.next, time, appended, message));
    }

    fn add(&mut self, entry: Entry) -> &Entry {
        let (offset, appended) = (entry.offset, entry.appended);
        let part = self.retention.bytes / SEGMENT_PART;
        let last = self.segments.back();
        let is_full = last.is_none_or(|last| {
            last.len == last.segment.entries.len() || last.segment.bytes() >= part
        });
        if is_full {
            let entries = last.map_or(FIRST_SEGMENT_ENTRIES, |last| 2 * last.segment.entries.len());
            let entries = entries.min(SEGMENT_ENTRIES);
            let held = Arc::clone(&self.held);
            let segment = Segment::new(offset, entries, held, self.retention.bytes);
            self.segments.push_back(Kept { segment, first: offset, len: 0, newest: appended });
        }
        self.next = offset.next();
        // One was pushed where there was none with room.
        let last = self.segments.back_mut().expect("a segment with room");
        last.newest = appended;
        last.len += 1;
        last.segment.set(last.len - 1, entry);
        last.segment.get(offset).expect("it was set")
    }

    /// Lets the oldest segments go that are beyond a bound: none of these offsets or later ones. Whether
    /// any went.
    pub fn retain(&mut self, now: Now, keep_from: Offset) -> bool {
        let before = self.base;
        let mut bytes: usize = self.held.bytes();
        while let Some(oldest) = self.segments.front() {
            let age = now.monotonic.since(oldest.newest);
            let left = self.next.0 - oldest.segment.first.0 - oldest.len as u64;
            let is_old = age >= self.retention.age;
            let are_many = left >= self.retention.messages && age >= SPARED;
            let is_large = bytes > self.retention.bytes && self.segments.len() > 1;
            let may_go = oldest.segment.first.0 + oldest.len as u64 <= keep_from.0;
            if !(may_go && (is_old || are_many || is_large)) {
                break;
            }
            bytes = bytes.saturating_sub(oldest.segment.bytes());
            self.drop_oldest();
        }
        self.base != before
    }

    /// The moment at which the oldest segment is too old.
    pub fn expires(&self) -> Option<Instant> {
        self.segments.front().map(|oldest| oldest.newest + self.retention.age)
    }

    /// Gives up the oldest messages before this offset, for others' memory: a segment, or what is beyond those
    /// to keep in the last of them; their bytes, 0 if there are next to no more than these.
    pub fn give_way(&mut self, before: Offset, keep: u64) -> usize {
        match self.segments.front() {
            Some(oldest) if self.len() - oldest.len as u64 >= keep && oldest.end() <= before => {
                let bytes = oldest.segment.bytes();
                self.drop_oldest();
                bytes
            }
            _ => self.thin(before, keep),
        }
    }

    /// Has the newest messages in a segment of their own, and gives up the others: where many topics have few
    /// messages each, whole segments are most of what all hold.
    fn thin(&mut self, before: Offset, keep: u64) -> usize {
        let keep = Offset(self.next.0.saturating_sub(keep)).min(before).max(self.base);
        // What is copied is to be less than what goes.
        if keep.0 - self.base.0 < self.next.0 - keep.0 {
            return 0;
        }
        let entry = |offset| self.find(Offset(offset)).and_then(|all| all.get(Offset(offset)));
        let last_gone = entry(keep.0 - 1).map(|gone| gone.time);
        let kept: Vec<_> = (keep.0..self.next.0).filter_map(entry).map(Entry::copy).collect();
        let Some(newest) = self.segments.back().map(|last| last.newest) else { return 0 };
        let bytes: usize = self.segments.iter().map(|kept| kept.segment.bytes()).sum();
        let segment = Segment::new(keep, kept.len(), Arc::clone(&self.held), self.retention.bytes);
        let len = kept.len();
        for (index, entry) in kept.into_iter().enumerate() {
            segment.set(index, entry);
        }
        let left = segment.bytes();
        self.segments.clear();
        self.segments.push_back(Kept { segment, first: keep, len, newest });
        self.base = keep;
        self.newest_gone = last_gone;
        bytes.saturating_sub(left)
    }

    /// Gives up all before this offset, by whole segments. Offsets go on.
    pub fn purge(&mut self, before: Offset) {
        while self.segments.front().is_some_and(|oldest| oldest.end() <= before) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.segments.pop_front() {
            self.base = Offset(oldest.segment.first.0 + oldest.len as u64);
            self.newest_gone = oldest.segment.entries().last().map(|newest| newest.time);
        }
    }

    /// The time of the newest message that is not kept any more.
    pub fn newest_gone(&self) -> Option<u64> {
        self.newest_gone
    }

    /// Whether this offset would be in the newest segment.
    pub fn is_newest(&self, offset: Offset) -> bool {
        self.segments.back().is_none_or(|newest| newest.first <= offset)
    }

    /// The segment that has this message.
    pub fn find(&self, offset: Offset) -> Option<&Arc<Segment>> {
        if offset < self.base || offset >= self.next {
            return None;
        }
        // Most readers are at the newest.
        let newest = self.segments.back().map(|kept| &kept.segment);
        if newest.is_some_and(|newest| newest.first <= offset) {
            return newest;
        }
        let after = self.segments.partition_point(|kept| kept.first <= offset);
        self.segments.get(after.checked_sub(1)?).map(|kept| &kept.segment)
    }

    /// The segments from the one with this message on, as far as they have so many from there.
    pub fn upwards(&self, from: Offset, messages: usize) -> Vec<Arc<Segment>> {
        let begin = self.segments.partition_point(|kept| kept.end() <= from);
        let enough = from.0.saturating_add(messages as u64);
        let kept = self.segments.range(begin..);
        let kept = kept.take_while(|kept| kept.segment.first.0 < enough);
        kept.map(|kept| Arc::clone(&kept.segment)).collect()
    }

    /// The segments from the one with the message before this one down, as far as they have so many.
    pub fn downwards(&self, before: Offset, messages: usize) -> Vec<Arc<Segment>> {
        let end = self.segments.partition_point(|kept| kept.segment.first < before);
        let enough = before.0.saturating_sub(messages as u64);
        let kept = self.segments.range(..end).rev();
        let kept = kept.take_while(|kept| kept.end().0 > enough);
        kept.map(|kept| Arc::clone(&kept.segment)).collect()
    }

    /// The first message that is not older than this.
    pub fn since(&self, time: u64) -> Offset {
        let is_before =
            |kept: &Kept| kept.segment.entries().last().is_some_and(|newest| newest.time < time);
        let after = self.segments.partition_point(is_before);
        let Some(kept) = self.segments.get(after) else { return self.next };
        let older = kept.segment.entries().take_while(|entry| entry.time < time).count();
        Offset(kept.segment.first.0 + older as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{name::TopicName, position::Epoch};

    struct Log {
        ring: Ring,
        encoder: Encoder,
        all: Arc<AtomicUsize>,
    }

    fn at(ms: u64) -> Now {
        Now { monotonic: Instant(1_000 * ms), unix_ms: ms }
    }

    impl Log {
        fn new(messages: u64, bytes: usize) -> Self {
            let all = Arc::default();
            let held = Held::new(Arc::clone(&all));
            let retention = Retention { messages, bytes, ..Retention::default() };
            let topic = TopicName::parse("t").expect("a name");
            let encoder = Encoder::new(&topic, Epoch(1));
            Self { ring: Ring::new(Offset(1), retention, held), encoder, all }
        }

        fn append(&mut self, data: usize, ms: u64) -> Offset {
            let data = vec![b'x'; data];
            let message = Message { data: &data, ..Message::default() };
            let offset = self.ring.append(&self.encoder, &message, at(ms)).offset;
            self.ring.retain(at(ms), Offset::MAX);
            offset
        }

        /// L1: all from the base to the head are there, and no others.
        fn check(&self) {
            let ring = &self.ring;
            let found = |offset: u64| {
                let segment = ring.find(Offset(offset));
                let entry = segment.and_then(|segment| segment.get(Offset(offset)));
                entry.is_some_and(|entry| entry.offset.0 == offset)
            };
            assert!((ring.base.0..ring.next.0).all(found));
            assert!(!found(ring.base.0 - 1) && !found(ring.next.0));
            let bytes: usize = ring.segments.iter().map(|kept| kept.segment.bytes()).sum();
            assert_eq!(bytes, ring.held.bytes());
            assert_eq!(bytes, self.all.load(Ordering::Relaxed));
        }
    }

    #[test]
    fn offsets_follow_each_other_whatever_goes() {
        let mut log = Log::new(100, 1 << 20);
        for n in 1..=1_000 {
            assert_eq!(log.append(10, n * 1_000), Offset(n));
            log.check();
            // A segment more than were asked for at most, and what came within the last two seconds.
            assert!(log.ring.len() <= 102 + SEGMENT_ENTRIES as u64, "{}", log.ring.len());
        }
        assert!(log.ring.len() >= 100);
    }

    #[test]
    fn a_burst_does_not_overrun_its_readers() {
        let mut log = Log::new(100, 1 << 30);
        for n in 0..10_000 {
            log.append(10, n / 100);
        }
        assert_eq!(log.ring.base(), Offset(1), "all of it is younger than two seconds");
        log.append(10, 5_000);
        log.check();
        assert!(log.ring.len() <= 100 + SEGMENT_ENTRIES as u64);
    }

    #[test]
    fn bytes_are_bounded_whatever_the_messages() {
        for data in [0, 100, 10_000, 200_000] {
            let mut log = Log::new(u64::MAX, 1 << 20);
            for n in 0..2_000 {
                log.append(data, n);
                let one = data + 1_000 + SEGMENT_ENTRIES * size_of::<OnceLock<Entry>>();
                let bytes = log.ring.held.bytes();
                assert!(bytes <= (1 << 20) + one, "{bytes} of {data}");
            }
            log.check();
            assert!(!log.ring.is_empty(), "the newest stays");
        }
    }

    #[test]
    fn what_is_old_goes_and_offsets_stay() {
        let mut log = Log::new(1_000, 1 << 20);
        for n in 0..200 {
            log.append(10, n);
        }
        let day = Duration::from_secs(24 * 60 * 60);
        log.ring.retain(at(0).after(day), Offset::MAX);
        assert_eq!(log.ring.base(), Offset(1), "its segment's newest is younger");
        log.ring.retain(at(3).after(day), Offset::MAX);
        assert_eq!(log.ring.base(), Offset(5));
        log.ring.retain(at(300).after(day), Offset::MAX);
        assert_eq!((log.ring.base(), log.ring.next()), (Offset(201), Offset(201)));
        assert_eq!(log.all.load(Ordering::Relaxed), 0);
        log.check();
        assert_eq!(log.append(10, 7), Offset(201));
    }

    /// A clock that is set back or forward expires nothing, and time never runs backwards.
    #[test]
    fn a_clock_that_jumps_expires_nothing() {
        let mut log = Log::new(1_000, 1 << 20);
        for (step, unix_ms) in [1_000, 5, 1 << 41, 7].into_iter().enumerate() {
            let now = Now { monotonic: Instant(step as u64), unix_ms };
            let message = Message { data: b"x", ..Message::default() };
            log.ring.append(&log.encoder, &message, now);
            log.ring.retain(now, Offset::MAX);
        }
        log.check();
        let time = |n| log.ring.find(Offset(n)).and_then(|s| s.get(Offset(n))).map(|e| e.time);
        assert_eq!([1, 2, 3, 4].map(|n| time(n).expect("kept")), [1_000, 1_000, 1 << 41, 1 << 41]);
    }

    #[test]
    fn a_reader_keeps_its_segment_counted() {
        let mut log = Log::new(10, 1 << 20);
        for n in 0..64 {
            log.append(10, n);
        }
        let read = Arc::clone(log.ring.find(Offset(1)).expect("kept"));
        log.ring.purge(Offset::MAX);
        assert_eq!(log.all.load(Ordering::Relaxed), read.bytes());
        drop(read);
        assert_eq!(log.all.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn nothing_goes_that_is_to_be_kept() {
        let mut log = Log::new(10, 1 << 20);
        for n in 0..100 {
            let message = Message { data: b"x", ..Message::default() };
            log.ring.append(&log.encoder, &message, at(n));
        }
        log.ring.retain(at(1 << 40), Offset(30));
        assert!((20..=30).contains(&log.ring.base().0), "{:?}", log.ring.base());
    }

    /// However its segments lie, a log gives up all but its newest messages when others need the memory; what
    /// is not to go yet stays.
    #[test]
    fn a_log_gives_way_down_to_its_newest_messages() {
        for (messages, keep) in (1..=200).flat_map(|n| [(n, KEPT_IN_MEMORY), (n, KEPT_OF_DURABLE)])
        {
            let mut log = Log::new(1_000, 1 << 20);
            for n in 0..messages {
                log.append(10, n);
            }
            let whole = log.ring.held.bytes();
            let reader = log.ring.find(Offset(1)).cloned().expect("it is there");
            while log.ring.give_way(log.ring.next(), keep) > 0 {
                assert!(log.ring.len() >= keep.min(messages));
            }
            assert!(log.ring.len() < 2 * keep, "{messages}: {}", log.ring.len());
            assert_eq!(log.ring.next(), Offset(messages + 1));
            // Who reads what has gone still has it.
            assert!(reader.get(Offset(1)).is_some_and(|entry| entry.data() == [b'x'; 10]));
            drop(reader);
            log.check();
            if messages >= 3 * KEPT_IN_MEMORY {
                assert!(4 * log.ring.held.bytes() < 3 * whole, "{messages}");
            }
            for n in messages..messages + 100 {
                log.append(10, n);
            }
            log.check();
        }
        let mut log = Log::new(1_000, 1 << 20);
        for n in 0..60 {
            log.append(10, n);
        }
        while log.ring.give_way(Offset(20), KEPT_IN_MEMORY) > 0 {}
        assert!(log.ring.base() <= Offset(20), "{:?}", log.ring.base());
        log.check();
    }

    #[test]
    fn since_a_time_is_found() {
        let mut log = Log::new(1_000, 1 << 20);
        for n in 0..300 {
            log.append(10, 10 * n);
        }
        assert_eq!(log.ring.since(0), Offset(1));
        assert_eq!(log.ring.since(2_991), log.ring.next());
        assert_eq!(log.ring.since(2_990), Offset(300));
        assert_eq!(log.ring.since(2_985), Offset(300));
    }
}
