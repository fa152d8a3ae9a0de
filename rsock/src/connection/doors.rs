//! The doors of a server: sockets that nobody has accepted yet, and the places of connections.
//!
//! ```text
//! socket ──▶ newcomer ──SETUP, acceptor──▶ waits for a place ──▶ connection ──transport lost──▶ session
//!                     ──RESUME───────────▶ waits, before those ─────▲───────────────────────────┘
//! ```
//!
//! A newcomer has no place, so that a service with no place left still hears who comes back to a
//! session; and a session without a transport has none either. Since somebody else may have taken what
//! it had, who comes back is let in beyond the places, within a bound, and those are paid back before
//! anyone else has one. Bounds: at most `max_newcomers`, the oldest of whoever has most of them goes for
//! one more; half as many wait for a place; a quarter more than there are places, and half as many as
//! newcomers, are let in beyond. Nobody goes for another who has just come: whoever says what he wants at
//! once has been heard by then, and a storm of those who come back does not drive itself away.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    num::NonZeroU32,
    pin::pin,
    sync::{Arc, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use crate::{
    connection::{
        arrivals::Arrivals,
        shares::{Holder, Shares, Spare},
    },
    meter::Meter,
    sync::{Mutex, MutexGuard},
    transport::listen::Remote,
};

/// The holder in whose share a socket is.
impl From<Remote> for Holder {
    fn from(remote: Remote) -> Self {
        match remote {
            Remote::Address(address) => Self::from(address),
            #[cfg(unix)]
            Remote::User(user) => user.map_or(Self::Unknown, Self::User),
        }
    }
}

/// How long a newcomer has before he may have to go for another.
const GRACE: Duration = Duration::from_millis(250);

/// The doors of a server.
pub(crate) struct Doors {
    inner: Mutex<Inner>,
    /// A newcomer has left.
    left: Notify,
    limits: DoorLimits,
    meter: Arc<Meter>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct DoorLimits {
    pub(crate) max_connections: usize,
    pub(crate) max_newcomers: usize,
    /// How long to wait for a place.
    pub(crate) patience: Duration,
    /// Of one address.
    pub(crate) max_connections_per_address: Option<usize>,
    /// How often an address may come.
    pub(crate) connects_per_minute: Option<NonZeroU32>,
}

struct Inner {
    free: usize,
    /// Places that were given beyond what there are.
    overdrawn: usize,
    /// Those who come back to a session, first come first served, and before all others.
    returning: VecDeque<oneshot::Sender<Place>>,
    /// Those who were accepted.
    waiting: VecDeque<oneshot::Sender<Place>>,
    /// Newcomers are all spare.
    newcomers: Shares<Entry>,
    count: usize,
    /// Connections of each address, and those that wait to be one, where they are bounded.
    of_address: HashMap<Holder, usize>,
    arrivals: Arrivals,
    is_stopping: bool,
}

impl Inner {
    /// Whether there is a place, or may be one more than there are.
    fn take_place(&mut self, max_overdrawn: usize) -> bool {
        if self.free > 0 {
            self.free -= 1;
            true
        } else if self.overdrawn < max_overdrawn {
            self.overdrawn += 1;
            true
        } else {
            false
        }
    }
}

/// A driver that is told that its newcomer has to go.
pub(crate) trait TurnAway: Send + Sync {
    fn turn_away(&self);
}

/// How a newcomer is told that it has to go.
struct Entry {
    since: Instant,
    /// Once there is a driver.
    driver: Option<Arc<dyn TurnAway>>,
    /// Before that.
    waker: Option<Waker>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// There were as many connections as there may be, for as long as one could be waited for.
    All { max: usize },
    /// One address has as many as it may.
    OfAddress { max: usize },
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All { max } => {
                write!(f, "full: all {max} connections are in use; try again later")
            }
            Self::OfAddress { max } => write!(
                f,
                "full: all {max} connections that one address may have are in use; end one of them"
            ),
        }
    }
}

impl Doors {
    pub(crate) fn new(limits: DoorLimits, meter: Arc<Meter>) -> Arc<Self> {
        let inner = Inner {
            free: limits.max_connections,
            overdrawn: 0,
            returning: VecDeque::new(),
            waiting: VecDeque::new(),
            newcomers: Shares::default(),
            count: 0,
            of_address: HashMap::new(),
            arrivals: Arrivals::default(),
            is_stopping: false,
        };
        Arc::new(Self { inner: Mutex::new(inner), left: Notify::new(), limits, meter })
    }

    /// Nothing of a user's runs under the lock, so a poisoned one still holds whole values.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A socket was taken. Beyond the bound, another goes for it, as soon as one has had its time.
    pub(crate) async fn newcomer(self: &Arc<Self>, holder: Holder) -> Newcomer {
        loop {
            let mut left = pin!(self.left.notified());
            left.as_mut().enable();
            match self.try_newcomer(holder) {
                Ok(newcomer) => return newcomer,
                // Either may come first, and both are looked at anew.
                Err(at) => drop(tokio::time::timeout_at(at, left).await),
            }
        }
    }

    /// # Errors
    /// When the next to go will have had its time.
    fn try_newcomer(self: &Arc<Self>, holder: Holder) -> Result<Newcomer, Instant> {
        let now = Instant::now();
        let mut inner = self.lock();
        let mut goes = None;
        if inner.count < self.limits.max_newcomers {
            inner.count += 1;
        } else {
            let next = inner.newcomers.next_to_go(holder).map_or(now, |next| next.since + GRACE);
            if next > now {
                return Err(next);
            }
            goes = inner.newcomers.oldest_of_the_greediest(holder);
        }
        inner.newcomers.take(holder);
        let entry = Entry { since: now, driver: None, waker: None };
        let spare = inner.newcomers.offer(holder, entry);
        drop(inner);
        if let Some(Entry { driver, waker, .. }) = goes {
            self.meter.turned_away();
            if let Some(driver) = driver {
                driver.turn_away();
            }
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        Ok(Newcomer { doors: Arc::clone(self), holder, since: now, spare: Some(spare) })
    }

    /// Whether one more connection may come of this address now.
    pub(crate) fn may_come(&self, holder: Holder) -> bool {
        let Some(per_minute) = self.limits.connects_per_minute else { return true };
        let may_come = self.lock().arrivals.take(holder, per_minute, Instant::now());
        if !may_come {
            self.meter.refused_address();
        }
        may_come
    }

    /// Counts one more of the connections of an address, if they are bounded. Who returns had one before, and
    /// is let in beyond the bound, as far as a quarter of it: others may have come meanwhile.
    fn one_of_address(
        self: &Arc<Self>,
        holder: Holder,
        returns: bool,
    ) -> Result<Option<Box<OfAddress>>, Full> {
        let Some(max) = self.limits.max_connections_per_address else { return Ok(None) };
        if !matches!(holder, Holder::Address(_)) {
            return Ok(None);
        }
        let mut inner = self.lock();
        let count = inner.of_address.entry(holder).or_default();
        let most = if returns { max + max.div_ceil(4) } else { max };
        if *count >= most {
            drop(inner);
            self.meter.refused_address();
            return Err(Full::OfAddress { max });
        }
        *count += 1;
        Ok(Some(Box::new(OfAddress { doors: Arc::clone(self), holder })))
    }

    /// Nothing is let in any more.
    pub(crate) fn stop(&self) {
        self.lock().is_stopping = true;
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.lock().is_stopping
    }

    /// A place for a session that has a transport again, if one is to be had now.
    pub(crate) fn try_place(self: &Arc<Self>, holder: Holder) -> Option<Place> {
        let of_address = self.one_of_address(holder, true).ok()?;
        let is_granted = self.lock().take_place(self.max_overdrawn());
        is_granted.then(|| Place { doors: Some(Arc::clone(self)), of_address })
    }

    fn max_overdrawn(&self) -> usize {
        (self.limits.max_connections.div_ceil(4)).min(self.limits.max_newcomers / 2)
    }

    /// A place, as soon as one is free.
    ///
    /// # Errors
    /// If the address has as many as it may, too many wait already, or none was free in time.
    pub(crate) async fn place(
        self: Arc<Self>,
        holder: Holder,
        returns: bool,
    ) -> Result<Place, Full> {
        let of_address = self.one_of_address(holder, returns)?;
        let mut place = self.place_of_all(returns).await?;
        place.of_address = of_address;
        Ok(place)
    }

    async fn place_of_all(self: Arc<Self>, returns: bool) -> Result<Place, Full> {
        let full = Full::All { max: self.limits.max_connections };
        let granted = {
            let inner = &mut *self.lock();
            // Whoever waits is served before anything is free.
            if inner.take_place(if returns { self.max_overdrawn() } else { 0 }) {
                return Ok(Place { doors: Some(Arc::clone(&self)), of_address: None });
            }
            let (queue, max) = if returns {
                (&mut inner.returning, self.limits.max_newcomers)
            } else {
                (&mut inner.waiting, self.limits.max_newcomers.div_ceil(2))
            };
            queue.retain(|waiter| !waiter.is_closed());
            if queue.len() < max {
                let (grant, granted) = oneshot::channel();
                queue.push_back(grant);
                Some(granted)
            } else {
                None
            }
        };
        self.meter.count_full();
        if let Some(granted) = granted
            && let Ok(Ok(place)) = tokio::time::timeout(self.limits.patience, granted).await
        {
            return Ok(place);
        }
        self.meter.refused_when_full();
        Err(full)
    }

    /// A place is free: whoever waits has it.
    fn free(self: &Arc<Self>) {
        loop {
            let mut inner = self.lock();
            let next = match inner.returning.pop_front() {
                None if inner.overdrawn > 0 => {
                    inner.overdrawn -= 1;
                    return;
                }
                None => inner.waiting.pop_front(),
                returning => returning,
            };
            let Some(next) = next else {
                inner.free += 1;
                return;
            };
            drop(inner);
            match next.send(Place { doors: Some(Arc::clone(self)), of_address: None }) {
                Ok(()) => return,
                // It waits no more; the place goes to the next and is not given back again.
                Err(mut place) => place.doors = None,
            }
        }
    }
}

/// The right to be one of the connections, until it is dropped.
pub(crate) struct Place {
    doors: Option<Arc<Doors>>,
    /// Dropped behind the place.
    of_address: Option<Box<OfAddress>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(doors) = self.doors.take() {
            doors.free();
        }
    }
}

/// One of the connections of an address, until it is dropped.
struct OfAddress {
    doors: Arc<Doors>,
    holder: Holder,
}

impl Drop for OfAddress {
    fn drop(&mut self) {
        let mut inner = self.doors.lock();
        if let Some(count) = inner.of_address.get_mut(&self.holder) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                inner.of_address.remove(&self.holder);
            }
        }
    }
}

/// A socket that nobody has accepted yet, until it is let in or dropped.
pub(crate) struct Newcomer {
    doors: Arc<Doors>,
    holder: Holder,
    since: Instant,
    spare: Option<Spare>,
}

impl Newcomer {
    /// When it came: all that comes before it is accepted has one limit.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    pub(crate) fn doors(&self) -> &Arc<Doors> {
        &self.doors
    }

    pub(crate) fn holder(&self) -> Holder {
        self.holder
    }

    /// It is somebody else's, for whom a proxy passes it on.
    pub(crate) fn passed_on_for(&mut self, holder: Holder) {
        let Some(spare) = self.spare.take() else { return };
        let mut inner = self.doors.lock();
        if let Some(entry) = inner.newcomers.withdraw(spare) {
            inner.newcomers.give_back(self.holder);
            inner.newcomers.take(holder);
            self.spare = Some(inner.newcomers.offer(holder, entry));
            drop(inner);
            self.holder = holder;
        }
    }

    /// A driver has it from now on, and is told there if it has to go; false if it has to already.
    pub(crate) fn driven_by(&self, driver: Arc<dyn TurnAway>) -> bool {
        let mut inner = self.doors.lock();
        let entry = self.spare.and_then(|spare| inner.newcomers.spare(spare));
        match entry {
            Some(entry) => {
                entry.driver = Some(driver);
                entry.waker = None;
                true
            }
            None => false,
        }
    }

    /// Ready when it has to go, while there is no driver.
    pub(crate) fn poll_turned_away(&self, cx: &Context<'_>) -> Poll<()> {
        let mut inner = self.doors.lock();
        match self.spare.and_then(|spare| inner.newcomers.spare(spare)) {
            Some(entry) => {
                entry.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }

    /// It is accepted, and no newcomer any more; false if it had to go.
    pub(crate) fn let_in(mut self) -> bool {
        self.leave()
    }

    fn leave(&mut self) -> bool {
        let Some(spare) = self.spare.take() else { return false };
        let mut inner = self.doors.lock();
        let is_here = inner.newcomers.withdraw(spare).is_some();
        if is_here {
            inner.newcomers.give_back(self.holder);
            inner.count -= 1;
            drop(inner);
            self.doors.left.notify_one();
        }
        is_here
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, net::SocketAddr};

    use futures_util::FutureExt;

    use super::*;
    use crate::{connection::mailbox::Mailbox, state::ConnectionState};

    fn doors(max_connections: usize, max_newcomers: usize) -> Arc<Doors> {
        let patience = Duration::from_secs(5);
        doors_within(DoorLimits {
            max_connections,
            max_newcomers,
            patience,
            max_connections_per_address: None,
            connects_per_minute: None,
        })
    }

    fn doors_within(limits: DoorLimits) -> Arc<Doors> {
        Doors::new(limits, Arc::default())
    }

    fn holder(n: u8) -> Holder {
        Holder::from(SocketAddr::from(([10, 0, 0, n], 1)))
    }

    fn is_turned_away(newcomer: &Newcomer) -> bool {
        poll_fn(|cx| newcomer.poll_turned_away(cx)).now_or_never().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_newcomer_of_whoever_has_most_goes_for_one_more() {
        let doors = doors(1, 4);
        let polite = doors.newcomer(holder(1)).await;
        let mut flood = Vec::new();
        let start = Instant::now();
        for _ in 0..100 {
            flood.push(doors.newcomer(holder(2)).await);
        }
        // Each has had its time.
        assert!(start.elapsed() >= GRACE * (97 / 3));
        assert!(!is_turned_away(&polite));
        let (gone, here): (Vec<_>, Vec<_>) = flood.into_iter().partition(is_turned_away);
        assert_eq!((gone.len(), here.len()), (97, 3));
        assert!(!gone.into_iter().any(Newcomer::let_in));
        assert!(polite.let_in());
        drop(here);
        let inner = doors.lock();
        assert_eq!((inner.count, inner.newcomers.held(holder(2))), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_has_as_many_connections_as_it_may() {
        let doors = doors_within(DoorLimits {
            max_connections: 4,
            max_newcomers: 8,
            patience: Duration::from_secs(5),
            max_connections_per_address: Some(2),
            connects_per_minute: NonZeroU32::new(3),
        });
        let place = |n, returns| Arc::clone(&doors).place(holder(n), returns);
        let first = place(1, false).await.expect("the first");
        let second = place(1, false).await.expect("the second");
        let refused = place(1, false).await.err().expect("one too many");
        assert_eq!(refused, Full::OfAddress { max: 2 });
        assert!(refused.to_string().contains("one address may have"), "{refused}");
        // Of another, and of who comes back, who counts.
        let other = place(2, false).await.expect("another's");
        let returned = place(1, true).await.expect("it had one before");
        assert!(place(1, true).await.is_err(), "so many had none");
        drop(first);
        assert!(place(1, false).await.is_err());
        drop(returned);
        let third = place(1, false).await.expect("there is room again");
        // It waits for a place, and counts meanwhile as one that it has; afterwards no more.
        let full = [place(3, false).await.expect("the last place")];
        let waiting = place(2, false).await.err();
        assert_eq!(waiting, Some(Full::All { max: 4 }));
        drop((second, third, other, full));
        assert!(doors.lock().of_address.is_empty());
        assert_eq!(doors.meter.read().refused_addresses, 3);
        let came = (0..9).filter(|_| doors.may_come(holder(9))).count();
        assert_eq!((came, doors.meter.read().refused_addresses), (3, 9));
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_have_as_much_the_oldest_goes() {
        let doors = doors(1, 2);
        let [first, second] = [doors.newcomer(holder(1)).await, doors.newcomer(holder(2)).await];
        let third = doors.newcomer(holder(3)).await;
        assert!(is_turned_away(&first) && !is_turned_away(&second) && !is_turned_away(&third));
        // A driver hears it by its mailbox.
        let mailbox = Mailbox::new(1, ConnectionState::Connecting);
        assert!(second.driven_by(mailbox.clone()) && !first.driven_by(mailbox.clone()));
        let _fourth = doors.newcomer(holder(4)).await;
        assert!(mailbox.has_commands() && !second.let_in());
    }

    /// As when a proxy starts anew: all come at once, and each is heard.
    #[tokio::test(start_paused = true)]
    async fn those_who_are_let_in_at_once_do_not_drive_each_other_away() {
        let doors = doors(1_000, 2);
        let start = Instant::now();
        for _ in 0..100 {
            let newcomer = doors.newcomer(holder(1)).await;
            tokio::spawn(async move {
                tokio::task::yield_now().await;
                assert!(newcomer.let_in());
            });
        }
        assert!(start.elapsed() < GRACE);
        assert_eq!(doors.meter.read().evicted_newcomers, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn places_go_to_those_who_come_back_and_then_in_order() {
        let doors = doors(1, 4);
        let ask = |returns| Box::pin(Arc::clone(&doors).place(Holder::Unknown, returns));
        let place = doors.try_place(Holder::Unknown).expect("one is free");
        let beyond = ask(true).await.expect("one more than there are");
        assert!(doors.try_place(Holder::Unknown).is_none());
        let mut asked = [ask(false), ask(false), ask(true)];
        assert!(asked.iter_mut().all(|ask| ask.now_or_never().is_none()));
        // No more than half as many as there may be newcomers wait for long.
        assert_eq!(ask(false).await.err(), Some(Full::All { max: 1 }));
        drop(place);
        let [first, second, back] = asked;
        let place = back.now_or_never().expect("its turn").expect("a place");
        drop(first);
        drop(place);
        // What was given beyond is paid back before others have anything.
        let mut second = second;
        assert!(second.as_mut().now_or_never().is_none());
        drop(beyond);
        let place = second.await.expect("its turn");
        // None is free in time.
        assert_eq!(ask(false).await.err(), Some(Full::All { max: 1 }));
        drop(place);
        let place = doors.try_place(Holder::Unknown);
        assert!(place.is_some());
        let reading = doors.meter.read();
        assert_eq!((reading.full, reading.refused_connections), (5, 2));
    }
}
