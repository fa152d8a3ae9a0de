//! The target of a request: its path and its query, decoded once.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use rsock::http::Method;

use super::{PREFIX, problem::Problem};

/// The thing that a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// `POST /request/{route}`
    Request(String),
    /// `POST /fnf/{route}`
    FireAndForget(String),
    /// `GET|POST /stream/{route}`
    Stream(String),
    /// `GET /routes`, `/status` and `/topics`: the answers of the routes of these names.
    List(&'static str),
    /// `POST /topics/{t}`, `GET /topics/{t}`
    Topic(String),
    /// `GET /topics/{t}/history`
    History(String),
    /// `GET /topics/{t}/presence`
    Presence(String),
    /// `POST /ticket`
    Ticket,
}

/// All paths there are, for who asked for another.
const PATHS: &str = "There is /api/request/{route}, /api/fnf/{route}, /api/stream/{route}, /api/topics, \
                     /api/topics/{topic} with /history and /presence, /api/routes, /api/status and /api/ticket.";

impl Target {
    pub(super) fn parse(path: &str) -> Result<Self, Problem> {
        let rest = path.strip_prefix(PREFIX).unwrap_or_default();
        let (first, behind) = rest.split_once('/').map_or((rest, None), |(a, b)| (a, Some(b)));
        // A name may have slashes in it, and is the rest of the path; it is judged as it is when decoded.
        let name = |behind: &str| decoded(behind).filter(|name| !name.is_empty());
        let named = |to: fn(String) -> Self, behind: &str| {
            name(behind).map(to).ok_or_else(|| Problem::bad_path(behind))
        };
        match (first, behind) {
            ("request", Some(route)) => named(Self::Request, route),
            ("fnf", Some(route)) => named(Self::FireAndForget, route),
            ("stream", Some(route)) => named(Self::Stream, route),
            ("routes", None) => Ok(Self::List("routes")),
            ("status", None) => Ok(Self::List("status")),
            ("topics", None) => Ok(Self::List("topics")),
            ("ticket", None) => Ok(Self::Ticket),
            ("topics", Some(behind)) => match behind.split_once('/') {
                None => named(Self::Topic, behind),
                Some((topic, "history")) => named(Self::History, topic),
                Some((topic, "presence")) => named(Self::Presence, topic),
                Some(_) => Err(Problem::not_found(PATHS)),
            },
            _ => Err(Problem::not_found(PATHS)),
        }
    }

    /// # Errors
    /// 405, with the methods that it takes.
    pub(super) fn check_method(&self, method: &Method) -> Result<(), Problem> {
        let allowed = match self {
            Self::Request(_) | Self::FireAndForget(_) | Self::Ticket => "POST, OPTIONS",
            Self::Stream(_) | Self::Topic(_) => "GET, HEAD, POST, OPTIONS",
            Self::List(_) | Self::History(_) | Self::Presence(_) => "GET, HEAD, OPTIONS",
        };
        let is_allowed = allowed.split(", ").any(|known| known == method.as_str());
        if is_allowed { Ok(()) } else { Err(Problem::method(allowed)) }
    }
}

/// A part of a path or a query, decoded once; none if it is not UTF-8 then.
pub(crate) fn decoded(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(Cow::into_owned)
}

/// Parameters of a query: more than anything takes.
const MAX_PARAMETERS: usize = 32;

/// The parameters of a query, each taken once.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// # Errors
    /// One that stands twice, or is not UTF-8.
    pub(crate) fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let mut all: Vec<(String, String)> = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |text: &str| decoded(&text.replace('+', " "));
            let (Some(name), Some(value)) = (decode(name), decode(value)) else {
                return Err(Problem::invalid(format_args!(
                    "not a query: {pair:?} is not percent-encoded UTF-8"
                )));
            };
            if all.len() >= MAX_PARAMETERS {
                return Err(Problem::invalid(format_args!(
                    "the query has more than {MAX_PARAMETERS} parameters"
                )));
            }
            if all.iter().any(|(known, _)| *known == name) {
                return Err(Problem::invalid(format_args!("{name:?} stands twice in the query")));
            }
            all.push((name, value));
        }
        Ok(Self(all))
    }

    /// Whether there is such a parameter.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    /// The value of a parameter, which is looked at from now on.
    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// A number, if it is there.
    ///
    /// # Errors
    /// It is no number, or out of range.
    pub(crate) fn number(
        &mut self,
        name: &str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<Option<u64>, Problem> {
        let Some(text) = self.take(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.map(Some).ok_or_else(|| {
            Problem::invalid(format_args!(
                "{name}: {text:?} is not a number from {} to {}",
                range.start(),
                range.end()
            ))
        })
    }

    /// Whether something is asked for, as `name=true`.
    ///
    /// # Errors
    /// It is neither true nor false.
    pub(crate) fn flag(&mut self, name: &str) -> Result<Option<bool>, Problem> {
        match self.take(name).as_deref() {
            None => Ok(None),
            Some("true" | "1" | "") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(text) => {
                Err(Problem::invalid(format_args!("{name}: {text:?} is neither true nor false")))
            }
        }
    }

    /// # Errors
    /// A parameter is left that nobody has looked at: of those there are, these are known here.
    pub(crate) fn finish(self, known: &[&str]) -> Result<(), Problem> {
        let Some((name, _)) = self.0.first() else { return Ok(()) };
        let known = match known {
            [] => "it takes none".to_owned(),
            known => format!("there is {}", known.join(", ")),
        };
        Err(Problem::invalid(format_args!("{name:?} is not a parameter of this: {known}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded_once_and_not_tidied() {
        let route = |name: &str| Ok(Target::Request(name.to_owned()));
        for (path, expected) in [
            ("/api/request/echo", route("echo")),
            ("/api/request/%65cho", route("echo")),
            ("/api/request/%2565cho", route("%65cho")),
            ("/api/request/a/b", route("a/b")),
            ("/api/request/a%2fb", route("a/b")),
            ("/api/request/echo/", route("echo/")),
            ("/api/request//echo", route("/echo")),
            ("/api/request/../status", route("../status")),
            ("/api/request/a%00", route("a\0")),
            ("/api/topics", Ok(Target::List("topics"))),
            ("/api/topics/room.1", Ok(Target::Topic("room.1".to_owned()))),
            ("/api/topics/%73taff.x", Ok(Target::Topic("staff.x".to_owned()))),
            ("/api/topics/a%2fhistory", Ok(Target::Topic("a/history".to_owned()))),
            ("/api/topics/a%2f/history", Ok(Target::History("a/".to_owned()))),
            ("/api/topics/a/presence", Ok(Target::Presence("a".to_owned()))),
        ] {
            assert_eq!(Target::parse(path).map_err(|problem| problem.status()), expected, "{path}");
        }
        for (path, status) in [
            ("/api/request/", 400),
            ("/api/request", 404),
            ("/api/request/%ff", 400),
            ("/api/", 404),
            ("/api//topics", 404),
            ("/api/topics/", 400),
            ("/api/topics/a/", 404),
            ("/api/topics/a/history/", 404),
            ("/api/topics/a/b", 404),
            ("/api/status/", 404),
            ("/api/Status", 404),
        ] {
            assert_eq!(
                Target::parse(path).map_err(|problem| problem.status()),
                Err(status),
                "{path}"
            );
        }
    }

    #[test]
    fn a_query_is_looked_at_whole() {
        let parse = |query| Query::parse(Some(query));
        let mut query = parse("from=last%3A5&max=10&live=&x=a+b%2Bc").expect("a query");
        assert_eq!(query.take("from").as_deref(), Some("last:5"));
        assert_eq!(query.number("max", 1..=10).expect("in range"), Some(10));
        assert_eq!(query.flag("live").expect("a flag"), Some(true));
        assert_eq!(query.take("x").as_deref(), Some("a b+c"));
        query.finish(&[]).expect("nothing is left");
        assert!(parse("a=1&a=2").is_err() && parse("a=%ff").is_err());
        let left = parse("frm=new").expect("a query").finish(&["from", "lag"]).expect_err("it");
        assert_eq!(left.to_string(), r#""frm" is not a parameter of this: there is from, lag"#);
        let mut query = parse("max=11&b=maybe&c=-1").expect("a query");
        assert!(query.number("max", 1..=10).is_err() && query.flag("b").is_err());
        assert!(query.number("c", 0..=10).is_err() && Query::parse(None).is_ok());
    }
}
