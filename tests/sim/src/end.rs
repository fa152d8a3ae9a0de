//! One end of the wire: a connection, and the application that uses it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes, BytesMut};
use rsock_proto::{
    AnswerNow, CloseReason, Connection, Event, Interaction, Payload, RequestError, Role, SendBuf,
    SendError, StreamKey,
};

use crate::{
    broken::{Check, hold, some},
    link::Pipe,
    model::{self, Model},
    op::Size,
    plan::{Limits, Plan},
};

/// Events one read may leave, and those of its last frame.
const MOST_EVENTS: usize = 256 + 4;
/// Items a stream takes ahead of the wire.
const MOST_AHEAD: usize = 32;
/// The longest frame of an item that is not cut.
const MOST_ITEM_BYTES: usize = 100_000;
/// The bytes that SETUP or the last ERROR may have beyond a full buffer.
const UNASKED: usize = 300;

/// The time of leases that do not run out, in milliseconds.
const LONG: u32 = 1_000_000_000;
/// The cost of a retained frame beside its bytes.
const FRAME_COST: usize = 200;

/// A stream its application knows of, and that is not over for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct App {
    key: StreamKey,
    interaction: Interaction,
    requester: bool,
    sending: bool,
    receiving: bool,
}

/// A connection with its application.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) side: usize,
    limits: Limits,
    hostile: bool,
    pub(crate) connection: Connection,
    pub(crate) send: SendBuf,
    pub(crate) input: BytesMut,
    pub(crate) apps: BTreeMap<u32, App>,
    /// Streams whose end it has brought about by completing, which a word of the peer may cross.
    completed: BTreeSet<u32>,
    /// The id of its next request.
    next: u32,
    /// SETUP is accepted here, or was sent from here.
    established: bool,
    pub(crate) draining: bool,
    /// The peer has been told to end; its CONNECTION_CLOSE is no event.
    pub(crate) peer_ends: bool,
    /// Somebody has reason to refuse requests or payloads.
    pub(crate) may_refuse: bool,
    pub(crate) closed: Option<CloseReason>,
    /// The number of its transport, if it has one.
    pub(crate) link: Option<u32>,
    /// When it lost the last one.
    pub(crate) lost: Option<Instant>,
    leases: bool,
    /// LEASEs it has written or is about to, and their order.
    pub(crate) granted: VecDeque<(u32, u32)>,
    /// LEASEs it was told of.
    pub(crate) leased: Vec<(u32, u32)>,
    /// When it last read a frame.
    pub(crate) heard: Instant,
    pings: VecDeque<Bytes>,
    /// Sent by it with METADATA_PUSH and not received.
    pub(crate) pushes: VecDeque<Bytes>,
    pushed: u64,
    /// It could not go on for want of acknowledgement.
    pub(crate) was_held: bool,
    /// Events since the last read.
    events: usize,
    /// The longest frame it can have written.
    longest: usize,
    /// It writes at once what it can.
    at_once: bool,
    /// Bytes at the end of `send` that nobody has seen yet.
    unseen: usize,
}

/// Answers requests while they are read: one in two, the others are left to the application.
struct Service<'a> {
    side: usize,
    model: &'a mut Model,
    /// The request taken last, and what it was answered, if it was.
    taken: Option<Taken>,
    /// Those that have a stream: because they were not answered, or by what fits no frame.
    others: Vec<Taken>,
    /// Answers to requests of its own.
    replies: Vec<(StreamKey, Payload)>,
    broken: Check,
}

struct Taken {
    key: StreamKey,
    request: Payload,
    reply: Option<Payload>,
}

impl Service<'_> {
    fn reply(&mut self, key: StreamKey, request: &Payload) -> Check<Option<Payload>> {
        self.settle()?;
        let id = key.id().get();
        let exchange = self.model.of(id)?;
        let size = Size { metadata: None, data: request.data.len() as u32 };
        Ok((id / 2).is_multiple_of(2).then(|| exchange.next(id, self.side, size)))
    }

    /// The request taken last is over, if it is answered.
    fn settle(&mut self) -> Check {
        let Some(Taken { key, request, reply: Some(reply) }) = self.taken.take() else {
            return Ok(());
        };
        let exchange = self.model.of(key.id().get())?;
        exchange.heard(self.side, Interaction::RequestResponse, &request, false)?;
        exchange.gave(self.side, reply, true)
    }
}

impl AnswerNow for Service<'_> {
    fn is_willing(&self) -> bool {
        self.broken.is_ok()
    }

    fn answer(&mut self, key: StreamKey, request: Payload) -> Option<Payload> {
        let reply = self.reply(key, &request).unwrap_or_else(|broken| {
            self.broken = Err(broken);
            None
        });
        self.taken = Some(Taken { key, request, reply: reply.clone() });
        reply
    }

    fn follows(&mut self, key: StreamKey, _: Option<Payload>) {
        self.others.extend(self.taken.take().map(|taken| Taken { key, ..taken }));
    }

    fn takes_replies(&self) -> bool {
        true
    }

    fn reply(&mut self, key: StreamKey, payload: Payload) {
        self.replies.push((key, payload));
    }
}

impl End {
    pub(crate) fn new(
        connection: Connection,
        pipe: &Pipe,
        limits: Limits,
        plan: &Plan,
        now: Instant,
    ) -> Self {
        let (hostile, leases) = (plan.hostile, plan.leases);
        let side = usize::from(connection.role() == Role::Server);
        Self {
            side,
            limits,
            hostile,
            connection,
            send: pipe.send_buf(),
            input: BytesMut::new(),
            apps: BTreeMap::new(),
            completed: BTreeSet::new(),
            next: 1 + side as u32,
            established: side == 0,
            draining: false,
            peer_ends: false,
            may_refuse: false,
            closed: None,
            link: Some(0),
            lost: None,
            leases,
            granted: VecDeque::new(),
            leased: Vec::new(),
            heard: now,
            pings: VecDeque::new(),
            pushes: VecDeque::new(),
            pushed: 0,
            was_held: false,
            events: 0,
            longest: limits.frame_bytes().min(MOST_ITEM_BYTES),
            at_once: plan.at_once[side],
            unseen: 0,
        }
    }

    // ---- the wire -----------------------------------------------------------------------------

    /// The connection fills its buffer.
    pub(crate) fn write(&mut self, high_water: usize) {
        self.send.set_high_water(high_water);
        let before = self.send.len();
        self.connection.poll_transmit(&mut self.send);
        self.unseen += self.send.len() - before;
    }

    /// The frames it has written since this was asked, as they go on the transport.
    pub(crate) fn written(&mut self) -> Check<Vec<u8>> {
        let before = self.send.len() - std::mem::take(&mut self.unseen);
        if self.send.len() == before {
            return Ok(Vec::new());
        }
        let mut slices = vec![std::io::IoSlice::new(&[]); 64];
        let filled = loop {
            let filled = self.send.chunks_vectored(&mut slices);
            if filled < slices.len() {
                break filled;
            }
            slices = vec![std::io::IoSlice::new(&[]); 2 * slices.len()];
        };
        let mut skip = before;
        let mut written = Vec::with_capacity(self.send.len() - before);
        for slice in &slices[..filled] {
            let from = skip.min(slice.len());
            written.extend_from_slice(&slice[from..]);
            skip -= from;
        }
        hold!(before + written.len() == self.send.len(), Bounds, "the buffer miscounts");
        Ok(written)
    }

    /// Checks that what a buffer holds stays below its mark and one frame.
    pub(crate) fn check_buffer(&self, before: usize, high_water: usize, longest: usize) -> Check {
        let (len, most) = (self.send.len(), before.max(high_water) + longest + UNASKED);
        hold!(len <= most, Bounds, "a send buffer of {len} bytes, at most {most} are wanted");
        Ok(())
    }

    /// Bytes are here. How many the connection took: if it answers, those of a frame at most, so that
    /// whoever looks on knows what had been read before each answer.
    pub(crate) fn read(&mut self, answers: bool, model: &mut Model, now: Instant) -> Check<usize> {
        let before = self.input.len();
        if answers {
            let first = match self.input[..] {
                [high, mid, low, ..] => 3 + u32::from_be_bytes([0, high, mid, low]) as usize,
                _ => before,
            };
            let rest = self.input.split_off(first.min(before));
            let read = self.read_answering(model, now);
            self.input.unsplit(rest);
            read?;
        } else {
            self.connection.handle_bytes(&mut self.input, now);
        }
        let taken = before - self.input.len();
        if taken > 0 {
            self.heard = now;
        }
        Ok(taken)
    }

    /// Whether it answers requests while they are read.
    pub(crate) fn answers(&self) -> bool {
        self.at_once && !self.hostile
    }

    /// Reads, and answers requests meanwhile.
    fn read_answering(&mut self, model: &mut Model, now: Instant) -> Check {
        let (side, written) = (self.side, self.send.len());
        let (others, replies) = (Vec::new(), Vec::new());
        let mut service = Service { side, model, taken: None, others, replies, broken: Ok(()) };
        let Self { connection, input, send, .. } = self;
        connection.handle_bytes_answering(input, now, send, &mut service);
        service.settle()?;
        let Service { model, others, replies, broken, .. } = service;
        broken?;
        self.unseen += self.send.len() - written;
        for (key, payload) in replies {
            hold!(self.connection.stream(key).is_none(), Terminal, "{key:?} goes on");
            self.hear(Event::Payload { key, payload, complete: true }, model, now)?;
        }
        for Taken { key, request: payload, reply } in others {
            let interaction = Interaction::RequestResponse;
            self.hear(Event::Request { key, interaction, payload, complete: false }, model, now)?;
            // Its requester may have cancelled it behind the request.
            if let Some(reply) = reply
                && let Some(mut stream) = self.connection.stream(key)
            {
                hold!(stream.send_last(reply.clone()).is_ok(), Credit, "no reply to {key:?}");
                model.of(key.id().get())?.gave(side, reply, true)?;
                self.ended_sending(key);
            }
        }
        Ok(())
    }

    /// The transport ends. If the connection ends with it, what never left has not arrived, and never
    /// will.
    pub(crate) fn disconnect(&mut self, model: &mut Model, now: Instant) -> Check {
        self.connection.handle_disconnect(None, now);
        self.input.clear();
        if self.hostile || !self.is_over() {
            return Ok(());
        }
        let taken = Some(self.send.taken());
        for (id, app) in self.apps.iter().filter(|(_, app)| app.requester) {
            if self.connection.is_unsent(app.key, taken) {
                let exchange = model.of(*id)?;
                hold!(!exchange.heard, Told, "request {id} never left, and is heard");
                exchange.unsent = true;
            }
        }
        Ok(())
    }

    /// Begins anew on a transport: what was half read and half written on another is of no use on
    /// it.
    pub(crate) fn attach(&mut self, pipe: &Pipe, link: Option<u32>) {
        self.send = pipe.send_buf();
        self.input.clear();
        self.link = link;
    }

    pub(crate) fn is_over(&self) -> bool {
        self.connection.is_closed()
    }

    // ---- what must hold -----------------------------------------------------------------------

    pub(crate) fn check(&mut self) -> Check {
        if self.hostile {
            self.apps.retain(|_, app| self.connection.stream(app.key).is_some());
        }
        self.was_held |= self.connection.is_held();
        let inbound = self.apps.values().filter(|app| !app.requester).count();
        let most = self.limits.max_streams as usize;
        hold!(inbound <= most, Bounds, "{inbound} streams of the peer, at most {most}");
        let (held, most) = (self.connection.reassembly_bytes(), self.limits.max_reassembly_bytes);
        hold!(held <= most as usize, Bounds, "{held} bytes of fragments, at most {most}");
        let retained = self.connection.retained_bytes();
        let most = self.limits.max_retained_bytes as usize + self.longest + FRAME_COST;
        hold!(retained <= most, Bounds, "{retained} bytes retained, at most {most}");
        Ok(())
    }

    /// Nothing is left of any stream.
    pub(crate) fn check_empty(&self) -> Check {
        let open = self.connection.open_streams();
        hold!(open == 0, Rest, "side {}: {open} streams are left", self.side);
        hold!(self.apps.is_empty(), Rest, "side {}: told of no end: {:?}", self.side, self.apps);
        let held = self.connection.reassembly_bytes();
        hold!(held == 0, Rest, "side {}: {held} bytes of fragments are left", self.side);
        let quiet = self.connection.is_closed() || !self.connection.wants_output();
        hold!(quiet, Rest, "side {}: something is never written", self.side);
        Ok(())
    }

    // ---- the application ----------------------------------------------------------------------

    /// The application takes all events that wait.
    pub(crate) fn take_all(&mut self, model: &mut Model, now: Instant) -> Check {
        while self.take(model, now)? {}
        Ok(())
    }

    /// The application takes an event; false if there is none.
    pub(crate) fn take(&mut self, model: &mut Model, now: Instant) -> Check<bool> {
        let Some(event) = self.connection.poll_event() else {
            self.events = 0;
            return Ok(false);
        };
        self.events += 1;
        hold!(self.events <= MOST_EVENTS, Bounds, "{} events wait", self.events);
        hold!(self.closed.is_none(), Terminal, "{event:?} after Closed");
        if self.hostile {
            self.react(event, now);
        } else {
            let again = event.clone();
            self.hear(event, model, now).map_err(|mut broken| {
                let shown: String = format!("{again:?}").chars().take(160).collect();
                broken.detail = format!("{} (side {} was told {shown})", broken.detail, self.side);
                broken
            })?;
        }
        Ok(true)
    }

    fn hear(&mut self, event: Event, model: &mut Model, now: Instant) -> Check {
        match event {
            Event::Setup(_) => {
                self.connection.accept(now);
                self.established = true;
                self.grant(5, LONG, now);
            }
            Event::Established | Event::Resumed => self.grant(5, LONG, now),
            Event::Leased(lease) => self.leased.push((lease.requests, lease.ttl_ms)),
            Event::Request { key, interaction, payload, complete } => {
                let id = key.id().get();
                model.of(id)?.heard(self.side, interaction, &payload, complete)?;
                let receiving = interaction == Interaction::RequestChannel;
                let app = App { key, interaction, requester: false, sending: true, receiving };
                hold!(self.apps.insert(id, app).is_none(), Told, "an id that is in use");
            }
            Event::Payload { key, payload, complete } => {
                let app = self.receiver(key)?;
                app.receiving = !complete;
                model.of(key.id().get())?.got(self.side, Some(&payload), complete)?;
                self.end_if_done(key);
            }
            Event::Completed { key } => {
                let side = self.side;
                let app = self.receiver(key)?;
                if app.interaction != Interaction::FireAndForget {
                    model.of(key.id().get())?.got(side, None, true)?;
                }
                app.receiving = false;
                self.end_if_done(key);
            }
            Event::Failed { key, error } => {
                let id = key.id().get();
                let known = self.apps.remove(&id).is_some() || self.completed.remove(&id);
                hold!(known, Terminal, "it is over");
                model.of(id)?.got_failure(self.side, &error, self.may_refuse)?;
            }
            Event::Cancelled { key } => {
                let id = key.id().get();
                model.of(id)?.got_cancel(self.side, self.may_refuse)?;
                if self.completed.remove(&id) {
                    return Ok(());
                }
                let app = some!(self.apps.get_mut(&id), Terminal, "it is over");
                let channel = app.interaction == Interaction::RequestChannel;
                if app.requester {
                    hold!(channel, Told, "RR-12: it sends nothing");
                    app.sending = false;
                    self.end_if_done(key);
                } else {
                    self.apps.remove(&id);
                }
            }
            Event::Pong(data) => {
                // Answers before it may have been dropped (KA-15).
                let at = self.pings.iter().position(|ping| *ping == data);
                let at = some!(at, Told, "the answer to no ping, or in disorder");
                self.pings.drain(..=at);
            }
            Event::MetadataPush(metadata) => self.pushes.push_back(metadata),
            Event::Closed(reason) => self.close_with(reason),
            _ => {}
        }
        Ok(())
    }

    /// The stream, if its application still receives.
    fn receiver(&mut self, key: StreamKey) -> Check<&mut App> {
        let app = self.apps.get_mut(&key.id().get());
        let app = some!(app, Terminal, "the stream is over");
        hold!(app.key == key, Told, "the stream of another time, {:?}", app.key);
        hold!(app.receiving, Terminal, "the half is over");
        Ok(app)
    }

    fn end_if_done(&mut self, key: StreamKey) {
        let id = key.id().get();
        if self.apps.get(&id).is_some_and(|app| !app.sending && !app.receiving) {
            self.apps.remove(&id);
            // Its COMPLETE may be unwritten, and crosses what the peer says.
            self.completed.insert(id);
        }
    }

    fn close_with(&mut self, reason: CloseReason) {
        self.closed = Some(reason);
        self.apps.clear();
        self.completed.clear();
    }

    /// In a hostile world anything may be told; the application keeps what it needs to go on.
    fn react(&mut self, event: Event, now: Instant) {
        match event {
            Event::Setup(_) => {
                self.connection.accept(now);
                self.established = true;
            }
            Event::Request { key, interaction, .. } => {
                let receiving = interaction == Interaction::RequestChannel;
                let app = App { key, interaction, requester: false, sending: true, receiving };
                self.apps.insert(key.id().get(), app);
            }
            Event::Failed { key, .. } | Event::Cancelled { key } => {
                self.apps.remove(&key.id().get());
            }
            Event::Payload { key, complete: true, .. } | Event::Completed { key } => {
                if let Some(app) = self.apps.get_mut(&key.id().get()) {
                    app.receiving = false;
                }
            }
            Event::Closed(reason) => self.close_with(reason),
            _ => {}
        }
    }

    /// The stream that a number picks.
    pub(crate) fn pick(&self, number: u8) -> Option<u32> {
        let nth = usize::from(number) % self.apps.len().max(1);
        self.apps.keys().nth(nth).copied()
    }

    /// Opens a stream; its id, if that was possible.
    pub(crate) fn open(
        &mut self,
        model: &mut Model,
        interaction: Interaction,
        n: u32,
        size: Size,
    ) -> Check<Option<u32>> {
        let id = self.next;
        let request = model::payload(id, self.side, 0, size);
        let opened = if self.at_once {
            let before = self.send.len();
            let opened =
                self.connection.request_now(interaction, request.clone(), n, &mut self.send);
            self.unseen += self.send.len() - before;
            opened
        } else {
            self.connection.request(interaction, request.clone(), n).map(Some)
        };
        let key = match opened {
            Ok(Some(key)) => key,
            Ok(None) => {
                let is_over = interaction == Interaction::FireAndForget;
                hold!(is_over, Terminal, "stream {id} is over as soon as it is open");
                self.next += 2;
                model.opened(self.side, id, interaction, request, n)?;
                return Ok(Some(id));
            }
            Err(misuse) => {
                let why = match misuse {
                    RequestError::Closed => {
                        self.closed.is_some() || self.draining || self.peer_ends
                    }
                    RequestError::NotEstablished => !self.established,
                    RequestError::NoLease => self.leases,
                    _ => false,
                };
                hold!(why || self.hostile, Told, "a request is refused: {misuse}");
                return Ok(None);
            }
        };
        hold!(key.id().get() == id, StreamIds, "SID-02: id {} after {id}", key.id());
        self.next += 2;
        model.opened(self.side, id, interaction, request, n)?;
        let app = App {
            key,
            interaction,
            requester: true,
            sending: interaction == Interaction::RequestChannel,
            receiving: true,
        };
        self.apps.insert(id, app);
        Ok(Some(id))
    }

    /// Sends up to so many items.
    pub(crate) fn emit(
        &mut self,
        model: &mut Model,
        id: u32,
        items: u32,
        last: bool,
        size: Size,
    ) -> Check {
        let Some(app) = self.apps.get(&id).copied() else { return Ok(()) };
        if !app.sending || app.interaction == Interaction::FireAndForget {
            return Ok(());
        }
        let last = last || app.interaction == Interaction::RequestResponse;
        if self.at_once {
            return self.emit_at_once(model, app, id, if last { 1 } else { items }, last, size);
        }
        for _ in 0..items {
            let Some(mut stream) = self.connection.stream(app.key) else {
                hold!(self.hostile, Terminal, "stream {id} is gone without a word");
                return Ok(());
            };
            let capacity = stream.capacity();
            hold!(capacity <= MOST_AHEAD, Bounds, "room for {capacity} items of stream {id}");
            let item = match model.exchanges.get(&id) {
                Some(exchange) => exchange.next(id, self.side, size),
                None => model::payload(id, self.side, 1, size),
            };
            let sent =
                if last { stream.send_last(item.clone()) } else { stream.send(item.clone()) };
            if self.hostile {
                return Ok(());
            }
            hold!(sent.is_ok() == (capacity > 0), Credit, "{sent:?} with room for {capacity}");
            if sent.is_err() {
                return Ok(());
            }
            model.of(id)?.gave(self.side, item, last)?;
            if last {
                self.ended_sending(app.key);
                return Ok(());
            }
        }
        Ok(())
    }

    fn emit_at_once(
        &mut self,
        model: &mut Model,
        app: App,
        id: u32,
        items: u32,
        last: bool,
        size: Size,
    ) -> Check {
        let before = self.send.len();
        for _ in 0..items {
            let item = match model.exchanges.get(&id) {
                Some(exchange) => exchange.next(id, self.side, size),
                None => model::payload(id, self.side, 1, size),
            };
            let capacity = self.connection.stream(app.key).map_or(0, |stream| stream.capacity());
            hold!(capacity <= MOST_AHEAD, Bounds, "room for {capacity} items of stream {id}");
            let sent = if last {
                self.connection.send_last_now(app.key, item.clone(), &mut self.send)
            } else if let Some(mut half) = self.connection.items(app.key, &mut self.send) {
                half.send(item.clone())
            } else {
                Err(SendError::StreamClosed)
            };
            if !self.hostile {
                hold!(sent.is_ok() == (capacity > 0), Credit, "{sent:?} with room for {capacity}");
            }
            if sent.is_err() {
                break;
            }
            if !self.hostile {
                model.of(id)?.gave(self.side, item, last)?;
                if last {
                    self.ended_sending(app.key);
                }
            }
        }
        self.unseen += self.send.len() - before;
        Ok(())
    }

    /// Completes its half.
    pub(crate) fn complete(&mut self, model: &mut Model, id: u32) -> Check {
        let Some(app) = self.apps.get(&id).copied().filter(|app| app.sending) else {
            return Ok(());
        };
        let done = self.connection.stream(app.key).map(|mut stream| stream.complete());
        if self.hostile {
            return Ok(());
        }
        hold!(done == Some(Ok(())), Terminal, "stream {id} cannot be completed: {done:?}");
        if app.interaction != Interaction::FireAndForget {
            model.of(id)?.completed(self.side);
        }
        self.ended_sending(app.key);
        Ok(())
    }

    fn ended_sending(&mut self, key: StreamKey) {
        if let Some(app) = self.apps.get_mut(&key.id().get()) {
            app.sending = false;
        }
        self.end_if_done(key);
    }

    /// Fails the stream.
    pub(crate) fn fail(&mut self, model: &mut Model, id: u32) -> Check {
        let Some(app) = self.apps.get(&id).copied().filter(|app| app.sending) else {
            return Ok(());
        };
        if app.interaction == Interaction::FireAndForget {
            return self.complete(model, id);
        }
        let error = model::failure(id);
        let done = self.connection.stream(app.key).map(|mut stream| stream.fail(error));
        if self.hostile {
            return Ok(());
        }
        hold!(done == Some(Ok(())), Terminal, "stream {id} cannot be failed: {done:?}");
        model.of(id)?.failed(id, self.side);
        self.apps.remove(&id);
        Ok(())
    }

    /// Asks for more items.
    pub(crate) fn request_n(&mut self, model: &mut Model, id: u32, n: u32) -> Check {
        let Some(app) = self.apps.get(&id).copied() else { return Ok(()) };
        if !app.receiving || !app.interaction.has_initial_n() {
            return Ok(());
        }
        if let Some(mut stream) = self.connection.stream(app.key) {
            stream.request_n(n);
        } else {
            hold!(self.hostile, Terminal, "stream {id} is gone without a word");
        }
        if let Some(exchange) = model.exchanges.get_mut(&id) {
            exchange.asked(self.side, n);
        }
        Ok(())
    }

    /// Wants nothing more.
    pub(crate) fn cancel(&mut self, model: &mut Model, id: u32) -> Check {
        let Some(app) = self.apps.get(&id).copied() else { return Ok(()) };
        if !app.requester && !app.receiving {
            return Ok(());
        }
        if let Some(mut stream) = self.connection.stream(app.key) {
            stream.cancel();
        } else {
            hold!(self.hostile, Terminal, "stream {id} is gone without a word");
        }
        if let Some(exchange) = model.exchanges.get_mut(&id) {
            exchange.cancelled(self.side);
        }
        if app.requester {
            self.apps.remove(&id);
        } else if let Some(app) = self.apps.get_mut(&id) {
            app.receiving = false;
            let key = app.key;
            self.end_if_done(key);
        }
        Ok(())
    }

    /// Allows the other side so many requests.
    pub(crate) fn grant(&mut self, requests: u32, ttl_ms: u32, now: Instant) {
        let ttl = Duration::from_millis(ttl_ms.into());
        if self.connection.grant_lease(requests, ttl, None, now).is_ok() {
            // No time is no request, and so it is written (LEASE-08).
            let requests = if ttl_ms == 0 { 0 } else { requests };
            self.granted.push_back((requests, ttl_ms));
        }
    }

    /// METADATA_PUSH; what was sent, if it was taken.
    pub(crate) fn push(&mut self, bytes: u32) -> Option<Bytes> {
        self.pushed += 1;
        let size = Size { data: 8 + bytes, metadata: None };
        let metadata = model::payload(0, self.side, self.pushed as usize, size).data;
        self.connection.push_metadata(metadata.clone()).ok().map(|()| metadata)
    }

    /// A KEEPALIVE of its own.
    pub(crate) fn ping(&mut self, bytes: u32) {
        let size = Size { data: bytes, metadata: None };
        let data = model::payload(1, self.side, bytes as usize, size).data;
        if self.connection.ping(data.clone()).is_ok() {
            self.pings.push_back(data);
        }
    }

    /// Finishes a stream: sends a little more, asks for what is missing, and completes.
    pub(crate) fn finish(&mut self, model: &mut Model, id: u32) -> Check {
        let Some(app) = self.apps.get(&id).copied() else { return Ok(()) };
        if app.receiving && model.of(id)?.outstanding(self.side) < 3 {
            self.request_n(model, id, 3)?;
        }
        if app.sending {
            if app.interaction.has_initial_n() {
                self.emit(model, id, 2, false, Size { data: 100, metadata: Some(3) })?;
            }
            self.complete(model, id)?;
        }
        Ok(())
    }
}
