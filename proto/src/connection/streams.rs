//! The stream table: ids to slots that stay put, allocation of ids, and what the peer may hold.

use std::{mem, num::NonZeroU32};

use crate::{
    config::Config,
    connection::{ids::Ids, parts::LEAST_GROWTH},
    frame::{Interaction, MAX_U31, Request, StreamId},
    payload::Payload,
    stream::{Assembly, Stream, StreamKey, Turn, Unjoinable},
};

/// Places that are kept while no stream needs them.
const MAX_VACANT_PLACES: usize = 128;

/// A place for a stream.
#[derive(Debug)]
struct Slot {
    /// None where the place is vacant.
    tenancy: Option<Tenancy>,
    /// At rest while nobody has the place.
    stream: Stream,
}

/// The things that the table knows of a stream as long as that has a place.
#[derive(Debug)]
pub(crate) struct Tenancy {
    /// No two streams share it.
    serial: NonZeroU32,
    /// Frames may name it: the table's ids have it.
    is_addressable: bool,
    /// Bytes of the peer's request, counted against `max_request_bytes`.
    request_bytes: usize,
    /// Bytes that wait to be sent, as they are counted.
    pub(crate) counted_unsent: usize,
    /// The position of our request, of its first fragment if it has several, once it is written.
    pub(crate) opened_at: u64,
    /// The place it has in the scheduler.
    pub(crate) turn: Turn,
}

impl Slot {
    /// The stream, if this key is its.
    #[inline]
    fn tenant(&mut self, key: StreamKey) -> Option<(&mut Tenancy, &mut Stream)> {
        let tenancy = self.tenancy.as_mut().filter(|tenancy| tenancy.serial == key.serial)?;
        Some((tenancy, &mut self.stream))
    }
}

#[derive(Debug)]
pub(crate) struct Streams {
    /// Places of streams, taken or vacant. They grow to as many as there have been at once.
    slots: Vec<Slot>,
    /// Empty ones.
    vacant: Vec<u32>,
    /// The fewest there were since it was last looked at whether so many are needed.
    least_vacant: usize,
    /// How many were needed of late; it halves each time that is looked at.
    needed: usize,
    ids: Ids,
    /// The remains of a connection that is over.
    left: Option<Box<Left>>,
    /// The next id we allocate; `None` when they are used up (SID-06).
    next: Option<u32>,
    /// The id that ours begin with, and begin again with if they are reused (SID-07).
    first: u32,
    /// The largest id there may be.
    last: u32,
    reuses: bool,
    /// The last stream's.
    serial: NonZeroU32,
    /// Streams the peer opened, running fire-and-forget handlers included.
    inbound: usize,
    inbound_bytes: usize,
    /// Bytes of unfinished fragmented payloads.
    reassembly_bytes: usize,
    /// The memory that these take.
    reassembly_memory: usize,
    /// Bytes of payloads that wait to be sent.
    unsent_bytes: usize,
}

/// Streams of a connection that is over, to be freed a portion at a time.
#[derive(Debug)]
struct Left {
    slots: Vec<Slot>,
    ids: Ids,
}

impl Streams {
    pub(crate) fn new(first_id: u32, reuses: bool) -> Self {
        Self {
            slots: Vec::new(),
            vacant: Vec::new(),
            least_vacant: 0,
            needed: 0,
            ids: Ids::default(),
            left: None,
            next: Some(first_id),
            first: first_id,
            last: MAX_U31,
            reuses,
            serial: NonZeroU32::MIN,
            inbound: 0,
            inbound_bytes: 0,
            reassembly_bytes: 0,
            reassembly_memory: 0,
            unsent_bytes: 0,
        }
    }

    /// The next free id (SID-01, SID-02). Those of live streams are passed over once ids are reused
    /// (SID-08): as many as there are such streams at most.
    pub(crate) fn allocate(&mut self) -> Option<StreamId> {
        let start = self.next?;
        let mut id = StreamId::new(start)?;
        while self.reuses && self.is_live(id) {
            let next = self.after(id.get()).filter(|next| *next != start)?; // SID-09
            id = StreamId::new(next)?;
        }
        self.next = self.after(id.get());
        Some(id)
    }

    fn after(&self, id: u32) -> Option<u32> {
        let next = id.checked_add(2).filter(|next| *next <= self.last);
        if self.reuses { next.or(Some(self.first)) } else { next }
    }

    /// Allocates from here on, as if what comes before had been used.
    #[cfg(test)]
    pub(crate) fn skip_to(&mut self, id: u32) {
        self.next = Some(id);
    }

    /// Opens a stream of ours, with its payload if the request is not written yet.
    pub(crate) fn request(
        &mut self,
        id: StreamId,
        interaction: Interaction,
        payload: Option<Payload>,
        n: u32,
    ) -> (StreamKey, &mut Tenancy, &mut Stream) {
        let (key, tenancy, stream) = self.insert(id, true, 0);
        stream.begin_asking(id, interaction, payload, n);
        (key, tenancy, stream)
    }

    /// Opens a stream of the peer's, whose first frame is this; `addressable` if more may name it.
    pub(crate) fn respond(&mut self, request: &Request, addressable: bool) -> StreamKey {
        let Request { interaction, initial_n, complete, follows, .. } = *request;
        // Of a payload that is not whole, what there is counts as that of fragments.
        let request_bytes = if follows { 0 } else { request.payload.size() };
        self.inbound += 1;
        self.inbound_bytes += request_bytes;
        let (key, _, stream) = self.insert(request.stream, addressable, request_bytes);
        stream.begin_answering(request.stream, interaction, initial_n, complete);
        key
    }

    #[inline]
    fn insert(
        &mut self,
        id: StreamId,
        is_addressable: bool,
        request_bytes: usize,
    ) -> (StreamKey, &mut Tenancy, &mut Stream) {
        let serial = self.next_serial();
        self.serial = serial;
        let index = self.vacant.pop().unwrap_or_else(|| self.grow());
        self.least_vacant = self.least_vacant.min(self.vacant.len());
        if is_addressable {
            self.ids.insert(id, index);
        }
        let (counted_unsent, opened_at, turn) = (0, 0, Turn::default());
        let tenancy =
            Tenancy { serial, is_addressable, request_bytes, counted_unsent, opened_at, turn };
        let slot = &mut self.slots[index as usize];
        (StreamKey { index, id, serial }, slot.tenancy.insert(tenancy), &mut slot.stream)
    }

    /// The key of a stream with this id, if it is the next that is inserted.
    #[inline]
    pub(crate) fn next_key(&self, id: StreamId) -> StreamKey {
        // Bounded as in `grow`.
        let index = self.vacant.last().copied().unwrap_or(self.slots.len() as u32);
        StreamKey { index, id, serial: self.next_serial() }
    }

    #[inline]
    fn next_serial(&self) -> NonZeroU32 {
        self.serial.checked_add(1).unwrap_or(NonZeroU32::MIN)
    }

    #[cold]
    fn grow(&mut self) -> u32 {
        if self.slots.capacity() == 0 {
            // Most connections have one stream at a time.
            self.slots.reserve_exact(1);
        }
        self.slots.push(Slot { tenancy: None, stream: Stream::at_rest() });
        // Bounded by the limits on streams, far below 2^32.
        (self.slots.len() - 1) as u32
    }

    #[inline]
    pub(crate) fn get(&self, key: StreamKey) -> Option<&Stream> {
        let slot = self.slots.get(key.index())?;
        let tenancy = slot.tenancy.as_ref()?;
        (tenancy.serial == key.serial).then_some(&slot.stream)
    }

    /// All streams that have a place.
    pub(crate) fn each(&self) -> impl Iterator<Item = (StreamKey, &Stream)> {
        // Their number is bounded, far below 2^32.
        self.slots.iter().enumerate().filter_map(|(index, Slot { tenancy, stream })| {
            let serial = tenancy.as_ref()?.serial;
            Some((StreamKey { index: index as u32, id: stream.id, serial }, stream))
        })
    }

    /// The position that our request was written at, if it is ours and has been; `None` for a stream that is
    /// not known. Those that were left at the end are known until they are freed.
    pub(crate) fn request_of(&self, key: StreamKey) -> Option<Option<u64>> {
        let slots = self.left.as_ref().map_or(&self.slots, |left| &left.slots);
        let Slot { tenancy, stream } = slots.get(key.index())?;
        let tenancy = tenancy.as_ref().filter(|tenancy| tenancy.serial == key.serial)?;
        stream.requester.then(|| stream.is_known().then_some(tenancy.opened_at))
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: StreamKey) -> Option<&mut Stream> {
        self.tenant(key).map(|(_, stream)| stream)
    }

    /// The stream, with what the table knows of it.
    #[inline]
    pub(crate) fn tenant(&mut self, key: StreamKey) -> Option<(&mut Tenancy, &mut Stream)> {
        self.slots.get_mut(key.index())?.tenant(key)
    }

    /// The stream a frame of the peer names: it cannot know of one whose request is not written.
    #[inline]
    pub(crate) fn find(&mut self, id: StreamId) -> Option<(StreamKey, &mut Stream)> {
        let index = self.ids.get(id)?;
        let Slot { tenancy, stream } = self.slots.get_mut(index as usize)?;
        let key = StreamKey { index, id, serial: tenancy.as_ref()?.serial };
        stream.is_known().then_some((key, stream))
    }

    pub(crate) fn is_live(&self, id: StreamId) -> bool {
        self.ids.get(id).is_some()
    }

    pub(crate) fn remove(&mut self, key: StreamKey) {
        let Some(slot) = self.slots.get_mut(key.index()) else { return };
        let Some((tenancy, stream)) = slot.tenant(key) else { return };
        if let Some(assembly) = stream.assembly() {
            self.reassembly_bytes -= assembly.size();
            self.reassembly_memory -= assembly.memory();
        }
        if !stream.requester {
            self.inbound -= 1;
            self.inbound_bytes -= tenancy.request_bytes;
        }
        self.unsent_bytes -= tenancy.counted_unsent;
        // A fire-and-forget of the peer is not addressable, and its id may be in use again.
        if tenancy.is_addressable {
            self.ids.remove(key.id);
        }
        stream.end();
        slot.tenancy = None;
        self.vacant.push(key.index);
    }

    /// Gives the memory of places back, where no stream is left of many there were, and no more than
    /// a few of the places have been taken since this was last asked for.
    #[inline]
    pub(crate) fn give_back_places(&mut self) {
        if self.slots.len() > MAX_VACANT_PLACES {
            self.look_at_places();
        }
    }

    #[cold]
    fn look_at_places(&mut self) {
        let taken = self.slots.len() - self.least_vacant;
        self.least_vacant = self.vacant.len();
        // Bursts come one after the other, and each would have to make its places anew.
        self.needed = taken.max(self.needed / 2);
        if self.vacant.len() == self.slots.len() && self.needed < self.slots.len() / 4 {
            self.slots = Vec::new();
            self.vacant = Vec::new();
            self.ids = Ids::default();
            self.least_vacant = 0;
            self.needed = 0;
        }
    }

    /// The stream's request comes in fragments.
    pub(crate) fn begin_request(&mut self, key: StreamKey, complete: bool) {
        if let Some(stream) = self.get_mut(key) {
            stream.begin_request(complete);
        }
    }

    /// Adds a fragment to what a stream is receiving, which is begun if there is nothing yet.
    pub(crate) fn assemble(
        &mut self,
        key: StreamKey,
        fragment: &Payload,
        limits: &Config,
    ) -> Result<(), Unjoinable> {
        let slot = self.slots.get_mut(key.index());
        let Some((_, stream)) = slot.and_then(|slot| slot.tenant(key)) else { return Ok(()) };
        let (bytes, memory) = assembled(stream);
        let joined = stream.join(fragment, self.reassembly_bytes - bytes, limits);
        let (bytes_now, memory_now) = assembled(stream);
        self.reassembly_bytes += bytes_now - bytes;
        self.reassembly_memory += memory_now - memory;
        joined
    }

    /// Looks whether what comes in fragments comes on; the streams of which it does not. False if
    /// nothing else comes in fragments.
    pub(crate) fn look_at_assemblies(&mut self, stalled: &mut Vec<StreamKey>) -> bool {
        let before = stalled.len();
        let mut assemblies = 0;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let Slot { tenancy: Some(Tenancy { serial, .. }), stream } = slot else { continue };
            let Some(has_stalled) = stream.has_stalled(LEAST_GROWTH) else { continue };
            assemblies += 1;
            if has_stalled {
                // Places are counted in 32 bits, as `insert` does.
                stalled.push(StreamKey { index: index as u32, id: stream.id, serial: *serial });
            }
        }
        assemblies > stalled.len() - before
    }

    /// Takes what a stream has received in fragments.
    pub(crate) fn take_assembly(&mut self, key: StreamKey) -> Option<Assembly> {
        self.change(key, Stream::take_assembly)?
    }

    /// Has something done to a stream, which may give up what it has received in fragments (CAN-06).
    #[inline]
    pub(crate) fn change<R>(
        &mut self,
        key: StreamKey,
        change: impl FnOnce(&mut Stream) -> R,
    ) -> Option<R> {
        let (_, stream) = self.slots.get_mut(key.index())?.tenant(key)?;
        let (bytes, memory) = assembled(stream);
        let changed = change(stream);
        if bytes > 0 || memory > 0 {
            let (bytes_now, memory_now) = assembled(stream);
            self.reassembly_bytes -= bytes - bytes_now;
            self.reassembly_memory -= memory - memory_now;
        }
        Some(changed)
    }

    /// The peer's request is whole: its bytes are held for as long as the stream lives.
    pub(crate) fn hold_request(&mut self, key: StreamKey, bytes: usize) {
        if let Some((tenancy, _)) = self.tenant(key) {
            tenancy.request_bytes = bytes;
            self.inbound_bytes += bytes;
        }
    }

    /// Frames may not name the stream any more; its id is free (FNF-02).
    pub(crate) fn forget_id(&mut self, key: StreamKey) {
        if let Some((tenancy, _)) = self.tenant(key) {
            tenancy.is_addressable = false;
            self.ids.remove(key.id);
        }
    }

    /// Ends all streams. What they hold is freed by [`free_some`](Self::free_some).
    pub(crate) fn clear(&mut self) {
        let (slots, ids) = (mem::take(&mut self.slots), mem::take(&mut self.ids));
        self.left = Some(Box::new(Left { slots, ids }));
        self.vacant = Vec::new();
        self.inbound = 0;
        self.inbound_bytes = 0;
        self.reassembly_bytes = 0;
        self.reassembly_memory = 0;
        self.unsent_bytes = 0;
    }

    /// Frees at most so many of the streams that were left at the end; how many.
    pub(crate) fn free_some(&mut self, max: usize) -> usize {
        let Some(left) = &mut self.left else { return 0 };
        let slots = max.min(left.slots.len());
        left.slots.truncate(left.slots.len() - slots);
        let freed = slots + left.ids.free_some(max - slots);
        if freed < max {
            self.left = None;
        }
        freed
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.vacant.len()
    }

    /// Places for streams, taken or not: what the table has memory for.
    pub(crate) fn places(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn inbound(&self) -> usize {
        self.inbound
    }

    pub(crate) fn inbound_bytes(&self) -> usize {
        self.inbound_bytes
    }

    pub(crate) fn reassembly_bytes(&self) -> usize {
        self.reassembly_bytes
    }

    pub(crate) fn reassembly_memory(&self) -> usize {
        self.reassembly_memory
    }

    pub(crate) fn unsent_bytes(&self) -> usize {
        self.unsent_bytes
    }

    /// A stream, what the table knows of it, and the bytes of all streams that wait to be sent, for
    /// counting what it is given.
    #[inline]
    pub(crate) fn tenant_with_unsent(
        &mut self,
        key: StreamKey,
    ) -> Option<(&mut Tenancy, &mut Stream, &mut usize)> {
        let (tenancy, stream) = self.slots.get_mut(key.index())?.tenant(key)?;
        Some((tenancy, stream, &mut self.unsent_bytes))
    }

    /// Counts what a stream has to send now.
    #[inline]
    pub(crate) fn count_unsent(&mut self, key: StreamKey) -> Option<(&mut Tenancy, &mut Stream)> {
        let (tenancy, stream, all) = self.tenant_with_unsent(key)?;
        let unsent = stream.unsent_bytes();
        if tenancy.counted_unsent != unsent {
            *all = *all + unsent - tenancy.counted_unsent;
            tenancy.counted_unsent = unsent;
        }
        Some((tenancy, stream))
    }

    /// The memory of a place.
    pub(crate) const PLACE_BYTES: usize = size_of::<Slot>();
}

/// Bytes of what a stream is receiving in fragments, and what they take in memory.
#[inline]
fn assembled(stream: &Stream) -> (usize, usize) {
    stream.assembly().map_or((0, 0), |assembly| (assembly.size(), assembly.memory()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There may be a hundred thousand that wait. What few streams need has memory of its own.
    #[cfg(target_pointer_width = "64")]
    #[test]
    fn a_place_is_small() {
        assert!(size_of::<Slot>() <= 232, "{} bytes", size_of::<Slot>());
    }

    #[test]
    fn ids_are_used_up_and_not_reused() {
        for (first, last) in [(1, MAX_U31), (2, MAX_U31 - 1)] {
            let mut streams = Streams::new(first, false);
            streams.skip_to(last - 2);
            let ids: Vec<_> =
                std::iter::from_fn(|| streams.allocate()).map(StreamId::get).collect();
            assert_eq!(ids, [last - 2, last]);
            assert_eq!(streams.allocate(), None);
        }
    }

    fn opened(streams: &mut Streams) -> Option<StreamKey> {
        let id = streams.allocate()?;
        Some(streams.request(id, Interaction::RequestResponse, Some(Payload::default()), 0).0)
    }

    /// SID-07, SID-08, SID-09.
    #[test]
    fn ids_are_reused_around_the_end_but_not_the_live_ones() {
        for first in [1, 2] {
            // Five ids in all.
            let mut streams = Streams::new(first, true);
            streams.last = first + 8;
            let mut keys: Vec<_> = std::iter::from_fn(|| opened(&mut streams)).collect();
            let ids: Vec<_> = keys.iter().map(|key| key.id().get()).collect();
            assert_eq!(ids, [0, 2, 4, 6, 8].map(|offset| first + offset));
            assert_eq!(streams.allocate(), None);
            // Whatever is free is found, from wherever the search begins.
            for freed in [3, 0, 4, 4, 1] {
                let id = keys[freed].id();
                streams.remove(keys[freed]);
                keys[freed] = opened(&mut streams).expect("one is free");
                assert_eq!(keys[freed].id(), id);
                assert_eq!(streams.allocate(), None);
            }
        }
    }

    #[test]
    fn a_key_does_not_outlive_its_stream() {
        let mut streams = Streams::new(1, false);
        let first = opened(&mut streams).unwrap();
        streams.remove(first);
        let second = opened(&mut streams).unwrap();
        assert_eq!(first.index(), second.index());
        assert_ne!(first, second);
        assert!(streams.get(first).is_none());
        streams.remove(first);
        assert!(streams.get(second).is_some());
    }
}
