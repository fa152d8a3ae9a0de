//! The answering side: the acceptor, handlers polled in place, and the

use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use rsock_proto::{ErrorCode, Interaction, Payload, StreamKey, frame};

use super::{
    BATCH_BYTES, Driver, DriverOptions, ITEM_COST, MAX_OVERTAKEN, MAX_WAITING_PUSH_BYTES,
    MAX_WAITING_PUSHES, PUSH_SLOT, SHARE_BYTES, STOPPING, Slot, TURNED_AWAY, drop_guarded,
};
use crate::{
    connection::{
        Feeder, Inlet, Payloads, Permit,
        producers::{Producer, Source, Sourced, guard, poll_guarded},
    },
    error::Error,
    peer::Peer,
    requester::Requester,
};

impl Driver {
    /// Gives a request of the peer to its handler, which is polled in this turn.
    pub(super) fn serve(
        &mut self,
        key: StreamKey,
        interaction: Interaction,
        payload: Payload,
        complete: bool,
    ) {
        let Some(responder) = &self.responder else {
            let error = Error::rejected("nothing here answers requests");
            self.fail(key, error);
            return;
        };
        if !interaction.has_initial_n() {
            return self.start(key, interaction, payload);
        }
        let handler = Arc::clone(responder);
        // Of a channel, the items that follow may be as large.
        let window = self.options.window.expecting(payload.size());
        // A stream lasts.
        let (payload, charge) = self.input.for_long(payload);
        let mut inlet = None;
        let source = guard(|| {
            if interaction == Interaction::RequestStream {
                Source::new(handler.request_stream(payload))
            } else {
                let shared = Arc::new(Inlet::default());
                // Its consumer does not exist yet, so it cannot have gone.
                let _ = shared.open(key);
                if complete {
                    shared.end(Ok(()));
                } else {
                    inlet = Some(Feeder::new(Arc::clone(&shared)));
                }
                let rest = Payloads::new(shared, Arc::clone(&self.mailbox), window);
                Source::new(handler.request_channel(payload, rest))
            }
        });
        match source {
            Ok(source) => {
                let slot = self.settle(key, inlet, None);
                slot.producer = Some(Producer::Stream(source));
                slot.charge = charge;
                self.queue(key.index());
            }
            Err(error) => self.fail(key, error),
        }
    }

    // ---- SETUP --------------------------------------------------------------------------------

    pub(super) fn start_acceptor(&mut self, setup: frame::Setup) {
        if self.is_stopping {
            return self.connection.reject(ErrorCode::REJECTED_SETUP, STOPPING);
        }
        if let Err(error) = self.check_token(&setup) {
            return self.connection.reject(ErrorCode::REJECTED_SETUP, error.to_string());
        }
        let Some(accept) = &self.accept else { return };
        let DriverOptions { window, config, peer: address, memory, .. } = &self.options;
        let ends = self.socket.ends(&self.framing, Arc::clone(address));
        let requester = Requester::new(Arc::clone(&self.mailbox), *window, config);
        let peer = Peer::new(setup, ends, requester, memory);
        match guard(|| accept.accept(peer)) {
            Ok(accepting) => {
                let doors = self.doors.clone();
                // Whom the acceptor refuses takes nobody's place.
                self.accepting = Some(Box::pin(async move {
                    let responder = accepting.await?;
                    let Some(doors) = doors else { return Ok((responder, None)) };
                    let place = doors.place(false).await.map_err(Error::rejected)?;
                    Ok((responder, Some(place)))
                }));
            }
            Err(error) => self.connection.reject(ErrorCode::REJECTED_SETUP, error.to_string()),
        }
    }

    /// It is a connection from now on, unless it had to go or its session is not to be had.
    fn let_in(&mut self) -> Result<(), String> {
        if self.newcomer.take().is_some_and(|newcomer| !newcomer.let_in()) {
            return Err(TURNED_AWAY.into());
        }
        self.claim().map_err(|error| error.to_string())
    }

    pub(super) fn poll_acceptor(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let Some(accepting) = &mut self.accepting else {
            return false;
        };
        if self.connection.is_over() {
            return false;
        }
        let Poll::Ready(accepted) = poll_guarded(accepting, cx) else {
            return false;
        };
        drop_guarded(self.accepting.take());
        match accepted.and_then(|accepted| accepted) {
            Ok((responder, place)) => {
                if let Err(problem) = self.let_in() {
                    self.connection.reject(ErrorCode::REJECTED_SETUP, problem);
                    return true;
                }
                self.place = place;
                self.responder = Some(responder);
                self.accept = None;
                self.connection.accept(now);
                self.mailbox.established();
                self.tell_prompt();
                self.grant_lease(now);
            }
            Err(error) => {
                let asked = error.code();
                let code = if asked.is_setup() { asked } else { ErrorCode::REJECTED_SETUP };
                self.connection.reject(code, error.into_stream_error().message);
            }
        }
        true
    }

    // ---- METADATA_PUSH ------------------------------------------------------------------------

    pub(super) fn take_push(&mut self, metadata: Bytes) {
        // One may always wait, however long.
        let fits = self.push_bytes + metadata.len() <= MAX_WAITING_PUSH_BYTES;
        if self.pushes.len() < MAX_WAITING_PUSHES && (fits || self.pushes.is_empty()) {
            self.push_bytes += metadata.len();
            self.pushes.push_back(Bytes::copy_from_slice(&metadata));
            self.run_pushes();
        } else {
            self.meter.dropped_push();
        }
    }

    /// Pushes are handled one after the other, in the order in which they came.
    pub(super) fn run_pushes(&mut self) {
        let Some(responder) = &self.responder else {
            self.push_bytes = 0;
            return self.pushes.clear();
        };
        loop {
            if self.pushing.is_none() {
                let Some(metadata) = self.pushes.pop_front() else {
                    return;
                };
                self.push_bytes -= metadata.len();
                let handler = Arc::clone(responder);
                // A handler that panics costs its push (MDP-07).
                self.pushing = guard(|| handler.metadata_push(metadata)).ok();
            }
            let Some(pushing) = &mut self.pushing else {
                continue;
            };
            let waker = self.push_waker.named(0, PUSH_SLOT, &self.mailbox);
            match poll_guarded(pushing, &mut Context::from_waker(waker)) {
                Poll::Ready(_) => drop_guarded(self.pushing.take()),
                Poll::Pending => return,
            }
        }
    }

    // ---- producers ----------------------------------------------------------------------------

    /// Polls the producers that are ready while the socket keeps up. What they yield is encoded
    /// before more is asked of them: beyond the send buffer no more than a batch waits.
    pub(super) fn produce(&mut self, now: Instant) {
        if !self.may_produce() || self.lets_others_yield() || !self.has_memory_for_items(now) {
            return;
        }
        // What was yielded before goes first.
        self.connection.poll_transmit(&mut self.output);
        if self.output.is_full() {
            self.overtake();
        }
        while self.may_produce() {
            let mut yielded = 0;
            for _ in 0..self.ready.len() {
                if yielded < BATCH_BYTES
                    && let Some(index) = self.ready.pop_front()
                {
                    self.slots[index].queued = false;
                    yielded += self.run(index);
                }
            }
            self.bulk.yielded += yielded;
            self.connection.poll_transmit(&mut self.output);
            if self.connection.retained_bytes() > 0 {
                // What is retained grows until the session may retain no more, and others may be at it too.
                self.settle_memory();
            }
        }
    }

    /// Whether a producer may be polled now.
    pub(super) fn may_produce(&self) -> bool {
        !self.ready.is_empty()
            && !self.output.is_full()
            && !self.connection.is_held()
            && self.barren_until.is_none()
    }

    /// The socket takes what is written, and a few streams have more for it than it takes: as in a
    /// long transfer. Producers of the others are polled beside them, a batch each time the socket
    /// has taken something.
    fn overtake(&mut self) {
        // Once a wake: an item may be large, and took its time to be made.
        if mem::replace(&mut self.has_overtaken, true)
            || self.connection.unsent_streams() > MAX_OVERTAKEN
            || self.connection.is_held()
            || !self.has_memory_to_yield()
        {
            return;
        }
        let mut yielded = 0;
        for _ in 0..self.ready.len() {
            if yielded >= BATCH_BYTES {
                // The others are next, and are not gone through in vain: there may be thousands.
                break;
            }
            let Some(index) = self.ready.pop_front() else { break };
            let key = self.slots[index].key;
            // What a stream has yielded before goes first here, too.
            if key.is_some_and(|key| self.connection.has_unsent(key)) {
                self.ready.push_back(index);
            } else {
                self.slots[index].queued = false;
                yielded += self.run(index);
            }
        }
        self.bulk.yielded += yielded;
    }

    /// Polls one producer, for at most as many items as its stream takes in a turn; the bytes it
    /// yielded.
    fn run(&mut self, index: usize) -> usize {
        let slot = &mut self.slots[index];
        let (Some(key), Some(producer)) = (slot.key, &mut slot.producer) else { return 0 };
        let cx = &mut Context::from_waker(self.slot_wakers.get(index, &self.mailbox));
        let mut yielded = 0;
        match producer {
            Producer::Once(_) => return self.run_once(key),
            Producer::Stream(source) => {
                let limit = if self.ready.is_empty() { BATCH_BYTES } else { SHARE_BYTES };
                let Some(mut items) = self.connection.items(key, &mut self.output) else {
                    return 0;
                };
                // One item is held back until it is known whether it is the last.
                let mut held = None;
                let outcome = loop {
                    let ahead = u64::from(held.is_some());
                    let has_credit = items.credit() > ahead;
                    if has_credit && (items.capacity() <= ahead || yielded >= limit) {
                        // Others are next, or a turn's worth waits to be written.
                        break None;
                    }
                    match source.poll(has_credit, cx) {
                        Sourced::Item(item) => {
                            yielded += item.size() + ITEM_COST;
                            if let Some(before) = held.replace(item)
                                && let Err(misuse) = items.send(before)
                            {
                                break Some(Sourced::Failed(misuse.into()));
                            }
                        }
                        ended => break Some(ended),
                    }
                };
                if let Some(Sourced::Complete) = outcome {
                    self.finish(key, held);
                    return yielded;
                }
                if let Some(item) = held
                    && let Err(misuse) = items.send(item)
                {
                    self.fail(key, misuse.into());
                    return yielded;
                }
                match outcome {
                    Some(Sourced::Failed(error)) => self.fail(key, error),
                    None => self.queue(index),
                    // Its waker, or the peer's credit, will have it polled again.
                    Some(_) => {}
                }
            }
        }
        yielded
    }

    /// A producer has come to its end.
    pub(super) fn finish(&mut self, key: StreamKey, last: Option<Payload>) {
        let done = match (last, self.connection.stream(key)) {
            (_, None) => Ok(()),
            (None, Some(mut stream)) => stream.complete(),
            (Some(item), Some(_)) => self.connection.send_last_now(key, item, &mut self.output),
        };
        if let Err(misuse) = done {
            return self.fail(key, misuse.into());
        }
        drop_guarded(self.slots[key.index()].producer.take());
        self.release_if_over(key);
    }

    /// A producer has failed, and with it the stream in both directions.
    pub(super) fn fail(&mut self, key: StreamKey, error: Error) {
        let is_ours = self.slot(key).permit.is_some();
        if let Some(mut stream) = self.connection.stream(key) {
            let mut told = error.clone().into_stream_error();
            if is_ours {
                told.code = ErrorCode::APPLICATION_ERROR; // ERR-13
            }
            // If our half has ended already, there is nothing left to say.
            let _ = stream.fail(told);
        }
        self.end_inlet(key, Err(error));
        self.release(key);
    }

    // ---- slots --------------------------------------------------------------------------------

    #[inline]
    pub(super) fn slot(&mut self, key: StreamKey) -> &mut Slot {
        let index = key.index();
        if self.slots.len() <= index {
            if index == 0 {
                // Most connections have one stream at a time.
                self.slots.reserve_exact(1);
            }
            self.slots.resize_with(index + 1, Slot::default);
        }
        &mut self.slots[index]
    }

    /// Gives a stream that was opened its slot, still without a producer. It is empty: the end of a
    /// stream is told before its slot is another's.
    #[inline]
    pub(super) fn settle(
        &mut self,
        key: StreamKey,
        inlet: Option<Feeder>,
        permit: Option<Permit>,
    ) -> &mut Slot {
        if let Some(before) = self.slot(key).key {
            debug_assert!(false, "{key:?} after {before:?}");
            self.release(before);
        }
        let slot = &mut self.slots[key.index()];
        slot.key = Some(key);
        slot.inlet = inlet;
        slot.permit = permit;
        slot
    }

    pub(super) fn queue(&mut self, index: usize) {
        if let Some(slot) = self.slots.get_mut(index)
            && slot.producer.is_some()
            && !mem::replace(&mut slot.queued, true)
        {
            self.ready.push_back(index);
        }
    }

    #[inline]
    pub(super) fn release_if_over(&mut self, key: StreamKey) {
        let slot = &self.slots[key.index()];
        if slot.key == Some(key) && slot.producer.is_none() && slot.inlet.is_none() {
            self.release(key);
        }
    }

    /// The stream is over: whatever is left of it goes, and the slot is free.
    #[inline]
    pub(super) fn release(&mut self, key: StreamKey) {
        let slot = &mut self.slots[key.index()];
        if slot.key == Some(key) {
            slot.key = None;
            slot.inlet = None;
            slot.charge = None;
            let producer = slot.producer.take();
            if let Some(permit) = slot.permit.take() {
                self.give_back(permit);
            }
            if producer.is_some() {
                drop_guarded(producer);
            }
        }
    }
}
