//! The one task of a connection. It owns the socket and the protocol state, polls handlers in
//! place and writes once a turn.

mod admission;
mod alarm;
mod answer;
mod bulk;
mod calls;
mod claim;
mod command;
mod ending;
mod failing;
mod input;
mod lease;
mod look;
mod memory;
mod opened;
mod pace;
mod produce;
mod pushes;
mod receive;
mod redial;
mod serving;
mod session;
mod slots;
mod spare;
mod transmit;
mod turn;
mod waiting;
mod wire;

use std::{io, sync::Arc, time::Instant};

use bytes::Bytes;
use rsock_proto::{CloseReason, Config, Connection, Fragmented, IoError, Window, frame};
use tokio::sync::oneshot;

use crate::{
    connection::{
        Mailbox, Newcomer,
        handle::{Accept, Handle},
        producers::guard,
        sessions::Sessions,
    },
    error::Error,
    memory::MemoryBudget,
    meter::{ConnectionMeter, Meter},
    tap::{Direction, FrameTap},
    transport::socket::Transport,
};
#[cfg(feature = "tracing")]
use crate::{
    transport::{Framing, foreign::foreign},
    warnings::Kind,
};
use admission::{Admission, STOPPING};
use alarm::Alarm;
use bulk::Bulk;
use calls::Calls;
use ending::{Ending, Phase};
use memory::Memory;
use serving::Serving;
use session::Session;
use slots::Slots;
use waiting::Waiting;
use wire::Wire;

pub(crate) use lease::Leases;
pub(crate) use opened::Opened;
pub(crate) use pace::Pace;
pub(crate) use redial::Redialler;

/// The smallest and largest read.
const READ_SIZES: std::ops::RangeInclusive<usize> = (8 << 10)..=(256 << 10);
/// Slices given to one `writev`.
const WRITE_SLICES: usize = 64;
/// Bytes that producers yield before they are encoded, give or take an item.
const BATCH_BYTES: usize = 64 << 10;
/// Bytes one producer yields before the others, give or take an item.
const SHARE_BYTES: usize = 16 << 10;
/// Streams with more to write than the socket takes, beside which the producers of others are still
/// polled: what those yield then waits too, so this bounds how much that can be.
const MAX_OVERTAKEN: usize = 16;
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
    /// The leases that the peer is given, where they are agreed upon, until the driver has them.
    pub(crate) lease: Option<Box<Leases>>,
    /// A server's resumable sessions.
    pub(crate) sessions: Option<Arc<Sessions>>,
    /// The memory it shares with other connections.
    pub(crate) memory: Arc<MemoryBudget>,
    /// Bytes that may wait for its consumers before nothing more is read.
    pub(crate) max_waiting_bytes: usize,
    /// How fast the peer is read, if that is bounded.
    pub(crate) pace: Option<Box<Pace>>,
    /// The routes of open streams, if they are remembered.
    pub(crate) opened: Option<Box<Opened>>,
}

/// A connection, in its parts. Each is a noun with what belongs to it; what takes more than one of them
/// is a method of the driver, in the file of the one it is about.
pub(crate) struct Driver {
    wire: Wire,
    connection: Connection,
    mailbox: Arc<Mailbox>,
    waiting: Waiting,
    slots: Slots,
    serving: Serving,
    calls: Calls,
    memory: Memory,
    bulk: Bulk,
    admission: Admission,
    session: Session,
    ending: Ending,
    alarm: Alarm,
    meter: ConnectionMeter,
    options: DriverOptions,
}

/// Tells a handle what has become of its command.
type Answer = oneshot::Sender<Result<(), Error>>;

impl Driver {
    pub(crate) fn client(
        transport: Transport,
        setup: frame::Setup,
        redialler: Option<Box<Redialler>>,
        responder: Option<Arc<dyn Handle>>,
        mailbox: Arc<Mailbox>,
        options: DriverOptions,
    ) -> Self {
        let connection = Connection::client(setup, Arc::clone(&options.config), now());
        let session = redialler.map_or(Session::None, Session::Client);
        let mut driver =
            Self::new(transport, connection, Admission::none(), session, mailbox, options);
        driver.serving.responder = responder;
        driver.tell_prompt();
        driver.grant_lease(now());
        driver.probe();
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
        let began = newcomer.as_ref().map_or_else(now, |newcomer| newcomer.since().into_std());
        let connection = Connection::server(Arc::clone(&options.config), began);
        let admission = Admission::new(accept, newcomer);
        Self::new(transport, connection, admission, Session::None, mailbox, options)
    }

    fn new(
        transport: Transport,
        connection: Connection,
        admission: Admission,
        session: Session,
        mailbox: Arc<Mailbox>,
        mut options: DriverOptions,
    ) -> Self {
        let lease = options.lease.take();
        Self {
            wire: Wire::new(transport, &options),
            connection,
            mailbox,
            waiting: Waiting::default(),
            slots: Slots::default(),
            serving: Serving { lease, ..Serving::default() },
            calls: Calls::default(),
            memory: Memory::new(&options.memory),
            bulk: Bulk::default(),
            admission,
            session,
            ending: Ending::default(),
            alarm: Alarm::default(),
            meter: options.meter.connection(),
            options,
        }
    }
}

impl Drop for Driver {
    /// A driver dropped in mid-life, as when a runtime shuts down, still ends what hangs on it.
    fn drop(&mut self) {
        // What is left to write goes nowhere.
        self.wire.unreachable = true;
        self.close_mailbox(&CloseReason::Disconnected);
        while self.fail_some() {}
        // Those who were told in a turn that a panic cut short.
        self.slots.wake_consumers();
    }
}

/// The runtime's clock, so that tests can pause it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Drops a user's value; a panic in its destructor is caught.
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
fn failure(error: io::Error) -> Option<IoError> {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error.kind() {
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof => None,
        _ => Some(error.into()),
    }
}

#[cfg(feature = "tracing")]
fn log_end(
    DriverOptions { peer, meter, .. }: &DriverOptions,
    mailbox: &Mailbox,
    wire: &mut Wire,
    reason: &CloseReason,
    fragmented: Option<Fragmented>,
) {
    use rsock_proto::Violation;

    let (peer, kind): (&str, _) = (peer, Kind::Violation);
    let (conn, subject) = mailbox.known();
    match reason {
        CloseReason::Violation(violation) if meter.admits_warning(kind, peer, now()) => {
            let code = violation.code();
            // What is too long for the first frame is still there.
            let advice = match violation {
                Violation::FrameTooLong { .. } | Violation::FirstFrameTooLong { .. }
                    if matches!(wire.framing, Framing::LengthPrefixed) =>
                {
                    foreign(wire.input.bytes())
                }
                _ => None,
            };
            match advice {
                Some(advice) => {
                    tracing::warn!(conn, peer, subject, %code, "connection ended: {advice}");
                }
                None => tracing::warn!(conn, peer, subject, %code, "connection ended: {violation}"),
            }
        }
        reason => match fragmented {
            Some(fragmented) if meter.admits_warning(Kind::Fragments, peer, now()) => {
                tracing::warn!(
                    conn,
                    peer,
                    subject,
                    "connection ended: {reason}; right before, {fragmented}: if the peer cannot take \
                     fragments, a larger Config::fragment_bytes (rsockd --mtu) sends what fits one \
                     frame whole"
                );
            }
            _ => tracing::debug!(conn, peer, subject, "connection ended: {reason}"),
        },
    }
}

#[cfg(not(feature = "tracing"))]
fn log_end(_: &DriverOptions, _: &Mailbox, _: &mut Wire, _: &CloseReason, _: Option<Fragmented>) {}

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
