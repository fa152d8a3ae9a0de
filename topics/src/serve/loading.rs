//! Messages on their way from a disk to a reader: read where that may take its time.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::task::JoinHandle;

use super::Service;
use crate::{log::Segment, position::Offset, refusal::Refusal, topic::Topic};

/// Bytes that are read for one reader at once.
const BYTES: usize = 64 << 10;
/// Bytes that are read for each item that a reader asks for, where that are few: it would hold the others.
const BYTES_AN_ITEM: u64 = 1 << 10;

type Loaded = Result<(Option<Arc<Segment>>, Offset), Refusal>;

/// Messages that are being read.
#[derive(Debug)]
pub(super) struct Loading {
    /// The first that is wanted.
    pub(super) from: Offset,
    reading: JoinHandle<Loaded>,
}

impl Loading {
    /// Reads as much of these as a reader takes that has so much credit; all of them where it is known how
    /// many they are.
    pub(super) fn start(
        service: &Service,
        topic: &Arc<Topic>,
        wanted: std::ops::Range<Offset>,
        credit: u64,
    ) -> Self {
        let bytes =
            usize::try_from(credit.saturating_mul(BYTES_AN_ITEM)).unwrap_or(BYTES).min(BYTES);
        let (from, topic, now) = (wanted.start, Arc::clone(topic), service.0.clock.now());
        let reading = tokio::task::spawn_blocking(move || topic.load(wanted, bytes, now));
        Self { from, reading }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Loaded> {
        let loaded = ready!(Pin::new(&mut self.reading).poll(cx));
        // The process stops, or a disk's reading has panicked.
        Poll::Ready(
            loaded.unwrap_or_else(|error| Err(Refusal::failed(format_args!("not read: {error}")))),
        )
    }
}
