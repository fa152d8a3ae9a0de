//! The engine of `rsock.json.v1`: what was said, and what is to be done about it. A function of state, input and time, without
//! sockets and tasks.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use super::message::{self, Credentials, Data, Kind, Message};

/// Requests, streams and channels that are open at a time.
pub(crate) const MAX_OPEN: usize = 256;
/// Payloads that a client may send ahead of whoever takes them, on one channel.
pub(crate) const CHANNEL_WINDOW: u32 = 8;
/// Bytes of payloads that may wait on all channels.
pub(crate) const MAX_WAITING_BYTES: usize = 1 << 20;
/// The longest name of a route that can be asked for, in bytes.
const MAX_ROUTE_BYTES: usize = 255;
/// How long streams go on behind the notice of a drain.
const MOVING: Duration = Duration::from_secs(1);

/// Codes with which the WebSocket is closed.
pub(crate) mod close {
    /// The service stops.
    pub(crate) const GOING_AWAY: u16 = 1001;
    /// Something was sent that is not understood.
    pub(crate) const NOT_UNDERSTOOD: u16 = 4000;
    /// Nobody knows who asks.
    pub(crate) const WHO: u16 = 4001;
}

/// Something to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// A message for the client.
    Send(String),
    /// A request is to be made. Its items are given back one by one, as far as
    /// [`has_credit`](Engine::has_credit) says.
    Open { id: u64, kind: Kind, route: String, data: Data },
    /// A request without an answer.
    Forget { route: String, data: Data },
    /// The next payload of a channel.
    Feed { id: u64, data: Data },
    /// The channel gets no more payloads.
    FeedEnd { id: u64 },
    /// Nothing of it is wanted any more.
    Cancel { id: u64 },
    /// It can be asked for items now.
    Credit { id: u64 },
    /// Somebody says who they are. Nothing is to be read before [`authenticated`](Engine::authenticated).
    Authenticate(Credentials),
    /// The end, with a code and a reason.
    Close { code: u16, reason: String },
}

/// The knowledge of who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The handshake has said it, or it makes no difference.
    Known,
    /// Nobody in particular, unless the first message says otherwise.
    Anybody,
    /// Nothing is done before the first message has said it, until then.
    Unknown { until: Instant },
}

/// How items of a request are asked for.
#[derive(Clone, Copy, Debug)]
enum Credit {
    /// As the socket takes them.
    Automatic,
    /// So many more.
    Left(u64),
}

#[derive(Debug)]
struct Open {
    kind: Kind,
    credit: Credit,
    /// Bytes of what it was opened with.
    bytes: usize,
    /// The side of a channel that the client speaks on.
    input: Option<Input>,
}

/// Payloads on their way to a channel.
#[derive(Debug, Default)]
struct Input {
    /// That the client may send yet.
    granted: u32,
    /// That were taken since it was told so.
    taken: u32,
    waiting: usize,
    waiting_bytes: usize,
    /// Somebody takes them.
    is_asked: bool,
    /// The client has said that there are no more.
    is_complete: bool,
}

/// One client's conversation.
#[derive(Debug)]
pub(crate) struct Engine {
    entry: Entry,
    /// The one who asks is being looked up.
    is_looking_up: bool,
    has_begun: bool,
    open: HashMap<u64, Open>,
    waiting_bytes: usize,
    request_bytes: usize,
    output: VecDeque<Output>,
    /// When requests are cut off, and when streams are.
    drain: Option<(Instant, Instant)>,
    is_over: bool,
}

impl Engine {
    pub(crate) fn new(entry: Entry) -> Self {
        Self {
            entry,
            is_looking_up: false,
            has_begun: false,
            open: HashMap::new(),
            waiting_bytes: 0,
            request_bytes: 0,
            output: VecDeque::new(),
            drain: None,
            is_over: false,
        }
    }

    /// The next thing to be done. All of it comes before the next message of the client.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.output.pop_front()
    }

    /// Whether a message of the client is taken now.
    pub(crate) fn wants_input(&self) -> bool {
        !self.is_looking_up && !self.is_over && self.output.is_empty()
    }

    /// Whether an item of this request may be asked for.
    pub(crate) fn has_credit(&self, id: u64) -> bool {
        self.open.get(&id).is_some_and(|open| match open.credit {
            Credit::Automatic => true,
            Credit::Left(left) => left > 0,
        })
    }

    /// Bytes that are held for the client.
    pub(crate) fn held(&self) -> usize {
        self.request_bytes + self.waiting_bytes
    }

    /// When [`tick`](Self::tick) is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if self.is_over {
            return None;
        }
        match (self.entry, self.drain) {
            (Entry::Unknown { until }, None) if !self.is_looking_up => Some(until),
            (_, Some((requests, streams))) => {
                Some(if self.has_only_streams() { streams } else { requests })
            }
            _ => None,
        }
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Instant) {
        if let Entry::Unknown { until } = self.entry
            && !self.is_looking_up
            && now >= until
        {
            return self
                .close(close::WHO, "nothing was said in time: the first message is {\"auth\":…}");
        }
        if let Some((requests, streams)) = self.drain
            && (now >= requests || now >= streams && self.has_only_streams())
        {
            self.close(close::GOING_AWAY, "the server shuts down");
        }
    }

    /// A message of the client that is no text.
    pub(crate) fn binary(&mut self) {
        self.close(close::NOT_UNDERSTOOD, "a message is text: a JSON object");
    }

    /// A message of the client. `is_short` says that there is no memory for more requests.
    pub(crate) fn message(&mut self, text: &str, is_short: bool) {
        if self.is_over {
            return;
        }
        match Message::parse(text) {
            Ok(message) => self.take(message, is_short),
            Err(problem) => self.close(close::NOT_UNDERSTOOD, &problem),
        }
    }

    /// The client is known now, or why not.
    pub(crate) fn authenticated(&mut self, outcome: Result<(), &str>) {
        self.is_looking_up = false;
        match outcome {
            Ok(()) => {
                self.entry = Entry::Known;
                self.send(message::authenticated());
            }
            Err(problem) => self.close(close::WHO, problem),
        }
    }

    /// The client has to say anew who it is.
    pub(crate) fn ended(&mut self, why: &str) {
        self.close(close::WHO, why);
    }

    /// The server stops: within that time everything is to end.
    pub(crate) fn drain(&mut self, now: Instant, left: Duration) {
        if self.drain.is_none() && !self.is_over {
            self.drain = Some((now + left, now + left.min(MOVING)));
            self.send(message::drain(left.as_millis()));
        }
    }

    /// An item of a request: the answer, and then its end in the same message.
    pub(crate) fn item(&mut self, id: u64, data: &Data) {
        let Some(open) = self.open.get_mut(&id) else { return };
        if let Credit::Left(left) = &mut open.credit {
            *left = left.saturating_sub(1);
        }
        let is_last = open.kind == Kind::Response;
        self.send(message::item(id, data, is_last));
        if is_last {
            self.forget(id);
        }
    }

    /// The end of a request.
    pub(crate) fn complete(&mut self, id: u64) {
        if self.forget(id) {
            self.send(message::complete(id));
        }
    }

    /// The failure of a request.
    pub(crate) fn fail(&mut self, id: u64, code: &str, problem: &str) {
        if self.forget(id) {
            self.send(message::error(id, code, problem));
        }
    }

    /// The one who answers a channel asks for payloads, and has taken so many of so many bytes.
    pub(crate) fn taken(&mut self, id: u64, payloads: u32, bytes: usize) {
        let Some(input) = self.open.get_mut(&id).and_then(|open| open.input.as_mut()) else {
            return;
        };
        let was_asked = std::mem::replace(&mut input.is_asked, true);

        input.waiting = input.waiting.saturating_sub(payloads as usize);
        input.waiting_bytes = input.waiting_bytes.saturating_sub(bytes);
        self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes);
        input.taken = input.taken.saturating_add(payloads);
        let more = if was_asked { input.taken } else { CHANNEL_WINDOW };
        if more >= CHANNEL_WINDOW / 2 && !input.is_complete {
            input.taken = 0;
            input.granted = input.granted.saturating_add(more);
            self.send(message::credited(id, more));
        }
    }

    /// The one who answers a channel wants no more payloads: those that come yet are passed over.
    pub(crate) fn wants_no_more(&mut self, id: u64) {
        if let Some(open) = self.open.get_mut(&id)
            && let Some(input) = open.input.take()
        {
            self.waiting_bytes = self.waiting_bytes.saturating_sub(input.waiting_bytes);
        }
    }

    fn take(&mut self, message: Message, is_short: bool) {
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        match (message, self.entry) {
            (Message::Auth(own), Entry::Anybody | Entry::Unknown { .. }) if is_first => {
                self.is_looking_up = true;
                self.output.push_back(Output::Authenticate(own));
            }
            (Message::Auth(_), Entry::Known) if is_first => {
                self.close(close::NOT_UNDERSTOOD, "auth: the handshake has said who asks");
            }
            (Message::Auth(_), _) => {
                self.close(close::NOT_UNDERSTOOD, "auth is for the first message");
            }
            (_, Entry::Unknown { .. }) => {
                self.close(
                    close::WHO,
                    "authentication is needed: the first message is {\"auth\":…}",
                );
            }
            (Message::Ping(value), _) => self.send(message::pong(&value)),
            (Message::Forget { route, data }, _) => {
                if self.has_route(&route) && self.drain.is_none() && !is_short {
                    self.output.push_back(Output::Forget { route, data });
                }
            }
            (Message::Open { id, kind, route, data, n }, _) => {
                self.open(id, kind, route, data, n, is_short);
            }
            (Message::Next { id, data }, _) => self.next(id, data),
            (Message::Complete { id }, _) => {
                // Of what has ended meanwhile, nobody needs to hear.
                let Some(open) = self.open.get_mut(&id) else { return };
                if open.kind != Kind::Channel {
                    return self.no_channel(id);
                }
                if let Some(input) = &mut open.input
                    && !std::mem::replace(&mut input.is_complete, true)
                {
                    self.output.push_back(Output::FeedEnd { id });
                }
            }
            (Message::Cancel { id }, _) => {
                if self.forget(id) {
                    self.output.push_back(Output::Cancel { id });
                }
            }
            (Message::Credit { id, n }, _) => self.credit(id, n),
        }
    }

    fn open(
        &mut self,
        id: u64,
        kind: Kind,
        route: String,
        data: Data,
        n: Option<u32>,
        is_short: bool,
    ) {
        if self.open.contains_key(&id) {
            return self.close(close::NOT_UNDERSTOOD, &format!("{id} is open: take another id"));
        }
        if !self.has_route(&route) {
            return;
        }
        let refusal = if self.drain.is_some() {
            Some("the server shuts down".to_owned())
        } else if self.open.len() >= MAX_OPEN {
            Some(format!("too many requests: {MAX_OPEN} are open"))
        } else if is_short {
            Some("no memory: try again later".to_owned())
        } else {
            None
        };
        if let Some(refusal) = refusal {
            return self.send(message::error(id, "REJECTED", &refusal));
        }
        let credit = match (kind, n) {
            (Kind::Response, _) | (_, None) => Credit::Automatic,
            (_, Some(n)) => Credit::Left(n.into()),
        };
        let bytes = data.held();
        let input = (kind == Kind::Channel).then(Input::default);
        self.request_bytes += bytes;
        self.open.insert(id, Open { kind, credit, bytes, input });
        self.output.push_back(Output::Open { id, kind, route, data });
    }

    fn has_route(&mut self, route: &str) -> bool {
        let fits = route.len() <= MAX_ROUTE_BYTES;
        if !fits {
            let problem = format!("a route has {MAX_ROUTE_BYTES} bytes at most");
            self.close(close::NOT_UNDERSTOOD, &problem);
        }
        fits
    }

    fn next(&mut self, id: u64, data: Data) {
        let Some(open) = self.open.get_mut(&id) else { return };
        if open.kind != Kind::Channel {
            return self.no_channel(id);
        }
        // Nobody wants more.
        let Some(input) = &mut open.input else { return };
        if input.is_complete {
            return self.close(close::NOT_UNDERSTOOD, &format!("{id} was completed before"));
        }
        let Some(granted) = input.granted.checked_sub(1) else {
            let problem = format!("{id} has no credit: wait for {{\"id\":{id},\"n\":…}}");
            return self.close(close::NOT_UNDERSTOOD, &problem);
        };
        let bytes = data.held();
        if self.waiting_bytes + bytes > MAX_WAITING_BYTES {
            self.output.push_back(Output::Cancel { id });
            let problem = format!("too much: {MAX_WAITING_BYTES} bytes wait on all channels");
            return self.fail(id, "REJECTED", &problem);
        }
        input.granted = granted;
        input.waiting += 1;
        input.waiting_bytes += bytes;
        self.waiting_bytes += bytes;
        self.output.push_back(Output::Feed { id, data });
    }

    fn credit(&mut self, id: u64, n: u32) {
        let Some(open) = self.open.get_mut(&id) else { return };
        match (open.kind, &mut open.credit) {
            (Kind::Response, _) => {
                let problem = format!("{id} is a request: it has one answer, and no n");
                self.close(close::NOT_UNDERSTOOD, &problem);
            }
            (_, Credit::Automatic) => {
                let problem = format!("{id} began without n: its items come as they are taken");
                self.close(close::NOT_UNDERSTOOD, &problem);
            }
            (_, Credit::Left(left)) => {
                *left = left.saturating_add(n.into());
                self.output.push_back(Output::Credit { id });
            }
        }
    }

    fn no_channel(&mut self, id: u64) {
        self.close(close::NOT_UNDERSTOOD, &format!("{id} is not a channel"));
    }

    fn has_only_streams(&self) -> bool {
        self.open.values().all(|open| open.kind != Kind::Response)
    }

    /// Whether it was open.
    fn forget(&mut self, id: u64) -> bool {
        let Some(open) = self.open.remove(&id) else { return false };
        self.request_bytes -= open.bytes;
        self.waiting_bytes -= open.input.map_or(0, |input| input.waiting_bytes);
        true
    }

    fn send(&mut self, text: String) {
        // Nothing follows on the end.
        if !self.is_over {
            self.output.push_back(Output::Send(text));
        }
    }

    fn close(&mut self, code: u16, reason: &str) {
        if !std::mem::replace(&mut self.is_over, true) {
            self.output.push_back(Output::Close { code, reason: reason.to_owned() });
        }
    }
}
#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn known() -> Engine {
        Engine::new(Entry::Known)
    }

    fn outputs(engine: &mut Engine) -> Vec<Output> {
        std::iter::from_fn(|| engine.poll_output()).collect()
    }

    /// The outcome of these messages: what is sent, and what else is done.
    fn after(engine: &mut Engine, messages: &[&str]) -> Vec<Output> {
        messages.iter().for_each(|message| engine.message(message, false));
        outputs(engine)
    }

    fn data(text: &str) -> Data {
        Data { bytes: Bytes::copy_from_slice(text.as_bytes()), meta: None }
    }

    fn send(text: &str) -> Output {
        Output::Send(text.to_owned())
    }

    fn closed(outputs: &[Output]) -> Option<(u16, &str)> {
        match outputs.last() {
            Some(Output::Close { code, reason }) => Some((*code, reason)),
            _ => None,
        }
    }

    #[test]
    fn a_request_has_one_answer() {
        let mut engine = known();
        let opened = after(&mut engine, &[r#"{"id":1,"request":"a","data":7}"#]);
        let open = Output::Open { id: 1, kind: Kind::Response, route: "a".into(), data: data("7") };
        assert_eq!(opened, [open]);
        assert_eq!((engine.held(), engine.has_credit(1)), (1, true));
        engine.item(1, &data("8"));
        // Its stream ends behind it.
        engine.complete(1);
        assert_eq!(outputs(&mut engine), [send(r#"{"id":1,"next":8,"complete":true}"#)]);
        assert_eq!((engine.held(), engine.has_credit(1)), (0, false));
        // The id is free.
        assert_eq!(after(&mut engine, &[r#"{"id":1,"request":"a"}"#]).len(), 1);
        engine.complete(1);
        engine.fail(1, "X", "it is over");
        assert_eq!(outputs(&mut engine), [send(r#"{"id":1,"complete":true}"#)]);
    }

    #[test]
    fn items_come_under_credit() {
        let mut engine = known();
        after(&mut engine, &[r#"{"id":1,"stream":"a","n":2}"#, r#"{"id":2,"stream":"b"}"#]);
        for _ in 0..2 {
            assert!(engine.has_credit(1) && engine.has_credit(2));
            engine.item(1, &data("0"));
            engine.item(2, &data("0"));
        }
        assert!(!engine.has_credit(1) && engine.has_credit(2));
        outputs(&mut engine);
        assert_eq!(after(&mut engine, &[r#"{"id":1,"n":1}"#]), [Output::Credit { id: 1 }]);
        assert!(engine.has_credit(1));
        let told = after(&mut engine, &[r#"{"id":9,"n":1}"#, r#"{"id":2,"n":1}"#]);
        assert_eq!(
            closed(&told),
            Some((4000, "2 began without n: its items come as they are taken"))
        );
    }

    #[test]
    fn a_channel_is_granted_what_is_taken() {
        let mut engine = known();
        after(&mut engine, &[r#"{"id":3,"channel":"a"}"#]);
        engine.taken(3, 0, 0);
        assert_eq!(outputs(&mut engine), [send(r#"{"id":3,"n":8}"#)]);
        let fed = after(&mut engine, &[r#"{"id":3,"next":10}"#, r#"{"id":3,"text":"x"}"#]);
        assert_eq!(
            fed,
            [Output::Feed { id: 3, data: data("10") }, Output::Feed { id: 3, data: data("x") }]
        );
        assert_eq!(engine.held(), 3);
        engine.taken(3, 2, 3);
        assert_eq!((outputs(&mut engine), engine.held()), (vec![], 0));
        after(&mut engine, &[r#"{"id":3,"next":1}"#, r#"{"id":3,"next":1}"#]);
        engine.taken(3, 2, 2);
        assert_eq!(outputs(&mut engine), [send(r#"{"id":3,"n":4}"#)]);
        assert_eq!(
            after(&mut engine, &[r#"{"id":3,"complete":true}"#]),
            [Output::FeedEnd { id: 3 }]
        );
        engine.taken(3, 8, 0);
        assert_eq!(outputs(&mut engine), []);
        let told = after(&mut engine, &[r#"{"id":3,"next":1}"#]);
        assert_eq!(closed(&told), Some((4000, "3 was completed before")));
    }

    #[test]
    fn what_waits_on_all_channels_is_bounded() {
        let mut engine = known();
        let long = format!(r#"{{"id":ID,"text":"{}"}}"#, "x".repeat(60_000));
        let mut failed = 0;
        for id in 0..40 {
            after(&mut engine, &[&format!(r#"{{"id":{id},"channel":"a"}}"#)]);
            engine.taken(id, 0, 0);
            let told = after(&mut engine, &[&long.replace("ID", &id.to_string())]);
            failed += usize::from(told.contains(&Output::Cancel { id }));
            assert!(engine.held() <= MAX_WAITING_BYTES);
        }
        assert_eq!(failed, 40 - MAX_WAITING_BYTES / 60_000);
        let mut engine = known();
        after(&mut engine, &[r#"{"id":1,"channel":"a"}"#]);
        let told = after(&mut engine, &[r#"{"id":1,"next":1}"#]);
        assert_eq!(closed(&told), Some((4000, "1 has no credit: wait for {\"id\":1,\"n\":…}")));
        let mut engine = known();
        after(&mut engine, &[r#"{"id":1,"channel":"a"}"#]);
        engine.wants_no_more(1);
        assert_eq!(after(&mut engine, &[r#"{"id":1,"next":1}"#]), []);
    }

    #[test]
    fn who_asks_is_known_first() {
        let now = Instant::now();
        let until = now + Duration::from_secs(10);
        let unknown = || Engine::new(Entry::Unknown { until });
        let mut engine = unknown();
        let own = after(&mut engine, &[r#"{"auth":"t"}"#]);
        assert_eq!(own, [Output::Authenticate(Credentials::Bearer("t".into()))]);
        assert!(!engine.wants_input() && engine.deadline().is_none());
        engine.authenticated(Ok(()));
        assert_eq!(outputs(&mut engine), [send(r#"{"auth":true}"#)]);
        assert!(engine.wants_input() && engine.deadline().is_none());
        assert_eq!(
            closed(&after(&mut engine, &[r#"{"auth":"t"}"#])),
            Some((4000, "auth is for the first message"))
        );
        let mut engine = unknown();
        assert_eq!(closed(&after(&mut engine, &[r#"{"ping":1}"#])).map(|it| it.0), Some(4001));
        let mut engine = unknown();
        engine.tick(now);
        assert_eq!((engine.deadline(), outputs(&mut engine)), (Some(until), vec![]));
        engine.tick(until);
        assert_eq!(closed(&outputs(&mut engine)).map(|it| it.0), Some(4001));
        let mut engine = unknown();
        after(&mut engine, &[r#"{"auth":"t"}"#]);
        engine.authenticated(Err("authentication failed"));
        assert_eq!(closed(&outputs(&mut engine)), Some((4001, "authentication failed")));
        // Where nobody need say it.
        let mut engine = Engine::new(Entry::Anybody);
        assert_eq!(after(&mut engine, &[r#"{"ping":1}"#]), [send(r#"{"pong":1}"#)]);
    }

    #[test]
    fn no_more_are_open_than_may_be() {
        let mut engine = known();
        for id in 0..MAX_OPEN {
            assert_eq!(after(&mut engine, &[&format!(r#"{{"id":{id},"stream":"a"}}"#)]).len(), 1);
        }
        let refused = after(&mut engine, &[r#"{"id":999,"request":"a"}"#]);
        let expected =
            r#"{"id":999,"error":{"code":"REJECTED","message":"too many requests: 256 are open"}}"#;
        assert_eq!(refused, [send(expected)]);
        assert_eq!(after(&mut engine, &[r#"{"id":7,"cancel":true}"#]), [Output::Cancel { id: 7 }]);
        engine.message(r#"{"id":999,"request":"a"}"#, true);
        assert!(
            matches!(&outputs(&mut engine)[..], [Output::Send(text)] if text.contains("no memory"))
        );
        let long = format!(r#"{{"id":7,"request":"{}"}}"#, "x".repeat(256));
        assert_eq!(
            closed(&after(&mut engine, &[&long])),
            Some((4000, "a route has 255 bytes at most"))
        );
        // Nothing is done any more.
        assert_eq!(after(&mut engine, &[r#"{"ping":1}"#]), []);
        assert!(!engine.wants_input());
    }

    #[test]
    fn a_drain_lets_requests_end() {
        let mut engine = known();
        let now = Instant::now();
        after(&mut engine, &[r#"{"id":1,"request":"a"}"#, r#"{"id":2,"stream":"b"}"#]);
        engine.drain(now, Duration::from_secs(10));
        assert_eq!(outputs(&mut engine), [send(r#"{"drain":10000}"#)]);
        assert_eq!(engine.deadline(), Some(now + Duration::from_secs(10)));
        engine.tick(now + Duration::from_secs(2));
        assert_eq!(outputs(&mut engine), []);
        let refused = after(&mut engine, &[r#"{"id":3,"request":"a"}"#]);
        assert!(matches!(&refused[..], [Output::Send(text)] if text.contains("shuts down")));
        engine.item(1, &data("1"));
        outputs(&mut engine);
        assert_eq!(engine.deadline(), Some(now + Duration::from_secs(1)));
        engine.tick(now + Duration::from_secs(2));
        assert_eq!(closed(&outputs(&mut engine)), Some((1001, "the server shuts down")));
    }
}
