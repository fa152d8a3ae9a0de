//! Leases between our own ends: requests wait for them, and none is ever refused for want of one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, future, stream};
use rsock::{Client, ConnectError, Error, ErrorCode, Grant, Load, Server, SharedLease};
use rsock_tests::{
    link::{Link, TRANSPORTS},
    script::{PATIENCE, PeerListener},
    wire,
};

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

/// So many requests at a time, for as long as anybody wants to wait.
fn grants(requests: u32) -> impl Fn(&Load) -> Grant + Clone + Send + Sync {
    move |_: &Load| Grant::new(requests, Duration::from_secs(600))
}

#[tokio::test]
async fn lease_03_04_10_all_interactions_wait_in_both_directions() {
    for transport in TRANSPORTS {
        let client = Client::builder().lease(grants(3));
        let link = Link::with(transport, client, Server::builder().lease(grants(3))).await;
        for (requester, saw) in link.ways() {
            for n in 0..20 {
                within(requester.fire_and_forget(format!("f{n}"))).await.expect("taken");
                let reply = within(requester.request_response(format!("r{n}"))).await;
                assert_eq!(reply.expect("a reply").data, format!("r{n}"));
                let items: Vec<_> =
                    within(requester.request_stream("count:3").try_collect()).await.expect("items");
                assert_eq!(items.len(), 3);
                let sent = stream::iter(["echo", "b"]);
                let echoed: Vec<_> =
                    within(requester.request_channel(sent).try_collect()).await.expect("items");
                assert_eq!(echoed.len(), 2);
            }
            assert!(saw.lines().contains(&"fnf f19".to_owned()));
        }
        let frames = link.frames.lines();
        assert!(frames.iter().any(|line| line.starts_with("< LEASE")), "{frames:?}");
        assert!(frames.iter().any(|line| line.starts_with("> LEASE")), "{frames:?}");
        assert_eq!(link.server_meter.read().stats.refused_leases, 0);
        assert_eq!(link.client_meter.read().stats.refused_leases, 0);
    }
}

#[tokio::test]
async fn lease_18_many_more_requests_than_permits_are_all_served_in_the_end() {
    for transport in TRANSPORTS {
        let client = Client::builder().lease(SharedLease::default());
        let link = Link::with(transport, client, Server::builder().lease(grants(7))).await;
        let asked = (0..1_000).map(|n| link.client.request_response(n.to_string()));
        let replies = within(future::join_all(asked)).await;
        for (n, reply) in replies.into_iter().enumerate() {
            assert_eq!(reply.expect("a reply").data, n.to_string());
        }
    }
}

#[tokio::test]
async fn lease_08_a_policy_can_stop_a_peer_and_let_it_go_on() {
    let allowed = Arc::new(AtomicU32::new(0));
    let policy = {
        let allowed = Arc::clone(&allowed);
        move |_: &Load| Grant::new(allowed.load(Relaxed), Duration::from_millis(20))
    };
    let client = Client::builder().lease(SharedLease::default());
    let link = Link::with(TRANSPORTS[0], client, Server::builder().lease(policy)).await;
    let waiting = link.client.request_response("waits");
    let mut waiting = std::pin::pin!(waiting);
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    // A round trip later it has not been sent.
    within(link.client.ping()).await.expect("an answer");
    assert!(!link.frames.lines().iter().any(|line| line.starts_with("> RR")));
    // One that is given up is never sent.
    let given_up = Box::pin(link.client.request_response("given up"));
    let mut given_up = given_up;
    assert!(futures_util::poll!(given_up.as_mut()).is_pending());
    drop(given_up);
    allowed.store(5, Relaxed);
    assert_eq!(within(waiting).await.expect("a reply").data, "waits");
    within(link.client.request_response("next")).await.expect("a reply");
    let sent: Vec<_> =
        link.frames.lines().into_iter().filter(|line| line.starts_with("> ")).collect();
    assert!(!sent.iter().any(|line| line.contains("given up")), "RR-10: {sent:?}");
    assert!(link.client.lease().is_some());
}

#[tokio::test]
async fn lease_11_a_handler_is_never_called_beyond_a_lease() {
    // The client's own policy gives nothing; what the server's requester asks waits.
    let client = Client::builder().lease(grants(0));
    let link = Link::with(TRANSPORTS[0], client, Server::builder().lease(grants(10))).await;
    let waiting = link.back.request_response("waits");
    let mut waiting = std::pin::pin!(waiting);
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    within(link.client.request_response("x")).await.expect("a reply");
    within(link.client.close()).await;
    assert!(matches!(within(waiting).await, Err(Error::Closed { .. })), "nothing hangs");
}

#[tokio::test]
async fn lease_16_a_server_without_leases_refuses_with_its_code() {
    let served = rsock_tests::link::Served::start().await;
    let client =
        Client::builder().lease(SharedLease::default()).connect(served.tcp()).await.expect("TCP");
    let failed = within(client.request_response("x")).await;
    let Err(Error::Closed { reason: rsock::CloseReason::Error { code, .. }, .. }) = failed else {
        panic!("{failed:?}");
    };
    assert_eq!(code, ErrorCode::UNSUPPORTED_SETUP);

    let refused = Client::builder()
        .lease(SharedLease::default())
        .wait_until_accepted(true)
        .connect(served.tcp())
        .await;
    assert!(matches!(refused, Err(ConnectError::Closed(_))), "{refused:?}");
    let taken = Client::builder().wait_until_accepted(true).connect(served.ws()).await;
    assert!(taken.is_ok());
}

/// There is nothing to ask of it, and a server of rsocket-go ends the connection over a LEASE.
#[tokio::test]
async fn a_client_without_a_responder_gives_no_lease() {
    let listener = PeerListener::bind().await;
    let uri = listener.uri();
    let connecting = Client::builder().lease(grants(3)).connect(&uri);
    let (client, mut server) = tokio::join!(connecting, listener.accept_setup());
    let client = client.expect("a connection");
    server.send(wire::lease(600_000, 1)).await;
    let asked = tokio::spawn(client.request_response("x").into_future());
    server.expect(wire::rr(1, "x")).await;
    server.send(wire::p(1, wire::N | wire::C, "y")).await;
    assert_eq!(within(asked).await.expect("no panic").expect("a reply").data, "y");
}

#[tokio::test]
async fn lease_17_clients_that_do_not_ask_are_not_held_to_it() {
    let server = Server::builder().lease(grants(1));
    let link = Link::with(TRANSPORTS[0], Client::builder(), server).await;
    let replies = stream::iter(0..50)
        .then(|n| link.client.request_response(n.to_string()))
        .filter(|reply| future::ready(reply.is_ok()));
    assert_eq!(within(replies.count()).await, 50);
}
