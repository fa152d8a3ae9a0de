//! The judge of a reader of a topic of the newest by key: what it has been told makes up the topic's state.

use crate::{
    board::State,
    broken::hold,
    judge::{Judge, Moment},
    topics::Position,
};

/// The knowledge of a reader of such a topic.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fold {
    /// The newest that it was told of each key.
    pub(crate) state: State,
    /// Keys whose newest message is older than this it may not know.
    pub(crate) begin: u64,
    /// The newest deletion of which it knows, or need not.
    pub(crate) known: u64,
}

impl Judge {
    /// Takes a message into what the reader knows.
    fn learn(&mut self, offset: u64) {
        let Some(fold) = &mut self.fold else { return };
        let (key, is_tombstone) = self
            .life
            .with(offset, |sent| (sent.key.clone(), sent.is_tombstone))
            .unwrap_or_default();
        let Some(key) = key else { return };
        if is_tombstone {
            fold.state.remove(&key);
        } else {
            fold.state.insert(key, offset);
        }
    }

    /// The reader passes over all before this offset: its own messages, and those that it need not see.
    pub(crate) fn advance(&mut self, to: u64) {
        let Some(fold) = &self.fold else { return };
        let known = fold.known;
        for offset in self.at..to {
            let board = self.life.board.as_ref().map(|board| board.borrow());
            let is_needless = board.is_some_and(|board| board.is_needless(offset, known));
            if self.is_own(offset) {
                // What it has published itself it knows without being told.
                if !is_needless {
                    self.learn(offset);
                }
                continue;
            }
            hold!(is_needless, Account, "{offset} was passed over");
        }
        self.at = self.at.max(to);
    }

    /// Looks at a message of such a topic.
    pub(crate) fn newest(&mut self, json: &str, data: &[u8], moment: &Moment<'_>) {
        hold!(self.first.is_empty(), Begin, "a message before {:?}", self.first);
        let digits = json.split_once(r#""offset":"#).map_or("", |(_, behind)| behind);
        let len = digits.bytes().take_while(u8::is_ascii_digit).count();
        let offset: u64 = digits[..len].parse().unwrap_or(0);
        hold!(offset >= self.at, Account, "{offset} again, after {}", self.at);
        hold!(offset < moment.visible, Visible, "{offset} of {}", moment.visible);
        let is_past_end = self.until.is_some_and(|until| offset >= until);
        hold!(!is_past_end, End, "{offset} behind its end");
        self.advance(offset);
        self.look_at_message(offset, json, data);
        self.learn(offset);
        self.at = offset + 1;
    }

    /// It has to begin anew: it may have missed a deletion.
    pub(crate) fn anew(&mut self, json: &str, moment: &Moment<'_>) {
        let read: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
        let from = read["gap"]["from"].as_u64().unwrap_or(0);
        let (epoch, base) = (self.life.epoch, moment.base);
        let reset = format!(
            r#"{{"gap":{{"epoch":"{epoch}","from":{from}}},"epoch":"{epoch}","base":{base}}}"#
        );
        hold!(json == reset, Item, "told {json} instead of {reset}");
        hold!(from >= self.at, Account, "{from} again, after {}", self.at);
        self.advance(from);
        let forgotten = self.forgotten();
        let Some(fold) = &mut self.fold else {
            return hold!(false, Account, "begins anew, and misses nothing: {json}");
        };
        let has_missed = fold.known < forgotten && from <= forgotten;
        hold!(has_missed, Account, "begins anew at {from}, knows of {}: {json}", fold.known);
        *fold = Fold { known: forgotten, ..Fold::default() };
        (self.at, self.is_anew) = (base, true);
        self.told_missed += 1;
    }

    pub(crate) fn forgotten(&self) -> u64 {
        self.life.board.as_ref().map_or(0, |board| board.borrow().forgotten)
    }

    /// Whether it has to begin anew.
    pub(crate) fn is_stale(&self) -> bool {
        let forgotten = self.forgotten();
        self.fold.as_ref().is_some_and(|fold| fold.known < forgotten && self.at <= forgotten)
    }

    /// The offset of the next message for it.
    pub(crate) fn next_newest(&self, end: u64) -> u64 {
        let Some(board) = &self.life.board else { return end };
        let board = board.borrow();
        let next = board.kept_from(self.at).find(|offset| !self.is_own(*offset));
        next.unwrap_or(end).min(end).max(self.at)
    }

    pub(crate) fn is_own(&self, offset: u64) -> bool {
        self.life.is_own(offset, self.leaves_out)
    }

    /// It has been told all there is: what it knows is the state.
    pub(crate) fn look_at_fold(&mut self, place: u64) {
        self.advance(place);
        let Some(fold) = &self.fold else { return };
        let Some(board) = &self.life.board else { return };
        let state = board.borrow().state(fold.begin);
        let known = fold.state.iter().filter(|(_, offset)| **offset >= fold.begin);
        let known: State = known.map(|(key, offset)| (key.clone(), *offset)).collect();
        hold!(known == state, Account, "knows {known:?}, and it is {state:?} from {}", fold.begin);
        hold!(
            fold.begin > 0 || fold.state == state,
            Account,
            "knows {:?}, and it is {state:?}",
            fold.state
        );
    }

    /// It comes back with this position, and with what it knew there.
    pub(crate) fn takes_up(&mut self, position: Position, saved: Option<Fold>, is_reset: bool) {
        let forgotten = self.forgotten();
        let Some(fold) = &mut self.fold else { return };
        fold.known = forgotten;
        if is_reset {
            (fold.begin, fold.state) = (0, State::new());
        } else if let Some(saved) = saved {
            (fold.begin, fold.state) = (saved.begin, saved.state);
        } else {
            fold.begin = position.after.0 + 1;
        }
    }
}
