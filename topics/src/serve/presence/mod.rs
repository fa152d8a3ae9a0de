//! `presence.{name}`: who is there, as an answer or as a stream; and the sessions of those who are.

mod all;
mod session;
mod timer;
mod watch;

use std::{future::ready, sync::Arc};

use rsock::{MethodRoute, Payload, Request, request_response};

pub(super) use all::{All, Shared};
pub use session::PresenceSession;

use super::{Action, Service};
use crate::{
    name::TopicName,
    options::PresencePageOptions,
    presence::{Presence, PresenceFigures, PresenceSettings},
    refusal::Refusal,
    settings::TopicSettings,
};

impl Service {
    pub(super) fn presence_route<S: Clone + Send + Sync + 'static>(&self) -> MethodRoute<S> {
        let (list, watch) = (self.clone(), self.clone());
        request_response(move |_: S, request: Request| {
            ready(list.members(&request).map_err(|refusal| list.refuse(refusal)))
        })
        .stream_feed(move |_, request: Request| {
            let version = watch.0.permit.version();
            let feed = watch.watch(&request);
            let guarded =
                feed.and_then(|feed| watch.guarded(request, &[Action::Presence], version, feed));
            guarded.map_err(|refusal| watch.refuse(refusal))
        })
        .about("list who is present, or watch them come and go")
    }

    /// The members as they are now.
    fn members(&self, request: &Request) -> Result<Payload, Refusal> {
        let name = self.topic_of(request, Action::Presence)?;
        let options = PresencePageOptions::parse(request.data())?;
        let settings = PresenceSettings::of(self.settings_of(&name)?);
        let page = match self.0.presence.find(&name) {
            Some(shared) => shared.look(|presence| presence.page(&options)),
            None => Presence::new(name, settings).page(&options),
        };
        Ok(Payload::new(page))
    }

    /// The figures of a topic's presence.
    pub fn presence_of(&self, topic: &TopicName) -> PresenceFigures {
        let figures = |shared: Arc<Shared>| shared.look(|presence| presence.figures());
        self.0.presence.find(topic).map_or_else(PresenceFigures::default, figures)
    }

    fn settings_of(&self, name: &TopicName) -> Result<&TopicSettings, Refusal> {
        let settings = self.0.topics.settings().of(name);
        settings.map(|settings| &**settings).ok_or_else(|| Refusal::undeclared(name))
    }
}
