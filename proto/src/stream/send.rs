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

    /// The request that opens the stream; it is written before all else. Nothing waits yet.
    pub(crate) fn put_opening(&mut self, payload: Payload) {
        debug_assert!(self.outbox.first.is_none());
        self.outbox.first = Some(payload);
        self.outbox.is_opening = true;
    }

    /// Takes the request, to be written.
    #[inline]
    pub(crate) fn take_opening(&mut self) -> Option<Payload> {
        if mem::take(&mut self.outbox.is_opening) { self.outbox.first.take() } else { None }
    }

    /// It has the request, which is not written.
    #[inline]
    pub(crate) fn is_opening(&self) -> bool {
        self.outbox.is_opening
    }

    /// Bytes of the request, as long as it is not written.
    pub(crate) fn opening_bytes(&self) -> usize {
        let opening = self.outbox.first.as_ref().filter(|_| self.outbox.is_opening);
        opening.map_or(0, Payload::size)
    }

    /// No more items; what was given is written first.
    pub(crate) fn finish(&mut self, terminal: Terminal) {
        self.state = State::Finishing(terminal);
    }

    /// Bytes of the items that are not written.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.outbox.bytes
    }

    /// Forgets the items that are not written; how it ends stays, and so does a request.
    #[inline]
    pub(crate) fn drop_items(&mut self) {
        // Most that end have none, and never had more than one.
        if self.outbox.has_first() || self.outbox.rest.is_some() {
            self.outbox.drop_items();
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

/// A queue of at most [`OUTBOX_ITEMS`] whose first item needs no allocation: most streams send one. Few have
/// more that wait.
#[derive(Debug, Default)]
#[expect(clippy::box_collection, reason = "three words less for each of many streams")]
struct Outbox {
    first: Option<Payload>,
    /// The first is no item: it is the request that opens the stream.
    is_opening: bool,
    rest: Option<Box<VecDeque<Payload>>>,
    bytes: usize,
}

impl Outbox {
    #[inline]
    fn has_first(&self) -> bool {
        self.first.is_some() && !self.is_opening
    }

    fn len(&self) -> usize {
        usize::from(self.has_first()) + self.rest.as_ref().map_or(0, |rest| rest.len())
    }

    #[inline]
    fn is_empty(&self) -> bool {
        !self.has_first() && self.rest.as_ref().is_none_or(|rest| rest.is_empty())
    }

    fn push(&mut self, item: Payload) {
        self.bytes += item.size();
        if self.is_empty() && !self.is_opening {
            self.first = Some(item);
        } else {
            self.rest.get_or_insert_default().push_back(item);
        }
    }

    fn pop(&mut self) -> Option<Payload> {
        let item = if self.has_first() {
            self.first.take()
        } else {
            self.rest.as_mut().and_then(|rest| rest.pop_front())
        }?;
        self.bytes -= item.size();
        Some(item)
    }

    fn drop_items(&mut self) {
        if !self.is_opening {
            self.first = None;
        }
        self.rest = None;
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_no_item() {
        let mut half = SendHalf::closed();
        half.open(3);
        half.put_opening("request".into());
        assert!(half.is_opening() && !half.has_output() && half.pop().is_none());
        assert_eq!((half.opening_bytes(), half.unsent_bytes(), half.capacity()), (7, 0, 3));
        half.push("one".into());
        half.push("two".into());
        assert_eq!((half.opening_bytes(), half.unsent_bytes(), half.capacity()), (7, 6, 1));
        assert_eq!(half.take_opening(), Some("request".into()));
        assert!(!half.is_opening() && half.take_opening().is_none());
        let mut popped = std::iter::from_fn(|| match half.pop() {
            Some(Output::Item { item, .. }) => Some(item),
            _ => None,
        });
        assert_eq!([popped.next(), popped.next()], [Some("one".into()), Some("two".into())]);
        half.put_opening("request".into());
        half.push("one".into());
        half.abandon();
        assert!(half.is_opening() && !half.has_output(), "its items alone are forgotten");
    }
}
