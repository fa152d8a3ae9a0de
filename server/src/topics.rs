//! The topics that are served: their settings by flags, and who may do what to them.

use std::path::Path;

use rsock::{HttpRequest, Identity, MemoryBudget, Request, http::HeaderName};
#[cfg(target_os = "linux")]
use rsock_topics::DamagedTopic;
use rsock_topics::{
    Action, Kind, Limits, Permit, Rate, Refusal, Service, Settings, TopicName, TopicSettings,
};
use serde_json::{Map, Value};

use crate::{access::Access, doors::is_known_host, http::is_forwarding, settings::Options};

/// How topics of a pattern are told apart from others on the command line.
const EXAMPLE: &str = "as 'orders.>=durable,age=7d' or 'board.*=latest,max_keys=500'";

/// The settings of the topics that a pattern covers, as they are given by a flag: `PATTERN=KIND,NAME=VALUE…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRule {
    pattern: String,
    settings: TopicSettings,
    /// Itself as it was written.
    text: String,
}

impl TopicRule {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn read(text: &str) -> Result<Self, String> {
        let (pattern, rest) = text.split_once('=').ok_or_else(|| {
            format!("a pattern and the kind of its topics are missing; {EXAMPLE}")
        })?;
        let mut members = Map::new();
        for (at, part) in rest.split(',').enumerate() {
            let (name, value) = match (at, part.split_once('=')) {
                (0, None) => ("kind", part),
                (_, Some(pair)) => pair,
                (_, None) => return Err(format!("{part:?} has no value; {EXAMPLE}")),
            };
            set(&mut members, path_of(name), as_value(value))
                .map_err(|()| format!("{name:?} stands twice, or beside one of its parts"))?;
        }
        let settings: TopicSettings =
            serde_json::from_value(Value::Object(members)).map_err(|error| error.to_string())?;
        settings.check()?;
        // The pattern, too, is told of here and not when the service starts.
        Settings::new(Limits::default(), [(pattern, settings.clone())])?;
        Ok(Self { pattern: pattern.to_owned(), settings, text: text.to_owned() })
    }
}

impl std::fmt::Display for TopicRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// How much is kept may be said without its table.
fn path_of(name: &str) -> Vec<&str> {
    match name {
        "messages" | "bytes" | "age" => vec!["retention", name],
        _ => name.split('.').collect(),
    }
}

fn as_value(text: &str) -> Value {
    text.parse::<u64>().map_or_else(|_| Value::from(text), Value::from)
}

fn set(members: &mut Map<String, Value>, path: Vec<&str>, value: Value) -> Result<(), ()> {
    let (last, tables) = path.split_last().ok_or(())?;
    let mut table = members;
    for name in tables {
        let inner = table.entry(*name).or_insert_with(|| Value::Object(Map::new()));
        table = inner.as_object_mut().ok_or(())?;
    }
    match table.insert((*last).to_owned(), value) {
        None => Ok(()),
        Some(_) => Err(()),
    }
}

fn limits(options: &Options) -> Limits {
    let mut limits = Limits::default();
    // What the machine has is known by what connections may have of it: a half.
    let quarter = MemoryBudget::of_process().max() / 2;
    limits.memory = options.topic_memory.unwrap_or_else(|| limits.memory.min(quarter));
    limits.topics = options.max_topics as usize;
    let tenth = (options.max_topics / 10).max(1);
    limits.topics_of_one = options.max_topics_per_connection.unwrap_or(tenth) as usize;
    // Settings are within what a rate may be.
    let rate = options.publishes_per_second.and_then(|rate| Rate::new(rate, rate).ok());
    // Of a user all connections together have no more than one of them may.
    (limits.connection_rate, limits.name_rate) = (rate, rate);
    limits
}

/// The settings of topics.
///
/// # Errors
/// Rules that contradict each other, as a sentence.
pub(crate) fn check(options: &Options) -> Result<Settings, String> {
    let rules = options.topic.iter().map(|rule| (rule.pattern.as_str(), rule.settings.clone()));
    Settings::new(limits(options), rules)
}

/// The topics, as these options have them. What is found damaged on disk is logged.
///
/// # Errors
/// Two rules of one pattern, or a data directory that cannot be used, as a sentence.
pub(crate) async fn open(options: &Options, judge: Judge) -> Result<Service, String> {
    let settings = check(options)?;
    let Some(directory) = &options.data else {
        let is_durable = |rule: &&TopicRule| rule.settings.kind == Kind::Durable;
        if let Some(rule) = options.topic.iter().find(is_durable) {
            tracing::warn!("topics {} are refused: there is no --data directory", rule.pattern);
        }
        return Ok(Service::with_permit(settings, judge));
    };
    let sizes = rsock_topics::store::Settings {
        max_bytes: u64::try_from(options.data_max).unwrap_or(u64::MAX),
        accepts_damage: options.accept_damage,
        max_open_segments: crate::files::open_segments().map_err(|error| error.to_string())?,
        ..Default::default()
    };
    open_directory(settings, directory, sizes, judge).await
}

#[cfg(target_os = "linux")]
async fn open_directory(
    settings: Settings,
    directory: &Path,
    sizes: rsock_topics::store::Settings,
    judge: Judge,
) -> Result<Service, String> {
    let path = directory.to_owned();
    // It reads what was written since the last start, and what is to be in memory.
    let opened = tokio::task::spawn_blocking(move || Service::open(settings, judge, &path, sizes));
    let (service, damaged) = match opened.await {
        Ok(opened) => opened.map_err(|error| error.to_string())?,
        Err(error) => return Err(error.to_string()),
    };
    let topics = service.topics().len();
    tracing::info!("durable topics in {}: {topics}", directory.display());
    damaged.iter().for_each(log_damage);
    service.on_damage(log_damage);
    Ok(service)
}

#[cfg(target_os = "linux")]
fn log_damage(DamagedTopic { name, damage }: &DamagedTopic) {
    let name = name.as_ref().map_or_else(|| "topics".to_owned(), |name| format!("topic {name}"));
    tracing::error!("{name}: {damage}");
}

#[cfg(not(target_os = "linux"))]
async fn open_directory(
    _: Settings,
    _: &Path,
    _: rsock_topics::store::Settings,
    _: Judge,
) -> Result<Service, String> {
    Err("--data: durable topics are to be had on Linux alone".to_owned())
}

/// Has what waits for the disk committed.
pub(crate) async fn close(topics: Service) {
    #[cfg(target_os = "linux")]
    match tokio::task::spawn_blocking(move || topics.close()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!("the data directory: {error}"),
        Err(error) => tracing::error!("the data directory: {error}"),
    }
    #[cfg(not(target_os = "linux"))]
    drop(topics);
}

/// The judge of who may do what to topics.
#[derive(Clone, Debug)]
pub(crate) enum Judge {
    /// Nobody is asked who they are.
    Local(LocalAdmin),
    /// The settings of access say it.
    Access(Access),
}

impl Judge {
    /// `is_told`: where connections come from, a proxy says.
    pub(crate) fn new(access: Option<&Access>, is_told: bool) -> Self {
        match access {
            Some(access) => Self::Access(access.clone()),
            None => Self::Local(LocalAdmin::new(is_told)),
        }
    }
}

impl Permit for Judge {
    fn permits(&self, request: &Request, action: Action, topic: &TopicName) -> Result<(), Refusal> {
        match self {
            Self::Local(local) => local.permits(request, action, topic),
            Self::Access(access) => access.permits(request, action, topic),
        }
    }

    fn admit_token(
        &self,
        request: &Request,
        token: &str,
        topic: &TopicName,
    ) -> Result<Identity, Refusal> {
        match self {
            Self::Local(local) => local.admit_token(request, token, topic),
            Self::Access(access) => access.admit_token(request, token, topic),
        }
    }

    fn refused(&self, request: &Request, action: Action, topic: &TopicName) {
        if let Self::Access(access) = self {
            access.refused(request, action, topic);
        }
    }

    fn version(&self) -> Option<u64> {
        match self {
            Self::Local(_) => None,
            Self::Access(access) => access.version(),
        }
    }
}

/// Everybody may do everything, but purge and delete: that may who is on this machine.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LocalAdmin {
    /// A proxy says where connections come from: then those alone that come by no network.
    is_told: bool,
}

impl Permit for LocalAdmin {
    fn permits(&self, request: &Request, action: Action, topic: &TopicName) -> Result<(), Refusal> {
        if action != Action::Admin || self.is_of_this_machine(request) {
            return Ok(());
        }
        Err(Refusal::not_permitted(
            action.as_str(),
            topic,
            Some("to clients on the service's machine"),
        ))
    }
}

impl LocalAdmin {
    /// `is_told`: where connections come from, a proxy says.
    pub(crate) fn new(is_told: bool) -> Self {
        Self { is_told }
    }

    fn is_of_this_machine(self, request: &Request) -> bool {
        let peer = request.peer();
        self.is_here(peer.address())
            && peer.http().is_none_or(|head| {
                is_by_itself(head.headers().map(|(name, _)| name), head.header("host"))
            })
    }

    /// Whether whoever sent this over HTTP may administer the service.
    pub(crate) fn may(self, request: &HttpRequest) -> bool {
        let names = request.headers().keys().map(HeaderName::as_str);
        self.is_here(request.address()) && is_by_itself(names, request.header("host"))
    }

    fn is_here(self, address: &str) -> bool {
        if self.is_told { address.starts_with("unix:") } else { is_here(address) }
    }
}

/// Whether a request came of a client itself: what comes by a proxy, or of a page by a name that was made to lead
/// here, is somebody else's.
fn is_by_itself<'a>(mut headers: impl Iterator<Item = &'a str>, host: Option<&str>) -> bool {
    !headers.any(is_forwarding) && host.is_some_and(|host| is_known_host(host, &[]))
}

/// Whether this is the address of a client on this machine.
fn is_here(address: &str) -> bool {
    let ip = || address.parse::<std::net::SocketAddr>().ok();
    address.starts_with("unix:") || ip().is_some_and(|at| at.ip().to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rsock_topics::SyncMode;

    use super::*;

    #[test]
    fn rules_say_a_kind_and_what_differs() {
        let rule =
            TopicRule::read("orders.>=durable,age=7d,messages=5,sync.every_ms=20").expect("valid");
        assert_eq!(rule.pattern, "orders.>");
        assert_eq!(rule.settings.kind, Kind::Durable);
        assert_eq!(rule.settings.retention.age, Duration::from_secs(7 * 24 * 60 * 60));
        assert_eq!(rule.settings.retention.messages, 5);
        assert_eq!(rule.settings.sync, SyncMode::EveryMs(20));
        let rule = TopicRule::read("board.*=latest,max_keys=500").expect("valid");
        assert_eq!((rule.settings.kind, rule.settings.max_keys), (Kind::Latest, 500));
        let rule = TopicRule::read("feed.*=memory,coalesce=10ms").expect("valid");
        assert_eq!(rule.settings.coalesce, Duration::from_millis(10));
        let rule = TopicRule::read("room.*=bytes=1MiB").expect("the kind may be left out");
        assert_eq!((rule.settings.kind, rule.settings.retention.bytes), (Kind::Memory, 1 << 20));
    }

    #[test]
    fn what_is_wrong_with_a_rule_is_told() {
        for (text, expected) in [
            ("orders", "the kind of its topics are missing"),
            ("orders=big", "unknown variant `big`"),
            ("orders=durable,agee=7d", "unknown field `agee`"),
            ("orders=durable,age", "\"age\" has no value"),
            ("orders=durable,age=soon", "soon"),
            ("orders=durable,age=1s,age=2s", "\"age\" stands twice"),
            ("a..b=memory", "is not a pattern of topics"),
            ("user.{name}=memory", "* instead of {name}"),
            ("orders=latest,sync=os", "cannot be durable"),
            (
                "feed=memory,coalesce=1s",
                "coalesce = 1000 ms would hold messages back: 100 ms at most",
            ),
        ] {
            let error = TopicRule::read(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_connection_has_a_tenth_of_all_topics_unless_its_share_is_given() {
        let of = |max_topics, share| {
            let options =
                Options { max_topics, max_topics_per_connection: share, ..Options::default() };
            let limits = limits(&options);
            (limits.topics, limits.topics_of_one)
        };
        assert_eq!(of(100_000, None), (100_000, Limits::default().topics_of_one));
        assert_eq!(of(5, None), (5, 1));
        assert_eq!(of(5, Some(7)), (5, 7));
    }

    #[test]
    fn clients_of_this_machine_are_known() {
        for here in ["127.0.0.1:5", "[::1]:5", "[::ffff:127.0.0.1]:5", "unix:uid=0", "unix:"] {
            assert!(is_here(here), "{here}");
        }
        for elsewhere in ["10.0.0.1:5", "[fe80::1%2]:5", "", "localhost:5"] {
            assert!(!is_here(elsewhere), "{elsewhere}");
        }
    }
}
