//! `topic.{name}` as a request-response, or as fire-and-forget: a message is published.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use rsock::{
    Error, MethodRoute, Payload, Request,
    metadata::{CompositeMetadata, WellKnownMime},
    request_response,
};
use serde::Serialize;

use super::{Action, Service, as_seen, form_of, name_of, pump};
use crate::{
    entry::{Form, Message},
    name::TopicName,
    options::PublishOptions,
    position::{Epoch, Offset},
    refusal::Refusal,
    settings::SyncMode,
    topic::{Publish, Published, Topic},
};

/// An acknowledgement.
#[derive(Serialize)]
pub(super) struct Ack<'a> {
    topic: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<Epoch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<Offset>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    ephemeral: bool,
    /// False where it was written and not synced.
    #[serde(skip_serializing_if = "Option::is_none")]
    synced: Option<bool>,
}

impl Ack<'_> {
    /// An acknowledgement as JSON.
    pub(super) fn json(topic: &Topic, published: &Published) -> Vec<u8> {
        let Published { epoch, offset, is_duplicate, .. } = *published;
        let is_loose = topic.is_durable() && topic.settings().sync != SyncMode::Always;
        let ack = Ack {
            topic: topic.name().as_str(),
            epoch: offset.map(|_| epoch),
            offset,
            duplicate: is_duplicate,
            ephemeral: offset.is_none(),
            synced: is_loose.then_some(false),
        };
        // Names and numbers can be written as JSON.
        serde_json::to_vec(&ack).unwrap_or_default()
    }
}

/// The wait for a message to be where its acknowledgement promises: on disk, if its topic is durable.
#[derive(Debug)]
struct Acknowledging {
    service: Service,
    published: Option<Result<(Arc<Topic>, Published), Refusal>>,
}

impl Future for Acknowledging {
    type Output = Result<Payload, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(Ok((topic, Published { offset: Some(offset), .. }))) = &self.published
            && let Err(refusal) = ready!(topic.poll_committed(*offset, cx))
        {
            self.published = Some(Err(refusal));
        }
        Poll::Ready(match self.published.take() {
            Some(Ok((topic, published))) => Ok(Payload::new(Ack::json(&topic, &published))),
            Some(Err(refusal)) => Err(self.service.refuse(refusal)),
            None => Err(Error::application("polled behind its end")),
        })
    }
}

impl Service {
    pub(super) fn topic_route<S: Clone + Send + Sync + 'static>(&self) -> MethodRoute<S> {
        let (publish, forget) = (self.clone(), self.clone());
        let (subscribe, join) = (self.clone(), self.clone());
        // What is appended is appended as the frame is read: later frames are behind it.
        request_response(move |_: S, request: Request| publish.acknowledge(&request))
            .fire_and_forget(move |_, request: Request| {
                let acknowledged = forget.acknowledge(&request);
                async move { acknowledged.await.map(drop) }
            })
            .stream_feed(move |_, request: Request| {
                subscribe.subscribe(request).map_err(|refusal| subscribe.refuse(refusal))
            })
            .channel_feed(move |_, request: Request, payloads| {
                join.join(request, payloads).map_err(|refusal| join.refuse(refusal))
            })
            .about(
                "publish a message; subscribe with {\"from\":\"new\"}; join with {\"name\":\"…\"}",
            )
    }

    /// Publishes the message of a request, at once; the answer comes when it is where it promises.
    fn acknowledge(&self, request: &Request) -> Acknowledging {
        let service = self.clone();
        match self.publish(request) {
            Ok((topic, published)) => {
                self.0.counters.published(&published);
                Acknowledging { service, published: Some(Ok((topic, published))) }
            }
            Err(refusal) => Acknowledging { service, published: Some(Err(refusal)) },
        }
    }

    fn publish(&self, request: &Request) -> Result<(Arc<Topic>, Published), Refusal> {
        let options = publish_options(form_of(request), request.metadata())?;
        if options.info.is_some() {
            return Err(Refusal::info_without_join());
        }
        let name = self.name_of_topic(request)?;
        self.check_publish(request, options.is_ephemeral, &name)?;
        let own = name_of(request);
        let seen;
        let from = match (options.from.as_deref(), own) {
            (Some(from), Some(own)) if from != own => {
                self.permit(request, Action::PublishAs, &name)?;
                Some(from)
            }
            (Some(from), None) => {
                seen = as_seen(request, from);
                Some(&*seen)
            }
            (from, own) => from.or(own),
        };
        let data = request.data();
        let origin = request.peer().connection_id();
        let message = Message { data, from, origin, ..Message::default() };
        let publish = self.to_publish(&name, own, message, &options);
        let (published, topic) = self.0.topics.publish(&name, own, &publish, self.0.clock.now())?;
        if published.pump {
            pump::pump(&topic, self.0.clock);
        }
        Ok((topic, published))
    }

    /// The message with its options, by a sender whose name is authenticated or none.
    pub(super) fn to_publish<'a>(
        &self,
        name: &TopicName,
        sender: Option<&str>,
        message: Message<'a>,
        options: &'a PublishOptions,
    ) -> Publish<'a> {
        let message = Message {
            key: options.key.as_deref(),
            headers: options.headers.as_deref().map(|headers| headers.get()),
            is_tombstone: options.is_tombstone,
            ..message
        };
        let id = options.id.as_deref();
        Publish {
            message,
            id: id.map(|id| self.0.secret.key(name.as_str(), sender, id)),
            expect: options.expect,
            closes: options.is_last,
            is_ephemeral: options.is_ephemeral,
        }
    }
}

/// The options of a publish: JSON in metadata of this form.
pub(super) fn publish_options(
    form: Option<Form>,
    metadata: Option<&Bytes>,
) -> Result<PublishOptions, Refusal> {
    let json = match (form, metadata) {
        (Some(Form::Plain), Some(metadata)) => Some(metadata.clone()),
        (Some(Form::Composite), Some(metadata)) => {
            let metadata = CompositeMetadata::new(metadata.clone());
            metadata.find(WellKnownMime::Json).map_err(Refusal::invalid)?
        }
        _ => None,
    };
    PublishOptions::parse(&json.unwrap_or_default())
}
