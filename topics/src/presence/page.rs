//! The members of a topic as one answer.

use std::ops::Bound;

use serde::Serialize;
use serde_json::value::RawValue;

use super::{Presence, member::Look};
use crate::options::PresencePageOptions;

/// Bytes of an answer, above which it ends before its limit.
const MAX_PAGE_BYTES: usize = 256 << 10;

/// Bytes of a member there, beside its name and what it says.
const MEMBER_BYTES: usize = 64;

#[derive(Serialize)]
struct Page<'a> {
    topic: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<Vec<Listed<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions: Option<usize>,
    total: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a str>,
}

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    sessions: u32,
    since: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    away: bool,
}

impl Presence {
    /// The members as they are at this moment, in the order of their names, as JSON: those for whom there is
    /// room, and behind which name the next page begins.
    pub fn page(&self, options: &PresencePageOptions) -> Vec<u8> {
        let behind = options.after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.members.range::<str, _>((behind, Bound::Unbounded));
        let members =
            range.filter_map(|(name, member)| Some((&**name, member.since, member.look()?)));
        let mut room = MAX_PAGE_BYTES;
        let fits = |(name, _, look): &(&str, u64, Look)| {
            let bytes = MEMBER_BYTES + name.len() + look.info().map_or(0, |info| info.get().len());
            let fits = room > 0;
            room = room.saturating_sub(bytes);
            fits
        };
        let limit = if options.is_count { 0 } else { options.limit };
        let looks: Vec<_> = members.take(limit).take_while(fits).collect();
        let last = looks.last().map(|(name, ..)| *name);
        let is_whole = last.is_none_or(|last| self.is_last(last));
        let listed = looks.iter().map(|(name, since, look)| Listed {
            name,
            sessions: look.sessions,
            since: *since,
            info: look.info(),
            away: look.is_away,
        });
        let page = Page {
            topic: self.topic.as_str(),
            members: (!options.is_count).then(|| listed.collect()),
            sessions: options.is_count.then_some(self.sessions.len()),
            total: self.present,
            next: last.filter(|_| !is_whole),
        };
        // Strings, numbers and what is JSON already can be written as JSON.
        serde_json::to_vec(&page).unwrap_or_default()
    }

    /// Whether no member that is present has a name behind this one.
    fn is_last(&self, name: &str) -> bool {
        let mut behind = self.members.range::<str, _>((Bound::Excluded(name), Bound::Unbounded));
        behind.all(|(_, member)| member.sessions() == 0)
    }
}
