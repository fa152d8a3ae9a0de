//! `topic.{name}` as a request-channel: a member, who publishes and receives under one name.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::Stream;
use rsock::{Error, Feed, Outlet, Payload, Payloads, Request, WakeGroup};
use tokio::time::{Sleep, sleep};

use super::{
    Action, PresenceSession, Service, as_seen, form_of,
    guarded::Guarded,
    kept,
    loading::{Loading, Side},
    name_of,
    publish::publish_options,
    pump::pump,
    subscribe::Outgoing,
};
use crate::{
    cursor::Fill,
    entry::Message,
    join::{Done, Join, Next, Outcome, Sender, Stop},
    options::{Info, JoinOptions, PublishOptions},
    refusal::Refusal,
    registry::Reader,
    time::{Instant, Now},
    topic::Topic,
};

/// A join on its connection.
pub(super) struct Joined {
    join: Join<Payload>,
    member: Member,
    reader: Reader,
    group: Arc<WakeGroup>,
    /// Messages that are read for it from a disk.
    loading: Option<Box<Loading>>,
    /// The sleep until a payload may be published that came sooner than a rate allows.
    pause: Option<Pause>,
}

struct Pause {
    until: Instant,
    sleep: Pin<Box<Sleep>>,
}

/// A member, with its side of the connection.
struct Member {
    service: Service,
    /// The request that it joined with.
    request: Request,
    topic: Arc<Topic>,
    /// That which it is known by in the topic.
    name: Box<str>,
    /// That which is authenticated.
    own: Option<Box<str>>,
    /// The number of its join.
    join: u32,
    /// None when it sends no more.
    payloads: Option<Payloads>,
    /// Others see that it is there for as long as this is.
    session: Option<PresenceSession>,
    /// It is told what became of each payload.
    is_told: bool,
}

/// Permissions that a join needs that receives no messages, one that does, and one that receives those of before.
const SENDING: &[Action] = &[Action::Join];
const RECEIVING: &[Action] = &[Action::Join, Action::Subscribe];
const RECEIVING_HISTORY: &[Action] = &[Action::Join, Action::Subscribe, Action::History];

impl Service {
    /// A join, for as long as it is permitted.
    pub(super) fn join(
        &self,
        mut request: Request,
        payloads: Payloads,
    ) -> Result<Guarded<Joined>, Refusal> {
        let version = self.0.permit.version();
        let options = JoinOptions::parse(request.data())?;
        let topic = self.topic_to_read(&mut request, Action::Join, &options.subscribe)?;
        let own = name_of(&request).map(Box::from);
        let name: Box<str> = match (options.name.as_deref(), own.as_deref()) {
            (Some(name), Some(own)) if name != own => {
                return Err(Refusal::not_own_name(name, own));
            }
            (Some(name), None) => as_seen(&request, name).into_owned().into_boxed_str(),
            (Some(name), _) | (None, Some(name)) => name.into(),
            (None, None) => return Err(Refusal::no_name()),
        };
        let (receive, form) = (options.receive, form_of(&request));
        if receive.has_messages() {
            self.permit(&request, Action::Subscribe, &topic)?;
        }
        let (reader, group) = self.reader(&request, &topic)?;
        let has_history = receive.has_messages()
            && self.has_history(&request, reader.topic(), &options.subscribe);
        let cursor = match receive.has_messages() {
            true => Some(self.cursor(&request, reader.topic(), &options.subscribe, has_history)?),
            false => None,
        };
        let number = self.new_join();
        let join = Join::new(reader.topic(), number, receive, form, cursor)?;
        // Last, so that nobody is seen who does not join.
        let session = match options.is_present {
            true => Some(self.appear(&request, &topic, &name, options.info.as_deref())?),
            false => None,
        };
        let is_unseen = session.as_ref().is_some_and(PresenceSession::is_full);
        let join = if is_unseen { join.unseen() } else { join };
        let member = Member {
            service: self.clone(),
            topic: Arc::clone(reader.topic()),
            name,
            own,
            join: number,
            payloads: Some(payloads.credit(join.window() as u32)),
            session,
            is_told: join.tells(),
            request: kept(request.clone()),
        };
        let joined = Joined { join, member, reader, group, loading: None, pause: None };
        let actions = match (receive.has_messages(), has_history) {
            (false, _) => SENDING,
            (true, false) => RECEIVING,
            (true, true) => RECEIVING_HISTORY,
        };
        self.guarded(request, actions, version, joined)
    }

    /// A number that no other join has, but for one of four thousand million joins ago.
    fn new_join(&self) -> u32 {
        let number = || self.0.joins.fetch_add(1, Relaxed).wrapping_add(1);
        // 0 is none.
        Some(number()).filter(|number| *number != 0).unwrap_or_else(number)
    }
}

impl Member {
    fn try_publish(&self, payload: &Payload, options: &PublishOptions) -> Result<Outcome, Stop> {
        let service = &self.service.0;
        let own = self.own.as_deref();
        let origin = self.request.peer().connection_id();
        let is_ephemeral = options.is_ephemeral;
        self.service.check_publish(&self.request, is_ephemeral, self.topic.name())?;
        let from = options.from.as_deref().unwrap_or(&self.name);
        if from != &*self.name {
            self.service.permit(&self.request, Action::PublishAs, self.topic.name())?;
        }
        let now = service.clock.now();
        self.take_token(now)?;
        let data = &payload.data;
        let join = self.join;
        let message = Message { data, from: Some(from), origin, join, ..Message::default() };
        let publish = self.service.to_publish(self.topic.name(), own, message, options);
        let published = service.topics.append(&self.topic, &publish, now)?;
        if published.pump {
            pump(&self.topic, service.clock);
        }
        service.counters.published(&published);
        Ok(Outcome::from(&published))
    }

    /// Sets what it says of itself: all who watch are told, so it is as fast as messages may be.
    fn update(&self, payload: &Payload, info: &Info) -> Result<Outcome, Stop> {
        if !payload.data.is_empty() {
            return Err(Refusal::info_with_data(payload.data.len()).into());
        }
        let session = self.session.as_ref().ok_or_else(Refusal::info_of_nobody)?;
        self.take_token(self.service.0.clock.now())?;
        session.update(info.json())?;
        self.service.0.counters.updated();
        Ok(Outcome::Info)
    }

    fn take_token(&self, now: Now) -> Result<(), Stop> {
        let origin = self.request.peer().connection_id();
        let (topics, own) = (&self.service.0.topics, self.own.as_deref());
        let token = topics.take_token(&self.topic, origin, own, now);
        token.map_err(|error| Stop::TooFast(error.wait))
    }
}

/// A member as its join sees it, in one poll.
struct Polled<'a, 'b> {
    member: &'a mut Member,
    cx: &'a mut Context<'b>,
}

impl Sender for Polled<'_, '_> {
    type Payload = Payload;

    fn next(&mut self) -> Next<Payload> {
        let Some(payloads) = &mut self.member.payloads else { return Next::Over };
        match Pin::new(payloads).poll_next(self.cx) {
            Poll::Ready(Some(Ok(payload))) => Next::Payload(payload),
            // Its sender has failed, and says so to itself; or the connection is over.
            Poll::Ready(Some(Err(_)) | None) => {
                self.member.payloads = None;
                Next::Over
            }
            Poll::Pending => Next::NotYet,
        }
    }

    fn publish(&mut self, payload: &Payload) -> Done {
        let member = &*self.member;
        let options = publish_options(form_of(&member.request), payload.metadata.as_ref());
        let (id, outcome) = match options {
            Ok(mut options) => {
                let outcome = match &options.info {
                    Some(info) => member.update(payload, info),
                    None => member.try_publish(payload, &options),
                };
                (options.id.take(), outcome)
            }
            Err(refusal) => (None, Err(refusal.into())),
        };
        // One that its stream fails with is counted there.
        if let Err(Stop::Refused(refusal)) = &outcome
            && member.is_told
        {
            member.service.0.counters.refused(refusal);
        }
        Done { id, outcome }
    }

    /// A copy: what was read with it does not wait.
    fn keep(&mut self, Payload { metadata, data }: Payload) -> Payload {
        let metadata = metadata.as_deref().map(Bytes::copy_from_slice);
        Payload { metadata, data: Bytes::copy_from_slice(&data) }
    }
}

impl Joined {
    /// Gives its join what was read for it from a disk, if anything is read. Whether nothing is any more.
    fn has_loaded(&mut self, topic: &Topic, cx: &mut Context<'_>) -> Result<bool, Refusal> {
        let Some(loading) = &mut self.loading else { return Ok(true) };
        let Poll::Ready(loaded) = loading.poll(cx) else { return Ok(false) };
        self.loading = None;
        // What had to go for others is asked for again.
        if let Some(loaded) = loaded {
            let (segment, next) = loaded?;
            self.join.give(segment, next, topic)?;
        }
        Ok(true)
    }

    /// Whether a payload that is held may be published by now. If not, it is polled when it may.
    fn is_paused(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(until) = self.join.held_until() else {
            self.pause = None;
            return false;
        };
        if self.pause.as_ref().is_none_or(|pause| pause.until != until) {
            let wait = until.since(self.member.service.0.clock.now().monotonic);
            self.pause = Some(Pause { until, sleep: Box::pin(sleep(wait)) });
        }
        self.pause.as_mut().is_some_and(|pause| pause.sleep.as_mut().poll(cx).is_pending())
    }

    /// Has it polled when the message is on disk whose answer is next, where it would not be otherwise.
    /// Whether it is there by now.
    fn has_committed(&mut self, topic: &Topic, filled: &Fill, cx: &Context<'_>) -> bool {
        let awaits = self.join.awaits(topic, filled);
        awaits.is_some_and(|offset| topic.poll_committed(offset, cx).is_ready())
    }

    fn try_fill(
        &mut self,
        out: &mut Outlet<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Poll<()>, Refusal> {
        let topic = Arc::clone(self.reader.topic());
        let service = self.member.service.clone();
        loop {
            let has_loaded = self.has_loaded(&topic, cx)?;
            let mut outgoing = Outgoing { out, service: &service };
            let mut member = Polled { member: &mut self.member, cx };
            if !has_loaded {
                self.join.take(&topic, &mut member, &outgoing)?;
                if self.join.held_until().is_none() || self.is_paused(cx) {
                    return Ok(Poll::Pending);
                }
                continue;
            }
            let filled = self.join.fill(&topic, &mut member, &mut outgoing);
            if let Some(next) = self.join.next() {
                self.reader.tell(next);
            }
            match filled {
                Fill::Failed(refusal) => return Err(refusal),
                Fill::Ended => return Ok(Poll::Ready(())),
                Fill::Stored(wanted) => {
                    let loading =
                        Loading::start(&service, &topic, wanted, Side::First, out.credit());
                    self.loading = Some(Box::new(loading));
                }
                Fill::NoRoom | Fill::CaughtUp
                    if self.join.held_until().is_some() && !self.is_paused(cx) => {}
                Fill::NoRoom => {
                    if !self.has_committed(&topic, &filled, cx) {
                        return Ok(Poll::Pending);
                    }
                }
                Fill::CaughtUp => {
                    out.wait_in(&self.group, cx);
                    self.reader.wait();
                    let has_committed = self.has_committed(&topic, &filled, cx);
                    // What came just before has woken nobody.
                    if topic.version() == self.join.seen() && !has_committed {
                        return Ok(Poll::Pending);
                    }
                }
            }
        }
    }
}

impl Feed for Joined {
    fn poll_fill(&mut self, out: &mut Outlet<'_>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match self.try_fill(out, cx) {
            Ok(Poll::Ready(())) => Poll::Ready(Ok(())),
            Ok(Poll::Pending) => Poll::Pending,
            Err(refusal) => Poll::Ready(Err(self.member.service.refuse(refusal))),
        }
    }

    fn is_endless(&self) -> bool {
        // Whoever has published waits for the answer.
        self.join.unanswered() == 0
    }
}
