//! Joining fragments into a payload, within bounds.

use bytes::BytesMut;

use crate::{config::Config, error::ErrorCode, payload::Payload};

/// A payload of which more fragments are to come.
///
/// What it holds grows with the bytes that arrive and is bounded by `max_payload_bytes`, and over
/// all streams of a connection by `max_reassembly_bytes` (FRAG-22, FRAG-23).
#[derive(Debug)]
pub(crate) struct Assembly {
    metadata: Option<BytesMut>,
    data: BytesMut,
    fragments: usize,
    empty_fragments: usize,
    /// Bytes there were when it was last looked at whether it grows.
    seen: Option<usize>,
    /// It is the request that opens its stream.
    pub(crate) is_request: bool,
    /// COMPLETE stood on the first fragment of a channel's request (FRAG-09).
    pub(crate) complete: bool,
}

/// Why the rest of a fragmented payload is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unjoinable {
    TooLarge,
    TooManyFragments,
    NoRoom,
    /// The owner of the connection has none left for it.
    NoMemory,
    /// Nothing more of it has come for too long.
    Stalled,
    /// Metadata after data: its place cannot be told (FRAG-25).
    LateMetadata,
}

impl Unjoinable {
    pub(crate) fn code(self) -> ErrorCode {
        match self {
            Self::LateMetadata => ErrorCode::INVALID,
            Self::NoMemory => ErrorCode::REJECTED,
            _ => ErrorCode::CANCELED,
        }
    }

    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::TooLarge => "the fragmented payload is larger than accepted here",
            Self::TooManyFragments => "the payload has more fragments than accepted here",
            Self::NoRoom => "too much of unfinished fragmented payloads on this connection",
            Self::NoMemory => {
                "there is no memory left for the rest of the payload: try again later"
            }
            Self::Stalled => "the rest of the fragmented payload did not come in time",
            Self::LateMetadata => "a fragment has metadata behind data",
        }
    }
}

impl Assembly {
    pub(crate) fn new(is_request: bool, complete: bool) -> Self {
        Self {
            metadata: None,
            data: BytesMut::new(),
            fragments: 0,
            empty_fragments: 0,
            seen: None,
            is_request,
            complete,
        }
    }

    /// Adds a fragment; `others` bytes are held by other assemblies of the connection.
    pub(crate) fn push(
        &mut self,
        fragment: &Payload,
        others: usize,
        limits: &Config,
    ) -> Result<(), Unjoinable> {
        let added = fragment.size();
        let size = self.size() + added;
        self.fragments += 1;
        self.empty_fragments += usize::from(added == 0);
        if size > limits.max_payload_bytes {
            return Err(Unjoinable::TooLarge);
        }
        if others + size > limits.max_reassembly_bytes {
            return Err(Unjoinable::NoRoom);
        }
        if self.fragments > limits.max_fragments
            || self.empty_fragments > limits.max_empty_fragments
        {
            return Err(Unjoinable::TooManyFragments);
        }
        if let Some(metadata) = &fragment.metadata {
            if !self.data.is_empty() && !metadata.is_empty() {
                return Err(Unjoinable::LateMetadata);
            }
            self.metadata.get_or_insert_default().extend_from_slice(metadata);
        }
        self.data.extend_from_slice(&fragment.data);
        Ok(())
    }

    /// Bytes held.
    pub(crate) fn size(&self) -> usize {
        self.metadata.as_ref().map_or(0, BytesMut::len) + self.data.len()
    }

    /// Memory held: what there is room for, and what was moved from when it grew, for a moment.
    pub(crate) fn memory(&self) -> usize {
        self.metadata.as_ref().map_or(0, BytesMut::capacity) + self.data.capacity()
    }

    /// Whether it has grown by fewer than `least` bytes since the last time this was asked.
    pub(crate) fn has_stalled(&mut self, least: usize) -> bool {
        let size = self.size();
        self.seen.replace(size).is_some_and(|seen| size < seen + least)
    }

    pub(crate) fn finish(self) -> Payload {
        Payload { metadata: self.metadata.map(BytesMut::freeze), data: self.data.freeze() }
    }
}
