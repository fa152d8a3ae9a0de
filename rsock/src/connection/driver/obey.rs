//! Commands, which handles give the driver.

use std::{collections::VecDeque, mem, sync::Arc, time::Instant};

use bytes::Bytes;
use rsock_proto::{CloseReason, ErrorCode, Interaction, Misuse, Payload, Role, Side};

use super::{Answer, Driver, PUSH_SLOT, STOPPING, TURNED_AWAY, drop_guarded, fail::PORTION};
use crate::{
    connection::{
        Command, Feeder, Inlet, Permit,
        producers::{Producer, Source},
    },
    error::Error,
    responder::BoxStream,
};

impl Driver {
    #[inline]
    pub(super) fn drain_mailbox(&mut self, now: Instant) {
        if self.mailbox.take(&mut self.commands, &mut self.woken) {
            self.obey_all(now);
        }
    }

    #[inline(never)]
    fn obey_all(&mut self, now: Instant) {
        let mut commands = mem::take(&mut self.commands);
        let mut woken = mem::take(&mut self.woken);
        for slot in woken.drain(..) {
            if slot == PUSH_SLOT {
                self.push_waker.unlist(0);
                self.run_pushes();
            } else {
                self.slot_wakers.unlist(slot);
                self.queue(slot);
            }
        }
        let may_request = self.may_ask() && self.held.is_empty();
        for command in commands.drain(..) {
            match command {
                Command::Drain | Command::Close if self.is_renewing() => {
                    self.give_up(&CloseReason::Finished(Side::Local), now);
                }
                // It comes behind what was asked for before it.
                Command::Drain if self.has_held() => self.held.push_back(command),
                command if command.asks() && !may_request => self.held.push_back(command),
                command => self.obey(command),
            }
        }
        self.commands = commands;
        self.woken = woken;
        if mem::take(&mut self.has_cancelled) {
            self.forget_cancelled();
        }
    }

    /// There is somebody to ask: SETUP is accepted, and no fresh session is dialled for.
    fn may_ask(&self) -> bool {
        self.accept.is_none() && !self.is_renewing()
    }

    /// Whether what was held may be done now.
    pub(super) fn has_held(&self) -> bool {
        !self.held.is_empty() && self.may_ask() && !self.connection.is_over()
    }

    /// Does what was asked for while there was nobody to ask, a portion a poll and in its order: what is
    /// asked for meanwhile comes behind it.
    #[cold]
    pub(super) fn obey_held(&mut self) {
        let mut left = PORTION;
        while left > 0
            && self.has_held()
            && let Some(command) = self.held.pop_front()
        {
            self.obey(command);
            left -= 1;
        }
        if self.held.is_empty() && self.held.capacity() > 0 {
            self.held = VecDeque::new();
        }
    }

    #[inline]
    fn obey(&mut self, command: Command) {
        let is_request = matches!(command, Command::Request { .. });
        if command.asks() && self.connection.is_over() {
            // It ends with the rest, when the reason is told.
            self.held.push_back(command);
        } else if is_request && self.waits_for_lease() {
            self.leaseless.push_back(command);
        } else {
            self.obey_now(command);
        }
    }

    /// The error that a handle is told of something that could not be done.
    fn refusal(&self, misuse: Misuse) -> Error {
        match (misuse, self.mailbox.refusing()) {
            (Misuse::Closed, Some(reason)) => Error::Closed(reason),
            (misuse, _) => misuse.into(),
        }
    }

    pub(super) fn obey_now(&mut self, command: Command) {
        match command {
            Command::Request { interaction, payload, n, inlet, outgoing, permit } => {
                self.open(interaction, payload, n, inlet, outgoing, permit);
            }
            Command::Touched(inlet) => self.grant_wish(&inlet),
            Command::Push { metadata, answer, permit } => {
                match self.connection.push_metadata(metadata) {
                    Ok(()) => self.unsent_pushes.push_back((answer, permit)),
                    Err(misuse) => self.refuse(answer, permit, misuse),
                }
            }
            Command::Ping { answer, permit } => {
                self.pinged += 1;
                self.ping(self.pinged, answer, permit);
            }
            Command::Drain => {
                self.part(true);
                // What has come in the meantime is heard before it is told to go.
                if !self.connection.awaits_setup() {
                    self.connection.drain();
                    self.refuse_new(&CloseReason::Finished(Side::Local));
                    self.end_if_lost();
                }
            }
            Command::Close => {
                self.part(false);
                self.connection.close();
            }
        }
    }

    /// A server lets go of a client, which is told why: the service stops, as `stops` or the doors
    /// know, or others are to be heard.
    fn part(&mut self, stops: bool) {
        if self.connection.role() == Role::Client {
            return;
        }
        self.is_stopping |= stops || self.doors.as_ref().is_some_and(|doors| doors.is_stopping());
        if self.is_stopping {
            self.connection.set_parting_words(STOPPING);
        }
        let refusal = match (&self.returning, self.is_stopping) {
            (None, true) => (ErrorCode::REJECTED_SETUP, STOPPING),
            (None, false) => (ErrorCode::REJECTED_SETUP, TURNED_AWAY),
            (Some(_), true) => (ErrorCode::REJECTED_RESUME, STOPPING),
            // RESUME-22: it may try again.
            (Some(_), false) => (ErrorCode::CONNECTION_ERROR, TURNED_AWAY),
        };
        if self.accept.is_some() && !self.connection.awaits_setup() {
            self.connection.reject(refusal.0, refusal.1);
        }
    }

    /// Sends a KEEPALIVE. While there is no transport it waits for the next.
    fn ping(&mut self, number: u64, answer: Answer, permit: Permit) {
        if !self.connection.has_transport() {
            self.pings.insert(number, (answer, permit));
            return;
        }
        // KEEPALIVE overtakes streams: what was asked for before it is written first.
        self.connection.poll_transmit(&mut self.output);
        match self.connection.ping(Bytes::copy_from_slice(&number.to_be_bytes())) {
            Ok(()) => drop(self.pings.insert(number, (answer, permit))),
            Err(misuse) => self.refuse(answer, permit, misuse),
        }
    }

    /// There is another transport: what was under way on the one before has no answer.
    pub(super) fn ping_again(&mut self) {
        for (number, (answer, permit)) in mem::take(&mut self.pings) {
            self.ping(number, answer, permit);
        }
    }

    fn refuse(&mut self, answer: Answer, permit: Permit, misuse: Misuse) {
        self.give_back(permit);
        // Whoever asked may have gone.
        let _ = answer.send(Err(self.refusal(misuse)));
    }

    /// Pushes that have left for the send buffer are on their way.
    pub(super) fn answer_pushes(&mut self) {
        while self.unsent_pushes.len() > self.connection.unsent_pushes()
            && let Some((answer, permit)) = self.unsent_pushes.pop_front()
        {
            self.give_back(permit);
            // As above.
            let _ = answer.send(Ok(()));
        }
    }

    pub(super) fn open(
        &mut self,
        interaction: Interaction,
        payload: Payload,
        n: u32,
        inlet: Option<Feeder>,
        outgoing: Option<BoxStream<Result<Payload, Error>>>,
        permit: Permit,
    ) {
        // A request cancelled before it was written sends nothing at all (RR-10).
        if inlet.as_ref().is_some_and(|inlet| inlet.is_cancelled()) {
            drop_guarded(outgoing);
            return self.give_back(permit);
        }
        match self.connection.request_now(interaction, payload, n, &mut self.output) {
            // It is written, and nothing follows.
            Ok(None) => {
                self.give_back(permit);
                if let Some(inlet) = inlet {
                    self.consumers.extend(inlet.end(Ok(())));
                }
            }
            Ok(Some(key)) => {
                if let Some(inlet) = &inlet
                    && let wish = inlet.open(key)
                    && !wish.is_none()
                    && let Some(mut stream) = self.connection.stream(key)
                {
                    if wish.cancel {
                        stream.cancel();
                        drop_guarded(outgoing);
                        return self.give_back(permit);
                    }
                    // Asked for while the request waited.
                    stream.request_n(wish.grant);
                }
                let slot = self.settle(key, inlet, Some(permit));
                if let Some(stream) = outgoing {
                    slot.producer = Some(Producer::Stream(Source::new(stream)));
                }
            }
            Err(misuse) => {
                let is_promised = interaction == Interaction::FireAndForget && inlet.is_none();
                self.lost += u64::from(is_promised);
                self.give_back(permit);
                drop_guarded(outgoing);
                if let Some(inlet) = inlet {
                    let error = self.refusal(misuse);
                    self.consumers.extend(inlet.end(Err(error)));
                }
            }
        }
    }

    /// A consumer has granted credit, or lost interest.
    pub(super) fn grant_wish(&mut self, inlet: &Arc<Inlet>) {
        let (key, wish) = inlet.take_wish();
        let Some(key) = key else {
            self.has_cancelled |= wish.cancel;
            return;
        };
        if !self.is_current(key) {
            return;
        }
        let Some(mut stream) = self.connection.stream(key) else {
            return;
        };
        if wish.cancel {
            stream.cancel();
            let slot = &mut self.slots[key.index()];
            let is_ours = slot.permit.is_some();
            slot.inlet = None;
            if is_ours {
                // A requester's CANCEL ends both directions.
                self.release(key);
            } else {
                self.release_if_over(key);
            }
        } else {
            stream.request_n(wish.grant);
        }
    }
}
