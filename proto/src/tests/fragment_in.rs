//! Payloads arrive in fragments (FRAG).

use super::{
    peer::{RC, RR, RS, Wire},
    wire::*,
};
use crate::Config;

const LATE: &str = "a fragment has metadata behind data";
const LARGE: &str = "the fragmented payload is larger than accepted here";

/// A server with a channel of the peer, which asked for 9 and may send 9.
pub(super) fn responding() -> Wire {
    let mut e = Wire::server();
    e.receive(rc(1, 9, "d"));
    assert_eq!(e.events(), "Request(1,RC,'d')");
    e.stream(1).request_n(9);
    assert_eq!(e.sent(), "RN(1,9)");
    e
}

/// A client with a request on stream 1, which asks for 9 where it can.
pub(super) fn requesting(interaction: crate::frame::Interaction) -> Wire {
    let mut e = Wire::client();
    e.request(interaction, "d", 9);
    e.sent();
    e
}

pub(super) fn small() -> Config {
    Config { max_payload_bytes: 10, max_reassembly_bytes: 15, ..Config::default() }
}

/// Requests of every kind whose first fragment is "a".
pub(super) fn openings() -> [(Bytes, &'static str); 4] {
    [
        (with(F, rr(1, "a")), "RR"),
        (with(F, fnf(1, "a")), "FNF"),
        (with(F, rs(1, 2, "a")), "RS"),
        (with(F, rc(1, 2, "a")), "RC"),
    ]
}

#[test]
fn frag_01_18_a_request_is_heard_when_it_is_whole() {
    for (opening, kind) in openings() {
        let mut e = Wire::server();
        e.receive(opening);
        e.assert_silent("FRAG-18");
        e.receive(p(1, F | N, "b"));
        e.advance(1_000);
        e.assert_silent("FRAG-18");
        assert_eq!(e.connection.reassembly_bytes(), 2);
        assert_eq!(e.connection.stats().requests_in, 0);
        e.receive(p(1, N, "c"));
        assert_eq!(e.events(), format!("Request(1,{kind},'abc')"));
        assert_eq!(e.connection.stats().requests_in, 1);
        assert_eq!(e.connection.reassembly_bytes(), 0);
        e.receive(p(1, N, "d"));
        if kind != "RC" {
            e.assert_silent("it has all");
        }
    }
}

#[test]
fn frag_01_11_an_item_is_one_item_and_one_credit() {
    let mut e = requesting(RS);
    for _ in 0..9 {
        e.receive_all([p(1, F | N, "a"), p(1, F | N, "b"), p(1, N, "c")]);
        assert_eq!(e.events(), "Item(1,'abc')");
    }
    assert_eq!(e.connection.stats().items_in, 9);
    // The tenth was not asked for, and is not held.
    e.receive(p(1, F | N, "a"));
    assert_eq!(e.sent(), "CAN(1)", "RS-14");
    assert!(e.events().starts_with("Failed(1,0x203,"));
    e.assert_idle();

    let mut e = Wire::server();
    e.receive_all([rc(1, 1, "d"), p(1, F | N, "a"), p(1, N, "b")]);
    assert_eq!(e.sent(), "ERR(1,0x203)");
    assert_eq!(e.connection.stats().credit_violations, 1);
    e.events();
    e.assert_idle();
}

#[test]
fn frag_03_04_h096_metadata_is_joined_and_absent_is_not_empty() {
    let m = with_metadata;
    for (frames, request) in [
        (vec![m("m", with(F, rr(1, ""))), m("n", p(1, F | N, "a")), p(1, N, "b")], "M'mn','ab'"),
        (vec![m("m", with(F, rr(1, ""))), m("n", p(1, N, ""))], "M'mn',''"),
        (vec![m("m", with(F, rr(1, "a"))), p(1, N, "b")], "M'm','ab'"),
        (vec![m("", with(F, rr(1, "a"))), p(1, N, "b")], "M'','ab'"),
        (vec![m("", with(F, rr(1, ""))), m("m", p(1, N, "b"))], "M'm','b'"),
        // H096: M on every fragment, with length 0.
        (
            vec![m("", with(F, rr(1, "a"))), m("", p(1, F | N, "b")), m("", p(1, N, "c"))],
            "M'','abc'",
        ),
        // H095: metadata first in the second fragment, and no data before.
        (vec![with(F, rr(1, "")), m("m", p(1, N, "b"))], "M'm','b'"),
        (vec![with(F, rr(1, "a")), p(1, N, "b")], "'ab'"),
    ] {
        let mut e = Wire::server();
        e.receive_all(frames);
        assert_eq!(e.events(), format!("Request(1,RR,{request})"));
        e.send_last(1, "ok").unwrap();
        assert_eq!(e.sent(), "P(1,N+C,'ok')");
        e.assert_idle();
    }
}

#[test]
fn frag_05_cuts_may_be_anywhere() {
    let (metadata, data) = ("metadata", "data");
    for m in 0..=metadata.len() {
        for d in 0..=data.len() {
            let mut e = requesting(RR);
            e.receive(with_metadata(&metadata[..m], p(1, F | N, "")));
            e.receive(with_metadata(&metadata[m..], p(1, F | N, &data[..d])));
            e.receive(p(1, N | C, &data[d..]));
            assert_eq!(e.events(), "Item(1,M'metadata','data',last)");
            e.assert_idle();
        }
    }
    let mut e = Wire::server();
    e.receive(with(F, rr(1, "a")));
    e.receive_all("bcdefgh".chars().map(|part| p(1, F | N, &part.to_string())));
    e.receive(p(1, N, ""));
    assert_eq!(e.events(), "Request(1,RR,'abcdefgh')");
}

#[test]
fn frag_07_h093_next_may_be_on_any_of_them() {
    for flags in 0..8u16 {
        let n = |bit: u16| if flags & (1 << bit) == 0 { 0 } else { N };
        let mut e = responding();
        e.receive_all([p(1, F | n(0), "a"), p(1, F | n(1), "b"), p(1, n(2), "c")]);
        assert_eq!(e.events(), "Item(1,'abc')", "{flags:03b}");
        e.receive(p(1, N, "next"));
        assert_eq!(e.events(), "Item(1,'next')");
    }
    for tail in [N, 0, C, N | C] {
        for (opening, kind) in openings() {
            let mut e = Wire::server();
            e.receive_all([opening, p(1, F, "b"), p(1, tail, "c")]);
            let complete = if kind == "RC" && tail & C != 0 { "C," } else { "" };
            assert_eq!(e.events(), format!("Request(1,{kind},{complete}'abc')"));
        }
    }
}

#[test]
fn frag_08_h094_complete_ends_a_payload_whatever_follows_says() {
    let mut e = responding();
    e.receive_all([p(1, F | N | C, "a"), p(1, F | N, "late"), p(1, N | C, "late")]);
    assert_eq!(e.events(), "Item(1,'a',last)");
    assert_eq!(e.connection.stats().ignored_out_of_place, 2);
    let mut e = responding();
    e.receive_all([p(1, F | N, "a"), p(1, F | N | C, "b"), p(1, N, "late")]);
    assert_eq!(e.events(), "Item(1,'ab',last)");
    e.stream(1).complete().unwrap();
    assert_eq!(e.sent(), "P(1,C)");
    e.assert_idle();
    let mut e = responding();
    e.receive(p(1, F | C, ""));
    assert_eq!(e.events(), "Completed(1)", "without NEXT there is no item");
    for interaction in [RR, RS, RC] {
        let mut e = requesting(interaction);
        e.receive_all([p(1, F | N | C, "a"), p(1, N | C, "late")]);
        assert_eq!(e.events(), "Item(1,'a',last)");
    }
    // A request that is complete with its first PAYLOAD, whatever its F says.
    let mut e = Wire::server();
    e.receive_all([with(F, rc(1, 9, "a")), p(1, F | N | C, "b"), p(1, N, "late")]);
    assert_eq!(e.events(), "Request(1,RC,C,'ab')");
}

#[test]
fn frag_09_completion_may_be_on_either_end_of_a_channels_request() {
    for frames in [
        [with(F | C, rc(1, 9, "a")), p(1, N, "b")],
        [with(F, rc(1, 9, "a")), p(1, N | C, "b")],
        [with(F, rc(1, 9, "a")), p(1, C, "b")],
        [with(F | C, rc(1, 9, "a")), p(1, N | C, "b")],
    ] {
        let mut e = Wire::server();
        e.receive_all(frames);
        assert_eq!(e.events(), "Request(1,RC,C,'ab')");
        e.receive_all([p(1, N, "late"), p(1, C, "")]);
        e.assert_silent("its half is closed");
        e.stream(1).request_n(5);
        e.assert_silent("RN-10");
        e.send_last(1, "x").unwrap();
        assert_eq!(e.sent(), "P(1,N+C,'x')");
        e.assert_idle();
    }
}

#[test]
fn frag_10_completion_without_next_closes_the_item_first() {
    for mut e in [responding(), requesting(RC), requesting(RS), requesting(RR)] {
        e.receive_all([p(1, F | N, "a"), p(1, C, "b")]);
        assert_eq!(e.events(), "Item(1,'ab',last)");
        assert_eq!(e.connection.reassembly_bytes(), 0);
    }
    let mut e = requesting(RS);
    e.receive_all([p(1, F | N, "a"), p(1, C, "")]);
    assert_eq!(e.events(), "Item(1,'a',last)");
    e.assert_idle();
}

#[test]
fn frag_12_fragments_of_streams_may_be_mixed() {
    let mut e = Wire::server();
    e.receive_all([with(F, rr(1, "a")), with(F, rs(3, 1, "A")), with(F, fnf(5, "0"))]);
    e.receive_all([p(3, F | N, "B"), p(1, F | N, "b"), p(5, N, "1"), p(1, N, "c"), p(3, N, "C")]);
    assert_eq!(e.events(), "Request(5,FNF,'01') Request(1,RR,'abc') Request(3,RS,'ABC')");
    assert_eq!(e.connection.reassembly_bytes(), 0);
}

#[test]
fn frag_14_rn_09_h090_other_frames_between_fragments_do_not_disturb() {
    let mut e = Wire::server();
    e.receive_all([with(F, rr(1, "a")), ka(R, 0, b"k"), rn(1, 1), rr(3, "other"), mp("m")]);
    assert_eq!(e.sent(), "KA(0,'k')");
    assert_eq!(e.events(), "Request(3,RR,'other') Push('m')");
    e.receive(p(1, N, "b"));
    assert_eq!(e.events(), "Request(1,RR,'ab')");
    // The credit counts, and is told with the request.
    for (opening, kind) in [(rs(1, 1, "a"), "RS"), (rc(1, 1, "a"), "RC")] {
        let mut e = Wire::server();
        e.receive_all([with(F, opening), rn(1, 5)]);
        e.assert_silent("RN-09");
        e.receive(p(1, N, "b"));
        assert_eq!(e.events(), format!("Request(1,{kind},'ab')"));
        assert_eq!(e.stream(1).credit(), 6);
    }
    // Within the items of a channel, both ways.
    for mut e in [responding(), requesting(RC)] {
        e.receive(rn(1, 1));
        e.events();
        let credit = e.stream(1).credit();
        e.receive_all([p(1, F | N, "a"), rn(1, 5), p(1, N, "b")]);
        assert_eq!(e.events(), "Item(1,'ab')");
        assert_eq!(e.stream(1).credit(), credit + 5);
    }
    // What we send in the meantime is unmoved by what we receive.
    let mut e = responding();
    e.receive(p(1, F | N, "a"));
    e.send(1, "x").unwrap();
    e.stream(1).request_n(1);
    assert_eq!(e.sent(), "RN(1,1) P(1,N,'x')");
    e.receive(p(1, N, "b"));
    assert_eq!(e.events(), "Item(1,'ab')");
}

#[test]
fn frag_19_the_first_frame_says_what_is_asked_and_for_how_many() {
    let mut e = Wire::server();
    e.receive_all([with(F, rs(1, 2, "in")), p(1, N, "f")]);
    assert_eq!(e.events(), "Request(1,RS,'inf')");
    assert_eq!(e.send_up_to(1, 10), 2);
    assert_eq!(e.sent(), "P(1,N,'i') P(1,N,'i')");
    // What is granted before the request is whole goes with it.
    let mut e = Wire::server();
    e.receive_all([with(F, rs(1, 0, "in")), rn(1, 3), p(1, N, "f")]);
    assert_eq!(e.events(), "Request(1,RS,'inf')");
    assert_eq!(e.stream(1).credit(), 3, "RS-11");
    // Nor is a request held whose first frame is refused.
    let mut e = Wire::server();
    e.receive_all([with(F, rs(1, 0x8000_0000, "in")), p(1, N, "f")]);
    assert_eq!(e.events(), "");
    e.sent();
    e.assert_idle();
}

#[test]
fn frag_22_23_what_is_too_large_is_refused_at_the_fragment_that_makes_it_so() {
    for (opening, kind) in openings() {
        let mut e = Wire::server_with(small());
        e.receive_all([opening, p(1, F | N, "bcdefghi"), p(1, F | N, "j")]);
        e.assert_silent("ten bytes");
        e.receive_all([p(1, F | N, "k"), p(1, F | N, "rest"), p(1, N, "rest")]);
        assert_eq!(e.events(), "");
        assert_eq!(e.sent(), if kind == "FNF" { "" } else { "ERR(1,0x203)" });
        assert_eq!(e.connection.stats().refused_assemblies, 1);
        assert_eq!(e.connection.stats().dropped_fire_and_forget, u64::from(kind == "FNF"));
        e.assert_idle();
        e.fence(kind);
    }
    for interaction in [RR, RS, RC] {
        let mut e = Wire::client_with(small());
        e.request(interaction, "d", 9);
        e.sent();
        e.receive_all([p(1, F | N, "abcdefghi"), with_metadata("", p(1, F | N, "j"))]);
        e.assert_silent("ten bytes");
        e.receive_all([p(1, N, "k"), p(1, N, "rest")]);
        assert_eq!(e.events(), format!("Failed(1,0x203,'{LARGE}')"));
        assert_eq!(e.sent(), "CAN(1)");
        e.assert_idle();
    }
    // As responder of a channel, for an item: both halves end.
    let mut e = Wire::server_with(small());
    e.receive(rc(1, 9, "d"));
    e.events();
    e.stream(1).request_n(9);
    e.sent();
    e.receive_all([with_metadata("metadata", p(1, F | N, "")), p(1, N, "abc")]);
    assert_eq!(e.events(), format!("Failed(1,0x203,'{LARGE}')"), "metadata counts");
    assert_eq!(e.sent(), "ERR(1,0x203)");
    e.assert_idle();
    // Frames that are whole have no other bound than a frame's.
    e.receive(rr(3, "whole and longer than ten bytes"));
    assert_eq!(e.events(), "Request(3,RR,'whole and longer than ten bytes')");
}

#[test]
fn frag_23_all_unfinished_payloads_together_are_bounded() {
    let mut e = Wire::server_with(small());
    e.receive_all([with(F, rr(1, "12345678")), with(F, rr(3, "1234567"))]);
    assert_eq!(e.connection.reassembly_bytes(), 15);
    e.receive_all([p(3, F | N, "8"), with(F, rr(5, "1"))]);
    assert_eq!(e.sent(), "ERR(3,0x203)");
    assert_eq!(e.connection.reassembly_bytes(), 9);
    e.receive_all([p(1, N, "9"), p(5, N, "2")]);
    assert_eq!(e.events(), "Request(1,RR,'123456789') Request(5,RR,'12')");
    assert_eq!(e.connection.reassembly_bytes(), 0);
}

#[test]
fn frag_23_joined_requests_count_as_whole_ones_do() {
    let mut e = Wire::server_with(Config { max_request_bytes: 10, ..Config::default() });
    e.receive_all([with(F, rr(1, "12345")), p(1, N, "67890")]);
    assert_eq!(e.events(), "Request(1,RR,'1234567890')");
    e.receive_all([with(F, fnf(3, "")), p(3, N, "x"), with(F, rs(5, 1, "")), p(5, N, "x")]);
    assert_eq!(e.sent(), "ERR(5,0x202)");
    assert_eq!(e.connection.stats().refused_request_bytes, 2);
    assert_eq!(e.connection.stats().dropped_fire_and_forget, 1);
    e.receive_all([can(1), with(F, fnf(7, "12345")), p(7, N, "67890")]);
    assert_eq!(e.events(), "Cancelled(1) Request(7,FNF,'1234567890')");
    e.receive(rr(9, "x"));
    assert_eq!(e.sent(), "ERR(9,0x202)");
    e.stream(7).complete().unwrap();
    e.assert_idle();
    e.fence("all is given back");
}

#[test]
fn frag_24_some_empty_fragments_are_no_harm() {
    let mut e = responding();
    e.receive_all((0..1_000).map(|_| p(1, F | N, "")));
    e.receive_all([p(1, F | N, "a"), p(1, F, ""), p(1, N, "")]);
    assert_eq!(e.events(), "Item(1,'a')");
    let limits = Config { max_fragments: 3, ..Config::default() };
    let mut e = Wire::server_with(limits);
    e.receive_all([with(F, rr(1, "a")), p(1, F | N, "b"), p(1, N, "c")]);
    assert_eq!(e.events(), "Request(1,RR,'abc')");
    e.receive_all([with(F, rr(3, "a")), p(3, F | N, "b"), p(3, F | N, "c"), p(3, N, "d")]);
    assert_eq!(e.sent(), "ERR(3,0x203)");
    assert_eq!(e.events(), "");
}

#[test]
fn frag_25_h095_metadata_behind_data_is_invalid() {
    for tail in [p(1, N, ""), p(1, F | N, "more"), p(1, N | C, "")] {
        for (opening, kind) in openings() {
            let mut e = Wire::server();
            e.receive_all([opening, with_metadata("late", tail.clone()), p(1, N, "rest")]);
            assert_eq!(e.events(), "");
            assert_eq!(e.sent(), if kind == "FNF" { "" } else { "ERR(1,0x204)" });
            e.assert_idle();
            e.fence(kind);
        }
        for interaction in [RR, RS, RC] {
            let mut e = requesting(interaction);
            e.receive_all([p(1, F | N, "data"), with_metadata("late", tail.clone())]);
            assert_eq!(e.events(), format!("Failed(1,0x204,'{LATE}')"));
            assert_eq!(e.sent(), "CAN(1)");
            e.assert_idle();
        }
        let mut e = responding();
        e.receive_all([p(1, F | N, "data"), with_metadata("late", tail)]);
        assert_eq!(e.events(), format!("Failed(1,0x204,'{LATE}')"));
        assert_eq!(e.sent(), "ERR(1,0x204)");
        e.assert_idle();
    }
}

#[test]
fn frag_26_h089_h101_a_request_on_an_id_under_reassembly_is_ignored() {
    for (opening, kind) in openings() {
        for request in [rr(1, "x"), fnf(1, "x"), rs(1, 9, "x"), with(F, rc(1, 9, "x"))] {
            let mut e = Wire::server();
            e.receive_all([opening.clone(), request, p(1, N, "b")]);
            assert_eq!(e.events(), format!("Request(1,{kind},'ab')"));
            assert_eq!(e.connection.stats().ignored_unknown_stream, 1);
            assert_eq!(e.sent(), "");
        }
    }
    // The id of a fire-and-forget is free once it is whole (FNF-02).
    let mut e = Wire::server();
    e.receive_all([with(F, fnf(1, "a")), p(1, N, "b"), p(1, N, "late"), rr(1, "c")]);
    assert_eq!(e.events(), "Request(1,FNF,'ab') Request(1,RR,'c')");
    // Both live, and neither takes the other along.
    e.send_last(1, "r").unwrap();
    assert_eq!(e.sent(), "P(1,N+C,'r')");
    assert_eq!(e.connection.open_streams(), 1);
}

#[test]
fn frag_27_no_payload_begins_on_a_stream_that_is_not_there() {
    let mut e = Wire::server();
    for id in [1, 2, 7, 8] {
        e.receive_all([p(id, F | N, "a"), p(id, N, "b"), with_metadata("m", p(id, F, "c"))]);
    }
    e.assert_silent("FRAG-27");
    e.assert_idle();
    // Nor on one whose sender has nothing more to say.
    e.receive_all([rr(1, "d"), p(1, F | N, "a")]);
    assert_eq!(e.events(), "Request(1,RR,'d')");
    assert_eq!(e.connection.reassembly_bytes(), 0);
    e.fence("FRAG-27");
}

#[test]
fn frag_28_rr_04_an_answer_is_over_when_it_is_joined() {
    for tail in [N, 0, C, N | C] {
        let mut e = requesting(RR);
        e.receive(p(1, F | N, "a"));
        e.assert_silent("RR-04");
        assert!(e.is_open(1));
        e.receive_all([p(1, tail, "b"), p(1, N, "late")]);
        assert_eq!(e.events(), "Item(1,'ab',last)");
        e.assert_idle();
    }
}

/// Every sequence of eight frames of a small alphabet leaves a connection that works and, when the
/// stream is over, holds nothing.
#[test]
fn any_order_of_fragments_is_survived() {
    let frames = [
        with(F, rr(1, "a")),
        with(F, rc(1, 1, "a")),
        with(F, fnf(1, "a")),
        p(1, F | N, "b"),
        p(1, N, "c"),
        with_metadata("m", p(1, F | N, "")),
        p(1, F | N | C, "d"),
        p(1, C, ""),
        can(1),
        rn(1, 1),
        err(1, 0x201, b""),
    ];
    let mut rng = Rng::new(3);
    for round in 0..20_000 {
        let mut e = if round == 0 { Wire::server() } else { Wire::server_with(small()) };
        for _ in 0..8 {
            e.receive(&frames[rng.below(frames.len())]);
            if rng.one_in(4) && e.is_open(1) {
                e.stream(1).request_n(1);
            }
            e.events();
        }
        assert!(e.connection.reassembly_bytes() <= 15);
        e.receive(can(1));
        assert_eq!(e.connection.reassembly_bytes(), 0, "{round}");
        e.disconnect(None);
        e.events();
        e.assert_dead();
    }
    let mut e = Wire::server();
    e.receive_all(&frames);
    e.events();
    e.sent();
    e.fence("after all of them");
}
