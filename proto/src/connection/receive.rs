//! The meaning of each frame in each state: the reaction matrix of `docs/spec.md`.
//!
//! Most nonsense must be ignored and is counted; a little ends the connection.

use std::time::Instant;

use bytes::Bytes;

use crate::{
    connection::{AnswerNow, Answering, Connection, Event, KeepaliveClock, Nobody, Role, State},
    error::{CloseReason, ErrorCode, StreamError, Violation},
    frame::{
        Carrier, Ext, Frame, FrameType, Interaction, KeepAlive, MAX_U31, Malformed, PayloadFrame,
        RawHeader, Request, Resume, Setup, StreamId, VERSION, check_len,
    },
    payload::Payload,
    stream::{Assembly, Effect, Stream, StreamKey, Unjoinable},
    transmit::SendBuf,
};

/// Why a frame was not acted upon.
pub(super) enum Ignored {
    /// No stream accounts for it (UNX-01).
    UnknownStream,
    /// It makes no sense where it came.
    OutOfPlace,
}

type Reaction = Result<Result<(), Ignored>, Violation>;

const DONE: Reaction = Ok(Ok(()));
const OUT_OF_PLACE: Reaction = Ok(Err(Ignored::OutOfPlace));

const TOO_MANY: &str = "too many open streams on this connection: try again when some have ended";
const TOO_LARGE: &str = "the open requests of this connection hold as many bytes as they may: try again \
                         when some have been answered";
const NO_MEMORY: &str = "there is no memory left for more of this connection now: try again later";
const OVERFLOW: &str = "an item was sent that was not asked for with request-n";

impl Connection {
    /// A whole frame has arrived, without any transport prefix; call while `wants_input`.
    pub fn handle_frame(&mut self, frame: Bytes, now: Instant) {
        self.take_frame(frame, now, None::<&mut Answering<'_, Nobody>>);
    }

    /// As [`handle_frame`](Self::handle_frame), with a service that may answer requests as they come: its
    /// answers are written to `out`. While events wait to be polled it is not asked.
    #[inline]
    pub fn handle_frame_answering(
        &mut self,
        frame: Bytes,
        now: Instant,
        out: &mut SendBuf,
        service: &mut impl AnswerNow,
    ) {
        self.take_frame(frame, now, Some(&mut Answering { service, out }));
    }

    #[inline]
    pub(super) fn take_frame(
        &mut self,
        mut frame: Bytes,
        now: Instant,
        answering: Option<&mut Answering<'_, impl AnswerNow>>,
    ) {
        if self.state.is_over() {
            return;
        }
        self.stats.frames_in += 1;
        self.stats.bytes_in += frame.len() as u64;
        if let Some(clock) = &mut self.keepalive {
            clock.received(now);
        }
        let len = frame.len() as u64;
        let mut tracked = 0;
        let reaction = match self.decode_carrier(&mut frame) {
            Some(Ok(Carrier::Item(item))) => {
                self.count_received(len);
                Ok(self.receive_payload(item, now, answering))
            }
            Some(Ok(Carrier::Request(request))) => {
                self.count_received(len);
                Ok(self.receive_request(request, now, answering))
            }
            Some(Err(malformed)) => {
                tracked = self.count_received(len);
                self.react_to(malformed)
            }
            None => {
                tracked = self.track_received(&frame);
                check_len(frame.len(), self.input_limits().max_frame_bytes)
                    .map_err(|violation| self.blame(violation))
                    .and_then(|()| self.check_first(&frame))
                    .and_then(|()| match Frame::decode(frame) {
                        Ok(frame) => self.receive(frame, now),
                        Err(malformed) => self.react_to(malformed),
                    })
            }
        };
        match reaction {
            Ok(Ok(())) => {}
            Ok(Err(Ignored::UnknownStream)) => self.stats.ignored_unknown_stream += 1,
            Ok(Err(Ignored::OutOfPlace)) => self.stats.ignored_out_of_place += 1,
            Err(violation) => {
                // If the session goes on, the peer sends it again.
                self.untrack_received(tracked);
                self.handle_violation(violation, now);
            }
        }
    }

    /// The short way of most frames, where nothing of the connection is expected.
    #[inline]
    fn decode_carrier(&self, frame: &mut Bytes) -> Option<Result<Carrier, Malformed>> {
        let is_plain = matches!(self.state, State::Established) && !self.is_resuming();
        if is_plain && frame.len() <= self.config.max_frame_bytes {
            Carrier::decode(frame)
        } else {
            None
        }
    }

    fn react_to(&mut self, malformed: Malformed) -> Reaction {
        if malformed.ignorable && !self.awaits_setup() {
            self.stats.ignored_on_request += 1;
            DONE
        } else {
            Err(self.blame(malformed.violation))
        }
    }

    /// Nothing may precede SETUP or RESUME, not even what asks to be ignored (SETUP-02, SETUP-03).
    pub(super) fn check_first(&self, frame: &[u8]) -> Result<(), Violation> {
        if !self.awaits_setup() {
            return Ok(());
        }
        let Some(header) = RawHeader::read(frame) else {
            return Ok(());
        };
        match FrameType::from_number(header.frame_type) {
            Some(FrameType::Setup | FrameType::Resume) if header.stream_id == 0 => Ok(()),
            Some(FrameType::Setup | FrameType::Resume) => Err(Violation::SetupOnStream),
            _ => Err(Violation::FirstFrame { frame_type: header.frame_type }),
        }
    }

    /// INVALID_SETUP answers only the SETUP that opens a connection, and SETUP has a limit of its own.
    pub(super) fn blame(&self, violation: Violation) -> Violation {
        match violation {
            Violation::FrameTooLong { len, max } if self.awaits_setup() => {
                Violation::FirstFrameTooLong { len, max }
            }
            Violation::MalformedSetup { field } if !self.awaits_setup() => {
                Violation::Truncated { frame: FrameType::Setup.name(), field }
            }
            violation => violation,
        }
    }

    fn receive(&mut self, frame: Frame, now: Instant) -> Reaction {
        if self.is_resuming() {
            return self.receive_resuming(frame, now).map(Ok);
        }
        if !matches!(frame, Frame::Error { stream: None, .. }) {
            self.confirm();
        }
        match frame {
            Frame::Payload(payload) => {
                Ok(self.receive_payload(payload, now, None::<&mut Answering<'_, Nobody>>))
            }
            Frame::Request(request) => {
                Ok(self.receive_request(request, now, None::<&mut Answering<'_, Nobody>>))
            }
            Frame::RequestN { stream, n } => Ok(self.receive_request_n(stream, n)),
            Frame::Cancel { stream } => Ok(self.receive_cancel(stream)),
            Frame::Error { stream: Some(stream), code, message } => {
                let error = self.received_error(code, &message);
                Ok(self.receive_error(stream, error))
            }
            Frame::Error { stream: None, code, message } => {
                let error = self.received_error(code, &message);
                Ok(self.receive_connection_error(error))
            }
            Frame::KeepAlive(keepalive) => {
                self.receive_keepalive(keepalive, now);
                DONE
            }
            Frame::MetadataPush { metadata } => {
                self.events.push_back(Event::MetadataPush(metadata));
                DONE
            }
            Frame::Setup(setup) => self.receive_setup(setup, now),
            Frame::Lease(lease) => {
                if self.receive_lease(lease, now) { DONE } else { OUT_OF_PLACE } // LEASE-14
            }
            Frame::Resume(resume) if self.awaits_setup() => self.receive_resume(resume, now),
            Frame::Resume(_) if self.role == Role::Server => Err(Violation::ResumeAfterSetup),
            // RESUME_OK was not asked for (RESUME-40).
            Frame::Resume(_) | Frame::ResumeOk { .. } => OUT_OF_PLACE,
            Frame::Misplaced { .. } => OUT_OF_PLACE,
            Frame::Ext(Ext { ignorable: true, .. }) | Frame::Unknown { ignorable: true, .. } => {
                self.stats.ignored_on_request += 1;
                DONE
            }
            Frame::Ext(_) => Err(Violation::UnknownFrame { frame_type: FrameType::Ext as u8 }),
            Frame::Unknown { frame_type, .. } => Err(Violation::UnknownFrame { frame_type }),
        }
    }

    /// Anything but an ERROR on stream 0 shows a client that its SETUP is accepted (SETUP-23).
    pub(super) fn confirm(&mut self) {
        match &mut self.state {
            State::Unconfirmed => self.state = State::Established,
            State::Draining { confirmed: confirmed @ false, .. } => *confirmed = true,
            _ => return,
        }
        self.events.push_back(Event::Established);
    }

    fn receive_setup(&mut self, mut setup: Box<Setup>, now: Instant) -> Reaction {
        if !self.awaits_setup() {
            return OUT_OF_PLACE; // SETUP-17, SETUP-18
        }
        let (major, minor) = setup.version;
        if setup.version != VERSION {
            return Err(Violation::Version { major, minor });
        }
        let valid = 1..=MAX_U31;
        if !valid.contains(&setup.keepalive_interval_ms) || !valid.contains(&setup.max_lifetime_ms)
        {
            return Err(Violation::KeepaliveTimes);
        }
        match &setup.resume_token {
            Some(_) if self.config.resume.is_none() => return Err(Violation::ResumeUnavailable),
            Some(token) if token.is_empty() => return Err(Violation::EmptyResumeToken),
            _ => {}
        }
        if setup.lease && !self.config.leases {
            return Err(Violation::LeaseUnsupported);
        }
        // It outlives its read by far.
        setup.detach();
        self.agree_upon(&setup);
        self.keepalive = Some(KeepaliveClock::server(&setup, self.config.max_lifetime, now));
        self.state = State::Accepting { until: now + self.config.setup_timeout };
        self.events.push_back(Event::Setup(setup));
        DONE
    }

    /// RESUME as the first frame: whose session it is, the owner of the connections knows.
    fn receive_resume(&mut self, resume: Box<Resume>, now: Instant) -> Reaction {
        let Some(limits) = self.config.resume else {
            return Err(Violation::UnknownSession); // RESUME-17
        };
        let swapped = limits.swapped_version && resume.version == (0, 1);
        let malformed = |what| Err(Violation::MalformedResume { what });
        if resume.version != VERSION && !swapped {
            return malformed("RESUME of another protocol version than 1.0"); // RESUME-26
        }
        if resume.token.is_empty() {
            return malformed("RESUME with an empty token");
        }
        let max = u64::MAX >> 1;
        if resume.last_received_server_position > max
            || resume.first_available_client_position > max
        {
            return malformed("RESUME with a position above 2^63-1");
        }
        self.state = State::Accepting { until: now + self.config.setup_timeout };
        self.events.push_back(Event::Resume(resume));
        DONE
    }

    fn receive_keepalive(&mut self, keepalive: KeepAlive, now: Instant) {
        let of_the_clock = !self.has_asked();
        self.acknowledged(&keepalive);
        let KeepAlive { respond, data, .. } = keepalive;
        if !respond {
            if let Some(first) = &mut self.first_fragments {
                first.answered_keepalive();
            }
            // Replies to KEEPALIVEs that the clock sent are empty, and say nothing more.
            if !data.is_empty() {
                self.events.push_back(Event::Pong(data));
            } else if of_the_clock && let Some(clock) = &mut self.keepalive {
                clock.answered(now);
            }
            return;
        }
        let fits = self.echo_bytes + data.len() <= self.config.max_queued_reply_bytes;
        if self.echoes.len() < self.config.max_queued_replies && (fits || self.echo_bytes == 0) {
            self.echo_bytes += data.len();
            // It waits for as long as the peer does not read.
            self.echoes.push_back(Bytes::copy_from_slice(&data));
        } else {
            self.stats.dropped_keepalive_replies += 1;
        }
    }

    #[inline]
    fn receive_request(
        &mut self,
        request: Request,
        now: Instant,
        answering: Option<&mut Answering<'_, impl AnswerNow>>,
    ) -> Result<(), Ignored> {
        let Request { stream: id, interaction, initial_n, .. } = request;
        let peer_is_client = self.role == Role::Server;
        if id.is_odd() != peer_is_client || self.streams.is_live(id) {
            return Err(Ignored::UnknownStream); // SID-12, SID-13
        }
        let request_bytes = request.payload.size();
        let refusal = if matches!(self.state, State::Draining { .. }) {
            Some((ErrorCode::REJECTED, self.parting_words.unwrap_or("the connection is closing")))
        } else if initial_n > MAX_U31 {
            Some((ErrorCode::INVALID, "the initial request-n is above 2147483647")) // RS-12
        } else if self.streams.inbound() >= self.config.max_streams {
            self.stats.refused_streams += 1;
            Some((ErrorCode::REJECTED, TOO_MANY))
        } else if self.streams.inbound_bytes() + request_bytes > self.config.max_request_bytes {
            self.stats.refused_request_bytes += 1;
            Some((ErrorCode::REJECTED, TOO_LARGE))
        } else if !self.may_take(interaction, request_bytes) {
            self.stats.refused_memory += 1;
            Some((ErrorCode::REJECTED, NO_MEMORY))
        } else if self.leases.as_mut().is_some_and(|leases| !leases.admit(now)) {
            self.stats.refused_leases += 1;
            Some((ErrorCode::REJECTED, "the lease allows no request now")) // LEASE-11, LEASE-23
        } else {
            None
        };
        match refusal {
            Some(_) if interaction == Interaction::FireAndForget => {
                self.stats.dropped_fire_and_forget += 1;
            }
            Some((code, message)) => self.refuse(id, code, message),
            None if request.follows => {
                let key = self.streams.respond(&request, true);
                self.streams.begin_request(key, request.complete);
                self.assemble(key, &request.payload, now);
            }
            None => {
                if let Some(answering) = answering.filter(|it| it.takes(interaction, self)) {
                    self.answer_now(request, answering);
                    return Ok(());
                }
                // The id of a fire-and-forget is free as soon as it has arrived (FNF-02).
                let addressable = interaction != Interaction::FireAndForget;
                let key = self.streams.respond(&request, addressable);
                self.stats.requests_in += 1;
                let Request { payload, complete, .. } = request;
                self.events.push_back(Event::Request { key, interaction, payload, complete });
            }
        }
        Ok(())
    }

    #[inline]
    fn receive_payload(
        &mut self,
        frame: PayloadFrame,
        now: Instant,
        answering: Option<&mut Answering<'_, impl AnswerNow>>,
    ) -> Result<(), Ignored> {
        let PayloadFrame { stream: id, follows, next, complete, payload } = frame;
        let Some((key, stream)) = self.streams.find(id) else {
            return Err(Ignored::UnknownStream); // PAY-06
        };
        let assembling = stream.assembly().is_some();
        if !assembling && !stream.is_receiving() {
            return Err(Ignored::OutOfPlace); // PAY-07, RR-11, RS-15
        }
        // PAY-05: neither NEXT nor COMPLETE counts as NEXT. What ends a fragmented payload belongs
        // to it, whatever it says (FRAG-07, FRAG-10).
        let next = next || !complete || assembling;
        // One item is one credit, however many fragments it has (FRAG-11).
        if next && !assembling && !stream.receive_item() {
            self.stats.credit_violations += 1;
            self.fail_receiving(key, StreamError::new(ErrorCode::CANCELED, OVERFLOW));
            return Ok(());
        }
        // FRAG-08: COMPLETE ends a payload, whatever FOLLOWS says.
        let follows = follows && !complete;
        if assembling || follows {
            self.receive_fragment(key, &payload, (follows, complete), now);
        } else {
            let complete = stream.receive_end(complete);
            self.stats.items_in += u64::from(next);
            if complete
                && next
                && stream.is_answered()
                && let Some(answering) =
                    answering.filter(|it| it.takes_reply(!self.events.is_empty()))
            {
                answering.service.reply(key, payload);
                self.remove(key);
                return Ok(());
            }
            self.events.push_back(if next {
                Event::Payload { key, payload, complete }
            } else {
                Event::Completed { key }
            });
            if complete {
                self.settle(key);
            }
        }
        Ok(())
    }

    fn receive_fragment(
        &mut self,
        key: StreamKey,
        part: &Payload,
        (follows, complete): (bool, bool),
        now: Instant,
    ) {
        if !self.assemble(key, part, now) || follows {
            return;
        }
        if let Some(assembly) = self.streams.take_assembly(key) {
            self.receive_joined(key, assembly, complete);
        }
    }

    /// Adds a fragment to its payload; false if the payload had to be given up.
    fn assemble(&mut self, key: StreamKey, fragment: &Payload, now: Instant) -> bool {
        let has_memory = self.may_hold(fragment.size());
        let problem = match self.streams.assemble(key, fragment, &self.config) {
            Err(problem) => problem,
            Ok(()) if !has_memory => Unjoinable::NoMemory,
            Ok(()) => {
                self.parts.begin(self.config.part_timeout, now);
                return true;
            }
        };
        self.stats.refused_assemblies += 1;
        self.stats.refused_memory += u64::from(problem == Unjoinable::NoMemory);
        self.give_up_assembly(key, problem);
        false
    }

    /// The rest of a fragmented payload is not taken.
    pub(super) fn give_up_assembly(&mut self, key: StreamKey, problem: Unjoinable) {
        let (code, message) = (problem.code(), problem.message());
        if self.streams.get(key).is_some_and(Stream::is_assembling_request) {
            self.give_up_request(key, code, message);
        } else {
            self.fail_receiving(key, StreamError::new(code, message));
        }
    }

    /// A request that was being put together is not taken after all.
    fn give_up_request(&mut self, key: StreamKey, code: ErrorCode, message: &'static str) {
        match self.streams.get(key).map(|stream| stream.interaction) {
            Some(Interaction::FireAndForget) => self.stats.dropped_fire_and_forget += 1,
            Some(_) => self.refuse(key.id(), code, message),
            None => {}
        }
        self.remove(key);
    }

    /// The last fragment has come.
    fn receive_joined(&mut self, key: StreamKey, assembly: Assembly, complete: bool) {
        let (is_request, complete) = (assembly.is_request, complete || assembly.complete);
        let payload = assembly.finish();
        if !is_request {
            let Some(stream) = self.streams.get_mut(key) else { return };
            let complete = stream.receive_end(complete);
            self.stats.items_in += 1;
            self.events.push_back(Event::Payload { key, payload, complete });
            if complete {
                self.settle(key);
            }
            return;
        }
        let bytes = payload.size();
        if self.streams.inbound_bytes() + bytes > self.config.max_request_bytes {
            self.stats.refused_request_bytes += 1;
            return self.give_up_request(key, ErrorCode::REJECTED, TOO_LARGE);
        }
        self.streams.hold_request(key, bytes);
        let Some(stream) = self.streams.get_mut(key) else { return };
        let interaction = stream.interaction;
        let complete = stream.receive_whole_request(complete);
        if interaction == Interaction::FireAndForget {
            self.streams.forget_id(key);
        }
        self.stats.requests_in += 1;
        self.events.push_back(Event::Request { key, interaction, payload, complete });
    }

    fn receive_request_n(&mut self, id: StreamId, n: u32) -> Result<(), Ignored> {
        // RN-06
        self.receive_on_stream(id, |stream| stream.receive_request_n(n))
    }

    fn receive_cancel(&mut self, id: StreamId) -> Result<(), Ignored> {
        // CAN-02
        self.receive_on_stream(id, Stream::receive_cancel)
    }

    /// The error that the peer sent, as far as its text is kept.
    pub(super) fn received_error(&mut self, code: ErrorCode, text: &[u8]) -> StreamError {
        let max = self.config.max_error_text_bytes;
        self.stats.cut_error_texts += u64::from(text.len() > max);
        StreamError::received(code, text, max)
    }

    fn receive_error(&mut self, id: StreamId, error: StreamError) -> Result<(), Ignored> {
        // ERR-04
        self.receive_on_stream(id, |stream| stream.receive_error(error))
    }

    /// Does to a stream what a frame says, if it is one that the peer can know of.
    fn receive_on_stream(
        &mut self,
        id: StreamId,
        transition: impl FnOnce(&mut Stream) -> Effect,
    ) -> Result<(), Ignored> {
        let Some((key, _)) = self.streams.find(id) else { return Err(Ignored::UnknownStream) };
        let effect = self.streams.change(key, transition);
        self.follow(key, effect)
    }

    /// Whether the first frame that comes after the end may still be a refusal (SETUP-24): of a client
    /// that was closed before its server had said anything.
    pub fn may_be_refused(&self) -> bool {
        self.may_be_refused
    }

    /// A frame has arrived after the end. If it refuses all that was sent before, that is why it ends.
    pub fn handle_late_frame(&mut self, frame: Bytes) -> Option<CloseReason> {
        if !std::mem::take(&mut self.may_be_refused) {
            return None;
        }
        match Frame::decode(frame) {
            Ok(Frame::Error { stream: None, code, message })
                if code != ErrorCode::CONNECTION_CLOSE =>
            {
                self.lost_fire_and_forget = self.stats.fire_and_forget_out;
                Some(self.received_error(code, &message).ends_connection())
            }
            _ => None,
        }
    }

    fn receive_connection_error(&mut self, error: StreamError) -> Result<(), Ignored> {
        match error.code {
            _ if self.state.is_unconfirmed() => self.end(error.ends_connection()), // SETUP-24
            ErrorCode::CONNECTION_ERROR => self.end(error.ends_connection()),      // CONN-01
            ErrorCode::CONNECTION_CLOSE if self.state.goodbye().is_none() => {
                self.events.push_back(Event::Draining(error.clone().ends_connection()));
                self.state = State::Draining { by_peer: Some(error), confirmed: true }; // CONN-02
                self.close_if_drained();
            }
            // It has said so before.
            ErrorCode::CONNECTION_CLOSE => {}
            // SETUP-25, SETUP-26, CONN-06. A peer that means it ends the transport behind it.
            _ => {
                self.unheeded = Some(Box::new((self.stats.frames_in, error)));
                return Err(Ignored::OutOfPlace);
            }
        }
        Ok(())
    }
}
