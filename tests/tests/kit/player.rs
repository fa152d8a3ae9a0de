//! The asking end: opens what a case opens, asks for items, and says what it has seen.

use std::{future::poll_fn, task::Poll};

use futures_util::{StreamExt, stream};
use rsock::{BoxStream, Error, Payload, Requester, Window};
use rsock_tests::script::PATIENCE;

use crate::{
    case::{Script, word},
    service::items,
};

/// A request, and all that came of it.
pub(crate) struct Call {
    kind: String,
    state: State,
    items: Vec<Payload>,
    end: Option<Result<(), Error>>,
}

enum State {
    /// Waits for the first request-n.
    Unsent(Requester, Script),
    Answer(BoxStream<Result<Payload, Error>>),
    Items(Box<rsock::RequestStream>),
}

impl Call {
    pub(crate) fn new(requester: &Requester, kind: &str, script: &Script) -> Self {
        let state = State::Unsent(requester.clone(), script.clone());
        let mut call = Self { kind: kind.to_owned(), state, items: Vec::new(), end: None };
        if kind == "ask" {
            call.request(1);
        }
        call
    }

    /// Asks for so many more; the first time, asks at all.
    pub(crate) fn request(&mut self, n: u32) {
        let State::Unsent(requester, script) = &self.state else {
            if let State::Items(stream) = &mut self.state {
                stream.request_n(n);
            }
            return;
        };
        let window = Window::new(n).manual();
        let request = || script.items.first().cloned().unwrap_or_default();
        self.state = match self.kind.as_str() {
            "channel" => {
                State::Items(Box::new(requester.request_channel(items(script)).window(window)))
            }
            "stream" => State::Items(Box::new(requester.request_stream(request()).window(window))),
            _ => {
                let answer = requester.request_response(request()).optional();
                let answer = stream::once(answer);
                State::Answer(answer.filter_map(async |answer| answer.transpose()).boxed())
            }
        };
    }

    /// Takes what has come.
    fn take(&mut self, cx: &mut std::task::Context<'_>) {
        while self.end.is_none() {
            let next = match &mut self.state {
                State::Unsent(..) => return,
                State::Answer(answer) => answer.poll_next_unpin(cx),
                State::Items(stream) => stream.poll_next_unpin(cx),
            };
            match next {
                Poll::Pending => return,
                Poll::Ready(None) => self.end = Some(Ok(())),
                Poll::Ready(Some(Ok(item))) => self.items.push(item),
                Poll::Ready(Some(Err(error))) => self.end = Some(Err(error)),
            }
        }
    }

    /// Takes what has come, without waiting.
    pub(crate) async fn take_now(&mut self) {
        poll_fn(|cx| {
            self.take(cx);
            Poll::Ready(())
        })
        .await;
    }

    /// Waits for so many items, or the end.
    pub(crate) async fn wait_for(&mut self, count: usize) {
        let waiting = poll_fn(|cx| {
            self.take(cx);
            let done = self.items.len() >= count || self.end.is_some();
            if done { Poll::Ready(()) } else { Poll::Pending }
        });
        // What is missing shows in what the case asks for next.
        let _ = tokio::time::timeout(PATIENCE, waiting).await;
    }

    pub(crate) fn words(&self) -> Vec<String> {
        self.items.iter().map(word).collect()
    }

    /// `open`, `ended`, or the error.
    pub(crate) fn state(&self) -> String {
        match &self.end {
            None => "open".into(),
            Some(Ok(())) => "ended".into(),
            Some(Err(error)) => error.to_string(),
        }
    }
}
