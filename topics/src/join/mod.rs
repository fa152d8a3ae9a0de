//! Joins: members, who publish and receive under one name.
//!
//! A join takes a payload only if there is room for its answer, and answers each once, in the order in which
//! they came: by an item of its own, or by the message as it comes back. Whoever drives it gives it payloads
//! as a [`Sender`] has them, and the stream to the member as a [`Sink`].

mod answers;
mod inbox;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use self::{
    answers::{Answer, Answers},
    inbox::Inbox,
};
use crate::{
    cursor::{Cursor, Fill, Sink},
    entry::Form,
    log::Segment,
    options::Receive,
    position::Offset,
    refusal::Refusal,
    settings::Kind,
    time::Instant,
    topic::{Ended, Published, Topic},
};

/// Payloads that a member may send before they are answered.
const WINDOW: usize = 64;
/// The same where each is written to disk first: credit that was granted cannot be taken back.
const DURABLE_WINDOW: usize = 8;

/// The payloads of a member, and the way to publish them.
pub trait Sender {
    /// A payload, as it came.
    type Payload;

    /// The next payload. Without one, whoever drives the join is told when there is.
    fn next(&mut self) -> Next<Self::Payload>;

    /// Does what a payload says.
    fn publish(&mut self, payload: &Self::Payload) -> Done;

    /// A payload to be held for a while, without what was read with it.
    fn keep(&mut self, payload: Self::Payload) -> Self::Payload {
        payload
    }
}

/// The next payload of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<P> {
    /// It has come.
    Payload(P),
    /// There is none yet.
    NotYet,
    /// There will be none.
    Over,
}

/// The fate of a payload.
#[derive(Debug)]
pub struct Done {
    /// The idempotency key that came with it.
    pub id: Option<Box<str>>,
    /// The thing that was done, or the reason why it was not.
    pub outcome: Result<Outcome, Stop>,
}

/// The things that are done with a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was appended.
    Appended(Offset),
    /// It had been appended before, under the same idempotency key.
    Known(Offset),
    /// It was an event, and is not kept.
    Event,
    /// It was what the member says of itself.
    Info,
}

impl From<&Published> for Outcome {
    fn from(published: &Published) -> Self {
        match published.offset {
            Some(offset) if published.is_duplicate => Self::Known(offset),
            Some(offset) => Self::Appended(offset),
            None => Self::Event,
        }
    }
}

/// The reason why a payload is not published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It was refused.
    Refused(Refusal),
    /// It came sooner than a rate allows, and may be published after this time.
    TooFast(Duration),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A member of a topic: its place in the log, and the payloads that are not answered yet.
#[derive(Debug)]
pub struct Join<P> {
    /// No other join has it.
    number: u32,
    /// None if it does not receive messages.
    cursor: Option<Cursor>,
    answers: Answers,
    /// A payload that came sooner than a rate allows, and when it does: those behind it wait, and their sender
    /// is asked for no more.
    held: Option<(P, Instant)>,
    /// Its member may send more.
    is_sending: bool,
    /// The version of the topic of which it has sent everything.
    seen: u64,
    /// The message of whose commit it was told last to wait for.
    awaited: Option<Offset>,
}

/// The way in which payloads came to an end for now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// There are none, or it sends no more.
    All,
    /// Too many wait for their answers.
    Full,
}

impl<P> Join<P> {
    /// A join of this number, which no other has and is not 0. It reads by the cursor, if it is to receive
    /// messages; `form` is that of JSON in its connection's metadata, if they can hold it.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for answers that such a connection cannot be sent.
    pub fn new(
        topic: &Topic,
        number: u32,
        receive: Receive,
        form: Option<Form>,
        cursor: Option<Cursor>,
    ) -> Result<Self, Refusal> {
        if receive.has_acks() && form.is_none() {
            return Err(Refusal::no_metadata("the answer to a payload"));
        }
        let window = match topic.settings().kind {
            Kind::Durable => DURABLE_WINDOW,
            _ => WINDOW,
        };
        let leaves_out_own = !receive.has_acks();
        let cursor = cursor.map(|cursor| cursor.of_join(number, leaves_out_own));
        let begin = cursor.as_ref().map(Cursor::next);
        Ok(Self {
            number,
            answers: Answers::new(receive, form, topic.epoch(), window, begin),
            cursor,
            held: None,
            is_sending: true,
            seen: 0,
            awaited: None,
        })
    }

    /// The same join, of a member that is not seen by others since they are too many: it is told so where it
    /// begins.
    #[must_use]
    pub fn unseen(mut self) -> Self {
        self.cursor = self.cursor.map(Cursor::unseen);
        self
    }

    /// Payloads that its member may send before they are taken: as many as may wait for their answers.
    pub fn window(&self) -> usize {
        self.answers.window()
    }

    /// Payloads that were taken, and are not answered yet.
    pub fn unanswered(&self) -> usize {
        self.answers.len()
    }

    /// Whether its member is told what became of each payload.
    pub fn tells(&self) -> bool {
        self.answers.are_told()
    }

    /// The message that it reads next, if it receives messages.
    pub fn next(&self) -> Option<Offset> {
        self.cursor.as_ref().map(Cursor::next)
    }

    /// The version of the topic of which it has sent everything.
    #[inline]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The moment at which a payload may be published that came sooner than a rate allows: it is to be filled
    /// then.
    pub fn held_until(&self) -> Option<Instant> {
        self.held.as_ref().map(|(_, until)| *until)
    }

    /// Takes what its member has sent, and sends it messages and answers: as long as there is room for both.
    pub fn fill(
        &mut self,
        topic: &Topic,
        sender: &mut impl Sender<Payload = P>,
        out: &mut impl Sink,
    ) -> Fill {
        loop {
            let taken = match self.take_all(topic, sender, out) {
                Ok(taken) => taken,
                Err(refusal) => return Fill::Failed(refusal),
            };
            let version = topic.version();
            match self.send(topic, out) {
                Fill::NoRoom | Fill::CaughtUp
                    if taken == Taken::Full && !self.answers.is_full() => {}
                Fill::CaughtUp => {
                    self.seen = version;
                    // What was held was taken before it was heard that nothing comes any more.
                    return match !self.is_sending && self.answers.is_all() {
                        true => Fill::Ended,
                        false => Fill::CaughtUp,
                    };
                }
                filled => return filled,
            }
        }
    }

    /// Takes what its member has sent, as long as there is room for answers: for one that waits for messages
    /// from a disk.
    ///
    /// # Errors
    /// The refusal of a payload of which its member would not hear otherwise: the stream is to fail with it.
    pub fn take(
        &mut self,
        topic: &Topic,
        sender: &mut impl Sender<Payload = P>,
        out: &impl Sink,
    ) -> Result<(), Refusal> {
        self.take_all(topic, sender, out).map(drop)
    }

    fn take_all(
        &mut self,
        topic: &Topic,
        sender: &mut impl Sender<Payload = P>,
        out: &impl Sink,
    ) -> Result<Taken, Refusal> {
        loop {
            if self.answers.is_full() {
                return Ok(Taken::Full);
            }
            // What comes now is not for the next topic of this name.
            if topic.ended() == Ended::Deleted {
                self.held = None;
                return Ok(Taken::All);
            }
            let payload = match self.held.take() {
                Some((payload, until)) if until <= out.now().monotonic => payload,
                held @ Some(_) => {
                    self.held = held;
                    return Ok(Taken::All);
                }
                None if !self.is_sending => return Ok(Taken::All),
                None => match sender.next() {
                    Next::Payload(payload) => payload,
                    Next::NotYet => return Ok(Taken::All),
                    Next::Over => {
                        self.is_sending = false;
                        return Ok(Taken::All);
                    }
                },
            };
            let Done { id, outcome } = sender.publish(&payload);
            let outcome = match outcome {
                Ok(outcome) => Ok(outcome),
                // The topic has gone, and the stream ends with it.
                Err(Stop::Refused(_)) if topic.ended() == Ended::Deleted => continue,
                Err(Stop::TooFast(wait)) => {
                    self.held = Some((sender.keep(payload), out.now().monotonic + wait));
                    return Ok(Taken::All);
                }
                // A loss that nobody hears of would be worse than the end.
                Err(Stop::Refused(refusal)) if !self.tells() => return Err(refusal),
                Err(Stop::Refused(refusal)) => Err(refusal),
            };
            self.answers.push(Answer { id, outcome });
        }
    }

    /// Sends messages and answers, as long as there is room.
    fn send(&mut self, topic: &Topic, out: &mut impl Sink) -> Fill {
        let answers = &mut self.answers;
        // Nothing is committed behind a failure.
        let (failure, visible) = (topic.failure(), topic.visible());
        if let Some(refusal) = failure.filter(|failure| answers.fail(visible, failure)) {
            return Fill::Failed(refusal);
        }
        let mut inbox = Inbox { out, answers, topic, join: self.number, failure: None };
        let filled = match &mut self.cursor {
            Some(cursor) => {
                let filled = cursor.fill(topic, &mut inbox);
                inbox.answers.pass(cursor.next());
                filled
            }
            None if topic.ended() == Ended::Deleted => Fill::Ended,
            None => Fill::CaughtUp,
        };
        let is_failed = matches!(filled, Fill::Failed(_));
        let is_whole = is_failed || inbox.answer();
        match inbox.failure {
            Some(refusal) => Fill::Failed(refusal),
            None if is_whole => filled,
            None => Fill::NoRoom,
        }
    }

    /// Gives it messages that were read from a disk, as [`Cursor::give`] does.
    ///
    /// # Errors
    /// As there.
    pub fn give(
        &mut self,
        segment: Option<Arc<Segment>>,
        before: Offset,
        topic: &Topic,
    ) -> Result<(), Refusal> {
        match &mut self.cursor {
            Some(cursor) => cursor.give(segment, before, topic),
            None => Ok(()),
        }
    }

    /// The message of whose commit it is to be told by the disk itself, behind this filling: where passes over
    /// all who wait come later, and where it does not wait with them, since it has no room for messages, but
    /// would take payloads. Once for each, so that whoever asks again and again leaves no more behind.
    pub fn awaits(&mut self, topic: &Topic, filled: &Fill) -> Option<Offset> {
        let is_alone = match filled {
            Fill::CaughtUp => !topic.settings().coalesce.is_zero(),
            Fill::NoRoom => self.answers.is_full() && !self.tells(),
            _ => false,
        };
        let awaits = match is_alone && topic.is_durable() {
            true => self.answers.awaits(topic.visible()),
            false => None,
        };
        let before = std::mem::replace(&mut self.awaited, awaits);
        awaits.filter(|_| awaits != before)
    }
}
