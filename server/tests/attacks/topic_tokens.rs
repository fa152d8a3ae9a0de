//! Tokens for one topic: by these somebody is let into one room, and nowhere else.

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use futures_util::{StreamExt, stream};
use rsock::{Client, Payload, PayloadExt, RequestStream, metadata::Authentication};
use serde_json::{Value, json};

use crate::support::{Directory, Running, SECRET, now, to, within};

fn token_of(kind: &str, claims: &Value) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let header = json!({ "alg": "HS256", "typ": kind });
    let message = format!("{}.{}", part(&header), part(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes()));
    format!("{message}.{signature}")
}

fn topic_token(claims: &Value) -> String {
    token_of("rsock-topic+jwt", claims)
}

fn claims(changes: Value) -> Value {
    let mut claims = json!({
        "sub": "nil", "topic": "room.42", "exp": now() + 600, "do": ["join", "subscribe", "publish"],
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

fn join(client: &Client, route: &str, options: &Value, messages: &[&'static str]) -> RequestStream {
    let first = Payload::new(options.to_string()).route(route).unwrap();
    let messages: Vec<_> = messages.iter().map(|text| Payload::new(*text)).collect();
    client.request_channel(
        stream::iter([first]).chain(stream::iter(messages)).chain(stream::pending()),
    )
}

async fn first(mut items: RequestStream) -> Result<Payload, String> {
    within(items.next()).await.unwrap().map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_token_lets_one_into_one_room_to_do_what_it_says() {
    let directory = Directory::new("topic-tokens");
    let service = Running::of(&directory).await;
    let (nil, ann) = (service.client("nil").await, service.client("ann").await);
    let guest = service.try_as(None).await.unwrap();
    let token = topic_token(&claims(json!({})));
    let with = |token: &str| json!({ "token": token, "receive": "both" });
    let mut joined = join(&nil, "topic.room.42", &with(&token), &["hello"]);
    let hello = within(joined.next()).await.unwrap().unwrap();
    assert_eq!(hello.data, "hello");
    let members = within(ann.request_response(to("presence.room.42"))).await.unwrap();
    let members: Value = serde_json::from_slice(&members.data).unwrap();
    assert_eq!(members["members"][0]["name"], "nil", "{members}");
    // Beside it nothing is permitted, not even in the same room.
    for request in [to("topic.room.42"), to("presence.room.42"), to("clock")] {
        let error = within(nil.request_response(request)).await.unwrap_err().to_string();
        assert!(error.contains("not permitted"), "{error}");
    }
    assert!(first(nil.request_stream(to("topic.room.42"))).await.is_err());
    // Nobody vouches for a guest but such a token, by its name.
    let token = topic_token(&claims(json!({ "sub": "gil" })));
    let mut joined = join(&guest, "topic.room.42", &with(&token), &["from gil"]);
    within(joined.next()).await.unwrap().unwrap();
    let options = json!({ "token": &token, "from": "start" });
    let subscribing = Payload::new(options.to_string()).route("topic.room.42").unwrap();
    let mut reads = guest.request_stream(subscribing);
    for (data, from) in [("hello", "nil"), ("from gil", "gil")] {
        let read = within(reads.next()).await.unwrap().unwrap();
        assert_eq!(read.data, data);
        let metadata = String::from_utf8_lossy(&read.metadata.unwrap()).into_owned();
        assert!(metadata.contains(&format!("\"from\":\"{from}\"")), "{metadata}");
    }
    let as_other = json!({ "token": &token, "name": "ann" });
    let error = first(join(&guest, "topic.room.42", &as_other, &[])).await.unwrap_err();
    assert!(error.contains("this connection's name is \"gil\""), "{error}");
    service.end().await;
}

#[tokio::test]
async fn no_other_token_does() {
    let directory = Directory::new("topic-token-attacks");
    let service = Running::of(&directory).await;
    let (nil, ann) = (service.client("nil").await, service.client("ann").await);
    let right = topic_token(&claims(json!({})));
    let changed = |changes| topic_token(&claims(changes));
    let swapped = {
        let parts: Vec<_> = right.split('.').collect();
        let other = BASE64_URL_SAFE_NO_PAD.encode(claims(json!({ "topic": "room.1" })).to_string());
        format!("{}.{other}.{}", parts[0], parts[2])
    };
    let refused = "REJECTED: not permitted: the token is not one for topic \"room.42\" and you";
    for token in [
        "a.b.c".to_owned(),
        swapped,
        changed(json!({ "topic": "room.41" })),
        changed(json!({ "topic": "room.*" })),
        changed(json!({ "topic": ">" })),
        changed(json!({ "topic": "room.{name}" })),
        changed(json!({ "topic": ["room.42"] })),
        changed(json!({ "topic": "Room.42" })),
        changed(json!({ "topic": "room.42." })),
        changed(json!({ "sub": "ann" })),
        changed(json!({ "sub": "Nil" })),
        changed(json!({ "sub": null })),
        changed(json!({ "exp": now() - 1 })),
        changed(json!({ "exp": null })),
        changed(json!({ "do": null })),
        changed(json!({ "do": "join" })),
        changed(json!({ "do": ["fly"] })),
        changed(json!({ "do": ["join", "admin"] })),
        changed(json!({ "do": ["join", "metrics"] })),
        // What is a login is none, whatever it says.
        token_of("JWT", &claims(json!({}))),
        token_of(
            "",
            &claims(json!({ "rsock": { "topics": [{ "t": "room.42", "do": ["join"] }] } })),
        ),
    ] {
        let options = json!({ "token": token });
        let error = first(join(&nil, "topic.room.42", &options, &[])).await.unwrap_err();
        assert_eq!(error, refused, "{token}");
        let asked = Payload::new(options.to_string()).route("topic.room.42").unwrap();
        assert_eq!(first(nil.request_stream(asked)).await.unwrap_err(), refused, "{token}");
    }
    // It is no login, wherever one is.
    let login = Authentication::bearer(&right);
    assert!(service.try_as(Some(login.clone())).await.is_err());
    for route in ["clock", "auth"] {
        let asked = nil.request_response(to(route).authentication(&login).unwrap());
        assert!(within(asked).await.is_err());
    }
    // It grants what it says; and what is denied is denied.
    let options = json!({ "token": changed(json!({ "do": ["join"] })) });
    let error = first(join(&nil, "topic.room.42", &options, &[])).await.unwrap_err();
    assert!(error.contains("not permitted: subscribe on topic \"room.42\""), "{error}");
    let options = json!({ "token": changed(json!({ "do": ["join", "subscribe"] })) });
    let error = first(join(&nil, "topic.room.42", &options, &["x"])).await.unwrap_err();
    assert!(error.contains("not permitted: publish on topic \"room.42\""), "{error}");
    let staff = topic_token(&claims(json!({ "sub": "ann", "topic": "room.staff" })));
    let error = first(join(&ann, "topic.room.staff", &json!({ "token": staff }), &[])).await;
    let error = error.unwrap_err();
    assert!(error.contains("not permitted: join on topic \"room.staff\""), "{error}");
    service.end().await;
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let directory = Directory::new("topic-token-ends");
    let service = Running::of(&directory).await;
    let (nil, ann) = (service.client("nil").await, service.client("ann").await);
    let token = topic_token(&claims(json!({ "exp": now() + 5 })));
    let receive = |receive: &str| json!({ "token": &token, "receive": receive });
    let subscribing =
        Payload::new(json!({ "token": &token }).to_string()).route("topic.room.42").unwrap();
    let both = join(&nil, "topic.room.42", &receive("both"), &[]);
    let none = join(&nil, "topic.room.42", &receive("none"), &[]);
    let reads = nil.request_stream(subscribing);
    let ended = tokio::join!(first(reads), first(both), first(none));
    for (ended, action) in [(ended.0, "subscribe"), (ended.1, "join"), (ended.2, "join")] {
        let error = ended.unwrap_err();
        let expected = format!("permission ended: {action} on topic \"room.42\"");
        assert!(error.contains(&expected), "{error}");
    }
    // The connection is as it was.
    let asked = within(nil.request_response(to("topics"))).await;
    assert!(asked.is_ok());
    let members = within(ann.request_response(to("presence.room.42"))).await.unwrap();
    let members: Value = serde_json::from_slice(&members.data).unwrap();
    assert_eq!(members["total"], 0, "{members}");
    service.end().await;
}
