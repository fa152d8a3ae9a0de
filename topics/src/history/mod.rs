//! History: parts of a log, as pages and as streams.

mod backward;
mod page;
#[cfg(test)]
mod tests;

pub use backward::Backward;
pub use page::{Moment, Question, Wanted};

use crate::{options::HistoryPageOptions, refusal::Refusal, time::Now, topic::Topic};

/// A page of a topic's history, as JSON, as the topic is at this moment.
///
/// # Errors
/// [`Refusal::Rejected`] if it is asked for by a position of another numbering.
pub fn page(topic: &Topic, options: &HistoryPageOptions, now: Now) -> Result<Vec<u8>, Refusal> {
    // Messages are only held under the lock: they are written when it is free again.
    let (question, segments) = topic.look(now, |log, end| {
        let (name, epoch, base) = (topic.name(), topic.epoch(), log.base());
        let question = Question::new(Moment { topic: name, epoch, base, end }, options)?;
        let segments = match question.wanted() {
            Wanted::From(from) => log.upwards(from, question.limit()),
            Wanted::Before(before) => log.downwards(before, question.limit()),
        };
        Ok::<_, Refusal>((question, segments))
    })?;
    let end = question.end();
    Ok(match question.wanted() {
        Wanted::From(from) => {
            let entries = segments.iter().flat_map(|segment| segment.entries());
            question.answer(entries.filter(|entry| (from..end).contains(&entry.offset)))
        }
        Wanted::Before(before) => {
            let entries = segments.iter().flat_map(|segment| segment.entries().rev());
            question.answer(entries.filter(|entry| entry.offset < before))
        }
    })
}
