//! METADATA_PUSH frames of the peer, which are handled one after the other.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;

use super::{Driver, PUSH_SLOT, drop_guarded, serving::Serving};
use crate::{
    boxed::BoxFuture,
    connection::producers::{SlotWakers, guard, poll_guarded},
};

/// METADATA_PUSH frames that wait for their handler; more are dropped and counted (MDP-08).
const MAX_WAITING: usize = 256;
/// Bytes of those.
const MAX_WAITING_BYTES: usize = 1 << 20;

/// The pushes that wait, and the one that is being handled.
#[derive(Default)]
pub(super) struct Pushes {
    waiting: VecDeque<Bytes>,
    /// Bytes of those that wait.
    bytes: usize,
    running: Option<BoxFuture<()>>,
    waker: SlotWakers,
}

impl Pushes {
    /// Whether there is room for another.
    fn add(&mut self, metadata: &Bytes) -> bool {
        let fits = self.bytes + metadata.len() <= MAX_WAITING_BYTES;
        let has_room = self.waiting.len() < MAX_WAITING && (fits || self.waiting.is_empty());
        if has_room {
            self.bytes += metadata.len();
            self.waiting.push_back(Bytes::copy_from_slice(metadata));
        }
        has_room
    }

    /// Those that wait will not be handled.
    fn forget(&mut self) {
        self.bytes = 0;
        self.waiting = VecDeque::new();
    }

    /// Nor is the one that was begun.
    pub(super) fn end(&mut self) {
        self.forget();
        drop_guarded(self.running.take());
    }
}

impl Driver {
    pub(super) fn take_push(&mut self, metadata: Bytes) {
        // One may always wait, however long.
        if self.serving.pushes.get_or_insert_default().add(&metadata) {
            self.run_pushes();
        } else {
            self.meter.dropped_push();
        }
    }

    /// The handler of a push was woken.
    pub(super) fn go_on_with_pushes(&mut self) {
        if let Some(pushes) = &mut self.serving.pushes {
            pushes.waker.unlist(0);
            self.run_pushes();
        }
    }

    /// Handles pushes one after the other, in the order in which they came.
    fn run_pushes(&mut self) {
        let Serving { responder, pushes, .. } = &mut self.serving;
        let Some(pushes) = pushes else { return };
        let Some(responder) = responder else { return pushes.forget() };
        loop {
            if pushes.running.is_none() {
                let Some(metadata) = pushes.waiting.pop_front() else {
                    return;
                };
                pushes.bytes -= metadata.len();
                let handler = Arc::clone(responder);
                // A handler that panics costs its push (MDP-07).
                pushes.running = guard(|| handler.metadata_push(metadata)).ok();
            }
            let Some(pushing) = &mut pushes.running else {
                continue;
            };
            let waker = pushes.waker.named(0, PUSH_SLOT, &self.mailbox);
            match poll_guarded(pushing, &mut Context::from_waker(waker)) {
                Poll::Ready(_) => drop_guarded(pushes.running.take()),
                Poll::Pending => return,
            }
        }
    }
}
