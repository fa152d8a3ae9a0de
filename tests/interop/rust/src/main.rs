//! rsocket_rust 0.7.5 as a client of rsockd: `client URI [CASE...]`
//!
//! One line a case on stdout, as lib/cases.mjs has them. The library asks for all items of a stream
//! at once and says nothing of a connection that ends, so there are no batches, no cancel and no
//! keepalive here. Exit code 1 when a case failed.

use std::{future::Future, pin::Pin, process::exit, time::Duration};

use futures::{StreamExt, stream};
use rsocket_rust::{Client, Result, prelude::*};
use rsocket_rust_transport_tcp::TcpClientTransport;
use rsocket_rust_transport_websocket::WebsocketClientTransport;

const CASE_LIMIT: Duration = Duration::from_secs(10);
const COMPOSITE: &str = "message/x.rsocket.composite-metadata.v0";
const OCTETS: &str = "application/octet-stream";

type Outcome<'a> = Pin<Box<dyn Future<Output = std::result::Result<(), String>> + 'a>>;
type Case = (&'static str, fn(&Client) -> Outcome<'_>);

const CASES: &[Case] = &[
    ("rr-echo", |client| Box::pin(expect(client, "echo", "hello, wörld"))),
    ("rr-metadata", |client| Box::pin(rr_metadata(client))),
    ("rr-1mib", |client| Box::pin(rr_1mib(client))),
    ("rr-empty", |client| Box::pin(expect(client, "echo", ""))),
    ("rs-range", |client| Box::pin(rs_range(client))),
    ("fnf", |client| Box::pin(fnf(client))),
    ("metadata-push", |client| Box::pin(metadata_push(client))),
    ("unknown-route", |client| Box::pin(unknown_route(client))),
    ("status", |client| Box::pin(answer_has(client, "status", &["\"version\""]))),
    ("routes", |client| Box::pin(answer_has(client, "routes", &["echo", "range"]))),
];

/// Recorded, and not to be judged.
const FRAMES: Case = ("frames", |client| Box::pin(frames(client)));

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let uri = arguments.next().unwrap_or_default();
    let named: Vec<_> = arguments.collect();
    let mut failed = false;
    let all = CASES.iter().chain(named.contains(&FRAMES.0.to_owned()).then_some(&FRAMES));
    for (name, case) in all {
        if !named.is_empty() && !named.iter().any(|wanted| wanted == name) {
            continue;
        }
        let run = async { case(&connect(&uri, *name == "frames").await?).await };
        let outcome = match tokio::time::timeout(CASE_LIMIT, run).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no end after {CASE_LIMIT:?}")),
        };
        match outcome {
            Ok(()) => println!("ok {name}"),
            Err(reason) => {
                failed = true;
                println!("FAIL {name}: {}", reason.lines().next().unwrap_or_default());
            }
        }
    }
    if named.is_empty() {
        println!("skip rc-echo: it sends what it has no credit for (expected difference)");
    }
    // Nothing in the library ends a connection from here.
    exit(failed.into());
}

async fn connect(uri: &str, frames: bool) -> std::result::Result<Client, String> {
    let keepalive = Duration::from_millis(if frames { 300 } else { 5_000 });
    macro_rules! start {
        ($transport:expr) => {
            RSocketFactory::connect()
                .transport($transport)
                .mime_type(COMPOSITE, OCTETS)
                .setup(routed("setup", "setup"))
                .keepalive(keepalive, Duration::from_secs(30), 1)
                .fragment(if frames { 64 } else { 0 })
                .start()
                .await
        };
    }
    let started = if uri.starts_with("ws:") {
        start!(WebsocketClientTransport::from(uri))
    } else {
        start!(TcpClientTransport::from(uri))
    };
    started.map_err(|error| error.to_string())
}

/// Composite metadata with a route; the library's own builder takes no less to write.
fn metadata(route: &str) -> Vec<u8> {
    let size = route.len() as u8;
    let mut metadata = vec![0xfe, 0, 0, size + 1, size];
    metadata.extend(route.bytes());
    metadata
}

fn payload(data: impl Into<Vec<u8>>) -> Payload {
    Payload::builder().set_data(data.into()).build()
}

fn routed(route: &str, data: &str) -> Payload {
    Payload::builder().set_metadata(metadata(route)).set_data(data.as_bytes().to_vec()).build()
}

fn text(payload: &Payload) -> String {
    String::from_utf8_lossy(payload.data().map_or(&[][..], |data| data)).into_owned()
}

async fn request(client: &Client, request: Payload) -> std::result::Result<Payload, String> {
    match client.request_response(request).await {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err("it completed without an answer".into()),
        Err(error) => Err(error.to_string()),
    }
}

fn check(holds: bool, otherwise: impl FnOnce() -> String) -> std::result::Result<(), String> {
    holds.then_some(()).ok_or_else(otherwise)
}

async fn expect(client: &Client, route: &str, data: &str) -> std::result::Result<(), String> {
    let answer = text(&request(client, routed(route, data)).await?);
    check(answer == data, || format!("the answer is {answer}"))
}

async fn round_trip(client: &Client) -> std::result::Result<(), String> {
    expect(client, "echo", "round trip").await
}

async fn rr_metadata(client: &Client) -> std::result::Result<(), String> {
    let answer = request(client, routed("echo", "data")).await?;
    let back = answer.metadata().map(|back| back.to_vec());
    check(back == Some(metadata("echo")), || format!("the metadata is {back:?}"))
}

async fn rr_1mib(client: &Client) -> std::result::Result<(), String> {
    expect(client, "echo", &"0123456789abcdef".repeat(1 << 16)).await
}

async fn collect(items: Flux<Result<Payload>>) -> std::result::Result<Vec<String>, String> {
    let all: Vec<_> = items.collect().await;
    all.into_iter().map(|item| item.map(|item| text(&item)).map_err(|e| e.to_string())).collect()
}

async fn rs_range(client: &Client) -> std::result::Result<(), String> {
    let items = client.request_stream(routed("range", r#"{"from":0,"to":100}"#));
    let items = collect(items).await?;
    let expected: Vec<_> = (0..100).map(|i| i.to_string()).collect();
    check(items == expected, || format!("the items are {items:?}"))
}

async fn fnf(client: &Client) -> std::result::Result<(), String> {
    client.fire_and_forget(routed("echo", "forget me")).await.map_err(|e| e.to_string())?;
    round_trip(client).await
}

/// It goes out on a stream, where it has no meaning; the connection goes on.
async fn metadata_push(client: &Client) -> std::result::Result<(), String> {
    client.metadata_push(routed("echo", "")).await.map_err(|e| e.to_string())?;
    round_trip(client).await
}

async fn unknown_route(client: &Client) -> std::result::Result<(), String> {
    match request(client, routed("no.such.route", "x")).await {
        Err(error) => {
            check(error.contains("REJECTED") && error.contains("no.such.route"), || error)?;
            round_trip(client).await
        }
        Ok(_) => Err("an unknown route was answered".into()),
    }
}

async fn answer_has(
    client: &Client,
    route: &str,
    parts: &[&str],
) -> std::result::Result<(), String> {
    let answer = text(&request(client, routed(route, "")).await?);
    check(parts.iter().all(|part| answer.contains(part)), || format!("the answer is {answer}"))
}

async fn frames(client: &Client) -> std::result::Result<(), String> {
    round_trip(client).await?;
    let _ = request(client, routed("echo", &"0123456789".repeat(15))).await;
    let items = client.request_stream(routed("range", r#"{"from":0,"to":5}"#));
    let _ = collect(items).await;
    let outgoing = vec![Ok(routed("echo", "first")), Ok(payload("second"))];
    let _ = collect(client.request_channel(Box::pin(stream::iter(outgoing)))).await;
    let _ = client.fire_and_forget(routed("echo", "forget me")).await;
    let _ = client.metadata_push(routed("echo", "")).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    round_trip(client).await
}
