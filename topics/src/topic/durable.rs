//! The part of a durable topic that a topic in memory does not have: messages are seen, and acknowledged,
//! when they are on disk.

use std::{
    collections::VecDeque,
    fmt,
    ops::Range,
    sync::{Arc, OnceLock},
    task::{Context, Poll, Waker},
};

use super::{Ended, Topic};
use crate::{
    dedup::DedupKey,
    entry::{Entry, Message},
    log::{Ring, Segment},
    name::TopicName,
    position::{Epoch, Offset},
    refusal::Refusal,
    settings::{Retention, TopicSettings},
    sync::{AtomicU64, AtomicUsize, Mutex, Ordering, lock},
    time::Now,
};

/// Bytes that are read at once of a disk for those who want more: there may be much behind what they want.
pub(super) const PORTION: usize = 64 << 10;

/// A message that has its number, on its way to the disk or back.
#[derive(Clone, Copy, Debug)]
pub struct Staged<'a> {
    /// Its number.
    pub offset: Offset,
    /// Milliseconds since 1970.
    pub time: u64,
    /// Its idempotency key.
    pub id: Option<DedupKey>,
    /// It is the last of its topic.
    pub closes: bool,
    /// The message.
    pub message: Message<'a>,
}

/// The disk, as a topic writes to it. What it takes is written behind all that it has taken before; the
/// topic is told by [`Topic::commit`](super::Topic::commit) or [`Topic::fail`](super::Topic::fail).
pub trait Journal: fmt::Debug + Send + Sync {
    /// Tells this topic, from now on.
    fn bind(&self, topic: &Arc<Topic>);

    /// Takes a message.
    ///
    /// # Errors
    /// [`Refusal::disk_behind`] where too much waits, and others where the disk is full or has failed:
    /// nothing of the message is kept.
    fn take(&self, staged: &Staged<'_>) -> Result<(), Refusal>;

    /// Reads messages from this one on, as many as are in so many bytes or a little more, and gives them in
    /// order. The offset to go on from. It takes the time of a disk.
    ///
    /// # Errors
    /// The disk's error.
    fn read(
        &self,
        from: Offset,
        max_bytes: usize,
        give: &mut dyn FnMut(Staged<'_>),
    ) -> Result<Offset, Refusal>;

    /// Lets messages before this one go.
    ///
    /// # Errors
    /// As for [`take`](Self::take).
    fn trim(&self, base: Offset) -> Result<(), Refusal>;

    /// Lets the whole topic go.
    ///
    /// # Errors
    /// As for [`take`](Self::take).
    fn delete(&self) -> Result<(), Refusal>;
}

/// The place where durable topics are kept.
pub trait Store: fmt::Debug + Send + Sync {
    /// Makes a topic, with this numbering, if one of its name had it that never had a message. It is there when the
    /// first message behind it is.
    ///
    /// # Errors
    /// As for [`Journal::take`].
    fn create(
        &self,
        name: &TopicName,
        settings: &TopicSettings,
        epoch: Option<Epoch>,
    ) -> Result<(Recovered, Box<dyn Journal>), Refusal>;
}

/// A durable topic as it was found on disk.
#[derive(Debug)]
pub struct Recovered {
    /// Its numbering.
    pub epoch: Epoch,
    /// The oldest message that is kept.
    pub base: Offset,
    /// The offset that the next message gets.
    pub next: Offset,
    /// Its last message has been published.
    pub is_closed: bool,
    /// The time of its newest message.
    pub time: u64,
    /// The reason why it takes nothing.
    pub damage: Option<String>,
}

/// The disk's part of a topic.
#[derive(Debug)]
pub(super) struct Durable {
    pub(super) journal: Box<dyn Journal>,
    /// The reason why it takes nothing any more.
    stopped: OnceLock<Box<Stopped>>,
    /// Those who wait for what they published: for each the offset, and what wakes it.
    waiting: Mutex<Vec<(Offset, Waker)>>,
}

/// The reason why a topic takes nothing any more.
#[derive(Debug)]
enum Stopped {
    /// The disk has failed.
    Failed(String),
    /// A part of the topic is lost.
    Damaged(String),
}

impl Stopped {
    fn cause(&self) -> &str {
        match self {
            Self::Failed(cause) | Self::Damaged(cause) => cause,
        }
    }
}

impl Durable {
    pub(super) fn new(journal: Box<dyn Journal>, damage: Option<String>) -> Self {
        let stopped = damage.map_or_else(OnceLock::new, |damage| {
            OnceLock::from(Box::new(Stopped::Damaged(damage)))
        });
        Self { journal, stopped, waiting: Mutex::default() }
    }

    /// Whether it still takes messages.
    pub(super) fn check(&self, topic: &TopicName) -> Result<(), Refusal> {
        match self.stopped.get().map(|stopped| &**stopped) {
            None => Ok(()),
            Some(Stopped::Failed(cause)) => Err(Refusal::read_only(topic, cause)),
            Some(Stopped::Damaged(damage)) => Err(Refusal::damaged(topic, damage)),
        }
    }

    pub(super) fn failure(&self) -> Option<Refusal> {
        self.stopped.get().map(|stopped| Refusal::outcome_unknown(stopped.cause()))
    }

    /// Ends the waits for messages before this one.
    pub(super) fn acknowledge(&self, next: Offset) {
        let mut waiting = lock(&self.waiting);
        let mut acknowledged = Vec::new();
        waiting.retain_mut(|(offset, waker)| {
            let waits = *offset >= next;
            if !waits {
                acknowledged.push(waker.clone());
            }
            waits
        });
        drop(waiting);
        acknowledged.into_iter().for_each(Waker::wake);
    }

    fn stop(&self, stopped: Stopped) {
        // The first reason is the one to be told.
        let _ = self.stopped.set(Box::new(stopped));
        self.acknowledge(Offset::MAX.next());
    }

    /// Waits for a message to be on disk; `visible` says up to where all is.
    pub(super) fn poll_committed(
        &self,
        offset: Offset,
        visible: impl Fn() -> Offset,
        cx: &Context<'_>,
    ) -> Poll<Result<(), Refusal>> {
        let look = || match self.stopped.get() {
            _ if visible() > offset => Poll::Ready(Ok(())),
            Some(stopped) => Poll::Ready(Err(Refusal::outcome_unknown(stopped.cause()))),
            None => Poll::Pending,
        };
        if let Poll::Ready(outcome) = look() {
            return Poll::Ready(outcome);
        }
        lock(&self.waiting).push((offset, cx.waker().clone()));
        // What came just before has woken nobody.
        look()
    }
}

/// The part of a topic that its disk has.
impl Topic {
    /// A topic whose messages go through this journal, as it was found on disk or is new there.
    pub fn durable(
        name: TopicName,
        recovered: &Recovered,
        journal: Box<dyn Journal>,
        settings: Arc<TopicSettings>,
        all: &Arc<AtomicUsize>,
    ) -> Self {
        let Recovered { epoch, base, next, is_closed, time, .. } = *recovered;
        let ended = if is_closed { Ended::Closed } else { Ended::Not };
        let mut topic = Self::new(name, epoch, next, ended, settings, all);
        lock(&topic.log).ring = topic.memory_from(next, time);
        topic.first = base;
        topic.base = AtomicU64::new(base.0);
        topic.durable = Some(Durable::new(journal, recovered.damage.clone()));
        topic
    }

    /// The part of a durable topic's messages that is kept in memory: none yet, and however many are on disk,
    /// no more than a topic in memory has by default.
    fn memory_from(&self, first: Offset, newest: u64) -> Ring {
        let least = Retention::default();
        let retention = Retention {
            messages: self.settings.retention.messages.min(least.messages),
            bytes: self.settings.retention.bytes.min(least.bytes),
            ..self.settings.retention
        };
        let mut ring = Ring::new(first, retention, Arc::clone(&self.held));
        ring.set_newest(newest);
        ring
    }

    /// Takes a message that was read from the disk when that was opened: the last ones of a topic in their
    /// order, up to the newest, so that they are in memory and their idempotency keys are known.
    pub fn restore(&self, staged: &Staged<'_>, now: Now) {
        let Staged { offset, time, id, message, .. } = staged;
        let mut log = lock(&self.log);
        if log.ring.next() != *offset {
            // It is the first, or those before it are lost: memory has no holes.
            log.ring = self.memory_from(*offset, 0);
        }
        log.ring.restore(&self.encoder, message, *time, now);
        log.ring.retain(now, offset.next());
        if let Some(id) = *id {
            log.ids.enter(id, *offset);
        }
    }

    /// The end of what was [restored](Self::restore).
    pub fn restored(&self, recovered: &Recovered) {
        let mut log = lock(&self.log);
        if log.ring.next() != recovered.next {
            log.ring = self.memory_from(recovered.next, recovered.time);
        }
        log.ring.set_newest(recovered.time);
    }

    /// Messages before this one are on disk: readers see them, and their publishers are answered. Whether
    /// the caller has to [pump](Self::pump).
    pub fn commit(&self, next: Offset) -> bool {
        let log = lock(&self.log);
        // A commit that is told late tells nothing.
        self.visible.fetch_max(next.0, Ordering::AcqRel);
        if self.ended() == Ended::Not && log.closing.is_some_and(|last| last < next) {
            self.ended.store(Ended::Closed as u8, Ordering::Release);
        }
        drop(log);
        if let Some(durable) = &self.durable {
            durable.acknowledge(next);
        }
        self.hubs.tell()
    }

    /// The disk has failed: nothing more is taken, and what waits for it may be there or not. Whether the
    /// caller has to [pump](Self::pump).
    pub fn fail(&self, cause: &str) -> bool {
        self.stop(Stopped::Failed(cause.into()))
    }

    /// A part of it was found to be lost, where this says: nothing more is taken. Whether the caller has to
    /// [pump](Self::pump).
    pub fn damaged(&self, damage: &str) -> bool {
        self.stop(Stopped::Damaged(damage.into()))
    }

    fn stop(&self, stopped: Stopped) -> bool {
        if let Some(durable) = &self.durable {
            durable.stop(stopped);
        }
        self.hubs.tell()
    }

    /// The refusal for what waits for a disk that has failed.
    pub fn failure(&self) -> Option<Refusal> {
        self.durable.as_ref().and_then(Durable::failure)
    }

    /// Messages before this one have gone from the disk.
    pub fn trimmed(&self, base: Offset) {
        self.base.fetch_max(base.0.min(self.visible().0), Ordering::AcqRel);
    }

    /// Waits until a message that was published is where its acknowledgement promises.
    ///
    /// # Errors
    /// [`Refusal::outcome_unknown`], where the disk has failed meanwhile.
    pub fn poll_committed(&self, offset: Offset, cx: &Context<'_>) -> Poll<Result<(), Refusal>> {
        match &self.durable {
            None => Poll::Ready(Ok(())),
            Some(durable) => durable.poll_committed(offset, || self.visible(), cx),
        }
    }

    /// Reads messages from its disk: from the beginning of this range on as many as are in so many bytes, or
    /// a little more; with the offset to go on from. None if there are none before that. It takes the time of
    /// a disk.
    ///
    /// # Errors
    /// The disk's error.
    pub fn load(
        &self,
        wanted: Range<Offset>,
        max_bytes: usize,
        now: Now,
    ) -> Result<(Option<Arc<Segment>>, Offset), Refusal> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let next = self.read_disk(
            wanted,
            max_bytes.min(PORTION),
            |entry| {
                let has_room = bytes < max_bytes;
                if has_room {
                    bytes += entry.data().len();
                    entries.push(entry);
                }
                has_room
            },
            now,
        )?;
        let segment = Segment::of(entries, &self.held);
        let next = segment.as_ref().map_or(next, |segment| segment.end());
        Ok((segment, next))
    }

    /// The same from the end of this range downwards, for those who read that way: with the first of which
    /// it tells all.
    ///
    /// # Errors
    /// The disk's error.
    pub fn load_last(
        &self,
        wanted: Range<Offset>,
        max_bytes: usize,
        now: Now,
    ) -> Result<(Option<Arc<Segment>>, Offset), Refusal> {
        let mut from = wanted.start;
        let mut entries = VecDeque::new();
        let mut bytes = 0;
        self.read_disk(
            wanted,
            max_bytes,
            |entry| {
                bytes += entry.data().len();
                entries.push_back(entry);
                // The last one stays, however large.
                while bytes > max_bytes
                    && entries.len() > 1
                    && let Some(oldest) = entries.pop_front()
                {
                    bytes -= oldest.data().len();
                    from = oldest.offset.next();
                }
                true
            },
            now,
        )?;
        Ok((Segment::of(entries.into(), &self.held), from))
    }

    /// Reads messages of this range from its disk in their order, until one is not taken any more, in
    /// portions of so many bytes; the offset to go on from.
    fn read_disk(
        &self,
        wanted: Range<Offset>,
        max_bytes: usize,
        mut take: impl FnMut(Entry) -> bool,
        now: Now,
    ) -> Result<Offset, Refusal> {
        let Some(durable) = &self.durable else { return Ok(wanted.start) };
        let (mut next, mut goes_on) = (wanted.start, true);
        while next < wanted.end && goes_on {
            let read = durable.journal.read(next, max_bytes, &mut |staged| {
                let Staged { offset, time, message, .. } = staged;
                if goes_on && offset < wanted.end {
                    let entry = Entry::new(&self.encoder, offset, time, now.monotonic, &message);
                    goes_on = take(entry);
                }
            });
            let read = match read {
                // Its reader is about to be told that it has ended.
                Err(_) if self.is_deleted() => return Ok(next),
                read => read?,
            };
            goes_on &= read > next;
            next = read;
        }
        // Where the disk has let all of these go, it has gone on behind them.
        Ok(next.min(wanted.end))
    }

    /// Whether it was deleted, also by whoever is about to.
    fn is_deleted(&self) -> bool {
        let _log = lock(&self.log);
        self.ended() == Ended::Deleted
    }

    /// Has its journal tell it what is on disk, and what is not any more.
    pub(crate) fn bind(self: &Arc<Self>) {
        if let Some(durable) = &self.durable {
            durable.journal.bind(self);
        }
    }

    /// Whether its messages go to a disk.
    pub fn is_durable(&self) -> bool {
        self.durable.is_some()
    }
}
