//! Watchers: cursors over the members and their changes.
//!
//! A watcher reads the members in the order of their names, and between any two of them the changes of
//! those that it has read. So what it has been told is at every moment what was shown of these, however
//! slowly it reads, and nothing is told twice.

use std::{ops::Bound, sync::Arc};

use rsock_proto::SharedPayload;

use super::{
    Presence,
    changes::{Change, Changes},
};
use crate::{
    entry::{Form, Item},
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

    /// Passes over the changes that are not for it, to the next one that is.
    fn seek<'a>(&mut self, changes: &'a Changes) -> Option<&'a Change> {
        while let Some(change) = changes.get(self.next) {
            self.next += 1;
            if change.audience.has(self.options) && self.knows(&change.name) {
                return Some(change);
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

    /// Gives a watcher its next items, as long as `send` says that there is room for another. Whether there
    /// may be more; if not, none will be until the [version](Self::version) grows.
    ///
    /// # Errors
    /// Those of `send`.
    pub fn read<E>(
        &mut self,
        watcher: &mut Watcher,
        form: Form,
        mut send: impl FnMut(&SharedPayload) -> Result<bool, E>,
    ) -> Result<bool, E> {
        if watcher.next < self.changes.first() {
            watcher.next = self.changes.next();
            // One that has been told nothing yet misses nothing.
            if !matches!(watcher.reads, Reads::Members(None)) {
                self.overrun += 1;
                watcher.reads = Reads::Members(None);
                let reset = Item::new(br#"{"event":"reset"}"#, b"");
                if !send(reset.in_form(form))? {
                    return Ok(true);
                }
            }
        }
        while let Some(change) = watcher.seek(&self.changes) {
            if !send(change.item.in_form(form))? {
                return Ok(true);
            }
        }
        // What it knows is as it is shown: further members can be told of.
        let Reads::Members(read) = &mut watcher.reads else { return Ok(false) };
        let behind = read.clone();
        let behind = behind.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        for (name, member) in self.members.range::<str, _>((behind, Bound::Unbounded)) {
            let Some(shown) = member.shown() else { continue };
            let (item, bytes) = shown.item(name);
            self.bytes += bytes;
            let has_room = send(item.in_form(form))?;
            if !has_room {
                *read = Some(Arc::clone(name));
                return Ok(true);
            }
        }
        watcher.reads = Reads::Changes;
        let all = format!(r#"{{"event":"all","total":{}}}"#, self.shown);
        send(Item::new(all.as_bytes(), b"").in_form(form))
    }
}
