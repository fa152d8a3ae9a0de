//! Bytes and framing.

use std::time::Duration;

use rsock::{Config, Server};
use rsock_tests::{
    script::Peer,
    wire::{C, I, M, N, R, can, ext, frame, hex, ka, p, rc, rn, rr, rs, setup, u},
};

use crate::{CE, Stage, Then};

fn impatient() -> rsock::ServerBuilder {
    let mut config = Config::default();
    config.setup_timeout = Duration::from_millis(100);
    Server::builder().config(config)
}

/// H001, H002, H005, H012, H013: who says nothing, or nothing of ours, is sent away in time.
#[tokio::test]
async fn connections_that_never_set_up() {
    let mut stage = Stage::with(impatient()).await;
    let uri = stage.served.tcp().to_owned();
    for (row, input) in [
        ("H001", hex("")),
        ("H002", hex("00")),
        ("H005", hex("ffffff 00000000 0400 0001 0000")),
        ("H012", b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n".to_vec()),
        ("H013", hex("16030102000100 01fc0303 0102030405060708")),
    ] {
        let mut peer = Peer::connect(&uri).await;
        peer.raw(&input).await;
        stage.judge(row, peer, &Then::End).await;
    }
    let silent = Peer::connect(stage.served.ws()).await;
    stage.judge("H001 on a WebSocket", silent, &Then::End).await;
}

/// H003, H004, H010, H011.
#[tokio::test]
async fn prefixes_that_cannot_be() {
    let mut stage = Stage::start().await;
    let uri = stage.served.tcp().to_owned();
    for (row, input) in [("H003", hex("000000")), ("H004", hex("000003 010203"))] {
        let mut peer = Peer::established(&uri).await;
        peer.raw(&input).await;
        stage.judge(row, peer, &CE).await;
        let mut peer = Peer::connect(&uri).await;
        peer.raw(&input).await;
        stage.judge(row, peer, &Then::End).await;
    }
    let mut peer = Peer::established(&uri).await;
    peer.send(rr(1, "never")).await;
    peer.raw(hex("000010 00000003 1000")).await;
    peer.finish().await;
    stage.judge("H010", peer, &Then::End).await;
    stage.served.fixture.recorder.wait("dropped never").await;
    let mut peer = Peer::established(&uri).await;
    peer.send(rr(1, "never")).await;
    stage.served.fixture.recorder.wait_count("never runs", 2).await;
    peer.raw(hex("000010 00000003")).await;
    peer.reset();
    stage.served.fixture.recorder.wait_count("dropped never", 2).await;
    stage.nobody_noticed("H011").await;
}

/// H006: the limit holds at the prefix, before the bytes are there.
#[tokio::test]
async fn frames_beyond_the_limit() {
    let mut config = Config::default();
    config.max_frame_bytes = 1 << 20;
    let mut stage = Stage::with(Server::builder().config(config)).await;
    let uri = stage.served.tcp().to_owned();
    let mut peer = Peer::established(&uri).await;
    peer.raw(hex("ffffff 00000001 1000 01020304")).await;
    stage.judge("H006", peer, &CE).await;
    let mut peer = Peer::established(stage.served.ws()).await;
    // A binary message of 2 MiB announced, masked, and not sent.
    peer.raw(hex("82 ff 0000000000200000 00000000 0102")).await;
    stage.judge("H006 on a WebSocket", peer, &CE).await;
}

/// H007: the largest frame there is.
#[tokio::test]
async fn the_largest_frame() {
    let mut stage = Stage::start().await;
    for uri in stage.served.uris.clone() {
        let mut peer = Peer::established(&uri).await;
        let data = vec![b'x'; 0xff_ffff - 6];
        peer.send(rr(1, &data)).await;
        let reply = peer.next_whole().await;
        assert!(reply == p(1, N | C, &data), "{reply}");
        stage.judge("H007", peer, &Then::Alive).await;
    }
}

/// H009: all are served, in order.
#[tokio::test]
async fn ten_thousand_frames_in_one_write() {
    let mut stage = Stage::start().await;
    for uri in stage.served.uris.clone() {
        let mut peer = Peer::established(&uri).await;
        let ids = (1..).step_by(2).take(10_000);
        peer.send_all(ids.clone().map(|id| rr(id, ""))).await;
        for id in ids {
            peer.expect(p(id, N | C, "")).await;
        }
        stage.judge("H009", peer, &Then::Alive).await;
    }
}

/// H014 to H018, H021 to H033.
#[tokio::test]
async fn frames_that_cannot_be_read() {
    let mut stage = Stage::start().await;
    let live_channel = || rc(1, 1, "sink:1").encode();
    for (row, frame, then) in [
        ("H014", rr(0x8000_0000, "d").encode(), CE),
        ("H014", rr(0x8000_0001, "d").encode(), CE),
        ("H014", rr(0xffff_ffff, "d").encode(), CE),
        ("H015", u(0, 0, 0).encode(), CE),
        ("H015", u(1, 0, 0).encode(), CE),
        ("H016", u(0, 0, I).encode(), Then::Alive),
        ("H021", hex("00000001 1100"), CE),
        ("H021", hex("00000001 1100 00"), CE),
        ("H021", hex("00000001 1100 0000"), CE),
        ("H021 FNF", hex("00000001 1500 0000"), CE),
        ("H021 RS", hex("00000001 1900 00000001 0000"), CE),
        ("H021 RC", hex("00000001 1d00 00000001 0000"), CE),
        ("H022", hex("00000001 1100 ffffff 0102030405060708090a0b"), CE),
        ("H023", hex("00000001 1100 000004 010203"), CE),
        (
            "H024",
            hex("00000001 1100 000003 010203"),
            Then::Answers(vec![p(1, N | C, "").metadata([1, 2, 3])]),
        ),
        ("H025", hex("00000001 1300 0000"), Then::Alive),
        ("H025", hex("00000001 1300 ffffff 0102"), Then::Alive),
        ("H025", hex("00000001 1300 000004 010203"), Then::Alive),
        ("H027", hex("00000001 1800"), CE),
        ("H027", hex("00000001 1800 000001"), CE),
        ("H027", hex("00000001 1c00 00"), CE),
        ("H027 I", hex("00000001 1a00 000001"), Then::Alive),
        ("H028", hex("00000001 2000"), CE),
        ("H028", hex("00000001 2000 000001"), CE),
        ("H028 I", hex("00000001 2200 000001"), Then::Alive),
        ("H031", hex("00000000 2c00 000001"), CE),
        ("H031", hex("00000001 2c00"), CE),
        ("H032", hex("00000000 0c80"), CE),
        ("H032", hex("00000000 0c80 00000000000000"), CE),
        ("H033", hex("00000000 fc00 0000"), CE),
        ("H033 I", hex("00000000 fe00 0000"), Then::Alive),
        ("H107", hex("00000000 0800 00000001 000000"), CE),
        ("H131", ext(0, 0, 0).encode(), CE),
        ("H131", ext(0, 0, 0x8000_0001).encode(), CE),
        ("H131", ext(1, 0, 5).encode(), CE),
        ("H131 I", ext(0, I, 0).encode(), Then::Alive),
        ("H131 I", ext(2, I, 0x8000_0001).encode(), Then::Alive),
    ] {
        stage.frames(row, &[frame], then).await;
    }
    let bad_item = hex("00000001 2920 000009 01");
    stage.frames("H026", &[live_channel(), bad_item], CE).await;
}

/// H017, H018: types nobody has defined.
#[tokio::test]
async fn unknown_types() {
    let mut stage = Stage::start().await;
    for kind in 0x0f..=0x3e {
        let ignorable: Vec<_> = (0..3).map(|stream| u(stream, kind, I).encode()).collect();
        stage.frames("H017", &ignorable, Then::Alive).await;
        let frame = u(u32::from(kind) % 3, kind, 0).encode();
        stage.frames("H018", &[frame], CE).await;
    }
}

/// H029, H030: surplus bytes.
#[tokio::test]
async fn surplus_bytes() {
    let mut stage = Stage::start().await;
    for uri in stage.served.uris.clone() {
        let mut peer = Peer::established(&uri).await;
        peer.send_all([rs(1, 1, "inf"), rn(1, 2).data(vec![0xff; 1 << 20])]).await;
        peer.expect_all([p(1, N, "0"), p(1, N, "1"), p(1, N, "2")]).await;
        peer.send(can(1).data("a body")).await;
        stage.judge("H030", peer, &Then::Alive).await;
    }
    stage.served.fixture.recorder.wait_count("dropped inf", 2).await;
}

/// H019: the smallest frame of every type with every flag that has a meaning, before and after SETUP.
#[tokio::test]
async fn every_type_with_every_flag() {
    let mut stage = Stage::start().await;
    let uri = stage.served.tcp().to_owned();
    for kind in 0..=0x3f_u8 {
        for flags in (0..0x400_u16).step_by(0x20) {
            let stream = u32::from(kind ^ (flags >> 5) as u8) % 3;
            let mut peer = Peer::connect(&uri).await;
            if flags % 0x40 == 0 {
                peer.send(setup()).await;
            }
            peer.send_all([frame(stream, kind, flags, &[], ""), ka(R, 0, "still here")]).await;
            // Defined reactions: an answer, a refusal of the stream, the end with an error.
            loop {
                match peer.next_or_end().await {
                    Some(frame) if frame == ka(0, 0, "still here") => break,
                    Some(frame) if frame.code().is_some() || frame.stream == stream => {}
                    Some(frame) => panic!("{frame}\n{}", peer.trace()),
                    None => break,
                }
            }
        }
        stage.nobody_noticed("H019").await;
    }
}

/// H020: noise.
#[tokio::test]
async fn random_frames() {
    let mut stage = Stage::start().await;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for uri in stage.served.uris.clone() {
        for _ in 0..200 {
            let mut peer = Peer::established(&uri).await;
            for _ in 0..20 {
                let len = 6 + random() % 195;
                let mut noise: Vec<u8> = (0..len).map(|_| random() as u8).collect();
                // Most streams exist, most types are known: noise that gets further.
                noise[..4].copy_from_slice(&((random() % 4) as u32).to_be_bytes());
                noise[4] = ((random() % 16) << 2) as u8 | noise[4] & 3;
                let wire = peer.framed(&noise);
                peer.raw(wire).await;
            }
            peer.finish().await;
            while peer.next_or_end().await.is_some() {}
        }
        stage.nobody_noticed("H020").await;
    }
}

/// FRAME-12: M on a type without metadata is no length.
#[tokio::test]
async fn metadata_bits_without_metadata() {
    let mut stage = Stage::start().await;
    let frames = [rn(1, 1), can(1)].map(|frame| frame.flags(M).encode());
    stage.frames("FRAME-12", &frames, Then::Alive).await;
}
