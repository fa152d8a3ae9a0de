//! Publishers: the outcome is drawn first, then a request for it, and the model says what it gets.

use std::{rc::Rc, sync::Arc};

use crate::{
    broken::hold,
    disk::OnDisk,
    model::{Event, Life, Origin, Sent},
    topics::{Kind, Message, Offset, Publish, Published, Refusal, Topic},
    world::World,
};

/// Bytes of a topic without messages, at most.
const TOPIC_BYTES: usize = 4_000;

/// Keys of topics of the newest by key.
const KEYS: [&str; 24] = [
    "a", "b", "c", "d/e", "k", "l\\", "g", "h", "i", "j", "m", "n", "o", "p", "q", "r", "s", "t",
    "u", "v", "w", "x", "y", "z",
];

/// The outcomes that are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Accepted,
    Identified,
    Duplicate,
    Expected,
    Conflict,
    TooLarge,
    Last,
    Event,
}

/// A publish that was drawn.
#[derive(Debug)]
pub(crate) struct Request {
    data: Vec<u8>,
    from: Option<&'static str>,
    key: Option<&'static str>,
    is_tombstone: bool,
    headers: Option<&'static str>,
    sender: Origin,
    pub(crate) id: Option<u64>,
    expect: Option<u64>,
    closes: bool,
    is_ephemeral: bool,
}

/// The answers that there are.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Appended,
    Again(u64),
    Event,
    Refused(&'static str),
}

fn json_of(text: Option<&str>, name: &str) -> String {
    let json = text.map(|text| serde_json::to_string(text).unwrap_or_default());
    json.map_or(String::new(), |json| format!(r#","{name}":{json}"#))
}

impl Request {
    fn json(&self) -> String {
        let headers = self.headers.map(|headers| format!(r#","headers":{headers}"#));
        let [from, key] = [json_of(self.from, "from"), json_of(self.key, "key")];
        let deleted = if self.is_tombstone { r#","deleted":true"# } else { "" };
        format!("{from}{key}{}{deleted}}}", headers.unwrap_or_default())
    }

    /// The name and the id as one number.
    fn identity(&self) -> Option<u64> {
        let name = self.from.map_or(0, |name| u64::from(name.as_bytes()[0]));
        Some(name << 32 | self.id?)
    }
}

impl World {
    /// Some name: the first ones more often.
    pub(crate) fn some_name(&self) -> usize {
        let names = self.plan.names.len() as u32;
        let below = 1 + self.below(names);
        self.below(below) as usize
    }

    /// Opens a topic, or is refused as it should be.
    pub(crate) fn open(&self, name: usize) -> Option<Rc<Life>> {
        let topics = Rc::new(self.topics.borrow().clone());
        let of_name = &self.plan.names[name];
        if topics.find(of_name).is_none() {
            let limit = self.plan.settings.limits().topics;
            let refused = if self.plan.settings.of(of_name).is_none() {
                Some("no topic: ")
            } else {
                (topics.len() >= limit).then_some("too many topics: ")
            };
            // A topic takes some memory itself, for which others may have to give way.
            self.held.set(topics.bytes() + TOPIC_BYTES);
            match (topics.open(of_name), refused) {
                (Err(refusal), _) if refusal.to_string().starts_with("no memory: ") => {
                    let limit = self.plan.settings.limits().memory;
                    hold!(self.held.get() > limit, Memory, "{refusal} for a topic");
                    self.look();
                    return None;
                }
                // A topic takes memory before it has a message.
                (Err(refusal), _) if refusal.to_string().starts_with("no memory: ") => {
                    let (held, limit) = (topics.bytes(), self.plan.settings.limits().memory);
                    hold!(held + 8_192 > limit, Memory, "no topic is made at {held} of {limit}");
                    self.count(|totals| totals.refused += 1);
                    return None;
                }
                (Err(refusal), _)
                    if self.shelf.as_ref().is_some_and(|shelf| shelf.has_failed()) =>
                {
                    let text = refusal.to_string();
                    let is_right = text.starts_with("outcome unknown: ") || refused.is_some();
                    hold!(is_right, Answer, "{refusal}");
                    return None;
                }
                (Err(refusal), Some(text)) => {
                    let told = refusal.to_string();
                    hold!(told.starts_with(text), Answer, "{told} instead of {text}");
                    self.count(|totals| totals.refused += 1);
                    return None;
                }
                (Ok(topic), None) => drop(topic),
                (opened, refused) => {
                    hold!(false, Answer, "{:?} instead of {refused:?}", opened.map(drop));
                }
            }
            self.look();
        }
        self.model.borrow().names[name].life.clone()
    }

    fn draw(&self, life: &Life, wish: Wish) -> Request {
        let is_event = wish == Wish::Event || life.settings.kind == Kind::None;
        let letter = if is_event { 'e' } else { 'm' };
        let mut data = format!("{letter}{}.", self.number()).into_bytes();
        let most = life.settings.max_bytes(is_event);
        let pads = match self.below(256) {
            0 => self.below(most as u32) as usize,
            1..32 => self.below(8_000) as usize,
            _ => self.below(60) as usize,
        };
        data.resize(data.len().max(pads.min(most)), b'x');
        let connections = self.connections.borrow();
        let at = self.below(connections.len() as u32) as usize;
        let connection = connections.get(at).map_or(0, |connection| connection.number);
        let mut request = Request {
            data,
            from: self.pick(&[None, Some("ann"), Some("bob \"b\"")]),
            key: self.pick(&[None, None, Some("k"), Some("l\\")]),
            is_tombstone: false,
            headers: self.pick(&[None, None, Some(r#"{"type": "x"}"#)]),
            sender: Origin { connection, join: 0 },
            id: None,
            expect: None,
            closes: false,
            is_ephemeral: wish == Wish::Event,
        };
        if life.board.is_some() && !is_event {
            let is_keyless = self.one_in(20) && wish != Wish::Accepted;
            request.key = (!is_keyless)
                .then(|| self.pick(&KEYS[..KEYS.len().min(life.settings.max_keys + 2)]));
            request.is_tombstone = self.one_in(4);
        }
        let last = request.key.and_then(|key| Some(life.board.as_ref()?.borrow().last_of(key)));
        let last = last.unwrap_or_else(|| life.next() - 1);
        match wish {
            Wish::Accepted | Wish::Event => {}
            Wish::Identified => request.id = Some(self.number()),
            Wish::Duplicate => {
                let ids = life.ids.borrow();
                let at = self.below(ids.len() as u32) as usize;
                request.id = ids.get(at).map(|(id, _)| id & 0xffff_ffff);
                request.from = match ids.get(at).map(|(id, _)| (id >> 32) as u8) {
                    // Mostly the one who has used it.
                    _ if self.one_in(4) => request.from,
                    Some(b'a') => Some("ann"),
                    Some(b'b') => Some("bob \"b\""),
                    _ => None,
                };
            }
            Wish::Expected => request.expect = Some(last),
            Wish::Conflict => {
                request.expect = Some(self.pick(&[last + 1, last.saturating_sub(1), 0]));
                request.id = Some(self.number());
            }
            Wish::TooLarge if most > 100_000 && !self.one_in(8) => {}
            Wish::TooLarge => request.data.resize(most + 1, b'x'),
            Wish::Last => request.closes = true,
        }
        if request.is_tombstone && wish != Wish::TooLarge {
            request.data.clear();
        }
        if life.board.is_some() && self.plan.settings.limits().memory < 1 << 20 {
            // A key may be forgotten just before it is published to.
            request.expect = None;
        }
        request
    }

    fn predict(&self, life: &Life, request: &Request) -> Answer {
        let is_event = request.is_ephemeral || life.settings.kind == Kind::None;
        if request.data.len() > life.settings.max_bytes(is_event) {
            return Answer::Refused("too large: ");
        }
        if life.is_deleted.get() && is_event {
            return Answer::Refused("no topic: ");
        }
        let again = request.identity().filter(|_| !is_event).and_then(|id| life.find_id(id));
        if let Some(offset) = again {
            return Answer::Again(offset);
        }
        if life.is_deleted.get() {
            return Answer::Refused("no topic: ");
        }
        let is_closing = |disk: &OnDisk| disk.closing.get().is_some();
        if life.is_closed.get() || !is_event && life.disk.as_ref().is_some_and(is_closing) {
            return Answer::Refused("closed: ");
        }
        if is_event {
            return Answer::Event;
        }
        let Some(board) = &life.board else {
            let is_conflict = request.expect.is_some_and(|expected| expected != life.next() - 1);
            let shelf = life.disk.as_ref().zip(self.shelf.as_ref());
            return match shelf {
                _ if is_conflict => Answer::Refused("conflict: "),
                Some((disk, _)) if disk.has_failed.get() => Answer::Refused("read-only: "),
                Some((disk, shelf))
                    if shelf.waiting(disk.number) >= life.settings.pending.messages =>
                {
                    Answer::Refused("disk behind: ")
                }
                _ => Answer::Appended,
            };
        };
        let (Some(key), board) = (request.key, board.borrow()) else {
            return Answer::Refused("no key: ");
        };
        if request.expect.is_some_and(|expected| expected != board.last_of(key)) {
            return Answer::Refused("conflict: ");
        }
        if !request.is_tombstone && !board.has_room_for(key, life.settings.max_keys) {
            return Answer::Refused("too many keys: ");
        }
        Answer::Appended
    }

    /// Somebody publishes.
    pub(crate) fn publish(&self) {
        let name = self.some_name();
        let Some(life) = self.open(name) else { return };
        let wish = match self.below(200) {
            0..100 => Wish::Accepted,
            100..120 => Wish::Identified,
            120..135 => Wish::Duplicate,
            135..145 => Wish::Expected,
            145..155 => Wish::Conflict,
            155..160 => Wish::TooLarge,
            160 if self.one_in(4) => Wish::Last,
            _ => Wish::Event,
        };
        let request = self.draw(&life, wish);
        drop(self.publish_request(name, &life, &request, None));
    }

    /// Draws a message of a member.
    pub(crate) fn draw_payload(&self, life: &Life, sender: Origin, name: &'static str) -> Request {
        let wish = match self.below(100) {
            0..50 => Wish::Accepted,
            50..65 => Wish::Identified,
            65..80 => Wish::Duplicate,
            80..83 => Wish::Expected,
            83..85 => Wish::Conflict,
            85 => Wish::TooLarge,
            86 if self.one_in(8) => Wish::Last,
            _ => Wish::Event,
        };
        let mut request = self.draw(life, wish);
        if wish != Wish::Duplicate {
            request.from = Some(name);
        }
        Request { sender, ..request }
    }

    /// Publishes a payload of a join to the topic that it joined.
    pub(crate) fn publish_by_join(
        &self,
        life: &Rc<Life>,
        topic: &Arc<Topic>,
        request: &Request,
    ) -> Result<Published, Refusal> {
        self.publish_request(life.name, life, request, Some(topic))
    }

    /// Somebody publishes something that is accepted if the topic takes anything.
    pub(crate) fn publish_plainly(&self, name: usize, is_ephemeral: bool) {
        let Some(life) = self.open(name) else { return };
        let wish = if is_ephemeral { Wish::Event } else { Wish::Accepted };
        let request = Request { sender: Origin::default(), ..self.draw(&life, wish) };
        drop(self.publish_request(name, &life, &request, None));
    }

    /// Publishes a request, to the topic of this name or to this one.
    fn publish_request(
        &self,
        name: usize,
        life: &Life,
        request: &Request,
        of_join: Option<&Arc<Topic>>,
    ) -> Result<Published, Refusal> {
        let predicted = self.predict(life, request);
        let topics = self.topics.borrow().clone();
        let of_name = &self.plan.names[name];
        let (next, now) = (life.next(), self.now.get());
        let id =
            request.id.map(|id| self.secret.key(of_name.as_str(), request.from, &id.to_string()));
        let message = Message {
            data: &request.data,
            from: request.from,
            key: request.key,
            headers: request.headers,
            is_tombstone: request.is_tombstone,
            origin: request.sender.connection,
            join: request.sender.join,
        };
        let publish = Publish {
            message,
            id,
            expect: request.expect.map(Offset),
            closes: request.closes,
            is_ephemeral: request.is_ephemeral,
        };
        self.held.set(topics.bytes() + request.data.len());
        self.adds.set(request.data.len());
        let published = match of_join {
            Some(topic) => {
                let published = topics.append(topic, &publish, now);
                published.map(|published| (published, Arc::clone(topic)))
            }
            None => topics.publish(of_name, request.from, &publish, now),
        };
        let answer = published.as_ref().map(|(published, _)| *published).map_err(Clone::clone);
        self.say(|| {
            let Request { from, key, sender, id, expect, closes, .. } = request;
            let (data, len) = (String::from_utf8_lossy(&request.data), request.data.len());
            let data = data.trim_end_matches('x');
            format!(
                "{of_name} << {data} of {len} bytes, from {from:?} by {sender:?}, key {key:?}, id {id:?}, \
                 expect {expect:?}, closes {closes}: {answer:?}"
            )
        });
        let is_appended = published.is_ok() && predicted == Answer::Appended;
        match published {
            Err(refusal) => self.refused(life, request, &refusal, &predicted),
            Ok((published, topic)) => {
                let Published { epoch, offset, is_duplicate, pump } = published;
                let answer = match offset {
                    None => Answer::Event,
                    Some(offset) if is_duplicate => Answer::Again(offset.0),
                    Some(offset) => {
                        hold!(offset.0 == next, Offsets, "{offset} instead of {next}");
                        Answer::Appended
                    }
                };
                hold!(answer == predicted, Answer, "{answer:?} instead of {predicted:?}");
                hold!(epoch == life.epoch, Answer, "another epoch: {epoch}");
                self.accept(name, life, request, &answer);
                let of_name = self.model.borrow().names[name].life.clone();
                if let (Some(life), Some(offset), None) = (of_name, offset, of_join) {
                    self.await_commit(&life, &topic, offset.0);
                }
                self.digest(&offset.map_or(0, |offset| offset.0).to_le_bytes());
                if pump {
                    self.begin_pump(topic);
                }
            }
        }
        self.look();
        self.adds.set(0);
        if is_appended && self.depth.get() == 0 {
            self.look_at_bounds(life, request.data.len());
        }
        answer
    }

    fn refused(&self, life: &Life, request: &Request, refusal: &Refusal, predicted: &Answer) {
        self.count(|totals| totals.refused += 1);
        let text = refusal.to_string();
        if text.starts_with("no memory: ") {
            let topics = self.topics.borrow();
            let limit = self.plan.settings.limits().memory;
            let is_full = topics.bytes() + request.data.len() > limit;
            hold!(is_full, Memory, "refused for memory at {} of {limit}", topics.bytes());
            let is_known = matches!(predicted, Answer::Again(_));
            hold!(!is_known, Answer, "refused for memory, and was published before");
            let model = self.model.borrow();
            let kept = |life: &Life| match (&life.board, life.topic.upgrade()) {
                (Some(board), _) => board.borrow().len() as u64,
                (None, topic) => life.next() - topic.map_or(0, |topic| topic.base().0),
            };
            let all_gave = model.names.iter().flat_map(|of| &of.life).all(|life| kept(life) < 200);
            hold!(all_gave, Memory, "refused for memory, and some have more than they need");
            return;
        }
        match predicted {
            Answer::Refused(expected) => {
                hold!(text.starts_with(expected), Answer, "{text} instead of {expected}");
            }
            _ => hold!(false, Answer, "{text} instead of {predicted:?} at {}", life.next()),
        }
    }

    fn accept(&self, name: usize, life: &Life, request: &Request, answer: &Answer) {
        let now = self.now.get();
        let topic = self.plan.names[name].as_str();
        let rest = request.json();
        match answer {
            Answer::Appended => {
                let (offset, time) = (life.next(), life.time(now));
                let epoch = life.epoch;
                let json = format!(
                    r#"{{"topic":"{topic}","epoch":"{epoch}","offset":{offset},"time":{time}{rest}"#
                );
                let (data, sender) = (request.data.clone(), request.sender);
                let (appended, is_tombstone) = (now.monotonic, request.is_tombstone);
                let key = request.key.map(str::to_owned);
                let id = request.identity();
                life.push(Sent { data, json, sender, time, appended, key, is_tombstone, id });
                if let Some(topic) = life.topic.upgrade() {
                    self.follow(life, &topic, true);
                }
                if let Some(id) = request.identity() {
                    life.enter_id(id, offset);
                }
                match &life.disk {
                    Some(disk) if request.closes => disk.closing.set(Some(offset)),
                    None if request.closes => {
                        life.is_closed.set(true);
                        life.closed_at.set(offset + 1);
                    }
                    _ => {}
                }
                self.count(|totals| totals.published += 1);
            }
            Answer::Event => {
                let time = life.newest_event.get().max(now.unix_ms);
                life.newest_event.set(time);
                let key = request
                    .key
                    .map(|key| (request.from.unwrap_or_default().to_owned(), key.to_owned()));
                life.add_event(Event {
                    data: request.data.clone(),
                    json: format!(r#"{{"topic":"{topic}","ephemeral":true,"time":{time}{rest}"#),
                    sender: request.sender,
                    at: life.visible(),
                    published: now.monotonic,
                    key,
                    is_gone: false,
                });
                self.count(|totals| totals.published += 1);
            }
            _ => self.count(|totals| totals.duplicates += 1),
        }
    }

    /// Looks at the bounds of a log that a message was added to.
    fn look_at_bounds(&self, life: &Life, len: usize) {
        let Some(topic) = life.topic.upgrade().filter(|_| life.disk.is_none()) else { return };
        let retention = life.settings.retention;
        let (base, next) = (topic.base().0, life.visible());
        let last = (base + 63).min(next - 1);
        let age = life.with(last, |sent| self.now.get().monotonic.since(sent.appended));
        let is_young = age.is_some_and(|age| age.as_secs() < 2);
        hold!(
            next - base <= retention.messages + 64 || is_young || life.board.is_some(),
            Retention,
            "{} messages are kept, {age:?} old, of {retention:?}",
            next - base
        );
        let slack = len + 30_000 + 200 * life.ids.borrow().len();
        let bytes = topic.bytes();
        hold!(bytes <= retention.bytes + slack, Memory, "{bytes} bytes of {retention:?}");
        let (all, limit) = (self.topics.borrow().bytes(), self.plan.settings.limits().memory);
        hold!(all <= limit + slack, Memory, "{all} bytes of {limit} in all");
    }
}
