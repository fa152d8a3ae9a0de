//! The part of a durable topic that a topic in memory does not have: messages are seen, and acknowledged,
//! when they are on disk.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    task::{Context, Poll, Waker},
};

use super::Topic;
use crate::{
    dedup::DedupKey,
    entry::Message,
    name::TopicName,
    position::{Epoch, Offset},
    refusal::Refusal,
    settings::TopicSettings,
    sync::{Mutex, lock},
};

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
    /// Makes a topic. It is there when the first message behind it is.
    ///
    /// # Errors
    /// As for [`Journal::take`].
    fn create(
        &self,
        name: &TopicName,
        settings: &TopicSettings,
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
    failed: OnceLock<Arc<str>>,
    /// Those who wait for what they published: for each the offset, and what wakes it.
    waiting: Mutex<Vec<(Offset, Waker)>>,
}

impl Durable {
    pub(super) fn new(journal: Box<dyn Journal>, damage: Option<String>) -> Self {
        let failed = damage.map_or_else(OnceLock::new, |damage| OnceLock::from(Arc::from(damage)));
        Self { journal, failed, waiting: Mutex::default() }
    }

    /// Whether it still takes messages.
    pub(super) fn check(&self, topic: &TopicName) -> Result<(), Refusal> {
        self.failed.get().map_or(Ok(()), |cause| Err(Refusal::read_only(topic, cause)))
    }

    pub(super) fn failure(&self) -> Option<Refusal> {
        self.failed.get().map(Refusal::outcome_unknown)
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

    pub(super) fn fail(&self, cause: &str) {
        // The first reason is the one to be told.
        let _ = self.failed.set(cause.into());
        self.acknowledge(Offset::MAX.next());
    }

    /// Waits for a message to be on disk; `visible` says up to where all is.
    pub(super) fn poll_committed(
        &self,
        offset: Offset,
        visible: impl Fn() -> Offset,
        cx: &Context<'_>,
    ) -> Poll<Result<(), Refusal>> {
        let look = || match self.failed.get() {
            _ if visible() > offset => Poll::Ready(Ok(())),
            Some(cause) => Poll::Ready(Err(Refusal::outcome_unknown(cause))),
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
