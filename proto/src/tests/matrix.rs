//! Every cell of the reaction matrix, as server and as client (UNX).
//!
//! A cell has its own connection with four live streams of each side. Its frame comes, and the
//! table says what is told and written; then the fence shows that the connection works and the
//! other streams are as they were.

use super::{
    peer::{RC, RR, RS, Wire},
    wire::*,
};

/// The state of a live stream, in columns 4 and 5.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Live {
    Rr,
    Rs,
    Rc,
}

#[derive(Clone, Copy, Debug)]
enum Column {
    Connection,
    UnknownPeer,
    UnknownOwn,
    Responder(Live),
    Requester(Live),
}

const COLUMNS: [Column; 9] = [
    Column::Connection,
    Column::UnknownPeer,
    Column::UnknownOwn,
    Column::Responder(Live::Rr),
    Column::Responder(Live::Rs),
    Column::Responder(Live::Rc),
    Column::Requester(Live::Rr),
    Column::Requester(Live::Rs),
    Column::Requester(Live::Rc),
];

impl Live {
    /// The stream's id, from the ids 1, 3, 5 or 2, 4, 6.
    fn id(self, odd: bool) -> u32 {
        let n = match self {
            Self::Rr => 2,
            Self::Rs => 4,
            Self::Rc => 6,
        };
        n - u32::from(odd)
    }
}

/// An endpoint with a live stream of each interaction and side: as responder two items are asked
/// for on RS and RC, as requester two items are asked for and one granted on RC.
struct Cell {
    e: Wire,
    server: bool,
}

impl Cell {
    fn new(server: bool) -> Self {
        let mut e = if server { Wire::server() } else { Wire::client() };
        let id = |live: Live| live.id(server);
        e.receive_all([
            rr(id(Live::Rr), "never"),
            rs(id(Live::Rs), 0, "d"),
            rc(id(Live::Rc), 0, "d"),
        ]);
        e.request(RR, "d", 0);
        e.request(RS, "d", 2);
        e.request(RC, "d", 2);
        e.events();
        e.stream(id(Live::Rc)).request_n(2);
        e.sent();
        Self { e, server }
    }

    fn id(&self, column: Column) -> u32 {
        match column {
            Column::Connection => 0,
            Column::UnknownPeer => 100 + u32::from(self.server),
            Column::UnknownOwn => 100 + u32::from(!self.server),
            Column::Responder(live) => live.id(self.server),
            Column::Requester(live) => live.id(!self.server),
        }
    }

    /// The frame comes: what is told and written.
    fn react(&mut self, frame: Bytes) -> (String, String) {
        self.e.receive(frame);
        (self.e.events(), self.e.sent())
    }
}

/// The contents of a cell of the matrix: events, and frames written.
type Reaction = (String, String);

fn ignored() -> Reaction {
    Default::default()
}

fn told(event: String) -> Reaction {
    (event, String::new())
}

/// Runs a row: `frame(id)` in every column, for both roles. `reacts` tells what is not ignored, and
/// how many of the six live streams it ends.
fn row(
    name: &str,
    frame: impl Fn(u32) -> Bytes,
    reacts: impl Fn(Column, u32, bool) -> Option<(Reaction, usize)>,
) {
    for server in [true, false] {
        for column in COLUMNS {
            let context = format!("UNX-{name}, server: {server}, {column:?}");
            let mut cell = Cell::new(server);
            let id = cell.id(column);
            let before = *cell.e.connection.stats();
            let reaction = cell.react(frame(id));
            let (expected, ended) = reacts(column, id, server).unwrap_or_else(|| (ignored(), 0));
            let was_ignored = expected == ignored();
            assert_eq!(reaction, expected, "{context}");
            if cell.e.connection.is_closed() {
                cell.e.assert_dead();
                continue;
            }
            let after = cell.e.connection.stats();
            let counted = |stats: &crate::Stats| {
                stats.ignored_out_of_place + stats.ignored_unknown_stream + stats.ignored_on_request
            };
            let may_count = was_ignored && !matches!(name, "RN");
            if may_count {
                assert_eq!(counted(after), counted(&before) + 1, "UNX-04 {context}");
            }
            let new = usize::from(expected.0.starts_with("Request("));
            let open = cell.e.connection.open_streams();
            assert_eq!(open, 6 + new - ended, "{context}");
            cell.e.fence(&context);
        }
    }
}

fn nothing(_: Column, _: u32, _: bool) -> Option<(Reaction, usize)> {
    None
}

#[test]
fn unx_set_1_to_5() {
    row("SET", |id| raw(id, 0x01, 0, &[&setup()[6..]]), nothing);
}

#[test]
fn unx_lea_1_to_5() {
    row("LEA", lease, nothing);
}

#[test]
fn unx_ka_1_to_5() {
    let frame = |id| raw(id, 0x03, R, &[&[0; 8], b"d"]);
    row("KA", frame, |column, _, _| match column {
        Column::Connection => Some(((String::new(), "KA(0,'d')".into()), 0)),
        _ => None, // KA-12
    });
}

#[test]
fn unx_req_1_to_5() {
    type Open = fn(u32) -> Bytes;
    let frames: [(&str, Open); 4] = [
        ("RR", |id| rr(id, "d")),
        ("FNF", |id| fnf(id, "d")),
        ("RS", |id| rs(id, 1, "d")),
        ("RC", |id| rc(id, 1, "d")),
    ];
    for (kind, frame) in frames {
        row(kind, frame, |column, id, _| match column {
            Column::UnknownPeer => Some((told(format!("Request({id},{kind},'d')")), 0)),
            _ => None, // SID-12, SID-13
        });
    }
}

#[test]
fn unx_rn_1_to_5() {
    row(
        "RN",
        |id| rn(id, 3),
        |column, id, _| match column {
            Column::Responder(Live::Rs | Live::Rc) | Column::Requester(Live::Rc) => {
                Some((told(format!("Credited({id})")), 0))
            }
            _ => None, // RN-06, RR-11, RR-12
        },
    );
}

#[test]
fn unx_can_1_to_5() {
    row("CAN", can, |column, id, _| match column {
        Column::Responder(_) => Some((told(format!("Cancelled({id})")), 1)),
        Column::Requester(Live::Rc) => Some((told(format!("Cancelled({id})")), 0)), // RC-17
        _ => None,                                                                  // CAN-02, RR-12
    });
}

#[test]
fn unx_pay_1_to_5() {
    row(
        "PAY",
        |id| p(id, N, "x"),
        |column, id, _| match column {
            Column::Responder(Live::Rc) | Column::Requester(Live::Rs | Live::Rc) => {
                Some((told(format!("Item({id},'x')")), 0))
            }
            Column::Requester(Live::Rr) => Some((told(format!("Item({id},'x',last)")), 1)),
            _ => None, // PAY-06, RR-11, RS-15
        },
    );
    row(
        "PAY",
        |id| p(id, C, ""),
        |column, id, _| match column {
            Column::Requester(Live::Rs | Live::Rr) => Some((told(format!("Completed({id})")), 1)),
            Column::Responder(Live::Rc) | Column::Requester(Live::Rc) => {
                Some((told(format!("Completed({id})")), 0))
            }
            _ => None,
        },
    );
    row(
        "PAY",
        |id| p(id, N | C, "x"),
        |column, id, _| match column {
            Column::Requester(Live::Rs | Live::Rr) => {
                Some((told(format!("Item({id},'x',last)")), 1))
            }
            Column::Responder(Live::Rc) | Column::Requester(Live::Rc) => {
                Some((told(format!("Item({id},'x',last)")), 0))
            }
            _ => None,
        },
    );
}

#[test]
fn unx_err_1_to_5() {
    let frame = |id| err(id, 0x201, b"no");
    row("ERR", frame, |column, id, _| match column {
        Column::Responder(Live::Rc) | Column::Requester(_) => {
            Some((told(format!("Failed({id},0x201,'no')")), 1))
        }
        _ => None, // CONN-06, ERR-04, RR-11
    });
}

#[test]
fn unx_err_1_of_the_connection() {
    for server in [true, false] {
        // SETUP-25, SETUP-26, CONN-06, H126.
        for code in [0, 1, 2, 3, 4, 0x100, 0x103, 0x201, 0x204, 0x301, u32::MAX] {
            let mut cell = Cell::new(server);
            assert_eq!(cell.react(err(0, code, b"no")), ignored(), "{code:#x}");
            assert_eq!(cell.e.connection.open_streams(), 6);
            cell.e.fence(code);
        }
        // CONN-01.
        let mut cell = Cell::new(server);
        let closed = told("Closed(peer,0x101,'no')".into());
        assert_eq!(cell.react(err(0, 0x101, b"no")), closed);
        cell.e.assert_dead();
        // CONN-02: nothing ends at once.
        let mut cell = Cell::new(server);
        assert_eq!(cell.react(err(0, 0x102, b"no")), told("Draining('no')".into()));
        assert_eq!(cell.e.connection.open_streams(), 6);
    }
}

#[test]
fn unx_mp_1_to_5() {
    for flags in [M, 0] {
        // MDP-02, MDP-03, MDP-04.
        let frame = |id| raw(id, 0x0C, flags, &[b"m"]);
        row("MP", frame, |column, _, _| match column {
            Column::Connection => Some((told("Push('m')".into()), 0)),
            _ => None,
        });
    }
    let mut e = Wire::server();
    e.receive(mp(""));
    assert_eq!(e.events(), "Push('')"); // MDP-05
}

#[test]
fn unx_res_1_to_5() {
    row("RES", resume, |column, _, server| match column {
        // RESUME-25
        Column::Connection if server => {
            Some((("Closed(ResumeAfterSetup)".into(), "ERR(0,0x101)".into()), 6))
        }
        _ => None,
    });
}

#[test]
fn unx_rok_1_to_5() {
    row("ROK", resume_ok, nothing); // RESUME-40
}

#[test]
fn unx_ext_1_to_5_with_i() {
    for extended_type in [0, 1, MAX, MAX + 1, u32::MAX] {
        row("EXT", |id| ext(id, I, extended_type), nothing); // EXT-02, EXT-04
    }
    for kind in [0x00, 0x0F, 0x10, 0x20, 0x3E] {
        row("unknown", |id| raw(id, kind, I, &[b"x"]), nothing); // FRAME-13, FRAME-19
    }
}

#[test]
fn unx_ext_1_to_5_without_i() {
    let ends = |frame: &dyn Fn(u32) -> Bytes| {
        for server in [true, false] {
            for column in COLUMNS {
                let mut cell = Cell::new(server);
                let id = cell.id(column);
                cell.e.receive(frame(id));
                cell.e.assert_ended_with(0x101, (server, column));
            }
        }
    };
    for extended_type in [0, 1, u32::MAX] {
        ends(&|id| ext(id, 0, extended_type)); // EXT-03
    }
    for kind in [0x00, 0x0F, 0x20, 0x3E] {
        ends(&|id| raw(id, kind, 0, &[])); // FRAME-14, FRAME-19
    }
}

#[test]
fn h017_h018_every_unknown_type() {
    let unknown = || std::iter::once(0x00).chain(0x0F..=0x3E);
    let mut e = Wire::server();
    for kind in unknown() {
        e.receive_all([0, 1, 2].map(|id| raw(id, kind, I, &[])));
    }
    e.assert_silent("FRAME-13");
    e.fence("FRAME-13");
    for kind in unknown() {
        let mut e = Wire::server();
        e.receive(raw(1, kind, 0, &[]));
        e.assert_ended_with(0x101, kind);
    }
}

#[test]
fn frame_05_the_reserved_bit_of_the_stream_id_ends_the_connection() {
    for id in [0x8000_0000, 0x8000_0001, u32::MAX] {
        for flags in [0, I] {
            let mut e = Wire::server();
            e.receive(raw(id, 0x04, flags, &[b"d"]));
            e.assert_ended_with(0x101, id); // H014
        }
    }
}

/// Frames of which a part is missing: the type, its fixed part, and whether it has metadata.
const TYPES: [(u8, usize, bool); 13] = [
    (0x02, 8, false),
    (0x03, 8, false),
    (0x04, 0, true),
    (0x05, 0, true),
    (0x06, 4, true),
    (0x07, 4, true),
    (0x08, 4, false),
    (0x0A, 0, true),
    (0x0B, 4, false),
    (0x0D, 22, false),
    (0x0E, 8, false),
    (0x3F, 4, false),
    (0x01, 14, false),
];

#[test]
fn frame_16_a_truncated_fixed_part_ends_the_connection_unless_it_may_be_ignored() {
    for (kind, fixed, _) in TYPES {
        let stream = u32::from(!matches!(kind, 0x01..=0x03 | 0x0D | 0x0E));
        for len in 0..fixed {
            let body = [1; 32];
            let mut e = Wire::client();
            e.receive(raw(stream, kind, I, &[&body[..len]]));
            e.assert_silent((kind, len));
            e.fence((kind, len)); // H033, EXT-05
            let mut e = Wire::client();
            e.receive(raw(stream, kind, 0, &[&body[..len]]));
            e.assert_ended_with(0x101, (kind, len)); // H027, H028, H031, H032
        }
    }
}

#[test]
fn frame_10_11_metadata_that_does_not_fit_ends_the_connection_unless_it_may_be_ignored() {
    let misfits: [&[u8]; 6] = [
        b"",
        b"\0",
        b"\0\0",
        b"\0\0\x01",
        b"\0\0\x04abc",
        b"\xff\xff\xffabcdefghijk", // H022
    ];
    for (kind, fixed, metadata) in TYPES {
        if !metadata {
            continue;
        }
        for misfit in misfits {
            let head = [0, 0, 0, 1];
            let frame = |flags| raw(1, kind, flags, &[&head[..fixed], misfit]);
            let mut e = Wire::server();
            e.receive_all([rc(1, 1, "live")]); // H026
            e.events();
            e.receive(frame(M | I));
            e.assert_silent((kind, misfit));
            e.fence((kind, misfit)); // H025
            e.receive(frame(M));
            e.assert_ended_with(0x101, (kind, misfit)); // H021, H023
        }
    }
}
