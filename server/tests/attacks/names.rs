//! Names by which somebody would like to be somebody else, or a route another route.

use std::fs;

use futures_util::{StreamExt, stream};
use rsock::{Client, Payload, PayloadExt, Router, metadata::WellKnownMime};
use serde_json::{Value, json};

use crate::support::{Directory, Running, now, refusals, to, token, within};

/// The routes that there are, each as one may ask for it.
fn all_routes() -> Vec<String> {
    let router: Router<_> = rsock_server::app(std::sync::Arc::default());
    let names = router.routes().into_iter().map(|(route, ..)| route.replace("{*name}", "room.1"));
    names.collect()
}

async fn status(ops: &Client) -> Value {
    let status = within(ops.request_response(to("status"))).await.unwrap();
    serde_json::from_slice(&status.data).unwrap()
}

/// By every interaction, also one that the route does not answer; nor does it tell which those are.
#[tokio::test]
async fn each_route_is_refused_to_who_has_no_permission_before_its_handler() {
    let directory = Directory::new("attack-routes");
    let service = Running::of(&directory).await;
    let (nil, ops) = (service.client("nil").await, service.client("ops").await);
    let mut count = 0;
    for route in all_routes() {
        if ["routes", "topics", "auth"].contains(&&*route) {
            continue;
        }
        let before = status(&ops).await;
        for (at, refusal) in refusals(&nil, &route).await.into_iter().enumerate() {
            let is_answered = !(route.starts_with("presence.") || route.starts_with("history."));
            let refusal = refusal.unwrap_or_else(|| panic!("{route}: served"));
            assert!(
                refusal.starts_with("REJECTED: not permitted: ") || !is_answered && at == 2,
                "{route}: {refusal}"
            );
        }
        nil.fire_and_forget(to(&route)).await.unwrap();
        // What is answered behind it: it has been judged.
        let _ = within(nil.request_response(to("clock"))).await;
        let after = status(&ops).await;
        for unchanged in ["/fire_and_forget/taken", "/topics/topics", "/topics/published"] {
            assert_eq!(after.pointer(unchanged), before.pointer(unchanged), "{route}");
        }
        let denied = |status: &Value| status["access"]["denied"].as_u64().unwrap();
        // What a route does not answer is refused by that.
        let is_whole = !(route.starts_with("presence.") || route.starts_with("history."));
        let expected = if is_whole { 5 } else { 3 };
        assert_eq!(denied(&after), denied(&before) + expected, "{route}: {after}");
        count += 1;
    }
    assert!(count >= 7, "{count} routes");
    service.end().await;
}

/// Of each action on topics: who may do all the others may not do this.
#[tokio::test]
async fn each_action_on_a_topic_is_refused_to_who_may_do_all_others() {
    const ALL: [&str; 8] =
        ["publish", "signal", "subscribe", "join", "presence", "history", "publish-as", "admin"];
    let directory = Directory::new("attack-actions");
    directory.change(
        "[[deny]]",
        "[[grant]]\nroles = [\"most\"]\ntopics = [\"other\"]\nallow = [\"join\"]\n[[deny]]",
    );
    let service = Running::of(&directory).await;
    let most = token(&json!({ "sub": "mo", "exp": now() + 600, "roles": ["most"] }));
    let most = service.try_as(Some(most)).await.unwrap();
    // Until here there is none: what is refused makes none.
    let ops = service.client("ops").await;
    let mut before = "topics = [\"other\"]\nallow = [\"join\"]".to_owned();
    for without in ALL {
        // Whoever may publish may signal.
        let allowed: Vec<_> = ALL
            .into_iter()
            .filter(|action| *action != without && !(without == "signal" && *action == "publish"))
            .collect();
        let after = format!("topics = [\"room.9\"]\nallow = {allowed:?}");
        directory.change(&before, &after);
        before = after;
        service.live.apply(&service.options).unwrap();
        let topic = |name: &str, data: &str, options: Option<Value>| {
            let payload = Payload::new(data.to_owned()).route(&format!("{name}.room.9")).unwrap();
            match options {
                None => payload,
                Some(json) => payload.entry(WellKnownMime::Json, json.to_string()).unwrap(),
            }
        };
        let response = async |payload| within(most.request_response(payload)).await.map(drop);
        let first = async |payload| match within(most.request_stream(payload).next()).await {
            Some(Err(error)) => Err(error),
            _ => Ok(()),
        };
        let channel = async |payloads: Vec<Payload>| {
            let sent = stream::iter(payloads).chain(stream::pending());
            match within(most.request_channel(sent).next()).await {
                Some(Err(error)) => Err(error),
                _ => Ok(()),
            }
        };
        let refused = match without {
            "publish" => vec![
                response(topic("topic", "x", None)).await,
                channel(vec![topic("topic", r#"{"receive":"none"}"#, None), Payload::new("x")])
                    .await,
            ],
            "signal" => {
                vec![response(topic("topic", "x", Some(json!({ "ephemeral": true })))).await]
            }
            "subscribe" => vec![
                first(topic("topic", "", None)).await,
                channel(vec![topic("topic", "{}", None)]).await,
            ],
            "join" => vec![channel(vec![topic("topic", r#"{"receive":"none"}"#, None)]).await],
            "presence" => vec![
                response(topic("presence", "", None)).await,
                first(topic("presence", "", None)).await,
            ],
            "history" => vec![
                response(topic("history", "", None)).await,
                first(topic("history", "", None)).await,
            ],
            "publish-as" => {
                vec![response(topic("topic", "x", Some(json!({ "from": "ann" })))).await]
            }
            _ => {
                let purge = Payload::new(r#"{"purge":"room.9"}"#).route("topics").unwrap();
                let delete = Payload::new(r#"{"delete":"room.9"}"#).route("topics").unwrap();
                vec![response(purge).await, response(delete).await]
            }
        };
        for refused in refused {
            let text = refused.expect_err(without).to_string();
            // Whoever may publish may signal: it is the one that is told of.
            let told = if without == "signal" { "publish" } else { without };
            let expected = format!("REJECTED: not permitted: {told} on topic \"room.9\"");
            assert!(text.starts_with(&expected), "{without}: {text}");
        }
        assert_eq!(status(&ops).await["topics"]["published"], 0, "{without}");
    }
    service.end().await;
}

#[tokio::test]
async fn no_spelling_of_a_name_gets_past_a_grant_or_a_denial() {
    let directory = Directory::new("attack-names");
    directory.change("routes = [\"clock\", \"range\"]", "routes = [\"*\"]");
    directory.change(
        "[[deny]]",
        "[[deny]]\nroles = [\"chat\"]\nroutes = [\"status\", \"range\"]\n[[deny]]",
    );
    let service = Running::of(&directory).await;
    let ann = service.client("ann").await;
    within(ann.request_response(to("clock"))).await.unwrap();
    for route in [
        "status",
        "status.",
        ".status",
        "status..",
        "Status",
        "STATUS",
        "stat%75s",
        "status%00",
        "status\0",
        " status",
        "status ",
        "st\u{430}tus",
        "\u{ff53}tatus",
        "status/",
        "/status",
        "status?x",
        "status#",
        "./status",
        "range",
        "range.x.",
        "{name}",
        "*",
        ">",
        "",
    ] {
        for refusal in refusals(&ann, route).await {
            let refusal = refusal.unwrap_or_else(|| panic!("{route:?}: served"));
            assert!(refusal.starts_with("REJECTED: "), "{route:?}: {refusal}");
        }
    }
    for topic in [
        "room.staff",
        "room.staff.",
        "room..staff",
        ".room.staff",
        "room.staff..",
        "Room.staff",
        "room.staff%00",
        "room.%73taff",
        "room.staff\0",
        "room.st\u{430}ff",
        "room.*",
        "room.>",
        ">",
        "*",
        "room.1.2",
        "user.bob.x",
        "user..x",
        "user.Ann.x",
        "user.{name}.x",
        "user.%61nn.x",
        "user.ann",
        "user.ann.",
        "user.*.x",
        "user.ann\u{200b}.x",
        "user.ann..x",
        "_presence.room.1",
        "room.1/../staff",
        "room.1 ",
        "",
    ] {
        for kind in ["topic", "presence", "history"] {
            let refused = refusals(&ann, &format!("{kind}.{topic}")).await;
            for refusal in &refused[..2] {
                let text = refusal.as_ref().unwrap_or_else(|| panic!("{kind}.{topic:?}: served"));
                let is_refused = text.starts_with("REJECTED: not permitted")
                    || text.starts_with("REJECTED: no route ")
                    || text.starts_with("INVALID: ") && text.contains("not a topic's name");
                assert!(is_refused, "{kind}.{topic:?}: {text}");
            }
        }
    }
    // Nobody's name is more than one token, or a pattern, of anybody's own.
    for name in ["a.b", "*", ">", "{name}", "%61nn", "ANN", "\u{430}nn", "ann/x"] {
        let own = token(&json!({ "sub": name, "exp": now() + 60, "roles": ["chat"] }));
        let client = service.try_as(Some(own)).await.unwrap();
        for topic in ["user.ann.x", "user.a.b.x", "user.a.x", "user.*.x", "user.b.x"] {
            let [publish, subscribe, join] = refusals(&client, &format!("topic.{topic}")).await;
            for refusal in [publish, subscribe, join] {
                assert!(refusal.is_some(), "{name:?} has {topic}");
            }
        }
    }
    service.end().await;
}

/// A file of users in which a name looks like another is none.
#[tokio::test]
async fn users_that_look_like_others_are_told_of() {
    let directory = Directory::new("attack-users");
    let users = fs::read_to_string(directory.0.join("users")).unwrap();
    for name in ["ann ", "ann\u{3164}", "an\u{ad}n", "~ann"] {
        let added = users.replacen("bob:", &format!("{name}:"), 1);
        fs::write(directory.0.join("users"), added).unwrap();
        let options = rsock_server::Options {
            access: Some(directory.settings().into()),
            ..Default::default()
        };
        let listen = vec!["tcp://127.0.0.1:0".to_owned()];
        let options = rsock_server::Options { listen, ..options };
        let started = rsock_server::Service::bind(options).await.map(drop);
        // Blanks around a name in the file are no part of it, and then it is there twice.
        let text = started.unwrap_err().to_string();
        assert!(text.contains("users: line 2: "), "{name:?}: {text}");
    }
}
