//! The table of settings: all that there is to be known of each, in one place.

use std::{fmt, io, num::NonZeroUsize, path::PathBuf, str::FromStr, thread, time::Duration};

use rsock::{
    HttpLimits, ProxyVersions, ResumeLimits, http::ForwardedHeader, proto::Config, tls::TlsVersion,
};
use tokio::runtime::{Builder, Runtime};

use super::{
    Reload::{Live, NewConnections, Restart},
    form::{
        ACCESS, ADDRESS, ANY_BYTES, ANY_COUNT, ANY_TIME, BYTE_RATE, BYTES, CLIENT_AUTH, CONSOLE,
        COUNT, DIRECTORY, FILE, FILTER, FRAGMENT, FRAME, FRAMES, HOST, HTTP, LOG_FORMAT, MODE,
        NETWORK, ORIGIN, OWNER, PROXY, RATE, ROUTE, RULE, RUNTIME, SIZE, SUBPROTOCOL, THREADS,
        TIME, TLS_VERSION, URI, YES,
    },
    settings,
};
use crate::{
    logging::{LogFilter, LogFormat},
    owner::UnixOwner,
    topics::TopicRule,
};

settings! {
    /// The settings of a service.
    Options;

    /// Addresses to listen on: tcp://HOST:PORT or ws://HOST:PORT/PATH, port 0 for any; tls:// and wss://
    /// for the same over TLS; unix:/PATH, or unix:@NAME for a name without a file (Linux); systemd:NAME,
    /// ws+systemd:NAME/PATH and so on for sockets that systemd has opened; may be repeated. WebSockets without
    /// RSocket are on the same ports, at /echo, /ws and /ws/topics/TOPIC
    list listen: String = ["tcp://127.0.0.1:7878", "ws://127.0.0.1:7879/rsocket"].map(str::to_owned).into(), URI, Restart;

    /// Addresses for those who run the service, as http://127.0.0.1:9090: health and readiness are told there as
    /// well, and figures there alone; https:// for the same over TLS; may be repeated
    list admin_listen: String = Vec::new(), HTTP, Restart;

    /// The file of a certificate for tls:// and wss://, with its chain, as PEM; may be repeated, each with
    /// its --tls-key: a client sees the one that is for the name it asks for, or else the first
    list tls_cert: PathBuf = Vec::new(), FILE, Restart;

    /// The file of the key of each --tls-cert, in the same order. All files of TLS are read anew with SIGHUP
    /// and when they change: what cannot be used changes nothing, and is logged
    list tls_key: PathBuf = Vec::new(), FILE, Restart;

    /// The file of the authorities of clients, as PEM: clients are asked for certificates of theirs
    maybe tls_client_ca: PathBuf = None, FILE, Restart;

    /// Whether clients have to have a certificate of --tls-client-ca: "required", or "optional", where those
    /// without are let in as nobody
    one tls_client_auth: ClientAuthKind = ClientAuthKind::Required, CLIENT_AUTH, Restart;

    /// The file of lists of revoked certificates of clients (CRL), as PEM
    maybe tls_client_crl: PathBuf = None, FILE, Restart;

    /// The oldest version of TLS that is spoken: 1.2 or 1.3
    one tls_min: TlsVersion = TlsVersion::Tls12, TLS_VERSION, Restart;

    /// An application protocol (ALPN) that is agreed upon with clients of tls:// that offer any; then those
    /// that offer others are refused. Without it, everyone is let in. May be repeated
    list tls_alpn: String = Vec::new(), SUBPROTOCOL, Restart;

    /// How often it is looked whether the files of TLS have changed; 0s leaves that to SIGHUP
    one tls_check_interval: Duration = Duration::from_secs(60), ANY_TIME, Restart;

    /// Whether connections begin with a header of the PROXY protocol, which says whose they are: "off",
    /// "any" version, "v1" or "v2". It is asked of all addresses of TCP, and needs --proxy-trust
    one proxy_protocol: ProxyKind = ProxyKind::Off, PROXY, Restart;

    /// A network of the proxies whose headers are taken, as 10.0.0.0/8 or ::1, of the PROXY protocol and of
    /// HTTP; with --proxy-protocol, connections of others are closed; may be repeated
    list proxy_trust: String = Vec::new(), NETWORK, Restart;

    /// The origin of HTTP clients, those of WebSockets among them: "socket", from where their connection comes, or
    /// as the proxies of --proxy-trust say in the header "x-forwarded-for" or "forwarded", which they have
    /// to set or append to
    one client_address: ClientAddressKind = ClientAddressKind::Socket, ADDRESS, Restart;

    /// Permissions of Unix sockets: the mode of their files, as 0660; by default the umask says it
    maybe unix_mode: u32 = None, MODE, Restart;

    /// Owner of the files of Unix sockets: USER, USER:GROUP or :GROUP, by name or number; only root
    /// gives them to another user
    maybe unix_owner: UnixOwner = None, OWNER, Restart;

    /// A subprotocol of WebSockets that is selected where a client offers it; none is required; may be
    /// repeated
    list subprotocol: String = vec!["rsocket".to_owned()], SUBPROTOCOL, Restart;

    /// An origin whose pages may use the service, as https://HOST:PORT or https://*.HOST; those of
    /// its own host may, and without --access those of this machine; null stands for pages without one; may
    /// be repeated
    list allow_origin: String = Vec::new(), ORIGIN, Live;

    /// A name by which clients may ask for the service, as chat.example, where only this machine reaches it
    /// and not everybody is asked who they are: others, which pages may have had made, are refused. Those
    /// of the machine itself need none; may be repeated
    list allow_host: String = Vec::new(), HOST, Live;

    /// The route of requests that name none, or "none" to refuse them
    one default_route: DefaultRoute = DefaultRoute::Route("echo".to_owned()), ROUTE, Restart;

    /// Connections at a time; more wait for half of --setup-timeout until one ends, and are refused
    /// then. Sessions whose connection was lost are not counted. Lowered to what the limit of open
    /// files is enough for
    one max_connections: u32 = 100_000, COUNT, Restart;

    /// Connections of one address (of IPv6, a /64) at a time; one more is refused. Without it there is no
    /// bound; behind a proxy, from which all clients seem to come, it takes --proxy-protocol
    maybe max_connections_per_address: u32 = None, COUNT, Restart;

    /// Connections of one user at a time, by whatever credentials, and sessions that wait for theirs; one more is
    /// refused. It needs --access
    maybe max_connections_per_user: u32 = None, COUNT, Restart;

    /// How often in a minute one address (of IPv6, a /64) may connect; what comes more often is closed
    /// before a handshake. Without it there is no bound; behind a proxy it takes --proxy-protocol
    maybe connects_per_minute: u32 = None, COUNT, Restart;

    /// Requests that one user may send in a second, over all connections, and a connection without a user;
    /// as many may come at once, and more are refused. Without it there is no bound
    maybe requests_per_second: u32 = None, COUNT, Restart;

    /// Messages that one user may publish in a second, over all connections and by joins too, and that a connection
    /// without a user may; as many may come at once, and more are refused. Without it there is no bound
    maybe publishes_per_second: u32 = None, RATE, Restart;

    /// Bytes that are read of one connection in a second, on the average; what comes faster waits. Without
    /// it there is no bound
    maybe bytes_in_per_second: u32 = None, BYTE_RATE, Restart;

    /// Sockets beside these whose clients have not been accepted yet; for one more, the oldest of the
    /// address that has most of them is closed
    one max_newcomers: u32 = 1_024, COUNT, Restart;

    /// HTTP connections beside these, on the ports of WebSockets; for one more, the one is closed that
    /// has been idle for the longest time, of the address that has most
    one max_http_connections: u32 = HttpLimits::default().max_connections as u32, COUNT, Restart;

    /// HTTP connections of one address (of IPv6, a /64); without it half of --max-http-connections.
    /// Behind a proxy, from which all clients seem to come, it should be all of them
    maybe max_http_connections_per_address: u32 = None, COUNT, Restart;

    /// How long an HTTP connection is kept for its next request
    one http_idle_timeout: Duration = HttpLimits::default().idle_timeout, TIME, Restart;

    /// How long an HTTP client may take nothing of an answer while there is something to take
    one http_stall_timeout: Duration = HttpLimits::default().stall_timeout, TIME, Restart;

    /// Streams a connection may hold open; more are refused
    one max_streams: u32 = Config::default().max_streams as u32, COUNT, NewConnections;

    /// The longest frame taken; a longer one ends its connection
    one max_frame: u32 = Config::default().max_frame_bytes as u32, FRAME, NewConnections;

    /// Bytes kept of the text of an error that a client sends; the rest of a longer one is cut off
    one max_error_text: u32 = Config::default().max_error_text_bytes as u32, ANY_BYTES, NewConnections;

    /// How long a client may take to begin with SETUP
    one setup_timeout: Duration = Config::default().setup_timeout, TIME, NewConnections;

    /// The largest frame sent; longer payloads are cut into fragments
    one mtu: u32 = Config::default().fragment_bytes.unwrap_or(rsock::proto::MAX_FRAME_BYTES) as u32, FRAGMENT, NewConnections;

    /// The longest payload put together from fragments; a longer one fails its stream
    one max_payload: u32 = Config::default().max_payload_bytes as u32, BYTES, NewConnections;

    /// Bytes of half-assembled payloads a connection may hold
    one max_reassembly: u32 = Config::default().max_reassembly_bytes as u32, BYTES, NewConnections;

    /// Bytes of payload that a connection's open requests may hold; more are refused
    one max_request_bytes: u32 = Config::default().max_request_bytes as u32, BYTES, NewConnections;

    /// Memory that all connections may hold together: a size, as 2GiB or 500MB, and not a share; by
    /// default half of what the machine has, or its control group. Near its end those that hold most
    /// are refused more
    maybe memory_max: usize = None, SIZE, Restart;

    /// Settings of the topics that a pattern covers, as 'orders.>=durable,age=7d': the kind (memory,
    /// durable, latest or none), then what differs; the first that covers a topic counts; may be repeated
    list topic: TopicRule = Vec::new(), RULE, Restart;

    /// Memory that the logs of all topics may hold together, beside that of connections: a size; by
    /// default 1GiB, and not more than a quarter of what the machine has, or its control group
    maybe topic_memory: usize = None, SIZE, Restart;

    /// Topics at a time; no further ones are made
    one max_topics: u32 = rsock_topics::Limits::default().topics as u32, COUNT, Restart;

    /// Topics of these that one connection may have made; a tenth of them unless given
    maybe max_topics_per_connection: u32 = None, COUNT, Restart;

    /// The directory that durable topics are kept in, made if there is none; without it they are refused
    maybe data: PathBuf = None, DIRECTORY, Restart;

    /// Bytes of all files in it: a size; beyond it publishes to durable topics are refused
    one data_max: usize = 10 << 30, SIZE, Restart;

    /// Lets durable topics that are found damaged in it at the start take messages again, without what is lost
    switch accept_damage: bool = false, YES, Restart;

    /// How long half a frame or half a payload may wait for a KiB more of it
    one part_timeout: Duration = Config::default().part_timeout, TIME, NewConnections;

    /// The longest silence of a client that is tolerated, whatever it asks for
    one max_lifetime: Duration = Config::default().max_lifetime, TIME, NewConnections;

    /// How long a session is kept whose connection was lost, for clients that ask to resume; 0s
    /// refuses them
    one resume_window: Duration = ResumeLimits::default().window, ANY_TIME, Restart;

    /// Bytes of sent frames a resumable session keeps until its client has them
    one resume_bytes: u32 = ResumeLimits::default().max_bytes as u32, FRAMES, Restart;

    /// Resumable sessions at a time; for one more, the one ends that has been without its connection for
    /// the longest time, of the address that has most
    one max_sessions: u32 = 10_000, COUNT, Restart;

    /// Resumable sessions of one address (of IPv6, a /64); without it half of --max-sessions. Behind a
    /// proxy, from which all clients seem to come, it should be all of them
    maybe max_sessions_per_address: u32 = None, COUNT, Restart;

    /// Give leases to clients that ask for them, so that about N requests run at a time in all;
    /// without it such clients are refused
    maybe lease: u32 = None, COUNT, Restart;

    /// Warnings logged about one address within ten seconds, ten times as many about all, and lines on
    /// fire-and-forget requests that fail; more are counted and summed up
    one max_warnings: u32 = 5, ANY_COUNT, Live;

    /// The file that says who comes in and who may do what, in its tables auth, grant and deny; SIGHUP reads it
    /// anew. These tables may stand in the file of settings as well. Without them nobody is asked, and only addresses of this machine are listened on
    maybe access: AccessFile = None, ACCESS, Restart;

    /// Append who came in, who did not and what was not permitted to this file, as lines of JSON
    maybe audit: PathBuf = None, FILE, Restart;

    /// Listen on addresses that others reach, though nobody is asked who they are
    switch open_to_all: bool = false, YES, Restart;

    /// How work is shared among threads: "shared", all serve all connections, whoever is free: best for
    /// uneven load, and on machines that do other things as well; or "per-core", each serves its own
    /// connections, which it takes on a socket of its own: less work a request where many connections are
    /// busy alike (Linux)
    one runtime: RuntimeKind = RuntimeKind::Shared, RUNTIME, Restart;

    /// Threads that serve connections; without it one for each core
    maybe workers: u16 = None, THREADS, Restart;

    /// Tells figures for Prometheus at /metrics, on the ports of WebSockets or at --admin-listen, and times
    /// requests for that
    switch metrics: bool = true, YES, Restart;

    /// The console, a page on / at the ports of WebSockets, and /console: "on", "off", or "auto": on where only this
    /// machine reaches the service, and no proxy is trusted, or where --access says who may use it
    one console: ConsoleKind = ConsoleKind::Auto, CONSOLE, Restart;

    /// How long connections are taken after SIGTERM, while /readyz says already that it is not ready: the time
    /// that a load balancer needs to see it
    one drain_grace: Duration = Duration::ZERO, ANY_TIME, Restart;

    /// The time over which connections are closed then, one after the other: clients that connect elsewhere do
    /// not come all at once. Those that heed it are told at its beginning
    one drain_spread: Duration = Duration::from_secs(5), ANY_TIME, Restart;

    /// How long open streams may take to end then; what is left is closed at once
    one drain_limit: Duration = Duration::from_secs(30), ANY_TIME, Restart;

    /// Closes each connection when it is as old, give or take a tenth, as at a stop: behind a balancer of
    /// connections, servers that come later get their share of them
    maybe max_connection_age: Duration = None, TIME, Restart;

    /// How often silent WebSockets are pinged, so that proxies do not forget them, and silent connections over
    /// TCP asked by the system; 0s turns that off
    one heartbeat: Duration = Duration::from_secs(25), ANY_TIME, Restart;

    /// The form of the log: "text", or "json" with an object a line
    one log_format: LogFormat = LogFormat::Text, LOG_FORMAT, Restart;

    /// Events to log to stderr: off, error, warn, info, debug or trace, by module as in
    /// info,rsock=debug; trace shows every frame. Lines that stderr does not take in time are left out,
    /// and counted
    one log: LogFilter = LogFilter::default(), FILTER, Live;
}

/// How the threads of a service share its work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RuntimeKind {
    /// All serve all connections, whoever is free: best for uneven load, and on machines that do
    /// other things as well
    #[default]
    Shared,
    /// Each serves its own connections, which it takes on a socket of its own: less work a request
    /// where many connections are busy alike; Linux only
    PerCore,
}

impl FromStr for RuntimeKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "shared" => Ok(Self::Shared),
            "per-core" => Ok(Self::PerCore),
            _ => Err("it must be shared or per-core".to_owned()),
        }
    }
}

impl fmt::Display for RuntimeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shared => "shared",
            Self::PerCore => "per-core",
        })
    }
}

/// The file with the tables `auth`, `grant` and `deny`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessFile {
    /// Its path. Files that it names are beside it, where their paths are not absolute.
    pub path: PathBuf,
    /// It is the file of settings, which has other keys as well.
    pub is_config: bool,
}

impl<P: Into<PathBuf>> From<P> for AccessFile {
    fn from(path: P) -> Self {
        Self { path: path.into(), is_config: false }
    }
}

/// The PROXY protocol that connections begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyKind {
    /// None.
    #[default]
    Off,
    /// One of these versions.
    On(ProxyVersions),
}

impl FromStr for ProxyKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "any" => Ok(Self::On(ProxyVersions::Any)),
            "v1" => Ok(Self::On(ProxyVersions::V1)),
            "v2" => Ok(Self::On(ProxyVersions::V2)),
            _ => Err("it must be off, any, v1 or v2".to_owned()),
        }
    }
}

impl fmt::Display for ProxyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::On(versions) => versions.fmt(f),
        }
    }
}

/// The place that says where an HTTP client comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientAddressKind {
    /// The socket.
    #[default]
    Socket,
    /// A header that proxies set.
    Header(ForwardedHeader),
}

impl FromStr for ClientAddressKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "socket" => Ok(Self::Socket),
            "x-forwarded-for" => Ok(Self::Header(ForwardedHeader::XForwardedFor)),
            "forwarded" => Ok(Self::Header(ForwardedHeader::Forwarded)),
            _ => Err("it must be socket, x-forwarded-for or forwarded".to_owned()),
        }
    }
}

impl fmt::Display for ClientAddressKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header(ForwardedHeader::XForwardedFor) => "x-forwarded-for",
            Self::Header(ForwardedHeader::Forwarded) => "forwarded",
            // A header of a later library has no name here, and nobody can ask for it.
            Self::Socket | Self::Header(_) => "socket",
        })
    }
}

/// Whether there is a console.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConsoleKind {
    /// One where only this machine reaches the service, or people are asked who they are.
    #[default]
    Auto,
    /// One for whoever reaches the service.
    On,
    /// None.
    Off,
}

impl FromStr for ConsoleKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            _ => Err("it must be auto, on or off".to_owned()),
        }
    }
}

impl fmt::Display for ConsoleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        })
    }
}

/// Whether clients have to have certificates, where they are asked for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientAuthKind {
    /// Those without are let in as nobody.
    Optional,
    /// Those without are refused.
    #[default]
    Required,
}

impl FromStr for ClientAuthKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "optional" => Ok(Self::Optional),
            "required" => Ok(Self::Required),
            _ => Err("it must be required or optional".to_owned()),
        }
    }
}

impl fmt::Display for ClientAuthKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Optional => "optional",
            Self::Required => "required",
        })
    }
}

impl Options {
    /// The runtime to bind and run the service on. That of [`RuntimeKind::PerCore`] has nothing to do
    /// but that: the service starts others.
    ///
    /// # Errors
    /// If the system gives no threads, or none of what a runtime needs.
    pub fn build_runtime(&self) -> io::Result<Runtime> {
        let mut builder = match self.runtime {
            RuntimeKind::Shared => Builder::new_multi_thread(),
            RuntimeKind::PerCore => Builder::new_current_thread(),
        };
        builder.worker_threads(self.threads().get()).thread_name("rsockd").enable_all().build()
    }

    /// The limits of one connection.
    pub(crate) fn config(&self) -> Config {
        let mut config = Config::default();
        config.max_streams = self.max_streams as usize;
        config.max_frame_bytes = self.max_frame as usize;
        config.max_error_text_bytes = self.max_error_text as usize;
        config.setup_timeout = self.setup_timeout;
        config.fragment_bytes = Some(self.mtu as usize);
        config.max_payload_bytes = self.max_payload as usize;
        config.max_reassembly_bytes = self.max_reassembly as usize;
        config.max_request_bytes = self.max_request_bytes as usize;
        config.part_timeout = self.part_timeout;
        config.max_lifetime = self.max_lifetime;
        config
    }

    /// The limits of plain HTTP.
    pub(crate) fn http_limits(&self) -> HttpLimits {
        let mut limits = HttpLimits::default();
        limits.max_connections = self.max_http_connections as usize;
        limits.max_connections_per_address =
            self.max_http_connections_per_address.map(|max| max as usize);
        limits.idle_timeout = self.http_idle_timeout;
        limits.stall_timeout = self.http_stall_timeout;
        limits
    }

    /// How many threads serve connections.
    pub(crate) fn threads(&self) -> NonZeroUsize {
        let asked = self.workers.and_then(|workers| NonZeroUsize::new(workers.into()));
        // One for each core that this process may use.
        asked.or_else(|| thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
    }

    /// The limits of a resumable session; `None` if there are none.
    pub(crate) fn resume(&self) -> Option<ResumeLimits> {
        let mut limits = ResumeLimits::default();
        limits.window = self.resume_window;
        limits.max_bytes = self.resume_bytes as usize;
        // As rsocket-js 1.0.0-alpha.3 writes RESUME; what counts are the token and the positions.
        limits.swapped_version = true;
        (!self.resume_window.is_zero()).then_some(limits)
    }
}

/// The route of requests that name none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefaultRoute {
    /// Nowhere: they are rejected.
    None,
    /// To this one.
    Route(String),
}

impl DefaultRoute {
    pub(super) fn read(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("it is empty; none refuses requests without a route".to_owned()),
            "none" => Ok(Self::None),
            route => Ok(Self::Route(route.to_owned())),
        }
    }
}

impl fmt::Display for DefaultRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Route(name) => name,
        })
    }
}
