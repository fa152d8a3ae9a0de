//! Watchers: cursors over the members and their changes.
//!
//! A watcher reads the members in the order of their names, and between any two of them the changes of
//! those that it has read. So what it has been told is at every moment what was shown of these, however
//! slowly it reads, and nothing is told twice.

use std::{ops::Bound, sync::Arc};

use super::{Presence, changes::Changes, member::Member};
use crate::{
    entry::{Encoded, Form, Item},
    options::PresenceOptions,
};

/// The place of a watcher in a topic's presence. Nothing is queued for it.
#[derive(Debug)]
pub struct Watcher {
    options: PresenceOptions,
    /// The number of the change that it reads next.
    next: u64,
    reads: Reads,
}

#[derive(Debug)]
enum Reads {
    /// The members, from the first one behind this name, and changes of those before.
    Members(Option<Arc<str>>),
    /// Changes.
    Changes,
}

impl Watcher {
    /// Whether it has been told of a member, and is to hear how that changes.
    fn knows(&self, name: &str) -> bool {
        match &self.reads {
            Reads::Members(read) => read.as_deref().is_some_and(|read| name <= read),
            Reads::Changes => true,
        }
    }

    /// Passes over the changes that are not for it; the number of the next one that is.
    fn seek(&mut self, changes: &Changes) -> Option<u64> {
        while let Some(change) = changes.get(self.next) {
            self.next += 1;
            if change.audience.has(self.options) && self.knows(&change.name) {
                return Some(self.next - 1);
            }
        }
        None
    }
}

impl Presence {
    /// A watcher that begins with the members that are shown. It is to be given back to
    /// [`unwatch`](Self::unwatch).
    pub fn watch(&mut self, options: PresenceOptions) -> Watcher {
        self.changes.add_watcher(options);
        Watcher { options, next: self.changes.next(), reads: Reads::Members(None) }
    }

    /// Ends a watcher: it is taken, so that none is given back twice.
    pub fn unwatch(&mut self, watcher: Watcher) {
        self.changes.remove_watcher(watcher.options);
    }

    /// The next item for a watcher, which is now told of it; none until the [version](Self::version) grows.
    pub fn next(&mut self, watcher: &mut Watcher, form: Form) -> Option<Encoded<'_>> {
        let own = |item: &Item| Encoded::Own(item.in_form(form).clone());
        let shared = |item| Encoded::Shared(Item::in_form(item, form));
        if watcher.next < self.changes.first() {
            watcher.next = self.changes.next();
            // One that has been told nothing yet misses nothing.
            if !matches!(watcher.reads, Reads::Members(None)) {
                self.overrun += 1;
                watcher.reads = Reads::Members(None);
                return Some(own(&Item::new(br#"{"event":"reset"}"#, b"")));
            }
        }
        if let Some(number) = watcher.seek(&self.changes) {
            return self.changes.get(number).map(|change| shared(&change.item));
        }
        // What it knows is as it is shown: a further member can be told of.
        let Reads::Members(read) = &mut watcher.reads else { return None };
        let behind = read.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut members = self.members.range::<str, _>((behind, Bound::Unbounded));
        let Some((name, _)) = members.find(|(_, member)| member.shown().is_some()) else {
            watcher.reads = Reads::Changes;
            let all = format!(r#"{{"event":"all","total":{}}}"#, self.shown);
            return Some(own(&Item::new(all.as_bytes(), b"")));
        };
        let name = Arc::clone(name);
        *read = Some(Arc::clone(&name));
        self.alter(&name, |member| member.encode(&name));
        self.members.get(&name).and_then(Member::item).map(shared)
    }
}
