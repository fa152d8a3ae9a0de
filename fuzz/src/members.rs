//! Members of a topic: whatever their sessions do, and however slowly watchers read, each of these comes to
//! know who is there, and is told nothing twice.

use std::{collections::BTreeMap, time::Duration};

use rsock_topics::{
    Form, Instant, Now, Presence, PresenceOptions, PresencePageOptions, PresenceSettings,
    SessionEnd, SessionId, TopicName, TopicSettings, Watcher,
};
use serde_json::{Value, value::RawValue};

/// The members that a watcher knows of, with what each says.
type Known = BTreeMap<String, Value>;

/// Steps of a service, two bytes each: the step, and whom it is about.
pub fn members(data: &[u8]) {
    let Some((settings, steps)) = data.split_first() else { return };
    let mut world = World::new(*settings);
    for step in steps.chunks_exact(2) {
        world.step(step[0], step[1]);
    }
    world.settle();
}

struct World {
    presence: Presence,
    now: Now,
    watchers: Vec<(Watcher, Known)>,
}

impl World {
    fn new(settings: u8) -> Self {
        let settings = PresenceSettings {
            gather_above: usize::from(settings % 8),
            max_members: 6,
            max_sessions: 12,
            max_change_bytes: 1 << (8 + settings / 32),
            ..PresenceSettings::of(&TopicSettings::default())
        };
        let topic = TopicName::parse("room").expect("a name");
        let presence = Presence::new(topic, settings);
        Self { presence, now: Now::default(), watchers: Vec::new() }
    }

    fn step(&mut self, step: u8, who: u8) {
        let session = SessionId(u64::from(who % 16));
        let name = format!("m{}", who / 32);
        let info = RawValue::from_string((who % 5).to_string()).expect("a number");
        let info = (!who.is_multiple_of(3)).then_some(&*info);
        match step % 10 {
            // A session that is there already begins anew.
            0 | 1 => _ = self.presence.begin(session, &name, info, self.now),
            2 => self.presence.update(session, info, self.now),
            3 => self.presence.end(session, SessionEnd::Orderly, self.now),
            4 => self.presence.end(session, SessionEnd::Lost, self.now),
            5 => self.presence.end(session, SessionEnd::Suspended, self.now),
            6 => self.presence.resume(session, self.now),
            7 => self.pass(Duration::from_millis(1 << (who % 14))),
            8 if self.watchers.len() < 4 => {
                let options =
                    PresenceOptions { tells_away: !who.is_multiple_of(2), tells_each: false };
                self.watchers.push((self.presence.watch(options), Known::new()));
            }
            8 => {
                if let Some((watcher, _)) = self.watchers.pop() {
                    self.presence.unwatch(watcher);
                }
            }
            _ => self.read(usize::from(who % 4), usize::from(who / 4)),
        }
    }

    /// Lets time pass, and comes whenever something is due.
    fn pass(&mut self, time: Duration) {
        let later = self.now.after(time);
        while let Some(due) = self.presence.next_deadline().filter(|due| *due <= later.monotonic) {
            self.presence.tick(Now { monotonic: due, ..self.now });
        }
        self.now = later;
    }

    /// Has a watcher read so many items.
    fn read(&mut self, watcher: usize, items: usize) {
        let Some((watcher, known)) = self.watchers.get_mut(watcher) else { return };
        let mut left = items;
        while left > 0 {
            let more = self.presence.read(watcher, Form::Plain, |item| {
                left -= 1;
                let payload = item.to_payload();
                let json = payload.metadata.expect("metadata");
                take(known, &serde_json::from_slice(&json).expect("JSON"));
                Ok::<_, ()>(left > 0)
            });
            if more != Ok(true) {
                return;
            }
        }
    }

    /// When nothing happens any more, all that is told is so.
    fn settle(&mut self) {
        self.pass(Duration::from_secs(60));
        assert_eq!(self.presence.next_deadline(), None::<Instant>);
        let page = self.presence.page(&PresencePageOptions::default());
        let page: Value = serde_json::from_slice(&page).expect("JSON");
        let members = page["members"].as_array().expect("a list").iter();
        let there: Known = members
            .map(|member| {
                (member["name"].as_str().expect("a name").to_owned(), member["info"].clone())
            })
            .collect();
        assert_eq!(page["total"], there.len());
        for watcher in 0..self.watchers.len() {
            self.read(watcher, usize::MAX);
            assert_eq!(self.watchers[watcher].1, there);
        }
        for session in 0..16 {
            self.presence.end(SessionId(session), SessionEnd::Orderly, self.now);
        }
        for (watcher, _) in self.watchers.drain(..) {
            self.presence.unwatch(watcher);
        }
        self.pass(Duration::from_secs(60));
        assert!(self.presence.is_idle());
        assert_eq!(self.presence.bytes(), 0, "all of it is given back");
    }
}

/// Takes an event, which must fit what was told before it.
fn take(known: &mut Known, event: &Value) {
    let name = event["name"].as_str().unwrap_or_default();
    match event["event"].as_str().expect("an event") {
        "here" | "join" => {
            let before = known.insert(name.to_owned(), event["info"].clone());
            assert_eq!(before, None, "{event}");
        }
        "leave" => assert!(known.remove(name).is_some(), "{event}"),
        "update" => {
            let info = known.get_mut(name).expect("it was told of");
            assert_ne!(*info, event["info"], "{event}");
            *info = event["info"].clone();
        }
        "away" | "back" => assert!(known.contains_key(name), "{event}"),
        "all" => assert_eq!(event["total"], known.len()),
        "reset" => known.clear(),
        _ => panic!("{event}"),
    }
}
