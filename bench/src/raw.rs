//! The raw limit: length-prefixed frames on plain tokio, and no protocol.
//!
//! One connection, one task per side, everything a read brought is answered with one write, and
//! nobody is woken per message. No library that resolves a future per request can reach it; it
//! says what the sockets and the scheduler allow. Default socket buffers and `TCP_NODELAY`.

use std::{
    future::poll_fn,
    mem,
    net::{IpAddr, SocketAddr},
    pin::pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use tokio::{
    net::{TcpListener, TcpStream},
    time,
};

use crate::{
    Result,
    case::Interaction,
    frames::{self, BURST, Input, Output},
    latency::Histogram,
    load::{Asked, Laps, Load, StreamRequest, Tally},
};

/// The first frame of a connection when all the rest is to be echoed; otherwise it, and
/// what follows once it is answered, is what [`Asked`] says. An arrival is counted from there.
const ECHO: &[u8] = b"echo";

/// Listens and answers until the process ends.
pub(crate) async fn serve(host: IpAddr) -> Result<SocketAddr> {
    let listener = TcpListener::bind((host, 0)).await?;
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
    let mut framed = Framed::new(TcpStream::connect(address).await?)?;
    let (size, interaction) = (load.case.size, load.case.interaction);
    match interaction {
        Interaction::RequestResponse { in_flight } => return echo(framed, in_flight, load).await,
        Interaction::RequestChannel => put(&mut framed.gathered, ECHO),
        Interaction::RequestStream | Interaction::FireAndForget => {}
        Interaction::Spread { .. } | Interaction::Streams { .. } => {
            return Err("it has one connection, and one series of frames".into());
        }
    }
    let mut laps = Laps::of(load);
    while let Some(items) = laps.next()? {
        let (sent, wanted) = match interaction {
            Interaction::RequestStream => {
                put(&mut framed.gathered, &StreamRequest { items, size }.encode());
                (0, (items, size))
            }
            Interaction::FireAndForget => {
                put(&mut framed.gathered, &Asked::Arrival(items as u64).encode());
                (items, (1, 0))
            }
            _ => (items, (items, size)),
        };
        framed.exchange(Repeated::new(sent, size), wanted).await?;
    }
    laps.tally()
}

async fn echo(mut framed: Framed, in_flight: usize, load: Load) -> Result<Tally> {
    let data = vec![b'x'; load.case.size];
    put(&mut framed.gathered, ECHO);
    for _ in 0..in_flight {
        put(&mut framed.gathered, &data);
    }

    let histogram = Histogram::new();
    let deadline = time::Instant::now() + load.extent.warm_up;
    framed.echo_until(deadline, in_flight, &histogram).await?;
    histogram.clear();
    let started = load.meter.start()?;
    let deadline = time::Instant::now() + load.extent.count_for;
    let messages = framed.echo_until(deadline, in_flight, &histogram).await?;
    Ok(Tally { messages, spent: load.meter.since(&started)?, latency: histogram.latency() })
}

async fn answer(mut framed: Framed) -> Result<()> {
    loop {
        let mut asked = Vec::new();
        poll_fn(|cx| framed.poll_frames(cx, 1, |frame| asked.extend_from_slice(frame))).await?;
        if asked == ECHO {
            return poll_fn(|cx| framed.poll_echo(cx, |_| {})).await;
        }
        match Asked::decode(&asked).ok_or("asked for something else")? {
            Asked::Items(wanted) => {
                framed.exchange(Repeated::new(wanted.items, wanted.size), (0, 0)).await?;
            }
            Asked::Arrival(count) => {
                let mut left = usize::try_from(count)?;
                while left > 0 {
                    let mut come = 0;
                    poll_fn(|cx| framed.poll_frames(cx, left, |_| come += 1)).await?;
                    left -= come;
                }
                framed.exchange(Repeated::new(1, 0), (0, 0)).await?;
            }
        }
    }
}

/// A socket, what has been read of it, and what is to be written to it.
struct Framed {
    socket: TcpStream,
    input: Input,
    output: Output,
    /// The bytes to be written next.
    gathered: Vec<u8>,
}

impl Framed {
    fn new(socket: TcpStream) -> Result<Self> {
        socket.set_nodelay(true)?;
        let (input, output) = (Input::new(), Output::default());
        Ok(Self { socket, input, output, gathered: Vec::new() })
    }

    /// Sends back whatever comes, until the deadline; returns how many frames came.
    async fn echo_until(
        &mut self,
        deadline: time::Instant,
        in_flight: usize,
        histogram: &Histogram,
    ) -> Result<u64> {
        let mut frames = 0;
        let mut timer = pin!(time::sleep_until(deadline));
        let mut round_began = Instant::now();
        poll_fn(|cx| {
            if timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            self.poll_echo(cx, |brought| {
                // They come back in the order they were sent: after as many as are in flight, one
                // has been there and back.
                if (frames + brought) / in_flight as u64 > frames / in_flight as u64 {
                    histogram.record(mem::replace(&mut round_began, Instant::now()).elapsed());
                }
                frames += brought;
            })
        })
        .await?;
        Ok(frames)
    }

    /// Goes on while either direction moves; neither ever waits for the other, which would end in
    /// a deadlock as soon as both sockets are full.
    fn poll_echo(
        &mut self,
        cx: &mut Context<'_>,
        mut brought: impl FnMut(u64),
    ) -> Poll<Result<()>> {
        loop {
            // First what is here already: the read that brought `ECHO` may have brought more.
            let mut frames = 0;
            while let Some(frame) = self.input.next() {
                put(&mut self.gathered, frame);
                frames += 1;
            }
            brought(frames);
            let has_written = self.poll_write(cx)?;
            let has_read = self.input.poll_read(&mut self.socket, cx)?.is_ready();
            if !has_written && !has_read {
                return Poll::Pending;
            }
        }
    }

    /// Sends all of what is given and takes as many frames as wanted, both at once.
    async fn exchange(
        &mut self,
        mut given: Repeated,
        (wanted, size): (usize, usize),
    ) -> Result<()> {
        let mut taken = 0;
        poll_fn(|cx| {
            loop {
                while let Some(frame) = self.input.next() {
                    if frame.len() != size {
                        return Poll::Ready(Err("a frame of the wrong size".into()));
                    }
                    taken += 1;
                }
                given.gather(&mut self.gathered);
                let has_written = self.poll_write(cx)?;
                let is_sent = self.output.is_done() && self.gathered.is_empty();
                if taken == wanted && is_sent && given.left == 0 {
                    return Poll::Ready(Ok(()));
                }
                let has_read =
                    taken < wanted && self.input.poll_read(&mut self.socket, cx)?.is_ready();
                if !has_written && !has_read {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// Gives the frames that are here, at most so many, reading only if there are none.
    fn poll_frames(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
        mut frame: impl FnMut(&[u8]),
    ) -> Poll<Result<()>> {
        let mut frames = 0;
        loop {
            while frames < most
                && let Some(next) = self.input.next()
            {
                frame(next);
                frames += 1;
            }
            if frames > 0 {
                return Poll::Ready(Ok(()));
            }
            ready!(self.input.poll_read(&mut self.socket, cx))?;
        }
    }

    /// Whether something was written.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<bool> {
        self.output.refill(&mut self.gathered);
        match self.output.poll_write(&mut self.socket, cx) {
            Poll::Ready(written) => written,
            Poll::Pending => Ok(false),
        }
    }
}

/// The same frame, so many times.
struct Repeated {
    left: usize,
    frame: Vec<u8>,
    /// As many of it as a burst holds: copied at once, they cost next to nothing.
    burst: Vec<u8>,
}

impl Repeated {
    fn new(left: usize, size: usize) -> Self {
        let mut frame = Vec::new();
        put(&mut frame, &vec![b'i'; size]);
        let burst = frame.repeat((BURST / frame.len()).max(1).min(left));
        Self { left, frame, burst }
    }

    /// Fills a burst, if there is less of one.
    fn gather(&mut self, gathered: &mut Vec<u8>) {
        while self.left > 0 && gathered.len() < BURST {
            let part = self.burst.len().min(self.left * self.frame.len());
            gathered.extend_from_slice(&self.burst[..part]);
            self.left -= part / self.frame.len();
        }
    }
}

fn put(output: &mut Vec<u8>, frame: &[u8]) {
    frames::put_len(output, frame.len());
    output.extend_from_slice(frame);
}
