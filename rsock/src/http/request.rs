//! The requests of HTTP clients, and their bodies.

use std::{
    error, fmt,
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use hyper::{
    HeaderMap, Method, Request, Response, Uri,
    body::{Body, Incoming},
    header::HeaderValue,
    http::request::Parts,
};
use tokio::time::{Instant, Sleep, sleep_until};

#[cfg(feature = "tls")]
use crate::transport::tls::TlsInfo;
use crate::{
    http::{HttpLimits, HttpResponse, watched::Shared},
    memory::{Account, MemoryBudget},
    observe::Observe,
    peer::{Peer, next_id},
    transport::{
        socket::Ends,
        websocket::{self, HttpHead},
    },
};

/// The two ends of a connection, as far as they are known, and who observes what is asked by it.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) peer: Arc<str>,
    pub(crate) local: Option<SocketAddr>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Arc<TlsInfo>>,
    pub(crate) observe: Option<Arc<dyn Observe>>,
    /// The number of the connection, once a request needs it.
    pub(crate) connection_id: Arc<OnceLock<u64>>,
}

impl Origin {
    pub(super) fn is_encrypted(&self) -> bool {
        #[cfg(feature = "tls")]
        let is_encrypted = self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        let is_encrypted = false;
        is_encrypted
    }

    fn scheme(&self) -> &'static str {
        if self.is_encrypted() { "https" } else { "http" }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// A request of an HTTP client.
pub struct HttpRequest {
    parts: Parts,
    body: HttpBody,
    origin: Origin,
}

impl HttpRequest {
    pub(super) fn new(
        request: Request<Incoming>,
        limits: &HttpLimits,
        budget: &Arc<MemoryBudget>,
        shared: &Arc<Shared>,
        origin: Origin,
    ) -> Self {
        let (parts, incoming) = request.into_parts();
        let source = Source::Socket { incoming, shared: Arc::clone(shared) };
        Self { parts, body: HttpBody::new(source, limits, budget), origin }
    }

    /// A request that is in this process: for calling a handler without a connection.
    ///
    /// ```
    /// # use rsock::*;
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let handler = UpgradeRequired::default();
    /// use rsock::http::{Method, Uri};
    ///
    /// let request = HttpRequest::local(Method::GET, Uri::from_static("/nothing"), "");
    /// assert_eq!(handler.handle(request).await.status(), 426);
    /// # });
    /// ```
    pub fn local(method: Method, uri: Uri, body: impl Into<Bytes>) -> Self {
        let (mut parts, ()) = Request::new(()).into_parts();
        (parts.method, parts.uri) = (method, uri);
        let source = Source::Memory(body.into());
        let body = HttpBody::new(source, &HttpLimits::default(), &MemoryBudget::of_process());
        let origin = Origin {
            peer: "local".into(),
            local: None,
            #[cfg(feature = "tls")]
            tls: None,
            observe: None,
            connection_id: Arc::default(),
        };
        Self { parts, body, origin }
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.parts.method
    }

    /// The target, as it was sent.
    pub fn uri(&self) -> &Uri {
        &self.parts.uri
    }

    /// The path, as it was sent: percent-encoded.
    pub fn path(&self) -> &str {
        self.parts.uri.path()
    }

    /// The query, without its `?`.
    pub fn query(&self) -> Option<&str> {
        self.parts.uri.query()
    }

    /// All headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// All headers, to be changed.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.parts.headers
    }

    /// The first header of this name, in any case, if its value is visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }

    /// The client's address, as the transport names it: `address:port`.
    pub fn address(&self) -> &str {
        &self.origin.peer
    }

    /// Our own address, of a transport over TCP.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.origin.local
    }

    /// The protection of the connection, if it came by `https://`: the name that was asked for, and the
    /// client's certificate.
    #[cfg(feature = "tls")]
    pub fn tls(&self) -> Option<&TlsInfo> {
        self.origin.tls.as_deref()
    }

    /// The kind of transport: `http`, or `https` on a port of `wss://`.
    pub fn scheme(&self) -> &str {
        self.origin.scheme()
    }

    /// The client as a peer, for calling a responder as its connection would: see
    /// [`Caller`](crate::Caller). Its metadata are composite, this request is its
    /// [head](Peer::http), and whatever is asked of it fails with [`Error::Closed`](crate::Error::Closed).
    /// All peers of one HTTP connection have one number.
    pub fn to_peer(&self) -> Peer {
        let origin = &self.origin;
        let ends = Ends {
            peer: Arc::clone(&origin.peer),
            scheme: origin.scheme(),
            local: origin.local,
            #[cfg(unix)]
            user: None,
            #[cfg(feature = "tls")]
            tls: origin.tls.clone(),
        };
        let head = HttpHead::new(&self.parts.uri, &self.parts.headers);
        let connection_id = *origin.connection_id.get_or_init(next_id);
        let memory = Arc::clone(self.body.account.budget());
        Peer::of_http(head, ends, connection_id, origin.observe.as_ref(), memory)
    }

    /// Whether it asks for a WebSocket ([`HttpResponse::websocket`]).
    pub fn asks_for_websocket(&self) -> bool {
        websocket::is_asked_for(self.headers())
    }

    /// The 101 for it, or what is wrong with it.
    pub(super) fn open_websocket(
        &self,
        subprotocols: &[HeaderValue],
    ) -> Result<Response<()>, websocket::Refusal> {
        let Parts { method, version, headers, .. } = &self.parts;
        websocket::open_websocket(method, *version, headers, subprotocols)
    }

    /// The body, to be read beside the rest.
    pub fn body_mut(&mut self) -> &mut HttpBody {
        &mut self.body
    }

    /// The body, out of the request: what stays has none.
    pub fn take_body(&mut self) -> HttpBody {
        let HttpBody { max, wait, account, .. } = &self.body;
        let (max, limit, budget) = (*max, wait.limit, Arc::clone(account.budget()));
        let limits =
            HttpLimits { max_body_bytes: max, body_timeout: limit, ..HttpLimits::default() };
        let nothing = HttpBody::new(Source::Memory(Bytes::new()), &limits, &budget);
        std::mem::replace(&mut self.body, nothing)
    }

    /// The body alone.
    pub fn into_body(self) -> HttpBody {
        self.body
    }
}

impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRequest")
            .field("method", self.method())
            .field("path", &self.path())
            .field("address", &self.address())
            .finish_non_exhaustive()
    }
}

/// The body of a request, which is read from the socket as it is asked for: [whole](Self::bytes), or as
/// a [`Stream`] of its parts.
///
/// A client that waits to be told (`Expect: 100-continue`) is told when it is first asked for. One that
/// is not read to its end costs the connection, and it is to be read before its answer is over: the
/// connection waits for the next request then, and not for long.
pub struct HttpBody {
    source: Source,
    left: usize,
    max: usize,
    wait: Wait,
    account: Account,
}

/// The place that a body comes from.
enum Source {
    Socket { incoming: Incoming, shared: Arc<Shared> },
    Memory(Bytes),
}

impl Source {
    /// Bytes that will come at least.
    fn announced(&self) -> usize {
        match self {
            Self::Socket { incoming, .. } => {
                usize::try_from(incoming.size_hint().lower()).unwrap_or(usize::MAX)
            }
            Self::Memory(bytes) => bytes.len(),
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Self::Socket { incoming, .. } => incoming.is_end_stream(),
            Self::Memory(bytes) => bytes.is_empty(),
        }
    }

    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, hyper::Error>>> {
        match self {
            Self::Socket { incoming, .. } => loop {
                match ready!(Pin::new(&mut *incoming).poll_frame(cx)).transpose()? {
                    None => return Poll::Ready(None),
                    // Trailers are nobody's.
                    Some(frame) => match frame.into_data() {
                        Ok(data) => return Poll::Ready(Some(Ok(data))),
                        Err(_) => continue,
                    },
                }
            },
            Self::Memory(bytes) => {
                let whole = std::mem::take(bytes);
                Poll::Ready((!whole.is_empty()).then_some(Ok(whole)))
            }
        }
    }
}

impl HttpBody {
    fn new(source: Source, limits: &HttpLimits, budget: &Arc<MemoryBudget>) -> Self {
        Self {
            source,
            left: limits.max_body_bytes,
            max: limits.max_body_bytes,
            wait: Wait::new(limits.body_timeout),
            account: Account::new(Arc::clone(budget)),
        }
    }

    /// Takes at most this many bytes instead of [`HttpLimits::max_body_bytes`].
    #[must_use]
    pub fn at_most(mut self, max: usize) -> Self {
        let read = self.max - self.left;
        (self.max, self.left) = (max, max.saturating_sub(read));
        self
    }

    /// All of it, counted in the memory of the server for as long as anybody holds it.
    ///
    /// # Errors
    /// If it is longer than it may be, does not come in time, is lost with the client, or if there is no
    /// memory for it.
    pub async fn bytes(mut self) -> Result<Bytes, HttpBodyError> {
        let mut whole = Vec::new();
        while let Some(part) = poll_fn(|cx| self.poll_part(cx)).await {
            let part = part?;
            if whole.is_empty() && self.source.is_over() && part.len() < COUNTED_BYTES {
                return Ok(Bytes::copy_from_slice(&part));
            }
            self.keeps(whole.len() + part.len())?;
            whole.extend_from_slice(&part);
            self.account.holds(whole.capacity());
        }
        if !self.account.is_drawn() {
            return Ok(whole.into());
        }
        let budget = Arc::clone(self.account.budget());
        let account = std::mem::replace(&mut self.account, Account::new(budget));
        Ok(Bytes::from_owner(Counted { whole, _account: account }))
    }

    /// Says that the handler keeps so many bytes of what it has read of this as a stream: they are counted until it says
    /// otherwise.
    ///
    /// # Errors
    /// [`HttpBodyError::Memory`] if there is no memory for so many.
    pub fn keeps(&mut self, bytes: usize) -> Result<(), HttpBodyError> {
        if bytes >= COUNTED_BYTES && bytes > self.account.budget().allowance() {
            return Err(HttpBodyError::Memory);
        }
        self.account.holds(bytes);
        Ok(())
    }

    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, HttpBodyError>>> {
        // What is announced to be too long is not read at all.
        if self.source.announced() > self.left {
            return Poll::Ready(Some(Err(HttpBodyError::TooLong { max: self.max })));
        }
        let Poll::Ready(part) = self.source.poll_part(cx) else {
            ready!(self.wait.poll_over(cx));
            if let Source::Socket { shared, .. } = &self.source {
                shared.timed_out();
            }
            return Poll::Ready(Some(Err(HttpBodyError::Timeout)));
        };
        let data = match part {
            None => return Poll::Ready(None),
            Some(Ok(data)) => data,
            Some(Err(error)) => return Poll::Ready(Some(Err(HttpBodyError::from(error)))),
        };
        self.wait.came(data.len());
        Poll::Ready(Some(match self.left.checked_sub(data.len()) {
            Some(left) => {
                self.left = left;
                Ok(data)
            }
            None => Err(HttpBodyError::TooLong { max: self.max }),
        }))
    }
}

/// A body from so many bytes on is counted as long as somebody holds it.
const COUNTED_BYTES: usize = 4 << 10;

/// A body with what was drawn for it.
struct Counted {
    whole: Vec<u8>,
    _account: Account,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.whole
    }
}

impl Stream for HttpBody {
    type Item = Result<Bytes, HttpBodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_part(cx)
    }
}

impl Drop for HttpBody {
    fn drop(&mut self) {
        if let Source::Socket { incoming, shared } = &self.source
            && !incoming.is_end_stream()
        {
            shared.left_unread();
        }
    }
}

impl fmt::Debug for HttpBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpBody").field("left", &self.left).finish_non_exhaustive()
    }
}

/// The wait for a part of a body that is worth the wait.
struct Wait {
    limit: Duration,
    /// Bytes that have come since so long was waited.
    came: usize,
    waited: Duration,
    since: Option<Instant>,
    over: Option<Pin<Box<Sleep>>>,
}

/// The part for whose sake the wait begins anew. One of a byte would let a body take for ever.
const WORTH_WAITING: usize = 1 << 10;

impl Wait {
    fn new(limit: Duration) -> Self {
        Self { limit, came: 0, waited: Duration::ZERO, since: None, over: None }
    }

    /// So many bytes have come.
    fn came(&mut self, bytes: usize) {
        self.over = None;
        if let Some(since) = self.since.take() {
            self.waited += since.elapsed();
        }
        self.came += bytes;
        if self.came >= WORTH_WAITING {
            (self.came, self.waited) = (0, Duration::ZERO);
        }
    }

    /// Ready when there has been nothing for too long, counted only while it was asked for.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let left = self.limit.saturating_sub(self.waited);
        let over = self.over.get_or_insert_with(|| Box::pin(sleep_until(since + left)));
        over.as_mut().poll(cx)
    }
}

/// Why a body was not read to its end. It becomes the answer that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HttpBodyError {
    /// It is longer than it may be: 413.
    TooLong {
        /// The most bytes that are taken.
        max: usize,
    },
    /// Nothing worth the wait has come of it for as long as may be waited: 408.
    Timeout,
    /// There is no memory for it: 503.
    Memory,
    /// It is not by the rules of HTTP, or the client has gone: 400.
    Broken(String),
}

impl From<hyper::Error> for HttpBodyError {
    fn from(error: hyper::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

impl fmt::Display for HttpBodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { max } => {
                write!(f, "the request's body is too long: at most {max} bytes are taken")
            }
            Self::Timeout => f.write_str("the request's body does not come: send it in one go"),
            Self::Memory => {
                f.write_str("there is no memory for the request's body now: try again later")
            }
            Self::Broken(error) => write!(f, "the request's body is broken: {error}"),
        }
    }
}

impl error::Error for HttpBodyError {}

impl From<HttpBodyError> for HttpResponse {
    fn from(error: HttpBodyError) -> Self {
        let status = match error {
            HttpBodyError::TooLong { .. } => 413,
            HttpBodyError::Timeout => 408,
            HttpBodyError::Memory => 503,
            HttpBodyError::Broken(_) => 400,
        };
        // The rest of the body is not read.
        Self::text(status, format!("{error}\n")).header("connection", "close")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_of_a_request_has_its_head_and_the_number_of_its_connection() {
        let request = HttpRequest::local(Method::GET, Uri::from_static("/a?b=c"), "");
        let peer = request.to_peer();
        let head = peer.http().expect("it came by HTTP");
        assert_eq!((head.path(), head.query()), ("/a", Some("b=c")));
        assert_eq!((peer.scheme(), peer.address()), ("http", "local"));
        assert_eq!(request.to_peer().connection_id(), peer.connection_id());
        let other = HttpRequest::local(Method::GET, Uri::from_static("/"), "");
        assert_ne!(other.to_peer().connection_id(), peer.connection_id());
    }

    #[tokio::test]
    async fn a_request_by_hand_has_a_body_within_the_limits() {
        let put =
            |len: usize| HttpRequest::local(Method::PUT, Uri::from_static("/a?b"), vec![7; len]);
        let request = put(10);
        assert_eq!(
            (request.path(), request.query(), request.address()),
            ("/a", Some("b"), "local")
        );
        assert_eq!(request.into_body().bytes().await.expect("it is short"), [7; 10][..]);
        assert_eq!(put(0).into_body().bytes().await.expect("it is short"), "");
        let max = HttpLimits::default().max_body_bytes;
        assert_eq!(put(max).into_body().bytes().await.expect("it fits").len(), max);
        let too_long = |max| HttpBodyError::TooLong { max };
        assert_eq!(put(max + 1).into_body().bytes().await, Err(too_long(max)));
        assert_eq!(put(max + 1).into_body().at_most(9).bytes().await, Err(too_long(9)));
        assert_eq!(
            put(max + 1).into_body().at_most(max + 1).bytes().await.map(|it| it.len()),
            Ok(max + 1)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_trickle_are_waited_for_no_longer_than_a_kib_may_take() {
        let mut wait = Wait::new(Duration::from_secs(10));
        let began = Instant::now();
        // A byte each second: the waits for them add up.
        let mut came = 0;
        loop {
            let next =
                tokio::time::timeout(Duration::from_secs(1), poll_fn(|cx| wait.poll_over(cx)));
            if next.await.is_ok() {
                break;
            }
            wait.came(1);
            came += 1;
        }
        assert!((9..=10).contains(&came), "{came}");
        assert_eq!(began.elapsed(), Duration::from_secs(10));
        // A KiB each nine seconds is fine, and so is a handler that asks for it after an hour.
        let mut wait = Wait::new(Duration::from_secs(10));
        for _ in 0..10 {
            let next = poll_fn(|cx| wait.poll_over(cx));
            assert!(tokio::time::timeout(Duration::from_secs(9), next).await.is_err());
            wait.came(1024);
            tokio::time::sleep(Duration::from_secs(3_600)).await;
        }
    }
}
