//! Admission: what becomes of a request before its route is looked up.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use rsock_proto::Payload;

use crate::{
    boxed::{BoxFuture, BoxStream},
    connection::feed::{Feed, ItemSource, Kind, Outlet},
    error::Error,
    peer::Identity,
};

/// Somebody is asked who sent a request.
pub(super) type Asking = BoxFuture<Result<Identity, Error>>;

/// The decision about a request before its route is looked up: see [`Router::admit`](crate::Router::admit).
pub enum Admission {
    /// It is served.
    Served,
    /// First somebody finds out who sent it. Then it has that identity, and is judged once more.
    Ask(BoxFuture<Result<Identity, Error>>),
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Served => "Served",
            Self::Ask(_) => "Ask",
        })
    }
}

/// A look at whether items may go on: before each time that more of them are asked for.
pub type ItemGuard = Box<dyn FnMut() -> Result<(), Error> + Send>;

/// Items that end when they may not go on.
pub(super) fn guarded(items: ItemSource, guard: Option<ItemGuard>) -> ItemSource {
    let Some(guard) = guard else { return items };
    match items.0 {
        Kind::Stream(items) => ItemSource::stream(GuardedItems { guard, items: Some(items) }),
        Kind::Feed(feed) => ItemSource::feed(GuardedFeed { guard, feed }),
    }
}

struct GuardedItems {
    guard: ItemGuard,
    /// None when they have ended.
    items: Option<Items>,
}

impl Stream for GuardedItems {
    type Item = Result<Payload, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(items) = &mut this.items else { return Poll::Ready(None) };
        if let Err(error) = (this.guard)() {
            this.items = None;
            return Poll::Ready(Some(Err(error)));
        }
        items.as_mut().poll_next(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.items.as_ref().map_or((0, Some(0)), |items| items.size_hint())
    }
}

struct GuardedFeed {
    guard: ItemGuard,
    feed: Box<dyn Feed>,
}

impl Feed for GuardedFeed {
    fn poll_fill(&mut self, out: &mut Outlet<'_>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match (self.guard)() {
            Ok(()) => self.feed.poll_fill(out, cx),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn is_endless(&self) -> bool {
        self.feed.is_endless()
    }
}

type Items = BoxStream<Result<Payload, Error>>;

/// The items of an answer that is still to come.
pub(super) enum Opening {
    Waiting(BoxFuture<Result<Items, Error>>),
    Open(Items),
    Over,
}

impl Opening {
    pub(super) fn new(items: BoxFuture<Result<Items, Error>>) -> Self {
        Self::Waiting(items)
    }
}

impl Stream for Opening {
    type Item = Result<Payload, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Self::Waiting(items) = &mut *self {
            let items = ready!(items.as_mut().poll(cx));
            *self = Self::Over;
            match items {
                Ok(items) => *self = Self::Open(items),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
        match &mut *self {
            Self::Open(items) => items.as_mut().poll_next(cx),
            Self::Waiting(_) | Self::Over => Poll::Ready(None),
        }
    }
}
