//! The routes that can be called: one group a file.

pub(crate) mod admin;
pub(crate) mod answers;
mod auth;
mod clock;
pub(crate) mod console;
mod demo;
mod routes;
mod status;
mod ticks;

use rsock::{Error, FromRequest, Request, Router};
use serde::{Deserialize, de::DeserializeOwned};

use crate::app::App;

/// Adds every route.
pub(crate) fn add_to(router: Router<App>) -> Router<App> {
    router
        .route("clock", clock::clock())
        .route("echo", demo::echo())
        .route("range", demo::range())
        .route("routes", routes::routes())
        .route("status", status::status())
}

/// Adds what there is where people are asked who they are.
pub(crate) fn add_auth_to(router: Router<App>) -> Router<App> {
    router.route("auth", auth::auth())
}

/// The options of a request: a JSON object as its data, or no data for the defaults.
struct JsonOptions<T>(T);

/// A type that can be read as [`JsonOptions`].
trait ApiOptions: DeserializeOwned + Default {
    /// A description of their form, for who got them wrong.
    const EXAMPLE: &'static str;

    /// The mistake in a value, where its type does not say it.
    fn problem(&self) -> Option<String> {
        None
    }
}

/// Characters of an error text at most: it may quote what the peer sent.
const MAX_PROBLEM: usize = 300;

impl<T: ApiOptions> FromRequest for JsonOptions<T> {
    fn from_request(request: &mut Request) -> Result<Self, Error> {
        let data = request.take_payload().data;
        parse(&data).map(Self).map_err(|problem| {
            let problem: String = problem.chars().take(MAX_PROBLEM).collect();
            Error::invalid(format_args!("{problem}; options look like {}", T::EXAMPLE))
        })
    }
}

fn parse<T: ApiOptions>(data: &[u8]) -> Result<T, String> {
    let options: T = match data.trim_ascii_start().first() {
        None => T::default(),
        Some(b'{') => serde_json::from_slice(data).map_err(|error| error.to_string())?,
        // serde would take an array for the fields in their order.
        Some(_) => return Err("the data is not a JSON object".to_owned()),
    };
    match options.problem() {
        None => Ok(options),
        Some(problem) => Err(problem),
    }
}

/// The options of what comes again and again.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
struct Every {
    interval_ms: u32,
}

impl Default for Every {
    fn default() -> Self {
        Self { interval_ms: 1_000 }
    }
}

impl ApiOptions for Every {
    const EXAMPLE: &'static str = r#"{"interval_ms":1000}"#;

    fn problem(&self) -> Option<String> {
        (self.interval_ms == 0).then(|| "interval_ms is 0, and 1 is the least".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_may_be_left_out() {
        for data in ["", " \n", "{}", r#"{"interval_ms":1000}"#] {
            assert_eq!(parse(data.as_bytes()), Ok(Every { interval_ms: 1_000 }), "{data}");
        }
    }

    #[test]
    fn wrong_options_are_told_what_is_wrong() {
        for (data, expected) in [
            (r#"{"interval":5}"#, "unknown field `interval`, expected `interval_ms`"),
            (r#"{"interval_ms":"5"}"#, "invalid type: string \"5\", expected u32"),
            (r#"{"interval_ms":-1}"#, "invalid value: integer `-1`, expected u32"),
            (r#"{"interval_ms":0}"#, "interval_ms is 0"),
            (r#"{"interval_ms":1"#, "EOF while parsing"),
            (r#"{} {}"#, "trailing characters"),
            ("[5]", "not a JSON object"),
            ("null", "not a JSON object"),
            ("\u{fffd}", "not a JSON object"),
        ] {
            let problem = parse::<Every>(data.as_bytes()).unwrap_err();
            assert!(problem.contains(expected), "{data}: {problem}");
        }
    }
}
