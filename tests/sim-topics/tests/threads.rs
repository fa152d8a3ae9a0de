//! Threads of the system on one topic: publishers that pump, and connections whose drivers sleep until they
//! are woken. Every reader is counted to the last message.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

use rsock_proto::SharedPayload;
use rsock_topics::{
    Cursor, Epoch, Fill, Form, Instant, Limits, Message, Now, Publish, Pumped, Refusal, Retention,
    Settings, Sink, Start, SubscribeOptions, TopicName, TopicSettings, Topics, Wake,
};

const PUBLISHERS: u64 = 2;
const CONNECTIONS: u64 = 6;
const CURSORS: usize = 3;
const MESSAGES: u64 = 20_000;
/// A driver that sleeps for so long was forgotten.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// A driver's sleep.
#[derive(Clone, Default)]
struct Bell(Arc<(Mutex<bool>, Condvar)>);

impl Bell {
    fn sleep(&self) {
        let rung = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let slept = self.0.1.wait_timeout_while(rung, FORGOTTEN, |rung| !*rung);
        let (mut rung, _) = slept.unwrap_or_else(PoisonError::into_inner);
        assert!(*rung, "a reader was not woken");
        *rung = false;
    }
}

impl Wake for Bell {
    fn wake(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_one();
        true
    }
}

/// Counts items; it takes a few in each turn.
struct Count {
    items: u64,
    room: u64,
}

impl Sink for Count {
    fn has_room(&mut self) -> bool {
        self.room > 0
    }

    fn send(&mut self, item: &SharedPayload) -> Result<(), Refusal> {
        self.room -= 1;
        let number = item.to_payload().metadata.and_then(|metadata| {
            let json: serde_json::Value = serde_json::from_slice(&metadata).ok()?;
            json["offset"].as_u64()
        });
        self.items += 1;
        assert_eq!(number, Some(self.items), "each once, in order");
        Ok(())
    }

    fn now(&self) -> Now {
        Now { monotonic: Instant(0), unix_ms: 0 }
    }
}

fn read(topics: &Arc<Topics>, name: &TopicName, connection: u64) {
    let bell = Bell::default();
    let options = SubscribeOptions { from: Start::Oldest, ..SubscribeOptions::default() };
    let now = Now { monotonic: Instant(0), unix_ms: 0 };
    let topic = topics.open(name).expect("room");
    let mut cursors: Vec<_> = (0..CURSORS)
        .map(|_| {
            let reader = topics.enter(&topic, connection, || Box::new(bell.clone())).expect("room");
            let cursor = Cursor::new(&topic, &options, Some(Form::Plain), connection, now);
            (reader, cursor.expect("it begins"), Count { items: 0, room: 0 })
        })
        .collect();
    while !cursors.is_empty() {
        let mut is_ready = false;
        cursors.retain_mut(|(reader, cursor, count)| {
            count.room = 1 + (count.items + connection) % 50;
            match cursor.fill(&topic, count) {
                Fill::CaughtUp => {
                    reader.wait();
                    is_ready |= topic.version() != cursor.seen();
                    true
                }
                Fill::NoRoom => {
                    is_ready = true;
                    true
                }
                Fill::Ended => {
                    assert_eq!(count.items, MESSAGES * PUBLISHERS + 1, "to the last");
                    false
                }
                other => panic!("{other:?}"),
            }
        });
        if !is_ready && !cursors.is_empty() {
            bell.sleep();
        }
    }
}

fn publish(topics: &Topics, name: &TopicName, closes: bool) {
    let message = Message { data: b"x", ..Message::default() };
    let publish = Publish { message, closes, ..Publish::default() };
    let now = Now { monotonic: Instant(0), unix_ms: 0 };
    let (published, topic) = topics.publish(name, None, &publish, now).expect("room");
    if published.pump {
        while topic.pump() == Pumped::More {
            thread::yield_now();
        }
    }
}

#[test]
fn readers_on_threads_are_counted_to_the_last() {
    let retention = Retention { bytes: 1 << 30, ..Retention::default() };
    let of_topic = TopicSettings { retention, ..TopicSettings::default() };
    let settings = Settings::new(Limits::default(), [("t", of_topic)]).expect("valid");
    let topics = Arc::new(Topics::new(settings, Epoch(1)));
    let name = TopicName::parse("t").expect("a name");
    thread::scope(|scope| {
        for connection in 1..=CONNECTIONS {
            let (topics, name) = (&topics, &name);
            scope.spawn(move || read(topics, name, connection));
        }
        let publishers = (0..PUBLISHERS)
            .map(|_| scope.spawn(|| (0..MESSAGES).for_each(|_| publish(&topics, &name, false))));
        let publishers: Vec<_> = publishers.collect();
        for publisher in publishers {
            publisher.join().expect("no panic");
        }
        publish(&topics, &name, true);
    });
    assert_eq!(topics.subscriptions(), 0);
}
