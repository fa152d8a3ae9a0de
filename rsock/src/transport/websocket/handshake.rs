//! The opening handshake of RFC 6455, section 4: HTTP until 101, raw bytes from there on.
//!
//! A server's part is here without the HTTP around it: a request becomes an answer, and whoever serves
//! the port sends it. A client's is whole: hyper speaks the HTTP, and when it has switched protocols the
//! connection is taken out of it again, with whatever it had read beyond the handshake.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{
    Method, Request, Response, StatusCode, Uri, Version,
    body::Incoming,
    header::{
        AUTHORIZATION, AsHeaderName, CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName,
        HeaderValue, LOCATION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
    },
    http::uri::PathAndQuery,
};
use hyper_util::rt::TokioIo;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncWrite};

use super::HandshakeError;
use crate::error::ConnectError;

/// The room that a server has for a request's head, and hyper for its buffers: cookies and tokens
/// fit.
pub(crate) const MAX_HEAD_BYTES: usize = 16 * 1024;

/// The one version of the protocol.
const VERSION: HeaderValue = HeaderValue::from_static("13");

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

/// As the RFC's example has it: there are peers that compare it letter by letter.
const CONNECTION_UPGRADE: HeaderValue = HeaderValue::from_static("Upgrade");

/// The name by convention; RSocket itself defines none, so it is never required.
pub(crate) const SUBPROTOCOL: &str = "rsocket";

/// Whether a request asks for a WebSocket.
pub(crate) fn is_asked_for(headers: &HeaderMap) -> bool {
    has_token(headers, UPGRADE, "websocket")
}

/// The status and text of an answer that refuses a WebSocket.
pub(crate) type Refusal = (StatusCode, &'static str);

/// The 101 for a request that asks for a WebSocket, or what is wrong with it; RFC 6455 section 4.2. Of the
/// subprotocols that it offers, the first of those known is selected.
pub(crate) fn open(
    method: &Method,
    version: Version,
    headers: &HeaderMap,
    subprotocols: &[HeaderValue],
) -> Result<Response<()>, Refusal> {
    let bad = |text| Err((StatusCode::BAD_REQUEST, text));
    if method != Method::GET {
        return bad("A WebSocket begins with a GET.\n");
    }
    if version != Version::HTTP_11 {
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
    if let Some(selected) = select(headers, subprotocols) {
        answer.insert(SEC_WEBSOCKET_PROTOCOL, selected.clone());
    }
    Ok(response)
}

/// The first subprotocol that a request offers and that is known.
pub(crate) fn select<'a>(headers: &HeaderMap, known: &'a [HeaderValue]) -> Option<&'a HeaderValue> {
    let of_ours = |offered: &str| known.iter().find(|known| **known == offered);
    tokens(headers, SEC_WEBSOCKET_PROTOCOL).find_map(of_ours)
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
/// `host` is what the Host header says unless `headers` do: the name, and the port if it is not the
/// scheme's own. So is `authorization`.
pub(crate) async fn connect<IO>(
    io: IO,
    host: &str,
    path_and_query: &str,
    headers: &Headers,
    authorization: Option<&str>,
) -> Result<(IO, Bytes), HandshakeError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let key = new_key()?;
    let request = request(host, path_and_query, headers, authorization, &key)?;
    let (mut sender, mut connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .handshake(TokioIo::new(io))
        .await?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            check(response.headers(), &key, &headers.0)
        } else {
            Err(refusal(response).await)
        }
    };

    let mut exchange = pin!(exchange);
    let mut finished = None;
    poll_fn(|cx| {
        if finished.is_none()
            && let Poll::Ready(outcome) = Pin::new(&mut connection).poll(cx)
        {
            finished = Some(outcome);
        }
        match exchange.as_mut().poll(cx) {
            // How the connection ended may not have been told to the exchange.
            Poll::Ready(Err(HandshakeError::Http(told))) if told.is_canceled() => {
                let ended = finished.take().and_then(Result::err);
                Poll::Ready(Err(HandshakeError::Http(ended.unwrap_or(told))))
            }
            outcome => outcome,
        }
    })
    .await?;
    if finished.is_none() {
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

/// Headers that a user adds to the handshake.
#[derive(Clone, Debug, Default)]
pub(crate) struct Headers(HeaderMap);

impl Headers {
    /// Those that belong to the handshake cannot be among them, save Host and the subprotocols that are
    /// offered.
    pub(crate) fn new(given: &[(String, String)]) -> Result<Self, ConnectError> {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            let wrong = |problem| Err(ConnectError::Header { name: name.clone(), problem });
            let Ok(parsed) = HeaderName::try_from(name) else {
                return wrong("it is not a valid name of a header");
            };
            if is_ours(&parsed) {
                return wrong("it belongs to the handshake itself and cannot be set");
            }
            let Ok(mut value) = HeaderValue::try_from(value) else {
                return wrong("its value has characters that no header can have");
            };
            if parsed == HOST && (value.is_empty() || headers.contains_key(HOST)) {
                return wrong("a request has one, with a value");
            }
            // It may be a credential: keep it out of hyper's logs, and of ours.
            value.set_sensitive(true);
            headers.append(parsed, value);
        }
        Ok(Self(headers))
    }
}

fn request(
    host: &str,
    path_and_query: &str,
    extra: &Headers,
    authorization: Option<&str>,
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
    if let Some(authorization) = authorization {
        let mut value = HeaderValue::try_from(authorization).expect("base64 is ASCII");
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    // They replace those of ours that are among them.
    headers.extend(extra.0.clone());
    Ok(request)
}

/// Whether a header is the handshake's own, or would change where the request ends.
fn is_ours(name: &HeaderName) -> bool {
    [UPGRADE, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING].contains(name)
        || (name.as_str().starts_with("sec-websocket-") && name != SEC_WEBSOCKET_PROTOCOL)
}

/// Whether a 101 answers our request, RFC 6455 section 4.1.
fn check(headers: &HeaderMap, key: &str, sent: &HeaderMap) -> Result<(), HandshakeError> {
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
    // A header without a value selects nothing; there are gateways that copy it so.
    if tokens(headers, SEC_WEBSOCKET_EXTENSIONS).any(|selected| !selected.is_empty()) {
        return wrong("it selects an extension, and none was offered");
    }
    let mut selected =
        tokens(headers, SEC_WEBSOCKET_PROTOCOL).filter(|selected| !selected.is_empty());
    let was_offered =
        |selected| tokens(sent, SEC_WEBSOCKET_PROTOCOL).any(|offered| offered == selected);
    if selected.next().is_some_and(|selected| !was_offered(selected)) {
        return wrong("it selects a subprotocol that was not offered");
    }
    if selected.next().is_some() {
        return wrong("it selects more than one subprotocol");
    }
    Ok(())
}

/// How long the text of a refusal is waited for: its status has come, and is to be told.
const TEXT_LIMIT: Duration = Duration::from_millis(250);

async fn refusal(response: Response<Incoming>) -> HandshakeError {
    const MAX_TEXT_BYTES: usize = 512;

    let status = response.status().as_u16();
    let location = response.headers().get(LOCATION).map(|location| {
        let shown = &location.as_bytes()[..location.len().min(MAX_TEXT_BYTES)];
        String::from_utf8_lossy(shown).into_owned()
    });
    let mut body = response.into_body();
    let mut text = Vec::new();
    let reading = async {
        while text.len() < MAX_TEXT_BYTES {
            let Some(Ok(frame)) = body.frame().await else {
                break;
            };
            if let Ok(data) = frame.into_data() {
                text.extend_from_slice(&data[..data.len().min(MAX_TEXT_BYTES - text.len())]);
            }
        }
    };
    // What has come until then is told.
    let _ = tokio::time::timeout(TEXT_LIMIT, reading).await;
    HandshakeError::Refused { status, location, body: String::from_utf8_lossy(&text).into_owned() }
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
        let headers = headers(&[("X-Tenant", "blue"), ("Sec-WebSocket-Protocol", "rsocket")]);
        let (request, _) = dial("HTTP/1.1 101 \r\n\r\n", &headers).await;
        assert!(request.starts_with("GET /rsocket?v=1 HTTP/1.1\r\n"), "{request}");
        for line in [
            "host: example.com:7000",
            "upgrade: websocket",
            "connection: Upgrade",
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
        let none = Headers::default();
        let (_, outcome) = dial(&format!("{good}\u{2}frames"), &none).await;
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
            let (_, outcome) = dial(&good.replacen(from, to, 1), &none).await;
            let error = outcome.unwrap_err();
            assert!(matches!(error, HandshakeError::Answer(_)), "{error}");
            assert!(error.to_string().contains(complaint), "{error}");
        }
    }

    #[tokio::test]
    async fn the_client_tells_the_start_of_a_refusal() {
        let long = "\u{1b}".repeat(2000);
        let answer = format!("HTTP/1.1 503 Busy\r\nContent-Length: 2000\r\n\r\n{long}");
        let none = Headers::default();
        let (_, outcome) = dial(&answer, &none).await;
        let error = outcome.unwrap_err();
        let HandshakeError::Refused { status: 503, body, location: None } = &error else {
            panic!("{error}");
        };
        assert_eq!(body.len(), 512);
        assert!(!error.to_string().contains('\u{1b}'), "nothing for the terminal to obey");

        let (_, outcome) = dial("HTTP/1.1 401 Unauthorized\r\n\r\n", &none).await;
        let error = outcome.unwrap_err().to_string();
        assert_eq!(error, "the server refused the WebSocket with status 401");

        for nonsense in ["", "RSOCKET\r\n\r\n", "HTTP/1.1 101 Switching"] {
            let (_, outcome) = dial(nonsense, &none).await;
            assert!(matches!(outcome, Err(HandshakeError::Http(_))), "{outcome:?}");
        }
    }

    #[tokio::test]
    async fn the_client_sends_nothing_it_cannot_send() {
        for (host, path) in
            [("exa\nmple", "/"), ("example.com", "no-slash"), ("example.com", "/a b")]
        {
            let headers = Headers::default();
            let outcome = connect(duplex(100).0, host, path, &headers, None).await;
            assert!(matches!(outcome, Err(HandshakeError::Unusable(_))), "{outcome:?}");
        }
        for (name, value, problem) in [
            ("not a name", "y", "not a valid name"),
            ("X", "split\r\nX-Evil: y", "its value"),
            ("sec-webSocket-key", "y", "belongs to the handshake"),
            ("Content-Length", "5", "belongs to the handshake"),
            ("Connection", "close", "belongs to the handshake"),
            ("Host", "", "a request has one"),
        ] {
            let error = Headers::new(&[(name.to_owned(), value.to_owned())]).unwrap_err();
            assert!(matches!(error, ConnectError::Header { .. }), "{error}");
            assert!(error.to_string().contains(problem), "{error}");
            assert!(error.to_string().contains(name), "{error}");
        }
        let host = ("Host".to_owned(), "a".to_owned());
        Headers::new(&[host.clone(), host]).unwrap_err();
    }

    #[tokio::test]
    async fn a_host_and_credentials_that_are_given_replace_ours() {
        let given = headers(&[("HOST", "api.example"), ("authorization", "Bearer s3cret")]);
        assert!(!format!("{given:?}").contains("s3cret"), "{given:?}");
        let (near, mut far) = duplex(10_000);
        let connecting = connect(near, "example.com", "/", &given, Some("Basic YTpi"));
        let reading = async {
            let request = request_of(&mut far).await;
            drop(far);
            request
        };
        let (_, request) = tokio::join!(connecting, reading);
        assert_eq!(request.matches("host: api.example\r\n").count(), 1, "{request}");
        assert_eq!(request.matches("host:").count(), 1, "{request}");
        assert_eq!(request.matches("authorization: Bearer s3cret\r\n").count(), 1, "{request}");
        assert_eq!(request.matches("authorization:").count(), 1, "{request}");
    }

    #[tokio::test]
    async fn an_empty_selection_selects_nothing() {
        let good = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n";
        let offering = headers(&[("Sec-WebSocket-Protocol", "a, b")]);
        for (headers, more, is_right) in [
            (&Headers::default(), "Sec-WebSocket-Protocol: \r\n", true),
            (&Headers::default(), "Sec-WebSocket-Extensions:\r\n", true),
            (&offering, "", true),
            (&offering, "Sec-WebSocket-Protocol: b\r\n", true),
            (&offering, "Sec-WebSocket-Protocol: a, b\r\n", false),
            (&offering, "Sec-WebSocket-Protocol: c\r\n", false),
        ] {
            let (_, outcome) = dial(&format!("{good}{more}\r\n"), headers).await;
            assert_eq!(outcome.is_ok(), is_right, "{more}");
        }
    }

    #[tokio::test]
    async fn a_refusal_is_told_in_a_line_with_where_to_go() {
        let refusal = async |answer: &str| {
            let (_, outcome) = dial(answer, &Headers::default()).await;
            outcome.unwrap_err().to_string()
        };
        let told = refusal(
            "HTTP/1.1 301 Moved\r\nLocation: https://x/\r\nContent-Length: 14\r\n\r\n<html>moved...",
        );
        assert_eq!(
            told.await,
            "the server refused the WebSocket with status 301, Location: https://x/"
        );
        let told = refusal("HTTP/1.1 404 No\r\nContent-Length: 11\r\n\r\nfirst\nsecond");
        assert_eq!(told.await, "the server refused the WebSocket with status 404: first");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_whose_text_does_not_come_is_told_all_the_same() {
        let (near, mut far) = duplex(10_000);
        let headers = Headers::default();
        let connecting = connect(near, "example.com", "/", &headers, None);
        let answering = async {
            request_of(&mut far).await;
            far.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 10\r\n\r\nhalf").await.unwrap();
        };
        let (outcome, ()) = tokio::join!(connecting, answering);
        let told = outcome.unwrap_err().to_string();
        assert_eq!(told, "the server refused the WebSocket with status 503: half");
    }

    // ----- helpers

    fn headers(given: &[(&str, &str)]) -> Headers {
        let owned: Vec<_> =
            given.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Headers::new(&owned).unwrap()
    }

    /// The head of a request.
    async fn request_of(far: &mut DuplexStream) -> String {
        let mut request = String::new();
        while !request.ends_with("\r\n\r\n") {
            request.push(far.read_u8().await.unwrap().into());
        }
        request
    }

    /// Lets our client dial a server that says `answer`, with `{accept}` filled in, and hangs up.
    async fn dial(
        answer: &str,
        headers: &Headers,
    ) -> (String, Result<(DuplexStream, Bytes), HandshakeError>) {
        let (near, mut far) = duplex(10_000);
        let server = async {
            let request = request_of(&mut far).await;
            let accept = accept_value(key_in(&request).as_bytes());
            let answer = answer.replace("{accept}", accept.to_str().unwrap());
            far.write_all(answer.as_bytes()).await.unwrap();
            drop(far);
            request
        };
        let client = connect(near, "example.com:7000", "/rsocket?v=1", headers, None);
        tokio::join!(server, client)
    }

    fn key_in(request: &str) -> &str {
        let (_, rest) = request.split_once("sec-websocket-key: ").unwrap();
        rest.split_once("\r\n").unwrap().0
    }
}
