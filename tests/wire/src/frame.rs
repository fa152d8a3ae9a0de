//! A frame: written by hand, encoded, and read as strictly as a correct sender writes.

use std::fmt;

use crate::{
    C, F, FNF, I, L, M, MAX_N, MP, N, R, RC, RR, RS,
    kind::{
        CANCEL, ERROR, EXT, KEEPALIVE, LEASE, METADATA_PUSH, PAYLOAD, REQUEST_N, RESUME, RESUME_OK,
        SETUP,
    },
    prefixed,
};

/// The six bytes that every frame begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The stream id, reserved bit included.
    pub stream: u32,
    /// The type's number.
    pub kind: u8,
    /// The flags, `M` included.
    pub flags: u16,
}

impl Header {
    /// Reads it, and says what follows; `None` if it is cut short.
    pub fn split(frame: &[u8]) -> Option<(Self, &[u8])> {
        let (&[a, b, c, d, e, f], body) = frame.split_first_chunk()?;
        let word = u16::from_be_bytes([e, f]);
        let stream = u32::from_be_bytes([a, b, c, d]);
        Some((Self { stream, kind: (word >> 10) as u8, flags: word & 0x3ff }, body))
    }

    /// Whether any of these flags is set.
    pub fn has(self, flags: u16) -> bool {
        self.flags & flags != 0
    }

    /// Whether it opens a stream.
    pub fn is_request(self) -> bool {
        (RR..=RC).contains(&self.kind)
    }
}

/// Any frame: its header, the fixed part of its type, metadata and data.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// The stream id, reserved bit included.
    pub stream: u32,
    /// The type's number.
    pub kind: u8,
    /// The flags, `M` included.
    pub flags: u16,
    /// The bytes between the header and the metadata.
    pub fixed: Vec<u8>,
    /// `None` is absent, which is not empty.
    pub metadata: Option<Vec<u8>>,
    /// The rest.
    pub data: Vec<u8>,
}

/// A frame of any type, to be filled in.
pub fn frame(stream: u32, kind: u8, flags: u16, fixed: &[u8], data: impl AsRef<[u8]>) -> Frame {
    Frame {
        stream,
        kind,
        flags,
        fixed: fixed.to_vec(),
        metadata: None,
        data: data.as_ref().to_vec(),
    }
}

/// REQUEST_RESPONSE.
pub fn rr(stream: u32, data: impl AsRef<[u8]>) -> Frame {
    frame(stream, RR, 0, &[], data)
}

/// REQUEST_FNF.
pub fn fnf(stream: u32, data: impl AsRef<[u8]>) -> Frame {
    frame(stream, FNF, 0, &[], data)
}

/// REQUEST_STREAM with its initial request-n.
pub fn rs(stream: u32, n: u32, data: impl AsRef<[u8]>) -> Frame {
    frame(stream, RS, 0, &n.to_be_bytes(), data)
}

/// REQUEST_CHANNEL with its initial request-n.
pub fn rc(stream: u32, n: u32, data: impl AsRef<[u8]>) -> Frame {
    frame(stream, RC, 0, &n.to_be_bytes(), data)
}

/// A request of type `kind`; those that take a request-n ask for `n`.
pub fn request(kind: u8, stream: u32, n: u32, data: impl AsRef<[u8]>) -> Frame {
    match kind {
        RR => rr(stream, data),
        FNF => fnf(stream, data),
        RS => rs(stream, n, data),
        _ => rc(stream, n, data),
    }
}

/// REQUEST_N.
pub fn rn(stream: u32, n: u32) -> Frame {
    frame(stream, REQUEST_N, 0, &n.to_be_bytes(), "")
}

/// CANCEL.
pub fn can(stream: u32) -> Frame {
    frame(stream, CANCEL, 0, &[], "")
}

/// PAYLOAD.
pub fn p(stream: u32, flags: u16, data: impl AsRef<[u8]>) -> Frame {
    frame(stream, PAYLOAD, flags, &[], data)
}

/// ERROR.
pub fn err(stream: u32, code: u32, text: impl AsRef<[u8]>) -> Frame {
    frame(stream, ERROR, 0, &code.to_be_bytes(), text)
}

/// KEEPALIVE.
pub fn ka(flags: u16, position: u64, data: impl AsRef<[u8]>) -> Frame {
    frame(0, KEEPALIVE, flags, &position.to_be_bytes(), data)
}

/// METADATA_PUSH.
pub fn mp(metadata: impl AsRef<[u8]>) -> Frame {
    frame(0, MP, 0, &[], "").metadata(metadata)
}

/// LEASE.
pub fn lease(ttl: u32, n: u32) -> Frame {
    let fixed = [ttl.to_be_bytes(), n.to_be_bytes()].concat();
    frame(0, LEASE, 0, &fixed, "")
}

/// RESUME_OK.
pub fn resume_ok(position: u64) -> Frame {
    frame(0, RESUME_OK, 0, &position.to_be_bytes(), "")
}

/// RESUME of version 1.0, with a token, from the beginning.
pub fn resume(token: &[u8]) -> Frame {
    resume_of((1, 0), token, 0, 0)
}

/// RESUME in all its parts: the position received of the server, and the client's first available.
pub fn resume_of(version: (u16, u16), token: &[u8], server: u64, client: u64) -> Frame {
    let mut fixed = Vec::new();
    fixed.extend(version.0.to_be_bytes());
    fixed.extend(version.1.to_be_bytes());
    fixed.extend((token.len() as u16).to_be_bytes());
    fixed.extend(token);
    fixed.extend(server.to_be_bytes());
    fixed.extend(client.to_be_bytes());
    frame(0, RESUME, 0, &fixed, "")
}

/// [`setup`] that asks for a session with this token.
pub fn setup_resumable(token: &[u8]) -> Frame {
    let mut setup = setup();
    // Behind the version and the two times.
    let mut field = (token.len() as u16).to_be_bytes().to_vec();
    field.extend(token);
    setup.fixed.splice(12..12, field);
    setup.flags |= R;
    setup
}

/// Bytes that resume positions count of these frames.
pub fn tracked<'a>(frames: impl IntoIterator<Item = &'a Frame>) -> u64 {
    let counted = frames.into_iter().filter(|frame| frame.is_tracked());
    counted.map(|frame| frame.encode().len() as u64).sum()
}

/// EXT.
pub fn ext(stream: u32, flags: u16, extended_type: u32) -> Frame {
    frame(stream, EXT, flags, &extended_type.to_be_bytes(), "")
}

/// A frame of a type that is not defined.
pub fn u(stream: u32, kind: u8, flags: u16) -> Frame {
    frame(stream, kind, flags, &[], "")
}

/// SETUP 1.0 of 20 s and 90 s with the usual MIME types.
pub fn setup() -> Frame {
    setup_of(
        (1, 0),
        20_000,
        90_000,
        b"message/x.rsocket.composite-metadata.v0",
        b"application/octet-stream",
    )
}

/// SETUP in all its parts but token, metadata and data.
pub fn setup_of(
    version: (u16, u16),
    interval: u32,
    lifetime: u32,
    metadata_mime: &[u8],
    data_mime: &[u8],
) -> Frame {
    let mut fixed = Vec::new();
    fixed.extend(version.0.to_be_bytes());
    fixed.extend(version.1.to_be_bytes());
    fixed.extend(interval.to_be_bytes());
    fixed.extend(lifetime.to_be_bytes());
    for mime in [metadata_mime, data_mime] {
        fixed.push(mime.len() as u8);
        fixed.extend(mime);
    }
    frame(0, SETUP, 0, &fixed, "")
}

impl Frame {
    /// With metadata.
    #[must_use]
    pub fn metadata(mut self, metadata: impl AsRef<[u8]>) -> Self {
        self.metadata = Some(metadata.as_ref().to_vec());
        self.flags |= M;
        self
    }

    /// With these data.
    #[must_use]
    pub fn data(mut self, data: impl AsRef<[u8]>) -> Self {
        self.data = data.as_ref().to_vec();
        self
    }

    /// With more flags.
    #[must_use]
    pub fn flags(mut self, flags: u16) -> Self {
        self.flags |= flags;
        self
    }

    /// On another stream.
    #[must_use]
    pub fn on(mut self, stream: u32) -> Self {
        self.stream = stream;
        self
    }

    /// The six bytes it begins with.
    pub fn header(&self) -> Header {
        Header { stream: self.stream, kind: self.kind, flags: self.flags }
    }

    /// Whether any of these flags is set.
    pub fn has(&self, flags: u16) -> bool {
        self.header().has(flags)
    }

    /// Whether it opens a stream.
    pub fn is_request(&self) -> bool {
        self.header().is_request()
    }

    /// Whether it advances resume positions (RESUME-04, RESUME-06, RESUME-07).
    pub fn is_tracked(&self) -> bool {
        self.stream > 0 && (RR..=ERROR).contains(&self.kind)
    }

    /// The request-n, the code of an error, or a lease's time to live; 0 where there is none.
    pub fn number(&self) -> u32 {
        match self.kind {
            LEASE | RS | RC | REQUEST_N | ERROR => number(&self.fixed),
            _ => 0,
        }
    }

    /// The number of requests, of LEASE.
    pub fn requests(&self) -> u32 {
        if self.kind == LEASE { number(self.fixed.get(4..).unwrap_or_default()) } else { 0 }
    }

    /// The position, of KEEPALIVE and RESUME_OK; of RESUME the last that was received.
    pub fn position(&self) -> u64 {
        match self.kind {
            KEEPALIVE | RESUME_OK => position(&self.fixed),
            RESUME => self.fixed.last_chunk::<16>().map_or(0, |both| position(both)),
            _ => 0,
        }
    }

    /// The first available position, of RESUME.
    pub fn first_available(&self) -> u64 {
        if self.kind == RESUME {
            self.fixed.last_chunk::<8>().map_or(0, |last| position(last))
        } else {
            0
        }
    }

    /// The code, of ERROR.
    pub fn code(&self) -> Option<u32> {
        (self.kind == ERROR).then(|| self.number())
    }

    /// The data as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.data).into_owned()
    }

    /// The bytes, without any prefix.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(((u16::from(self.kind) << 10) | self.flags).to_be_bytes());
        bytes.extend(&self.fixed);
        if let Some(metadata) = &self.metadata {
            if has_metadata_length(self.kind) {
                bytes.extend(&(metadata.len() as u32).to_be_bytes()[1..]);
            }
            bytes.extend(metadata);
        }
        bytes.extend(&self.data);
        bytes
    }

    /// The bytes, with their length before them.
    pub fn prefixed(&self) -> Vec<u8> {
        prefixed(&self.encode())
    }

    /// Reads a frame as a strict receiver does.
    ///
    /// # Errors
    /// What is wrong with it; our implementation must never send such a frame.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let wrong = |what: &str| Err(format!("{what}: {:02x?}", &bytes[..bytes.len().min(40)]));
        let Some((Header { stream, kind, flags }, body)) = Header::split(bytes) else {
            return wrong("shorter than a header");
        };
        if bytes.len() > 0xff_ffff {
            return wrong("FRAME-02: longer than a length can say");
        }
        if stream > MAX_N {
            return wrong("FRAME-04: the reserved bit of the stream id is set");
        }
        let allowed = match kind {
            SETUP => M | R | L,
            LEASE | METADATA_PUSH => M,
            RR | FNF | RS => M | F,
            KEEPALIVE => R,
            RC => M | F | C,
            PAYLOAD => M | F | C | N,
            REQUEST_N | CANCEL | ERROR | RESUME | RESUME_OK => 0,
            EXT => I | M,
            _ => return wrong("an undefined type"),
        };
        if flags & !allowed != 0 {
            return wrong("FRAME-06: an undefined flag is set");
        }
        if kind == PAYLOAD && flags & (N | C) == 0 {
            return wrong("PAY-01: neither NEXT nor COMPLETE");
        }
        if kind == METADATA_PUSH && flags & M == 0 {
            return wrong("MDP-01: no metadata");
        }
        let on_connection = matches!(kind, SETUP | LEASE | KEEPALIVE | MP | RESUME | RESUME_OK);
        if kind != ERROR && kind != EXT && on_connection != (stream == 0) {
            return wrong("a type on the wrong kind of stream id");
        }
        let fixed_len = match kind {
            SETUP => setup_len(body, flags),
            RESUME => body.get(4..6).map(|token| 6 + pair(token) + 16),
            LEASE | KEEPALIVE | RESUME_OK => Some(8),
            RS | RC | REQUEST_N | ERROR | EXT => Some(4),
            _ => Some(0),
        };
        let Some((fixed, rest)) = fixed_len.and_then(|len| body.split_at_checked(len)) else {
            return wrong("the fixed part is cut short");
        };
        if matches!(kind, RS | RC | REQUEST_N) && !(1..=MAX_N).contains(&number(fixed)) {
            return wrong("RS-01, RN-01: a request-n of 0 or with the top bit");
        }
        let (metadata, data) = match (flags & M != 0, has_metadata_length(kind)) {
            (false, _) => (None, rest),
            (true, false) => (Some(rest), &[][..]),
            (true, true) => {
                let parts = rest.split_first_chunk::<3>().and_then(|(len, rest)| {
                    let len = number(&[0, len[0], len[1], len[2]]) as usize;
                    rest.split_at_checked(len)
                });
                let Some((metadata, data)) = parts else {
                    return wrong("FRAME-08: the metadata does not fit");
                };
                (Some(metadata), data)
            }
        };
        if matches!(kind, REQUEST_N | CANCEL | RESUME | RESUME_OK) && !data.is_empty() {
            return wrong("CAN-01: surplus bytes");
        }
        let frame = Self {
            stream,
            kind,
            flags,
            fixed: fixed.to_vec(),
            metadata: metadata.map(<[u8]>::to_vec),
            data: data.to_vec(),
        };
        frame.check_values().map_or(Ok(frame), wrong)
    }

    /// The mistake in fields that are there, which no correct sender makes.
    fn check_values(&self) -> Option<&'static str> {
        let number = self.number();
        let (wrong, what) = match self.kind {
            PAYLOAD => {
                let bare = self.data.is_empty() && self.metadata.is_none();
                (!self.has(N) && !bare, "PAY-02: a payload without NEXT")
            }
            ERROR if (number <= 0x102) != (self.stream == 0) => {
                (true, "ERR-01: the code is for the other kind of stream id")
            }
            ERROR => (std::str::from_utf8(&self.data).is_err(), "ERR-02: the text is not UTF-8"),
            LEASE => (number.max(self.requests()) > MAX_N, "LEASE-01: the top bit of a number"),
            KEEPALIVE | RESUME | RESUME_OK => {
                let either = self.position() | self.first_available();
                (either >> 63 != 0, "a position above 2^63-1")
            }
            _ => return None,
        };
        wrong.then_some(what)
    }
}

fn has_metadata_length(kind: u8) -> bool {
    matches!(kind, SETUP | RR | FNF | RS | RC | PAYLOAD)
}

/// The first four bytes.
fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |first| u32::from_be_bytes(*first))
}

/// The first eight bytes.
fn position(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

/// The first two bytes.
fn pair(bytes: &[u8]) -> usize {
    bytes.first_chunk().map_or(0, |first| u16::from_be_bytes(*first).into())
}

fn setup_len(body: &[u8], flags: u16) -> Option<usize> {
    let mut at = 12;
    if flags & R != 0 {
        at += 2 + pair(body.get(at..at + 2)?);
    }
    for _ in 0..2 {
        at += 1 + usize::from(*body.get(at)?);
    }
    Some(at)
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.kind {
            SETUP => "SETUP",
            LEASE => "LEASE",
            KEEPALIVE => "KA",
            RR => "RR",
            FNF => "FNF",
            RS => "RS",
            RC => "RC",
            REQUEST_N => "RN",
            CANCEL => "CAN",
            PAYLOAD => "P",
            ERROR => "ERR",
            MP => "MP",
            RESUME => "RESUME",
            RESUME_OK => "RESUME_OK",
            EXT => "EXT",
            _ => "U",
        };
        let mut parts = Vec::new();
        match self.kind {
            SETUP | LEASE | KEEPALIVE | MP | RESUME | RESUME_OK => {}
            _ => parts.push(self.stream.to_string()),
        }
        match self.kind {
            LEASE => parts.extend([self.number(), self.requests()].map(|n| n.to_string())),
            RESUME => {
                parts.extend([self.position(), self.first_available()].map(|at| at.to_string()));
            }
            RESUME_OK => parts.push(self.position().to_string()),
            RS | RC => parts.push(format!("n={}", self.number())),
            REQUEST_N => parts.push(self.number().to_string()),
            ERROR => parts.push(format!("{:#x}", self.number())),
            _ if name == "U" => parts.push(format!("{:#04x}", self.kind)),
            _ => {}
        }
        let flags: Vec<_> = [(I, "I"), (M, "M"), (F, "F"), (N, "N"), (C, "C")]
            .into_iter()
            .filter(|(flag, _)| self.flags & flag != 0)
            .map(|(flag, name)| match (self.kind, flag) {
                (SETUP | KEEPALIVE, R) => "R",
                (SETUP, L) => "L",
                _ => name,
            })
            .collect();
        if !flags.is_empty() {
            parts.push(flags.join("+"));
        }
        if self.kind == KEEPALIVE && self.position() > 0 {
            parts.push(format!("at={}", self.position()));
        }
        parts.extend(self.metadata.as_deref().map(abridged));
        if !self.data.is_empty() {
            parts.push(abridged(&self.data));
        }
        write!(f, "{name}({})", parts.join(","))
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn abridged(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(40)];
    let text = format!("\"{}\"", start.escape_ascii());
    if start.len() < bytes.len() { format!("{text}…{} bytes", bytes.len()) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex;

    #[test]
    fn frames_are_written_as_the_specification_has_them() {
        let setup = setup_of((1, 0), 20_000, 90_000, b"a/b", b"c/d");
        for (frame, bytes) in [
            (
                setup.metadata([1]).data([2, 3]),
                "00000000 0500 0001 0000 00004e20 00015f90 03 612f62 03 632f64 000001 01 0203",
            ),
            (lease(5000, 3).metadata([0xff]), "00000000 0900 00001388 00000003 ff"),
            (ka(R, 258, "hi"), "00000000 0c80 0000000000000102 6869"),
            (rr(1, "d").metadata("m"), "00000001 1100 000001 6d 64"),
            (rr(3, "d").metadata(""), "00000003 1100 000000 64"),
            (fnf(5, "d"), "00000005 1400 64"),
            (rs(7, MAX_N, ""), "00000007 1800 7fffffff"),
            (rc(9, 1, "d").flags(C), "00000009 1c40 00000001 64"),
            (rn(9, 16), "00000009 2000 00000010"),
            (can(9), "00000009 2400"),
            (p(1, N | C, "ok"), "00000001 2860 6f6b"),
            (p(1, C, ""), "00000001 2840"),
            (p(1, F | N, "d").metadata("m"), "00000001 29a0 000001 6d 64"),
            (err(1, 0x201, "no"), "00000001 2c00 00000201 6e6f"),
            (err(0, 3, ""), "00000000 2c00 00000003"),
            (mp("m"), "00000000 3100 6d"),
            (resume_ok(20), "00000000 3800 0000000000000014"),
            (ext(0, I, 1), "00000000 fe00 00000001"),
        ] {
            assert_eq!(frame.encode(), hex(bytes), "{frame}");
            assert_eq!(Frame::decode(&hex(bytes)), Ok(frame));
        }
    }

    #[test]
    fn the_notation_is_that_of_the_traces() {
        assert_eq!(p(1, N | C, "d").to_string(), r#"P(1,N+C,"d")"#);
        assert_eq!(rs(1, 2, "").to_string(), "RS(1,n=2)");
        assert_eq!(ka(R, 0, "x").to_string(), r#"KA(R,"x")"#);
        assert_eq!(ka(0, 7, "").to_string(), "KA(at=7)");
        assert_eq!(lease(5000, 3).to_string(), "LEASE(5000,3)");
        assert_eq!(err(0, 0x101, "").to_string(), "ERR(0,0x101)");
    }

    #[test]
    fn what_no_correct_sender_writes_is_not_read() {
        for frame in [
            rr(0, ""),
            rr(0x8000_0001, ""),
            rr(1, "").flags(C),
            rs(1, 0, ""),
            rn(1, MAX_N + 1),
            rn(1, 1).data("surplus"),
            p(1, 0, "d"),
            p(1, C, "d"),
            p(1, C, "").metadata(""),
            err(1, 0x101, ""),
            err(0, 0x201, ""),
            err(1, 0x201, [0xff]),
            lease(MAX_N + 1, 1),
            lease(1, MAX_N + 1),
            ka(0, 1 << 63, ""),
            resume_ok(1 << 63),
            resume_of((1, 0), b"t", 0, 1 << 63),
            frame(0, MP, 0, &[], "no metadata"),
            frame(1, RR, M, &[], [0, 0, 9]),
            frame(1, RC, 0, &[0; 3], ""),
            u(0, 0x2a, I),
        ] {
            assert!(Frame::decode(&frame.encode()).is_err(), "{frame}");
        }
        assert!(Frame::decode(&p(1, N, vec![0; 0xff_fff9]).encode()).is_ok());
        assert!(Frame::decode(&p(1, N, vec![0; 0xff_fffa]).encode()).is_err());
        assert!(Frame::decode(&[0; 5]).is_err());
    }
}
