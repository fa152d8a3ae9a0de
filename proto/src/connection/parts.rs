//! Frames and payloads of which a part has come: whether the rest is on its way.
//!
//! A part is memory that somebody else decides about. It is looked at from time to time, and what
//! has not grown since the look before is given up.

use std::time::{Duration, Instant};

use crate::{
    connection::Connection,
    error::Violation,
    stream::{StreamKey, Unjoinable},
};

/// Bytes by which a part must have grown between two looks, unless it is whole by then.
pub(crate) const LEAST_GROWTH: usize = 1 << 10;

/// When parts are looked at, and the frame that is incomplete.
#[derive(Debug, Default)]
pub(super) struct PartClock {
    /// The next look; `None` while there is nothing to look at.
    pub(super) due: Option<Instant>,
    frame: Option<PartialFrame>,
}

/// A frame of which not all bytes have come.
#[derive(Debug)]
struct PartialFrame {
    /// Whole frames received before it, which tell it from another.
    number: u64,
    bytes: usize,
    /// How many there were at the last look, if there was one.
    seen: Option<usize>,
}

impl PartialFrame {
    fn has_stalled(&self) -> bool {
        self.seen.is_some_and(|seen| self.bytes < seen + LEAST_GROWTH)
    }
}

impl PartClock {
    /// Something has come in part.
    pub(super) fn begin(&mut self, timeout: Duration, now: Instant) {
        if self.due.is_none() {
            self.due = Some(now + timeout);
        }
    }

    /// There is another transport: nothing of a frame is left, and payloads had no time to come.
    pub(super) fn restart(&mut self, timeout: Duration, now: Instant) {
        self.frame = None;
        self.postpone(timeout, now);
    }

    /// Nothing more could come until now.
    pub(super) fn postpone(&mut self, timeout: Duration, now: Instant) {
        self.due = self.due.map(|_| now + timeout);
    }
}

impl Connection {
    /// So many bytes have come of a frame that is not whole, 0 if there is none. Call after each
    /// read of a transport that is not read by [`handle_bytes`](Self::handle_bytes).
    ///
    /// More of a frame is a sign of life: no KEEPALIVE can pass a frame that takes long (KA-09).
    #[inline]
    pub fn handle_incomplete(&mut self, bytes: usize, now: Instant) {
        if bytes > 0 {
            self.note_incomplete(bytes, now);
        } else {
            self.parts.frame = None;
        }
    }

    fn note_incomplete(&mut self, bytes: usize, now: Instant) {
        let number = self.stats.frames_in;
        let frame = match &mut self.parts.frame {
            Some(frame) if frame.number == number => frame,
            frame => frame.insert(PartialFrame { number, bytes: 0, seen: None }),
        };
        if bytes > frame.bytes {
            frame.bytes = bytes;
            if let Some(clock) = &mut self.keepalive {
                clock.received(now);
            }
        }
        self.parts.begin(self.config.part_timeout, now);
    }

    /// Looks at what has come in part, if it is time to.
    pub(super) fn look_at_parts(&mut self, now: Instant) {
        if self.parts.due.is_none_or(|due| due > now) {
            return;
        }
        self.parts.due = None;
        if let Some(frame) = &mut self.parts.frame {
            if frame.has_stalled() {
                let bytes = frame.bytes;
                self.stats.stalled_parts += 1;
                let timeout = self.config.part_timeout;
                return self.handle_violation(Violation::FrameStalled { bytes, timeout }, now);
            }
            frame.seen = Some(frame.bytes);
        }
        let mut stalled: Vec<StreamKey> = Vec::new();
        let is_assembling = self.streams.look_at_assemblies(&mut stalled);
        for key in stalled {
            self.stats.stalled_parts += 1;
            self.give_up_assembly(key, Unjoinable::Stalled);
        }
        if self.parts.frame.is_some() || is_assembling {
            self.parts.begin(self.config.part_timeout, now);
        }
    }
}
