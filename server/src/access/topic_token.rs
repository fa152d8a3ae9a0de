//! Tokens for one topic, by which somebody else lets one user into one room.

use std::sync::Arc;

use rsock::{Identity, Request};
use rsock_access::{Keys, TokenError, TopicToken};
use rsock_topics::{Refusal, TopicName};

use super::{
    Access, Event, Inner, identity, lock, login::Origin, session::Session, session_of, unix_now,
};

impl Access {
    /// The one who sends a request by a token for its topic, beside what may be done by the connection anyway.
    ///
    /// # Errors
    /// One text for all that is wrong with the token, and another where there is no key to look at it with.
    pub(super) fn of_topic_token(
        &self,
        request: &Request,
        token: &str,
        topic: &TopicName,
    ) -> Result<Identity, Refusal> {
        let inner = &self.0;
        let policy = inner.policy();
        // Everybody whose request comes here has a session.
        let (Some(verifier), Some(beside)) = (&policy.verifier, session_of(request)) else {
            return Err(Refusal::token_unchecked(topic));
        };
        let remote = policy.remote.as_ref();
        let more: Arc<Keys> = remote.map(|remote| remote.keys()).unwrap_or_default();
        let subject = beside.principal().subject;
        let verified = verifier.verify_topic(&more, token, unix_now());
        if let (Err(TokenError::NoKey), Some(remote)) = (&verified, remote) {
            // For the next one.
            remote.want();
        }
        let found = verified.map_err(|error| error.to_string());
        let found = found.and_then(|found| inner.check_topic(found, subject.as_deref(), topic));
        let found = found.map_err(|reason| {
            inner.failed(&Origin::of(request.peer()), subject.as_deref(), None, &reason);
            Refusal::token_refused(topic)
        })?;
        let session = Session::of_topic(Arc::clone(beside), found.principal, inner);
        inner.catch_up(&policy, &session);
        if session.is_over() {
            return Err(Refusal::token_refused(topic));
        }
        let principal = session.principal();
        inner.counters.accepted.add(Some(principal.method));
        inner.audit.tell(Event {
            event: "auth.ok",
            conn: Some(request.peer().connection_id()),
            peer: Some(request.peer().address()),
            subject: principal.subject.as_deref(),
            method: Some(principal.method.as_str()),
            object: Some(topic.as_str()),
            ..Event::default()
        });
        Ok(identity(session))
    }
}

impl Inner {
    /// Looks whether a token is for this topic, and for whoever has this name, if anybody has said who they are.
    fn check_topic(
        &self,
        found: TopicToken,
        own: Option<&str>,
        topic: &TopicName,
    ) -> Result<TopicToken, String> {
        if found.topic != topic.as_str() {
            return Err(format!("the token is for topic {:?}", found.topic));
        }
        if own.is_some_and(|own| found.principal.subject.as_deref() != Some(own)) {
            return Err("the token for a topic is somebody else's".to_owned());
        }
        if lock(&self.revoked).has(&found.principal) {
            return Err("the token for a topic is revoked".to_owned());
        }
        Ok(found)
    }
}
