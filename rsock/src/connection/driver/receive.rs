//! The words of the peer: read, decoded, and brought to where they belong.

use std::{
    io,
    task::{Context, Poll},
    time::Instant,
};

use rsock_proto::{CloseReason, Event, Payload, StreamKey};

use super::{Driver, Phase, answer::Answers, drop_guarded, failure, show};
use crate::{
    connection::Mailbox,
    error::Error,
    tap::Direction,
    transport::{Framing, Received},
};

impl Driver {
    /// Reads what there is, and handles it. Whether there may be more at once: if not, and input is
    /// wanted, the task is woken when there is.
    pub(super) fn receive(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        if self.ending.phase != Phase::Running || self.wire.socket.is_none() {
            return false;
        }
        if self.wire.write_failure.is_some()
            && let Some(failure) = self.wire.write_failure.take_if(|failure| failure.1 <= now)
        {
            self.disconnect(Some(failure.0), now);
            return true;
        }
        if !self.connection.wants_input() || self.is_paused(now) || self.is_ahead(now) {
            return false;
        }
        // What an earlier read brought comes first.
        if self.wire.input.len() > 0 && self.decode(now) {
            return true;
        }
        if let Some(end) = self.wire.unread_end.take() {
            self.disconnect(end.err(), now);
            return true;
        }
        if !self.make_room(now) {
            return false;
        }
        match self.wire.read(cx) {
            Poll::Pending => return false,
            Poll::Ready(Ok(count @ 1..)) => {
                self.memory.unsettled |= self.wire.input.adapt(count);
                self.has_read(count, now);
            }
            Poll::Ready(end) => {
                self.disconnect(end.err(), now);
                return true;
            }
        }
        // A read that leaves room has taken all there was: one more costs no system call, and waits
        // for the next. It comes before anything holds a part of the memory.
        let mut more = true;
        if !self.wire.input.is_full() {
            match self.wire.read(cx) {
                Poll::Pending => more = false,
                Poll::Ready(Ok(count @ 1..)) => {
                    self.memory.unsettled |= self.wire.input.adapt(count);
                    self.has_read(count, now);
                }
                // What was read before it is answered before it is known.
                Poll::Ready(end) => self.wire.unread_end = Some(end.map(drop)),
            }
        }
        self.decode(now);
        more
    }

    /// The transport has ended, or failed.
    #[cold]
    pub(super) fn disconnect(&mut self, error: Option<io::Error>, now: Instant) {
        self.wire.unreachable = true;
        self.wire.write_failure = None;
        self.wire.forget_output();
        self.wire.is_reset = error.is_some();
        self.connection.handle_disconnect(error.and_then(failure), now);
    }

    /// Handles the frames in `input`; false if there was none whole.
    pub(super) fn decode(&mut self, now: Instant) -> bool {
        self.look_for_memory();
        self.connection.copy_frames_below(self.wire.input.copy_below());
        let before = self.wire.input.len();
        if matches!(self.wire.framing, Framing::LengthPrefixed) && self.options.tap.is_none() {
            // Nothing stands between the bytes and the connection.
            let Self { connection, wire, serving, slots, mailbox, .. } = self;
            let (input, charges) = wire.input.bytes_and_charges();
            let mut answers = Answers::of(serving, slots, mailbox, charges);
            connection.handle_bytes_answering(input, now, &mut wire.output, &mut answers);
            self.take_in_unanswered();
            return self.wire.input.len() != before;
        }
        while self.connection.wants_input() {
            let limits = self.connection.input_limits();
            match self.wire.framing.decode(self.wire.input.bytes(), limits, &mut self.wire.output) {
                Ok(Some(Received::Frame(frame))) => {
                    if let Some(tap) = &self.options.tap {
                        show(tap, &self.options.peer, Direction::In, frame.clone());
                    }
                    let Self { connection, wire, serving, slots, mailbox, .. } = self;
                    let (_, charges) = wire.input.bytes_and_charges();
                    let mut answers = Answers::of(serving, slots, mailbox, charges);
                    connection.handle_frame_answering(frame, now, &mut wire.output, &mut answers);
                    self.take_in_unanswered();
                }
                Ok(Some(Received::Control)) => {}
                Ok(Some(Received::Pong)) => self.mailbox.answered_ping(now),
                Ok(Some(Received::End(None))) => self.connection.handle_disconnect(None, now),
                Ok(Some(Received::End(Some((code, reason))))) => {
                    log_farewell(&self.options.peer, &self.mailbox, code, &reason);
                    self.connection.handle_websocket_close(code, reason, now);
                }
                Ok(None) => {
                    if let Some(start) = self.wire.framing.frame_start(self.wire.input.bytes()) {
                        self.connection.handle_partial(start, now);
                    }
                    let bytes = self.wire.framing.partial_bytes() + self.wire.input.len();
                    self.connection.handle_incomplete(bytes, now);
                    break;
                }
                Err(violation) => self.connection.handle_violation(violation, now),
            }
        }
        self.wire.input.len() != before
    }

    pub(super) fn dispatch(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut worked = self.poll_acceptor(cx, now);
        while let Some(event) = self.connection.poll_event() {
            worked = true;
            match event {
                Event::Payload { key, payload, complete } => self.deliver(key, payload, complete),
                Event::Request { key, interaction, payload, complete } => {
                    self.serve(key, interaction, payload, complete);
                }
                Event::Credited { key } => self.credited(key),
                Event::Completed { key } => self.end_inlet(key, Ok(())),
                Event::Failed { key, error } => {
                    self.end_inlet(key, Err(error.into()));
                    self.slots.release(key);
                }
                Event::Cancelled { key } => self.cancelled(key),
                Event::MetadataPush(metadata) => self.take_push(metadata),
                Event::Pong(data) => self.answer_ping(&data),
                Event::Setup(setup) => self.start_acceptor(*setup),
                Event::Resume(resume) => self.take_resume(*resume, now),
                Event::Established => self.established(now),
                Event::Draining(reason) => self.drained(&reason),
                Event::Suspended => self.suspended(cx, now),
                Event::Resumed => self.resumed(now),
                Event::Leased(lease) => self.mailbox.leased(Some(lease)),
                Event::Closed(reason) => self.closed(cx, reason, now),
                // Events of a later protocol engine mean nothing here.
                _ => {}
            }
        }
        worked
    }

    /// The peer takes nothing new. What is asked of it waits for another connection, or fails.
    #[cold]
    fn drained(&mut self, reason: &CloseReason) {
        if self.waits_for_another(reason) {
            self.hold_leaseless();
            self.tell_prompt();
        } else {
            self.refuse_new(reason);
        }
    }

    #[cold]
    fn closed(&mut self, cx: &mut Context<'_>, reason: CloseReason, now: Instant) {
        if self.renews(&reason, now) {
            self.renew(cx, reason, now);
        } else {
            self.gave_up(&reason);
            self.end(&reason, now);
        }
    }

    pub(super) fn deliver(&mut self, key: StreamKey, payload: Payload, complete: bool) {
        let slot = &mut self.slots.entries[key.index()];
        if slot.key != Some(key) {
            return;
        }
        let Some(inlet) = &slot.inlet else { return };
        let connection = &mut self.connection;
        let charge = self.wire.input.charge_for(payload.size());
        let item = (payload, complete);
        let next = || connection.poll_item(key);
        let (ended, consumer) = inlet.push(item, next, charge, self.mailbox.waiting());
        self.slots.consumers.extend(consumer);
        if ended {
            slot.inlet = None;
            self.slots.release_if_over(key);
        }
    }

    pub(super) fn end_inlet(&mut self, key: StreamKey, how: Result<(), Error>) {
        let Some(slot) = self.slots.of(key) else { return };
        if let Some(inlet) = slot.inlet.take() {
            self.slots.consumers.extend(inlet.end(how));
        }
        self.slots.release_if_over(key);
    }

    /// The peer wants nothing more of us.
    pub(super) fn cancelled(&mut self, key: StreamKey) {
        let Some(slot) = self.slots.of(key) else { return };
        let is_ours = slot.permit.is_some();
        drop_guarded(slot.producer.take());
        if is_ours {
            self.slots.release_if_over(key);
        } else {
            let error = Error::Canceled("the requester cancelled the stream".into());
            self.end_inlet(key, Err(error));
            self.slots.release(key);
        }
    }
}

#[cfg(feature = "tracing")]
fn log_farewell(peer: &str, mailbox: &Mailbox, code: u16, reason: &str) {
    let (conn, subject) = mailbox.known();
    let reason = rsock_proto::Printable(reason);
    tracing::debug!(conn, peer, subject, code, "the peer closes the WebSocket: {reason}");
}

#[cfg(not(feature = "tracing"))]
fn log_farewell(_: &str, _: &Mailbox, _: u16, _: &str) {}
