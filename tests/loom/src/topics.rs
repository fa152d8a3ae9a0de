//! The models of a topic: publishers, pumps, and readers that wait.

use std::sync::{
    Arc,
    atomic::Ordering::{Acquire, Release},
};

use loom::{
    model::Builder,
    sync::{Notify, atomic::AtomicUsize},
    thread,
};

use super::hubs::{Hub, Hubs, Pumped, Wake};

/// Tries all orders with so many switches of threads at most where they need not be.
fn model(preemptions: usize, run: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(run);
}

/// A connection's driver, which sleeps until it is woken. A wake that comes before it sleeps counts: its
/// mail is there.
struct Driver(Arc<Notify>);

impl Wake for Driver {
    fn wake(&self) -> bool {
        self.0.notify();
        true
    }
}

/// A topic: the ends of its log and of its events, and those who wait for more.
struct Topic {
    hubs: Hubs,
    messages: AtomicUsize,
    events: AtomicUsize,
}

impl Topic {
    fn new() -> Arc<Self> {
        let [messages, events] = [AtomicUsize::new(0), AtomicUsize::new(0)];
        Arc::new(Self { hubs: Hubs::new(), messages, events })
    }

    /// Adds a message or an event, and pumps if it has to.
    fn publish(&self, to: &AtomicUsize) {
        to.fetch_add(1, Release);
        if self.hubs.tell() {
            while self.hubs.pump() == Pumped::More {}
        }
    }

    fn publish_message(&self) {
        self.publish(&self.messages);
    }

    fn publish_event(&self) {
        self.publish(&self.events);
    }

    fn enter(&self, connection: u64) -> (Arc<Hub>, Arc<Notify>) {
        let notify = Arc::new(Notify::new());
        let driver = Arc::clone(&notify);
        (self.hubs.enter(connection, || Box::new(Driver(driver))), notify)
    }

    /// Reads as so many cursors of one connection, until each has seen so many of both.
    fn read(&self, connection: u64, cursors: usize, messages: usize, events: usize) {
        let hubs = &self.hubs;
        let (hub, notify) = self.enter(connection);
        let mut waiting = vec![true; cursors];
        while !waiting.is_empty() {
            let mut again = false;
            waiting.retain(|_| {
                let seen = hubs.version();
                let has_all = self.messages.load(Acquire) >= messages
                    && self.events.load(Acquire) >= events;
                if !has_all {
                    hubs.wait(&hub);
                    if hubs.version() == seen {
                        return true;
                    }
                    again = true;
                }
                !has_all
            });
            if !again && !waiting.is_empty() {
                notify.wait();
            }
        }
        hubs.leave(&hub);
    }
}

/// A reader sees both messages of a publisher, which pumps for each or while it pumps.
pub fn readers_see_what_is_published() {
    model(3, || {
        let topic = Topic::new();
        let publisher = Arc::clone(&topic);
        let publisher = thread::spawn(move || {
            publisher.publish_message();
            publisher.publish_message();
        });
        topic.read(1, 1, 2, 0);
        publisher.join().expect("no panic");
    });
}

/// Two publish, of which one may pump for the other: a message and an event, which changes no offset.
pub fn one_pumps_for_both() {
    model(3, || {
        let topic = Topic::new();
        let publishers = [Topic::publish_message, Topic::publish_event].map(|publish| {
            let topic = Arc::clone(&topic);
            thread::spawn(move || publish(&topic))
        });
        topic.read(1, 1, 1, 1);
        for publisher in publishers {
            publisher.join().expect("no panic");
        }
    });
}

/// Two cursors of one connection: the second relies on the first having registered.
pub fn one_waits_for_both() {
    model(3, || {
        let topic = Topic::new();
        let publisher = Arc::clone(&topic);
        let publisher = thread::spawn(move || {
            publisher.publish_message();
            publisher.publish_event();
        });
        topic.read(1, 2, 1, 1);
        publisher.join().expect("no panic");
    });
}

/// Two connections, each woken for itself; one leaves when the other goes on.
pub fn both_connections_are_woken() {
    model(2, || {
        let topic = Topic::new();
        let [other, publisher] = [Arc::clone(&topic), Arc::clone(&topic)];
        let other = thread::spawn(move || other.read(2, 1, 1, 0));
        let publisher = thread::spawn(move || {
            publisher.publish_message();
            publisher.publish_message();
        });
        topic.read(1, 1, 2, 0);
        other.join().expect("no panic");
        publisher.join().expect("no panic");
    });
}
