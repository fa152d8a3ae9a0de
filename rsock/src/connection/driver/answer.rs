//! Handlers that answer once: each is polled as soon as it exists, and most need no slot.

use std::task::Context;

use rsock_proto::{Interaction, Payload, SendError, StreamKey};

use super::{BATCH_BYTES, Driver, ITEM_COST, drop_guarded};
use crate::{
    connection::{
        producers::{Producer, guard},
        work::{Answer, Work, keep},
    },
    error::Error,
};

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
        let mut work = None;
        let mut answer = None;
        let guarded = guard(|| {
            let work: &mut Work = work.insert(if is_silent {
                handler.fire_and_forget(payload)
            } else {
                handler.request_response(payload)
            });
            if runs {
                work.as_mut().run(cx, &mut answer);
            }
        });
        close(guarded, &mut answer, &mut work);
        match (answer, work) {
            (Some(answer), _) => {
                self.serving.answered_bytes += self.answer(key, answer) + ITEM_COST
            }
            (None, Some(work)) => {
                let charge = self.wire.input.charge_for(size);
                let slot = self.slots.fill(key, None, None);
                slot.producer = Some(Producer::Once(work));
                slot.charge = charge;
                if !runs {
                    self.slots.queue(key.index());
                }
            }
            (None, None) => {}
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
        close(guarded, &mut answer, &mut work);
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

/// After a poll: a panic is an answer too, if there was none before it, and of what has ended only
/// the box is left, and kept.
fn close(guarded: Result<(), Error>, answer: &mut Option<Answer>, work: &mut Option<Work>) {
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
