//! The four requests: one frame with an interaction.

use crate::{
    frame::{
        PayloadSignal,
        codec::{Sink, u24_bytes},
        header::{Flags, FrameType, RawHeader, StreamId},
    },
    payload::Payload,
};

/// The four interaction models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Interaction {
    /// One payload, no answer.
    FireAndForget,
    /// One payload, one answer.
    RequestResponse,
    /// One payload, many answers under the requester's credit.
    RequestStream,
    /// Many payloads both ways, each side under the other's credit.
    RequestChannel,
}

impl Interaction {
    /// The type of the frame that opens it.
    pub const fn frame_type(self) -> FrameType {
        match self {
            Self::FireAndForget => FrameType::RequestFnf,
            Self::RequestResponse => FrameType::RequestResponse,
            Self::RequestStream => FrameType::RequestStream,
            Self::RequestChannel => FrameType::RequestChannel,
        }
    }

    /// Whether the request carries an initial request-n.
    pub const fn has_initial_n(self) -> bool {
        matches!(self, Self::RequestStream | Self::RequestChannel)
    }
}

/// A REQUEST_* frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The stream it opens.
    pub stream: StreamId,
    /// The interaction asked for.
    pub interaction: Interaction,
    /// More fragments of the payload follow.
    pub follows: bool,
    /// The requester's half of a channel ends with this payload.
    pub complete: bool,
    /// The responder's first credit, as it stands on the wire (0 and the top bit included); 0 for
    /// interactions without one.
    pub initial_n: u32,
    /// The payload, or its first fragment.
    pub payload: Payload,
}

impl Request {
    /// Bytes of the encoded frame.
    pub fn encoded_len(&self) -> usize {
        let fixed = 6 + if self.interaction.has_initial_n() { 4 } else { 0 };
        body_len(fixed, &self.payload)
    }

    /// Writes the frame.
    pub fn encode<S: Sink>(self, sink: &mut S) {
        let flags = Flags::default()
            .with(Flags::METADATA, self.payload.metadata.is_some())
            .with(Flags::FOLLOWS, self.follows)
            .with(Flags::COMPLETE, self.complete);
        let header = RawHeader::bytes(self.stream.get(), self.interaction.frame_type(), flags);
        if self.interaction.has_initial_n() {
            let [a, b, c, d, e, f] = header;
            let [n1, n2, n3, n4] = self.initial_n.to_be_bytes();
            encode_body(&[a, b, c, d, e, f, n1, n2, n3, n4], self.payload, sink);
        } else {
            encode_body(&header, self.payload, sink);
        }
    }
}

/// A PAYLOAD frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadFrame {
    /// The stream it belongs to.
    pub stream: StreamId,
    /// More fragments of the payload follow.
    pub follows: bool,
    /// It carries an item (N).
    pub next: bool,
    /// Its sender's half ends (C).
    pub complete: bool,
    /// The item, or a fragment of it.
    pub payload: Payload,
}

/// Bytes of a PAYLOAD frame with this payload.
pub fn payload_frame_len(payload: &Payload) -> usize {
    body_len(6, payload)
}

/// Writes a PAYLOAD frame; a signal always has N, C or both (PAY-01).
pub fn encode_payload<S: Sink>(
    stream: StreamId,
    signal: PayloadSignal,
    follows: bool,
    payload: Payload,
    sink: &mut S,
) {
    let flags = Flags::default()
        .with(Flags::METADATA, payload.metadata.is_some())
        .with(Flags::FOLLOWS, follows)
        .with(Flags::NEXT, signal != PayloadSignal::Complete)
        .with(Flags::COMPLETE, signal != PayloadSignal::Next);
    encode_body(&RawHeader::bytes(stream.get(), FrameType::Payload, flags), payload, sink);
}

fn body_len(fixed: usize, payload: &Payload) -> usize {
    fixed + payload.metadata.as_ref().map_or(0, |metadata| 3 + metadata.len()) + payload.data.len()
}

fn encode_body<S: Sink>(head: &[u8], payload: Payload, sink: &mut S) {
    sink.begin(body_len(head.len(), &payload));
    sink.put(head);
    if let Some(metadata) = payload.metadata {
        sink.put(&u24_bytes(metadata.len()));
        sink.put_body(metadata);
    }
    if !payload.data.is_empty() {
        sink.put_body(payload.data);
    }
    sink.end();
}
