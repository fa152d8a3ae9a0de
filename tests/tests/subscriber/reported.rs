//! Misfortunes that users of other services have reported, and that nothing else here is about; the whole
//! list, with the tests of each, is `docs/reported.md`.

use std::{fs, path::Path};

use rsock::topic::{Event, Start, Topic};
use rsock_tests::{link::free_path, process::Process};
use tokio::process::Command;

use crate::service::{Line, next, next_data};

const TOPIC: &str = "orders.eu";

async fn serve(uri: &str, data: &Path) -> Process {
    let mut command = Command::new(rsock_tests::process::rsockd());
    command.args(["--listen", uri, "--listen", "tcp://127.0.0.1:0", "--topic", "orders.>=durable"]);
    command.arg("--data").arg(data);
    Process::start(command, 1).await
}

/// A directory as it is now, all that is in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a new directory");
    for entry in fs::read_dir(from).expect("it is there") {
        let entry = entry.expect("it can be read");
        let place = to.join(entry.file_name());
        if entry.file_type().expect("it has a type").is_dir() {
            copy(&entry.path(), &place);
        } else {
            fs::copy(entry.path(), place).expect("it can be copied");
        }
    }
}

/// The service comes back with less than its readers have had: a directory was brought back from a backup.
#[tokio::test]
async fn a_sequence_behind_the_consumers_after_a_crash_is_noticed() {
    let unix = format!("unix:{}", free_path().display());
    let (data, backup) = (free_path().with_extension("data"), free_path().with_extension("backup"));
    let process = serve(&unix, &data).await;
    let line = Line::to(&unix).await;
    let topic = Topic::new(&line.client, TOPIC);
    let mut events = topic.subscribe().from(Start::Oldest).start();
    events.started().await.expect("a subscription");
    for n in 1..=2 {
        topic.publish(n.to_string()).await.expect("published");
        assert_eq!(next_data(&mut events).await, n.to_string());
    }
    process.killed().await;
    copy(&data, &backup);
    let process = serve(&unix, &data).await;
    for n in 3..=5 {
        topic.publish(n.to_string()).await.expect("published");
        assert_eq!(next_data(&mut events).await, n.to_string());
    }
    let before = events.position().expect("a position");
    assert_eq!(before.offset, 5);
    process.killed().await;
    fs::remove_dir_all(&data).expect("it was there");
    fs::rename(&backup, &data).expect("a name that is free");
    let _process = serve(&unix, &data).await;
    // It does not wait for number 6: it is told, and gets what there is from the beginning.
    match next(&mut events).await {
        Event::Reset { before: told, base: 1, .. } => assert_eq!(told, Some(before)),
        told => panic!("{told:?}"),
    }
    for n in 1..=2 {
        assert_eq!(next_data(&mut events).await, n.to_string());
    }
    let next = topic.publish("another third").await.expect("published");
    assert_eq!(next.offset, 3);
    assert_eq!(next_data(&mut events).await, "another third");
    // What is left of it is in the folder of things that go.
    let _ = fs::remove_dir_all(data);
}

#[tokio::test]
async fn an_empty_durable_topic_keeps_its_offsets_over_kill_9() {
    let unix = format!("unix:{}", free_path().display());
    let data = free_path().with_extension("data");
    let process = serve(&unix, &data).await;
    let line = Line::to(&unix).await;
    let topic = Topic::new(&line.client, TOPIC);
    let mut events = topic.subscribe().start();
    events.started().await.expect("a subscription");
    for n in 1..=3 {
        topic.publish(n.to_string()).await.expect("published");
        assert_eq!(next_data(&mut events).await, n.to_string());
    }
    let before = events.position().expect("a position");
    topic.purge().await.expect("purged");
    process.killed().await;
    let process = serve(&unix, &data).await;
    let page = topic.history().page().await.expect("a page");
    assert_eq!((page.base, page.head, page.messages.len()), (4, 3, 0));
    process.killed().await;
    let _process = serve(&unix, &data).await;
    let fourth = topic.publish("4").await.expect("published");
    assert_eq!((fourth.epoch, fourth.offset), (before.epoch, 4));
    // The reader has missed nothing, and is told of nothing.
    assert_eq!(next_data(&mut events).await, "4");
    let _ = fs::remove_dir_all(data);
}
