//! KEEPALIVE (KA), at exact instants.

use super::{
    peer::{RR, RS, Wire},
    wire::*,
};
use crate::Config;

#[test]
fn ka_02_a_client_sends_it_at_its_interval_whatever_else_flows() {
    let mut e = Wire::client();
    assert_eq!(e.deadline(), Some(1_000));
    for _ in 0..5 {
        e.advance(999);
        assert_eq!(e.sent(), "");
        // KA-09: traffic does not postpone it.
        e.request(RR, "d", 0);
        assert!(e.sent().starts_with("RR("));
        e.receive(ka(0, 0, b""));
        assert_eq!(e.deadline(), Some(1));
        e.advance(1);
        assert_eq!(e.sent(), "KA(R,0,'')"); // KA-06
        assert_eq!(e.sent(), "");
    }
}

#[test]
fn ka_02_early_looks_at_the_time_do_no_harm() {
    let mut e = Wire::client();
    for _ in 0..999 {
        e.advance(1);
    }
    e.assert_silent("999 ms");
    e.advance(1);
    e.connection.handle_timeout(e.now);
    assert_eq!(e.sent(), "KA(R,0,'')");
}

#[test]
fn ka_03_a_server_sends_none_by_itself() {
    let mut e = Wire::server();
    for _ in 0..10 {
        e.advance(1_000);
        e.receive(ka(0, 0, b""));
        e.assert_silent("KA-03, KA-05");
    }
}

#[test]
fn ka_04_it_is_answered_with_the_same_data_in_both_roles() {
    for mut e in [Wire::server(), Wire::client()] {
        let all: Vec<u8> = (0..=255).collect();
        for data in [&b""[..], b"d", &all, &vec![7; 64 << 10]] {
            e.receive(ka(R, 12_345, data));
            let [answer] = &e.sent_frames()[..] else {
                panic!("one answer");
            };
            assert_eq!((answer.kind, answer.flags), (0x03, 0));
            assert_eq!(answer.number, 0); // KA-06, KA-07
            assert_eq!(answer.data, data);
        }
        e.receive(ka(R, u64::MAX, b"top")); // KA-14
        assert_eq!(e.sent(), "KA(0,'top')");
        e.receive(raw(1, 0x03, R, &[&[0; 8], b"x"])); // KA-12
        e.assert_silent("KA-12");
    }
}

#[test]
fn ka_04_answers_come_in_order() {
    let mut e = Wire::server();
    e.receive_all([ka(R, 0, b"a"), ka(0, 0, b"-"), ka(R, 0, b"b"), ka(R, 0, b"c")]);
    assert_eq!(e.sent(), "KA(0,'a') KA(0,'b') KA(0,'c')");
}

#[test]
fn ka_10_a_silent_server_is_dead_after_the_lifetime() {
    let mut e = Wire::client();
    for due in [1_000, 2_000] {
        e.advance(1_000);
        assert_eq!(e.sent(), "KA(R,0,'')", "{due}");
    }
    e.advance(999);
    e.assert_silent("alive");
    assert_eq!(e.deadline(), Some(1));
    e.advance(1);
    e.assert_ended_with(0x101, "dead");
}

#[test]
fn ka_10_a_silent_client_is_dead_after_its_lifetime() {
    let mut e = Wire::server();
    assert_eq!(e.deadline(), Some(3_000));
    e.receive(rr(1, "never"));
    e.events();
    e.advance(2_999);
    e.assert_silent("alive");
    e.advance(1);
    e.assert_ended_with(0x101, "dead");
}

#[test]
fn a_lifetime_is_shortened_but_never_lengthened() {
    let mut e = Wire::server();
    e.advance(1_000);
    for (most, left) in [(9_000, 2_000), (2_500, 1_500), (2_600, 1_500)] {
        e.connection.shorten_lifetime(std::time::Duration::from_millis(most));
        assert_eq!(e.deadline(), Some(left), "{most}");
    }
    e.receive(ka(0, 0, b""));
    e.advance(2_499);
    e.assert_silent("alive");
    e.advance(1);
    e.assert_ended_with(0x101, "dead");
    // A client that keeps to its interval is never dead.
    let mut e = Wire::server();
    e.connection.shorten_lifetime(std::time::Duration::ZERO);
    assert_eq!(e.deadline(), Some(1_000));
}

#[test]
fn ka_08_09_any_frame_is_a_sign_of_life() {
    let signs = [
        ka(0, 0, b""),
        p(8, N, "ignored"),
        raw(0, 0x20, I, &[]),
        raw(1, 0x08, I, &[]), // truncated, to be ignored
        lease(0),
    ];
    for sign in signs {
        let mut e = Wire::server();
        e.advance(2_999);
        e.receive(&sign);
        assert_eq!(e.deadline(), Some(3_000));
        e.advance(2_999);
        e.assert_silent(&sign);
        e.advance(1);
        e.assert_ended_with(0x101, &sign);
    }
}

#[test]
fn setup_32_a_lifetime_below_the_interval_counts_as_the_interval() {
    let mut e = Wire::fresh_server(Config::default());
    e.receive(setup_with(60_000, 1_000));
    assert_eq!(e.events(), "Setup");
    e.connection.accept(e.now);
    e.advance(59_999);
    e.assert_silent("SETUP-32");
    e.advance(1);
    e.assert_ended_with(0x101, "KA-10");
}

#[test]
fn ka_10_the_clock_starts_when_the_acceptor_has_answered() {
    let mut e = Wire::fresh_server(Config::default());
    e.receive(setup());
    assert_eq!(e.events(), "Setup");
    e.advance(9_000); // three lifetimes
    e.assert_silent("it is we who are slow");
    e.connection.accept(e.now);
    assert_eq!(e.deadline(), Some(3_000));
    e.fence("KA-10");
}

#[test]
fn ka_16_none_goes_before_setup() {
    let mut e = Wire::fresh_client(Config::default());
    e.advance(1_500);
    assert_eq!(e.sent(), "SETUP KA(R,0,'')");
}

#[test]
fn ka_17_a_host_that_slept_sends_one() {
    let mut e = Wire::client();
    e.receive(ka(0, 0, b""));
    // Five intervals pass; the peer's frame is read before the time is looked at.
    e.now += std::time::Duration::from_millis(5_000);
    e.receive(ka(0, 0, b""));
    e.advance(0);
    assert_eq!(e.sent(), "KA(R,0,'')");
    e.advance(0);
    assert_eq!(e.sent(), "");
    assert_eq!(e.deadline(), Some(1_000));
}

#[test]
fn ka_17_two_that_were_not_written_are_one() {
    let mut e = Wire::client();
    e.advance(1_000);
    e.advance(1_000);
    assert_eq!(e.sent(), "KA(R,0,'')");
}

#[test]
fn frame_22_it_goes_ahead_of_streams() {
    let mut e = Wire::server();
    e.receive(rs(1, 9, "d"));
    e.events();
    e.send(1, "item").unwrap();
    e.receive(ka(R, 0, b"k"));
    assert_eq!(e.sent(), "KA(0,'k') P(1,N,'item')");
    let mut e = Wire::client();
    e.request(RS, "d", 1);
    e.sent();
    e.stream(1).request_n(1);
    e.request(RR, "d", 0);
    e.advance(1_000);
    e.receive(ka(R, 0, b"k"));
    e.connection.push_metadata("m".into()).unwrap();
    assert_eq!(e.sent(), "KA(R,0,'') KA(0,'k') MP('m') RN(1,1) RR(3,'d')");
}

#[test]
fn ka_15_answers_that_nobody_reads_are_bounded_in_number() {
    let config = Config { max_queued_replies: 10, ..Config::default() };
    let mut e = Wire::server_with(config);
    e.receive_all(std::iter::repeat_n(ka(R, 0, b"x"), 100));
    assert_eq!(e.sent_frames().len(), 10);
    assert_eq!(e.connection.stats().dropped_keepalive_replies, 90);
    e.fence("KA-15");
}

#[test]
fn ka_15_and_in_bytes() {
    let mut e = Wire::server();
    let large = ka(R, 0, &vec![1; 40 << 10]);
    for _ in 0..100 {
        e.receive_all([&large, &ka(R, 0, b"small")]);
    }
    let frames = e.sent_frames();
    let bytes: usize = frames.iter().map(|frame| frame.data.len()).sum();
    assert!(bytes <= 64 << 10, "{bytes}");
    let dropped = e.connection.stats().dropped_keepalive_replies as usize;
    assert_eq!(frames.len() + dropped, 200);
    // One may always wait, however large, and its bytes are given back.
    for _ in 0..3 {
        e.receive(ka(R, 0, &vec![1; 200 << 10]));
        assert_eq!(e.sent_frames().len(), 1);
    }
    e.fence("KA-15");
}

#[test]
fn conn_08_the_end_of_time() {
    for mut e in [Wire::client(), Wire::server()] {
        e.disconnect(None);
        assert_eq!(e.connection.poll_timeout(), None);
        assert_eq!(e.events(), "Closed(Disconnected)");
        e.advance(1_000_000);
        e.assert_dead();
    }
}

#[test]
fn the_round_trip_of_a_keepalive_is_known() {
    let mut e = Wire::client();
    assert_eq!(e.connection.round_trip(), None);
    e.advance(1_000);
    assert_eq!(e.sent(), "KA(R,0,'')");
    e.advance(30);
    e.receive(ka(0, 0, b""));
    assert_eq!(e.connection.round_trip(), Some(std::time::Duration::from_millis(30)));
    // One that nobody asked for says nothing.
    e.advance(500);
    e.receive(ka(0, 0, b""));
    assert_eq!(e.connection.round_trip(), Some(std::time::Duration::from_millis(30)));
}
