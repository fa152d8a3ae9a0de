//! Pages of a topic, from memory and from its disk.

use std::{ops::Range, sync::Arc};

use super::{Moment, Question, Wanted};
use crate::{
    entry::Entry, log::Segment, options::HistoryPageOptions, position::Offset, refusal::Refusal,
    time::Now, topic::Topic,
};

/// Messages that are read from a disk at once, on the way down.
const STORED: u64 = 16;

/// A page of a topic's history, as JSON, as the topic is at this moment. It takes the time of a disk, if the
/// topic is durable.
///
/// # Errors
/// [`Refusal::Rejected`] if it is asked for by a position of another numbering; the disk's error.
pub fn page(topic: &Topic, options: &HistoryPageOptions, now: Now) -> Result<Vec<u8>, Refusal> {
    // Messages are only held under the lock: they are written when it is free again.
    let (question, in_memory, stored) = topic.look(now, |log, end| {
        let in_memory = log.base();
        let base = if topic.is_durable() { topic.base().min(in_memory) } else { in_memory };
        let moment = Moment { topic: topic.name(), epoch: topic.epoch(), base, end };
        let question = Question::new(moment, options)?;
        let limit = question.limit();
        // Those that are not in memory any more are on disk.
        let (segments, stored) = match question.wanted() {
            Wanted::From(from) => {
                let enough = Offset(from.0.saturating_add(limit as u64)).min(in_memory);
                let left = limit.saturating_sub(enough.0.saturating_sub(from.0) as usize);
                (log.upwards(from.max(in_memory), left), from..enough)
            }
            Wanted::Before(before) => {
                let enough = Offset(before.0.saturating_sub(limit as u64)).max(base);
                (log.downwards(before, limit), enough..before.min(in_memory))
            }
        };
        Ok::<_, Refusal>((question, segments, stored))
    })?;
    let wanted = match question.wanted() {
        Wanted::From(from) => from..question.end(),
        Wanted::Before(before) => Offset(0)..before,
    };
    let mut loading = Loading {
        topic,
        now,
        bytes: 0,
        messages: 0,
        max_bytes: options.max_bytes,
        segments: Vec::new(),
    };
    let is_wanted = |entry: &&Entry| wanted.contains(&entry.offset);
    match question.wanted() {
        Wanted::From(_) => {
            let is_more = loading.upwards(stored)?;
            let stored = loading.segments.iter().flat_map(|segment| segment.entries());
            // What is in memory is behind what was read, if that was all.
            let in_memory = in_memory.iter().filter(|_| !is_more);
            let in_memory = in_memory.flat_map(|segment| segment.entries());
            Ok(question.answer(stored.chain(in_memory).filter(is_wanted), is_more))
        }
        Wanted::Before(_) => {
            let before = in_memory.iter().flat_map(|segment| segment.entries()).filter(is_wanted);
            before.for_each(|entry| loading.count(entry));
            let is_more = loading.downwards(stored)?;
            let segments = in_memory.iter().chain(&loading.segments);
            let entries = segments.flat_map(|segment| segment.entries().rev());
            Ok(question.answer(entries.filter(is_wanted), is_more))
        }
    }
}

/// Messages that are read from a disk: as many as a page has room for, and one more.
struct Loading<'a> {
    topic: &'a Topic,
    now: Now,
    /// Bytes of their data, and of those that are in memory.
    bytes: usize,
    /// How many these are.
    messages: usize,
    max_bytes: usize,
    segments: Vec<Arc<Segment>>,
}

impl Loading<'_> {
    /// Whether one more would not be in the page.
    fn is_enough(&self) -> bool {
        self.bytes > self.max_bytes && self.messages > 1
    }

    fn take(&mut self, segment: Option<Arc<Segment>>) {
        if let Some(segment) = segment {
            segment.entries().for_each(|entry| self.count(entry));
            self.segments.push(segment);
        }
    }

    fn count(&mut self, entry: &Entry) {
        self.messages += 1;
        self.bytes += entry.data().len();
    }

    /// Reads these; whether there are more of them.
    fn upwards(&mut self, mut wanted: Range<Offset>) -> Result<bool, Refusal> {
        while wanted.start < wanted.end && !self.is_enough() {
            let max_bytes = self.max_bytes.saturating_sub(self.bytes);
            let (segment, next) = self.topic.load(wanted.clone(), max_bytes, self.now)?;
            if next <= wanted.start {
                break;
            }
            self.take(segment);
            wanted.start = next;
        }
        Ok(wanted.start < wanted.end)
    }

    /// The same from the last of them down.
    fn downwards(&mut self, mut wanted: Range<Offset>) -> Result<bool, Refusal> {
        while wanted.start < wanted.end && !self.is_enough() {
            let from = Offset(wanted.end.0.saturating_sub(STORED)).max(wanted.start);
            let (segment, _) = self.topic.load(from..wanted.end, usize::MAX, self.now)?;
            self.take(segment);
            wanted.end = from;
        }
        Ok(wanted.start < wanted.end)
    }
}
