//! REQUEST_STREAM (RS).

use super::{
    peer::{RR, RS, Wire},
    wire::*,
};
use crate::{RequestError, SendError};

/// A server with a stream of the peer, `n` items asked for.
fn responding(n: u32) -> Wire {
    let mut e = Wire::server();
    e.receive(rs(1, n, "d"));
    assert_eq!(e.events(), "Request(1,RS,'d')");
    e
}

/// A client with a stream of its own, `n` items asked for.
fn requesting(n: u32) -> Wire {
    let mut e = Wire::client();
    e.request(RS, "d", n);
    assert_eq!(e.sent(), format!("RS(1,n={n},'d')"));
    e
}

#[test]
fn rs_02_no_item_beyond_the_credit() {
    let mut e = responding(3);
    assert_eq!(e.send_up_to(1, 100), 3);
    assert_eq!(e.send(1, "more"), Err(SendError::NoCredit));
    assert_eq!(e.send_last(1, "more"), Err(SendError::NoCredit));
    assert_eq!(e.sent(), "P(1,N,'i') P(1,N,'i') P(1,N,'i')");
    assert_eq!(e.connection.stats().credit_stalls, 1);
}

#[test]
fn rs_03_credits_add_up() {
    let mut e = responding(2);
    e.receive(rn(1, 3));
    assert_eq!(e.events(), "", "it was not waiting");
    assert_eq!(e.send_up_to(1, 100), 5);
    e.sent();
    e.receive_all([rn(1, 1), rn(1, 1)]);
    assert_eq!(e.events(), "Credited(1)");
    assert_eq!(e.send_up_to(1, 100), 2);
}

#[test]
fn rs_04_05_06_completion_is_free_and_rides_with_the_last_item() {
    let mut e = responding(2);
    e.send(1, "a").unwrap();
    e.send_last(1, "b").unwrap();
    assert_eq!(e.sent(), "P(1,N,'a') P(1,N+C,'b')");
    e.assert_idle();
    let mut e = responding(1);
    e.send(1, "a").unwrap();
    assert_eq!(e.sent(), "P(1,N,'a')");
    e.stream(1).complete().unwrap();
    assert_eq!(e.sent(), "P(1,C)");
    e.assert_idle();
    let mut e = responding(1);
    e.stream(1).complete().unwrap();
    assert_eq!(e.sent(), "P(1,C)");
    e.assert_idle();
}

#[test]
fn rs_07_err_10_an_error_follows_the_items_and_ends_it() {
    let mut e = responding(2);
    e.send(1, "a").unwrap();
    e.send(1, "b").unwrap();
    e.fail(1, 0x201).unwrap();
    assert_eq!(e.fail(1, 0x201), Err(SendError::StreamClosed));
    assert_eq!(e.send(1, "c"), Err(SendError::StreamClosed));
    assert_eq!(e.sent(), "P(1,N,'a') P(1,N,'b') ERR(1,0x201)");
    e.assert_idle();
    let mut e = responding(0);
    e.fail(1, 0x301).unwrap();
    assert_eq!(e.sent(), "ERR(1,0x301)");
    e.assert_idle();
}

#[test]
fn rs_08_cancel_drops_what_is_not_written() {
    let mut e = responding(MAX);
    e.send(1, "a").unwrap();
    assert_eq!(e.sent(), "P(1,N,'a')");
    e.send(1, "b").unwrap();
    e.send_last(1, "c").unwrap();
    e.receive(can(1));
    assert_eq!(e.events(), "Cancelled(1)");
    assert!(!e.is_open(1));
    assert_eq!(e.sent(), "");
    e.assert_idle();
    e.fence("RS-08");
}

#[test]
fn rs_09_what_crosses_our_cancel_is_dropped() {
    let mut e = requesting(9);
    e.receive(p(1, N, "a"));
    assert_eq!(e.events(), "Item(1,'a')");
    e.stream(1).cancel();
    e.receive_all([p(1, N, "b"), err(1, 0x201, b""), p(1, C, "")]);
    assert_eq!(e.events(), "");
    assert_eq!(e.sent(), "CAN(1)");
    e.receive_all([p(1, N, "b"), err(1, 0x201, b""), p(1, C, "")]);
    e.assert_silent("RS-09");
    e.assert_idle();
    e.fence("RS-09");
}

#[test]
fn rs_10_request_n_after_the_end_is_ignored() {
    let mut e = responding(1);
    e.send_last(1, "a").unwrap();
    e.receive(rn(1, 5)); // given, not written
    e.events();
    e.sent();
    e.receive(rn(1, 5));
    e.assert_silent("RS-10");
    e.fence("RS-10");
}

#[test]
fn rs_11_an_initial_n_of_0_is_no_credit_yet() {
    for open in [rs, rc] {
        let mut e = Wire::server();
        e.receive(open(1, 0, "d"));
        e.events();
        assert_eq!(e.send(1, "a"), Err(SendError::NoCredit));
        e.receive(rn(1, 1));
        assert_eq!(e.events(), "Credited(1)");
        e.send(1, "a").unwrap();
        assert_eq!(e.sent(), "P(1,N,'a')");
    }
}

#[test]
fn rs_12_rc_24_an_initial_n_above_the_largest_is_invalid() {
    for open in [rs, rc] {
        for n in [MAX + 1, MAX + 2, u32::MAX] {
            let mut e = Wire::server();
            e.receive(open(1, n, "d"));
            assert_eq!(e.sent(), "ERR(1,0x204)");
            e.receive(p(1, N, "x"));
            e.assert_silent("RS-12");
            e.assert_idle();
            e.fence("RS-12");
        }
    }
}

#[test]
fn rs_13_rn_05_the_largest_n_is_a_number_and_sums_do_not_wrap() {
    let mut e = responding(MAX);
    assert_eq!(e.stream(1).credit(), u64::from(MAX));
    for _ in 0..4 {
        e.receive(rn(1, MAX));
    }
    assert_eq!(e.events(), "");
    assert_eq!(e.stream(1).credit(), 5 * u64::from(MAX));
    assert_eq!(e.send_up_to(1, 5), 5);
    assert_eq!(e.stream(1).credit(), 5 * u64::from(MAX) - 5);
    e.stream(1).complete().unwrap();
    assert!(e.sent().ends_with("P(1,N,'i') P(1,C)"));
}

#[test]
fn rs_14_more_than_asked_for_fails_locally_and_cancels_once() {
    let mut e = requesting(2);
    for _ in 0..1_000 {
        e.receive(p(1, N, "x")); // H069
    }
    let overflow = "an item was sent that was not asked for with request-n";
    assert_eq!(e.events(), format!("Item(1,'x') Item(1,'x') Failed(1,0x203,'{overflow}')"));
    assert_eq!(e.sent(), "CAN(1)");
    assert_eq!(e.connection.stats().credit_violations, 1);
    e.assert_idle();
    e.fence("RS-14");
    // Also with COMPLETE on the item too many.
    let mut e = requesting(1);
    e.receive_all([p(1, N, "x"), p(1, N | C, "y")]);
    assert!(e.events().starts_with("Item(1,'x') Failed(1,0x203"));
    assert_eq!(e.sent(), "CAN(1)");
    e.assert_idle();
}

#[test]
fn rs_15_the_wrong_side_is_ignored() {
    let mut e = responding(1);
    e.send(1, "a").unwrap();
    e.sent();
    e.receive_all([p(1, N, "x"), p(1, C, ""), err(1, 0x201, b"")]);
    e.assert_silent("H073");
    e.receive(rn(1, 1));
    assert_eq!(e.events(), "Credited(1)");
    e.send(1, "b").unwrap();
    assert_eq!(e.sent(), "P(1,N,'b')");
}

#[test]
fn rs_16_request_n_before_the_request_is_written_is_part_of_it() {
    let mut e = Wire::client();
    e.request(RS, "d", 2);
    e.stream(1).request_n(3);
    assert_eq!(e.sent(), "RS(1,n=5,'d')");
    e.request(RS, "d", MAX);
    e.stream(3).request_n(3);
    assert_eq!(e.sent(), format!("RS(3,n={MAX},'d') RN(3,3)"));
}

#[test]
fn rs_17_after_the_end_the_id_is_free() {
    let mut e = responding(1);
    e.send_last(1, "a").unwrap();
    e.sent();
    e.receive(rs(1, 1, "again"));
    assert_eq!(e.events(), "Request(1,RS,'again')");
    e.send_last(1, "b").unwrap();
    assert_eq!(e.sent(), "P(1,N+C,'b')");
    e.assert_idle();
}

#[test]
fn rs_18_unx_02_lack_of_request_n_is_no_error() {
    let mut e = responding(1);
    e.send(1, "a").unwrap();
    e.sent();
    for _ in 0..10 {
        e.advance(1_000);
        e.receive(ka(0, 0, b""));
    }
    e.assert_silent("RS-18");
    e.receive(rn(1, 1));
    assert_eq!(e.events(), "Credited(1)");
    e.send(1, "b").unwrap();
    assert_eq!(e.sent(), "P(1,N,'b')");
}

#[test]
fn pay_the_items_of_a_responder() {
    let mut e = requesting(9);
    e.receive_all([
        p(1, N, ""),         // PAY-02
        p(1, 0, "flagless"), // PAY-05
        raw(1, 0x0A, N | M, &[&metadata(""), b"d"]),
        p(1, N | C, "last"), // PAY-03
    ]);
    assert_eq!(e.events(), "Item(1,'') Item(1,'flagless') Item(1,M'','d') Item(1,'last',last)");
    e.assert_idle();
    let mut e = requesting(1);
    e.receive_all([p(1, N, "a"), p(1, C, "junk")]); // PAY-04: C needs no credit
    assert_eq!(e.events(), "Item(1,'a') Completed(1)");
    e.assert_idle();
    let mut e = requesting(1);
    e.receive(err(1, 0x202, b"no"));
    assert_eq!(e.events(), "Failed(1,0x202,'no')");
    e.assert_idle();
}

#[test]
fn rn_01_10_what_is_asked_for_is_between_1_and_the_largest_and_stops_at_the_end() {
    let mut e = requesting(1);
    e.stream(1).request_n(0);
    assert_eq!(e.sent(), "");
    e.stream(1).request_n(1);
    e.stream(1).request_n(2);
    assert_eq!(e.sent(), "RN(1,3)", "a number, not a queue of frames");
    for _ in 0..3 {
        e.stream(1).request_n(MAX);
    }
    assert_eq!(e.sent(), format!("RN(1,{MAX}) ").repeat(3).trim_end());
    e.stream(1).request_n(u32::MAX);
    assert_eq!(e.sent(), format!("RN(1,{MAX}) RN(1,{MAX}) RN(1,1)"));
    // Asked for and not written when the end comes.
    e.stream(1).request_n(1);
    e.receive(p(1, C, ""));
    assert_eq!(e.events(), "Completed(1)");
    e.assert_silent("RN-10");
    e.assert_idle();
    // Asked for and not written when we cancel.
    let mut e = requesting(1);
    e.stream(1).request_n(1);
    e.stream(1).cancel();
    e.stream(1).request_n(1);
    assert_eq!(e.sent(), "CAN(1)"); // CAN-03
    e.assert_idle();
}

#[test]
fn rs_01_a_request_asks_for_at_least_one() {
    let mut e = Wire::client();
    for n in [0, MAX + 1, u32::MAX] {
        let refused = e.connection.request(RS, "d".into(), n);
        assert_eq!(refused, Err(RequestError::InvalidRequestN));
    }
    e.assert_silent("RS-01");
    assert_eq!(e.request(RR, "d", 0), 1, "no id was spent");
}

#[test]
fn frame_17_surplus_bytes_after_fixed_bodies_are_ignored() {
    let mut e = responding(1);
    e.send(1, "a").unwrap();
    e.sent();
    let surplus = vec![0xFF; 1 << 20]; // H029
    e.receive(raw(1, 0x08, 0, &[&2u32.to_be_bytes(), &surplus]));
    assert_eq!(e.events(), "Credited(1)");
    assert_eq!(e.stream(1).credit(), 2);
    e.receive(raw(1, 0x09, 0, &[b"body"])); // H030
    assert_eq!(e.events(), "Cancelled(1)");
}

#[test]
fn frame_07_12_15_undefined_flags_mean_nothing() {
    let mut e = Wire::server();
    e.receive(with(0x07F, rr(1, "d")));
    e.receive(with(I | 0x07F, rs(3, 1, "d")));
    assert_eq!(e.events(), "Request(1,RR,'d') Request(3,RS,'d')");
    e.receive(with(0x1FF, rn(3, 1)));
    assert_eq!(e.stream(3).credit(), 2);
    e.receive(with(0x1FF, can(3)));
    assert_eq!(e.events(), "Cancelled(3)");
    e.receive(ka(R | M, 0, b"\0\0\x02abc"));
    assert_eq!(e.sent(), "KA(0,'\0\0\x02abc')");
}
