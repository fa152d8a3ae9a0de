//! The four requests: one frame with an interaction.

use crate::{
    error::Violation,
    frame::{
        PayloadSignal,
        codec::{Reader, Sink, frame_len},
        decode_payload,
        header::{Flags, FrameType, HEADER_LEN, RawHeader, StreamId},
    },
    payload::{Payload, SharedPayload},
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
    /// The interaction as people write it: `request-stream`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FireAndForget => "fire-and-forget",
            Self::RequestResponse => "request-response",
            Self::RequestStream => "request-stream",
            Self::RequestChannel => "request-channel",
        }
    }

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

/// Bytes of an initial request-n.
pub(crate) const INITIAL_N_LEN: usize = 4;

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
    #[inline]
    pub(super) fn decode(
        stream: StreamId,
        interaction: Interaction,
        flags: Flags,
        mut body: Reader,
    ) -> Result<Self, Violation> {
        let initial_n = if interaction.has_initial_n() {
            let frame = interaction.frame_type().name();
            body.u32().ok_or(Violation::Truncated { frame, field: "initial request-n" })?
        } else {
            0
        };
        Ok(Self {
            stream,
            interaction,
            follows: flags.has(Flags::FOLLOWS),
            complete: interaction == Interaction::RequestChannel && flags.has(Flags::COMPLETE),
            initial_n,
            payload: decode_payload(flags, body)?,
        })
    }

    /// Bytes of the encoded frame.
    pub fn encoded_len(&self) -> usize {
        let fixed = HEADER_LEN + if self.interaction.has_initial_n() { INITIAL_N_LEN } else { 0 };
        frame_len(fixed, self.payload.metadata.as_ref(), &self.payload.data)
    }

    /// Writes the frame.
    #[inline]
    pub fn encode<S: Sink>(self, sink: &mut S) {
        let flags = Flags::default()
            .with(Flags::METADATA, self.payload.metadata.is_some())
            .with(Flags::FOLLOWS, self.follows)
            .with(Flags::COMPLETE, self.complete);
        let header = RawHeader::bytes(self.stream.get(), self.interaction.frame_type(), flags);
        let Payload { metadata, data } = self.payload;
        if self.interaction.has_initial_n() {
            let [a, b, c, d, e, f] = header;
            let [n1, n2, n3, n4] = self.initial_n.to_be_bytes();
            sink.frame(&[a, b, c, d, e, f, n1, n2, n3, n4], metadata, data);
        } else {
            sink.frame(&header, metadata, data);
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

impl PayloadFrame {
    #[inline]
    pub(super) fn decode(stream: StreamId, flags: Flags, body: Reader) -> Result<Self, Violation> {
        Ok(Self {
            stream,
            follows: flags.has(Flags::FOLLOWS),
            next: flags.has(Flags::NEXT),
            complete: flags.has(Flags::COMPLETE),
            payload: decode_payload(flags, body)?,
        })
    }
}

/// Bytes of a PAYLOAD frame with this payload.
pub fn payload_frame_len(payload: &Payload) -> usize {
    frame_len(HEADER_LEN, payload.metadata.as_ref(), &payload.data)
}

/// Writes a PAYLOAD frame; a signal always has N, C or both (PAY-01).
#[inline]
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
    let header = RawHeader::bytes(stream.get(), FrameType::Payload, flags);
    sink.frame(&header, payload.metadata, payload.data);
}

/// Bytes of the frame that [`encode_shared`] writes.
#[inline]
pub(crate) fn shared_frame_len(item: &SharedPayload) -> usize {
    HEADER_LEN + item.body().len()
}

/// Writes a PAYLOAD frame with an item that others are sent as well.
#[inline]
pub(crate) fn encode_shared<S: Sink>(stream: StreamId, item: &SharedPayload, sink: &mut S) {
    let flags = Flags::default().with(Flags::METADATA, item.has_metadata()).with(Flags::NEXT, true);
    let header = RawHeader::bytes(stream.get(), FrameType::Payload, flags);
    sink.shared_frame(&header, item.body());
}
