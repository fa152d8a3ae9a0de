//! Two connections over a wire that splits bytes anywhere, and a referee who reads it.
//!
//! The referee knows the bytes alone. For every stream it holds: items stay within the credit that
//! was written for them, nothing follows a terminal, ids are odd or even and count up, fragments
//! come as [`Joiner`] wants them. The two applications hold: what is delivered is what was sent, in
//! order; at the end nothing is left.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use bytes::{Buf, Bytes, BytesMut};

use super::{
    peer::{self, FNF, RC, RR, RS, some_instant},
    wire::{self, C, Joiner, N, R, Rng, Seen},
};
use crate::{
    Config, Connection, ErrorCode, Event, MAX_FRAME_BYTES, Payload, Role, SendBuf, StreamError,
    StreamKey, frame::Interaction,
};

/// A stream's half on the wire: items one side may still write, and whether it may write at all.
#[derive(Clone, Copy, Default)]
struct Half {
    credit: u64,
    closed: bool,
}

struct Referee {
    joiner: Joiner,
    /// Per stream the halves of the client and the server.
    halves: BTreeMap<u32, [Half; 2]>,
    /// The last id each side has used.
    last: [u32; 2],
    items: u64,
    /// Items of more than one fragment.
    joined: u64,
}

impl Referee {
    fn new(limits: [usize; 2]) -> Self {
        let joiner = Joiner::new(limits);
        Self { joiner, halves: BTreeMap::new(), last: [0; 2], items: 0, joined: 0 }
    }

    /// `side` (0 the client, 1 the server) has written a frame.
    fn see(&mut self, side: usize, frame: &Seen) {
        let context = format!("side {side}: {}", frame.describe());
        let id = frame.stream;
        let opener = usize::from(id.is_multiple_of(2));
        let goes_on = frame.kind == 0x0A && self.joiner.is_open(side, id);
        let joined = self.joiner.see(side, frame);
        self.joined += u64::from(joined.is_some_and(|joined| joined.fragments > 1));
        match frame.kind {
            0x04..=0x07 => {
                assert_eq!(opener, side, "{context}");
                assert!(id > self.last[side], "SID-01, SID-02, {context}");
                self.last[side] = id;
                let mut halves = [Half::default(); 2];
                halves[side].closed = frame.kind != 0x07;
                halves[1 - side].closed = frame.kind == 0x05;
                halves[1 - side].credit = match frame.kind {
                    0x04 => 1,
                    _ => frame.number.into(),
                };
                self.halves.insert(id, halves);
            }
            0x08 => {
                let halves = self.halves.get_mut(&id).expect("RS-16");
                halves[1 - side].credit += u64::from(frame.number);
            }
            0x09 => {
                let halves = self.halves.get_mut(&id).expect("CANCEL after the request");
                // CAN-03: the requester says no more. What the other writes may cross it.
                halves[side].closed |= opener == side;
            }
            0x0A => {
                let halves = self.halves.get_mut(&id).expect("PAYLOAD after the request");
                let half = &mut halves[side];
                // The rest of a request does not belong to a half.
                assert!(goes_on || !half.closed, "RC-08, {context}");
                if frame.has(N) && !goes_on {
                    assert!(half.credit > 0, "RS-02, RC-02, {context}");
                    half.credit -= 1;
                    self.items += 1;
                }
                half.closed |= frame.has(C);
            }
            0x0B if id > 0 => {
                let halves = self.halves.get_mut(&id).expect("ERROR after the request");
                let half = &mut halves[side];
                assert!(!half.closed, "ERR-05, {context}");
                half.closed = true;
            }
            _ => {}
        }
    }
}

/// The knowledge that one application has of a stream.
struct App {
    key: StreamKey,
    interaction: Interaction,
    requester: bool,
    /// Items given to the connection, the request of a channel not counted.
    given: u32,
    /// Items it will give in all before it completes.
    plan: u32,
    /// Items delivered.
    got: u32,
    /// Items it has asked for.
    asked: u32,
    sending: bool,
    receiving: bool,
    /// Nobody has cancelled a half of it.
    whole: bool,
}

struct Side {
    connection: Connection,
    send: SendBuf,
    /// Bytes of the other side on their way to us.
    input: BytesMut,
    /// Bytes written and not read by the referee.
    unread: BytesMut,
    apps: BTreeMap<usize, App>,
    /// Streams that ended, by id: items given and got, and whether no half was cut short.
    ended: BTreeMap<u32, (u32, u32, bool)>,
    /// Fire-and-forgets that reached our handlers, and those of ours that were written.
    heard: Vec<u32>,
    told: Vec<u32>,
    /// The id of its next request.
    next: u32,
}

impl Side {
    fn new(connection: Connection) -> Self {
        let next = if connection.role() == Role::Client { 1 } else { 2 };
        Self {
            connection,
            send: SendBuf::length_prefixed(),
            input: BytesMut::new(),
            unread: BytesMut::new(),
            apps: BTreeMap::new(),
            ended: BTreeMap::new(),
            heard: Vec::new(),
            told: Vec::new(),
            next,
        }
    }

    fn open(&mut self, rng: &mut Rng) {
        let interaction = [FNF, RR, RS, RC][rng.below(4)];
        let asked = 1 + rng.below(4) as u32;
        let opening = item(self.next, true, 0);
        let Ok(key) = self.connection.request(interaction, opening, asked) else {
            return;
        };
        assert_eq!(key.id().get(), self.next);
        self.next += 2;
        let channel = interaction == RC;
        self.apps.insert(
            key.index(),
            App {
                key,
                interaction,
                requester: true,
                given: 0,
                plan: rng.below(20) as u32,
                got: 0,
                asked: if interaction == RR { 1 } else { asked },
                sending: channel,
                receiving: interaction != FNF,
                whole: true,
            },
        );
    }

    fn events(&mut self, rng: &mut Rng) {
        while let Some(event) = self.connection.poll_event() {
            match event {
                Event::Setup(_) => self.connection.accept(some_instant()),
                Event::Request { key, interaction, payload, complete } => {
                    assert!(payload == item(key.id().get(), true, 0), "{key:?}");
                    let app = App {
                        key,
                        interaction,
                        requester: false,
                        given: 0,
                        plan: if interaction == RR { 1 } else { rng.below(20) as u32 },
                        got: 0,
                        asked: 0,
                        sending: true,
                        receiving: interaction == RC && !complete,
                        whole: true,
                    };
                    assert!(self.apps.insert(key.index(), app).is_none());
                }
                Event::Payload { key, payload, complete } => {
                    let app = self.apps.get_mut(&key.index()).expect("a stream");
                    assert_eq!(app.key, key);
                    assert!(app.receiving);
                    let sent = item(key.id().get(), !app.requester, app.got + 1);
                    assert!(payload == sent, "in order: {key:?}");
                    app.got += 1;
                    assert!(app.got <= app.asked, "DOS-05");
                    app.receiving = !complete;
                    self.forget_if_done(key);
                }
                Event::Completed { key } => {
                    let app = self.apps.get_mut(&key.index()).expect("a stream");
                    if app.interaction == FNF {
                        self.told.push(key.id().get());
                    } else {
                        assert!(app.receiving);
                    }
                    app.receiving = false;
                    self.forget_if_done(key);
                }
                Event::Failed { key, error } => {
                    assert_eq!(error, StreamError::new(ErrorCode(0x301), "failed"));
                    if !self.has_ended(key) {
                        self.forget(key, false);
                    }
                }
                Event::Cancelled { key } if self.has_ended(key) => {}
                Event::Cancelled { key } => {
                    let app = self.apps.get_mut(&key.index()).expect("a stream");
                    if app.requester {
                        app.sending = false;
                        app.whole = false;
                        self.forget_if_done(key);
                    } else {
                        self.forget(key, false);
                    }
                }
                Event::Credited { .. } | Event::Established => {}
                event @ (Event::Resume(_)
                | Event::Suspended
                | Event::Resumed
                | Event::Leased(_)) => panic!("nobody asked for it: {event:?}"),
                Event::MetadataPush(metadata) => assert_eq!(metadata, "push"),
                Event::Pong(data) => panic!("nobody pinged: {data:?}"),
                Event::Draining(reason) | Event::Closed(reason) => panic!("{reason}"),
            }
        }
    }

    fn forget_if_done(&mut self, key: StreamKey) {
        let app = &self.apps[&key.index()];
        if !app.sending && !app.receiving {
            let whole = app.whole;
            self.forget(key, whole);
        }
    }

    /// Our last word is given, and crosses what the other side says of the stream.
    fn has_ended(&self, key: StreamKey) -> bool {
        self.ended.contains_key(&key.id().get())
    }

    fn forget(&mut self, key: StreamKey, whole: bool) {
        let app = self.apps.remove(&key.index()).expect("a stream");
        assert_eq!(app.key, key);
        if app.interaction == FNF {
            return;
        }
        let before = self.ended.insert(key.id().get(), (app.given, app.got, whole));
        assert!(before.is_none(), "{key:?} ended twice");
    }

    /// The application does something to one of its streams; `calm` ends what is open.
    fn act(&mut self, rng: &mut Rng, calm: bool) {
        if self.apps.is_empty() {
            return;
        }
        let nth = rng.below(self.apps.len());
        let app = self.apps.values_mut().nth(nth).expect("in range");
        let (key, requester) = (app.key, app.requester);
        let Some(mut stream) = self.connection.stream(key) else {
            panic!("{key:?} is gone without a word");
        };
        if app.interaction == FNF {
            if !requester {
                stream.complete().expect("a handler ends once");
                self.heard.push(key.id().get());
                self.forget(key, true);
            }
            return;
        }
        match rng.below(12) {
            0..=5 if app.sending => {
                if app.given >= app.plan {
                    stream.complete().expect("our half is open");
                    app.sending = false;
                } else if stream.capacity() > 0 {
                    app.given += 1;
                    let next = item(key.id().get(), requester, app.given);
                    if app.given == app.plan && rng.one_in(2) || app.interaction == RR {
                        stream.send_last(next).expect("capacity");
                        app.sending = false;
                    } else {
                        stream.send(next).expect("capacity");
                    }
                }
                self.forget_if_done(key);
            }
            6..=8 if app.receiving && app.interaction != RR && app.got + 4 > app.asked => {
                let n = 1 + rng.below(5) as u32;
                app.asked += n;
                stream.request_n(n);
            }
            9 if !calm && rng.one_in(6) && app.receiving => {
                stream.cancel();
                app.whole = false;
                app.receiving = false;
                if requester {
                    self.forget(key, false);
                } else {
                    self.forget_if_done(key);
                }
            }
            10 if !calm && rng.one_in(6) && app.sending => {
                let failed = StreamError::new(ErrorCode(0x301), "failed");
                stream.fail(failed).expect("our half is open");
                self.forget(key, false);
            }
            _ => {}
        }
    }

    /// Writes, the referee reads, and the bytes are on their way.
    fn transmit(&mut self, side: usize, referee: &mut Referee, wire: &mut BytesMut) {
        self.connection.poll_transmit(&mut self.send);
        while self.send.has_remaining() {
            let chunk = self.send.chunk();
            let len = chunk.len();
            wire.extend_from_slice(chunk);
            self.unread.extend_from_slice(chunk);
            self.send.advance(len);
        }
        while let Some(&[a, b, c]) = self.unread.first_chunk::<3>() {
            let len = u32::from_be_bytes([0, a, b, c]) as usize;
            self.unread.advance(3);
            referee.see(side, &wire::read(&self.unread.split_to(len)));
        }
    }
}

/// The item with this number, the request being 0: a piece of noise that no other one shares.
fn item(stream: u32, of_requester: bool, number: u32) -> Payload {
    static NOISE: LazyLock<Bytes> = LazyLock::new(|| {
        let mut rng = Rng::new(0);
        (0..1 << 16).map(|_| rng.below(256) as u8).collect()
    });
    let seed = u64::from(stream) << 20 | u64::from(number) << 1 | u64::from(of_requester);
    let mut rng = Rng::new(seed);
    let mut piece = || {
        let len = [rng.below(20), rng.below(150), rng.below(2_001)][rng.below(3)];
        let at = rng.below(NOISE.len() - len);
        NOISE.slice(at..at + len)
    };
    let (metadata, data) = (piece(), piece());
    let payload = Payload::new(data);
    match rng.below(4) {
        0 => payload.with_metadata(""),
        1 => payload.with_metadata(metadata),
        _ => payload,
    }
}

/// Items written, and how many of them in fragments.
fn run(seed: u64) -> [u64; 2] {
    let mut rng = Rng::new(seed);
    let now = some_instant();
    let quantum_bytes = [100, 1_000, 16 << 10][rng.below(3)];
    let limits = [(); 2].map(|()| match rng.below(8) {
        0 => MAX_FRAME_BYTES,
        _ => 64 + rng.below(237),
    });
    let [client, server] = limits.map(|limit| {
        let fragment_bytes = Some(limit).filter(|limit| *limit < MAX_FRAME_BYTES);
        Arc::new(Config { quantum_bytes, fragment_bytes, ..Config::default() })
    });
    let mut sides = [
        Side::new(Connection::client(peer::setup(), client, now)),
        Side::new(Connection::server(server, now)),
    ];
    let mut wires = [BytesMut::new(), BytesMut::new()];
    let mut referee = Referee::new(limits);
    let mut steps = 0;
    loop {
        steps += 1;
        assert!(steps < 100_000, "seed {seed}: it does not come to rest");
        let calm = steps > 400;
        for side in 0..2 {
            let this = &mut sides[side];
            if !calm && this.apps.len() < 12 && rng.one_in(6) {
                this.open(&mut rng);
            }
            for _ in 0..rng.below(6) {
                this.act(&mut rng, calm);
            }
            if rng.one_in(20) && !calm {
                let _ = this.connection.push_metadata("push".into());
            }
            if rng.one_in(3) || calm {
                // Often full in the middle of a payload.
                this.send.set_high_water([1, 300, 2_000, SendBuf::HIGH_WATER][rng.below(4)]);
                this.transmit(side, &mut referee, &mut wires[side]);
            }
            // Some bytes of the other arrive.
            let ready = wires[1 - side].len();
            let arriving = match rng.below(4) {
                _ if calm => ready,
                0 => 0,
                1 => ready.min(1 + rng.below(8)),
                2 => rng.below(ready + 1),
                _ => ready,
            };
            this.input.unsplit(wires[1 - side].split_to(arriving));
            this.connection.handle_bytes(&mut this.input, now);
            this.events(&mut rng);
        }
        let idle = |side: &Side| side.apps.is_empty() && !side.connection.wants_output();
        if calm && sides.iter().all(idle) && wires.iter().all(BytesMut::is_empty) {
            break;
        }
    }
    check_end(seed, &mut sides);
    [referee.items, referee.joined]
}

fn check_end(seed: u64, sides: &mut [Side; 2]) {
    for side in &*sides {
        assert_eq!(side.connection.open_streams(), 0, "seed {seed}");
        assert_eq!(side.connection.reassembly_bytes(), 0, "seed {seed}");
        assert!(side.input.is_empty() && side.unread.is_empty(), "seed {seed}");
        let stats = side.connection.stats();
        assert_eq!(stats.credit_violations, 0, "seed {seed}");
        assert_eq!(stats.refused_streams, 0, "seed {seed}");
        assert_eq!(stats.refused_assemblies, 0, "seed {seed}");
    }
    let [client, server] = sides;
    for (this, other) in [(&*client, &*server), (&*server, &*client)] {
        for (id, (given, got, whole)) in &this.ended {
            // A request that was cancelled before it was written has no other end.
            let Some((other_given, other_got, other_whole)) = other.ended.get(id) else {
                assert!(!whole, "seed {seed}: stream {id} is known to one side");
                continue;
            };
            assert!(got <= other_given, "seed {seed}: stream {id}");
            if *whole && *other_whole {
                assert_eq!(got, other_given, "seed {seed}: stream {id}");
                assert_eq!(other_got, given, "seed {seed}: stream {id}");
            }
        }
        let mut heard = other.heard.clone();
        heard.sort_unstable();
        let mut told = this.told.clone();
        told.sort_unstable();
        assert_eq!(heard, told, "seed {seed}: fire-and-forget");
    }
    // Nothing holds them: a drain closes at once.
    client.connection.drain();
    let mut frames = BytesMut::new();
    client.transmit(0, &mut Referee::new([MAX_FRAME_BYTES; 2]), &mut frames);
    let last = wire::read(&frames[3..]);
    assert_eq!(last.describe(), "ERR(0,0x102)", "seed {seed}");
    server.connection.handle_bytes(&mut frames, some_instant());
    let events = [server.connection.poll_event(), server.connection.poll_event()];
    let is_end = matches!(events, [Some(Event::Draining(_)), Some(Event::Closed(_))]);
    assert!(is_end, "{events:?}");
}

#[test]
fn what_is_delivered_is_what_was_sent() {
    let [items, joined] =
        (0..200).map(run).fold([0; 2], |[items, joined], [i, j]| [items + i, joined + j]);
    assert!(items > 14_000 && joined > 5_000, "only {items} items, {joined} of them in fragments");
}

#[test]
fn keepalive_crosses_a_busy_wire() {
    let now = some_instant();
    let config = Arc::new(Config::default());
    let mut client = Side::new(Connection::client(peer::setup(), config.clone(), now));
    let mut server = Side::new(Connection::server(config, now));
    let mut referee = Referee::new([MAX_FRAME_BYTES; 2]);
    let mut rng = Rng::new(1);
    let mut answers = 0;
    for second in 0..20 {
        let now = now + std::time::Duration::from_millis(1_000 * second);
        for side in [&mut client, &mut server] {
            side.connection.handle_timeout(now);
        }
        let mut wire = BytesMut::new();
        client.transmit(0, &mut referee, &mut wire);
        server.connection.handle_bytes(&mut wire, now);
        server.events(&mut rng);
        let mut wire = BytesMut::new();
        server.transmit(1, &mut referee, &mut wire);
        if !wire.is_empty() {
            let answer = wire::read(&wire[3..]);
            assert!(answer.kind == 0x03 && !answer.has(R));
            answers += 1;
        }
        client.connection.handle_bytes(&mut wire, now);
        client.events(&mut rng);
    }
    assert_eq!(answers, 19);
}
