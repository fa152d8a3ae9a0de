//! Streams that end when what permits them has ended.

use std::task::{Context, Poll};

use rsock::{Error, Feed, Outlet, Request};

use super::{Action, Service, kept, pump};
use crate::{name::TopicName, refusal::Refusal};

/// Topics whose readers are woken before others have their turn.
const PORTION: usize = 256;

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
                let request = kept(request);
                Some(Box::new(Guard { service: self.clone(), request, topic, actions, version }))
            }
        };
        Ok(Guarded { feed, guard })
    }

    /// Wakes all readers and watchers, so that those of them end whose permission has ended.
    pub(super) async fn judge_anew(&self) {
        let mut last: Option<TopicName> = None;
        loop {
            let topics = self.0.topics.list(last.as_ref(), "", PORTION);
            let Some(end) = topics.last() else { break };
            last = Some(end.name().clone());
            for topic in &topics {
                if topic.nudge() {
                    pump::pump(topic, self.0.clock);
                }
            }
            tokio::task::yield_now().await;
        }
        for shared in self.0.presence.all() {
            if shared.hubs.tell() {
                pump::pump_presence(&shared);
            }
        }
    }
}

impl<F> Guarded<F> {
    /// A feed that nothing ends but itself.
    pub(super) fn unguarded(feed: F) -> Self {
        Self { feed, guard: None }
    }
}

impl Guard {
    /// Whether it is still permitted.
    fn check(&mut self) -> Result<(), Refusal> {
        let permit = &self.service.0.permit;
        let version = permit.version().unwrap_or(self.version);
        if version == self.version {
            return Ok(());
        }
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
            && let Err(refusal) = guard.check()
        {
            return Poll::Ready(Err(guard.service.refuse(refusal)));
        }
        self.feed.poll_fill(out, cx)
    }

    fn is_endless(&self) -> bool {
        self.feed.is_endless()
    }
}
