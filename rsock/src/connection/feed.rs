//! Feeds: sources that fill a stream with many items a poll, and may share them with other streams.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use rsock_proto::{Items, Payload, SendError, SharedPayload};

use crate::{
    boxed::BoxStream,
    connection::{mailbox::Mailbox, wake_group::WakeGroup},
    error::Error,
};

/// The bytes that an item counts beside its own, so that empty ones come to an end as well.
pub(super) const ITEM_COST: usize = 32;

/// A source of items that is asked for as many as its stream takes, and not for one at a time as a
/// [`Stream`] is.
///
/// It is made for fan-out: what many streams are sent is encoded once ([`SharedPayload`]), and all feeds
/// of a connection that wait for the same are woken at once ([`WakeGroup`]). Where nothing is shared a
/// stream is as good, and says less.
///
/// A feed is polled by its connection's own task: see [`Responder`](crate::Responder).
pub trait Feed: Send + 'static {
    /// Sends what there is, as long as `out` [has room](Outlet::has_room).
    ///
    /// `Pending` where there is nothing more for now: its waker, or a group that it
    /// [waits in](Outlet::wait_in), has it polled again; or where there was no room: then it is polled
    /// when there is. `Ready` ends the stream, with COMPLETE or with an error.
    fn poll_fill(&mut self, out: &mut Outlet<'_>, cx: &mut Context<'_>) -> Poll<Result<(), Error>>;

    /// Whether it never ends by itself, as a subscription: a server that stops does not wait for it. When
    /// nothing else is open on a connection, that is closed, and its client subscribes elsewhere. Behind a
    /// layer that makes it a stream it is waited for all the same.
    fn is_endless(&self) -> bool {
        false
    }
}

/// The stream that a feed fills.
pub struct Outlet<'a> {
    to: To<'a>,
    /// Bytes that may be sent before others have their turn, and have been.
    limit: usize,
    sent: usize,
    /// Items that have been.
    count: usize,
    /// There was no room, though the peer has asked for more: it is to be polled when there is.
    is_refused: bool,
}

enum To<'a> {
    /// A connection's stream, and the place that its producer has in the driver.
    Connection { items: Items<'a>, mailbox: &'a Arc<Mailbox>, slot: usize },
    /// A stream of this process, that takes one item a poll.
    Stream(&'a mut Option<Payload>),
}

impl<'a> Outlet<'a> {
    pub(super) fn of_connection(
        items: Items<'a>,
        mailbox: &'a Arc<Mailbox>,
        slot: usize,
        limit: usize,
    ) -> Self {
        let to = To::Connection { items, mailbox, slot };
        Self { to, limit, sent: 0, count: 0, is_refused: false }
    }

    fn of_stream(item: &'a mut Option<Payload>) -> Self {
        Self { to: To::Stream(item), limit: usize::MAX, sent: 0, count: 0, is_refused: false }
    }

    /// Items that the peer has asked for, and that were not sent.
    #[inline]
    pub fn credit(&self) -> u64 {
        match &self.to {
            To::Connection { items, .. } => items.credit(),
            To::Stream(item) => u64::from(item.is_none()),
        }
    }

    /// Whether an item may be sent now: the peer has asked for it, its socket takes it (a session has one
    /// at all), and this is still the feed's turn. Where it is not, return `Pending`, and nothing is missed.
    #[inline]
    pub fn has_room(&mut self) -> bool {
        match &self.to {
            To::Connection { items, .. } => {
                // A session without a transport is given nothing: what is newer will do as well. All
                // feeds are polled when it has one again.
                if items.credit() == 0 || items.is_apart() {
                    return false;
                }
                self.is_refused = self.sent >= self.limit || items.capacity() == 0;
                !self.is_refused
            }
            To::Stream(item) => item.is_none(),
        }
    }

    /// Sends an item.
    ///
    /// # Errors
    /// [`SendError::NoCredit`] without room, and [`SendError::PayloadTooLarge`] if it fits no frame, and
    /// payloads are not cut.
    pub fn send(&mut self, item: Payload) -> Result<(), SendError> {
        self.sent += item.size() + ITEM_COST;
        self.count += 1;
        match &mut self.to {
            To::Connection { items, .. } => items.send(item),
            To::Stream(place) if place.is_none() => {
                **place = Some(item);
                Ok(())
            }
            To::Stream(_) => Err(SendError::NoCredit),
        }
    }

    /// Sends an item that other streams are sent as well.
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    #[inline]
    pub fn send_shared(&mut self, item: &SharedPayload) -> Result<(), SendError> {
        match &mut self.to {
            To::Connection { items, .. } => {
                self.sent += item.size() + ITEM_COST;
                self.count += 1;
                items.send_shared(item)
            }
            To::Stream(_) => self.send(item.to_payload()),
        }
    }

    /// Has the feed polled when the group is woken. Look once more whether there is something to send
    /// after this: what came just before it has woken nobody.
    pub fn wait_in(&self, group: &WakeGroup, cx: &Context<'_>) {
        match &self.to {
            To::Connection { mailbox, slot, .. } => group.join(mailbox, *slot, cx.waker()),
            To::Stream(_) => group.join_by_waker(cx.waker()),
        }
    }

    /// Items sent so far, and their bytes.
    pub(crate) fn sent(&self) -> (usize, usize) {
        (self.count, self.sent - self.count * ITEM_COST)
    }

    /// Bytes sent, and whether there was no room for more.
    pub(super) fn outcome(&self) -> (usize, bool) {
        (self.sent, self.is_refused)
    }
}

impl fmt::Debug for Outlet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").field("credit", &self.credit()).finish_non_exhaustive()
    }
}

/// The items that answer a stream or channel: a [`Stream`] of them, or a [`Feed`].
pub struct ItemSource(pub(crate) Kind);

pub(crate) enum Kind {
    Stream(BoxStream<Result<Payload, Error>>),
    Feed(Box<dyn Feed>),
}

impl ItemSource {
    /// Items one after the other.
    pub fn stream(items: impl Stream<Item = Result<Payload, Error>> + Send + 'static) -> Self {
        Self(Kind::Stream(Box::pin(items)))
    }

    /// As many items as the stream takes.
    pub fn feed(feed: impl Feed) -> Self {
        Self(Kind::Feed(Box::new(feed)))
    }

    /// The same items one after the other, for who looks at each.
    pub fn into_stream(self) -> BoxStream<Result<Payload, Error>> {
        match self.0 {
            Kind::Stream(items) => items,
            Kind::Feed(feed) => Box::pin(Fed { feed: Some(feed) }),
        }
    }
}

impl fmt::Debug for ItemSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Stream(_) => "ItemSource::Stream",
            Kind::Feed(_) => "ItemSource::Feed",
        })
    }
}

/// A feed as a stream: it is asked for an item when that is polled for, and not before.
struct Fed {
    feed: Option<Box<dyn Feed>>,
}

impl Stream for Fed {
    type Item = Result<Payload, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(feed) = &mut self.feed else { return Poll::Ready(None) };
        let mut item = None;
        let outcome = feed.poll_fill(&mut Outlet::of_stream(&mut item), cx);
        match outcome {
            // How it ends is told when it is polled again.
            _ if item.is_some() => {
                if let Poll::Ready(end) = outcome {
                    self.feed = end.err().map(|error| Box::new(Ended(Some(error))) as Box<_>);
                }
                Poll::Ready(item.map(Ok))
            }
            Poll::Pending => Poll::Pending,
            Poll::Ready(end) => {
                self.feed = None;
                Poll::Ready(end.err().map(Err))
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.feed.is_some() { (0, None) } else { (0, Some(0)) }
    }
}

/// A feed that has failed.
struct Ended(Option<Error>);

impl Feed for Ended {
    fn poll_fill(&mut self, _: &mut Outlet<'_>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(self.0.take().map_or(Ok(()), Err))
    }
}
