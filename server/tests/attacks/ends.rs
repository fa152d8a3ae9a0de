//! Ends of what is not permitted any more, also where nothing would happen by itself.

use std::{fs, time::Duration};

use futures_util::{StreamExt, stream};
use rsock::{
    Client, CloseReason, Payload, PayloadExt, RequestStream, Window, metadata::Authentication,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::{Directory, Running, now, password_of, to, token, within};

/// The error that items end with.
async fn ended(items: &mut RequestStream) -> String {
    loop {
        match within(items.next()).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => return error.to_string(),
            None => return "complete".to_owned(),
        }
    }
}

async fn publish(client: &Client, topic: &str, times: usize) {
    for _ in 0..times {
        let message = Payload::new("x").route(&format!("topic.{topic}")).unwrap();
        within(client.request_response(message)).await.unwrap();
    }
}

/// Asks for no more than its first items.
fn stalled(items: RequestStream) -> RequestStream {
    items.window(Window::new(1).manual())
}

async fn members(client: &Client) -> u64 {
    let members = within(client.request_response(to("presence.room.1"))).await.unwrap();
    serde_json::from_slice::<Value>(&members.data).unwrap()["total"].as_u64().unwrap()
}

/// Joins that take nothing, joins that only send, history and presence that nobody asks for more of.
#[tokio::test]
async fn streams_end_whose_reader_asks_for_nothing() {
    let directory = Directory::new("ends-stalled");
    directory.change("[[deny]]", "[[grant]]\nroles = [\"ops\"]\ntopics = [\"room.1\"]\nallow = [\"presence\", \"publish\"]\n[[deny]]");
    let service = Running::of(&directory).await;
    let (ann, ops) = (service.client("ann").await, service.client("ops").await);
    publish(&ops, "room.1", 20).await;
    let open = |data: &str, route: &str| Payload::new(data.to_owned()).route(route).unwrap();
    let mut joins = Vec::new();
    for options in [
        r#"{"receive":"none"}"#,
        r#"{"receive":"acks"}"#,
        r#"{"receive":"both","from":"start"}"#,
        r#"{"from":"start"}"#,
    ] {
        let first = open(options, "topic.room.1");
        let sent = stream::iter([first]).chain(stream::pending());
        joins.push(stalled(ann.request_channel(sent)));
    }
    let mut others = vec![
        stalled(ann.request_stream(open(r#"{"from":"start"}"#, "history.room.1"))),
        stalled(ann.request_stream(open(r#"{"from":"start"}"#, "topic.room.1"))),
        stalled(ann.request_stream(open("", "presence.room.1"))),
    ];
    // Each has had what it asked for, and has not asked for more.
    for items in &mut others {
        within(items.next()).await.unwrap().unwrap();
    }
    for join in &mut joins[2..] {
        within(join.next()).await.unwrap().unwrap();
    }
    for join in &mut joins[..2] {
        let _ = tokio::time::timeout(Duration::from_millis(50), join.next()).await;
    }
    within(async { while members(&ops).await != 1 {} }).await;
    directory.change("\"room.*\", ", "");
    service.live.apply(&service.options).unwrap();
    for (at, join) in joins.iter_mut().enumerate() {
        let error = ended(join).await;
        assert!(error.contains("permission ended: join on topic \"room.1\""), "{at}: {error}");
    }
    for (at, items) in others.iter_mut().enumerate() {
        let error = ended(items).await;
        assert!(error.contains("permission ended: "), "{at}: {error}");
    }
    within(async { while members(&ops).await != 0 {} }).await;
    service.end().await;
}

/// Nobody reads what was before by a subscription that was begun while that was permitted.
#[tokio::test]
async fn history_ends_with_its_permission_also_in_subscriptions_and_joins() {
    let directory = Directory::new("ends-history");
    let service = Running::of(&directory).await;
    let ann = service.client("ann").await;
    publish(&ann, "room.1", 20).await;
    let from_start = || Payload::new(r#"{"from":"start"}"#).route("topic.room.1").unwrap();
    let mut subscription = stalled(ann.request_stream(from_start()));
    let sent = stream::iter([from_start()]).chain(stream::pending());
    let mut join = stalled(ann.request_channel(sent));
    let mut new = ann.request_stream(to("topic.room.1"));
    for items in [&mut subscription, &mut join] {
        within(items.next()).await.unwrap().unwrap();
    }
    let _ = tokio::time::timeout(Duration::from_millis(50), new.next()).await;
    directory.change(", \"history\"]", "]");
    service.live.apply(&service.options).unwrap();
    for items in [&mut subscription, &mut join] {
        items.request_n(1_000);
        let error = ended(items).await;
        assert!(error.contains("permission ended: history on topic \"room.1\""), "{error}");
    }
    // Who reads what is new goes on.
    publish(&ann, "room.1", 1).await;
    within(new.next()).await.unwrap().unwrap();
    service.end().await;
}

/// A channel of a route that has been sent nothing yet is sent nothing from then on.
#[tokio::test]
async fn a_channel_takes_nothing_when_its_route_is_not_permitted_any_more() {
    let directory = Directory::new("ends-channel");
    let service = Running::of(&directory).await;
    let guest = service.try_as(None).await.unwrap();
    let (sender, mut receiver) = mpsc::channel::<Payload>(8);
    let sent = stream::poll_fn(move |cx| receiver.poll_recv(cx));
    sender.send(to("echo")).await.unwrap();
    let mut echoed = guest.request_channel(sent);
    within(echoed.next()).await.unwrap().unwrap();
    sender.send(Payload::new("one")).await.unwrap();
    assert_eq!(within(echoed.next()).await.unwrap().unwrap().data, "one");
    directory.change("routes = [\"echo\"]", "routes = [\"nothing\"]");
    service.live.apply(&service.options).unwrap();
    sender.send(Payload::new("two")).await.unwrap();
    let error = within(echoed.next()).await.unwrap().unwrap_err().to_string();
    assert!(error.contains("permission ended: request on route \"echo\""), "{error}");
    service.end().await;
}

/// A stream that a request's own token permitted, on a connection of somebody else.
#[tokio::test]
async fn a_stream_ends_with_the_token_of_its_request_and_goes_on_with_a_renewed_one() {
    let directory = Directory::new("ends-token");
    let service = Running::of(&directory).await;
    let until =
        |seconds| token(&json!({ "sub": "ann", "exp": now() + seconds, "roles": ["chat"] }));
    let guest = service.try_as(None).await.unwrap();
    let owner = service.try_as(Some(until(6))).await.unwrap();
    let ticking = || Payload::new(r#"{"interval_ms":20}"#).route("clock").unwrap();
    let own = |payload: Payload| payload.authentication(&until(5)).unwrap();
    let mut short = guest.request_stream(own(ticking()));
    let mut topic = guest.request_stream(own(to("topic.room.1")));
    let mut renewed = owner.request_stream(ticking());
    for items in [&mut short, &mut renewed] {
        within(items.next()).await.unwrap().unwrap();
    }
    // It is there once it has been asked for.
    let _ = tokio::time::timeout(Duration::from_millis(100), topic.next()).await;
    let fresh = to("auth").authentication(&until(600)).unwrap();
    within(owner.request_response(fresh)).await.unwrap();
    let error = ended(&mut short).await;
    assert!(error.contains("permission ended: request on route \"clock\""), "{error}");
    let error = ended(&mut topic).await;
    assert!(error.contains("permission ended: subscribe on topic \"room.1\""), "{error}");
    // Whose connection it came by is not concerned, and the other token would have expired by now.
    within(guest.request_response(to("echo"))).await.unwrap();
    let over = now() + 2;
    while now() < over {
        within(renewed.next()).await.unwrap().unwrap();
    }
    service.end().await;
}

async fn reason(client: &Client) -> String {
    match within(client.closed()).await {
        CloseReason::Error { message, .. } => message.to_string(),
        other => format!("{other:?}"),
    }
}

/// Whoever came in by what was taken back is let go, whatever the time that their token says.
#[tokio::test]
async fn who_came_in_by_a_password_or_a_key_that_was_changed_is_let_go() {
    let directory = Directory::new("ends-changed");
    let service = Running::of(&directory).await;
    let forever = token(&json!({ "sub": "zed", "exp": u32::MAX, "roles": ["chat"] }));
    let (ann, bob) = (service.client("ann").await, service.client("bob").await);
    let zed = service.try_as(Some(forever.clone())).await.unwrap();
    let guest = service.try_as(None).await.unwrap();
    let with = |own: &Authentication| to("clock").authentication(own).unwrap();
    for own in [&forever, &password_of("ann")] {
        within(guest.request_response(with(own))).await.unwrap();
    }
    // The password of ann is changed, and the key of tokens.
    let users = fs::read_to_string(directory.0.join("users")).unwrap();
    let other = rsock_access::hash_password(b"another", &[9; 16]).unwrap();
    let changed = format!("ann:{other}:chat\n{}", users.split_once('\n').unwrap().1);
    fs::write(directory.0.join("users"), changed).unwrap();
    directory.change(
        "a secret of thirty-two bytes or more",
        "a secret that has never been anywhere else",
    );
    service.live.apply(&service.options).unwrap();
    for client in [&ann, &zed] {
        assert_eq!(
            reason(client).await,
            "what you came in with counts no more: authenticate again"
        );
    }
    within(bob.request_response(to("clock"))).await.unwrap();
    for own in [&forever, &password_of("ann")] {
        let error = within(guest.request_response(with(own))).await.unwrap_err().to_string();
        assert!(error.contains("authentication failed"), "{error}");
        assert!(service.try_as(Some(own.clone())).await.is_err());
    }
    service.end().await;
}
