//! The model of a topic of the newest by key: what is kept of it, and what it deletes and forgets by itself.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    broken::hold,
    model::{Life, Origin, Sent},
    topics::{Cursor, Form, Lag, Now, Offset, Position, Start, SubscribeOptions, Topic},
    world::World,
};

/// The state of a topic: the newest offset of each key.
pub(crate) type State = BTreeMap<String, u64>;

/// The messages that are kept.
#[derive(Debug)]
pub(crate) struct Board {
    /// The newest of each key that is known, tombstones among them.
    last: State,
    living: BTreeSet<u64>,
    tombstones: BTreeSet<u64>,
    /// Messages that a later one of their key has replaced.
    replaced: BTreeSet<u64>,
    /// The newest tombstone, or other deletion, that is not told any more.
    pub(crate) forgotten: u64,
}

impl Board {
    pub(crate) fn new(first: u64) -> Self {
        Self {
            last: State::new(),
            living: BTreeSet::new(),
            tombstones: BTreeSet::new(),
            replaced: BTreeSet::new(),
            forgotten: first - 1,
        }
    }

    /// The newest offset of a key, as publishers may expect it.
    pub(crate) fn last_of(&self, key: &str) -> u64 {
        self.last.get(key).copied().unwrap_or(0)
    }

    pub(crate) fn has_room_for(&self, key: &str, max_keys: usize) -> bool {
        self.living.len() < max_keys || self.living.contains(&self.last_of(key))
    }

    /// Whether it is one of those that are kept.
    pub(crate) fn keeps(&self, offset: u64) -> bool {
        self.living.contains(&offset) || self.tombstones.contains(&offset)
    }

    /// Those that are kept, from this one on.
    pub(crate) fn kept_from(&self, offset: u64) -> impl Iterator<Item = u64> {
        let (mut living, mut tombstones) =
            (self.living.range(offset..).peekable(), self.tombstones.range(offset..).peekable());
        std::iter::from_fn(move || match (living.peek(), tombstones.peek()) {
            (Some(a), Some(b)) if a < b => living.next().copied(),
            (Some(_), None) => living.next().copied(),
            _ => tombstones.next().copied(),
        })
    }

    /// Messages that are kept, tombstones among them.
    pub(crate) fn len(&self) -> usize {
        self.living.len() + self.tombstones.len()
    }

    /// Whether a reader that knows of deletions up to an offset may pass over this one.
    pub(crate) fn is_needless(&self, offset: u64, known: u64) -> bool {
        !self.keeps(offset) && (self.replaced.contains(&offset) || offset <= known)
    }

    fn take(&mut self, offset: u64, key: &str, is_tombstone: bool) {
        if let Some(before) = self.last.insert(key.to_owned(), offset) {
            self.living.remove(&before);
            self.tombstones.remove(&before);
            self.replaced.insert(before);
        }
        let of_kind = if is_tombstone { &mut self.tombstones } else { &mut self.living };
        of_kind.insert(offset);
    }

    fn forget(&mut self, offset: u64) {
        self.tombstones.remove(&offset);
        self.last.retain(|_, last| *last != offset);
        self.forgotten = self.forgotten.max(offset);
    }

    fn clear(&mut self, offset: u64) {
        self.last.clear();
        self.living.clear();
        self.tombstones.clear();
        self.forgotten = offset;
    }

    /// The state, of those keys whose newest message has this offset or a later one.
    pub(crate) fn state(&self, from: u64) -> State {
        let is_told =
            |(_, offset): &(&String, &u64)| self.living.contains(offset) && **offset >= from;
        self.last.iter().filter(is_told).map(|(key, offset)| (key.clone(), *offset)).collect()
    }
}

impl Life {
    /// Adds a message to the topic's list.
    pub(crate) fn push(&self, sent: Sent) {
        if let (Some(board), Some(key)) = (&self.board, &sent.key) {
            board.borrow_mut().take(self.next(), key, sent.is_tombstone);
        }
        self.sent.borrow_mut().push(sent);
    }

    /// All of it has gone, which takes an offset.
    pub(crate) fn push_purge(&self, now: Now) {
        let Some(board) = &self.board else { return };
        board.borrow_mut().clear(self.next());
        let time = self.newest().unwrap_or(self.not_before);
        self.sent.borrow_mut().push(Sent {
            data: Vec::new(),
            json: String::new(),
            sender: Origin::default(),
            time,
            appended: now.monotonic,
            key: None,
            is_tombstone: false,
            id: None,
        });
    }

    /// A key is deleted by the topic itself.
    fn push_deletion(&self, key: &str, topic: &Topic, now: Now) {
        let (time, offset) = (self.time(now), self.next());
        let quoted = serde_json::to_string(key).unwrap_or_default();
        let (name, epoch) = (topic.name(), self.epoch);
        self.push(Sent {
            data: Vec::new(),
            json: format!(
                r#"{{"topic":"{name}","epoch":"{epoch}","offset":{offset},"time":{time},"key":{quoted},"deleted":true}}"#
            ),
            sender: Origin::default(),
            time,
            appended: now.monotonic,
            key: Some(key.to_owned()),
            is_tombstone: true,
            id: None,
        });
    }
}

impl World {
    /// Follows what a topic has deleted and forgotten by itself. `has_retained` is whether it has just let go
    /// of what is too old.
    pub(crate) fn follow(&self, life: &Life, topic: &Topic, has_retained: bool) {
        let Some(board) = &life.board else { return };
        let now = self.now.get();
        let retention = life.settings.retention;
        let is_short = life.bytes.get() + self.adds.get() + 25_000 > retention.bytes
            || self.held.get() > self.plan.settings.limits().memory;
        let age =
            |offset: Option<u64>| life.with(offset?, |sent| now.monotonic.since(sent.appended));
        let mut forgets = has_retained;
        loop {
            let oldest = board.borrow().living.first().copied();
            let is_old = age(oldest).is_some_and(|age| age >= retention.age);
            if !(is_old && has_retained) && forgets {
                self.forget_old(life, board);
                forgets = false;
            }
            if life.next() >= topic.visible().0 {
                hold!(!(is_old && has_retained), Retention, "{:?} old, and kept", age(oldest));
                break;
            }
            let Some(oldest) = oldest else {
                return hold!(false, Visible, "{} of {}", topic.visible(), life.next());
            };
            hold!(is_old || is_short, Retention, "{:?} old, and deleted", age(Some(oldest)));
            let key = life.with(oldest, |sent| sent.key.clone()).flatten().unwrap_or_default();
            life.push_deletion(&key, topic, now);
            self.count(|totals| totals.deletions += 1);
        }
        if is_short {
            self.follow_forgotten(life, topic);
        }
    }

    /// Forgets the tombstones that are too old or too many.
    pub(crate) fn forget_old(&self, life: &Life, board: &std::cell::RefCell<Board>) {
        let now = self.now.get().monotonic;
        let mut board = board.borrow_mut();
        while let Some(oldest) = board.tombstones.first().copied() {
            let age = life.with(oldest, |sent| now.since(sent.appended)).unwrap_or_default();
            let are_many = board.tombstones.len() > life.settings.max_keys;
            if age < life.settings.tombstone_ttl && !are_many {
                break;
            }
            board.forget(oldest);
            self.count(|totals| totals.forgotten += 1);
        }
    }

    /// Finds out which tombstones went for want of memory: the oldest ones, as far as readers have to begin
    /// anew.
    fn follow_forgotten(&self, life: &Life, topic: &Topic) {
        let Some(board) = &life.board else { return };
        let mut board = board.borrow_mut();
        let (mut least, mut most) = (board.forgotten, topic.visible().0 - 1);
        hold!(self.goes_on(life, topic, most), Begin, "who has read all of it has to begin anew");
        while least < most {
            let between = least.midpoint(most);
            if self.goes_on(life, topic, between) {
                most = between;
            } else {
                least = between + 1;
            }
        }
        // One that was replaced by what has just been published may have gone before that.
        let is_tombstone = life.with(most, |sent| sent.is_tombstone) == Some(true);
        let is_one = most == board.forgotten || is_tombstone;
        hold!(is_one, Begin, "begins anew up to {most}, which is no tombstone");
        board.forgotten = most;
        while let Some(oldest) = board.tombstones.first().copied().filter(|oldest| *oldest <= most)
        {
            board.forget(oldest);
            self.count(|totals| totals.forgotten += 1);
        }
    }

    /// Whether a reader that comes back after this offset misses nothing.
    fn goes_on(&self, life: &Life, topic: &Topic, after: u64) -> bool {
        let position = Position { epoch: life.epoch, after: Offset(after) };
        let from = Start::After(position);
        let options = SubscribeOptions { from, lag: Lag::Close, ..SubscribeOptions::default() };
        Cursor::new(topic, &options, Some(Form::Plain), 0, self.now.get()).is_ok()
    }

    /// Looks whether readers have to begin anew where they should, and nowhere else.
    pub(crate) fn look_at_forgotten(&self, life: &Life, topic: &Topic) {
        let Some(board) = &life.board else { return };
        let forgotten = board.borrow().forgotten;
        let goes_on = self.goes_on(life, topic, forgotten);
        hold!(goes_on, Begin, "begins anew after {forgotten}, and has missed nothing");
        let begins_anew = forgotten == 0 || !self.goes_on(life, topic, forgotten - 1);
        hold!(begins_anew, Begin, "goes on after {}, and has missed {forgotten}", forgotten - 1);
    }
}
