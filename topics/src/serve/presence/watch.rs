//! `presence.{name}` as a request-stream: the members, and then what changes.

use std::{
    any::Any,
    sync::Arc,
    task::{Context, Poll},
};

use rsock::{Error, Feed, Outlet, Request, WakeGroup};

use super::all::Place;
use crate::{
    entry::Form,
    options::PresenceOptions,
    presence::{Presence, PresenceSettings, Watcher},
    refusal::Refusal,
    serve::{Action, Service, form_of, pump::Group, subscribe::too_large},
    topic::Hub,
};

/// Items sent before others come to the lock.
const HANDFUL: usize = 64;

/// A watcher: a cursor, and the connection that wakes it.
#[derive(Debug)]
pub(in crate::serve) struct Watching {
    place: Place,
    /// None when it is given back.
    watcher: Option<Watcher>,
    hub: Arc<Hub>,
    group: Arc<WakeGroup>,
    form: Form,
}

impl Service {
    pub(super) fn watch(&self, request: &Request) -> Result<Watching, Refusal> {
        let name = self.topic_of(request, Action::Presence)?;
        let options = PresenceOptions::parse(request.data())?;
        let form = form_of(request).ok_or_else(|| Refusal::no_metadata("presence"))?;
        let all = &self.0.presence;
        let settings = self.settings_of(&name)?;
        let place = all.open(&name, PresenceSettings::of(settings))?;
        let shared = &place.shared;
        let limit = settings.max_subscriptions;
        if shared.look(|presence| presence.figures().watchers) >= limit {
            return Err(Refusal::too_many_subscriptions_of(&name, limit));
        }
        all.add_watcher()?;
        let requester = request.peer().requester();
        let connection = request.peer().connection_id();
        let hub = shared.hubs.enter(connection, || Box::new(Group(requester.wake_group())));
        let wake: &dyn Any = hub.wake();
        // All hubs of presence are made here.
        let group = wake.downcast_ref::<Group>().map(|group| Arc::clone(&group.0));
        let group = group.unwrap_or_else(|| requester.wake_group());
        let watcher = Some(shared.look(|presence| presence.watch(options)));
        Ok(Watching { place, watcher, hub, group, form })
    }
}

/// How far a watcher came.
enum Sent {
    All,
    Some,
    NoRoom,
}

/// Sends a handful of what there is.
fn send(
    presence: &mut Presence,
    watcher: &mut Watcher,
    form: Form,
    out: &mut Outlet<'_>,
) -> Result<Sent, Refusal> {
    let mut left = HANDFUL;
    if !out.has_room() {
        return Ok(Sent::NoRoom);
    }
    let has_more = presence.read(watcher, form, |item| {
        out.send_shared(item).map_err(too_large)?;
        left -= 1;
        Ok::<_, Refusal>(left > 0 && out.has_room())
    })?;
    // If there is no room, that is found out in the next round.
    Ok(if has_more { Sent::Some } else { Sent::All })
}

impl Watching {
    fn send(&mut self, out: &mut Outlet<'_>) -> Result<Sent, Refusal> {
        let Some(watcher) = &mut self.watcher else { return Ok(Sent::All) };
        let (sent, overrun) = self.place.shared.look(|presence| {
            let before = presence.figures().overrun;
            let sent = send(presence, watcher, self.form, out);
            (sent, presence.figures().overrun - before)
        });
        if overrun > 0 {
            self.place.all.count_overrun(overrun);
        }
        sent
    }
}

impl Feed for Watching {
    fn poll_fill(&mut self, out: &mut Outlet<'_>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            let version = self.place.shared.hubs.version();
            match self.send(out) {
                Ok(Sent::All) => {
                    out.wait_in(&self.group, cx);
                    self.place.shared.hubs.wait(&self.hub);
                    // What came just before has woken nobody.
                    if self.place.shared.hubs.version() == version {
                        return Poll::Pending;
                    }
                }
                Ok(Sent::Some) => {}
                Ok(Sent::NoRoom) => return Poll::Pending,
                Err(refusal) => return Poll::Ready(Err(refusal.into())),
            }
        }
    }

    fn is_endless(&self) -> bool {
        true
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(watcher) = self.watcher.take() {
            self.place.shared.look(|presence| presence.unwatch(watcher));
        }
        self.place.shared.hubs.leave(&self.hub);
        self.place.all.remove_watcher();
    }
}
