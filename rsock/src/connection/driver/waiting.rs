//! Commands that wait: for somebody to ask, or for a lease.

use std::{collections::VecDeque, mem};

use super::{Driver, drop_guarded, failing::PORTION};
use crate::connection::Command;

/// The commands that were taken from the mailbox and are not carried out.
#[derive(Default)]
pub(super) struct Waiting {
    /// Taken from the mailbox; kept to reuse their memory.
    pub(super) commands: Vec<Command>,
    pub(super) woken: Vec<usize>,
    /// The commands given while there was nobody to ask: before a server's SETUP was accepted, or
    /// while a client sets up a fresh session.
    pub(super) held: VecDeque<Command>,
    /// Requests that wait for a lease, in their order; each holds a permit.
    pub(super) leaseless: VecDeque<Command>,
    /// Some of those that wait have been cancelled.
    pub(super) has_cancelled: bool,
    /// Others were let run before this poll.
    pub(super) is_deferred: bool,
}

impl Waiting {
    /// All that wait, in the order in which they were asked for.
    pub(super) fn take_all(&mut self) -> VecDeque<Command> {
        // What was asked for while there was nobody to ask comes before what may need a lease.
        let mut commands = mem::take(&mut self.held);
        commands.append(&mut self.leaseless);
        commands
    }
}

impl Driver {
    /// There is somebody to ask: SETUP is accepted, and no fresh session is dialled for.
    pub(super) fn may_ask(&self) -> bool {
        self.admission.accept.is_none() && !self.is_renewing()
    }

    /// Whether what was held may be done now.
    pub(super) fn has_held(&self) -> bool {
        !self.waiting.held.is_empty() && self.may_ask() && !self.connection.is_over()
    }

    /// Does what was asked for while there was nobody to ask, a portion a poll and in its order: what is
    /// asked for meanwhile comes behind it.
    #[cold]
    pub(super) fn carry_out_held(&mut self) {
        let mut left = PORTION;
        while left > 0
            && self.has_held()
            && let Some(command) = self.waiting.held.pop_front()
        {
            self.handle_command(command);
            left -= 1;
        }
        if self.waiting.held.is_empty() && self.waiting.held.capacity() > 0 {
            self.waiting.held = VecDeque::new();
        }
    }

    /// Whether a request has to wait for a lease, or behind others that do. Each holds a permit of
    /// the mailbox, which bounds them.
    pub(super) fn waits_for_lease(&self) -> bool {
        !self.waiting.leaseless.is_empty() || self.connection.permits() == Some(0)
    }

    /// Whether requests that waited may go now.
    pub(super) fn has_leased(&self) -> bool {
        !self.waiting.leaseless.is_empty() && self.connection.permits() != Some(0)
    }

    /// Those who waited for a lease go first, a portion a poll: one frame of the peer lets thousands go.
    #[cold]
    pub(super) fn open_leased(&mut self) {
        let mut left = PORTION;
        while left > 0
            && self.has_leased()
            && let Some(command) = self.waiting.leaseless.pop_front()
        {
            self.carry_out(command);
            left -= 1;
        }
        if self.waiting.leaseless.is_empty() {
            self.waiting.leaseless = VecDeque::new();
        }
    }

    /// Requests that were cancelled while they waited are never sent (RR-10). All of them at once: a
    /// search for each would go through thousands that wait.
    pub(super) fn forget_cancelled(&mut self) {
        let is_cancelled = |command: &Command| matches!(command, Command::Request { inlet: Some(inlet), .. } if inlet.is_cancelled());
        let mut forgotten = VecDeque::new();
        for waiting in [&mut self.waiting.held, &mut self.waiting.leaseless] {
            if waiting.iter().any(is_cancelled) {
                let (cancelled, wanted): (VecDeque<_>, _) =
                    mem::take(waiting).into_iter().partition(is_cancelled);
                forgotten.extend(cancelled);
                *waiting = wanted;
            }
        }
        for command in forgotten {
            if let Command::Request { outgoing, permit, .. } = command {
                self.slots.give_back(permit);
                drop_guarded(outgoing);
            }
        }
    }
}
