//! Notices of a server that stops, connections that are as old as they may be, and those that are silent.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use rsock::{
    Client, ClientBuilder, Endpoint, ErrorCode, MeterReading, Request, Responder, Server,
    metadata::{Features, Notice, mime},
};
use rsock_tests::{
    fixture::Fixture,
    link::Served,
    record::{Recorder, limit_time},
    script::Peer,
    wire::{mp, named, rr, setup},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

/// The notices that a client was sent, and when.
type Told = Arc<Mutex<Vec<(Notice, Instant)>>>;

fn heeding(features: Features) -> (ClientBuilder, Told) {
    let told = Told::default();
    let tell = Arc::clone(&told);
    let heed = move |notice| {
        tell.lock().expect("nobody panics").push((notice, Instant::now()));
    };
    (Client::builder().heed(features, heed), told)
}

/// Notes what is pushed.
struct Pushed(Arc<Recorder>);

impl Responder for Pushed {
    async fn metadata_push(self: Arc<Self>, push: Request) {
        self.0.note(format!("{:?}", push.notice()));
    }
}

async fn connect(endpoint: &Endpoint, client: ClientBuilder) -> Client {
    let (near, far) = rsock::memory(64 << 10);
    let serving = endpoint.clone();
    tokio::spawn(async move { serving.serve_over(far).await });
    let client = client.connect_over(near).await.expect("its settings are right");
    client.request_response("here").await.expect("it is served");
    client
}

/// Each knows its time, has a second to go elsewhere, and is served until that is over; the others are
/// pushed nothing.
#[tokio::test(start_paused = true)]
async fn who_heeds_it_is_told_before_a_shutdown_ends_its_connection() {
    const CLIENTS: usize = 600;
    let (spread, limit) = (Duration::from_secs(5), Duration::from_secs(60));
    let server = Server::builder().drain_spread(spread).drain_limit(limit);
    let fixture = Fixture::default();
    let meter = Arc::clone(&fixture.meter);
    let endpoint = server.meter(Arc::clone(&meter)).without_listeners(fixture);
    let mut clients = Vec::new();
    let pushed = Arc::<Recorder>::default();
    for number in 0..CLIENTS {
        let (client, told) = match number % 2 {
            0 => heeding(Features::DRAIN),
            _ => heeding(Features::AUTH_REFRESH.with(Features::DEADLINE)),
        };
        let client = client.responder(Pushed(Arc::clone(&pushed)));
        clients.push((connect(&endpoint, client).await, told));
    }
    let begun = Instant::now();
    let drained = tokio::spawn(async move { endpoint.drain().await });
    let ended = join_all(clients.iter().map(async |(client, told)| {
        loop {
            if client.request_response("still").await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        client.closed().await;
        (begun.elapsed(), told.lock().unwrap().clone())
    }));
    let ended = ended.await;
    drained.await.unwrap();
    let margin = Duration::from_millis(50);
    for (number, (after, told)) in ended.iter().enumerate() {
        if number % 2 == 1 {
            assert_eq!(told, &[], "it has not said that it heeds it");
            continue;
        }
        let [(Notice::Drain { requests, streams }, at)] = told[..] else { panic!("{told:?}") };
        assert!(at - begun < margin && streams == limit, "{told:?}");
        assert!(requests >= Duration::from_secs(1) && requests <= spread, "{requests:?}");
        // It is served until then, and ends soon after.
        assert!((requests..requests + margin).contains(after), "{after:?} of {requests:?}");
    }
    let within = |seconds: std::ops::Range<f64>, rest| {
        let of = ended.iter().enumerate().filter(|(number, _)| number % 2 == rest);
        of.filter(|(_, (after, _))| seconds.contains(&after.as_secs_f64())).count()
    };
    for fourth in 0..4 {
        let (fourth, counts) = (f64::from(fourth), 60..=90);
        assert!(counts.contains(&within(1.0 + fourth..2.0 + fourth, 0)), "who heeds: {ended:?}");
        let fourth = 1.25 * fourth;
        assert!(counts.contains(&within(fourth..fourth + 1.25, 1)), "the others: {ended:?}");
    }
    assert_eq!(pushed.lines(), [""; 0], "notices are no pushes of the application's");
    assert_eq!(meter.read().drain_notices, CLIENTS as u64 / 2);
}

/// Byte by byte, to a client of somebody else's; without a spread there is no time to go.
#[tokio::test]
async fn a_notice_is_a_push_of_composite_metadata() {
    limit_time();
    for transport in 0..2 {
        let mut served = Served::with(Server::builder()).await;
        let features = |words: &str| {
            let name = mime::FEATURES.as_bytes();
            setup().metadata(named(&[&[name.len() as u8 - 1], name].concat(), words))
        };
        let mut heeds = Peer::connect(&served.uris[transport]).await;
        heeds.send(features("fly drain")).await;
        let mut others = Peer::connect(&served.uris[transport]).await;
        others.send(features("drains")).await;
        for peer in [&mut heeds, &mut others] {
            peer.fence().await;
        }
        served.begin_shutdown();
        let name = mime::DRAIN.as_bytes();
        let head = [&[name.len() as u8 - 1], name].concat();
        heeds.expect(mp(named(&head, "requests 0 streams 10000"))).await;
        for peer in [&mut heeds, &mut others] {
            let closed = ErrorCode::CONNECTION_CLOSE.0;
            peer.expect_error(0, closed).await;
            peer.expect_end().await;
        }
        served.ended().await;
    }
}

/// One that has been heard of, and not accepted, when the shutdown begins.
#[tokio::test]
async fn who_is_being_accepted_is_told_when_it_is() {
    limit_time();
    let spread = Duration::from_secs(60);
    let mut served = Served::with(Server::builder().drain_spread(spread).drain_limit(spread)).await;
    let name = mime::FEATURES.as_bytes();
    let features = named(&[&[name.len() as u8 - 1], name].concat(), "drain");
    let mut before = Peer::connect(served.tcp()).await;
    before.send(setup().metadata(features.clone())).await;
    before.fence().await;
    let mut peer = Peer::connect(served.tcp()).await;
    // Its driver waits for SETUP.
    Peer::established(served.tcp()).await.fence().await;
    served.begin_shutdown();
    let told = before.next().await;
    peer.send_all([setup().metadata(features), rr(1, "hello")]).await;
    let (first, second) = (peer.next().await, peer.next().await);
    assert_eq!(first.kind, told.kind, "told before it is answered: {first:?} {second:?}");
    drop((before, peer));
    served.ended().await;
}

/// Connections of a balancer are shared out anew.
#[tokio::test(start_paused = true)]
async fn connections_end_when_they_are_as_old_as_they_may_be() {
    let (age, limit) = (Duration::from_secs(100), Duration::from_secs(30));
    let server = Server::builder().max_connection_age(age).drain_limit(limit);
    let fixture = Fixture::default();
    let meter = Arc::clone(&fixture.meter);
    let endpoint = server.meter(Arc::clone(&meter)).without_listeners(fixture);
    let mut clients = Vec::new();
    for number in 0..40 {
        let (heeds, told) = heeding(Features::DRAIN);
        let client = if number % 2 == 0 { heeds } else { Client::builder() };
        clients.push((connect(&endpoint, client).await, told));
    }
    let begun = Instant::now();
    let held = connect(&endpoint, Client::builder()).await;
    let pending = tokio::spawn(held.request_response("never"));
    let ended = join_all(clients.iter().map(async |(client, told)| {
        client.closed().await;
        (begun.elapsed().as_secs_f64(), told.lock().unwrap().clone())
    }));
    for (number, (after, told)) in ended.await.into_iter().enumerate() {
        let moving = if number % 2 == 0 { 1.0 } else { 0.0 };
        assert!((90.0 + moving..111.0 + moving).contains(&after), "{number}: {after}");
        let told: Vec<_> = told.into_iter().map(|(notice, _)| notice).collect();
        let notice = Notice::Drain { requests: Duration::from_secs(1), streams: limit };
        assert_eq!(told, if number % 2 == 0 { vec![notice] } else { vec![] });
    }
    let served: u64 = held.request_response("more").await.map_or(0, |_| 1);
    let closed = held.closed().await;
    assert!(closed.to_string().contains("for as long as it may be"), "{closed}");
    let after = begun.elapsed().as_secs_f64();
    assert!((120.0..145.0).contains(&after) && pending.await.unwrap().is_err(), "{after}");
    let MeterReading { aged_connections, drain_notices, .. } = meter.read();
    assert_eq!((aged_connections, drain_notices, served), (41, 20, 0));
}

/// It is at rest, and what stands between does not forget it.
#[tokio::test]
async fn a_silent_websocket_is_pinged() {
    limit_time();
    for interval in [Duration::from_millis(5), Duration::ZERO] {
        let server = Server::builder().heartbeat(interval);
        let mut served = Served::with(server).await;
        let authority = served.ws().strip_prefix("ws://").unwrap();
        let authority = authority.strip_suffix("/rsocket").unwrap().to_owned();
        let mut socket = TcpStream::connect(&authority).await.unwrap();
        let upgrade = format!(
            "GET /rsocket HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        socket.write_all(upgrade.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.unwrap());
        }
        let mut byte = [0; 2];
        if interval.is_zero() {
            // Its first frame is the farewell of a shutdown, and no ping.
            served.begin_shutdown();
            socket.read_exact(&mut byte).await.unwrap();
            assert_ne!(byte[0], 0x89);
        } else {
            for _ in 0..3 {
                socket.read_exact(&mut byte).await.unwrap();
                assert_eq!(byte, [0x89, 0]);
            }
            served.begin_shutdown();
        }
        drop(socket);
        served.ended().await;
    }
}

/// It is refused where nobody could say what the entry would be.
#[tokio::test]
async fn what_a_client_heeds_needs_composite_metadata() {
    let (near, _far) = rsock::memory(1 << 10);
    let (client, _) = heeding(Features::DRAIN);
    let error = client.metadata_mime("text/plain").connect_over(near).await.unwrap_err();
    assert!(error.to_string().contains("composite metadata"), "{error}");
}
