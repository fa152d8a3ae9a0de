//! Memory to read and write with, lent to whichever connection of a thread is at work: one that
//! rests has none.

use std::cell::RefCell;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Driver, READ_SIZES};

#[derive(Default)]
struct Spare {
    input: BytesMut,
    output: BytesMut,
}

thread_local! {
    /// One buffer each way, of at most the largest read.
    static SPARE: RefCell<Spare> = RefCell::default();
}

/// Does something with the thread's; nothing while the thread ends.
fn with_spare(work: impl FnOnce(&mut Spare)) {
    let _ = SPARE.try_with(|spare| {
        if let Ok(mut spare) = spare.try_borrow_mut() {
            work(&mut spare);
        }
    });
}

/// Keeps the larger one, unless it is that of a large frame.
fn keep(kept: &mut BytesMut, offered: &mut BytesMut) {
    if offered.capacity() > kept.capacity() && offered.capacity() <= *READ_SIZES.end() {
        std::mem::swap(kept, offered);
    }
    if offered.capacity() > 0 {
        *offered = BytesMut::new();
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static> Driver<IO> {
    /// There may be something to read and to write.
    pub(super) fn borrow_memory(&mut self) {
        if self.input.capacity() == 0 || self.output.is_released() {
            with_spare(|spare| {
                if self.input.capacity() == 0 {
                    std::mem::swap(&mut self.input, &mut spare.input);
                }
                self.output.reuse(&mut spare.output);
            });
        }
    }

    /// There is nothing to do. What is not empty stays: half a frame, or what the socket did not take.
    pub(super) fn release_memory(&mut self) {
        with_spare(|spare| {
            if self.input.is_empty() {
                keep(&mut spare.input, &mut self.input);
            }
            if !self.output.is_released() {
                keep(&mut spare.output, &mut self.output.release());
            }
        });
    }
}
