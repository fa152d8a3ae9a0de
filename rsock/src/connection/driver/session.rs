//! The session of a connection that outlives its transport, whichever side has it.

use std::{mem, sync::Arc, task::Context, time::Instant};

use super::{Driver, DriverOptions, guard, redial::Redialler};
#[cfg(feature = "tracing")]
use crate::warnings::Kind;
use crate::{
    connection::{Mailbox, sessions::Claim},
    resume::SessionEvent,
    transport::socket::Transport,
};

/// The session that a connection is, if it is one.
pub(super) enum Session {
    None,
    /// A server's, which can be found by its token.
    Claimed(Box<Claim>),
    /// A client's, which dials again.
    Client(Box<Redialler>),
}

impl Session {
    pub(super) fn claim(&self) -> Option<&Claim> {
        if let Self::Claimed(claim) = self { Some(claim) } else { None }
    }

    #[inline]
    pub(super) fn client(&self) -> Option<&Redialler> {
        if let Self::Client(redialler) = self { Some(redialler) } else { None }
    }

    pub(super) fn client_mut(&mut self) -> Option<&mut Redialler> {
        if let Self::Client(redialler) = self { Some(redialler) } else { None }
    }
}

impl Driver {
    /// There is another transport.
    pub(super) fn install(&mut self, transport: Transport) {
        self.options.peer = Arc::clone(&transport.peer);
        self.wire.install(transport, &self.options);
        self.end_pause();
    }

    /// There is no transport any more.
    pub(super) fn lose_transport(&mut self, cx: &mut Context<'_>) {
        self.wire.leave(cx);
        self.wire.lose();
        self.end_pause();
        self.mailbox.set_prompt(false);
    }

    /// The transport is lost, or of no use; the session waits for another.
    pub(super) fn suspended(&mut self, cx: &mut Context<'_>, now: Instant) {
        // A transport that came meanwhile is not the one that was lost.
        if !self.connection.is_suspended() {
            return;
        }
        self.lose_transport(cx);
        self.admission.place = None;
        self.mailbox.suspended();
        self.meter.suspended(true);
        if let Some(claim) = self.session.claim() {
            claim.suspended();
        }
        self.forget_leases();
        log_suspended(&self.options.peer, &self.mailbox);
        self.end_if_lost();
        self.dial_for_session(now);
    }

    /// The peer has shown that it takes the connection.
    pub(super) fn established(&mut self, now: Instant) {
        self.accepted(now);
        self.mailbox.established();
    }

    pub(super) fn resumed(&mut self, now: Instant) {
        self.established(now);
        self.tell_prompt();
        self.meter.suspended(false);
        if let Some(claim) = self.session.claim() {
            claim.resumed();
        }
        self.redialled(now);
        self.grant_lease(now);
        self.ping_again();
        self.slots.queue_feeds();
        log_resumed(&self.options.peer, &self.mailbox);
    }

    /// Counts the fire-and-forgets of which nobody will hear, though their handles were told that they
    /// were on their way; and tells.
    pub(super) fn count_lost(&mut self) {
        let lost = mem::take(&mut self.ending.lost);
        if lost > 0 {
            self.meter.lost_fire_and_forget(lost);
            self.tell(&SessionEvent::Lost { fire_and_forget: lost });
            log_lost(&self.options, &self.mailbox, lost);
        }
    }

    /// Whether what is sent is on its way in the next turn: nothing has to be waited for.
    pub(super) fn tell_prompt(&self) {
        let is_prompt = self.may_ask()
            && self.connection.has_transport()
            && self.connection.permits().is_none();
        self.mailbox.set_prompt(is_prompt);
    }

    pub(super) fn tell(&self, event: &SessionEvent) {
        let resume = self.session.client().and_then(|redialler| redialler.resume.as_ref());
        if let Some(observer) = resume.and_then(|resume| resume.observer.as_ref()) {
            // What an observer has to say in its panic is said by the panic hook.
            let _ = guard(|| observer(event));
        }
    }
}

#[cfg(feature = "tracing")]
fn log_suspended(peer: &str, mailbox: &Mailbox) {
    let (conn, subject) = mailbox.known();
    tracing::debug!(conn, peer, subject, "the transport is lost; the session waits for another");
}

#[cfg(not(feature = "tracing"))]
fn log_suspended(_: &str, _: &Mailbox) {}

#[cfg(feature = "tracing")]
fn log_lost(DriverOptions { peer, meter, .. }: &DriverOptions, mailbox: &Mailbox, count: u64) {
    let (conn, subject) = mailbox.known();
    let peer: &str = peer;
    if meter.admits_warning(Kind::Lost, peer, super::now()) {
        tracing::warn!(
            conn,
            peer,
            subject,
            count,
            "fire-and-forgets were lost: their connection or session is over"
        );
    }
}

#[cfg(not(feature = "tracing"))]
fn log_lost(_: &DriverOptions, _: &Mailbox, _: u64) {}

#[cfg(feature = "tracing")]
fn log_resumed(peer: &str, mailbox: &Mailbox) {
    let (conn, subject) = mailbox.known();
    tracing::debug!(conn, peer, subject, "the session goes on");
}

#[cfg(not(feature = "tracing"))]
fn log_resumed(_: &str, _: &Mailbox) {}
