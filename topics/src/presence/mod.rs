//! Presence: the members of one topic, as long as they have a session there.
//!
//! A *member* is a name, a *session* one join of it. What watchers are told is the difference between what
//! was last shown of a member and what it is now: shown at once among few members, and after a while among
//! many, so that what cancels out is never told.

mod changes;
mod member;
mod page;
#[cfg(test)]
mod tests;
mod watcher;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::value::RawValue;

pub use self::watcher::Watcher;
use self::{
    changes::Changes,
    member::{Member, Session, Standing},
};
use crate::{
    name::TopicName,
    settings::TopicSettings,
    time::{Instant, Now},
};

/// Names that are shown, and sessions whose grace ends, in one call. The rest is due at once.
const PORTION: usize = 1_024;

/// The settings of a topic's presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresenceSettings {
    /// The time for which a member stays whose connection was lost: a reload is no flicker.
    pub grace: Duration,
    /// The number of members above which changes are gathered.
    pub gather_above: usize,
    /// The time for which they are.
    pub gather_for: Duration,
    /// Members at most; further ones take part unseen.
    pub max_members: usize,
    /// Sessions of all members at most; further ones take part unseen.
    pub max_sessions: usize,
    /// Bytes of changes that are kept for watchers who have not read them.
    pub max_change_bytes: usize,
}

impl PresenceSettings {
    /// Those of a topic.
    pub fn of(topic: &TopicSettings) -> Self {
        Self {
            grace: topic.presence_grace,
            gather_above: 100,
            gather_for: Duration::from_millis(200),
            max_members: topic.max_members,
            // Two devices each.
            max_sessions: 2 * topic.max_members,
            max_change_bytes: 8 << 20,
        }
    }
}

/// The number of a session, by which its owner names it. No two that are open have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// The outcome of a session's begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Begun {
    /// Its member is present.
    Shown,
    /// There are as many members as there may be: it appears nowhere.
    Full,
}

/// The way in which a session's connection went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// In order: the join was completed or cancelled, or the connection closed. It leaves at once.
    Orderly,
    /// Without a word. It leaves when its grace is over, unless it was away: then it has been waited for.
    Lost,
    /// Without a word, but it may be resumed: it is away until then.
    Suspended,
}

/// The figures of a topic's presence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PresenceFigures {
    /// Names that are present.
    pub members: usize,
    /// Their sessions, those in grace among them.
    pub sessions: usize,
    /// Watchers.
    pub watchers: usize,
    /// Sessions that found no room.
    pub full: u64,
    /// Watchers that had to begin anew because changes went that they had not read.
    pub overrun: u64,
}

/// The members of a topic, and the changes that its watchers have not read.
#[derive(Debug)]
pub struct Presence {
    topic: TopicName,
    settings: PresenceSettings,
    /// Members that are present, and those that are still shown.
    members: BTreeMap<Arc<str>, Member>,
    sessions: BTreeMap<SessionId, Session>,
    /// The sessions in grace, by when it ends.
    in_grace: BTreeSet<(Instant, SessionId)>,
    /// Members that have a session.
    present: usize,
    /// Members as watchers have been told.
    shown: usize,
    /// Names of which something may have to be shown, and when.
    gathered: BTreeSet<Arc<str>>,
    gathered_until: Option<Instant>,
    changes: Changes,
    /// Bytes of members.
    bytes: usize,
    /// The number of the newest info: a member's is that which was set last.
    newest_info: u64,
    full: u64,
    overrun: u64,
}

impl Presence {
    /// A topic without members.
    pub fn new(topic: TopicName, settings: PresenceSettings) -> Self {
        Self {
            topic,
            settings,
            members: BTreeMap::new(),
            sessions: BTreeMap::new(),
            in_grace: BTreeSet::new(),
            present: 0,
            shown: 0,
            gathered: BTreeSet::new(),
            gathered_until: None,
            changes: Changes::new(settings.max_change_bytes),
            bytes: 0,
            newest_info: 0,
            full: 0,
            overrun: 0,
        }
    }

    /// Begins a session of this name. If one of the same name is in its grace, this one takes its place.
    pub fn begin(
        &mut self,
        session: SessionId,
        name: &str,
        info: Option<&RawValue>,
        now: Now,
    ) -> Begun {
        self.end(session, SessionEnd::Orderly, now);
        let known = self.members.get_key_value(name);
        let replaced = known.and_then(|(_, member)| member.oldest_in_grace());
        let is_new = known.is_none_or(|(_, member)| member.sessions() == 0);
        let has_room = self.sessions.len() < self.settings.max_sessions
            && (!is_new || self.present < self.settings.max_members);
        if replaced.is_none() && !has_room {
            self.full += 1;
            return Begun::Full;
        }
        let name = known.map_or_else(|| Arc::from(name), |(name, _)| Arc::clone(name));
        if is_new {
            self.present += 1;
            self.bytes += known.map_or_else(|| member::EMPTY_BYTES + name.len(), |_| 0);
            self.members.entry(Arc::clone(&name)).or_default().since = now.unix_ms;
        }
        let of = Session { name: Arc::clone(&name), standing: Standing::Here, info: None };
        self.sessions.insert(session, of);
        self.alter(&name, |member| member.enter(session, Standing::Here));
        self.set_info(session, info);
        if let Some(replaced) = replaced {
            self.stand(replaced, None);
        }
        self.changed(&name, now);
        Begun::Shown
    }

    /// Sets what a session's member says of itself: that of its newest session that says something is shown.
    pub fn update(&mut self, session: SessionId, info: Option<&RawValue>, now: Now) {
        if let Some(name) = self.set_info(session, info) {
            self.changed(&name, now);
        }
    }

    /// Ends a session, or its connection. One that is not known, or is over, has nothing to end.
    pub fn end(&mut self, session: SessionId, how: SessionEnd, now: Now) {
        let Some(Session { standing, .. }) = self.sessions.get(&session) else { return };
        let standing = match (how, standing) {
            (SessionEnd::Lost | SessionEnd::Suspended, Standing::InGrace(_)) => return,
            (SessionEnd::Suspended, _) => Some(Standing::Suspended),
            (SessionEnd::Lost, Standing::Here) => {
                Some(Standing::InGrace(now.monotonic + self.settings.grace))
            }
            (SessionEnd::Lost, Standing::Suspended) | (SessionEnd::Orderly, _) => None,
        };
        if let Some(name) = self.stand(session, standing) {
            self.changed(&name, now);
        }
    }

    /// Takes up a session whose connection was suspended. One that is over meanwhile stays so.
    pub fn resume(&mut self, session: SessionId, now: Now) {
        let of = self.sessions.get(&session);
        if of.is_some_and(|of| of.standing == Standing::Suspended)
            && let Some(name) = self.stand(session, Some(Standing::Here))
        {
            self.changed(&name, now);
        }
    }

    /// The moment at which it is to be called: a grace ends, or changes have been gathered.
    pub fn next_deadline(&self) -> Option<Instant> {
        let grace = self.in_grace.first().map(|(until, _)| *until);
        [grace, self.gathered_until].into_iter().flatten().min()
    }

    /// Does what is due by now, a portion of it at most: as long as the next deadline is not later than
    /// `now`, there is more.
    pub fn tick(&mut self, now: Now) {
        for _ in 0..PORTION {
            let due = self.in_grace.first().filter(|(until, _)| *until <= now.monotonic);
            let Some(&(_, session)) = due else { break };
            self.end(session, SessionEnd::Orderly, now);
        }
        if self.gathered_until.is_some_and(|until| until <= now.monotonic) {
            for _ in 0..PORTION {
                let Some(name) = self.gathered.pop_first() else { break };
                self.show(&name);
            }
            if self.gathered.is_empty() {
                self.gathered_until = None;
            }
        }
    }

    /// The number of the next change: watchers that wait are to be woken when it has grown.
    pub fn version(&self) -> u64 {
        self.changes.next()
    }

    /// Its figures.
    pub fn figures(&self) -> PresenceFigures {
        PresenceFigures {
            members: self.present,
            sessions: self.sessions.len(),
            watchers: self.changes.watchers(),
            full: self.full,
            overrun: self.overrun,
        }
    }

    /// Whether it has neither members nor watchers, and can be forgotten.
    pub fn is_idle(&self) -> bool {
        self.members.is_empty() && self.changes.watchers() == 0
    }

    /// The memory it takes.
    pub fn bytes(&self) -> usize {
        let sessions = self.sessions.len() + self.in_grace.len();
        let gathered = self.gathered.len() * member::NAMED_BYTES;
        self.bytes + sessions * member::SESSION_BYTES + gathered + self.changes.bytes()
    }

    /// Gives up the changes that are kept, for others' memory: watchers that have not read them begin anew.
    pub fn give_way(&mut self) -> usize {
        self.changes.clear()
    }

    /// Changes a member, and counts what it takes.
    fn alter<T>(&mut self, name: &str, alter: impl FnOnce(&mut Member) -> T) -> Option<T> {
        let member = self.members.get_mut(name)?;
        let before = member.bytes();
        let result = alter(member);
        self.bytes = self.bytes - before + member.bytes();
        Some(result)
    }

    /// Sets the info of a session; returns its name.
    fn set_info(&mut self, session: SessionId, info: Option<&RawValue>) -> Option<Arc<str>> {
        let of = self.sessions.get_mut(&session)?;
        let name = Arc::clone(&of.name);
        self.newest_info += 1;
        let (before, number) = (of.info.take(), self.newest_info);
        of.info = info.map(|_| number);
        self.alter(&name, |member| {
            member.forget_info(before);
            if let Some(info) = info {
                member.add_info(number, info);
            }
        });
        Some(name)
    }

    /// Changes how a session stands: `None` ends it. Returns its name.
    fn stand(&mut self, session: SessionId, standing: Option<Standing>) -> Option<Arc<str>> {
        let of = self.sessions.get_mut(&session)?;
        let (name, info, before) = (Arc::clone(&of.name), of.info, of.standing);
        match standing {
            Some(standing) => of.standing = standing,
            None => drop(self.sessions.remove(&session)),
        }
        if let Standing::InGrace(until) = before {
            self.in_grace.remove(&(until, session));
        }
        if let Some(Standing::InGrace(until)) = standing {
            self.in_grace.insert((until, session));
        }
        let left = self.alter(&name, |member| {
            member.exit(session, before);
            match standing {
                Some(standing) => member.enter(session, standing),
                None => member.forget_info(info),
            }
            member.sessions()
        });
        if left == Some(0) {
            self.present -= 1;
        }
        Some(name)
    }

    /// Shows a member's change, or has it wait for those that follow.
    fn changed(&mut self, name: &Arc<str>, now: Now) {
        let are_many = self.present.max(self.shown) > self.settings.gather_above;
        // What waits goes first.
        if are_many && self.changes.watchers() > 0 || !self.gathered.is_empty() {
            self.gathered.insert(Arc::clone(name));
            let until = now.monotonic + self.settings.gather_for;
            self.gathered_until.get_or_insert(until);
        } else {
            self.show(name);
        }
    }

    /// Tells watchers how a member differs from what they were told.
    fn show(&mut self, name: &Arc<str>) {
        let Some((before, after)) = self.alter(name, Member::show) else { return };
        self.shown = self.shown + usize::from(after.is_some()) - usize::from(before.is_some());
        self.changes.tell(name, before.as_ref(), after.as_ref());
        if after.is_none() {
            self.members.remove(name);
            self.bytes -= member::EMPTY_BYTES + name.len();
        }
    }
}
