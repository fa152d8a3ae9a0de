//! `topic.{name}` as a request-response, or as fire-and-forget: a message is published.

use rsock::{
    Error, MethodRoute, Payload, Request,
    metadata::{CompositeMetadata, WellKnownMime},
    request_response,
};
use serde::Serialize;

use super::{Action, Service, form_of, name_of, pump};
use crate::{
    entry::{Form, Message},
    name::TopicName,
    options::PublishOptions,
    position::{Epoch, Offset},
    refusal::Refusal,
    topic::{Publish, Published},
};

/// An acknowledgement.
#[derive(Serialize)]
struct Ack<'a> {
    topic: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<Epoch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<Offset>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    ephemeral: bool,
}

impl Service {
    pub(super) fn topic_route<S: Clone + Send + Sync + 'static>(&self) -> MethodRoute<S> {
        let (publish, forget, subscribe) = (self.clone(), self.clone(), self.clone());
        // What is appended is appended as the frame is read: a future does it later, but is polled at once.
        request_response(move |_: S, request: Request| {
            let acknowledged = publish.acknowledge(&request);
            std::future::ready(acknowledged)
        })
        .fire_and_forget(move |_, request: Request| {
            std::future::ready(forget.acknowledge(&request).map(drop))
        })
        .stream_feed(move |_, request: Request| {
            subscribe.subscribe(&request).map_err(|refusal| subscribe.refuse(refusal))
        })
        .about("publish a message, or subscribe with {\"from\":\"new\"}")
    }

    fn acknowledge(&self, request: &Request) -> Result<Payload, Error> {
        let (name, published) = self.publish(request).map_err(|refusal| self.refuse(refusal))?;
        self.0.counters.published(&published);
        let Published { epoch, offset, is_duplicate, .. } = published;
        let ack = Ack {
            topic: name.as_str(),
            epoch: offset.map(|_| epoch),
            offset,
            duplicate: is_duplicate,
            ephemeral: offset.is_none(),
        };
        let json = serde_json::to_vec(&ack).map_err(Error::application)?;
        Ok(Payload::new(json))
    }

    fn publish(&self, request: &Request) -> Result<(TopicName, Published), Refusal> {
        let options = publish_options(request)?;
        let action = if options.is_ephemeral { Action::Signal } else { Action::Publish };
        let name = self.topic_of(request, action)?;
        let own = name_of(request);
        let from = match (options.from.as_deref(), own) {
            (Some(from), Some(own)) if from != own => {
                self.0.permit.permits(request, Action::PublishAs, &name)?;
                Some(from)
            }
            (from, own) => from.or(own),
        };
        let message = Message {
            data: request.data(),
            from,
            key: options.key.as_deref(),
            headers: options.headers.as_deref().map(|headers| headers.get()),
            is_tombstone: options.is_tombstone,
            origin: request.peer().connection_id(),
        };
        let id = options.id.as_deref();
        let id = id.map(|id| self.0.secret.key(name.as_str(), own, id));
        let publish = Publish {
            message,
            id,
            expect: options.expect,
            closes: options.is_last,
            is_ephemeral: options.is_ephemeral,
        };
        let (published, topic) = self.0.topics.publish(&name, own, &publish, self.0.clock.now())?;
        if published.pump {
            pump::pump(&topic);
        }
        Ok((name, published))
    }
}

/// The options of a publish: JSON in the request's metadata.
fn publish_options(request: &Request) -> Result<PublishOptions, Refusal> {
    let json = match (form_of(request), request.metadata()) {
        (Some(Form::Plain), Some(metadata)) => Some(metadata.clone()),
        (Some(Form::Composite), Some(metadata)) => {
            // The router has read it.
            let metadata = CompositeMetadata::new(metadata.clone());
            metadata.find(WellKnownMime::Json).map_err(Refusal::invalid)?
        }
        _ => None,
    };
    PublishOptions::parse(&json.unwrap_or_default())
}
