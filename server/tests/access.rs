//! Access over real sockets: who comes in, and what they may do.

#![expect(clippy::unwrap_used, reason = "a test fails where it panics, its helpers included")]

mod support;

use std::{fs, path::Path, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::{StreamExt, stream};
use rsock::{
    Client, CloseReason, Payload, PayloadExt,
    metadata::{Authentication, Features, Notice},
};
use rsock_server::{Options, Service, StartError};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use support::{Directory, Running, now, password_of, refusals, to, token, within};

#[tokio::test]
async fn all_who_are_not_let_in_are_told_the_same() {
    let directory = Directory::new("same");
    directory.change("anonymous = [\"guest\"]", "");
    let service = Running::of(&directory).await;
    assert!(service.try_as(Some(password_of("ann"))).await.is_ok());
    let expired = token(&json!({ "sub": "ann", "exp": now() - 5 }));
    let reserved = Authentication::Custom { name: "own".into(), payload: "x".into() };
    let mut told = Vec::new();
    for wrong in [
        None,
        Some(Authentication::simple("ann", "bob's password")),
        Some(Authentication::simple("zed", "ann's password")),
        Some(Authentication::simple("", "")),
        Some(Authentication::simple(&"x".repeat(300), "x")),
        Some(Authentication::bearer("")),
        Some(Authentication::bearer("a.b.c")),
        Some(expired),
        Some(reserved),
    ] {
        told.push(service.try_as(wrong).await.unwrap_err());
    }
    assert!(told[0].contains("authentication failed"), "{told:?}");
    assert!(told.iter().all(|text| *text == told[0]), "{told:?}");
    service.end().await;
}

#[tokio::test]
async fn who_has_no_permission_is_refused_before_any_handler() {
    let directory = Directory::new("refused");
    let service = Running::of(&directory).await;
    let (nil, ops) = (service.client("nil").await, service.client("ops").await);
    for route in [
        "clock", "echo", "range", "status", "nowhere", "echo.", "echo..", ".echo", "Echo", "ech%6f",
    ] {
        for refusal in refusals(&nil, route).await {
            let refusal = refusal.expect(route);
            let expected = format!("not permitted: request on route {route:?}");
            assert!(refusal.contains(&expected), "{route}: {refusal}");
        }
        nil.fire_and_forget(to(route)).await.unwrap();
    }
    // Without a route it is the default one, which is judged by its name.
    let refusal = within(nil.request_response(Payload::new("x"))).await.unwrap_err().to_string();
    assert!(refusal.contains("not permitted: request on route \"echo\""), "{refusal}");
    let refused = |name: &'static str, refusal: String| {
        assert!(refusal.contains("not permitted: "), "{name}: {refusal}");
    };
    for name in ["topic.room.1", "topic.user.nil.x", "topic.room.staff"] {
        let [publish, subscribe, join] = refusals(&nil, name).await;
        for refusal in [publish, subscribe, join] {
            refused(name, refusal.expect(name));
        }
        nil.fire_and_forget(to(name)).await.unwrap();
    }
    for name in ["presence.room.1", "history.room.1"] {
        let [response, items, _] = refusals(&nil, name).await;
        refused(name, response.expect(name));
        refused(name, items.expect(name));
    }
    for data in [r#"{"purge":"room.1"}"#, r#"{"delete":"room.1"}"#] {
        let asked = Payload::new(data).route("topics").unwrap();
        refused("topics", within(nil.request_response(asked)).await.unwrap_err().to_string());
    }
    let status = within(ops.request_response(to("status"))).await.unwrap();
    let status: Value = serde_json::from_slice(&status.data).unwrap();
    assert_eq!(status["fire_and_forget"]["taken"], 0, "{status}");
    assert_eq!(status["topics"]["topics"], 0, "{status}");
    assert!(status["access"]["denied"].as_u64().unwrap() >= 40, "{status}");
    service.end().await;
}

#[tokio::test]
async fn lists_show_what_one_may_use() {
    let directory = Directory::new("lists");
    let service = Running::of(&directory).await;
    let routes = async |client: &Client| {
        let list = within(client.request_response(to("routes"))).await.unwrap();
        let list = String::from_utf8(list.data.to_vec()).unwrap();
        let names = list.lines().filter_map(|line| line.split_whitespace().next());
        names.filter(|name| !name.contains('{')).map(str::to_owned).collect::<Vec<_>>()
    };
    let guest = service.try_as(None).await.unwrap();
    assert_eq!(routes(&guest).await, ["auth", "echo", "routes", "topics"]);
    let ops = service.client("ops").await;
    assert_eq!(routes(&ops).await, ["auth", "clock", "range", "routes", "status", "topics"]);
    // Nor is the name of what one may not use suggested.
    let refusal = within(guest.request_response(to("statsu"))).await.unwrap_err().to_string();
    assert!(!refusal.contains("status"), "{refusal}");
    let ann = service.client("ann").await;
    let published = Payload::new("secret").route("topic.user.ann.inbox").unwrap();
    within(ann.request_response(published)).await.unwrap();
    let topics = async |client: &Client| {
        let list = within(client.request_response(to("topics"))).await.unwrap();
        String::from_utf8(list.data.to_vec()).unwrap()
    };
    assert!(topics(&ann).await.contains("user.ann.inbox"));
    assert!(!topics(&service.client("bob").await).await.contains("user.ann.inbox"));
    assert!(!topics(&guest).await.contains("user.ann.inbox"));
    service.end().await;
}

#[tokio::test]
async fn a_room_is_for_those_who_may_and_a_deny_wins() {
    let directory = Directory::new("room");
    let service = Running::of(&directory).await;
    let (ann, bob) = (service.client("ann").await, service.client("bob").await);
    let mut heard = bob.request_stream(to("topic.room.1"));
    let hello = Payload::new("hello").route("topic.room.1").unwrap();
    // Until the subscription is there.
    let heard = within(async {
        loop {
            within(ann.request_response(hello.clone())).await.unwrap();
            let first = tokio::time::timeout(Duration::from_millis(200), heard.next()).await;
            if let Ok(item) = first {
                return item.unwrap().unwrap();
            }
        }
    })
    .await;
    assert_eq!(heard.data, "hello");
    for (client, route) in [
        (&ann, "topic.room.staff"),
        (&ann, "topic.user.bob.x"),
        (&bob, "topic.user.ann.x"),
        (&ann, "topic.room"),
        (&ann, "topic.room.1.2"),
    ] {
        let [publish, ..] = refusals(client, route).await;
        assert!(publish.expect(route).contains("not permitted: publish on topic"), "{route}");
    }
    service.end().await;
}

#[tokio::test]
async fn credentials_of_a_request_count_for_that_request_alone() {
    let directory = Directory::new("request");
    let service = Running::of(&directory).await;
    let guest = service.try_as(None).await.unwrap();
    let with = |credentials: &Authentication, route| {
        Payload::new("").route(route).unwrap().authentication(credentials).unwrap()
    };
    let refused =
        async |payload| within(guest.request_response(payload)).await.unwrap_err().to_string();
    assert!(refused(to("status")).await.contains("not permitted"));
    for own in
        [password_of("ops"), token(&json!({ "sub": "t", "exp": now() + 60, "roles": ["ops"] }))]
    {
        // Asked first, and known the second time.
        for _ in 0..2 {
            within(guest.request_response(with(&own, "status"))).await.unwrap();
            let tick = within(guest.request_stream(with(&own, "clock")).next()).await;
            tick.unwrap().unwrap();
        }
        assert!(refused(to("status")).await.contains("not permitted"));
        // Nor has it what the connection may do.
        assert!(
            refused(with(&own, "echo")).await.contains("not permitted: request on route \"echo\"")
        );
    }
    let wrong = Authentication::simple("ops", "wrong");
    assert!(refused(with(&wrong, "echo")).await.ends_with("authentication failed"));
    let mut failed = guest.request_stream(with(&wrong, "clock"));
    assert!(within(failed.next()).await.unwrap().is_err());
    service.end().await;
}

#[tokio::test]
async fn a_connection_ends_with_its_token_unless_that_is_renewed() {
    let directory = Directory::new("expiry");
    let service = Running::of(&directory).await;
    let until =
        |seconds| token(&json!({ "sub": "ann", "exp": now() + seconds, "roles": ["chat"] }));
    let short = service.try_as(Some(until(2))).await.unwrap();
    let renewed = service.try_as(Some(until(2))).await.unwrap();
    let mut ticks = short.request_stream(to("clock"));
    within(ticks.next()).await.unwrap().unwrap();
    let fresh = to("auth").authentication(&until(600)).unwrap();
    let answer = within(renewed.request_response(fresh)).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.data).unwrap();
    assert_eq!(answer["subject"], "ann");
    assert!(answer["expires_in"].as_u64().unwrap() > 590, "{answer}");
    let other = token(&json!({ "sub": "bob", "exp": now() + 60 }));
    let refusal = renewed.request_response(to("auth").authentication(&other).unwrap());
    let refusal = within(refusal).await.unwrap_err().to_string();
    assert!(refusal.contains("the credentials are another's"), "{refusal}");
    let reason = within(short.closed()).await;
    assert!(
        matches!(&reason, CloseReason::Error { message, .. }
            if &**message == "the token has expired: connect again with a fresh one"),
        "{reason:?}"
    );
    // Its streams have ended with it.
    while let Some(Ok(_)) = within(ticks.next()).await {}
    within(renewed.request_response(to("clock"))).await.unwrap();
    service.end().await;
}

/// Nobody else is pushed anything.
#[tokio::test]
async fn who_heeds_it_is_told_that_a_token_expires() {
    let directory = Directory::new("notice");
    let service = Running::of(&directory).await;
    let (tell, mut told) = tokio::sync::mpsc::channel(8);
    let lasting =
        |seconds| token(&json!({ "sub": "ann", "exp": now() + seconds, "roles": ["chat"] }));
    let heed = move |notice| {
        // The test listens.
        let _ = tell.try_send(notice);
    };
    let heeding = Client::builder().heed(Features::AUTH_REFRESH, heed);
    let heeding = heeding.authentication(lasting(50)).connect(&service.addresses[0]).await.unwrap();
    let other = Client::builder().heed(Features::DRAIN, |notice| panic!("{notice:?}"));
    let other = other.authentication(lasting(50)).connect(&service.addresses[0]).await.unwrap();
    other.ping().await.unwrap();
    let Some(Notice::Expires { after }) = within(told.recv()).await else { panic!("another") };
    assert!((1..=50).contains(&after.as_secs()), "{after:?}");
    // A fresh one is told of a minute before its own end.
    let fresh = heeding.request_response(to("auth").authentication(&lasting(61)).unwrap());
    within(fresh).await.unwrap();
    let Some(Notice::Expires { after }) = within(told.recv()).await else { panic!("another") };
    assert!((50..=60).contains(&after.as_secs()), "{after:?}");
    other.request_response(to("clock")).await.unwrap();
    let ops = service.client("ops").await;
    let status = within(ops.request_response(to("status"))).await.unwrap();
    let status: Value = serde_json::from_slice(&status.data).unwrap();
    assert_eq!(status["access"]["noticed"], 2);
    service.end().await;
}

#[tokio::test]
async fn what_is_not_granted_any_more_ends_while_it_runs() {
    let directory = Directory::new("reload");
    let service = Running::of(&directory).await;
    let ann = service.client("ann").await;
    let from_start = async |route: &str| {
        let begun = Payload::new("begun").route(route).unwrap();
        within(ann.request_response(begun)).await.unwrap();
        let asked = Payload::new(r#"{"from":"start"}"#).route(route).unwrap();
        let mut items = ann.request_stream(asked);
        assert_eq!(within(items.next()).await.unwrap().unwrap().data, "begun");
        items
    };
    let mut idle = from_start("topic.room.1").await;
    let mut own = from_start("topic.user.ann.inbox").await;
    let mut presence = ann.request_stream(to("presence.room.1"));
    let ticking = Payload::new(r#"{"interval_ms":20}"#).route("clock").unwrap();
    let mut ticks = ann.request_stream(ticking);
    for items in [&mut presence, &mut ticks] {
        within(items.next()).await.unwrap().unwrap();
    }
    directory.change("\"room.*\", ", "");
    directory.change("[\"chat\", \"ops\"]", "[\"ops\"]");
    service.live.apply(&service.options).unwrap();
    let ended = async |items: &mut rsock::RequestStream| loop {
        match within(items.next()).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => return error.to_string(),
            None => return "complete".to_owned(),
        }
    };
    for (items, permission) in [
        (&mut idle, "subscribe on topic \"room.1\""),
        (&mut presence, "presence on topic \"room.1\""),
        (&mut ticks, "request on route \"clock\""),
    ] {
        let error = ended(items).await;
        assert!(error.contains(&format!("permission ended: {permission}")), "{error}");
    }
    // What is granted goes on.
    let inbox = Payload::new("still").route("topic.user.ann.inbox").unwrap();
    within(ann.request_response(inbox)).await.unwrap();
    assert_eq!(within(own.next()).await.unwrap().unwrap().data, "still");
    // A file that is wrong changes nothing, of anything else either.
    directory.change("[[deny]]", "[[denied]]");
    let others = Options { max_frame: 100_000, ..service.options.clone() };
    let problem = service.live.apply(&others).unwrap_err();
    assert!(problem.contains("unknown field `denied`"), "{problem}");
    within(ann.request_response(to("topics"))).await.unwrap();
    // Who is not among the users any more is let go.
    directory.change("[[denied]]", "[[deny]]");
    let users = fs::read_to_string(directory.0.join("users")).unwrap();
    let without: String = users.lines().skip(1).map(|line| format!("{line}\n")).collect();
    fs::write(directory.0.join("users"), without).unwrap();
    service.live.apply(&service.options).unwrap();
    let reason = within(ann.closed()).await.to_string();
    assert!(reason.contains("authenticate again"), "{reason}");
    assert!(service.try_as(Some(password_of("ann"))).await.is_err());
    service.end().await;
}

#[tokio::test]
async fn whoever_nobody_vouches_for_can_be_told_from_others() {
    let directory = Directory::new("names");
    directory.change(
        "roles = [\"chat\"]\ntopics = [\"room.*\"",
        "roles = [\"chat\", \"guest\"]\ntopics = [\"room.*\"",
    );
    let service = Running::of(&directory).await;
    let guest = service.try_as(None).await.unwrap();
    let joining = Payload::new(r#"{"name":"ann"}"#).route("topic.room.1").unwrap();
    let mut join = guest.request_channel(stream::iter([joining]).chain(stream::pending()));
    let ann = service.client("ann").await;
    let members = within(async {
        loop {
            let members = ann.request_response(to("presence.room.1")).await.unwrap();
            let members: Value = serde_json::from_slice(&members.data).unwrap();
            if members["total"] == 1 {
                return members;
            }
            // The join is read in the meantime.
            let _ = tokio::time::timeout(Duration::from_millis(50), join.next()).await;
        }
    })
    .await;
    assert_eq!(members["members"][0]["name"], "~ann", "{members}");
    // Nobody's own topics are anybody's.
    let [publish, ..] = refusals(&guest, "topic.user.~.x").await;
    assert!(publish.is_some());
    service.end().await;
}

#[tokio::test]
async fn nobody_is_served_from_afar_unless_somebody_is_asked() {
    let start = async |options: Options| {
        let listen = vec!["tcp://0.0.0.0:0".to_owned()];
        Service::bind(Options { listen, ..options }).await.map(drop)
    };
    let refused = start(Options::default()).await.unwrap_err();
    assert!(matches!(refused, StartError::OpenToAll(_)), "{refused}");
    let text = refused.to_string();
    assert!(text.contains("--access FILE") && text.contains("--open-to-all"), "{text}");
    start(Options { open_to_all: true, ..Options::default() }).await.unwrap();
    let directory = Directory::new("guard");
    start(Options { access: Some(directory.settings().into()), ..Options::default() })
        .await
        .unwrap();
    let missing = Options { access: Some(Path::new("/nowhere").into()), ..Options::default() };
    let text = start(missing).await.unwrap_err().to_string();
    assert!(text.contains("cannot read /nowhere"), "{text}");
}

/// The status that the figures are answered with, to this header.
async fn metrics_status(service: &Running, header: &str) -> String {
    let authority = service.addresses[1].strip_prefix("ws://").unwrap();
    let authority = authority.strip_suffix("/rsocket").unwrap();
    let mut socket = TcpStream::connect(authority).await.unwrap();
    let request =
        format!("GET /metrics HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n{header}\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(socket.read_to_string(&mut answer)).await.unwrap();
    answer.split(' ').nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn figures_are_for_those_who_may_have_them() {
    let directory = Directory::new("metrics");
    directory.change("[[deny]]", "[[grant]]\nroles = [\"ops\"]\nallow = [\"metrics\"]\n[[deny]]");
    let service = Running::of(&directory).await;
    let basic = |text: &str| format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode(text));
    let Authentication::Bearer { token } =
        token(&json!({ "sub": "t", "exp": now() + 60, "roles": ["ops"] }))
    else {
        unreachable!("it is a token");
    };
    let bearer =
        format!("Authorization: Bearer {}\r\n", String::from_utf8(token.to_vec()).unwrap());
    for (header, status) in [
        (String::new(), "403"),
        (basic("ops:ops's password"), "200"),
        (basic("ann:ann's password"), "403"),
        (basic("ops:wrong"), "401"),
        ("Authorization: Negotiate x\r\n".to_owned(), "401"),
        (bearer, "200"),
    ] {
        assert_eq!(metrics_status(&service, &header).await, status, "{header}");
    }
    service.end().await;
}

/// A handshake has credentials in its headers, as a client of the library sends them, or in its cookie.
#[tokio::test]
async fn a_handshake_says_who_comes() {
    let directory = Directory::new("handshake");
    directory.change("anonymous = [\"guest\"]", "");
    directory.change(
        "[[deny]]",
        "[auth.cookie]\nname = \"session\"\norigins = [\"https://app.example\"]\n[[deny]]",
    );
    let service = Running::of(&directory).await;
    let Authentication::Bearer { token } =
        token(&json!({ "sub": "ann", "exp": now() + 60, "roles": ["chat"] }))
    else {
        unreachable!("it is a token");
    };
    let token = String::from_utf8(token.to_vec()).unwrap();
    let basic = format!("Basic {}", BASE64_STANDARD.encode("ann:ann's password"));
    let (cookie, own) =
        (format!("a=b; session={token}"), service.addresses[1].replace("ws://", "http://"));
    let own = own.strip_suffix("/rsocket").unwrap();
    for (headers, comes_in) in [
        (vec![("authorization", basic.as_str())], true),
        (vec![("authorization", &format!("Bearer {token}"))], true),
        (vec![("authorization", "Bearer nonsense")], false),
        (vec![("cookie", &cookie), ("origin", "https://app.example")], true),
        (vec![("cookie", &cookie), ("origin", own)], true),
        (vec![("cookie", &cookie), ("origin", "https://evil.example")], false),
        (vec![("cookie", &cookie), ("origin", "null")], false),
        (vec![("cookie", &cookie)], false),
        (vec![("cookie", "session=; session=x"), ("origin", own)], false),
        (vec![], false),
    ] {
        let mut builder = Client::builder().wait_until_accepted(true);
        for (name, value) in &headers {
            builder = builder.header(*name, *value);
        }
        let connected = within(builder.connect(&service.addresses[1])).await;
        assert_eq!(connected.is_ok(), comes_in, "{headers:?}");
        if let Ok(client) = connected {
            within(client.request_response(to("clock"))).await.unwrap();
        }
    }
    service.end().await;
}

/// Ten thousand wrong passwords, as fast as they are taken.
#[tokio::test(flavor = "multi_thread")]
async fn guessing_costs_nobody_else_anything() {
    const GUESSES: usize = 10_000;
    let directory = Directory::new("guesses");
    let service = Running::of(&directory).await;
    let guest = service.try_as(None).await.unwrap();
    let guess = |number: usize| {
        let wrong = Authentication::simple("ann", &format!("guess {number}"));
        guest.request_response(to("echo").authentication(&wrong).unwrap())
    };
    let guesses = stream::iter(0..GUESSES).map(guess).buffer_unordered(256);
    let mut told = std::collections::BTreeMap::<String, usize>::new();
    let mut guesses = std::pin::pin!(guesses);
    let mut served = 0;
    while let Some(answer) = within(guesses.next()).await {
        *told.entry(answer.unwrap_err().to_string()).or_default() += 1;
        served += 1;
        if served % 1_000 == 0 {
            within(guest.request_response(to("echo"))).await.unwrap();
        }
    }
    assert_eq!(told.values().sum::<usize>(), GUESSES);
    assert!(
        told.keys()
            .all(|text| text.contains("authentication failed") || text.contains("busy, retry"))
    );
    // Most of it was never computed.
    let ops = service.client("ops").await;
    let status = within(ops.request_response(to("status"))).await.unwrap();
    let status: Value = serde_json::from_slice(&status.data).unwrap();
    let (busy, failed) = (&status["access"]["busy"], &status["access"]["failed"]);
    assert!(busy.as_u64().unwrap() > 9_000, "{status}");
    assert_eq!(failed.as_u64().unwrap(), GUESSES as u64, "{status}");
    service.end().await;
}
