//! The judge of a reader: what it is told, beside what it may be told.

use std::rc::Rc;

use crate::{
    broken::hold,
    fold::Fold,
    model::{LeavesOut, Life, Model},
    topics::{Form, Lag, Meta, Now, Position},
};

/// A reader as the judge knows it.
#[derive(Debug)]
pub(crate) struct Judge {
    pub(crate) life: Rc<Life>,
    /// The offset that it has not been told of yet.
    pub(crate) at: u64,
    /// The items that come first, as JSON.
    pub(crate) first: Vec<String>,
    /// It is told of a gap before anything else.
    pub(crate) has_gap: bool,
    pub(crate) live_due: bool,
    pub(crate) until: Option<u64>,
    pub(crate) leaves_out: LeavesOut,
    pub(crate) lag: Lag,
    pub(crate) max_lag: u64,
    pub(crate) meta: Meta,
    pub(crate) form: Option<Form>,
    /// It receives messages.
    pub(crate) reads: bool,
    /// The number of the first event that it may see.
    pub(crate) event: usize,
    /// The oldest that is kept, as whoever fills it may know it.
    pub(crate) base: u64,
    /// Messages that it was told it does not get.
    pub(crate) told_missed: u64,
    pub(crate) items: u64,
    /// Its knowledge of a topic of the newest by key.
    pub(crate) fold: Option<Fold>,
    /// It was told to begin anew, since its place was looked at.
    pub(crate) is_anew: bool,
}

/// The moment at which an item is sent.
pub(crate) struct Moment<'a> {
    pub(crate) model: &'a Model,
    pub(crate) now: Now,
    pub(crate) base: u64,
    pub(crate) visible: u64,
    /// The end of what was visible when the reader last looked, at the latest.
    pub(crate) looked: u64,
}

impl Judge {
    /// The metadata as JSON, out of the form they have.
    pub(crate) fn json<'a>(&self, metadata: Option<&'a [u8]>) -> &'a str {
        let metadata = metadata.unwrap_or_default();
        let json = match self.form {
            Some(Form::Composite) if !metadata.is_empty() => {
                let (header, json) = metadata.split_at(metadata.len().min(4));
                let len = (json.len() as u32).to_be_bytes();
                hold!(header == [0x85, len[1], len[2], len[3]], Item, "not a header: {header:?}");
                json
            }
            _ => metadata,
        };
        std::str::from_utf8(json).unwrap_or("not UTF-8")
    }

    /// Looks at an item that it is sent.
    pub(crate) fn item(&mut self, json: &str, data: &[u8], moment: &Moment<'_>) {
        self.items += 1;
        self.base = moment.base;
        match data.first() {
            // A tombstone has no data, and an offset.
            None if self.fold.is_some()
                && json.contains(r#""offset":"#)
                && !json.contains("live") =>
            {
                self.newest(json, data, moment);
            }
            Some(b'm') if self.fold.is_some() => self.newest(json, data, moment),
            Some(b'm') => self.message(json, data, moment),
            Some(b'e') => self.event(json, data, moment),
            _ => self.marker(json, data, moment),
        }
    }

    fn marker(&mut self, json: &str, data: &[u8], moment: &Moment<'_>) {
        hold!(data.is_empty(), Item, "data that nobody published: {data:?} {json}");
        if !self.first.is_empty() {
            let first = self.first.remove(0);
            hold!(json == first, Begin, "told {json} instead of {first}");
            return;
        }
        let read: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
        if !read["base"].is_null() {
            self.anew(json, moment);
        } else if !read["gap"].is_null() {
            self.gap(json, moment);
        } else if !read["live"].is_null() {
            let (epoch, at) = (self.life.epoch, &read["live"]["offset"]);
            let live = format!(r#"{{"live":{{"epoch":"{epoch}","offset":{at}}}}}"#);
            hold!(json == live, Item, "told {json} instead of {live}");
            let head = self.at..=self.may_have_reached();
            let at = at.as_u64().map_or(0, |at| at + 1);
            hold!(head.contains(&at), Account, "live at {at}, and told of {head:?}");
            hold!(self.live_due, Item, "told twice that it is live");
            hold!(!self.has_gap, Account, "live before its gap");
            self.live_due = false;
        } else {
            hold!(false, Item, "an item of no kind: {json}");
        }
    }

    /// The offset up to which a reader may be told of a gap, and whether it is overrun at all.
    fn overrun(&self, moment: &Moment<'_>) -> u64 {
        moment.base.max(moment.visible.saturating_sub(self.max_lag))
    }

    fn gap(&mut self, json: &str, moment: &Moment<'_>) {
        let read: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
        let [from, to] = ["from", "to"].map(|end| read["gap"][end].as_u64().unwrap_or(0));
        let is_exact = read["gap"]["exact"].as_bool().unwrap_or(true);
        let exact = if is_exact { "" } else { r#","exact":false"# };
        let epoch = self.life.epoch;
        let form = format!(r#"{{"gap":{{"from":{from},"to":{to}{exact}}},"epoch":"{epoch}"}}"#);
        hold!(json == form, Item, "told {json} instead of {form}");
        // Its own messages before it may have been left out already.
        let begins = self.at..=self.life.skip_own(self.at, self.leaves_out);
        hold!(
            begins.contains(&from),
            Account,
            "a gap from {from}, and it is to be told of {begins:?}"
        );
        hold!(to >= from, Account, "a gap from {from} to {to}");
        let overrun = self.overrun(moment);
        hold!(
            self.has_gap || from < overrun,
            Account,
            "a gap from {from}, and {} is kept",
            moment.base
        );
        let allowed = match self.lag {
            // It passes over what is kept, and says how many.
            Lag::Conflate => moment.base,
            Lag::Latest => overrun.max(moment.visible - 1),
            _ => overrun,
        };
        hold!(to < allowed, Account, "a gap to {to}, and {allowed} is kept");
        let of = &moment.model.names[self.life.name];
        let all_were = (from..=to).all(|offset| self.life.has(offset) || of.had(offset));
        hold!(!is_exact || all_were, Account, "an exact gap of messages that never were: {json}");
        self.told_missed += to + 1 - from;
        self.at = to + 1;
        self.has_gap = false;
    }

    fn message(&mut self, json: &str, data: &[u8], moment: &Moment<'_>) {
        hold!(self.first.is_empty(), Begin, "a message before {:?}", self.first);
        hold!(!self.has_gap, Account, "a message before its gap");
        let conflates = self.lag == Lag::Conflate;
        let offset = if conflates || self.may_have_own() {
            // The numbers of data never repeat.
            let sent = self.life.sent.borrow();
            let found = sent.iter().rposition(|sent| sent.data == data);
            found.map_or(0, |at| self.life.first + at as u64)
        } else {
            self.life.skip_own(self.at, self.leaves_out)
        };
        hold!(offset >= self.at, Account, "{offset} again, after {}", self.at);
        hold!(offset < moment.visible, Visible, "{offset} of {}", moment.visible);
        let is_past_end = self.until.is_some_and(|until| offset >= until);
        hold!(!is_past_end, End, "{offset} behind its end");
        let steps = offset - self.at;
        let own = (self.at..offset)
            .filter(|offset| self.life.is_own(*offset, self.leaves_out))
            .count() as u64;
        let (json, skipped) = match json.rsplit_once(r#","skipped":"#) {
            Some((json, skipped)) if conflates => {
                let skipped = skipped.strip_suffix('}').and_then(|number| number.parse().ok());
                (format!("{json}}}"), skipped.unwrap_or(0))
            }
            _ => (json.to_owned(), 0),
        };
        self.look_at_message(offset, &json, data);
        if conflates {
            hold!(
                offset + 1 >= moment.looked,
                Account,
                "{offset} is not the newest: {}",
                moment.looked
            );
            if self.meta != Meta::None {
                let all = steps - own..=steps;
                hold!(all.contains(&skipped), Account, "{skipped} skipped, not {all:?}");
            }
        } else {
            hold!(steps == own, Account, "{offset} after {}", self.at);
        }
        self.at = offset + 1;
    }

    /// Looks at the bytes of a message.
    pub(crate) fn look_at_message(&self, offset: u64, json: &str, data: &[u8]) {
        let is_same = self
            .life
            .with(offset, |sent| {
                let meta = match self.meta {
                    Meta::Full => json == sent.json,
                    Meta::Offset => json == format!(r#"{{"offset":{offset}}}"#),
                    Meta::None => json.is_empty(),
                };
                meta && data == sent.data
            })
            .unwrap_or(false);
        hold!(is_same, Account, "not message {offset}: {json} {:?}", String::from_utf8_lossy(data));
        let is_own = self.life.is_own(offset, self.leaves_out);
        hold!(!is_own || self.may_have_own(), Item, "its own: {offset}");
    }

    /// It may be sent its own: whose messages were is not known of those that are read from a disk.
    fn may_have_own(&self) -> bool {
        self.life.disk.is_some() && self.leaves_out.some_messages()
    }

    fn event(&mut self, json: &str, data: &[u8], moment: &Moment<'_>) {
        let life = Rc::clone(&self.life);
        let events = life.events.borrow();
        let found = events.iter().rposition(|event| event.data == data);
        let Some(number) = found else { return hold!(false, Events, "one of nobody: {data:?}") };
        let event = &events[number];
        hold!(number >= self.event, Events, "again, or from before it came: {json}");
        hold!(
            Life::is_waiting(event, moment.now),
            Events,
            "it was over, replaced, or one of too many: {json}"
        );
        hold!(!self.leaves_out.event(event), Events, "its own: {json}");
        let at = self.may_have_reached();
        hold!(
            !self.has_gap && event.at <= at,
            Events,
            "{at} of {} overtaken by one at {}, {:?}: {json}",
            self.at,
            event.at,
            self.lag
        );
        let is_same = match self.meta {
            Meta::Full => json == event.json,
            Meta::Offset => json == r#"{"ephemeral":true}"#,
            Meta::None => json.is_empty(),
        };
        hold!(is_same, Events, "{json} instead of {}", event.json);
        self.event = number + 1;
    }

    /// The offset up to which there is nothing more for it.
    fn reached(&self) -> u64 {
        let next = self.life.visible();
        if self.fold.is_some() {
            return self.next_newest(next);
        }
        // Who wants the newest alone, and that is its own, has it.
        if self.lag == Lag::Conflate && self.life.is_own(next.saturating_sub(1), self.leaves_out) {
            return next;
        }
        // Nor is it told what it missed, where that cannot be told.
        let is_deaf = self.lag == Lag::Conflate && self.form.is_none();
        let topic = self.life.topic.upgrade().filter(|_| is_deaf);
        let base = topic.map_or(0, |topic| topic.base().0.max(self.base));
        self.life.skip_own(self.at.max(base), self.leaves_out)
    }

    /// The offset that it may have come to: who wants the newest alone, and not its own, is told nothing of
    /// one that was the newest when it looked.
    fn may_have_reached(&self) -> u64 {
        let reached = self.reached();
        if self.fold.is_some() || self.lag != Lag::Conflate || !self.leaves_out.some_messages() {
            return reached;
        }
        let is_own = |at: &u64| self.life.is_own(*at, self.leaves_out);
        (reached..self.life.visible()).rfind(is_own).map_or(reached, |own| own + 1)
    }

    /// Whether there is something that it was not told, with credit for it.
    pub(crate) fn is_behind(&self, now: Now) -> bool {
        if !self.reads {
            return self.life.is_deleted.get();
        }
        let next = self.life.visible();
        let end = self.until.map_or(next, |until| until.min(next));
        if self.is_stale() && self.at < end {
            return true;
        }
        if self.has_gap || !self.first.is_empty() || self.live_due {
            return true;
        }
        if self.reached() < end || self.has_ended() {
            return true;
        }
        let events = self.life.events.borrow();
        let unseen = events.iter().enumerate().skip(self.event);
        self.until.is_none()
            && unseen
                .into_iter()
                .any(|(_, event)| Life::is_waiting(event, now) && !self.leaves_out.event(event))
    }

    /// Whether its stream has to end.
    pub(crate) fn has_ended(&self) -> bool {
        let at = self.reached();
        let is_over = self.until.is_some_and(|until| at >= until);
        self.life.is_deleted.get()
            || (!self.has_gap
                && (is_over || (self.life.is_closed.get() && at >= self.life.visible())))
    }

    /// Looks at the end of its stream: it completed, or failed with this text.
    pub(crate) fn ended(&self, failed: Option<&str>, place: u64, moment: &Moment<'_>) {
        let Some(text) = failed else {
            let is_behind_close = self.life.is_closed.get() && self.at >= self.life.closed_at.get();
            let is_right = self.has_ended() || (self.fold.is_some() && is_behind_close);
            return hold!(is_right, End, "completed at {} of {}", self.at, moment.visible);
        };
        let can_tell = self.form.is_some();
        if self.fold.is_some() {
            hold!(
                self.lag == Lag::Close || !can_tell,
                End,
                "failed, and did not ask for it: {text}"
            );
            hold!(text.starts_with("overrun: ") && self.is_stale(), End, "{text}");
            return;
        }
        let closes = self.lag == Lag::Close || (!can_tell && self.lag != Lag::Conflate);
        hold!(closes, End, "failed, and did not ask for it: {text}");
        hold!(text.starts_with("overrun: "), End, "{text}");
        let overrun = self.overrun(moment);
        hold!(place < overrun, End, "failed at {place}, which is kept from {overrun}: {text}");
    }

    /// The position that it would come back with.
    pub(crate) fn position(&self) -> Position {
        Position { epoch: self.life.epoch, after: crate::topics::Offset(self.at - 1) }
    }
}
