//! A room: the presence of one topic, those who come and go there, and a map of who is there.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    broken::hold,
    topics::{
        Begun, Instant, Now, Presence, PresencePageOptions, PresenceSettings, SessionEnd, SessionId,
    },
    watch::Watch,
    world::World,
};

/// Names of those who come, more than some rooms have room for.
const NAMES: [&str; 12] =
    ["ann", "bob", "cy", "dan", "eve", "fay", "gus", "hal", "ida", "jo", "kit", "\"q\""];

/// The standing of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Here,
    Suspended,
    InGrace(Instant),
}

#[derive(Debug)]
struct Session {
    name: &'static str,
    standing: Standing,
    /// Its words about its member, and when it said them.
    info: Option<(u64, String)>,
}

/// A member as others see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) sessions: u64,
    pub(crate) is_away: bool,
    pub(crate) info: Option<String>,
}

/// A room.
pub(crate) struct Room {
    pub(crate) presence: RefCell<Presence>,
    settings: PresenceSettings,
    model: RefCell<Model>,
    watches: RefCell<Vec<Watch>>,
}

/// All there is to know of a room: who is there, and what of that has been shown.
#[derive(Debug, Default)]
struct Model {
    sessions: BTreeMap<u64, Session>,
    since: BTreeMap<&'static str, u64>,
    shown: BTreeMap<&'static str, Look>,
    /// Names that may have changed since they were shown, and the end of the wait.
    gathered: BTreeSet<&'static str>,
    until: Option<Instant>,
    full: u64,
}

impl Model {
    fn look(&self, name: &str) -> Option<Look> {
        let of = || self.sessions.values().filter(|session| session.name == name);
        let sessions = of().count() as u64;
        let is_away = of().all(|session| session.standing == Standing::Suspended);
        let newest = of().filter_map(|session| session.info.as_ref()).max();
        let info = newest.map(|(_, info)| info.clone());
        (sessions > 0).then_some(Look { sessions, is_away, info })
    }

    fn present(&self) -> BTreeMap<&'static str, Look> {
        let names: BTreeSet<_> = self.sessions.values().map(|session| session.name).collect();
        names.into_iter().filter_map(|name| Some((name, self.look(name)?))).collect()
    }

    /// The sessions of a name whose connection was lost, by when their grace ends.
    fn in_grace(&self, name: Option<&str>) -> BTreeSet<(Instant, u64)> {
        let of =
            self.sessions.iter().filter(|(_, session)| name.is_none_or(|of| of == session.name));
        of.filter_map(|(number, session)| match session.standing {
            Standing::InGrace(until) => Some((until, *number)),
            _ => None,
        })
        .collect()
    }

    fn show(&mut self, name: &'static str) {
        match self.look(name) {
            Some(look) => drop(self.shown.insert(name, look)),
            None => drop(self.shown.remove(name)),
        }
    }

    /// A member has changed: that is shown at once among few, and later among many.
    fn changed(
        &mut self,
        name: &'static str,
        settings: &PresenceSettings,
        is_watched: bool,
        now: Now,
    ) {
        let members = self.present().len().max(self.shown.len());
        let are_many = members > settings.gather_above && is_watched;
        if are_many || !self.gathered.is_empty() {
            self.gathered.insert(name);
            self.until.get_or_insert(now.monotonic + settings.gather_for);
        } else {
            self.show(name);
        }
    }

    fn tick(&mut self, settings: &PresenceSettings, is_watched: bool, now: Now) {
        for (until, number) in self.in_grace(None) {
            if until <= now.monotonic
                && let Some(session) = self.sessions.remove(&number)
            {
                self.changed(session.name, settings, is_watched, now);
            }
        }
        if self.until.is_some_and(|until| until <= now.monotonic) {
            self.until = None;
            for name in std::mem::take(&mut self.gathered) {
                self.show(name);
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let grace = self.in_grace(None).first().map(|(until, _)| *until);
        [grace, self.until].into_iter().flatten().min()
    }
}

impl Room {
    pub(crate) fn new(name: crate::topics::TopicName, settings: PresenceSettings) -> Self {
        Self {
            presence: RefCell::new(Presence::new(name, settings)),
            settings,
            model: RefCell::default(),
            watches: RefCell::default(),
        }
    }

    fn is_watched(&self) -> bool {
        !self.watches.borrow().is_empty()
    }

    /// Looks at what is known of the room as a whole.
    fn look(&self) {
        let (presence, model) = (self.presence.borrow(), self.model.borrow());
        let figures = presence.figures();
        let (members, sessions) = (model.present().len(), model.sessions.len());
        hold!(figures.members == members, Presence, "{} of {members} are there", figures.members);
        hold!(
            figures.sessions == sessions,
            Presence,
            "{} of {sessions} sessions",
            figures.sessions
        );
        hold!(figures.full == model.full, Presence, "{} of {} unseen", figures.full, model.full);
        hold!(members <= self.settings.max_members, Presence, "{members} members");
        hold!(sessions <= self.settings.max_sessions, Presence, "{sessions} sessions");
        let (deadline, wanted) = (presence.next_deadline(), model.next_deadline());
        hold!(deadline == wanted, Presence, "to be called at {deadline:?}, not {wanted:?}");
        // What each of them takes, with its words, and twice where that has been read.
        let most = self.settings.max_change_bytes + 2_000 * (1 + sessions + model.shown.len());
        let bytes = presence.bytes();
        hold!(bytes <= most, Memory, "{bytes} bytes for {sessions} sessions");
        // Somebody of whom there was something to show is remembered until it has been.
        let is_empty = sessions == 0 && model.shown.is_empty() && model.gathered.is_empty();
        let is_idle = is_empty && !self.is_watched();
        hold!(presence.is_idle() == is_idle, Presence, "idle, or not: {is_idle}");
        hold!(!is_idle || bytes == 0, Memory, "{bytes} bytes of an empty room");
    }

    /// Looks at a page of its members.
    fn page(&self, options: &PresencePageOptions) {
        let model = self.model.borrow();
        let page = self.presence.borrow().page(options);
        let page: serde_json::Value = serde_json::from_slice(&page).unwrap_or_default();
        let present = model.present();
        hold!(page["total"] == present.len(), Presence, "{page} of {present:?}");
        let after = options.after.as_deref().unwrap_or_default();
        let mut behind: Vec<_> = present.iter().filter(|(name, _)| **name > after).collect();
        let is_whole = behind.len() <= options.limit;
        behind.truncate(options.limit);
        let next = behind.last().filter(|_| !is_whole).map(|(name, _)| **name);
        hold!(page["next"].as_str() == next, Presence, "{page} goes on at {next:?}");
        let listed = page["members"].as_array().cloned().unwrap_or_default();
        hold!(listed.len() == behind.len(), Presence, "{page} instead of {behind:?}");
        for (listed, (name, look)) in listed.iter().zip(behind) {
            let is_same = listed["name"] == **name
                && listed["sessions"] == look.sessions
                && listed["since"] == model.since[*name]
                && Look::info_of(listed) == look.info
                && listed["away"].as_bool().unwrap_or(false) == look.is_away;
            hold!(is_same, Presence, "{listed} instead of {name} {look:?}");
        }
    }
}

impl Look {
    pub(crate) fn info_of(item: &serde_json::Value) -> Option<String> {
        Some(&item["info"]).filter(|info| !info.is_null()).map(ToString::to_string)
    }
}

impl World {
    /// Somebody comes to the room, goes, watches, or looks.
    pub(crate) fn act_in_room(&self) {
        let Some(room) = &self.room else { return };
        match self.below(100) {
            0..26 => self.appear(room),
            26..44 => self.disappear(room),
            44..52 => self.come_back(room),
            52..60 => self.say_of_itself(room),
            60..66 => self.watch(room),
            66..84 => self.read_some(room),
            84..86 => self.unwatch(room),
            86 => self.give_way(room),
            87..89 => room.page(&PresencePageOptions {
                limit: 1 + self.below(6) as usize,
                after: self.one_in(2).then(|| self.pick(&NAMES).into()),
                is_count: false,
            }),
            89..95 => self.wait_a_little(room),
            _ => self.tick_room(room),
        }
        room.look();
    }

    fn draw_info(&self) -> Option<String> {
        let number = self.number();
        self.pick(&[None, Some(number), Some(7)]).map(|number| number.to_string())
    }

    fn appear(&self, room: &Room) {
        let (name, info, now) = (self.pick(&NAMES), self.draw_info(), self.now.get());
        let number = self.number();
        let raw = info.clone().and_then(|info| serde_json::value::RawValue::from_string(info).ok());
        let begun = room.presence.borrow_mut().begin(SessionId(number), name, raw.as_deref(), now);
        self.say(|| format!("{name} comes as {number}, says {info:?}: {begun:?}"));
        let is_watched = room.is_watched();
        let mut model = room.model.borrow_mut();
        let replaced = model.in_grace(Some(name)).first().map(|(_, number)| *number);
        let is_new = model.look(name).is_none();
        let has_room = model.sessions.len() < room.settings.max_sessions
            && (!is_new || model.present().len() < room.settings.max_members);
        let wanted = if replaced.is_some() || has_room { Begun::Shown } else { Begun::Full };
        hold!(begun == wanted, Presence, "{begun:?} instead of {wanted:?}");
        if wanted == Begun::Full {
            model.full += 1;
            return;
        }
        if is_new {
            model.since.insert(name, now.unix_ms);
        }
        replaced.map(|replaced| model.sessions.remove(&replaced));
        let info = info.map(|info| (self.number(), info));
        model.sessions.insert(number, Session { name, standing: Standing::Here, info });
        model.changed(name, &room.settings, is_watched, now);
        self.count(|totals| totals.sessions += 1);
    }

    fn some_session(&self, room: &Room) -> Option<u64> {
        let model = room.model.borrow();
        let at = self.below(model.sessions.len() as u32) as usize;
        model.sessions.keys().nth(at).copied()
    }

    fn disappear(&self, room: &Room) {
        let Some(number) = self.some_session(room) else { return };
        let now = self.now.get();
        let how = self.pick(&[
            SessionEnd::Orderly,
            SessionEnd::Lost,
            SessionEnd::Lost,
            SessionEnd::Suspended,
        ]);
        room.presence.borrow_mut().end(SessionId(number), how, now);
        self.say(|| format!("{number} goes: {how:?}"));
        let is_watched = room.is_watched();
        let mut model = room.model.borrow_mut();
        let Some(session) = model.sessions.get_mut(&number) else { return };
        let name = session.name;
        session.standing = match (how, session.standing) {
            (SessionEnd::Orderly, _) | (SessionEnd::Lost, Standing::Suspended) => {
                model.sessions.remove(&number);
                return model.changed(name, &room.settings, is_watched, now);
            }
            // It is over when its grace is.
            (_, Standing::InGrace(_)) => return,
            (SessionEnd::Lost, Standing::Here) => {
                Standing::InGrace(now.monotonic + room.settings.grace)
            }
            (SessionEnd::Suspended, _) => Standing::Suspended,
        };
        model.changed(name, &room.settings, is_watched, now);
    }

    fn come_back(&self, room: &Room) {
        let Some(number) = self.some_session(room) else { return };
        let now = self.now.get();
        room.presence.borrow_mut().resume(SessionId(number), now);
        self.say(|| format!("{number} is back"));
        let is_watched = room.is_watched();
        let mut model = room.model.borrow_mut();
        if let Some(session) = model.sessions.get_mut(&number)
            && session.standing == Standing::Suspended
        {
            session.standing = Standing::Here;
            let name = session.name;
            model.changed(name, &room.settings, is_watched, now);
        }
    }

    fn say_of_itself(&self, room: &Room) {
        let Some(number) = self.some_session(room) else { return };
        let (info, now) = (self.draw_info(), self.now.get());
        let raw = info.clone().and_then(|info| serde_json::value::RawValue::from_string(info).ok());
        room.presence.borrow_mut().update(SessionId(number), raw.as_deref(), now);
        self.say(|| format!("{number} says {info:?}"));
        let is_watched = room.is_watched();
        let info = info.map(|info| (self.number(), info));
        let mut model = room.model.borrow_mut();
        if let Some(session) = model.sessions.get_mut(&number) {
            session.info = info;
            let name = session.name;
            model.changed(name, &room.settings, is_watched, now);
        }
    }

    fn watch(&self, room: &Room) {
        if room.watches.borrow().len() < 5 {
            let watch = Watch::new(&mut room.presence.borrow_mut(), self.one_in(2), self.one_in(2));
            room.watches.borrow_mut().push(watch);
            self.count(|totals| totals.watches += 1);
        }
    }

    fn unwatch(&self, room: &Room) {
        let mut watches = room.watches.borrow_mut();
        if !watches.is_empty() {
            let at = self.below(watches.len() as u32) as usize;
            watches.remove(at).end(&mut room.presence.borrow_mut());
        }
    }

    fn read_some(&self, room: &Room) {
        let mut watches = room.watches.borrow_mut();
        let at = self.below(watches.len() as u32) as usize;
        if let Some(watch) = watches.get_mut(at) {
            let credit = self.pick(&[1, 1, 2, 5, 1_000]);
            let items =
                watch.read(&mut room.presence.borrow_mut(), &room.model.borrow().shown, credit);
            self.say(|| format!("watcher {at} is told {items:?}"));
            self.count(|totals| totals.told += items.len() as u64);
            items.iter().for_each(|item| self.digest(item.as_bytes()));
        }
    }

    /// Others need its memory.
    fn give_way(&self, room: &Room) {
        self.say(|| "changes are given up".to_owned());
        room.presence.borrow_mut().give_way();
        room.watches.borrow_mut().iter_mut().for_each(Watch::may_be_overrun);
    }

    fn wait_a_little(&self, room: &Room) {
        let grace = room.settings.grace;
        let micro = Duration::from_micros(1);
        let waits =
            [micro, Duration::from_millis(199), Duration::from_millis(200), grace, grace / 2];
        self.now.set(self.now.get().after(self.pick(&waits)));
        self.end_pauses();
    }

    fn tick_room(&self, room: &Room) {
        let now = self.now.get();
        self.say(|| format!("the room's timer, at {now:?}"));
        room.presence.borrow_mut().tick(now);
        room.model.borrow_mut().tick(&room.settings, room.is_watched(), now);
    }

    /// Has time pass until nothing is due there any more.
    fn await_room(&self, room: &Room) {
        loop {
            let Some(deadline) = room.model.borrow().next_deadline() else { break };
            let wait = deadline.since(self.now.get().monotonic);
            self.now.set(self.now.get().after(wait));
            self.tick_room(room);
        }
    }

    /// All are told all, and then leave.
    pub(crate) fn settle_room(&self) {
        let Some(room) = &self.room else { return };
        self.await_room(room);
        room.look();
        let numbers: Vec<_> = room.model.borrow().sessions.keys().copied().collect();
        for is_last in [false, true] {
            let model = room.model.borrow();
            hold!(!is_last || model.present() == model.shown, Presence, "not shown: {model:?}");
            for watch in room.watches.borrow_mut().iter_mut() {
                watch.read(&mut room.presence.borrow_mut(), &model.shown, usize::MAX);
            }
            drop(model);
            self.await_room(room);
        }
        for watch in room.watches.take() {
            watch.end(&mut room.presence.borrow_mut());
        }
        let now = self.now.get();
        for number in numbers {
            room.presence.borrow_mut().end(SessionId(number), SessionEnd::Orderly, now);
            let session = room.model.borrow_mut().sessions.remove(&number);
            if let Some(session) = session {
                room.model.borrow_mut().changed(session.name, &room.settings, false, now);
            }
        }
        room.look();
        let bytes = room.presence.borrow().bytes();
        hold!(bytes == 0, Memory, "{bytes} bytes of an empty room");
    }
}
