//! The log: what is written, and where to.

mod writer;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    fmt, io, panic,
    str::FromStr,
    thread,
    time::Duration,
};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    Layer, Registry, filter::Targets, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

pub(crate) use writer::{LineWriter, lines_left_out};

/// The events that are logged: a level, or levels by module as in `info,rsock=debug`.
#[derive(Clone, Debug, PartialEq)]
pub struct LogFilter {
    targets: Targets,
    /// Itself as it was written.
    text: String,
}

/// Events from `info` on.
impl Default for LogFilter {
    fn default() -> Self {
        Self { targets: Targets::new().with_default(LevelFilter::INFO), text: "info".to_owned() }
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The form of the log's lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// An object each, for programs.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("it must be text or json".to_owned()),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// How long the end of a process waits for its log at the most.
const FLUSH_LIMIT: Duration = Duration::from_millis(500);

impl LogFilter {
    /// Logs to stderr from now on, in the whole process, and takes the place of the panic hook.
    /// Has no effect where something logs already.
    ///
    /// Lines are written on a thread of their own. Where stderr does not take them, at most 1 MiB
    /// of them waits; more are left out, and counted in the log and by the route `status`.
    ///
    /// # Errors
    /// If the system gives no thread to write on.
    pub fn install(self, format: LogFormat) -> io::Result<Log> {
        let writer = LineWriter::start(io::stderr())?;
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(writer.clone());
        let lines = match format {
            LogFormat::Text => lines.boxed(),
            LogFormat::Json => lines.json().flatten_event(true).boxed(),
        };
        let (filter, handle) = reload::Layer::new(self.targets);
        let log = tracing_subscriber::registry().with(filter).with(lines);
        // Who installed another one wants that.
        if log.try_init().is_ok() {
            let writer = writer.clone();
            panic::set_hook(Box::new(move |panic| log_panic(&writer, panic)));
        }
        Ok(Log { writer, filter: handle })
    }
}

/// Says it whatever the filter is: a panic is a mistake of the program's.
fn log_panic(writer: &LineWriter, panic: &panic::PanicHookInfo<'_>) {
    let thread = thread::current();
    writer.put(&format!("thread {:?} {panic}", thread.name().unwrap_or("without a name")));
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        for line in backtrace.to_string().lines() {
            writer.put(line);
        }
    }
}

/// The log of the process. Dropped, it waits for half a second at the most until all is written.
#[derive(Debug)]
#[must_use = "what it still holds is lost when the process ends without dropping it"]
pub struct Log {
    writer: LineWriter,
    filter: reload::Handle<Targets, Registry>,
}

impl Log {
    /// Writes a line to stderr, whatever the filter is.
    pub fn say(&self, line: impl fmt::Display) {
        self.writer.put(&line.to_string());
    }

    /// Logs these events from now on, and no others.
    pub fn set_filter(&self, filter: LogFilter) {
        // Where another log was installed, that one has its own.
        let _ = self.filter.reload(filter.targets);
    }

    /// Waits until all is written, and no longer than this.
    pub fn flush(&self, limit: Duration) {
        self.writer.flush(limit);
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.flush(FLUSH_LIMIT);
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
                format!(
                    "{level:?} is not a level: there are off, error, warn, info, debug and trace"
                )
            })?;
            filter = match target {
                Some(target) => filter.with_target(target, level),
                None => filter.with_default(level),
            };
        }
        Ok(Self { targets: filter, text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

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
            let LogFilter { targets, .. } = filter.parse().unwrap();
            for level in [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE] {
                let enabled = targets.would_enable(target, &level);
                assert_eq!(enabled, level <= most, "{filter}: {target} at {level}");
            }
        }
    }

    #[test]
    fn a_panic_is_a_line_of_the_log() {
        #[derive(Clone, Default)]
        struct Written(Arc<Mutex<Vec<u8>>>);

        impl io::Write for Written {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().extend(bytes);
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let written = Written::default();
        let writer = LineWriter::start(written.clone()).unwrap();
        let (before, log) = (panic::take_hook(), writer.clone());
        panic::set_hook(Box::new(move |panic| log_panic(&log, panic)));
        let panicked = panic::catch_unwind(|| panic!("at\u{202e}last\nof all"));
        panic::set_hook(before);
        assert!(panicked.is_err());
        writer.flush(Duration::from_secs(60));
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let line = text.lines().find(|line| line.contains("at\\u{202e}last\\nof all"));
        assert!(line.is_some_and(|line| line.contains("panicked at server/src/logging")), "{text}");
    }

    #[test]
    fn a_misspelt_level_is_an_error() {
        for filter in ["inf", "rsock", "rsock=loud", "info;debug"] {
            assert!(
                LogFilter::from_str(filter).unwrap_err().contains("is not a level"),
                "{filter}"
            );
        }
    }
}
