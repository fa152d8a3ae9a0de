//! Topics: publish and subscribe, presence and history, at a service that has them, as `rsockd` does.
//!
//! A topic is a log of messages. Who publishes is told where a message went; who subscribes receives each
//! message once and in order, and is told what is missing where it was away for too long. Both keep at it when
//! connections break, if the client [reconnects](crate::ClientBuilder::reconnect).
//!
//! | to | |
//! |---|---|
//! | receive | [`Topic::subscribe`]: a stream that keeps its position |
//! | publish | [`Topic::publish`] once; [`Topic::publisher`], with an outbox, where nothing is to be lost |
//! | be present, and chat | [`Topic::join`] |
//! | see who is there | [`Topic::presence`] |
//! | look back | [`Topic::history`] |
//! | list topics | [`topics`] |
//!
//! The options of requests, and what is said beside messages, go as JSON in composite metadata: the
//! connection's metadata type must be composite, as it is by default.
//! [docs/topics.md](https://github.com/rsock/rsock/blob/main/docs/topics.md) teaches all of it, and has the
//! form on the wire.

mod asked;
mod history;
mod join;
mod list;
mod message;
mod outbox;
mod position;
mod presence;
mod publisher;
mod retry;
mod subscription;
mod wire;

use std::{fmt, sync::Arc};

pub use self::{
    history::{History, HistoryEvents, HistoryPage},
    join::{Join, Joined},
    list::{TopicInfo, Topics, topics},
    message::{Ephemeral, Event, Message, NewMessage, Published},
    position::{Epoch, NotAPosition, Position},
    presence::{Member, Members, Presence, PresenceEvent, PresenceEvents},
    publisher::{PublishError, Publisher, PublisherBuilder, PublisherCounts, Receipt},
    subscription::{Lag, Meta, Start, Subscribe, Subscription, SubscriptionEvent},
};
use crate::{error::Error, requester::Requester};

/// A topic of the service at the other end of a connection. Cheap to clone.
///
/// It does not keep the connection open: a clone of the [`Client`](crate::Client) does.
#[derive(Clone)]
pub struct Topic {
    requester: Requester,
    name: Arc<str>,
}

impl Topic {
    /// The topic of this name: tokens of `A-Z a-z 0-9 _ -`, joined by dots, of 200 bytes at most. The service
    /// refuses others.
    pub fn new(requester: &Requester, name: impl Into<Arc<str>>) -> Self {
        Self { requester: requester.clone(), name: name.into() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Receives its messages: the settings of a subscription.
    pub fn subscribe(&self) -> Subscribe {
        Subscribe::new(self.requester.clone(), Arc::clone(&self.name))
    }

    /// Publishes a message once, and tells where it went. Where this fails with the connection it is not known
    /// whether it was published: the same message again, if it has an [`id`](NewMessage::id), is published once.
    ///
    /// # Errors
    /// The refusal: `INVALID` for what can never be published, `REJECTED` for what was not, and
    /// `APPLICATION_ERROR` where the outcome is not known.
    pub async fn publish(&self, message: impl Into<NewMessage>) -> Result<Published, Error> {
        let request = wire::publish(&self.name, &message.into())?;
        wire::published(&self.requester.request_response(request).await?)
    }

    /// Sends an event that is not kept, such as that somebody types: to those who subscribe now and keep up,
    /// behind what was published before. Of 64 KiB at most; by its key, a newer one takes the place of one that
    /// waits.
    ///
    /// # Errors
    /// The refusal, as for [`publish`](Self::publish).
    pub async fn signal(&self, event: impl Into<NewMessage>) -> Result<(), Error> {
        let request = wire::publish(&self.name, &event.into().ephemeral())?;
        self.requester.request_response(request).await.map(drop)
    }

    /// Publishes what is not to be lost: the settings of a publisher with an outbox.
    pub fn publisher(&self) -> PublisherBuilder {
        PublisherBuilder::new(self.requester.clone(), Arc::clone(&self.name))
    }

    /// Is present under this name, receives, and publishes: the settings of a join. The name is the
    /// authenticated one, where there is one.
    pub fn join(&self, name: impl Into<String>) -> Join {
        Join::new(self.requester.clone(), Arc::clone(&self.name), name.into())
    }

    /// Asks who is present.
    pub fn presence(&self) -> Presence {
        Presence::new(self.requester.clone(), &self.name)
    }

    /// Asks for what is kept.
    pub fn history(&self) -> History {
        History::new(self.requester.clone(), Arc::clone(&self.name))
    }

    /// Has the service drop all that is kept. Offsets go on, and subscribers are told of a gap.
    ///
    /// # Errors
    /// The refusal.
    pub async fn purge(&self) -> Result<(), Error> {
        self.administer("purge").await
    }

    /// Deletes the topic: who subscribes to it completes.
    ///
    /// # Errors
    /// The refusal.
    pub async fn delete(&self) -> Result<(), Error> {
        self.administer("delete").await
    }

    async fn administer(&self, act: &str) -> Result<(), Error> {
        let name = &*self.name;
        let request = wire::request("topics", &serde_json::json!({ act: name }))?;
        self.requester.request_response(request).await.map(drop)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic").field("name", &self.name).finish_non_exhaustive()
    }
}
