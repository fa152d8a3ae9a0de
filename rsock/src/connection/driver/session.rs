//! A session that outlives its transport: handed over to, suspended, dialled for and resumed.

use std::{
    collections::VecDeque,
    mem,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use rsock_proto::{CloseReason, Connection, ErrorCode, SendBuf, Side, StreamKey, frame};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Driver, DriverOptions, Phase, guard, lease::Leases, output};
#[cfg(feature = "tracing")]
use crate::warnings::Kind;
use crate::{
    connection::mailbox::Adoption,
    error::Error,
    resume::{self, Resume, SessionEvent},
    transport::{
        Framing,
        dial::{DialAgain, Dialling},
        link::{ByteStream, Link, Transport},
    },
};

/// What a client needs to take its session up again.
pub(crate) struct ClientResume {
    pub(crate) dial: DialAgain,
    pub(crate) settings: Resume,
    /// For a fresh session, where the old one is gone; its token is replaced.
    pub(crate) setup: frame::Setup,
}

/// A client without a transport.
pub(super) struct Redial {
    attempt: u32,
    dialling: Dialling,
    /// Why the session before is gone: what is dialled for is a fresh one, until this time.
    fresh: Option<(CloseReason, Instant)>,
}

impl<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static> Driver<IO> {
    // ---- as server ----------------------------------------------------------------------------

    /// SETUP asks for a session with this token.
    pub(super) fn claim(&mut self, setup: &frame::Setup) -> Result<(), &'static str> {
        let (Some(token), Some(sessions)) = (&setup.resume_token, &self.options.sessions) else {
            return Ok(());
        };
        self.claim = Some(sessions.claim(token, &self.mailbox)?);
        Ok(())
    }

    /// RESUME came first: whose session it is gets the transport, and this connection is over.
    pub(super) fn hand_over(&mut self, resume: frame::Resume, now: Instant) {
        let owner = match &self.options.sessions {
            Some(sessions) => sessions.find(&resume.token),
            None => None,
        };
        let io: Box<dyn ByteStream> = match mem::replace(&mut self.io, Link::None) {
            Link::First(io) => Box::new(io),
            Link::Later(io) => io,
            Link::None => return,
        };
        let transport = Transport {
            io,
            framing: mem::replace(&mut self.framing, Framing::LengthPrefixed),
            input: self.input.block.bytes.split(),
            peer: Arc::clone(&self.options.peer),
        };
        let adoption = Box::new(Adoption { resume, transport });
        let refused = match owner {
            Some(owner) => owner.adopt(adoption).err(),
            None => Some(adoption),
        };
        match refused {
            None => {
                self.connection.hand_over();
                self.phase = Phase::Lingering { until: now };
            }
            Some(adoption) => {
                self.install(adoption.transport);
                let message = "there is no such session, or not any more"; // RESUME-16
                self.connection.reject(ErrorCode::REJECTED_RESUME, message);
            }
        }
    }

    /// The client of our session has another transport. What is left of the one before is closed
    /// without a word (RESUME-31).
    pub(super) fn adopt(&mut self, now: Instant) -> bool {
        let Some(adoption) = self.claim.as_ref().and_then(|_| self.mailbox.take_adoption()) else {
            return false;
        };
        let Adoption { resume, transport } = *adoption;
        // A session that has just ended takes no transport; closing it makes the client try again,
        // and be told. One that this runtime cannot watch is as good as none.
        if let Ok(transport) = transport.settled()
            && self.connection.accept_resume(&resume, now).is_ok()
        {
            self.install(transport);
        }
        true
    }

    // ---- on both sides ------------------------------------------------------------------------

    fn install(&mut self, transport: Transport) {
        let Transport { io, framing, input, peer } = transport;
        self.options.peer = peer;
        self.output = output(&framing, &self.options);
        self.io = Link::Later(io);
        self.framing = framing;
        self.input.replace(input);
        self.unread_end = None;
        self.unreachable = false;
    }

    /// The transport is lost, or of no use; the session waits for another.
    pub(super) fn suspended(&mut self, now: Instant) {
        // A transport that came meanwhile is not the one that was lost.
        if !self.connection.is_suspended() {
            return;
        }
        self.lose_transport();
        self.mailbox.set_prompt(false);
        self.mailbox.suspended();
        self.mailbox.leased(None);
        self.meter.suspended(true);
        if let Some(claim) = &self.claim {
            claim.suspended();
        }
        self.lease = self.lease.take().map(Leases::renewed);
        log_suspended(&self.options.peer);
        self.end_if_lost();
        let attempt = match &self.redial {
            Some(redial) => {
                let attempt = redial.attempt + 1;
                let failed = "the transport was lost or given up before the session went on";
                self.tell(&SessionEvent::AttemptFailed(failed.into()));
                attempt
            }
            None => {
                self.tell(&SessionEvent::Suspended);
                self.next_attempt(now)
            }
        };
        self.dial(attempt, None);
    }

    /// Which attempt the next one counts as: the first, unless the last one brought a transport that
    /// was lost sooner than a pause takes. A server that takes sessions and drops them is not dialled
    /// without end.
    fn next_attempt(&self, now: Instant) -> u32 {
        let (Some((attempt, since)), Some(resume)) = (self.last_dialled, &self.options.resume)
        else {
            return 0;
        };
        let pause = resume.settings.longest_pause(attempt + 1);
        if now.saturating_duration_since(since) < pause { attempt + 1 } else { 0 }
    }

    /// A server that drains takes no transport any more: its sessions without one are over.
    pub(super) fn end_if_lost(&mut self) {
        let is_lost = self.connection.is_suspended() && self.connection.is_draining();
        if self.claim.is_some() && is_lost {
            self.connection.close();
        }
    }

    fn lose_transport(&mut self) {
        self.io = Link::None;
        self.input.block.bytes.clear();
        self.unread_end = None;
        self.output = SendBuf::bare();
        self.unreachable = true;
    }

    pub(super) fn resumed(&mut self, now: Instant) {
        self.mailbox.established();
        self.tell_prompt();
        self.meter.suspended(false);
        if let Some(claim) = &self.claim {
            claim.resumed();
        }
        if let Some(redial) = self.redial.take() {
            self.last_dialled = Some((redial.attempt, now));
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
        let resume = self.options.resume.as_ref();
        if let Some(observer) = resume.and_then(|resume| resume.settings.observer.as_ref()) {
            // What an observer has to say in its panic is said by the panic hook.
            let _ = guard(|| observer(event));
        }
    }

    // ---- as client ----------------------------------------------------------------------------

    /// Dials again, after a pause.
    fn dial(&mut self, attempt: u32, fresh: Option<(CloseReason, Instant)>) {
        let Some(resume) = &self.options.resume else { return };
        let dial = Arc::clone(&resume.dial);
        let pause = resume.settings.pause(attempt);
        let dialling = Box::pin(async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            dial().await
        });
        self.redial = Some(Redial { attempt, dialling, fresh });
    }

    /// Sees whether there is a new transport.
    pub(super) fn poll_redial(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        // Streams of a fresh session may have the keys of those before: these end first, and what their
        // consumers have said until then has been heard.
        if !self.io.is_none() || !self.failing.is_empty() {
            return false;
        }
        let Some(redial) = &mut self.redial else { return false };
        let Poll::Ready(dialled) = redial.dialling.as_mut().poll(cx) else { return false };
        let (attempt, fresh) = (redial.attempt, redial.fresh.take());
        match (dialled, fresh) {
            (Ok(transport), None) => {
                if self.connection.resume(now).is_ok() {
                    self.install(transport);
                } else {
                    // The session has ended meanwhile.
                    self.redial = None;
                }
            }
            (Ok(transport), Some((reason, _))) => self.begin_anew(transport, reason, now),
            (Err(_), Some((reason, until))) if until <= now => self.give_up(&reason, now),
            (Err(error), fresh) => {
                self.tell(&SessionEvent::AttemptFailed(error.to_string()));
                self.dial(attempt + 1, fresh);
            }
        }
        true
    }

    /// Whether the end of this session is the beginning of another: the server was reached, and
    /// does not know it any more.
    pub(super) fn renews(&self, reason: &CloseReason) -> bool {
        let refused = matches!(reason, CloseReason::Error { by: Side::Peer, code, .. }
            if code.is_setup());
        let renew = self.options.resume.as_ref().is_some_and(|resume| resume.settings.renew);
        // One that is being closed needs no other.
        refused && renew && self.redial.is_some() && self.mailbox.refusing().is_none()
    }

    /// All that was pending fails, and a fresh session is dialled for.
    pub(super) fn renew(&mut self, reason: CloseReason, now: Instant) {
        self.fail_all(Error::Closed(reason.clone()), VecDeque::new());
        self.count_lost();
        self.lose_transport();
        self.mailbox.set_prompt(false);
        let Some(resume) = &self.options.resume else { return };
        let until = now + resume.settings.limits.window;
        let attempt = self.redial.as_ref().map_or(0, |redial| redial.attempt);
        self.dial(attempt, Some((reason, until)));
    }

    /// What handles ask for waits: there is no session to do it in.
    pub(super) fn is_renewing(&self) -> bool {
        self.redial.as_ref().is_some_and(|redial| redial.fresh.is_some())
    }

    /// No fresh session comes of it.
    pub(super) fn give_up(&mut self, reason: &CloseReason, now: Instant) {
        self.redial = None;
        self.end(reason, now);
        self.phase = Phase::Lingering { until: now };
    }

    fn begin_anew(&mut self, transport: Transport, reason: CloseReason, now: Instant) {
        let Some(resume) = &mut self.options.resume else { return };
        match resume::new_token() {
            Ok(token) => resume.setup.resume_token = Some(token),
            Err(error) => return self.give_up(&CloseReason::Io(error.to_string().into()), now),
        }
        let DriverOptions { config, .. } = &self.options;
        let setup = self.options.resume.as_ref().map(|resume| resume.setup.clone());
        let Some(setup) = setup else { return };
        self.meter.restart(self.connection.stats());
        self.connection = Connection::client(setup, Arc::clone(config), now);
        self.last_dialled = self.redial.take().map(|redial| (redial.attempt, now));
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
