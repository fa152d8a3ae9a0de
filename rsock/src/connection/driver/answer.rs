//! Handlers that answer once: each is polled as soon as it exists, and most need no slot. Where nothing
//! is to be told or written before, that is while their request is read, and they need no stream either.

use std::{mem, sync::Arc, task::Context};

use rsock_proto::{AnswerNow, Interaction, Payload, SendError, StreamKey};

use super::{BATCH_BYTES, Driver, drop_guarded, input::Charges, serving::Serving, slots::Slots};
use crate::{
    connection::{
        Mailbox,
        feed::ITEM_COST,
        handle::Handle,
        producers::{Producer, guard},
        work::{Answer, Work, keep},
    },
    error::Error,
};

/// Requests answered while they are read, in a turn. Behind them there are as many events at most.
const ANSWERED_AT_ONCE: usize = 256;

/// A request taken while it was read, of which the answer did not leave at once.
pub(super) struct Unanswered {
    key: StreamKey,
    /// The bytes of its payload.
    size: usize,
    outcome: Outcome,
}

/// A handler's future, or how it has ended; neither where it was dropped.
enum Outcome {
    Work(Work),
    Answer(Answer),
    None,
}

/// Answers requests while they are read, and takes the answers to ours.
pub(super) struct Answers<'a> {
    responder: Option<&'a dyn Handle>,
    slots: &'a mut Slots,
    mailbox: &'a Arc<Mailbox>,
    answered: &'a mut usize,
    answered_bytes: &'a mut usize,
    unanswered: &'a mut Vec<Unanswered>,
    charges: Charges<'a>,
}

impl<'a> Answers<'a> {
    #[inline]
    pub(super) fn of(
        serving: &'a mut Serving,
        slots: &'a mut Slots,
        mailbox: &'a Arc<Mailbox>,
        charges: Charges<'a>,
    ) -> Self {
        let Serving { responder, answered, answered_bytes, unanswered, .. } = serving;
        let responder = responder.as_deref();
        Self { responder, slots, mailbox, answered, answered_bytes, unanswered, charges }
    }
}

impl AnswerNow for Answers<'_> {
    #[inline]
    fn is_willing(&self) -> bool {
        self.responder.is_some()
            && *self.answered_bytes < BATCH_BYTES
            && *self.answered < ANSWERED_AT_ONCE
    }

    #[inline]
    fn answer(&mut self, key: StreamKey, payload: Payload) -> Option<Payload> {
        let responder = self.responder?;
        let size = payload.size();
        *self.answered += 1;
        let cx = &mut Context::from_waker(self.slots.wakers.get(key.index(), self.mailbox));
        let (work, answer) = begin(cx, true, || responder.request_response(payload));
        let outcome = match (answer, work) {
            (Some(Ok(Some(reply))), _) => {
                *self.answered_bytes += reply.size() + ITEM_COST;
                return Some(reply);
            }
            (Some(answer), _) => Outcome::Answer(answer),
            (None, Some(work)) => Outcome::Work(work),
            (None, None) => Outcome::None,
        };
        self.unanswered.push(Unanswered { key, size, outcome });
        None
    }

    fn follows(&mut self, key: StreamKey, reply: Option<Payload>) {
        if let Some(reply) = reply {
            // Its request is not held any more.
            let outcome = Outcome::Answer(Ok(Some(reply)));
            self.unanswered.push(Unanswered { key, size: 0, outcome });
        }
    }

    #[inline]
    fn takes_replies(&self) -> bool {
        true
    }

    #[inline]
    fn reply(&mut self, key: StreamKey, payload: Payload) {
        if let Some(slot) = self.slots.of(key) {
            let inlet = slot.inlet.take();
            let waiting = self.mailbox.waiting();
            if let Some(inlet) = inlet {
                let charge = self.charges.charge_for(payload.size());
                self.slots.consumers.extend(inlet.answer(payload, charge, waiting));
            }
            self.slots.release_if_over(key);
        }
    }
}

impl Driver {
    /// Gives a request, or a fire-and-forget, to its handler.
    pub(super) fn start(&mut self, key: StreamKey, interaction: Interaction, payload: Payload) {
        let is_silent = interaction == Interaction::FireAndForget;
        let size = payload.size();
        // Another's end may be told before this stream has a slot.
        self.slots.at(key);
        // A fire-and-forget at any rate: the end of the connection may be the next thing that
        // happened, and whoever sent it has been told that it is on its way (FNF-03).
        let runs = is_silent || self.takes_answers();
        let cx = &mut Context::from_waker(self.slots.wakers.get(key.index(), &self.mailbox));
        let Some(handler) = &self.serving.responder else { return };
        let (work, answer) = begin(cx, runs, || {
            if is_silent {
                handler.fire_and_forget(payload)
            } else {
                handler.request_response(payload)
            }
        });
        match (answer, work) {
            (Some(answer), _) => {
                self.serving.answered_bytes += self.answer(key, answer) + ITEM_COST
            }
            (None, Some(work)) => {
                self.await_answer(key, work, size);
                if !runs {
                    self.slots.queue(key.index());
                }
            }
            (None, None) => {}
        }
    }

    /// The handler has its stream's slot until it has answered.
    fn await_answer(&mut self, key: StreamKey, work: Work, size: usize) {
        let charge = self.wire.input.charge_for(size);
        let slot = self.slots.fill(key, None, None);
        slot.producer = Some(Producer::Once(work));
        slot.charge = charge;
    }

    /// Gives those their slots that were taken while they were read, and have not answered. Events of
    /// their streams are not dispatched yet.
    #[inline]
    pub(super) fn take_in_unanswered(&mut self) {
        if !self.serving.unanswered.is_empty() {
            self.take_in_some();
        }
    }

    #[inline(never)]
    fn take_in_some(&mut self) {
        for Unanswered { key, size, outcome } in mem::take(&mut self.serving.unanswered) {
            match outcome {
                Outcome::Work(work) => self.await_answer(key, work, size),
                Outcome::Answer(answer) => {
                    self.slots.at(key);
                    self.serving.answered_bytes += self.answer(key, answer) + ITEM_COST;
                }
                Outcome::None => {}
            }
        }
    }

    /// Whether an answer may be given at once: the socket keeps up, and the turn has not brought
    /// enough yet.
    fn takes_answers(&self) -> bool {
        self.serving.answered_bytes < BATCH_BYTES
            && !self.wire.output.is_full()
            && !self.connection.is_held()
    }

    /// Polls what answers once, in its slot; the bytes of its answer.
    pub(super) fn run_once(&mut self, key: StreamKey) -> usize {
        let index = key.index();
        let Some(Producer::Once(running)) = &mut self.slots.entries[index].producer else {
            return 0;
        };
        let cx = &mut Context::from_waker(self.slots.wakers.get(index, &self.mailbox));
        let mut answer = None;
        let guarded = guard(|| running.as_mut().run(cx, &mut answer));
        if guarded.is_ok() && answer.is_none() {
            return 0;
        }
        let producer = self.slots.entries[index].producer.take();
        let mut work = producer.and_then(Producer::into_work);
        reclaim(guarded, &mut answer, &mut work);
        let bytes = answer.map_or(0, |answer| self.answer(key, answer));
        self.slots.release_if_over(key);
        bytes
    }

    /// Ends a stream with its answer, and returns the answer's bytes.
    fn answer(&mut self, key: StreamKey, answer: Answer) -> usize {
        let done = match answer {
            Err(error) => {
                self.fail(key, error);
                return 0;
            }
            Ok(None) => match self.connection.stream(key) {
                Some(mut stream) => stream.complete(),
                None => Ok(()),
            }
            .map(|()| 0),
            Ok(Some(reply)) => {
                let size = reply.size();
                self.connection.send_last_now(key, reply, &mut self.wire.output).map(|()| size)
            }
        };
        match done {
            Ok(size) => size,
            // Its stream has been cancelled.
            Err(SendError::StreamClosed) => 0,
            Err(error) => {
                self.fail(key, error.into());
                0
            }
        }
    }
}

/// Makes a handler's future, and polls it if it is to run: the future, or the answer.
#[inline]
fn begin(
    cx: &mut Context<'_>,
    runs: bool,
    make: impl FnOnce() -> Work,
) -> (Option<Work>, Option<Answer>) {
    let (mut work, mut answer) = (None, None);
    let guarded = guard(|| {
        let work: &mut Work = work.insert(make());
        if runs {
            work.as_mut().run(cx, &mut answer);
        }
    });
    reclaim(guarded, &mut answer, &mut work);
    (work, answer)
}

/// Tidies up after a poll: a panic is an answer too, if there was none before it, and of what has ended only
/// the box is left, and kept.
fn reclaim(guarded: Result<(), Error>, answer: &mut Option<Answer>, work: &mut Option<Work>) {
    if let Err(error) = guarded {
        // What a destructor has to say in its panic is said by the panic hook.
        drop_guarded(work.take());
        answer.get_or_insert(Err(error));
    } else if answer.is_some()
        && let Some(work) = work.take()
    {
        keep(work);
    }
}
