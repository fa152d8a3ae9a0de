//! The server process of a contender, on one CPU and, where that can be chosen, one thread.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rsock::{Router, Server as RsockServer};
use rsock_topics::{AllowAll, Kind, Limits, Retention, Service, Settings, TopicSettings, store};

use super::{Contender, bare};
use crate::{
    Result, broker,
    case::Mode,
    machine::{self, Cpus, Meter, Side},
};

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A server that listens. It ends with this value.
pub(super) struct Server {
    child: Child,
    pid: u32,
    pub(super) address: SocketAddr,
    /// Its directory, where it has one, which goes with it.
    data: Option<PathBuf>,
}

impl Server {
    pub(super) fn start(contender: Contender) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["topics", "--serve", contender.name()]);
        let data = (contender == Contender::RsockDisk)
            .then(|| std::env::temp_dir().join(format!("rsock-bench-{}.data", std::process::id())));
        if let Some(data) = &data {
            remove(data)?;
            command.arg("--data").arg(data);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut said = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut said)?;
        }
        let listening = said
            .trim()
            .split_once(' ')
            .and_then(|(pid, address)| Some((pid.parse().ok()?, address.parse().ok()?)));
        match listening {
            Some((pid, address)) => Ok(Self { child, pid, address, data }),
            None => {
                // It may have ended by itself.
                let _ = child.kill();
                let _ = child.wait();
                Err(format!("{} does not listen", contender.name()).into())
            }
        }
    }

    /// The process that does the work.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn meter(&self) -> Result<Meter> {
        Meter::of_server(self.pid, None)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Either may fail only because the server has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(Err(error)) = self.data.as_deref().map(remove) {
            eprintln!("{error}");
        }
    }
}

/// Removes a directory, if it is there.
fn remove(directory: &Path) -> Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}", directory.display()).into())
        }
        _ => Ok(()),
    }
}

/// The program of a peer's server, and what it is given; none of those that are here.
fn program(contender: Contender) -> Result<Option<Vec<PathBuf>>> {
    let peers = std::env::current_exe()?.with_file_name("../peers");
    Ok(match contender {
        Contender::SocketIo => {
            Some(vec![peers.join("socketioxide/release/rsock-bench-socketioxide")])
        }
        Contender::Bun => {
            let bun = peers.join("bun");
            Some(vec![bun.join("node_modules/.bin/bun"), bun.join("server.js")])
        }
        Contender::Bare
        | Contender::Rsock
        | Contender::RsockWs
        | Contender::RsockDisk
        | Contender::Nats => None,
    })
}

/// The way to have this contender, where it is not on this machine.
pub(super) fn missing(contender: Contender) -> Result<Option<&'static str>> {
    if contender == Contender::Nats {
        let debian = "no nats-server in PATH; on Debian: apt-get install nats-server";
        return Ok((!broker::is_installed()?).then_some(debian));
    }
    let files = program(contender)?.unwrap_or_default();
    let is_there = files.iter().all(|file| file.exists());
    Ok((!is_there).then_some("run bench/peers/prepare"))
}

/// The server process: it listens until the parent hangs up, and says first which process does the work, and
/// where.
pub(super) fn serve(contender: Contender, data: Option<&Path>) -> Result<()> {
    Cpus::given()?.settle(Side::Server, Mode::Split)?;
    std::thread::spawn(|| {
        // The parent never writes: this returns when it has ended, however it ended.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    match contender {
        Contender::Bare => bare::serve(|address| say(std::process::id(), address)),
        Contender::Rsock | Contender::RsockDisk => {
            machine::runtime(Mode::Split)?.block_on(serve_topics("tcp", data))
        }
        Contender::RsockWs => machine::runtime(Mode::Split)?.block_on(serve_topics("ws", None)),
        // They listen to their parent as this process does, and say the same.
        Contender::SocketIo | Contender::Bun => {
            let files = program(contender)?.unwrap_or_default();
            let (program, arguments) = files.split_first().ok_or("no program")?;
            Err(Command::new(program).args(arguments).exec().into())
        }
        Contender::Nats => {
            let broker = broker::start(HOST)?;
            say(broker.pid, broker.address)?;
            loop {
                std::thread::park();
            }
        }
    }
}

fn say(pid: u32, address: SocketAddr) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{pid} {address}")?;
    Ok(out.flush()?)
}

async fn serve_topics(scheme: &str, data: Option<&Path>) -> Result<()> {
    let topics = match data {
        Some(data) => open(data)?,
        None => Service::new(settings(TopicSettings::default())?),
    };
    let server = RsockServer::builder()
        .max_connections(usize::MAX)
        .bind(&[&format!("{scheme}://{HOST}:0")])
        .await?;
    let address = server.addresses().remove(0);
    let address = address.trim_start_matches(scheme).trim_start_matches("://");
    // Of WebSocket it has a path.
    let address = address.split_once('/').map_or(address, |(address, _)| address);
    say(std::process::id(), address.parse()?)?;
    server.serve(topics.add_to(Router::new(()))).await;
    Ok(())
}

/// All topics on disk. Little is kept of each: how memory grows until logs are full is not what is measured.
fn open(data: &Path) -> Result<Service> {
    let retention = Retention { bytes: 1 << 10, ..Retention::default() };
    let durable = TopicSettings {
        kind: Kind::Durable,
        retention,
        max_message_bytes: 1 << 10,
        ..TopicSettings::default()
    };
    let sizes = store::Settings::default();
    Ok(Service::open(settings(durable)?, AllowAll, data, sizes)?.0)
}

/// These, but for a topic that keeps all there is to catch up with.
fn settings(room: TopicSettings) -> Result<Settings> {
    let retention = Retention { messages: 10_000_000, bytes: 1 << 30, ..Retention::default() };
    let log = TopicSettings { retention, ..TopicSettings::default() };
    // A hundred thousand of them are not all there are.
    let limits =
        Limits { memory: 2 << 30, topics: 200_000, topics_of_one: 200_000, ..Limits::default() };
    Ok(Settings::new(limits, [("log.>", log), (">", room)])?)
}
