//! Tracked frames that the peer may not have: what a resume sends again.

use std::{collections::VecDeque, mem};

use bytes::Bytes;

use crate::{
    frame::{HEADER_LEN, PREFIX_LEN, Parts, frame_len, u24_bytes, write_parts},
    transmit::send_buf::{Keeper, SendBuf},
};

/// Frames are copied into blocks of this size: a payload may be a slice of much more, and how much of
/// that it keeps cannot be told. Where little is retained yet, blocks are smaller: many sessions have
/// a frame or two.
const BLOCK_BYTES: usize = 8 << 10;
const FIRST_BLOCK_BYTES: usize = 1 << 10;

/// Frames from this length on that do not fit in the block begun have one of their own, so that little
/// of a block is left unused.
const LONG_FRAME: usize = BLOCK_BYTES / 4;

/// Bodies that others are sent as well are kept by reference from this length on: a copy of a shorter one
/// takes less than the reference.
const SHARED_FROM: usize = 128;

/// Bytes of such bodies that may be added before the room ahead is looked at again.
const SHARED_UNSEEN: usize = 8 << 10;

/// The bit that marks a frame whose body is kept by reference, in the first byte of its header: that of
/// a stream id, which has 31 bits.
const SHARED_BIT: u8 = 0x80;

/// Bytes that may be retained whatever memory there is.
const LEAST_ALLOWED: usize = 4 << 10;

/// Places for blocks below which none are given back.
const FEW_PLACES: usize = 32;

/// One side's tracked frames, from the first the peer may still need to the last one produced.
///
/// A position counts bytes of tracked frames, without transport prefixes; it names the byte after
/// the last one covered (RESUME-05, RESUME-08).
#[derive(Debug)]
pub(crate) struct Retained {
    /// Full blocks, the oldest first.
    full: VecDeque<Block>,
    /// The block that frames are added to.
    open: Block,
    /// The first frame here (RESUME-36).
    first: Place,
    /// The position behind the last frame.
    sent: u64,
    /// The first frame that the present transport has not been given, if there is one.
    unwritten: Option<Place>,
    /// The position up to which transports before it were given frames.
    given_before: u64,
    /// Bytes in full blocks, the length in front of each frame included.
    full_bytes: usize,
    max_bytes: usize,
    /// As much memory as the owner of the connection has for it.
    allowance: usize,
    /// Memory of all blocks, used or not.
    block_memory: usize,
    /// The room ahead, seen at the last look.
    outlook: Outlook,
    /// The ends of fire-and-forgets that are not acknowledged.
    fire_and_forgets: VecDeque<u64>,
    /// The bodies that are kept by reference, the oldest first.
    shared: VecDeque<SharedBody>,
    /// Their bytes; each is counted as if nobody else had it.
    shared_bytes: usize,
    /// Those of them that were added since the room ahead was looked at.
    unseen_bytes: usize,
}

/// The body of a frame, which others are sent as well.
#[derive(Debug)]
struct SharedBody {
    /// The position of the frame.
    at: u64,
    body: Bytes,
}

/// The outlook that holds until the open block is full, or something is dropped. Looking at all of it for every frame
/// would cost as much as keeping the frame.
#[derive(Clone, Copy, Debug, Default)]
struct Outlook {
    /// There is room for the rest of the block, and for as much as a [`SendBuf`] takes at most.
    has_room: bool,
    /// With the rest of the block no more is held than half of what may be.
    is_low: bool,
}

/// Frames, each behind its length.
#[derive(Debug, Default)]
struct Block {
    /// The position of its first frame.
    at: u64,
    bytes: Vec<u8>,
}

/// The start of a frame, or the end of the last.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Place {
    /// Its position.
    at: u64,
    /// The block that it is in, counted from the first; the open one comes after those that are full.
    block: usize,
    offset: usize,
}

impl Retained {
    /// Nothing yet. Holds at most `max_bytes` and one frame more.
    pub(crate) fn new(max_bytes: usize) -> Self {
        let mut retained = Self {
            full: VecDeque::new(),
            open: Block::default(),
            first: Place::default(),
            sent: 0,
            unwritten: None,
            given_before: 0,
            full_bytes: 0,
            max_bytes,
            allowance: usize::MAX,
            block_memory: 0,
            outlook: Outlook::default(),
            fire_and_forgets: VecDeque::new(),
            shared: VecDeque::new(),
            shared_bytes: 0,
            unseen_bytes: 0,
        };
        retained.look_ahead();
        retained
    }

    pub(crate) fn first(&self) -> u64 {
        self.first.at
    }

    #[inline]
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// No more may be added before some are gone (RESUME-37).
    pub(crate) fn is_full(&self) -> bool {
        self.is_beyond(1, 0)
    }

    /// Whether so many bytes more would be this part of what may be held: as many bytes as the session
    /// may, as far as there is memory. A little is always allowed, so that it goes on however slowly.
    fn is_beyond(&self, part: usize, more: usize) -> bool {
        self.held_bytes() + more >= self.max_bytes / part
            || self.memory() + more >= self.allowance.max(LEAST_ALLOWED) / part
    }

    /// Whether what a [`SendBuf`] takes may be kept without asking again: everything is written, and there
    /// is room.
    #[inline]
    pub(crate) fn is_clear(&self) -> bool {
        self.unwritten.is_none() && self.outlook.has_room
    }

    /// Whether not even half of what may be held is, as far as that is seen at a glance.
    #[inline]
    pub(crate) fn is_low(&self) -> bool {
        self.outlook.is_low
    }

    /// Looks ahead as far as the end of the open block.
    fn look_ahead(&mut self) {
        let rest = self.open.bytes.capacity() - self.open.bytes.len() + SHARED_UNSEEN;
        self.outlook = Outlook {
            has_room: !self.is_beyond(1, rest + SendBuf::HIGH_WATER),
            is_low: !self.is_beyond(2, rest),
        };
        self.unseen_bytes = 0;
    }

    /// Sets how much memory there is for it; what is held beyond that stays.
    pub(crate) fn allow(&mut self, bytes: usize) {
        if self.allowance != bytes {
            self.allowance = bytes;
            self.look_ahead();
        }
    }

    /// Enough is held that the peer should be asked what it has.
    pub(crate) fn is_half_full(&self) -> bool {
        self.is_beyond(2, 0)
    }

    /// Bytes held, the length in front of each frame included.
    #[inline]
    pub(crate) fn held_bytes(&self) -> usize {
        self.full_bytes + self.open.bytes.len() - self.first.offset + self.shared_bytes
    }

    /// The memory all of it takes: that of whole blocks, and with the room that queues have to grow.
    #[inline]
    pub(crate) fn memory(&self) -> usize {
        self.block_memory
            + self.full.capacity() * size_of::<Block>()
            + self.fire_and_forgets.capacity() * size_of::<u64>()
            + self.shared.capacity() * size_of::<SharedBody>()
            + self.shared_bytes
    }

    /// Notes that what was kept last is the end of a fire-and-forget.
    pub(crate) fn end_fire_and_forget(&mut self) {
        self.fire_and_forgets.push_back(self.sent);
    }

    /// Fire-and-forgets that the peer has not acknowledged.
    pub(crate) fn fire_and_forgets(&self) -> usize {
        self.fire_and_forgets.len()
    }

    /// Whether a peer can have got as far as this position, and everything from there on can be sent
    /// again: it is the start of a frame here, or the end of the last that a transport was given. Any
    /// transport: the present one may have been asked for by a RESUME that came late, and begun from an
    /// older position.
    pub(crate) fn is_available(&self, position: u64) -> bool {
        position <= self.given() && self.find(position).is_some()
    }

    /// The block of this number.
    fn block(&self, number: usize) -> &Block {
        self.full.get(number).unwrap_or(&self.open)
    }

    /// Behind the last frame.
    fn end(&self) -> Place {
        Place { at: self.sent, block: self.full.len(), offset: self.open.bytes.len() }
    }

    /// The frame that begins at this position, or the end.
    fn find(&self, position: u64) -> Option<Place> {
        if position == self.sent {
            return Some(self.end());
        }
        if position < self.first.at || position > self.sent {
            return None;
        }
        let begun = self.full.partition_point(|block| block.at <= position);
        let is_open = begun == self.full.len() && self.open.at <= position;
        let block = if is_open { begun } else { begun.checked_sub(1)? };
        let mut place = if block == self.first.block {
            self.first
        } else {
            Place { at: self.block(block).at, block, offset: 0 }
        };
        let bytes = &self.block(block).bytes;
        while place.at < position {
            let frame = frame_at(bytes, place.offset)?;
            place.at += frame.len as u64;
            place.offset += PREFIX_LEN + frame.inline.len();
        }
        (place.at == position).then_some(place)
    }

    /// The frame behind this one, or the end.
    fn next(&self, place: Place) -> Place {
        let bytes = &self.block(place.block).bytes;
        let Some(frame) = frame_at(bytes, place.offset) else { return self.end() };
        let at = place.at + frame.len as u64;
        let offset = place.offset + PREFIX_LEN + frame.inline.len();
        if offset < bytes.len() || place.block == self.full.len() {
            Place { at, block: place.block, offset }
        } else {
            Place { at, block: place.block + 1, offset: 0 }
        }
    }

    /// The peer has everything before this position. True if that freed something; a position
    /// that cannot be is ignored (RESUME-34, RESUME-35).
    pub(crate) fn acknowledge(&mut self, position: u64) -> bool {
        // What the transport was not given cannot have arrived.
        if position <= self.first.at || position > self.written() {
            return false;
        }
        let Some(place) = self.find(position) else { return false };
        self.drop_before(place);
        true
    }

    /// Gives up the oldest frames that were written, until there is room for more; how many.
    pub(crate) fn overflow(&mut self) -> u64 {
        let mut dropped = 0;
        while self.is_full() && self.first.at < self.written() {
            self.drop_before(self.next(self.first));
            dropped += 1;
        }
        dropped
    }

    /// Drops the frames before this place.
    fn drop_before(&mut self, place: Place) {
        if place.at == self.sent {
            // Gives memory back after a burst.
            *self = Self {
                first: Place { at: self.sent, ..Place::default() },
                sent: self.sent,
                given_before: self.given_before,
                allowance: self.allowance,
                ..Self::new(self.max_bytes)
            };
            self.look_ahead();
            return;
        }
        for block in self.full.drain(..place.block) {
            self.full_bytes -= block.bytes.len();
            self.block_memory -= allocated(block.bytes.capacity());
        }
        self.first = Place { block: 0, ..place };
        if let Some(unwritten) = &mut self.unwritten {
            unwritten.block -= place.block;
        }
        while self.fire_and_forgets.front().is_some_and(|end| *end <= place.at) {
            self.fire_and_forgets.pop_front();
        }
        while let Some(first) = self.shared.front().filter(|first| first.at < place.at) {
            self.shared_bytes -= first.body.len();
            self.shared.pop_front();
        }
        shrink(&mut self.full);
        shrink(&mut self.fire_and_forgets);
        shrink(&mut self.shared);
        self.look_ahead();
    }

    /// Gives up at most so many of the oldest blocks, of a session that is over; how many.
    pub(crate) fn free_some(&mut self, max: usize) -> usize {
        // Nothing is written any more.
        self.unwritten = None;
        let blocks = self.full.len() + usize::from(!self.open.bytes.is_empty());
        let freed = max.min(blocks);
        if freed == 0 {
            return 0;
        }
        let next = self.full.get(freed).unwrap_or(&self.open);
        let place = Place { at: next.at, block: freed, offset: 0 };
        self.drop_before(if freed < blocks { place } else { self.end() });
        freed
    }

    /// A new transport has been given nothing yet, and its peer has all before this position, which
    /// is available.
    pub(crate) fn rewind(&mut self, position: u64) {
        self.given_before = self.given();
        if let Some(place) = self.find(position) {
            self.unwritten = None;
            self.drop_before(place);
            self.unwritten = (self.first.at < self.sent).then_some(self.first);
        }
    }

    /// The position up to which the present transport was given frames.
    fn written(&self) -> u64 {
        self.unwritten.map_or(self.sent, |place| place.at)
    }

    /// The position up to which any transport was given frames: nobody can have those behind it.
    pub(crate) fn given(&self) -> u64 {
        self.given_before.max(self.written())
    }

    /// Whether there are frames that the present transport has not been given.
    #[inline]
    pub(crate) fn has_unwritten(&self) -> bool {
        self.unwritten.is_some()
    }

    /// Gives the transport the next such frame again, byte for byte (RESUME-13).
    pub(crate) fn write_next(&mut self, out: &mut SendBuf) {
        let Some(place) = self.unwritten else { return };
        if let Some(frame) = frame_at(&self.block(place.block).bytes, place.offset) {
            out.begin(frame.len);
            match frame.inline {
                [first, rest @ ..] if frame.is_shared => {
                    out.fields(&[first & !SHARED_BIT]);
                    out.fields(rest);
                    if let Ok(index) = self.shared.binary_search_by_key(&place.at, |it| it.at) {
                        out.body(&self.shared[index].body);
                    }
                }
                inline => out.fields(inline),
            }
            out.end();
        }
        self.unwritten = Some(self.next(place)).filter(|next| next.at < self.sent);
    }

    /// Adds a frame that the present transport is not given, as there is none.
    pub(crate) fn keep(&mut self, head: &[u8], metadata: Option<&Bytes>, data: &Bytes) {
        let len = frame_len(head.len(), metadata, data);
        self.make_room_for(len);
        let place = self.end();
        self.unwritten.get_or_insert(place);
        self.add(len, |bytes| write_parts(bytes, head, metadata, data));
    }

    /// Adds a frame of which others are sent the body as well, and which the present transport is given.
    pub(crate) fn keep_shared<const N: usize>(&mut self, head: &[u8; N], body: &Bytes) {
        if body.len() < SHARED_FROM {
            return self.keep_parts(head, None, body);
        }
        self.make_room_for(head.len());
        let len = head.len() + body.len();
        self.shared.push_back(SharedBody { at: self.sent, body: body.clone() });
        let bytes = &mut self.open.bytes;
        bytes.extend_from_slice(&u24_bytes(len));
        let start = bytes.len();
        bytes.extend_from_slice(head);
        bytes[start] |= SHARED_BIT;
        self.sent += len as u64;
        self.shared_bytes += body.len();
        self.unseen_bytes += body.len();
        if self.unseen_bytes >= SHARED_UNSEEN {
            self.look_ahead();
        }
    }

    #[inline]
    fn make_room_for(&mut self, len: usize) {
        if self.open.bytes.capacity() - self.open.bytes.len() < PREFIX_LEN + len {
            self.begin_block(PREFIX_LEN + len);
        }
    }

    /// Writes a frame behind the last, where there is room for it.
    #[inline]
    fn add(&mut self, len: usize, write: impl FnOnce(&mut Vec<u8>)) {
        self.open.bytes.extend_from_slice(&u24_bytes(len));
        write(&mut self.open.bytes);
        self.sent += len as u64;
    }

    /// Begins a block that has room for so many bytes.
    #[cold]
    fn begin_block(&mut self, len: usize) {
        let usual = self.held_bytes().next_power_of_two().clamp(FIRST_BLOCK_BYTES, BLOCK_BYTES);
        let mut full = mem::take(&mut self.open);
        if !full.bytes.is_empty() {
            let before = full.bytes.capacity();
            if before - full.bytes.len() > before / 8 {
                full.bytes.shrink_to_fit();
                self.block_memory -= allocated(before) - allocated(full.bytes.capacity());
            }
            self.full_bytes += full.bytes.len();
            self.full.push_back(full);
        }
        let capacity = if len < LONG_FRAME { usual.max(len) } else { len };
        self.open = Block { at: self.sent, bytes: Vec::with_capacity(capacity) };
        self.block_memory += allocated(self.open.bytes.capacity());
        self.look_ahead();
    }
}

/// Frames that the present transport is given as well.
impl Keeper for Retained {
    #[inline]
    fn keep_flat(&mut self, frame: &[u8]) {
        self.make_room_for(frame.len());
        self.add(frame.len(), |bytes| bytes.extend_from_slice(frame));
    }

    #[inline]
    fn keep_prefixed(&mut self, prefixed: &[u8]) {
        let len = prefixed.len();
        if self.open.bytes.capacity() - self.open.bytes.len() < len {
            self.begin_block(len);
        }
        self.open.bytes.extend_from_slice(prefixed);
        self.sent += (len - PREFIX_LEN) as u64;
    }

    fn keep_parts(&mut self, head: &[u8], metadata: Option<&Bytes>, data: &Bytes) {
        let len = frame_len(head.len(), metadata, data);
        self.make_room_for(len);
        self.add(len, |bytes| write_parts(bytes, head, metadata, data));
    }
}

/// A frame as it is kept.
struct KeptFrame<'a> {
    len: usize,
    /// All of it, or the header alone.
    inline: &'a [u8],
    is_shared: bool,
}

/// The frame whose length is at this offset of a block; `None` at its end.
fn frame_at(block: &[u8], offset: usize) -> Option<KeptFrame<'_>> {
    let [a, b, c, rest @ ..] = block.get(offset..)? else { return None };
    let len = u32::from_be_bytes([0, *a, *b, *c]) as usize;
    let is_shared = rest.first().is_some_and(|first| first & SHARED_BIT != 0);
    let inline = rest.get(..if is_shared { HEADER_LEN } else { len })?;
    Some(KeptFrame { len, inline, is_shared })
}

/// The bytes that an allocator takes for so many at most: four sizes a doubling are the fewest that
/// those in use have.
fn allocated(bytes: usize) -> usize {
    bytes.next_multiple_of((bytes.next_power_of_two() / 8).max(16))
}

/// Gives places back where most are not needed any more.
fn shrink<T>(queue: &mut VecDeque<T>) {
    if queue.capacity() > FEW_PLACES.max(4 * queue.len()) {
        queue.shrink_to(FEW_PLACES.max(2 * queue.len()));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf;

    use super::*;
    use crate::{frame::Sink, transmit::send_buf::CHAIN_THRESHOLD};

    fn keep(
        retained: &mut Retained,
        transport: Option<&mut SendBuf>,
        frame: &[u8; 6],
        body: &Bytes,
    ) {
        match transport {
            Some(transport) => transport.frame_kept(frame, None, body, retained),
            None => retained.keep(frame, None, body),
        }
    }

    fn bytes_of(mut out: SendBuf) -> Bytes {
        let len = out.len();
        out.copy_to_bytes(len)
    }

    #[test]
    fn what_was_written_is_written_again_byte_for_byte() {
        let mut retained = Retained::new(1 << 20);
        let mut first = SendBuf::length_prefixed();
        for len in [0, 1, 100, CHAIN_THRESHOLD - 1, CHAIN_THRESHOLD, 3 * CHAIN_THRESHOLD] {
            let body = Bytes::from(vec![len as u8; len]);
            keep(&mut retained, Some(&mut first), b"header", &body);
        }
        assert!(!retained.has_unwritten());
        retained.rewind(0);
        let mut again = SendBuf::length_prefixed();
        while retained.has_unwritten() {
            retained.write_next(&mut again);
        }
        assert_eq!(bytes_of(again), bytes_of(first));
    }

    #[test]
    fn what_is_kept_holds_nothing_but_itself() {
        let mut retained = Retained::new(1 << 20);
        let block = Bytes::from(vec![1; 1 << 20]);
        for len in [1, CHAIN_THRESHOLD, 100_000] {
            keep(&mut retained, None, b"header", &block.slice(..len));
        }
        assert!(block.is_unique());
    }

    /// The memory of the blocks, counted one by one.
    fn memory_of_blocks(retained: &Retained) -> usize {
        let blocks = retained.full.iter().chain([&retained.open]);
        blocks.map(|block| allocated(block.bytes.capacity())).sum()
    }

    /// The positions of all frames.
    fn positions(retained: &Retained) -> Vec<u64> {
        let mut place = retained.first;
        let mut positions = Vec::new();
        while place.at < retained.sent {
            positions.push(place.at);
            place = retained.next(place);
        }
        positions
    }

    #[test]
    fn memory_is_counted_as_it_is_held() {
        let mut retained = Retained::new(1 << 20);
        // A single small frame takes a small block.
        keep(&mut retained, None, b"header", &Bytes::from_static(b"x"));
        assert_eq!(retained.block_memory, FIRST_BLOCK_BYTES);
        assert!(retained.memory() < 2 * FIRST_BLOCK_BYTES);
        let mut out = SendBuf::bare();
        retained.rewind(0);
        retained.write_next(&mut out);
        for round in 0..6 {
            for len in [1, 900, 20, 16 << 10, 1_018, 1_017, 5_000, 300] {
                for _ in 0..20 {
                    let body = Bytes::from(vec![1; len]);
                    keep(&mut retained, Some(&mut out), b"header", &body);
                }
            }
            assert_eq!(retained.block_memory, memory_of_blocks(&retained), "{round}");
            assert!(retained.memory() >= retained.held_bytes());
            assert!(retained.memory() < retained.held_bytes() * 4 / 3 + 2 * BLOCK_BYTES);
            // Some of it stays.
            let at = positions(&retained);
            assert!(retained.acknowledge(at[at.len() - 7 * round - 1]));
            assert_eq!(retained.block_memory, memory_of_blocks(&retained), "{round}");
            let (memory, held) = (retained.memory(), retained.held_bytes());
            assert!(memory < 2 * held + 3 * BLOCK_BYTES, "{memory} for {held}");
        }
        let end = retained.sent();
        assert!(retained.acknowledge(end));
        assert_eq!((retained.memory(), retained.held_bytes()), (0, 0));
    }

    #[test]
    fn what_others_are_sent_as_well_is_kept_by_reference() {
        let mut retained = Retained::new(1 << 20);
        let mut first = SendBuf::length_prefixed();
        let bodies = [10, SHARED_FROM, 300, CHAIN_THRESHOLD, 100].map(|len| vec![7; len]);
        let bodies = bodies.map(Bytes::from);
        for body in bodies.iter().cycle().take(20) {
            first.shared_frame(b"header", body);
            retained.keep_shared(b"header", body);
            keep(&mut retained, Some(&mut first), b"others", &Bytes::from_static(b"own"));
        }
        let held: usize = bodies.iter().map(|body| 4 * (PREFIX_LEN + 6 + body.len())).sum();
        assert_eq!(retained.held_bytes(), held + 20 * (PREFIX_LEN + 9));
        assert!(retained.memory() >= retained.held_bytes());
        let shared = bodies.each_ref().map(|body| !body.is_unique());
        assert_eq!(shared, [false, true, true, true, false]);
        let sent = bytes_of(first);
        retained.rewind(0);
        let mut again = SendBuf::length_prefixed();
        while retained.has_unwritten() {
            retained.write_next(&mut again);
        }
        assert_eq!(bytes_of(again), sent);
        // Each goes with its acknowledgement, wherever that is.
        let mut held = retained.held_bytes();
        for position in positions(&retained).into_iter().skip(1) {
            assert!(retained.acknowledge(position));
            assert!(retained.held_bytes() < held);
            held = retained.held_bytes();
        }
        let end = retained.sent();
        assert!(retained.acknowledge(end));
        drop(sent);
        assert!(bodies.iter().all(Bytes::is_unique));
        assert_eq!((retained.memory(), retained.held_bytes()), (0, 0));
    }

    #[test]
    fn room_for_what_is_shared_is_looked_at_before_it_is_gone() {
        let mut retained = Retained::new(200_000);
        let body = Bytes::from(vec![7; 1_000]);
        while retained.is_clear() {
            retained.keep_shared(b"header", &body);
        }
        let most = 200_000 - SendBuf::HIGH_WATER;
        assert!((most / 2..most).contains(&retained.held_bytes()), "{}", retained.held_bytes());
    }

    #[test]
    fn sizes_are_counted_as_allocators_round_them_up() {
        for (bytes, taken) in
            [(1, 16), (1_024, 1_024), (1_025, 1_280), (16_384, 16_384), (16_394, 20_480)]
        {
            assert_eq!(allocated(bytes), taken, "{bytes}");
        }
    }

    #[test]
    fn little_memory_is_little_however_small_the_frames() {
        let mut retained = Retained::new(1 << 20);
        retained.allow(0);
        while !retained.is_full() {
            keep(&mut retained, None, b"header", &Bytes::new());
        }
        assert!(retained.memory() < 2 * LEAST_ALLOWED, "{}", retained.memory());
        assert!(positions(&retained).len() > 20, "{}", positions(&retained).len());
    }

    #[test]
    fn resume_34_35_36_only_whole_frames_that_were_written_can_be_acknowledged() {
        let mut retained = Retained::new(1 << 20);
        let mut out = SendBuf::bare();
        for _ in 0..3 {
            keep(&mut retained, Some(&mut out), b"header", &Bytes::from_static(b"xx"));
        }
        keep(&mut retained, None, b"header", &Bytes::from_static(b"xx"));
        for position in [0, 3, 9, 32, 33, u64::MAX] {
            assert!(!retained.acknowledge(position), "{position}");
            assert_eq!(retained.first(), 0);
        }
        assert!(retained.acknowledge(16));
        assert_eq!((retained.first(), retained.sent(), retained.has_unwritten()), (16, 32, true));
        assert!(!retained.acknowledge(8), "one that is below the last");
        let available: Vec<_> = (0..40).filter(|at| retained.is_available(*at)).collect();
        assert_eq!(available, [16, 24], "no transport was given the last");
    }

    /// A RESUME that came late has begun from an older position, on a transport that nobody reads.
    #[test]
    fn a_peer_may_have_what_any_transport_was_given() {
        let mut retained = Retained::new(1 << 20);
        let mut out = SendBuf::bare();
        for _ in 0..3 {
            keep(&mut retained, Some(&mut out), b"header", &Bytes::from_static(b"xx"));
        }
        keep(&mut retained, None, b"header", &Bytes::from_static(b"xx"));
        for written_again in 0..3 {
            retained.rewind(0);
            for _ in 0..written_again {
                retained.write_next(&mut SendBuf::bare());
            }
            let available: Vec<_> = (0..40).filter(|at| retained.is_available(*at)).collect();
            assert_eq!(available, [0, 8, 16, 24], "{written_again}");
        }
        retained.rewind(24);
        assert_eq!((retained.first(), retained.has_unwritten()), (24, true));
    }

    #[test]
    fn resume_37_it_is_bounded_in_bytes_whatever_the_frames() {
        let mut retained = Retained::new(10_000);
        let mut out = SendBuf::bare();
        while !retained.is_full() {
            keep(&mut retained, Some(&mut out), b"header", &Bytes::new());
        }
        assert!(retained.held_bytes() < 10_000 + 6 + PREFIX_LEN + 1);
        assert_eq!(retained.overflow(), 1);
        assert!(!retained.is_full() && retained.first() > 0);
        assert_eq!(retained.overflow(), 0);
        let end = retained.sent();
        assert!(retained.acknowledge(end));
        assert_eq!((retained.held_bytes(), retained.first()), (0, end));
    }
}
