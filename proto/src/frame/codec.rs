//! Reading and writing the fields of a frame, within its bounds.

use bytes::{Buf, Bytes, BytesMut};

/// Where encoded frames go.
///
/// A frame is written as `begin`, then its parts in order, then `end`; the parts' lengths add up to
/// the length given to `begin`.
pub trait Sink {
    /// A frame of `len` bytes follows.
    fn begin(&mut self, len: usize);
    /// Header fields: a few bytes, copied.
    fn put(&mut self, fields: &[u8]);
    /// Metadata or data, which a sink may keep by reference.
    fn put_body(&mut self, body: Bytes);
    /// The frame is whole.
    fn end(&mut self);
}

/// Frames without any prefix, one after the other: the form the specification shows.
impl Sink for BytesMut {
    fn begin(&mut self, len: usize) {
        self.reserve(len);
    }

    fn put(&mut self, fields: &[u8]) {
        self.extend_from_slice(fields);
    }

    fn put_body(&mut self, body: Bytes) {
        self.extend_from_slice(&body);
    }

    fn end(&mut self) {}
}

/// Takes fields off the front of a frame; `None` where the frame is too short.
pub(super) struct Reader(pub(super) Bytes);

impl Reader {
    pub(super) fn u8(&mut self) -> Option<u8> {
        self.0.try_get_u8().ok()
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.0.try_get_u16().ok()
    }

    pub(super) fn u24(&mut self) -> Option<usize> {
        let &[a, b, c] = self.0.first_chunk::<3>()?;
        self.0.advance(3);
        Some(u24(a, b, c))
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.0.try_get_u32().ok()
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.0.try_get_u64().ok()
    }

    /// The next `len` bytes, shared and not copied.
    pub(super) fn bytes(&mut self, len: usize) -> Option<Bytes> {
        (self.0.len() >= len).then(|| self.0.split_to(len))
    }

    /// Everything that is left.
    pub(super) fn rest(self) -> Bytes {
        self.0
    }

    pub(super) fn remaining(&self) -> usize {
        self.0.len()
    }
}

/// A 24-bit length from its bytes.
pub(crate) const fn u24(a: u8, b: u8, c: u8) -> usize {
    ((a as usize) << 16) | ((b as usize) << 8) | c as usize
}

/// The three bytes of a 24-bit length. The caller has checked that it fits.
pub(crate) const fn u24_bytes(len: usize) -> [u8; 3] {
    [(len >> 16) as u8, (len >> 8) as u8, len as u8]
}
