//! The parts that the driver keeps for streams, by their place in the table of the protocol engine.

use std::{collections::VecDeque, mem, sync::Arc, task::Waker};

use rsock_proto::StreamKey;

use super::drop_guarded;
use crate::{
    connection::{
        Feeder, Permit,
        producers::{Producer, SlotWakers},
    },
    demand::Watchers,
    memory::BlockCharge,
};

/// The parts that the driver keeps for a stream; empty between tenants.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) key: Option<StreamKey>,
    pub(super) producer: Option<Producer>,
    pub(super) inlet: Option<Feeder>,
    /// We opened it.
    pub(super) permit: Option<Permit>,
    /// Of the block that holds the peer's request.
    pub(super) charge: Option<Arc<BlockCharge>>,
    /// Those who want to know how many items the peer asks for; few do.
    pub(super) watchers: Option<Box<Watchers>>,
    /// In `ready`.
    pub(super) is_queued: bool,
}

impl Slot {
    /// It is a fire-and-forget of ours that is not written yet: nothing else of ours has neither a
    /// consumer nor a producer.
    pub(super) fn is_promised(&self) -> bool {
        self.permit.is_some() && self.inlet.is_none() && self.producer.is_none()
    }
}

/// The slots of all streams, and what is owed to those who hang on them.
#[derive(Default)]
pub(super) struct Slots {
    /// By stream index.
    pub(super) entries: Vec<Slot>,
    pub(super) wakers: SlotWakers,
    /// Slots whose producers are to be polled, each once.
    pub(super) ready: VecDeque<usize>,
    /// Consumers to be woken when the burst is over.
    pub(super) consumers: Vec<Waker>,
    /// Permits of requests that are over, to be given back at the end of the turn.
    pub(super) unused_permits: usize,
    /// Producers were polled beside a long transfer since the task was woken.
    pub(super) has_overtaken: bool,
}

impl Slots {
    /// The slot at the stream's place, which may be another's.
    #[inline]
    pub(super) fn at(&mut self, key: StreamKey) -> &mut Slot {
        let index = key.index();
        if self.entries.len() <= index {
            if index == 0 {
                // Most connections have one stream at a time.
                self.entries.reserve_exact(1);
            }
            self.entries.resize_with(index + 1, Slot::default);
        }
        &mut self.entries[index]
    }

    /// The stream's own slot, if it has one. Streams of a session are known by these keys alone; a fresh
    /// one has its own.
    #[inline]
    pub(super) fn of(&mut self, key: StreamKey) -> Option<&mut Slot> {
        self.entries.get_mut(key.index()).filter(|slot| slot.key == Some(key))
    }

    /// Gives a stream that was opened its slot, still without a producer. It is empty: the end of a
    /// stream is told before its slot is another's.
    #[inline]
    pub(super) fn fill(
        &mut self,
        key: StreamKey,
        inlet: Option<Feeder>,
        permit: Option<Permit>,
    ) -> &mut Slot {
        if let Some(before) = self.at(key).key {
            debug_assert!(false, "{key:?} after {before:?}");
            self.release(before);
        }
        let slot = &mut self.entries[key.index()];
        slot.key = Some(key);
        slot.inlet = inlet;
        slot.permit = permit;
        slot
    }

    /// The producer at this place is to be polled.
    pub(super) fn queue(&mut self, index: usize) {
        if let Some(slot) = self.entries.get_mut(index)
            && slot.producer.is_some()
            && !mem::replace(&mut slot.is_queued, true)
        {
            self.ready.push_back(index);
        }
    }

    /// All feeds are to be polled: there is a transport again, without which they are given no room.
    pub(super) fn queue_feeds(&mut self) {
        for index in 0..self.entries.len() {
            if matches!(self.entries[index].producer, Some(Producer::Feed(_))) {
                self.queue(index);
            }
        }
    }

    #[inline]
    pub(super) fn release_if_over(&mut self, key: StreamKey) {
        let slot = &self.entries[key.index()];
        if slot.key == Some(key) && slot.producer.is_none() && slot.inlet.is_none() {
            self.release(key);
        }
    }

    /// The stream is over: whatever is left of it goes, and the slot is free.
    #[inline]
    pub(super) fn release(&mut self, key: StreamKey) {
        let slot = &mut self.entries[key.index()];
        if slot.key == Some(key) {
            slot.key = None;
            slot.inlet = None;
            slot.charge = None;
            slot.watchers = None;
            let producer = slot.producer.take();
            if let Some(permit) = slot.permit.take() {
                self.give_back(permit);
            }
            if producer.is_some() {
                drop_guarded(producer);
            }
        }
    }

    /// A request is over. Whoever waits for its permit has it at the end of the turn.
    #[inline]
    pub(super) fn give_back(&mut self, _: Permit) {
        self.unused_permits += 1;
    }

    /// All of them, for their streams to fail.
    pub(super) fn take_all(&mut self) -> (Vec<Slot>, SlotWakers) {
        self.ready = VecDeque::new();
        (mem::take(&mut self.entries), mem::take(&mut self.wakers))
    }

    /// Gives back those beyond what the engine has places for: slots are found by the places of
    /// streams, and there is nothing in them.
    #[cold]
    pub(super) fn truncate(&mut self, places: usize) {
        self.entries.truncate(places);
        self.entries.shrink_to_fit();
        self.wakers.truncate(places);
    }

    /// Wakes those who were told something in this turn.
    #[inline]
    pub(super) fn wake_consumers(&mut self) {
        if !self.consumers.is_empty() {
            for consumer in self.consumers.drain(..) {
                consumer.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There may be a hundred thousand that wait. What few streams need has memory of its own.
    #[cfg(target_pointer_width = "64")]
    #[test]
    fn a_slot_is_small() {
        assert!(size_of::<Slot>() <= 72, "{} bytes", size_of::<Slot>());
    }
}
