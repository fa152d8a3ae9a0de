//! A client without a transport: it dials again, to go on or to begin anew.

use std::{
    collections::VecDeque,
    io,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use rsock_proto::{CloseReason, Connection, ErrorCode, Side, frame};

use super::{Driver, ending::Phase};
use crate::{
    resume::{self, Resume, SessionEvent},
    transport::{
        dial::{DialAgain, Dialling},
        socket::Transport,
    },
};

/// A client's session: what it needs to be taken up again, and how far that has come.
pub(crate) struct ClientSession {
    dial: DialAgain,
    pub(super) settings: Resume,
    /// For a fresh session, where the old one is gone; its token is replaced.
    setup: frame::Setup,
    /// It has no transport, or is in the handshake on a new one.
    pub(super) redial: Option<Redial>,
    /// A server has once taken it, or one before it.
    pub(super) was_established: bool,
    /// Until when a fresh session is tried for that no server has taken yet.
    pub(super) unconfirmed: Option<Instant>,
    /// Which attempt brought the present transport, and when.
    pub(super) last_dialled: Option<(u32, Instant)>,
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
    pub(super) fn next_attempt(&self, now: Instant) -> u32 {
        let Some((attempt, since)) = self.last_dialled else { return 0 };
        let pause = self.settings.longest_pause(attempt + 1);
        if now.saturating_duration_since(since) < pause { attempt + 1 } else { 0 }
    }
}

/// A client without a transport.
pub(super) struct Redial {
    pub(super) attempt: u32,
    dialling: Dialling,
    /// Why the session before is gone: what is dialled for is a fresh one, until this time.
    fresh: Option<(CloseReason, Instant)>,
}

impl Driver {
    /// Dials again, after a pause.
    pub(super) fn dial(&mut self, attempt: u32, fresh: Option<(CloseReason, Instant)>) {
        let Some(session) = self.session.client_mut() else { return };
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
        self.session.client().is_some_and(|session| session.redial.is_some())
    }

    /// Sees whether there is a new transport.
    #[cold]
    pub(super) fn poll_redial(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        // Streams of a fresh session may have the keys of those before: these end first, and what their
        // consumers have said until then has been heard.
        if !self.wire.socket.is_none() || !self.ending.failing.is_empty() {
            return false;
        }
        let Some(session) = self.session.client_mut() else { return false };
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
        let Some(session) = self.session.client() else { return false };
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
        self.fail_all(reason.clone(), VecDeque::new());
        self.count_lost();
        if !self.wire.unreachable {
            // If it is we who end it, the server is told, as far as it hears it at once.
            self.connection.poll_transmit(&mut self.wire.output);
        }
        self.lose_transport(cx);
        let Some(session) = self.session.client_mut() else { return };
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
        let redial = self.session.client().and_then(|session| session.redial.as_ref());
        redial.is_some_and(|redial| redial.fresh.is_some())
    }

    /// No fresh session comes of it.
    pub(super) fn give_up(&mut self, reason: &CloseReason, now: Instant) {
        if let Some(session) = self.session.client_mut() {
            session.redial = None;
        }
        self.end(reason, now);
        self.ending.phase = Phase::Lingering { until: now };
    }

    fn begin_anew(
        &mut self,
        transport: Transport,
        reason: CloseReason,
        until: Instant,
        now: Instant,
    ) {
        let Some(session) = self.session.client_mut() else { return };
        match resume::new_token() {
            Ok(token) => session.setup.resume_token = Some(token),
            Err(error) => {
                return self
                    .give_up(&CloseReason::Io(io::Error::other(error.to_string()).into()), now);
            }
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
}
