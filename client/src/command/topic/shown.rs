//! Events as they are shown: data on stdout, what is missing on stderr; or all of it as JSON.

use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt};
use rsock::{
    Error, Payload,
    topic::{Ephemeral, Epoch, Event, Message},
};
use rsock_cli::Count;
use serde::Serialize;
use serde_json::{Map, Value, json, value::RawValue};
use tokio::task::consume_budget;

use crate::{
    exit::Failure,
    json::base64,
    render::{Output, answer, say},
    topic_args::TopicOutputArgs,
};

/// The place events are shown at.
pub(super) struct Shown {
    output: Output,
    is_json: bool,
    fails_on_gap: bool,
}

impl Shown {
    pub(super) fn new(args: TopicOutputArgs, fails_on_gap: bool) -> Result<Self, Failure> {
        // Nothing of metadata is shown as it is.
        let output = Output::new(&args.into(), String::new())?;
        Ok(Self { output, is_json: args.is_json(), fails_on_gap })
    }

    pub(super) fn is_json(&self) -> bool {
        self.is_json
    }

    /// The next item of a stream; what was shown is written while there is none.
    pub(super) async fn next<T>(
        &mut self,
        items: &mut (impl Stream<Item = Result<T, Error>> + Unpin),
    ) -> Result<Option<T>, Failure> {
        // However fast they come, Ctrl-C and the clock are heard.
        consume_budget().await;
        let item = match items.next().now_or_never() {
            Some(item) => item,
            None => {
                self.output.pause().await?;
                tokio::select! {
                    biased;
                    item = items.next() => item,
                    failure = self.output.failed() => return Err(failure),
                }
            }
        };
        Ok(item.transpose()?)
    }

    /// Shows an event.
    ///
    /// # Errors
    /// [`Failure::Gap`] where something was missed, and that is to be one.
    pub(super) async fn event(&mut self, event: &Event) -> Result<(), Failure> {
        match event {
            Event::Message(message) => self.message(message).await,
            Event::Ephemeral(event) => self.ephemeral(event).await,
            Event::Gap { from, to, exact } => {
                let line = json!({ "gap": { "from": from, "to": to, "exact": exact } });
                let count = Count((to + 1).saturating_sub(*from), "message");
                let perhaps = if *exact { "" } else { "up to " };
                let said = format!("{from} to {to}, {perhaps}{count}");
                self.missed(&line, format!("missed: {said} that are not kept any more")).await
            }
            Event::Reset { before, epoch, base } => {
                let before = before.map(|position| position.to_string());
                let line = json!({ "reset": { "before": before, "epoch": epoch, "base": base } });
                let behind = before.map_or_else(String::new, |position| {
                    format!(", and what came behind {position} is lost")
                });
                let said = format!("missed: the topic began anew, as epoch {epoch}{behind}");
                self.missed(&line, said).await
            }
            Event::Live { offset } if self.is_json => {
                self.line(&json!({ "live": { "offset": offset } })).await
            }
            Event::Live { .. } => {
                self.output.pause().await?;
                say(format_args!("rsock: all messages that there were have come"));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn missed(&mut self, line: &Value, said: String) -> Result<(), Failure> {
        if self.is_json {
            self.line(line).await?;
        }
        self.output.pause().await?;
        if self.fails_on_gap {
            return Err(Failure::Gap(said));
        }
        if !self.is_json {
            answer(format_args!("rsock: {said}"));
        }
        Ok(())
    }

    pub(super) async fn message(&mut self, message: &Message) -> Result<(), Failure> {
        if self.is_json {
            return self.line(&MessageLine::of(message)).await;
        }
        if message.deleted {
            self.output.pause().await?;
            let key = message.key.as_deref().unwrap_or_default();
            say(format_args!("rsock: the key {key:?} is deleted"));
            return Ok(());
        }
        self.data(message.data.clone()).await
    }

    async fn ephemeral(&mut self, event: &Ephemeral) -> Result<(), Failure> {
        if !self.is_json {
            return self.data(event.data.clone()).await;
        }
        let Ephemeral { topic, time, from, key, headers, data, .. } = event;
        self.line(&EphemeralLine {
            topic,
            ephemeral: true,
            time: *time,
            from: from.as_deref(),
            key: key.as_deref(),
            headers,
            data: DataForm::of(data),
        })
        .await
    }

    /// Shows a line of text, or some data.
    pub(super) async fn data(&mut self, data: impl Into<Bytes>) -> Result<(), Failure> {
        self.output.write(&Payload::new(data)).await
    }

    /// Shows a line of JSON.
    pub(super) async fn line(&mut self, line: &impl Serialize) -> Result<(), Failure> {
        let line = serde_json::to_vec(line);
        let line = line.map_err(|error| Failure::Local(format!("cannot be JSON: {error}")))?;
        self.data(line).await
    }

    /// Has written what was shown so far.
    pub(super) async fn pause(&mut self) -> Result<(), Failure> {
        self.output.pause().await
    }

    /// Waits until what was shown so far is written.
    pub(super) async fn flush(&mut self) -> Result<(), Failure> {
        self.output.flush().await
    }

    /// Waits until all is written, and says how it went, unless that has failed before.
    pub(super) async fn end(mut self, shown: Result<(), Failure>) -> Result<(), Failure> {
        // What has come before a failure is shown as well.
        let written = self.output.flush().await;
        shown.and(written)
    }
}

/// A message as JSON, in the form of a page of history, and with its place.
#[derive(Serialize)]
struct MessageLine<'a> {
    topic: &'a str,
    epoch: Epoch,
    offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    time: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    headers: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "is_false")]
    deleted: bool,
    #[serde(skip_serializing_if = "is_zero")]
    skipped: u64,
    #[serde(flatten)]
    data: DataForm<'a>,
}

#[derive(Serialize)]
struct EphemeralLine<'a> {
    topic: &'a str,
    ephemeral: bool,
    time: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    headers: &'a Map<String, Value>,
    #[serde(flatten)]
    data: DataForm<'a>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_false(is: &bool) -> bool {
    !is
}

impl<'a> MessageLine<'a> {
    fn of(message: &'a Message) -> Self {
        Self {
            topic: &message.topic,
            epoch: message.epoch,
            offset: message.offset,
            time: message.time,
            from: message.from.as_deref(),
            key: message.key.as_deref(),
            headers: &message.headers,
            deleted: message.deleted,
            skipped: message.skipped,
            data: DataForm::of(&message.data),
        }
    }
}

/// Data in JSON: as it is where it is JSON, as text where it is that, and otherwise as base64.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum DataForm<'a> {
    Data(&'a RawValue),
    Text(&'a str),
    Base64(String),
}

impl<'a> DataForm<'a> {
    fn of(data: &'a [u8]) -> Self {
        match (serde_json::from_slice(data), str::from_utf8(data)) {
            (Ok(json), _) => Self::Data(json),
            (_, Ok(text)) => Self::Text(text),
            _ => Self::Base64(base64(data)),
        }
    }
}
