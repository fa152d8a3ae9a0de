//! The memory of subscriptions that wait: resident memory of the server, whoever's allocator it is.

use std::{thread, time::Duration};

use serde_json::{Value, json};

use super::{
    fan_out::TOPIC,
    fleet::Fleet,
    server::Server,
    wire::{From, UNLIMITED, Wire},
};
use crate::{Result, machine};

/// How long the last of what subscribing left behind has to go.
const SETTLE: Duration = Duration::from_millis(500);
/// Connections that further subscriptions are made on, as many as before all together.
const SHARED: usize = 10;

pub(super) fn measure<W: Wire>(server: &Server, connections: usize) -> Result<Value> {
    let mut fleet = Fleet::<W>::new()?;
    let resident = || {
        thread::sleep(SETTLE);
        machine::resident_kib(server.pid())
    };
    let one = (TOPIC, From::New, UNLIMITED);
    // What is there once is not a connection's.
    let first = fleet.connect(server.address, 1)?;
    fleet.subscribe(first, 0..1, one)?;
    let before = resident()?;
    let all = fleet.connect(server.address, connections)?;
    fleet.subscribe(all.clone(), 0..1, one)?;
    let connected = resident()?;
    let shared = all.start..all.start + SHARED;
    let more = u32::try_from(connections / SHARED)?;
    fleet.subscribe(shared, 1..1 + more, one)?;
    let subscribed = resident()?;
    let further = SHARED as u64 * u64::from(more);
    Ok(json!({
        "connection_kib": connected.saturating_sub(before) as f64 / connections as f64,
        "subscription_bytes": subscribed.saturating_sub(connected) as f64 * 1024.0 / further as f64,
    }))
}
