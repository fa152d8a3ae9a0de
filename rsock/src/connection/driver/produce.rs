//! The items that handlers yield: polled for while the socket keeps up, and no more than the peer has asked for.

use std::{
    mem,
    task::{Context, Poll},
    time::Instant,
};

use rsock_proto::{ErrorCode, Payload, StreamKey};

use super::{BATCH_BYTES, Driver, MAX_OVERTAKEN, SHARE_BYTES, drop_guarded};
use crate::{
    connection::{
        feed::{ITEM_COST, Outlet},
        producers::{Polled, Producer, guard},
    },
    demand::Grants,
    error::Error,
};

impl Driver {
    /// Polls the producers that are ready while the socket keeps up. What they yield is encoded
    /// before more is asked of them: beyond the send buffer no more than a batch waits.
    pub(super) fn produce(&mut self, now: Instant) {
        if !self.may_produce() || self.lets_others_yield() || !self.has_memory_for_items(now) {
            return;
        }
        // What was yielded before goes first.
        self.connection.poll_transmit(&mut self.wire.output);
        if self.wire.output.is_full() {
            self.overtake();
        }
        while self.may_produce() {
            let mut yielded = 0;
            // Those that are queued meanwhile have had their turn.
            for _ in 0..self.slots.ready.len() {
                if yielded >= BATCH_BYTES || self.wire.output.is_full() {
                    // The others are next. What they yield now would have to wait in their streams.
                    break;
                }
                let Some(index) = self.slots.ready.pop_front() else { break };
                self.slots.entries[index].is_queued = false;
                yielded += self.run(index);
            }
            self.bulk.yielded += yielded;
            self.connection.poll_transmit(&mut self.wire.output);
            if self.connection.retained_bytes() > 0 {
                // What is retained grows until the session may retain no more, and others may be at it too.
                self.settle_memory();
            }
        }
    }

    /// Whether a producer may be polled now.
    pub(super) fn may_produce(&self) -> bool {
        !self.slots.ready.is_empty()
            && !self.wire.output.is_full()
            && !self.connection.is_held()
            && !self.memory.is_barren()
    }

    /// The socket takes what is written, and a few streams have more for it than it takes: as in a
    /// long transfer. Producers of the others are polled beside them, a batch each time the socket
    /// has taken something.
    fn overtake(&mut self) {
        // Once a wake: an item may be large, and took its time to be made.
        if mem::replace(&mut self.slots.has_overtaken, true)
            || self.connection.unsent_streams() > MAX_OVERTAKEN
            || self.connection.is_held()
            || !self.has_memory_to_yield()
        {
            return;
        }
        let mut yielded = 0;
        for _ in 0..self.slots.ready.len() {
            if yielded >= BATCH_BYTES {
                // The others are next, and are not gone through in vain: there may be thousands.
                break;
            }
            let Some(index) = self.slots.ready.pop_front() else { break };
            let key = self.slots.entries[index].key;
            // What a stream has yielded before goes first here, too.
            if key.is_some_and(|key| self.connection.has_unsent(key)) {
                self.slots.ready.push_back(index);
            } else {
                self.slots.entries[index].is_queued = false;
                yielded += self.run(index);
            }
        }
        self.bulk.yielded += yielded;
    }

    /// Polls one producer, for at most as many items as its stream takes in a turn; the bytes it
    /// yielded.
    fn run(&mut self, index: usize) -> usize {
        let slot = &mut self.slots.entries[index];
        let (Some(key), Some(producer)) = (slot.key, &mut slot.producer) else { return 0 };
        let mut yielded = 0;
        match producer {
            Producer::Once(_) => return self.run_once(key),
            Producer::Feed(feed) => {
                let limit = if self.slots.ready.is_empty() { BATCH_BYTES } else { SHARE_BYTES };
                let Some(items) = self.connection.items(key, &mut self.wire.output) else {
                    return 0;
                };
                let mut outlet = Outlet::of_connection(items, &self.mailbox, index, limit);
                let cx = &mut Context::from_waker(self.slots.wakers.lend(index, &self.mailbox));
                let filled = guard(|| feed.poll_fill(&mut outlet, cx));
                let (sent, is_refused) = outlet.outcome();
                self.slots.wakers.take_back(index);
                yielded = sent;
                match filled {
                    Ok(Poll::Pending) if is_refused => self.slots.queue(index),
                    // Its waker, its group, or the peer's credit, will have it polled again.
                    Ok(Poll::Pending) => {}
                    Ok(Poll::Ready(Ok(()))) => self.finish(key, None),
                    Ok(Poll::Ready(Err(error))) | Err(error) => self.fail(key, error),
                }
            }
            Producer::Stream(source) => {
                let limit = if self.slots.ready.is_empty() { BATCH_BYTES } else { SHARE_BYTES };
                let Some(mut items) = self.connection.items(key, &mut self.wire.output) else {
                    return 0;
                };
                let cx = &mut Context::from_waker(self.slots.wakers.get(index, &self.mailbox));
                // One item is held back until it is known whether it is the last.
                let mut held = None;
                let outcome = loop {
                    let ahead = u64::from(held.is_some());
                    let has_credit = items.credit() > ahead;
                    if has_credit && (items.capacity() <= ahead || yielded >= limit) {
                        // Others are next, or a turn's worth waits to be written.
                        break None;
                    }
                    match source.poll(has_credit, cx) {
                        Polled::Item(item) => {
                            yielded += item.size() + ITEM_COST;
                            if let Some(before) = held.replace(item)
                                && let Err(error) = items.send(before)
                            {
                                break Some(Polled::Failed(error.into()));
                            }
                        }
                        ended => break Some(ended),
                    }
                };
                if let Some(Polled::Complete) = outcome {
                    self.finish(key, held);
                    return yielded;
                }
                if let Some(item) = held
                    && let Err(error) = items.send(item)
                {
                    self.fail(key, error.into());
                    return yielded;
                }
                match outcome {
                    Some(Polled::Failed(error)) => self.fail(key, error),
                    None => self.slots.queue(index),
                    // Its waker, or the peer's credit, will have it polled again.
                    Some(_) => {}
                }
            }
        }
        yielded
    }

    /// The peer has asked for more where that is waited for, or watched.
    pub(super) fn credited(&mut self, key: StreamKey) {
        self.slots.queue(key.index());
        let slot = self.slots.entries.get(key.index());
        if slot.is_some_and(|slot| slot.watchers.is_some()) {
            self.tell_watchers(key);
        }
    }

    /// Somebody wants to know how many items the peer asks for. Of a stream that is over it is none.
    #[cold]
    pub(super) fn watch_demand(&mut self, key: StreamKey, grants: Grants) {
        if let Some(slot) = self.slots.of(key) {
            slot.watchers.get_or_insert_default().add(grants);
            self.tell_watchers(key);
        }
    }

    #[cold]
    fn tell_watchers(&mut self, key: StreamKey) {
        if let Some(slot) = self.slots.of(key)
            && let Some(watchers) = &slot.watchers
            && let Some(mut stream) = self.connection.stream(key)
        {
            stream.watch_credit();
            watchers.raise_to(stream.granted());
        }
    }

    /// A producer has come to its end.
    pub(super) fn finish(&mut self, key: StreamKey, last: Option<Payload>) {
        let done = match (last, self.connection.stream(key)) {
            (_, None) => Ok(()),
            (None, Some(mut stream)) => stream.complete(),
            (Some(item), Some(_)) => {
                self.connection.send_last_now(key, item, &mut self.wire.output)
            }
        };
        if let Err(error) = done {
            return self.fail(key, error.into());
        }
        drop_guarded(self.slots.entries[key.index()].producer.take());
        self.slots.release_if_over(key);
    }

    /// A producer has failed, and with it the stream in both directions.
    pub(super) fn fail(&mut self, key: StreamKey, error: Error) {
        let is_ours = self.slots.at(key).permit.is_some();
        if let Some(mut stream) = self.connection.stream(key) {
            let mut told = error.clone().into_stream_error();
            if is_ours {
                told.code = ErrorCode::APPLICATION_ERROR; // ERR-13
            }
            // If our half has ended already, there is nothing left to say.
            let _ = stream.fail(told);
        }
        self.end_inlet(key, Err(error));
        self.slots.release(key);
    }
}
