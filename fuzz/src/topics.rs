//! Topics: options of requests, and messages in pages of history. Another reader of JSON, which knows nothing
//! of ours, has to agree.

use rsock_topics::{
    Encoder, Entry, Epoch, HistoryOptions, HistoryPageOptions, Instant, JoinOptions, Message,
    Moment, Offset, PresenceOptions, PresencePageOptions, PublishOptions, Question, Refusal,
    SubscribeOptions, TopicName, TopicsOptions, is_member_name,
};
use serde_json::Value;

/// Bytes of the longest refusal: what it shows of the peer's is bounded.
const MAX_TEXT: usize = 1_000;

/// Reads options of a kind that the first byte says, or puts messages into a page.
pub fn topics(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    match kind % 9 {
        0 => check(data, PublishOptions::parse(data), |options, json| {
            assert_eq!(options.id.as_deref(), text(json, "id"));
            assert_eq!(options.key.as_deref(), text(json, "key"));
            assert_eq!(options.from.as_deref(), text(json, "from"));
            assert!(options.from.as_deref().is_none_or(is_member_name));
            assert_eq!(options.expect.map(|offset| offset.0), json["expect"].as_u64());
            assert_eq!(options.is_ephemeral, json["ephemeral"] == true);
            let headers = options.headers.as_deref().map(|headers| headers.get());
            assert_eq!(
                headers.map(read),
                json.get("headers").filter(|json| json.is_object()).cloned()
            );
        }),
        1 => check(data, SubscribeOptions::parse(data), |options, json| {
            assert_eq!(options.max_lag, json["max_lag"].as_u64());
            assert_eq!(options.has_echo, json["echo"] != false);
            assert_eq!(options.token.as_deref(), text(json, "token"));
        }),
        2 => check(data, JoinOptions::parse(data), |options, json| {
            assert_eq!(options.name.as_deref(), text(json, "name"));
            let info = options.info.as_deref().map(|info| read(info.get()));
            assert_eq!(info, json.get("info").filter(|json| !json.is_null()).cloned());
        }),
        3 => check(data, HistoryOptions::parse(data), |options, json| {
            assert_eq!(options.limit, json["limit"].as_u64());
        }),
        4 => check(data, HistoryPageOptions::parse(data), |options, json| {
            assert_eq!(options.limit as u64, json["limit"].as_u64().unwrap_or(100));
        }),
        5 => check(data, PresenceOptions::parse(data), |options, json| {
            assert_eq!(options.tells_away, json["away"] == true);
        }),
        6 => check(data, PresencePageOptions::parse(data), |options, json| {
            assert_eq!(options.after.as_deref(), text(json, "after"));
        }),
        7 => check(data, TopicsOptions::parse(data), |options, json| match options {
            TopicsOptions::List { prefix } => {
                assert_eq!(&**prefix, text(json, "prefix").unwrap_or_default());
            }
            TopicsOptions::Purge(name) => assert_eq!(Some(name.as_str()), text(json, "purge")),
            TopicsOptions::Delete(name) => assert_eq!(Some(name.as_str()), text(json, "delete")),
        }),
        _ => page(data),
    }
}

fn text<'a>(json: &'a Value, name: &str) -> Option<&'a str> {
    json[name].as_str()
}

fn read(json: &str) -> Value {
    serde_json::from_str(json).expect("what is kept verbatim is JSON for everybody")
}

fn check<T>(data: &[u8], read: Result<T, Refusal>, agrees: impl FnOnce(&T, &Value)) {
    match read {
        Ok(options) if data.trim_ascii().is_empty() => agrees(&options, &Value::Null),
        Ok(options) => {
            let json: Value = serde_json::from_slice(data).expect("it was read as JSON");
            assert!(json.is_object());
            agrees(&options, &json);
        }
        Err(Refusal::Invalid(text)) => assert!(text.len() < MAX_TEXT, "{text}"),
        Err(other) => panic!("{other}"),
    }
}

/// Messages, each behind its length, and what a page has of them.
fn page(mut data: &[u8]) {
    let topic = TopicName::parse("room.1").expect("a name");
    let encoder = Encoder::new(&topic, Epoch(1));
    let mut entries = Vec::new();
    while let Some((len, rest)) = data.split_first() {
        let (message, rest) = rest.split_at(rest.len().min((*len).into()));
        let message = Message { data: message, ..Message::default() };
        let offset = Offset(1 + entries.len() as u64);
        entries.push(Entry::new(&encoder, offset, 1, Instant(0), &message));
        data = rest;
    }
    let end = Offset(1 + entries.len() as u64);
    let moment = Moment { topic: &topic, epoch: Epoch(1), base: Offset(1), end };
    let options = HistoryPageOptions::parse(br#"{"limit":1000}"#).expect("valid");
    let question = Question::new(moment, &options).expect("of this epoch");
    let page = question.answer(entries.iter().rev(), false);
    let page: Value = serde_json::from_slice(&page).expect("no message spoils a page");
    let listed = page["messages"].as_array().expect("messages");
    assert_eq!(listed.len(), entries.len().min(1_000));
    for message in listed {
        let offset = message["offset"].as_u64().expect("an offset");
        let data = entries[offset as usize - 1].data();
        match (message.get("data"), text(message, "text"), text(message, "base64")) {
            (Some(json), None, None) => {
                assert_eq!(serde_json::from_slice::<Value>(data).ok().as_ref(), Some(json));
            }
            (None, Some(text), None) => assert_eq!(text.as_bytes(), data),
            (None, None, Some(coded)) => assert_eq!(coded.len(), data.len().div_ceil(3) * 4),
            _ => panic!("{message}"),
        }
    }
}
