//! The server process of a contender, on one CPU and, where that can be chosen, one thread.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
};

use rsock::{Router, Server as RsockServer};
use rsock_topics::{Limits, Retention, Service, Settings, TopicSettings};

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
}

impl Server {
    pub(super) fn start(contender: Contender) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["topics", "--serve", contender.name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut said = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut said)?;
        }
        let listening = said
            .trim()
            .split_once(' ')
            .and_then(|(pid, address)| Some((pid.parse().ok()?, address.parse().ok()?)));
        match listening {
            Some((pid, address)) => Ok(Self { child, pid, address }),
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
    }
}

/// The server process: it listens until the parent hangs up, and says first which process does the work, and
/// where.
pub(super) fn serve(contender: Contender) -> Result<()> {
    Cpus::given()?.settle(Side::Server, Mode::Split)?;
    std::thread::spawn(|| {
        // The parent never writes: this returns when it has ended, however it ended.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    match contender {
        Contender::Bare => bare::serve(|address| say(std::process::id(), address)),
        Contender::Rsock => machine::runtime(Mode::Split)?.block_on(serve_topics()),
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

async fn serve_topics() -> Result<()> {
    let topics = Service::new(settings()?);
    let server = RsockServer::builder()
        .max_connections(usize::MAX)
        .bind(&[&format!("tcp://{HOST}:0")])
        .await?;
    let address = server.addresses().remove(0);
    say(std::process::id(), address.trim_start_matches("tcp://").parse()?)?;
    server.serve(topics.add_to(Router::new(()))).await;
    Ok(())
}

/// As they come, but for a topic that keeps all there is to catch up with.
fn settings() -> Result<Settings> {
    let retention = Retention { messages: 10_000_000, bytes: 1 << 30, ..Retention::default() };
    let log = TopicSettings { retention, ..TopicSettings::default() };
    let limits = Limits { memory: 2 << 30, ..Limits::default() };
    Ok(Settings::new(limits, [("log.>", log)])?)
}
