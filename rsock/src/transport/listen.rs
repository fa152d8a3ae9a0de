//! Listening: from a URI to the sockets that take its connections.

use std::{io, net::SocketAddr};

use tokio::{
    net::{TcpListener, TcpSocket, lookup_host},
    runtime::Handle,
};

use crate::{
    error::ConnectError,
    transport::address::{Address, Uri},
};

/// The system's queue of connections that nobody has taken yet, as tokio's own listeners have it.
const BACKLOG: u32 = 1024;

/// An address that is listened on.
#[derive(Debug)]
pub(crate) struct Listener {
    /// One for all, or one for each runtime, in their order, woken by it.
    pub(crate) sockets: Vec<TcpListener>,
    /// With the port it was given.
    pub(crate) uri: Uri,
}

impl Listener {
    /// Listens with one socket, woken by the runtime this runs on.
    pub(crate) async fn bind(uri: Uri) -> Result<Self, ConnectError> {
        check(&uri)?;
        let Address::Tcp(target) = &uri.address;
        let address = (target.host.as_str(), target.port);
        let socket = TcpListener::bind(address).await.map_err(|error| failed(&uri, &error))?;
        Self::with(uri, vec![socket])
    }

    /// Listens with one socket for each of these runtimes, of which there is at least one.
    pub(crate) async fn bind_each<'a>(
        uri: Uri,
        runtimes: impl ExactSizeIterator<Item = &'a Handle> + Clone,
    ) -> Result<Self, ConnectError> {
        check(&uri)?;
        let Address::Tcp(target) = &uri.address;
        let address = (target.host.as_str(), target.port);
        let addresses = lookup_host(address).await.map_err(|error| failed(&uri, &error))?;
        let addresses: Vec<_> = addresses.collect();
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            match open_each(address, runtimes.clone()) {
                Ok(sockets) => return Self::with(uri, sockets),
                Err(error) => last = error,
            }
        }
        Err(failed(&uri, &last))
    }

    fn with(mut uri: Uri, sockets: Vec<TcpListener>) -> Result<Self, ConnectError> {
        if let Some(socket) = sockets.first() {
            let bound = socket.local_addr().map_err(|error| failed(&uri, &error))?;
            let Address::Tcp(target) = &mut uri.address;
            target.port = bound.port();
        }
        Ok(Self { sockets, uri })
    }
}

fn check(uri: &Uri) -> Result<(), ConnectError> {
    if uri.layout.has_query() {
        let problem = "the path to listen on has no query".to_owned();
        return Err(ConnectError::Uri { uri: uri.to_string(), problem });
    }
    Ok(())
}

fn failed(uri: &Uri, error: &io::Error) -> ConnectError {
    ConnectError::io(uri.address.to_string(), error)
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
        Listener::bind_each(Uri::parse(uri).expect("a URI"), [&here, &here].into_iter()).await
    }

    #[tokio::test]
    async fn the_sockets_of_several_runtimes_are_on_one_port_of_the_systems_choice() {
        for uri in ["tcp://127.0.0.1:0", "ws://localhost:0/rsocket"] {
            let listener = bind_two(uri).await.expect("a free port");
            let addresses = listener.sockets.iter().map(|it| it.local_addr().expect("an address"));
            let addresses: Vec<_> = addresses.collect();
            assert_eq!(addresses, [addresses[0]; 2]);
            let Address::Tcp(target) = &listener.uri.address;
            assert_eq!(addresses[0].port(), target.port);
            TcpStream::connect(addresses[0]).await.expect("one of them listens");
        }
    }

    #[tokio::test]
    async fn a_port_is_not_shared_with_anyone_else() {
        let alone = Listener::bind(Uri::parse("tcp://127.0.0.1:0").expect("a URI")).await;
        let alone = alone.expect("a free port");
        let shared = bind_two("tcp://127.0.0.1:0").await.expect("a free port");
        for taken in [alone, shared] {
            let error = bind_two(&taken.uri.to_string()).await.map(|_| ()).expect_err("taken");
            assert!(error.to_string().contains("in use"), "{error}");
            assert!(Listener::bind(taken.uri.clone()).await.is_err());
        }
    }
}
