//! Errors that users see when something fails, by who is to blame.

use std::{fmt, io, sync::Arc, time::Duration};

use rsock_proto::{CloseReason, ErrorCode, Misuse, Printable, StreamError};

/// Why a request, a stream or a connection failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The responder's application failed the request (APPLICATION_ERROR).
    Application(Arc<str>),
    /// The responder did not process the request; repeating it is safe (REJECTED).
    Rejected(Arc<str>),
    /// The responder gave up, and the request may have had effects (CANCELED).
    Canceled(Arc<str>),
    /// The request itself is invalid (INVALID).
    Invalid(Arc<str>),
    /// Any other error code, application-defined ones included (ERR-06, ERR-07).
    Other {
        /// The code.
        code: ErrorCode,
        /// The text.
        message: Arc<str>,
    },
    /// The connection has ended, and everything pending on it with it.
    Closed(CloseReason),
    /// No connection could be made.
    Connect(ConnectError),
    /// The call could not be made as it was.
    Misuse(Misuse),
}

impl Error {
    /// An error of the application, as handlers raise it.
    pub fn application(message: impl fmt::Display) -> Self {
        Self::Application(message.to_string().into())
    }

    /// A refusal: the request had no effect.
    pub fn rejected(message: impl fmt::Display) -> Self {
        Self::Rejected(message.to_string().into())
    }

    /// The request can never be right as it is.
    pub fn invalid(message: impl fmt::Display) -> Self {
        Self::Invalid(message.to_string().into())
    }

    /// The code this error has, or would have, on the wire.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Application(_) | Self::Closed(_) | Self::Connect(_) | Self::Misuse(_) => {
                ErrorCode::APPLICATION_ERROR
            }
            Self::Rejected(_) => ErrorCode::REJECTED,
            Self::Canceled(_) => ErrorCode::CANCELED,
            Self::Invalid(_) => ErrorCode::INVALID,
            Self::Other { code, .. } => *code,
        }
    }

    /// As an ERROR frame on a stream. Codes that belong on stream 0, or to nobody, become
    /// APPLICATION_ERROR (ERR-01).
    pub(crate) fn into_stream_error(self) -> StreamError {
        let code = match self.code() {
            code @ ErrorCode(0x201..=0x204 | 0x301..=0xFFFF_FFFE) => code,
            _ => ErrorCode::APPLICATION_ERROR,
        };
        let message = match self {
            Self::Application(message)
            | Self::Rejected(message)
            | Self::Canceled(message)
            | Self::Invalid(message)
            | Self::Other { message, .. } => message,
            // A failure of a connection behind this one, passed on by a handler.
            other => other.to_string().into(),
        };
        StreamError { code, message }
    }
}

impl From<StreamError> for Error {
    fn from(StreamError { code, message }: StreamError) -> Self {
        match code {
            ErrorCode::APPLICATION_ERROR => Self::Application(message),
            ErrorCode::REJECTED => Self::Rejected(message),
            ErrorCode::CANCELED => Self::Canceled(message),
            ErrorCode::INVALID => Self::Invalid(message),
            code => Self::Other { code, message },
        }
    }
}

impl From<CloseReason> for Error {
    fn from(reason: CloseReason) -> Self {
        Self::Closed(reason)
    }
}

impl From<Misuse> for Error {
    fn from(misuse: Misuse) -> Self {
        Self::Misuse(misuse)
    }
}

impl From<ConnectError> for Error {
    fn from(error: ConnectError) -> Self {
        Self::Connect(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Application(message)
            | Self::Rejected(message)
            | Self::Canceled(message)
            | Self::Invalid(message) => write!(f, "{}: {}", self.code(), Printable(message)),
            Self::Other { code, message } => write!(f, "{code}: {}", Printable(message)),
            Self::Closed(reason) => reason.fmt(f),
            Self::Connect(error) => error.fmt(f),
            Self::Misuse(misuse) => misuse.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

/// Why no connection could be made, or no listener opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URI is not one of ours.
    Uri {
        /// The URI that was given.
        uri: String,
        /// The problem with it, and what is expected.
        problem: String,
    },
    /// The host name has no address.
    Resolve {
        /// The host.
        host: String,
        /// The resolver's words.
        error: String,
    },
    /// No address of the host takes a connection, or the listener's address is not to be had.
    Io {
        /// The address that was dialled or listened on.
        address: String,
        /// The kind of the system's error.
        kind: io::ErrorKind,
        /// The system's words; where a name has several addresses, for each of them.
        error: String,
    },
    /// The peer does not speak the transport's protocol.
    Handshake {
        /// The address that was dialled or listened on.
        address: String,
        /// The mistake in what it answered.
        error: String,
    },
    /// It took longer than allowed.
    Timeout {
        /// The address that was dialled.
        address: String,
        /// The time allowed.
        after: Duration,
        /// The addresses of a name that had been tried by then, each with what came of it.
        tried: String,
    },
    /// The server showed no sign of accepting the connection in time.
    NotAccepted {
        /// The time allowed.
        after: Duration,
    },
    /// A setting is outside of its range.
    Setting(&'static str),
}

impl ConnectError {
    pub(crate) fn io(address: impl Into<String>, error: &io::Error) -> Self {
        Self::Io { address: address.into(), kind: error.kind(), error: error.to_string() }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri { uri, problem } => {
                write!(f, "{uri:?} is not a valid URI for a connection: {problem}")
            }
            Self::Resolve { host, error } => write!(f, "cannot resolve {host:?}: {error}"),
            Self::Io { address, error, .. } => write!(f, "{address}: {error}"),
            Self::Handshake { address, error } => {
                write!(f, "{address}: the WebSocket handshake failed: {error}")
            }
            Self::Timeout { address, after, tried } => {
                write!(f, "{address}: no connection within {after:?}")?;
                if tried.is_empty() { Ok(()) } else { write!(f, " ({tried})") }
            }
            Self::NotAccepted { after } => {
                write!(f, "the server did not accept the connection within {after:?}")
            }
            Self::Setting(problem) => f.write_str(problem),
        }
    }
}

impl std::error::Error for ConnectError {}
