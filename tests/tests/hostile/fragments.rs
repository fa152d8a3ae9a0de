//! Fragments. What is one frame after the other is sent to the server and to the client; the
//! bounds in bytes are held by `proto tests::fragment_large`.

use rsock::{Client, Config, Server};
use rsock_tests::{
    script::Peer,
    wire::{C, F, N, R, can, err, fnf, hex, ka, p, rn, rr},
};

use crate::{CE, Stage, Then, connected_by, many};

/// H089 to H093, H095 to H097, H101.
#[tokio::test]
async fn in_disorder() {
    let mut stage = Stage::start().await;
    let answer = |data: &str| vec![p(1, N | C, data)];
    for (row, frames, answers) in [
        ("H089", vec![rr(1, "a").flags(F), rr(1, "x"), p(1, N, "b")], answer("ab")),
        (
            "H090",
            vec![rr(1, "a").flags(F), rn(1, 1), ka(R, 0, "k"), rr(3, "o"), p(1, N, "b")],
            vec![ka(0, 0, "k"), p(3, N | C, "o"), p(1, N | C, "ab")],
        ),
        ("H091", vec![rr(1, "a").flags(F), can(1), p(1, N, "b")], vec![]),
        ("H092", vec![rr(1, "a").flags(F), err(1, 0x201, ""), p(1, N, "b")], vec![]),
        ("H093", vec![rr(1, "a").flags(F), p(1, C, "b")], answer("ab")),
        ("H093", vec![rr(1, "a").flags(F), p(1, 0, "b")], answer("ab")),
        ("H093", vec![rr(1, "a").flags(F), p(1, N | C, "b")], answer("ab")),
        (
            "H095",
            vec![rr(1, "").flags(F), p(1, N, "d").metadata("m")],
            vec![p(1, N | C, "d").metadata("m")],
        ),
        (
            "H096",
            vec![rr(1, "a").metadata("").flags(F), p(1, N, "b").metadata("")],
            vec![p(1, N | C, "ab").metadata("")],
        ),
        ("H101", vec![fnf(1, "a").flags(F), rr(1, "x"), p(1, N, "b")], vec![]),
    ] {
        let frames: Vec<_> = frames.iter().map(|frame| frame.encode()).collect();
        let mut then = answers;
        // Answers on different streams come in the order in which requests were whole.
        then.sort_by_key(|frame| frame.stream);
        stage.frames(row, &frames, Then::Unordered(then)).await;
    }
    // H095: refused, and the rest of the run ignored.
    let frames = [rr(1, "d").flags(F), p(1, F | N, "").metadata("m"), p(1, N, "e")];
    let frames = frames.map(|frame| frame.encode());
    stage.frames("H095", &frames, Then::Refused(0x204)).await;
    // H097
    let frames = [rr(1, "a").flags(F).encode(), hex("00000001 29a0 000009 01")];
    stage.frames("H097", &frames, CE).await;
}

/// H085 to H087: one payload without an end, in bytes and in number.
#[tokio::test]
async fn a_payload_without_an_end() {
    let mut config = Config::default();
    config.max_payload_bytes = 1 << 20;
    let mut stage = Stage::with(Server::builder().config(config.clone())).await;
    let part = vec![b'x'; 64 << 10];
    let mut peers = Vec::new();
    for uri in &stage.served.uris {
        peers.push((Peer::established(uri).await, 1));
    }
    let mut clients = Vec::new();
    for scheme in rsock_tests::script::SCHEMES {
        let builder = Client::builder().config(config.clone());
        let (client, peer) = connected_by(builder, scheme, &stage.fixture).await;
        clients.push(client);
        peers.push((peer, 2));
    }
    for (mut peer, id) in peers {
        peer.send(rr(id, "").flags(F)).await;
        let got = peer.blast((0..100).map(|_| p(id, F | N, &part))).await;
        assert_eq!((got.count("ERR 0x203"), got.total()), (1, 1), "{got:?}");
        peer.send(rr(id, "").flags(F)).await;
        let got = peer.blast((0..many(20_000, 1_000_000)).map(|_| p(id, F | N, ""))).await;
        assert_eq!((got.count("ERR 0x203"), got.total()), (1, 1), "{got:?}");
        // A byte each: under the cap of a megabyte it is an item like any other.
        let count = many(20_000, 1_000_000);
        peer.send(rr(id, "").flags(F)).await;
        let got = peer.blast((0..count).map(|_| p(id, F | N, "y"))).await;
        assert_eq!(got.total(), 0, "{got:?}");
        peer.send(p(id, N, "")).await;
        let reply = peer.next_whole().await;
        assert!(reply == p(id, N | C, "y".repeat(count)), "{reply}");
        stage.judge("H085, H086, H087", peer, &Then::Alive).await;
    }
    assert_eq!(stage.served.meter.read().stats.refused_assemblies, 4);
}

/// H084, H088: begun and never gone on with.
#[tokio::test]
async fn beginnings_by_the_thousand() {
    let mut stage = Stage::start().await;
    let (many, most) = (many(10_000, 100_000), Config::default().max_streams);
    for uri in stage.served.uris.clone() {
        let mut peer = Peer::established(&uri).await;
        let unknown = many as u32 * 10;
        let got = peer.blast((0..unknown).map(|n| p(2 * n + 1, F | N, "x"))).await;
        assert_eq!(got.total(), 0, "{got:?}");
        let got = peer.blast((0..many as u32).map(|n| rr(2 * n + 1, "x").flags(F))).await;
        assert_eq!((got.count("ERR 0x202"), got.total()), (many - most, many - most));
        peer.send_all((0..most as u32).map(|n| can(2 * n + 1))).await;
        stage.judge("H084, H088", peer, &Then::Alive).await;
    }
    let stats = stage.served.meter.read().stats;
    // And the questions whether it is over.
    assert_eq!(stats.refused_streams as usize, 2 * (many - most) + 4);
    assert!(stats.ignored_unknown_stream as usize >= 20 * many);
}
