//! History: what a topic has kept, in pages or as a stream that ends.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures_core::Stream;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};

use super::{
    message::{Event, Message},
    position::{Epoch, Position},
    subscription::{Meta, Start},
    wire::{self, Item},
};
use crate::{error::Error, requester::Requester, streams::RequestStream};

/// A question for what a topic has kept: made by [`Topic::history`](super::Topic::history).
///
/// ```
/// use rsock::{Client, Error, topic::Topic};
///
/// # async fn run(client: &Client) -> Result<(), Error> {
/// // The newest fifty, and then those before them, as a reader scrolls back.
/// let mut page = Topic::new(client, "room.1").history().limit(50).page().await?;
/// while let Some(older) = page.older() {
///     page = older.page().await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct History {
    requester: Requester,
    topic: Arc<str>,
    options: HistoryOptions,
}

#[derive(Clone, Debug, Default, Serialize)]
struct HistoryOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<Epoch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_bytes: Option<u64>,
    #[serde(skip_serializing_if = "is_false")]
    reverse: bool,
}

#[derive(Serialize)]
struct StreamOptions<'a> {
    from: &'a Start,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    #[serde(skip_serializing_if = "is_false")]
    reverse: bool,
    #[serde(skip_serializing_if = "is_full")]
    meta: Meta,
}

fn is_false(is: &bool) -> bool {
    !is
}

fn is_full(meta: &Meta) -> bool {
    *meta == Meta::Full
}

impl History {
    pub(super) fn new(requester: Requester, topic: Arc<str>) -> Self {
        Self { requester, topic, options: HistoryOptions::default() }
    }

    /// The messages behind this position.
    pub fn after(mut self, position: Position) -> Self {
        self.options.epoch = Some(position.epoch);
        (self.options.after, self.options.before) = (Some(position.offset), None);
        self
    }

    /// The messages before this one.
    pub fn before(mut self, position: Position) -> Self {
        self.options.epoch = Some(position.epoch);
        (self.options.before, self.options.after) = (Some(position.offset), None);
        self
    }

    /// How many messages at most. A page has 100 by default, and 1,000 at most; a stream has all.
    pub fn limit(mut self, messages: u64) -> Self {
        self.options.limit = Some(messages);
        self
    }

    /// The bytes of messages in a page. Default 256 KiB; 1 MiB at most.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.options.max_bytes = Some(bytes);
        self
    }

    /// The newest first. By default, the oldest.
    pub fn reverse(mut self, reverse: bool) -> Self {
        self.options.reverse = reverse;
        self
    }

    /// A page: behind a position, before one, or the newest, as they were at one moment.
    ///
    /// # Errors
    /// Why there is none: `REJECTED: the log of topic … began anew` where the position is of another numbering.
    pub async fn page(&self) -> Result<HistoryPage, Error> {
        let request = wire::request(&format!("history.{}", self.topic), &self.options)?;
        let answer = self.requester.request_response(request).await?;
        let page: Page<'_> = serde_json::from_slice(&answer.data)
            .map_err(|error| wire::malformed("page of history", error))?;
        let message = |kept: Kept<'_>| kept.into_message(&self.topic, page.epoch);
        let messages = page.messages.into_iter().map(message).collect::<Result<_, _>>()?;
        Ok(HistoryPage {
            asked: self.clone(),
            epoch: page.epoch,
            base: page.base,
            head: page.head,
            messages,
            is_last: page.next.is_none(),
            gap: page.gap.map(|gap| (gap.from, gap.to)),
        })
    }

    /// The messages as a stream, under its own credit, which ends at the newest there is when it is asked for:
    /// from the oldest that is kept, or behind a position. It is not asked for again where it breaks off; what
    /// is not kept any more is told as a gap.
    pub fn stream(&self) -> HistoryEvents {
        let from = match (self.options.epoch, self.options.after) {
            (Some(epoch), Some(offset)) => Start::After(Position { epoch, offset }),
            _ => Start::Oldest,
        };
        let options = StreamOptions {
            from: &from,
            to: self.options.before.map(|before| before.saturating_sub(1)),
            limit: self.options.limit,
            reverse: self.options.reverse,
            meta: Meta::Full,
        };
        let request = wire::request(&format!("history.{}", self.topic), &options);
        let items = request.map(|request| self.requester.request_stream(request));
        HistoryEvents { topic: Arc::clone(&self.topic), items: Some(items) }
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History")
            .field("topic", &self.topic)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// A page of what a topic has kept.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HistoryPage {
    asked: History,
    /// The numbering.
    pub epoch: Epoch,
    /// The oldest message that is kept.
    pub base: u64,
    /// The newest.
    pub head: u64,
    /// The messages of this page.
    pub messages: Vec<Message>,
    /// There is nothing behind this page, the way it was asked for.
    pub is_last: bool,
    /// The first and the last message of those that were asked for and are not kept any more.
    pub gap: Option<(u64, u64)>,
}

impl HistoryPage {
    /// The question for the page with the older messages before this one's; none where all are here.
    pub fn older(&self) -> Option<History> {
        let oldest = self.messages.iter().map(|message| message.offset).min()?;
        let position = Position { epoch: self.epoch, offset: oldest };
        (oldest > self.base).then(|| self.asked.clone().before(position))
    }

    /// The question for the page with the newer messages behind this one's; none where all are here.
    pub fn newer(&self) -> Option<History> {
        let newest = self.messages.iter().map(|message| message.offset).max()?;
        let position = Position { epoch: self.epoch, offset: newest };
        (newest < self.head).then(|| self.asked.clone().after(position))
    }
}

#[derive(Deserialize)]
struct Page<'a> {
    epoch: Epoch,
    base: u64,
    head: u64,
    #[serde(borrow)]
    messages: Vec<Kept<'a>>,
    next: Option<&'a RawValue>,
    gap: Option<Gap>,
}

#[derive(Deserialize)]
struct Gap {
    from: u64,
    to: u64,
}

#[derive(Deserialize)]
struct Kept<'a> {
    offset: u64,
    #[serde(default)]
    time: u64,
    from: Option<String>,
    key: Option<String>,
    #[serde(default)]
    headers: Map<String, Value>,
    #[serde(default)]
    deleted: bool,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    text: Option<String>,
    base64: Option<String>,
}

impl Kept<'_> {
    fn into_message(self, topic: &Arc<str>, epoch: Epoch) -> Result<Message, Error> {
        let data = match (self.data, self.text, self.base64) {
            (Some(json), _, _) => Bytes::copy_from_slice(json.get().as_bytes()),
            (None, Some(text), _) => text.into(),
            (None, None, Some(coded)) => {
                let bytes = BASE64_STANDARD.decode(coded);
                bytes.map_err(|error| wire::malformed("base64 of a message", error))?.into()
            }
            (None, None, None) => Bytes::new(),
        };
        let Self { offset, time, from, key, headers, deleted, .. } = self;
        let topic = Arc::clone(topic);
        Ok(Message { topic, epoch, offset, time, from, key, headers, deleted, skipped: 0, data })
    }
}

/// The messages that a topic has kept, as a stream. Made by [`History::stream`].
#[must_use = "nothing is asked for before it is polled"]
pub struct HistoryEvents {
    topic: Arc<str>,
    /// None at its end.
    items: Option<Result<RequestStream, Error>>,
}

impl Stream for HistoryEvents {
    type Item = Result<Event, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let told = match &mut self.items {
                Some(Ok(items)) => ready!(Pin::new(items).poll_next(cx)),
                Some(Err(error)) => Some(Err(error.clone())),
                None => return Poll::Ready(None),
            };
            let told = match told {
                Some(told) => told.and_then(|payload| wire::item(payload, &self.topic, None)),
                None => {
                    self.items = None;
                    return Poll::Ready(None);
                }
            };
            match told {
                Ok(Item::Event(event)) => return Poll::Ready(Some(Ok(event))),
                Ok(_) => {}
                Err(error) => {
                    self.items = None;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

impl fmt::Debug for HistoryEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HistoryEvents").field("topic", &self.topic).finish_non_exhaustive()
    }
}
