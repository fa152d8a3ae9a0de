//! The answers to HTTP clients, and how they are sent.

use std::{
    fmt,
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
    /// It is dropped when the client goes. After an error of it the connection is broken off, so that
    /// the client sees that the body is not whole.
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
            Content::Stream(_) => None,
        }
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
        let mut response = Response::new(Sending { body, _answer: Some(answer) });
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
    /// None of a 101.
    _answer: Option<Answer>,
}

impl Sending {
    pub(super) fn nothing() -> Self {
        Self { body: Content::Whole(Bytes::new()), _answer: None }
    }
}

impl Body for Sending {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let item = match &mut self.body {
            Content::Whole(body) if body.is_empty() => None,
            Content::Whole(body) => Some(Ok(std::mem::take(body))),
            Content::Stream(stream) => match guard(|| stream.as_mut().poll_next(cx)) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(item)) => item,
                Err(panicked) => Some(Err(panicked)),
            },
        };
        Poll::Ready(item.map(|item| item.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.body, Content::Whole(body) if body.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Content::Whole(body) => SizeHint::with_exact(body.len() as u64),
            Content::Stream(_) => SizeHint::default(),
        }
    }
}
