//! Connections that begin with HTTP.

use std::{
    fmt,
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::pin,
    sync::{Arc, PoisonError},
    task::Poll,
};

use bytes::BytesMut;
use hyper::{Request, Response, StatusCode, upgrade::OnUpgrade};
use tokio::sync::watch;

use crate::{
    boxed::BoxFuture,
    connection::{
        Holder, Newcomer,
        handle::{Accept, Arrival, Handle},
    },
    error::Error,
    http::{self, Front, HandleHttp, Origin, Seats, Served, UpgradeRequired},
    server::{Driven, Endpoint, ServerBuilder, Service, log},
    sync::Mutex,
    transport::{
        Framing,
        listen::Remote,
        socket::{Socket, Transport},
        websocket::{self, HttpHead, Role, WebSocketFraming},
    },
};

/// The parts of a server that HTTP has.
pub(super) struct Web {
    seats: Arc<Seats>,
    /// Nothing is waited for any more.
    ending: watch::Sender<bool>,
}

impl Web {
    pub(super) fn new(builder: &ServerBuilder) -> Self {
        let seats = Seats::new(&builder.http_limits, Arc::clone(&builder.settings.meter));
        Self { seats, ending: watch::Sender::new(false) }
    }

    /// Ends all connections at once.
    pub(super) fn end(&self) {
        self.ending.send_replace(true);
    }

    /// Resolves when there are no connections.
    pub(super) async fn deserted(&self) {
        self.seats.deserted().await;
    }
}

impl Service {
    /// Serves a connection until it is a WebSocket, and has a driver, or until it is over.
    pub(super) async fn begin_web(
        self: &Arc<Self>,
        socket: Socket,
        peer: Arc<str>,
        path: &str,
        holder: Holder,
        newcomer: Newcomer,
    ) -> Option<Driven> {
        let path: Option<Arc<str>> = Some(path.into());
        let handler: Arc<dyn HandleHttp> = match &self.builder.http {
            Some(handler) => Arc::clone(handler),
            None => Arc::new(UpgradeRequired { path: path.clone() }),
        };
        let front = Arc::new(Front {
            handler,
            filter: self.builder.filter.clone(),
            clients: self.builder.clients.clone(),
            path,
            subprotocols: Arc::clone(&self.builder.subprotocols),
            head_limit: self.config().setup_timeout,
            limits: self.builder.http_limits.clone(),
            seats: Arc::clone(&self.web.seats),
            meter: Arc::clone(&self.builder.settings.meter),
            memory: self.builder.settings.budget(),
            drain: self.builder.drain.times(),
            draining: self.draining.subscribe(),
            ending: self.web.ending.subscribe(),
        });
        let ends = socket.ends(&Framing::LengthPrefixed, Arc::clone(&peer));
        let origin = Origin {
            peer: Arc::clone(&peer),
            local: ends.local,
            #[cfg(feature = "tls")]
            tls: ends.tls,
            observe: self.builder.settings.observe.clone(),
            connection_id: Arc::default(),
        };
        match http::serve(socket, front, origin, holder, Some(newcomer)).await {
            Ok(Served::WebSocket { io, leftover, head, client, newcomer }) => {
                let mut newcomer = match newcomer {
                    Some(newcomer) => newcomer,
                    None => self.doors.newcomer(holder).await,
                };
                let mut peer = peer;
                if let Some(client) = client {
                    newcomer.passed_on_for(client.into());
                    peer = client.to_string().into();
                    if !self.doors.may_come(client.into()) {
                        log::came_too_often(Remote::Address(client));
                        return None;
                    }
                }
                self.drive_websocket(io, &leftover, peer, head, newcomer)
            }
            Ok(Served::Http | Served::Cut) => None,
            Ok(Served::TooLate) => {
                log_failure(&peer, &"no request came in time");
                None
            }
            Err(error) => {
                log_failure(&peer, &error);
                None
            }
        }
    }

    /// The driver of what is a WebSocket from now on.
    fn drive_websocket(
        self: &Arc<Self>,
        socket: Socket,
        leftover: &[u8],
        peer: Arc<str>,
        head: HttpHead,
        newcomer: Newcomer,
    ) -> Option<Driven> {
        let framing = WebSocketFraming::new(Role::Server, self.config().max_frame_bytes);
        let (framing, input) = (Framing::WebSocket(framing), BytesMut::from(leftover));
        let transport = Transport { socket, framing, input, peer };
        self.drive(transport, Some(newcomer), self.with_head(head))
    }

    /// Serves a connection that another HTTP server gives up, once it has; none where that takes too
    /// long, or it has to go for others.
    async fn take_over(
        self: &Arc<Self>,
        upgrading: OnUpgrade,
        peer: Arc<str>,
        head: HttpHead,
        holder: Holder,
    ) -> Option<Driven> {
        let limit = self.config().setup_timeout;
        let taking = async {
            let newcomer = self.doors.newcomer(holder).await;
            let mut upgrading = pin!(upgrading);
            let upgraded = poll_fn(|cx| match upgrading.as_mut().poll(cx) {
                Poll::Pending => newcomer.poll_turned_away(cx).map(|()| None),
                Poll::Ready(upgraded) => Poll::Ready(Some(upgraded)),
            });
            Some((upgraded.await?, newcomer))
        };
        let Ok(taken) = tokio::time::timeout(limit, taking).await else {
            self.builder.settings.meter.handshake_timeout();
            log_failure(&peer, &"the HTTP server did not give up its connection in time");
            return None;
        };
        match taken? {
            (Ok(upgraded), newcomer) => {
                let (socket, leftover) = Socket::from_upgraded(upgraded);
                socket.prepare().ok()?;
                self.drive_websocket(socket, &leftover, peer, head, newcomer)
            }
            (Err(error), _) => {
                log_failure(&peer, &error);
                None
            }
        }
    }

    /// The acceptor, which is told what HTTP said.
    fn with_head(&self, head: HttpHead) -> Arc<dyn Accept> {
        Arc::new(WithHead { accept: Arc::clone(&self.acceptor), head: Mutex::new(Some(head)) })
    }
}

impl Endpoint {
    /// Takes an RSocket connection from another HTTP server, such as one of hyper or axum, on that
    /// server's port: returns the answer that it is to give, and what serves the connection from then on,
    /// which is to be spawned. `from` is the client's address, if it is known.
    ///
    /// All that bounds connections of a server bounds these as well: they are newcomers until the acceptor
    /// has taken them, count among [`max_connections`](crate::ServerBuilder::max_connections), and end with
    /// [`drain`](Self::drain). [`Peer::http`](crate::Peer::http) is the request.
    ///
    /// What the HTTP server answers beside is held back by slow readers only if its sockets hold little:
    /// see [`prepare_tcp`](crate::prepare_tcp).
    ///
    /// ```
    /// # use hyper::{Request, Response, body::Incoming};
    /// # use http_body_util::Full;
    /// # use bytes::Bytes;
    /// # use std::net::SocketAddr;
    /// type Answer = Response<Full<Bytes>>;
    ///
    /// fn rsocket(endpoint: &rsock::Endpoint, mut request: Request<Incoming>, from: SocketAddr) -> Answer {
    ///     match endpoint.upgrade(&mut request, from) {
    ///         Ok((response, serving)) => {
    ///             tokio::spawn(serving);
    ///             response
    ///         }
    ///         Err(refusal) => refusal,
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// The answer that refuses a request which asks for no WebSocket, or not by the rules, or which comes
    /// while the endpoint drains.
    pub fn upgrade<B, R: From<&'static str>>(
        &self,
        request: &mut Request<B>,
        from: impl Into<Option<SocketAddr>>,
    ) -> Result<(Response<R>, BoxFuture<()>), Response<R>> {
        let refuse = |status: StatusCode, text: &'static str| {
            let mut response = Response::new(R::from(text));
            *response.status_mut() = status;
            if status == StatusCode::UPGRADE_REQUIRED {
                websocket::name_upgrade(response.headers_mut());
            }
            Err(response)
        };
        if *self.service.draining.borrow() {
            return refuse(StatusCode::SERVICE_UNAVAILABLE, "The server shuts down.\n");
        }
        if !websocket::is_asked_for(request.headers()) {
            let text = "Connect with an RSocket client over WebSocket, not with plain HTTP.\n";
            return refuse(StatusCode::UPGRADE_REQUIRED, text);
        }
        let subprotocols = &self.service.builder.subprotocols;
        let (method, version) = (request.method(), request.version());
        let opened = websocket::open_websocket(method, version, request.headers(), subprotocols);
        let response = match opened {
            Ok(response) => response.map(|()| R::from("")),
            Err((status, text)) => return refuse(status, text),
        };
        if request.extensions().get::<OnUpgrade>().is_none() {
            let text = "The HTTP server does not let its connections be upgraded.\n";
            return refuse(StatusCode::INTERNAL_SERVER_ERROR, text);
        }
        let head = HttpHead::new(request.uri(), request.headers());
        if head.bytes() > websocket::MAX_HEAD_BYTES {
            let text = "The request for a WebSocket is too long: at most 16 KiB are taken.\n";
            return refuse(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, text);
        }
        let from = from.into();
        let peer = from.map_or_else(|| "an HTTP client".into(), |from| from.to_string().into());
        let holder = from.map_or(Holder::Unknown, Holder::from);
        let upgrading = hyper::upgrade::on(request);
        let service = Arc::clone(&self.service);
        let serving = async move {
            // Boxed, so that what is driven is not as large as what came before.
            let taking = Box::pin(service.take_over(upgrading, peer, head, holder));
            if let Some(driven) = taking.await {
                driven.await;
            }
        };
        Ok((response, Box::pin(serving)))
    }
}

/// An acceptor of one connection, whose peer is shown with the request that opened its WebSocket.
struct WithHead {
    accept: Arc<dyn Accept>,
    /// Until the peer has it: whoever drives the connection keeps its acceptor.
    head: Mutex<Option<HttpHead>>,
}

impl Accept for WithHead {
    fn accept(&self, mut arrival: Arrival) -> BoxFuture<Result<Arc<dyn Handle>, Error>> {
        arrival.http = self.head.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.accept.accept(arrival)
    }
}

#[cfg(feature = "tracing")]
fn log_failure(peer: &str, error: &dyn fmt::Display) {
    tracing::debug!(peer, "HTTP or the WebSocket handshake failed: {error}");
}

#[cfg(not(feature = "tracing"))]
fn log_failure(_: &str, _: &dyn fmt::Display) {}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, time::Duration};

    use bytes::Bytes;
    use http_body_util::Full;
    use hyper::{body::Incoming, server::conn::http1, service::service_fn};
    use hyper_util::rt::TokioIo;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::{Client, Config, Meter, Router, Server, request_response};

    type Answer = Response<Full<Bytes>>;

    fn routes() -> Router<()> {
        let who = request_response(async |_, request: crate::Request| {
            let peer = request.peer();
            let head = peer.http().expect("it came by HTTP");
            let (path, query) = (head.path(), head.query().unwrap_or_default());
            format!("{} {path} {query} {}", peer.scheme(), peer.address())
        });
        Router::new(()).route("who", who).default_route("who")
    }

    fn answer(endpoint: &Endpoint, mut request: Request<Incoming>, from: SocketAddr) -> Answer {
        match endpoint.upgrade(&mut request, from) {
            Ok((response, serving)) => {
                tokio::spawn(serving);
                response
            }
            Err(refusal) => refusal,
        }
    }

    /// Serves an endpoint by a server of hyper, whose connections are handed over or not; its address.
    async fn hyper_server(endpoint: Endpoint, hands_over: bool) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        tokio::spawn(async move {
            while let Ok((socket, from)) = listener.accept().await {
                let endpoint = endpoint.clone();
                let service = service_fn(move |request| {
                    let answer = answer(&endpoint, request, from);
                    async move {
                        if !hands_over {
                            std::future::pending::<()>().await;
                        }
                        Ok::<_, Infallible>(answer)
                    }
                });
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(socket), service);
                // Connections end as their clients like.
                tokio::spawn(async move { drop(connection.with_upgrades().await) });
            }
        });
        address
    }

    const OPENING: &str = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    /// The words of a server to this, until it closes.
    async fn said(address: &str, request: &str) -> String {
        let mut socket = TcpStream::connect(address).await.expect("a connection");
        socket.write_all(request.as_bytes()).await.expect("a request");
        let mut answer = Vec::new();
        // A reset is an end too.
        let _ = socket.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn a_server_of_hyper_takes_connections() {
        let meter = Arc::new(Meter::default());
        let builder = Server::builder().meter(Arc::clone(&meter)).max_connections(1);
        let mut config = Config::default();
        config.setup_timeout = Duration::from_millis(200);
        let endpoint = builder.config(config).without_listeners(routes());
        let address = hyper_server(endpoint.clone(), true).await;
        let uri = format!("ws://{address}/a?b=c");
        let client = Client::connect(&uri).await.expect("a connection");
        let answer = client.request_response("").await.expect("an answer");
        let answer = String::from_utf8(answer.data.to_vec()).expect("text");
        assert!(answer.starts_with("ws /a b=c 127.0.0.1:"), "{answer}");
        // The limit of connections is that of the endpoint.
        let second = Client::builder().wait_until_accepted(true).connect(&uri).await.map(drop);
        let error = second.expect_err("there is one").to_string();
        assert!(error.contains("all 1 connections are in use"), "{error}");
        assert_eq!(meter.read().refused_connections, 1);
        // One that says nothing is closed when SETUP is due.
        assert!(said(&address, OPENING).await.starts_with("HTTP/1.1 101 "));
        endpoint.drain().await;
        client.closed().await;
        let late = said(&address, &OPENING.replace("Connection: ", "Connection: close, ")).await;
        assert!(late.starts_with("HTTP/1.1 503 "), "{late}");
    }

    /// What a handshake had, in both directions: the credentials of a URI, and the subprotocol.
    #[tokio::test]
    async fn credentials_and_subprotocols_are_told() {
        let told = request_response(async |_, request: crate::Request| {
            let peer = request.peer();
            let head = peer.http().expect("it came by HTTP");
            head.header("authorization").unwrap_or_default().to_owned()
        });
        let server = Server::builder().subprotocols(["b.rsocket", "not a token\n"]);
        let server = server.bind(&["ws://127.0.0.1:0/"]).await.expect("a free port");
        let uri = server.addresses().swap_remove(0);
        let serving = tokio::spawn(
            server.serve(Router::new(()).route("told", told).default_route("told")).into_future(),
        );
        let with_user = uri.replacen("://", "://Aladdin:open%20sesame@", 1);
        let client = Client::connect(&with_user).await.expect("a connection");
        let answer = client.request_response("").await.expect("an answer");
        assert_eq!(answer.data, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        let address = uri.trim_start_matches("ws://").trim_end_matches('/').to_owned();
        for (offered, selects) in [("a, b.rsocket", true), ("rsocket", false)] {
            let offer = format!("Sec-WebSocket-Protocol: {offered}\r\nUpgrade");
            let mut socket = TcpStream::connect(&address).await.expect("a connection");
            let opening = OPENING.replacen("Upgrade", &offer, 1);
            socket.write_all(opening.as_bytes()).await.expect("a request");
            let mut answer = String::new();
            while !answer.ends_with("\r\n\r\n") {
                answer.push(socket.read_u8().await.expect("an answer").into());
            }
            let selected = answer.contains("sec-websocket-protocol: b.rsocket\r\n");
            assert_eq!(selected, selects, "{answer}");
        }
        serving.abort();
    }

    #[tokio::test]
    async fn what_is_no_request_for_a_websocket_is_refused() {
        let endpoint = Server::builder().without_listeners(routes());
        let address = hyper_server(endpoint.clone(), true).await;
        for (from, to, status) in [
            ("Upgrade: websocket", "Connection: close", "426"),
            ("Version: 13", "Version: 8", "426"),
            ("GET", "POST", "400"),
            ("Host: x", &format!("Cookie: {}", "c".repeat(17_000)), "431"),
        ] {
            let request =
                OPENING.replacen(from, to, 1).replace("Connection: U", "Connection: close, U");
            let said = said(&address, &request).await;
            assert_eq!(&said[9..12], status, "{request}{said}");
            assert_eq!(said.contains("upgrade: websocket\r\n"), status == "426", "{said}");
        }
        // One that no server can give up.
        let mut request = Request::new(());
        for line in OPENING.lines().skip(1).filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ").expect("a header");
            let value = value.parse().expect("a value");
            request
                .headers_mut()
                .insert(hyper::header::HeaderName::try_from(name).expect("a name"), value);
        }
        let refusal = endpoint.upgrade::<_, Full<Bytes>>(&mut request, None).map(drop);
        assert_eq!(refusal.expect_err("it has no connection").status(), 500);
    }

    #[tokio::test]
    async fn a_connection_that_is_not_given_up_is_waited_for_until_the_handshake_is_due() {
        let meter = Arc::new(Meter::default());
        let mut config = Config::default();
        config.setup_timeout = Duration::from_millis(100);
        let builder = Server::builder().meter(Arc::clone(&meter)).config(config);
        let address = hyper_server(builder.without_listeners(routes()), false).await;
        let mut socket = TcpStream::connect(&address).await.expect("a connection");
        socket.write_all(OPENING.as_bytes()).await.expect("a request");
        while meter.read().handshake_timeouts == 0 {
            tokio::task::yield_now().await;
        }
    }

    /// As those of a server's own listeners do.
    #[tokio::test]
    async fn silent_connections_go_for_others() {
        let meter = Arc::new(Meter::default());
        let builder = Server::builder().meter(Arc::clone(&meter)).max_newcomers(2);
        let address = hyper_server(builder.without_listeners(routes()), true).await;
        let mut silent = Vec::new();
        for _ in 0..6 {
            let mut socket = TcpStream::connect(&address).await.expect("a connection");
            socket.write_all(OPENING.as_bytes()).await.expect("a request");
            silent.push(socket);
        }
        let uri = format!("ws://{address}/");
        let client = Client::connect(&uri).await.expect("a connection");
        client.request_response("").await.expect("an answer");
        assert!(meter.read().evicted_newcomers >= 4);
    }
}
