//! KEEPALIVE.

use std::time::Duration;

use rsock::{Client, CloseReason, Violation};
use rsock_tests::{
    link::Served,
    script::{Peer, PeerListener, SCHEMES},
    wire::{Frame, R, ka, setup_of},
};

use crate::each;

/// KA-04, KA-05, KA-06, KA-12, KA-14.
#[tokio::test]
async fn keepalive_is_echoed_to_the_letter() {
    let served = Served::start().await;
    for mut peer in each(&served).await {
        let all: Vec<u8> = (0..=255).collect();
        for data in [all, Vec::new(), vec![7; 64 << 10]] {
            peer.send(ka(R, 12_345, &data)).await;
            peer.expect(ka(0, 0, &data)).await;
        }
        peer.send(ka(R, u64::MAX, "top")).await;
        peer.expect(ka(0, 0, "top")).await;
        peer.send_all([ka(0, 0, "not asked"), ka(R, 0, "stray").on(1)]).await;
        peer.fence().await;
    }
}

/// KA-02: also without an answer it goes on; WS-07 and KA-10 are in the end-to-end tests.
#[tokio::test]
async fn keepalive_goes_out_by_itself() {
    for scheme in SCHEMES {
        let listener = PeerListener::bind_for(scheme).await;
        let uri = listener.uri();
        let short = Duration::from_millis(20);
        let long = Duration::from_secs(3600);
        let connecting = Client::builder().keepalive(short, long);
        let (client, mut peer) = tokio::join!(connecting.connect(&uri), listener.accept_setup());
        for _ in 0..5 {
            peer.expect(ka(R, 0, "")).await;
        }
        drop(client);
        loop {
            match peer.next().await {
                frame if frame == ka(R, 0, "") => {}
                frame => {
                    assert_eq!(frame.code(), Some(0x102));
                    break;
                }
            }
        }
        peer.expect_end().await;
    }
}

/// WS-07: pings, in whatever number, are no sign of life; in either role.
#[tokio::test]
async fn pings_are_no_keepalive() {
    let (interval, lifetime) = (Duration::from_millis(100), Duration::from_millis(200));
    let listener = PeerListener::bind_for("ws").await;
    let uri = listener.uri();
    let connecting = Client::builder().keepalive(interval, lifetime);
    let (client, mut peer) = tokio::join!(connecting.connect(&uri), listener.accept_setup());
    let client = client.unwrap();
    let heard = peer.ping_until_the_end().await;
    assert_eq!(heard.last().and_then(Frame::code), Some(0x101), "{heard:?}");
    assert!(matches!(client.closed().await, CloseReason::Violation(Violation::KeepaliveTimeout)));

    let served = Served::start().await;
    let mut peer = Peer::connect(served.ws()).await;
    peer.send(setup_of((1, 0), 100, 200, b"", b"")).await;
    let heard = peer.ping_until_the_end().await;
    assert_eq!(heard.last().and_then(Frame::code), Some(0x101), "{heard:?}");
    assert!(!peer.pongs.is_empty());
}
