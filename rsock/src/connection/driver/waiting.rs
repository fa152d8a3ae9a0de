//! Commands that wait: for somebody to ask, or for a lease.

use std::{collections::VecDeque, mem, time::Instant};

use super::{Driver, drop_guarded, failing::PORTION, now};
use crate::connection::Command;

/// A command that waits for somebody to ask, for no longer than this.
pub(super) struct Held {
    command: Command,
    until: Option<Instant>,
}

/// The commands that were taken from the mailbox and are not carried out.
#[derive(Default)]
pub(super) struct Waiting {
    /// Taken from the mailbox; kept to reuse their memory.
    pub(super) commands: Vec<Command>,
    pub(super) woken: Vec<usize>,
    /// The commands given while there was nobody to ask: before a server's SETUP was accepted, or
    /// while a client has no connection.
    pub(super) held: VecDeque<Held>,
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
        let held = mem::take(&mut self.held).into_iter().map(|held| held.command);
        held.chain(mem::take(&mut self.leaseless)).collect()
    }

    /// When the first of them has waited for long enough.
    #[inline]
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.held.front().and_then(|held| held.until)
    }
}

impl Driver {
    /// There is somebody to ask: SETUP is accepted, or may be expected to be.
    pub(super) fn may_ask(&self) -> bool {
        self.admission.accept.is_none() && !self.is_renewing() && !self.is_holding()
    }

    /// Whether something waits until the server has shown that it takes the connection.
    pub(super) fn is_held_up(&self) -> bool {
        !self.waiting.held.is_empty() && self.is_holding()
    }

    /// Lets a command wait until there is somebody to ask.
    #[cold]
    pub(super) fn hold(&mut self, command: Command) {
        let until = match self.patience() {
            // Whoever closes waits for what was asked before.
            Some((wait, _)) if command.asks() => now().checked_add(wait),
            _ => None,
        };
        self.waiting.held.push_back(Held { command, until });
    }

    /// There is no connection: what waits for one does not wait for ever.
    pub(super) fn limit_held(&mut self, now: Instant) {
        let Some((wait, _)) = self.patience() else { return };
        let until = now.checked_add(wait);
        for held in &mut self.waiting.held {
            if held.until.is_none() && held.command.asks() {
                held.until = until;
            }
        }
    }

    /// Has what waits for a lease asked of another peer.
    pub(super) fn hold_leaseless(&mut self) {
        for command in mem::take(&mut self.waiting.leaseless) {
            self.hold(command);
        }
    }

    /// Looks at what was held: whether it may be done now, or has waited for too long.
    #[cold]
    pub(super) fn look_at_held(&mut self, now: Instant) {
        if self.has_held() {
            self.carry_out_held();
        } else if self.waiting.deadline().is_some_and(|until| until <= now)
            && self.ending.failing.is_empty()
        {
            self.fail_overdue(now);
        }
    }

    fn fail_overdue(&mut self, now: Instant) {
        let is_overdue = |held: &&Held| held.until.is_some_and(|until| until <= now);
        let overdue = self.waiting.held.iter().take_while(is_overdue).count();
        let commands = self.waiting.held.drain(..overdue).map(|held| held.command).collect();
        if let Some((waited, reason)) = self.patience() {
            self.fail_commands(reason, Some(waited), commands);
        }
        self.part_if_nothing_is_asked();
    }

    /// Carries out the end that was asked for behind other things, when nothing of them is left to be done.
    fn part_if_nothing_is_asked(&mut self) {
        let is_left = self.waiting.held.front().is_some_and(|held| !held.command.asks());
        if is_left && let Some(held) = self.waiting.held.pop_front() {
            self.carry_out(held.command);
        }
    }

    /// Whether what was held may be done now.
    pub(super) fn has_held(&self) -> bool {
        !self.waiting.held.is_empty() && self.may_ask() && !self.connection.is_over()
    }

    /// Does what was asked for while there was nobody to ask, a portion a poll and in its order: what is
    /// asked for meanwhile comes behind it.
    fn carry_out_held(&mut self) {
        let mut left = PORTION;
        while left > 0
            && self.has_held()
            && let Some(held) = self.waiting.held.pop_front()
        {
            self.handle_command(held.command);
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
        let mut forgotten: Vec<Command> = Vec::new();
        let Waiting { held, leaseless, .. } = &mut self.waiting;
        if held.iter().any(|held| held.command.is_cancelled()) {
            let (cancelled, wanted): (VecDeque<_>, _) =
                mem::take(held).into_iter().partition(|held| held.command.is_cancelled());
            forgotten.extend(cancelled.into_iter().map(|held| held.command));
            *held = wanted;
        }
        if leaseless.iter().any(Command::is_cancelled) {
            let (cancelled, wanted): (VecDeque<_>, _) =
                mem::take(leaseless).into_iter().partition(Command::is_cancelled);
            forgotten.extend(cancelled);
            *leaseless = wanted;
        }
        for command in forgotten {
            if let Command::Request { outgoing, permit, .. } = command {
                self.slots.give_back(permit);
                drop_guarded(outgoing);
            }
        }
        self.part_if_nothing_is_asked();
    }
}
