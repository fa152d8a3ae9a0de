//! Observing requests: how each begins and ends, for metrics, traces and logs.

use std::{
    borrow::Cow,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, OnceLock,
        atomic::Ordering::{Acquire, Relaxed, Release},
    },
    time::Duration,
};

use bytes::Bytes;
use rsock_proto::{
    Interaction, Payload, Side,
    metadata::{Extensions, MetadataError, mime, plain_route},
};
use tokio::time::Instant;

use crate::{
    error::Error,
    sync::{AtomicBool, AtomicU64},
};

/// Sees each request of a connection: those of its peer, as handlers do, and those that are asked of its
/// peer, as callers do. Set by [`ServerBuilder::observe`](crate::ServerBuilder::observe) and
/// [`ClientBuilder::observe`](crate::ClientBuilder::observe); without one, nothing is looked at, no clock
/// is read and no memory taken.
///
/// It is called by the tasks that serve and ask, so it must not block. If it panics, nobody notices but the
/// panic hook. What never comes to a handler is none of it: what is refused because of a limit is counted
/// by [`Meter`](crate::Meter).
///
/// ```
/// use std::sync::Arc;
/// use rsock::{Beginning, Ended, Observe, ObserveRequest, Server};
///
/// /// Logs the route, the outcome and how long it took.
/// struct Log;
///
/// impl Observe for Log {
///     fn begin(&self, request: &Beginning<'_>) -> Option<Arc<dyn ObserveRequest>> {
///         let route = request.route().unwrap_or("no route".into());
///         Some(Arc::new(Logged(format!("{} {route} of {}", request.name(), request.address()))))
///     }
/// }
///
/// struct Logged(String);
///
/// impl ObserveRequest for Logged {
///     fn end(&self, end: &Ended<'_>) {
///         let Ended { outcome, duration, sent, .. } = end;
///         println!("{}: {outcome} in {duration:?}, {} payloads", self.0, sent.payloads);
///     }
/// }
///
/// # fn main() {
/// let server = Server::builder().observe(Arc::new(Log));
/// # }
/// ```
pub trait Observe: Send + Sync + 'static {
    /// A request begins, or metadata are pushed. What is returned is told the rest of it: something made
    /// for this one, or something that is shared, such as the counters of a route, which takes no memory;
    /// `None` leaves it alone.
    fn begin(&self, request: &Beginning<'_>) -> Option<Arc<dyn ObserveRequest>>;
}

/// Sees the course of a request. It may be that of many.
pub trait ObserveRequest: Send + Sync + 'static {
    /// The first item of a stream or channel's answers is there, so long after it began.
    fn first_item(&self, after: Duration) {
        let _ = after;
    }

    /// It is over. Told once.
    fn end(&self, end: &Ended<'_>);
}

/// A request that begins.
pub struct Beginning<'a> {
    by: Side,
    interaction: Option<Interaction>,
    payload: &'a Payload,
    identity: Option<&'a str>,
    connection: &'a Facts,
}

impl Beginning<'_> {
    /// The side that asks: the peer, who is served here, or we.
    pub fn by(&self) -> Side {
        self.by
    }

    /// The interaction; `None` for metadata that are pushed.
    pub fn interaction(&self) -> Option<Interaction> {
        self.interaction
    }

    /// The interaction as people write it, or `metadata-push`.
    pub fn name(&self) -> &'static str {
        self.interaction.map_or("metadata-push", Interaction::name)
    }

    /// The payload; of a channel, the first.
    pub fn payload(&self) -> &Payload {
        self.payload
    }

    /// The route that its metadata name, if they do and can be read.
    pub fn route(&self) -> Option<Cow<'_, str>> {
        let metadata = self.payload.metadata.as_ref()?;
        if mime::is_composite(&self.connection.metadata_mime)
            && let Some(plain) = plain_route(metadata)
        {
            return str::from_utf8(plain).ok().map(Cow::Borrowed);
        }
        let route = self.extensions().ok()?.route().ok()??;
        Some(Cow::Owned(route.as_str().to_owned()))
    }

    /// The extensions in its metadata, such as a trace.
    ///
    /// # Errors
    /// The metadata cannot be read.
    pub fn extensions(&self) -> Result<Extensions, MetadataError> {
        match &self.payload.metadata {
            Some(metadata) => Extensions::read(metadata, &self.connection.metadata_mime),
            None => Ok(Extensions::default()),
        }
    }

    /// The name of who asks, where the acceptor has found out.
    pub fn identity(&self) -> Option<&str> {
        self.identity
    }

    /// The address of the peer.
    pub fn address(&self) -> &str {
        &self.connection.address
    }

    /// The number of the connection: [`Peer::connection_id`](crate::Peer::connection_id).
    pub fn connection_id(&self) -> u64 {
        self.connection.id
    }
}

/// Shows no contents: there may be credentials.
impl fmt::Debug for Beginning<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Beginning")
            .field("by", &self.by)
            .field("name", &self.name())
            .field("route", &self.route())
            .field("address", &self.address())
            .finish_non_exhaustive()
    }
}

/// The end of a request.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Ended<'a> {
    /// The way in which it ended.
    pub outcome: Outcome<'a>,
    /// The payloads we sent, if we asked the request's own among them: those that a handler yielded.
    pub sent: Tally,
    /// The payloads that came, if the peer asked the request's own among them: those that were taken.
    pub received: Tally,
    /// The time since it began. A request of ours begins when nothing of ours holds it back any more.
    pub duration: Duration,
}

/// Payloads, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many there were.
    pub payloads: u64,
    /// Bytes of their data and metadata.
    pub bytes: u64,
}

impl Tally {
    pub(crate) fn of(payload: &Payload) -> Self {
        Self { payloads: 1, bytes: payload.size() as u64 }
    }

    pub(crate) fn add(&mut self, payload: &Payload) {
        self.payloads += 1;
        self.bytes += payload.size() as u64;
    }
}

/// The way in which a request ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome<'a> {
    /// All of it is there; where there is no answer, its handler has ended, or it is on its way.
    Completed,
    /// With an error, by one side or the other: [`Error::code`].
    Failed(&'a Error),
    /// It is not wanted any more: whoever asked has dropped or cancelled it.
    Cancelled,
    /// With its connection, or the session of that.
    Lost,
}

impl<'a> Outcome<'a> {
    /// The outcome of a call of ours.
    pub(crate) fn of<T>(answer: &'a Result<T, Error>) -> Self {
        match answer {
            Ok(_) => Self::Completed,
            Err(error) => Self::of_error(error),
        }
    }

    pub(crate) fn of_error(error: &'a Error) -> Self {
        match error {
            Error::Closed { .. } | Error::Unavailable { .. } => Self::Lost,
            error => Self::Failed(error),
        }
    }
}

impl fmt::Display for Outcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed => f.write_str("completed"),
            Self::Failed(error) => write!(f, "failed with {}", error.code()),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Lost => f.write_str("connection lost"),
        }
    }
}

/// The facts about a connection that each of its requests begins with.
struct Facts {
    id: u64,
    address: Arc<str>,
    metadata_mime: Bytes,
}

/// The observer of a connection.
pub(crate) struct Observer {
    observe: Arc<dyn Observe>,
    facts: OnceLock<Facts>,
    /// All that is open is being ended.
    is_ending: AtomicBool,
}

impl Observer {
    pub(crate) fn new(observe: Arc<dyn Observe>) -> Self {
        Self { observe, facts: OnceLock::new(), is_ending: AtomicBool::new(false) }
    }

    /// Says what connection it is, before anything is asked on it.
    pub(crate) fn introduce(&self, id: u64, address: Arc<str>, metadata_mime: Bytes) {
        // A connection is set up once.
        let _ = self.facts.set(Facts { id, address, metadata_mime });
    }

    /// Says whether what ends from here on ends with its connection.
    pub(crate) fn set_ending(&self, is_ending: bool) {
        self.is_ending.store(is_ending, Release);
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.is_ending.load(Acquire)
    }

    /// A request begins, or metadata are pushed.
    #[cold]
    pub(crate) fn begin(
        &self,
        by: Side,
        interaction: Option<Interaction>,
        payload: &Payload,
        identity: Option<&str>,
    ) -> Option<Watch> {
        let connection = self.facts.get()?;
        let beginning = Beginning { by, interaction, payload, identity, connection };
        let to = quietly(|| self.observe.begin(&beginning)).flatten()?;
        Some(Watch { to, began: Instant::now() })
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").finish_non_exhaustive()
    }
}

/// A request that is observed.
pub(crate) struct Watch {
    to: Arc<dyn ObserveRequest>,
    began: Instant,
}

impl Watch {
    #[cold]
    pub(crate) fn first_item(&self) {
        let after = self.began.elapsed();
        quietly(|| self.to.first_item(after));
    }

    #[cold]
    pub(crate) fn end(self, outcome: Outcome<'_>, sent: Tally, received: Tally) {
        let Self { to, began } = self;
        let duration = began.elapsed();
        quietly(move || to.end(&Ended { outcome, sent, received, duration }));
    }
}

/// Runs something of an observer's. What it has to say in its panic is said by the panic hook.
fn quietly<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// A request that is observed, with items to be counted.
pub(crate) struct Counted {
    watch: Watch,
    sent: Tally,
    received: Tally,
    /// Of a channel, those of the direction that somebody else counts.
    others: Option<Arc<Counter>>,
    by: Side,
}

impl Counted {
    /// One that this side asks with this payload.
    pub(crate) fn new(watch: Watch, by: Side, payload: &Payload) -> Self {
        let (mut sent, mut received) = (Tally::default(), Tally::default());
        let asked = if by == Side::Local { &mut sent } else { &mut received };
        asked.add(payload);
        Self { watch, sent, received, others: None, by }
    }

    /// Counts what follows the request of a channel.
    pub(crate) fn counter(&mut self) -> Arc<Counter> {
        Arc::clone(self.others.get_or_insert_default())
    }

    /// An answer: what the side that was asked sends.
    pub(crate) fn answer(&mut self, payload: &Payload) -> &Tally {
        let answers = if self.by == Side::Local { &mut self.received } else { &mut self.sent };
        answers.add(payload);
        answers
    }

    /// An item of a stream or channel's answers.
    pub(crate) fn item(&mut self, payload: &Payload) {
        if self.answer(payload).payloads == 1 {
            self.watch.first_item();
        }
    }

    /// Items of a stream or channel's answers, and their bytes.
    pub(crate) fn items(&mut self, tally: Tally) {
        let answers = if self.by == Side::Local { &mut self.received } else { &mut self.sent };
        let is_first = answers.payloads == 0 && tally.payloads > 0;
        answers.payloads += tally.payloads;
        answers.bytes += tally.bytes;
        if is_first {
            self.watch.first_item();
        }
    }

    /// Ends with the answer to a call of ours, or its last item.
    pub(crate) fn end_of<T>(self, answer: &Result<T, Error>) {
        self.end(Outcome::of(answer));
    }

    pub(crate) fn end(self, outcome: Outcome<'_>) {
        let Self { watch, mut sent, mut received, others, by } = self;
        if let Some(others) = others {
            let asked = if by == Side::Local { &mut sent } else { &mut received };
            asked.payloads += others.payloads.load(Relaxed);
            asked.bytes += others.bytes.load(Relaxed);
        }
        watch.end(outcome, sent, received);
    }
}

/// Counts the payloads of one direction of a channel.
#[derive(Default)]
pub(crate) struct Counter {
    payloads: AtomicU64,
    bytes: AtomicU64,
}

impl Counter {
    #[cold]
    pub(crate) fn add(&self, payload: &Payload) {
        self.payloads.fetch_add(1, Relaxed);
        self.bytes.fetch_add(payload.size() as u64, Relaxed);
    }
}
