//! Whether a request that ended with its connection can have left.

use std::{collections::BTreeSet, sync::Arc};

use futures_util::{future::join_all, poll};
use rsock::{Client, Error, Meter, Sent};
use rsock_tests::{
    process::Process,
    script::{PeerListener, SCHEMES},
    wire::{ka, kind},
};

/// Each fits a frame.
const REQUEST_BYTES: usize = 60_000;

/// What is told to have never left has not arrived, not even a byte of it; and much is told so, where
/// a peer does not read.
#[tokio::test]
async fn what_never_left_has_not_arrived() {
    for scheme in SCHEMES {
        for read in [0, 1, 7] {
            let listener = PeerListener::bind_for(scheme).await;
            let uri = listener.uri();
            let (client, mut peer) = tokio::join!(Client::connect(&uri), listener.accept_setup());
            let client = client.expect("a connection");
            peer.send(ka(0, 0, "")).await;
            let request = |number: u32| {
                let mut data = number.to_be_bytes().to_vec();
                data.resize(REQUEST_BYTES, 0);
                data
            };
            // More than the sockets hold.
            let mut calls: Vec<_> =
                (0..400).map(|number| client.request_response(request(number))).collect();
            for call in &mut calls {
                assert!(poll!(call).is_pending());
            }
            let answers = tokio::spawn(join_all(calls));
            let mut arrived = BTreeSet::new();
            while arrived.len() < read {
                let frame = peer.next().await;
                if frame.kind == kind::REQUEST_RESPONSE {
                    let number = frame.data[..4].try_into().expect("four bytes");
                    arrived.insert(u32::from_be_bytes(number));
                }
            }
            peer.reset();
            let (mut never, mut maybe) = (0, 0);
            for (number, answer) in (0..).zip(answers.await.expect("no panic")) {
                let error = answer.expect_err("nobody answers");
                assert!(matches!(error, Error::Closed { .. }), "{error:?}");
                match error.sent() {
                    Sent::Never => {
                        never += 1;
                        assert!(!arrived.contains(&number), "{scheme}: {number} has arrived");
                        assert!(error.is_retryable());
                    }
                    Sent::Maybe => {
                        maybe += 1;
                        assert!(!error.is_retryable());
                    }
                }
            }
            assert!(never > 100 && maybe >= read, "{scheme}: {never} never, {maybe} maybe");
        }
    }
}

/// A server that is killed with requests in its hands, and others that wait for their turn.
#[tokio::test]
async fn a_server_that_is_killed() {
    let server = Process::fixture(env!("CARGO_BIN_EXE_rsock-fixture")).await;
    let meter = Arc::new(Meter::default());
    let builder = Client::builder().max_requests(2).meter(Arc::clone(&meter));
    let client = builder.connect(&server.uris[0]).await;
    let client = client.expect("a connection");
    client.request_response("there").await.expect("a reply");
    let mut calls: Vec<_> = (0..5).map(|_| client.request_response("never")).collect();
    for call in &mut calls {
        assert!(poll!(call).is_pending());
    }
    let answers = tokio::spawn(join_all(calls));
    // It counts when it has come to rest.
    while meter.read().stats.requests_out < 3 {
        tokio::task::yield_now().await;
    }
    drop(server);
    let errors = answers.await.expect("no panic").into_iter().map(|answer| answer.expect_err("no"));
    let sent: Vec<_> = errors.map(|error| error.sent()).collect();
    assert_eq!(sent, [Sent::Maybe, Sent::Maybe, Sent::Never, Sent::Never, Sent::Never]);
}
