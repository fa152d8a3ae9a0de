//! Credit, however bytes arrive and whoever waits (RS, RN).

use super::{
    peer::{RC, RS, Wire},
    wire::*,
};

#[test]
fn rn_03_04_no_number_beyond_the_largest_and_none_below_1() {
    for open in [rs, rc] {
        let mut e = Wire::server();
        e.receive(open(1, 1, "d"));
        e.events();
        e.receive_all([rn(1, 0), rn(1, MAX + 1), rn(1, u32::MAX)]); // H062, H063
        e.assert_silent("RN-03, RN-04");
        assert_eq!(e.stream(1).credit(), 1);
        e.fence("RN-04");
    }
}

#[test]
fn h065_h066_floods_of_request_n_are_a_sum() {
    let mut e = Wire::server();
    e.receive_all([rs(1, 0, "d"), rs(3, 0, "d")]);
    e.events();
    for _ in 0..100 {
        e.receive_all(std::iter::repeat_n(rn(1, MAX), 100));
        e.receive_all(std::iter::repeat_n(rn(3, 1), 100));
    }
    assert_eq!(e.events(), "Credited(1) Credited(3)");
    assert_eq!(e.stream(1).credit(), 10_000 * u64::from(MAX));
    assert_eq!(e.stream(3).credit(), 10_000);
    e.fence("H066");
}

#[test]
fn rs_02_credit_holds_for_any_split_of_the_input() {
    let mut frames = vec![rs(1, 2, "s"), rc(3, 1, "c")];
    for n in [3, 1, 0, 4] {
        frames.extend([rn(1, n), rn(3, n + 1), rn(1, MAX + 1)]);
    }
    let granted = [(1, 2 + 3 + 1 + 4), (3, 1 + 4 + 2 + 1 + 5)];
    let bytes: Vec<u8> = frames.iter().flat_map(|frame| prefixed(frame)).collect();
    for step in 1..60 {
        let mut e = Wire::server();
        let mut frames = Vec::new();
        for part in bytes.chunks(step) {
            e.receive_bytes(part);
            e.events();
            // An eager producer: whatever it may, at every moment.
            for id in [1, 3] {
                while e.is_open(id) && e.send(id, "i").is_ok() {}
            }
            frames.extend(e.sent_frames());
        }
        for (id, credit) in granted {
            let items = frames.iter().filter(|f| f.stream == id && f.has(N));
            assert_eq!(items.count(), credit, "stream {id} in pieces of {step}");
        }
    }
}

#[test]
fn a_turns_worth_of_items_is_taken_and_no_more() {
    let mut e = Wire::server();
    e.receive(rs(1, MAX, "d"));
    e.events();
    let mut taken = 0;
    while e.send(1, "i").is_ok() {
        taken += 1;
    }
    assert_eq!(taken, 32);
    assert_eq!(e.stream(1).capacity(), 0);
    assert_eq!(e.stream(1).credit(), u64::from(MAX) - 32);
    assert_eq!(e.sent_frames().len(), 32);
    assert_eq!(e.stream(1).capacity(), 32);
    // What was refused was not counted.
    assert_eq!(e.stream(1).credit(), u64::from(MAX) - 32);
}

#[test]
fn credited_is_told_once_per_stall() {
    let mut e = Wire::server();
    e.receive(rs(1, 1, "d"));
    e.events();
    for _ in 0..3 {
        e.send(1, "a").unwrap();
        e.receive(rn(1, 1)); // while the item is unwritten
        assert_eq!(e.events(), "Credited(1)");
        e.receive(rn(1, 1));
        assert_eq!(e.events(), "");
        e.send(1, "b").unwrap();
        assert_eq!(e.sent(), "P(1,N,'a') P(1,N,'b')");
        assert_eq!(e.stream(1).credit(), 1);
    }
}

#[test]
fn what_we_ask_for_is_what_we_take() {
    for interaction in [RS, RC] {
        let mut e = Wire::client();
        e.request(interaction, "d", 2);
        e.sent();
        e.receive_all([p(1, N, "a"), p(1, N, "b")]);
        // Asked for and not written: the peer cannot know, and is not wrong.
        e.stream(1).request_n(1);
        e.receive(p(1, N, "c"));
        assert_eq!(e.events(), "Item(1,'a') Item(1,'b') Item(1,'c')");
        assert_eq!(e.sent(), "RN(1,1)");
        e.receive(p(1, N, "d"));
        assert!(e.events().starts_with("Failed(1,0x203"));
    }
}

#[test]
fn rs_13_the_largest_grant_is_counted_as_a_number_by_the_receiver_too() {
    let mut e = Wire::client();
    e.request(RS, "d", MAX);
    e.stream(1).request_n(MAX);
    assert_eq!(e.sent(), format!("RS(1,n={MAX},'d') RN(1,{MAX})"));
    for _ in 0..300 {
        e.receive(p(1, N, "i"));
    }
    e.events();
    assert_eq!(e.connection.stats().items_in, 300);
    assert_eq!(e.connection.stats().credit_violations, 0);
}

#[test]
fn rn_02_what_was_asked_for_in_all_is_known_and_may_be_watched() {
    for open in [rs, rc] {
        let mut e = Wire::server();
        e.receive(open(1, 2, "d"));
        e.events();
        e.send_up_to(1, 100);
        e.receive(rn(1, 3));
        assert_eq!(e.events(), "Credited(1)");
        assert_eq!((e.stream(1).granted(), e.stream(1).credit()), (5, 3));
        // Nobody waits for these.
        e.receive(rn(1, 1));
        assert_eq!(e.events(), "");
        e.stream(1).watch_credit();
        e.receive_all([rn(1, 1), rn(1, 0), rn(1, MAX), rn(1, MAX)]);
        assert_eq!(e.events(), "Credited(1)", "once, however many come");
        assert_eq!(e.stream(1).granted(), 7 + 2 * u64::from(MAX));
        e.stream(1).watch_credit();
        e.receive(rn(1, 1));
        assert_eq!(e.events(), "Credited(1)");
    }
    // A channel's requester is asked, too.
    let mut e = Wire::client();
    e.request(RC, "d", 1);
    e.sent();
    e.stream(1).watch_credit();
    e.receive_all([rn(1, 2), rn(1, 4)]);
    assert_eq!(e.events(), "Credited(1)");
    assert_eq!(e.stream(1).granted(), 6);
}
