//! Polling for what is new in a topic, for long or not at all. A poll that waits is a cursor, and no queue.

use std::{task::Poll, time::Duration};

use futures_util::StreamExt;
use rsock::{BoxStream, Error, HttpResponse, Payload};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    Drain,
    format::{beside, envelope},
    problem::Problem,
    routes::json as answer_json,
    target::Query,
};
use crate::visitors::Visitor;

/// The longest that a poll waits: proxies close what is silent for a minute.
const MAX_WAIT: Duration = Duration::from_secs(55);
const DEFAULT_ITEMS: u64 = 100;
const MAX_ITEMS: u64 = 1_000;
/// Bytes of an answer from which on nothing more is put into it.
const MAX_BYTES: usize = 1 << 20;

/// How a client polls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    wait: Duration,
    max: u64,
}

impl Asked {
    /// The parameters of a poll, if it is one.
    pub(super) fn take(query: &mut Query) -> Result<Option<Self>, Problem> {
        let Some(text) = query.take("poll") else { return Ok(None) };
        let wait = rsock_cli::any_time(&text)
            .map_err(|wrong| Problem::invalid(format_args!("poll: {text:?}: {wrong}")))?;
        let max = query.number("max", 1..=MAX_ITEMS)?.unwrap_or(DEFAULT_ITEMS);
        Ok(Some(Self { wait: wait.min(MAX_WAIT), max }))
    }
}

/// An answer that is put together.
#[derive(Default)]
struct Page {
    /// Items, as JSON with commas between them.
    items: Vec<u8>,
    count: u64,
    /// The position behind the last of them.
    next: Option<String>,
    /// The messages before the first of them that are not to be had.
    gap: Option<Value>,
}

impl Page {
    /// Takes an item. Whether it is for the next page.
    fn take(&mut self, payload: &Payload) -> Result<bool, Problem> {
        let said = beside(payload).unwrap_or_default();
        let said: Value = serde_json::from_slice(&said).map_err(Error::application)?;
        let epoch = said.get("epoch").and_then(Value::as_str);
        let position = |epoch: Option<&str>, offset: Option<u64>| {
            epoch.zip(offset).map(|(epoch, offset)| format!("{epoch}:{offset}"))
        };
        let number = |value: Option<&Value>| value.and_then(Value::as_u64);
        if let Some(start) = said.get("start") {
            let epoch = start.get("epoch").and_then(Value::as_str);
            let behind = number(start.get("next")).map(|next| next.saturating_sub(1));
            self.next = position(epoch, behind);
            return Ok(false);
        }
        if let Some(gap) = said.get("gap") {
            if self.count > 0 {
                // It is told again to who comes with the position before it.
                return Ok(true);
            }
            let to = number(gap.get("to"));
            let before_base = number(said.get("base")).map(|base| base.saturating_sub(1));
            self.next = position(epoch, to.or(before_base)).or_else(|| self.next.take());
            let mut gap = gap.clone();
            if let (Some(gap), Some(base)) = (gap.as_object_mut(), said.get("base")) {
                gap.insert("began_anew".into(), json!({ "epoch": epoch, "base": base }));
            }
            self.gap = Some(gap);
            return Ok(false);
        }
        if said.get("live").is_some() {
            return Ok(false);
        }
        if self.count > 0 {
            self.items.push(b',');
        }
        self.items.extend_from_slice(&envelope(payload));
        self.count += 1;
        if let Some(position) = position(epoch, number(said.get("offset"))) {
            self.next = Some(position);
        }
        Ok(false)
    }

    fn is_empty(&self) -> bool {
        self.count == 0 && self.gap.is_none()
    }

    fn into_response(self) -> HttpResponse {
        let next = self.next.unwrap_or_default();
        if self.count == 0 && self.gap.is_none() {
            // A client that asks with it again misses nothing.
            return HttpResponse::new(204, "")
                .header("rsock-next", next)
                .header("cache-control", "no-store");
        }
        let mut body = b"{\"items\":[".to_vec();
        body.extend_from_slice(&self.items);
        body.extend_from_slice(b"],\"next\":\"");
        body.extend_from_slice(next.as_bytes());
        body.push(b'"');
        if let Some(gap) = self.gap {
            body.extend_from_slice(format!(",\"gap\":{gap}").as_bytes());
        }
        body.extend_from_slice(b"}\n");
        answer_json(body).header("rsock-next", next)
    }
}

/// Answers a poll: at once, if anything is there.
pub(super) async fn answer(
    visitor: &Visitor,
    payload: Payload,
    asked: Asked,
    drain: &Drain,
) -> Result<HttpResponse, Problem> {
    let mut items = visitor.caller.request_stream(payload);
    let mut page = Page::default();
    let mut waited = std::pin::pin!(async {
        tokio::select! {
            () = sleep(asked.wait) => {}
            () = drain.clone().over() => {}
        }
    });
    loop {
        if page.count >= asked.max || page.items.len() >= MAX_BYTES {
            break;
        }
        let item = if page.is_empty() {
            tokio::select! {
                // What is there goes before what is over.
                biased;
                item = items.next() => item,
                () = &mut waited => break,
            }
        } else {
            match ready(&mut items).await {
                Some(item) => item,
                None => break,
            }
        };
        match item {
            // Nothing follows: whoever asked again would be told so at once, for ever.
            None if page.is_empty() => {
                return Err(
                    Error::rejected("closed: the topic has ended, and nothing follows").into()
                );
            }
            None => break,
            Some(Ok(item)) => {
                if page.take(&item)? {
                    break;
                }
            }
            // What was found is given out; the error comes again.
            Some(Err(_)) if !page.is_empty() => break,
            Some(Err(error)) => return Err(error.into()),
        }
    }
    Ok(page.into_response())
}

/// The next item, if it is there already.
async fn ready(
    items: &mut BoxStream<Result<Payload, Error>>,
) -> Option<Option<Result<Payload, Error>>> {
    std::future::poll_fn(|cx| match items.poll_next_unpin(cx) {
        Poll::Ready(item) => Poll::Ready(Some(item)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}
