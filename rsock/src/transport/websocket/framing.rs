//! The codec at work between a connection's buffers.

use bytes::BytesMut;
use rsock_proto::{Envelope, SendBuf, Violation, frame::InputLimits};

use super::{Decoder, Incoming, MaskKeys, Opcode, Role, apply_mask, encode_control, encode_header};
use crate::transport::Received;

/// Frames as binary messages, in both directions.
pub(crate) struct WebSocketFraming {
    role: Role,
    decoder: Decoder,
    /// A client masks what it sends.
    keys: Option<MaskKeys>,
    /// The close code to say farewell with; `None` once it is said.
    farewell: Option<u16>,
}

/// 1000: the purpose of the connection is fulfilled.
const NORMAL: u16 = 1000;

impl WebSocketFraming {
    pub(crate) fn new(role: Role, max_frame_bytes: usize) -> Self {
        Self {
            role,
            decoder: Decoder::new(role, max_frame_bytes),
            keys: (role == Role::Client).then(MaskKeys::new),
            farewell: Some(NORMAL),
        }
    }

    pub(crate) fn send_buf(&self) -> SendBuf {
        let masks = (self.role == Role::Client).then(MaskKeys::new);
        SendBuf::enveloped(Box::new(Message { masks, mask: None }))
    }

    #[inline]
    pub(crate) fn decode(
        &mut self,
        input: &mut BytesMut,
        limits: InputLimits,
        output: &mut SendBuf,
    ) -> Result<Option<Received>, Violation> {
        self.decoder.limit(limits);
        match self.decoder.decode_whole(input) {
            Some(frame) => Ok(Some(Received::Frame(frame))),
            None => self.decode_any(input, output),
        }
    }

    /// Bytes of a message whose last fragment has not come.
    pub(crate) fn partial_bytes(&self) -> usize {
        self.decoder.partial().map_or(0, BytesMut::len)
    }

    /// Memory of such a message.
    pub(crate) fn partial_memory(&self) -> usize {
        self.decoder.partial().map_or(0, BytesMut::capacity)
    }

    fn decode_any(
        &mut self,
        input: &mut BytesMut,
        output: &mut SendBuf,
    ) -> Result<Option<Received>, Violation> {
        let incoming = self.decoder.decode(input).map_err(|error| {
            self.farewell = Some(error.close_code());
            Violation::Transport { what: error.problem() }
        })?;
        Ok(incoming.map(|incoming| match incoming {
            // Text is not taken by this decoder.
            Incoming::Message(frame) | Incoming::Text(frame) => Received::Frame(frame),
            Incoming::Ping(data) => {
                // A peer that does not read gets no pongs: they must not queue (WS-07).
                if !output.is_full() {
                    self.put_control(Opcode::Pong, &data, output);
                }
                Received::Control
            }
            Incoming::Pong => Received::Pong,
            Incoming::Close(said) => {
                if self.farewell.is_some() {
                    self.farewell = Some(said.as_ref().map_or(NORMAL, |said| said.code));
                    self.close(output);
                }
                Received::End(said.map(|said| (said.code, said.reason.into())))
            }
        }))
    }

    /// Pings the peer, unless the farewell is said: what follows it is not read. Says whether it did.
    pub(crate) fn ping(&mut self, output: &mut SendBuf) -> bool {
        let goes_on = self.farewell.is_some();
        if goes_on {
            self.put_control(Opcode::Ping, b"", output);
        }
        goes_on
    }

    pub(crate) fn close(&mut self, output: &mut SendBuf) {
        if let Some(code) = self.farewell.take() {
            self.put_control(Opcode::Close, &code.to_be_bytes(), output);
        }
    }

    fn put_control(&mut self, opcode: Opcode, body: &[u8], output: &mut SendBuf) {
        let mask = self.keys.as_mut().map(MaskKeys::next);
        let mut frame = BytesMut::new();
        encode_control(opcode, body, mask, &mut frame);
        output.put_raw(&frame);
    }
}

/// The envelope of one message.
struct Message {
    masks: Option<MaskKeys>,
    /// The mask of the message being written.
    mask: Option<[u8; 4]>,
}

impl Envelope for Message {
    fn open(&mut self, len: usize, out: &mut BytesMut) {
        self.mask = self.masks.as_mut().map(MaskKeys::next);
        encode_header(Opcode::Binary, len, self.mask, out);
    }

    fn rewrites(&self) -> bool {
        self.masks.is_some()
    }

    fn seal(&mut self, frame: &mut [u8]) {
        if let Some(mask) = self.mask {
            apply_mask(mask, 0, frame);
        }
    }
}
