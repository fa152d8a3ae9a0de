//! The places of a topic's readers in its log, for whoever asks who is slow. A reader tells its own when it has
//! been polled, and nobody is asked for a delivery.

use std::sync::Arc;

use crate::{
    position::Offset,
    sync::{AtomicU64, AtomicUsize, Mutex, Ordering, lock},
};

/// The place of a reader.
#[derive(Debug)]
pub(crate) struct Place {
    /// The message that it reads next; the largest number for one that reads none.
    next: AtomicU64,
    /// Its index among all.
    index: AtomicUsize,
}

impl Place {
    /// The reader goes on with this message.
    #[inline]
    pub(crate) fn tell(&self, next: Offset) {
        self.next.store(next.0, Ordering::Relaxed);
    }
}

/// The places of all readers of a topic.
#[derive(Debug, Default)]
pub(crate) struct Places(Mutex<Vec<Arc<Place>>>);

impl Places {
    /// One of a reader that has not told its own.
    pub(crate) fn enter(&self) -> Arc<Place> {
        let mut places = lock(&self.0);
        let index = AtomicUsize::new(places.len());
        let place = Arc::new(Place { next: AtomicU64::new(u64::MAX), index });
        places.push(Arc::clone(&place));
        place
    }

    pub(crate) fn leave(&self, place: &Place) {
        let mut places = lock(&self.0);
        let index = place.index.load(Ordering::Relaxed);
        let is_there = places.get(index).is_some_and(|there| std::ptr::eq(&**there, place));
        debug_assert!(is_there, "indices are changed under the lock alone");
        if !is_there {
            return;
        }
        places.swap_remove(index);
        if let Some(moved) = places.get(index) {
            moved.index.store(index, Ordering::Relaxed);
        }
        if places.capacity() > 64 && places.len() < places.capacity() / 4 {
            places.shrink_to_fit();
        }
    }

    /// The message that the slowest reads next; none if nobody reads.
    pub(crate) fn slowest(&self) -> Option<Offset> {
        let places = lock(&self.0);
        let next = places.iter().map(|place| place.next.load(Ordering::Relaxed)).min();
        next.filter(|next| *next != u64::MAX).map(Offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_is_found_whoever_comes_and_goes() {
        let places = Places::default();
        assert_eq!(places.slowest(), None);
        let mut all: Vec<_> = (0..1_000).map(|_| places.enter()).collect();
        assert_eq!(places.slowest(), None, "nobody has told");
        for (place, n) in all.iter().zip(1_u64..) {
            place.tell(Offset(n % 7 * 100 + n));
        }
        let mut random = 1_usize;
        while !all.is_empty() {
            let slowest = all.iter().map(|place| place.next.load(Ordering::Relaxed)).min();
            assert_eq!(places.slowest(), slowest.map(Offset));
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            places.leave(&all.swap_remove((random >> 33) % all.len()));
        }
        assert_eq!(places.slowest(), None);
        assert!(lock(&places.0).capacity() <= 64);
    }
}
