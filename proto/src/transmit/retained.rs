//! Tracked frames that the peer may not have: what a resume sends again (section 2.17).

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::{
    frame::{frame_len, u24_bytes},
    transmit::send_buf::SendBuf,
};

/// Frames are copied, small ones into blocks of this size: a payload may be a slice of much more, and
/// how much of that it keeps cannot be told.
const BLOCK_BYTES: usize = 8 << 10;

/// Frames from this length on have memory of their own, so that little of a block is left unused.
const LONG_FRAME: usize = 1 << 10;

/// Bytes that may be retained whatever memory there is.
const LEAST_ALLOWED: usize = 4 << 10;

/// What a frame costs beside its bytes.
const FRAME_COST: usize = size_of::<Kept>();

/// One side's tracked frames, from the first the peer may still need to the last one produced.
///
/// A position counts bytes of tracked frames, without transport prefixes; it names the byte after
/// the last one covered (RESUME-05, RESUME-08).
#[derive(Debug)]
pub(crate) struct Retained {
    frames: VecDeque<Kept>,
    /// The position of the first frame here; rises as frames go (RESUME-36).
    first: u64,
    /// The position behind the last frame.
    sent: u64,
    /// How many of the frames the present transport has been given.
    written: usize,
    /// Bytes held, the cost of each frame included.
    held_bytes: usize,
    max_bytes: usize,
    /// As many as the owner of the connection has memory for.
    allowance: usize,
    block: BytesMut,
    /// Where fire-and-forgets end that are not acknowledged; no more than `frames`.
    fire_and_forgets: VecDeque<u64>,
}

#[derive(Debug)]
struct Kept {
    /// Its position.
    at: u64,
    /// The frame, without a transport's prefix: memory of its own or a part of a block.
    frame: Bytes,
}

impl Retained {
    /// Nothing yet. Holds at most `max_bytes` and one frame more.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            frames: VecDeque::new(),
            first: 0,
            sent: 0,
            written: 0,
            held_bytes: 0,
            max_bytes,
            allowance: usize::MAX,
            block: BytesMut::new(),
            fire_and_forgets: VecDeque::new(),
        }
    }

    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// No more may be added before some are gone (RESUME-37).
    pub(crate) fn is_full(&self) -> bool {
        self.held_bytes >= self.most()
    }

    /// How many bytes may be held: what the session may, as far as there is memory. A little is always
    /// allowed, so that it goes on however slowly.
    fn most(&self) -> usize {
        self.max_bytes.min(self.allowance.max(LEAST_ALLOWED))
    }

    /// Sets for how many bytes there is memory; those held beyond them stay.
    pub(crate) fn allow(&mut self, bytes: usize) {
        self.allowance = bytes;
    }

    /// Enough is held that the peer should be asked what it has.
    pub(crate) fn is_half_full(&self) -> bool {
        self.held_bytes >= self.most() / 2
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// What was kept last is the end of a fire-and-forget.
    pub(crate) fn end_fire_and_forget(&mut self) {
        self.fire_and_forgets.push_back(self.sent);
    }

    /// Fire-and-forgets that the peer has not acknowledged.
    pub(crate) fn fire_and_forgets(&self) -> usize {
        self.fire_and_forgets.len()
    }

    /// Whether a peer can have got as far as this position, and everything from there on can be sent
    /// again: it is the start of a frame here, or the end of the last that a transport was given.
    pub(crate) fn is_available(&self, position: u64) -> bool {
        self.index_of(position).is_some_and(|count| count <= self.written)
    }

    fn index_of(&self, position: u64) -> Option<usize> {
        if position == self.sent {
            return Some(self.frames.len());
        }
        self.frames.binary_search_by_key(&position, |frame| frame.at).ok()
    }

    /// The peer has everything before this position. True if that freed something; a position
    /// that cannot be is ignored (RESUME-34, RESUME-35).
    pub(crate) fn acknowledge(&mut self, position: u64) -> bool {
        let Some(count) = self.index_of(position).filter(|count| *count > 0) else { return false };
        // What the transport was not given cannot have arrived.
        if count > self.written {
            return false;
        }
        self.drop_oldest(count);
        true
    }

    /// Gives up the oldest frames that were written, until there is room for more; how many.
    pub(crate) fn overflow(&mut self) -> u64 {
        let mut dropped = 0;
        while self.is_full() && self.written > 0 {
            self.drop_oldest(1);
            dropped += 1;
        }
        dropped
    }

    fn drop_oldest(&mut self, count: usize) {
        for frame in self.frames.drain(..count) {
            self.held_bytes -= frame.frame.len() + FRAME_COST;
            self.first = frame.at + frame.frame.len() as u64;
        }
        self.written -= count;
        while self.fire_and_forgets.front().is_some_and(|end| *end <= self.first) {
            self.fire_and_forgets.pop_front();
        }
        if self.frames.is_empty() {
            // Gives memory back after a burst.
            self.frames = VecDeque::new();
            self.block = BytesMut::new();
            self.fire_and_forgets = VecDeque::new();
        }
    }

    /// Gives up at most so many of the oldest frames, of a session that is over; how many.
    pub(crate) fn free_some(&mut self, max: usize) -> usize {
        let freed = max.min(self.frames.len());
        // Nothing is written any more.
        self.written = self.frames.len();
        self.drop_oldest(freed);
        freed
    }

    /// A new transport has been given nothing yet, and its peer has all before this position, which
    /// is available.
    pub(crate) fn rewind(&mut self, position: u64) {
        if let Some(count) = self.index_of(position) {
            self.written = count;
            self.drop_oldest(count);
        }
    }

    /// Frames the present transport has not been given.
    pub(crate) fn unwritten(&self) -> usize {
        self.frames.len() - self.written
    }

    /// Gives the transport the next such frame again, byte for byte (RESUME-13).
    pub(crate) fn write_next(&mut self, out: &mut SendBuf) {
        let Some(frame) = self.frames.get(self.written) else { return };
        out.begin(frame.frame.len());
        out.put_body(frame.frame.clone());
        out.end();
        self.written += 1;
    }

    /// Adds a frame; `is_written` if the present transport is given it as well.
    pub(crate) fn keep(
        &mut self,
        head: &[u8],
        metadata: Option<&Bytes>,
        data: &Bytes,
        is_written: bool,
    ) {
        let len = frame_len(head.len(), metadata, data);
        // Whatever shares memory with others is copied: how much that keeps cannot be told.
        let mut own = BytesMut::new();
        let memory = if len >= LONG_FRAME {
            own.reserve(len);
            &mut own
        } else {
            if self.block.capacity() < len {
                self.block = BytesMut::with_capacity(BLOCK_BYTES);
            }
            &mut self.block
        };
        memory.extend_from_slice(head);
        if let Some(metadata) = metadata {
            memory.extend_from_slice(&u24_bytes(metadata.len()));
            memory.extend_from_slice(metadata);
        }
        memory.extend_from_slice(data);
        let frame = memory.split().freeze();
        self.frames.push_back(Kept { at: self.sent, frame });
        self.sent += len as u64;
        self.held_bytes += len + FRAME_COST;
        self.written += usize::from(is_written);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf;

    use super::*;
    use crate::{frame::Sink, transmit::send_buf::CHAIN_THRESHOLD};

    fn keep(
        retained: &mut Retained,
        transport: Option<&mut SendBuf>,
        frame: &[u8; 6],
        body: &Bytes,
    ) {
        retained.keep(frame, None, body, transport.is_some());
        if let Some(transport) = transport {
            transport.frame(frame, None, body.clone());
        }
    }

    fn bytes_of(mut out: SendBuf) -> Bytes {
        let len = out.len();
        out.copy_to_bytes(len)
    }

    #[test]
    fn what_was_written_is_written_again_byte_for_byte() {
        let mut retained = Retained::new(1 << 20);
        let mut first = SendBuf::length_prefixed();
        for len in [0, 1, 100, CHAIN_THRESHOLD - 1, CHAIN_THRESHOLD, 3 * CHAIN_THRESHOLD] {
            let body = Bytes::from(vec![len as u8; len]);
            keep(&mut retained, Some(&mut first), b"header", &body);
        }
        assert_eq!(retained.unwritten(), 0);
        retained.rewind(0);
        let mut again = SendBuf::length_prefixed();
        while retained.unwritten() > 0 {
            retained.write_next(&mut again);
        }
        assert_eq!(bytes_of(again), bytes_of(first));
    }

    #[test]
    fn what_is_kept_holds_nothing_but_itself() {
        let mut retained = Retained::new(1 << 20);
        let block = Bytes::from(vec![1; 1 << 20]);
        for len in [1, CHAIN_THRESHOLD, 100_000] {
            keep(&mut retained, None, b"header", &block.slice(..len));
        }
        assert!(block.is_unique());
    }

    #[test]
    fn resume_34_35_36_only_whole_frames_that_were_written_can_be_acknowledged() {
        let mut retained = Retained::new(1 << 20);
        let mut out = SendBuf::bare();
        for _ in 0..3 {
            keep(&mut retained, Some(&mut out), b"header", &Bytes::from_static(b"xx"));
        }
        keep(&mut retained, None, b"header", &Bytes::from_static(b"xx"));
        for position in [0, 3, 9, 32, 33, u64::MAX] {
            assert!(!retained.acknowledge(position), "{position}");
            assert_eq!(retained.first(), 0);
        }
        assert!(retained.acknowledge(16));
        assert_eq!((retained.first(), retained.sent(), retained.unwritten()), (16, 32, 1));
        assert!(!retained.acknowledge(8), "one that is below the last");
        let available: Vec<_> = (0..40).filter(|at| retained.is_available(*at)).collect();
        assert_eq!(available, [16, 24], "no transport was given the last");
    }

    #[test]
    fn resume_37_it_is_bounded_in_bytes_whatever_the_frames() {
        let mut retained = Retained::new(10_000);
        let mut out = SendBuf::bare();
        while !retained.is_full() {
            keep(&mut retained, Some(&mut out), b"header", &Bytes::new());
        }
        assert!(retained.held_bytes() < 10_000 + 6 + FRAME_COST + 1);
        assert_eq!(retained.overflow(), 1);
        assert!(!retained.is_full() && retained.first() > 0);
        assert_eq!(retained.overflow(), 0);
        let end = retained.sent();
        assert!(retained.acknowledge(end));
        assert_eq!((retained.held_bytes(), retained.first()), (0, end));
    }
}
