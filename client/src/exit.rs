//! Why a command failed: what is said about it, and with which code it ends.

use std::{
    ffi::OsString,
    fmt,
    io::{self, ErrorKind},
    process::ExitCode,
    time::Duration,
};

use rsock::{
    CloseReason, ConnectError, Error, ErrorCode, Fragmented, RequestError, Side, Violation,
    proto::MAX_FRAME_BYTES,
};

use crate::render::answer;

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was asked wrongly.
    Usage(String),
    /// Something here does not work, such as stdin.
    Local(String),
    /// There is no connection.
    Connect(ConnectError),
    /// The peer, or the way to it.
    Error(Error),
    /// The connection is lost, and the peer had answered on it.
    Cut(Error),
    /// The time allowed has passed.
    Timeout(Duration),
    /// Something that has no answer was sent, and nothing came back in this time that shows it was
    /// read.
    NoSign(Duration),
    /// Messages of a topic were missed, and that is to be a failure.
    Gap(String),
    /// Ctrl-C.
    Interrupted,
    /// Stdout cannot be written to.
    Output(io::Error),
}

/// How a failure is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As a line to read.
    Text,
    /// As JSON on a line.
    Json,
}

impl Form {
    /// The form that `--out` asks for, whatever else is wrong with the arguments.
    pub(crate) fn asked_for(arguments: &[OsString]) -> Self {
        let is_json = arguments.iter().any(|argument| argument == "--out=json")
            || arguments.windows(2).any(|pair| pair[0] == "--out" && pair[1] == "json");
        if is_json { Self::Json } else { Self::Text }
    }
}

impl Failure {
    pub(crate) fn usage(problem: impl fmt::Display) -> Self {
        Self::Usage(problem.to_string())
    }

    /// Wrong usage in the words of clap, without its formatting: what is wrong, and its tips.
    pub(crate) fn of_clap(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        let said = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
        let said: Vec<_> = said.filter(|line| !line.is_empty()).collect();
        let said = said.join("; ");
        Self::Usage(said.strip_prefix("error: ").unwrap_or(&said).to_owned())
    }

    /// The same failure of a connection on which so many frames had come: then its peer does speak
    /// RSocket.
    pub(crate) fn after(self, frames: u64) -> Self {
        match self {
            Self::Error(error) if frames > 0 && is_lost(&error) => Self::Cut(error),
            failure => failure,
        }
    }

    /// Says what happened, where anything is to be said.
    pub(crate) fn report(&self, form: Form) -> ExitCode {
        if !self.is_silent() {
            match (form, self.hint()) {
                (Form::Text, None) => answer(format_args!("rsock: {self}")),
                (Form::Text, Some(hint)) => answer(format_args!("rsock: {self}; {hint}")),
                (Form::Json, _) => answer(self.json()),
            }
        }
        ExitCode::from(self.code())
    }

    /// The failure as an object on one line.
    fn json(&self) -> serde_json::Value {
        let mut object = serde_json::json!({ "error": self.to_string(), "exit": self.code() });
        if let Some(code) = self.wire_code() {
            object["code"] = code.to_string().into();
        }
        if let Some(hint) = self.hint() {
            object["hint"] = hint.into();
        }
        object
    }

    /// The code of the protocol, where one tells the failure.
    fn wire_code(&self) -> Option<ErrorCode> {
        match self {
            Self::Connect(error) => code_of_connect(error),
            Self::Error(error) | Self::Cut(error) => code_of_error(error),
            _ => None,
        }
    }

    /// A reader of ours that has seen enough, as `head` has, is no failure, and who pressed Ctrl-C
    /// knows it.
    fn is_silent(&self) -> bool {
        match self {
            Self::Output(error) => error.kind() == ErrorKind::BrokenPipe,
            Self::Interrupted => true,
            _ => false,
        }
    }

    /// The table in `--help`.
    fn code(&self) -> u8 {
        match self {
            Self::Output(_) if self.is_silent() => 0,
            Self::Usage(_) => 2,
            Self::Gap(_) => GAP,
            Self::Output(_) => OUTPUT,
            Self::Timeout(_) | Self::NoSign(_) => TIMEOUT,
            Self::Interrupted => INTERRUPTED,
            Self::Local(_) => OTHER,
            Self::Connect(error) => of_connect(error),
            Self::Error(error) | Self::Cut(error) => of_error(error),
        }
    }

    /// The advice on what to do about it, where that is known.
    fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Connect(ConnectError::Closed(reason)) => return hint_at_end(reason),
            Self::Connect(ConnectError::Io { error, .. }) => match error.kind() {
                // A Unix socket that nobody listens on may have no file any more.
                ErrorKind::ConnectionRefused | ErrorKind::NotFound => {
                    "is the service running? `rsockd` starts one"
                }
                ErrorKind::PermissionDenied => {
                    "who may connect to a Unix socket is said where the service starts: rsockd --unix-mode"
                }
                _ => return None,
            },
            // A server of rsock says itself where its WebSocket is.
            Self::Connect(ConnectError::Handshake { error, .. })
                if ![" ws://", " wss://"].iter().any(|uri| error.to_string().contains(uri)) =>
            {
                "is this its WebSocket port and path? rsockd has ws://127.0.0.1:7879/rsocket"
            }
            Self::Connect(ConnectError::Timeout { .. }) => "--connect-timeout allows more time",
            Self::Error(Error::Closed { fragmented: Some(fragmented), .. })
            | Self::Cut(Error::Closed { fragmented: Some(fragmented), .. }) => {
                hint_at_fragments(fragmented)
            }
            Self::Cut(_) => "it has stopped, or something on the way to it has cut the connection",
            Self::Error(Error::Closed { reason, .. }) => return hint_at_end(reason),
            Self::Error(Error::Rejected(text)) => return hint_at_refusal(text),
            Self::Error(Error::Request(RequestError::PayloadTooLarge { .. })) => {
                "at most 16777215 bytes go at a time: send it in pieces, as a channel"
            }
            _ => return None,
        })
    }
}

/// The advice where a route is asked in a way that it does not answer, as a server of rsock says it.
fn hint_at_refusal(text: &str) -> Option<&'static str> {
    let (_, answered) = text.strip_prefix("route ")?.split_once(" does not answer ")?;
    let (_, answered) = answered.split_once(", only ")?;
    Some(match answered.split(", ").next()? {
        "request-response" => "`rsock request` asks so",
        "fire-and-forget" => "`rsock fnf` asks so",
        "request-stream" => "`rsock stream` asks so",
        "request-channel" => "`rsock channel` asks so",
        _ => return None,
    })
}

/// Whether the connection is gone, and nobody has said why.
fn is_lost(error: &Error) -> bool {
    use CloseReason::{Disconnected, Io};
    matches!(error, Error::Closed { reason: Disconnected | Io(_), .. })
}

/// The advice where the connection has ended for this reason.
fn hint_at_end(reason: &CloseReason) -> Option<&'static str> {
    Some(match reason {
        CloseReason::Error { code: ErrorCode::REJECTED_SETUP, .. } => {
            "what SETUP says is set by --auth-simple, --auth-bearer, --setup-data, --setup-metadata, \
             --data-mime and --metadata-mime"
        }
        CloseReason::ClosedAfterSetup => {
            "it may not speak RSocket over this transport (the port of WebSockets is reached by \
             ws://HOST:PORT/PATH, one with TLS by tls:// or wss://), or a proxy on the way reaches no server"
        }
        CloseReason::Disconnected => {
            "it may have stopped, or it does not speak RSocket over this transport"
        }
        _ => return None,
    })
}

/// The advice where the connection has ended right behind fragments.
pub(crate) fn hint_at_fragments(fragmented: &Fragmented) -> &'static str {
    if fragmented.frame_bytes < MAX_FRAME_BYTES {
        "some peers, as rsocket-kotlin 0.20, cannot take fragments: try --mtu 16777215, which sends \
         what fits one frame whole"
    } else {
        "some peers, as rsocket-kotlin 0.20, cannot take fragments, and this is longer than a frame may \
         be: send it in pieces, as a channel"
    }
}

const GAP: u8 = 3;
const OUTPUT: u8 = 23;
pub(crate) const TIMEOUT: u8 = 28;
const HANDSHAKE: u8 = 35;
const CONNECTION_LOST: u8 = 56;
const CERTIFICATE: u8 = 60;
const OTHER: u8 = 75;
pub(crate) const INTERRUPTED: u8 = 130;

fn of_error(error: &Error) -> u8 {
    if let Some(code) = code_of_error(error) {
        return of_code(code);
    }
    match error {
        Error::Connect(error) => of_connect(error),
        Error::Closed { .. } | Error::Unavailable { .. } => CONNECTION_LOST,
        Error::Request(RequestError::PayloadTooLarge { .. }) => 2,
        _ => OTHER,
    }
}

fn code_of_error(error: &Error) -> Option<ErrorCode> {
    match error {
        Error::Connect(error) => code_of_connect(error),
        Error::Closed { reason, .. } | Error::Unavailable { reason, .. } => code_of_end(reason),
        Error::Request(_) | Error::Send(_) | Error::Control(_) => None,
        error => Some(error.code()),
    }
}

fn of_connect(error: &ConnectError) -> u8 {
    match error {
        ConnectError::Uri { .. }
        | ConnectError::Header { .. }
        | ConnectError::Setting(_)
        | ConnectError::TlsSettings(_) => 2,
        ConnectError::Tls { kind, .. } if kind.is_certificate() => CERTIFICATE,
        ConnectError::Tls { .. } => HANDSHAKE,
        ConnectError::Resolve { .. } => 6,
        ConnectError::Timeout { .. } => TIMEOUT,
        ConnectError::Closed(reason) => code_of_end(reason).map_or(CONNECTION_LOST, of_code),
        _ => 7,
    }
}

fn code_of_connect(error: &ConnectError) -> Option<ErrorCode> {
    match error {
        ConnectError::Closed(reason) => code_of_end(reason),
        _ => None,
    }
}

/// The code with which a connection has ended; none if it was lost.
fn code_of_end(reason: &CloseReason) -> Option<ErrorCode> {
    match reason {
        CloseReason::Error { code, .. } => Some(*code),
        CloseReason::Finished(Side::Peer) => Some(ErrorCode::CONNECTION_CLOSE),
        // Silence is a lost connection, and no mistake of the peer's.
        CloseReason::Violation(Violation::KeepaliveTimeout) => None,
        CloseReason::Violation(violation) => Some(violation.code()),
        _ => None,
    }
}

fn of_code(code: ErrorCode) -> u8 {
    match code {
        ErrorCode::INVALID_SETUP => 65,
        ErrorCode::UNSUPPORTED_SETUP => 66,
        ErrorCode::REJECTED_SETUP => 67,
        ErrorCode::REJECTED_RESUME => 68,
        ErrorCode::CONNECTION_ERROR => 69,
        ErrorCode::CONNECTION_CLOSE => 70,
        ErrorCode::APPLICATION_ERROR => 71,
        ErrorCode::REJECTED => 72,
        ErrorCode::CANCELED => 73,
        ErrorCode::INVALID => 74,
        _ => OTHER,
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        Self::Connect(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(problem) | Self::Local(problem) | Self::Gap(problem) => {
                f.write_str(problem)
            }
            Self::Connect(error @ ConnectError::Io { .. }) => {
                write!(f, "cannot connect to {error}")
            }
            Self::Connect(error) => error.fmt(f),
            Self::Error(error) | Self::Cut(error) => error.fmt(f),
            Self::Timeout(limit) => write!(f, "not done within {limit:?}, as --timeout says"),
            Self::NoSign(limit) => write!(
                f,
                "sent, but the server has shown no sign of life within {limit:?}: whether it was read is \
                 not known"
            ),
            Self::Interrupted => f.write_str("interrupted"),
            Self::Output(error) => write!(f, "cannot write to stdout: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_command_that_is_answered() {
        let text = |only: &str| format!("route \"a\" does not answer fire-and-forget, only {only}");
        for (refusal, hint) in [
            (text("request-stream"), Some("`rsock stream` asks so")),
            (text("request-response, request-stream"), Some("`rsock request` asks so")),
            (text("request-channel"), Some("`rsock channel` asks so")),
            (text("asking"), None),
            ("no route \"a\"".to_owned(), None),
        ] {
            assert_eq!(Failure::Error(Error::rejected(refusal)).hint(), hint);
        }
    }
}
