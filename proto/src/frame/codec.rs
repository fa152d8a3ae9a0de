//! Reading and writing the fields of a frame, within its bounds.

use bytes::{Buf, Bytes, BytesMut};

use crate::payload::METADATA_LENGTH_LEN;

/// A sink for encoded frames, each whole.
pub trait Sink {
    /// Writes a frame: its fixed fields, then the metadata behind their length, if there are any,
    /// then the data. A sink may keep metadata and data by reference.
    fn frame<const N: usize>(&mut self, head: &[u8; N], metadata: Option<Bytes>, data: Bytes);

    /// Writes a frame of which all but the fixed fields is encoded already, and shared with others.
    fn shared_frame<const N: usize>(&mut self, head: &[u8; N], body: &Bytes) {
        self.frame(head, None, body.clone());
    }
}

/// Bytes of such a frame.
pub(crate) fn frame_len(head: usize, metadata: Option<&Bytes>, data: &Bytes) -> usize {
    head + metadata.map_or(0, |metadata| METADATA_LENGTH_LEN + metadata.len()) + data.len()
}

/// A sink that takes the parts of a frame, one after the other.
pub(crate) trait Parts {
    /// Fields of a few bytes.
    fn fields(&mut self, fields: &[u8]);
    /// Metadata or data.
    fn body(&mut self, body: &Bytes);
}

impl Parts for BytesMut {
    #[inline]
    fn fields(&mut self, fields: &[u8]) {
        self.extend_from_slice(fields);
    }

    #[inline]
    fn body(&mut self, body: &Bytes) {
        self.extend_from_slice(body);
    }
}

impl Parts for Vec<u8> {
    fn fields(&mut self, fields: &[u8]) {
        self.extend_from_slice(fields);
    }

    fn body(&mut self, body: &Bytes) {
        self.extend_from_slice(body);
    }
}

/// Writes the parts of a frame in their order. In line, so that the length of `head` stays known: else
/// a frame costs 30 instructions more, of some 1,200 an item.
#[inline(always)]
pub(crate) fn write_parts<P: Parts>(
    to: &mut P,
    head: &[u8],
    metadata: Option<&Bytes>,
    data: &Bytes,
) {
    to.fields(head);
    if let Some(metadata) = metadata {
        to.fields(&u24_bytes(metadata.len()));
        to.body(metadata);
    }
    to.body(data);
}

/// Frames without any prefix, one after the other: the form the specification shows.
impl Sink for BytesMut {
    fn frame<const N: usize>(&mut self, head: &[u8; N], metadata: Option<Bytes>, data: Bytes) {
        self.reserve(frame_len(head.len(), metadata.as_ref(), &data));
        write_parts(self, head, metadata.as_ref(), &data);
    }
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
