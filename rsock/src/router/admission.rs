//! What becomes of a request before its route is looked up.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use rsock_proto::Payload;

use crate::{
    boxed::{BoxFuture, BoxStream},
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
