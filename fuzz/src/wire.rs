//! The target's own reading and writing of frames, and what it keeps book of. Nothing here uses
//! the engine's codec: a mistake that its encoder and decoder share must not hide.

use std::collections::HashMap;

pub(crate) const MAX: u32 = 0x7FFF_FFFF;

const METADATA: u16 = 0x100;
const FOLLOWS: u16 = 0x080;
const COMPLETE: u16 = 0x040;
const NEXT: u16 = 0x020;

pub(crate) const SETUP: u8 = 0x01;
const KEEPALIVE: u8 = 0x03;
pub(crate) const REQUEST_RESPONSE: u8 = 0x04;
pub(crate) const REQUEST_STREAM: u8 = 0x06;
pub(crate) const REQUEST_CHANNEL: u8 = 0x07;
pub(crate) const REQUEST_N: u8 = 0x08;
const CANCEL: u8 = 0x09;
const PAYLOAD: u8 = 0x0A;
pub(crate) const ERROR: u8 = 0x0B;
const METADATA_PUSH: u8 = 0x0C;

/// A frame's head, as far as credit is concerned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) stream: u32,
    pub(crate) kind: u8,
    flags: u16,
    /// The initial request-n, or the request-n.
    n: u32,
    len: usize,
}

impl Head {
    pub(crate) fn read(frame: &[u8]) -> Option<Self> {
        let (&[a, b, c, d, e, f], body) = frame.split_first_chunk::<6>()?;
        let word = u16::from_be_bytes([e, f]);
        let kind = (word >> 10) as u8;
        let n = match kind {
            REQUEST_RESPONSE => 1,
            REQUEST_STREAM | REQUEST_CHANNEL | REQUEST_N => {
                u32::from_be_bytes(*body.first_chunk::<4>()?)
            }
            _ => 0,
        };
        let stream = u32::from_be_bytes([a, b, c, d]);
        Some(Self { stream, kind, flags: word & 0x3FF, n, len: frame.len() })
    }

    fn is_request(self) -> bool {
        (REQUEST_RESPONSE..=REQUEST_CHANNEL).contains(&self.kind)
    }

    fn has(self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// A frame from its parts; `fields` stands between the header and the body.
pub(crate) fn raw(stream: u32, kind: u8, flags: u16, fields: &[u8], body: &[u8]) -> Vec<u8> {
    let word = u16::from(kind) << 10 | (flags & 0x3FF);
    let mut frame = stream.to_be_bytes().to_vec();
    frame.extend(word.to_be_bytes());
    frame.extend(fields);
    let with_length = kind == PAYLOAD || (REQUEST_RESPONSE..=REQUEST_CHANNEL).contains(&kind);
    if flags & METADATA != 0 && with_length {
        frame.extend([0, 0, (body.len() / 2) as u8]);
    }
    frame.extend(body);
    frame
}

/// What one side may write, and has written.
#[derive(Debug)]
pub(crate) struct Ledger {
    client: bool,
    /// The longest request or payload frame it may write.
    max_fragment: usize,
    lines: HashMap<u32, Line>,
    /// SETUP is written.
    set_up: bool,
    /// ERROR on stream 0 is written.
    ended: bool,
}

#[derive(Debug, Default)]
struct Line {
    granted: u64,
    sent: u64,
    /// Our request is written, at least its first fragment.
    requested: bool,
    /// Fragments of our request are to follow.
    requesting: bool,
    /// Fragments of an item are to follow.
    sending: bool,
    /// The peer cancelled: an item in fragments may have been given up.
    cut_off: bool,
    /// COMPLETE is written.
    completed: bool,
    /// CANCEL or ERROR is written for a stream of ours.
    over: bool,
}

impl Ledger {
    pub(crate) fn new(client: bool, max_fragment: usize) -> Self {
        Self { client, max_fragment, lines: HashMap::new(), set_up: false, ended: false }
    }

    /// The side was given this frame.
    pub(crate) fn received(&mut self, head: Head) {
        let line = self.lines.entry(head.stream).or_default();
        if head.is_request() || head.kind == REQUEST_N {
            line.granted += u64::from(head.n);
        }
        line.cut_off |= head.kind == CANCEL;
    }

    /// The frame the side was given last made a request whole.
    pub(crate) fn opened(&mut self, head: Head) {
        let line = self.lines.entry(head.stream).or_default();
        // Of a fragmented request, credit that came between the fragments counts.
        *line = if head.is_request() {
            Line { granted: head.n.into(), ..Line::default() }
        } else {
            Line { granted: line.granted, sent: line.sent, ..Line::default() }
        };
    }

    /// The side has written this frame.
    pub(crate) fn sent(&mut self, head: Head) {
        assert!(!self.ended, "{head:?} after the last ERROR");
        assert!(head.stream <= MAX);
        assert_eq!(self.client && !self.set_up, head.kind == SETUP, "SETUP first, and once");
        self.set_up = true;
        if head.stream == 0 {
            assert!(matches!(head.kind, SETUP | KEEPALIVE | METADATA_PUSH | ERROR), "{head:?}");
            self.ended = head.kind == ERROR;
            return;
        }
        let ours = (head.stream % 2 == 1) == self.client;
        let line = self.lines.entry(head.stream).or_default();
        assert!(!line.over, "{head:?} after the stream's end");
        if head.is_request() {
            assert!(ours && !line.requested, "{head:?} is no new stream of ours");
            assert!(head.len <= self.max_fragment, "{head:?} is to be cut");
            let has_n = matches!(head.kind, REQUEST_STREAM | REQUEST_CHANNEL);
            assert!(!has_n || (1..=MAX).contains(&head.n), "{head:?}");
            (line.requested, line.requesting) = (true, head.has(FOLLOWS));
            return;
        }
        assert!(!ours || line.requested, "{head:?} before the request");
        match head.kind {
            PAYLOAD => {
                assert!(head.len <= self.max_fragment, "{head:?} is to be cut");
                line.payload(head);
            }
            REQUEST_N => {
                assert!((1..=MAX).contains(&head.n), "{head:?}");
                let cut = line.requesting || (line.sending && !line.cut_off);
                assert!(!cut, "{head:?} between fragments");
            }
            CANCEL | ERROR => line.over = ours,
            _ => panic!("{head:?} is nothing to write on a stream"),
        }
    }
}

impl Line {
    fn payload(&mut self, head: Head) {
        assert!(head.has(NEXT) || head.has(COMPLETE), "{head:?} says nothing");
        if self.requesting {
            self.requesting = head.has(FOLLOWS);
            return;
        }
        assert!(!self.completed, "{head:?} after COMPLETE");
        assert!(!self.sending || head.has(NEXT), "{head:?} between fragments");
        if head.has(NEXT) && !self.sending {
            self.sent += 1;
            assert!(self.sent <= self.granted, "{head:?} was not asked for: {self:?}");
        }
        self.sending = head.has(FOLLOWS);
        self.completed = head.has(COMPLETE);
    }
}
