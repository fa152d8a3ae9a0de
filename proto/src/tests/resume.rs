//! Resume as a server (RESUME).

use std::time::Duration;

use super::{
    peer::Wire,
    wire::{self, C, F, I, L, M, N, R, raw},
};
use crate::{Config, NotResumed, Payload, ResumeLimits, frame::Resume};

pub(super) const TOKEN: &[u8] = &[0xFF, 0xFF];

pub(super) fn limits(max_bytes: usize) -> Config {
    let limits = ResumeLimits { max_bytes, ..ResumeLimits::default() };
    Config { resume: Some(limits), fragment_bytes: Some(200), ..Config::default() }
}

fn setup() -> wire::Bytes {
    setup_of(TOKEN)
}

pub(super) fn setup_of(token: &[u8]) -> wire::Bytes {
    let len = (token.len() as u16).to_be_bytes();
    let rest = [&len, token, b"\x03a/b\x03c/d"].concat();
    wire::setup_of(R, (1, 0), 1_000, 3_000, &rest)
}

fn resume_frame(version: (u16, u16), token: &[u8], server: u64, client: u64) -> wire::Bytes {
    let body: [&[u8]; 6] = [
        &version.0.to_be_bytes(),
        &version.1.to_be_bytes(),
        &(token.len() as u16).to_be_bytes(),
        token,
        &server.to_be_bytes(),
        &client.to_be_bytes(),
    ];
    raw(0, 0x0D, 0, &body)
}

pub(super) fn resume(server: u64, client: u64) -> Resume {
    Resume {
        version: (1, 0),
        token: TOKEN.into(),
        last_received_server_position: server,
        first_available_client_position: client,
    }
}

fn server() -> Wire {
    server_with(limits(1 << 20))
}

fn server_with(config: Config) -> Wire {
    let mut e = Wire::fresh_server(config);
    e.receive(setup());
    assert_eq!(e.events(), "Setup");
    e.connection.accept(e.now);
    assert_eq!(e.sent(), "");
    e
}

/// Bytes of the tracked frames among these.
fn tracked(frames: &[wire::Seen]) -> u64 {
    frames.iter().filter(|frame| frame.stream != 0).map(|frame| frame.len as u64).sum()
}

pub(super) fn cut(e: &mut Wire) {
    e.disconnect(None);
    assert_eq!(e.events(), "Suspended");
    assert_eq!(e.sent(), "");
}

/// RESUME_OK, and the position it names.
fn resumed(e: &mut Wire, server: u64, client: u64) -> u32 {
    let now = e.now;
    e.connection.accept_resume(&resume(server, client), now).expect("a session");
    assert_eq!(e.events(), "Resumed");
    let frames = e.sent_once();
    assert_eq!(frames[0].kind, 0x0E, "{:?}", frames[0].describe());
    e.put_back(&frames[1..]);
    frames[0].number
}

#[test]
fn setup_09_resume_01_17_off_unless_configured() {
    let mut e = Wire::fresh_server(Config::default());
    e.receive(setup());
    e.assert_ended_with(0x003, "SETUP-09");
    let mut e = Wire::fresh_server(Config::default());
    e.receive(resume_frame((1, 0), TOKEN, 0, 0));
    e.assert_ended_with(0x004, "RESUME-17");
    let mut e = Wire::fresh_server(limits(1 << 20));
    e.receive(setup_of(b""));
    e.assert_ended_with(0x003, "SETUP-11");
    let mut e = Wire::fresh_server(limits(1 << 20));
    e.receive(setup_of(&vec![0; 65_535]));
    assert_eq!(e.events(), "Setup", "H043");
    assert_eq!(e.connection.resume_token().map(|token| token.len()), Some(65_535));
}

#[test]
fn resume_16_26_41_an_opening_resume_is_its_owners_to_place() {
    let fresh = || Wire::fresh_server(limits(1 << 20));
    let mut e = fresh();
    e.receive(resume_frame((1, 0), TOKEN, 7, 9));
    assert_eq!(e.events(), "Resume([ff, ff],7,9)");
    assert!(!e.connection.wants_input());
    e.connection.reject(crate::ErrorCode::REJECTED_RESUME, "unknown");
    assert_eq!(e.sent(), "ERR(0,0x4)");
    assert!(e.connection.is_closed());

    let mut e = fresh();
    e.receive(resume_frame((1, 0), TOKEN, 7, 9));
    e.events();
    e.connection.hand_over();
    e.assert_dead();

    for bad in [
        resume_frame((9, 9), TOKEN, 0, 0),
        resume_frame((0, 1), TOKEN, 0, 0),
        resume_frame((1, 0), b"", 0, 0),
        resume_frame((1, 0), TOKEN, 1 << 63, 0),
        resume_frame((1, 0), TOKEN, 0, 1 << 63),
    ] {
        let mut e = fresh();
        e.receive(bad);
        e.assert_ended_with(0x004, "RESUME-26, RESUME-41");
    }
    let whole = resume_frame((1, 0), TOKEN, 0, 0);
    for len in 6..whole.len() {
        let mut e = fresh();
        e.receive(&whole[..len]);
        e.assert_ended_with(0x101, ("H112", len));
    }
    let mut e = fresh();
    e.receive(&resume_frame((1, 0), &[1; 300], 0, 0)[..100]);
    e.assert_ended_with(0x101, "H112: the token runs past the end");

    let mut config = limits(1 << 20);
    config.resume = Some(ResumeLimits { swapped_version: true, ..ResumeLimits::default() });
    let mut e = Wire::fresh_server(config);
    e.receive(resume_frame((0, 1), TOKEN, 0, 0));
    assert_eq!(e.events(), "Resume([ff, ff],0,0)", "H124");
}

#[test]
fn resume_04_05_06_07_12_15_what_is_counted_of_the_client() {
    let mut e = server();
    let counted = [
        wire::rr(1, "request"),
        wire::fnf(3, "x"),
        wire::rs(5, 1, "x"),
        wire::with(F, wire::rc(7, 1, "long")),
        wire::p(7, F | N, "er"),
        wire::p(7, N, "est"),
        wire::rn(5, 1),
        wire::can(5),
        wire::err(7, 0x201, b"text"),
        wire::can(77),
        wire::p(8, N, "unknown"),
        // Malformed, to be ignored: a frame all the same.
        wire::with(I | M, wire::rr(9, "xyz")),
    ];
    let not_counted = [
        wire::setup(),
        wire::lease(0),
        wire::ka(0, 0, b"x"),
        wire::mp("m"),
        wire::resume_ok(0),
        wire::ext(0, I, 1),
        wire::ext(7, I, 1),
        wire::can(0),
        wire::rr(0, "x"),
        wire::err(0, 0x201, b"x"),
        wire::mp("m").tap_stream(1),
        wire::ka(0, 0, b"x").tap_stream(1),
    ];
    let sum: usize = counted.iter().map(Vec::len).sum();
    for frame in counted.iter().chain(&not_counted) {
        e.receive(frame);
    }
    // A frame that is half here does not count.
    e.receive_bytes(&wire::prefixed(&wire::rr(11, "cut"))[..11]);
    e.events();
    e.sent();
    cut(&mut e);
    assert_eq!(resumed(&mut e, 0, 0) as usize, sum);
    // KA-06: KEEPALIVE says it too, and not what the peer's said.
    e.receive(wire::ka(R, 12_345, b""));
    assert!(e.sent().contains(&format!("KA({sum},'')")));
}

trait TapStream {
    fn tap_stream(self, id: u32) -> Self;
}

impl TapStream for wire::Bytes {
    /// The same frame on another stream.
    fn tap_stream(mut self, id: u32) -> Self {
        self[..4].copy_from_slice(&id.to_be_bytes());
        self
    }
}

#[test]
fn resume_13_14_38_what_the_client_lacks_comes_again_byte_for_byte_and_then_the_new() {
    let mut e = server();
    e.receive_all([wire::rs(1, 100, "x"), wire::rr(3, "y")]);
    e.events();
    let item = Payload::new(vec![7; 450]).with_metadata("m");
    e.send(1, "a").unwrap();
    e.send(1, item).unwrap();
    e.send_last(3, "answer").unwrap();
    let before = e.sent_frames();
    let received = tracked(&before[..1]);

    cut(&mut e);
    e.send(1, "while apart").unwrap();
    e.stream(1).complete().unwrap();
    assert_eq!(e.sent(), "");
    let client = [wire::rs(1, 100, "x"), wire::rr(3, "y")].concat().len() as u32;
    assert_eq!(resumed(&mut e, received, 0), client);
    let after = e.sent_frames();
    assert_eq!(after[..before.len() - 1], before[1..]);
    let new: Vec<_> = after[before.len() - 1..].iter().map(wire::Seen::describe).collect();
    assert_eq!(new, ["P(1,N+C,'while apart')"]);
    e.assert_idle();
    assert_eq!(e.connection.stats().replayed_frames as usize, before.len() - 1 + 1);
}

#[test]
fn resume_08_positions_go_on_over_transports() {
    let mut e = server();
    let (mut sent, mut received) = (0, 0);
    for round in 0..5 {
        let id = 1 + 2 * round;
        let request = wire::rr(id, "x");
        e.receive(&request);
        received += request.len() as u32;
        e.events();
        e.send_last(id, "y").unwrap();
        sent += tracked(&e.sent_frames());
        cut(&mut e);
        assert_eq!(resumed(&mut e, sent, u64::from(received)), received);
        assert_eq!(e.sent(), "");
        assert_eq!(e.connection.positions(), Some((sent, received.into())));
    }
}

#[test]
fn resume_11_18_19_20_h113_h114_positions_that_do_not_fit_are_refused_and_cost_nothing_else() {
    let base = || {
        let mut e = server();
        e.receive(wire::rs(1, 100, "x"));
        e.events();
        for _ in 0..4 {
            e.send(1, "item").unwrap();
        }
        let frames = e.sent_frames();
        let first = tracked(&frames[..1]);
        let sent = tracked(&frames);
        // Two of them are acknowledged, and gone.
        e.receive(wire::ka(0, 2 * first, b""));
        e.events();
        cut(&mut e);
        (e, first, sent)
    };
    let (_, first, sent) = base();
    for good in [2 * first, 3 * first, sent] {
        let (mut e, ..) = base();
        resumed(&mut e, good, 10);
    }
    let request = wire::rs(1, 100, "x").len() as u64;
    let wrong = [0, first, 3, 2 * first + 1, sent - 1, sent + 1, u64::MAX >> 1];
    let wrong = wrong.map(|server| (server, 0)).into_iter().chain([(sent, request + 1)]);
    for (server, client) in wrong {
        let (mut e, ..) = base();
        let (now, until) = (e.now, e.deadline());
        for _ in 0..3 {
            let refused = e.connection.accept_resume(&resume(server, client), now);
            assert!(matches!(refused, Err(NotResumed::Positions(_))), "{refused:?}");
            e.assert_silent(server);
            assert!(e.connection.is_suspended() && e.is_open(1));
            assert_eq!(e.deadline(), until, "its window goes on");
        }
        resumed(&mut e, 3 * first, request);
        assert_eq!(e.sent(), "P(1,N,'item')");
    }
    // What was produced while apart was never sent, and cannot have arrived.
    let (mut e, ..) = base();
    e.send(1, "item").unwrap();
    e.transmit();
    let now = e.now;
    let refused = e.connection.accept_resume(&resume(sent + first, 0), now);
    assert!(matches!(refused, Err(NotResumed::Positions(_))), "{refused:?}");
}

#[test]
fn resume_31_a_transport_that_is_up_is_not_given_up_for_a_wrong_position() {
    let mut e = server();
    e.receive(wire::rs(1, 100, "x"));
    e.events();
    for _ in 0..3 {
        e.send(1, "item").unwrap();
    }
    let sent = tracked(&e.sent_frames());
    e.receive(wire::ka(0, sent, b""));
    let now = e.now;
    for (server, client) in [(0, 0), (sent + 1, 0), (sent, 9_999)] {
        let refused = e.connection.accept_resume(&resume(server, client), now);
        assert!(matches!(refused, Err(NotResumed::Positions(_))), "{refused:?}");
        e.assert_silent(server);
        assert!(e.connection.has_transport());
    }
    e.send(1, "goes on").unwrap();
    assert_eq!(e.sent(), "P(1,N,'goes on')");
}

/// Bytes that a proxy may say when it comes to its end, and the rest of a frame.
fn broken() -> [Vec<u8>; 4] {
    [
        wire::prefixed(b"abc"),
        wire::prefixed(&wire::with(M, wire::rr(9, "xy"))),
        wire::prefixed(&wire::rr(0x8000_0009, "x")),
        b"\0\0\x02xy".to_vec(),
    ]
}

#[test]
fn bytes_that_are_no_frames_cost_a_session_its_transport_alone() {
    for bytes in broken() {
        let mut e = server();
        e.receive(wire::rs(1, 100, "x"));
        e.events();
        e.send(1, "item").unwrap();
        let sent = tracked(&e.sent_frames());
        e.break_with(&bytes);
        let request = wire::rs(1, 100, "x").len();
        // Nor does the position count it: the client has what it has of that.
        assert_eq!(resumed(&mut e, sent, 0) as usize, request);
        assert!(e.is_open(1));
        let stats = e.connection.stats();
        assert_eq!((stats.broken_transports, stats.violations), (1, 0));
    }
    // A session that nobody has accepted yet, and what is no session.
    for bytes in broken() {
        let mut e = Wire::server();
        e.receive_bytes(&bytes);
        e.assert_ended_with(0x101, &bytes);
    }
}

#[test]
fn a_client_that_says_the_same_nonsense_on_each_transport_is_told() {
    let mut e = server();
    for _ in 0..8 {
        e.break_with(b"\0\0\x02xy");
        resumed(&mut e, 0, 0);
    }
    e.receive_bytes(b"\0\0\x02xy");
    e.assert_ended_with(0x101, "again and again");

    // A proxy that ends now and then, and a session that gets on, are something else.
    for gets_on in [true, false] {
        let mut e = server();
        let mut received = 0;
        for round in 0..30 {
            if gets_on {
                let request = wire::fnf(1 + 2 * round, "x");
                received += request.len() as u64;
                e.receive(&request);
                e.events();
            } else {
                // A sign of life, so that it is not the keepalive that ends it.
                for _ in 0..60 {
                    e.advance(1_000);
                    e.receive(wire::ka(0, 0, b""));
                    e.events();
                }
            }
            e.break_with(b"\0\0\x02xy");
            assert_eq!(u64::from(resumed(&mut e, 0, 0)), received);
        }
    }
}

#[test]
fn a_server_that_stops_says_so() {
    let mut e = server();
    e.connection.set_parting_words("the service is stopping");
    e.connection.drain();
    let last = e.sent_frames().pop().expect("an ERROR");
    assert_eq!(
        (last.describe(), &last.data[..]),
        ("ERR(0,0x102)".into(), &b"the service is stopping"[..])
    );
}

#[test]
fn resume_25_40_resume_and_resume_ok_out_of_place() {
    let mut e = server();
    e.receive(wire::resume_ok(0));
    e.assert_silent("RESUME-40");
    e.receive(resume_frame((1, 0), TOKEN, 0, 0));
    e.assert_ended_with(0x101, "RESUME-25: after SETUP");

    let mut e = server();
    cut(&mut e);
    resumed(&mut e, 0, 0);
    e.receive(setup());
    e.assert_silent("SETUP-17: SETUP after RESUME");
    e.receive(resume_frame((1, 0), TOKEN, 0, 0));
    e.assert_ended_with(0x101, "RESUME-25: twice");
}

#[test]
fn resume_28_29_44_the_window_and_its_end() {
    let mut e = server();
    e.receive(wire::rs(1, 100, "x"));
    e.events();
    cut(&mut e);
    assert_eq!(e.deadline(), Some(60_000), "RESUME-44: not the keepalive's");
    e.advance(59_999);
    assert!(e.is_open(1) && e.connection.is_suspended());
    e.advance(1);
    assert_eq!(e.events(), "Closed(ResumeWindowOver)");
    assert!(!e.is_open(1));
    e.assert_dead();
    let now = e.now;
    assert_eq!(e.connection.accept_resume(&resume(0, 0), now), Err(NotResumed::Over));
}

#[test]
fn ka_11_resume_43_a_silent_transport_is_dropped_and_the_session_stays() {
    let mut e = server();
    e.advance(3_000);
    assert_eq!(e.events(), "Suspended");
    assert_eq!(e.sent(), "", "no ERROR: that would end the session");
    resumed(&mut e, 0, 0);
    assert_eq!(e.deadline(), Some(3_000), "RESUME-43");
}

#[test]
fn resume_31_a_second_transport_takes_over_at_once() {
    let mut e = server();
    e.receive(wire::rs(1, 100, "x"));
    e.events();
    e.send(1, "a").unwrap();
    e.sent();
    assert_eq!(resumed(&mut e, 0, 0) as usize, wire::rs(1, 100, "x").len());
    assert_eq!(e.sent(), "P(1,N,'a')");
    e.receive(wire::rr(3, "x"));
    assert_eq!(e.events(), "Request(3,RR,'x')", "RESUME-31");
    // A RESUME that comes late begins from an older position: its client may have more by then.
    e.send(1, "b").unwrap();
    let sent = e.sent_frames()[0].len as u64;
    let (now, late) = (e.now, resume(0, 0));
    e.connection.accept_resume(&late, now).expect("what it has is there");
    assert_eq!(e.events(), "Resumed");
    resumed(&mut e, 2 * sent, 0);
    assert_eq!(e.sent(), "");
}

#[test]
fn resume_33_an_end_on_purpose_is_the_end() {
    let mut e = server();
    e.receive(wire::rs(1, 100, "x"));
    e.receive(wire::err(0, 0x102, b""));
    e.events();
    e.disconnect(None);
    assert_eq!(e.events(), "Closed(peer,0x102,'')");

    let mut e = server();
    e.receive(wire::err(0, 0x101, b""));
    e.disconnect(None);
    assert_eq!(e.events(), "Closed(peer,0x101,'')");

    let mut e = server();
    e.connection.close();
    assert_eq!(e.sent(), "ERR(0,0x102)");
    e.disconnect(None);
    assert_eq!(e.events(), "Closed(Local)");

    let mut e = server();
    cut(&mut e);
    e.connection.close();
    assert_eq!(e.events(), "Closed(Local)");
    e.assert_dead();
}

#[test]
fn a_drain_waits_for_streams_of_a_suspended_session_and_not_for_an_idle_one() {
    let mut e = server();
    cut(&mut e);
    e.connection.drain();
    assert_eq!(e.events(), "Closed(Local)");

    let mut e = server();
    e.receive(wire::rr(1, "x"));
    e.events();
    cut(&mut e);
    e.connection.drain();
    assert_eq!(e.events(), "");
    resumed(&mut e, 0, 0);
    e.send_last(1, "y").unwrap();
    assert_eq!(e.sent(), "P(1,N+C,'y') ERR(0,0x102)");
}

#[test]
fn resume_35_positions_that_cannot_be_are_ignored() {
    let mut e = server();
    e.receive(wire::rs(1, 100, "x"));
    e.events();
    for _ in 0..3 {
        e.send(1, "item").unwrap();
    }
    let sent = tracked(&e.sent_frames());
    for position in [999_999, 3, sent + 1, u64::MAX, 0] {
        e.receive(wire::ka(R, position, b""));
        let position = wire::rs(1, 100, "x").len();
        assert_eq!(e.sent(), format!("KA({position},'')"));
    }
    cut(&mut e);
    resumed(&mut e, 0, 0);
    assert_eq!(tracked(&e.sent_frames()), sent, "everything is there still");
}

#[test]
fn resume_34_37_a_full_buffer_asks_waits_and_goes_on() {
    let mut e = server_with(limits(4_000));
    e.receive(wire::rs(1, wire::MAX, "x"));
    e.events();
    assert!(e.send_up_to(1, 10_000) < 450);
    let frames = e.sent_frames();
    let asks = frames.iter().filter(|frame| frame.kind == 0x03 && frame.has(R)).count();
    assert_eq!(asks, 1, "the peer is asked what it has");
    let sent = tracked(&frames);
    assert!(e.connection.is_held());
    assert_eq!(e.sent(), "", "nothing more is written");
    // Control is not held back.
    e.receive(wire::ka(R, 0, b"x"));
    assert!(e.sent().starts_with("KA("));
    e.receive(wire::ka(0, sent, b""));
    e.events();
    assert!(!e.connection.is_held());
    assert!(tracked(&e.sent_frames()) > 0);
    assert_eq!(e.connection.stats().retention_overflows, 0);
}

#[test]
fn resume_36_37_a_peer_that_never_acknowledges_is_not_waited_for() {
    let mut e = server_with(limits(4_000));
    e.receive(wire::rs(1, wire::MAX, "x"));
    e.events();
    let mut items = 0;
    for _ in 0..1_000 {
        items += e.send_up_to(1, 100);
        for frame in e.sent_frames() {
            if frame.kind == 0x03 && frame.has(R) {
                e.receive(wire::ka(0, 0, b""));
            }
        }
        e.events();
    }
    assert!(items > 10_000, "{items}");
    assert!(e.connection.stats().retention_overflows > 0);
    assert!(e.connection.retained_bytes() < 4_500);
    // What is dropped cannot be asked for.
    cut(&mut e);
    let now = e.now;
    let refused = e.connection.accept_resume(&resume(0, 0), now);
    assert!(matches!(refused, Err(NotResumed::Positions(_))), "RESUME-36: {refused:?}");
}

#[test]
fn resume_37_answers_to_what_was_asked_before_are_not_those_of_a_peer_that_never_acknowledges() {
    let mut e = server_with(limits(4_000));
    e.receive(wire::rs(1, wire::MAX, "x"));
    e.events();
    let ask = |e: &mut Wire| {
        for _ in 0..10 {
            e.connection.ping(b"".as_slice().into()).expect("a few may wait");
        }
        e.sent_frames()
    };
    // A slow link: all of these are answered after everything there is room for was written.
    ask(&mut e);
    e.send_up_to(1, 10_000);
    let sent = tracked(&e.sent_frames());
    ask(&mut e);
    for _ in 0..10 {
        e.receive(wire::ka(0, 0, b""));
        e.events();
        assert!(e.connection.is_held());
    }
    // The next answers free it, once, and what is written then is not in those under way.
    e.receive(wire::ka(0, sent, b""));
    e.events();
    while !e.connection.is_held() {
        e.send_up_to(1, 10);
        e.sent_frames();
    }
    for _ in 0..10 {
        assert!(e.connection.is_held());
        e.receive(wire::ka(0, sent, b""));
        e.events();
    }
    assert_eq!(e.connection.stats().retention_overflows, 0);
    // Nor is one that waits until all is there again.
    cut(&mut e);
    let now = e.now;
    e.connection.accept_resume(&resume(sent, 0), now).expect("nothing is missing");
}

#[test]
fn refusals_do_not_wait_for_an_answer_that_is_not_read_before_they_are_written() {
    let mut config = limits(1_000);
    (config.max_streams, config.max_queued_replies) = (1, 2);
    let mut e = server_with(config);
    e.receive(wire::rs(1, wire::MAX, "x"));
    e.events();
    e.send_up_to(1, 100);
    e.sent();
    assert!(e.connection.is_held());
    e.receive_all([wire::rr(3, "x"), wire::rr(5, "x")]);
    assert!(!e.connection.wants_input());
    assert!(e.connection.wants_output());
    assert!(e.sent().contains("ERR(3,0x202)"));
    assert!(e.connection.wants_input());
    assert!(e.connection.stats().retention_overflows > 0);
}

#[test]
fn resume_37_h119_apart_producers_are_held_and_nothing_is_lost() {
    let mut e = server_with(limits(4_000));
    e.receive(wire::rs(1, wire::MAX, "x"));
    e.events();
    cut(&mut e);
    let mut items = 0;
    while e.stream(1).capacity() > 0 && items < 10_000 {
        e.send(1, "item").unwrap();
        items += 1;
        e.transmit();
    }
    assert!(items < 350, "{items}");
    assert!(e.connection.is_held() && e.connection.retained_bytes() < 4_500);
    resumed(&mut e, 0, 0);
    let mut seen = 0;
    for _ in 0..10 {
        let frames = e.sent_frames();
        seen += frames.iter().filter(|frame| frame.kind == 0x0A).count();
        let (sent, _) = e.connection.positions().unwrap();
        e.receive(wire::ka(0, sent, b""));
        e.events();
    }
    assert_eq!(seen, items);
}

#[test]
fn frag_29_a_payload_goes_on_where_the_transport_was_cut() {
    let mut e = server();
    e.receive_all([wire::with(F, wire::rr(1, "be")), wire::p(1, F | N, "gin")]);
    cut(&mut e);
    let position = [wire::with(F, wire::rr(1, "be")), wire::p(1, F | N, "gin")].concat().len();
    assert_eq!(resumed(&mut e, 0, 0) as usize, position);
    e.receive(wire::p(1, N, " and end"));
    assert_eq!(e.events(), "Request(1,RR,'begin and end')");
    // Our own fragments as well: the cut comes between two of them.
    e.send_last(1, vec![1; 1_000]).unwrap();
    e.sent_next(2);
    let (half, _) = e.connection.positions().unwrap();
    cut(&mut e);
    resumed(&mut e, half, position as u64);
    let frames = e.sent_frames();
    assert!(frames.last().is_some_and(|frame| frame.has(C)));
    assert!(frames.iter().all(|frame| frame.kind == 0x0A));
}

#[test]
fn resume_39_requests_behind_resume_are_served_after_the_replay() {
    let mut e = server();
    e.receive(wire::rs(1, 100, "x"));
    e.events();
    e.send(1, "a").unwrap();
    e.sent();
    cut(&mut e);
    let now = e.now;
    e.connection.accept_resume(&resume(0, 0), now).unwrap();
    e.receive(wire::rr(3, "behind"));
    assert_eq!(e.events(), "Resumed Request(3,RR,'behind')");
    e.send_last(3, "b").unwrap();
    let seen = e.sent();
    assert_eq!(seen, "0x0e(0) P(1,N,'a') P(3,N+C,'b')");
}

/// Or its owner would not know that the peer has used it up, and the peer would wait.
#[test]
fn lease_06_after_a_resume_requests_spend_the_new_lease() {
    let mut e = Wire::fresh_server(Config { leases: true, ..limits(1 << 20) });
    let len = (TOKEN.len() as u16).to_be_bytes();
    let body = [&len, TOKEN, b"\x03a/b\x03c/d"].concat();
    e.receive(wire::setup_of(R | L, (1, 0), 1_000, 3_000, &body));
    assert_eq!(e.events(), "Setup");
    e.connection.accept(e.now);
    let ttl = Duration::from_secs(1);
    e.connection.grant_lease(5, ttl, None, e.now).expect("leases were agreed upon");
    cut(&mut e);
    resumed(&mut e, 0, 0);
    e.connection.grant_lease(5, ttl, None, e.now).expect("there is a transport");
    e.receive_all([1, 3, 5].map(|id| wire::rr(id, "x")));
    assert_eq!(e.connection.granted_permits(), Some(2));
}

/// They were allowed when they were sent, and no lease of the new transport is there yet (LEASE-20).
#[test]
fn resume_13_lease_11_requests_of_the_replay_need_no_new_lease() {
    let mut e = Wire::fresh_server(Config { leases: true, ..limits(1 << 20) });
    let len = (TOKEN.len() as u16).to_be_bytes();
    e.receive(wire::setup_of(
        R | L,
        (1, 0),
        1_000,
        3_000,
        &[&len, TOKEN, b"\x03a/b\x03c/d"].concat(),
    ));
    assert_eq!(e.events(), "Setup");
    e.connection.accept(e.now);
    let grant = |e: &mut Wire, n| {
        let ttl = Duration::from_secs(1);
        e.connection.grant_lease(n, ttl, None, e.now).expect("leases were agreed upon");
    };
    grant(&mut e, 3);
    assert_eq!(e.sent(), "0x02(0)");
    e.receive(wire::rr(1, "x"));
    e.events();
    cut(&mut e);
    // Two more may have been under way, and not three.
    resumed(&mut e, 0, 0);
    e.receive_all([3, 5, 7].map(|id| wire::rr(id, "x")));
    assert_eq!(e.connection.stats().requests_in, 3);
    assert_eq!(e.sent(), "ERR(7,0x202)");
    e.events();

    // What was allowed then is not added to what is allowed now for ever.
    grant(&mut e, 2);
    cut(&mut e);
    resumed(&mut e, 0, 0);
    grant(&mut e, 0);
    e.sent();
    e.advance(1_051);
    e.receive(wire::rr(9, "x"));
    assert_eq!(e.sent(), "ERR(9,0x202)");
}

#[test]
fn a_channel_goes_on_in_both_directions() {
    let mut e = server();
    e.receive(wire::rc(1, 2, "first"));
    e.events();
    e.stream(1).request_n(3);
    e.send(1, "one").unwrap();
    let sent = tracked(&e.sent_frames());
    e.receive(wire::p(1, N, "second"));
    assert_eq!(e.events(), "Item(1,'second')");
    cut(&mut e);
    let received = wire::rc(1, 2, "first").len() + wire::p(1, N, "second").len();
    assert_eq!(resumed(&mut e, sent, 0) as usize, received);
    e.receive_all([wire::p(1, N, "third"), wire::rn(1, 1), wire::p(1, N | C, "fourth")]);
    assert_eq!(e.events(), "Item(1,'third') Item(1,'fourth',last)");
    e.send(1, "two").unwrap();
    e.send_last(1, "three").unwrap();
    assert_eq!(e.sent(), "P(1,N,'two') P(1,N+C,'three')");
    e.assert_idle();
}

#[test]
fn lease_20_resume_14_requests_that_come_again_are_covered_by_the_lease_they_were_sent_under() {
    let mut e = Wire::fresh_server(Config { leases: true, ..limits(1 << 20) });
    let grant = |e: &mut Wire, n: u32| {
        let minute = Duration::from_secs(60);
        e.connection.grant_lease(n, minute, None, e.now).expect("leases were agreed upon");
        assert_eq!(e.sent(), "0x02(0)");
    };
    e.receive(wire::with(L, setup()));
    e.events();
    e.connection.accept(e.now);
    grant(&mut e, 2);
    // Two were sent, and lost; another cut, and nothing came again.
    for _ in 0..2 {
        cut(&mut e);
        resumed(&mut e, 0, 0);
    }
    grant(&mut e, 1);
    for id in [1, 3, 5, 7] {
        e.receive(wire::rr(id, "x"));
    }
    assert_eq!(e.events(), "Request(1,RR,'x') Request(3,RR,'x') Request(5,RR,'x')");
    assert_eq!(e.sent(), "ERR(7,0x202)");
}
