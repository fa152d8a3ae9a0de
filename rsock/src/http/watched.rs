//! The state of an HTTP connection, beside hyper's: whether it is idle, what it waits for, and since when.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use crate::{
    connection::Newcomer,
    http::{HttpLimits, seats::Visit, websocket::Opening},
    memory::MemoryBudget,
    meter::Meter,
    sync::{Mutex, MutexGuard},
    transport::websocket::HttpHead,
};

/// The state of a connection, which hyper's service, the bodies, the socket and whoever drives them share.
pub(super) struct Shared {
    state: Mutex<State>,
    meter: Arc<Meter>,
    memory: Arc<MemoryBudget>,
}

pub(super) struct State {
    pub(super) stage: Stage,
    /// Since when the socket takes nothing of what is to be written.
    pub(super) blocked: Option<Instant>,
    /// When the socket took something.
    pub(super) last_write: Instant,
    /// Until it has asked something that is not a WebSocket, and has a seat.
    pub(super) newcomer: Option<Newcomer>,
    /// From then on.
    pub(super) visit: Option<Visit>,
    /// Set with the 101, after which there are no more requests.
    pub(super) opened: Option<Opened>,
    /// A body was not read to its end.
    pub(super) is_unread: bool,
    /// The last bytes that were read, behind zeros.
    tail: [u8; 4],
    /// The request that is served has a body: what the last bytes belong to is not known.
    has_body: bool,
}

/// The WebSocket that a connection becomes.
pub(super) enum Opened {
    /// That of RSocket: the request, and the client for whom a proxy asked.
    RSocket(HttpHead, Option<SocketAddr>),
    /// One that a handler serves; its request is served for as long.
    Plain(Box<Opening>, Answer),
}

/// The point that a connection has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its first request has not come.
    First,
    /// A request is served: until all of the answer has been given to hyper.
    Answering,
    /// Nothing has come of the next request.
    Idle,
    /// A part has come of the head of the next request, since then.
    Head(Instant),
}

impl Shared {
    pub(super) fn new(
        newcomer: Option<Newcomer>,
        meter: Arc<Meter>,
        memory: Arc<MemoryBudget>,
    ) -> Arc<Self> {
        let state = State {
            stage: Stage::First,
            blocked: None,
            last_write: Instant::now(),
            newcomer,
            visit: None,
            opened: None,
            is_unread: false,
            tail: [0; 4],
            has_body: false,
        };
        Arc::new(Self { state: Mutex::new(state), meter, memory })
    }

    /// Nothing of a user's runs under the lock, so a poisoned one still holds whole values.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client has made no progress for too long.
    pub(super) fn timed_out(&self) {
        self.meter.http_timeout();
    }

    /// A body will not be read to its end.
    pub(super) fn left_unread(&self) {
        self.lock().is_unread = true;
    }

    /// A request has come, and is served until what is returned is dropped.
    pub(super) fn answer(self: &Arc<Self>, has_body: bool) -> Answer {
        self.meter.http_request();
        let mut state = self.lock();
        state.has_body = has_body;
        state.stage = Stage::Answering;
        state.is_unread = false;
        Answer(Arc::clone(self))
    }
}

impl State {
    /// When whoever drives the connection is to do something about it, if that goes on.
    pub(super) fn deadline(&self, began: Instant, limits: &Limits<'_>) -> Option<Instant> {
        let stalls = self.blocked.map(|since| since + limits.http.stall_timeout);
        let waits = match self.stage {
            Stage::First => Some(began + limits.head),
            Stage::Answering => None,
            Stage::Idle => Some(self.last_write + limits.http.idle_timeout),
            Stage::Head(since) => Some(since + limits.head),
        };
        [stalls, waits].into_iter().flatten().min()
    }

    /// Notes bytes that were read.
    fn note_read(&mut self, bytes: &[u8]) {
        let kept = &bytes[bytes.len().saturating_sub(self.tail.len())..];
        self.tail.rotate_left(kept.len());
        let at = self.tail.len() - kept.len();
        self.tail[at..].copy_from_slice(kept);
        if self.stage == Stage::Idle {
            self.stage = Stage::Head(Instant::now());
        }
    }

    /// Whether a part of the next request's head has been read behind a request without a body: what was
    /// read last does not end as a head does.
    fn has_half_head(&self) -> bool {
        let ends = self.tail.ends_with(b"\n\n") || self.tail.ends_with(b"\n\r\n");
        !self.has_body && !ends
    }

    /// Whether nothing is being served, nor waits to be written.
    pub(super) fn is_idle(&self) -> bool {
        self.blocked.is_none() && self.stage != Stage::Answering
    }
}

/// How long things may take.
pub(super) struct Limits<'a> {
    pub(super) head: std::time::Duration,
    pub(super) http: &'a HttpLimits,
}

/// A request that is served. Dropped with what was to be sent of its answer.
pub(super) struct Answer(Arc<Shared>);

impl Answer {
    /// The memory that what is sent of it is counted in.
    pub(super) fn memory(&self) -> &Arc<MemoryBudget> {
        &self.0.memory
    }

    pub(super) fn refused(&self) {
        self.0.meter.refused_http_request();
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        let now = Instant::now();
        // What came of a head while this one was served could not be looked at before.
        state.stage = if state.has_half_head() { Stage::Head(now) } else { Stage::Idle };
        // From when on it is idle, at the earliest.
        state.last_write = now;
    }
}

/// A byte stream of which is known when it moves.
pub(super) struct Watched<IO> {
    pub(super) io: IO,
    pub(super) shared: Arc<Shared>,
}

impl<IO> Watched<IO> {
    fn wrote(&self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let mut state = self.shared.lock();
        match outcome {
            Poll::Pending => {
                state.blocked.get_or_insert_with(Instant::now);
            }
            Poll::Ready(_) => {
                state.blocked = None;
                state.last_write = Instant::now();
            }
        }
        outcome
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.shared.lock().note_read(&buf.filled()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.io).poll_write(cx, buf);
        self.wrote(wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.wrote(wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
