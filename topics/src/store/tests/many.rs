//! Many topics: none costs a sync or an open file of its own. And how fast it all is.

use std::{sync::mpsc::sync_channel, time::Duration};

use super::{
    damage::{open, publish},
    from_environment,
    world::{name, read_all},
};
use crate::{
    entry::Message,
    position::{Epoch, Offset},
    store::{
        Directory, Disk, Engine, NewTopic, Record, Retention, Settings, TopicId, Unstaged,
        faulty::Faulty,
    },
};

fn create<D: Disk>(engine: &mut Engine<D>, count: u64) -> Vec<TopicId> {
    let mut topics = Vec::new();
    for at in 0..count {
        let new = NewTopic {
            name: &name(&format!("topic.{at}")),
            epoch: Epoch(at),
            first: Offset(1),
            is_loose: false,
            settings: "",
            retention: Retention { bytes: Some(8 << 20), ..Retention::default() },
        };
        let made = loop {
            match engine.create(&new) {
                Ok(made) => break made,
                Err(Unstaged::Later) => commit(engine),
                Err(Unstaged::Refused(refusal)) => panic!("{refusal}"),
            }
        };
        topics.push(made);
    }
    commit(engine);
    topics
}

fn commit<D: Disk>(engine: &mut Engine<D>) {
    let disk = engine.disk().clone();
    if let Some(commit) = engine.commit().expect("room") {
        engine.finish_commit(commit.run(&disk)).expect("written");
    }
}

fn append<D: Disk>(engine: &mut Engine<D>, topic: TopicId, offset: u64, data: &[u8]) {
    let message = Message { data, ..Message::default() };
    let record = Record { offset: Offset(offset), time: 5, id: None, closes: false, message };
    engine.append(topic, &record).expect("it is taken");
}

#[test]
fn ten_thousand_topics_share_a_file_of_the_journal_and_its_syncs() {
    const TOPICS: u64 = 10_000;
    let disk = Faulty::new(1);
    let settings = Settings { journal_bytes: 8 << 20, max_bytes: 1 << 40, ..Settings::default() };
    let open = || Engine::open(disk.clone(), settings, [1, 2, 3]).expect("it can be opened");
    let mut engine = open();
    let before = disk.syncs();
    let topics = create(&mut engine, TOPICS);
    for topic in &topics {
        append(&mut engine, *topic, 1, b"one");
    }
    commit(&mut engine);
    // Topics of 190 bytes and messages of 43: two batches of 4 MiB at most.
    assert!(disk.syncs() - before <= 3, "{}", disk.syncs() - before);
    assert_eq!((engine.waiting_files(), engine.open_segments()), (0, 0));
    drop(engine);
    disk.cut();
    let mut engine = open();
    assert!(engine.open_segments() <= settings.max_open_segments);
    assert!(engine.notes().is_empty());
    let states: Vec<_> = engine.topics().collect();
    assert_eq!(states.len(), TOPICS as usize);
    for state in states.iter().step_by(997) {
        assert_eq!((state.next, &state.damage), (Offset(2), &None));
        let (messages, _) = read_all(&mut engine, state.id, 1, 100).expect("it can be read");
        assert_eq!(messages[0].1.data, b"one");
    }
    // All of it goes to segments at the end: a commit, a file of the journal more, a barrier, `store.json`.
    let before = disk.syncs();
    for topic in &topics {
        append(&mut engine, *topic, 2, b"two");
    }
    engine.close(0).expect("closed");
    assert!(disk.syncs() - before <= 8, "{}", disk.syncs() - before);
}

#[test]
fn an_empty_topic_keeps_its_offsets_and_its_epoch() {
    let disk = Faulty::new(1);
    let mut engine = open(&disk).expect("it can be opened");
    engine.settle(0).expect("written");
    let topic = super::damage::create(&mut engine, "a");
    for _ in 0..9 {
        publish(&mut engine, topic, b"x");
    }
    engine.trim(topic, Offset(10)).expect("it is taken");
    engine.settle(0).expect("written");
    for is_cut in [false, true, true, false] {
        if is_cut {
            drop(engine);
            disk.cut();
        } else {
            engine.close(0).expect("closed");
        }
        engine = open(&disk).expect("it can be opened");
        let state = engine.topic(topic).expect("it is there");
        assert_eq!((state.base, state.next, state.epoch), (Offset(10), Offset(10), Epoch(7)));
        assert_eq!(state.bytes, 0);
    }
    assert_eq!(publish(&mut engine, topic, b"x"), 10);
}

/// Otherwise a crash could leave a topic with more than the journal knows, and other topics without.
#[test]
fn nothing_goes_to_a_segment_before_it_is_safe_in_the_journal() {
    let disk = Faulty::new(1);
    let mut engine = open(&disk).expect("it can be opened");
    engine.settle(0).expect("written");
    let topic = super::damage::create(&mut engine, "a");
    engine.configure(topic, true, "").expect("it is taken");
    engine.settle(0).expect("written");
    for offset in 1..61 {
        append(&mut engine, topic, offset, &[b'x'; 50]);
    }
    commit(&mut engine);
    assert_eq!(engine.topic(topic).expect("it is there").next, Offset(61));
    while engine.step(0).expect("nothing fails") {}
    assert!(engine.wants_sync() && disk.files(".segment").is_empty());
    let sync = engine.sync().expect("there is something");
    engine.finish_sync(sync.run(&disk)).expect("synced");
    while engine.step(0).expect("nothing fails") {}
    assert!(!engine.wants_sync() && !disk.files(".segment").is_empty());
}

#[test]
fn retention_drops_whole_segments_and_the_base_is_known() {
    let disk = Faulty::new(1);
    let mut engine = open(&disk).expect("it can be opened");
    engine.settle(0).expect("written");
    let topic = super::damage::create(&mut engine, "a");
    let bounds = Retention { messages: Some(20), bytes: Some(6_000), age_ms: None };
    engine.set_retention(topic, bounds);
    for _ in 0..200 {
        publish(&mut engine, topic, &[b'x'; 60]);
        engine.settle(0).expect("written");
    }
    let state = engine.topic(topic).expect("it is there");
    let kept = state.next.0 - state.base.0;
    // 19 messages a segment of 2,000 bytes.
    assert!((20..20 + 2 * 19).contains(&kept), "{kept}");
    assert!(state.bytes < 6_000, "{}", state.bytes);
    assert!(disk.files(".segment").len() <= 3);
    // A message is a second old, and the log as a whole is not.
    engine.set_retention(topic, Retention { age_ms: Some(1_000), ..Retention::default() });
    engine.expire(900);
    engine.settle(900).expect("written");
    assert_eq!(engine.topic(topic).expect("it is there").base, state.base);
    engine.expire(2_000);
    engine.settle(2_000).expect("written");
    engine.close(2_000).expect("closed");
    engine = open(&disk).expect("it can be opened");
    let state = engine.topic(topic).expect("it is there");
    assert!(state.next == Offset(201) && state.base.0 > 181, "{state:?}");
}

/// Time that has passed, of this thread's clock.
#[expect(clippy::disallowed_methods, reason = "a measurement reads a clock")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

/// Appends for so long, in groups: the time to make the topics, messages a second, the 99th percentile of a
/// group's time, files that are open, and the time that it takes to open it after a crash and in order.
fn measure(topics: u64, group: u64, time: Duration) -> String {
    let place = std::env::var("STORE_DIR").map_or_else(|_| std::env::temp_dir(), Into::into);
    let place = place.join(format!("rsock-store-speed-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&place);
    let directory = Directory::open(&place).expect("a directory");
    let mut engine = Engine::open(directory, Settings::default(), [1, 2, 3]).expect("opened");
    let disk = engine.disk().clone();
    let start = now();
    let ids = create(&mut engine, topics);
    let made = start.elapsed();
    engine.settle(0).expect("written");
    let mut next = vec![1; ids.len()];
    let (send, passed) = sync_channel(1);
    let mut appended = 0;
    let mut at = 0;
    let mut times = Vec::new();
    let start = now();
    while start.elapsed() < time {
        let begin = now();
        for _ in 0..group {
            // Far from each other, as publishers are.
            at = (at + 7_919) % ids.len();
            append(&mut engine, ids[at], next[at], &[b'x'; 256]);
            next[at] += 1;
        }
        loop {
            match engine.commit() {
                Ok(Some(commit)) => {
                    engine.finish_commit(commit.run(&disk)).expect("written");
                    break;
                }
                Ok(None) => break,
                Err(_) => {
                    let has_more = engine.step(0).expect("written");
                    if !has_more && let Ok(passed) = passed.recv_timeout(Duration::from_millis(1)) {
                        engine.finish_barrier(passed).expect("written");
                    }
                }
            }
        }
        appended += group;
        times.push(begin.elapsed());
        for _ in 0..16 {
            if !engine.step(0).expect("written") {
                break;
            }
        }
        if let Ok(passed) = passed.try_recv() {
            engine.finish_barrier(passed).expect("written");
        }
        if let Some(barrier) = engine.barrier() {
            let (disk, send) = (disk.clone(), send.clone());
            let pass = move || drop(send.send(barrier.run(&*disk)));
            std::thread::Builder::new().spawn(pass).expect("a thread");
        }
    }
    let rate = appended as f64 / start.elapsed().as_secs_f64();
    times.sort_unstable();
    let slow = times[times.len() * 99 / 100];
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    drop((engine, disk, passed));
    let open_again = || {
        let start = now();
        let directory = loop {
            // A barrier may be under way yet.
            match Directory::open(&place) {
                Ok(directory) => break directory,
                Err(_) => std::thread::yield_now(),
            }
        };
        let engine = Engine::open(directory, Settings::default(), [1, 2, 3]).expect("opened");
        (engine, start.elapsed())
    };
    let (mut engine, after_crash) = open_again();
    let found: u64 = engine.topics().map(|topic| topic.next.0 - 1).sum();
    assert_eq!(found, appended);
    engine.close(0).expect("closed");
    drop(engine);
    let (engine, in_order) = open_again();
    drop(engine);
    let _ = std::fs::remove_dir_all(&place);
    format!(
        "made in {made:.0?}, {rate:>9.0} messages/s, p99 of a group {slow:.1?}, {open} files open, opened after \
         a crash in {after_crash:.0?}, in order in {in_order:.0?}"
    )
}

/// `cargo test --release -p rsock-topics --features durable -- --ignored --nocapture appends_a_second`, in
/// `STORE_DIR` if given; `TOPICS=10000` measures this number of them alone, in groups of `GROUP`.
#[test]
#[ignore = "a measurement, of half a minute"]
fn appends_a_second() {
    let time = Duration::from_millis(from_environment("MILLIS").unwrap_or(3_000));
    if let Some(topics) = from_environment("TOPICS") {
        let group = from_environment("GROUP").unwrap_or(1_024);
        println!("{group:>5} a group, {topics} topics: {}", measure(topics, group, time));
        return;
    }
    for group in [1, 16, 64, 256, 1_024] {
        println!("{group:>5} a group, 1 topic: {}", measure(1, group, time));
    }
    for topics in [100, 10_000, 100_000] {
        println!(" 1024 a group, {topics} topics: {}", measure(topics, 1_024, time));
    }
}
