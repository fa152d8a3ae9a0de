//! The committer's thread: what it takes, what it tells, and what it refuses.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

use super::{
    damage::{open, settings, spoil},
    world::{name, read_all},
};
use crate::{
    entry::Message,
    memory::Held,
    position::{Epoch, Offset},
    refusal::Refusal,
    store::{
        Directory, Durable, Engine, Listener, NewTopic, Record, Retention, Store, Terms, Waiting,
        faulty::{Fault, Faulty},
    },
    sync::{AtomicUsize, Ordering},
    time::Now,
};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Committed(u64, bool),
    Based(u64),
    Failed(Refusal),
    Damaged(String),
}

#[derive(Debug)]
struct Teller(SyncSender<Told>);

impl Teller {
    fn tell(&self, told: Told) {
        self.0.send(told).expect("there is room, and the test is there");
    }
}

impl Listener for Teller {
    fn committed(&self, next: Offset, is_synced: bool) {
        self.tell(Told::Committed(next.0, is_synced));
    }

    fn based(&self, base: Offset) {
        self.tell(Told::Based(base.0));
    }

    fn failed(&self, why: &Refusal) {
        self.tell(Told::Failed(why.clone()));
    }

    fn damaged(&self, damage: &str) {
        self.tell(Told::Damaged(damage.to_owned()));
    }
}

const WAITING: Waiting = Waiting { messages: 1_024, bytes: 4 << 20 };

fn terms(waiting: Waiting) -> (Terms, Receiver<Told>) {
    let (send, receive) = sync_channel(100_000);
    (Terms { listener: Arc::new(Teller(send)), waiting, sync_within: None }, receive)
}

fn create(store: &Store, text: &str, waiting: Waiting) -> (Arc<Durable>, Receiver<Told>) {
    let (terms, told) = terms(waiting);
    let new = NewTopic {
        name: &name(text),
        epoch: Epoch(7),
        first: Offset(1),
        is_loose: false,
        settings: "",
        retention: Retention::default(),
    };
    (store.create(&new, terms).expect("it is made"), told)
}

fn append(topic: &Arc<Durable>, offset: u64, data: &[u8]) -> Result<(), Refusal> {
    let message = Message { data, ..Message::default() };
    let offset = Offset(offset);
    topic.append(&Record { offset, time: 5, id: None, closes: false, message })
}

/// Waits until messages below an offset count.
fn committed(told: &Receiver<Told>, next: u64) {
    loop {
        match told.recv().expect("it is told") {
            Told::Committed(told, true) if told >= next => return,
            Told::Committed(..) | Told::Based(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn start(disk: &Faulty, max_bytes: usize) -> Store {
    let engine = open(disk).expect("it can be opened");
    Store::start(engine, max_bytes, Held::new(Arc::default()), Now::default).expect("a thread")
}

/// Otherwise strangers would have memory that no bound sees.
#[test]
fn what_it_takes_to_know_topics_is_part_of_the_memory_of_all_logs() {
    let disk = Faulty::new(3);
    let all = Arc::new(AtomicUsize::new(7));
    let held = || Held::new(Arc::clone(&all));
    let engine = open(&disk).expect("it can be opened");
    let store = Store::start(engine, 1 << 20, held(), Now::default).expect("a thread");
    let topics: Vec<_> = (0..100).map(|at| create(&store, &format!("t.{at}"), WAITING)).collect();
    let wait = |store: &Store| {
        let (done, is_done) = sync_channel(1);
        // What is told with a group is counted behind it.
        for _ in 0..2 {
            let done = done.clone();
            store.after(move |result| drop(done.send(result))).expect("it works");
            is_done.recv().expect("told").expect("on disk");
        }
    };
    wait(&store);
    let known = store.figures().known_bytes;
    assert!(known > 100 * 500, "{known}");
    assert_eq!(all.load(Ordering::Relaxed), 7 + known);
    for (topic, _) in &topics[10..] {
        store.delete(topic.id()).expect("the disk works");
    }
    wait(&store);
    let few = store.figures().known_bytes;
    assert!(few >= known / 12 && few <= known / 10, "{few} of {known}");
    assert_eq!(all.load(Ordering::Relaxed), 7 + few);
    store.close().expect("closed");
    drop(store);
    // Those that are found are counted at once.
    let engine = open(&disk).expect("it can be opened");
    let all = Arc::new(AtomicUsize::new(0));
    let held = Held::new(Arc::clone(&all));
    let _store = Store::start(engine, 1 << 20, held, Now::default).expect("a thread");
    assert_eq!(all.load(Ordering::Relaxed), few);
}

/// What one reader meets all are told of, and it is not written on behind it until somebody has seen to it; once.
#[test]
fn a_lost_record_that_a_reader_meets_makes_its_topic_read_only_until_it_is_accepted() {
    let disk = Faulty::new(3);
    let store = start(&disk, 1 << 20);
    let (room, told) = create(&store, "room", WAITING);
    let (other, of_other) = create(&store, "other", WAITING);
    for offset in 1..=3 {
        append(&room, offset, format!("message {offset}").as_bytes()).expect("room");
        append(&other, offset, b"x").expect("room");
    }
    committed(&told, 4);
    committed(&of_other, 4);
    store.close().expect("closed");
    drop(store);
    spoil(&disk, "packs/", b"message 2", 1);
    let is_read_only = |refusal: &Refusal| {
        let text = refusal.to_string();
        text.starts_with("read-only: topic \"room\" is damaged: the disk has lost messages: packs/")
    };
    for life in 0..3 {
        let mut engine = open(&disk).expect("it can be opened");
        if life == 2 {
            engine.accept_damage(room.id()).expect("it is taken");
            engine.settle(0).expect("written");
        }
        let state = engine.topic(room.id()).expect("it is there");
        assert_eq!(state.damage.is_some(), life == 1, "{:?}", state.damage);
        let others = engine.topic(other.id()).expect("it is there");
        let store = Store::start(engine, 1 << 20, Held::new(Arc::default()), Now::default)
            .expect("a thread");
        let attach = |state| {
            let (terms, told) = terms(WAITING);
            (store.attach(state, Retention::default(), terms).expect("it goes on"), told)
        };
        let (room, told) = attach(&state);
        let (other, of_other) = attach(&others);
        let block = store.read(room.id(), Offset(1), 1_000).expect("it can be read");
        let offsets: Vec<_> = block.records().map(|record| record.offset.0).collect();
        assert_eq!((offsets, block.next()), (vec![1, 3], Offset(4)));
        assert_eq!(store.figures().damaged_reads, 1);
        if life == 0 {
            let damage = loop {
                match told.recv().expect("it is told") {
                    Told::Damaged(damage) => break damage,
                    Told::Based(_) => {}
                    other => panic!("{other:?}"),
                }
            };
            assert_eq!(Some(&*damage), block.damage());
        }
        append(&other, 4 + life, b"x").expect("others go on");
        committed(&of_other, 5 + life);
        match append(&room, 4, b"x") {
            Err(refusal) => assert!(life < 2 && is_read_only(&refusal), "{refusal}"),
            Ok(()) => {
                assert_eq!(life, 2);
                committed(&told, 5);
            }
        }
        store.close().expect("closed");
    }
}

/// A topic that nobody has published to goes with its last reader, and who publishes next makes it again.
#[test]
fn a_name_is_free_for_the_next_topic_at_once() {
    let disk = Faulty::new(3);
    let store = start(&disk, 1 << 20);
    // What follows is taken in one piece.
    let (other, of_other) = create(&store, "other", WAITING);
    disk.hold_syncs(true);
    append(&other, 1, b"x").expect("room");
    for _ in 0..3 {
        let (gone, _) = create(&store, "room", WAITING);
        store.delete(gone.id()).expect("the disk works");
    }
    let (room, told) = create(&store, "room", WAITING);
    append(&room, 1, b"x").expect("room");
    disk.hold_syncs(false);
    committed(&of_other, 2);
    committed(&told, 2);
}

#[test]
fn threads_publish_to_files_and_all_of_it_is_there_again() {
    let place = std::env::temp_dir().join(format!("rsock-store-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&place);
    let open = || {
        let directory = Directory::open(&place).expect("a directory");
        Engine::open(directory, settings(), [1, 2, 3]).expect("it can be opened")
    };
    let store =
        Store::start(open(), 64 << 20, Held::new(Arc::default()), Now::default).expect("a thread");
    let error = Directory::open(&place).expect_err("it is locked").to_string();
    assert!(error.starts_with("the data directory is in use: another process"), "{error}");
    std::thread::scope(|threads| {
        for at in 0..4 {
            let store = &store;
            threads.spawn(move || {
                let (topic, told) = create(store, &format!("t{at}"), WAITING);
                for offset in 1..=2_000 {
                    while append(&topic, offset, format!("{at} {offset}").as_bytes()).is_err() {
                        committed(&told, 0);
                    }
                }
                committed(&told, 2_001);
                for offset in [1, 1_000, 2_000] {
                    let block = store.read(topic.id(), Offset(offset), 0).expect("it is there");
                    let record = block.records().next().expect("one at least");
                    assert_eq!(record.message.data, format!("{at} {offset}").as_bytes());
                }
            });
        }
    });
    store.close().expect("closed");
    drop(store);
    let mut engine = open();
    let topics: Vec<_> = engine.topics().collect();
    assert_eq!(topics.len(), 4);
    for topic in topics {
        assert_eq!(topic.next, Offset(2_001));
        let block = engine.read(topic.id, Offset(1), 100).expect("it is there");
        let block = block.read(engine.disk()).expect("it can be read");
        assert_eq!(block.records().next().expect("one").offset, Offset(1));
    }
    drop(engine);
    std::fs::remove_dir_all(&place).expect("removed");
}

#[test]
fn what_waits_is_bounded_and_never_counts_before_its_sync() {
    let disk = Faulty::new(1);
    let store = start(&disk, 3_000);
    let (a, told) = create(&store, "a", Waiting { messages: 3, bytes: 1_000 });
    let (b, of_b) = create(&store, "b", WAITING);
    append(&a, 1, b"first").expect("it is taken");
    committed(&told, 2);
    disk.hold_syncs(true);
    for offset in 2..5 {
        append(&a, offset, b"x").expect("it is taken");
    }
    let behind = "disk behind: too much of topic \"a\" waits for it; try again";
    assert_eq!(append(&a, 5, b"x"), Err(Refusal::Rejected(behind.to_owned())));
    // A message that is larger than the bound of a topic, and then one above that of all.
    append(&b, 1, &[b'x'; 2_500]).expect("one is always taken");
    let refused = append(&b, 2, &[b'x'; 500]).expect_err("the store has its bound");
    assert!(refused.to_string().starts_with("disk behind: "), "{refused}");
    assert_eq!(a.waiting().messages, 3);
    for told in [&told, &of_b] {
        assert!(!told.try_iter().any(|told| matches!(told, Told::Committed(..))));
    }
    disk.hold_syncs(false);
    committed(&told, 5);
    committed(&of_b, 2);
    assert_eq!((a.waiting().messages, a.waiting().bytes), (0, 0));
    append(&a, 5, b"x").expect("it is taken");
    committed(&told, 6);
    store.close().expect("closed");
    assert_eq!(store.figures().waiting_bytes, 0);
}

#[test]
fn who_asks_is_told_when_all_before_is_on_disk() {
    let disk = Faulty::new(1);
    let store = start(&disk, 1 << 20);
    let (a, told) = create(&store, "a", WAITING);
    append(&a, 1, b"1").expect("it is taken");
    append(&a, 2, b"2").expect("it is taken");
    store.trim(a.id(), Offset(2)).expect("it is taken");
    let (send, done) = sync_channel(1);
    store.after(move |result| send.send(result).expect("waited for")).expect("it is taken");
    assert_eq!(done.recv().expect("it is told"), Ok(()));
    committed(&told, 3);
    store.trim(a.id(), Offset(2)).expect("it is taken");
    let trimmed = loop {
        if let Told::Based(base) = told.recv().expect("it is told")
            && base > 1
        {
            break base;
        }
    };
    assert_eq!(trimmed, 2);
    let (b, _told) = create(&store, "b", WAITING);
    store.delete(b.id()).expect("it is taken");
    let (send, done) = sync_channel(1);
    store.after(move |result| send.send(result).expect("waited for")).expect("it is taken");
    assert_eq!(done.recv().expect("it is told"), Ok(()));
    drop(store);
    disk.cut();
    let mut engine = open(&disk).expect("it can be opened");
    let names: Vec<_> = engine.topics().map(|topic| topic.name.to_string()).collect();
    assert_eq!(names, ["a"]);
    let (messages, _) = read_all(&mut engine, a.id(), 1, 1_000).expect("it can be read");
    assert_eq!(messages.len(), 1);
}

#[test]
fn a_failed_sync_is_told_to_all_and_nothing_is_taken_any_more() {
    let disk = Faulty::new(1);
    let store = start(&disk, 1 << 20);
    let (a, told) = create(&store, "a", WAITING);
    let (b, of_b) = create(&store, "b", WAITING);
    append(&a, 1, b"first").expect("it is taken");
    committed(&told, 2);
    disk.hold_syncs(true);
    append(&a, 2, b"x").expect("it is taken");
    disk.fail_at(1, Fault::Error);
    disk.hold_syncs(false);
    let failed = loop {
        if let Told::Failed(why) = told.recv().expect("it is told") {
            break why;
        }
    };
    assert!(
        matches!(&failed, Refusal::Failed(text) if text.starts_with("outcome unknown: cannot "))
    );
    while of_b.recv().expect("it is told") != Told::Failed(failed.clone()) {}
    for topic in [&a, &b] {
        assert_eq!(append(topic, 3, b"x"), Err(failed.clone()));
    }
    assert_eq!(store.after(|_| {}), Err(failed.clone()));
    store.close().expect_err("it has failed");
    disk.kill();
    let store = start(&disk, 1 << 20);
    let (terms, told) = terms(WAITING);
    let state = open_state(&store, &a);
    let again = store.attach(&state, Retention::default(), terms).expect("it is there");
    append(&again, state.next.0, b"again").expect("it is taken");
    committed(&told, state.next.0 + 1);
}

fn open_state(store: &Store, topic: &Durable) -> crate::store::TopicState {
    store.topic(topic.id()).expect("it is there")
}

/// What counts when it is written is synced soon after.
#[test]
fn a_topic_may_count_before_it_is_synced() {
    let disk = Faulty::new(1);
    let store = start(&disk, 1 << 20);
    let (terms, told) = terms(WAITING);
    let terms = Terms { sync_within: Some(Duration::from_millis(1)), ..terms };
    let new = NewTopic {
        name: &name("a"),
        epoch: Epoch(7),
        first: Offset(1),
        is_loose: true,
        settings: "",
        retention: Retention::default(),
    };
    let topic = store.create(&new, terms).expect("it is made");
    let (send, done) = sync_channel(1);
    store.after(move |result| send.send(result).expect("waited for")).expect("it is taken");
    done.recv().expect("it is told").expect("it is on disk");
    disk.hold_syncs(true);
    append(&topic, 1, b"x").expect("it is taken");
    loop {
        match told.recv().expect("it is told") {
            Told::Committed(2, is_synced) => {
                assert!(!is_synced);
                break;
            }
            Told::Based(_) => {}
            other => panic!("{other:?}"),
        }
    }
    disk.hold_syncs(false);
    store.close().expect("closed");
}
