//! Publishes that are acknowledged, to few topics or many, which nobody reads.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Extent, fleet::Fleet, server::Server, wire::Wire};
use crate::Result;

/// Publishes that are answered later at a time.
const AHEAD: u64 = 256;

pub(super) fn measure<W: Wire>(server: &Server, topics: u64, extent: Extent) -> Result<Value> {
    let mut fleet = Fleet::<W>::new()?;
    let names: Vec<_> = (0..topics).map(|topic| format!("room.{topic:06}")).collect();
    let publisher = fleet.add_publisher(server.address, "room.any")?;
    // Neighbours come one after the other in no map.
    let topic = |number: u64| &*names[(number.wrapping_mul(7_919) % topics) as usize];
    let meter = server.meter()?;
    let mut run = |is_enough: &dyn Fn(u64) -> bool| {
        let (mark, before) = (meter.start()?, fleet.published(publisher));
        while !is_enough(fleet.published(publisher) - before) {
            fleet.publish_to(publisher, AHEAD - fleet.unanswered(publisher), topic)?;
            fleet.wait_for(|fleet| fleet.unanswered(publisher) < AHEAD / 2)?;
        }
        fleet.wait_for(|fleet| fleet.unanswered(publisher) == 0)?;
        Result::Ok((meter.since(&mark)?, fleet.published(publisher) - before))
    };
    let within = |begin: Instant, time: Duration| move |_| begin.elapsed() >= time;
    // Each has been published to before anything is counted.
    run(&|published| published >= topics)?;
    run(&within(Instant::now(), extent.warm_up))?;
    let (spent, published) = run(&within(Instant::now(), extent.count_for))?;
    let seconds = spent.elapsed.as_secs_f64();
    Ok(json!({
        "per_second": published as f64 / seconds,
        "server_cpu_nanos": spent.server.as_nanos() as f64 / published as f64,
        "server_cpus": spent.server.as_secs_f64() / seconds,
        "others_cpus": spent.others.as_secs_f64() / seconds,
    }))
}
