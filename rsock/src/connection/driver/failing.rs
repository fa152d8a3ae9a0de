//! The end of all that hangs on a connection: told to whoever waits, a portion at a time.
//!
//! A peer ends thousands of streams with one frame. To drop their handlers and to wake their callers in
//! one poll would keep everybody else from the thread for as long as that takes.

use std::{collections::VecDeque, mem, time::Duration, vec};

use rsock_proto::{CloseReason, Connection, Fragmented};

use super::{Driver, calls::Calls, drop_guarded, slots::Slot};
use crate::{
    connection::{Command, Inlet, Permit, mailbox::Caller, producers::SlotWakers},
    error::{Error, Sent},
};

/// Streams, calls and whatever else is ended, or opened, by one frame of the peer before others may run.
pub(super) const PORTION: usize = 64;

/// The calls that hung on a connection, or a session, that is over.
pub(super) struct Failing {
    /// The reason that all who wait are told. It is shared, and not copied for each.
    pub(super) reason: CloseReason,
    /// The peer may have ended the connection because it cannot take fragments.
    pub(super) fragmented: Option<Fragmented>,
    /// There was no connection for so long, and there will be another.
    pub(super) waited: Option<Duration>,
    /// The commands of handles that were not carried out: nothing of them was sent.
    pub(super) commands: VecDeque<Command>,
    pub(super) slots: vec::IntoIter<Slot>,
    /// How much of what was written has left, where the rest never will.
    pub(super) taken: Option<u64>,
    pub(super) wakers: SlotWakers,
    pub(super) calls: Calls,
}

impl Failing {
    /// Ends the next, and counts its permit if it had one; false if there was none.
    fn end_next(&mut self, connection: &Connection, permits: &mut usize) -> bool {
        let permit = if let Some(command) = self.commands.pop_front() {
            self.end_command(command)
        } else if let Some(slot) = self.slots.next() {
            drop_guarded(slot.producer);
            // The connection is the one on which it was asked: what it held is freed after this, and
            // there is no other before.
            let is_unsent = slot.permit.is_some()
                && slot.key.is_some_and(|key| connection.is_unsent(key, self.taken));
            let sent = if is_unsent { Sent::Never } else { Sent::Maybe };
            self.tell(slot.inlet.as_deref(), sent);
            slot.permit
        } else if let Some((caller, sent)) = self.calls.take_next() {
            self.answer_caller(caller, sent)
        } else {
            return self.wakers.drop_last();
        };
        *permits += usize::from(permit.is_some());
        true
    }

    fn end_command(&self, command: Command) -> Option<Permit> {
        match command {
            Command::Request { inlet, outgoing, permit, .. } => {
                drop_guarded(outgoing);
                self.tell(inlet.as_deref(), Sent::Never);
                Some(permit)
            }
            Command::Push { caller, .. } => self.answer_caller(caller, Sent::Never),
            Command::Ping { answer, permit } => {
                self.answer_caller(Some((answer, permit)), Sent::Never)
            }
            Command::Demanded(_)
            | Command::Watch { .. }
            | Command::Beat
            | Command::Shorten(_)
            | Command::Look { .. }
            | Command::Drain
            | Command::Retire
            | Command::Close
            | Command::End(_) => None,
        }
    }

    fn answer_caller(&self, caller: Option<Caller>, sent: Sent) -> Option<Permit> {
        let (answer, permit) = caller?;
        // Whoever asked may have gone.
        let _ = answer.send(Err(self.error(sent)));
        Some(permit)
    }

    fn tell(&self, inlet: Option<&Inlet>, sent: Sent) {
        if let Some(consumer) = inlet.and_then(|inlet| inlet.end(Err(self.error(sent)))) {
            consumer.wake();
        }
    }

    fn error(&self, sent: Sent) -> Error {
        let reason = self.reason.clone();
        match self.waited {
            Some(waited) => Error::Unavailable { waited, reason },
            None => Error::Closed { reason, sent, fragmented: self.fragmented },
        }
    }
}

impl Driver {
    /// All that has a stream, or waits for an answer, fails for this reason: a portion now, the rest by
    /// and by, with [`fail_some`](Self::fail_some). `commands` is what was asked for and not done.
    pub(super) fn fail_all(&mut self, reason: CloseReason, commands: VecDeque<Command>) {
        let (slots, wakers) = self.slots.take_all();
        // Of a transport that is there, what is left is written yet.
        let taken = self.wire.unreachable.then(|| self.wire.output.taken());
        self.ending.lost += slots.iter().filter(|slot| slot.is_promised()).count() as u64
            + commands.iter().filter(|command| command.is_promised()).count() as u64
            + self.connection.take_lost_fire_and_forgets();
        self.ending.failing.push(Failing {
            reason,
            fragmented: self.ended_behind(),
            waited: None,
            commands,
            slots: slots.into_iter(),
            taken,
            wakers,
            calls: self.calls.take_all(),
        });
        self.fail_some();
    }

    /// The connection is over: nothing is taken of handles any more, and everything pending fails with
    /// the reason.
    pub(super) fn close_mailbox(&mut self, reason: &CloseReason) {
        let mut commands = self.waiting.take_all();
        commands.extend(self.mailbox.close(reason));
        // What the peer has said before may explain it better.
        let reason = self.mailbox.refusing().unwrap_or_else(|| reason.clone());
        self.fail_all(reason, commands);
    }

    /// Nothing new is asked of the peer from here on, for this reason: what waits for a lease fails.
    pub(super) fn refuse_new(&mut self, reason: &CloseReason) {
        self.mailbox.refuse(reason);
        if self.waiting.leaseless.is_empty() {
            return;
        }
        let commands = mem::take(&mut self.waiting.leaseless);
        self.fail_commands(reason.clone(), None, commands);
    }

    /// Fails what was asked for and not begun, for this reason: it has waited for as long as it may, or
    /// the connection has ended.
    pub(super) fn fail_commands(
        &mut self,
        reason: CloseReason,
        waited: Option<Duration>,
        commands: VecDeque<Command>,
    ) {
        self.ending.failing.push(Failing {
            reason,
            fragmented: None,
            waited,
            commands,
            slots: Vec::new().into_iter(),
            taken: None,
            wakers: SlotWakers::default(),
            calls: Calls::default(),
        });
        self.fail_some();
    }

    /// Ends a portion of what is to fail, and frees what the protocol engine held of it; true if more
    /// is left.
    #[cold]
    pub(super) fn fail_some(&mut self) -> bool {
        let mut left = PORTION;
        if let Some(observer) = self.mailbox.observer() {
            observer.set_ending(true);
        }
        while left > 0
            && let Some(failing) = self.ending.failing.last_mut()
        {
            // What streams held is freed when all of them have been told.
            if failing.end_next(&self.connection, &mut self.slots.unused_permits)
                || (self.ending.failing.len() == 1 && self.connection.free_some(1) > 0)
            {
                left -= 1;
            } else {
                self.ending.failing.pop();
            }
        }
        if let Some(observer) = self.mailbox.observer() {
            observer.set_ending(false);
        }
        !self.ending.failing.is_empty()
    }
}
