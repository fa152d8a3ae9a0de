//! A server that is given byte streams, and clients that dial it through scripts, over and over.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use rsock::{
    Client, ClientBuilder, ConnectError, Endpoint, Meter, Resume, ServerBuilder, SessionEvent,
    memory,
};
use rsock_tests::{
    fixture::Fixture,
    readiness::{Cut, Scripted, Steps},
    record::limit_time,
    wire::{Frame, prefix_len},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::Instant,
};

/// A server that takes byte streams, and what may be asked of it.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) server: Endpoint,
    pub(crate) fixture: Fixture,
    pub(crate) meter: Arc<Meter>,
    /// Scripts of the next transports; when they are used up, transports are whole.
    pub(crate) scripts: Arc<Mutex<VecDeque<[Steps; 2]>>>,
    pub(crate) dialled: Arc<AtomicUsize>,
    /// No transport is to be had.
    is_down: Arc<AtomicBool>,
    cuts: Arc<Mutex<Vec<Cut>>>,
    events: Arc<Mutex<Vec<(Duration, SessionEvent)>>>,
    start: Instant,
}

impl Line {
    pub(crate) fn new(server: ServerBuilder) -> Self {
        limit_time();
        let (fixture, meter) = (Fixture::default(), Arc::new(Meter::default()));
        let server = server.meter(Arc::clone(&meter)).without_listeners(fixture.clone());
        Self {
            server,
            fixture,
            meter,
            scripts: Arc::default(),
            dialled: Arc::default(),
            is_down: Arc::default(),
            cuts: Arc::default(),
            events: Arc::default(),
            start: Instant::now(),
        }
    }

    pub(crate) fn resume(&self) -> Resume {
        let (events, start) = (Arc::clone(&self.events), self.start);
        Resume::new().observe(move |event| {
            let mut events = events.lock().unwrap_or_else(PoisonError::into_inner);
            events.push((start.elapsed(), event.clone()));
        })
    }

    pub(crate) fn events(&self) -> Vec<(Duration, SessionEvent)> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_down(&self, is_down: bool) {
        self.is_down.store(is_down, Relaxed);
    }

    /// Cuts the newest transport.
    pub(crate) fn cut(&self) {
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner).last().expect("one").cut();
    }

    pub(crate) fn dial(&self) -> io::Result<Scripted<DuplexStream>> {
        if self.is_down.load(Relaxed) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        self.dialled.fetch_add(1, Relaxed);
        let (near, far) = memory(256);
        let server = self.server.clone();
        tokio::spawn(async move { server.serve_over(far).await });
        let script = self.scripts.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let [reads, writes] = script.unwrap_or_else(|| [Steps::once([]), Steps::once([])]);
        let near = Scripted::new(near, reads, writes);
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner).push(near.cutter());
        Ok(near)
    }

    pub(crate) async fn connect(&self, client: ClientBuilder) -> Client {
        self.try_connect(client).await.expect("a transport")
    }

    pub(crate) async fn try_connect(&self, client: ClientBuilder) -> Result<Client, ConnectError> {
        let line = self.clone();
        client.connect_with(move || std::future::ready(line.dial())).await
    }
}

/// A peer that is played by hand, over memory.
pub(crate) struct Peer(pub(crate) DuplexStream);

impl Peer {
    pub(crate) fn join(line: &Line) -> Self {
        Self::join_over(line, 4096)
    }

    pub(crate) fn join_over(line: &Line, capacity: usize) -> Self {
        let (near, far) = memory(capacity);
        let server = line.server.clone();
        tokio::spawn(async move { server.serve_over(far).await });
        Self(near)
    }

    pub(crate) async fn send(&mut self, frame: &Frame) {
        self.0.write_all(&frame.prefixed()).await.expect("the server reads");
    }

    pub(crate) async fn next(&mut self) -> Frame {
        let mut prefix = [0; 3];
        self.0.read_exact(&mut prefix).await.expect("a frame");
        let mut bytes = vec![0; prefix_len(prefix)];
        self.0.read_exact(&mut bytes).await.expect("a whole frame");
        Frame::decode(&bytes).expect("frames by the letter")
    }
}
