//! `topics`: the topics there are, with their figures; and what is done to them.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll},
};

use rsock::{Error, Feed, MethodRoute, Outlet, Payload, Request, request_response};
use serde::Serialize;

use super::{Action, Service, kept, pump::pump};
use crate::{
    name::TopicName,
    options::TopicsOptions,
    position::{Epoch, Offset},
    refusal::Refusal,
    topic::Topic,
};

/// Topics of one answer.
const PAGE: usize = 100;
/// Topics that are looked at before others have their turn. Most may be hidden from who asks.
const PORTION: usize = 256;
/// The actions that show a topic to whoever is permitted one of them.
const SHOWN_TO: [Action; 6] = [
    Action::Subscribe,
    Action::Publish,
    Action::History,
    Action::Join,
    Action::Presence,
    Action::Signal,
];

/// A topic's figures.
#[derive(Serialize)]
struct Figures<'a> {
    topic: &'a str,
    kind: &'static str,
    epoch: Epoch,
    base: Offset,
    head: Offset,
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscribers: Option<usize>,
    publishes_per_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    slowest: Option<Slowest>,
}

/// The reader that is furthest behind.
#[derive(Serialize)]
struct Slowest {
    behind: u64,
}

/// The first topics, and whether there are more.
#[derive(Serialize)]
struct Page<'a> {
    topics: Vec<Figures<'a>>,
    more: bool,
}

/// The position of a topic after something was done to it.
#[derive(Serialize)]
struct Done<'a> {
    topic: &'a str,
    epoch: Epoch,
    /// The offset that the next message gets.
    next: Offset,
}

impl Service {
    pub(super) fn list_route<S: Clone + Send + Sync + 'static>(&self) -> MethodRoute<S> {
        let (pages, streams) = (self.clone(), self.clone());
        request_response(move |_: S, request: Request| {
            let pages = pages.clone();
            async move { pages.topics_page(&request).await.map_err(|refusal| pages.refuse(refusal)) }
        })
        .stream_feed(move |_, request: Request| {
            streams.list(request).map_err(|refusal| streams.refuse(refusal))
        })
        .about("the topics there are, with their figures; {\"prefix\":\"room.\"} for some")
    }

    async fn topics_page(&self, request: &Request) -> Result<Payload, Refusal> {
        match TopicsOptions::parse(request.data())? {
            TopicsOptions::List { prefix } => Ok(self.first_topics(request, prefix).await),
            TopicsOptions::Purge(name) => {
                let topic = self.to_administer(request, &name)?;
                if topic.purge()? {
                    pump(&topic, self.0.clock);
                }
                self.done(&topic).await
            }
            TopicsOptions::Delete(name) => {
                self.to_administer(request, &name)?;
                let deleted = self.0.topics.delete(&name, self.0.clock.now())?;
                let (topic, is_waited_for) = deleted.ok_or_else(|| Refusal::no_topic(&name))?;
                if is_waited_for {
                    pump(&topic, self.0.clock);
                }
                self.done(&topic).await
            }
        }
    }

    /// The answer to what was done to a topic: it holds over a crash, if the topic itself does.
    async fn done(&self, topic: &Topic) -> Result<Payload, Refusal> {
        if topic.is_durable() {
            self.on_disk().await?;
        }
        let (epoch, next) = (topic.epoch(), topic.visible());
        let done = Done { topic: topic.name().as_str(), epoch, next };
        // Names and numbers can be written as JSON.
        Ok(Payload::new(serde_json::to_vec(&done).unwrap_or_default()))
    }

    fn to_administer(&self, request: &Request, name: &TopicName) -> Result<Arc<Topic>, Refusal> {
        self.permit(request, Action::Admin, name)?;
        self.0.topics.find(name).ok_or_else(|| Refusal::no_topic(name))
    }

    async fn first_topics(&self, request: &Request, prefix: Box<str>) -> Payload {
        let mut walk = Walk::new(self.clone(), prefix);
        let mut topics = Vec::new();
        while topics.len() <= PAGE {
            match walk.next(request) {
                Walked::Topic(topic) => topics.push(topic),
                Walked::Hidden => tokio::task::yield_now().await,
                Walked::End => break,
            }
        }
        let more = topics.len() > PAGE;
        let topics =
            topics.iter().take(PAGE).map(|topic| self.figures_of(request, topic)).collect();
        // Names and numbers can be written as JSON.
        Payload::new(serde_json::to_vec(&Page { topics, more }).unwrap_or_default())
    }

    fn list(&self, request: Request) -> Result<List, Refusal> {
        match TopicsOptions::parse(request.data())? {
            TopicsOptions::List { prefix } => {
                let walk = Walk::new(self.clone(), prefix);
                Ok(List { walk, request: kept(request) })
            }
            _ => Err(Refusal::invalid(
                "not a list: topics are purged and deleted by request-response",
            )),
        }
    }

    fn figures_of<'a>(&self, request: &Request, topic: &'a Topic) -> Figures<'a> {
        let name = topic.name();
        let is_admin = self.may(request, Action::Admin, name);
        Figures {
            topic: name.as_str(),
            kind: topic.settings().kind.as_str(),
            epoch: topic.epoch(),
            base: topic.base(),
            head: Offset(topic.visible().0 - 1),
            bytes: topic.bytes(),
            members: self
                .may(request, Action::Presence, name)
                .then(|| self.presence_of(name).members),
            subscribers: is_admin.then(|| topic.readers()),
            // Two digits are as much as there is to know.
            publishes_per_s: (topic.publishes_per_second(self.0.clock.now()) * 100.0).round()
                / 100.0,
            slowest: is_admin.then(|| topic.behind()).flatten().map(|behind| Slowest { behind }),
        }
    }
}

/// The topics that somebody may see, in the order of their names. It holds a portion of them.
struct Walk {
    service: Service,
    prefix: Box<str>,
    portion: VecDeque<Arc<Topic>>,
    after: Option<TopicName>,
}

/// A step of a walk.
enum Walked {
    Topic(Arc<Topic>),
    /// A portion of topics was looked at, of which none may be seen: others are to have their turn.
    Hidden,
    End,
}

impl Walk {
    fn new(service: Service, prefix: Box<str>) -> Self {
        Self { service, prefix, portion: VecDeque::new(), after: None }
    }

    fn next(&mut self, request: &Request) -> Walked {
        if self.portion.is_empty() {
            let topics = &self.service.0.topics;
            self.portion = topics.list(self.after.as_ref(), &self.prefix, PORTION).into();
            match self.portion.back() {
                Some(last) => self.after = Some(last.name().clone()),
                None => return Walked::End,
            }
        }
        while let Some(topic) = self.portion.pop_front() {
            let is_shown = |action: &Action| self.service.may(request, *action, topic.name());
            if SHOWN_TO.iter().any(is_shown) {
                return Walked::Topic(topic);
            }
        }
        Walked::Hidden
    }
}

/// A stream of topics.
struct List {
    walk: Walk,
    request: Request,
}

impl Feed for List {
    fn poll_fill(&mut self, out: &mut Outlet<'_>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while out.has_room() {
            match self.walk.next(&self.request) {
                Walked::Topic(topic) => {
                    let figures = self.walk.service.figures_of(&self.request, &topic);
                    // Names and numbers can be written as JSON.
                    out.send(Payload::new(serde_json::to_vec(&figures).unwrap_or_default()))?;
                }
                Walked::Hidden => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Walked::End => return Poll::Ready(Ok(())),
            }
        }
        Poll::Pending
    }
}
