//! Presence: who is there, and who comes and goes.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use rsock_proto::Payload;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{retry::Retry, wire};
use crate::{error::Error, requester::Requester, streams::RequestStream};

/// Members of a topic, some or all.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Members {
    /// They, ordered by name; none where they were to be counted alone.
    #[serde(default)]
    pub members: Vec<Member>,
    /// How many there are in all.
    pub total: u64,
    /// The name behind which there are more.
    #[serde(default)]
    pub next: Option<String>,
}

/// A member: a name that is present while it has a session.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Member {
    /// The name.
    pub name: String,
    /// How many sessions it has: each is a join, of whichever device.
    #[serde(default)]
    pub sessions: u64,
    /// The time since when it is present, in milliseconds since 1970.
    #[serde(default)]
    pub since: u64,
    /// The JSON by which it describes itself.
    #[serde(default)]
    pub info: Option<Value>,
    /// Its connection is lost, and may come back.
    #[serde(default)]
    pub away: bool,
}

/// A question for the members of a topic: made by [`Topic::presence`](super::Topic::presence).
#[derive(Clone)]
#[must_use]
pub struct Presence {
    requester: Requester,
    route: Arc<str>,
    options: PresenceOptions,
}

#[derive(Clone, Debug, Default, Serialize)]
struct PresenceOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    count: bool,
    #[serde(skip_serializing_if = "is_false")]
    away: bool,
    #[serde(skip_serializing_if = "is_false")]
    each: bool,
}

fn is_false(is: &bool) -> bool {
    !is
}

impl Presence {
    pub(super) fn new(requester: Requester, topic: &str) -> Self {
        let route = format!("presence.{topic}").into();
        Self { requester, route, options: PresenceOptions::default() }
    }

    /// How many members a page has at most. Default 100.
    pub fn limit(mut self, members: u32) -> Self {
        self.options.limit = Some(members);
        self
    }

    /// The members behind this name: the next page.
    pub fn after(mut self, name: impl Into<String>) -> Self {
        self.options.after = Some(name.into());
        self
    }

    /// Whether who watches is told that a member's connection is lost and may come back, and of its return.
    pub fn away(mut self, away: bool) -> Self {
        self.options.away = away;
        self
    }

    /// Whether who watches is told of each session of a member. By default, of the first and the last.
    pub fn each(mut self, each: bool) -> Self {
        self.options.each = each;
        self
    }

    /// A page of the members there are now.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn members(&self) -> Result<Members, Error> {
        let options = PresenceOptions { away: false, each: false, ..self.options.clone() };
        let request = wire::request(&self.route, &options)?;
        wire::answer(&self.requester.request_response(request).await?)
    }

    /// How many members there are now.
    ///
    /// # Errors
    /// Why that is not told.
    pub async fn count(&self) -> Result<u64, Error> {
        let options = PresenceOptions { count: true, ..PresenceOptions::default() };
        let request = wire::request(&self.route, &options)?;
        let members: Members = wire::answer(&self.requester.request_response(request).await?)?;
        Ok(members.total)
    }

    /// Watches the members: those there are, then that these are all, then who comes and goes. It is asked
    /// again after every break, as a [`Subscription`](super::Subscription) is, and begins
    /// [anew](PresenceEvent::Anew) then.
    ///
    /// ```
    /// use std::collections::BTreeSet;
    ///
    /// use futures_util::TryStreamExt;
    /// use rsock::{Client, Error, topic::{PresenceEvent, Topic}};
    ///
    /// # async fn run(client: &Client) -> Result<(), Error> {
    /// let mut here = BTreeSet::new();
    /// let mut events = Topic::new(client, "room.1").presence().watch();
    /// while let Some(event) = events.try_next().await? {
    ///     match event {
    ///         PresenceEvent::Anew => here.clear(),
    ///         PresenceEvent::Here(member) | PresenceEvent::Join(member) => {
    ///             here.insert(member.name);
    ///         }
    ///         PresenceEvent::Leave { name, .. } => {
    ///             here.remove(&name);
    ///         }
    ///         _ => {}
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch(self) -> PresenceEvents {
        let Self { requester, route, mut options } = self;
        (options.limit, options.after) = (None, None);
        PresenceEvents { retry: Retry::new(requester), route, options, items: None, is_over: false }
    }
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence").field("route", &self.route).finish_non_exhaustive()
    }
}

/// An event that is told to whoever watches the members of a topic.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum PresenceEvent {
    /// It was broken off, or its reader was too slow: what was told before may be true no more, and all
    /// members are told again.
    Anew,
    /// A member that is there.
    Here(Member),
    /// All who are there have been told; what follows has changed since.
    All {
        /// How many there are.
        total: u64,
    },
    /// A member has come.
    Join(Member),
    /// A member has gone.
    Leave {
        /// Its name.
        name: String,
        /// The node of the service that it was at is lost, and it with that.
        is_node_lost: bool,
    },
    /// A member says something else of itself.
    Update(Member),
    /// The connection of a member is lost, and may come back.
    Away {
        /// Its name.
        name: String,
    },
    /// The connection of a member has come back.
    Back {
        /// Its name.
        name: String,
    },
}

#[derive(Deserialize)]
struct Told {
    event: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    sessions: u64,
    #[serde(default)]
    since: u64,
    info: Option<Value>,
    #[serde(default)]
    away: bool,
    #[serde(default)]
    total: u64,
    #[serde(default)]
    node: bool,
}

/// An item of the stream; none that is newer than this client.
fn event(payload: &Payload) -> Result<Option<PresenceEvent>, Error> {
    let told: Told = wire::beside(payload)?;
    let Told { name, sessions, since, info, away, total, node, .. } = told;
    let member = |name| Member { name, sessions, since, info, away };
    Ok(Some(match told.event.as_str() {
        // The service had more changes than it keeps for whoever is slow.
        "reset" => PresenceEvent::Anew,
        "here" => PresenceEvent::Here(member(name)),
        "all" => PresenceEvent::All { total },
        "join" => PresenceEvent::Join(member(name)),
        "leave" => PresenceEvent::Leave { name, is_node_lost: node },
        "update" => PresenceEvent::Update(member(name)),
        "away" => PresenceEvent::Away { name },
        "back" => PresenceEvent::Back { name },
        _ => return Ok(None),
    }))
}

/// The members of a topic as they come and go. Made by [`Presence::watch`].
#[must_use = "nothing is asked for before it is polled"]
pub struct PresenceEvents {
    retry: Retry,
    route: Arc<str>,
    options: PresenceOptions,
    items: Option<RequestStream>,
    is_over: bool,
}

impl PresenceEvents {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<PresenceEvent>, Error>> {
        loop {
            let Some(items) = &mut self.items else {
                ready!(self.retry.poll_ready(cx))?;
                self.retry.asks();
                let request = wire::request(&self.route, &self.options)?;
                self.items = Some(self.retry.requester().request_stream(request));
                continue;
            };
            match ready!(Pin::new(items).poll_next(cx)) {
                Some(Ok(payload)) => {
                    let Some(event) = event(&payload)? else { continue };
                    return Poll::Ready(Ok(Some(event)));
                }
                Some(Err(error)) => {
                    self.items = None;
                    self.retry.failed(error)?;
                    return Poll::Ready(Ok(Some(PresenceEvent::Anew)));
                }
                None => return Poll::Ready(Ok(None)),
            }
        }
    }
}

impl Stream for PresenceEvents {
    type Item = Result<PresenceEvent, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let told = ready!(self.poll_event(cx)).transpose();
        self.is_over = !matches!(told, Some(Ok(_)));
        Poll::Ready(told)
    }
}

impl fmt::Debug for PresenceEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresenceEvents").field("route", &self.route).finish_non_exhaustive()
    }
}
