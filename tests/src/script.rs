//! A scripted peer on a real socket: what it sends and expects reads like a trace of the wire.
//!
//! Every wait has a limit and fails the test with the trace so far; nothing sleeps. That nothing
//! comes is shown by a *fence*: what was asked for later has been answered.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{Buf, BytesMut};
use sha1::{Digest, Sha1};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::{
    record::limit_time,
    wire::{C, F, FIN, Frame, Framing, MASK, N, PING, R, ka, message, p, rr, setup},
};

/// How long to wait for anything before the test has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The first stream id of fences: out of the way of scripts.
const FENCES: u32 = 1_000_000_001;
/// One end of a connection, played by hand.
#[derive(Debug)]
pub struct Peer {
    io: TcpStream,
    framing: Framing,
    /// We dialled: our WebSocket frames are masked, and theirs are not.
    dialled: bool,
    name: String,
    input: BytesMut,
    trace: String,
    next_fence: u32,
    /// Pongs and the close code, as they came.
    pub pongs: Vec<Vec<u8>>,
    /// The code of the close frame received.
    pub close_code: Option<u16>,
}

/// The schemes that a client may be told to connect to: TCP and WebSocket.
pub const SCHEMES: [&str; 2] = ["tcp", "ws"];

/// A listener for clients of ours.
#[derive(Debug)]
pub struct PeerListener {
    socket: TcpListener,
    framing: Framing,
}

impl PeerListener {
    /// For TCP, on a free port.
    pub async fn bind() -> Self {
        Self::bind_for("tcp").await
    }

    /// For one of the [`SCHEMES`], on a free port.
    pub async fn bind_for(scheme: &str) -> Self {
        limit_time();
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let framing = if scheme == "tcp" { Framing::Tcp } else { Framing::WebSocket };
        Self { socket, framing }
    }

    /// The URI it listens on.
    pub fn uri(&self) -> String {
        match self.framing {
            Framing::Tcp => format!("tcp://{}", self.address()),
            Framing::WebSocket => format!("ws://{}/rsocket", self.address()),
        }
    }

    /// Its host and port.
    pub fn address(&self) -> String {
        self.socket.local_addr().expect("a bound listener has an address").to_string()
    }

    /// The next client, whose SETUP has not been read.
    pub async fn accept(&self) -> Peer {
        let (io, _) = timeout(PATIENCE, self.socket.accept())
            .await
            .expect("a client connects in time")
            .expect("a connection");
        io.set_nodelay(true).expect("a TCP socket");
        let mut peer = Peer::new(io, self.framing, 2);
        peer.name = self.uri();
        if self.framing == Framing::WebSocket {
            peer.answer_upgrade().await;
        }
        peer
    }

    /// The next client, whose SETUP has been read.
    pub async fn accept_setup(&self) -> Peer {
        let mut peer = self.accept().await;
        let first = peer.next().await;
        assert_eq!(first.to_string().split('(').next(), Some("SETUP"));
        peer
    }
}

impl Peer {
    /// Connects to `tcp://…` or `ws://…`; nothing is sent yet but the WebSocket's handshake.
    pub async fn connect(uri: &str) -> Self {
        let (scheme, rest) = uri.split_once("://").expect("a URI");
        let authority = rest.split('/').next().expect("an authority");
        let io = timeout(PATIENCE, TcpStream::connect(authority))
            .await
            .expect("the server accepts in time")
            .expect("a connection");
        io.set_nodelay(true).expect("a TCP socket");
        if scheme == "tcp" {
            return Self::new(io, Framing::Tcp, 1);
        }
        let mut peer = Self::new(io, Framing::WebSocket, 1);
        peer.upgrade(authority).await;
        peer
    }

    /// Connects and sends SETUP.
    pub async fn established(uri: &str) -> Self {
        let mut peer = Self::connect(uri).await;
        peer.send(setup()).await;
        peer
    }

    fn new(io: TcpStream, framing: Framing, first_id: u32) -> Self {
        let address = io.local_addr().expect("a connected socket has an address");
        Self {
            name: address.to_string(),
            io,
            framing,
            dialled: first_id == 1,
            input: BytesMut::new(),
            trace: String::new(),
            next_fence: FENCES - 1 + first_id,
            pongs: Vec::new(),
            close_code: None,
        }
    }

    /// The name that the log of the side under test has for us: our address, or the URI that was
    /// dialled.
    pub fn address(&self) -> String {
        self.name.clone()
    }

    async fn upgrade(&mut self, authority: &str) {
        let request = format!(
            "GET /rsocket HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        self.raw(request.as_bytes()).await;
        let head = self.http_head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        // The example of RFC 6455, section 1.3.
        assert_eq!(header(&head, "sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }

    /// The server's side of the handshake.
    async fn answer_upgrade(&mut self) {
        let head = self.http_head().await;
        assert!(head.starts_with("GET /rsocket HTTP/1.1\r\n"), "{head}");
        let key = header(&head, "sec-websocket-key").unwrap_or_default();
        // RFC 6455, section 4.2.2.
        let hash = Sha1::new()
            .chain_update(key)
            .chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
            .finalize();
        let accept = STANDARD.encode(hash);
        let response = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        self.raw(response.as_bytes()).await;
    }

    /// Takes the head of an HTTP message off the input.
    async fn http_head(&mut self) -> String {
        let end = loop {
            let found = self.input.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(at) = found {
                break at + 4;
            }
            assert!(self.fill().await, "no handshake\n{}", self.trace);
        };
        let head = String::from_utf8_lossy(&self.input[..end]).into_owned();
        self.input.advance(end);
        head
    }

    // ---- sending ------------------------------------------------------------------------------

    /// Sends a frame.
    pub async fn send(&mut self, frame: Frame) {
        self.send_all([frame]).await;
    }

    /// Sends frames in one write.
    pub async fn send_all(&mut self, frames: impl IntoIterator<Item = Frame>) {
        let mut wire = Vec::new();
        for (index, frame) in frames.into_iter().enumerate() {
            if index < 20 {
                self.note(format_args!("> {frame}"));
            }
            wire.extend(self.framed(&frame.encode()));
        }
        self.write(&wire).await;
    }

    /// Sends frames without reading anything; `None` when the server does not take them within the
    /// time a server that reads needs, or has gone.
    pub async fn flood(&mut self, frames: &[Frame]) -> Option<usize> {
        let framed = frames.iter().map(|frame| self.framed(&frame.encode()));
        let wire: Vec<u8> = framed.flatten().collect();
        let written = timeout(Duration::from_millis(500), self.io.write_all(&wire)).await;
        matches!(written, Ok(Ok(()))).then_some(wire.len())
    }

    /// Sends a frame whose bytes are made by hand; the transport's prefix is put before it.
    pub async fn send_bytes(&mut self, frame: impl AsRef<[u8]>) {
        let frame = frame.as_ref();
        self.note_bytes(frame);
        let wire = self.framed(frame);
        self.write(&wire).await;
    }

    /// Writes bytes as they are.
    pub async fn raw(&mut self, bytes: impl AsRef<[u8]>) {
        self.note_bytes(bytes.as_ref());
        self.write(bytes.as_ref()).await;
    }

    /// Sends a WebSocket frame with this first byte, masked as our side has to.
    pub async fn message(&mut self, first: u8, body: impl AsRef<[u8]>) {
        let wire = message(first, self.mask(), body.as_ref());
        self.raw(wire).await;
    }

    /// Frames as they are on the socket.
    pub fn framed(&self, frame: &[u8]) -> Vec<u8> {
        self.framing.wrap_masked(self.mask(), frame)
    }

    fn mask(&self) -> Option<[u8; 4]> {
        self.dialled.then_some(MASK)
    }

    /// Ends our direction of the socket.
    pub async fn finish(&mut self) {
        self.note(format_args!("> FIN"));
        // A server that closed first has made it end already.
        let _ = self.io.shutdown().await;
    }

    /// Resets the connection.
    pub fn reset(self) {
        self.io.set_zero_linger().expect("a TCP socket can be told not to linger");
    }

    /// Closes the socket over what was not read, which resets the connection. What was sent has arrived:
    /// over loopback it has with the write.
    pub async fn reset_when_taken(mut self) {
        // Something is unread.
        let readable = timeout(PATIENCE, self.io.readable()).await;
        assert!(matches!(readable, Ok(Ok(()))), "nothing comes\n{}", self.trace);
        self.note(format_args!("> RST"));
    }

    /// Adds a line to the trace, as long as anybody would read it.
    fn note(&mut self, line: fmt::Arguments<'_>) {
        if self.trace.len() < 32 << 10 {
            let _ = writeln!(self.trace, "{line}");
        }
    }

    fn note_bytes(&mut self, bytes: &[u8]) {
        let start = &bytes[..bytes.len().min(60)];
        self.note(format_args!("> raw {} bytes {start:02x?}", bytes.len()));
    }

    async fn write(&mut self, bytes: &[u8]) {
        let Ok(written) = timeout(PATIENCE, self.io.write_all(bytes)).await else {
            panic!("the server does not read\n{}", self.trace);
        };
        // What a server that closes does with what comes later shows when reading.
        if let Err(error) = written {
            self.note(format_args!("> failed: {error}"));
        }
    }

    // ---- expecting ----------------------------------------------------------------------------

    /// The next frame.
    pub async fn next(&mut self) -> Frame {
        match self.next_or_end().await {
            Some(frame) => frame,
            None => panic!("the connection ended\n{}", self.trace),
        }
    }

    /// The next request or payload, put together where it comes in fragments (FRAG-02).
    pub async fn next_whole(&mut self) -> Frame {
        let mut whole = self.next().await;
        while whole.flags & F != 0 {
            let next = self.next().await;
            assert_eq!(next.stream, whole.stream, "fragments of one stream\n{}", self.trace);
            whole.flags = whole.flags & !F | next.flags;
            whole.data.extend(next.data);
            if let Some(more) = next.metadata {
                whole.metadata.get_or_insert_default().extend(more);
            }
        }
        whole
    }

    /// The next frame, or the end of the connection.
    pub async fn next_or_end(&mut self) -> Option<Frame> {
        loop {
            if let Some(bytes) = self.take_frame() {
                match Frame::decode(&bytes) {
                    Ok(frame) => {
                        self.note(format_args!("< {frame}"));
                        return Some(frame);
                    }
                    Err(wrong) => panic!("{wrong}\n{}", self.trace),
                }
            }
            if !self.fill().await {
                self.note(format_args!("X"));
                return None;
            }
        }
    }

    /// Expects this frame and no other.
    pub async fn expect(&mut self, expected: Frame) {
        let got = self.next().await;
        assert!(got == expected, "expected {expected}, got {got}\n{}", self.trace);
    }

    /// Expects these, one after the other.
    pub async fn expect_all(&mut self, expected: impl IntoIterator<Item = Frame>) {
        for frame in expected {
            self.expect(frame).await;
        }
    }

    /// Expects ERROR of this code; its text.
    pub async fn expect_error(&mut self, stream: u32, code: u32) -> String {
        let got = self.next().await;
        assert!(
            got.stream == stream && got.code() == Some(code),
            "expected ERR({stream},{code:#x}), got {got}\n{}",
            self.trace
        );
        got.text()
    }

    /// Expects the last item of a stream and its end, in one frame or in two (RS-04).
    pub async fn expect_last(&mut self, stream: u32, data: impl AsRef<[u8]>) {
        let mut got = self.next().await;
        let whole = got.flags & C != 0;
        got.flags |= C;
        let expected = Frame {
            metadata: got.metadata.clone(),
            ..p(stream, got.flags & !(N | C) | N | C, data)
        };
        assert!(got == expected, "expected {expected}, got {got}\n{}", self.trace);
        if !whole {
            self.expect(p(stream, C, "")).await;
        }
    }

    /// `X`: expects the connection to end without another frame.
    pub async fn expect_end(&mut self) {
        if let Some(frame) = self.next_or_end().await {
            panic!("expected the end, got {frame}\n{}", self.trace);
        }
    }

    /// `< ERR(0,code), X`.
    pub async fn expect_refusal(&mut self, code: u32) -> String {
        let text = self.expect_error(0, code).await;
        self.expect_end().await;
        text
    }

    /// Collects what comes before two KEEPALIVEs, one after the other, are answered: a fence that
    /// needs neither a stream nor a lease.
    pub async fn ping_collecting(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        for round in ["ping 1", "ping 2"] {
            self.send(ka(R, 0, round)).await;
            loop {
                let frame = self.next().await;
                if frame.kind == ka(0, 0, "").kind && frame.flags & R == 0 && frame.text() == round
                {
                    break;
                }
                frames.push(frame);
            }
        }
        frames
    }

    /// `∅, ✓`: nothing was on its way, and the connection works: KEEPALIVE and two echoes, the
    /// second asked for when the first has come, are all that comes.
    pub async fn fence(&mut self) {
        let others = self.fence_collecting().await;
        assert!(others.is_empty(), "unexpected {others:?}\n{}", self.trace);
    }

    /// As `fence`, but gives back what came before and between.
    pub async fn fence_collecting(&mut self) -> Vec<Frame> {
        let mut others = Vec::new();
        for round in 0..2 {
            let id = self.next_fence;
            self.next_fence += 2;
            let nonce = format!("fence {id}");
            let mut awaited = vec![p(id, N | C, &nonce)];
            if round == 0 {
                self.send(ka(R, 0, &nonce)).await;
                awaited.push(ka(0, 0, &nonce));
            }
            self.send(rr(id, &nonce)).await;
            while !awaited.is_empty() {
                let got = self.next().await;
                match awaited.iter().position(|frame| *frame == got) {
                    Some(at) => drop(awaited.remove(at)),
                    None => others.push(got),
                }
            }
        }
        others
    }

    /// Sends frames without end while reading what comes, until a request behind them is answered
    /// or the connection ends.
    pub async fn blast(&mut self, frames: impl IntoIterator<Item = Frame>) -> Tally {
        let mut tally = Tally::default();
        // What other streams have to say may come between the first answer and the second.
        let mut fences = [self.next_fence, self.next_fence + 2].into_iter();
        self.next_fence += 4;
        let mut fence = fences.next();
        let mut frames = frames.into_iter().chain(fence.map(|id| rr(id, "behind the blast")));
        let (mut wire, mut at, mut part) = (Vec::new(), 0, vec![0; 64 << 10]);
        loop {
            if at == wire.len() {
                wire.clear();
                at = 0;
                while wire.len() < 64 << 10
                    && let Some(frame) = frames.next()
                {
                    wire.extend(self.framed(&frame.encode()));
                }
            }
            let (mut reader, mut writer) = self.io.split();
            let moved = async {
                tokio::select! {
                    biased;
                    count = reader.read(&mut part) => (count.unwrap_or(0), 0),
                    count = writer.write(&wire[at..]), if at < wire.len() => match count {
                        Ok(count) => (0, count),
                        Err(_) => (0, 0),
                    },
                }
            };
            let Ok((read, written)) = timeout(PATIENCE, moved).await else {
                panic!("nothing moved within {PATIENCE:?}: {tally:?}\n{}", self.trace);
            };
            if read == 0 && written == 0 {
                tally.ended = true;
                return tally;
            }
            at += written;
            self.input.extend_from_slice(&part[..read]);
            while let Some(bytes) = self.take_frame() {
                match Frame::decode(&bytes) {
                    // A refusal is an answer as well.
                    Ok(frame) if Some(frame.stream) == fence => {
                        fence = fences.next();
                        let Some(id) = fence else { return tally };
                        wire.extend(self.framed(&rr(id, "behind the blast").encode()));
                    }
                    Ok(frame) => tally.note(&frame),
                    Err(wrong) => panic!("{wrong}\n{}", self.trace),
                }
            }
        }
    }

    /// Pings one WebSocket frame after the other, and says nothing else, until the connection ends;
    /// what came.
    pub async fn ping_until_the_end(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            let pongs = self.pongs.len();
            self.message(FIN | PING, "").await;
            while self.pongs.len() == pongs {
                if let Some(bytes) = self.take_frame() {
                    frames.push(Frame::decode(&bytes).expect("a frame"));
                } else if self.pongs.len() == pongs && !self.fill().await {
                    return frames;
                }
            }
        }
    }

    /// The trace so far, for messages.
    pub fn trace(&self) -> &str {
        &self.trace
    }

    /// Reads more; false at the end.
    async fn fill(&mut self) -> bool {
        let mut part = [0; 16 << 10];
        match timeout(PATIENCE, self.io.read(&mut part)).await {
            Err(_) => panic!("nothing came within {PATIENCE:?}\n{}", self.trace),
            // A server that had bytes of ours unread resets.
            Ok(Ok(0) | Err(_)) => false,
            Ok(Ok(count)) => {
                self.input.extend_from_slice(&part[..count]);
                true
            }
        }
    }

    /// The next frame's bytes off the input.
    fn take_frame(&mut self) -> Option<Vec<u8>> {
        loop {
            let (first, body) = self.take_envelope()?;
            match first {
                0x82 => return Some(body),
                0x89 => panic!("a ping nobody asked for\n{}", self.trace),
                0x8a => self.pongs.push(body),
                0x88 => {
                    self.close_code = body.first_chunk().copied().map(u16::from_be_bytes);
                    let code = self.close_code;
                    self.note(format_args!("< close {code:?}"));
                }
                _ => panic!(
                    "WS-06: message of type {first:#x} {:?}\n{}",
                    body.escape_ascii().to_string(),
                    self.trace
                ),
            }
        }
    }

    /// The first byte of a message, and the frame in it.
    fn take_envelope(&mut self) -> Option<(u8, Vec<u8>)> {
        let envelope = self.framing.envelope(&self.input)?;
        let must_mask = self.framing == Framing::WebSocket && !self.dialled;
        let masks = envelope.mask.is_some();
        assert!(masks == must_mask, "a client masks, a server does not\n{}", self.trace);
        let frame = envelope.open(&self.input)?;
        self.input.advance(envelope.body.end);
        Some((envelope.first, frame))
    }
}

/// How many frames of which type came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    counts: BTreeMap<String, usize>,
    /// The connection ended.
    pub ended: bool,
}

impl Tally {
    fn note(&mut self, frame: &Frame) {
        let name = frame.to_string();
        let mut name = name.split('(').next().unwrap_or_default().to_owned();
        if let Some(code) = frame.code() {
            let _ = write!(name, " {code:#x}");
        }
        *self.counts.entry(name).or_default() += 1;
    }

    /// Of this type, as in the traces: `P`, `KA`, `ERR 0x202`.
    pub fn count(&self, name: &str) -> usize {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// Of all types.
    pub fn total(&self) -> usize {
        self.counts.values().sum()
    }
}

/// The value of a header in the head of an HTTP message.
fn header<'head>(head: &'head str, name: &str) -> Option<&'head str> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let mut values = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name));
    values.next().map(|(_, value)| value.trim())
}
