//! Payloads, which applications exchange: data and, optionally, metadata.

use std::fmt;

use bytes::{BufMut, Bytes};

/// One request, item or answer: data and optional metadata, both opaque bytes.
///
/// Cloning shares the bytes. Absent metadata and empty metadata are different values on the wire
/// (FRAME-09); for data there is no such distinction.
///
/// `Debug` shows how many bytes of metadata there are and not what they say: they may hold
/// credentials (AUTH-12).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Payload {
    /// The metadata, in the connection's metadata MIME type.
    pub metadata: Option<Bytes>,
    /// The data, in the connection's data MIME type unless the metadata says otherwise.
    pub data: Bytes,
}

impl Payload {
    /// A payload of data alone.
    pub fn new(data: impl Into<Bytes>) -> Self {
        Self { metadata: None, data: data.into() }
    }

    /// The same payload with this metadata.
    #[must_use]
    pub fn with_metadata(mut self, metadata: impl Into<Bytes>) -> Self {
        self.metadata = Some(metadata.into());
        self
    }

    /// The same payload in memory of its own, which holds no more than its bytes: what is decoded
    /// shares the memory it was read into, and keeps all of that for as long as it is kept itself.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self {
            metadata: self.metadata.as_deref().map(Bytes::copy_from_slice),
            data: Bytes::copy_from_slice(&self.data),
        }
    }

    /// Copies the one of its two parts that is small against the other, so that whoever keeps that
    /// part alone does not keep the frame it came in.
    #[must_use]
    pub(crate) fn with_small_part_apart(mut self) -> Self {
        let least = self.size() / 4;
        for part in self.metadata.iter_mut().chain([&mut self.data]) {
            if part.len() < least {
                *part = Bytes::copy_from_slice(part);
            }
        }
        self
    }

    /// Bytes of data and metadata together.
    pub fn size(&self) -> usize {
        self.data.len() + self.metadata.as_ref().map_or(0, Bytes::len)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payload")
            .field("metadata_bytes", &self.metadata.as_ref().map(Bytes::len))
            .field("data", &self.data)
            .finish()
    }
}

/// Bytes of the length in front of metadata.
pub(crate) const METADATA_LENGTH_LEN: usize = 3;

/// A payload that is sent on many streams: encoded once, in the form it has on the wire.
///
/// To send it copies its bytes, below 4 KiB, and counts no references; to clone it shares them.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedPayload {
    /// The metadata behind their length, if there are any, then the data.
    body: Bytes,
    metadata_len: Option<usize>,
}

impl SharedPayload {
    /// A copy of these parts in memory of its own.
    pub fn new(metadata: Option<&[u8]>, data: &[u8]) -> Self {
        let metadata_len = metadata.map(<[u8]>::len);
        let metadata_bytes = metadata_len.map_or(0, |len| METADATA_LENGTH_LEN + len);
        let mut body = Vec::with_capacity(metadata_bytes + data.len());
        if let Some(metadata) = metadata {
            // Longer metadata fit no frame: they are cut, with a length in each fragment.
            let len = metadata.len().min((1 << 24) - 1);
            body.put_uint(len as u64, METADATA_LENGTH_LEN);
            body.put_slice(metadata);
        }
        body.put_slice(data);
        Self { body: body.into(), metadata_len }
    }

    /// The same payload for one stream, which shares its bytes.
    pub fn to_payload(&self) -> Payload {
        let Some(len) = self.metadata_len else { return Payload::new(self.body.clone()) };
        let end = METADATA_LENGTH_LEN + len;
        Payload {
            metadata: Some(self.body.slice(METADATA_LENGTH_LEN..end)),
            data: self.body.slice(end..),
        }
    }

    /// Bytes of data and metadata together.
    #[inline]
    pub fn size(&self) -> usize {
        self.body.len() - if self.has_metadata() { METADATA_LENGTH_LEN } else { 0 }
    }

    /// The data.
    pub fn data(&self) -> &[u8] {
        &self.body[self.metadata_len.map_or(0, |len| METADATA_LENGTH_LEN + len)..]
    }

    /// The bytes that follow the header of a frame.
    #[inline]
    pub(crate) fn body(&self) -> &Bytes {
        &self.body
    }

    #[inline]
    pub(crate) fn has_metadata(&self) -> bool {
        self.metadata_len.is_some()
    }
}

impl fmt::Debug for SharedPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_payload().fmt(f)
    }
}

impl From<&Payload> for SharedPayload {
    fn from(payload: &Payload) -> Self {
        Self::new(payload.metadata.as_deref(), &payload.data)
    }
}

macro_rules! from_data {
    ($($source:ty),*) => {$(
        impl From<$source> for Payload {
            fn from(data: $source) -> Self {
                Self::new(data)
            }
        }
    )*};
}

from_data!(Bytes, Vec<u8>, String, &'static str, &'static [u8]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_payload_is_what_it_was_made_of() {
        for metadata in [None, Some(&b""[..]), Some(b"metadata")] {
            for data in [&b""[..], b"data"] {
                let shared = SharedPayload::new(metadata, data);
                let payload = shared.to_payload();
                assert_eq!(payload.metadata.as_deref(), metadata);
                assert_eq!(payload.data, data);
                assert_eq!(shared.size(), payload.size());
            }
        }
        let long = vec![7; 1 << 24];
        let shared = SharedPayload::new(Some(&long), b"d").to_payload();
        assert_eq!(shared, Payload::new("d").with_metadata(long));
    }

    /// AUTH-12
    #[test]
    fn debug_output_hides_metadata() {
        let shared = SharedPayload::new(Some(b"token"), b"d");
        assert_eq!(format!("{shared:?}"), r#"Payload { metadata_bytes: Some(5), data: b"d" }"#);
        let payload = Payload::new("d").with_metadata("token");
        assert_eq!(format!("{payload:?}"), r#"Payload { metadata_bytes: Some(5), data: b"d" }"#);
    }
}
