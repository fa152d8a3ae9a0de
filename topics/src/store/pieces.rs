//! The pieces of a topic's log, and the memory that knowing them takes.

use std::{
    collections::{VecDeque, vec_deque},
    mem::size_of,
    ops::Range,
    sync::Arc,
};

use super::segment::Segment;
use crate::sync::{AtomicUsize, Ordering};

/// Bytes that a topic of the store takes besides its pieces and its name: itself, its places by number and by
/// name, and what its owner and the committer have of it.
pub(super) const TOPIC_BYTES: usize = 768;

/// The memory that the topics of a store take to be known, of all of them together.
#[derive(Clone, Debug, Default)]
pub(super) struct Known(Arc<AtomicUsize>);

impl Known {
    pub(super) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn release(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Segments and extents of packs, in the order of their offsets. It counts its memory, and that of its topic,
/// for as long as it is there.
#[derive(Debug)]
pub(super) struct Pieces {
    all: VecDeque<Segment>,
    /// Bytes that it has counted.
    counted: usize,
    known: Known,
}

impl Pieces {
    /// None yet, of a topic whose name has so many bytes.
    pub(super) fn new(name_bytes: usize, known: &Known) -> Self {
        // The name is kept here and by number.
        let counted = TOPIC_BYTES + 2 * name_bytes;
        known.add(counted);
        Self { all: VecDeque::new(), counted, known: known.clone() }
    }

    /// Changes them, and counts what they take then.
    fn change<R>(&mut self, change: impl FnOnce(&mut VecDeque<Segment>) -> R) -> R {
        let before = self.all.capacity();
        let changed = change(&mut self.all);
        // Thousands of topics would keep what few need.
        if self.all.capacity() > 8 && self.all.len() * 4 <= self.all.capacity() {
            self.all.shrink_to(self.all.len() * 2);
        }
        let after = self.all.capacity();
        let bytes = before.abs_diff(after) * size_of::<Segment>();
        if after > before {
            self.counted += bytes;
            self.known.add(bytes);
        } else {
            self.counted -= bytes;
            self.known.release(bytes);
        }
        changed
    }

    pub(super) fn set(&mut self, all: Vec<Segment>) {
        self.change(|own| *own = all.into());
    }

    pub(super) fn push_back(&mut self, segment: Segment) {
        self.change(|all| {
            if all.is_empty() && all.capacity() == 0 {
                // Most topics that share a pack have one piece.
                all.reserve_exact(1);
            }
            all.push_back(segment);
        });
    }

    pub(super) fn pop_back(&mut self) -> Option<Segment> {
        self.change(VecDeque::pop_back)
    }

    pub(super) fn pop_front(&mut self) -> Option<Segment> {
        self.change(VecDeque::pop_front)
    }

    /// Puts one in the place of these, which are given back.
    pub(super) fn replace(&mut self, range: Range<usize>, new: Segment) -> Vec<Segment> {
        self.change(|all| {
            let at = range.start;
            let gone: Vec<_> = all.drain(range).collect();
            all.insert(at, new);
            gone
        })
    }

    /// All of them; none are left.
    pub(super) fn take(&mut self) -> VecDeque<Segment> {
        self.change(std::mem::take)
    }

    pub(super) fn back_mut(&mut self) -> Option<&mut Segment> {
        self.all.back_mut()
    }

    pub(super) fn back(&self) -> Option<&Segment> {
        self.all.back()
    }

    pub(super) fn front(&self) -> Option<&Segment> {
        self.all.front()
    }

    pub(super) fn get(&self, at: usize) -> Option<&Segment> {
        self.all.get(at)
    }

    pub(super) fn iter(&self) -> vec_deque::Iter<'_, Segment> {
        self.all.iter()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The place of the first that ends behind an offset.
    pub(super) fn behind(&self, offset: u64) -> usize {
        self.all.partition_point(|segment| segment.end <= offset)
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.known.release(self.counted);
    }
}
