//! Payloads leave in fragments (FRAG).

use super::{
    peer::{self, FNF, RC, RR, RS, Wire},
    wire::*,
};
use crate::{Config, ErrorCode, Payload, RequestError, SendError, StreamError};

fn mtu(bytes: usize) -> Config {
    Config { fragment_bytes: Some(bytes), ..Config::default() }
}

/// A client that sends frames of 64 bytes: 58 in a PAYLOAD, REQUEST_RESPONSE and fire-and-forget,
/// 54 in the other requests, 3 less where there is metadata.
fn client() -> Wire {
    Wire::client_with(mtu(64))
}

/// A server of that kind with a stream 1 of the peer, which has asked for 9.
fn responding(request: Bytes) -> Wire {
    let mut e = Wire::server_with(mtu(64));
    e.receive(request);
    assert!(e.events().starts_with("Request(1,"));
    e
}

/// A client of that kind with a channel on which it may send 9.
fn requesting() -> Wire {
    let mut e = client();
    e.request(RC, "d", 9);
    assert_eq!(e.sent(), "RC(1,n=9,'d')");
    e.receive(rn(1, 9));
    assert_eq!(e.events(), "Credited(1)");
    e
}

fn data(len: usize) -> Payload {
    "d".repeat(len).into()
}

fn both(metadata: usize, len: usize) -> Payload {
    data(len).with_metadata("m".repeat(metadata))
}

#[test]
fn frag_01_06_a_request_is_its_frame_and_payloads_after_it() {
    let mut e = client();
    for (interaction, request) in [
        (RR, "RR(1,F,<58>) P(1,F+N,<58>) P(1,N,'dddd')"),
        (FNF, "FNF(3,F,<58>) P(3,F+N,<58>) P(3,N,'dddd')"),
        (RS, "RS(5,n=3,F,<54>) P(5,F+N,<58>) P(5,N,'dddddddd')"),
        (RC, "RC(7,n=3,F,<54>) P(7,F+N,<58>) P(7,N,'dddddddd')"),
    ] {
        e.request(interaction, data(120), 3);
        assert_eq!(e.sent(), request);
    }
    assert_eq!(e.events(), "Completed(3)");
    e.receive_all([p(1, N | C, "r"), p(5, N | C, "r"), p(7, N | C, "r")]);
    assert_eq!(e.events(), "Item(1,'r',last) Item(5,'r',last) Item(7,'r',last)");
    e.stream(7).complete().unwrap();
    assert_eq!(e.sent(), "P(7,C)");
    e.assert_idle();
}

#[test]
fn frag_01_what_fits_a_frame_is_whole() {
    let mut e = client();
    e.request(RR, data(58), 0);
    e.request(RR, data(59), 0);
    e.request(RS, data(54), 1);
    e.request(RS, data(55), 1);
    e.request(RR, both(5, 50), 1);
    e.request(RR, both(5, 51), 1);
    let sent = "RR(1,<58>) RR(3,F,<58>) P(3,N,'d') RS(5,n=1,<54>) RS(7,n=1,F,<54>) P(7,N,'d') \
                RR(9,M'mmmmm',<50>) RR(11,F,M'mmmmm',<50>) P(11,N,'d')";
    assert_eq!(e.sent(), sent);
}

#[test]
fn frag_01_06_an_answer_completes_with_its_last_fragment() {
    let mut e = responding(rr(1, "d"));
    e.send(1, data(120)).unwrap();
    assert_eq!(e.sent(), "P(1,F+N,<58>) P(1,F+N,<58>) P(1,N+C,'dddd')");
    e.fence("FRAG-01");
    e.assert_idle();
}

#[test]
fn frag_06_the_completion_of_a_fragmented_item_is_a_frame_of_its_own() {
    for request in [rs(1, 9, "d"), with(C, rc(1, 9, "d"))] {
        let mut e = responding(request);
        e.send(1, data(60)).unwrap();
        e.send(1, "whole").unwrap();
        e.send_last(1, data(60)).unwrap();
        let sent = "P(1,F+N,<58>) P(1,N,'dd') P(1,N,'whole') P(1,F+N,<58>) P(1,N,'dd') P(1,C)";
        assert_eq!(e.sent(), sent);
        e.assert_idle();
    }
    let mut e = requesting();
    e.send_last(1, data(60)).unwrap();
    assert_eq!(e.sent_next(2), "P(1,F+N,<58>) P(1,N,'dd')");
    assert!(e.is_open(1));
    assert_eq!(e.sent(), "P(1,C)");
    e.receive(p(1, C, ""));
    assert_eq!(e.events(), "Completed(1)");
    e.assert_idle();
}

#[test]
fn frag_02_nothing_else_is_cut() {
    let long = "x".repeat(200);
    let setup = crate::frame::Setup { payload: Payload::new(long.clone()), ..peer::setup() };
    let mut e = Wire::fresh_client_of(setup, mtu(64));
    let frames = e.sent_frames();
    assert_eq!((frames.len(), frames[0].kind), (1, 0x01));
    e.receive(ka(R, 0, long.as_bytes()));
    assert_eq!(e.sent(), "KA(0,<200>)");
    e.connection.push_metadata(long.clone().into()).unwrap();
    assert_eq!(e.sent(), "MP(<200>)");
    e.request(RC, "d", 1);
    e.sent();
    e.stream(1).fail(StreamError::new(ErrorCode(0x301), long.clone())).unwrap();
    let error = e.sent_frames();
    assert_eq!((error.len(), error[0].data.len()), (1, 200));
    e.connection.end_with(ErrorCode::CONNECTION_ERROR, long);
    assert_eq!(e.sent(), "ERR(0,0x101)");
}

#[test]
fn frag_03_04_metadata_comes_first_and_is_counted_by_fragment() {
    let mut e = client();
    for (payload, frames) in [
        (
            both(100, 100),
            "RR(1,F,M<55>,'') P(1,F+N,M<45>,'dddddddddd') P(1,F+N,<58>) \
             P(1,N,'dddddddddddddddddddddddddddddddd')",
        ),
        (both(0, 100), "RR(3,F,M'',<55>) P(3,N,<45>)"),
        (both(55, 5), "RR(5,F,M<55>,'') P(5,N,'ddddd')"),
        (both(54, 5), "RR(7,F,M<54>,'d') P(7,N,'dddd')"),
        (both(56, 5), "RR(9,F,M<55>,'') P(9,N,M'm','ddddd')"),
        // Metadata alone: the last of it has F clear.
        (both(110, 0), "RR(11,F,M<55>,'') P(11,N,M<55>,'')"),
        (both(110, 1), "RR(13,F,M<55>,'') P(13,F+N,M<55>,'') P(13,N,'d')"),
    ] {
        e.request(RR, payload, 0);
        assert_eq!(e.sent(), frames);
    }
    e.request(RS, both(60, 3), 7);
    assert_eq!(e.sent(), "RS(15,n=7,F,M<51>,'') P(15,N,M'mmmmmmmmm','ddd')");
    let mut e = responding(rr(1, "d"));
    e.send(1, both(60, 3)).unwrap();
    assert_eq!(e.sent(), "P(1,F+N,M<55>,'') P(1,N+C,M'mmmmm','ddd')");
}

/// Every size around the borders, as requests and as items, read by the tests' own joiner.
#[test]
fn frag_03_04_06_every_length_is_cut_right() {
    let sizes = |fine: bool| (0..=130).filter(move |n| fine || n % 29 < 3);
    let cases = |fine: bool| {
        let metadata = [None].into_iter().chain(sizes(!fine).map(Some));
        metadata.flat_map(move |metadata| sizes(fine).map(move |len| (metadata, len)))
    };
    for limit in [64, 65, 100] {
        let mut client = Wire::client_with(mtu(limit));
        let mut server = Wire::server_with(mtu(limit));
        server.receive(rs(1, MAX, "d"));
        server.events();
        let mut joiners = [Joiner::new([limit; 2]), Joiner::new([limit; 2])];
        joiners[1].see(0, &read(&rs(1, MAX, "d")));
        for (metadata, len) in cases(true).chain(cases(false)) {
            let payload = metadata.map_or_else(|| data(len), |metadata| both(metadata, len));
            client.request(FNF, payload.clone(), 0);
            client.connection.poll_event();
            server.send(1, payload.clone()).unwrap();
            for (side, frames) in [client.sent_frames(), server.sent_frames()].iter().enumerate() {
                let joined: Vec<_> =
                    frames.iter().filter_map(|frame| joiners[side].see(side, frame)).collect();
                assert_eq!(joined.len(), 1, "{metadata:?} {len}");
                assert_eq!(joined[0].metadata.as_deref(), payload.metadata.as_deref());
                assert_eq!(joined[0].data, payload.data);
                let least = 6 + len + metadata.map_or(0, |metadata| metadata + 3);
                assert_eq!(joined[0].fragments == 1, least <= limit, "{metadata:?} {len}");
            }
            client.events();
        }
        client.assert_idle();
    }
}

#[test]
fn frag_06_the_smallest_fragments_are_of_64_bytes() {
    for bytes in [0, 1, 63] {
        let mut e = Wire::client_with(mtu(bytes));
        e.request(RR, data(59), 0);
        assert_eq!(e.sent(), "RR(1,F,<58>) P(1,N,'d')");
    }
}

#[test]
fn frame_02_twenty_megabytes_leave_in_frames_no_larger_than_may_be() {
    for (bytes, fragments) in [(usize::MAX, 2), (0xFF_FFFF, 2), (1 << 20, 21), (64 << 10, 321)] {
        let mut e = Wire::client_with(mtu(bytes));
        let payload = Payload::new(vec![7; 20 << 20]);
        e.request(FNF, payload.clone(), 0);
        let mut joiner = Joiner::new([bytes.min(0xFF_FFFF); 2]);
        let frames = e.sent_frames();
        let joined = frames.iter().find_map(|frame| joiner.see(0, frame)).unwrap();
        assert_eq!(joined.fragments, fragments);
        assert!(joined.data == payload.data);
    }
    let mut e = Wire::client_with(Config { fragment_bytes: None, ..Config::default() });
    let refused = e.connection.request(RR, vec![7; 20 << 20].into(), 0);
    assert!(matches!(refused, Err(RequestError::PayloadTooLarge { .. })));
    assert_eq!(e.connection.open_streams(), 0);
    e.assert_silent("FRAME-02");
    e.receive(rr(2, "d"));
    e.events();
    let refused = e.send(2, vec![7; 20 << 20]);
    assert!(matches!(refused, Err(SendError::PayloadTooLarge { .. })));
    e.send(2, "small").unwrap();
    assert_eq!(e.sent(), "P(2,N+C,'small')");
}

#[test]
fn frag_11_rn_08_a_fragmented_item_costs_one_credit() {
    let mut e = responding(rs(1, 2, "d"));
    e.send(1, data(500)).unwrap();
    e.send(1, data(500)).unwrap();
    assert_eq!(e.stream(1).credit(), 0);
    assert_eq!(e.send(1, data(500)), Err(SendError::NoCredit));
    let mut joiner = Joiner::new([64; 2]);
    let frames = e.sent_frames();
    let joined: Vec<_> = frames.iter().filter_map(|frame| joiner.see(1, frame)).collect();
    assert_eq!(joined.len(), 2);
    assert_eq!((joined[0].fragments, joined[1].fragments), (9, 9));
    e.receive(rn(1, 1));
    assert_eq!(e.events(), "Credited(1)");
    assert_eq!(e.stream(1).credit(), 1);
}

#[test]
fn frag_12_streams_take_turns_between_fragments() {
    let mut e = Wire::client_with(Config { quantum_bytes: 64, ..mtu(64) });
    e.request(RR, data(120), 0);
    e.request(RS, data(120), 1);
    e.sent_next(2);
    e.request(RR, "small", 0);
    let sent = "RR(5,'small') P(1,F+N,<58>) P(3,F+N,<58>) P(1,N,'dddd') P(3,N,'dddddddd')";
    assert_eq!(e.sent(), sent);
}

#[test]
fn frag_13_a_fast_source_sends_one_item_after_the_other() {
    for mut e in [responding(rs(1, 100, "d")), responding(rc(1, 100, "d"))] {
        let mut joiner = Joiner::new([64; 2]);
        joiner.see(0, &read(&rs(1, 100, "d")));
        let mut lengths = Vec::new();
        for len in (0..100).map(|n| (n * 37) % 400) {
            e.send(1, data(len)).unwrap();
            if len % 3 == 0 {
                for frame in &e.sent_once() {
                    lengths.extend(joiner.see(1, frame).map(|joined| joined.data.len()));
                }
            }
        }
        for frame in &e.sent_frames() {
            lengths.extend(joiner.see(1, frame).map(|joined| joined.data.len()));
        }
        assert!(lengths.into_iter().eq((0..100).map(|n| (n * 37) % 400)));
    }
}

#[test]
fn frag_13_request_n_waits_for_the_last_fragment() {
    // Of a request.
    for interaction in [RS, RC] {
        let mut e = client();
        e.request(interaction, data(120), 1);
        assert!(e.sent_next(1).contains("(1,n=1,F,<54>)"));
        e.stream(1).request_n(4);
        e.stream(1).request_n(5);
        assert_eq!(e.sent(), "P(1,F+N,<58>) P(1,N,'dddddddd') RN(1,9)");
    }
    // Of an item, on both sides of a channel.
    for mut e in [responding(rc(1, 9, "d")), requesting()] {
        e.send(1, data(120)).unwrap();
        assert_eq!(e.sent_next(1), "P(1,F+N,<58>)");
        e.stream(1).request_n(4);
        e.send(1, "next").unwrap();
        e.stream(1).request_n(5);
        e.send(1, data(120)).unwrap();
        let sent = "P(1,F+N,<58>) P(1,N,'dddd') RN(1,9) P(1,N,'next') \
                    P(1,F+N,<58>) P(1,F+N,<58>) P(1,N,'dddd')";
        assert_eq!(e.sent(), sent, "not for the next item as well");
    }
    // Once the item is out, control goes first again.
    let mut e = Wire::server_with(Config { quantum_bytes: 64, ..mtu(64) });
    e.receive(rc(1, 9, "d"));
    e.events();
    e.send(1, data(60)).unwrap();
    e.send(1, data(60)).unwrap();
    e.sent_next(1);
    e.stream(1).request_n(4);
    assert_eq!(e.sent(), "P(1,N,'dd') RN(1,4) P(1,F+N,<58>) P(1,N,'dd')");
}

#[test]
fn frag_14_the_connection_and_other_streams_come_between_fragments() {
    let mut e = Wire::client_with(Config { quantum_bytes: 64, ..mtu(64) });
    e.request(RR, data(120), 0);
    let other = e.request(RS, "d", 1);
    assert_eq!(e.sent_next(2), "RR(1,F,<58>) RS(3,n=1,'d')");
    e.receive(ka(R, 0, b"k"));
    e.stream(other).request_n(5);
    e.connection.push_metadata("p".into()).unwrap();
    assert_eq!(e.sent(), "KA(0,'k') MP('p') RN(3,5) P(1,F+N,<58>) P(1,N,'dddd')");
}

#[test]
fn frag_15_a_requester_that_cancels_gives_up_its_fragments() {
    for interaction in [RR, RS, RC] {
        let mut e = client();
        e.request(interaction, data(1_000), 1);
        e.sent_next(2);
        e.stream(1).request_n(4);
        e.stream(1).cancel();
        assert_eq!(e.sent(), "CAN(1)");
        assert!(!e.is_open(1));
        e.receive(p(1, N | C, "late"));
        e.assert_silent("FRAG-15");
        e.assert_idle();
    }
    let mut e = client();
    e.request(FNF, data(1_000), 1);
    e.sent_next(2);
    e.stream(1).cancel();
    assert_eq!(e.sent(), "CAN(1)");
    e.assert_silent("not completed");
    e.assert_idle();
    // In the middle of an item.
    let mut e = requesting();
    e.send_last(1, data(1_000)).unwrap();
    assert_eq!(e.sent_next(1), "P(1,F+N,<58>)");
    e.stream(1).cancel();
    assert_eq!(e.sent(), "CAN(1)");
    e.assert_idle();
    // Before the first fragment there is nothing to say (RR-10).
    let mut e = client();
    e.request(RR, data(1_000), 0);
    e.stream(1).cancel();
    assert_eq!(e.sent(), "");
    e.assert_idle();
}

#[test]
fn frag_15_what_the_peer_refuses_or_cancels_is_not_sent_to_its_end() {
    for interaction in [RR, RS, RC] {
        let mut e = client();
        e.request(interaction, data(1_000), 1);
        e.sent_next(2);
        e.receive(err(1, 0x203, b"too large"));
        assert_eq!(e.events(), "Failed(1,0x203,'too large')");
        assert_eq!(e.sent(), "");
        e.assert_idle();
    }
    for request in [rr(1, "d"), rs(1, 9, "d"), rc(1, 9, "d")] {
        let mut e = responding(request);
        e.send_last(1, data(1_000)).unwrap();
        e.sent_next(2);
        e.receive(can(1));
        assert_eq!(e.events(), "Cancelled(1)");
        assert_eq!(e.sent(), "");
        e.assert_idle();
    }
}

/// A CANCEL between its fragments would mean that it gives up the item (FRAG-16).
#[test]
fn frag_16_a_responder_that_cancels_its_input_finishes_the_item_first() {
    let mut e = responding(rc(1, 9, "d"));
    e.stream(1).request_n(1);
    assert_eq!(e.sent(), "RN(1,1)");
    e.send(1, data(120)).unwrap();
    e.sent_next(1);
    e.stream(1).cancel();
    e.receive(p(1, N, "late"));
    assert_eq!(e.events(), "", "RC-18");
    assert_eq!(e.sent(), "P(1,F+N,<58>) P(1,N,'dddd') CAN(1)");
    e.send_last(1, "x").unwrap();
    assert_eq!(e.sent(), "P(1,N+C,'x')");
    e.assert_idle();
}

#[test]
fn frag_16_a_stream_that_fails_gives_up_its_fragments() {
    let mut e = responding(rc(1, 9, "d"));
    e.send(1, data(1_000)).unwrap();
    e.sent_next(1);
    e.receive(p(1, N, "not asked for"));
    assert!(e.events().starts_with("Failed(1,0x203,"));
    assert_eq!(e.sent(), "ERR(1,0x203)");
    e.assert_idle();
    let mut e = requesting();
    e.send_last(1, data(1_000)).unwrap();
    e.sent_next(1);
    e.receive_all([p(1, F | N, "data"), with_metadata("late", p(1, N, ""))]);
    assert!(e.events().starts_with("Failed(1,0x204,"));
    assert_eq!(e.sent(), "CAN(1)");
    e.assert_idle();
}

#[test]
fn rc_17_a_cancelled_half_stops_in_mid_item_and_the_other_goes_on() {
    for last in [false, true] {
        let mut e = requesting();
        if last {
            e.send_last(1, data(1_000)).unwrap();
        } else {
            e.send(1, data(1_000)).unwrap();
        }
        e.sent_next(2);
        e.receive(can(1));
        assert_eq!(e.events(), "Cancelled(1)", "last: {last}");
        assert_eq!(e.sent(), "", "last: {last}");
        assert_eq!(e.send(1, "more"), Err(SendError::StreamClosed));
        e.receive_all([can(1), p(1, N, "x"), p(1, C, "")]);
        assert_eq!(e.events(), "Item(1,'x') Completed(1)");
        e.assert_silent("last");
        e.assert_idle();
    }
    // A request goes out whole: the responder is still to answer it.
    let mut e = client();
    e.request(RC, data(120), 9);
    e.sent_next(1);
    e.receive(can(1));
    assert_eq!(e.events(), "Cancelled(1)");
    assert_eq!(e.sent(), "P(1,F+N,<58>) P(1,N,'dddddddd')");
    e.receive(p(1, N | C, "x"));
    assert_eq!(e.events(), "Item(1,'x',last)");
    e.assert_idle();
}

#[test]
fn frag_22_the_refusal_of_a_last_item_is_heard_before_all_of_it_is_sent() {
    let mut e = requesting();
    e.receive(p(1, C, ""));
    assert_eq!(e.events(), "Completed(1)");
    e.send_last(1, data(1_000)).unwrap();
    e.sent_next(2);
    e.receive(err(1, 0x203, b"too large"));
    assert_eq!(e.events(), "Failed(1,0x203,'too large')");
    assert_eq!(e.sent(), "");
    e.assert_idle();
}

#[test]
fn an_error_or_completion_follows_what_was_sent_before() {
    for mut e in [requesting(), responding(rc(1, 9, "d"))] {
        e.send(1, data(60)).unwrap();
        e.sent_next(1);
        e.fail(1, 0x301).unwrap();
        assert_eq!(e.sent(), "P(1,N,'dd') ERR(1,0x301)", "RS-07");
        e.assert_idle();
    }
    let mut e = client();
    e.request(RC, data(60), 1);
    e.sent_next(1);
    e.stream(1).complete().unwrap();
    assert_eq!(e.sent(), "P(1,N,'dddddd') P(1,C)");
    let mut e = responding(rr(1, "d"));
    e.send(1, data(60)).unwrap();
    e.sent_next(1);
    assert_eq!(e.fail(1, 0x301), Err(SendError::StreamClosed));
    assert_eq!(e.sent(), "P(1,N+C,'dd')");
}

#[test]
fn a_fire_and_forget_is_told_when_its_last_fragment_is_written() {
    let mut e = client();
    e.request(FNF, data(60), 0);
    e.sent_next(1);
    assert_eq!(e.events(), "");
    assert_eq!(e.sent_next(1), "P(1,N,'dd')");
    assert_eq!(e.events(), "Completed(1)");
    e.assert_idle();
}

#[test]
fn a_drain_lets_fragments_finish_and_a_close_does_not() {
    let mut e = client();
    e.request(FNF, data(60), 0);
    e.sent_next(1);
    e.connection.drain();
    assert_eq!(e.sent(), "P(1,N,'dd') ERR(0,0x102)");
    let mut e = client();
    e.request(FNF, data(60), 0);
    e.sent_next(1);
    e.connection.close();
    assert_eq!(e.sent(), "ERR(0,0x102)");
    assert_eq!(e.events(), "Closed(Local)");
    e.assert_idle();
}
