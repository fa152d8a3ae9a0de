//! Settings: which topics there may be, and the bounds of each and of all.

mod form;

use std::{sync::Arc, time::Duration};

use serde::Deserialize;

use crate::{
    name::{Pattern, TopicName},
    rate::Rate,
};

/// The log that a topic has: its settings say so, never who publishes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A ring in memory.
    #[default]
    Memory,
    /// Files, and a ring in memory before them.
    Durable,
    /// The newest message of each key, in memory.
    Latest,
    /// No log: every message is an event of the moment.
    None,
}

impl Kind {
    /// The name it has in settings and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Durable => "durable",
            Self::Latest => "latest",
            Self::None => "none",
        }
    }
}

/// How much of a log is kept: the oldest goes when one of these is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Messages that are older than two seconds.
    pub messages: u64,
    /// Bytes of memory.
    #[serde(deserialize_with = "form::bytes")]
    pub bytes: usize,
    /// Age of a message.
    #[serde(deserialize_with = "form::time")]
    pub age: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { messages: 1_024, bytes: 8 << 20, age: Duration::from_secs(24 * 60 * 60) }
    }
}

/// The publishes of a durable topic that may wait for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pending {
    /// How many.
    pub messages: usize,
    /// Their bytes.
    #[serde(deserialize_with = "form::bytes")]
    pub bytes: usize,
}

impl Default for Pending {
    fn default() -> Self {
        Self { messages: 1_024, bytes: 4 << 20 }
    }
}

/// The moment at which a durable message is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncMode {
    /// When it is on disk.
    #[default]
    Always,
    /// When it is written; it is synced within so many milliseconds.
    EveryMs(u64),
    /// When it is written; the system syncs it when it likes.
    Os,
}

/// The longest time for which messages may be gathered.
const MAX_COALESCE: Duration = Duration::from_millis(100);

/// The settings of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopicSettings {
    /// Its log.
    pub kind: Kind,
    /// How much of the log is kept.
    pub retention: Retention,
    /// Bytes of the largest message.
    #[serde(deserialize_with = "form::bytes")]
    pub max_message_bytes: usize,
    /// Bytes of the largest event that is not kept.
    #[serde(deserialize_with = "form::bytes")]
    pub max_ephemeral_bytes: usize,
    /// Idempotency keys that are remembered.
    pub dedup_entries: usize,
    /// Names that presence shows.
    pub max_members: usize,
    /// Keys of a topic of the newest by key.
    pub max_keys: usize,
    /// How long a deleted key is remembered.
    #[serde(deserialize_with = "form::time")]
    pub tombstone_ttl: Duration,
    /// How long a member whose connection was lost is still there: a page that is loaded again is not seen
    /// to leave.
    #[serde(deserialize_with = "form::time")]
    pub presence_grace: Duration,
    /// Publishes of all together; no limit if absent.
    pub rate: Option<Rate>,
    /// Subscriptions at a time.
    pub max_subscriptions: usize,
    /// The time between two rounds of waking those who wait for messages, 100 ms at most: what is published
    /// meanwhile is one write for each connection. The first message after a pause is not delayed.
    #[serde(deserialize_with = "form::time")]
    pub coalesce: Duration,
    /// Publishes that wait for the disk.
    pub pending: Pending,
    /// When a durable message is acknowledged.
    pub sync: SyncMode,
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self {
            kind: Kind::Memory,
            retention: Retention::default(),
            max_message_bytes: 1 << 20,
            max_ephemeral_bytes: 64 << 10,
            dedup_entries: 16_384,
            max_members: 10_000,
            max_keys: 10_000,
            tombstone_ttl: Duration::from_secs(10 * 60),
            presence_grace: Duration::from_secs(5),
            rate: None,
            max_subscriptions: 100_000,
            coalesce: Duration::ZERO,
            pending: Pending::default(),
            sync: SyncMode::Always,
        }
    }
}

impl TopicSettings {
    /// Checks what no topic can be.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        let Retention { messages, bytes, age } = self.retention;
        if self.sync != SyncMode::Always && self.kind == Kind::Latest {
            return Err(
                "a topic of kind \"latest\" cannot be durable: it is kept in memory alone, so \
                        leave `sync` out, or take kind \"durable\""
                    .to_owned(),
            );
        }
        if self.sync != SyncMode::Always && self.kind != Kind::Durable {
            let kind = self.kind.as_str();
            return Err(format!("a topic of kind {kind:?} is never on disk: leave `sync` out"));
        }
        if messages == 0 || bytes == 0 || age.is_zero() {
            return Err(
                "retention of 0 keeps nothing: a topic without a log has the kind \"none\""
                    .to_owned(),
            );
        }
        if self.max_message_bytes > bytes && self.kind != Kind::None {
            return Err(format!(
                "a message of max_message_bytes = {} would not fit in retention.bytes = {bytes}",
                self.max_message_bytes
            ));
        }
        for (name, value) in [
            ("max_message_bytes", self.max_message_bytes),
            ("dedup_entries", self.dedup_entries),
            ("max_keys", self.max_keys),
            ("max_subscriptions", self.max_subscriptions),
            ("pending.messages", self.pending.messages),
            ("pending.bytes", self.pending.bytes),
        ] {
            if value == 0 {
                return Err(format!("{name} = 0 would refuse everything: 1 at least"));
            }
        }
        if self.coalesce > MAX_COALESCE {
            let asked = self.coalesce.as_millis();
            let most = MAX_COALESCE.as_millis();
            return Err(format!(
                "coalesce = {asked} ms would hold messages back: {most} ms at most"
            ));
        }
        if self.sync == SyncMode::EveryMs(0) {
            return Err("sync = { every_ms = 0 } is \"always\"".to_owned());
        }
        Ok(())
    }

    /// Bytes of the largest message, or of the largest event that is not kept.
    pub fn max_bytes(&self, is_ephemeral: bool) -> usize {
        if is_ephemeral {
            self.max_ephemeral_bytes.min(self.max_message_bytes)
        } else {
            self.max_message_bytes
        }
    }
}

/// How topics come into being.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Creation {
    /// When they are used first, whatever their name.
    #[default]
    Use,
    /// When they are used first, if a pattern of the settings covers them.
    Config,
}

/// The bounds of all topics together.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of all logs in memory.
    #[serde(deserialize_with = "form::bytes")]
    pub memory: usize,
    /// Topics with messages or readers.
    pub topics: usize,
    /// Topics of these that one name has made, or one connection without one.
    pub topics_of_one: usize,
    /// Topics of which the name and the numbering are remembered, beside those.
    pub records: usize,
    /// How long a topic without messages and readers is remembered.
    #[serde(deserialize_with = "form::time")]
    pub topic_memory: Duration,
    /// Subscriptions at a time.
    pub subscriptions: usize,
    /// Bytes of all publishes that wait for the disk.
    #[serde(deserialize_with = "form::bytes")]
    pub pending_bytes: usize,
    /// How topics come into being.
    pub create: Creation,
    /// Publishes of a connection; no limit if absent.
    pub connection_rate: Option<Rate>,
    /// Publishes of a name on all its connections; no limit if absent.
    pub name_rate: Option<Rate>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 1 << 30,
            topics: 100_000,
            topics_of_one: 10_000,
            records: 100_000,
            topic_memory: Duration::from_secs(24 * 60 * 60),
            subscriptions: 1_000_000,
            pending_bytes: 64 << 20,
            create: Creation::Use,
            connection_rate: None,
            name_rate: None,
        }
    }
}

/// The bounds of all topics together, and the settings of each: those of the first pattern that covers it.
///
/// In a file these are the tables `[topics]`, and `[[topic]]` for each pattern. Bytes are numbers, or text
/// as `"8MiB"`; times are seconds, or text as `"24h"`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "form::File")]
pub struct Settings {
    limits: Limits,
    table: Vec<(Pattern, Arc<TopicSettings>)>,
    undeclared: Arc<TopicSettings>,
}

impl Settings {
    /// These bounds, and these settings for topics of these patterns.
    ///
    /// # Errors
    /// What is wrong, and with which pattern, as a sentence.
    pub fn new<'a>(
        limits: Limits,
        table: impl IntoIterator<Item = (&'a str, TopicSettings)>,
    ) -> Result<Self, String> {
        let mut settings = Self { limits, ..Self::default() };
        for (text, of_topic) in table {
            let pattern = Pattern::parse(text)?;
            if text.split('.').any(|token| matches!(token, "{name}" | "{user}")) {
                return Err(format!(
                    "topic {text:?}: settings are the same for all: * instead of {{name}}"
                ));
            }
            if settings.table.iter().any(|(other, _)| *other == pattern) {
                return Err(format!("topic {text:?}: it stands twice, and the first counts"));
            }
            of_topic.check().map_err(|error| format!("topic {text:?}: {error}"))?;
            settings.table.push((pattern, Arc::new(of_topic)));
        }
        Ok(settings)
    }

    /// The bounds of all topics together.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The settings of a topic, if there may be one of this name.
    pub fn of(&self, topic: &TopicName) -> Option<&Arc<TopicSettings>> {
        let declared = self.table.iter().find(|(pattern, _)| pattern.covers(topic, None));
        match (declared, self.limits.create) {
            (Some((_, settings)), _) => Some(settings),
            (None, Creation::Use) => Some(&self.undeclared),
            (None, Creation::Config) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(toml: &str) -> Result<Settings, String> {
        toml::from_str(toml).map_err(|error| error.message().to_owned())
    }

    fn of(settings: &Settings, name: &str) -> Option<TopicSettings> {
        let name = TopicName::parse(name).expect("a name");
        settings.of(&name).map(|settings| TopicSettings::clone(settings))
    }

    #[test]
    fn nothing_said_is_the_defaults() {
        let settings = read("").expect("empty is right");
        assert_eq!(settings.limits(), &Limits::default());
        assert_eq!(of(&settings, "any.thing"), Some(TopicSettings::default()));
        assert_eq!(TopicSettings::default().check(), Ok(()));
    }

    #[test]
    fn the_first_pattern_that_covers_a_topic_counts() {
        let settings = read(
            r#"
            [topics]
            memory = "512MiB"
            topic_memory = "90min"
            name_rate = { per_second = 50, burst = 100 }

            [[topic]]
            pattern = "room.lobby"
            kind = "latest"
            max_keys = 5

            [[topic]]
            pattern = "room.>"
            kind = "durable"
            retention = { messages = 10_000, age = "7d" }
            max_message_bytes = 65_536
            max_ephemeral_bytes = "8KiB"
            sync = { every_ms = 5 }
            presence_grace = 2.5
            coalesce = "10ms"
            rate = { per_second = 9 }
            pending = { messages = 64 }
            "#,
        );
        let settings = settings.expect("valid");
        assert_eq!(settings.limits().memory, 512 << 20);
        assert_eq!(settings.limits().topic_memory, Duration::from_secs(5_400));
        assert_eq!(settings.limits().name_rate, Rate::new(50, 100).ok());
        let lobby = TopicSettings { kind: Kind::Latest, max_keys: 5, ..TopicSettings::default() };
        assert_eq!(of(&settings, "room.lobby"), Some(lobby));
        let rooms = TopicSettings {
            kind: Kind::Durable,
            retention: Retention {
                messages: 10_000,
                age: Duration::from_secs(7 * 24 * 60 * 60),
                ..Retention::default()
            },
            max_message_bytes: 65_536,
            max_ephemeral_bytes: 8 << 10,
            sync: SyncMode::EveryMs(5),
            presence_grace: Duration::from_millis(2_500),
            coalesce: Duration::from_millis(10),
            rate: Rate::new(9, 9).ok(),
            pending: Pending { messages: 64, ..Pending::default() },
            ..TopicSettings::default()
        };
        assert_eq!(of(&settings, "room.1"), Some(rooms));
        assert_eq!(of(&settings, "feed"), Some(TopicSettings::default()));
    }

    #[test]
    fn undeclared_topics_can_be_refused() {
        let settings = read("topics.create = 'config'\n[[topic]]\npattern = 'room.*'");
        let settings = settings.expect("valid");
        assert_eq!(of(&settings, "room.1"), Some(TopicSettings::default()));
        assert_eq!(of(&settings, "room.1.x"), None);
        assert_eq!(of(&settings, "feed"), None);
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_sentence() {
        for (toml, expected) in [
            ("topix = 1", "unknown field `topix`"),
            ("topics.memroy = 1", "unknown field `memroy`"),
            ("topic = [{ kind = 'latest' }]", "missing field `pattern`"),
            ("topic = [{ pattern = 'a', knd = 'latest' }]", "unknown field `knd`"),
            ("topic = [{ pattern = 'a', pattern = 'b' }]", "duplicate key"),
            ("topic = [{ pattern = 'a', kind = 'latets' }]", "unknown variant `latets`"),
            ("topic = [{ pattern = 'a..b' }]", "is not a pattern of topics"),
            ("topic = [{ pattern = 'a.{name}' }]", "* instead of {name}"),
            ("topic = [{ pattern = 'a.{user}' }]", "* instead of {name}"),
            ("topic = [{ pattern = 'a.>' }, { pattern = 'a.>' }]", "\"a.>\": it stands twice"),
            (
                "topic = [{ pattern = 'a', kind = 'latest', sync = 'os' }]",
                "topic \"a\": a topic of kind \"latest\" cannot be durable",
            ),
            ("topic = [{ pattern = 'a', sync = 'os' }]", "kind \"memory\" is never on disk"),
            ("topic = [{ pattern = 'a', retention = { messages = 0 } }]", "keeps nothing"),
            ("topic = [{ pattern = 'a', retention = { bytes = 10 } }]", "would not fit"),
            ("topic = [{ pattern = 'a', max_keys = 0 }]", "max_keys = 0 would refuse"),
            ("topic = [{ pattern = 'a', max_message_bytes = '1 MB' }]", "\"1 MB\" is not bytes"),
            ("topic = [{ pattern = 'a', max_message_bytes = -1 }]", "-1"),
            ("topic = [{ pattern = 'a', presence_grace = '5 parsecs' }]", "parsecs"),
            ("topic = [{ pattern = 'a', presence_grace = -1 }]", "-1"),
            ("topic = [{ pattern = 'a', coalesce = '101ms' }]", "coalesce = 101 ms would hold"),
            ("topic = [{ pattern = 'a', rate = { per_second = 0 } }]", "allows 1 to"),
            (
                "topic = [{ pattern = 'a', kind = 'durable', sync = { every_ms = 0 } }]",
                "is \"always\"",
            ),
        ] {
            let error = read(toml).expect_err(toml);
            assert!(error.contains(expected), "{toml}: {error}");
        }
    }

    #[test]
    fn an_event_is_never_larger_than_a_message() {
        let mut settings = TopicSettings::default();
        assert_eq!((settings.max_bytes(false), settings.max_bytes(true)), (1 << 20, 64 << 10));
        settings.max_message_bytes = 100;
        assert_eq!(settings.max_bytes(true), 100);
    }
}
