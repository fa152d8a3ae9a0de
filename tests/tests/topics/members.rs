//! Members: whoever has joined is present, under a name of its own.

use std::{future::ready, time::Duration};

use futures_util::{StreamExt, TryStreamExt};
use rsock::{
    Client, Error, Identity, Payload, PayloadExt, Peer, Reconnect, Request, Router, Server,
    metadata::WellKnownMime,
    topic::{Event, PresenceEvent, PresenceEvents, Topic},
};
use rsock_tests::{cutter::Cutter, record::limit_time, script::PATIENCE};
use rsock_topics::{Action, Permit, Refusal, Service, Settings, TopicName};

use crate::{World, join::Member};

async fn told(events: &mut PresenceEvents) -> String {
    let told = tokio::time::timeout(PATIENCE, events.try_next()).await.expect("in time");
    match told.expect("no failure").expect("it goes on") {
        PresenceEvent::Here(member) => format!("here {}", member.name),
        PresenceEvent::All { total } => format!("all {total}"),
        PresenceEvent::Join(member) => match member.info {
            Some(info) => format!("join {} {info}", member.name),
            None => format!("join {}", member.name),
        },
        PresenceEvent::Leave { name, .. } => format!("leave {name}"),
        PresenceEvent::Update(member) => {
            format!("update {} {}", member.name, member.info.unwrap_or_default())
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_member_is_present_as_long_as_its_join() {
    let world = World::new().await;
    let mut events = world.topic("room.1").presence().watch();
    assert_eq!(told(&mut events).await, "all 0");
    let options = r#"{"name":"ann","start":true,"info":{"avatar":3}}"#;
    let mut ann = Member::join(&world, options, 10);
    ann.started().await;
    assert_eq!(told(&mut events).await, r#"join ann {"avatar":3}"#);
    let mut hidden = Member::join(&world, r#"{"name":"cat","start":true,"presence":false}"#, 10);
    hidden.started().await;
    // Two devices of one are one member.
    let mut second = Member::join(&world, options, 10);
    second.started().await;
    let figures = rsock::topic::topics(&world.client, "room.1").next().await;
    assert_eq!(figures.expect("one").expect("told").members, Some(1));
    drop(ann);
    drop(second);
    assert_eq!(told(&mut events).await, "leave ann");
    // What ends with its sender leaves with it.
    let mut bob = Member::join(&world, r#"{"name":"bob","receive":"none"}"#, 10);
    bob.finish();
    assert!(bob.end().await.is_none());
    assert_eq!(told(&mut events).await, "join bob");
    assert_eq!(told(&mut events).await, "leave bob");
}

/// Somebody authenticated may not be somebody else; and bob may not publish, nor read.
struct Names;

impl Permit for Names {
    fn permits(&self, request: &Request, action: Action, topic: &TopicName) -> Result<(), Refusal> {
        let is_bob = request.identity().is_some_and(|identity| identity.name() == "bob");
        let needs_more = matches!(action, Action::Publish | Action::Subscribe);
        if action == Action::PublishAs || is_bob && needs_more {
            return Err(Refusal::not_permitted(action.as_str(), topic, None));
        }
        Ok(())
    }
}

#[tokio::test]
async fn whoever_is_authenticated_joins_under_its_own_name() {
    limit_time();
    let server = Server::bind("tcp://127.0.0.1:0").await.expect("a free port");
    let uri = server.addresses().remove(0);
    let app = Service::with_permit(Settings::default(), Names).add_to(Router::new(()));
    // Whoever says who it is in SETUP is believed.
    let acceptor = move |peer: Peer| {
        let name = String::from_utf8_lossy(&peer.setup().payload.data).into_owned();
        let identified = peer.identify(Identity::new(name));
        let app = app.clone();
        ready(identified.map(|()| app).map_err(|_| Error::rejected("it was somebody before")))
    };
    tokio::spawn(server.serve(acceptor).into_future());
    let client = async |name: &'static str| {
        Client::builder().setup(name).connect(&uri).await.expect("it listens")
    };
    let [ann, bob] = [client("ann").await, client("bob").await];

    let mut member = Member::at(&ann, "room.1", r#"{"receive":"both"}"#, 10);
    member.send("", "hi").await;
    assert_eq!(member.next().await, "1 ann hi own null");
    let mut member = Member::at(&ann, "room.1", r#"{"receive":"acks"}"#, 10);
    member.send(r#"{"from":"bob"}"#, "as bob").await;
    let refused = "refused null: REJECTED: not permitted: publish-as on topic \"room.1\"";
    assert_eq!(member.next().await, refused);
    let error = Member::at(&ann, "room.1", r#"{"name":"bob"}"#, 10).error().await;
    assert_eq!(
        error,
        "REJECTED: not permitted: publish-as \"bob\"; this connection's name is \"ann\""
    );
    // To join permits neither to receive nor to send.
    let error = Member::at(&bob, "room.1", "", 10).error().await;
    assert_eq!(error, "REJECTED: not permitted: subscribe on topic \"room.1\"");
    let mut member = Member::at(&bob, "room.1", r#"{"receive":"none"}"#, 10);
    member.send("", "hi").await;
    assert_eq!(member.error().await, "REJECTED: not permitted: publish on topic \"room.1\"");
    let mut member = Member::at(&bob, "room.1", r#"{"receive":"acks"}"#, 10);
    member.send(r#"{"ephemeral":true,"id":"t"}"#, "typing").await;
    assert_eq!(member.next().await, "ack null t ephemeral");
}

/// Reads what is new, and publishes; no more is granted.
struct Plain;

impl Permit for Plain {
    fn permits(&self, _: &Request, action: Action, topic: &TopicName) -> Result<(), Refusal> {
        match action {
            Action::Join | Action::Subscribe | Action::Publish => Ok(()),
            _ => Err(Refusal::not_permitted(action.as_str(), topic, None)),
        }
    }
}

#[tokio::test]
async fn whoever_publishes_may_signal_and_whoever_subscribes_sees_what_is_recent() {
    let world = World::with_permit(Plain).await;
    world.publish("room.1", 1..=3).await;
    let options = r#"{"name":"ann","receive":"both","from":"start"}"#;
    let mut ann = Member::join(&world, options, 10);
    assert_eq!(ann.next_of(3).await, ["1 null 1", "2 null 2", "3 null 3"], "a moment ago");
    ann.send(r#"{"ephemeral":true,"id":"t"}"#, "typing").await;
    assert_eq!(ann.next().await, "ack null t ephemeral");
    assert_eq!(world.topic("room.1").signal("typing").await, Ok(()));
    let refused = world.topic("room.1").history().page().await.expect_err("not permitted");
    assert_eq!(refused.to_string(), "REJECTED: not permitted: history on topic \"room.1\"");
}

/// Our client's membership outlives its connection: others do not see it leave, and it misses nothing.
#[tokio::test]
async fn a_membership_comes_back_before_anybody_misses_it() {
    let world = World::new().await;
    let cutter = Cutter::start(&world.uri, []).await;
    let pauses = Reconnect::new().pauses(Duration::from_millis(1), Duration::from_millis(20));
    let reconnect = pauses.stable_after(Duration::ZERO).wait(PATIENCE);
    let client = Client::builder().reconnect(reconnect).connect(cutter.uri()).await;
    let client = client.expect("it listens");
    let mut events = world.topic("room.1").presence().watch();
    assert_eq!(told(&mut events).await, "all 0");
    let mut ann = Topic::new(&client, "room.1").join("ann").start();
    ann.started().await.expect("she joins");
    assert_eq!(told(&mut events).await, "join ann");
    let mut last = 0;
    for round in 1..=5_u64 {
        cutter.cut();
        world.publish("room.1", 2 * round - 1..=2 * round - 1).await;
        ann.publish((2 * round).to_string()).await.expect("it is published once");
        // Her own come back where they went by a connection before this one.
        while last < 2 * round - 1 {
            match tokio::time::timeout(PATIENCE, ann.next()).await.expect("in time") {
                Some(Ok(Event::Message(message))) => {
                    let is_own = message.from.as_deref() == Some("ann");
                    assert_eq!((message.offset % 2 == 0, message.offset > last), (is_own, true));
                    last = message.offset;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(last, 2 * round - 1);
    }
    assert_eq!(world.topic("room.1").presence().count().await, Ok(1));
    drop(ann);
    assert_eq!(told(&mut events).await, "leave ann", "and nothing before");
}

#[tokio::test]
async fn a_member_changes_what_it_says_of_itself() {
    let world = World::new().await;
    let mut events = world.topic("room.1").presence().watch();
    assert_eq!(told(&mut events).await, "all 0");
    let mut ann =
        Member::join(&world, r#"{"name":"ann","receive":"acks","info":{"avatar":3}}"#, 10);
    ann.send(r#"{"info":{"avatar":4}}"#, "").await;
    assert_eq!(ann.next().await, "ack null null info");
    assert_eq!(told(&mut events).await, r#"join ann {"avatar":3}"#);
    assert_eq!(told(&mut events).await, r#"update ann {"avatar":4}"#);
    // Between messages, in their order; what changes nothing is not told.
    ann.send(r#"{"id":"1"}"#, "hi").await;
    ann.send(r#"{"info":{"avatar":4},"id":"2"}"#, "").await;
    ann.send(r#"{"info":null,"id":"3"}"#, "").await;
    ann.send(r#"{"id":"4"}"#, "ho").await;
    let acks = ["ack 1 1", "ack null 2 info", "ack null 3 info", "ack 2 4"];
    assert_eq!(ann.next_of(4).await, acks);
    assert_eq!(told(&mut events).await, "update ann null");
    // Of two devices that which has spoken last is shown.
    let mut second = Member::join(&world, r#"{"name":"ann","receive":"acks","info":"phone"}"#, 10);
    second.send(r#"{"id":"5"}"#, "from the phone").await;
    assert_eq!(second.next().await, "ack 3 5");
    assert_eq!(told(&mut events).await, "update ann \"phone\"");
    ann.send(r#"{"info":"desk"}"#, "").await;
    assert_eq!(ann.next().await, "ack null null info");
    assert_eq!(told(&mut events).await, "update ann \"desk\"");
    for (options, data, expected) in [
        (r#"{"info":{},"key":"k"}"#, "", "INVALID: not valid options: \"info\" is no message"),
        (r#"{"info":{}}"#, "hi", "INVALID: not an update: \"info\" goes without data, not 2 bytes"),
    ] {
        ann.send(options, data).await;
        let refused = ann.next().await;
        assert!(refused.starts_with(&format!("refused null: {expected}")), "{refused}");
    }
    drop(second);
    drop(ann);
    assert_eq!(told(&mut events).await, "leave ann");
    let page = world.topic("room.1").history().page().await.expect("a page");
    assert_eq!((page.head, world.service.figures().updates), (3, 4));

    // Whom nobody sees has nothing to say, and nobody says it without having joined.
    let hidden = r#"{"name":"cat","receive":"acks","presence":false}"#;
    let mut hidden = Member::join(&world, hidden, 10);
    hidden.send(r#"{"info":{}}"#, "").await;
    let refused = hidden.next().await;
    assert!(refused.starts_with("refused null: INVALID: not present: \"info\""), "{refused}");
    let request = Payload::default().route("topic.room.1").expect("a short route");
    let request = request.entry(WellKnownMime::Json, r#"{"info":{}}"#).expect("short options");
    let refused = world.client.request_response(request).await.expect_err("no join").to_string();
    assert!(refused.starts_with("INVALID: not a message: \"info\" is what a member"), "{refused}");
}

/// What was said last is said again where the membership has to join again.
#[tokio::test]
async fn what_a_member_says_outlives_its_connection() {
    let world = World::new().await;
    let cutter = Cutter::start(&world.uri, []).await;
    let pauses = Reconnect::new().pauses(Duration::from_millis(1), Duration::from_millis(20));
    let reconnect = pauses.stable_after(Duration::ZERO).wait(PATIENCE);
    let client = Client::builder().reconnect(reconnect).connect(cutter.uri()).await;
    let client = client.expect("it listens");
    let mut events = world.topic("room.1").presence().watch();
    assert_eq!(told(&mut events).await, "all 0");
    let mut ann = Topic::new(&client, "room.1").join("ann").start();
    ann.update("before she joins").expect("short");
    ann.started().await.expect("she joins");
    assert_eq!(told(&mut events).await, "join ann \"before she joins\"");
    for n in 1..=3 {
        ann.update(n).expect("short");
        assert_eq!(told(&mut events).await, format!("update ann {n}"));
        cutter.cut();
        // Her own line is lost and comes back; others see no change but the last.
        ann.update(format!("again {n}")).expect("short");
        world.publish("room.1", n..=n).await;
        assert!(matches!(ann.next().await, Some(Ok(Event::Message(_)))));
        assert_eq!(told(&mut events).await, format!("update ann \"again {n}\""));
    }
    let refused = ann.update("x".repeat(2_000)).expect_err("too long").to_string();
    assert_eq!(refused, "INVALID: too large: info of 2002 bytes, 1024 at most");
    ann.update(serde_json::Value::Null).expect("short");
    assert_eq!(told(&mut events).await, "update ann null");
    let mut hidden = Topic::new(&client, "room.1").join("cat").present(false).start();
    assert!(hidden.update(1).is_err());
    drop(ann);
    assert_eq!(told(&mut events).await, "leave ann");
}
