//! A connection at a moment, as its driver sees it.

use std::{sync::Arc, time::Instant};

use rsock_proto::StreamSummary;

use crate::transport::socket::Ends;

/// A connection at a moment, as its driver sees it.
pub(crate) struct Snapshot {
    pub(crate) address: Arc<str>,
    /// Those of its transport, if it has one.
    pub(crate) ends: Option<Ends>,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) credit_stalls: u64,
    pub(crate) is_resumable: bool,
    /// How many streams there are.
    pub(crate) open_streams: usize,
    /// As many of them as were asked for.
    pub(crate) streams: Vec<SeenStream>,
}

/// A stream at a moment, with what is remembered of it.
pub(crate) struct SeenStream {
    pub(crate) summary: StreamSummary,
    pub(crate) opened: Option<Instant>,
    pub(crate) route: Option<Box<str>>,
}
