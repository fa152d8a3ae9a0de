//! REQUEST_CHANNEL: two halves, which end in every order (RC).

use super::{
    peer::{RC, Wire},
    wire::*,
};
use crate::SendError;

const OVERFLOW: &str = "an item was sent that was not asked for with request-n";

/// A server with a channel of the peer: 9 items asked for, nothing granted.
fn responding() -> Wire {
    let mut e = Wire::server();
    e.receive(rc(1, 9, "d"));
    assert_eq!(e.events(), "Request(1,RC,'d')");
    e
}

/// The same, with `n` items granted.
fn granting(n: u32) -> Wire {
    let mut e = responding();
    e.stream(1).request_n(n);
    assert_eq!(e.sent(), format!("RN(1,{n})"));
    e
}

/// A client with a channel: 9 items asked for, `n` granted by the peer.
fn requesting(n: u32) -> Wire {
    let mut e = Wire::client();
    e.request(RC, "d", 9);
    assert_eq!(e.sent(), "RC(1,n=9,'d')");
    if n > 0 {
        e.receive(rn(1, n));
        assert_eq!(e.events(), "Credited(1)");
    }
    e
}

#[test]
fn rc_01_02_03_items_follow_the_request_under_the_responders_credit() {
    let mut e = requesting(0);
    assert_eq!(e.send(1, "x"), Err(SendError::NoCredit));
    assert_eq!(e.sent(), "");
    e.receive(rn(1, 2));
    assert_eq!(e.events(), "Credited(1)");
    assert_eq!(e.send_up_to(1, 100), 2);
    assert_eq!(e.sent(), "P(1,N,'i') P(1,N,'i')");
}

#[test]
fn rc_04_05_20_each_side_is_asked_by_the_other() {
    let mut e = responding();
    e.stream(1).request_n(3);
    assert_eq!(e.sent(), "RN(1,3)");
    for _ in 0..5 {
        e.receive(rn(1, 1));
    }
    assert_eq!(e.stream(1).credit(), 14);
    e.receive_all([p(1, N, "a"), p(1, N, "b")]);
    assert_eq!(e.events(), "Item(1,'a') Item(1,'b')");
    e.stream(1).request_n(2);
    assert_eq!(e.send_up_to(1, 100), 14);
    assert!(e.sent().contains("RN(1,2)"));
}

#[test]
fn rc_06_the_requester_completes_in_three_ways() {
    let mut e = Wire::server();
    e.receive(with(C, rc(1, 9, "x")));
    assert_eq!(e.events(), "Request(1,RC,C,'x')"); // RC-07
    e.stream(1).request_n(5);
    assert_eq!(e.sent(), "", "RC-04: more input is not possible");
    e.stream(1).complete().unwrap();
    assert_eq!(e.sent(), "P(1,C)");
    e.assert_idle();
    for (last, event) in [(p(1, N | C, "a"), "Item(1,'a',last)"), (p(1, C, ""), "Completed(1)")] {
        let mut e = granting(1);
        e.receive(&last);
        assert_eq!(e.events(), event);
        e.receive_all([p(1, N, "x"), p(1, C, ""), p(1, N | C, "y")]); // RC-09, H072
        e.assert_silent("RC-09");
        e.send_last(1, "r").unwrap();
        assert_eq!(e.sent(), "P(1,N+C,'r')");
        e.assert_idle(); // RC-12
        e.receive(rr(1, "free"));
        assert_eq!(e.events(), "Request(1,RR,'free')");
    }
}

#[test]
fn rc_08_the_requesters_own_completion() {
    let mut e = requesting(2);
    e.send(1, "a").unwrap();
    e.send_last(1, "b").unwrap();
    assert_eq!(e.send(1, "c"), Err(SendError::StreamClosed));
    assert_eq!(e.stream(1).complete(), Err(SendError::StreamClosed));
    assert_eq!(e.sent(), "P(1,N,'a') P(1,N+C,'b')");
    e.receive(rn(1, 1)); // RN-07
    assert_eq!(e.events(), "");
    e.receive_all([p(1, N, "x"), p(1, C, "")]);
    assert_eq!(e.events(), "Item(1,'x') Completed(1)");
    e.assert_idle();
    // Complete before the request is written, and without credit.
    let mut e = Wire::client();
    e.request(RC, "d", 2);
    e.stream(1).complete().unwrap();
    assert_eq!(e.sent(), "RC(1,n=2,'d') P(1,C)");
}

#[test]
fn rc_10_half_closed_up_the_responder_goes_on() {
    let mut e = Wire::server();
    e.receive(with(C, rc(1, 1, "d")));
    e.events();
    assert_eq!(e.send_up_to(1, 9), 1);
    e.receive(rn(1, 2));
    assert_eq!(e.events(), "Credited(1)");
    assert_eq!(e.send_up_to(1, 9), 2);
    e.stream(1).complete().unwrap();
    assert_eq!(e.sent(), "P(1,N,'i') P(1,N,'i') P(1,N,'i') P(1,C)");
    e.assert_idle();
}

#[test]
fn rc_11_half_closed_down_the_requester_goes_on() {
    let mut e = responding();
    e.stream(1).complete().unwrap();
    assert_eq!(e.sent(), "P(1,C)");
    e.receive(rn(1, 1)); // RN-07
    e.assert_silent("RN-07");
    e.stream(1).request_n(2);
    assert_eq!(e.sent(), "RN(1,2)");
    e.receive_all([p(1, N, "a"), p(1, N | C, "b")]);
    assert_eq!(e.events(), "Item(1,'a') Item(1,'b',last)");
    e.assert_idle(); // RC-12

    let mut e = requesting(2);
    e.receive(p(1, C, ""));
    assert_eq!(e.events(), "Completed(1)");
    e.stream(1).request_n(1);
    assert_eq!(e.sent(), "", "RN-10");
    e.send(1, "a").unwrap();
    e.receive(rn(1, 1));
    assert_eq!(e.sent(), "P(1,N,'a')");
    e.send(1, "b").unwrap();
    e.send_last(1, "c").unwrap();
    assert_eq!(e.sent(), "P(1,N,'b') P(1,N+C,'c')");
    e.assert_idle();
}

#[test]
fn rc_13_14_an_error_of_the_requester_ends_both_halves() {
    for code in [0x201, 0x203, 0x301] {
        let mut e = granting(1);
        e.send(1, "unwritten").unwrap();
        e.receive(err(1, code, b"no"));
        assert_eq!(e.events(), format!("Failed(1,{code:#x},'no')"));
        e.assert_silent("RC-13");
        e.assert_idle();
    }
    // RC-14: the responder has completed.
    let mut e = granting(1);
    e.stream(1).complete().unwrap();
    assert_eq!(e.sent(), "P(1,C)");
    e.receive(err(1, 0x201, b"no"));
    assert_eq!(e.events(), "Failed(1,0x201,'no')");
    e.assert_idle();
    // H072: the requester has completed.
    let mut e = granting(1);
    e.receive_all([p(1, C, ""), err(1, 0x201, b"no")]);
    assert_eq!(e.events(), "Completed(1) Failed(1,0x201,'no')");
    e.assert_idle();
}

#[test]
fn rc_13_our_error_as_requester_ends_both_halves() {
    let mut e = requesting(2);
    e.send(1, "a").unwrap();
    e.stream(1).request_n(4);
    e.fail(1, 0x201).unwrap();
    assert_eq!(e.sent(), "P(1,N,'a') ERR(1,0x201)"); // ERR-13
    e.assert_idle();
    e.receive_all([p(1, N, "x"), err(1, 0x201, b""), rn(1, 1), can(1)]);
    e.assert_silent("RC-13");
}

#[test]
fn rc_13_our_error_is_written_though_the_responders_cancel_crosses_it() {
    let mut e = requesting(2);
    e.send(1, "a").unwrap();
    e.fail(1, 0x201).unwrap();
    e.receive_all([can(1), p(1, N, "x")]);
    assert_eq!(e.events(), "");
    assert_eq!(e.sent(), "ERR(1,0x201)");
    e.assert_idle();
}

#[test]
fn rr_10_failed_before_it_is_written_it_is_never_sent() {
    let mut e = Wire::client();
    e.request(RC, "d", 2);
    e.fail(1, 0x201).unwrap();
    assert!(!e.is_open(1));
    e.assert_silent("RR-10");
    e.assert_idle();
}

#[test]
fn rc_15_an_error_of_the_responder_ends_both_halves() {
    let mut e = requesting(2);
    e.send(1, "unwritten").unwrap();
    e.receive(err(1, 0x201, b"no"));
    assert_eq!(e.events(), "Failed(1,0x201,'no')");
    e.assert_silent("RC-15");
    e.assert_idle();
    // The requester has completed.
    let mut e = requesting(0);
    e.stream(1).complete().unwrap();
    assert_eq!(e.sent(), "P(1,C)");
    e.receive(err(1, 0x201, b"no"));
    assert_eq!(e.events(), "Failed(1,0x201,'no')");
    e.assert_idle();
}

#[test]
fn rc_16_cancel_of_the_requester_ends_the_whole_stream() {
    for before in [None, Some(p(1, C, ""))] {
        let mut e = granting(4);
        e.receive_all(&before);
        e.events();
        e.send(1, "unwritten").unwrap();
        e.stream(1).request_n(1);
        e.receive(can(1));
        assert_eq!(e.events(), "Cancelled(1)");
        e.receive_all([p(1, N, "x"), can(1), rn(1, 1)]);
        e.assert_silent("RC-16");
        e.assert_idle();
    }
    for complete in [false, true] {
        let mut e = requesting(2);
        e.send(1, "a").unwrap();
        if complete {
            e.stream(1).complete().unwrap();
            assert_eq!(e.sent(), "P(1,N+C,'a')");
        }
        e.stream(1).cancel();
        assert_eq!(e.sent(), "CAN(1)"); // CAN-03
        e.assert_idle();
    }
    // After the responder's completion, too.
    let mut e = requesting(1);
    e.receive(p(1, C, ""));
    assert_eq!(e.events(), "Completed(1)");
    e.stream(1).cancel();
    assert_eq!(e.sent(), "CAN(1)");
    e.assert_idle();
}

#[test]
fn rc_17_cancel_of_the_responder_ends_the_upper_half_alone() {
    let mut e = requesting(2);
    e.send(1, "unwritten").unwrap();
    e.receive_all([can(1), can(1)]); // H075
    assert_eq!(e.events(), "Cancelled(1)");
    assert_eq!(e.send(1, "x"), Err(SendError::StreamClosed));
    assert_eq!(e.sent(), "");
    e.receive(rn(1, 5));
    assert_eq!(e.events(), "");
    e.stream(1).request_n(1);
    assert_eq!(e.sent(), "RN(1,1)");
    e.receive_all([p(1, N, "a"), p(1, C, "")]);
    assert_eq!(e.events(), "Item(1,'a') Completed(1)");
    e.assert_silent("RC-17");
    e.assert_idle();
    // The lower half has ended before: the stream is over.
    let mut e = requesting(2);
    e.receive_all([p(1, C, ""), can(1)]);
    assert_eq!(e.events(), "Completed(1) Cancelled(1)");
    e.assert_idle();
    // Our completion is not written yet.
    let mut e = requesting(2);
    e.stream(1).complete().unwrap();
    e.receive(can(1));
    assert_eq!(e.events(), "Cancelled(1)");
    assert_eq!(e.sent(), "");
    e.receive(p(1, C, ""));
    assert_eq!(e.events(), "Completed(1)");
    e.assert_idle();
}

#[test]
fn rc_18_a_responder_cancels_its_input_once() {
    let mut e = granting(4);
    e.stream(1).request_n(1);
    e.stream(1).cancel();
    e.stream(1).cancel();
    e.stream(1).request_n(1);
    assert_eq!(e.sent(), "CAN(1)");
    e.receive_all([p(1, N, "x"), p(1, N, "y"), p(1, C, "")]);
    e.assert_silent("what crosses it is dropped");
    assert_eq!(e.connection.stats().credit_violations, 0);
    e.stream(1).cancel();
    assert_eq!(e.sent(), "");
    // The output is unaffected.
    e.receive(rn(1, 1));
    e.send(1, "a").unwrap();
    e.send_last(1, "b").unwrap();
    assert_eq!(e.sent(), "P(1,N,'a') P(1,N+C,'b')");
    e.assert_idle();
    // The input has completed: there is nothing to cancel.
    let mut e = granting(4);
    e.receive(p(1, C, ""));
    e.stream(1).cancel();
    assert_eq!(e.sent(), "");
    // The output has ended first.
    let mut e = granting(4);
    e.stream(1).complete().unwrap();
    e.stream(1).cancel();
    assert_eq!(e.sent(), "CAN(1) P(1,C)");
    e.assert_idle();
}

#[test]
fn rc_21_input_beyond_the_credit_ends_the_stream() {
    let mut e = granting(1);
    e.send(1, "unwritten").unwrap();
    for _ in 0..1_000 {
        e.receive(p(1, N, "x"));
    }
    assert_eq!(e.events(), format!("Item(1,'x') Failed(1,0x203,'{OVERFLOW}')"));
    assert_eq!(e.sent(), "ERR(1,0x203)"); // ERR-09
    assert_eq!(e.connection.stats().credit_violations, 1);
    e.assert_idle();
    e.fence("RC-21");
    // A requester says it with CANCEL.
    let mut e = Wire::client();
    e.request(RC, "d", 1);
    e.sent();
    e.receive_all([p(1, N, "a"), p(1, N, "b"), rn(1, 1)]);
    assert_eq!(e.events(), format!("Item(1,'a') Failed(1,0x203,'{OVERFLOW}')"));
    assert_eq!(e.sent(), "CAN(1)");
    e.assert_idle();
}

#[test]
fn rc_23_a_channel_may_be_refused_at_once() {
    let mut e = responding();
    e.fail(1, 0x202).unwrap();
    assert_eq!(e.sent(), "ERR(1,0x202)");
    e.receive_all([p(1, N, "x"), p(1, C, ""), can(1)]);
    e.assert_silent("RC-23");
    e.assert_idle();
}

/// One way to end one half, or both.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Complete,
    PeerCompletes,
    Cancel,
    PeerCancels,
    Fail,
    PeerFails,
}

#[test]
fn rc_12_the_halves_end_in_every_order_and_leave_nothing() {
    use End::*;
    let ends = [Complete, PeerCompletes, Cancel, PeerCancels, Fail, PeerFails];
    for requester in [false, true] {
        for first in ends {
            for second in ends {
                // Written in between, or not.
                for flush in [false, true] {
                    let mut e = if requester { requesting(4) } else { granting(4) };
                    let context = (requester, first, second, flush);
                    for end in [first, second] {
                        if !e.is_open(1) {
                            break;
                        }
                        match end {
                            Complete => drop(e.stream(1).complete()),
                            Fail => drop(e.fail(1, 0x201)),
                            Cancel => e.stream(1).cancel(),
                            PeerCompletes => e.receive(p(1, C, "")),
                            PeerCancels => e.receive(can(1)),
                            PeerFails => e.receive(err(1, 0x201, b"")),
                        }
                        e.events();
                        if flush {
                            e.sent();
                        }
                    }
                    e.sent();
                    e.events();
                    let (whole, ours, theirs) = if requester {
                        (
                            &[Cancel, Fail, PeerFails][..],
                            [Complete, PeerCancels],
                            [PeerCompletes; 2],
                        )
                    } else {
                        (
                            &[PeerCancels, Fail, PeerFails][..],
                            [Complete; 2],
                            [PeerCompletes, Cancel],
                        )
                    };
                    let seen = [first, second];
                    // Our ERROR needs our half; without it the peer's ends the stream, or nothing.
                    let fail_refused = second == Fail && ours.contains(&first);
                    let over = seen.iter().any(|end| whole.contains(end)) && !fail_refused
                        || ours.iter().any(|end| seen.contains(end))
                            && theirs.iter().any(|end| seen.contains(end));
                    assert_eq!(!e.is_open(1), over, "{context:?}");
                    assert_eq!(e.connection.open_streams(), usize::from(!over));
                    e.fence(context);
                }
            }
        }
    }
}

#[test]
fn nothing_follows_the_failure_of_a_stream_whatever_crosses_its_error() {
    let unwritten = "ERR(1,0x203)";
    for (crossing, sent) in [
        (err(1, 0x201, b"late"), ""),
        (can(1), ""),
        (rn(1, 1), unwritten),
        (p(1, N | C, "late"), unwritten),
    ] {
        let mut e = responding();
        e.receive(p(1, N, "x"));
        assert_eq!(e.events(), format!("Failed(1,0x203,'{OVERFLOW}')"));
        e.receive(crossing);
        assert_eq!(e.events(), "");
        assert_eq!(e.sent(), sent);
        e.fence("the connection goes on");
    }
}

#[test]
fn err_05_a_responder_that_has_completed_gives_the_input_up_with_cancel() {
    for (crossing, sent) in
        [(err(1, 0x201, b"late"), "CAN(1)"), (p(1, C, ""), "CAN(1)"), (can(1), "")]
    {
        let mut e = granting(1);
        e.stream(1).complete().unwrap();
        assert_eq!(e.sent(), "P(1,C)");
        e.receive_all([p(1, N, "a"), p(1, N, "b")]);
        assert_eq!(e.events(), format!("Item(1,'a') Failed(1,0x203,'{OVERFLOW}')"));
        e.receive(crossing);
        assert_eq!(e.events(), "", "it is over for the application");
        assert_eq!(e.sent(), sent);
        e.assert_idle();
        e.fence("the connection goes on");
    }
}

#[test]
fn rc_17_a_failing_requester_does_not_send_items_that_are_not_wanted() {
    let mut e = requesting(4);
    for _ in 0..3 {
        e.send(1, "x").unwrap();
    }
    e.fail(1, 0x201).unwrap();
    e.receive(can(1));
    assert_eq!(e.events(), "");
    assert_eq!(e.sent(), "ERR(1,0x201)");
    e.assert_idle();
}
