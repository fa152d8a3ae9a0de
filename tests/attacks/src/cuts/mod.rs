//! Sessions whose transports are disturbed in a dozen ways: nothing may be lost, doubled, out of order
//! or hang, and no client may be dead for good while the server lives.
//!
//! What is disturbed when, and in which way, is of a seed; what lies on the wire at that moment is not,
//! since sockets and two processes are in between.

mod disturber;
mod kind;
mod relay;
pub(crate) mod rng;
mod work;

use std::{
    fmt,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use rsock_tests::process::Process;

pub use kind::Kind;

use crate::{
    cuts::{disturber::Disturber, rng::Rng},
    server,
};

/// How much is to happen.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed of all decisions.
    pub seed: u64,
    /// Transports to be disturbed, over all clients.
    pub cuts: usize,
    /// Clients at a time, every other one over WebSocket.
    pub clients: usize,
    /// The ways to choose from.
    pub kinds: Vec<Kind>,
}

/// The figures of a run.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Transports disturbed, by kind.
    pub disturbed: [usize; Kind::ALL.len()],
    /// Items, answers and echoes that came as they were to come.
    pub received: u64,
    /// Fire-and-forgets, each heard once.
    pub heard: u64,
    /// Times a session went on.
    pub resumed: u64,
    /// How long it took.
    pub took: Duration,
    /// The claims that did not hold, a line each.
    pub broken: Vec<String>,
}

impl Totals {
    /// Transports that were disturbed.
    pub fn cuts(&self) -> usize {
        self.disturbed.iter().sum()
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} disturbances in {:.0} s: {} items and answers, {} fire-and-forgets, {} resumes",
            self.cuts(),
            self.took.as_secs_f64(),
            self.received,
            self.heard,
            self.resumed,
        )?;
        for (kind, count) in Kind::ALL.iter().zip(self.disturbed) {
            writeln!(f, "  {count:6} {}", kind.story())?;
        }
        for line in &self.broken {
            writeln!(f, "  broken: {line}")?;
        }
        Ok(())
    }
}

/// Retained bytes of the server: so few that they are full when a transport goes.
const RETAINED: &str = "16384";

/// Lets clients work through disturbed transports until so many were disturbed.
pub async fn run(plan: Plan) -> Totals {
    let begun = Instant::now();
    let flags = ["--resume-bytes", RETAINED, "--resume-window", "60s"].map(str::to_owned);
    let server = server::start(&[], &flags).await;
    let mut seeds = Rng::new(plan.seed);
    let share = plan.cuts.div_ceil(plan.clients.max(1));
    let clients = (0..plan.clients).map(|n| one(&server, n, share, &plan.kinds, seeds.fork()));
    let all = join_all(clients).await;
    let mut totals = Totals::default();
    for one in all {
        for (sum, count) in totals.disturbed.iter_mut().zip(one.disturbed) {
            *sum += count;
        }
        totals.received += one.received;
        totals.heard += one.heard;
        totals.resumed += one.resumed;
        totals.broken.extend(one.broken);
    }
    let heard = work::heard_at_the_server(&server.uris[0], totals.heard).await;
    if heard != totals.heard {
        let sent = totals.heard;
        totals.broken.push(format!("{sent} fire-and-forgets were sent, {heard} were heard"));
    }
    totals.took = begun.elapsed();
    totals
}

/// A client of its own, behind a relay of its own.
async fn one(
    server: &Process,
    number: usize,
    share: usize,
    kinds: &[Kind],
    mut rng: Rng,
) -> Totals {
    let uri = &server.uris[number % server.uris.len()];
    let disturber = Disturber::start(uri, share, kinds, rng.fork()).await;
    let mut totals = work::until_spent(&disturber, number, rng).await;
    totals.disturbed = disturber.counts();
    totals
}
