//! WebSockets and HTTP behind TLS, on one port.

use rsock::{Client, HttpRequest, HttpResponse, Server, tls::ClientTls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{Authority, Running, client, raw, refusal, trusting, who};

async fn served(authority: &Authority) -> Running {
    let tls = authority.server(&["localhost"]).server();
    let handler = async |request: HttpRequest| {
        let tls = request.tls().map_or("none", |tls| tls.server_name().unwrap_or("-"));
        HttpResponse::text(200, format!("{} {tls}\n", request.scheme()))
    };
    let builder = Server::builder().tls(tls).http(handler);
    Running::start(builder, &["wss://127.0.0.1:0/rsocket", "ws://127.0.0.1:0/rsocket"]).await
}

#[tokio::test]
async fn websockets_and_http_share_a_port() {
    let authority = Authority::new();
    let server = served(&authority).await;
    let asking = client(trusting(&authority)).connect(&server.uri()).await.expect("a connection");
    assert_eq!(who(&asking).await, "wss 1.3 localhost http/1.1 nobody");
    let (uri, long) = (server.uri().replacen("wss", "ws+tls", 1), vec![b'x'; 1 << 20]);
    let asking = client(trusting(&authority)).connect(&uri).await.expect("a connection");
    let answer = asking.request_response(long.clone()).await.expect("an answer");
    assert!(answer.data == long);
    let asking = Client::connect(&server.uris[1]).await.expect("a connection");
    assert_eq!(who(&asking).await, "ws in clear");
    // No other protocol is spoken there.
    let (_, text) = refusal(trusting(&authority).alpn(["h2"]), &server.uri()).await;
    assert!(text.contains("--alpn"), "{text}");
    let answered = async |request: &str| {
        let mut stream = raw(&authority, None, &server.uris[0]).await;
        stream.write_all(request.as_bytes()).await.expect("it is taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer, and a farewell");
        answer
    };
    let answer = answered("GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("https localhost\n"), "{answer}");
    let answer = answered(
        "GET /x HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: close, Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert!(answer.await.ends_with("it is at wss://h/rsocket\n"));
    // Whoever forgets that there is TLS is told by his own side.
    let plain = Client::connect(&server.uris[0].replacen("wss", "ws", 1)).await.map(drop);
    let error = plain.expect_err("it is not HTTP").to_string();
    assert!(error.contains("does not speak HTTP"), "{error}");
    let _ = ClientTls::new();
}
