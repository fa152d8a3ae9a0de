//! SETUP and RESUME: how a connection begins.

use bytes::Bytes;

use crate::{
    error::Violation,
    frame::{
        codec::{Reader, Sink, u24_bytes},
        header::{Flags, FrameType, RawHeader},
    },
    payload::Payload,
};

/// The protocol version spoken here (SETUP-05).
pub const VERSION: (u16, u16) = (1, 0);

/// The SETUP frame: what a client says of a connection before anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Major and minor version; 1.0 unless a peer says otherwise.
    pub version: (u16, u16),
    /// Milliseconds between the client's KEEPALIVE frames, 1 to 2^31−1.
    pub keepalive_interval_ms: u32,
    /// Milliseconds without a sign of life after which a peer counts as dead, 1 to 2^31−1.
    pub max_lifetime_ms: u32,
    /// The token by which the session may be resumed; its presence asks for resume.
    pub resume_token: Option<Bytes>,
    /// Whether requests wait for leases.
    pub lease: bool,
    /// The MIME type of metadata; opaque to the protocol (SETUP-13), at most 255 bytes.
    pub metadata_mime: Bytes,
    /// The MIME type of data; opaque to the protocol (SETUP-13), at most 255 bytes.
    pub data_mime: Bytes,
    /// The payload that the application adds, for example credentials.
    pub payload: Payload,
}

impl Setup {
    pub(super) fn decode(flags: Flags, body: Bytes) -> Result<Self, Violation> {
        let short = |field| Violation::MalformedSetup { field };
        let mut body = Reader(body);
        let major = body.u16().ok_or_else(|| short("version"))?;
        let minor = body.u16().ok_or_else(|| short("version"))?;
        let keepalive_interval_ms = body.u32().ok_or_else(|| short("keepalive interval"))?;
        let max_lifetime_ms = body.u32().ok_or_else(|| short("max lifetime"))?;
        let resume_token = if flags.has(Flags::RESUME) {
            let len = body.u16().ok_or_else(|| short("resume token length"))?;
            Some(body.bytes(len.into()).ok_or_else(|| short("resume token"))?)
        } else {
            None
        };
        let mut mime = |field| {
            let len = body.u8().ok_or_else(|| short(field))?;
            body.bytes(len.into()).ok_or_else(|| short(field))
        };
        let metadata_mime = mime("metadata MIME type")?;
        let data_mime = mime("data MIME type")?;
        let metadata = if flags.has(Flags::METADATA) {
            let len = body.u24().ok_or_else(|| short("metadata length"))?;
            Some(body.bytes(len).ok_or_else(|| short("metadata"))?)
        } else {
            None
        };
        Ok(Self {
            version: (major, minor),
            keepalive_interval_ms,
            max_lifetime_ms,
            resume_token,
            lease: flags.has(Flags::LEASE),
            metadata_mime,
            data_mime,
            payload: Payload { metadata, data: body.rest() },
        })
    }

    /// Gets memory of its own: it outlives what it was read into.
    pub(crate) fn detach(&mut self) {
        let mimes = [&mut self.metadata_mime, &mut self.data_mime];
        for bytes in mimes.into_iter().chain(&mut self.resume_token) {
            *bytes = Bytes::copy_from_slice(bytes);
        }
        self.payload = self.payload.detached();
    }

    /// Writes the frame.
    pub fn encode<S: Sink>(&self, sink: &mut S) {
        let flags = Flags::default()
            .with(Flags::METADATA, self.payload.metadata.is_some())
            .with(Flags::RESUME, self.resume_token.is_some())
            .with(Flags::LEASE, self.lease);
        let mut fields = Vec::with_capacity(64);
        fields.extend(self.version.0.to_be_bytes());
        fields.extend(self.version.1.to_be_bytes());
        fields.extend(self.keepalive_interval_ms.to_be_bytes());
        fields.extend(self.max_lifetime_ms.to_be_bytes());
        if let Some(token) = &self.resume_token {
            fields.extend((token.len() as u16).to_be_bytes());
            fields.extend_from_slice(token);
        }
        for mime in [&self.metadata_mime, &self.data_mime] {
            fields.push(mime.len() as u8);
            fields.extend_from_slice(mime);
        }
        if let Some(metadata) = &self.payload.metadata {
            fields.extend(u24_bytes(metadata.len()));
            fields.extend_from_slice(metadata);
        }
        fields.extend_from_slice(&self.payload.data);
        let header = RawHeader::bytes(0, FrameType::Setup, flags);
        sink.frame(&header, None, fields.into());
    }
}

/// The RESUME frame: a client takes up a session on a new transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Major and minor version.
    pub version: (u16, u16),
    /// The token the session was set up with, compared byte by byte (RESUME-03).
    pub token: Bytes,
    /// The next byte the client expects of the server's tracked frames.
    pub last_received_server_position: u64,
    /// The earliest byte of its own tracked frames the client can send again.
    pub first_available_client_position: u64,
}

impl Resume {
    pub(super) fn decode(body: Bytes) -> Result<Self, Violation> {
        let short = |field| Violation::Truncated { frame: "RESUME", field };
        let mut body = Reader(body);
        let major = body.u16().ok_or_else(|| short("version"))?;
        let minor = body.u16().ok_or_else(|| short("version"))?;
        let len = body.u16().ok_or_else(|| short("token length"))?;
        Ok(Self {
            version: (major, minor),
            token: body.bytes(len.into()).ok_or_else(|| short("token"))?,
            last_received_server_position: body.u64().ok_or_else(|| short("server position"))?,
            first_available_client_position: body.u64().ok_or_else(|| short("client position"))?,
        })
    }

    /// Writes the frame.
    pub fn encode<S: Sink>(&self, sink: &mut S) {
        let mut fields = Vec::with_capacity(22 + self.token.len());
        fields.extend(self.version.0.to_be_bytes());
        fields.extend(self.version.1.to_be_bytes());
        fields.extend((self.token.len() as u16).to_be_bytes());
        fields.extend_from_slice(&self.token);
        fields.extend(self.last_received_server_position.to_be_bytes());
        fields.extend(self.first_available_client_position.to_be_bytes());
        let header = RawHeader::bytes(0, FrameType::Resume, Flags::default());
        sink.frame(&header, None, fields.into());
    }
}
