//! The framing of RFC 6455, section 5, without I/O: bytes to messages and back.
//!
//! RSocket needs the binary half of WebSocket only: one frame is one binary message; text is taken where
//! somebody asks for it. A message
//! that came in one frame leaves as a slice of the read buffer, unmasked in place; only messages
//! that a peer cut into continuation frames are copied together. Outgoing frames are a header
//! written by [`encode_header`] in front of bytes the caller already has.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use rsock_proto::frame::{InputLimits, take_front};

use super::WebSocketError;

/// Which side of the connection we are; it decides who masks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// We dialled: what we send is masked, what we receive is not.
    Client,
    /// We accepted: what we receive is masked, what we send is not.
    Server,
}

/// The meaning of a frame, RFC 6455 section 5.2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Opcode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xA,
}

/// The messages that the peer sent, in wire order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Incoming {
    /// A whole binary message.
    Message(Bytes),
    /// A whole text message, of UTF-8; where text is taken.
    Text(Bytes),
    /// To be answered with a pong of the same bytes.
    Ping(Bytes),
    /// An answer to a ping of ours, or unsolicited; nothing to do.
    Pong,
    /// The peer is done, with its status code and reason if it gave them; nothing follows.
    Close(Option<Farewell>),
}

/// Why a peer closes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Farewell {
    pub(crate) code: u16,
    /// At most 123 bytes, since a control frame has no more than 125.
    pub(crate) reason: String,
}

/// Cuts received bytes into messages and control frames.
///
/// After an error or an [`Incoming::Close`] the connection is over and the decoder with it.
#[derive(Debug)]
pub(crate) struct Decoder {
    role: Role,
    /// The longest message, and which are copied off the input.
    limits: InputLimits,
    /// The frame whose body has not arrived in full; its header has left the input.
    awaited: Option<Header>,
    /// The fragments so far of a message that has not seen its last one. Few are sent so.
    partial: Option<Box<Partial>>,
    takes_text: bool,
}

#[derive(Clone, Copy, Debug)]
struct Header {
    fin: bool,
    opcode: Opcode,
    mask: Option<[u8; 4]>,
    len: usize,
}

#[derive(Debug, Default)]
struct Partial {
    /// Never longer than `max_message`.
    bytes: BytesMut,
    /// It is text, of which so many bytes are known to be UTF-8: all but the beginning of a character.
    text: Option<usize>,
    /// Never more than `MAX_EMPTY_FRAGMENTS`.
    empty_fragments: u32,
}

/// Empty fragments cost the peer two bytes and bring the message no nearer to its limit, so they
/// have a limit of their own. Honest senders make one or two, when they flush or finish.
const MAX_EMPTY_FRAGMENTS: u32 = 1024;

/// The first byte of a binary message in one frame.
const BINARY_FIN: u8 = 0x80 | Opcode::Binary as u8;
/// The bit of the second byte that says that a mask is there.
const MASKED: u8 = 0x80;

impl Decoder {
    /// A decoder for what arrives at a peer in `role`; no message, whole or assembled, exceeds
    /// `max_message` bytes.
    pub(crate) fn new(role: Role, max_message: usize) -> Self {
        let limits = InputLimits::sharing(max_message);
        Self { role, limits, awaited: None, partial: None, takes_text: false }
    }

    /// Takes text messages, too.
    pub(crate) fn taking_text(mut self) -> Self {
        self.takes_text = true;
        self
    }

    /// Sets the limits of messages that have not begun.
    #[inline]
    pub(crate) fn limit(&mut self, limits: InputLimits) {
        self.limits = limits;
    }

    /// A message whose last fragment has not come.
    pub(crate) fn partial(&self) -> Option<&BytesMut> {
        self.partial.as_ref().map(|partial| &partial.bytes)
    }

    /// Takes the next whole message or control frame out of `input`; `None` = more bytes needed.
    ///
    /// Lengths are judged as soon as the header is there, so that nobody waits for, or makes room
    /// for, a body that will be refused.
    pub(crate) fn decode(
        &mut self,
        input: &mut BytesMut,
    ) -> Result<Option<Incoming>, WebSocketError> {
        loop {
            let header = match self.awaited.take() {
                Some(header) => header,
                None => match self.decode_header(input)? {
                    Some(header) => header,
                    None => return Ok(None),
                },
            };
            if input.len() < header.len {
                self.awaited = Some(header);
                return Ok(None);
            }
            if let Some(key) = header.mask {
                apply_mask(key, 0, &mut input[..header.len]);
            }
            let body = take_front(input, header.len, self.limits.copy_below);
            match header.opcode {
                Opcode::Binary if header.fin => return Ok(Some(Incoming::Message(body))),
                Opcode::Ping => return Ok(Some(Incoming::Ping(body))),
                Opcode::Pong => return Ok(Some(Incoming::Pong)),
                Opcode::Close => return farewell(&body).map(|said| Some(Incoming::Close(said))),
                Opcode::Text if header.fin => {
                    str::from_utf8(&body).map_err(|_| WebSocketError::TextNotUtf8)?;
                    return Ok(Some(Incoming::Text(body)));
                }
                Opcode::Binary | Opcode::Continuation | Opcode::Text => {
                    if let Some(whole) = self.assemble(header, &body)? {
                        return Ok(Some(whole));
                    }
                }
            }
        }
    }

    /// Decodes what nearly all frames are: a whole message of at most 64 KiB in one frame, all of it
    /// there. `None` for anything else, which then goes the long way.
    #[inline]
    pub(crate) fn decode_whole(&mut self, input: &mut BytesMut) -> Option<Bytes> {
        if self.awaited.is_some() || self.partial.is_some() {
            return None;
        }
        let &[BINARY_FIN, second, ..] = &input[..] else { return None };
        let masked = second & MASKED != 0;
        if masked != self.expects_mask() || second & !MASKED == 127 {
            return None;
        }
        let (announced, lengths) = announced(input, second)?;
        let len = usize::try_from(announced).ok()?;
        let start = if masked { lengths + 4 } else { lengths };
        if len > self.limits.max_frame_bytes || input.len() < start.saturating_add(len) {
            return None;
        }
        if masked {
            let (header, body) = input[..start + len].split_at_mut(start);
            apply_mask(*header.last_chunk()?, 0, body);
        }
        input.advance(start);
        Some(take_front(input, len, self.limits.copy_below))
    }

    fn decode_header(&self, input: &mut BytesMut) -> Result<Option<Header>, WebSocketError> {
        let &[first, second, ..] = &input[..] else {
            return Ok(None);
        };
        let (fin, masked) = (first & 0x80 != 0, second & MASKED != 0);
        let opcode = self.judge(first, second & !MASKED, masked)?;
        let Some((announced, lengths)) = announced(input, second) else { return Ok(None) };
        // Section 5.2: "the most significant bit MUST be 0"
        if announced >> 63 != 0 {
            return Err(WebSocketError::LengthTopBit);
        }
        let received = self.partial().map_or(0, BytesMut::len);
        let max_message = self.limits.max_frame_bytes;
        let len = match usize::try_from(announced) {
            Ok(len) if is_control(opcode) || len <= max_message.saturating_sub(received) => len,
            _ => {
                return Err(WebSocketError::MessageTooBig { max: max_message });
            }
        };
        let mask = if masked {
            let Some(key) = input[lengths..].first_chunk() else { return Ok(None) };
            Some(*key)
        } else {
            None
        };
        input.advance(if masked { lengths + 4 } else { lengths });
        Ok(Some(Header { fin, opcode, mask, len }))
    }

    /// A server's input is masked, a client's is not (section 5.1).
    fn expects_mask(&self) -> bool {
        self.role == Role::Server
    }

    /// All that the first two bytes of a frame can be wrong about.
    fn judge(&self, first: u8, short: u8, masked: bool) -> Result<Opcode, WebSocketError> {
        // Section 5.2: "MUST be 0 unless an extension is negotiated"; we negotiate none
        if first & 0x70 != 0 {
            return Err(WebSocketError::ReservedBits);
        }
        let opcode = match first & 0x0F {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xA => Opcode::Pong,
            other => return Err(WebSocketError::ReservedOpcode(other)),
        };
        // Section 5.1: "The server MUST close the connection upon receiving a frame that is not
        // masked"; "A client MUST close a connection if it detects a masked frame"
        match (masked, self.expects_mask()) {
            (true, false) => return Err(WebSocketError::Masked),
            (false, true) => return Err(WebSocketError::Unmasked),
            _ => {}
        }
        // Section 5.5: "All control frames MUST have a payload length of 125 bytes or less and
        // MUST NOT be fragmented"
        if is_control(opcode) {
            if first & 0x80 == 0 {
                return Err(WebSocketError::ControlFragmented);
            }
            if short > 125 {
                return Err(WebSocketError::ControlTooLong);
            }
        }
        match (opcode, &self.partial) {
            (Opcode::Continuation, None) => Err(WebSocketError::NothingToContinue),
            (Opcode::Binary | Opcode::Text, Some(_)) => Err(WebSocketError::MessageInterrupted),
            (Opcode::Text, None) if !self.takes_text => Err(WebSocketError::TextMessage),
            _ => Ok(opcode),
        }
    }

    fn assemble(
        &mut self,
        header: Header,
        body: &[u8],
    ) -> Result<Option<Incoming>, WebSocketError> {
        let mut partial = self.partial.take().unwrap_or_default();
        if header.opcode == Opcode::Text {
            partial.text = Some(0);
        }
        partial.bytes.extend_from_slice(body);
        if let Some(known) = &mut partial.text {
            *known += known_utf8(&partial.bytes[*known..])?;
        }
        if header.fin {
            let Partial { bytes, text, .. } = *partial;
            let whole = bytes.freeze();
            return match text {
                None => Ok(Some(Incoming::Message(whole))),
                Some(known) if known == whole.len() => Ok(Some(Incoming::Text(whole))),
                Some(_) => Err(WebSocketError::TextNotUtf8),
            };
        }
        if body.is_empty() {
            partial.empty_fragments += 1;
            if partial.empty_fragments > MAX_EMPTY_FRAGMENTS {
                return Err(WebSocketError::TooManyEmptyFragments);
            }
        }
        self.partial = Some(partial);
        Ok(None)
    }
}

/// The bytes at the front that are whole characters. What follows may be the beginning of one, and nothing
/// else (section 8.1: a fragment may end within a character).
fn known_utf8(bytes: &[u8]) -> Result<usize, WebSocketError> {
    match str::from_utf8(bytes) {
        Ok(text) => Ok(text.len()),
        Err(error) if error.error_len().is_none() => Ok(error.valid_up_to()),
        Err(_) => Err(WebSocketError::TextNotUtf8),
    }
}

/// The length of the body that the header at the front of `input` announces, and the bytes up to
/// there; `second` is its second byte. `None` if it is not all there.
#[inline]
fn announced(input: &[u8], second: u8) -> Option<(u64, usize)> {
    Some(match second & !MASKED {
        126 => (u16::from_be_bytes(*input.get(2..)?.first_chunk()?).into(), 4),
        127 => (u64::from_be_bytes(*input.get(2..)?.first_chunk()?), 10),
        short => (short.into(), 2),
    })
}

/// Appends the header of an unfragmented frame whose body is `len` bytes; a body sent under `mask`
/// must have gone through [`apply_mask`].
#[inline(always)]
pub(crate) fn encode_header(opcode: Opcode, len: usize, mask: Option<[u8; 4]>, out: &mut BytesMut) {
    let first = 0x80 | opcode as u8;
    let masked = if mask.is_some() { MASKED } else { 0 };
    // Section 5.2: "the minimal number of bytes MUST be used to encode the length"
    match len {
        0..=125 => out.extend_from_slice(&[first, masked | len as u8]),
        126..=0xFFFF => {
            let [high, low] = (len as u16).to_be_bytes();
            out.extend_from_slice(&[first, masked | 126, high, low]);
        }
        _ => {
            out.extend_from_slice(&[first, masked | 127]);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    if let Some(key) = mask {
        out.extend_from_slice(&key);
    }
}

/// Appends a whole control frame; a body beyond 125 bytes is cut there.
pub(crate) fn encode_control(
    opcode: Opcode,
    body: &[u8],
    mask: Option<[u8; 4]>,
    out: &mut BytesMut,
) {
    let body = &body[..body.len().min(125)];
    encode_header(opcode, body.len(), mask, out);
    let start = out.len();
    out.put_slice(body);
    if let Some(key) = mask {
        apply_mask(key, 0, &mut out[start..]);
    }
}

/// Masks or unmasks `bytes`, which begin `offset` bytes into the frame's body.
#[inline]
pub(crate) fn apply_mask(key: [u8; 4], offset: usize, bytes: &mut [u8]) {
    let key @ [a, b, c, d] = [0, 1, 2, 3].map(|index| key[(offset + index) % 4]);
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    // Words of eight bytes, which the compiler makes vectors of
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for chunk in words {
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

fn is_control(opcode: Opcode) -> bool {
    opcode as u8 & 0x8 != 0
}

fn farewell(body: &[u8]) -> Result<Option<Farewell>, WebSocketError> {
    let (code, reason) = match body {
        [] => return Ok(None),
        &[high, low, ref reason @ ..] => (u16::from_be_bytes([high, low]), reason),
        // Section 5.5.1: "the first two bytes of the body MUST be a 2-byte unsigned integer"
        [_] => return Err(WebSocketError::CloseCutShort),
    };
    // Section 7.4 and its registry: 1004 has no meaning, 1005, 1006 and 1015 "MUST NOT be set as
    // a status code in a Close control frame"
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(WebSocketError::CloseCode(code));
    }
    match str::from_utf8(reason) {
        Ok(reason) => Ok(Some(Farewell { code, reason: reason.to_owned() })),
        Err(_) => Err(WebSocketError::CloseReason),
    }
}

#[cfg(test)]
mod tests;
