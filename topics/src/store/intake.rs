//! The way to the disk: what is published waits here, within bounds, until the committer takes it.

use std::{
    fmt,
    sync::{Arc, Condvar, OnceLock},
    time::Duration,
};

use super::{
    NewTopic, Retention,
    behind::Passed,
    record::{Lost, Record, TopicId},
};
use crate::{
    name::TopicName,
    position::{Epoch, Offset},
    refusal::Refusal,
    sync::{AtomicUsize, Mutex, Ordering, lock},
};

/// Things to do that wait for the committer, beyond which no topic is made.
const MAX_ORDERS: usize = 16_384;

/// The owner of a topic, which is told how its messages fare. It is called by the committer's thread, one call
/// at a time, with nothing locked; every call is short.
pub trait Listener: fmt::Debug + Send + Sync + 'static {
    /// Messages below an offset count: readers may see them, and they are acknowledged. Without a sync they
    /// are written only.
    fn committed(&self, next: Offset, is_synced: bool);
    /// The oldest that is kept is this one.
    fn based(&self, base: Offset);
    /// Messages that were not committed may have been, and nothing is taken any more.
    fn failed(&self, why: &Refusal);
    /// A part of the topic is lost, where this says; nothing is taken any more, and who waits is told as when the
    /// disk has failed.
    fn damaged(&self, damage: &str);
}

/// The bounds of what waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Messages.
    pub messages: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// A durable topic, as its owner has it.
#[derive(Debug)]
pub struct Durable {
    id: TopicId,
    name: TopicName,
    shared: Arc<Shared>,
    pub(super) listener: Arc<dyn Listener>,
    bounds: Waiting,
    messages: AtomicUsize,
    bytes: AtomicUsize,
    /// The reason why nothing is taken any more.
    pub(super) refusal: OnceLock<Refusal>,
}

/// A topic that is to be made.
#[derive(Debug)]
pub(super) struct New {
    pub(super) epoch: Epoch,
    pub(super) first: Offset,
    pub(super) is_loose: bool,
    pub(super) settings: String,
    pub(super) retention: Retention,
}

/// Told when all that was asked for before is on disk, or never will be.
pub(super) type Done = Box<dyn FnOnce(Result<(), Refusal>) + Send>;

/// A thing to do, in the order in which it was asked for.
pub(super) enum Order {
    Create(Arc<Durable>, Box<New>),
    Attach(Arc<Durable>, Retention),
    Append { topic: Arc<Durable>, start: usize, len: usize },
    Configure { topic: TopicId, is_loose: bool, settings: String },
    Trim(TopicId, Offset),
    NoteDamage(TopicId, Lost),
    AcceptDamage(TopicId),
    Delete(TopicId),
    After(Done),
}

/// Orders that wait, and news for the committer. Its orders are bounded by their bytes, and those of messages
/// by their number a topic.
#[derive(Default)]
pub(super) struct Intake {
    pub(super) orders: Vec<Order>,
    /// Records of the messages.
    pub(super) bytes: Vec<u8>,
    /// Bytes of all messages that wait, here or on their way to the disk.
    pub(super) waiting: usize,
    next_id: u64,
    /// The reason why no message is taken; others are, unless the disk has failed.
    pub(super) refusal: Option<Refusal>,
    pub(super) has_failed: bool,
    pub(super) is_closing: bool,
    /// A barrier that has passed.
    pub(super) passed: Option<Passed>,
    /// The shortest time within which some topic wants to be synced.
    pub(super) sync_within: Option<Duration>,
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

/// The part that publishers and the committer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) intake: Mutex<Intake>,
    /// There is something to do.
    pub(super) work: Condvar,
    max_bytes: usize,
    max_record: usize,
}

impl Shared {
    pub(super) fn new(max_bytes: usize, max_record: usize, next: TopicId) -> Arc<Self> {
        Arc::new(Self {
            intake: Mutex::new(Intake { next_id: next.0, ..Intake::default() }),
            work: Condvar::new(),
            max_bytes,
            max_record,
        })
    }

    /// Gives an order that is no message.
    pub(super) fn order(&self, order: Order) -> Result<(), Refusal> {
        let mut intake = lock(&self.intake);
        if intake.has_failed || intake.is_closing {
            return Err(intake.refusal.clone().unwrap_or_else(ended));
        }
        intake.orders.push(order);
        drop(intake);
        self.work.notify_one();
        Ok(())
    }

    /// Notes that messages of a topic were found to be lost. Whoever meets that may be many: if they are too many,
    /// the next one says so again.
    pub(super) fn note_damage(&self, topic: TopicId, lost: &Lost) {
        if lock(&self.intake).orders.len() < MAX_ORDERS {
            // Where nothing is written any more it cannot be noted, and its reader is told all the same.
            let _ = self.order(Order::NoteDamage(topic, lost.clone()));
        }
    }

    fn topic(self: &Arc<Self>, id: TopicId, name: &TopicName, terms: Terms) -> Arc<Durable> {
        if let Some(within) = terms.sync_within {
            let mut intake = lock(&self.intake);
            let least = intake.sync_within.map_or(within, |least| least.min(within));
            intake.sync_within = Some(least);
        }
        Arc::new(Durable {
            id,
            name: name.clone(),
            shared: Arc::clone(self),
            listener: terms.listener,
            bounds: terms.waiting,
            messages: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            refusal: OnceLock::new(),
        })
    }

    pub(super) fn create(
        self: &Arc<Self>,
        new: &NewTopic<'_>,
        terms: Terms,
    ) -> Result<Arc<Durable>, Refusal> {
        let id = {
            let mut intake = lock(&self.intake);
            if let Some(refusal) = &intake.refusal {
                return Err(refusal.clone());
            }
            // Whoever asks for topics that nobody publishes to makes them come and go.
            if intake.orders.len() >= MAX_ORDERS {
                return Err(Refusal::disk_behind(new.name));
            }
            intake.next_id += 1;
            TopicId(intake.next_id - 1)
        };
        let topic = self.topic(id, new.name, terms);
        let NewTopic { epoch, first, is_loose, settings, retention, .. } = *new;
        let new = New { epoch, first, is_loose, settings: settings.to_owned(), retention };
        self.order(Order::Create(Arc::clone(&topic), Box::new(new)))?;
        Ok(topic)
    }

    pub(super) fn attach(
        self: &Arc<Self>,
        state: &super::TopicState,
        retention: Retention,
        terms: Terms,
    ) -> Result<Arc<Durable>, Refusal> {
        let topic = self.topic(state.id, &state.name, terms);
        if let Some(damage) = &state.damage {
            // It is the first to say so.
            let _ = topic.refusal.set(Refusal::damaged(&state.name, damage));
        }
        self.order(Order::Attach(Arc::clone(&topic), retention))?;
        Ok(topic)
    }
}

/// The terms on which a topic is kept.
#[derive(Debug)]
pub struct Terms {
    /// Its owner.
    pub listener: Arc<dyn Listener>,
    /// The bounds of what waits for the disk.
    pub waiting: Waiting,
    /// The time within which messages are synced that count when they are written; if absent the system
    /// syncs them when it likes.
    pub sync_within: Option<Duration>,
}

impl Durable {
    /// Its number.
    pub fn id(&self) -> TopicId {
        self.id
    }

    /// Takes a message, whose offset is the next of the topic. It counts when the
    /// [listener](Listener::committed) is told.
    ///
    /// # Errors
    /// [`Refusal::Rejected`] if too much waits, or the disk is full; [`Refusal::Failed`] if it has failed.
    /// Nothing of the message remains, and its offset is free.
    pub fn append(self: &Arc<Self>, record: &Record<'_>) -> Result<(), Refusal> {
        if let Some(refusal) = self.refusal.get() {
            return Err(refusal.clone());
        }
        let fields = record.fields(self.id);
        let len = fields.len();
        if !fields.fits() || len > self.shared.max_record {
            return Err(Refusal::too_large(&self.name, len, self.shared.max_record));
        }
        let mut intake = lock(&self.shared.intake);
        if let Some(refusal) = &intake.refusal {
            return Err(refusal.clone());
        }
        if intake.is_closing {
            return Err(ended());
        }
        let (messages, bytes) =
            (self.messages.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        // One message is always taken, however large.
        let is_over = messages >= self.bounds.messages
            || (messages > 0 && bytes + len > self.bounds.bytes)
            || (intake.waiting > 0 && intake.waiting + len > self.shared.max_bytes);
        if is_over {
            return Err(Refusal::disk_behind(&self.name));
        }
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(len, Ordering::Relaxed);
        intake.waiting += len;
        let start = intake.bytes.len();
        fields.write(&mut intake.bytes);
        intake.orders.push(Order::Append { topic: Arc::clone(self), start, len });
        let is_first = intake.orders.len() == 1;
        drop(intake);
        if is_first {
            self.shared.work.notify_one();
        }
        Ok(())
    }

    /// Its name.
    pub(super) fn name(&self) -> &TopicName {
        &self.name
    }

    /// Takes nothing any more, and says why. Once.
    pub(super) fn end(&self, why: &Refusal) {
        if self.refusal.set(why.clone()).is_ok() {
            self.listener.failed(why);
        }
    }

    /// Takes nothing any more, since a part of it is lost. Once.
    pub(super) fn damage(&self, damage: &str) {
        if self.refusal.set(Refusal::damaged(&self.name, damage)).is_ok() {
            self.listener.damaged(damage);
        }
    }

    /// Gives back the place of a message that waits no more.
    pub(super) fn release(&self, bytes: usize) {
        self.messages.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Messages of it that wait for the disk, and their bytes.
    pub fn waiting(&self) -> Waiting {
        Waiting {
            messages: self.messages.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

fn ended() -> Refusal {
    Refusal::rejected("draining: the store is being closed; try again when the service is back")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Nobody;

    impl Listener for Nobody {
        fn committed(&self, _: Offset, _: bool) {}
        fn based(&self, _: Offset) {}
        fn failed(&self, _: &Refusal) {}
        fn damaged(&self, _: &str) {}
    }

    /// A committer that is held up does not let strangers fill its memory with topics that come and go.
    #[test]
    fn topics_that_come_and_go_are_bounded() {
        let shared = Shared::new(1 << 20, 1 << 20, TopicId(1));
        let create = |number: usize| {
            let name = TopicName::parse(&format!("t.{number}")).expect("a name");
            let (epoch, first, retention) = (Epoch(1), Offset(1), Retention::default());
            let new =
                NewTopic { name: &name, epoch, first, is_loose: false, settings: "", retention };
            let waiting = Waiting { messages: 1, bytes: 1 };
            let terms = Terms { listener: Arc::new(Nobody), waiting, sync_within: None };
            shared.create(&new, terms)
        };
        let made = (0..).take_while(|number| create(*number).is_ok()).count();
        assert_eq!(made, MAX_ORDERS);
        let refused = create(made).expect_err("full");
        assert!(refused.to_string().starts_with("disk behind: "), "{refused}");
        // What the committer has taken makes room.
        lock(&shared.intake).orders.clear();
        create(made).expect("room");
    }
}
