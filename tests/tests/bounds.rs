//! The bounds of what a peer can make a server process hold, and how little it makes it work.
#![cfg(target_os = "linux")]

use futures_util::{StreamExt, TryStreamExt, stream};
use rsock::{Client, Payload};
use rsock_tests::{
    process::Process,
    script::Peer,
    wire::{C, Frame, MAX_N, N, R, fnf, ka, mp, p, rc, rn, rr, rs},
};

/// Round trips on another connection while the first is stuck.
const ROUND_TRIPS: u32 = 2_000;

async fn fixture() -> Process {
    Process::fixture(env!("CARGO_BIN_EXE_rsock-fixture")).await
}

/// Round trips of a connection that must not suffer.
async fn go_on(client: &Client) {
    go_on_for(client, ROUND_TRIPS).await;
}

async fn go_on_for(client: &Client, round_trips: u32) {
    for n in 0..round_trips {
        let reply = client.request_response(n.to_string()).await;
        assert_eq!(reply.expect("the other connection works").data, n.to_string());
    }
}

/// Warms a server up, so that what is measured later is growth and not the first use.
async fn warmed(server: &Process, uri: usize) -> Client {
    let client = Client::connect(&server.uris[uri]).await.expect("a connection");
    go_on(&client).await;
    let mut items = client.request_stream("bulk").credit(64).take(200);
    while let Some(item) = items.next().await {
        item.expect("an item");
    }
    client
}

fn assert_below(grown: u64, bound: u64, what: &str) {
    assert!(grown < bound, "{what}: the server grew by {} KiB", grown >> 10);
}

/// Sees that a process comes to rest: the kernel's buffers take megabytes, and then there is nothing
/// left to do. At rest is who burns less than a sixth of 300 ms.
async fn assert_rests(server: &Process, what: &str) {
    let mut burnt = Vec::new();
    for _ in 0..50 {
        let before = server.cpu_ticks();
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        burnt.push(server.cpu_ticks() - before);
        if burnt.ends_with(&[0]) || burnt.iter().rev().take(2).all(|ticks| *ticks <= 5) {
            return;
        }
    }
    panic!("{what}: ticks of 10 ms burnt with nothing to do: {burnt:?}");
}

/// H067: 2^31−1 items of an endless stream, none of them read. What the server may hold is its send
/// buffer; the rest is the kernel's.
#[tokio::test]
async fn an_endless_stream_nobody_reads() {
    let server = fixture().await;
    for uri in 0..2 {
        for stream in ["inf", "bulk"] {
            let client = warmed(&server, uri).await;
            let mut stuck = Peer::established(&server.uris[uri]).await;
            let memory = server.memory();
            stuck.send(rs(1, MAX_N, stream)).await;
            // The kernel's buffers fill while others are served.
            go_on(&client).await;
            assert_rests(&server, stream).await;
            go_on(&client).await;
            let grown = server.memory().saturating_sub(memory);
            assert_below(grown, 1 << 20, stream);
            drop(stuck);
        }
    }
}

/// The same of `rsockd`, whose endless stream is a range without an end.
#[tokio::test]
async fn an_endless_range_nobody_reads() {
    let server = Process::rsockd().await;
    // Composite metadata of one entry: the route "range".
    let route = b"\xfe\0\0\x06\x05range";
    for uri in &server.uris {
        for data in ["{}", r#"{"size":16384}"#] {
            let client = Client::connect(uri).await.expect("a connection");
            go_on(&client).await;
            // What is measured later is growth, and not the first use.
            let mut peer = Peer::established(uri).await;
            peer.send(rs(1, 100, data).metadata(route)).await;
            for _ in 0..100 {
                assert_eq!(peer.next().await.stream, 1);
            }
            let mut stuck = Peer::established(uri).await;
            let memory = server.memory();
            stuck.send(rs(1, MAX_N, data).metadata(route)).await;
            go_on(&client).await;
            assert_rests(&server, data).await;
            go_on(&client).await;
            assert_below(server.memory().saturating_sub(memory), 1 << 20, data);
        }
    }
}

/// The same from many connections, and requests of every kind behind it that nobody reads either.
#[tokio::test]
async fn a_peer_that_reads_nothing_and_asks_for_everything() {
    let server = fixture().await;
    let client = warmed(&server, 0).await;
    let memory = server.memory();
    let mut stuck = Vec::new();
    for _ in 0..4 {
        let mut peer = Peer::established(&server.uris[0]).await;
        peer.send_all((0..50).map(|n| rs(2 * n + 1, MAX_N, "bulk"))).await;
        stuck.push(peer);
    }
    go_on(&client).await;
    // A stream holds what its producer yielded in one turn.
    let grown = server.memory().saturating_sub(memory);
    assert_below(grown, 16 << 20, "200 streams of 16 KiB items");
}

/// One stream whose user does not read leaves the others of its connection alone.
#[tokio::test]
async fn a_stream_nobody_reads_on_a_connection_in_use() {
    let server = fixture().await;
    let client = warmed(&server, 0).await;
    let memory = server.memory();
    let mut unread = client.request_stream("inf").credit(64);
    unread.next().await.expect("an item").expect("an item");
    go_on(&client).await;
    let count = client.request_stream("count:5000").credit(100).count().await;
    assert_eq!(count, 5000);
    assert_below(server.memory().saturating_sub(memory), 1 << 20, "an unread stream");
    // It goes on when its user does.
    let items: Vec<Payload> = unread.take(1000).try_collect().await.expect("items");
    assert_eq!(items.len(), 1000);
}

/// A long channel in constant memory, credit both ways.
#[tokio::test]
async fn a_channel_of_many_items() {
    let full = !cfg!(debug_assertions) || std::env::var_os("RSOCK_TESTS_FULL").is_some();
    let count: u64 = if full { 1_000_000 } else { 200_000 };
    let server = Process::rsockd().await;
    let client = Client::connect(&server.uris[0]).await.expect("a connection");
    // The first use of everything is not growth.
    let few = client.request_channel(stream::iter(0..2_000).map(|n| n.to_string()));
    assert_eq!(few.count().await, 2_000);
    let own = Process::memory_of(std::process::id());
    let memory = server.memory();
    let items = stream::iter(0..count).map(|n| n.to_string());
    let mut echoes = client.request_channel(items).credit(256);
    let (mut next, mut peak, mut own_peak) = (0_u64, memory, own);
    while let Some(echo) = echoes.next().await {
        assert_eq!(echo.expect("an item").data, next.to_string());
        next += 1;
        if next.is_multiple_of(20_000) {
            peak = peak.max(server.memory());
            own_peak = own_peak.max(Process::memory_of(std::process::id()));
        }
    }
    assert_eq!(next, count);
    assert_below(peak - memory, 4 << 20, "the server's side of a channel");
    assert_below(own_peak - own, 4 << 20, "the client's side of a channel");
}

/// A frame for the stream of this id, or for none.
type OnId = fn(u32) -> Frame;

/// Frames sent without end by a peer that reads nothing: what they make the server hold is bounded,
/// and other connections go on.
#[tokio::test]
async fn floods() {
    let server = fixture().await;
    for uri in 0..2 {
        let client = warmed(&server, uri).await;
        let next_id = |n: usize| 2 * n as u32 + 3;
        let frames: [(&str, OnId); 9] = [
            ("KEEPALIVE", |_| ka(R, 0, "x")),
            ("KEEPALIVE of 64 KiB", |_| ka(R, 0, [0; 64 << 10])),
            ("REQUEST_N", |_| rn(1, MAX_N)),
            ("PAYLOAD on unknown streams", |id| p(id, N, "x")),
            ("REQUEST_RESPONSE", |id| rr(id, "x")),
            ("REQUEST_RESPONSE without an answer", |id| rr(id, "never")),
            ("FIRE_AND_FORGET that never ends", |id| fnf(id, "never")),
            ("METADATA_PUSH that never ends", |_| mp("never")),
            ("REQUEST_CHANNEL", |id| rc(id, 1, "x").flags(C)),
        ];
        for (what, frame) in frames {
            let memory = server.memory();
            let mut flooder = Peer::established(&server.uris[uri]).await;
            flooder.send(rs(1, 1, "never")).await;
            let mut written = 0_usize;
            // Enough to fill every buffer on the way, many times over.
            let batch = (256 << 10) / frame(1).encode().len().max(256);
            for n in 0..40 {
                let frames: Vec<_> = (0..batch).map(|m| frame(next_id(batch * n + m))).collect();
                let Some(bytes) = flooder.flood(&frames).await else {
                    // It reads no more of us, or has sent us away: both are bounds.
                    break;
                };
                written += bytes;
            }
            go_on_for(&client, 200).await;
            assert!(written > 0, "{what}");
            // 4,096 streams, 1,024 answers of 64 KiB in all, two socket buffers' worth of frames.
            assert_below(server.memory().saturating_sub(memory), 12 << 20, what);
        }
    }
}
