//! The body of a streamed answer: items, written as they are asked for.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use rsock::{BoxFuture, BoxStream, Error, HttpResponse, Payload};
use tokio::time::{Sleep, sleep};

use super::{
    Drain,
    format::{Encoder, Format, Of, Told},
    problem::Problem,
};
use crate::visitors::Visitor;

/// The longest that nothing is said: proxies close what is silent for a minute.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Bytes from which on no more items are put into one part of the body.
const PART: usize = 8 << 10;
/// Milliseconds after which a client whose connection is lost comes again: drawn, so that not all come at once.
const RETRY: std::ops::Range<u64> = 1_500..3_000;

impl Drain {
    /// Resolves when a stream without an end is to end, which is drawn for each.
    pub(super) async fn over(mut self) {
        if self.begins.wait_for(|begins| *begins).await.is_err() {
            // Nobody can begin it any more.
            std::future::pending().await
        }
        let spread = u64::try_from(self.spread.as_millis()).unwrap_or(u64::MAX);
        sleep(self.grace + Duration::from_millis(drawn(0..spread.max(1)))).await;
    }
}

/// A number of this range.
pub(crate) fn drawn(range: std::ops::Range<u64>) -> u64 {
    // Without random numbers all are the same, which does no harm.
    let random = getrandom::u64().unwrap_or_default();
    range.start + random % (range.end - range.start).max(1)
}

/// The items of a stream as the body of an answer.
struct Body {
    source: Option<BoxStream<Result<Payload, Error>>>,
    /// That which was polled for already, to see whether it is refused.
    first: Option<Result<Payload, Error>>,
    encoder: Encoder,
    /// Items that are still to come.
    left: u64,
    has_begun: bool,
    heartbeat: Pin<Box<Sleep>>,
    drain: Option<BoxFuture<()>>,
    /// It broke off.
    failed: Option<Error>,
    /// For as long as it is sent.
    _visitor: Visitor,
}

/// The answer whose body these items are; a problem where they are refused at once.
pub(super) async fn answer(
    mut source: BoxStream<Result<Payload, Error>>,
    encoder: Encoder,
    take: Option<u64>,
    drain: &Drain,
    visitor: Visitor,
) -> Result<HttpResponse, Problem> {
    let first = std::future::poll_fn(|cx| match source.as_mut().poll_next(cx) {
        Poll::Ready(first) => Poll::Ready(Some(first)),
        Poll::Pending => Poll::Ready(None),
    })
    .await;
    let (source, first) = match first {
        Some(Some(Err(error))) => return Err(error.into()),
        Some(Some(item)) => (Some(source), Some(item)),
        Some(None) => (None, None),
        None => (Some(source), None),
    };
    // What may have an end has the time of the drain for it.
    let is_endless = encoder.format == Format::Events || encoder.of != Of::Route;
    let body = Body {
        source,
        first,
        encoder,
        left: take.unwrap_or(u64::MAX),
        has_begun: false,
        heartbeat: Box::pin(sleep(HEARTBEAT)),
        drain: is_endless.then(|| Box::pin(drain.clone().over()) as BoxFuture<()>),
        failed: None,
        _visitor: visitor,
    };
    Ok(marked(HttpResponse::stream(200, body), encoder.format))
}

/// The headers of such an answer: nobody on the way is to keep it, or to wait for more of it.
pub(super) fn marked(answer: HttpResponse, format: Format) -> HttpResponse {
    answer
        .header("content-type", format.mime())
        .header("cache-control", "no-store, no-transform")
        .header("content-encoding", "identity")
        .header("x-accel-buffering", "no")
}

impl Body {
    /// Writes the items there are, as far as a part of the body holds. Whether the stream is over.
    fn fill(&mut self, out: &mut BytesMut, cx: &mut Context<'_>) -> bool {
        if !std::mem::replace(&mut self.has_begun, true) {
            self.encoder.begin(drawn(RETRY), out);
        }
        while out.len() < PART {
            if self.left == 0 {
                self.encoder.complete(out);
                return true;
            }
            let item = match (self.first.take(), &mut self.source) {
                (Some(first), _) => Some(first),
                (None, None) => None,
                (None, Some(source)) => match source.as_mut().poll_next(cx) {
                    Poll::Ready(item) => item,
                    Poll::Pending => return false,
                },
            };
            match item.map(|item| item.and_then(|item| self.encoder.item(&item, out))) {
                Some(Ok(Told::Item)) => self.left -= 1,
                Some(Ok(Told::Beside)) => {}
                Some(Err(error)) => {
                    let problem = Problem::from(error.clone());
                    if !self.encoder.error(&problem, out) {
                        self.failed = Some(error);
                    }
                    return true;
                }
                None => {
                    self.encoder.complete(out);
                    return true;
                }
            }
        }
        false
    }
}

impl Stream for Body {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.source.is_none() && this.has_begun {
            return Poll::Ready(this.failed.take().map(Err));
        }
        let mut out = BytesMut::new();
        let mut is_over = this.fill(&mut out, cx);
        if !is_over
            && let Some(drain) = &mut this.drain
            && drain.as_mut().poll(cx).is_ready()
        {
            this.encoder.drain(&mut out);
            is_over = true;
        }
        if is_over {
            // Dropped at once: whoever makes the items need not wait until the socket has taken these.
            (this.source, this.first, this.drain) = (None, None, None);
        }
        if out.is_empty() && !is_over && this.heartbeat.as_mut().poll(cx).is_ready() {
            let has_one = this.encoder.heartbeat(&mut out);
            if !has_one {
                this.heartbeat.as_mut().reset(tokio::time::Instant::now() + HEARTBEAT);
                cx.waker().wake_by_ref();
            }
        }
        match (out.is_empty(), is_over) {
            (true, true) => Poll::Ready(this.failed.take().map(Err)),
            (true, false) => Poll::Pending,
            (false, _) => {
                this.heartbeat.as_mut().reset(tokio::time::Instant::now() + HEARTBEAT);
                Poll::Ready(Some(Ok(out.freeze())))
            }
        }
    }
}
