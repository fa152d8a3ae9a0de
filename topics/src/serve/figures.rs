//! Counters of topics, over all connections since the start.

use rsock::{Figure, FigureKind};
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

macro_rules! figures {
    ($($kind:ident { $($name:ident: $type:ty = $help:literal;)* })*) => {
        /// The figures of all topics. Those of now can fall; the others count from the start.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
        pub struct TopicFigures {
            $($(#[doc = concat!($help, ".")] pub $name: $type,)*)*
            /// Refusals by reason.
            #[serde(serialize_with = "as_object")]
            pub refused: Vec<(&'static str, u64)>,
        }

        impl TopicFigures {
            /// Every figure but the refusals.
            pub fn each(&self) -> impl Iterator<Item = Figure> + use<> {
                [$($(Figure {
                    name: stringify!($name),
                    help: $help,
                    // A usize has no more bits.
                    value: self.$name as u64,
                    kind: FigureKind::$kind,
                },)*)*]
                .into_iter()
            }
        }
    };
}

figures! {
    Gauge {
        topics: usize = "Topics with messages or readers";
        bytes: usize = "Bytes of all logs in memory";
        presence_bytes: usize = "Bytes of members, and of changes that their watchers have not read";
        subscriptions: usize = "Subscriptions of topics, joins among them";
        watchers: usize = "Those who watch members come and go";
    }
    Counter {
        published: u64 = "Messages published";
        duplicates: u64 = "Publishes of an idempotency key that was known";
        events: u64 = "Events of the moment published";
        updates: u64 = "Changes of what a member says of itself";
        missed: u64 = "Messages that readers were not sent: they were gone, or the reader wanted the newest alone";
        unseen_members: u64 = "Sessions that appeared nowhere, because there were as many members as there may be";
        overrun_watchers: u64 = "Times that a watcher of members had to begin anew, because it was too slow";
        dropped_for_memory: u64 = "Portions of the oldest messages that a topic gave up because all together held too much";
        forgotten_ids: u64 = "Idempotency keys of topics without messages and readers, which went because there was no memory for them";
    }
}

fn as_object<S: serde::Serializer>(
    refused: &[(&'static str, u64)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    // A name as other figures have it.
    let named = refused.iter().map(|(reason, count)| (reason.replace([' ', '-'], "_"), count));
    serializer.collect_map(named)
}
