//! The model: each topic as the plain list of what was published to it, and what is remembered of topics
//! that went.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeSet, VecDeque},
    sync::Weak,
};

use crate::{
    board::Board,
    disk::OnDisk,
    topics::{Epoch, Instant, Kind, Now, Topic, TopicName, TopicSettings},
};

/// The connection that something came by, and the number of the join, if it came by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) connection: u64,
    pub(crate) join: u32,
}

/// The things that a reader is not sent: those of a connection, and of a join the messages and the events; 0
/// for none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LeavesOut {
    pub(crate) connection: u64,
    pub(crate) messages_of: u32,
    pub(crate) events_of: u32,
}

impl LeavesOut {
    fn has(self, of: Origin, join: u32) -> bool {
        let is_of_connection = self.connection != 0 && self.connection == of.connection;
        is_of_connection || (join != 0 && join == of.join)
    }

    pub(crate) fn message(self, sent: &Sent) -> bool {
        self.has(sent.sender, self.messages_of)
    }

    pub(crate) fn event(self, event: &Event) -> bool {
        self.has(event.sender, self.events_of)
    }

    pub(crate) fn some_messages(self) -> bool {
        self.connection != 0 || self.messages_of != 0
    }
}

/// A message that was published, as every reader has to see it.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) data: Vec<u8>,
    /// Its metadata in full.
    pub(crate) json: String,
    pub(crate) sender: Origin,
    pub(crate) time: u64,
    pub(crate) appended: Instant,
    /// The key that it replaces, in a topic of the newest by key.
    pub(crate) key: Option<String>,
    pub(crate) is_tombstone: bool,
    /// The identity under which it was published.
    pub(crate) id: Option<u64>,
}

/// An event of the moment.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) data: Vec<u8>,
    pub(crate) json: String,
    pub(crate) sender: Origin,
    /// The message that a reader reads next that may be sent it.
    pub(crate) at: u64,
    pub(crate) published: Instant,
    /// The name and the key by which a later one takes its place.
    pub(crate) key: Option<(String, String)>,
    /// Another has taken its place, or too many wait.
    pub(crate) is_gone: bool,
}

/// Events wait for so long, and so many.
pub(crate) const EVENT_MICROS: u64 = 5_000_000;
pub(crate) const MAX_EVENTS: usize = 64;

/// One life of a topic, from when it is opened until it is put away or deleted.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) name: usize,
    pub(crate) epoch: Epoch,
    pub(crate) topic: Weak<Topic>,
    pub(crate) settings: TopicSettings,
    /// The offset that its first message got or gets.
    pub(crate) first: u64,
    pub(crate) sent: RefCell<Vec<Sent>>,
    pub(crate) events: RefCell<Vec<Event>>,
    /// The identities under which something was published, with the offsets they got; the oldest first.
    pub(crate) ids: RefCell<VecDeque<(u64, u64)>>,
    pub(crate) had_ids: Cell<bool>,
    pub(crate) is_closed: Cell<bool>,
    /// The offset behind the message with which it was closed: behind that one it deletes keys by itself.
    pub(crate) closed_at: Cell<u64>,
    pub(crate) is_deleted: Cell<bool>,
    pub(crate) readers: Cell<usize>,
    /// The oldest that was kept when it was last looked at, and the bytes it held.
    pub(crate) base: Cell<u64>,
    pub(crate) bytes: Cell<usize>,
    /// The newest time of this name's messages before it that are remembered, and of those that may have
    /// been; and that of its events.
    pub(crate) not_before: u64,
    pub(crate) gone_before: u64,
    pub(crate) newest_event: Cell<u64>,
    /// The newest of each key, in a topic of that kind.
    pub(crate) board: Option<RefCell<Board>>,
    /// Its part on the disk, if it has one.
    pub(crate) disk: Option<OnDisk>,
}

impl Life {
    pub(crate) fn new(
        name: usize,
        epoch: Epoch,
        topic: Weak<Topic>,
        settings: TopicSettings,
        first: u64,
        (not_before, gone_before): (u64, u64),
    ) -> Self {
        let board = (settings.kind == Kind::Latest).then(|| RefCell::new(Board::new(first)));
        Self {
            name,
            epoch,
            topic,
            settings,
            first,
            sent: RefCell::default(),
            events: RefCell::default(),
            ids: RefCell::default(),
            had_ids: Cell::new(false),
            is_closed: Cell::new(false),
            closed_at: Cell::new(first),
            is_deleted: Cell::new(false),
            readers: Cell::new(0),
            base: Cell::new(first),
            bytes: Cell::new(0),
            not_before,
            gone_before,
            newest_event: Cell::new(0),
            board,
            disk: None,
        }
    }

    /// The offset behind its newest message.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.sent.borrow().len() as u64
    }

    /// The offset behind the newest message that readers see.
    pub(crate) fn visible(&self) -> u64 {
        self.disk.as_ref().map_or_else(|| self.next(), |disk| disk.committed.get())
    }

    /// The newest time in it.
    pub(crate) fn newest(&self) -> Option<u64> {
        self.sent.borrow().last().map(|sent| sent.time)
    }

    /// The time that a message gets now.
    pub(crate) fn time(&self, now: Now) -> u64 {
        self.newest().unwrap_or(self.not_before).max(now.unix_ms)
    }

    /// Whether there was a message of this offset.
    pub(crate) fn has(&self, offset: u64) -> bool {
        (self.first..self.next()).contains(&offset)
    }

    pub(crate) fn with<T>(&self, offset: u64, see: impl FnOnce(&Sent) -> T) -> Option<T> {
        let at = usize::try_from(offset.checked_sub(self.first)?).ok()?;
        self.sent.borrow().get(at).map(see)
    }

    /// Whether a reader who leaves these out is not sent the message of this offset.
    pub(crate) fn is_own(&self, offset: u64, leaves_out: LeavesOut) -> bool {
        self.with(offset, |sent| leaves_out.message(sent)) == Some(true)
    }

    /// The first offset from this one on that a reader who leaves these out is sent.
    pub(crate) fn skip_own(&self, mut offset: u64, leaves_out: LeavesOut) -> u64 {
        while self.is_own(offset, leaves_out) {
            offset += 1;
        }
        offset
    }

    /// The offset of what this sender published under this id, if it is to be remembered.
    pub(crate) fn find_id(&self, id: u64) -> Option<u64> {
        self.ids.borrow().iter().find(|(known, _)| *known == id).map(|(_, offset)| *offset)
    }

    pub(crate) fn enter_id(&self, id: u64, offset: u64) {
        let mut ids = self.ids.borrow_mut();
        if ids.len() >= self.settings.dedup_entries {
            ids.pop_front();
        }
        ids.push_back((id, offset));
        self.had_ids.set(true);
    }

    /// Adds an event, which may take another's place.
    pub(crate) fn add_event(&self, event: Event) {
        let mut events = self.events.borrow_mut();
        let now = event.published;
        let mut waiting = 1;
        for other in events.iter_mut().rev().take_while(|other| Self::is_young(other, now)) {
            other.is_gone |= event.key.is_some() && other.key == event.key;
            waiting += usize::from(!other.is_gone);
            other.is_gone |= waiting > MAX_EVENTS;
        }
        events.push(event);
    }

    /// Whether an event still waits for its readers.
    pub(crate) fn is_waiting(event: &Event, now: Now) -> bool {
        !event.is_gone && Self::is_young(event, now.monotonic)
    }

    fn is_young(event: &Event, now: Instant) -> bool {
        now.0 - event.published.0 < EVENT_MICROS
    }
}

/// The memory of a topic that was put away.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) next: u64,
    pub(crate) since: Instant,
    pub(crate) is_closed: bool,
    /// The newest time of its messages, and of those that may have been before.
    pub(crate) newest: u64,
    pub(crate) gone: u64,
}

/// All there is to know of a name in this epoch.
#[derive(Debug, Default)]
pub(crate) struct OfName {
    pub(crate) life: Option<std::rc::Rc<Life>>,
    pub(crate) record: Option<Record>,
    /// The identities of the record, which are remembered unless memory was needed.
    pub(crate) ids: VecDeque<(u64, u64)>,
    /// The offsets of its earlier lives.
    pub(crate) past: Vec<(u64, u64)>,
}

impl OfName {
    /// Whether there was ever a message of this offset.
    pub(crate) fn had(&self, offset: u64) -> bool {
        let is_past = self.past.iter().any(|(first, next)| (*first..*next).contains(&offset));
        is_past || self.life.as_ref().is_some_and(|life| life.has(offset))
    }
}

/// The model.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) names: Vec<OfName>,
    /// No forgotten topic had an offset as large.
    pub(crate) floor: u64,
    /// Nor a message as young.
    pub(crate) floor_time: u64,
}

impl Model {
    pub(crate) fn new(names: usize) -> Self {
        Self { names: (0..names).map(|_| OfName::default()).collect(), floor: 1, floor_time: 0 }
    }

    /// The offset at which a topic of this name begins that is opened now.
    pub(crate) fn begins(&self, name: usize) -> u64 {
        self.names[name].record.map_or(self.floor, |record| record.next)
    }

    /// Ends a life, which leaves a record if there is something to remember.
    pub(crate) fn end_life(&mut self, name: usize, since: Option<Instant>) -> bool {
        let of = &mut self.names[name];
        let Some(life) = of.life.take() else { return true };
        if life.disk.is_some() {
            // The next of its name has a numbering of its own.
            life.is_deleted.set(true);
            return true;
        }
        of.past.push((life.first, life.next()));
        let newest = life.newest().unwrap_or(life.not_before);
        let gone = life.gone_before.max(newest);
        let is_closed = life.is_closed.get() && !life.is_deleted.get();
        let ids = if life.is_deleted.get() { VecDeque::new() } else { life.ids.take() };
        if is_closed || life.is_deleted.get() || life.next() > self.floor || !ids.is_empty() {
            let Some(since) = since else { return false };
            of.ids = ids;
            of.record = Some(Record { next: life.next(), since, is_closed, newest, gone });
        } else {
            of.record = None;
            self.floor_time = self.floor_time.max(gone);
        }
        true
    }

    /// Forgets records that are too old, or too many: the oldest first.
    pub(crate) fn forget(&mut self, names: &[TopicName], now: Instant, memory: u64, most: usize) {
        let all = self.names.iter().zip(names).enumerate();
        let records = all.filter_map(|(at, (of, name))| Some((of.record?.since, name, at)));
        let mut records: BTreeSet<_> = records.collect();
        while let Some(&oldest) = records.first() {
            let (since, _, at) = oldest;
            if now.0 - since.0 < memory && records.len() <= most {
                break;
            }
            records.remove(&oldest);
            self.names[at].ids.clear();
            if let Some(record) = self.names[at].record.take() {
                self.floor = self.floor.max(record.next);
                self.floor_time = self.floor_time.max(record.gone);
            }
        }
    }
}
