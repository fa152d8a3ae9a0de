//! The task that wakes a topic's readers, a handful at a time.

use std::{sync::Arc, time::Duration};

use rsock::WakeGroup;
use tokio::runtime::Handle;

use super::{Clock, presence::Shared};
use crate::topic::{Pumped, Topic, Wake};

/// The readers of one connection on one topic, as their connection wakes them.
#[derive(Debug)]
pub(super) struct Group(pub(super) Arc<WakeGroup>);

impl Wake for Group {
    fn wake(&self) -> bool {
        self.0.wake()
    }
}

/// Wakes all that wait for news of a topic: a handful at once, the others behind whoever else is ready, so
/// that an acknowledgement does not wait for a thousand writes. All of them again, after the pause that the
/// topic's settings want, for what was published meanwhile.
pub(super) fn pump(topic: &Arc<Topic>, clock: Clock) {
    let (pumped, wait) = topic.pump_paced(|| clock.now().monotonic);
    if pumped == Pumped::All {
        return;
    }
    let topic = Arc::clone(topic);
    let Ok(runtime) = Handle::try_current() else {
        // It was dropped behind the end of its runtime, where nobody else is.
        while topic.pump() == Pumped::More {}
        return;
    };
    go_on(&runtime, wait, move || topic.pump_paced(|| clock.now().monotonic));
}

/// The same for the watchers of a topic's presence.
pub(super) fn pump_presence(shared: &Arc<Shared>) {
    if shared.hubs.pump() == Pumped::All {
        return;
    }
    let shared = Arc::clone(shared);
    let Ok(runtime) = Handle::try_current() else {
        while shared.hubs.pump() == Pumped::More {}
        return;
    };
    go_on(&runtime, Duration::ZERO, move || (shared.hubs.pump(), Duration::ZERO));
}

/// Wakes a handful after the other, behind whoever else is ready, or after the time that it says.
fn go_on(
    runtime: &Handle,
    mut wait: Duration,
    pump: impl Fn() -> (Pumped, Duration) + Send + 'static,
) {
    runtime.spawn(async move {
        loop {
            match wait.is_zero() {
                true => tokio::task::yield_now().await,
                false => tokio::time::sleep(wait).await,
            }
            match pump() {
                (Pumped::All, _) => return,
                (Pumped::More, longer) => wait = longer,
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;
    use crate::{
        entry::Message,
        name::TopicName,
        position::{Epoch, Offset},
        settings::TopicSettings,
        topic::{Ended, Hub, Publish},
    };

    /// A connection: it is woken, reads, and waits again.
    struct Connection {
        woken: tokio::sync::Notify,
        wakes: AtomicUsize,
    }

    struct ToConnection(Arc<Connection>);

    impl Wake for ToConnection {
        fn wake(&self) -> bool {
            self.0.wakes.fetch_add(1, Relaxed);
            self.0.woken.notify_one();
            true
        }
    }

    fn topic(coalesce: Duration) -> Arc<Topic> {
        let settings = Arc::new(TopicSettings { coalesce, ..TopicSettings::default() });
        let name = TopicName::parse("room.1").expect("a name");
        let all = Arc::default();
        Arc::new(Topic::new(name, Epoch(1), Offset(1), Ended::Not, settings, &all))
    }

    /// A task that waits for news of a topic, as a driver does, and how far it has seen all.
    fn reads(topic: &Arc<Topic>) -> (Arc<Connection>, Arc<AtomicUsize>) {
        let woken = tokio::sync::Notify::new();
        let connection = Arc::new(Connection { woken, wakes: AtomicUsize::new(0) });
        let hub: Arc<Hub> = topic.enter(1, || Box::new(ToConnection(Arc::clone(&connection))));
        let seen = Arc::new(AtomicUsize::new(0));
        topic.wait(&hub);
        let (topic, of_task, sees) =
            (Arc::clone(topic), Arc::clone(&connection), Arc::clone(&seen));
        tokio::spawn(async move {
            loop {
                sees.store(topic.visible().0 as usize - 1, Relaxed);
                topic.wait(&hub);
                of_task.woken.notified().await;
            }
        });
        (connection, seen)
    }

    fn publish(topic: &Arc<Topic>, clock: Clock) {
        let message = Message { data: b"x", ..Message::default() };
        let published =
            topic.publish(&Publish { message, ..Publish::default() }, clock.now()).expect("room");
        if published.pump {
            pump(topic, clock);
        }
    }

    /// Ten publishes, a millisecond apart: that many wakes, or one for each pause; and the last is seen.
    #[tokio::test(start_paused = true)]
    async fn a_burst_is_one_wake_for_each_pause() {
        for (coalesce, expected) in [(0, 100), (10, 11), (100, 2)] {
            let (clock, topic) = (Clock::start(), topic(Duration::from_millis(coalesce)));
            let (connection, seen) = reads(&topic);
            tokio::task::yield_now().await;
            for n in 1..=100 {
                publish(&topic, clock);
                tokio::time::sleep(Duration::from_millis(1)).await;
                let latest = seen.load(Relaxed);
                assert!(latest + 1 + coalesce as usize >= n, "{latest} of {n}");
                assert!(n > 1 || latest == 1, "the first after a pause is not delayed");
            }
            tokio::time::sleep(Duration::from_millis(coalesce)).await;
            assert_eq!(seen.load(Relaxed), 100, "the last is not forgotten");
            assert_eq!(connection.wakes.load(Relaxed), expected, "{coalesce} ms");
            // After a pause it is as at first, and nobody is woken for nothing.
            tokio::time::sleep(Duration::from_secs(1)).await;
            publish(&topic, clock);
            tokio::task::yield_now().await;
            assert_eq!(seen.load(Relaxed), 101);
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(connection.wakes.load(Relaxed), expected + 1);
        }
    }
}
