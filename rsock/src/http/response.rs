//! The answers to HTTP clients, and how they are sent.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::Stream;
use hyper::{
    HeaderMap, Response, StatusCode,
    body::{Body, Frame, SizeHint},
    header::{
        CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, TRANSFER_ENCODING,
        UPGRADE,
    },
};

use crate::{
    boxed::BoxStream,
    connection::guard,
    error::Error,
    http::{HttpRequest, WebSocket, WebSocketOptions, watched::Answer, websocket::Opening},
    memory::{BlockCharge, MemoryBudget},
    transport::websocket,
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
    /// None, but a WebSocket.
    WebSocket(Box<Opening>),
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

    /// An answer that opens a WebSocket, and has this serve it: text and bytes, without RSocket. A request that asks
    /// for none, or not by the rules, is answered with what is wrong.
    ///
    /// The future runs in the task of the connection, which keeps its place among the
    /// [HTTP connections](crate::HttpLimits::max_connections) for as long; where there is none left, the client
    /// gets 503. Its end closes the WebSocket, with 1000 unless it says otherwise; a panic, with 1011. When the
    /// WebSocket has ended it may go on for five seconds.
    ///
    /// ```
    /// # use rsock::*;
    /// async fn handle(request: HttpRequest) -> HttpResponse {
    ///     if request.path() != "/shout" {
    ///         return HttpResponse::text(404, "Not found.\n");
    ///     }
    ///     let options = WebSocketOptions::default().max_message_bytes(1_024);
    ///     HttpResponse::websocket(&request, options, |mut socket| async move {
    ///         while let Some(message) = socket.receive().await {
    ///             let Some(text) = message.as_text() else {
    ///                 return socket.close(1003, "text, please");
    ///             };
    ///             // Nothing is read until the answer has left, but for 16 KiB.
    ///             if socket.send(text.to_uppercase()).await.is_err() {
    ///                 return;
    ///             }
    ///         }
    ///     })
    /// }
    /// # async fn run(app: Router<()>) -> Result<(), Error> {
    /// Server::builder().http(handle).bind(&["ws://127.0.0.1:7879/rsocket"]).await?.serve(app).await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A handler is asked for WebSockets on all paths but that of RSocket, if they come by GET. If it answers a
    /// request for one with 404, or as if it were none, the client is told at what path RSocket's is.
    pub fn websocket<H, Fut>(request: &HttpRequest, options: WebSocketOptions, serve: H) -> Self
    where
        H: FnOnce(WebSocket) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        if !request.asks_for_websocket() {
            let text = "This is the path of a WebSocket: connect with a WebSocket client.\n";
            return Self::text(426, text);
        }
        match request.open_websocket(options.known_subprotocols()) {
            Ok(response) => {
                let opening = Opening::new(response, options, serve);
                Self::of(101, Content::WebSocket(Box::new(opening)))
            }
            Err((status, text)) => Self::text(status.as_u16(), text),
        }
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
            Content::Stream(_) | Content::Begun(..) | Content::WebSocket(_) => None,
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

    /// Whether it opens a WebSocket.
    pub(super) fn opens_websocket(&self) -> bool {
        matches!(self.body, Content::WebSocket(_))
    }

    /// The WebSocket that it opens, with its headers; the answer is of no more use then.
    pub(super) fn take_opening(&mut self) -> Option<Box<Opening>> {
        if self.is_wrong || !self.opens_websocket() {
            return None;
        }
        let body = mem::replace(&mut self.body, Content::Whole(Bytes::new()));
        let Content::WebSocket(mut opening) = body else { return None };
        // Those of the handshake are not the handler's to say.
        for (name, value) in self.headers.iter().filter(|(name, _)| !is_of_handshake(name)) {
            opening.response.headers_mut().append(name, value.clone());
        }
        Some(opening)
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
        if let Content::Whole(body) = &mut self.body {
            match counted(mem::take(body), answer.memory()) {
                Some(counted) => *body = counted,
                None => {
                    answer.refused();
                    self = Self::text(503, NO_MEMORY).header("retry-after", "5");
                }
            }
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
        let sending = Sending { body, state: State::Unpolled, answer: Some(answer) };
        let mut response = Response::new(sending);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

/// Whether a header belongs to the handshake, or says how a body lies on the connection.
fn is_of_handshake(name: &HeaderName) -> bool {
    [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE].contains(name)
        || name.as_str().starts_with("sec-websocket-")
}

const NO_MEMORY: &str = "there is no memory for the answer now: try again later\n";
/// Bytes of an answer's body, or of a part of it, from which on it is counted until the socket has taken it.
const COUNTED_BYTES: usize = 16 << 10;

/// The same bytes, counted for as long as anybody holds them, if they are many; none where there is no memory for
/// so many.
fn counted(bytes: Bytes, memory: &Arc<MemoryBudget>) -> Option<Bytes> {
    if bytes.len() < COUNTED_BYTES {
        return Some(bytes);
    }
    let charge =
        (bytes.len() <= memory.allowance()).then(|| BlockCharge::new(bytes.len(), memory))?;
    Some(Bytes::from_owner(Counted { bytes, _charge: charge }))
}

struct Counted {
    bytes: Bytes,
    _charge: Arc<BlockCharge>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
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
    answer: Option<Answer>,
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
        Self { body: Content::Whole(Bytes::new()), state: State::Unpolled, answer: None }
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
            // It is no body.
            Content::WebSocket(_) => None,
            Content::Stream(stream) => match guard(|| stream.as_mut().poll_next(cx)) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(item)) => item,
                Err(panicked) => Some(Err(panicked)),
            },
        };
        // A whole body is counted already.
        let answer = self.answer.as_ref().filter(|_| matches!(self.body, Content::Stream(_)));
        let item = match (item, answer) {
            (Some(Ok(part)), Some(answer)) => {
                let part = counted(part, answer.memory());
                Some(part.ok_or_else(|| Error::rejected(NO_MEMORY.trim_end())))
            }
            (item, _) => item,
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
        match &self.body {
            Content::Whole(body) => body.is_empty(),
            Content::WebSocket(_) => true,
            Content::Stream(_) | Content::Begun(..) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Content::Whole(body) => SizeHint::with_exact(body.len() as u64),
            Content::Stream(_) | Content::Begun(..) => SizeHint::default(),
            Content::WebSocket(_) => SizeHint::with_exact(0),
        }
    }
}
