//! Our requester where `rsocket_rust`'s `RSocket` is expected, towards a server played by hand.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
};

use futures_util::{FutureExt, poll, stream};
use rsock::{Client, ErrorCode, rsocket_rust::RSocketRequester};
use rsock_tests::{
    script::{Peer, PeerListener, SCHEMES},
    wire::{C, Frame, N, can, err, fnf, mp, p, rc, rn, rr, rs},
};
use rsocket_rust::{Result, error::RSocketError, prelude::*};
use tokio::task::JoinHandle;

use crate::{payload, text};

/// The requester as old code holds it, and the server. Streams have a credit of 4.
async fn connected(scheme: &str) -> (Arc<dyn RSocket>, Peer) {
    let listener = PeerListener::bind_for(scheme).await;
    let uri = listener.uri();
    let connecting = Client::builder().credit(4);
    let (client, peer) = tokio::join!(connecting.connect(&uri), listener.accept_setup());
    (Arc::new(RSocketRequester::from(client.expect("a connection"))), peer)
}

fn ask(socket: &Arc<dyn RSocket>, data: &'static str) -> JoinHandle<Result<Option<Payload>>> {
    let socket = Arc::clone(socket);
    tokio::spawn(async move { socket.request_response(payload(data)).await })
}

fn error<T: std::fmt::Debug>(result: Result<T>) -> RSocketError {
    result.expect_err("it fails").downcast().expect("old code looks for this type")
}

fn items(stream: u32, range: std::ops::Range<usize>) -> impl Iterator<Item = Frame> {
    range.map(move |n| p(stream, N, n.to_string()))
}

#[tokio::test]
async fn one_answer_or_none() {
    for scheme in SCHEMES {
        let (socket, mut peer) = connected(scheme).await;
        let asked = Arc::clone(&socket);
        let call = tokio::spawn(async move {
            let request = Payload::builder().set_data_utf8("q").set_metadata_utf8("m").build();
            asked.request_response(request).await
        });
        peer.expect(rr(1, "q").metadata("m")).await;
        peer.send(p(1, N | C, "a").metadata("")).await;
        let answer = call.await.unwrap().unwrap().unwrap();
        assert_eq!((text(&answer), answer.metadata_utf8()), ("a", Some("")));

        // Completing without a payload is not answering with an empty one, whose data is none.
        for (frame, id) in [(p(3, C, ""), 3), (p(5, N | C, ""), 5)] {
            let call = ask(&socket, "q");
            peer.expect(rr(id, "q")).await;
            peer.send(frame).await;
            let answer = call.await.unwrap().unwrap();
            assert_eq!(answer.map(|answer| answer.split()), (id == 5).then_some((None, None)));
        }

        socket.fire_and_forget(payload("forget me")).await.unwrap();
        peer.expect(fnf(7, "forget me")).await;
        let push = Payload::builder().set_data_utf8("not sent").set_metadata_utf8("m").build();
        socket.metadata_push(push).await.unwrap();
        peer.expect(mp("m")).await;
    }
}

#[tokio::test]
async fn errors_are_those_old_code_knows() {
    use RSocketError as E;
    type Variant = fn(String) -> RSocketError;
    let expected: [(u32, Variant); 5] = [
        (0x201, E::ApplicationException),
        (0x202, E::RequestRejected),
        (0x203, E::RequestCancelled),
        (0x204, E::RequestInvalid),
        (0x301, |text| E::Reserved(0x301, text)),
    ];
    let (socket, mut peer) = connected("tcp").await;
    for ((code, variant), id) in expected.into_iter().zip((1..).step_by(2)) {
        let call = ask(&socket, "q");
        peer.expect(rr(id, "q")).await;
        peer.send(err(id, code, "said")).await;
        let error = error(call.await.unwrap());
        assert_eq!(format!("{error:?}"), format!("{:?}", variant("said".into())));
        // Passed on by a responder it is the same error again.
        assert_eq!(rsock::Error::from(error).code(), ErrorCode(code));
    }

    let mut items = socket.request_stream(payload("s"));
    assert!(poll!(items.next()).is_pending());
    peer.expect(rs(11, 4, "s")).await;
    peer.send_all([p(11, N, "0"), err(11, 0x204, "said")]).await;
    assert_eq!(text(&items.next().await.unwrap().unwrap()), "0");
    assert!(
        matches!(error(items.next().await.unwrap()), E::RequestInvalid(text) if text == "said")
    );
    assert!(items.next().await.is_none());
}

#[tokio::test]
async fn the_end_of_the_connection_ends_what_is_pending() {
    for (scheme, code) in SCHEMES.into_iter().zip([0x003, 0x101]) {
        let (socket, mut peer) = connected(scheme).await;
        let call = ask(&socket, "q");
        peer.expect(rr(1, "q")).await;
        let mut items = socket.request_stream(payload("s"));
        assert!(poll!(items.next()).is_pending());
        peer.expect(rs(3, 4, "s")).await;
        peer.send(err(0, code, "said")).await;
        for error in [error(call.await.unwrap()), error(items.next().await.unwrap())] {
            match error {
                RSocketError::RejectedSetup(text) => assert_eq!((code, text.as_str()), (3, "said")),
                RSocketError::ConnectionException(text) => {
                    assert_eq!((code, text.as_str()), (0x101, "said"));
                }
                other => panic!("{other:?}"),
            }
        }
        let after = error(socket.request_response(payload("q")).await);
        assert!(after.to_string().ends_with("said"), "{after}");
    }
    let (socket, mut peer) = connected("tcp").await;
    let call = ask(&socket, "q");
    peer.expect(rr(1, "q")).await;
    peer.reset();
    assert!(matches!(error(call.await.unwrap()), RSocketError::ConnectionClosed(_)));
}

/// RS-01, RS-02: old code has no n; the window asks for it as items are consumed.
#[tokio::test]
async fn streams_ask_for_more_as_they_are_consumed() {
    for scheme in SCHEMES {
        let (socket, mut peer) = connected(scheme).await;
        let mut stream = socket.request_stream(payload("s"));
        assert!(poll!(stream.next()).is_pending());
        peer.expect(rs(1, 4, "s")).await;
        peer.send_all(items(1, 0..4)).await;
        assert_eq!(peer.ping_collecting().await, [], "nothing was consumed");
        for n in 0..2 {
            assert_eq!(text(&stream.next().await.unwrap().unwrap()), n.to_string());
        }
        peer.expect(rn(1, 2)).await;
        assert_eq!(peer.ping_collecting().await, []);
        drop(stream);
        peer.expect(can(1)).await;

        let call = ask(&socket, "q");
        peer.expect(rr(3, "q")).await;
        call.abort();
        peer.expect(can(3)).await;
    }
}

/// RC-09, RC-22: what old code sends is polled under the peer's credit, one item beyond at most.
#[tokio::test]
async fn channels_obey_credit_in_both_directions() {
    for scheme in SCHEMES {
        let (socket, mut peer) = connected(scheme).await;
        let made = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&made);
        let numbers = stream::poll_fn(move |_| {
            Poll::Ready(Some(Ok(payload(&counter.fetch_add(1, Relaxed).to_string()))))
        });
        let mut channel = socket.request_channel(Box::pin(numbers));
        assert!(poll!(channel.next()).is_pending());
        peer.expect(rc(1, 4, "0")).await;
        assert_eq!(peer.ping_collecting().await, []);
        assert!(made.load(Relaxed) <= 2);
        peer.send(rn(1, 2)).await;
        peer.expect_all(items(1, 1..3)).await;
        assert_eq!(peer.ping_collecting().await, []);
        assert_eq!(made.load(Relaxed), 4);
        peer.send_all([p(1, N, "x"), p(1, C, "")]).await;
        assert_eq!(text(&channel.next().await.unwrap().unwrap()), "x");
        assert!(channel.next().await.is_none());
        peer.send(can(1)).await;
        assert_eq!(peer.ping_collecting().await, []);

        // ERR-13: an error of its own ends it on both sides, and a requester has one code for it.
        let failing = stream::iter([
            Ok(payload("first")),
            Err(RSocketError::Reserved(0x301, "said".into()).into()),
        ]);
        let mut channel = socket.request_channel(Box::pin(failing));
        assert!(poll!(channel.next()).is_pending());
        peer.expect(rc(3, 4, "first")).await;
        peer.send(rn(3, 1)).await;
        peer.expect(err(3, 0x201, "said")).await;

        // Without an item there is nothing to open it with.
        let mut channel = socket.request_channel(Box::pin(stream::empty()));
        assert!(channel.next().await.is_none());
        assert_eq!(peer.ping_collecting().await, []);
    }
}

#[tokio::test]
async fn one_made_of_a_client_keeps_it_open_until_it_is_dropped() {
    let listener = PeerListener::bind_for("tcp").await;
    let uri = listener.uri();
    let (client, mut peer) = tokio::join!(Client::connect(&uri), listener.accept_setup());
    let socket = RSocketRequester::from(client.unwrap());
    let waiting = tokio::spawn(socket.clone().wait_for_close());
    assert_eq!(peer.ping_collecting().await, []);
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    drop(socket);
    peer.expect_refusal(0x102).await;
}

#[tokio::test]
async fn waiting_for_the_close_ends_with_it() {
    let listener = PeerListener::bind_for("tcp").await;
    let uri = listener.uri();
    let (client, peer) = tokio::join!(Client::connect(&uri), listener.accept_setup());
    let mut closed = Box::pin(RSocketRequester::from(client.unwrap()).wait_for_close());
    assert!(closed.as_mut().now_or_never().is_none());
    peer.reset();
    closed.await;
}
