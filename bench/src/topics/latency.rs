//! Latency in an open loop: messages at a fixed rate, whatever becomes of them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{
    Extent,
    fan_out::{self, Layout},
    fleet::Fleet,
    server::Server,
    wire::Wire,
};
use crate::{Result, latency::Histogram};

/// A topic that nobody reads is published to as well, so often a second.
const OTHER: &str = "room.other";
const OTHER_RATE: u32 = 200;

/// Subscribers, and messages a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) layout: Layout,
    pub(super) messages: u32,
}

impl Rate {
    pub(super) fn name(self) -> String {
        format!("{}, {}/s", self.layout.name(), self.messages)
    }
}

/// The moments at which something is due.
struct Schedule {
    next: Instant,
    every: Duration,
}

impl Schedule {
    fn new(rate: u32) -> Self {
        Self { next: Instant::now(), every: Duration::from_secs(1) / rate }
    }

    /// Whether it is time, once for each.
    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = now >= self.next;
        if is_due {
            self.next += self.every;
        }
        is_due
    }
}

pub(super) fn measure<W: Wire>(server: &Server, rate: Rate, extent: Extent) -> Result<Value> {
    let mut fleet = Fleet::<W>::new()?;
    let publisher = fan_out::open(&mut fleet, server, rate.layout)?;
    let other = fleet.add_publisher(server.address, OTHER)?;
    let publishers = [(publisher, rate.messages), (other, OTHER_RATE)];
    publish(&mut fleet, publishers, extent.warm_up)?;
    let (meter, before) = (server.meter()?, fleet.items());
    fleet.measure(true);
    let mark = meter.start()?;
    publish(&mut fleet, publishers, extent.count_for)?;
    let (spent, items) = (meter.since(&mark)?, fleet.items() - before);
    fleet.measure(false);
    fleet.finish(rate.layout.subscribers)?;
    let seconds = spent.elapsed.as_secs_f64();
    let mut figures = json!({
        "per_second": items as f64 / seconds,
        "server_cpu_nanos": spent.server.as_nanos() as f64 / items as f64,
        "server_cpus": spent.server.as_secs_f64() / seconds,
        "others_cpus": spent.others.as_secs_f64() / seconds,
    });
    let mut add = |name: &str, histogram: &Histogram| {
        if let Some(latency) = histogram.latency() {
            figures[format!("{name}_p50_micros")] = json!(latency.p50.as_secs_f64() * 1e6);
            figures[format!("{name}_p99_micros")] = json!(latency.p99.as_secs_f64() * 1e6);
        }
    };
    add("answer", fleet.acknowledgement(publisher));
    add("other_answer", fleet.acknowledgement(other));
    add("delivery", fleet.delivery());
    Ok(figures)
}

/// Publishes at these rates for so long, and takes what comes.
fn publish<W: Wire>(
    fleet: &mut Fleet<W>,
    publishers: [(usize, u32); 2],
    time: Duration,
) -> Result<()> {
    let begin = Instant::now();
    let mut schedules = publishers.map(|(publisher, rate)| (publisher, Schedule::new(rate)));
    loop {
        let now = Instant::now();
        if now - begin >= time {
            return Ok(());
        }
        for (publisher, schedule) in &mut schedules {
            if schedule.is_due(now) {
                fleet.publish(*publisher, 1)?;
            }
        }
        // It does not wait: what has come is to be seen when it comes.
        fleet.turn(Duration::ZERO)?;
    }
}
