//! One connection: what a peer and an application may do to it, and what follows.
//!
//! Four kinds of method, to be used in this order by whoever owns the sockets and the clock:
//!
//! 1. `handle_*` says what happened. It never fails: what a peer does wrong becomes an ERROR frame
//!    and [`Event::Closed`].
//! 2. Commands (`accept`, `request`, `stream(..)`, `close`, …) say what the application wants.
//! 3. `poll_*` says what is to be done: drain the events, fill the send buffer, sleep until the
//!    deadline.
//! 4. The rest are questions.

mod answer;
mod direct;
mod effect;
mod event;
mod fragments;
mod ids;
mod keepalive;
mod lease;
mod memory;
mod parts;
mod receive;
mod resume;
mod state;
mod stream_mut;
mod streams;
mod summary;
mod transmit;

use std::{collections::VecDeque, sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};

use crate::{
    config::{Config, MAX_FRAME_BYTES},
    error::{
        CloseReason, ControlError, ErrorCode, FrameTooLong, IoError, NotOpen, RequestError, Side,
        StreamError, Violation,
    },
    frame::{
        HEADER_LEN, INITIAL_N_LEN, Interaction, KeepAlive, MAX_U31, PREFIX_LEN, Setup, StreamId,
        deframe, payload_frame_len,
    },
    payload::Payload,
    stats::Stats,
    stream::StreamKey,
    transmit::{Scheduler, SendBuf},
};

pub use answer::AnswerNow;
use answer::{Answering, Nobody};
pub use direct::Items;
pub use event::Event;
use fragments::FirstFragments;
pub use fragments::Fragmented;
use keepalive::KeepaliveClock;
use lease::Leases;
use parts::PartClock;
use resume::Session;
use state::State;
pub use stream_mut::StreamMut;
use streams::{Streams, Tenancy};
pub use summary::StreamSummary;

/// Events a read may leave undelivered before the rest of its bytes wait.
const EVENTS_PER_READ: usize = 256;

/// Which side of a connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We dialled, and sent SETUP.
    Client,
    /// We were dialled.
    Server,
}

/// ERROR for a request that has no entry in the table.
#[derive(Debug)]
struct Refusal {
    stream: StreamId,
    code: ErrorCode,
    message: &'static str,
}

/// The protocol state of one connection; a function of what it is told and when.
#[derive(Debug)]
pub struct Connection {
    role: Role,
    state: State,
    config: Arc<Config>,
    streams: Streams,
    scheduler: Scheduler,
    events: VecDeque<Event>,
    /// The client's SETUP, until it is written.
    setup: Option<Box<Setup>>,
    /// Running once SETUP is known.
    keepalive: Option<KeepaliveClock>,
    /// The data of KEEPALIVEs to be sent back.
    echoes: VecDeque<Bytes>,
    echo_bytes: usize,
    /// While too many wait, nothing is read.
    refusals: VecDeque<Refusal>,
    pushes: VecDeque<Bytes>,
    /// KEEPALIVE frames the application asked for, to be written.
    pings: VecDeque<Bytes>,
    /// The last ERROR on stream 0 that means nothing there, and how many frames had come by then:
    /// where the transport ends right behind it, it says why.
    unheeded: Option<Box<(u64, StreamError)>>,
    /// Present once a payload has left in fragments.
    first_fragments: Option<Box<FirstFragments>>,
    /// A client's that was closed here before its server had said anything: its first frame may be a
    /// refusal of all that was sent.
    may_be_refused: bool,
    /// Fire-and-forgets that it ended without a sign of having been heard, as far as that shows.
    lost_fire_and_forget: u64,
    /// The text of the CONNECTION_CLOSE with which it ends.
    parting_words: Option<&'static str>,
    /// Present where SETUP asked for leases.
    leases: Option<Box<Leases>>,
    /// Present where SETUP asked for resume.
    session: Option<Box<Session>>,
    /// Bytes that may be held.
    allowance: usize,
    /// Frames of fewer bytes are copied off the input.
    copy_below: usize,
    parts: PartClock,
    stats: Stats,
}

impl Connection {
    /// A client's side: SETUP is the first thing it writes.
    pub fn client(setup: Setup, config: Arc<Config>, now: Instant) -> Self {
        let keepalive = KeepaliveClock::client(&setup, now);
        let mut connection = Self::new(Role::Client, State::Unconfirmed, config);
        connection.keepalive = Some(keepalive);
        connection.agree_upon(&setup);
        connection.setup = Some(Box::new(setup));
        connection
    }

    /// A server's side: it waits for SETUP.
    pub fn server(config: Arc<Config>, now: Instant) -> Self {
        let until = now + config.setup_timeout;
        Self::new(Role::Server, State::AwaitingSetup { until }, config)
    }

    fn new(role: Role, state: State, config: Arc<Config>) -> Self {
        let first_id = if role == Role::Client { 1 } else { 2 };
        let reuses = config.reuse_stream_ids;
        Self {
            role,
            state,
            config,
            streams: Streams::new(first_id, reuses),
            scheduler: Scheduler::default(),
            events: VecDeque::new(),
            setup: None,
            keepalive: None,
            echoes: VecDeque::new(),
            echo_bytes: 0,
            refusals: VecDeque::new(),
            pushes: VecDeque::new(),
            pings: VecDeque::new(),
            unheeded: None,
            first_fragments: None,
            may_be_refused: false,
            lost_fire_and_forget: 0,
            parting_words: None,
            leases: None,
            session: None,
            allowance: usize::MAX,
            copy_below: 0,
            parts: PartClock::default(),
            stats: Stats::default(),
        }
    }

    /// Agrees to what SETUP asks for beside streams.
    fn agree_upon(&mut self, setup: &Setup) {
        self.leases = setup.lease.then(|| Box::new(Leases::new(self.config.lease_grace)));
        self.session = setup.resume_token.clone().map(|token| {
            let limits = self.config.resume.unwrap_or_default();
            Box::new(Session::new(token, limits))
        });
    }

    // ---- what happened ------------------------------------------------------------------------

    /// Bytes of a transport with length prefixes have arrived. Takes whole frames off the front of
    /// `input`, and stops early when input is not wanted or enough events wait: call again after
    /// draining the events, until it takes nothing more.
    pub fn handle_bytes(&mut self, input: &mut BytesMut, now: Instant) {
        self.take_bytes(input, now, None::<Answering<'_, Nobody>>);
    }

    /// As [`handle_bytes`](Self::handle_bytes), with a service that may answer requests as they come:
    /// its answers are written to `out`. While events wait to be polled it is not asked.
    #[inline]
    pub fn handle_bytes_answering(
        &mut self,
        input: &mut BytesMut,
        now: Instant,
        out: &mut SendBuf,
        service: &mut impl AnswerNow,
    ) {
        self.take_bytes(input, now, Some(Answering { service, out }));
    }

    #[inline]
    fn take_bytes(
        &mut self,
        input: &mut BytesMut,
        now: Instant,
        mut answering: Option<Answering<'_, impl AnswerNow>>,
    ) {
        let is_first = self.awaits_setup();
        let mut limits = self.input_limits();
        while self.wants_input() {
            if is_first {
                // The first frame has a limit of its own.
                limits = self.input_limits();
            }
            match deframe(input, limits) {
                Ok(Some(frame)) => self.take_frame(frame, now, answering.as_mut()),
                Ok(None) => {
                    self.handle_partial(input.get(PREFIX_LEN..).unwrap_or_default(), now);
                    self.handle_incomplete(input.len(), now);
                    break;
                }
                Err(violation) => self.handle_violation(self.blame(violation), now),
            }
        }
    }

    /// A frame has begun to arrive. A server that awaits SETUP need not wait for the rest of one
    /// that cannot be it: what speaks another protocol is told at once (SETUP-02).
    pub fn handle_partial(&mut self, start: &[u8], now: Instant) {
        if let Err(violation) = self.check_first(start) {
            self.handle_violation(violation, now);
        }
    }

    /// The transport delivered bytes that are no frames of it. A session that can be resumed outlives
    /// that: its transport is given up without a word, since an ERROR would end it.
    pub fn handle_violation(&mut self, violation: Violation, now: Instant) {
        if self.state.is_over() || (violation.breaks_framing() && self.break_transport(now)) {
            return;
        }
        match violation {
            Violation::SetupTimeout => self.stats.setup_timeouts += 1,
            Violation::KeepaliveTimeout => {}
            _ => self.stats.violations += 1,
        }
        let message = violation.to_string().into();
        self.end_saying(violation.code(), message, CloseReason::Violation(violation));
    }

    /// Time has passed: call when `poll_timeout` says so; early calls do no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            State::AwaitingSetup { until } | State::Accepting { until } if until <= now => {
                self.handle_violation(Violation::SetupTimeout, now);
            }
            State::Unconfirmed | State::Established | State::Draining { .. } => {
                if self.session_timeout(now) {
                    return;
                }
                if let Some(leases) = &mut self.leases {
                    leases.tick(now);
                }
                self.look_at_parts(now);
                let is_dead = self.keepalive.as_mut().is_some_and(|clock| !clock.tick(now));
                self.stats.keepalive_timeouts += u64::from(is_dead);
                // KA-11: what cannot be reached on this transport may be on the next.
                if !is_dead || self.suspend(now) {
                    return;
                }
                match self.state.goodbye() {
                    // It is silent after its last words.
                    Some(goodbye) => {
                        let reason = goodbye.clone().ends_connection();
                        self.end(reason);
                    }
                    None => self.handle_violation(Violation::KeepaliveTimeout, now),
                }
            }
            _ => {}
        }
    }

    /// The transport is gone, in both directions (TCP-04). `error` is the transport's, if it had
    /// one. A session that can be resumed is suspended; another connection is over. So is that of a
    /// client whose server has not said anything: nobody has told it of a session.
    pub fn handle_disconnect(&mut self, error: Option<IoError>, now: Instant) {
        self.handle_loss(error.map(CloseReason::Io), now);
    }

    /// The peer has closed the WebSocket with this code and reason: as a loss of the transport, of
    /// which is known why.
    pub fn handle_websocket_close(&mut self, code: u16, reason: Arc<str>, now: Instant) {
        self.handle_loss(Some(CloseReason::WebSocketClosed { code, reason }), now);
    }

    fn handle_loss(&mut self, why: Option<CloseReason>, now: Instant) {
        let unanswered = self.is_unanswered();
        if !unanswered && self.suspend(now) {
            return;
        }
        if !self.state.is_over() {
            let finished = matches!(self.state, State::Draining { .. }) && self.streams.len() == 0;
            let is_told = finished && (why.is_none() || self.state.goodbye().is_some());
            self.end(match (self.last_said(), why) {
                _ if is_told => CloseReason::Finished(Side::Peer),
                // However the transport ends behind it, the peer has said why.
                (Some(said), _) => said.clone().ends_connection(),
                (None, Some(why)) => why,
                (None, None) if unanswered => CloseReason::ClosedAfterSetup,
                (None, None) => CloseReason::Disconnected,
            });
        }
        self.state = State::Closed;
    }

    // ---- what the application wants -----------------------------------------------------------

    /// The acceptor takes the connection that [`Event::Setup`] asked for.
    pub fn accept(&mut self, now: Instant) {
        if let State::Accepting { .. } = self.state {
            self.state = State::Established;
            if let Some(clock) = &mut self.keepalive {
                clock.received(now);
            }
        }
    }

    /// The acceptor refuses it with this text (SETUP-16).
    pub fn reject(&mut self, code: ErrorCode, message: impl Into<Arc<str>>) {
        if let State::Accepting { .. } = self.state {
            self.end_with(code, message);
        }
    }

    /// Opens a stream. `n` is the first request-n of a stream or channel, and means nothing for the
    /// other two.
    ///
    /// # Errors
    /// [`RequestError`] says why not; nothing is kept in that case.
    pub fn request(
        &mut self,
        interaction: Interaction,
        payload: Payload,
        n: u32,
    ) -> Result<StreamKey, RequestError> {
        let id = self.admit(interaction, &payload, n)?;
        Ok(self.enqueue(id, interaction, payload, n))
    }

    /// The id of a stream that may be opened.
    fn admit(
        &mut self,
        interaction: Interaction,
        payload: &Payload,
        n: u32,
    ) -> Result<StreamId, RequestError> {
        self.check_open()?;
        if interaction.has_initial_n() && !(1..=MAX_U31).contains(&n) {
            return Err(RequestError::InvalidRequestN);
        }
        // The longest a request of this payload can be.
        self.check_outbound(payload_frame_len(payload) + INITIAL_N_LEN)?;
        // A permit is the last thing it needs: none is spent on what cannot be sent.
        if self.permits() == Some(0) {
            return Err(RequestError::NoLease);
        }
        let id = self.streams.allocate().ok_or(RequestError::StreamIdsExhausted)?;
        if let Some(leases) = &mut self.leases {
            leases.take();
        }
        self.stats.requests_out += 1;
        Ok(id)
    }

    /// Puts a stream in the table whose request waits to be written.
    fn enqueue(
        &mut self,
        id: StreamId,
        interaction: Interaction,
        payload: Payload,
        n: u32,
    ) -> StreamKey {
        let (key, tenancy, _) = self.streams.request(id, interaction, Some(payload), n);
        self.scheduler.add_data(key, &mut tenancy.turn);
        self.streams.count_unsent(key);
        key
    }

    /// Requests may be opened.
    fn check_open(&self) -> Result<(), NotOpen> {
        match self.state {
            State::Unconfirmed | State::Established => Ok(()),
            State::AwaitingSetup { .. } | State::Accepting { .. } => Err(NotOpen::Yet),
            State::Draining { .. } | State::Closing { .. } | State::Closed => Err(NotOpen::AnyMore),
        }
    }

    /// The stream, to be acted upon, if it is not over.
    pub fn stream(&mut self, key: StreamKey) -> Option<StreamMut<'_>> {
        self.streams.get(key)?;
        Some(StreamMut::new(self, key))
    }

    /// The key of the stream that frames with this id are about, if there is one.
    pub fn find_stream(&mut self, id: StreamId) -> Option<StreamKey> {
        self.streams.find(id).map(|(key, _)| key)
    }

    /// Whether the peer cannot have received anything of our request on this stream: it is not written, or
    /// to nothing that a transport has taken. `taken` is how much of what was written has
    /// [left](SendBuf::taken), where the rest never will; otherwise all of it counts. Also after the
    /// end, until [`free_some`](Self::free_some) is called.
    pub fn is_unsent(&self, key: StreamKey, taken: Option<u64>) -> bool {
        let Some(written_at) = self.streams.request_of(key) else { return false };
        let given = match &self.session {
            Some(session) => Some(session.retained.given()),
            None => taken,
        };
        match (written_at, given) {
            (None, _) => true,
            (Some(position), Some(given)) => position >= given,
            (Some(_), None) => false,
        }
    }

    /// Sends METADATA_PUSH (MDP-01).
    ///
    /// # Errors
    /// [`ControlError::QueueFull`] while as many pushes wait as may; they leave with the next write.
    /// [`ControlError::Closed`] also after the peer's CONNECTION_CLOSE (CONN-03).
    pub fn push_metadata(&mut self, metadata: Bytes) -> Result<(), ControlError> {
        match self.state {
            State::Unconfirmed | State::Established | State::Draining { by_peer: None, .. } => {}
            State::AwaitingSetup { .. } | State::Accepting { .. } => {
                return Err(ControlError::NotEstablished);
            }
            _ => return Err(ControlError::Closed),
        }
        if self.pushes.len() >= self.config.max_queued_replies {
            self.stats.refused_calls += 1;
            return Err(ControlError::QueueFull);
        }
        check_frame_len(HEADER_LEN + metadata.len())?;
        self.pushes.push_back(metadata);
        Ok(())
    }

    /// Sends a KEEPALIVE that the peer must answer with the same data: [`Event::Pong`] (KA-03,
    /// KA-04). One that is under way when the transport is lost has no answer.
    ///
    /// # Errors
    /// [`ControlError::Suspended`] while there is no transport.
    /// [`ControlError::QueueFull`] while as many wait to be written as may.
    /// [`ControlError::Closed`] also after the peer's CONNECTION_CLOSE (CONN-03).
    pub fn ping(&mut self, data: Bytes) -> Result<(), ControlError> {
        match self.state {
            State::Closing { .. } | State::Closed | State::Draining { by_peer: Some(_), .. } => {
                return Err(ControlError::Closed);
            }
            State::AwaitingSetup { .. } | State::Accepting { .. } => {
                return Err(ControlError::NotEstablished);
            }
            _ if !self.has_transport() => return Err(ControlError::Suspended),
            _ => {}
        }
        if self.pings.len() >= self.config.max_queued_replies {
            self.stats.refused_calls += 1;
            return Err(ControlError::QueueFull);
        }
        check_frame_len(KeepAlive::FIXED_LEN + data.len())?;
        self.pings.push_back(data);
        Ok(())
    }

    /// Sets the words of the CONNECTION_CLOSE of [`drain`](Self::drain) and [`close`](Self::close), and of
    /// what is refused until then; "closed", and "the connection is closing", unless it is set.
    pub fn set_parting_words(&mut self, words: &'static str) {
        self.parting_words = Some(words);
    }

    /// Takes no new request in either direction and closes when the last stream has ended.
    pub fn drain(&mut self) {
        match self.state {
            State::Unconfirmed | State::Established => {
                self.state =
                    State::Draining { by_peer: None, confirmed: !self.state.is_unconfirmed() };
                self.close_if_drained();
            }
            State::AwaitingSetup { .. } | State::Accepting { .. } => self.close(),
            State::Draining { .. } | State::Closing { .. } | State::Closed => {}
        }
    }

    /// Whether this is a server that has received nothing yet.
    pub fn awaits_setup(&self) -> bool {
        matches!(self.state, State::AwaitingSetup { .. })
    }

    /// Whether it ends with its last stream.
    pub fn is_draining(&self) -> bool {
        matches!(self.state, State::Draining { .. })
    }

    /// The same, because we [asked for it](Self::drain) and not the peer.
    pub fn is_draining_here(&self) -> bool {
        matches!(self.state, State::Draining { by_peer: None, .. })
    }

    /// Ends the connection now; the peer is told with CONNECTION_CLOSE (CONN-09).
    pub fn close(&mut self) {
        if self.state.is_over() {
            return;
        }
        if self.awaits_setup() {
            // Nobody to tell: no SETUP has come.
            self.end(CloseReason::Finished(Side::Local));
        } else {
            self.part();
        }
    }

    /// Ends the connection now with an ERROR of this code and text on stream 0.
    pub fn end_with(&mut self, code: ErrorCode, message: impl Into<Arc<str>>) {
        if self.state.is_over() {
            return;
        }
        let message = message.into();
        let reason = CloseReason::Error { by: Side::Local, code, message: Arc::clone(&message) };
        self.end_saying(code, message, reason);
    }

    // ---- what the driver must do --------------------------------------------------------------

    /// The next event, in the order of what happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next event, if it is an item of this stream, and whether it is the last: for who takes a
    /// burst of them at once.
    pub fn poll_item(&mut self, of: StreamKey) -> Option<(Payload, bool)> {
        let is_next = matches!(self.events.front(), Some(Event::Payload { key, .. }) if *key == of);
        if !is_next {
            return None;
        }
        match self.events.pop_front() {
            Some(Event::Payload { payload, complete, .. }) => Some((payload, complete)),
            _ => None,
        }
    }

    /// When to call `handle_timeout`; `None` if time does not matter.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::AwaitingSetup { until } | State::Accepting { until } => Some(until),
            State::Unconfirmed | State::Established | State::Draining { .. } => {
                if !self.has_transport() {
                    return self.session_deadline();
                }
                let life = self.keepalive.as_ref().map(KeepaliveClock::deadline);
                if self.leases.is_none() && self.parts.due.is_none() {
                    return life;
                }
                let lease = self.leases.as_ref().and_then(|leases| leases.deadline());
                life.into_iter().chain(lease).chain(self.parts.due).min()
            }
            State::Closing { .. } | State::Closed => None,
        }
    }

    // ---- questions ----------------------------------------------------------------------------

    /// False while SETUP awaits its answer, while enough events or refusals wait, and at the end:
    /// then nothing should be read. A peer that causes refusals and does not read them is not read
    /// from either, until the keepalive lifetime is over.
    pub fn wants_input(&self) -> bool {
        match self.state {
            State::Accepting { .. } | State::Closing { .. } | State::Closed => false,
            _ => {
                // What answers RESUME brings no refusals, and they cannot leave before it.
                let is_deaf = self.refusals.len() >= self.config.max_queued_replies;
                self.events.len() < EVENTS_PER_READ
                    && (!is_deaf || self.is_resuming())
                    && !self.is_suspended()
            }
        }
    }

    /// The end has come; no more than the last words may still be written. [`Event::Closed`] says
    /// why.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.state.is_over()
    }

    /// Nothing will be read or written any more.
    #[inline]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Whether events wait to be polled.
    #[inline]
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Whether `poll_transmit` has something to write.
    pub fn wants_output(&self) -> bool {
        match self.state {
            State::Closed => false,
            State::Closing { .. } => true,
            _ => self.wants_control_output() || self.wants_tracked_output(),
        }
    }

    /// Streams that have, or had a turn ago, something to write.
    pub fn unsent_streams(&self) -> usize {
        self.scheduler.data_len()
    }

    /// Whether a stream has something to write.
    pub fn has_unsent(&self, key: StreamKey) -> bool {
        self.streams.get(key).is_some_and(|stream| stream.has_data())
    }

    /// Takes the number of fire-and-forgets that were written, and of which an end other than an orderly
    /// one leaves it open whether they arrived: those of a session that the peer has not acknowledged,
    /// and all of them where the server has not shown that it accepts SETUP. 0 before the end.
    pub fn take_lost_fire_and_forgets(&mut self) -> u64 {
        std::mem::take(&mut self.lost_fire_and_forget)
    }

    /// Metadata pushes that wait to be written; after the end, those that never were.
    pub fn unsent_pushes(&self) -> usize {
        self.pushes.len()
    }

    /// Which side of the connection this is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Streams in the table, of both sides.
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// Streams in the table that the peer opened, running fire-and-forgets included.
    pub fn inbound_streams(&self) -> usize {
        self.streams.inbound()
    }

    /// Opens streams from this id on, as if what comes before had been used.
    #[cfg(test)]
    pub(crate) fn skip_ids(&mut self, id: u32) {
        self.streams.skip_to(id);
    }

    /// Bytes of unfinished fragmented payloads; at most `max_reassembly_bytes`.
    pub fn reassembly_bytes(&self) -> usize {
        self.streams.reassembly_bytes()
    }

    /// The memory of the frames kept for a resume, in bytes; at most `max_bytes` of its limits and
    /// one frame more.
    pub fn retained_bytes(&self) -> usize {
        self.session.as_ref().map_or(0, |session| session.retained.held_bytes())
    }

    /// The limits in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The figures so far.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    // ---- within -------------------------------------------------------------------------------

    /// The last words of the peer on the connection's end, if nothing came behind them.
    fn last_said(&self) -> Option<&StreamError> {
        let unheeded = self.unheeded.as_deref();
        let is_last = |(frames, _): &&(u64, StreamError)| *frames == self.stats.frames_in;
        self.state.goodbye().or_else(|| unheeded.filter(is_last).map(|(_, error)| error))
    }

    /// Ends with CONNECTION_CLOSE.
    fn part(&mut self) {
        let reason = CloseReason::Finished(Side::Local);
        let words = self.parting_words.unwrap_or("closed");
        self.end_saying(ErrorCode::CONNECTION_CLOSE, words.into(), reason);
    }

    /// Everything ends, for this reason, and the peer is told these words if it can be.
    fn end_saying(&mut self, code: ErrorCode, message: Arc<str>, reason: CloseReason) {
        self.end(reason);
        if self.has_transport() || self.is_resuming() {
            self.state = State::Closing { code, message };
        }
    }

    /// Everything ends, for this reason.
    fn end(&mut self, reason: CloseReason) {
        self.lost_fire_and_forget = match (&reason, &self.session) {
            // What was written has its time to arrive.
            (CloseReason::Finished(_), _) if self.has_transport() => 0,
            (_, Some(_)) => self.unacknowledged_fire_and_forgets(),
            // SETUP was refused, or did not arrive: nobody has read what followed it.
            (_, None) if self.state.is_unconfirmed() => self.stats.fire_and_forget_out,
            _ => 0,
        };
        let is_finished = matches!(reason, CloseReason::Finished(Side::Local));
        self.may_be_refused =
            is_finished && self.role == Role::Client && self.state.is_unconfirmed();
        if let Some(first) = &mut self.first_fragments {
            first.end(&reason, &self.streams, &self.stats);
        }
        self.state = State::Closed;
        self.streams.clear();
        self.scheduler = Scheduler::default();
        self.echoes = VecDeque::new();
        self.refusals = VecDeque::new();
        self.pings = VecDeque::new();
        self.keepalive = None;
        self.parts = PartClock::default();
        self.events.push_back(Event::Closed(reason));
    }

    /// Fire-and-forgets of a session of which the peer has not said that it has them.
    fn unacknowledged_fire_and_forgets(&self) -> u64 {
        self.session.as_ref().map_or(0, |session| session.retained.fire_and_forgets() as u64)
    }

    fn close_if_drained(&mut self) {
        let State::Draining { by_peer, .. } = &self.state else {
            return;
        };
        let by_peer = by_peer.is_some();
        if self.streams.len() > 0 {
            return;
        }
        if self.is_suspended() || self.is_resuming() {
            // A client dials again; what it has told the server, and may not have arrived, is worth the
            // wait.
            let waits = self.role == Role::Client && self.unacknowledged_fire_and_forgets() > 0;
            if !waits {
                // Nobody is waited for who may not come back, or not answer. Who has heard is told.
                self.part();
            }
            return;
        }
        let is_written = self.setup.is_none()
            && self.echoes.is_empty()
            && self.refusals.is_empty()
            && self.pushes.is_empty()
            && self.has_transport()
            && !self.session_wants_output();
        if !is_written {
            return;
        }
        if by_peer {
            self.end(CloseReason::Finished(Side::Peer));
        } else {
            self.part();
        }
    }

    /// A payload that does not fit a frame can be sent only in fragments.
    fn check_outbound(&self, len: usize) -> Result<(), FrameTooLong> {
        if self.config.fragment_bytes.is_some() { Ok(()) } else { check_frame_len(len) }
    }

    /// Refuses a request that has no entry in the table.
    fn refuse(&mut self, stream: StreamId, code: ErrorCode, message: &'static str) {
        self.refusals.push_back(Refusal { stream, code, message });
        let is_full = self.refusals.len() == self.config.max_queued_replies;
        self.stats.paused_reads += u64::from(is_full);
    }
}

fn check_frame_len(len: usize) -> Result<(), FrameTooLong> {
    if len > MAX_FRAME_BYTES { Err(FrameTooLong(len)) } else { Ok(()) }
}
