//! Joins, with senders and sinks that take what they are given.

use std::{collections::VecDeque, sync::Arc};

use rsock_proto::SharedPayload;

use super::*;
use crate::{
    dedup::DedupSecret,
    entry::Message,
    name::TopicName,
    options::{Lag, SubscribeOptions},
    position::Epoch,
    refusal::Refusal,
    settings::TopicSettings,
    time::Now,
    topic::{Journal, Publish, Recovered, Staged},
};

const NOW: Now = Now { monotonic: Instant(0), unix_ms: 1_000 };
const JOIN: u32 = 7;

fn topic(kind: Kind) -> Topic {
    let settings = Arc::new(TopicSettings { kind, ..TopicSettings::default() });
    let name = TopicName::parse("room.1").expect("a name");
    Topic::new(name, Epoch(0xe0), Offset(1), Ended::Not, settings, &Arc::default())
}

/// A disk that takes all.
#[derive(Debug)]
struct Disk;

impl Journal for Disk {
    fn bind(&self, _: &Arc<Topic>) {}

    fn take(&self, _: &Staged<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    fn read(
        &self,
        from: Offset,
        _: usize,
        _: &mut dyn FnMut(Staged<'_>),
    ) -> Result<Offset, Refusal> {
        Ok(from)
    }

    fn trim(&self, _: Offset) -> Result<(), Refusal> {
        Ok(())
    }

    fn delete(&self) -> Result<(), Refusal> {
        Ok(())
    }
}

fn durable() -> Topic {
    let recovered = Recovered {
        epoch: Epoch(0xe0),
        base: Offset(1),
        next: Offset(1),
        is_closed: false,
        time: 0,
        damage: None,
    };
    let settings = TopicSettings { kind: Kind::Durable, ..TopicSettings::default() };
    let name = TopicName::parse("room.1").expect("a name");
    Topic::durable(name, &recovered, Box::new(Disk), Arc::new(settings), &Arc::default())
}

/// Payloads: keys, or idempotency keys, by which they are published.
struct Payloads<'a> {
    topic: &'a Topic,
    join: u32,
    left: VecDeque<&'static str>,
}

impl Sender for Payloads<'_> {
    type Payload = &'static str;

    fn next(&mut self) -> Next<&'static str> {
        self.left.pop_front().map_or(Next::NotYet, Next::Payload)
    }

    fn publish(&mut self, key: &&'static str) -> Done {
        let is_latest = self.topic.settings().kind == Kind::Latest;
        let secret = DedupSecret::new([1, 2]);
        let data = key.as_bytes();
        let message = Message { data, key: Some(key), join: self.join, ..Message::default() };
        let id = (!is_latest).then(|| secret.key("room.1", None, key));
        let publish = Publish { message, id, ..Publish::default() };
        let outcome = self.topic.publish(&publish, NOW).map(|published| Outcome::from(&published));
        Done { id: Some((*key).into()), outcome: outcome.map_err(Stop::from) }
    }
}

/// The items it was sent, as their metadata; or `own` and the data of its own messages.
#[derive(Default)]
struct Taken<'a> {
    items: Vec<String>,
    /// All is committed when it is asked for room.
    commits: Option<&'a Topic>,
}

impl Sink for Taken<'_> {
    fn has_room(&mut self) -> bool {
        let _ = self.commits.map(|topic| topic.commit(Offset(3)));
        true
    }

    fn send(&mut self, item: &SharedPayload) -> Result<(), Refusal> {
        let payload = item.to_payload();
        let json = String::from_utf8_lossy(&payload.metadata.unwrap_or_default()).into_owned();
        let data = String::from_utf8_lossy(&payload.data).into_owned();
        self.items.push(if json.contains("own") { format!("own {data}") } else { json });
        Ok(())
    }

    fn now(&self) -> Now {
        NOW
    }
}

fn joined(topic: &Topic, lag: Lag) -> Join<&'static str> {
    let options = SubscribeOptions { lag, tells_start: true, ..SubscribeOptions::default() };
    let cursor = Cursor::new(topic, &options, Some(Form::Plain), 1, NOW).expect("it begins");
    Join::new(topic, JOIN, Receive::Both, Some(Form::Plain), Some(cursor)).expect("it begins")
}

fn ack(offset: u64, id: &str) -> String {
    format!(r#"{{"ack":{{"epoch":"00000000000000e0","offset":{offset},"id":"{id}"}}}}"#)
}

/// Answers are in order whatever stands for them: a message that is passed over is
/// acknowledged before one behind it is shown.
#[test]
fn answers_are_in_order_where_messages_are_passed_over() {
    for (kind, lag) in [(Kind::Latest, Lag::Gap), (Kind::Memory, Lag::Conflate)] {
        let topic = topic(kind);
        let mut join = joined(&topic, lag);
        let left = if kind == Kind::Latest { ["a", "a", "b"] } else { ["a", "b", "c"] };
        let mut payloads = Payloads { topic: &topic, join: JOIN, left: left.into() };
        let mut taken = Taken::default();
        assert_eq!(join.fill(&topic, &mut payloads, &mut taken), Fill::CaughtUp);
        let wanted = match kind {
            Kind::Latest => vec![ack(1, "a"), "own a".to_owned(), "own b".to_owned()],
            _ => vec![ack(1, "a"), ack(2, "b"), "own c".to_owned()],
        };
        assert_eq!(taken.items[1..], wanted, "{kind:?}");
        assert_eq!(join.unanswered(), 0);
    }
}

/// A message that is committed while the stream is filled is acknowledged before what is shown behind it.
#[test]
fn answers_are_in_order_where_the_disk_is_faster() {
    let topic = durable();
    let mut join = joined(&topic, Lag::Gap);
    let mut others = Payloads { topic: &topic, join: 0, left: VecDeque::new() };
    assert!(matches!(others.publish(&"a").outcome, Ok(Outcome::Appended(Offset(1)))));
    let mut payloads = Payloads { topic: &topic, join: JOIN, left: ["a", "b"].into() };
    let mut taken = Taken { commits: Some(&topic), ..Taken::default() };
    assert_eq!(join.fill(&topic, &mut payloads, &mut taken), Fill::CaughtUp);
    let again = ack(1, "a").replace(r#""a""#, r#""a","duplicate":true"#);
    let items: Vec<_> = taken.items.iter().map(|item| &item[..]).collect();
    assert!(matches!(&items[..], [_, known, _, "own b"] if *known == again), "{items:?}");
}
