//! A server whose driver is polled by hand, and what is open on its connection.

use std::{
    future::{Future, IntoFuture, pending, ready},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use futures_util::{FutureExt, Stream, StreamExt, stream};
use rsock::{
    Error, Grant, Load, Payload, Payloads, Request, RequestStream, Requester, Responder, Response,
    ResumeLimits, Server, memory,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    task::yield_now,
};

use super::{
    Cell, State,
    wire::{L, R, RR, RS, request, setup},
};
use crate::Result;

/// The answer to the peer's streams: nothing, for as long as they are open.
struct Silent;

impl Responder for Silent {
    async fn fire_and_forget(self: Arc<Self>, request: Request) {
        let payload = request.into_payload();
        if payload.data != "now" {
            pending().await
        }
    }

    async fn request_response(
        self: Arc<Self>,
        request: Request,
    ) -> std::result::Result<Payload, Error> {
        let payload = request.into_payload();
        if payload.data == "now" { Ok(payload) } else { pending().await }
    }

    fn request_stream(
        self: Arc<Self>,
        _: Request,
    ) -> impl Stream<Item = std::result::Result<Payload, Error>> + Send {
        stream::pending()
    }

    fn request_channel(
        self: Arc<Self>,
        _: Request,
        rest: Payloads,
    ) -> impl Stream<Item = std::result::Result<Payload, Error>> + Send {
        // Takes what comes, and has nothing to say.
        rest.filter(|_| ready(false))
    }
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

pub(super) struct Stage {
    pub(super) peer: DuplexStream,
    pub(super) serving: Pin<Box<dyn Future<Output = ()>>>,
    woken: Arc<Flag>,
    requester: Arc<Mutex<Option<Requester>>>,
    /// The calls with which we have asked the peer.
    pub(super) calls: Vec<Pin<Box<Response>>>,
    pub(super) streams: Vec<Pin<Box<RequestStream>>>,
    /// The peer's next id.
    pub(super) next: u32,
    /// By how much its ids differ.
    pub(super) stride: u32,
    /// It reads nothing.
    pub(super) is_deaf: bool,
}

/// The work that callgrind collects, and not what prepares it.
#[inline(never)]
pub(super) fn collected<T>(work: &mut dyn FnMut() -> T) -> T {
    work()
}

/// Callgrind forgets what was collected before.
#[inline(never)]
pub(super) fn begin() {
    std::hint::black_box(());
}

/// Callgrind writes down what was collected since [`begin`], in the order in which the names are said.
#[inline(never)]
pub(super) fn end(name: &str) {
    println!("{name}");
}

impl Stage {
    pub(super) async fn new(state: State, stride: u32) -> Result<Self> {
        let capacity = if state == State::Replies { 16 << 10 } else { 8 << 20 };
        let (peer, far) = memory(capacity);
        let requester: Arc<Mutex<Option<Requester>>> = Arc::default();
        let acceptor = {
            let requester = Arc::clone(&requester);
            move |peer: rsock::Peer| {
                *requester.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(peer.requester().clone());
                ready(Ok::<_, Error>(Silent))
            }
        };
        let mut server = Server::builder();
        if state == State::Resumable {
            server = server.resume(ResumeLimits::default(), 1);
        }
        if state == State::Leased {
            server = server.lease(|_: &Load| Grant::new(1 << 20, Duration::from_secs(1 << 20)));
        }
        let server = server.without_listeners(acceptor);
        let serving = Box::pin(async move { server.serve_over(far).await });
        let mut stage = Self {
            peer,
            serving,
            woken: Arc::default(),
            requester,
            calls: Vec::new(),
            streams: Vec::new(),
            next: 1,
            stride,
            is_deaf: false,
        };
        let setup = match state {
            State::Resumable => setup(R, b"token"),
            State::Leased => setup(L, b""),
            _ => setup(0, b""),
        };
        stage.send(&setup).await?;
        Ok(stage)
    }

    pub(super) fn id(&mut self) -> u32 {
        let id = self.next;
        self.next += self.stride;
        id
    }

    /// Polls the driver until it has nothing more to do; whether it is at its end.
    pub(super) async fn serve(&mut self) -> bool {
        loop {
            match self.poll().await {
                Some(more) if more => {}
                Some(_) => return false,
                None => return true,
            }
        }
    }

    /// Polls the driver once; whether it is to be polled again, `None` at its end.
    pub(super) async fn poll(&mut self) -> Option<bool> {
        let waker = Waker::from(Arc::clone(&self.woken));
        self.woken.0.store(false, Relaxed);
        let serving = &mut self.serving;
        let cx = &mut Context::from_waker(&waker);
        if collected(&mut || serving.as_mut().poll(cx)).is_ready() {
            return None;
        }
        // What is to be woken behind others is woken now.
        yield_now().await;
        yield_now().await;
        if !self.is_deaf {
            self.read();
        }
        Some(self.woken.0.load(Relaxed))
    }

    fn read(&mut self) {
        let mut read = [0; 4096];
        while matches!(self.peer.read(&mut read).now_or_never(), Some(Ok(1..))) {}
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        for part in bytes.chunks(8 << 10) {
            self.peer.write_all(part).now_or_never().ok_or("the driver does not read")??;
            self.serve().await;
        }
        Ok(())
    }

    fn requester(&self) -> Result<Requester> {
        let requester = self.requester.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(requester.clone().ok_or("it was not accepted")?)
    }

    /// Opens streams of the peer's.
    pub(super) async fn open(&mut self, kind: u8, flags: u16, count: u32) -> Result<Vec<u32>> {
        let ids: Vec<_> = (0..count).map(|_| self.id()).collect();
        let frames = ids.iter().flat_map(|id| request(kind, *id, flags, 1, b"wait"));
        let frames: Vec<u8> = frames.collect();
        self.send(&frames).await?;
        Ok(ids)
    }

    /// Opens streams of ours.
    pub(super) async fn ask(&mut self, kind: u8, count: u32) -> Result<Vec<u32>> {
        let requester = self.requester()?;
        let before = (self.calls.len() + self.streams.len()) as u32;
        let cx = &mut Context::from_waker(Waker::noop());
        for _ in 0..count {
            if kind == RR {
                let mut call = Box::pin(requester.request_response("ask").into_future());
                let _ = call.as_mut().poll(cx);
                self.calls.push(call);
            } else {
                let mut items = Box::pin(if kind == RS {
                    requester.request_stream("ask")
                } else {
                    requester.request_channel(stream::iter(["ask"]).chain(stream::pending()))
                });
                let _ = items.as_mut().poll_next(cx);
                self.streams.push(items);
            }
        }
        self.serve().await;
        Ok((before..before + count).map(|turn| 2 * turn + 2).collect())
    }

    /// Counts what these frames cost together.
    pub(super) async fn count(&mut self, cell: &Cell, frames: &[Vec<u8>]) -> Result<()> {
        let bytes: Vec<u8> = frames.concat();
        self.peer.write_all(&bytes).now_or_never().ok_or("the driver does not read")??;
        begin();
        self.serve().await;
        end(&cell.line(frames.len(), bytes.len()));
        Ok(())
    }
}
