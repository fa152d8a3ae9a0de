//! The transport of a connection: the socket, how frames lie on it, and the buffers before and behind it.

use std::{
    io::{self, IoSlice},
    mem,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Buf;
use rsock_proto::SendBuf;
use tokio::io::{AsyncReadExt, AsyncWrite};

use super::{DriverOptions, WRITE_SLICES, input::Input, show};
use crate::{
    tap::Direction,
    transport::{
        Framing,
        socket::{Socket, Transport},
    },
};

/// The transport that a connection has, if it has one.
pub(super) struct Wire {
    pub(super) socket: Socket,
    pub(super) framing: Framing,
    pub(super) input: Input,
    pub(super) output: SendBuf,
    /// How the transport has ended, which was seen behind what was read last.
    pub(super) unread_end: Option<io::Result<()>>,
    /// Writing to the transport has failed, and it is lost when its end is read, or at this time. What
    /// was unread may say why.
    pub(super) write_failure: Option<Box<(io::Error, Instant)>>,
    /// The socket may hold what it has taken and not sent.
    is_unflushed: bool,
    /// The transport is gone: nobody is left to be written to.
    pub(super) unreachable: bool,
    /// Bytes that had gone over it when it was looked at whether any do.
    beaten: u64,
    /// The peer has closed it with something unread, or in the middle of what was written.
    pub(super) is_reset: bool,
}

impl Wire {
    pub(super) fn new(transport: Transport, options: &DriverOptions) -> Self {
        let Transport { socket, framing, input, .. } = transport;
        Self {
            socket,
            output: output(&framing, options),
            framing,
            input: Input::new(input, Arc::clone(&options.memory)),
            unread_end: None,
            write_failure: None,
            is_unflushed: false,
            unreachable: false,
            beaten: 0,
            is_reset: false,
        }
    }

    /// Goes on over another transport.
    pub(super) fn install(&mut self, transport: Transport, options: &DriverOptions) {
        let Transport { socket, framing, input, .. } = transport;
        self.output = output(&framing, options);
        self.socket = socket;
        self.framing = framing;
        self.input.replace(input);
        self.unread_end = None;
        self.write_failure = None;
        self.is_unflushed = false;
        self.unreachable = false;
        self.is_reset = false;
    }

    /// Gives its transport away, with what was read and not taken.
    pub(super) fn hand_over(&mut self, peer: Arc<str>) -> Transport {
        Transport {
            socket: mem::replace(&mut self.socket, Socket::None),
            framing: mem::replace(&mut self.framing, Framing::LengthPrefixed),
            input: self.input.bytes().split(),
            peer,
        }
    }

    /// Has no transport any more.
    pub(super) fn lose(&mut self) {
        self.socket = Socket::None;
        self.input.bytes().clear();
        self.unread_end = None;
        self.write_failure = None;
        self.forget_output();
        self.unreachable = true;
    }

    /// Nobody is left to write to.
    pub(super) fn forget_output(&mut self) {
        self.is_unflushed = false;
        self.output.discard();
    }

    /// Pings the peer if nothing has gone over the transport since this was called last: `moved` is what has
    /// in all. Where something waits to be written, that is a sign of life when the peer takes it. Says whether it did.
    pub(super) fn beat(&mut self, moved: u64) -> bool {
        mem::replace(&mut self.beaten, moved) == moved
            && self.output.is_empty()
            && !self.unreachable
            && !self.socket.is_none()
            && self.framing.ping(&mut self.output)
    }

    /// Says farewell on a transport that is given up, as far as it takes it at once, and nothing of
    /// the session.
    pub(super) fn leave(&mut self, cx: &mut Context<'_>) {
        if self.unreachable || self.socket.is_none() {
            return;
        }
        self.framing.close(&mut self.output);
        // Who does not take it hears nothing.
        let _ = self.write(cx);
    }

    /// Reads once; nothing at the end.
    #[inline]
    pub(super) fn read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        pin!(self.socket.read_buf(self.input.bytes())).poll(cx)
    }

    /// Writes what there is, until the socket takes no more of it.
    pub(super) fn write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_waiting() {
            return Poll::Ready(Ok(()));
        }
        self.is_unflushed = true;
        while !self.output.is_empty() {
            let io = Pin::new(&mut self.socket);
            let first = self.output.chunk();
            let written = if first.len() == self.output.len() {
                ready!(io.poll_write(cx, first))?
            } else {
                let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
                let count = self.output.chunks_vectored(&mut slices);
                ready!(io.poll_write_vectored(cx, &slices[..count]))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(written);
        }
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        self.is_unflushed = flushed.is_pending();
        flushed
    }

    /// Whether there is something to write, or to flush.
    #[inline]
    pub(super) fn is_waiting(&self) -> bool {
        self.is_unflushed || !self.output.is_empty()
    }

    /// Closes our side, when all is written.
    pub(super) fn shut_down(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    /// Bytes of what was read and not taken, and of a message of which only a part has come.
    pub(super) fn partial_bytes(&self) -> usize {
        self.input.waiting_bytes().max(self.framing.partial_bytes())
    }
}

/// A buffer for what goes over a transport that frames lie on so.
fn output(framing: &Framing, options: &DriverOptions) -> SendBuf {
    let mut output = framing.send_buf();
    if let Some(tap) = options.tap.clone() {
        let peer = Arc::clone(&options.peer);
        output.set_tap(move |frame| show(&tap, &peer, Direction::Out, frame));
    }
    output
}
