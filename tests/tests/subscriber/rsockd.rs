//! The same promises with `rsockd` at the other end, over TCP, a WebSocket and a Unix socket.

use std::{collections::BTreeSet, sync::Arc};

use futures_util::{StreamExt, TryStreamExt, stream::FuturesUnordered};
use rsock::{
    Client,
    topic::{self, Event, NewMessage, PresenceEvent, Start, Topic},
};
use rsock_tests::{
    link::free_path,
    process::{Process, rsockd},
    script::PATIENCE,
};
use tokio::{process::Command, sync::Notify, time::timeout};

use crate::service::{Line, next, next_data};

async fn serve_at(uri: &str) -> Process {
    serve_with(uri, &[]).await
}

async fn serve_with(uri: &str, flags: &[&str]) -> Process {
    let mut command = Command::new(rsockd());
    command.args(["--listen", uri, "--listen", "tcp://127.0.0.1:0"]).args(flags);
    Process::start(command, 1).await
}

/// Lines to one `rsockd`, each over another transport, and the process.
async fn lines() -> (Vec<Line>, Process) {
    let unix = format!("unix:{}", free_path().display());
    let mut command = Command::new(rsockd());
    for uri in ["tcp://127.0.0.1:0", "ws://127.0.0.1:0/rsocket", &unix] {
        command.args(["--listen", uri]);
    }
    let process = Process::start(command, 2).await;
    let mut lines = Vec::new();
    for uri in process.uris.iter().chain([&unix]) {
        lines.push(Line::to(uri).await);
    }
    (lines, process)
}

#[tokio::test]
async fn each_message_is_published_and_received_once_over_many_cuts() {
    let (lines, _process) = lines().await;
    for (number, line) in lines.iter().enumerate() {
        let topic = Topic::new(&line.client, format!("cut.{number}"));
        let mut events = topic.subscribe().start();
        events.started().await.expect("a subscription");
        let publisher = topic.publisher().in_flight(16).start();
        let publishes = async {
            for n in 0..400 {
                if n % 40 == 20 {
                    line.cutter.cut();
                }
                drop(publisher.send(n.to_string()).await.expect("a place"));
            }
            publisher.flush().await;
        };
        let receives = async {
            for n in 0..400 {
                if n % 50 == 49 {
                    line.cutter.cut();
                }
                assert_eq!(next_data(&mut events).await, n.to_string());
            }
        };
        tokio::join!(publishes, receives);
        let counts = publisher.counts();
        assert_eq!((counts.published, counts.failed, counts.waiting), (400, 0, 0));
        assert_eq!(events.position().map(|position| position.offset), Some(400));
    }
}

#[tokio::test]
async fn recovery_before_any_message_was_received() {
    let (lines, _process) = lines().await;
    for (number, line) in lines.iter().enumerate() {
        let topic = Topic::new(&line.client, format!("before.{number}"));
        topic.publish("old").await.expect("published");
        let mut events = topic.subscribe().live(true).start();
        let position = events.started().await.expect("a subscription");
        assert_eq!(position.offset, 1);
        line.cutter.cut();
        topic.publish(NewMessage::new("missed").id("m-1")).await.ok();
        let again = topic.publish(NewMessage::new("missed").id("m-1")).await.expect("published");
        assert_eq!(again.offset, 2);
        let mut told = next(&mut events).await;
        if matches!(told, Event::Live { offset: 1 }) {
            told = next(&mut events).await;
        }
        assert!(matches!(&told, Event::Message(message) if message.data == "missed"), "{told:?}");
    }
}

#[tokio::test]
async fn what_was_dropped_meanwhile_is_a_gap_and_what_began_anew_a_reset() {
    let unix = format!("unix:{}", free_path().display());
    let mut process = serve_at(&unix).await;
    let line = Line::to(&unix).await;
    let topic = line.topic();
    let loaded = Arc::new(Notify::new());
    let loads = Arc::clone(&loaded);
    let mut events = topic
        .subscribe()
        .on_reset(move |_| {
            loads.notify_one();
            async { Ok(()) }
        })
        .start();
    events.started().await.expect("a subscription");
    let is_loaded = async || timeout(PATIENCE, loaded.notified()).await.expect("in time");
    is_loaded().await;
    topic.publish("1").await.expect("published");
    assert_eq!(next_data(&mut events).await, "1");
    // Another connection publishes, and has the topic drop it.
    let other = Line::to(&process.uris[0]).await;
    line.cutter.refuse(true);
    line.cutter.cut();
    for n in 2..=5 {
        other.topic().publish(n.to_string()).await.expect("published");
    }
    other.topic().purge().await.expect("purged");
    other.topic().publish("6").await.expect("published");
    line.cutter.refuse(false);
    assert_eq!(next(&mut events).await, Event::Gap { from: 2, to: 5, exact: true });
    is_loaded().await;
    assert_eq!(next_data(&mut events).await, "6");

    let before = events.position().expect("a position");
    // Its socket is free when nothing is left of it.
    process.killed().await;
    process = serve_at(&unix).await;
    let other = Line::to(&process.uris[0]).await;
    other.topic().publish("new").await.expect("published");
    match next(&mut events).await {
        Event::Reset { before: told, base: 1, .. } => assert_eq!(told, Some(before)),
        told => panic!("{told:?}"),
    }
    is_loaded().await;
    assert_eq!(next_data(&mut events).await, "new");
    topic.delete().await.expect("deleted");
    assert!(timeout(PATIENCE, events.next()).await.expect("in time").is_none());
}

#[tokio::test]
async fn two_members_talk_and_one_is_cut() {
    let (lines, _process) = lines().await;
    let topic = |number: usize| Topic::new(&lines[number].client, "lobby");
    let mut presence = topic(2).presence().watch();
    let mut told = async || {
        let told = timeout(PATIENCE, presence.try_next()).await.expect("in time");
        told.expect("no failure").expect("it goes on")
    };
    assert!(matches!(told().await, PresenceEvent::All { total: 0 }));
    let (mut ann, mut bob) = (topic(0).join("ann").start(), topic(1).join("bob").start());
    for (room, name) in [(&mut ann, "ann"), (&mut bob, "bob")] {
        room.started().await.expect("joined");
        assert!(matches!(told().await, PresenceEvent::Join(member) if member.name == name));
    }
    let count = topic(1).presence().count().await;
    assert_eq!(count, Ok(2));
    bob.publish("hi ann").await.expect("published");
    lines[0].cutter.cut();
    bob.publish("are you there?").await.expect("published");
    ann.try_publish("typed while away").expect("a place");
    for expected in ["hi ann", "are you there?"] {
        let event = timeout(PATIENCE, ann.next()).await.expect("in time");
        match event.expect("it goes on").expect("no failure") {
            Event::Message(message) => {
                assert_eq!(
                    (message.from.as_deref(), &*message.data),
                    (Some("bob"), expected.as_bytes())
                );
            }
            other => panic!("{other:?}"),
        }
    }
    let event = timeout(PATIENCE, bob.next()).await.expect("in time");
    let event = event.expect("it goes on").expect("no failure");
    assert!(matches!(event, Event::Message(message) if message.data == "typed while away"));
    // A reload is no flicker: nobody was told that she was gone.
    drop(bob);
    assert!(matches!(told().await, PresenceEvent::Leave { name, .. } if name == "bob"));
    drop(ann);
    assert!(matches!(told().await, PresenceEvent::Leave { name, .. } if name == "ann"));
}

#[tokio::test]
async fn pages_go_both_ways_and_streams_have_all() {
    let (lines, _process) = lines().await;
    for (number, line) in lines.iter().enumerate() {
        let topic = Topic::new(&line.client, format!("history.{number}"));
        let publisher = topic.publisher().start();
        for n in 1..=25 {
            drop(publisher.send(n.to_string()).await.expect("a place"));
        }
        let bytes = publisher.publish(vec![0xff, 0]).await.expect("published");
        let (mut pages, mut offsets) = (0, Vec::new());
        let mut page = topic.history().limit(10).page().await.expect("a page");
        assert_eq!(page.messages.last().map(|last| last.data.to_vec()), Some(vec![0xff, 0]));
        assert_eq!((page.base, page.head, bytes.offset), (1, 26, 26));
        loop {
            pages += 1;
            offsets.splice(0..0, page.messages.iter().map(|message| message.offset));
            let Some(older) = page.older() else { break };
            page = older.page().await.expect("a page");
        }
        assert_eq!((pages, offsets.len()), (3, 26));
        assert!(offsets.iter().copied().eq(1..=26), "{offsets:?}");
        page = page.newer().expect("there are more").page().await.expect("a page");
        assert_eq!(page.messages[0].offset, 7);
        let all: Vec<_> = topic.history().stream().try_collect().await.expect("no failure");
        assert_eq!(all.len(), 26);
        let reversed: Vec<_> = topic
            .history()
            .reverse(true)
            .limit(2)
            .stream()
            .try_collect()
            .await
            .expect("no failure");
        let offsets: Vec<_> = reversed
            .iter()
            .map(|event| match event {
                Event::Message(message) => message.offset,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(offsets, [26, 25]);
        let listed: Vec<_> =
            topic::topics(&line.client, topic.name()).try_collect().await.expect("no failure");
        assert_eq!((listed.len(), listed[0].head, listed[0].kind.as_str()), (1, 26, "memory"));
    }
}

#[tokio::test]
async fn an_event_of_the_moment_reaches_who_is_there() {
    let (lines, _process) = lines().await;
    let mut events = lines[0].topic().subscribe().from(Start::New).start();
    events.started().await.expect("a subscription");
    for line in &lines {
        let topic = line.topic();
        topic.signal(NewMessage::new("typing").sender("ann").key("typing")).await.expect("taken");
        match next(&mut events).await {
            Event::Ephemeral(event) => {
                assert_eq!((event.from.as_deref(), &event.data[..]), (Some("ann"), &b"typing"[..]));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The process is killed, and another takes its directory.
#[tokio::test]
async fn a_durable_topic_outlives_its_process_without_a_gap_and_without_doubles() {
    let unix = format!("unix:{}", free_path().display());
    let folder = free_path().with_extension("data");
    let data = folder.display().to_string();
    let flags = ["--data", &data, "--topic", "orders.>=durable"];
    let mut process = serve_with(&unix, &flags).await;
    let line = Line::to(&unix).await;
    let topic = Topic::new(&line.client, "orders.eu");
    let mut events = topic.subscribe().start();
    let began = events.started().await.expect("a subscription");
    let publisher = topic.publisher().in_flight(8).start();
    for round in 0..3 {
        let mut receipts = Vec::new();
        for n in 0..20 {
            let data = (round * 20 + n).to_string();
            receipts.push(publisher.send(data).await.expect("a place"));
        }
        // Some of these are acknowledged, and some are on their way.
        receipts.remove(5).await.expect("published");
        process.killed().await;
        process = serve_with(&unix, &flags).await;
        for n in 0..20 {
            assert_eq!(next_data(&mut events).await, (round * 20 + n).to_string());
        }
        for receipt in receipts {
            receipt.await.expect("published");
        }
    }
    let position = events.position().expect("a position");
    assert_eq!((position.epoch, position.offset), (began.epoch, 60));
    process.killed().await;
    // What is left of it is in the folder of things that go.
    let _ = std::fs::remove_dir_all(folder);
}

#[tokio::test]
async fn a_topic_of_the_latest_by_key_is_a_state_and_its_changes() {
    let unix = format!("unix:{}", free_path().display());
    let process = serve_with(&unix, &["--topic", "board.*=latest"]).await;
    let line = Line::to(&process.uris[0]).await;
    let topic = Topic::new(&line.client, "board.1");
    let set = async |key: &str, data: &'static str| {
        topic.publish(NewMessage::new(data).key(key)).await.expect("published").offset
    };
    for (key, data) in [("a", "1"), ("b", "1"), ("a", "2")] {
        set(key, data).await;
    }
    let mut events = topic.subscribe().from(Start::Oldest).live(true).start();
    let mut change = async || match next(&mut events).await {
        Event::Message(message) => {
            let data = String::from_utf8_lossy(&message.data).into_owned();
            format!(
                "{} {data}{}",
                message.key.unwrap_or_default(),
                if message.deleted { "-" } else { "" }
            )
        }
        Event::Live { .. } => "live".to_owned(),
        other => panic!("{other:?}"),
    };
    for expected in ["b 1", "a 2", "live"] {
        assert_eq!(change().await, expected);
    }
    line.cutter.refuse(true);
    line.cutter.cut();
    let other = Line::to(&process.uris[0]).await;
    let board = Topic::new(&other.client, "board.1");
    for n in ["3", "4"] {
        board.publish(NewMessage::new(n).key("a")).await.expect("published");
    }
    board.publish(NewMessage::tombstone("b")).await.expect("published");
    line.cutter.refuse(false);
    for expected in ["a 4", "b -", "live"] {
        assert_eq!(change().await, expected);
    }
    let conflict = topic.publish(NewMessage::new("5").key("a").expect_offset(3)).await;
    let conflict = conflict.expect_err("it is another").to_string();
    assert!(
        conflict.starts_with("REJECTED: conflict: the last offset of key \"a\" is "),
        "{conflict}"
    );
}

/// What was on its way when the process was killed is there once, whether it was there before or came again.
#[tokio::test]
async fn what_was_not_acknowledged_is_published_once_by_its_id() {
    const MESSAGES: u64 = 50;
    let folder = free_path().with_extension("data");
    let data = folder.display().to_string();
    let flags = ["--data", &data, "--topic", "orders.>=durable"];
    let mut process = Process::rsockd_with(&flags).await;
    for round in 0..3_u64 {
        let client = Client::connect(&process.uris[0]).await.expect("it listens");
        let topic = Topic::new(&client, "orders.eu");
        let publish = |topic: Topic, n: u64| async move {
            topic.publish(NewMessage::new(n.to_string()).id(format!("o-{round}-{n}"))).await
        };
        let mut sent = FuturesUnordered::new();
        for n in 0..MESSAGES {
            sent.push(tokio::spawn(publish(topic.clone(), n)));
        }
        let first = sent.next().await.expect("one").expect("no panic").expect("published");
        assert!(!first.duplicate);
        process.killed().await;
        let others: Vec<_> = sent.collect().await;
        let told = others.into_iter().filter_map(|told| told.expect("no panic").ok());
        let known = told.map(|told| told.offset).chain([first.offset]).collect::<BTreeSet<_>>();

        process = Process::rsockd_with(&flags).await;
        let client = Client::connect(&process.uris[0]).await.expect("it listens");
        let topic = Topic::new(&client, "orders.eu");
        let mut offsets = BTreeSet::new();
        for n in 0..MESSAGES {
            let again = publish(topic.clone(), n).await.expect("published");
            assert_eq!(again.epoch, first.epoch);
            assert!(offsets.insert(again.offset), "{} is of two", again.offset);
            assert!(again.duplicate || !known.contains(&again.offset), "{}", again.offset);
        }
        assert!(known.is_subset(&offsets), "what was acknowledged is there");
        let all = round * MESSAGES + 1..=(round + 1) * MESSAGES;
        assert!(offsets.into_iter().eq(all), "each once, and no other");
    }
    process.killed().await;
    // What is left of it is in the folder of things that go.
    let _ = std::fs::remove_dir_all(folder);
}

#[tokio::test]
async fn a_durable_topic_needs_a_directory_of_its_own() {
    let without = Process::rsockd_with(&["--topic", "orders.>=durable"]).await;
    let client = Client::connect(&without.uris[0]).await.expect("it listens");
    let orders = Topic::new(&client, "orders.eu");
    let refused = orders.publish("1").await.expect_err("no directory").to_string();
    let expected = "REJECTED: no disk: topic \"orders.eu\" is durable, and this service has no data \
                    directory; start it with one";
    assert_eq!(refused, expected);
    // Who subscribes is told as well, and does not ask again: only another start of the service brings a disk.
    let mut events = orders.subscribe().start();
    let told = timeout(PATIENCE, events.next()).await.expect("in time").expect("an end");
    assert_eq!(told.expect_err("no directory").to_string(), expected);

    let folder = free_path().with_extension("data");
    let data = folder.display().to_string();
    let _first = Process::rsockd_with(&["--data", &data]).await;
    let mut second = Command::new(rsockd());
    second.args(["--data", &data, "--listen", "tcp://127.0.0.1:0"]).kill_on_drop(true);
    let ended = timeout(PATIENCE, second.output()).await.expect("in time").expect("it runs");
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    let expected = format!(
        "the data directory is in use: another process has locked {data}/lock; end it, or take \
         another directory"
    );
    assert!(told.contains(&expected), "{told}");
    assert_eq!((ended.status.code(), told.lines().count()), (Some(1), 1), "{told}");
    let _ = std::fs::remove_dir_all(folder);
}
