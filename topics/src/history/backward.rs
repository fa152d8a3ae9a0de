//! History from the newest to the oldest.

use std::sync::Arc;

use crate::{
    cursor::{Fill, Marker, Shape, Sink},
    entry::{Form, Meta},
    log::Segment,
    options::HistoryOptions,
    position::{Offset, Position},
    refusal::Refusal,
    time::Now,
    topic::{Beginning, Read, Topic},
};

/// A reader that goes down a log: from the newest message that was there when it began to the oldest that it
/// was asked for. It holds its place and no messages.
#[derive(Debug)]
pub struct Backward {
    /// The message behind the next one.
    end: Offset,
    /// The last one that it reads.
    down_to: Offset,
    /// The position that it was asked to end behind, of another numbering.
    reset: Option<Position>,
    meta: Meta,
    form: Option<Form>,
    /// Messages that were read from a disk, and the first of those that were asked for.
    stored: Option<(Option<Arc<Segment>>, Offset)>,
}

/// Messages that are read from a disk at once.
const STORED: u64 = 16;

impl Backward {
    /// A reader that ends where these options have a history begin, whatever their limit. `form` is that of
    /// JSON in its connection's metadata, if they can hold it.
    pub fn new(topic: &Topic, options: &HistoryOptions, form: Option<Form>, now: Now) -> Self {
        let Beginning { next, gap, reset, visible, .. } = topic.begin(&options.from, now);
        let end = options.to.map_or(visible, |to| to.next().min(visible));
        Self {
            end,
            down_to: gap.map_or(next, |(from, _)| from),
            reset,
            meta: if form.is_none() { Meta::None } else { options.meta },
            form,
            stored: None,
        }
    }

    /// Gives it messages that were read from a disk, from this one on.
    pub fn give(&mut self, segment: Option<Arc<Segment>>, from: Offset) {
        self.stored = Some((segment, from));
    }

    /// Sends all there is, as long as there is room.
    pub fn fill(&mut self, topic: &Topic, out: &mut impl Sink) -> Fill {
        let filled = self.try_fill(topic, out).unwrap_or_else(Fill::Failed);
        // Whoever takes nothing holds nothing: it is read again.
        self.stored = None;
        filled
    }

    fn try_fill(&mut self, topic: &Topic, out: &mut impl Sink) -> Result<Fill, Refusal> {
        if let Some(position) = self.reset {
            if !out.has_room() {
                return Ok(Fill::NoRoom);
            }
            self.reset = None;
            let Some(form) = self.form else {
                return Err(Refusal::began_anew(topic.name(), topic.epoch(), position.epoch));
            };
            out.send(&Marker::reset(topic, position).item(form))?;
        }
        while self.end > self.down_to {
            if !out.has_room() {
                return Ok(Fill::NoRoom);
            }
            if let Some((segment, from)) = self.stored.take() {
                let from = from.max(self.down_to);
                if !self.send_stored(segment.as_deref(), from, topic, out)? {
                    return Ok(Fill::NoRoom);
                }
                continue;
            }
            if topic.is_latest() {
                self.send_newest(topic, out)?;
                continue;
            }
            match topic.read(Offset(self.end.0 - 1), || out.now()) {
                Read::Stored => {
                    let from = Offset(self.end.0.saturating_sub(STORED)).max(self.down_to);
                    return Ok(Fill::Stored(from.max(topic.base())..self.end));
                }
                Read::Segment(segment) => {
                    while self.end > self.down_to {
                        if !out.has_room() {
                            return Ok(Fill::NoRoom);
                        }
                        let newest = Offset(self.end.0 - 1);
                        let Some(entry) = segment.get(newest) else { break };
                        self.end = newest;
                        let form = self.form.unwrap_or(Form::Plain);
                        let shape = Shape { meta: self.meta, form, skipped: 0 };
                        out.send_entry(entry, shape, &segment.room())?;
                    }
                }
                // What was asked for from here on is gone.
                Read::Below(base) => {
                    let (from, end) = (self.down_to, self.end);
                    self.end = self.down_to;
                    let Some(form) = self.form else {
                        return Err(Refusal::overrun(end.0 - from.0, base));
                    };
                    out.send(&Marker::gap(topic, from, Offset(end.0 - 1)).item(form))?;
                }
                // There is no message above what was visible when it began.
                Read::Nothing => return Ok(Fill::Ended),
            }
        }
        Ok(Fill::Ended)
    }

    /// Sends the next message of a topic of the newest by key. There is room.
    fn send_newest(&mut self, topic: &Topic, out: &mut impl Sink) -> Result<(), Refusal> {
        let message = topic.newest_before(self.end);
        // Those between were replaced.
        self.end = message.as_ref().map_or(self.down_to, |message| message.first());
        match message.as_ref().and_then(|message| Some((message, message.get(message.first())?))) {
            Some((message, entry)) if self.end >= self.down_to => {
                let form = self.form.unwrap_or(Form::Plain);
                let shape = Shape { meta: self.meta, form, skipped: 0 };
                out.send_entry(entry, shape, &message.room())
            }
            _ => Ok(()),
        }
    }

    /// Whether there was room for all of it, down to this message.
    fn send_stored(
        &mut self,
        segment: Option<&Segment>,
        from: Offset,
        topic: &Topic,
        out: &mut impl Sink,
    ) -> Result<bool, Refusal> {
        let get = |offset| segment.and_then(|segment| segment.get(offset));
        while self.end > from {
            if !out.has_room() {
                return Ok(false);
            }
            let newest = Offset(self.end.0 - 1);
            if let Some(entry) = get(newest) {
                let form = self.form.unwrap_or(Form::Plain);
                let shape = Shape { meta: self.meta, form, skipped: 0 };
                // There is one, which this entry is of.
                let Some(segment) = segment else { return Ok(true) };
                out.send_entry(entry, shape, &segment.room())?;
                self.end = newest;
                continue;
            }
            // The disk has lost it, and as many below it.
            let found = (from.0..newest.0).rev().find(|offset| get(Offset(*offset)).is_some());
            let hole = found.map_or(from, |found| Offset(found).next());
            let Some(form) = self.form else {
                return Err(Refusal::overrun(self.end.0 - hole.0, topic.base()));
            };
            out.send(&Marker::gap(topic, hole, newest).item(form))?;
            self.end = hole;
        }
        Ok(true)
    }
}
