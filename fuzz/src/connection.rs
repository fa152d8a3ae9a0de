//! Connections: a client and a server, their applications, the wire between them, and somebody
//! who writes on it. The input decides what happens, and in which order.

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use arbitrary::{Result, Unstructured};
use bytes::{Buf, Bytes, BytesMut};
use rsock_proto::{
    CloseReason, Config, Connection, ControlError, ErrorCode, Event, Interaction, IoError, Payload,
    RequestError, Role, SendBuf, StreamError, StreamKey, Violation,
    frame::{self, Setup},
};
use rsock_wire::{MAX_N, flag, kind};

use crate::ledger::{Head, Ledger};

/// The most streams an application of ours keeps open.
const OWN_STREAMS: usize = 12;
const INTERACTIONS: [Interaction; 4] = [
    Interaction::FireAndForget,
    Interaction::RequestResponse,
    Interaction::RequestStream,
    Interaction::RequestChannel,
];

/// Runs a client and a server through whatever `data` says.
///
/// With the first bit of the input unset, both get nothing but what the other has written; then
/// neither may find fault with the other.
pub fn connection(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(mut world) = World::new(&mut input) else { return };
    while !input.is_empty() && world.step(&mut input).is_ok() {}
    world.finish();
}

struct World {
    hostile: bool,
    now: Instant,
    ends: [End; 2],
}

impl World {
    fn new(input: &mut Unstructured<'_>) -> Result<Self> {
        let hostile = input.arbitrary()?;
        let now = Instant::now();
        let client = End::new(Role::Client, input, now)?;
        let server = End::new(Role::Server, input, now)?;
        let mut world = Self { hostile, now, ends: [client, server] };
        if input.ratio(7, 8)? {
            world.ends[0].transmit(None);
            world.deliver(1, 1);
            world.ends[1].connection.accept(now);
        }
        Ok(world)
    }

    fn step(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let choice: u8 = input.arbitrary()?;
        let at = usize::from(choice >> 7);
        let now = self.now;
        match choice & 0x1F {
            0..=6 => {
                let frames = input.int_in_range(1..=6)?;
                self.deliver(at, frames);
            }
            7..=13 if self.hostile => {
                let frame = self.ends[at].forge(input)?;
                self.ends[at].feed(frame.into(), now);
            }
            14 if self.hostile => {
                let len = input.int_in_range(0..=40)?.min(input.len());
                let bytes = input.bytes(len)?.to_vec();
                self.ends[at].feed_bytes(&bytes, now);
            }
            15..=17 => self.ends[at].transmit(None),
            18 => {
                let room = input.arbitrary::<u8>()?;
                self.ends[at].transmit(Some(room.into()));
            }
            19 => self.pass_time(input.int_in_range(0..=3_000)?),
            20 => match input.arbitrary::<u8>()? {
                0 => self.ends[at].disconnect(None, now),
                1 => self.ends[at].disconnect(Some(io::Error::other("gone").into()), now),
                2 => self.ends[at].connection.close(),
                3 => self.ends[at].connection.drain(),
                4 => self.ends[at].connection.end_with(ErrorCode::CONNECTION_ERROR, "é"),
                _ => {}
            },
            _ => self.ends[at].act(input, now)?,
        }
        for end in &mut self.ends {
            end.look(None);
            end.check(self.hostile);
        }
        Ok(())
    }

    /// Gives one end what the other has written.
    fn deliver(&mut self, at: usize, frames: usize) {
        for _ in 0..frames {
            if !self.ends[at].connection.wants_input() {
                return;
            }
            let Some(frame) = self.ends[1 - at].written.pop_front() else { return };
            self.ends[at].feed(frame, self.now);
        }
    }

    fn pass_time(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        for end in &mut self.ends {
            end.connection.handle_timeout(self.now);
            let next = end.connection.poll_timeout();
            assert!(
                next.is_none_or(|next| next > self.now),
                "{next:?} is not after {:?}",
                self.now
            );
        }
    }

    /// Everything written is delivered, and then the transport ends.
    fn finish(&mut self) {
        loop {
            let before = self.ends.each_ref().map(|end| end.fed);
            for at in [0, 1] {
                self.ends[at].transmit(None);
                self.deliver(1 - at, usize::MAX);
            }
            if self.ends.each_ref().map(|end| end.fed) == before {
                break;
            }
        }
        for end in &mut self.ends {
            end.transmit(None);
            end.disconnect(None, self.now);
            end.check(self.hostile);
            assert!(end.connection.is_closed() && end.is_closed);
            assert_eq!(end.connection.open_streams(), 0);
        }
    }
}

/// The events that an application has been told of a stream.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    /// The peer's half has ended, or we do not want it any more.
    received: bool,
    /// The stream is over.
    over: bool,
}

/// One connection, its application, and its end of the wire.
struct End {
    connection: Connection,
    max_streams: usize,
    /// Streams the application knows of and that are not over.
    keys: Vec<StreamKey>,
    told: HashMap<StreamKey, Told>,
    own: Vec<StreamKey>,
    is_closed: bool,
    /// The connection ended for what the peer is said to have done.
    blamed: bool,
    ledger: Ledger,
    out: SendBuf,
    tapped: Arc<Mutex<Vec<Bytes>>>,
    written: VecDeque<Bytes>,
    bytes: BytesMut,
    fed: u64,
    commanded: u64,
}

impl End {
    fn new(role: Role, input: &mut Unstructured<'_>, now: Instant) -> Result<Self> {
        let mut config = Config::default();
        config.max_frame_bytes = 16 << 10;
        config.max_streams = input.int_in_range(1..=6)?;
        config.max_request_bytes = 6_000;
        config.max_queued_replies = input.int_in_range(1..=4)?;
        config.max_queued_reply_bytes = 64;
        config.quantum_bytes = *input.choose(&[1, 100, 16 << 10])?;
        config.fragment_bytes = *input.choose(&[None, Some(64), Some(100), Some(1_000)])?;
        config.max_payload_bytes = 3_000;
        config.max_reassembly_bytes = 4_000;
        config.max_fragments = 60;
        config.max_empty_fragments = 3;
        let max_streams = config.max_streams;
        let max_fragment = config.fragment_bytes.unwrap_or(usize::MAX);
        let config = Arc::new(config);
        let connection = if role == Role::Client {
            Connection::client(setup(input)?, config, now)
        } else {
            Connection::server(config, now)
        };
        let tapped = Arc::new(Mutex::new(Vec::new()));
        let mut out = SendBuf::bare();
        let tap = tapped.clone();
        out.set_tap(move |frame| tap.lock().expect("no panic holds it").push(frame));
        Ok(Self {
            connection,
            max_streams,
            keys: Vec::new(),
            told: HashMap::new(),
            own: Vec::new(),
            is_closed: false,
            blamed: false,
            ledger: Ledger::new(role == Role::Client, max_fragment),
            out,
            tapped,
            written: VecDeque::new(),
            bytes: BytesMut::new(),
            fed: 0,
            commanded: 0,
        })
    }

    // ---- the peer -----------------------------------------------------------------------------

    fn feed(&mut self, frame: Bytes, now: Instant) {
        if !self.connection.wants_input() {
            return;
        }
        let head = Head::read(&frame);
        self.hear(head, frame.len());
        self.connection.handle_frame(frame, now);
        self.look(head);
    }

    /// A byte stream: frame by frame, so that it is known which of them opened a stream.
    fn feed_bytes(&mut self, bytes: &[u8], now: Instant) {
        if self.bytes.len() < 4_096 {
            self.bytes.extend_from_slice(bytes);
        }
        while let Some(needed) = frame::needed(&self.bytes)
            && needed <= self.bytes.len()
            && self.connection.wants_input()
        {
            let mut one = self.bytes.split_to(needed);
            let head = Head::read(&one[frame::PREFIX_LEN..]);
            self.hear(head, needed);
            self.connection.handle_bytes(&mut one, now);
            assert!(one.is_empty() || !self.connection.wants_input());
            self.look(head);
        }
        let before = self.bytes.len();
        self.connection.handle_bytes(&mut self.bytes, now);
        assert_eq!(self.bytes.len(), before, "what is not whole stays");
        self.look(None);
    }

    fn hear(&mut self, head: Option<Head>, len: usize) {
        self.fed += len as u64 + 9;
        if let Some(head) = head {
            self.ledger.received(head);
        }
    }

    /// A frame that might be one: of any kind, often on a stream there is.
    fn forge(&self, input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
        let stream = match input.arbitrary::<u8>()? {
            255 => input.arbitrary()?,
            id @ 0..100 => u32::from(id % 10),
            at => match self.keys.get(usize::from(at) % self.keys.len().max(1)) {
                Some(key) => key.id().get(),
                None => u32::from(at % 10),
            },
        };
        let kind = match input.arbitrary::<u8>()? {
            // Mostly what ends a connection.
            0..4 => input.int_in_range(0..=63)?,
            other => {
                [1, 3, 4, 5, 6, 7, 7, 8, 8, 9, 10, 10, 10, 10, 11, 12][usize::from(other % 16)]
            }
        };
        let flags = match input.arbitrary::<u8>()? {
            0..16 => input.arbitrary()?,
            // NEXT, COMPLETE, FOLLOWS, and metadata.
            flags => [0x20, 0x20, 0x40, 0x60, 0xA0, 0x80, 0x120, 0x1A0][usize::from(flags % 8)],
        };
        let n: u32 = match input.arbitrary::<u8>()? {
            n @ 0..200 => u32::from(n % 8),
            200..240 => MAX_N,
            _ => input.arbitrary()?,
        };
        let len = input.int_in_range(0..=60)?.min(input.len());
        let body = input.bytes(len)?;
        let code = [0x201, 3, 0x102, 0x203, 0x201, 0x202, 0x101, n][n as usize % 8].to_be_bytes();
        Ok(match kind {
            kind::SETUP => {
                let fields = [&[0, 1, 0, 0][..], &n.to_be_bytes(), &[0, 0, 9, 0, 1, b'a', 1, b'b']];
                // Mostly without what is not on offer.
                let flags = if n == 7 { flags } else { 0 };
                raw(stream * u32::from(n == 6), kind, flags, &fields.concat(), body)
            }
            3 => raw(0, kind, flags, &u64::from(n).to_be_bytes(), body),
            kind::REQUEST_STREAM | kind::REQUEST_CHANNEL | kind::REQUEST_N => {
                raw(stream, kind, flags, &n.to_be_bytes(), body)
            }
            kind::ERROR => raw(stream, kind, flags, &code, body),
            12 => raw(0, kind, flags, &[], body),
            _ => raw(stream, kind, flags, &[], body),
        })
    }

    fn disconnect(&mut self, error: Option<IoError>, now: Instant) {
        self.connection.handle_disconnect(error, now);
        assert!(self.connection.is_closed());
        self.look(None);
    }

    /// Writes what there is to write, or only about `room` bytes of it.
    fn transmit(&mut self, room: Option<usize>) {
        let mut idle = 0;
        while self.connection.wants_output() {
            let junk = room.map_or(0, |room| SendBuf::HIGH_WATER - room);
            if junk > 0 {
                self.out.put_raw(&vec![0; junk]);
            }
            self.connection.poll_transmit(&mut self.out);
            let len = self.out.len();
            let bytes = self.out.copy_to_bytes(len);
            let frames = std::mem::take(&mut *self.tapped.lock().expect("no panic holds it"));
            assert_eq!(bytes[junk..], frames.concat(), "the tap sees what is written");
            let last = frames.last().map_or(0, Bytes::len);
            // A server's refusal, the end of the connection or SETUP do not ask for room.
            assert!(len <= SendBuf::HIGH_WATER + last + 500, "{len} bytes at once");
            idle = if frames.is_empty() { idle + 1 } else { 0 };
            assert!(idle < 3, "something to write that is never written");
            for frame in frames {
                self.ledger.sent(Head::read(&frame).expect("what is written is a frame"));
                self.written.push_back(frame);
            }
            self.look(None);
            if room.is_some() {
                break;
            }
        }
    }

    // ---- the application ----------------------------------------------------------------------

    /// Drains the events. `head` is the frame that was given just before.
    fn look(&mut self, head: Option<Head>) {
        while let Some(event) = self.connection.poll_event() {
            assert!(!self.is_closed, "{event:?} after the end");
            match event {
                Event::Request { key, complete, interaction, .. } => {
                    let head = head.expect("a request is the doing of a frame");
                    assert_eq!(head.header.stream, key.id().get());
                    assert!(!complete || interaction == Interaction::RequestChannel);
                    self.ledger.opened(head);
                    let received = complete || interaction != Interaction::RequestChannel;
                    let known = self.told.insert(key, Told { received, over: false });
                    assert!(known.is_none(), "{key:?} is known");
                    self.keys.push(key);
                }
                Event::Payload { key, complete, .. } => {
                    let told = self.told(key);
                    assert!(!told.received, "an item after the end of {key:?}");
                    told.received = complete;
                }
                Event::Completed { key } => {
                    let told = self.told(key);
                    assert!(!told.received, "the end of {key:?} twice");
                    told.received = true;
                }
                Event::Failed { key, .. } => self.told(key).over = true,
                Event::Cancelled { key } => {
                    let own = self.own.contains(&key);
                    self.told(key).over = !own;
                }
                Event::Credited { key } => {
                    self.told(key);
                }
                Event::Closed(reason) => self.end(&reason),
                _ => {}
            }
        }
        let connection = &mut self.connection;
        self.keys.retain(|key| connection.stream(*key).is_some());
        self.own.retain(|key| connection.stream(*key).is_some());
    }

    fn told(&mut self, key: StreamKey) -> &mut Told {
        let told = self.told.get_mut(&key).expect("events are of streams that are known");
        assert!(!told.over, "something of {key:?} after its end");
        told
    }

    fn end(&mut self, reason: &CloseReason) {
        _ = reason.to_string();
        self.is_closed = true;
        if let CloseReason::Violation(violation) = reason {
            let timeout =
                matches!(violation, Violation::SetupTimeout | Violation::KeepaliveTimeout);
            self.blamed |= !timeout;
        }
    }

    fn check(&mut self, hostile: bool) {
        let connection = &self.connection;
        let (own, open) = (self.own.len(), connection.open_streams());
        assert!(open <= own + self.max_streams, "{open} streams are open, {own} of them ours");
        assert!(!connection.has_events());
        let stats = connection.stats();
        let most = 20 * self.fed + 3 * self.commanded + 1_000;
        assert!(stats.bytes_out <= most, "{} bytes out for {most}", stats.bytes_out);
        if !hostile {
            assert!(!self.blamed, "an honest peer is blamed");
            assert_eq!((stats.credit_violations, stats.ignored_on_request), (0, 0));
        }
        if self.is_closed {
            assert!(!connection.wants_input() && connection.poll_timeout().is_none());
            assert_eq!(open, 0);
        }
        if connection.is_closed() {
            assert!(self.is_closed && !connection.wants_output());
        }
    }

    fn act(&mut self, input: &mut Unstructured<'_>, now: Instant) -> Result<()> {
        self.commanded += 100;
        let key = match self.keys.len() {
            0 => None,
            len => Some(self.keys[usize::from(input.arbitrary::<u8>()?) % len]),
        };
        let choice = input.int_in_range(0..=15)?;
        match (choice, key) {
            (0, _) => self.connection.accept(now),
            (1, _) => {
                if input.ratio(1, 8)? {
                    self.connection.reject(ErrorCode::REJECTED_SETUP, "no");
                } else {
                    self.connection.accept(now);
                }
            }
            (2, _) => {
                let data = self.payload(input)?.data;
                if let Err(error) = self.connection.ping(data) {
                    self.refused(error);
                }
            }
            (3, _) => {
                let metadata = self.payload(input)?.data;
                if let Err(error) = self.connection.push_metadata(metadata) {
                    self.refused(error);
                }
            }
            (4..=6, _) | (_, None) => self.request(input)?,
            (_, Some(key)) => self.act_on(choice, key, input)?,
        }
        Ok(())
    }

    fn request(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        if self.own.len() >= OWN_STREAMS {
            return Ok(());
        }
        let interaction = *input.choose(&INTERACTIONS)?;
        let n = *input.choose(&[1, 2, 5, MAX_N, 0, MAX_N + 1])?;
        let payload = self.payload(input)?;
        match self.connection.request(interaction, payload, n) {
            Ok(key) => {
                let known = self.told.insert(key, Told::default());
                assert!(known.is_none(), "{key:?} is known");
                self.keys.push(key);
                self.own.push(key);
            }
            Err(RequestError::InvalidRequestN) => assert!(!(1..=MAX_N).contains(&n)),
            Err(error) => {
                _ = error.to_string();
                let is_closed = error == RequestError::Closed;
                assert!(is_closed || (error == RequestError::NotEstablished && !self.is_closed));
            }
        }
        Ok(())
    }

    fn act_on(&mut self, choice: u8, key: StreamKey, input: &mut Unstructured<'_>) -> Result<()> {
        let payload = self.payload(input)?;
        let told = self.told.entry(key).or_default();
        let Some(mut stream) = self.connection.stream(key) else { return Ok(()) };
        let (capacity, credit) = (stream.capacity(), stream.credit());
        assert!(capacity as u64 <= credit);
        match choice {
            7..=9 => {
                let sent = stream.send(payload);
                assert!(sent.is_ok() == (capacity > 0), "{sent:?} with capacity {capacity}");
            }
            10 => {
                let sent = stream.send_last(payload);
                assert!(sent.is_ok() == (capacity > 0), "{sent:?} with capacity {capacity}");
            }
            11 => _ = stream.complete(),
            12 => {
                let failed = stream.fail(StreamError::new(ErrorCode::APPLICATION_ERROR, "é"));
                // What comes after that is of no interest to who failed it.
                told.received |= failed.is_ok();
            }
            13 | 14 => stream.request_n(*input.choose(&[1, 2, 5, MAX_N, 0, u32::MAX])?),
            _ => {
                stream.cancel();
                told.received = true;
            }
        }
        Ok(())
    }

    /// Why a ping or a push was refused is true.
    fn refused(&self, error: ControlError) {
        use ControlError::{Closed, NotEstablished, QueueFull};
        _ = error.to_string();
        if self.is_closed {
            assert_eq!(error, Closed);
        }
        assert!(matches!(error, Closed | NotEstablished | QueueFull));
    }

    fn payload(&mut self, input: &mut Unstructured<'_>) -> Result<Payload> {
        let choice = input.arbitrary::<u8>()?;
        let len = [0, 1, 20, 90, 150, 500, 1_900, 5_000][usize::from(choice & 7)];
        let payload = Payload::new(vec![b'd'; len]);
        let payload = match choice >> 6 {
            0 => payload.with_metadata(""),
            1 => payload.with_metadata(vec![b'm'; 200]),
            _ => payload,
        };
        self.commanded += payload.size() as u64;
        Ok(payload)
    }
}

fn setup(input: &mut Unstructured<'_>) -> Result<Setup> {
    Ok(Setup {
        version: frame::VERSION,
        keepalive_interval_ms: input.int_in_range(1..=5_000)?,
        max_lifetime_ms: input.int_in_range(1..=20_000)?,
        resume_token: None,
        lease: false,
        metadata_mime: "a/b".into(),
        data_mime: "c/d".into(),
        payload: Payload::new("setup"),
    })
}

/// A frame from its parts; `fields` stands between the header and the body, half of which is metadata
/// where the flags say that there are any.
fn raw(stream: u32, kind: u8, flags: u16, fields: &[u8], body: &[u8]) -> Vec<u8> {
    let mut frame = rsock_wire::frame(stream, kind, flags & 0x3FF, fields, body);
    let with_length = kind == kind::PAYLOAD || frame.is_request();
    if frame.has(flag::METADATA) && with_length {
        let (metadata, data) = body.split_at(body.len() / 2);
        frame = frame.metadata(metadata).data(data);
    }
    frame.encode()
}
