//! The list of topics, and what is done to them.

use futures_util::{StreamExt, TryStreamExt};
use rsock::{Request, topic};
use rsock_tests::script::PATIENCE;
use rsock_topics::{Action, Limits, Permit, Refusal, Service, Settings, TopicName};
use serde_json::Value;

use crate::{World, ask};

/// Only rooms, and nothing is administered.
struct Rooms;

impl Permit for Rooms {
    fn permits(&self, _: &Request, action: Action, topic: &TopicName) -> Result<(), Refusal> {
        if action == Action::Admin || !topic.as_str().starts_with("room.") {
            return Err(Refusal::not_permitted(action.as_str(), topic, None));
        }
        Ok(())
    }
}

async fn names(world: &World, prefix: &str) -> Vec<String> {
    let topics = topic::topics(&world.client, prefix);
    topics.map_ok(|info| info.topic).try_collect().await.expect("it completes")
}

#[tokio::test]
async fn topics_are_listed_by_name_with_their_figures() {
    let world = World::new().await;
    for name in ["room.2", "feed", "room.1", "rooms"] {
        world.publish(name, 1..=3).await;
    }
    assert_eq!(names(&world, "").await, ["feed", "room.1", "room.2", "rooms"]);
    assert_eq!(names(&world, "room.").await, ["room.1", "room.2"]);
    let mut subscription = world.topic("feed").subscribe().start();
    subscription.started().await.expect("it starts");
    let feed = topic::topics(&world.client, "feed").next().await.expect("one").expect("told");
    assert_eq!((feed.kind.as_str(), feed.base, feed.head), ("memory", 1, 3));
    assert_eq!(feed.subscribers, Some(1));
    assert!(feed.bytes > 0);
    // Three of the last ten seconds.
    assert!((0.0..=0.3).contains(&feed.publishes_per_s), "{}", feed.publishes_per_s);
    assert_eq!(feed.slowest, Some(0));
}

#[tokio::test]
async fn whoever_is_slow_is_told_to_whom_it_concerns() {
    let world = World::new().await;
    let list = async || {
        let told = topic::topics(&world.client, "room.1").next().await;
        told.expect("one").expect("told").slowest
    };
    world.publish("room.1", 1..=1).await;
    assert_eq!(list().await, None, "nobody reads");
    // One that reads one item of its two, and one that keeps up.
    let slow = world.client.request_stream(ask("topic.room.1", r#"{"from":"start"}"#)).credit(1);
    let mut slow = Box::pin(slow);
    let mut quick = world.topic("room.1").subscribe().start();
    quick.started().await.expect("it starts");
    assert_eq!(slow.next().await.expect("one").expect("no failure").data, "1");
    world.publish("room.1", 2..=10).await;
    for _ in 2..=10 {
        tokio::time::timeout(PATIENCE, quick.next()).await.expect("in time");
    }
    // It was asked for one more when it had given one.
    let behind = list().await.expect("they read");
    assert!((8..=9).contains(&behind), "{behind}");
    drop(slow);
    while list().await != Some(0) {
        tokio::task::yield_now().await;
    }
    // A member that receives nothing is behind nobody.
    let mut ann = crate::join::Member::join(&world, r#"{"name":"ann","receive":"acks"}"#, 10);
    ann.send("", "11").await;
    assert!(ann.next().await.starts_with("ack 11"));
    assert_eq!(list().await.unwrap_or_default(), 0);
}

#[tokio::test]
async fn a_page_has_the_first_hundred() {
    let world = World::new().await;
    for n in 100..=200 {
        world.publish(&format!("room.{n}"), 1..=1).await;
    }
    let page = async |options| -> Value {
        let answer = world.client.request_response(ask("topics", options)).await;
        serde_json::from_slice(&answer.expect("a page").data).expect("JSON")
    };
    let first = page("").await;
    assert_eq!(first["topics"].as_array().map(Vec::len), Some(100));
    assert_eq!((&first["topics"][99]["topic"], &first["more"]), (&"room.199".into(), &true.into()));
    let some = page(r#"{"prefix":"room.20"}"#).await;
    assert_eq!((&some["topics"][0]["topic"], &some["more"]), (&"room.200".into(), &false.into()));
}

#[tokio::test]
async fn nobody_is_told_of_topics_that_are_not_for_them() {
    let world = World::with_permit(Rooms).await;
    world.publish("room.1", 1..=1).await;
    let hidden = TopicName::parse("secret").expect("a name");
    world.service.topics().open(&hidden).expect("room");
    assert_eq!(names(&world, "").await, ["room.1"]);
    let told = topic::topics(&world.client, "").next().await.expect("one").expect("told");
    assert_eq!((told.subscribers, told.slowest), (None, None), "it takes more to be told of those");
    for name in ["room.1", "secret"] {
        let refused = world.topic(name).purge().await.expect_err("not permitted").to_string();
        assert_eq!(refused, format!("REJECTED: not permitted: admin on topic {name:?}"));
    }
}

#[tokio::test]
async fn topics_are_purged_and_deleted() {
    let world = World::new().await;
    world.publish("room.1", 1..=3).await;
    let room = world.topic("room.1");
    room.purge().await.expect("it may");
    let page = room.history().page().await.expect("a page");
    assert_eq!((page.base, page.head), (4, 3));

    let mut subscription = room.subscribe().start();
    subscription.started().await.expect("it starts");
    room.delete().await.expect("it may");
    let end = tokio::time::timeout(PATIENCE, subscription.next()).await.expect("in time");
    assert!(end.is_none(), "{end:?}");
    assert!(names(&world, "").await.is_empty());
    let refused = room.delete().await.expect_err("it is gone").to_string();
    assert!(refused.starts_with("REJECTED: no topic: \"room.1\""), "{refused}");
    // Offsets go on.
    assert_eq!(room.publish("4").await.expect("room").offset, 4);
    let stream = world.client.request_stream(ask("topics", r#"{"purge":"room.1"}"#));
    let refused = stream.try_collect::<Vec<_>>().await.expect_err("not a list").to_string();
    assert!(refused.starts_with("INVALID: not a list"), "{refused}");
}

#[tokio::test]
async fn a_stranger_does_not_use_up_the_topics_of_everybody() {
    let limits = Limits { topics_of_one: 2, ..Limits::default() };
    let settings = Settings::new(limits, []).expect("valid");
    let world = World::of(Service::new(settings)).await;
    // One is made by a member, who publishes to it.
    let mut ann = crate::join::Member::join(&world, r#"{"name":"ann","receive":"acks"}"#, 10);
    ann.send("", "1").await;
    assert_eq!(ann.next().await, "ack 1 null");
    world.publish("room.2", 1..=1).await;
    let refused = world.topic("room.3").publish("1").await.expect_err("it has two").to_string();
    assert_eq!(
        refused,
        "REJECTED: too many topics: 2 that this connection has made, as many as one may; delete some, \
         or use those that are there"
    );
    let subscribed = world.client.request_stream(ask("topic.room.4", ""));
    let refused = subscribed.try_collect::<Vec<_>>().await.expect_err("it has two").to_string();
    assert!(refused.starts_with("REJECTED: too many topics: 2"), "{refused}");
    let figures = world.service.figures();
    assert!(figures.refused.contains(&("too many topics", 2)), "{figures:?}");
    let other = rsock::Client::connect(&world.uri).await.expect("it listens");
    topic::Topic::new(&other, "room.3").publish("1").await.expect("another's share");
    world.topic("room.2").delete().await.expect("it may");
    world.topic("room.5").publish("1").await.expect("room again");
}
