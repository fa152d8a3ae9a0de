//! The mailbox in which handles leave commands for the driver, and learn how the connection is.
//!
//! One lock, held for a push or a swap, never while anything of a user's runs. Bounds: a request
//! holds a permit until its stream ends, a stream is listed at most once for its demand, a producer at
//! most once as ready, a group of them once until it is taken, and who takes the peer's request watches its demand once.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, OnceLock, PoisonError, atomic::Ordering::Relaxed},
    task::Waker,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rsock_proto::{
    CloseReason, ErrorCode, Interaction, Payload, Side,
    frame::{self, StreamId},
    metadata::{Features, Notice},
};
use tokio::sync::{Semaphore, TryAcquireError, oneshot, watch};

use crate::{
    boxed::BoxStream,
    connection::{
        doors::{Place, TurnAway},
        inlet::{Feeder, Inlet, WaitingBytes},
        snapshot::Snapshot,
    },
    demand::Grants,
    error::Error,
    observe::Observer,
    state::ConnectionState,
    sync::{AtomicU64, Mutex, MutexGuard},
    transport::socket::Transport,
};

/// The right to have one request open. Nothing gives it back by itself: the driver does, when the
/// request is over. Beyond the end of the connection it is worth nothing.
#[derive(Debug)]
#[must_use = "the driver gives it back"]
pub(crate) struct Permit(());

/// An order of a handle's, which the driver carries out.
pub(crate) enum Command {
    /// Open a stream.
    Request {
        interaction: Interaction,
        payload: Payload,
        /// The first request-n of a stream or channel.
        n: u32,
        /// The inlet that the answer goes to; a fire-and-forget has none.
        inlet: Option<Feeder>,
        /// The items that a channel sends after its first payload.
        outgoing: Option<Box<Outgoing>>,
        permit: Permit,
    },
    /// Tell how many items the peer has asked for of this stream, now and whenever it asks for more.
    Watch { stream: StreamId, grants: Grants },
    /// Look at this inlet: its consumer has granted credit or lost interest.
    Demanded(Arc<Inlet>),
    /// Send a KEEPALIVE, and tell when it comes back.
    Ping { answer: oneshot::Sender<Result<(), Error>>, permit: Permit },
    /// Send METADATA_PUSH, and tell when it is in the send buffer, if somebody waits for that.
    Push { metadata: Bytes, caller: Option<Caller> },
    /// Ping the peer by what the transport has for that, if nothing has gone over it since this was said last.
    Beat,
    /// Tolerate no more silence of the peer than this.
    Shorten(Duration),
    /// Say how the connection is, with so many of its streams at most.
    Look { max_streams: usize, answer: oneshot::Sender<Box<Snapshot>> },
    /// Take no new requests, end with the last stream.
    Drain,
    /// The same of one that is as old as it may be.
    Retire,
    /// End now.
    Close,
    /// End now, and tell the peer why.
    End(Arc<str>),
}

/// A handle that waits for what has become of its command, and the permit it holds.
pub(crate) type Caller = (oneshot::Sender<Result<(), Error>>, Permit);

/// The items that a channel of ours sends, and who is told how many the responder asks for.
pub(crate) struct Outgoing {
    pub(crate) items: BoxStream<Result<Payload, Error>>,
    pub(crate) grants: Option<Grants>,
}

impl Command {
    /// Something new is asked of the peer.
    pub(crate) fn asks(&self) -> bool {
        matches!(self, Self::Request { .. } | Self::Ping { .. } | Self::Push { .. })
    }

    /// A request whose caller has gone.
    pub(crate) fn is_cancelled(&self) -> bool {
        matches!(self, Self::Request { inlet: Some(inlet), .. } if inlet.is_cancelled())
    }

    /// Something of which its handle was told that it is on its way.
    pub(crate) fn is_promised(&self) -> bool {
        matches!(self, Self::Request { interaction: Interaction::FireAndForget, inlet: None, .. })
    }
}

/// A client that asks to take up its session on another transport.
pub(crate) struct Adoption {
    pub(crate) resume: frame::Resume,
    pub(crate) transport: Transport,
    /// The place among the connections that a session without a transport needs.
    pub(crate) place: Option<Place>,
    /// The way back of the transport if it is not taken.
    pub(crate) refuse: oneshot::Sender<Refused>,
}

/// A transport that the session was not taken up on, and what its client is to be told.
pub(crate) struct Refused {
    pub(crate) transport: Transport,
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
}

/// Transports that may wait for the driver to look at them. Each is judged by itself: one that comes
/// later may be asked for by somebody else.
const MAX_ADOPTIONS: usize = 8;

/// Producers that are woken together.
pub(crate) trait Group: Send + Sync {
    /// Gives the slots of all that wait in it, and tells the others.
    fn take(&self, go_on: &mut dyn FnMut(usize));
}

/// The slot number by which the driver is told of groups that were woken.
pub(crate) const GROUP_SLOT: usize = usize::MAX - 1;

pub(crate) struct Mailbox {
    inner: Mutex<Inner>,
    permits: Semaphore,
    state: watch::Sender<ConnectionState>,
    /// Made when somebody asks, or there is a lease: most connections never have one.
    lease: OnceLock<watch::Sender<Option<frame::Lease>>>,
    /// In nanoseconds; 0 for none yet.
    round_trip: AtomicU64,
    /// Of the requests of both sides; most connections have none.
    observer: OnceLock<Box<Observer>>,
    /// The number of the connection; 0 until it has one.
    connection_id: AtomicU64,
    /// The name of its peer, once somebody has said it: for logs.
    subject: OnceLock<Arc<str>>,
    waiting: WaitingBytes,
}

#[derive(Default)]
struct Inner {
    commands: Vec<Command>,
    /// Slots whose producers may go on.
    ready: Vec<usize>,
    /// Groups of which all may go on; `GROUP_SLOT` is in `ready` if there are any.
    groups: Vec<Arc<dyn Group>>,
    /// Transports for the session, at most `MAX_ADOPTIONS`: of those that are taken, the newest is
    /// kept (H117).
    adoptions: VecDeque<Box<Adoption>>,
    driver: Option<Waker>,
    /// Fewer bytes wait than did when the driver paused.
    nudged: bool,
    /// It is the turn of the driver, who waits in line.
    called: bool,
    /// The driver will look here before it sleeps; waking it would be one wake too many.
    awake: bool,
    /// Whether what is sent goes to the transport in the driver's next turn: there is one, and
    /// nothing has to be waited for.
    is_prompt: bool,
    /// Nothing new is asked, for this reason: it is over, or ends with the streams that are open.
    refusing: Option<CloseReason>,
    /// It is over: nothing is taken at all.
    closed: bool,
    /// It is to end now: a peer that does not take what is left to write is not waited for.
    hurried: bool,
    /// The features that the peer has declared: it is pushed what it heeds.
    features: Features,
    /// News of the end of our service, until the peer has said that it heeds them.
    drain_notice: Option<Bytes>,
    /// There from the first on: most connections are never silent for long.
    pings: Option<Box<Pings>>,
}

/// The pings of a transport that has some of its own.
#[derive(Default)]
struct Pings {
    /// The time at which one left that was not answered yet.
    left: Option<Instant>,
    /// How long the last one took there and back.
    round_trip: Option<Duration>,
}

impl Inner {
    /// The driver is woken by this from here on.
    fn listens(&mut self, waker: &Waker) {
        match &mut self.driver {
            Some(driver) => driver.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }
}

/// Nothing that happens later explains the end better.
fn is_said_by_the_peer(reason: &CloseReason) -> bool {
    matches!(reason, CloseReason::Error { by: Side::Peer, .. })
}

impl Mailbox {
    /// A mailbox for at most `max_requests` open requests; more wait for a permit.
    pub(crate) fn new(max_requests: usize, state: ConnectionState) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::default(),
            permits: Semaphore::new(max_requests.min(Semaphore::MAX_PERMITS)),
            state: watch::Sender::new(state),
            lease: OnceLock::new(),
            round_trip: AtomicU64::new(0),
            observer: OnceLock::new(),
            connection_id: AtomicU64::new(0),
            subject: OnceLock::new(),
            waiting: WaitingBytes::new(),
        })
    }

    /// Has requests observed from here on.
    pub(crate) fn observe(&self, observer: Observer) {
        // A connection is given it when it is made.
        let _ = self.observer.set(Box::new(observer));
    }

    #[inline]
    pub(crate) fn observer(&self) -> Option<&Observer> {
        self.observer.get().map(|observer| &**observer)
    }

    /// The connection has this number.
    pub(crate) fn number(&self, connection_id: u64) {
        self.connection_id.store(connection_id, Relaxed);
    }

    /// The peer is somebody of this name.
    pub(crate) fn identify(&self, subject: Arc<str>) {
        // It is said once.
        let _ = self.subject.set(subject);
    }

    /// The number of the connection and the name of its peer, as far as they are known: for logs.
    #[allow(dead_code, reason = "not every build has a log")]
    pub(crate) fn known(&self) -> (Option<u64>, Option<&str>) {
        let connection_id = self.connection_id.load(Relaxed);
        ((connection_id > 0).then_some(connection_id), self.subject.get().map(|name| &**name))
    }

    /// No user code runs under the lock, so a poisoned one still holds whole values.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a permit that is free.
    ///
    /// # Errors
    /// None is, or the connection has ended.
    pub(crate) fn try_permit(&self) -> Result<Permit, TryAcquireError> {
        self.permits.try_acquire()?.forget();
        Ok(Permit(()))
    }

    /// Waits for a permit; `None` if the connection has ended. A wait that is dropped takes none.
    pub(crate) async fn permit(&self) -> Option<Permit> {
        self.permits.acquire().await.ok()?.forget();
        Some(Permit(()))
    }

    /// Hands a command to the driver.
    ///
    /// # Errors
    /// The reason, if the connection has ended, or something new is asked of one that is about to.
    pub(crate) fn send(&self, command: Command) -> Result<(), CloseReason> {
        self.push(self.lock(), command)
    }

    /// Hands a fire-and-forget to the driver if that has it on its way in its next turn; gives it back
    /// if it would have to wait.
    ///
    /// # Errors
    /// As for `send`.
    #[inline]
    pub(crate) fn tell(
        &self,
        payload: Payload,
        permit: Permit,
    ) -> Result<Option<(Payload, Permit)>, CloseReason> {
        let inner = self.lock();
        if !inner.is_prompt && inner.refusing.is_none() {
            return Ok(Some((payload, permit)));
        }
        let interaction = Interaction::FireAndForget;
        let command =
            Command::Request { interaction, payload, n: 0, inlet: None, outgoing: None, permit };
        self.push(inner, command).map(|()| None)
    }

    #[inline]
    fn push(&self, mut inner: MutexGuard<'_, Inner>, command: Command) -> Result<(), CloseReason> {
        if let Some(reason) = &inner.refusing
            && (inner.closed || command.asks())
        {
            return Err(reason.clone());
        }
        if inner.commands.capacity() == 0 {
            // Most connections ask one thing at a time.
            inner.commands.reserve_exact(1);
        }
        inner.commands.push(command);
        Self::wake(inner);
        Ok(())
    }

    /// Has the driver end the connection, with its last stream or now: nothing new is taken from here
    /// on, and who waits to ask is told at once. Where it is to end now, a peer that does not take what
    /// is left to write is not waited for.
    pub(crate) fn end(&self, now: bool) {
        let mut inner = self.lock();
        inner.hurried |= now;
        if inner.closed {
            return Self::wake(inner);
        }
        drop(inner);
        self.end_by(if now { Command::Close } else { Command::Drain });
    }

    /// Has the driver end the connection with its last stream, because it is as old as it may be.
    pub(crate) fn retire(&self) {
        self.end_by(Command::Retire);
    }

    fn end_by(&self, command: Command) {
        self.refuse(&CloseReason::Finished(Side::Local));
        // One that has ended meanwhile needs no ending.
        let _ = self.send(command);
    }

    /// The peer has declared these features.
    pub(crate) fn declared(&self, features: Features) {
        let mut inner = self.lock();
        inner.features = features;
        if features.has(Features::DRAIN)
            && let Some(metadata) = inner.drain_notice.take()
        {
            self.push_notice(inner, metadata);
        }
    }

    /// Has news pushed to the peer if it heeds them, and says whether it does.
    pub(crate) fn notify(&self, notice: &Notice) -> bool {
        let inner = self.lock();
        let heeds = inner.features.has(notice.needs());
        if heeds {
            self.push_notice(inner, notice.encode());
        }
        heeds
    }

    /// Has news of the end of our service pushed to the peer, and says whether it heeds them; a peer of which
    /// that is not known yet is pushed them when it is.
    pub(crate) fn notify_drain(&self, notice: &Notice) -> bool {
        let heeds = self.notify(notice);
        if !heeds {
            let mut inner = self.lock();
            // It may have been said meanwhile.
            if inner.features.has(Features::DRAIN) {
                self.push_notice(inner, notice.encode());
                return true;
            }
            inner.drain_notice = Some(notice.encode());
        }
        heeds
    }

    fn push_notice(&self, inner: MutexGuard<'_, Inner>, metadata: Bytes) {
        // Who has been told of the end already needs no notice.
        let _ = self.push(inner, Command::Push { metadata, caller: None });
    }

    /// Whether the peer heeds news of the end of our service.
    pub(crate) fn heeds_drain(&self) -> bool {
        self.lock().features.has(Features::DRAIN)
    }

    /// Has a silent peer pinged.
    pub(crate) fn beat(&self) {
        // One that has ended is not to be kept.
        let _ = self.send(Command::Beat);
    }

    /// Has the driver say how the connection is, with so many of its streams at most; `None` if it is over.
    pub(crate) fn look(&self, max_streams: usize) -> Option<oneshot::Receiver<Box<Snapshot>>> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Look { max_streams, answer }).ok().map(|()| answered)
    }

    /// Nothing new is asked of the peer from here on, for this reason. Who waits to ask is told.
    pub(crate) fn refuse(&self, reason: &CloseReason) {
        let mut inner = self.lock();
        if inner.refusing.is_some() {
            return;
        }
        inner.refusing = Some(reason.clone());
        drop(inner);
        self.permits.close();
        self.publish(ConnectionState::Draining(reason.clone()));
    }

    /// Tells how the connection is, unless that it is about to end has been told.
    fn publish(&self, state: ConnectionState) {
        self.state.send_if_modified(|before| {
            let goes_on =
                !matches!(before, ConnectionState::Draining(_) | ConnectionState::Closed(_));
            if goes_on {
                *before = state;
            }
            goes_on
        });
    }

    /// Hands the driver a transport for its session.
    ///
    /// # Errors
    /// Gives it back if the connection has ended, or as many wait as may.
    pub(crate) fn adopt(&self, adoption: Box<Adoption>) -> Result<(), Box<Adoption>> {
        let mut inner = self.lock();
        if inner.closed || inner.adoptions.len() >= MAX_ADOPTIONS {
            return Err(adoption);
        }
        inner.adoptions.push_back(adoption);
        Self::wake(inner);
        Ok(())
    }

    /// A producer's waker was called.
    pub(crate) fn ready(&self, slot: usize) {
        let mut inner = self.lock();
        if !inner.closed {
            inner.ready.push(slot);
            Self::wake(inner);
        }
    }

    /// A group was woken; false if the connection is over.
    pub(crate) fn ready_group(&self, group: Arc<dyn Group>) -> bool {
        let mut inner = self.lock();
        if inner.closed {
            return false;
        }
        inner.groups.push(group);
        if inner.groups.len() == 1 {
            inner.ready.push(GROUP_SLOT);
        }
        Self::wake(inner);
        true
    }

    /// So many bytes do not wait any more.
    #[inline]
    pub(crate) fn released(&self, bytes: usize) {
        if bytes > 0 && self.waiting.release(bytes) {
            self.nudge();
        }
    }

    #[cold]
    fn nudge(&self) {
        let mut inner = self.lock();
        inner.nudged = true;
        Self::wake(inner);
    }

    /// It is the turn of the driver, who waits in line.
    pub(crate) fn call(&self) {
        let mut inner = self.lock();
        inner.called = true;
        Self::wake(inner);
    }

    fn wake(mut inner: MutexGuard<'_, Inner>) {
        if !inner.awake {
            inner.awake = true;
            let driver = inner.driver.take();
            drop(inner);
            if let Some(driver) = driver {
                driver.wake();
            }
        }
    }

    /// Why nothing new is asked any more, if that is so: the connection has ended, or is about to.
    pub(crate) fn refusing(&self) -> Option<CloseReason> {
        self.lock().refusing.clone()
    }

    /// Whether it is over, and takes nothing.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(crate) fn watch(&self) -> watch::Receiver<ConnectionState> {
        self.state.subscribe()
    }

    /// How long the last KEEPALIVE took there and back.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        let nanos = self.round_trip.load(Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    /// How long the last ping of the transport took there and back.
    pub(crate) fn ping_round_trip(&self) -> Option<Duration> {
        self.lock().pings.as_ref().and_then(|pings| pings.round_trip)
    }

    /// The peer's newest lease.
    pub(crate) fn lease(&self) -> watch::Receiver<Option<frame::Lease>> {
        self.lease_sender().subscribe()
    }

    fn lease_sender(&self) -> &watch::Sender<Option<frame::Lease>> {
        self.lease.get_or_init(|| watch::Sender::new(None))
    }

    // ---- the driver's side --------------------------------------------------------------------

    /// The bytes that wait to be consumed.
    #[inline]
    pub(crate) fn waiting(&self) -> &WaitingBytes {
        &self.waiting
    }

    /// Whether the driver, who waits in line, has been called; if not, it is woken then, and now and
    /// then before.
    pub(crate) fn is_called(&self, waker: &Waker) -> bool {
        let mut inner = self.lock();
        inner.listens(waker);
        let Inner { awake, called, .. } = &mut *inner;
        *awake = *called;
        mem::take(called)
    }

    pub(crate) fn has_commands(&self) -> bool {
        !self.lock().commands.is_empty()
    }

    /// Those who wait may have so many permits more.
    pub(crate) fn give_back(&self, permits: usize) {
        self.permits.add_permits(permits);
    }

    /// Takes everything that waits, leaving the emptied vectors to be filled next; false if nothing
    /// does.
    pub(crate) fn take(&self, commands: &mut Vec<Command>, ready: &mut Vec<usize>) -> bool {
        let mut inner = self.lock();
        inner.awake = true;
        if inner.commands.is_empty() && inner.ready.is_empty() {
            if inner.commands.capacity() == 0 {
                // A connection that asks one thing at a time needs memory for one.
                mem::swap(&mut inner.commands, commands);
            }
            return false;
        }
        mem::swap(&mut inner.commands, commands);
        mem::swap(&mut inner.ready, ready);
        true
    }

    /// Takes the groups that were woken.
    pub(crate) fn take_groups(&self) -> Vec<Arc<dyn Group>> {
        mem::take(&mut self.lock().groups)
    }

    /// Gives back what they were taken in, to be filled next.
    pub(crate) fn keep_groups(&self, emptied: Vec<Arc<dyn Group>>) {
        let mut inner = self.lock();
        if inner.groups.capacity() == 0 && !inner.closed {
            inner.groups = emptied;
        }
    }

    pub(crate) fn take_adoption(&self) -> Option<Box<Adoption>> {
        self.lock().adoptions.pop_front()
    }

    /// Goes to sleep until `waker` is called; false if something waits already.
    #[must_use]
    pub(crate) fn sleep(&self, waker: &Waker) -> bool {
        let mut inner = self.lock();
        if !inner.commands.is_empty() || !inner.ready.is_empty() || !inner.adoptions.is_empty() {
            return false;
        }
        if mem::take(&mut inner.nudged) {
            return false;
        }
        inner.awake = false;
        inner.listens(waker);
        true
    }

    /// Whether what is left to write is not to be waited for any more; `waker` is called when it is so.
    pub(crate) fn is_hurried(&self, waker: &Waker) -> bool {
        let mut inner = self.lock();
        inner.listens(waker);
        let Inner { awake, hurried, .. } = &mut *inner;
        *awake = false;
        *hurried
    }

    /// Whether what is sent from here on is on its way in the driver's next turn.
    pub(crate) fn set_prompt(&self, is_prompt: bool) {
        self.lock().is_prompt = is_prompt;
    }

    /// The connection was over, and what it had left to write could not be written. If the peer has
    /// said why it ends, that is why.
    pub(crate) fn cut_short(&self, reason: CloseReason) {
        let said = self.refusing().filter(is_said_by_the_peer);
        self.state.send_replace(ConnectionState::Closed(said.unwrap_or(reason)));
    }

    pub(crate) fn publish_round_trip(&self, round_trip: Duration) {
        let nanos = u64::try_from(round_trip.as_nanos()).unwrap_or(u64::MAX);
        self.round_trip.store(nanos.max(1), Relaxed);
    }

    /// The transport has pinged the peer.
    pub(crate) fn pinged(&self, now: Instant) {
        self.lock().pings.get_or_insert_default().left.get_or_insert(now);
    }

    /// The peer has answered.
    pub(crate) fn answered_ping(&self, now: Instant) {
        if let Some(pings) = &mut self.lock().pings
            && let Some(left) = pings.left.take()
        {
            pings.round_trip = Some(now.saturating_duration_since(left));
        }
    }

    pub(crate) fn leased(&self, lease: Option<frame::Lease>) {
        if lease.is_some() || self.lease.get().is_some() {
            self.lease_sender().send_replace(lease);
        }
    }

    pub(crate) fn established(&self) {
        self.publish(ConnectionState::Established);
    }

    pub(crate) fn connecting(&self) {
        self.publish(ConnectionState::Connecting);
    }

    pub(crate) fn suspended(&self) {
        self.publish(ConnectionState::Suspended);
    }

    pub(crate) fn reconnecting(&self) {
        self.publish(ConnectionState::Reconnecting);
    }

    /// The connection is over: nothing is taken any more, and who waits for a permit is told. What
    /// was not taken yet is given back, to be failed: for what the peer has said before, or for this
    /// reason.
    pub(crate) fn close(&self, reason: &CloseReason) -> Vec<Command> {
        let mut inner = self.lock();
        if inner.closed {
            return Vec::new();
        }
        inner.closed = true;
        if !inner.refusing.as_ref().is_some_and(is_said_by_the_peer) {
            inner.refusing = Some(reason.clone());
        }
        let left = mem::take(&mut inner.commands);
        let adoptions = mem::take(&mut inner.adoptions);
        let groups = mem::take(&mut inner.groups);
        drop(inner);
        drop((adoptions, groups));
        self.permits.close();
        self.state.send_replace(ConnectionState::Closed(reason.clone()));
        left
    }
}

impl TurnAway for Mailbox {
    fn turn_away(&self) {
        self.end(true);
    }
}
