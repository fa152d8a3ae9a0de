//! The six bytes every frame starts with: stream id, type and flags (FRAME-01).

use std::{fmt, num::NonZeroU32};

/// The largest stream id, request-n and duration in milliseconds: 2^31−1.
pub const MAX_U31: u32 = 0x7FFF_FFFF;

/// The length of a frame header in bytes.
pub const HEADER_LEN: usize = 6;

/// The id of a stream: never 0, never above 2^31−1. Frames of the connection carry none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(NonZeroU32);

impl StreamId {
    pub(crate) const MIN: Self = Self(NonZeroU32::MIN);

    /// The id with this number, unless it is 0 or above 2^31−1.
    pub const fn new(id: u32) -> Option<Self> {
        if id > MAX_U31 {
            return None;
        }
        match NonZeroU32::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// The number on the wire.
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// True for ids a client allocates (SID-01).
    pub const fn is_odd(self) -> bool {
        self.get() % 2 == 1
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// The number of a stream id on the wire, 0 for the connection.
pub(crate) fn wire_id(stream: Option<StreamId>) -> u32 {
    stream.map_or(0, StreamId::get)
}

macro_rules! frame_types {
    ($($name:ident = $value:literal, $text:literal;)*) => {
        /// The type of a frame.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum FrameType {
            $(#[doc = $text] $name = $value,)*
        }

        impl FrameType {
            /// The type with this number, if the specification defines it.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($value => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The specification's name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

frame_types! {
    Setup = 0x01, "SETUP";
    Lease = 0x02, "LEASE";
    KeepAlive = 0x03, "KEEPALIVE";
    RequestResponse = 0x04, "REQUEST_RESPONSE";
    RequestFnf = 0x05, "REQUEST_FNF";
    RequestStream = 0x06, "REQUEST_STREAM";
    RequestChannel = 0x07, "REQUEST_CHANNEL";
    RequestN = 0x08, "REQUEST_N";
    Cancel = 0x09, "CANCEL";
    Payload = 0x0A, "PAYLOAD";
    Error = 0x0B, "ERROR";
    MetadataPush = 0x0C, "METADATA_PUSH";
    Resume = 0x0D, "RESUME";
    ResumeOk = 0x0E, "RESUME_OK";
    Ext = 0x3F, "EXT";
}

impl FrameType {
    /// Resume positions count frames of this type, on streams (RESUME-04, RESUME-06).
    pub(crate) const fn is_tracked(self) -> bool {
        matches!(
            self,
            Self::RequestResponse
                | Self::RequestFnf
                | Self::RequestStream
                | Self::RequestChannel
                | Self::RequestN
                | Self::Cancel
                | Self::Payload
                | Self::Error
        )
    }
}

/// The ten flag bits of a header; which of them mean something depends on the type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(pub(crate) u16);

impl Flags {
    pub(crate) const IGNORE: Self = Self(0x200);
    pub(crate) const METADATA: Self = Self(0x100);
    pub(crate) const FOLLOWS: Self = Self(0x080);
    pub(crate) const RESUME: Self = Self(0x080);
    pub(crate) const RESPOND: Self = Self(0x080);
    pub(crate) const COMPLETE: Self = Self(0x040);
    pub(crate) const LEASE: Self = Self(0x040);
    pub(crate) const NEXT: Self = Self(0x020);

    pub(crate) const fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }

    #[must_use]
    pub(crate) const fn with(self, flag: Self, set: bool) -> Self {
        if set { Self(self.0 | flag.0) } else { self }
    }
}

/// A header as it stands on the wire, before anything is made of it.
#[derive(Clone, Copy)]
pub(crate) struct RawHeader {
    pub(crate) stream_id: u32,
    pub(crate) frame_type: u8,
    pub(crate) flags: Flags,
}

impl RawHeader {
    pub(crate) fn read(frame: &[u8]) -> Option<Self> {
        let &[a, b, c, d, e, f] = frame.first_chunk::<HEADER_LEN>()?;
        let word = u16::from_be_bytes([e, f]);
        Some(Self {
            stream_id: u32::from_be_bytes([a, b, c, d]),
            frame_type: (word >> 10) as u8,
            flags: Flags(word & 0x3FF),
        })
    }

    pub(crate) fn bytes(stream_id: u32, frame_type: FrameType, flags: Flags) -> [u8; HEADER_LEN] {
        let [a, b, c, d] = stream_id.to_be_bytes();
        let [e, f] = (((frame_type as u16) << 10) | flags.0).to_be_bytes();
        [a, b, c, d, e, f]
    }
}
