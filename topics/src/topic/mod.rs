//! Topics: a log that is shared by all who publish to it and read from it.

mod durable;
mod hubs;
mod latest;
mod places;

use std::{cell::Cell, mem, sync::Arc, time::Duration};

pub use durable::{Journal, Recovered, Staged, Store};
pub use hubs::{Hub, Pumped, Wake};

use durable::Durable;
pub(crate) use hubs::Hubs;
pub(crate) use latest::{NextNewest, View};
pub(crate) use places::Place;
use places::Places;

use crate::{
    dedup::{DedupKey, Ids},
    entry::{Encoder, Message},
    ephemeral::{Event, Events},
    log::{KEPT_IN_MEMORY, KEPT_OF_DURABLE, Latest, Ring, Segment},
    memory::Held,
    name::TopicName,
    options::Start,
    position::{Epoch, Offset, Position},
    rate::{Bucket, Recent, TooFast},
    refusal::Refusal,
    settings::{Kind, TopicSettings},
    sync::{AtomicU8, AtomicU64, AtomicUsize, Mutex, Ordering, lock},
    time::{Instant, Now},
};

/// A message to be published, and the conditions under which it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Publish<'a> {
    /// The message.
    pub message: Message<'a>,
    /// The idempotency key: what was published under it is not published again.
    pub id: Option<DedupKey>,
    /// The offset that the topic's last message must have; in a topic of the newest by key, that of the
    /// key's.
    pub expect: Option<Offset>,
    /// It is the last message: readers complete behind it, and nothing is published any more.
    pub closes: bool,
    /// It is an event of the moment, which is not kept. In a topic without a log every message is.
    pub is_ephemeral: bool,
}

/// The answer to a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The numbering.
    pub epoch: Epoch,
    /// The message's number; none for an event that is not kept.
    pub offset: Option<Offset>,
    /// It had been published before, under the same idempotency key.
    pub is_duplicate: bool,
    /// Readers wait for it: the caller has to [pump](Topic::pump).
    pub pump: bool,
}

impl Published {
    /// The answer to what was published before.
    pub(crate) fn known(epoch: Epoch, offset: Offset) -> Self {
        Self { epoch, offset: Some(offset), is_duplicate: true, pump: false }
    }
}

/// The way in which a topic has ended, as readers look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It goes on.
    Not,
    /// Its last message has been published.
    Closed,
    /// It was deleted.
    Deleted,
}

impl Ended {
    const ALL: [Self; 3] = [Self::Not, Self::Closed, Self::Deleted];
}

/// A topic.
#[derive(Debug)]
pub struct Topic {
    name: TopicName,
    epoch: Epoch,
    settings: Arc<TopicSettings>,
    encoder: Encoder,
    /// The offset that its first message here got or gets. Whether there were messages of lower ones
    /// nobody knows any more.
    first: Offset,
    /// The time of the newest of those at most; 0 if there were none.
    gone: u64,
    /// The end of what readers see.
    visible: AtomicU64,
    /// The oldest that is kept.
    base: AtomicU64,
    ended: AtomicU8,
    log: Mutex<Log>,
    events: Mutex<Events>,
    /// The number of the next event: readers look at it without the lock.
    next_event: AtomicU64,
    hubs: Hubs,
    /// The moment at which the last paced pass over those who wait began; 0 if none did.
    last_pass: AtomicU64,
    held: Arc<Held>,
    readers: AtomicUsize,
    places: Places,
    rate: Option<Mutex<Bucket>>,
    durable: Option<Durable>,
    /// The topic's own memory among that of all logs, for as long as it is there.
    all: Arc<AtomicUsize>,
}

/// Bytes that a topic takes without any messages: itself, and its places among others, by name.
pub(crate) const TOPIC_BYTES: usize = size_of::<Topic>() + 512;

impl Drop for Topic {
    fn drop(&mut self) {
        self.all.fetch_sub(TOPIC_BYTES, Ordering::Relaxed);
    }
}

/// The part of a topic that its lock protects.
#[derive(Debug)]
struct Log {
    ring: Ring,
    /// It has the messages instead, of a topic of the newest by key.
    latest: Option<Box<Latest>>,
    ids: Ids,
    /// The last message, which is on its way to the disk.
    closing: Option<Offset>,
    recent: Recent,
}

impl Log {
    /// The offset that the next message gets.
    fn next(&self) -> Offset {
        self.latest.as_ref().map_or_else(|| self.ring.next(), |latest| latest.next())
    }
}

/// The place in a log at which a reader goes on.
pub(crate) enum Read {
    /// Messages from this offset on.
    Segment(Arc<Segment>),
    /// They are on disk, and not in memory.
    Stored,
    /// They are gone; this is the oldest that is kept.
    Below(Offset),
    /// There are no more.
    Nothing,
}

/// The place at which a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beginning {
    /// The first message it gets, if that is still kept.
    pub(crate) next: Offset,
    /// The messages that it missed.
    pub(crate) gap: Option<(Offset, Offset)>,
    /// The position means nothing here.
    pub(crate) reset: Option<Position>,
    pub(crate) base: Offset,
    pub(crate) visible: Offset,
    /// Messages older than this are passed over.
    pub(crate) since: u64,
    /// The newest deletion that nobody is told of any more, in a topic of the newest by key.
    pub(crate) forgotten: Offset,
}

impl Topic {
    /// A topic without messages. The first gets this offset, unless the topic was closed before.
    pub fn new(
        name: TopicName,
        epoch: Epoch,
        first: Offset,
        ended: Ended,
        settings: Arc<TopicSettings>,
        all: &Arc<AtomicUsize>,
    ) -> Self {
        all.fetch_add(TOPIC_BYTES, Ordering::Relaxed);
        let held = Held::new(Arc::clone(all));
        let ring = Ring::new(first, settings.retention, Arc::clone(&held));
        let ids = Ids::new(settings.dedup_entries, Arc::clone(&held));
        Self {
            encoder: Encoder::new(&name, epoch),
            epoch,
            first,
            gone: 0,
            visible: AtomicU64::new(first.0),
            base: AtomicU64::new(first.0),
            ended: AtomicU8::new(ended as u8),
            log: Mutex::new(Log {
                ring,
                latest: latest::log_of(&settings, first, &held),
                ids,
                closing: None,
                recent: Recent::default(),
            }),
            events: Mutex::new(Events::new(name.clone(), Held::new(Arc::clone(all)))),
            next_event: AtomicU64::new(0),
            hubs: Hubs::new(),
            last_pass: AtomicU64::new(0),
            held,
            readers: AtomicUsize::new(0),
            places: Places::default(),
            rate: settings.rate.map(|rate| Mutex::new(Bucket::new(rate))),
            durable: None,
            all: Arc::clone(all),
            name,
            settings,
        }
    }

    /// The same, where there were messages before its first: the newest of its own had this time, and those
    /// that nobody remembers any more were not younger than `gone`. Times go on from there.
    #[must_use]
    pub(crate) fn after(mut self, newest: u64, gone: u64) -> Self {
        self.gone = gone;
        let mut log = lock(&self.log);
        match &mut log.latest {
            Some(latest) => latest.set_newest(newest),
            None => log.ring.set_newest(newest),
        }
        drop(log);
        self
    }

    /// The same, with the idempotency keys of before.
    pub(crate) fn with_ids(self, ids: Ids) -> Self {
        lock(&self.log).ids = ids.held_by(&self.held);
        self
    }

    /// Takes its idempotency keys, for what is left of it when it is put away.
    pub(crate) fn take_ids(&self) -> Ids {
        let none = Ids::new(self.settings.dedup_entries, Arc::clone(&self.held));
        mem::replace(&mut lock(&self.log).ids, none)
    }

    /// Idempotency keys that it remembers.
    pub fn ids(&self) -> usize {
        lock(&self.log).ids.len()
    }

    /// The answer to a publish that it has seen, by its idempotency key.
    pub(crate) fn find(&self, publish: &Publish<'_>) -> Option<Published> {
        let id = publish.id.filter(|_| !self.is_ephemeral(publish))?;
        lock(&self.log).ids.find(id).map(|offset| Published::known(self.epoch, offset))
    }

    fn is_ephemeral(&self, publish: &Publish<'_>) -> bool {
        publish.is_ephemeral || self.settings.kind == Kind::None
    }

    /// The time of the newest message there may have been before its first.
    pub(crate) fn gone(&self) -> u64 {
        self.gone
    }

    /// The time of the newest message there was.
    pub(crate) fn newest(&self) -> u64 {
        let log = lock(&self.log);
        log.latest.as_ref().map_or_else(|| log.ring.newest(), |latest| latest.newest())
    }

    /// Its name.
    pub fn name(&self) -> &TopicName {
        &self.name
    }

    /// Its numbering.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Its settings.
    pub fn settings(&self) -> &Arc<TopicSettings> {
        &self.settings
    }

    /// The offset behind the newest message that readers see.
    #[inline]
    pub fn visible(&self) -> Offset {
        Offset(self.visible.load(Ordering::Acquire))
    }

    /// The oldest message that is kept; [`visible`](Self::visible) if none is.
    pub fn base(&self) -> Offset {
        Offset(self.base.load(Ordering::Acquire))
    }

    /// Bytes that its log holds.
    pub fn bytes(&self) -> usize {
        self.held.bytes()
    }

    /// Whether it has ended.
    #[inline]
    pub fn ended(&self) -> Ended {
        Ended::ALL[usize::from(self.ended.load(Ordering::Acquire))]
    }

    /// Publishes a message.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for one that can never be published here, [`Refusal::Rejected`] for one that
    /// cannot be now. Nothing of it remains.
    pub fn publish(&self, publish: &Publish<'_>, now: Now) -> Result<Published, Refusal> {
        let Publish { message, id, expect, closes, .. } = publish;
        let is_ephemeral = self.is_ephemeral(publish);
        let max = self.settings.max_bytes(is_ephemeral);
        if message.data.len() > max {
            return Err(Refusal::too_large(&self.name, message.data.len(), max));
        }
        if is_ephemeral {
            return self.publish_event(message, now);
        }
        let mut log = lock(&self.log);
        // What was acknowledged is acknowledged again, whatever else would refuse it now.
        if let Some(offset) = id.and_then(|id| log.ids.find(id)) {
            return Ok(Published::known(self.epoch, offset));
        }
        let last = Offset(log.next().0 - 1);
        match self.ended() {
            Ended::Not if log.closing.is_some() => return Err(Refusal::closed(&self.name, last)),
            Ended::Not => {}
            Ended::Closed => return Err(Refusal::closed(&self.name, last)),
            Ended::Deleted => return Err(Refusal::no_topic(&self.name)),
        }
        if log.latest.is_some() {
            return self.append_latest(log, publish, now);
        }
        if let Some(expected) = expect.filter(|expected| *expected != last) {
            return Err(Refusal::conflict(None, last, expected));
        }
        if let Some(durable) = &self.durable {
            durable.check(&self.name)?;
            let (offset, time) = (log.ring.next(), log.ring.time(now));
            let (id, closes, message) = (*id, *closes, *message);
            durable.journal.take(&Staged { offset, time, id, closes, message })?;
        }
        let offset = log.ring.append(&self.encoder, message, now).offset;
        log.recent.count(now.monotonic);
        if let Some(id) = *id {
            log.ids.enter(id, offset);
        }
        let is_visible = self.durable.is_none();
        if is_visible {
            // L2: it is set before it can be seen.
            self.visible.store(offset.next().0, Ordering::Release);
        }
        log.ring.retain(now, self.visible().min(offset));
        self.note_base(&log);
        if *closes && is_visible {
            self.ended.store(Ended::Closed as u8, Ordering::Release);
        } else if *closes {
            log.closing = Some(offset);
        }
        drop(log);
        let pump = is_visible && self.hubs.tell();
        Ok(Published { epoch: self.epoch, offset: Some(offset), is_duplicate: false, pump })
    }

    /// Takes note of what memory has let go: of a durable topic it is still on disk.
    fn note_base(&self, log: &Log) {
        if self.durable.is_none() {
            self.base.store(log.ring.base().0, Ordering::Release);
        }
    }

    /// Takes a token for a publish from the topic's rate.
    pub(crate) fn take_token(&self, now: Now) -> Result<(), TooFast> {
        let Some(bucket) = &self.rate else { return Ok(()) };
        let mut bucket = lock(bucket);
        bucket.try_take(now.monotonic).map_err(|wait| TooFast { rate: bucket.rate(), wait })
    }

    /// An event waits behind the log as it is: it overtakes no message.
    fn publish_event(&self, message: &Message<'_>, now: Now) -> Result<Published, Refusal> {
        match self.ended() {
            Ended::Not => {}
            Ended::Closed => {
                return Err(Refusal::closed(&self.name, Offset(self.visible().0 - 1)));
            }
            Ended::Deleted => return Err(Refusal::no_topic(&self.name)),
        }
        let mut events = lock(&self.events);
        events.publish(message, self.visible(), now);
        self.next_event.store(events.next(), Ordering::Release);
        drop(events);
        let pump = self.hubs.tell();
        Ok(Published { epoch: self.epoch, offset: None, is_duplicate: false, pump })
    }

    /// The number of the next event, which a new reader begins with.
    #[inline]
    pub(crate) fn next_event(&self) -> u64 {
        self.next_event.load(Ordering::Acquire)
    }

    /// The next event for a reader that has read as far as this; its own number goes on.
    pub(crate) fn read_event(
        &self,
        number: &mut u64,
        next: Offset,
        now: Now,
    ) -> Option<Arc<Event>> {
        lock(&self.events).read(number, next, now)
    }

    /// Lets messages and events go that are too old. Whether readers are to be told of it, and the caller
    /// has to [pump](Self::pump).
    pub fn expire(&self, now: Now) -> bool {
        lock(&self.events).expire(now);
        let mut log = lock(&self.log);
        if let Some(latest) = &mut log.latest {
            let is_news = latest.retain(&self.encoder, now);
            self.note_latest(latest);
            drop(log);
            return is_news && self.hubs.tell();
        }
        let keep_from = self.visible();
        log.ring.retain(now, keep_from);
        self.note_base(&log);
        false
    }

    /// Lets all messages go that can be seen. Offsets go on. Whether the caller has to [pump](Self::pump).
    ///
    /// # Errors
    /// Those of [`Journal::trim`].
    pub fn purge(&self) -> Result<bool, Refusal> {
        let mut log = lock(&self.log);
        if let Some(latest) = &mut log.latest {
            latest.purge();
            self.note_latest(latest);
            drop(log);
            return Ok(self.hubs.tell());
        }
        let visible = self.visible();
        if let Some(durable) = &self.durable {
            durable.journal.trim(visible)?;
        }
        log.ring.purge(visible);
        self.base.store(visible.0, Ordering::Release);
        Ok(false)
    }

    /// Whether it has no messages and no readers.
    pub fn is_idle(&self) -> bool {
        // A durable one is there for as long as it has had messages.
        let may_go = || !self.is_durable() || lock(&self.log).ring.next() == Offset(1);
        self.readers() == 0 && self.base() == self.visible() && may_go()
    }

    /// Gives up its oldest messages for those of others; their bytes.
    pub fn give_way(&self) -> usize {
        let mut log = lock(&self.log);
        if let Some(latest) = &mut log.latest {
            let bytes = latest.give_way();
            self.note_latest(latest);
            return bytes;
        }
        let keep = if self.durable.is_some() { KEPT_OF_DURABLE } else { KEPT_IN_MEMORY };
        let bytes = log.ring.give_way(self.visible(), keep);
        self.note_base(&log);
        bytes
    }

    /// Ends all readers, and lets its messages go. Whether the caller has to [pump](Self::pump).
    ///
    /// # Errors
    /// Those of [`Journal::delete`].
    pub fn delete(&self) -> Result<bool, Refusal> {
        // Whoever publishes has the log: one that closes the topic meanwhile does not open it again.
        let mut log = lock(&self.log);
        if let Some(durable) = &self.durable {
            durable.journal.delete()?;
        }
        self.ended.store(Ended::Deleted as u8, Ordering::Release);
        if let Some(latest) = &mut log.latest {
            latest.purge();
            self.note_latest(latest);
        } else {
            let visible = self.visible();
            log.ring.purge(visible);
            self.base.store(visible.0, Ordering::Release);
        }
        drop(log);
        Ok(self.hubs.tell())
    }

    /// The place at which a reader begins that asks for this.
    pub(crate) fn begin(&self, from: &Start, now: Now) -> Beginning {
        let mut log = lock(&self.log);
        let visible = self.visible();
        if let Some(latest) = &log.latest {
            return self.begin_latest(latest, from, visible);
        }
        log.ring.retain(now, visible);
        self.note_base(&log);
        let base = self.base();
        let (since, forgotten) = (0, Offset(0));
        let beginning =
            |next| Beginning { next, gap: None, reset: None, base, visible, since, forgotten };
        let missed =
            |from: Offset| Beginning { gap: Some((from, Offset(base.0 - 1))), ..beginning(base) };
        match *from {
            Start::New => beginning(visible),
            Start::Oldest => beginning(base),
            Start::Last(count) => beginning(base.max(Offset(visible.0.saturating_sub(count)))),
            // Which of them were of that time nobody knows any more.
            Start::Since(time) if self.gone > 0 && self.gone >= time => missed(Offset(1)),
            Start::Since(time) => match log.ring.newest_gone() {
                // They are on disk, where the first is found by reading.
                Some(gone) if gone >= time && self.is_durable() => {
                    Beginning { since: time, ..beginning(base) }
                }
                // Which of them were of that time nobody knows any more.
                Some(gone) if gone >= time => missed(self.first),
                _ => beginning(log.ring.since(time).min(visible)),
            },
            Start::After(position) if position.epoch != self.epoch || position.after >= visible => {
                Beginning { reset: Some(position), ..beginning(base) }
            }
            Start::After(position) => match position.after.next() {
                next if next < base => missed(next),
                next => beginning(next),
            },
        }
    }

    /// The first message in memory that is not older than this; the next one where none is.
    pub(crate) fn first_since(&self, time: u64) -> Offset {
        lock(&self.log).ring.since(time).min(self.visible())
    }

    /// The offset that its first message here got: whether there were others of lower ones, in this epoch,
    /// is not known any more.
    pub(crate) fn first(&self) -> Offset {
        self.first
    }

    /// The messages from this offset on.
    pub(crate) fn read(&self, next: Offset, now: impl Fn() -> Now) -> Read {
        let mut log = lock(&self.log);
        let visible = self.visible();
        // The newest is young, or a timer will let it go.
        if !log.ring.is_newest(next) && log.ring.expires().is_some_and(|at| at <= now().monotonic) {
            log.ring.retain(now(), visible);
            self.note_base(&log);
        }
        match log.ring.find(next) {
            _ if next >= visible => Read::Nothing,
            Some(segment) => Read::Segment(Arc::clone(segment)),
            None if next >= self.base() => Read::Stored,
            None => Read::Below(self.base()),
        }
    }

    /// Looks at the log at one moment, with the end of what readers see.
    pub(crate) fn look<T>(&self, now: Now, see: impl FnOnce(View<'_>, Offset) -> T) -> T {
        let mut log = lock(&self.log);
        let visible = self.visible();
        if let Some(latest) = &log.latest {
            return see(View::Latest(latest), visible);
        }
        log.ring.retain(now, visible);
        self.note_base(&log);
        see(View::Ring(&log.ring), visible)
    }

    /// One more reader of this connection.
    pub fn enter(&self, connection: u64, wake: impl FnOnce() -> Box<dyn Wake>) -> Arc<Hub> {
        self.readers.fetch_add(1, Ordering::Relaxed);
        self.hubs.enter(connection, wake)
    }

    /// One reader less.
    pub fn leave(&self, hub: &Hub) {
        self.readers.fetch_sub(1, Ordering::Relaxed);
        self.hubs.leave(hub);
    }

    /// The place of one more reader, until it [goes](Self::leave_place).
    pub(crate) fn enter_place(&self) -> Arc<Place> {
        self.places.enter()
    }

    pub(crate) fn leave_place(&self, place: &Place) {
        self.places.leave(place);
    }

    /// Messages that the slowest of its readers is behind, as it was when that was polled last; none if nobody
    /// reads.
    pub fn behind(&self) -> Option<u64> {
        Some(self.visible().0.saturating_sub(self.places.slowest()?.0))
    }

    /// Publishes a second, messages and events, over the last ten seconds.
    pub fn publishes_per_second(&self, now: Now) -> f64 {
        let messages = lock(&self.log).recent.per_second(now.monotonic);
        messages + lock(&self.events).per_second(now)
    }

    /// Its readers.
    pub fn readers(&self) -> usize {
        self.readers.load(Ordering::Relaxed)
    }

    /// The version of the topic: it is raised with all that a reader would want to be woken for.
    #[inline]
    pub fn version(&self) -> u64 {
        self.hubs.version()
    }

    /// Has the hub woken when there are news; its reader then looks at the [version](Self::version) once
    /// more.
    pub fn wait(&self, hub: &Arc<Hub>) {
        self.hubs.wait(hub);
    }

    /// Wakes a handful of those that wait for news, whatever the time between two passes is to be.
    pub fn pump(&self) -> Pumped {
        self.hubs.pump()
    }

    /// The same, with the time that its settings want between the beginnings of two passes over all who wait: what
    /// is published meanwhile is one wake of each connection. Where there is [more](Pumped::More), the time until
    /// this is to be called again.
    pub fn pump_paced(&self, now: impl FnOnce() -> Instant) -> (Pumped, Duration) {
        let pause = self.settings.coalesce;
        if pause.is_zero() {
            return (self.pump(), Duration::ZERO);
        }
        // 0 is none.
        let (now, wait) = (now().0.max(1), Cell::new(Duration::ZERO));
        let pumped = self.hubs.pump_when(|| {
            // One pumps at a time: nobody else changes it.
            let until = match self.last_pass.load(Ordering::Relaxed) {
                0 => Instant(0),
                last => Instant(last) + pause,
            };
            wait.set(until.since(Instant(now)));
            if wait.get().is_zero() {
                self.last_pass.store(now, Ordering::Relaxed);
            }
            wait.get().is_zero()
        });
        (pumped, wait.get())
    }
}

#[cfg(test)]
mod tests;
