//! Listening: from a URI to the sockets that take its connections.

use std::{fmt, io, net::SocketAddr, time::Duration};

#[cfg(any(target_os = "android", target_os = "linux"))]
use socket2::{SockRef, TcpKeepalive};
#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::{
    net::{TcpListener, TcpSocket, lookup_host},
    runtime::Handle,
};

#[cfg(unix)]
use crate::transport::unix::{self, SocketFile};
use crate::{
    error::ConnectError,
    transport::{
        address::{Address, HostPort, Uri},
        socket::Socket,
    },
};

/// There are no files of sockets where there are no Unix sockets.
#[cfg(not(unix))]
type SocketFile = std::convert::Infallible;

/// The system's queue of connections that nobody has taken yet, as tokio's own listeners have it.
const BACKLOG: u32 = 1024;

/// An address that is listened on.
#[derive(Debug)]
pub(crate) struct Listener {
    /// For each address that its host has: one for all, or one for each runtime, in their order, woken by
    /// it. Of a Unix socket there is one for all, woken by the first.
    pub(crate) sockets: Vec<ListeningSocket>,
    /// With the port it was given.
    pub(crate) uri: Uri,
    /// To be kept for as long as it listens.
    pub(crate) file: Option<SocketFile>,
}

/// A socket that takes connections.
#[derive(Debug)]
pub(crate) enum ListeningSocket {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

impl ListeningSocket {
    pub(crate) async fn accept(&self) -> io::Result<(Socket, Remote)> {
        match self {
            Self::Tcp(socket) => {
                let (socket, address) = socket.accept().await?;
                Ok((Socket::Tcp(socket), Remote::Address(address)))
            }
            #[cfg(unix)]
            Self::Unix(socket) => {
                let (socket, _) = socket.accept().await?;
                let user = unix::user(&socket).map(|user| user.uid);
                Ok((Socket::Unix(socket), Remote::User(user)))
            }
        }
    }
}

impl ListeningSocket {
    /// Has the system ask connections that come from now on whether they are there, after so long a silence,
    /// where it lets connections be as their listener is.
    #[cfg(any(target_os = "android", target_os = "linux"))]
    pub(crate) fn keep_alive(&self, interval: Duration) -> io::Result<()> {
        let Self::Tcp(socket) = self else { return Ok(()) };
        // The system counts in seconds.
        let interval = interval.max(Duration::from_secs(1));
        let settings = TcpKeepalive::new().with_time(interval).with_interval(interval);
        SockRef::from(socket).set_tcp_keepalive(&settings)
    }

    /// Does nothing.
    #[cfg(not(any(target_os = "android", target_os = "linux")))]
    pub(crate) fn keep_alive(&self, _: Duration) -> io::Result<()> {
        Ok(())
    }
}

/// A socket that listens already, as one that systemd has opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenListener {
    /// Of TCP.
    Tcp(std::net::TcpListener),
    /// A Unix socket. Its file stays when the server stops.
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixListener),
}

impl From<std::net::TcpListener> for OpenListener {
    fn from(socket: std::net::TcpListener) -> Self {
        Self::Tcp(socket)
    }
}

#[cfg(unix)]
impl From<std::os::unix::net::UnixListener> for OpenListener {
    fn from(socket: std::os::unix::net::UnixListener) -> Self {
        Self::Unix(socket)
    }
}

impl OpenListener {
    /// The socket, woken by the runtime this runs on.
    fn listening(self) -> io::Result<ListeningSocket> {
        match self {
            Self::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                TcpListener::from_std(socket).map(ListeningSocket::Tcp)
            }
            #[cfg(unix)]
            Self::Unix(socket) => {
                socket.set_nonblocking(true)?;
                UnixListener::from_std(socket).map(ListeningSocket::Unix)
            }
        }
    }
}

/// The other end of a connection, as the transport knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Remote {
    Address(SocketAddr),
    /// Somebody on this machine; the system may not say who.
    #[cfg(unix)]
    User(Option<u32>),
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            #[cfg(unix)]
            Self::User(Some(user)) => write!(f, "unix:uid={user}"),
            #[cfg(unix)]
            Self::User(None) => f.write_str("unix"),
        }
    }
}

/// The options of sockets that listen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ListenOptions {
    /// The owner and the mode of the file of a Unix socket.
    #[cfg(unix)]
    pub(crate) access: unix::Access,
}

impl Listener {
    /// Listens with one socket, woken by the runtime this runs on.
    pub(crate) async fn bind(uri: Uri, options: ListenOptions) -> Result<Self, ConnectError> {
        check(&uri)?;
        match &uri.address {
            Address::Tcp(target) => {
                let addresses = addresses_of(target).await.map_err(|error| failed(&uri, error))?;
                let open = |address| Ok(vec![listening(address)?]);
                Self::tcp(open_all(&addresses, open).map_err(|error| failed(&uri, error))?, uri)
            }
            #[cfg(unix)]
            Address::Unix(name) => {
                let bound = unix::bind(name, options.access).await;
                Self::unix(bound.and_then(|bound| bound.listen(BACKLOG)), uri)
            }
        }
    }

    /// Listens with one socket for each of these runtimes, of which there is at least one; with one for
    /// all at an address that sockets cannot share.
    pub(crate) async fn bind_each<'a>(
        uri: Uri,
        options: ListenOptions,
        runtimes: impl ExactSizeIterator<Item = &'a Handle> + Clone,
    ) -> Result<Self, ConnectError> {
        check(&uri)?;
        match &uri.address {
            Address::Tcp(target) => {
                let addresses = addresses_of(target).await.map_err(|error| failed(&uri, error))?;
                let open = |address| open_each(address, runtimes.clone());
                Self::tcp(open_all(&addresses, open).map_err(|error| failed(&uri, error))?, uri)
            }
            #[cfg(unix)]
            Address::Unix(name) => {
                let bound = unix::bind(name, options.access).await;
                let woken_by = runtimes.clone().next().map(Handle::enter);
                let listening = bound.and_then(|bound| bound.listen(BACKLOG));
                drop(woken_by);
                Self::unix(listening, uri)
            }
        }
    }

    /// Takes connections of a socket that listens already, as this URI says, which is told of it; woken by
    /// this runtime, or by the one this runs on.
    pub(crate) fn open(
        socket: OpenListener,
        uri: Uri,
        woken_by: Option<&Handle>,
    ) -> Result<Self, ConnectError> {
        check(&uri)?;
        let woken_by = woken_by.map(Handle::enter);
        let socket = socket.listening().map_err(|error| failed(&uri, error))?;
        drop(woken_by);
        Ok(Self { sockets: vec![socket], uri, file: None })
    }

    fn tcp(opened: Opened, mut uri: Uri) -> Result<Self, ConnectError> {
        let Opened { sockets, is_whole } = opened;
        if let (Some(socket), Address::Tcp(target)) = (sockets.first(), &mut uri.address) {
            let bound = socket.local_addr();
            let bound = bound.map_err(|error| ConnectError::io(target.to_string(), error))?;
            target.port = bound.port();
            if !is_whole {
                // The name would promise more than there is.
                target.host = bound.ip().to_string();
            }
        }
        let sockets = sockets.into_iter().map(ListeningSocket::Tcp).collect();
        Ok(Self { sockets, uri, file: None })
    }

    #[cfg(unix)]
    fn unix(
        listening: io::Result<(UnixListener, Option<SocketFile>)>,
        uri: Uri,
    ) -> Result<Self, ConnectError> {
        let (socket, file) = listening.map_err(|error| failed(&uri, error))?;
        Ok(Self { sockets: vec![ListeningSocket::Unix(socket)], uri, file })
    }
}

fn check(uri: &Uri) -> Result<(), ConnectError> {
    let problem = if uri.layout.has_query() {
        "the path to listen on has no query"
    } else if uri.layout.has_credentials() {
        "an address to listen on has no credentials"
    } else {
        return Ok(());
    };
    Err(ConnectError::Uri { uri: uri.to_string(), problem: problem.to_owned() })
}

fn failed(uri: &Uri, error: io::Error) -> ConnectError {
    ConnectError::io(uri.address.to_string(), error)
}

/// The addresses of a host, each once.
async fn addresses_of(target: &HostPort) -> io::Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for address in lookup_host((target.host.as_str(), target.port)).await? {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// The sockets on one port of all addresses of a host that this machine has.
struct Opened {
    sockets: Vec<TcpListener>,
    /// The machine has all of them, or only one is listened on, and no more are told of.
    is_whole: bool,
}

/// How often another port is taken where the one that an address gave is not free at the others.
const TRIES: usize = 16;

/// Listens on all addresses of a host, as localhost has one of each family: whoever dials the name takes
/// either. Those that the machine does not have are left out.
fn open_all(
    addresses: &[SocketAddr],
    open: impl Fn(SocketAddr) -> io::Result<Vec<TcpListener>>,
) -> io::Result<Opened> {
    let mut tries = 0;
    loop {
        tries += 1;
        match open_all_once(addresses, &open) {
            // With port 0 the system chooses the port, at the first address.
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && addresses.iter().all(|address| address.port() == 0)
                    && tries < TRIES => {}
            outcome => return outcome,
        }
    }
}

fn open_all_once(
    addresses: &[SocketAddr],
    open: impl Fn(SocketAddr) -> io::Result<Vec<TcpListener>>,
) -> io::Result<Opened> {
    let (mut sockets, mut missing) = (Vec::new(), None);
    for &(mut address) in addresses {
        if let Some(first) = sockets.first() {
            let first: &TcpListener = first;
            address.set_port(first.local_addr()?.port());
        }
        match open(address) {
            Ok(more) => sockets.extend(more),
            Err(error) if is_missing(&error) => missing = Some(error),
            Err(error) => return Err(error),
        }
    }
    if sockets.is_empty() {
        return Err(missing.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()));
    }
    Ok(Opened { sockets, is_whole: missing.is_none() })
}

/// Whether the machine does not have the address, or nothing of its family.
fn is_missing(error: &io::Error) -> bool {
    // EAFNOSUPPORT has no kind of its own.
    error.kind() == io::ErrorKind::AddrNotAvailable
        || (cfg!(target_os = "linux") && error.raw_os_error() == Some(97))
}

fn listening(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = unbound(address)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn open_each<'a>(
    mut address: SocketAddr,
    runtimes: impl ExactSizeIterator<Item = &'a Handle>,
) -> io::Result<Vec<TcpListener>> {
    if address.port() != 0 {
        // A port that may be shared is shared with any process of the same user, and each would get
        // a part of the connections. So it is asked for alone first.
        unbound(address)?.bind(address)?;
    }
    let mut sockets = Vec::with_capacity(runtimes.len());
    for runtime in runtimes {
        let socket = unbound(address)?;
        share_port(&socket)?;
        socket.bind(address)?;
        let woken_by = runtime.enter();
        let socket = socket.listen(BACKLOG)?;
        drop(woken_by);
        // All are on the port that the first was given.
        address.set_port(socket.local_addr()?.port());
        sockets.push(socket);
    }
    Ok(sockets)
}

fn unbound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As tokio's own listeners have it: connections of the one before do not hold the port.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    Ok(socket)
}

/// Lets several sockets listen on a port, among which the system shares connections out.
#[cfg(target_os = "linux")]
fn share_port(socket: &TcpSocket) -> io::Result<()> {
    socket.set_reuseport(true).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("{UNSHARED} (SO_REUSEPORT: {error}): serve on one runtime instead"),
        )
    })
}

/// Elsewhere the option is missing, or means that the newest socket gets everything.
#[cfg(not(target_os = "linux"))]
fn share_port(_: &TcpSocket) -> io::Result<()> {
    let problem = format!("{UNSHARED}, Linux alone can: serve on one runtime instead");
    Err(io::Error::new(io::ErrorKind::Unsupported, problem))
}

const UNSHARED: &str = "this system does not share a port among the listeners of several runtimes";

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    async fn bind_two(uri: &str) -> Result<Listener, ConnectError> {
        let here = Handle::current();
        let uri = Uri::parse(uri).expect("a URI");
        Listener::bind_each(uri, ListenOptions::default(), [&here, &here].into_iter()).await
    }

    async fn bind_one(uri: Uri) -> Result<Listener, ConnectError> {
        Listener::bind(uri, ListenOptions::default()).await
    }

    fn address(socket: &ListeningSocket) -> SocketAddr {
        let ListeningSocket::Tcp(socket) = socket else { panic!("not TCP") };
        socket.local_addr().expect("an address")
    }

    #[tokio::test]
    async fn the_sockets_of_several_runtimes_are_on_one_port_of_the_systems_choice() {
        for uri in ["tcp://127.0.0.1:0", "ws://localhost:0/rsocket"] {
            let listener = bind_two(uri).await.expect("a free port");
            let addresses: Vec<_> = listener.sockets.iter().map(address).collect();
            // Two for each address that the host has.
            assert!(addresses.chunks(2).all(|two| two[0] == two[1]), "{addresses:?}");
            assert!(addresses.iter().all(|address| address.port() == addresses[0].port()));
            let Address::Tcp(target) = &listener.uri.address else { panic!("not TCP") };
            assert_eq!(addresses[0].port(), target.port);
            TcpStream::connect(addresses[0]).await.expect("one of them listens");
        }
    }

    /// Reads what a URI with a name would have, whatever this machine has for it.
    fn open_both(addresses: &[&str]) -> io::Result<(Vec<SocketAddr>, bool)> {
        let addresses: Vec<_> =
            addresses.iter().map(|address| address.parse().expect("an address")).collect();
        let opened = open_all(&addresses, |address| Ok(vec![listening(address)?]))?;
        let bound = opened.sockets.iter().map(|socket| socket.local_addr().expect("an address"));
        Ok((bound.collect(), opened.is_whole))
    }

    #[tokio::test]
    async fn a_name_is_listened_on_at_each_of_its_addresses() {
        let (bound, is_whole) = open_both(&["127.0.0.1:0", "127.0.0.2:0"]).expect("free ports");
        assert_eq!((bound.len(), bound[0].port(), is_whole), (2, bound[1].port(), true));
        // An address of documentation, which no machine has.
        let (bound, is_whole) = open_both(&["192.0.2.1:0", "127.0.0.1:0"]).expect("free ports");
        assert_eq!((bound.len(), is_whole), (1, false));
        open_both(&["192.0.2.1:0"]).expect_err("nothing is there");
        // A port that somebody else has at one of them is not served by two.
        let taken = std::net::TcpListener::bind("127.0.0.2:0").expect("a free port");
        let port = taken.local_addr().expect("an address").port();
        let (first, second) = (format!("127.0.0.1:{port}"), format!("127.0.0.2:{port}"));
        let error = open_both(&[&first, &second]).expect_err("in use");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn a_name_of_which_a_part_is_missing_is_not_announced() {
        let sockets = vec![listening("127.0.0.1:0".parse().expect("an address")).expect("free")];
        let uri = Uri::parse("tcp://localhost:0").expect("a URI");
        let listener = Listener::tcp(Opened { sockets, is_whole: false }, uri).expect("a listener");
        assert!(listener.uri.to_string().starts_with("tcp://127.0.0.1:"), "{}", listener.uri);
    }

    #[tokio::test]
    async fn a_port_is_not_shared_with_anyone_else() {
        let alone = bind_one(Uri::parse("tcp://127.0.0.1:0").expect("a URI")).await;
        let alone = alone.expect("a free port");
        let shared = bind_two("tcp://127.0.0.1:0").await.expect("a free port");
        for taken in [alone, shared] {
            let error = bind_two(&taken.uri.to_string()).await.map(|_| ()).expect_err("taken");
            assert!(error.to_string().contains("in use"), "{error}");
            assert!(bind_one(taken.uri.clone()).await.is_err());
        }
    }
}
