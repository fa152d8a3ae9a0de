//! Events of the moment: typing, pointers. They wait for a few seconds for readers that have read the log up
//! to where it ended when they were published, so that they never overtake a message, and are then gone.

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
    time::Duration,
};

use rsock_proto::SharedPayload;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    entry::{ALLOCATION, Encoded, Form, Message, Meta, Room, json_of},
    memory::Held,
    name::TopicName,
    position::Offset,
    rate::Recent,
    sync::{AtomicUsize, Ordering},
    time::{Instant, Now},
};

/// Events that wait at most. A reader that is further behind has missed some, and is not told.
const MAX_EVENTS: usize = 64;
/// Bytes of events that wait at most, but for one that is larger alone.
const MAX_BYTES: usize = 4 << 20;
/// The time for which an event waits for readers.
const LIFETIME: Duration = Duration::from_secs(5);
/// The further items that an event may be encoded as: full metadata in the other form, two forms of short ones,
/// and without any.
const OTHERS: usize = 4;

/// An event. Its items are encoded once for all readers of their kind, when the first of them comes.
#[derive(Debug)]
pub struct Event {
    /// The message that a reader reads next that may be sent it.
    pub at: Offset,
    /// The connection that it came by; 0 for none.
    pub origin: u64,
    /// The join that it came by; 0 for none.
    pub join: u32,
    published: Instant,
    from: Option<Box<str>>,
    key: Option<Box<str>>,
    full: SharedPayload,
    others: [OnceLock<Box<SharedPayload>>; OTHERS],
    /// Bytes of these.
    other_bytes: AtomicUsize,
    held: Arc<Held>,
}

/// The metadata of an event.
#[derive(Serialize)]
struct Description<'a> {
    topic: &'a str,
    ephemeral: bool,
    time: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<&'a RawValue>,
}

impl Event {
    /// The bytes that were published.
    pub fn data(&self) -> &[u8] {
        self.full.data()
    }

    /// The item that readers of this kind are sent. It is kept for those who come later, if there is room.
    pub fn item(&self, meta: Meta, form: Form) -> Encoded<'_> {
        let place = match (meta, form) {
            (Meta::Full, Form::Composite) => return Encoded::Shared(&self.full),
            (Meta::Full, Form::Plain) => &self.others[0],
            (Meta::Offset, Form::Composite) => &self.others[1],
            (Meta::Offset, Form::Plain) => &self.others[2],
            (Meta::None, _) => &self.others[3],
        };
        if let Some(item) = place.get() {
            return Encoded::Shared(item);
        }
        let item = self.encode(meta, form);
        let room = Room { of: &self.other_bytes, held: &self.held, limit: MAX_BYTES };
        // Where two are the first it is counted twice: once too often is no harm.
        match room.take(item_bytes(&item)) {
            true => Encoded::Shared(place.get_or_init(|| Box::new(item))),
            false => Encoded::Own(item),
        }
    }

    fn encode(&self, meta: Meta, form: Form) -> SharedPayload {
        let full = self.full.to_payload();
        let json = match meta {
            Meta::Full => json_of(&full.metadata),
            // It has no offset, and says what it is.
            Meta::Offset => br#"{"ephemeral":true}"#,
            Meta::None => return SharedPayload::new(None, &full.data),
        };
        SharedPayload::new(Some(&form.metadata(json)), &full.data)
    }

    fn replaces(&self, other: &Self) -> bool {
        self.key.is_some() && self.key == other.key && self.from == other.from
    }

    fn is_over(&self, now: Now) -> bool {
        now.monotonic.since(self.published) >= LIFETIME
    }

    /// The memory it takes, in the forms in which it was read so far.
    fn bytes(&self) -> usize {
        let of = |text: &Option<Box<str>>| text.as_deref().map_or(0, str::len);
        let text = of(&self.from) + of(&self.key);
        let others = self.other_bytes.load(Ordering::Relaxed);
        size_of::<Self>() + text + item_bytes(&self.full) + others
    }
}

/// The memory of an item.
fn item_bytes(item: &SharedPayload) -> usize {
    item.size() + size_of::<SharedPayload>() + ALLOCATION
}

impl Drop for Event {
    fn drop(&mut self) {
        self.held.release(self.bytes());
    }
}

/// The events of a topic that wait for its readers. A reader keeps the number of the next one that it may
/// see, and nothing else.
#[derive(Debug)]
pub struct Events {
    topic: TopicName,
    /// With their numbers, which grow with the offsets and the times of the events.
    waiting: VecDeque<(u64, Arc<Event>)>,
    next: u64,
    /// The time of the newest event: later ones are not older.
    newest: u64,
    recent: Recent,
    held: Arc<Held>,
}

impl Events {
    /// None yet. What they take is counted apart from the topic's log, which is not to give way to them.
    pub fn new(topic: TopicName, held: Arc<Held>) -> Self {
        let recent = Recent::default();
        Self { topic, waiting: VecDeque::new(), next: 0, newest: 0, recent, held }
    }

    /// Events a second, over the last ten seconds.
    pub(crate) fn per_second(&self, now: Now) -> f64 {
        self.recent.per_second(now.monotonic)
    }

    /// The number that the next event gets, which a new reader begins with.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Adds an event that may be sent to whoever reads this offset next. It takes the place of one that has
    /// the same key from the same name.
    pub fn publish(&mut self, message: &Message<'_>, at: Offset, now: Now) {
        self.expire(now);
        self.recent.count(now.monotonic);
        self.newest = self.newest.max(now.unix_ms);
        // They were an object when they were read.
        let headers = message.headers.and_then(|headers| serde_json::from_str(headers).ok());
        let description = Description {
            topic: self.topic.as_str(),
            ephemeral: true,
            time: self.newest,
            from: message.from,
            key: message.key,
            headers,
        };
        // Strings, numbers and what is JSON already can be written as JSON.
        let json = serde_json::to_vec(&description).unwrap_or_default();
        let event = Event {
            at,
            origin: message.origin,
            join: message.join,
            published: now.monotonic,
            from: message.from.map(Into::into),
            key: message.key.map(Into::into),
            full: SharedPayload::new(Some(&Form::Composite.metadata(&json)), message.data),
            others: Default::default(),
            other_bytes: AtomicUsize::new(0),
            held: Arc::clone(&self.held),
        };
        self.held.add(event.bytes());
        self.waiting.retain(|(_, waiting)| !event.replaces(waiting));
        self.waiting.push_back((self.next, Arc::new(event)));
        self.next += 1;
        while self.waiting.len() > MAX_EVENTS
            || (self.waiting.len() > 1 && self.held.bytes() > MAX_BYTES)
        {
            self.waiting.pop_front();
        }
    }

    /// The next event for a reader that has read the log up to this offset, which it reads next. `number` is
    /// its own, and goes on. None until it has read more, if its number stays behind, or there is another
    /// event.
    pub fn read(&self, number: &mut u64, read_to: Offset, now: Now) -> Option<Arc<Event>> {
        let first = self.waiting.partition_point(|(of, _)| *of < *number);
        let mut waiting = self.waiting.range(first..);
        let Some((of, event)) = waiting.find(|(_, event)| !event.is_over(now)) else {
            *number = self.next;
            return None;
        };
        if event.at > read_to {
            return None;
        }
        *number = of + 1;
        Some(Arc::clone(event))
    }

    /// Drops what has waited for its time.
    pub fn expire(&mut self, now: Now) {
        while self.waiting.front().is_some_and(|(_, event)| event.is_over(now)) {
            self.waiting.pop_front();
        }
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
    }

    /// The moment at which the oldest has waited for its time.
    pub fn expires(&self) -> Option<Instant> {
        self.waiting.front().map(|(_, event)| event.published + LIFETIME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events() -> (Events, Arc<AtomicUsize>) {
        let all = Arc::default();
        let topic = TopicName::parse("room.1").expect("a name");
        (Events::new(topic, Held::new(Arc::clone(&all))), all)
    }

    fn at(ms: u64) -> Now {
        Now { monotonic: Instant(1_000 * ms), unix_ms: 1_000_000 + ms }
    }

    fn of<'a>(data: &'a str, from: &'a str, key: Option<&'a str>) -> Message<'a> {
        Message { data: data.as_bytes(), from: Some(from), key, ..Message::default() }
    }

    fn read(events: &Events, number: &mut u64, read_to: u64, ms: u64) -> Vec<String> {
        let event = || events.read(number, Offset(read_to), at(ms));
        let text = |event: Arc<Event>| String::from_utf8_lossy(event.data()).into_owned();
        std::iter::from_fn(event).map(text).collect()
    }

    #[test]
    fn metadata_say_that_it_is_no_message() {
        let (mut events, _) = events();
        let headers = Some(r#"{"type": "typing"}"#);
        let message = Message { headers, key: Some("k"), ..of("x", "ann", None) };
        events.publish(&message, Offset(1), at(5));
        let event = events.read(&mut 0, Offset(1), at(5)).expect("an event");
        let json = |meta, form| {
            let payload = event.item(meta, form).to_payload();
            assert_eq!(&*payload.data, b"x");
            payload.metadata.map(|json| String::from_utf8_lossy(&json).into_owned())
        };
        let full = r#"{"topic":"room.1","ephemeral":true,"time":1000005,"from":"ann","key":"k","headers":{"type": "typing"}}"#;
        assert_eq!(json(Meta::Full, Form::Plain).as_deref(), Some(full));
        assert!(json(Meta::Full, Form::Composite).is_some_and(|json| json.ends_with(full)));
        assert_eq!(json(Meta::Offset, Form::Plain).as_deref(), Some(r#"{"ephemeral":true}"#));
        assert_eq!(json(Meta::None, Form::Plain), None);
    }

    #[test]
    fn an_event_never_overtakes_a_message() {
        let (mut events, _) = events();
        events.publish(&of("a", "ann", None), Offset(5), at(0));
        events.publish(&of("b", "ann", None), Offset(7), at(1));
        let mut number = 0;
        assert_eq!(read(&events, &mut number, 4, 2), [""; 0]);
        assert_eq!(read(&events, &mut number, 5, 2), ["a"]);
        assert_eq!(read(&events, &mut number, 6, 2), [""; 0]);
        assert_eq!(read(&events, &mut number, 9, 2), ["b"]);
        assert_eq!(read(&events, &mut number, 9, 2), [""; 0]);
    }

    #[test]
    fn the_newest_of_a_key_waits_alone() {
        let (mut events, _) = events();
        for (data, from, key) in [
            ("1", "ann", Some("pointer")),
            ("2", "bob", Some("pointer")),
            ("3", "ann", None),
            ("4", "ann", Some("pointer")),
            ("5", "ann", None),
        ] {
            events.publish(&of(data, from, key), Offset(1), at(0));
        }
        assert_eq!(read(&events, &mut 0, 1, 0), ["2", "3", "4", "5"]);
        // Whoever has seen the first sees the one that took its place, once.
        assert_eq!(read(&events, &mut 1, 1, 0), ["2", "3", "4", "5"]);
        assert_eq!(read(&events, &mut 4, 1, 0), ["5"]);
    }

    #[test]
    fn after_five_seconds_it_is_gone() {
        let (mut events, all) = events();
        events.publish(&of("a", "ann", None), Offset(1), at(0));
        events.publish(&of("b", "ann", None), Offset(1), at(1_000));
        assert_eq!(events.expires(), Some(at(5_000).monotonic));
        assert_eq!(read(&events, &mut 0, 1, 4_999), ["a", "b"]);
        // Also where nobody has dropped it yet.
        assert_eq!(read(&events, &mut 0, 1, 5_000), ["b"]);
        events.expire(at(6_000));
        assert_eq!(read(&events, &mut 0, 1, 0), [""; 0]);
        assert_eq!((events.expires(), all.load(Ordering::Relaxed)), (None, 0));
    }

    #[test]
    fn events_are_bounded_in_number_and_in_bytes() {
        let (mut events, all) = events();
        for n in 0..1_000 {
            events.publish(&of(&n.to_string(), "ann", None), Offset(1), at(0));
            assert!(events.waiting.len() <= MAX_EVENTS);
        }
        assert_eq!(read(&events, &mut 0, 1, 0)[0], "936");
        let large = "x".repeat(64 << 10);
        for n in 0..100 {
            events.publish(&of(&large, "ann", None), Offset(1), at(0));
            // Whatever was read in whatever form.
            for (_, event) in events.waiting.iter().take(n % 16) {
                for meta in [Meta::Full, Meta::Offset, Meta::None] {
                    event.item(meta, Form::Plain);
                }
            }
            assert!(all.load(Ordering::Relaxed) <= MAX_BYTES);
        }
        assert!((10..=MAX_EVENTS).contains(&events.waiting.len()), "{}", events.waiting.len());
        drop(events);
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }

    /// What is counted is what is held: one copy, and another for each form that somebody reads.
    #[test]
    fn an_event_counts_as_often_as_it_is_held() {
        let (mut events, all) = events();
        let held = || all.load(Ordering::Relaxed);
        let data = "x".repeat(10_000);
        events.publish(&of(&data, "ann", None), Offset(1), at(0));
        assert!((10_000..11_000).contains(&held()), "{}", held());
        let event = events.read(&mut 0, Offset(1), at(0)).expect("an event");
        event.item(Meta::Full, Form::Composite);
        assert!(held() < 11_000, "it is there already");
        for again in [false, true] {
            for (n, meta) in (2..).zip([Meta::None, Meta::Offset, Meta::Full]) {
                event.item(meta, Form::Plain);
                let n = if again { 4 } else { n };
                assert!((n * 10_000..n * 10_000 + 2_000).contains(&held()), "{n}: {}", held());
            }
        }
        drop(event);
        events.expire(at(5_000));
        assert_eq!(held(), 0);
    }

    /// Readers at any pace get the events in their order, none before the messages that were there first,
    /// none that is too old; and all of them if they are quick.
    #[test]
    fn readers_at_any_pace_see_events_in_order() {
        let mut random = 7_u64;
        let mut below = |bound: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % bound
        };
        let (mut events, _) = events();
        let (mut head, mut ms) = (1, 0);
        // The number and the place in the log of each, and the newest event it saw.
        let mut readers = [(0, 1, 0); 4];
        for n in 1..20_000_u64 {
            match below(4) {
                0 => head += 1,
                1 => ms += below(200),
                _ => events.publish(
                    &of(&format!("{n} {head} {ms}"), "ann", None),
                    Offset(head),
                    at(ms),
                ),
            }
            let quick = &mut readers[0];
            quick.1 = head;
            let quick = quick.0;
            for (pace, (number, read_to, newest)) in readers.iter_mut().enumerate() {
                if below(1 << (2 * pace)) > 0 {
                    continue;
                }
                *read_to = head.min(*read_to + below(3));
                while let Some(event) = events.read(number, Offset(*read_to), at(ms)) {
                    let text = String::from_utf8_lossy(event.data()).into_owned();
                    let seen: Vec<u64> =
                        text.split(' ').map(|part| part.parse().expect("a number")).collect();
                    assert!(seen[0] > *newest && seen[1] <= *read_to && ms - seen[2] < 5_000);
                    *newest = seen[0];
                }
            }
            assert!(readers[0].0 <= quick + 1 && readers[0].0 == events.next());
        }
        assert!(readers.iter().all(|(number, ..)| *number > 0));
    }
}
