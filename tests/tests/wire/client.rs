//! The client under test: `[c]`.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use rsock::{Client, CloseReason, ConnectionState, Error, ErrorCode, Side};
use rsock_tests::{
    fixture::Fixture,
    record::{Guard, Recorder},
    script::{Peer, PeerListener},
    wire::{C, F, MAX_N, N, R, can, err, fnf, ka, lease, mp, p, rc, resume_ok, rn, rr, rs, setup},
};

/// Our client, which answers with the fixture, and the server played by hand.
async fn connected() -> (Client, Peer) {
    let listener = PeerListener::bind().await;
    let uri = listener.uri();
    let connecting = Client::builder().acceptor(Fixture::default());
    let (client, peer) = tokio::join!(connecting.connect(&uri), listener.accept_setup());
    (client.expect("a connection"), peer)
}

fn spawn<T: Send + 'static>(
    work: impl IntoFuture<Output = T, IntoFuture: Send> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    let work = work.into_future();
    tokio::spawn(work)
}

/// SID-01, SID-03, SETUP-01, SETUP-19, RR-14: ids, and answers in any order.
#[tokio::test]
async fn ids_count_up_and_answers_come_in_any_order() {
    let (client, mut peer) = connected().await;
    client.fire_and_forget("f").await.unwrap();
    peer.expect(fnf(1, "f")).await;
    let mut calls = Vec::new();
    for n in 0..100_u32 {
        calls.push(spawn(client.request_response(n.to_string())));
        peer.expect(rr(3 + 2 * n, n.to_string())).await;
    }
    peer.send_all((0..100).rev().map(|n| p(3 + 2 * n, N | C, format!("re {n}")))).await;
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap().unwrap().data, format!("re {n}"));
    }
    peer.fence().await;
}

/// RR-02, RR-03, RR-06, RR-12, ERR-03, ERR-06, ERR-07, H074, H076, H077, H125.
#[tokio::test]
async fn every_kind_of_reply() {
    let (client, mut peer) = connected().await;
    let mut id = 1;
    let mut ask = async |frames: Vec<rsock_tests::wire::Frame>| {
        let call = spawn(client.request_response("q").optional());
        peer.expect(rr(id, "q")).await;
        peer.send_all(frames.into_iter().map(|frame| frame.on(id))).await;
        id += 2;
        call.await.unwrap()
    };
    let value = |reply: Result<Option<rsock::Payload>, Error>| reply.unwrap().unwrap().data;
    assert_eq!(value(ask(vec![p(1, N | C, "both")]).await), "both");
    assert_eq!(value(ask(vec![p(1, N, "a"), p(1, N, "b")]).await), "a");
    assert_eq!(value(ask(vec![p(1, 0, "bare"), p(1, C, "")]).await), "bare");
    assert_eq!(value(ask(vec![p(1, N | C, "")]).await), "");
    assert_eq!(ask(vec![p(1, C, "junk")]).await, Ok(None));
    let first_wins = vec![p(1, N | C, "a"), p(1, N | C, "b"), err(1, 0x201, "x")];
    assert_eq!(value(ask(first_wins).await), "a");
    let out_of_place = vec![can(1), rn(1, 5), p(1, N | C, "still")];
    assert_eq!(value(ask(out_of_place).await), "still");
    let mut failure = async |frame| ask(vec![frame]).await.unwrap_err();
    assert_eq!(failure(err(1, 0x201, "x")).await, Error::Application("x".into()));
    assert_eq!(failure(err(1, 0x202, "x")).await, Error::Rejected("x".into()));
    assert_eq!(failure(err(1, 0x203, "")).await, Error::Canceled("".into()));
    assert_eq!(failure(err(1, 0x204, "x")).await, Error::Invalid("x".into()));
    for code in [0, 0x101, 0x210, 0x301, 0x8000_0001, 0xffff_fffe, u32::MAX] {
        let expected = Error::Other { code: ErrorCode(code), message: "\u{fffd}\u{fffd}".into() };
        assert_eq!(failure(err(1, code, [0xff, 0xfe])).await, expected);
    }
    client.fire_and_forget("f").await.unwrap();
    let id = peer.next().await.stream;
    peer.send_all([p(id, N | C, "no"), err(id, 0x201, "")]).await;
    peer.fence().await;
}

/// RR-07, CAN-03: dropped calls say so at once, and what comes later is dropped.
#[tokio::test]
async fn a_dropped_call_cancels() {
    let (client, mut peer) = connected().await;
    let call = spawn(client.request_response("q"));
    peer.expect(rr(1, "q")).await;
    call.abort();
    peer.expect(can(1)).await;
    peer.send(p(1, N | C, "late")).await;
    peer.fence().await;
    let mut items = client.request_stream("s").credit(4);
    let first = spawn(async move { (items.next().await, items) });
    peer.expect(rs(3, 4, "s")).await;
    peer.send(p(3, N, "0")).await;
    let (item, items) = first.await.unwrap();
    assert_eq!(item.unwrap().unwrap().data, "0");
    drop(items);
    peer.expect(can(3)).await;
    peer.send_all([p(3, N, "1"), err(3, 0x201, "")]).await;
    peer.fence().await;
}

/// RS-01, DOS-05: consuming is what asks for more.
#[tokio::test]
async fn credit_follows_consumption() {
    let (client, mut peer) = connected().await;
    let mut items = client.request_stream("s").credit(4);
    let first = spawn(async move { (items.next().await, items) });
    peer.expect(rs(1, 4, "s")).await;
    peer.send_all((0..4).map(|n| p(1, N, n.to_string()))).await;
    let (_, mut items) = first.await.unwrap();
    // One of four is consumed: nothing is asked for.
    peer.fence().await;
    items.next().await.unwrap().unwrap();
    peer.expect(rn(1, 2)).await;
    items.next().await.unwrap().unwrap();
    peer.fence().await;
    items.next().await.unwrap().unwrap();
    peer.expect(rn(1, 2)).await;
    peer.send(p(1, C, "ignored")).await;
    assert!(items.next().await.is_none());
    peer.fence().await;
}

/// RS-14, H069: more than was asked for.
#[tokio::test]
async fn items_nobody_asked_for_fail_the_stream_once() {
    let (client, mut peer) = connected().await;
    let items = client.request_stream("s").credit(2);
    let items = spawn(items.collect::<Vec<_>>());
    peer.expect(rs(1, 2, "s")).await;
    peer.send_all((0..1000).map(|n| p(1, N, n.to_string()))).await;
    let got = peer.fence_collecting().await;
    let cancels = got.iter().filter(|frame| **frame == can(1)).count();
    assert_eq!(cancels, 1, "{got:?}");
    let mut items = items.await.unwrap();
    assert!(matches!(items.pop(), Some(Err(Error::Canceled(_)))));
    assert!(items.iter().all(Result::is_ok));
    assert!(items.len() >= 2);
}

/// PAY-03, PAY-04, PAY-05, H070, H071: how items and ends may look.
#[tokio::test]
async fn items_and_ends_in_every_form() {
    let (client, mut peer) = connected().await;
    for (id, end, last) in [(1, p(1, N | C, "z"), true), (3, p(3, C, "junk"), false)] {
        let items = spawn(client.request_stream("s").collect::<Vec<_>>());
        peer.expect(rs(id, 256, "s")).await;
        peer.send_all([p(id, N, ""), p(id, 0, "bare"), end]).await;
        let items = items.await.unwrap();
        let items: Vec<_> = items.into_iter().map(|item| item.unwrap().data).collect();
        let expected: &[&str] = if last { &["", "bare", "z"] } else { &["", "bare"] };
        assert_eq!(items, expected);
    }
    // RR-04: the first reply is the last, but its fragments are one reply.
    let call = spawn(client.request_response("q"));
    peer.expect(rr(5, "q")).await;
    peer.send_all([p(5, F | N, "part"), p(5, N, "rest"), p(5, N, "more")]).await;
    assert_eq!(call.await.unwrap().unwrap().data, "partrest");
    peer.fence().await;
}

/// RC-01, RC-02, RC-03, RC-08, RC-15, RC-17, RC-22, ERR-13, H075.
#[tokio::test]
async fn a_channel_sends_what_it_is_granted() {
    let (client, mut peer) = connected().await;
    let recorder = Arc::new(Recorder::default());
    let guard = Guard::new(&recorder, "source");
    let source = stream::iter(0..).map(move |n| {
        let _held = &guard;
        n.to_string()
    });
    let replies = spawn(client.request_channel(source).credit(3).collect::<Vec<_>>());
    peer.expect(rc(1, 3, "0")).await;
    peer.fence().await;
    peer.send(rn(1, 2)).await;
    peer.expect_all([p(1, N, "1"), p(1, N, "2")]).await;
    peer.fence().await;
    // RC-17: our half ends, the other goes on. Twice is once.
    peer.send_all([can(1), can(1), rn(1, 5)]).await;
    recorder.wait("dropped source").await;
    peer.fence().await;
    peer.send_all([p(1, N, "reply"), p(1, C, "")]).await;
    let replies = replies.await.unwrap();
    assert_eq!(replies.len(), 1);
    assert_eq!(replies[0].as_ref().unwrap().data, "reply");
    // RC-22: a source without items sends nothing at all.
    let none = client.request_channel(stream::empty::<&str>());
    assert_eq!(none.count().await, 0);
    peer.fence().await;
    // RC-08, RC-15.
    let source = stream::iter(["a", "b"]);
    let replies = spawn(client.request_channel(source).collect::<Vec<_>>());
    peer.expect(rc(3, 256, "a")).await;
    peer.send(rn(3, 9)).await;
    peer.expect_last(3, "b").await;
    peer.send_all([rn(3, 9), err(3, 0x203, "enough")]).await;
    assert_eq!(replies.await.unwrap(), [Err(Error::Canceled("enough".into()))]);
    // ERR-13: a source that fails says APPLICATION_ERROR, whatever its own error is.
    let source = stream::iter([Ok("a"), Err(Error::rejected("mine"))]);
    let replies = spawn(client.request_channel(source).collect::<Vec<_>>());
    peer.expect(rc(5, 256, "a")).await;
    peer.send(rn(5, 9)).await;
    peer.expect(err(5, 0x201, "mine")).await;
    assert_eq!(replies.await.unwrap(), [Err(Error::rejected("mine"))]);
    peer.fence().await;
}

/// SETUP-24: a refusal reaches whoever waits.
#[tokio::test]
async fn a_refusal_fails_everything_with_its_words() {
    for code in [1, 2, 3, 0x101] {
        let (client, mut peer) = connected().await;
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

/// SETUP-18, SETUP-23, SETUP-25, RESUME-40, LEASE-14, CONN-06, H054, H055, H126.
#[tokio::test]
async fn what_a_server_should_not_send() {
    let (client, mut peer) = connected().await;
    peer.send(ka(0, 0, "")).await;
    for code in [1, 2, 3, 4, 0x201, 0x301, 0] {
        peer.send(err(0, code, "too late")).await;
    }
    peer.send_all([setup(), resume_ok(7), lease(1000, 1), rr(0, "x"), rr(1, "x")]).await;
    peer.send_all([p(0, N, ""), p(9, N, ""), p(8, N, ""), can(0), can(7), can(8)]).await;
    peer.fence().await;
    assert_eq!(client.state(), ConnectionState::Established);
    // SID-13 from this side: even ids are the server's.
    peer.send(rr(2, "asked by the server")).await;
    peer.expect(p(2, N | C, "asked by the server")).await;
    peer.send(mp("pushed")).await;
    peer.fence().await;
}

/// CONN-01, CONN-02, CONN-03.
#[tokio::test]
async fn the_server_ends_the_connection() {
    let (client, mut peer) = connected().await;
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

    let (client, mut peer) = connected().await;
    let call = spawn(client.request_response("q"));
    peer.expect(rr(1, "q")).await;
    // H129: what follows the end is not looked at.
    peer.send_all([ka(0, 0, ""), err(0, 0x101, "broken"), p(1, N | C, "late")]).await;
    let error = call.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("CONNECTION_ERROR: broken"), "{error}");
    peer.expect_end().await;
}

/// H053: a server that is none.
#[tokio::test]
async fn garbage_from_a_server() {
    for garbage in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"",
        b"\0\0\x03abc",
        b"\0\0\x06\x80\0\0\0\x28\x60",
    ] {
        let (client, mut peer) = connected().await;
        let call = spawn(client.request_response("q"));
        peer.expect(rr(1, "q")).await;
        peer.raw(garbage).await;
        peer.finish().await;
        assert!(matches!(call.await.unwrap(), Err(Error::Closed(_))), "{garbage:?}");
    }
}

/// KA-02: also without an answer it goes on; WS-07 and KA-10 are in the end-to-end tests.
#[tokio::test]
async fn keepalive_goes_out_by_itself() {
    let listener = PeerListener::bind().await;
    let uri = listener.uri();
    let short = std::time::Duration::from_millis(20);
    let long = std::time::Duration::from_secs(3600);
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

/// RN-01: larger wishes are split.
#[tokio::test]
async fn request_n_is_never_larger_than_its_field() {
    let (client, mut peer) = connected().await;
    let mut items = client.request_stream("s").credit(u32::MAX);
    let first = spawn(async move { (items.next().await, items) });
    peer.expect(rs(1, MAX_N, "s")).await;
    peer.send(p(1, N, "0")).await;
    let (_, mut items) = first.await.unwrap();
    items.request_n(u32::MAX);
    peer.expect(rn(1, MAX_N)).await;
    items.request_n(1);
    peer.expect(rn(1, 1)).await;
    drop(items);
    peer.expect(can(1)).await;
}
