//! Streams that end when what permits them has ended.

use std::{
    mem,
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use rsock::{Error, Feed, Outlet, Request, WakeGroup};
use rustc_hash::FxHashMap;

use super::{Action, Service, kept};
use crate::{
    name::TopicName,
    refusal::Refusal,
    sync::{Mutex, lock},
};

/// Connections whose streams are woken before others have their turn.
const PORTION: usize = 256;
/// Connections from which on those that are over are looked for.
const LOOKED_FROM: usize = 64;

/// A feed, and what permits it. Where permissions never change, nothing more.
pub(super) struct Guarded<F> {
    feed: F,
    guard: Option<Box<Guard>>,
}

struct Guard {
    service: Service,
    request: Request,
    topic: TopicName,
    actions: &'static [Action],
    /// The version of the permissions by which they were judged.
    version: u64,
    /// The streams of its connection that are judged, which it waits among whatever else it waits for: also one that has no
    /// credit is to end.
    group: Arc<WakeGroup>,
    is_waiting: bool,
}

/// The streams that are judged, by their connections.
#[derive(Default)]
pub(super) struct Judged(Mutex<Groups>);

#[derive(Default)]
struct Groups {
    by_connection: FxHashMap<u64, Weak<WakeGroup>>,
    /// As many as there may be before those are looked for that are over.
    looked_at: usize,
}

impl Judged {
    /// The group of whatever is judged on the connection that a request came by.
    #[expect(clippy::disallowed_methods, reason = "those that are over go, in whatever order")]
    fn group(&self, request: &Request) -> Arc<WakeGroup> {
        let peer = request.peer();
        let mut groups = lock(&self.0);
        if let Some(group) = groups.by_connection.get(&peer.connection_id()).and_then(Weak::upgrade)
        {
            return group;
        }
        let group = peer.requester().wake_group();
        if groups.by_connection.len() >= groups.looked_at.max(LOOKED_FROM) {
            groups.by_connection.retain(|_, group| group.strong_count() > 0);
            groups.looked_at = 2 * groups.by_connection.len();
        }
        groups.by_connection.insert(peer.connection_id(), Arc::downgrade(&group));
        group
    }

    /// Wakes all of them, so that those end whose permission has ended.
    #[expect(clippy::disallowed_methods, reason = "all are woken, in whatever order")]
    pub(super) async fn wake_all(&self) {
        let groups: Vec<_> = lock(&self.0).by_connection.values().cloned().collect();
        for portion in groups.chunks(PORTION) {
            for group in portion.iter().filter_map(Weak::upgrade) {
                // One whose connection is over has nobody in it.
                let _ = group.wake();
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Service {
    /// A feed that a request has asked for, for as long as these actions are permitted on its topic.
    pub(super) fn guarded<F>(
        &self,
        request: Request,
        actions: &'static [Action],
        version: Option<u64>,
        feed: F,
    ) -> Result<Guarded<F>, Refusal> {
        let guard = match version {
            None => None,
            Some(version) => {
                let topic = self.name_of_topic(&request)?;
                let (request, service) = (kept(request), self.clone());
                let group = self.0.judged.group(&request);
                let is_waiting = false;
                Some(Box::new(Guard {
                    service,
                    request,
                    topic,
                    actions,
                    version,
                    group,
                    is_waiting,
                }))
            }
        };
        Ok(Guarded { feed, guard })
    }
}

impl Guard {
    /// Whether it is still permitted.
    #[inline]
    fn check(&mut self, out: &Outlet<'_>, cx: &Context<'_>) -> Result<(), Refusal> {
        if !mem::replace(&mut self.is_waiting, true) {
            out.wait_in(&self.group, cx);
        }
        let version = self.service.0.permit.version();
        match version {
            Some(version) if version != self.version => self.judge(version, out, cx),
            _ => Ok(()),
        }
    }

    #[cold]
    fn judge(&mut self, version: u64, out: &Outlet<'_>, cx: &Context<'_>) -> Result<(), Refusal> {
        // It has been woken by this version, or will be, and waits for the one behind it from here on: before it looks.
        out.wait_in(&self.group, cx);
        let permit = &self.service.0.permit;
        for action in self.actions {
            if permit.permits(&self.request, *action, &self.topic).is_err() {
                permit.refused(&self.request, *action, &self.topic);
                return Err(Refusal::permission_ended(action.as_str(), &self.topic));
            }
        }
        self.version = version;
        Ok(())
    }
}

impl<F: Feed> Feed for Guarded<F> {
    #[inline]
    fn poll_fill(&mut self, out: &mut Outlet<'_>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(guard) = &mut self.guard
            && let Err(refusal) = guard.check(out, cx)
        {
            return Poll::Ready(Err(guard.service.refuse(refusal)));
        }
        self.feed.poll_fill(out, cx)
    }

    fn is_endless(&self) -> bool {
        self.feed.is_endless()
    }
}
