//! The log: what is written, and where to.

use std::{io, str::FromStr};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

/// What is logged: a level, or levels by module as in `info,rsock=debug`.
#[derive(Clone, Debug, PartialEq)]
pub struct LogFilter(Targets);

impl LogFilter {
    /// Logs to stderr from now on, in the whole process. Has no effect where something logs already.
    pub fn install(self) {
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(io::stderr);
        let log = tracing_subscriber::registry().with(self.0).with(lines);
        // Who installed another one wants that.
        let _ = log.try_init();
    }
}

impl FromStr for LogFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut filter = Targets::new().with_default(LevelFilter::INFO);
        for directive in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (target, level) = match directive.split_once('=') {
                Some((target, level)) => (Some(target), level),
                None => (None, directive),
            };
            let level: LevelFilter = level.parse().map_err(|_| {
                format!("{level:?} is no level; there are off, error, warn, info, debug and trace")
            })?;
            filter = match target {
                Some(target) => filter.with_target(target, level),
                None => filter.with_default(level),
            };
        }
        Ok(Self(filter))
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn a_filter_is_a_level_or_levels_by_module() {
        for (filter, target, most) in [
            ("", "any", Level::INFO),
            ("warn", "any", Level::WARN),
            ("TRACE", "any", Level::TRACE),
            ("warn, rsock=debug", "rsock::server", Level::DEBUG),
            ("warn, rsock=debug", "hyper", Level::WARN),
            ("rsock=trace", "any", Level::INFO),
        ] {
            let LogFilter(targets) = filter.parse().unwrap();
            for level in [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE] {
                let enabled = targets.would_enable(target, &level);
                assert_eq!(enabled, level <= most, "{filter}: {target} at {level}");
            }
        }
    }

    #[test]
    fn a_misspelt_level_is_an_error() {
        for filter in ["inf", "rsock", "rsock=loud", "info;debug"] {
            assert!(LogFilter::from_str(filter).unwrap_err().contains("is no level"), "{filter}");
        }
    }
}
