//! Topics of the newest by key: messages that were replaced are no gap, and deletions are told for a while.

use std::sync::Arc;

use super::{Beginning, Ended, Log, Publish, Published, Topic};
use crate::{
    log::{Latest, Ring, Segment},
    memory::Held,
    options::Start,
    position::Offset,
    refusal::Refusal,
    settings::{Kind, TopicSettings},
    sync::{MutexGuard, Ordering, lock},
    time::Now,
};

/// Messages that a reader is given at a time.
const HANDFUL: usize = 16;

/// The messages that a reader of such a topic reads next.
pub(crate) enum NextNewest {
    /// A segment of each alone, and as many as are read at a time. Those between were replaced.
    Messages(Vec<Arc<Segment>>),
    /// It may have missed a deletion: it begins anew with this one, and knows of deletions up to that.
    Anew { base: Offset, forgotten: Offset },
}

/// The messages of a topic in memory, of whichever kind.
pub(crate) enum View<'a> {
    Ring(&'a Ring),
    Latest(&'a Latest),
}

impl View<'_> {
    /// The oldest offset behind whose predecessor nothing was missed.
    pub(crate) fn base(&self) -> Offset {
        match self {
            Self::Ring(ring) => ring.base(),
            Self::Latest(latest) => latest.forgotten().next(),
        }
    }

    /// The messages from this one on: segments of so many, or of some more.
    pub(crate) fn upwards(&self, from: Offset, messages: usize) -> Vec<Arc<Segment>> {
        match self {
            Self::Ring(ring) => ring.upwards(from, messages),
            Self::Latest(latest) => latest.from(from).take(messages).map(Arc::clone).collect(),
        }
    }

    /// The messages before this one, downwards.
    pub(crate) fn downwards(&self, before: Offset, messages: usize) -> Vec<Arc<Segment>> {
        match self {
            Self::Ring(ring) => ring.downwards(before, messages),
            Self::Latest(latest) => latest.before(before).take(messages).map(Arc::clone).collect(),
        }
    }
}

/// The log of a topic with these settings, if it is of this kind.
pub(super) fn log_of(
    settings: &TopicSettings,
    first: Offset,
    held: &Arc<Held>,
) -> Option<Box<Latest>> {
    let TopicSettings { retention, tombstone_ttl, max_keys, .. } = *settings;
    let log = || Latest::new(first, retention, tombstone_ttl, max_keys, Arc::clone(held));
    (settings.kind == Kind::Latest).then(|| Box::new(log()))
}

impl Topic {
    /// Whether it keeps the newest message of each key alone.
    #[inline]
    pub(crate) fn is_latest(&self) -> bool {
        self.settings.kind == Kind::Latest
    }

    /// Publishes a message that nothing else refuses.
    pub(super) fn append_latest(
        &self,
        mut log: MutexGuard<'_, Log>,
        publish: &Publish<'_>,
        now: Now,
    ) -> Result<Published, Refusal> {
        let Publish { message, id, expect, closes, .. } = publish;
        let key = message.key.ok_or_else(|| Refusal::no_key(&self.name))?;
        let Some(latest) = &mut log.latest else { return Err(Refusal::no_key(&self.name)) };
        let last = latest.last_of(key).unwrap_or(Offset(0));
        if let Some(expected) = expect.filter(|expected| *expected != last) {
            return Err(Refusal::conflict(Some(key), last, expected));
        }
        if !message.is_tombstone && !latest.has_room_for(key) {
            return Err(Refusal::too_many_keys(&self.name, self.settings.max_keys));
        }
        let offset = latest.append(&self.encoder, message, now).offset;
        latest.retain(&self.encoder, now);
        self.note_latest(latest);
        log.recent.count(now.monotonic);
        if let Some(id) = *id {
            log.ids.enter(id, offset);
        }
        if *closes {
            self.ended.store(Ended::Closed as u8, Ordering::Release);
        }
        drop(log);
        let (epoch, pump) = (self.epoch, self.hubs.tell());
        Ok(Published { epoch, offset: Some(offset), is_duplicate: false, pump })
    }

    /// Shows readers what was appended.
    pub(super) fn note_latest(&self, latest: &Latest) {
        self.base.store(latest.base().0, Ordering::Release);
        self.visible.store(latest.next().0, Ordering::Release);
    }

    /// The place at which a reader begins.
    pub(super) fn begin_latest(&self, log: &Latest, from: &Start, visible: Offset) -> Beginning {
        let (base, forgotten) = (log.base(), log.forgotten());
        let beginning =
            |next| Beginning { next, gap: None, reset: None, base, visible, since: 0, forgotten };
        match *from {
            Start::New => beginning(visible),
            Start::Oldest => beginning(base),
            Start::Last(count) => beginning(base.max(Offset(visible.0.saturating_sub(count)))),
            Start::Since(time) => beginning(log.since(time)),
            Start::After(position)
                if position.epoch != self.epoch
                    || position.after >= visible
                    || position.after < forgotten =>
            {
                Beginning { reset: Some(position), ..beginning(base) }
            }
            Start::After(position) => beginning(position.after.next()),
        }
    }

    /// The first messages from this offset on, for a reader that knows of deletions up to `known`.
    pub(crate) fn next_newest(&self, next: Offset, known: Offset) -> NextNewest {
        let log = lock(&self.log);
        let Some(latest) = &log.latest else { return NextNewest::Messages(Vec::new()) };
        let (base, forgotten) = (latest.base(), latest.forgotten());
        if forgotten > known && next <= forgotten {
            return NextNewest::Anew { base, forgotten };
        }
        NextNewest::Messages(latest.from(next).take(HANDFUL).map(Arc::clone).collect())
    }

    /// The last message before this offset.
    pub(crate) fn newest_before(&self, end: Offset) -> Option<Arc<Segment>> {
        let log = lock(&self.log);
        log.latest.as_ref()?.before(end).next().map(Arc::clone)
    }
}

#[cfg(test)]
mod tests;
