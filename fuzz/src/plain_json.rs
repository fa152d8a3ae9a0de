//! The engine of `rsock.json.v1`: any messages in any state, beside a model of what is open and what was granted.
//!
//! The engine is of `rsockd`, whose sources are taken as they are: it is a function of state, input and time.

#[allow(dead_code, reason = "what is for whoever does what it says")]
#[path = "../../server/src/plain/json/engine.rs"]
mod engine;
#[allow(dead_code, reason = "the same")]
#[path = "../../server/src/plain/json/message.rs"]
mod message;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use engine::{CHANNEL_WINDOW, Engine, Entry, MAX_OPEN, MAX_WAITING_BYTES, Output};
use message::{Data, Kind};

/// A request as the model knows it.
struct Open {
    kind: Kind,
    granted: u64,
    fed: u64,
    /// Bytes that were fed and not taken.
    waiting: Vec<usize>,
    bytes: usize,
}

/// Lines, of which the first byte says what happens: a message of the client, or something that the service does.
pub fn plain_json(data: &[u8]) {
    let now = Instant::now();
    let (mut engine, rest) = match data.split_first() {
        Some((b'k', rest)) => (Engine::new(Entry::Known), rest),
        Some((b'a', rest)) => (Engine::new(Entry::Anybody), rest),
        Some((_, rest)) => {
            (Engine::new(Entry::Unknown { until: now + Duration::from_secs(10) }), rest)
        }
        None => return,
    };
    let mut world = World::default();
    for (step, line) in rest.split(|byte| *byte == b'\n').enumerate() {
        let Some((what, rest)) = line.split_first() else { continue };
        let id = rest.first().map_or(0, |id| u64::from(id % 8));
        let item = Data { bytes: Bytes::copy_from_slice(rest), meta: None };
        match what {
            b'i' if engine.has_credit(id) => engine.item(id, &item),
            b'c' => engine.complete(id),
            b'f' => engine.fail(id, "REJECTED", &String::from_utf8_lossy(rest)),
            b't' => world.take(&mut engine, id),
            b'w' => engine.wants_no_more(id),
            b'd' => engine.drain(now, Duration::from_millis(rest.len() as u64)),
            b'n' => engine.tick(now + Duration::from_secs(step as u64)),
            b'y' if world.looks_up => {
                world.looks_up = false;
                engine.authenticated(Ok(()));
            }
            b'x' if world.looks_up => {
                world.looks_up = false;
                engine.authenticated(Err("authentication failed"));
            }
            _ if engine.wants_input() => {
                engine.message(&String::from_utf8_lossy(rest), *what == b's')
            }
            _ => {}
        }
        world.judge(&mut engine);
    }
}

#[derive(Default)]
struct World {
    open: HashMap<u64, Open>,
    looks_up: bool,
    is_over: bool,
}

impl World {
    /// Has the one who answers a channel take what was fed.
    fn take(&mut self, engine: &mut Engine, id: u64) {
        let waiting = self
            .open
            .get_mut(&id)
            .map(|open| std::mem::take(&mut open.waiting))
            .unwrap_or_default();
        engine.taken(id, waiting.len() as u32, waiting.iter().sum());
    }

    fn judge(&mut self, engine: &mut Engine) {
        let mut outputs = 0;
        while let Some(output) = engine.poll_output() {
            outputs += 1;
            assert!(!self.is_over, "something behind the end: {output:?}");
            self.note(output);
        }
        assert!(outputs <= 3, "{outputs} outputs of one input");
        assert!(self.open.len() <= MAX_OPEN);
        let opened: usize = self.open.values().map(|open| open.bytes).sum();
        assert!(engine.held() <= MAX_WAITING_BYTES + opened, "{}", engine.held());
        assert!(!self.is_over || !engine.wants_input());
    }

    fn note(&mut self, output: Output) {
        match output {
            Output::Send(text) => self.sent(&text),
            Output::Open { id, kind, data, .. } => {
                let bytes = data.held();
                let open = Open { kind, granted: 0, fed: 0, waiting: Vec::new(), bytes };
                assert!(self.open.insert(id, open).is_none(), "{id} was open");
            }
            Output::Feed { id, data } => {
                let open = self.open.get_mut(&id).expect("it is open");
                assert_eq!(open.kind, Kind::Channel);
                open.fed += 1;
                open.waiting.push(data.held());
                assert!(open.fed <= open.granted, "more was fed than granted");
            }
            Output::FeedEnd { id } | Output::Credit { id } => assert!(self.open.contains_key(&id)),
            // A channel of which too much waits is cancelled, and has failed.
            Output::Cancel { id } => drop(self.open.remove(&id)),
            Output::Authenticate(_) => self.looks_up = true,
            Output::Close { .. } => self.is_over = true,
            Output::Forget { .. } => {}
        }
    }

    /// A message of the service is JSON on one line, and of something that is open.
    fn sent(&mut self, text: &str) {
        assert!(!text.contains(['\n', '\r']), "{text}");
        let value: serde_json::Value = serde_json::from_str(text).expect("JSON");
        let Some(id) = value.get("id").and_then(serde_json::Value::as_u64) else { return };
        if let Some(n) = value.get("n").and_then(serde_json::Value::as_u64) {
            let open = self.open.get_mut(&id).expect("it is open");
            open.granted += n;
            let ahead = open.granted - open.fed + open.waiting.len() as u64;
            assert!(ahead <= u64::from(2 * CHANNEL_WINDOW), "{ahead} may be sent ahead");
        }
        if value.get("complete").is_some() || value.get("error").is_some() {
            self.open.remove(&id);
        }
    }
}
