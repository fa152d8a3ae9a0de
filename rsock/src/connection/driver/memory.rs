//! The memory that a connection holds, told to the budget it shares with others, and when it does
//! not read because of it.

use std::{
    cmp::Reverse,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use rsock_proto::{ErrorCode, Role, StreamError, StreamKey, frame};

use super::{Driver, READ_SIZES};
use crate::{
    error::Error,
    memory::{Account, MemoryBudget},
    transport::Framing,
};

/// Bytes that may wait for a connection's consumers whatever memory there is.
const LEAST_WAITING: usize = 1 << 20;
/// How long consumers may take nothing while nothing is read because of what waits for them, and there
/// is memory for as much as may wait.
const STALL_LIMIT: Duration = Duration::from_secs(10);
/// When to look again whether there is memory.
const RETRY: Duration = Duration::from_millis(50);
/// How long a peer may take nothing of what is held for it, while there is next to no memory; and
/// consumers of what waits for them, and a frame wait for memory, where a connection has its share.
const SHORTAGE_LIMIT: Duration = Duration::from_secs(5);
/// The same while there is none at all, and others are refused.
const EXHAUSTION_LIMIT: Duration = Duration::from_secs(2);

/// Bytes that a running handler, its slot and its waker take, as far as can be told.
const HANDLER_BYTES: usize = 3 << 9;

/// Why nothing is read for now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pause {
    /// As much waits for consumers as may; so much did when one of them last took something.
    Consumers { waiting: usize, until: Instant },
    /// There is no memory for more of a long frame.
    Memory { since: Instant, until: Instant },
}

/// The time for which what is held waits for the peer: since when, how much had been written by
/// then, and when to look again whether there is more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stalled {
    since: Instant,
    written: u64,
    until: Instant,
}

/// The memory that a connection holds, and its waits for more.
pub(super) struct Memory {
    /// The share drawn from the budget of all.
    pub(super) account: Account,
    /// Requests are refused because there is no memory at all.
    refuses: bool,
    /// It may hold no more than the engine was told.
    is_limited: bool,
    /// Present where what is held waits for the peer.
    stalled: Option<Stalled>,
    /// Handlers yield nothing until then, when there may be memory for it.
    barren_until: Option<Instant>,
    /// Much has come since what is held was counted.
    pub(super) unsettled: bool,
    /// Nothing is read for now.
    pause: Option<Pause>,
    /// Bytes that wait for consumers who cannot be made to take them, and for which nobody waits.
    stuck_bytes: usize,
}

impl Memory {
    pub(super) fn new(budget: &Arc<MemoryBudget>) -> Self {
        Self {
            account: Account::new(Arc::clone(budget)),
            refuses: false,
            is_limited: false,
            stalled: None,
            barren_until: None,
            unsettled: false,
            pause: None,
            stuck_bytes: 0,
        }
    }

    /// Nothing is read for now.
    #[inline]
    pub(super) fn is_paused(&self) -> bool {
        self.pause.is_some()
    }

    /// Handlers yield nothing for now.
    #[inline]
    pub(super) fn is_barren(&self) -> bool {
        self.barren_until.is_some()
    }

    /// Whether time alone may change something.
    #[inline]
    pub(super) fn has_deadline(&self) -> bool {
        self.is_paused() || self.is_barren() || self.stalled.is_some()
    }
}

impl Driver {
    /// After a turn: how much the connection holds, and may hold. Blocks that somebody holds are charged
    /// where they are held. One that holds little may go on as before: what one turn brings is no more
    /// than a read.
    #[inline]
    pub(super) fn settle_memory(&mut self) {
        let beside = self.held_beside();
        let held = self.connection.held_bytes() + beside;
        if self.memory.account.counts(held)
            || self.wire.input.lent_bytes() > 0
            || self.memory.is_limited
        {
            self.count_held(held, beside);
        }
    }

    /// Whether there is memory for more than what handlers have yielded and the socket has not taken.
    pub(super) fn has_memory_to_yield(&mut self) -> bool {
        if self.memory.account.budget().is_under_pressure() {
            return false;
        }
        self.count_memory();
        !self.connection.is_memory_full()
    }

    /// Before handlers yield: whether there is any memory. If not, they wait for it: each item may be
    /// large, and there may be thousands of connections.
    #[inline]
    pub(super) fn has_memory_for_items(&mut self, now: Instant) -> bool {
        let is_exhausted = self.memory.account.budget().is_exhausted();
        if is_exhausted {
            self.meter.paused_for_memory();
            self.memory.barren_until = Some(now + RETRY);
        }
        !is_exhausted
    }

    /// Whether handlers may yield again is found out when they do.
    #[inline]
    pub(super) fn look_for_memory_again(&mut self, now: Instant) {
        if self.memory.barren_until.is_some_and(|until| until <= now) {
            self.memory.barren_until = None;
        }
    }

    fn count_memory(&mut self) {
        let beside = self.held_beside();
        let held = self.connection.held_bytes() + beside;
        self.count_held(held, beside);
    }

    fn count_held(&mut self, held: usize, beside: usize) {
        let lent = self.wire.input.lent_bytes();
        // One that holds little again is as free as before.
        if self.memory.account.holds(held) || lent > 0 || self.memory.is_limited {
            let is_little = !self.memory.account.is_drawn() && lent == 0;
            self.allow_memory(match self.memory.account.budget().allowance() {
                _ if is_little && !self.memory.refuses => usize::MAX,
                allowance => allowance.saturating_sub(beside + lent),
            });
        }
    }

    fn allow_memory(&mut self, bytes: usize) {
        self.memory.is_limited = bytes < usize::MAX;
        self.connection.allow_memory(bytes);
    }

    /// Before requests are taken: those of a connection that holds little are refused where there is no
    /// memory at all, and others by what there is now.
    #[inline]
    pub(super) fn look_for_memory(&mut self) {
        if self.memory.account.budget().is_exhausted() != self.memory.refuses
            || self.memory.is_limited
        {
            self.look_closer_for_memory();
        }
    }

    #[inline(never)]
    fn look_closer_for_memory(&mut self) {
        if self.memory.account.budget().is_exhausted() != self.memory.refuses {
            self.memory.refuses = !self.memory.refuses;
            self.allow_memory(if self.memory.refuses { 0 } else { usize::MAX });
        }
        if self.memory.is_limited {
            self.count_memory();
        }
    }

    /// Whether what is held has to be watched while the driver rests.
    #[inline]
    pub(super) fn watches_shortage(&self) -> bool {
        self.memory.account.is_drawn()
            || self.memory.stalled.is_some()
            || self.memory.account.leads_until().is_some()
    }

    /// The driver rests. Where next to no memory is left, a connection ends of which the peer has taken
    /// nothing for a while.
    #[inline(never)]
    pub(super) fn watch_shortage(&mut self, now: Instant) {
        if self.memory.account.leads_until().is_some() {
            self.memory.account.follows_from(now);
            if self.wire.partial_bytes() <= *READ_SIZES.end() {
                self.memory.account.follows();
            }
        }
        let waits = !self.wire.output.is_empty() || self.connection.is_suspended();
        if !waits || !self.memory.account.is_drawn() {
            self.memory.stalled = None;
            return;
        }
        // The pongs of a WebSocket are not among the bytes of the protocol: what counts is whether it
        // changes.
        let written = self.connection.stats().bytes_out.wrapping_sub(self.wire.output.len() as u64);
        let before = self.memory.stalled.filter(|stalled| stalled.written == written);
        if before.is_some_and(|stalled| stalled.until > now) {
            return;
        }
        let budget = self.memory.account.budget();
        let limit = if budget.is_exhausted() { EXHAUSTION_LIMIT } else { SHORTAGE_LIMIT };
        let since = before.map_or(now, |stalled| stalled.since);
        if budget.is_short() && now.saturating_duration_since(since) >= limit {
            self.meter.ended_for_memory();
            let text = "memory is short, and nothing of what is held was taken for a while";
            self.connection.end_with(ErrorCode::CONNECTION_ERROR, text);
            return;
        }
        self.memory.stalled = Some(Stalled { since, written, until: now + EXHAUSTION_LIMIT });
    }

    /// Gives back what there were places for and is not needed any more.
    #[inline]
    pub(super) fn release_places(&mut self) {
        self.connection.release_memory();
        let places = self.connection.places();
        if self.slots.entries.len() > places {
            self.slots.truncate(places);
        }
    }

    /// Bytes held beside those of the protocol engine, in memory that only this connection knows of.
    #[inline]
    fn held_beside(&self) -> usize {
        self.wire.output.len()
            + self.wire.input.waiting_bytes()
            + self.wire.framing.partial_memory()
            + self.mailbox.waiting().count()
            + self.connection.inbound_streams() * HANDLER_BYTES
    }

    /// Room for the next read; false if it has to wait for memory.
    #[inline]
    pub(super) fn make_room(&mut self, now: Instant) -> bool {
        let is_short = self.wire.framing.partial_bytes() <= *READ_SIZES.start();
        (self.wire.input.has_room() && is_short && self.memory.pause.is_none())
            || self.make_more_room(now)
    }

    #[cold]
    fn make_more_room(&mut self, now: Instant) -> bool {
        let partial = self.wire.framing.partial_bytes();
        if partial == 0
            && self.wire.input.waiting_bytes() == 0
            && self.memory.account.budget().is_overdrawn_with(*READ_SIZES.end())
        {
            // Room for as little as gets anywhere.
            self.wire.input.read_size = *READ_SIZES.start();
        }
        let framing = &self.wire.framing;
        let size = self.wire.input.wanted(|bytes| match framing {
            Framing::LengthPrefixed => frame::needed(bytes),
            #[cfg(feature = "websocket")]
            Framing::WebSocket(_) => None,
        });
        let bytes = size.max(partial);
        if bytes > *READ_SIZES.start() {
            // A message in parts doubles its memory when it grows beyond it.
            let more = size
                .saturating_sub(self.wire.input.waiting_bytes())
                .max(self.wire.input.read_size)
                .max(self.wire.framing.partial_memory());
            let budget = self.memory.account.budget();
            // One that is no longer than a read is taken at once, mostly, and refused if need be. There
            // may be thousands, and of each only a half.
            let is_long = bytes > *READ_SIZES.end();
            let fits = if is_long {
                let held = self.connection.held_bytes() + self.held_beside();
                held + self.wire.input.lent_bytes() + more <= budget.allowance()
            } else {
                !budget.is_overdrawn_with(more)
            };
            if fits {
                self.memory.account.follows();
            } else if !is_long || !self.memory.account.leads_with(more, now) {
                self.wait_for_memory(now);
                return false;
            }
        }
        if size > 0 {
            self.wire.input.make_room(size);
        }
        self.end_pause();
        true
    }

    /// There is no memory for more of a frame. One that has waited for too long ends its connection, or
    /// its transport where a session can go on on another.
    fn wait_for_memory(&mut self, now: Instant) {
        let since = match self.memory.pause {
            Some(Pause::Memory { since, .. }) => since,
            _ => {
                self.meter.paused_for_memory();
                now
            }
        };
        self.memory.pause = Some(Pause::Memory { since, until: now + RETRY });
        if now.saturating_duration_since(since) < SHORTAGE_LIMIT {
            return;
        }
        self.memory.pause = None;
        self.meter.ended_for_memory();
        let text = "memory is short: there is none for the rest of a frame";
        if self.connection.resume_token().is_some() {
            self.disconnect(Some(io::Error::other(text)), now);
        } else {
            self.connection.end_with(ErrorCode::CONNECTION_ERROR, text);
        }
    }

    /// Whether nothing is read for now.
    #[inline]
    pub(super) fn is_paused(&mut self, now: Instant) -> bool {
        let waiting = self.mailbox.waiting().count();
        if waiting < LEAST_WAITING && self.memory.pause.is_none() {
            false
        } else {
            self.pauses(waiting, now)
        }
    }

    #[cold]
    fn pauses(&mut self, waiting: usize, now: Instant) -> bool {
        let allowance = self.memory.account.budget().allowance();
        let most = self.options.max_waiting_bytes.min(allowance.max(LEAST_WAITING));
        let is_scarce = most < self.options.max_waiting_bytes;
        let limit = if is_scarce { SHORTAGE_LIMIT } else { STALL_LIMIT };
        self.memory.stuck_bytes = self.memory.stuck_bytes.min(waiting);
        if waiting - self.memory.stuck_bytes < most {
            if let Some(Pause::Memory { until, .. }) = self.memory.pause {
                self.connection.handle_pause(now);
                return until > now;
            }
            self.end_pause();
            return false;
        }
        self.connection.handle_pause(now);
        match self.memory.pause {
            Some(Pause::Consumers { waiting: before, until }) if waiting >= before => {
                if until <= now {
                    if self.holds_up_others() {
                        return self.give_up_greediest(waiting, most, limit);
                    }
                    self.memory.pause = Some(Pause::Consumers { waiting, until: now + limit });
                }
            }
            before => {
                if !matches!(before, Some(Pause::Consumers { .. })) {
                    self.meter.paused_for_consumers();
                }
                // One of them may have taken something before it could see that it is waited for.
                let waiting = self.mailbox.waiting().pause();
                self.memory.pause = Some(Pause::Consumers { waiting, until: now + limit });
                return waiting - self.memory.stuck_bytes.min(waiting) >= most;
            }
        }
        true
    }

    /// It is read again, or there is another transport to be read.
    pub(super) fn end_pause(&mut self) {
        if let Some(Pause::Consumers { .. }) = self.memory.pause.take() {
            self.mailbox.waiting().go_on();
        }
    }

    /// Whether anybody but one consumer may wait for what is not read. A client that has asked for one
    /// stream, and answers nothing, may take as long as it likes, while there is memory.
    fn holds_up_others(&self) -> bool {
        self.connection.role() == Role::Server
            || self.serving.responder.is_some()
            || self.connection.open_streams() > 1
            || self.calls.has_pings()
            || self.memory.account.budget().is_short()
    }

    /// Nobody has taken anything for too long: the streams for which most waits fail, as many as it
    /// takes, so that others on this connection go on. False: reading goes on.
    #[cold]
    fn give_up_greediest(&mut self, mut waiting: usize, most: usize, limit: Duration) -> bool {
        let of_slots = self.slots.entries.iter().filter_map(|slot| {
            let waiting = slot.inlet.as_ref()?.waiting_bytes();
            (waiting > 0).then_some((waiting, slot.key?))
        });
        let mut streams: Vec<_> = of_slots.collect();
        streams.sort_unstable_by_key(|(waiting, _)| Reverse(*waiting));
        for (bytes, key) in streams {
            // There is to be room for more of the others.
            if waiting.saturating_sub(self.memory.stuck_bytes) <= most / 2 {
                break;
            }
            self.give_up_stream(key, bytes, limit);
            waiting = waiting.saturating_sub(bytes);
        }
        if waiting.saturating_sub(self.memory.stuck_bytes) >= most {
            // It waits in what has ended, or was taken and is not consumed: nothing can be done but to
            // let the others go on.
            self.memory.stuck_bytes = waiting;
        }
        self.end_pause();
        false
    }

    fn give_up_stream(&mut self, key: StreamKey, bytes: usize, limit: Duration) {
        let text: Arc<str> = format!(
            "{bytes} bytes of its items waited, and nothing was taken for {limit:?}: the \
             connection could not be read for others"
        )
        .into();
        let slot = &mut self.slots.entries[key.index()];
        let is_ours = slot.permit.is_some();
        if let Some(inlet) = slot.inlet.take() {
            let (released, consumer) = inlet.give_up(Error::Canceled(Arc::clone(&text)));
            self.mailbox.released(released);
            self.slots.consumers.extend(consumer);
        }
        if let Some(mut stream) = self.connection.stream(key) {
            if is_ours {
                stream.cancel();
            } else {
                // If our half has ended already, there is nothing left to say.
                let _ = stream.fail(StreamError::new(ErrorCode::CANCELED, text));
            }
        }
        self.slots.release(key);
        self.meter.given_up_stream();
    }

    /// When to look again whether to read, and whether the peer takes what is held.
    pub(super) fn memory_deadline(&self) -> Option<Instant> {
        // What is not read for another reason is not waited for here.
        let pause =
            self.memory.pause.filter(|_| self.connection.wants_input()).map(|pause| match pause {
                Pause::Consumers { until, .. } | Pause::Memory { until, .. } => until,
            });
        let stalled = self.memory.stalled.map(|stalled| stalled.until);
        let others = [stalled, self.memory.barren_until, self.memory.account.leads_until()];
        pause.into_iter().chain(others.into_iter().flatten()).min()
    }
}
