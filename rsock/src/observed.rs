//! Responders whose requests are observed.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    thread,
};

use bytes::Bytes;
use futures_core::Stream;
use pin_project_lite::pin_project;
use rsock_proto::{Interaction, Payload, Side};

use crate::{
    boxed::BoxFuture,
    connection::{
        feed::{Feed, ItemSource, Kind, Outlet},
        guard,
        handle::{Asked, Handle},
        inflow::Inflow,
        panicked,
        work::{Answer, Work, work},
    },
    error::Error,
    observe::{Counted, Observer, Outcome, Tally},
    peer::{Identity, Peer},
    request::Request,
    responder::{Responder, served},
    streams::Payloads,
};

/// A responder as a driver holds it, whose requests are observed if those of its connection are.
pub(crate) fn observed<R: Responder>(responder: Arc<R>, peer: Peer) -> Arc<dyn Handle> {
    if peer.requester().mailbox().observer().is_none() {
        return served(responder, peer);
    }
    Arc::new(Observed { responder, peer })
}

/// A responder whose requests are observed, and the peer it serves.
struct Observed<R> {
    responder: Arc<R>,
    peer: Peer,
}

impl<R: Responder> Observed<R> {
    fn parts(&self) -> (Arc<R>, Peer) {
        (Arc::clone(&self.responder), self.peer.clone())
    }
}

impl<R: Responder> Handle for Observed<R> {
    fn fire_and_forget(&self, payload: Payload) -> Work {
        let (responder, peer) = self.parts();
        work(move || {
            let request = Request::new(payload, peer);
            once(request, Some(Interaction::FireAndForget), async |request| {
                responder.fire_and_forget(request).await;
                Ok(None)
            })
        })
    }

    fn request_response(&self, payload: Payload) -> Work {
        let (responder, peer) = self.parts();
        work(move || {
            let request = Request::new(payload, peer);
            once(request, Some(Interaction::RequestResponse), |request| {
                responder.request_response_optional(request)
            })
        })
    }

    fn request_stream(&self, payload: Payload, asked: Asked) -> ItemSource {
        let (responder, peer) = self.parts();
        stream_items(responder, Request::of_items(payload, peer, asked))
    }

    fn request_channel(&self, first: Payload, rest: Inflow, asked: Asked) -> ItemSource {
        let (responder, peer) = self.parts();
        channel_items(responder, Request::of_items(first, peer, asked), Payloads::new(rest))
    }

    fn metadata_push(&self, metadata: Bytes) -> BoxFuture<()> {
        let (responder, peer) = self.parts();
        let payload = Payload { metadata: Some(metadata), ..Payload::default() };
        Box::pin(async move {
            let answer = once(Request::new(payload, peer), None, async |request| {
                responder.metadata_push(request).await;
                Ok(None)
            });
            // There is none.
            let _ = answer.await;
        })
    }
}

/// The items of a request-stream, observed.
pub(crate) fn stream_items<R: Responder>(responder: Arc<R>, request: Request) -> ItemSource {
    let mut guard = Guard::begin(&request, Some(Interaction::RequestStream));
    guard.is_polled = true;
    let items = responder.stream_items(request);
    guard.is_polled = false;
    counted(items, guard)
}

/// The items of a channel, observed.
pub(crate) fn channel_items<R: Responder>(
    responder: Arc<R>,
    first: Request,
    rest: Payloads,
) -> ItemSource {
    let mut guard = Guard::begin(&first, Some(Interaction::RequestChannel));
    let counter = guard.request.as_mut().map(Counted::counter);
    guard.is_polled = true;
    let items = responder.channel_items(first, rest.counted_by(counter));
    guard.is_polled = false;
    counted(items, guard)
}

/// Has a handler answer once.
pub(crate) async fn once<F: Future<Output = Answer>>(
    request: Request,
    interaction: Option<Interaction>,
    answer: impl FnOnce(Request) -> F,
) -> Answer {
    let mut guard = Guard::begin(&request, interaction);
    let answer = answer(request).await;
    if let Some(mut request) = guard.request.take() {
        if let Ok(Some(payload)) = &answer {
            request.answer(payload);
        }
        request.end_of(&answer);
    }
    answer
}

/// The items of a handler, counted, and how they end.
fn counted(items: ItemSource, guard: Guard) -> ItemSource {
    match items.0 {
        // What is not watched is as if nobody observed.
        _ if !guard.is_open() => items,
        Kind::Stream(items) => ItemSource::stream(Items { items, guard }),
        // It shares items with others, and is woken with them.
        Kind::Feed(feed) => ItemSource::feed(CountedFeed { feed, guard }),
    }
}

struct CountedFeed {
    feed: Box<dyn Feed>,
    guard: Guard,
}

impl Feed for CountedFeed {
    fn poll_fill(&mut self, out: &mut Outlet<'_>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let (items_before, bytes_before) = out.sent();
        self.guard.is_polled = true;
        let filled = self.feed.poll_fill(out, cx);
        self.guard.is_polled = false;
        let (items, bytes) = out.sent();
        let (payloads, bytes) = ((items - items_before) as u64, (bytes - bytes_before) as u64);
        self.guard.items(Tally { payloads, bytes });
        if let Poll::Ready(end) = &filled {
            self.guard.end(Outcome::of(end));
        }
        filled
    }

    fn is_endless(&self) -> bool {
        self.feed.is_endless()
    }
}

pin_project! {
    /// The items of a handler, counted, and how they end.
    struct Items<S>
    where
        S: Stream<Item = Result<Payload, Error>>,
    {
        #[pin]
        items: S,
        guard: Guard,
    }

    impl<S> PinnedDrop for Items<S>
    where
        S: Stream<Item = Result<Payload, Error>>,
    {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            // It was told, and not polled, that it has none left.
            if this.guard.is_open() && !this.guard.is_polled {
                let hint = guard(|| this.items.size_hint());
                if matches!(hint, Ok((0, Some(0)))) {
                    this.guard.end(Outcome::Completed);
                }
            }
        }
    }
}

impl<S: Stream<Item = Result<Payload, Error>>> Stream for Items<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let this = self.project();
        this.guard.is_polled = true;
        let item = this.items.poll_next(cx);
        this.guard.is_polled = false;
        let item = ready!(item);
        match &item {
            Some(Ok(payload)) => this.guard.item(payload),
            Some(Err(error)) => this.guard.end(Outcome::Failed(error)),
            None => this.guard.end(Outcome::Completed),
        }
        Poll::Ready(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.items.size_hint()
    }
}

/// An observed request, which ends at the latest when it is dropped.
struct Guard {
    request: Option<Counted>,
    peer: Peer,
    /// Its handler is being polled: if it is dropped like this, that has panicked.
    is_polled: bool,
}

impl Guard {
    fn begin(request: &Request, interaction: Option<Interaction>) -> Self {
        let peer = request.peer().clone();
        let observer = peer.requester().mailbox().observer();
        let payload = request.payload();
        let identity = request.identity().map(Identity::name);
        let watch = observer.and_then(|of| of.begin(Side::Peer, interaction, payload, identity));
        let request = watch.map(|watch| Counted::new(watch, Side::Peer, payload));
        Self { request, peer, is_polled: false }
    }

    fn is_open(&self) -> bool {
        self.request.is_some()
    }

    fn item(&mut self, payload: &Payload) {
        if let Some(request) = &mut self.request {
            request.item(payload);
        }
    }

    fn items(&mut self, tally: Tally) {
        if let Some(request) = &mut self.request {
            request.items(tally);
        }
    }

    fn end(&mut self, outcome: Outcome<'_>) {
        if let Some(request) = self.request.take() {
            request.end(outcome);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.is_open() {
            return;
        }
        let mailbox = self.peer.requester().mailbox();
        if self.is_polled || thread::panicking() {
            self.end(Outcome::Failed(&panicked()));
        } else if mailbox.is_closed() || mailbox.observer().is_some_and(Observer::is_ending) {
            self.end(Outcome::Lost);
        } else {
            self.end(Outcome::Cancelled);
        }
    }
}
