//! Catching up: readers that begin with the oldest message of a long log.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    fleet::Fleet,
    server::Server,
    wire::{From, UNLIMITED, Wire},
};
use crate::{Result, machine};

/// A topic that keeps all there is: see the server's settings.
const TOPIC: &str = "log.all";
/// Publishes that are answered later at a time.
const AHEAD: u64 = 256;

pub(super) fn measure<W: Wire>(server: &Server, readers: usize, messages: u64) -> Result<Value> {
    let mut fleet = Fleet::<W>::new()?;
    let publisher = fleet.add_publisher(server.address, TOPIC)?;
    let empty = machine::resident_kib(server.pid())?;
    while fleet.published(publisher) < messages {
        fleet.publish(publisher, AHEAD - fleet.unanswered(publisher))?;
        fleet.wait_for(|fleet| fleet.unanswered(publisher) < AHEAD / 2)?;
    }
    fleet.wait_for(|fleet| fleet.unanswered(publisher) == 0)?;
    let full = machine::resident_kib(server.pid())?;
    let messages = fleet.published(publisher);
    let connections = fleet.connect(server.address, readers)?;
    let meter = server.meter()?;
    let mark = meter.start()?;
    fleet.ask(connections, 0..1, (TOPIC, From::Start, UNLIMITED))?;
    // The position of each reader is an item, too.
    let items = (messages + 1) * readers as u64;
    while fleet.items() < items {
        fleet.turn(Duration::from_millis(100))?;
    }
    let spent = meter.since(&mark)?;
    Ok(json!({
        "per_second": items as f64 / spent.elapsed.as_secs_f64(),
        "server_cpu_nanos": spent.server.as_nanos() as f64 / items as f64,
        "client_cpu_nanos": spent.client.as_nanos() as f64 / items as f64,
        "others_cpus": spent.others.as_secs_f64() / spent.elapsed.as_secs_f64(),
        "bytes_a_message": full.saturating_sub(empty) as f64 * 1024.0 / messages as f64,
    }))
}
