//! The options, and what `--help` says of them.

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};
use clap_complete::Shell;

use rsock::metadata::{Sampling, TraceParent};
use rsock_cli::{HELP_WIDTH, STYLES, TIMES, any_time, some_time};

#[cfg(any(feature = "tls-aws-lc-rs", feature = "tls-ring"))]
use crate::command::cert::CertCommand;
use crate::{credentials::Secret, input::Source, tls::TlsArgs, topic_args::TopicCommand};

const EXAMPLES: &str = "\
Examples, against a service started with `rsockd`:
  rsock request tcp://127.0.0.1:7878 -r echo -d hello
  rsock stream  tcp://127.0.0.1:7878 -r range -d '{\"to\":10}' --request-n 4 -vv
  rsock stream  tcp://127.0.0.1:7878 -r clock --take 3
  rsock stream  tcp://127.0.0.1:7878 -r range --step --request-n 5
  seq 5 | rsock channel ws://127.0.0.1:7879/rsocket -r echo -d -
  rsock fnf     tcp://127.0.0.1:7878 -r echo -d @report.json
  rsock request unix:/run/rsockd.sock -r echo -d hello
  rsock request tls://localhost:7878 --ca certs/ca.pem -r echo -d hello
  rsock push    tcp://127.0.0.1:7878 -m json='{\"level\":\"debug\"}'
  rsock topic pub tcp://127.0.0.1:7878 room.1 -d hello
  rsock topic sub tcp://127.0.0.1:7878 room.1 --from last:10
  rsock topic join ws://127.0.0.1:7879/rsocket room.1 --name ann
  rsock request tcp://127.0.0.1:7878 -r echo -d hello --auth-bearer env:TOKEN --trace

Data alone is written to stdout; everything else goes to stderr.

Exit codes:
    0  done, or the reader of stdout has seen enough, as `head` has
    2  wrong usage                   67  REJECTED_SETUP
    3  messages of a topic were      68  REJECTED_RESUME
       missed, with --fail-on-gap    69  CONNECTION_ERROR
    6  the host does not resolve     70  CONNECTION_CLOSE
    7  no connection                 71  APPLICATION_ERROR
   23  stdout cannot be written to   72  REJECTED
   28  timeout; for fnf and push     73  CANCELED
       also: no sign of being read   74  INVALID
   35  the TLS handshake failed      75  anything else
   56  the connection was lost      130  interrupted
   60  the server's certificate
       was not accepted
   65  INVALID_SETUP
   66  UNSUPPORTED_SETUP

The spellings of `rsc` are understood: rsock --stream --route=range -d - tcp://HOST:PORT";

/// curl for RSocket: request, stream, channel, fire and forget, push, and topics
#[derive(Debug, Parser)]
#[command(name = "rsock", version, arg_required_else_help = true)]
#[command(max_term_width = HELP_WIDTH, styles = STYLES)]
#[command(after_help = "`rsock --help` has examples and the exit codes.")]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Ask for one answer
    #[command(after_help = TIMES)]
    Request(RequestArgs),
    /// Ask for a stream of items, under credit
    #[command(after_help = TIMES)]
    Stream(StreamArgs),
    /// Send and receive items, each side under the other's credit
    #[command(after_help = TIMES)]
    Channel(ChannelArgs),
    /// Fire and forget: send a request that has no answer
    #[command(after_help = TIMES)]
    Fnf(FnfArgs),
    /// Push metadata to the peer, outside of any request
    #[command(after_help = TIMES)]
    Push(PushArgs),
    /// Topics: receive and publish messages, chat, see who is there and what was said
    #[command(subcommand)]
    Topic(TopicCommand),
    /// Certificates to try TLS with
    #[cfg(any(feature = "tls-aws-lc-rs", feature = "tls-ring"))]
    #[command(subcommand)]
    Cert(CertCommand),
    /// Write a script that completes rsock's options to stdout
    ///
    /// For bash: source <(rsock completion bash)
    Completion {
        /// The shell that is to run it
        shell: Shell,
    },
}

impl Command {
    /// The connection it is for, if it needs one.
    pub(crate) fn connection(&self) -> Option<&ConnectionArgs> {
        Some(match self {
            Self::Request(args) => &args.connection,
            Self::Stream(args) => &args.connection,
            Self::Channel(args) => &args.connection,
            Self::Fnf(args) => &args.connection,
            Self::Push(args) => &args.connection,
            Self::Topic(command) => command.connection(),
            #[cfg(any(feature = "tls-aws-lc-rs", feature = "tls-ring"))]
            Self::Cert(_) => return None,
            Self::Completion { .. } => return None,
        })
    }
}

#[derive(Args, Debug)]
pub(crate) struct RequestArgs {
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
    #[command(flatten)]
    pub(crate) metadata: MetadataArgs,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Args, Debug)]
pub(crate) struct StreamArgs {
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
    #[command(flatten)]
    pub(crate) metadata: MetadataArgs,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    #[command(flatten)]
    pub(crate) flow: FlowArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ChannelArgs {
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
    #[command(flatten)]
    pub(crate) metadata: MetadataArgs,
    /// A payload: text, @FILE, or - for the lines of stdin; repeatable, sent in order. Text that begins
    /// with @ is written with two
    ///
    /// Without it the lines of stdin are sent. A line is read when the peer has granted credit for
    /// it, and goes without its newline. The route goes with the first payload.
    #[arg(short, long, value_name = "DATA", allow_hyphen_values = true, help_heading = "Data")]
    pub(crate) data: Vec<Source>,
    #[command(flatten)]
    pub(crate) flow: FlowArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Args, Debug)]
pub(crate) struct FnfArgs {
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
    #[command(flatten)]
    pub(crate) metadata: MetadataArgs,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    #[command(flatten)]
    pub(crate) report: ReportArgs,
}

#[derive(Args, Debug)]
pub(crate) struct PushArgs {
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
    #[command(flatten)]
    pub(crate) metadata: MetadataArgs,
    #[command(flatten)]
    pub(crate) report: ReportArgs,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Data")]
pub(crate) struct DataArgs {
    /// The data: text, @FILE, or - for all of stdin; sent byte for byte. Text that begins with @ is
    /// written with two
    #[arg(short, long, value_name = "DATA", allow_hyphen_values = true)]
    pub(crate) data: Option<Source>,
    /// Leave out the newline at the end of the data
    #[arg(long)]
    pub(crate) chomp: bool,
}

#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Metadata")]
pub(crate) struct MetadataArgs {
    /// The route; repeat it for further routing tags
    #[arg(short, long = "route", value_name = "ROUTE")]
    pub(crate) routes: Vec<String>,
    /// A metadata entry: MIME=TEXT or MIME=@FILE; repeatable
    ///
    /// MIME is a type such as application/json, a short name such as json, text, cbor, or an id such
    /// as 0x05. Where --metadata-mime is no composite type, the one entry is given as TEXT or @FILE.
    #[arg(short, long = "metadata", value_name = "MIME=VALUE")]
    pub(crate) metadata: Vec<String>,
    /// The type of the data of this request, where it is not --data-mime's
    #[arg(long, value_name = "MIME")]
    pub(crate) request_data_mime: Option<String>,
    /// A type the answer may have; repeatable, the preferred one first
    ///
    /// An answer of another type than the request says so: --show metadata shows it.
    #[arg(long, value_name = "MIME")]
    pub(crate) accept: Vec<String>,
    /// Start a trace, in Zipkin's form, with random ids; -v says which
    #[arg(long, value_name = "DECISION", num_args = 0..=1, require_equals = true)]
    #[arg(value_enum, default_missing_value = "sampled")]
    pub(crate) trace: Option<Trace>,
    /// Be part of this trace, as W3C Trace Context writes it: 00-TRACE-SPAN-FLAGS
    #[arg(long, value_name = "VALUE")]
    pub(crate) traceparent: Option<TraceParent>,
}

/// Whether the spans of a trace are to be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Trace {
    /// The receiver decides
    Undecided,
    /// No
    NotSampled,
    /// Yes
    Sampled,
    /// Yes, whatever a sampler says
    Debug,
}

impl From<Trace> for Sampling {
    fn from(trace: Trace) -> Self {
        match trace {
            Trace::Undecided => Self::Undecided,
            Trace::NotSampled => Self::NotSampled,
            Trace::Sampled => Self::Sampled,
            Trace::Debug => Self::Debug,
        }
    }
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Credentials")]
pub(crate) struct AuthArgs {
    /// A user name and a password: as text, @FILE, or env:VARIABLE
    ///
    /// Text shows in the list of processes and in the shell's history: a file's first line or an
    /// environment variable does not. Credentials go to the peer in clear.
    #[arg(long, value_name = "USER:PASSWORD", conflicts_with = "auth_bearer")]
    pub(crate) auth_simple: Option<Secret>,
    /// A token: as text, @FILE, or env:VARIABLE
    #[arg(long, value_name = "TOKEN")]
    pub(crate) auth_bearer: Option<Secret>,
    /// They are text, whatever they begin with: for those of `rsc`, which has no other form.
    #[arg(long, hide = true)]
    pub(crate) auth_literal: bool,
    /// The frames that carry credentials
    #[arg(long, value_name = "WHERE", value_enum, default_value_t = AuthIn::Setup)]
    pub(crate) auth_in: AuthIn,
}

/// The frames that carry credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AuthIn {
    /// Into SETUP: they hold for the connection
    Setup,
    /// Into the request: they hold for it alone
    Request,
    /// Into both
    Both,
}

impl AuthIn {
    pub(crate) fn is_in_setup(self) -> bool {
        self != Self::Request
    }

    pub(crate) fn is_in_request(self) -> bool {
        self != Self::Setup
    }
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Flow control")]
pub(crate) struct FlowArgs {
    /// The first request-n: never more than N items are outstanding
    #[arg(long, value_name = "N", default_value_t = rsock::DEFAULT_CREDIT)]
    #[arg(value_parser = value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    pub(crate) request_n: u32,
    /// Ask for more when PCT percent of the N items are consumed
    #[arg(long, value_name = "PCT", default_value_t = 50)]
    #[arg(value_parser = value_parser!(u8).range(1..=100))]
    pub(crate) refill: u8,
    /// Take N items and cancel; never asks for more than N
    #[arg(long, value_name = "N", value_parser = some_number)]
    pub(crate) take: Option<u64>,
    /// Be slow: wait so long after each item
    #[arg(long, value_name = "TIME", value_parser = any_time)]
    pub(crate) delay: Option<Duration>,
    /// Ask for the next N items only when Enter is pressed on the terminal
    #[arg(long, conflicts_with = "refill")]
    pub(crate) step: bool,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// How data is written to stdout. With json an answer is asked for as JSON, where its server has
    /// several forms of it, and errors are JSON, too
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    pub(crate) out: Format,
    /// Whether JSON that does not fit a line is indented; otherwise it is shown as it is
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = When::Auto)]
    pub(crate) pretty: When,
    /// Show the metadata of replies too, on stderr
    #[arg(long, value_name = "WHAT", value_enum)]
    pub(crate) show: Option<Show>,
}

/// The output of what has no answer.
#[derive(Args, Debug)]
#[command(next_help_heading = "Output")]
pub(crate) struct ReportArgs {
    /// With json errors are JSON; there is no other output
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    pub(crate) out: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// The bytes as they are and a newline
    Text,
    /// One line of JSON; text that is not JSON as a string, other bytes as {"base64":"…"}
    Json,
    /// Hexadecimal digits and a newline
    Hex,
    /// Base64 and a newline
    Base64,
    /// The bytes as they are and nothing else
    Raw,
    /// Nothing
    None,
}

/// Whether JSON is made readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// On a terminal
    Auto,
    /// Also elsewhere, for 80 columns
    Always,
    /// Nowhere
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Show {
    /// Every entry of every reply's metadata
    Metadata,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionArgs {
    /// tcp://HOST:PORT, ws://HOST[:PORT][/PATH], tls:// and wss:// for the same over TLS, unix:/PATH or
    /// unix:@NAME
    pub(crate) uri: String,
    /// The type of data
    #[arg(long, value_name = "MIME", default_value = "application/json")]
    pub(crate) data_mime: String,
    /// The type of metadata; composite unless given
    #[arg(long, value_name = "MIME", default_value = "composite", hide_default_value = true)]
    pub(crate) metadata_mime: String,
    /// The payload SETUP carries: text or @FILE
    #[arg(long, value_name = "DATA", allow_hyphen_values = true)]
    pub(crate) setup_data: Option<Source>,
    /// A metadata entry of SETUP: MIME=TEXT or MIME=@FILE, as with -m; repeatable
    #[arg(long, value_name = "MIME=VALUE")]
    pub(crate) setup_metadata: Vec<String>,
    /// How often KEEPALIVE is sent, and after how long a silent peer counts as gone
    #[arg(long, value_name = "INTERVAL/LIFETIME", default_value = "20s/90s")]
    #[arg(value_parser = keepalive)]
    pub(crate) keepalive: (Duration, Duration),

    /// Send payloads in fragments of at most this many bytes, 64 or more
    #[arg(long, value_name = "BYTES", default_value_t = 65 << 10)]
    #[arg(value_parser = clap::value_parser!(u32).range(64..=16_777_215))]
    pub(crate) mtu: u32,
    /// Ask for a session that outlives its connection: when that is lost, connect again for at most
    /// TIME and go on where it was, without loss
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "60s", value_parser = some_time)]
    pub(crate) resume: Option<Duration>,
    /// Connect anew when the connection is lost, for as long as it takes: a stream begins anew, and
    /// says so; what else was asked fails. With --resume, first the session is taken up again
    #[arg(long)]
    pub(crate) reconnect: bool,
    /// Ask for leases: requests wait until the peer allows them
    #[arg(long)]
    pub(crate) lease: bool,
    /// How long connecting may take
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = some_time)]
    pub(crate) connect_timeout: Duration,
    /// How long everything after connecting may take; without it, as long as it takes
    #[arg(long, value_name = "TIME", value_parser = some_time)]
    pub(crate) timeout: Option<Duration>,
    /// A header of the WebSocket handshake, NAME:VALUE; repeatable
    #[arg(short = 'H', long = "header", value_name = "NAME:VALUE", value_parser = header)]
    pub(crate) headers: Vec<(String, String)>,
    /// -v: a summary; -vv: a line a frame, with the credit left; -vvv: its bytes, too; on stderr
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// No progress, notes and warnings: errors alone
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    // Last, as their headings hold for what follows.
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    #[command(flatten)]
    pub(crate) auth: AuthArgs,
}

/// A number of things: none of them would let nothing happen.
pub(crate) fn some_number(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(0) => Err("it must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err("it must be a whole number, 1 or more".to_owned()),
    }
}

fn keepalive(text: &str) -> Result<(Duration, Duration), String> {
    let (interval, lifetime) =
        text.split_once('/').ok_or("expected INTERVAL/LIFETIME, as in 20s/90s")?;
    Ok((some_time(interval)?, some_time(lifetime)?))
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("expected NAME:VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_options_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn keepalive_is_two_times() {
        assert_eq!(keepalive("1s/3s"), Ok((Duration::from_secs(1), Duration::from_secs(3))));
        for (wrong, said) in [("1s", "expected INTERVAL/LIFETIME"), ("0/90s", "more than 0")] {
            assert!(keepalive(wrong).unwrap_err().contains(said));
        }
    }
}
