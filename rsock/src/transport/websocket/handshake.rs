//! The opening handshake of RFC 6455, section 4: HTTP until 101, raw bytes from there on.
//!
//! hyper speaks the HTTP. When it has switched protocols the connection is taken out of it again,
//! with whatever it had read beyond the handshake.

use std::{
    cell::Cell,
    convert::Infallible,
    future::{Ready, poll_fn, ready},
    pin::{Pin, pin},
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::{
    Method, Request, Response, StatusCode, Uri, Version,
    body::{Body, Incoming},
    header::{
        AsHeaderName, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName,
        HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
    },
    http::uri::PathAndQuery,
};
use hyper_util::rt::TokioIo;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{HandshakeError, HttpHandler, HttpResponse};

/// The room that a server has for a request's head, and hyper for its buffers: cookies and tokens
/// fit.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// The one version of the protocol.
const VERSION: HeaderValue = HeaderValue::from_static("13");

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

const CONNECTION_UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");

/// The name by convention; RSocket itself defines none, so it is never required.
const SUBPROTOCOL: &str = "rsocket";

/// The outcome of an accepted connection.
#[derive(Debug)]
pub(crate) enum Accepted<IO> {
    /// It spoke plain HTTP, was answered, and is closed.
    Http,
    /// It is a WebSocket.
    WebSocket {
        io: IO,
        /// The bytes that the client sent right behind its request; the first input of the decoder.
        leftover: Bytes,
        /// The subprotocol both sides named, if any.
        #[cfg_attr(not(test), expect(dead_code, reason = "RSocket does not depend on it (WS-08)"))]
        subprotocol: Option<&'static str>,
    },
}

/// Serves HTTP on `io` until a request opens a WebSocket on `path` (`None` = any path), or until
/// the peer is done.
///
/// This takes as long as the peer likes; the caller sets the limit.
pub(crate) async fn accept<IO>(
    io: IO,
    http: Arc<dyn HttpHandler>,
    path: Option<Arc<str>>,
) -> Result<Accepted<IO>, HandshakeError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let front = Front { http, path, opened: Cell::new(None) };
    let mut connection = hyper::server::conn::http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_header_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(io), front);
    // Polled without `with_upgrades`: hyper then leaves the connection where it can be taken out
    // as what it was, once the 101 is flushed
    (&mut connection).await?;
    let parts = connection.into_parts();
    Ok(match parts.service.opened.take() {
        None => Accepted::Http,
        Some(Opened { subprotocol }) => {
            Accepted::WebSocket { io: parts.io.into_inner(), leftover: parts.read_buf, subprotocol }
        }
    })
}

/// Decides, request by request, between the WebSocket and the plain answers.
struct Front {
    http: Arc<dyn HttpHandler>,
    path: Option<Arc<str>>,
    /// Set with the 101, after which there are no more requests.
    opened: Cell<Option<Opened>>,
}

struct Opened {
    subprotocol: Option<&'static str>,
}

impl hyper::service::Service<Request<Incoming>> for Front {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let path = request.uri().path();
        let wants_websocket = has_token(request.headers(), UPGRADE, "websocket");
        ready(Ok(if wants_websocket && is_on(&self.path, path) {
            self.open(&request).unwrap_or_else(respond)
        } else {
            respond(self.http.handle(request.method().as_str(), path))
        }))
    }
}

impl Front {
    /// The 101, or what is wrong with the request; RFC 6455 section 4.2.
    fn open(&self, request: &Request<Incoming>) -> Result<Response<Full<Bytes>>, HttpResponse> {
        let headers = request.headers();
        let refuse = |status, text| Err(HttpResponse::text(status, text));
        if request.method() != Method::GET {
            return refuse(400, "A WebSocket begins with a GET.\n");
        }
        if request.version() != Version::HTTP_11 {
            return refuse(400, "A WebSocket begins with HTTP/1.1.\n");
        }
        if !has_token(headers, CONNECTION, "upgrade") {
            return refuse(400, "The header \"Connection: Upgrade\" is missing.\n");
        }
        // What follows the head would be taken for frames
        if !request.body().is_end_stream() {
            return refuse(400, "A request for a WebSocket has no body.\n");
        }
        // Section 4.4: a server answers other versions with the ones it speaks
        if only(headers, SEC_WEBSOCKET_VERSION) != Some(&VERSION) {
            return refuse(426, "The header \"Sec-WebSocket-Version: 13\" is missing.\n");
        }
        let key = only(headers, SEC_WEBSOCKET_KEY)
            .filter(|key| STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16));
        let Some(key) = key else {
            return refuse(400, "The header Sec-WebSocket-Key must be 16 bytes in base64.\n");
        };

        let subprotocol = tokens(headers, SEC_WEBSOCKET_PROTOCOL)
            .any(|offered| offered == SUBPROTOCOL)
            .then_some(SUBPROTOCOL);
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(UPGRADE, WEBSOCKET);
        headers.insert(CONNECTION, CONNECTION_UPGRADE);
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept_value(key.as_bytes()));
        if let Some(name) = subprotocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
        }
        self.opened.set(Some(Opened { subprotocol }));
        Ok(response)
    }
}

fn respond(answer: HttpResponse) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status)
        .ok()
        .filter(|status| !status.is_informational())
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let is_upgrade_required = response.status() == StatusCode::UPGRADE_REQUIRED;
    let headers = response.headers_mut();
    if let Ok(media_type) = HeaderValue::try_from(answer.content_type.as_ref()) {
        headers.insert(CONTENT_TYPE, media_type);
    }
    // RFC 9110 section 15.5.22: "The server MUST send an Upgrade header field in a 426 response"
    if is_upgrade_required {
        headers.insert(UPGRADE, WEBSOCKET);
        headers.insert(CONNECTION, CONNECTION_UPGRADE);
        headers.insert(SEC_WEBSOCKET_VERSION, VERSION);
    }
    response
}

/// Opens a WebSocket on `io` as a client, and returns the connection with what the server sent
/// right behind its answer.
///
/// `host` is what the Host header says: the name, and the port if it is not the scheme's own.
/// `headers` go out as well; those that belong to the handshake cannot be among them.
pub(crate) async fn connect<IO>(
    io: IO,
    host: &str,
    path_and_query: &str,
    headers: &[(String, String)],
    subprotocol: Option<&str>,
) -> Result<(IO, Bytes), HandshakeError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let key = new_key()?;
    let request = request(host, path_and_query, headers, subprotocol, &key)?;
    let (mut sender, mut connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .handshake(TokioIo::new(io))
        .await?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            check(response.headers(), &key, subprotocol)
        } else {
            Err(refusal(response).await)
        }
    };

    let mut exchange = pin!(exchange);
    let mut is_finished = false;
    poll_fn(|cx| {
        // How the connection ended is told to the exchange
        is_finished = is_finished || Pin::new(&mut connection).poll(cx).is_ready();
        exchange.as_mut().poll(cx)
    })
    .await?;
    if !is_finished {
        (&mut connection).await?;
    }
    let parts = connection.into_parts();
    Ok((parts.io.into_inner(), parts.read_buf))
}

/// Section 4.1: "a nonce consisting of a randomly selected 16-byte value that has been
/// base64-encoded".
fn new_key() -> Result<String, HandshakeError> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(HandshakeError::Random)?;
    Ok(STANDARD.encode(nonce))
}

fn request(
    host: &str,
    path_and_query: &str,
    extra: &[(String, String)],
    subprotocol: Option<&str>,
    key: &str,
) -> Result<Request<Empty<Bytes>>, HandshakeError> {
    let unusable = |what: &str, value: &str| HandshakeError::Unusable(format!("{what} {value:?}"));
    let target = if path_and_query.is_empty() { "/" } else { path_and_query };
    let target = PathAndQuery::try_from(target)
        .ok()
        .filter(|target| target.as_str().starts_with('/'))
        .ok_or_else(|| unusable("path", path_and_query))?;

    let mut request = Request::new(Empty::new());
    *request.uri_mut() = Uri::from(target);
    let headers = request.headers_mut();
    let host = HeaderValue::try_from(host).map_err(|_| unusable("host", host))?;
    headers.insert(HOST, host);
    headers.insert(UPGRADE, WEBSOCKET);
    headers.insert(CONNECTION, CONNECTION_UPGRADE);
    headers.insert(SEC_WEBSOCKET_VERSION, VERSION);
    headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::try_from(key).expect("base64 is ASCII"));
    if let Some(name) = subprotocol {
        let name = HeaderValue::try_from(name).map_err(|_| unusable("subprotocol", name))?;
        headers.insert(SEC_WEBSOCKET_PROTOCOL, name);
    }
    for (name, value) in extra {
        let parsed = HeaderName::try_from(name).ok().filter(|name| !is_ours(name));
        let parsed = parsed.ok_or_else(|| unusable("header", name))?;
        let mut value =
            HeaderValue::try_from(value).map_err(|_| unusable("value of the header", name))?;
        // It may be a credential: keep it out of hyper's logs
        value.set_sensitive(true);
        headers.append(parsed, value);
    }
    Ok(request)
}

/// Whether a header is the handshake's own, or would change where the request ends.
fn is_ours(name: &HeaderName) -> bool {
    [HOST, UPGRADE, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING].contains(name)
        || name.as_str().starts_with("sec-websocket-")
}

/// Whether a 101 answers our request, RFC 6455 section 4.1.
fn check(headers: &HeaderMap, key: &str, subprotocol: Option<&str>) -> Result<(), HandshakeError> {
    let wrong = |what| Err(HandshakeError::Answer(what));
    if !has_token(headers, UPGRADE, "websocket") {
        return wrong("it does not say \"Upgrade: websocket\"");
    }
    if !has_token(headers, CONNECTION, "upgrade") {
        return wrong("it does not say \"Connection: Upgrade\"");
    }
    if only(headers, SEC_WEBSOCKET_ACCEPT) != Some(&accept_value(key.as_bytes())) {
        return wrong("its Sec-WebSocket-Accept is not for our key");
    }
    if headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
        return wrong("it selects an extension, and none was offered");
    }
    if let Some(selected) = headers.get(SEC_WEBSOCKET_PROTOCOL)
        && subprotocol.is_none_or(|offered| selected != offered)
    {
        return wrong("it selects a subprotocol that was not offered");
    }
    Ok(())
}

async fn refusal(response: Response<Incoming>) -> HandshakeError {
    const MAX_TEXT_BYTES: usize = 512;

    let status = response.status().as_u16();
    let mut body = response.into_body();
    let mut text = Vec::new();
    while text.len() < MAX_TEXT_BYTES {
        let Some(Ok(frame)) = body.frame().await else {
            break;
        };
        if let Ok(data) = frame.into_data() {
            text.extend_from_slice(&data[..data.len().min(MAX_TEXT_BYTES - text.len())]);
        }
    }
    HandshakeError::Refused { status, body: String::from_utf8_lossy(&text).into_owned() }
}

/// Section 4.2.2: the key "concatenated with the string
/// "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"", by SHA-1, in base64.
fn accept_value(key: &[u8]) -> HeaderValue {
    let hash = Sha1::new()
        .chain_update(key)
        .chain_update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
        .finalize();
    HeaderValue::try_from(STANDARD.encode(hash)).expect("base64 is ASCII")
}

pub(super) fn is_on(websocket_path: &Option<Arc<str>>, path: &str) -> bool {
    websocket_path.as_deref().is_none_or(|expected| expected == path)
}

/// The value of a header that comes exactly once.
fn only(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

fn has_token(headers: &HeaderMap, name: impl AsHeaderName, token: &str) -> bool {
    tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token))
}

/// The members of a header that is a list, be it in one line or in several.
fn tokens(headers: &HeaderMap, name: impl AsHeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        net::{TcpListener, TcpStream},
    };

    use super::{super::UpgradeRequired, *};

    /// The request of RFC 6455 section 1.2, less its last line.
    const HEAD: &str = "GET /rsocket HTTP/1.1\r\nHost: server.example.com\r\n\
        Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\n\
        Sec-WebSocket-Version: 13\r\n";

    /// The value that RFC 6455, section 1.3 computes for it.
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    // ----- our server, a scripted client

    #[tokio::test]
    async fn the_server_answers_the_example_of_the_rfc() {
        let (answer, outcome) = serve(&format!("{HEAD}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
        assert!(answer.contains("upgrade: websocket\r\n"), "{answer}");
        assert!(answer.contains("connection: upgrade\r\n"), "{answer}");
        assert!(answer.contains(&format!("sec-websocket-accept: {ACCEPT}\r\n")), "{answer}");
        assert!(!answer.contains("sec-websocket-protocol"), "{answer}");
        assert!(!answer.contains("sec-websocket-extensions"), "{answer}");
        let (_, leftover, subprotocol) = websocket(outcome);
        assert!(leftover.is_empty());
        assert_eq!(subprotocol, None);
    }

    #[tokio::test]
    async fn the_server_keeps_what_came_behind_the_request() {
        let (_, outcome) = serve(&format!("{HEAD}\r\n\u{2}frames")).await;
        let (_, leftover, _) = websocket(outcome);
        assert_eq!(leftover, "\u{2}frames");
    }

    #[tokio::test]
    async fn the_server_selects_rsocket_and_no_extension() {
        for (offer, selected) in [
            ("Sec-WebSocket-Protocol: rsocket\r\n", Some("rsocket")),
            ("Sec-WebSocket-Protocol: graphql-ws, rsocket\r\n", Some("rsocket")),
            ("Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: rsocket\r\n", Some("rsocket")),
            ("Sec-WebSocket-Protocol: graphql-ws\r\n", None),
            ("Sec-WebSocket-Extensions: permessage-deflate\r\n", None),
        ] {
            let (answer, outcome) = serve(&format!("{HEAD}{offer}\r\n")).await;
            assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
            let named = answer.contains("sec-websocket-protocol: rsocket\r\n");
            assert_eq!(named, selected.is_some(), "{answer}");
            assert!(!answer.contains("sec-websocket-extensions"), "{answer}");
            assert_eq!(websocket(outcome).2, selected);
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
            assert!(matches!(outcome, Ok(Accepted::Http)), "{outcome:?}");
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
        assert!(matches!(outcome, Ok(Accepted::Http)));
    }

    // ----- our client, a scripted server

    #[tokio::test]
    async fn the_client_asks_as_the_rfc_says() {
        let headers = [("X-Tenant".to_owned(), "blue".to_owned())];
        let (request, _) = dial("HTTP/1.1 101 \r\n\r\n", &headers, Some("rsocket")).await;
        assert!(request.starts_with("GET /rsocket?v=1 HTTP/1.1\r\n"), "{request}");
        for line in [
            "host: example.com:7000",
            "upgrade: websocket",
            "connection: upgrade",
            "sec-websocket-version: 13",
            "sec-websocket-protocol: rsocket",
            "x-tenant: blue",
        ] {
            assert_eq!(request.matches(&format!("{line}\r\n")).count(), 1, "{request}");
        }
        let nonce = STANDARD.decode(key_in(&request)).unwrap();
        assert_eq!(nonce.len(), 16);
    }

    #[tokio::test]
    async fn the_client_checks_the_answer() {
        let good = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n";
        let (_, outcome) = dial(&format!("{good}\u{2}frames"), &[], Some("rsocket")).await;
        let (_, leftover) = outcome.unwrap();
        assert_eq!(leftover, "\u{2}frames");

        for (from, to, complaint) in [
            ("Upgrade: WebSocket\r\n", "", "Upgrade: websocket"),
            ("Upgrade: WebSocket", "Upgrade: h2c", "Upgrade: websocket"),
            ("Connection: Upgrade\r\n", "", "Connection: Upgrade"),
            ("{accept}", ACCEPT, "Sec-WebSocket-Accept"),
            ("Sec-WebSocket-Accept: {accept}\r\n", "", "Sec-WebSocket-Accept"),
            ("Upgrade: W", "Sec-WebSocket-Protocol: rsocket\r\nUpgrade: W", "subprotocol"),
            ("Upgrade: W", "Sec-WebSocket-Extensions: x\r\nUpgrade: W", "extension"),
        ] {
            let (_, outcome) = dial(&good.replacen(from, to, 1), &[], None).await;
            let error = outcome.unwrap_err();
            assert!(matches!(error, HandshakeError::Answer(_)), "{error}");
            assert!(error.to_string().contains(complaint), "{error}");
        }
    }

    #[tokio::test]
    async fn the_client_tells_the_start_of_a_refusal() {
        let long = "\u{1b}".repeat(2000);
        let answer = format!("HTTP/1.1 503 Busy\r\nContent-Length: 2000\r\n\r\n{long}");
        let (_, outcome) = dial(&answer, &[], None).await;
        let error = outcome.unwrap_err();
        let HandshakeError::Refused { status: 503, body } = &error else {
            panic!("{error}");
        };
        assert_eq!(body.len(), 512);
        assert!(!error.to_string().contains('\u{1b}'), "nothing for the terminal to obey");

        let (_, outcome) = dial("HTTP/1.1 401 Unauthorized\r\n\r\n", &[], None).await;
        let error = outcome.unwrap_err().to_string();
        assert_eq!(error, "the server refused the WebSocket with status 401");

        for nonsense in ["", "RSOCKET\r\n\r\n", "HTTP/1.1 101 Switching"] {
            let (_, outcome) = dial(nonsense, &[], None).await;
            assert!(matches!(outcome, Err(HandshakeError::Http(_))), "{outcome:?}");
        }
    }

    #[tokio::test]
    async fn the_client_sends_nothing_it_cannot_send() {
        for (host, path, name, value) in [
            ("exa\nmple", "/", "X", "y"),
            ("example.com", "no-slash", "X", "y"),
            ("example.com", "/a b", "X", "y"),
            ("example.com", "/", "not a name", "y"),
            ("example.com", "/", "X", "split\r\nX-Evil: y"),
            ("example.com", "/", "sec-webSocket-key", "y"),
            ("example.com", "/", "Content-Length", "5"),
            ("example.com", "/", "Host", "other"),
        ] {
            let headers = [(name.to_owned(), value.to_owned())];
            let outcome = connect(duplex(100).0, host, path, &headers, None).await;
            assert!(matches!(outcome, Err(HandshakeError::Unusable(_))), "{outcome:?}");
        }
    }

    // ----- helpers

    fn handler() -> Arc<dyn HttpHandler> {
        struct Health(UpgradeRequired);

        impl HttpHandler for Health {
            fn handle(&self, method: &str, path: &str) -> HttpResponse {
                match (method, path) {
                    ("GET" | "HEAD", "/health") => HttpResponse {
                        status: 200,
                        content_type: "application/json".into(),
                        body: Bytes::from_static(b"\"fine\""),
                    },
                    (_, "/odd") => HttpResponse::text(101, "no status for a plain answer"),
                    _ => self.0.handle(method, path),
                }
            }
        }

        Arc::new(Health(UpgradeRequired { path: Some("/rsocket".into()) }))
    }

    async fn tcp_pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    /// Sends `bytes` to our server over TCP and reads to the end of its answers.
    async fn serve(bytes: &str) -> (String, Result<Accepted<TcpStream>, HandshakeError>) {
        let (mut near, far) = tcp_pair().await;
        near.write_all(bytes.as_bytes()).await.unwrap();
        near.shutdown().await.unwrap();
        let mut outcome = accept(far, handler(), Some("/rsocket".into())).await;
        if let Ok(Accepted::WebSocket { io, .. }) = &mut outcome {
            io.shutdown().await.unwrap();
        }
        let mut answer = Vec::new();
        // An end with unread bytes on the other side is a reset, after the answer
        let _ = near.read_to_end(&mut answer).await;
        (String::from_utf8(answer).unwrap(), outcome)
    }

    /// Lets our client dial a server that says `answer`, with `{accept}` filled in, and hangs up.
    async fn dial(
        answer: &str,
        headers: &[(String, String)],
        subprotocol: Option<&str>,
    ) -> (String, Result<(DuplexStream, Bytes), HandshakeError>) {
        let (near, mut far) = duplex(10_000);
        let server = async {
            let mut request = String::new();
            while !request.ends_with("\r\n\r\n") {
                request.push(far.read_u8().await.unwrap().into());
            }
            let accept = accept_value(key_in(&request).as_bytes());
            let answer = answer.replace("{accept}", accept.to_str().unwrap());
            far.write_all(answer.as_bytes()).await.unwrap();
            drop(far);
            request
        };
        let client = connect(near, "example.com:7000", "/rsocket?v=1", headers, subprotocol);
        tokio::join!(server, client)
    }

    fn key_in(request: &str) -> &str {
        let (_, rest) = request.split_once("sec-websocket-key: ").unwrap();
        rest.split_once("\r\n").unwrap().0
    }

    fn websocket<IO: fmt::Debug>(
        outcome: Result<Accepted<IO>, HandshakeError>,
    ) -> (IO, Bytes, Option<&'static str>) {
        match outcome {
            Ok(Accepted::WebSocket { io, leftover, subprotocol }) => (io, leftover, subprotocol),
            other => panic!("no WebSocket: {other:?}"),
        }
    }
}
