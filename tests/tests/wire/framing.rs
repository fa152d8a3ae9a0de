//! Frames on their transport: where the bytes are cut means nothing, nor does what is not defined.

use rsock_tests::{
    link::Served,
    script::Peer,
    wire::{BINARY, C, CONTINUATION, FIN, I, M, N, PING, R, can, ka, p, rn, rr, rs, setup},
};

use crate::{each, items};

#[tokio::test]
async fn one_byte_at_a_time() {
    let served = Served::start().await;
    for uri in &served.uris {
        let mut peer = Peer::connect(uri).await;
        for frame in [setup(), rs(1, 5, "count:9"), rr(3, "hi")] {
            for byte in peer.framed(&frame.encode()) {
                peer.raw([byte]).await;
            }
        }
        let mut got = peer.fence_collecting().await;
        got.sort_by_key(|frame| frame.stream);
        let items = (0..5).map(|n| p(1, N, n.to_string()));
        let expected: Vec<_> = items.chain([p(3, N | C, "hi")]).collect();
        assert_eq!(got, expected);
    }
}

#[tokio::test]
async fn a_cut_anywhere() {
    let served = Served::start().await;
    for uri in &served.uris {
        let probe = Peer::connect(uri).await;
        let frames = [setup(), rr(1, "first"), rr(3, "second")];
        let wire: Vec<u8> = frames.iter().flat_map(|frame| probe.framed(&frame.encode())).collect();
        // Around every boundary of a frame, which is where prefixes are, and a few within.
        let first = probe.framed(&frames[0].encode()).len();
        for cut in (1..8).chain(first - 3..wire.len()) {
            let mut peer = Peer::connect(uri).await;
            peer.raw(&wire[..cut]).await;
            peer.raw(&wire[cut..]).await;
            peer.expect_all([p(1, N | C, "first"), p(3, N | C, "second")]).await;
        }
    }
}

#[tokio::test]
async fn many_frames_in_one_write() {
    let served = Served::start().await;
    for uri in &served.uris {
        let mut peer = Peer::established(uri).await;
        let ids = (1..).step_by(2).take(1000);
        peer.send_all(ids.clone().map(|id| rr(id, id.to_string()))).await;
        for id in ids {
            peer.expect(p(id, N | C, id.to_string())).await;
        }
        // FRAME-20: and of one stream, in order, with its credit between.
        peer.send_all([rs(3, 1, "count:4"), rn(3, 1), rn(3, 1), can(3), rr(5, "x")]).await;
        let got = peer.fence_collecting().await;
        assert!(got.contains(&p(5, N | C, "x")), "{}", peer.trace());
        let items = got.iter().filter(|frame| frame.stream == 3).count();
        assert!(items <= 3, "{}", peer.trace());
    }
}

#[tokio::test]
async fn a_message_in_continuation_frames_with_pings_between() {
    let served = Served::start().await;
    let mut peer = Peer::established(served.ws()).await;
    // H141: one byte a continuation frame.
    let request = rr(1, "y".repeat(1000)).encode();
    for (index, byte) in request.iter().enumerate() {
        let first = match index {
            0 => BINARY,
            _ if index + 1 == request.len() => FIN | CONTINUATION,
            _ => CONTINUATION,
        };
        peer.message(first, [*byte]).await;
        if index % 100 == 50 {
            peer.message(FIN | PING, index.to_string()).await;
        }
    }
    peer.expect(p(1, N | C, "y".repeat(1000))).await;
    peer.fence().await;
    assert_eq!(peer.pongs.len(), 10);
    assert_eq!(peer.pongs[3], b"350");
    // WS-02: a second frame in a message is data of the first.
    let both = [rr(3, "one").encode(), rr(5, "two").encode()].concat();
    peer.message(FIN | BINARY, &both).await;
    peer.expect(p(3, N | C, &both[6..])).await;
    peer.fence().await;
}

/// FRAME-07, FRAME-12, FRAME-15, FRAME-17: what is not defined is not looked at.
#[tokio::test]
async fn undefined_flags_and_surplus_bytes_mean_nothing() {
    let served = Served::start().await;
    for mut peer in each(&served).await {
        peer.send(rr(1, "d").flags(0x07f)).await;
        peer.expect(p(1, N | C, "d")).await;
        peer.send(rr(1, "d").flags(I)).await;
        peer.expect(p(1, N | C, "d")).await;
        peer.send(ka(R | M, 0, "\0\0\x02abc")).await;
        peer.expect(ka(0, 0, "\0\0\x02abc")).await;
        peer.send(rs(1, 1, "inf")).await;
        peer.expect(p(1, N, "0")).await;
        peer.send(rn(1, 2).data([0, 0, 0, 9])).await;
        peer.expect_all(items(1, 1..3)).await;
        peer.fence().await;
        peer.send(can(1).flags(0x1ff).data("why")).await;
        peer.fence().await;
    }
    served.fixture.recorder.wait_count("dropped inf", 2).await;
}
