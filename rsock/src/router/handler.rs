//! The handlers behind a route, one for each interaction it answers.

use std::{fmt, sync::Arc};

use futures_core::Stream;
use rsock_proto::Interaction;

use crate::{
    connection::{
        feed::{Feed, ItemSource, Kind},
        work::{Work, refused, work},
    },
    error::Error,
    payload::{IntoPayload, payloads},
    request::Request,
    responder::Failed,
    router::extract::FromRequest,
    streams::Payloads,
};

pub(super) type ResponseHandler<S> = Arc<dyn Fn(S, Request) -> Work + Send + Sync>;
type StreamHandler<S> = Arc<dyn Fn(S, Request) -> ItemSource + Send + Sync>;
type ChannelHandler<S> = Arc<dyn Fn(S, Request, Payloads) -> ItemSource + Send + Sync>;

/// The handlers of one route. Made by [`request_response`] and its siblings, and joined by the
/// methods of the same names.
#[must_use]
pub struct MethodRoute<S> {
    pub(super) fire_and_forget: Option<ResponseHandler<S>>,
    pub(super) request_response: Option<ResponseHandler<S>>,
    pub(super) request_stream: Option<StreamHandler<S>>,
    pub(super) request_channel: Option<ChannelHandler<S>>,
    pub(super) about: &'static str,
}

impl<S> Clone for MethodRoute<S> {
    fn clone(&self) -> Self {
        Self {
            fire_and_forget: self.fire_and_forget.clone(),
            request_response: self.request_response.clone(),
            request_stream: self.request_stream.clone(),
            request_channel: self.request_channel.clone(),
            about: self.about,
        }
    }
}

impl<S> Default for MethodRoute<S> {
    fn default() -> Self {
        Self {
            fire_and_forget: None,
            request_response: None,
            request_stream: None,
            request_channel: None,
            about: "",
        }
    }
}

impl<S> fmt::Debug for MethodRoute<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.interactions()).finish()
    }
}

/// Answers fire-and-forget: what the handler returns is dropped, an error is logged and counted.
pub fn fire_and_forget<S, I, O, F, Fut>(handler: F) -> MethodRoute<S>
where
    I: FromRequest + 'static,
    O: IntoPayload + 'static,
    F: Fn(S, I) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = O> + Send + 'static,
{
    MethodRoute::default().fire_and_forget(handler)
}

/// Answers request-response. A handler that returns `None` completes without a payload (RR-02).
pub fn request_response<S, I, O, F, Fut>(handler: F) -> MethodRoute<S>
where
    I: FromRequest + 'static,
    O: IntoPayload + 'static,
    F: Fn(S, I) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = O> + Send + 'static,
{
    MethodRoute::default().request_response(handler)
}

/// Answers request-stream.
pub fn request_stream<S, I, O, F, St>(handler: F) -> MethodRoute<S>
where
    I: FromRequest + 'static,
    O: IntoPayload + 'static,
    F: Fn(S, I) -> St + Send + Sync + 'static,
    St: Stream<Item = O> + Send + 'static,
{
    MethodRoute::default().request_stream(handler)
}

/// Answers request-channel: the handler gets the first payload and the stream of the others.
pub fn request_channel<S, I, O, F, St>(handler: F) -> MethodRoute<S>
where
    I: FromRequest + 'static,
    O: IntoPayload + 'static,
    F: Fn(S, I, Payloads) -> St + Send + Sync + 'static,
    St: Stream<Item = O> + Send + 'static,
{
    MethodRoute::default().request_channel(handler)
}

/// Answers request-stream by a [`Feed`], which may share its items with other streams.
pub fn stream_feed<S, I, F, Fd>(handler: F) -> MethodRoute<S>
where
    I: FromRequest + 'static,
    F: Fn(S, I) -> Result<Fd, Error> + Send + Sync + 'static,
    Fd: Feed,
{
    MethodRoute::default().stream_feed(handler)
}

/// Answers request-channel by a [`Feed`]: as [`request_channel`].
pub fn channel_feed<S, I, F, Fd>(handler: F) -> MethodRoute<S>
where
    I: FromRequest + 'static,
    F: Fn(S, I, Payloads) -> Result<Fd, Error> + Send + Sync + 'static,
    Fd: Feed,
{
    MethodRoute::default().channel_feed(handler)
}

fn fed(feed: Result<impl Feed, Error>) -> ItemSource {
    match feed {
        Ok(feed) => ItemSource::feed(feed),
        Err(error) => ItemSource::stream(Failed::new(error)),
    }
}

impl<S> MethodRoute<S> {
    /// Also answers fire-and-forget.
    pub fn fire_and_forget<I, O, F, Fut>(mut self, handler: F) -> Self
    where
        I: FromRequest + 'static,
        O: IntoPayload + 'static,
        F: Fn(S, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = O> + Send + 'static,
    {
        self.fire_and_forget = Some(one_answer(handler));
        self
    }

    /// Also answers request-response.
    pub fn request_response<I, O, F, Fut>(mut self, handler: F) -> Self
    where
        I: FromRequest + 'static,
        O: IntoPayload + 'static,
        F: Fn(S, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = O> + Send + 'static,
    {
        self.request_response = Some(one_answer(handler));
        self
    }

    /// Also answers request-stream.
    pub fn request_stream<I, O, F, St>(mut self, handler: F) -> Self
    where
        I: FromRequest + 'static,
        O: IntoPayload + 'static,
        F: Fn(S, I) -> St + Send + Sync + 'static,
        St: Stream<Item = O> + Send + 'static,
    {
        self.request_stream =
            Some(Arc::new(move |state, request| match I::from_whole_request(request) {
                Ok(input) => ItemSource(Kind::Stream(payloads(handler(state, input)))),
                Err(error) => ItemSource::stream(Failed::new(error)),
            }));
        self
    }

    /// Also answers request-channel.
    pub fn request_channel<I, O, F, St>(mut self, handler: F) -> Self
    where
        I: FromRequest + 'static,
        O: IntoPayload + 'static,
        F: Fn(S, I, Payloads) -> St + Send + Sync + 'static,
        St: Stream<Item = O> + Send + 'static,
    {
        self.request_channel =
            Some(Arc::new(move |state, request, rest| match I::from_whole_request(request) {
                Ok(first) => ItemSource(Kind::Stream(payloads(handler(state, first, rest)))),
                Err(error) => ItemSource::stream(Failed::new(error)),
            }));
        self
    }

    /// Also answers request-stream, by a feed.
    pub fn stream_feed<I, F, Fd>(mut self, handler: F) -> Self
    where
        I: FromRequest + 'static,
        F: Fn(S, I) -> Result<Fd, Error> + Send + Sync + 'static,
        Fd: Feed,
    {
        self.request_stream = Some(Arc::new(move |state, request| {
            fed(I::from_whole_request(request).and_then(|input| handler(state, input)))
        }));
        self
    }

    /// Also answers request-channel, by a feed.
    pub fn channel_feed<I, F, Fd>(mut self, handler: F) -> Self
    where
        I: FromRequest + 'static,
        F: Fn(S, I, Payloads) -> Result<Fd, Error> + Send + Sync + 'static,
        Fd: Feed,
    {
        self.request_channel = Some(Arc::new(move |state, request, rest| {
            fed(I::from_whole_request(request).and_then(|first| handler(state, first, rest)))
        }));
        self
    }

    /// A line about the route, for lists.
    pub fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    /// The interactions that the route answers.
    pub fn interactions(&self) -> Vec<Interaction> {
        let mut all = vec![
            Interaction::RequestResponse,
            Interaction::FireAndForget,
            Interaction::RequestStream,
            Interaction::RequestChannel,
        ];
        all.retain(|interaction| self.answers(*interaction));
        all
    }

    /// Whether the route answers this interaction.
    pub fn answers(&self, interaction: Interaction) -> bool {
        match interaction {
            Interaction::FireAndForget => self.fire_and_forget.is_some(),
            Interaction::RequestResponse => self.request_response.is_some(),
            Interaction::RequestStream => self.request_stream.is_some(),
            Interaction::RequestChannel => self.request_channel.is_some(),
        }
    }

    /// Takes over the handlers of `other`.
    ///
    /// # Errors
    /// The interaction that both answer.
    pub(super) fn join(&mut self, other: Self) -> Result<(), Interaction> {
        fn take<T>(mine: &mut Option<T>, other: Option<T>) {
            if other.is_some() {
                *mine = other;
            }
        }
        if let Some(both) = other.interactions().into_iter().find(|which| self.answers(*which)) {
            return Err(both);
        }
        take(&mut self.fire_and_forget, other.fire_and_forget);
        take(&mut self.request_response, other.request_response);
        take(&mut self.request_stream, other.request_stream);
        take(&mut self.request_channel, other.request_channel);
        if !other.about.is_empty() {
            self.about = other.about;
        }
        Ok(())
    }
}

fn one_answer<S, I, O, F, Fut>(handler: F) -> ResponseHandler<S>
where
    I: FromRequest + 'static,
    O: IntoPayload + 'static,
    F: Fn(S, I) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = O> + Send + 'static,
{
    Arc::new(move |state, request| match I::from_whole_request(request) {
        Ok(input) => {
            let answer = handler(state, input);
            work(move || async move { answer.await.into_answer() })
        }
        Err(error) => refused(error),
    })
}
