//! Errors that users see when something fails, by who is to blame.

mod tls;

use std::{error, fmt, io, sync::Arc, time::Duration};

use rsock_proto::{
    CloseReason, ControlError, ErrorCode, Fragmented, IoError, Printable, RequestError, SendError,
    StreamError,
};

pub use tls::{TlsError, TlsErrorKind};

/// Why a request or a stream failed, a ping or a push was not sent, or a connection is refused.
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
    Closed {
        /// Why it has ended.
        reason: CloseReason,
        /// Whether the peer can have received what was asked.
        sent: Sent,
        /// The first payload that went in fragments, if the peer ended the connection right behind it:
        /// it may be unable to take any.
        fragmented: Option<Fragmented>,
    },
    /// There was no connection for as long as a request may wait for one, and nothing of it was sent. It
    /// is being dialled: see [`Reconnect`](crate::Reconnect).
    Unavailable {
        /// How long the request waited.
        waited: Duration,
        /// How the last connection ended, or was refused.
        reason: CloseReason,
    },
    /// The request could not be opened as it was, and nothing of it was sent.
    Request(RequestError),
    /// An item or an answer could not be sent as it was.
    Send(SendError),
    /// A ping or a metadata push could not be sent as it was.
    Control(ControlError),
    /// No connection could be made, to whatever a handler asks for its answer.
    Connect(Box<ConnectError>),
}

/// Whether a request that ended with its connection can have reached the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sent {
    /// Nothing of it has left: it waited for its turn, a lease or the server, or no transport had taken
    /// a byte of it. Asking again elsewhere cannot do it twice.
    Never,
    /// It may have left, in part or whole: whether the peer has received it, and done it, is not known.
    /// Said of every ping that waited for its answer: to send another does no harm.
    Maybe,
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

    /// Nothing of what was asked has left, and nothing will.
    pub(crate) fn never_sent(reason: CloseReason) -> Self {
        Self::Closed { reason, sent: Sent::Never, fragmented: None }
    }

    /// The code this error has, or would have, on the wire.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Application(_)
            | Self::Closed { .. }
            | Self::Unavailable { .. }
            | Self::Request(_)
            | Self::Send(_)
            | Self::Control(_)
            | Self::Connect(_) => ErrorCode::APPLICATION_ERROR,
            Self::Rejected(_) => ErrorCode::REJECTED,
            Self::Canceled(_) => ErrorCode::CANCELED,
            Self::Invalid(_) => ErrorCode::INVALID,
            Self::Other { code, .. } => *code,
        }
    }

    /// Whether the peer can have received what was asked. What it has answered, it has received.
    pub fn sent(&self) -> Sent {
        match self {
            Self::Closed { sent, .. } => *sent,
            Self::Unavailable { .. } | Self::Request(_) | Self::Control(_) | Self::Connect(_) => {
                Sent::Never
            }
            _ => Sent::Maybe,
        }
    }

    /// Whether the same request may be sent again, on this connection or another, without doing it
    /// twice, and has a chance to be served then.
    ///
    /// | what happened | is it |
    /// |---|---|
    /// | the connection ended, and nothing of the request had left ([`Sent::Never`]) | yes |
    /// | it ended, and something had left ([`Sent::Maybe`]) | no, unless doing it twice does no harm: that is yours to know |
    /// | there was no connection for too long ([`Unavailable`](Self::Unavailable)) | yes |
    /// | [`Rejected`](Self::Rejected): not processed | yes, unless the text begins with `no route`, `route "`, `no topic`, `no disk`, `not permitted`, `permission ended`, `conflict`, `closed`, `overrun` or `began anew`: those are final |
    /// | [`Canceled`](Self::Canceled), [`Application`](Self::Application), [`Invalid`](Self::Invalid), [`Other`](Self::Other) | no |
    /// | no connection could be made | as [`ConnectError::is_retryable`] says |
    /// | all stream ids are used up | yes, on another connection |
    /// | too many pings or pushes wait to be written | yes, later |
    /// | the payload is too large, or request-n out of its range | no |
    ///
    /// Of a stream that has had items, and of a channel of whose items some were taken, only the
    /// caller knows whether it makes sense to begin anew.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Closed { sent, .. } => *sent == Sent::Never,
            Self::Unavailable { .. } => true,
            Self::Rejected(message) => !FINAL.iter().any(|text| message.starts_with(text)),
            Self::Request(error) => !matches!(
                error,
                RequestError::PayloadTooLarge { .. } | RequestError::InvalidRequestN
            ),
            Self::Control(error) => *error == ControlError::QueueFull,
            Self::Connect(error) => error.is_retryable(),
            _ => false,
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

/// Whether what was asked had left is not known.
impl From<CloseReason> for Error {
    fn from(reason: CloseReason) -> Self {
        Self::Closed { reason, sent: Sent::Maybe, fragmented: None }
    }
}

impl From<RequestError> for Error {
    fn from(error: RequestError) -> Self {
        Self::Request(error)
    }
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Self {
        Self::Send(error)
    }
}

impl From<ControlError> for Error {
    fn from(error: ControlError) -> Self {
        Self::Control(error)
    }
}

impl From<ConnectError> for Error {
    fn from(error: ConnectError) -> Self {
        Self::Connect(Box::new(error))
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
            Self::Closed { reason, fragmented: None, .. } => reason.fmt(f),
            Self::Closed { reason, fragmented: Some(fragmented), .. } => {
                write!(f, "{reason}; right before, {fragmented}")
            }
            Self::Unavailable { waited, reason } => {
                write!(f, "no connection for {waited:?}, and it is dialled again: {reason}")
            }
            Self::Request(error) => error.fmt(f),
            Self::Send(error) => error.fmt(f),
            Self::Control(error) => error.fmt(f),
            Self::Connect(error) => error.fmt(f),
        }
    }
}

impl error::Error for Error {
    /// Of what this is made of, which says the same.
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Closed { reason, .. } | Self::Unavailable { reason, .. } => reason.source(),
            Self::Connect(error) => error.source(),
            _ => None,
        }
    }
}

/// How the texts of refusals begin that will be the same the next time.
const FINAL: [&str; 10] = [
    "no route",
    "route \"",
    "no topic",
    "no disk",
    "not permitted",
    "permission ended",
    "conflict",
    "closed",
    "overrun",
    "began anew",
];

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
        /// The resolver's error.
        error: IoError,
    },
    /// No address of the host takes a connection, or the listener's address is not to be had.
    Io {
        /// The address that was dialled or listened on.
        address: String,
        /// The system's error; where a name has several addresses, that of the last of them.
        error: IoError,
        /// The addresses of a name, each with what came of it; empty where it has one.
        tried: String,
    },
    /// A header of the WebSocket handshake cannot be sent.
    Header {
        /// The header.
        name: String,
        /// The problem with it.
        problem: &'static str,
    },
    /// The peer does not speak the transport's protocol.
    Handshake {
        /// The address that was dialled.
        address: String,
        /// The mistake in what it answered, or how the connection failed meanwhile.
        error: IoError,
    },
    /// No TLS was agreed upon, or it was not kept.
    Tls {
        /// The address that was dialled.
        address: String,
        /// The reason, which says what to do.
        kind: TlsErrorKind,
        /// The error itself.
        error: IoError,
    },
    /// The settings of TLS cannot be used.
    TlsSettings(TlsError),
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
    /// The server refused the connection, or it ended before the server had shown that it accepts it.
    Closed(CloseReason),
    /// Our own acceptor refused to serve the server.
    Acceptor(Box<Error>),
    /// The credentials for SETUP were not given, for this reason.
    Credentials(String),
    /// A setting is outside of its range.
    Setting(&'static str),
}

impl ConnectError {
    pub(crate) fn io(address: impl Into<String>, error: io::Error) -> Self {
        Self::Io { address: address.into(), error: error.into(), tried: String::new() }
    }

    /// Whether trying again later, without a change of ours, may lead to a connection.
    ///
    /// It may not where the URI, a setting or our own acceptor is in the way, the system does not
    /// permit it, or the server finds SETUP wrong (INVALID_SETUP, UNSUPPORTED_SETUP) or breaks the
    /// protocol.
    pub fn is_retryable(&self) -> bool {
        use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
        match self {
            Self::Uri { .. }
            | Self::Header { .. }
            | Self::Setting(_)
            | Self::TlsSettings(_)
            | Self::Acceptor(_) => false,
            Self::Tls { kind, .. } => kind.is_retryable(),
            Self::Io { error, .. } => {
                !matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported)
            }
            Self::Closed(CloseReason::Violation(_)) => false,
            Self::Closed(CloseReason::Error { code, .. }) => {
                !matches!(*code, ErrorCode::INVALID_SETUP | ErrorCode::UNSUPPORTED_SETUP)
            }
            Self::Closed(_)
            | Self::Resolve { .. }
            | Self::Handshake { .. }
            | Self::Timeout { .. }
            | Self::Credentials(_)
            | Self::NotAccepted { .. } => true,
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri { uri, problem } => {
                write!(f, "{uri:?} is not a valid URI for a connection: {problem}")
            }
            Self::Header { name, problem } => {
                write!(f, "the header {name:?} of the WebSocket handshake: {problem}")
            }
            Self::Resolve { host, error } => write!(f, "cannot resolve {host:?}: {error}"),
            Self::Io { address, error, tried } if tried.is_empty() => {
                write!(f, "{address}: {error}")
            }
            Self::Io { address, tried, .. } => write!(f, "{address}: {tried}"),
            Self::Handshake { address, error } => {
                write!(f, "{address}: the WebSocket handshake failed: {error}")
            }
            Self::Tls { address, kind: TlsErrorKind::Other, error } => {
                write!(f, "{address}: {}: {error}", TlsErrorKind::Other)
            }
            Self::Tls { address, kind: kind @ TlsErrorKind::BadCertificate, error } => {
                write!(f, "{address}: {kind}: {error}")
            }
            Self::Tls { address, kind, .. } => write!(f, "{address}: {kind}"),
            Self::TlsSettings(error) => error.fmt(f),
            Self::Timeout { address, after, tried } => {
                write!(f, "{address}: no connection within {after:?}")?;
                if tried.is_empty() { Ok(()) } else { write!(f, " ({tried})") }
            }
            Self::NotAccepted { after } => {
                write!(f, "the server did not accept the connection within {after:?}")
            }
            Self::Closed(reason) => reason.fmt(f),
            Self::Acceptor(error) => write!(f, "the acceptor refused the server: {error}"),
            Self::Credentials(error) => write!(f, "no credentials for the connection: {error}"),
            Self::Setting(problem) => f.write_str(problem),
        }
    }
}

impl error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Resolve { error, .. }
            | Self::Io { error, .. }
            | Self::Handshake { error, .. }
            | Self::Tls { error, .. } => Some(error.get()),
            Self::TlsSettings(error) => Some(error),
            Self::Closed(reason) => reason.source(),
            Self::Acceptor(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use rsock_proto::{Side, Violation};

    use super::*;

    /// The table of `is_retryable`.
    #[test]
    fn what_may_be_repeated() {
        use Sent::{Maybe, Never};
        let closed =
            |sent| Error::Closed { reason: CloseReason::Disconnected, sent, fragmented: None };
        let refused = |code| {
            let reason = CloseReason::Error { by: Side::Peer, code, message: "no".into() };
            Error::from(ConnectError::Closed(reason))
        };
        let failed = |kind: io::ErrorKind| Error::from(ConnectError::io("h:1", kind.into()));
        let after = Duration::from_secs(1);
        for (error, sent, is_retryable) in [
            (closed(Never), Never, true),
            (closed(Maybe), Maybe, false),
            (Error::rejected("no memory left"), Maybe, true),
            (Error::rejected("no route \"x\""), Maybe, false),
            (Error::rejected("not permitted: publish"), Maybe, false),
            (Error::rejected("conflict"), Maybe, false),
            (Error::rejected("no disk: topic \"x\" is durable"), Maybe, false),
            (Error::rejected("route \"x\" does not answer request-channel"), Maybe, false),
            (Error::rejected("closed: the last message of topic \"x\" is 3"), Maybe, false),
            (Error::application("x"), Maybe, false),
            (Error::invalid("x"), Maybe, false),
            (Error::Canceled("x".into()), Maybe, false),
            (Error::Other { code: ErrorCode(0x301), message: "x".into() }, Maybe, false),
            (RequestError::StreamIdsExhausted.into(), Never, true),
            (RequestError::NoLease.into(), Never, true),
            (RequestError::PayloadTooLarge { len: 1 << 24 }.into(), Never, false),
            (RequestError::InvalidRequestN.into(), Never, false),
            (SendError::PayloadTooLarge { len: 1 << 24 }.into(), Maybe, false),
            (ControlError::QueueFull.into(), Never, true),
            (ControlError::PayloadTooLarge { len: 1 << 24 }.into(), Never, false),
            (ConnectError::NotAccepted { after }.into(), Never, true),
            (ConnectError::Setting("x").into(), Never, false),
            (failed(io::ErrorKind::ConnectionRefused), Never, true),
            (failed(io::ErrorKind::PermissionDenied), Never, false),
            (refused(ErrorCode::REJECTED_SETUP), Never, true),
            (refused(ErrorCode::UNSUPPORTED_SETUP), Never, false),
            (refused(ErrorCode::INVALID_SETUP), Never, false),
        ] {
            assert_eq!((error.sent(), error.is_retryable()), (sent, is_retryable), "{error}");
        }
    }

    #[test]
    fn the_systems_error_is_kept() {
        let system = || io::Error::from_raw_os_error(104);
        let closed = Error::from(CloseReason::Io(system().into()));
        let connect = ConnectError::io("h:1", system());
        for error in [closed, connect.into(), ConnectError::Closed(closed_by(system())).into()] {
            let source = error.source().and_then(|error| error.downcast_ref::<io::Error>());
            let code = source.and_then(io::Error::raw_os_error);
            assert_eq!(code, Some(104), "{error}");
            assert_eq!(error, error.clone());
        }
        let violation = Error::from(CloseReason::Violation(Violation::SetupTimeout));
        assert!(violation.source().is_some_and(<dyn error::Error>::is::<Violation>));
    }

    fn closed_by(error: io::Error) -> CloseReason {
        CloseReason::Io(error.into())
    }

    /// One lies in every answer on its way.
    #[test]
    fn an_error_is_not_larger_than_a_payload() {
        let size = size_of::<Error>();
        assert!(size <= size_of::<rsock_proto::Payload>(), "{size}");
    }
}
