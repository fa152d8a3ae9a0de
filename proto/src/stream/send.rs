//! The half of a stream we send on: the peer's credit, one turn's items, and how it ends.

use std::{collections::VecDeque, mem};

use crate::{error::StreamError, payload::Payload, stream::Credit};

/// Items a stream may hold before they are written: one turn's worth.
pub(crate) const OUTBOX_ITEMS: usize = 32;

/// How the half ends once its items are written.
#[derive(Debug)]
pub(crate) enum Terminal {
    Complete,
    Error(StreamError),
}

/// ```text
///  open ──finish──▶ finishing ──written──▶ done
///   └──────────────abandon──────────────────▲
/// ```
#[derive(Debug)]
pub(crate) struct SendHalf {
    credit: Credit,
    /// The next request-n is told, whether or not it is waited for.
    is_watched: bool,
    outbox: Outbox,
    state: State,
}

#[derive(Debug)]
enum State {
    Open,
    Finishing(Terminal),
    Done,
}

impl SendHalf {
    /// Opens it where it lies; it was closed.
    pub(crate) fn open(&mut self, credit: u64) {
        self.credit = Credit::new(credit);
        self.is_watched = false;
        self.state = State::Open;
    }

    pub(crate) fn closed() -> Self {
        Self {
            credit: Credit::default(),
            is_watched: false,
            outbox: Outbox::default(),
            state: State::Done,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Nothing more will be written.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// An ERROR is to be written.
    pub(crate) fn is_failing(&self) -> bool {
        matches!(self.state, State::Finishing(Terminal::Error(_)))
    }

    pub(crate) fn credit(&self) -> u64 {
        self.credit.get()
    }

    /// Items asked for in all.
    pub(crate) fn granted(&self) -> u64 {
        self.credit.granted()
    }

    /// The next request-n is to be told.
    pub(crate) fn watch(&mut self) {
        self.is_watched = true;
    }

    /// Adds credit; true if that is to be told: there was none before, or it is watched.
    pub(crate) fn add_credit(&mut self, n: u32) -> bool {
        let stalled = self.credit.get() == 0;
        self.credit.add(n);
        mem::take(&mut self.is_watched) || stalled
    }

    /// How many items may be given to it now.
    pub(crate) fn capacity(&self) -> usize {
        if !self.is_open() {
            return 0;
        }
        let room = OUTBOX_ITEMS.saturating_sub(self.outbox.len());
        usize::try_from(self.credit.get()).map_or(room, |credit| credit.min(room))
    }

    /// Spends credit for an item that is written at once; false if there is none.
    #[must_use]
    pub(crate) fn spend(&mut self) -> bool {
        self.credit.take()
    }

    /// Takes an item; the caller has checked `capacity`.
    pub(crate) fn push(&mut self, item: Payload) -> bool {
        let spent = self.credit.take();
        self.outbox.push(item);
        spent
    }

    /// No more items; what was given is written first.
    pub(crate) fn finish(&mut self, terminal: Terminal) {
        self.state = State::Finishing(terminal);
    }

    /// Bytes of the items that are not written.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.outbox.bytes
    }

    /// Forgets the items that are not written; how it ends stays.
    #[inline]
    pub(crate) fn drop_items(&mut self) {
        // Most that end have none, and never had more than one.
        if self.outbox.first.is_some() || self.outbox.rest.capacity() > 0 {
            self.outbox = Outbox::default();
        }
    }

    /// Ends it without another word.
    #[inline]
    pub(crate) fn abandon(&mut self) {
        self.credit = Credit::default();
        self.drop_items();
        self.state = State::Done;
    }

    pub(crate) fn has_output(&self) -> bool {
        !self.outbox.is_empty() || matches!(self.state, State::Finishing(_))
    }

    /// The next thing to write.
    pub(crate) fn pop(&mut self) -> Option<Output> {
        if let Some(item) = self.outbox.pop() {
            let last = self.outbox.is_empty()
                && matches!(self.state, State::Finishing(Terminal::Complete));
            if last {
                self.state = State::Done;
            }
            return Some(Output::Item { item, last });
        }
        match mem::replace(&mut self.state, State::Done) {
            State::Finishing(Terminal::Complete) => Some(Output::Complete),
            State::Finishing(Terminal::Error(error)) => Some(Output::Error(error)),
            unchanged => {
                self.state = unchanged;
                None
            }
        }
    }
}

/// An output that a send half has to write.
#[derive(Debug)]
pub(crate) enum Output {
    Item { item: Payload, last: bool },
    Complete,
    Error(StreamError),
}

/// A queue of at most [`OUTBOX_ITEMS`] whose first item needs no allocation: most streams send one.
#[derive(Debug, Default)]
struct Outbox {
    first: Option<Payload>,
    rest: VecDeque<Payload>,
    bytes: usize,
}

impl Outbox {
    fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    fn is_empty(&self) -> bool {
        self.first.is_none() && self.rest.is_empty()
    }

    fn push(&mut self, item: Payload) {
        self.bytes += item.size();
        if self.is_empty() {
            self.first = Some(item);
        } else {
            self.rest.push_back(item);
        }
    }

    fn pop(&mut self) -> Option<Payload> {
        let item = self.first.take().or_else(|| self.rest.pop_front())?;
        self.bytes -= item.size();
        Some(item)
    }
}
