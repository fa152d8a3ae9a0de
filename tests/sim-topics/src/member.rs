//! Members: those who join, with what they have sent and what they are to be answered.

use std::{
    cell::RefCell,
    collections::{BTreeSet, VecDeque},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use crate::{
    broken::hold,
    model::{Life, Origin},
    publish::Request,
    subscription::Subscription,
    topics::{
        Instant, Meta, Published, Receive, Refusal, Topic,
        join::{Done, Next, Outcome, Sender, Stop},
    },
    world::World,
};

/// A payload on its way.
#[derive(Debug)]
pub(crate) struct Payload {
    number: u64,
    id: Option<u64>,
    /// None where it is no message: what the member says of itself.
    request: Option<Request>,
}

/// The fate of a payload that was taken.
#[derive(Debug)]
enum Fate {
    Appended(u64),
    Known(u64),
    Event,
    Info,
    Refused(Refusal),
}

/// An answer that is owed.
#[derive(Debug)]
struct Owed {
    id: Option<u64>,
    fate: Fate,
}

/// A member.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) sender: Origin,
    name: &'static str,
    receive: Receive,
    window: usize,
    /// Payloads that were sent, and not taken yet.
    sent: VecDeque<Payload>,
    /// It has said that it sends no more, and that was heard.
    is_done: bool,
    is_over: bool,
    /// The answers that it is to get, in order; without answers, what is not on the disk yet.
    owed: VecDeque<Owed>,
    /// The payload that came too early, and when it is to be published.
    held: Option<(u64, Instant)>,
    /// Its own messages of which it was told.
    told: BTreeSet<u64>,
    /// The refusal with which its stream has to fail.
    fatal: Option<Refusal>,
}

/// An item as the judge of a reader is to see it.
pub(crate) enum Told {
    /// It was an answer.
    Answer,
    /// It is a message as others see it.
    Message(String),
}

impl Member {
    pub(crate) fn new(sender: Origin, name: &'static str, receive: Receive, window: usize) -> Self {
        Self {
            sender,
            name,
            receive,
            window,
            sent: VecDeque::new(),
            is_done: false,
            is_over: false,
            owed: VecDeque::new(),
            held: None,
            told: BTreeSet::new(),
            fatal: None,
        }
    }

    pub(crate) fn window(&self) -> usize {
        self.window
    }

    /// The moment at which the payload that is held may be published.
    pub(crate) fn held_until(&self) -> Option<Instant> {
        self.held.map(|(_, until)| until)
    }

    /// Forgets what nobody waits for any more, where nobody is told.
    fn forget_done(&mut self, life: &Life) {
        let visible = life.visible();
        while !self.receive.has_acks() && self.owed.front().is_some_and(|owed| owed.is_due(visible))
        {
            self.owed.pop_front();
        }
    }

    /// Looks at an item that it is sent.
    pub(crate) fn told(&mut self, json: &str, data: &[u8], life: &Life, meta: Meta) -> Told {
        let is_answer = json.starts_with(r#"{"ack":"#) || json.starts_with(r#"{"refused":"#);
        if is_answer && data.is_empty() {
            self.answered(json, life);
            return Told::Answer;
        }
        if json.contains(r#","own":true"#) {
            return Told::Message(self.own(json, life, meta));
        }
        if self.receive == Receive::Both && data.first() == Some(&b'm') {
            let sent = life.sent.borrow();
            let found = sent.iter().rfind(|sent| sent.data == data);
            let is_own = found.is_some_and(|sent| sent.sender.join == self.sender.join);
            hold!(!is_own, Member, "its own as one of others: {json}");
        }
        Told::Message(json.to_owned())
    }

    fn answered(&mut self, json: &str, life: &Life) {
        hold!(self.receive.has_acks(), Member, "answered, and did not ask for it: {json}");
        let Some(Owed { id, fate }) = self.owed.pop_front() else {
            return hold!(false, Member, "an answer to nothing: {json}");
        };
        let id = id.map(|id| format!(r#""id":"{id}""#));
        let (epoch, visible) = (life.epoch, life.visible());
        let of_id = id.as_ref().map_or(String::new(), |id| format!(",{id}"));
        let before = id.as_ref().map_or(String::new(), |id| format!("{id},"));
        let ack = match &fate {
            Fate::Appended(offset) | Fate::Known(offset) if *offset >= visible => {
                let has_failed = life.disk.as_ref().is_some_and(|disk| disk.has_failed.get());
                let unknown = format!(
                    r#"{{"refused":{{{before}"code":"APPLICATION_ERROR","reason":"outcome unknown: "#
                );
                hold!(
                    has_failed,
                    Member,
                    "answered before the disk: {json}, {fate:?} of {visible}"
                );
                return hold!(json.starts_with(&unknown), Member, "{json} instead of {unknown}");
            }
            Fate::Appended(offset) => format!(r#""epoch":"{epoch}","offset":{offset}{of_id}"#),
            Fate::Known(offset) => {
                format!(r#""epoch":"{epoch}","offset":{offset}{of_id},"duplicate":true"#)
            }
            Fate::Event => format!(r#"{before}"ephemeral":true"#),
            Fate::Info => format!(r#"{before}"info":true"#),
            Fate::Refused(refusal) => {
                let code = match refusal {
                    Refusal::Invalid(_) => "INVALID",
                    Refusal::Rejected(_) => "REJECTED",
                    Refusal::Failed(_) => "APPLICATION_ERROR",
                };
                let reason = serde_json::to_string(&refusal.to_string()).unwrap_or_default();
                let wanted =
                    format!(r#"{{"refused":{{{before}"code":"{code}","reason":{reason}}}}}"#);
                return hold!(json == wanted, Member, "{json} instead of {wanted}");
            }
        };
        let wanted = format!(r#"{{"ack":{{{ack}}}}}"#);
        hold!(json == wanted, Member, "{json} instead of {wanted}");
        if let Fate::Appended(offset) = fate {
            hold!(self.told.insert(offset), Member, "told twice: {json}");
        }
    }

    /// Its own message, which stands for its answer; it as others see it.
    fn own(&mut self, json: &str, life: &Life, meta: Meta) -> String {
        hold!(self.receive == Receive::Both, Member, "its own, and did not ask for it: {json}");
        let digits = json.split_once(r#""offset":"#).map_or("", |(_, behind)| behind);
        let len = digits.bytes().take_while(u8::is_ascii_digit).count();
        let offset: u64 = digits[..len].parse().unwrap_or(0);
        let mut own = r#","own":true"#.to_owned();
        // A state that begins anew is told again.
        if !self.told.insert(offset) {
            hold!(life.board.is_some(), Member, "told twice: {json}");
        } else {
            let owed = self.owed.pop_front();
            let is_next = owed.as_ref().is_some_and(|owed| owed.is_of(offset));
            hold!(is_next, Member, "{json} instead of the answer to {owed:?}");
            if let Some(id) = owed.and_then(|owed| owed.id) {
                own = format!(r#"{own},"id":"{id}""#);
            }
        }
        hold!(json.contains(&own), Member, "{json} has no {own}");
        let json = json.replacen(&own, "", 1);
        if meta != Meta::None {
            return json;
        }
        let of_offset = format!(r#"{{"offset":{offset}"#);
        hold!(json.starts_with(&of_offset), Member, "told {json}");
        String::new()
    }

    /// Whether it waits for something that is to come to it now, if it has credit.
    pub(crate) fn is_behind(&self, life: &Life) -> bool {
        let is_due = self.owed.front().is_some_and(|owed| owed.is_due(life.visible()));
        self.is_lost(life)
            || (self.receive.has_acks() && is_due)
            || life.is_deleted.get()
            || self.is_out(life)
    }

    /// Whether something of it may be lost, and it would not be told so.
    pub(crate) fn is_lost(&self, life: &Life) -> bool {
        let has_failed = life.disk.as_ref().is_some_and(|disk| disk.has_failed.get());
        let is_lost = |owed: &Owed| !owed.is_due(life.visible());
        has_failed && !self.receive.has_acks() && self.owed.iter().any(is_lost)
    }

    /// Whether it has come to the end of what it wants: it receives nothing, and all it has sent was taken.
    fn is_out(&self, life: &Life) -> bool {
        self.receive == Receive::None
            && self.is_over
            && self.held.is_none()
            && self.owed.iter().all(|owed| owed.is_due(life.visible()))
    }

    /// Whether a payload of it has come that is to be taken, whatever credit it has.
    pub(crate) fn is_held_back(&mut self, life: &Life) -> bool {
        self.forget_done(life);
        let has_sent = !self.sent.is_empty() || (self.is_done && !self.is_over);
        has_sent && self.held.is_none() && self.owed.len() < self.window && !life.is_deleted.get()
    }

    /// Looks at the end of its stream. Whether it is its own doing, and not that of what it reads.
    pub(crate) fn ended(&mut self, failed: Option<&str>, life: &Life) -> bool {
        self.forget_done(life);
        if let Some(fatal) = &self.fatal {
            let fatal = fatal.to_string();
            hold!(failed == Some(&*fatal), Member, "{failed:?} instead of {fatal}");
            return true;
        }
        let has_failed = life.disk.as_ref().is_some_and(|disk| disk.has_failed.get());
        let reads = self.receive.has_messages();
        match failed {
            Some(text) if text.starts_with("outcome unknown: ") => {
                let is_lost = has_failed && !self.owed.is_empty() && !self.receive.has_acks();
                hold!(is_lost, Member, "failed, and lost nothing: {text}");
                true
            }
            Some(text) => {
                hold!(reads, Member, "failed: {text}");
                false
            }
            None => {
                let is_over = life.is_deleted.get() || reads || self.is_out(life);
                hold!(is_over, Member, "its join has ended");
                let is_answered = life.is_deleted.get() || self.owed.is_empty() || has_failed;
                hold!(is_answered, Member, "ended, and is owed {:?}", self.owed);
                !reads
            }
        }
    }
}

impl Owed {
    fn is_due(&self, visible: u64) -> bool {
        match self.fate {
            Fate::Appended(offset) | Fate::Known(offset) => offset < visible,
            Fate::Event | Fate::Info | Fate::Refused(_) => true,
        }
    }

    fn is_of(&self, appended: u64) -> bool {
        matches!(self.fate, Fate::Appended(offset) if offset == appended)
    }
}

/// A member's payloads, as its join takes them.
pub(crate) struct Sends<'a> {
    pub(crate) world: &'a Rc<World>,
    pub(crate) member: Option<&'a RefCell<Member>>,
    pub(crate) topic: &'a Arc<Topic>,
    pub(crate) life: &'a Rc<Life>,
}

impl Sender for Sends<'_> {
    type Payload = Payload;

    fn next(&mut self) -> Next<Payload> {
        self.world.intrude();
        let Some(member) = self.member else { return Next::Over };
        let mut member = member.borrow_mut();
        member.forget_done(self.life);
        let owed = member.owed.len();
        hold!(owed < member.window, Member, "takes a payload beside {owed} without answers");
        hold!(member.held.is_none(), Member, "takes a payload before the one that is held");
        hold!(!member.is_over && member.fatal.is_none(), Member, "asks behind the end");
        let payload = member.sent.pop_front();
        match payload {
            Some(payload) => Next::Payload(payload),
            None if member.is_done => {
                member.is_over = true;
                Next::Over
            }
            None => Next::NotYet,
        }
    }

    fn publish(&mut self, payload: &Payload) -> Done {
        let (world, id) = (self.world, payload.id);
        let text = id.map(|id| id.to_string().into_boxed_str());
        let Some(member) = self.member else { unreachable!("its payload was taken") };
        let now = world.now.get().monotonic;
        if let Some((number, until)) = member.borrow_mut().held.take() {
            let is_held = number == payload.number;
            hold!(is_held, Member, "{} before {number}, which is held", payload.number);
            hold!(until <= now, Member, "published at {now:?}, and is held until {until:?}");
        }
        if !world.is_settling.get() && world.one_in(12) {
            let wait = Duration::from_micros(world.pick(&[1, 1_000, 50_000, 2_000_000]));
            member.borrow_mut().held = Some((payload.number, now + wait));
            world.count(|totals| totals.held_back += 1);
            return Done { id: text, outcome: Err(Stop::TooFast(wait)) };
        }
        let (fate, outcome) = match &payload.request {
            None => (Fate::Info, Ok(Outcome::Info)),
            Some(request) => match world.publish_by_join(self.life, self.topic, request) {
                Ok(published) => (Fate::of(&published), Ok(Outcome::from(&published))),
                Err(refusal) => (Fate::Refused(refusal.clone()), Err(refusal.into())),
            },
        };
        world.count(|totals| totals.payloads += 1);
        let mut member = member.borrow_mut();
        match fate {
            // The topic is gone, and so is the join.
            Fate::Refused(_) if self.life.is_deleted.get() => {}
            Fate::Refused(refusal) if !member.receive.has_acks() => member.fatal = Some(refusal),
            fate => member.owed.push_back(Owed { id, fate }),
        }
        Done { id: text, outcome }
    }
}

impl Fate {
    fn of(published: &Published) -> Self {
        match published.offset {
            Some(offset) if published.is_duplicate => Self::Known(offset.0),
            Some(offset) => Self::Appended(offset.0),
            None => Self::Event,
        }
    }
}

impl World {
    /// A member sends some payloads, as many as it has credit for at most.
    pub(crate) fn send_some(&self) {
        let Some(connection) = self.some_connection() else { return };
        let subscriptions = connection.subscriptions.borrow();
        let members: Vec<_> =
            subscriptions.iter().filter(|subscription| subscription.member.is_some()).collect();
        let at = self.below(members.len() as u32) as usize;
        if let Some(subscription) = members.get(at) {
            self.send_of(subscription);
            connection.enqueue(subscription);
        }
    }

    fn send_of(&self, subscription: &Rc<Subscription>) {
        let Some(member) = &subscription.member else { return };
        let life = Rc::clone(&subscription.judge.borrow().life);
        let mut member = member.borrow_mut();
        let count = self.pick(&[1, 3, 10, 20, 100]);
        for _ in 0..count {
            if member.is_done || member.sent.len() >= member.window {
                break;
            }
            let number = self.number();
            let request =
                (!self.one_in(20)).then(|| self.draw_payload(&life, member.sender, member.name));
            let id = match &request {
                Some(request) => request.id,
                None => self.one_in(2).then_some(number),
            };
            member.sent.push_back(Payload { number, id, request });
        }
        member.is_done |= self.one_in(40);
        self.say(|| format!("member {:?} has sent {}", member.sender, member.sent.len()));
    }

    /// Time has passed: payloads that were held may be published.
    pub(crate) fn end_pauses(&self) {
        let now = self.now.get().monotonic;
        for connection in self.connections.borrow().iter() {
            for subscription in connection.subscriptions.borrow().iter() {
                let member = subscription.member.as_ref();
                let until = member.and_then(|member| member.borrow().held_until());
                if until.is_some_and(|until| until <= now) {
                    connection.enqueue(subscription);
                }
            }
        }
    }

    /// Has time pass until nothing is held any more.
    pub(crate) fn await_pauses(&self) {
        let mut latest = self.now.get().monotonic;
        for connection in self.connections.borrow().iter() {
            for subscription in connection.subscriptions.borrow().iter() {
                let member = subscription.member.as_ref();
                let until = member.and_then(|member| member.borrow().held_until());
                latest = latest.max(until.unwrap_or_default());
            }
        }
        let wait = latest.since(self.now.get().monotonic);
        self.now.set(self.now.get().after(wait));
        self.end_pauses();
    }
}
