//! A room in which all speak and all hear: each of its clients says something, and when all have heard all of it
//! each says something more.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{
    Extent,
    fan_out::TOPIC,
    fleet::Fleet,
    server::Server,
    wire::{From, UNLIMITED, Wire},
};
use crate::Result;

pub(super) fn measure<W: Wire>(server: &Server, clients: usize, extent: Extent) -> Result<Value> {
    let mut fleet = Fleet::<W>::new()?;
    let all = fleet.connect(server.address, clients)?;
    fleet.subscribe(all.clone(), 0..1, (TOPIC, From::New, UNLIMITED))?;
    let meter = server.meter()?;
    let mut said = 0;
    let mut run = |time: Duration| {
        let (begin, mark, before) = (Instant::now(), meter.start()?, fleet.items());
        while begin.elapsed() < time {
            for client in all.clone() {
                fleet.publish_on(client, TOPIC, said)?;
            }
            said += 1;
            let wanted = u64::from(said) * (clients * clients) as u64;
            fleet.wait_for(|fleet| fleet.items() >= wanted).map_err(|error| {
                format!("{error}: {} deliveries of {wanted} are missing", wanted - fleet.items())
            })?;
        }
        Result::Ok((meter.since(&mark)?, fleet.items() - before))
    };
    run(extent.warm_up)?;
    let (spent, items) = run(extent.count_for)?;
    let wanted = u64::from(said) * (clients * clients) as u64;
    if fleet.items() > wanted {
        return Err(format!("{} deliveries too many", fleet.items() - wanted).into());
    }
    let seconds = spent.elapsed.as_secs_f64();
    Ok(json!({
        "deliveries": items,
        "per_second": items as f64 / seconds,
        "server_cpu_nanos": spent.server.as_nanos() as f64 / items as f64,
        "client_cpu_nanos": spent.client.as_nanos() as f64 / items as f64,
        "server_cpus": spent.server.as_secs_f64() / seconds,
        "others_cpus": spent.others.as_secs_f64() / seconds,
    }))
}
