//! How frames lie on a socket.

use std::ops::Range;

use crate::Frame;

/// The opcode of a continuation.
pub const CONTINUATION: u8 = 0x0;
/// The opcode of text.
pub const TEXT: u8 = 0x1;
/// The opcode of a binary message.
pub const BINARY: u8 = 0x2;
/// The opcode of a close frame.
pub const CLOSE: u8 = 0x8;
/// The opcode of a ping.
pub const PING: u8 = 0x9;
/// The opcode of a pong.
pub const PONG: u8 = 0xa;
/// The last fragment of a message, in the first byte of its header.
pub const FIN: u8 = 0x80;

/// The mask of all our WebSocket frames: masking is what is tested, not secrecy.
pub const MASK: [u8; 4] = [0x5a, 0x00, 0xff, 0x13];

/// How frames lie on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// A u24 length before each.
    Tcp,
    /// Each a binary message.
    WebSocket,
}

impl Framing {
    /// A frame as a client writes it.
    pub fn wrap(self, frame: &[u8]) -> Vec<u8> {
        self.wrap_masked(Some(MASK), frame)
    }

    /// A frame as it is on the socket, with this mask where it is a message.
    pub fn wrap_masked(self, mask: Option<[u8; 4]>, frame: &[u8]) -> Vec<u8> {
        match self {
            Self::Tcp => prefixed(frame),
            Self::WebSocket => message(FIN | BINARY, mask, frame),
        }
    }

    /// Frames as a client writes them, one behind the other.
    pub fn wrap_all(self, frames: impl IntoIterator<Item = Frame>) -> Vec<u8> {
        frames.into_iter().flat_map(|frame| self.wrap(&frame.encode())).collect()
    }

    /// Reads what stands before a frame or a message; `None` as long as it is not whole.
    pub fn envelope(self, bytes: &[u8]) -> Option<Envelope> {
        if self == Self::Tcp {
            let len = prefix_len(*bytes.first_chunk()?);
            return Some(Envelope { first: FIN | BINARY, mask: None, body: 3..3 + len });
        }
        let &[first, second] = bytes.first_chunk()?;
        let (at, len) = match second & 0x7f {
            126 => (4, u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?).into()),
            127 => (10, u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?) as usize),
            len => (2, usize::from(len)),
        };
        if second & 0x80 == 0 {
            return Some(Envelope { first, mask: None, body: at..at + len });
        }
        let mask = *bytes.get(at..)?.first_chunk()?;
        Some(Envelope { first, mask: Some(mask), body: at + 4..at + 4 + len })
    }
}

/// The bytes before a frame on a socket, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The first byte of a message: an opcode, and whether it ends here.
    pub first: u8,
    /// The mask, if there is one.
    pub mask: Option<[u8; 4]>,
    /// The place of the frame; its end may not have come yet.
    pub body: Range<usize>,
}

impl Envelope {
    /// The frame out of the bytes that begin with this envelope, unmasked, if it has come whole.
    pub fn open(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut body = bytes.get(self.body.clone())?.to_vec();
        if let Some(mask) = self.mask {
            body.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
        }
        Some(body)
    }
}

/// A frame with its length before it, as it is on TCP.
pub fn prefixed(frame: &[u8]) -> Vec<u8> {
    [&(frame.len() as u32).to_be_bytes()[1..], frame].concat()
}

/// The length that stands before a frame on TCP.
pub fn prefix_len([a, b, c]: [u8; 3]) -> usize {
    u32::from_be_bytes([0, a, b, c]) as usize
}

/// The first of frames that have their length before them, and what follows it; `None` as long as it
/// has not come whole.
pub fn unprefixed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (prefix, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(prefix_len(*prefix))
}

/// A WebSocket frame.
pub fn message(first: u8, mask: Option<[u8; 4]>, body: &[u8]) -> Vec<u8> {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut wire = vec![first];
    match body.len() {
        len @ 0..126 => wire.push(masked | len as u8),
        len @ 126..=0xffff => {
            wire.push(masked | 126);
            wire.extend((len as u16).to_be_bytes());
        }
        len => {
            wire.push(masked | 127);
            wire.extend((len as u64).to_be_bytes());
        }
    }
    match mask {
        None => wire.extend(body),
        Some(mask) => {
            wire.extend(mask);
            wire.extend(body.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
        }
    }
    wire
}

/// A part of a WebSocket message, as a client writes it.
pub fn part_of_message(first: u8, body: &[u8]) -> Vec<u8> {
    message(first, Some(MASK), body)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 6455, section 5.7.
    #[test]
    fn messages_are_written_as_the_rfc_has_them() {
        let mask = Some([0x37, 0xfa, 0x21, 0x3d]);
        let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(message(FIN | TEXT, mask, b"Hello"), masked);
        assert_eq!(message(FIN | TEXT, None, b"Hello"), b"\x81\x05Hello");
        assert_eq!(message(FIN | BINARY, None, &[0; 256])[..4], [0x82, 0x7e, 0x01, 0x00]);
        let long = message(FIN | BINARY, None, &[0; 65536]);
        assert_eq!(long[..10], [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn an_envelope_is_read_once_it_is_whole() {
        for framing in [Framing::Tcp, Framing::WebSocket] {
            for mask in [None, Some(MASK)] {
                for len in [0, 1, 125, 126, 0xffff, 0x1_0000] {
                    let frame = vec![b'f'; len];
                    let wire = framing.wrap_masked(mask, &frame);
                    let envelope = framing.envelope(&wire).expect("it is whole");
                    assert_eq!(envelope.body.end, wire.len());
                    assert_eq!(envelope.open(&wire), Some(frame));
                    for cut in 0..envelope.body.start {
                        assert_eq!(framing.envelope(&wire[..cut]), None, "{cut} bytes");
                    }
                    assert!(len == 0 || envelope.open(&wire[..wire.len() - 1]).is_none());
                }
            }
        }
    }
}
