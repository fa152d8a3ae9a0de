//! A server that sees every frame, and the binary to run against it.

use std::{
    ffi::OsStr,
    io::Write,
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, future, stream};
use rsock::{
    Direction, Error, ErrorCode, Failed, Payload, Payloads, Peer, Request, Responder, Server,
    frame::Frame, metadata::first_route,
};
use tokio::{
    runtime::Runtime,
    sync::mpsc::{Receiver, Sender, channel},
};

/// When a test gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// The frames that passed, and a signal when something does.
type Frames = (Mutex<Vec<(Direction, Frame)>>, Condvar);

/// Servers on TCP, WebSocket and a Unix socket, in a runtime of their own.
pub(crate) struct Service {
    pub(crate) tcp: String,
    pub(crate) ws: String,
    pub(crate) unix: String,
    pub(crate) runtime: Runtime,
    frames: Arc<Frames>,
    /// The requests that were sent and not answered.
    received: Receiver<Received>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Fnf(Payload),
    Push(Bytes),
    /// A payload of the channel `take`.
    Line(Bytes),
    /// SETUP's metadata type, data type and data.
    Setup(Bytes, Bytes, Bytes),
}

impl Service {
    pub(crate) fn start() -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let (process, number) = (std::process::id(), STARTED.fetch_add(1, Relaxed));
        let socket = std::env::temp_dir().join(format!("rsock-cli-{process}-{number}.sock"));
        Self::start_at(&format!("unix:{}", socket.display()))
    }

    /// With this Unix socket, which another may have had before.
    pub(crate) fn start_at(unix: &str) -> Self {
        let runtime = Runtime::new().unwrap();
        let frames = Arc::new(Frames::default());
        let seen = Arc::clone(&frames);
        let (sender, received) = channel(1_000);
        let builder = Server::builder().tap(Arc::new(move |_, direction, frame| {
            seen.0.lock().unwrap().push((direction, Frame::decode(frame).unwrap()));
            seen.1.notify_all();
        }));
        let uris = ["tcp://127.0.0.1:0", "ws://127.0.0.1:0/rsocket", unix];
        let server = runtime.block_on(builder.bind(&uris)).unwrap();
        let addresses = server.addresses();
        let acceptor = move |peer: Peer| {
            let (sender, setup) = (sender.clone(), peer.setup().clone());
            async move {
                if setup.payload.data == "reject" {
                    return Err(Error::rejected("not you"));
                }
                let mimes = (setup.metadata_mime.clone(), setup.data_mime.clone());
                let event = Received::Setup(mimes.0.clone(), mimes.1, setup.payload.data.clone());
                sender.send(event).await.unwrap();
                Ok(Handlers { sender, metadata_mime: mimes.0 })
            }
        };
        runtime.spawn(server.serve(acceptor).into_future());
        let [tcp, ws, unix] = addresses.try_into().unwrap();
        Self { tcp, ws, unix, runtime, frames, received }
    }

    pub(crate) fn uris(&self) -> [&str; 3] {
        [&self.tcp, &self.ws, &self.unix]
    }

    /// The next thing received that is no SETUP.
    pub(crate) fn received(&mut self) -> Received {
        loop {
            match self.next_received() {
                Received::Setup(..) => {}
                other => return other,
            }
        }
    }

    fn next_received(&mut self) -> Received {
        let received = async { tokio::time::timeout(PATIENCE, self.received.recv()).await };
        self.runtime.block_on(received).expect("something is received").unwrap()
    }

    pub(crate) fn setup(&mut self) -> Received {
        self.next_received()
    }

    /// The frames seen so far.
    pub(crate) fn frames(&self) -> Vec<(Direction, Frame)> {
        self.frames.0.lock().unwrap().clone()
    }

    /// Each grant of credit for what we send, and the most that was ever outstanding.
    pub(crate) fn grants(&self) -> (Vec<u32>, u64) {
        let (mut grants, mut outstanding, mut most) = (Vec::new(), 0_u64, 0);
        for frame in self.frames() {
            match frame {
                (Direction::In, Frame::Request(request)) => grants.push(request.initial_n),
                (Direction::In, Frame::RequestN { n, .. }) => grants.push(n),
                (Direction::Out, Frame::Payload(item)) if item.next => {
                    outstanding -= 1;
                    continue;
                }
                _ => continue,
            }
            outstanding += u64::from(grants[grants.len() - 1]);
            most = most.max(outstanding);
        }
        (grants, most)
    }

    /// Waits for CANCEL: what a command sent last may arrive after its end.
    pub(crate) fn was_cancelled(&self) -> bool {
        self.has_seen(|(_, frame)| matches!(frame, Frame::Cancel { .. }))
    }

    /// Waits for an item that was sent to a command.
    pub(crate) fn has_sent_an_item(&self) -> bool {
        self.has_seen(|seen| matches!(seen, (Direction::Out, Frame::Payload(_))))
    }

    /// Waits for a frame of a command's.
    pub(crate) fn has_received(&self, is_it: impl Fn(&Frame) -> bool) -> bool {
        self.has_seen(|(direction, frame)| *direction == Direction::In && is_it(frame))
    }

    fn has_seen(&self, is_it: impl Fn(&(Direction, Frame)) -> bool) -> bool {
        let (frames, arrived) = &*self.frames;
        let missing = |frames: &mut Vec<_>| !frames.iter().any(&is_it);
        let frames = frames.lock().unwrap();
        !arrived.wait_timeout_while(frames, PATIENCE, missing).unwrap().1.timed_out()
    }
}

struct Handlers {
    sender: Sender<Received>,
    metadata_mime: Bytes,
}

impl Handlers {
    fn route(&self, payload: &Payload) -> String {
        let metadata = payload.metadata.clone().unwrap_or_default();
        let route = first_route(&metadata, &self.metadata_mime).unwrap();
        route.map_or_else(|| "echo".to_owned(), |route| route.to_string())
    }
}

fn items(to: u64) -> impl Stream<Item = Result<Payload, Error>> + Send {
    stream::iter((0..to).map(|n| Ok(Payload::new(n.to_string()))))
}

impl Responder for Handlers {
    async fn fire_and_forget(self: Arc<Self>, request: Request) {
        let payload = request.into_payload();
        self.sender.send(Received::Fnf(payload)).await.unwrap();
    }

    async fn request_response(self: Arc<Self>, request: Request) -> Result<Payload, Error> {
        let payload = request.into_payload();
        let data = String::from_utf8_lossy(&payload.data).into_owned();
        match self.route(&payload).as_str() {
            "echo" => Ok(payload),
            "application" => Err(Error::application(data)),
            "canceled" => Err(Error::Canceled(data.into())),
            "invalid" => Err(Error::invalid(data)),
            "other" => Err(Error::Other { code: ErrorCode(0x301), message: data.into() }),
            "never" => future::pending().await,
            route => Err(Error::rejected(format!("no route {route:?}"))),
        }
    }

    fn request_stream(
        self: Arc<Self>,
        request: Request,
    ) -> impl Stream<Item = Result<Payload, Error>> + Send {
        let payload = request.into_payload();
        let to = str::from_utf8(&payload.data).ok().and_then(|to| to.parse().ok());
        match self.route(&payload).as_str() {
            "range" => items(to.unwrap_or(u64::MAX)).boxed(),
            "breaks" => items(2).chain(Failed::new(Error::application("broke"))).boxed(),
            "silent" => items(1).chain(stream::pending()).boxed(),
            route => Failed::new(Error::rejected(format!("no route {route:?}"))).boxed(),
        }
    }

    fn request_channel(
        self: Arc<Self>,
        first: Request,
        rest: Payloads,
    ) -> impl Stream<Item = Result<Payload, Error>> + Send {
        let first = first.into_payload();
        let to = str::from_utf8(&first.data).ok().and_then(|to| to.parse().ok()).unwrap_or(0);
        match self.route(&first).as_str() {
            "echo" => stream::once(async { Ok(first) }).chain(rest).boxed(),
            // Takes so many payloads, one at a time, and then no more.
            "take" => rest
                .credit(1)
                .take(to)
                .then(move |line| {
                    let sender = self.sender.clone();
                    async move {
                        let data = line?.data;
                        sender.send(Received::Line(data.clone())).await.unwrap();
                        Ok(Payload::new(data))
                    }
                })
                .boxed(),
            route => Failed::new(Error::rejected(format!("no route {route:?}"))).boxed(),
        }
    }

    async fn metadata_push(self: Arc<Self>, push: Request) {
        let metadata = push.into_payload().metadata.unwrap_or_default();
        self.sender.send(Received::Push(metadata)).await.unwrap();
    }
}

/// The binary with these arguments, its three streams piped.
pub(crate) fn spawn<A: AsRef<OsStr>>(arguments: &[A]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_rsock"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs it through the shell, which is told with `redirect` what becomes of its streams; nothing is on
/// stdin.
pub(crate) fn spawn_with<A: AsRef<OsStr>>(redirect: &str, arguments: &[A]) -> Child {
    Command::new("sh")
        .args(["-c", &format!("exec \"$0\" \"$@\" {redirect}"), env!("CARGO_BIN_EXE_rsock")])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs it to its end.
pub(crate) fn rsock<A: AsRef<OsStr>>(arguments: &[A]) -> Done {
    rsock_with(arguments, b"")
}

/// Runs it to its end with this on stdin.
pub(crate) fn rsock_with<A: AsRef<OsStr>>(arguments: &[A], input: &[u8]) -> Done {
    let mut child = spawn(arguments);
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // It need not read what it is given.
        scope.spawn(move || drop(stdin.write_all(input)));
        Done(child.wait_with_output().unwrap())
    })
}

/// The outcome of a run.
#[derive(Debug)]
pub(crate) struct Done(pub(crate) Output);

impl Done {
    pub(crate) fn code(&self) -> i32 {
        self.0.status.code().unwrap()
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8(self.0.stderr.clone()).unwrap()
    }

    /// Exit code 0, this on stdout, and nothing to complain about.
    #[track_caller]
    pub(crate) fn printed(&self, stdout: &str) {
        assert_eq!((self.stdout().as_str(), self.stderr().as_str()), (stdout, ""));
        assert_eq!(self.code(), 0);
    }
}
