//! Little of many topics: files that they share, which are put together, cleaned, and read when something of
//! them is lost.

use super::{
    damage::{create, open, publish, settings, spoil, texts},
    world::read_all,
};
use crate::{
    position::Offset,
    store::{
        Engine, Retention, Settings, StoreError, TopicId, Unstaged, faulty::Faulty, files::STORE,
        pieces::TOPIC_BYTES, segment::Segment,
    },
};

/// Does what waits, barriers that nobody waits for among it.
fn rest(engine: &mut Engine<Faulty>) {
    engine.settle(0).expect("written");
    assert_eq!(engine.packs.building.as_ref().map(|_| ()), None);
}

/// A message of each topic, safe in files.
fn round(disk: &Faulty, engine: Engine<Faulty>, topics: &[TopicId], text: &str) -> Engine<Faulty> {
    let mut engine = engine;
    for (at, topic) in topics.iter().enumerate() {
        publish(&mut engine, *topic, format!("{text} {at}").as_bytes());
    }
    engine.close(0).expect("closed");
    drop(engine);
    open(disk).expect("it can be opened")
}

fn topics(count: usize) -> (Faulty, Engine<Faulty>, Vec<TopicId>) {
    let disk = Faulty::new(1);
    let mut engine = open(&disk).expect("it can be opened");
    engine.settle(0).expect("written");
    let topics = (0..count).map(|at| create(&mut engine, &format!("t.{at:03}"))).collect();
    (disk, engine, topics)
}

#[test]
fn little_of_many_topics_is_in_few_files_and_few_pieces() {
    let (disk, mut engine, topics) = topics(50);
    for at in 0..40 {
        engine = round(&disk, engine, &topics, &format!("m{at}"));
        rest(&mut engine);
    }
    assert!(disk.files("topics/").is_empty());
    // 50 topics with 40 messages of 45 bytes, in packs of 4,000 bytes, and up to three that wait.
    let packs = disk.files("packs/");
    assert!(packs.len() <= 40, "{}", packs.len());
    for topic in &topics {
        // Of 1,000 bytes each what was put together, two of a level what was not.
        let pieces = engine.topics.get(topic.0).expect("a topic").segments.len();
        assert!(pieces <= 2 + 2 * 6, "{pieces}");
        assert_eq!(texts(&mut engine, *topic).len(), 40);
    }
    // Each piece is counted, and what it took to make them is not there any more.
    let counted = engine.known_bytes();
    let pieces = topics.iter().map(|topic| {
        engine.topics.get(topic.0).expect("a topic").segments.len() * size_of::<Segment>()
    });
    let (least, name) = (pieces.sum::<usize>(), "t.000".len());
    let rest = counted - 50 * (TOPIC_BYTES + 2 * name);
    assert!(rest >= least && rest <= 4 * least, "{rest} bytes for {least}");
    assert_eq!(disk.files("catalogue/").len(), 1);
    drop(engine);
    disk.cut();
    let mut engine = open(&disk).expect("it can be opened");
    for (at, topic) in topics.iter().enumerate() {
        let texts = texts(&mut engine, *topic);
        assert_eq!((texts.len(), &texts[39]), (40, &format!("m39 {at}")));
    }
}

#[test]
fn what_retention_and_deletion_leave_takes_no_room_for_long() {
    let (disk, mut engine, mut topics) = topics(50);
    let bounds = Retention { messages: Some(3), ..Retention::default() };
    for at in 0..60 {
        for topic in &topics {
            engine.set_retention(*topic, bounds);
        }
        engine = round(&disk, engine, &topics, &format!("m{at}"));
        for topic in &topics {
            engine.set_retention(*topic, bounds);
        }
        engine.expire(0);
        engine.settle(0).expect("written");
    }
    let bytes = || disk.files("packs/").iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
    // 50 topics with up to 6 messages of 45 bytes, and an entry of 52 bytes for each piece of them; twice.
    assert!(bytes() <= 2 * 50 * 6 * (45 + 52), "{}", bytes());
    assert_eq!(engine.packs.bytes(), bytes() as u64);
    let last = topics.split_off(49);
    for topic in topics {
        engine.delete(topic).expect("it is taken");
        engine.settle(0).expect("written");
    }
    engine.close(0).expect("closed");
    let mut engine = open(&disk).expect("it can be opened");
    rest(&mut engine);
    assert!(bytes() <= 8 * (45 + 52) + 200, "{}", bytes());
    assert_eq!(texts(&mut engine, last[0]).last().map(String::as_str), Some("m59 49"));
    let catalogue = disk.files("catalogue/");
    assert!(
        catalogue.len() == 1 && catalogue[0].1.len() < 2 * 50 * 200,
        "{}",
        catalogue[0].1.len()
    );
}

#[test]
fn a_record_of_a_pack_that_is_lost_is_told_and_when_packs_are_put_together_its_topic_is_read_only()
{
    let (disk, engine, topics) = topics(3);
    let engine = round(&disk, engine, &topics, "one");
    drop(round(&disk, engine, &topics, "two"));
    spoil(&disk, "packs/", b"one 1", 1);
    let mut engine = open(&disk).expect("it can be opened");
    let (messages, damage) = read_all(&mut engine, topics[1], 1, 1_000).expect("it can be read");
    let damage = damage.expect("it is told");
    assert!(damage.starts_with("the disk has lost messages: packs/0"), "{damage}");
    assert_eq!(messages.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [2]);
    for round in 0..3 {
        rest(&mut engine);
        let damage = engine.topic(topics[1]).expect("it is there").damage;
        if round < 2 {
            let damage = damage.expect("it is told");
            assert!(
                damage.starts_with("packs/0") && damage.contains("messages 1 to 1"),
                "{damage}"
            );
            let Err(Unstaged::Refused(refusal)) =
                engine.trim(topics[1], Offset(1)).and_then(|()| {
                    let message = crate::entry::Message { data: b"x", ..Default::default() };
                    let (offset, time, id, closes) = (Offset(3), 5, None, false);
                    engine.append(
                        topics[1],
                        &super::super::Record { offset, time, id, closes, message },
                    )
                })
            else {
                panic!("it is read-only")
            };
            assert!(refusal.to_string().starts_with("read-only: "), "{refusal}");
        } else {
            assert_eq!(damage, None, "it was accepted");
        }
        if round == 1 {
            engine.accept_damage(topics[1]).expect("it is taken");
        }
        for other in [topics[0], topics[2]] {
            assert_eq!(texts(&mut engine, other).len(), 2);
            assert_eq!(engine.topic(other).expect("it is there").damage, None);
        }
        engine.close(0).expect("closed");
        engine = open(&disk).expect("it can be opened");
    }
    assert_eq!(publish(&mut engine, topics[1], b"three"), 3);
    assert_eq!(texts(&mut engine, topics[1]), ["two 1", "three"]);
}

/// What nobody holds anything of any more takes no room, also where a part of it was lost.
#[test]
fn a_pack_of_which_a_part_was_lost_goes_with_its_last_topic() {
    let (disk, engine, topics) = topics(3);
    let engine = round(&disk, engine, &topics, "one");
    drop(round(&disk, engine, &topics, "two"));
    spoil(&disk, "packs/", b"one 1", 1);
    for _ in 0..2 {
        let mut engine = open(&disk).expect("it can be opened");
        rest(&mut engine);
        engine.close(0).expect("closed");
    }
    let mut engine = open(&disk).expect("it can be opened");
    assert!(engine.topic(topics[1]).expect("it is there").damage.is_some());
    for topic in topics {
        engine.delete(topic).expect("it is taken");
    }
    rest(&mut engine);
    assert_eq!(disk.files("packs/").len(), 0);
}

/// Copies of a directory may lack those of its directories that are empty.
#[test]
fn a_directory_that_is_missing_because_it_was_empty_is_made_again() {
    let (disk, mut engine, topics) = topics(1);
    engine.close(0).expect("closed");
    drop(engine);
    let copy = Faulty::of_files(1, disk.files(""));
    let mut engine = open(&copy).expect("it can be opened");
    for _ in 0..20 {
        publish(&mut engine, topics[0], &[b'x'; 200]);
        engine.settle(0).expect("written");
    }
    engine.close(0).expect("closed");
    assert!(!copy.files("topics/").is_empty());
}

#[test]
fn an_index_that_is_lost_is_made_again_of_the_records() {
    let (disk, engine, topics) = topics(3);
    drop(round(&disk, engine, &topics, "one"));
    let (path, mut bytes) = disk.files("packs/").swap_remove(0);
    let end = bytes.len();
    bytes[end - 60] ^= 1;
    disk.overwrite(&path, bytes);
    let mut engine = open(&disk).expect("it can be opened");
    assert_eq!(engine.notes(), [format!("{path}: its index is lost, and no message")]);
    for topic in topics {
        assert_eq!(texts(&mut engine, topic).len(), 1);
        assert_eq!(engine.topic(topic).expect("it is there").damage, None);
    }
}

/// Any topic may have had more there: no offset may be given twice.
#[test]
fn a_pack_that_is_lost_makes_all_read_only_once() {
    let (disk, engine, topics) = topics(3);
    let engine = round(&disk, engine, &topics, "one");
    drop(round(&disk, engine, &topics, "two"));
    let (path, _) = disk.files("packs/").swap_remove(1);
    disk.overwrite(&path, Vec::new());
    let mut engine = open(&disk).expect("it can be opened");
    let next = engine.topic(topics[0]).expect("it is there").next;
    for topic in &topics {
        let state = engine.topic(*topic).expect("it is there");
        let damage = state.damage.expect("it is told");
        assert_eq!(damage, format!("{path} is not what was written there from byte 24 on"));
        assert!(state.next > Offset(2), "{}", state.next);
        engine.accept_damage(*topic).expect("it is taken");
    }
    engine.settle(0).expect("written");
    assert_eq!(publish(&mut engine, topics[0], b"three"), next.0);
    engine.close(0).expect("closed");
    let mut engine = open(&disk).expect("it can be opened");
    assert_eq!(engine.topic(topics[0]).expect("it is there").damage, None);
    assert_eq!(texts(&mut engine, topics[0]), ["one 0", "three"]);
}

/// What was accepted is not told again, whatever the process ends with, and however much was lost.
#[test]
fn a_loss_that_was_accepted_stays_accepted() {
    for lost in [0, 1] {
        let (disk, engine, topics) = topics(3);
        let engine = round(&disk, engine, &topics, "one");
        drop(round(&disk, engine, &topics, "two"));
        let (path, _) = disk.files("packs/").swap_remove(lost);
        disk.overwrite(&path, Vec::new());
        let mut engine = open(&disk).expect("it can be opened");
        let late = create(&mut engine, "t.late");
        for topic in &topics {
            engine.accept_damage(*topic).expect("it is taken");
        }
        engine.settle(0).expect("written");
        let next = engine.topic(topics[0]).expect("it is there").next;
        for life in 0..6 {
            for topic in topics.iter().chain([&late]) {
                let damage = engine.topic(*topic).expect("it is there").damage;
                assert_eq!(damage, None, "life {life}, pack {lost}");
            }
            for (topic, first) in [(topics[0], next.0), (late, 1)] {
                assert_eq!(publish(&mut engine, topic, b"new"), first + life);
            }
            match life % 3 {
                0 => disk.kill(),
                1 => engine.settle(0).map(drop).expect("written"),
                _ => engine.close(0).expect("closed"),
            }
            drop(engine);
            engine = open(&disk).expect("it can be opened");
        }
        assert_eq!(texts(&mut engine, late).len(), 6);
        assert_eq!(texts(&mut engine, topics[0]).len(), 7);
    }
}

#[test]
fn an_entry_of_the_catalogue_that_is_lost_is_told() {
    let (disk, mut engine, topics) = topics(3);
    engine.configure(topics[1], false, "changed").expect("it is taken");
    drop(round(&disk, engine, &topics, "one"));
    let text = "catalogue/00000001 is not what was written there at bytes ";
    // Its name is known from before, and what it became is not.
    let copy = disk.copy();
    spoil(&copy, "catalogue", b"changed", 1);
    let mut engine = open(&copy).expect("it can be opened");
    let state = engine.topic(topics[1]);
    if let Some(state) = state {
        let damage = state.damage.expect("it is told");
        assert!(damage.starts_with(text), "{damage}");
    } else {
        assert!(engine.notes()[0].starts_with(text), "{:?}", engine.notes());
    }
    assert_eq!(texts(&mut engine, topics[2]), ["one 2"]);
    assert_eq!(engine.topic(topics[2]).expect("it is there").damage, None);
    // Nothing is known of it any more; its messages are left where they are.
    let copy = disk.copy();
    spoil(&copy, "catalogue", b"t.002", 1);
    let packs = copy.files("packs/").len();
    for _ in 0..2 {
        let mut engine = open(&copy).expect("it can be opened");
        assert_eq!(engine.topic(topics[2]), None);
        let note = engine.notes().first().expect("it is told");
        assert!(note.starts_with(text) && note.contains("0000000000000003"), "{note}");
        assert_eq!(texts(&mut engine, topics[0]), ["one 0"]);
        rest(&mut engine);
        assert!(copy.files("packs/").len() >= packs);
        engine.close(0).expect("closed");
    }
    // The number of the topic may be what is lost.
    spoil(&disk, "catalogue", b"t.002", -78);
    let mut engine = open(&disk).expect("it can be opened");
    assert!(engine.notes().iter().any(|note| note.starts_with(text)), "{:?}", engine.notes());
    let damage = engine.topic(topics[0]).expect("it is there").damage.expect("it is told");
    assert!(damage.starts_with(text), "{damage}");
    assert_eq!(texts(&mut engine, topics[0]), ["one 0"]);
}

/// Also while packs are put together, and when the bound has been reached: what makes room goes on.
#[test]
fn the_bound_of_all_files_holds_and_what_is_dropped_makes_room() {
    let disk = Faulty::new(1);
    let max_bytes = 160 << 10;
    let settings =
        Settings { journal_bytes: 8 << 10, max_bytes, max_waiting_files: 2, ..settings() };
    let random = [1, 2, 3];
    let mut engine = Engine::open(disk.clone(), settings, random).expect("it can be opened");
    engine.settle(0).expect("written");
    let topics: Vec<_> = (0..30)
        .map(|at| {
            let topic = create(&mut engine, &format!("t.{at:03}"));
            engine.settle(0).expect("written");
            topic
        })
        .collect();
    let used = || disk.files("").iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
    for round in 0..4 {
        let mut published = 0;
        while engine.admit().is_ok() {
            publish(&mut engine, topics[published % 30], &[b'x'; 100]);
            published += 1;
            engine.settle(0).expect("written");
            assert!(used() <= max_bytes, "{} after {published} of round {round}", used());
        }
        assert!(published > 100, "{published} in round {round}");
        for topic in &topics {
            let next = engine.topic(*topic).expect("it is there").next;
            engine.trim(*topic, next).expect("it is taken");
        }
        engine.settle(0).expect("written");
        assert!(engine.admit().is_ok(), "{:?}", engine.admit());
    }
}

/// Where there is no room any more, little of each file that is dropped makes some as well.
#[test]
fn what_is_dropped_of_a_third_of_the_topics_makes_room() {
    let disk = Faulty::new(1);
    let max_bytes = 160 << 10;
    let settings =
        Settings { journal_bytes: 8 << 10, max_bytes, max_waiting_files: 2, ..settings() };
    let mut engine = Engine::open(disk.clone(), settings, [1, 2, 3]).expect("it can be opened");
    engine.settle(0).expect("written");
    let topics: Vec<_> = (0..30)
        .map(|at| {
            let topic = create(&mut engine, &format!("t.{at:03}"));
            engine.settle(0).expect("written");
            topic
        })
        .collect();
    for third in 0..3 {
        let mut published = 0;
        while engine.admit().is_ok() {
            publish(&mut engine, topics[published % 30], &[b'x'; 100]);
            published += 1;
            engine.settle(0).expect("written");
        }
        assert!(published > 50, "{published} before round {third}");
        for topic in topics.iter().skip(third).step_by(3) {
            let next = engine.topic(*topic).expect("it is there").next;
            engine.trim(*topic, next).expect("it is taken");
        }
        engine.settle(0).expect("written");
    }
}

#[test]
fn a_directory_of_another_format_is_refused() {
    let (disk, mut engine, _) = topics(1);
    engine.close(0).expect("closed");
    let (_, bytes) = disk.files(STORE).swap_remove(0);
    let text = String::from_utf8(bytes).expect("text").replace("\"format\":2", "\"format\":1");
    let (_, content) = text.trim_end().split_once("\"content\":").expect("its content");
    let content = content.strip_suffix('}').expect("an object");
    let crc = format!("{:08x}", crc32fast::hash(content.as_bytes()));
    disk.overwrite(STORE, format!("{{\"crc32\":\"{crc}\",\"content\":{content}}}").into_bytes());
    let Err(StoreError::Unusable(refusal)) = open(&disk) else { panic!("it is refused") };
    assert_eq!(refusal, "not a valid data directory: its format is 1, and this program knows 2");
    assert_eq!(settings().check(), Ok(()));
}

/// What is taken as a bound has room for messages.
#[test]
fn the_least_bound_of_all_files_takes_messages() {
    let disk = Faulty::new(1);
    let least = Settings { max_bytes: 6 * (64 << 10), ..settings() };
    assert!(Settings { max_bytes: least.max_bytes - 1, ..least }.check().is_err());
    let mut engine = Engine::open(disk, least, [1, 2, 3]).expect("it can be opened");
    engine.settle(0).expect("written");
    let topic = create(&mut engine, "t");
    for _ in 0..50 {
        engine.settle(0).expect("written");
        assert_eq!(engine.admit(), Ok(()));
        publish(&mut engine, topic, &[b'x'; 100]);
    }
}
