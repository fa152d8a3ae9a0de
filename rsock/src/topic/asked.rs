//! The request of a subscription, which is made again after each break.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use rsock_proto::Payload;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::oneshot;

use super::{
    subscription::{Lag, Meta, Start},
    wire,
};
use crate::{error::Error, requester::Requester, streams::RequestStream};

/// The options of a subscription or a join.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) topic: Arc<str>,
    pub(super) from: Start,
    pub(super) lag: Lag,
    pub(super) max_lag: Option<u64>,
    pub(super) meta: Meta,
    pub(super) echo: bool,
    pub(super) live: bool,
    member: Option<Member>,
}

/// The options of a join alone.
#[derive(Clone, Debug, Serialize)]
struct Member {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<Value>,
    /// One's own messages go another way, and come back as others' do.
    receive: &'static str,
    presence: bool,
}

/// The options on the wire.
#[derive(Serialize)]
struct Options<'a> {
    from: &'a Start,
    /// The position comes first, before there is any message.
    start: bool,
    #[serde(skip_serializing_if = "is_default")]
    lag: Lag,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_lag: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    meta: Meta,
    #[serde(skip_serializing_if = "is_true")]
    echo: bool,
    #[serde(skip_serializing_if = "is_default")]
    live: bool,
    #[serde(flatten)]
    member: Option<&'a Member>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn is_true(is: &bool) -> bool {
    *is
}

/// The membership of a join, which ends when this is dropped.
pub(super) type Membership = oneshot::Sender<Infallible>;

impl Asked {
    pub(super) fn new(topic: Arc<str>) -> Self {
        Self {
            topic,
            from: Start::New,
            lag: Lag::Gap,
            max_lag: None,
            meta: Meta::Full,
            echo: true,
            live: false,
            member: None,
        }
    }

    /// As a member with this name.
    pub(super) fn join(&mut self, name: String, info: Option<Value>, is_present: bool) {
        self.member = Some(Member { name, info, receive: "messages", presence: is_present });
    }

    /// Asks for it, from there or as at first.
    pub(super) fn ask(
        &self,
        requester: &Requester,
        from: Option<Start>,
    ) -> Result<(RequestStream, Option<Membership>), Error> {
        let options = Options {
            from: from.as_ref().unwrap_or(&self.from),
            start: true,
            lag: self.lag,
            max_lag: self.max_lag,
            meta: self.meta,
            echo: self.echo,
            live: self.live,
            member: self.member.as_ref(),
        };
        let request = wire::request(&format!("topic.{}", self.topic), &options)?;
        if self.member.is_none() {
            return Ok((requester.request_stream(request), None));
        }
        let (membership, end) = oneshot::channel();
        let items = requester.request_channel(Joining { request: Some(request), end });
        Ok((items, Some(membership)))
    }
}

/// The sending half of a join: its options, and then nothing until it ends.
struct Joining {
    request: Option<Payload>,
    end: oneshot::Receiver<Infallible>,
}

impl Stream for Joining {
    type Item = Payload;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Payload>> {
        if let Some(request) = self.request.take() {
            return Poll::Ready(Some(request));
        }
        // Nothing is ever sent: it is the end of the one who could.
        let _ = ready!(Pin::new(&mut self.end).poll(cx));
        Poll::Ready(None)
    }
}
