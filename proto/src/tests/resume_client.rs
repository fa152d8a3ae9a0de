//! Resume as a client (RESUME).

use super::{
    peer::{self, FNF, RR, RS, Wire},
    resume::limits,
    wire::{self, N, raw},
};
use crate::{ControlError, RequestError, frame::Setup};

fn setup() -> Setup {
    Setup { resume_token: Some(vec![0xAA, 0xBB].into()), ..peer::setup() }
}

fn client() -> Wire {
    client_of(setup())
}

fn client_of(setup: Setup) -> Wire {
    let mut e = Wire::fresh_client_of(setup, limits(1 << 20));
    assert_eq!(e.sent(), "SETUP");
    e.receive(wire::ka(0, 0, b""));
    assert_eq!(e.events(), "Established");
    e
}

fn resume_ok(position: u64) -> wire::Bytes {
    raw(0, 0x0E, 0, &[&position.to_be_bytes()])
}

fn cut(e: &mut Wire) {
    e.disconnect(None);
    assert_eq!(e.events(), "Suspended");
    assert_eq!(e.sent(), "");
}

/// A new transport, and RESUME on it.
fn dial(e: &mut Wire) {
    let now = e.now;
    e.connection.resume(now).expect("a suspended session");
    assert_eq!(e.sent(), "0x0d(0)");
}

/// ERR-03: as the texts of other errors.
#[test]
fn a_long_refusal_to_resume_is_cut() {
    let mut e = client();
    cut(&mut e);
    dial(&mut e);
    e.receive(wire::err(0, 0x4, &vec![b'E'; 1 << 20]));
    assert_eq!(e.events(), format!("Closed(peer,0x4,'{}…')", "E".repeat(1 << 10)));
}

#[test]
fn resume_02_09_10_resume_says_what_setup_and_the_session_do() {
    let mut e = client();
    e.request(RS, "x", 10);
    e.sent();
    e.receive(wire::p(1, N, "abc"));
    e.events();
    cut(&mut e);
    let now = e.now;
    e.connection.resume(now).unwrap();
    e.request(RR, "later", 0);
    e.transmit();
    let bytes = e.unsent_bytes();
    // RESUME 1.0, token AABB, server 9, client 0 (the golden vector with another position).
    let mut expected = vec![0, 0, 0, 0, 0x34, 0, 0, 1, 0, 0, 0, 2, 0xAA, 0xBB];
    expected.extend(9u64.to_be_bytes());
    expected.extend(0u64.to_be_bytes());
    assert_eq!(bytes, wire::prefixed(&expected), "and nothing behind it");
    assert_eq!(e.connection.resume(now), Err(ControlError::NotSuspended));
}

#[test]
fn resume_13_14_the_client_sends_again_what_the_server_lacks() {
    let mut e = client();
    e.request(RR, "one", 0);
    e.request(RR, "two", 0);
    let first = e.sent_frames()[0].len as u64;
    cut(&mut e);
    assert_eq!(e.request(RR, "three", 0), 5, "SID-15");
    dial(&mut e);
    e.receive(resume_ok(first));
    assert_eq!(e.events(), "Resumed");
    assert_eq!(e.sent(), "RR(3,'two') RR(5,'three')");
    e.receive(wire::p(1, N, "answer"));
    assert_eq!(e.events(), "Item(1,'answer',last)");
}

#[test]
fn resume_38_a_cancel_while_apart_is_said_afterwards() {
    let mut e = client();
    e.request(RS, "x", 10);
    let sent: usize = e.sent_frames().iter().map(|frame| frame.len).sum();
    cut(&mut e);
    e.stream(1).cancel();
    dial(&mut e);
    e.receive(resume_ok(sent as u64));
    assert_eq!(e.events(), "Resumed");
    assert_eq!(e.sent(), "CAN(1)");
    assert!(!e.is_open(1));
}

#[test]
fn resume_21_a_refusal_is_final() {
    for code in [0x004, 0x003, 0x102, 0x001] {
        let mut e = client();
        e.request(RR, "x", 0);
        e.sent();
        cut(&mut e);
        dial(&mut e);
        e.receive(wire::err(0, code, b"no"));
        assert_eq!(e.events(), format!("Closed(peer,{code:#x},'no')"));
        e.assert_dead();
    }
}

#[test]
fn resume_22_h123_another_attempt_after_an_error_a_loss_or_silence() {
    let mut e = client();
    e.request(RR, "x", 0);
    e.sent();
    cut(&mut e);
    dial(&mut e);
    e.receive(wire::err(0, 0x101, b"not now"));
    assert_eq!(e.events(), "Suspended");
    dial(&mut e);
    cut(&mut e);
    dial(&mut e);
    assert_eq!(e.deadline(), Some(10_000));
    e.advance(10_000);
    assert_eq!(e.events(), "Suspended", "H123");
    dial(&mut e);
    e.receive(resume_ok(0));
    assert_eq!(e.events(), "Resumed");
    assert_eq!(e.sent(), "RR(1,'x')");
}

#[test]
fn the_window_does_not_begin_anew_with_an_attempt() {
    let mut e = client();
    e.request(RR, "x", 0);
    e.sent();
    cut(&mut e);
    for _ in 0..5 {
        dial(&mut e);
        e.advance(10_000);
        assert_eq!(e.events(), "Suspended");
    }
    dial(&mut e);
    assert_eq!(e.deadline(), Some(10_000));
    e.advance(10_000);
    assert_eq!(e.events(), "Closed(ResumeWindowOver)");
    e.assert_dead();
}

#[test]
fn resume_23_h121_an_impossible_resume_ok_ends_it() {
    for position in [1, 9_999, u64::MAX, 1 << 63] {
        let mut e = client();
        e.request(RR, "x", 0);
        e.sent();
        cut(&mut e);
        dial(&mut e);
        e.receive(resume_ok(position));
        e.assert_ended_with(0x101, position);
    }
}

#[test]
fn resume_09_h122_frames_of_the_session_before_resume_ok_end_it() {
    for frame in [wire::p(1, N, "x"), wire::rr(2, "x"), wire::can(1), wire::mp("m"), wire::setup()]
    {
        let mut e = client();
        e.request(RR, "x", 0);
        e.sent();
        cut(&mut e);
        dial(&mut e);
        e.receive(&frame);
        e.assert_ended_with(0x101, frame);
    }
}

#[test]
fn ka_16_no_keepalive_between_resume_and_its_answer() {
    let mut e = client();
    cut(&mut e);
    dial(&mut e);
    e.advance(5_000);
    e.receive(wire::ka(wire::R, 0, b"ping"));
    e.assert_silent("KA-16");
    e.receive(resume_ok(0));
    assert_eq!(e.events(), "Resumed");
    assert_eq!(e.deadline(), Some(1_000), "RESUME-43");
    e.advance(1_000);
    assert_eq!(e.sent(), "KA(R,0,'')");
}

#[test]
fn resume_24_a_client_may_end_it_for_good() {
    let mut e = client();
    cut(&mut e);
    dial(&mut e);
    e.receive(resume_ok(0));
    e.events();
    e.connection.close();
    assert_eq!(e.sent(), "ERR(0,0x102)");
    let now = e.now;
    assert_eq!(e.connection.resume(now), Err(ControlError::NotSuspended));

    // While it does not know whether it is resumed, as well.
    let mut e = client();
    cut(&mut e);
    dial(&mut e);
    e.connection.close();
    assert_eq!(e.sent(), "ERR(0,0x102)");
}

#[test]
fn lease_20_resume_27_leases_begin_anew() {
    let mut e = client_of(Setup { lease: true, ..setup() });
    let lease = |n: u32| raw(0, 0x02, 0, &[&60_000u32.to_be_bytes(), &n.to_be_bytes()]);
    e.receive(lease(5));
    assert_eq!(e.events(), "Leased(60000,5)");
    e.request(RR, "x", 0);
    e.sent();
    cut(&mut e);
    assert_eq!(e.connection.request(RR, "y".into(), 0), Err(RequestError::NoLease));
    dial(&mut e);
    e.receive(resume_ok(7));
    assert_eq!(e.connection.request(RR, "y".into(), 0), Err(RequestError::NoLease));
    e.receive(lease(1));
    assert_eq!(e.request(RR, "y", 0), 3);
}

#[test]
fn a_client_that_was_met_with_silence_may_resume_too() {
    let mut e = Wire::fresh_client_of(setup(), limits(1 << 20));
    e.request(RR, "x", 0);
    assert_eq!(e.sent(), "SETUP RR(1,'x')");
    e.advance(3_000);
    assert_eq!(e.events(), "Suspended", "KA-11: who knows what has arrived");
    dial(&mut e);
    cut(&mut e);
    dial(&mut e);
    e.receive(resume_ok(0));
    assert_eq!(e.events(), "Established Resumed");
    assert_eq!(e.sent(), "RR(1,'x')");

    // One whose SETUP never left has no session.
    let mut e = Wire::fresh_client_of(setup(), limits(1 << 20));
    e.request(RR, "x", 0);
    e.disconnect(None);
    assert_eq!(e.events(), "Closed(Disconnected)");
}

#[test]
fn a_server_that_closes_right_behind_setup_has_no_session_to_resume() {
    for setup in [setup(), peer::setup()] {
        let mut e = Wire::fresh_client_of(setup, limits(1 << 20));
        e.request(RR, "x", 0);
        assert_eq!(e.sent(), "SETUP RR(1,'x')");
        e.disconnect(None);
        assert_eq!(e.events(), "Closed(ClosedAfterSetup)");
        e.assert_dead();
    }
    // Nor has what answers in another language, who is told so.
    let mut e = Wire::fresh_client_of(setup(), limits(1 << 20));
    e.sent();
    e.receive_bytes(b"\0\0\x02xy");
    e.assert_ended_with(0x101, "no frame");
}

#[test]
fn what_is_no_frame_is_not_the_servers_answer_to_resume() {
    let mut e = client();
    cut(&mut e);
    for _ in 0..20 {
        dial(&mut e);
        e.break_with(b"\0\0\x02xy");
    }
    dial(&mut e);
    e.receive(resume_ok(0));
    assert_eq!(e.events(), "Resumed");
}

#[test]
fn ka_11_a_mute_server_costs_the_transport_alone() {
    let mut e = client();
    e.advance(3_000);
    assert_eq!(e.events(), "Suspended");
    assert_eq!(e.sent(), "");
    dial(&mut e);
}

#[test]
fn what_a_client_owes_does_not_keep_the_answer_to_resume_out() {
    let mut config = limits(300);
    (config.max_streams, config.max_queued_replies) = (0, 1);
    let mut e = Wire::fresh_client_of(setup(), config);
    e.sent();
    e.receive(wire::ka(0, 0, b""));
    e.events();
    e.request(RR, "long ".repeat(100), 0);
    e.sent();
    assert!(e.connection.is_held());
    e.receive(wire::rr(2, "one too many"));
    cut(&mut e);
    dial(&mut e);
    e.receive(resume_ok(0));
    assert_eq!(e.events(), "Resumed");
    let sent = e.sent();
    assert!(sent.starts_with("RR(1,"), "{sent}");
    assert!(sent.contains("ERR(2,0x202)"), "{sent}");
    assert!(e.connection.wants_input());
}

/// What was told and may not have arrived is worth the wait for another transport; nothing else is.
#[test]
fn a_drain_without_a_transport_waits_for_what_was_told() {
    for acknowledged in [true, false] {
        let mut e = client();
        e.request(FNF, "told", 0);
        let len = e.sent_frames()[0].len as u64;
        assert_eq!(e.events(), "Completed(1)");
        if acknowledged {
            e.receive(wire::ka(0, len, b""));
        }
        cut(&mut e);
        e.connection.drain();
        if acknowledged {
            assert_eq!(e.events(), "Closed(Local)");
            assert_eq!(e.connection.take_lost_fire_and_forgets(), 0);
            continue;
        }
        assert_eq!(e.events(), "");
        dial(&mut e);
        e.receive(resume_ok(0));
        assert_eq!(e.events(), "Resumed");
        assert_eq!(e.sent(), "FNF(1,'told') ERR(0,0x102)");
        assert_eq!(e.events(), "Closed(Local)");
        assert_eq!(e.connection.take_lost_fire_and_forgets(), 0);
        e.assert_dead();
    }
    // Closed at once it is lost.
    let mut e = client();
    e.request(FNF, "told", 0);
    e.sent();
    e.events();
    cut(&mut e);
    e.connection.close();
    assert_eq!(e.events(), "Closed(Local)");
    assert_eq!(e.connection.take_lost_fire_and_forgets(), 1);
    assert_eq!(e.connection.take_lost_fire_and_forgets(), 0);
}

/// Nor is a server waited for that does not answer RESUME; one that has heard it is told.
#[test]
fn a_drain_does_not_wait_for_the_answer_to_resume() {
    for is_told in [false, true] {
        let mut e = client();
        e.request(FNF, "told", 0);
        let len = e.sent_frames()[0].len as u64;
        assert_eq!(e.events(), "Completed(1)");
        if !is_told {
            e.receive(wire::ka(0, len, b""));
        }
        cut(&mut e);
        dial(&mut e);
        e.connection.drain();
        if is_told {
            assert_eq!(e.sent(), "", "what was told may not have arrived");
            assert_eq!(e.events(), "");
            e.receive(resume_ok(len));
            assert_eq!(e.events(), "Resumed");
        }
        assert_eq!(e.sent(), "ERR(0,0x102)");
        assert_eq!(e.events(), "Closed(Local)");
        assert_eq!(e.connection.take_lost_fire_and_forgets(), 0);
        e.assert_dead();
    }
    // A RESUME that has not left needs no goodbye.
    let mut e = client();
    cut(&mut e);
    let now = e.now;
    e.connection.resume(now).expect("a suspended session");
    e.connection.drain();
    assert_eq!(e.sent(), "");
    assert_eq!(e.events(), "Closed(Local)");
    e.assert_dead();
}
