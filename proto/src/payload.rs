//! Payloads, which applications exchange: data and, optionally, metadata.

use std::fmt;

use bytes::Bytes;

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

    /// AUTH-12
    #[test]
    fn debug_output_hides_metadata() {
        let payload = Payload::new("d").with_metadata("token");
        assert_eq!(format!("{payload:?}"), r#"Payload { metadata_bytes: Some(5), data: b"d" }"#);
    }
}
