//! RSocket over WebSocket: one frame is one binary message.
//!
//! ```text
//!            handshake (hyper)                 codec (ours, no I/O)
//!   IO ── accept / connect ──▶ IO, leftover ── Decoder ──▶ messages
//!                                           ◀─ encode_header in front of each frame
//! ```
//!
//! hyper does the HTTP of the opening handshake and hands the connection back; from then on
//! nothing of it is on the way of a frame.

mod codec;
mod framing;
mod handshake;

use std::{borrow::Cow, error, fmt, sync::Arc};

use bytes::Bytes;
use rsock_proto::Printable;

pub(crate) use codec::{
    Decoder, Incoming, Opcode, Role, apply_mask, encode_control, encode_header,
};
pub(crate) use framing::WebSocketFraming;
pub(crate) use handshake::{Accepted, accept, connect};

/// Answers plain HTTP requests on the WebSocket port (health, metrics).
pub trait HttpHandler: Send + Sync + 'static {
    /// The answer to one request; `path` is without the query. HEAD requests may be answered like
    /// GET: their body is not sent.
    fn handle(&self, method: &str, path: &str) -> HttpResponse;
}

/// An answer to a plain HTTP request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpResponse {
    /// The status code, from 200 to 999; others are sent as 500.
    pub status: u16,
    /// The media type of the body.
    pub content_type: Cow<'static, str>,
    /// All of the body.
    pub body: Bytes,
}

impl HttpResponse {
    /// An answer in plain text.
    pub fn text(status: u16, body: impl Into<Bytes>) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8".into(), body: body.into() }
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
    fn handle(&self, _method: &str, path: &str) -> HttpResponse {
        if handshake::is_on(&self.path, path) {
            HttpResponse::text(
                426,
                "This is an RSocket server. Connect with an RSocket client over WebSocket \
                 (ws:// or wss://), not with plain HTTP.\n",
            )
        } else {
            HttpResponse::text(404, "Not found.\n")
        }
    }
}

/// Unpredictable masks for a client's frames, from the operating system.
///
/// Section 10.3 of RFC 6455 asks for masks that the application's peer cannot foresee, so that no
/// payload can be made to look like HTTP to an intermediary. One system call fills a pool of 256.
pub(crate) struct MaskKeys {
    /// Filled at the first use: an idle connection has none.
    pool: Vec<u8>,
}

/// 256 masks: at a million messages a second still under 4,000 system calls.
const POOL_BYTES: usize = 1024;

impl MaskKeys {
    pub(crate) fn new() -> Self {
        Self { pool: Vec::new() }
    }

    /// A mask for the next frame.
    ///
    /// # Panics
    ///
    /// If the operating system has stopped giving out random bytes: a guessable mask is no mask.
    pub(crate) fn next(&mut self) -> [u8; 4] {
        if self.pool.is_empty() {
            self.pool.resize(POOL_BYTES, 0);
            getrandom::fill(&mut self.pool)
                .expect("the source that gave the handshake its key gives random bytes");
        }
        let (_, key) = self.pool.split_last_chunk().expect("the pool is whole masks");
        let key = *key;
        self.pool.truncate(self.pool.len() - key.len());
        key
    }
}

/// Why there is no WebSocket.
#[derive(Debug)]
pub(crate) enum HandshakeError {
    /// The server switched protocols, but not by the rules.
    Answer(&'static str),
    /// The connection was lost, or the peer does not speak HTTP.
    Http(hyper::Error),
    /// The operating system gave no random bytes for a key.
    Random(getrandom::Error),
    /// The server answered with something else.
    Refused {
        /// The status code.
        status: u16,
        /// The start of the body, at most 512 bytes of it.
        body: String,
    },
    /// The host, path, subprotocol or header we were asked to send cannot be sent.
    Unusable(String),
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(what) => write!(f, "the server's WebSocket handshake is wrong: {what}"),
            Self::Http(error) => write!(f, "WebSocket handshake: {error}"),
            Self::Random(error) => write!(f, "no random key for a WebSocket: {error}"),
            Self::Refused { status, body } => {
                write!(f, "the server refused the WebSocket with status {status}")?;
                match body.trim() {
                    "" => Ok(()),
                    text => write!(f, ": {}", Printable(text)),
                }
            }
            Self::Unusable(what) => write!(f, "unusable for a WebSocket handshake: {what}"),
        }
    }
}

impl error::Error for HandshakeError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Http(error) => Some(error),
            Self::Answer(_) | Self::Random(_) | Self::Refused { .. } | Self::Unusable(_) => None,
        }
    }
}

impl From<hyper::Error> for HandshakeError {
    fn from(error: hyper::Error) -> Self {
        Self::Http(error)
    }
}

/// How the peer broke RFC 6455, or went beyond what we take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WebSocketError {
    /// A close frame with a status code that must not be sent.
    CloseCode(u16),
    /// A close frame with a body of one byte.
    CloseCutShort,
    /// A close frame whose reason is not UTF-8.
    CloseReason,
    /// A control frame without FIN.
    ControlFragmented,
    /// A control frame beyond 125 bytes.
    ControlTooLong,
    /// A length of 2^63 or more.
    LengthTopBit,
    /// A server masked its frame.
    Masked,
    /// A new message before the last fragment of the one before.
    MessageInterrupted,
    /// A message, or the sum of its fragments, beyond our limit.
    MessageTooBig {
        /// The limit.
        max: usize,
    },
    /// A continuation frame where no message was begun.
    NothingToContinue,
    /// A bit set that belongs to extensions, of which we negotiate none.
    ReservedBits,
    /// An opcode without a meaning.
    ReservedOpcode(u8),
    /// A text message; RSocket is binary.
    TextMessage,
    /// A message of endless empty fragments.
    TooManyEmptyFragments,
    /// A client did not mask its frame.
    Unmasked,
}

impl WebSocketError {
    /// The status code our close frame answers with, RFC 6455 section 7.4.1.
    pub(crate) fn close_code(self) -> u16 {
        match self {
            Self::CloseCode(_)
            | Self::CloseCutShort
            | Self::ControlFragmented
            | Self::ControlTooLong
            | Self::LengthTopBit
            | Self::Masked
            | Self::MessageInterrupted
            | Self::NothingToContinue
            | Self::ReservedBits
            | Self::ReservedOpcode(_)
            | Self::Unmasked => 1002,
            Self::TextMessage => 1003,
            Self::CloseReason => 1007,
            Self::MessageTooBig { .. } | Self::TooManyEmptyFragments => 1009,
        }
    }
}

impl WebSocketError {
    /// The mistake, in words.
    pub(crate) fn problem(self) -> &'static str {
        match self {
            Self::CloseCode(_) => "WebSocket: close frame with a forbidden status code",
            Self::CloseCutShort => "WebSocket: close frame with half a status code",
            Self::CloseReason => "WebSocket: close frame with a reason that is not UTF-8",
            Self::ControlFragmented => "WebSocket: fragmented control frame",
            Self::ControlTooLong => "WebSocket: control frame of more than 125 bytes",
            Self::LengthTopBit => "WebSocket: frame length with the top bit set",
            Self::Masked => "WebSocket: masked frame from a server",
            Self::MessageInterrupted => {
                "WebSocket: new message before the last fragment of the one before"
            }
            Self::MessageTooBig { .. } => "WebSocket: message longer than the frame limit",
            Self::NothingToContinue => "WebSocket: continuation frame outside of a message",
            Self::ReservedBits => "WebSocket: reserved bit set, but no extension was negotiated",
            Self::ReservedOpcode(_) => "WebSocket: reserved opcode",
            Self::TextMessage => "WebSocket: text message; RSocket frames are binary messages",
            Self::TooManyEmptyFragments => "WebSocket: too many empty fragments in one message",
            Self::Unmasked => "WebSocket: unmasked frame from a client",
        }
    }
}

impl fmt::Display for WebSocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.problem())?;
        match self {
            Self::CloseCode(code) => write!(f, " {code}"),
            Self::MessageTooBig { max } => write!(f, " of {max} bytes"),
            Self::ReservedOpcode(opcode) => write!(f, " {opcode:#x}"),
            _ => Ok(()),
        }
    }
}

impl error::Error for WebSocketError {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use bytes::{BufMut, BytesMut};
    use tokio::{
        io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[test]
    fn masks_go_on_beyond_one_pool_and_differ() {
        let mut masks = MaskKeys::new();
        let distinct: HashSet<_> = (0..1000).map(|_| masks.next()).collect();
        assert!(distinct.len() > 990);
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
        let server = tokio::spawn(accept(far, http(), Some("/rsocket".into())));
        let error = connect(near, "localhost", "/", &[], None).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the server refused the WebSocket with status 404: Not found."
        );
        assert!(matches!(server.await.unwrap(), Ok(Accepted::Http)));
    }

    /// Shakes hands and sends a message each way.
    async fn meet<IO>(near: IO, far: IO, subprotocol: Option<&'static str>)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + fmt::Debug + 'static,
    {
        let server = tokio::spawn(accept(far, http(), Some("/rsocket".into())));
        let headers = [("Authorization".to_owned(), "Bearer x".to_owned())];
        let target = "/rsocket?tenant=blue";
        let (mut near, leftover) =
            connect(near, "example.com:7000", target, &headers, subprotocol).await.unwrap();
        assert!(leftover.is_empty());
        let (mut far, leftover) = match server.await.unwrap().unwrap() {
            Accepted::WebSocket { io, leftover, subprotocol: agreed } => {
                assert_eq!(agreed, subprotocol);
                (io, leftover)
            }
            Accepted::Http => panic!("no WebSocket"),
        };
        assert!(leftover.is_empty());

        let mask = MaskKeys::new().next();
        let there = send(&mut near, Some(mask));
        let (_, received) = tokio::join!(there, receive(&mut far, Role::Server));
        assert_eq!(received, Incoming::Message(Bytes::from_static(BODY)));
        let back = send(&mut far, None);
        let (_, received) = tokio::join!(back, receive(&mut near, Role::Client));
        assert_eq!(received, Incoming::Message(Bytes::from_static(BODY)));
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

    async fn receive(io: &mut (impl AsyncRead + Unpin), role: Role) -> Incoming {
        let (mut decoder, mut input) = (Decoder::new(role, 1000), BytesMut::new());
        loop {
            if let Some(incoming) = decoder.decode(&mut input).unwrap() {
                return incoming;
            }
            assert_ne!(io.read_buf(&mut input).await.unwrap(), 0);
        }
    }

    fn http() -> Arc<dyn HttpHandler> {
        Arc::new(UpgradeRequired { path: Some("/rsocket".into()) })
    }

    async fn tcp_pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }
}
