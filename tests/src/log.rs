//! The library's log, as lines.

use std::{
    fmt::{self, Write as _},
    sync::{Arc, OnceLock},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use crate::record::Recorder;

/// Everything logged at DEBUG and above by this process, from the first call on.
pub fn capture() -> Arc<Recorder> {
    static LOG: OnceLock<Arc<Recorder>> = OnceLock::new();
    Arc::clone(LOG.get_or_init(|| {
        let lines = Arc::new(Recorder::default());
        let subscriber = Lines(Arc::clone(&lines));
        // Another subscriber would have been set by a test of the same binary.
        tracing::subscriber::set_global_default(subscriber).expect("nobody else reads the log");
        lines
    }))
}

struct Lines(Arc<Recorder>);

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::DEBUG && metadata.target().starts_with("rsock")
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.note(line.0);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = write!(self.0, " {field}={value}");
    }
}
