//! WebSockets that a handler of HTTP serves, beside those of RSocket, on one port.

use std::time::Duration;

use rsock::{Client, Config, HttpLimits, HttpResponse, Server, ServerBuilder};
use rsock_tests::{
    http::{HttpPeer, Site, opening},
    link::Served,
    record::record_panics,
    wire::{BINARY, CLOSE, FIN, PING, PONG, TEXT},
};

use crate::resume::within;

async fn served(builder: ServerBuilder) -> (Served, Site) {
    let site = Site::default();
    let handler = site.clone();
    let served = Served::with(builder.http(move |request| handler.clone().answer(request))).await;
    (served, site)
}

async fn opened(served: &Served, headers: &str) -> (HttpPeer, String) {
    let mut peer = HttpPeer::connect(served.ws()).await;
    let head = peer.open_websocket("/echo", headers).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    (peer, head)
}

#[tokio::test]
async fn a_handler_serves_a_websocket_of_its_own() {
    let (served, site) = served(Server::builder()).await;
    let (mut peer, head) = opened(&served, "").await;
    assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    assert!(head.contains("x-served-by: a handler\r\n"), "{head}");
    assert!(!head.contains("sec-websocket-protocol"), "{head}");
    peer.say(FIN | TEXT, "grüße".as_bytes()).await;
    assert_eq!(peer.hear().await, (FIN | TEXT, "grüße".as_bytes().to_vec()));
    peer.say(FIN | PING, b"are you there").await;
    assert_eq!(peer.hear().await, (FIN | PONG, b"are you there".to_vec()));
    peer.say(FIN | BINARY, &vec![7; 60_000]).await;
    assert_eq!(peer.hear().await, (FIN | BINARY, vec![7; 60_000]));
    let reading = served.meter.read();
    assert_eq!((reading.open_plain_websockets, reading.open_http_connections), (1, 1));
    peer.say(FIN | CLOSE, b"\x03\xe8bye").await;
    assert_eq!(peer.hear().await, (FIN | CLOSE, b"\x03\xe8".to_vec()));
    peer.expect_end().await;
    site.recorder.wait("dropped /echo").await;
    let (mut peer, head) = opened(&served, "Sec-WebSocket-Protocol: none, second, first\r\n").await;
    assert!(head.contains("sec-websocket-protocol: second\r\n"), "{head}");
    // What comes right behind the request is not lost.
    peer.say(FIN | TEXT, b"more").await;
    assert_eq!(peer.hear().await.1, b"more");
    // And that of RSocket beside.
    let client = Client::connect(served.ws()).await.expect("a connection");
    assert_eq!(within(client.request_response("hi")).await.expect("an answer").data, "hi");
}

#[tokio::test]
async fn a_request_for_one_that_is_not_there_is_told_where_that_of_rsocket_is() {
    let (served, _) = served(Server::builder()).await;
    for target in ["/none", "/hello", "/endless", "/method", "/"] {
        let mut peer = HttpPeer::connect(served.ws()).await;
        peer.send(opening(target, "")).await;
        let answer = peer.answer().await;
        let expected =
            format!("There is no WebSocket at this path: it is at ws://localhost{}", "/rsocket\n");
        assert_eq!((answer.status(), answer.text()), (404, expected.as_str()), "{target}");
    }
    // A handler that has a reason of its own says so.
    let mut peer = HttpPeer::connect(served.ws()).await;
    peer.send(opening("/forbidden", "")).await;
    assert_eq!(peer.answer().await.status(), 403);
    // Nothing is done for what is no request for a WebSocket, but for its path.
    peer.send(opening("/count", "").replacen("GET", "POST", 1)).await;
    assert_eq!(peer.answer().await.status(), 404);
    for (target, from, to, status) in [
        ("/echo", "Upgrade: websocket\r\n", "", 426),
        ("/echo", "Version: 13", "Version: 8", 426),
        ("/echo", "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIA==", 400),
        ("/echo", "Connection: Upgrade", "Connection: close", 400),
    ] {
        let mut peer = HttpPeer::connect(served.ws()).await;
        peer.send(opening(target, "").replacen(from, to, 1)).await;
        let answer = peer.answer().await;
        assert_eq!(answer.status(), status, "{from}");
        assert_eq!(answer.head.contains("upgrade: websocket\r\n"), status == 426);
    }
}

#[tokio::test]
async fn it_has_a_seat_and_no_limit_of_a_handshake() {
    record_panics();
    let mut config = Config::default();
    config.setup_timeout = Duration::from_millis(200);
    let mut limits = HttpLimits::default();
    limits.max_connections = 1;
    limits.idle_timeout = Duration::from_millis(200);
    let (served, _) = served(Server::builder().config(config).http_limits(limits)).await;
    let (mut peer, _) = opened(&served, "").await;
    let mut other = HttpPeer::connect(served.ws()).await;
    other.send(opening("/echo", "")).await;
    let answer = other.answer().await;
    assert_eq!(answer.status(), 503);
    assert!(answer.text().contains("max_http_connections"), "{}", answer.text());
    other.expect_end().await;
    // Longer than any of these.
    tokio::time::sleep(Duration::from_millis(700)).await;
    peer.say(FIN | TEXT, b"still here").await;
    assert_eq!(peer.hear().await.1, b"still here");
    assert_eq!(served.meter.read().http_timeouts, 0);
    // A panic costs this one alone, and its seat is another's.
    peer.say(FIN | TEXT, b"panic").await;
    let (first, body) = peer.hear().await;
    assert_eq!((first, &body[..2]), (FIN | CLOSE, &1011_u16.to_be_bytes()[..]));
    peer.say(FIN | CLOSE, &body[..2]).await;
    peer.expect_end().await;
    while served.meter.read().open_http_connections > 0 {
        tokio::task::yield_now().await;
    }
    let (mut peer, _) = opened(&served, "").await;
    peer.say(FIN | TEXT, b"next").await;
    assert_eq!(peer.hear().await.1, b"next");
}

#[tokio::test]
async fn the_filter_sees_that_it_is_a_websocket() {
    let filter = |head: &rsock::http::RequestHead<'_>| {
        head.opens_websocket().then(|| HttpResponse::text(403, head.path().to_owned()))
    };
    let (served, _) = served(Server::builder().filter_http(filter)).await;
    for target in ["/echo", "/rsocket", "/none"] {
        let mut peer = HttpPeer::connect(served.ws()).await;
        peer.send(opening(target, "")).await;
        let answer = peer.answer().await;
        assert_eq!((answer.status(), answer.text()), (403, target));
        assert_eq!(peer.ask("GET", "/hello").await.status(), 200);
    }
}

#[tokio::test]
async fn a_server_that_ends_says_so_and_waits_for_nobody() {
    let (mut served, site) = served(Server::builder()).await;
    let (mut peer, _) = opened(&served, "").await;
    served.begin_shutdown();
    let (first, body) = peer.hear().await;
    assert_eq!((first, &body[..2]), (FIN | CLOSE, &1001_u16.to_be_bytes()[..]));
    peer.say(FIN | CLOSE, &body[..2]).await;
    peer.expect_end().await;
    site.recorder.wait("dropped /echo").await;
    served.ended().await;
}
