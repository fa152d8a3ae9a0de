//! A relay that disturbs each connection in another way.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use rsock_wire::{BINARY, CLOSE, FIN, Framing, TEXT, message};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::sleep,
};

use super::{
    kind::Kind,
    relay::{Pass, Relay, Stopped},
    rng::Rng,
};

/// Most bytes that pass before a connection is disturbed.
const BUDGET: usize = 32 << 10;
/// Longest stall, delay or wait, in milliseconds: longer than the lifetimes of the clients.
const LONGEST: usize = 700;
/// Openings remembered, to come once more.
const OPENINGS: usize = 16;
/// The page of a proxy whose backend is not there.
const PAGE: &str = "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nConnection: close\r\n\
                    \r\n<html><body><h1>502 Bad Gateway</h1></body></html>\r\n";

/// Stands between one client and the server.
#[derive(Debug)]
pub(super) struct Disturber {
    /// The address the client connects to.
    pub(super) uri: String,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    websocket: bool,
    rng: Mutex<Rng>,
    /// Disturbances to come.
    left: AtomicUsize,
    counts: [AtomicUsize; Kind::ALL.len()],
    /// First frames of this client, to come once more.
    openings: Mutex<Vec<Vec<u8>>>,
    /// Connections that are cut at once.
    storm: AtomicUsize,
    begun: watch::Sender<bool>,
    /// The latest connections: their number, how they are disturbed, and whether that is over.
    history: Mutex<VecDeque<(usize, Option<Kind>, bool)>>,
}

/// Connections that are told of when something is broken.
const HISTORY: usize = 8;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disturber {
    /// Relays to `target`, which is `tcp://…` or `ws://…`, and disturbs so many connections in some of
    /// these ways.
    pub(super) async fn start(target: &str, cuts: usize, kinds: &[Kind], rng: Rng) -> Self {
        let (scheme, rest) = target.split_once("://").expect("a URI");
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared {
            target: authority.parse().expect("an address"),
            websocket: scheme == "ws",
            rng: Mutex::new(rng),
            left: AtomicUsize::new(cuts),
            counts: Default::default(),
            openings: Mutex::default(),
            storm: AtomicUsize::new(0),
            begun: watch::Sender::new(false),
            history: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared), kinds.to_vec()));
        Self { uri: format!("{scheme}://{address}{path}"), shared, accepting }
    }

    /// From now on connections are disturbed: the client has been accepted.
    pub(super) fn begin(&self) {
        self.shared.begun.send_replace(true);
    }

    /// Whether everything that was to be disturbed has been.
    pub(super) fn is_spent(&self) -> bool {
        self.shared.left.load(Relaxed) == 0
    }

    /// The latest connections: their number, how they are disturbed, and whether that is over.
    pub(super) fn history(&self) -> Vec<(usize, Option<Kind>, bool)> {
        lock(&self.shared.history).iter().copied().collect()
    }

    /// Disturbances so far, by kind.
    pub(super) fn counts(&self) -> [usize; Kind::ALL.len()] {
        self.shared.counts.each_ref().map(|count| count.load(Relaxed))
    }
}

impl Drop for Disturber {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, kinds: Vec<Kind>) {
    let mut number = 0;
    while let Ok((client, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        // The schedule is that of the connections in their order.
        let (kind, rng) = {
            let mut rng = lock(&shared.rng);
            (kinds[rng.below(kinds.len())], rng.fork())
        };
        tokio::spawn(async move { shared.serve(client, kind, rng, number).await });
        number += 1;
    }
}

impl Shared {
    async fn serve(&self, client: TcpStream, kind: Kind, mut rng: Rng, number: usize) {
        let is_first = number == 0;
        let is_storm = |left: usize| left.checked_sub(1);
        if self.storm.fetch_update(Relaxed, Relaxed, is_storm).is_ok() {
            return;
        }
        let take = |left: usize| left.checked_sub(1);
        let is_disturbed = self.left.fetch_update(Relaxed, Relaxed, take).is_ok();
        self.note(number, is_disturbed.then_some(kind));
        if is_disturbed && !is_first && kind == Kind::SlowAccept {
            sleep(self.some_time(&mut rng)).await;
        }
        let Ok(server) = TcpStream::connect(self.target).await else { return };
        // Both may have gone already.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let mut relay = Relay::new(client, server, self.websocket);
        if !is_disturbed {
            relay.pass(Pass::bytes(usize::MAX)).await;
            return;
        }
        if is_first {
            let mut begun = self.begun.subscribe();
            while !*begun.borrow_and_update() {
                tokio::select! {
                    stopped = relay.pass(Pass::time(Duration::from_millis(1))) => {
                        if stopped == Stopped::Ended {
                            return;
                        }
                    }
                    _ = begun.changed() => {}
                }
            }
        }
        self.disturb(relay, kind, &mut rng).await;
        if let Some(at) = Kind::ALL.iter().position(|one| *one == kind) {
            self.counts[at].fetch_add(1, Relaxed);
        }
        let mut history = lock(&self.history);
        for one in history.iter_mut().filter(|(other, ..)| *other == number) {
            one.2 = true;
        }
    }

    fn note(&self, number: usize, kind: Option<Kind>) {
        let mut history = lock(&self.history);
        if history.len() == HISTORY {
            history.pop_front();
        }
        history.push_back((number, kind, false));
    }

    fn some_time(&self, rng: &mut Rng) -> Duration {
        Duration::from_millis(rng.up_to(LONGEST) as u64)
    }

    async fn disturb(&self, mut relay: Relay, kind: Kind, rng: &mut Rng) {
        let budget = Pass::bytes(rng.up_to(BUDGET));
        let while_away = self.some_time(rng);
        match kind {
            Kind::Cut | Kind::Reset | Kind::SlowAccept => {
                relay.pass(budget).await;
                if kind == Kind::Reset {
                    relay.reset();
                }
            }
            Kind::CutInOpening => {
                let counts = [true, false];
                relay.pass(Pass { budget: rng.below(600), counts, ..budget }).await;
            }
            Kind::CutInAnswer => {
                let counts = [false, true];
                relay.pass(Pass { budget: rng.below(300), counts, ..budget }).await;
            }
            Kind::ClientHalfOpen => {
                relay.pass(budget).await;
                let Relay { client, server, .. } = relay;
                drop(server);
                sleep(while_away).await;
                drop(client);
            }
            Kind::ServerHalfOpen => {
                relay.pass(budget).await;
                let Relay { client, server, .. } = relay;
                drop(client);
                sleep(while_away).await;
                drop(server);
            }
            Kind::StalledUp | Kind::StalledDown => {
                relay.pass(budget).await;
                let up = kind == Kind::StalledDown;
                relay.pass(Pass { up, down: !up, ..Pass::time(while_away) }).await;
                // And then it goes on for a bit.
                relay.pass(Pass::bytes(rng.up_to(BUDGET))).await;
            }
            Kind::Delayed => {
                let delay = Duration::from_millis(rng.up_to(40) as u64);
                let piece = 1 + rng.up_to(300);
                relay
                    .pass(Pass { delay, piece, until: Pass::time(while_away).until, ..budget })
                    .await;
            }
            Kind::Replayed => {
                relay.pass(budget).await;
                self.remember(&relay.opening);
                drop(relay);
                self.replay(rng).await;
            }
            Kind::LateResume => self.come_late(relay, rng).await,
            Kind::PageDown => {
                relay.pass(budget).await;
                if relay.pass_whole(false).await == Stopped::Spent {
                    self.page(&mut relay.client, false).await;
                }
            }
            Kind::PageUp => {
                relay.pass(budget).await;
                if relay.pass_whole(true).await == Stopped::Spent {
                    self.page(&mut relay.server, true).await;
                }
            }
            Kind::GoingAway => {
                relay.pass(budget).await;
                if self.websocket && relay.pass_whole(false).await == Stopped::Spent {
                    let code = [1001_u16, 1011, 1012][rng.below(3)];
                    let close = message(FIN | CLOSE, None, &code.to_be_bytes());
                    // It may not listen any more.
                    let _ = relay.client.write_all(&close).await;
                }
                let _ = relay.client.shutdown().await;
                sleep(while_away / 8).await;
            }
            Kind::HalfClosed => {
                relay.pass(budget).await;
                let up = rng.below(2) == 0;
                let ended = if up { &mut relay.server } else { &mut relay.client };
                // It may not be there any more.
                let _ = ended.shutdown().await;
                relay.pass(Pass { up: !up, down: up, ..Pass::time(while_away) }).await;
            }
            Kind::Storm => {
                relay.pass(budget).await;
                self.storm.fetch_add(2 + rng.below(12), Relaxed);
            }
        }
    }

    fn remember(&self, opening: &[u8]) {
        let mut openings = lock(&self.openings);
        if openings.len() < OPENINGS {
            openings.push(opening.to_vec());
        }
    }

    /// The beginning of some connection before comes once more, on one of its own.
    async fn replay(&self, rng: &mut Rng) {
        let opening = {
            let openings = lock(&self.openings);
            openings[rng.below(openings.len())].clone()
        };
        sleep(Duration::from_millis(rng.up_to(30) as u64)).await;
        let Ok(mut server) = TcpStream::connect(self.target).await else { return };
        let first = self.first_frame(&opening);
        // It may be refused before it is written.
        let _ = server.write_all(&opening[..first]).await;
        sleep(self.some_time(rng)).await;
    }

    /// Bytes of an opening as far as the end of its first frame: what follows are the client's words,
    /// and no proxy can say them again and be harmless.
    fn first_frame(&self, opening: &[u8]) -> usize {
        let (mut at, mut framing) = (0, Framing::Tcp);
        if self.websocket {
            let head = opening.windows(4).position(|four| four == b"\r\n\r\n");
            at = head.map_or(opening.len(), |at| at + 4);
            framing = Framing::WebSocket;
        }
        let envelope = framing.envelope(&opening[at..]);
        envelope.map_or(opening.len(), |envelope| opening.len().min(at + envelope.body.end))
    }

    /// The client gives up a transport that does not get on; what it has written there comes later.
    async fn come_late(&self, mut relay: Relay, rng: &mut Rng) {
        if self.websocket {
            // The handshake passes; RESUME does not. On the first transport both have passed.
            while !relay.opening.windows(4).any(|four| four == b"\r\n\r\n") {
                let pass = Pass { piece: 1, counts: [true, false], ..Pass::bytes(1) };
                if relay.pass(pass).await == Stopped::Ended {
                    return;
                }
            }
            relay.pass(Pass { up: false, ..Pass::time(Duration::from_millis(20)) }).await;
        }
        let Relay { mut client, mut server, .. } = relay;
        let mut late = vec![0; 4 << 10];
        let read = tokio::time::timeout(
            Duration::from_millis(200),
            tokio::io::AsyncReadExt::read(&mut client, &mut late),
        );
        let Ok(Ok(count)) = read.await else { return };
        drop(client);
        // Meanwhile the client has come again.
        sleep(Duration::from_millis(rng.up_to(100) as u64)).await;
        let frame = if self.websocket { count } else { self.first_frame(&late[..count]) };
        let _ = server.write_all(&late[..frame]).await;
        sleep(self.some_time(rng)).await;
    }

    /// The page of a proxy that has lost the other side, in the middle of everything.
    async fn page(&self, to: &mut TcpStream, is_server: bool) {
        let framed = match (self.websocket, is_server) {
            (true, false) => message(FIN | TEXT, None, PAGE.as_bytes()),
            // A proxy does not know that it has to mask.
            (true, true) => message(FIN | BINARY, None, PAGE.as_bytes()),
            (false, _) => PAGE.into(),
        };
        // It may not be there any more.
        let _ = to.write_all(&framed).await;
        let _ = to.shutdown().await;
        sleep(Duration::from_millis(20)).await;
    }
}
