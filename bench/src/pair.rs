//! The pair of processes: this one, and the server it starts from its own binary.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{
    Result,
    case::Mode,
    contender::Entry,
    load::{Load, Tally},
    machine::{self, Cpus, Meter, Side},
    special::link,
};

/// The word that stands before the process of a contender's broker.
const BROKER: &str = "broker";

/// The line of a server that is in a network namespace of its own, with no way out of it yet.
const PREPARE: &str = "prepare";

/// The last line a server prints before it only answers.
const READY: &str = "ready";

/// The server process of a contender. It ends with this value.
pub(crate) struct Server {
    child: Child,
    address: Option<SocketAddr>,
    broker: Option<u32>,
    mode: Mode,
    entry: Entry,
}

impl Server {
    pub(crate) fn start(entry: Entry, mode: Mode) -> Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), entry, mode, |_| Ok(()))
    }

    /// A server that listens at `host`, once `prepare` has been called with its process. If `host`
    /// is another than this machine's, the server has a network namespace of its own.
    pub(crate) fn start_at(
        host: IpAddr,
        entry: Entry,
        mode: Mode,
        prepare: impl FnOnce(u32) -> Result<()>,
    ) -> Result<Self> {
        let child = Command::new(std::env::current_exe()?)
            .args(["serve", "--entry", &entry.to_string()])
            .args(["--mode", mode.name(), "--host", &host.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        // From here on the child is ended by `drop`, whatever happens.
        let mut server = Self { child, address: None, broker: None, mode, entry };
        let said = server.child.stdout.take().ok_or("the server has no stdout")?;
        let mut prepare = Some(prepare);
        for line in BufReader::new(said).lines() {
            let line = line?;
            if line == READY {
                return Ok(server);
            }
            if line == PREPARE {
                let prepare = prepare.take().ok_or("the server wants to be prepared again")?;
                prepare(server.pid())?;
                let mut stdin = server.child.stdin.as_ref().ok_or("the server has no stdin")?;
                stdin.write_all(b"\n")?;
                continue;
            }
            match line.split_once(' ') {
                Some((BROKER, pid)) => server.broker = Some(pid.parse()?),
                _ => server.address = Some(line.parse()?),
            }
        }
        Err("the server ended before it was ready".into())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn meter(&self) -> Result<Meter> {
        Meter::of_server(self.pid(), self.broker)
    }

    /// The address the contender listens on.
    pub(crate) fn address(&self) -> Result<SocketAddr> {
        Ok(self.address.ok_or("the server has not said where it listens")?)
    }

    /// One measurement, on a connection and a runtime of its own. The calling thread has to be
    /// settled already.
    pub(crate) fn measure(&self, load: Load) -> Result<Tally> {
        let (entry, address) = (self.entry, self.address()?);
        let runtime = machine::runtime(self.mode)?;
        // On a worker, where a user's code would be; in the thread of `block_on` every wake would
        // cross threads.
        let tally = runtime.block_on(async { tokio::spawn(entry.drive(address, load)).await });
        runtime.shutdown_timeout(Duration::from_secs(1));
        let tally = tally??;
        if tally.messages == 0 {
            return Err("not one message came back".into());
        }
        Ok(tally)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Either may fail only because the server has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server process: the contender listens, until the parent hangs up.
pub(crate) fn serve(entry: Entry, mode: Mode, host: IpAddr) -> Result<()> {
    if !host.is_loopback() {
        link::leave_network()?;
        println!("{PREPARE}");
        // A byte at a time: what is read ahead would be missed below.
        std::io::stdin().read_exact(&mut [0])?;
    }
    std::thread::spawn(|| {
        // The parent never writes: this returns when it has ended, however it ended.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    Cpus::given()?.settle(Side::Server, mode)?;
    machine::runtime(mode)?.block_on(async {
        let mut out = std::io::stdout();
        writeln!(out, "{}", entry.serve(host).await?)?;
        #[cfg(feature = "nats")]
        if let Some(pid) = crate::broker::started() {
            writeln!(out, "{BROKER} {pid}")?;
        }
        writeln!(out, "{READY}")?;
        out.flush()?;
        std::future::pending().await
    })
}
