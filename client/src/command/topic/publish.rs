//! Publishing messages.

use std::time::Duration;

use futures_util::{StreamExt, stream::FuturesOrdered};
use rsock::{
    Client, Error,
    topic::{NewMessage, Published, Publisher, Topic},
};
use rsock_cli::Count;
use serde_json::json;

use super::shown::Shown;
use crate::{
    connect,
    exit::Failure,
    input::{Outgoing, Source},
    progress::Transfer,
    render::say,
    topic_args::{MessageArgs, PubArgs, TopicOutputArgs},
};

/// Messages that may wait for their acknowledgement, and their bytes.
const MAX_WAITING: (u32, u32) = (1_024, 64 << 20);

pub(crate) async fn run(args: PubArgs) -> Result<(), Failure> {
    let PubArgs { connection, topic, message, out } = args;
    let connection = super::connection(connection)?;
    refuse_many(&message)?;
    let input = Outgoing::new(&message.data, None)?;
    let mut told = Told {
        shown: Shown::new(TopicOutputArgs { out }, false)?,
        topic: topic.clone(),
        published: 0,
        duplicates: 0,
    };
    let is_verbose = connection.verbose > 0;
    let work = async |client: &Client| {
        let topic = Topic::new(client, topic);
        let done = if message.ephemeral {
            signal(&topic, &message, input, &mut told).await
        } else if message.delete {
            let outcome = topic.publish(message.of(Vec::new())).await;
            told.tell(outcome).await
        } else {
            publish(&topic, &message, input, &mut told).await
        };
        if is_verbose || done.is_err() && told.published > 0 {
            told.summarize();
        } else if told.published == 0 && done.is_ok() {
            say("rsock: the input was empty: nothing was published");
        }
        told.shown.end(done).await
    };
    connect::session(&connection, Transfer::default(), work).await.map(drop)
}

/// Refuses what is of one message, for many.
fn refuse_many(message: &MessageArgs) -> Result<(), Failure> {
    let is_one = message.delete || matches!(message.data[..], [Source::Text(_) | Source::File(_)]);
    let of_one = [
        ("--id", message.id.is_some()),
        ("--expect", message.expect.is_some()),
        ("--close", message.close),
    ];
    match of_one.iter().find(|(_, is_given)| *is_given && !is_one) {
        Some((option, _)) => Err(Failure::usage(format_args!(
            "{option} is of one message: give that with -d, and not as lines of stdin"
        ))),
        None => Ok(()),
    }
}

impl MessageArgs {
    /// A message with these data.
    fn of(&self, data: impl Into<bytes::Bytes>) -> NewMessage {
        let mut message = match (&self.key, self.delete) {
            (Some(key), true) => NewMessage::tombstone(key),
            (Some(key), false) => NewMessage::new(data).key(key),
            (None, _) => NewMessage::new(data),
        };
        if let Some(id) = &self.id {
            message = message.id(id);
        }
        if let Some(name) = &self.sender {
            message = message.sender(name);
        }
        for (name, value) in &self.message_headers {
            message = message.header(name, value.clone());
        }
        if let Some(offset) = self.expect {
            message = message.expect_offset(offset);
        }
        if self.close { message.closing() } else { message }
    }
}

/// The outcome so far.
struct Told {
    shown: Shown,
    topic: String,
    published: u64,
    duplicates: u64,
}

impl Told {
    async fn tell(&mut self, outcome: Result<Published, Error>) -> Result<(), Failure> {
        let published = outcome?;
        self.published += 1;
        self.duplicates += u64::from(published.duplicate);
        if !self.shown.is_json() {
            return Ok(());
        }
        let mut line = json!({
            "topic": self.topic, "epoch": published.epoch, "offset": published.offset,
        });
        if published.duplicate {
            line["duplicate"] = true.into();
        }
        self.shown.line(&line).await
    }

    fn summarize(&self) {
        let published = Count(self.published, "message");
        match self.duplicates {
            0 => say(format_args!("rsock: {published} published")),
            again => {
                say(format_args!("rsock: {published} published, {again} of them had been before"))
            }
        }
    }
}

/// Publishes each message, many on their way at a time, as the outbox has places for them.
async fn publish(
    topic: &Topic,
    message: &MessageArgs,
    mut input: Outgoing,
    told: &mut Told,
) -> Result<(), Failure> {
    let (messages, bytes) = MAX_WAITING;
    // How long all of it may take is said by --timeout.
    let publisher =
        topic.publisher().max_messages(messages).max_bytes(bytes).wait(Duration::MAX).start();
    let progress = input.progress();
    let mut receipts = FuturesOrdered::new();
    let mut is_open = true;
    let mut refused = Ok(());
    loop {
        let has_place = receipts.len() < messages as usize;
        tokio::select! {
            biased;
            Some(outcome) = receipts.next(), if !receipts.is_empty() => {
                let told = told.tell(outcome).await;
                // Those that are on their way have an outcome as well.
                is_open &= told.is_ok();
                refused = refused.and(told);
            }
            item = input.next(), if is_open && has_place => match item {
                Some(Ok(payload)) => {
                    receipts.push_back(send(&publisher, message, payload.data).await?);
                }
                _ => is_open = false,
            },
            else => break,
        }
    }
    refused?;
    progress.failure().map_or(Ok(()), Err)
}

async fn send(
    publisher: &Publisher,
    message: &MessageArgs,
    data: bytes::Bytes,
) -> Result<rsock::topic::Receipt, Failure> {
    Ok(publisher.send(message.of(data)).await?)
}

/// Sends events that are not kept, one behind the other.
async fn signal(
    topic: &Topic,
    message: &MessageArgs,
    mut input: Outgoing,
    told: &mut Told,
) -> Result<(), Failure> {
    let progress = input.progress();
    while let Some(Ok(payload)) = input.next().await {
        topic.signal(message.of(payload.data)).await?;
        told.published += 1;
    }
    progress.failure().map_or(Ok(()), Err)
}
