//! How connections end, and what that means for what is pending on them.

use std::time::Duration;

use futures_util::{StreamExt, future::join_all, stream};
use rsock::{Client, CloseReason, ConnectionState, Error, ErrorCode, Server, Side};
use rsock_tests::fixture::Fixture;
use rsock_tests::link::{Link, Served, TRANSPORTS, Transport};
use rsock_tests::never_sent;

/// CONN-05: everything pending fails with the reason, and handlers are dropped.
#[tokio::test]
async fn an_end_fails_everything_pending() {
    for transport in TRANSPORTS {
        let link = Link::start(transport).await;
        let mut pending = Vec::new();
        for (requester, saw) in link.ways() {
            let call = tokio::spawn(requester.request_response("never"));
            let items = tokio::spawn(requester.request_stream("never").collect::<Vec<_>>());
            let source = stream::once(async { "listen" }).chain(stream::pending());
            let channel = tokio::spawn(requester.request_channel(source).collect::<Vec<_>>());
            saw.wait("never runs").await;
            requester.request_response("x").await.unwrap();
            pending.push((call, items, channel));
        }
        let reason = link.client.abort().await;
        assert_eq!(reason, CloseReason::Finished(Side::Local));
        for (way, (call, items, channel)) in pending.into_iter().enumerate() {
            let error = call.await.unwrap().unwrap_err();
            let Error::Closed { reason, .. } = &error else {
                panic!("{error:?}");
            };
            if way == 0 {
                assert_eq!(*reason, CloseReason::Finished(Side::Local));
            }
            assert_eq!(items.await.unwrap(), [Err(error.clone())]);
            assert_eq!(channel.await.unwrap(), [Err(error)]);
        }
        for saw in [&link.server_saw, &link.client_saw] {
            saw.wait_count("dropped never", 2).await;
            saw.wait("dropped listen").await;
        }
        let late = link.client.request_response("late").await;
        assert_eq!(late, Err(never_sent(reason.clone())));
        assert_eq!(link.client.fire_and_forget("late").await, Err(never_sent(reason.clone())));
        assert_eq!(link.client.metadata_push("late").await, Err(never_sent(reason.clone())));
        assert_eq!(link.client.state(), ConnectionState::Closed(reason));
        link.back.closed().await;
    }
}

/// Requests that wait for a permit end too.
#[tokio::test]
async fn an_end_fails_what_waits_to_be_sent() {
    for transport in TRANSPORTS {
        let client = Client::builder().max_requests(1);
        let link = Link::with(transport, client, Server::builder()).await;
        let first = tokio::spawn(link.client.request_response("never"));
        link.server_saw.wait("never runs").await;
        let waiting = tokio::spawn(link.client.request_response("waits"));
        let told = link.client.clone();
        let told = tokio::spawn(async move { told.fire_and_forget("waits").await });
        tokio::task::yield_now().await;
        link.client.abort().await;
        assert!(matches!(first.await.unwrap(), Err(Error::Closed { .. })));
        assert!(matches!(waiting.await.unwrap(), Err(Error::Closed { .. })));
        assert!(matches!(told.await.unwrap(), Err(Error::Closed { .. })));
    }
}

/// A server that vanishes: no CANCEL, no ERROR, perhaps not even a FIN in good order.
#[tokio::test]
async fn a_server_that_is_dropped_closes_its_connections() {
    for transport in [Transport::Tcp, Transport::WebSocket] {
        let link = Link::start(transport).await;
        let call = tokio::spawn(link.client.request_response("never"));
        link.server_saw.wait("never runs").await;
        link.served.as_ref().unwrap().kill();
        assert!(matches!(call.await.unwrap(), Err(Error::Closed { .. })));
        link.server_saw.wait("dropped never").await;
    }
}

/// Dropping the last handle ends the connection, after what is open.
#[tokio::test]
async fn the_last_handle_closes_after_the_last_stream() {
    for transport in TRANSPORTS {
        let link = Link::start(transport).await;
        let (client, back) = (link.client, link.back);
        let mut items = client.request_stream("count:100").credit(4);
        items.next().await.unwrap().unwrap();
        drop(client);
        assert_eq!(items.count().await, 99);
        assert_eq!(back.closed().await, CloseReason::Finished(Side::Peer));
        link.frames.wait_containing("> ERR(0,0x102").await;
    }
}

/// The last words of a client that has only told: they arrive.
#[tokio::test]
async fn close_flushes_fire_and_forget() {
    for transport in TRANSPORTS {
        let link = Link::start(transport).await;
        let n = 2_000;
        for _ in 0..n {
            link.client.fire_and_forget("flushed").await.unwrap();
        }
        let large = format!("last{}", "x".repeat(1 << 20));
        link.client.fire_and_forget(large).await.unwrap();
        let reason = link.client.close().await;
        assert_eq!(reason, CloseReason::Finished(Side::Local));
        link.server_saw.wait_count("fnf flushed", n).await;
        link.server_saw.wait_containing("fnf last").await;
    }
}

/// The same without `close`, and behind SETUP in one go.
#[tokio::test]
async fn a_client_dropped_at_once_has_still_told() {
    let served = Served::start().await;
    for uri in &served.uris {
        let client = Client::connect(uri).await.unwrap();
        client.fire_and_forget("and gone").await.unwrap();
        drop(client);
    }
    served.fixture.recorder.wait_count("fnf and gone", 2).await;
}

/// CONN-03, CONN-04: open streams run to their end, new requests are refused.
#[tokio::test]
async fn a_graceful_shutdown_drains() {
    for transport in [Transport::Tcp, Transport::WebSocket] {
        let mut link = Link::start(transport).await;
        let mut items = link.client.request_stream("count:500").credit(4);
        items.next().await.unwrap().unwrap();
        let mut served = link.served.take().unwrap();
        let uri = served.tcp().to_owned();
        served.begin_shutdown();
        let refused = refusal(&link.client).await;
        assert_eq!(refused.code(), ErrorCode::REJECTED, "{refused}");
        // Its own requester refuses as well.
        assert!(link.back.request_response("new").await.is_err());
        assert_eq!(items.by_ref().take(400).count().await, 400);
        assert_eq!(items.count().await, 99);
        assert_eq!(link.client.closed().await, CloseReason::Finished(Side::Peer));
        served.ended().await;
        assert!(Client::connect(&uri).await.is_err());
    }
}

/// Asks until it is refused: the shutdown is on its way.
async fn refusal(client: &Client) -> Error {
    loop {
        if let Err(error) = client.request_response("new").await {
            return error;
        }
    }
}

/// Clients that connect elsewhere do not come all at once: those that were not told yet are served.
#[tokio::test(start_paused = true)]
async fn a_shutdown_tells_connections_one_after_the_other() {
    const CLIENTS: usize = 512;
    let spread = Duration::from_secs(5);
    let server = Server::builder().drain_spread(spread).drain_limit(Duration::from_secs(60));
    let endpoint = server.without_listeners(Fixture::default());
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let (near, far) = rsock::memory(64 << 10);
        let serving = endpoint.clone();
        tokio::spawn(async move { serving.serve_over(far).await });
        clients.push(Client::builder().connect_over(near).await.unwrap());
    }
    for client in &clients {
        client.request_response("here").await.unwrap();
    }
    let begun = tokio::time::Instant::now();
    let drained = tokio::spawn(async move { endpoint.drain().await });
    let ended = clients.iter().map(|client| async move {
        client.closed().await;
        begun.elapsed()
    });
    let (ended, ()) = tokio::join!(join_all(ended), async {
        tokio::time::sleep(spread / 2).await;
        let served = join_all(clients.iter().map(|client| client.request_response("still"))).await;
        let served = served.iter().filter(|answer| answer.is_ok()).count();
        assert!((CLIENTS / 3..CLIENTS * 2 / 3).contains(&served), "{served} of {CLIENTS}");
    });
    drained.await.unwrap();
    for tenth in 0..10 {
        let of_tenth =
            (spread / 10 * tenth)..(spread / 10 * (tenth + 1) + Duration::from_millis(50));
        let count = ended.iter().filter(|time| of_tenth.contains(time)).count();
        assert!((CLIENTS / 20..CLIENTS / 5).contains(&count), "{count} in {of_tenth:?}");
    }
}

/// The drain limit: what does not end is ended.
#[tokio::test]
async fn a_shutdown_does_not_wait_for_ever() {
    let server = Server::builder().drain_limit(Duration::from_millis(50));
    let mut link = Link::with(Transport::Tcp, Client::builder(), server).await;
    let call = tokio::spawn(link.client.request_response("never"));
    link.server_saw.wait("never runs").await;
    let mut served = link.served.take().unwrap();
    served.begin_shutdown();
    served.ended().await;
    assert!(matches!(call.await.unwrap(), Err(Error::Closed { .. })));
    link.server_saw.wait("dropped never").await;
}

/// Tables are empty when everything has ended.
#[tokio::test]
async fn nothing_is_left() {
    for transport in TRANSPORTS {
        let link = Link::start(transport).await;
        for (requester, saw) in link.ways() {
            for _ in 0..50 {
                let call = tokio::spawn(requester.request_response("never"));
                let mut items = requester.request_stream("inf").credit(3);
                items.next().await.unwrap().unwrap();
                call.abort();
                drop(items);
                requester.fire_and_forget("x").await.unwrap();
            }
            saw.wait_count("dropped inf", 50).await;
        }
        let (client, server) = (&link.client_meter, &link.server_meter);
        // A round trip each way after the last CANCEL, and the figures are those of a rest.
        for (requester, _) in link.ways() {
            requester.request_response("x").await.unwrap();
        }
        while client.read().open_streams + server.read().open_streams > 0 {
            tokio::task::yield_now().await;
        }
        let reading = server.read();
        assert_eq!(reading.stats.credit_violations, 0);
        assert_eq!(reading.stats.refused_streams, 0);
    }
}
