//! Too much of what would be allowed: counts that a test has time for; the bounds in bytes are in
//! `bounds.rs`.

use rsock::{Client, Config};
use rsock_tests::{
    fixture::Fixture,
    script::{Peer, PeerListener},
    wire::{C, Frame, I, MAX_N, N, can, err, fnf, ka, mp, p, rc, rn, rr, rs, u},
};

use crate::{Stage, Then};

/// H065, H066, H104, UNX-04: frames that change nothing, by the ten thousand.
#[tokio::test]
async fn frames_that_change_nothing() {
    let mut stage = Stage::start().await;
    let stuck = rs(1, 1, "never");
    let many = 20_000;
    let lines = stage.log.lines().len();
    for frame in
        [rn(1, MAX_N), rn(1, 1), p(8, N, "x"), can(9), u(0, 0x20, I), ka(0, 0, "x"), err(7, 1, "")]
    {
        let row = format!("{many} × {frame}");
        let mut frames = vec![stuck.encode()];
        frames.resize(many, frame.encode());
        stage.frames(&row, &frames, Then::Alive).await;
    }
    // Logged with a limit: not a line for each.
    assert!(stage.log.lines().len() - lines < 1000);
}

/// H078, H079: begun and cancelled.
#[tokio::test]
async fn requests_cancelled_at_once() {
    let mut stage = Stage::start().await;
    let pairs = |n| (0..n).flat_map(|n| [rr(2 * n + 1, "x"), can(2 * n + 1)]);
    for uri in stage.served.uris.clone() {
        let mut peer = Peer::established(&uri).await;
        peer.send_all(pairs(20_000)).await;
        // Replies may have been on their way; nothing else.
        let replies = peer.fence_collecting().await;
        assert!(replies.iter().all(|reply| reply.flags == N | C));
        peer.send_all((0..20_000).flat_map(|n| [rr(2 * n + 1, "never"), can(2 * n + 1)])).await;
        stage.judge("H079", peer, &Then::Alive).await;
    }
    assert_eq!(stage.served.meter.read().open_streams, 0);
}

/// H080, DOS-02: more than may be open.
#[tokio::test]
async fn more_streams_than_may_be_open() {
    let mut config = Config::default();
    config.max_streams = 100;
    let mut stage = Stage::with(rsock::Server::builder().config(config)).await;
    for uri in stage.served.uris.clone() {
        let mut peer = Peer::established(&uri).await;
        peer.send_all((0..600).map(|n| rr(2 * n + 1, "never"))).await;
        for n in 100..600 {
            peer.expect_error(2 * n + 1, 0x202).await;
        }
        // H081: what is told is dropped and not answered.
        peer.send_all((600..700).map(|n| fnf(2 * n + 1, "dropped"))).await;
        peer.send_all((0..100).map(|n| can(2 * n + 1))).await;
        stage.judge("H080", peer, &Then::Alive).await;
    }
    let stats = stage.served.meter.read().stats;
    assert_eq!(stats.dropped_fire_and_forget, 200);
    assert!(stats.refused_streams >= 1000, "{stats:?}");
    assert_eq!(stage.served.fixture.recorder.count("fnf dropped"), 0);
}

/// H081: handlers of fire-and-forget count as long as they run.
#[tokio::test]
async fn fire_and_forget_to_slow_handlers() {
    let mut stage = Stage::start().await;
    let mut peer = Peer::established(stage.served.tcp()).await;
    peer.send_all((0..20_000).map(|n| fnf(2 * n + 1, "never"))).await;
    // Both limits are the same: the fence's requests are refused as well.
    peer.send(rr(1, "x")).await;
    peer.expect_error(1, 0x202).await;
    let saw = &stage.served.fixture.recorder;
    saw.wait_count("fnf never", Config::default().max_streams).await;
    assert_eq!(saw.count("fnf never"), Config::default().max_streams);
    stage.nobody_noticed("H081").await;
}

/// H082: channels by the thousand, each over as soon as it began.
#[tokio::test]
async fn channels_by_the_thousand() {
    let mut stage = Stage::start().await;
    let mut peer = Peer::established(stage.served.tcp()).await;
    for round in 0..4 {
        let ids = (0..2_000).map(|n| round * 4_000 + 2 * n + 1);
        peer.send_all(ids.clone().map(|id| rc(id, 1, "").flags(C))).await;
        let mut ends = 0;
        while ends < 2_000 {
            ends += usize::from(peer.next().await.flags & C != 0);
        }
    }
    stage.judge("H082", peer, &Then::Alive).await;
    assert_eq!(stage.served.meter.read().stats.refused_streams, 0);
}

/// H083 `[c]`: a server that opens streams without end.
#[tokio::test]
async fn a_server_that_asks_too_much() {
    let stage = Stage::start().await;
    let listener = PeerListener::bind().await;
    let mut config = Config::default();
    config.max_streams = 50;
    let connecting = Client::builder().config(config).acceptor(Fixture::default());
    let uri = listener.uri();
    let (client, mut peer) = tokio::join!(connecting.connect(&uri), listener.accept_setup());
    let _client = client.unwrap();
    let many = crate::many(5_000, 1_000_000);
    let got = peer.blast((1..=many as u32).map(|n| rr(2 * n, "never"))).await;
    assert_eq!((got.count("ERR 0x202"), got.total()), (many - 50, many - 50));
    peer.send_all((1..=50).map(|n| can(2 * n))).await;
    peer.fence().await;
    drop(stage);
}

/// H130, MDP-08: pushes to a handler that does not keep up.
#[tokio::test]
async fn pushes_to_a_slow_handler() {
    let mut stage = Stage::start().await;
    let mut frames = vec![mp("never").encode()];
    frames.resize_with(5_000, || mp("waits").encode());
    stage.frames("H130", &frames, Then::Alive).await;
    assert_eq!(stage.served.fixture.recorder.count("push waits"), 0);
    let dropped = stage.served.meter.read().dropped_pushes;
    assert!(dropped > 2 * 4_000, "{dropped}");
}

/// CAN-04: ends that cross, with replies of every kind on their way.
#[tokio::test]
async fn cancels_that_cross_replies() {
    let mut stage = Stage::start().await;
    for uri in stage.served.uris.clone() {
        let mut peer = Peer::established(&uri).await;
        for n in 0..500 {
            let id = 2 * n + 1;
            let opened: Frame = match n % 4 {
                0 => rr(id, "x"),
                1 => rs(id, 3, "count:2"),
                2 => rs(id, 1, "err-after:1"),
                _ => rc(id, 3, "echo"),
            };
            peer.send(opened).await;
            if n % 3 == 0 {
                peer.next().await;
            }
            peer.send_all([can(id), can(id), rn(id, 1), p(id, N, "late")]).await;
        }
        let got = peer.fence_collecting().await;
        assert!(got.iter().all(|frame| frame.stream % 2 == 1));
        stage.judge("CAN-04", peer, &Then::Alive).await;
    }
    let mut reading = stage.served.meter.read();
    while reading.open_streams > 0 {
        tokio::task::yield_now().await;
        reading = stage.served.meter.read();
    }
}
