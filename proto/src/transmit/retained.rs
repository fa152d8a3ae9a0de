//! Tracked frames that the peer may not have: what a resume sends again.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::{
    frame::{Parts, frame_len, write_parts},
    transmit::send_buf::SendBuf,
};

/// Frames are copied, small ones into blocks of this size: a payload may be a slice of much more, and
/// how much of that it keeps cannot be told. Where little is retained yet, blocks are smaller: many
/// sessions have a frame or two.
const BLOCK_BYTES: usize = 8 << 10;
const FIRST_BLOCK_BYTES: usize = 1 << 10;

/// Frames from this length on have memory of their own, so that little of a block is left unused.
const LONG_FRAME: usize = FIRST_BLOCK_BYTES;

/// Bytes that may be retained whatever memory there is.
const LEAST_ALLOWED: usize = 4 << 10;

/// The cost of a frame beside its bytes.
const FRAME_COST: usize = size_of::<Kept>();

/// Places for frames below which none are given back.
const FEW_PLACES: usize = 32;

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
    /// The position up to which transports before it were given frames.
    given_before: u64,
    /// Bytes held, the cost of each frame included.
    held_bytes: usize,
    max_bytes: usize,
    /// As much memory as the owner of the connection has for it.
    allowance: usize,
    /// The rest of the block that small frames are copied into.
    block: BytesMut,
    /// How much memory that is, used up or not.
    block_bytes: usize,
    /// Blocks that are full, the oldest first: a position behind the frames in each, and its memory.
    full_blocks: VecDeque<(u64, usize)>,
    /// Memory of all blocks, and of the frames that have their own.
    frame_memory: usize,
    /// The ends of fire-and-forgets that are not acknowledged; no more than `frames`.
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
            given_before: 0,
            held_bytes: 0,
            max_bytes,
            allowance: usize::MAX,
            block: BytesMut::new(),
            block_bytes: 0,
            full_blocks: VecDeque::new(),
            frame_memory: 0,
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
        self.is_beyond(1)
    }

    /// Whether this part of what may be held is: as many bytes as the session may, as far as there is
    /// memory. A little is always allowed, so that it goes on however slowly.
    fn is_beyond(&self, part: usize) -> bool {
        self.held_bytes >= self.max_bytes / part
            || self.memory() >= self.allowance.max(LEAST_ALLOWED) / part
    }

    /// Sets how much memory there is for it; what is held beyond that stays.
    pub(crate) fn allow(&mut self, bytes: usize) {
        self.allowance = bytes;
    }

    /// Enough is held that the peer should be asked what it has.
    pub(crate) fn is_half_full(&self) -> bool {
        self.is_beyond(2)
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// The memory all of it takes: that of whole blocks, and with the room that queues have to grow.
    pub(crate) fn memory(&self) -> usize {
        self.frame_memory
            + self.frames.capacity() * FRAME_COST
            + self.full_blocks.capacity() * size_of::<(u64, usize)>()
            + self.fire_and_forgets.capacity() * size_of::<u64>()
    }

    /// Notes that what was kept last is the end of a fire-and-forget.
    pub(crate) fn end_fire_and_forget(&mut self) {
        self.fire_and_forgets.push_back(self.sent);
    }

    /// Fire-and-forgets that the peer has not acknowledged.
    pub(crate) fn fire_and_forgets(&self) -> usize {
        self.fire_and_forgets.len()
    }

    /// Whether a peer can have got as far as this position, and everything from there on can be sent
    /// again: it is the start of a frame here, or the end of the last that a transport was given. Any
    /// transport: the present one may have been asked for by a RESUME that came late, and begun from an
    /// older position.
    pub(crate) fn is_available(&self, position: u64) -> bool {
        position <= self.given() && self.index_of(position).is_some()
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
        for Kept { at, frame } in self.frames.drain(..count) {
            self.held_bytes -= frame.len() + FRAME_COST;
            self.frame_memory -= own_memory(frame.len());
            self.first = at + frame.len() as u64;
        }
        self.written -= count;
        while self.fire_and_forgets.front().is_some_and(|end| *end <= self.first) {
            self.fire_and_forgets.pop_front();
        }
        while let Some((_, bytes)) = self.full_blocks.front().filter(|block| block.0 <= self.first)
        {
            self.frame_memory -= bytes;
            self.full_blocks.pop_front();
        }
        // Gives memory back after a burst.
        if self.frames.is_empty() {
            self.frames = VecDeque::new();
            self.block = BytesMut::new();
            self.block_bytes = 0;
            self.full_blocks = VecDeque::new();
            self.frame_memory = 0;
            self.fire_and_forgets = VecDeque::new();
        } else {
            shrink(&mut self.frames);
            shrink(&mut self.full_blocks);
            shrink(&mut self.fire_and_forgets);
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
        self.given_before = self.given();
        if let Some(count) = self.index_of(position) {
            self.written = count;
            self.drop_oldest(count);
        }
    }

    /// The position up to which any transport was given frames: nobody can have those behind it.
    pub(crate) fn given(&self) -> u64 {
        let written = self.frames.get(self.written).map_or(self.sent, |frame| frame.at);
        self.given_before.max(written)
    }

    /// Frames the present transport has not been given.
    pub(crate) fn unwritten(&self) -> usize {
        self.frames.len() - self.written
    }

    /// Gives the transport the next such frame again, byte for byte (RESUME-13).
    pub(crate) fn write_next(&mut self, out: &mut SendBuf) {
        let Some(frame) = self.frames.get(self.written) else { return };
        out.begin(frame.frame.len());
        out.body(&frame.frame);
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
        let frame = if len >= LONG_FRAME {
            let mut own = Vec::with_capacity(len);
            write_parts(&mut own, head, metadata, data);
            Bytes::from(own)
        } else {
            if self.block.capacity() < len {
                self.begin_block();
            }
            write_parts(&mut self.block, head, metadata, data);
            self.block.split().freeze()
        };
        self.frames.push_back(Kept { at: self.sent, frame });
        self.sent += len as u64;
        self.held_bytes += len + FRAME_COST;
        self.frame_memory += own_memory(len);
        self.written += usize::from(is_written);
    }

    /// Leaves the block that is used up, to the frames in it.
    fn begin_block(&mut self) {
        if self.block_bytes > 0 {
            self.full_blocks.push_back((self.sent, self.block_bytes));
        }
        let held = self.held_bytes.next_power_of_two();
        self.block_bytes = held.clamp(FIRST_BLOCK_BYTES, BLOCK_BYTES);
        self.block = BytesMut::with_capacity(self.block_bytes);
        self.frame_memory += self.block_bytes;
    }
}

/// The memory that a frame has of its own: none below some length.
fn own_memory(len: usize) -> usize {
    if len < LONG_FRAME { 0 } else { allocated(len) }
}

/// The bytes that an allocator takes for so many at most: four sizes a doubling are the fewest that
/// those in use have.
fn allocated(bytes: usize) -> usize {
    bytes.next_multiple_of((bytes.next_power_of_two() / 8).max(16))
}

/// Gives places back where most are not needed any more.
fn shrink<T>(queue: &mut VecDeque<T>) {
    if queue.capacity() > FEW_PLACES.max(4 * queue.len()) {
        queue.shrink_to(FEW_PLACES.max(2 * queue.len()));
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

    /// The memory of the frames and blocks, counted one by one.
    fn memory_of_frames(retained: &Retained) -> usize {
        let long =
            retained.frames.iter().map(|kept| kept.frame.len()).filter(|len| *len >= 1 << 10);
        let blocks: usize = retained.full_blocks.iter().map(|block| block.1).sum();
        long.map(allocated).sum::<usize>() + blocks + retained.block_bytes
    }

    #[test]
    fn memory_is_counted_as_it_is_held() {
        let mut retained = Retained::new(1 << 20);
        // A single small frame takes a small block.
        keep(&mut retained, None, b"header", &Bytes::from_static(b"x"));
        assert_eq!(retained.frame_memory, FIRST_BLOCK_BYTES);
        assert!(retained.memory() < 2 * FIRST_BLOCK_BYTES);
        let mut out = SendBuf::bare();
        retained.rewind(0);
        retained.write_next(&mut out);
        for round in 0..6 {
            for len in [1, 900, 20, 16 << 10, 1_018, 1_017, 5_000, 300] {
                for _ in 0..20 {
                    let body = Bytes::from(vec![1; len]);
                    keep(&mut retained, Some(&mut out), b"header", &body);
                }
            }
            assert_eq!(retained.frame_memory, memory_of_frames(&retained), "{round}");
            assert!(retained.memory() >= retained.held_bytes());
            assert!(retained.memory() < retained.held_bytes() * 4 / 3 + 2 * BLOCK_BYTES);
            // Some of it stays.
            let kept = retained.frames[retained.frames.len() - 7 * round - 1].at;
            assert!(retained.acknowledge(kept));
            assert_eq!(retained.frame_memory, memory_of_frames(&retained), "{round}");
            let (memory, held) = (retained.memory(), retained.held_bytes());
            assert!(memory < 2 * held + 3 * BLOCK_BYTES, "{memory} for {held}");
        }
        let end = retained.sent();
        assert!(retained.acknowledge(end));
        assert_eq!((retained.memory(), retained.frames.capacity()), (0, 0));
    }

    #[test]
    fn sizes_are_counted_as_allocators_round_them_up() {
        for (bytes, taken) in
            [(1, 16), (1_024, 1_024), (1_025, 1_280), (16_384, 16_384), (16_394, 20_480)]
        {
            assert_eq!(allocated(bytes), taken, "{bytes}");
        }
    }

    #[test]
    fn little_memory_is_little_however_small_the_frames() {
        let mut retained = Retained::new(1 << 20);
        retained.allow(0);
        while !retained.is_full() {
            keep(&mut retained, None, b"header", &Bytes::new());
        }
        assert!(retained.memory() < 2 * LEAST_ALLOWED, "{}", retained.memory());
        assert!(retained.frames.len() > 20, "{}", retained.frames.len());
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

    /// A RESUME that came late has begun from an older position, on a transport that nobody reads.
    #[test]
    fn a_peer_may_have_what_any_transport_was_given() {
        let mut retained = Retained::new(1 << 20);
        let mut out = SendBuf::bare();
        for _ in 0..3 {
            keep(&mut retained, Some(&mut out), b"header", &Bytes::from_static(b"xx"));
        }
        keep(&mut retained, None, b"header", &Bytes::from_static(b"xx"));
        for written_again in 0..3 {
            retained.rewind(0);
            for _ in 0..written_again {
                retained.write_next(&mut SendBuf::bare());
            }
            let available: Vec<_> = (0..40).filter(|at| retained.is_available(*at)).collect();
            assert_eq!(available, [0, 8, 16, 24], "{written_again}");
        }
        retained.rewind(24);
        assert_eq!((retained.first(), retained.unwritten()), (24, 1));
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
