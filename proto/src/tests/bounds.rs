//! Bounds on what a peer can make us hold and do (DOS).

use super::{
    fragment_in::openings,
    peer::{FNF, RC, RR, RS, Wire},
    wire::*,
};
use crate::{Config, Connection, ControlError, RequestError, ResumeLimits, SendBuf};

fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    change(&mut config);
    config
}

#[test]
fn dos_02_streams_beyond_the_limit_are_refused() {
    let mut e = Wire::server_with(config(|config| config.max_streams = 2));
    e.receive_all([rr(1, "a"), rs(3, 1, "b"), rc(5, 1, "c"), rr(7, "d")]);
    assert_eq!(e.events(), "Request(1,RR,'a') Request(3,RS,'b')");
    assert_eq!(e.sent(), "ERR(5,0x202) ERR(7,0x202)");
    assert_eq!(e.connection.stats().refused_streams, 2);
    e.receive(p(5, N, "x")); // RC-23
    e.assert_silent("refused");
    // One ends, one more may come. Our own do not count.
    e.request(RR, "own", 0);
    e.receive_all([can(1), rr(9, "e"), rr(11, "f")]);
    assert_eq!(e.events(), "Cancelled(1) Request(9,RR,'e')");
    assert_eq!(e.sent(), "ERR(11,0x202) RR(2,'own')");
    e.send_last(9, "r").unwrap();
    e.sent();
    e.fence("DOS-02");
}

#[test]
fn dos_02_running_fire_and_forgets_count_and_are_dropped_beyond() {
    let mut e = Wire::server_with(config(|config| config.max_streams = 3));
    e.receive_all((0..100).map(|_| fnf(1, "d"))); // H081
    assert_eq!(e.connection.open_streams(), 3);
    assert_eq!(e.connection.stats().dropped_fire_and_forget, 97);
    assert_eq!(e.sent(), "", "FNF-01");
    e.events();
    e.receive(rr(3, "d"));
    assert_eq!(e.sent(), "ERR(3,0x202)");
    e.stream(1).complete().unwrap();
    e.fence("DOS-02");
}

#[test]
fn requests_hold_no_more_bytes_than_they_may() {
    let mut e = Wire::server_with(config(|config| config.max_request_bytes = 100));
    let sixty = "x".repeat(60);
    e.receive_all([rr(1, &sixty), rr(3, &sixty), fnf(5, &sixty), rr(7, "small")]);
    assert_eq!(e.events(), "Request(1,RR,<60>) Request(7,RR,'small')");
    assert_eq!(e.sent(), "ERR(3,0x202)");
    let metadata = [&metadata(&sixty)[..], b"d"].concat();
    e.receive(raw(9, 0x04, M, &[&metadata]));
    assert_eq!(e.sent(), "ERR(9,0x202)", "metadata counts");
    e.receive(can(1));
    e.receive(fnf(5, &sixty));
    assert_eq!(e.events(), "Cancelled(1) Request(5,FNF,<60>)");
    e.receive(rr(11, &sixty));
    assert_eq!(e.sent(), "ERR(11,0x202)");
    e.stream(5).complete().unwrap();
    e.receive(rr(13, &sixty));
    assert_eq!(e.events(), "Request(13,RR,<60>)");
}

#[test]
fn dos_01_a_peer_that_reads_no_refusals_is_not_read_from() {
    let mut e = Wire::server_with(config(|config| {
        config.max_streams = 0;
        config.max_queued_replies = 10;
    }));
    e.receive_all((0..25).map(|n| rr(2 * n + 1, "d")));
    assert!(!e.connection.wants_input());
    // What it has read makes room for what it said meanwhile.
    let refused: Vec<_> = std::iter::from_fn(|| {
        let sent = e.sent_frames().len();
        e.receive_all(std::iter::empty::<Vec<u8>>());
        (sent > 0).then_some(sent)
    })
    .collect();
    assert_eq!(refused, [10, 10, 5]);
    e.receive(ka(R, 0, b"k"));
    assert_eq!(e.sent(), "KA(0,'k')");
}

#[test]
fn dos_02_a_peer_that_reads_them_is_served_on() {
    let mut e = Wire::server_with(config(|config| config.max_streams = 1));
    e.receive(rr(1, "never"));
    e.events();
    // As many as may wait, again and again.
    for _ in 0..4 {
        e.receive_all((0..1_000).map(|n| rr(2 * n + 3, "")));
        assert_eq!(e.sent_frames().len(), 1_000);
    }
    e.receive(can(1));
    assert_eq!(e.events(), "Cancelled(1)");
    e.fence("DOS-02");
}

#[test]
fn a_read_leaves_a_bounded_number_of_events() {
    let mut e = Wire::server();
    e.receive_all((0..10_000).map(|_| mp("m"))); // H130, MDP-08
    assert!(!e.connection.wants_input());
    assert!(e.untaken() > 0);
    let mut waiting = 0;
    while e.poll_event().is_some() {
        waiting += 1;
    }
    assert_eq!(waiting, 256);
    assert!(e.connection.wants_input());
    assert_eq!(e.events().matches("Push").count(), 10_000 - 256);
    assert_eq!(e.untaken(), 0);
}

#[test]
fn h009_ten_thousand_frames_in_one_write_are_served_in_order() {
    let mut e = Wire::server_with(config(|config| config.max_streams = 20_000));
    e.receive_all((0..10_000).map(|n| rr(2 * n + 1, "d")));
    assert_eq!(e.events().matches("Request(").count(), 10_000);
    for n in 0..10_000 {
        e.send_last(2 * n + 1, "r").unwrap();
    }
    let ids: Vec<u32> = e.sent_frames().iter().map(|frame| frame.stream).collect();
    assert_eq!(ids, (0..10_000).map(|n| 2 * n + 1).collect::<Vec<_>>());
    e.assert_idle();
}

#[test]
fn dos_03_requests_and_cancels_in_pairs_leave_nothing() {
    let mut e = Wire::server();
    for _ in 0..100 {
        e.receive_all((0..100).flat_map(|n| [rr(2 * n + 1, "d"), can(2 * n + 1)])); // H079
        e.events();
        e.assert_idle();
    }
    assert_eq!(e.sent(), "");
    assert_eq!(e.connection.stats().requests_in, 10_000);
}

#[test]
fn dos_03_answers_given_and_cancelled_leave_no_entries_to_write() {
    let mut e = Wire::server();
    for n in 0..10_000 {
        let id = 2 * (n % 50) + 1;
        e.receive(rr(id, "d"));
        e.events();
        e.send_last(id, "r").unwrap();
        e.receive(can(id));
        e.events();
    }
    assert_eq!(e.connection.open_streams(), 0);
    assert_eq!(e.sent(), "");
    e.assert_idle();
    e.fence("DOS-03");
}

#[test]
fn h067_an_endless_stream_stops_at_the_send_buffer() {
    let mut e = Wire::server();
    e.receive(rs(1, MAX, "inf"));
    e.events();
    let item = crate::Payload::new(vec![0; 1_000]);
    let mut given = 0;
    for _ in 0..1_000 {
        while e.stream(1).send(item.clone()).is_ok() {
            given += 1;
        }
        e.transmit();
    }
    assert!(e.transmit() < (64 << 10) + 1_010);
    assert!(given <= 64 + 1 + 32, "{given}");
}

/// Each bound says which it is.
#[test]
fn dos_02_a_refusal_names_the_bound_that_was_reached() {
    let too_many = config(|config| config.max_streams = 0);
    let too_large = config(|config| config.max_request_bytes = 1);
    let whole = vec![rr(1, "ab")];
    let joined = vec![with(F, rr(1, "a")), p(1, N, "b")];
    for (config, frames, text) in [
        (&too_many, &whole, "too many open streams"),
        (&too_many, &joined, "too many open streams"),
        (&too_large, &whole, "hold as many bytes as they may"),
        (&too_large, &joined, "hold as many bytes as they may"),
    ] {
        let mut e = Wire::server_with(config.clone());
        for frame in frames {
            e.receive(frame.clone());
        }
        let answer = e.sent_frames().remove(0);
        let told = String::from_utf8_lossy(&answer.data);
        assert!(told.contains(text) && told.contains("try again"), "{told}");
    }
}

#[test]
fn pushes_that_wait_are_bounded() {
    let mut e = Wire::server_with(config(|config| config.max_queued_replies = 3));
    for _ in 0..3 {
        e.connection.push_metadata("m".into()).unwrap();
    }
    let refused = e.connection.push_metadata("m".into());
    assert_eq!(refused, Err(ControlError::QueueFull));
    assert_eq!(e.connection.stats().refused_calls, 1);
    assert_eq!(e.sent(), "MP('m') MP('m') MP('m')");
    let huge = vec![0; 0xFF_FFFF - 5];
    let refused = e.connection.push_metadata(huge.into());
    assert_eq!(refused, Err(ControlError::PayloadTooLarge { len: 0x100_0000 }));
}

#[test]
fn frame_02_what_does_not_fit_a_frame_is_refused_and_nothing_kept() {
    let mut e = Wire::client_with(config(|config| config.fragment_bytes = None));
    for (interaction, spare) in [(RR, 4), (RS, 0), (FNF, 4), (RC, 0)] {
        let fits = vec![0; 0xFF_FFFF - 10];
        e.connection.request(interaction, fits.into(), 1).unwrap();
        let too_large = vec![0; 0xFF_FFFF - 10 + spare + 1];
        let refused = e.connection.request(interaction, too_large.into(), 1);
        assert!(matches!(refused, Err(RequestError::PayloadTooLarge { .. })));
    }
    assert_eq!(e.connection.open_streams(), 4);
    assert_eq!(e.sent_frames().len(), 4);
}

/// What both sides may do to streams, at random; then everything ends.
#[test]
fn ten_thousand_random_lives_leave_nothing() {
    for server in [true, false] {
        let mut rng = Rng::new(7);
        let mut e = if server { Wire::server() } else { Wire::client() };
        let parity = u32::from(server);
        let mut live: Vec<u32> = Vec::new();
        let mut opened = 0;
        while opened < 10_000 || !live.is_empty() {
            if opened < 10_000 && live.len() < 200 && rng.one_in(3) {
                opened += 1;
                let id = 2 * rng.below(5_000) as u32 + 2 - parity;
                match rng.below(8) {
                    0 => e.receive(rr(id, "d")),
                    // Not the id of another: the test finds streams by their ids.
                    1 => e.receive(fnf(20_000 + 2 * opened + parity, "d")),
                    2 => e.receive(rs(id, 2, "d")),
                    3 => e.receive(rc(id, 2, "d")),
                    4 => live.push(e.request(RR, "d", 0)),
                    5 => live.push(e.request(FNF, "d", 0)),
                    6 => live.push(e.request(RS, "d", 2)),
                    _ => live.push(e.request(RC, "d", 2)),
                }
                while let Some(event) = e.poll_event() {
                    if let crate::Event::Request { key, .. } = event {
                        live.push(key.id().get());
                    }
                }
            }
            if live.is_empty() {
                continue;
            }
            let at = rng.below(live.len());
            let id = live[at];
            if !e.is_open(id) {
                live.swap_remove(at);
                continue;
            }
            match rng.below(12) {
                0 => e.receive(can(id)),
                1 => e.receive(p(id, N, "x")),
                2 => e.receive(p(id, C, "")),
                3 => e.receive(p(id, N | C, "x")),
                4 => e.receive(err(id, 0x201, b"")),
                5 => e.receive(rn(id, 2)),
                6 => drop(e.send(id, "x")),
                7 => drop(e.send_last(id, "x")),
                8 => drop(e.stream(id).complete()),
                9 => drop(e.fail(id, 0x201)),
                10 => e.stream(id).cancel(),
                _ => e.stream(id).request_n(1),
            }
            if rng.one_in(4) {
                e.sent();
            }
            e.events();
        }
        e.sent();
        e.events();
        e.assert_idle();
        e.fence("no leaks");
    }
}

/// Whoever runs a service sees which bound was reached.
/// H127: of the texts of a peer's errors little is kept, wherever they stand, and nothing of the
/// buffer they came in.
#[test]
fn err_03_long_texts_of_errors_are_cut_on_receipt() {
    let long = vec![b'E'; 1 << 20];
    let kept = format!("{}…", "E".repeat(1 << 10));

    let mut e = Wire::client();
    e.request(RR, "d", 0);
    e.sent();
    e.receive(err(1, 0x201, &long));
    assert_eq!(e.events(), format!("Failed(1,0x201,'{kept}')"));
    assert_eq!(e.connection.stats().cut_error_texts, 1);
    e.receive(err(0, 0x101, &long));
    assert_eq!(e.events(), format!("Closed(peer,0x101,'{kept}')"));
    assert_eq!(e.connection.stats().cut_error_texts, 2);

    let mut e = Wire::fresh_client(config(|config| config.max_error_text_bytes = 5));
    e.sent();
    e.receive(err(0, 0x3, &long));
    assert_eq!(e.events(), "Closed(peer,0x3,'EEEEE…')");
}

#[test]
fn every_end_by_a_bound_is_counted() {
    let mut e = Wire::server();
    e.receive(rr(MAX + 2, "reserved"));
    assert_eq!(e.connection.stats().violations, 1);
    let mut e = Wire::fresh_server(Config::default());
    e.advance(10_000);
    let stats = e.connection.stats();
    assert_eq!((stats.setup_timeouts, stats.violations), (1, 0));
    let mut e = Wire::server();
    e.advance(3_600_000);
    let stats = e.connection.stats();
    assert_eq!((stats.keepalive_timeouts, stats.violations), (1, 0));
    let mut e = Wire::server_with(config(|config| {
        config.max_streams = 0;
        config.max_queued_replies = 10;
    }));
    e.receive_all((0..25).map(|n| rr(2 * n + 1, "d")));
    assert_eq!(e.connection.stats().paused_reads, 1);
    e.sent();
    e.receive_all(std::iter::empty::<Vec<u8>>());
    assert_eq!(e.connection.stats().paused_reads, 2);
}

/// Beyond its allowance a connection is refused what it may refuse, and goes on with what it has.
#[test]
fn beyond_the_memory_there_is_new_work_is_refused() {
    let mut e = Wire::server();
    e.receive(rs(1, 5, "before"));
    e.events();
    e.connection.allow_memory(e.connection.held_bytes());
    e.receive_all([rr(3, ""), rs(5, 1, ""), rc(7, 1, ""), fnf(9, "")]);
    assert_eq!(e.sent(), "ERR(3,0x202) ERR(5,0x202) ERR(7,0x202)");
    assert_eq!(e.connection.stats().refused_memory, 4);
    assert_eq!(e.connection.stats().dropped_fire_and_forget, 1);
    e.send(1, "item").unwrap();
    assert_eq!(e.sent(), "P(1,N,'item')", "what is open goes on");
    e.connection.allow_memory(e.connection.held_bytes() + 10_000);
    e.receive_all([rr(3, &"x".repeat(5_000)), rr(11, &"x".repeat(5_000))]);
    assert_eq!(e.events(), "Request(3,RR,<5000>)");
    assert_eq!(e.sent(), "ERR(11,0x202)");
}

#[test]
fn beyond_the_memory_there_is_payloads_in_fragments_are_given_up() {
    for (opening, kind) in openings() {
        let mut e = Wire::server();
        e.receive(opening);
        e.connection.allow_memory(e.connection.held_bytes() + 2_000);
        e.receive(p(1, F | N, &"x".repeat(1_000)));
        assert!(e.connection.reassembly_bytes() > 1_000, "{kind:?}");
        e.receive(p(1, F | N, &"x".repeat(2_000)));
        assert_eq!(e.connection.reassembly_bytes(), 0, "{kind:?}");
        assert_eq!(e.connection.stats().refused_memory, 1);
        e.sent();
        e.assert_idle();
    }
}

#[test]
fn beyond_the_memory_there_is_little_is_retained_and_nothing_lost() {
    let config = Config { resume: Some(ResumeLimits::default()), ..Config::default() };
    let mut e = Wire::fresh_server(config);
    e.receive(super::resume::setup_of(b"token"));
    e.connection.accept(e.now);
    e.receive(rs(1, MAX, "x"));
    e.events();
    e.connection.allow_memory(0);
    let sent = e.send_up_to(1, 10_000);
    assert!((10..500).contains(&sent), "{sent}");
    assert!(e.connection.is_held());
    e.connection.allow_memory(usize::MAX);
    e.sent();
    assert_eq!(e.send_up_to(1, 1_000), 1_000, "it goes on as soon as there is memory");
}

/// A retained frame takes a block, which an allocator rounds up.
#[test]
fn what_is_retained_counts_as_the_memory_it_takes() {
    let config = Config { resume: Some(ResumeLimits::default()), ..Config::default() };
    for (item_bytes, at_least, at_most) in [(10, 1 << 10, 2 << 10), (16 << 10, 20 << 10, 21 << 10)]
    {
        let mut e = Wire::fresh_server(config.clone());
        e.receive(super::resume::setup_of(b"token"));
        e.connection.accept(e.now);
        e.receive(rs(1, MAX, "x"));
        e.events();
        let before = e.connection.held_bytes();
        e.send(1, crate::Payload::from("x".repeat(item_bytes))).unwrap();
        e.sent();
        let taken = e.connection.held_bytes() - before;
        assert!((at_least..at_most).contains(&taken), "{taken} for {item_bytes}");
    }
}

/// Whoever has nothing open is answered, however much others hold.
#[test]
fn one_small_request_is_taken_without_any_memory() {
    let mut e = Wire::server();
    e.connection.allow_memory(0);
    for id in [1, 5, 9] {
        let large = "x".repeat(5_000);
        e.receive_all([rs(id, 1, ""), rr(id, &large), rr(id, "small"), rr(id + 2, "another")]);
        assert_eq!(e.events(), format!("Request({id},RR,'small')"));
        e.send_last(id, "r").unwrap();
        let next = id + 2;
        let refused = format!("ERR({id},0x202) ERR({id},0x202) ERR({next},0x202)");
        assert_eq!(e.sent(), format!("{refused} P({id},N+C,'r')"));
    }
}

/// What is read lies in blocks; what is kept for long keeps none of them.
#[test]
fn what_outlives_its_read_is_copied() {
    let now = super::peer::some_instant();
    let config = Config { resume: Some(ResumeLimits::default()), ..Config::default() };
    let mut connection = Connection::server(std::sync::Arc::new(config), now);
    let frames = [super::resume::setup_of(b"token"), ka(R, 0, b"echo me")];
    let mut kept = Vec::new();
    for frame in frames {
        let block = bytes::Bytes::from(frame.to_vec());
        connection.handle_frame(block.clone(), now);
        kept.extend(std::iter::from_fn(|| connection.poll_event()));
        connection.accept(now);
        assert!(block.is_unique(), "{kept:?}");
    }
    let mut out = SendBuf::bare();
    connection.poll_transmit(&mut out);
    assert!(!out.is_empty(), "the echo");
}

/// One part of a payload, kept alone, does not keep the other.
#[test]
fn a_small_part_of_a_large_frame_is_copied() {
    for (metadata_len, data_len) in [(100_000, 10), (10, 100_000), (0, 100_000), (100_000, 0)] {
        let text = "m".repeat(metadata_len);
        let body = [&metadata(&text)[..], "d".repeat(data_len).as_bytes()].concat();
        let mut e = Wire::server();
        let block = bytes::Bytes::from(raw(1, 0x04, M, &[&body]));
        e.connection.handle_frame(block.clone(), e.now);
        let Some(crate::Event::Request { mut payload, .. }) = e.poll_event() else { panic!() };
        assert_eq!(payload.size(), metadata_len + data_len);
        if metadata_len > data_len {
            payload.metadata = None;
        } else {
            payload.data = bytes::Bytes::new();
        }
        assert!(block.is_unique());
    }
}

/// A table that was full once does not stay as large.
#[test]
fn places_of_streams_that_are_over_are_given_back() {
    let mut e = Wire::server();
    e.receive_all((0..4_000).map(|n| rs(2 * n + 1, 1, "")));
    e.events();
    let full = e.connection.held_bytes();
    e.receive_all((0..4_000).map(|n| can(2 * n + 1)));
    e.events();
    // What comes in bursts finds its places again.
    e.connection.release_memory();
    assert_eq!(e.connection.held_bytes(), full);
    for _ in 0..3 {
        assert_eq!(e.connection.held_bytes(), full);
        e.receive_all([rs(8_001, 1, ""), can(8_001)]);
        e.events();
        e.connection.release_memory();
    }
    assert!(e.connection.held_bytes() < full / 30, "{}", e.connection.held_bytes());
    e.receive(rs(8_001, 1, "again"));
    assert_eq!(e.events(), "Request(8001,RS,'again')");
}
