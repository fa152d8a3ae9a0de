//! Subscriptions: the messages of a topic as a stream that outlives its connections.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use rsock_proto::Window;
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

use super::{
    asked::{Asked, Membership},
    message::Event,
    position::Position,
    retry::Retry,
    wire::{self, Item, Started},
};
use crate::{boxed::BoxFuture, error::Error, requester::Requester, streams::RequestStream};

/// The place where a subscription begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// At what is published from now on. What is published before the service has the request is not
    /// received: [`Subscription::started`] waits for that.
    #[default]
    New,
    /// At the oldest message that is kept.
    Oldest,
    /// At so many messages before the newest, 10,000 at most, as far as they are kept.
    Last(u64),
    /// Behind this one: as a stored position says. What is not kept any more is told as a gap, or a reset.
    After(Position),
    /// At the first message of this time or later, which is written as RFC 3339 has it:
    /// `2026-11-30T12:00:00Z`. A gap says so where some of them are not kept any more.
    Since(String),
}

impl From<Position> for Start {
    fn from(position: Position) -> Self {
        Self::After(position)
    }
}

/// Without a position, it begins with what is new.
impl From<Option<Position>> for Start {
    fn from(position: Option<Position>) -> Self {
        position.map_or(Self::New, Self::After)
    }
}

impl Serialize for Start {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::New => "new".serialize(serializer),
            Self::Oldest => "start".serialize(serializer),
            Self::Last(count) => one(serializer, "last", count),
            Self::Since(time) => one(serializer, "since", time),
            Self::After(position) => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("epoch", &position.epoch)?;
                map.serialize_entry("after", &position.offset)?;
                map.end()
            }
        }
    }
}

/// An object of one member.
fn one<S: Serializer>(
    serializer: S,
    name: &str,
    value: &impl Serialize,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry(name, value)?;
    map.end()
}

/// The policy for who is so slow that messages are dropped before they could be received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Lag {
    /// A gap is told, and what is kept follows.
    #[default]
    Gap,
    /// A gap is told, and the newest message follows.
    Latest,
    /// The subscription fails: `overrun`.
    Close,
    /// There is never more than one message waiting, the newest, which says how many were passed over.
    Conflate,
}

/// How much is said beside a message's data. There is no less than its offset: nobody could go on from what
/// has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Meta {
    /// All of it.
    #[default]
    Full,
    /// Its offset alone, which is some 60 bytes less.
    Offset,
}

/// Something that happens to a subscription between its events: for
/// [`Subscribe::observe`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscriptionEvent {
    /// The service has the request, and this is where it goes on: the first time, and behind each break.
    Started {
        /// The position, behind which events follow.
        position: Option<Position>,
    },
    /// It was broken off for this reason, and is asked for again when there is a connection.
    Lost(Error),
    /// The service refused it for now; it is asked for again after the pause.
    Refused {
        /// The refusal.
        error: Error,
        /// The time until then.
        pause: Duration,
    },
}

type OnReset = Arc<dyn Fn(Position) -> BoxFuture<Result<(), Error>> + Send + Sync>;
type OnEvent = Arc<dyn Fn(&SubscriptionEvent) + Send + Sync>;

/// The settings of a subscription: made by [`Topic::subscribe`](super::Topic::subscribe).
#[derive(Clone)]
#[must_use = "nothing is asked for before the subscription is polled"]
pub struct Subscribe {
    pub(super) requester: Requester,
    pub(super) asked: Asked,
    window: Option<Window>,
    on_reset: Option<OnReset>,
    observe: Option<OnEvent>,
}

impl Subscribe {
    pub(super) fn new(requester: Requester, topic: Arc<str>) -> Self {
        let asked = Asked::new(topic);
        Self { requester, asked, window: None, on_reset: None, observe: None }
    }

    /// The place where it begins; by default with what is published from now on. A stored [`Position`] goes on there.
    pub fn from(mut self, start: impl Into<Start>) -> Self {
        self.asked.from = start.into();
        self
    }

    /// The policy for a subscriber that is too slow: by default, a gap is told.
    pub fn lag(mut self, lag: Lag) -> Self {
        self.asked.lag = lag;
        self
    }

    /// So many messages behind the newest is too slow, however many more are kept. By default, there is no
    /// such bound.
    pub fn max_lag(mut self, messages: u64) -> Self {
        self.asked.max_lag = Some(messages);
        self
    }

    /// How much is said beside the data: by default, all.
    pub fn meta(mut self, meta: Meta) -> Self {
        self.asked.meta = meta;
        self
    }

    /// Whether messages that were published on the same connection come back: by default, they do. Those that
    /// were published on a connection before this one come back at any rate.
    pub fn echo(mut self, echo: bool) -> Self {
        self.asked.echo = echo;
        self
    }

    /// Whether [`Event::Live`] says that all there was has been received. By default, nothing says it.
    pub fn live(mut self, live: bool) -> Self {
        self.asked.live = live;
        self
    }

    /// Asks for events by this policy; by default, by that of the connection. What has arrived and was not
    /// taken is bounded by it.
    pub fn window(mut self, window: Window) -> Self {
        self.window = Some(window);
        self
    }

    /// Has the application load its state before it is given events that build on it: at the beginning, unless
    /// that is a stored position, and behind each gap and reset.
    ///
    /// The position is taken first. What is loaded then includes everything up to it, and perhaps more: what
    /// follows may be in the state already, and should do no harm twice. While it loads nothing is asked for;
    /// an error ends the subscription with it, and leaves the position where it was.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use futures_util::TryStreamExt;
    /// # use rsock::{Client, Error, topic::{Event, Topic}};
    /// # struct Board; impl Board {
    /// #     async fn load(&self) -> Result<(), Error> { Ok(()) }
    /// #     fn apply(&self, _: &[u8]) {}
    /// # }
    /// # async fn run(client: &Client, board: Arc<Board>) -> Result<(), Error> {
    /// let loads = Arc::clone(&board);
    /// let mut changes = Topic::new(client, "board.7").subscribe().on_reset(move |_| {
    ///     let board = Arc::clone(&loads);
    ///     async move { board.load().await }
    /// }).start();
    /// while let Some(event) = changes.try_next().await? {
    ///     if let Event::Message(change) = event {
    ///         board.apply(&change.data);
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_reset<F>(mut self, load: impl Fn(Position) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        self.on_reset = Some(Arc::new(move |position| Box::pin(load(position))));
        self
    }

    /// Tells what happens to the subscription between its events, while it is polled.
    pub fn observe(
        mut self,
        observer: impl Fn(&SubscriptionEvent) + Send + Sync + 'static,
    ) -> Self {
        self.observe = Some(Arc::new(observer));
        self
    }

    /// The subscription. Nothing is asked for before it is polled.
    pub fn start(self) -> Subscription {
        let Self { requester, asked, window, on_reset, observe } = self;
        let position = match &asked.from {
            Start::After(position) => Some(*position),
            _ => None,
        };
        Subscription {
            retry: Retry::new(requester),
            asked,
            window,
            on_reset,
            observe,
            position,
            is_provisional: false,
            epoch: None,
            loading: None,
            items: None,
            membership: None,
            is_over: false,
        }
    }
}

impl fmt::Debug for Subscribe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscribe").field("asked", &self.asked).finish_non_exhaustive()
    }
}

/// The events of a topic: a stream that keeps its position, and asks again after every break.
///
/// **Polling it is the credit**, as with every stream of this library: who is slow is sent no more than its
/// window holds, and costs the service nothing else.
///
/// **The position** is known as soon as the service has the request, before any message. It moves past an
/// event when that is yielded, and by nothing else: what has arrived and was not yielded is received again.
/// Whoever leaves within the handling of a message, drops the subscription and begins another at its
/// [`position`](Self::position), misses nothing and has nothing twice. To handle messages at least once
/// across a crash of one's own, store [`Message::position`](super::Message::position) behind the handling of
/// each.
///
/// **A break** is where the connection is lost, if the client [reconnects](crate::ClientBuilder::reconnect),
/// or the service refuses for now: it is asked again, behind the position. A refusal that stands (`INVALID`;
/// `REJECTED` with `no topic`, `no disk`, `not permitted`, `overrun`), and the end of the client, are yielded as an error,
/// behind which there is nothing. It completes when the topic is closed or deleted. The connection lasts as
/// long as a clone of its [`Client`](crate::Client) does, and closing that waits for open streams: drop the
/// subscription before.
///
/// ```
/// use futures_util::TryStreamExt;
/// use rsock::{Client, Error, Reconnect, topic::{Event, Start, Topic}};
///
/// # async fn run() -> Result<(), Error> {
/// let client = Client::builder().reconnect(Reconnect::new()).connect("tcp://127.0.0.1:7878").await?;
/// let mut room = Topic::new(&client, "room.1").subscribe().from(Start::Last(10)).start();
/// while let Some(event) = room.try_next().await? {
///     match event {
///         Event::Message(message) => println!("{}: {:?}", message.offset, message.data),
///         Event::Gap { from, to, .. } => println!("{} messages were missed", to - from + 1),
///         Event::Reset { .. } => println!("the topic began anew"),
///         _ => {}
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is asked for before the subscription is polled"]
pub struct Subscription {
    retry: Retry,
    asked: Asked,
    window: Option<Window>,
    on_reset: Option<OnReset>,
    observe: Option<OnEvent>,
    position: Option<Position>,
    /// A gap before it may follow: it is to be asked for as at first if this breaks before.
    is_provisional: bool,
    /// The numbering of the present stream.
    epoch: Option<super::Epoch>,
    /// The application loads its state.
    loading: Option<Loading>,
    items: Option<RequestStream>,
    /// Of a join: who is present as long as this is here.
    membership: Option<Membership>,
    is_over: bool,
}

/// The application loads its state; then the position is this, and the event is told.
struct Loading {
    load: BoxFuture<Result<(), Error>>,
    position: Position,
    event: Option<Event>,
}

impl Subscription {
    /// The position behind the last event that was yielded; `None` before the service has the first request.
    pub fn position(&self) -> Option<Position> {
        self.position.filter(|_| !self.is_provisional)
    }

    /// Waits until the service has the request: what is published from here on is received. Tells the
    /// position, behind which events follow.
    ///
    /// # Errors
    /// Why there is no subscription; it is over.
    pub async fn started(&mut self) -> Result<Position, Error> {
        std::future::poll_fn(|cx| self.poll_started(cx)).await
    }

    fn poll_started(&mut self, cx: &mut Context<'_>) -> Poll<Result<Position, Error>> {
        loop {
            if let (Some(position), Some(_), None) = (self.position, self.epoch, &self.loading) {
                return Poll::Ready(Ok(position));
            }
            if self.is_over {
                return Poll::Ready(Err(Error::rejected("the subscription is over")));
            }
            // No event comes before its start.
            if let Some(Err(error)) = ready!(self.poll_step(cx)) {
                return Poll::Ready(Err(error));
            }
        }
    }

    /// Goes on: an event, the end, or nothing to tell of.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event, Error>>> {
        loop {
            if self.is_over {
                return Poll::Ready(None);
            }
            if let Some(told) = ready!(self.poll_step(cx)) {
                return Poll::Ready(Some(told));
            }
        }
    }

    /// One step: something to tell, or none. At an error it is over.
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event, Error>>> {
        if let Some(loading) = &mut self.loading {
            let loaded = ready!(loading.load.as_mut().poll(cx));
            let Some(loading) = self.loading.take() else { return Poll::Ready(None) };
            if let Err(error) = loaded {
                return Poll::Ready(Some(Err(self.end(error))));
            }
            self.moves_to(loading.position);
            return Poll::Ready(loading.event.map(Ok));
        }
        let Some(items) = &mut self.items else {
            if let Err(error) = ready!(self.retry.poll_ready(cx)) {
                return Poll::Ready(Some(Err(self.end(error))));
            }
            let asked = self.ask();
            return Poll::Ready(asked.err().map(|error| Err(self.end(error))));
        };
        match ready!(Pin::new(items).poll_next(cx)) {
            Some(Ok(payload)) => {
                let told = match wire::item(payload, &self.asked.topic, self.epoch) {
                    Ok(Item::Started(started)) => self.has_started(started),
                    Ok(_) if self.epoch.is_none() => {
                        let problem = "the first one does not say where the stream starts";
                        Some(Err(self.end(wire::malformed("item", problem))))
                    }
                    Ok(Item::Event(event)) => self.receive(event).map(Ok),
                    Ok(Item::Unknown) => None,
                    Err(error) => Some(Err(self.end(error))),
                };
                Poll::Ready(told)
            }
            Some(Err(error)) => Poll::Ready(self.break_off(error).map(Err)),
            None => {
                self.over();
                Poll::Ready(None)
            }
        }
    }

    fn ask(&mut self) -> Result<(), Error> {
        self.retry.asks();
        let from = self.position().map(Start::After);
        let requester = self.retry.requester();
        let (items, membership) = self.asked.ask(requester, from)?;
        self.items = Some(match self.window {
            Some(window) => items.window(window),
            None => items,
        });
        self.membership = membership;
        Ok(())
    }

    /// The service has the request.
    fn has_started(&mut self, started: Started) -> Option<Result<Event, Error>> {
        self.epoch = Some(started.epoch);
        let begins = self.position().is_none();
        // Whoever asked for a position is told of what is missing since then, before that moves.
        if begins {
            let offset = started.next.saturating_sub(1);
            let position = Position { epoch: started.epoch, offset };
            // Of what was dropped since that time a gap tells, behind this.
            let is_provisional = matches!(self.asked.from, Start::Since(_));
            if let Some(on_reset) = &self.on_reset {
                let load = on_reset(position);
                self.loading = Some(Loading { load, position, event: None });
            } else {
                self.position = Some(position);
                self.is_provisional = is_provisional;
            }
        }
        self.tell(|subscription| SubscriptionEvent::Started { position: subscription.position });
        None
    }

    /// An event of the service, as it is told; none if it was received before.
    fn receive(&mut self, event: Event) -> Option<Event> {
        let is_of = |epoch| self.position.is_some_and(|position| position.epoch == epoch);
        match &event {
            Event::Message(message) => {
                let position = message.position();
                let is_known = is_of(position.epoch)
                    && self.position.is_some_and(|before| before.offset >= position.offset);
                if is_known {
                    return None;
                }
                self.moves_to(position);
                Some(event)
            }
            Event::Gap { to, .. } => {
                let epoch = self.epoch.or_else(|| self.position.map(|position| position.epoch))?;
                let to = match self.position {
                    Some(before) if before.epoch == epoch => before.offset.max(*to),
                    _ => *to,
                };
                self.missed(Position { epoch, offset: to }, event)
            }
            Event::Reset { epoch, base, .. } => {
                self.epoch = Some(*epoch);
                self.missed(Position { epoch: *epoch, offset: base.saturating_sub(1) }, event)
            }
            Event::Ephemeral(_) | Event::Live { .. } => Some(event),
        }
    }

    /// Something is missing before this position: the application loads its state, if it has any, and is told.
    fn missed(&mut self, position: Position, event: Event) -> Option<Event> {
        let Some(on_reset) = &self.on_reset else {
            self.moves_to(position);
            return Some(event);
        };
        let load = on_reset(position);
        self.loading = Some(Loading { load, position, event: Some(event) });
        None
    }

    fn moves_to(&mut self, position: Position) {
        self.position = Some(position);
        self.is_provisional = false;
    }

    /// The stream has failed: it is asked for again, unless this is the error to end with.
    fn break_off(&mut self, error: Error) -> Option<Error> {
        self.items = None;
        self.membership = None;
        self.epoch = None;
        match self.retry.failed(error.clone()) {
            Ok(Some(pause)) => self.tell(|_| SubscriptionEvent::Refused { error, pause }),
            Ok(None) => self.tell(|_| SubscriptionEvent::Lost(error)),
            Err(error) => return Some(self.end(error)),
        }
        None
    }

    fn over(&mut self) {
        self.is_over = true;
        self.items = None;
        self.membership = None;
    }

    fn end(&mut self, error: Error) -> Error {
        self.over();
        error
    }

    fn tell(&self, event: impl FnOnce(&Self) -> SubscriptionEvent) {
        if let Some(observe) = &self.observe {
            observe(&event(self));
        }
    }

    /// Says this of its member from now on.
    pub(super) fn update(&mut self, info: Value) -> Result<(), Error> {
        let info = self.asked.update(info)?;
        if let Some(membership) = &self.membership {
            membership.update(info);
        }
        Ok(())
    }

    /// Asks as a member with this name, who is present as long as this is here.
    pub(super) fn join(mut self, name: String, info: Option<Value>, is_present: bool) -> Self {
        self.asked.join(name, info, is_present);
        self
    }
}

impl Stream for Subscription {
    type Item = Result<Event, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_event(cx)
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("asked", &self.asked)
            .field("position", &self.position())
            .finish_non_exhaustive()
    }
}
