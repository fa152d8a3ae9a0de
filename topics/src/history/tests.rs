use std::{sync::Arc, time::Duration};

use serde_json::Value;

use super::*;
use crate::{
    cursor::{Fill, Sink},
    entry::{Form, Message},
    name::TopicName,
    options::{HistoryOptions, HistoryPageOptions},
    position::{Epoch, Offset},
    refusal::Refusal,
    settings::{Retention, TopicSettings},
    time::Now,
    topic::{Ended, Publish, Topic},
};

struct World {
    topic: Topic,
    now: Now,
}

impl World {
    fn new(messages: u64) -> Self {
        let name = TopicName::parse("room.1").expect("a name");
        let retention = Retention { messages, ..Retention::default() };
        let settings = Arc::new(TopicSettings { retention, ..TopicSettings::default() });
        let (epoch, first) = (Epoch(0x1a), Offset(1));
        let topic = Topic::new(name, epoch, first, Ended::Not, settings, &Arc::default());
        Self { topic, now: Now::default() }
    }

    /// Publishes, as long ago as no message is spared any more for being young.
    fn publish(&mut self, messages: u64) {
        for _ in 0..messages {
            let message = Message { data: b"1", ..Message::default() };
            let publish = Publish { message, ..Publish::default() };
            self.topic.publish(&publish, self.now).expect("room");
        }
        self.now = self.now.after(Duration::from_secs(3));
        self.topic.expire(self.now);
    }

    fn backward(&self, options: &str) -> Backward {
        let options = HistoryOptions::parse(options.as_bytes()).expect("valid");
        Backward::new(&self.topic, &options, Some(Form::Plain), self.now)
    }

    /// The metadata of so many items, and how it ended.
    fn read(&self, backward: &mut Backward, credit: usize) -> (Vec<String>, Fill) {
        let mut out = Out { items: Vec::new(), credit, now: self.now };
        let fill = backward.fill(&self.topic, &mut out);
        (out.items, fill)
    }

    fn all(&self, options: &str) -> Vec<String> {
        let (items, fill) = self.read(&mut self.backward(options), usize::MAX);
        assert_eq!(fill, Fill::Ended);
        items
    }

    fn page(&self, options: &str) -> Value {
        let options = HistoryPageOptions::parse(options.as_bytes()).expect("valid");
        let page = page(&self.topic, &options, self.now).expect("a page");
        serde_json::from_slice(&page).expect("JSON")
    }
}

struct Out {
    items: Vec<String>,
    credit: usize,
    now: Now,
}

impl Sink for Out {
    fn has_room(&mut self) -> bool {
        self.items.len() < self.credit
    }

    fn send(&mut self, item: &rsock_proto::SharedPayload) -> Result<(), Refusal> {
        let metadata = item.to_payload().metadata.expect("metadata");
        let json: Value = serde_json::from_slice(&metadata).expect("JSON");
        self.items.push(match json.get("time") {
            Some(_) => json["offset"].to_string(),
            None => json.to_string(),
        });
        Ok(())
    }

    fn now(&self) -> Now {
        self.now
    }
}

fn numbers(offsets: impl Iterator<Item = u64>) -> Vec<String> {
    offsets.map(|offset| offset.to_string()).collect()
}

#[test]
fn a_log_is_read_from_its_newest_to_its_oldest() {
    let mut world = World::new(1_000);
    world.publish(300);
    assert_eq!(world.all(r#"{"reverse":true}"#), numbers((1..=300).rev()));
    assert_eq!(world.all(r#"{"from":{"last":203},"to":100}"#), numbers((98..=100).rev()));
    assert_eq!(world.all(r#"{"from":{"last":2}}"#), numbers((299..=300).rev()));
    let after = r#"{"from":{"epoch":"000000000000001a","after":295},"to":5000}"#;
    assert_eq!(world.all(after), numbers((296..=300).rev()));
    assert_eq!(world.all(r#"{"from":"new"}"#), numbers(0..0));
    assert_eq!(World::new(1).all(""), numbers(0..0));
}

#[test]
fn what_is_gone_is_told_at_the_end() {
    let mut world = World::new(64);
    world.publish(300);
    let base = world.topic.base().0;
    assert!(base > 100);
    let gap =
        |from, to| format!(r#"{{"epoch":"000000000000001a","gap":{{"from":{from},"to":{to}}}}}"#);
    let from = r#"{"from":{"epoch":"000000000000001a","after":9}}"#;
    let told = [numbers((base..=300).rev()), vec![gap(10, base - 1)]].concat();
    assert_eq!(world.all(from), told);
    // Retention comes while it reads.
    let mut backward = world.backward("");
    let (items, fill) = world.read(&mut backward, 10);
    assert_eq!((items, fill), (numbers((291..=300).rev()), Fill::NoRoom));
    world.publish(300);
    let (items, fill) = world.read(&mut backward, 10);
    assert_eq!((items, fill), (vec![gap(base, 290)], Fill::Ended));
    let reset = world.all(r#"{"from":{"epoch":"00000000000000ff","after":9}}"#);
    assert!(reset[0].contains(r#""gap":{"epoch":"00000000000000ff","from":10}"#), "{reset:?}");
    assert_eq!(reset[1], "600");
}

#[test]
fn pages_of_a_topic_are_its_log() {
    let mut world = World::new(200);
    world.publish(500);
    let base = world.topic.base().0;
    let (mut after, mut read) = (0, Vec::new());
    let gap = loop {
        let page =
            world.page(&format!(r#"{{"after":{after},"epoch":"000000000000001a","limit":30}}"#));
        let messages = page["messages"].as_array().expect("messages");
        read.extend(messages.iter().filter_map(|message| message["offset"].as_u64()));
        match page["next"]["after"].as_u64() {
            Some(next) => after = next,
            None => break world.page(r#"{"after":5,"epoch":"000000000000001a"}"#)["gap"].clone(),
        }
    };
    assert_eq!(read, (base..=500).collect::<Vec<_>>());
    assert_eq!(gap, serde_json::json!({"from": 6, "to": base - 1}));
    let newest = world.page(r#"{"limit":1000,"reverse":true}"#);
    let newest = newest["messages"].as_array().expect("messages").iter();
    let newest: Vec<_> = newest.filter_map(|message| message["offset"].as_u64()).collect();
    assert_eq!(newest, (base..=500).rev().collect::<Vec<_>>());
}
