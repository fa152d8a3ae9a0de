//! The doors over real sockets: pages of other sites, proxies, and those who come or ask too often.

#![expect(clippy::unwrap_used, reason = "a test fails where it panics, its helpers included")]

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use rsock::{Client, Payload, PayloadExt, ProxyVersions, metadata::Authentication};
use rsock_access::hash_password;
use rsock_server::{Live, Options, ProxyKind, Service};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};

/// A service, until it is dropped.
struct Running {
    addresses: Vec<String>,
    live: Live,
    options: Options,
    _stop: oneshot::Sender<()>,
    _served: JoinHandle<()>,
}

impl Running {
    async fn start(options: Options) -> Self {
        Self::start_on(["tcp://127.0.0.1:0", "ws://127.0.0.1:0/rsocket"], options).await
    }

    async fn start_on(listen: [&str; 2], options: Options) -> Self {
        let options = Options { listen: listen.map(str::to_owned).into(), ..options };
        let service = Service::bind(options.clone()).await.unwrap();
        let (addresses, live) = (service.addresses(), service.live());
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(service.run(async move {
            // Dropping the sender stops it as well.
            let _ = stopped.await;
        }));
        Self { addresses, live, options, _stop: stop, _served: served }
    }

    fn tcp(&self) -> &str {
        self.addresses[0].strip_prefix("tcp://").unwrap()
    }

    /// The host and port of HTTP.
    fn authority(&self) -> &str {
        self.addresses[1].strip_prefix("ws://").unwrap().strip_suffix("/rsocket").unwrap()
    }

    /// The status, and the text behind the head, that a request of HTTP is answered with.
    async fn http(&self, path: &str, headers: &str) -> (u16, String) {
        let mut socket = TcpStream::connect(self.authority()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within(socket.read_to_string(&mut answer)).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    /// The status that a request for a WebSocket is answered with.
    async fn opens(&self, headers: &str) -> u16 {
        let mut socket = TcpStream::connect(self.authority()).await.unwrap();
        let request = format!(
            "GET /rsocket HTTP/1.1\r\n{headers}Connection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        within(socket.read_exact(&mut status)).await.unwrap();
        String::from_utf8_lossy(&status[9..]).parse().unwrap()
    }

    async fn figure(&self, name: &str) -> u64 {
        let headers = format!("Host: {}\r\n", self.authority());
        let (_, text) = self.http("/metrics", &headers).await;
        let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

/// Fails a test that hangs.
async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work).await.expect("it hangs")
}

fn echo(data: impl Into<bytes::Bytes>) -> Payload {
    Payload::new(data).route("echo").unwrap()
}

#[tokio::test]
async fn pages_of_other_sites_get_nowhere_until_they_are_allowed() {
    let service = Running::start(Options::default()).await;
    let host = format!("Host: {}\r\n", service.authority());
    let with = |origin: &str| format!("{host}Origin: {origin}\r\n");
    let own = format!("http://{}", service.authority());
    assert_eq!(service.opens(&host).await, 101);
    assert_eq!(service.opens(&with(&own)).await, 101);
    assert_eq!(service.opens(&with("http://localhost:3000")).await, 101);
    for origin in ["https://evil.example", "null", "http://localhost.evil.example", "x"] {
        assert_eq!(service.opens(&with(origin)).await, 403, "{origin}");
        assert_eq!(service.http("/metrics", &with(origin)).await.0, 403, "{origin}");
    }
    // What is told says how it is changed.
    let (_, told) = service.http("/", &with("https://app.example")).await;
    assert!(told.contains("--allow-origin https://app.example lets them"), "{told}");
    assert_eq!(service.figure("rsockd_forbidden_http_requests_total").await, 9);
    let mut options = service.options.clone();
    options.allow_origin = vec!["https://*.example".to_owned()];
    service.live.apply(&options).unwrap();
    assert_eq!(service.opens(&with("https://app.example")).await, 101);
    assert_eq!(service.opens(&with("https://app.example.evil")).await, 403);
}

#[tokio::test]
async fn a_name_that_was_made_to_lead_to_this_machine_gets_nowhere() {
    let service = Running::start(Options::default()).await;
    let port = service.authority().rsplit(':').next().unwrap();
    let as_host = |host: &str| format!("Host: {host}:{port}\r\nOrigin: http://{host}:{port}\r\n");
    assert_eq!(service.opens(&as_host("evil.example")).await, 403);
    assert_eq!(service.http("/metrics", &as_host("evil.example")).await.0, 403);
    assert_eq!(service.http("/healthz", &as_host("evil.example")).await.0, 200);
    assert_eq!(service.opens(&as_host("localhost")).await, 101);
    let two = "Host: localhost\r\nHost: evil.example\r\n";
    assert_ne!(service.opens(two).await, 101);
    let mut options = service.options.clone();
    options.allow_host = vec!["chat.example".to_owned()];
    service.live.apply(&options).unwrap();
    assert_eq!(service.opens(&as_host("chat.example")).await, 101);
}

#[tokio::test]
async fn who_comes_by_a_proxy_that_nobody_trusts_gets_nowhere() {
    let forwarded = |service: &Running| {
        format!("Host: {}\r\nX-Forwarded-For: 203.0.113.9\r\n", service.authority())
    };
    let service = Running::start(Options::default()).await;
    assert_eq!(service.opens(&forwarded(&service)).await, 403);
    let (status, told) = service.http("/", &forwarded(&service)).await;
    assert_eq!(status, 403);
    assert!(told.contains("--proxy-trust 127.0.0.1 lets its clients in"), "{told}");
    assert_eq!(service.http("/readyz", &forwarded(&service)).await.0, 200);
    let proxy_trust = vec!["127.0.0.0/8".to_owned()];
    let service = Running::start(Options { proxy_trust, ..Options::default() }).await;
    assert_eq!(service.opens(&forwarded(&service)).await, 101);
}

/// An address of this machine is guarded as such also where others are open to everybody.
#[tokio::test]
async fn what_comes_to_this_machine_by_another_name_gets_nowhere_beside_what_is_open_to_all() {
    let listen = ["tcp://0.0.0.0:0", "ws://127.0.0.1:0/rsocket"];
    let service =
        Running::start_on(listen, Options { open_to_all: true, ..Options::default() }).await;
    assert_eq!(service.opens("Host: evil.example\r\nOrigin: http://evil.example\r\n").await, 403);
    assert_eq!(service.opens("Host: localhost\r\nX-Forwarded-Port: 1\r\n").await, 403);
    assert_eq!(service.opens("Host: localhost\r\n").await, 101);
}

/// To purge and to delete is for who is on this machine, and not for whom a proxy there serves.
#[tokio::test]
async fn who_comes_by_a_proxy_administers_nothing() {
    let proxy_trust = vec!["127.0.0.1".to_owned()];
    let service = Running::start(Options { proxy_trust, ..Options::default() }).await;
    let purge = Payload::new(r#"{"purge":"room.9"}"#).route("topics").unwrap();
    let by_itself = within(Client::connect(&service.addresses[1])).await.unwrap();
    let message = Payload::new("x").route("topic.room.9").unwrap();
    within(by_itself.request_response(message)).await.unwrap();
    let builder = Client::builder().header("x-forwarded-for", "203.0.113.9");
    let by_proxy = within(builder.connect(&service.addresses[1])).await.unwrap();
    let refused = within(by_proxy.request_response(purge.clone())).await.unwrap_err().to_string();
    assert!(refused.contains("not permitted: admin"), "{refused}");
    within(by_itself.request_response(purge)).await.unwrap();
}

#[tokio::test]
async fn requests_beyond_the_rate_are_refused_and_told_when_to_come_again() {
    let requests_per_second = Some(5);
    let service = Running::start(Options { requests_per_second, ..Options::default() }).await;
    let client = within(Client::connect(&service.addresses[0])).await.unwrap();
    let mut refusals = Vec::new();
    for _ in 0..50 {
        if let Err(error) = within(client.request_response(echo("x"))).await {
            refusals.push(error.to_string());
        }
    }
    assert!(refusals.len() >= 20, "{}", refusals.len());
    assert!(refusals[0].contains("rate limit: 5 requests/s; again in "), "{}", refusals[0]);
    // Of streams too. Another connection has a rate of its own, where nobody has a name.
    let stream = within(client.request_stream(echo("x")).next()).await.unwrap();
    assert!(stream.unwrap_err().to_string().contains("rate limit"));
    let other = within(Client::connect(&service.addresses[0])).await.unwrap();
    within(other.request_response(echo("x"))).await.unwrap();
    assert!(
        service.figure("rsockd_rate_limited_requests_total").await > refusals.len() as u64,
        "they are counted"
    );
}

#[tokio::test]
async fn messages_beyond_the_rate_are_refused() {
    let publishes_per_second = Some(3);
    let service = Running::start(Options { publishes_per_second, ..Options::default() }).await;
    let client = within(Client::connect(&service.addresses[0])).await.unwrap();
    let mut refusals = Vec::new();
    for _ in 0..30 {
        let message = Payload::new("x").route("topic.room.1").unwrap();
        refusals.extend(within(client.request_response(message)).await.err());
        // Other requests are not counted.
        within(client.request_response(echo("x"))).await.unwrap();
    }
    assert!(refusals.len() >= 15, "{}", refusals.len());
    assert!(refusals[0].to_string().contains("too fast"), "{}", refusals[0]);
}

#[tokio::test]
async fn a_user_has_so_many_connections_and_one_rate_over_all_of_them() {
    let directory = std::env::temp_dir().join(format!("rsock-doors-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let hash = |password: &str| hash_password(password.as_bytes(), &[7; 16]).unwrap();
    let users = format!("ann:{}:\nbob:{}:\n", hash("ann's"), hash("bob's"));
    fs::write(directory.join("users"), users).unwrap();
    let access: PathBuf = directory.join("access.toml");
    fs::write(
        &access,
        "[auth.users]\nfile = \"users\"\n[[grant]]\nroles = [\"*\"]\nroutes = [\"echo\"]\n",
    )
    .unwrap();
    let service = Running::start(Options {
        access: Some(access.into()),
        max_connections_per_user: Some(2),
        requests_per_second: Some(1),
        ..Options::default()
    })
    .await;
    let connect = async |name: &str| {
        let own = Authentication::simple(name, &format!("{name}'s"));
        let builder = Client::builder().wait_until_accepted(true).authentication(own);
        within(builder.connect(&service.addresses[0])).await.map_err(|error| error.to_string())
    };
    let (first, second) = (connect("ann").await.unwrap(), connect("ann").await.unwrap());
    let refused = connect("ann").await.unwrap_err();
    assert!(refused.contains("all 2 connections that one user may have"), "{refused}");
    let bob = connect("bob").await.unwrap();
    within(first.request_response(echo("x"))).await.unwrap();
    let shared = within(second.request_response(echo("x"))).await.unwrap_err().to_string();
    assert!(shared.contains("rate limit: 1 requests/s"), "{shared}");
    within(bob.request_response(echo("x"))).await.unwrap();
    drop(first);
    // The service sees a little later that it has ended.
    let again = within(async {
        loop {
            if let Ok(client) = connect("ann").await {
                return client;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop((again, second, bob));
    fs::remove_dir_all(&directory).unwrap();
}

/// Clients of an HTTP proxy are told apart as it tells them, and nobody else says who he is.
#[tokio::test]
async fn clients_of_an_http_proxy_have_their_own_addresses() {
    let service = Running::start(Options {
        client_address: "x-forwarded-for".parse().unwrap(),
        proxy_trust: vec!["127.0.0.1".to_owned()],
        connects_per_minute: Some(2),
        ..Options::default()
    })
    .await;
    let connect = async |client: &str| {
        let builder = Client::builder().wait_until_accepted(true);
        // What the client has said of itself stands before what the proxy says.
        let header = format!("198.51.100.1, {client}");
        let builder = builder.header("x-forwarded-for", &*header);
        within(builder.connect(&service.addresses[1])).await
    };
    let first = connect("203.0.113.9").await.unwrap();
    connect("203.0.113.9").await.unwrap();
    assert!(connect("203.0.113.9").await.is_err());
    connect("203.0.113.10").await.unwrap();
    within(first.request_response(echo("x"))).await.unwrap();
    assert_eq!(service.figure("rsockd_refused_addresses_total").await, 1);
}

/// A connection that a proxy passes on for this address: whether it is served.
async fn passed_on(service: &Running, client: &str) -> bool {
    let mut socket = TcpStream::connect(service.tcp()).await.unwrap();
    let header = format!("PROXY TCP4 {client} 127.0.0.1 1000 7878\r\n");
    // SETUP of version 1.0, a keepalive each 20 s and a lifetime of 90 s, both MIME types "a"; then KEEPALIVE
    // that asks for an answer.
    let setup = b"\0\0\x18\0\0\0\0\x04\0\0\x01\0\0\0\0\x4e\x20\0\x01\x5f\x90\x01a\x01a\0\0";
    let setup = &setup[..3 + 0x18];
    let keepalive = b"\0\0\x0e\0\0\0\0\x0c\x80\0\0\0\0\0\0\0\0";
    let whole = [header.as_bytes(), setup, keepalive].concat();
    // Whoever is closed may not take it.
    let _ = socket.write_all(&whole).await;
    let mut answer = [0; 9];
    within(socket.read_exact(&mut answer)).await.is_ok() && answer[7] & 0xfc == 0x0c
}

#[tokio::test]
async fn an_address_comes_as_often_and_has_as_many_connections_as_it_may() {
    let options = Options {
        proxy_protocol: ProxyKind::On(ProxyVersions::Any),
        proxy_trust: vec!["127.0.0.1".to_owned()],
        ..Options::default()
    };
    let often = Options { connects_per_minute: Some(3), ..options.clone() };
    let service = Running::start(often).await;
    let mut served = 0;
    for _ in 0..10 {
        served += u32::from(passed_on(&service, "203.0.113.9").await);
    }
    assert_eq!(served, 3);
    assert!(passed_on(&service, "203.0.113.10").await);
}

#[tokio::test]
async fn one_connection_more_of_an_address_is_refused_until_one_ends() {
    let max_connections_per_address = Some(2);
    let service =
        Running::start(Options { max_connections_per_address, ..Options::default() }).await;
    let connect = async || {
        let builder = Client::builder().wait_until_accepted(true);
        within(builder.connect(&service.addresses[0])).await.map_err(|error| error.to_string())
    };
    let (first, second) = (connect().await.unwrap(), connect().await.unwrap());
    let refused = connect().await.unwrap_err();
    assert!(refused.contains("all 2 connections that one address may have"), "{refused}");
    drop(first);
    let third = within(async {
        loop {
            if let Ok(client) = connect().await {
                return client;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop((second, third));
}

#[tokio::test]
async fn bytes_beyond_the_rate_wait_and_are_not_lost() {
    const RATE: u32 = 64 << 10;
    let bytes_in_per_second = Some(RATE);
    let service = Running::start(Options { bytes_in_per_second, ..Options::default() }).await;
    let client = within(Client::connect(&service.addresses[0])).await.unwrap();
    let began = Instant::now();
    // Two seconds and a half are worth so much, of which one second's may come at once.
    for _ in 0..10 {
        let answer =
            within(client.request_response(echo(vec![7; RATE as usize / 4]))).await.unwrap();
        assert_eq!(answer.data.len(), RATE as usize / 4);
    }
    assert!(began.elapsed() >= Duration::from_millis(1_000), "{:?}", began.elapsed());
    // Its figures come by another connection.
    let status = within(client.request_response(Payload::new("").route("status").unwrap())).await;
    let status: Value = serde_json::from_slice(&status.unwrap().data).unwrap();
    assert!(status.to_string().contains("paused_for_rate"), "{status}");
    assert!(service.figure("rsockd_paused_for_rate_total").await >= 1);
}
