//! From stream ids to places in the table.

use std::collections::BTreeMap;

use crate::frame::StreamId;

/// The places of live streams by their ids.
///
/// A peer counts its ids up by two, so those that live at once mostly differ in their low bits: these
/// choose an entry, without a hash. What finds its entry taken lies in a sorted map beside: whatever
/// ids a peer chooses, one costs no more than a search among those that live.
#[derive(Debug, Default)]
pub(super) struct Ids {
    /// A power of two, or none.
    entries: Vec<Entry>,
    beside: BTreeMap<StreamId, u32>,
    len: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    id: Option<StreamId>,
    place: u32,
}

impl Ids {
    /// Most connections have one stream at a time.
    const FEWEST: usize = 1;

    #[inline]
    pub(super) fn get(&self, id: StreamId) -> Option<u32> {
        let entry = self.entries.get(self.at(id))?;
        if entry.id == Some(id) {
            Some(entry.place)
        } else if self.beside.is_empty() {
            None
        } else {
            self.beside.get(&id).copied()
        }
    }

    /// Sets the place of an id that has none.
    #[inline]
    pub(super) fn insert(&mut self, id: StreamId, place: u32) {
        self.len += 1;
        let at = self.at(id);
        match self.entries.get_mut(at) {
            Some(entry) if entry.id.is_none() => *entry = Entry { id: Some(id), place },
            _ => self.insert_beside(id, place),
        }
    }

    #[cold]
    fn insert_beside(&mut self, id: StreamId, place: u32) {
        self.beside.insert(id, place);
        if 2 * self.len > self.entries.len() {
            let size = (2 * self.entries.len()).max(Self::FEWEST);
            let before = std::mem::replace(&mut self.entries, vec![Entry::default(); size]);
            let listed = before.iter().filter_map(|entry| Some((entry.id?, entry.place)));
            self.len = 0;
            for (id, place) in listed.chain(std::mem::take(&mut self.beside)) {
                self.insert(id, place);
            }
        }
    }

    #[inline]
    pub(super) fn remove(&mut self, id: StreamId) {
        let at = self.at(id);
        match self.entries.get_mut(at) {
            Some(entry) if entry.id == Some(id) => {
                entry.id = None;
                self.len -= 1;
            }
            _ => self.len -= usize::from(self.beside.remove(&id).is_some()),
        }
    }

    /// Frees at most so many of those beside, when nothing is looked up any more; how many.
    pub(super) fn free_some(&mut self, max: usize) -> usize {
        (0..max).take_while(|_| self.beside.pop_first().is_some()).count()
    }

    #[inline]
    fn at(&self, id: StreamId) -> usize {
        // Ids of one side are all odd or all even.
        (id.get() as usize / 2) & self.entries.len().wrapping_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_is_a_map_whatever_the_ids() {
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u32
        };
        // In a row, with a stride that collides, or anywhere.
        for stride in [2, 128, 8_192, 0] {
            let (mut ids, mut model) = (Ids::default(), BTreeMap::new());
            for round in 0..20_000_u32 {
                let number = match stride {
                    0 => random() % 5_000 + 1,
                    _ => 1 + stride * (round - random() % 50.min(round + 1)),
                };
                let id = StreamId::new(number).expect("between 1 and 2^31-1");
                assert_eq!(ids.get(id), model.get(&id).copied());
                let is_crowded = model.len() > 300;
                if model.remove(&id).is_some() {
                    ids.remove(id);
                } else if !is_crowded {
                    ids.insert(id, round);
                    model.insert(id, round);
                } else if let Some((id, _)) = model.pop_first() {
                    ids.remove(id);
                }
                assert_eq!(ids.len, model.len());
            }
            assert!(ids.entries.len() <= 2_048, "{}", ids.entries.len());
        }
    }
}
