//! Members of durable topics: answered when what they sent is on disk, from where history has it again.

use std::path::{Path, PathBuf};

use futures_util::TryStreamExt;
use rsock::topic::Event;
use rsock_tests::script::PATIENCE;
use rsock_topics::{AllowAll, Kind, Limits, Service, Settings, TopicSettings, store};

use crate::{World, join::Member};

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = format!("rsock-topics-{}-{name}", std::process::id());
        Self(std::env::temp_dir().join(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // It may not be there, and nobody needs it.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn open(folder: &Path) -> World {
    let durable = TopicSettings { kind: Kind::Durable, ..TopicSettings::default() };
    let settings = Settings::new(Limits::default(), [("room.>", durable)]).expect("valid");
    let open = || {
        let sizes = store::Settings::default();
        Service::open(settings.clone(), AllowAll, folder, sizes).ok()
    };
    // Whoever had it before gives it up when the last of its connections has ended.
    let opened = async {
        loop {
            match open() {
                Some(opened) => break opened,
                None => tokio::task::yield_now().await,
            }
        }
    };
    let opened = tokio::time::timeout(PATIENCE, opened).await;
    let (service, damaged) = opened.expect("nobody else has it");
    assert!(damaged.is_empty(), "{damaged:?}");
    World::of(service).await
}

#[tokio::test]
async fn members_are_answered_from_the_disk_and_history_reads_it() {
    const MESSAGES: u64 = 400;
    let folder = Folder::new("members");
    let world = open(&folder.0).await;
    let mut ann = Member::join(&world, r#"{"name":"ann","receive":"acks"}"#, 100);
    // More in all than what is brought back into memory.
    let data = |n| format!("{n:08192}");
    for n in 1..=MESSAGES {
        ann.send(&format!(r#"{{"id":"m-{n}"}}"#), data(n)).await;
    }
    for n in 1..=MESSAGES {
        assert_eq!(ann.next().await, format!("ack {n} m-{n}"));
    }
    let mut both = Member::join(&world, r#"{"name":"bob","receive":"both"}"#, 100);
    both.send(r#"{"id":"b"}"#, "hi").await;
    assert_eq!(both.next().await, format!("{} bob hi own b", MESSAGES + 1));
    world.service.close().expect("it is committed");
    world.server.abort();
    drop((ann, both, world));

    let world = open(&folder.0).await;
    let history = world.topic("room.1").history();
    let mut page = history.max_bytes(100_000).page().await.expect("a page");
    assert_eq!((page.base, page.head), (1, MESSAGES + 1));
    let mut newest_first = Vec::new();
    loop {
        assert!(page.messages.len() <= 13, "{} messages", page.messages.len());
        newest_first.extend(page.messages.iter().rev().map(|message| message.offset));
        match page.older() {
            Some(older) => page = older.page().await.expect("a page"),
            None => break,
        }
    }
    assert_eq!(newest_first, (1..=MESSAGES + 1).rev().collect::<Vec<_>>());
    // The other way, as a stream.
    let events = world.topic("room.1").history().limit(MESSAGES).stream();
    let data_of = |event: Event| match event {
        Event::Message(message) => message.data,
        other => panic!("{other:?}"),
    };
    let read: Vec<_> = events.map_ok(data_of).try_collect().await.expect("it completes");
    assert!(read.iter().zip(1..).all(|(read, n)| *read == data(n)));
    assert_eq!(read.len() as u64, MESSAGES);
    // What was published before is known again.
    let mut ann = Member::join(&world, r#"{"name":"ann","receive":"acks"}"#, 100);
    ann.send(r#"{"id":"m-390"}"#, "again").await;
    assert_eq!(ann.next().await, "ack 390 m-390 duplicate");
}
