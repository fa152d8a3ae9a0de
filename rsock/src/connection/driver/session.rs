//! A session that outlives its transport: handed over to, suspended, dialled for and resumed.

use std::{
    collections::VecDeque,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use rsock_proto::{
    CloseReason, Connection, ErrorCode, NotResumed, SendBuf, Side, StreamKey, frame,
};
use tokio::sync::oneshot;

use super::{Driver, DriverOptions, Phase, STOPPING, guard, output};
#[cfg(feature = "tracing")]
use crate::warnings::Kind;
use crate::{
    connection::{
        Mailbox,
        doors::{Full, Place},
        mailbox::{Adoption, Refused},
        sessions::NoSession,
    },
    error::Error,
    responder::BoxFuture,
    resume::{self, Resume, SessionEvent},
    transport::{
        Framing,
        dial::{DialAgain, Dialling},
        socket::{Socket, Transport},
    },
};

/// A client's session: what it needs to be taken up again, and how far that has come.
pub(crate) struct ClientSession {
    dial: DialAgain,
    settings: Resume,
    /// For a fresh session, where the old one is gone; its token is replaced.
    setup: frame::Setup,
    /// It has no transport, or is in the handshake on a new one.
    redial: Option<Redial>,
    /// A server has once taken it, or one before it.
    was_established: bool,
    /// Until when a fresh session is tried for that no server has taken yet.
    unconfirmed: Option<Instant>,
    /// Which attempt brought the present transport, and when.
    last_dialled: Option<(u32, Instant)>,
}

impl ClientSession {
    pub(crate) fn new(dial: DialAgain, settings: Resume, setup: frame::Setup) -> Self {
        Self {
            dial,
            settings,
            setup,
            redial: None,
            was_established: false,
            unconfirmed: None,
            last_dialled: None,
        }
    }

    /// Which attempt the next one counts as: the first, unless the last one brought a transport that
    /// was lost sooner than a pause takes. A server that takes sessions and drops them is not dialled
    /// without end.
    fn next_attempt(&self, now: Instant) -> u32 {
        let Some((attempt, since)) = self.last_dialled else { return 0 };
        let pause = self.settings.longest_pause(attempt + 1);
        if now.saturating_duration_since(since) < pause { attempt + 1 } else { 0 }
    }
}

/// A client that has come back to its session, on its way there.
pub(super) enum Returning {
    /// It waits for a place, since the session has none.
    Entering { resume: frame::Resume, owner: Arc<Mailbox>, place: BoxFuture<Result<Place, Full>> },
    /// The session has its transport, or gives it back.
    HandedOver(oneshot::Receiver<Refused>),
}

/// A client without a transport.
struct Redial {
    attempt: u32,
    dialling: Dialling,
    /// Why the session before is gone: what is dialled for is a fresh one, until this time.
    fresh: Option<(CloseReason, Instant)>,
}

impl Driver {
    // ---- as server ----------------------------------------------------------------------------

    /// SETUP asks for a session with this token. It is not claimed before the acceptor has taken the
    /// connection: of two that ask at the same time, the first to be accepted has it.
    pub(super) fn check_token(&self, setup: &frame::Setup) -> Result<(), NoSession> {
        match (&setup.resume_token, &self.options.sessions) {
            (Some(token), Some(sessions)) if sessions.is_in_use(token) => {
                Err(NoSession::TokenInUse)
            }
            _ => Ok(()),
        }
    }

    /// The connection is accepted, and so is its session.
    pub(super) fn claim(&mut self) -> Result<(), NoSession> {
        let (Some(token), Some(sessions)) =
            (self.connection.resume_token(), &self.options.sessions)
        else {
            return Ok(());
        };
        match sessions.claim(token, &self.mailbox, self.holder) {
            Ok((claim, has_ended_another)) => {
                self.claim = Some(Box::new(claim));
                if has_ended_another {
                    self.meter.evicted_session();
                }
                Ok(())
            }
            Err(error) => {
                self.meter.refused_session();
                Err(error)
            }
        }
    }

    /// RESUME came first: whose session it is gets the transport, and this connection is over. Until
    /// that is sure it is here, and has its time as every other.
    pub(super) fn take_resume(&mut self, resume: frame::Resume, now: Instant) {
        if self.is_stopping {
            return self.connection.reject(ErrorCode::REJECTED_RESUME, STOPPING);
        }
        let found =
            self.options.sessions.as_ref().and_then(|sessions| sessions.find(&resume.token));
        let Some((owner, is_suspended)) = found else { return self.refuse_resume() };
        match &self.doors {
            Some(doors) if is_suspended => {
                let place = Box::pin(Arc::clone(doors).place(true));
                self.returning = Some(Box::new(Returning::Entering { resume, owner, place }));
            }
            _ => self.hand_over(resume, &owner, None, now),
        }
    }

    fn refuse_resume(&mut self) {
        let message = "there is no such session, or not any more"; // RESUME-16
        self.connection.reject(ErrorCode::REJECTED_RESUME, message);
    }

    fn hand_over(
        &mut self,
        resume: frame::Resume,
        owner: &Mailbox,
        place: Option<Place>,
        now: Instant,
    ) {
        if self.unread_end.is_some() {
            // A client that has given this transport up has another by now, or will: it was delayed.
            return self.connection.handle_disconnect(None, now);
        }
        if self.socket.is_none() {
            return;
        }
        let transport = Transport {
            socket: mem::replace(&mut self.socket, Socket::None),
            framing: mem::replace(&mut self.framing, Framing::LengthPrefixed),
            input: self.input.block.bytes.split(),
            peer: Arc::clone(&self.options.peer),
        };
        let (refuse, refused) = oneshot::channel();
        match owner.adopt(Box::new(Adoption { resume, transport, place, refuse })) {
            Ok(()) => self.returning = Some(Box::new(Returning::HandedOver(refused))),
            Err(adoption) => {
                self.install(adoption.transport);
                if owner.is_closed() {
                    self.refuse_resume();
                } else {
                    let message = "too many ask for this session at once; try again";
                    self.connection.reject(ErrorCode::CONNECTION_ERROR, message);
                }
            }
        }
    }

    /// Sees how far it has come on its way to its session.
    #[cold]
    pub(super) fn poll_returning(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        if self.connection.is_over() {
            self.returning = None;
            return false;
        }
        match self.returning.take().map(|returning| *returning) {
            None => false,
            Some(Returning::Entering { resume, owner, mut place }) => {
                match place.as_mut().poll(cx) {
                    Poll::Pending => {
                        let entering = Returning::Entering { resume, owner, place };
                        self.returning = Some(Box::new(entering));
                        return false;
                    }
                    Poll::Ready(Ok(place)) => self.hand_over(resume, &owner, Some(place), now),
                    // RESUME-22: it may try again while its window lasts.
                    Poll::Ready(Err(full)) => {
                        self.connection.reject(ErrorCode::CONNECTION_ERROR, full.to_string());
                    }
                }
                true
            }
            Some(Returning::HandedOver(mut refused)) => {
                match Pin::new(&mut refused).poll(cx) {
                    Poll::Pending => {
                        self.returning = Some(Box::new(Returning::HandedOver(refused)));
                        return false;
                    }
                    // The session goes on on it, or has ended with it: the client will be told when
                    // it tries again.
                    Poll::Ready(Err(_)) => {
                        self.connection.hand_over();
                        self.phase = Phase::Lingering { until: now };
                    }
                    Poll::Ready(Ok(Refused { transport, code, message })) => {
                        self.install(transport);
                        self.connection.reject(code, message);
                    }
                }
                true
            }
        }
    }

    /// Somebody asks to take up our session on another transport. If he can prove that he is its
    /// client, what is left of the transport before is closed without a word (RESUME-31); if not,
    /// that costs nobody anything but him.
    #[cold]
    pub(super) fn adopt(&mut self, now: Instant) -> bool {
        let mut worked = false;
        while let Some(adoption) = self.mailbox.take_adoption() {
            worked = true;
            let Adoption { resume, transport, place, refuse } = *adoption;
            // One that this runtime cannot watch is as good as none: closed, its client tries again.
            let Ok(transport) = transport.settled() else { continue };
            let refused = match self.take_up(&resume, place, now) {
                Ok(()) => {
                    self.install(transport);
                    continue;
                }
                Err((code, message)) => Refused { transport, code, message },
            };
            // If nobody waits for it any more, it is closed.
            let _ = refuse.send(refused);
        }
        worked
    }

    fn take_up(
        &mut self,
        resume: &frame::Resume,
        place: Option<Place>,
        now: Instant,
    ) -> Result<(), (ErrorCode, String)> {
        if let (None, Some(doors)) = (&self.place, &self.doors) {
            // It may have lost its transport since it was looked for.
            self.place = place.or_else(|| doors.try_place());
            if self.place.is_none() {
                let message = "the session has no place among the connections; try again";
                return Err((ErrorCode::CONNECTION_ERROR, message.into()));
            }
        }
        match self.connection.accept_resume(resume, now) {
            Ok(()) => Ok(()),
            Err(error) => {
                if !self.connection.has_transport() {
                    self.place = None;
                }
                let message = match error {
                    NotResumed::Over if self.is_stopping => STOPPING.into(),
                    error => error.to_string(),
                };
                Err((ErrorCode::REJECTED_RESUME, message))
            }
        }
    }

    // ---- on both sides ------------------------------------------------------------------------

    fn install(&mut self, transport: Transport) {
        let Transport { socket, framing, input, peer } = transport;
        self.options.peer = peer;
        self.output = output(&framing, &self.options);
        self.socket = socket;
        self.framing = framing;
        self.input.replace(input);
        self.end_pause();
        self.unread_end = None;
        self.unreachable = false;
    }

    /// The transport is lost, or of no use; the session waits for another.
    pub(super) fn suspended(&mut self, cx: &mut Context<'_>, now: Instant) {
        // A transport that came meanwhile is not the one that was lost.
        if !self.connection.is_suspended() {
            return;
        }
        self.leave_transport(cx);
        self.lose_transport();
        self.mailbox.set_prompt(false);
        self.place = None;
        self.mailbox.suspended();
        self.mailbox.leased(None);
        self.meter.suspended(true);
        if let Some(claim) = &self.claim {
            claim.suspended();
        }
        if let Some(lease) = &mut self.lease {
            lease.begin_anew();
        }
        log_suspended(&self.options.peer);
        self.end_if_lost();
        let Some(session) = &mut self.client_session else { return };
        session.unconfirmed = None;
        let attempt = match &session.redial {
            Some(redial) => {
                let attempt = redial.attempt + 1;
                let failed = "the transport was lost or given up before the session went on";
                self.tell(&SessionEvent::AttemptFailed(failed.into()));
                attempt
            }
            None => {
                let attempt = session.next_attempt(now);
                self.tell(&SessionEvent::Suspended);
                attempt
            }
        };
        self.dial(attempt, None);
    }

    /// A server that drains takes no transport any more: its sessions without one are over.
    pub(super) fn end_if_lost(&mut self) {
        let is_lost = self.connection.is_suspended() && self.connection.is_draining();
        if self.claim.is_some() && is_lost {
            self.connection.close();
        }
    }

    /// Says farewell on a transport that is given up, as far as it takes it at once, and nothing of
    /// the session.
    fn leave_transport(&mut self, cx: &mut Context<'_>) {
        if self.unreachable || self.socket.is_none() {
            return;
        }
        self.framing.close(&mut self.output);
        // Who does not take it hears nothing.
        let _ = self.write(cx);
    }

    fn lose_transport(&mut self) {
        self.socket = Socket::None;
        self.input.block.bytes.clear();
        self.end_pause();
        self.unread_end = None;
        self.output = SendBuf::bare();
        self.unreachable = true;
    }

    /// The server has shown that it takes the session.
    pub(super) fn established(&mut self) {
        if let Some(session) = &mut self.client_session {
            session.was_established = true;
            session.unconfirmed = None;
        }
        self.mailbox.established();
    }

    pub(super) fn resumed(&mut self, now: Instant) {
        self.established();
        self.tell_prompt();
        self.meter.suspended(false);
        if let Some(claim) = &self.claim {
            claim.resumed();
        }
        if let Some(session) = &mut self.client_session
            && let Some(redial) = session.redial.take()
        {
            session.last_dialled = Some((redial.attempt, now));
            self.tell(&SessionEvent::Resumed);
        }
        self.grant_lease(now);
        self.ping_again();
        log_resumed(&self.options.peer);
    }

    /// Counts the fire-and-forgets of which nobody will hear, though their handles were told that they
    /// were on their way; and tells.
    pub(super) fn count_lost(&mut self) {
        let lost = mem::take(&mut self.lost);
        if lost > 0 {
            self.meter.lost_fire_and_forget(lost);
            self.tell(&SessionEvent::Lost { fire_and_forget: lost });
            log_lost(&self.options, lost);
        }
    }

    /// Whether what is sent is on its way in the next turn: nothing has to be waited for.
    pub(super) fn tell_prompt(&self) {
        let is_prompt = self.accept.is_none()
            && self.connection.has_transport()
            && self.connection.permits().is_none();
        self.mailbox.set_prompt(is_prompt);
    }

    fn tell(&self, event: &SessionEvent) {
        let session = self.client_session.as_ref();
        if let Some(observer) = session.and_then(|session| session.settings.observer.as_ref()) {
            // What an observer has to say in its panic is said by the panic hook.
            let _ = guard(|| observer(event));
        }
    }

    // ---- as client ----------------------------------------------------------------------------

    /// Dials again, after a pause.
    fn dial(&mut self, attempt: u32, fresh: Option<(CloseReason, Instant)>) {
        let Some(session) = &mut self.client_session else { return };
        let dial = Arc::clone(&session.dial);
        let pause = session.settings.pause(attempt);
        let dialling = Box::pin(async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            dial().await
        });
        session.redial = Some(Redial { attempt, dialling, fresh });
    }

    #[inline]
    pub(super) fn is_redialling(&self) -> bool {
        self.client_session.as_ref().is_some_and(|session| session.redial.is_some())
    }

    /// Sees whether there is a new transport.
    #[cold]
    pub(super) fn poll_redial(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        // Streams of a fresh session may have the keys of those before: these end first, and what their
        // consumers have said until then has been heard.
        if !self.socket.is_none() || !self.failing.is_empty() {
            return false;
        }
        let Some(session) = &mut self.client_session else { return false };
        let Some(redial) = &mut session.redial else { return false };
        let Poll::Ready(dialled) = redial.dialling.as_mut().poll(cx) else { return false };
        let (attempt, fresh) = (redial.attempt, redial.fresh.take());
        match (dialled, fresh) {
            (Ok(transport), None) => {
                if self.connection.resume(now).is_ok() {
                    self.install(transport);
                } else {
                    // The session has ended meanwhile.
                    session.redial = None;
                }
            }
            (Ok(transport), Some((reason, until))) => {
                self.begin_anew(transport, reason, until, now);
            }
            (Err(_), Some((reason, until))) if until <= now => self.give_up(&reason, now),
            (Err(error), fresh) => {
                self.tell(&SessionEvent::AttemptFailed(error.to_string()));
                self.dial(attempt + 1, fresh);
            }
        }
        true
    }

    /// Whether the end of this session is the beginning of another: nobody wanted it who may, and the
    /// server lives, as far as is known.
    pub(super) fn renews(&self, reason: &CloseReason, now: Instant) -> bool {
        let Some(session) = &self.client_session else { return false };
        if !session.settings.renew {
            return false;
        }
        if self.mailbox.refusing().is_some() {
            // One that is being closed needs no other.
            return false;
        }
        let by_peer = match reason {
            CloseReason::Finished(_) | CloseReason::Error { by: Side::Local, .. } => return false,
            CloseReason::Error { code, .. } => Some(*code),
            _ => None,
        };
        if let Some(until) = session.unconfirmed {
            // A server that refuses a fresh session now, or cannot be reached, may take one later.
            return now < until;
        }
        let is_known = session.redial.is_some() || session.was_established;
        match (reason, by_peer) {
            // Whatever it says in the place of RESUME_OK, the session is gone.
            (_, Some(code)) => {
                session.redial.is_some() || (is_known && code == ErrorCode::CONNECTION_ERROR)
            }
            (CloseReason::Violation(_), None) => is_known,
            _ => false,
        }
    }

    /// All that was pending fails, and a fresh session is dialled for.
    pub(super) fn renew(&mut self, cx: &mut Context<'_>, reason: CloseReason, now: Instant) {
        self.fail_all(Error::Closed(reason.clone()), VecDeque::new());
        self.count_lost();
        if !self.unreachable {
            // If it is we who end it, the server is told, as far as it hears it at once.
            self.connection.poll_transmit(&mut self.output);
        }
        self.leave_transport(cx);
        self.lose_transport();
        self.mailbox.set_prompt(false);
        let Some(session) = &mut self.client_session else { return };
        let fresh_until = now + session.settings.limits.window;
        let (attempt, until) = match (&session.redial, session.unconfirmed.take()) {
            (Some(redial), _) => (redial.attempt, fresh_until),
            (None, Some(until)) => {
                let attempt = session.last_dialled.map_or(1, |(attempt, _)| attempt + 1);
                self.tell(&SessionEvent::AttemptFailed(reason.to_string()));
                (attempt, until)
            }
            (None, None) => {
                self.mailbox.suspended();
                self.meter.suspended(true);
                (session.next_attempt(now).max(1), fresh_until)
            }
        };
        self.dial(attempt, Some((reason, until)));
    }

    /// Whether what handles ask for waits: there is no session to do it in.
    pub(super) fn is_renewing(&self) -> bool {
        let redial = self.client_session.as_ref().and_then(|session| session.redial.as_ref());
        redial.is_some_and(|redial| redial.fresh.is_some())
    }

    /// No fresh session comes of it.
    pub(super) fn give_up(&mut self, reason: &CloseReason, now: Instant) {
        if let Some(session) = &mut self.client_session {
            session.redial = None;
        }
        self.end(reason, now);
        self.phase = Phase::Lingering { until: now };
    }

    fn begin_anew(
        &mut self,
        transport: Transport,
        reason: CloseReason,
        until: Instant,
        now: Instant,
    ) {
        let Some(session) = &mut self.client_session else { return };
        match resume::new_token() {
            Ok(token) => session.setup.resume_token = Some(token),
            Err(error) => return self.give_up(&CloseReason::Io(error.to_string().into()), now),
        }
        session.last_dialled = session.redial.take().map(|redial| (redial.attempt, now));
        session.unconfirmed = Some(until);
        self.meter.restart(self.connection.stats());
        let config = Arc::clone(&self.options.config);
        self.connection = Connection::client(session.setup.clone(), config, now);
        self.meter.suspended(false);
        self.install(transport);
        self.mailbox.connecting();
        self.tell_prompt();
        self.grant_lease(now);
        self.tell(&SessionEvent::Renewed(reason));
    }

    /// Streams of the session are known by these keys alone; a fresh one has its own.
    pub(super) fn is_current(&self, key: StreamKey) -> bool {
        self.slots.get(key.index()).is_some_and(|slot| slot.key == Some(key))
    }
}

#[cfg(feature = "tracing")]
fn log_suspended(peer: &str) {
    tracing::debug!(peer, "the transport is lost; the session waits for another");
}

#[cfg(not(feature = "tracing"))]
fn log_suspended(_: &str) {}

#[cfg(feature = "tracing")]
fn log_lost(DriverOptions { peer, meter, .. }: &DriverOptions, count: u64) {
    let peer: &str = peer;
    if meter.admits_warning(Kind::Lost, peer, super::now()) {
        tracing::warn!(
            peer,
            count,
            "fire-and-forgets were lost: their connection or session is over"
        );
    }
}

#[cfg(not(feature = "tracing"))]
fn log_lost(_: &DriverOptions, _: u64) {}

#[cfg(feature = "tracing")]
fn log_resumed(peer: &str) {
    tracing::debug!(peer, "the session goes on");
}

#[cfg(not(feature = "tracing"))]
fn log_resumed(_: &str) {}
