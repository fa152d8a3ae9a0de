//! `topic.{name}` as a request-channel: a member, who publishes and receives under one name.

mod answers;

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use rsock::{Error, Feed, Outlet, Payload, Payloads, Request, SharedPayload, WakeGroup};
use tokio::time::{Sleep, sleep};

use self::answers::{Answer, Answers, Outcome};
use super::{
    Action, PresenceSession, Service, form_of, kept,
    loading::{Loading, Side},
    name_of,
    publish::publish_options,
    pump::pump,
    subscribe::Outgoing,
};
use crate::{
    cursor::{Cursor, Fill, Shape, Sink},
    entry::{Entry, Message, Room},
    options::{Info, JoinOptions, PublishOptions},
    position::Offset,
    refusal::Refusal,
    registry::{Maker, Reader},
    settings::Kind,
    time::Now,
    topic::{Ended, Topic},
};

/// Payloads that a member may send before they are answered.
const WINDOW: usize = 64;
/// The same where each is written to disk first: credit that was granted cannot be taken back.
const DURABLE_WINDOW: usize = 8;

/// A member.
pub(super) struct Join {
    service: Service,
    /// The request that it joined with.
    request: Request,
    member: Member,
    /// None when it sends no more.
    payloads: Option<Payloads>,
    held: Option<Held>,
    answers: Answers,
    /// None if it does not receive messages.
    cursor: Option<Cursor>,
    reader: Reader,
    group: Arc<WakeGroup>,
    /// Messages that are read for it from a disk.
    loading: Option<Box<Loading>>,
    /// The message of which its disk tells it itself: passes over all who wait may come later.
    awaited: Option<Offset>,
    /// Others see that it is there for as long as this is.
    session: Option<PresenceSession>,
}

/// A payload that came sooner than a rate allows: those behind it wait, and their sender is asked for no more.
/// It is a copy: what was read with it does not wait.
struct Held {
    payload: Payload,
    pause: Pin<Box<Sleep>>,
}

/// The reason why a payload is not published.
enum Stop {
    Refused(Refusal),
    TooFast(Duration),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The names of a member.
struct Member {
    /// That which it is known by in the topic.
    name: Box<str>,
    /// That which is authenticated.
    own: Option<Box<str>>,
    /// The number of its join.
    join: u32,
}

impl Service {
    pub(super) fn join(&self, request: Request, payloads: Payloads) -> Result<Join, Refusal> {
        let options = JoinOptions::parse(request.data())?;
        let topic = self.topic_to_read(&request, Action::Join, &options.subscribe)?;
        let own = name_of(&request).map(Box::from);
        let name = match (options.name.as_deref(), own.as_deref()) {
            (Some(name), Some(own)) if name != own => {
                return Err(Refusal::not_own_name(name, own));
            }
            (Some(name), _) | (None, Some(name)) => name.into(),
            (None, None) => return Err(Refusal::no_name()),
        };
        let (receive, form) = (options.receive, form_of(&request));
        if receive.has_messages() {
            self.0.permit.permits(&request, Action::Subscribe, &topic)?;
        }
        if receive.has_acks() && form.is_none() {
            return Err(Refusal::no_metadata("the answer to a payload"));
        }
        let (reader, group) = self.reader(&request, &topic)?;
        let member = Member { name, own, join: self.new_join() };
        let cursor = match receive.has_messages() {
            true => Some(self.cursor(&request, reader.topic(), &options.subscribe)?),
            false => None,
        };
        // Last, so that nobody is seen who does not join.
        let session = match options.is_present {
            true => Some(self.appear(&request, &topic, &member.name, options.info.as_deref())?),
            false => None,
        };
        let is_seen = session.as_ref().is_none_or(|session| !session.is_full());
        let leaves_out_own = !receive.has_acks();
        let cursor = cursor.map(|cursor| cursor.of_join(member.join, leaves_out_own, is_seen));
        let window = match reader.topic().settings().kind {
            Kind::Durable => DURABLE_WINDOW,
            _ => WINDOW,
        };
        let begin = cursor.as_ref().map(Cursor::next);
        Ok(Join {
            service: self.clone(),
            answers: Answers::new(receive, form, reader.topic().epoch(), window, begin),
            payloads: Some(payloads.credit(window as u32)),
            held: None,
            request: kept(request),
            member,
            cursor,
            reader,
            group,
            loading: None,
            awaited: None,
            session,
        })
    }

    /// A number that no other join has, but for one of four thousand million joins ago.
    fn new_join(&self) -> u32 {
        let number = || self.0.joins.fetch_add(1, Relaxed).wrapping_add(1);
        // 0 is none.
        Some(number()).filter(|number| *number != 0).unwrap_or_else(number)
    }
}

/// The way in which payloads came to an end for now.
#[derive(PartialEq, Eq)]
enum Taken {
    /// There are none, or it sends no more.
    All,
    /// Too many wait for their answers.
    Full,
}

impl Join {
    /// Publishes what has come, as far as there is room for the answers.
    fn take_payloads(&mut self, cx: &mut Context<'_>) -> Result<Taken, Refusal> {
        loop {
            if self.answers.is_full() {
                return Ok(Taken::Full);
            }
            // What comes now is not for the next topic of this name.
            if self.reader.topic().ended() == Ended::Deleted {
                return Ok(Taken::All);
            }
            let payload = match (self.held.take(), &mut self.payloads) {
                (Some(mut held), _) => match held.pause.as_mut().poll(cx) {
                    Poll::Ready(()) => held.payload,
                    Poll::Pending => {
                        self.held = Some(held);
                        return Ok(Taken::All);
                    }
                },
                (None, Some(payloads)) => match Pin::new(payloads).poll_next(cx) {
                    Poll::Ready(Some(Ok(payload))) => payload,
                    // Its sender has failed, and says so to itself; or the connection is over.
                    Poll::Ready(Some(Err(_)) | None) => {
                        self.payloads = None;
                        return Ok(Taken::All);
                    }
                    Poll::Pending => return Ok(Taken::All),
                },
                (None, None) => return Ok(Taken::All),
            };
            self.take(payload)?;
        }
    }

    /// Does what a payload says, and keeps the answer.
    fn take(&mut self, payload: Payload) -> Result<(), Refusal> {
        let options = publish_options(form_of(&self.request), payload.metadata.as_ref());
        let (id, done) = match options {
            Ok(mut options) => {
                let done = match &options.info {
                    Some(info) => self.update(&payload, info),
                    None => self.publish(&payload, &options),
                };
                (options.id.take(), done)
            }
            Err(refusal) => (None, Err(refusal.into())),
        };
        let outcome = match done {
            Ok(outcome) => outcome,
            Err(Stop::TooFast(wait)) => {
                let metadata = payload.metadata.as_deref().map(Bytes::copy_from_slice);
                let data = Bytes::copy_from_slice(&payload.data);
                let payload = Payload { metadata, data };
                self.held = Some(Held { payload, pause: Box::pin(sleep(wait)) });
                return Ok(());
            }
            // A loss that nobody hears of would be worse than the end.
            Err(Stop::Refused(refusal)) if !self.answers.are_told() => return Err(refusal),
            Err(Stop::Refused(refusal)) => {
                self.service.0.counters.refused(&refusal);
                Outcome::Refused(refusal)
            }
        };
        self.answers.push(Answer { id, outcome });
        Ok(())
    }

    /// Sets what its member says of itself: all who watch are told, so it is as fast as messages may be.
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
        let (topic, own) = (self.reader.topic(), self.member.own.as_deref());
        let token = self.service.0.topics.take_token(topic, origin, own, now);
        token.map_err(|error| Stop::TooFast(error.wait))
    }

    fn publish(&self, payload: &Payload, options: &PublishOptions) -> Result<Outcome, Stop> {
        let (service, topic) = (&self.service.0, self.reader.topic());
        let Member { name, own, join } = &self.member;
        let (own, origin) = (own.as_deref(), self.request.peer().connection_id());
        self.service.check_publish(&self.request, options.is_ephemeral, topic.name())?;
        let from = options.from.as_deref().unwrap_or(name);
        if from != &**name {
            service.permit.permits(&self.request, Action::PublishAs, topic.name())?;
        }
        let now = service.clock.now();
        self.take_token(now)?;
        let data = &payload.data;
        let message = Message { data, from: Some(from), origin, join: *join, ..Message::default() };
        let publish = self.service.to_publish(topic.name(), own, message, options);
        let maker = Maker::of(origin, own);
        let (published, topic) = service.topics.append(Arc::clone(topic), maker, &publish, now)?;
        if published.pump {
            pump(&topic, service.clock);
        }
        service.counters.published(&published);
        Ok(match published.offset {
            Some(offset) if published.is_duplicate => Outcome::Known(offset),
            Some(offset) => Outcome::Appended(offset),
            None => Outcome::Event,
        })
    }

    /// Sends messages and answers, as long as there is room.
    fn send(&mut self, topic: &Topic, out: &mut Outlet<'_>) -> Result<Fill, Refusal> {
        let (answers, join) = (&mut self.answers, self.member.join);
        // Nothing is committed behind a failure.
        let (failure, visible) = (topic.failure(), topic.visible());
        if let Some(refusal) = failure.filter(|failure| answers.fail(visible, failure)) {
            return Err(refusal);
        }
        let out = Outgoing { out, service: &self.service };
        let mut sink = Inbox { out, answers, visible, join, failure: None };
        let filled = match &mut self.cursor {
            Some(cursor) => {
                let filled = cursor.fill(topic, &mut sink);
                sink.answers.pass(cursor.next());
                self.reader.tell(cursor.next());
                filled
            }
            None if topic.ended() == Ended::Deleted => Fill::Ended,
            None => Fill::CaughtUp,
        };
        let is_failed = matches!(filled, Fill::Failed(_));
        let is_whole = is_failed || sink.answer();
        match sink.failure {
            Some(refusal) => Err(refusal),
            None => Ok(if is_whole { filled } else { Fill::NoRoom }),
        }
    }

    /// Gives its cursor what was read for it from a disk, if anything is read. Whether nothing is any more.
    fn has_loaded(&mut self, topic: &Topic, cx: &mut Context<'_>) -> Result<bool, Refusal> {
        let Some(loading) = &mut self.loading else { return Ok(true) };
        let Poll::Ready(loaded) = loading.poll(cx) else { return Ok(false) };
        self.loading = None;
        // What had to go for others is asked for again.
        if let (Some(loaded), Some(cursor)) = (loaded, &mut self.cursor) {
            let (segment, next) = loaded?;
            cursor.give(segment, next, topic)?;
        }
        Ok(true)
    }

    /// Has it polled when the message is on disk whose answer is next, where passes are paced.
    fn await_commit(&mut self, topic: &Topic, cx: &Context<'_>) {
        let is_paced = topic.is_durable() && !topic.settings().coalesce.is_zero();
        let awaits = if is_paced { self.answers.awaits(topic.visible()) } else { None };
        // Once for each: whoever asks again and again leaves no more behind.
        if let Some(offset) = awaits.filter(|_| awaits != self.awaited) {
            // What comes meanwhile is seen by the version, as below.
            let _ = topic.poll_committed(offset, cx);
        }
        self.awaited = awaits;
    }

    fn try_fill(
        &mut self,
        out: &mut Outlet<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Poll<()>, Refusal> {
        let topic = Arc::clone(self.reader.topic());
        loop {
            let version = topic.version();
            if !self.has_loaded(&topic, cx)? {
                self.take_payloads(cx)?;
                return Ok(Poll::Pending);
            }
            let taken = self.take_payloads(cx)?;
            let filled = self.send(&topic, out)?;
            match filled {
                Fill::Failed(refusal) => return Err(refusal),
                Fill::Ended => return Ok(Poll::Ready(())),
                Fill::Stored(wanted) => {
                    let loading =
                        Loading::start(&self.service, &topic, wanted, Side::First, out.credit());
                    self.loading = Some(Box::new(loading));
                }
                Fill::NoRoom | Fill::CaughtUp
                    if taken == Taken::Full && !self.answers.is_full() => {}
                Fill::NoRoom => return Ok(Poll::Pending),
                Fill::CaughtUp => {
                    if self.payloads.is_none() && self.held.is_none() && self.answers.is_all() {
                        return Ok(Poll::Ready(()));
                    }
                    out.wait_in(&self.group, cx);
                    self.reader.wait();
                    self.await_commit(&topic, cx);
                    // What came just before has woken nobody.
                    if topic.version() == version {
                        return Ok(Poll::Pending);
                    }
                }
            }
        }
    }
}

impl Feed for Join {
    fn poll_fill(&mut self, out: &mut Outlet<'_>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match self.try_fill(out, cx) {
            Ok(Poll::Ready(())) => Poll::Ready(Ok(())),
            Ok(Poll::Pending) => Poll::Pending,
            Err(refusal) => Poll::Ready(Err(self.service.refuse(refusal))),
        }
    }
}

/// The stream to a member: messages, and answers between them.
struct Inbox<'a, 'b> {
    out: Outgoing<'a, 'b>,
    answers: &'a mut Answers,
    /// The end of what is committed.
    visible: Offset,
    join: u32,
    /// The reason why an answer could not be sent: the stream is about to fail with it.
    failure: Option<Refusal>,
}

impl Inbox<'_, '_> {
    /// Sends the answers that are due. Whether there was room for all of them.
    fn answer(&mut self) -> bool {
        while self.failure.is_none() && self.answers.is_due(self.visible) {
            if self.answers.are_told() && !self.out.has_room() {
                return false;
            }
            if let Some(item) = self.answers.next() {
                self.failure = self.out.send(&item).err();
            }
        }
        self.failure.is_none()
    }
}

impl Sink for Inbox<'_, '_> {
    fn has_room(&mut self) -> bool {
        self.answer() && self.out.has_room()
    }

    fn send(&mut self, item: &SharedPayload) -> Result<(), Refusal> {
        self.out.send(item)
    }

    fn send_entry(&mut self, entry: &Entry, shape: Shape, room: &Room<'_>) -> Result<(), Refusal> {
        if entry.join != self.join && !self.answers.await_stored(entry) {
            self.out.send_entry(entry, shape, room)?;
        } else {
            let own = self.answers.shown_as(entry, shape);
            self.out.send(&own)?;
        }
        self.answers.pass(entry.offset.next());
        Ok(())
    }

    fn now(&self) -> Now {
        self.out.now()
    }

    fn missed(&mut self, messages: u64) {
        self.out.missed(messages);
    }
}
