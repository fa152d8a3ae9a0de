//! A scripted raw peer around one `Connection`.

use std::{
    collections::HashMap,
    fmt::Debug,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf, BytesMut};

use super::wire::{self, Seen};
use crate::{
    AnswerNow, CloseReason, Config, Connection, ErrorCode, Event, Payload, RequestError, SendError,
    Side, StreamError, StreamKey, StreamMut,
    frame::{Interaction, Setup},
};

pub(super) const RR: Interaction = Interaction::RequestResponse;
pub(super) const FNF: Interaction = Interaction::FireAndForget;
pub(super) const RS: Interaction = Interaction::RequestStream;
pub(super) const RC: Interaction = Interaction::RequestChannel;

/// The endpoint under test, and us at the other end of its wire.
pub(super) struct Wire {
    pub(super) connection: Connection,
    pub(super) now: Instant,
    out: BytesMut,
    input: BytesMut,
    send: crate::SendBuf,
    keys: HashMap<u32, StreamKey>,
    seen: Vec<Seen>,
    fence: u32,
}

impl Wire {
    /// A server that has accepted our SETUP.
    pub(super) fn server() -> Self {
        Self::server_with(Config::default())
    }

    pub(super) fn server_with(config: Config) -> Self {
        let mut wire = Self::fresh_server(config);
        wire.receive(wire::setup());
        assert_eq!(wire.events(), "Setup");
        wire.connection.accept(wire.now);
        assert_eq!(wire.sent(), "", "SETUP-31");
        wire
    }

    /// A server that has received nothing.
    pub(super) fn fresh_server(config: Config) -> Self {
        let now = some_instant();
        Self::new(Connection::server(Arc::new(config), now), now)
    }

    /// A client that knows it is accepted.
    pub(super) fn client() -> Self {
        Self::client_with(Config::default())
    }

    pub(super) fn client_with(config: Config) -> Self {
        let mut wire = Self::fresh_client(config);
        assert_eq!(wire.sent(), "SETUP");
        wire.receive(wire::ka(0, 0, b""));
        assert_eq!(wire.events(), "Established");
        wire
    }

    /// A client that has written nothing yet.
    pub(super) fn fresh_client(config: Config) -> Self {
        Self::fresh_client_of(setup(), config)
    }

    /// A client with a SETUP of its own, which it has not written yet.
    pub(super) fn fresh_client_of(setup: Setup, config: Config) -> Self {
        let now = some_instant();
        Self::new(Connection::client(setup, Arc::new(config), now), now)
    }

    fn new(connection: Connection, now: Instant) -> Self {
        Self {
            connection,
            now,
            out: BytesMut::new(),
            input: BytesMut::new(),
            send: crate::SendBuf::length_prefixed(),
            keys: HashMap::new(),
            seen: Vec::new(),
            fence: wire::MAX - 1_000_000,
        }
    }

    // ---- the peer's side ------------------------------------------------------------------------

    /// We send a frame.
    pub(super) fn receive(&mut self, frame: impl AsRef<[u8]>) {
        self.receive_bytes(&wire::prefixed(frame.as_ref()));
    }

    /// We send frames in one piece.
    pub(super) fn receive_all<T: AsRef<[u8]>>(&mut self, frames: impl IntoIterator<Item = T>) {
        let bytes: Vec<u8> =
            frames.into_iter().flat_map(|frame| wire::prefixed(frame.as_ref())).collect();
        self.receive_bytes(&bytes);
    }

    /// We send bytes, whatever they are.
    pub(super) fn receive_bytes(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        self.connection.handle_bytes(&mut self.input, self.now);
    }

    /// We send frames in one piece, and a service may answer them as they come.
    pub(super) fn receive_answering<T: AsRef<[u8]>>(
        &mut self,
        frames: impl IntoIterator<Item = T>,
        service: &mut impl AnswerNow,
    ) {
        for frame in frames {
            self.input.extend_from_slice(&wire::prefixed(frame.as_ref()));
        }
        let Self { connection, input, now, send, .. } = self;
        connection.handle_bytes_answering(input, *now, send, service);
    }

    /// Bytes it has not taken.
    pub(super) fn untaken(&self) -> usize {
        self.input.len()
    }

    /// We send bytes that cost the transport, and what is half read or half written goes with it.
    pub(super) fn break_with(&mut self, bytes: &[u8]) {
        self.receive_bytes(bytes);
        assert_eq!(self.events(), "Suspended", "{bytes:x?}");
        assert_eq!(self.sent(), "", "an ERROR would end the session at the other end");
        self.input.clear();
        self.out.clear();
    }

    /// The transport is lost, with what is half read or half written.
    pub(super) fn disconnect(&mut self, error: Option<&str>) {
        self.input.clear();
        self.out.clear();
        self.send = crate::SendBuf::length_prefixed();
        self.connection
            .handle_disconnect(error.map(|error| io::Error::other(error).into()), self.now);
    }

    /// The frames it writes, as long as it has anything to write.
    pub(super) fn sent_frames(&mut self) -> Vec<Seen> {
        let mut frames = std::mem::take(&mut self.seen);
        loop {
            frames.extend(self.sent_once());
            if !self.connection.wants_output() {
                return frames;
            }
        }
    }

    /// Frames that a test has seen, and wants to see again with what follows them.
    pub(super) fn put_back(&mut self, frames: &[Seen]) {
        self.seen.extend_from_slice(frames);
    }

    /// The bytes it has written, which nobody has looked at.
    pub(super) fn unsent_bytes(&mut self) -> Vec<u8> {
        let len = self.send.len();
        self.send.copy_to_bytes(len).to_vec()
    }

    /// The frames that one `poll_transmit` writes.
    pub(super) fn sent_once(&mut self) -> Vec<Seen> {
        self.transmit();
        self.drain()
    }

    /// The trace of the next frames it writes, so many and no more.
    pub(super) fn sent_next(&mut self, count: usize) -> String {
        self.send.set_high_water(1);
        let frames: Vec<_> = (0..count).flat_map(|_| self.sent_once()).collect();
        self.send.set_high_water(crate::SendBuf::HIGH_WATER);
        assert_eq!(frames.len(), count);
        let frames: Vec<_> = frames.iter().map(Seen::describe).collect();
        frames.join(" ")
    }

    /// Fills the send buffer, which nobody reads.
    pub(super) fn transmit(&mut self) -> usize {
        self.connection.poll_transmit(&mut self.send);
        self.send.len()
    }

    pub(super) fn drain(&mut self) -> Vec<Seen> {
        while self.send.has_remaining() {
            let chunk = self.send.chunk();
            self.out.extend_from_slice(chunk);
            let len = chunk.len();
            self.send.advance(len);
        }
        let mut frames = Vec::new();
        while let Some(&[a, b, c]) = self.out.first_chunk::<3>() {
            let len = u32::from_be_bytes([0, a, b, c]) as usize;
            assert!(self.out.len() >= 3 + len, "TCP-01: a frame is cut short");
            self.out.advance(3);
            frames.push(wire::read(&self.out.split_to(len)));
        }
        assert!(self.out.is_empty());
        frames
    }

    /// The trace of what it writes.
    pub(super) fn sent(&mut self) -> String {
        let frames = self.sent_frames();
        let frames: Vec<_> = frames.iter().map(Seen::describe).collect();
        frames.join(" ")
    }

    // ---- its owner's side -----------------------------------------------------------------------

    /// The events it tells its owner. Input that had to wait for this is taken.
    pub(super) fn events(&mut self) -> String {
        let mut events = Vec::new();
        loop {
            while let Some(event) = self.poll_event() {
                events.push(describe(&event));
            }
            self.connection.handle_bytes(&mut self.input, self.now);
            if !self.connection.has_events() {
                return events.join(" ");
            }
        }
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        let event = self.connection.poll_event()?;
        if let Event::Request { key, .. } = event {
            self.keys.insert(key.id().get(), key);
        }
        Some(event)
    }

    /// Opens a stream and tells its id.
    pub(super) fn request(
        &mut self,
        interaction: Interaction,
        payload: impl Into<Payload>,
        n: u32,
    ) -> u32 {
        let key = self.connection.request(interaction, payload.into(), n).expect("a request");
        self.keys.insert(key.id().get(), key);
        key.id().get()
    }

    pub(super) fn key(&self, id: u32) -> StreamKey {
        self.keys[&id]
    }

    /// The last stream of this id, which must be open.
    pub(super) fn stream(&mut self, id: u32) -> StreamMut<'_> {
        let key = self.key(id);
        self.connection.stream(key).expect("an open stream")
    }

    pub(super) fn is_open(&mut self, id: u32) -> bool {
        let key = self.keys.get(&id);
        key.is_some_and(|key| self.connection.stream(*key).is_some())
    }

    pub(super) fn send(&mut self, id: u32, item: impl Into<Payload>) -> Result<(), SendError> {
        self.stream(id).send(item.into())
    }

    pub(super) fn send_last(&mut self, id: u32, item: impl Into<Payload>) -> Result<(), SendError> {
        self.stream(id).send_last(item.into())
    }

    /// Opens a stream, and writes that at once if it can; its id, unless it is over.
    pub(super) fn request_now(
        &mut self,
        interaction: Interaction,
        payload: impl Into<Payload>,
        n: u32,
    ) -> Result<Option<u32>, RequestError> {
        let key = self.connection.request_now(interaction, payload.into(), n, &mut self.send)?;
        Ok(key.map(|key| {
            self.keys.insert(key.id().get(), key);
            key.id().get()
        }))
    }

    /// Gives items to a stream or channel, to be written at once; what became of each.
    pub(super) fn send_now(
        &mut self,
        id: u32,
        items: &[&'static str],
    ) -> Vec<Result<(), SendError>> {
        let key = self.key(id);
        let half = self.connection.items(key, &mut self.send);
        half.into_iter()
            .flat_map(|mut half| items.iter().map(move |item| half.send((*item).into())))
            .collect()
    }

    pub(super) fn send_last_now(
        &mut self,
        id: u32,
        item: impl Into<Payload>,
    ) -> Result<(), SendError> {
        let key = self.key(id);
        self.connection.send_last_now(key, item.into(), &mut self.send)
    }

    /// Does something with the connection and the buffer it writes to.
    pub(super) fn with_buffer(&mut self, act: impl FnOnce(&mut Connection, &mut crate::SendBuf)) {
        act(&mut self.connection, &mut self.send);
    }

    /// Sends as many items as it may, up to `limit`, writing as it goes.
    pub(super) fn send_up_to(&mut self, id: u32, limit: usize) -> usize {
        let mut sent = 0;
        while sent < limit && self.is_open(id) && self.stream(id).capacity() > 0 {
            self.send(id, "i").expect("capacity");
            sent += 1;
            self.transmit();
        }
        sent
    }

    pub(super) fn fail(&mut self, id: u32, code: u32) -> Result<(), SendError> {
        self.stream(id).fail(StreamError::new(ErrorCode(code), "failed"))
    }

    // ---- both -----------------------------------------------------------------------------------

    /// Time passes.
    pub(super) fn advance(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.connection.handle_timeout(self.now);
    }

    /// Milliseconds until it wants to be woken.
    pub(super) fn deadline(&self) -> Option<u128> {
        let deadline = self.connection.poll_timeout()?;
        Some(deadline.duration_since(self.now).as_millis())
    }

    /// Nothing is written and nothing told.
    pub(super) fn assert_silent(&mut self, context: impl Debug) {
        assert_eq!(self.sent(), "", "{context:?}");
        assert_eq!(self.events(), "", "{context:?}");
    }

    /// The connection works: KEEPALIVE is answered, and a request on a fresh id is served.
    pub(super) fn fence(&mut self, context: impl Debug) {
        self.receive(wire::ka(wire::R, 0, b"fence"));
        assert_eq!(self.sent(), "KA(0,'fence')", "{context:?}");
        self.fence += 2;
        let id = self.fence + u32::from(self.connection.role() == crate::Role::Client);
        self.receive(wire::rr(id, "fence"));
        let request = format!("Request({id},RR,'fence')");
        assert_eq!(self.events(), request, "{context:?}");
        self.send_last(id, "ok").expect("a reply");
        assert_eq!(self.sent(), format!("P({id},N+C,'ok')"), "{context:?}");
        assert!(!self.is_open(id));
    }

    /// It ended with CONNECTION_ERROR or the like, says so once, and does nothing after it.
    pub(super) fn assert_ended_with(&mut self, code: u32, context: impl Debug) {
        assert_eq!(self.sent(), format!("ERR(0,{code:#x})"), "{context:?}");
        let events = self.events();
        let closed = events.starts_with("Closed(") || events.contains(" Closed(");
        assert!(closed, "{events} {context:?}");
        self.assert_dead();
    }

    /// Nothing is heard, said or kept any more (FRAME-23).
    pub(super) fn assert_dead(&mut self) {
        assert!(self.connection.is_closed());
        let id = if self.connection.role() == crate::Role::Client { 2 } else { 1 };
        self.receive_all([wire::rr(id, "late"), wire::ka(wire::R, 0, b"late")]);
        self.assert_silent("after the end");
        self.assert_idle();
        assert_eq!(self.connection.poll_timeout(), None);
    }

    /// Tables and lists are empty.
    pub(super) fn assert_idle(&mut self) {
        assert_eq!(self.connection.reassembly_bytes(), 0);
        assert_eq!(self.connection.open_streams(), 0);
        assert!(!self.connection.wants_output());
        assert!(!self.connection.has_events());
    }
}

/// The SETUP of a client of these tests: as [`wire::setup`].
pub(super) fn setup() -> Setup {
    Setup {
        version: (1, 0),
        keepalive_interval_ms: 1_000,
        max_lifetime_ms: 3_000,
        resume_token: None,
        lease: false,
        metadata_mime: "a/b".into(),
        data_mime: "c/d".into(),
        payload: Payload::default(),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "an Instant cannot be made in any other way; from here on time is counted by the test"
)]
pub(super) fn some_instant() -> Instant {
    Instant::now()
}

pub(super) fn describe(event: &Event) -> String {
    let text = |payload: &Payload| wire::payload_text(payload.metadata.as_deref(), &payload.data);
    match event {
        Event::Setup(_) => "Setup".into(),
        Event::Established => "Established".into(),
        Event::Pong(data) => format!("Pong({data:?})"),
        Event::Request { key, interaction, payload, complete } => {
            let kind = match interaction {
                Interaction::FireAndForget => "FNF",
                Interaction::RequestResponse => "RR",
                Interaction::RequestStream => "RS",
                Interaction::RequestChannel => "RC",
            };
            let complete = if *complete { "C," } else { "" };
            format!("Request({},{kind},{complete}{})", key.id(), text(payload))
        }
        Event::Payload { key, payload, complete } => {
            let last = if *complete { ",last" } else { "" };
            format!("Item({},{}{last})", key.id(), text(payload))
        }
        Event::Completed { key } => format!("Completed({})", key.id()),
        Event::Failed { key, error } => {
            format!("Failed({},{:#x},'{}')", key.id(), error.code.0, error.message)
        }
        Event::Cancelled { key } => format!("Cancelled({})", key.id()),
        Event::Credited { key } => format!("Credited({})", key.id()),
        Event::Resume(resume) => format!(
            "Resume({:02x?},{},{})",
            &resume.token[..],
            resume.last_received_server_position,
            resume.first_available_client_position
        ),
        Event::Suspended => "Suspended".into(),
        Event::Resumed => "Resumed".into(),
        Event::Leased(lease) => {
            let metadata = lease.metadata.as_ref().map(|metadata| format!(",{metadata:?}"));
            format!("Leased({},{}{})", lease.ttl_ms, lease.requests, metadata.unwrap_or_default())
        }
        Event::MetadataPush(metadata) => format!("Push({})", wire::payload_text(None, metadata)),
        Event::Draining(CloseReason::Error {
            code: ErrorCode::CONNECTION_CLOSE, message, ..
        }) => {
            format!("Draining('{message}')")
        }
        Event::Draining(other) => format!("Draining({other:?})"),
        Event::Closed(reason) => match reason {
            CloseReason::Violation(violation) => format!("Closed({violation:?})"),
            CloseReason::Error { by: Side::Peer, code, message } => {
                format!("Closed(peer,{:#x},'{message}')", code.0)
            }
            CloseReason::Error { code, .. } => format!("Closed({:#x})", code.0),
            CloseReason::Finished(side) => format!("Closed({side:?})"),
            CloseReason::Disconnected => "Closed(Disconnected)".into(),
            CloseReason::WebSocketClosed { code, reason } => {
                format!("Closed(WebSocket,{code},'{reason}')")
            }
            CloseReason::ClosedAfterSetup => "Closed(ClosedAfterSetup)".into(),
            CloseReason::ResumeWindowOver => "Closed(ResumeWindowOver)".into(),
            CloseReason::Io(error) => format!("Closed(Io,'{error}')"),
        },
    }
}
