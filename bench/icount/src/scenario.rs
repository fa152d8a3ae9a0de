//! The scenarios that are counted.

use std::{
    future::{Future, IntoFuture},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use rsock::{
    Acceptor, Beginning, Client, ClientBuilder, Ended, Error, Json, Observe, ObserveRequest,
    Payload, PayloadExt, Payloads, Peer, Request, Responder, Resume, ResumeLimits, Router, Server,
    ServerBuilder, memory,
    tls::{ClientTls, Pem, Roots, ServerTls},
};
use rsock_proto::frame::Frame;
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
};

use crate::{Result, fan_out, measured, permitted, topics};

/// Work that is always the same.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    /// The number that counts are divided by to be shown.
    pub(crate) unit: &'static str,
    pub(crate) units: u64,
    work: Work,
}

/// The transport that the bytes go over.
#[derive(Clone, Copy)]
enum Over {
    Memory,
    /// A socket of the loopback device; what the kernel does is not counted.
    Socket(&'static str),
}

#[derive(Clone, Copy)]
enum Work {
    Requests {
        in_flight: u64,
        is_resumable: bool,
        over: Over,
    },
    /// Requests of this data for a route, 64 in flight.
    Routed {
        route: &'static str,
        data: &'static [u8; 32],
    },
    /// The same of who is asked whether they may.
    Permitted {
        route: &'static str,
        data: &'static [u8; 32],
    },
    Stream {
        is_resumable: bool,
        over: Over,
    },
    /// As many streams at a time on one connection, of as many items each as makes the units.
    Streams {
        at_a_time: u64,
    },
    /// Requests, 64 in flight, with an observer on both sides.
    Observed,
    Channel,
    /// Messages that many streams are sent, by feeds.
    FanOut,
    /// Topics of a service.
    Topics(topics::Work),
    FireAndForget {
        is_resumable: bool,
    },
    Large,
    /// Requests of 64 KiB.
    Bulk {
        over: Over,
    },
    Decode,
}

pub(crate) const DATA: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz012345";
/// As many bytes of JSON.
const JSON: &[u8; 32] = b"\"abcdefghijklmnopqrstuvwxyz0123\"";
const LARGE_BYTES: usize = 16 << 20;
const BULK_BYTES: usize = 64 << 10;
/// Frames that other implementations wrote.
const CORPUS: [&str; 2] = [
    include_str!("../../../tests/vectors/rsocket-java.hex"),
    include_str!("../../../tests/vectors/rsocket-js-0.hex"),
];
/// Bytes in flight in memory each way.
const CAPACITY: usize = 256 << 10;
/// Longer than anything here takes.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

const TCP: Over = Over::Socket("tcp://127.0.0.1:0");
const WS: Over = Over::Socket("ws://127.0.0.1:0/");
const TLS: Over = Over::Socket("tls://127.0.0.1:0");

/// A certificate that nobody trusts, and its key.
const CERTIFICATE: [&str; 2] = [include_str!("../tls/cert.pem"), include_str!("../tls/key.pem")];

/// All of them.
pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        name: "request_response_1",
        what: "requests of 32 B one after the other",
        unit: "request",
        units: 2_000,
        work: Work::Requests { in_flight: 1, is_resumable: false, over: Over::Memory },
    },
    Scenario {
        name: "request_response_64",
        what: "requests of 32 B, 64 in flight",
        unit: "request",
        units: 12_800,
        work: Work::Requests { in_flight: 64, is_resumable: false, over: Over::Memory },
    },
    Scenario {
        name: "request_response_64_tcp",
        what: "the same over TCP",
        unit: "request",
        units: 12_800,
        work: Work::Requests { in_flight: 64, is_resumable: false, over: TCP },
    },
    Scenario {
        name: "request_response_64_ws",
        what: "the same over WebSocket",
        unit: "request",
        units: 12_800,
        work: Work::Requests { in_flight: 64, is_resumable: false, over: WS },
    },
    Scenario {
        name: "request_response_64_tls",
        what: "the same over TLS",
        unit: "request",
        units: 12_800,
        work: Work::Requests { in_flight: 64, is_resumable: false, over: TLS },
    },
    Scenario {
        name: "request_response_1_tls",
        what: "requests of 32 B one after the other, over TLS",
        unit: "request",
        units: 2_000,
        work: Work::Requests { in_flight: 1, is_resumable: false, over: TLS },
    },
    Scenario {
        name: "request_64_kib_tcp",
        what: "requests of 64 KiB and answers as long, one after the other, over TCP",
        unit: "request",
        units: 200,
        work: Work::Bulk { over: TCP },
    },
    Scenario {
        name: "request_64_kib_tls",
        what: "the same over TLS",
        unit: "request",
        units: 200,
        work: Work::Bulk { over: TLS },
    },
    Scenario {
        name: "request_resumable",
        what: "requests of 32 B, 64 in flight, of a session that can be resumed",
        unit: "request",
        units: 12_800,
        work: Work::Requests { in_flight: 64, is_resumable: true, over: Over::Memory },
    },
    Scenario {
        name: "request_observed",
        what: "the same over memory, observed on both sides",
        unit: "request",
        units: 12_800,
        work: Work::Observed,
    },
    Scenario {
        name: "request_routed",
        what: "the same over memory, for a route of a router",
        unit: "request",
        units: 12_800,
        work: Work::Routed { route: "echo", data: DATA },
    },
    Scenario {
        name: "request_permitted",
        what: "the same, of somebody who is granted the route",
        unit: "request",
        units: 12_800,
        work: Work::Permitted { route: "echo", data: DATA },
    },
    Scenario {
        name: "request_pattern",
        what: "the same, for a pattern behind a hundred others",
        unit: "request",
        units: 12_800,
        work: Work::Routed { route: "service.7.echo", data: DATA },
    },
    Scenario {
        name: "request_json",
        what: "the same, for a route that reads and answers JSON",
        unit: "request",
        units: 12_800,
        work: Work::Routed { route: "json", data: JSON },
    },
    Scenario {
        name: "request_stream",
        what: "a stream of items of 32 B",
        unit: "item",
        units: 10_000,
        work: Work::Stream { is_resumable: false, over: Over::Memory },
    },
    Scenario {
        name: "request_stream_tcp",
        what: "the same over TCP",
        unit: "item",
        units: 10_000,
        work: Work::Stream { is_resumable: false, over: TCP },
    },
    Scenario {
        name: "request_stream_ws",
        what: "the same over WebSocket",
        unit: "item",
        units: 10_000,
        work: Work::Stream { is_resumable: false, over: WS },
    },
    Scenario {
        name: "request_stream_tls",
        what: "the same over TLS",
        unit: "item",
        units: 10_000,
        work: Work::Stream { is_resumable: false, over: TLS },
    },
    Scenario {
        name: "request_stream_resumable",
        what: "the same over memory, of a session that can be resumed",
        unit: "item",
        units: 10_000,
        work: Work::Stream { is_resumable: true, over: Over::Memory },
    },
    Scenario {
        name: "request_streams_4096",
        what: "4,096 streams at a time, of 64 items each; opened and ended within what is counted",
        unit: "item",
        units: 4_096 * 64,
        work: Work::Streams { at_a_time: 4_096 },
    },
    Scenario {
        name: "fan_out",
        what: "messages of 200 B and 77 B of metadata, each to 64 streams of a connection by feeds",
        unit: "delivery",
        units: 64 * 500,
        work: Work::FanOut,
    },
    Scenario {
        name: "topic_fan_out",
        what: "messages of 200 B to a topic, each to 100 subscribers on each of 10 connections; the server alone",
        unit: "delivery",
        units: 100_000,
        work: Work::Topics(topics::Work::FanOut { topic: topics::LOG }),
    },
    Scenario {
        name: "topic_latest",
        what: "the same for a topic that keeps the newest of each key",
        unit: "delivery",
        units: 100_000,
        work: Work::Topics(topics::Work::FanOut { topic: topics::LATEST }),
    },
    Scenario {
        name: "topic_catch_up",
        what: "a reader of a topic from the start of its log",
        unit: "item",
        units: 20_000,
        work: Work::Topics(topics::Work::CatchUp),
    },
    Scenario {
        name: "topic_publish",
        what: "publishes of 200 B to a topic, acknowledged, 64 in flight",
        unit: "publish",
        units: 6_400,
        work: Work::Topics(topics::Work::Publish { topics: 1, subscribers: 0 }),
    },
    Scenario {
        name: "topic_publish_100000",
        what: "the same to topics in turn, of 100,000 that there are",
        unit: "publish",
        units: 6_400,
        work: Work::Topics(topics::Work::Publish { topics: 100_000, subscribers: 0 }),
    },
    Scenario {
        name: "topic_stuck_1",
        what: "the same to one topic that has a subscriber without credit",
        unit: "publish",
        units: 6_400,
        work: Work::Topics(topics::Work::Publish { topics: 1, subscribers: 1 }),
    },
    Scenario {
        name: "topic_stuck_100000",
        what: "the same with 100,000 subscribers without credit",
        unit: "publish",
        units: 6_400,
        work: Work::Topics(topics::Work::Publish { topics: 1, subscribers: 100_000 }),
    },
    Scenario {
        name: "channel_echo",
        what: "items of 32 B on a channel, and back",
        unit: "item",
        units: 10_000,
        work: Work::Channel,
    },
    Scenario {
        name: "fire_and_forget",
        what: "fire-and-forgets of 32 B",
        unit: "request",
        units: 10_000,
        work: Work::FireAndForget { is_resumable: false },
    },
    Scenario {
        name: "forget_resumable",
        what: "the same, of a session that can be resumed",
        unit: "request",
        units: 10_000,
        work: Work::FireAndForget { is_resumable: true },
    },
    Scenario {
        name: "fragmented_16_mib",
        what: "a payload of 16 MiB there and back, in fragments",
        unit: "KiB",
        units: 2 * (LARGE_BYTES as u64 >> 10),
        work: Work::Large,
    },
    Scenario {
        name: "decode_corpus",
        what: "frames of other implementations, decoded",
        unit: "round",
        units: 1_000,
        work: Work::Decode,
    },
];

/// Scenarios of which a unit may cost as much as one of the other, give or take so many percent.
pub(crate) const ALIKE: [(&str, &str, f64); 2] = [
    // A publish does not pay for how many other topics there are,
    ("topic_publish_100000", "topic_publish", 10.0),
    // nor for readers that cannot take it, but for what their memory makes of the allocator.
    ("topic_stuck_100000", "topic_stuck_1", 2.0),
];

impl Scenario {
    pub(crate) fn named(name: &str) -> Result<&'static Self> {
        let found = ALL.iter().find(|scenario| scenario.name == name);
        Ok(found.ok_or_else(|| format!("no scenario is named {name:?}; see `list`"))?)
    }
}

/// These, or all if none is named.
pub(crate) fn named(names: &[&str]) -> Result<Vec<&'static Scenario>> {
    if names.is_empty() {
        Ok(ALL.iter().collect())
    } else {
        names.iter().map(|name| Scenario::named(name)).collect()
    }
}

/// Runs one, a little of it beforehand: what is made once is not counted.
pub(crate) fn run(scenario: &Scenario) -> Result<()> {
    let units = scenario.units;
    let warm_up = units / 10;
    match scenario.work {
        Work::Decode => {
            let frames = corpus()?;
            decode(&frames, 1)?;
            measured(&mut || decode(&frames, units))
        }
        Work::Large => {
            let data = Bytes::from(vec![b'x'; LARGE_BYTES]);
            let line = Line::new(false, Over::Memory)?;
            line.count(0, 1, |client, _| large(client, data.clone()))
        }
        Work::Bulk { over } => {
            let data = Bytes::from(vec![b'x'; BULK_BYTES]);
            let line = Line::new(false, over)?;
            line.count(warm_up, units, |client, units| bulk(client, data.clone(), units))
        }
        Work::Requests { in_flight, is_resumable, over } => {
            let line = Line::new(is_resumable, over)?;
            line.count(warm_up, units, |client, units| requests(client, in_flight, units))
        }
        Work::Routed { route, data } => {
            let line = Line::serving(router(), false, Over::Memory)?;
            line.count(warm_up, units, |client, units| routed(client, route, data, units))
        }
        Work::Permitted { route, data } => {
            let line = Line::serving(permitted::acceptor(router()), false, Over::Memory)?;
            line.count(warm_up, units, |client, units| routed(client, route, data, units))
        }
        Work::Observed => {
            let line = Line::observed()?;
            line.count(warm_up, units, |client, units| requests(client, 64, units))
        }
        Work::Stream { is_resumable, over } => {
            Line::new(is_resumable, over)?.count(warm_up, units, items)
        }
        Work::FanOut => {
            let (topic, router) = fan_out::Topic::router();
            let line = Line::serving(router, false, Over::Memory)?;
            line.count(warm_up, units, |client, units| {
                fan_out::deliveries(client, Arc::clone(&topic), units)
            })
        }
        Work::Topics(work) => topics::run(work, units),
        Work::Channel => Line::new(false, Over::Memory)?.count(warm_up, units, echoes),
        Work::Streams { at_a_time } => {
            let line = Line::new(false, Over::Memory)?;
            line.count(warm_up, units, |client, units| streams(client, at_a_time, units))
        }
        Work::FireAndForget { is_resumable } => {
            Line::new(is_resumable, Over::Memory)?.count(warm_up, units, fire_and_forgets)
        }
    }
}

/// A client and a server on one thread.
struct Line {
    runtime: Runtime,
    client: Client,
}

impl Line {
    fn new(is_resumable: bool, over: Over) -> Result<Self> {
        Self::serving(async |_: Peer| Ok(Counted), is_resumable, over)
    }

    fn serving(service: impl Acceptor, is_resumable: bool, over: Over) -> Result<Self> {
        let (server, client) = (Server::builder(), Client::builder());
        Self::between(server, service, client, is_resumable, over)
    }

    fn observed() -> Result<Self> {
        let observer = Arc::new(Totals(Arc::default()));
        let server = Server::builder().observe(Arc::<Totals>::clone(&observer));
        let client = Client::builder().observe(observer);
        let service = async |_: Peer| Ok(Counted);
        Self::between(server, service, client, false, Over::Memory)
    }

    fn between(
        mut server: ServerBuilder,
        service: impl Acceptor,
        client: ClientBuilder,
        is_resumable: bool,
        over: Over,
    ) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        if is_resumable {
            server = server.resume(ResumeLimits::default(), 1);
        }
        let [chain, key] = CERTIFICATE.map(Pem::text);
        let server = server.tls(ServerTls::new(chain, key));
        let client = client.tls(ClientTls::new().roots(Roots::Insecure));
        let builder = client.keepalive(NEVER / 4, NEVER);
        let client = runtime.block_on(async {
            let near = match over {
                Over::Socket(uri) => {
                    let server = server.bind(&[uri]).await?;
                    let uri = server.addresses().remove(0);
                    tokio::spawn(server.serve(service).into_future());
                    return builder.connect(&uri).await;
                }
                Over::Memory => {
                    let (near, far) = memory(CAPACITY);
                    tokio::spawn(async move {
                        server.serve_over(far, service).await;
                    });
                    near
                }
            };
            if is_resumable {
                let only = Mutex::new(Some(near));
                let dial = move || {
                    let line = only.lock().ok().and_then(|mut only| only.take());
                    async { line.ok_or_else(|| std::io::ErrorKind::ConnectionRefused.into()) }
                };
                builder.resume(Resume::new()).connect_with(dial).await
            } else {
                builder.connect_over(near).await
            }
        })?;
        Ok(Self { runtime, client })
    }

    fn count<F>(self, warm_up: u64, units: u64, work: impl Fn(Client, u64) -> F) -> Result<()>
    where
        F: Future<Output = Result<()>>,
    {
        if warm_up > 0 {
            self.runtime.block_on(work(self.client.clone(), warm_up))?;
        }
        measured(&mut || self.runtime.block_on(work(self.client.clone(), units)))
    }
}

async fn requests(client: Client, in_flight: u64, units: u64) -> Result<()> {
    ask(client, in_flight, units, || Ok(Payload::new(&DATA[..]))).await
}

async fn routed(
    client: Client,
    route: &'static str,
    data: &'static [u8],
    units: u64,
) -> Result<()> {
    ask(client, 64, units, move || Payload::new(data).route(route)).await
}

async fn ask<F>(client: Client, in_flight: u64, units: u64, payload: F) -> Result<()>
where
    F: Fn() -> std::result::Result<Payload, Error> + Copy + Send + 'static,
{
    let mut askers = JoinSet::new();
    for _ in 0..in_flight {
        let client = client.clone();
        askers.spawn(async move {
            for _ in 0..units / in_flight {
                let reply = client.request_response(payload()?).await?;
                expect(reply.data.len(), DATA.len())?;
            }
            Result::Ok(())
        });
    }
    while let Some(asked) = askers.join_next().await {
        asked??;
    }
    Ok(())
}

async fn items(client: Client, units: u64) -> Result<()> {
    let items = client.request_stream(units.to_string());
    expect(all(items).await?, units as usize)
}

async fn streams(client: Client, at_a_time: u64, units: u64) -> Result<()> {
    let mut takers = JoinSet::new();
    for _ in 0..at_a_time {
        let client = client.clone();
        takers.spawn(async move { items(client, units / at_a_time).await });
    }
    while let Some(taken) = takers.join_next().await {
        taken??;
    }
    Ok(())
}

async fn echoes(client: Client, units: u64) -> Result<()> {
    let sent = stream::iter((0..units).map(|_| Payload::new(&DATA[..])));
    expect(all(client.request_channel(sent)).await?, units as usize)
}

async fn all(
    mut items: impl Stream<Item = std::result::Result<Payload, Error>> + Unpin,
) -> Result<usize> {
    let mut count = 0;
    while let Some(item) = items.next().await {
        expect(item?.data.len(), DATA.len())?;
        count += 1;
    }
    Ok(count)
}

/// The answer to what is asked last comes when all before it has.
async fn fire_and_forgets(client: Client, units: u64) -> Result<()> {
    for _ in 0..units {
        client.fire_and_forget(&DATA[..]).await?;
    }
    client.request_response(&DATA[..]).await?;
    Ok(())
}

async fn large(client: Client, data: Bytes) -> Result<()> {
    let reply = client.request_response(data).await?;
    expect(reply.data.len(), LARGE_BYTES)
}

async fn bulk(client: Client, data: Bytes, units: u64) -> Result<()> {
    for _ in 0..units {
        let reply = client.request_response(data.clone()).await?;
        expect(reply.data.len(), BULK_BYTES)?;
    }
    Ok(())
}

fn expect(got: usize, wanted: usize) -> Result<()> {
    if got == wanted { Ok(()) } else { Err(format!("{got}, expected {wanted}").into()) }
}

/// Answers with the data it is sent: a route, one that reads JSON, and a pattern behind a hundred others.
fn router() -> Router<()> {
    let echo = || rsock::request_response(async |(), data: Bytes| data);
    let json = rsock::request_response(async |(), text: Json<String>| text);
    let router = Router::new(()).route("echo", echo()).route("json", json);
    let others = (0..100).map(|other| format!("other{other}.{{id}}.echo"));
    let router = others.fold(router, |router, pattern| router.route(&pattern, echo()));
    router.route("service.{id}.echo", echo())
}

/// An observer as one for metrics is: what it counts in is shared by all requests.
struct Totals(Arc<Total>);

#[derive(Default)]
struct Total {
    ended: AtomicU64,
    nanos: AtomicU64,
}

impl Observe for Totals {
    fn begin(&self, _: &Beginning<'_>) -> Option<Arc<dyn ObserveRequest>> {
        Some(Arc::<Total>::clone(&self.0))
    }
}

impl ObserveRequest for Total {
    fn end(&self, end: &Ended<'_>) {
        self.ended.fetch_add(1, Relaxed);
        self.nanos.fetch_add(end.duration.subsec_nanos().into(), Relaxed);
    }
}

/// Answers with what it is sent, or as many items as it is asked for.
pub(crate) struct Counted;

impl Responder for Counted {
    async fn request_response(
        self: Arc<Self>,
        request: Request,
    ) -> std::result::Result<Payload, Error> {
        let payload = request.into_payload();
        Ok(payload)
    }

    fn request_stream(
        self: Arc<Self>,
        request: Request,
    ) -> impl Stream<Item = std::result::Result<Payload, Error>> + Send {
        let payload = request.into_payload();
        let wanted = std::str::from_utf8(&payload.data).ok().and_then(|count| count.parse().ok());
        stream::iter((0..wanted.unwrap_or(0_u64)).map(|_| Ok(Payload::new(&DATA[..]))))
    }

    fn request_channel(
        self: Arc<Self>,
        first: Request,
        rest: Payloads,
    ) -> impl Stream<Item = std::result::Result<Payload, Error>> + Send {
        let first = first.into_payload();
        stream::iter([Ok(first)]).chain(rest)
    }

    async fn fire_and_forget(self: Arc<Self>, _: Request) {}
}

fn corpus() -> Result<Vec<Bytes>> {
    let mut frames = Vec::new();
    for text in CORPUS {
        for block in text.split("\n\n") {
            let digits: String = block.lines().filter(|line| is_hex(line)).collect();
            let bytes: std::result::Result<Vec<u8>, _> = (0..digits.len() / 2)
                .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16))
                .collect();
            let bytes = bytes?;
            if !bytes.is_empty() {
                frames.push(Bytes::from(bytes));
            }
        }
    }
    Ok(frames)
}

fn is_hex(line: &str) -> bool {
    line.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn decode(frames: &[Bytes], rounds: u64) -> Result<()> {
    for _ in 0..rounds {
        for frame in frames {
            let decoded = Frame::decode(frame.clone());
            std::hint::black_box(decoded.map_err(|malformed| format!("{malformed:?}"))?);
        }
    }
    Ok(())
}
