//! Plans: the settings of a world, small enough that every bound is met.

use std::time::Duration;

use rsock_sim::{Choices, Rng};

use crate::topics::{
    Creation, Kind, Limits, Pending, PresenceSettings, Retention, Settings, SyncMode, TopicName,
    TopicSettings, store::Settings as Sizes,
};

/// Names that worlds use: the first tokens are those of patterns. The last is one that no pattern covers.
const NAMES: [&str; 7] = ["a.1", "a.2", "b.1", "b.2", "none.1", "c", "other"];
/// Names of topics of the newest by key, in the place of some.
const LATEST: [&str; 3] = ["latest.1", "latest.2", "a.1"];
/// And of durable ones.
const DURABLE: [&str; 4] = ["durable.1", "loose.1", "a.1", "durable.2"];

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
    /// Some topics are on a disk: the sizes of its files.
    pub(crate) disk: Option<Sizes>,
    /// Somebody comes and goes: the settings of a topic's presence.
    pub(crate) room: Option<PresenceSettings>,
    /// It fails now and then.
    pub(crate) disk_fails: bool,
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

/// A room in which few are many.
fn room(rng: &mut Rng) -> PresenceSettings {
    PresenceSettings {
        grace: Duration::from_secs(rng.pick(&[1, 5])),
        gather_above: rng.pick(&[0, 1, 3, 6, 100]),
        gather_for: Duration::from_millis(200),
        max_members: rng.pick(&[2, 5, 100]),
        max_sessions: rng.pick(&[3, 8, 200]),
        max_change_bytes: rng.pick(&[400, 2_000, 1 << 20, 1 << 20]),
    }
}

/// Files so small that each of their ends is met.
fn sizes(rng: &mut Rng) -> Sizes {
    let mut below = |bound| u64::from(rng.below(bound));
    Sizes {
        journal_bytes: 16_384 * (1 + below(2)),
        max_waiting_files: 1 + below(3) as usize,
        segment_bytes: 300 + below(4_000),
        max_open_segments: 1 + below(3) as usize,
        max_bytes: 1 << 40,
        batch_bytes: 300 + below(5_000) as usize,
        flush_bytes: 100 + below(1_500) as usize,
        pending_bytes: 8_000 + below(20_000),
        pack_bytes: 1_024 + below(4_000),
        max_runs: 2 + below(3) as usize,
        catalogue_bytes: 500 + below(2_000),
        accepts_damage: false,
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
        let pending = Pending { messages: rng.pick(&[1, 4, 1_024]), ..Pending::default() };
        let of_disk = |sync, of| TopicSettings { kind: Kind::Durable, sync, pending, ..of };
        let durable = of_disk(SyncMode::Always, topic(rng));
        let loose = rng.pick(&[SyncMode::Os, SyncMode::EveryMs(20)]);
        let loose = of_disk(loose, topic(rng));
        let table = [
            ("a.*", a),
            ("b.>", b),
            ("none.*", none),
            ("c", c),
            ("latest.*", latest),
            ("durable.*", durable),
            ("loose.*", loose),
        ];
        let settings = Settings::new(limits, table).expect("they are valid");
        let many = 2 + rng.below(5) as usize;
        let are_latest = !is_crowd && rng.one_in(3);
        let has_disk = !is_crowd && !are_latest && rng.one_in(2);
        let (names, first) = match (are_latest, has_disk) {
            (true, _) => (&LATEST[..], 0),
            (_, true) => (&DURABLE[..], 0),
            _ => (&NAMES[..], 1),
        };
        let names = names.iter().rev().take(many).chain(&NAMES[..first]);
        let names = names.map(|name| TopicName::parse(name).expect("it is a name")).collect();
        Self {
            settings,
            names,
            connections: if is_crowd { 150 } else { 1 + rng.below(5) },
            intrusion: rng.pick(&[2, 8, 32, u32::MAX]),
            some_never_heal: rng.one_in(2),
            disk: has_disk.then(|| sizes(rng)),
            room: rng.one_in(2).then(|| room(rng)),
            disk_fails: rng.one_in(4),
        }
    }
}
