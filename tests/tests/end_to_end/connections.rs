//! The connections of a server, as whoever runs it sees them.

use std::{pin::pin, time::Duration};

use futures_util::{FutureExt, StreamExt, stream};
use rsock::{
    Client, CloseReason, Endpoint, ErrorCode, Payload, PayloadExt, Payloads, Resume, ResumeLimits,
    Router, Server, Side, frame::Interaction, request_channel, request_stream,
};
use rsock_tests::{cutter::Cutter, fixture::Fixture, record::limit_time, script::PATIENCE};

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

async fn connect(endpoint: &Endpoint) -> Client {
    let (near, far) = rsock::memory(64 << 10);
    let serving = endpoint.clone();
    tokio::spawn(async move { serving.serve_over_named("10.0.0.7:5", far).await });
    let client = Client::builder().wait_until_accepted(true).connect_over(near).await;
    client.expect("its settings are right")
}

/// The end that the operator has made, as the client sees it.
fn is_closed(reason: &CloseReason) -> bool {
    matches!(
        reason,
        CloseReason::Error { by: Side::Peer, code: ErrorCode::CONNECTION_CLOSE, .. }
            | CloseReason::Finished(Side::Peer)
    )
}

#[tokio::test(start_paused = true)]
async fn each_connection_is_seen_once_in_the_order_of_numbers() {
    limit_time();
    let endpoint = Server::builder().without_listeners(Fixture::default());
    let connections = endpoint.connections();
    assert!(connections.page(0, 10).await.connections.is_empty());
    let mut clients = Vec::new();
    // More than are looked at at a time.
    for _ in 0..600 {
        clients.push(connect(&endpoint).await);
    }
    tokio::time::advance(Duration::from_secs(5)).await;
    let (mut after, mut ids) = (0, Vec::new());
    loop {
        let page = connections.page(after, 100).await;
        assert_eq!((page.connections.len(), page.has_more), (100, ids.len() < 500));
        for one in &page.connections {
            assert_eq!((&*one.address, one.scheme, one.streams), ("10.0.0.7:5", Some("own"), 0));
            assert!(one.age >= Duration::from_secs(5) && one.bytes_in > 0 && !one.is_stuck);
            assert!(!one.is_resumable && one.subject.is_none() && one.round_trip.is_none());
            ids.push(one.id);
        }
        after = ids[ids.len() - 1];
        if !page.has_more {
            break;
        }
    }
    assert!(ids.is_sorted() && ids.len() == 600);
    // Those that have gone are not seen, and what is asked for may be none of it.
    clients.truncate(599);
    while connections.page(0, 1_000).await.connections.len() > 599 {
        tokio::task::yield_now().await;
    }
    assert!(connections.page(after, 10).await.connections.len() <= 1);
    let none = connections.page(0, 0).await;
    assert_eq!((none.connections.len(), none.has_more), (0, true));
    assert!(connections.get(0, 10).await.is_none());
}

/// A route of items without an end, and one of a channel that asks for two at first.
fn app() -> Router<()> {
    Router::new(())
        .route("ticks", request_stream(|(), ()| stream::repeat("tick")))
        .route("talk", request_channel(|(), (), payloads: Payloads| payloads.credit(2)))
}

#[tokio::test]
async fn its_streams_are_seen_with_their_routes_and_credit() {
    limit_time();
    for remembers in [true, false] {
        let endpoint = Server::builder().remember_routes(remembers).without_listeners(app());
        let (connections, client) = (endpoint.connections(), connect(&endpoint).await);
        let ticks = Payload::default().route("ticks").expect("a route");
        let mut ticks = client.request_stream(ticks).credit(5);
        for _ in 0..2 {
            within(ticks.next()).await.expect("an item").expect("no failure");
        }
        let talk = Payload::default().route("talk").expect("a route");
        let first = stream::iter([talk, "hello".into()]).chain(stream::pending());
        let mut talk = pin!(client.request_channel(first));
        within(talk.next()).await.expect("it comes back").expect("no failure");
        let id = connections.page(0, 1).await.connections[0].id;
        let seen = connections.get(id, 10).await.expect("it is there");
        assert_eq!((seen.info.id, seen.info.streams, seen.streams.len()), (id, 2, 2));
        assert!(seen.info.credit_stalls > 0, "{seen:?}");
        let [ticks, talk] = &seen.streams[..] else { panic!("{seen:?}") };
        assert_eq!((ticks.interaction, ticks.by), (Interaction::RequestStream, Side::Peer));
        assert!(ticks.granted >= 5 && ticks.sent == ticks.granted, "{ticks:?}");
        assert_eq!(talk.interaction, Interaction::RequestChannel);
        assert!(talk.sent == 1 && talk.awaited > 0, "{talk:?}");
        let routes = [&ticks.route, &talk.route].map(Option::as_deref);
        let known = remembers.then_some(["ticks", "talk"]).map(|known| known.map(Some));
        assert_eq!(routes, known.unwrap_or_default());
        assert_eq!([ticks.age, talk.age].map(|age| age.is_some()), [remembers; 2]);
        // The oldest come first, and no more than are asked for.
        let few = connections.get(id, 1).await.expect("it is there");
        assert_eq!((few.streams.len(), few.streams[0].id), (1, ticks.id));
        assert!(connections.get(id, 0).await.expect("it is there").streams.is_empty());
    }
}

/// What is remembered of streams that have ended goes by itself.
#[tokio::test]
async fn what_is_remembered_of_many_streams_is_of_those_that_are_open() {
    limit_time();
    let endpoint = Server::builder().remember_routes(true).without_listeners(app());
    let (connections, client) = (endpoint.connections(), connect(&endpoint).await);
    let open = async || {
        let ticks = Payload::default().route("ticks").expect("a route");
        let mut ticks = client.request_stream(ticks).credit(1);
        within(ticks.next()).await.expect("an item").expect("no failure");
        ticks
    };
    let kept = open().await;
    for _ in 0..200 {
        drop(open().await);
    }
    let _last = open().await;
    let id = connections.page(0, 1).await.connections[0].id;
    let seen = connections.get(id, 10).await.expect("it is there");
    assert!(seen.streams.iter().all(|stream| stream.route.as_deref() == Some("ticks")));
    assert_eq!(seen.streams.len(), 2, "{seen:?}");
    drop(kept);
}

#[tokio::test]
async fn one_is_closed_and_the_others_are_served() {
    limit_time();
    let endpoint = Server::builder().without_listeners(Fixture::default());
    let connections = endpoint.connections();
    let (closed, drained, other) =
        (connect(&endpoint).await, connect(&endpoint).await, connect(&endpoint).await);
    let ids: Vec<_> = connections.page(0, 10).await.connections.iter().map(|one| one.id).collect();
    assert!(connections.close(ids[0]).await);
    let reason = within(closed.closed()).await;
    assert!(is_closed(&reason), "{reason:?}");
    // Gently: what is open may end.
    let mut numbers = drained.request_stream("count:3").credit(1);
    within(numbers.next()).await.expect("an item").expect("no failure");
    assert!(connections.drain(ids[1]).await);
    for _ in 1..3 {
        within(numbers.next()).await.expect("an item").expect("no failure");
    }
    assert!(within(numbers.next()).await.is_none());
    let reason = within(drained.closed()).await;
    assert!(is_closed(&reason), "{reason:?}");
    within(other.request_response("still")).await.expect("it is served");
    assert!(!connections.close(u64::MAX).await && !connections.drain(u64::MAX).await);
    while connections.get(ids[0], 0).await.is_some() {
        tokio::task::yield_now().await;
    }
    assert!(!connections.close(ids[0]).await);
}

/// Whoever does not answer holds nobody up for more than a second, and is told of.
#[tokio::test(start_paused = true)]
async fn one_that_is_stuck_is_told_of() {
    limit_time();
    let endpoint = Server::builder().without_listeners(Fixture::default());
    let (near, far) = rsock::memory(64 << 10);
    let mut stuck = pin!(endpoint.serve_over_named("stuck", far));
    let client = Client::builder().wait_until_accepted(true).connect_over(near);
    let _client = tokio::select! {
        client = client => client.expect("it is accepted"),
        () = &mut stuck => unreachable!("it is served"),
    };
    // From here on nobody drives it.
    let _other = connect(&endpoint).await;
    let begun = tokio::time::Instant::now();
    let page = endpoint.connections().page(0, 10).await;
    assert_eq!(begun.elapsed(), Duration::from_secs(1));
    let seen: Vec<_> = page.connections.iter().map(|one| (&*one.address, one.is_stuck)).collect();
    assert_eq!(seen, [("stuck", true), ("10.0.0.7:5", false)]);
}

#[tokio::test]
async fn a_session_is_seen_while_it_has_no_transport() {
    limit_time();
    let builder = Server::builder().resume(ResumeLimits::default(), 10);
    let server = builder.bind(&["tcp://127.0.0.1:0"]).await.expect("a port");
    let (uri, connections) = (server.addresses().remove(0), server.connections());
    let serving = tokio::spawn(server.serve(Fixture::default()).into_future());
    let cutter = Cutter::start(&uri, std::iter::empty()).await;
    let client = Client::builder().resume(Resume::new()).connect(cutter.uri()).await;
    let client = client.expect("a connection");
    within(client.request_response("here")).await.expect("it is served");
    let seen = connections.page(0, 10).await.connections.remove(0);
    assert_eq!((seen.scheme, seen.is_resumable), (Some("tcp"), true));
    cutter.refuse(true);
    cutter.cut();
    let id = seen.id;
    within(async {
        while connections.get(id, 1).await.expect("it is kept").info.scheme.is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // It can be ended while it waits.
    assert!(connections.close(id).await);
    within(async {
        while connections.get(id, 1).await.is_some() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(client);
    serving.abort();
}

#[tokio::test]
async fn the_ping_of_a_websocket_is_timed() {
    limit_time();
    let builder = Server::builder().heartbeat(Duration::from_millis(20));
    let server = builder.bind(&["ws://127.0.0.1:0/x"]).await.expect("a port");
    let (uri, connections) = (server.addresses().remove(0), server.connections());
    let serving = tokio::spawn(server.serve(Fixture::default()).into_future());
    let client = Client::builder().wait_until_accepted(true).connect(&uri).await.expect("served");
    let round_trip = within(async {
        loop {
            let page = connections.page(0, 10).await;
            let seen = page.connections.first().expect("it is there");
            assert_eq!(seen.scheme, Some("ws"));
            if let Some(round_trip) = seen.round_trip {
                break round_trip;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(round_trip.await < PATIENCE);
    client.close().now_or_never();
    serving.abort();
}
