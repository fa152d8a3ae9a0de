//! The memory that an attack makes a server hold.

use std::{
    fmt,
    time::{Duration, Instant},
};

use rsock::{Client, Error};
use rsock_tests::process::Process;
use tokio::time::{sleep, timeout};

use crate::{attack::Attack, budget, server, target::Target};

/// An attack that has not sent what it wants by then goes on without the rest.
const ATTACK_LIMIT: Duration = Duration::from_secs(120);
/// How long what an attack left behind may take to go.
const LEAVING_LIMIT: Duration = Duration::from_secs(40);
/// How long a newcomer may be refused because there is no memory.
const SERVED_LIMIT: Duration = Duration::from_secs(10);
/// How often the system is asked.
const GLANCE: Duration = Duration::from_millis(50);

/// The figures that were measured, in bytes resident.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// The attack.
    pub attack: &'static Attack,
    /// The connections it had.
    pub connections: u64,
    /// Before the attack.
    pub start: u64,
    /// The most during it.
    pub peak: u64,
    /// When it had sent everything, and still held on.
    pub held: u64,
    /// When it had gone, and what there is to go with it.
    pub left: u64,
    /// How long the attack took.
    pub took: Duration,
    /// How long the server took to let go.
    pub leaving: Duration,
    /// Whether somebody else was served while the attack held on.
    pub served_others: bool,
}

impl Measured {
    /// The bytes it grew by.
    pub fn growth(&self) -> u64 {
        self.peak.saturating_sub(self.start)
    }

    /// The problem with that, if there is one.
    pub fn problem(&self) -> Option<String> {
        let budget = budget::growth(self.connections, self.attack.leaves_topics);
        // The rest is what allocators lose.
        let allowed = budget + budget / 10;
        let mib = |bytes: u64| bytes >> 20;
        if self.growth() > allowed {
            let growth = mib(self.growth());
            return Some(format!("it grows by {growth} MiB, and may by {} MiB", mib(allowed)));
        }
        let left = budget::left(self.start, self.attack.leaves_topics);
        if self.left > left {
            return Some(format!(
                "{} MiB are left, at most {} MiB may be",
                mib(self.left),
                mib(left)
            ));
        }
        (!self.served_others).then(|| "nobody else is served".to_owned())
    }
}

/// The head of a table of measurements.
pub const HEAD: &str = "| attack | growth MiB | of MiB | held MiB | start → left MiB | attack s | leaving s | |\n\
                        |---|--:|--:|--:|--:|--:|--:|---|";

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        write!(
            f,
            "| {} | {:.0} | {:.0} | {:.0} | {:.0} → {:.0} | {:.1} | {:.1} | {} |",
            self.attack.story,
            mib(self.growth()),
            mib(budget::growth(self.connections, self.attack.leaves_topics)),
            mib(self.held),
            mib(self.start),
            mib(self.left),
            self.took.as_secs_f64(),
            self.leaving.as_secs_f64(),
            self.problem().unwrap_or_default(),
        )
    }
}

/// Lets an attack loose on a server of its own.
pub async fn measure(attack: &'static Attack, percent: usize) -> Measured {
    let server = server::start(&[], &budget::flags()).await;
    let target = Target::new(&server.uris, percent);
    warm_up(&server).await;
    let start = server.memory();
    server.forget_peak();
    let begun = Instant::now();
    let held = timeout(ATTACK_LIMIT, (attack.run)(&target)).await.unwrap_or_default();
    let took = begun.elapsed();
    rest(&server).await;
    let held_memory = server.memory();
    let served_others = timeout(SERVED_LIMIT, ask(&server.uris[0])).await == Ok(true);
    let peak = server.peak_memory();
    drop(held);
    let begun = Instant::now();
    let mut left = server.memory();
    while left > budget::left(start, attack.leaves_topics) && begun.elapsed() < LEAVING_LIMIT {
        sleep(GLANCE).await;
        left = server.memory();
    }
    let leaving = begun.elapsed();
    let connections = target.many(attack.connections) as u64;
    let held = held_memory;
    Measured { attack, connections, start, peak, held, left, took, leaving, served_others }
}

/// Warms the server up: what is measured later is growth and not the first use.
async fn warm_up(server: &Process) {
    for uri in &server.uris {
        let client = Client::connect(uri).await.expect("a connection");
        for _ in 0..500 {
            client.request_response("warm").await.expect("a reply");
        }
        client.close().await;
    }
}

/// Whether a newcomer is answered. While there is no memory at all he may be refused, and told so: then
/// he tries again.
async fn ask(uri: &str) -> bool {
    loop {
        let Ok(client) = Client::connect(uri).await else { return false };
        match client.request_response("still here").await {
            Ok(reply) => return reply.data == "still here",
            Err(Error::Rejected(text)) if text.contains("memory") => sleep(GLANCE).await,
            Err(_) => return false,
        }
    }
}

/// Waits until the server's memory does not grow any more.
async fn rest(server: &Process) {
    let mut before = server.memory();
    for _ in 0..20 {
        sleep(4 * GLANCE).await;
        let now = server.memory();
        if now.abs_diff(before) < 1 << 20 {
            return;
        }
        before = now;
    }
}
