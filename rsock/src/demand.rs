//! Demand: how many items were asked for in all, for who passes that on.

use std::{
    fmt,
    sync::{Arc, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::sync::{Mutex, MutexGuard};

/// The demand of a peer for the items of one stream: how many it has asked for since it began.
///
/// The connection heeds it by itself: a handler's stream is polled for no more. A handler needs to know it
/// if it does something for each item asked for, or asks somebody else for just as many, as in
/// [`RequestStream::demand`](crate::RequestStream::demand).
///
/// ```
/// # use futures_util::stream;
/// # use rsock::*;
/// // Makes so many as are asked for together.
/// let app = Router::new(()).route("batches", request_stream(|_, demand: Demand| {
///     stream::unfold((demand, 0), async |(mut demand, told)| {
///         let asked = demand.changed().await?;
///         Some((format!("{} more", asked - told), (demand, asked)))
///     })
/// }));
/// ```
pub struct Demand {
    shared: Arc<Shared>,
    /// By which its waker is known among others'.
    id: u64,
    /// How many it has told of.
    told: u64,
}

#[derive(Default)]
struct Shared(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    granted: u64,
    /// The stream is over: nothing more is asked for.
    is_over: bool,
    /// The number of demands there have been.
    ids: u64,
    /// One of each demand that waits.
    wakers: Vec<(u64, Waker)>,
}

impl Shared {
    /// No user code runs under the lock, so a poisoned one still holds whole values.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        let mut inner = self.lock();
        change(&mut inner);
        let wakers = std::mem::take(&mut inner.wakers);
        drop(inner);
        for (_, waker) in wakers {
            waker.wake();
        }
    }

    fn watch(self: Arc<Self>) -> Demand {
        let mut inner = self.lock();
        inner.ids += 1;
        let id = inner.ids;
        drop(inner);
        Demand { shared: self, id, told: 0 }
    }
}

impl Demand {
    /// The demand of who asks by polling alone, as where a responder is called in this process: for
    /// whatever comes.
    pub fn unbounded() -> Self {
        let grants = Grants::new();
        grants.grant(u64::MAX);
        grants.demand()
    }

    /// How many items were asked for in all.
    pub fn granted(&self) -> u64 {
        self.shared.lock().granted
    }

    /// Whether as many were asked for as there are: 2^31−1 is how a requester says so (RS-13).
    pub fn is_unbounded(&self) -> bool {
        self.granted() >= rsock_proto::frame::MAX_U31.into()
    }

    /// Waits until more items were asked for than this has told of before, and tells how many it is in
    /// all: the first time at once, what the stream began with. `None` when nothing more will be, since
    /// the stream is over.
    pub async fn changed(&mut self) -> Option<u64> {
        std::future::poll_fn(|cx| self.poll_changed(cx)).await
    }

    /// As [`changed`](Self::changed), for who implements a stream.
    pub fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<Option<u64>> {
        let mut inner = self.shared.lock();
        if inner.granted > self.told {
            self.told = inner.granted;
            return Poll::Ready(Some(self.told));
        }
        if inner.is_over {
            return Poll::Ready(None);
        }
        let waker = cx.waker();
        match inner.wakers.iter_mut().find(|(id, _)| *id == self.id) {
            Some((_, before)) => before.clone_from(waker),
            None => inner.wakers.push((self.id, waker.clone())),
        }
        Poll::Pending
    }
}

/// Waits by itself, and tells what the other has told of as well.
impl Clone for Demand {
    fn clone(&self) -> Self {
        Arc::clone(&self.shared).watch()
    }
}

impl Drop for Demand {
    fn drop(&mut self) {
        let mut inner = self.shared.lock();
        let waker = inner.wakers.iter().position(|(id, _)| *id == self.id);
        let waker = waker.map(|at| inner.wakers.swap_remove(at));
        drop(inner);
        drop(waker);
    }
}

impl fmt::Debug for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Demand").field("granted", &self.granted()).finish_non_exhaustive()
    }
}

/// The other end of a [`Demand`]: says how many items are asked for. For who calls a responder in this
/// process ([`Request::set_demand`](crate::Request::set_demand)), or lets a stream ask for no more than
/// it says. When it is dropped, nothing more is asked for.
#[derive(Default)]
pub struct Grants(Arc<Shared>);

impl Grants {
    /// Grants of nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for so many more.
    pub fn grant(&self, more: u64) {
        if more > 0 {
            self.0.change(|inner| inner.granted = inner.granted.saturating_add(more));
        }
    }

    /// The demand that grows by what is granted here.
    pub fn demand(&self) -> Demand {
        Arc::clone(&self.0).watch()
    }

    /// So many were asked for in all, or more.
    pub(crate) fn raise_to(&self, granted: u64) {
        if granted > self.0.lock().granted {
            self.0.change(|inner| inner.granted = inner.granted.max(granted));
        }
    }

    /// Whether somebody has the demand.
    pub(crate) fn is_watched(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl Drop for Grants {
    fn drop(&mut self) {
        self.0.change(|inner| inner.is_over = true);
    }
}

impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let granted = self.0.lock().granted;
        f.debug_struct("Grants").field("granted", &granted).finish_non_exhaustive()
    }
}

/// The grants of one stream's peer, for those who have asked to see them.
#[derive(Debug, Default)]
pub(crate) struct Watchers(Vec<Grants>);

impl Watchers {
    /// One more. Those that nobody looks at any more go.
    pub(crate) fn add(&mut self, grants: Grants) {
        self.0.retain(Grants::is_watched);
        self.0.push(grants);
    }

    /// So many items were asked for in all.
    pub(crate) fn raise_to(&self, granted: u64) {
        for grants in &self.0 {
            grants.raise_to(granted);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    struct Count(AtomicUsize);

    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn poll(demand: &mut Demand, waker: &Waker) -> Poll<Option<u64>> {
        demand.poll_changed(&mut Context::from_waker(waker))
    }

    #[test]
    fn each_is_told_of_every_sum_once_and_of_the_end() {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let grants = Grants::new();
        let mut first = grants.demand();
        assert!(poll(&mut first, &waker).is_pending());
        assert!(poll(&mut first, &waker).is_pending(), "it waits once");
        grants.grant(2);
        grants.grant(3);
        assert_eq!(count.0.load(Relaxed), 1);
        let mut second = first.clone();
        assert_eq!(poll(&mut first, &waker), Poll::Ready(Some(5)));
        assert_eq!(poll(&mut second, &waker), Poll::Ready(Some(5)));
        assert!(poll(&mut first, &waker).is_pending());
        assert!(poll(&mut second, &waker).is_pending());
        grants.raise_to(4);
        assert_eq!((count.0.load(Relaxed), first.granted()), (1, 5));
        // Who has gone is not woken.
        drop(second);
        grants.raise_to(9);
        assert_eq!((count.0.load(Relaxed), first.granted()), (2, 9));
        drop(grants);
        assert_eq!(poll(&mut first, &waker), Poll::Ready(Some(9)));
        assert_eq!(poll(&mut first, &waker), Poll::Ready(None));
        assert_eq!(poll(&mut first.clone(), &waker), Poll::Ready(Some(9)));
    }

    #[test]
    fn sums_do_not_wrap() {
        let grants = Grants::new();
        let demand = grants.demand();
        grants.grant(u64::MAX);
        grants.grant(1);
        assert_eq!(demand.granted(), u64::MAX);
        assert!(demand.is_unbounded() && Demand::unbounded().is_unbounded());
    }

    #[test]
    fn nobody_is_kept_who_looks_no_more() {
        let mut watchers = Watchers::default();
        let grants = Grants::new();
        let kept = grants.demand();
        watchers.add(grants);
        for _ in 0..10 {
            watchers.add(Grants::new());
        }
        assert_eq!(watchers.0.len(), 2, "the last was not looked at yet");
        watchers.raise_to(3);
        assert_eq!(kept.granted(), 3);
    }
}
