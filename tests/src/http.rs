//! A client of HTTP that is not ours: bytes by the letter, and answers as they come.

use std::{
    io,
    sync::{Arc, atomic::AtomicUsize, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use rsock::{Error, HttpBodyError, HttpRequest, HttpResponse, WebSocketOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    record::{Guard, Recorder},
    script::PATIENCE,
    wire::{Framing, MASK, message},
};

/// A connection that speaks HTTP/1.
#[derive(Debug)]
pub struct HttpPeer {
    socket: TcpStream,
    read: Vec<u8>,
}

/// An answer: the line and the headers, in lower case but for the line, and the body.
#[derive(Debug)]
pub struct Answer {
    /// As in `HTTP/1.1 200 OK\r\ncontent-length: 2\r\n`.
    pub head: String,
    /// The bytes in its chunks, if it has them.
    pub body: Vec<u8>,
}

impl Answer {
    /// The status.
    pub fn status(&self) -> u16 {
        self.head[9..12].parse().expect("a status")
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

impl HttpPeer {
    /// Connects to the host and port of `ws://host:port/path`.
    pub async fn connect(uri: &str) -> Self {
        let authority = uri.split("//").nth(1).and_then(|rest| rest.split('/').next());
        let socket = TcpStream::connect(authority.expect("an address")).await;
        Self { socket: socket.expect("a connection"), read: Vec::new() }
    }

    /// Sends these bytes.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).await.expect("it takes them");
    }

    /// Sends these bytes, if it is not closed already.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.socket.write_all(bytes.as_ref()).await
    }

    /// Sends a request without a body, and returns the answer.
    pub async fn ask(&mut self, method: &str, target: &str) -> Answer {
        self.send(format!("{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        self.answer_to(method).await
    }

    /// Asks for a WebSocket at this target, with more headers, each with its line's end; returns the head of the
    /// answer.
    pub async fn open_websocket(&mut self, target: &str, headers: &str) -> String {
        self.send(opening(target, headers)).await;
        self.head().await
    }

    /// Sends a frame of a WebSocket whose header begins with this byte, if it is not closed already.
    pub async fn say(&mut self, first: u8, body: &[u8]) {
        // That it was closed is seen when it is read.
        let _ = self.try_send(message(first, Some(MASK), body)).await;
    }

    /// The next frame of a WebSocket: the first byte of its header, and its body.
    pub async fn hear(&mut self) -> (u8, Vec<u8>) {
        loop {
            if let Some(envelope) = Framing::WebSocket.envelope(&self.read)
                && let Some(body) = envelope.open(&self.read)
            {
                self.read.drain(..envelope.body.end);
                return (envelope.first, body);
            }
            assert!(self.more().await, "an end within a frame: {:?}", self.rest());
        }
    }

    /// The next answer, to a request that may have a body in its answer.
    pub async fn answer(&mut self) -> Answer {
        self.answer_to("GET").await
    }

    /// The head of the next answer.
    pub async fn head(&mut self) -> String {
        let end = loop {
            if let Some(at) = find(&self.read, b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.more().await, "an end within a head: {:?}", self.rest());
        };
        let head = String::from_utf8(self.read.drain(..end).collect()).expect("a head is text");
        let (line, headers) = head.split_once("\r\n").expect("a line");
        format!("{line}\r\n{}", headers.to_ascii_lowercase())
    }

    async fn answer_to(&mut self, method: &str) -> Answer {
        let head = self.head().await;
        let length =
            head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let mut body = Vec::new();
        if method == "HEAD" || head.starts_with("HTTP/1.1 1") || head.starts_with("HTTP/1.1 204") {
        } else if let Some(length) = length {
            let length = length.parse().expect("a length");
            body = self.take(length).await;
        } else if head.contains("transfer-encoding: chunked") {
            loop {
                let length = self.line().await;
                let length = usize::from_str_radix(&length, 16).expect("a length");
                body.extend(self.take(length).await);
                assert_eq!(self.line().await, "");
                if length == 0 {
                    break;
                }
            }
        } else {
            while self.more().await {}
            body = std::mem::take(&mut self.read);
        }
        Answer { head, body }
    }

    async fn line(&mut self) -> String {
        loop {
            if let Some(at) = find(&self.read, b"\r\n") {
                let line: Vec<_> = self.read.drain(..at + 2).collect();
                return String::from_utf8(line[..at].to_vec()).expect("a line is text");
            }
            assert!(self.more().await, "an end within a line: {:?}", self.rest());
        }
    }

    async fn take(&mut self, length: usize) -> Vec<u8> {
        while self.read.len() < length {
            assert!(self.more().await, "an end within a body");
        }
        self.read.drain(..length).collect()
    }

    /// Reads to the end, which must come; how it ends does not matter.
    pub async fn expect_end(&mut self) -> String {
        while self.more().await {}
        self.rest()
    }

    /// Reads so many bytes and forgets them; fewer at the end.
    pub async fn read_some(&mut self, bytes: usize) {
        while self.read.len() < bytes && self.more().await {}
        let read = bytes.min(self.read.len());
        self.read.drain(..read);
    }

    fn rest(&self) -> String {
        String::from_utf8_lossy(&self.read).into_owned()
    }

    /// Reads some more; false at the end.
    async fn more(&mut self) -> bool {
        let read = timeout(PATIENCE, self.socket.read_buf(&mut self.read)).await;
        read.expect("something comes in time").is_ok_and(|read| read > 0)
    }
}

/// The request for a WebSocket.
pub fn opening(target: &str, headers: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Handlers to ask, by path.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// The record of what became of requests.
    pub recorder: Arc<Recorder>,
    /// Bytes that `/endless` was asked for.
    pub produced: Arc<AtomicUsize>,
}

/// Bytes of an item of `/endless`.
const ITEM: usize = 1 << 10;

impl Site {
    /// The handler.
    pub async fn answer(self, mut request: HttpRequest) -> Result<HttpResponse, HttpBodyError> {
        let (path, query) = (request.path().to_owned(), request.query().unwrap_or("").to_owned());
        let guard = Guard::new(&self.recorder, &path);
        Ok(match path.as_str() {
            "/hello" => HttpResponse::text(200, "hello\n"),
            "/method" => HttpResponse::text(200, request.method().to_string()),
            "/options" if request.method() == "OPTIONS" => {
                HttpResponse::new(204, "").header("allow", "GET")
            }
            "/about" => {
                let local = request.local_address().expect("TCP");
                let agent = request.header("User-Agent").unwrap_or("nobody");
                let text = format!(
                    "{} {query} {agent} {} {}",
                    request.address().starts_with("127.0.0.1:"),
                    local.ip(),
                    request.scheme()
                );
                HttpResponse::text(200, text)
            }
            "/shout" => {
                let body = request.into_body().bytes().await?;
                HttpResponse::new(200, body.to_ascii_uppercase())
            }
            "/count" => {
                let (mut bytes, body) = (0, request.body_mut());
                while let Some(part) = body.next().await {
                    bytes += part?.len();
                }
                HttpResponse::text(200, bytes.to_string())
            }
            "/mirror" => {
                let parts = request.into_body().map(|part| part.map_err(Error::application));
                return Ok(HttpResponse::stream(200, parts));
            }
            "/keep" => {
                // For longer than the connection.
                let kept = (request.into_body(), Arc::clone(&self.recorder));
                tokio::spawn(async move {
                    kept.1.wait("let go").await;
                    drop(kept.0);
                });
                HttpResponse::text(200, "kept\n")
            }
            "/unread" => HttpResponse::text(200, "not read\n"),
            "/never" => {
                std::future::pending::<()>().await;
                HttpResponse::text(200, "never")
            }
            "/panic" => panic!("as it was asked to"),
            "/panic-later" => {
                let items = stream::iter(0..3).map(|n| match n {
                    2 => panic!("as it was asked to"),
                    _ => Ok(Bytes::from_static(b"item")),
                });
                HttpResponse::stream(200, items)
            }
            "/fail" => {
                let items = [Ok(Bytes::from_static(b"item")), Err(Error::application("failed"))];
                HttpResponse::stream(200, stream::iter(items))
            }
            "/fail-first" => {
                HttpResponse::stream(200, stream::iter([Err(Error::application("failed"))]))
            }
            "/panic-first" => {
                let items = stream::iter(0..1).map(|_| panic!("as it was asked to"));
                HttpResponse::stream(200, items)
            }
            "/fail-later" => {
                let failing = stream::once(async {
                    tokio::task::yield_now().await;
                    Err(Error::application("failed"))
                });
                HttpResponse::stream(200, failing)
            }
            "/nothing" => HttpResponse::stream(200, stream::empty()),
            "/items" => {
                let items = (0..3).map(|n| Ok(Bytes::from(format!("item {n}\n"))));
                HttpResponse::stream(200, stream::iter(items)).header("content-type", "text/plain")
            }
            "/tick" => {
                let ticks = stream::unfold((0, guard), |(n, guard)| async move {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    Some((Ok(Bytes::from(format!("{n}\n"))), (n + 1, guard)))
                });
                return Ok(HttpResponse::stream(200, ticks));
            }
            "/quiet" => {
                let first = stream::iter([Ok(Bytes::from_static(b"first"))]);
                let held = stream::unfold(guard, |guard| async move {
                    std::future::pending::<()>().await;
                    Some((Ok(Bytes::new()), guard))
                });
                return Ok(HttpResponse::stream(200, first.chain(held)));
            }
            "/endless" => {
                let produced = Arc::clone(&self.produced);
                let items = stream::unfold(guard, move |guard| {
                    produced.fetch_add(ITEM, Relaxed);
                    async move { Some((Ok(Bytes::from_static(&[b'x'; ITEM])), guard)) }
                });
                return Ok(HttpResponse::stream(200, items));
            }
            "/echo" => {
                let options = WebSocketOptions::default().subprotocols(["first", "second"]);
                HttpResponse::websocket(&request, options, move |mut socket| async move {
                    while let Some(message) = socket.receive().await {
                        assert_ne!(message.as_text(), Some("panic"), "as it was asked to");
                        if socket.send(message).await.is_err() {
                            break;
                        }
                    }
                    drop(guard);
                })
                .header("x-served-by", "a handler")
            }
            "/forbidden" => HttpResponse::text(403, "not you\n"),
            "/wrong-header" => HttpResponse::text(200, "x").header("x", "a\nb"),
            "/large" => HttpResponse::new(200, vec![b'x'; 8 << 20]),
            _ => HttpResponse::text(404, "not found\n"),
        })
    }

    /// The bytes that `/endless` has produced when it produces no more.
    pub async fn produced_at_rest(&self) -> usize {
        let mut before = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let now = self.produced.load(Relaxed);
            if now == before && now > 0 {
                return now;
            }
            before = now;
        }
    }
}
