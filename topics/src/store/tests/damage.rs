//! Bytes that are not what was written: torn is told from lost, and nothing is ever made up.

use std::collections::BTreeMap;

use super::{
    from_environment,
    world::{Given, given, name, read_all},
};
use crate::{
    entry::Message,
    position::{Epoch, Offset},
    store::{
        Engine, NewTopic, Record, Retention, Settings, StoreError, TopicId, Unstaged,
        faulty::{Faulty, Random},
        format::{BATCH_HEAD, Batch, BatchKind, Fields, Kind, SECTOR},
        journal::scan,
    },
};

pub(super) fn settings() -> Settings {
    Settings {
        journal_bytes: 64 << 10,
        max_waiting_files: 3,
        segment_bytes: 2_000,
        max_open_segments: 2,
        max_bytes: 1 << 40,
        batch_bytes: 8 << 10,
        flush_bytes: 1_000,
        pending_bytes: 16 << 10,
        pack_bytes: 4_000,
        max_runs: 2,
        catalogue_bytes: 500,
        accepts_damage: false,
    }
}

pub(super) fn open(disk: &Faulty) -> Result<Engine<Faulty>, StoreError> {
    Engine::open(disk.clone(), settings(), [disk.calls(), 2, 3])
}

pub(super) fn create(engine: &mut Engine<Faulty>, text: &str) -> TopicId {
    let new = NewTopic {
        name: &name(text),
        epoch: Epoch(7),
        first: Offset(1),
        is_loose: false,
        settings: "",
        retention: Retention::default(),
    };
    let id = engine.create(&new).expect("it is taken");
    commit(engine);
    id
}

fn commit(engine: &mut Engine<Faulty>) {
    let disk = engine.disk().clone();
    let commit = engine.commit().expect("room").expect("something");
    engine.finish_commit(commit.run(&disk)).expect("written");
}

fn append(engine: &mut Engine<Faulty>, topic: TopicId, data: &[u8]) -> Result<u64, Unstaged> {
    let offset = engine.topic(topic).expect("a topic").next;
    let message = Message { data, ..Message::default() };
    engine.append(topic, &Record { offset, time: 5, id: None, closes: false, message })?;
    Ok(offset.0)
}

/// Appends a message in a batch of its own.
pub(super) fn publish(engine: &mut Engine<Faulty>, topic: TopicId, data: &[u8]) -> u64 {
    let offset = append(engine, topic, data).expect("it is taken");
    commit(engine);
    offset
}

pub(super) fn texts(engine: &mut Engine<Faulty>, topic: TopicId) -> Vec<String> {
    let (messages, _) = read_all(engine, topic, 1, 1_000).expect("it can be read");
    messages.into_iter().map(|(_, given)| String::from_utf8(given.data).expect("text")).collect()
}

/// A store whose journal has batches of two topics, in turn.
fn two_topics() -> (Faulty, TopicId, TopicId) {
    let disk = Faulty::new(1);
    let mut engine = open(&disk).expect("it can be opened");
    engine.settle(0).expect("written");
    let (a, b) = (create(&mut engine, "a"), create(&mut engine, "b"));
    for at in 0..3 {
        publish(&mut engine, a, format!("a{at}").as_bytes());
        publish(&mut engine, b, format!("b{at}").as_bytes());
    }
    (disk, a, b)
}

/// Changes a byte of the first place that has these bytes, at this distance from it.
pub(super) fn spoil(disk: &Faulty, file: &str, bytes: &[u8], distance: isize) {
    for (path, mut content) in disk.files(file) {
        if let Some(at) = content.windows(bytes.len()).position(|window| window == bytes) {
            let at = at.checked_add_signed(distance).expect("within the file");
            content[at] ^= 0x10;
            disk.overwrite(&path, content);
            return;
        }
    }
    panic!("{file} has no {bytes:?}");
}

#[test]
fn a_batch_that_no_later_one_follows_was_torn() {
    let (disk, a, b) = two_topics();
    spoil(&disk, "journal", b"b2", 1);
    let mut engine = open(&disk).expect("it can be opened");
    assert!(engine.notes().is_empty() && engine.topics().all(|topic| topic.damage.is_none()));
    assert_eq!(texts(&mut engine, a), ["a0", "a1", "a2"]);
    assert_eq!(texts(&mut engine, b), ["b0", "b1"]);
    assert_eq!(publish(&mut engine, b, b"again"), 3);
}

#[test]
fn a_batch_that_a_later_one_follows_was_lost_and_its_topics_are_read_only() {
    let (disk, a, b) = two_topics();
    spoil(&disk, "journal", b"b1", 1);
    for _ in 0..2 {
        let mut engine = open(&disk).expect("it can be opened");
        let damage = engine.topic(b).expect("it is there").damage.expect("it is told");
        assert!(damage.contains("journal/0000 is not what was written there at bytes"), "{damage}");
        assert_eq!(engine.topic(a).expect("it is there").damage, None);
        assert_eq!(texts(&mut engine, b), ["b0", "b2"]);
        let Err(Unstaged::Refused(refusal)) = append(&mut engine, b, b"x") else {
            panic!("it is read-only")
        };
        let refusal = refusal.to_string();
        assert!(refusal.starts_with("read-only: topic \"b\" is damaged: "), "{refusal}");
        assert_eq!(disk.files("journal/damaged-").len(), 1);
        disk.kill();
    }
    let mut engine = open(&disk).expect("it can be opened");
    publish(&mut engine, a, b"a3");
    engine.accept_damage(b).expect("it is taken");
    commit(&mut engine);
    assert_eq!(publish(&mut engine, b, b"b3"), 4);
    drop(engine);
    let mut engine = open(&disk).expect("it can be opened");
    assert_eq!(engine.topic(b).expect("it is there").damage, None);
    assert_eq!(texts(&mut engine, b), ["b0", "b2", "b3"]);
    assert_eq!(texts(&mut engine, a), ["a0", "a1", "a2", "a3"]);
}

/// The number of the topic may be what is lost.
#[test]
fn a_lost_record_that_no_topic_can_be_named_for_makes_all_read_only() {
    let (disk, a, b) = two_topics();
    // The length of the record.
    spoil(&disk, "journal", b"b1", -40);
    let engine = open(&disk).expect("it can be opened");
    for topic in [a, b] {
        assert!(engine.topic(topic).expect("it is there").damage.is_some());
    }
    assert_eq!(engine.notes().len(), 1);
}

#[test]
fn a_journal_file_without_its_first_sector_is_found_by_what_the_one_before_says() {
    let (disk, a, b) = two_topics();
    spoil(&disk, "journal", b"rsockjnl", 3);
    let mut engine = open(&disk).expect("it can be opened");
    assert_eq!(texts(&mut engine, a), ["a0", "a1", "a2"]);
    assert_eq!(texts(&mut engine, b), ["b0", "b1", "b2"]);
}

/// A file is used again without being emptied, and numbers of batches that were torn are given again.
#[test]
fn batches_of_an_earlier_use_of_a_file_are_none() {
    let batch = |generation, number, synced| {
        let mut bytes = vec![0; BATCH_HEAD];
        Fields { data: b"x", ..Fields::empty(Kind::Message, 1) }.write(&mut bytes);
        Batch { kind: BatchKind::Records, number, synced }.finish(generation, &mut bytes);
        bytes
    };
    for stale in [batch(1, 6, 4), batch(1, 7, 6)] {
        let bytes = [vec![0; SECTOR], batch(2, 5, 4), stale, batch(1, 8, 7)].concat();
        let scan = scan(&bytes, 2, 5);
        assert_eq!((scan.batches.len(), scan.holes.len(), scan.next_batch), (1, 0, 6));
    }
    let lost = [vec![0; 2 * SECTOR], batch(2, 6, 5)].concat();
    assert_eq!(scan(&lost, 2, 5).holes.len(), 1, "6 says that 5 was on disk");
    let torn = [vec![0; 2 * SECTOR], batch(2, 6, 4)].concat();
    assert_eq!(scan(&torn, 2, 5).holes.len(), 0, "6 was written before 5 was on disk");
}

/// A topic with segments, one with little in a pack, and a journal that begins behind them.
fn with_segments() -> (Faulty, TopicId, TopicId) {
    let (disk, a, b) = two_topics();
    let mut engine = open(&disk).expect("it can be opened");
    for at in 3..60 {
        publish(&mut engine, a, format!("a{at} {}", "-".repeat(100)).as_bytes());
    }
    engine.close(0).expect("closed");
    (disk, a, b)
}

#[test]
fn an_end_of_a_segment_that_is_lost_is_not_taken_for_torn_and_its_offsets_are_not_given_again() {
    let (disk, a, b) = with_segments();
    spoil(&disk, "topics/", b"a59", 1);
    let mut engine = open(&disk).expect("it can be opened");
    let topic = engine.topic(a).expect("it is there");
    let damage = topic.damage.expect("it is told");
    assert!(damage.contains("segment is not what was written there from byte"), "{damage}");
    assert!(topic.next.0 > 60, "{}", topic.next);
    assert_eq!(texts(&mut engine, a).len(), 59);
    assert_eq!(engine.topic(b).expect("it is there").damage, None);
    assert_eq!(texts(&mut engine, b).len(), 3);
}

/// The records say themselves what they are.
#[test]
fn a_segment_without_its_head_is_whole() {
    let (disk, a, _) = with_segments();
    let times = |engine: &Engine<Faulty>| {
        let segments = &engine.topics.get(a.0).expect("a topic").segments;
        segments.iter().map(|segment| segment.time).collect::<Vec<_>>()
    };
    let before = times(&open(&disk.copy()).expect("it can be opened"));
    for (path, mut bytes) in disk.files("topics/") {
        bytes[3] ^= 1;
        disk.overwrite(&path, bytes);
    }
    let mut engine = open(&disk).expect("it can be opened");
    assert!(before.iter().all(|time| *time > 0), "{before:?}");
    assert_eq!(times(&engine), before);
    assert_eq!(texts(&mut engine, a).len(), 60);
    assert_eq!(engine.topic(a).expect("it is there").damage, None);
    assert_eq!(publish(&mut engine, a, b"more"), 61);
}

/// What lies behind a lost record of the last segment is there, whether the journal goes on behind it or not.
#[test]
fn a_lost_record_of_the_last_segment_makes_its_topic_read_only_and_costs_no_other() {
    for goes_on in [false, true] {
        let (disk, a, _) = with_segments();
        if goes_on {
            let mut engine = open(&disk).expect("it can be opened");
            publish(&mut engine, a, b"behind");
            disk.kill();
        }
        spoil(&disk, "topics/", b"a57 -", 1);
        let all = if goes_on { 61 } else { 60 };
        for (accepts, is_damaged) in [(false, true), (true, false), (false, false)] {
            let settings = Settings { accepts_damage: accepts, ..settings() };
            let mut engine =
                Engine::open(disk.clone(), settings, [disk.calls(), 2, 3]).expect("opened");
            let state = engine.topic(a).expect("it is there");
            assert_eq!(state.next, Offset(all + 1));
            let noted = engine.notes().iter().any(|it| it.starts_with("\"a\" goes on without"));
            assert_eq!(noted, accepts, "{:?}", engine.notes());
            assert_eq!(texts(&mut engine, a).len() as u64, all - 1);
            let damage = state.damage.unwrap_or_default();
            assert_eq!(damage.contains("segment is not what was"), is_damaged, "{damage}");
            disk.kill();
        }
    }
}

#[test]
fn an_end_of_a_segment_that_was_accepted_as_lost_stays_accepted() {
    for publishes in [false, true] {
        let (disk, a, _) = with_segments();
        spoil(&disk, "topics/", b"a59", 1);
        let mut engine = open(&disk).expect("it can be opened");
        engine.accept_damage(a).expect("it is taken");
        commit(&mut engine);
        let next = engine.topic(a).expect("it is there").next;
        for life in 0..4 {
            let topic = engine.topic(a).expect("it is there");
            assert_eq!(topic.damage, None, "life {life}, {publishes}");
            if publishes {
                assert_eq!(publish(&mut engine, a, b"new"), next.0 + life);
            } else {
                assert_eq!(topic.next, next, "life {life}");
            }
            if life % 2 == 0 {
                disk.kill();
            } else {
                engine.close(0).expect("closed");
            }
            drop(engine);
            engine = open(&disk).expect("it can be opened");
        }
    }
}

#[test]
fn a_lost_record_within_a_log_is_told_to_who_reads_it() {
    let (disk, a, _) = with_segments();
    spoil(&disk, "topics/", b"a5 -", 1);
    let mut engine = open(&disk).expect("it can be opened");
    let (messages, damage) = read_all(&mut engine, a, 1, 1_000).expect("it can be read");
    let damage = damage.expect("it is told");
    assert!(damage.starts_with("the disk has lost messages: topics/"), "{damage}");
    let offsets: Vec<_> = messages.iter().map(|(offset, _)| *offset).collect();
    assert_eq!(offsets, (1..=60).filter(|offset| *offset != 6).collect::<Vec<_>>());
}

/// Whatever byte of a record is lost, in a segment and in a pack, and wherever a reader begins: it is told, and
/// nothing else is lost that can be told from it.
#[test]
fn a_lost_byte_of_a_record_costs_what_cannot_be_told_from_it_and_is_told_to_all_who_come_by() {
    let (disk, a, b) = with_segments();
    for (file, text, topic, lost, whole) in
        [("topics/", &b"a5 -"[..], a, 6_u64, 60_u64), ("packs/", b"b1", b, 2, 3)]
    {
        for at in 0..42 {
            let disk = disk.copy();
            spoil(&disk, file, text, at - 40);
            for from in 1..=lost {
                let mut engine = open(&disk.copy()).expect("it can be opened");
                let (messages, damage) = read_all(&mut engine, topic, from, 1).expect("readable");
                let damage = damage.unwrap_or_else(|| panic!("byte {at} from {from} is not told"));
                assert!(damage.starts_with("the disk has lost messages: "), "{damage}");
                let offsets: Vec<_> = messages.iter().map(|(offset, _)| *offset).collect();
                // Without its length nobody knows where the next one begins.
                let is_length = at < 4;
                let is_there = |offset: &u64| {
                    *offset != lost && (!is_length || *offset < lost || *offset > lost + 16)
                };
                let expected: Vec<_> = (from..=whole).filter(is_there).collect();
                if is_length {
                    assert!(expected.iter().all(|offset| offsets.contains(offset)), "{offsets:?}");
                    assert!(!offsets.contains(&lost), "{offsets:?}");
                } else {
                    assert_eq!(offsets, expected, "byte {at} from {from}");
                }
            }
        }
    }
}

/// Any bytes in any file: opening and reading end, without a panic, and every message is one that was
/// published with this number.
#[test]
fn any_bytes_are_read_without_panic_and_no_message_is_made_up() {
    let mut random = Random(11);
    let (clean, ..) = two_topics();
    let (closed, ..) = with_segments();
    let mut published = BTreeMap::new();
    for disk in [&clean, &closed] {
        // Opening writes, so it is given a copy.
        let mut engine = open(&disk.copy()).expect("it can be opened");
        let topics: Vec<_> = engine.topics().collect();
        for topic in topics {
            let (messages, _) = read_all(&mut engine, topic.id, 1, 5_000).expect("readable");
            for (offset, given) in messages {
                published.insert((topic.id, offset), given);
            }
        }
    }
    for round in 0..from_environment("BYTES").unwrap_or(600) {
        let disk = if round % 2 == 0 { clean.copy() } else { closed.copy() };
        let files = disk.files("");
        for _ in 0..1 + random.below(3) {
            let (path, mut bytes) = files[random.below(files.len() as u64) as usize].clone();
            let end = if random.once_in(2) { bytes.len() } else { bytes.len().min(2_000) };
            for _ in 0..1 + random.below(8) {
                let at = random.below(end as u64) as usize;
                match random.below(4) {
                    _ if bytes.is_empty() => bytes.push(random.next() as u8),
                    0 => bytes.truncate(at),
                    1 => bytes[at] ^= 1 << random.below(8),
                    2 => {
                        // A piece of the same file, where it does not belong.
                        let len = (random.below(600) as usize).min(bytes.len());
                        let from = random.below((bytes.len() - len) as u64 + 1) as usize;
                        let piece = bytes[from..from + len].to_vec();
                        let to = at.min(bytes.len() - len);
                        bytes[to..to + len].copy_from_slice(&piece);
                    }
                    _ => {
                        for byte in bytes.iter_mut().skip(at).take(random.below(40) as usize) {
                            *byte = random.next() as u8;
                        }
                    }
                }
                if bytes.len() <= at {
                    break;
                }
            }
            disk.overwrite(&path, bytes);
        }
        let Ok(mut engine) = open(&disk) else { continue };
        let topics: Vec<_> = engine.topics().collect();
        for topic in topics {
            let read = read_all(&mut engine, topic.id, topic.base.0, 700);
            let Ok((messages, _)) = read else { continue };
            for (offset, given) in messages {
                let known: Option<&Given> = published.get(&(topic.id, offset));
                assert_eq!(known, Some(&given), "round {round}: message {offset} of {topic:?}");
            }
        }
    }
}

#[test]
fn a_record_is_read_as_it_was_given() {
    let disk = Faulty::new(1);
    let mut engine = open(&disk).expect("it can be opened");
    engine.settle(0).expect("written");
    let topic = create(&mut engine, "a");
    let message = Message {
        data: b"data",
        from: Some("ann"),
        key: Some("k\u{e4}y"),
        headers: Some("{\"edits\":1}"),
        is_tombstone: true,
        ..Message::default()
    };
    let record = Record { offset: Offset(1), time: 77, id: Some(5 << 90), closes: true, message };
    engine.append(topic, &record).expect("it is taken");
    commit(&mut engine);
    let disk = engine.disk().clone();
    for is_in_segment in [false, true] {
        if is_in_segment {
            engine = open(&disk).expect("it can be opened");
        }
        let block = engine.read(topic, Offset(1), 10).expect("it is there").read(&disk);
        let block = block.expect("it can be read");
        let read = block.records().next().expect("one record");
        assert_eq!(given(&read), given(&record));
        let Message { from, key, headers, is_tombstone, .. } = read.message;
        assert_eq!((from, key, headers), (message.from, message.key, message.headers));
        assert!(is_tombstone && read.offset == Offset(1));
    }
    let Err(Unstaged::Refused(refusal)) = append(&mut engine, topic, b"x") else {
        panic!("it is closed")
    };
    assert_eq!(refusal.to_string(), "closed: the last message of topic \"a\" is 1");
}
