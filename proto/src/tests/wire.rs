//! The tests' own reading and writing of frames, from the tables of the protocol's text.
//!
//! Nothing here uses `crate::frame`: a mistake that its encoder and decoder share must not hide.

use std::{collections::BTreeMap, fmt::Write as _};

pub(super) const MAX: u32 = 0x7FFF_FFFF;

/// Flag bits.
pub(super) const I: u16 = 0x200;
pub(super) const M: u16 = 0x100;
pub(super) const F: u16 = 0x080;
pub(super) const R: u16 = 0x080;
pub(super) const C: u16 = 0x040;
pub(super) const L: u16 = 0x040;
pub(super) const N: u16 = 0x020;

pub(super) type Bytes = Vec<u8>;

/// A frame: header, then the parts of its body.
pub(super) fn raw(stream: u32, kind: u8, flags: u16, body: &[&[u8]]) -> Bytes {
    let word = (u16::from(kind) << 10) | flags;
    let mut frame = stream.to_be_bytes().to_vec();
    frame.extend(word.to_be_bytes());
    frame.extend(body.concat());
    frame
}

/// The same frame with more flags.
pub(super) fn with(flags: u16, mut frame: Bytes) -> Bytes {
    let word = u16::from_be_bytes([frame[4], frame[5]]) | flags;
    frame[4..6].copy_from_slice(&word.to_be_bytes());
    frame
}

/// Metadata with its length, for frames with the M flag.
pub(super) fn metadata(text: &str) -> Bytes {
    let len = (text.len() as u32).to_be_bytes();
    [&len[1..], text.as_bytes()].concat()
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

pub(super) fn setup_of(
    flags: u16,
    version: (u16, u16),
    interval: u32,
    lifetime: u32,
    rest: &[u8],
) -> Bytes {
    let body: [&[u8]; 5] = [
        &version.0.to_be_bytes(),
        &version.1.to_be_bytes(),
        &interval.to_be_bytes(),
        &lifetime.to_be_bytes(),
        rest,
    ];
    raw(0, 0x01, flags, &body)
}

pub(super) fn lease(stream: u32) -> Bytes {
    raw(stream, 0x02, 0, &[&5_000u32.to_be_bytes(), &3u32.to_be_bytes()])
}

pub(super) fn ka(flags: u16, position: u64, data: &[u8]) -> Bytes {
    raw(0, 0x03, flags, &[&position.to_be_bytes(), data])
}

pub(super) fn rr(stream: u32, data: &str) -> Bytes {
    raw(stream, 0x04, 0, &[data.as_bytes()])
}

pub(super) fn fnf(stream: u32, data: &str) -> Bytes {
    raw(stream, 0x05, 0, &[data.as_bytes()])
}

pub(super) fn rs(stream: u32, n: u32, data: &str) -> Bytes {
    raw(stream, 0x06, 0, &[&n.to_be_bytes(), data.as_bytes()])
}

pub(super) fn rc(stream: u32, n: u32, data: &str) -> Bytes {
    raw(stream, 0x07, 0, &[&n.to_be_bytes(), data.as_bytes()])
}

pub(super) fn rn(stream: u32, n: u32) -> Bytes {
    raw(stream, 0x08, 0, &[&n.to_be_bytes()])
}

pub(super) fn can(stream: u32) -> Bytes {
    raw(stream, 0x09, 0, &[])
}

pub(super) fn p(stream: u32, flags: u16, data: &str) -> Bytes {
    raw(stream, 0x0A, flags, &[data.as_bytes()])
}

pub(super) fn err(stream: u32, code: u32, text: &[u8]) -> Bytes {
    raw(stream, 0x0B, 0, &[&code.to_be_bytes(), text])
}

pub(super) fn mp(data: &str) -> Bytes {
    raw(0, 0x0C, M, &[data.as_bytes()])
}

pub(super) fn resume(stream: u32) -> Bytes {
    let body: [&[u8]; 4] = [&[0, 1, 0, 0], &[0, 2, 0xaa, 0xbb], &[0; 8], &[0; 8]];
    raw(stream, 0x0D, 0, &body)
}

pub(super) fn resume_ok(stream: u32) -> Bytes {
    raw(stream, 0x0E, 0, &[&[0; 8]])
}

pub(super) fn ext(stream: u32, flags: u16, extended_type: u32) -> Bytes {
    raw(stream, 0x3F, flags, &[&extended_type.to_be_bytes()])
}

/// With the length prefix of TCP.
pub(super) fn prefixed(frame: &[u8]) -> Bytes {
    let len = (frame.len() as u32).to_be_bytes();
    [&len[1..], frame].concat()
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
    let word = u16::from_be_bytes([frame[4], frame[5]]);
    let (kind, flags) = ((word >> 10) as u8, word & 0x3FF);
    let stream = u32_at(frame, 0);
    assert!(stream <= MAX, "FRAME-04: reserved bit in {frame:02x?}");
    let allowed = match kind {
        0x01 => M | R | L,
        0x02 | 0x0C => M,
        0x03 => R,
        0x04..=0x06 => M | F,
        0x07 => M | F | C,
        0x0A => M | F | C | N,
        0x08 | 0x09 | 0x0B | 0x0D | 0x0E => 0,
        _ => panic!("type {kind:#x} is never sent"),
    };
    assert_eq!(flags & !allowed, 0, "FRAME-06: flags of {frame:02x?}");
    let on_connection = matches!(kind, 0x01..=0x03 | 0x0C..=0x0E);
    assert!(kind == 0x0B || on_connection == (stream == 0), "stream id of {frame:02x?}");
    let fixed = match kind {
        0x01 => 18,
        0x03 | 0x02 | 0x0E => 14,
        0x06..=0x08 | 0x0B => 10,
        _ => 6,
    };
    let number = match kind {
        0x03 | 0x0E => u32_at(frame, 10),
        0x06..=0x08 | 0x0B => u32_at(frame, 6),
        _ => 0,
    };
    match kind {
        0x06..=0x08 => assert!((1..=MAX).contains(&number), "RS-01, RN-01: {frame:02x?}"),
        0x09 => assert_eq!(frame.len(), fixed, "CAN-01"),
        0x0A => assert_ne!(flags & (N | C), 0, "PAY-01"),
        0x0B => assert_eq!(stream == 0, number <= 0x102, "ERR-01: {frame:02x?}"),
        _ => {}
    }
    let mut rest = &frame[fixed..];
    let metadata = match kind {
        0x04..=0x07 | 0x0A if flags & M != 0 => {
            let len = u32::from_be_bytes([0, rest[0], rest[1], rest[2]]) as usize;
            let (metadata, data) = rest[3..].split_at(len);
            rest = data;
            Some(metadata.to_vec())
        }
        _ => None,
    };
    Seen { stream, kind, flags, len: frame.len(), number, metadata, data: rest.to_vec() }
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

fn u32_at(frame: &[u8], at: usize) -> u32 {
    let [a, b, c, d] = frame[at..at + 4] else {
        panic!("a frame of {} bytes", frame.len());
    };
    u32::from_be_bytes([a, b, c, d])
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
