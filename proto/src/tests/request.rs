//! REQUEST_RESPONSE and REQUEST_FNF (RR, FNF), and ids (SID).

use super::{
    peer::{FNF, RC, RR, RS, Wire},
    wire::*,
};
use crate::{Config, Payload, RequestError, SendError};

// ---- as responder -------------------------------------------------------------------------------

#[test]
fn rr_01_02_a_reply_is_one_frame() {
    let mut e = Wire::server();
    e.receive_all([rr(1, "echo"), rr(3, ""), rr(5, "empty"), rr(7, "item")]);
    assert_eq!(
        e.events(),
        "Request(1,RR,'echo') Request(3,RR,'') Request(5,RR,'empty') Request(7,RR,'item')"
    );
    e.send_last(1, "echo").unwrap();
    e.send_last(3, "").unwrap();
    e.stream(5).complete().unwrap();
    e.send(7, "item").unwrap(); // the first answer is the last, said or not
    assert_eq!(e.sent(), "P(1,N+C,'echo') P(3,N+C,'') P(5,C) P(7,N+C,'item')");
    e.assert_idle();
}

#[test]
fn rr_01_nothing_can_follow_the_reply() {
    let mut e = Wire::server();
    e.receive(rr(1, "d"));
    e.events();
    e.send_last(1, "a").unwrap();
    assert_eq!(e.stream(1).capacity(), 0);
    assert_eq!(e.send(1, "b"), Err(SendError::StreamClosed));
    assert_eq!(e.stream(1).complete(), Err(SendError::StreamClosed));
    assert_eq!(e.fail(1, 0x201), Err(SendError::StreamClosed));
    assert_eq!(e.sent(), "P(1,N+C,'a')");
    e.assert_idle();
}

#[test]
fn rr_05_failure_is_an_error_frame() {
    let mut e = Wire::server();
    e.receive(rr(1, "err"));
    e.events();
    e.fail(1, 0x201).unwrap();
    let [frame] = &e.sent_frames()[..] else {
        panic!("one frame");
    };
    assert_eq!(frame.describe(), "ERR(1,0x201)");
    assert_eq!(frame.data, b"failed"); // ERR-02
    e.assert_idle();
    e.fence("RR-05");
}

#[test]
fn rr_08_09_cancel_ends_it_and_nothing_is_answered() {
    let mut e = Wire::server();
    e.receive_all([rr(1, "never"), can(1), can(1)]); // CAN-05
    assert_eq!(e.events(), "Request(1,RR,'never') Cancelled(1)");
    assert!(!e.is_open(1));
    e.assert_idle();
    // The reply is given and not written when CANCEL comes.
    e.receive(rr(3, "d"));
    e.events();
    e.send_last(3, "late").unwrap();
    e.receive(can(3));
    assert_eq!(e.events(), "Cancelled(3)");
    assert_eq!(e.sent(), "");
    // CANCEL after the reply.
    e.receive(rr(5, "d"));
    e.events();
    e.send_last(5, "ok").unwrap();
    assert_eq!(e.sent(), "P(5,N+C,'ok')");
    e.receive(can(5));
    e.assert_silent("RR-09");
    e.assert_idle();
    e.fence("RR-09");
}

#[test]
fn rr_11_the_requester_has_no_other_word() {
    let mut e = Wire::server();
    e.receive(rr(1, "never"));
    e.events();
    e.receive_all([rn(1, 1), p(1, N, "x"), p(1, C, ""), err(1, 0x201, b"")]);
    e.receive_all([rr(1, "again"), fnf(1, "again")]); // SID-12, FNF-05
    e.assert_silent("RR-11");
    e.fence("RR-11");
    e.receive(can(1));
    assert_eq!(e.events(), "Cancelled(1)");
}

#[test]
fn rr_13_frame_09_metadata_is_carried_absent_or_empty() {
    let mut e = Wire::server();
    let body = |text| [metadata(text), b"d".to_vec()].concat();
    e.receive(raw(1, 0x04, M, &[&body("m")]));
    e.receive(raw(3, 0x04, M, &[&body("")]));
    e.receive(rr(5, "d"));
    e.receive(raw(7, 0x04, M, &[&metadata("m")])); // H024
    assert_eq!(
        e.events(),
        "Request(1,RR,M'm','d') Request(3,RR,M'','d') Request(5,RR,'d') Request(7,RR,M'm','')"
    );
    let reply = |metadata: &'static str| Payload::new("d").with_metadata(metadata);
    e.stream(1).send_last(reply("m")).unwrap();
    e.stream(3).send_last(reply("")).unwrap();
    e.send_last(5, "d").unwrap();
    assert_eq!(e.sent(), "P(1,N+C,M'm','d') P(3,N+C,M'','d') P(5,N+C,'d')");
}

#[test]
fn rr_14_a_thousand_are_answered_in_any_order() {
    let mut e = Wire::server();
    e.receive_all((0..1_000).map(|n| rr(2 * n + 1, "d")));
    e.events();
    for n in (0..1_000).rev() {
        e.send_last(2 * n + 1, "r").unwrap();
    }
    let frames = e.sent_frames();
    let expected: Vec<u32> = (0..1_000).rev().map(|n| 2 * n + 1).collect();
    assert_eq!(frames.iter().map(|f| f.stream).collect::<Vec<_>>(), expected);
    e.assert_idle();
}

#[test]
fn sid_06_11_after_the_last_id_no_stream_by_default() {
    let mut e = Wire::client();
    e.connection.skip_ids(MAX - 2);
    e.request(RR, "a", 0);
    e.request(RR, "b", 0);
    assert_eq!(e.sent(), "RR(2147483645,'a') RR(2147483647,'b')");
    let refused = e.connection.request(RR, "c".into(), 0);
    assert_eq!(refused, Err(RequestError::StreamIdsExhausted));
    e.fence("SID-06");
}

#[test]
fn sid_07_08_10_ids_go_around_the_end_and_pass_over_the_live() {
    let config = Config { reuse_stream_ids: true, ..Config::default() };
    let mut e = Wire::client_with(config.clone());
    e.request(RR, "lives", 0);
    e.connection.skip_ids(MAX);
    e.request(RR, "last", 0);
    e.request(RR, "around", 0);
    assert_eq!(e.sent(), "RR(1,'lives') RR(2147483647,'last') RR(3,'around')");
    // SID-10: after REJECTED whoever asks again has the next one.
    e.receive(err(3, 0x202, b"in use"));
    e.request(RR, "again", 0);
    assert_eq!(e.sent(), "RR(5,'again')");
    e.receive(p(1, N | C, "alive"));
    assert_eq!(e.events(), "Failed(3,0x202,'in use') Item(1,'alive',last)");
    // A server's ids are even.
    let mut e = Wire::server_with(config);
    e.connection.skip_ids(MAX - 1);
    e.request(FNF, "last", 0);
    e.request(RR, "around", 0);
    assert_eq!(e.sent(), "FNF(2147483646,'last') RR(2,'around')");
}

#[test]
fn sid_05_14_ids_come_in_any_order_and_again() {
    let mut e = Wire::server();
    e.receive_all([rr(9, "a"), rr(3, "b"), rr(MAX, "c"), rr(1, "d")]); // H060
    e.events();
    for id in [1, 3, 9, MAX] {
        e.send_last(id, "r").unwrap();
    }
    e.sent();
    e.receive(rr(9, "again"));
    assert_eq!(e.events(), "Request(9,RR,'again')");
    e.send_last(9, "r").unwrap();
    assert_eq!(e.sent(), "P(9,N+C,'r')");
}

#[test]
fn sid_05_a_key_does_not_name_the_next_stream_of_the_same_id() {
    let mut e = Wire::server();
    e.receive(rr(1, "first"));
    e.events();
    let first = e.key(1);
    e.receive_all([can(1), rr(1, "second")]);
    // Its handler has not heard of the CANCEL yet.
    assert!(e.connection.stream(first).is_none());
    assert_eq!(e.events(), "Cancelled(1) Request(1,RR,'second')");
    assert!(e.connection.stream(first).is_none());
    e.send_last(1, "second").unwrap();
    assert_eq!(e.sent(), "P(1,N+C,'second')");
}

#[test]
fn sid_12_a_request_on_a_live_id_is_ignored() {
    let opens: [fn(u32) -> Bytes; 4] =
        [|id| rr(id, "x"), |id| fnf(id, "x"), |id| rs(id, 1, "x"), |id| rc(id, 1, "x")];
    for (n, first) in opens.iter().enumerate() {
        for second in &opens {
            let mut e = Wire::server();
            e.receive(first(1));
            e.events();
            e.receive(second(1));
            // The id of a fire-and-forget is free at once.
            assert_eq!(e.events().is_empty(), n != 1, "H059");
            assert_eq!(e.sent(), "");
            assert!(e.is_open(1));
            e.fence("SID-12");
        }
    }
}

#[test]
fn fnf_01_nothing_is_ever_sent_back() {
    let endings: [fn(&mut Wire); 4] = [
        |e| e.stream(1).complete().unwrap(),
        |e| e.fail(1, 0x201).unwrap(),
        |e| assert_eq!(e.send_last(1, "x"), Err(SendError::NoCredit)),
        |e| e.stream(1).cancel(),
    ];
    for end in endings {
        let mut e = Wire::server();
        e.receive(fnf(1, "d"));
        assert_eq!(e.events(), "Request(1,FNF,'d')");
        end(&mut e);
        e.assert_silent("FNF-01");
        e.fence("FNF-01");
    }
}

#[test]
fn fnf_02_its_id_is_free_as_soon_as_it_has_arrived() {
    let mut e = Wire::server();
    e.receive_all([fnf(1, "a"), can(1), rn(1, 1), p(1, N, "x"), err(1, 0x201, b"")]);
    assert_eq!(e.events(), "Request(1,FNF,'a')");
    let first = e.key(1);
    e.receive_all([fnf(1, "b"), rr(1, "c"), fnf(1, "ignored")]);
    assert_eq!(e.events(), "Request(1,FNF,'b') Request(1,RR,'c')");
    assert_eq!(e.connection.open_streams(), 3);
    // The handlers end in their own time, and only the answer is written.
    e.connection.stream(first).unwrap().complete().unwrap();
    assert!(e.connection.stream(first).is_none());
    e.receive(can(1));
    assert_eq!(e.events(), "Cancelled(1)", "the RR's");
    assert_eq!(e.connection.open_streams(), 1);
    e.fence("FNF-02");
}

// ---- as requester -------------------------------------------------------------------------------

#[test]
fn sid_01_03_ids_are_odd_and_count_up() {
    let mut e = Wire::client();
    e.request(FNF, "a", 0);
    e.request(RR, "b", 0);
    e.request(RS, "c", 1);
    e.request(RC, "d", 2);
    assert_eq!(e.sent(), "FNF(1,'a') RR(3,'b') RS(5,n=1,'c') RC(7,n=2,'d')");
    assert_eq!(e.events(), "Completed(1)"); // FNF-02
    assert_eq!(e.connection.open_streams(), 3);
}

#[test]
fn rr_02_03_06_the_answers_of_a_responder() {
    let answers = [
        (p(1, N | C, "a"), "Item(1,'a',last)"),
        (p(1, N | C, ""), "Item(1,'',last)"), // RR-02, PAY-02
        (p(1, C, ""), "Completed(1)"),
        (p(1, C, "junk"), "Completed(1)"),            // PAY-04
        (p(1, N, "a"), "Item(1,'a',last)"),           // RR-03
        (p(1, 0, "a"), "Item(1,'a',last)"),           // PAY-05
        (err(1, 0x202, b"x"), "Failed(1,0x202,'x')"), // RR-06
    ];
    for (answer, event) in answers {
        let mut e = Wire::client();
        e.request(RR, "d", 0);
        assert_eq!(e.sent(), "RR(1,'d')");
        e.receive(&answer);
        assert_eq!(e.events(), event);
        e.assert_idle();
        // H076: the first answer wins.
        e.receive_all([p(1, N | C, "b"), err(1, 0x201, b""), p(1, C, "")]);
        e.assert_silent(event);
        e.fence(event);
    }
}

#[test]
fn err_03_06_07_every_code_and_text_reaches_the_caller() {
    let mut e = Wire::client();
    let codes = [0x301, 0x8000_0001, 0xFFFF_FFFE, 0x210, 0, 0x101, 0xFFFF_FFFF];
    for code in codes {
        let id = e.request(RR, "d", 0);
        e.sent();
        e.receive(err(id, code, b"\xff\xfe\0"));
        assert_eq!(e.events(), format!("Failed({id},{code:#x},'\u{fffd}\u{fffd}\0')"));
    }
    e.fence("ERR-07");
}

#[test]
fn rr_07_cancel_ends_it_once() {
    let mut e = Wire::client();
    e.request(RR, "d", 0);
    e.sent();
    e.stream(1).cancel();
    e.stream(1).cancel();
    assert_eq!(e.sent(), "CAN(1)"); // CAN-01, CAN-05
    e.receive_all([p(1, N | C, "late"), can(1), rn(1, 1), err(1, 0x201, b"")]);
    e.assert_silent("RR-07");
    e.assert_idle();
    e.fence("RR-07");
}

#[test]
fn rr_10_cancelled_before_it_is_written_it_is_never_sent() {
    for interaction in [RR, FNF, RS, RC] {
        let mut e = Wire::client();
        e.request(interaction, "d", 1);
        e.stream(1).cancel();
        assert!(!e.is_open(1));
        e.assert_silent("RR-10");
        e.assert_idle();
        assert_eq!(e.request(interaction, "d", 1), 3, "the id is spent");
    }
}

#[test]
fn rr_12_the_responder_cannot_cancel_or_ask_for_more() {
    for interaction in [RR, RS] {
        let mut e = Wire::client();
        e.request(interaction, "d", 1);
        e.sent();
        e.receive_all([can(1), rn(1, 5), can(1)]); // H074
        e.assert_silent("RR-12");
        e.receive(p(1, N | C, "a"));
        assert_eq!(e.events(), "Item(1,'a',last)");
        e.assert_idle();
    }
}

#[test]
fn fnf_02_answers_to_it_are_ignored() {
    let mut e = Wire::client();
    e.request(FNF, "d", 0);
    assert_eq!(e.sent(), "FNF(1,'d')");
    assert_eq!(e.events(), "Completed(1)");
    e.receive_all([p(1, N | C, "x"), err(1, 0x202, b""), can(1)]); // H077
    e.assert_silent("H077");
    e.assert_idle();
}

#[test]
fn can_04_cancel_and_answer_cross() {
    for answer in [p(1, N | C, "a"), p(1, C, ""), p(1, N, "a"), err(1, 0x201, b"")] {
        // CANCEL asked for, not written, when the answer comes.
        let mut e = Wire::client();
        e.request(RR, "d", 0);
        e.sent();
        e.stream(1).cancel();
        e.receive(&answer);
        assert_eq!(e.events(), "");
        assert_eq!(e.sent(), "CAN(1)");
        e.assert_idle();
        // The answer came first and was not polled.
        let mut e = Wire::client();
        e.request(RR, "d", 0);
        e.sent();
        e.receive(&answer);
        assert!(!e.is_open(1));
        assert_eq!(e.sent(), "");
        e.events();
        e.assert_idle();
    }
}

#[test]
fn a_stream_that_was_not_opened_on_the_wire_does_not_exist_for_the_peer() {
    let replies =
        [p(1, N | C, "x"), p(1, C, ""), p(1, N, "x"), err(1, 0x202, b""), can(1), rn(1, 7)];
    for interaction in [RR, RS, RC] {
        let mut e = Wire::client();
        e.request(interaction, "d", 1);
        e.receive_all(&replies);
        assert_eq!(e.events(), "", "{interaction:?}");
        assert_eq!(e.connection.stats().ignored_unknown_stream, 6);
        let opened = e.sent();
        assert!(opened.starts_with('R') && opened.contains("'d'"), "{opened}");
        assert!(!opened.contains(' '), "{opened}");
        e.receive(err(1, 0x202, b"x"));
        assert_eq!(e.events(), "Failed(1,0x202,'x')");
    }
}
