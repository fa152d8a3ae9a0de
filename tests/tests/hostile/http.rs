//! HTTP clients that mean no good.

use std::time::Duration;

use rsock::{Config, HttpLimits, Server, ServerBuilder};
use rsock_tests::http::{HttpPeer, Site};

use crate::Stage;

async fn stage(builder: ServerBuilder) -> (Stage, Site) {
    let site = Site::default();
    let handler = site.clone();
    let stage = Stage::with(builder.http(move |request| handler.clone().answer(request))).await;
    (stage, site)
}

/// Limits that are soon reached.
fn hasty() -> HttpLimits {
    let mut limits = HttpLimits::default();
    let soon = Duration::from_millis(300);
    (limits.idle_timeout, limits.body_timeout, limits.stall_timeout) = (soon, soon, soon);
    limits
}

/// H158: a head that comes a byte at a time, or not at all.
#[tokio::test]
async fn heads_that_do_not_come() {
    let mut config = Config::default();
    config.setup_timeout = Duration::from_secs(1);
    let (mut stage, _) = stage(Server::builder().config(config)).await;
    let uri = stage.served.ws().to_owned();
    let mut first = HttpPeer::connect(&uri).await;
    let mut next = HttpPeer::connect(&uri).await;
    next.ask("GET", "/hello").await;
    let (mut first_open, mut next_open) = (true, true);
    for byte in format!("GET /hello HTTP/1.1\r\nHost: x\r\nX: {}", "y".repeat(1_000)).into_bytes() {
        first_open = first_open && first.try_send([byte]).await.is_ok();
        next_open = next_open && next.try_send([byte]).await.is_ok();
        if !first_open && !next_open {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    first.expect_end().await;
    next.expect_end().await;
    let reading = stage.served.meter.read();
    assert_eq!((reading.handshake_timeouts, reading.http_timeouts), (1, 1));
    stage.nobody_noticed("H158").await;
}

/// H159: a body that comes a byte at a time, or not at all.
#[tokio::test]
async fn bodies_that_do_not_come() {
    let (mut stage, _) = stage(Server::builder().http_limits(hasty())).await;
    let uri = stage.served.ws().to_owned();
    for path in ["/shout", "/count"] {
        for trickles in [false, true] {
            let mut peer = HttpPeer::connect(&uri).await;
            let head = "HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n";
            peer.send(format!("POST {path} {head}")).await;
            for _ in 0..if trickles { 100 } else { 0 } {
                if peer.try_send("x").await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let answer = peer.answer().await;
            assert_eq!(answer.status(), 408, "{path} {trickles}");
            peer.expect_end().await;
        }
    }
    assert_eq!(stage.served.meter.read().http_timeouts, 4);
    stage.nobody_noticed("H159").await;
}

/// H160: a head or a body of more than is taken.
#[tokio::test]
async fn heads_and_bodies_that_are_too_long() {
    let (mut stage, _) = stage(Server::builder()).await;
    let uri = stage.served.ws().to_owned();
    for head in [
        format!("GET /hello HTTP/1.1\r\nHost: x\r\nCookie: {}", "c".repeat(16 << 10)),
        format!("GET /{} HTTP/1.1\r\n", "p".repeat(16 << 10)),
        format!("GET /hello HTTP/1.1\r\n{}", "X: y\r\n".repeat(200)) + "\r\n",
    ] {
        let mut peer = HttpPeer::connect(&uri).await;
        peer.send(head).await;
        let said = peer.expect_end().await;
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{said}");
    }
    let mut peer = HttpPeer::connect(&uri).await;
    peer.send("POST /shout HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\nx").await;
    let answer = peer.answer().await;
    assert_eq!(answer.status(), 413);
    assert!(answer.text().contains("at most 1048576 bytes"), "{}", answer.text());
    let mut peer = HttpPeer::connect(&uri).await;
    peer.send("POST /shout HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x1_0000));
    for _ in 0..17 {
        if peer.try_send(&chunk).await.is_err() {
            break;
        }
    }
    assert_eq!(peer.answer().await.status(), 413);
    stage.nobody_noticed("H160").await;
}

/// H161: requests that two readers would read in two ways.
#[tokio::test]
async fn requests_with_two_meanings() {
    let (mut stage, site) = stage(Server::builder()).await;
    let uri = stage.served.ws().to_owned();
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let (length, chunked) = ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n");
    for (headers, body) in [
        // By the length, the chunk is the body; by the chunks, the rest is another request.
        (format!("{length}{chunked}"), "0\r\n\r\n"),
        (format!("{chunked}{length}"), "0\r\n\r\n"),
        ("Content-Length: 0\r\nContent-Length: 5\r\n".to_owned(), "12345"),
        ("Content-Length: +5\r\n".to_owned(), "12345"),
        ("Transfer-Encoding: identity\r\n".to_owned(), ""),
        ("Transfer-Encoding: chunked, gzip\r\n".to_owned(), "0\r\n\r\n"),
        ("Transfer-Encoding: xchunked\r\n".to_owned(), "0\r\n\r\n"),
        ("Transfer-Encoding : chunked\r\n".to_owned(), "0\r\n\r\n"),
        (" X: folded\r\n".to_owned(), ""),
        ("Host: y\r\n".to_owned(), ""),
    ] {
        let mut peer = HttpPeer::connect(&uri).await;
        let head = format!("POST /unread HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        peer.send(format!("{head}{body}{smuggled}")).await;
        let said = peer.expect_end().await;
        let statuses = said.matches("HTTP/1.1 ").count();
        assert!(statuses <= 1, "{headers}{said}");
    }
    // RFC 9112, section 3.2: whom it is for nobody knows.
    let mut peer = HttpPeer::connect(&uri).await;
    peer.send("GET /smuggled HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    let said = peer.expect_end().await;
    assert!(said.starts_with("HTTP/1.1 400 "), "{said}");
    let lines = site.recorder.lines();
    assert!(!lines.iter().any(|line| line.contains("smuggled")), "{lines:?}");
    stage.nobody_noticed("H161").await;
}

/// H162: many requests in one write are answered in their order, one after the other.
#[tokio::test]
async fn a_thousand_requests_at_once() {
    let (mut stage, site) = stage(Server::builder()).await;
    let mut peer = HttpPeer::connect(stage.served.ws()).await;
    let mut requests = String::new();
    for n in 0..1_000 {
        let path = if n % 2 == 0 { "/hello" } else { "/items" };
        requests += &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    peer.send(requests).await;
    for n in 0..1_000 {
        let expected = if n % 2 == 0 { "hello\n" } else { "item 0\nitem 1\nitem 2\n" };
        assert_eq!(peer.answer().await.text(), expected, "{n}");
    }
    // Behind one that is not answered, none is begun.
    peer.send("GET /never HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2)).await;
    while stage.served.meter.read().http_requests < 1_001 {
        tokio::task::yield_now().await;
    }
    drop(peer);
    stage.nobody_noticed("H162").await;
    assert_eq!(site.recorder.count("dropped /hello"), 500);
}

/// H163: who takes nothing of an answer is closed; who takes it slowly is not.
#[tokio::test]
async fn answers_that_are_not_taken() {
    let mut limits = hasty();
    limits.stall_timeout = Duration::from_secs(1);
    let (mut stage, site) = stage(Server::builder().http_limits(limits)).await;
    let uri = stage.served.ws().to_owned();
    let mut slow = HttpPeer::connect(&uri).await;
    slow.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await;
    slow.head().await;
    let mut taken = 0;
    for path in ["/endless", "/large"] {
        let mut peer = HttpPeer::connect(&uri).await;
        peer.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        let before = stage.served.meter.read().http_timeouts;
        while stage.served.meter.read().http_timeouts == before {
            slow.read_some(64 << 10).await;
            taken += 64 << 10;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        site.recorder.wait(&format!("dropped {path}")).await;
    }
    slow.read_some((8_usize << 20).saturating_sub(taken)).await;
    assert_eq!(slow.ask("GET", "/hello").await.text(), "hello\n");
    stage.nobody_noticed("H163").await;
}

/// H164: idle connections in any number hold up nobody.
#[tokio::test]
async fn idle_connections_lock_nobody_out() {
    let mut limits = HttpLimits::default();
    limits.max_connections = 4;
    let (mut stage, _) = stage(Server::builder().max_newcomers(4).http_limits(limits)).await;
    let uri = stage.served.ws().to_owned();
    let mut idle = Vec::new();
    for n in 0..40 {
        let mut peer = HttpPeer::connect(&uri).await;
        assert_eq!(peer.ask("GET", "/hello").await.status(), 200, "{n}");
        idle.push(peer);
    }
    let reading = stage.served.meter.read();
    // Half of the places are for others.
    assert_eq!((reading.evicted_http_connections, reading.evicted_newcomers), (38, 0));
    stage.nobody_noticed("H164").await;
}
