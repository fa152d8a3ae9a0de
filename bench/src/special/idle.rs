//! The memory of a connection that does nothing: resident memory of either process, each connection
//! having been used once.

use std::{
    cell::Cell,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tokio::time;

use super::{Measurement, figure, measure_peer, name};
use crate::{
    Result,
    case::{Mode, Transport},
    contender::{Entry, Peer, Requester},
    machine,
    pair::Server,
    report,
};

/// Connections being opened at a time: fewer than a listener's queue holds.
const AT_ONCE: usize = 32;

/// How long the last of what opening left behind has to go.
const SETTLE: Duration = Duration::from_millis(500);

struct Idle {
    server: u32,
    connections: usize,
}

pub(super) fn measure(entry: Entry, connections: usize) -> Result<Value> {
    let mode = Mode::TwoWorkers;
    let server = Server::start(entry, mode)?;
    let address = server.address()?;
    let idle = Idle { server: server.pid(), connections };
    machine::runtime(mode)?.block_on(measure_peer(entry, address, idle))
}

impl Measurement for Idle {
    async fn of<P: Peer>(self, transport: Transport, address: SocketAddr) -> Result<Value> {
        let client = std::process::id();
        let resident = || -> Result<[u64; 2]> {
            Ok([machine::resident_kib(client)?, machine::resident_kib(self.server)?])
        };
        // What is there once is not a connection's.
        let _first = used::<P>(transport, address).await?;
        let before = resident()?;

        let begin = Instant::now();
        let opened = Cell::new(0);
        let openers = (0..AT_ONCE).map(async |_| {
            let mut held = Vec::new();
            while opened.replace(opened.get() + 1) < self.connections {
                held.push(used::<P>(transport, address).await?);
            }
            Result::Ok(held)
        });
        let held: Vec<_> = try_join_all(openers).await?.into_iter().flatten().collect();
        let took = begin.elapsed();
        time::sleep(SETTLE).await;
        let after = resident()?;
        let each =
            |side: usize| after[side].saturating_sub(before[side]) as f64 / held.len() as f64;
        Ok(json!({
            "connections": held.len(),
            "client_kib": each(0),
            "server_kib": each(1),
            "connects_per_second": held.len() as f64 / took.as_secs_f64(),
        }))
    }
}

/// A connection over which a request has been answered, so that both sides have it.
async fn used<P: Peer>(transport: Transport, address: SocketAddr) -> Result<P::Requester> {
    let requester = P::connect(transport, address).await?;
    requester.request_response(Bytes::from_static(&[b'x'; 32])).await?;
    Ok(requester)
}

/// The table.
pub(super) fn text(rows: &[Value]) -> String {
    let mut lines = vec![
        ["contender", "connections", "client KiB each", "server KiB each", "connects/s"]
            .map(str::to_owned),
    ];
    lines.extend(rows.iter().map(|row| {
        [
            name(row),
            figure(row, "connections", 0),
            figure(row, "client_kib", 2),
            figure(row, "server_kib", 2),
            figure(row, "connects_per_second", 0),
        ]
    }));
    report::table(&lines)
}
