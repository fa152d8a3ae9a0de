//! Bytes on their way to the socket.

use std::{collections::VecDeque, fmt, io::IoSlice};

use bytes::{Buf, Bytes, BytesMut};

use crate::{
    frame::{PREFIX_LEN, Parts, Sink, frame_len, u24_bytes, write_parts},
    transmit::retained::Retained,
};

/// Bodies shorter than this are copied beside their header; longer ones are kept by reference.
///
/// Measured with the benchmark at 1 KiB: a copy is 7 to 31 % faster than another slice in the
/// `writev`, which costs two more reference counts and an entry of the vector.
pub(super) const CHAIN_THRESHOLD: usize = 4096;

/// Bodies from this length on are large parts of what they were read with.
const DETACH_BELOW: usize = 64 << 10;

/// The bytes of an envelope at most, to have room for it: one that takes more has it grow once
/// more.
const ENVELOPE_LEN: usize = 14;

/// The bytes around a frame on a transport other than a plain byte stream.
pub trait Envelope: Send {
    /// Writes what precedes a frame of `len` bytes.
    fn open(&mut self, len: usize, out: &mut BytesMut);
    /// Whether `seal` rewrites the frame's bytes, which then are copied to lie in one piece. Asked
    /// once.
    fn rewrites(&self) -> bool;
    /// The frame's own bytes, before they leave.
    fn seal(&mut self, frame: &mut [u8]);
}

enum Framing {
    /// Frames follow each other without anything between.
    None,
    /// A u24 length before every frame (TCP-01).
    LengthPrefixed,
    Enveloped {
        envelope: Box<dyn Envelope>,
        /// As the envelope says, once and for all.
        rewrites: bool,
    },
}

/// Encoded frames in the order they leave: slices of payloads, and a flat tail of everything small.
///
/// Its bound is the high water of whoever fills it, plus one frame. It implements [`Buf`], so that
/// one `writev` drains many frames.
pub struct SendBuf {
    framing: Framing,
    chained: VecDeque<Bytes>,
    chained_bytes: usize,
    /// How many of `chained`, from the first on, have memory of their own or need none.
    detached: usize,
    /// How long the first of `chained` was, where a part of it is written.
    begun: usize,
    tail: BytesMut,
    /// The start in `tail` of the frame being written, for envelopes that rewrite it.
    frame_start: usize,
    high_water: usize,
    /// Bytes that were taken of it.
    taken: u64,
    tap: Option<Tap>,
}

/// Sees a copy of every frame written.
struct Tap {
    see: Box<dyn FnMut(Bytes) + Send>,
    frame: BytesMut,
}

impl SendBuf {
    /// The default high water, in bytes.
    pub const HIGH_WATER: usize = 64 << 10;

    /// A buffer for a byte stream: each frame gets its u24 length.
    pub fn length_prefixed() -> Self {
        Self::new(Framing::LengthPrefixed)
    }

    /// A buffer for a transport with its own envelope around each frame.
    pub fn enveloped(envelope: Box<dyn Envelope>) -> Self {
        let rewrites = envelope.rewrites();
        Self::new(Framing::Enveloped { envelope, rewrites })
    }

    /// A buffer of bare frames, as the specification prints them.
    pub fn bare() -> Self {
        Self::new(Framing::None)
    }

    fn new(framing: Framing) -> Self {
        Self {
            framing,
            chained: VecDeque::new(),
            chained_bytes: 0,
            detached: 0,
            begun: 0,
            tail: BytesMut::new(),
            frame_start: 0,
            high_water: Self::HIGH_WATER,
            taken: 0,
            tap: None,
        }
    }

    /// Shows a copy of every frame to `see`, without its envelope: for logs and tools.
    pub fn set_tap(&mut self, see: impl FnMut(Bytes) + Send + 'static) {
        self.tap = Some(Tap { see: Box::new(see), frame: BytesMut::new() });
    }

    /// Sets with how many bytes it counts as full, [`HIGH_WATER`](Self::HIGH_WATER) otherwise. What it
    /// holds can exceed that by one frame.
    pub fn set_high_water(&mut self, bytes: usize) {
        self.high_water = bytes;
    }

    /// Bytes waiting.
    pub fn len(&self) -> usize {
        self.chained_bytes + self.tail.len()
    }

    /// Bytes that the transport has taken of it.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Bytes written to it, those that were taken included: what is written next begins there.
    #[inline]
    pub(crate) fn position(&self) -> u64 {
        self.taken + self.len() as u64
    }

    /// Drops what waits. Nothing of what is written from here on is for a transport, and
    /// [`taken`](Self::taken) stays as it is.
    pub fn discard(&mut self) {
        *self = Self { taken: self.taken, ..Self::bare() };
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether producers should wait: the socket does not keep up.
    pub fn is_full(&self) -> bool {
        self.len() >= self.high_water
    }

    /// Bytes of the transport's own, such as a WebSocket pong: sent as they are, between frames.
    pub fn put_raw(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
    }

    /// Gives bodies that are short against what they may be slices of memory of their own: call when
    /// what waits will wait for a while.
    pub fn detach(&mut self) {
        // Of one that was long, the rest is copied when it is short against that.
        if self.begun >= DETACH_BELOW
            && let Some(first) = self.chained.front_mut()
        {
            if first.len() < self.begun / 4 {
                *first = Bytes::copy_from_slice(first);
                self.begun = first.len();
            }
            self.detached = self.detached.max(1);
        }
        for body in self.chained.iter_mut().skip(self.detached) {
            if body.len() < DETACH_BELOW {
                *body = Bytes::copy_from_slice(body);
            }
        }
        self.detached = self.chained.len();
    }

    /// Gives away the memory it was written to, where nothing waits; call when the connection has
    /// nothing to do. `kept` is what there is of others' already: the larger one stays, unless it is
    /// of more than `max` bytes.
    #[inline]
    pub fn lend(&mut self, kept: &mut BytesMut, max: usize) {
        if !self.is_empty() {
            return;
        }
        if self.chained.capacity() > 0 {
            self.release_chain();
        }
        let capacity = self.tail.capacity();
        if capacity > kept.capacity() && capacity <= max {
            std::mem::swap(&mut self.tail, kept);
        }
        if self.tail.capacity() > 0 {
            self.release_tail();
        }
    }

    #[cold]
    fn release_chain(&mut self) {
        self.chained = VecDeque::new();
    }

    #[cold]
    fn release_tail(&mut self) {
        self.tail = BytesMut::new();
    }

    /// Whether it has no memory to write to.
    #[inline]
    pub fn is_released(&self) -> bool {
        self.tail.capacity() == 0
    }

    /// Takes memory to write to, if it has none: what another has released.
    #[inline]
    pub fn reuse(&mut self, memory: &mut BytesMut) {
        if self.is_released() && memory.is_empty() {
            std::mem::swap(&mut self.tail, memory);
        }
    }

    /// A frame of `len` bytes follows; its parts add up to that.
    pub(super) fn begin(&mut self, len: usize) {
        match &mut self.framing {
            Framing::None => {}
            Framing::LengthPrefixed => self.tail.extend_from_slice(&u24_bytes(len)),
            Framing::Enveloped { envelope, .. } => envelope.open(len, &mut self.tail),
        }
        self.frame_start = self.tail.len();
    }

    /// The frame is whole.
    pub(super) fn end(&mut self) {
        if let Framing::Enveloped { envelope, rewrites: true } = &mut self.framing {
            envelope.seal(&mut self.tail[self.frame_start..]);
        }
        if let Some(tap) = &mut self.tap {
            (tap.see)(tap.frame.split().freeze());
        }
    }

    fn chain(&mut self, body: Bytes) {
        if !self.tail.is_empty() {
            let flat = self.tail.split().freeze();
            self.chained_bytes += flat.len();
            self.chained.push_back(flat);
        }
        self.chained_bytes += body.len();
        self.chained.push_back(body);
    }
}

/// A frame in parts: those that are long are kept by reference, and a tap sees all of them.
impl Parts for SendBuf {
    fn fields(&mut self, fields: &[u8]) {
        if let Some(tap) = &mut self.tap {
            tap.frame.extend_from_slice(fields);
        }
        self.tail.extend_from_slice(fields);
    }

    fn body(&mut self, body: &Bytes) {
        if let Some(tap) = &mut self.tap {
            tap.frame.extend_from_slice(body);
        }
        let flat = match &self.framing {
            Framing::Enveloped { rewrites: true, .. } => true,
            _ => body.len() < CHAIN_THRESHOLD,
        };
        if flat {
            self.tail.extend_from_slice(body);
        } else {
            self.chain(body.clone());
        }
    }
}

/// A keeper of frames that are written: it is shown each of them once, in one of these ways.
pub(super) trait Keeper {
    fn keep_flat(&mut self, frame: &[u8]);
    /// Behind its length of [`PREFIX_LEN`] bytes.
    fn keep_prefixed(&mut self, prefixed: &[u8]);
    fn keep_parts(&mut self, head: &[u8], metadata: Option<&Bytes>, data: &Bytes);
}

/// Keeps nothing.
struct NoKeeper;

impl Keeper for NoKeeper {
    #[inline(always)]
    fn keep_flat(&mut self, _: &[u8]) {}

    #[inline(always)]
    fn keep_prefixed(&mut self, _: &[u8]) {}

    #[inline(always)]
    fn keep_parts(&mut self, _: &[u8], _: Option<&Bytes>, _: &Bytes) {}
}

impl Sink for SendBuf {
    #[inline]
    fn frame<const N: usize>(&mut self, head: &[u8; N], metadata: Option<Bytes>, data: Bytes) {
        self.frame_for(head, metadata.as_ref(), &data, &mut NoKeeper);
    }

    #[inline]
    fn shared_frame<const N: usize>(&mut self, head: &[u8; N], body: &Bytes) {
        self.frame_for(head, None, body, &mut NoKeeper);
    }
}

impl SendBuf {
    /// Writes a frame of a session, which keeps a copy.
    #[inline]
    pub(crate) fn frame_kept<const N: usize>(
        &mut self,
        head: &[u8; N],
        metadata: Option<&Bytes>,
        data: &Bytes,
        retained: &mut Retained,
    ) {
        self.frame_for(head, metadata, data, retained);
    }

    #[inline(always)]
    fn frame_for<const N: usize>(
        &mut self,
        head: &[u8; N],
        metadata: Option<&Bytes>,
        data: &Bytes,
        keeper: &mut impl Keeper,
    ) {
        let len = frame_len(head.len(), metadata, data);
        if len >= CHAIN_THRESHOLD || self.tap.is_some() {
            keeper.keep_parts(head, metadata, data);
            self.begin(len);
            write_parts(self, head, metadata, data);
            return self.end();
        }
        // What nearly all frames are, in one piece.
        let tail = &mut self.tail;
        match &mut self.framing {
            Framing::LengthPrefixed => {
                let start = tail.len();
                tail.reserve(PREFIX_LEN + len);
                tail.extend_from_slice(&u24_bytes(len));
                write_parts(tail, head, metadata, data);
                keeper.keep_prefixed(&tail[start..]);
            }
            Framing::Enveloped { envelope, rewrites } => {
                tail.reserve(ENVELOPE_LEN + len);
                envelope.open(len, tail);
                let start = tail.len();
                write_parts(tail, head, metadata, data);
                keeper.keep_flat(&tail[start..]);
                if *rewrites {
                    envelope.seal(&mut tail[start..]);
                }
            }
            Framing::None => {
                let start = tail.len();
                write_parts(tail, head, metadata, data);
                keeper.keep_flat(&tail[start..]);
            }
        }
    }
}

impl Buf for SendBuf {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        self.chained.front().map_or(&self.tail, |first| first)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        let flat = (!self.tail.is_empty()).then_some(&self.tail[..]);
        let chunks = self.chained.iter().map(|chunk| &chunk[..]).chain(flat);
        for (slice, chunk) in slices.iter_mut().zip(chunks) {
            *slice = IoSlice::new(chunk);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        self.taken += count as u64;
        while let Some(first) = self.chained.front_mut() {
            if count < first.len() {
                self.begun = self.begun.max(first.len());
                first.advance(count);
                self.chained_bytes -= count;
                return;
            }
            count -= first.len();
            self.chained_bytes -= first.len();
            self.detached = self.detached.saturating_sub(1);
            self.begun = 0;
            self.chained.pop_front();
        }
        self.tail.advance(count);
        if self.tail.is_empty() {
            // Reclaims the space in front, so that the tail is written from its start again: what is written
            // up to its end would be moved there. Where there is none nothing is to be gained.
            let _ = self.tail.try_reclaim(self.tail.capacity() + 1);
        }
    }
}

impl fmt::Debug for SendBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendBuf").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(buf: &mut SendBuf, head: &[u8; 6], body: &Bytes) {
        buf.frame(head, None, body.clone());
    }

    fn drain(buf: &mut SendBuf, step: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while buf.has_remaining() {
            let take = step.min(buf.chunk().len());
            out.extend_from_slice(&buf.chunk()[..take]);
            buf.advance(take);
        }
        out
    }

    #[test]
    fn frames_leave_in_order_whatever_their_size() {
        let small = Bytes::from_static(b"small");
        let large = Bytes::from(vec![7u8; CHAIN_THRESHOLD]);
        for step in [1, 3, 100, 10_000] {
            let mut buf = SendBuf::length_prefixed();
            let mut expected = Vec::new();
            for (head, body) in [(b"aaaaaa", &small), (b"bbbbbb", &large), (b"cccccc", &small)] {
                write(&mut buf, head, body);
                expected.extend(u24_bytes(head.len() + body.len()));
                expected.extend_from_slice(head);
                expected.extend_from_slice(body);
            }
            assert_eq!(buf.len(), expected.len());
            assert_eq!(drain(&mut buf, step), expected);
            assert!(buf.is_empty());
        }
    }

    /// What is written next would otherwise go on behind it, and be moved when there is no room.
    #[test]
    fn what_was_taken_leaves_its_space() {
        let mut buf = SendBuf::length_prefixed();
        let body = Bytes::from(vec![7; 1_000]);
        (0..16).for_each(|_| write(&mut buf, b"aaaaaa", &body));
        let (begin, capacity) = (buf.chunk().as_ptr(), buf.tail.capacity());
        drain(&mut buf, 1 << 20);
        for _ in 0..100 {
            write(&mut buf, b"aaaaaa", &body);
            assert_eq!((buf.chunk().as_ptr(), buf.tail.capacity()), (begin, capacity));
            drain(&mut buf, 700);
        }
    }

    #[test]
    fn large_bodies_are_not_copied() {
        let large = Bytes::from(vec![7u8; CHAIN_THRESHOLD]);
        let mut buf = SendBuf::length_prefixed();
        write(&mut buf, b"aaaaaa", &large);
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(buf.chunks_vectored(&mut slices), 2);
        assert_eq!(slices[1].as_ptr(), large.as_ptr());
    }

    #[test]
    fn an_envelope_sees_each_frame_whole() {
        struct Xor;
        impl Envelope for Xor {
            fn open(&mut self, len: usize, out: &mut BytesMut) {
                out.extend_from_slice(&[len as u8]);
            }
            fn rewrites(&self) -> bool {
                true
            }
            fn seal(&mut self, frame: &mut [u8]) {
                frame.iter_mut().for_each(|byte| *byte ^= 0xFF);
            }
        }
        let mut buf = SendBuf::enveloped(Box::new(Xor));
        write(&mut buf, &[0; 6], &Bytes::from_static(&[1, 2]));
        buf.put_raw(b"raw");
        write(&mut buf, &[0; 6], &Bytes::new());
        let expected = [&[8][..], &[255; 6], &[254, 253], b"raw", &[6], &[255; 6]].concat();
        assert_eq!(drain(&mut buf, 2), expected);
    }
}
