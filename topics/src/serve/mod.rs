//! Topics as routes of RSocket: connections, tasks and the clock are here, and nowhere else.

mod clock;
#[cfg(all(feature = "durable", target_os = "linux"))]
mod durable;
mod figures;
mod guarded;
mod history;
mod join;
mod list;
mod loading;
mod permit;
mod presence;
mod publish;
mod pump;
mod subscribe;

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, OnceLock, atomic::AtomicU32},
    time::Duration,
};

use bytes::Bytes;
use rsock::{
    Error, Identity, Payload, Request, Router,
    metadata::{WellKnownMime, mime::is_composite},
};

pub use clock::Clock;
#[cfg(all(feature = "durable", target_os = "linux"))]
pub use durable::DamagedTopic;
use figures::Counters;
pub use figures::TopicFigures;
pub use permit::{Action, AllowAll, Permit};
pub use presence::PresenceSession;

use crate::{
    dedup::DedupSecret, entry::Form, name::TopicName, options::SubscribeOptions, position::Epoch,
    refusal::Refusal, registry::Topics, settings::Settings,
};

/// How often all topics are looked at for what is too old.
const TICK: Duration = Duration::from_secs(1);
/// The part of what logs may hold in memory that presence may hold beside them.
const PRESENCE_PART: usize = 8;

/// The topics of a process, served over RSocket.
///
/// ```
/// use rsock::{Router, Server};
/// use rsock_topics::{Service, Settings};
///
/// # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
/// let topics = Service::new(Settings::default());
/// let app = topics.add_to(Router::new(()));
/// Server::bind("tcp://127.0.0.1:7878").await?.serve(app).await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Service(Arc<Shared>);

struct Shared {
    topics: Arc<Topics>,
    presence: Arc<presence::All>,
    permit: Box<dyn Permit>,
    secret: DedupSecret,
    clock: Clock,
    counters: Counters,
    loads: loading::Loads,
    judged: guarded::Judged,
    /// The number of the last join.
    joins: AtomicU32,
    /// The timer runs.
    started: OnceLock<()>,
    /// The data directory, if there is one.
    #[cfg(all(feature = "durable", target_os = "linux"))]
    store: OnceLock<(Arc<crate::store::Store>, Arc<durable::OnDamage>)>,
}

impl Service {
    /// No topics yet. Everybody may do everything: see [`with_permit`](Self::with_permit).
    pub fn new(settings: Settings) -> Self {
        Self::with_permit(settings, AllowAll)
    }

    /// No topics yet; `permit` is asked before anything is done.
    pub fn with_permit(settings: Settings, permit: impl Permit) -> Self {
        let topics = Topics::new(settings, Epoch(random()));
        Self::of(topics, permit, DedupSecret::new([random(), random()]), Clock::start())
    }

    fn of(topics: Topics, permit: impl Permit, secret: DedupSecret, clock: Clock) -> Self {
        let limits = topics.settings().limits();
        let memory = limits.memory / PRESENCE_PART;
        let presence = presence::All::new(limits.topics, limits.subscriptions, memory, clock);
        Self(Arc::new(Shared {
            topics: Arc::new(topics),
            presence,
            permit: Box::new(permit),
            secret,
            clock,
            counters: Counters::default(),
            loads: loading::Loads::default(),
            judged: guarded::Judged::default(),
            joins: AtomicU32::new(0),
            started: OnceLock::new(),
            #[cfg(all(feature = "durable", target_os = "linux"))]
            store: OnceLock::new(),
        }))
    }

    /// The topics themselves.
    pub fn topics(&self) -> &Arc<Topics> {
        &self.0.topics
    }

    /// The time, as it is given to them.
    pub fn clock(&self) -> Clock {
        self.0.clock
    }

    /// The figures of all topics.
    pub fn figures(&self) -> TopicFigures {
        self.0.counters.read(&self.0.topics, &self.0.presence)
    }

    /// A refusal as whoever asked is told of it: counted.
    fn refuse(&self, refusal: Refusal) -> Error {
        self.0.counters.refused(&refusal);
        refusal.into()
    }

    /// Adds their routes: `topic.{name}`, `presence.{name}`, `history.{name}` and `topics`.
    #[must_use]
    pub fn add_to<S: Clone + Send + Sync + 'static>(&self, router: Router<S>) -> Router<S> {
        router
            .route("topic.{*name}", self.topic_route())
            .route("history.{*name}", self.history_route())
            .route("topics", self.list_route())
            .route("presence.{*name}", self.presence_route())
    }

    /// There is no disk.
    #[cfg(not(all(feature = "durable", target_os = "linux")))]
    fn on_disk(&self) -> std::future::Ready<Result<(), Refusal>> {
        std::future::ready(Ok(()))
    }

    /// Looks at all topics each second, from the first request on, for as long as they are there.
    fn start(&self) {
        self.0.started.get_or_init(|| {
            let shared = Arc::downgrade(&self.0);
            tokio::spawn(async move {
                let mut version = shared.upgrade().and_then(|shared| shared.permit.version());
                loop {
                    tokio::time::sleep(TICK).await;
                    let Some(service) = shared.upgrade().map(Self) else { return };
                    let clock = service.0.clock;
                    for topic in service.0.topics.tick(clock.now()) {
                        pump::pump(&topic, clock);
                    }
                    let now = service.0.permit.version();
                    if now != version {
                        version = now;
                        service.0.judged.wake_all().await;
                    }
                }
            });
        });
    }

    /// Refuses whoever sent this request and may not do this to a topic.
    fn permit(&self, request: &Request, action: Action, topic: &TopicName) -> Result<(), Refusal> {
        let permitted = self.0.permit.permits(request, action, topic);
        if permitted.is_err() {
            self.0.permit.refused(request, action, topic);
        }
        permitted
    }

    /// Whether whoever sent this request may do this to a topic.
    fn may(&self, request: &Request, action: Action, topic: &TopicName) -> bool {
        self.0.permit.permits(request, action, topic).is_ok()
    }

    /// The topic that a request's route names, if this action on it is permitted.
    fn topic_of(&self, request: &Request, action: Action) -> Result<TopicName, Refusal> {
        let name = self.name_of_topic(request)?;
        self.permit(request, action, &name)?;
        Ok(name)
    }

    /// The topic that a request's route names.
    fn name_of_topic(&self, request: &Request) -> Result<TopicName, Refusal> {
        self.start();
        TopicName::of_client(request.param("name").unwrap_or_default())
    }

    /// The topic that a request's route names, if this action on it is permitted to a reader with these
    /// options. One with a token for the topic is known by that from here on.
    fn topic_to_read(
        &self,
        request: &mut Request,
        action: Action,
        options: &SubscribeOptions,
    ) -> Result<TopicName, Refusal> {
        let name = self.name_of_topic(request)?;
        if let Some(token) = &options.token {
            let identity = self.0.permit.admit_token(request, token, &name)?;
            request.identify(identity);
        }
        self.permit(request, action, &name)?;
        Ok(name)
    }

    /// Whether whoever sent this request may publish such a message: whoever may publish may signal as well.
    fn check_publish(
        &self,
        request: &Request,
        is_ephemeral: bool,
        topic: &TopicName,
    ) -> Result<(), Refusal> {
        if is_ephemeral && self.may(request, Action::Signal, topic) {
            return Ok(());
        }
        self.permit(request, Action::Publish, topic)
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("topics", &self.0.topics.len()).finish_non_exhaustive()
    }
}

/// # Panics
/// Where the system has no random numbers, and nothing could be served.
fn random() -> u64 {
    getrandom::u64().expect("the system has random numbers")
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Invalid(text) => Self::invalid(text),
            Refusal::Rejected(text) => Self::rejected(text),
            Refusal::Failed(text) => Self::application(text),
        }
    }
}

/// The form that JSON has in the metadata of the connection that a request came by, if they can hold it.
fn form_of(request: &Request) -> Option<Form> {
    let mime = request.metadata_mime();
    if is_composite(mime) {
        Some(Form::Composite)
    } else if mime.eq_ignore_ascii_case(WellKnownMime::Json.as_str().as_bytes()) {
        Some(Form::Plain)
    } else {
        None
    }
}

/// A request to be kept for as long as a stream, for whoever judges what it may do: a copy of its metadata, of
/// which a slice would keep all that was read with it.
fn kept(mut request: Request) -> Request {
    let metadata = request.metadata().map(|metadata| Bytes::copy_from_slice(metadata));
    request.set_payload(Payload { metadata, data: Bytes::new() });
    request
}

/// The beginning of identities that are of nobody in particular, and the names that these give themselves.
const UNVOUCHED: char = '~';

/// The name of who asks, if it is authenticated.
fn name_of(request: &Request) -> Option<&str> {
    request.identity().map(Identity::name).filter(|name| !name.starts_with(UNVOUCHED))
}

/// The name that whoever asks gives itself, as others see it: where others are authenticated, and it is not,
/// that can be seen.
fn as_seen<'a>(request: &Request, name: &'a str) -> Cow<'a, str> {
    match request.identity() {
        Some(who) if who.name().starts_with(UNVOUCHED) => format!("{UNVOUCHED}{name}").into(),
        _ => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use rsock::Peer;

    use super::*;

    #[test]
    fn a_request_that_is_kept_keeps_nothing_else_of_what_was_read() {
        let read = Bytes::from(vec![7; 100_000]);
        let payload = Payload { metadata: Some(read.slice(10..20)), data: read.slice(20..50_000) };
        let kept = kept(Request::new(payload, Peer::local()));
        assert_eq!(kept.metadata(), Some(&Bytes::from_static(&[7; 10])));
        assert!(kept.data().is_empty());
        assert!(read.is_unique(), "it holds the block that they were read in");
    }
}
