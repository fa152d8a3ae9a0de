//! The options of `rsock topic`, and what `--help` says of them.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::{Args, Subcommand, ValueEnum, value_parser};
use rsock::topic::{Lag, Meta, Position, Start};
use rsock_cli::{TIMES, some_time};
use serde_json::Value;

use crate::{
    args::{ConnectionArgs, Format, OutputArgs, When, some_number},
    calendar::rfc3339,
    input::Source,
};

#[derive(Debug, Subcommand)]
pub(crate) enum TopicCommand {
    /// Receive messages; after a break, go on behind the last one
    ///
    /// Only the data of messages goes to stdout, a line each; with --out json, all that is told, as JSON. What
    /// was missed is told on stderr.
    #[command(after_help = TIMES)]
    Sub(SubArgs),
    /// Publish messages, and wait until the service has acknowledged them
    ///
    /// Each has a random id unless --id gives one, and is sent again after a break until it is acknowledged:
    /// it is published once.
    #[command(after_help = TIMES)]
    Pub(PubArgs),
    /// Chat: lines that are typed are published, those of others are shown, and who comes and goes
    ///
    /// Ctrl-D leaves. A line as /info {"avatar":3} is no message: it changes your description. What is typed while the connection is lost is sent when there is another. A line that is
    /// being typed when another arrives is not lost: Ctrl-R shows it again.
    #[command(after_help = TIMES)]
    Join(JoinArgs),
    /// Tell who is present; with -f, also who comes and goes
    #[command(after_help = TIMES)]
    Presence(PresenceArgs),
    /// Show messages that are kept: the newest, or those behind or before a position
    #[command(after_help = TIMES)]
    History(HistoryArgs),
    /// List topics
    #[command(after_help = TIMES)]
    Ls(LsArgs),
    /// Have a topic drop all that it keeps; its offsets go on
    #[command(after_help = TIMES)]
    Purge(OneArgs),
    /// Delete a topic
    #[command(after_help = TIMES)]
    Rm(OneArgs),
}

impl TopicCommand {
    pub(crate) fn connection(&self) -> &ConnectionArgs {
        match self {
            Self::Sub(args) => &args.connection,
            Self::Pub(args) => &args.connection,
            Self::Join(args) => &args.connection,
            Self::Presence(args) => &args.connection,
            Self::History(args) => &args.connection,
            Self::Ls(args) => &args.connection,
            Self::Purge(args) | Self::Rm(args) => &args.connection,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct SubArgs {
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
    /// The topic
    #[arg(help_heading = "Topic")]
    pub(crate) topic: String,
    #[command(flatten)]
    pub(crate) receive: ReceiveArgs,
    /// Say how much of what is said beside a message is wanted; it shows with --out json
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = MetaArg::Full)]
    #[arg(help_heading = "Topic")]
    pub(crate) meta: MetaArg,
    /// Whether messages that were published on the same connection come back
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    #[arg(help_heading = "Topic")]
    pub(crate) echo: bool,
    /// Say when all messages there were have come
    #[arg(long, help_heading = "Topic")]
    pub(crate) live: bool,
    /// End after N messages
    #[arg(short = 'n', long = "take", value_name = "N", value_parser = some_number)]
    #[arg(help_heading = "Topic")]
    pub(crate) take: Option<u64>,
    #[command(flatten)]
    pub(crate) output: TopicOutputArgs,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Topic")]
pub(crate) struct ReceiveArgs {
    /// The place to begin at: new, start, last:N, EPOCH:OFFSET (behind that message), since:TIME
    ///
    /// TIME is as in 2026-11-30T12:00:00Z, or how long ago: since:10m.
    #[arg(long, value_name = "PLACE", default_value = "new", value_parser = start)]
    pub(crate) from: Start,
    /// Keep the position in this file, and begin there where it has one: the next run goes on where this ends
    #[arg(long, value_name = "FILE")]
    pub(crate) position: Option<PathBuf>,
    /// The policy for a reader so slow that messages are dropped before they were sent
    #[arg(long, value_name = "POLICY", value_enum, default_value_t = LagArg::Gap)]
    pub(crate) lag: LagArg,
    /// So many messages behind the newest is too slow, however many more are kept
    #[arg(long, value_name = "N", value_parser = some_number)]
    pub(crate) max_lag: Option<u64>,
    /// Fail with exit code 3 where messages were missed
    #[arg(long)]
    pub(crate) fail_on_gap: bool,
}

#[derive(Args, Debug)]
pub(crate) struct PubArgs {
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
    /// The topic
    #[arg(help_heading = "Topic")]
    pub(crate) topic: String,
    #[command(flatten)]
    pub(crate) message: MessageArgs,
    /// How acknowledgements are written to stdout: with json, a line each; otherwise not
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    #[arg(help_heading = "Output")]
    pub(crate) out: Format,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Message")]
pub(crate) struct MessageArgs {
    /// A message: text, @FILE, or - for the lines of stdin, each a message; repeatable, published in order.
    /// Text that begins with @ is written with two
    ///
    /// Without it the lines of stdin are published.
    #[arg(short, long, value_name = "DATA", allow_hyphen_values = true)]
    pub(crate) data: Vec<Source>,
    /// The idempotency key: what was published under it is not published again
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
    /// The sender's name: the authenticated one, where there is one
    #[arg(long, value_name = "NAME")]
    pub(crate) sender: Option<String>,
    /// The key whose latest message it is, in a topic that keeps that
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// Delete the key
    #[arg(long, requires = "key", conflicts_with_all = ["data", "ephemeral"])]
    pub(crate) delete: bool,
    /// A header of the message: NAME=VALUE, of which VALUE is JSON or text; repeatable
    #[arg(long = "message-header", value_name = "NAME=VALUE", value_parser = message_header)]
    pub(crate) message_headers: Vec<(String, Value)>,
    /// An event that is not kept: for those who subscribe now and keep up
    #[arg(long, conflicts_with_all = ["id", "expect", "close"])]
    pub(crate) ephemeral: bool,
    /// Publish only if this is the offset of the last message: of the key's, in a topic that keeps the latest
    #[arg(long, value_name = "OFFSET")]
    pub(crate) expect: Option<u64>,
    /// Make it the topic's last message: readers complete behind it
    #[arg(long)]
    pub(crate) close: bool,
}

#[derive(Args, Debug)]
pub(crate) struct JoinArgs {
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
    /// The topic
    #[arg(help_heading = "Topic")]
    pub(crate) topic: String,
    /// Your name: the authenticated one, where there is one
    #[arg(long, value_name = "NAME", help_heading = "Topic")]
    pub(crate) name: String,
    /// A description that is shown in presence: JSON
    #[arg(long, value_name = "JSON", value_parser = json, help_heading = "Topic")]
    pub(crate) info: Option<Value>,
    /// Do not appear in presence
    #[arg(long, help_heading = "Topic")]
    pub(crate) hidden: bool,
    /// The place to begin at: new, start, last:N, EPOCH:OFFSET (behind that message), since:TIME
    #[arg(long, value_name = "PLACE", default_value = "last:10", value_parser = start)]
    #[arg(help_heading = "Topic")]
    pub(crate) from: Start,
    /// Keep the position in this file, and begin there where it has one: the next run goes on where this ends
    #[arg(long, value_name = "FILE", help_heading = "Topic")]
    pub(crate) position: Option<PathBuf>,
    /// Fail with exit code 3 where messages were missed
    #[arg(long, help_heading = "Topic")]
    pub(crate) fail_on_gap: bool,
    #[command(flatten)]
    pub(crate) output: TopicOutputArgs,
}

#[derive(Args, Debug)]
pub(crate) struct PresenceArgs {
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
    /// The topic
    #[arg(help_heading = "Topic")]
    pub(crate) topic: String,
    /// Go on with who comes and goes
    #[arg(short, long, help_heading = "Topic")]
    pub(crate) follow: bool,
    /// Also tell of members whose connection is lost and may come back
    #[arg(long, requires = "follow", help_heading = "Topic")]
    pub(crate) away: bool,
    #[command(flatten)]
    pub(crate) output: TopicOutputArgs,
}

#[derive(Args, Debug)]
pub(crate) struct HistoryArgs {
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
    /// The topic
    #[arg(help_heading = "Topic")]
    pub(crate) topic: String,
    /// Those behind this position
    #[arg(long, value_name = "EPOCH:OFFSET", conflicts_with = "before", help_heading = "Topic")]
    pub(crate) after: Option<Position>,
    /// Those before this position
    #[arg(long, value_name = "EPOCH:OFFSET", help_heading = "Topic")]
    pub(crate) before: Option<Position>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 100, help_heading = "Topic")]
    #[arg(value_parser = value_parser!(u64).range(1..=1_000))]
    pub(crate) limit: u64,
    /// The newest first
    #[arg(long, help_heading = "Topic")]
    pub(crate) reverse: bool,
    #[command(flatten)]
    pub(crate) output: TopicOutputArgs,
}

#[derive(Args, Debug)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
    /// Those whose names begin so
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    #[arg(help_heading = "Topic")]
    pub(crate) prefix: String,
    #[command(flatten)]
    pub(crate) output: TopicOutputArgs,
}

#[derive(Args, Debug)]
pub(crate) struct OneArgs {
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
    /// The topic
    #[arg(help_heading = "Topic")]
    pub(crate) topic: String,
}

#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Output")]
pub(crate) struct TopicOutputArgs {
    /// How it is written to stdout: with json all that is told, a line each, and errors are JSON, too;
    /// otherwise the data of messages
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    pub(crate) out: Format,
}

impl TopicOutputArgs {
    pub(crate) fn is_json(self) -> bool {
        self.out == Format::Json
    }
}

impl From<TopicOutputArgs> for OutputArgs {
    fn from(args: TopicOutputArgs) -> Self {
        // A line of JSON is one thing that is told.
        let pretty = if args.is_json() { When::Never } else { When::Auto };
        Self { out: args.out, pretty, show: None }
    }
}

/// The policy for who is too slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LagArg {
    /// Tell the gap, and go on with what is kept
    Gap,
    /// Tell the gap, and go on with the newest
    Latest,
    /// Fail
    Close,
    /// Only ever the newest
    Conflate,
}

impl From<LagArg> for Lag {
    fn from(lag: LagArg) -> Self {
        match lag {
            LagArg::Gap => Self::Gap,
            LagArg::Latest => Self::Latest,
            LagArg::Close => Self::Close,
            LagArg::Conflate => Self::Conflate,
        }
    }
}

/// How much is said beside a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MetaArg {
    /// All of it
    Full,
    /// Its offset
    Offset,
}

impl From<MetaArg> for Meta {
    fn from(meta: MetaArg) -> Self {
        match meta {
            MetaArg::Full => Self::Full,
            MetaArg::Offset => Self::Offset,
        }
    }
}

/// A place to begin at.
fn start(text: &str) -> Result<Start, String> {
    if let Some(count) = text.strip_prefix("last:") {
        return some_number(count).map(Start::Last);
    }
    if let Some(since) = text.strip_prefix("since:") {
        return Ok(Start::Since(match some_time(since) {
            Ok(ago) => rfc3339(before_now(ago)),
            // What is wrong with it, the service says.
            Err(_) => since.to_owned(),
        }));
    }
    match text {
        "new" => Ok(Start::New),
        "start" => Ok(Start::Oldest),
        _ => text.parse().map(Start::After).map_err(|_| {
            "expected new, start, last:N, since:TIME, or a position EPOCH:OFFSET".to_owned()
        }),
    }
}

/// That time ago, in milliseconds since 1970.
fn before_now(ago: Duration) -> u64 {
    let since = SystemTime::now().checked_sub(ago).unwrap_or(UNIX_EPOCH);
    let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn message_header(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
    Ok((name.to_owned(), value))
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("not valid JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_to_begin_at_has_many_forms() {
        assert_eq!(start("new"), Ok(Start::New));
        assert_eq!(start("start"), Ok(Start::Oldest));
        assert_eq!(start("last:20"), Ok(Start::Last(20)));
        let position: Position = "9f3c1a7be2d04411:42".parse().expect("a position");
        assert_eq!(start("9f3c1a7be2d04411:42"), Ok(Start::After(position)));
        let time = "2026-11-30T12:00:00Z";
        assert_eq!(start(&format!("since:{time}")), Ok(Start::Since(time.to_owned())));
        match start("since:10m") {
            Ok(Start::Since(time)) => assert!(time.starts_with("20") && time.ends_with('Z')),
            other => panic!("{other:?}"),
        }
        for wrong in ["", "last:0", "last:x", "1:2", "newest"] {
            assert!(start(wrong).is_err(), "{wrong}");
        }
    }
}
