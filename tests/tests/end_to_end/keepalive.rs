//! Silence, on either side. What is asserted is the reason, not the time.

use std::time::Duration;

use rsock::{Client, CloseReason, Violation};
use rsock_tests::{
    link::{Link, Served, Transport},
    maybe_sent,
    script::{Peer, PeerListener},
    wire::{C, FIN, N, PING, R, ka, p, rr, setup_of},
};

const SHORT: Duration = Duration::from_millis(40);

fn timed_out() -> CloseReason {
    CloseReason::Violation(Violation::KeepaliveTimeout)
}

/// KA-10 `[c]`: a server that says nothing.
#[tokio::test]
async fn the_client_gives_up_on_a_mute_server() {
    let listener = PeerListener::bind().await;
    let connecting = Client::builder().keepalive(SHORT, 4 * SHORT);
    let uri = listener.uri();
    let (client, mut peer) = tokio::join!(connecting.connect(&uri), listener.accept_setup());
    let client = client.unwrap();
    let call = tokio::spawn(client.request_response("x"));
    peer.expect(rr(1, "x")).await;
    assert_eq!(call.await.unwrap(), Err(maybe_sent(timed_out())));
    assert_eq!(client.closed().await, timed_out());
    let words = loop {
        match peer.next().await {
            frame if frame == ka(R, 0, "") => {}
            frame => break frame,
        }
    };
    assert_eq!(words.code(), Some(0x101), "{words}");
    peer.expect_end().await;
}

/// KA-10 `[s]`: a client that says nothing. WS-07: pings are no life.
#[tokio::test]
async fn the_server_gives_up_on_a_mute_client() {
    let served = Served::start().await;
    for (round, uri) in served.uris.iter().enumerate() {
        let mut peer = Peer::connect(uri).await;
        peer.send(setup_of((1, 0), 10, 100, b"", b"")).await;
        peer.send(rr(1, "never")).await;
        if uri.starts_with("ws") {
            peer.message(FIN | PING, "alive?").await;
        }
        let text = peer.expect_refusal(0x101).await;
        assert!(text.contains("keepalive"), "{text}");
        let saw = &served.fixture.recorder;
        saw.wait_count("dropped never", round + 1).await;
    }
}

/// KA-08, KA-09, RS-18: as long as both speak, time alone ends nothing.
#[tokio::test]
async fn keepalive_keeps_a_quiet_connection() {
    for transport in [Transport::Tcp, Transport::WebSocket] {
        let client = Client::builder().keepalive(SHORT / 4, Duration::from_secs(5));
        let link = Link::with(transport, client, rsock::Server::builder()).await;
        let call = tokio::spawn(link.client.request_response("never"));
        link.frames.wait_count("> KA(R)", 20).await;
        link.frames.wait_count("< KA()", 19).await;
        assert!(!call.is_finished());
        link.client.request_response("x").await.unwrap();
    }
}

/// A peer of ours that answers keeps its connection beyond its lifetime.
#[tokio::test]
async fn answers_are_life() {
    let served = Served::start().await;
    let mut peer = Peer::connect(served.tcp()).await;
    peer.send(setup_of((1, 0), 20, 1500, b"", b"")).await;
    // Each round trip shows life; together they take longer than the lifetime where rounds are slow.
    for round in 0..50 {
        peer.send(ka(R, 0, "")).await;
        peer.expect(ka(0, 0, "")).await;
        let id = 2 * round + 1;
        peer.send(rr(id, "x")).await;
        peer.expect(p(id, N | C, "x")).await;
    }
}
