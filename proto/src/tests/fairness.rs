//! The order in which streams go, and how long anyone waits (FRAME-22).

use super::{
    peer::{RR, RS, Wire},
    wire::*,
};
use crate::{Payload, frame::Interaction};

const QUANTUM: usize = 16 << 10;
const HIGH_WATER: usize = 64 << 10;

/// A server with these streams of the peer, all with unlimited credit.
fn serving(streams: &[(u32, Interaction)]) -> Wire {
    let mut e = Wire::server();
    for (id, interaction) in streams {
        e.receive(match interaction {
            Interaction::RequestResponse => rr(*id, "d"),
            _ => rs(*id, MAX, "d"),
        });
    }
    e.events();
    e
}

/// Fills the stream's outbox with items of `len` bytes.
fn fill(e: &mut Wire, id: u32, len: usize) {
    let item = Payload::new(vec![0; len]);
    while e.stream(id).send(item.clone()).is_ok() {}
}

fn bytes_of(frames: &[Seen], id: u32) -> usize {
    let frames = frames.iter().filter(|frame| frame.stream == id);
    frames.map(|frame| frame.data.len() + 9).sum()
}

#[test]
fn a_small_reply_waits_for_one_buffer_and_one_quantum_beside_bulk() {
    // Bulk is many large items, or many more small ones; and one stream, or many.
    for (bulk, len) in [(1, 4_000), (100, 4_000), (1, 100), (100, 100)] {
        let mut streams: Vec<_> = (0..bulk).map(|n| (2 * n + 3, RS)).collect();
        streams.push((1, RR));
        let mut e = serving(&streams);
        let refill = |e: &mut Wire| (0..bulk).for_each(|n| fill(e, 2 * n + 3, len));
        // Every one of them has had its turn as a newcomer.
        for _ in 0..100 {
            refill(&mut e);
            e.sent_once();
        }
        // The buffer is written, and may not leave, when the reply is given.
        refill(&mut e);
        let mut ahead = e.sent_once();
        refill(&mut e);
        e.send_last(1, "small").unwrap();
        let next = e.sent_once();
        let at = next.iter().position(|frame| frame.stream == 1);
        let at = at.unwrap_or_else(|| panic!("not in the next buffer: {bulk} of {len}"));
        ahead.extend_from_slice(&next[..at]);
        let waited = bytes_of_all(&ahead);
        let bound = HIGH_WATER + QUANTUM + len + 9;
        assert!(waited <= bound, "{bulk} of {len}: {waited}");
    }
}

fn bytes_of_all(frames: &[Seen]) -> usize {
    frames.iter().map(|frame| frame.data.len() + 9).sum()
}

#[test]
fn bulk_streams_share_by_bytes() {
    // Items of very different size.
    let sizes = [(1, 100), (3, 1_000), (5, 10_000), (7, 30_000)];
    let mut e = serving(&sizes.map(|(id, _)| (id, RS)));
    let mut frames = Vec::new();
    for _ in 0..200 {
        for (id, len) in sizes {
            fill(&mut e, id, len);
        }
        frames.extend(e.sent_once());
    }
    let shares = sizes.map(|(id, _)| bytes_of(&frames, id));
    // A stream of small items is bounded by what its outbox holds between two polls.
    let large = &shares[1..];
    let (min, max) = (large.iter().min().unwrap(), large.iter().max().unwrap());
    assert!(max - min < max / 4, "{shares:?}");
    assert!(shares[0] > 200 * 3_000, "{shares:?}");
}

#[test]
fn an_old_stream_is_not_starved_by_newcomers() {
    let mut e = serving(&[(1, RS)]);
    let mut bulk = 0;
    let mut id = 3;
    for _ in 0..100 {
        fill(&mut e, 1, 1_000);
        // More newcomers than fit into one buffer, before every write.
        for _ in 0..100 {
            e.receive(rr(id, "d"));
            e.events();
            let reply = Payload::new(vec![0; 900]);
            e.stream(id).send_last(reply).unwrap();
            id += 2;
        }
        bulk += bytes_of(&e.sent_once(), 1);
    }
    // One quantum of each 64 newcomers' turns.
    assert!(bulk >= 100 * HIGH_WATER / 8, "{bulk}");
}

#[test]
fn a_stream_that_empties_its_outbox_with_huge_frames_does_not_jump_the_queue() {
    let mut e = serving(&[(1, RS), (3, RS)]);
    let huge = Payload::new(vec![0; 1 << 20]);
    let mut frames = Vec::new();
    for _ in 0..200 {
        fill(&mut e, 1, 8_000);
        if e.stream(3).capacity() == 32 {
            e.stream(3).send(huge.clone()).unwrap(); // always one, always new
        }
        frames.extend(e.sent_once());
    }
    let (bulk, jumper) = (bytes_of(&frames, 1), bytes_of(&frames, 3));
    assert!(jumper <= bulk + (2 << 20), "{jumper} beside {bulk}");
    assert!(bulk <= jumper + (2 << 20), "{bulk} beside {jumper}");
}

#[test]
fn new_streams_go_first_come_first_served() {
    let mut e = Wire::client();
    for _ in 0..100 {
        e.request(RR, "d", 0);
    }
    let ids: Vec<u32> = e.sent_frames().iter().map(|frame| frame.stream).collect();
    assert_eq!(ids, (0..100).map(|n| 2 * n + 1).collect::<Vec<_>>());
}

#[test]
fn frame_20_a_stream_keeps_its_order() {
    let mut e = serving(&[(1, RS), (3, RS)]);
    let mut number = 0u32;
    let mut frames = Vec::new();
    for _ in 0..50 {
        for id in [1, 3] {
            while e.stream(id).capacity() > 0 {
                let item = number.to_be_bytes().repeat(500);
                e.stream(id).send(item.into()).unwrap();
                number += 1;
            }
        }
        frames.extend(e.sent_once());
    }
    for id in [1, 3] {
        let items: Vec<_> = frames.iter().filter(|frame| frame.stream == id).collect();
        assert!(items.len() > 100);
        assert!(items.is_sorted_by(|a, b| a.data < b.data));
    }
}

#[test]
fn control_waits_for_one_buffer_at_most() {
    let mut e = serving(&[(1, RS)]);
    let own = e.request(RS, "d", 1);
    e.sent();
    for _ in 0..5 {
        fill(&mut e, 1, 8_000);
        e.stream(own).request_n(1);
        e.receive(ka(R, 0, b"k"));
        let frames = e.sent_once();
        let first: Vec<_> = frames[..2].iter().map(Seen::describe).collect();
        assert_eq!(first, ["KA(0,'k')", "RN(2,1)"]);
        assert!(frames.len() > 2);
    }
}

#[test]
fn a_frame_longer_than_the_quantum_is_sent_and_paid_for() {
    let config = crate::Config { fragment_bytes: None, ..crate::Config::default() };
    let mut e = Wire::server_with(config);
    e.receive_all([rs(1, 9, ""), rs(3, 9, "")]);
    e.events();
    for len in [QUANTUM, QUANTUM + 1, 3 * QUANTUM, 10 * QUANTUM] {
        e.stream(1).send(vec![0; len].into()).unwrap();
        e.stream(3).send("b".into()).unwrap();
        assert_eq!(e.sent_frames().len(), 2, "{len}");
    }
    e.stream(1).complete().unwrap();
    e.stream(3).complete().unwrap();
    assert_eq!(e.sent_frames().len(), 2);
    e.assert_idle();
}
