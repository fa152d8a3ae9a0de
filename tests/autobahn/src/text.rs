//! Text messages, passed off as binary ones.

use std::collections::VecDeque;

use crate::transport::websocket::Opcode;

/// Walks the frames of a byte stream and makes the first frame of a text message that of a binary
/// one. Where the stream is no WebSocket's, what comes after is of no consequence.
#[derive(Debug, Default)]
pub(crate) struct Disguise {
    /// Bytes of a header that is not whole, at most 14.
    header: Vec<u8>,
    /// Bytes of a body that are still to come.
    body: u64,
    /// The messages that have begun and not been asked for.
    begun: VecDeque<Opcode>,
}

impl Disguise {
    /// The next bytes.
    pub(crate) fn pass(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let skipped = usize::try_from(self.body).unwrap_or(usize::MAX).min(bytes.len());
            self.body -= skipped as u64;
            bytes = &mut bytes[skipped..];
            let Some(byte) = bytes.first_mut() else { return };
            if self.header.is_empty() {
                match *byte & 0x0F {
                    0x1 => {
                        *byte += 1;
                        self.begun.push_back(Opcode::Text);
                    }
                    0x2 => self.begun.push_back(Opcode::Binary),
                    _ => {}
                }
            }
            self.header.push(*byte);
            bytes = &mut bytes[1..];
            if let Some(len) = body_of(&self.header) {
                self.body = len;
                self.header.clear();
            }
        }
    }

    /// The kind of the next message.
    pub(crate) fn next_opcode(&mut self) -> Opcode {
        self.begun.pop_front().unwrap_or(Opcode::Binary)
    }
}

/// The length of the body, once the header is whole.
fn body_of(header: &[u8]) -> Option<u64> {
    let second = *header.get(1)?;
    let extended = match second & 0x7F {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mask = if second & 0x80 != 0 { 4 } else { 0 };
    if header.len() < 2 + extended + mask {
        return None;
    }
    let length = header[2..2 + extended].iter();
    let length = length.fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    Some(if extended == 0 { u64::from(second & 0x7F) } else { length })
}
