//! The front of a port: hyper, and what it waits for.

use std::{
    convert::Infallible,
    future::{Future, poll_fn, ready},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::{
    HeaderMap, Method, Request, Response, Version,
    body::{Body as _, Incoming},
    header::{FORWARDED, HOST, HeaderName, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    sync::watch,
    time::{Instant, Sleep},
};

use crate::{
    boxed::BoxFuture,
    connection::{Holder, Newcomer, guard},
    http::{
        Filter, ForwardedClients, HandleHttp, HttpLimits, HttpRequest, HttpResponse, Origin,
        RequestHead, Seats, is_on,
        response::Sending,
        watched::{Answer, Limits, Opened, Shared, Stage, Watched},
        websocket as plain,
    },
    memory::MemoryBudget,
    meter::Meter,
    transport::{
        socket::{LINGER, linger},
        websocket::{self, HandshakeError, HttpHead, MAX_HEAD_BYTES},
    },
};

/// The header that proxies which end TLS commonly send instead of `Forwarded`.
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The parts that all HTTP connections of a listener share.
pub(crate) struct Front {
    pub(crate) handler: Arc<dyn HandleHttp>,
    /// Asked before anything is done for a request.
    pub(crate) filter: Option<Filter>,
    /// The proxies that say where clients come from.
    pub(crate) clients: Option<ForwardedClients>,
    /// The path of the WebSockets; `None` = any.
    pub(crate) path: Option<Arc<str>>,
    /// Those that are selected where they are offered.
    pub(crate) subprotocols: Arc<[HeaderValue]>,
    /// How long the head of a request may take.
    pub(crate) head_limit: Duration,
    pub(crate) limits: HttpLimits,
    pub(crate) seats: Arc<Seats>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) memory: Arc<MemoryBudget>,
    /// When a WebSocket is told that the server ends, and when that breaks it off.
    pub(crate) drain: (Duration, Duration),
    /// The server ends: what is under way may end by itself.
    pub(crate) draining: watch::Receiver<bool>,
    /// Nothing is waited for any more.
    pub(crate) ending: watch::Receiver<bool>,
}

/// The outcome of an accepted connection.
pub(crate) enum Served<IO> {
    /// It spoke plain HTTP, or was a WebSocket that a handler has served, and is closed.
    Http,
    /// It was closed, because it had to go.
    Cut,
    /// It was closed, because its first request was not there in time.
    TooLate,
    /// It is the WebSocket of RSocket.
    WebSocket {
        io: IO,
        /// The bytes that the client sent right behind its request; the first input of the decoder.
        leftover: Bytes,
        /// The request.
        head: HttpHead,
        /// The client, where a proxy has said who it is.
        client: Option<SocketAddr>,
        /// None if it has asked something else before.
        newcomer: Option<Newcomer>,
    },
}

/// Serves HTTP on `io`, and WebSockets of its handler, until a request opens that of RSocket, until the peer is done, or until a limit of it
/// is reached.
pub(crate) async fn serve<IO>(
    io: IO,
    front: Arc<Front>,
    origin: Origin,
    holder: Holder,
    newcomer: Option<Newcomer>,
) -> Result<Served<IO>, HandshakeError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let began = newcomer.as_ref().map_or_else(Instant::now, Newcomer::since);
    let shared = Shared::new(newcomer, Arc::clone(&front.meter), Arc::clone(&front.memory));
    // A body that somebody keeps must not keep the connection's place.
    let _leaves = Leaves(Arc::clone(&shared));
    let limits = Limits { head: front.head_limit, http: &front.limits };
    let service =
        Service { front: Arc::clone(&front), shared: Arc::clone(&shared), origin, holder };
    let mut connection = hyper::server::conn::http1::Builder::new()
        // Ours are of several kinds: of the first request, of the next, of a reader.
        .header_read_timeout(None)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_header_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(Watched { io, shared: Arc::clone(&shared) }), service);

    let (mut draining, mut ending) = (front.draining.clone(), front.ending.clone());
    let mut drained = pin!(draining.wait_for(|is_draining| *is_draining));
    let mut ended = pin!(ending.wait_for(|is_ending| *is_ending));
    let mut timer = Timer(None);
    let (mut is_leaving, mut hears) = (false, true);
    // Polled without `with_upgrades`: hyper then leaves the connection where it can be taken out
    // as what it was, once the 101 is flushed
    let cut = poll_fn(|cx| {
        loop {
            if let Poll::Ready(outcome) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(outcome.map(|()| None));
            }
            let mut state = shared.lock();
            let (is_first, is_idle) = (state.stage == Stage::First, state.is_idle());
            if ended.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(Some(Served::Cut)));
            }
            if hears && drained.as_mut().poll(cx).is_ready() {
                // It is polled no more.
                hears = false;
                // What has not become a connection yet does not hold up a shutdown.
                if is_first {
                    return Poll::Ready(Ok(Some(Served::Cut)));
                }
                drop(state);
                is_leaving = true;
                Pin::new(&mut connection).graceful_shutdown();
                continue;
            }
            if state.newcomer.as_ref().is_some_and(|it| it.poll_turned_away(cx).is_ready()) {
                return Poll::Ready(Ok(Some(Served::Cut)));
            }
            let is_given_up = match &mut state.visit {
                Some(visit) if is_idle => visit.poll_given_up(cx).is_ready(),
                _ => false,
            };
            let deadline = state.deadline(began, &limits);
            drop(state);
            let is_late = timer.poll_reached(deadline, cx).is_ready();
            if !is_late && (is_leaving || !is_given_up) {
                return Poll::Pending;
            }
            if is_first {
                front.meter.handshake_timeout();
                return Poll::Ready(Ok(Some(Served::TooLate)));
            }
            if is_late && !(is_idle && shared.lock().stage == Stage::Idle) {
                front.meter.http_timeout();
                return Poll::Ready(Ok(Some(Served::Cut)));
            }
            if is_leaving {
                // It should have ended by now.
                return Poll::Ready(Ok(Some(Served::Cut)));
            }
            is_leaving = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
    })
    .await?;
    if let Some(cut) = cut {
        return Ok(cut);
    }
    let parts = connection.into_parts();
    let mut io = parts.io.into_inner().io;
    let (opened, is_unread) = {
        let mut state = shared.lock();
        (state.opened.take(), state.is_unread)
    };
    match opened {
        None => {}
        Some(Opened::RSocket(head, client)) => {
            let newcomer = shared.lock().newcomer.take();
            return Ok(Served::WebSocket { io, leftover: parts.read_buf, head, client, newcomer });
        }
        Some(Opened::Plain(opening, _answer)) => {
            // Boxed, so that what serves HTTP is not as large.
            Box::pin(plain::serve(&front, io, &parts.read_buf, *opening)).await;
            return Ok(Served::Http);
        }
    }
    // An answer to a request for something else than HTTP leaves this to us; TLS says farewell so.
    let farewell = io.shutdown();
    // Whoever does not take it is gone.
    let _ = tokio::time::timeout(LINGER.0, farewell).await;
    if is_unread {
        linger(&mut io).await;
    }
    Ok(Served::Http)
}

/// Gives up the places of a connection when it is over.
struct Leaves(Arc<Shared>);

impl Drop for Leaves {
    fn drop(&mut self) {
        let left = {
            let mut state = self.0.lock();
            (state.newcomer.take(), state.visit.take(), state.opened.take())
        };
        drop(left);
    }
}

/// A timer that is set anew only where it would be too late.
pub(super) struct Timer(pub(super) Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Ready when it is that time.
    pub(super) fn poll_reached(
        &mut self,
        deadline: Option<Instant>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let Some(deadline) = deadline else { return Poll::Pending };
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if deadline < sleep.deadline() {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

/// Decides, request by request, between the WebSocket and the handler.
struct Service {
    front: Arc<Front>,
    shared: Arc<Shared>,
    origin: Origin,
    holder: Holder,
}

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response<Sending>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let is_asked_for = websocket::is_asked_for(request.headers());
        let is_here = is_on(&self.front.path, request.uri().path());
        if let Some(filter) = &self.front.filter {
            let head = RequestHead {
                method: request.method(),
                uri: request.uri(),
                headers: request.headers(),
                origin: &self.origin,
                opens_websocket: is_asked_for,
            };
            // What panics has not let it in.
            let refusal = guard(|| filter(&head)).unwrap_or_else(|_| Some(HttpResponse::failed()));
            if let Some(refusal) = refusal {
                self.front.meter.forbidden_http_request();
                let (answer, has_seat) = self.sit(!request.body().is_end_stream());
                return Box::pin(ready(Ok(refusal.send(answer, !has_seat))));
            }
        }
        let opening = (is_asked_for && is_here).then(|| {
            let (method, version) = (request.method(), request.version());
            let subprotocols = &self.front.subprotocols;
            websocket::open_websocket(method, version, request.headers(), subprotocols)
        });
        if let Some(Ok(response)) = opening {
            let head = HttpHead::new(request.uri(), request.headers());
            let client = self.client(request.headers());
            self.shared.lock().opened = Some(Opened::RSocket(head, client));
            return Box::pin(ready(Ok(response.map(|()| Sending::nothing()))));
        }
        let (answer, has_seat) = self.sit(!request.body().is_end_stream());
        if let Some(Err((status, text))) = opening {
            let refusal = HttpResponse::text(status.as_u16(), text);
            return Box::pin(ready(Ok(refusal.send(answer, !has_seat))));
        }
        // RFC 9112, section 3.2: for whom it is, or which of them an intermediary went by, nobody knows.
        let hosts = request.headers().get_all(HOST).iter().count();
        if hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11) {
            answer.refused();
            let refusal = HttpResponse::text(400, "A request has one Host.\n");
            return Box::pin(ready(Ok(refusal.send(answer, true))));
        }
        let mut elsewhere = None;
        if let Some(path) = &self.front.path
            && is_asked_for
            && !is_here
        {
            // A page that a handler has for browsers would tell nobody what is wrong.
            let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
            let is_encrypted =
                self.origin.is_encrypted() || is_forwarded_from_tls(request.headers());
            let scheme = if is_encrypted { "wss" } else { "ws" };
            let uri = match host {
                Some(host) => format!("{scheme}://{host}{path}"),
                None => path.to_string(),
            };
            let text = format!("There is no WebSocket at this path: it is at {uri}\n");
            // A handler may serve one there.
            if request.method() != Method::GET {
                return Box::pin(ready(Ok(HttpResponse::text(404, text).send(answer, !has_seat))));
            }
            elsewhere = Some(text);
        }
        let begins = match (request.method(), request.version()) {
            (&Method::HEAD, _) => Begins::Unasked,
            _ if !has_seat => Begins::Unasked,
            (_, Version::HTTP_10) => Begins::WithItem,
            _ => Begins::AtOnce,
        };
        let Front { limits, memory, handler, .. } = &*self.front;
        let mut origin = self.origin.clone();
        if let Some(client) = self.client(request.headers()) {
            origin.peer = client.to_string().into();
        }
        let request = HttpRequest::new(request, limits, memory, &self.shared, origin);
        let handling = guard(|| handler.handle(request));
        let answering = Answering {
            answer,
            begins,
            closes: !has_seat,
            elsewhere,
            shared: Arc::clone(&self.shared),
        };
        Box::pin(answering.answered(handling.ok()))
    }
}

/// Whether a proxy before us says that the client came to it over TLS. Whoever says so himself is told
/// of it, and nobody else.
fn is_forwarded_from_tls(headers: &HeaderMap) -> bool {
    let first = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let is_tls = |proto: &str| {
        let proto = proto.trim().trim_matches('"');
        proto.eq_ignore_ascii_case("https") || proto.eq_ignore_ascii_case("wss")
    };
    // Of several proxies, the first is the one that the client came to.
    let nearest = |list: &str| list.split(',').next().unwrap_or_default().to_owned();
    if let Some(forwarded) = first(FORWARDED) {
        return nearest(forwarded).split(';').any(|pair| {
            pair.split_once('=').is_some_and(|(name, proto)| {
                name.trim().eq_ignore_ascii_case("proto") && is_tls(proto)
            })
        });
    }
    first(X_FORWARDED_PROTO).is_some_and(|list| is_tls(&nearest(list)))
}

impl Service {
    /// The client for whom a proxy asks.
    fn client(&self, headers: &HeaderMap) -> Option<SocketAddr> {
        self.front.clients.as_ref()?.client(headers, &self.origin.peer)
    }

    /// A request has come that opens no WebSocket: whether its connection has a seat.
    fn sit(&self, has_body: bool) -> (Answer, bool) {
        let answer = self.shared.answer(has_body);
        let mut state = self.shared.lock();
        let visit = state.visit.get_or_insert_with(|| self.front.seats.enter(self.holder));
        let has_seat = visit.sit();
        // With a seat it is among those that are bounded otherwise.
        let newcomer = if has_seat { state.newcomer.take() } else { None };
        drop(state);
        drop(newcomer);
        (answer, has_seat)
    }
}

/// When the answer begins to be sent whose body is a stream.
enum Begins {
    /// At once, and its body is not asked for: none of it is sent.
    Unasked,
    /// At once, when its body was asked for an item: it may not have one yet.
    AtOnce,
    /// With the first item: whoever is told no length takes a body that breaks off for a whole one.
    WithItem,
}

/// A request whose handler answers it.
struct Answering {
    answer: Answer,
    begins: Begins,
    closes: bool,
    /// The text for a request for a WebSocket that is not there, if it is one and not RSocket's.
    elsewhere: Option<String>,
    shared: Arc<Shared>,
}

impl Answering {
    /// The handler's answer, or 500 where it panics, or what it streams fails before anything was sent.
    async fn answered(
        self,
        mut handling: Option<BoxFuture<HttpResponse>>,
    ) -> Result<Response<Sending>, Infallible> {
        let Self { answer, begins, closes, elsewhere, shared } = self;
        let mut response = poll_fn(|cx| match &mut handling {
            None => Poll::Ready(HttpResponse::failed()),
            Some(handling) => match guard(|| handling.as_mut().poll(cx)) {
                Ok(poll) => poll,
                Err(_) => Poll::Ready(HttpResponse::failed()),
            },
        })
        .await;
        if let Some(text) = elsewhere
            && !response.opens_websocket()
            && matches!(response.status(), ..400 | 404)
        {
            response = HttpResponse::text(404, text);
        }
        if !closes && let Some(mut opening) = response.take_opening() {
            let opened = std::mem::take(&mut opening.response);
            shared.lock().opened = Some(Opened::Plain(opening, answer));
            return Ok(opened.map(|()| Sending::nothing()));
        }
        match begins {
            Begins::Unasked => {}
            Begins::AtOnce => {
                poll_fn(|cx| Poll::Ready(response.poll_begin(cx).is_ready())).await;
            }
            Begins::WithItem => poll_fn(|cx| response.poll_begin(cx)).await,
        }
        Ok(response.send(answer, closes))
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use bytes::{BufMut, BytesMut};
    use tokio::{
        io::{AsyncReadExt, duplex},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::{
        http::{HttpHandler, UpgradeRequired},
        transport::websocket::{
            Decoder, Headers, Incoming as Message, MaskKeys, Opcode, Role, apply_mask, connect,
            encode_header,
        },
    };

    /// The request of RFC 6455 section 1.2, less its last line.
    const HEAD: &str = "GET /rsocket HTTP/1.1\r\nHost: server.example.com\r\n\
        Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\n\
        Sec-WebSocket-Version: 13\r\n";

    /// The value that RFC 6455, section 1.3 computes for it.
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    #[tokio::test]
    async fn the_server_answers_the_example_of_the_rfc() {
        let (answer, outcome) = serve(&format!("{HEAD}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
        assert!(answer.contains("upgrade: websocket\r\n"), "{answer}");
        assert!(answer.contains("connection: Upgrade\r\n"), "{answer}");
        assert!(answer.contains(&format!("sec-websocket-accept: {ACCEPT}\r\n")), "{answer}");
        assert!(!answer.contains("sec-websocket-protocol"), "{answer}");
        assert!(!answer.contains("sec-websocket-extensions"), "{answer}");
        assert!(websocket(outcome).1.is_empty());
    }

    #[tokio::test]
    async fn the_server_keeps_what_came_behind_the_request() {
        let (_, outcome) = serve(&format!("{HEAD}\r\n\u{2}frames")).await;
        let (_, leftover, _) = websocket(outcome);
        assert_eq!(leftover, "\u{2}frames");
    }

    #[tokio::test]
    async fn the_server_selects_rsocket_and_no_extension() {
        for (offer, selects) in [
            ("Sec-WebSocket-Protocol: rsocket\r\n", true),
            ("Sec-WebSocket-Protocol: graphql-ws, rsocket\r\n", true),
            ("Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: rsocket\r\n", true),
            ("Sec-WebSocket-Protocol: graphql-ws\r\n", false),
            ("Sec-WebSocket-Extensions: permessage-deflate\r\n", false),
        ] {
            let (answer, outcome) = serve(&format!("{HEAD}{offer}\r\n")).await;
            assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
            let named = answer.contains("sec-websocket-protocol: rsocket\r\n");
            assert_eq!(named, selects, "{answer}");
            assert!(!answer.contains("sec-websocket-extensions"), "{answer}");
            websocket(outcome);
        }
    }

    #[tokio::test]
    async fn a_slash_at_the_end_makes_no_other_path() {
        for target in ["/rsocket/", "/rsocket/?a=b"] {
            let head = HEAD.replacen("/rsocket", target, 1);
            let (answer, outcome) = serve(&format!("{head}\r\n")).await;
            assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
            websocket(outcome);
        }
        for (known, asked, expected) in
            [("/a/", "/a", true), ("/", "/", true), ("/", "/a", false), ("/a", "/a//", false)]
        {
            assert_eq!(is_on(&Some(known.into()), asked), expected, "{known} {asked}");
        }
    }

    #[tokio::test]
    async fn a_bad_request_for_a_websocket_is_refused() {
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        for (from, to, status) in [
            ("GET /rsocket", "POST /rsocket", "400"),
            ("HTTP/1.1", "HTTP/1.0", "400"),
            ("Connection: keep-alive, Upgrade\r\n", "", "400"),
            ("Connection: keep-alive, Upgrade\r\n", "Connection: close\r\n", "400"),
            ("Version: 13", "Version: 8", "426"),
            ("Sec-WebSocket-Version: 13\r\n", "", "426"),
            (key, "", "400"),
            (key, &format!("{key}{key}"), "400"),
            (key, "Sec-WebSocket-Key: c2hvcnQ=\r\n", "400"),
            (key, "Sec-WebSocket-Key: not base64, 24 chars!!!!\r\n", "400"),
            (key, &format!("{key}Content-Length: 5\r\n"), "400"),
            ("GET /rsocket", "GET /elsewhere", "404"),
            ("GET /rsocket", "GET /rsocket//", "404"),
            ("Upgrade: websocket", "Upgrade: h2c", "426"),
        ] {
            let head = HEAD.replacen(from, to, 1);
            assert_ne!(head, HEAD);
            let (answer, outcome) = serve(&format!("{head}\r\n")).await;
            assert!(answer.starts_with("HTTP/1."), "{answer}");
            assert_eq!(&answer[9..12], status, "{head}{answer}");
            if status == "426" {
                assert!(answer.contains("sec-websocket-version: 13\r\n"), "{answer}");
                assert!(answer.contains("upgrade: websocket\r\n"), "{answer}");
            }
            assert!(matches!(outcome, Ok(Served::Http)));
        }
    }

    #[tokio::test]
    async fn plain_requests_are_answered_until_one_opens_a_websocket() {
        let requests = format!(
            "GET /health?now HTTP/1.1\r\nHost: h\r\n\r\n\
             HEAD /health HTTP/1.1\r\nHost: h\r\n\r\n\
             POST /odd HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody\
             GET /rsocket HTTP/1.1\r\nHost: h\r\n\r\n\
             {HEAD}\r\n"
        );
        let (answers, outcome) = serve(&requests).await;
        let statuses: Vec<_> =
            answers.match_indices("HTTP/1.1 ").map(|(at, _)| &answers[at + 9..at + 12]).collect();
        assert_eq!(statuses, ["200", "200", "500", "426", "101"], "{answers}");
        assert_eq!(answers.matches("content-type: application/json\r\n").count(), 2, "{answers}");
        assert_eq!(answers.matches("content-length: 6\r\n").count(), 2, "{answers}");
        assert_eq!(answers.matches("\"fine\"").count(), 1, "HEAD gets no body: {answers}");
        assert!(answers.contains("Connect with an RSocket client"), "{answers}");
        assert!(websocket(outcome).1.is_empty());
    }

    #[tokio::test]
    async fn what_is_not_http_ends_the_handshake() {
        let (answer, outcome) = serve("\0\0\x2c\0\0\0\0\x04\0 RSocket over TCP\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(matches!(outcome, Err(HandshakeError::Http(_))));

        let cookie = "c".repeat(MAX_HEAD_BYTES);
        let (answer, outcome) = serve(&format!("{HEAD}Cookie: {cookie}\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        assert!(matches!(outcome, Err(HandshakeError::Http(_))));

        let (answer, outcome) = serve("").await;
        assert_eq!(answer, "");
        assert!(matches!(outcome, Ok(Served::Http)));
    }

    #[tokio::test]
    async fn client_and_server_meet_over_pipes_of_any_size() {
        for size in [1, 7, 100_000] {
            let (near, far) = duplex(size);
            meet(near, far, None).await;
            let (near, far) = duplex(size);
            meet(near, far, Some("rsocket")).await;
        }
    }

    #[tokio::test]
    async fn client_and_server_meet_over_tcp() {
        let (near, far) = tcp_pair().await;
        meet(near, far, Some("rsocket")).await;
    }

    #[tokio::test]
    async fn a_wrong_path_is_told_to_the_client() {
        let (near, far) = tcp_pair().await;
        let server = tokio::spawn(accept(far));
        let error = connect(near, "localhost", "/", &Headers::default(), None).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the server refused the WebSocket with status 404: There is no WebSocket at this path: it \
             is at ws://localhost/rsocket"
        );
        assert!(matches!(server.await.unwrap(), Ok(Served::Http)));
    }

    #[tokio::test]
    async fn a_wrong_path_behind_a_proxy_with_tls_is_told_with_its_scheme() {
        for (said, scheme) in [
            ("", "ws"),
            ("X-Forwarded-Proto: https\r\n", "wss"),
            ("X-Forwarded-Proto: WSS, http\r\n", "wss"),
            ("X-Forwarded-Proto: http, https\r\n", "ws"),
            ("Forwarded: for=192.0.2.1;Proto=https;by=x, proto=http\r\n", "wss"),
            ("Forwarded: for=\"[::1]\";proto=\"https\"\r\n", "wss"),
            ("Forwarded: for=192.0.2.1\r\nX-Forwarded-Proto: https\r\n", "ws"),
        ] {
            let head = HEAD.replacen("GET /rsocket", "GET /elsewhere", 1);
            let (answer, _) = serve(&format!("{head}{said}\r\n")).await;
            let told = format!("it is at {scheme}://server.example.com/rsocket\n");
            assert!(answer.contains(&told), "{said}{answer}");
        }
    }

    // ----- helpers

    fn front(never: &watch::Sender<bool>) -> Front {
        async fn health(request: HttpRequest) -> HttpResponse {
            match (request.method().as_str(), request.path()) {
                ("GET" | "HEAD", "/health") => HttpResponse::new(200, &b"\"fine\""[..])
                    .header("content-type", "application/json"),
                (_, "/odd") => HttpResponse::text(101, "no status for a plain answer"),
                _ => {
                    let others = UpgradeRequired { path: Some("/rsocket".into()) };
                    HttpHandler::handle(&others, request).await
                }
            }
        }

        let meter = Arc::new(Meter::default());
        Front {
            handler: Arc::new(health),
            filter: None,
            clients: None,
            path: Some("/rsocket".into()),
            subprotocols: [HeaderValue::from_static("rsocket")].into(),
            head_limit: Duration::from_secs(10),
            limits: HttpLimits::default(),
            seats: Seats::new(&HttpLimits::default(), Arc::clone(&meter)),
            meter,
            memory: MemoryBudget::new(1 << 20),
            drain: (Duration::ZERO, Duration::from_secs(10)),
            draining: never.subscribe(),
            ending: never.subscribe(),
        }
    }

    async fn accept<IO>(io: IO) -> Result<Served<IO>, HandshakeError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let origin = Origin {
            peer: "a peer".into(),
            local: None,
            #[cfg(feature = "tls")]
            tls: None,
            observe: None,
            connection_id: Arc::default(),
        };
        let never = watch::Sender::new(false);
        super::serve(io, Arc::new(front(&never)), origin, Holder::Unknown, None).await
    }

    /// Shakes hands and sends a message each way.
    async fn meet<IO>(near: IO, far: IO, subprotocol: Option<&'static str>)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + fmt::Debug + 'static,
    {
        let server = tokio::spawn(accept(far));
        let mut headers = vec![("Authorization".to_owned(), "Bearer x".to_owned())];
        let offered = subprotocol.map(|name| ("Sec-WebSocket-Protocol".into(), name.into()));
        headers.extend(offered);
        let headers = Headers::new(&headers).unwrap();
        let target = "/rsocket?tenant=blue";
        let (mut near, leftover) =
            connect(near, "example.com:7000", target, &headers, None).await.unwrap();
        assert!(leftover.is_empty());
        let (mut far, leftover, head) = websocket(server.await.unwrap());
        assert_eq!((head.path(), head.query()), ("/rsocket", Some("tenant=blue")));
        assert_eq!(head.header("authorization"), Some("Bearer x"));
        assert!(leftover.is_empty());

        let mask = MaskKeys::new().next();
        let there = send(&mut near, Some(mask));
        let (_, received) = tokio::join!(there, receive(&mut far, Role::Server));
        assert_eq!(received, Message::Message(Bytes::from_static(BODY)));
        let back = send(&mut far, None);
        let (_, received) = tokio::join!(back, receive(&mut near, Role::Client));
        assert_eq!(received, Message::Message(Bytes::from_static(BODY)));
    }

    const BODY: &[u8] = &[42; 300];

    async fn send(io: &mut (impl AsyncWrite + Unpin), mask: Option<[u8; 4]>) {
        let mut out = BytesMut::new();
        encode_header(Opcode::Binary, BODY.len(), mask, &mut out);
        let start = out.len();
        out.put_slice(BODY);
        apply_mask(mask.unwrap_or_default(), 0, &mut out[start..]);
        io.write_all(&out).await.unwrap();
    }

    async fn receive(io: &mut (impl AsyncRead + Unpin), role: Role) -> Message {
        let (mut decoder, mut input) = (Decoder::new(role, 1000), BytesMut::new());
        loop {
            if let Some(incoming) = decoder.decode(&mut input).unwrap() {
                return incoming;
            }
            assert_ne!(io.read_buf(&mut input).await.unwrap(), 0);
        }
    }

    async fn tcp_pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    /// Sends `bytes` to our server over TCP and reads to the end of its answers.
    async fn serve(bytes: &str) -> (String, Result<Served<TcpStream>, HandshakeError>) {
        let (mut near, far) = tcp_pair().await;
        near.write_all(bytes.as_bytes()).await.unwrap();
        near.shutdown().await.unwrap();
        let mut outcome = accept(far).await;
        if let Ok(Served::WebSocket { io, .. }) = &mut outcome {
            io.shutdown().await.unwrap();
        }
        let mut answer = Vec::new();
        // An end with unread bytes on the other side is a reset, after the answer
        let _ = near.read_to_end(&mut answer).await;
        (String::from_utf8(answer).unwrap(), outcome)
    }

    fn websocket<IO>(outcome: Result<Served<IO>, HandshakeError>) -> (IO, Bytes, HttpHead) {
        match outcome {
            Ok(Served::WebSocket { io, leftover, head, .. }) => (io, leftover, head),
            _ => panic!("no WebSocket"),
        }
    }
}
