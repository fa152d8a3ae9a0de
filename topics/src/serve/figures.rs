//! Counters of topics, over all connections since the start.

use serde::Serialize;

use super::presence;
use crate::{
    refusal::Refusal,
    registry::Topics,
    sync::{AtomicU64, Ordering},
    topic::Published,
};

/// Counters that requests raise.
#[derive(Debug)]
pub(super) struct Counters {
    published: AtomicU64,
    duplicates: AtomicU64,
    events: AtomicU64,
    updates: AtomicU64,
    missed: AtomicU64,
    refused: Box<[AtomicU64]>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            published: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
            events: AtomicU64::new(0),
            updates: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            refused: Refusal::REASONS.iter().map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Counters {
    pub(super) fn published(&self, published: &Published) {
        let counter = match published {
            Published { is_duplicate: true, .. } => &self.duplicates,
            Published { offset: None, .. } => &self.events,
            _ => &self.published,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a change of what a member says of itself.
    pub(super) fn updated(&self) {
        self.updates.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn missed(&self, messages: u64) {
        self.missed.fetch_add(messages, Ordering::Relaxed);
    }

    /// Counts a refusal on its way to whoever asked.
    #[cold]
    pub(super) fn refused(&self, refusal: &Refusal) {
        let at = Refusal::REASONS.iter().position(|reason| *reason == refusal.reason());
        if let Some(counter) = at.and_then(|at| self.refused.get(at)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn read(&self, topics: &Topics, presence: &presence::All) -> TopicFigures {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let refused = Refusal::REASONS.iter().zip(&self.refused);
        TopicFigures {
            topics: topics.len(),
            bytes: topics.bytes(),
            presence_bytes: presence.bytes(),
            subscriptions: topics.subscriptions(),
            watchers: presence.watchers(),
            published: of(&self.published),
            duplicates: of(&self.duplicates),
            events: of(&self.events),
            updates: of(&self.updates),
            missed: of(&self.missed),
            unseen_members: presence.unseen(),
            overrun_watchers: presence.overrun(),
            dropped_for_memory: topics.dropped_for_memory(),
            forgotten_ids: topics.forgotten_ids(),
            refused: refused.map(|(reason, counter)| (*reason, of(counter))).collect(),
        }
    }
}

/// The figures of all topics. Those of now are `topics`, `bytes`, `presence_bytes`, `subscriptions` and
/// `watchers`; the others count from the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TopicFigures {
    /// Topics with messages or readers.
    pub topics: usize,
    /// Bytes of all logs in memory.
    pub bytes: usize,
    /// Bytes of members, and of changes that their watchers have not read.
    pub presence_bytes: usize,
    /// Subscriptions of topics, joins among them.
    pub subscriptions: usize,
    /// Those who watch members come and go.
    pub watchers: usize,
    /// Messages published.
    pub published: u64,
    /// Publishes of an idempotency key that was known.
    pub duplicates: u64,
    /// Events of the moment published.
    pub events: u64,
    /// Changes of what a member says of itself.
    pub updates: u64,
    /// Messages that readers were not sent: they were gone, or the reader wanted the newest alone.
    pub missed: u64,
    /// Sessions that appeared nowhere, because there were as many members as there may be.
    pub unseen_members: u64,
    /// Times that a watcher of members had to begin anew, because it was too slow.
    pub overrun_watchers: u64,
    /// Portions of the oldest messages that a topic gave up because all together held too much.
    pub dropped_for_memory: u64,
    /// Idempotency keys of topics without messages and readers, which went because there was no memory for them.
    pub forgotten_ids: u64,
    /// Refusals by reason.
    #[serde(serialize_with = "as_object")]
    pub refused: Vec<(&'static str, u64)>,
}

fn as_object<S: serde::Serializer>(
    refused: &[(&'static str, u64)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    // A name as other figures have it.
    let named = refused.iter().map(|(reason, count)| (reason.replace([' ', '-'], "_"), count));
    serializer.collect_map(named)
}
