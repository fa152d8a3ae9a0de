//! Settings, and the flags that set them.

use std::{convert::Infallible, fmt, str::FromStr, time::Duration};

use clap::{Args, value_parser};
use rsock::proto::Config;

/// What a service is told.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Options {
    /// Where to listen: tcp://HOST:PORT or ws://HOST:PORT/PATH, port 0 for any; may be repeated
    #[arg(long, value_name = "URI", default_values_t = Self::default().listen)]
    pub listen: Vec<String>,
    /// The route of requests that name none, or "none" to refuse them
    #[arg(long, value_name = "NAME", default_value_t = Self::default().default_route)]
    pub default_route: DefaultRoute,
    /// Connections at a time; more wait until one ends
    #[arg(long, value_name = "N", default_value_t = Self::default().max_connections)]
    #[arg(value_parser = value_parser!(u32).range(1..))]
    pub max_connections: u32,
    /// Streams a connection may hold open; more are refused
    #[arg(long, value_name = "N", default_value_t = Self::default().max_streams)]
    #[arg(value_parser = value_parser!(u32).range(1..))]
    pub max_streams: u32,
    /// The longest frame taken; a longer one ends its connection
    #[arg(long, value_name = "BYTES", default_value_t = Self::default().max_frame)]
    #[arg(value_parser = value_parser!(u32).range(MIN_FRAME..=MAX_FRAME))]
    pub max_frame: u32,
    /// How long a client may take to begin with SETUP, as 500ms or 10s
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = some_time)]
    pub setup_timeout: Duration,
}

/// What the protocol can express.
const MAX_FRAME: i64 = rsock::proto::MAX_FRAME_BYTES as i64;

/// SETUP with its MIME types and credentials fits.
const MIN_FRAME: i64 = 1_024;

impl Default for Options {
    fn default() -> Self {
        let limits = Config::default();
        Self {
            listen: ["tcp://127.0.0.1:7878", "ws://127.0.0.1:7879/rsocket"]
                .map(str::to_owned)
                .into(),
            default_route: DefaultRoute::Route("echo".to_owned()),
            max_connections: 100_000,
            max_streams: limits.max_streams as u32,
            max_frame: limits.max_frame_bytes as u32,
            setup_timeout: limits.setup_timeout,
        }
    }
}

impl Options {
    /// The limits of one connection.
    pub(crate) fn config(&self) -> Config {
        let mut config = Config::default();
        config.max_streams = self.max_streams as usize;
        config.max_frame_bytes = self.max_frame as usize;
        config.setup_timeout = self.setup_timeout;
        config
    }
}

fn some_time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("it must be more than 0".to_owned()),
        Ok(time) => Ok(time),
        Err(error) => Err(error.to_string()),
    }
}

/// Where requests go that name no route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefaultRoute {
    /// Nowhere: they are rejected.
    None,
    /// To this one.
    Route(String),
}

impl FromStr for DefaultRoute {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == "none" { Self::None } else { Self::Route(text.to_owned()) })
    }
}

impl fmt::Display for DefaultRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Route(name) => name,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        options: Options,
    }

    fn parse(flags: &[&str]) -> Result<Options, String> {
        let arguments = ["rsockd"].iter().chain(flags);
        Flags::try_parse_from(arguments)
            .map(|flags| flags.options)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_flags_are_sound() {
        Flags::command().debug_assert();
    }

    #[test]
    fn without_flags_there_are_the_defaults() {
        assert_eq!(parse(&[]), Ok(Options::default()));
    }

    #[test]
    fn flags_set_what_they_name() {
        let options = parse(&[
            "--listen=tcp://[::1]:1",
            "--listen=ws://h:2",
            "--default-route=none",
            "--max-frame=65536",
            "--setup-timeout=1m 500ms",
        ]);
        let expected = Options {
            listen: vec!["tcp://[::1]:1".to_owned(), "ws://h:2".to_owned()],
            default_route: DefaultRoute::None,
            max_frame: 65_536,
            setup_timeout: Duration::from_millis(60_500),
            ..Options::default()
        };
        assert_eq!(options, Ok(expected));
    }

    #[test]
    fn wrong_values_are_told_what_is_wrong() {
        for (flag, expected) in [
            ("--max-connections=0", "0 is not in 1.."),
            ("--max-streams=many", "invalid digit"),
            ("--max-frame=16777216", "is not in 1024..=16777215"),
            ("--setup-timeout=0s", "more than 0"),
            ("--setup-timeout=10", "time unit needed"),
            ("--lisen=x", "a similar argument exists: '--listen'"),
        ] {
            let error = parse(&[flag]).unwrap_err();
            assert!(error.contains(expected), "{flag}: {error}");
        }
    }
}
