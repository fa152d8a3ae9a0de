//! The changes that watchers are told of, in order. Nothing is kept for each watcher: one that is slower
//! than all of it lasts begins anew.

use std::{collections::VecDeque, sync::Arc};

use serde::Serialize;
use serde_json::value::RawValue;

use super::member::Look;
use crate::{entry::Item, options::PresenceOptions};

/// An event that is told of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Event {
    Here,
    Join,
    Leave,
    Update,
    Away,
    Back,
}

/// An event as JSON.
#[derive(Serialize)]
pub(super) struct Told<'a> {
    pub(super) event: Event,
    pub(super) name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sessions: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) info: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) away: bool,
}

impl Told<'_> {
    pub(super) fn item(&self) -> Item {
        // Strings, numbers and what is JSON already can be written as JSON.
        Item::new(&serde_json::to_vec(self).unwrap_or_default(), b"")
    }
}

/// Those of the watchers that are told of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    All,
    /// Those that are told of members.
    Members,
    /// Those that are told of each session.
    Sessions,
    /// Those that are told who is away.
    Away,
}

impl Audience {
    pub(super) fn has(self, options: PresenceOptions) -> bool {
        match self {
            Self::All => true,
            Self::Members => !options.tells_each,
            Self::Sessions => options.tells_each,
            Self::Away => options.tells_away,
        }
    }
}

/// A change, encoded.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) name: Arc<str>,
    pub(super) audience: Audience,
    pub(super) item: Item,
}

impl Change {
    fn bytes(&self) -> usize {
        // A queue has up to twice the room that it needs.
        2 * size_of::<Self>() + self.name.len() + self.item.bytes()
    }
}

/// The newest changes, as many as there is room for.
#[derive(Debug)]
pub(super) struct Changes {
    kept: VecDeque<Change>,
    /// The number of the oldest that is kept.
    first: u64,
    bytes: usize,
    max_bytes: usize,
    watchers: Watchers,
}

/// How many watchers want what: changes that nobody wants are not kept.
#[derive(Debug, Default)]
struct Watchers {
    of_members: usize,
    of_sessions: usize,
    of_away: usize,
}

impl Watchers {
    fn add(&mut self, options: PresenceOptions, add: impl Fn(usize) -> usize) {
        let kind = if options.tells_each { &mut self.of_sessions } else { &mut self.of_members };
        *kind = add(*kind);
        if options.tells_away {
            self.of_away = add(self.of_away);
        }
    }

    fn has(&self, audience: Audience) -> bool {
        match audience {
            Audience::All => self.of_members + self.of_sessions > 0,
            Audience::Members => self.of_members > 0,
            Audience::Sessions => self.of_sessions > 0,
            Audience::Away => self.of_away > 0,
        }
    }
}

impl Changes {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { kept: VecDeque::new(), first: 0, bytes: 0, max_bytes, watchers: Watchers::default() }
    }

    pub(super) fn add_watcher(&mut self, options: PresenceOptions) {
        self.watchers.add(options, |count| count + 1);
    }

    /// One watcher less: behind the last one nothing is kept.
    pub(super) fn remove_watcher(&mut self, options: PresenceOptions) {
        self.watchers.add(options, |count| count - 1);
        if self.watchers() == 0 {
            self.clear();
        }
    }

    pub(super) fn watchers(&self) -> usize {
        self.watchers.of_members + self.watchers.of_sessions
    }

    /// The number of the oldest change that is kept.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The number that the next change gets.
    pub(super) fn next(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    /// The change of this number, if it is kept.
    pub(super) fn get(&self, number: u64) -> Option<&Change> {
        self.kept.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Lets all go; their bytes.
    pub(super) fn clear(&mut self) -> usize {
        self.first = self.next();
        self.kept = VecDeque::new();
        std::mem::take(&mut self.bytes)
    }

    /// Tells how a member has changed, to each audience in as many events as it wants.
    pub(super) fn tell(&mut self, name: &Arc<str>, before: Option<&Look>, after: Option<&Look>) {
        let sessions = |look: Option<&Look>| look.map_or(0, |look| look.sessions);
        let is_away = |look: Option<&Look>| look.is_some_and(|look| look.is_away);
        let info = after.and_then(Look::info);
        match (before, after) {
            (None, Some(_)) => self.push(name, Event::Join, Audience::Members, None, info),
            (Some(_), None) => self.push(name, Event::Leave, Audience::Members, None, None),
            _ => {}
        }
        if self.watchers.has(Audience::Sessions) {
            let (before, after) = (sessions(before), sessions(after));
            for left in (after..before).rev() {
                self.push(name, Event::Leave, Audience::Sessions, Some(left), None);
            }
            for joined in before + 1..=after {
                self.push(name, Event::Join, Audience::Sessions, Some(joined), info);
            }
        }
        if before.zip(after).is_some_and(|(before, after)| !before.has_info_of(after)) {
            self.push(name, Event::Update, Audience::All, None, info);
        }
        match (is_away(before), is_away(after)) {
            (false, true) => self.push(name, Event::Away, Audience::Away, None, None),
            (true, false) if after.is_some() => {
                self.push(name, Event::Back, Audience::Away, None, None);
            }
            _ => {}
        }
    }

    fn push(
        &mut self,
        name: &Arc<str>,
        event: Event,
        audience: Audience,
        sessions: Option<u32>,
        info: Option<&RawValue>,
    ) {
        if !self.watchers.has(audience) {
            return;
        }
        let item = Told { event, name, sessions, info, away: false }.item();
        let change = Change { name: Arc::clone(name), audience, item };
        self.bytes += change.bytes();
        self.kept.push_back(change);
        while self.bytes > self.max_bytes
            && let Some(oldest) = self.kept.pop_front()
        {
            self.bytes -= oldest.bytes();
            self.first += 1;
        }
    }
}
