//! The side that is dialled.

mod drain;
mod entering;
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
use rsock_proto::{Config, ResumeLimits};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, watch},
    task::JoinHandle,
};

#[cfg(feature = "tls")]
use crate::transport::tls::ServerTls;
use crate::{
    acceptor::Acceptor,
    boxed::BoxFuture,
    connection::{DoorLimits, Doors, Driver, Mailbox, Newcomer, Sessions, handle::Accept},
    error::ConnectError,
    lease::LeasePolicy,
    live_config::LiveConfig,
    runtimes::{self, Runtimes},
    settings::{Settings, shared_settings},
    transport::{
        Framing,
        address::{Layout, Uri},
        dial::OWN,
        listen::{ListenOptions, Listener, ListeningSocket, Remote},
        proxy::ProxyProtocol,
        socket::{Socket, Transport},
    },
};
#[cfg(feature = "websocket")]
use crate::{
    http::{HandleHttp, HeaderValue, HttpHandler, HttpLimits},
    transport::websocket::SUBPROTOCOL,
};

/// Listeners that are open, and not yet served.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<Listener>,
    builder: ServerBuilder,
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

    /// Serves connections for ever, or until a shutdown: await the result.
    pub fn serve(self, acceptor: impl Acceptor) -> Serve {
        Serve { server: self, acceptor: Arc::new(acceptor), shutdown: None }
    }
}

/// The settings of a server and of its connections.
#[must_use]
#[derive(Clone)]
pub struct ServerBuilder {
    settings: Settings,
    max_connections: usize,
    max_newcomers: usize,
    runtimes: Option<Runtimes>,
    listen: ListenOptions,
    /// Bounds that may change, in the place of those of `settings`.
    live_config: Option<LiveConfig>,
    drain_limit: Duration,
    drain_spread: Duration,
    max_sessions: usize,
    /// Half of them unless it was set.
    max_sessions_per_address: Option<usize>,
    /// Of sessions, where clients may ask for them.
    resume: Option<ResumeLimits>,
    lease: Option<MakeLease>,
    proxies: Option<ProxyProtocol>,
    #[cfg(feature = "tls")]
    tls: Option<ServerTls>,
    #[cfg(feature = "websocket")]
    http: Option<Arc<dyn HandleHttp>>,
    #[cfg(feature = "websocket")]
    http_limits: HttpLimits,
    #[cfg(feature = "websocket")]
    subprotocols: Arc<[HeaderValue]>,
}

/// A policy of its own for each connection.
type MakeLease = Arc<dyn Fn() -> Box<dyn LeasePolicy> + Send + Sync>;

impl Default for ServerBuilder {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            max_connections: 100_000,
            max_newcomers: 1_024,
            runtimes: None,
            listen: ListenOptions::default(),
            live_config: None,
            drain_limit: Duration::from_secs(10),
            drain_spread: Duration::ZERO,
            max_sessions: 10_000,
            max_sessions_per_address: None,
            resume: None,
            lease: None,
            proxies: None,
            #[cfg(feature = "tls")]
            tls: None,
            #[cfg(feature = "websocket")]
            http: None,
            #[cfg(feature = "websocket")]
            http_limits: HttpLimits::default(),
            #[cfg(feature = "websocket")]
            subprotocols: [HeaderValue::from_static(SUBPROTOCOL)].into(),
        }
    }
}

shared_settings!(ServerBuilder);

impl ServerBuilder {
    /// Takes clients that ask for leases, and allows them what this policy says; each connection
    /// has its own copy. Clients that do not ask are not held to it (LEASE-17).
    pub fn lease(mut self, policy: impl LeasePolicy + Clone + Sync) -> Self {
        self.lease = Some(Arc::new(move || Box::new(policy.clone())));
        self
    }

    /// Takes clients that ask for a session that outlives its transport, within these limits, and
    /// at most `max_sessions` of them. Where the acceptor has taken one more, a session without a
    /// transport ends: the one that has been for the longest time of the address that holds most. If
    /// there is none, or only of addresses that hold no more than the one that asks, SETUP is refused.
    pub fn resume(mut self, limits: ResumeLimits, max_sessions: usize) -> Self {
        self.resume = Some(limits);
        self.max_sessions = max_sessions.max(1);
        self
    }

    /// How many sessions one address may hold: an IPv4 address, or a /64 of IPv6. One more ends its
    /// own oldest without a transport, or is refused. Default half of all sessions; behind a proxy,
    /// from which all clients seem to come, it should be all.
    pub fn max_sessions_per_address(mut self, max: usize) -> Self {
        self.max_sessions_per_address = Some(max.max(1));
        self
    }

    /// How many connections are served at a time, over all listeners; sessions without a transport
    /// are not among them. One more that the acceptor has taken waits for half of
    /// [`Config::setup_timeout`](rsock_proto::Config::setup_timeout) until one ends, and is refused after that. Who comes back to a session
    /// waits before all others, and is let in beyond the limit: up to a quarter more, and no more than
    /// half of [`max_newcomers`](Self::max_newcomers). Default 100,000.
    pub fn max_connections(mut self, max: usize) -> Self {
        self.max_connections = max.max(1);
        self
    }

    /// How many sockets may be open beside those connections because nobody has accepted them yet: in
    /// the WebSocket handshake, before SETUP or RESUME, with the acceptor, waiting for a place. For one
    /// more, the oldest of the address that has most of them is closed, when it has been there for
    /// 250 ms; until then others wait in the system's queue. Default 1,024.
    pub fn max_newcomers(mut self, max: usize) -> Self {
        self.max_newcomers = max.max(1);
        self
    }

    /// Serves connections on these runtimes and not on the one that serves: each listens with a
    /// socket of its own, on the same port; on a Unix socket the first listens for all. Limits, sessions and shutdown are those of the whole.
    ///
    /// Linux only: elsewhere [`bind`](Self::bind) fails.
    pub fn runtimes(mut self, runtimes: Runtimes) -> Self {
        self.runtimes = Some(runtimes);
        self
    }

    /// Sets who may connect to the Unix sockets that are listened on: the mode of their files, as
    /// `0o660`. Nobody connects before it is set. By default the process's umask says it, which
    /// mostly means its user alone; names without files (`unix:@name`) are open to all who share
    /// the network namespace.
    #[cfg(unix)]
    pub fn unix_mode(mut self, mode: u32) -> Self {
        self.listen.access.mode = Some(mode & 0o777);
        self
    }

    /// Sets whose the files of Unix sockets are that are listened on, by the numbers of user and group;
    /// `None` leaves it as the system has it. Nobody connects before it is set. Only root gives a file
    /// to another user; to a group, whoever is of it as well.
    #[cfg(unix)]
    pub fn unix_owner(
        mut self,
        user: impl Into<Option<u32>>,
        group: impl Into<Option<u32>>,
    ) -> Self {
        self.listen.access.user = user.into();
        self.listen.access.group = group.into();
        self
    }

    /// How long open streams may take to end after a shutdown was asked for. Default 10 s.
    pub fn drain_limit(mut self, limit: Duration) -> Self {
        self.drain_limit = limit;
        self
    }

    /// The time over which connections are told after a shutdown that they end, so that their clients do not
    /// all connect elsewhere at once; part of the drain limit. One that was not told yet serves as before.
    /// By default all are told at once.
    pub fn drain_spread(mut self, spread: Duration) -> Self {
        self.drain_spread = spread;
        self
    }

    /// Takes from proxies where connections come from, on all addresses of TCP: those of trusted ones have to
    /// begin with a header of the PROXY protocol, and others are closed. Limits for each address, and
    /// [`Peer::address`](crate::Peer::address), are of the client then.
    pub fn proxy_protocol(mut self, proxies: ProxyProtocol) -> Self {
        self.proxies = Some(proxies);
        self
    }

    /// Sets the certificates of `tls://` and `wss://`, which cannot be listened on without.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Sets what answers plain HTTP on the WebSocket ports; by default a hint to use WebSocket.
    #[cfg(feature = "websocket")]
    pub fn http(mut self, handler: impl HttpHandler) -> Self {
        self.http = Some(Arc::new(handler));
        self
    }

    /// Sets the bounds of what plain HTTP can make us hold and wait for.
    #[cfg(feature = "websocket")]
    pub fn http_limits(mut self, limits: HttpLimits) -> Self {
        self.http_limits = limits;
        self
    }

    /// Sets the subprotocols of WebSockets that are selected where a client offers them, the client's
    /// first; `rsocket` by default. None is required, and names that no header can have are left out.
    #[cfg(feature = "websocket")]
    pub fn subprotocols(mut self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let names = names.into_iter();
        self.subprotocols =
            names.filter_map(|name| HeaderValue::from_str(name.as_ref()).ok()).collect();
        self
    }

    /// Sets the bounds of what a peer can make us hold, as [`config`](Self::config) does, so that others can be
    /// [set](LiveConfig::set) while the server serves.
    pub fn live_config(mut self, config: LiveConfig) -> Self {
        self.settings.config = config.get();
        self.live_config = Some(config);
        self
    }

    /// Opens a listener for each URI.
    ///
    /// # Errors
    /// A URI is wrong, or its address is not to be had, or the certificates are not.
    pub async fn bind(self, uris: &[impl AsRef<str>]) -> Result<Server, ConnectError> {
        let mut listeners = Vec::with_capacity(uris.len());
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            tls.load().map_err(ConnectError::TlsSettings)?;
        }
        for uri in uris {
            let uri = Uri::parse(uri.as_ref())?;
            #[cfg(feature = "tls")]
            secure::check(&uri, self.tls.is_some())?;
            listeners.push(match &self.runtimes {
                None => Listener::bind(uri, self.listen).await?,
                Some(runtimes) => Listener::bind_each(uri, self.listen, runtimes.handles()).await?,
            });
        }
        Ok(Server { listeners, builder: self })
    }

    /// Serves one connection over a byte stream of the caller's, such as [`memory`](crate::memory),
    /// with a u24 length before each frame. Resolves when the connection has ended.
    pub async fn serve_over<IO>(&self, io: IO, acceptor: impl Acceptor)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.clone().without_listeners(acceptor).serve_over(io).await;
    }

    /// A server that is given its byte streams by the caller. They share what the connections of a
    /// server share: the sessions that can be resumed, on whichever of them.
    pub fn without_listeners(self, acceptor: impl Acceptor) -> Endpoint {
        Endpoint { service: Arc::new(Service::new(self, Arc::new(acceptor))) }
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

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("config", &self.settings.config)
            .finish_non_exhaustive()
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
        let Self { server: Server { listeners, builder }, acceptor, shutdown } = self;
        let service = Arc::new(Service::new(builder, acceptor));
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
        std::future::poll_fn(|cx| {
            for listening in &mut accepting {
                // An accept loop never ends by itself.
                let _ = listening.as_mut().poll(cx);
            }
            // Nor does this.
            let _ = summing_up.as_mut().poll(cx);
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
        let mut from = Some(0);
        while let Some(key) = from {
            from = self.0.end_some(key, drain::PORTION, true);
        }
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
    /// The mailboxes of live connections: at most `max_connections`, `max_sessions` without a
    /// transport, and `max_newcomers`.
    live: Mutex<slab::Slab<Arc<Mailbox>>>,
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
    fn new(mut builder: ServerBuilder, acceptor: Arc<dyn Accept>) -> Self {
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
            patience: builder.settings.config.setup_timeout / 2,
        };
        let doors = Doors::new(limits, Arc::clone(&builder.settings.meter));
        let (live, draining) = (Mutex::default(), watch::Sender::new(false));
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
            live,
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
        let live = self.register(&mailbox);
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

    fn register(self: &Arc<Self>, mailbox: &Arc<Mailbox>) -> Live {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        Live { service: Arc::clone(self), key: live.insert(Arc::clone(mailbox)) }
    }
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
        let service = Service::new(builder, Arc::new(rejecting));
        let config = &service.builder.settings.config;
        assert!(config.leases && config.resume.is_some() && service.sessions.is_some());
    }
}
