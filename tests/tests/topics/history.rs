//! History: pages, and streams that end.

use futures_util::TryStreamExt;
use rsock::topic::Event;
use serde_json::{Value, json};

use crate::{World, ask};

async fn page(world: &World, options: &str) -> Value {
    let answer = world.client.request_response(ask("history.room.1", options)).await;
    serde_json::from_slice(&answer.expect("a page").data).expect("JSON")
}

/// The offsets of a stream's messages; gaps as `-from..to`.
async fn stream(world: &World, options: &str) -> Vec<String> {
    let items = world.client.request_stream(ask("history.room.1", options)).credit(3);
    let told = |payload: rsock::Payload| {
        let metadata = payload.metadata.expect("metadata");
        // An entry of composite metadata.
        let json: Value = serde_json::from_slice(&metadata[4..]).expect("JSON");
        match json.get("gap") {
            Some(gap) => format!("-{}..{}", gap["from"], gap["to"]),
            None => json["offset"].to_string(),
        }
    };
    items.map_ok(told).try_collect().await.expect("it completes")
}

fn numbers(offsets: impl Iterator<Item = u64>) -> Vec<String> {
    offsets.map(|offset| offset.to_string()).collect()
}

#[tokio::test]
async fn pages_lead_through_a_log_both_ways() {
    let world = World::new().await;
    world.publish("room.1", 1..=250).await;
    let mut newest = world.topic("room.1").history().limit(70).page().await.expect("a page");
    assert_eq!((newest.base, newest.head), (1, 250));
    let mut read: Vec<u64> = Vec::new();
    loop {
        let mut offsets: Vec<_> = newest.messages.iter().map(|message| message.offset).collect();
        offsets.append(&mut read);
        read = offsets;
        match newest.older() {
            Some(older) => newest = older.page().await.expect("a page"),
            None => break,
        }
    }
    assert_eq!(read, (1..=250).collect::<Vec<_>>());
    let oldest = page(&world, r#"{"limit":1}"#).await;
    assert_eq!(oldest["messages"][0]["data"], 250);
    let epoch = oldest["epoch"].as_str().expect("an epoch");
    let next = page(&world, &format!(r#"{{"after":0,"epoch":"{epoch}","limit":2}}"#)).await;
    assert_eq!(next["next"], json!({"epoch": epoch, "after": 2}));
    let next = page(&world, &next["next"].to_string()).await;
    assert_eq!(
        (&next["messages"][0]["offset"], next["next"]["after"].as_u64()),
        (&json!(3), Some(102))
    );
}

#[tokio::test]
async fn a_page_of_what_is_not_there_is_empty_or_refused() {
    let world = World::new().await;
    let empty = page(&world, "").await;
    assert_eq!(
        (&empty["base"], &empty["head"], &empty["messages"]),
        (&json!(1), &json!(0), &json!([]))
    );
    assert!(world.service.topics().is_empty(), "whoever asks leaves none behind");
    for (route, options, expected) in [
        ("history.room.1", r#"{"after":3,"epoch":"0000000000000000"}"#, "REJECTED: began anew: "),
        ("history.room.1", r#"{"limit":0}"#, "INVALID: not a valid limit: 0; it is a whole number"),
        (
            "history.room.1",
            r#"{"lmit":1}"#,
            "INVALID: unknown option: \"lmit\" (did you mean \"limit\"?)",
        ),
        ("history._presence.x", "", "INVALID: \"_presence.x\" is not a topic's name for you"),
    ] {
        let refused = world.client.request_response(ask(route, options)).await;
        let refused = refused.expect_err(options).to_string();
        assert!(refused.starts_with(expected), "{options}: {refused}");
    }
}

#[tokio::test]
async fn a_stream_is_what_was_there_when_it_was_asked_for() {
    let world = World::new().await;
    world.publish("room.1", 1..=20).await;
    assert_eq!(stream(&world, "").await, numbers(1..=20));
    assert_eq!(stream(&world, r#"{"from":{"last":5}}"#).await, numbers(16..=20));
    assert_eq!(stream(&world, r#"{"from":"start","to":4}"#).await, numbers(1..=4));
    assert_eq!(stream(&world, r#"{"limit":7}"#).await, numbers(1..=7));
    assert_eq!(stream(&world, r#"{"limit":7,"reverse":true}"#).await, numbers((14..=20).rev()));
    assert_eq!(
        stream(&world, r#"{"to":9,"reverse":true,"limit":2}"#).await,
        numbers((8..=9).rev())
    );
    assert_eq!(stream(&world, r#"{"from":"new"}"#).await, numbers(0..0));
    assert_eq!(stream(&world, r#"{"from":"new","reverse":true}"#).await, numbers(0..0));
    world.topic("room.1").purge().await.expect("it may");
    let epoch = page(&world, "").await["epoch"].clone();
    let after =
        |reverse| format!(r#"{{"from":{{"epoch":{epoch},"after":3}},"reverse":{reverse}}}"#);
    assert_eq!(stream(&world, &after(false)).await, ["-4..20"]);
    assert_eq!(stream(&world, &after(true)).await, ["-4..20"]);
    world.publish("room.1", 21..=22).await;
    assert_eq!(stream(&world, &after(false)).await, ["-4..20", "21", "22"]);
    assert_eq!(stream(&world, &after(true)).await, ["22", "21", "-4..20"]);
}

#[tokio::test]
async fn our_client_reads_streams_of_history() {
    let world = World::new().await;
    world.publish("room.1", 1..=5).await;
    let events = world.topic("room.1").history().reverse(true).limit(2).stream();
    let data = |event: Event| match event {
        Event::Message(message) => message.data,
        other => panic!("{other:?}"),
    };
    let data: Vec<_> = events.map_ok(data).try_collect().await.expect("it completes");
    assert_eq!(data, ["5", "4"]);
}
