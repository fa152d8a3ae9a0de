//! The place between a WebSocket's handler and what drives its connection.

use std::{
    sync::{Arc, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{BufMut, BytesMut};
use tokio::time::Instant;

use super::{WebSocketEnd, WebSocketMessage};
use crate::{
    memory::MemoryBudget,
    sync::{Mutex, MutexGuard},
    transport::websocket::{Opcode, encode_header},
};

/// The bytes that may wait for the socket before a message is sent behind them.
const ROOM_BYTES: usize = 16 << 10;

/// The link between a handler and its connection: one message, and what waits to be written.
pub(super) struct Link(Mutex<State>, Arc<MemoryBudget>);

/// From so many bytes on, what is held is to be within the share of a connection.
pub(super) const COUNTED_BYTES: usize = 4 << 10;

#[derive(Default)]
pub(super) struct State {
    /// A message that the handler has not taken: nothing is read meanwhile.
    pub(super) incoming: Option<WebSocketMessage>,
    /// Frames that wait for the socket: 16 KiB and a message, if the handler waits for room.
    pub(super) output: BytesMut,
    /// The socket has taken frames, and holds some of them back.
    pub(super) is_unflushed: bool,
    /// Bytes that the handler keeps of what has come.
    pub(super) held: usize,
    /// The code and reason that the handler closes with.
    pub(super) closing: Option<(u16, String)>,
    pub(super) end: Option<WebSocketEnd>,
    /// When all is broken off.
    pub(super) drain: Option<Instant>,
    waits: Waits,
    /// The handler has done something since whoever drives the connection looked.
    is_stirred: bool,
    /// To be woken then; none while it looks anyway.
    driver: Option<Waker>,
}

/// The wakers of who waits for what: of each there is one.
#[derive(Default)]
struct Waits {
    message: Option<Waker>,
    room: Option<Waker>,
    flush: Option<Waker>,
    end: Option<Waker>,
    drain: Option<Waker>,
}

fn wait(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}

fn wake(slot: &mut Option<Waker>) {
    if let Some(waker) = slot.take() {
        waker.wake();
    }
}

impl Link {
    pub(super) fn new(budget: &Arc<MemoryBudget>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State::default()), Arc::clone(budget)))
    }

    pub(super) fn holds(&self, bytes: usize) -> bool {
        let mut state = self.lock();
        if state.held != bytes {
            state.held = bytes;
            state.stir();
        }
        drop(state);
        bytes < COUNTED_BYTES || bytes <= self.1.allowance()
    }

    /// Nothing of a user's runs under the lock, so a poisoned one still holds whole values.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn poll_receive(&self, cx: &Context<'_>) -> Poll<Option<WebSocketMessage>> {
        let mut state = self.lock();
        if let Some(message) = state.incoming.take() {
            state.stir();
            return Poll::Ready(Some(message));
        }
        if state.is_over() {
            return Poll::Ready(None);
        }
        wait(&mut state.waits.message, cx);
        Poll::Pending
    }

    pub(super) fn poll_ready(&self, cx: &Context<'_>) -> Poll<Result<(), WebSocketEnd>> {
        let mut state = self.lock();
        if let Some(end) = state.known_end() {
            return Poll::Ready(Err(end));
        }
        if state.has_room() {
            return Poll::Ready(Ok(()));
        }
        wait(&mut state.waits.room, cx);
        Poll::Pending
    }

    pub(super) fn start_send(&self, message: &WebSocketMessage) -> Result<(), WebSocketEnd> {
        let mut state = self.lock();
        if let Some(end) = state.known_end() {
            return Err(end);
        }
        let (opcode, body) = match message {
            WebSocketMessage::Text(text) => (Opcode::Text, text.as_bytes()),
            WebSocketMessage::Binary(bytes) => (Opcode::Binary, &bytes[..]),
        };
        encode_header(opcode, body.len(), None, &mut state.output);
        state.output.put_slice(body);
        state.stir();
        Ok(())
    }

    pub(super) fn poll_flushed(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.end.is_some() || (state.output.is_empty() && !state.is_unflushed) {
            return Poll::Ready(());
        }
        wait(&mut state.waits.flush, cx);
        Poll::Pending
    }

    pub(super) fn close(&self, code: u16, reason: &str) {
        let mut state = self.lock();
        if !state.is_over() {
            state.incoming = None;
            state.closing = Some((code, reason.to_owned()));
            state.stir();
        }
    }

    pub(super) fn end(&self) -> Option<WebSocketEnd> {
        self.lock().known_end()
    }

    pub(super) fn poll_end(&self, cx: &Context<'_>) -> Poll<WebSocketEnd> {
        let mut state = self.lock();
        if let Some(end) = state.known_end() {
            return Poll::Ready(end);
        }
        wait(&mut state.waits.end, cx);
        Poll::Pending
    }

    pub(super) fn poll_draining(&self, cx: &Context<'_>) -> Poll<Duration> {
        let mut state = self.lock();
        if let Some(until) = state.drain {
            return Poll::Ready(until.saturating_duration_since(Instant::now()));
        }
        wait(&mut state.waits.drain, cx);
        Poll::Pending
    }
}

impl State {
    /// Whether the next message may be sent.
    fn has_room(&self) -> bool {
        self.output.len() < ROOM_BYTES && !self.is_unflushed
    }

    /// Whether so much waits that what can be left out is.
    pub(super) fn is_full(&self) -> bool {
        self.output.len() >= ROOM_BYTES
    }

    fn is_over(&self) -> bool {
        self.end.is_some() || self.closing.is_some()
    }

    fn known_end(&self) -> Option<WebSocketEnd> {
        let closing = self.closing.as_ref();
        self.end.clone().or_else(|| {
            closing.map(|(code, reason)| WebSocketEnd::Here { code: *code, reason: reason.clone() })
        })
    }

    /// Wakes whoever drives the connection.
    fn stir(&mut self) {
        self.is_stirred = true;
        wake(&mut self.driver);
    }

    /// The driver of the connection begins to look.
    pub(super) fn looks(&mut self) {
        self.is_stirred = false;
        self.driver = None;
    }

    /// The driver of the connection has looked, and waits from now on: unless the handler has done something
    /// meanwhile.
    pub(super) fn waits(&mut self, cx: &Context<'_>) -> bool {
        wait(&mut self.driver, cx);
        !self.is_stirred
    }

    /// A message has come.
    pub(super) fn give(&mut self, message: WebSocketMessage) {
        self.incoming = Some(message);
        wake(&mut self.waits.message);
    }

    /// The socket has taken something.
    pub(super) fn moved(&mut self) {
        if self.has_room() {
            wake(&mut self.waits.room);
            if self.output.is_empty() {
                wake(&mut self.waits.flush);
            }
        }
    }

    /// It ends so, unless it has ended before.
    pub(super) fn ended(&mut self, end: WebSocketEnd) {
        self.end.get_or_insert(end);
        self.closing = None;
        let Waits { message, room, flush, end, .. } = &mut self.waits;
        [message, room, flush, end].into_iter().for_each(wake);
    }

    /// The server ends at that time.
    pub(super) fn drains(&mut self, until: Instant) {
        self.drain = Some(until);
        wake(&mut self.waits.drain);
    }
}
