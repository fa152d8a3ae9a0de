//! Fragments in numbers and sizes that show what they cost (FRAG-05, FRAG-20 to FRAG-24).

use bytes::{Buf, Bytes, BytesMut};

use super::{
    peer::{self, FNF, RR, RS, Wire, some_instant},
    wire::{self, C, F, M, MAX, N, p, raw, rr, rs, with},
};
use crate::{Config, Connection, Event, Payload, SendBuf};

const MIB: usize = 1 << 20;

/// A client and a server, and a wire that is read as fast as it is written.
struct Pipe {
    sides: [Connection; 2],
    send: [SendBuf; 2],
}

impl Pipe {
    fn new(config: Config) -> Self {
        let (config, now) = (config.into(), some_instant());
        let client = Connection::client(peer::setup(), std::sync::Arc::clone(&config), now);
        let send = [SendBuf::length_prefixed(), SendBuf::length_prefixed()];
        Self { sides: [client, Connection::server(config, now)], send }
    }

    /// Runs until there is nothing to do, with `react` to every event; the bytes written.
    fn run(&mut self, mut react: impl FnMut(&mut Connection, Event)) -> usize {
        let now = some_instant();
        let (mut written, mut wire) = (0, BytesMut::new());
        while self.sides.iter().any(Connection::wants_output) {
            for from in 0..2 {
                let (send, to) = (&mut self.send[from], 1 - from);
                self.sides[from].poll_transmit(send);
                while send.has_remaining() {
                    let chunk = send.chunk();
                    wire.extend_from_slice(chunk);
                    written += chunk.len();
                    let len = chunk.len();
                    send.advance(len);
                }
                loop {
                    self.sides[to].handle_bytes(&mut wire, now);
                    for side in &mut self.sides {
                        while let Some(event) = side.poll_event() {
                            if let Event::Setup(_) = event {
                                side.accept(now);
                            } else {
                                react(side, event);
                            }
                        }
                    }
                    if wire.is_empty() || !self.sides[to].wants_input() {
                        break;
                    }
                }
            }
        }
        written
    }
}

/// Bytes that show where they came from.
fn noise(len: usize) -> Bytes {
    let block: Vec<u8> = (0..65_521_u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
    block.iter().copied().cycle().take(len).collect()
}

#[test]
fn frag_21_the_largest_payload_goes_through_in_fragments_of_the_default_size() {
    let mut pipe = Pipe::new(Config::default());
    let payload = Payload::new(noise(44 * MIB)).with_metadata(noise(20 * MIB));
    pipe.sides[0].request(RR, payload.clone(), 0).unwrap();
    let mut heard = 0;
    pipe.run(|_, event| {
        if let Event::Request { payload: arrived, .. } = event {
            assert!(arrived == payload);
            heard += 1;
        }
    });
    assert_eq!(heard, 1);
    assert_eq!(pipe.sides[1].reassembly_bytes(), 0);
}

#[test]
fn frag_05_a_large_answer_goes_through_in_the_smallest_fragments() {
    let mut pipe = Pipe::new(Config { fragment_bytes: Some(64), ..Config::default() });
    let answer = noise(20 * MIB);
    pipe.sides[0].request(RR, "d".into(), 0).unwrap();
    let mut heard = 0;
    let written = pipe.run(|side, event| match event {
        Event::Request { key, .. } => {
            side.stream(key).unwrap().send(answer.clone().into()).unwrap();
        }
        Event::Payload { payload, complete, .. } => {
            assert!(complete && payload.data == answer);
            heard += 1;
        }
        Event::Established => {}
        event => panic!("{event:?}"),
    });
    assert_eq!(heard, 1);
    // Nine bytes of prefix and header for every 58.
    let overhead = written - answer.len();
    assert!(overhead < 9 * answer.len().div_ceil(58) + 100, "{overhead}");
    assert_eq!((pipe.sides[0].open_streams(), pipe.sides[1].open_streams()), (0, 0));
}

#[test]
fn h087_a_million_fragments_of_a_byte() {
    let mut e = Wire::server();
    e.receive(with(F, rr(1, "")));
    let fragment = Bytes::from(p(1, F | N, "x"));
    for _ in 0..1_000_000 {
        e.connection.handle_frame(fragment.clone(), e.now);
    }
    assert_eq!(e.connection.reassembly_bytes(), 1_000_000);
    e.receive(p(1, N, "x"));
    assert_eq!(e.events(), "Request(1,RR,<1000001>)");
    assert_eq!(e.connection.reassembly_bytes(), 0);
}

#[test]
fn h085_frag_22_a_gigabyte_without_an_end_is_refused_at_the_bound() {
    for (request, limits) in [
        (rr(1, ""), Config::default()),
        (rs(1, 1, ""), Config { max_payload_bytes: 4 * MIB, ..Config::default() }),
        (rr(1, ""), Config { max_reassembly_bytes: 4 * MIB, ..Config::default() }),
    ] {
        let limit = limits.max_payload_bytes.min(limits.max_reassembly_bytes);
        let mut e = Wire::server_with(limits);
        e.receive(with(F, request));
        let fragment = Bytes::from(raw(1, 0x0A, F | N, &[&noise(64 << 10)]));
        let mut most = 0;
        for _ in 0..16_384 {
            e.connection.handle_frame(fragment.clone(), e.now);
            most = most.max(e.connection.reassembly_bytes());
        }
        assert_eq!(most, limit);
        assert_eq!(e.connection.reassembly_bytes(), 0);
        assert_eq!(e.sent(), "ERR(1,0x203)");
        assert_eq!(e.connection.stats().refused_assemblies, 1);
        e.assert_silent("H085");
        e.assert_idle();
        e.fence("H085");
    }
}

#[test]
fn frag_22_a_client_refuses_an_endless_answer_too() {
    let mut e = Wire::client_with(Config { max_payload_bytes: 4 * MIB, ..Config::default() });
    e.request(RR, "d", 0);
    e.sent();
    let fragment = Bytes::from(raw(1, 0x0A, F | N, &[&noise(64 << 10)]));
    for _ in 0..1_000 {
        e.connection.handle_frame(fragment.clone(), e.now);
        assert!(e.connection.reassembly_bytes() <= 4 * MIB);
    }
    let failed = "Failed(1,0x203,'the fragmented payload is larger than accepted here')";
    assert_eq!(e.events(), failed);
    assert_eq!(e.sent(), "CAN(1)");
    e.assert_idle();
    e.fence("FRAG-22");
}

#[test]
fn frag_20_ten_thousand_items_in_fragments_leave_nothing() {
    let mut e = Wire::client();
    e.request(RS, "d", MAX);
    e.sent();
    let part = "x".repeat(1_000);
    for _ in 0..10_000 {
        e.receive_all([p(1, F | N, &part), p(1, F | N, &part), p(1, N, "end")]);
        assert_eq!(e.events(), "Item(1,<2003>)");
        assert_eq!(e.connection.reassembly_bytes(), 0);
    }
    e.receive(p(1, C, ""));
    assert_eq!(e.events(), "Completed(1)");
    e.assert_idle();
}

#[test]
fn frag_21_h098_metadata_and_data_may_exceed_what_a_length_field_can_say() {
    let mut e = Wire::server();
    let (metadata, data) = (noise(20_000_000), noise(25_000_000));
    let frame = |kind, flags, metadata: &[u8], data: &[u8]| {
        let len = (metadata.len() as u32).to_be_bytes();
        let (len, flags) =
            if metadata.is_empty() { (&len[..0], flags) } else { (&len[1..], flags | M) };
        raw(1, kind, flags, &[len, metadata, data])
    };
    e.receive(frame(0x04, F, &metadata[..15_000_000], b""));
    e.receive(frame(0x0A, F | N, &metadata[15_000_000..], &data[..10_000_000]));
    assert_eq!(e.connection.reassembly_bytes(), 30_000_000);
    e.receive(frame(0x0A, N, b"", &data[10_000_000..]));
    let Some(Event::Request { payload, .. }) = e.poll_event() else { panic!("no request") };
    assert!(payload.metadata.is_some_and(|arrived| arrived == metadata));
    assert!(payload.data == data);
    assert_eq!(e.connection.reassembly_bytes(), 0);
}

#[test]
fn h088_frag_27_fragments_of_unknown_streams_open_nothing() {
    let mut e = Wire::server();
    let fragment = Bytes::from(p(7, F | N, "x"));
    for _ in 0..100_000 {
        e.connection.handle_frame(fragment.clone(), e.now);
    }
    e.assert_silent("H088");
    e.assert_idle();
    assert_eq!(e.connection.stats().ignored_unknown_stream, 100_000);
    e.fence("H088");
}

#[test]
fn h086_frag_24_an_endless_run_of_empty_fragments_is_refused() {
    for fragment in [p(1, F | N, ""), p(1, F, ""), wire::with_metadata("", p(1, F | N, ""))] {
        let mut e = Wire::server();
        e.receive(with(F, rr(1, "d")));
        let fragment = Bytes::from(fragment);
        for n in 0..100_000 {
            assert_eq!(e.connection.open_streams() == 1, n <= 1_024);
            e.connection.handle_frame(fragment.clone(), e.now);
        }
        assert_eq!(e.sent(), "ERR(1,0x203)");
        e.assert_silent("H086");
        e.assert_idle();
        e.fence("H086");
    }
}

#[test]
fn h084_frag_23_requests_that_do_not_end_are_bounded_in_number_and_bytes() {
    let mut e = Wire::server();
    for id in (1..200_001).step_by(2) {
        e.receive(with(F, rr(id, "")));
        if id % 1_000 == 1 {
            e.sent();
        }
    }
    assert_eq!(e.connection.open_streams(), 4_096);
    assert_eq!(e.connection.stats().refused_streams, 100_000 - 4_096);
    assert_eq!(e.events(), "", "FRAG-18");

    let mut e = Wire::server_with(Config { max_reassembly_bytes: MIB, ..Config::default() });
    let kib = "x".repeat(1 << 10);
    for id in (1..5_001).step_by(2) {
        e.receive(with(F, rr(id, &kib)));
        assert!(e.connection.reassembly_bytes() <= MIB);
        let refused = format!("ERR({id},0x203)");
        assert_eq!(e.sent(), if id < 2_049 { "" } else { &refused });
    }
    assert_eq!(e.connection.open_streams(), 1_024);
    assert_eq!(e.connection.stats().refused_assemblies, 2_500 - 1_024);
    // What ends makes room.
    e.receive_all([p(1, N, ""), wire::can(3)]);
    assert_eq!(e.events(), "Request(1,RR,<1024>)");
    e.receive_all([5_001, 5_003, 5_005].map(|id| with(F, rr(id, &kib))));
    assert_eq!(e.sent(), "ERR(5005,0x203)");
    e.disconnect(None);
    assert_eq!(e.connection.reassembly_bytes(), 0, "FRAG-29");
}

#[test]
fn a_64_mib_payload_goes_through_in_small_fragments() {
    let mut pipe = Pipe::new(Config { fragment_bytes: Some(64), ..Config::default() });
    let payload = Payload::new(noise(64 * MIB));
    pipe.sides[0].request(FNF, payload.clone(), 0).unwrap();
    let mut heard = false;
    pipe.run(|side, event| {
        if let Event::Request { key, payload: arrived, .. } = event {
            assert!(arrived == payload);
            side.stream(key).unwrap().complete().unwrap();
            heard = true;
        }
    });
    assert!(heard);
    for side in &pipe.sides {
        assert_eq!((side.open_streams(), side.reassembly_bytes()), (0, 0));
    }
}
