//! The small frames: REQUEST_N, CANCEL, ERROR, KEEPALIVE, LEASE, METADATA_PUSH, RESUME_OK, EXT.

use bytes::Bytes;

use crate::{
    config::MAX_FRAME_BYTES,
    error::ErrorCode,
    frame::{
        codec::Sink,
        header::{Flags, FrameType, HEADER_LEN, RawHeader, StreamId, wire_id},
    },
};

/// A KEEPALIVE frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// The receiver must send it back (R).
    pub respond: bool,
    /// The sender's received position; 0 without resume (KA-06). The top bit is passed on (KA-14).
    pub position: u64,
    /// Returned unchanged in the reply.
    pub data: Bytes,
}

impl KeepAlive {
    /// Bytes of a frame without data.
    pub(crate) const FIXED_LEN: usize = HEADER_LEN + 8;

    /// Writes the frame.
    pub fn encode<S: Sink>(self, sink: &mut S) {
        let flags = Flags::default().with(Flags::RESPOND, self.respond);
        let head = head_u64(FrameType::KeepAlive, flags, self.position);
        sink.frame(&head, None, self.data);
    }
}

/// A LEASE frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Milliseconds it lasts from its arrival, as it stands on the wire.
    pub ttl_ms: u32,
    /// Requests it allows, as it stands on the wire.
    pub requests: u32,
    /// The metadata that the responder adds.
    pub metadata: Option<Bytes>,
}

impl Lease {
    /// Bytes of a frame without metadata.
    pub(crate) const FIXED_LEN: usize = HEADER_LEN + 8;

    /// Writes the frame.
    pub fn encode<S: Sink>(self, sink: &mut S) {
        let flags = Flags::default().with(Flags::METADATA, self.metadata.is_some());
        let fields = u64::from(self.ttl_ms) << 32 | u64::from(self.requests);
        let head = head_u64(FrameType::Lease, flags, fields);
        // There is no length before them: they are all that follows.
        sink.frame(&head, None, self.metadata.unwrap_or_default());
    }
}

/// An EXT frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ext {
    /// The stream, `None` for the connection.
    pub stream: Option<StreamId>,
    /// It may be ignored by a receiver that does not know it (I).
    pub ignorable: bool,
    /// The extended type, as it stands on the wire.
    pub extended_type: u32,
    /// The body that the extended type defines.
    pub body: Bytes,
}

impl Ext {
    /// Writes the frame.
    pub fn encode<S: Sink>(self, sink: &mut S) {
        let flags = Flags::default().with(Flags::IGNORE, self.ignorable);
        encode_u32(self.stream, FrameType::Ext, flags, self.extended_type, self.body, sink);
    }
}

/// Writes REQUEST_N. `n` is between 1 and 2^31−1 (RN-01).
pub fn encode_request_n<S: Sink>(stream: StreamId, n: u32, sink: &mut S) {
    encode_u32(Some(stream), FrameType::RequestN, Flags::default(), n, Bytes::new(), sink);
}

/// Writes CANCEL.
pub fn encode_cancel<S: Sink>(stream: StreamId, sink: &mut S) {
    let head = RawHeader::bytes(stream.get(), FrameType::Cancel, Flags::default());
    sink.frame(&head, None, Bytes::new());
}

/// Writes ERROR, on a stream or on the connection. Text beyond the frame limit is cut at a
/// character (ERR-12).
pub fn encode_error<S: Sink>(
    stream: Option<StreamId>,
    code: ErrorCode,
    message: &str,
    sink: &mut S,
) {
    let mut cut = message.len().min(MAX_FRAME_BYTES - ERROR_FIXED_LEN);
    while !message.is_char_boundary(cut) {
        cut -= 1;
    }
    let text = Bytes::copy_from_slice(&message.as_bytes()[..cut]);
    encode_u32(stream, FrameType::Error, Flags::default(), code.0, text, sink);
}

/// Bytes of an ERROR without text: its header and code.
const ERROR_FIXED_LEN: usize = HEADER_LEN + 4;

/// Writes METADATA_PUSH (MDP-01).
pub fn encode_metadata_push<S: Sink>(metadata: Bytes, sink: &mut S) {
    sink.frame(&RawHeader::bytes(0, FrameType::MetadataPush, Flags::METADATA), None, metadata);
}

/// Writes RESUME_OK.
pub fn encode_resume_ok<S: Sink>(last_received_client_position: u64, sink: &mut S) {
    let flags = Flags::default();
    let head = head_u64(FrameType::ResumeOk, flags, last_received_client_position);
    sink.frame(&head, None, Bytes::new());
}

fn encode_u32<S: Sink>(
    stream: Option<StreamId>,
    frame_type: FrameType,
    flags: Flags,
    field: u32,
    body: Bytes,
    sink: &mut S,
) {
    let [a, b, c, d, e, f] = RawHeader::bytes(wire_id(stream), frame_type, flags);
    let [n1, n2, n3, n4] = field.to_be_bytes();
    sink.frame(&[a, b, c, d, e, f, n1, n2, n3, n4], None, body);
}

/// The beginning of a frame of the connection that has eight bytes behind its header.
fn head_u64(frame_type: FrameType, flags: Flags, field: u64) -> [u8; HEADER_LEN + 8] {
    let mut head = [0; HEADER_LEN + 8];
    let (header, fields) = head.split_at_mut(HEADER_LEN);
    header.copy_from_slice(&RawHeader::bytes(0, frame_type, flags));
    fields.copy_from_slice(&field.to_be_bytes());
    head
}
