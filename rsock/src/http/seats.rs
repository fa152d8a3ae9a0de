//! Seats: the places of HTTP connections, of which idle ones are given up for others.

use std::{
    fmt,
    pin::pin,
    sync::{Arc, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::sync::Notify;

use crate::{
    connection::{Holder, Shares, Spare},
    http::HttpLimits,
    meter::Meter,
    sync::{Mutex, MutexGuard},
};

/// The places of a server's HTTP connections.
pub(crate) struct Seats {
    inner: Mutex<Inner>,
    max: usize,
    max_per_address: usize,
    /// The last connection has ended.
    deserted: Notify,
    meter: Arc<Meter>,
}

#[derive(Default)]
struct Inner {
    /// Those that are idle are spare, with how to wake them.
    shares: Shares<Waker>,
    taken: usize,
    /// Connections there are, with those that have no seat and are answered once.
    open: usize,
}

impl Seats {
    pub(crate) fn new(limits: &HttpLimits, meter: Arc<Meter>) -> Arc<Self> {
        let max = limits.max_connections;
        let max_per_address = limits.max_connections_per_address.unwrap_or_else(|| max.div_ceil(2));
        let (inner, deserted) = (Mutex::default(), Notify::new());
        Arc::new(Self { inner, max, max_per_address, deserted, meter })
    }

    /// Nothing of a user's runs under the lock, so a poisoned one still holds whole values.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection has asked something: it is one of those that are waited for at a shutdown.
    pub(super) fn enter(self: &Arc<Self>, holder: Holder) -> Visit {
        self.lock().open += 1;
        self.meter.http_connection_opened();
        Visit { seats: Arc::clone(self), holder, seat: None }
    }

    /// Resolves when there are no HTTP connections.
    pub(crate) async fn deserted(&self) {
        loop {
            let mut deserted = pin!(self.deserted.notified());
            deserted.as_mut().enable();
            if self.lock().open == 0 {
                return;
            }
            deserted.await;
        }
    }
}

impl fmt::Debug for Seats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seats").field("max", &self.max).finish_non_exhaustive()
    }
}

/// An HTTP connection, which has a seat if there was one.
pub(super) struct Visit {
    seats: Arc<Seats>,
    holder: Holder,
    seat: Option<Seat>,
}

enum Seat {
    /// Nobody else has it.
    Busy,
    /// Somebody else may have it by now.
    Idle(Spare),
}

impl Visit {
    /// The connection is busy: whether it has a seat. Idle ones are given up for it.
    pub(super) fn sit(&mut self) -> bool {
        let mut inner = self.seats.lock();
        match self.seat.take() {
            Some(Seat::Busy) => self.seat = Some(Seat::Busy),
            Some(Seat::Idle(spare)) => {
                self.seat = inner.shares.withdraw(spare).map(|_| Seat::Busy);
            }
            None => {}
        }
        if self.seat.is_some() {
            return true;
        }
        // Of a holder whom nobody knows there may be many.
        let has_its_share = self.holder != Holder::Unknown
            && inner.shares.held(self.holder) >= self.seats.max_per_address;
        if inner.taken < self.seats.max && !has_its_share {
            inner.taken += 1;
        } else {
            let given_up = if has_its_share {
                inner.shares.oldest_of(self.holder)
            } else {
                inner.shares.oldest_of_the_greediest(self.holder)
            };
            let Some(other) = given_up else { return false };
            self.seats.meter.evicted_http_connection();
            other.wake();
        }
        inner.shares.take(self.holder);
        self.seat = Some(Seat::Busy);
        true
    }

    /// The connection is idle: its seat may be given up for others from now on, of which it hears through
    /// this context. Ready when it has none.
    pub(super) fn poll_given_up(&mut self, cx: &Context<'_>) -> Poll<()> {
        let mut inner = self.seats.lock();
        match &self.seat {
            Some(Seat::Busy) => {
                let spare = inner.shares.offer(self.holder, cx.waker().clone());
                self.seat = Some(Seat::Idle(spare));
                Poll::Pending
            }
            Some(Seat::Idle(spare)) => match inner.shares.spare(*spare) {
                Some(waker) => {
                    waker.clone_from(cx.waker());
                    Poll::Pending
                }
                None => Poll::Ready(()),
            },
            None => Poll::Ready(()),
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut inner = self.seats.lock();
        let has_seat = match self.seat.take() {
            Some(Seat::Busy) => true,
            Some(Seat::Idle(spare)) => inner.shares.withdraw(spare).is_some(),
            None => false,
        };
        if has_seat {
            inner.shares.give_back(self.holder);
            inner.taken -= 1;
        }
        inner.open -= 1;
        self.seats.meter.http_connection_closed();
        if inner.open == 0 {
            self.seats.deserted.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn holder(n: u8) -> Holder {
        Holder::from(SocketAddr::from(([10, 0, 0, n], 1)))
    }

    fn seats(max: usize, meter: &Arc<Meter>) -> Arc<Seats> {
        let limits = HttpLimits { max_connections: max, ..HttpLimits::default() };
        Seats::new(&limits, Arc::clone(meter))
    }

    fn is_given_up(visit: &mut Visit) -> bool {
        visit.poll_given_up(&Context::from_waker(Waker::noop())).is_ready()
    }

    #[tokio::test]
    async fn the_longest_idle_of_whoever_has_most_gives_up_its_seat() {
        let meter = Arc::new(Meter::default());
        let seats = seats(3, &meter);
        let [mut polite, mut first, mut second, mut next] =
            [1, 2, 2, 3].map(|who| seats.enter(holder(who)));
        assert!(polite.sit() && first.sit() && second.sit());
        // Nobody who is busy goes for another.
        assert!(!next.sit() && is_given_up(&mut next));
        for visit in [&mut polite, &mut first, &mut second] {
            assert!(!is_given_up(visit));
        }
        assert!(next.sit());
        assert!(is_given_up(&mut first) && !is_given_up(&mut second) && !is_given_up(&mut polite));
        // Who was given up and asks again has another's seat, if there is one.
        assert!(first.sit() && is_given_up(&mut second));
        let counts = || {
            let inner = seats.lock();
            (inner.taken, inner.open, inner.shares.held(holder(2)))
        };
        assert_eq!(counts(), (3, 4, 1));
        let reading = meter.read();
        assert_eq!((reading.open_http_connections, reading.evicted_http_connections), (4, 2));
        drop((polite, first, second, next));
        assert_eq!(counts(), (0, 0, 0));
        seats.deserted().await;
    }

    #[test]
    fn an_address_has_no_more_than_its_share() {
        let meter = Arc::new(Meter::default());
        let seats = seats(4, &meter);
        let [mut first, mut second, mut third] = [1; 3].map(|who| seats.enter(holder(who)));
        assert!(first.sit() && second.sit());
        assert!(!third.sit(), "two more are for others");
        assert!(!is_given_up(&mut first) && third.sit() && is_given_up(&mut first));
        let mut other = seats.enter(holder(2));
        assert!(other.sit() && !is_given_up(&mut third) && !is_given_up(&mut second));
        // Who nobody knows may be anybody.
        let mut unknown = [(); 3].map(|()| seats.enter(Holder::Unknown));
        assert!(unknown.iter_mut().all(Visit::sit), "{:?}", meter.read());
    }
}
