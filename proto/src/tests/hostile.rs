//! Frames that no honest peer sends: no panic, no endless loop, nothing unbounded (DOS-04, H019, H020).

use super::{
    peer::{RC, RR, RS, Wire},
    wire::*,
};
use crate::{Config, Event};

/// Every kind of honest frame, on one of a few streams.
fn honest(rng: &mut Rng) -> Bytes {
    let id = rng.below(7) as u32;
    let n = [0, 1, 2, 5, MAX, MAX + 1, u32::MAX][rng.below(7)];
    let flags = [0, N, C, N | C, F | N, F | N | C, F][rng.below(7)];
    let text = ["", "d", "data"][rng.below(3)];
    match rng.below(16) {
        0 => rr(id, text),
        1 => fnf(id, text),
        2 => rs(id, n, text),
        3 => with(flags & (C | F), rc(id, n, text)),
        4 => rn(id, n),
        5 => can(id),
        6..=8 => p(id, flags, text),
        9 => err(id, [0, 1, 3, 0x201, 0x203, 0x301, n][rng.below(7)], b"\xff"),
        10 => ka(if rng.one_in(2) { R } else { 0 }, u64::from(n), b"k"),
        11 => mp(text),
        12 => raw(id, 0x0A, flags | M, &[&metadata(text), b"d"]),
        13 => with(F, rr(id, text)),
        14 => [lease(id), resume_ok(id), setup(), ext(id, I, n)][rng.below(4)].clone(),
        _ => raw(id, rng.below(64) as u8, I | rng.below(1024) as u16, &[b"body"]),
    }
}

/// Now and then something is wrong with it.
fn mutated(rng: &mut Rng) -> Bytes {
    let mut frame = honest(rng);
    match rng.below(200) {
        0 => {
            let at = rng.below(frame.len());
            frame[at] ^= 1 << rng.below(8);
        }
        1 => frame.truncate(rng.below(frame.len() + 1)),
        2 => frame = (0..6 + rng.below(20)).map(|_| rng.below(256) as u8).collect(),
        3 => frame.extend([0xFF; 9]),
        4 => frame = err(0, [0x101, 0x102][rng.below(2)], b""),
        _ => {}
    }
    frame
}

/// An application that does anything it may, at random.
fn act(e: &mut Wire, rng: &mut Rng, known: &mut Vec<crate::StreamKey>) {
    while let Some(event) = e.poll_event() {
        if let Event::Request { key, .. } = event {
            known.push(key);
        }
    }
    if known.len() > 20 {
        known.drain(..10);
    }
    if rng.one_in(8) {
        let interaction = [RR, RS, RC][rng.below(3)];
        if let Ok(key) = e.connection.request(interaction, "own".into(), 2) {
            known.push(key);
        }
    }
    if known.is_empty() {
        return;
    }
    let key = known[rng.below(known.len())];
    let Some(mut stream) = e.connection.stream(key) else {
        return;
    };
    // What is refused is refused.
    let _ = match rng.below(10) {
        0..=2 => stream.send("item".into()),
        3 => stream.send_last("last".into()),
        4 => stream.complete(),
        5 => stream.fail(crate::StreamError::new(crate::ErrorCode(0x201), "no")),
        6 => {
            stream.cancel();
            Ok(())
        }
        _ => {
            stream.request_n(rng.below(3) as u32);
            Ok(())
        }
    };
}

#[test]
fn dos_04_random_frames_do_not_break_it() {
    let mut frames = 0;
    let mut seed = 0;
    while frames < 200_000 {
        seed += 1;
        let mut rng = Rng::new(seed);
        let config = Config { max_streams: 4, ..Config::default() };
        let mut e =
            if seed % 2 == 0 { Wire::server_with(config) } else { Wire::client_with(config) };
        let mut known = Vec::new();
        for _ in 0..500 {
            frames += 1;
            e.receive(mutated(&mut rng));
            act(&mut e, &mut rng, &mut known);
            if rng.one_in(4) {
                // Every frame written is read by the tests' own reader.
                e.sent_frames();
            }
            if rng.one_in(100) {
                e.advance(500);
            }
            assert!(e.connection.open_streams() <= 4 + 100, "seed {seed}");
            if e.connection.is_closed() {
                break;
            }
        }
        if !e.connection.is_closed() {
            // Whatever happened, it can be closed.
            e.connection.close();
        }
        e.sent_frames();
        while let Some(event) = e.poll_event() {
            let last = matches!(event, Event::Closed(_));
            assert_eq!(last, !e.connection.has_events(), "seed {seed}");
        }
        assert!(e.connection.is_closed(), "seed {seed}");
        assert_eq!(e.connection.open_streams(), 0, "seed {seed}");
    }
}

#[test]
fn h019_every_type_with_every_flag_pattern() {
    // One endpoint for all patterns that leave it alive.
    for fresh in [Wire::server, Wire::client] {
        let mut e = fresh();
        for word in 0..=u16::MAX {
            let id = u32::from(word % 3);
            e.receive([&id.to_be_bytes()[..], &word.to_be_bytes()].concat());
            e.events();
            e.sent_frames();
            if e.connection.is_closed() {
                e = fresh();
            }
        }
    }
}

#[test]
fn h019_every_type_with_every_flag_pattern_as_first_frame() {
    for word in 0..=u16::MAX {
        let mut e = Wire::fresh_server(Config::default());
        e.receive([&[0, 0, 0, 0][..], &word.to_be_bytes()].concat());
        assert!(e.connection.has_events(), "{word:#x}");
        assert_eq!(e.sent_frames().len(), 1, "{word:#x}");
        assert!(e.connection.is_closed(), "{word:#x}");
    }
}

#[test]
fn random_bytes_as_a_stream_do_not_break_it() {
    for seed in 0..2_000 {
        let mut rng = Rng::new(seed);
        let mut e = if seed % 2 == 0 { Wire::server() } else { Wire::client() };
        for _ in 0..20 {
            let mut bytes: Vec<u8> = (0..rng.below(60)).map(|_| rng.below(256) as u8).collect();
            // Lengths that are waited for would end the test at once.
            if let Some(first) = bytes.first_mut() {
                *first = 0;
            }
            e.receive_bytes(&bytes);
            e.events();
            e.sent_frames();
        }
    }
}
