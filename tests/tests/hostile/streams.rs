//! Streams, credit, errors.

use rsock_tests::{
    script::Peer,
    wire::{C, MAX_N, N, R, REQUESTS, can, err, fnf, ka, mp, p, rc, request, rn, rr, rs},
};

use crate::{Stage, Then};

/// H057, H058, H061 to H064, H104, H130.
#[tokio::test]
async fn what_no_stream_accounts_for() {
    let mut stage = Stage::start().await;
    for kind in REQUESTS {
        let nowhere = [0, 2, 4].map(|stream| request(kind, stream, 1, "nobody").encode());
        stage.frames("H057, H058", &nowhere, Then::Alive).await;
    }
    for stream in [0, 7, 8] {
        let frames = [p(stream, N, "x"), can(stream), rn(stream, 1), err(stream.max(1), 0x201, "")];
        let frames = frames.map(|frame| frame.encode());
        stage.frames("H061", &frames, Then::Alive).await;
    }
    let pushes = [mp("stray").on(1).encode(), mp("stray").on(2).encode()];
    stage.frames("H130", &pushes, Then::Alive).await;
    let saw = &stage.served.fixture.recorder;
    assert_eq!(saw.count("fnf nobody") + saw.count("push stray"), 0);
}

/// H105, H106, KA-14: positions that cannot be, and answers to what was not asked.
#[tokio::test]
async fn keepalives_out_of_place() {
    let mut stage = Stage::start().await;
    let positions = [u64::MAX >> 1, u64::MAX, 1 << 63, 7, 6, 0];
    let frames: Vec<_> = positions.map(|position| ka(R, position, "k").encode()).into();
    stage.frames("H105", &frames, Then::Answers(vec![ka(0, 0, "k"); 6])).await;
    let unasked: Vec<_> =
        ["", "x", "a number", "\0\0\0\0\0\0\0\x01"].map(|data| ka(0, 0, data).encode()).into();
    stage.frames("H106", &unasked, Then::Alive).await;
    let stray = [ka(R, 0, "k").on(1).encode(), ka(R, 0, "k").on(2).encode()];
    stage.frames("H104", &stray, Then::Alive).await;
}

/// H059: every request on a live id of every kind.
#[tokio::test]
async fn requests_on_a_live_id() {
    let mut stage = Stage::start().await;
    let stuck = |kind| match kind {
        0x04 => rr(1, "never"),
        0x06 => rs(1, 1, "never"),
        _ => rc(1, 1, "never-mind").flags(C),
    };
    for first in [0x04, 0x06] {
        for second in REQUESTS {
            let frames = [stuck(first), request(second, 1, 1, "second")];
            let frames = frames.map(|frame| frame.encode());
            stage.frames("H059", &frames, Then::Alive).await;
        }
    }
    for second in REQUESTS {
        for uri in stage.served.uris.clone() {
            let mut peer = Peer::established(&uri).await;
            peer.send(rc(1, 1, "sink:1")).await;
            peer.expect(rn(1, 1)).await;
            peer.send(request(second, 1, 1, "second")).await;
            stage.judge("H059", peer, &Then::Alive).await;
        }
    }
    assert_eq!(stage.served.fixture.recorder.count("fnf second"), 0);
}

/// H062, H063, H064, H070, H072, H073, H125.
#[tokio::test]
async fn credit_and_items_out_of_place() {
    let mut stage = Stage::start().await;
    let stuck = rs(1, 0, "inf");
    for n in [0, 0x8000_0000, u32::MAX] {
        let frames = [stuck.encode(), rn(1, n).encode()];
        stage.frames("H062, H063", &frames, Then::Alive).await;
    }
    for first in [rr(1, "never"), rs(1, 1, "never")] {
        let out_of_place =
            [p(1, N, "x"), p(1, 0, "x"), p(1, C, ""), err(1, 0, ""), err(1, 0x101, "")];
        let frames: Vec<_> =
            std::iter::once(first).chain(out_of_place).map(|frame| frame.encode()).collect();
        stage.frames("H073, H125", &frames, Then::Alive).await;
    }
    for uri in stage.served.uris.clone() {
        let mut peer = Peer::established(&uri).await;
        // H070 to H072, upstream.
        peer.send(rc(1, 9, "echo")).await;
        let got = [peer.next().await, peer.next().await];
        assert!(got.contains(&rn(1, 256)), "{got:?}");
        peer.send_all([p(1, 0, "bare"), p(1, C, "junk"), p(1, N, "late"), p(1, C, "")]).await;
        peer.expect_last(1, "bare").await;
        stage.judge("H070, H071, H072", peer, &Then::Alive).await;
    }
    // H125: the codes that end the other half of a channel.
    for code in [0, 0x101, 0x210, u32::MAX] {
        for uri in stage.served.uris.clone() {
            let mut peer = Peer::established(&uri).await;
            peer.send(rc(1, 1, "listen")).await;
            peer.expect(rn(1, 256)).await;
            peer.send_all([err(1, code, [0xff, 0, 0x1b]), rr(1, "free")]).await;
            stage.judge("H125", peer, &Then::Answers(vec![p(1, N | C, "free")])).await;
        }
    }
}

/// H060, H128, H129, CONN-01, CONN-02, TCP-04.
#[tokio::test]
async fn ends_by_the_client() {
    let mut stage = Stage::start().await;
    let mut dropped = 0;
    for uri in stage.served.uris.clone() {
        let saw = std::sync::Arc::clone(&stage.served.fixture.recorder);
        let mut peer = Peer::established(&uri).await;
        peer.send_all([rr(MAX_N, "last"), rr(1, "first")]).await;
        peer.expect_all([p(MAX_N, N | C, "last"), p(1, N | C, "first")]).await;
        // H128: what is open goes on, nothing new begins.
        peer.send_all([rr(1, "never"), rs(3, 1, "count:3"), err(0, 0x102, "going")]).await;
        peer.expect(p(3, N, "0")).await;
        peer.send_all([rr(5, "new"), fnf(7, "new"), rn(3, 2)]).await;
        peer.expect_error(5, 0x202).await;
        peer.expect(p(3, N, "1")).await;
        peer.expect_last(3, "2").await;
        peer.send(can(1)).await;
        stage.judge("H128", peer, &Then::End).await;
        // H129: what is open is dropped, what follows ignored.
        let mut peer = Peer::established(&uri).await;
        peer.send_all([rr(1, "never"), rs(3, MAX_N, "never")]).await;
        peer.send_all([err(0, 0x101, "\u{1b}[31mred"), fnf(5, "new"), rr(7, "new")]).await;
        let address = peer.address();
        stage.judge("H129", peer, &Then::End).await;
        dropped += 3;
        saw.wait_count("dropped never", dropped).await;
        // H127: whoever reads the log is not at the peer's mercy.
        let line = stage.log.wait_line(&[&address, "connection ended", "red"]).await;
        assert!(!line.contains('\u{1b}'), "{line:?}");
        // TCP-04
        let mut peer = Peer::established(&uri).await;
        peer.send_all([rr(1, "never"), fnf(3, "told and gone")]).await;
        peer.finish().await;
        stage.judge("TCP-04", peer, &Then::End).await;
        dropped += 1;
        saw.wait_count("dropped never", dropped).await;
        assert_eq!(saw.count("fnf new"), 0);
    }
    stage.served.fixture.recorder.wait_count("fnf told and gone", 2).await;
}

/// FRAME-24: one ERROR, then the end, however much was asked for before it.
#[tokio::test]
async fn a_violation_ends_every_stream() {
    let mut stage = Stage::start().await;
    for uri in stage.served.uris.clone() {
        let mut peer = Peer::established(&uri).await;
        let saw = &stage.served.fixture.recorder;
        let before = saw.count("dropped never") + saw.count("dropped sink");
        peer.send_all([rr(1, "never"), rs(3, 9, "never"), rc(5, 1, "sink:1")]).await;
        peer.expect(rn(5, 1)).await;
        peer.send(rr(0x8000_0001, "x")).await;
        stage.judge("FRAME-24", peer, &crate::CE).await;
        let saw = &stage.served.fixture.recorder;
        while saw.count("dropped never") + saw.count("dropped sink") < before + 3 {
            tokio::task::yield_now().await;
        }
    }
}
