//! REST, RSocket and a streaming answer on one port.

use std::{net::SocketAddr, time::Duration};

use rsock::{Client, Payload, PayloadExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

async fn start() -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        let stopped = async move { stopped.await.unwrap_or_default() };
        rsock_axum_example::serve(listener, stopped).await.expect("it serves");
    });
    (address, stop, serving)
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut socket = TcpStream::connect(address).await.expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("a request");
    let mut answer = String::new();
    timeout(Duration::from_secs(10), socket.read_to_string(&mut answer))
        .await
        .expect("in time")
        .expect("an answer");
    answer
}

fn to(route: &str, data: &'static str) -> Payload {
    Payload::new(data).route(route).expect("short")
}

#[tokio::test]
async fn rest_rsocket_and_a_stream_share_a_port() {
    let (address, stop, serving) = start().await;
    assert!(get(address, "/hello/you").await.ends_with("hello you\n"));

    let uri = format!("ws://{address}/rsocket");
    let client = Client::builder().header("Origin", "https://a.example");
    let client = client.connect(&uri).await.expect("a connection");
    let answer = client.request_response(to("hello", "you")).await.expect("an answer");
    assert_eq!(answer.data, "hello you");
    let me = client.request_response(to("me", "")).await.expect("an answer");
    let me = String::from_utf8(me.data.to_vec()).expect("text");
    assert!(me.starts_with("127.0.0.1:") && me.ends_with("from https://a.example"), "{me}");

    let said = get(address, "/rsocket").await;
    assert!(said.starts_with("HTTP/1.1 426 ") && said.contains("upgrade: websocket"), "{said}");
    let error = Client::connect(&format!("ws://{address}/elsewhere")).await.map(drop);
    assert!(error.expect_err("no WebSocket").to_string().contains("404"));

    // A reader that reads nothing holds back its producer.
    let mut slow = TcpStream::connect(address).await.expect("a connection");
    slow.write_all(b"GET /numbers HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("a request");
    let (mut produced, mut same) = (0, 0);
    // It has stopped when this port has answered so many others, and none has seen more.
    while produced == 0 || same < 300 {
        let answer = get(address, "/produced").await;
        let (_, number) = answer.rsplit_once("\r\n").expect("a body");
        let now: u64 = number.parse().expect("a number");
        same = if now == produced { same + 1 } else { 0 };
        produced = now;
    }
    println!("made for a reader that reads nothing: {} KiB", produced >> 10);
    assert!(produced <= 256 << 10, "{produced}");
    drop(slow);

    // A shutdown ends connections of either kind.
    stop.send(()).expect("it runs");
    timeout(Duration::from_secs(10), client.closed()).await.expect("in time");
    timeout(Duration::from_secs(10), serving).await.expect("in time").expect("no panic");
}
