//! The cases that are measured: an interaction, how many in flight, how large; and in which mode.

use std::{fmt, str::FromStr};

use crate::{Error, Result};

/// The interactions measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interaction {
    /// This many tasks, each with one request outstanding, one after the other.
    RequestResponse { in_flight: usize },
    /// As many in all, each task going round all the connections.
    Spread { in_flight: usize, connections: usize },
    /// One stream at a time on the connection.
    RequestStream,
    /// This many streams at a time on the connection, which share the items.
    Streams { at_a_time: usize },
    /// One channel at a time, which the server echoes.
    RequestChannel,
    /// One task that sends, timed until the server has handled them all.
    FireAndForget,
}

/// One line of comparison: every contender runs it, and is compared within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) interaction: Interaction,
    /// Bytes of data in a request, a response or an item.
    pub(crate) size: usize,
}

/// The cases of a full run, in the order they are run and printed.
pub(crate) fn all() -> impl Iterator<Item = Case> {
    let requests = [1, 64, 1024].map(|in_flight| Interaction::RequestResponse { in_flight });
    let streams =
        [Interaction::RequestStream, Interaction::RequestChannel, Interaction::FireAndForget];
    let of = |sizes: &'static [usize]| {
        move |interaction| sizes.iter().map(move |&size| Case { interaction, size })
    };
    let requests = requests.into_iter().flat_map(of(&[32, 1024, 64 * 1024]));
    requests.chain(streams.into_iter().flat_map(of(&[32, 1024])))
}

/// How many requests are in flight on one connection, where that is what is looked at.
pub(crate) const IN_FLIGHT: [usize; 7] = [1, 4, 16, 64, 256, 1024, 4096];
/// How many connections 64 requests in flight go over.
pub(crate) const CONNECTIONS: [usize; 4] = [1, 10, 100, 1000];
/// How many streams share a connection.
pub(crate) const AT_A_TIME: [usize; 4] = [1, 64, 256, 4096];

/// The cases that are not of a sitting, but of the series beside it.
fn beside() -> impl Iterator<Item = Case> {
    let in_flight = IN_FLIGHT.map(|in_flight| Interaction::RequestResponse { in_flight });
    let spread = CONNECTIONS.map(|connections| Interaction::Spread { in_flight: 64, connections });
    let streams = AT_A_TIME.map(|at_a_time| Interaction::Streams { at_a_time });
    let all = in_flight.into_iter().chain(spread).chain(streams);
    all.map(|interaction| Case { interaction, size: 32 })
}

impl Case {
    /// Whether it belongs to a quick run: over TCP; and of those, two over WebSocket too.
    pub(crate) fn is_quick(self, transport: Transport) -> bool {
        let is_64 = self.interaction == Interaction::RequestResponse { in_flight: 64 };
        let is_stream = self.interaction == Interaction::RequestStream;
        match (self.size, transport) {
            (32, Transport::Tcp) => true,
            (32, Transport::WebSocket) | (1024, Transport::Tcp) => is_64 || is_stream,
            _ => false,
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.size;
        match self.interaction {
            Interaction::RequestResponse { in_flight } => {
                write!(f, "request-response/{in_flight}/{size}B")
            }
            Interaction::Spread { in_flight, connections } => {
                write!(f, "request-response/{in_flight}-over-{connections}/{size}B")
            }
            Interaction::RequestStream => write!(f, "request-stream/{size}B"),
            Interaction::Streams { at_a_time } => write!(f, "request-streams/{at_a_time}/{size}B"),
            Interaction::RequestChannel => write!(f, "request-channel/{size}B"),
            Interaction::FireAndForget => write!(f, "fire-and-forget/{size}B"),
        }
    }
}

impl FromStr for Case {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        all()
            .chain(beside())
            .find(|case| case.to_string() == name)
            .ok_or_else(|| format!("no case is called {name:?}; see --list").into())
    }
}

/// How the two processes are laid out on the CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// One thread each, both pinned to the same CPU: the cost of the code and of nothing else.
    OneCpu,
    /// One thread each, on different CPUs.
    Split,
    /// Two tokio workers each, placed by the kernel.
    TwoWorkers,
}

impl Mode {
    pub(crate) const ALL: [Self; 3] = [Self::OneCpu, Self::Split, Self::TwoWorkers];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OneCpu => "1cpu",
            Self::Split => "split",
            Self::TwoWorkers => "2w",
        }
    }

    pub(crate) fn explained(self) -> &'static str {
        match self {
            Self::OneCpu => "one thread each, both processes pinned to the same CPU",
            Self::Split => "one thread each, the processes pinned to different CPUs",
            Self::TwoWorkers => "two tokio workers each, placed by the kernel",
        }
    }
}

impl FromStr for Mode {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|mode| mode.name() == name)
            .ok_or_else(|| format!("no mode is called {name:?}; there are 1cpu, split, 2w").into())
    }
}

/// The transport that the frames travel in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    WebSocket,
}

impl Transport {
    pub(crate) const ALL: [Self; 2] = [Self::Tcp, Self::WebSocket];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::WebSocket => "ws",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_found_by_the_name_it_prints() {
        for case in all().chain(beside()) {
            assert_eq!(case.to_string().parse::<Case>().ok(), Some(case));
        }
        assert!("request-response/64/33B".parse::<Case>().is_err());
    }
}
