//! A client without a transport: it dials again, to take its session up or to begin anew.

use std::{
    collections::VecDeque,
    io, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use rsock_proto::{CloseReason, Connection, ErrorCode, Side, frame};

use super::{Driver, ending::Phase, guard};
use crate::{
    error::ConnectError,
    reconnect::{Reconnect, ReconnectEvent},
    resume::{Resume, SessionEvent},
    setup::SetupTemplate,
    transport::{dial::DialAgain, socket::Transport},
};

/// The means of a client that may come to another transport, and how far that has come.
///
/// ```text
///             lost, with a session                     resumed
/// in use ───────────────────────────▶ redial ───────────────────────────▶ in use
///    │                                   │ the session is gone
///    │ lost, without one                 ▼           connected                  accepted
///    └────────────────────────────▶ redial, fresh ──────────▶ in use, fresh ──────────▶ in use
///                                        ▲   │ failed             │ lost, refused
///                                        └───┴────────────────────┘
/// ```
pub(crate) struct Redialler {
    dial: DialAgain,
    setup: Arc<SetupTemplate>,
    /// How its session is resumed, where it has one.
    pub(super) resume: Option<Resume>,
    /// How a connection follows that has nothing of the one before.
    reconnect: Option<Reconnect>,
    /// Without a transport, or in the handshake of a session on a new one.
    pub(super) redial: Option<Redial>,
    /// The present connection is a fresh one, which no server has taken yet.
    fresh: Option<Fresh>,
    /// A server has once taken it, or one before it.
    was_established: bool,
    /// When the server had shown that it takes the present connection.
    accepted_at: Option<Instant>,
    /// Which attempt brought the present transport, and when.
    last_dialled: Option<(u32, Instant)>,
    /// How many fresh connections were tried since the last one that was taken.
    tries: u32,
    /// Handles' commands wait until a server has shown that it takes the connection: it may
    /// still refuse it, or was about to close the one before.
    is_holding: bool,
    /// The server may not have resume: the connection is, or will be, a plain one.
    is_plain: bool,
    /// A server has taken a session.
    had_session: bool,
}

/// A client without a transport.
pub(super) struct Redial {
    pub(super) attempt: u32,
    dialling: Pin<Box<dyn Future<Output = Result<Dialled, ConnectError>> + Send>>,
    /// Present where a fresh connection is dialled for.
    fresh: Option<Fresh>,
}

/// A new transport, and SETUP for it where it is not to take a session up.
type Dialled = (Transport, Option<frame::Setup>);

/// A connection that has nothing of the one before.
#[derive(Clone)]
struct Fresh {
    /// How the one before ended.
    reason: CloseReason,
    /// It is tried for until then, or as long as it takes.
    until: Option<Instant>,
    /// Nothing was lost but the time to ask for less: nobody is told.
    is_quiet: bool,
}

impl Redialler {
    pub(crate) fn new(
        dial: DialAgain,
        setup: Arc<SetupTemplate>,
        resume: Option<Resume>,
        reconnect: Option<Reconnect>,
    ) -> Self {
        Self {
            dial,
            setup,
            redial: None,
            fresh: None,
            was_established: false,
            accepted_at: None,
            last_dialled: None,
            tries: 0,
            // The first server may say that it does not have resume.
            is_holding: resume.is_some() && reconnect.is_some(),
            is_plain: false,
            had_session: false,
            resume,
            reconnect,
        }
    }

    /// Which attempt the next one counts as: the first, unless the last one brought a transport that
    /// was lost sooner than a pause takes, or a connection that was not accepted for long enough. A
    /// server that takes connections and drops them is not dialled without end.
    fn next_attempt(&self, now: Instant) -> u32 {
        let dialled = self.last_dialled;
        if let (Some(reconnect), None) = (&self.reconnect, self.session()) {
            let is_stable = self.accepted_at.is_some_and(|accepted| {
                now.saturating_duration_since(accepted) >= reconnect.stable_after
            });
            return if is_stable { 0 } else { dialled.map_or(1, |(attempt, _)| attempt + 1) };
        }
        let (Some(resume), Some((attempt, since))) = (&self.resume, dialled) else { return 0 };
        let pause = resume.longest_pause(attempt + 1);
        if now.saturating_duration_since(since) < pause { attempt + 1 } else { 0 }
    }

    /// How its session is resumed, if it has one.
    fn session(&self) -> Option<&Resume> {
        self.resume.as_ref().filter(|_| !self.is_plain)
    }

    fn pause(&self, attempt: u32, fresh: Option<&Fresh>) -> Duration {
        match (&self.reconnect, fresh, &self.resume) {
            (Some(reconnect), Some(fresh), _) => {
                reconnect.pause(attempt, is_refusal(&fresh.reason, ErrorCode::REJECTED_SETUP))
            }
            (_, _, Some(resume)) => resume.pause(attempt),
            (_, _, None) => Duration::ZERO,
        }
    }

    /// Whether another connection follows one that ended so.
    fn reconnects(&self, reason: &CloseReason) -> bool {
        if self.reconnect.is_none() || is_refusal(reason, ErrorCode::INVALID_SETUP) {
            return false;
        }
        if is_refusal(reason, ErrorCode::UNSUPPORTED_SETUP) {
            return self.may_be_plain(reason);
        }
        self.was_established || self.may_be_plain(reason)
    }

    /// Whether a server that does not take the connection so may not have resume, and is to be asked
    /// for less. Some say UNSUPPORTED_SETUP, and others REJECTED_SETUP, as if they had too much to do.
    fn may_be_plain(&self, reason: &CloseReason) -> bool {
        let is_refused = is_refusal(reason, ErrorCode::UNSUPPORTED_SETUP)
            || is_refusal(reason, ErrorCode::REJECTED_SETUP);
        is_refused
            && self.reconnect.is_some()
            && self.session().is_some()
            && self.accepted_at.is_none()
    }

    /// Whether a fresh session follows one that ended so.
    fn renews(&self, reason: &CloseReason, now: Instant) -> bool {
        if !self.resume.as_ref().is_some_and(|resume| resume.renew) {
            return false;
        }
        let by_peer = match reason {
            CloseReason::Finished(_) | CloseReason::Error { by: Side::Local, .. } => return false,
            CloseReason::Error { code, .. } => Some(*code),
            _ => None,
        };
        if let Some(fresh) = &self.fresh {
            // A server that refuses a fresh session now, or cannot be reached, may take one later.
            return fresh.until.is_none_or(|until| now < until);
        }
        let is_known = self.redial.is_some() || self.was_established;
        match (reason, by_peer) {
            // Whatever it says in the place of RESUME_OK, the session is gone.
            (_, Some(code)) => {
                self.redial.is_some() || (is_known && code == ErrorCode::CONNECTION_ERROR)
            }
            (CloseReason::Violation(_), None) => is_known,
            _ => false,
        }
    }
}

/// Whether the peer has refused SETUP with this code.
fn is_refusal(reason: &CloseReason, expected: ErrorCode) -> bool {
    matches!(reason, CloseReason::Error { by: Side::Peer, code, .. } if *code == expected)
}

impl Driver {
    /// Dials again after a pause, which is returned.
    fn dial(&mut self, attempt: u32, fresh: Option<Fresh>) -> Duration {
        let Some(redialler) = self.session.client_mut() else { return Duration::ZERO };
        let dial = Arc::clone(&redialler.dial);
        let setup = fresh.is_some().then(|| Arc::clone(&redialler.setup));
        let is_session = redialler.session().is_some();
        let pause = redialler.pause(attempt, fresh.as_ref());
        let dialling = Box::pin(async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            let setup = match setup {
                Some(template) => Some(template.make(is_session).await?),
                None => None,
            };
            Ok((dial().await?, setup))
        });
        redialler.redial = Some(Redial { attempt, dialling, fresh });
        pause
    }

    /// Whether there is no transport, or no server has taken the present connection, which is not the
    /// first.
    #[inline]
    pub(super) fn is_between_connections(&self) -> bool {
        let client = self.session.client();
        client.is_some_and(|redialler| redialler.redial.is_some() || redialler.fresh.is_some())
    }

    /// When a server must have shown that it takes a connection which follows another. It was asked for
    /// a sign at once.
    #[cold]
    pub(super) fn fresh_deadline(&self) -> Option<Instant> {
        let redialler = self.session.client()?;
        let is_asked = redialler.reconnect.is_some() && redialler.redial.is_none();
        let (_, since) =
            redialler.last_dialled.filter(|_| is_asked && redialler.fresh.is_some())?;
        since.checked_add(self.options.config.setup_timeout)
    }

    /// Gives up a connection that the server neither takes nor refuses, as one that could not be made.
    fn give_up_untaken(&mut self, now: Instant) -> bool {
        if self.fresh_deadline().is_none_or(|deadline| now < deadline) {
            return false;
        }
        let limit = self.options.config.setup_timeout;
        let text = format!("the server has not taken the connection within {limit:?}");
        self.disconnect(Some(io::Error::new(io::ErrorKind::TimedOut, text)), now);
        true
    }

    /// Sees whether there is a new transport, and whether the present one is of use.
    #[cold]
    pub(super) fn poll_redial(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        if self.give_up_untaken(now) {
            return true;
        }
        // Streams of a fresh connection may have the keys of those before: these end first, and what
        // their consumers have said until then has been heard.
        if !self.wire.socket.is_none() || !self.ending.failing.is_empty() {
            return false;
        }
        let Some(redialler) = self.session.client_mut() else { return false };
        let Some(redial) = &mut redialler.redial else { return false };
        let dialled = match guard(|| redial.dialling.as_mut().poll(cx)) {
            Ok(Poll::Pending) => return false,
            Ok(Poll::Ready(dialled)) => dialled.map_err(|error| error.to_string()),
            // What it has to say in its panic is said by the panic hook.
            Err(_) => Err("what was to dial, or to give credentials, panicked".to_owned()),
        };
        let (attempt, fresh) = (redial.attempt, redial.fresh.take());
        match (dialled, fresh) {
            (Ok((transport, Some(setup))), Some(fresh)) => {
                self.begin_anew(transport, setup, fresh, now);
            }
            (Ok((transport, _)), _) => {
                if self.connection.resume(now).is_ok() {
                    self.install(transport);
                } else {
                    // The session has ended meanwhile.
                    redialler.redial = None;
                }
            }
            (Err(error), fresh) => self.attempt_failed(attempt + 1, fresh, error, now),
        }
        true
    }

    /// Tries again, unless that was the last attempt.
    fn attempt_failed(&mut self, next: u32, fresh: Option<Fresh>, error: String, now: Instant) {
        let Some(redialler) = self.session.client_mut() else { return };
        let reason = fresh.as_ref().map(|fresh| fresh.reason.clone());
        if let (Some(reason), Some(fresh)) = (&reason, &fresh) {
            redialler.tries += 1;
            let most = redialler.reconnect.as_ref().and_then(|reconnect| reconnect.attempts);
            if fresh.until.is_some_and(|until| until <= now)
                || most.is_some_and(|most| redialler.tries >= most)
            {
                return self.give_up(reason, now);
            }
        }
        let attempt = redialler.tries;
        let pause = self.dial(next, fresh);
        self.limit_held(now);
        self.tell(&SessionEvent::AttemptFailed(error.clone()));
        if reason.is_some() {
            self.tell_of_reconnecting(&ReconnectEvent::AttemptFailed { attempt, error, pause });
        }
    }

    /// A session has lost its transport: it is dialled for, to be taken up.
    pub(super) fn dial_for_session(&mut self, now: Instant) {
        let Some(redialler) = self.session.client_mut() else { return };
        redialler.fresh = None;
        match &redialler.redial {
            Some(redial) => {
                let next = redial.attempt + 1;
                let failed = "the transport was lost or given up before the session went on";
                self.attempt_failed(next, None, failed.into(), now);
            }
            None => {
                let attempt = redialler.next_attempt(now);
                self.tell(&SessionEvent::Suspended);
                self.dial(attempt, None);
            }
        }
    }

    /// The session goes on on another transport.
    pub(super) fn redialled(&mut self, now: Instant) {
        if let Some(redialler) = self.session.client_mut()
            && let Some(redial) = redialler.redial.take()
        {
            redialler.last_dialled = Some((redial.attempt, now));
            self.tell(&SessionEvent::Resumed);
        }
    }

    /// The server has shown that it takes the connection.
    pub(super) fn accepted(&mut self, now: Instant) {
        let Some(redialler) = self.session.client_mut() else { return };
        redialler.was_established = true;
        redialler.accepted_at = Some(now);
        redialler.is_holding = false;
        redialler.had_session |= redialler.session().is_some();
        let attempts = mem::take(&mut redialler.tries) + 1;
        let is_told = redialler.fresh.take().is_some_and(|fresh| !fresh.is_quiet);
        if is_told && redialler.reconnect.is_some() {
            self.meter.reconnected();
            self.tell_of_reconnecting(&ReconnectEvent::Connected { attempts });
        }
        self.tell_prompt();
    }

    /// Whether the end of this connection is the beginning of another: nobody wanted it who may, and
    /// the server lives, as far as is known.
    pub(super) fn renews(&self, reason: &CloseReason, now: Instant) -> bool {
        let Some(redialler) = self.session.client() else { return false };
        // One that is being closed needs no other.
        self.mailbox.refusing().is_none()
            && (redialler.reconnects(reason) || redialler.renews(reason, now))
    }

    /// All that was pending fails, and a fresh connection is dialled for.
    pub(super) fn renew(&mut self, cx: &mut Context<'_>, reason: CloseReason, now: Instant) {
        self.fail_all(reason.clone(), VecDeque::new());
        // A handler that does not end must not hold up the pushes of the next connection.
        if let Some(pushes) = &mut self.serving.pushes {
            pushes.end();
        }
        self.count_lost();
        if !self.wire.unreachable {
            // If it is we who end it, the server is told, as far as it hears it at once.
            self.connection.poll_transmit(&mut self.wire.output);
        }
        self.lose_transport(cx);
        self.forget_leases();
        let Some(redialler) = self.session.client_mut() else { return };
        let is_plain_now = redialler.may_be_plain(&reason);
        // One that had resume, and was asked for less because it refused, may have it again.
        redialler.is_plain = is_plain_now || (redialler.is_plain && !redialler.had_session);
        redialler.is_holding = redialler.reconnect.is_some();
        let next = redialler.next_attempt(now);
        redialler.accepted_at = None;
        let until = match (&redialler.reconnect, &redialler.resume) {
            (None, Some(resume)) => Some(now + resume.limits.window),
            _ => None,
        };
        let fresh = Fresh { reason: reason.clone(), until, is_quiet: false };
        if is_plain_now {
            // The server is there, and is asked for less at once.
            let is_quiet = redialler.fresh.take().is_none_or(|before| before.is_quiet);
            self.dial(0, Some(Fresh { is_quiet, ..fresh }));
        } else if let Some(redial) = &redialler.redial {
            let attempt = redial.attempt;
            self.lost(&reason);
            self.dial(attempt, Some(fresh));
        } else if let Some(before) = redialler.fresh.take() {
            let next = redialler.last_dialled.map_or(1, |(attempt, _)| attempt + 1);
            let fresh = Fresh { reason: reason.clone(), ..before };
            self.attempt_failed(next, Some(fresh), reason.to_string(), now);
        } else {
            let first = if redialler.reconnect.is_some() { next } else { next.max(1) };
            self.lost(&reason);
            self.dial(first, Some(fresh));
        }
        self.hold_leaseless();
        self.limit_held(now);
    }

    /// There is no connection any more, nor a session to be resumed.
    fn lost(&mut self, reason: &CloseReason) {
        let is_reconnecting =
            self.session.client().is_some_and(|client| client.reconnect.is_some());
        if is_reconnecting {
            // Of a session that was suspended, nothing is left.
            self.meter.suspended(false);
            self.mailbox.reconnecting();
        } else {
            self.mailbox.suspended();
            self.meter.suspended(true);
        }
        self.tell_of_reconnecting(&ReconnectEvent::Lost(reason.clone()));
    }

    /// Whether what handles ask for waits: there is no connection to do it on.
    pub(super) fn is_renewing(&self) -> bool {
        let redial = self.session.client().and_then(|redialler| redialler.redial.as_ref());
        redial.is_some_and(|redial| redial.fresh.is_some())
    }

    /// Whether it waits for the server to take this connection, or for the next.
    #[inline]
    pub(super) fn is_holding(&self) -> bool {
        self.session.client().is_some_and(|redialler| redialler.is_holding)
    }

    /// The server is about to close: whether another connection follows, for which what is asked from
    /// now on waits.
    pub(super) fn waits_for_another(&mut self, reason: &CloseReason) -> bool {
        let is_closing = self.mailbox.refusing().is_some();
        let Some(redialler) = self.session.client_mut() else { return false };
        let waits = !is_closing && redialler.reconnects(reason);
        redialler.is_holding |= waits;
        waits
    }

    /// How long a request may wait while there is no connection, and why there is none. For the first
    /// one it waits as it would without reconnecting, unless an attempt has failed.
    pub(super) fn patience(&self) -> Option<(Duration, CloseReason)> {
        let redialler = self.session.client()?;
        if !redialler.was_established && redialler.tries == 0 {
            return None;
        }
        let wait = redialler.reconnect.as_ref()?.wait;
        let fresh = redialler.redial.as_ref().and_then(|redial| redial.fresh.as_ref());
        let reason = fresh.or(redialler.fresh.as_ref()).map(|fresh| fresh.reason.clone());
        Some((wait, reason.unwrap_or(CloseReason::Finished(Side::Peer))))
    }

    /// No fresh connection comes of it.
    pub(super) fn give_up(&mut self, reason: &CloseReason, now: Instant) {
        if let Some(redialler) = self.session.client_mut() {
            redialler.redial = None;
        }
        self.gave_up(reason);
        self.end(reason, now);
        self.ending.phase = Phase::Lingering { until: now };
    }

    /// Tells that no connection follows, unless that is what was wanted.
    pub(super) fn gave_up(&self, reason: &CloseReason) {
        if self.mailbox.refusing().is_none() {
            self.tell_of_reconnecting(&ReconnectEvent::GaveUp(reason.clone()));
        }
    }

    fn begin_anew(
        &mut self,
        transport: Transport,
        setup: frame::Setup,
        fresh: Fresh,
        now: Instant,
    ) {
        let Some(redialler) = self.session.client_mut() else { return };
        redialler.last_dialled = redialler.redial.take().map(|redial| (redial.attempt, now));
        let renewed = (!fresh.is_quiet).then(|| fresh.reason.clone());
        redialler.fresh = Some(fresh);
        self.meter.restart(self.connection.stats());
        let config = Arc::clone(&self.options.config);
        self.connection = Connection::client(setup, config, now);
        self.meter.suspended(false);
        self.install(transport);
        self.mailbox.connecting();
        self.tell_prompt();
        self.grant_lease(now);
        self.probe();
        if let Some(reason) = renewed {
            self.tell(&SessionEvent::Renewed(reason));
        }
    }

    /// Asks the server for a sign that it takes the connection, where that matters before anything
    /// else is asked: from then on, one that is lost is followed by another.
    pub(super) fn probe(&mut self) {
        if self.session.client().is_some_and(|redialler| redialler.reconnect.is_some()) {
            // An engine that has just begun takes it; its answer is nobody's.
            let _ = self.connection.ping(Bytes::new());
        }
    }

    fn tell_of_reconnecting(&self, event: &ReconnectEvent) {
        let reconnect = self.session.client().and_then(|redialler| redialler.reconnect.as_ref());
        if let Some(observer) = reconnect.and_then(|reconnect| reconnect.observer.as_ref()) {
            // What an observer has to say in its panic is said by the panic hook.
            let _ = guard(|| observer(event));
        }
    }
}
