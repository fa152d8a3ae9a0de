//! What leaves a connection, and in which order.

use bytes::Bytes;

use crate::{
    connection::{Connection, Event, Refusal, Session, State},
    frame::{
        HEADER_LEN, Interaction, KeepAlive, PayloadSignal, Request, encode_cancel, encode_error,
        encode_metadata_push, encode_payload, encode_request_n, payload_frame_len,
    },
    payload::Payload,
    stream::{Cut, CutEnd, Output, StreamKey},
    transmit::{SendBuf, Tracked},
};

impl Connection {
    /// Encodes what is to be sent until `out` is full. The connection comes first, then REQUEST_N
    /// and CANCEL, then streams in turn (FRAME-22).
    pub fn poll_transmit(&mut self, out: &mut SendBuf) {
        let before = out.len();
        match self.state {
            State::Closed => return,
            State::Closing => {
                // Nothing goes before SETUP, and a SETUP that is not written is not sent (SETUP-01).
                let unheard_of = self.setup.take().is_some() || self.has_unsent_resume();
                if let Some((code, message)) = self.last_words.take()
                    && !unheard_of
                {
                    encode_error(None, code, &message, out);
                    self.stats.frames_out += 1;
                }
                self.state = State::Closed;
            }
            _ => {
                self.transmit_greeting(out);
                if self.has_transport() {
                    self.transmit_control(out);
                    self.transmit_replay(out);
                }
                self.transmit_refusals(out);
                self.transmit_stream_control(out);
                self.transmit_streams(out);
                self.transmit_ask(out);
                self.close_if_drained();
            }
        }
        self.stats.bytes_out += (out.len() - before) as u64;
    }

    /// What leaves whatever streams do: no peer waits for it in vain.
    pub(super) fn wants_control_output(&self) -> bool {
        self.has_transport()
            && (self.setup.is_some()
                || !self.echoes.is_empty()
                || !self.pushes.is_empty()
                || !self.pings.is_empty()
                || self.keepalive.as_ref().is_some_and(|clock| clock.due)
                || self.leases.as_ref().is_some_and(|leases| leases.has_unsent()))
            || self.session_wants_output()
    }

    /// What the retained frames must have room for.
    pub(super) fn wants_tracked_output(&self) -> bool {
        let is_held = self.session.as_ref().is_some_and(|session| session.is_held());
        (!is_held || self.is_deaf()) && (!self.scheduler.is_empty() || !self.refusals.is_empty())
    }

    /// So many refusals wait that nothing is read: what would make room for them could not come.
    fn is_deaf(&self) -> bool {
        self.refusals.len() >= self.config.max_queued_replies
            && self.session.as_ref().is_some_and(|session| session.may_overflow())
    }

    /// Whether a tracked frame may be written now: to the transport, and to what is retained.
    fn has_room(&mut self, out: &SendBuf) -> bool {
        if self.session.is_none() {
            return !out.is_full();
        }
        let is_deaf = self.is_deaf();
        let Some(session) = &mut self.session else { return false };
        self.stats.retention_overflows += session.make_room(is_deaf);
        !session.is_held() && (!session.is_up() || !out.is_full())
    }

    /// Bytes that have been written, to see what a frame takes.
    fn written(&self, out: &SendBuf) -> u64 {
        self.session.as_ref().map_or(out.len() as u64, |session| session.retained.sent())
    }

    fn transmit_control(&mut self, out: &mut SendBuf) {
        if let Some(setup) = self.setup.take() {
            setup.encode(out);
            self.stats.frames_out += 1;
        }
        if let Some(lease) = self.leases.as_mut().and_then(|leases| leases.take_unsent()) {
            lease.encode(out);
            self.stats.frames_out += 1;
        }
        let position = self.received_position();
        if let Some(clock) = &mut self.keepalive
            && clock.due
            && !out.is_full()
        {
            clock.due = false;
            KeepAlive { respond: true, position, data: Bytes::new() }.encode(out);
            self.stats.frames_out += 1;
        }
        while !out.is_full()
            && let Some(data) = self.pings.pop_front()
        {
            KeepAlive { respond: true, position, data }.encode(out);
            self.stats.frames_out += 1;
        }
        while !out.is_full()
            && let Some(data) = self.echoes.pop_front()
        {
            self.echo_bytes -= data.len();
            KeepAlive { respond: false, position, data }.encode(out);
            self.stats.frames_out += 1;
        }
        while !out.is_full()
            && let Some(metadata) = self.pushes.pop_front()
        {
            encode_metadata_push(metadata, out);
            self.stats.frames_out += 1;
        }
    }

    fn transmit_refusals(&mut self, out: &mut SendBuf) {
        while self.has_room(out)
            && let Some(Refusal { stream, code, message }) = self.refusals.pop_front()
        {
            encode_error(Some(stream), code, message, &mut tracked(&mut self.session, out));
            self.stats.frames_out += 1;
        }
    }

    fn transmit_stream_control(&mut self, out: &mut SendBuf) {
        while self.has_room(out)
            && let Some(key) = self.scheduler.pop_control()
        {
            let Some(stream) = self.streams.get_mut(key) else {
                continue;
            };
            stream.in_control = false;
            self.stats.frames_out += u64::from(self.transmit_control_of(key, out));
            self.settle(key);
        }
    }

    /// Writes a stream's CANCEL or REQUEST_N; false if it has none, or is in the middle of a payload.
    fn transmit_control_of(&mut self, key: StreamKey, out: &mut SendBuf) -> bool {
        let Some(stream) = self.streams.get_mut(key).filter(|stream| stream.has_control()) else {
            return false;
        };
        let out = &mut tracked(&mut self.session, out);
        if stream.recv.take_cancel() {
            encode_cancel(key.id(), out);
        } else {
            encode_request_n(key.id(), stream.recv.take_request_n(), out);
        }
        true
    }

    fn transmit_streams(&mut self, out: &mut SendBuf) {
        let quantum = self.config.quantum_bytes as i64;
        while self.has_room(out)
            && let Some(key) = self.scheduler.pop_data()
        {
            let Some(stream) = self.streams.get_mut(key) else {
                continue;
            };
            stream.deficit = stream.deficit.saturating_add(quantum).min(quantum);
            let mut deficit = stream.deficit;
            let mut idle = true;
            while deficit > 0 && self.has_room(out) {
                let before = self.written(out);
                if !self.transmit_frame(key, out) {
                    break;
                }
                deficit -= (self.written(out) - before) as i64;
                idle = false;
                self.stats.frames_out += 1;
            }
            if let Some(stream) = self.streams.get_mut(key) {
                // What it overdrew is paid at its next turn; what it left is lost if it has no more.
                let has_data = stream.has_data();
                stream.deficit = if has_data { deficit } else { deficit.min(0) };
                stream.in_data = has_data || !(idle || stream.is_over());
                if stream.in_data {
                    self.scheduler.push_old(key);
                }
                // Control that waited for the request, or the end of the stream.
                self.settle(key);
            }
        }
    }

    /// Writes one frame of a stream; false if it has none.
    fn transmit_frame(&mut self, key: StreamKey, out: &mut SendBuf) -> bool {
        let max = self.config.outbound_frame_bytes();
        let Some(stream) = self.streams.get_mut(key) else { return false };
        if let Some(payload) = stream.opening.take() {
            let interaction = stream.interaction;
            let mut request = Request {
                stream: key.id(),
                interaction,
                follows: false,
                // Some peers overlook COMPLETE here; it follows as a frame of its own (3.15).
                complete: false,
                initial_n: stream.recv.take_request_n(),
                payload,
            };
            if request.encoded_len() > max {
                let payload = std::mem::take(&mut request.payload);
                let mut cut = Cut::new(payload, CutEnd::Request);
                request.payload = cut.next(max - request.encoded_len());
                request.follows = true;
                stream.cut = Some(Box::new(cut));
            } else if interaction == Interaction::FireAndForget {
                self.events.push_back(Event::Completed { key });
            }
            request.encode(&mut tracked(&mut self.session, out));
            return true;
        }
        if stream.cut.is_some() {
            self.transmit_fragment(key, max, out);
            return true;
        }
        // It has waited for the last fragment, and does not wait for the next item's as well.
        if stream.has_control() {
            return self.transmit_control_of(key, out);
        }
        match stream.send.pop() {
            Some(Output::Item { item, last }) => {
                self.stats.items_out += 1;
                if payload_frame_len(&item) > max {
                    let end = match (last, stream.interaction) {
                        (true, Interaction::RequestResponse) => CutEnd::Answer,
                        (true, _) => CutEnd::LastItem,
                        (false, _) => CutEnd::Item,
                    };
                    stream.cut = Some(Box::new(Cut::new(item, end)));
                    self.transmit_fragment(key, max, out);
                    return true;
                }
                let signal = if last { PayloadSignal::NextComplete } else { PayloadSignal::Next };
                let out = &mut tracked(&mut self.session, out);
                encode_payload(key.id(), signal, false, item, out);
            }
            Some(Output::Complete) => {
                let out = &mut tracked(&mut self.session, out);
                let nothing = Payload::default();
                encode_payload(key.id(), PayloadSignal::Complete, false, nothing, out);
            }
            Some(Output::Error(error)) => {
                let out = &mut tracked(&mut self.session, out);
                encode_error(Some(key.id()), error.code, &error.message, out);
            }
            None => return false,
        }
        true
    }

    /// Writes the next fragment of what a stream is sending. NEXT is on every one of them, and
    /// COMPLETE on none but the last of an answer (FRAG-06).
    fn transmit_fragment(&mut self, key: StreamKey, max: usize, out: &mut SendBuf) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let Some(cut) = &mut stream.cut else { return };
        let out = &mut tracked(&mut self.session, out);
        if cut.is_spent() {
            // The last item has left whole; its COMPLETE follows.
            stream.cut = None;
            let nothing = Payload::default();
            encode_payload(key.id(), PayloadSignal::Complete, false, nothing, out);
            return;
        }
        let fragment = cut.next(max - HEADER_LEN);
        let (end, whole) = (cut.end, cut.is_spent());
        let signal = if whole && end == CutEnd::Answer {
            PayloadSignal::NextComplete
        } else {
            PayloadSignal::Next
        };
        if whole && end != CutEnd::LastItem {
            stream.cut = None;
            if stream.interaction == Interaction::FireAndForget {
                self.events.push_back(Event::Completed { key });
            }
        }
        encode_payload(key.id(), signal, !whole, fragment, out);
    }
}

/// Where tracked frames go: to the transport, if there is one for them, and to what is retained.
fn tracked<'a>(session: &'a mut Option<Box<Session>>, out: &'a mut SendBuf) -> Tracked<'a> {
    match session {
        None => Tracked { transport: Some(out), retained: None },
        Some(session) => Tracked {
            transport: session.is_up().then_some(out),
            retained: Some(&mut session.retained),
        },
    }
}
