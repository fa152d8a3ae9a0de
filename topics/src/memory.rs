//! The memory that logs hold.

use std::sync::Arc;

use crate::sync::{AtomicUsize, Ordering};

/// The memory that a log holds, as part of what all logs hold. It counts segments until nobody reads them
/// any more, and forms that readers had made.
#[derive(Debug)]
pub struct Held {
    own: AtomicUsize,
    /// That of all logs in memory.
    all: Arc<AtomicUsize>,
}

impl Held {
    /// Nothing yet, as part of that of all logs.
    pub fn new(all: Arc<AtomicUsize>) -> Arc<Self> {
        Arc::new(Self { own: AtomicUsize::new(0), all })
    }

    /// Bytes of this log.
    pub fn bytes(&self) -> usize {
        self.own.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, bytes: usize) {
        self.own.fetch_add(bytes, Ordering::Relaxed);
        self.all.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn release(&self, bytes: usize) {
        self.own.fetch_sub(bytes, Ordering::Relaxed);
        self.all.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Adds to what there is unless that would be more than this.
    pub(crate) fn take(&self, bytes: usize, limit: usize) -> bool {
        let take = |held: usize| held.checked_add(bytes).filter(|held| *held <= limit);
        let is_taken = self.own.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        if is_taken {
            self.all.fetch_add(bytes, Ordering::Relaxed);
        }
        is_taken
    }
}
