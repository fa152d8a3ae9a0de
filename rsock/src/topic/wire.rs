//! Topics on the wire: routes, options and what is said beside an item's data, as JSON.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use rsock_proto::{
    Payload,
    metadata::{CompositeMetadata, WellKnownMime},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{
    message::{Ephemeral, Event, Message, NewMessage, Published},
    position::{Epoch, Position},
};
use crate::{error::Error, payload::PayloadExt};

/// A request to a route, with options as its data.
pub(super) fn request(route: &str, options: &impl Serialize) -> Result<Payload, Error> {
    Payload::new(to_json(options)?).route(route)
}

/// A message to be published to a topic, with its options in the metadata.
pub(super) fn publish(topic: &str, message: &NewMessage) -> Result<Payload, Error> {
    let payload = Payload::new(message.data.clone()).route(&format!("topic.{topic}"))?;
    match &to_json(message)?[..] {
        b"{}" => Ok(payload),
        options => payload.entry(WellKnownMime::Json, options),
    }
}

/// Bytes of what a member may say of itself.
const MAX_INFO_BYTES: usize = 1 << 10;

/// The words of a member about itself from now on: no message.
pub(super) fn info(info: &Value) -> Result<Payload, Error> {
    let bytes = to_json(info)?.len();
    if bytes > MAX_INFO_BYTES {
        return Err(Error::invalid(format!(
            "too large: info of {bytes} bytes, {MAX_INFO_BYTES} at most"
        )));
    }
    let json = to_json(&serde_json::json!({ "info": info }))?;
    Payload::default().entry(WellKnownMime::Json, json)
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(Error::invalid)
}

/// An answer's data.
pub(super) fn answer<T: DeserializeOwned>(payload: &Payload) -> Result<T, Error> {
    serde_json::from_slice(&payload.data).map_err(|error| malformed("answer", error))
}

pub(super) fn malformed(what: &str, problem: impl std::fmt::Display) -> Error {
    Error::application(format!(
        "not of a topic: the {what} is not as topics have it ({problem}); is it a topic's service that \
         answers?"
    ))
}

#[derive(Deserialize)]
struct Acknowledgement {
    epoch: Epoch,
    offset: u64,
    #[serde(default)]
    duplicate: bool,
    #[serde(default = "yes")]
    synced: bool,
}

fn yes() -> bool {
    true
}

/// The answer to a publish.
pub(super) fn published(payload: &Payload) -> Result<Published, Error> {
    let Acknowledgement { epoch, offset, duplicate, synced } = answer(payload)?;
    Ok(Published { epoch, offset, duplicate, synced })
}

/// The first item of a stream that asked for it.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Started {
    pub(super) epoch: Epoch,
    pub(super) next: u64,
}

/// An item of a subscription.
pub(super) enum Item {
    Started(Started),
    Event(Event),
    /// Something newer than this client, which does not need it.
    Unknown,
}

/// All that may be said beside an item's data.
#[derive(Deserialize)]
struct Beside<'a> {
    #[serde(borrow)]
    topic: Option<Cow<'a, str>>,
    epoch: Option<Epoch>,
    offset: Option<u64>,
    #[serde(default)]
    time: u64,
    from: Option<String>,
    key: Option<String>,
    #[serde(default)]
    headers: Map<String, Value>,
    #[serde(default)]
    deleted: bool,
    #[serde(default)]
    skipped: u64,
    #[serde(default)]
    ephemeral: bool,
    gap: Option<Missing>,
    exact: Option<bool>,
    base: Option<u64>,
    start: Option<Started>,
    /// The end of the topic; or a truth value, that what is behind the topic can be reached.
    live: Option<Value>,
}

#[derive(Deserialize)]
struct Missing {
    epoch: Option<Epoch>,
    from: u64,
    to: Option<u64>,
    exact: Option<bool>,
}

/// The JSON in an item's metadata, which is all of it, or an entry of composite metadata. No entry of
/// composite metadata begins as an object does, unless its type's name has 124 bytes.
fn json(metadata: &Bytes) -> Result<Option<Bytes>, Error> {
    if metadata.first() == Some(&b'{') {
        return Ok(Some(metadata.clone()));
    }
    CompositeMetadata::new(metadata.clone())
        .find(WellKnownMime::Json)
        .map_err(|error| malformed("item's metadata", error))
}

/// The JSON beside an item's data.
pub(super) fn beside<T: DeserializeOwned>(payload: &Payload) -> Result<T, Error> {
    serde_json::from_slice(&metadata(payload)?).map_err(|error| malformed("item's metadata", error))
}

fn metadata(payload: &Payload) -> Result<Bytes, Error> {
    let metadata = payload.metadata.as_ref().map(json).transpose()?.flatten();
    metadata.ok_or_else(|| malformed("item", "it has no metadata as JSON"))
}

/// Reads an item of a topic with this name, and in this epoch unless it says another.
pub(super) fn item(payload: Payload, name: &Arc<str>, epoch: Option<Epoch>) -> Result<Item, Error> {
    let metadata = metadata(&payload)?;
    let beside: Beside<'_> =
        serde_json::from_slice(&metadata).map_err(|error| malformed("item's metadata", error))?;
    if let Some(started) = beside.start {
        return Ok(Item::Started(started));
    }
    if let Some(live) = beside.live {
        let offset = live.get("offset").and_then(Value::as_u64);
        return Ok(offset.map_or(Item::Unknown, |offset| Item::Event(Event::Live { offset })));
    }
    if let Some(gap) = beside.gap {
        return missing(gap, beside.exact, beside.epoch, beside.base);
    }
    let topic = match beside.topic {
        Some(topic) if *topic != **name => topic.into(),
        _ => Arc::clone(name),
    };
    let Beside { time, from, key, headers, deleted, skipped, .. } = beside;
    let data = payload.data;
    if beside.ephemeral {
        let event = Ephemeral { topic, time, from, key, headers, data };
        return Ok(Item::Event(Event::Ephemeral(event)));
    }
    let (Some(offset), Some(epoch)) = (beside.offset, beside.epoch.or(epoch)) else {
        return Ok(Item::Unknown);
    };
    let message =
        Message { topic, epoch, offset, time, from, key, headers, deleted, skipped, data };
    Ok(Item::Event(Event::Message(message)))
}

/// Reads a gap, or a reset, which says what is missing from another epoch on.
fn missing(
    gap: Missing,
    exact: Option<bool>,
    epoch: Option<Epoch>,
    base: Option<u64>,
) -> Result<Item, Error> {
    let from = gap.from;
    if let Some(to) = gap.to {
        let exact = exact.or(gap.exact).unwrap_or(true);
        return Ok(Item::Event(Event::Gap { from, to, exact }));
    }
    let (Some(epoch), Some(base)) = (epoch, base) else {
        return Err(malformed("item", "a reset without its epoch and base"));
    };
    let before = gap.epoch.map(|epoch| Position { epoch, offset: from.saturating_sub(1) });
    Ok(Item::Event(Event::Reset { before, epoch, base }))
}
