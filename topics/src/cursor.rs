//! Cursors: readers of a topic. One holds its place and no messages.

use std::{ops::Range, sync::Arc};

use rsock_proto::SharedPayload;
use serde::Serialize;

use crate::{
    entry::{Entry, Form, Meta, Room},
    log::Segment,
    options::{Lag, SubscribeOptions},
    position::{Epoch, Offset, Position},
    refusal::Refusal,
    time::Now,
    topic::{Beginning, Ended, NextNewest, Read, Topic},
};

/// The stream that a cursor fills.
pub trait Sink {
    /// Whether an item may be sent now.
    fn has_room(&mut self) -> bool;

    /// The reader goes on with this message: those before it were sent, or never will be.
    #[inline]
    fn reached(&mut self, _next: Offset) {}

    /// Sends an item. It has room for it.
    ///
    /// # Errors
    /// The reason why it can never be sent, for the stream to fail with.
    fn send(&mut self, item: &SharedPayload) -> Result<(), Refusal>;

    /// Sends a message. It has room for it.
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    #[inline]
    fn send_entry(&mut self, entry: &Entry, shape: Shape, room: &Room<'_>) -> Result<(), Refusal> {
        let Shape { meta, form, skipped } = shape;
        match skipped {
            0 => self.send(&entry.item(meta, form, room)),
            _ => self.send(&entry.item_after_skipped(skipped, meta, form)),
        }
    }

    /// The time.
    fn now(&self) -> Now;

    /// Counts messages that the reader is not sent: they are gone, or it wants the newest alone.
    fn missed(&mut self, _messages: u64) {}
}

/// The shape of a reader's item of a message.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// The parts of its metadata.
    pub meta: Meta,
    /// The form of its metadata.
    pub form: Form,
    /// Messages that were passed over before it, since its reader wants the newest alone.
    pub skipped: u64,
}

/// How far a cursor came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fill {
    /// It has sent all there is: it may wait for a version of the topic later than the one it has
    /// [seen](Cursor::seen).
    CaughtUp,
    /// There is more than its reader takes.
    NoRoom,
    /// The messages that come next are on disk: as many as one likes of these are to be [read](Topic::load) from there, and
    /// given to the reader.
    Stored(Range<Offset>),
    /// The stream completes.
    Ended,
    /// The stream fails.
    Failed(Refusal),
}

/// The place of a reader in a topic's log, and what it has to be told before it goes on.
#[derive(Debug)]
pub struct Cursor {
    next: Offset,
    /// The message behind the last that it reads; none where it reads what is published later.
    until: Option<Offset>,
    gap: Option<(Offset, Offset)>,
    /// Items of the service's own that come first.
    first: Option<Box<First>>,
    /// The number of the next event that it may see.
    event: u64,
    /// Messages that were read from a disk.
    stored: Option<Arc<Segment>>,
    /// Messages older than this are passed over.
    since: u64,
    /// Messages that it passed over, since its reader wants the newest alone.
    skipped: u64,
    max_lag: u64,
    /// The connection whose messages it leaves out; 0 for none.
    leaves_out: u64,
    /// The join that it belongs to, whose events it leaves out; 0 for none.
    join: u32,
    /// It leaves out the join's messages, too.
    leaves_out_own: bool,
    /// The newest deletion of which it knows, or need not, in a topic of the newest by key.
    forgotten: Offset,
    seen: u64,
    tells_live: bool,
    lag: Lag,
    meta: Meta,
    /// None where the connection's metadata cannot hold JSON.
    form: Option<Form>,
}

/// The things that a reader is told before its first message.
#[derive(Debug)]
struct First {
    start: bool,
    presence: Option<&'static str>,
    reset: Option<Position>,
    base: Offset,
    visible: Offset,
}

/// An item of the service's own.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Marker {
    Gap { gap: Missed, epoch: Epoch },
    Reset { gap: Lost, epoch: Epoch, base: Offset },
    Start { start: Start },
    Live { live: Live },
}

#[derive(Serialize)]
pub(crate) struct Missed {
    from: Offset,
    to: Offset,
    #[serde(skip_serializing_if = "Option::is_none")]
    exact: Option<bool>,
}

#[derive(Serialize)]
pub(crate) struct Lost {
    epoch: Epoch,
    from: Offset,
}

#[derive(Serialize)]
pub(crate) struct Start {
    epoch: Epoch,
    next: Offset,
    base: Offset,
    head: Offset,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence: Option<&'static str>,
}

#[derive(Serialize)]
pub(crate) struct Live {
    epoch: Epoch,
    offset: Offset,
}

impl Marker {
    /// Messages that were missed.
    pub(crate) fn gap(topic: &Topic, from: Offset, to: Offset) -> Self {
        let exact = (from < topic.first()).then_some(false);
        Self::Gap { gap: Missed { from, to, exact }, epoch: topic.epoch() }
    }

    /// A position that means nothing here.
    pub(crate) fn reset(topic: &Topic, Position { epoch, after }: Position) -> Self {
        let gap = Lost { epoch, from: after.next() };
        Self::Reset { gap, epoch: topic.epoch(), base: topic.base() }
    }

    pub(crate) fn item(&self, form: Form) -> SharedPayload {
        // Numbers and names of ours can be written as JSON.
        let json = serde_json::to_vec(self).unwrap_or_default();
        SharedPayload::new(Some(&form.metadata(&json)), b"")
    }
}

fn overrun(next: Offset, base: Offset, visible: Offset) -> Refusal {
    Refusal::overrun(visible.0 - next.0, base)
}

impl Cursor {
    /// A cursor where these options have it begin. `form` is that of JSON in its connection's metadata, if
    /// they can hold it; `connection` is the one it reads by.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for items that such a connection cannot be sent, [`Refusal::Rejected`] where
    /// messages were missed of a reader that does not want to be told of gaps, or cannot be.
    pub fn new(
        topic: &Topic,
        options: &SubscribeOptions,
        form: Option<Form>,
        connection: u64,
        now: Now,
    ) -> Result<Self, Refusal> {
        if form.is_none() && (options.tells_start || options.tells_live) {
            let option = if options.tells_start { "start" } else { "live" };
            return Err(Refusal::no_metadata(option));
        }
        let Beginning { next, gap, reset, base, visible, since, forgotten } =
            topic.begin(&options.from, now);
        // Where a gap cannot be told, the stream fails instead.
        let lag = match options.lag {
            Lag::Gap | Lag::Latest if form.is_none() => Lag::Close,
            lag => lag,
        };
        if lag == Lag::Close {
            if let Some((from, _)) = gap {
                return Err(overrun(from, base, visible));
            }
            if let Some(position) = reset {
                return Err(Refusal::began_anew(topic.name(), topic.epoch(), position.epoch));
            }
        }
        let first = First { start: options.tells_start, presence: None, reset, base, visible };
        let has_first = first.start || first.reset.is_some();
        Ok(Self {
            next,
            until: None,
            gap,
            first: has_first.then(|| Box::new(first)),
            event: topic.next_event(),
            stored: None,
            since,
            skipped: 0,
            max_lag: options.max_lag.unwrap_or(u64::MAX),
            leaves_out: if options.has_echo { 0 } else { connection },
            join: 0,
            leaves_out_own: false,
            forgotten,
            seen: 0,
            tells_live: options.tells_live,
            lag,
            meta: if form.is_none() { Meta::None } else { options.meta },
            form,
        })
    }

    /// The same cursor, ending before this message.
    #[must_use]
    pub fn until(mut self, end: Offset) -> Self {
        self.until = Some(end);
        self
    }

    /// The same cursor, for a reader that may not read history: it is told of a gap up to the first message in
    /// memory that is not older than this. The state of a topic of the newest by key is no history.
    ///
    /// # Errors
    /// [`Refusal::Rejected`] where there are such messages, and its reader does not want to be told of gaps,
    /// or cannot be.
    pub fn without_history(mut self, topic: &Topic, time: u64) -> Result<Self, Refusal> {
        let first = topic.first_since(time);
        if topic.is_latest() || first <= self.next {
            return Ok(self);
        }
        if self.lag == Lag::Close {
            return Err(Refusal::not_permitted("history", topic.name(), None));
        }
        let from = self.gap.map_or(self.next, |(from, _)| from);
        (self.gap, self.next, self.since) = (Some((from, Offset(first.0 - 1))), first, 0);
        Ok(self)
    }

    /// The same cursor as that of a join, which is not sent its own events; nor its own messages, if it
    /// leaves them out.
    #[must_use]
    pub fn of_join(mut self, join: u32, leaves_out_own: bool) -> Self {
        (self.join, self.leaves_out_own) = (join, leaves_out_own);
        self
    }

    /// The same cursor, of a member that is not seen by others since they are too many: it is told so where
    /// it begins.
    #[must_use]
    pub fn unseen(mut self) -> Self {
        if let Some(first) = &mut self.first {
            first.presence = Some("full");
        }
        self
    }

    /// The version of the topic of which it has sent everything.
    #[inline]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The message that it reads next.
    pub fn next(&self) -> Offset {
        self.next
    }

    /// Sends all there is, as long as there is room.
    // A part of its only caller for each kind of sink: by itself it costs a delivery more.
    #[inline(always)]
    pub fn fill(&mut self, topic: &Topic, out: &mut impl Sink) -> Fill {
        let filled = self.try_fill(topic, out).unwrap_or_else(Fill::Failed);
        // Whoever takes nothing holds nothing: it is read again.
        self.stored = None;
        filled
    }

    #[inline(always)]
    fn try_fill(&mut self, topic: &Topic, out: &mut impl Sink) -> Result<Fill, Refusal> {
        let version = topic.version();
        // Its end needs no credit, whatever was to be told before.
        if topic.ended() == Ended::Deleted {
            return Ok(Fill::Ended);
        }
        if self.first.is_some() && !self.send_first(topic, out)? {
            return Ok(Fill::NoRoom);
        }
        loop {
            let ended = topic.ended();
            if ended == Ended::Deleted {
                return Ok(Fill::Ended);
            }
            // Behind `ended`: a topic that was closed before is seen whole.
            let visible = topic.visible();
            let end = self.until.map_or(visible, |until| until.min(visible));
            if self.next < end || self.gap.is_some() {
                if !out.has_room() {
                    return Ok(Fill::NoRoom);
                }
                if topic.is_latest() {
                    self.send_next_newest(topic, end, out)?;
                    continue;
                }
                self.catch_up(topic.base(), visible)?;
                if self.gap.is_some() {
                    self.send_gap(topic, out)?;
                    continue;
                }
                if let Some(stored) = self.stored.take() {
                    if !self.send_segment(&stored, end, out)? {
                        return Ok(Fill::NoRoom);
                    }
                    continue;
                }
                match topic.read(self.next, || out.now()) {
                    Read::Below(base) => self.catch_up(base, visible)?,
                    Read::Nothing => {}
                    Read::Stored => return Ok(Fill::Stored(self.next..end)),
                    Read::Segment(segment) => {
                        if !self.send_segment(&segment, end, out)? {
                            return Ok(Fill::NoRoom);
                        }
                    }
                }
                continue;
            }
            if self.until.is_some_and(|until| self.next >= until) || ended == Ended::Closed {
                return Ok(Fill::Ended);
            }
            if self.event != topic.next_event() && self.until.is_none() {
                if !self.send_events(topic, out)? {
                    return Ok(Fill::NoRoom);
                }
                // The log goes first: there may be messages behind those events by now.
                continue;
            }
            if self.tells_live {
                if !out.has_room() {
                    return Ok(Fill::NoRoom);
                }
                self.tells_live = false;
                let offset = Offset(self.next.0 - 1);
                self.send(Marker::Live { live: Live { epoch: topic.epoch(), offset } }, out)?;
            }
            self.seen = version;
            return Ok(Fill::CaughtUp);
        }
    }

    /// Whether there was room for all of it that its reader wants.
    #[inline]
    fn send_segment(
        &mut self,
        segment: &Segment,
        end: Offset,
        out: &mut impl Sink,
    ) -> Result<bool, Refusal> {
        while self.next < end {
            out.reached(self.next);
            if !out.has_room() {
                return Ok(false);
            }
            let Some(entry) = segment.get(self.next) else { break };
            self.next = self.next.next();
            let is_own = self.leaves_out_own && entry.join == self.join
                || self.leaves_out != 0 && self.leaves_out == entry.origin;
            if is_own || entry.time < self.since {
                // What was passed over stays in one piece.
                self.skipped += u64::from(self.skipped > 0);
                continue;
            }
            let form = self.form.unwrap_or(Form::Plain);
            let skipped = std::mem::take(&mut self.skipped);
            if skipped > 0 {
                // The count is that of all threads.
                out.missed(skipped);
            }
            let shape = Shape { meta: self.meta, form, skipped };
            out.send_entry(entry, shape, &segment.room())?;
        }
        Ok(true)
    }

    /// Sends the next messages of a topic of the newest by key, as far as there is room, or has its reader
    /// begin anew.
    fn send_next_newest(
        &mut self,
        topic: &Topic,
        end: Offset,
        out: &mut impl Sink,
    ) -> Result<(), Refusal> {
        match topic.next_newest(self.next, self.forgotten) {
            NextNewest::Messages(messages) => {
                for message in &messages {
                    if message.first() >= end {
                        break;
                    }
                    // Those before it were replaced.
                    self.next = message.first();
                    if !self.send_segment(message, end, out)? {
                        return Ok(());
                    }
                }
                let is_all = messages.last().is_none_or(|last| last.first() >= end);
                self.next = if is_all { end } else { self.next };
                Ok(())
            }
            NextNewest::Anew { base, forgotten } => {
                if self.lag == Lag::Close || self.form.is_none() {
                    return Err(overrun(self.next, base, topic.visible()));
                }
                let position = Position { epoch: topic.epoch(), after: Offset(self.next.0 - 1) };
                (self.next, self.forgotten) = (base, forgotten);
                self.send(Marker::reset(topic, position), out)
            }
        }
    }

    /// Gives it messages that were read from a disk, from the one it reads next on or, where that is lost,
    /// from a later one; none if there are none before this offset.
    ///
    /// # Errors
    /// [`Refusal::overrun`] for a reader that does not want to be told of gaps.
    pub fn give(
        &mut self,
        segment: Option<Arc<Segment>>,
        before: Offset,
        topic: &Topic,
    ) -> Result<(), Refusal> {
        let first = segment.as_ref().map_or(before, |segment| segment.first());
        self.catch_up(first, topic.visible())?;
        self.stored = segment;
        Ok(())
    }

    /// Passes over what is gone, or further behind than its reader wants, as its reader wants it.
    fn catch_up(&mut self, base: Offset, visible: Offset) -> Result<(), Refusal> {
        let newest = Offset(visible.0 - 1);
        if self.lag == Lag::Conflate && newest >= base {
            if self.next < newest {
                self.skipped += newest.0 - self.next.0;
                self.next = newest;
            }
            return Ok(());
        }
        // Also the newest may have gone.
        let newest = newest.max(base);
        let allowed = match self.lag {
            Lag::Conflate => base,
            _ => Offset(visible.0.saturating_sub(self.max_lag)).max(base),
        };
        if self.next >= allowed {
            return Ok(());
        }
        let to = match self.lag {
            Lag::Latest => newest,
            Lag::Close => return Err(overrun(self.next, base, visible)),
            _ => allowed,
        };
        let skipped = std::mem::take(&mut self.skipped);
        let from = self.gap.map_or(Offset(self.next.0 - skipped), |(from, _)| from);
        self.gap = Some((from, Offset(to.0 - 1)));
        self.next = to;
        Ok(())
    }

    /// Whether all of it could be sent.
    fn send_first(&mut self, topic: &Topic, out: &mut impl Sink) -> Result<bool, Refusal> {
        let epoch = topic.epoch();
        while let Some(first) = &mut self.first {
            if !out.has_room() {
                return Ok(false);
            }
            let marker = if std::mem::take(&mut first.start) {
                let head = Offset(first.visible.0 - 1);
                // A reader that missed something begins where it is told of it.
                let next = self.gap.map_or(self.next, |(from, _)| from);
                let First { base, presence, .. } = **first;
                Marker::Start { start: Start { epoch, next, base, head, presence } }
            } else if let Some(Position { epoch: lost, after }) = first.reset.take() {
                let gap = Lost { epoch: lost, from: after.next() };
                Marker::Reset { gap, epoch, base: first.base }
            } else {
                self.first = None;
                continue;
            };
            self.send(marker, out)?;
        }
        Ok(true)
    }

    /// Whether all that wait for it could be sent.
    fn send_events(&mut self, topic: &Topic, out: &mut impl Sink) -> Result<bool, Refusal> {
        loop {
            if !out.has_room() {
                return Ok(false);
            }
            let Some(event) = topic.read_event(&mut self.event, self.next, out.now()) else {
                return Ok(true);
            };
            let is_own = self.join != 0 && self.join == event.join;
            if !(is_own || self.leaves_out != 0 && self.leaves_out == event.origin) {
                out.send(&event.item(self.meta, self.form.unwrap_or(Form::Plain)))?;
            }
        }
    }

    fn send_gap(&mut self, topic: &Topic, out: &mut impl Sink) -> Result<(), Refusal> {
        let Some((from, to)) = self.gap.take() else { return Ok(()) };
        out.missed(to.0 + 1 - from.0);
        self.send(Marker::gap(topic, from, to), out)
    }

    fn send(&self, marker: Marker, out: &mut impl Sink) -> Result<(), Refusal> {
        match self.form {
            Some(form) => out.send(&marker.item(form)),
            // It is not told, and what it would tell of has failed the stream.
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
