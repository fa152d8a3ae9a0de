//! How a stream is named outside of its table.

use std::{fmt, num::NonZeroU32};

use crate::frame::StreamId;

/// Names a stream: a slot, and the serial number that guards against the slot's next tenant, which
/// may have the same id (SID-05).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamKey {
    pub(crate) index: u32,
    pub(crate) id: StreamId,
    pub(crate) serial: NonZeroU32,
}

impl StreamKey {
    /// The slot: small, reused, and never shared by two streams at a time.
    pub const fn index(self) -> usize {
        self.index as usize
    }

    /// The stream's id on the wire.
    pub const fn id(self) -> StreamId {
        self.id
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.index)
    }
}
