//! The frames that are counted, by the letter and not by our own encoder.

pub(super) use rsock_wire::{C, F, L, N, R, RC, RR, RS};
use rsock_wire::{FNF, I, M, prefixed};

/// A frame with its prefix; its body is metadata and data as they lie there.
pub(super) fn frame(stream: u32, kind: u8, flags: u16, fixed: &[u8], body: &[u8]) -> Vec<u8> {
    prefixed(&rsock_wire::frame(stream, kind, flags, fixed, body).encode())
}

pub(super) fn setup(flags: u16, token: &[u8]) -> Vec<u8> {
    let mut fixed = [0, 1, 0, 0].to_vec();
    // Nobody is to be silent for too long, however slow the counter makes it.
    fixed.extend((i32::MAX / 4).to_be_bytes());
    fixed.extend(i32::MAX.to_be_bytes());
    if !token.is_empty() {
        fixed.extend((token.len() as u16).to_be_bytes());
        fixed.extend(token);
    }
    fixed.extend(b"\x01m\x01d");
    frame(0, 0x01, flags, &fixed, b"")
}

pub(super) fn request(kind: u8, stream: u32, flags: u16, n: u32, body: &[u8]) -> Vec<u8> {
    let fixed = n.to_be_bytes();
    frame(stream, kind, flags, if kind < 0x06 { b"" } else { &fixed }, body)
}

/// A frame on a stream, by its name.
pub(super) type OnStream = (&'static str, fn(u32) -> Vec<u8>);

pub(super) const ON_STREAM: &[OnStream] = &[
    ("REQUEST_RESPONSE again", |id| request(RR, id, 0, 0, b"again")),
    ("PAYLOAD NEXT", |id| frame(id, 0x0A, N, b"", b"item")),
    ("PAYLOAD of 4 KiB", |id| frame(id, 0x0A, N, b"", &[b'x'; 4 << 10])),
    ("PAYLOAD FOLLOWS", |id| frame(id, 0x0A, N | F, b"", b"part")),
    ("PAYLOAD COMPLETE", |id| frame(id, 0x0A, C, b"", b"")),
    ("PAYLOAD NEXT COMPLETE", |id| frame(id, 0x0A, N | C, b"", b"item")),
    ("REQUEST_N 1", |id| frame(id, 0x08, 0, b"\0\0\0\x01", b"")),
    ("REQUEST_N 0", |id| frame(id, 0x08, 0, b"\0\0\0\0", b"")),
    ("CANCEL", |id| frame(id, 0x09, 0, b"", b"")),
    ("ERROR", |id| frame(id, 0x0B, 0, &0x201_u32.to_be_bytes(), b"no")),
    ("ERROR of 4 KiB", |id| frame(id, 0x0B, 0, &0x201_u32.to_be_bytes(), &[b'E'; 4 << 10])),
    ("KEEPALIVE on a stream", |id| frame(id, 0x03, 0, &[0; 8], b"")),
    ("LEASE on a stream", |id| frame(id, 0x02, 0, &[0; 8], b"")),
    ("EXT, ignorable", |id| frame(id, 0x3F, I, &[0; 4], b"")),
];

/// A frame that opens a stream, by its name.
pub(super) const OPENING: &[OnStream] = &[
    ("REQUEST_RESPONSE", |id| request(RR, id, 0, 0, b"now")),
    ("REQUEST_RESPONSE that waits", |id| request(RR, id, 0, 0, b"wait")),
    ("REQUEST_RESPONSE FOLLOWS", |id| request(RR, id, F, 0, b"part")),
    ("REQUEST_FNF", |id| request(FNF, id, 0, 0, b"now")),
    ("REQUEST_STREAM", |id| request(RS, id, 0, 1, b"wait")),
    ("REQUEST_CHANNEL", |id| request(RC, id, 0, 1, b"wait")),
    ("REQUEST_STREAM of request-n 0", |id| request(RS, id, 0, 0, b"wait")),
    ("REQUEST_STREAM of request-n 2^32-1", |id| request(RS, id, 0, u32::MAX, b"wait")),
];

/// A frame of the connection that does not end it, by its name.
pub(super) const OF_THE_CONNECTION: &[OnStream] = &[
    ("KEEPALIVE RESPOND", |_| frame(0, 0x03, R, &[0; 8], b"")),
    ("KEEPALIVE RESPOND of 1 KiB", |_| frame(0, 0x03, R, &[0; 8], &[b'k'; 1 << 10])),
    ("KEEPALIVE that answers nothing", |turn| {
        frame(0, 0x03, 0, &[0; 8], &u64::from(turn).to_be_bytes())
    }),
    ("METADATA_PUSH", |_| frame(0, 0x0C, M, b"", b"pushed")),
    ("LEASE", |_| frame(0, 0x02, 0, b"\0\0\xff\xff\0\0\0\x01", b"")),
    ("SETUP again", |_| setup(0, b"")),
    ("RESUME_OK", |_| frame(0, 0x0E, 0, &[0; 8], b"")),
    ("ERROR of no meaning", |_| frame(0, 0x0B, 0, &0x301_u32.to_be_bytes(), b"no")),
    ("EXT on 0, ignorable", |_| frame(0, 0x3F, I, &[0; 4], b"")),
    ("an unknown type, ignorable", |_| frame(0, 0x2A, I, b"", b"")),
    ("a malformed frame, ignorable", |_| frame(1, 0x08, I, b"\0", b"")),
];

/// The ends of a connection.
pub(super) const ENDS: &[OnStream] = &[
    ("ERROR CONNECTION_ERROR", |_| frame(0, 0x0B, 0, &0x101_u32.to_be_bytes(), b"over")),
    ("ERROR CONNECTION_ERROR of 64 KiB", |_| {
        frame(0, 0x0B, 0, &0x101_u32.to_be_bytes(), &[b'E'; 64 << 10])
    }),
    ("an unknown type", |_| frame(0, 0x2A, 0, b"", b"")),
    ("a frame without a header", |_| b"\0\0\x01x".to_vec()),
    ("RESUME after SETUP", |_| {
        frame(0, 0x0D, 0, b"\0\x01\0\0\0\x01t\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", b"")
    }),
    ("the end of the transport", |_| Vec::new()),
];
