//! SETUP and its answer.

use futures_util::StreamExt;
use rsock::{CloseReason, Error, ErrorCode, Side};
use rsock_tests::{script::SCHEMES, wire::err};

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
            assert_eq!(call.await.unwrap(), Err(Error::Closed(reason.clone())));
            assert_eq!(items.await.unwrap(), [Err(Error::Closed(reason.clone()))]);
            assert_eq!(client.closed().await, reason);
            let late = client.request_response("late").await;
            assert_eq!(late, Err(Error::Closed(reason)));
            peer.expect_end().await;
        }
    }
}
