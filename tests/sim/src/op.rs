//! Operations: what may happen next. An [`Op`] means something in every state, if only nothing: so
//! any list of them is a run, which is what makes shrinking and fuzzing simple.

use rsock_proto::Interaction;

use crate::rng::Rng;

/// The source of decisions.
pub trait Choices {
    /// A number below `bound`; 0 if that is 0.
    fn below(&mut self, bound: u32) -> u32;

    /// True once in so many times.
    fn one_in(&mut self, odds: u32) -> bool {
        self.below(odds) == 0
    }

    /// One of these.
    fn pick<T: Copy>(&mut self, choices: &[T]) -> T
    where
        Self: Sized,
    {
        // Fewer than 2^32 choices, and at least one.
        choices[self.below(choices.len() as u32) as usize]
    }
}

impl Choices for Rng {
    fn below(&mut self, bound: u32) -> u32 {
        Self::below(self, bound)
    }
}

/// Decisions read off a fuzzer's input; zeros behind its end.
#[derive(Debug)]
pub struct Input<'a>(pub &'a [u8]);

impl Choices for Input<'_> {
    fn below(&mut self, bound: u32) -> u32 {
        let mut number = 0u32;
        let mut reach = 1u64;
        while reach < u64::from(bound) {
            let Some((byte, rest)) = self.0.split_first() else { break };
            self.0 = rest;
            number = number << 8 | u32::from(*byte);
            reach <<= 8;
        }
        number % bound.max(1)
    }
}

/// The side that does it: 0 the client, 1 the server.
pub type Who = usize;

/// How long a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Bytes of data.
    pub data: u32,
    /// Bytes of metadata, if it has any.
    pub metadata: Option<u32>,
}

/// One thing that happens. `stream` picks one of the side's open streams, by their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields say what they are")]
pub enum Op {
    /// An application opens a stream.
    Open { who: Who, interaction: Interaction, n: u32, size: Size },
    /// It sends so many items, as far as there is credit.
    Emit { who: Who, stream: u8, items: u8, size: Size },
    /// It sends an item and completes.
    EmitLast { who: Who, stream: u8, size: Size },
    /// It completes its half.
    Complete { who: Who, stream: u8 },
    /// It fails the stream.
    Fail { who: Who, stream: u8 },
    /// It asks for more items.
    RequestN { who: Who, stream: u8, n: u32 },
    /// It wants nothing more.
    Cancel { who: Who, stream: u8 },
    /// METADATA_PUSH.
    Push { who: Who, bytes: u32 },
    /// A KEEPALIVE of the application's own.
    Ping { who: Who, bytes: u32 },
    /// The connection fills its send buffer, which is full with so many bytes.
    Write { who: Who, high_water: u32 },
    /// So many bytes of the send buffer go on their way.
    Flush { who: Who, bytes: u32 },
    /// So many bytes arrive.
    Deliver { who: Who, bytes: u32 },
    /// The application takes so many events.
    Take { who: Who, events: u8 },
    /// Everything that can moves from one side to the other.
    Pump { who: Who },
    /// Time passes, with the deadlines on the way served in time, or all at once.
    Advance { ms: u32, late: bool },
    /// Time passes to the next deadline.
    Deadline,
    /// No new requests, and the end with the last stream.
    Drain { who: Who },
    /// The end.
    Close { who: Who },
    /// It allows the other side so many requests.
    Grant { who: Who, requests: u32, ttl_ms: u32 },
    /// The transport breaks: so many of the bytes on their way to the client and to the server still
    /// arrive. Bit 0 of `noticed` says whether the client knows of it at once, bit 1 the server.
    Cut { keep: [u32; 2], noticed: u8 },
    /// A side that has a broken transport notices; with one that works, it is given up.
    Notice { who: Who },
    /// The client has a new transport for its session.
    Connect,
    /// In a hostile world: bits of what is on its way to `who` are flipped.
    Flip { who: Who, at: u32, bits: u8 },
    /// In a hostile world: bytes on their way are lost.
    Lose { who: Who, at: u32, bytes: u32 },
    /// In a hostile world: bytes on their way come twice.
    Repeat { who: Who, at: u32, bytes: u32 },
    /// In a hostile world: a frame nobody has written.
    Forge { who: Who, kind: u8, flags: u16, stream: u8, number: u32, bytes: u8 },
}

impl Op {
    /// Some operation; hostile ones only if there may be any.
    pub fn arbitrary(from: &mut impl Choices, hostile: bool) -> Self {
        let who = from.below(2) as usize;
        if hostile && from.one_in(8) {
            return Self::hostile(from, who);
        }
        let stream = |from: &mut _| Choices::below(from, 256) as u8;
        match from.below(100) {
            0..=9 => {
                let interaction = from.pick(&INTERACTIONS);
                let n = from.pick(&[1, 1, 2, 3, 8, 40, 0x7FFF_FFFF]);
                Self::Open { who, interaction, n, size: size(from) }
            }
            10..=29 => {
                let items = from.pick(&[1, 1, 1, 2, 5, 40]);
                Self::Emit { who, stream: stream(from), items, size: size(from) }
            }
            30..=33 => Self::EmitLast { who, stream: stream(from), size: size(from) },
            34..=36 => Self::Complete { who, stream: stream(from) },
            37 => Self::Fail { who, stream: stream(from) },
            38..=45 => {
                let n = from.pick(&[1, 1, 2, 3, 10, 100, 0x7FFF_FFFF]);
                Self::RequestN { who, stream: stream(from), n }
            }
            46..=47 => Self::Cancel { who, stream: stream(from) },
            48 => Self::Push { who, bytes: from.below(200) },
            49 => Self::Ping { who, bytes: 1 + from.below(100) },
            50..=61 => Self::Write { who, high_water: from.pick(&[1, 100, 1_000, 4_000, 65_536]) },
            62..=71 => Self::Flush { who, bytes: some_bytes(from) },
            72..=81 => Self::Deliver { who, bytes: some_bytes(from) },
            82..=86 => Self::Take { who, events: from.pick(&[1, 3, 255]) },
            87..=92 => Self::Pump { who },
            93 | 95 => Self::Connect,
            94 => match from.below(3) {
                0 => Self::Notice { who },
                _ => Self::Cut {
                    keep: [some_bytes(from), some_bytes(from)],
                    noticed: from.below(4) as u8,
                },
            },
            96 => Self::Deadline,
            97 => Self::Advance { ms: from.below(400), late: from.one_in(4) },
            98 => Self::Grant {
                who,
                requests: from.pick(&[0, 1, 3, 20, 1_000]),
                ttl_ms: from.pick(&[0, 100, 1_000, 600_000]),
            },
            _ => match from.below(40) {
                0 => Self::Drain { who },
                1 => Self::Close { who },
                2 | 3 => Self::Advance { ms: from.below(8_000), late: from.one_in(2) },
                _ => Self::Pump { who },
            },
        }
    }

    fn hostile(from: &mut impl Choices, who: Who) -> Self {
        match from.below(8) {
            0 => Self::Flip { who, at: from.below(65_536), bits: from.below(256) as u8 },
            1 => Self::Lose { who, at: from.below(65_536), bytes: 1 + from.below(40) },
            2 => Self::Repeat { who, at: from.below(65_536), bytes: 1 + from.below(40) },
            _ => Self::Forge {
                who,
                kind: if from.one_in(20) { from.below(64) as u8 } else { from.pick(&KINDS) },
                flags: from.pick(&[0x20, 0x60, 0x40, 0xA0, 0x80, 0x120, 0x1A0, 0, 0x100, 0x3FF]),
                stream: from.below(256) as u8,
                number: from.pick(&[0, 1, 2, 5, 0x7FFF_FFFF, 0x8000_0001, 0x201, 0x102, 0x101]),
                bytes: from.below(80) as u8,
            },
        }
    }
}

const INTERACTIONS: [Interaction; 4] = [
    Interaction::FireAndForget,
    Interaction::RequestResponse,
    Interaction::RequestStream,
    Interaction::RequestChannel,
];

/// Frames that are worth forging.
const KINDS: [u8; 15] = [2, 3, 4, 5, 6, 7, 7, 8, 9, 10, 10, 10, 11, 12, 14];

fn size(from: &mut impl Choices) -> Size {
    let length = |from: &mut _| match Choices::below(from, 16) {
        0..=7 => Choices::below(from, 24),
        8..=11 => Choices::below(from, 160),
        12..=14 => Choices::below(from, 2_000),
        _ => Choices::below(from, 40_000),
    };
    let metadata = match from.below(4) {
        0 => Some(0),
        1 => Some(length(from)),
        _ => None,
    };
    Size { data: length(from), metadata }
}

fn some_bytes(from: &mut impl Choices) -> u32 {
    match from.below(6) {
        0 => 1,
        1 => 1 + from.below(9),
        2 => from.below(100),
        3 => from.below(2_000),
        _ => u32::MAX,
    }
}
