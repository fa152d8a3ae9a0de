//! The one task that comes to a topic's presence when something is due there.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock, Weak},
};

use rustc_hash::FxHashMap;
use tokio::{sync::Notify, task::yield_now, time::timeout};

use super::all::{All, Shared};
use crate::{
    sync::{Mutex, lock},
    time::Instant,
};

/// The topics at which something is due, and when.
#[derive(Debug, Default)]
pub(super) struct Timer {
    due: Mutex<Due>,
    /// Something is due sooner than the task has been told, or there will never be anything.
    pub(super) sooner: Arc<Notify>,
    started: OnceLock<()>,
}

/// Each topic stands here once at most.
#[derive(Debug, Default)]
struct Due {
    by_time: BTreeMap<(Instant, u64), Arc<Shared>>,
    by_number: FxHashMap<u64, Instant>,
}

impl Due {
    /// Whether this is due before all others.
    fn add(&mut self, shared: &Arc<Shared>, deadline: Instant) -> bool {
        let number = shared.number;
        match self.by_number.insert(number, deadline) {
            Some(before) if before <= deadline => {
                self.by_number.insert(number, before);
                return false;
            }
            Some(before) => drop(self.by_time.remove(&(before, number))),
            None => {}
        }
        self.by_time.insert((deadline, number), Arc::clone(shared));
        self.first() == Some(deadline) && self.by_time.range(..(deadline, number)).next().is_none()
    }

    fn first(&self) -> Option<Instant> {
        self.by_time.first_key_value().map(|((deadline, _), _)| *deadline)
    }

    /// The first topic at which something is due by now.
    fn take(&mut self, now: Instant) -> Option<Arc<Shared>> {
        let entry = self.by_time.first_entry().filter(|entry| entry.key().0 <= now)?;
        let shared = entry.remove();
        self.by_number.remove(&shared.number);
        Some(shared)
    }
}

impl Timer {
    /// Has the task come to a topic at this moment, or sooner.
    pub(super) fn arm(&self, shared: &Arc<Shared>, deadline: Instant) {
        if lock(&self.due).add(shared, deadline) {
            self.sooner.notify_one();
        }
    }

    /// Starts the task, if it does not run. It ends with the presence of all topics.
    pub(super) fn start(&self, all: &Arc<All>) {
        self.started.get_or_init(|| {
            tokio::spawn(run(Arc::downgrade(all), Arc::clone(&self.sooner)));
        });
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.sooner.notify_one();
    }
}

async fn run(all: Weak<All>, sooner: Arc<Notify>) {
    loop {
        let Some(of_all) = all.upgrade() else { return };
        while let Some(shared) = of_all.take_due() {
            // A portion of what is due: if there is more, it is due again at once.
            of_all.change(&shared, |presence, now| presence.tick(now));
            of_all.forget(&shared);
            yield_now().await;
        }
        let wait = of_all.next_due();
        drop(of_all);
        match wait {
            // Whether the time has come, or something is due sooner: it is looked for.
            Some(wait) => drop(timeout(wait, sooner.notified()).await),
            None => sooner.notified().await,
        }
    }
}

impl All {
    fn take_due(&self) -> Option<Arc<Shared>> {
        lock(&self.timer().due).take(self.now().monotonic)
    }

    fn next_due(&self) -> Option<std::time::Duration> {
        let first = lock(&self.timer().due).first()?;
        Some(first.since(self.now().monotonic))
    }
}
