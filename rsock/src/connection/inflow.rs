//! The consuming end of an inlet.

use std::{
    collections::VecDeque,
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use rsock_proto::{Payload, Window};

use crate::{
    connection::{
        inlet::{Charges, Inlet, InletDemand, register},
        mailbox::{Command, Mailbox},
    },
    demand::Demand,
    error::Error,
};

/// Bytes consumed of a burst before the connection is told: it need not know of each item.
const RELEASE_BYTES: usize = 64 << 10;

/// Changes what is wanted of an inlet, and has the driver look at it.
fn demand(inlet: &Arc<Inlet>, mailbox: &Mailbox, change: impl FnOnce(&mut InletDemand)) {
    if inlet.change_demand(change) {
        // A connection that has ended grants and cancels nothing.
        let _ = mailbox.send(Command::Demanded(Arc::clone(inlet)));
    }
}

/// Nothing more is wanted of an inlet, not even what waits.
pub(crate) fn cancel(inlet: &Arc<Inlet>, mailbox: &Mailbox) {
    demand(inlet, mailbox, |demand| demand.cancel = true);
    mailbox.released(inlet.forget_items());
}

/// The answer of a request-response: `None` if it completed without one.
#[inline]
pub(crate) fn poll_reply(
    inlet: &Inlet,
    mailbox: &Mailbox,
    cx: &mut Context<'_>,
) -> Poll<Result<Option<Payload>, Error>> {
    inlet.poll_reply(cx).map(|(reply, released)| {
        mailbox.released(released);
        reply
    })
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
            demand(&self.inlet, &self.mailbox, |demand| {
                demand.grant = demand.grant.saturating_add(n);
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
            let released = self.inlet.lock().release(mem::take(&mut self.consumed));
            self.mailbox.released(released);
        }
        let grant = self.window.consume(size);
        if grant > 0 {
            self.make_room(grant);
        }
        Poll::Ready(Some(Ok(item)))
    }

    /// Asks for no more than this limit from here on.
    pub(crate) fn set_limit(&mut self, limit: Box<Limit>) {
        self.limit = Some(limit);
    }

    /// Asks by this policy from here on.
    pub(crate) fn set_window(&mut self, window: Window) {
        self.window = window;
    }

    /// Asks for what the window holds.
    pub(crate) fn request_first(&mut self) {
        let n = self.window.initial();
        self.make_room(n);
    }

    /// How many items are sure to come without another grant, and how many at most, where that is
    /// known.
    pub(crate) fn size_hint(&self) -> (usize, Option<usize>) {
        let is_exhausted = self.ended && self.burst.is_empty();
        (self.burst.len(), is_exhausted.then_some(0))
    }
}

impl Drop for Inflow {
    fn drop(&mut self) {
        if !self.ended {
            cancel(&self.inlet, &self.mailbox);
        }
    }
}
