//! The contenders, and the seam between one and the harness.
//!
//! A library under test implements [`Peer`] and [`Requester`] and nothing else: the load is made
//! in [`crate::load`], by the same code for all of them. `raw` alone stands outside, since it has
//! no requests to make; it is the limit, not a library.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::sync::Notify;

use crate::{
    Error, Result,
    case::{Case, Interaction, Transport},
    load::{self, Load, Tally},
    mux::Mux,
    ours::{JsonRoute, NoRoute, Pattern, PatternBehind, Resumable, Route, Rsock},
    raw,
    theirs::{AsShipped, NoDelay, RsocketRust},
};

/// A library under test.
pub(crate) trait Peer {
    /// One connection, as the library's user holds it.
    type Requester: Requester;

    /// The transports it can be measured over; with none it is left out of the run.
    const TRANSPORTS: &'static [Transport];

    /// Whether it has such an interaction; otherwise it is left out of those cases.
    fn offers(interaction: Interaction) -> bool {
        let _ = interaction;
        true
    }

    /// Listens on a port of `host` that the kernel chooses, and answers on spawned tasks until the
    /// process ends: a request with what [`load::answer`] says, a stream request as
    /// [`Asked`](load::Asked) says, a channel with the items it brings. Fire-and-forget requests
    /// are counted, for each connection.
    async fn serve(transport: Transport, host: IpAddr) -> Result<SocketAddr>;

    /// Connects, ready to request.
    async fn connect(transport: Transport, address: SocketAddr) -> Result<Self::Requester>;
}

/// One connection, cloned into every task that makes requests on it.
pub(crate) trait Requester: Clone + Send + Sync + 'static {
    /// Sends the data and resolves to the length of the data answered.
    fn request_response(&self, data: Bytes) -> impl Future<Output = Result<usize>> + Send;

    /// Sends the data and yields the length of each item's data.
    fn request_stream(&self, data: Bytes) -> impl Stream<Item = Result<usize>> + Send;

    /// Sends the items, there is at least one, and yields the length of each answered.
    fn request_channel(
        &self,
        items: impl Stream<Item = Bytes> + Send + 'static,
    ) -> impl Stream<Item = Result<usize>> + Send {
        let _ = items;
        stream::once(async { Err("it has no channels".into()) })
    }

    /// Sends the data, as soon as the library takes it.
    fn fire_and_forget(&self, data: Bytes) -> impl Future<Output = Result<()>> + Send {
        let _ = data;
        async { Err("it has no fire-and-forget".into()) }
    }
}

/// Fire-and-forget requests of a connection, as the handlers of the server count them.
#[derive(Default)]
pub(crate) struct Arrivals {
    count: AtomicU64,
    awaited: AtomicU64,
    reached: Notify,
}

impl Arrivals {
    /// Another has come.
    pub(crate) fn add(&self) {
        // With both sides storing before they load, one of them sees the other.
        let count = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        if count == self.awaited.load(Ordering::SeqCst) {
            self.reached.notify_one();
        }
    }

    /// Waits until so many have come since the connection began; one may wait at a time.
    pub(crate) async fn reach(&self, count: u64) {
        self.awaited.store(count, Ordering::SeqCst);
        while self.count.load(Ordering::SeqCst) < count {
            self.reached.notified().await;
        }
    }
}

/// The contenders, in the order of the table, and then rsock with an addition each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    Raw,
    Mux,
    Rsock,
    RsocketRust,
    RsocketRustNoDelay,
    #[cfg(feature = "tonic")]
    Tonic,
    #[cfg(feature = "nats")]
    Nats,
    RsockResumable,
    RsockNoRoute,
    RsockRoute,
    RsockPattern,
    RsockPatternBehind,
    RsockJson,
}

/// The work to be done with the type of a contender's [`Peer`], and that for `raw`, which has none.
macro_rules! with_peer {
    ($contender:expr, raw => $raw:expr, $peer:ident => $then:expr) => {
        match $contender {
            Contender::Raw => $raw,
            Contender::Mux => with_peer!(@ $peer = Mux, $then),
            Contender::Rsock => with_peer!(@ $peer = Rsock<crate::ours::Bare>, $then),
            Contender::RsocketRust => with_peer!(@ $peer = RsocketRust<AsShipped>, $then),
            Contender::RsocketRustNoDelay => with_peer!(@ $peer = RsocketRust<NoDelay>, $then),
            #[cfg(feature = "tonic")]
            Contender::Tonic => with_peer!(@ $peer = crate::grpc::Tonic, $then),
            #[cfg(feature = "nats")]
            Contender::Nats => with_peer!(@ $peer = crate::nats::Nats, $then),
            Contender::RsockResumable => with_peer!(@ $peer = Rsock<Resumable>, $then),
            Contender::RsockNoRoute => with_peer!(@ $peer = Rsock<NoRoute>, $then),
            Contender::RsockRoute => with_peer!(@ $peer = Rsock<Route>, $then),
            Contender::RsockPattern => with_peer!(@ $peer = Rsock<Pattern>, $then),
            Contender::RsockPatternBehind => with_peer!(@ $peer = Rsock<PatternBehind>, $then),
            Contender::RsockJson => with_peer!(@ $peer = Rsock<JsonRoute>, $then),
        }
    };
    (@ $peer:ident = $type:ty, $then:expr) => {{
        type $peer = $type;
        $then
    }};
}

impl Contender {
    /// Those of a sitting.
    pub(crate) const ALL: &[Self] = &[
        Self::Raw,
        Self::Mux,
        Self::Rsock,
        Self::RsocketRust,
        Self::RsocketRustNoDelay,
        #[cfg(feature = "tonic")]
        Self::Tonic,
        #[cfg(feature = "nats")]
        Self::Nats,
    ];

    /// Those of the series beside it.
    const BESIDE: &[Self] = &[
        Self::RsockResumable,
        Self::RsockNoRoute,
        Self::RsockRoute,
        Self::RsockPattern,
        Self::RsockPatternBehind,
        Self::RsockJson,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Mux => "mux",
            Self::Rsock => "rsock",
            Self::RsocketRust => "rsocket_rust",
            Self::RsocketRustNoDelay => "rsocket_rust-nodelay",
            #[cfg(feature = "tonic")]
            Self::Tonic => "tonic",
            #[cfg(feature = "nats")]
            Self::Nats => "nats",
            Self::RsockResumable => "rsock-resumable",
            Self::RsockNoRoute => "rsock-no-route",
            Self::RsockRoute => "rsock-route",
            Self::RsockPattern => "rsock-pattern",
            Self::RsockPatternBehind => "rsock-pattern-behind",
            Self::RsockJson => "rsock-json",
        }
    }

    pub(crate) fn transports(self) -> &'static [Transport] {
        with_peer!(self, raw => &[Transport::Tcp], P => P::TRANSPORTS)
    }

    /// Whether it takes part in a case.
    pub(crate) fn takes(self, case: Case) -> bool {
        with_peer!(self, raw => true, P => P::offers(case.interaction))
    }
}

/// A contender over a transport: one row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) contender: Contender,
    pub(crate) transport: Transport,
}

impl Entry {
    /// Those of a sitting: TCP before WebSocket, and within a transport in the order of
    /// [`Contender::ALL`].
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Self::of(Contender::ALL)
    }

    fn of(contenders: &'static [Contender]) -> impl Iterator<Item = Self> {
        Transport::ALL.into_iter().flat_map(|transport| {
            contenders
                .iter()
                .copied()
                .filter(move |contender| contender.transports().contains(&transport))
                .map(move |contender| Self { contender, transport })
        })
    }

    /// The contender over TCP, which all have.
    pub(crate) fn tcp(contender: Contender) -> Self {
        Self { contender, transport: Transport::Tcp }
    }

    /// The server's side of this row; see [`Peer::serve`].
    pub(crate) async fn serve(self, host: IpAddr) -> Result<SocketAddr> {
        with_peer!(
            self.contender,
            raw => raw::serve(host).await,
            P => P::serve(self.transport, host).await
        )
    }

    /// The client's side of this row: one measurement.
    pub(crate) async fn drive(self, address: SocketAddr, load: Load) -> Result<Tally> {
        with_peer!(
            self.contender,
            raw => raw::drive(address, load).await,
            P => load::drive::<P>(self.transport, address, load).await
        )
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
            .chain(Self::of(Contender::BESIDE))
            .find(|entry| entry.to_string() == name)
            .ok_or_else(|| format!("nobody competes as {name:?}").into())
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, sync::Arc, time::Duration};

    use tokio::task::JoinSet;

    use super::*;
    use crate::{case, load::Extent, machine::Meter};

    #[test]
    fn an_entry_is_found_by_the_name_it_prints() {
        for entry in Entry::all().chain(Entry::of(Contender::BESIDE)) {
            assert_eq!(entry.to_string().parse::<Entry>().ok(), Some(entry));
        }
        assert!("raw/ws".parse::<Entry>().is_err());
    }

    #[tokio::test]
    async fn arrivals_are_awaited_before_and_after_they_come() {
        let arrivals = Arc::new(Arrivals::default());
        arrivals.add();
        arrivals.reach(1).await;
        let adding = Arc::clone(&arrivals);
        let added = tokio::spawn(async move { (0..2).for_each(|_| adding.add()) });
        arrivals.reach(3).await;
        assert!(added.await.is_ok());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn everyone_finishes_the_cases_they_take() {
        let mut running = JoinSet::new();
        for entry in Entry::all().chain(Entry::of(Contender::BESIDE)) {
            let address =
                entry.serve(Ipv4Addr::LOCALHOST.into()).await.expect("a port of 127.0.0.1");
            for case in case::all().filter(|&case| entry.contender.takes(case)) {
                let load = Load {
                    case,
                    extent: Extent {
                        warm_up: Duration::ZERO,
                        count_for: Duration::from_millis(50),
                        items: 3000,
                    },
                    meter: Meter::of_server(std::process::id(), None).expect("a clock"),
                };
                running.spawn(async move { (entry, case, entry.drive(address, load).await) });
            }
        }
        while let Some(ended) = running.join_next().await {
            let (entry, case, tally) = ended.expect("no panic");
            assert!(tally.is_ok(), "{entry} {case}: {tally:?}");
        }
    }
}
