//! A chat in a terminal: lines that are typed are published, and those of others shown.

use std::{
    fmt::Display,
    io::{self, IsTerminal},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use rsock::{
    Client, Printable,
    topic::{Event, Joined, Message, PresenceEvent, PresenceEvents, Topic},
};
use serde_json::Value;

use super::{kept::Kept, presence, shown::Shown};
use crate::{
    calendar::time_of_day,
    connect,
    exit::Failure,
    input::{Outgoing, Source},
    progress::Transfer,
    render::{CLEARED, answer, say},
    topic_args::JoinArgs,
};

/// Lines that may wait for a connection.
const MAX_WAITING: u32 = 10_000;
/// The beginning of a line that is not a message, but how one is described.
const INFO: &[u8] = b"/info";

pub(crate) async fn run(args: JoinArgs) -> Result<(), Failure> {
    let JoinArgs { connection, topic, name, info, hidden, from, position, fail_on_gap, output } =
        args;
    let connection = super::connection(connection)?;
    let shown = Shown::new(output, fail_on_gap)?;
    let (kept, from) = Kept::read(position, from)?;
    let input = Outgoing::new(&[Source::Stdin], None)?;
    let work = async |client: &Client| {
        let topic = Topic::new(client, topic);
        let mut join = topic
            .join(name)
            .present(!hidden)
            .from(from)
            .sending(|publisher| publisher.max_messages(MAX_WAITING).wait(Duration::ZERO))
            .observe(super::tell);
        if let Some(info) = info {
            join = join.info(info);
        }
        let mut room = join.start();
        // It joins at once, whatever is typed.
        room.started().await?;
        let mut chat = Chat {
            members: Some(topic.presence().watch()),
            here: Some(Vec::new()),
            room,
            shown,
            kept,
            is_typed: io::stdin().is_terminal() && io::stdout().is_terminal(),
        };
        let left = chat.talk(input).await;
        // Dropping it leaves.
        let Chat { shown, .. } = chat;
        shown.end(left).await
    };
    connect::session(&connection, Transfer::of_items(&output.into()), work).await.map(drop)
}

struct Chat {
    room: Joined,
    /// None where nobody is told who is there.
    members: Option<PresenceEvents>,
    /// Names, until all who are there have been told.
    here: Option<Vec<String>>,
    shown: Shown,
    kept: Kept,
    /// A person types here, and what comes meanwhile stands before that.
    is_typed: bool,
}

impl Chat {
    /// Goes on until the input ends, or the topic.
    async fn talk(&mut self, mut input: Outgoing) -> Result<(), Failure> {
        let progress = input.progress();
        let mut receipts = FuturesUnordered::new();
        self.kept.write(self.room.position(), &mut self.shown).await?;
        loop {
            tokio::select! {
                event = self.room.next() => match event.transpose()? {
                    Some(event) => {
                        self.show(&event).await?;
                        self.kept.write(self.room.position(), &mut self.shown).await?;
                    }
                    None => {
                        say("rsock: the topic is closed");
                        return Ok(());
                    }
                },
                told = next_of(&mut self.members) => match told {
                    Some(Ok(event)) => self.tell(&event).await?,
                    // Who may talk need not be told who listens.
                    Some(Err(error)) => {
                        self.members = None;
                        say(format_args!("rsock: who is there is not told: {error}"));
                    }
                    None => self.members = None,
                },
                Some(outcome) = receipts.next(), if !receipts.is_empty() => report(outcome),
                line = input.next() => match line {
                    Some(Ok(line)) if line.data.is_empty() => {}
                    Some(Ok(line)) if line.data.starts_with(INFO) => {
                        report(self.update(&line.data[INFO.len()..]));
                    }
                    Some(Ok(line)) => match self.room.try_publish(line.data) {
                        Ok(receipt) => receipts.push(receipt),
                        Err(error) => report::<()>(Err(error)),
                    },
                    _ => break,
                },
            }
            self.shown.pause().await?;
        }
        // What was typed last is still to arrive.
        while let Some(outcome) = receipts.next().await {
            report(outcome);
        }
        progress.failure().map_or(Ok(()), Err)
    }

    /// Says something else of oneself; nothing, where that is empty.
    fn update(&mut self, json: &[u8]) -> Result<(), String> {
        let json = if json.trim_ascii().is_empty() { b"null" } else { json };
        let info: Value = serde_json::from_slice(json).map_err(|error| {
            format!("what is behind /info is not JSON: {error}; it is as in /info {{\"avatar\":3}}")
        })?;
        self.room.update(info).map_err(|error| error.to_string())
    }

    async fn show(&mut self, event: &Event) -> Result<(), Failure> {
        match event {
            Event::Message(message) if !self.shown.is_json() => {
                let cleared = if self.is_typed { CLEARED } else { "" };
                self.shown.data(format!("{cleared}{}", line(message))).await
            }
            // That somebody types is told to programs.
            Event::Ephemeral(_) if !self.shown.is_json() => Ok(()),
            event => self.shown.event(event).await,
        }
    }

    async fn tell(&mut self, event: &PresenceEvent) -> Result<(), Failure> {
        if self.shown.is_json() {
            return self.shown.line(&presence::of_event(event)).await;
        }
        match event {
            PresenceEvent::Anew => self.here = Some(Vec::new()),
            PresenceEvent::Here(member) => {
                self.here.get_or_insert_default().push(member.name.clone());
            }
            PresenceEvent::All { .. } => {
                let here = self.here.take().unwrap_or_default().join(", ");
                self.notice(&format!("here: {here}")).await?;
            }
            event => {
                if let Some(line) = presence::line(event) {
                    self.notice(&line).await?;
                }
            }
        }
        Ok(())
    }

    /// Says something that is not a message, and in the place of it where a person types.
    async fn notice(&mut self, line: &str) -> Result<(), Failure> {
        if self.is_typed {
            return self.shown.data(format!("{CLEARED}* {}", Printable(line))).await;
        }
        say(format_args!("* {line}"));
        Ok(())
    }
}

/// Says what came of a line, if that is not what it was typed for.
fn report<T>(outcome: Result<T, impl Display>) {
    if let Err(error) = outcome {
        answer(format_args!("rsock: not sent: {error}"));
    }
}

/// The next of them; never, where there are none.
async fn next_of(
    members: &mut Option<PresenceEvents>,
) -> Option<Result<PresenceEvent, rsock::Error>> {
    match members {
        Some(members) => members.next().await,
        None => std::future::pending().await,
    }
}

/// A message as a line: the time, who says it, and the text, which may lie in JSON as `text`.
fn line(message: &Message) -> String {
    let value: Option<Value> = serde_json::from_slice(&message.data).ok();
    let text = value.as_ref().and_then(|value| value.get("text")).and_then(Value::as_str);
    let text = text.map_or_else(|| String::from_utf8_lossy(&message.data), Into::into);
    let from = message.from.as_deref().unwrap_or("?");
    let time = time_of_day(message.time);
    format!("{time} {}: {}", Printable(from), Printable(text))
}
