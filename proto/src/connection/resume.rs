//! Resume: a session that outlives its transport.
//!
//! ```text
//! Up ──transport lost──▶ Down ──client: new transport──▶ Resuming ──RESUME_OK──▶ Up
//!  ▲                     │  ▲───────transport lost, no answer──┘ │
//!  └──server: RESUME─────┘                                        └──refused──▶ closed
//! Down, Resuming ──window over──▶ closed
//! ```
//!
//! While it is not up, what streams produce is encoded into what is retained, as far as that has
//! room, and nothing is lost: the next transport is given it after what the peer does not have.

use std::time::Instant;

use bytes::Bytes;

use crate::{
    config::ResumeLimits,
    connection::{Connection, Event, Role, State},
    error::{CloseReason, ControlError, ErrorCode, NotResumed, Side, Violation},
    frame::{Frame, FrameType, KeepAlive, RawHeader, Resume, Sink, VERSION, encode_resume_ok},
    transmit::{Retained, SendBuf},
};

/// Answers to KEEPALIVE that acknowledge nothing, after which a peer counts as one that never does.
const FRUITLESS_ANSWERS: u32 = 3;

/// Transports in a row that may break before anything of the session has arrived on them. A proxy
/// that comes to an end breaks one; a client that says the same nonsense on each is told what it is.
const MAX_BROKEN: u32 = 8;

/// The parts that only a resumable connection has.
#[derive(Debug)]
pub(super) struct Session {
    token: Bytes,
    limits: ResumeLimits,
    link: Link,
    pub(super) retained: Retained,
    /// The position of the next tracked frame of the peer.
    received: u64,
    /// To be written before anything else.
    greeting: Option<Greeting>,
    /// The peer is to be asked what it has.
    ask: bool,
    /// It was asked, and has not answered.
    asked: bool,
    questions: Questions,
    /// Answers in a row that freed nothing, although all was written before they were asked for.
    fruitless: u32,
    broken: Option<Broken>,
}

/// Transports in a row that broke without progress.
#[derive(Clone, Copy, Debug)]
struct Broken {
    count: u32,
    /// The position up to which the peer's frames had arrived.
    at: u64,
    last: Instant,
}

/// KEEPALIVEs that ask for an answer, on the present transport; answers come in their order.
#[derive(Debug, Default)]
struct Questions {
    asked: u64,
    answered: u64,
    /// How many had been asked when there was room, or something to be written yet. Their answers say
    /// nothing of what was written since: on a slow link there are many.
    early: u64,
}

impl Questions {
    /// One more is written; `early` if not all that leaves no room was written before it.
    fn ask(&mut self, early: bool) {
        self.asked += 1;
        if early {
            self.early = self.asked;
        }
    }

    /// An answer has come; whether it says what the peer has of all that leaves no room.
    fn answer(&mut self) -> bool {
        // A peer may say more than it was asked, or leave answers out: then the later ones count.
        self.answered = (self.answered + 1).min(self.asked);
        self.answered > self.early
    }
}

#[derive(Clone, Copy, Debug)]
enum Link {
    Up,
    Down { expires: Instant },
    Resuming { until: Instant, expires: Instant },
}

#[derive(Debug)]
enum Greeting {
    Resume,
    Ok,
}

impl Session {
    pub(super) fn new(token: Bytes, limits: ResumeLimits) -> Self {
        Self {
            token,
            limits,
            link: Link::Up,
            retained: Retained::new(limits.max_bytes),
            received: 0,
            greeting: None,
            ask: false,
            asked: false,
            questions: Questions::default(),
            fruitless: 0,
            broken: None,
        }
    }

    /// The transport has delivered what is no frame; whether the session goes on on another.
    fn outlives_break(&mut self, now: Instant) -> bool {
        let window = self.limits.window;
        let before = self.broken.filter(|broken| {
            broken.at == self.received && now.saturating_duration_since(broken.last) < window
        });
        let count = before.map_or(0, |broken| broken.count) + 1;
        self.broken = Some(Broken { count, at: self.received, last: now });
        count <= MAX_BROKEN
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.link, Link::Up)
    }

    /// No more tracked frames may be written for now.
    pub(super) fn is_held(&self) -> bool {
        self.is_full() || (self.is_up() && self.retained.has_unwritten())
    }

    /// Nothing is taken before the peer has acknowledged something. One that never does is not
    /// waited for while we are connected: the oldest frames make room.
    fn is_full(&self) -> bool {
        self.retained.is_full() && !(self.is_up() && self.is_unacknowledged())
    }

    fn is_unacknowledged(&self) -> bool {
        self.fruitless >= FRUITLESS_ANSWERS
    }

    /// Whether a [`SendBuf`] may be filled at once: nothing is to leave before it, and there is room to
    /// keep all that it takes.
    #[inline]
    pub(super) fn is_clear(&self) -> bool {
        self.is_up()
            && self.greeting.is_none()
            && !self.ask
            && self.retained.is_clear()
            && (self.asked || self.retained.is_low() || !self.retained.is_half_full())
    }

    /// Writes a tracked frame to the transport, if there is one for it, and keeps it.
    #[inline(always)]
    pub(super) fn frame<const N: usize>(
        &mut self,
        head: &[u8; N],
        metadata: Option<&Bytes>,
        data: &Bytes,
        out: &mut SendBuf,
    ) {
        if self.is_up() {
            out.frame_kept(head, metadata, data, &mut self.retained);
        } else {
            self.retained.keep(head, metadata, data);
        }
    }

    /// Writes a frame of which others are sent the body as well, as [`frame`](Self::frame) does.
    #[inline]
    pub(super) fn shared_frame<const N: usize>(
        &mut self,
        head: &[u8; N],
        body: &Bytes,
        out: &mut SendBuf,
    ) {
        if self.is_up() {
            out.shared_frame(head, body);
            self.retained.keep_shared(head, body);
        } else {
            self.retained.keep(head, None, body);
        }
    }

    /// Something is to be written again, or the peer to be asked what it has.
    #[inline]
    fn wants_output(&self) -> bool {
        self.is_up() && (self.ask || self.retained.has_unwritten() || self.is_to_ask())
    }

    #[inline]
    fn is_to_ask(&self) -> bool {
        !self.asked && self.retained.is_half_full()
    }

    /// Everything retained is written on the transport there is.
    pub(super) fn may_overflow(&self) -> bool {
        self.is_up() && !self.retained.has_unwritten()
    }

    /// Makes room for a frame, if that is how this peer is to be treated or nothing else will make
    /// any; how many were dropped.
    pub(super) fn make_room(&mut self, must: bool) -> u64 {
        let may = must || self.is_unacknowledged();
        if self.is_up() && may { self.retained.overflow() } else { 0 }
    }

    fn deadline(&self) -> Option<Instant> {
        match self.link {
            Link::Up => None,
            Link::Down { expires } => Some(expires),
            Link::Resuming { until, expires } => Some(until.min(expires)),
        }
    }

    /// After a tracked frame was written.
    fn ask_if_needed(&mut self) {
        if self.is_up() && self.is_to_ask() {
            self.ask = true;
        }
    }

    /// A KEEPALIVE that asks for an answer is written.
    fn note_question(&mut self) {
        let early = !self.retained.is_full() || self.retained.has_unwritten();
        self.questions.ask(early);
    }

    /// The peer's position in a KEEPALIVE.
    fn acknowledged(&mut self, position: u64, is_answer: bool) {
        let was_full = self.retained.is_full();
        let says_all = is_answer && self.questions.answer();
        if self.retained.acknowledge(position) {
            self.fruitless = 0;
            self.questions.early = self.questions.asked;
        } else if says_all && was_full {
            self.fruitless = self.fruitless.saturating_add(1);
        }
        self.asked &= !is_answer;
        self.ask_if_needed();
    }

    /// Whether a peer that has said this can be given all it lacks, and lacks nothing we cannot give.
    fn can_resume(&self, resume: &Resume) -> Result<(), &'static str> {
        if !self.retained.is_available(resume.last_received_server_position) {
            Err("the server position is not available any more, or never was")
        } else if resume.first_available_client_position > self.received {
            Err("the client has dropped frames that did not arrive here")
        } else {
            Ok(())
        }
    }
}

impl Connection {
    /// The token of a session that outlives its transport.
    pub fn resume_token(&self) -> Option<&Bytes> {
        self.session.as_ref().map(|session| &session.token)
    }

    /// Whether there is a transport, as far as we know; false only for a suspended session.
    pub fn has_transport(&self) -> bool {
        self.session.as_ref().is_none_or(|session| session.is_up())
    }

    /// Whether the session waits for a new transport.
    pub fn is_suspended(&self) -> bool {
        !self.state.is_over()
            && self
                .session
                .as_ref()
                .is_some_and(|session| matches!(session.link, Link::Down { .. }))
    }

    /// Producers should wait: no more is taken before the peer has acknowledged what was sent.
    pub fn is_held(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.is_full())
    }

    /// Positions of the session: tracked bytes sent, and received.
    pub fn positions(&self) -> Option<(u64, u64)> {
        self.session.as_ref().map(|session| (session.retained.sent(), session.received))
    }

    /// A client has a new transport for its suspended session: RESUME is the first thing written,
    /// and the last before the server's answer (RESUME-09).
    ///
    /// # Errors
    /// [`ControlError::NotSuspended`] if there is no session that waits for one.
    pub fn resume(&mut self, now: Instant) -> Result<(), ControlError> {
        let timeout = self.config.setup_timeout;
        match &mut self.session {
            Some(session) if self.role == Role::Client && !self.state.is_over() => {
                let Link::Down { expires } = session.link else {
                    return Err(ControlError::NotSuspended);
                };
                session.link = Link::Resuming { until: now + timeout, expires };
                session.greeting = Some(Greeting::Resume);
                Ok(())
            }
            _ => Err(ControlError::NotSuspended),
        }
    }

    /// A client takes up a server's session on a new transport, which from now on is the only one
    /// (RESUME-31).
    ///
    /// # Errors
    /// Why it is not taken up, which is to be told with REJECTED_RESUME on the new transport. The
    /// session is as it was, with the transport it has or until its window is over.
    pub fn accept_resume(&mut self, resume: &Resume, now: Instant) -> Result<(), NotResumed> {
        if !self.is_resumable() || self.role != Role::Server {
            return Err(NotResumed::Over);
        }
        let Some(session) = &mut self.session else { return Err(NotResumed::Over) };
        session.can_resume(resume).map_err(NotResumed::Positions)?;
        self.detach(now);
        let Some(session) = &mut self.session else { return Err(NotResumed::Over) };
        session.link = Link::Up;
        session.greeting = Some(Greeting::Ok);
        session.retained.rewind(resume.last_received_server_position);
        self.resumed(now);
        Ok(())
    }

    /// Ends without a word: another connection has taken the transport over.
    pub fn hand_over(&mut self) {
        self.state = State::Closed;
        self.keepalive = None;
        self.events.clear();
    }

    /// Whether a loss of the transport suspends the session. One that is being ended on purpose is
    /// not resumed (RESUME-33).
    fn is_resumable(&self) -> bool {
        self.session.is_some()
            && self.setup.is_none()
            && matches!(
                self.state,
                State::Unconfirmed | State::Established | State::Draining { by_peer: None, .. }
            )
    }

    /// A client to which the server has said nothing on the transport it began with.
    pub(super) fn is_unanswered(&self) -> bool {
        self.state.is_unconfirmed() && self.has_transport() && self.setup.is_none()
    }

    /// The transport has delivered what is no frame; true if the session goes on without it.
    pub(super) fn break_transport(&mut self, now: Instant) -> bool {
        if self.is_unanswered() || !self.is_resumable() {
            return false;
        }
        let Some(session) = &mut self.session else { return false };
        // While it resumes, attempts are bounded by the window.
        if session.is_up() && !session.outlives_break(now) {
            return false;
        }
        self.stats.broken_transports += 1;
        self.suspend(now)
    }

    /// The transport is lost; true if the session goes on without it.
    pub(super) fn suspend(&mut self, now: Instant) -> bool {
        if !self.is_resumable() {
            return false;
        }
        if self.is_suspended() {
            return true;
        }
        self.detach(now);
        self.events.push_back(Event::Suspended);
        self.close_if_drained();
        true
    }

    /// Nothing is left of the transport but the session.
    fn detach(&mut self, now: Instant) {
        let Some(session) = &mut self.session else { return };
        let expires = match session.link {
            Link::Up => now + session.limits.window,
            Link::Down { expires } | Link::Resuming { expires, .. } => expires,
        };
        session.link = Link::Down { expires };
        session.greeting = None;
        session.ask = false;
        session.asked = false;
        session.questions = Questions::default();
        session.fruitless = 0;
        self.echoes.clear();
        self.echo_bytes = 0;
        self.pings.clear();
        if let Some(clock) = &mut self.keepalive {
            clock.due = false;
        }
        if let Some(leases) = &mut self.leases {
            leases.void(now);
        }
    }

    fn resumed(&mut self, now: Instant) {
        self.stats.resumes += 1;
        self.parts.restart(self.config.part_timeout, now);
        if let Some(clock) = &mut self.keepalive {
            clock.restart(now); // RESUME-43
        }
        self.events.push_back(Event::Resumed);
    }

    /// The time at which the session ends, or the handshake counts as failed.
    pub(super) fn session_deadline(&self) -> Option<Instant> {
        self.session.as_ref().and_then(|session| session.deadline())
    }

    /// That time may have come; false if the transport is up.
    pub(super) fn session_timeout(&mut self, now: Instant) -> bool {
        let Some(session) = &self.session else { return false };
        match session.link {
            Link::Up => return false,
            Link::Down { expires } | Link::Resuming { expires, .. } if expires <= now => {
                self.end(CloseReason::ResumeWindowOver);
            }
            Link::Resuming { until, .. } if until <= now => {
                self.suspend(now);
            }
            Link::Down { .. } | Link::Resuming { .. } => {}
        }
        true
    }

    // ---- positions ----------------------------------------------------------------------------

    /// Counts a frame received if it is one of those that positions count (RESUME-04 to RESUME-07);
    /// by how much the position rose.
    pub(super) fn track_received(&mut self, frame: &[u8]) -> u64 {
        if self.session.is_some()
            && let Some(header) = RawHeader::read(frame)
            && header.stream_id != 0
            && FrameType::from_number(header.frame_type).is_some_and(FrameType::is_tracked)
        {
            return self.count_received(frame.len() as u64);
        }
        0
    }

    /// Counts a frame received that positions count.
    #[inline]
    pub(super) fn count_received(&mut self, len: u64) -> u64 {
        match &mut self.session {
            Some(session) if session.is_up() => {
                session.received += len;
                len
            }
            _ => 0,
        }
    }

    /// Takes back what was counted last: it was no frame after all.
    pub(super) fn untrack_received(&mut self, len: u64) {
        if let Some(session) = &mut self.session {
            session.received -= len;
        }
    }

    /// The position that KEEPALIVE says of us (KA-06).
    pub(super) fn received_position(&self) -> u64 {
        self.session.as_ref().map_or(0, |session| session.received)
    }

    /// A KEEPALIVE that asks for the peer's position is under way.
    pub(super) fn has_asked(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.asked)
    }

    /// A KEEPALIVE that asks for an answer is written.
    pub(super) fn note_question(&mut self) {
        if let Some(session) = &mut self.session {
            session.note_question();
        }
    }

    pub(super) fn acknowledged(&mut self, keepalive: &KeepAlive) {
        if let Some(session) = &mut self.session
            && session.is_up()
        {
            session.acknowledged(keepalive.position, !keepalive.respond);
        }
    }

    // ---- the handshake, as client -------------------------------------------------------------

    pub(super) fn is_resuming(&self) -> bool {
        self.session.as_ref().is_some_and(|session| matches!(session.link, Link::Resuming { .. }))
    }

    /// A frame between RESUME and its answer.
    pub(super) fn receive_resuming(&mut self, frame: Frame, now: Instant) -> Result<(), Violation> {
        match frame {
            Frame::ResumeOk { last_received_client_position: position } => {
                self.receive_resume_ok(position, now)
            }
            // RESUME-22: another attempt may do.
            Frame::Error { stream: None, code: ErrorCode::CONNECTION_ERROR, .. } => {
                self.suspend(now);
                Ok(())
            }
            // RESUME-21. Some peers say it with another code.
            Frame::Error { stream: None, code, message } => {
                let message = self.received_error(code, &message).message;
                self.end(CloseReason::Error { by: Side::Peer, code, message });
                Ok(())
            }
            Frame::Ext(_) | Frame::Unknown { .. } | Frame::KeepAlive(_) => Ok(()),
            frame => Err(Violation::BeforeResumeOk { frame: frame.name() }),
        }
    }

    fn receive_resume_ok(&mut self, position: u64, now: Instant) -> Result<(), Violation> {
        let Some(session) = &mut self.session else { return Ok(()) };
        if !session.retained.is_available(position) {
            return Err(Violation::ResumePosition { position }); // RESUME-23
        }
        session.retained.rewind(position);
        session.link = Link::Up;
        self.confirm();
        self.resumed(now);
        Ok(())
    }

    // ---- what is written ----------------------------------------------------------------------

    /// The server has not heard of us on this transport.
    pub(super) fn has_unsent_resume(&self) -> bool {
        self.session
            .as_ref()
            .is_some_and(|session| matches!(session.greeting, Some(Greeting::Resume)))
    }

    /// Something of the session's own is to be written.
    pub(super) fn session_wants_output(&self) -> bool {
        self.session
            .as_ref()
            .is_some_and(|session| session.greeting.is_some() || session.wants_output())
    }

    /// RESUME or RESUME_OK, before anything else.
    pub(super) fn transmit_greeting(&mut self, out: &mut SendBuf) {
        let Some(session) = &mut self.session else { return };
        match session.greeting.take() {
            None => return,
            Some(Greeting::Ok) => encode_resume_ok(session.received, out),
            Some(Greeting::Resume) => Resume {
                version: VERSION,
                token: session.token.clone(),
                last_received_server_position: session.received,
                first_available_client_position: session.retained.first(),
            }
            .encode(out),
        }
        self.stats.frames_out += 1;
    }

    /// The KEEPALIVE that asks what the peer has.
    pub(super) fn transmit_ask(&mut self, out: &mut SendBuf) {
        let Some(session) = &mut self.session else { return };
        session.ask_if_needed();
        if !std::mem::take(&mut session.ask) {
            return;
        }
        session.asked = true;
        session.note_question();
        let position = session.received;
        KeepAlive { respond: true, position, data: Bytes::new() }.encode(out);
        self.stats.frames_out += 1;
    }

    /// Writes what the peer lacks, before anything new.
    pub(super) fn transmit_replay(&mut self, out: &mut SendBuf) {
        let Some(session) = &mut self.session else { return };
        while !out.is_full() && session.retained.has_unwritten() {
            session.retained.write_next(out);
            self.stats.replayed_frames += 1;
        }
    }
}
