use std::sync::Arc;

use super::*;
use crate::{
    entry::Message,
    name::TopicName,
    options::Start as From,
    settings::{Retention, TopicSettings},
    time::Instant,
    topic::Publish,
};

const EPOCH: Epoch = Epoch(0xe0);

struct Reader {
    credit: usize,
    items: Vec<String>,
    now: Now,
}

impl Sink for Reader {
    fn has_room(&mut self) -> bool {
        self.credit > 0
    }

    fn send(&mut self, item: &SharedPayload) -> Result<(), Refusal> {
        self.credit -= 1;
        let payload = item.to_payload();
        let metadata = payload.metadata.unwrap_or_default();
        let metadata = String::from_utf8_lossy(&metadata).into_owned();
        let data = String::from_utf8_lossy(&payload.data).into_owned();
        self.items.push(if data.is_empty() {
            metadata
        } else {
            let skipped = metadata.find("\"skipped\"").map_or("", |at| &metadata[at..]);
            format!("{data}{skipped}")
        });
        Ok(())
    }

    fn now(&self) -> Now {
        self.now
    }
}

struct World {
    topic: Topic,
    now: Now,
    published: u64,
}

impl World {
    fn new(first: u64, messages: u64) -> Self {
        let retention = Retention { messages, ..Retention::default() };
        let settings = Arc::new(TopicSettings { retention, ..TopicSettings::default() });
        let name = TopicName::parse("room.1").expect("a name");
        let topic = Topic::new(name, EPOCH, Offset(first), Ended::Not, settings, &Arc::default());
        Self { topic, now: Now { monotonic: Instant(0), unix_ms: 1_000 }, published: first }
    }

    /// Publishes so many, three seconds apart, each with its offset as data.
    fn publish(&mut self, count: u64) {
        for _ in 0..count {
            self.now = self.now.after(std::time::Duration::from_secs(3));
            let data = self.published.to_string();
            let message = Message {
                data: data.as_bytes(),
                origin: self.published % 2 + 1,
                ..Message::default()
            };
            let published =
                self.topic.publish(&Publish { message, ..Publish::default() }, self.now);
            assert_eq!(published.expect("room").offset, Some(Offset(self.published)));
            self.published += 1;
        }
    }

    fn cursor(&self, options: SubscribeOptions) -> Cursor {
        Cursor::new(&self.topic, &options, Some(Form::Plain), 1, self.now).expect("a cursor")
    }

    fn from(&self, from: From) -> Cursor {
        self.cursor(SubscribeOptions { from, ..SubscribeOptions::default() })
    }

    fn read(&self, cursor: &mut Cursor, credit: usize) -> (Vec<String>, Fill) {
        let mut reader = Reader { credit, items: Vec::new(), now: self.now };
        let fill = cursor.fill(&self.topic, &mut reader);
        (reader.items, fill)
    }

    fn all(&self, cursor: &mut Cursor) -> Vec<String> {
        let (items, fill) = self.read(cursor, usize::MAX);
        assert_eq!(fill, Fill::CaughtUp);
        items
    }
}

fn numbers(range: Range<u64>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[test]
fn a_reader_begins_where_it_asks_to() {
    let mut world = World::new(1, 1_000);
    world.publish(100);
    let position = |after| From::After(Position { epoch: EPOCH, after: Offset(after) });
    for (from, first) in [
        (From::New, 101),
        (From::Oldest, 1),
        (From::Last(0), 101),
        (From::Last(3), 98),
        (From::Last(1_000), 1),
        (From::Since(0), 1),
        (From::Since(1_000 + 3_000 * 50), 50),
        (From::Since(1_000 + 3_000 * 50 - 1), 50),
        (From::Since(u64::MAX), 101),
        (position(0), 1),
        (position(42), 43),
        (position(100), 101),
    ] {
        let mut cursor = world.from(from);
        assert_eq!(world.all(&mut cursor), numbers(first..101), "{from:?}");
    }
}

/// A topic that is empty has a position all the same.
#[test]
fn recovery_before_any_message_was_received() {
    let mut world = World::new(1, 1_000);
    let options = SubscribeOptions { tells_start: true, ..SubscribeOptions::default() };
    let start = world.all(&mut world.cursor(options));
    assert_eq!(start, [r#"{"start":{"epoch":"00000000000000e0","next":1,"base":1,"head":0}}"#]);
    world.publish(3);
    let mut back = world.from(From::After(Position { epoch: EPOCH, after: Offset(0) }));
    assert_eq!(world.all(&mut back), numbers(1..4));
}

#[test]
fn exact_count_of_what_was_missed_by_size() {
    let mut world = World::new(1, 100);
    world.publish(1_000);
    let base = world.topic.base().0;
    let mut cursor = world.from(From::After(Position { epoch: EPOCH, after: Offset(42) }));
    let items = world.all(&mut cursor);
    let gap = format!(r#"{{"gap":{{"from":43,"to":{}}},"epoch":"00000000000000e0"}}"#, base - 1);
    assert_eq!(items[0], gap);
    assert_eq!(items[1..], numbers(base..1_001));
    // One behind the oldest that is kept has missed nothing.
    let mut cursor = world.from(From::After(Position { epoch: EPOCH, after: Offset(base - 1) }));
    assert_eq!(world.all(&mut cursor), numbers(base..1_001));
}

#[test]
fn exact_count_of_what_was_missed_by_age() {
    let mut world = World::new(1, 1_000);
    world.publish(10);
    world.now = world.now.after(std::time::Duration::from_secs(25 * 60 * 60));
    let mut cursor = world.from(From::After(Position { epoch: EPOCH, after: Offset(4) }));
    let gap = r#"{"gap":{"from":5,"to":10},"epoch":"00000000000000e0"}"#;
    assert_eq!(world.all(&mut cursor), [gap]);
}

#[test]
fn a_position_is_valid_when_everything_has_expired_and_nothing_was_missed() {
    let mut world = World::new(1, 1_000);
    world.publish(10);
    world.now = world.now.after(std::time::Duration::from_secs(25 * 60 * 60));
    let position = From::After(Position { epoch: EPOCH, after: Offset(10) });
    let mut cursor = world.from(position);
    assert!(world.all(&mut cursor).is_empty());
    assert_eq!(world.topic.base(), Offset(11), "all of it has gone");
    world.publish(1);
    assert_eq!(world.all(&mut cursor), ["11"]);
}

#[test]
fn another_epoch_or_a_later_position_is_a_reset() {
    let mut world = World::new(1, 1_000);
    world.publish(3);
    for (epoch, after) in [(Epoch(7), 2), (EPOCH, 4)] {
        let mut cursor = world.from(From::After(Position { epoch, after: Offset(after) }));
        let items = world.all(&mut cursor);
        let reset = format!(
            r#"{{"gap":{{"epoch":"{epoch}","from":{}}},"epoch":"{EPOCH}","base":1}}"#,
            after + 1
        );
        assert_eq!(items[0], reset);
        assert_eq!(items[1..], numbers(1..4));
    }
}

/// A topic that was forgotten begins at a floor: offsets below it may never have been.
#[test]
fn a_gap_behind_a_floor_is_said_to_be_unsure() {
    let mut world = World::new(500, 1_000);
    world.publish(2);
    let mut cursor = world.from(From::After(Position { epoch: EPOCH, after: Offset(42) }));
    let gap = r#"{"gap":{"from":43,"to":499,"exact":false},"epoch":"00000000000000e0"}"#;
    assert_eq!(world.all(&mut cursor), [gap, "500", "501"]);
}

fn from_start() -> SubscribeOptions {
    SubscribeOptions { from: From::Oldest, ..SubscribeOptions::default() }
}

#[test]
fn nothing_is_sent_without_credit_and_nothing_is_lost_for_it() {
    let mut world = World::new(1, 1_000);
    world.publish(10);
    let mut cursor = world.from(From::Oldest);
    let mut got = Vec::new();
    for credit in [0, 1, 0, 3, 100] {
        let (items, fill) = world.read(&mut cursor, credit);
        assert!(items.len() <= credit);
        got.extend(items);
        let expected = if got.len() == 10 { Fill::CaughtUp } else { Fill::NoRoom };
        assert_eq!(fill, expected);
    }
    assert_eq!(got, numbers(1..11));
}

#[test]
fn a_reader_that_is_overrun_is_told_as_it_wants() {
    let lagging = |lag, max_lag| {
        let mut world = World::new(1, 100);
        world.publish(5);
        let mut cursor = world.cursor(SubscribeOptions {
            from: From::Oldest,
            lag,
            max_lag,
            ..SubscribeOptions::default()
        });
        if lag != Lag::Conflate {
            assert_eq!(world.read(&mut cursor, 2).0, numbers(1..3));
        }
        world.publish(495);
        (world.topic.base().0, world.read(&mut cursor, usize::MAX))
    };
    let gap = |to| format!(r#"{{"gap":{{"from":3,"to":{to}}},"epoch":"00000000000000e0"}}"#);
    let (base, (items, _)) = lagging(Lag::Gap, None);
    assert_eq!((&items[0], &items[1..]), (&gap(base - 1), &numbers(base..501)[..]));
    let (_, (items, _)) = lagging(Lag::Gap, Some(10));
    assert_eq!((&items[0], &items[1..]), (&gap(490), &numbers(491..501)[..]));
    let (_, (items, _)) = lagging(Lag::Latest, None);
    assert_eq!(items, [gap(499), "500".to_owned()]);
    let (_, (items, _)) = lagging(Lag::Conflate, None);
    assert_eq!(items, [r#"500"skipped":499}"#]);
    let (base, (items, fill)) = lagging(Lag::Close, None);
    assert!(items.is_empty());
    let Fill::Failed(Refusal::Rejected(text)) = fill else { panic!("{fill:?}") };
    assert!(text.starts_with("overrun: 498 messages behind; the oldest kept is "), "{text}");
    assert!(text.contains(&base.to_string()), "{text}");
}

/// A gap that waits for credit grows with what goes meanwhile, and is told once.
#[test]
fn gaps_that_were_not_told_yet_are_one() {
    let mut world = World::new(1, 100);
    world.publish(1_000);
    let mut cursor = world.from(From::After(Position { epoch: EPOCH, after: Offset(0) }));
    assert_eq!(world.read(&mut cursor, 0), (vec![], Fill::NoRoom));
    world.publish(1_000);
    let base = world.topic.base().0;
    let items = world.all(&mut cursor);
    let gap = format!(r#"{{"gap":{{"from":1,"to":{}}},"epoch":"00000000000000e0"}}"#, base - 1);
    assert_eq!((&items[0], &items[1..]), (&gap, &numbers(base..2_001)[..]));
}

#[test]
fn the_newest_alone_is_never_more_than_one_behind() {
    let mut world = World::new(1, 1_000);
    let mut cursor =
        world.cursor(SubscribeOptions { lag: Lag::Conflate, ..SubscribeOptions::default() });
    let mut accounted = 0;
    for step in 0..20 {
        world.publish(step);
        let (items, _) = world.read(&mut cursor, 1);
        if step > 0 {
            let newest = world.published - 1;
            let skipped = newest - accounted - 1;
            let expected = if skipped == 0 {
                newest.to_string()
            } else {
                format!(r#"{newest}"skipped":{skipped}}}"#)
            };
            assert_eq!(items, [expected]);
            accounted = newest;
        }
    }
}

/// A reader of the newest alone that waited for credit until all of it had gone.
#[test]
fn the_newest_may_have_gone() {
    let mut world = World::new(1, 1_000);
    let mut cursor =
        world.cursor(SubscribeOptions { lag: Lag::Conflate, ..SubscribeOptions::default() });
    world.publish(10);
    assert_eq!(world.read(&mut cursor, 0), (vec![], Fill::NoRoom));
    world.topic.purge().expect("no disk");
    world.publish(1);
    assert_eq!(world.read(&mut cursor, 0), (vec![], Fill::NoRoom));
    world.topic.purge().expect("no disk");
    let gap =
        |from, to| format!(r#"{{"gap":{{"from":{from},"to":{to}}},"epoch":"00000000000000e0"}}"#);
    assert_eq!(world.all(&mut cursor), [gap(1, 11)]);
    world.publish(2);
    assert_eq!(world.all(&mut cursor), [r#"13"skipped":1}"#]);
}

#[test]
fn where_the_head_is_first_reached_is_told_once() {
    let mut world = World::new(1, 1_000);
    world.publish(2);
    let options = SubscribeOptions {
        from: From::Oldest,
        tells_live: true,
        tells_start: true,
        ..SubscribeOptions::default()
    };
    let mut cursor = world.cursor(options);
    let start = r#"{"start":{"epoch":"00000000000000e0","next":1,"base":1,"head":2}}"#;
    let live = r#"{"live":{"epoch":"00000000000000e0","offset":2}}"#;
    assert_eq!(world.all(&mut cursor), [start, "1", "2", live]);
    world.publish(1);
    assert_eq!(world.all(&mut cursor), ["3"]);
}

#[test]
fn ones_own_messages_are_left_out_where_asked() {
    let mut world = World::new(1, 1_000);
    world.publish(6);
    let mut cursor = world.cursor(SubscribeOptions {
        from: From::Oldest,
        has_echo: false,
        ..SubscribeOptions::default()
    });
    assert_eq!(world.all(&mut cursor), ["1", "3", "5"], "even ones came by connection 1");
}

#[test]
fn readers_complete_behind_the_last_message() {
    let mut world = World::new(1, 1_000);
    world.publish(2);
    let mut early = world.from(From::New);
    assert!(world.all(&mut early).is_empty());
    let last = Publish {
        message: Message { data: b"end", ..Message::default() },
        closes: true,
        ..Publish::default()
    };
    world.topic.publish(&last, world.now).expect("room");
    assert_eq!(world.read(&mut early, 0), (vec![], Fill::NoRoom));
    assert_eq!(world.read(&mut early, 5), (vec!["end".to_owned()], Fill::Ended));
    let mut late = world.from(From::Oldest);
    let all = ["1", "2", "end"].map(str::to_owned).to_vec();
    assert_eq!(world.read(&mut late, 5), (all, Fill::Ended));
    let refused = world.topic.publish(&last, world.now).expect_err("closed");
    assert!(refused.to_string().starts_with("closed: "), "{refused}");
    assert!(refused.to_string().contains('3'), "{refused}");
}

#[test]
fn readers_complete_when_their_topic_is_deleted() {
    let mut world = World::new(1, 1_000);
    world.publish(2);
    let mut cursor = world.from(From::Oldest);
    let _ = world.topic.delete();
    assert_eq!(world.read(&mut cursor, 0), (vec![], Fill::Ended));
}

/// What goes through a connection that cannot be told of a gap is never silently incomplete.
#[test]
fn without_metadata_a_gap_fails_the_stream() {
    let mut world = World::new(1, 100);
    world.publish(1_000);
    let from = From::After(Position { epoch: EPOCH, after: Offset(1) });
    let options = SubscribeOptions { from, ..SubscribeOptions::default() };
    let refused = Cursor::new(&world.topic, &options, None, 1, world.now).expect_err("a gap");
    assert!(refused.to_string().starts_with("overrun: 999 messages behind"), "{refused}");
    let mut cursor =
        Cursor::new(&world.topic, &from_start(), None, 1, world.now).expect("a cursor");
    let base = world.topic.base().0;
    assert_eq!(world.read(&mut cursor, 1).0, numbers(base..base + 1));
    world.publish(1_000);
    let (items, fill) = world.read(&mut cursor, 5);
    assert!(items.is_empty());
    assert!(
        matches!(&fill, Fill::Failed(refusal) if refusal.to_string().starts_with("overrun: ")),
        "{fill:?}"
    );
    for options in [
        SubscribeOptions { tells_start: true, ..SubscribeOptions::default() },
        SubscribeOptions { tells_live: true, ..SubscribeOptions::default() },
    ] {
        let refused =
            Cursor::new(&world.topic, &options, None, 1, world.now).expect_err("no place for it");
        assert!(matches!(refused, Refusal::Invalid(_)), "{refused}");
    }
}

/// A retained log is read the same whatever is appended or goes between two portions.
#[test]
fn what_is_told_accounts_for_every_offset() {
    for credit in [1, 2, 7, 50] {
        let mut world = World::new(1, 64);
        let mut cursor = world.from(From::Oldest);
        let mut next = 1;
        for round in 0..200 {
            world.publish(round % 9);
            for item in world.read(&mut cursor, credit).0 {
                if let Some(gap) = item.strip_prefix(r#"{"gap":{"from":"#) {
                    let (from, rest) = gap.split_once(r#","to":"#).expect("a gap");
                    let to: u64 =
                        rest.split('}').next().expect("a number").parse().expect("a number");
                    assert_eq!(from.parse(), Ok(next));
                    next = to + 1;
                } else {
                    assert_eq!(item.parse(), Ok(next));
                    next += 1;
                }
            }
        }
        let rest = world.all(&mut cursor);
        assert_eq!(rest, numbers(next..world.published));
    }
}

/// Whoever may not read history is told from where on it may read, wherever it wants to begin.
#[test]
fn a_reader_without_history_begins_with_what_is_recent() {
    let mut world = World::new(1, 1_000);
    world.publish(100);
    let after = |after| From::After(Position { epoch: EPOCH, after: Offset(after) });
    // Three seconds lie between two messages.
    let since = world.now.unix_ms - 30_000;
    let cursor = |from, lag| {
        let options = SubscribeOptions { from, lag, ..SubscribeOptions::default() };
        world.cursor(options).without_history(&world.topic, since)
    };
    let gap = |from| format!(r#"{{"gap":{{"from":{from},"to":89}},"epoch":"{EPOCH}"}}"#);
    for (from, gap) in [
        (From::Oldest, Some(gap(1))),
        (From::Last(50), Some(gap(51))),
        (after(60), Some(gap(61))),
        (From::Since(0), Some(gap(1))),
        (From::Last(11), None),
        (after(89), None),
    ] {
        let mut cursor = cursor(from, Lag::Gap).expect("it is told");
        let expected: Vec<_> = gap.into_iter().chain(numbers(90..101)).collect();
        assert_eq!(world.all(&mut cursor), expected, "{from:?}");
    }
    let mut near = cursor(after(95), Lag::Gap).expect("it may");
    assert_eq!(world.all(&mut near), numbers(96..101));
    let refused = cursor(From::Oldest, Lag::Close).expect_err("it is not told");
    assert_eq!(refused.to_string(), "not permitted: history on topic \"room.1\"");
}

fn event<'a>(key: Option<&'a str>, data: &'a [u8]) -> Publish<'a> {
    let message = Message { data, key, origin: 2, ..Message::default() };
    Publish { message, is_ephemeral: true, ..Publish::default() }
}

/// The log goes first, and an event of before is not sent to who came later.
#[test]
fn events_never_overtake_messages_and_never_hold_them_up() {
    let mut world = World::new(1, 1_000);
    let mut cursor = world.from(From::New);
    world.topic.publish(&event(None, b"typing"), world.now).expect("room");
    world.publish(1);
    world.topic.publish(&event(None, b"idle"), world.now).expect("room");
    let mut late = world.from(From::Oldest);
    assert_eq!(world.read(&mut cursor, 1).0, ["1"]);
    assert_eq!(world.all(&mut cursor), ["typing", "idle"]);
    assert_eq!(world.all(&mut late), ["1"], "they were before it came");
}

#[test]
fn events_wait_five_seconds_and_then_nobody_is_woken_for_them() {
    let mut world = World::new(1, 1_000);
    let mut cursor = world.from(From::New);
    world.topic.publish(&event(Some("p"), b"pointer 1"), world.now).expect("room");
    world.topic.publish(&event(Some("p"), b"pointer 2"), world.now).expect("room");
    assert_eq!(world.read(&mut cursor, 0), (vec![], Fill::NoRoom));
    assert_eq!(world.read(&mut cursor, 5).0, ["pointer 2"], "the newest of its key");
    world.topic.publish(&event(None, b"old"), world.now).expect("room");
    world.now = world.now.after(std::time::Duration::from_secs(6));
    assert!(world.all(&mut cursor).is_empty());
    assert_eq!(cursor.seen(), world.topic.version());
}

#[test]
fn a_topic_without_a_log_has_events_alone() {
    let settings = TopicSettings { kind: crate::settings::Kind::None, ..TopicSettings::default() };
    let name = TopicName::parse("cursors").expect("a name");
    let topic = Topic::new(name, EPOCH, Offset(1), Ended::Not, Arc::new(settings), &Arc::default());
    let world = World { topic, now: Now::default(), published: 1 };
    let mut cursor = world.from(From::Oldest);
    let message = Message { data: b"10,20", ..Message::default() };
    let publish = Publish { message, ..Publish::default() };
    let published = world.topic.publish(&publish, world.now).expect("room");
    assert_eq!(published.offset, None);
    assert_eq!(world.all(&mut cursor), ["10,20"]);
}

/// COMPLETE needs no credit: who was to be told more before it is told that no more.
#[test]
fn a_deleted_topic_ends_who_was_not_told_where_it_starts() {
    let mut world = World::new(1, 100);
    world.publish(3);
    let position = Position { epoch: Epoch(7), after: Offset(1) };
    let options = SubscribeOptions {
        from: From::After(position),
        tells_start: true,
        ..SubscribeOptions::default()
    };
    let mut cursor = world.cursor(options);
    assert_eq!(world.read(&mut cursor, 1).1, Fill::NoRoom, "the start, and a reset is to come");
    let _ = world.topic.delete();
    assert_eq!(world.read(&mut cursor, 0), (vec![], Fill::Ended));
}
