//! Tracked frames that the peer may not have: what a resume sends again (section 2.17).

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::{
    frame::{frame_len, u24_bytes},
    transmit::send_buf::{CHAIN_THRESHOLD, SendBuf},
};

/// Small parts of frames are copied into blocks of this size, so that a few bytes do not keep a
/// whole read buffer alive; longer bodies are kept by reference.
const BLOCK_BYTES: usize = 8 << 10;

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
    block: BytesMut,
}

#[derive(Debug)]
struct Kept {
    at: u64,
    len: u32,
    /// The header and what is copied beside it.
    head: Bytes,
    /// What is kept by reference, and what follows it.
    bodies: Vec<Bytes>,
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
            block: BytesMut::new(),
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
        self.held_bytes >= self.max_bytes
    }

    /// Enough is held that the peer should be asked what it has.
    pub(crate) fn is_half_full(&self) -> bool {
        self.held_bytes >= self.max_bytes / 2
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Whether everything here from this position on can be sent again: it is the start of a frame
    /// here, or the end of the last.
    pub(crate) fn is_available(&self, position: u64) -> bool {
        self.index_of(position).is_some()
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
            self.held_bytes -= frame.len as usize + FRAME_COST;
            self.first = frame.at + u64::from(frame.len);
        }
        self.written -= count;
        if self.frames.is_empty() {
            // Gives memory back after a burst.
            self.frames = VecDeque::new();
            self.block = BytesMut::new();
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
        out.begin(frame.len as usize);
        out.put(&frame.head);
        for body in &frame.bodies {
            out.put_body(body.clone());
        }
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
        self.frames.push_back(Kept {
            at: self.sent,
            // At most 2^24−1.
            len: len as u32,
            head: Bytes::new(),
            bodies: Vec::new(),
        });
        self.sent += len as u64;
        self.held_bytes += len + FRAME_COST;
        if self.block.capacity() < len.min(CHAIN_THRESHOLD) {
            self.block = BytesMut::with_capacity(BLOCK_BYTES);
        }
        self.block.extend_from_slice(head);
        if let Some(metadata) = metadata {
            self.block.extend_from_slice(&u24_bytes(metadata.len()));
            self.keep_body(metadata);
        }
        self.keep_body(data);
        self.flush();
        self.written += usize::from(is_written);
    }

    fn keep_body(&mut self, body: &Bytes) {
        if body.len() < CHAIN_THRESHOLD {
            self.block.extend_from_slice(body);
        } else {
            self.flush();
            if let Some(frame) = self.frames.back_mut() {
                frame.bodies.push(body.clone());
            }
        }
    }

    /// What was copied belongs to the frame at the end.
    fn flush(&mut self) {
        if self.block.is_empty() {
            return;
        }
        let copied = self.block.split().freeze();
        if let Some(frame) = self.frames.back_mut() {
            if frame.head.is_empty() {
                frame.head = copied;
            } else {
                frame.bodies.push(copied);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf;

    use super::*;
    use crate::frame::Sink;

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
    fn long_bodies_are_kept_by_reference() {
        let mut retained = Retained::new(1 << 20);
        let body = Bytes::from(vec![1; CHAIN_THRESHOLD]);
        keep(&mut retained, None, b"header", &body);
        assert_eq!(retained.frames[0].bodies[0].as_ptr(), body.as_ptr());
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
        assert_eq!(available, [16, 24, 32]);
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
