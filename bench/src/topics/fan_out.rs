//! Fan-out in a closed loop: as many messages as the server delivers, with a few published ahead.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{
    Extent,
    fleet::Fleet,
    server::Server,
    wire::{From, UNLIMITED, Wire},
};
use crate::{Result, machine};

/// Subscribers of one topic, and the connections that they share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) subscribers: u64,
    pub(super) connections: usize,
    /// Connections of these that never read.
    pub(super) stuck: usize,
}

impl Layout {
    pub(super) const fn new(subscribers: u64, connections: usize) -> Self {
        Self { subscribers, connections, stuck: 0 }
    }

    pub(super) fn of_each(self) -> u64 {
        self.subscribers / self.connections as u64
    }

    /// Subscribers whose connections read.
    fn reading(self) -> u64 {
        self.of_each() * (self.connections - self.stuck) as u64
    }

    pub(super) fn name(self) -> String {
        let Self { subscribers, connections, stuck } = self;
        match stuck {
            0 => format!("{subscribers} on {connections}"),
            _ => format!("{subscribers} on {connections}, {stuck} stuck"),
        }
    }
}

/// Messages that are published before the mean subscriber has them.
const AHEAD: u64 = 16;
/// Their bytes, all copies together, at most: the kernel holds them for whoever has not read them.
const AHEAD_BYTES: u64 = 64 << 20;

pub(super) const TOPIC: &str = "room.lobby";

/// Connects and subscribes all; the number of the publisher, which is on a connection of its own.
pub(super) fn open<W: Wire>(
    fleet: &mut Fleet<W>,
    server: &Server,
    layout: Layout,
) -> Result<usize> {
    let Layout { connections, stuck, .. } = layout;
    let all = fleet.connect(server.address, connections)?;
    let subscribers = 0..u32::try_from(layout.of_each())?;
    fleet.subscribe(all, subscribers, (TOPIC, From::New, UNLIMITED))?;
    fleet.leave_unread(0..stuck)?;
    fleet.add_publisher(server.address, TOPIC)
}

pub(super) fn measure<W: Wire>(server: &Server, layout: Layout, extent: Extent) -> Result<Value> {
    let mut fleet = Fleet::<W>::new()?;
    let publisher = open(&mut fleet, server, layout)?;
    let subscribers = layout.reading();
    let most = AHEAD.min(AHEAD_BYTES / (subscribers * 300)).max(1);
    let meter = server.meter()?;
    let before = machine::resident_kib(server.pid())?;
    let mut run = |time: Duration| {
        let (begin, mark, before) = (Instant::now(), meter.start()?, fleet.items());
        while begin.elapsed() < time {
            let behind = fleet.published(publisher) - fleet.items() / subscribers;
            if behind < most {
                fleet.publish(publisher, most - behind)?;
            }
            fleet.turn(Duration::from_millis(10))?;
        }
        Result::Ok((meter.since(&mark)?, fleet.items() - before))
    };
    run(extent.warm_up)?;
    let (spent, items) = run(extent.count_for)?;
    let after = machine::resident_kib(server.pid())?;
    fleet.finish(subscribers)?;
    let seconds = spent.elapsed.as_secs_f64();
    Ok(json!({
        "deliveries": items,
        "per_second": items as f64 / seconds,
        "server_cpu_nanos": spent.server.as_nanos() as f64 / items as f64,
        "client_cpu_nanos": spent.client.as_nanos() as f64 / items as f64,
        "server_cpus": spent.server.as_secs_f64() / seconds,
        "others_cpus": spent.others.as_secs_f64() / seconds,
        "growth_mib": after.saturating_sub(before) as f64 / 1024.0,
    }))
}
