//! A topic that is a list, as a service would have it, and what can go wrong with one.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt, Stream, StreamExt, stream};
use rsock::{
    Client, Error, Payload, PayloadExt, Payloads, Reconnect, Request, Router, Server,
    metadata::{CompositeMetadata, WellKnownMime},
    request_channel, request_response, request_stream,
    topic::{Event, Subscription, Topic},
};
use rsock_tests::{cutter::Cutter, record::limit_time, script::PATIENCE};
use serde_json::{Value, json};
use tokio::sync::watch;

/// A service with one topic, whatever it is called.
#[derive(Clone)]
pub(crate) struct Service(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    epoch: u64,
    /// The offset of the first message that is kept.
    base: u64,
    messages: VecDeque<(Value, Vec<u8>)>,
    ids: HashMap<String, u64>,
    is_closed: bool,
    /// Members, and how often each has joined.
    members: Vec<String>,
    /// The options of subscriptions, in order.
    asked: Vec<Value>,
    /// How the next requests for a subscription fail.
    refused: VecDeque<Error>,
    /// How the next messages fail.
    refused_messages: VecDeque<Error>,
    /// So many messages before a position are sent again to whoever asks for those behind it.
    repeats: u64,
    /// So many messages are appended, and never answered.
    lost_answers: usize,
}

impl Service {
    pub(crate) fn new() -> Self {
        limit_time();
        let state = State { epoch: 1, base: 1, ..State::default() };
        Self(Arc::new(Shared { state: Mutex::new(state), changes: watch::Sender::new(0) }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.lock());
        self.0.changes.send_modify(|version| *version += 1);
        changed
    }

    /// Publishes a message here.
    pub(crate) fn publish(&self, data: impl ToString) -> u64 {
        self.change(|state| state.append(json!({}), data.to_string().into_bytes()))
    }

    /// Drops all that is kept before this offset.
    pub(crate) fn drop_before(&self, offset: u64) {
        self.change(|state| {
            while state.base < offset && state.messages.pop_front().is_some() {
                state.base += 1;
            }
        });
    }

    /// Is as after a restart that has lost all.
    pub(crate) fn begin_anew(&self) {
        self.change(|state| {
            let epoch = state.epoch + 1;
            *state = State {
                epoch,
                base: 1,
                asked: std::mem::take(&mut state.asked),
                ..State::default()
            };
        });
    }

    /// Is the topic's end.
    pub(crate) fn close(&self) {
        self.change(|state| state.is_closed = true);
    }

    pub(crate) fn refuse(&self, errors: impl IntoIterator<Item = Error>) {
        self.lock().refused.extend(errors);
    }

    pub(crate) fn refuse_messages(&self, errors: impl IntoIterator<Item = Error>) {
        self.lock().refused_messages.extend(errors);
    }

    pub(crate) fn repeat(&self, count: u64) {
        self.lock().repeats = count;
    }

    pub(crate) fn lose_answers(&self, count: usize) {
        self.lock().lost_answers = count;
    }

    /// The options of the subscriptions that were asked for.
    pub(crate) fn asked(&self) -> Vec<Value> {
        self.lock().asked.clone()
    }

    /// The data of all messages that are kept.
    pub(crate) fn data(&self) -> Vec<String> {
        let state = self.lock();
        let text = |(_, data): &(Value, Vec<u8>)| String::from_utf8_lossy(data).into_owned();
        state.messages.iter().map(text).collect()
    }

    /// The options of each message.
    pub(crate) fn beside(&self) -> Vec<Value> {
        self.lock().messages.iter().map(|(beside, _)| beside.clone()).collect()
    }

    /// Waits until the service is in such a state.
    pub(crate) async fn wait(&self, is: impl Fn(&Self) -> bool) {
        let mut changes = self.0.changes.subscribe();
        let waits = async {
            while !is(self) {
                changes.changed().await.expect("it is kept");
            }
        };
        tokio::time::timeout(PATIENCE, waits).await.expect("in time");
    }

    pub(crate) async fn wait_members(&self, names: &[&str]) {
        self.wait(|service| service.lock().members == names).await;
    }

    /// Serves it on TCP and on a WebSocket.
    pub(crate) async fn serve(&self) -> [String; 2] {
        let uris = ["tcp://127.0.0.1:0", "ws://127.0.0.1:0/rsocket"];
        let server = Server::builder().bind(&uris).await.expect("free ports");
        let addresses = server.addresses();
        tokio::spawn(server.serve(self.router()).into_future());
        addresses.try_into().expect("two")
    }

    /// Serves it on a byte stream.
    pub(crate) async fn serve_over(&self, io: tokio::io::DuplexStream) {
        Server::builder().serve_over(io, self.router()).await;
    }

    fn router(&self) -> Router<Self> {
        Router::new(self.clone())
            .route(
                "topic.{*name}",
                request_response(async |service: Self, request: Request| {
                    let lost = std::future::pending();
                    match service.publish_of(&request) {
                        Ok(Some(answer)) => Ok(answer),
                        Ok(None) => lost.await,
                        Err(error) => Err(error),
                    }
                }),
            )
            .route(
                "topic.{*name}",
                request_stream(|service: Self, request: Request| {
                    service.subscribe(options(&request), None)
                }),
            )
            .route(
                "topic.{*name}",
                request_channel(|service: Self, first: Request, rest: Payloads| {
                    let options = options(&first);
                    let name = options["name"].as_str().unwrap_or("?").to_owned();
                    let member = Present::new(service.clone(), name);
                    service.subscribe(options, Some((member, rest)))
                }),
            )
            .route(
                "presence.{*name}",
                request_response(async |service: Self, _: Request| {
                    let members = service.lock().members.clone();
                    let listed: Vec<_> =
                        members.iter().map(|name| json!({ "name": name, "sessions": 1 })).collect();
                    Payload::from(json!({ "members": listed, "total": members.len() }).to_string())
                }),
            )
            .route(
                "presence.{*name}",
                request_stream(|service: Self, _: Request| service.presence()),
            )
    }

    fn publish_of(&self, request: &Request) -> Result<Option<Payload>, Error> {
        let metadata = CompositeMetadata::new(request.metadata().cloned().unwrap_or_default());
        let beside = metadata.find(WellKnownMime::Json).map_err(Error::invalid)?;
        let beside: Value = match &beside {
            Some(json) => serde_json::from_slice(json).map_err(Error::invalid)?,
            None => json!({}),
        };
        self.change(|state| {
            if let Some(error) = state.refused_messages.pop_front() {
                return Err(error);
            }
            let id = beside["id"].as_str().map(str::to_owned);
            let known = id.as_ref().and_then(|id| state.ids.get(id)).copied();
            let offset =
                known.unwrap_or_else(|| state.append(beside.clone(), request.data().to_vec()));
            state.ids.extend(id.map(|id| (id, offset)));
            if state.lost_answers > 0 {
                state.lost_answers -= 1;
                return Ok(None);
            }
            let epoch = format!("{:016x}", state.epoch);
            let mut answer = json!({ "topic": "t", "epoch": epoch, "offset": offset });
            if known.is_some() {
                answer["duplicate"] = true.into();
            }
            Ok(Some(answer.to_string().into()))
        })
    }

    fn subscribe(
        &self,
        options: Value,
        joined: Option<(Present, Payloads)>,
    ) -> impl Stream<Item = Result<Payload, Error>> + Send + use<> {
        let begun = self.change(|state| {
            state.asked.push(options.clone());
            match state.refused.pop_front() {
                Some(error) => Err(error),
                None => Ok(Reader::begin(state, &options)),
            }
        });
        let service = self.clone();
        match begun {
            Err(error) => stream::once(async { Err(error) }).boxed(),
            Ok(reader) => {
                stream::unfold((service, reader, joined), async |(service, mut reader, joined)| {
                    let item = service.next(&mut reader).await?;
                    Some((Ok(item), (service, reader, joined)))
                })
                .boxed()
            }
        }
    }

    async fn next(&self, reader: &mut Reader) -> Option<Payload> {
        let mut changes = self.0.changes.subscribe();
        loop {
            if let Some(item) = reader.items.pop_front() {
                return Some(item);
            }
            if reader.is_over {
                return None;
            }
            reader.read(&self.lock());
            if reader.items.is_empty() && !reader.is_over {
                changes.changed().await.ok()?;
            }
        }
    }

    fn presence(&self) -> impl Stream<Item = Result<Payload, Error>> + Send + use<> {
        let members = self.lock().members.clone();
        let mut first: VecDeque<_> =
            members.iter().map(|name| said(json!({ "event": "here", "name": name }))).collect();
        first.push_back(said(json!({ "event": "all", "total": members.len() })));
        let changes = self.0.changes.subscribe();
        let begin = (self.clone(), members, first, changes);
        stream::unfold(begin, async |(service, known, mut items, mut changes)| {
            loop {
                if let Some(item) = items.pop_front() {
                    return Some((Ok(item), (service, known, items, changes)));
                }
                let now = service.lock().members.clone();
                if let Some(name) = now.iter().find(|name| !known.contains(name)) {
                    items.push_back(said(json!({ "event": "join", "name": name })));
                } else if let Some(name) = known.iter().find(|name| !now.contains(name)) {
                    items.push_back(said(json!({ "event": "leave", "name": name })));
                } else {
                    changes.changed().await.ok()?;
                    continue;
                }
                let item = items.pop_front()?;
                return Some((Ok(item), (service, now, items, changes)));
            }
        })
    }
}

/// A member, as long as this is here.
struct Present {
    service: Service,
    name: String,
}

impl Present {
    fn new(service: Service, name: String) -> Self {
        service.change(|state| state.members.push(name.clone()));
        Self { service, name }
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.service.change(|state| {
            let at = state.members.iter().position(|name| *name == self.name);
            at.map(|at| state.members.remove(at))
        });
    }
}

impl State {
    fn append(&mut self, beside: Value, data: Vec<u8>) -> u64 {
        self.messages.push_back((beside, data));
        self.head()
    }

    fn head(&self) -> u64 {
        self.base + self.messages.len() as u64 - 1
    }
}

/// A subscription.
struct Reader {
    epoch: u64,
    next: u64,
    items: VecDeque<Payload>,
    wants_live: bool,
    is_over: bool,
}

impl Reader {
    fn begin(state: &State, options: &Value) -> Self {
        let from = &options["from"];
        let epoch = format!("{:016x}", state.epoch);
        let is_known = from["epoch"].as_str() == Some(epoch.as_str());
        let after = from["after"].as_u64();
        let next = match (from.as_str(), after, from["last"].as_u64()) {
            (Some("start"), ..) => state.base,
            (_, Some(after), _) if is_known && after <= state.head() => {
                (after + 1).saturating_sub(state.repeats).max(1)
            }
            (_, Some(_), _) => state.base,
            (_, _, Some(last)) => state.base.max((state.head() + 1).saturating_sub(last)),
            _ => state.head() + 1,
        };
        let start = json!({
            "start": { "epoch": epoch, "next": next.max(state.base), "base": state.base, "head": state.head() }
        });
        let mut items = VecDeque::from([item(&start, Vec::new())]);
        if let Some(after) = after
            && !(is_known && after <= state.head())
        {
            let reset = json!({
                "gap": { "epoch": from["epoch"], "from": after + 1 }, "epoch": epoch, "base": state.base
            });
            items.push_back(item(&reset, Vec::new()));
        }
        let wants_live = options["live"] == true;
        Self { epoch: state.epoch, next, items, wants_live, is_over: false }
    }

    fn read(&mut self, state: &State) {
        let epoch = format!("{:016x}", self.epoch);
        if state.epoch != self.epoch {
            // The service is another; this one's connection is about to go.
            return;
        }
        if self.next < state.base {
            let gap = json!({ "gap": { "from": self.next, "to": state.base - 1 }, "epoch": epoch });
            self.items.push_back(item(&gap, Vec::new()));
            self.next = state.base;
        }
        if self.next > state.head() {
            if self.wants_live {
                self.wants_live = false;
                let live = json!({ "live": { "epoch": epoch, "offset": state.head() } });
                self.items.push_back(item(&live, Vec::new()));
            }
            self.is_over = state.is_closed;
            return;
        }
        let (said, data) = &state.messages[(self.next - state.base) as usize];
        let mut beside = json!({ "topic": "t", "epoch": epoch, "offset": self.next, "time": 7 });
        for name in ["from", "key", "headers"] {
            if let Some(value) = said.get(name) {
                beside[name] = value.clone();
            }
        }
        self.items.push_back(item(&beside, data.clone()));
        self.next += 1;
    }
}

fn said(event: Value) -> Payload {
    item(&event, Vec::new())
}

fn item(beside: &Value, data: Vec<u8>) -> Payload {
    let item = Payload::new(data).entry(WellKnownMime::Json, beside.to_string());
    item.expect("a short entry")
}

fn options(request: &Request) -> Value {
    serde_json::from_slice(request.data()).expect("options as JSON")
}

/// A client that comes back, through something that cuts its connections.
pub(crate) struct Line {
    pub(crate) client: Client,
    pub(crate) cutter: Cutter,
}

impl Line {
    pub(crate) async fn to(uri: &str) -> Self {
        let cutter = Cutter::start(uri, []).await;
        let reconnect = Reconnect::new()
            .pauses(Duration::from_millis(1), Duration::from_millis(20))
            .stable_after(Duration::ZERO)
            .wait(PATIENCE);
        let builder = Client::builder().reconnect(reconnect).wait_until_accepted(true);
        let client = builder.connect(cutter.uri()).await;
        Self { client: client.expect("a connection"), cutter }
    }

    pub(crate) fn topic(&self) -> Topic {
        Topic::new(&self.client, "room.1")
    }
}

/// The next event, in time.
pub(crate) async fn next(events: &mut Subscription) -> Event {
    let told = tokio::time::timeout(PATIENCE, events.next()).await.expect("in time");
    told.expect("it goes on").expect("no failure")
}

/// The data of the next event, which is a message.
pub(crate) async fn next_data(events: &mut Subscription) -> String {
    match next(events).await {
        Event::Message(message) => String::from_utf8_lossy(&message.data).into_owned(),
        other => panic!("{other:?}"),
    }
}

/// There is nothing to tell for now.
pub(crate) fn nothing(events: &mut Subscription) {
    assert!(events.next().now_or_never().is_none());
}
