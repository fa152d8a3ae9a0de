//! The way in to a server: a newcomer is accepted, comes back to its session, or is turned away.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use rsock_proto::{ErrorCode, Role, frame};
use tokio::sync::oneshot;

use super::{Driver, DriverOptions, drop_guarded, ending::Phase};
use crate::{
    boxed::BoxFuture,
    connection::{
        Mailbox, Newcomer,
        doors::{Doors, Full, Place},
        handle::{Accept, Arrival, Handle},
        mailbox::{Adoption, Refused},
        producers::{guard, poll_guarded},
        shares::Holder,
    },
    error::Error,
};

/// Why nobody is let in when the service stops.
pub(super) const STOPPING: &str = "the service is stopping";
/// Why somebody is not who was about to be.
const TURNED_AWAY: &str = "too many connections are being set up; try again later";

/// The handler that serves a connection, and its place where there are doors.
type Accepted = (Arc<dyn Handle>, Option<Place>);

/// How far a server's connection has come in.
pub(super) struct Admission {
    /// Present until it is accepted.
    pub(super) accept: Option<Arc<dyn Accept>>,
    pub(super) accepting: Option<BoxFuture<Result<Accepted, Error>>>,
    /// The holder of the connection, and the doors it came through.
    pub(super) holder: Holder,
    pub(super) doors: Option<Arc<Doors>>,
    /// A connection that nobody has accepted yet.
    pub(super) newcomer: Option<Box<Newcomer>>,
    /// Among the connections there may be: a session without a transport has none.
    pub(super) place: Option<Place>,
    /// RESUME came first, and what is on its way to the session.
    pub(super) returning: Option<Box<Returning>>,
    /// The service stops, and whoever has not been accepted will not be.
    pub(super) is_stopping: bool,
}

impl Admission {
    /// A client's side lets nobody in.
    pub(super) fn none() -> Self {
        Self {
            accept: None,
            accepting: None,
            holder: Holder::Unknown,
            doors: None,
            newcomer: None,
            place: None,
            returning: None,
            is_stopping: false,
        }
    }

    pub(super) fn new(accept: Arc<dyn Accept>, newcomer: Option<Box<Newcomer>>) -> Self {
        let (holder, doors) = match &newcomer {
            Some(newcomer) => (newcomer.holder(), Some(Arc::clone(newcomer.doors()))),
            None => (Holder::Unknown, None),
        };
        Self { accept: Some(accept), holder, doors, newcomer, ..Self::none() }
    }
}

/// A client that has come back to its session, on its way there.
pub(super) enum Returning {
    /// It waits for a place, since the session has none.
    Entering { resume: frame::Resume, owner: Arc<Mailbox>, place: BoxFuture<Result<Place, Full>> },
    /// The session has its transport, or gives it back.
    HandedOver(oneshot::Receiver<Refused>),
}

impl Driver {
    pub(super) fn start_acceptor(&mut self, setup: frame::Setup) {
        if self.admission.is_stopping {
            return self.connection.reject(ErrorCode::REJECTED_SETUP, STOPPING);
        }
        if let Err(error) = self.check_token(&setup) {
            return self.connection.reject(ErrorCode::REJECTED_SETUP, error.to_string());
        }
        if let Some(opened) = &mut self.options.opened {
            opened.set_mime(&setup.metadata_mime);
        }
        let Some(accept) = &self.admission.accept else { return };
        let DriverOptions { window, config, peer: address, memory, .. } = &self.options;
        let ends = self.wire.socket.ends(&self.wire.framing, Arc::clone(address));
        let arrival = Arrival {
            setup,
            ends,
            mailbox: Arc::clone(&self.mailbox),
            window: *window,
            fragments: config.fragment_bytes.is_some(),
            memory: Arc::clone(memory),
            #[cfg(feature = "websocket")]
            http: None,
        };
        match guard(|| accept.accept(arrival)) {
            Ok(accepting) => {
                let (doors, holder) = (self.admission.doors.clone(), self.admission.holder);
                // Whom the acceptor refuses takes nobody's place.
                self.admission.accepting = Some(Box::pin(async move {
                    let responder = accepting.await?;
                    let Some(doors) = doors else { return Ok((responder, None)) };
                    let place = doors.place(holder, false).await.map_err(Error::rejected)?;
                    Ok((responder, Some(place)))
                }));
            }
            Err(error) => self.connection.reject(ErrorCode::REJECTED_SETUP, error.to_string()),
        }
    }

    /// It is a connection from now on, unless it had to go or its session is not to be had.
    fn let_in(&mut self) -> Result<(), String> {
        if self.admission.newcomer.take().is_some_and(|newcomer| !newcomer.let_in()) {
            return Err(TURNED_AWAY.into());
        }
        self.claim().map_err(|error| error.to_string())
    }

    pub(super) fn poll_acceptor(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let Some(accepting) = &mut self.admission.accepting else {
            return false;
        };
        if self.connection.is_over() {
            return false;
        }
        let Poll::Ready(accepted) = poll_guarded(accepting, cx) else {
            return false;
        };
        drop_guarded(self.admission.accepting.take());
        match accepted.and_then(|accepted| accepted) {
            Ok((responder, place)) => {
                if let Err(problem) = self.let_in() {
                    self.connection.reject(ErrorCode::REJECTED_SETUP, problem);
                    return true;
                }
                self.admission.place = place;
                self.serving.responder = Some(responder);
                self.admission.accept = None;
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

    /// RESUME came first: whose session it is gets the transport, and this connection is over. Until
    /// that is sure it is here, and has its time as every other.
    pub(super) fn take_resume(&mut self, resume: frame::Resume, now: Instant) {
        if self.admission.is_stopping {
            return self.connection.reject(ErrorCode::REJECTED_RESUME, STOPPING);
        }
        let identity = self.wire.socket.identity();
        let sessions = self.options.sessions.as_ref();
        let found = sessions.and_then(|sessions| sessions.find(&resume.token, &identity));
        let Some((owner, is_suspended)) = found else { return self.refuse_resume() };
        match &self.admission.doors {
            Some(doors) if is_suspended => {
                let place = Box::pin(Arc::clone(doors).place(self.admission.holder, true));
                self.admission.returning =
                    Some(Box::new(Returning::Entering { resume, owner, place }));
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
        if self.wire.unread_end.is_some() {
            // A client that has given this transport up has another by now, or will: it was delayed.
            return self.connection.handle_disconnect(None, now);
        }
        if self.wire.socket.is_none() {
            return;
        }
        let transport = self.wire.hand_over(Arc::clone(&self.options.peer));
        let (refuse, refused) = oneshot::channel();
        match owner.adopt(Box::new(Adoption { resume, transport, place, refuse })) {
            Ok(()) => self.admission.returning = Some(Box::new(Returning::HandedOver(refused))),
            Err(adoption) => {
                self.install(adoption.transport);
                if owner.is_closed() {
                    self.refuse_resume();
                } else {
                    self.meter.refused_transport();
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
            self.admission.returning = None;
            return false;
        }
        match self.admission.returning.take().map(|returning| *returning) {
            None => false,
            Some(Returning::Entering { resume, owner, mut place }) => {
                match place.as_mut().poll(cx) {
                    Poll::Pending => {
                        let entering = Returning::Entering { resume, owner, place };
                        self.admission.returning = Some(Box::new(entering));
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
                        self.admission.returning = Some(Box::new(Returning::HandedOver(refused)));
                        return false;
                    }
                    // The session goes on on it, or has ended with it: the client will be told when
                    // it tries again.
                    Poll::Ready(Err(_)) => {
                        self.connection.hand_over();
                        self.ending.phase = Phase::Lingering { until: now };
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

    /// A server lets go of a client, which is told why: the service stops, as `stops` or the doors
    /// know, or others are to be heard.
    pub(super) fn part(&mut self, stops: bool) {
        if self.connection.role() == Role::Client {
            return;
        }
        self.admission.is_stopping |=
            stops || self.admission.doors.as_ref().is_some_and(|doors| doors.is_stopping());
        if self.admission.is_stopping {
            self.connection.set_parting_words(STOPPING);
        }
        let refusal = match (&self.admission.returning, self.admission.is_stopping) {
            (None, true) => (ErrorCode::REJECTED_SETUP, STOPPING),
            (None, false) => (ErrorCode::REJECTED_SETUP, TURNED_AWAY),
            (Some(_), true) => (ErrorCode::REJECTED_RESUME, STOPPING),
            // RESUME-22: it may try again.
            (Some(_), false) => (ErrorCode::CONNECTION_ERROR, TURNED_AWAY),
        };
        if self.admission.accept.is_some() && !self.connection.awaits_setup() {
            self.connection.reject(refusal.0, refusal.1);
        }
    }
}
