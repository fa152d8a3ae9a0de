//! How a connection ends.

use rsock::{CloseReason, Error, ErrorCode, Sent, Side};
use rsock_tests::{
    never_sent,
    script::SCHEMES,
    wire::{C, N, err, ka, p, rr},
};

use crate::{connected, spawn};

/// CONN-01, CONN-02, CONN-03.
#[tokio::test]
async fn the_server_ends_the_connection() {
    for scheme in SCHEMES {
        let (client, mut peer) = connected(scheme).await;
        let call = spawn(client.request_response("q"));
        peer.expect(rr(1, "q")).await;
        // Before any other frame it would be a refusal (SETUP-24).
        peer.send_all([ka(0, 0, ""), err(0, 0x102, "going")]).await;
        peer.send(rr(2, "new")).await;
        peer.expect_error(2, 0x202).await;
        assert!(client.request_response("new").await.is_err());
        peer.send(p(1, N | C, "done")).await;
        assert_eq!(call.await.unwrap().unwrap().data, "done");
        assert_eq!(client.closed().await, CloseReason::Finished(Side::Peer));
        peer.expect_end().await;

        let (client, mut peer) = connected(scheme).await;
        let call = spawn(client.request_response("q"));
        peer.expect(rr(1, "q")).await;
        // H129: what follows the end is not looked at.
        peer.send_all([ka(0, 0, ""), err(0, 0x101, "broken"), p(1, N | C, "late")]).await;
        let error = call.await.unwrap().unwrap_err().to_string();
        assert!(error.contains("CONNECTION_ERROR: broken"), "{error}");
        peer.expect_end().await;
    }
}

/// CONN-05: a server that says why, and resets the connection over what it has not read: the reason is
/// told and not the reset, which a write or a read may be the first to meet.
#[tokio::test]
async fn a_reason_before_a_reset() {
    for scheme in SCHEMES {
        for (round, code) in [3, 0x101, 0x102].into_iter().cycle().take(30).enumerate() {
            let (client, mut peer) = connected(scheme).await;
            // More than the sockets hold: it is in the middle of writing.
            let large = spawn(client.request_response(vec![b'x'; 16 << 20]));
            let mut told = Vec::new();
            for _ in 0..round {
                told.push(client.fire_and_forget("told").await);
            }
            peer.send(err(0, code, "no more")).await;
            peer.reset_when_taken().await;
            let reason = CloseReason::Error {
                by: Side::Peer,
                code: ErrorCode(code),
                message: "no more".into(),
            };
            // Fragments of it had left, how many of them the sockets say.
            let ended = large.await.unwrap();
            let Err(Error::Closed { reason: told, sent: Sent::Maybe, .. }) = &ended else {
                panic!("{scheme} {round}: {ended:?}");
            };
            assert_eq!(*told, reason, "{scheme} {round}");
            assert_eq!(client.closed().await, reason);
            let late = client.fire_and_forget("late").await;
            assert_eq!(late, Err(never_sent(reason)));
        }
    }
}

/// H053: a server that is none.
#[tokio::test]
async fn garbage_from_a_server() {
    for scheme in SCHEMES {
        for garbage in [
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            b"",
            b"\0\0\x03abc",
            b"\0\0\x06\x80\0\0\0\x28\x60",
        ] {
            let (client, mut peer) = connected(scheme).await;
            let call = spawn(client.request_response("q"));
            peer.expect(rr(1, "q")).await;
            peer.raw(garbage).await;
            peer.finish().await;
            assert!(matches!(call.await.unwrap(), Err(Error::Closed { .. })), "{garbage:?}");
        }
    }
}
