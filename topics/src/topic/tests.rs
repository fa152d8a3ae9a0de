use std::{
    ops::Range,
    task::{Context, Poll, Waker},
};

use super::{durable::PORTION, *};
use crate::{
    cursor::{Cursor, Fill, Sink},
    entry::Form,
    history::{Backward, page},
    options::{HistoryOptions, HistoryPageOptions, Lag, SubscribeOptions},
    settings::Retention,
};

const EPOCH: Epoch = Epoch(0xd);

/// A message as the disk has it.
#[derive(Clone, Debug)]
struct Written {
    offset: Offset,
    time: u64,
    id: Option<DedupKey>,
    data: Vec<u8>,
}

impl Written {
    fn staged(&self) -> Staged<'_> {
        let message = Message { data: &self.data, ..Message::default() };
        let Self { offset, time, id, .. } = *self;
        Staged { offset, time, id, closes: false, message }
    }
}

/// A disk that takes what it is given, and has lost what it is told to lose.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<DiskState>>);

#[derive(Debug, Default)]
struct DiskState {
    written: Vec<Written>,
    lost: Vec<u64>,
    is_full: bool,
    base: u64,
    /// Bytes that were read.
    read: usize,
}

impl Journal for Disk {
    fn bind(&self, _: &Arc<Topic>) {}

    fn take(&self, staged: &Staged<'_>) -> Result<(), Refusal> {
        let mut disk = lock(&self.0);
        if disk.is_full {
            return Err(Refusal::disk_behind("t"));
        }
        let Staged { offset, time, id, message, .. } = *staged;
        disk.written.push(Written { offset, time, id, data: message.data.to_vec() });
        Ok(())
    }

    fn read(
        &self,
        from: Offset,
        max_bytes: usize,
        give: &mut dyn FnMut(Staged<'_>),
    ) -> Result<Offset, Refusal> {
        let mut guard = lock(&self.0);
        let disk = &mut *guard;
        let mut bytes = 0;
        let mut next = from;
        for written in disk.written.iter().filter(|written| written.offset >= from) {
            if bytes >= max_bytes {
                break;
            }
            next = written.offset.next();
            if disk.lost.contains(&written.offset.0) || written.offset.0 < disk.base {
                continue;
            }
            bytes += written.data.len();
            give(written.staged());
        }
        disk.read += bytes;
        Ok(next)
    }

    fn trim(&self, base: Offset) -> Result<(), Refusal> {
        lock(&self.0).base = base.0;
        Ok(())
    }

    fn delete(&self) -> Result<(), Refusal> {
        Ok(())
    }
}

struct World {
    disk: Disk,
    topic: Topic,
    now: Now,
}

struct Reader {
    credit: usize,
    items: Vec<String>,
    now: Now,
}

impl Sink for Reader {
    fn has_room(&mut self) -> bool {
        self.credit > 0
    }

    fn send(&mut self, item: &rsock_proto::SharedPayload) -> Result<(), Refusal> {
        self.credit -= 1;
        let payload = item.to_payload();
        let bytes = if payload.data.is_empty() {
            payload.metadata.unwrap_or_default()
        } else {
            payload.data
        };
        self.items.push(String::from_utf8_lossy(&bytes).into_owned());
        Ok(())
    }

    fn now(&self) -> Now {
        self.now
    }
}

fn settings(messages: u64) -> Arc<TopicSettings> {
    let retention = Retention { messages, ..Retention::default() };
    Arc::new(TopicSettings { kind: Kind::Durable, retention, ..TopicSettings::default() })
}

fn open(disk: &Disk, messages: u64, now: Now) -> Topic {
    let written = lock(&disk.0).written.clone();
    let next = written.last().map_or(Offset(1), |last| last.offset.next());
    let recovered = Recovered {
        epoch: EPOCH,
        base: Offset(1),
        next,
        is_closed: false,
        time: written.last().map_or(0, |last| last.time),
        damage: None,
    };
    let name = TopicName::parse("t").expect("a name");
    let journal = Box::new(disk.clone());
    let topic = Topic::durable(name, &recovered, journal, settings(messages), &Arc::default());
    for written in written.iter().rev().take(10).rev() {
        topic.restore(&written.staged(), now);
    }
    topic.restored(&recovered);
    topic
}

impl World {
    fn new(messages: u64) -> Self {
        let (disk, now) = (Disk::default(), Now { monotonic: Instant(1 << 50), unix_ms: 1 });
        let topic = open(&disk, messages, now);
        Self { disk, topic, now }
    }

    fn publish(&mut self, data: &str, id: Option<u64>) -> Result<Published, Refusal> {
        self.now = self.now.after(Duration::from_secs(3));
        let message = Message { data: data.as_bytes(), ..Message::default() };
        let id = id.map(|id| DedupKey([id, 0]));
        self.topic.publish(&Publish { message, id, ..Publish::default() }, self.now)
    }

    fn fill(&mut self, count: u64) {
        for _ in 0..count {
            let next = lock(&self.disk.0).written.len() + 1;
            self.publish(&next.to_string(), None).expect("room");
        }
        let next = Offset(lock(&self.disk.0).written.len() as u64 + 1);
        self.topic.commit(next);
    }

    fn cursor(&self, from: Start, lag: Lag) -> Cursor {
        let options = SubscribeOptions { from, lag, ..SubscribeOptions::default() };
        Cursor::new(&self.topic, &options, Some(Form::Plain), 1, self.now).expect("a cursor")
    }

    /// Reads as a stream does: what is on disk is loaded when it is asked for.
    fn read(&self, cursor: &mut Cursor, credit: usize) -> (Vec<String>, Fill) {
        let mut reader = Reader { credit, items: Vec::new(), now: self.now };
        loop {
            match cursor.fill(&self.topic, &mut reader) {
                Fill::Stored(wanted) => {
                    let (segment, next) = self.topic.load(wanted, 20, self.now).expect("a disk");
                    if let Err(refusal) = cursor.give(segment, next, &self.topic) {
                        return (reader.items, Fill::Failed(refusal));
                    }
                }
                fill => return (reader.items, fill),
            }
        }
    }

    fn committed(&self, offset: u64) -> Poll<Result<(), Refusal>> {
        self.topic.poll_committed(Offset(offset), &Context::from_waker(Waker::noop()))
    }
}

fn numbers(range: Range<u64>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

/// A reader never sees a message that could still be taken back.
#[test]
fn messages_are_seen_and_acknowledged_when_they_are_on_disk() {
    let mut world = World::new(100);
    let mut cursor = world.cursor(Start::New, Lag::Gap);
    assert_eq!(world.publish("a", None).expect("room").offset, Some(Offset(1)));
    assert_eq!(world.publish("b", None).expect("room").offset, Some(Offset(2)));
    assert_eq!(world.read(&mut cursor, 9), (vec![], Fill::CaughtUp));
    assert!(world.committed(1).is_pending());
    let version = world.topic.version();
    world.topic.commit(Offset(2));
    assert!(world.topic.version() > version, "readers are told");
    assert_eq!(world.committed(1), Poll::Ready(Ok(())));
    assert!(world.committed(2).is_pending());
    assert_eq!(world.read(&mut cursor, 9), (vec!["a".to_owned()], Fill::CaughtUp));
    world.topic.commit(Offset(3));
    // A commit that is told late takes nothing back.
    world.topic.commit(Offset(2));
    assert_eq!(world.read(&mut cursor, 9).0, ["b"]);
}

#[test]
fn the_second_of_a_key_waits_for_the_first() {
    let mut world = World::new(100);
    assert!(!world.publish("a", Some(7)).expect("room").is_duplicate);
    let again = world.publish("a", Some(7)).expect("room");
    assert_eq!((again.offset, again.is_duplicate), (Some(Offset(1)), true));
    assert!(world.committed(1).is_pending());
    world.topic.commit(Offset(2));
    assert_eq!(world.committed(1), Poll::Ready(Ok(())));
}

#[test]
fn what_the_disk_does_not_take_leaves_nothing_behind() {
    let mut world = World::new(100);
    lock(&world.disk.0).is_full = true;
    let refused = world.publish("a", Some(7)).expect_err("full");
    assert!(refused.to_string().starts_with("disk behind: "), "{refused}");
    lock(&world.disk.0).is_full = false;
    let published = world.publish("a", Some(7)).expect("room");
    assert_eq!((published.offset, published.is_duplicate), (Some(Offset(1)), false));
}

#[test]
fn a_disk_that_fails_makes_its_topic_read_only_and_lies_to_nobody() {
    let mut world = World::new(100);
    world.fill(3);
    world.publish("lost?", None).expect("room");
    let _ = world.topic.fail("fdatasync: I/O error");
    let Poll::Ready(Err(Refusal::Failed(text))) = world.committed(4) else { panic!("not told") };
    assert!(text.starts_with("outcome unknown: fdatasync: I/O error"), "{text}");
    assert_eq!(world.committed(3), Poll::Ready(Ok(())));
    let refused = world.publish("more", None).expect_err("read-only");
    assert!(refused.to_string().starts_with("read-only: "), "{refused}");
    let mut cursor = world.cursor(Start::Oldest, Lag::Gap);
    assert_eq!(world.read(&mut cursor, 9), (numbers(1..4), Fill::CaughtUp));
}

#[test]
fn a_last_message_ends_its_topic_when_it_is_on_disk() {
    let mut world = World::new(100);
    let message = Message { data: b"end", ..Message::default() };
    let last = Publish { message, closes: true, ..Publish::default() };
    world.topic.publish(&last, world.now).expect("room");
    assert_eq!(world.topic.ended(), Ended::Not);
    let refused = world.publish("behind", None).expect_err("closing");
    assert!(refused.to_string().starts_with("closed: "), "{refused}");
    world.topic.commit(Offset(2));
    assert_eq!(world.topic.ended(), Ended::Closed);
    let mut cursor = world.cursor(Start::Oldest, Lag::Gap);
    assert_eq!(world.read(&mut cursor, 9), (vec!["end".to_owned()], Fill::Ended));
}

#[test]
fn memory_keeps_what_is_not_on_disk_yet() {
    let mut world = World::new(10);
    for _ in 0..500 {
        world.publish("x", None).expect("room");
    }
    world.topic.commit(Offset(501));
    let mut cursor = world.cursor(Start::Last(500), Lag::Gap);
    assert_eq!(world.read(&mut cursor, 1_000).0.len(), 500);
}

/// Catching up from the disk, from memory and live are one: nothing is missing between them.
#[test]
fn readers_go_on_from_the_disk_to_memory() {
    for credit in [1, 3, 1_000] {
        let mut world = World::new(10);
        world.fill(300);
        let mut cursor = world.cursor(Start::Oldest, Lag::Gap);
        let mut got = Vec::new();
        while got.len() < 300 {
            let (items, _) = world.read(&mut cursor, credit);
            assert!(!items.is_empty());
            got.extend(items);
        }
        assert_eq!(got, numbers(1..301));
        world.fill(100);
        let mut rest = Vec::new();
        while rest.len() < 100 {
            rest.extend(world.read(&mut cursor, credit).0);
        }
        assert_eq!(rest, numbers(301..401));
        let since = 1 + 3_000 * 50;
        let mut cursor = world.cursor(Start::Since(since), Lag::Gap);
        assert_eq!(world.read(&mut cursor, 1_000).0, numbers(50..401));
    }
}

#[test]
fn what_the_disk_has_lost_is_told_as_a_gap() {
    let gap = |from, to| format!(r#"{{"gap":{{"from":{from},"to":{to}}},"epoch":"{EPOCH}"}}"#);
    let mut world = World::new(10);
    world.fill(300);
    lock(&world.disk.0).lost = (1..=2).chain(20..=33).chain([50]).collect();
    let mut cursor = world.cursor(Start::Oldest, Lag::Gap);
    let (items, _) = world.read(&mut cursor, 1_000);
    let parts = [
        vec![gap(1, 2)],
        numbers(3..20),
        vec![gap(20, 33)],
        numbers(34..50),
        vec![gap(50, 50)],
        numbers(51..301),
    ];
    assert_eq!(items, parts.concat());
    let mut cursor = world.cursor(Start::Oldest, Lag::Close);
    let (items, fill) = world.read(&mut cursor, 1_000);
    assert!(items.is_empty() && matches!(fill, Fill::Failed(_)), "{fill:?}");
}

#[test]
fn a_topic_goes_on_after_a_restart() {
    let mut world = World::new(10);
    world.fill(30);
    world.publish("31", Some(9)).expect("room");
    world.topic.commit(Offset(32));
    world.topic = open(&world.disk, 10, world.now);
    let again = world.publish("31", Some(9)).expect("room");
    assert_eq!((again.offset, again.is_duplicate), (Some(Offset(31)), true));
    let position = Start::After(Position { epoch: EPOCH, after: Offset(4) });
    let mut cursor = world.cursor(position, Lag::Gap);
    assert_eq!(world.read(&mut cursor, 1_000), (numbers(5..32), Fill::CaughtUp));
    world.fill(1);
    assert_eq!(world.read(&mut cursor, 1_000).0, ["32"]);
}

#[test]
fn purged_messages_are_gone_and_told_as_a_gap() {
    let mut world = World::new(10);
    world.fill(30);
    let mut cursor = world.cursor(Start::Oldest, Lag::Gap);
    assert_eq!(world.read(&mut cursor, 2).0, numbers(1..3));
    world.publish("31", None).expect("room");
    world.topic.purge().expect("a disk");
    world.topic.commit(Offset(32));
    let gap = format!(r#"{{"gap":{{"from":3,"to":30}},"epoch":"{EPOCH}"}}"#);
    assert_eq!(world.read(&mut cursor, 9).0, [gap, "31".to_owned()]);
}

/// Pages of what is in memory, of what is on disk alone, and of both.
#[test]
fn pages_lead_through_the_disk_and_the_memory() {
    let mut world = World::new(10);
    world.fill(300);
    let in_memory = world.topic.look(world.now, |log, _| log.base().0);
    assert!((2..300).contains(&in_memory), "{in_memory}");
    let ask = |options: String| -> serde_json::Value {
        let options = HistoryPageOptions::parse(options.as_bytes()).expect("valid");
        let page = page(&world.topic, &options, world.now).expect("a page");
        serde_json::from_slice(&page).expect("JSON")
    };
    for (limit, max_bytes) in [(1, 1), (7, 1_000), (100, 500), (1_000, 3_000), (1_000, 1 << 20)] {
        for way in ["after", "before"] {
            let (mut at, mut read) = (if way == "after" { 0 } else { 301 }, Vec::new());
            loop {
                let page = ask(format!(
                    r#"{{"{way}":{at},"epoch":"{EPOCH}","limit":{limit},"max_bytes":{max_bytes}}}"#
                ));
                assert_eq!((&page["base"], &page["head"]), (&1.into(), &300.into()));
                assert_eq!(page.get("gap"), None);
                let messages = page["messages"].as_array().expect("messages");
                let numbers = messages.iter().map(|message| {
                    assert_eq!(message["offset"], message["data"]);
                    message["offset"].as_u64().expect("a number")
                });
                let mut numbers: Vec<_> = numbers.collect();
                assert!(!numbers.is_empty() && numbers.len() <= limit);
                if way == "after" {
                    read.append(&mut numbers);
                } else {
                    numbers.append(&mut read);
                    read = numbers;
                }
                match page["next"][way].as_u64() {
                    Some(next) => at = next,
                    None => break,
                }
            }
            assert_eq!(read, (1..=300).collect::<Vec<_>>(), "{limit} {max_bytes} {way}");
        }
    }
}

/// What lies behind a page is not read for each part of it.
#[test]
fn a_page_reads_little_more_of_the_disk_than_it_has() {
    let mut world = World::new(10);
    world.fill(50_000);
    let text = format!(r#"{{"before":1000,"epoch":"{EPOCH}","limit":100}}"#);
    let options = HistoryPageOptions::parse(text.as_bytes()).expect("valid");
    lock(&world.disk.0).read = 0;
    page(&world.topic, &options, world.now).expect("a page");
    let read = lock(&world.disk.0).read;
    // Seven parts of 16 messages, each read in one portion.
    assert!(read <= 7 * (PORTION + 10), "{read}");
}

/// Whoever takes nothing holds nothing, however much it has asked for.
#[test]
fn a_reader_without_room_holds_nothing_of_the_disk() {
    let mut world = World::new(10);
    world.fill(300);
    let mut cursor = world.cursor(Start::Oldest, Lag::Gap);
    // It has credit for one more, and its socket takes one.
    let mut reader = Reader { credit: 1, items: Vec::new(), now: world.now };
    while let Fill::Stored(wanted) = cursor.fill(&world.topic, &mut reader) {
        let without = world.topic.bytes();
        let (segment, next) = world.topic.load(wanted, 1_000, world.now).expect("a disk");
        assert!(world.topic.bytes() > without, "what is loaded is counted");
        cursor.give(segment, next, &world.topic).expect("it is told of gaps");
    }
    assert_eq!(reader.items, ["1"]);
    let with_it = world.topic.bytes();
    let next = cursor.next();
    drop(cursor);
    assert_eq!(world.topic.bytes(), with_it);
    let position = Position { epoch: EPOCH, after: Offset(next.0 - 1) };
    let mut cursor = world.cursor(Start::After(position), Lag::Gap);
    assert_eq!(world.read(&mut cursor, 1_000).0, numbers(2..301));
}

/// Large messages come in smaller portions, and none of them is called lost.
#[test]
fn history_goes_down_the_disk_whatever_the_size_of_messages() {
    let mut world = World::new(10);
    world.fill(300);
    for (bytes, lost) in [(1, None), (7, None), (1_000, None), (7, Some(100))] {
        lock(&world.disk.0).lost = lost.into_iter().collect();
        let options = HistoryOptions { from: Start::Oldest, ..HistoryOptions::default() };
        let mut backward = Backward::new(&world.topic, &options, Some(Form::Plain), world.now);
        let mut reader = Reader { credit: 1_000, items: Vec::new(), now: world.now };
        while let Fill::Stored(wanted) = backward.fill(&world.topic, &mut reader) {
            let (segment, from) = world.topic.load_last(wanted, bytes, world.now).expect("a disk");
            backward.give(segment, from);
        }
        let gap = |n| format!(r#"{{"gap":{{"from":{n},"to":{n}}},"epoch":"{EPOCH}"}}"#);
        let told = |n| if Some(n) == lost { gap(n) } else { n.to_string() };
        assert_eq!(reader.items, (1..301).rev().map(told).collect::<Vec<_>>(), "{bytes} {lost:?}");
    }
}
