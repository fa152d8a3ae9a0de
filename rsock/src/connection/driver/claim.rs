//! A server's session: claimed by its token, and taken up again on another transport.

use std::time::Instant;

use rsock_proto::{ErrorCode, NotResumed, frame};

use super::{Driver, STOPPING, session::Session};
use crate::connection::{
    doors::Place,
    mailbox::{Adoption, Refused},
    sessions::NoSession,
};

impl Driver {
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
        let identity = self.wire.socket.identity();
        match sessions.claim(token, &self.mailbox, self.admission.holder, identity) {
            Ok((claim, has_ended_another)) => {
                self.session = Session::Claimed(Box::new(claim));
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
        if let (None, Some(doors)) = (&self.admission.place, &self.admission.doors) {
            // It may have lost its transport since it was looked for.
            self.admission.place = place.or_else(|| doors.try_place(self.admission.holder));
            if self.admission.place.is_none() {
                let message = "the session has no place among the connections; try again";
                return Err((ErrorCode::CONNECTION_ERROR, message.into()));
            }
        }
        match self.connection.accept_resume(resume, now) {
            Ok(()) => Ok(()),
            Err(error) => {
                if !self.connection.has_transport() {
                    self.admission.place = None;
                }
                let message = match error {
                    NotResumed::Over if self.admission.is_stopping => STOPPING.into(),
                    error => error.to_string(),
                };
                Err((ErrorCode::REJECTED_RESUME, message))
            }
        }
    }

    /// A server that drains takes no transport any more: its sessions without one are over.
    pub(super) fn end_if_lost(&mut self) {
        let is_lost = self.connection.is_suspended() && self.connection.is_draining();
        if self.session.claim().is_some() && is_lost {
            self.connection.close();
        }
    }
}
