//! SETUP, its acceptor, and what is asked around it.

use rsock::{Client, CloseReason, ConnectError, ConnectionState, Error, ErrorCode, Payload, Side};
use rsock_tests::{fixture::Fixture, link::Served, maybe_sent};

/// SETUP-15: what the client says reaches the acceptor.
#[tokio::test]
async fn the_acceptor_sees_setup() {
    let served = Served::start().await;
    for (round, uri) in served.uris.iter().enumerate() {
        let setup = Payload::new("data").with_metadata("metadata");
        let client = Client::builder().setup(setup).connect(uri).await.unwrap();
        client.request_response("x").await.unwrap();
        served.fixture.recorder.wait_count("setup metadata data", round + 1).await;
        assert_eq!(client.state(), ConnectionState::Established);
    }
}

/// SETUP-16, SETUP-21, SETUP-24.
#[tokio::test]
async fn a_refusal_reaches_every_pending_call() {
    let served = Served::start().await;
    for uri in &served.uris {
        for (wish, code, text) in [
            ("reject", ErrorCode::REJECTED_SETUP, "no entry"),
            ("unsupported", ErrorCode::UNSUPPORTED_SETUP, "not here"),
        ] {
            let client = Client::builder().setup(wish).connect(uri).await.unwrap();
            let reason = CloseReason::Error { by: Side::Peer, code, message: text.into() };
            let calls: Vec<_> =
                (0..10).map(|_| tokio::spawn(client.request_response("x"))).collect();
            for call in calls {
                let reply = call.await.unwrap();
                assert_eq!(reply, Err(maybe_sent(reason.clone())));
            }
            assert_eq!(client.closed().await, reason);
        }
        // The acceptor's own panic is a refusal without details.
        let client = Client::builder().setup("panic").connect(uri).await.unwrap();
        let error = client.request_response("x").await.unwrap_err().to_string();
        assert!(error.contains("REJECTED_SETUP"), "{error}");
        assert!(!error.contains("an acceptor panics"), "{error}");
    }
    let lines = served.fixture.recorder.lines();
    assert!(lines.is_empty(), "{lines:?}");
}

/// SETUP-20: what was sent behind SETUP is served when the acceptor is done.
#[tokio::test]
async fn requests_behind_an_acceptor_that_takes_its_time() {
    let served = Served::start().await;
    for (round, uri) in served.uris.iter().enumerate() {
        let client = Client::builder().setup("wait").connect(uri).await.unwrap();
        let calls: Vec<_> =
            (0..100).map(|n| tokio::spawn(client.request_response(n.to_string()))).collect();
        client.fire_and_forget("early").await.unwrap();
        let saw = &served.fixture.recorder;
        saw.wait_count("acceptor waits", round + 1).await;
        assert_eq!(saw.count("fnf early"), round);
        served.fixture.gate.add_permits(1);
        for (n, call) in calls.into_iter().enumerate() {
            assert_eq!(call.await.unwrap().unwrap().data, n.to_string());
        }
        saw.wait_count("fnf early", round + 1).await;
    }
}

/// SETUP-22: the server asks inside `accept`, and after it.
#[tokio::test]
async fn the_server_asks() {
    let served = Served::start().await;
    for (round, uri) in served.uris.iter().enumerate() {
        let client =
            Client::builder().setup("ask").acceptor(Fixture::default()).connect(uri).await.unwrap();
        let saw = &served.fixture.recorder;
        saw.wait_count("answer Ok(b\"asked inside\")", round + 1).await;
        let back = served.fixture.requester().unwrap();
        let reply = back.request_response("asked after").await.unwrap();
        assert_eq!(reply.data, "asked after");
        drop(client);
    }
}

/// A client without a responder rejects, and says so.
#[tokio::test]
async fn a_client_that_answers_nothing() {
    let served = Served::start().await;
    let client = Client::connect(served.tcp()).await.unwrap();
    client.request_response("x").await.unwrap();
    let back = served.fixture.requester().unwrap();
    let reply = back.request_response("x").await;
    assert!(matches!(reply, Err(Error::Rejected(_))), "{reply:?}");
    back.fire_and_forget("x").await.unwrap();
    back.metadata_push("x").await.unwrap();
    client.request_response("x").await.unwrap();
}

/// What cannot be is said before anything is sent (SETUP-08).
#[tokio::test]
async fn settings_out_of_range() {
    let served = Served::start().await;
    let (zero, second) = (std::time::Duration::ZERO, std::time::Duration::from_secs(1));
    for builder in [
        Client::builder().keepalive(zero, second),
        Client::builder().keepalive(second, zero),
        Client::builder().keepalive(second, std::time::Duration::MAX),
        Client::builder().data_mime(vec![b'x'; 256]),
        Client::builder().setup(vec![0; 1 << 24]),
    ] {
        let refused = builder.connect(served.tcp()).await;
        assert!(matches!(refused, Err(ConnectError::Setting(_))), "{refused:?}");
    }
    for uri in ["", "tcp://", "127.0.0.1:1", "http://x:1", "tcp://127.0.0.1:1"] {
        let refused = Client::connect(uri).await;
        let is_expected =
            matches!(refused, Err(ConnectError::Uri { .. } | ConnectError::Io { .. }));
        assert!(is_expected, "{refused:?}");
    }
    assert_eq!(served.meter.read().stats.requests_in, 0);
}
