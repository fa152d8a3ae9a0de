//! Plain WebSockets: what an HTTP handler may answer with, for those who speak no RSocket.

mod drive;
mod link;

use std::{
    error, fmt,
    future::{Future, poll_fn},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::{Response, header::HeaderValue};

use link::Link;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    boxed::BoxFuture,
    http::{Front, HttpRequest},
    memory::Account,
    meter::Meter,
};

/// A WebSocket that an [`HttpHandler`](crate::HttpHandler) has answered a request with
/// ([`HttpResponse::websocket`](crate::HttpResponse::websocket)): whole messages of text and of bytes, in both
/// directions.
///
/// It is as slow as its slower end. At most one message is read ahead of [`receive`](Self::receive), so that a
/// handler which does not receive holds back the peer; [`send`](Self::send) waits while more than 16 KiB wait for
/// the socket, so that a peer which does not read holds back the handler. Pings are answered, and sent where
/// there is silence.
pub struct WebSocket {
    link: Arc<Link>,
}

impl WebSocket {
    /// The next message; none when the WebSocket has ended, of which [`end`](Self::end) tells. What has come
    /// before the end is given out before. Nothing is lost where this is dropped.
    pub async fn receive(&mut self) -> Option<WebSocketMessage> {
        poll_fn(|cx| self.poll_receive(cx)).await
    }

    /// The same, for those who poll.
    pub fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Option<WebSocketMessage>> {
        self.link.poll_receive(cx)
    }

    /// Sends a message, when there is room: when the socket has taken what was sent before, but for 16 KiB.
    ///
    /// # Errors
    /// How the WebSocket has ended: it is not sent.
    pub async fn send(&mut self, message: impl Into<WebSocketMessage>) -> Result<(), WebSocketEnd> {
        poll_fn(|cx| self.poll_ready(cx)).await?;
        self.start_send(message)
    }

    /// Ready when there is room for a message.
    ///
    /// # Errors
    /// How the WebSocket has ended.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WebSocketEnd>> {
        self.link.poll_ready(cx)
    }

    /// Sends a message although there may be no room: whoever does so without
    /// [`poll_ready`](Self::poll_ready) makes the server hold it.
    ///
    /// # Errors
    /// How the WebSocket has ended: it is not sent.
    pub fn start_send(&mut self, message: impl Into<WebSocketMessage>) -> Result<(), WebSocketEnd> {
        self.link.start_send(&message.into())
    }

    /// Resolves when all that was sent has been taken by the socket, or the WebSocket has ended.
    pub async fn flushed(&mut self) {
        poll_fn(|cx| self.poll_flushed(cx)).await;
    }

    /// Ready when all that was sent has been taken by the socket, or the WebSocket has ended.
    pub fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.link.poll_flushed(cx)
    }

    /// Closes it with this code and reason, behind what was sent: nothing is received any more. 1000 is the
    /// end of a conversation; 4000 to 4999 are for whoever serves to give a meaning to; others than a close frame may
    /// have are sent as 1011. A reason is cut at 123 bytes.
    ///
    /// Without this, it is closed with 1000 when the handler's future ends.
    pub fn close(&mut self, code: u16, reason: &str) {
        self.link.close(code, reason);
    }

    /// Counts so many bytes in the memory of the server, in the place of those that were told before: for what a
    /// handler keeps of what has come. Whether that is within the share of one connection: otherwise no more should be
    /// taken.
    pub fn holds(&mut self, bytes: usize) -> bool {
        self.link.holds(bytes)
    }

    /// How it has ended, if it has.
    pub fn end(&self) -> Option<WebSocketEnd> {
        self.link.end()
    }

    /// Ready with the end of the WebSocket, whether or not all that came before it was received.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<WebSocketEnd> {
        self.link.poll_end(cx)
    }

    /// Resolves when the server shuts down and this WebSocket is to end, with the time until it is broken off: for
    /// those who [heed](WebSocketOptions::heeds_drain) it. Others are closed.
    pub async fn draining(&mut self) -> Duration {
        poll_fn(|cx| self.poll_draining(cx)).await
    }

    /// The same, for those who poll.
    pub fn poll_draining(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        self.link.poll_draining(cx)
    }
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket").field("end", &self.end()).finish_non_exhaustive()
    }
}

/// A message of a [`WebSocket`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebSocketMessage {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Bytes),
}

impl WebSocketMessage {
    /// The text, if it is text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// The bytes, of text in UTF-8.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}

impl From<String> for WebSocketMessage {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for WebSocketMessage {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Bytes> for WebSocketMessage {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}

impl From<Vec<u8>> for WebSocketMessage {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes.into())
    }
}

/// The way in which a [`WebSocket`] has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WebSocketEnd {
    /// The peer has closed it.
    Peer {
        /// Its code, if it gave one.
        code: Option<u16>,
        /// Its reason, which may be empty.
        reason: String,
    },
    /// It was closed here: by the handler, or by a limit.
    Here {
        /// The code.
        code: u16,
        /// The reason, which may be empty.
        reason: String,
    },
    /// The connection was lost, or the peer took nothing or did not answer for too long.
    Lost,
}

impl fmt::Display for WebSocketEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (who, code, reason) = match self {
            Self::Peer { code, reason } => ("the peer", *code, reason),
            Self::Here { code, reason } => ("this side", Some(*code), reason),
            Self::Lost => return f.write_str("the connection was lost"),
        };
        write!(f, "{who} closed the WebSocket")?;
        if let Some(code) = code {
            write!(f, " with {code}")?;
        }
        if reason.is_empty() { Ok(()) } else { write!(f, ": {}", rsock_proto::Printable(reason)) }
    }
}

impl error::Error for WebSocketEnd {}

/// The bounds of a [`WebSocket`].
#[derive(Clone, Debug)]
pub struct WebSocketOptions {
    max_message_bytes: usize,
    subprotocols: Vec<HeaderValue>,
    ping_interval: Duration,
    pong_timeout: Duration,
    idle_timeout: Option<Duration>,
    heeds_drain: bool,
}

impl Default for WebSocketOptions {
    fn default() -> Self {
        Self {
            max_message_bytes: 64 << 10,
            subprotocols: Vec::new(),
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(25),
            idle_timeout: None,
            heeds_drain: false,
        }
    }
}

impl WebSocketOptions {
    /// The most bytes of a message, also of one in fragments. A longer one ends the WebSocket with 1009 when its
    /// length is known, before it is read. Default 64 KiB.
    #[must_use]
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// The subprotocols that are spoken here: of those that a client offers, the first that is among these is
    /// selected ([`selected_by`](Self::selected_by)). One that is not a token is left out. None are by default: a client
    /// that offers some is taken without one, and browsers close then.
    #[must_use]
    pub fn subprotocols<S: AsRef<str>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        let values = names.into_iter().filter_map(|name| name.as_ref().parse().ok());
        self.subprotocols = values.collect();
        self
    }

    /// The subprotocol that is selected for a request; none where it offers none of those that are spoken.
    pub fn selected_by(&self, request: &HttpRequest) -> Option<&str> {
        let selected = crate::transport::websocket::select(request.headers(), &self.subprotocols)?;
        selected.to_str().ok()
    }

    /// How long nothing may come of the peer before it is pinged. Default 25 s: below the minute after which
    /// most proxies take a connection for dead.
    #[must_use]
    pub fn ping_interval(mut self, interval: Duration) -> Self {
        self.ping_interval = interval;
        self
    }

    /// How long a ping may be without an answer, or anything else that comes, before the connection is taken
    /// for lost. The time counts only while the socket is read, and not while the
    /// peer takes nothing of what is to be written. Default 25 s.
    #[must_use]
    pub fn pong_timeout(mut self, limit: Duration) -> Self {
        self.pong_timeout = limit;
        self
    }

    /// How long no message may come before it is closed with 1000. None by default.
    #[must_use]
    pub fn idle_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = limit.into();
        self
    }

    /// Whether the handler itself ends the WebSocket when the server shuts down, of which
    /// [`WebSocket::draining`] tells it. By default it is closed with 1001, each at a time of its own within the
    /// [drain's spread](crate::ServerBuilder::drain_spread).
    #[must_use]
    pub fn heeds_drain(mut self, heeds: bool) -> Self {
        self.heeds_drain = heeds;
        self
    }

    pub(super) fn known_subprotocols(&self) -> &[HeaderValue] {
        &self.subprotocols
    }
}

/// The handler of a WebSocket, as an answer holds it until it is open.
pub(super) type Conversation = Box<dyn FnOnce(WebSocket) -> BoxFuture<()> + Send>;

/// A WebSocket that is to be opened.
pub(super) struct Opening {
    /// The 101.
    pub(super) response: Response<()>,
    pub(super) options: WebSocketOptions,
    pub(super) conversation: Conversation,
}

/// Has a handler serve a WebSocket, until that has ended. `leftover` is what came behind the request.
pub(super) async fn serve<IO>(front: &Front, io: IO, leftover: &[u8], opening: Opening)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    front.meter.plain_websocket_opened();
    let closed = Closed(&front.meter);
    let bounds = drive::Bounds {
        stall_timeout: front.limits.stall_timeout,
        meter: Arc::clone(&front.meter),
        account: Account::new(Arc::clone(&front.memory)),
        drain: front.drain,
        draining: front.draining.clone(),
        ending: front.ending.clone(),
    };
    let Opening { options, conversation, .. } = opening;
    drive::drive(io, leftover, options, conversation, bounds).await;
    drop(closed);
}

/// Counts the end of a WebSocket.
struct Closed<'a>(&'a Meter);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.0.plain_websocket_closed();
    }
}

impl Opening {
    pub(super) fn new<H, Fut>(response: Response<()>, options: WebSocketOptions, serve: H) -> Self
    where
        H: FnOnce(WebSocket) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let conversation: Conversation = Box::new(|socket| Box::pin(serve(socket)));
        Self { response, options, conversation }
    }
}

#[cfg(test)]
mod tests;
