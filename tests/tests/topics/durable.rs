//! Durable topics: what is promised of them, over the service's end and another's beginning, and over a disk
//! that is slow or breaks.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use rsock::{
    Payload,
    topic::{self, Event, NewMessage, Position, Start},
};
use rsock_tests::script::PATIENCE;
use rsock_topics::{AllowAll, Kind, Limits, Retention, Service, Settings, TopicSettings, store};

use crate::{
    World, ask,
    disk::{Hand, HeldDisk},
    join::Member,
};

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

/// Rooms, of which this much is kept.
fn rooms(retention: Retention) -> Settings {
    let durable = TopicSettings { kind: Kind::Durable, retention, ..TopicSettings::default() };
    Settings::new(Limits::default(), [("room.>", durable)]).expect("valid")
}

/// The gift of this at last: whoever had the directory before gives it up when the last of its connections has
/// ended.
async fn at_last<T>(open: impl Fn() -> Option<T>) -> T {
    let opened = async {
        loop {
            match open() {
                Some(opened) => break opened,
                None => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, opened).await.expect("nobody else has it")
}

async fn open_with(folder: &Path, settings: Settings) -> World {
    let sizes = store::Settings::default();
    let open = || Service::open(settings.clone(), AllowAll, folder, sizes).ok();
    let (service, damaged) = at_last(open).await;
    assert!(damaged.is_empty(), "{damaged:?}");
    World::of(service).await
}

async fn open(folder: &Path) -> World {
    open_with(folder, rooms(Retention::default())).await
}

/// The same on a disk that is in this hand.
async fn open_held(folder: &Path) -> (World, Hand) {
    let (disk, hand) = at_last(|| HeldDisk::open(folder)).await;
    let (settings, sizes) = (rooms(Retention::default()), store::Settings::default());
    let opened = Service::open_on(settings, AllowAll, disk, sizes);
    (World::of(opened.expect("it works").0).await, hand)
}

/// The service ends in order.
async fn close(world: World) {
    world.service.close().expect("it is committed");
    world.server.abort();
}

/// The data of the messages, and words for what else is told.
async fn read(
    events: impl futures_util::Stream<Item = Result<Event, rsock::Error>>,
) -> Vec<String> {
    let words = |event: Event| match event {
        Event::Message(message) => String::from_utf8_lossy(&message.data).into_owned(),
        Event::Gap { from, to, .. } => format!("gap {from} {to}"),
        Event::Reset { base, .. } => format!("reset {base}"),
        other => format!("{other:?}"),
    };
    let read = events.map_ok(words).try_collect();
    tokio::time::timeout(PATIENCE, read).await.expect("in time").expect("it completes")
}

/// Whoever reads is told what is lost and goes on behind it; whoever publishes, why nothing more is taken.
#[tokio::test]
async fn what_the_disk_has_lost_is_told_and_its_topic_takes_no_more_until_that_is_accepted() {
    let folder = Folder::new("lost");
    let world = open(&folder.0).await;
    for room in ["room.1", "room.2"] {
        for n in 1..=3 {
            let text = NewMessage::new(format!("{room} message {n}"));
            world.topic(room).publish(text).await.expect("room");
        }
    }
    close(world).await;
    let pack = std::fs::read_dir(folder.0.join("packs")).expect("packs").next();
    let pack = pack.expect("a pack").expect("a file").path();
    let mut bytes = std::fs::read(&pack).expect("readable");
    let lost = b"room.1 message 2";
    let at = bytes.windows(lost.len()).position(|part| part == lost).expect("it is there");
    bytes[at] ^= 1;
    std::fs::write(&pack, bytes).expect("writable");
    for accepts_damage in [false, true] {
        let sizes = store::Settings { accepts_damage, ..store::Settings::default() };
        let settings = || rooms(Retention::default());
        let open = || Service::open(settings(), AllowAll, &folder.0, sizes).ok();
        let (service, found) = at_last(open).await;
        let (tell, mut told) = tokio::sync::mpsc::channel(1);
        service.on_damage(move |damaged| drop(tell.try_send(damaged.clone())));
        if accepts_damage {
            let text =
                "\"room.1\" goes on without what is lost: the disk has lost messages: packs/";
            assert!(found.len() == 1 && found[0].damage.starts_with(text), "{found:?}");
        } else {
            // It is met when the newest messages are brought back into memory.
            let damaged = told.recv().await.expect("it is told");
            assert_eq!(damaged.name.as_ref().map(|name| name.as_str()), Some("room.1"));
        }
        let world = World::of(service).await;
        let all = read(world.topic("room.1").history().stream()).await;
        assert_eq!(all[..3], ["room.1 message 1", "gap 2 2", "room.1 message 3"]);
        let published = world.topic("room.1").publish("more").await;
        assert_eq!(published.is_ok(), accepts_damage, "{published:?}");
        if let Err(refused) = published {
            let text = refused.to_string();
            let begins =
                "read-only: topic \"room.1\" is damaged: the disk has lost messages: packs/";
            assert!(text.contains(begins), "{text}");
        }
        world.topic("room.2").publish("more").await.expect("others go on");
        assert!(world.service.store_figures().expect("a disk").damaged_reads > 0);
        close(world).await;
    }
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
    drop((ann, both));
    close(world).await;

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

#[tokio::test]
async fn the_numbering_goes_on_and_the_last_message_stays_the_last() {
    let folder = Folder::new("closed");
    let world = open(&folder.0).await;
    world.publish("room.1", 1..=2).await;
    let last = NewMessage::new("3").id("m-3").closing();
    let published = world.topic("room.1").publish(last.clone()).await.expect("room");
    assert_eq!(published.offset, 3);
    close(world).await;

    let world = open(&folder.0).await;
    let room = world.topic("room.1");
    let refused = room.publish("4").await.expect_err("it is closed").to_string();
    assert_eq!(refused, "REJECTED: closed: the last message of topic \"room.1\" is 3");
    let again = room.publish(last).await.expect("it is known");
    assert!(again.duplicate && again.offset == 3 && again.epoch == published.epoch, "{again:?}");
    // Its readers complete behind it, wherever they were.
    let all = room.subscribe().from(Start::Oldest).start();
    assert_eq!(read(all).await, ["1", "2", "3"]);
    let position = Position { epoch: published.epoch, offset: 2 };
    assert_eq!(read(room.subscribe().from(position).start()).await, ["3"]);
    let position = Position { epoch: published.epoch, offset: 3 };
    assert_eq!(read(room.subscribe().from(position).start()).await, [""; 0]);
}

#[tokio::test]
async fn a_reader_from_the_start_gets_from_the_disk_what_is_not_in_memory() {
    const MESSAGES: u64 = 2_500;
    let folder = Folder::new("start");
    let retention = Retention { messages: 100_000, bytes: 256 << 20, ..Retention::default() };
    let world = open_with(&folder.0, rooms(retention)).await;
    let room = world.topic("room.1");
    // More than a topic has in memory, which is 8 MiB.
    let data = |n: u64| format!("{n:08000}");
    let publisher = room.publisher().in_flight(64).start();
    for n in 1..=MESSAGES {
        drop(publisher.send(data(n)).await.expect("a place"));
    }
    publisher.flush().await;
    assert_eq!(publisher.counts().failed, 0);
    // Seven items at a time; and one that stands still for a while holds nobody up.
    let items =
        |n| world.client.request_stream(ask("topic.room.1", r#"{"from":"start"}"#)).credit(n);
    let (mut few, mut still) = (items(7), items(3));
    for n in 1..=3 {
        let item = still.next().await.expect("it goes on").expect("no failure");
        assert_eq!(item.data, data(n));
    }
    for n in 1..=MESSAGES + 10 {
        if n == MESSAGES - 5 {
            world.publish("room.1", MESSAGES + 1..=MESSAGES + 10).await;
        }
        let item = tokio::time::timeout(PATIENCE, few.next()).await.expect("in time");
        let item = item.expect("it goes on").expect("no failure");
        let expected = if n > MESSAGES { n.to_string() } else { data(n) };
        assert!(item.data == expected, "{n}");
    }
    for n in 4..=MESSAGES {
        let item = still.next().await.expect("it goes on").expect("no failure");
        assert!(item.data == data(n), "{n}");
    }
    let newest_first = read(room.history().reverse(true).limit(MESSAGES).stream()).await;
    assert!(newest_first[10..].iter().zip((11..=MESSAGES).rev()).all(|(read, n)| *read == data(n)));
}

/// Who comes so late to its own message that it is not in memory any more knows it all the same: it stands for
/// the acknowledgement.
#[tokio::test]
async fn a_members_own_message_is_its_own_when_it_comes_from_the_disk() {
    const OTHERS: u64 = 1_500;
    let folder = Folder::new("own");
    let retention = Retention { messages: 100_000, bytes: 256 << 20, ..Retention::default() };
    let world = open_with(&folder.0, rooms(retention)).await;
    let mut bob = Member::join(&world, r#"{"name":"bob","receive":"both","start":true}"#, 1);
    assert!(bob.next().await.starts_with("start"), "he has joined");
    // One item is on its way to him, and he asks for no more.
    world.publish("room.1", 1..=2).await;
    bob.send(r#"{"id":"b"}"#, "hi").await;
    let room = world.topic("room.1");
    while room.history().page().await.expect("a page").head < 3 {
        tokio::task::yield_now().await;
    }
    // More than a topic has in memory, which is 8 MiB.
    let publisher = room.publisher().in_flight(64).start();
    for n in 1..=OTHERS {
        drop(publisher.send(format!("{n:08000}")).await.expect("a place"));
    }
    publisher.flush().await;
    assert_eq!(bob.next_of(3).await, ["1 null 1", "2 null 2", "3 bob hi own b"]);
    for n in 1..=OTHERS {
        let told = bob.next().await;
        assert!(told.starts_with(&format!("{} null 0", n + 3)), "{}", &told[..20]);
    }
}

#[tokio::test]
async fn what_was_purged_or_deleted_stays_so() {
    let folder = Folder::new("purged");
    let world = open(&folder.0).await;
    world.publish("room.1", 1..=3).await;
    world.publish("room.2", 1..=3).await;
    let room = world.topic("room.1");
    let before = room.history().page().await.expect("a page").epoch;
    room.purge().await.expect("it may");
    let deleted = world.topic("room.2").history().page().await.expect("a page").epoch;
    world.topic("room.2").delete().await.expect("it may");
    close(world).await;

    let world = open(&folder.0).await;
    let topics = topic::topics(&world.client, "").map_ok(|info| info.topic);
    assert_eq!(topics.try_collect::<Vec<_>>().await.expect("it completes"), ["room.1"]);
    let room = world.topic("room.1");
    let page = room.history().page().await.expect("a page");
    assert_eq!((page.base, page.head, page.epoch), (4, 3, before));
    world.publish("room.1", 4..=4).await;
    let position = Position { epoch: before, offset: 1 };
    let history = room.history().after(position).stream();
    assert_eq!(read(history).await, ["gap 2 3", "4"]);
    // The next of its name has a numbering of its own: nothing passes for what was before.
    world.publish("room.2", 5..=5).await;
    let page = world.topic("room.2").history().page().await.expect("a page");
    assert_eq!((page.base, page.head), (1, 1));
    assert_ne!(page.epoch, deleted);
}

#[tokio::test]
async fn whoever_only_reads_leaves_nothing_on_disk() {
    let folder = Folder::new("reads");
    let world = open(&folder.0).await;
    for n in 1..=3 {
        let mut events = world.topic(&format!("room.{n}")).subscribe().start();
        events.started().await.expect("a subscription");
    }
    let mut watched = world.topic("room.4").subscribe().start();
    watched.started().await.expect("a subscription");
    drop(watched);
    // What was dropped has ended when what is asked later is answered.
    world.publish("room.5", 1..=1).await;
    close(world).await;
    let world = open(&folder.0).await;
    let topics = topic::topics(&world.client, "").map_ok(|info| info.topic);
    assert_eq!(topics.try_collect::<Vec<_>>().await.expect("it completes"), ["room.5"]);
    close(world).await;
}

#[tokio::test]
async fn a_member_feels_the_pace_of_the_disk() {
    let folder = Folder::new("pace");
    let (world, hand) = open_held(&folder.0).await;
    // The topic itself is on disk.
    world.publish("room.1", 1..=1).await;
    hand.hold();
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let first = ask("topic.room.1", r#"{"name":"ann","receive":"acks"}"#);
    let numbers = stream::iter(2_u64..).map(move |n| {
        count.fetch_add(1, Relaxed);
        Payload::new(n.to_string())
    });
    let payloads = stream::iter([first]).chain(numbers);
    let mut items = Box::pin(world.client.request_channel(payloads).credit(1_000));
    let nothing = tokio::time::timeout(Duration::from_millis(1), items.next()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    // Time for what else would come: another's round trips.
    for _ in 0..50 {
        world.publish("other", 1..=1).await;
    }
    let most = sent.load(Relaxed);
    // Those that wait for the disk, and as many that were granted.
    assert!((8..=8 + 8 + 2).contains(&most), "{most}");
    let page = world.topic("room.1").history().page().await.expect("a page");
    assert_eq!(page.head, 1, "nobody sees what may be taken back");
    hand.release();
    for n in 2..=1_000 {
        let ack = tokio::time::timeout(PATIENCE, items.next()).await.expect("in time");
        let ack = ack.expect("it goes on").expect("no failure");
        let metadata = ack.metadata.unwrap_or_default();
        let text = String::from_utf8_lossy(&metadata);
        assert!(text.contains(&format!("\"offset\":{n}")), "{text}");
    }
}

/// What a member publishes goes on to the disk, whether or not it takes messages.
#[tokio::test]
async fn a_member_that_takes_no_messages_publishes_at_the_pace_of_the_disk() {
    let folder = Folder::new("unread");
    let (world, hand) = open_held(&folder.0).await;
    world.publish("room.1", 1..=1).await;
    // It has credit for the start alone.
    let mut ann = Member::join(&world, r#"{"name":"ann","start":true}"#, 1);
    ann.started().await;
    let subscribed = world.topic("room.1").subscribe().from(Start::Oldest).start();
    hand.hold();
    for n in 2..=100 {
        ann.send("", n).await;
    }
    // Time for as many as are taken before the disk has them: another's round trips.
    for _ in 0..50 {
        world.publish("other", 1..=1).await;
    }
    hand.release();
    let all = read(subscribed.take(100)).await;
    assert_eq!(all, (1..=100).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_a_broken_disk_may_have_is_told_and_what_it_has_can_be_read() {
    let folder = Folder::new("broken");
    let (world, hand) = open_held(&folder.0).await;
    world.publish("room.1", 1..=3).await;
    let room = world.topic("room.1");
    let epoch = room.history().page().await.expect("a page").epoch;
    let mut events = room.subscribe().from(Start::Oldest).start();
    let mut ann = Member::join(&world, r#"{"name":"ann","receive":"acks"}"#, 100);
    hand.break_it();
    ann.send(r#"{"id":"a"}"#, "4").await;
    let told = ann.next().await;
    assert!(told.starts_with("refused a: APPLICATION_ERROR: outcome unknown: "), "{told}");
    assert!(told.contains("it is broken"), "{told}");
    ann.send(r#"{"id":"b"}"#, "5").await;
    let told = ann.next().await;
    assert!(told.starts_with("refused b: REJECTED: read-only: topic \"room.1\" "), "{told}");
    let refused = room.publish("6").await.expect_err("read-only").to_string();
    assert!(
        refused.starts_with("REJECTED: read-only: topic \"room.1\" takes nothing"),
        "{refused}"
    );
    for n in 1..=3 {
        let event = tokio::time::timeout(PATIENCE, events.next()).await.expect("in time");
        let event = event.expect("it goes on").expect("no failure");
        assert!(matches!(&event, Event::Message(message) if message.data == n.to_string()), "{n}");
    }
    assert_eq!(room.history().page().await.expect("a page").head, 3);
    // Topics in memory are as they were.
    world.publish("other", 1..=1).await;
    drop((ann, events));
    world.server.abort();
    drop(world);

    let world = open(&folder.0).await;
    let page = world.topic("room.1").history().page().await.expect("a page");
    assert!(page.head == 3 || page.head == 4, "{}", page.head);
    let written = read(world.topic("room.1").history().stream()).await;
    assert_eq!(written[..3], ["1", "2", "3"]);
    // Nobody was shown what was not synced: positions of before are right.
    assert_eq!(page.epoch, epoch);
    world.publish("room.1", 5..=5).await;
}

/// Rules hold for topics that are there already from the next start on: how much is kept and what is taken, but
/// not that they are on disk.
#[tokio::test]
async fn rules_that_were_changed_hold_from_the_next_start_on() {
    let folder = Folder::new("rules");
    let with = |rule: TopicSettings| Settings::new(Limits::default(), [("room.>", rule)]);
    let durable = TopicSettings { kind: Kind::Durable, ..TopicSettings::default() };
    let world = open_with(&folder.0, with(durable.clone()).expect("valid")).await;
    let room = world.topic("room.1");
    let data = |n: u64| format!("{n:060000}");
    for n in 1..=40 {
        let published = room.publish(NewMessage::new(data(n)).id(format!("m-{n}"))).await;
        published.expect("room");
    }
    let epoch = room.history().page().await.expect("a page").epoch;
    close(world).await;

    // Less is kept: the oldest go, by whole segments, and that is told.
    let retention = Retention { bytes: 1 << 20, ..Retention::default() };
    let less = TopicSettings { retention, max_message_bytes: 60_000, ..durable.clone() };
    let world = open_with(&folder.0, with(less).expect("valid")).await;
    let room = world.topic("room.1");
    let refused = room.publish("x".repeat(60_001)).await.expect_err("too large").to_string();
    assert!(refused.starts_with("INVALID: too large: 60001 bytes"), "{refused}");
    room.publish(data(41)).await.expect("room");
    let page = room.history().max_bytes(1).page().await.expect("a page");
    assert_eq!((page.head, page.epoch), (41, epoch));
    close(world).await;

    // What is on disk stays there, whatever kind such names have now; with its ids and its numbering.
    for kind in [Kind::Latest, Kind::Memory, Kind::None] {
        let rule = TopicSettings { kind, ..TopicSettings::default() };
        let world = open_with(&folder.0, with(rule).expect("valid")).await;
        let told = topic::topics(&world.client, "room.1").next().await.expect("one").expect("told");
        assert_eq!((told.kind.as_str(), told.epoch), ("durable", epoch), "{kind:?}");
        let room = world.topic("room.1");
        let again = room.publish(NewMessage::new("again").id("m-39")).await.expect("room");
        assert_eq!((again.offset, again.duplicate), (39, true), "{kind:?}");
        let last = room.publish("another").await.expect("room").offset;
        assert_eq!(told.head + 1, last, "{kind:?}");
        let read = read(room.history().limit(1).reverse(true).stream()).await;
        assert_eq!(read, ["another"], "{kind:?}");
        close(world).await;
    }

    // One that was deleted is of today's kind when it is made again.
    let world = open_with(&folder.0, with(TopicSettings::default()).expect("valid")).await;
    world.topic("room.1").delete().await.expect("it may");
    world.publish("room.1", 1..=1).await;
    let told = topic::topics(&world.client, "room.1").next().await.expect("one").expect("told");
    assert_eq!((told.kind.as_str(), told.head), ("memory", 1));
    close(world).await;
    let world = open_with(&folder.0, with(durable).expect("valid")).await;
    assert!(world.service.topics().is_empty());
    close(world).await;
}

/// A member waits for its disk, and not for the turn of those who read.
#[tokio::test]
async fn a_member_is_answered_at_once_where_messages_are_gathered() {
    let folder = Folder::new("gathered");
    let coalesce = Duration::from_millis(100);
    let durable = TopicSettings { kind: Kind::Durable, coalesce, ..TopicSettings::default() };
    let settings = Settings::new(Limits::default(), [("room.>", durable)]).expect("valid");
    let world = open_with(&folder.0, settings).await;
    for receive in ["acks", "both"] {
        let options = format!(r#"{{"name":"ann","receive":"{receive}"}}"#);
        let mut ann = Member::join(&world, &options, 1_000);
        // If each answer waited for its turn, these would take half a minute.
        let answered = async {
            for n in 1..=300 {
                ann.send(&format!(r#"{{"id":"{receive}-{n}"}}"#), n).await;
                let answer = ann.next().await;
                assert!(answer.ends_with(&format!("{receive}-{n}")), "{answer}");
            }
        };
        tokio::time::timeout(PATIENCE, answered).await.expect("in time");
    }
    close(world).await;
}

/// Otherwise a crash would bring back what was purged.
#[tokio::test]
async fn whoever_purges_and_deletes_is_answered_when_it_is_on_disk() {
    let folder = Folder::new("answered");
    let (world, hand) = open_held(&folder.0).await;
    world.publish("room.1", 1..=3).await;
    let room = world.topic("room.1");
    for is_purged in [true, false] {
        hand.hold();
        let done = async { if is_purged { room.purge().await } else { room.delete().await } };
        let mut done = Box::pin(done);
        // Time for the answer, if it did not wait: another's round trips.
        let others = world.publish("other", 1..=50);
        tokio::select! {
            biased;
            done = &mut done => panic!("{done:?} before it is on disk"),
            () = others => {}
        }
        hand.release();
        let done = tokio::time::timeout(PATIENCE, done).await.expect("in time");
        done.expect("it is on disk");
    }
    close(world).await;
}
