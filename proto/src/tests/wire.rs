//! The tests' frames, as bytes and in the notation of traces, by the tests' own codec.
//!
//! Nothing here uses `crate::frame`: a mistake that its encoder and decoder share must not hide.

use std::{collections::BTreeMap, fmt::Write as _};

pub(super) use rsock_wire::{C, F, I, L, M, MAX_N as MAX, N, R, prefixed};
use rsock_wire::{Frame, kind};

pub(super) type Bytes = Vec<u8>;

/// A frame: header, then the parts of its body.
pub(super) fn raw(stream: u32, kind: u8, flags: u16, body: &[&[u8]]) -> Bytes {
    rsock_wire::frame(stream, kind, flags, &[], body.concat()).encode()
}

/// The same frame with more flags.
pub(super) fn with(flags: u16, mut frame: Bytes) -> Bytes {
    let word = u16::from_be_bytes([frame[4], frame[5]]) | flags;
    frame[4..6].copy_from_slice(&word.to_be_bytes());
    frame
}

/// Metadata with its length, for frames with the M flag: as long as a prefix is.
pub(super) fn metadata(text: &str) -> Bytes {
    prefixed(text.as_bytes())
}

/// The same frame with metadata before its data.
pub(super) fn with_metadata(text: &str, frame: Bytes) -> Bytes {
    let fixed = if matches!(frame[4] >> 2, 0x06 | 0x07) { 10 } else { 6 };
    let (head, data) = frame.split_at(fixed);
    with(M, [head, &metadata(text), data].concat())
}

/// SETUP with an interval of 1,000 ms and a lifetime of 3,000 ms.
pub(super) fn setup() -> Bytes {
    setup_with(1_000, 3_000)
}

pub(super) fn setup_with(interval: u32, lifetime: u32) -> Bytes {
    setup_of(0, (1, 0), interval, lifetime, b"\x03a/b\x03c/d")
}

/// SETUP whose MIME types, token and payload are in `rest`, as they lie there.
pub(super) fn setup_of(
    flags: u16,
    version: (u16, u16),
    interval: u32,
    lifetime: u32,
    rest: &[u8],
) -> Bytes {
    let mut setup = rsock_wire::setup_of(version, interval, lifetime, b"", b"");
    // Of both types nothing but their lengths was there.
    setup.fixed.truncate(12);
    setup.flags(flags).data(rest).encode()
}

pub(super) fn lease(stream: u32) -> Bytes {
    rsock_wire::lease(5_000, 3).on(stream).encode()
}

pub(super) fn ka(flags: u16, position: u64, data: &[u8]) -> Bytes {
    rsock_wire::ka(flags, position, data).encode()
}

pub(super) fn rr(stream: u32, data: &str) -> Bytes {
    rsock_wire::rr(stream, data).encode()
}

pub(super) fn fnf(stream: u32, data: &str) -> Bytes {
    rsock_wire::fnf(stream, data).encode()
}

pub(super) fn rs(stream: u32, n: u32, data: &str) -> Bytes {
    rsock_wire::rs(stream, n, data).encode()
}

pub(super) fn rc(stream: u32, n: u32, data: &str) -> Bytes {
    rsock_wire::rc(stream, n, data).encode()
}

pub(super) fn rn(stream: u32, n: u32) -> Bytes {
    rsock_wire::rn(stream, n).encode()
}

pub(super) fn can(stream: u32) -> Bytes {
    rsock_wire::can(stream).encode()
}

pub(super) fn p(stream: u32, flags: u16, data: &str) -> Bytes {
    rsock_wire::p(stream, flags, data).encode()
}

pub(super) fn err(stream: u32, code: u32, text: &[u8]) -> Bytes {
    rsock_wire::err(stream, code, text).encode()
}

pub(super) fn mp(metadata: &str) -> Bytes {
    rsock_wire::mp(metadata).encode()
}

pub(super) fn resume(stream: u32) -> Bytes {
    rsock_wire::resume(&[0xaa, 0xbb]).on(stream).encode()
}

pub(super) fn resume_ok(stream: u32) -> Bytes {
    rsock_wire::resume_ok(0).on(stream).encode()
}

pub(super) fn ext(stream: u32, flags: u16, extended_type: u32) -> Bytes {
    rsock_wire::ext(stream, flags, extended_type).encode()
}

/// A frame read, as far as traces and referees need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) stream: u32,
    pub(super) kind: u8,
    pub(super) flags: u16,
    /// Bytes of the frame.
    pub(super) len: usize,
    /// Request-n, error code, or the low half of a position.
    pub(super) number: u32,
    pub(super) metadata: Option<Bytes>,
    pub(super) data: Bytes,
}

/// Reads a frame that a correct sender may write; whatever it may not is a panic.
pub(super) fn read(frame: &[u8]) -> Seen {
    let read = Frame::decode(frame).expect("a frame that may be sent");
    assert_ne!(read.kind, kind::EXT, "EXT is never sent");
    let number = match read.kind {
        kind::KEEPALIVE | kind::RESUME_OK => read.position() as u32,
        kind::LEASE => 0,
        _ => read.number(),
    };
    let Frame { stream, kind, flags, fixed, metadata, data } = read;
    let (metadata, data) = match kind {
        kind::METADATA_PUSH => (None, metadata.unwrap_or_default()),
        // What stands behind the version and the times.
        kind::SETUP => (metadata, [&fixed[12..], &data].concat()),
        _ => (metadata, data),
    };
    Seen { stream, kind, flags, len: frame.len(), number, metadata, data }
}

impl Seen {
    pub(super) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// In the notation of the protocol notes.
    pub(super) fn describe(&self) -> String {
        let Self { stream, number, .. } = self;
        let payload = payload_text(self.metadata.as_deref(), &self.data);
        let follows = if self.has(F) { "F," } else { "" };
        match self.kind {
            0x01 => "SETUP".to_owned(),
            0x03 if self.has(R) => format!("KA(R,{number},{payload})"),
            0x03 => format!("KA({number},{payload})"),
            0x04 => format!("RR({stream},{follows}{payload})"),
            0x05 => format!("FNF({stream},{follows}{payload})"),
            0x06 => format!("RS({stream},n={number},{follows}{payload})"),
            0x07 => {
                let complete = if self.has(C) { "C," } else { "" };
                format!("RC({stream},n={number},{follows}{complete}{payload})")
            }
            0x08 => format!("RN({stream},{number})"),
            0x09 => format!("CAN({stream})"),
            0x0A if !self.has(N) && self.data.is_empty() => format!("P({stream},C)"),
            0x0A => {
                let follows = if self.has(F) { "F+" } else { "" };
                let signal = if self.has(C) { "N+C" } else { "N" };
                format!("P({stream},{follows}{signal},{payload})")
            }
            0x0B => format!("ERR({stream},{number:#x})"),
            0x0C => format!("MP({payload})"),
            kind => format!("{kind:#04x}({stream})"),
        }
    }
}

/// Metadata and data as `M'm','d'`; long ones as their length.
pub(super) fn payload_text(metadata: Option<&[u8]>, data: &[u8]) -> String {
    let mut text = String::new();
    if let Some(metadata) = metadata {
        let _ = write!(text, "M{},", quoted(metadata));
    }
    text + &quoted(data)
}

fn quoted(bytes: &[u8]) -> String {
    if bytes.len() > 32 {
        return format!("<{}>", bytes.len());
    }
    format!("'{}'", String::from_utf8_lossy(bytes))
}

/// Reads the payloads of a wire out of their fragments, and holds their sender to FRAG-03, FRAG-04,
/// FRAG-06, FRAG-13, and what peers that are looser than the protocol need: the safe sender.
pub(super) struct Joiner {
    /// The largest frame of each side.
    limits: [usize; 2],
    /// By stream: the type of its request.
    kinds: BTreeMap<u32, u8>,
    /// By side and stream: payloads of which more is to come.
    open: BTreeMap<(usize, u32), Joined>,
    /// Streams whose responder wants no more of their requester, who may break off (RC-17).
    cancelled: Vec<u32>,
}

/// A payload and how it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Joined {
    pub(super) metadata: Option<Bytes>,
    pub(super) data: Bytes,
    pub(super) fragments: usize,
    pub(super) complete: bool,
}

impl Joiner {
    pub(super) fn new(limits: [usize; 2]) -> Self {
        let (kinds, open) = (BTreeMap::new(), BTreeMap::new());
        Self { limits, kinds, open, cancelled: Vec::new() }
    }

    /// `side` is in the middle of a payload.
    pub(super) fn is_open(&self, side: usize, stream: u32) -> bool {
        self.open.contains_key(&(side, stream))
    }

    /// `side` (0 the client, 1 the server) has written a frame; the payload that it ends, if any.
    pub(super) fn see(&mut self, side: usize, frame: &Seen) -> Option<Joined> {
        let context = format!("side {side}: {}", frame.describe());
        let (id, opener) = (frame.stream, usize::from(frame.stream.is_multiple_of(2)));
        let begun = self.open.remove(&(side, id));
        let in_run = begun.is_some();
        match frame.kind {
            0x04..=0x07 => {
                assert!(!in_run, "FRAG-13, {context}");
                assert!(!frame.has(C), "FRAG-06, {context}");
                assert!(self.kinds.insert(id, frame.kind).is_none(), "{context}");
            }
            0x0A if !frame.has(N) => {
                assert!(!in_run, "FRAG-13, {context}");
                assert!(frame.data.is_empty() && frame.metadata.is_none(), "PAY-02, {context}");
                assert!(!frame.has(F), "FRAG-06, {context}");
                return None;
            }
            0x0A => {}
            // A requester that cancels gives up what it was sending (FRAG-15).
            0x09 if side == opener => return None,
            kind => {
                if kind == 0x09 {
                    self.cancelled.push(id);
                }
                let broken_off = side == opener && self.cancelled.contains(&id);
                assert!(!in_run || broken_off, "FRAG-13, {context}");
                return None;
            }
        }
        assert!(frame.len <= self.limits[side], "FRAG-06: {} bytes, {context}", frame.len);
        if frame.has(F) {
            assert!(!frame.has(C), "FRAG-06, {context}");
            assert!(frame.len >= 61, "FRAG-06: {} bytes, {context}", frame.len);
        }
        let mut joined = begun.unwrap_or_default();
        match (&frame.metadata, &mut joined.metadata) {
            (None, _) => {}
            (Some(part), Some(metadata)) if in_run => {
                assert!(joined.data.is_empty(), "FRAG-03, {context}");
                assert!(!part.is_empty(), "FRAG-04, {context}");
                metadata.extend(part);
            }
            (Some(part), metadata) => {
                assert!(!in_run, "FRAG-06: the first metadata is in the first fragment, {context}");
                *metadata = Some(part.clone());
            }
        }
        joined.data.extend(&frame.data);
        joined.fragments += 1;
        if frame.has(F) {
            self.open.insert((side, id), joined);
            return None;
        }
        joined.complete = frame.has(C);
        let is_answer = self.kinds.get(&id) == Some(&0x04) && side != opener;
        if is_answer {
            assert!(joined.complete, "RR-01, {context}");
        } else {
            assert!(joined.fragments == 1 || !joined.complete, "FRAG-06, {context}");
        }
        Some(joined)
    }
}

/// Xorshift: random enough, and the same on every machine.
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        // Far from the all-zero state, and far apart for neighbouring seeds.
        Self(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 16) % bound as u64) as usize
    }

    pub(super) fn one_in(&mut self, odds: usize) -> bool {
        self.below(odds) == 0
    }
}
