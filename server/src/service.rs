//! The service: listeners, routes and what connects them.

use std::{fmt, io::ErrorKind, net::SocketAddr, num::NonZeroU32, sync::Arc, time::Duration};

use rsock::{
    ConnectError, IoError, LiveConfig, MemoryBudget, Meter, ProxyProtocol, Router, Server,
    SharedLease,
};
use rsock_topics::Service as TopicService;

use crate::{
    access::{Access, Door},
    admin::Admin,
    app::{App, app_on},
    cores::Cores,
    doors::{OriginPattern, Rates},
    frames,
    gateway::{Drain, Gateway},
    http::{self, Front, WebDoor, WebRules},
    plain::Plain,
    reload::Reloader,
    settings::{ClientAddressKind, ConsoleKind, DefaultRoute, Options, ProxyKind, RuntimeKind},
    sockets,
    tls::{self, Certificates},
    topics::{self, Judge, LocalAdmin},
    visitors::Visitors,
};

/// A service whose listeners are open.
#[derive(Debug)]
pub struct Service {
    server: Server,
    admin: Option<Admin>,
    app: App,
    router: Router<App>,
    drain_grace: Duration,
    cores: Option<Cores>,
    memory: Arc<MemoryBudget>,
    topics: TopicService,
    access: Option<Access>,
    rates: Arc<Rates>,
    live: Live,
    console: Option<String>,
}

/// The settings that can be changed while a service runs.
#[derive(Clone, Debug)]
pub struct Live {
    config: LiveConfig,
    meter: Arc<Meter>,
    certificates: Option<Certificates>,
    access: Option<Access>,
    web: WebDoor,
    app: App,
}

impl Live {
    /// Settings could not be read anew: it is counted.
    pub fn refuse(&self) {
        self.app.reloads().add(false);
    }

    /// Resolves when who administers the service has asked for its end, gently.
    pub fn drain_asked(&self) -> impl Future<Output = ()> + Send + use<> {
        self.app.operations().drain_asked()
    }

    /// Has these settings act, as far as that takes no restart, with certificates and who may do what as their
    /// files have it now: all of it, or nothing.
    ///
    /// # Errors
    /// The file that cannot be used, and why, as a sentence: nothing has changed.
    pub fn apply(&self, options: &Options) -> Result<(), String> {
        check(options)?;
        let applied = self.try_apply(options);
        self.app.reloads().add(applied.is_ok());
        applied
    }

    fn try_apply(&self, options: &Options) -> Result<(), String> {
        let access = self.access.as_ref();
        let next = access.map(Access::read_anew).transpose().map_err(|error| error.to_string())?;
        // The last that may fail changes by itself.
        if let Some(certificates) = &self.certificates {
            certificates.reload().map_err(|error| error.to_string())?;
        }
        if let Some((access, next)) = access.zip(next) {
            access.take(next);
        }
        self.config.set(options.config());
        self.meter.set_max_warnings(options.max_warnings);
        self.web.set(web_rules(options));
        Ok(())
    }
}

impl Service {
    /// Opens the listeners. Connections wait until [`run`](Self::run) takes them.
    ///
    /// # Errors
    /// A listener that cannot be opened, a default route that does not exist, or threads that cannot
    /// be started.
    pub async fn bind(options: Options) -> Result<Self, StartError> {
        if options.runtime == RuntimeKind::PerCore && !cfg!(target_os = "linux") {
            return Err(StartError::PerCore);
        }
        let cores = match options.runtime {
            RuntimeKind::Shared => None,
            RuntimeKind::PerCore => Some(
                Cores::start(options.threads())
                    .map_err(|error| StartError::Threads(error.into()))?,
            ),
        };
        let runtimes = cores.as_ref().map(Cores::runtimes);
        let meter = Arc::new(Meter::default().max_warnings(options.max_warnings));
        let memory = options.memory_max.map_or_else(MemoryBudget::of_process, MemoryBudget::new);
        check(&options).map_err(StartError::Settings)?;
        let access = open_access(&options)?;
        let is_told = options.proxy_protocol != ProxyKind::Off;
        let judge = Judge::new(access.as_ref(), is_told);
        let topics = topics::open(&options, judge).await.map_err(StartError::Topics)?;
        let (app, mut router) = app_on(
            Arc::clone(&meter),
            Arc::clone(&memory),
            runtimes.cloned(),
            &topics,
            access.clone(),
        );
        if let Some(access) = access.clone() {
            let default = match &options.default_route {
                DefaultRoute::None => None,
                DefaultRoute::Route(name) => Some(name.clone()),
            };
            let (guard, of_guard) = (access.clone(), default.clone());
            router = router
                .admit(move |_, request| access.admit(request, default.as_deref()))
                .guard_items(move |_, request| guard.guard(request, of_guard.as_deref()));
        }
        if let DefaultRoute::Route(name) = &options.default_route {
            let routes = router.routes();
            if !routes.iter().any(|(known, ..)| known == name) {
                let known = routes.into_iter().map(|(known, ..)| known).collect();
                return Err(StartError::DefaultRoute { name: name.clone(), known });
            }
            router = router.default_route(name);
        }
        let tls = tls::of(&options).map_err(StartError::Tls)?;
        let live = Live {
            config: LiveConfig::new(options.config()),
            meter: Arc::clone(&meter),
            certificates: tls.as_ref().map(|tls| Certificates::of(tls, &options)),
            access: access.clone(),
            web: WebDoor::new(
                web_rules(&options),
                access.clone(),
                ProxyProtocol::from(&options.proxy_trust).ok(),
            ),
            app: app.clone(),
        };
        let at_least_one = |number: Option<u32>| number.and_then(NonZeroU32::new);
        let rates = Rates::new(
            at_least_one(options.requests_per_second),
            options.max_connections_per_user.map(|max| max as usize),
            Arc::clone(&meter),
        );
        let visitors = Visitors::new(router.clone(), access.clone(), Arc::clone(&rates));
        let drain = Drain {
            begins: app.draining(),
            grace: options.drain_grace,
            spread: options.drain_spread,
        };
        let plain = Plain::new(visitors.clone(), options.setup_timeout);
        let gateway = Gateway::new(visitors, drain);
        let has_admin = !options.admin_listen.is_empty();
        let has_metrics = options.metrics && !has_admin;
        let local_admin = (!has_admin).then(|| LocalAdmin::new(is_told));
        let front = Front::new(app.clone(), has_metrics, local_admin, Some(gateway), Some(plain));
        // Clients come there themselves.
        let local_admin = Some(LocalAdmin::new(false));
        let admin_front = Front::new(app.clone(), options.metrics, local_admin, None, None);
        let door = live.web.clone();
        if let Some(certificates) = &live.certificates {
            app.set_certificates(certificates.clone());
        }
        let admin = Admin::bind(&options, &admin_front, &door, &memory, tls.as_ref()).await?;
        let (listen, sockets) = sockets::take(&options.listen).map_err(StartError::Sockets)?;
        let mut builder = Server::builder()
            .live_config(live.config.clone())
            .max_connections(options.max_connections as usize)
            .max_newcomers(options.max_newcomers as usize)
            .meter(meter)
            .memory(Arc::clone(&memory))
            .http(front.clone())
            .filter_http(move |head| door.refusal(head))
            .subprotocols(&options.subprotocol)
            .http_limits(options.http_limits())
            .drain_limit(options.drain_limit)
            .drain_spread(options.drain_spread)
            .max_connection_age(options.max_connection_age)
            .remember_routes(true)
            .heartbeat(options.heartbeat);
        if options.metrics {
            builder = builder.observe(Arc::new(app.requests().clone()));
        }
        if let Some(proxies) = proxies(&options).map_err(StartError::Settings)? {
            builder = builder.proxy_protocol(proxies);
        }
        if let ClientAddressKind::Header(header) = options.client_address
            && let Ok(proxies) = ProxyProtocol::from(&options.proxy_trust)
        {
            builder = builder.forwarded_clients(header, proxies);
        }
        if let Some(max) = options.max_connections_per_address {
            builder = builder.max_connections_per_address(max as usize);
        }
        if let Some(connects) = at_least_one(options.connects_per_minute) {
            builder = builder.connects_per_minute(connects);
        }
        if let Some(bytes) = at_least_one(options.bytes_in_per_second) {
            builder = builder.bytes_in_per_second(bytes);
        }
        if let Some(tls) = tls {
            builder = builder.tls(tls);
        }
        if let Some(runtimes) = runtimes {
            builder = builder.runtimes(runtimes.clone());
        }
        #[cfg(unix)]
        if let Some(mode) = options.unix_mode {
            builder = builder.unix_mode(mode);
        }
        #[cfg(unix)]
        if let Some(owner) = options.unix_owner {
            builder = builder.unix_owner(owner.user, owner.group);
        }
        if let Some(limits) = options.resume() {
            builder = builder.resume(limits, options.max_sessions as usize);
            if let Some(max) = options.max_sessions_per_address {
                builder = builder.max_sessions_per_address(max as usize);
            }
        }
        if let Some(max_running) = options.lease {
            builder = builder.lease(SharedLease::new(max_running));
        }
        if let Some(tap) = frames::tap() {
            builder = builder.tap(tap);
        }
        let server = builder.bind_with(&listen, sockets).await.map_err(StartError::Listen)?;
        app.operations().begin(server.connections(), options.clone());
        let addresses = server.addresses();
        let mut all = admin.as_ref().map(Admin::addresses).unwrap_or_default();
        all.extend_from_slice(&addresses);
        if access.is_none() && !options.open_to_all {
            // Nobody has been taken yet.
            check_reach(&all)?;
        }
        let has_console = match options.console {
            ConsoleKind::On => true,
            ConsoleKind::Off => false,
            // Where they have not been asked, nobody else is to come.
            ConsoleKind::Auto => {
                access.is_some() || check_reach(&all).is_ok() && options.proxy_trust.is_empty()
            }
        };
        front.set_addresses(&addresses, has_console);
        admin_front.set_addresses(&addresses, false);
        let drain_grace = options.drain_grace;
        Ok(Self {
            server,
            admin,
            app,
            router,
            drain_grace,
            cores,
            memory,
            topics,
            access,
            rates,
            live,
            console: has_console.then(|| console_page(&addresses)).flatten(),
        })
    }

    /// The addresses it listens on, with the ports it was given.
    pub fn addresses(&self) -> Vec<String> {
        self.server.addresses()
    }

    /// The addresses of HTTP for those who run it, with the ports they were given.
    pub fn admin_addresses(&self) -> Vec<String> {
        self.admin.as_ref().map(Admin::addresses).unwrap_or_default()
    }

    /// The URL of the console, if there is one.
    pub fn console(&self) -> Option<&str> {
        self.console.as_deref()
    }

    /// The memory that its connections share.
    pub fn memory(&self) -> &Arc<MemoryBudget> {
        &self.memory
    }

    /// Has those who administer it over HTTP see where settings come from, and have them read anew. Without it
    /// they see the settings alone.
    pub fn administer_with(&self, reloader: Reloader) {
        self.app.operations().set_reloader(reloader);
    }

    /// The settings that can be changed while it runs.
    pub fn live(&self) -> Live {
        self.live.clone()
    }

    /// Serves until `shutdown` resolves. Then it is not ready, takes connections for `drain_grace` more, closes
    /// those without open streams within `drain_spread`, and the others within `drain_limit`.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send + 'static) {
        let Self {
            server,
            admin,
            app,
            router,
            drain_grace,
            cores,
            topics,
            access,
            rates,
            live,
            ..
        } = self;
        if let Some(access) = &access {
            access.start();
        }
        let shutdown = async move {
            let asked = app.operations().drain_asked();
            tokio::select! {
                // Whoever waits for it in there has its say first.
                biased;
                () = shutdown => {}
                () = asked => {}
            }
            app.drain();
            // Whoever sends clients here needs time to see that it is not ready.
            tokio::time::sleep(drain_grace).await;
        };
        // It tells how the drain goes, and so is there until the end.
        let admin = admin.map(Admin::serve);
        let watching = live.certificates.map(Certificates::watch);
        let door = Door { router, access: access.clone(), rates };
        server.serve(door).with_graceful_shutdown(shutdown).await;
        drop(watching);
        if let Some(cores) = cores {
            cores.end().await;
        }
        topics::close(topics).await;
        if let Some(access) = access {
            access.close();
        }
        drop(admin);
    }
}

/// Looks whether settings fit each other.
///
/// # Errors
/// What does not, as a sentence.
pub(crate) fn check(options: &Options) -> Result<(), String> {
    let nobody_is_asked = options.access.is_none();
    if options.audit.is_some() && nobody_is_asked {
        return Err("--audit needs --access: where nobody is asked, nothing is refused".to_owned());
    }
    if options.max_connections_per_user.is_some() && nobody_is_asked {
        return Err("--max-connections-per-user needs --access: where nobody is asked, nobody is \
                    known"
            .to_owned());
    }
    http::check_paths(&options.listen)?;
    if options.client_address != ClientAddressKind::Socket && options.proxy_trust.is_empty() {
        return Err(
            "--client-address needs --proxy-trust, the networks of the proxies: whoever may \
                    say where a request comes from may be anyone"
                .to_owned(),
        );
    }
    proxies(options).map(drop)
}

/// The judge of who comes in, if these options name a file that says it.
fn open_access(options: &Options) -> Result<Option<Access>, StartError> {
    let Some(file) = &options.access else {
        return Ok(None);
    };
    let access = Access::open(file, options.setup_timeout).map_err(StartError::Access)?;
    if let Some(file) = &options.audit {
        access.audit_to(file).map_err(StartError::Access)?;
    }
    Ok(Some(access))
}

/// Whether only this machine reaches these addresses.
fn check_reach(addresses: &[String]) -> Result<(), StartError> {
    let is_far = |uri: &&String| {
        let Some((scheme, rest)) = uri.split_once("://") else { return false };
        let authority = rest.split('/').next().unwrap_or_default();
        let ip = authority.parse::<SocketAddr>().map(|at| at.ip().to_canonical());
        // Over TLS it stays the name that the certificate is for.
        let is_here = authority.rsplit_once(':').is_some_and(|(host, _)| host == "localhost");
        // What is no address of a network is a Unix socket, whose file says who may.
        !scheme.starts_with("unix") && !is_here && !ip.is_ok_and(|ip| ip.is_loopback())
    };
    match addresses.iter().find(is_far) {
        None => Ok(()),
        Some(address) => Err(StartError::OpenToAll(address.clone())),
    }
}

/// The rules on pages and proxies that settings have.
fn web_rules(options: &Options) -> WebRules {
    // Settings are of the right form.
    let origins = options.allow_origin.iter().filter_map(|text| text.parse::<OriginPattern>().ok());
    WebRules { origins: origins.collect(), hosts: options.allow_host.clone() }
}

/// The proxies that settings trust, if connections come from them.
fn proxies(options: &Options) -> Result<Option<ProxyProtocol>, String> {
    match (options.proxy_protocol, options.proxy_trust.as_slice()) {
        // What they say in HTTP is looked at elsewhere.
        (ProxyKind::Off, _) => Ok(None),
        (ProxyKind::On(_), []) => Err("--proxy-protocol needs --proxy-trust, the networks of the \
                                       proxies: whoever may say whose a connection is may be anyone"
            .to_owned()),
        (ProxyKind::On(versions), trusted) => {
            Ok(Some(ProxyProtocol::from(trusted)?.versions(versions)))
        }
    }
}

/// Why a service did not start.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartError {
    /// The settings of access are wrong, or a file that they need: a sentence.
    Access(String),
    /// Others would reach this address, and nobody would be asked who they are.
    OpenToAll(String),
    /// The default route is none of the routes.
    DefaultRoute {
        /// The route that was asked for.
        name: String,
        /// The routes that there are.
        known: Vec<String>,
    },
    /// A listener cannot be opened.
    Listen(ConnectError),
    /// Listeners that share a port among several runtimes are to be had on Linux alone.
    PerCore,
    /// A socket of systemd's that is to be listened on is not there: a sentence.
    Sockets(String),
    /// Settings contradict each other: a sentence.
    Settings(String),
    /// The settings of TLS contradict each other: a sentence.
    Tls(String),
    /// The settings of topics contradict each other, or their directory cannot be used: a sentence.
    Topics(String),
    /// The threads that are to serve cannot be started.
    Threads(IoError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topics(problem)
            | Self::Tls(problem)
            | Self::Settings(problem)
            | Self::Sockets(problem) => f.write_str(problem),
            Self::Access(problem) => write!(f, "access: {problem}"),
            Self::OpenToAll(address) => write!(
                f,
                "refusing to serve everyone on {address}: say who comes in with --access FILE (see \
                 docs/security.md), or pass --open-to-all"
            ),
            Self::DefaultRoute { name, known } => {
                write!(f, "no default route {name:?}: there is {}, or none", known.join(", "))
            }
            Self::PerCore => f.write_str(
                "a runtime for each core needs Linux, where several listeners share a port: \
                 use --runtime=shared",
            ),
            Self::Threads(error) => write!(f, "cannot start a thread for each core: {error}"),
            Self::Listen(error) => {
                write!(f, "cannot listen: {error}")?;
                match error {
                    ConnectError::Io { address, error, .. } => advise(address, error.kind(), f),
                    _ => Ok(()),
                }
            }
        }
    }
}

/// The advice where a port cannot be listened on.
fn advise(address: &str, problem: ErrorKind, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    // The names of Unix sockets have no port, and their error says who has them.
    let Some((host, port)) = address.rsplit_once(':') else { return Ok(()) };
    let Ok(number) = port.parse::<u16>() else { return Ok(()) };
    match problem {
        ErrorKind::AddrInUse => write!(
            f,
            "; another process has the port, perhaps another rsockd: `ss -ltnp sport = :{port}` shows \
             which on Linux; port 0, as in --listen tcp://{host}:0, takes one that is free"
        ),
        ErrorKind::AddrNotAvailable => f.write_str(
            "; this machine has no such address: 127.0.0.1 is reached from itself alone, and 0.0.0.0 \
             stands for all that it has",
        ),
        ErrorKind::PermissionDenied if number < 1_024 => f.write_str(
            "; ports below 1024 are for root, and on Linux for programs with CAP_NET_BIND_SERVICE",
        ),
        _ => Ok(()),
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Listen(error) => Some(error),
            Self::Threads(error) => Some(error.get()),
            Self::DefaultRoute { .. }
            | Self::PerCore
            | Self::Settings(_)
            | Self::Tls(_)
            | Self::Sockets(_)
            | Self::Topics(_)
            | Self::Access(_)
            | Self::OpenToAll(_) => None,
        }
    }
}

/// The same address as one to connect to: what stands for all addresses of a machine is none.
fn reachable(uri: &str) -> String {
    uri.replacen("//0.0.0.0:", "//127.0.0.1:", 1).replacen("//[::]:", "//[::1]:", 1)
}

/// The page of the console of a service at these addresses.
fn console_page(addresses: &[String]) -> Option<String> {
    let uri = addresses.iter().find(|uri| uri.starts_with("ws://") || uri.starts_with("wss://"))?;
    let uri = reachable(uri).replacen("ws", "http", 1);
    let (scheme, rest) = uri.split_once("://")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let page = if path.is_empty() { "console" } else { "" };
    Some(format!("{scheme}://{authority}/{page}"))
}

/// Commands to copy that try a service at these addresses.
pub fn try_it(addresses: &[String]) -> String {
    let Some(uri) = addresses.first() else { return String::new() };
    let uri = reachable(uri);
    let uri = if ["tls:", "wss:"].iter().any(|scheme| uri.starts_with(scheme)) {
        // Whose the authority is, nobody knows here.
        format!("{uri} --ca FILE")
    } else {
        uri
    };
    format!(
        "try it:\n  \
         rsock request {uri} -r echo -d hello\n  \
         rsock stream {uri} -r range -d '{{\"to\":10}}'\n  \
         rsock request {uri} -r routes\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_not_to_be_had_comes_with_advice() {
        let told = |address: &str, problem: ErrorKind| {
            let error = std::io::Error::from(problem).into();
            let (address, tried) = (address.to_owned(), String::new());
            StartError::Listen(ConnectError::Io { address, error, tried }).to_string()
        };
        let taken = told("[::1]:7878", ErrorKind::AddrInUse);
        assert!(taken.contains("sport = :7878"), "{taken}");
        assert!(taken.ends_with("port 0, as in --listen tcp://[::1]:0, takes one that is free"));
        assert!(!told("unix:/a", ErrorKind::AddrInUse).contains("port"));
        assert!(told("1.2.3.4:1", ErrorKind::AddrNotAvailable).contains("0.0.0.0 stands for all"));
        assert!(told("127.0.0.1:80", ErrorKind::PermissionDenied).contains("below 1024 are for"));
        assert!(!told("127.0.0.1:8080", ErrorKind::PermissionDenied).contains("1024"));
    }

    #[test]
    fn only_addresses_that_this_machine_alone_reaches_need_nobody_to_be_asked() {
        for near in [
            "tcp://127.0.0.1:1",
            "ws://[::1]:2/rsocket",
            "tls://localhost:3",
            "tcp://[::ffff:127.0.0.1]:4",
            "unix:/tmp/x.sock",
            "unix:@name",
        ] {
            assert_eq!(check_reach(&[near.to_owned()]), Ok(()), "{near}");
        }
        for far in ["tcp://0.0.0.0:1", "ws://[::]:2/", "wss://example.org:3/", "tls://10.0.0.1:4"] {
            let addresses = ["tcp://127.0.0.1:1".to_owned(), far.to_owned()];
            assert_eq!(check_reach(&addresses), Err(StartError::OpenToAll(far.to_owned())));
        }
    }

    #[test]
    fn the_console_has_a_page_to_open() {
        let page = |uri: &str| console_page(&["tcp://h:1".to_owned(), uri.to_owned()]);
        assert_eq!(page("ws://0.0.0.0:2/x").as_deref(), Some("http://127.0.0.1:2/"));
        assert_eq!(page("ws://[::1]:2/").as_deref(), Some("http://[::1]:2/console"));
        assert_eq!(page("wss://localhost:2/x").as_deref(), Some("https://localhost:2/"));
        assert_eq!(page("unix:/x"), None);
    }

    #[test]
    fn the_commands_have_an_address_to_connect_to() {
        for (listens, connect) in [
            ("tcp://127.0.0.1:1", "tcp://127.0.0.1:1"),
            ("ws://0.0.0.0:1/x", "ws://127.0.0.1:1/x"),
            ("tcp://[::]:1", "tcp://[::1]:1"),
            ("tls://0.0.0.0:1", "tls://127.0.0.1:1 --ca FILE"),
        ] {
            let text = try_it(&[listens.to_owned(), "ws://h:2/".to_owned()]);
            assert!(text.contains(&format!("  rsock stream {connect} -r range")), "{text}");
        }
    }
}
