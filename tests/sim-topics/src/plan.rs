//! Plans: the settings of a world, small enough that every bound is met.

use std::time::Duration;

use rsock_sim::{Choices, Rng};

use crate::topics::{Creation, Kind, Limits, Retention, Settings, TopicName, TopicSettings};

/// Names that worlds use: the first tokens are those of patterns. The last is one that no pattern covers.
const NAMES: [&str; 7] = ["a.1", "a.2", "b.1", "b.2", "none.1", "c", "other"];
/// Names of topics of the newest by key, in the place of some.
const LATEST: [&str; 3] = ["latest.1", "latest.2", "a.1"];

/// The settings of a world.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) settings: Settings,
    pub(crate) names: Vec<TopicName>,
    /// Connections at the beginning: many, so that a pump wakes them in several handfuls, or few.
    pub(crate) connections: u32,
    /// Out of so many chances for another thread to do something in the middle of a call, one is taken.
    pub(crate) intrusion: u32,
    /// At the end some connections stall for ever.
    pub(crate) some_never_heal: bool,
}

fn topic(rng: &mut Rng) -> TopicSettings {
    let bytes = rng.pick(&[2_000, 10_000, 60_000, 1 << 20]);
    let age = rng.pick(&[1, 10, 3_600, 86_400]);
    TopicSettings {
        retention: Retention {
            messages: rng.pick(&[1, 3, 10, 64, 100, 1_000]),
            bytes,
            age: Duration::from_secs(age),
        },
        max_message_bytes: bytes.min(rng.pick(&[100, 1_000, 5_000])),
        max_ephemeral_bytes: rng.pick(&[50, 500, 10_000]),
        dedup_entries: rng.pick(&[1, 3, 50, 16_384]),
        max_subscriptions: rng.pick(&[2, 5, 1_000, 1_000]),
        max_keys: rng.pick(&[1, 3, 8, 100]),
        tombstone_ttl: Duration::from_secs(rng.pick(&[1, 10, 600])),
        ..TopicSettings::default()
    }
}

impl Plan {
    /// The plan of a seed.
    pub(crate) fn arbitrary(rng: &mut Rng) -> Self {
        let is_crowd = rng.one_in(16);
        let mut limits = Limits {
            memory: rng.pick(&[30_000, 100_000, 1 << 30, 1 << 30]),
            topics: rng.pick(&[2, 4, 100, 100]),
            records: rng.pick(&[1, 2, 100]),
            topic_memory: Duration::from_secs(rng.pick(&[5, 3_600, 86_400])),
            subscriptions: rng.pick(&[5, 20, 100_000, 100_000]),
            create: if rng.one_in(4) { Creation::Config } else { Creation::Use },
            ..Limits::default()
        };
        if is_crowd {
            limits = Limits { subscriptions: 100_000, create: Creation::Use, ..limits };
        }
        let [a, b, c] = [topic(rng), topic(rng), topic(rng)];
        let none = TopicSettings { kind: Kind::None, ..topic(rng) };
        let latest = TopicSettings { kind: Kind::Latest, ..topic(rng) };
        let table = [("a.*", a), ("b.>", b), ("none.*", none), ("c", c), ("latest.*", latest)];
        let settings = Settings::new(limits, table).expect("they are valid");
        let many = 2 + rng.below(5) as usize;
        let are_latest = !is_crowd && rng.one_in(3);
        let (names, first) = if are_latest { (&LATEST[..], 0) } else { (&NAMES[..], 1) };
        let names = names.iter().rev().take(many).chain(&NAMES[..first]);
        let names = names.map(|name| TopicName::parse(name).expect("it is a name")).collect();
        Self {
            settings,
            names,
            connections: if is_crowd { 150 } else { 1 + rng.below(5) },
            intrusion: rng.pick(&[2, 8, 32, u32::MAX]),
            some_never_heal: rng.one_in(2),
        }
    }
}
