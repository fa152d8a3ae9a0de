//! The settings of a server, and how it begins.

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use rsock_proto::ResumeLimits;
use tokio::io::{AsyncRead, AsyncWrite};

#[cfg(feature = "tls")]
use super::secure;
use super::{Connections, Endpoint, Server, Service, drain::DrainSettings};
#[cfg(feature = "tls")]
use crate::transport::tls::ServerTls;
use crate::{
    acceptor::Acceptor,
    error::ConnectError,
    lease::LeasePolicy,
    live_config::LiveConfig,
    runtimes::Runtimes,
    settings::{Settings, shared_settings},
    transport::{
        address::Uri,
        listen::{ListenOptions, Listener, OpenListener},
        proxy::ProxyProtocol,
    },
};
#[cfg(feature = "websocket")]
use crate::{
    http::{
        self, ForwardedClients, ForwardedHeader, HandleHttp, HeaderValue, HttpHandler, HttpLimits,
        HttpResponse, RequestHead,
    },
    transport::websocket::SUBPROTOCOL,
};

/// The settings of a server and of its connections.
#[must_use]
#[derive(Clone)]
pub struct ServerBuilder {
    pub(super) settings: Settings,
    pub(super) max_connections: usize,
    pub(super) max_connections_per_address: Option<usize>,
    pub(super) connects_per_minute: Option<NonZeroU32>,
    pub(super) max_newcomers: usize,
    pub(super) runtimes: Option<Runtimes>,
    pub(super) listen: ListenOptions,
    /// Bounds that may change, in the place of those of `settings`.
    pub(super) live_config: Option<LiveConfig>,
    pub(super) drain: DrainSettings,
    pub(super) heartbeat: Duration,
    pub(super) max_sessions: usize,
    /// Half of them unless it was set.
    pub(super) max_sessions_per_address: Option<usize>,
    /// Of sessions, where clients may ask for them.
    pub(super) resume: Option<ResumeLimits>,
    pub(super) lease: Option<MakeLease>,
    pub(super) proxies: Option<ProxyProtocol>,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<ServerTls>,
    #[cfg(feature = "websocket")]
    pub(super) http: Option<Arc<dyn HandleHttp>>,
    #[cfg(feature = "websocket")]
    pub(super) filter: Option<http::Filter>,
    #[cfg(feature = "websocket")]
    pub(super) clients: Option<ForwardedClients>,
    #[cfg(feature = "websocket")]
    pub(super) http_limits: HttpLimits,
    #[cfg(feature = "websocket")]
    pub(super) subprotocols: Arc<[HeaderValue]>,
}

/// A policy of its own for each connection.
pub(super) type MakeLease = Arc<dyn Fn() -> Box<dyn LeasePolicy> + Send + Sync>;

impl Default for ServerBuilder {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            max_connections: 100_000,
            max_connections_per_address: None,
            connects_per_minute: None,
            max_newcomers: 1_024,
            runtimes: None,
            listen: ListenOptions::default(),
            live_config: None,
            drain: DrainSettings::default(),
            heartbeat: Duration::from_secs(25),
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
            filter: None,
            #[cfg(feature = "websocket")]
            clients: None,
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

    /// How many of them one address may have: an IPv4 address, or a /64 of IPv6. One more is refused at once; who
    /// comes back to a session is let in as far as a quarter more. Behind a proxy, from which all clients seem to come, it
    /// takes the [PROXY protocol](Self::proxy_protocol). Without it there is no bound.
    pub fn max_connections_per_address(mut self, max: usize) -> Self {
        self.max_connections_per_address = Some(max.max(1));
        self
    }

    /// How often in a minute one address may connect, as many times at once as that. Whoever comes more often is
    /// closed before a handshake costs anything. The same holds of proxies. Without it there is no bound.
    pub fn connects_per_minute(mut self, connects: NonZeroU32) -> Self {
        self.connects_per_minute = Some(connects);
        self
    }

    /// How many bytes of each connection are read in a second, on the average: what comes faster waits, and
    /// then so does its sender. As much as a second is for may come at once. Without it there is no bound.
    pub fn bytes_in_per_second(mut self, bytes: NonZeroU32) -> Self {
        self.settings.bytes_in_per_s = Some(bytes);
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

    /// Sets what each HTTP request has to pass before anything is done for it, one for a WebSocket as well: the answer
    /// that refuses it, or `None`. Any page
    /// that a browser has open may open WebSockets to any service that the browser reaches, with the user's
    /// cookies: where these, or where the browser is, let somebody in, `Origin` is to be looked at. Not asked for
    /// WebSockets that another HTTP server [hands over](Endpoint::upgrade).
    ///
    /// ```
    /// # use rsock::{*, http::RequestHead};
    /// let builder = Server::builder().filter_http(|head: &RequestHead<'_>| match head.header("origin") {
    ///     None | Some("https://app.example") => None,
    ///     Some(_) => Some(HttpResponse::text(403, "not for pages of this origin\n")),
    /// });
    /// ```
    #[cfg(feature = "websocket")]
    pub fn filter_http(
        mut self,
        filter: impl Fn(&RequestHead<'_>) -> Option<HttpResponse> + Send + Sync + 'static,
    ) -> Self {
        self.filter = Some(Arc::new(filter));
        self
    }

    /// Takes from HTTP proxies where clients come from, in this header: of requests, and of the connections that
    /// become WebSockets, whose limits of an address, and [`Peer::address`](crate::Peer::address), are the
    /// client's then, with the port 0. The word of proxies counts that `proxies` trusts; whoever else
    /// asks comes from where it comes from.
    #[cfg(feature = "websocket")]
    pub fn forwarded_clients(mut self, header: ForwardedHeader, proxies: ProxyProtocol) -> Self {
        self.clients = Some(ForwardedClients { header, proxies });
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

    /// Remembers the route of each stream and channel that a peer opens, and when it did, for whoever looks at the
    /// [connections](crate::Connections). It takes some hundred bytes for each that is open. By default nothing is remembered.
    pub fn remember_routes(mut self, remembers: bool) -> Self {
        self.settings.remembers_routes = remembers;
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
        self.bind_with(uris, []).await
    }

    /// Opens a listener for each URI, and takes others that are open already, as those of systemd: each with a
    /// URI that says what is spoken there and, to those who are told, where that is. With several runtimes the
    /// first listens to them for all.
    ///
    /// # Errors
    /// As for [`bind`](Self::bind).
    pub async fn bind_with(
        self,
        uris: &[impl AsRef<str>],
        open: impl IntoIterator<Item = (String, OpenListener)>,
    ) -> Result<Server, ConnectError> {
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
        for (uri, socket) in open {
            let uri = Uri::parse(&uri)?;
            #[cfg(feature = "tls")]
            secure::check(&uri, self.tls.is_some())?;
            let runtime = self.runtimes.as_ref().and_then(|runtimes| runtimes.handles().next());
            listeners.push(Listener::open(socket, uri, runtime)?);
        }
        Ok(Server { listeners, builder: self, connections: Connections::default() })
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
        Endpoint {
            service: Arc::new(Service::new(self, Arc::new(acceptor), Connections::default())),
        }
    }
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("config", &self.settings.config)
            .finish_non_exhaustive()
    }
}
