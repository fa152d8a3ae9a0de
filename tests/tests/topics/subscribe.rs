//! Publishing and subscribing.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use rsock::{
    Client, Error, Payload, PayloadExt, RequestStream, Router, Server, metadata::WellKnownMime,
};
use rsock_tests::record::limit_time;
use rsock_tests::script::Peer;
use rsock_tests::wire::{fnf, rn, route, rr, rs};
use rsock_topics::{Retention, Service, Settings, TopicSettings};

use crate::ask as to;

/// A service of topics on one address of each transport.
struct Serving {
    topics: Service,
    uris: Vec<String>,
}

impl Serving {
    async fn start(settings: Settings) -> Self {
        limit_time();
        let topics = Service::new(settings);
        let uris = ["tcp://127.0.0.1:0", "ws://127.0.0.1:0/rsocket"];
        let server = Server::builder().bind(&uris).await.expect("free ports");
        let uris = server.addresses();
        let app = topics.add_to(Router::new(()));
        tokio::spawn(server.serve(app).into_future());
        Self { topics, uris }
    }

    async fn client(&self, transport: usize) -> Client {
        Client::builder().connect(&self.uris[transport]).await.expect("a connection")
    }
}

/// A request to a route with options as JSON in its metadata.
fn with_options(route: &str, options: &str, data: &str) -> Payload {
    Payload::new(data.to_owned())
        .route(route)
        .and_then(|payload| payload.entry(WellKnownMime::Json, options))
        .expect("a short route")
}

/// Waits for what a connection's end brings about on the server.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect(what);
}

async fn publish(client: &Client, topic: &str, data: &str) -> Result<String, Error> {
    let answer = client.request_response(to(topic, data)).await?;
    Ok(text(&answer.data))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The JSON beside an item: behind the header of its entry.
fn told(item: &Payload) -> String {
    text(&item.metadata.as_ref().expect("metadata")[4..])
}

async fn next(items: &mut RequestStream) -> Payload {
    items.next().await.expect("an item").expect("no error")
}

#[tokio::test]
async fn what_is_published_reaches_who_subscribed_before_and_after() {
    let serving = Serving::start(Settings::default()).await;
    for transport in [0, 1] {
        let client = serving.client(transport).await;
        let topic = format!("topic.room.{transport}");
        let mut early = client.request_stream(to(&topic, r#"{"start":true}"#));
        let start = told(&next(&mut early).await);
        assert!(start.contains(r#""next":1,"base":1,"head":0"#), "{start}");
        for (data, offset) in [("hi", 1), ("hello", 2)] {
            let ack = publish(&client, &topic, data).await.expect("room");
            assert!(ack.ends_with(&format!(r#","offset":{offset}}}"#)), "{ack}");
        }
        let mut late = client.request_stream(to(&topic, r#"{"from":"start"}"#));
        for items in [&mut early, &mut late] {
            for (data, offset) in [("hi", 1), ("hello", 2)] {
                let item = next(items).await;
                assert_eq!(item.data, data);
                let told = told(&item);
                let begin = format!(r#"{{"topic":"room.{transport}","epoch":""#);
                assert!(told.starts_with(&begin), "{told}");
                assert!(told.contains(&format!(r#","offset":{offset},"time":1"#)), "{told}");
            }
        }
    }
}

/// Requests of one connection to one topic are appended as their frames arrived, whatever they are.
#[tokio::test]
async fn publishes_of_a_connection_keep_their_order() {
    let serving = Serving::start(Settings::default()).await;
    let mut peer = Peer::established(&serving.uris[0]).await;
    let frames = (0..200_u32).map(|n| {
        let frame =
            if n % 3 == 0 { fnf(2 * n + 1, n.to_string()) } else { rr(2 * n + 1, n.to_string()) };
        frame.metadata(route("topic.order"))
    });
    peer.send_all(frames).await;
    assert_eq!(peer.ping_collecting().await.len(), 133, "one acknowledgement a request");
    let client = serving.client(1).await;
    let items = client.request_stream(to("topic.order", r#"{"from":"start"}"#)).take(200);
    let items: Vec<_> = items.map_ok(|item| text(&item.data)).try_collect().await.expect("items");
    assert_eq!(items, (0..200).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_acknowledged_message_is_seen_by_who_comes_later() {
    let serving = Serving::start(Settings::default()).await;
    let [one, other] = [serving.client(0).await, serving.client(1).await];
    for n in 0..100 {
        publish(&one, "topic.mine", &n.to_string()).await.expect("room");
        let mut last = other.request_stream(to("topic.mine", r#"{"from":{"last":1}}"#));
        assert_eq!(next(&mut last).await.data, n.to_string());
    }
}

#[tokio::test]
async fn a_key_is_published_once() {
    let serving = Serving::start(Settings::default()).await;
    let client = serving.client(0).await;
    let once = |data| client.request_response(with_options("topic.once", r#"{"id":"m-1"}"#, data));
    let first = text(&once("a").await.expect("room").data);
    let again = text(&once("b").await.expect("room").data);
    assert_eq!(again, first.replace("\"offset\":1}", "\"offset\":1,\"duplicate\":true}"));
    publish(&client, "topic.once", "c").await.expect("room");
    let items = client.request_stream(to("topic.once", r#"{"from":"start"}"#)).take(2);
    let items: Vec<_> = items.map_ok(|item| text(&item.data)).try_collect().await.expect("items");
    assert_eq!(items, ["a", "c"]);
    let figures = serving.topics.figures();
    assert_eq!((figures.published, figures.duplicates), (2, 1));
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_a_reason_and_counted() {
    let serving = Serving::start(Settings::default()).await;
    let client = serving.client(0).await;
    publish(&client, "topic.a", "x").await.expect("room");
    let invalid = |error: &Error| matches!(error, Error::Invalid(_));
    let rejected = |error: &Error| matches!(error, Error::Rejected(_));
    let is: [fn(&Error) -> bool; 2] = [invalid, rejected];
    for (request, kind, expected) in [
        (to("topic.room 1", "x"), 0, "\"room 1\" is not a topic's name"),
        (to("topic._presence.a", "x"), 0, "those that begin with _ are the service's own"),
        (with_options("topic.a", r#"{"idd":"x"}"#, "x"), 0, "idd"),
        (
            with_options("topic.a", r#"{"expect":7}"#, "x"),
            1,
            "conflict: the last offset of the topic is 1, not 7",
        ),
        (
            to("topic.a", &"x".repeat((1 << 20) + 1)),
            0,
            "too large: 1048577 bytes, topic \"a\" takes 1048576",
        ),
    ] {
        let error = client.request_response(request).await.expect_err(expected);
        assert!(is[kind](&error) && error.to_string().contains(expected), "{error}");
    }
    let error = client.request_stream(to("topic.a", r#"{"form":"new"}"#)).next().await;
    let error = error.expect("an end").expect_err("unknown");
    assert!(error.to_string().contains("did you mean \"from\""), "{error}");
    let refused = serving.topics.figures().refused;
    let of = |reason| refused.iter().find(|(name, _)| *name == reason).expect("known").1;
    assert_eq!((of("invalid"), of("conflict")), (5, 1));
}

#[tokio::test]
async fn the_last_message_completes_its_readers() {
    let serving = Serving::start(Settings::default()).await;
    let client = serving.client(0).await;
    let reader = client.request_stream(to("topic.answer", r#"{"from":"start"}"#));
    publish(&client, "topic.answer", "Once").await.expect("room");
    let last = with_options("topic.answer", r#"{"close":true}"#, "upon");
    client.request_response(last).await.expect("room");
    let items: Vec<_> = reader.map_ok(|item| text(&item.data)).try_collect().await.expect("an end");
    assert_eq!(items, ["Once", "upon"]);
    let error = publish(&client, "topic.answer", "more").await.expect_err("closed");
    assert!(error.to_string().contains("closed: "), "{error}");
}

/// Exactly as many items as were asked for, to the letter.
#[tokio::test]
async fn an_item_is_sent_for_each_that_was_asked_for_and_no_more() {
    let serving = Serving::start(Settings::default()).await;
    let publisher = serving.client(0).await;
    for n in 0..10 {
        publish(&publisher, "topic.t", &n.to_string()).await.expect("room");
    }
    let mut peer = Peer::established(&serving.uris[0]).await;
    let asked = rs(1, 2, r#"{"from":"start","meta":"none"}"#);
    peer.send(asked.metadata(route("topic.t"))).await;
    let data = |frames: Vec<rsock_tests::wire::Frame>| {
        frames.into_iter().map(|frame| text(&frame.data)).collect::<Vec<_>>()
    };
    assert_eq!(data(peer.ping_collecting().await), ["0", "1"]);
    publish(&publisher, "topic.t", "10").await.expect("room");
    assert_eq!(peer.ping_collecting().await, []);
    peer.send(rn(1, 100)).await;
    let rest: Vec<_> = (2..=10).map(|n: u32| n.to_string()).collect();
    assert_eq!(data(peer.ping_collecting().await), rest);
    publish(&publisher, "topic.t", "11").await.expect("room");
    assert_eq!(data(peer.ping_collecting().await), ["11"]);
}

#[tokio::test]
async fn a_slow_subscriber_changes_neither_the_publishers_rate_nor_other_subscribers() {
    let serving = Serving::start(Settings::default()).await;
    let [publisher, reader, stuck] =
        [serving.client(0).await, serving.client(0).await, serving.client(1).await];
    let mut reading = reader.request_stream(to("topic.t", r#"{"start":true,"lag":"gap"}"#));
    let mut slow = stuck.request_stream(to("topic.t", r#"{"start":true}"#)).credit(1);
    next(&mut reading).await;
    next(&mut slow).await;
    let data = "x".repeat(10_000);
    let count = 3_000;
    let publishing = async {
        for _ in 0..count {
            publish(&publisher, "topic.t", &data).await.expect("room");
        }
    };
    let receiving = async {
        for offset in 1..=count {
            let told = told(&next(&mut reading).await);
            assert!(told.contains(&format!(r#""offset":{offset},"#)), "{told}");
        }
    };
    tokio::join!(publishing, receiving);
    // 30 MB went by: who has not read is told of what has gone, and gets the rest.
    let first = told(&next(&mut slow).await);
    assert!(first.contains(r#""offset":1,"#), "it had asked for one: {first}");
    let gap = told(&next(&mut slow).await);
    assert!(gap.starts_with(r#"{"gap":{"from":2,"to":"#), "{gap}");
    assert!(serving.topics.topics().bytes() < 9 << 20, "the log's bound");
    assert!(serving.topics.figures().missed > 2_000);
}

/// A burst above the send buffer, and above what a log keeps, neither disconnects nor overruns a client that
/// reads.
#[tokio::test]
async fn a_burst_neither_disconnects_nor_overruns_a_healthy_client() {
    let retention = Retention { messages: 100, ..Retention::default() };
    let settings = TopicSettings { retention, ..TopicSettings::default() };
    let settings = Settings::new(Default::default(), [(">", settings)]).expect("valid");
    let serving = Serving::start(settings).await;
    for transport in [0, 1] {
        let [publisher, reader] = [serving.client(0).await, serving.client(transport).await];
        let topic = format!("topic.burst.{transport}");
        let mut reading = reader.request_stream(to(&topic, r#"{"start":true}"#));
        next(&mut reading).await;
        let publishing = async {
            for _ in 0..5 {
                let publishes = (0..1_000).map(|_| publish(&publisher, &topic, "x"));
                let acks = futures_util::future::join_all(publishes).await;
                assert!(acks.iter().all(Result::is_ok));
            }
        };
        let receiving = async {
            for offset in 1..=5_000 {
                let told = told(&next(&mut reading).await);
                assert!(told.contains(&format!(r#""offset":{offset},"#)), "{told}");
            }
        };
        tokio::join!(publishing, receiving);
    }
}

#[tokio::test]
async fn readers_are_gone_when_their_streams_or_connections_are() {
    let serving = Serving::start(Settings::default()).await;
    let topics = serving.topics.topics();
    let client = serving.client(1).await;
    let mut readers: Vec<_> = (0..50)
        .map(|n| client.request_stream(to(&format!("topic.t.{}", n % 5), r#"{"start":true}"#)))
        .collect();
    for reader in &mut readers {
        next(reader).await;
    }
    assert_eq!((topics.subscriptions(), topics.len()), (50, 5));
    readers.truncate(20);
    until("30 streams cancelled", || topics.subscriptions() == 20).await;
    drop((client, readers));
    until("the connection closed", || topics.subscriptions() == 0).await;
    assert_eq!(topics.len(), 0, "nobody published: nothing is remembered");
}

#[tokio::test]
async fn many_readers_on_many_connections_get_every_message() {
    let serving = Serving::start(Settings::default()).await;
    let publisher = serving.client(0).await;
    let mut clients = Vec::new();
    let mut readers = Vec::new();
    for n in 0..20 {
        let client = serving.client(n % 2).await;
        for _ in 0..25 {
            let mut reader = client.request_stream(to("topic.all", r#"{"start":true}"#));
            next(&mut reader).await;
            readers.push(reader);
        }
        clients.push(client);
    }
    let publishing = async {
        for n in 0..100 {
            publish(&publisher, "topic.all", &n.to_string()).await.expect("room");
        }
    };
    let receiving = futures_util::future::join_all(readers.iter_mut().map(|reader| async {
        for n in 0..100 {
            assert_eq!(next(reader).await.data, n.to_string());
        }
    }));
    tokio::join!(publishing, receiving);
}

/// Without metadata that can hold JSON there are plain messages, and nothing that cannot be told.
#[tokio::test]
async fn connections_without_composite_metadata_get_what_they_can_be_told() {
    let serving = Serving::start(Settings::default()).await;
    let client = Client::builder().metadata_mime("message/x.rsocket.routing.v0");
    let client = client.connect(&serving.uris[0]).await.expect("a connection");
    let routed = |data: &str| Payload::new(data.to_owned()).with_metadata("\u{7}topic.t");
    let ack = client.request_response(routed("hi")).await.expect("room");
    assert!(text(&ack.data).contains(r#""offset":1"#));
    let mut items = client.request_stream(routed(r#"{"from":"start"}"#));
    let item = next(&mut items).await;
    assert_eq!((item.metadata, &*item.data), (None, &b"hi"[..]));
    let error = client.request_stream(routed(r#"{"start":true}"#)).next().await.expect("an end");
    assert!(error.expect_err("no place").to_string().contains("no metadata: "));
}

/// Whoever sends a token relies on its being checked.
#[tokio::test]
async fn a_token_that_nobody_checks_is_refused() {
    let serving = Serving::start(Settings::default()).await;
    let client = serving.client(0).await;
    let expected = "REJECTED: not permitted: the token for topic \"room.1\" cannot be checked, since \
                    topic tokens are not configured on this service; ask without \"token\"";
    let asked = to("topic.room.1", r#"{"from":"start","token":"abc"}"#);
    let refused = client.request_stream(asked).try_next().await.expect_err("it is not checked");
    assert_eq!(refused.to_string(), expected);
    let joins = to("topic.room.1", r#"{"name":"ann","token":"abc"}"#);
    let mut joined = Box::pin(client.request_channel(futures_util::stream::iter([joins])));
    let refused = joined.try_next().await.expect_err("it is not checked");
    assert_eq!(refused.to_string(), expected);
    let figures = serving.topics.figures();
    assert!(figures.refused.contains(&("not permitted", 2)), "{figures:?}");
    assert_eq!(figures.topics, 0, "nothing is made for it");
}

/// What is published in a burst is gathered for readers, and for nobody who waits for an answer.
#[tokio::test]
async fn a_burst_that_is_gathered_is_whole_and_in_order() {
    let coalesce = Duration::from_millis(100);
    let of_rooms = TopicSettings { coalesce, ..TopicSettings::default() };
    let settings = Settings::new(rsock_topics::Limits::default(), [("room.*", of_rooms)]);
    let serving = Serving::start(settings.expect("valid")).await;
    let (client, other) = (serving.client(0).await, serving.client(1).await);
    let mut read = client.request_stream(to("topic.room.1", r#"{"start":true}"#));
    read.next().await.expect("it starts").expect("no failure");
    // If each answer waited for its turn, these would take half a minute.
    let publishes = async {
        for n in 1..=300 {
            let published = other.request_response(to("topic.room.1", &n.to_string())).await;
            published.expect("room");
        }
    };
    tokio::time::timeout(rsock_tests::script::PATIENCE, publishes).await.expect("in time");
    for n in 1..=300 {
        let next = tokio::time::timeout(rsock_tests::script::PATIENCE, read.next()).await;
        let item = next.expect("in time").expect("it goes on").expect("no failure");
        assert_eq!(item.data, n.to_string());
    }
}
