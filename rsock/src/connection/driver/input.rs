//! The buffer that is read into, and what frames that are held keep of it.
//!
//! Frames are slices of the block they were read into, and each keeps all of that. Whoever holds one
//! beyond its turn holds the block's charge. A connection of which many blocks are held, or whose
//! block is larger than a read, has short frames copied off it.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Weak},
};

use bytes::BytesMut;
use rsock_proto::Payload;

use super::{READ_SIZES, spare};
use crate::memory::{BlockCharge, MemoryBudget};

/// Bytes of blocks kept by what a connection's peer sent, from which on short frames are copied.
const MAX_LENT_BYTES: usize = 1 << 20;
/// Blocks looked at a time whether they are still held.
const LOOKS: usize = 8;
/// The bytes of a frame beside its payload, at most: prefix, header, request-n and the length of
/// metadata.
const FRAME_OVERHEAD: usize = 16;

/// A block that is read into, from a length on that is at least that of what was read.
#[derive(Default)]
pub(super) struct Block {
    pub(super) bytes: BytesMut,
    /// How much memory it is.
    pub(super) size: usize,
    /// Held by all who hold a slice of it; made when the first of them is.
    pub(super) charge: Option<Arc<BlockCharge>>,
}

impl Block {
    pub(super) fn new(size: usize) -> Self {
        Self { bytes: BytesMut::with_capacity(size), size, charge: None }
    }
}

/// The charges for what is held of a block.
pub(super) struct Charges<'a> {
    size: usize,
    charge: &'a mut Option<Arc<BlockCharge>>,
    budget: &'a Arc<MemoryBudget>,
    /// Shorter payloads are copied, and hold nothing of it.
    uncharged_below: usize,
}

impl Charges<'_> {
    #[inline]
    pub(super) fn charge_for(&mut self, payload_bytes: usize) -> Option<Arc<BlockCharge>> {
        if payload_bytes < self.uncharged_below {
            return None;
        }
        let charge = self.charge.get_or_insert_with(|| BlockCharge::new(self.size, self.budget));
        Some(Arc::clone(charge))
    }
}

pub(super) struct Input {
    /// None while the connection rests: see [`spare`]. Boxed, because it changes hands at each wake.
    block: Option<Box<Block>>,
    pub(super) read_size: usize,
    /// Bytes read, and moved for there to be room, since the task was woken.
    pub(super) taken: usize,
    budget: Arc<MemoryBudget>,
    /// Blocks that were left because somebody holds a slice of them, some of them free by now.
    lent: VecDeque<(Weak<BlockCharge>, usize)>,
    lent_bytes: usize,
}

impl Input {
    pub(super) fn new(leftover: BytesMut, budget: Arc<MemoryBudget>) -> Self {
        let mut input = Self {
            block: None,
            read_size: *READ_SIZES.start(),
            taken: 0,
            budget,
            lent: VecDeque::new(),
            lent_bytes: 0,
        };
        input.replace(leftover);
        input
    }

    /// Goes on with what was read elsewhere.
    pub(super) fn replace(&mut self, bytes: BytesMut) {
        self.leave_block();
        let size = bytes.capacity();
        self.block = (size > 0).then(|| Box::new(Block { bytes, size, charge: None }));
    }

    /// The bytes that have been read and not been taken, and the room behind them.
    #[inline]
    pub(super) fn bytes(&mut self) -> &mut BytesMut {
        &mut self.block().bytes
    }

    #[inline]
    fn block(&mut self) -> &mut Block {
        if self.block.is_none() {
            self.begin_block();
        }
        self.block.get_or_insert_default()
    }

    #[cold]
    fn begin_block(&mut self) {
        self.block = Some(Box::default());
    }

    /// How many bytes have been read and not been taken.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.block.as_ref().map_or(0, |block| block.bytes.len())
    }

    /// Whether it has memory to read into.
    #[inline]
    pub(super) fn has_block(&self) -> bool {
        self.block.is_some()
    }

    /// The memory of the block that is read into.
    #[inline]
    fn block_size(&self) -> usize {
        self.block.as_ref().map_or(0, |block| block.size)
    }

    /// Memory that is held for what has been read and not been taken: of a frame, only a part may
    /// have come.
    #[inline]
    pub(super) fn waiting_bytes(&self) -> usize {
        self.block.as_ref().map_or(0, |block| if block.bytes.is_empty() { 0 } else { block.size })
    }

    /// Memory kept by what was read and is held.
    #[inline]
    pub(super) fn lent_bytes(&self) -> usize {
        self.lent_bytes
    }

    /// The size of the block that the next read needs; 0 if there is room. A frame longer than a read
    /// gets its memory as its bytes arrive, not on the word of its length (DOS-06), and no more than
    /// that says.
    pub(super) fn wanted(&self, announced: impl FnOnce(&[u8]) -> Option<usize>) -> usize {
        if self.has_room() {
            return 0;
        }
        let (bytes, size) =
            self.block.as_ref().map_or((&[][..], 0), |block| (&block.bytes, block.size));
        if bytes.len() <= self.read_size / 4 {
            // One of nearly that size is as good, and may have been made for the peer's frames.
            // Half of it is that of the reads before they grew.
            let is_right = size > self.read_size / 2 && size < self.read_size;
            return if is_right { size } else { self.read_size };
        }
        let doubled = bytes.len() + self.read_size.max(bytes.len());
        match announced(bytes) {
            // What is left behind is given back, so few steps are better than many.
            Some(frame) => {
                let reads = (2 * self.read_size).min(*READ_SIZES.end());
                let size = (2 * doubled).min(reads.max(frame.max(bytes.len()) + self.read_size));
                // Where more such frames follow, none is cut by the block's end, and moved.
                if size / 2 >= frame { size - size % frame } else { size }
            }
            None => doubled,
        }
    }

    /// Whether there is room for the next read.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        let room = |block: &Block| block.bytes.capacity() - block.bytes.len();
        self.block.as_deref().map_or(0, room) >= self.read_size / 4
    }

    /// A read that has filled it may have left something.
    pub(super) fn is_full(&self) -> bool {
        self.block.as_ref().is_none_or(|block| block.bytes.len() == block.bytes.capacity())
    }

    /// Reads more at once while the peer sends more, and less again when it does not. Whether so much
    /// has come that it is to be counted at once.
    ///
    /// A read that was given less room, behind the beginning of a frame or in a block made for whole
    /// ones, has come to its end as much as one that was given all.
    #[inline]
    pub(super) fn adapt(&mut self, count: usize) -> bool {
        self.taken += count;
        if count > self.read_size / 2 && (count >= self.read_size || self.is_full()) {
            self.read_size = (self.read_size * 2).min(*READ_SIZES.end());
        } else if count < self.read_size / 8 {
            self.read_size = (self.read_size / 2).max(*READ_SIZES.start());
        }
        count >= *READ_SIZES.start() / 2
    }

    /// Makes room for the next read, in a block of at least this size.
    #[cold]
    pub(super) fn make_room(&mut self, size: usize) {
        let before = self.bytes();
        let len = before.len();
        if before.try_reclaim(size - len) {
            return;
        }
        let mut block = spare::take_block(size);
        block.bytes.extend_from_slice(before);
        self.taken += len;
        let before = mem::replace(self.block(), block);
        self.leave(before);
    }

    /// Has no block any more. One that somebody holds a slice of is remembered.
    #[cold]
    fn leave_block(&mut self) {
        if let Some(block) = &mut self.block {
            // Its box is for the next.
            let block = mem::take(&mut **block);
            self.leave(block);
        }
    }

    fn leave(&mut self, block: Block) {
        let Block { mut bytes, size, charge } = block;
        if let Some(charge) = charge
            && Arc::strong_count(&charge) > 1
        {
            self.lent_bytes += size;
            self.lent.push_back((Arc::downgrade(&charge), size));
        }
        bytes.clear();
        spare::leave_block(bytes, size);
        self.look();
    }

    /// Leaves a block that is of no use to the next connection, who would be charged for it.
    #[inline]
    pub(super) fn leave_if_used_up(&mut self) {
        let is_used_up = self.block.as_ref().is_some_and(|block| {
            let left = block.bytes.capacity();
            let is_long = block.size > *READ_SIZES.end();
            block.bytes.is_empty() && left > 0 && (left < *READ_SIZES.start() / 4 || is_long)
        });
        if is_used_up {
            self.leave_block();
        } else if !self.lent.is_empty() {
            self.look();
        }
    }

    /// Takes a block to read into, if it has none.
    #[inline]
    pub(super) fn borrow(&mut self, kept: &mut Option<Box<Block>>) {
        if self.block.is_none() {
            mem::swap(&mut self.block, kept);
        }
    }

    /// Gives the block away that nothing waits in, unless there is a larger one.
    #[inline]
    pub(super) fn lend_to(&mut self, kept: &mut Option<Box<Block>>) {
        let Some(block) = self.block.as_ref().filter(|block| block.bytes.is_empty()) else {
            return;
        };
        if kept.as_ref().is_none_or(|kept| block.bytes.capacity() > kept.bytes.capacity()) {
            mem::swap(&mut self.block, kept);
        }
        if self.block.is_some() {
            self.drop_block();
        }
    }

    #[cold]
    fn drop_block(&mut self) {
        self.block = None;
    }

    /// Looks at a few of the blocks that were left whether they are free.
    #[cold]
    fn look(&mut self) {
        for _ in 0..self.lent.len().min(LOOKS) {
            let Some((charge, size)) = self.lent.pop_front() else { return };
            if charge.strong_count() > 0 {
                self.lent.push_back((charge, size));
            } else {
                self.lent_bytes -= size;
            }
        }
    }

    /// From what length on frames may be slices of the block.
    #[inline]
    pub(super) fn copy_below(&self) -> usize {
        let size = self.block_size();
        let is_large = size > *READ_SIZES.end();
        if is_large || self.lent_bytes >= MAX_LENT_BYTES { size / 4 } else { 0 }
    }

    /// The charge for a block that whoever holds a payload of so many bytes, which was just read,
    /// holds as well.
    #[inline]
    pub(super) fn charge_for(&mut self, payload_bytes: usize) -> Option<Arc<BlockCharge>> {
        self.bytes_and_charges().1.charge_for(payload_bytes)
    }

    /// The bytes that have been read and not been taken, and the charges for what they are taken as.
    #[inline]
    pub(super) fn bytes_and_charges(&mut self) -> (&mut BytesMut, Charges<'_>) {
        let uncharged_below = self.copy_below().saturating_sub(FRAME_OVERHEAD);
        let Self { block, budget, .. } = self;
        let Block { bytes, size, charge } = &mut **block.get_or_insert_default();
        (bytes, Charges { size: *size, charge, budget, uncharged_below })
    }

    /// A payload that is going to be held for long: in memory of its own if it is short against its
    /// block.
    pub(super) fn for_long(&mut self, payload: Payload) -> (Payload, Option<Arc<BlockCharge>>) {
        if payload.size() < self.block_size() / 4 {
            (payload.detached(), None)
        } else {
            let charge = self.charge_for(payload.size());
            (payload, charge)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fills all the room there is, again and again, with frames of this length that nobody holds.
    fn read_size_after(reads: usize, frame: usize) -> usize {
        let mut input = Input::new(BytesMut::new(), MemoryBudget::new(64 << 20));
        for _ in 0..reads {
            let size = input.wanted(|_| Some(frame));
            if size > 0 {
                input.make_room(size);
            }
            let bytes = input.bytes();
            let room = bytes.capacity() - bytes.len();
            bytes.resize(bytes.capacity(), 0);
            input.adapt(room);
            let whole = input.len() - input.len() % frame;
            drop(input.bytes().split_to(whole));
        }
        input.read_size
    }

    /// The beginning of a frame that was cut takes room of the next read, which is full all the same.
    #[test]
    fn reads_grow_while_more_waits_than_they_take_whatever_a_frame_is_long() {
        for frame in [1, 41, 1_000, 1_033, 2_047, 4_105, 8_192, 65_545] {
            assert_eq!(read_size_after(40, frame), *READ_SIZES.end(), "frames of {frame}");
        }
    }
}
