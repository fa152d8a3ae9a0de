//! Members, and how their sessions stand.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};

use serde_json::value::RawValue;

use super::{
    SessionId,
    changes::{Event, Told},
};
use crate::{entry::Item, time::Instant};

/// Bytes that something takes in a map, beside its own.
const PLACE_BYTES: usize = 32;
/// Bytes of a name in a set.
pub(super) const NAMED_BYTES: usize = size_of::<Arc<str>>() + PLACE_BYTES;
/// Bytes of a session, and of a place among those in grace.
pub(super) const SESSION_BYTES: usize = size_of::<(SessionId, Session)>() + PLACE_BYTES;
/// Bytes of a member that says nothing, beside its name.
pub(super) const EMPTY_BYTES: usize = size_of::<Member>() + NAMED_BYTES;

/// A session of a member.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) name: Arc<str>,
    pub(super) standing: Standing,
    /// The number of what it says of its member.
    pub(super) info: Option<u64>,
}

/// How the connection of a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It stands.
    Here,
    /// It may be resumed.
    Suspended,
    /// It was lost; the session ends then.
    InGrace(Instant),
}

/// A name, and its sessions.
#[derive(Debug, Default)]
pub(super) struct Member {
    /// Milliseconds since 1970, when it came.
    pub(super) since: u64,
    here: u32,
    suspended: u32,
    in_grace: BTreeSet<(Instant, SessionId)>,
    /// The words of its sessions about it, in the order in which they did.
    infos: BTreeMap<u64, Arc<RawValue>>,
    info_bytes: usize,
    shown: Option<Shown>,
}

/// A member as watchers are told of it.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) sessions: u32,
    pub(super) is_away: bool,
    pub(super) info: Option<Arc<RawValue>>,
}

/// A member as watchers were told of it.
#[derive(Debug)]
pub(super) struct Shown {
    look: Look,
    /// Its item in a snapshot, once a watcher has wanted it.
    item: OnceLock<Item>,
}

impl Look {
    /// The JSON that it says of itself.
    pub(super) fn info(&self) -> Option<&RawValue> {
        self.info.as_deref()
    }

    /// Whether it says the same as another.
    pub(super) fn has_info_of(&self, other: &Self) -> bool {
        self.info().map(RawValue::get) == other.info().map(RawValue::get)
    }
}

impl Shown {
    /// Its item in a snapshot, encoded for the first watcher that wants it; and the memory that this took.
    pub(super) fn item(&self, name: &str) -> (&Item, usize) {
        if let Some(item) = self.item.get() {
            return (item, 0);
        }
        let item = self.item.get_or_init(|| {
            let Look { sessions, is_away: away, .. } = self.look;
            let (event, sessions, info) = (Event::Here, Some(sessions), self.look.info());
            Told { event, name, sessions, info, away }.item()
        });
        (item, item.bytes())
    }
}

impl Member {
    /// Its sessions, those in grace among them.
    pub(super) fn sessions(&self) -> u32 {
        // A topic has no more than fit a number of 32 bits.
        self.here + self.suspended + self.in_grace.len() as u32
    }

    /// The session whose grace ends first.
    pub(super) fn oldest_in_grace(&self) -> Option<SessionId> {
        self.in_grace.first().map(|(_, session)| *session)
    }

    /// One session more that stands like this.
    pub(super) fn enter(&mut self, session: SessionId, standing: Standing) {
        match standing {
            Standing::Here => self.here += 1,
            Standing::Suspended => self.suspended += 1,
            Standing::InGrace(until) => drop(self.in_grace.insert((until, session))),
        }
    }

    /// One session less that stood like this.
    pub(super) fn exit(&mut self, session: SessionId, standing: Standing) {
        match standing {
            Standing::Here => self.here -= 1,
            Standing::Suspended => self.suspended -= 1,
            Standing::InGrace(until) => drop(self.in_grace.remove(&(until, session))),
        }
    }

    /// Keeps what a session says, as the newest.
    pub(super) fn add_info(&mut self, number: u64, info: &RawValue) {
        self.info_bytes += Self::info_bytes(info);
        self.infos.insert(number, info.to_owned().into());
    }

    /// Forgets what a session said.
    pub(super) fn forget_info(&mut self, number: Option<u64>) {
        if let Some(info) = number.and_then(|number| self.infos.remove(&number)) {
            self.info_bytes -= Self::info_bytes(&info);
        }
    }

    fn info_bytes(info: &RawValue) -> usize {
        info.get().len() + PLACE_BYTES
    }

    /// It as it is now, if it is present.
    pub(super) fn look(&self) -> Option<Look> {
        let sessions = self.sessions();
        (sessions > 0).then(|| Look {
            sessions,
            is_away: self.suspended == sessions,
            info: self.infos.values().next_back().map(Arc::clone),
        })
    }

    /// It as it was last shown.
    pub(super) fn shown(&self) -> Option<&Shown> {
        self.shown.as_ref()
    }

    /// Shows it as it is now; it as it was shown before, and as it is.
    pub(super) fn show(&mut self) -> (Option<Look>, Option<Look>) {
        let after = self.look();
        let shown = after.clone().map(|look| Shown { look, item: OnceLock::new() });
        let before = std::mem::replace(&mut self.shown, shown);
        (before.map(|shown| shown.look), after)
    }

    /// The memory it takes beside what an empty one does.
    pub(super) fn bytes(&self) -> usize {
        let shown = self.shown.as_ref().map_or(0, |shown| {
            let info = shown.look.info().map_or(0, Self::info_bytes);
            info + shown.item.get().map_or(0, Item::bytes)
        });
        self.in_grace.len() * SESSION_BYTES + self.info_bytes + shown
    }
}
