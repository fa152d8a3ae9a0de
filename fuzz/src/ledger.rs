//! The book of what may be written, and when. Frames are read by [`rsock_wire`] and not by the
//! engine's codec: a mistake that its encoder and decoder share must not hide.

use std::collections::HashMap;

use rsock_wire::{
    Header, MAX_N,
    flag::{COMPLETE, FOLLOWS, NEXT},
    kind::{
        CANCEL, ERROR, KEEPALIVE, METADATA_PUSH, PAYLOAD, REQUEST_CHANNEL, REQUEST_N,
        REQUEST_RESPONSE, REQUEST_STREAM, SETUP,
    },
};

/// A frame, as far as credit is concerned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) header: Header,
    /// The initial request-n, or the request-n.
    n: u32,
    len: usize,
}

impl Head {
    pub(crate) fn read(frame: &[u8]) -> Option<Self> {
        let (header, body) = Header::split(frame)?;
        let n = match header.kind {
            REQUEST_RESPONSE => 1,
            REQUEST_STREAM | REQUEST_CHANNEL | REQUEST_N => {
                u32::from_be_bytes(*body.first_chunk::<4>()?)
            }
            _ => 0,
        };
        Some(Self { header, n, len: frame.len() })
    }
}

/// The frames that one side may write, and has written.
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
        let line = self.lines.entry(head.header.stream).or_default();
        if head.header.is_request() || head.header.kind == REQUEST_N {
            line.granted += u64::from(head.n);
        }
        line.cut_off |= head.header.kind == CANCEL;
    }

    /// The frame the side was given last made a request whole.
    pub(crate) fn opened(&mut self, head: Head) {
        let line = self.lines.entry(head.header.stream).or_default();
        // Of a fragmented request, credit that came between the fragments counts.
        *line = if head.header.is_request() {
            Line { granted: head.n.into(), ..Line::default() }
        } else {
            Line { granted: line.granted, sent: line.sent, ..Line::default() }
        };
    }

    /// The side has written this frame.
    pub(crate) fn sent(&mut self, head: Head) {
        assert!(!self.ended, "{head:?} after the last ERROR");
        assert!(head.header.stream <= MAX_N);
        assert_eq!(self.client && !self.set_up, head.header.kind == SETUP, "SETUP first, and once");
        self.set_up = true;
        if head.header.stream == 0 {
            assert!(
                matches!(head.header.kind, SETUP | KEEPALIVE | METADATA_PUSH | ERROR),
                "{head:?}"
            );
            self.ended = head.header.kind == ERROR;
            return;
        }
        let ours = (head.header.stream % 2 == 1) == self.client;
        let line = self.lines.entry(head.header.stream).or_default();
        assert!(!line.over, "{head:?} after the stream's end");
        if head.header.is_request() {
            assert!(ours && !line.requested, "{head:?} is not a new stream of ours");
            assert!(head.len <= self.max_fragment, "{head:?} is to be cut");
            let has_n = matches!(head.header.kind, REQUEST_STREAM | REQUEST_CHANNEL);
            assert!(!has_n || (1..=MAX_N).contains(&head.n), "{head:?}");
            (line.requested, line.requesting) = (true, head.header.has(FOLLOWS));
            return;
        }
        assert!(!ours || line.requested, "{head:?} before the request");
        match head.header.kind {
            PAYLOAD => {
                assert!(head.len <= self.max_fragment, "{head:?} is to be cut");
                line.payload(head);
            }
            REQUEST_N => {
                assert!((1..=MAX_N).contains(&head.n), "{head:?}");
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
        assert!(head.header.has(NEXT) || head.header.has(COMPLETE), "{head:?} says nothing");
        if self.requesting {
            self.requesting = head.header.has(FOLLOWS);
            return;
        }
        assert!(!self.completed, "{head:?} after COMPLETE");
        assert!(!self.sending || head.header.has(NEXT), "{head:?} between fragments");
        if head.header.has(NEXT) && !self.sending {
            self.sent += 1;
            assert!(self.sent <= self.granted, "{head:?} was not asked for: {self:?}");
        }
        self.sending = head.header.has(FOLLOWS);
        self.completed = head.header.has(COMPLETE);
    }
}
