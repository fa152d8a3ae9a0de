//! The frames that the referee is shown, read by [`rsock_wire`] and not by the engine's codec.

use std::{fmt, ops::Deref};

use bytes::Bytes;
pub(crate) use rsock_wire::{Header, flag, kind};

use crate::broken::{Broken, Check, Invariant, hold};

/// A frame as a correct sender may write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    parts: rsock_wire::Frame,
    /// The whole frame.
    pub(crate) raw: Bytes,
}

impl Frame {
    /// Reads a frame without any prefix.
    pub(crate) fn read(raw: &Bytes) -> Check<Self> {
        let broken = |detail| Broken { invariant: Invariant::Wire, detail };
        let parts = rsock_wire::Frame::decode(raw).map_err(broken)?;
        hold!(parts.kind != kind::EXT, Wire, "EXT is never sent: {parts}");
        Ok(Self { parts, raw: raw.clone() })
    }
}

impl Deref for Frame {
    type Target = rsock_wire::Frame;

    fn deref(&self) -> &Self::Target {
        &self.parts
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.fmt(f)
    }
}
