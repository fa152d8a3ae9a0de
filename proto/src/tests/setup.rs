//! The beginning of a connection (SETUP, TCP, WS).

use super::{
    peer::{RR, Wire},
    wire::*,
};
use crate::{Config, ControlError, ErrorCode, RequestError, Role, SendError};

fn fresh_server() -> Wire {
    Wire::fresh_server(Config::default())
}

#[test]
fn setup_01_is_the_clients_first_frame_and_waits_for_nobody() {
    let mut e = Wire::fresh_client(Config::default());
    e.request(RR, "d", 0);
    let frames = e.sent_frames();
    assert_eq!(frames[0].describe(), "SETUP");
    // SETUP-05; interval and lifetime as configured, MIME types a/b and c/d.
    assert_eq!(frames[0].data, b"\x03a/b\x03c/d");
    assert_eq!(frames[1].describe(), "RR(1,'d')"); // SETUP-19
    assert_eq!(frames.len(), 2);
}

#[test]
fn setup_01_a_client_closed_before_its_setup_says_nothing() {
    let mut e = Wire::fresh_client(Config::default());
    e.connection.close();
    assert_eq!(e.sent(), "");
    assert_eq!(e.events(), "Closed(Local)");
    e.assert_dead();
}

#[test]
fn setup_02_nothing_may_precede_it() {
    let frames = [
        lease(0),
        ka(R, 0, b""),
        rr(1, "d"),
        fnf(1, "d"),
        rs(1, 1, "d"),
        rc(1, 1, "d"),
        rn(1, 1),
        can(1),
        p(1, N, "d"),
        err(0, 0x101, b""),
        err(1, 0x201, b""),
        mp("m"),
        resume_ok(0),
        ext(0, I, 1),
        ext(0, 0, 1),
        raw(0, 0x20, I, &[]),
        raw(0, 0x00, I, &[]),
        raw(1, 0x0A, M | I, &[&[9]]),
    ];
    for frame in frames {
        let mut e = fresh_server();
        e.receive_all([&frame, &setup(), &fnf(1, "never")]);
        e.assert_ended_with(0x001, &frame);
    }
}

#[test]
fn setup_03_belongs_on_stream_0() {
    for kind in [0x01, 0x0D] {
        let mut e = fresh_server();
        e.receive(raw(1, kind, 0, &[&setup()[6..]]));
        e.assert_ended_with(0x001, kind);
    }
}

#[test]
fn setup_06_other_versions_are_refused() {
    for version in [(0, 0), (0, 2), (1, 1), (2, 0), (0xFFFF, 0xFFFF)] {
        let mut e = fresh_server();
        e.receive(setup_of(0, version, 1_000, 3_000, b"\x01x\x01x"));
        e.assert_ended_with(0x001, version);
    }
}

#[test]
fn setup_07_times_are_between_1_and_the_largest_u31() {
    for bad in [0, MAX + 1, u32::MAX] {
        for (interval, lifetime) in [(bad, 1_000), (1_000, bad), (bad, bad)] {
            let mut e = fresh_server();
            e.receive(setup_with(interval, lifetime));
            e.assert_ended_with(0x001, (interval, lifetime));
        }
    }
    // H039, H040: however long a client wants to be waited for, there is an end.
    for (good, tolerated) in [(1, 1), (600_000, 600_000), (600_001, 600_000), (MAX, 600_000)] {
        let mut e = fresh_server();
        e.receive(setup_with(good, good));
        assert_eq!(e.events(), "Setup");
        e.connection.accept(e.now);
        e.fence(good);
        assert_eq!(e.deadline(), Some(tolerated));
    }
}

#[test]
fn setup_09_11_resume_is_refused_where_it_is_not_on_offer() {
    for token in [&b"\0\x02\xaa\xbb"[..], b"\0\0"] {
        let rest = [token, b"\x01x\x01x"].concat();
        let mut e = fresh_server();
        e.receive(setup_of(R, (1, 0), 1_000, 3_000, &rest));
        e.assert_ended_with(0x003, token);
    }
}

#[test]
fn lease_16_leases_are_refused_where_they_are_not_on_offer() {
    let mut e = fresh_server();
    e.receive(setup_of(L, (1, 0), 1_000, 3_000, b"\x01x\x01x"));
    e.assert_ended_with(0x002, "L");
}

#[test]
fn resume_17_a_session_that_is_not_there_is_refused() {
    let mut e = fresh_server();
    e.receive(resume(0));
    e.assert_ended_with(0x004, "RESUME");
}

#[test]
fn setup_12_13_mime_types_are_opaque() {
    for mime in [vec![], vec![b'x'; 127], vec![b'x'; 128], vec![0xFF; 255]] {
        let len = [mime.len() as u8];
        let rest = [&len[..], &mime, &len, &mime].concat();
        let mut e = fresh_server();
        e.receive(setup_of(0, (1, 0), 1_000, 3_000, &rest));
        let Some(crate::Event::Setup(setup)) = e.poll_event() else {
            panic!("no SETUP for a MIME type of {} bytes", mime.len());
        };
        assert_eq!(setup.metadata_mime, mime);
        assert_eq!(setup.data_mime, mime);
    }
}

#[test]
fn setup_15_its_payload_reaches_the_acceptor() {
    let rest = [&b"\x01x\x01x"[..], &metadata("md"), b"data"].concat();
    let mut e = fresh_server();
    e.receive(setup_of(M, (1, 0), 1_000, 3_000, &rest));
    let Some(crate::Event::Setup(setup)) = e.poll_event() else {
        panic!("no SETUP");
    };
    assert_eq!(setup.payload.metadata.as_deref(), Some(&b"md"[..]));
    assert_eq!(setup.payload.data, "data");
}

#[test]
fn setup_16_21_a_refusal_is_one_error_and_nothing_behind_it_is_served() {
    let mut e = fresh_server();
    let pipelined = (0..1_000).map(|n| fnf(2 * n + 1, "never"));
    e.receive_all(std::iter::once(setup()).chain(pipelined));
    assert_eq!(e.events(), "Setup");
    assert!(e.untaken() > 0, "what follows waits for the answer");
    e.connection.reject(ErrorCode::REJECTED_SETUP, "no");
    assert_eq!(e.events(), "Closed(0x3)");
    assert_eq!(e.sent(), "ERR(0,0x3)");
    e.assert_dead();
}

#[test]
fn setup_20_requests_pipelined_behind_setup_wait_for_the_acceptor() {
    let mut e = fresh_server();
    e.receive_all([setup(), rr(1, "d")]);
    assert_eq!(e.events(), "Setup");
    assert!(!e.connection.wants_input());
    e.advance(500);
    e.assert_silent("not accepted yet");
    e.connection.accept(e.now);
    assert_eq!(e.events(), "Request(1,RR,'d')");
    e.send_last(1, "ok").unwrap();
    assert_eq!(e.sent(), "P(1,N+C,'ok')");
    e.assert_idle();
}

#[test]
fn setup_22_an_accepting_server_may_ask_at_once() {
    let mut e = Wire::server();
    assert_eq!([e.request(RR, "a", 0), e.request(RR, "b", 0)], [2, 4]); // SID-02
    assert_eq!(e.sent(), "RR(2,'a') RR(4,'b')");
}

#[test]
fn setup_23_any_frame_but_an_error_on_stream_0_establishes() {
    let frames = [
        ka(0, 0, b""),
        rr(2, "d"),
        p(1, C, ""),
        err(1, 0x201, b""),
        mp("m"),
        lease(0),
        raw(0, 0x20, I, &[]),
    ];
    for frame in frames {
        let mut e = Wire::fresh_client(Config::default());
        e.request(RR, "d", 0);
        e.sent();
        e.receive(&frame);
        assert!(e.events().starts_with("Established"), "{frame:02x?}");
        // SETUP-25: what would have been a refusal comes too late.
        for code in 1..=4 {
            e.receive(err(0, code, b""));
        }
        e.sent();
        e.assert_silent(&frame);
        e.fence(&frame);
    }
}

#[test]
fn setup_24_an_error_on_stream_0_is_a_refusal() {
    for code in [1, 2, 3, 4, 0x101, 0x102, 0x201] {
        let mut e = Wire::fresh_client(Config::default());
        e.request(RR, "d", 0);
        assert_eq!(e.sent(), "SETUP RR(1,'d')");
        e.receive(err(0, code, b"no"));
        assert_eq!(e.events(), format!("Closed(peer,{code:#x},'no')"));
        e.assert_dead();
    }
}

#[test]
fn setup_24_holds_while_draining() {
    let mut e = Wire::fresh_client(Config::default());
    e.request(RR, "d", 0);
    assert_eq!(e.sent(), "SETUP RR(1,'d')");
    e.connection.drain();
    e.receive(err(0, 3, b"no"));
    assert_eq!(e.events(), "Closed(peer,0x3,'no')");
    e.assert_dead();
}

#[test]
fn setup_27_a_server_says_nothing_before_it_accepts() {
    let mut e = fresh_server();
    let open = |e: &mut Wire| e.connection.request(RR, "d".into(), 0);
    assert_eq!(open(&mut e), Err(RequestError::NotEstablished));
    assert_eq!(e.connection.push_metadata("m".into()), Err(ControlError::NotEstablished));
    e.assert_silent("before SETUP");
    e.receive(setup());
    assert_eq!(e.events(), "Setup");
    assert_eq!(open(&mut e), Err(RequestError::NotEstablished));
    assert_eq!(e.connection.push_metadata("m".into()), Err(ControlError::NotEstablished));
    e.assert_silent("before accept");
}

#[test]
fn setup_28_cut_anywhere_before_its_data_is_invalid() {
    let rest = [&b"\x03a/b\x03c/d"[..], &metadata("md"), b"data"].concat();
    let whole = setup_of(M, (1, 0), 1_000, 3_000, &rest);
    for cut in 6..whole.len() - 4 {
        let mut e = fresh_server();
        e.receive(&whole[..cut]);
        e.assert_ended_with(0x001, cut);
    }
    let token = [&b"\0\x02\xaa\xbb"[..], &rest].concat();
    let whole = setup_of(R | M, (1, 0), 1_000, 3_000, &token);
    for cut in 6..whole.len() - 4 {
        let mut e = fresh_server();
        e.receive(&whole[..cut]);
        e.assert_ended_with(0x001, cut);
    }
    for rest in [&b"\xffxx\x01x"[..], b"\x01x\xffx", b"\x01x"] {
        let mut e = fresh_server();
        e.receive(setup_of(0, (1, 0), 1_000, 3_000, rest)); // H044
        e.assert_ended_with(0x001, rest);
    }
}

#[test]
fn setup_30_no_setup_in_time_ends_it() {
    let mut e = fresh_server();
    assert_eq!(e.deadline(), Some(10_000));
    e.receive_bytes(b"\xff\xff"); // H002: a prefix is no SETUP
    e.advance(9_999);
    e.assert_silent("in time");
    e.advance(1);
    e.assert_ended_with(0x001, "H001");
}

#[test]
fn setup_30_an_acceptor_has_its_own_time() {
    let mut e = fresh_server();
    e.advance(9_000);
    e.receive(setup());
    assert_eq!(e.events(), "Setup");
    assert_eq!(e.deadline(), Some(10_000));
    e.advance(10_000);
    e.assert_ended_with(0x001, "not accepted");
    e.connection.accept(e.now);
    e.assert_dead();
}

#[test]
fn setup_31_accepting_is_silent() {
    let mut e = Wire::server();
    assert_eq!(e.connection.role(), Role::Server);
    e.advance(999);
    e.assert_silent("no acknowledgement");
    e.fence("");
}

#[test]
fn setup_17_18_a_later_setup_is_ignored() {
    let mut e = Wire::server();
    for again in [
        setup(),
        setup_with(1, 1),
        setup_of(L, (1, 0), 1, 1, b"\x01x\x01x"),
        setup_of(R, (2, 0), 0, 0, b"\0\0\x01x\x01x"),
    ] {
        e.receive_all(std::iter::repeat_n(again, 300)); // H049, H050
        e.assert_silent("SETUP-17");
    }
    assert_eq!(e.connection.stats().ignored_out_of_place, 1_200);
    assert_eq!(e.deadline(), Some(3_000), "the first SETUP's lifetime");
    e.fence("SETUP-17");
    let mut e = Wire::client();
    e.receive(setup());
    e.fence("SETUP-18");
}

#[test]
fn tcp_02_any_split_of_the_bytes_is_the_same() {
    let frames = [setup(), rr(1, "one"), rs(3, 2, "two"), rn(3, 1), fnf(5, "x")];
    let bytes: Vec<u8> = frames.iter().flat_map(|frame| prefixed(frame)).collect();
    let expected = "Setup Request(1,RR,'one') Request(3,RS,'two') Request(5,FNF,'x')";
    for step in 1..bytes.len() {
        let mut e = fresh_server();
        let mut seen = Vec::new();
        for part in bytes.chunks(step) {
            e.receive_bytes(part);
            for _ in 0..2 {
                seen.push(e.events());
                e.connection.accept(e.now);
            }
        }
        seen.retain(|events| !events.is_empty());
        assert_eq!(seen.join(" "), expected, "in pieces of {step}");
        assert_eq!(e.stream(3).credit(), 3);
    }
}

#[test]
fn tcp_05_frame_18_impossible_lengths_end_it_at_the_prefix() {
    let config = Config { max_frame_bytes: 1 << 20, ..Config::default() };
    for prefix in [[0, 0, 0], [0, 0, 5], [0x10, 0, 1], [0xFF, 0xFF, 0xFF]] {
        let mut e = Wire::server_with(config.clone());
        e.receive_bytes(&prefix);
        e.assert_ended_with(0x101, prefix);
    }
    let mut e = Wire::server_with(config);
    e.receive(rr(1, &"x".repeat((1 << 20) - 6)));
    assert_eq!(e.events(), "Request(1,RR,<1048570>)");
}

#[test]
fn ws_04_a_message_too_short_for_a_header_ends_it() {
    for len in 0..6 {
        let mut e = Wire::server();
        e.connection.handle_frame(vec![0; len].into(), e.now);
        e.assert_ended_with(0x101, len);
    }
}

#[test]
fn frame_03_the_largest_frame_is_served() {
    let config = Config { fragment_bytes: None, ..Config::default() };
    let mut e = Wire::server_with(config);
    e.receive(rr(1, &"x".repeat(0xFF_FFFF - 6)));
    assert_eq!(e.events(), format!("Request(1,RR,<{}>)", 0xFF_FFFF - 6));
    let huge = crate::Payload::new(vec![0; 0xFF_FFFF - 5]);
    let refused = e.stream(1).send_last(huge);
    assert_eq!(refused, Err(SendError::PayloadTooLarge { len: 0x100_0000 })); // FRAME-02
    let largest = crate::Payload::new(vec![0; 0xFF_FFFF - 6]);
    e.stream(1).send_last(largest).unwrap();
    assert_eq!(e.sent(), format!("P(1,N+C,<{}>)", 0xFF_FFFF - 6));
}

#[test]
fn h012_h013_another_protocol_is_refused_as_soon_as_it_shows() {
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    for start in [&b"GET / HTTP/1.1\r\n\r\n"[..], hello] {
        let mut e = fresh_server();
        e.receive_bytes(&start[..2]);
        e.assert_silent("not a whole length yet");
        e.receive_bytes(&start[2..]);
        e.assert_ended_with(0x001, start);
    }
    // One whose first bytes are a length that SETUP may have.
    let mut e = fresh_server();
    e.receive_bytes(b"\0\0\x20\0\0\0\0\x28");
    e.assert_silent("not a whole header yet");
    e.receive_bytes(b"\0");
    e.assert_ended_with(0x001, "SETUP-02");
    let mut e = fresh_server();
    e.receive_bytes(b"GE");
    e.advance(10_000);
    e.assert_ended_with(0x001, "TCP-06");
}

#[test]
fn setup_30_the_first_frame_has_a_limit_of_its_own() {
    let config = || Config { max_setup_bytes: 1_000, ..Config::default() };
    let of_data = |bytes: usize| {
        let rest = [&b"\x01x\x01x"[..], &vec![b'x'; bytes]].concat();
        setup_of(0, (1, 0), 1_000, 3_000, &rest)
    };
    let least = of_data(0).len();
    let setup = |bytes: usize| of_data(bytes - least);
    let mut e = Wire::fresh_server(config());
    e.receive(setup(1_000));
    assert_eq!(e.events(), "Setup");
    e.connection.accept(e.now);
    e.receive(rr(1, &"x".repeat(5_000)));
    assert_eq!(e.events(), "Request(1,RR,<5000>)", "behind it the limit is that of frames");
    // Told at the prefix, before any of it is held; and where frames come whole.
    let mut e = Wire::fresh_server(config());
    e.receive_bytes(&prefixed(&setup(1_001))[..3]);
    e.assert_ended_with(0x001, "announced");
    let mut e = Wire::fresh_server(config());
    e.connection.handle_frame(setup(1_001).into(), e.now);
    e.assert_ended_with(0x001, "whole");
}

#[test]
fn tcp_06_the_start_of_a_setup_is_waited_for() {
    let mut e = fresh_server();
    let setup = prefixed(&setup());
    e.receive_bytes(&setup[..20]); // H052
    e.assert_silent("H052");
    e.advance(9_999);
    e.receive_bytes(&setup[20..]);
    assert_eq!(e.events(), "Setup");
}
