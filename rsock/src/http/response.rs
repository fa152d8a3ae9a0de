//! The answers to HTTP clients, and how they are sent.

use std::{
    fmt, mem,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::Stream;
use hyper::{
    HeaderMap, Response, StatusCode,
    body::{Body, Frame, SizeHint},
    header::{
        CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, TRANSFER_ENCODING,
    },
};

use crate::{
    boxed::BoxStream, connection::guard, error::Error, http::watched::Answer, transport::websocket,
};

/// An answer to an HTTP request: its status, its headers, and its body, which is whole or a stream.
#[must_use]
pub struct HttpResponse {
    status: u16,
    headers: HeaderMap,
    body: Content,
    /// A header was set that cannot be sent.
    is_wrong: bool,
}

enum Content {
    Whole(Bytes),
    Stream(BoxStream<Result<Bytes, Error>>),
    /// A stream that has begun with this.
    Begun(Bytes, BoxStream<Result<Bytes, Error>>),
}

impl HttpResponse {
    /// An answer with a whole body. Statuses are 200 to 999; others are sent as 500.
    pub fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self::of(status, Content::Whole(body.into()))
    }

    /// An answer in plain text.
    pub fn text(status: u16, body: impl Into<Bytes>) -> Self {
        Self::new(status, body).header("content-type", "text/plain; charset=utf-8")
    }

    /// An answer whose body is a stream. It is polled only while the socket takes what it yields: a
    /// client that reads nothing is given some 200 KiB, most of which lies with the system, and an item.
    /// It is dropped when the client goes. One that fails when it is first polled is answered with a 500, as is
    /// any that fails before its first item to a client of HTTP/1.0, who would take it for an empty one;
    /// after a later error the connection is broken off, so that the client sees that the body is not
    /// whole.
    pub fn stream<S>(status: u16, body: S) -> Self
    where
        S: Stream<Item = Result<Bytes, Error>> + Send + 'static,
    {
        Self::of(status, Content::Stream(Box::pin(body)))
    }

    fn of(status: u16, body: Content) -> Self {
        Self { status, headers: HeaderMap::new(), body, is_wrong: false }
    }

    /// Sets a header, and replaces those of its name. One that cannot be sent makes the answer a 500.
    pub fn header<N, V>(mut self, name: N, value: V) -> Self
    where
        N: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
    {
        match (name.try_into(), value.try_into()) {
            (Ok(name), Ok(value)) => drop(self.headers.insert(name, value)),
            _ => self.is_wrong = true,
        }
        self
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The headers, to be changed: several of one name, for example.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    /// The body, if it is whole.
    pub fn body(&self) -> Option<&Bytes> {
        match &self.body {
            Content::Whole(body) => Some(body),
            Content::Stream(_) | Content::Begun(..) => None,
        }
    }

    /// An answer of which the client is told nothing but that it failed.
    pub(super) fn failed() -> Self {
        Self::text(500, "The server failed to answer this request.\n")
    }

    /// Polls a streamed body before anything is sent, so that one which fails at once is not answered with
    /// its status and a body that breaks off. Pending if it has nothing yet.
    pub(super) fn poll_begin(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Content::Stream(stream) = &mut self.body else { return Poll::Ready(()) };
        let first = match guard(|| stream.as_mut().poll_next(cx)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(first)) => first.transpose(),
            Err(panicked) => Err(panicked),
        };
        match (first, mem::replace(&mut self.body, Content::Whole(Bytes::new()))) {
            (Ok(Some(first)), Content::Stream(rest)) => self.body = Content::Begun(first, rest),
            (Ok(_), _) => {}
            (Err(_), _) => *self = Self::failed(),
        }
        Poll::Ready(())
    }

    /// The answer as it is sent.
    pub(super) fn send(mut self, answer: Answer, closes: bool) -> Response<Sending> {
        if self.is_wrong {
            self = Self::text(500, "The answer has a header that cannot be sent.\n");
        }
        if closes && self.body().is_none() {
            answer.refused();
            self = Self::text(503, FULL).header("retry-after", "5");
        }
        let status = StatusCode::from_u16(self.status)
            .ok()
            .filter(|status| !status.is_informational())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let Self { mut headers, body, .. } = self;
        // They say how the body lies on the connection, which is not the handler's to say.
        headers.remove(TRANSFER_ENCODING);
        if matches!(body, Content::Whole(_)) {
            headers.remove(CONTENT_LENGTH);
        }
        if status == StatusCode::UPGRADE_REQUIRED {
            websocket::name_upgrade(&mut headers);
        }
        if closes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let sending = Sending { body, state: State::Unpolled, _answer: Some(answer) };
        let mut response = Response::new(sending);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

const FULL: &str = "full: as many HTTP connections are open as may be (max_http_connections), and none \
                    of them is idle; try again later\n";

impl<E: Into<Self>> From<Result<Self, E>> for HttpResponse {
    fn from(outcome: Result<Self, E>) -> Self {
        outcome.unwrap_or_else(Into::into)
    }
}

impl fmt::Debug for HttpResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let media_type = self.headers.get(CONTENT_TYPE);
        f.debug_struct("HttpResponse")
            .field("status", &self.status)
            .field("content_type", &media_type)
            .finish_non_exhaustive()
    }
}

/// A body that is being sent. The answer is over when hyper drops it.
pub(super) struct Sending {
    body: Content,
    state: State,
    /// None of a 101.
    _answer: Option<Answer>,
}

/// The point that a body has come to.
enum State {
    /// It was not polled.
    Unpolled,
    /// Its head has left, or is about to.
    Polled,
    /// It has failed before its head could leave.
    Failed(Error),
}

impl Sending {
    pub(super) fn nothing() -> Self {
        Self { body: Content::Whole(Bytes::new()), state: State::Unpolled, _answer: None }
    }
}

impl Body for Sending {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let state = mem::replace(&mut self.state, State::Polled);
        if let State::Failed(error) = state {
            return Poll::Ready(Some(Err(error)));
        }
        let item = match &mut self.body {
            Content::Whole(body) if body.is_empty() => None,
            Content::Whole(body) => Some(Ok(mem::take(body))),
            content @ Content::Begun(..) => {
                let begun = mem::replace(content, Content::Whole(Bytes::new()));
                let Content::Begun(first, rest) = begun else { return Poll::Ready(None) };
                *content = Content::Stream(rest);
                Some(Ok(first))
            }
            Content::Stream(stream) => match guard(|| stream.as_mut().poll_next(cx)) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(item)) => item,
                Err(panicked) => Some(Err(panicked)),
            },
        };
        if let (Some(Err(error)), State::Unpolled) = (&item, state) {
            // hyper closes the connection at once, without the head that it holds; a poll later it has
            // sent that, and the client sees that something was to come.
            self.state = State::Failed(error.clone());
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(item.map(|item| item.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.body, Content::Whole(body) if body.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Content::Whole(body) => SizeHint::with_exact(body.len() as u64),
            Content::Stream(_) | Content::Begun(..) => SizeHint::default(),
        }
    }
}
