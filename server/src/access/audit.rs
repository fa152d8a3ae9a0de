//! The audit log: who came in, who did not, and what was not permitted. Never what they came with.

use std::{
    fs::OpenOptions,
    io,
    path::Path,
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use humantime::format_rfc3339_millis;
use serde::Serialize;

use crate::logging::LineWriter;

/// The time that the end of the service waits for the file.
const FLUSH_LIMIT: Duration = Duration::from_millis(500);

/// Something that happened.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Event<'a> {
    pub(crate) event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) conn: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) method: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) action: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) object: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<&'a str>,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(flatten)]
    event: Event<'a>,
}

/// The audit log: it goes to the log, with the target `rsockd::audit`, and to a file if there is one. What the
/// file does not take in time is left out, and counted there.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    file: OnceLock<LineWriter>,
}

impl Audit {
    /// Appends to a file from now on, as JSON, a line an event.
    ///
    /// # Errors
    /// If it cannot be opened, or the system gives no thread to write on.
    pub(crate) fn open(&self, file: &Path) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        let writer = LineWriter::start(options.open(file)?)?;
        // It is opened once.
        let _ = self.file.set(writer);
        Ok(())
    }

    /// Waits until the file has what it was told, and not for long.
    pub(crate) fn close(&self) {
        if let Some(file) = self.file.get() {
            file.flush(FLUSH_LIMIT);
        }
    }

    pub(crate) fn tell(&self, event: Event<'_>) {
        let Event { conn, peer, subject, method, action, object, reason, event: name } = event;
        // Who came in is of interest to few; who did not, to more.
        if name == "auth.ok" {
            tracing::debug!(target: "rsockd::audit", event = name, conn, peer, subject, method);
        } else {
            tracing::info!(
                target: "rsockd::audit", event = name, conn, peer, subject, method, action, object, reason
            );
        }
        if let Some(file) = self.file.get() {
            let time = format_rfc3339_millis(SystemTime::now()).to_string();
            // Texts and numbers can be written as JSON.
            if let Ok(line) = serde_json::to_string(&Line { time, event }) {
                file.put(&line);
            }
        }
    }
}
