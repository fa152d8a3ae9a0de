//! Responders, which answer requests.

use std::{future::Future, pin::Pin, sync::Arc, task};

use bytes::Bytes;
use futures_core::Stream;
use rsock_proto::Payload;

use crate::{
    boxed::BoxFuture,
    connection::{
        feed::ItemSource,
        handle::{Asked, Handle},
        inflow::Inflow,
        work::{Work, work},
    },
    error::Error,
    peer::Peer,
    request::Request,
    streams::Payloads,
};

/// A service for a connection: implement what you serve, the rest is rejected.
///
/// Handlers are polled by the connection's own task. That makes them cheap, and it means that one
/// that computes for long or blocks holds up its connection: give such work to
/// [`spawned`](crate::spawned) or `tokio::spawn`. A handler that panics costs its stream alone.
///
/// A handler is dropped when the peer cancels or the connection ends. A stream is polled only when
/// the peer has asked for an item and the socket can take it. To learn that it has ended without
/// an item more, it is also polled once beyond that, unless its `size_hint` answers the question:
/// a lower bound above 0 says another item is sure to come, an upper bound of 0 that none will.
pub trait Responder: Send + Sync + 'static {
    /// Takes a request that has no answer. Whatever happens here, nothing is sent (FNF-01).
    fn fire_and_forget(self: Arc<Self>, request: Request) -> impl Future<Output = ()> + Send {
        drop(request);
        async {}
    }

    /// Answers a request.
    fn request_response(
        self: Arc<Self>,
        request: Request,
    ) -> impl Future<Output = Result<Payload, Error>> + Send {
        drop(request);
        async { Err(unserved("request-response")) }
    }

    /// Answers a request, or completes without a payload, which is not the same as an empty one
    /// (RR-02). Implemented by [`request_response`](Self::request_response); implement it instead
    /// where an answer may be nothing.
    fn request_response_optional(
        self: Arc<Self>,
        request: Request,
    ) -> impl Future<Output = Result<Option<Payload>, Error>> + Send {
        let answer = self.request_response(request);
        async { answer.await.map(Some) }
    }

    /// Answers a request with items, each sent only when asked for (RS-02).
    fn request_stream(
        self: Arc<Self>,
        request: Request,
    ) -> impl Stream<Item = Result<Payload, Error>> + Send {
        drop(request);
        Failed::new(unserved("request-stream"))
    }

    /// Answers a channel: `first` came with the request, polling `rest` is what grants credit for more.
    fn request_channel(
        self: Arc<Self>,
        first: Request,
        rest: Payloads,
    ) -> impl Stream<Item = Result<Payload, Error>> + Send {
        drop((first, rest));
        Failed::new(unserved("request-channel"))
    }

    /// Answers a request with items, from a stream or a [`Feed`](crate::Feed). Implemented by
    /// [`request_stream`](Self::request_stream); implement both where a feed answers, the one by way of
    /// [`ItemSource::into_stream`] of the other: who looks at each item asks for a stream.
    fn stream_items(self: Arc<Self>, request: Request) -> ItemSource {
        ItemSource::stream(self.request_stream(request))
    }

    /// Answers a channel, from a stream or a [`Feed`](crate::Feed): as
    /// [`stream_items`](Self::stream_items) beside [`request_channel`](Self::request_channel).
    fn channel_items(self: Arc<Self>, first: Request, rest: Payloads) -> ItemSource {
        ItemSource::stream(self.request_channel(first, rest))
    }

    /// Takes metadata that the peer pushes (MDP-02): a request without data, which has no answer. As of any
    /// request, its [metadata](Request::metadata) may name a route or bring credentials.
    fn metadata_push(self: Arc<Self>, push: Request) -> impl Future<Output = ()> + Send {
        drop(push);
        async {}
    }
}

fn unserved(interaction: &str) -> Error {
    Error::rejected(format_args!("nothing here answers {interaction}"))
}

/// Serves nothing: every request is rejected.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rejecting;

impl Responder for Rejecting {}

/// A stream that fails at once.
#[derive(Debug)]
pub struct Failed(Option<Error>);

impl Failed {
    /// Fails with this error.
    pub fn new(error: Error) -> Self {
        Self(Some(error))
    }
}

impl Stream for Failed {
    type Item = Result<Payload, Error>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut task::Context<'_>,
    ) -> task::Poll<Option<Self::Item>> {
        task::Poll::Ready(self.0.take().map(Err))
    }
}

/// A responder, and the peer it serves.
struct Served<R> {
    responder: Arc<R>,
    peer: Peer,
}

/// A responder as a driver holds it.
pub(crate) fn served<R: Responder>(responder: Arc<R>, peer: Peer) -> Arc<dyn Handle> {
    Arc::new(Served { responder, peer })
}

impl<R: Responder> Served<R> {
    #[inline]
    fn parts(&self) -> (Arc<R>, Peer) {
        (Arc::clone(&self.responder), self.peer.clone())
    }
}

impl<R: Responder> Handle for Served<R> {
    fn fire_and_forget(&self, payload: Payload) -> Work {
        let (responder, peer) = self.parts();
        work(move || responder.fire_and_forget(Request::new(payload, peer)))
    }

    fn request_response(&self, payload: Payload) -> Work {
        let (responder, peer) = self.parts();
        work(move || responder.request_response_optional(Request::new(payload, peer)))
    }

    fn request_stream(&self, payload: Payload, asked: Asked) -> ItemSource {
        let (responder, peer) = self.parts();
        responder.stream_items(Request::of_items(payload, peer, asked))
    }

    fn request_channel(&self, first: Payload, rest: Inflow, asked: Asked) -> ItemSource {
        let (responder, peer) = self.parts();
        let first = Request::of_items(first, peer, asked);
        responder.channel_items(first, Payloads::new(rest))
    }

    fn metadata_push(&self, metadata: Bytes) -> BoxFuture<()> {
        let (responder, peer) = self.parts();
        let payload = Payload { metadata: Some(metadata), ..Payload::default() };
        Box::pin(responder.metadata_push(Request::new(payload, peer)))
    }
}
