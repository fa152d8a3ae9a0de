//! Reading frames, from the tables of the protocol's text. Nothing here uses the engine's codec: a
//! mistake that its encoder and decoder share must not hide.

use std::fmt;

use bytes::Bytes;

use crate::broken::{Check, hold, some};

pub(crate) const MAX: u32 = 0x7FFF_FFFF;

/// Flag bits (section 1.2); the same bit means different things on different types.
pub(crate) mod flag {
    pub(crate) const METADATA: u16 = 0x100;
    pub(crate) const FOLLOWS: u16 = 0x080;
    pub(crate) const RESPOND: u16 = 0x080;
    pub(crate) const RESUME: u16 = 0x080;
    pub(crate) const COMPLETE: u16 = 0x040;
    pub(crate) const LEASE: u16 = 0x040;
    pub(crate) const NEXT: u16 = 0x020;
}

/// Frame types (section 1.3).
pub(crate) mod kind {
    pub(crate) const SETUP: u8 = 0x01;
    pub(crate) const LEASE: u8 = 0x02;
    pub(crate) const KEEPALIVE: u8 = 0x03;
    pub(crate) const REQUEST_RESPONSE: u8 = 0x04;
    pub(crate) const REQUEST_FNF: u8 = 0x05;
    pub(crate) const REQUEST_STREAM: u8 = 0x06;
    pub(crate) const REQUEST_CHANNEL: u8 = 0x07;
    pub(crate) const REQUEST_N: u8 = 0x08;
    pub(crate) const CANCEL: u8 = 0x09;
    pub(crate) const PAYLOAD: u8 = 0x0A;
    pub(crate) const ERROR: u8 = 0x0B;
    pub(crate) const METADATA_PUSH: u8 = 0x0C;
    pub(crate) const RESUME: u8 = 0x0D;
    pub(crate) const RESUME_OK: u8 = 0x0E;
}

/// A frame as a correct sender may write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) stream: u32,
    pub(crate) kind: u8,
    pub(crate) flags: u16,
    /// Request-n, error code, or a lease's time to live.
    pub(crate) number: u32,
    /// A lease's number of requests.
    pub(crate) requests: u32,
    /// Of KEEPALIVE and RESUME_OK; of RESUME the last received position.
    pub(crate) position: u64,
    /// Of RESUME.
    pub(crate) first_available: u64,
    pub(crate) metadata: Option<Bytes>,
    /// Data, the text of an error, or the token of SETUP and RESUME.
    pub(crate) data: Bytes,
    /// The whole frame.
    pub(crate) raw: Bytes,
}

impl Frame {
    /// Reads a frame without any prefix.
    pub(crate) fn read(raw: &Bytes) -> Check<Self> {
        let shown = || format!("{:02x?}", &raw[..raw.len().min(40)]);
        hold!((6..=0xFF_FFFF).contains(&raw.len()), Wire, "a frame of {} bytes", raw.len());
        let word = u16::from_be_bytes([raw[4], raw[5]]);
        let (kind, flags) = ((word >> 10) as u8, word & 0x3FF);
        let mut frame = Self {
            stream: u32::from_be_bytes([raw[0], raw[1], raw[2], raw[3]]),
            kind,
            flags,
            number: 0,
            requests: 0,
            position: 0,
            first_available: 0,
            metadata: None,
            data: Bytes::new(),
            raw: raw.clone(),
        };
        hold!(frame.stream <= MAX, Wire, "FRAME-04: the reserved bit, {}", shown());
        let allowed = some!(flags_of(kind), Wire, "type {kind:#04x} is never sent: {}", shown());
        hold!(flags & !allowed == 0, Wire, "FRAME-06: flags {flags:#05x}, {}", shown());
        let of_connection =
            matches!(kind, kind::SETUP..=kind::KEEPALIVE | kind::METADATA_PUSH..=kind::RESUME_OK);
        hold!(
            kind == kind::ERROR || of_connection == (frame.stream == 0),
            Wire,
            "type {kind:#04x} on stream {}",
            frame.stream
        );
        some!(frame.body(), Wire, "FRAME-16: it ends too early, {}", shown());
        frame.values()?;
        Ok(frame)
    }

    /// Reads what is behind the header (section 1.4); `None` if it is cut short.
    fn body(&mut self) -> Option<()> {
        let mut rest = Rest(self.raw.slice(6..));
        match self.kind {
            kind::SETUP => {
                rest.take(12)?;
                if self.has(flag::RESUME) {
                    let len = rest.number(2)?;
                    self.data = rest.take(len as usize)?;
                }
                for _mime in 0..2 {
                    let len = rest.number(1)?;
                    rest.take(len as usize)?;
                }
                if self.has(flag::METADATA) {
                    let len = rest.number(3)?;
                    self.metadata = Some(rest.take(len as usize)?);
                }
                return Some(());
            }
            kind::LEASE => {
                (self.number, self.requests) = (rest.number(4)? as u32, rest.number(4)? as u32);
                self.metadata = self.has(flag::METADATA).then_some(rest.0);
                return Some(());
            }
            kind::METADATA_PUSH => {
                self.metadata = Some(rest.0);
                return Some(());
            }
            kind::KEEPALIVE | kind::RESUME_OK => self.position = rest.number(8)?,
            kind::RESUME => {
                rest.take(4)?;
                let len = rest.number(2)?;
                self.data = rest.take(len as usize)?;
                (self.position, self.first_available) = (rest.number(8)?, rest.number(8)?);
                return rest.0.is_empty().then_some(());
            }
            kind::REQUEST_STREAM..=kind::REQUEST_N | kind::ERROR => {
                self.number = rest.number(4)? as u32;
            }
            _ => {}
        }
        if self.has(flag::METADATA) {
            let len = rest.number(3)?;
            self.metadata = Some(rest.take(len as usize)?);
        }
        self.data = rest.0;
        Some(())
    }

    /// Whether the fields' values may be sent.
    fn values(&self) -> Check {
        match self.kind {
            kind::REQUEST_STREAM..=kind::REQUEST_N => {
                hold!((1..=MAX).contains(&self.number), Wire, "RS-01, RN-01: {self}");
                hold!(self.kind != kind::REQUEST_N || self.data.is_empty(), Wire, "{self}");
            }
            kind::CANCEL => hold!(self.raw.len() == 6, Wire, "CAN-01: {self}"),
            kind::PAYLOAD => {
                hold!(self.has(flag::NEXT | flag::COMPLETE), Wire, "PAY-01: {self}");
                let bare = self.data.is_empty() && self.metadata.is_none();
                hold!(self.has(flag::NEXT) || bare, Wire, "PAY-02: {self}");
            }
            kind::ERROR => {
                let of_connection = self.number <= 0x102;
                hold!(of_connection == (self.stream == 0), Wire, "ERR-01: {self}");
                hold!(std::str::from_utf8(&self.data).is_ok(), Wire, "ERR-02: {self}");
            }
            kind::METADATA_PUSH => hold!(self.has(flag::METADATA), Wire, "MDP-01: {self}"),
            kind::LEASE => {
                hold!(self.number <= MAX && self.requests <= MAX, Wire, "LEASE-01: {self}");
            }
            kind::KEEPALIVE | kind::RESUME_OK | kind::RESUME => {
                let first = self.position | self.first_available;
                hold!(first >> 63 == 0, Wire, "a position above 2^63-1: {self}");
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether any of these flags is set.
    pub(crate) fn has(&self, flags: u16) -> bool {
        self.flags & flags != 0
    }

    pub(crate) fn is_request(&self) -> bool {
        (kind::REQUEST_RESPONSE..=kind::REQUEST_CHANNEL).contains(&self.kind)
    }

    /// It advances resume positions (RESUME-04, RESUME-06, RESUME-07).
    pub(crate) fn is_tracked(&self) -> bool {
        self.stream > 0 && (kind::REQUEST_RESPONSE..=kind::ERROR).contains(&self.kind)
    }
}

/// The flags a type may carry; `None` for types that are not sent.
fn flags_of(kind: u8) -> Option<u16> {
    use flag::{COMPLETE, FOLLOWS, LEASE, METADATA, NEXT, RESPOND, RESUME};
    Some(match kind {
        kind::SETUP => METADATA | RESUME | LEASE,
        kind::LEASE | kind::METADATA_PUSH => METADATA,
        kind::KEEPALIVE => RESPOND,
        kind::REQUEST_RESPONSE..=kind::REQUEST_STREAM => METADATA | FOLLOWS,
        kind::REQUEST_CHANNEL => METADATA | FOLLOWS | COMPLETE,
        kind::PAYLOAD => METADATA | FOLLOWS | COMPLETE | NEXT,
        kind::REQUEST_N | kind::CANCEL | kind::ERROR | kind::RESUME | kind::RESUME_OK => 0,
        _ => return None,
    })
}

struct Rest(Bytes);

impl Rest {
    fn take(&mut self, len: usize) -> Option<Bytes> {
        (len <= self.0.len()).then(|| self.0.split_to(len))
    }

    fn number(&mut self, bytes: usize) -> Option<u64> {
        let bytes = self.take(bytes)?;
        Some(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stream, number, position, .. } = self;
        let name = match self.kind {
            kind::SETUP => return f.write_str("SETUP"),
            kind::LEASE => return write!(f, "LEASE({number},{})", self.requests),
            kind::KEEPALIVE => {
                let respond = if self.has(flag::RESPOND) { "R," } else { "" };
                return write!(f, "KA({respond}{position},<{}>)", self.data.len());
            }
            kind::REQUEST_N => return write!(f, "RN({stream},{number})"),
            kind::CANCEL => return write!(f, "CAN({stream})"),
            kind::ERROR => return write!(f, "ERR({stream},{number:#x})"),
            kind::METADATA_PUSH => return f.write_str("MP"),
            kind::RESUME => return write!(f, "RESUME({position},{})", self.first_available),
            kind::RESUME_OK => return write!(f, "RESUME_OK({position})"),
            kind::REQUEST_RESPONSE => "RR",
            kind::REQUEST_FNF => "FNF",
            kind::REQUEST_STREAM => "RS",
            kind::REQUEST_CHANNEL => "RC",
            _ => "P",
        };
        write!(f, "{name}({stream}")?;
        if *number > 0 {
            write!(f, ",n={number}")?;
        }
        for (bit, letter) in [(flag::FOLLOWS, "F"), (flag::NEXT, "N"), (flag::COMPLETE, "C")] {
            if self.has(bit) {
                write!(f, ",{letter}")?;
            }
        }
        if let Some(metadata) = &self.metadata {
            write!(f, ",M<{}>", metadata.len())?;
        }
        write!(f, ",<{}>)", self.data.len())
    }
}
