//! SETUP and its answer.

use std::time::Duration;

use futures_util::StreamExt;
use rsock::{Client, CloseReason, ErrorCode, Payload, Side, memory};
use rsock_tests::{
    fixture::Fixture,
    link::Served,
    maybe_sent, never_sent,
    script::{Peer, PeerListener, SCHEMES},
    wire::{C, N, R, err, fnf, ka, p, rr, setup, setup_of},
};

use crate::{connected, spawn};

/// SETUP-24: a refusal reaches whoever waits.
#[tokio::test]
async fn a_refusal_fails_everything_with_its_words() {
    for scheme in SCHEMES {
        for code in [1, 2, 3, 0x101] {
            let (client, mut peer) = connected(scheme).await;
            let call = spawn(client.request_response("q"));
            let items = spawn(client.request_stream("s").collect::<Vec<_>>());
            peer.next().await;
            peer.next().await;
            peer.send(err(0, code, "no entry")).await;
            let reason = CloseReason::Error {
                by: Side::Peer,
                code: ErrorCode(code),
                message: "no entry".into(),
            };
            assert_eq!(call.await.unwrap(), Err(maybe_sent(reason.clone())));
            assert_eq!(items.await.unwrap(), [Err(maybe_sent(reason.clone()))]);
            assert_eq!(client.closed().await, reason);
            let late = client.request_response("late").await;
            assert_eq!(late, Err(never_sent(reason)));
            peer.expect_end().await;
        }
    }
}

/// SETUP-04, SETUP-05, SETUP-10, SETUP-14, SETUP-29: what a client says first.
#[tokio::test]
async fn the_first_frame_of_a_client() {
    for scheme in SCHEMES {
        let listener = PeerListener::bind_for(scheme).await;
        let uri = listener.uri();
        let connecting = Client::builder()
            .keepalive(Duration::from_millis(1234), Duration::from_millis(5678))
            .metadata_mime("text/a")
            .data_mime("text/b")
            .setup(Payload::new("data").with_metadata("metadata"));
        let connecting = connecting.acceptor(Fixture::default());
        let (client, mut peer) = tokio::join!(connecting.connect(&uri), listener.accept());
        let expected = setup_of((1, 0), 1234, 5678, b"text/a", b"text/b");
        peer.expect(expected.metadata("metadata").data("data")).await;
        peer.fence().await;
        drop(client);
    }
    // Names that are no ASCII are not sent, nor is a NUL behind them.
    for name in ["text/ä", "text/a\0"] {
        for builder in [Client::builder().metadata_mime(name), Client::builder().data_mime(name)] {
            let refused = builder.connect_over(memory(64).0).await.unwrap_err().to_string();
            assert!(refused.contains("ASCII"), "{refused}");
        }
    }
}

/// SETUP-16, SETUP-20, SETUP-21, SETUP-22, SETUP-27, SETUP-31: what a server answers.
#[tokio::test]
async fn the_answers_of_a_server() {
    let served = Served::start().await;
    for uri in &served.uris {
        let mut peer = Peer::connect(uri).await;
        let behind = [rr(1, "behind"), fnf(3, "behind a refusal")];
        peer.send(setup().data("reject")).await;
        peer.send_all(behind.clone()).await;
        assert_eq!(peer.expect_refusal(3).await, "no entry");
        let mut peer = Peer::connect(uri).await;
        peer.send(setup().data("unsupported")).await;
        assert_eq!(peer.expect_refusal(2).await, "not here");
        // An acceptor that takes its time: nothing is said before, and what came meanwhile is served.
        let mut peer = Peer::connect(uri).await;
        peer.send(setup().data("wait")).await;
        peer.send_all([ka(R, 0, "k"), rr(1, "behind")]).await;
        served.fixture.recorder.wait_containing("acceptor waits").await;
        served.fixture.gate.add_permits(1);
        let got = [peer.next().await, peer.next().await];
        assert!(got.contains(&ka(0, 0, "k")) && got.contains(&p(1, N | C, "behind")), "{got:?}");
        peer.fence().await;
        // SETUP-22
        let mut peer = Peer::connect(uri).await;
        peer.send(setup().data("ask")).await;
        peer.expect(rr(2, "asked inside")).await;
        peer.send(p(2, N | C, "answered")).await;
        peer.fence().await;
    }
    assert_eq!(served.fixture.recorder.count("fnf behind a refusal"), 0);
}
