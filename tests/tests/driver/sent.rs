//! Whether what ended with its connection can have left.

use std::time::Duration;

use futures_util::{StreamExt, future::join_all, poll, stream};
use rsock::{
    Client, ClientBuilder, CloseReason, Payload, Resume, Sent, Server, SessionEvent, SharedLease,
    memory,
};
use rsock_tests::{
    fixture::Fixture,
    record::limit_time,
    wire::{err, ka, lease},
};
use tokio::{
    io::AsyncReadExt,
    sync::mpsc,
    time::{sleep, timeout},
};

use crate::line::Peer;

/// As long as it takes until nothing happens any more; the clock is paused.
const REST: Duration = Duration::from_millis(1);

/// A client over a pipe that holds so many bytes, and its other end.
async fn client_over(builder: ClientBuilder, bytes: usize) -> (Client, Peer) {
    limit_time();
    let (near, far) = memory(bytes);
    let client = builder.connect_over(near).await.expect("memory connects");
    (client, Peer(far))
}

/// Of a request that a byte was taken of, nobody knows; of those behind it, it is known.
#[tokio::test(start_paused = true)]
async fn what_the_transport_has_not_taken_a_byte_of_never_left() {
    let (client, mut peer) = client_over(Client::builder(), 200).await;
    let mut calls: Vec<_> = (0..10).map(|_| client.request_response("x".repeat(91))).collect();
    for call in &mut calls {
        assert!(poll!(call).is_pending());
    }
    sleep(REST).await;
    // SETUP and the first request are read, and the pipe holds two of 100 bytes; one byte more makes room
    // for one of the next.
    let setup = peer.next().await.encode().len();
    assert!(setup < 100, "{setup}");
    peer.next().await;
    sleep(REST).await;
    peer.0.read_u8().await.expect("a byte");
    sleep(REST).await;
    drop(peer);
    let answers = timeout(REST, join_all(calls)).await.expect("they end with the connection");
    let sent: Vec<_> =
        answers.into_iter().map(|answer| answer.expect_err("nobody answers").sent()).collect();
    let never = sent.iter().position(|sent| *sent == Sent::Never).expect("some have not left");
    assert!((3..=4).contains(&never), "{sent:?}");
    assert!(sent[never..].iter().all(|sent| *sent == Sent::Never), "{sent:?}");
}

/// Where we end it and the transport is there, what is in the buffer is written yet.
#[tokio::test(start_paused = true)]
async fn what_is_written_after_the_end_may_arrive() {
    let (client, mut peer) = client_over(Client::builder(), 200).await;
    let mut calls: Vec<_> = (0..10).map(|_| client.request_response("x".repeat(91))).collect();
    for call in &mut calls {
        assert!(poll!(call).is_pending());
    }
    sleep(REST).await;
    let aborting = client.clone();
    let aborting = tokio::spawn(async move { aborting.abort().await });
    let answers = timeout(REST, join_all(calls)).await.expect("they end with the connection");
    let mut arrived = Vec::new();
    peer.0.read_to_end(&mut arrived).await.expect("memory");
    assert_eq!(
        arrived.windows(91).filter(|bytes| bytes.iter().all(|byte| *byte == b'x')).count(),
        10
    );
    for answer in answers {
        assert_eq!(answer.expect_err("nobody answers").sent(), Sent::Maybe);
    }
    drop(aborting);
}

/// What waits for a lease, for a permit, or for the first item of its own, never left.
#[tokio::test(start_paused = true)]
async fn what_waits_here_never_left() {
    let builder = Client::builder().max_requests(3).lease(SharedLease::default());
    let builder = builder.responder(Fixture::default());
    let (client, mut peer) = client_over(builder, 4096).await;
    peer.next().await;
    peer.send(&lease(60_000, 1)).await;
    sleep(REST).await;
    let mut source = client.request_channel(stream::pending::<Payload>());
    assert!(poll!(source.next()).is_pending());
    // One has the lease, two wait for another, and two for their turn.
    let mut calls: Vec<_> = (0..5).map(|_| client.request_response("x")).collect();
    for call in &mut calls {
        assert!(poll!(call).is_pending());
    }
    sleep(REST).await;
    drop(peer);
    let answers = timeout(REST, join_all(calls)).await.expect("they end with the connection");
    let sent: Vec<_> =
        answers.into_iter().map(|answer| answer.expect_err("nobody answers").sent()).collect();
    let never = [Sent::Never; 4];
    assert_eq!((sent[0], &sent[1..]), (Sent::Maybe, &never[..]));
    let error = source.next().await.expect("a reason").expect_err("nobody answers");
    assert_eq!(error.sent(), Sent::Never);
    assert_eq!(client.request_response("late").await.expect_err("closed").sent(), Sent::Never);
}

/// Requests of a session that its server does not know any more: those that no transport was given are
/// known not to have arrived.
#[tokio::test(start_paused = true)]
async fn what_no_transport_of_a_session_was_given_never_left() {
    limit_time();
    let (dialled, mut transports) = mpsc::channel(10);
    let (told, mut events) = mpsc::channel(100);
    let resume = Resume::new().renew(false);
    let resume = resume.observe(move |event| told.try_send(event.clone()).expect("a test"));
    let builder = Client::builder().resume(resume);
    let client = builder.connect_with(move || {
        let (near, far) = memory(4096);
        dialled.try_send(far).expect("a test");
        std::future::ready(Ok(near))
    });
    let client = client.await.expect("memory connects");
    let mut peer = Peer(transports.recv().await.expect("a client dials"));
    peer.next().await;
    peer.send(&ka(0, 0, "")).await;
    let mut given = client.request_response("given");
    assert!(poll!(&mut given).is_pending());
    peer.next().await;
    drop(peer);
    assert_eq!(events.recv().await, Some(SessionEvent::Suspended));
    // Small ones are written into what is kept, and the second is longer than what that holds.
    let mut kept = client.request_response("kept");
    let mut waits = client.request_response(vec![b'x'; 4 << 20]);
    assert!(poll!(&mut kept).is_pending() && poll!(&mut waits).is_pending());
    sleep(REST).await;
    let mut peer = Peer(transports.recv().await.expect("a client dials"));
    assert!(peer.next().await.to_string().starts_with("RESUME"));
    peer.send(&err(0, 4, "no such session")).await;
    let all = join_all([given, kept, waits]);
    let answers = timeout(REST, all).await.expect("they end with the session");
    let sent: Vec<_> =
        answers.into_iter().map(|answer| answer.expect_err("nobody answers").sent()).collect();
    assert_eq!(sent, [Sent::Maybe, Sent::Never, Sent::Never]);
    assert!(matches!(client.closed().await, CloseReason::Error { .. }));
}

/// A server's requests to its client, before it has accepted that.
#[tokio::test(start_paused = true)]
async fn what_is_held_until_setup_is_accepted_never_left() {
    limit_time();
    let (asked, mut asking) = mpsc::channel(1);
    let endpoint = Server::builder().without_listeners(move |peer: rsock::Peer| {
        let asked = asked.clone();
        async move {
            let requester = peer.requester().clone();
            let call = tokio::spawn(requester.request_response("early").into_future());
            asked.try_send(call).expect("a test");
            sleep(Duration::from_secs(1)).await;
            Err::<Fixture, _>(rsock::Error::rejected("no"))
        }
    });
    let (near, far) = memory(4096);
    tokio::spawn(async move { endpoint.serve_over(far).await });
    let client = Client::builder().connect_over(near).await.expect("memory connects");
    let call = asking.recv().await.expect("an acceptor");
    assert_eq!(call.await.expect("no panic").expect_err("refused").sent(), Sent::Never);
    client.closed().await;
}
