//! Joins: publishing and receiving on one stream, under one name.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use futures_util::{Stream, StreamExt, stream};
use rsock::{Error, Payload, PayloadExt, RequestStream, Requester, metadata::WellKnownMime};
use rsock_tests::script::PATIENCE;
use rsock_topics::{Limits, Rate, Service, Settings, TopicSettings};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::{World, ask};

/// A message with these options.
fn message(options: &str, data: impl ToString) -> Payload {
    let payload = Payload::new(data.to_string());
    payload.entry(WellKnownMime::Json, options).expect("short options")
}

/// A member.
pub(crate) struct Member {
    send: Option<mpsc::Sender<Payload>>,
    items: Pin<Box<RequestStream>>,
}

impl Member {
    /// Joins with these options, and asks for so many items.
    pub(crate) fn join(world: &World, options: &str, credit: u32) -> Self {
        Self::at(&world.client, "room.1", options, credit)
    }

    pub(crate) fn at(client: &Requester, topic: &str, options: &str, credit: u32) -> Self {
        let (send, mut sent) = mpsc::channel(1_000);
        let rest = stream::poll_fn(move |cx| sent.poll_recv(cx));
        let first = stream::iter([ask(&format!("topic.{topic}"), options)]);
        let items = client.request_channel(first.chain(rest)).credit(credit);
        Self { send: Some(send), items: Box::pin(items) }
    }

    pub(crate) async fn send(&self, options: &str, data: impl ToString) {
        let send = self.send.as_ref().expect("it sends");
        send.send(message(options, data)).await.expect("it is there");
    }

    /// The next item, in words.
    pub(crate) async fn next(&mut self) -> String {
        match self.end().await {
            Some(Ok(item)) => told(&item),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn next_of(&mut self, count: usize) -> Vec<String> {
        let mut told = Vec::new();
        for _ in 0..count {
            told.push(self.next().await);
        }
        told
    }

    pub(crate) async fn end(&mut self) -> Option<Result<Payload, Error>> {
        tokio::time::timeout(PATIENCE, self.items.next()).await.expect("in time")
    }

    /// Sends no more.
    pub(crate) fn finish(&mut self) {
        self.send = None;
    }

    /// The text of the error that it ends with.
    pub(crate) async fn error(&mut self) -> String {
        match self.end().await {
            Some(Err(error)) => error.to_string(),
            other => panic!("{other:?}"),
        }
    }

    /// Waits until it has joined.
    pub(crate) async fn started(&mut self) {
        let start = self.next().await;
        assert!(start.starts_with("start"), "{start}");
    }
}

fn told(item: &Payload) -> String {
    let metadata = item.metadata.as_deref().expect("metadata");
    // An entry of composite metadata.
    let json: Value = serde_json::from_slice(&metadata[4..]).expect("JSON");
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if let Some(ack) = json.get("ack") {
        assert!(item.data.is_empty());
        let flags: String = ["duplicate", "ephemeral", "info"]
            .iter()
            .filter(|flag| ack.get(**flag).is_some())
            .map(|flag| format!(" {flag}"))
            .collect();
        return format!("ack {} {}{flags}", text(&ack["offset"]), text(&ack["id"]));
    }
    if let Some(refused) = json.get("refused") {
        let [id, code, reason] = ["id", "code", "reason"].map(|name| text(&refused[name]));
        return format!("refused {id}: {code}: {reason}");
    }
    if let Some(start) = json.get("start") {
        let presence =
            start.get("presence").map_or(String::new(), |told| format!(" {}", text(told)));
        return format!("start {}{presence}", start["next"]);
    }
    let own = if json.get("own").is_some() {
        format!(" own {}", text(&json["id"]))
    } else {
        String::new()
    };
    let data = String::from_utf8_lossy(&item.data);
    format!("{} {} {data}{own}", text(&json["offset"]), text(&json["from"]))
}

#[tokio::test]
async fn payloads_are_acknowledged_in_order() {
    let world = World::new().await;
    let mut ann = Member::join(&world, r#"{"name":"ann","receive":"acks"}"#, 1_000);
    for n in 1..=500 {
        ann.send(&format!(r#"{{"id":"m-{n}"}}"#), n).await;
    }
    let expected: Vec<_> = (1..=500).map(|n| format!("ack {n} m-{n}")).collect();
    assert_eq!(ann.next_of(500).await, expected);
    ann.send(r#"{"id":"m-7"}"#, "again").await;
    assert_eq!(ann.next().await, "ack 7 m-7 duplicate");
    ann.send(r#"{"ephemeral":true,"id":"t"}"#, "typing").await;
    assert_eq!(ann.next().await, "ack null t ephemeral");
    ann.send(r#"{"expect":3,"id":"x"}"#, "no").await;
    let conflict = "conflict: the last offset of the topic is 500, not 3";
    assert_eq!(ann.next().await, format!("refused x: REJECTED: {conflict}"));
    ann.send(r#"{"idd":"x"}"#, "no").await;
    let refused = ann.next().await;
    assert!(refused.starts_with("refused null: INVALID: unknown option: \"idd\""), "{refused}");
    ann.send(r#"{"id":"after"}"#, "yes").await;
    assert_eq!(ann.next().await, "ack 501 after");
    // What it sent is there, in order and under its name.
    let page = world.topic("room.1").history().limit(1_000).page().await.expect("a page");
    let data: Vec<_> = page.messages.iter().map(|message| message.data.clone()).collect();
    let sent = (1..=500).map(|n| n.to_string()).chain(["yes".to_owned()]);
    assert_eq!(data, sent.collect::<Vec<_>>());
    assert!(page.messages.iter().all(|message| message.from.as_deref() == Some("ann")));
}

#[tokio::test]
async fn members_receive_what_others_send() {
    let world = World::new().await;
    let options = |name: &str, receive: &str| {
        format!(r#"{{"name":"{name}","receive":"{receive}","start":true}}"#)
    };
    let mut ann = Member::join(&world, &options("ann", "messages"), 100);
    let mut bob = Member::join(&world, &options("bob", "both"), 100);
    for member in [&mut ann, &mut bob] {
        member.started().await;
    }
    ann.send(r#"{"id":"a"}"#, "hi").await;
    assert_eq!(bob.next().await, "1 ann hi");
    bob.send(r#"{"id":"b\"1"}"#, "ho").await;
    bob.send("", "hu").await;
    // Its own stand for their answers.
    assert_eq!(bob.next_of(2).await, ["2 bob ho own b\"1", "3 bob hu own null"]);
    assert_eq!(ann.next_of(2).await, ["2 bob ho", "3 bob hu"], "not its own");
    // Events reach others alone, and are answered.
    bob.send(r#"{"ephemeral":true,"id":"t"}"#, "typing").await;
    assert_eq!(bob.next().await, "ack null t ephemeral");
    assert_eq!(ann.next().await, "null bob typing");
    // A message of the same connection that did not come by the join is another's.
    world.topic("room.1").publish("beside").await.expect("room");
    assert_eq!([ann.next().await, bob.next().await], ["4 null beside", "4 null beside"]);
    bob.send(r#"{"id":"b\"1"}"#, "ho").await;
    assert_eq!(bob.next().await, "ack 2 b\"1 duplicate");
}

#[tokio::test]
async fn a_join_without_an_echo_is_answered_by_acknowledgements() {
    let world = World::new().await;
    let options = r#"{"name":"ann","receive":"both","echo":false,"start":true}"#;
    let mut ann = Member::join(&world, options, 100);
    ann.started().await;
    ann.send(r#"{"id":"1"}"#, "one").await;
    assert_eq!(ann.next().await, "ack 1 1");
    world.topic("room.1").publish("beside").await.expect("room");
    ann.send(r#"{"id":"2"}"#, "two").await;
    assert_eq!(ann.next().await, "ack 3 2");
}

#[tokio::test]
async fn acknowledgements_come_for_messages_that_are_passed_over() {
    let world = World::new().await;
    let options = r#"{"name":"ann","receive":"both","lag":"conflate","start":true}"#;
    // One item at a time.
    let mut ann = Member::join(&world, options, 1);
    ann.started().await;
    for n in 1..=40 {
        ann.send(&format!(r#"{{"id":"{n}"}}"#), n).await;
    }
    let mut answered = Vec::new();
    while answered.len() < 40 {
        let item = ann.next().await;
        let words: Vec<_> = item.split(' ').collect();
        match words[..] {
            ["ack", offset, id] => assert_eq!(offset, id),
            [offset, "ann", data, "own", id] => assert!(offset == data && data == id),
            _ => panic!("{item}"),
        }
        answered
            .push(words[if words[0] == "ack" { 2 } else { 4 }].parse::<u32>().expect("a number"));
    }
    assert_eq!(answered, (1..=40).collect::<Vec<_>>(), "each once, in order");
}

#[tokio::test]
async fn a_refusal_that_nobody_would_hear_of_ends_the_join() {
    let world = World::new().await;
    for receive in ["messages", "none"] {
        let options = format!(r#"{{"name":"ann","receive":"{receive}"}}"#);
        let mut ann = Member::join(&world, &options, 100);
        ann.send("", "fine").await;
        ann.send(r#"{"expect":100}"#, "not fine").await;
        let error = ann.error().await;
        assert!(error.starts_with("REJECTED: conflict: "), "{error}");
    }
}

#[tokio::test]
async fn a_join_that_receives_nothing_ends_with_its_sender() {
    let world = World::new().await;
    let mut ann = Member::join(&world, r#"{"name":"ann","receive":"none"}"#, 1);
    for n in 1..=300 {
        ann.send("", n).await;
    }
    ann.finish();
    assert!(ann.end().await.is_none());
    let page = world.topic("room.1").history().page().await.expect("a page");
    assert_eq!(page.head, 300, "all of it was published before");

    // Others go on receiving.
    let mut bob = Member::join(&world, r#"{"name":"bob","start":true}"#, 10);
    bob.started().await;
    bob.finish();
    world.publish("room.1", 301..=301).await;
    assert_eq!(bob.next().await, "301 null 301");
    world.topic("room.1").delete().await.expect("it may");
    assert!(bob.end().await.is_none());
}

/// Sends numbers as fast as they are asked for, and counts them.
fn endless(options: &str) -> (impl Stream<Item = Payload> + use<>, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let first = ask("topic.room.1", options);
    let numbers = stream::iter(1_u64..).map(move |n| {
        count.fetch_add(1, Relaxed);
        message("", n)
    });
    (stream::iter([first]).chain(numbers), sent)
}

#[tokio::test]
async fn a_member_that_takes_no_answers_is_asked_for_no_more() {
    let world = World::new().await;
    let (numbers, sent) = endless(r#"{"name":"ann","receive":"acks"}"#);
    let mut items = Box::pin(world.client.request_channel(numbers).credit(1));
    assert_eq!(told(&items.next().await.expect("one").expect("it is told")), "ack 1 null");
    // Time for what else would come: another member's round trips.
    for _ in 0..50 {
        world.publish("other", 1..=1).await;
    }
    // Those that wait for their answers, as many that were granted, and the one or two that were answered.
    let most = sent.load(Relaxed);
    assert!((64..=64 + 64 + 4).contains(&most), "{most}");
    assert!(items.next().await.is_some());
}

#[tokio::test]
async fn whoever_has_no_name_or_no_place_for_answers_cannot_join() {
    let world = World::new().await;
    for (options, expected) in [
        ("", "INVALID: no name: this connection is not authenticated; join with \"name\""),
        (r#"{"name":""}"#, "INVALID: not a valid name: \"\""),
        (
            r#"{"name":"a","recieve":"both"}"#,
            "INVALID: unknown option: \"recieve\" (did you mean \"receive\"?)",
        ),
        (r#"{"name":"a","from":"old"}"#, "INVALID: not a valid from: \"old\""),
    ] {
        let error = Member::join(&world, options, 1).error().await;
        assert!(error.starts_with(expected), "{options}: {error}");
    }
    let plain = World::of(Service::new(Settings::default())).await;
    let client = rsock::Client::builder().metadata_mime("message/x.rsocket.routing.v0");
    let client = client.connect(&plain.uri).await.expect("it listens");
    // The route alone: nothing else has a place in such metadata.
    let options = r#"{"name":"a","receive":"acks"}"#;
    let first = Payload::new(options).with_metadata(&b"\x0ctopic.room.1"[..]);
    let mut items = Box::pin(client.request_channel(stream::iter([first])));
    let error = items.next().await.expect("an end").expect_err("no place").to_string();
    assert!(error.starts_with("INVALID: no metadata: "), "{error}");
}

#[tokio::test]
async fn the_last_message_ends_the_join() {
    let world = World::new().await;
    let mut ann = Member::join(&world, r#"{"name":"ann","receive":"both"}"#, 10);
    ann.send(r#"{"id":"1","close":true}"#, "bye").await;
    assert_eq!(ann.next().await, "1 ann bye own 1");
    assert!(ann.end().await.is_none());
}

#[tokio::test]
async fn a_rate_holds_a_member_back_and_refuses_nothing() {
    let rate = Rate::new(100, 1).ok();
    let settings = TopicSettings { rate, ..TopicSettings::default() };
    let settings = Settings::new(Limits::default(), [("room.>", settings)]).expect("valid");
    let world = World::of(Service::new(settings)).await;
    let mut ann = Member::join(&world, r#"{"name":"ann","receive":"none"}"#, 1);
    let started = std::time::Instant::now();
    for n in 1..=6 {
        ann.send("", n).await;
    }
    ann.finish();
    assert!(ann.end().await.is_none());
    // The first came at once, each of the others 10 ms later.
    assert!(started.elapsed() >= std::time::Duration::from_millis(50), "{:?}", started.elapsed());
    let page = world.topic("room.1").history().page().await.expect("a page");
    let data: Vec<_> = page.messages.iter().map(|message| message.data.clone()).collect();
    assert_eq!(data, ["1", "2", "3", "4", "5", "6"]);
}
