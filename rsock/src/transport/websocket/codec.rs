//! The framing of RFC 6455, section 5, without I/O: bytes to messages and back.
//!
//! RSocket needs the binary half of WebSocket only: one frame is one binary message. A message
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
    /// The fragments so far of a message that has not seen its last one.
    partial: Option<Partial>,
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
        Self { role, limits: InputLimits::sharing(max_message), awaited: None, partial: None }
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
                Opcode::Binary | Opcode::Continuation | Opcode::Text => {
                    if let Some(whole) = self.assemble(header.fin, &body)? {
                        return Ok(Some(Incoming::Message(whole)));
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
            (Opcode::Text, None) => Err(WebSocketError::TextMessage),
            _ => Ok(opcode),
        }
    }

    fn assemble(&mut self, fin: bool, body: &[u8]) -> Result<Option<Bytes>, WebSocketError> {
        let mut partial = self.partial.take().unwrap_or_default();
        partial.bytes.extend_from_slice(body);
        if fin {
            return Ok(Some(partial.bytes.freeze()));
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
mod tests {
    use super::*;

    const MAX: usize = 1 << 20;
    const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

    // ----- bytes written by others

    /// RFC 6455 section 5.7, with binary in the place of text.
    #[test]
    fn the_examples_of_the_rfc() {
        let hello = Ok(vec![message(b"Hello")]);
        assert_eq!(client(b"\x82\x05Hello"), hello);
        assert_eq!(client(b"\x02\x03Hel\x80\x02lo"), hello);
        assert_eq!(client(b"\x89\x05Hello"), Ok(vec![ping(b"Hello")]));
        let masked = b"\x82\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
        assert_eq!(server(masked), hello);
        let pong = b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
        assert_eq!(server(pong), Ok(vec![Incoming::Pong]));

        let mut out = BytesMut::new();
        encode_header(Opcode::Binary, 256, None, &mut out);
        assert_eq!(out[..], *b"\x82\x7e\x01\x00");
        out.clear();
        encode_header(Opcode::Binary, 65536, None, &mut out);
        assert_eq!(out[..], *b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00");
        out.clear();
        encode_control(Opcode::Pong, b"Hello", Some(KEY), &mut out);
        assert_eq!(out[..], *pong);
    }

    #[test]
    fn lengths_need_not_be_minimal() {
        let bytes = b"\x82\x7e\x00\x01x\x82\x7f\x00\x00\x00\x00\x00\x00\x00\x01y";
        assert_eq!(client(bytes), Ok(vec![message(b"x"), message(b"y")]));
    }

    // ----- what is refused, after Autobahn's sections 1 to 7

    #[test]
    fn breaches_are_named_and_have_a_close_code() {
        use WebSocketError::*;
        let long_ping: &[u8] = &[&b"\x89\x7e\x00\x7e"[..], &[0; 126]].concat();
        for (bytes, error) in [
            // 3.*: reserved bits, on data and on control frames
            (&b"\xc2\x00"[..], ReservedBits),
            (b"\xa2\x05Hello", ReservedBits),
            (b"\x99\x00", ReservedBits),
            (b"\xf8\x00", ReservedBits),
            (b"\x02\x01x\xc0\x01y", ReservedBits),
            // 4.*: reserved opcodes
            (b"\x83\x00", ReservedOpcode(3)),
            (b"\x87\x01x", ReservedOpcode(7)),
            (b"\x8b\x00", ReservedOpcode(11)),
            (b"\x82\x01x\x8f\x01x", ReservedOpcode(15)),
            // 2.5, 5.1, 5.2: control frames too long or in pieces
            (long_ping, ControlTooLong),
            (b"\x88\x7f", ControlTooLong),
            (b"\x09\x01x\x80\x01y", ControlFragmented),
            (b"\x0a\x00", ControlFragmented),
            (b"\x08\x00", ControlFragmented),
            // 5.9 to 5.18: continuations out of place
            (b"\x80\x01x", NothingToContinue),
            (b"\x00\x01x\x82\x01y", NothingToContinue),
            (b"\x02\x01x\x80\x01y\x80\x01z", NothingToContinue),
            (b"\x02\x01x\x82\x01y", MessageInterrupted),
            (b"\x02\x01x\x02\x01y", MessageInterrupted),
            (b"\x02\x01x\x81\x01y", MessageInterrupted),
            // 6.*: we refuse text, whole or begun, and no continuation is looked at
            (b"\x81\x05Hello", TextMessage),
            (b"\x81\x00", TextMessage),
            (b"\x01\x03Hel\x80\x02lo", TextMessage),
            (b"\x82\x01x\x01\x00", TextMessage),
            // 7.*: close frames
            (b"\x88\x01\x03", CloseCutShort),
            (b"\x88\x04\x03\xe8\xce\x28", CloseReason),
            // Section 5.2
            (b"\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00", LengthTopBit),
            (b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff", LengthTopBit),
            (b"\x82\x81\x00\x00\x00\x00x", Masked),
            (b"\x89\x80", Masked),
        ] {
            assert_eq!(client(bytes), Err(error), "{bytes:02x?}");
        }
        for bytes in [&b"\x82\x01x"[..], b"\x82\x00", b"\x89\x00", b"\x88\x00"] {
            assert_eq!(server(bytes), Err(Unmasked), "{bytes:02x?}");
        }
        for (error, code) in [
            (ReservedBits, 1002),
            (TextMessage, 1003),
            (CloseReason, 1007),
            (MessageTooBig { max: 10 }, 1009),
            (TooManyEmptyFragments, 1009),
        ] {
            assert_eq!(error.close_code(), code);
            assert!(error.to_string().starts_with("WebSocket: "));
        }
    }

    #[test]
    fn close_codes_are_those_of_the_registry() {
        let close = |code: u16| {
            let body = [&code.to_be_bytes()[..], b"done"].concat();
            client(&[&b"\x88\x06"[..], &body].concat())
        };
        for code in (1000..=1003).chain(1007..=1014).chain([3000, 3999, 4000, 4999]) {
            let said = Farewell { code, reason: "done".to_owned() };
            assert_eq!(close(code), Ok(vec![Incoming::Close(Some(said))]));
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            assert_eq!(close(code), Err(WebSocketError::CloseCode(code)));
        }
        assert_eq!(client(b"\x88\x00"), Ok(vec![Incoming::Close(None)]));
        let longest = [&b"\x88\x7d\x03\xe8"[..], &[b'*'; 123]].concat();
        let said = Farewell { code: 1000, reason: "*".repeat(123) };
        assert_eq!(client(&longest), Ok(vec![Incoming::Close(Some(said))]));
    }

    // ----- limits

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_its_body() {
        let too_big = Err(WebSocketError::MessageTooBig { max: 1000 });
        for (role, header) in [
            (Role::Client, &b"\x82\x7e\x03\xe9"[..]),
            (Role::Client, b"\x02\x7e\x03\xe9"),
            (Role::Client, b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff"),
            (Role::Server, b"\x82\xfe\x03\xe9"),
        ] {
            let mut input = BytesMut::from(header);
            assert_eq!(Decoder::new(role, 1000).decode(&mut input), too_big);
        }

        let mut decoder = Decoder::new(Role::Client, 1000);
        let mut input = BytesMut::from(&b"\x82\x7e\x03\xe8"[..]);
        let capacity = input.capacity();
        assert_eq!(decoder.decode(&mut input), Ok(None));
        assert!(input.capacity() <= capacity);
        input.put_bytes(7, 1000);
        assert_eq!(decoder.decode(&mut input), Ok(Some(message(&[7; 1000]))));

        // A limit under 125 bytes is one on messages, not on control frames
        let mut input = BytesMut::from(&b"\x89\x02hi\x82\x02"[..]);
        let mut decoder = Decoder::new(Role::Client, 1);
        assert_eq!(decoder.decode(&mut input), Ok(Some(ping(b"hi"))));
        assert_eq!(decoder.decode(&mut input), Err(WebSocketError::MessageTooBig { max: 1 }));
    }

    #[test]
    fn fragments_are_limited_by_their_sum() {
        let mut decoder = Decoder::new(Role::Client, 1000);
        let mut input = BytesMut::from(&b"\x02\x01x"[..]);
        for _ in 0..999 {
            input.put_slice(b"\x00\x01x");
        }
        assert_eq!(decoder.decode(&mut input), Ok(None));
        input.put_slice(b"\x80\x00");
        assert_eq!(decoder.decode(&mut input), Ok(Some(message(&[b'x'; 1000]))));

        input.put_slice(&[&b"\x02\x7e\x03\xe8"[..], &[0; 1000], b"\x80\x01"].concat());
        let too_big = Err(WebSocketError::MessageTooBig { max: 1000 });
        assert_eq!(decoder.decode(&mut input), too_big);
    }

    #[test]
    fn empty_fragments_are_limited_by_their_number() {
        let mut decoder = Decoder::new(Role::Client, MAX);
        let mut input = BytesMut::from(&b"\x02\x00"[..]);
        for _ in 1..MAX_EMPTY_FRAGMENTS {
            input.put_slice(b"\x00\x00");
        }
        assert_eq!(decoder.decode(&mut input), Ok(None));
        assert!(input.is_empty());
        input.put_slice(b"\x00\x00");
        assert_eq!(decoder.decode(&mut input), Err(WebSocketError::TooManyEmptyFragments));
        assert_eq!(WebSocketError::TooManyEmptyFragments.close_code(), 1009);
    }

    // ----- messages

    /// Hostile input H141: a thousand continuations with pings between.
    #[test]
    fn control_frames_may_come_between_fragments() {
        let (mut bytes, mut expected) = (BytesMut::new(), Vec::new());
        put_frame(&mut bytes, 0x02, b"", Some(KEY));
        for index in 0..1000_u32 {
            put_frame(&mut bytes, 0x00, &index.to_be_bytes(), Some(KEY));
            put_frame(&mut bytes, 0x89, &index.to_le_bytes(), Some([0, 1, 2, 3]));
            put_frame(&mut bytes, 0x8A, b"", Some(KEY));
            expected.push(ping(&index.to_le_bytes()));
            expected.push(Incoming::Pong);
        }
        put_frame(&mut bytes, 0x80, b"", Some(KEY));
        let whole: Vec<u8> = (0..1000_u32).flat_map(u32::to_be_bytes).collect();
        expected.push(message(&whole));
        assert_eq!(server(&bytes), Ok(expected));
    }

    #[test]
    fn round_trips_at_the_boundaries_of_the_length_encoding() {
        for (len, header) in
            [(0, 2), (1, 2), (125, 2), (126, 4), (127, 4), (65535, 4), (65536, 10), (65537, 10)]
        {
            let body: Vec<u8> = (0..len).map(|index| (index * 31 + 7) as u8).collect();
            for (role, mask) in [(Role::Client, None), (Role::Server, Some(KEY))] {
                let mut wire = BytesMut::new();
                encode_header(Opcode::Binary, len, mask, &mut wire);
                assert_eq!(wire.len(), header + mask.map_or(0, |_| 4));
                let mut expected = BytesMut::new();
                put_frame(&mut expected, 0x82, &body, mask);
                assert_eq!(wire[..], expected[..wire.len()]);
                let start = wire.len();
                wire.put_slice(&body);
                if let Some(key) = mask {
                    // In two cuts, as a body made of slices is masked
                    let cut = start + len / 3;
                    apply_mask(key, 0, &mut wire[start..cut]);
                    apply_mask(key, len / 3, &mut wire[cut..]);
                }
                assert_eq!(wire, expected);
                assert_eq!(decode_all(role, &wire), Ok(vec![message(&body)]));
            }
        }
    }

    #[test]
    fn a_message_in_one_frame_is_a_slice_of_the_input() {
        for (role, mask, header) in [(Role::Client, None, 4), (Role::Server, Some(KEY), 8)] {
            let mut input = BytesMut::new();
            put_frame(&mut input, 0x82, &[9; 2000], mask);
            put_frame(&mut input, 0x82, &[8; 100], mask);
            let start = input.as_ptr() as usize;
            let mut decoder = Decoder::new(role, MAX);
            let Ok(Some(Incoming::Message(first))) = decoder.decode(&mut input) else {
                panic!("a whole message was there");
            };
            assert_eq!(first.as_ptr() as usize, start + header);
            assert_eq!(decoder.decode(&mut input), Ok(Some(message(&[8; 100]))));
            assert_eq!(decoder.decode(&mut input), Ok(None));
        }
    }

    #[test]
    fn any_split_of_the_bytes_gives_the_same() {
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        for round in 0..40 {
            let role = [Role::Client, Role::Server][round % 2];
            let (mut wire, mut expected) = (BytesMut::new(), Vec::new());
            for _ in 0..12 {
                let len = [0, 1, 6, 125, 126, 700][random(&mut seed) % 6];
                let body: Vec<u8> = (0..len).map(|_| random(&mut seed) as u8).collect();
                let mask = (role == Role::Server).then(|| (random(&mut seed) as u32).to_be_bytes());
                match random(&mut seed) % 4 {
                    0 => {
                        let body = &body[..len.min(125)];
                        put_frame(&mut wire, 0x89, body, mask);
                        expected.push(ping(body));
                    }
                    1 => {
                        let cut = random(&mut seed) % (len + 1);
                        put_frame(&mut wire, 0x02, &body[..cut], mask);
                        put_frame(&mut wire, 0x8A, b"", mask);
                        put_frame(&mut wire, 0x80, &body[cut..], mask);
                        expected.extend([Incoming::Pong, message(&body)]);
                    }
                    _ => {
                        put_frame(&mut wire, 0x82, &body, mask);
                        expected.push(message(&body));
                    }
                }
            }
            let mask = (role == Role::Server).then_some(KEY);
            put_frame(&mut wire, 0x88, &[0x03, 0xE9], mask);
            expected.push(Incoming::Close(Some(Farewell { code: 1001, reason: String::new() })));

            let mut decoder = Decoder::new(role, MAX);
            let (mut input, mut received) = (BytesMut::new(), Vec::new());
            while !wire.is_empty() {
                // The first ten rounds byte by byte
                let most = if round < 10 { 1 } else { 300 };
                let cut = 1 + random(&mut seed) % most;
                input.put_slice(&wire.split_to(cut.min(wire.len())));
                while let Some(incoming) = decoder.decode(&mut input).unwrap() {
                    received.push(incoming);
                }
            }
            assert_eq!(received, expected);
            assert!(input.is_empty());
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_panic_or_loop() {
        let mut seed = 42;
        for round in 0..20_000 {
            let mut input = BytesMut::new();
            for _ in 0..random(&mut seed) % 40 {
                // Mostly small numbers, so that many frames are nearly right
                let byte = random(&mut seed) as u8;
                input.put_u8(if round % 2 == 0 { byte } else { byte & 0x8B });
            }
            let role = [Role::Client, Role::Server][round % 3 / 2];
            let mut decoder = Decoder::new(role, 64);
            let whole = input.len();
            let mut results = 0;
            while let Ok(Some(_)) = decoder.decode(&mut input) {
                results += 1;
                assert!(results * 2 <= whole, "each takes two bytes at least");
            }
        }
    }

    #[test]
    fn masks_agree_with_the_definition_at_all_offsets() {
        for offset in 0..9 {
            for len in 0..70 {
                let mut bytes: Vec<u8> = (0..len).map(|index| (index * 7) as u8).collect();
                // Section 5.3: "transformed-octet-i = original-octet-i XOR
                // masking-key-octet-(i MOD 4)"
                let expected: Vec<u8> = bytes
                    .iter()
                    .enumerate()
                    .map(|(index, byte)| byte ^ KEY[(index + offset) % 4])
                    .collect();
                apply_mask(KEY, offset, &mut bytes);
                assert_eq!(bytes, expected);
            }
        }
    }

    // ----- helpers

    fn client(bytes: &[u8]) -> Result<Vec<Incoming>, WebSocketError> {
        decode_all(Role::Client, bytes)
    }

    fn server(bytes: &[u8]) -> Result<Vec<Incoming>, WebSocketError> {
        decode_all(Role::Server, bytes)
    }

    /// Decodes the bytes, the same in one piece and byte by byte.
    fn decode_all(role: Role, bytes: &[u8]) -> Result<Vec<Incoming>, WebSocketError> {
        let at_once = decode_chunks(role, bytes, bytes.len().max(1), false);
        assert_eq!(at_once, decode_chunks(role, bytes, 1, false), "{bytes:02x?}");
        for size in [1, bytes.len().max(1)] {
            assert_eq!(at_once, decode_chunks(role, bytes, size, true), "{bytes:02x?}");
        }
        at_once
    }

    /// In chunks of `size` bytes, and with a try of the short way first.
    fn decode_chunks(
        role: Role,
        bytes: &[u8],
        size: usize,
        short_way: bool,
    ) -> Result<Vec<Incoming>, WebSocketError> {
        let mut decoder = Decoder::new(role, MAX);
        let (mut input, mut received) = (BytesMut::new(), Vec::new());
        for chunk in bytes.chunks(size) {
            input.put_slice(chunk);
            loop {
                let whole = if short_way { decoder.decode_whole(&mut input) } else { None };
                let incoming = match whole {
                    Some(message) => Some(Incoming::Message(message)),
                    None => decoder.decode(&mut input)?,
                };
                match incoming {
                    Some(incoming) => received.push(incoming),
                    None => break,
                }
            }
        }
        Ok(received)
    }

    #[test]
    fn the_short_way_is_for_whole_messages_within_the_limit_alone() {
        let mut decoder = Decoder::new(Role::Client, 3);
        for (bytes, expected) in [
            (&b"\x82\x03abc"[..], Some(&b"abc"[..])),
            (b"\x82\x02ab", Some(b"ab")),
            (b"\x82\x7e\x00\x03abc", Some(b"abc")),
            (b"\x82\x00\x82\x00", Some(b"")),
            (b"\x82\x03ab", None),
            (b"\x82\x04abcd", None),
            (b"\x82\x7e\xff\xffabcd", None),
            (b"\x82\x7f\0\0\0\0\0\0\0\x01a", None),
            (b"\x02\x03abc", None),
            (b"\xc2\x03abc", None),
            (b"\x80\x03abc", None),
            (b"\x89\x03abc", None),
            (b"\x82\x83\0\0\0\0abc", None),
            (b"\x82", None),
        ] {
            let mut input = BytesMut::from(bytes);
            let whole = decoder.decode_whole(&mut input);
            assert_eq!(whole.as_deref(), expected, "{bytes:02x?}");
            assert!(expected.is_some() || input == bytes);
        }
        // Not between the fragments of another message, nor while a body is awaited.
        for begun in [&b"\x02\x01x"[..], b"\x82\x02x"] {
            let mut input = BytesMut::from(begun);
            let mut decoder = Decoder::new(Role::Client, 3);
            assert_eq!(decoder.decode(&mut input), Ok(None));
            let mut input = BytesMut::from(&b"\x82\x01y\x82"[..]);
            assert_eq!(decoder.decode_whole(&mut input), None);
        }
    }

    fn message(bytes: &[u8]) -> Incoming {
        Incoming::Message(Bytes::copy_from_slice(bytes))
    }

    fn ping(bytes: &[u8]) -> Incoming {
        Incoming::Ping(Bytes::copy_from_slice(bytes))
    }

    /// A frame by the book, byte for byte, independent of the code under test.
    fn put_frame(out: &mut BytesMut, first: u8, body: &[u8], mask: Option<[u8; 4]>) {
        out.put_u8(first);
        let bit = if mask.is_some() { 128 } else { 0 };
        if body.len() < 126 {
            out.put_u8(bit + body.len() as u8);
        } else if body.len() < 65536 {
            out.put_u8(bit + 126);
            out.put_u16(body.len() as u16);
        } else {
            out.put_u8(bit + 127);
            out.put_u64(body.len() as u64);
        }
        let key = mask.unwrap_or_default();
        out.put_slice(&key[..if mask.is_some() { 4 } else { 0 }]);
        for (index, byte) in body.iter().enumerate() {
            out.put_u8(byte ^ key[index % 4]);
        }
    }

    /// xorshift64*: the same numbers in every run.
    fn random(state: &mut u64) -> usize {
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize
    }
}
