//! Problems: errors as answers of HTTP.

use std::fmt;

use rsock::{Error, ErrorCode, HttpBodyError, HttpResponse};
use serde_json::json;

use crate::visitors::Refused;

/// An error, and the status that says the same to programs of the web.
#[derive(Debug)]
pub(crate) struct Problem {
    status: u16,
    code: Code,
    message: String,
    /// Seconds after which it may succeed.
    retry_after: Option<u64>,
    /// The methods that there are.
    allow: Option<&'static str>,
    /// Nothing more is to be read of the request.
    closes: bool,
}

/// The name of an error, which does not change.
#[derive(Clone, Copy, Debug)]
enum Code {
    Wire(ErrorCode),
    Named(&'static str),
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wire(code) => write!(f, "{code}"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// The status of a refusal, by the words that its text begins with, up to the first colon or quote: they do
/// not change. What begins otherwise is for now alone.
const REFUSALS: [(&str, u16); 16] = [
    ("authentication failed", 401),
    ("not permitted", 403),
    ("permission ended", 403),
    ("no route", 404),
    ("no topic", 404),
    ("route", 405),
    ("nothing here answers", 405),
    ("conflict", 409),
    ("closed", 409),
    ("overrun", 410),
    ("began anew", 410),
    ("rate limit", 429),
    ("too fast", 429),
    ("too many", 429),
    ("full", 429),
    ("no disk", 501),
];
const NOT_NOW: u16 = 503;
/// The time after which to try again where nothing says it.
const SOON: u64 = 1;

impl Problem {
    fn new(status: u16, code: Code, message: impl fmt::Display) -> Self {
        let message = message.to_string();
        Self { status, code, message, retry_after: None, allow: None, closes: false }
    }

    /// A request that can never be right as it is.
    pub(crate) fn invalid(message: impl fmt::Display) -> Self {
        Self::new(400, Code::Wire(ErrorCode::INVALID), message)
    }

    /// The same told to who reads events: EventSource tries again for ever unless it is told that there is nothing.
    pub(super) fn told_as_event(self) -> Self {
        if matches!(self.code, Code::Named("TICKET")) { Self { status: 204, ..self } } else { self }
    }

    pub(super) fn not_found(message: impl fmt::Display) -> Self {
        Self::new(404, Code::Named("NOT_FOUND"), message)
    }

    pub(crate) fn bad_path(path: &str) -> Self {
        Self::invalid(format_args!(
            "not a name: {path:?}; it is percent-encoded UTF-8, and not empty"
        ))
    }

    pub(super) fn method(allow: &'static str) -> Self {
        let message = format!("it takes {allow}");
        Self { allow: Some(allow), ..Self::new(405, Code::Named("METHOD_NOT_ALLOWED"), message) }
    }

    /// No form of an answer that the client accepts.
    pub(super) fn not_acceptable(there_is: &str) -> Self {
        Self::new(406, Code::Named("NOT_ACCEPTABLE"), format_args!("there is {there_is}"))
    }

    /// The answer did not come within the time that the client has given it.
    pub(super) fn too_late(limit: std::time::Duration) -> Self {
        let message = format!("no answer came within Rsock-Timeout, {limit:?}");
        Self::new(504, Code::Named("TIMEOUT"), message)
    }

    /// Why somebody did not come in.
    pub(crate) fn of_door(refused: Refused) -> Self {
        match refused {
            Refused::Unknown(error) | Refused::Full(error) => error.into(),
            Refused::Ticket => {
                let message = "the ticket counts no more: it is good once, for 30 seconds";
                Self::new(401, Code::Named("TICKET"), message)
            }
        }
    }

    /// The name of the error.
    pub(crate) fn code(&self) -> String {
        self.code.to_string()
    }

    /// The status.
    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// Itself as JSON: `{"error":{"code":…,"message":…}}`.
    pub(super) fn json(&self) -> String {
        let code = self.code.to_string();
        json!({ "error": { "code": code, "message": self.message } }).to_string()
    }

    /// The answer, which says how one may say who one is, if nobody knows it.
    pub(super) fn into_response(self, ways: &'static str) -> HttpResponse {
        let body = if self.status == 204 { String::new() } else { self.json() + "\n" };
        let mut answer = HttpResponse::new(self.status, body)
            .header("content-type", "application/json")
            .header("cache-control", "no-store");
        if let Some(seconds) = self.retry_after {
            answer = answer.header("retry-after", seconds);
        }
        if let Some(allow) = self.allow {
            answer = answer.header("allow", allow);
        }
        if self.status == 401 {
            answer = answer.header("www-authenticate", ways);
        }
        if self.closes {
            answer = answer.header("connection", "close");
        }
        answer
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let code = error.code();
        let message = match &error {
            Error::Application(text)
            | Error::Rejected(text)
            | Error::Canceled(text)
            | Error::Invalid(text)
            | Error::Other { message: text, .. } => text.to_string(),
            other => other.to_string(),
        };
        let status = match code {
            ErrorCode::INVALID if message.starts_with("too large") => 413,
            ErrorCode::INVALID => 400,
            ErrorCode::REJECTED => refused(&message),
            ErrorCode::CANCELED => NOT_NOW,
            _ => 500,
        };
        let mut problem = Self::new(status, Code::Wire(code), message);
        if matches!(status, 429 | NOT_NOW) && code == ErrorCode::REJECTED {
            problem.retry_after = Some(wait(&problem.message).unwrap_or(SOON));
        }
        problem
    }
}

/// The status of a refusal.
fn refused(message: &str) -> u16 {
    let begins = |words: &str| {
        let rest = message.strip_prefix(words);
        rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric()))
    };
    REFUSALS.iter().find(|(words, _)| begins(words)).map_or(NOT_NOW, |(_, status)| *status)
}

/// The seconds after which a refusal says that one may ask again, rounded up: `again in 251 ms`.
fn wait(message: &str) -> Option<u64> {
    let (_, behind) = message.split_once(" in ")?;
    let (millis, unit) = behind.split_once(' ')?;
    let millis: u64 = millis.parse().ok().filter(|_| unit.starts_with("ms"))?;
    Some(millis.div_ceil(1_000).max(SOON))
}

impl From<HttpBodyError> for Problem {
    fn from(error: HttpBodyError) -> Self {
        let status = HttpResponse::from(error.clone()).status();
        let code = match error {
            HttpBodyError::Memory => Code::Wire(ErrorCode::REJECTED),
            _ => Code::Wire(ErrorCode::INVALID),
        };
        Self { closes: true, ..Self::new(status, code, error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_follows_the_reason() {
        for (error, status, retry_after) in [
            (Error::rejected("no route \"ecko\""), 404, None),
            (Error::rejected("not permitted: publish on topic \"a\""), 403, None),
            (Error::rejected("authentication failed"), 401, None),
            (Error::rejected("rate limit: 4 requests/s; again in 1251 ms"), 429, Some(2)),
            (Error::rejected("too fast: again in 20 ms"), 429, Some(1)),
            (Error::rejected("too many topics: 5, as many as allowed"), 429, Some(1)),
            (Error::rejected("conflict: the last offset is 5"), 409, None),
            (Error::rejected("no memory: 5 bytes"), 503, Some(1)),
            (Error::rejected("busy, retry"), 503, Some(1)),
            (Error::rejected("router is away"), 503, Some(1)),
            (Error::invalid("too large: 5 bytes"), 413, None),
            (Error::invalid("unknown option"), 400, None),
            (Error::application("outcome unknown: the disk"), 500, None),
            (Error::Canceled("the handler gave up".into()), 503, None),
            (Error::Other { code: ErrorCode(0x401), message: "own".into() }, 500, None),
        ] {
            let problem = Problem::from(error.clone());
            assert_eq!((problem.status, problem.retry_after), (status, retry_after), "{error}");
        }
    }

    #[test]
    fn it_is_json_and_says_what_goes_on() {
        let answer = Problem::from(Error::rejected("no topic: \"a\"")).into_response("Bearer");
        let body = answer.body().map(|body| String::from_utf8_lossy(body).into_owned());
        let expected = r#"{"error":{"code":"REJECTED","message":"no topic: \"a\""}}"#;
        assert_eq!(body.as_deref().map(str::trim_end), Some(expected));
        assert_eq!(Problem::of_door(Refused::Ticket).status(), 401);
        let spent = Problem::of_door(Refused::Ticket).told_as_event().into_response("Bearer");
        assert_eq!((spent.status(), spent.body().map(|body| body.len())), (204, Some(0)));
        let wrong = Problem::method("GET, HEAD").into_response("Bearer");
        assert_eq!(wrong.headers().get("allow").map(|it| it.as_bytes()), Some(&b"GET, HEAD"[..]));
    }
}
