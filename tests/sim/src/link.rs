//! One direction of a wire: bytes, or messages around frames, that arrive in any pieces or not at all.

use bytes::{Buf, Bytes, BytesMut};
use rsock_proto::{Envelope, SendBuf};

use crate::broken::{Check, hold, some};

/// The bytes that stand before a message's frame.
const MESSAGE_HEAD: usize = 4;
/// The bytes that stand before a frame in a stream of bytes (TCP-01).
const PREFIX: usize = 3;
const MASK: u8 = 0x5A;

/// The bytes on their way to one side.
#[derive(Debug)]
pub(crate) struct Pipe {
    messages: bool,
    pub(crate) bytes: BytesMut,
    /// The writer has closed it.
    pub(crate) ended: bool,
}

impl Pipe {
    pub(crate) fn new(messages: bool) -> Self {
        Self { messages, bytes: BytesMut::new(), ended: false }
    }

    /// A buffer that writes what this pipe carries.
    pub(crate) fn send_buf(&self) -> SendBuf {
        if self.messages {
            SendBuf::enveloped(Box::new(Masked))
        } else {
            SendBuf::length_prefixed()
        }
    }

    /// Takes up to so many bytes out of a buffer.
    pub(crate) fn carry(&mut self, from: &mut SendBuf, most: usize) {
        let mut left = most.min(from.remaining());
        while left > 0 {
            let chunk = from.chunk();
            let len = chunk.len().min(left);
            self.bytes.extend_from_slice(&chunk[..len]);
            from.advance(len);
            left -= len;
        }
    }

    /// Takes the message at the front, if it is whole: its frame, and its bytes on the transport.
    pub(crate) fn message(&mut self) -> Option<(Bytes, usize)> {
        let len = u32::from_be_bytes(*self.bytes.first_chunk::<MESSAGE_HEAD>()?) as usize;
        if self.bytes.len() < MESSAGE_HEAD + len {
            return None;
        }
        self.bytes.advance(MESSAGE_HEAD);
        let mut frame = self.bytes.split_to(len);
        frame.iter_mut().for_each(|byte| *byte ^= MASK);
        Some((frame.freeze(), MESSAGE_HEAD + len))
    }

    /// The frames in what was written just now, each with its bytes on the transport.
    pub(crate) fn frames(&self, written: &[u8]) -> Check<Vec<(Bytes, usize)>> {
        let (mut frames, mut rest) = (Vec::new(), written);
        let head = if self.messages { MESSAGE_HEAD } else { PREFIX };
        while !rest.is_empty() {
            let (before, behind) = some!(rest.split_at_checked(head), Wire, "half a prefix");
            let len = before.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
            hold!(len <= behind.len(), Wire, "TCP-01: {len} bytes of {}", behind.len());
            let (frame, behind) = behind.split_at(len);
            let mut frame = frame.to_vec();
            if self.messages {
                frame.iter_mut().for_each(|byte| *byte ^= MASK);
            }
            frames.push((frame.into(), head + len));
            rest = behind;
        }
        Ok(frames)
    }

    /// A frame as this pipe carries it.
    pub(crate) fn wrap(&self, frame: &[u8]) -> Vec<u8> {
        let len = (frame.len() as u32).to_be_bytes();
        if self.messages {
            let masked: Vec<u8> = frame.iter().map(|byte| byte ^ MASK).collect();
            [&len[..], &masked].concat()
        } else {
            [&len[1..], frame].concat()
        }
    }
}

/// A length and the frame, masked: like a WebSocket client's message, and simpler.
struct Masked;

impl Envelope for Masked {
    fn open(&mut self, len: usize, out: &mut BytesMut) {
        // A frame has at most 2^24-1 bytes.
        out.extend_from_slice(&(len as u32).to_be_bytes());
    }

    fn rewrites(&self) -> bool {
        true
    }

    fn seal(&mut self, frame: &mut [u8]) {
        frame.iter_mut().for_each(|byte| *byte ^= MASK);
    }
}
