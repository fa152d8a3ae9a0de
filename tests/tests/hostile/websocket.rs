//! Errors, ends and messages that only a WebSocket can carry.

use std::{sync::Arc, time::Duration};

use rsock::{Config, MemoryBudget, Server};
use rsock_tests::{
    script::Peer,
    wire::{BINARY, C, CLOSE, CONTINUATION, FIN, N, PING, TEXT, message, p, prefixed, rr},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{CE, Stage, Then};

/// H140, H144, H145, WS-03, WS-04: what ends the connection, and with which code.
#[tokio::test]
async fn frames_that_are_no_messages_of_ours() {
    let mut stage = Stage::start().await;
    let uri = stage.served.ws().to_owned();
    let mask = Some([1, 2, 3, 4]);
    let request = rr(1, "x").encode();
    let prefixed = prefixed(&request);
    for (row, wire, code) in [
        ("H140 text", message(FIN | TEXT, mask, b"hello"), Some(1003)),
        ("H140 empty", message(FIN | BINARY, mask, b""), None),
        ("H140 short", message(FIN | BINARY, mask, b"12345"), None),
        ("H145 unmasked", message(FIN | BINARY, None, &request), Some(1002)),
        ("H145 reserved", message(FIN | 0x40 | BINARY, mask, &request), Some(1002)),
        ("H145 opcode", message(FIN | 0x3, mask, &request), Some(1002)),
        ("continuation of nothing", message(FIN | CONTINUATION, mask, b"x"), Some(1002)),
        ("ping in parts", message(PING, mask, b"x"), Some(1002)),
        ("long ping", message(FIN | PING, mask, &[0; 126]), Some(1002)),
        ("H144", message(FIN | BINARY, mask, &prefixed), None),
    ] {
        let mut peer = Peer::established(&uri).await;
        peer.raw(&wire).await;
        let text = peer.next().await;
        assert_eq!(text.code(), Some(0x101), "{row}\n{}", peer.trace());
        peer.expect_end().await;
        assert_eq!(peer.close_code, code.or(Some(1000)), "{row}");
        stage.log.wait_line(&[&peer.address(), "connection ended", &text.text()]).await;
        stage.nobody_noticed(row).await;
    }
}

/// H142: a message without an end.
#[tokio::test]
async fn endless_continuation() {
    let mut config = Config::default();
    config.max_frame_bytes = 64 << 10;
    let mut stage = Stage::with(Server::builder().config(config)).await;
    let uri = stage.served.ws().to_owned();
    let mut peer = Peer::established(&uri).await;
    peer.message(BINARY, [0; 1024]).await;
    for _ in 0..64 {
        peer.message(CONTINUATION, [0; 1024]).await;
    }
    stage.judge("H142", peer, &CE).await;
    let mut peer = Peer::established(&uri).await;
    peer.message(BINARY, "").await;
    let nothing = message(CONTINUATION, Some([0; 4]), b"");
    peer.raw(nothing.repeat(100_000)).await;
    stage.judge("H142 without bytes", peer, &Then::End).await;
}

/// H142: halves of messages, each no longer than a read. Together they are more than there is.
#[tokio::test]
async fn many_halves_of_messages() {
    let budget = MemoryBudget::new(2 << 20);
    let stage = Stage::with(Server::builder().memory(Arc::clone(&budget))).await;
    let uri = stage.served.ws().to_owned();
    let mut peers = Vec::new();
    for _ in 0..100 {
        let mut peer = Peer::established(&uri).await;
        peer.message(BINARY, rr(1, vec![b'x'; 4_000]).encode()).await;
        for _ in 0..25 {
            peer.message(CONTINUATION, [b'x'; 4_000]).await;
        }
        peers.push(peer);
    }
    let meter = Arc::clone(&stage.served.meter);
    while meter.read().paused_for_memory < 50 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // A little more for short ones, and of each a first read and what it is put together in.
    let most = budget.max() + (1 << 20) + peers.len() * (24 << 10);
    assert!(budget.used() <= most, "{budget:?}");
}

/// WS-10: the close frame is answered, and streams end.
#[tokio::test]
async fn a_close_frame() {
    let mut stage = Stage::start().await;
    let mut peer = Peer::established(stage.served.ws()).await;
    peer.send(rr(1, "never")).await;
    peer.message(FIN | PING, "before the end").await;
    peer.message(FIN | CLOSE, 1001_u16.to_be_bytes()).await;
    peer.expect_end().await;
    assert_eq!(peer.close_code, Some(1001));
    assert_eq!(peer.pongs, [b"before the end"]);
    stage.served.fixture.recorder.wait("dropped never").await;
    stage.nobody_noticed("WS-10").await;
}

/// Plain HTTP on the WebSocket's port, and a handshake that is none.
#[tokio::test]
async fn http_that_is_no_websocket() {
    let mut stage = Stage::start().await;
    let authority = stage.served.ws()["ws://".len()..].split('/').next().unwrap().to_owned();
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (request, status) in [
        ("GET /rsocket HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "426"),
        ("GET /elsewhere HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "404"),
        (
            format!(
                "GET /elsewhere HTTP/1.1\r\nHost: x\r\n{upgrade}{key}Sec-WebSocket-Version: 13\r\n\r\n"
            ),
            "404",
        ),
        (
            format!(
                "GET /rsocket HTTP/1.1\r\nHost: x\r\n{upgrade}{key}Sec-WebSocket-Version: 8\r\n\r\n"
            ),
            "4",
        ),
        (
            format!(
                "GET /rsocket HTTP/1.1\r\nHost: x\r\n{upgrade}Sec-WebSocket-Version: 13\r\n\r\n"
            ),
            "4",
        ),
        ("\0\0\u{1}not HTTP\r\n\r\n".to_owned(), ""),
    ] {
        let mut socket = TcpStream::connect(&authority).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        socket.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // A reset is an answer too.
        let _ = socket.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        let expected = format!("HTTP/1.1 {status}");
        assert!(status.is_empty() || answer.starts_with(&expected), "{request}\n{answer}");
    }
    stage.nobody_noticed("HTTP").await;
}

/// WS-01, WS-06: every way of writing a length, in both directions.
#[tokio::test]
async fn frames_of_every_length() {
    let mut stage = Stage::start().await;
    let mut peer = Peer::established(stage.served.ws()).await;
    // Around the borders of the three ways in which RFC 6455 writes a length.
    for len in [0, 1, 118, 119, 120, 125, 126, 127, 65_529, 65_530, 65_536, 1 << 20] {
        let data = vec![b'x'; len];
        peer.send(rr(1, &data)).await;
        let reply = peer.next_whole().await;
        assert!(reply == p(1, N | C, &data), "{len}: {reply}");
    }
    stage.judge("lengths", peer, &Then::Alive).await;
}
