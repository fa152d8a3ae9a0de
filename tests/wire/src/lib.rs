//! Frames by the letter of the specification, for everything that tests: scripted peers, the
//! simulation's referee, fuzz targets, attacks, and the counting of instructions.
//!
//! Nothing here comes from `rsock_proto`, so that an error shared by its encoder and its decoder
//! cannot hide. A frame is written like a line of a trace: `P(1,N+C,"d")`.

mod frame;
mod framing;
mod metadata;

pub use frame::{
    Frame, Header, can, err, ext, fnf, frame, ka, lease, mp, p, rc, request, resume, resume_of,
    resume_ok, rn, rr, rs, setup, setup_of, setup_resumable, tracked, u,
};
pub use framing::{
    BINARY, CLOSE, CONTINUATION, Envelope, FIN, Framing, MASK, PING, PONG, TEXT, message,
    part_of_message, prefix_len, prefixed, unprefixed,
};
pub use metadata::{COMPOSITE, ROUTE, entry, named, route};

/// The largest request-n, time, or count there is.
pub const MAX_N: u32 = 0x7fff_ffff;

/// The numbers of the frame types.
pub mod kind {
    /// SETUP.
    pub const SETUP: u8 = 0x01;
    /// LEASE.
    pub const LEASE: u8 = 0x02;
    /// KEEPALIVE.
    pub const KEEPALIVE: u8 = 0x03;
    /// REQUEST_RESPONSE.
    pub const REQUEST_RESPONSE: u8 = 0x04;
    /// REQUEST_FNF.
    pub const REQUEST_FNF: u8 = 0x05;
    /// REQUEST_STREAM.
    pub const REQUEST_STREAM: u8 = 0x06;
    /// REQUEST_CHANNEL.
    pub const REQUEST_CHANNEL: u8 = 0x07;
    /// REQUEST_N.
    pub const REQUEST_N: u8 = 0x08;
    /// CANCEL.
    pub const CANCEL: u8 = 0x09;
    /// PAYLOAD.
    pub const PAYLOAD: u8 = 0x0a;
    /// ERROR.
    pub const ERROR: u8 = 0x0b;
    /// METADATA_PUSH.
    pub const METADATA_PUSH: u8 = 0x0c;
    /// RESUME.
    pub const RESUME: u8 = 0x0d;
    /// RESUME_OK.
    pub const RESUME_OK: u8 = 0x0e;
    /// EXT.
    pub const EXT: u8 = 0x3f;
}

/// The bits of the flags; the same bit means different things on different types.
pub mod flag {
    /// NEXT, of PAYLOAD.
    pub const NEXT: u16 = 0x020;
    /// COMPLETE, of PAYLOAD and REQUEST_CHANNEL.
    pub const COMPLETE: u16 = 0x040;
    /// LEASE, of SETUP.
    pub const LEASE: u16 = 0x040;
    /// FOLLOWS, of requests and PAYLOAD.
    pub const FOLLOWS: u16 = 0x080;
    /// RESPOND, of KEEPALIVE.
    pub const RESPOND: u16 = 0x080;
    /// RESUME, of SETUP.
    pub const RESUME: u16 = 0x080;
    /// METADATA, of whatever has any.
    pub const METADATA: u16 = 0x100;
    /// IGNORE, of all.
    pub const IGNORE: u16 = 0x200;
}

/// NEXT, of PAYLOAD.
pub const N: u16 = flag::NEXT;
/// COMPLETE, of PAYLOAD and REQUEST_CHANNEL.
pub const C: u16 = flag::COMPLETE;
/// FOLLOWS, of requests and PAYLOAD.
pub const F: u16 = flag::FOLLOWS;
/// RESPOND, of KEEPALIVE; RESUME, of SETUP.
pub const R: u16 = flag::RESPOND;
/// LEASE, of SETUP.
pub const L: u16 = flag::LEASE;
/// METADATA.
pub const M: u16 = flag::METADATA;
/// IGNORE.
pub const I: u16 = flag::IGNORE;

/// REQUEST_RESPONSE, in [`Frame::kind`].
pub const RR: u8 = kind::REQUEST_RESPONSE;
/// REQUEST_FNF, in [`Frame::kind`].
pub const FNF: u8 = kind::REQUEST_FNF;
/// REQUEST_STREAM, in [`Frame::kind`].
pub const RS: u8 = kind::REQUEST_STREAM;
/// REQUEST_CHANNEL, in [`Frame::kind`].
pub const RC: u8 = kind::REQUEST_CHANNEL;
/// CANCEL, in [`Frame::kind`].
pub const CAN: u8 = kind::CANCEL;
/// PAYLOAD, in [`Frame::kind`].
pub const PAYLOAD: u8 = kind::PAYLOAD;
/// ERROR, in [`Frame::kind`].
pub const ERROR: u8 = kind::ERROR;
/// METADATA_PUSH, in [`Frame::kind`].
pub const MP: u8 = kind::METADATA_PUSH;

/// The four that open a stream, by type number.
pub const REQUESTS: [u8; 4] = [RR, FNF, RS, RC];

/// Bytes from digits of base 16; everything else between them is passed over.
pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
