//! Who competes, and the seam between a contender and the harness.
//!
//! A library under test implements [`Peer`] and [`Requester`] and nothing else: the load is made
//! in [`crate::load`], by the same code for all of them. `raw` alone stands outside, since it has
//! no requests to make; it is the limit, not a library.

use std::{fmt, net::SocketAddr, str::FromStr};

use bytes::Bytes;
use futures_util::Stream;

use crate::{
    Error, Result,
    case::Transport,
    load::{self, Load, Tally},
    ours::Rsock,
    raw,
    theirs::RsocketRust,
};

/// A library under test.
pub(crate) trait Peer {
    /// One connection, as the library's user holds it.
    type Requester: Requester;

    /// What it can be measured over; with none it is left out of the run.
    const TRANSPORTS: &'static [Transport];

    /// Listens on a port of 127.0.0.1 that the kernel chooses, and answers on spawned tasks until
    /// the process ends: a request with its own data, a stream request (its data is a
    /// [`StreamRequest`](load::StreamRequest)) with that many items of that size.
    async fn serve(transport: Transport) -> Result<SocketAddr>;

    /// Connects, ready to request.
    async fn connect(transport: Transport, address: SocketAddr) -> Result<Self::Requester>;
}

/// One connection, cloned into every task that makes requests on it.
pub(crate) trait Requester: Clone + Send + Sync + 'static {
    /// Sends the data and resolves to the length of the data answered.
    fn request_response(&self, data: Bytes) -> impl Future<Output = Result<usize>> + Send;

    /// Sends the data and yields the length of each item's data.
    fn request_stream(&self, data: Bytes) -> impl Stream<Item = Result<usize>> + Send;
}

/// Who competes, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    Raw,
    Rsock,
    RsocketRust,
}

impl Contender {
    pub(crate) const ALL: [Self; 3] = [Self::Raw, Self::Rsock, Self::RsocketRust];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Rsock => "rsock",
            Self::RsocketRust => "rsocket_rust",
        }
    }

    pub(crate) fn transports(self) -> &'static [Transport] {
        match self {
            Self::Raw => &[Transport::Tcp],
            Self::Rsock => Rsock::TRANSPORTS,
            Self::RsocketRust => RsocketRust::TRANSPORTS,
        }
    }
}

/// A contender over a transport: one row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) contender: Contender,
    pub(crate) transport: Transport,
}

impl Entry {
    /// TCP before WebSocket, and within a transport in the order of [`Contender::ALL`].
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Transport::ALL.into_iter().flat_map(|transport| {
            Contender::ALL
                .into_iter()
                .filter(move |contender| contender.transports().contains(&transport))
                .map(move |contender| Self { contender, transport })
        })
    }

    /// The server's side of this row; see [`Peer::serve`].
    pub(crate) async fn serve(self) -> Result<SocketAddr> {
        match self.contender {
            Contender::Raw => raw::serve().await,
            Contender::Rsock => Rsock::serve(self.transport).await,
            Contender::RsocketRust => RsocketRust::serve(self.transport).await,
        }
    }

    /// The client's side of this row: one measurement.
    pub(crate) async fn drive(self, address: SocketAddr, load: Load) -> Result<Tally> {
        match self.contender {
            Contender::Raw => raw::drive(address, load).await,
            Contender::Rsock => load::drive::<Rsock>(self.transport, address, load).await,
            Contender::RsocketRust => {
                load::drive::<RsocketRust>(self.transport, address, load).await
            }
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.contender.name(), self.transport.name())
    }
}

impl FromStr for Entry {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::all()
            .find(|entry| entry.to_string() == name)
            .ok_or_else(|| format!("nobody competes as {name:?}").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_found_by_the_name_it_prints() {
        for entry in Entry::all() {
            assert_eq!(entry.to_string().parse::<Entry>().ok(), Some(entry));
        }
        assert!("raw/ws".parse::<Entry>().is_err());
    }
}
