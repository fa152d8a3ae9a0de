//! The half of a stream we receive on: what we granted, and what we still have to say about it.

use crate::frame::MAX_U31;

/// Open until the peer completes or fails it, or we cancel it.
#[derive(Debug)]
pub(crate) struct RecvHalf {
    open: bool,
    /// Items granted and not yet received.
    granted: u64,
    /// Request-n to be written: a number, not a queue of frames.
    unsent_n: u64,
    /// CANCEL is to be written.
    unsent_cancel: bool,
}

impl RecvHalf {
    pub(crate) fn open(granted: u64) -> Self {
        Self { open: true, granted, unsent_n: 0, unsent_cancel: false }
    }

    pub(crate) fn closed() -> Self {
        Self { open: false, granted: 0, unsent_n: 0, unsent_cancel: false }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Grants `n` more items, to be written when the stream's turn comes.
    pub(crate) fn grant(&mut self, n: u32) {
        self.granted = self.granted.saturating_add(n.into());
        self.unsent_n = self.unsent_n.saturating_add(n.into());
    }

    /// Items granted and not yet received.
    pub(crate) fn awaited(&self) -> u64 {
        self.granted
    }

    /// Counts an item received; false if it was not granted.
    #[must_use]
    pub(crate) fn receive(&mut self) -> bool {
        let granted = self.granted > 0;
        self.granted -= u64::from(granted);
        granted
    }

    /// The terminal has come, or it does not matter any more. No REQUEST_N follows it (RN-10).
    pub(crate) fn close(&mut self) {
        self.open = false;
        self.unsent_n = 0;
    }

    /// We want no more: CANCEL is to be written, once (CAN-05).
    pub(crate) fn cancel(&mut self) {
        self.close();
        self.unsent_cancel = true;
    }

    pub(crate) fn has_output(&self) -> bool {
        self.unsent_cancel || self.unsent_n > 0
    }

    pub(crate) fn take_cancel(&mut self) -> bool {
        std::mem::take(&mut self.unsent_cancel)
    }

    /// The next REQUEST_N to write, at most 2^31−1 at a time (RN-01); 0 for none.
    pub(crate) fn take_request_n(&mut self) -> u32 {
        // At most 2^31−1, hence a u32.
        let n = self.unsent_n.min(MAX_U31.into()) as u32;
        self.unsent_n -= u64::from(n);
        n
    }
}
