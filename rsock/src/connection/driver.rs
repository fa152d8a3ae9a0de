//! The one task of a connection. It owns the socket and the protocol state, polls handlers in
//! place and writes once a turn.

use std::{
    collections::VecDeque,
    future::Future,
    io::{self, IoSlice},
    mem,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes, BytesMut};
use rsock_proto::{
    CloseReason, Config, Connection, ErrorCode, Event, Interaction, Payload, SendBuf, StreamError,
    StreamKey, frame,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    time::Sleep,
};

use crate::{
    acceptor::{Accept, Setup},
    connection::{
        Command, Inlet, Mailbox, Payloads, Permit,
        budget::Budget,
        producers::{Producer, SlotWakers, Source, Sourced, guard, poll_guarded},
    },
    error::Error,
    meter::{ConnectionMeter, Meter},
    requester::Requester,
    responder::{BoxFuture, BoxStream, Handle},
    tap::{Direction, FrameTap},
    transport::{Framing, Received},
};

/// How long the last words may take to leave.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);
/// How long to wait for the peer to close after us, so that what we sent is not reset away.
const LINGER_LIMIT: Duration = Duration::from_millis(200);
/// The smallest and largest read.
const READ_SIZES: std::ops::RangeInclusive<usize> = (8 << 10)..=(256 << 10);
/// Slices given to one `writev`.
const WRITE_SLICES: usize = 64;
/// METADATA_PUSH frames that wait for their handler; more are dropped and counted (MDP-08).
const MAX_WAITING_PUSHES: usize = 256;
/// The slot number by which the handler of metadata pushes is woken.
const PUSH_SLOT: usize = usize::MAX;

/// What both sides' drivers are made of.
pub(crate) struct DriverOptions {
    pub(crate) config: Arc<Config>,
    /// How many items the payloads of an inbound channel keep outstanding.
    pub(crate) credit: u32,
    pub(crate) meter: Arc<Meter>,
    pub(crate) tap: Option<FrameTap>,
    /// The peer's address, for logs.
    pub(crate) peer: Arc<str>,
}

pub(crate) struct Driver<IO> {
    io: IO,
    framing: Framing,
    connection: Connection,
    input: BytesMut,
    read_size: usize,
    output: SendBuf,
    mailbox: Arc<Mailbox>,
    /// Taken from the mailbox; kept to reuse their memory.
    commands: Vec<Command>,
    woken: Vec<usize>,
    /// What a server's requesters asked for before SETUP was accepted.
    held: Vec<Command>,
    accept: Option<Arc<dyn Accept>>,
    accepting: Option<BoxFuture<Result<Arc<dyn Handle>, Error>>>,
    responder: Option<Arc<dyn Handle>>,
    /// By stream index.
    slots: Vec<Slot>,
    slot_wakers: SlotWakers,
    push_waker: SlotWakers,
    pushes: VecDeque<Bytes>,
    pushing: Option<BoxFuture<()>>,
    /// Slots whose producers are to be polled, each once.
    ready: VecDeque<usize>,
    /// Consumers to be woken when the burst is over.
    consumers: Vec<Waker>,
    timer: Option<Pin<Box<Sleep>>>,
    /// When `timer` fires; it may be earlier than needed, never later.
    armed: Option<Instant>,
    phase: Phase,
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

/// What the driver keeps for a stream; empty between tenants.
#[derive(Default)]
struct Slot {
    key: Option<StreamKey>,
    producer: Option<Producer>,
    inlet: Option<Arc<Inlet>>,
    permit: Option<Permit>,
    /// In `ready`.
    queued: bool,
}

impl<IO: AsyncRead + AsyncWrite + Unpin + Send> Driver<IO> {
    pub(crate) fn client(
        io: IO,
        framing: Framing,
        leftover: &[u8],
        setup: frame::Setup,
        responder: Option<Arc<dyn Handle>>,
        mailbox: Arc<Mailbox>,
        options: DriverOptions,
    ) -> Self {
        let connection = Connection::client(setup, Arc::clone(&options.config), now());
        let mut driver = Self::new(io, framing, leftover, connection, mailbox, options);
        driver.responder = responder;
        driver
    }

    pub(crate) fn server(
        io: IO,
        framing: Framing,
        leftover: &[u8],
        accept: Arc<dyn Accept>,
        mailbox: Arc<Mailbox>,
        options: DriverOptions,
    ) -> Self {
        let connection = Connection::server(Arc::clone(&options.config), now());
        let mut driver = Self::new(io, framing, leftover, connection, mailbox, options);
        driver.accept = Some(accept);
        driver
    }

    fn new(
        io: IO,
        framing: Framing,
        leftover: &[u8],
        connection: Connection,
        mailbox: Arc<Mailbox>,
        options: DriverOptions,
    ) -> Self {
        let mut output = framing.send_buf();
        if let Some(tap) = options.tap.clone() {
            output.set_tap(move |frame| tap(Direction::Out, frame));
        }
        Self {
            io,
            framing,
            connection,
            input: BytesMut::from(leftover),
            read_size: *READ_SIZES.start(),
            output,
            mailbox,
            commands: Vec::new(),
            woken: Vec::new(),
            held: Vec::new(),
            accept: None,
            accepting: None,
            responder: None,
            slots: Vec::new(),
            slot_wakers: SlotWakers::default(),
            push_waker: SlotWakers::default(),
            pushes: VecDeque::new(),
            pushing: None,
            ready: VecDeque::new(),
            consumers: Vec::new(),
            timer: None,
            armed: None,
            phase: Phase::Running,
            unreachable: false,
            meter: options.meter.connection(),
            options,
        }
    }

    /// One turn: hear, read, act, produce, write. False if there was nothing to do.
    fn turn(&mut self, cx: &mut Context<'_>) -> bool {
        let now = now();
        let mut worked = self.handle_time(now);
        worked |= self.drain_mailbox();
        worked |= self.receive(cx, now);
        worked |= self.dispatch(cx, now);
        worked |= self.produce();
        worked |= self.transmit(cx, now);
        for consumer in self.consumers.drain(..) {
            consumer.wake();
        }
        worked
    }

    fn handle_time(&mut self, now: Instant) -> bool {
        let due = self
            .connection
            .poll_timeout()
            .is_some_and(|deadline| deadline <= now);
        if due {
            self.connection.handle_timeout(now);
        }
        due
    }

    // ---- what handles say ---------------------------------------------------------------------

    fn drain_mailbox(&mut self) -> bool {
        let mut commands = mem::take(&mut self.commands);
        let mut woken = mem::take(&mut self.woken);
        self.mailbox.take(&mut commands, &mut woken);
        let worked = !commands.is_empty() || !woken.is_empty();
        for slot in woken.drain(..) {
            if slot == PUSH_SLOT {
                self.push_waker.unlist(0);
                self.run_pushes();
            } else {
                self.slot_wakers.unlist(slot);
                self.queue(slot);
            }
        }
        let may_request = self.accept.is_none();
        for command in commands.drain(..) {
            match command {
                Command::Request { .. } | Command::Push { .. } if !may_request => {
                    self.held.push(command);
                }
                command => self.obey(command),
            }
        }
        self.commands = commands;
        self.woken = woken;
        worked
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Request {
                interaction,
                payload,
                n,
                inlet,
                outgoing,
                permit,
            } => {
                self.open(interaction, payload, n, inlet, outgoing, permit);
            }
            Command::Touched(inlet) => self.grant_wish(&inlet),
            Command::Push { metadata, permit } => {
                // The permit bounds what waits here; a push leaves with the next write.
                let _ = self.connection.push_metadata(metadata);
                drop(permit);
            }
            Command::Drain => self.connection.drain(),
            Command::Close => self.connection.close(),
        }
    }

    fn open(
        &mut self,
        interaction: Interaction,
        payload: Payload,
        n: u32,
        inlet: Option<Arc<Inlet>>,
        outgoing: Option<BoxStream<Result<Payload, Error>>>,
        permit: Permit,
    ) {
        // A request cancelled before it was written sends nothing at all (RR-10).
        if inlet.as_ref().is_some_and(|inlet| inlet.is_cancelled()) {
            return;
        }
        match self.connection.request(interaction, payload, n) {
            Ok(key) => {
                if let Some(inlet) = &inlet
                    && !inlet.open(key)
                    && let Some(mut stream) = self.connection.stream(key)
                {
                    stream.cancel();
                    return;
                }
                let producer = outgoing.map(|stream| Producer::Stream(Source::new(stream)));
                let slot = self.slot(key);
                *slot = Slot {
                    key: Some(key),
                    producer,
                    inlet,
                    permit: Some(permit),
                    queued: false,
                };
            }
            Err(misuse) => {
                if let Some(inlet) = inlet {
                    self.consumers.extend(inlet.end(Err(misuse.into())));
                }
            }
        }
    }

    /// A consumer has granted credit, or lost interest.
    fn grant_wish(&mut self, inlet: &Arc<Inlet>) {
        let (Some(key), wish) = inlet.take_wish() else {
            return;
        };
        let Some(mut stream) = self.connection.stream(key) else {
            return;
        };
        if wish.cancel {
            stream.cancel();
            let slot = &mut self.slots[key.index()];
            let is_ours = slot.permit.is_some();
            slot.inlet = None;
            if is_ours {
                // A requester's CANCEL ends both directions.
                self.release(key);
            } else {
                self.release_if_over(key);
            }
        } else {
            stream.request_n(wish.grant);
        }
    }

    // ---- what the peer says -------------------------------------------------------------------

    fn receive(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        if self.phase != Phase::Running || !self.connection.wants_input() {
            return false;
        }
        // What an earlier read brought comes first.
        if !self.input.is_empty() && self.decode(now) {
            return true;
        }
        self.make_room();
        let before = self.input.len();
        let read = pin!(self.io.read_buf(&mut self.input)).poll(cx);
        match read {
            Poll::Pending => return false,
            Poll::Ready(Ok(0)) => self.disconnect(None),
            Poll::Ready(Ok(count)) => {
                debug_assert_eq!(self.input.len(), before + count);
                self.adapt(count);
                self.decode(now);
            }
            Poll::Ready(Err(error)) => self.disconnect(Some(&error)),
        }
        true
    }

    /// The transport has ended, or failed.
    fn disconnect(&mut self, error: Option<&io::Error>) {
        self.unreachable = true;
        self.output = SendBuf::bare();
        self.connection.handle_disconnect(error.and_then(failure));
    }

    /// Memory for the next read. A frame longer than a read gets its memory as its bytes arrive,
    /// not on the word of its length (DOS-06).
    fn make_room(&mut self) {
        let room = self.input.capacity() - self.input.len();
        if room < self.read_size / 4 {
            self.input.reserve(self.read_size.max(self.input.len()));
        }
    }

    /// Reads more at once while the peer sends more, and less again when it does not.
    fn adapt(&mut self, count: usize) {
        if count >= self.read_size {
            self.read_size = (self.read_size * 2).min(*READ_SIZES.end());
        } else if count < self.read_size / 8 {
            self.read_size = (self.read_size / 2).max(*READ_SIZES.start());
        }
    }

    /// Handles the frames in `input`; false if there was none whole.
    fn decode(&mut self, now: Instant) -> bool {
        let before = self.input.len();
        while self.connection.wants_input() {
            match self
                .framing
                .decode(&mut self.input, self.connection.config(), &mut self.output)
            {
                Ok(Some(Received::Frame(frame))) => {
                    if let Some(tap) = &self.options.tap {
                        tap(Direction::In, frame.clone());
                    }
                    self.connection.handle_frame(frame, now);
                }
                Ok(Some(Received::Control)) => {}
                Ok(Some(Received::End)) => self.connection.handle_disconnect(None),
                Ok(None) => break,
                Err(violation) => self.connection.handle_violation(violation),
            }
        }
        self.input.len() != before
    }

    fn dispatch(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut worked = self.poll_acceptor(cx, now);
        while let Some(event) = self.connection.poll_event() {
            worked = true;
            match event {
                Event::Payload {
                    key,
                    payload,
                    complete,
                } => self.deliver(key, payload, complete),
                Event::Request {
                    key,
                    interaction,
                    payload,
                    complete,
                } => {
                    self.serve(key, interaction, payload, complete);
                }
                Event::Credited { key } => self.queue(key.index()),
                Event::Completed { key } => self.end_inlet(key, Ok(())),
                Event::Failed { key, error } => {
                    self.end_inlet(key, Err(error.into()));
                    self.release(key);
                }
                Event::Cancelled { key } => self.cancelled(key),
                Event::MetadataPush(metadata) => self.take_push(metadata),
                Event::Setup(setup) => self.start_acceptor(*setup),
                Event::Established => self.mailbox.established(),
                Event::Closed(reason) => self.end(&reason, now),
                // Events of a later protocol engine mean nothing here.
                _ => {}
            }
        }
        worked
    }

    fn deliver(&mut self, key: StreamKey, payload: Payload, complete: bool) {
        let slot = &mut self.slots[key.index()];
        if slot.key != Some(key) {
            return;
        }
        if let Some(inlet) = &slot.inlet {
            self.consumers.extend(inlet.push(payload, complete));
        }
        if complete {
            slot.inlet = None;
            self.release_if_over(key);
        }
    }

    fn end_inlet(&mut self, key: StreamKey, how: Result<(), Error>) {
        let slot = &mut self.slots[key.index()];
        if slot.key != Some(key) {
            return;
        }
        if let Some(inlet) = slot.inlet.take() {
            self.consumers.extend(inlet.end(how));
        }
        self.release_if_over(key);
    }

    /// The peer wants nothing more of us.
    fn cancelled(&mut self, key: StreamKey) {
        let slot = &mut self.slots[key.index()];
        if slot.key != Some(key) {
            return;
        }
        let is_ours = slot.permit.is_some();
        drop_guarded(slot.producer.take());
        if is_ours {
            self.release_if_over(key);
        } else {
            let error = Error::Canceled("the requester cancelled the stream".into());
            self.end_inlet(key, Err(error));
            self.release(key);
        }
    }

    /// Gives a request of the peer to its handler, which is polled in this turn.
    fn serve(
        &mut self,
        key: StreamKey,
        interaction: Interaction,
        payload: Payload,
        complete: bool,
    ) {
        let Some(responder) = &self.responder else {
            let error = Error::rejected("nothing here answers requests");
            self.fail(key, error);
            return;
        };
        let handler = Arc::clone(responder);
        let mut inlet = None;
        let producer = guard(|| match interaction {
            Interaction::FireAndForget => Producer::Silent(handler.fire_and_forget(payload)),
            Interaction::RequestResponse => Producer::Response(handler.request_response(payload)),
            Interaction::RequestStream => {
                Producer::Stream(Source::new(handler.request_stream(payload)))
            }
            Interaction::RequestChannel => {
                let shared = Arc::new(Inlet::default());
                // Its consumer does not exist yet, so it cannot have gone.
                let _ = shared.open(key);
                if complete {
                    shared.end(Ok(()));
                } else {
                    inlet = Some(Arc::clone(&shared));
                }
                let rest = Payloads::new(shared, Arc::clone(&self.mailbox), self.options.credit);
                Producer::Stream(Source::new(handler.request_channel(payload, rest)))
            }
        });
        match producer {
            Ok(producer) => {
                let slot = self.slot(key);
                *slot = Slot {
                    key: Some(key),
                    producer: Some(producer),
                    inlet,
                    ..Slot::default()
                };
                self.queue(key.index());
            }
            Err(error) => self.fail(key, error),
        }
    }

    // ---- SETUP --------------------------------------------------------------------------------

    fn start_acceptor(&mut self, setup: frame::Setup) {
        let Some(accept) = &self.accept else { return };
        let setup = Setup::new(setup, Arc::clone(&self.options.peer));
        let requester = Requester::new(Arc::clone(&self.mailbox), self.options.credit);
        match guard(|| accept.accept(setup, requester)) {
            Ok(accepting) => self.accepting = Some(accepting),
            Err(error) => self
                .connection
                .reject(ErrorCode::REJECTED_SETUP, error.to_string()),
        }
    }

    fn poll_acceptor(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let Some(accepting) = &mut self.accepting else {
            return false;
        };
        let Poll::Ready(accepted) = poll_guarded(accepting, cx) else {
            return false;
        };
        drop_guarded(self.accepting.take());
        match accepted.and_then(|accepted| accepted) {
            Ok(responder) => {
                self.responder = Some(responder);
                self.accept = None;
                self.connection.accept(now);
                self.mailbox.established();
                for command in mem::take(&mut self.held) {
                    self.obey(command);
                }
            }
            Err(error) => {
                let StreamError { code, message } = error.into_stream_error();
                let code = if code.is_setup() {
                    code
                } else {
                    ErrorCode::REJECTED_SETUP
                };
                self.connection.reject(code, message);
            }
        }
        true
    }

    // ---- METADATA_PUSH ------------------------------------------------------------------------

    fn take_push(&mut self, metadata: Bytes) {
        if self.pushes.len() < MAX_WAITING_PUSHES {
            self.pushes.push_back(metadata);
            self.run_pushes();
        } else {
            self.meter.dropped_push();
        }
    }

    /// Pushes are handled one after the other, in the order in which they came.
    fn run_pushes(&mut self) {
        let Some(responder) = &self.responder else {
            return self.pushes.clear();
        };
        loop {
            if self.pushing.is_none() {
                let Some(metadata) = self.pushes.pop_front() else {
                    return;
                };
                let handler = Arc::clone(responder);
                // A handler that panics costs its push (MDP-07).
                self.pushing = guard(|| handler.metadata_push(metadata)).ok();
            }
            let Some(pushing) = &mut self.pushing else {
                continue;
            };
            let waker = self.push_waker.named(0, PUSH_SLOT, &self.mailbox);
            match poll_guarded(pushing, &mut Context::from_waker(waker)) {
                Poll::Ready(_) => drop_guarded(self.pushing.take()),
                Poll::Pending => return,
            }
        }
    }

    // ---- producers ----------------------------------------------------------------------------

    /// Polls the producers that are ready while the socket keeps up.
    fn produce(&mut self) -> bool {
        let mut worked = false;
        while !self.ready.is_empty() && !self.output.is_full() {
            worked = true;
            for _ in 0..self.ready.len() {
                if let Some(index) = self.ready.pop_front() {
                    self.slots[index].queued = false;
                    self.run(index);
                }
            }
            self.connection.poll_transmit(&mut self.output);
        }
        worked
    }

    /// Polls one producer, for at most as many items as its stream takes in a turn.
    fn run(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        let (Some(key), Some(producer)) = (slot.key, &mut slot.producer) else {
            return;
        };
        let cx = &mut Context::from_waker(self.slot_wakers.get(index, &self.mailbox));
        match producer {
            Producer::Silent(work) => {
                if poll_guarded(work, cx).is_ready() {
                    self.finish(key, None);
                }
            }
            Producer::Response(work) => match poll_guarded(work, cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(Ok(reply))) => self.finish(key, Some(reply)),
                Poll::Ready(Ok(Err(error)) | Err(error)) => self.fail(key, error),
            },
            Producer::Stream(source) => {
                loop {
                    let Some(mut stream) = self.connection.stream(key) else {
                        return;
                    };
                    let has_credit = stream.credit() > 0;
                    if has_credit && stream.capacity() == 0 {
                        // A turn's worth waits to be written.
                        break;
                    }
                    match source.poll(has_credit, cx) {
                        Sourced::Item(item) => {
                            if let Err(misuse) = stream.send(item) {
                                return self.fail(key, misuse.into());
                            }
                        }
                        Sourced::Complete => return self.finish(key, None),
                        Sourced::Failed(error) => return self.fail(key, error),
                        Sourced::Pending | Sourced::NoCredit => return,
                    }
                }
                self.queue(index);
            }
        }
    }

    /// A producer has come to its end.
    fn finish(&mut self, key: StreamKey, last: Option<Payload>) {
        if let Some(mut stream) = self.connection.stream(key) {
            let done = match last {
                Some(item) => stream.send_last(item),
                None => stream.complete(),
            };
            if let Err(misuse) = done {
                return self.fail(key, misuse.into());
            }
        }
        drop_guarded(self.slots[key.index()].producer.take());
        self.release_if_over(key);
    }

    /// A producer has failed, and with it the stream in both directions.
    fn fail(&mut self, key: StreamKey, error: Error) {
        if let Some(mut stream) = self.connection.stream(key) {
            // If our half has ended already, there is nothing left to say.
            let _ = stream.fail(error.clone().into_stream_error());
        }
        self.slot(key);
        self.end_inlet(key, Err(error));
        self.release(key);
    }

    // ---- slots --------------------------------------------------------------------------------

    fn slot(&mut self, key: StreamKey) -> &mut Slot {
        let index = key.index();
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, Slot::default);
        }
        &mut self.slots[index]
    }

    fn queue(&mut self, index: usize) {
        if let Some(slot) = self.slots.get_mut(index)
            && slot.producer.is_some()
            && !mem::replace(&mut slot.queued, true)
        {
            self.ready.push_back(index);
        }
    }

    fn release_if_over(&mut self, key: StreamKey) {
        let slot = &self.slots[key.index()];
        if slot.key == Some(key) && slot.producer.is_none() && slot.inlet.is_none() {
            self.release(key);
        }
    }

    /// The stream is over: whatever is left of it goes, and the slot is free.
    fn release(&mut self, key: StreamKey) {
        let slot = &mut self.slots[key.index()];
        if slot.key == Some(key) {
            let queued = slot.queued;
            let ended = mem::take(slot);
            slot.queued = queued;
            drop_guarded(ended.producer);
        }
    }

    // ---- what leaves --------------------------------------------------------------------------

    fn transmit(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        if self.connection.wants_output() {
            self.connection.poll_transmit(&mut self.output);
        }
        let waiting = self.output.len();
        match self.write(cx) {
            Poll::Ready(Ok(())) | Poll::Pending => {}
            Poll::Ready(Err(error)) => self.disconnect(Some(&error)),
        }
        let wrote = self.output.len() < waiting;
        // After a write there may be room for what did not fit before it.
        let more = wrote && (self.connection.wants_output() || !self.ready.is_empty());
        let closing = self.connection.is_closed() && self.phase == Phase::Running;
        if closing && !self.connection.has_events() {
            self.framing.close(&mut self.output);
            self.phase = Phase::Flushing {
                until: now + FLUSH_LIMIT,
            };
        }
        more || closing || self.connection.has_events()
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.output.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !self.output.is_empty() {
            let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
            let count = self.output.chunks_vectored(&mut slices);
            let io = Pin::new(&mut self.io);
            let written = ready!(io.poll_write_vectored(cx, &slices[..count]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(written);
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// The connection is over: everything pending on it ends with the reason.
    fn end(&mut self, reason: &CloseReason, now: Instant) {
        let error = Error::Closed(reason.clone());
        for command in mem::take(&mut self.held)
            .into_iter()
            .chain(self.mailbox.close(reason))
        {
            if let Command::Request {
                inlet: Some(inlet), ..
            } = command
            {
                self.consumers.extend(inlet.end(Err(error.clone())));
            }
        }
        for slot in mem::take(&mut self.slots) {
            drop_guarded(slot.producer);
            if let Some(inlet) = slot.inlet {
                self.consumers.extend(inlet.end(Err(error.clone())));
            }
        }
        self.ready = VecDeque::new();
        self.pushes = VecDeque::new();
        drop_guarded(self.pushing.take());
        drop_guarded(self.accepting.take());
        drop_guarded(self.responder.take());
        if self.unreachable {
            self.phase = Phase::Lingering { until: now };
        }
        log_end(&self.options.peer, reason);
    }

    /// After the end: write what is left, close our side, wait a moment for the peer's.
    fn poll_finish(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        if let Phase::Flushing { until } = self.phase {
            let flushed = match self.write(cx) {
                Poll::Ready(Ok(())) => Pin::new(&mut self.io).poll_shutdown(cx).map(|_| ()),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => Poll::Pending,
            };
            if flushed.is_pending() && now < until {
                return self.poll_timer(cx, until);
            }
            self.phase = Phase::Lingering {
                until: now + LINGER_LIMIT,
            };
        }
        let Phase::Lingering { until } = self.phase else {
            return Poll::Pending;
        };
        let mut budget = Budget::new();
        while now < until {
            self.input.clear();
            self.input.reserve(*READ_SIZES.start());
            match pin!(self.io.read_buf(&mut self.input)).poll(cx) {
                Poll::Ready(Ok(1..)) if budget.take() => {}
                Poll::Ready(Ok(1..)) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(_) => break,
                Poll::Pending => return self.poll_timer(cx, until),
            }
        }
        Poll::Ready(())
    }

    // ---- time ---------------------------------------------------------------------------------

    /// Sleeps until `deadline`; ready when it has come. The timer is only moved when it would fire
    /// too late: deadlines mostly move away with every frame.
    fn poll_timer(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let at = tokio::time::Instant::from_std(deadline);
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if self.armed.is_none_or(|armed| armed > deadline) {
            timer.as_mut().reset(at);
            self.armed = Some(deadline);
        }
        ready!(timer.as_mut().poll(cx));
        self.armed = None;
        if now() < deadline {
            // It was armed for an earlier deadline.
            timer.as_mut().reset(at);
            self.armed = Some(deadline);
            return timer.as_mut().poll(cx);
        }
        Poll::Ready(())
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin + Send> Future for Driver<IO> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let mut budget = Budget::new();
        while this.phase == Phase::Running {
            if !budget.take() {
                // Others may run; we go on after them.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if this.turn(cx) {
                continue;
            }
            this.meter
                .publish(this.connection.stats(), this.connection.open_streams());
            if let Some(deadline) = this.connection.poll_timeout()
                && this.poll_timer(cx, deadline).is_ready()
            {
                continue;
            }
            if this.mailbox.sleep(cx.waker()) {
                return Poll::Pending;
            }
        }
        this.meter.publish(this.connection.stats(), 0);
        for consumer in this.consumers.drain(..) {
            consumer.wake();
        }
        loop {
            let now = now();
            ready!(this.poll_finish(cx, now));
            if !matches!(this.phase, Phase::Flushing { .. }) {
                return Poll::Ready(());
            }
        }
    }
}

impl<IO> Drop for Driver<IO> {
    /// A driver dropped in mid-life, as when a runtime shuts down, still ends what hangs on it.
    fn drop(&mut self) {
        let reason = CloseReason::Disconnected;
        let commands = mem::take(&mut self.held)
            .into_iter()
            .chain(self.mailbox.close(&reason));
        let pending = commands.filter_map(|command| match command {
            Command::Request { inlet, .. } => inlet,
            _ => None,
        });
        let open = self.slots.iter_mut().filter_map(|slot| slot.inlet.take());
        for inlet in pending.chain(open) {
            if let Some(consumer) = inlet.end(Err(reason.clone().into())) {
                consumer.wake();
            }
        }
    }
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

/// A peer that resets or closes is gone, not a failure of the transport.
fn failure(error: &io::Error) -> Option<String> {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error.kind() {
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof => None,
        _ => Some(error.to_string()),
    }
}

#[cfg(feature = "tracing")]
fn log_end(peer: &str, reason: &CloseReason) {
    match reason {
        CloseReason::Violation(violation) => {
            tracing::warn!(peer, code = %violation.code(), "connection ended: {violation}");
        }
        reason => tracing::debug!(peer, "connection ended: {reason}"),
    }
}

#[cfg(not(feature = "tracing"))]
fn log_end(_: &str, _: &CloseReason) {}
