//! Refusals: reasons why something is not done, in words that clients and tests may match up to the first colon.

use std::{fmt, time::Duration};

/// A reason why a request is not served: INVALID, REJECTED or APPLICATION_ERROR on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It can never succeed as it is: a name, options, JSON, the size of a field.
    Invalid(String),
    /// Nothing was done, and nothing of it remains.
    Rejected(String),
    /// It failed while it was done, and may have been done.
    Failed(String),
}

impl Refusal {
    /// A request that can never succeed as it is.
    pub fn invalid(text: impl fmt::Display) -> Self {
        Self::Invalid(text.to_string())
    }

    /// A request of which nothing was done.
    pub fn rejected(text: impl fmt::Display) -> Self {
        Self::Rejected(text.to_string())
    }

    /// The reason in a word, to be counted by: one of [`REASONS`](Self::REASONS).
    pub fn reason(&self) -> &'static str {
        match self {
            // What peers wrote stands before the colon of some of these.
            Self::Invalid(_) => "invalid",
            Self::Failed(_) => "outcome unknown",
            Self::Rejected(text) => {
                let phrase = text.split(':').next().unwrap_or_default();
                Self::REASONS.iter().find(|reason| **reason == phrase).copied().unwrap_or("other")
            }
        }
    }

    /// All reasons there are.
    pub const REASONS: &[&str] = &[
        "invalid",
        "outcome unknown",
        "other",
        "began anew",
        "closed",
        "conflict",
        "disk behind",
        "disk full",
        "no disk",
        "no memory",
        "no topic",
        "not permitted",
        "overrun",
        "permission ended",
        "read-only",
        "too fast",
        "too many keys",
        "too many subscriptions",
        "too many topics",
    ];

    /// A request that may have been done.
    pub fn failed(text: impl fmt::Display) -> Self {
        Self::Failed(text.to_string())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Invalid(text) | Self::Rejected(text) | Self::Failed(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for Refusal {}

/// The texts. Each begins with its own words up to a colon, then come figures, then what can be done.
impl Refusal {
    /// A message that is larger than its topic takes.
    #[cold]
    pub fn too_large(topic: impl fmt::Debug, bytes: usize, limit: usize) -> Self {
        Self::invalid(format_args!("too large: {bytes} bytes, topic {topic:?} takes {limit}"))
    }

    /// A field that is larger than it may be.
    #[cold]
    pub fn too_large_field(name: &str, bytes: usize, limit: usize) -> Self {
        Self::invalid(format_args!("too large: {name} of {bytes} bytes, {limit} at most"))
    }

    /// A publish without a key where one is needed.
    #[cold]
    pub fn no_key(topic: impl fmt::Debug) -> Self {
        Self::invalid(format_args!(
            "no key: topic {topic:?} keeps the newest message of each key; publish with \"key\""
        ))
    }

    /// A tombstone with data.
    #[cold]
    pub fn tombstone_with_data(bytes: usize) -> Self {
        Self::invalid(format_args!(
            "not a tombstone: \"delete\" goes without data, not {bytes} bytes"
        ))
    }

    /// A join without a name, on a connection that has none.
    #[cold]
    pub fn no_name() -> Self {
        Self::invalid("no name: this connection is not authenticated; join with \"name\"")
    }

    /// Words of a member about itself, where nobody has joined.
    #[cold]
    pub fn info_without_join() -> Self {
        Self::invalid(
            "not a message: \"info\" is what a member says of itself; send it by a join, or leave it out",
        )
    }

    /// Words of a member about itself, with data beside them.
    #[cold]
    pub fn info_with_data(bytes: usize) -> Self {
        Self::invalid(format_args!("not an update: \"info\" goes without data, not {bytes} bytes"))
    }

    /// Words about itself of a member that nobody sees.
    #[cold]
    pub fn info_of_nobody() -> Self {
        Self::invalid(
            "not present: \"info\" is shown in presence, where this join does not appear; join without \
             \"presence\":false",
        )
    }

    /// Items of the service's own that the connection's metadata cannot carry.
    #[cold]
    pub fn no_metadata(option: &str) -> Self {
        Self::invalid(format_args!(
            "no metadata: {option} is told in JSON beside the data; connect with composite metadata, or \
             with the metadata type application/json"
        ))
    }

    /// A topic that is not there.
    #[cold]
    pub fn no_topic(topic: impl fmt::Debug) -> Self {
        Self::rejected(format_args!(
            "no topic: {topic:?}; request the route \"topics\" for the list"
        ))
    }

    /// A topic that is not there, and does not come into being when it is used.
    #[cold]
    pub fn undeclared(topic: impl fmt::Debug) -> Self {
        Self::rejected(format_args!(
            "no topic: {topic:?}, and none is made on use here; request the route \"topics\" for the \
             list"
        ))
    }

    /// A durable topic where nothing is kept on disk.
    #[cold]
    pub fn no_disk(topic: impl fmt::Debug) -> Self {
        Self::rejected(format_args!(
            "no disk: topic {topic:?} is durable, and this service has no data directory; start it with one"
        ))
    }

    /// A topic more than there may be.
    #[cold]
    pub fn too_many_topics(limit: usize) -> Self {
        Self::rejected(format_args!("too many topics: {limit}, as many as allowed; none is made"))
    }

    /// A topic more than one may make: a name, or a connection without one.
    #[cold]
    pub fn too_many_topics_of(name: Option<&str>, limit: usize) -> Self {
        let maker = name.map_or_else(|| "this connection".to_owned(), |name| format!("{name:?}"));
        Self::rejected(format_args!(
            "too many topics: {limit} that {maker} has made, as many as one may; delete some, or use \
             those that are there"
        ))
    }

    /// A subscription more than a topic may have.
    #[cold]
    pub fn too_many_subscriptions_of(topic: impl fmt::Debug, limit: usize) -> Self {
        Self::rejected(format_args!(
            "too many subscriptions: topic {topic:?} has {limit}, as many as allowed"
        ))
    }

    /// A subscription more than there may be.
    #[cold]
    pub fn too_many_subscriptions(limit: usize) -> Self {
        Self::rejected(format_args!(
            "too many subscriptions: {limit} in all topics, as many as allowed"
        ))
    }

    /// A key more than a topic may have.
    #[cold]
    pub fn too_many_keys(topic: impl fmt::Debug, limit: usize) -> Self {
        Self::rejected(format_args!(
            "too many keys: topic {topic:?} has {limit}, as many as allowed; delete some"
        ))
    }

    /// A message for which the logs have no memory.
    #[cold]
    pub fn no_memory(limit: usize) -> Self {
        Self::rejected(format_args!("no memory: all logs hold {limit} bytes, as many as allowed"))
    }

    /// Words of a member for which presence has no memory.
    #[cold]
    pub fn no_memory_for_presence(limit: usize) -> Self {
        Self::rejected(format_args!("no memory: presence holds {limit} bytes, as many as allowed"))
    }

    /// A publish that comes too soon.
    #[cold]
    pub fn too_fast(per_second: u32, wait: Duration) -> Self {
        // Who comes back sooner than that would be refused again.
        let wait = wait.as_micros().div_ceil(1_000).max(1);
        Self::rejected(format_args!(
            "too fast: {per_second} messages/s allowed; again in {wait} ms"
        ))
    }

    /// A publish for which the disk is too slow.
    #[cold]
    pub fn disk_behind(topic: impl fmt::Debug) -> Self {
        Self::rejected(format_args!(
            "disk behind: too much of topic {topic:?} waits for it; try again"
        ))
    }

    /// A publish that expected another last offset, of the topic or of its key.
    #[cold]
    pub fn conflict(
        key: Option<&str>,
        last: impl fmt::Display,
        expected: impl fmt::Display,
    ) -> Self {
        let of = key.map_or_else(|| "the topic".to_owned(), |key| format!("key {key:?}"));
        Self::rejected(format_args!("conflict: the last offset of {of} is {last}, not {expected}"))
    }

    /// A publish behind a topic's last message.
    #[cold]
    pub fn closed(topic: impl fmt::Debug, last: impl fmt::Display) -> Self {
        Self::rejected(format_args!("closed: the last message of topic {topic:?} is {last}"))
    }

    /// A reader that is further behind than is kept, and asked to end then.
    #[cold]
    pub fn overrun(behind: u64, oldest: impl fmt::Display) -> Self {
        Self::rejected(format_args!(
            "overrun: {behind} messages behind; the oldest kept is {oldest}; subscribe again from there"
        ))
    }

    /// A position in a numbering that has ended.
    #[cold]
    pub fn began_anew(
        topic: impl fmt::Debug,
        epoch: impl fmt::Display,
        asked: impl fmt::Display,
    ) -> Self {
        Self::rejected(format_args!(
            "began anew: the log of topic {topic:?} has epoch {epoch}, not {asked}; read from the start"
        ))
    }

    /// An action that was not granted, and those that were, as far as they are told.
    #[cold]
    pub fn not_permitted(action: &str, topic: impl fmt::Debug, granted: Option<&str>) -> Self {
        let granted = granted.map_or(String::new(), |granted| format!(" (granted: {granted})"));
        Self::rejected(format_args!("not permitted: {action} on topic {topic:?}{granted}"))
    }

    /// A token for a topic, where there is nothing to check it with.
    #[cold]
    pub fn token_unchecked(topic: impl fmt::Debug) -> Self {
        Self::rejected(format_args!(
            "not permitted: the token for topic {topic:?} cannot be checked, since topic tokens are not \
             configured on this service; ask without \"token\""
        ))
    }

    /// A token for a topic that is none, or none for this topic or this client: why is not told.
    #[cold]
    pub fn token_refused(topic: impl fmt::Debug) -> Self {
        Self::rejected(format_args!(
            "not permitted: the token is not one for topic {topic:?} and you"
        ))
    }

    /// A sender's name that is not its own.
    #[cold]
    pub fn not_own_name(from: &str, own: &str) -> Self {
        Self::rejected(format_args!(
            "not permitted: publish-as {from:?}; this connection's name is {own:?}"
        ))
    }

    /// A permission that ended while it was used.
    #[cold]
    pub fn permission_ended(action: &str, topic: impl fmt::Debug) -> Self {
        Self::rejected(format_args!(
            "permission ended: {action} on topic {topic:?}; authenticate again"
        ))
    }

    /// A topic whose disk has failed.
    #[cold]
    pub fn read_only(topic: impl fmt::Debug, cause: impl fmt::Display) -> Self {
        Self::rejected(format_args!(
            "read-only: topic {topic:?} takes nothing until the service is started again; {cause}"
        ))
    }

    /// A publish to a topic of which a part is lost.
    #[cold]
    pub fn damaged(topic: impl fmt::Debug, damage: impl fmt::Display) -> Self {
        Self::rejected(format_args!(
            "read-only: topic {topic:?} is damaged: {damage}; accept the loss, or delete it"
        ))
    }

    /// A publish that failed when it may have been stored already.
    #[cold]
    pub fn outcome_unknown(cause: impl fmt::Display) -> Self {
        Self::failed(format_args!("outcome unknown: {cause}; publish again with the same id"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rejection_has_a_reason_of_its_own() {
        let t = "room.1";
        for (refusal, reason) in [
            (Refusal::no_topic(t), "no topic"),
            (Refusal::undeclared(t), "no topic"),
            (Refusal::no_disk(t), "no disk"),
            (Refusal::too_many_topics(1), "too many topics"),
            (Refusal::too_many_topics_of(Some("a:b"), 1), "too many topics"),
            (Refusal::too_many_subscriptions_of(t, 1), "too many subscriptions"),
            (Refusal::too_many_subscriptions(1), "too many subscriptions"),
            (Refusal::too_many_keys(t, 1), "too many keys"),
            (Refusal::no_memory(1), "no memory"),
            (Refusal::too_fast(1, Duration::ZERO), "too fast"),
            (Refusal::disk_behind(t), "disk behind"),
            (Refusal::conflict(None, 1, 2), "conflict"),
            (Refusal::closed(t, 1), "closed"),
            (Refusal::overrun(1, 2), "overrun"),
            (Refusal::began_anew(t, 1, 2), "began anew"),
            (Refusal::not_permitted("join", t, None), "not permitted"),
            (Refusal::permission_ended("join", t), "permission ended"),
            (Refusal::read_only(t, "x"), "read-only"),
            (Refusal::no_key(t), "invalid"),
            (Refusal::outcome_unknown("x"), "outcome unknown"),
            (Refusal::rejected("x"), "other"),
        ] {
            assert_eq!(refusal.reason(), reason, "{refusal}");
            assert!(Refusal::REASONS.contains(&reason));
        }
    }

    #[test]
    fn texts_are_words_up_to_a_colon_then_figures_then_a_remedy() {
        let topic = "room.1";
        for (refusal, expected) in [
            (
                Refusal::too_large(topic, 1_200_000, 1_048_576),
                "too large: 1200000 bytes, topic \"room.1\" takes 1048576",
            ),
            (
                Refusal::too_fast(50, Duration::from_micros(19_001)),
                "too fast: 50 messages/s allowed; again in 20 ms",
            ),
            (
                Refusal::conflict(Some("7"), 33, 31),
                "conflict: the last offset of key \"7\" is 33, not 31",
            ),
            (
                Refusal::conflict(None, 33, 31),
                "conflict: the last offset of the topic is 33, not 31",
            ),
            (
                Refusal::overrun(1_200, 4_711),
                "overrun: 1200 messages behind; the oldest kept is 4711; subscribe again from there",
            ),
            (
                Refusal::not_permitted("publish", topic, Some("subscribe room.*")),
                "not permitted: publish on topic \"room.1\" (granted: subscribe room.*)",
            ),
            (
                Refusal::undeclared(topic),
                "no topic: \"room.1\", and none is made on use here; request the route \"topics\" for \
                 the list",
            ),
            (
                Refusal::began_anew(topic, "9f3c", "01ab"),
                "began anew: the log of topic \"room.1\" has epoch 9f3c, not 01ab; read from the start",
            ),
            (
                Refusal::outcome_unknown("no space left on device"),
                "outcome unknown: no space left on device; publish again with the same id",
            ),
        ] {
            assert_eq!(refusal.to_string(), expected);
        }
        assert!(matches!(Refusal::too_large(topic, 2, 1), Refusal::Invalid(_)));
        assert!(matches!(Refusal::too_fast(1, Duration::ZERO), Refusal::Rejected(_)));
        assert!(matches!(Refusal::outcome_unknown(""), Refusal::Failed(_)));
    }
}
