//! Consumers for whom only the newest item counts.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use rsock_proto::Payload;

use crate::error::Error;

/// The items of a stream of which only the newest counts: those that are there before it are passed over.
/// Made by [`RequestStream::newest`](crate::RequestStream::newest).
#[must_use = "a request is sent when its stream is polled"]
#[derive(Debug)]
pub struct Newest<S> {
    items: S,
    /// How it ended, behind an item that was given first.
    end: Option<Option<Error>>,
}

impl<S> Newest<S> {
    pub(crate) fn of(items: S) -> Self {
        Self { items, end: None }
    }
}

impl<S: Stream<Item = Result<Payload, Error>> + Unpin> Stream for Newest<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(end) = &mut self.end {
            return Poll::Ready(end.take().map(Err));
        }
        let mut newest = None;
        loop {
            match Pin::new(&mut self.items).poll_next(cx) {
                Poll::Ready(Some(Ok(item))) => newest = Some(item),
                Poll::Ready(end) => {
                    let error = end.and_then(Result::err);
                    return Poll::Ready(match newest {
                        Some(item) => {
                            self.end = Some(error);
                            Some(Ok(item))
                        }
                        None => error.map(Err),
                    });
                }
                Poll::Pending => {
                    return newest.map_or(Poll::Pending, |item| Poll::Ready(Some(Ok(item))));
                }
            }
        }
    }
}
