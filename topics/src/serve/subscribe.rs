//! `topic.{name}` as a request-stream: its messages, from wherever one likes.

use std::{
    any::Any,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rsock::{Error, Feed, Outlet, Request, SendError, SharedPayload, WakeGroup};

use super::{
    Action, Service, form_of,
    guarded::Guarded,
    loading::{Loading, Side},
    name_of,
    pump::Group,
};
use crate::{
    cursor::{Cursor, Fill, Sink},
    name::TopicName,
    options::{Start, SubscribeOptions},
    refusal::Refusal,
    registry::{Maker, Reader},
    time::Now,
    topic::Topic,
};

/// A subscriber: a cursor, and the connection that wakes it.
#[derive(Debug)]
pub(super) struct Subscription {
    cursor: Cursor,
    reader: Reader,
    group: Arc<WakeGroup>,
    service: Service,
    /// Messages that are read for it from a disk.
    loading: Option<Box<Loading>>,
}

/// Milliseconds from now back to the oldest message of a reader that may not read history: it does not
/// miss what was published while it was away for a moment.
const RECENT_MS: u64 = 2 * 60 * 1_000;

/// Permissions that a subscription needs, and one that reads what was published before.
const READING: &[Action] = &[Action::Subscribe];
const READING_HISTORY: &[Action] = &[Action::Subscribe, Action::History];

impl Service {
    /// A subscription, for as long as it is permitted.
    pub(super) fn subscribe(&self, mut request: Request) -> Result<Guarded<Subscription>, Refusal> {
        let version = self.0.permit.version();
        let options = SubscribeOptions::parse(request.data())?;
        let name = self.topic_to_read(&mut request, Action::Subscribe, &options)?;
        let (reader, group) = self.reader(&request, &name)?;
        let has_history = self.has_history(&request, reader.topic(), &options);
        let cursor = self.cursor(&request, reader.topic(), &options, has_history)?;
        let feed = Subscription { cursor, reader, group, service: self.clone(), loading: None };
        self.guarded(request, if has_history { READING_HISTORY } else { READING }, version, feed)
    }

    /// Whether a reader with these options reads what was published before, and may.
    pub(super) fn has_history(
        &self,
        request: &Request,
        topic: &Topic,
        options: &SubscribeOptions,
    ) -> bool {
        // Of the newest by key all is new.
        options.from != Start::New
            && !topic.is_latest()
            && self.may(request, Action::History, topic.name())
    }

    /// A cursor of this topic, which goes back no further than to what is recent unless its reader has the
    /// history.
    pub(super) fn cursor(
        &self,
        request: &Request,
        topic: &Topic,
        options: &SubscribeOptions,
        has_history: bool,
    ) -> Result<Cursor, Refusal> {
        let (now, connection) = (self.0.clock.now(), request.peer().connection_id());
        let cursor = Cursor::new(topic, options, form_of(request), connection, now)?;
        if options.from == Start::New || has_history {
            return Ok(cursor);
        }
        cursor.without_history(topic, now.unix_ms.saturating_sub(RECENT_MS))
    }

    /// A reader of this topic on the connection that a request came by, and what wakes it.
    pub(super) fn reader(
        &self,
        request: &Request,
        name: &TopicName,
    ) -> Result<(Reader, Arc<WakeGroup>), Refusal> {
        let connection = request.peer().connection_id();
        let topic = self.0.topics.open_for(name, Maker::of(connection, name_of(request)))?;
        let reader = self.0.topics.enter(&topic, connection, || {
            Box::new(Group(request.peer().requester().wake_group()))
        })?;
        let wake: &dyn Any = reader.wake();
        // All hubs of these topics are made here.
        let group = wake.downcast_ref::<Group>().map(|group| Arc::clone(&group.0));
        let group = group.unwrap_or_else(|| request.peer().requester().wake_group());
        Ok((reader, group))
    }
}

/// An outlet, as cursors fill it.
pub(super) struct Outgoing<'a, 'b> {
    pub(super) out: &'a mut Outlet<'b>,
    pub(super) service: &'a Service,
}

impl Sink for Outgoing<'_, '_> {
    #[inline]
    fn has_room(&mut self) -> bool {
        self.out.has_room()
    }

    #[inline]
    fn send(&mut self, item: &SharedPayload) -> Result<(), Refusal> {
        self.out.send_shared(item).map_err(too_large)
    }

    fn now(&self) -> Now {
        self.service.0.clock.now()
    }

    fn missed(&mut self, messages: u64) {
        self.service.0.counters.missed(messages);
    }
}

#[cold]
pub(super) fn too_large(error: SendError) -> Refusal {
    Refusal::rejected(format_args!("too large for this connection: {error}"))
}

impl Feed for Subscription {
    // Nobody but its guard calls it.
    #[inline(always)]
    fn poll_fill(&mut self, out: &mut Outlet<'_>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let topic = self.reader.topic();
        loop {
            let mut outgoing = Outgoing { out, service: &self.service };
            if let Some(loading) = &mut self.loading {
                let loaded = ready!(loading.poll(cx));
                self.loading = None;
                // What had to go for others is asked for again below.
                let given = loaded.map(|loaded| {
                    loaded.and_then(|(segment, next)| self.cursor.give(segment, next, topic))
                });
                if let Some(Err(refusal)) = given {
                    return Poll::Ready(Err(self.service.refuse(refusal)));
                }
            }
            let filled = self.cursor.fill(topic, &mut outgoing);
            self.reader.tell(self.cursor.next());
            match filled {
                Fill::CaughtUp => {
                    out.wait_in(&self.group, cx);
                    self.reader.wait();
                    // What came just before has woken nobody.
                    if topic.version() == self.cursor.seen() {
                        return Poll::Pending;
                    }
                }
                Fill::Stored(wanted) => {
                    let loading =
                        Loading::start(&self.service, topic, wanted, Side::First, out.credit());
                    self.loading = Some(Box::new(loading));
                }
                Fill::NoRoom => return Poll::Pending,
                Fill::Ended => return Poll::Ready(Ok(())),
                Fill::Failed(refusal) => return Poll::Ready(Err(self.service.refuse(refusal))),
            }
        }
    }

    fn is_endless(&self) -> bool {
        true
    }
}
