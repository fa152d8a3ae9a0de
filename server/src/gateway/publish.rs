//! Publishing to a topic: a message that is the body, or a line of JSON for each.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use rsock::{
    BoxFuture, Error, HttpBody, HttpBodyError, HttpRequest, HttpResponse, Payload, PayloadExt,
    metadata::WellKnownMime,
};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use super::{
    Gateway, format::Format, items::marked, problem::Problem, routes::json, target::Query,
};
use crate::visitors::Visitor;

/// Bytes of a body that is one message: as many as a topic takes, and a place in memory for them.
const MAX_BODY: usize = 64 << 20;
/// Bytes of a line at most, which is a message with all that is said beside it.
const MAX_LINE: usize = 2 << 20;
/// Messages of a batch whose acknowledgements are waited for at a time.
const IN_FLIGHT: usize = 64;
/// Bytes of a batch all in all, which is read as it comes.
const MAX_BATCH: usize = usize::MAX;

/// A line of a batch. All else of it are options.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    text: Option<String>,
    base64: Option<String>,
    #[serde(flatten)]
    options: Map<String, Value>,
}

impl Gateway {
    /// `POST /topics/{t}`
    pub(super) async fn publish(
        &self,
        mut request: HttpRequest,
        mut query: Query,
        visitor: Visitor,
        name: &str,
    ) -> Result<HttpResponse, Problem> {
        let route = format!("topic.{name}");
        // Before anything is read of what may be long.
        self.0.visitors.check_publish(&visitor, name)?;
        let mime = request.header("content-type").unwrap_or_default();
        let mime = mime.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if mime == Format::Lines.mime() {
            query.finish(&["ticket"])?;
            let lines = Lines {
                body: request.take_body().at_most(MAX_BATCH),
                read: BytesMut::new(),
                searched: 0,
                is_over: false,
            };
            let answers = Batch {
                visitor,
                route,
                lines: Box::pin(lines.into_stream()),
                waiting: VecDeque::new(),
                is_over: false,
            };
            return Ok(marked(HttpResponse::stream(200, answers.into_stream()), Format::Lines));
        }
        let mut options = Map::new();
        if let Some(id) = request.header("idempotency-key") {
            // The draft of the standard has it in quotes.
            options.insert("id".into(), id.trim_matches('"').into());
        }
        for option in ["key", "from"] {
            if let Some(value) = query.take(option) {
                options.insert(option.into(), value.into());
            }
        }
        if let Some(expect) = query.number("expect", 0..=u64::MAX)? {
            options.insert("expect".into(), expect.into());
        }
        for option in ["ephemeral", "delete", "close"] {
            if query.flag(option)? == Some(true) {
                options.insert(option.into(), true.into());
            }
        }
        if let Some(headers) = query.take("headers") {
            let headers: Map<String, Value> = serde_json::from_str(&headers).map_err(|error| {
                Problem::invalid(format_args!("headers: they are a JSON object: {error}"))
            })?;
            options.insert("headers".into(), headers.into());
        }
        query.finish(&[
            "key",
            "from",
            "expect",
            "ephemeral",
            "delete",
            "close",
            "headers",
            "ticket",
        ])?;
        let data = request.take_body().at_most(MAX_BODY).bytes().await?;
        let payload = message(&route, data, &options)?;
        let ack = visitor.caller.request_response(payload).await?;
        Ok(json(ack.unwrap_or_default().data))
    }
}

/// A message with its options.
fn message(
    route: &str,
    data: impl Into<Bytes>,
    options: &Map<String, Value>,
) -> Result<Payload, Error> {
    let payload = Payload::new(data).route(route)?;
    if options.is_empty() {
        return Ok(payload);
    }
    // Texts and numbers can be written as JSON.
    payload.entry(WellKnownMime::Json, serde_json::to_vec(options).unwrap_or_default())
}

/// The message of a line.
fn message_of(route: &str, line: &[u8]) -> Result<Payload, Error> {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let line: Line<'_> = serde_json::from_slice(line).map_err(|error| {
        Error::invalid(format_args!(
            "not a message: {error}; a line is {{\"data\":…}}, {{\"text\":…}} or {{\"base64\":…}}, with options beside"
        ))
    })?;
    let Line { data, text, base64, options } = line;
    let data: Bytes = match (data, text, base64) {
        (Some(data), None, None) => Bytes::copy_from_slice(data.get().as_bytes()),
        (None, Some(text), None) => text.into(),
        (None, None, Some(text)) => BASE64_STANDARD
            .decode(text)
            .map_err(|error| Error::invalid(format_args!("base64: {error}")))?
            .into(),
        (None, None, None) if options.get("delete") == Some(&Value::Bool(true)) => Bytes::new(),
        _ => {
            return Err(Error::invalid("not a message: it has one of data, text and base64"));
        }
    };
    message(route, data, &options)
}

/// The lines of a body.
struct Lines {
    body: HttpBody,
    read: BytesMut,
    /// The bytes of it that have no line break: they are looked at once, however small the parts are.
    searched: usize,
    is_over: bool,
}

impl Lines {
    fn into_stream(self) -> impl Stream<Item = Result<Bytes, Problem>> + Send {
        stream::unfold(self, |mut lines| async move {
            let line = lines.next().await?;
            Some((line, lines))
        })
    }

    async fn next(&mut self) -> Option<Result<Bytes, Problem>> {
        loop {
            let searched = self.searched.min(self.read.len());
            let found = self.read[searched..].iter().position(|byte| *byte == b'\n');
            self.searched = if found.is_some() { 0 } else { self.read.len() };
            if let Some(at) = found {
                let line = self.read.split_to(searched + at + 1);
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return Some(Ok(Bytes::copy_from_slice(line.trim_ascii())));
            }
            if self.is_over {
                let rest = std::mem::take(&mut self.read);
                let rest = rest.trim_ascii();
                return (!rest.is_empty()).then(|| Ok(Bytes::copy_from_slice(rest)));
            }
            if self.read.len() > MAX_LINE {
                self.is_over = true;
                self.read.clear();
                let long = HttpBodyError::TooLong { max: MAX_LINE };
                return Some(Err(long.into()));
            }
            match self.body.next().await {
                Some(Ok(part)) => {
                    self.read.extend_from_slice(&part);
                    if let Err(error) = self.body.keeps(self.read.len()) {
                        self.is_over = true;
                        self.read.clear();
                        return Some(Err(error.into()));
                    }
                }
                Some(Err(error)) => {
                    self.is_over = true;
                    self.read.clear();
                    return Some(Err(error.into()));
                }
                None => self.is_over = true,
            }
        }
    }
}

/// A batch: lines are read as acknowledgements are given out, in their order.
struct Batch<L> {
    visitor: Visitor,
    route: String,
    lines: std::pin::Pin<Box<L>>,
    waiting: VecDeque<BoxFuture<Result<Bytes, Problem>>>,
    is_over: bool,
}

impl<L: Stream<Item = Result<Bytes, Problem>> + Send + 'static> Batch<L> {
    fn into_stream(self) -> impl Stream<Item = Result<Bytes, Error>> + Send {
        stream::unfold(self, |mut batch| async move {
            let answer = batch.next().await?;
            Some((Ok(answer), batch))
        })
    }

    /// The next acknowledgement, or what was wrong with a line, as a line.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.waiting.is_empty() && self.is_over {
                return None;
            }
            let has_room = self.waiting.len() < IN_FLIGHT && !self.is_over;
            let outcome = tokio::select! {
                biased;
                line = self.lines.next(), if has_room => {
                    self.begin(line);
                    continue;
                }
                outcome = async {
                    match self.waiting.front_mut() {
                        Some(first) => first.await,
                        None => std::future::pending().await,
                    }
                } => outcome,
            };
            self.waiting.pop_front();
            let mut line = match outcome {
                Ok(ack) => ack.to_vec(),
                Err(problem) => problem.json().into_bytes(),
            };
            line.push(b'\n');
            return Some(line.into());
        }
    }

    /// Publishes the message of a line, behind those before it.
    fn begin(&mut self, line: Option<Result<Bytes, Problem>>) {
        let message = match line {
            None => {
                self.is_over = true;
                return;
            }
            Some(Err(problem)) => {
                self.is_over = true;
                self.waiting.push_back(Box::pin(std::future::ready(Err(problem))));
                return;
            }
            Some(Ok(line)) => message_of(&self.route, &line),
        };
        match message {
            Err(error) => self.waiting.push_back(Box::pin(std::future::ready(Err(error.into())))),
            Ok(message) => {
                let answer = self.visitor.caller.request_response(message);
                let mut acknowledging: BoxFuture<_> =
                    Box::pin(async move { Ok(answer.await?.unwrap_or_default().data) });
                // It is appended when it is first asked for: before the next line is.
                let first = futures_util::FutureExt::now_or_never(&mut acknowledging);
                self.waiting.push_back(match first {
                    Some(outcome) => Box::pin(std::future::ready(outcome)),
                    None => acknowledging,
                });
            }
        }
    }
}
