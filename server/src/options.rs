//! Settings, and the flags that set them.

use std::{
    convert::Infallible, fmt, io, num::NonZeroUsize, path::PathBuf, str::FromStr, thread,
    time::Duration,
};

use clap::{Args, ValueEnum, value_parser};
use rsock::{HttpLimits, ResumeLimits, proto::Config};
use rsock_cli::{any_time, some_time};
use tokio::runtime::{Builder, Runtime};

use crate::{owner::UnixOwner, topics::TopicRule};

/// The settings of a service.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Options {
    /// Addresses to listen on: tcp://HOST:PORT or ws://HOST:PORT/PATH, port 0 for any; unix:/PATH,
    /// or unix:@NAME for a name without a file (Linux); may be repeated
    #[arg(long, value_name = "URI", default_values_t = Self::default().listen)]
    pub listen: Vec<String>,
    /// Permissions of Unix sockets: the mode of their files, as 0660; by default the umask says it
    #[arg(long, value_name = "MODE", value_parser = file_mode)]
    pub unix_mode: Option<u32>,
    /// Owner of the files of Unix sockets: USER, USER:GROUP or :GROUP, by name or number; only root
    /// gives them to another user
    #[arg(long, value_name = "OWNER", value_parser = UnixOwner::read)]
    pub unix_owner: Option<UnixOwner>,
    /// A subprotocol of WebSockets that is selected where a client offers it; none is required; may be
    /// repeated
    #[arg(long, value_name = "NAME", default_values_t = Self::default().subprotocol)]
    #[arg(value_parser = token)]
    pub subprotocol: Vec<String>,
    /// The route of requests that name none, or "none" to refuse them
    #[arg(long, value_name = "NAME", default_value_t = Self::default().default_route)]
    pub default_route: DefaultRoute,
    /// Connections at a time; more wait for half of --setup-timeout until one ends, and are refused
    /// then. Sessions whose connection was lost are not counted. Lowered to what the limit of open
    /// files is enough for
    #[arg(long, value_name = "N", default_value_t = Self::default().max_connections)]
    #[arg(value_parser = some_number)]
    pub max_connections: u32,
    /// Sockets beside these whose clients have not been accepted yet; for one more, the oldest of the
    /// address that has most of them is closed
    #[arg(long, value_name = "N", default_value_t = Self::default().max_newcomers)]
    #[arg(value_parser = some_number)]
    pub max_newcomers: u32,
    /// HTTP connections beside these, on the ports of WebSockets; for one more, the one is closed that
    /// has been idle for the longest time, of the address that has most
    #[arg(long, value_name = "N", default_value_t = Self::default().max_http_connections)]
    #[arg(value_parser = some_number)]
    pub max_http_connections: u32,
    /// HTTP connections of one address (of IPv6, a /64); without it half of --max-http-connections.
    /// Behind a proxy, from which all clients seem to come, it should be all of them
    #[arg(long, value_name = "N", value_parser = some_number)]
    pub max_http_connections_per_address: Option<u32>,
    /// How long an HTTP connection is kept for its next request
    #[arg(long, value_name = "TIME", default_value = "75s", value_parser = some_time)]
    pub http_idle_timeout: Duration,
    /// How long an HTTP client may take nothing of an answer while there is something to take
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = some_time)]
    pub http_stall_timeout: Duration,
    /// Streams a connection may hold open; more are refused
    #[arg(long, value_name = "N", default_value_t = Self::default().max_streams)]
    #[arg(value_parser = some_number)]
    pub max_streams: u32,
    /// The longest frame taken; a longer one ends its connection
    #[arg(long, value_name = "BYTES", default_value_t = Self::default().max_frame)]
    #[arg(value_parser = value_parser!(u32).range(MIN_FRAME..=MAX_FRAME))]
    pub max_frame: u32,
    /// Bytes kept of the text of an error that a client sends; the rest of a longer one is cut off
    #[arg(long, value_name = "BYTES", default_value_t = Self::default().max_error_text)]
    pub max_error_text: u32,
    /// How long a client may take to begin with SETUP
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = some_time)]
    pub setup_timeout: Duration,
    /// The largest frame sent; longer payloads are cut into fragments
    #[arg(long, value_name = "BYTES", default_value_t = Self::default().mtu)]
    #[arg(value_parser = value_parser!(u32).range(MIN_MTU..=MAX_FRAME))]
    pub mtu: u32,
    /// The longest payload put together from fragments; a longer one fails its stream
    #[arg(long, value_name = "BYTES", default_value_t = Self::default().max_payload)]
    #[arg(value_parser = some_number)]
    pub max_payload: u32,
    /// Bytes of half-assembled payloads a connection may hold
    #[arg(long, value_name = "BYTES", default_value_t = Self::default().max_reassembly)]
    #[arg(value_parser = some_number)]
    pub max_reassembly: u32,
    /// Bytes of payload that a connection's open requests may hold; more are refused
    #[arg(long, value_name = "BYTES", default_value_t = Self::default().max_request_bytes)]
    #[arg(value_parser = some_number)]
    pub max_request_bytes: u32,
    /// Memory that all connections may hold together: a size, as 2GiB or 500MB, and not a share; by
    /// default half of what the machine has, or its control group. Near its end those that hold most
    /// are refused more
    #[arg(long, value_name = "SIZE", value_parser = some_size)]
    pub memory_max: Option<usize>,
    /// Settings of the topics that a pattern covers, as 'orders.>=durable,age=7d': the kind (memory,
    /// durable, latest or none), then what differs; the first that covers a topic counts; may be repeated
    #[arg(long, value_name = "RULE", value_parser = TopicRule::read)]
    pub topic: Vec<TopicRule>,
    /// Memory that the logs of all topics may hold together, beside that of connections: a size; by
    /// default 1GiB, and not more than a quarter of what the machine has, or its control group
    #[arg(long, value_name = "SIZE", value_parser = some_size)]
    pub topic_memory: Option<usize>,
    /// Topics at a time; no further ones are made
    #[arg(long, value_name = "COUNT", default_value_t = Self::default().max_topics)]
    #[arg(value_parser = some_number)]
    pub max_topics: u32,
    /// Topics of these that one connection may have made; a tenth of them unless given
    #[arg(long, value_name = "COUNT", value_parser = some_number)]
    pub max_topics_per_connection: Option<u32>,
    /// The directory that durable topics are kept in, made if there is none; without it they are refused
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Bytes of all files in it: a size; beyond it publishes to durable topics are refused
    #[arg(long, value_name = "SIZE", default_value = "10GiB", value_parser = some_size)]
    pub data_max: usize,
    /// Lets durable topics that are found damaged in it at the start take messages again, without what is lost
    #[arg(long)]
    pub accept_damage: bool,
    /// How long half a frame or half a payload may wait for a KiB more of it
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = some_time)]
    pub part_timeout: Duration,
    /// The longest silence of a client that is tolerated, whatever it asks for
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = some_time)]
    pub max_lifetime: Duration,
    /// How long a session is kept whose connection was lost, for clients that ask to resume; 0s
    /// refuses them
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = any_time)]
    pub resume_window: Duration,
    /// Bytes of sent frames a resumable session keeps until its client has them
    #[arg(long, value_name = "BYTES", default_value_t = Self::default().resume_bytes)]
    #[arg(value_parser = value_parser!(u32).range(MIN_FRAME..))]
    pub resume_bytes: u32,
    /// Resumable sessions at a time; for one more, the one ends that has been without its connection for
    /// the longest time, of the address that has most
    #[arg(long, value_name = "N", default_value_t = Self::default().max_sessions)]
    #[arg(value_parser = some_number)]
    pub max_sessions: u32,
    /// Resumable sessions of one address (of IPv6, a /64); without it half of --max-sessions. Behind a
    /// proxy, from which all clients seem to come, it should be all of them
    #[arg(long, value_name = "N", value_parser = some_number)]
    pub max_sessions_per_address: Option<u32>,
    /// Give leases to clients that ask for them, so that about N requests run at a time in all;
    /// without it such clients are refused
    #[arg(long, value_name = "N", value_parser = some_number)]
    pub lease: Option<u32>,
    /// Warnings logged about one address within ten seconds, ten times as many about all, and lines on
    /// fire-and-forget requests that fail; more are counted and summed up
    #[arg(long, value_name = "N", default_value_t = Self::default().max_warnings)]
    pub max_warnings: u32,
    /// How work is shared among threads
    #[arg(long, value_name = "KIND", value_enum, default_value_t = Self::default().runtime)]
    pub runtime: RuntimeKind,
    /// Threads that serve connections; without it one for each core
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=MAX_WORKERS))]
    pub workers: Option<u16>,
}

/// How the threads of a service share its work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[non_exhaustive]
pub enum RuntimeKind {
    /// All serve all connections, whoever is free: best for uneven load, and on machines that do
    /// other things as well
    #[default]
    Shared,
    /// Each serves its own connections, which it takes on a socket of its own: less work a request
    /// where many connections are busy alike; Linux only
    PerCore,
}

/// More than there are cores in a machine.
const MAX_WORKERS: i64 = 1_024;

/// The largest frame that the protocol can express.
const MAX_FRAME: i64 = rsock::proto::MAX_FRAME_BYTES as i64;

/// The smallest fragment that every peer takes.
const MIN_MTU: i64 = 64;

/// SETUP with its MIME types and credentials fits.
const MIN_FRAME: i64 = 1_024;

impl Default for Options {
    fn default() -> Self {
        let (limits, resume) = (Config::default(), ResumeLimits::default());
        let topics = rsock_topics::Limits::default();
        let http = HttpLimits::default();
        Self {
            listen: ["tcp://127.0.0.1:7878", "ws://127.0.0.1:7879/rsocket"]
                .map(str::to_owned)
                .into(),
            unix_mode: None,
            unix_owner: None,
            subprotocol: vec!["rsocket".to_owned()],
            default_route: DefaultRoute::Route("echo".to_owned()),
            max_connections: 100_000,
            max_newcomers: 1_024,
            max_http_connections: http.max_connections as u32,
            max_http_connections_per_address: None,
            http_idle_timeout: http.idle_timeout,
            http_stall_timeout: http.stall_timeout,
            max_streams: limits.max_streams as u32,
            max_frame: limits.max_frame_bytes as u32,
            max_error_text: limits.max_error_text_bytes as u32,
            setup_timeout: limits.setup_timeout,
            mtu: limits.fragment_bytes.unwrap_or(rsock::proto::MAX_FRAME_BYTES) as u32,
            max_payload: limits.max_payload_bytes as u32,
            max_reassembly: limits.max_reassembly_bytes as u32,
            max_request_bytes: limits.max_request_bytes as u32,
            memory_max: None,
            topic: Vec::new(),
            topic_memory: None,
            max_topics: topics.topics as u32,
            max_topics_per_connection: None,
            data: None,
            data_max: 10 << 30,
            accept_damage: false,
            part_timeout: limits.part_timeout,
            max_lifetime: limits.max_lifetime,
            resume_window: resume.window,
            resume_bytes: resume.max_bytes as u32,
            max_sessions: 10_000,
            max_sessions_per_address: None,
            lease: None,
            max_warnings: 5,
            runtime: RuntimeKind::default(),
            workers: None,
        }
    }
}

impl Options {
    /// The runtime to bind and run the service on. That of [`RuntimeKind::PerCore`] has nothing to do
    /// but that: the service starts others.
    ///
    /// # Errors
    /// If the system gives no threads, or none of what a runtime needs.
    pub fn build_runtime(&self) -> io::Result<Runtime> {
        let mut builder = match self.runtime {
            RuntimeKind::Shared => Builder::new_multi_thread(),
            RuntimeKind::PerCore => Builder::new_current_thread(),
        };
        builder.worker_threads(self.threads().get()).thread_name("rsockd").enable_all().build()
    }

    /// The limits of one connection.
    pub(crate) fn config(&self) -> Config {
        let mut config = Config::default();
        config.max_streams = self.max_streams as usize;
        config.max_frame_bytes = self.max_frame as usize;
        config.max_error_text_bytes = self.max_error_text as usize;
        config.setup_timeout = self.setup_timeout;
        config.fragment_bytes = Some(self.mtu as usize);
        config.max_payload_bytes = self.max_payload as usize;
        config.max_reassembly_bytes = self.max_reassembly as usize;
        config.max_request_bytes = self.max_request_bytes as usize;
        config.part_timeout = self.part_timeout;
        config.max_lifetime = self.max_lifetime;
        config
    }

    /// The limits of plain HTTP.
    pub(crate) fn http_limits(&self) -> HttpLimits {
        let mut limits = HttpLimits::default();
        limits.max_connections = self.max_http_connections as usize;
        limits.max_connections_per_address =
            self.max_http_connections_per_address.map(|max| max as usize);
        limits.idle_timeout = self.http_idle_timeout;
        limits.stall_timeout = self.http_stall_timeout;
        limits
    }

    /// How many threads serve connections.
    pub(crate) fn threads(&self) -> NonZeroUsize {
        let asked = self.workers.and_then(|workers| NonZeroUsize::new(workers.into()));
        // One for each core that this process may use.
        asked.or_else(|| thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
    }

    /// The limits of a resumable session; `None` if there are none.
    pub(crate) fn resume(&self) -> Option<ResumeLimits> {
        let mut limits = ResumeLimits::default();
        limits.window = self.resume_window;
        limits.max_bytes = self.resume_bytes as usize;
        // As rsocket-js 1.0.0-alpha.3 writes RESUME; what counts are the token and the positions.
        limits.swapped_version = true;
        (!self.resume_window.is_zero()).then_some(limits)
    }
}

/// A limit: one of 0 would let nothing happen.
fn some_number(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) => Err("it must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err(format!("it must be a whole number from 1 to {}", u32::MAX)),
    }
}

/// A name that a header may have in a list.
fn token(text: &str) -> Result<String, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_token) {
        Ok(text.to_owned())
    } else {
        Err("the name of a subprotocol is of letters, digits and !#$%&'*+-.^_`|~".to_owned())
    }
}

/// The octal mode of a file.
fn file_mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text.strip_prefix("0o").unwrap_or(text), 8);
    mode.ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| "a mode is an octal number up to 0777, as 0660".to_owned())
}

/// The smallest budget with which connections get anywhere.
const LEAST_MEMORY: usize = 1 << 20;

/// How sizes are written.
const A_SIZE: &str = "a size is a whole number with kB, MB, GB, KiB, MiB or GiB, as 500MB or 2GiB";

/// A number of bytes, of thousands or of 1,024s of them.
fn some_size(text: &str) -> Result<usize, String> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "%" => return Err(format!("a share of the machine's memory cannot be given; {A_SIZE}")),
        _ => return Err(A_SIZE.to_owned()),
    };
    let size = number.parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
    match size {
        Some(size) if size >= LEAST_MEMORY => Ok(size),
        Some(_) if unit == 1 => Err(format!("it must be at least 1MiB; {A_SIZE}")),
        Some(_) => Err("it must be at least 1MiB".to_owned()),
        None => Err(A_SIZE.to_owned()),
    }
}

/// The route of requests that name none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefaultRoute {
    /// Nowhere: they are rejected.
    None,
    /// To this one.
    Route(String),
}

impl FromStr for DefaultRoute {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == "none" { Self::None } else { Self::Route(text.to_owned()) })
    }
}

impl fmt::Display for DefaultRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Route(name) => name,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        options: Options,
    }

    fn parse(flags: &[&str]) -> Result<Options, String> {
        let arguments = ["rsockd"].iter().chain(flags);
        Flags::try_parse_from(arguments)
            .map(|flags| flags.options)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_flags_are_sound() {
        Flags::command().debug_assert();
    }

    #[test]
    fn without_flags_there_are_the_defaults() {
        assert_eq!(parse(&[]), Ok(Options::default()));
    }

    #[test]
    fn flags_set_what_they_name() {
        let options = parse(&[
            "--listen=tcp://[::1]:1",
            "--listen=ws://h:2",
            "--unix-mode=0660",
            "--unix-owner=12:34",
            "--subprotocol=a.rsocket",
            "--subprotocol=rsocket",
            "--default-route=none",
            "--max-frame=65536",
            "--max-error-text=100",
            "--setup-timeout=1m 500ms",
            "--mtu=64",
            "--resume-window=0s",
            "--max-newcomers=7",
            "--max-http-connections=9",
            "--max-http-connections-per-address=8",
            "--http-idle-timeout=5",
            "--max-sessions-per-address=8",
            "--max-topics=500",
            "--max-topics-per-connection=7",
            "--lease=100",
            "--runtime=per-core",
            "--workers=3",
        ]);
        let expected = Options {
            listen: vec!["tcp://[::1]:1".to_owned(), "ws://h:2".to_owned()],
            unix_mode: Some(0o660),
            unix_owner: Some(UnixOwner { user: Some(12), group: Some(34) }),
            subprotocol: vec!["a.rsocket".to_owned(), "rsocket".to_owned()],
            default_route: DefaultRoute::None,
            max_frame: 65_536,
            max_error_text: 100,
            setup_timeout: Duration::from_millis(60_500),
            mtu: 64,
            resume_window: Duration::ZERO,
            max_newcomers: 7,
            max_http_connections: 9,
            max_http_connections_per_address: Some(8),
            http_idle_timeout: Duration::from_secs(5),
            max_sessions_per_address: Some(8),
            max_topics: 500,
            max_topics_per_connection: Some(7),
            lease: Some(100),
            runtime: RuntimeKind::PerCore,
            workers: Some(3),
            ..Options::default()
        };
        assert_eq!(options, Ok(expected));
    }

    #[test]
    fn wrong_values_are_told_what_is_wrong() {
        for (flag, expected) in [
            ("--max-connections=0", "it must be at least 1"),
            ("--max-newcomers=0", "it must be at least 1"),
            ("--max-http-connections=0", "it must be at least 1"),
            ("--max-streams=many", "a whole number from 1 to 4294967295"),
            ("--max-sessions=-1", "a whole number from 1 to 4294967295"),
            ("--max-frame=16777216", "is not in 1024..=16777215"),
            ("--setup-timeout=0s", "more than 0"),
            ("--part-timeout=soon", "it is not a time: write 500ms, 10s, 5m"),
            ("--memory-max=50%", "a share of the machine's memory cannot be given; a size is"),
            ("--memory-max=512", "at least 1MiB; a size is a whole number with kB"),
            ("--mtu=63", "is not in 64..=16777215"),
            ("--unix-mode=0888", "an octal number up to 0777"),
            ("--unix-mode=1777", "an octal number up to 0777"),
            ("--unix-owner=:", "USER, USER:GROUP or :GROUP"),
            ("--subprotocol=a b", "of letters, digits and"),
            ("--max-topics=0", "it must be at least 1"),
            ("--max-topics-per-connection=0", "it must be at least 1"),
            ("--lease=0", "it must be at least 1"),
            ("--runtime=both", "possible values: shared, per-core"),
            ("--workers=0", "0 is not in 1..=1024"),
            ("--lisen=x", "a similar argument exists: '--listen'"),
        ] {
            let error = parse(&[flag]).unwrap_err();
            assert!(error.contains(expected), "{flag}: {error}");
        }
    }

    #[test]
    fn sizes_are_numbers_with_a_unit() {
        for (text, size) in [
            ("1048576", 1 << 20),
            ("1048576B", 1 << 20),
            ("1MiB", 1 << 20),
            ("2m", 2 << 20),
            ("3 gib", 3 << 30),
            ("2MB", 2_000_000),
            ("4000kB", 4_000_000),
        ] {
            assert_eq!(some_size(text), Ok(size), "{text}");
        }
        for (text, said) in [
            ("", "a whole number"),
            ("much", "a whole number"),
            ("1.5GiB", "a whole number"),
            ("-1", "a whole number"),
            ("99999999999999999999", "a whole number"),
            ("1000KiB", "at least 1MiB"),
            ("0", "at least 1MiB"),
            ("50%", "a share"),
            ("0%", "a share"),
        ] {
            assert!(some_size(text).unwrap_err().contains(said), "{text}");
        }
    }
}
