//! Memory to read and write with, lent to whichever connection of a thread is at work: one that
//! rests has none.

use std::{cell::RefCell, collections::VecDeque};

use bytes::BytesMut;

use super::{Driver, READ_SIZES, input::Block};

/// Bytes of blocks a thread keeps that somebody may still hold slices of. Given back to the system
/// instead, they would be asked for again with the next read, page by page.
const MAX_LEFT_BYTES: usize = 2 << 20;
/// Blocks looked at before a new one is made.
const LOOKS: usize = 8;

#[derive(Default)]
struct Spare {
    input: Option<Box<Block>>,
    output: BytesMut,
    /// Blocks that were read into and left, the longest ago first.
    left: VecDeque<(BytesMut, usize)>,
    left_bytes: usize,
}

thread_local! {
    /// A buffer each way, of at most the largest read, and the blocks left.
    static SPARE: RefCell<Spare> = RefCell::default();
}

/// Does something with the thread's; nothing while the thread ends.
#[inline]
fn with_spare<T: Default>(work: impl FnOnce(&mut Spare) -> T) -> T {
    let done = SPARE.try_with(|spare| spare.try_borrow_mut().map(|mut spare| work(&mut spare)));
    done.ok().and_then(Result::ok).unwrap_or_default()
}

/// A block of at least `size` bytes: one that was left and that nobody holds any more, or a new one.
pub(super) fn take_block(size: usize) -> Block {
    let left = with_spare(|spare| {
        for _ in 0..spare.left.len().min(LOOKS) {
            let (mut bytes, len) = spare.left.pop_front()?;
            if len < size {
                // Reads have become larger: it would be passed over each time.
                spare.left_bytes -= len;
            } else if bytes.try_reclaim(size) {
                spare.left_bytes -= len;
                return Some(Block { bytes, size: len, charge: None });
            } else {
                spare.left.push_back((bytes, len));
            }
        }
        None
    });
    left.unwrap_or_else(|| Block::new(size))
}

/// Keeps an empty buffer of a block that is read into no more, for when nobody holds a slice of it.
pub(super) fn leave_block(bytes: BytesMut, size: usize) {
    if size < *READ_SIZES.start() || size > *READ_SIZES.end() {
        return;
    }
    with_spare(|spare| {
        if spare.left_bytes + size <= MAX_LEFT_BYTES {
            spare.left_bytes += size;
            spare.left.push_back((bytes, size));
        }
    });
}

impl Driver {
    /// There may be something to read and to write.
    #[inline]
    pub(super) fn borrow_memory(&mut self) {
        if !self.wire.input.has_block() || self.wire.output.is_released() {
            with_spare(|spare| {
                self.wire.input.borrow(&mut spare.input);
                self.wire.output.reuse(&mut spare.output);
            });
        }
    }

    /// Others go on: whoever reads next may read into the same memory.
    #[inline]
    pub(super) fn release_input(&mut self) {
        self.wire.input.leave_if_used_up();
        with_spare(|spare| self.wire.input.lend_to(&mut spare.input));
    }

    /// There is nothing to do. What is not empty stays: half a frame, or what the socket did not take.
    #[inline]
    pub(super) fn release_memory(&mut self) {
        if !self.wire.output.is_empty() {
            self.wire.output.detach();
        }
        self.wire.input.leave_if_used_up();
        self.release_places();
        with_spare(|spare| {
            self.wire.input.lend_to(&mut spare.input);
            // Not that of a large frame.
            self.wire.output.lend(&mut spare.output, *READ_SIZES.end());
        });
    }
}
