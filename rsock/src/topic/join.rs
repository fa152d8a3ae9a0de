//! Joining: being present, receiving and sending under one name.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use serde_json::Value;

use super::{
    message::{Event, NewMessage, Published},
    position::Position,
    publisher::{PublishError, Publisher, PublisherBuilder, Receipt},
    subscription::{Start, Subscribe, Subscription, SubscriptionEvent},
};
use crate::{error::Error, requester::Requester};

/// The settings of a join: made by [`Topic::join`](super::Topic::join).
#[derive(Clone, Debug)]
#[must_use = "nothing is asked for before it is started and polled"]
pub struct Join {
    name: String,
    info: Option<Value>,
    is_present: bool,
    subscribe: Subscribe,
    publisher: PublisherBuilder,
}

impl Join {
    pub(super) fn new(requester: Requester, topic: Arc<str>, name: String) -> Self {
        let publisher = PublisherBuilder::new(requester.clone(), Arc::clone(&topic)).sender(&name);
        let subscribe = Subscribe::new(requester, topic).echo(false);
        Self { name, info: None, is_present: true, subscribe, publisher }
    }

    /// The description that is shown in presence: JSON of at most 1 KiB.
    pub fn info(mut self, info: impl Into<Value>) -> Self {
        self.info = Some(info.into());
        self
    }

    /// Whether it appears in presence: by default, it does.
    pub fn present(mut self, is_present: bool) -> Self {
        self.is_present = is_present;
        self
    }

    /// The place where receiving begins; by default with what is published from now on.
    pub fn from(mut self, start: impl Into<Start>) -> Self {
        self.subscribe = self.subscribe.from(start);
        self
    }

    /// Whether messages that were published on the same connection come back: by default, they do not. Those
    /// of another member that has joined on it are among these.
    pub fn echo(mut self, echo: bool) -> Self {
        self.subscribe = self.subscribe.echo(echo);
        self
    }

    /// Changes the settings of what receives, which has those of a subscription.
    pub fn receiving(mut self, change: impl FnOnce(Subscribe) -> Subscribe) -> Self {
        self.subscribe = change(self.subscribe);
        self
    }

    /// Changes the settings of what sends, which has those of a publisher.
    pub fn sending(mut self, change: impl FnOnce(PublisherBuilder) -> PublisherBuilder) -> Self {
        self.publisher = change(self.publisher);
        self
    }

    /// Tells what happens to it between its events, as [`Subscribe::observe`] does.
    pub fn observe(
        mut self,
        observer: impl Fn(&SubscriptionEvent) + Send + Sync + 'static,
    ) -> Self {
        self.subscribe = self.subscribe.observe(observer);
        self
    }

    /// Joins, when what this returns is polled.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(self) -> Joined {
        let Self { name, info, is_present, subscribe, publisher } = self;
        let events = subscribe.start().join(name, info, is_present);
        Joined { events, publisher: publisher.start() }
    }
}

/// A membership: a stream of the topic's events, and the way to publish under its name. It outlives
/// connections as a [`Subscription`] and a [`Publisher`] do, which it is made of: what is sent meanwhile waits,
/// and is published once. It ends, and the member leaves, when this is dropped.
///
/// It is present as long as it is polled or waits to be: joining happens in its first poll.
///
/// ```
/// use futures_util::TryStreamExt;
/// use rsock::{Client, topic::{Event, Start, Topic}};
///
/// # async fn run(client: &Client) -> Result<(), Box<dyn std::error::Error>> {
/// let mut room = Topic::new(client, "room.1").join("ann").from(Start::Last(10)).start();
/// let publisher = room.publisher();
/// tokio::spawn(async move { publisher.publish("hello, everybody").await });
/// while let Some(event) = room.try_next().await? {
///     if let Event::Message(message) = event {
///         println!("{}: {:?}", message.from.as_deref().unwrap_or("?"), message.data);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "nothing is asked for before it is polled"]
pub struct Joined {
    events: Subscription,
    publisher: Publisher,
}

impl Joined {
    /// The publisher under its name; it goes on when the membership has ended.
    pub fn publisher(&self) -> Publisher {
        self.publisher.clone()
    }

    /// Publishes a message, and waits for its acknowledgement. It may wait for its place behind what other
    /// handles of its publisher send.
    ///
    /// # Errors
    /// As for [`Publisher::publish`].
    pub async fn publish(&self, message: impl Into<NewMessage>) -> Result<Published, PublishError> {
        self.publisher.publish(message).await
    }

    /// Puts a message into the outbox, if there is a place for it now.
    ///
    /// # Errors
    /// As for [`Publisher::try_publish`].
    pub fn try_publish(&self, message: impl Into<NewMessage>) -> Result<Receipt, PublishError> {
        self.publisher.try_publish(message)
    }

    /// The position behind the last event that was yielded, as [`Subscription::position`] tells it.
    pub fn position(&self) -> Option<Position> {
        self.events.position()
    }

    /// Says this of itself from now on, as [`Join::info`] did before: those who watch are told of it. It is sent
    /// when the service asks for it; of several the newest counts, and that is what it says when it has to join
    /// again. `null` takes back what was said.
    ///
    /// # Errors
    /// It has more than 1 KiB, or the member does not appear in presence.
    pub fn update(&mut self, info: impl Into<Value>) -> Result<(), Error> {
        self.events.update(info.into())
    }

    /// Waits until it has joined, as [`Subscription::started`] does.
    ///
    /// # Errors
    /// Why it has not; it is over.
    pub async fn started(&mut self) -> Result<Position, Error> {
        self.events.started().await
    }
}

impl Stream for Joined {
    type Item = Result<Event, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.events).poll_next(cx)
    }
}
