//! History from the newest to the oldest.

use crate::{
    cursor::{Fill, Marker, Shape, Sink},
    entry::{Form, Meta},
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
}

impl Backward {
    /// A reader that ends where these options have a history begin, whatever their limit. `form` is that of JSON in its
    /// connection's metadata, if they can hold it.
    pub fn new(topic: &Topic, options: &HistoryOptions, form: Option<Form>, now: Now) -> Self {
        let Beginning { next, gap, reset, visible, .. } = topic.begin(&options.from, now);
        let end = options.to.map_or(visible, |to| to.next().min(visible));
        Self {
            end,
            down_to: gap.map_or(next, |(from, _)| from),
            reset,
            meta: if form.is_none() { Meta::None } else { options.meta },
            form,
        }
    }

    /// Sends all there is, as long as there is room.
    pub fn fill(&mut self, topic: &Topic, out: &mut impl Sink) -> Fill {
        match self.try_fill(topic, out) {
            Ok(fill) => fill,
            Err(refusal) => Fill::Failed(refusal),
        }
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
            match topic.read(Offset(self.end.0 - 1), || out.now()) {
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
}
