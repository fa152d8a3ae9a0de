//! The opening handshake of RFC 6455, section 4: HTTP until 101, raw bytes from there on.
//!
//! A server's part is here without the HTTP around it: a request becomes an answer, and whoever serves
//! the port sends it. A client's is whole: hyper speaks the HTTP, and when it has switched protocols the
//! connection is taken out of it again, with whatever it had read beyond the handshake.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{
    Method, Request, Response, StatusCode, Uri, Version,
    body::Incoming,
    header::{
        AsHeaderName, CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue,
        SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
    },
    http::uri::PathAndQuery,
};
use hyper_util::rt::TokioIo;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncWrite};

use super::HandshakeError;

/// The room that a server has for a request's head, and hyper for its buffers: cookies and tokens
/// fit.
pub(crate) const MAX_HEAD_BYTES: usize = 16 * 1024;

/// The one version of the protocol.
const VERSION: HeaderValue = HeaderValue::from_static("13");

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

const CONNECTION_UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");

/// The name by convention; RSocket itself defines none, so it is never required.
const SUBPROTOCOL: &str = "rsocket";

/// Whether a request asks for a WebSocket.
pub(crate) fn is_asked_for(headers: &HeaderMap) -> bool {
    has_token(headers, UPGRADE, "websocket")
}

/// The status and text of an answer that refuses a WebSocket.
pub(crate) type Refusal = (StatusCode, &'static str);

/// The 101 for a request that asks for a WebSocket, or what is wrong with it; RFC 6455 section 4.2.
pub(crate) fn open<B>(request: &Request<B>) -> Result<Response<()>, Refusal> {
    let headers = request.headers();
    let bad = |text| Err((StatusCode::BAD_REQUEST, text));
    if request.method() != Method::GET {
        return bad("A WebSocket begins with a GET.\n");
    }
    if request.version() != Version::HTTP_11 {
        return bad("A WebSocket begins with HTTP/1.1.\n");
    }
    if !has_token(headers, CONNECTION, "upgrade") {
        return bad("The header \"Connection: Upgrade\" is missing.\n");
    }
    // What follows the head would be taken for frames
    let has_body = headers.contains_key(TRANSFER_ENCODING)
        || headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0");
    if has_body {
        return bad("A request for a WebSocket has no body.\n");
    }
    // Section 4.4: a server answers other versions with the ones it speaks
    if only(headers, SEC_WEBSOCKET_VERSION) != Some(&VERSION) {
        let missing = "The header \"Sec-WebSocket-Version: 13\" is missing.\n";
        return Err((StatusCode::UPGRADE_REQUIRED, missing));
    }
    let key = only(headers, SEC_WEBSOCKET_KEY)
        .filter(|key| STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16));
    let Some(key) = key else {
        return bad("The header Sec-WebSocket-Key must be 16 bytes in base64.\n");
    };

    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(UPGRADE, WEBSOCKET);
    answer.insert(CONNECTION, CONNECTION_UPGRADE);
    answer.insert(SEC_WEBSOCKET_ACCEPT, accept_value(key.as_bytes()));
    if tokens(headers, SEC_WEBSOCKET_PROTOCOL).any(|offered| offered == SUBPROTOCOL) {
        answer.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    Ok(response)
}

/// Adds the headers that an answer of 426 must have: what to upgrade to (RFC 9110, section 15.5.22:
/// "The server MUST send an Upgrade header field in a 426 response").
pub(crate) fn name_upgrade(headers: &mut HeaderMap) {
    headers.insert(UPGRADE, WEBSOCKET);
    headers.insert(CONNECTION, CONNECTION_UPGRADE);
    headers.insert(SEC_WEBSOCKET_VERSION, VERSION);
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    /// The value that RFC 6455, section 1.3 computes for it.
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

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
}
