//! The side that is dialled.

mod builder;
mod connections;
mod drain;
mod entering;
mod heartbeat;
mod log;
#[cfg(feature = "tls")]
mod secure;
#[cfg(feature = "websocket")]
mod web;

use std::{
    fmt,
    future::{Future, IntoFuture},
    io, mem,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rsock_proto::Config;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, watch},
    task::JoinHandle,
};

use crate::{
    acceptor::Acceptor,
    boxed::BoxFuture,
    connection::{DoorLimits, Doors, Driver, Mailbox, Newcomer, Sessions, handle::Accept},
    error::ConnectError,
    runtimes,
    transport::{
        Framing,
        address::{Layout, Uri},
        dial::OWN,
        listen::{Listener, ListeningSocket, Remote},
        socket::{Socket, Transport},
    },
};

pub use builder::ServerBuilder;
use connections::Table;
pub use connections::{ConnectionDetails, ConnectionInfo, ConnectionPage, Connections, StreamInfo};

/// Listeners that are open, and not yet served.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<Listener>,
    builder: ServerBuilder,
    connections: Connections,
}

impl Server {
    /// Opens one listener with the defaults of [`ServerBuilder`]: `tcp://host:port`,
    /// `ws://host:port/path`, `unix:/path`, or `unix:@name` for a name without a file (Linux). Port 0
    /// takes any that is free. `tls://` and `wss://` need certificates, which a builder is given.
    ///
    /// The file of a Unix socket is removed when the server stops. One that is left of a server which
    /// has ended is replaced; one that somebody listens on, or that is not a socket, is an error.
    ///
    /// # Errors
    /// The URI is wrong, or its address is not to be had.
    pub async fn bind(uri: &str) -> Result<Self, ConnectError> {
        Self::builder().bind(&[uri]).await
    }

    /// Settings of a server.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// The addresses it listens on, with the ports it was given.
    pub fn addresses(&self) -> Vec<String> {
        self.listeners.iter().map(|listener| listener.uri.to_string()).collect()
    }

    /// Its connections, to be looked at and ended one by one while it serves.
    pub fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// Serves connections for ever, or until a shutdown: await the result.
    pub fn serve(self, acceptor: impl Acceptor) -> Serve {
        Serve { server: self, acceptor: Arc::new(acceptor), shutdown: None }
    }
}

/// A server without listeners, which is given its byte streams. Cheap to clone.
#[derive(Clone)]
pub struct Endpoint {
    service: Arc<Service>,
}

impl Endpoint {
    /// Serves one connection over a byte stream of the caller's, with a u24 length before each
    /// frame. Resolves when the connection has ended, or has been handed to the session that goes
    /// on on it. How many there are is up to the caller.
    pub async fn serve_over<IO>(&self, io: IO)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.serve_over_named(OWN, io).await;
    }

    /// The same for a peer of this name: it is its [`Peer::address`](crate::Peer::address), stands in the
    /// log, and bounds for each address count by it, without the port if it ends with one. All that are
    /// served without a name are of one address.
    pub async fn serve_over_named<IO>(&self, peer: &str, io: IO)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let transport = Transport::from_caller(io, peer);
        let accept = Arc::clone(&self.service.acceptor);
        if let Some(driven) = self.service.drive(transport, None, accept) {
            driven.await;
        }
    }

    /// Its connections, to be looked at and ended one by one.
    pub fn connections(&self) -> Connections {
        Connections::of(&self.service.live)
    }

    /// Takes no more connections and no new requests, lets open streams end within
    /// [`drain_limit`](ServerBuilder::drain_limit), closes the connections and returns.
    pub async fn drain(&self) {
        self.service.drain().await;
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("builder", &self.service.builder).finish_non_exhaustive()
    }
}

/// A server at work; a future that ends after a shutdown.
#[must_use = "a server serves while it is awaited"]
pub struct Serve {
    server: Server,
    acceptor: Arc<dyn Accept>,
    shutdown: Option<BoxFuture<()>>,
}

impl Serve {
    /// When `signal` resolves: takes no more connections and no new requests, lets open streams end
    /// within the drain limit, closes the connections and returns.
    pub fn with_graceful_shutdown(
        mut self,
        signal: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        self.shutdown = Some(Box::pin(signal));
        self
    }

    async fn run(self) {
        self.server.keep_alive();
        let Self { server: Server { listeners, builder, connections }, acceptor, shutdown } = self;
        let service = Arc::new(Service::new(builder, acceptor, connections));
        let closes_all = CloseOnDrop(Arc::clone(&service));
        let mut shutdown = shutdown.unwrap_or_else(|| Box::pin(std::future::pending()));
        let (mut accepting, mut files) = (Vec::new(), Vec::new());
        for Listener { sockets, uri, file } in listeners {
            let uri = Arc::new(uri);
            files.push(file);
            for (index, socket) in sockets.into_iter().enumerate() {
                // Of each address there is one for each runtime.
                let index =
                    index % service.builder.runtimes.as_ref().map_or(1, |all| all.handles().len());
                let accepting_here =
                    accept_loop(socket, Arc::clone(&uri), index, Arc::clone(&service));
                accepting.push(service.run_on(index, accepting_here));
            }
        }
        let meter = Arc::clone(&service.builder.settings.meter);
        let mut summing_up = pin!(meter.sum_up_warnings());
        let mut beating = pin!(service.beat());
        std::future::poll_fn(|cx| {
            for listening in &mut accepting {
                // An accept loop never ends by itself.
                let _ = listening.as_mut().poll(cx);
            }
            // Nor do these.
            let _ = summing_up.as_mut().poll(cx);
            let _ = beating.as_mut().poll(cx);
            shutdown.as_mut().poll(cx)
        })
        .await;
        drop(accepting);
        drop(files);
        service.drain().await;
        meter.sum_up_last_warnings();
        drop(closes_all);
    }
}

impl IntoFuture for Serve {
    type Output = ();
    type IntoFuture = BoxFuture<()>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for Serve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve").field("server", &self.server).finish_non_exhaustive()
    }
}

/// A server that is dropped and not shut down still closes its connections.
struct CloseOnDrop(Arc<Service>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.doors.stop();
        #[cfg(feature = "websocket")]
        self.0.web.end();
        self.0.end_now();
    }
}

/// A task that ends with what holds this.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How long to wait after the system refused to accept, as when files run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often it is logged that the system refuses to accept.
const ACCEPT_LOG_PAUSE: Duration = Duration::from_secs(10);

/// Takes the connections of a socket, which is the one of the runtime with this number.
async fn accept_loop(socket: ListeningSocket, uri: Arc<Uri>, here: usize, service: Arc<Service>) {
    loop {
        match socket.accept().await {
            Ok((socket, remote)) => {
                let newcomer = service.doors.newcomer(remote.into()).await;
                let uri = Arc::clone(&uri);
                Arc::clone(&service).start(socket, remote, uri, here, newcomer);
            }
            // The one that had come is gone already.
            Err(error) if is_gone(&error) => {}
            Err(error) => {
                service.cannot_accept(&error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether it was the connection that failed, and nothing here.
fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// The parts that all connections of a server share.
struct Service {
    builder: ServerBuilder,
    acceptor: Arc<dyn Accept>,
    doors: Arc<Doors>,
    /// The live connections: at most `max_connections`, `max_sessions` without a transport, and
    /// `max_newcomers`.
    live: Arc<Table>,
    /// The last of them has ended.
    deserted: Notify,
    draining: watch::Sender<bool>,
    #[cfg(feature = "websocket")]
    web: web::Web,
    sessions: Option<Arc<Sessions>>,
    /// When it was logged that the system refuses to accept, and how often it has since.
    refused: Mutex<(Option<Instant>, u64)>,
}

impl Service {
    fn new(
        mut builder: ServerBuilder,
        acceptor: Arc<dyn Accept>,
        connections: Connections,
    ) -> Self {
        if builder.lease.is_some() || builder.resume.is_some() {
            let config = Arc::make_mut(&mut builder.settings.config);
            config.leases |= builder.lease.is_some();
            config.resume = builder.resume.or(config.resume);
        }
        if let Some(live) = &builder.live_config {
            live.built(&builder.settings.config);
        }
        let limits = DoorLimits {
            max_connections: builder.max_connections,
            max_newcomers: builder.max_newcomers,
            max_connections_per_address: builder.max_connections_per_address,
            connects_per_minute: builder.connects_per_minute,
            patience: builder.settings.config.setup_timeout / 2,
        };
        let doors = Doors::new(limits, Arc::clone(&builder.settings.meter));
        let draining = watch::Sender::new(false);
        let max = builder.max_sessions;
        let max_per_address = builder.max_sessions_per_address.unwrap_or_else(|| max.div_ceil(2));
        let sessions = builder.settings.config.resume.map(|_| Sessions::new(max, max_per_address));
        let (deserted, refused) = (Notify::new(), Mutex::default());
        Self {
            #[cfg(feature = "websocket")]
            web: web::Web::new(&builder),
            builder,
            acceptor,
            doors,
            live: connections.into_table(),
            deserted,
            draining,
            sessions,
            refused,
        }
    }

    /// The bounds of a connection that comes now.
    fn config(&self) -> Arc<Config> {
        match &self.builder.live_config {
            Some(live) => live.get(),
            None => Arc::clone(&self.builder.settings.config),
        }
    }

    /// The system has refused to accept. It is logged once, and again while it lasts.
    fn cannot_accept(&self, error: &io::Error) {
        self.builder.settings.meter.failed_accept();
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let (logged, times) = &mut *refused;
        *times += 1;
        if logged.is_none_or(|logged| logged.elapsed() >= ACCEPT_LOG_PAUSE) {
            *logged = Some(Instant::now());
            let open = self.builder.settings.meter.read().open_connections;
            log::cannot_accept(error, open, mem::take(times));
        }
    }

    /// Does this on the runtime with that number, if there are several; ends with what is returned.
    fn run_on(
        &self,
        index: usize,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> BoxFuture<()> {
        let runtime = self.builder.runtimes.as_ref().and_then(|all| all.handles().nth(index));
        match runtime {
            None => Box::pin(work),
            Some(runtime) => {
                let mut task = AbortOnDrop(runtime.spawn(work));
                Box::pin(async move {
                    if (&mut task.0).await.is_err() {
                        // The runtime has ended; the others go on.
                        std::future::pending().await
                    }
                })
            }
        }
    }

    /// Begins to serve a connection, which the runtime with the number `here` has taken.
    fn start(
        self: Arc<Self>,
        socket: Socket,
        remote: Remote,
        uri: Arc<Uri>,
        here: usize,
        newcomer: Newcomer,
    ) {
        let place = self.builder.runtimes.as_ref().map(|runtimes| runtimes.place(here));
        let stays = place.as_ref().is_none_or(|place| place.index() == here);
        let runtime = place.as_ref().map(|place| place.runtime());
        let beginning = async move {
            let socket = if stays { Ok(socket) } else { socket.settled() };
            // What cannot be woken is of no use; the peer sees it close.
            self.begin(socket.ok()?, remote, &uri, newcomer).await
        };
        let serving = serving(beginning, place);
        match runtime {
            None => tokio::spawn(serving),
            Some(runtime) => runtime.spawn(serving),
        };
    }

    /// Drives a connection, after all that comes before its first frame.
    async fn begin(
        self: &Arc<Self>,
        socket: Socket,
        remote: Remote,
        uri: &Uri,
        mut newcomer: Newcomer,
    ) -> Option<Driven> {
        // A socket that cannot be set up is of no use; the peer sees it close.
        socket.prepare().ok()?;
        let (socket, remote) = self.passed_on(socket, remote, &mut newcomer).await?;
        if !self.passes_on(uri, remote) && !self.doors.may_come(remote.into()) {
            log::came_too_often(remote);
            return None;
        }
        let peer: Arc<str> = remote.to_string().into();
        #[cfg(feature = "tls")]
        let socket = self.secured(socket, &peer, uri, &newcomer).await?;
        match &uri.layout {
            Layout::Prefixed => {
                let (framing, input) = (Framing::LengthPrefixed, BytesMut::new());
                let transport = Transport { socket, framing, input, peer };
                self.drive(transport, Some(newcomer), Arc::clone(&self.acceptor))
            }
            #[cfg(feature = "websocket")]
            Layout::WebSocket { path, .. } => {
                self.begin_web(socket, peer, path, remote.into(), newcomer).await
            }
        }
    }

    /// Whether this is a proxy that says for each client where it comes from: then these count, one by one.
    fn passes_on(&self, uri: &Uri, remote: Remote) -> bool {
        #[cfg(feature = "websocket")]
        if let (Layout::WebSocket { .. }, Some(clients), Remote::Address(address)) =
            (&uri.layout, &self.builder.clients, remote)
        {
            return clients.proxies.trusts(address.ip());
        }
        // Only over HTTP is there anything to say it with.
        let _ = (uri, remote);
        false
    }

    /// The driver of a connection, which is among the live ones; none where it has to go for another.
    fn drive(
        self: &Arc<Self>,
        transport: Transport,
        newcomer: Option<Newcomer>,
        accept: Arc<dyn Accept>,
    ) -> Option<Driven> {
        let mailbox = self.builder.settings.mailbox();
        if newcomer.as_ref().is_some_and(|newcomer| !newcomer.driven_by(mailbox.clone())) {
            return None;
        }
        let live = self.register(&mailbox, &transport);
        if *self.draining.borrow() {
            // It is heard, and told that it comes too late.
            mailbox.end(false);
        }
        let lease = self.builder.lease.as_ref().map(|make| make());
        let peer = Arc::clone(&transport.peer);
        let sessions = self.sessions.clone();
        let config = self.config();
        let options = self.builder.settings.driver_options(config, peer, lease, sessions);
        let driver = Driver::server(transport, accept, newcomer.map(Box::new), mailbox, options);
        Some(Driven { driver: Box::pin(driver), _live: live })
    }

    fn register(self: &Arc<Self>, mailbox: &Arc<Mailbox>, transport: &Transport) -> Live {
        let (mailbox, _aging) = (Arc::clone(mailbox), self.age(mailbox));
        let (address, has_pings) = (Arc::clone(&transport.peer), transport.framing.has_pings());
        let since = tokio::time::Instant::now();
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        Live {
            service: Arc::clone(self),
            key: live.insert(Connected { mailbox, address, since, has_pings, _aging }),
        }
    }
}

/// A live connection, as its server knows it.
struct Connected {
    mailbox: Arc<Mailbox>,
    /// That of the transport it began with.
    address: Arc<str>,
    since: tokio::time::Instant,
    has_pings: bool,
    /// The task that ends it when it is as old as it may be.
    _aging: Option<AbortOnDrop>,
}

/// A connection that is driven while this is awaited.
struct Driven {
    /// Its size is not to be that of every future on the way here.
    driver: Pin<Box<Driver>>,
    /// Dropped after the driver.
    _live: Live,
}

impl Future for Driven {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.driver.as_mut().poll(cx)
    }
}

/// Drives a connection that begins so, and keeps its place meanwhile.
fn serving(
    beginning: impl Future<Output = Option<Driven>> + Send + 'static,
    place: Option<runtimes::Place>,
) -> impl Future<Output = ()> + Send + 'static {
    // What it takes to begin is given back before the connection is driven: a task is as large as what
    // takes most of it.
    let beginning = Box::pin(beginning);
    async move {
        if let Some(driven) = beginning.await {
            driven.await;
        }
        drop(place);
    }
}

/// A connection's entry among the live ones.
struct Live {
    service: Arc<Service>,
    key: usize,
}

impl Drop for Live {
    fn drop(&mut self) {
        let mut live = self.service.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.try_remove(self.key);
        if live.is_empty() {
            self.service.deserted.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use rsock_proto::ResumeLimits;

    use super::*;

    /// Each connection has one for as long as it lasts.
    #[test]
    fn a_task_that_serves_takes_no_more_than_the_driver_and_its_places() {
        let task = serving(std::future::pending(), None);
        assert!(size_of_val(&task) <= 96, "{}", size_of_val(&task));
    }

    #[test]
    fn leases_and_sessions_outlast_a_config_that_is_set_behind_them() {
        let limits = ResumeLimits::default();
        let builder = ServerBuilder::default().lease(crate::SharedLease::new(1)).resume(limits, 1);
        let builder = builder.config(Config::default());
        let rejecting = crate::acceptor::Always(Arc::new(crate::Rejecting));
        let service = Service::new(builder, Arc::new(rejecting), Connections::default());
        let config = &service.builder.settings.config;
        assert!(config.leases && config.resume.is_some() && service.sessions.is_some());
    }
}
