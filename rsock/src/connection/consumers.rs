//! From the driver to who consumes: inlets, and the streams users poll.
//!
//! An inlet's queue never holds more than the credit that was granted and not consumed; that is
//! checked by the protocol engine, so no item is ever dropped here. What waits is counted in bytes
//! until it is consumed, by inlet and, in the mailbox, for the connection.

use std::{
    collections::VecDeque,
    fmt, mem,
    ops::Deref,
    pin::Pin,
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
    task::{Context, Poll, Waker},
};

use futures_core::Stream;
use rsock_proto::{CloseReason, Payload, StreamKey, Window};

use crate::{
    connection::mailbox::{Command, Mailbox},
    demand::Demand,
    error::Error,
    memory::BlockCharge,
    sync::{AtomicBool, Mutex, MutexGuard},
};

/// How many items a stream keeps outstanding at first unless it says otherwise.
pub const DEFAULT_CREDIT: u32 = 256;
/// How many it keeps outstanding at most, where items are small and it is the credit that holds their
/// sender up.
const MAX_DEFAULT_CREDIT: u32 = 4_096;
/// The bytes of items up to which it asks for more than [`DEFAULT_CREDIT`].
const MAX_GROWN_BYTES: usize = 256 << 10;

/// Bytes that may wait for all consumers of a connection unless it is set otherwise.
pub(crate) const DEFAULT_MAX_WAITING_BYTES: usize = 64 << 20;

/// Bytes consumed of a burst before the connection is told: it need not know of each item.
const RELEASE_BYTES: usize = 64 << 10;

/// The policy of a stream that has none of its own.
pub(crate) fn default_window() -> Window {
    Window::new(DEFAULT_CREDIT).grows_to(MAX_DEFAULT_CREDIT, MAX_GROWN_BYTES)
}

/// The place in which the driver leaves what one stream receives.
#[derive(Default)]
pub(crate) struct Inlet {
    inner: Mutex<Inner>,
    /// As in `inner`'s demand: what the driver looks at before it opens a stream.
    is_cancelled: AtomicBool,
}

#[derive(Default)]
struct Inner {
    items: Items,
    /// Bytes of the items, and of those taken that are not known to be consumed.
    waiting: usize,
    /// Of the blocks that the items were read into.
    charges: Charges,
    /// How it ended; nothing follows.
    end: Option<Result<(), Error>>,
    consumer: Option<Waker>,
    /// The stream, once it is open.
    key: Option<StreamKey>,
    /// The demand that the consumer wants to tell the driver.
    demand: InletDemand,
    /// The driver has been told to look.
    listed: bool,
}

impl Inner {
    /// As many of these bytes as are still counted do not wait any more.
    fn release(&mut self, bytes: usize) -> usize {
        let released = bytes.min(self.waiting);
        self.waiting -= released;
        released
    }

    /// Credit is given once.
    fn take_demand(&mut self) -> InletDemand {
        let demand = self.demand;
        self.demand.grant = 0;
        demand
    }
}

/// The charges of blocks, each once: most items that wait together were read together.
#[derive(Default)]
struct Charges {
    last: Option<Arc<BlockCharge>>,
    others: Vec<Arc<BlockCharge>>,
}

impl Charges {
    #[inline]
    fn add(&mut self, charge: Option<Arc<BlockCharge>>) {
        let Some(charge) = charge else { return };
        if self.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, &charge)) {
            return;
        }
        if let Some(before) = self.last.replace(charge) {
            self.others.push(before);
        }
    }

    #[inline]
    fn clear(&mut self) {
        if self.last.is_some() {
            self.last = None;
            if self.others.capacity() > 0 {
                self.others = Vec::new();
            }
        }
    }
}

/// A consumer's demand for its stream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct InletDemand {
    /// So many more items.
    pub(crate) grant: u32,
    /// Nothing more.
    pub(crate) cancel: bool,
}

impl InletDemand {
    pub(crate) fn is_none(self) -> bool {
        self.grant == 0 && !self.cancel
    }
}

/// A queue whose first item needs no allocation: most streams receive one.
#[derive(Default)]
struct Items {
    first: Option<Payload>,
    rest: VecDeque<Payload>,
}

impl Items {
    fn push(&mut self, item: Payload) {
        // A stream that has had a queue keeps to it, so that a burst is taken whole.
        if self.first.is_none() && self.rest.capacity() == 0 {
            self.first = Some(item);
        } else {
            self.rest.push_back(item);
        }
    }

    fn pop(&mut self) -> Option<Payload> {
        self.first.take().or_else(|| self.rest.pop_front())
    }
}

impl Inlet {
    /// No user code runs under the lock, so a poisoned one still holds whole values.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the stream it was for, if nobody else has it: it may serve another, whose consumer is
    /// this.
    pub(crate) fn renew(self: &mut Arc<Self>, consumer: &Waker) -> bool {
        let Some(inlet) = Arc::get_mut(self) else { return false };
        let inner = inlet.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Inner { items, waiting, charges, end, consumer: before, key, demand, listed } = inner;
        *waiting = 0;
        charges.clear();
        items.first = None;
        if !items.rest.is_empty() {
            items.rest.clear();
        }
        *end = None;
        register(before, consumer);
        *key = None;
        *demand = InletDemand::default();
        *listed = false;
        inlet.is_cancelled.store(false, Relaxed);
        true
    }

    // ---- the driver's side --------------------------------------------------------------------

    /// The stream is open under this key; what its consumer has wanted until now.
    pub(crate) fn open(&self, key: StreamKey) -> InletDemand {
        let mut inner = self.lock();
        inner.key = Some(key);
        inner.take_demand()
    }

    /// Its consumer has gone. One that goes just now may not be seen, and has the driver look again.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Relaxed)
    }

    /// Leaves a burst of items, and the end if one is the last: whether there was one. The waker is
    /// to be called when the driver's burst is over. The items were read into the block of this charge.
    #[inline(never)]
    pub(crate) fn push(
        &self,
        mut item: (Payload, bool),
        mut next: impl FnMut() -> Option<(Payload, bool)>,
        charge: Option<Arc<BlockCharge>>,
        mailbox: &Mailbox,
    ) -> (bool, Option<Waker>) {
        let mut inner = self.lock();
        let is_wanted = !inner.demand.cancel;
        let mut bytes = 0;
        let ended = loop {
            let (payload, last) = item;
            if is_wanted {
                bytes += payload.size();
                inner.items.push(payload);
            }
            if last {
                inner.end = Some(Ok(()));
                break true;
            }
            match next() {
                Some(following) => item = following,
                None => break false,
            }
        };
        if is_wanted {
            inner.charges.add(charge);
            inner.waiting += bytes;
            mailbox.wait(bytes);
        }
        (ended, inner.consumer.take_if(|_| is_wanted || ended))
    }

    /// Bytes that wait here, or have been taken and not been consumed.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.lock().waiting
    }

    /// Drops the items that wait, and ends with this error: how many bytes do not wait any more. The
    /// waker is to be called when the burst is over.
    pub(crate) fn give_up(&self, error: Error) -> (usize, Option<Waker>) {
        let mut inner = self.lock();
        inner.items = Items::default();
        inner.charges.clear();
        inner.end = Some(Err(error));
        (mem::take(&mut inner.waiting), inner.consumer.take())
    }

    /// Nothing follows. The waker is to be called when the burst is over.
    pub(crate) fn end(&self, how: Result<(), Error>) -> Option<Waker> {
        let mut inner = self.lock();
        if inner.end.is_none() {
            inner.end = Some(how);
        }
        inner.consumer.take()
    }

    /// The consumer's demand, and its stream. Before it is open, credit is kept for it.
    pub(crate) fn take_demand(&self) -> (Option<StreamKey>, InletDemand) {
        let mut inner = self.lock();
        inner.listed = false;
        match inner.key {
            Some(key) => (Some(key), inner.take_demand()),
            None => (None, inner.demand),
        }
    }

    // ---- the consumer's side ------------------------------------------------------------------

    fn change_demand(self: &Arc<Self>, mailbox: &Mailbox, change: impl FnOnce(&mut InletDemand)) {
        let mut inner = self.lock();
        if inner.end.is_some() {
            return;
        }
        change(&mut inner.demand);
        if !mem::replace(&mut inner.listed, true) {
            drop(inner);
            // A connection that has ended grants and cancels nothing.
            let _ = mailbox.send(Command::Demanded(Arc::clone(self)));
        }
    }

    /// Nothing more is wanted of it, not even what waits.
    pub(crate) fn cancel(self: &Arc<Self>, mailbox: &Mailbox) {
        self.change_demand(mailbox, |demand| {
            demand.cancel = true;
            self.is_cancelled.store(true, Relaxed);
        });
        let mut inner = self.lock();
        let items = mem::take(&mut inner.items);
        let waiting = mem::take(&mut inner.waiting);
        inner.charges.clear();
        drop(inner);
        drop(items);
        mailbox.released(waiting);
    }

    /// So many bytes of what was taken are consumed.
    fn consumed(&self, bytes: usize, mailbox: &Mailbox) {
        if bytes > 0 {
            let released = self.lock().release(bytes);
            mailbox.released(released);
        }
    }

    /// The answer of a request-response: `None` if it completed without one.
    pub(crate) fn poll_reply(
        &self,
        mailbox: &Mailbox,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Payload>, Error>> {
        let mut inner = self.lock();
        if let Some(reply) = inner.items.pop() {
            inner.charges.clear();
            let waiting = mem::take(&mut inner.waiting);
            drop(inner);
            mailbox.released(waiting);
            return Poll::Ready(Ok(Some(reply)));
        }
        match inner.end.take() {
            Some(end) => Poll::Ready(end.map(|()| None)),
            None => {
                register(&mut inner.consumer, cx.waker());
                Poll::Pending
            }
        }
    }
}

/// The driver's end of an inlet. One that is dropped because the driver panics still ends what its
/// consumer waits for: nobody else knows of it.
pub(crate) struct Feeder(Arc<Inlet>);

impl Feeder {
    pub(crate) fn new(inlet: Arc<Inlet>) -> Self {
        Self(inlet)
    }
}

impl Deref for Feeder {
    type Target = Inlet;

    fn deref(&self) -> &Inlet {
        &self.0
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(consumer) = self.0.end(Err(CloseReason::Disconnected.into()))
        {
            consumer.wake();
        }
    }
}

fn register(consumer: &mut Option<Waker>, waker: &Waker) {
    match consumer {
        Some(before) => before.clone_from(waker),
        none => *none = Some(waker.clone()),
    }
}

/// The consuming end of an inlet: takes items in bursts and grants credit as they are consumed.
/// Dropping it cancels what has not ended.
pub(crate) struct Inflow {
    inlet: Arc<Inlet>,
    mailbox: Arc<Mailbox>,
    window: Window,
    /// The burst being consumed.
    burst: VecDeque<Payload>,
    /// Of the blocks that it was read into.
    charges: Charges,
    /// Bytes consumed that the inlet still counts.
    consumed: usize,
    /// It was polled in vain before the burst.
    waited: bool,
    ended: bool,
    /// Present where no more is asked for than somebody else asks for.
    limit: Option<Box<Limit>>,
}

/// The demand that a stream's own keeps within: what is asked for in all is the lesser of that and of what
/// the window has room for.
pub(crate) struct Limit {
    demand: Demand,
    room: u64,
    asked: u64,
}

impl Limit {
    pub(crate) fn new(demand: Demand) -> Box<Self> {
        Box::new(Self { demand, room: 0, asked: 0 })
    }

    /// There is room for so many more; how many are to be asked for now.
    pub(crate) fn make_room(&mut self, n: u32) -> u32 {
        self.room = self.room.saturating_add(n.into());
        self.ask()
    }

    fn ask(&mut self) -> u32 {
        let most = self.demand.granted().min(self.room);
        let n = most.saturating_sub(self.asked);
        self.asked = self.asked.max(most);
        // A window makes room for fewer at a time.
        u32::try_from(n).unwrap_or(u32::MAX)
    }

    /// How many more are to be asked for; the task is woken when it may be more.
    fn poll_ask(&mut self, cx: &mut Context<'_>) -> u32 {
        while let Poll::Ready(Some(_)) = self.demand.poll_changed(cx) {}
        self.ask()
    }

    /// Whether anything is demanded at all; ready with false if nothing will be.
    pub(crate) fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.demand.granted() > 0 {
            return Poll::Ready(true);
        }
        self.demand.poll_changed(cx).map(|more| more.is_some())
    }
}

impl Inflow {
    pub(crate) fn new(inlet: Arc<Inlet>, mailbox: Arc<Mailbox>, window: Window) -> Self {
        Self {
            inlet,
            mailbox,
            window,
            limit: None,
            burst: VecDeque::new(),
            charges: Charges::default(),
            consumed: 0,
            waited: false,
            ended: false,
        }
    }

    pub(crate) fn request_n(&self, n: u32) {
        if n > 0 && !self.ended {
            self.inlet.change_demand(&self.mailbox, |demand| {
                demand.grant = demand.grant.saturating_add(n)
            });
        }
    }

    /// The same within a demand.
    pub(crate) fn within(mut self, limit: Option<Box<Limit>>) -> Self {
        self.limit = limit;
        self
    }

    /// The window has room for `n` more.
    fn make_room(&mut self, n: u32) {
        let n = self.limit.as_mut().map_or(n, |limit| limit.make_room(n));
        self.request_n(n);
    }

    /// The demand to keep within may have grown.
    #[cold]
    fn ask_within_limit(&mut self, cx: &mut Context<'_>) {
        let n = self.limit.as_mut().map_or(0, |limit| limit.poll_ask(cx));
        self.request_n(n);
    }

    pub(crate) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Payload, Error>>> {
        if self.limit.is_some() {
            self.ask_within_limit(cx);
        }
        if self.burst.is_empty() && !self.ended {
            let mut inner = self.inlet.lock();
            let released = inner.release(mem::take(&mut self.consumed));
            self.charges.clear();
            if let Some(first) = inner.items.first.take() {
                self.burst.push_back(first);
                self.burst.append(&mut inner.items.rest);
            } else if !inner.items.rest.is_empty() {
                mem::swap(&mut self.burst, &mut inner.items.rest);
            } else if let Some(end) = inner.end.clone() {
                self.ended = true;
                self.mailbox.released(released);
                return Poll::Ready(end.err().map(Err));
            } else {
                register(&mut inner.consumer, cx.waker());
                self.waited = true;
                self.mailbox.released(released);
                return Poll::Pending;
            }
            mem::swap(&mut self.charges, &mut inner.charges);
            drop(inner);
            self.mailbox.released(released);
            if mem::take(&mut self.waited) && self.window.may_grow() {
                let bytes = self.burst.iter().map(Payload::size).sum();
                let grant = self.window.burst(self.burst.len(), bytes);
                self.make_room(grant);
            }
        }
        let Some(item) = self.burst.pop_front() else {
            return Poll::Ready(None);
        };
        let size = item.size();
        self.consumed += size;
        if self.consumed >= RELEASE_BYTES {
            self.inlet.consumed(mem::take(&mut self.consumed), &self.mailbox);
        }
        let grant = self.window.consume(size);
        if grant > 0 {
            self.make_room(grant);
        }
        Poll::Ready(Some(Ok(item)))
    }

    /// Upper bound of what may still come without another grant: 0 once it has ended.
    fn is_exhausted(&self) -> bool {
        self.ended && self.burst.is_empty()
    }
}

impl Drop for Inflow {
    fn drop(&mut self) {
        if !self.ended {
            self.inlet.cancel(&self.mailbox);
        }
    }
}

/// The payloads a requester sends on a channel after its first. Polling them is what grants credit.
///
/// Dropping it before it ends tells the requester to stop (RC-18).
pub struct Payloads {
    inflow: Inflow,
    /// The first grant waits for the first poll.
    started: bool,
}

impl Payloads {
    pub(crate) fn new(inlet: Arc<Inlet>, mailbox: Arc<Mailbox>, window: Window) -> Self {
        let inflow = Inflow::new(inlet, mailbox, window);
        Self { inflow, started: false }
    }

    /// Sets how many items may be outstanding, however large the first was. By default it is the
    /// connection's credit window, and fewer where items as large as the first would make more than
    /// [`Window::DEFAULT_BYTES`]. Takes effect before the first poll.
    #[must_use]
    pub fn credit(mut self, n: u32) -> Self {
        if !self.started {
            self.inflow.window = Window::new(n);
        }
        self
    }

    /// Asks for no more than this demand, in portions that the window has room for: see
    /// [`RequestStream::demand`](crate::RequestStream::demand). Takes effect before the first poll.
    #[must_use]
    pub fn demand(mut self, demand: Demand) -> Self {
        if !self.started {
            self.inflow.limit = Some(Limit::new(demand));
        }
        self
    }
}

impl Stream for Payloads {
    type Item = Result<Payload, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.started {
            self.started = true;
            let n = self.inflow.window.initial();
            self.inflow.make_room(n);
        }
        self.inflow.poll_next(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.inflow.burst.len(), self.inflow.is_exhausted().then_some(0))
    }
}

impl fmt::Debug for Payloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payloads").finish_non_exhaustive()
    }
}
