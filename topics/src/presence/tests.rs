//! Presence as it is told, and as a model of plain lists says that it is.

use std::collections::BTreeMap;

use rsock_proto::SharedPayload;
use serde_json::{Value, json};

use super::*;
use crate::{
    entry::Form,
    options::{PresenceOptions, PresencePageOptions},
};

fn settings() -> PresenceSettings {
    PresenceSettings::of(&TopicSettings::default())
}

fn presence(settings: PresenceSettings) -> Presence {
    Presence::new(TopicName::parse("room.1").expect("a name"), settings)
}

fn at(ms: u64) -> Now {
    Now { monotonic: Instant(1_000 * ms), unix_ms: 1_700_000_000_000 + ms }
}

fn info(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).expect("JSON")
}

fn begin(presence: &mut Presence, session: u64, name: &str, ms: u64) {
    assert_eq!(presence.begin(SessionId(session), name, None, at(ms)), Begun::Shown);
}

fn end(presence: &mut Presence, session: u64, how: SessionEnd, ms: u64) {
    presence.end(SessionId(session), how, at(ms));
}

/// Calls it at each of its deadlines, up to a moment.
fn tick_until(presence: &mut Presence, ms: u64) {
    while let Some(due) = presence.next_deadline().filter(|due| *due <= at(ms).monotonic) {
        presence.tick(Now { monotonic: due, unix_ms: 1_700_000_000_000 + due.0 / 1_000 });
    }
}

fn item(presence: &mut Presence, watcher: &mut Watcher) -> Option<Value> {
    let mut items = items(presence, watcher, 1);
    assert!(items.len() < 2);
    items.pop()
}

/// The next items for a watcher, as many at most.
fn items(presence: &mut Presence, watcher: &mut Watcher, most: u64) -> Vec<Value> {
    let mut items = Vec::new();
    let send = |item: &SharedPayload| {
        assert!(item.data().is_empty());
        let metadata = item.to_payload().metadata.expect("metadata");
        items.push(serde_json::from_slice(&metadata).expect("JSON"));
        Ok::<_, ()>((items.len() as u64) < most)
    };
    let has_more = presence.read(watcher, Form::Plain, send).expect("it takes all");
    assert!(has_more || (items.len() as u64) <= most);
    items
}

/// All there is for a watcher: `here ann`, `all 1`, `join bob`.
fn read(presence: &mut Presence, watcher: &mut Watcher) -> Vec<String> {
    let mut read = Vec::new();
    for item in items(presence, watcher, u64::MAX) {
        let text = |field: &str| item[field].as_str().unwrap_or("").to_owned();
        let number = ["total", "sessions"].iter().find_map(|field| item[*field].as_u64());
        let number = number.map_or_else(String::new, |number| format!(" {number}"));
        let name = if item["name"].is_null() { String::new() } else { " ".to_owned() };
        let line = text("event") + &name + &text("name") + &number;
        read.push(if item["away"] == json!(true) { line + " away" } else { line });
    }
    read
}

fn page(presence: &Presence, options: &PresencePageOptions) -> Value {
    serde_json::from_slice(&presence.page(options)).expect("JSON")
}

#[test]
fn a_watcher_is_told_who_is_here_and_then_what_changes() {
    let mut presence = presence(settings());
    let _ = presence.begin(SessionId(1), "bob", Some(&info(r#"{"a": 3}"#)), at(0));
    begin(&mut presence, 2, "ann", 1);
    let mut watcher = presence.watch(PresenceOptions::default());
    assert_eq!(read(&mut presence, &mut watcher), ["here ann 1", "here bob 1", "all 2"]);
    begin(&mut presence, 3, "cy", 2);
    presence.update(SessionId(3), Some(&info("7")), at(3));
    presence.update(SessionId(3), Some(&info("7")), at(3));
    end(&mut presence, 1, SessionEnd::Orderly, 4);
    assert_eq!(read(&mut presence, &mut watcher), ["join cy", "update cy", "leave bob"]);
    assert_eq!(read(&mut presence, &mut watcher), [""; 0]);
    presence.unwatch(watcher);
    let mut watcher = presence.watch(PresenceOptions::default());
    let items: Vec<_> = std::iter::from_fn(|| item(&mut presence, &mut watcher)).collect();
    let wanted = [
        json!({"event": "here", "name": "ann", "sessions": 1}),
        json!({"event": "here", "name": "cy", "sessions": 1, "info": 7}),
        json!({"event": "all", "total": 2}),
    ];
    assert_eq!(items, wanted);
}

/// Two devices: one leave, after the last.
#[test]
fn two_devices_are_one_member() {
    let mut presence = presence(settings());
    let mut watcher = presence.watch(PresenceOptions::default());
    let mut of_each = presence.watch(PresenceOptions { tells_each: true, tells_away: false });
    for watcher in [&mut watcher, &mut of_each] {
        assert_eq!(read(&mut presence, watcher), ["all 0"]);
    }
    begin(&mut presence, 1, "ann", 0);
    begin(&mut presence, 2, "ann", 1);
    end(&mut presence, 1, SessionEnd::Orderly, 2);
    assert_eq!(read(&mut presence, &mut watcher), ["join ann"]);
    end(&mut presence, 2, SessionEnd::Orderly, 3);
    assert_eq!(read(&mut presence, &mut watcher), ["leave ann"]);
    let each = ["join ann 1", "join ann 2", "leave ann 1", "leave ann 0"];
    assert_eq!(read(&mut presence, &mut of_each), each);
}

/// The info of the newest session that has some is shown, and the one before it when that is over.
#[test]
fn what_the_newest_device_says_is_shown() {
    let mut presence = presence(settings());
    let shown =
        |presence: &Presence| page(presence, &PresencePageOptions::default())["members"][0].clone();
    let _ = presence.begin(SessionId(1), "ann", Some(&info("1")), at(0));
    let _ = presence.begin(SessionId(2), "ann", Some(&info("2")), at(1));
    begin(&mut presence, 3, "ann", 2);
    assert_eq!(shown(&presence)["info"], 2);
    presence.update(SessionId(1), Some(&info("3")), at(3));
    assert_eq!(shown(&presence)["info"], 3);
    end(&mut presence, 1, SessionEnd::Orderly, 4);
    assert_eq!(shown(&presence)["info"], 2);
    end(&mut presence, 2, SessionEnd::Orderly, 5);
    assert_eq!(shown(&presence), json!({"name": "ann", "sessions": 1, "since": at(0).unix_ms}));
}

/// A reload is no flicker: who is back within the grace has not left.
#[test]
fn a_join_within_the_grace_is_silent() {
    let mut presence = presence(settings());
    begin(&mut presence, 1, "ann", 0);
    let mut watcher = presence.watch(PresenceOptions { tells_away: true, tells_each: true });
    read(&mut presence, &mut watcher);
    for (session, ms) in [(2, 1_000), (3, 7_000), (4, 13_000)] {
        end(&mut presence, session - 1, SessionEnd::Lost, ms);
        tick_until(&mut presence, ms + 4_999);
        begin(&mut presence, session, "ann", ms + 4_999);
    }
    tick_until(&mut presence, 60_000);
    assert_eq!(read(&mut presence, &mut watcher), [""; 0]);
    let members = &page(&presence, &PresencePageOptions::default())["members"];
    assert_eq!(*members, json!([{"name": "ann", "sessions": 1, "since": at(0).unix_ms}]));
}

/// The expiry of a member is told to watchers.
#[test]
fn a_lost_member_leaves_when_its_grace_is_over() {
    let mut presence = presence(settings());
    begin(&mut presence, 1, "ann", 0);
    let mut watcher = presence.watch(PresenceOptions::default());
    read(&mut presence, &mut watcher);
    end(&mut presence, 1, SessionEnd::Lost, 1_000);
    assert_eq!(presence.next_deadline(), Some(at(6_000).monotonic));
    tick_until(&mut presence, 5_999);
    assert_eq!(read(&mut presence, &mut watcher), [""; 0]);
    tick_until(&mut presence, 6_000);
    assert_eq!(read(&mut presence, &mut watcher), ["leave ann"]);
    assert_eq!(presence.next_deadline(), None);
}

#[test]
fn a_suspended_session_is_away_until_it_is_back_or_over() {
    let mut presence = presence(settings());
    begin(&mut presence, 1, "ann", 0);
    let mut watcher = presence.watch(PresenceOptions::default());
    let mut of_away = presence.watch(PresenceOptions { tells_away: true, tells_each: false });
    end(&mut presence, 1, SessionEnd::Suspended, 1);
    assert_eq!(page(&presence, &PresencePageOptions::default())["members"][0]["away"], true);
    assert_eq!(read(&mut presence, &mut watcher), ["here ann 1 away", "all 1"]);
    assert_eq!(read(&mut presence, &mut of_away), ["here ann 1 away", "all 1"]);
    presence.resume(SessionId(1), at(2));
    end(&mut presence, 1, SessionEnd::Suspended, 3);
    // With another device it is here.
    begin(&mut presence, 2, "ann", 4);
    end(&mut presence, 2, SessionEnd::Orderly, 5);
    assert_eq!(read(&mut presence, &mut of_away), ["back ann", "away ann", "back ann", "away ann"]);
    // It was waited for long enough.
    end(&mut presence, 1, SessionEnd::Lost, 60_000);
    assert_eq!(read(&mut presence, &mut of_away), ["leave ann"]);
    assert_eq!(read(&mut presence, &mut watcher), ["leave ann"]);
}

/// A member's leave while the snapshot is being read: those that were read leave, the others never were.
#[test]
fn a_leave_while_the_members_are_read_is_told_of_those_that_were_read() {
    let mut presence = presence(settings());
    for (session, name) in ["ann", "bob", "cy", "dan"].into_iter().enumerate() {
        begin(&mut presence, session as u64, name, 0);
    }
    let mut watcher = presence.watch(PresenceOptions::default());
    for name in ["ann", "bob"] {
        assert_eq!(item(&mut presence, &mut watcher).expect("an item")["name"], name);
    }
    end(&mut presence, 0, SessionEnd::Orderly, 1);
    end(&mut presence, 2, SessionEnd::Orderly, 1);
    begin(&mut presence, 5, "ada", 2);
    begin(&mut presence, 6, "eve", 2);
    let rest = ["leave ann", "join ada", "here dan 1", "here eve 1", "all 4"];
    assert_eq!(read(&mut presence, &mut watcher), rest);
}

#[test]
fn among_many_what_cancels_out_is_not_told() {
    let mut presence = presence(settings());
    for session in 0..101 {
        begin(&mut presence, session, &format!("m{session:03}"), 0);
    }
    let mut watcher = presence.watch(PresenceOptions::default());
    read(&mut presence, &mut watcher);
    end(&mut presence, 7, SessionEnd::Orderly, 1_000);
    begin(&mut presence, 200, "m007", 1_100);
    end(&mut presence, 8, SessionEnd::Orderly, 1_150);
    begin(&mut presence, 201, "new", 1_150);
    begin(&mut presence, 202, "short", 1_160);
    end(&mut presence, 202, SessionEnd::Orderly, 1_170);
    tick_until(&mut presence, 1_199);
    assert_eq!(read(&mut presence, &mut watcher), [""; 0]);
    assert_eq!(presence.next_deadline(), Some(at(1_200).monotonic));
    // A page is as it is now.
    let query = PresencePageOptions { is_count: true, ..PresencePageOptions::default() };
    let count = json!({"topic": "room.1", "sessions": 101, "total": 101});
    assert_eq!(page(&presence, &query), count);
    tick_until(&mut presence, 1_200);
    assert_eq!(read(&mut presence, &mut watcher), ["leave m008", "join new"]);
    assert_eq!(presence.next_deadline(), None);
}

#[test]
fn a_full_topic_shows_no_further_members() {
    let mut presence = presence(PresenceSettings { max_members: 2, max_sessions: 3, ..settings() });
    let mut watcher = presence.watch(PresenceOptions::default());
    for (session, name, wanted) in [
        (1, "ann", Begun::Shown),
        (2, "bob", Begun::Shown),
        (3, "cy", Begun::Full),
        (4, "ann", Begun::Shown),
        (5, "ann", Begun::Full),
    ] {
        assert_eq!(presence.begin(SessionId(session), name, None, at(0)), wanted, "{session}");
    }
    // They are not known, and have nothing to end.
    end(&mut presence, 3, SessionEnd::Orderly, 1);
    end(&mut presence, 5, SessionEnd::Orderly, 1);
    // Who was lost keeps the place, and finds it.
    end(&mut presence, 2, SessionEnd::Lost, 2);
    assert_eq!(presence.begin(SessionId(6), "cy", None, at(3)), Begun::Full);
    begin(&mut presence, 7, "bob", 4);
    assert_eq!(read(&mut presence, &mut watcher), ["here ann 2", "here bob 1", "all 2"]);
    let figures = PresenceFigures { members: 2, sessions: 3, watchers: 1, full: 3, overrun: 0 };
    assert_eq!(presence.figures(), figures);
    presence.unwatch(watcher);
}

#[test]
fn a_watcher_that_is_overrun_begins_anew_and_is_told() {
    let mut presence = presence(PresenceSettings { max_change_bytes: 4_096, ..settings() });
    begin(&mut presence, 0, "ann", 0);
    let mut slow = presence.watch(PresenceOptions::default());
    assert_eq!(read(&mut presence, &mut slow), ["here ann 1", "all 1"]);
    let mut idle = presence.watch(PresenceOptions::default());
    end(&mut presence, 0, SessionEnd::Orderly, 1);
    for session in 1..100 {
        begin(&mut presence, session, "bob", 2);
        end(&mut presence, session, SessionEnd::Orderly, 2);
        assert!(presence.bytes() < 6_000, "{}", presence.bytes());
    }
    begin(&mut presence, 100, "cy", 3);
    assert_eq!(read(&mut presence, &mut slow), ["reset", "here cy 1", "all 1"]);
    // One that had been told nothing has missed nothing.
    assert_eq!(read(&mut presence, &mut idle), ["here cy 1", "all 1"]);
    assert_eq!(presence.figures().overrun, 1);
    end(&mut presence, 100, SessionEnd::Orderly, 4);
    assert!(presence.give_way() > 0);
    assert_eq!(read(&mut presence, &mut slow), ["reset", "all 0"]);
}

#[test]
fn pages_follow_each_other_by_name() {
    let mut presence = presence(settings());
    for session in 0..25 {
        begin(&mut presence, session, &format!("m{session:02}"), 0);
    }
    let (mut after, mut names, mut pages) = (None::<Box<str>>, Vec::new(), 0);
    loop {
        let query = PresencePageOptions { after: after.take(), limit: 5, is_count: false };
        let page = page(&presence, &query);
        assert_eq!(page["total"], 25);
        let members = page["members"].as_array().expect("a list");
        names.extend(members.iter().map(|member| member["name"].clone()));
        pages += 1;
        match page["next"].as_str() {
            Some(next) => after = Some(next.into()),
            None => break,
        }
    }
    assert_eq!(pages, 5);
    assert!(names.is_sorted_by_key(|name| name.to_string()) && names.len() == 25);
    // A page of long members ends early.
    for session in 0..25 {
        let long = info(&format!("{:?}", "x".repeat(20_000)));
        presence.update(SessionId(session), Some(&long), at(1));
    }
    let long = page(&presence, &PresencePageOptions::default());
    let len = long["members"].as_array().expect("a list").len();
    assert!((10..20).contains(&len) && long["next"].is_string(), "{len}");
}

/// Deploy of all nodes leaves no ghosts: whatever way thousands go at once, all are gone in time, and it
/// takes no memory any more.
#[test]
fn a_deploy_leaves_no_ghosts() {
    for (how, gone) in
        [(SessionEnd::Orderly, 1_200), (SessionEnd::Lost, 6_200), (SessionEnd::Suspended, 61_200)]
    {
        let mut presence = presence(settings());
        for session in 0..5_000 {
            begin(&mut presence, session, &format!("m{session}"), 0);
        }
        let mut watcher = presence.watch(PresenceOptions::default());
        let mut present = read(&mut presence, &mut watcher).len() - 1;
        for session in 0..5_000 {
            end(&mut presence, session, how, 1_000);
        }
        for session in (0..5_000).filter(|_| how == SessionEnd::Suspended) {
            end(&mut presence, session, SessionEnd::Lost, 61_000);
        }
        tick_until(&mut presence, gone);
        present -= read(&mut presence, &mut watcher).len();
        assert_eq!((present, presence.figures().overrun), (0, 0));
        assert_eq!(presence.next_deadline(), None);
        presence.unwatch(watcher);
        assert_eq!(presence.bytes(), 0);
        assert!(presence.is_idle());
    }
}

/// Random enough, and the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// A session as the model has it.
struct Modelled {
    name: String,
    standing: Standing,
    info: Option<(u64, u64)>,
}

/// A member: sessions, away, info.
type Members = BTreeMap<String, (u64, bool, Option<u64>)>;

/// A watcher, and what it makes of what it was told.
struct Folded {
    watcher: Watcher,
    options: PresenceOptions,
    members: Members,
}

impl Folded {
    /// Takes an item; every event must fit what was told before it.
    fn take(&mut self, item: &Value) {
        let name = item["name"].as_str().unwrap_or_default().to_owned();
        let (sessions, info) = (item["sessions"].as_u64(), item["info"].as_u64());
        let known = self.members.get_mut(&name);
        match (item["event"].as_str().expect("an event"), known) {
            ("here", None) => {
                let sessions = sessions.expect("a number");
                let is_away = item["away"] == json!(true);
                self.members.insert(name, (sessions, is_away, info));
            }
            ("all", None) => assert_eq!(item["total"], self.members.len()),
            ("reset", None) => self.members.clear(),
            ("join", None) => {
                assert!(sessions == Some(1) || !self.options.tells_each);
                self.members.insert(name, (1, false, info));
            }
            ("join", Some(member)) if self.options.tells_each => {
                member.0 += 1;
                assert_eq!(sessions, Some(member.0));
            }
            ("leave", Some(member)) => {
                member.0 -= if self.options.tells_each { 1 } else { member.0 };
                assert!(sessions == Some(member.0) || !self.options.tells_each);
                if member.0 == 0 {
                    self.members.remove(&name);
                }
            }
            ("update", Some(member)) => {
                assert_ne!(member.2, info);
                member.2 = info;
            }
            ("away", Some(member)) => assert!(!std::mem::replace(&mut member.1, true)),
            ("back", Some(member)) => assert!(std::mem::replace(&mut member.1, false)),
            other => panic!("{other:?} of {name}"),
        }
    }

    /// Whether it was told all of this that it asked to be told.
    fn check(&self, members: &Members) {
        let known = |(name, (sessions, is_away, info)): (&String, &(u64, bool, Option<u64>))| {
            let sessions = if self.options.tells_each { *sessions } else { 1 };
            (name.clone(), (sessions, *is_away && self.options.tells_away, *info))
        };
        let told: Members = self.members.iter().map(known).collect();
        assert_eq!(told, members.iter().map(known).collect(), "{:?}", self.options);
    }
}

struct World {
    random: Random,
    ms: u64,
    presence: Presence,
    sessions: BTreeMap<u64, Modelled>,
    begun: u64,
    watchers: Vec<Folded>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let settings = PresenceSettings {
            gather_above: random.below(8) as usize,
            max_members: 6,
            max_sessions: 12,
            max_change_bytes: 1 << (9 + random.below(6)),
            ..settings()
        };
        let presence = presence(settings);
        let (sessions, watchers) = (BTreeMap::new(), Vec::new());
        Self { random, ms: 0, presence, sessions, begun: 0, watchers }
    }

    fn any_session(&mut self) -> u64 {
        let of = self.random.below(self.sessions.len().max(1) as u64) as usize;
        self.sessions.keys().nth(of).copied().unwrap_or_default()
    }

    fn info(&mut self) -> (Option<u64>, Option<Box<RawValue>>) {
        let number = self.random.below(4);
        let number = (number > 0).then_some(number);
        (number, number.map(|number| info(&number.to_string())))
    }

    fn begin(&mut self) {
        let name = format!("m{}", self.random.below(8));
        let (number, text) = self.info();
        self.begun += 1;
        let id = self.begun;
        let begun = self.presence.begin(SessionId(id), &name, text.as_deref(), at(self.ms));
        let in_grace = |of: &(&u64, &Modelled)| match of.1.standing {
            Standing::InGrace(until) if of.1.name == name => Some((until, *of.0)),
            _ => None,
        };
        let replaced = self.sessions.iter().filter_map(|of| in_grace(&of)).min();
        let members = self.members();
        let is_full = self.sessions.len() >= 12 || members.len() >= 6;
        let is_full = is_full && (self.sessions.len() >= 12 || !members.contains_key(&name));
        match replaced {
            Some((_, replaced)) => drop(self.sessions.remove(&replaced)),
            None if is_full => return assert_eq!(begun, Begun::Full),
            None => {}
        }
        assert_eq!(begun, Begun::Shown);
        let info = number.map(|number| (id << 32, number));
        self.sessions.insert(id, Modelled { name, standing: Standing::Here, info });
    }

    fn end(&mut self) {
        let id = self.any_session();
        let how = [SessionEnd::Orderly, SessionEnd::Lost, SessionEnd::Suspended];
        let how = how[self.random.below(3) as usize];
        self.presence.end(SessionId(id), how, at(self.ms));
        let Some(session) = self.sessions.get_mut(&id) else { return };
        match (how, session.standing) {
            (SessionEnd::Suspended, Standing::Here) => session.standing = Standing::Suspended,
            (SessionEnd::Lost, Standing::Here) => {
                session.standing = Standing::InGrace(at(self.ms + 5_000).monotonic);
            }
            (SessionEnd::Orderly, _) | (SessionEnd::Lost, Standing::Suspended) => {
                self.sessions.remove(&id);
            }
            _ => {}
        }
    }

    fn update(&mut self, step: u64) {
        let id = self.any_session();
        let (number, text) = self.info();
        self.presence.update(SessionId(id), text.as_deref(), at(self.ms));
        if let Some(session) = self.sessions.get_mut(&id) {
            session.info = number.map(|number| ((self.begun << 32) + step, number));
        }
    }

    fn resume(&mut self) {
        let id = self.any_session();
        self.presence.resume(SessionId(id), at(self.ms));
        if let Some(session) = self.sessions.get_mut(&id)
            && session.standing == Standing::Suspended
        {
            session.standing = Standing::Here;
        }
    }

    fn pass(&mut self, ms: u64) {
        self.ms += ms;
        tick_until(&mut self.presence, self.ms);
        let now = at(self.ms).monotonic;
        let is_over = |session: &Modelled| matches!(session.standing, Standing::InGrace(until) if until <= now);
        self.sessions.retain(|_, session| !is_over(session));
    }

    fn members(&self) -> Members {
        let mut members = Members::new();
        for session in self.sessions.values() {
            let is_away = session.standing == Standing::Suspended;
            let member = members.entry(session.name.clone()).or_insert((0, true, None));
            (member.0, member.1) = (member.0 + 1, member.1 && is_away);
        }
        for (name, member) in &mut members {
            let said = self.sessions.values().filter(|session| session.name == *name);
            member.2 = said.filter_map(|session| session.info).max().map(|(_, info)| info);
        }
        members
    }

    /// Some watcher reads a few items; whether it has read all.
    fn read(&mut self, watcher: usize, credit: u64) {
        let of = &mut self.watchers[watcher];
        for item in items(&mut self.presence, &mut of.watcher, credit) {
            of.take(&item);
        }
    }

    fn step(&mut self, step: u64) {
        match self.random.below(16) {
            0..4 => self.begin(),
            4..7 => self.end(),
            7 => self.update(step),
            8 => self.resume(),
            9 if self.watchers.len() < 4 => {
                let [tells_away, tells_each] =
                    [self.random.below(2) == 0, self.random.below(2) == 0];
                let options = PresenceOptions { tells_away, tells_each };
                let watcher = self.presence.watch(options);
                self.watchers.push(Folded { watcher, options, members: Members::new() });
            }
            10 if self.random.below(4) == 0 => {
                if let Some(of) = self.watchers.pop() {
                    self.presence.unwatch(of.watcher);
                }
            }
            11 => {
                let ms = 1 << self.random.below(14);
                self.pass(ms);
            }
            _ if !self.watchers.is_empty() => {
                let watcher = self.random.below(self.watchers.len() as u64) as usize;
                let credit = 1 << self.random.below(6);
                self.read(watcher, credit);
            }
            _ => {}
        }
        self.check();
    }

    fn check(&self) {
        let presence = &self.presence;
        let listed = page(
            presence,
            &PresencePageOptions { limit: usize::MAX, ..PresencePageOptions::default() },
        );
        let listed = listed["members"].as_array().expect("a list").iter().map(|member| {
            let name = member["name"].as_str().expect("a name").to_owned();
            let sessions = member["sessions"].as_u64().expect("a number");
            (name, (sessions, member["away"] == json!(true), member["info"].as_u64()))
        });
        assert_eq!(listed.collect::<Members>(), self.members());
        let bytes = |(name, member): (&Arc<str>, &Member)| {
            member::EMPTY_BYTES + name.len() + member.bytes()
        };
        assert_eq!(presence.members.iter().map(bytes).sum::<usize>(), presence.bytes);
        let shown = presence.members.values().filter(|member| member.shown().is_some());
        assert_eq!(shown.count(), presence.shown);
        assert!(presence.changes.bytes() <= presence.settings.max_change_bytes);
    }

    /// Nothing happens any more: all watchers come to know what there is.
    fn settle(&mut self) {
        self.pass(10_000);
        assert_eq!(self.presence.next_deadline(), None);
        let members = self.members();
        for watcher in 0..self.watchers.len() {
            self.read(watcher, u64::MAX);
            self.watchers[watcher].check(&members);
        }
    }
}

/// P1: what watchers make of what they were told is what there is, whatever their pace.
#[test]
fn what_watchers_were_told_is_what_there_is() {
    let mut overrun = 0;
    for seed in 0..100 {
        let mut world = World::new(seed);
        for step in 0..400 {
            world.step(step);
            if step % 100 == 99 {
                world.settle();
            }
        }
        overrun += world.presence.figures().overrun;
        for id in world.sessions.keys() {
            world.presence.end(SessionId(*id), SessionEnd::Orderly, at(world.ms));
        }
        for of in world.watchers {
            world.presence.unwatch(of.watcher);
        }
        tick_until(&mut world.presence, world.ms + 200);
        assert!(world.presence.is_idle() && world.presence.bytes() == 0, "{seed}");
    }
    assert!(overrun > 100, "{overrun}");
}
