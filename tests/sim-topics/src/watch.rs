//! Watchers of a room: what each has been told makes up who is there.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    broken::hold,
    room::Look,
    topics::{Form, Presence, PresenceOptions, Watcher},
};

/// A watcher, and what it knows.
pub(crate) struct Watch {
    watcher: Watcher,
    options: PresenceOptions,
    known: BTreeMap<String, Look>,
    /// It has been told that these are all.
    has_all: bool,
    /// The last name of the list.
    read: Option<String>,
    /// Changes may have gone that it has not read.
    may_reset: bool,
    /// The version of which it has been told everything.
    seen: Option<u64>,
}

impl Watch {
    pub(crate) fn new(presence: &mut Presence, tells_away: bool, tells_each: bool) -> Self {
        let options = PresenceOptions { tells_away, tells_each };
        let watcher = presence.watch(options);
        Self {
            watcher,
            options,
            known: BTreeMap::new(),
            has_all: false,
            read: None,
            may_reset: false,
            seen: None,
        }
    }

    pub(crate) fn end(self, presence: &mut Presence) {
        presence.unwatch(self.watcher);
    }

    /// Changes went that it may not have read.
    pub(crate) fn may_be_overrun(&mut self) {
        self.may_reset = true;
    }

    /// Reads with so much credit; the items that it is told.
    pub(crate) fn read(
        &mut self,
        presence: &mut Presence,
        shown: &BTreeMap<&'static str, Look>,
        credit: usize,
    ) -> Vec<String> {
        let mut items = Vec::new();
        let overrun = presence.figures().overrun;
        let version = presence.version();
        let has_more = loop {
            let before = items.len();
            let has_more = presence.read(&mut self.watcher, Form::Plain, |item| {
                hold!(items.len() < credit, Presence, "an item without credit");
                let payload = item.to_payload();
                hold!(payload.data.is_empty(), Item, "data that nobody published");
                let json = payload.metadata.unwrap_or_default();
                items.push(String::from_utf8_lossy(&json).into_owned());
                Ok::<_, ()>(items.len() < credit)
            });
            let has_more = has_more.unwrap_or_default();
            if !has_more || items.len() >= credit {
                break has_more;
            }
            hold!(items.len() > before, Presence, "there is more, and it is not told");
        };
        for item in &items {
            self.told(item, shown.len() as u64);
        }
        let resets = items.iter().filter(|item| item.contains("reset")).count() as u64;
        let counted = presence.figures().overrun - overrun;
        hold!(resets == counted, Presence, "{resets} resets, and {counted} are counted");
        let is_news = self.seen != Some(version) || items.is_empty();
        hold!(is_news, Presence, "told {items:?}, and nothing has changed");
        if !has_more {
            self.seen = Some(version);
            self.look_at_all(shown);
        }
        items
    }

    /// It has been told everything: it knows what is shown.
    fn look_at_all(&mut self, shown: &BTreeMap<&'static str, Look>) {
        hold!(self.has_all, Presence, "all was told, and not that it was");
        self.may_reset = false;
        let PresenceOptions { tells_away, tells_each } = self.options;
        let told = |look: &Look| Look {
            sessions: if tells_each { look.sessions } else { 0 },
            is_away: tells_away && look.is_away,
            info: look.info.clone(),
        };
        let known: BTreeMap<_, _> =
            self.known.iter().map(|(name, look)| (&**name, told(look))).collect();
        let wanted: BTreeMap<_, _> = shown.iter().map(|(name, look)| (*name, told(look))).collect();
        hold!(known == wanted, Presence, "knows {known:?}, and there are {wanted:?}");
    }

    fn told(&mut self, item: &str, shown: u64) {
        let read: Value = serde_json::from_str(item).unwrap_or_default();
        let name = read["name"].as_str().unwrap_or_default();
        let sessions = read["sessions"].as_u64();
        let info = Look::info_of(&read);
        let knows = self.known.get(name).cloned();
        let each = self.options.tells_each;
        match read["event"].as_str().unwrap_or_default() {
            "here" => {
                let is_next = self.read.as_deref().is_none_or(|read| read < name);
                hold!(!self.has_all && is_next, Presence, "out of order: {item}");
                let is_away = read["away"].as_bool().unwrap_or(false);
                let look = Look { sessions: sessions.unwrap_or(0), is_away, info };
                hold!(look.sessions > 0 && knows.is_none(), Presence, "here again: {item}");
                self.known.insert(name.to_owned(), look);
                self.read = Some(name.to_owned());
            }
            "all" => {
                let known = self.known.len() as u64;
                let is_right = !self.has_all && read["total"] == known && known == shown;
                hold!(is_right, Presence, "{item}, and {known} were told of {shown}");
                self.has_all = true;
            }
            "reset" => {
                // It may have been told nothing yet but this.
                self.known.clear();
                (self.has_all, self.read) = (false, None);
            }
            "join" => {
                hold!(each || knows.is_none(), Presence, "has joined already: {item}");
                let before = knows.clone().unwrap_or_default();
                let is_next = sessions == each.then_some(before.sessions + 1);
                hold!(is_next, Presence, "{item} behind {knows:?}");
                // An update is told beside it.
                let info = knows.map_or(info, |look| look.info);
                let look = Look { sessions: before.sessions + 1, info, ..before };
                self.known.insert(name.to_owned(), look);
            }
            "leave" => {
                let Some(before) = knows else {
                    return hold!(false, Presence, "leaves, and was not there: {item}");
                };
                let left = each.then(|| before.sessions - 1);
                hold!(sessions == left, Presence, "{item} behind {before:?}");
                match left {
                    Some(left) if left > 0 => {
                        self.known.insert(name.to_owned(), Look { sessions: left, ..before });
                    }
                    _ => drop(self.known.remove(name)),
                }
            }
            "update" => {
                let is_news = knows.as_ref().is_some_and(|look| look.info != info);
                hold!(is_news, Presence, "{item} behind {knows:?}");
                self.known.entry(name.to_owned()).and_modify(|look| look.info = info);
            }
            event @ ("away" | "back") => {
                let is_away = event == "away";
                let is_news = knows.as_ref().is_some_and(|look| look.is_away != is_away);
                hold!(self.options.tells_away && is_news, Presence, "{item} behind {knows:?}");
                self.known.entry(name.to_owned()).and_modify(|look| look.is_away = is_away);
            }
            _ => hold!(false, Presence, "an item of no kind: {item}"),
        }
    }
}
