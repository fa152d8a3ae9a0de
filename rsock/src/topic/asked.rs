//! The request of a subscription, which is made again after each break.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_core::Stream;
use rsock_proto::Payload;
use serde::Serialize;
use serde_json::Value;

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
#[derive(Debug)]
pub(super) struct Membership(Arc<Mutex<Line>>);

/// The things that are to go from a membership to its service.
#[derive(Debug, Default)]
struct Line {
    /// The words of the member about itself, if the service has not been told: the newest counts.
    info: Option<Payload>,
    is_over: bool,
    waker: Option<Waker>,
}

fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    // Nothing panics between two of its states.
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Membership {
    fn change(&self, change: impl FnOnce(&mut Line)) {
        let mut line = lock(&self.0);
        change(&mut line);
        let waker = line.waker.take();
        drop(line);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Says this of itself.
    pub(super) fn update(&self, info: Payload) {
        self.change(|line| line.info = Some(info));
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.change(|line| line.is_over = true);
    }
}

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

    /// Says this of itself when it joins next; the payload that tells it before.
    ///
    /// # Errors
    /// It is more than the service takes, or nobody sees it.
    pub(super) fn update(&mut self, info: Value) -> Result<Payload, Error> {
        let payload = wire::info(&info)?;
        match &mut self.member {
            Some(member) if member.presence => {
                member.info = Some(info).filter(|info| !info.is_null());
                Ok(payload)
            }
            _ => Err(Error::invalid("not present: nobody sees what this member says of itself")),
        }
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
        let line = Arc::default();
        let joining = Joining { request: Some(request), line: Arc::clone(&line) };
        Ok((requester.request_channel(joining), Some(Membership(line))))
    }
}

/// The sending half of a join: its options, and then what the member says of itself, until it ends.
struct Joining {
    request: Option<Payload>,
    line: Arc<Mutex<Line>>,
}

impl Stream for Joining {
    type Item = Payload;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Payload>> {
        if let Some(request) = self.request.take() {
            return Poll::Ready(Some(request));
        }
        let mut line = lock(&self.line);
        if let Some(info) = line.info.take() {
            return Poll::Ready(Some(info));
        }
        if line.is_over {
            return Poll::Ready(None);
        }
        line.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
