//! A peer that sends what it likes, reads nothing unless told to, and takes no refusal ill.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use rsock_wire::{Frame, Framing};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// How long a server may take nothing before it counts as one that does not read.
const STUCK: Duration = Duration::from_millis(700);
/// How long to wait for a frame that is expected.
const PATIENCE: Duration = Duration::from_secs(10);
/// The fate of bytes that were to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The system has them.
    All,
    /// The server does not read.
    Stuck,
    /// The server has closed.
    Closed,
}

/// One connection.
#[derive(Debug)]
pub struct Wire {
    io: TcpStream,
    /// How frames lie on it.
    pub framing: Framing,
    input: BytesMut,
}

impl Wire {
    /// Connects, and shakes hands where the framing asks for it.
    ///
    /// # Errors
    /// If the server does not take the connection.
    pub async fn connect(
        address: SocketAddr,
        framing: Framing,
        source: Option<Ipv4Addr>,
    ) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if let Some(source) = source {
            socket.bind((source, 0).into())?;
        }
        let io = timeout(PATIENCE, socket.connect(address)).await??;
        io.set_nodelay(true)?;
        let mut wire = Self { io, framing, input: BytesMut::new() };
        if framing == Framing::WebSocket {
            wire.shake_hands(address).await?;
        }
        Ok(wire)
    }

    /// Connects to a port without a word.
    ///
    /// # Errors
    /// If the server does not take the connection.
    pub async fn silent(address: SocketAddr) -> io::Result<Self> {
        Self::connect(address, Framing::Tcp, None).await
    }

    async fn shake_hands(&mut self, address: SocketAddr) -> io::Result<()> {
        let request = format!(
            "GET /rsocket HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        self.push(request.as_bytes()).await;
        loop {
            if let Some(at) = self.input.windows(4).position(|four| four == b"\r\n\r\n") {
                self.input.advance(at + 4);
                return Ok(());
            }
            if !self.fill().await {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
    }

    /// Sends frames.
    pub async fn send(&mut self, frames: impl IntoIterator<Item = Frame>) -> Sent {
        let wire = self.framing.wrap_all(frames);
        self.push(&wire).await
    }

    /// Sends bytes, as far as the server takes them.
    pub async fn push(&mut self, mut bytes: &[u8]) -> Sent {
        while !bytes.is_empty() {
            match timeout(STUCK, self.io.write(bytes)).await {
                Ok(Ok(count)) if count > 0 => bytes = &bytes[count..],
                Ok(_) => return Sent::Closed,
                Err(_) => return Sent::Stuck,
            }
        }
        Sent::All
    }

    /// The next frame; `None` at the end, or if none comes in time.
    pub async fn frame(&mut self) -> Option<Frame> {
        loop {
            while let Some(bytes) = self.take() {
                if let Ok(frame) = Frame::decode(&bytes) {
                    return Some(frame);
                }
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// The next frame that this says yes to.
    pub async fn find(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.frame().await?;
            if wanted(&frame) {
                return Some(frame);
            }
        }
    }

    /// Reads and forgets until the server closes, or nothing has come for a while.
    pub async fn drain(&mut self) {
        while self.fill().await {
            self.input.clear();
        }
    }

    async fn fill(&mut self) -> bool {
        if self.input.capacity() - self.input.len() < 64 << 10 {
            self.input.reserve(256 << 10);
        }
        matches!(timeout(PATIENCE, self.io.read_buf(&mut self.input)).await, Ok(Ok(1..)))
    }

    /// The next frame's bytes off the input.
    fn take(&mut self) -> Option<Vec<u8>> {
        let envelope = self.framing.envelope(&self.input)?;
        let frame = envelope.open(&self.input)?;
        self.input.advance(envelope.body.end);
        Some(frame)
    }
}
