//! A connection through the relay: what passes, in which direction, how late.

use std::time::{Duration, Instant};

use rsock_wire::Framing;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

/// Bytes of the client that are remembered: its first frame is among them.
const OPENING: usize = 8 << 10;
/// The most that moves at once.
const PIECE: usize = 4 << 10;

/// Why no more passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    /// So much was to pass.
    Spent,
    /// So long was to be waited.
    Late,
    /// One side has ended.
    Ended,
}

/// The two sockets.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) client: TcpStream,
    pub(super) server: TcpStream,
    /// The bytes that the client began with.
    pub(super) opening: Vec<u8>,
    /// The ends of frames, of the client and of the server.
    frames: [Frames; 2],
}

/// The ends of the frames of one direction.
#[derive(Debug)]
struct Frames {
    websocket: bool,
    /// The part of a head that has come and is not whole.
    head: Vec<u8>,
    /// An HTTP head comes first.
    is_http: bool,
    /// Bytes of the frame that are to come.
    left: usize,
}

impl Frames {
    fn new(websocket: bool) -> Self {
        Self { websocket, head: Vec::new(), is_http: websocket, left: 0 }
    }

    /// How many bytes bring it to the end of a frame, or nearer to knowing where that is; 0 at an end.
    fn missing(&self) -> usize {
        if self.is_http || !self.head.is_empty() { self.left.max(1) } else { self.left }
    }

    fn passed(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() {
            if self.left > 0 {
                let skipped = self.left.min(bytes.len() - at);
                self.left -= skipped;
                at += skipped;
                continue;
            }
            self.head.push(bytes[at]);
            at += 1;
            if self.is_http {
                if self.head.ends_with(b"\r\n\r\n") {
                    self.is_http = false;
                    self.head.clear();
                }
            } else if let Some(left) = self.length() {
                self.left = left;
                self.head.clear();
            }
        }
    }

    /// The length of a frame whose head is whole.
    fn length(&self) -> Option<usize> {
        let framing = if self.websocket { Framing::WebSocket } else { Framing::Tcp };
        Some(framing.envelope(&self.head)?.body.len())
    }
}

/// The bytes that may pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass {
    pub(super) up: bool,
    pub(super) down: bool,
    /// Bytes of both directions; those of one alone are counted where only that counts.
    pub(super) budget: usize,
    pub(super) counts: [bool; 2],
    pub(super) piece: usize,
    pub(super) delay: Duration,
    pub(super) until: Option<Instant>,
}

impl Pass {
    /// Everything, until so many bytes have passed.
    pub(super) fn bytes(budget: usize) -> Self {
        Self {
            up: true,
            down: true,
            budget,
            counts: [true, true],
            piece: PIECE,
            delay: Duration::ZERO,
            until: None,
        }
    }

    /// Everything, for so long.
    pub(super) fn time(time: Duration) -> Self {
        Self { until: Some(Instant::now() + time), ..Self::bytes(usize::MAX) }
    }
}

impl Relay {
    pub(super) fn new(client: TcpStream, server: TcpStream, websocket: bool) -> Self {
        let frames = [Frames::new(websocket), Frames::new(websocket)];
        Self { client, server, opening: Vec::new(), frames }
    }

    /// Goes on until no frame of the client (`up`), or of the server, is on its way in part. What comes
    /// in the middle of one is a part of it, and nobody could tell.
    pub(super) async fn pass_whole(&mut self, up: bool) -> Stopped {
        loop {
            let missing = self.frames[usize::from(!up)].missing();
            let patience = Pass::time(Duration::from_millis(200));
            let counts = [up, !up];
            match self.pass(Pass { budget: missing, counts, ..patience }).await {
                Stopped::Spent if missing == 0 => return Stopped::Spent,
                Stopped::Spent => {}
                stopped => return stopped,
            }
        }
    }

    /// Relays what may pass. What is not passed stays in the sockets.
    pub(super) async fn pass(&mut self, mut pass: Pass) -> Stopped {
        let mut bytes = [0; PIECE];
        loop {
            if pass.budget == 0 {
                return Stopped::Spent;
            }
            let [up, down] =
                pass.counts.map(|counts| if counts { pass.budget } else { PIECE }.min(pass.piece));
            let left = pass.until.map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                // A timer alone would lose against sockets that always have something.
                return Stopped::Late;
            }
            let wait = sleep(left.unwrap_or(Duration::from_secs(3_600)));
            // Two buffers: what is read is in one of them, and a read that loses has taken nothing.
            let mut other = [0; PIECE];
            let (from_client, read) = tokio::select! {
                read = self.client.read(&mut bytes[..up]), if pass.up => (true, read),
                read = self.server.read(&mut other[..down]), if pass.down => (false, read),
                () = wait => return Stopped::Late,
            };
            let Ok(count @ 1..) = read else { return Stopped::Ended };
            if !pass.delay.is_zero() {
                sleep(pass.delay).await;
            }
            let passed = if from_client { &bytes[..count] } else { &other[..count] };
            self.frames[usize::from(!from_client)].passed(passed);
            let written = if from_client {
                let room = OPENING.saturating_sub(self.opening.len());
                self.opening.extend_from_slice(&bytes[..count.min(room)]);
                self.server.write_all(&bytes[..count]).await
            } else {
                self.client.write_all(&other[..count]).await
            };
            if written.is_err() {
                return Stopped::Ended;
            }
            if pass.counts[usize::from(!from_client)] {
                pass.budget -= count;
            }
        }
    }

    /// Resets both.
    pub(super) fn reset(self) {
        // A socket that has gone already needs no reset.
        let _ = self.client.set_zero_linger();
        let _ = self.server.set_zero_linger();
    }
}
