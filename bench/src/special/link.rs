//! A link of a known rate between client and server: a virtual Ethernet pair between two network
//! namespaces, shaped by the kernel, or a pacing proxy where that is not allowed.

use std::{
    net::{IpAddr, Ipv4Addr},
    process::Command,
    str::FromStr,
};

use nix::sched::{CloneFlags, unshare};

use crate::{Error, Result, case::Mode, contender::Entry, pair::Server};

/// How the link is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Namespace,
    Proxy,
    /// Plain loopback, not shaped: to see what a sender loses by holding back.
    Loopback,
}

/// Addresses of the two ends, from a block that is set aside for benchmarks (RFC 2544).
const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);

/// Bytes that leave at once when the link was idle: half a millisecond's worth.
const BURST: &str = "32kb";

/// Bytes that wait in front of the link, as in a router: 4 ms' worth.
const QUEUE: &str = "256kb";

impl Link {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Proxy => "proxy",
            Self::Loopback => "loopback",
        }
    }
}

impl FromStr for Link {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        [Self::Namespace, Self::Proxy, Self::Loopback]
            .into_iter()
            .find(|link| link.name() == name)
            .ok_or_else(|| {
                format!("{name:?} is not a link; expected namespace, proxy or loopback").into()
            })
    }
}

/// Moves this process to a network namespace with nothing in it. It ends with the processes in it,
/// and takes its interfaces along, however they end.
///
/// Threads that run already stay where they are.
pub(crate) fn leave_network() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|error| format!("no network namespace can be made: {error}").into())
}

/// Takes this process to one end of a link and starts a server at the other.
pub(crate) fn apart(entry: Entry, mode: Mode, megabits: u32) -> Result<Server> {
    leave_network()?;
    Server::start_at(IpAddr::from(SERVER), entry, mode, |server| {
        ip(&format!("link add rsb0 type veth peer name rsb1 netns {server}"))?;
        raise("", "rsb0", CLIENT, megabits)?;
        raise(&format!("nsenter --target {server} --net "), "rsb1", SERVER, megabits)
    })
}

/// Gives one end its address and its rate. What leaves it is shaped, so each way has the rate.
fn raise(within: &str, interface: &str, address: Ipv4Addr, megabits: u32) -> Result<()> {
    run(&format!("{within}ip addr add {address}/30 dev {interface}"))?;
    run(&format!("{within}ip link set {interface} up"))?;
    run(&format!(
        "{within}tc qdisc add dev {interface} root tbf rate {megabits}mbit burst {BURST} limit \
         {QUEUE}"
    ))
}

fn ip(arguments: &str) -> Result<()> {
    run(&format!("ip {arguments}"))
}

fn run(line: &str) -> Result<()> {
    let mut words = line.split_whitespace();
    let program = words.next().ok_or("an empty command")?;
    let output = Command::new(program)
        .args(words)
        .output()
        .map_err(|error| format!("{program} cannot be run: {error}"))?;
    if !output.status.success() {
        return Err(format!("{line}: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    Ok(())
}
