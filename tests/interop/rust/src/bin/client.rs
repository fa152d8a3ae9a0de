//! rsocket_rust 0.7.5 as a peer of rsockd. Usage: client URI [CASE ...]
//!
//! The same cases as lib/cases.mjs, one line a case on stdout: `ok NAME`, `FAIL NAME: reason` or
//! `skip NAME: why (expected difference)`. Exit code 1 when a case failed.

use std::{
    fmt::Display,
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use interop_rust::{Settings, connect, introduction, routed, split, text};
use rsocket_rust::{
    Client, ClientBuilder,
    error::RSocketError,
    extension::MimeType,
    prelude::*,
    stream,
    transport::{Connection, Transport},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};

const CASE_LIMIT: Duration = Duration::from_secs(10);

const CASES: [&str; 15] = [
    "rr-echo",
    "rr-metadata",
    "rr-metadata-only",
    "rr-1mib",
    "rr-empty",
    "rr-empty-no-route",
    "rs-range",
    "rs-cancel",
    "rc-echo",
    "fnf",
    "metadata-push",
    "unknown-route",
    "keepalive",
    "status",
    "routes",
];

/// By name only: recorded, and not to be judged.
const FRAMES: &str = "frames";

/// By name only: against a server that refuses it.
const REJECTED: &str = "setup-rejected";

/// By name only: the credentials in SETUP are wrong.
const REFUSED: &str = "setup-refused";

/// Known deviations that show only after the rest of a case held: what this peer does instead.
const DIFFERENCES: [(&str, &str); 4] = [
    ("rs-range", "it asks for 2147483647 items at once, and never for more"),
    ("rc-echo", "it sends a channel's items without credit, so they go one after the other"),
    (REJECTED, DROPS),
    (REFUSED, DROPS),
];

const DROPS: &str = "it drops the error, and its requests wait for ever when their connection ends";

type Checked<T = ()> = Result<T, String>;

fn wrong(error: impl Display) -> String {
    error.to_string()
}

fn check(condition: bool, otherwise: impl FnOnce() -> String) -> Checked {
    if condition { Ok(()) } else { Err(otherwise()) }
}

/// A client, what came over its line, and whether it was closed.
struct Peer {
    client: Client,
    bytes_in: Arc<AtomicUsize>,
    closed: watch::Receiver<bool>,
}

struct Timed {
    keepalive: (Duration, Duration),
    /// SETUP says something, and payloads are cut.
    frames: bool,
    /// SETUP says what a server of ours refuses.
    rejected: bool,
    closed: watch::Sender<bool>,
}

impl Settings for Timed {
    fn apply<T, C>(self, builder: ClientBuilder<T, C>) -> ClientBuilder<T, C>
    where
        T: Send + Sync + Transport<Conn = C>,
        C: Send + Sync + Connection,
    {
        let (interval, lifetime) = self.keepalive;
        let closed = self.closed;
        let builder = if self.frames {
            builder.setup(routed("setup", "setup", &[])).fragment(64)
        } else if self.rejected {
            builder.setup(Payload::from("reject"))
        } else if let Some(introduction) = introduction() {
            builder.setup(introduction)
        } else {
            builder
        };
        builder.keepalive(interval, lifetime, 1).on_close(Box::new(move || {
            closed.send_replace(true);
        }))
    }
}

impl Peer {
    async fn connect(uri: &str, name: &str) -> Checked<Self> {
        let (scheme, address, path) = split(uri).ok_or("no URI")?;
        let bytes_in = Arc::new(AtomicUsize::new(0));
        let relay = relay(address, Arc::clone(&bytes_in)).await.map_err(wrong)?;
        let keepalive = match name {
            "keepalive" => (200, 1_000),
            FRAMES => (300, 30_000),
            _ => (5_000, 30_000),
        };
        let keepalive = (Duration::from_millis(keepalive.0), Duration::from_millis(keepalive.1));
        let (sender, closed) = watch::channel(false);
        let (frames, rejected) = (name == FRAMES, name == REJECTED);
        let settings = Timed { keepalive, frames, rejected, closed: sender };
        let client = connect(scheme, relay, path, settings).await.map_err(wrong)?;
        Ok(Self { client, bytes_in, closed })
    }

    fn bytes_in(&self) -> usize {
        self.bytes_in.load(Relaxed)
    }

    async fn request(&self, request: Payload) -> Checked<Payload> {
        let answer = self.client.request_response(request).await.map_err(wrong)?;
        answer.ok_or_else(|| "it completed without an answer".into())
    }

    /// A barrier: what the service had to say before has been said by then.
    async fn round_trip(&self) -> Checked {
        let answer = self.request(routed("echo", "round trip", &[])).await?;
        check(text(answer.data()) == "round trip", || format!("echo answered {answer:?}"))
    }
}

/// Stands in between and counts, which no transport of the library does.
async fn relay(target: SocketAddr, bytes_in: Arc<AtomicUsize>) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        let (near, _) = listener.accept().await?;
        let far = TcpStream::connect(target).await?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        let ((mut from_near, mut to_near), (mut from_far, mut to_far)) =
            (near.into_split(), far.into_split());
        tokio::spawn(async move {
            tokio::io::copy(&mut from_near, &mut to_far).await?;
            to_far.shutdown().await
        });
        let mut part = vec![0; 64 << 10];
        loop {
            match from_far.read(&mut part).await? {
                0 => return to_near.shutdown().await,
                count => {
                    bytes_in.fetch_add(count, Relaxed);
                    to_near.write_all(&part[..count]).await?;
                }
            }
        }
    });
    Ok(address)
}

async fn run(name: &str, peer: &Peer) -> Checked {
    match name {
        "rr-echo" => {
            let answer = peer.request(routed("echo", "hello, wörld", &[])).await?;
            check(text(answer.data()) == "hello, wörld", || format!("echo answered {answer:?}"))
        }
        "rr-metadata" => {
            let more = [(MimeType::TEXT_PLAIN, "metadata comes back")];
            let request = routed("echo", "data", &more);
            let answer = peer.request(request.clone()).await?;
            check(text(answer.data()) == "data", || format!("the data is {answer:?}"))?;
            let same = answer.metadata() == request.metadata();
            check(same, || format!("the metadata is {:?}", answer.metadata()))
        }
        "rr-metadata-only" => {
            let more = [(MimeType::TEXT_PLAIN, "metadata alone")];
            let request = Payload::new(None, routed("echo", "", &more).split().1);
            let answer = peer.request(request.clone()).await?;
            let empty = answer.data().is_none_or(Bytes::is_empty);
            check(empty, || format!("the data is {:?}", answer.data()))?;
            let same = answer.metadata() == request.metadata();
            check(same, || format!("the metadata is {:?}", answer.metadata()))
        }
        "rr-1mib" => {
            let data: Bytes = (0..1_usize << 20).map(|i| (i * 31 + (i >> 8)) as u8).collect();
            let answer = peer.request(routed("echo", data.clone(), &[])).await?;
            let answer = answer.data().cloned().unwrap_or_default();
            check(answer.len() == data.len(), || format!("{} bytes came back", answer.len()))?;
            check(answer == data, || "the bytes of the answer differ".into())
        }
        "rr-empty" => {
            let answer = peer.request(routed("echo", "", &[])).await?;
            check(answer.data().is_none(), || format!("echo answered {answer:?}"))
        }
        "rr-empty-no-route" => {
            let answer = peer.request(Payload::new(None, None)).await?;
            check(answer.is_empty(), || format!("the answer is {answer:?}"))
        }
        "rs-range" => {
            let wanted = routed("range", r#"{"from":0,"to":100}"#, &[]);
            let numbers = collect(peer.client.request_stream(wanted)).await?;
            let expected: Vec<_> = (0..100).map(|n| n.to_string()).collect();
            check(numbers == expected, || format!("the items are {numbers:?}"))
        }
        // By name only: rsockd gives no item of that size. Larger than a frame can be, so it comes
        // in fragments.
        "rs-20mib" => {
            let wanted = format!(r#"{{"from":0,"to":1,"size":{}}}"#, 20 << 20);
            let items = collect(peer.client.request_stream(routed("range", wanted, &[]))).await?;
            let sizes: Vec<_> = items.iter().map(String::len).collect();
            check(sizes == [20 << 20], || format!("items of {sizes:?} bytes came"))?;
            let mut bytes = items[0].bytes();
            let same = bytes.next() == Some(b'0') && bytes.all(|byte| byte == b' ');
            check(same, || "the bytes of the item differ".into())
        }
        "rs-cancel" => rs_cancel(peer).await,
        "rc-echo" => rc_echo(peer).await,
        "fnf" => {
            let sent = peer.client.fire_and_forget(routed("echo", "forget me", &[])).await;
            sent.map_err(wrong)?;
            peer.round_trip().await
        }
        "metadata-push" => {
            let pushed = peer.client.metadata_push(routed("echo", "", &[])).await;
            pushed.map_err(wrong)?;
            peer.round_trip().await
        }
        "unknown-route" => {
            let route = "no.such.route";
            let answer = peer.client.request_response(routed(route, "x", &[])).await;
            let error = answer.err().ok_or("an unknown route was answered")?;
            match error.downcast_ref::<RSocketError>() {
                Some(RSocketError::RequestRejected(text)) if text.contains(route) => {
                    peer.round_trip().await
                }
                _ => Err(format!("the error is {error:?}")),
            }
        }
        "keepalive" => {
            // The one case where time is the point.
            peer.round_trip().await?;
            let before = peer.bytes_in();
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            let answered = peer.bytes_in() - before;
            check(answered >= 3 * 14, || {
                format!("only {answered} bytes came in 1.5 s of silence")
            })?;
            peer.round_trip().await
        }
        "status" => {
            let answer = peer.request(routed("status", "", &[])).await?;
            let answer = text(answer.data());
            let status: serde_json::Value = serde_json::from_str(&answer).map_err(wrong)?;
            check(status.get("version").is_some(), || format!("status answered {answer}"))
        }
        "routes" => {
            let answer = peer.request(routed("routes", "", &[])).await?;
            let answer = text(answer.data());
            let all = ["echo", "range"].iter().all(|route| answer.contains(route));
            check(all, || format!("routes answered {answer}"))
        }
        FRAMES => frames(peer).await,
        _ => Err("no such case".into()),
    }
}

async fn collect(mut items: Flux<rsocket_rust::Result<Payload>>) -> Checked<Vec<String>> {
    let mut collected = Vec::new();
    while let Some(item) = items.next().await {
        collected.push(text(item.map_err(wrong)?.data()));
    }
    Ok(collected)
}

/// It always asks for all there is. After the cancel the line must fall silent, which shows as 20
/// round trips in a row with next to nothing in between.
async fn rs_cancel(peer: &Peer) -> Checked {
    const ROUND_TRIP_BYTES: usize = 256;
    // Paced: it asks for all there is, and takes what comes without a bound.
    let endless = r#"{"from":0,"interval_ms":1}"#;
    let stream = peer.client.request_stream(routed("range", endless, &[]));
    let numbers = collect(Box::pin(stream.take(10))).await?;
    let expected: Vec<_> = (0..10).map(|n| n.to_string()).collect();
    check(numbers == expected, || format!("the items are {numbers:?}"))?;
    peer.round_trip().await?;
    let (mut before, mut quiet, mut trips) = (peer.bytes_in(), 0, 0);
    while quiet < 20 {
        check(trips < 200, || "items still come 200 round trips after the cancel".into())?;
        peer.round_trip().await?;
        trips += 1;
        quiet = if peer.bytes_in() - before <= ROUND_TRIP_BYTES { quiet + 1 } else { 0 };
        before = peer.bytes_in();
    }
    Ok(())
}

/// Each item is sent when the one before has come back: by then there is credit for it.
async fn rc_echo(peer: &Peer) -> Checked {
    let (echoed, mut echoes) = mpsc::channel::<()>(1);
    let items = stream! {
        yield Ok(routed("echo", "item 0", &[]));
        for i in 1..50 {
            if echoes.recv().await.is_none() {
                return;
            }
            yield Ok(Payload::builder().set_data_utf8(&format!("item {i}")).build());
        }
    };
    let mut channel = peer.client.request_channel(Box::pin(items));
    let mut received = Vec::new();
    while let Some(item) = channel.next().await {
        received.push(text(item.map_err(wrong)?.data()));
        // After the last there is nobody to be told.
        let _ = echoed.send(()).await;
    }
    let expected: Vec<_> = (0..50).map(|i| format!("item {i}")).collect();
    check(received == expected, || format!("the items are {received:?}"))
}

/// Writes a frame of every kind.
async fn frames(peer: &Peer) -> Checked {
    peer.round_trip().await?;
    let _ = peer.request(routed("echo", "0123456789".repeat(15), &[])).await;
    let items = peer.client.request_stream(routed("range", r#"{"from":0,"to":5}"#, &[]));
    let _ = collect(items).await;
    let items = stream! {
        yield Ok(routed("echo", "first", &[]));
        yield Ok(Payload::from("second"));
    };
    let _ = collect(peer.client.request_channel(Box::pin(items))).await;
    let _ = peer.client.fire_and_forget(routed("echo", "forget me", &[])).await;
    let _ = peer.client.metadata_push(routed("echo", "", &[])).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    peer.round_trip().await
}

async fn run_case(uri: &str, name: &str) -> Checked {
    let peer = Peer::connect(uri, name).await?;
    let mut closed = peer.closed.clone();
    if [REJECTED, REFUSED].contains(&name) {
        return tokio::select! {
            biased;
            ended = peer.request(routed("echo", "x", &[])) => {
                Err(format!("a request on a rejected connection ended with {ended:?}"))
            }
            _ = closed.wait_for(|closed| *closed) => Ok(()),
        };
    }
    tokio::select! {
        ended = run(name, &peer) => ended,
        // Whatever the case waits for, it will not come over a closed connection.
        _ = closed.wait_for(|closed| *closed) => Err("the connection was closed".into()),
    }
}

async fn limited(case: impl Future<Output = Checked>) -> Checked {
    let ended = tokio::time::timeout(CASE_LIMIT, case).await;
    ended.unwrap_or_else(|_| Err(format!("no end after {} s", CASE_LIMIT.as_secs())))
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let uri = arguments.next().unwrap_or_default();
    if split(&uri).is_none() {
        eprintln!("usage: client (tcp|tls)://HOST:PORT|(ws|wss)://HOST:PORT/PATH [CASE ...]");
        std::process::exit(2);
    }
    let mut names: Vec<_> = arguments.collect();
    if names.is_empty() {
        names = CASES.map(str::to_owned).to_vec();
    }
    let mut failed = false;
    for name in names {
        let known = DIFFERENCES.iter().find(|(case, _)| *case == name);
        match (limited(run_case(&uri, &name)).await, known) {
            (Ok(()), None) => println!("ok {name}"),
            (Ok(()), Some((_, why))) => println!("skip {name}: {why} (expected difference)"),
            (Err(reason), _) => {
                failed = true;
                let line: Vec<_> = reason.split_whitespace().collect();
                println!("FAIL {name}: {}", line.join(" "));
            }
        }
    }
    // Its tasks outlive what started them.
    std::process::exit(failed.into());
}
