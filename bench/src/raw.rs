//! The raw limit: length-prefixed frames on plain tokio, and no protocol.
//!
//! One connection, one task per side, everything a read brought is answered with one write, and
//! nobody is woken per message. No library that resolves a future per request can reach it; it
//! says what the sockets and the scheduler allow. Default socket buffers and `TCP_NODELAY`.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Instant,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
    time,
};

use crate::{
    Result,
    case::Interaction,
    load::{LEAST_STREAMED, Load, StreamRequest, Tally},
};

/// The length in front of each frame.
const PREFIX: usize = 3;

/// How much one read may bring, and how much of a stream is written at once.
const BURST: usize = 64 * 1024;

/// What the first frame of a connection says when the rest is to be echoed; otherwise it and all
/// that follow are stream requests.
const ECHO: &[u8] = b"echo";

/// Listens and answers until the process ends.
pub(crate) async fn serve() -> Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            // The client ends a measurement by hanging up, so an error here means nothing.
            tokio::spawn(async move { answer(Framed::new(socket)?).await });
        }
    });
    Ok(address)
}

/// Connects and measures once.
pub(crate) async fn drive(address: SocketAddr, load: Load) -> Result<Tally> {
    let framed = Framed::new(TcpStream::connect(address).await?)?;
    match load.case.interaction {
        Interaction::RequestResponse { in_flight } => ask(framed, in_flight, load).await,
        Interaction::RequestStream => take(framed, load).await,
    }
}

async fn ask(mut framed: Framed, in_flight: usize, load: Load) -> Result<Tally> {
    let data = vec![b'x'; load.case.size];
    put(&mut framed.output, ECHO);
    for _ in 0..in_flight {
        put(&mut framed.output, &data);
    }

    framed.echo_until(time::Instant::now() + load.warm_up).await?;
    let started = load.meter.start()?;
    let messages = framed.echo_until(time::Instant::now() + load.count_for).await?;
    Ok(Tally { messages, spent: load.meter.since(&started)? })
}

async fn take(mut framed: Framed, load: Load) -> Result<Tally> {
    let size = load.case.size;
    framed.take_items(StreamRequest { items: load.items / 100 + 1, size }).await?;

    let mut messages = 0;
    let begin = Instant::now();
    let started = load.meter.start()?;
    while begin.elapsed() < LEAST_STREAMED {
        framed.take_items(StreamRequest { items: load.items, size }).await?;
        messages += load.items as u64;
    }
    Ok(Tally { messages, spent: load.meter.since(&started)? })
}

async fn answer(mut framed: Framed) -> Result<()> {
    let mut first = Vec::new();
    while first.is_empty() {
        framed.read().await?;
        if let Some(frame) = framed.input.next() {
            first.extend_from_slice(frame);
        }
    }
    if first == ECHO {
        return poll_fn(|cx| framed.poll_echo(cx, &mut 0)).await;
    }
    let mut wanted = StreamRequest::decode(&first);
    loop {
        framed.give_items(wanted.ok_or("not a stream request")?).await?;
        framed.read().await?;
        wanted = framed.input.next().and_then(StreamRequest::decode);
    }
}

/// A socket, what has been read of it, and what is to be written to it.
struct Framed {
    socket: TcpStream,
    input: Input,
    output: Vec<u8>,
    /// How much of `output` the socket has taken.
    sent: usize,
}

impl Framed {
    fn new(socket: TcpStream) -> Result<Self> {
        socket.set_nodelay(true)?;
        Ok(Self { socket, input: Input::new(), output: Vec::new(), sent: 0 })
    }

    /// Sends back whatever comes, until the deadline; returns how many frames came.
    async fn echo_until(&mut self, deadline: time::Instant) -> Result<u64> {
        let mut frames = 0;
        let mut timer = pin!(time::sleep_until(deadline));
        poll_fn(|cx| {
            if timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            self.poll_echo(cx, &mut frames)
        })
        .await?;
        Ok(frames)
    }

    /// Goes on while either direction moves; neither ever waits for the other, which would end in
    /// a deadlock as soon as both sockets are full.
    fn poll_echo(&mut self, cx: &mut Context<'_>, frames: &mut u64) -> Poll<Result<()>> {
        loop {
            // First what is here already: the read that brought `ECHO` may have brought more.
            while let Some(frame) = self.input.next() {
                put(&mut self.output, frame);
                *frames += 1;
            }
            let mut moved = false;
            if self.sent < self.output.len() {
                let unsent = &self.output[self.sent..];
                if let Poll::Ready(taken) = Pin::new(&mut self.socket).poll_write(cx, unsent) {
                    self.sent += taken?;
                    moved = true;
                }
                if self.sent == self.output.len() {
                    self.output.clear();
                    self.sent = 0;
                }
            }
            let mut space = ReadBuf::new(self.input.space());
            if let Poll::Ready(read) = Pin::new(&mut self.socket).poll_read(cx, &mut space) {
                read?;
                let brought = space.filled().len();
                self.input.extend(brought)?;
                moved = true;
            }
            if !moved {
                return Poll::Pending;
            }
        }
    }

    async fn take_items(&mut self, wanted: StreamRequest) -> Result<()> {
        let mut request = Vec::new();
        put(&mut request, &wanted.encode());
        self.socket.write_all(&request).await?;
        let mut taken = 0;
        while taken < wanted.items {
            self.read().await?;
            while let Some(frame) = self.input.next() {
                if frame.len() != wanted.size {
                    return Err("an item of the wrong size".into());
                }
                taken += 1;
            }
        }
        Ok(())
    }

    async fn give_items(&mut self, wanted: StreamRequest) -> Result<()> {
        let item = wanted.item();
        let frame_bytes = PREFIX + item.len();
        let mut burst = Vec::new();
        for _ in 0..(BURST / frame_bytes).max(1) {
            put(&mut burst, &item);
        }
        let mut left = wanted.items * frame_bytes;
        while left > 0 {
            let now = left.min(burst.len());
            self.socket.write_all(&burst[..now]).await?;
            left -= now;
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<()> {
        let brought = self.socket.read(self.input.space()).await?;
        self.input.extend(brought)
    }
}

/// What has been read: `bytes[taken..filled]` is still to be taken.
struct Input {
    bytes: Vec<u8>,
    taken: usize,
    filled: usize,
}

impl Input {
    fn new() -> Self {
        Self { bytes: vec![0; BURST], taken: 0, filled: 0 }
    }

    /// Where the next read goes; the part of a frame left over moves to the front first.
    fn space(&mut self) -> &mut [u8] {
        self.bytes.copy_within(self.taken..self.filled, 0);
        self.filled -= self.taken;
        self.taken = 0;
        &mut self.bytes[self.filled..]
    }

    fn extend(&mut self, brought: usize) -> Result<()> {
        if brought == 0 {
            return Err("the other side hung up, or sent a frame larger than a burst".into());
        }
        self.filled += brought;
        Ok(())
    }

    fn next(&mut self) -> Option<&[u8]> {
        let unread = &self.bytes[self.taken..self.filled];
        let (&[high, middle, low], rest) = unread.split_first_chunk::<PREFIX>()?;
        let frame = rest.get(..u32::from_be_bytes([0, high, middle, low]) as usize)?;
        self.taken += PREFIX + frame.len();
        Some(frame)
    }
}

fn put(output: &mut Vec<u8>, frame: &[u8]) {
    output.extend_from_slice(&(frame.len() as u32).to_be_bytes()[1..]);
    output.extend_from_slice(frame);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_whole_whatever_the_reads_bring() {
        let mut wire = Vec::new();
        put(&mut wire, b"one");
        put(&mut wire, &[7; 300]);
        for split in 0..wire.len() {
            let mut input = Input::new();
            let mut frames = Vec::new();
            for part in [&wire[..split], &wire[split..]] {
                input.space()[..part.len()].copy_from_slice(part);
                input.filled += part.len();
                while let Some(frame) = input.next() {
                    frames.push(frame.to_vec());
                }
            }
            assert_eq!(frames, [b"one".to_vec(), vec![7; 300]]);
        }
    }
}
