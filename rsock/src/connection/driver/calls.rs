//! The calls of handles that have no stream: pings and metadata pushes.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
};

use bytes::Bytes;
use rsock_proto::ControlError;

use super::{Answer, Driver};
use crate::{
    connection::{Permit, mailbox::Caller},
    error::{Error, Sent},
};

/// The pings that were not answered, and the pushes that have not left.
#[derive(Default)]
pub(super) struct Calls {
    /// By the number in the data of their KEEPALIVE.
    pings: BTreeMap<u64, Caller>,
    /// How many there were so far.
    pinged: u64,
    /// Metadata pushes of ours that are not in the send buffer yet; for some of them nobody waits.
    pushes: VecDeque<Option<Caller>>,
}

impl Calls {
    pub(super) fn has_pings(&self) -> bool {
        !self.pings.is_empty()
    }

    #[inline]
    pub(super) fn has_pushes(&self) -> bool {
        !self.pushes.is_empty()
    }

    /// All of them, to fail. What is asked after them has other numbers.
    pub(super) fn take_all(&mut self) -> Self {
        Self {
            pings: mem::take(&mut self.pings),
            pinged: self.pinged,
            pushes: mem::take(&mut self.pushes),
        }
    }

    /// The next of them, and whether it can have left. Of a push that is still here nothing was encoded;
    /// whether a ping had left is not looked at, since another in its place does no harm.
    pub(super) fn take_next(&mut self) -> Option<(Option<Caller>, Sent)> {
        if let Some((_, caller)) = self.pings.pop_first() {
            return Some((Some(caller), Sent::Maybe));
        }
        self.pushes.pop_front().map(|caller| (caller, Sent::Never))
    }
}

impl Driver {
    /// Sends a METADATA_PUSH.
    pub(super) fn push(&mut self, metadata: Bytes, caller: Option<Caller>) {
        match self.connection.push_metadata(metadata) {
            Ok(()) => self.calls.pushes.push_back(caller),
            Err(error) => {
                if let Some((answer, permit)) = caller {
                    self.refuse(answer, permit, error);
                }
            }
        }
    }

    /// Sends a KEEPALIVE of a handle's.
    pub(super) fn start_ping(&mut self, answer: Answer, permit: Permit) {
        self.calls.pinged += 1;
        self.ping(self.calls.pinged, answer, permit);
    }

    /// Sends a KEEPALIVE. While there is no transport it waits for the next.
    fn ping(&mut self, number: u64, answer: Answer, permit: Permit) {
        if !self.connection.has_transport() {
            self.calls.pings.insert(number, (answer, permit));
            return;
        }
        // KEEPALIVE overtakes streams: what was asked for before it is written first.
        self.connection.poll_transmit(&mut self.wire.output);
        self.answer_pushes();
        match self.connection.ping(Bytes::copy_from_slice(&number.to_be_bytes())) {
            Ok(()) => drop(self.calls.pings.insert(number, (answer, permit))),
            Err(error) => self.refuse(answer, permit, error),
        }
    }

    /// There is another transport: what was under way on the one before has no answer.
    pub(super) fn ping_again(&mut self) {
        for (number, (answer, permit)) in mem::take(&mut self.calls.pings) {
            self.ping(number, answer, permit);
        }
    }

    fn refuse(&mut self, answer: Answer, permit: Permit, error: ControlError) {
        self.slots.give_back(permit);
        let error = match (error, self.mailbox.refusing()) {
            (ControlError::Closed, Some(reason)) => Error::never_sent(reason),
            (error, _) => error.into(),
        };
        // Whoever asked may have gone.
        let _ = answer.send(Err(error));
    }

    /// Pushes that have left for the send buffer are on their way.
    pub(super) fn answer_pushes(&mut self) {
        while self.calls.pushes.len() > self.connection.unsent_pushes()
            && let Some(caller) = self.calls.pushes.pop_front()
        {
            if let Some((answer, permit)) = caller {
                self.slots.give_back(permit);
                // As above.
                let _ = answer.send(Ok(()));
            }
        }
    }

    /// The answer to a ping has come.
    pub(super) fn answer_ping(&mut self, data: &[u8]) {
        let Ok(number) = data.try_into().map(u64::from_be_bytes) else { return };
        if let Some((answer, permit)) = self.calls.pings.remove(&number) {
            self.slots.give_back(permit);
            // Whoever asked may have gone.
            let _ = answer.send(Ok(()));
        }
    }
}
