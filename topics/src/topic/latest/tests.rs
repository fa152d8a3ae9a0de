use std::{collections::BTreeMap, time::Duration};

use rsock_proto::SharedPayload;
use serde_json::Value;

use super::*;
use crate::{
    cursor::{Cursor, Fill, Sink},
    entry::{Form, Message},
    history,
    options::{HistoryOptions, HistoryPageOptions, Lag, SubscribeOptions},
    position::{Epoch, Position},
    time::Instant,
};

const EPOCH: Epoch = Epoch(0xa);

/// A stream of so much credit, and the items that it was sent.
#[derive(Default)]
struct Out {
    credit: usize,
    items: Vec<(Value, String)>,
}

impl Sink for Out {
    fn has_room(&mut self) -> bool {
        self.credit > 0
    }

    fn send(&mut self, item: &SharedPayload) -> Result<(), Refusal> {
        self.credit -= 1;
        let payload = item.to_payload();
        let json = serde_json::from_slice(&payload.metadata.expect("metadata")).expect("JSON");
        self.items.push((json, String::from_utf8_lossy(&payload.data).into_owned()));
        Ok(())
    }

    fn now(&self) -> Now {
        Now::default()
    }
}

struct World {
    topic: Topic,
    ms: u64,
}

impl World {
    fn new(settings: TopicSettings) -> Self {
        let settings = TopicSettings { kind: Kind::Latest, ..settings };
        let name = crate::name::TopicName::parse("board").expect("a name");
        let (settings, all) = (Arc::new(settings), Arc::default());
        Self { topic: Topic::new(name, EPOCH, Offset(1), Ended::Not, settings, &all), ms: 0 }
    }

    fn now(&self) -> Now {
        Now { monotonic: Instant(1_000 * self.ms), unix_ms: self.ms }
    }

    fn publish(&self, key: &str, data: Option<&str>, expect: Option<u64>) -> Result<u64, Refusal> {
        let message = Message {
            key: Some(key),
            data: data.unwrap_or_default().as_bytes(),
            is_tombstone: data.is_none(),
            ..Message::default()
        };
        let publish = Publish { message, expect: expect.map(Offset), ..Publish::default() };
        Ok(self.topic.publish(&publish, self.now())?.offset.expect("it is kept").0)
    }

    fn set(&self, key: &str, data: &str) -> u64 {
        self.publish(key, Some(data), None).expect("room")
    }

    fn delete(&self, key: &str) -> u64 {
        self.publish(key, None, None).expect("room")
    }

    fn reader(&self, from: Start, lag: Lag) -> Result<Cursor, Refusal> {
        let options = SubscribeOptions { from, lag, ..SubscribeOptions::default() };
        Cursor::new(&self.topic, &options, Some(Form::Plain), 1, self.now())
    }

    /// Items for a reader, in words: `2 a x`, `3 b -`, `reset 4`.
    fn read(&self, reader: &mut Cursor, credit: usize) -> Vec<String> {
        let mut out = Out { credit, ..Out::default() };
        let fill = reader.fill(&self.topic, &mut out);
        assert!(matches!(fill, Fill::CaughtUp | Fill::NoRoom | Fill::Ended), "{fill:?}");
        out.items.into_iter().map(|(json, data)| told(&json, data)).collect()
    }

    fn after(&self, after: u64) -> Start {
        Start::After(Position { epoch: EPOCH, after: Offset(after) })
    }
}

fn told(json: &Value, data: String) -> String {
    match json["key"].as_str() {
        Some(key) if json["deleted"] == true => format!("{} {key} -", json["offset"]),
        Some(key) => format!("{} {key} {data}", json["offset"]),
        None => format!("reset {}", json["gap"]["from"]),
    }
}

#[test]
fn a_reader_gets_the_newest_of_each_key_and_then_what_changes() {
    let world = World::new(TopicSettings::default());
    for (key, data) in [("a", "1"), ("b", "2"), ("a", "3")] {
        world.set(key, data);
    }
    let mut reader = world.reader(Start::Oldest, Lag::Gap).expect("room");
    assert_eq!(world.read(&mut reader, 1), ["2 b 2"]);
    world.set("a", "4");
    world.set("c", "5");
    world.delete("b");
    assert_eq!(world.read(&mut reader, 9), ["4 a 4", "5 c 5", "6 b -"]);
    // A position: what is newest now, and is newer. What was replaced meanwhile is no gap, for nobody.
    for (after, wanted) in [(3, 3), (4, 2), (0, 3), (6, 0)] {
        let mut late = world.reader(world.after(after), Lag::Close).expect("nothing is missed");
        assert_eq!(world.read(&mut late, 9).len(), wanted, "{after}");
    }
    let mut new = world.reader(Start::New, Lag::Gap).expect("room");
    world.set("b", "6");
    assert_eq!(world.read(&mut new, 9), ["7 b 6"]);
    assert_eq!((world.topic.base(), world.topic.visible()), (Offset(4), Offset(8)));
}

#[test]
fn what_cannot_be_kept_is_refused_and_nothing_of_it_remains() {
    let world = World::new(TopicSettings { max_keys: 2, ..TopicSettings::default() });
    let refused = |refused: Result<u64, Refusal>| refused.expect_err("it is refused").to_string();
    let message = Message { data: b"x", ..Message::default() };
    let without = world.topic.publish(&Publish { message, ..Publish::default() }, world.now());
    assert!(matches!(without, Err(Refusal::Invalid(text)) if text.starts_with("no key: ")));
    assert_eq!(world.publish("a", Some("1"), Some(0)), Ok(1));
    let conflict = refused(world.publish("a", Some("2"), Some(0)));
    assert_eq!(conflict, "conflict: the last offset of key \"a\" is 1, not 0");
    world.set("b", "2");
    assert!(refused(world.publish("c", Some("3"), None)).starts_with("too many keys: "));
    assert_eq!(world.publish("a", None, Some(1)), Ok(3));
    assert_eq!(world.publish("c", Some("3"), None), Ok(4));
    assert_eq!(world.topic.visible(), Offset(5));
}

/// Whoever may have missed a deletion begins anew, and is told.
#[test]
fn who_may_have_missed_a_deletion_begins_anew() {
    let mut world = World::new(TopicSettings::default());
    world.set("a", "1");
    world.set("b", "2");
    let mut slow = world.reader(Start::Oldest, Lag::Gap).expect("room");
    let mut strict = world.reader(Start::Oldest, Lag::Close).expect("room");
    for reader in [&mut slow, &mut strict] {
        assert_eq!(world.read(reader, 9), ["1 a 1", "2 b 2"]);
    }
    world.delete("a");
    let mut quick = world.reader(world.after(2), Lag::Gap).expect("room");
    assert_eq!(world.read(&mut quick, 9), ["3 a -"]);
    world.ms += 600_000;
    assert!(!world.topic.expire(world.now()), "that is no news");
    assert_eq!(world.read(&mut slow, 1), ["reset 3"]);
    assert_eq!(world.read(&mut slow, 9), ["2 b 2"]);
    assert_eq!(world.read(&mut quick, 9), [""; 0]);
    let fill = strict.fill(&world.topic, &mut Out { credit: 9, ..Out::default() });
    assert!(matches!(fill, Fill::Failed(Refusal::Rejected(text)) if text.starts_with("overrun: ")));
    let mut late = world.reader(world.after(2), Lag::Gap).expect("room");
    assert_eq!(world.read(&mut late, 9), ["reset 3", "2 b 2"]);
    assert!(world.reader(world.after(2), Lag::Close).is_err());
    let mut whole = world.reader(Start::Oldest, Lag::Close).expect("it has seen nothing yet");
    assert_eq!(world.read(&mut whole, 9), ["2 b 2"]);
    assert!(world.reader(world.after(3), Lag::Close).is_ok(), "it has read the deletion");
    let mut read = world.reader(world.after(3), Lag::Gap).expect("as well");
    assert_eq!(world.read(&mut read, 9), [""; 0]);
    // All of it at once: also those hear of it who had read everything.
    world.topic.purge().expect("there is no disk");
    assert_eq!(world.read(&mut read, 9), ["reset 4"]);
    world.set("a", "3");
    assert_eq!(world.read(&mut read, 9), ["5 a 3"]);
}

#[test]
fn keys_that_are_too_old_are_told_to_be_deleted() {
    let mut world = World::new(TopicSettings::default());
    world.set("a", "1");
    let mut reader = world.reader(Start::Oldest, Lag::Gap).expect("room");
    world.read(&mut reader, 9);
    world.ms += 24 * 3_600_000;
    let version = world.topic.version();
    world.topic.expire(world.now());
    assert!(world.topic.version() > version, "readers are woken");
    assert_eq!(world.read(&mut reader, 9), ["2 a -"]);
    world.ms += 600_000;
    world.topic.expire(world.now());
    assert_eq!((world.topic.base(), world.topic.bytes()), (world.topic.visible(), 0));
}

#[test]
fn history_knows_what_is_kept() {
    let world = World::new(TopicSettings::default());
    for (key, data) in [("a", "1"), ("b", "2"), ("a", "3"), ("c", "4"), ("b", "5")] {
        world.set(key, data);
    }
    let page = |options: &str| -> Value {
        let options = HistoryPageOptions::parse(options.as_bytes()).expect("valid");
        let page = history::page(&world.topic, &options, world.now()).expect("a page");
        serde_json::from_slice(&page).expect("JSON")
    };
    let offsets = |page: &Value| -> Vec<u64> {
        let messages = page["messages"].as_array().expect("a list").iter();
        messages.map(|message| message["offset"].as_u64().expect("a number")).collect()
    };
    let newest = page("{}");
    assert_eq!(
        (offsets(&newest), &newest["next"], &newest["gap"]),
        (vec![3, 4, 5], &Value::Null, &Value::Null)
    );
    let first = page(r#"{"after":0,"epoch":"000000000000000a","limit":2}"#);
    assert_eq!((offsets(&first), &first["gap"]), (vec![3, 4], &Value::Null));
    assert_eq!(first["next"]["after"], 4);
    // As streams, both ways.
    let options = HistoryOptions::default();
    let mut down = history::Backward::new(&world.topic, &options, Some(Form::Plain), world.now());
    let mut out = Out { credit: 9, ..Out::default() };
    assert_eq!(down.fill(&world.topic, &mut out), Fill::Ended);
    let items: Vec<_> = out.items.into_iter().map(|(json, data)| told(&json, data)).collect();
    assert_eq!(items, ["5 b 5", "4 c 4", "3 a 3"]);
    let mut up = world.reader(Start::Oldest, Lag::Gap).expect("room").until(Offset(5));
    assert_eq!(world.read(&mut up, 9), ["3 a 3", "4 c 4"]);
}

/// C1 for these topics: readers at any pace, that go away and come back to their positions, end in the state
/// that there is.
#[test]
fn readers_at_any_pace_end_in_the_same_state() {
    struct Reader {
        cursor: Option<Cursor>,
        position: u64,
        state: BTreeMap<String, String>,
    }

    let (mut resets, mut random) = (0, 5_u64);
    let mut below = |bound: u64| {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % bound
    };
    for _ in 0..60 {
        let mut world = World::new(TopicSettings {
            max_keys: 8,
            tombstone_ttl: Duration::from_secs(1),
            ..TopicSettings::default()
        });
        let mut state = BTreeMap::new();
        let reader = || Reader { cursor: None, position: 0, state: BTreeMap::new() };
        let mut readers = [reader(), reader(), reader()];
        for n in 0..400 {
            let key = format!("k{}", below(12));
            match below(10) {
                0..5 => {
                    let published = world.publish(&key, Some(&n.to_string()), None);
                    if published.is_ok() {
                        state.insert(key, n.to_string());
                    }
                }
                5..7 => {
                    world.delete(&key);
                    state.remove(&key);
                }
                7 => {
                    world.ms += 1 << below(12);
                    world.topic.expire(world.now());
                }
                _ => {}
            }
            let credit = if n == 399 {
                [usize::MAX; 3]
            } else {
                [below(9), below(3), below(2)].map(|credit| credit as usize)
            };
            for (reader, credit) in readers.iter_mut().zip(credit) {
                let from = world.after(reader.position);
                let mut cursor = reader
                    .cursor
                    .take()
                    .unwrap_or_else(|| world.reader(from, Lag::Gap).expect("it is told of gaps"));
                let mut out = Out { credit, ..Out::default() };
                let fill = cursor.fill(&world.topic, &mut out);
                assert!(matches!(fill, Fill::CaughtUp | Fill::NoRoom), "{fill:?}");
                for (json, data) in out.items {
                    let Some(key) = json["key"].as_str() else {
                        assert!(json["base"].is_u64(), "{json}");
                        reader.state.clear();
                        reader.position = json["base"].as_u64().expect("a number") - 1;
                        resets += 1;
                        continue;
                    };
                    reader.position = json["offset"].as_u64().expect("a number");
                    match json["deleted"] == true {
                        true => drop(reader.state.remove(key)),
                        false => drop(reader.state.insert(key.to_owned(), data)),
                    }
                }
                if below(8) > 0 {
                    reader.cursor = Some(cursor);
                }
            }
        }
        for reader in readers {
            assert_eq!(reader.state, state);
        }
    }
    assert!(resets > 20, "{resets}");
}
