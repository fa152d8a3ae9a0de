//! The parts that the two yardsticks, [`raw`](crate::raw) and [`mux`](crate::mux), share:
//! length-prefixed frames out of a read buffer, and a write buffer the socket empties.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncReadExt, AsyncWrite},
    net::TcpStream,
};

use crate::Result;

/// The length in front of each frame, a u24, big-endian.
pub(crate) const PREFIX: usize = 3;

/// How much one read may bring, and how much of a stream is put together before it is written.
pub(crate) const BURST: usize = 64 * 1024;

/// Appends the length of what follows in the frame.
pub(crate) fn put_len(output: &mut Vec<u8>, len: usize) {
    debug_assert!(len < 1 << 24, "a u24 is the length of a frame");
    output.extend_from_slice(&(len as u32).to_be_bytes()[1..]);
}

/// The length a frame begins with, once that much of it is there.
pub(crate) fn frame_len(unread: &[u8]) -> Option<usize> {
    let &[high, middle, low] = unread.first_chunk::<PREFIX>()?;
    Some(u32::from_be_bytes([0, high, middle, low]) as usize)
}

/// The bytes that have been read: `bytes[taken..filled]` is still to be taken.
pub(crate) struct Input {
    bytes: Vec<u8>,
    taken: usize,
    filled: usize,
}

impl Input {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; BURST], taken: 0, filled: 0 }
    }

    /// Reads once, as much as there is and fits.
    pub(crate) fn poll_read(
        &mut self,
        socket: &mut TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<()>> {
        let brought = ready!(pin!(socket.read(self.space())).poll(cx))?;
        if brought == 0 {
            return Poll::Ready(Err("the other side hung up".into()));
        }
        self.filled += brought;
        Poll::Ready(Ok(()))
    }

    /// The place for the next read; the part of a frame left over moves to the front first, and
    /// room is made for a frame larger than a burst.
    fn space(&mut self) -> &mut [u8] {
        self.bytes.copy_within(self.taken..self.filled, 0);
        self.filled -= self.taken;
        self.taken = 0;
        if self.filled == self.bytes.len() {
            self.bytes.resize(self.bytes.len() * 2, 0);
        }
        &mut self.bytes[self.filled..]
    }

    /// The next whole frame, without its length.
    pub(crate) fn next(&mut self) -> Option<&[u8]> {
        let unread = &self.bytes[self.taken..self.filled];
        let frame = unread.get(PREFIX..)?.get(..frame_len(unread)?)?;
        self.taken += PREFIX + frame.len();
        Some(frame)
    }
}

/// The bytes being written. What is to follow is gathered elsewhere meanwhile and takes its place
/// whole, so nothing is moved up front when the socket takes a part.
#[derive(Default)]
pub(crate) struct Output {
    bytes: Vec<u8>,
    /// How much of `bytes` the socket has taken.
    written: usize,
}

impl Output {
    /// Whether the socket has taken everything.
    pub(crate) fn is_done(&self) -> bool {
        self.written == self.bytes.len()
    }

    /// Takes what has been gathered, leaving room for more, if everything before is written.
    pub(crate) fn refill(&mut self, gathered: &mut Vec<u8>) {
        if self.is_done() {
            self.bytes.clear();
            self.written = 0;
            std::mem::swap(&mut self.bytes, gathered);
        }
    }

    /// Writes once, if there is anything: whether there was, or pending as the socket is full.
    pub(crate) fn poll_write(
        &mut self,
        socket: &mut TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<bool>> {
        if self.is_done() {
            return Poll::Ready(Ok(false));
        }
        let unwritten = &self.bytes[self.written..];
        self.written += ready!(Pin::new(socket).poll_write(cx, unwritten))?;
        Poll::Ready(Ok(true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_whole_whatever_the_reads_bring() {
        let mut wire = Vec::new();
        for frame in [&b"one"[..], &[7; 300]] {
            put_len(&mut wire, frame.len());
            wire.extend_from_slice(frame);
        }
        for split in 0..wire.len() {
            let mut input = Input::new();
            let mut frames = Vec::new();
            for part in [&wire[..split], &wire[split..]] {
                input.space()[..part.len()].copy_from_slice(part);
                input.filled += part.len();
                while let Some(frame) = input.next() {
                    frames.push(frame.to_vec());
                }
            }
            assert_eq!(frames, [b"one".to_vec(), vec![7; 300]]);
        }
    }

    #[test]
    fn a_frame_larger_than_a_burst_finds_room() {
        let mut wire = Vec::new();
        put_len(&mut wire, 3 * BURST);
        wire.resize(PREFIX + 3 * BURST, 7);
        let mut input = Input::new();
        let mut left = &wire[..];
        while !left.is_empty() {
            assert_eq!(input.next(), None);
            let space = input.space();
            let now = left.len().min(space.len());
            space[..now].copy_from_slice(&left[..now]);
            input.filled += now;
            left = &left[now..];
        }
        assert_eq!(input.next().map(<[u8]>::len), Some(3 * BURST));
    }
}
