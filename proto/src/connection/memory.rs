//! The memory that a connection holds, and how much of it its owner allows.

use std::time::Instant;

use crate::{
    connection::{Connection, Streams},
    frame::{InputLimits, Interaction},
};

/// The memory of an open stream at its responder beside payloads, whatever its handler keeps.
const STREAM_COST: usize = Streams::PLACE_BYTES + 256;

/// Bytes of a request that is taken although there is no memory.
const SMALL_REQUEST: usize = 4 << 10;

impl Connection {
    /// Bytes held for the peer: its open requests, payloads of which fragments have come, items that
    /// wait to be sent, frames retained for a resume, KEEPALIVE replies, and what the table of streams
    /// takes.
    pub fn held_bytes(&self) -> usize {
        self.streams.inbound_bytes()
            + self.streams.reassembly_memory()
            + self.streams.unsent_bytes()
            + self.streams.places() * STREAM_COST
            + self.session.as_ref().map_or(0, |session| session.retained.memory())
            + self.echo_bytes
    }

    /// Allows the connection to hold so many bytes: beyond, requests are refused with
    /// ERROR\[REJECTED\], fragmented payloads given up, and no more is retained than the peer
    /// acknowledges. Nothing that is held is dropped. Without limit until it is called.
    ///
    /// For an owner of many connections, whose memory they share.
    pub fn allow_memory(&mut self, bytes: usize) {
        self.allowance = bytes;
        if let Some(session) = &mut self.session {
            session.retained.allow(bytes);
        }
    }

    /// Gives memory back that is not needed any more; call when there is nothing to do for now.
    #[inline]
    pub fn release_memory(&mut self) {
        self.streams.give_back_places();
    }

    /// Frees some of what a connection that is over still holds of its streams and of its session:
    /// at most `max` of them. How many: less than `max` when nothing is left.
    ///
    /// The end of thousands of streams takes long enough for others to notice. It may be done by and
    /// by; what nobody frees so is freed with the connection.
    pub fn free_some(&mut self, max: usize) -> usize {
        if !self.is_over() {
            return 0;
        }
        let freed = self.streams.free_some(max);
        let retained = self.session.as_mut().map(|session| &mut session.retained);
        freed + retained.map_or(0, |retained| retained.free_some(max - freed))
    }

    /// Places there is memory for in the table of streams: all streams have a
    /// [`StreamKey::index`](crate::StreamKey::index) below.
    #[inline]
    pub fn places(&self) -> usize {
        self.streams.places()
    }

    /// Whether as much is held as may be.
    pub fn is_memory_full(&self) -> bool {
        self.held_bytes() > self.allowance
    }

    /// The owner does not read for now: that nothing comes says nothing of the peer (KA-10), nor of
    /// what has come in part.
    pub fn handle_pause(&mut self, now: Instant) {
        self.parts.postpone(self.config.part_timeout, now);
        if let Some(clock) = &mut self.keepalive {
            clock.received(now);
        }
    }

    /// Whether a request of so many bytes may be taken. A small one that is answered once is taken of
    /// whoever has nothing else open, memory or not: nobody is shut out by what others hold.
    #[inline]
    pub(super) fn may_take(&self, interaction: Interaction, bytes: usize) -> bool {
        self.may_hold(bytes) || self.may_take_one(interaction, bytes)
    }

    #[cold]
    fn may_take_one(&self, interaction: Interaction, bytes: usize) -> bool {
        !interaction.has_initial_n()
            && bytes <= SMALL_REQUEST
            && self.streams.len() == 0
            && self.streams.unsent_bytes() == 0
    }

    /// Whether so many bytes more may be held.
    #[inline]
    pub(super) fn may_hold(&self, bytes: usize) -> bool {
        // Nearly all connections hold little, and have no allowance.
        self.allowance == usize::MAX || self.held_bytes() + bytes + STREAM_COST <= self.allowance
    }

    /// Frames of fewer bytes get memory of their own from now on; longer ones share the input's.
    ///
    /// For an owner whose reads are large or many: a short frame keeps all that it was read with.
    pub fn copy_frames_below(&mut self, bytes: usize) {
        self.copy_below = bytes;
    }

    /// Limits for the next frame that is taken off an input.
    pub fn input_limits(&self) -> InputLimits {
        let mut max_frame_bytes = self.config.max_frame_bytes;
        if self.awaits_setup() {
            max_frame_bytes = max_frame_bytes.min(self.config.max_setup_bytes);
        }
        InputLimits { max_frame_bytes, copy_below: self.copy_below }
    }
}
