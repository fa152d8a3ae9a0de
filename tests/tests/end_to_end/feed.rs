//! Feeds: many items a poll, shared with other streams, woken together.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{
            AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed},
        },
    },
    task::{Context, Poll},
};

use futures_util::{StreamExt, TryStreamExt};
use rsock::{
    Acceptor, AcceptorExt, Client, Error, Feed, Outlet, Payload, PayloadExt, Payloads, Reply,
    Request, Resume, ResumeLimits, Router, Server, SharedPayload, WakeGroup, channel_feed, latest,
    stream_feed,
};
use rsock_tests::{
    cutter::Cutter,
    record::limit_time,
    script::Peer,
    wire::{C, F, Frame, MAX_N, N, p, rn, rs},
};
use tokio::sync::watch;

use crate::resume::{Events, budgets, within};

async fn bind(uri: &str, acceptor: impl Acceptor) -> String {
    limit_time();
    let server = Server::builder().resume(ResumeLimits::default(), 10);
    let server = server.bind(&[uri]).await.expect("a free port");
    let uri = server.addresses().remove(0);
    tokio::spawn(server.serve(acceptor).into_future());
    uri
}

async fn serve(acceptor: impl Acceptor) -> String {
    bind("tcp://127.0.0.1:0", acceptor).await
}

/// Counts up to an end.
struct Count {
    next: usize,
    end: usize,
    /// How it ends.
    failure: Option<Error>,
}

impl Feed for Count {
    fn poll_fill(&mut self, out: &mut Outlet<'_>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while self.next < self.end {
            if !out.has_room() {
                return Poll::Pending;
            }
            let item = SharedPayload::new(None, self.next.to_string().as_bytes());
            out.send_shared(&item)?;
            self.next += 1;
        }
        Poll::Ready(self.failure.take().map_or(Ok(()), Err))
    }
}

/// A route that counts up to the number it is sent.
fn counting() -> Router<()> {
    let counted = |input: &str, failure| {
        let end = input.parse().map_err(Error::invalid)?;
        Ok(Count { next: 0, end, failure })
    };
    Router::new(())
        .route("count", stream_feed(move |(), rsock::Text(end): rsock::Text| counted(&end, None)))
        .route(
            "fail",
            stream_feed(move |(), rsock::Text(end): rsock::Text| {
                counted(&end, Some(Error::application("no more")))
            }),
        )
        .route(
            "both",
            channel_feed(move |(), rsock::Text(end): rsock::Text, _: Payloads| counted(&end, None)),
        )
        .default_route("count")
}

fn numbered(stream: u32, range: std::ops::Range<u32>) -> Vec<Frame> {
    range.map(|n| p(stream, N, n.to_string())).collect()
}

#[tokio::test]
async fn what_a_feed_sends_is_sent_under_credit() {
    let uri = serve(counting()).await;
    let mut peer = Peer::established(&uri).await;
    peer.send(rs(1, 2, "5")).await;
    peer.expect_all(numbered(1, 0..2)).await;
    assert_eq!(peer.ping_collecting().await, []);
    peer.send(rn(1, 1)).await;
    peer.expect_all(numbered(1, 2..3)).await;
    assert_eq!(peer.ping_collecting().await, []);
    // All that there are, and the end, which needs no credit.
    peer.send(rn(1, 2)).await;
    peer.expect_all(numbered(1, 3..5)).await;
    peer.expect(p(1, C, "")).await;
    // One that ends at once.
    peer.send(rs(3, 1, "0")).await;
    peer.expect(p(3, C, "")).await;
    // More than a share of a turn.
    peer.send(rs(5, MAX_N, "20000")).await;
    peer.expect_all(numbered(5, 0..20_000)).await;
    peer.expect(p(5, C, "")).await;
}

#[tokio::test]
async fn a_feed_that_fails_or_panics_fails_its_stream() {
    struct Panics;
    impl Feed for Panics {
        fn poll_fill(
            &mut self,
            _: &mut Outlet<'_>,
            _: &mut Context<'_>,
        ) -> Poll<Result<(), Error>> {
            panic!("as it must");
        }
    }
    let app = counting().route("panic", stream_feed(|(), ()| Ok(Panics)));
    let client = Client::connect(&serve(app).await).await.expect("it listens");
    let ask = async |route: &str, data: &str| {
        let request = Payload::new(data.to_owned()).route(route).expect("a short route");
        client.request_stream(request).try_collect::<Vec<_>>().await
    };
    assert_eq!(ask("fail", "3").await, Err(Error::Application("no more".into())));
    let panicked = ask("panic", "").await.expect_err("it panics");
    assert!(panicked.to_string().contains("panicked"), "{panicked}");
    assert!(matches!(ask("count", "x").await, Err(Error::Invalid(_))));
    assert_eq!(ask("count", "3").await.map(|items| items.len()), Ok(3), "others go on");
}

/// Plain and WebSocket, in sessions and not, in streams and channels; behind a layer that looks at each.
#[tokio::test]
async fn feeds_are_the_same_over_everything() {
    let seen = Arc::new(AtomicUsize::new(0));
    for uri in ["tcp://127.0.0.1:0", "ws://127.0.0.1:0/"] {
        for is_layered in [false, true] {
            let uri = if is_layered {
                let seen = Arc::clone(&seen);
                let look = move |reply: Reply| {
                    let seen = Arc::clone(&seen);
                    reply.inspect(move |item| {
                        seen.fetch_add(usize::from(item.is_ok()), Relaxed);
                    })
                };
                let app = counting().wrap(move |request: Request, next| {
                    let look = look.clone();
                    async move { next.run(request).await.map(look) }
                });
                bind(uri, app).await
            } else {
                bind(uri, counting()).await
            };
            for is_resumable in [false, true] {
                let mut builder = Client::builder();
                if is_resumable {
                    builder = builder.resume(Resume::new());
                }
                let client = builder.connect(&uri).await.expect("it listens");
                let request = |route: &str| Payload::new("3000").route(route).expect("short");
                let expected: Vec<_> = (0..3_000).map(|n| n.to_string()).collect();
                let text = |item: Payload| String::from_utf8_lossy(&item.data).into_owned();
                let items = client.request_stream(request("count")).map_ok(text);
                assert_eq!(items.try_collect::<Vec<_>>().await, Ok(expected.clone()));
                let first = futures_util::stream::iter([request("both")]);
                let items = client.request_channel(first).map_ok(text);
                assert_eq!(items.try_collect::<Vec<_>>().await, Ok(expected));
            }
        }
    }
    assert_eq!(seen.load(Relaxed), 2 * 2 * 2 * 3_000);
}

#[tokio::test]
async fn a_shared_item_that_fits_no_frame_is_cut() {
    struct One(SharedPayload);
    impl Feed for One {
        fn poll_fill(
            &mut self,
            out: &mut Outlet<'_>,
            _: &mut Context<'_>,
        ) -> Poll<Result<(), Error>> {
            if !out.has_room() {
                return Poll::Pending;
            }
            out.send_shared(&self.0)?;
            Poll::Ready(Ok(()))
        }
    }
    let data: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
    let shared = SharedPayload::new(Some(b"metadata"), &data);
    let served = shared.clone();
    let app = Router::new(())
        .route("one", stream_feed(move |(), ()| Ok(One(served.clone()))))
        .default_route("one");
    let uri = serve(app).await;
    let client = Client::connect(&uri).await.expect("it listens");
    let items: Vec<_> = client.request_stream("").try_collect().await.expect("an item");
    assert_eq!(items, [shared.to_payload()]);
    let mut peer = Peer::established(&uri).await;
    peer.send(rs(1, 1, "")).await;
    let first = peer.next().await;
    assert!(first.has(F), "{first:?}");
}

// ---- topics, as small as they can be -----------------------------------------------------------------

/// A log, and the groups of the connections whose feeds have read all of it.
#[derive(Default)]
struct Topic {
    head: AtomicUsize,
    log: Mutex<Vec<SharedPayload>>,
    waiting: Mutex<HashMap<u64, Arc<WakeGroup>>>,
    polls: AtomicUsize,
}

impl Topic {
    fn publish(&self, item: &str) {
        self.log.lock().expect("no panic").push(SharedPayload::new(Some(b"m"), item.as_bytes()));
        self.head.fetch_add(1, AcqRel);
        let groups: Vec<_> = self.waiting.lock().expect("no panic").values().cloned().collect();
        for group in groups {
            group.wake();
        }
    }
}

struct Cursor {
    topic: Arc<Topic>,
    group: Arc<WakeGroup>,
    next: usize,
}

impl Feed for Cursor {
    fn poll_fill(&mut self, out: &mut Outlet<'_>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.topic.polls.fetch_add(1, Relaxed);
        loop {
            while self.next < self.topic.head.load(Acquire) {
                if !out.has_room() {
                    return Poll::Pending;
                }
                let item = self.topic.log.lock().expect("no panic")[self.next].clone();
                out.send_shared(&item)?;
                self.next += 1;
            }
            out.wait_in(&self.group, cx);
            if self.next == self.topic.head.load(Acquire) {
                return Poll::Pending;
            }
        }
    }
}

fn topic(topic: &Arc<Topic>) -> Router<Arc<Topic>> {
    let subscribe = |topic: Arc<Topic>, request: Request| {
        let peer = request.peer();
        let mut waiting = topic.waiting.lock().expect("no panic");
        let group =
            waiting.entry(peer.connection_id()).or_insert_with(|| peer.requester().wake_group());
        let group = Arc::clone(group);
        drop(waiting);
        Ok(Cursor { topic, group, next: 0 })
    };
    Router::new(Arc::clone(topic)).route("topic", stream_feed(subscribe)).default_route("topic")
}

#[tokio::test]
async fn a_group_is_woken_for_all_its_feeds_and_for_no_others() {
    let shared = Arc::new(Topic::default());
    let uri = serve(topic(&shared)).await;
    let (mut one, mut other) = (Peer::established(&uri).await, Peer::established(&uri).await);
    one.send_all([rs(1, 2, ""), rs(3, MAX_N, ""), rs(5, MAX_N, "")]).await;
    other.send(rs(1, MAX_N, "")).await;
    for peer in [&mut one, &mut other] {
        assert_eq!(peer.ping_collecting().await, []);
    }
    let item = |stream: u32, text: &str| p(stream, N, text).metadata("m");
    for (n, text) in ["a", "b", "c"].into_iter().enumerate() {
        let before = shared.polls.load(Relaxed);
        shared.publish(text);
        let mut seen = Vec::new();
        for _ in 0..if n < 2 { 3 } else { 2 } {
            seen.push(one.next().await);
        }
        seen.sort_by_key(|frame| frame.stream);
        // The first of them has asked for two.
        let streams: &[u32] = if n < 2 { &[1, 3, 5] } else { &[3, 5] };
        assert_eq!(seen, streams.iter().map(|stream| item(*stream, text)).collect::<Vec<_>>());
        other.expect(item(1, text)).await;
        for peer in [&mut one, &mut other] {
            assert_eq!(peer.ping_collecting().await, []);
        }
        // Who has no credit waits for nothing but credit once it has been polled in vain.
        let polled = shared.polls.load(Relaxed) - before;
        assert!(polled <= 4, "{polled} polls for 4 feeds");
    }
    one.send(rn(1, 1)).await;
    one.expect(item(1, "c")).await;
}

/// Streams that are cancelled and asked for again leave nothing behind in the group.
#[tokio::test]
async fn feeds_that_are_gone_are_not_waited_for() {
    let shared = Arc::new(Topic::default());
    let uri = serve(topic(&shared)).await;
    let client = Client::connect(&uri).await.expect("it listens");
    for n in 0..1_000 {
        let mut items = client.request_stream("");
        if n % 100 == 0 {
            shared.publish("x");
        }
        let first = items.next().await.expect("it goes on").expect("an item");
        assert_eq!(first.data, "x");
    }
    let group = shared.waiting.lock().expect("no panic").values().next().cloned().expect("a group");
    drop(client);
    // Whoever wakes it learns that its connection is over.
    while group.wake() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_between_publishers_and_feeds() {
    const ITEMS: usize = 5_000;
    let shared = Arc::new(Topic::default());
    let uri = serve(topic(&shared)).await;
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let uri = uri.clone();
            tokio::spawn(async move {
                let client = Client::connect(&uri).await.expect("it listens");
                let of = |n: u32| client.request_stream("").credit(n).take(ITEMS);
                let all = futures_util::future::join_all(
                    [1, 7, 256].map(|n| of(n).map_ok(|item| item.data).try_collect::<Vec<_>>()),
                );
                all.await
            })
        })
        .collect();
    let publisher = Arc::clone(&shared);
    let publisher = tokio::task::spawn_blocking(move || {
        for n in 0..ITEMS {
            publisher.publish(&n.to_string());
            if n % 64 == 0 {
                std::thread::yield_now();
            }
        }
    });
    let expected: Vec<_> = (0..ITEMS).map(|n| n.to_string()).collect();
    for reader in readers {
        for items in reader.await.expect("no panic") {
            assert!(items.expect("they go on").iter().eq(expected.iter()));
        }
    }
    publisher.await.expect("no panic");
}

/// What many are sent is kept by reference, and sent again from there.
#[tokio::test]
async fn a_session_s_feeds_survive_cuts() {
    const ITEMS: usize = 3_000;
    for uri in ["tcp://127.0.0.1:0", "ws://127.0.0.1:0/"] {
        let shared = Arc::new(Topic::default());
        let uri = bind(uri, topic(&shared)).await;
        let cutter = Cutter::start(&uri, budgets(30, 10_000)).await;
        let client = Client::builder().resume(Events::default().resume());
        let client = client.connect(cutter.uri()).await.expect("it listens");
        let publisher = tokio::spawn(async move {
            for n in 0..ITEMS {
                shared.publish(&format!("{n:0300}"));
                tokio::task::yield_now().await;
            }
        });
        let mut readers = [64, 256].map(|n| client.request_stream("").credit(n));
        for n in 0..ITEMS {
            for items in &mut readers {
                let item = within(items.next()).await.expect("it goes on").expect("an item");
                assert_eq!(item.data, format!("{n:0300}"));
            }
        }
        publisher.await.expect("no panic");
        assert_eq!(cutter.cuts(), 30);
    }
}

// ---- the newest value --------------------------------------------------------------------------------

fn number(n: usize) -> SharedPayload {
    SharedPayload::new(None, n.to_string().as_bytes())
}

#[tokio::test]
async fn a_slow_reader_gets_the_newest_value() {
    let (values, seen) = watch::channel(number(0));
    let app = Router::new(seen)
        .route(
            "ticks",
            stream_feed(|values: watch::Receiver<SharedPayload>, ()| Ok(latest(values))),
        )
        .default_route("ticks");
    let mut peer = Peer::established(&serve(app).await).await;
    peer.send(rs(1, 1, "")).await;
    peer.expect(p(1, N, "0")).await;
    for n in 1..100 {
        values.send_replace(number(n));
        if n % 10 == 0 {
            assert_eq!(peer.ping_collecting().await, [], "nobody has asked for it");
        }
    }
    peer.send(rn(1, 1)).await;
    peer.expect(p(1, N, "99")).await;
    peer.send(rn(1, 3)).await;
    assert_eq!(peer.ping_collecting().await, [], "there is nothing new");
    for n in 100..103 {
        values.send_replace(number(n));
        peer.expect(p(1, N, n.to_string())).await;
    }
    values.send_replace(number(200));
    drop(values);
    assert_eq!(peer.ping_collecting().await, []);
    peer.send(rn(1, 1)).await;
    peer.expect(p(1, N, "200")).await;
    peer.expect(p(1, C, "")).await;
}

/// Whatever a client has asked for: it passes over what has arrived meanwhile.
#[tokio::test]
async fn a_client_takes_the_newest_of_what_has_arrived() {
    let (values, seen) = watch::channel(number(0));
    let app = Router::new(seen)
        .route(
            "ticks",
            stream_feed(|values: watch::Receiver<SharedPayload>, ()| Ok(latest(values))),
        )
        .default_route("ticks");
    let client = Client::connect(&serve(app).await).await.expect("it listens");
    let mut items = client.request_stream("").newest();
    let mut next = async || items.next().await.map(|item| item.map(|item| item.data));
    assert_eq!(next().await, Some(Ok("0".into())));
    for n in 1..=50 {
        values.send_replace(number(n));
        // So that the server sends each.
        client.ping().await.expect("an answer");
    }
    client.ping().await.expect("an answer");
    assert_eq!(next().await, Some(Ok("50".into())));
    values.send_replace(number(51));
    drop(values);
    assert_eq!(next().await, Some(Ok("51".into())));
    assert_eq!(next().await, None);
    assert_eq!(next().await, None);
}

#[tokio::test]
async fn an_error_comes_behind_the_newest_item() {
    let client = Client::connect(&serve(counting()).await).await.expect("it listens");
    let request = Payload::new("100").route("fail").expect("a short route");
    let mut items = client.request_stream(request).newest();
    let mut seen = Vec::new();
    let error = loop {
        match items.next().await {
            Some(Ok(item)) => seen.push(item.data),
            Some(Err(error)) => break error,
            None => panic!("it fails"),
        }
    };
    assert_eq!(error, Error::Application("no more".into()));
    assert_eq!(seen.last().map(|data| &data[..]), Some(&b"99"[..]));
    assert!(items.next().await.is_none());
}
