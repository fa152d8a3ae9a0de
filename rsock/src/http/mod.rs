//! HTTP/1.1 on the ports of WebSockets: one front decides, request by request, between the handshake
//! and an asynchronous handler.
//!
//! ```text
//! socket ──▶ front (hyper) ── a request for a WebSocket on its path ──▶ 101, and RSocket from there on
//!                          ── anything else ──▶ HttpHandler ──▶ a whole answer, a stream, or a
//!                                                               WebSocket of the handler's own
//! ```
//!
//! A body that is a stream is polled as the socket takes what it yields: who reads slowly holds back
//! who produces. Everything that a client can make us hold or wait for has a limit: [`HttpLimits`].

mod forwarded;
mod front;
mod request;
mod response;
mod seats;
mod watched;
mod websocket;

use std::{fmt, future::Future, net::SocketAddr, sync::Arc, time::Duration};

pub use hyper::{
    HeaderMap, Method, StatusCode, Uri,
    header::{HeaderName, HeaderValue},
};

pub(crate) use forwarded::ForwardedClients;
pub use forwarded::ForwardedHeader;
pub(crate) use front::{Front, Served, serve};
pub(crate) use request::Origin;
pub use request::{HttpBody, HttpBodyError, HttpRequest};
pub use response::HttpResponse;
pub(crate) use seats::Seats;
pub use websocket::{WebSocket, WebSocketEnd, WebSocketMessage, WebSocketOptions};

use crate::boxed::BoxFuture;

/// The head of a request, as the [filter](crate::ServerBuilder::filter_http) of a server sees it.
#[derive(Clone, Copy)]
pub struct RequestHead<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) origin: &'a Origin,
    pub(crate) opens_websocket: bool,
}

impl<'a> RequestHead<'a> {
    /// The method.
    pub fn method(&self) -> &'a Method {
        self.method
    }

    /// The path, as it was sent: percent-encoded.
    pub fn path(&self) -> &'a str {
        self.uri.path()
    }

    /// All headers.
    pub fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// The first header of this name, in any case, if its value is visible ASCII.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The client's address, as the transport names it: `address:port`.
    pub fn address(&self) -> &'a str {
        &self.origin.peer
    }

    /// Our own address, of a transport over TCP.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.origin.local
    }

    /// The kind of transport: `http`, or `https` on a port of `wss://`.
    pub fn scheme(&self) -> &'static str {
        if self.origin.is_encrypted() { "https" } else { "http" }
    }

    /// Whether it asks for a WebSocket: that of RSocket, or one that an [`HttpHandler`] serves. It is a GET with
    /// which pages of any origin may have more done than they may read: its `Origin` counts.
    pub fn opens_websocket(&self) -> bool {
        self.opens_websocket
    }
}

impl fmt::Debug for RequestHead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestHead")
            .field("method", self.method)
            .field("path", &self.path())
            .field("address", &self.address())
            .finish_non_exhaustive()
    }
}

/// The filter of a server, as it holds it.
pub(crate) type Filter = Arc<dyn Fn(&RequestHead<'_>) -> Option<HttpResponse> + Send + Sync>;

/// Answers plain HTTP requests on the ports of WebSockets: health, files, an interface for those who
/// do not speak RSocket.
///
/// Every `Fn(HttpRequest) -> impl Future` is one, whose future yields an [`HttpResponse`] or something
/// that becomes one, such as a `Result<HttpResponse, HttpBodyError>`:
///
/// ```
/// # use rsock::*;
/// async fn handle(request: HttpRequest) -> Result<HttpResponse, HttpBodyError> {
///     Ok(match (request.method().as_str(), request.path()) {
///         ("GET" | "HEAD", "/healthz") => HttpResponse::text(200, "ok\n"),
///         ("POST", "/shout") => {
///             let body = request.into_body().bytes().await?;
///             HttpResponse::new(200, body.to_ascii_uppercase())
///         }
///         ("GET", "/ticks") => HttpResponse::stream(200, ticks()).header("content-type", "text/plain"),
///         _ => HttpResponse::text(404, "Not found.\n"),
///     })
/// }
///
/// # fn ticks() -> impl futures_util::Stream<Item = Result<bytes::Bytes, Error>> + Send {
/// #     futures_util::stream::repeat_with(|| Ok(bytes::Bytes::from_static(b"tick\n")))
/// # }
/// # async fn run(app: Router<()>) -> Result<(), Error> {
/// Server::builder().http(handle).bind(&["ws://127.0.0.1:7879/rsocket"]).await?.serve(app).await;
/// # Ok(())
/// # }
/// ```
///
/// A handler runs in the task of its connection, which has one request at a time. When the client goes,
/// its future or the stream of its answer is dropped. A panic costs the request: 500.
pub trait HttpHandler: Send + Sync + 'static {
    /// The answer to one request. HEAD requests may be answered like GET: their body is not sent.
    fn handle(&self, request: HttpRequest) -> impl Future<Output = HttpResponse> + Send + 'static;
}

impl<F, Fut> HttpHandler for F
where
    F: Fn(HttpRequest) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: Into<HttpResponse>> + Send + 'static,
{
    fn handle(&self, request: HttpRequest) -> impl Future<Output = HttpResponse> + Send + 'static {
        let answering = self(request);
        async move { answering.await.into() }
    }
}

/// A handler as a server holds it.
pub(crate) trait HandleHttp: Send + Sync {
    fn handle(&self, request: HttpRequest) -> BoxFuture<HttpResponse>;
}

impl<H: HttpHandler> HandleHttp for H {
    fn handle(&self, request: HttpRequest) -> BoxFuture<HttpResponse> {
        Box::pin(HttpHandler::handle(self, request))
    }
}

impl fmt::Debug for dyn HandleHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandleHttp")
    }
}

/// The [`HttpHandler`] of a port that serves nothing but WebSockets: it says so on their path and
/// finds nothing elsewhere.
#[derive(Clone, Default, Debug)]
pub struct UpgradeRequired {
    /// The path of the WebSockets; `None` = any.
    pub path: Option<Arc<str>>,
}

impl HttpHandler for UpgradeRequired {
    fn handle(&self, request: HttpRequest) -> impl Future<Output = HttpResponse> + Send + 'static {
        std::future::ready(if is_on(&self.path, request.path()) {
            HttpResponse::text(
                426,
                "This is an RSocket server. Connect with an RSocket client over WebSocket \
                 (ws:// or wss://), not with plain HTTP.\n",
            )
        } else {
            HttpResponse::text(404, "Not found.\n")
        })
    }
}

/// A slash at the end makes no other path: proxies add one, and people do.
fn is_on(websocket_path: &Option<Arc<str>>, path: &str) -> bool {
    let without_slash = |path: &str| path.strip_suffix('/').unwrap_or(path).len();
    websocket_path
        .as_deref()
        .is_none_or(|expected| expected[..without_slash(expected)] == path[..without_slash(path)])
}

/// The bounds of what HTTP clients can make a server hold and wait for. A request's head is bounded
/// by [`Config::setup_timeout`](crate::Config::setup_timeout), and by 16 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpLimits {
    /// Connections that have asked for something else than a WebSocket, over all listeners. For one
    /// more, the one is closed that has been idle for the longest time, of the address that has most;
    /// if none is, its requests are answered one to a connection, and streams are refused with 503.
    /// Default 1,024.
    pub max_connections: usize,
    /// How many of them one address may have: an IPv4 address, or a /64 of IPv6. For one more, its own
    /// longest idle one is closed, or it is answered as where all are busy. Default half of all; behind a
    /// proxy, from which all clients seem to come, it should be all.
    pub max_connections_per_address: Option<usize>,
    /// Bytes of a request's body, unless the handler takes more or fewer of it
    /// ([`HttpBody::at_most`]). Default 1 MiB.
    pub max_body_bytes: usize,
    /// How long a request's body may be waited for without a KiB more of it, or its end. Default 10 s.
    pub body_timeout: Duration,
    /// How long a connection is kept for its next request. Default 75 s.
    pub idle_timeout: Duration,
    /// How long a client may take nothing of an answer while there is something for it to take.
    /// A stream may have nothing to say for as long as it likes. Default 60 s.
    pub stall_timeout: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            max_connections: 1_024,
            max_connections_per_address: None,
            max_body_bytes: 1 << 20,
            body_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            stall_timeout: Duration::from_secs(60),
        }
    }
}
