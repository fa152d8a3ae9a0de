//! What a connection holds, told to the budget it shares with others, and when it does not read
//! because of it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rsock_proto::{ErrorCode, StreamError, frame};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Driver, READ_SIZES};
use crate::{error::Error, transport::Framing};

/// Bytes that may wait for a connection's consumers whatever memory there is.
const LEAST_WAITING: usize = 1 << 20;
/// How long consumers may take nothing while nothing is read because of what waits for them.
const STALL_LIMIT: Duration = Duration::from_secs(10);
/// When to look again whether there is memory.
const RETRY: Duration = Duration::from_millis(50);

/// Bytes that a running handler, its slot and its waker take, as far as can be told.
const HANDLER_BYTES: usize = 1 << 10;

/// Why nothing is read for now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pause {
    /// As much waits for consumers as may; so much did when one of them last took something.
    Consumers { waiting: usize, until: Instant },
    /// There is no memory for more of a long frame.
    Memory { until: Instant },
}

impl<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static> Driver<IO> {
    /// After a turn: how much the connection holds, and may hold. Blocks that somebody holds are charged
    /// where they are held. One that holds little may go on as before: what one turn brings is no more
    /// than a read.
    #[inline]
    pub(super) fn settle_memory(&mut self) {
        let holds = self.connection.open_streams() > 0
            || self.mailbox.waiting_bytes() > 0
            || !self.output.is_empty()
            || !self.input.block.bytes.is_empty()
            || self.account.is_drawn()
            || self.input.lent_bytes() > 0
            || self.connection.resume_token().is_some();
        if holds {
            self.count_memory();
        }
    }

    fn count_memory(&mut self) {
        let beside = self.held_beside();
        let held = self.connection.held_bytes() + beside;
        let lent = self.input.lent_bytes();
        if self.account.holds(held) || lent > 0 {
            let is_little = !self.account.is_drawn() && lent == 0;
            let allowance = if is_little { usize::MAX } else { self.account.budget().allowance() };
            self.connection.allow_memory(allowance.saturating_sub(beside + lent));
        }
    }

    /// Gives back what there were places for and is not needed any more.
    pub(super) fn release_places(&mut self) {
        self.connection.release_memory();
        let places = self.connection.places();
        if self.slots.len() > places {
            // Slots are found by the places of streams: there is nothing in those beyond.
            self.slots.truncate(places);
            self.slots.shrink_to_fit();
            self.slot_wakers.truncate(places);
        }
    }

    /// Bytes held beside those of the protocol engine, in memory that only this connection knows of.
    fn held_beside(&self) -> usize {
        self.output.len()
            + self.input.waiting_bytes()
            + self.mailbox.waiting_bytes()
            + self.connection.inbound_streams() * HANDLER_BYTES
    }

    /// Room for the next read; false if it has to wait for memory.
    pub(super) fn make_room(&mut self, now: Instant) -> bool {
        let framing = &self.framing;
        let size = self.input.wanted(|bytes| match framing {
            Framing::LengthPrefixed => frame::needed(bytes),
            #[cfg(feature = "websocket")]
            Framing::WebSocket(_) => None,
        });
        if size == 0 {
            return true;
        }
        if size > *READ_SIZES.end() {
            let held = self.connection.held_bytes() + self.held_beside() + self.input.lent_bytes();
            let more = size.saturating_sub(self.input.waiting_bytes());
            if held + more > self.account.budget().allowance() {
                if self.pause.is_none() {
                    self.meter.paused_for_memory();
                }
                self.pause = Some(Pause::Memory { until: now + RETRY });
                return false;
            }
        }
        self.input.make_room(size);
        true
    }

    /// Whether nothing is read for now.
    #[inline]
    pub(super) fn is_paused(&mut self, now: Instant) -> bool {
        let waiting = self.mailbox.waiting_bytes();
        if waiting < LEAST_WAITING && self.pause.is_none() {
            false
        } else {
            self.pauses(waiting, now)
        }
    }

    #[cold]
    fn pauses(&mut self, waiting: usize, now: Instant) -> bool {
        let allowance = self.account.budget().allowance();
        let most = self.options.max_waiting_bytes.min(allowance.max(LEAST_WAITING));
        self.stuck_bytes = self.stuck_bytes.min(waiting);
        if waiting - self.stuck_bytes < most {
            match self.pause {
                Some(Pause::Memory { until }) if until > now => return true,
                Some(Pause::Consumers { .. }) => self.mailbox.go_on(),
                _ => {}
            }
            self.pause = None;
            return false;
        }
        self.connection.handle_pause(now);
        match self.pause {
            Some(Pause::Consumers { waiting: before, until }) if waiting >= before => {
                if until <= now {
                    return self.give_up_greediest(waiting, now);
                }
            }
            before => {
                if !matches!(before, Some(Pause::Consumers { .. })) {
                    self.meter.paused_for_consumers();
                }
                // One of them may have taken something before it could see that it is waited for.
                let waiting = self.mailbox.pause();
                self.pause = Some(Pause::Consumers { waiting, until: now + STALL_LIMIT });
                return waiting - self.stuck_bytes.min(waiting) >= most;
            }
        }
        true
    }

    /// Nobody has taken anything for too long: the stream for which most waits fails, so that others
    /// on this connection go on. False if there is none, and reading goes on.
    fn give_up_greediest(&mut self, waiting: usize, now: Instant) -> bool {
        let of_slots = self.slots.iter().filter_map(|slot| {
            let waiting = slot.inlet.as_ref()?.waiting_bytes();
            Some((waiting, slot.key?))
        });
        let greediest =
            of_slots.filter(|(waiting, _)| *waiting > 0).max_by_key(|(waiting, _)| *waiting);
        let Some((bytes, key)) = greediest else {
            // It waits in what has ended, or was taken and is not consumed: nothing can be done but to
            // let the others go on.
            self.stuck_bytes = waiting;
            self.mailbox.go_on();
            self.pause = None;
            return false;
        };
        let text: Arc<str> = format!(
            "{bytes} bytes of its items waited, and nothing was taken for {STALL_LIMIT:?}: the \
             connection could not be read for others"
        )
        .into();
        let slot = &mut self.slots[key.index()];
        let is_ours = slot.permit.is_some();
        if let Some(inlet) = slot.inlet.take() {
            let (released, consumer) = inlet.give_up(Error::Canceled(Arc::clone(&text)));
            self.mailbox.released(released);
            self.consumers.extend(consumer);
        }
        if let Some(mut stream) = self.connection.stream(key) {
            if is_ours {
                stream.cancel();
            } else {
                // If our half has ended already, there is nothing left to say.
                let _ = stream.fail(StreamError::new(ErrorCode::CANCELED, text));
            }
        }
        self.release(key);
        self.meter.given_up_stream();
        self.pause = Some(Pause::Consumers {
            waiting: waiting.saturating_sub(bytes),
            until: now + STALL_LIMIT,
        });
        // Whether that was enough is seen with the next look.
        true
    }

    /// When to look again whether to read.
    pub(super) fn pause_deadline(&self) -> Option<Instant> {
        match self.pause? {
            Pause::Consumers { until, .. } | Pause::Memory { until } => Some(until),
        }
    }
}
