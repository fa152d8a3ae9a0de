//! The stream to a member: messages, and answers between them.

use rsock_proto::SharedPayload;

use super::answers::Answers;
use crate::{
    cursor::{Shape, Sink},
    entry::{Entry, Room},
    position::Offset,
    refusal::Refusal,
    time::Now,
    topic::Topic,
};

/// A sink that gives the answers that are due before it says whether there is room for a message.
pub(super) struct Inbox<'a, S> {
    pub(super) out: &'a mut S,
    pub(super) answers: &'a mut Answers,
    pub(super) topic: &'a Topic,
    /// The number of the join.
    pub(super) join: u32,
    /// The reason why an answer could not be sent: the stream is about to fail with it.
    pub(super) failure: Option<Refusal>,
}

impl<S: Sink> Inbox<'_, S> {
    /// Sends the answers that are due. Whether there was room for all of them.
    pub(super) fn answer(&mut self) -> bool {
        while self.failure.is_none() && self.answers.is_due(self.topic) {
            if self.answers.are_told() && !self.out.has_room() {
                return false;
            }
            if let Some(item) = self.answers.next() {
                self.failure = self.out.send(&item).err();
            }
        }
        self.failure.is_none()
    }
}

impl<S: Sink> Sink for Inbox<'_, S> {
    fn has_room(&mut self) -> bool {
        self.answer() && self.out.has_room()
    }

    fn reached(&mut self, next: Offset) {
        self.answers.pass(next);
    }

    fn send(&mut self, item: &SharedPayload) -> Result<(), Refusal> {
        self.out.send(item)
    }

    fn send_entry(&mut self, entry: &Entry, shape: Shape, room: &Room<'_>) -> Result<(), Refusal> {
        if entry.join != self.join && !self.answers.await_stored(entry) {
            self.out.send_entry(entry, shape, room)?;
        } else {
            let own = self.answers.shown_as(entry, shape);
            self.out.send(&own)?;
        }
        Ok(())
    }

    fn now(&self) -> Now {
        self.out.now()
    }

    fn missed(&mut self, messages: u64) {
        self.out.missed(messages);
    }
}
