//! Messages: those to be published, and what a subscriber receives.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

use super::position::{Epoch, Position};

/// A message to be published: its data, which go byte for byte, and what is said beside them.
///
/// ```
/// use rsock::topic::NewMessage;
///
/// let text = NewMessage::new(r#"{"text":"hi"}"#).sender("ann").header("type", "text");
/// let moved = NewMessage::new(r#"{"x":1}"#).key("rook").expect_offset(31);
/// let taken = NewMessage::tombstone("pawn");
/// # drop((text, moved, taken));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[must_use]
pub struct NewMessage {
    #[serde(skip)]
    pub(super) data: Bytes,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    headers: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expect: Option<u64>,
    #[serde(skip_serializing_if = "is_false")]
    delete: bool,
    #[serde(skip_serializing_if = "is_false")]
    close: bool,
    #[serde(skip_serializing_if = "is_false")]
    ephemeral: bool,
}

fn is_false(is: &bool) -> bool {
    !is
}

impl NewMessage {
    /// A message of these data. A service takes 1 MiB of them unless it is told otherwise.
    pub fn new(data: impl Into<Bytes>) -> Self {
        Self { data: data.into(), ..Self::default() }
    }

    /// A deletion of `key` in a topic that keeps the latest of each key.
    pub fn tombstone(key: impl Into<String>) -> Self {
        Self { key: Some(key.into()), delete: true, ..Self::default() }
    }

    /// The idempotency key, of 1 to 64 bytes: what was published under it is not published again by this
    /// sender. A [`Publisher`](super::Publisher) gives one, of 128 random bits, to each message that has none.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// The sender. It must be the authenticated name, where there is one.
    pub fn sender(mut self, name: impl Into<String>) -> Self {
        self.from = Some(name.into());
        self
    }

    /// The key, of 1 to 128 bytes, whose latest message this is, in a topic that keeps that; elsewhere it is
    /// carried along.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// A header, which is carried along: by convention `type`, or `edits` with the offset of another message.
    /// All headers together have 1 KiB at most, as JSON.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// Is published only if this is the offset of the topic's last message; in a topic that keeps the latest
    /// of each key, of the key's. Otherwise the service refuses it: `conflict`, and says the actual one.
    pub fn expect_offset(mut self, offset: u64) -> Self {
        self.expect = Some(offset);
        self
    }

    /// Is the topic's last: readers complete behind it, and nothing more is published until the topic is
    /// deleted.
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// An event that is not kept: see [`Topic::signal`](super::Topic::signal).
    pub(super) fn ephemeral(mut self) -> Self {
        self.ephemeral = true;
        self
    }

    pub(super) fn has_sender(&self) -> bool {
        self.from.is_some()
    }

    /// Bytes that it counts while it waits: its data, and what is said beside them at its largest.
    pub(super) fn size(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let headers = if self.headers.is_empty() { 0 } else { 1 << 10 };
        self.data.len() + text(&self.id) + text(&self.from) + text(&self.key) + headers
    }
}

macro_rules! data {
    ($($source:ty),*) => {$(
        impl From<$source> for NewMessage {
            fn from(data: $source) -> Self {
                Self::new(data)
            }
        }
    )*};
}

data!(Bytes, Vec<u8>, String, &'static str, &'static [u8]);

/// The acknowledgement of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The numbering of the topic.
    pub epoch: Epoch,
    /// The message's place in it.
    pub offset: u64,
    /// It had been published before, under the same id: this is where.
    pub duplicate: bool,
    /// False where a durable topic is set to answer before its disk has synced.
    pub synced: bool,
}

impl Published {
    /// The position of who has received the topic up to this message.
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch, offset: self.offset }
    }
}

/// A message, as it was received.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Message {
    /// The topic.
    pub topic: Arc<str>,
    /// The numbering.
    pub epoch: Epoch,
    /// Its place in it: larger for each later message, not always by one.
    pub offset: u64,
    /// The time when it was published, in milliseconds since 1970; 0 with [`Meta::Offset`](super::Meta::Offset).
    pub time: u64,
    /// The sender, where the service knows it, or the sender says so.
    pub from: Option<String>,
    /// The key whose latest message it is.
    pub key: Option<String>,
    /// The headers that were given with it.
    pub headers: Map<String, Value>,
    /// Its key has been deleted, and there are no data.
    pub deleted: bool,
    /// How many messages were passed over before this one, since [`Lag::Conflate`](super::Lag::Conflate) was
    /// asked for.
    pub skipped: u64,
    /// The data, byte for byte as they were published. They share the memory that they were read into, and keep
    /// all of it: copy what you keep for long.
    pub data: Bytes,
}

impl Message {
    /// The position of who has received this message and those before: what who handles messages at least
    /// once stores after it has handled this one.
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch, offset: self.offset }
    }
}

/// An event that is not kept, such as that somebody types.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Ephemeral {
    /// The topic.
    pub topic: Arc<str>,
    /// The time when it was sent, in milliseconds since 1970.
    pub time: u64,
    /// The sender, where the service knows it, or the sender says so.
    pub from: Option<String>,
    /// The key by which a newer one takes the place of one that waits.
    pub key: Option<String>,
    /// The headers that were given with it.
    pub headers: Map<String, Value>,
    /// The data.
    pub data: Bytes,
}

/// One thing that a subscriber is told, in the order of the topic.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A message.
    Message(Message),
    /// An event that is not kept.
    Ephemeral(Ephemeral),
    /// Messages were dropped before this subscriber had them, since it was too slow or away for too long, and
    /// are not to be had any more.
    Gap {
        /// The offset of the first.
        from: u64,
        /// The offset of the last.
        to: u64,
        /// False where some of these may never have been.
        exact: bool,
    },
    /// The numbering began anew, as a topic in memory does when its service is started again: what was
    /// received before says nothing about what follows, from the oldest message that is kept.
    Reset {
        /// The position in the numbering of before, if there was one: what came behind it is lost.
        before: Option<Position>,
        /// The new numbering.
        epoch: Epoch,
        /// The oldest message in it, which is the next.
        base: u64,
    },
    /// All messages there were have been received: what follows is new. Told once, where it was
    /// [asked for](super::Subscribe::live), and again behind each break.
    Live {
        /// The offset of the newest message.
        offset: u64,
    },
}
