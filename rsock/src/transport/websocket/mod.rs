//! RSocket over WebSocket: one frame is one binary message.
//!
//! ```text
//!            handshake (hyper)                 codec (ours, no I/O)
//!   IO ─── open / connect ──▶ IO, leftover ── Decoder ──▶ messages
//!                                          ◀─ encode_header in front of each frame
//! ```
//!
//! hyper does the HTTP of the opening handshake and hands the connection back; from then on
//! nothing of it is on the way of a frame. A server's HTTP is in `crate::http`.

mod codec;
mod framing;
mod handshake;
mod head;

use std::{error, fmt};

use rsock_proto::Printable;

pub(crate) use codec::{
    Decoder, Incoming, Opcode, Role, apply_mask, encode_control, encode_header,
};
pub(crate) use framing::WebSocketFraming;
pub(crate) use handshake::{
    Headers, MAX_HEAD_BYTES, Refusal, SUBPROTOCOL, connect, is_asked_for, name_upgrade,
    open as open_websocket, select,
};
pub use head::HttpHead;

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
        /// The Location that the answer names.
        location: Option<String>,
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
            Self::Http(error) if error.is_parse() => {
                write!(f, "what answers does not speak HTTP ({error})")
            }
            Self::Http(error) => error.fmt(f),
            Self::Random(error) => write!(f, "no random key for a WebSocket: {error}"),
            Self::Refused { status, location, body } => {
                write!(f, "the server refused the WebSocket with status {status}")?;
                if let Some(location) = location {
                    write!(f, ", Location: {}", Printable(location))?;
                }
                // A page is for browsers, and more than a line is not an error's text.
                match body.trim().lines().next().unwrap_or_default().trim_end() {
                    "" => Ok(()),
                    page if page.starts_with('<') => Ok(()),
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
    /// A text message that is not UTF-8.
    TextNotUtf8,
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
            Self::CloseReason | Self::TextNotUtf8 => 1007,
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
            Self::TextNotUtf8 => "WebSocket: text message that is not UTF-8",
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

    use super::*;

    #[test]
    fn masks_go_on_beyond_one_pool_and_differ() {
        let mut masks = MaskKeys::new();
        let distinct: HashSet<_> = (0..1000).map(|_| masks.next()).collect();
        assert!(distinct.len() > 990);
    }
}
