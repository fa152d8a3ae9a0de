use std::time::Duration;

use super::*;
use crate::{
    dedup::DedupKey,
    entry::Message,
    settings::{Creation, Limits, Retention},
};

struct Nobody;

impl Wake for Nobody {
    fn wake(&self) -> bool {
        true
    }
}

fn topics(limits: Limits) -> Arc<Topics> {
    let settings = Settings::new(limits, []).expect("valid");
    Arc::new(Topics::new(settings, Epoch(1)))
}

fn name(text: &str) -> TopicName {
    TopicName::parse(text).expect("a name")
}

fn publish(topics: &Topics, topic: &str, data: &[u8], now: Now) -> Result<u64, Refusal> {
    let message = Message { data, ..Message::default() };
    let publish = Publish { message, ..Publish::default() };
    let (published, _) = topics.publish(&name(topic), None, &publish, now)?;
    Ok(published.offset.expect("it is kept").0)
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Within an epoch no offset is given twice, whatever is forgotten.
#[test]
fn offsets_never_repeat_whatever_is_forgotten() {
    let topics = topics(Limits::default());
    let now = Now::default();
    for n in 1..=5 {
        assert_eq!(publish(&topics, "a", b"x", now), Ok(n));
    }
    assert_eq!(publish(&topics, "b", b"x", now), Ok(1));
    let later = now.after(DAY);
    topics.tick(later);
    assert_eq!((topics.len(), topics.bytes()), (0, 0), "only records are left");
    assert_eq!(publish(&topics, "a", b"x", later), Ok(6), "its record was kept");
    let much_later = later.after(DAY);
    topics.tick(much_later);
    topics.tick(much_later.after(DAY));
    let reopened = publish(&topics, "a", b"x", much_later);
    assert_eq!(reopened, Ok(7), "the floor is above all that was given");
    assert_eq!(publish(&topics, "c", b"x", much_later), Ok(7), "for everybody");
}

#[test]
fn deleted_topics_go_on_with_their_offsets() {
    let topics = topics(Limits::default());
    let now = Now::default();
    assert_eq!(publish(&topics, "a", b"x", now), Ok(1));
    let old = topics.open(&name("a")).expect("there");
    assert!(topics.delete(&name("a"), now).expect("no disk").is_some());
    assert_eq!(old.ended(), Ended::Deleted);
    assert!(topics.find(&name("a")).is_none());
    assert_eq!(publish(&topics, "a", b"x", now), Ok(2));
    assert!(topics.delete(&name("b"), now).expect("no disk").is_none());
}

/// What is for a topic that has gone is not for the next of its name.
#[test]
fn what_is_appended_to_a_deleted_topic_is_refused() {
    let topics = topics(Limits::default());
    let now = Now { monotonic: Instant(0), unix_ms: 0 };
    let topic = topics.open(&name("a")).expect("room");
    topics.delete(&name("a"), now).expect("no disk");
    let message = Message { data: b"x", ..Message::default() };
    for is_ephemeral in [false, true] {
        let publish = Publish { message, is_ephemeral, ..Publish::default() };
        let refused = topics.append(&topic, &publish, now).expect_err("it has gone");
        assert!(refused.to_string().starts_with("no topic: "), "{refused}");
    }
    assert!(topics.find(&name("a")).is_none());
    assert_eq!(publish(&topics, "a", b"x", now), Ok(1));
}

#[test]
fn closed_topics_stay_closed_when_they_are_put_away() {
    let topics = topics(Limits::default());
    let message = Message { data: b"end", ..Message::default() };
    let last = Publish { message, closes: true, ..Publish::default() };
    topics.publish(&name("a"), None, &last, Now::default()).expect("room");
    let later = Now::default().after(DAY);
    topics.tick(later);
    assert!(topics.is_empty());
    let refused = publish(&topics, "a", b"x", later).expect_err("closed");
    assert!(refused.to_string().starts_with("closed: "), "{refused}");
    assert!(refused.to_string().ends_with(" 1"), "{refused}");
}

/// Names that are asked for and never published to are not remembered.
#[test]
fn subscribing_leaves_no_record() {
    let topics = topics(Limits::default());
    for n in 0..1_000 {
        let topic = topics.open(&name(&format!("squat.{n}"))).expect("room");
        let reader = topics.enter(&topic, 1, || Box::new(Nobody)).expect("room");
        drop(topic);
        assert_eq!(topics.len(), 1);
        drop(reader);
        assert_eq!(topics.len(), 0);
    }
    assert!(lock(&topics.index).records.is_empty());
}

#[test]
fn records_are_bounded_and_the_oldest_goes() {
    let topics = topics(Limits { records: 10, ..Limits::default() });
    let mut now = Now::default();
    for n in 0..20 {
        assert_eq!(publish(&topics, &format!("t.{n}"), b"x", now), Ok(1));
        now = now.after(Duration::from_secs(1));
    }
    let later = now.after(DAY);
    topics.tick(later);
    assert_eq!(lock(&topics.index).records.len(), 10);
    assert_eq!(publish(&topics, "new", b"x", later), Ok(2), "the floor");
}

#[test]
fn topics_and_subscriptions_are_bounded() {
    let topics = topics(Limits { topics: 3, subscriptions: 2, ..Limits::default() });
    let now = Now::default();
    for topic in ["a", "b", "c"] {
        publish(&topics, topic, b"x", now).expect("room");
    }
    let refused = publish(&topics, "d", b"x", now).expect_err("full");
    assert!(refused.to_string().starts_with("too many topics: 3"), "{refused}");
    let topic = topics.open(&name("a")).expect("there");
    let readers = [1, 2].map(|id| topics.enter(&topic, id, || Box::new(Nobody)));
    let refused = topics.enter(&topic, 3, || Box::new(Nobody)).expect_err("full");
    assert!(refused.to_string().starts_with("too many subscriptions: 2"), "{refused}");
    drop(readers);
    topics.enter(&topic, 3, || Box::new(Nobody)).expect("room again");
}

#[test]
fn undeclared_topics_are_refused_where_none_is_made_on_use() {
    let limits = Limits { create: Creation::Config, ..Limits::default() };
    let settings = Settings::new(limits, [("room.*", TopicSettings::default())]).expect("valid");
    let topics = Topics::new(settings, Epoch(1));
    publish(&topics, "room.1", b"x", Now::default()).expect("declared");
    let refused = publish(&topics, "other", b"x", Now::default()).expect_err("undeclared");
    assert!(refused.to_string().starts_with("no topic: \"other\""), "{refused}");
}

#[test]
fn publishes_are_as_fast_as_their_rates_allow() {
    let rate = |per_second| Some(crate::rate::Rate::new(per_second, 2).expect("a rate"));
    let limits = Limits { connection_rate: rate(10), name_rate: rate(1), ..Limits::default() };
    let of_topic = TopicSettings { rate: rate(100), ..TopicSettings::default() };
    let settings = Settings::new(limits, [("slow", of_topic)]).expect("valid");
    let topics = Topics::new(settings, Epoch(1));
    let now = Now::default();
    let text = |topic: &str, origin, sender| {
        let message = Message { data: b"x", origin, ..Message::default() };
        let publish = Publish { message, ..Publish::default() };
        topics.publish(&name(topic), sender, &publish, now).err().map(|error| error.to_string())
    };
    assert_eq!([text("a", 1, None), text("b", 1, None)], [None, None]);
    let of_connection = "too fast: 10 messages/s allowed; again in 100 ms";
    assert_eq!(text("c", 1, None).as_deref(), Some(of_connection));
    assert_eq!([text("a", 2, Some("ann")), text("a", 3, Some("ann"))], [None, None]);
    let of_name = "too fast: 1 messages/s allowed; again in 1000 ms";
    assert_eq!(text("a", 4, Some("ann")).as_deref(), Some(of_name));
    assert_eq!([text("slow", 5, None), text("slow", 6, None)], [None, None]);
    let of_topic = "too fast: 100 messages/s allowed; again in 10 ms";
    assert_eq!(text("slow", 7, None).as_deref(), Some(of_topic));
}

/// Who comes to a topic and goes again does not make it forgotten the sooner.
#[test]
fn a_record_is_kept_for_its_time_whoever_comes_by() {
    let topics = topics(Limits { topic_memory: DAY, ..Limits::default() });
    let last = Message { data: b"last", ..Message::default() };
    let last = Publish { message: last, closes: true, ..Publish::default() };
    topics.publish(&name("a"), None, &last, Now::default()).expect("room");
    let put_away = Now::default().after(2 * DAY);
    topics.tick(put_away);
    assert!(topics.is_empty());
    let topic = topics.open(&name("a")).expect("room");
    drop(topics.enter(&topic, 1, || Box::new(Nobody)).expect("room"));
    drop(topic);
    topics.tick(put_away.after(DAY / 2));
    topics.tick(put_away.after(DAY));
    let refused = publish(&topics, "a", b"x", put_away.after(DAY)).expect_err("it is closed");
    assert_eq!(refused.to_string(), "closed: the last message of topic \"a\" is 1");
}

/// The clock is set back while nobody uses a topic: its times go on, and who asks for a time is told what
/// has gone since.
#[test]
fn times_go_on_when_a_topic_is_opened_again() {
    let topics = topics(Limits { topic_memory: DAY, ..Limits::default() });
    let at = |days: u32, unix_ms| Now { unix_ms, ..Now::default().after(days * DAY) };
    let since = |time| {
        let topic = topics.open(&name("a")).expect("room");
        let beginning = topic.begin(&crate::options::Start::Since(time), at(2, 50));
        (beginning.gap.map(|(from, to)| (from.0, to.0)), beginning.next.0)
    };
    for _ in 0..2 {
        publish(&topics, "a", b"x", at(0, 100)).expect("room");
    }
    topics.tick(at(2, 50));
    assert!(topics.is_empty());
    assert_eq!(publish(&topics, "a", b"x", at(2, 50)), Ok(3));
    let topic = topics.open(&name("a")).expect("room");
    assert_eq!(topic.newest(), 100);
    assert_eq!([since(100), since(101)], [(Some((1, 2)), 3), (None, 4)]);
    // The same where even its record is forgotten.
    drop(topic);
    topics.tick(at(4, 50));
    topics.tick(at(6, 50));
    assert_eq!([since(100), since(101)], [(Some((1, 3)), 4), (None, 4)]);
    let deleted = topics.delete(&name("a"), at(6, 50)).expect("no disk");
    assert!(deleted.is_some(), "nothing was published to it");
    assert_eq!([since(100), since(101)], [(Some((1, 3)), 4), (None, 4)]);
}

/// L4: whoever holds most gives way, and nobody's last messages go.
/// So they do in a topic of the newest by key, which has a log of another kind.
#[test]
fn times_of_the_newest_by_key_go_on_when_it_is_opened_again() {
    let board = TopicSettings { kind: Kind::Latest, ..TopicSettings::default() };
    let settings = Settings::new(Limits::default(), [("board", board)]).expect("valid");
    let (topics, board) = (Topics::new(settings, Epoch(1)), name("board"));
    let at = |unix_ms| Now { unix_ms, ..Now::default() };
    let message = Message { key: Some("k"), ..Message::default() };
    let publish = Publish { message, ..Publish::default() };
    topics.publish(&board, None, &publish, at(5_000)).expect("it is taken");
    topics.delete(&board, at(5_000)).expect("no disk");
    let (_, topic) = topics.publish(&board, None, &publish, at(100)).expect("it is taken");
    assert_eq!(topic.newest(), 5_000, "the clock was set back, and times are not");
}

#[test]
fn the_memory_of_all_logs_is_bounded() {
    let limit = 4 << 20;
    let limits = Limits { memory: limit, ..Limits::default() };
    let retention = Retention { messages: u64::MAX, ..Retention::default() };
    let of_all = TopicSettings { retention, ..TopicSettings::default() };
    let topics = Topics::new(Settings::new(limits, [(">", of_all)]).expect("valid"), Epoch(1));
    let now = Now::default();
    for n in 0..20 {
        publish(&topics, "small", &[b'x'; 100], now).expect("room");
        publish(&topics, &format!("few.{n}"), &[b'x'; 1_000], now).expect("room");
    }
    for _ in 0..20_000 {
        publish(&topics, "greedy", &[b'x'; 1_000], now).expect("room");
        assert!(topics.bytes() <= limit + 10_000, "{}", topics.bytes());
    }
    let small = topics.find(&name("small")).expect("there");
    assert_eq!((small.base(), small.visible()), (Offset(1), Offset(21)));
    let greedy = topics.find(&name("greedy")).expect("there");
    assert!(greedy.bytes() > limit / 2, "{}", greedy.bytes());
}

/// To ask all topics for each message that is refused would let a stranger stop everybody.
#[test]
fn topics_that_cannot_give_way_are_not_asked_again_for_each_message() {
    let topics = topics(Limits { memory: 1 << 20, ..Limits::default() });
    let now = Now::default();
    let mut refused = 0;
    for n in 0..10_000 {
        refused += usize::from(publish(&topics, &format!("t.{n}"), &[b'x'; 100], now).is_err());
    }
    assert!(refused > 5_000, "{refused}");
    let held = topics.exhausted.load(Ordering::Relaxed);
    assert!(held > 0);
    // When much has gone there is room again.
    for n in 0..200 {
        topics.delete(&name(&format!("t.{n}")), now).expect("no disk");
    }
    publish(&topics, "other", &[b'x'; 100], now).expect("room");
    for _ in 0..10_000 {
        publish(&topics, "greedy", &[b'x'; 100], now).expect("it gives way to itself");
    }
}

/// Many topics of a few dozen messages: none has a segment that it could give up whole, and all together hold
/// several times what they may.
#[test]
fn topics_with_one_segment_each_give_way_to_each_other() {
    let topics = topics(Limits { memory: 16 << 20, ..Limits::default() });
    for round in 0..100 {
        let now = Now::default().after(Duration::from_millis(round));
        for n in 0..800 {
            publish(&topics, &format!("t.{n}"), &[b'x'; 200], now).expect("room");
        }
        assert!(topics.bytes() <= (16 << 20) + 4_096, "{}", topics.bytes());
    }
}

#[test]
fn where_nobody_can_give_way_a_publish_is_refused() {
    let topics = topics(Limits { memory: 1 << 20, ..Limits::default() });
    let refused = (0..10_000)
        .find_map(|n| publish(&topics, &format!("t.{n}"), &[b'x'; 1_000], Now::default()).err())
        .expect("too many last messages");
    assert!(refused.to_string().starts_with("no memory: "), "{refused}");
    // Beside the data, which are looked at before, a message has a place, and a topic one.
    assert!(topics.bytes() <= (1 << 20) + 4_096, "{}", topics.bytes());
}

fn publish_id(topics: &Topics, topic: &str, id: u64, now: Now) -> Result<(u64, bool), Refusal> {
    let message = Message { data: &[b'x'; 1_000], origin: 1, ..Message::default() };
    let publish = Publish { message, id: Some(DedupKey([id, 0])), ..Publish::default() };
    let (published, _) = topics.publish(&name(topic), None, &publish, now)?;
    Ok((published.offset.expect("it is kept").0, published.is_duplicate))
}

#[test]
fn what_was_published_is_acknowledged_again_where_a_bound_would_refuse_it() {
    let rate = crate::rate::Rate::new(1, 1).expect("a rate");
    let limits = Limits { memory: 1 << 20, connection_rate: Some(rate), ..Limits::default() };
    let topics = topics(limits);
    let now = Now::default();
    assert_eq!(publish_id(&topics, "a", 7, now), Ok((1, false)));
    let refused = publish_id(&topics, "a", 8, now).expect_err("too fast").to_string();
    assert!(refused.starts_with("too fast: "), "{refused}");
    assert_eq!(publish_id(&topics, "a", 7, now), Ok((1, true)));
    let later = now.after(Duration::from_secs(1));
    let fill = |n| {
        let message = Message { data: &[b'x'; 1_000], ..Message::default() };
        let publish = Publish { message, ..Publish::default() };
        let topic = topics.open(&name(&format!("t.{n}")))?;
        topics.append(&topic, &publish, later)
    };
    let refused = (0..10_000).find_map(|n| fill(n).err()).expect("it is full").to_string();
    assert!(refused.starts_with("no memory: "), "{refused}");
    let refused = publish_id(&topics, "a", 9, later).expect_err("no memory").to_string();
    assert!(refused.starts_with("no memory: "), "{refused}");
    assert_eq!(publish_id(&topics, "a", 7, later), Ok((1, true)));
}

#[test]
fn a_topic_that_is_put_away_remembers_what_was_published() {
    let topics = topics(Limits::default());
    let now = Now::default();
    for id in 1..=3 {
        assert_eq!(publish_id(&topics, "a", id, now), Ok((id, false)));
    }
    for n in 1..=3 {
        topics.tick(now.after(n * DAY / 2 + DAY / 2));
        assert!(topics.is_empty());
        // Whoever only looks at it changes nothing.
        let topic = topics.open(&name("a")).expect("room");
        drop(topics.enter(&topic, 1, || Box::new(Nobody)).expect("room"));
        assert_eq!(topic.ids(), 3);
    }
    let later = now.after(2 * DAY);
    topics.tick(later);
    assert_eq!(publish_id(&topics, "a", 2, later), Ok((2, true)));
    assert_eq!(publish_id(&topics, "a", 4, later), Ok((4, false)));
    // A topic that was deleted is another one.
    topics.delete(&name("a"), later).expect("no disk");
    assert_eq!(publish_id(&topics, "a", 2, later), Ok((5, false)));
    // Also where it is put away when somebody deletes it.
    let much_later = later.after(DAY);
    topics.tick(much_later);
    assert!(topics.is_empty() && topics.bytes() > 0);
    assert!(topics.delete(&name("a"), much_later).expect("no disk").is_none());
    assert_eq!((topics.bytes(), lock(&topics.index).with_ids.len()), (0, 0));
    assert_eq!(publish_id(&topics, "a", 2, much_later), Ok((6, false)));
}

/// Where there is no room for a topic, what is left of it answers.
#[test]
fn a_topic_that_cannot_be_opened_answers_what_it_has_seen() {
    let topics = topics(Limits { topics: 1, ..Limits::default() });
    let now = Now::default();
    assert_eq!(publish_id(&topics, "a", 7, now), Ok((1, false)));
    let later = now.after(DAY);
    topics.tick(later);
    assert_eq!(publish_id(&topics, "b", 7, later), Ok((1, false)));
    assert_eq!(publish_id(&topics, "a", 7, later), Ok((1, true)));
    let refused = publish_id(&topics, "a", 8, later).expect_err("too many").to_string();
    assert!(refused.starts_with("too many topics: "), "{refused}");
    assert_eq!(topics.len(), 1);
}

/// What is remembered of topics that nobody uses is bounded, and gives way to messages.
#[test]
fn the_ids_of_topics_that_were_put_away_are_bounded() {
    let limit = 4 << 20;
    let topics = topics(Limits { memory: limit, ..Limits::default() });
    let mut now = Now::default();
    for n in 0..200_u64 {
        let topic = format!("t.{n}");
        for id in 0..100 {
            publish_id(&topics, &topic, id, now).expect("room");
        }
        topics.find(&name(&topic)).expect("there").purge().expect("no disk");
        now = now.after(Duration::from_secs(1));
        topics.tick(now);
        assert!(topics.bytes() <= limit / IDS_PART, "{}", topics.bytes());
    }
    let forgotten = topics.forgotten_ids();
    assert!((1..20_000).contains(&forgotten) && forgotten.is_multiple_of(100), "{forgotten}");
    assert_eq!(publish_id(&topics, "t.199", 5, now), Ok((6, true)));
    assert_eq!(publish_id(&topics, "t.0", 5, now), Ok((101, false)), "the oldest went");
    // When messages need the memory, they get it.
    let mut refused = 0;
    for n in 0..10_000 {
        refused += usize::from(publish(&topics, &format!("u.{n}"), &[b'x'; 1_000], now).is_err());
    }
    assert!(refused > 0);
    assert_eq!(topics.put_away.bytes(), 0);
    assert!(lock(&topics.index).with_ids.is_empty());
}

/// One stranger does not use up the topics of everybody; what is gone does not count.
#[test]
fn nobody_makes_more_topics_than_their_share() {
    let topics = topics(Limits { topics: 10, topics_of_one: 3, ..Limits::default() });
    let now = Now::default();
    let publish = |topic: String, origin, sender| {
        let message = Message { data: b"x", origin, ..Message::default() };
        let publish = Publish { message, ..Publish::default() };
        topics.publish(&name(&topic), sender, &publish, now).map(drop)
    };
    for n in 0..3 {
        publish(format!("a.{n}"), 1, None).expect("its share");
        publish(format!("b.{n}"), 1, Some("bob")).expect("his share");
    }
    let refused = publish("a.3".to_owned(), 1, None).expect_err("it has three").to_string();
    assert!(refused.starts_with("too many topics: 3 that this connection has made"), "{refused}");
    let refused = publish("b.3".to_owned(), 2, Some("bob")).expect_err("he has three").to_string();
    assert!(refused.starts_with("too many topics: 3 that \"bob\" has made"), "{refused}");
    // It may use those that are there, and others make theirs.
    publish("a.0".to_owned(), 1, None).expect("there");
    publish("b.1".to_owned(), 1, None).expect("there");
    publish("c.0".to_owned(), 2, None).expect("another's share");
    topics.delete(&name("a.1"), now).expect("no disk");
    publish("a.3".to_owned(), 1, None).expect("room again");
    topics.tick(now.after(DAY));
    assert!(topics.is_empty());
    for n in 4..7 {
        publish(format!("a.{n}"), 1, None).expect("those that were put away do not count");
    }
}
