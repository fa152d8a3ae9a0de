//! The lines that a server writes to the log.

use std::io;

#[cfg(feature = "tracing")]
pub(super) fn cannot_accept(error: &io::Error, open: u64, times: u64) {
    // EMFILE and ENFILE: numbers that all systems share which have them.
    let advice = if cfg!(unix) && matches!(error.raw_os_error(), Some(23 | 24)) {
        ": allow more open files (ulimit -n), or fewer connections (max_connections)"
    } else {
        ""
    };
    tracing::warn!(%error, open, times, "cannot accept connections beside the open ones{advice}");
}

#[cfg(not(feature = "tracing"))]
pub(super) fn cannot_accept(_: &io::Error, _: u64, _: u64) {}
