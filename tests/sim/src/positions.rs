//! Resume positions of one side, counted on the wire (RESUME-04 to RESUME-15).

use bytes::Bytes;

use crate::{
    broken::{Check, hold},
    wire::{Frame, kind},
};

/// The place of a frame in what its side has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It was never written before.
    New,
    /// It was, before a cut.
    Replay,
}

/// The tracked frames that one side has written and read.
#[derive(Debug)]
pub(crate) struct Positions {
    resumable: bool,
    /// Every tracked frame written, with the position at which it begins.
    log: Vec<(u64, Bytes)>,
    sent: u64,
    /// The position of the next tracked frame on this transport.
    next: u64,
    received: u64,
}

impl Positions {
    pub(crate) fn new(resumable: bool) -> Self {
        Self { resumable, log: Vec::new(), sent: 0, next: 0, received: 0 }
    }

    /// A frame is written.
    pub(crate) fn wrote(&mut self, frame: &Frame) -> Check<Place> {
        if frame.kind == kind::KEEPALIVE {
            let position = if self.resumable { self.received } else { 0 };
            hold!(
                frame.position() == position,
                Positions,
                "KA-06: {frame} where {position} bytes have come"
            );
        }
        if matches!(frame.kind, kind::RESUME | kind::RESUME_OK) {
            self.greets(frame)?;
        }
        if !self.resumable || !frame.is_tracked() {
            return Ok(Place::New);
        }
        let len = frame.raw.len() as u64;
        if self.next == self.sent {
            self.log.push((self.sent, frame.raw.clone()));
            self.sent += len;
            self.next = self.sent;
            return Ok(Place::New);
        }
        let at = self.log.partition_point(|(begin, _)| *begin < self.next);
        let same = self.log.get(at).is_some_and(|(_, raw)| *raw == frame.raw);
        hold!(same, Positions, "RESUME-13: at {} {frame} was not written before", self.next);
        self.next += len;
        Ok(Place::Replay)
    }

    /// A frame is read whole (RESUME-15).
    pub(crate) fn read(&mut self, frame: &Frame) -> Check {
        if !self.resumable {
            return Ok(());
        }
        if frame.is_tracked() {
            self.received += frame.raw.len() as u64;
        }
        // What the peer says it has: the next to be written.
        if matches!(frame.kind, kind::RESUME | kind::RESUME_OK) {
            let position = frame.position();
            let at = self.log.partition_point(|(begin, _)| *begin < position);
            let boundary = self.log.get(at).map_or(self.sent, |(begin, _)| *begin);
            hold!(boundary == position, Positions, "RESUME-15: {position} is inside of a frame");
            self.next = position;
        }
        Ok(())
    }

    /// Checks what a side says of itself in the handshake.
    fn greets(&self, frame: &Frame) -> Check {
        let (said, received) = (frame.position(), self.received);
        hold!(said == received, Positions, "RESUME-10, RESUME-12: {said} for {received}");
        let first = frame.first_available();
        hold!(first <= self.sent, Positions, "RESUME-10: {first} is not sent yet");
        Ok(())
    }

    /// The next is one that was written before.
    pub(crate) fn replays(&self) -> bool {
        self.next < self.sent
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    pub(crate) fn received(&self) -> u64 {
        self.received
    }
}
