//! Payloads of which the last fragment never comes: given up, refused or cut off.

use super::{
    fragment_in::{openings, requesting, responding, small},
    peer::{RC, RR, RS, Wire},
    wire::*,
};
use crate::ErrorCode;

const GIVEN_UP: &str = "the responder cancelled in the middle of a payload";

#[test]
fn frag_15_17_can_06_h091_h092_a_request_may_be_given_up() {
    for end in [can(1), err(1, 0x201, b"no"), err(1, 0x203, b"")] {
        for (opening, kind) in openings() {
            let mut e = Wire::server();
            e.receive_all([opening, p(1, F | N, "b"), end.clone()]);
            e.assert_idle();
            e.receive_all([p(1, F | N, "c"), p(1, N, "d"), rn(1, 1), can(1)]);
            e.assert_silent(kind);
            assert_eq!(e.connection.stats().requests_in, 0);
            // The id is free.
            e.receive(rr(1, "again"));
            assert_eq!(e.events(), "Request(1,RR,'again')");
            e.fence(kind);
        }
    }
}

#[test]
fn frag_15_a_stream_may_be_cancelled_in_mid_item() {
    let mut e = responding();
    e.receive_all([p(1, F | N, "a"), can(1), p(1, N, "b")]);
    assert_eq!(e.events(), "Cancelled(1)");
    assert_eq!(e.sent(), "");
    e.assert_idle();
    e.fence("FRAG-15");
}

#[test]
fn frag_16_h099_a_responder_gives_up_in_mid_payload() {
    for interaction in [RR, RS] {
        let mut e = requesting(interaction);
        e.receive_all([p(1, F | N, "a"), can(1)]);
        assert_eq!(e.events(), format!("Failed(1,0x203,'{GIVEN_UP}')"));
        e.receive(p(1, N | C, "late"));
        e.assert_silent("FRAG-16");
        e.assert_idle();
        // Between payloads it means nothing (RR-12).
        let mut e = requesting(interaction);
        e.receive_all([can(1), p(1, F | N, "a"), p(1, N | C, "b")]);
        assert_eq!(e.events(), "Item(1,'ab',last)");
    }
}

#[test]
fn frag_16_rc_17_on_a_channel_the_item_is_dropped_and_the_rest_goes_on() {
    for ended in [false, true] {
        let mut e = requesting(RC);
        e.receive(rn(1, 9));
        assert_eq!(e.events(), "Credited(1)");
        if ended {
            e.stream(1).complete().unwrap();
            assert_eq!(e.sent(), "P(1,C)");
        }
        e.receive_all([p(1, F | N, "a"), can(1)]);
        assert_eq!(e.events(), if ended { "" } else { "Cancelled(1)" });
        assert_eq!(e.connection.reassembly_bytes(), 0);
        e.receive_all([p(1, N, "whole"), p(1, C, "")]);
        assert_eq!(e.events(), "Item(1,'whole') Completed(1)");
        e.assert_silent("FRAG-16");
        e.assert_idle();
    }
}

#[test]
fn frag_17_an_error_in_mid_payload_fails_the_call() {
    for interaction in [RR, RS, RC] {
        let mut e = requesting(interaction);
        e.receive_all([p(1, F | N, "a"), err(1, 0x201, b"no"), p(1, N, "late")]);
        assert_eq!(e.events(), "Failed(1,0x201,'no')");
        e.assert_silent("FRAG-17");
        e.assert_idle();
    }
    let mut e = responding();
    e.receive_all([p(1, F | N, "a"), err(1, 0x201, b"no"), p(1, N, "late")]);
    assert_eq!(e.events(), "Failed(1,0x201,'no')");
    e.assert_idle();
}

#[test]
fn h097_a_bad_metadata_length_in_mid_run_ends_the_connection() {
    let mut e = Wire::server();
    e.receive_all([with(F, rr(1, "a")), raw(1, 0x0A, F | M | N, &[&[0, 0, 9], b"short"])]);
    assert_eq!(e.connection.reassembly_bytes(), 0);
    e.assert_ended_with(0x101, "FRAME-10");
}

#[test]
fn frag_29_h100_nothing_is_held_after_the_connection() {
    type End = fn(&mut Wire);
    let ends: [End; 6] = [
        |e| e.disconnect(None),
        |e| e.disconnect(Some("reset")),
        |e| e.connection.close(),
        |e| e.connection.end_with(ErrorCode::CONNECTION_ERROR, "over"),
        |e| e.receive(err(0, 0x101, b"over")),
        |e| e.advance(3_000),
    ];
    for (n, end) in ends.into_iter().enumerate() {
        let mut e = responding();
        e.receive_all([with(F, rr(3, "abc")), p(1, F | N, "defg")]);
        assert_eq!(e.connection.reassembly_bytes(), 7);
        end(&mut e);
        assert_eq!(e.connection.reassembly_bytes(), 0, "{n}");
        assert!(e.events().starts_with("Closed("), "{n}");
        e.sent();
        e.assert_dead();
    }
}

/// There is no idle limit: a run may take its time for as long as its connection lives.
#[test]
fn frag_30_an_unfinished_payload_lasts_as_long_as_it_grows() {
    let alive = |e: &mut Wire, seconds| {
        for _ in 0..seconds {
            e.advance(1_000);
            e.receive(ka(R, 0, b""));
            assert_eq!(e.sent(), "KA(0,'')");
        }
    };
    let mut e = Wire::server();
    e.receive(with(F, rr(1, "")));
    let part = "x".repeat(1 << 10);
    for _ in 0..100 {
        alive(&mut e, 29);
        e.receive(p(1, F | N, &part));
    }
    alive(&mut e, 29);
    e.receive(p(1, N, "end"));
    assert_eq!(e.events(), "Request(1,RR,<102403>)");
}

#[test]
fn frag_30_one_that_does_not_grow_fails_its_stream_alone() {
    for interaction in [RR, RS, RC] {
        let mut e = requesting(interaction);
        e.connection.accept(e.now);
        e.receive_all([p(1, F | N, "abc")]);
        // However little is left, the first look only sees it.
        for _ in 0..59 {
            e.advance(1_000);
            e.receive(ka(0, 0, b""));
            assert_eq!(e.connection.reassembly_bytes(), 3);
        }
        e.advance(2_000);
        assert_eq!(e.connection.reassembly_bytes(), 0);
        assert_eq!(e.connection.stats().stalled_parts, 1);
        assert!(e.events().starts_with("Failed(1,0x203"), "{interaction:?}");
    }
    let mut e = Wire::server();
    e.receive_all([with(F, rr(1, "a")), with(F, fnf(3, "a")), rr(5, "whole")]);
    assert_eq!(e.events(), "Request(5,RR,'whole')");
    for _ in 0..30 {
        e.advance(2_000);
        e.receive(ka(0, 0, b""));
    }
    assert_eq!(e.sent(), "ERR(1,0x203)", "and a fire-and-forget is dropped");
    assert_eq!(e.connection.stats().dropped_fire_and_forget, 1);
    e.send_last(5, "r").unwrap();
    assert_eq!(e.sent(), "P(5,N+C,'r')");
    e.assert_idle();
    assert_eq!(e.connection.stats().stalled_parts, 2);
}

#[test]
fn a_frame_that_does_not_grow_ends_its_connection() {
    let frame = prefixed(&rr(1, &"x".repeat(100_000)));
    // A KiB each half minute is enough, and a sign of life (KA-09).
    let mut e = Wire::server();
    let mut parts = frame.chunks(1 << 10);
    for part in &mut parts {
        e.receive_bytes(part);
        e.advance(500);
    }
    assert_eq!(e.events(), "Request(1,RR,<100000>)");
    let mut e = Wire::server();
    e.receive_bytes(&frame[..50_000]);
    let mut waited = 0;
    while e.connection.stats().stalled_parts == 0 {
        e.advance(1_000);
        e.receive_bytes(&frame[50_000 + waited..50_001 + waited]);
        waited += 1;
        assert!(waited <= 60);
    }
    assert!(waited > 30, "{waited}");
    e.assert_ended_with(0x101, "it is told");
}

/// What we do to a stream in the middle of a payload of the peer.
#[test]
fn can_06_our_own_end_of_a_stream_drops_what_is_half_received() {
    for interaction in [RR, RS, RC] {
        let mut e = requesting(interaction);
        e.receive(p(1, F | N, "abc"));
        assert_eq!(e.connection.reassembly_bytes(), 3);
        e.stream(1).cancel();
        assert_eq!(e.connection.reassembly_bytes(), 0);
        e.receive_all([p(1, F | N, "d"), p(1, N, "e")]);
        assert_eq!(e.sent(), "CAN(1)");
        e.assert_silent("CAN-06");
        e.assert_idle();
    }
    // The responder of a channel wants no more input; its own half goes on.
    let mut e = responding();
    e.receive(p(1, F | N, "abc"));
    e.stream(1).cancel();
    assert_eq!(e.connection.reassembly_bytes(), 0);
    e.receive_all([p(1, F | N, "d"), p(1, N | C, "e")]);
    assert_eq!(e.sent(), "CAN(1)");
    assert_eq!(e.events(), "");
    e.send_last(1, "x").unwrap();
    assert_eq!(e.sent(), "P(1,N+C,'x')");
    e.assert_idle();
    for mut e in [responding(), requesting(RC)] {
        e.receive(p(1, F | N, "abc"));
        e.fail(1, 0x301).unwrap();
        assert_eq!(e.connection.reassembly_bytes(), 0);
        e.receive(p(1, N, "d"));
        assert_eq!(e.sent(), "ERR(1,0x301)");
        e.assert_silent("CAN-06");
        e.assert_idle();
    }
    // Our half ends, theirs goes on.
    for mut e in [responding(), requesting(RC)] {
        e.receive(p(1, F | N, "a"));
        e.stream(1).complete().unwrap();
        assert_eq!(e.sent(), "P(1,C)");
        e.receive(p(1, N | C, "b"));
        assert_eq!(e.events(), "Item(1,'ab',last)");
        e.assert_idle();
    }
}

#[test]
fn frag_30_what_is_not_read_does_not_stall() {
    let mut e = Wire::server();
    e.receive(with(F, rr(1, "a")));
    for _ in 0..200 {
        e.advance(1_000);
        let now = e.now;
        e.connection.handle_pause(now);
    }
    e.receive(p(1, N, "b"));
    assert_eq!(e.events(), "Request(1,RR,'ab')");
    assert_eq!(e.connection.stats().stalled_parts, 0);
}

#[test]
fn a_drain_waits_for_a_request_that_has_begun() {
    let mut e = Wire::server();
    e.receive(with(F, rr(1, "a")));
    e.connection.drain();
    assert_eq!(e.sent(), "");
    e.receive_all([with(F, rr(3, "x")), p(1, N, "b")]);
    assert_eq!(e.events(), "Request(1,RR,'ab')");
    assert_eq!(e.sent(), "ERR(3,0x202)");
    e.send_last(1, "ok").unwrap();
    assert_eq!(e.sent(), "P(1,N+C,'ok') ERR(0,0x102)");
    // Given up, it holds nothing.
    let mut e = Wire::server();
    e.receive(with(F, rr(1, "a")));
    e.connection.drain();
    e.receive(can(1));
    assert_eq!(e.sent(), "ERR(0,0x102)");
    let mut e = Wire::server_with(small());
    e.receive(with(F, rr(1, "1234567890")));
    e.connection.drain();
    e.receive(p(1, N, "1"));
    assert_eq!(e.sent(), "ERR(1,0x203) ERR(0,0x102)");
}
