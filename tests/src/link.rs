//! A client and a server of ours, joined by any transport; both answer with the fixture.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use rsock::{
    Client, ClientBuilder, Direction, FrameTap, Meter, Requester, Server, ServerBuilder, memory,
};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{
    fixture::Fixture,
    record::{Recorder, limit_time},
    wire::Frame,
};

/// The line between the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A TCP socket.
    Tcp,
    /// A WebSocket on a TCP socket.
    WebSocket,
    /// A Unix socket.
    Unix,
    /// Memory.
    Memory,
}

/// All there are.
pub const TRANSPORTS: [Transport; 4] =
    [Transport::Tcp, Transport::WebSocket, Transport::Unix, Transport::Memory];

/// A path for a Unix socket that nothing has in this process or another.
pub fn free_path() -> PathBuf {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let (process, number) = (std::process::id(), MADE.fetch_add(1, Relaxed));
    std::env::temp_dir().join(format!("rsock-tests-{process}-{number}.sock"))
}

/// A server of ours that serves the fixture.
#[derive(Debug)]
pub struct Served {
    /// `tcp://…`, `ws://…`.
    pub uris: Vec<String>,
    unix: String,
    /// The acceptor, and what answers.
    pub fixture: Fixture,
    /// The meter of its side.
    pub meter: Arc<Meter>,
    /// Asks for the graceful end.
    shutdown: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

impl Served {
    /// On free ports of TCP and WebSocket, and on a Unix socket.
    pub async fn start() -> Self {
        Self::with(Server::builder()).await
    }

    /// With settings.
    pub async fn with(builder: ServerBuilder) -> Self {
        limit_time();
        let fixture = Fixture::default();
        let meter = Arc::clone(&fixture.meter);
        let unix = format!("unix:{}", free_path().display());
        let listen = ["tcp://127.0.0.1:0", "ws://127.0.0.1:0/rsocket", &unix];
        let server = builder.meter(Arc::clone(&meter)).bind(&listen).await;
        let server = server.expect("free ports");
        let uris = server.addresses()[..2].to_vec();
        let (shutdown, asked) = oneshot::channel();
        let serve = server.serve(fixture.clone()).with_graceful_shutdown(async move {
            if asked.await.is_err() {
                std::future::pending::<()>().await;
            }
        });
        Self {
            uris,
            unix,
            fixture,
            meter,
            shutdown: Some(shutdown),
            serving: tokio::spawn(serve.into_future()),
        }
    }

    /// The address it listens on for TCP.
    pub fn tcp(&self) -> &str {
        &self.uris[0]
    }

    /// The address it listens on for WebSockets.
    pub fn ws(&self) -> &str {
        &self.uris[1]
    }

    /// Its Unix socket.
    pub fn unix(&self) -> &str {
        &self.unix
    }

    /// Asks for the graceful end.
    pub fn begin_shutdown(&mut self) {
        if let Some(shutdown) = self.shutdown.take() {
            // A server that has ended needs no asking.
            let _ = shutdown.send(());
        }
    }

    /// Waits for the end.
    pub async fn ended(self) {
        let ended = tokio::time::timeout(crate::script::PATIENCE, self.serving).await;
        ended.expect("the server ends in time").expect("the server does not panic");
    }

    /// Ends the server without a word, as a failing process does.
    pub fn kill(&self) {
        self.serving.abort();
    }
}

/// A connection, seen from both ends.
#[derive(Debug)]
pub struct Link {
    /// The client; it also asks.
    pub client: Client,
    /// The server's requester towards this client.
    pub back: Requester,
    /// The server, where there is one.
    pub served: Option<Served>,
    /// The record of what the server's handlers saw.
    pub server_saw: Arc<Recorder>,
    /// The record of what the client's handlers saw.
    pub client_saw: Arc<Recorder>,
    /// The frames of the client, as lines: `> RR(1)` is one it sent.
    pub frames: Arc<Recorder>,
    /// The meter of the client.
    pub client_meter: Arc<Meter>,
    /// The meter of the server.
    pub server_meter: Arc<Meter>,
}

/// A requester, and what the responder it asks saw.
pub type Way = (Requester, Arc<Recorder>);

impl Link {
    /// A connection with the defaults.
    pub async fn start(transport: Transport) -> Self {
        Self::with(transport, Client::builder(), Server::builder()).await
    }

    /// A connection with settings.
    pub async fn with(transport: Transport, client: ClientBuilder, server: ServerBuilder) -> Self {
        limit_time();
        let (frames, client_meter) = (Arc::new(Recorder::default()), Arc::new(Meter::default()));
        let client_fixture = Fixture::default();
        let client_saw = Arc::clone(&client_fixture.recorder);
        let client =
            client.acceptor(client_fixture).meter(Arc::clone(&client_meter)).tap(tap(&frames));
        let (client, served, fixture, server_meter) = match transport {
            Transport::Memory => {
                let (near, far) = memory(64 << 10);
                let (fixture, meter) = (Fixture::default(), Arc::new(Meter::default()));
                let server = server.meter(Arc::clone(&meter));
                let acceptor = fixture.clone();
                tokio::spawn(async move { server.serve_over(far, acceptor).await });
                (client.connect_over(near).await, None, fixture, meter)
            }
            Transport::Tcp | Transport::WebSocket | Transport::Unix => {
                let served = Served::with(server).await;
                let uri = match transport {
                    Transport::Tcp => served.tcp(),
                    Transport::Unix => served.unix(),
                    _ => served.ws(),
                };
                let client = client.connect(uri).await;
                let (fixture, meter) = (served.fixture.clone(), Arc::clone(&served.meter));
                (client, Some(served), fixture, meter)
            }
        };
        let client = client.expect("a connection");
        fixture.recorder.wait("accepted").await;
        let back = fixture.requester().expect("it was just accepted");
        Self {
            client,
            back,
            served,
            server_saw: fixture.recorder,
            client_saw,
            frames,
            client_meter,
            server_meter,
        }
    }

    /// Both directions of asking.
    pub fn ways(&self) -> [Way; 2] {
        [
            (Requester::clone(&self.client), Arc::clone(&self.server_saw)),
            (self.back.clone(), Arc::clone(&self.client_saw)),
        ]
    }
}

/// Writes frames as lines, read by the decoder of the scripted peer; one it cannot read is `BAD`.
pub fn tap(frames: &Arc<Recorder>) -> FrameTap {
    let frames = Arc::clone(frames);
    Arc::new(move |_, direction, bytes| {
        let arrow = match direction {
            Direction::In => '<',
            Direction::Out => '>',
        };
        match Frame::decode(&bytes) {
            Ok(frame) => frames.note(format!("{arrow} {frame}")),
            Err(wrong) => frames.note(format!("BAD {arrow} {wrong}")),
        }
    })
}
