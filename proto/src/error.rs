//! Errors by blame: the peer's (`Violation`), or none but the moment's or our caller's
//! (`RequestError`, `SendError`, `ControlError`), and what they mean on the wire.

use std::{error::Error, fmt, io, sync::Arc, time::Duration};

use crate::{config::MAX_FRAME_BYTES, printable::Printable};

/// An error code as it stands in an ERROR frame (all 32 bits, ERR-06).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ErrorCode(pub u32);

macro_rules! codes {
    ($($name:ident = $value:literal, $doc:literal;)*) => {
        impl ErrorCode {
            $(#[doc = $doc] pub const $name: Self = Self($value);)*

            /// The specification's name, if the code has one.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

codes! {
    INVALID_SETUP = 0x001, "SETUP is malformed, or of another version.";
    UNSUPPORTED_SETUP = 0x002, "Some parameter of SETUP cannot be supported.";
    REJECTED_SETUP = 0x003, "The server refuses the connection.";
    REJECTED_RESUME = 0x004, "The server refuses to resume.";
    CONNECTION_ERROR = 0x101, "Fatal: the connection closes at once.";
    CONNECTION_CLOSE = 0x102, "Graceful: the connection closes when its streams have ended.";
    APPLICATION_ERROR = 0x201, "The application failed the request.";
    REJECTED = 0x202, "The request was not processed; repeating it is safe.";
    CANCELED = 0x203, "The responder gave up; the request may have had effects.";
    INVALID = 0x204, "The request itself is invalid.";
}

impl ErrorCode {
    /// True for the codes 1–4, which answer SETUP and RESUME alone.
    pub const fn is_setup(self) -> bool {
        matches!(self.0, 0x001..=0x004)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "0x{:08x}", self.0),
        }
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a stream failed: the code and text of an ERROR frame, sent or received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamError {
    /// The code, unchanged (ERR-06, ERR-07).
    pub code: ErrorCode,
    /// The text. Received bytes that are not UTF-8 are replaced (ERR-03), and of a long text no more
    /// than `max_error_text_bytes` is kept.
    pub message: Arc<str>,
}

impl StreamError {
    /// An error of this code and text.
    pub fn new(code: ErrorCode, message: impl Into<Arc<str>>) -> Self {
        Self { code, message: message.into() }
    }

    /// As the peer's ERROR on stream 0: why the connection ends.
    pub(crate) fn ends_connection(self) -> CloseReason {
        CloseReason::Error { by: Side::Peer, code: self.code, message: self.message }
    }

    /// An ERROR of the peer's, of whose text at most `max` bytes are kept.
    pub(crate) fn received(code: ErrorCode, text: &[u8], max: usize) -> Self {
        Self::new(code, kept_text(text, max))
    }
}

/// Says that the rest of a text was not kept.
const CUT: char = '…';

/// A peer's text as it is kept: copied, so that it does not hold the buffer it came in, with what is
/// not UTF-8 replaced (ERR-03), and cut on a character boundary where it is longer than `max` bytes.
/// What is cut off is not looked at.
fn kept_text(text: &[u8], max: usize) -> String {
    let mut kept = String::from_utf8_lossy(&text[..boundary(text, max)]).into_owned();
    // A replacement is longer than what it replaces.
    let is_cut = text.len() > max || kept.len() > max;
    if is_cut {
        kept.truncate(boundary(kept.as_bytes(), max));
        kept.push(CUT);
    }
    kept
}

/// The last place up to `max` where a character of the text begins or the text ends. A character
/// has at most three bytes beside its first: more of them in a row are none of UTF-8.
fn boundary(text: &[u8], max: usize) -> usize {
    if text.len() <= max {
        return text.len();
    }
    let is_inside = |at: usize| text[at] & 0b1100_0000 == 0b1000_0000;
    (max.saturating_sub(3)..=max).rev().find(|at| !is_inside(*at)).unwrap_or(max)
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, Printable(&self.message))
    }
}

impl Error for StreamError {}

/// A peer's act that ends its connection. The answer on the wire follows from it alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// A frame shorter than its 6-byte header (FRAME-18, WS-04).
    FrameTooShort {
        /// Its length in bytes.
        len: usize,
    },
    /// A frame longer than the limit (TCP-05).
    FrameTooLong {
        /// The length announced or received.
        len: usize,
        /// The limit it breaks.
        max: usize,
    },
    /// SETUP or RESUME longer than accepted before anybody was (SETUP-30).
    FirstFrameTooLong {
        /// The length announced or received.
        len: usize,
        /// The limit it breaks.
        max: usize,
    },
    /// No more of a frame has come for too long.
    FrameStalled {
        /// How much of it has come, in bytes.
        bytes: usize,
        /// How long it may take until there is more.
        timeout: Duration,
    },
    /// The reserved top bit of the stream id is set (FRAME-05).
    ReservedStreamIdBit,
    /// The fixed part of a frame is cut short (FRAME-16).
    Truncated {
        /// The frame's type, by the specification's name.
        frame: &'static str,
        /// The field that does not fit.
        field: &'static str,
    },
    /// Metadata longer than the frame that holds it (FRAME-10).
    MetadataLength {
        /// The length the frame announces; 0 when not even the length fits.
        announced: usize,
        /// The bytes there are.
        available: usize,
    },
    /// A frame of unknown type that asks not to be ignored (FRAME-14, EXT-03).
    UnknownFrame {
        /// The type's number.
        frame_type: u8,
    },
    /// The first frame is neither SETUP nor RESUME (SETUP-02).
    FirstFrame {
        /// The first frame's type number.
        frame_type: u8,
    },
    /// SETUP or RESUME on a stream id other than 0 (SETUP-03).
    SetupOnStream,
    /// A SETUP that cannot be read to its end (SETUP-28).
    MalformedSetup {
        /// The field that does not fit.
        field: &'static str,
    },
    /// A protocol version other than 1.0 (SETUP-06).
    Version {
        /// The major version asked for.
        major: u16,
        /// The minor version asked for.
        minor: u16,
    },
    /// A keepalive interval or lifetime of 0, or above 2^31−1 ms (SETUP-07).
    KeepaliveTimes,
    /// SETUP asks for resume, which is not on offer (SETUP-09).
    ResumeUnavailable,
    /// SETUP asks for resume with an empty token (SETUP-11).
    EmptyResumeToken,
    /// SETUP asks for leases, which are not on offer (LEASE-16).
    LeaseUnsupported,
    /// RESUME of another protocol version, with an empty token, or with a position above 2^63−1
    /// (RESUME-26, RESUME-41).
    MalformedResume {
        /// The mistake, in words.
        what: &'static str,
    },
    /// RESUME_OK names a position that our frames do not have (RESUME-23).
    ResumePosition {
        /// The position.
        position: u64,
    },
    /// A frame of the session before RESUME_OK (RESUME-09).
    BeforeResumeOk {
        /// The frame's type, by the specification's name.
        frame: &'static str,
    },
    /// RESUME names a session that does not exist (RESUME-16, RESUME-17).
    UnknownSession,
    /// RESUME after SETUP (RESUME-25).
    ResumeAfterSetup,
    /// No SETUP in time (SETUP-30).
    SetupTimeout,
    /// Nothing was received for the whole of the keepalive lifetime (KA-10).
    KeepaliveTimeout,
    /// Bytes that are no frames of the transport, for example a WebSocket text message (WS-03).
    Transport {
        /// The mistake, in words.
        what: &'static str,
    },
}

impl Violation {
    /// Whether the bytes were no frames at all, as far as can be told: what stands between the peers
    /// may have spoken. On a session that outlives its transport it costs the transport alone.
    pub const fn breaks_framing(self) -> bool {
        matches!(
            self,
            Self::FrameTooShort { .. }
                | Self::FrameTooLong { .. }
                | Self::ReservedStreamIdBit
                | Self::Truncated { .. }
                | Self::MetadataLength { .. }
                | Self::FrameStalled { .. }
                | Self::Transport { .. }
        )
    }

    /// The code of the ERROR frame on stream 0 that answers this violation.
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::FirstFrame { .. }
            | Self::FirstFrameTooLong { .. }
            | Self::SetupOnStream
            | Self::MalformedSetup { .. }
            | Self::Version { .. }
            | Self::KeepaliveTimes
            | Self::SetupTimeout => ErrorCode::INVALID_SETUP,
            Self::LeaseUnsupported => ErrorCode::UNSUPPORTED_SETUP,
            Self::ResumeUnavailable | Self::EmptyResumeToken => ErrorCode::REJECTED_SETUP,
            Self::UnknownSession | Self::MalformedResume { .. } => ErrorCode::REJECTED_RESUME,
            _ => ErrorCode::CONNECTION_ERROR,
        }
    }
}

/// A number of bytes in words.
struct Bytes(usize);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 byte"),
            number => write!(f, "{number} bytes"),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::FrameTooShort { len } => {
                write!(f, "a frame of {}; a frame header has 6", Bytes(len))
            }
            Self::FrameTooLong { len, max } => {
                write!(f, "a frame of {len} bytes; at most {max} are accepted")
            }
            Self::FirstFrameTooLong { len, max } => write!(
                f,
                "the first frame has {len} bytes; at most {max} are accepted for SETUP and RESUME"
            ),
            Self::FrameStalled { bytes, timeout } => write!(
                f,
                "of a frame {} came, and no more of it for {timeout:?} or longer",
                Bytes(bytes)
            ),
            Self::ReservedStreamIdBit => f.write_str("the reserved bit of the stream id is set"),
            Self::Truncated { frame, field } => write!(f, "{frame} ends before its {field}"),
            Self::MetadataLength { announced, available } => {
                write!(
                    f,
                    "metadata of {} announced, and the frame has {} more",
                    Bytes(announced),
                    Bytes(available)
                )
            }
            Self::UnknownFrame { frame_type } => {
                write!(f, "unknown frame type 0x{frame_type:02x} without the ignore flag")
            }
            Self::FirstFrame { frame_type } => write!(
                f,
                "the first frame must be SETUP or RESUME on stream 0, got type 0x{frame_type:02x}"
            ),
            Self::SetupOnStream => f.write_str("SETUP and RESUME belong on stream 0"),
            Self::MalformedSetup { field } => write!(f, "SETUP ends before its {field}"),
            Self::Version { major, minor } => {
                write!(f, "protocol version {major}.{minor} is not supported, only 1.0 is")
            }
            Self::KeepaliveTimes => f.write_str(
                "keepalive interval and max lifetime must be between 1 and 2147483647 ms",
            ),
            Self::ResumeUnavailable => f.write_str("resume is not available here"),
            Self::EmptyResumeToken => f.write_str("the resume token is empty"),
            Self::MalformedResume { what } => f.write_str(what),
            Self::ResumePosition { position } => {
                write!(f, "RESUME_OK names position {position}, which no frame of ours has")
            }
            Self::BeforeResumeOk { frame } => write!(f, "{frame} before RESUME_OK"),
            Self::LeaseUnsupported => f.write_str("leases are not supported here"),
            Self::UnknownSession => f.write_str("no such session to resume"),
            Self::ResumeAfterSetup => f.write_str("RESUME after the connection was set up"),
            Self::SetupTimeout => f.write_str("SETUP was not completed in time"),
            Self::KeepaliveTimeout => f.write_str("no sign of life within the keepalive lifetime"),
            Self::Transport { what } => f.write_str(what),
        }
    }
}

impl Error for Violation {}

/// Why no request is opened. Nothing of it was sent, or ever will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// The connection has ended, or is ending.
    Closed,
    /// SETUP has not been accepted yet (SETUP-27).
    NotEstablished,
    /// All stream ids of the connection are used up (SID-06).
    StreamIdsExhausted,
    /// The payload does not fit one frame, and is not to be cut (FRAME-02).
    PayloadTooLarge {
        /// The frame's length in bytes.
        len: usize,
    },
    /// An initial request-n of 0 (RS-01), or above 2^31−1.
    InvalidRequestN,
    /// The peer's lease allows no request now: try again when another has come (LEASE-03).
    NoLease,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Closed => f.write_str(CLOSED),
            Self::NotEstablished => f.write_str(NOT_ESTABLISHED),
            Self::StreamIdsExhausted => {
                f.write_str("all stream ids of this connection are used up; open a new one")
            }
            Self::PayloadTooLarge { len } => FrameTooLong(len).fmt(f),
            Self::InvalidRequestN => f.write_str("request-n must be from 1 to 2147483647"),
            Self::NoLease => f.write_str(
                "the peer's lease allows no request now; send it when the peer has sent another",
            ),
        }
    }
}

impl Error for RequestError {}

/// Why an item or the end of a stream is not sent. The stream is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The stream has ended, or this half of it was never open.
    StreamClosed,
    /// The peer has not asked for an item.
    NoCredit,
    /// The payload does not fit one frame, and is not to be cut (FRAME-02).
    PayloadTooLarge {
        /// The frame's length in bytes.
        len: usize,
    },
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::StreamClosed => f.write_str("the stream has ended"),
            Self::NoCredit => f.write_str("the peer has not asked for an item"),
            Self::PayloadTooLarge { len } => FrameTooLong(len).fmt(f),
        }
    }
}

impl Error for SendError {}

/// Why a frame of the connection itself is not sent: METADATA_PUSH, KEEPALIVE, LEASE or RESUME.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ControlError {
    /// The connection has ended, or is ending.
    Closed,
    /// SETUP has not been accepted yet (SETUP-27).
    NotEstablished,
    /// The transport is lost, and the session waits for another.
    Suspended,
    /// The session is not without a transport, or cannot be resumed.
    NotSuspended,
    /// As many pings, or metadata pushes, wait to be written as may.
    QueueFull,
    /// It does not fit one frame (FRAME-02).
    PayloadTooLarge {
        /// The frame's length in bytes.
        len: usize,
    },
    /// Leases were not agreed upon in SETUP.
    NoLeases,
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Closed => f.write_str(CLOSED),
            Self::NotEstablished => f.write_str(NOT_ESTABLISHED),
            Self::Suspended => {
                f.write_str("the transport is lost; send it when the session has another")
            }
            Self::NotSuspended => f.write_str("there is no suspended session to resume"),
            Self::QueueFull => f.write_str(
                "too many pings or metadata pushes wait to be written; send more when the peer has \
                 taken some",
            ),
            Self::PayloadTooLarge { len } => FrameTooLong(len).fmt(f),
            Self::NoLeases => f.write_str("leases were not agreed upon when connecting"),
        }
    }
}

impl Error for ControlError {}

/// The connection is not one on which something is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NotOpen {
    /// SETUP has not been accepted.
    Yet,
    /// It has ended, or is ending.
    AnyMore,
}

impl From<NotOpen> for RequestError {
    fn from(when: NotOpen) -> Self {
        match when {
            NotOpen::Yet => Self::NotEstablished,
            NotOpen::AnyMore => Self::Closed,
        }
    }
}

impl From<NotOpen> for ControlError {
    fn from(when: NotOpen) -> Self {
        match when {
            NotOpen::Yet => Self::NotEstablished,
            NotOpen::AnyMore => Self::Closed,
        }
    }
}

const CLOSED: &str = "the connection is closed";
const NOT_ESTABLISHED: &str = "the connection is not set up yet";

/// A frame of ours that would be longer than frames can be, with its length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameTooLong(pub(crate) usize);

impl fmt::Display for FrameTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a frame of {} bytes; the protocol allows {}", self.0, MAX_FRAME_BYTES)
    }
}

impl From<FrameTooLong> for RequestError {
    fn from(FrameTooLong(len): FrameTooLong) -> Self {
        Self::PayloadTooLarge { len }
    }
}

impl From<FrameTooLong> for SendError {
    fn from(FrameTooLong(len): FrameTooLong) -> Self {
        Self::PayloadTooLarge { len }
    }
}

impl From<FrameTooLong> for ControlError {
    fn from(FrameTooLong(len): FrameTooLong) -> Self {
        Self::PayloadTooLarge { len }
    }
}

/// Why a session is not resumed. It is as it was: what was asked by nobody who could prove that he
/// was its client ends nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotResumed {
    /// It has ended, or is ending on purpose (RESUME-33).
    Over,
    /// The positions do not fit what was sent and received (RESUME-11, RESUME-18, RESUME-19).
    Positions(&'static str),
}

impl fmt::Display for NotResumed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Over => "the session has ended",
            Self::Positions(problem) => problem,
        })
    }
}

impl Error for NotResumed {}

/// The side that ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// We did.
    Local,
    /// The peer did.
    Peer,
}

/// Why a connection ended. Everything pending on it ends with this reason.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer broke the protocol, or was silent for too long.
    Violation(Violation),
    /// ERROR on stream 0 with this code and text (1–4: the server refused SETUP).
    Error {
        /// The side that sent it.
        by: Side,
        /// The code.
        code: ErrorCode,
        /// The text; of a peer's no more than `max_error_text_bytes`. Shared by all who are told.
        message: Arc<str>,
    },
    /// The application closed it, after its streams had ended. Where streams were cut off behind the
    /// peer's CONNECTION_CLOSE, and for what was asked after it, that is the reason: an `Error`.
    Finished(Side),
    /// The transport ended without a word (CONN-05).
    Disconnected,
    /// The peer, or a proxy on the way, closed the WebSocket with a status code of its own.
    WebSocketClosed {
        /// The code, as RFC 6455 has them in section 7.4.
        code: u16,
        /// The words sent with it, at most 123 bytes; mostly none.
        reason: Arc<str>,
    },
    /// The server closed the transport after SETUP, before it had said anything: as what does not
    /// speak RSocket does, or a proxy that reaches no server.
    ClosedAfterSetup,
    /// The transport was lost, and the session was not resumed in time (RESUME-29).
    ResumeWindowOver,
    /// The transport failed with this error.
    Io(IoError),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violation(violation) => write!(f, "{}: {violation}", violation.code()),
            Self::Error { by: Side::Peer, code, message } => {
                write!(f, "the peer ended the connection, {code}: {}", Printable(message))
            }
            Self::Error { by: Side::Local, code, message } => {
                write!(f, "{code}: {}", Printable(message))
            }
            Self::Finished(Side::Local) => f.write_str("closed"),
            Self::Finished(Side::Peer) => f.write_str("closed by the peer"),
            Self::Disconnected => f.write_str("the peer disconnected"),
            Self::WebSocketClosed { code, reason } => {
                write!(f, "the peer closed the WebSocket with code {code}")?;
                if !reason.is_empty() {
                    write!(f, ": {}", Printable(reason))?;
                }
                Ok(())
            }
            Self::ClosedAfterSetup => {
                f.write_str("the server closed the connection right after SETUP, without a word")
            }
            Self::ResumeWindowOver => {
                f.write_str("the connection was lost, and not resumed in time")
            }
            Self::Io(error) => write!(f, "the transport failed: {error}"),
        }
    }
}

impl Error for CloseReason {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Violation(violation) => Some(violation),
            Self::Io(error) => Some(error.get()),
            _ => None,
        }
    }
}

/// An error of the system's, shared by all who are told of it. Two are equal where kind and words are.
#[derive(Clone, Debug)]
pub struct IoError(Arc<io::Error>);

impl IoError {
    /// Its kind.
    pub fn kind(&self) -> io::ErrorKind {
        self.0.kind()
    }

    /// The error itself.
    pub fn get(&self) -> &io::Error {
        &self.0
    }
}

impl From<io::Error> for IoError {
    fn from(error: io::Error) -> Self {
        Self(Arc::new(error))
    }
}

impl PartialEq for IoError {
    fn eq(&self, other: &Self) -> bool {
        self.kind() == other.kind() && self.to_string() == other.to_string()
    }
}

impl Eq for IoError {}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for IoError {
    /// Of the error, which says the same as this.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn err_03_a_text_is_cut_between_characters() {
        let long = "é".repeat(1_000);
        for (text, max, kept) in [
            (&b"as it is"[..], 8, "as it is"),
            (b"as it is", 7, "as it i…"),
            (b"as it is", 0, "…"),
            (b"", 0, ""),
            (long.as_bytes(), 4, "éé…"),
            (long.as_bytes(), 5, "éé…"),
            ("a𝄞b".as_bytes(), 4, "a…"),
            ("a𝄞b".as_bytes(), 5, "a𝄞…"),
            // What is not UTF-8 becomes longer, and is cut as well.
            (b"\xff\xff", 6, "\u{fffd}\u{fffd}"),
            (b"\xff\xff\xff", 3, "\u{fffd}…"),
            (b"\xff\xff\xff", 5, "\u{fffd}…"),
            (&[0x80; 100], 6, "\u{fffd}\u{fffd}…"),
        ] {
            assert_eq!(kept_text(text, max), kept, "{text:?} at {max}");
        }
    }
}
