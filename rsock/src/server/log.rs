//! The lines that a server writes to the log.

use std::{io, net::SocketAddr};

use crate::transport::listen::Remote;

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

/// It may be a health check of somebody else's, or somebody who goes around the proxy: it is no warning.
#[cfg(feature = "tracing")]
pub(super) fn not_passed_on(peer: SocketAddr, error: &io::Error) {
    tracing::debug!(%peer, "connection closed: {error}");
}

#[cfg(not(feature = "tracing"))]
pub(super) fn not_passed_on(_: SocketAddr, _: &io::Error) {}

#[cfg(feature = "tracing")]
pub(super) fn came_too_often(peer: Remote) {
    tracing::debug!(%peer, "connection closed: its address connects more often than it may");
}

#[cfg(not(feature = "tracing"))]
pub(super) fn came_too_often(_: Remote) {}
