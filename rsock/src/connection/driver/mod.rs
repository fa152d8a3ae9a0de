//! The one task of a connection. It owns the socket and the protocol state, polls handlers in
//! place and writes once a turn.

mod answer;
mod bulk;
mod fail;
mod input;
mod lease;
mod memory;
mod obey;
mod receive;
mod serve;
mod session;
mod spare;
mod transmit;
mod turn;

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rsock_proto::{CloseReason, Config, Connection, SendBuf, StreamKey, Window, frame};
use tokio::{sync::oneshot, time::Sleep};

#[cfg(feature = "tracing")]
use crate::warnings::Kind;
use crate::{
    acceptor::Accept,
    connection::{
        Command, Feeder, Mailbox, Newcomer, Permit,
        doors::{Doors, Place},
        producers::{Producer, SlotWakers, guard},
        sessions::{Claim, Sessions},
        shares::Holder,
    },
    error::Error,
    lease::LeasePolicy,
    memory::{Account, BlockCharge, MemoryBudget},
    meter::{ConnectionMeter, Meter},
    responder::{BoxFuture, Handle},
    tap::{Direction, FrameTap},
    transport::{
        Framing,
        socket::{Socket, Transport},
    },
};
use bulk::Bulk;
use fail::{Failing, Pings};
use input::Input;
use lease::Leases;
use memory::{Pause, Stalled};
use session::Returning;

pub(crate) use session::ClientSession;

/// Why nobody is let in when the service stops.
const STOPPING: &str = "the service is stopping";
/// Why somebody is not who was about to be.
const TURNED_AWAY: &str = "too many connections are being set up; try again later";
/// How long the last words to a peer that broke the protocol may take to leave.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);
/// How long a peer may take nothing of what is left at a regular end.
const STALL_LIMIT: Duration = Duration::from_secs(10);
/// How long to wait for the peer to close after us, so that what we sent is not reset away; and for
/// the end of what it has sent, where nothing can be written any more.
const LINGER_LIMIT: Duration = Duration::from_millis(200);
/// The smallest and largest read.
const READ_SIZES: std::ops::RangeInclusive<usize> = (8 << 10)..=(256 << 10);
/// Slices given to one `writev`.
const WRITE_SLICES: usize = 64;
/// Bytes that producers yield before they are encoded, give or take an item.
const BATCH_BYTES: usize = 64 << 10;
/// Bytes one producer yields before the others, give or take an item.
const SHARE_BYTES: usize = 16 << 10;
/// The bytes that an item counts beside its own, so that empty ones come to an end as well.
const ITEM_COST: usize = 32;
/// Streams with more to write than the socket takes, beside which the producers of others are still
/// polled: what those yield then waits too, so this bounds how much that can be.
const MAX_OVERTAKEN: usize = 16;
/// METADATA_PUSH frames that wait for their handler; more are dropped and counted (MDP-08).
const MAX_WAITING_PUSHES: usize = 256;
/// Bytes of those.
const MAX_WAITING_PUSH_BYTES: usize = 1 << 20;
/// The slot number by which the handler of metadata pushes is woken.
const PUSH_SLOT: usize = usize::MAX;

/// The parts that both sides' drivers are made of.
pub(crate) struct DriverOptions {
    pub(crate) config: Arc<Config>,
    /// How many items the payloads of an inbound channel keep outstanding.
    pub(crate) window: Window,
    pub(crate) meter: Arc<Meter>,
    pub(crate) tap: Option<FrameTap>,
    /// The address of the peer's present transport, for logs.
    pub(crate) peer: Arc<str>,
    /// The policy of what the peer is allowed, where leases are agreed upon.
    pub(crate) lease: Option<Box<dyn LeasePolicy>>,
    /// A server's resumable sessions.
    pub(crate) sessions: Option<Arc<Sessions>>,
    /// The memory it shares with other connections.
    pub(crate) memory: Arc<MemoryBudget>,
    /// Bytes that may wait for its consumers before nothing more is read.
    pub(crate) max_waiting_bytes: usize,
}

/// The handler that serves a connection, and its place where there are doors.
type Accepted = (Arc<dyn Handle>, Option<Place>);

pub(crate) struct Driver {
    socket: Socket,
    framing: Framing,
    connection: Connection,
    input: Input,
    /// The memory that the connection has drawn from the budget of all.
    account: Account,
    /// Requests are refused because there is no memory at all.
    refuses: bool,
    /// It may hold no more than the engine was told.
    is_limited: bool,
    /// Producers were polled beside a long transfer since the task was woken.
    has_overtaken: bool,
    bulk: Bulk,
    /// Present where what is held waits for the peer.
    stalled: Option<Stalled>,
    /// Handlers yield nothing until then, when there may be memory for it.
    barren_until: Option<Instant>,
    /// Much has come since what is held was counted.
    unsettled: bool,
    /// Nothing is read for now.
    pause: Option<Pause>,
    /// Bytes that wait for consumers who cannot be made to take them, and for which nobody waits.
    stuck_bytes: usize,
    /// How the transport has ended, which was seen behind what was read last.
    unread_end: Option<io::Result<()>>,
    output: SendBuf,
    mailbox: Arc<Mailbox>,
    /// Taken from the mailbox; kept to reuse their memory.
    commands: Vec<Command>,
    woken: Vec<usize>,
    /// The commands given while there was nobody to ask: before a server's SETUP was accepted, or
    /// while a client sets up a fresh session.
    held: VecDeque<Command>,
    /// Requests that wait for a lease, in their order; each holds a permit.
    leaseless: VecDeque<Command>,
    /// Some of those that wait have been cancelled.
    has_cancelled: bool,
    lease: Option<Box<Leases>>,
    /// A server's resumable session.
    claim: Option<Box<Claim>>,
    /// The holder of the connection, and the doors it came through.
    holder: Holder,
    doors: Option<Arc<Doors>>,
    /// A server's connection that nobody has accepted yet.
    newcomer: Option<Box<Newcomer>>,
    /// Among the connections there may be: a session without a transport has none.
    place: Option<Place>,
    /// RESUME came first, and what is on its way to the session.
    returning: Option<Box<Returning>>,
    /// The service stops, and whoever has not been accepted will not be.
    is_stopping: bool,
    /// A client's session that can be resumed.
    client_session: Option<Box<ClientSession>>,
    accept: Option<Arc<dyn Accept>>,
    accepting: Option<BoxFuture<Result<Accepted, Error>>>,
    responder: Option<Arc<dyn Handle>>,
    /// By stream index.
    slots: Vec<Slot>,
    slot_wakers: SlotWakers,
    push_waker: SlotWakers,
    pushes: VecDeque<Bytes>,
    /// Bytes of them.
    push_bytes: usize,
    pings: Pings,
    pinged: u64,
    /// The calls of a connection that is over, or of a session before this one, which are being
    /// ended: three of them at most.
    failing: Vec<Failing>,
    /// Metadata pushes of ours that are not in the send buffer yet; each holds a permit.
    unsent_pushes: VecDeque<(Answer, Permit)>,
    /// Fire-and-forgets that were said to be on their way and are not: to be counted.
    lost: u64,
    /// Writing to the transport has failed, and it is lost when its end is read, or at this time. What
    /// was unread may say why.
    write_failure: Option<Box<(io::Error, Instant)>>,
    /// Permits of requests that are over, to be given back at the end of the turn.
    unused_permits: usize,
    /// Bytes of answers that were given at once in this turn.
    answered_bytes: usize,
    pushing: Option<BoxFuture<()>>,
    /// Slots whose producers are to be polled, each once.
    ready: VecDeque<usize>,
    /// Consumers to be woken when the burst is over.
    consumers: Vec<Waker>,
    timer: Option<Pin<Box<Sleep>>>,
    /// When `timer` fires; it may be earlier than needed, never later.
    armed: Option<Instant>,
    /// The waker that `timer` wakes.
    timed: Option<Waker>,
    /// When the protocol engine wants to hear of the time, as of the last turn.
    deadline: Option<Instant>,
    phase: Phase,
    /// Others were let run before this poll.
    deferred: bool,
    /// The sockets have been asked since something fell due.
    listened: bool,
    /// It ended as the application, or the peer's, wanted it.
    regular_end: bool,
    /// The transport is gone: nobody is left to be written to.
    unreachable: bool,
    meter: ConnectionMeter,
    options: DriverOptions,
}

/// ```text
/// Running ──connection closed──▶ Flushing ──all written──▶ Lingering ──peer closes, time is up──▶ end
/// Running ──transport gone─────────────────────────────────────────────────────────────────────▶ end
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Running,
    Flushing { until: Instant },
    Lingering { until: Instant },
}

/// Tells a handle what has become of its command.
type Answer = oneshot::Sender<Result<(), Error>>;

/// The parts that the driver keeps for a stream; empty between tenants.
#[derive(Default)]
struct Slot {
    key: Option<StreamKey>,
    producer: Option<Producer>,
    inlet: Option<Feeder>,
    /// We opened it.
    permit: Option<Permit>,
    /// Of the block that holds the peer's request.
    charge: Option<Arc<BlockCharge>>,
    /// In `ready`.
    queued: bool,
}

impl Driver {
    pub(crate) fn client(
        transport: Transport,
        setup: frame::Setup,
        session: Option<Box<ClientSession>>,
        responder: Option<Arc<dyn Handle>>,
        mailbox: Arc<Mailbox>,
        options: DriverOptions,
    ) -> Self {
        let connection = Connection::client(setup, Arc::clone(&options.config), now());
        let mut driver = Self::new(transport, connection, mailbox, options);
        driver.client_session = session;
        driver.responder = responder;
        driver.tell_prompt();
        driver.grant_lease(now());
        driver
    }

    /// `newcomer` is what the connection is before it is accepted; a byte stream of the caller's own is
    /// let in by the caller.
    pub(crate) fn server(
        transport: Transport,
        accept: Arc<dyn Accept>,
        newcomer: Option<Box<Newcomer>>,
        mailbox: Arc<Mailbox>,
        options: DriverOptions,
    ) -> Self {
        let connection = Connection::server(Arc::clone(&options.config), now());
        let mut driver = Self::new(transport, connection, mailbox, options);
        driver.accept = Some(accept);
        driver.newcomer = newcomer;
        if let Some(newcomer) = &driver.newcomer {
            driver.holder = newcomer.holder();
            driver.doors = Some(Arc::clone(newcomer.doors()));
        }
        driver
    }

    fn new(
        transport: Transport,
        connection: Connection,
        mailbox: Arc<Mailbox>,
        mut options: DriverOptions,
    ) -> Self {
        let Transport { socket, framing, input, .. } = transport;
        Self {
            socket,
            output: output(&framing, &options),
            framing,
            connection,
            input: Input::new(input, Arc::clone(&options.memory)),
            account: Account::new(Arc::clone(&options.memory)),
            refuses: false,
            is_limited: false,
            has_overtaken: false,
            bulk: Bulk::default(),
            stalled: None,
            barren_until: None,
            unsettled: false,
            pause: None,
            stuck_bytes: 0,
            unread_end: None,
            mailbox,
            commands: Vec::new(),
            woken: Vec::new(),
            held: VecDeque::new(),
            leaseless: VecDeque::new(),
            has_cancelled: false,
            lease: options.lease.take().map(|policy| Box::new(Leases::new(policy))),
            claim: None,
            holder: Holder::Unknown,
            doors: None,
            newcomer: None,
            place: None,
            returning: None,
            is_stopping: false,
            client_session: None,
            accept: None,
            accepting: None,
            responder: None,
            slots: Vec::new(),
            slot_wakers: SlotWakers::default(),
            push_waker: SlotWakers::default(),
            pushes: VecDeque::new(),
            push_bytes: 0,
            pings: Pings::new(),
            failing: Vec::new(),
            pinged: 0,
            unsent_pushes: VecDeque::new(),
            lost: 0,
            write_failure: None,
            unused_permits: 0,
            answered_bytes: 0,
            pushing: None,
            ready: VecDeque::new(),
            consumers: Vec::new(),
            timer: None,
            armed: None,
            timed: None,
            deadline: None,
            phase: Phase::Running,
            deferred: false,
            listened: false,
            regular_end: false,
            unreachable: false,
            meter: options.meter.connection(),
            options,
        }
    }

    /// A request is over. Whoever waits for its permit has it at the end of the turn.
    fn give_back(&mut self, permit: Permit) {
        let Permit { .. } = permit;
        self.unused_permits += 1;
    }
}

impl Drop for Driver {
    /// A driver dropped in mid-life, as when a runtime shuts down, still ends what hangs on it.
    fn drop(&mut self) {
        self.close_mailbox(&CloseReason::Disconnected);
        while self.fail_some() {}
        // Those who were told in a turn that a panic cut short.
        for consumer in self.consumers.drain(..) {
            consumer.wake();
        }
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

/// The runtime's clock, so that tests can pause it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Runs the destructors of something of a user's.
fn drop_guarded<T>(value: T) {
    // What a destructor has to say in its panic is said by the panic hook.
    let _ = guard(|| drop(value));
}

/// Shows a frame to a user's tap.
fn show(tap: &FrameTap, peer: &str, direction: Direction, frame: Bytes) {
    // What a tap has to say in its panic is said by the panic hook.
    let _ = guard(|| tap(peer, direction, frame));
}

/// A peer that resets or closes is gone, not a failure of the transport.
fn failure(error: &io::Error) -> Option<Arc<str>> {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error.kind() {
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof => None,
        _ => Some(error.to_string().into()),
    }
}

#[cfg(feature = "tracing")]
fn log_end(DriverOptions { peer, meter, .. }: &DriverOptions, reason: &CloseReason) {
    let (peer, kind): (&str, _) = (peer, Kind::Violation);
    match reason {
        CloseReason::Violation(violation) if meter.admits_warning(kind, peer, now()) => {
            tracing::warn!(peer, code = %violation.code(), "connection ended: {violation}");
        }
        reason => tracing::debug!(peer, "connection ended: {reason}"),
    }
}

#[cfg(not(feature = "tracing"))]
fn log_end(_: &DriverOptions, _: &CloseReason) {}

#[cfg(test)]
mod tests {
    use super::Driver;

    /// It is half of what an idle connection takes, and most are idle most of the time. The next size that
    /// jemalloc has is a fifth larger.
    #[test]
    fn a_driver_takes_no_more_than_2560_bytes() {
        let size = size_of::<Driver>();
        assert!(size <= 2_560, "{size}: what few connections need belongs in a box");
    }
}
