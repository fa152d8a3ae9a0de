//! A `nats-server`, found in `PATH`, that ends with the process that has started it.

use std::{
    io::{BufRead, BufReader},
    net::{IpAddr, SocketAddr},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
};

use crate::Result;

/// The broker, in a shell that ends it when this process does, however that ends: what the shell
/// waits to read is a pipe of this process.
const BROKER: &str = r#"command -v nats-server >/dev/null || exit
nats-server --addr "$1" --port -1 & echo $!
read -r _
kill $!"#;

/// The broker's words about where it listens.
const LISTENING: &str = "Listening for client connections on ";

/// A broker that listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Broker {
    pub(crate) pid: u32,
    pub(crate) address: SocketAddr,
}

/// The broker that this process has started.
static STARTED: OnceLock<(Child, u32)> = OnceLock::new();

/// The process of the broker, if this process has started one.
#[cfg(feature = "nats")]
pub(crate) fn started() -> Option<u32> {
    STARTED.get().map(|&(_, pid)| pid)
}

/// Whether there is one to start.
pub(crate) fn is_installed() -> Result<bool> {
    let found = Command::new("sh").args(["-c", "command -v nats-server"]).output()?;
    Ok(found.status.success())
}

/// Starts it, on the CPUs of the calling thread.
pub(crate) fn start(host: IpAddr) -> Result<Broker> {
    let mut shell = Command::new("sh")
        .args(["-c", BROKER, "sh", &host.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut pid = String::new();
    if let Some(stdout) = shell.stdout.take() {
        BufReader::new(stdout).read_line(&mut pid)?;
    }
    let log = shell.stderr.take().ok_or("the broker has no stderr")?;
    let pid = pid
        .trim()
        .parse()
        .map_err(|_| "nats-server is not in PATH; on Debian: apt-get install nats-server")?;
    // Kept, so that the pipe the shell reads stays open.
    STARTED.set((shell, pid)).map_err(|_| "the broker has been started before")?;
    let mut lines = BufReader::new(log).lines();
    while let Some(line) = lines.next().transpose()? {
        if let Some((_, address)) = line.split_once(LISTENING) {
            // It would end if it could not write its log.
            thread::spawn(move || lines.for_each(drop));
            return Ok(Broker { pid, address: address.trim().parse()? });
        }
    }
    Err("nats-server ended before it listened".into())
}
