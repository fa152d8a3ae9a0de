//! Commands, which handles give the driver.

use std::{mem, sync::Arc, time::Instant};

use rsock_proto::{CloseReason, ErrorCode, Interaction, Payload, RequestError, Side};

use super::{Driver, PUSH_SLOT, drop_guarded, now};
use crate::{
    connection::{
        Command, Feeder, Inlet, Outgoing, Permit,
        mailbox::GROUP_SLOT,
        producers::{Producer, Source},
    },
    error::Error,
};

/// Why a connection ends that has been there for as long as it may.
const RETIRED: &str = "the connection has been open for as long as it may be; connect again";

impl Driver {
    #[inline]
    pub(super) fn drain_mailbox(&mut self, now: Instant) {
        if self.mailbox.take(&mut self.waiting.commands, &mut self.waiting.woken) {
            self.handle_commands(now);
        }
    }

    #[inline(never)]
    fn handle_commands(&mut self, now: Instant) {
        let mut commands = mem::take(&mut self.waiting.commands);
        let mut woken = mem::take(&mut self.waiting.woken);
        for slot in woken.drain(..) {
            if slot == PUSH_SLOT {
                self.go_on_with_pushes();
            } else if slot == GROUP_SLOT {
                self.wake_groups();
            } else {
                self.slots.wakers.unlist(slot);
                self.slots.queue(slot);
            }
        }
        let may_request = self.may_ask() && self.waiting.held.is_empty();
        for command in commands.drain(..) {
            match command {
                Command::Drain | Command::Retire | Command::Close | Command::End(_)
                    if self.is_renewing() =>
                {
                    self.give_up(&CloseReason::Finished(Side::Local), now);
                }
                // It comes behind what was asked for before it.
                Command::Drain | Command::Retire if self.has_held() || self.is_held_up() => {
                    self.hold(command);
                }
                command if command.asks() && !may_request => self.hold(command),
                command => self.handle_command(command),
            }
        }
        self.waiting.commands = commands;
        self.waiting.woken = woken;
        if mem::take(&mut self.waiting.has_cancelled) {
            self.forget_cancelled();
        }
    }

    /// All may go on that wait in the groups which were woken.
    fn wake_groups(&mut self) {
        let mut groups = self.mailbox.take_groups();
        for group in groups.drain(..) {
            group.take(&mut |slot| self.slots.queue(slot));
        }
        // Its memory is for those that are woken next.
        self.mailbox.keep_groups(groups);
    }

    #[inline]
    pub(super) fn handle_command(&mut self, command: Command) {
        let is_request = matches!(command, Command::Request { .. });
        if command.asks() && self.connection.is_over() {
            // The connection is over; the command fails when `Event::Closed` is dispatched.
            self.hold(command);
        } else if is_request && self.waits_for_lease() {
            self.waiting.leaseless.push_back(command);
        } else {
            self.carry_out(command);
        }
    }

    /// The error that a handle is told of a request that could not be opened.
    fn refusal(&self, error: RequestError) -> Error {
        match (error, self.mailbox.refusing()) {
            (RequestError::Closed, Some(reason)) => Error::never_sent(reason),
            (error, _) => error.into(),
        }
    }

    pub(super) fn carry_out(&mut self, command: Command) {
        match command {
            Command::Request { interaction, payload, n, inlet, outgoing, permit } => {
                self.open(interaction, payload, n, inlet, outgoing, permit);
            }
            Command::Demanded(inlet) => self.handle_demand(&inlet),
            Command::Watch { stream, grants } => {
                if let Some(key) = self.connection.find_stream(stream) {
                    self.watch_demand(key, grants);
                }
            }
            Command::Push { metadata, caller } => self.push(metadata, caller),
            Command::Ping { answer, permit } => self.start_ping(answer, permit),
            Command::Beat => {
                let stats = self.connection.stats();
                if self.wire.beat(stats.bytes_in + stats.bytes_out) {
                    self.mailbox.pinged(now());
                }
            }
            Command::Look { max_streams, answer } => {
                // Whoever asked may have gone.
                let _ = answer.send(self.snapshot(max_streams));
            }
            Command::Shorten(lifetime) => self.connection.shorten_lifetime(lifetime),
            Command::Drain => {
                self.part(true);
                self.drain();
            }
            Command::Retire => {
                self.connection.set_parting_words(RETIRED);
                self.drain();
            }
            Command::Close => {
                self.part(false);
                self.connection.close();
            }
            Command::End(why) => {
                self.part(false);
                self.connection.end_with(ErrorCode::CONNECTION_ERROR, why);
            }
        }
    }

    /// Ends with the last stream.
    fn drain(&mut self) {
        // What has come in the meantime is heard before it is told to go.
        if !self.connection.awaits_setup() {
            self.connection.drain();
            self.refuse_new(&CloseReason::Finished(Side::Local));
            self.end_if_lost();
        }
    }

    pub(super) fn open(
        &mut self,
        interaction: Interaction,
        payload: Payload,
        n: u32,
        inlet: Option<Feeder>,
        outgoing: Option<Box<Outgoing>>,
        permit: Permit,
    ) {
        // A request cancelled before it was written sends nothing at all (RR-10).
        if inlet.as_ref().is_some_and(|inlet| inlet.is_cancelled()) {
            drop_guarded(outgoing);
            return self.slots.give_back(permit);
        }
        match self.connection.request_now(interaction, payload, n, &mut self.wire.output) {
            // It is written, and nothing follows.
            Ok(None) => {
                self.slots.give_back(permit);
                if let Some(inlet) = inlet {
                    self.slots.consumers.extend(inlet.end(Ok(())));
                }
            }
            Ok(Some(key)) => {
                if let Some(inlet) = &inlet
                    && let demand = inlet.open(key)
                    && !demand.is_none()
                    && let Some(mut stream) = self.connection.stream(key)
                {
                    if demand.cancel {
                        stream.cancel();
                        drop_guarded(outgoing);
                        return self.slots.give_back(permit);
                    }
                    // Asked for while the request waited.
                    stream.request_n(demand.grant);
                }
                let slot = self.slots.fill(key, inlet, Some(permit));
                if let Some(outgoing) = outgoing {
                    slot.producer = Some(Producer::Stream(Source::new(outgoing.items)));
                    if let Some(grants) = outgoing.grants {
                        self.watch_demand(key, grants);
                    }
                }
            }
            Err(error) => {
                let is_promised = interaction == Interaction::FireAndForget && inlet.is_none();
                self.ending.lost += u64::from(is_promised);
                self.slots.give_back(permit);
                drop_guarded(outgoing);
                if let Some(inlet) = inlet {
                    let error = self.refusal(error);
                    self.slots.consumers.extend(inlet.end(Err(error)));
                }
            }
        }
    }

    /// A consumer has granted credit, or lost interest.
    pub(super) fn handle_demand(&mut self, inlet: &Arc<Inlet>) {
        let (key, demand) = inlet.take_demand();
        let Some(key) = key else {
            self.waiting.has_cancelled |= demand.cancel;
            return;
        };
        let Some(slot) = self.slots.of(key) else { return };
        let Some(mut stream) = self.connection.stream(key) else {
            return;
        };
        if demand.cancel {
            stream.cancel();
            let is_ours = slot.permit.is_some();
            slot.inlet = None;
            if is_ours {
                // A requester's CANCEL ends both directions.
                self.slots.release(key);
            } else {
                self.slots.release_if_over(key);
            }
        } else {
            stream.request_n(demand.grant);
        }
    }
}
