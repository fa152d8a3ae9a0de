//! The connections of a server, for whoever runs it: who is there, what goes on, and an end of one of them.

use std::{
    collections::BinaryHeap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rsock_proto::{Interaction, Side};
use slab::Slab;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

#[cfg(feature = "tls")]
use crate::transport::tls::TlsInfo;
use crate::{
    connection::{Mailbox, SeenStream, Snapshot},
    server::{Connected, drain::PORTION},
};

/// The live connections of a server, by their places.
pub(super) type Table = Mutex<Slab<Connected>>;

/// How long the connections that are looked at may take to say how they are, all together.
const PATIENCE: Duration = Duration::from_secs(1);

/// The connections of a server, to be looked at and ended one by one. Cheap to clone.
///
/// Whoever looks asks each connection itself: as long as nobody looks, it costs nothing, and a look costs a wake of
/// each connection it tells of. Those whose SETUP has not come are not told of.
///
/// ```
/// # use rsock::*;
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let server = Server::builder().remember_routes(true).bind(&["tcp://127.0.0.1:0"]).await?;
/// let (uri, connections) = (server.addresses().remove(0), server.connections());
/// tokio::spawn(async move { server.serve(Router::new(())).await });
///
/// let client = Client::builder().wait_until_accepted(true).connect(&uri).await?;
/// let page = connections.page(0, 100).await;
/// let one = &page.connections[0];
/// println!("{} from {}: {} bytes in", one.id, one.address, one.bytes_in);
/// assert!(connections.close(one.id).await);
/// # client.closed().await;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Default)]
pub struct Connections(Arc<Table>);

/// Some of the connections of a server, in the order of their numbers.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ConnectionPage {
    /// Those that were asked for.
    pub connections: Vec<ConnectionInfo>,
    /// There are others, with larger numbers.
    pub has_more: bool,
}

/// A connection at a moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// Its number: [`Peer::connection_id`](crate::Peer::connection_id).
    pub id: u64,
    /// The other end's address: [`Peer::address`](crate::Peer::address), of a session that of its present transport.
    pub address: String,
    /// The kind of transport, as [`Peer::scheme`](crate::Peer::scheme) says it; none while there is none.
    pub scheme: Option<&'static str>,
    /// The protection of the transport, if it has one.
    #[cfg(feature = "tls")]
    pub tls: Option<Arc<TlsInfo>>,
    /// The name of the peer, where somebody has found out.
    pub subject: Option<String>,
    /// The time since its first transport came.
    pub age: Duration,
    /// How long the last KEEPALIVE of ours, or ping of a WebSocket, took there and back, if one has been answered.
    pub round_trip: Option<Duration>,
    /// Streams that are open, of both sides.
    pub streams: usize,
    /// Times that a stream had something to send and no credit.
    pub credit_stalls: u64,
    /// Bytes of frames that came.
    pub bytes_in: u64,
    /// Bytes of frames that were written.
    pub bytes_out: u64,
    /// It is a session that outlives its transport.
    pub is_resumable: bool,
    /// It has not said within a second how it is: of figures there are none. Something that it runs does not
    /// return.
    pub is_stuck: bool,
}

/// A connection at a moment, with streams that are open on it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionDetails {
    /// The connection.
    pub info: ConnectionInfo,
    /// Its streams, as many as were asked for: those first that have been open for the longest time.
    pub streams: Vec<StreamInfo>,
}

/// A stream at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamInfo {
    /// Its number on the wire.
    pub id: u32,
    /// The interaction that opened it.
    pub interaction: Interaction,
    /// The side that asked.
    pub by: Side,
    /// The route, of streams and channels of the peer's, where that is
    /// [remembered](crate::ServerBuilder::remember_routes).
    pub route: Option<String>,
    /// The time since it was opened, where that is remembered.
    pub age: Option<Duration>,
    /// Items the peer has asked for in all.
    pub granted: u64,
    /// Items of these that there were.
    pub sent: u64,
    /// Items that we have asked for and that have not come.
    pub awaited: u64,
}

/// A connection in the table. Of two the one with the larger number is the greater.
#[derive(Clone)]
struct Entry {
    id: u64,
    mailbox: Arc<Mailbox>,
    address: Arc<str>,
    since: Instant,
}

impl Entry {
    /// None for one that nobody knows yet.
    fn of(connected: &Connected) -> Option<Self> {
        let id = connected.mailbox.known().0?;
        let Connected { mailbox, address, since, .. } = connected;
        let (mailbox, address) = (Arc::clone(mailbox), Arc::clone(address));
        Some(Self { id, mailbox, address, since: *since })
    }

    /// Has it say how it is; none if it is over.
    fn look(self, max_streams: usize) -> Option<Looking> {
        let answer = self.mailbox.look(max_streams)?;
        Some(Looking { entry: self, answer })
    }

    fn info(&self, seen: Option<&Snapshot>) -> ConnectionInfo {
        let ends = seen.and_then(|seen| seen.ends.as_ref());
        let figure = |of: fn(&Snapshot) -> u64| seen.map_or(0, of);
        ConnectionInfo {
            id: self.id,
            address: seen.map_or(&*self.address, |seen| &*seen.address).to_owned(),
            scheme: ends.map(|ends| ends.scheme),
            #[cfg(feature = "tls")]
            tls: ends.and_then(|ends| ends.tls.clone()),
            subject: self.mailbox.known().1.map(str::to_owned),
            age: self.since.elapsed(),
            round_trip: self.mailbox.round_trip().or_else(|| self.mailbox.ping_round_trip()),
            streams: seen.map_or(0, |seen| seen.open_streams),
            credit_stalls: figure(|seen| seen.credit_stalls),
            bytes_in: figure(|seen| seen.bytes_in),
            bytes_out: figure(|seen| seen.bytes_out),
            is_resumable: seen.is_some_and(|seen| seen.is_resumable),
            is_stuck: seen.is_none(),
        }
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.id.cmp(&other.id)
    }
}

/// A connection that was asked how it is.
struct Looking {
    entry: Entry,
    answer: oneshot::Receiver<Box<Snapshot>>,
}

impl Looking {
    /// How it is; none if it has ended meanwhile.
    async fn seen(self, until: Instant) -> Option<(ConnectionInfo, Vec<SeenStream>)> {
        let Self { entry, answer } = self;
        match timeout_at(until, answer).await {
            Ok(Ok(seen)) => Some((entry.info(Some(&seen)), seen.streams)),
            Ok(Err(_)) => None,
            Err(_) => Some((entry.info(None), Vec::new())),
        }
    }
}

impl Connections {
    pub(super) fn of(live: &Arc<Table>) -> Self {
        Self(Arc::clone(live))
    }

    pub(super) fn into_table(self) -> Arc<Table> {
        self.0
    }

    /// The connections with numbers above this one, the smallest numbers first, at most so many. Those that come
    /// later have larger numbers: to go on behind the last is to see each of them once.
    pub async fn page(&self, after: u64, max: usize) -> ConnectionPage {
        // The smallest, of which the greatest goes for a smaller one; and one that says that there are more.
        let mut found = BinaryHeap::new();
        self.each(|entry| {
            if entry.id > after {
                found.push(entry);
                if found.len() > max.saturating_add(1) {
                    found.pop();
                }
            }
            true
        })
        .await;
        let mut found = found.into_sorted_vec();
        let has_more = found.len() > max;
        found.truncate(max);
        let until = Instant::now() + PATIENCE;
        let all: Vec<_> = found.into_iter().filter_map(|entry| entry.look(0)).collect();
        let mut connections = Vec::with_capacity(all.len());
        for looking in all {
            connections.extend(looking.seen(until).await.map(|(info, _)| info));
        }
        ConnectionPage { connections, has_more }
    }

    /// The connection with this number, with so many of its streams at most; none if it has ended.
    pub async fn get(&self, id: u64, max_streams: usize) -> Option<ConnectionDetails> {
        let looking = self.find(id).await?.look(max_streams)?;
        let (info, streams) = looking.seen(Instant::now() + PATIENCE).await?;
        let now = std::time::Instant::now();
        let streams = streams.into_iter().map(|SeenStream { summary, opened, route }| StreamInfo {
            id: summary.key.id().get(),
            interaction: summary.interaction,
            by: summary.by,
            route: route.map(String::from),
            age: opened.map(|opened| now.saturating_duration_since(opened)),
            granted: summary.granted,
            sent: summary.sent,
            awaited: summary.awaited,
        });
        Some(ConnectionDetails { info, streams: streams.collect() })
    }

    /// Ends the connection with this number now, and its session, and tells its peer that it is closed; false if there is none.
    pub async fn close(&self, id: u64) -> bool {
        self.end(id, true).await
    }

    /// Has the connection with this number end with its last stream: it takes no new requests. False if there is
    /// none.
    pub async fn drain(&self, id: u64) -> bool {
        self.end(id, false).await
    }

    async fn end(&self, id: u64, now: bool) -> bool {
        let found = self.find(id).await.filter(|entry| !entry.mailbox.is_closed());
        found.map(|entry| entry.mailbox.end(now)).is_some()
    }

    async fn find(&self, id: u64) -> Option<Entry> {
        let mut found = None;
        self.each(|entry| {
            let is_it = entry.id == id;
            if is_it {
                found = Some(entry);
            }
            !is_it
        })
        .await;
        found
    }

    /// Shows all connections, until one is the last that is wanted: in portions between which others may run, and who comes or goes
    /// does not wait for all of them.
    async fn each(&self, mut see: impl FnMut(Entry) -> bool) {
        let mut from = 0;
        loop {
            let portion: Vec<_> = {
                let live = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let places = live.iter().next_back().map_or(0, |(place, _)| place + 1);
                if from >= places {
                    return;
                }
                (from..places.min(from + PORTION))
                    .filter_map(|at| Entry::of(live.get(at)?))
                    .collect()
            };
            for entry in portion {
                if !see(entry) {
                    return;
                }
            }
            from += PORTION;
            tokio::task::yield_now().await;
        }
    }
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let live = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("Connections").field("live", &live.len()).finish()
    }
}
