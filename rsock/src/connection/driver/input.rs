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

pub(super) struct Input {
    /// Without memory of its own while the connection rests: see [`spare`].
    pub(super) block: Block,
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
            block: Block::default(),
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
        self.block = Block { size: bytes.capacity(), bytes, charge: None };
    }

    /// Memory that is held for what has been read and not been taken: of a frame, only a part may
    /// have come.
    #[inline]
    pub(super) fn waiting_bytes(&self) -> usize {
        if self.block.bytes.is_empty() { 0 } else { self.block.size }
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
        let bytes = &self.block.bytes;
        if bytes.len() <= self.read_size / 4 {
            // One of nearly that size is as good, and may have been made for the peer's frames.
            let is_right = (self.read_size / 2..self.read_size).contains(&self.block.size);
            return if is_right { self.block.size } else { self.read_size };
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
        self.block.bytes.capacity() - self.block.bytes.len() >= self.read_size / 4
    }

    /// A read that has filled it may have left something.
    pub(super) fn is_full(&self) -> bool {
        self.block.bytes.len() == self.block.bytes.capacity()
    }

    /// Reads more at once while the peer sends more, and less again when it does not. Whether so much
    /// has come that it is to be counted at once.
    #[inline]
    pub(super) fn adapt(&mut self, count: usize) -> bool {
        self.taken += count;
        if count >= self.read_size {
            self.read_size = (self.read_size * 2).min(*READ_SIZES.end());
        } else if count < self.read_size / 8 {
            self.read_size = (self.read_size / 2).max(*READ_SIZES.start());
        }
        count >= *READ_SIZES.start() / 2
    }

    /// Makes room for the next read, in a block of at least this size.
    #[cold]
    pub(super) fn make_room(&mut self, size: usize) {
        let len = self.block.bytes.len();
        if self.block.bytes.try_reclaim(size - len) {
            return;
        }
        let mut block = spare::take_block(size);
        block.bytes.extend_from_slice(&self.block.bytes);
        self.taken += len;
        self.leave_block();
        self.block = block;
    }

    /// Has no block any more. One that somebody holds a slice of is remembered.
    #[cold]
    fn leave_block(&mut self) {
        let Block { mut bytes, size, charge } = mem::take(&mut self.block);
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
        let bytes = &self.block.bytes;
        if bytes.is_empty()
            && bytes.capacity() > 0
            && (bytes.capacity() < *READ_SIZES.start() / 4 || self.block.size > *READ_SIZES.end())
        {
            self.leave_block();
        } else if !self.lent.is_empty() {
            self.look();
        }
    }

    /// Gives the block away that nothing waits in, unless there is a larger one.
    #[inline]
    pub(super) fn lend_to(&mut self, kept: &mut Block) {
        let capacity = self.block.bytes.capacity();
        if !self.block.bytes.is_empty() || capacity == 0 {
            return;
        }
        if capacity > kept.bytes.capacity() {
            mem::swap(&mut self.block, kept);
        }
        if self.block.bytes.capacity() > 0 {
            self.drop_block();
        }
    }

    #[cold]
    fn drop_block(&mut self) {
        self.block = Block::default();
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
        let is_large = self.block.size > *READ_SIZES.end();
        if is_large || self.lent_bytes >= MAX_LENT_BYTES { self.block.size / 4 } else { 0 }
    }

    /// The charge for a block that whoever holds a payload of so many bytes, which was just read,
    /// holds as well.
    #[inline]
    pub(super) fn charge_for(&mut self, payload_bytes: usize) -> Option<Arc<BlockCharge>> {
        if payload_bytes + FRAME_OVERHEAD < self.copy_below() {
            return None;
        }
        let size = self.block.size;
        let charge = self.block.charge.get_or_insert_with(|| BlockCharge::new(size, &self.budget));
        Some(Arc::clone(charge))
    }

    /// A payload that is going to be held for long: in memory of its own if it is short against its
    /// block.
    pub(super) fn for_long(&mut self, payload: Payload) -> (Payload, Option<Arc<BlockCharge>>) {
        if payload.size() < self.block.size / 4 {
            (payload.detached(), None)
        } else {
            let charge = self.charge_for(payload.size());
            (payload, charge)
        }
    }
}
