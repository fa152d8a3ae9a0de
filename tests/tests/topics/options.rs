//! The options of all routes, as `docs/topics.md` lists them.

use std::{collections::BTreeSet, fs, path::Path};

use futures_util::StreamExt;
use rsock::{Payload, PayloadExt, metadata::WellKnownMime};

use crate::{World, ask};

const UNKNOWN: &str = r#"{"?":1}"#;

/// The options of these rows of the table.
fn documented(of: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/topics.md");
    let text = fs::read_to_string(path).expect("the page");
    let (_, table) = text.split_once("| of | option | is |").expect("the table");
    let rows = table.lines().skip(1).take_while(|line| line.starts_with('|')).filter_map(|line| {
        let cells: Vec<_> = line.strip_prefix("| ")?.split(" | ").collect();
        let is_of = cells[0] == of || cells[0].split(", ").any(|one| one == of);
        is_of.then(|| cells.get(1).map(|options| (*options).to_owned()))?
    });
    let names = rows.flat_map(|options| {
        let names = options.split(" · ").map(|name| name.trim_matches('`').to_owned());
        names.collect::<Vec<_>>()
    });
    names.collect()
}

/// The options that a refusal lists.
fn listed(refusal: &str) -> BTreeSet<String> {
    let (_, names) = refusal.split_once("there are ").expect("it lists them");
    names.split(", ").map(str::to_owned).collect()
}

#[tokio::test]
async fn each_option_there_is_stands_in_the_table() {
    let world = World::new().await;
    let publish = Payload::new("x").route("topic.room.1").expect("a short route");
    let publish = publish.entry(WellKnownMime::Json, UNKNOWN).expect("short options");
    let respond = async |payload: Payload| {
        world.client.request_response(payload).await.expect_err("unknown").to_string()
    };
    let stream = async |route: &str| {
        let item = world.client.request_stream(ask(route, UNKNOWN)).next().await;
        item.expect("an end").expect_err("unknown").to_string()
    };
    let joined = world
        .client
        .request_channel(futures_util::stream::iter([ask("topic.room.1", UNKNOWN)]))
        .next()
        .await;
    for (of, refusal) in [
        ("publish", respond(publish).await),
        ("subscribe", stream("topic.room.1").await),
        ("join", joined.expect("an end").expect_err("unknown").to_string()),
        ("history, streamed", stream("history.room.1").await),
        ("history, a page", respond(ask("history.room.1", UNKNOWN)).await),
        ("presence, streamed", stream("presence.room.1").await),
        ("presence, a page", respond(ask("presence.room.1", UNKNOWN)).await),
    ] {
        assert_eq!(documented(of), listed(&refusal), "{of}: {refusal}");
    }
}
