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
        // RFC 6455, section 5.2
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
            // RFC 6455, section 5.3: "transformed-octet-i = original-octet-i XOR
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

// ----- text, where it is taken: Autobahn's section 6

#[test]
fn text_is_utf8_whole_and_in_fragments() {
    let decode = |parts: &[&[u8]]| {
        let mut decoder = Decoder::new(Role::Client, MAX).taking_text();
        let mut input = BytesMut::new();
        let last = parts.len() - 1;
        for (index, part) in parts.iter().enumerate() {
            let opcode = if index == 0 { 0x01 } else { 0x00 };
            let fin = if index == last { 0x80 } else { 0x00 };
            put_frame(&mut input, fin | opcode, part, None);
        }
        decoder.decode(&mut input)
    };
    let text = |text: &str| Ok(Some(Incoming::Text(Bytes::copy_from_slice(text.as_bytes()))));
    let wrong = Err(WebSocketError::TextNotUtf8);
    let greek = "κόσμε 😀";
    assert_eq!(decode(&[greek.as_bytes()]), text(greek));
    assert_eq!(decode(&[b""]), text(""));
    let bytes: Vec<&[u8]> = greek.as_bytes().chunks(1).collect();
    assert_eq!(decode(&bytes), text(greek));
    assert_eq!(decode(&[b"a", b"", b"b"]), text("ab"));
    for broken in [
        &[&b"\xce\xba\xed\xa0\x80"[..]][..],
        &[b"\xf4\x90\x80\x80"],
        &[b"\xc0\xaf"],
        &[b"\xce"],
        &[b"\xce", b""],
        &[b"a\xf0\x9f", b"\x98"],
        // Before the last fragment has come.
        &[b"\xce", b"a", b"\xba"],
    ] {
        assert_eq!(decode(broken), wrong, "{broken:x?}");
    }
    assert_eq!(WebSocketError::TextNotUtf8.close_code(), 1007);
    // What is told at the first fragment that shows it, not at the last.
    let mut decoder = Decoder::new(Role::Client, MAX).taking_text();
    let mut input = BytesMut::from(&b"\x01\x02\xf4\x90"[..]);
    assert_eq!(decoder.decode(&mut input), wrong);
    // Binary messages are any bytes.
    let mut decoder = Decoder::new(Role::Client, MAX).taking_text();
    let mut input = BytesMut::from(&b"\x02\x01\xff\x80\x01\xfe"[..]);
    assert_eq!(decoder.decode(&mut input), Ok(Some(message(b"\xff\xfe"))));
    let mut input = BytesMut::from(&b"\x01\x01x\x81\x01y"[..]);
    assert_eq!(decoder.decode(&mut input), Err(WebSocketError::MessageInterrupted));
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
