//! The items that pile up where a stream is taken slowly: none beyond the credit given, if credit
//! is kept to.

use std::{
    net::SocketAddr,
    pin::pin,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::time;

use super::{Measurement, figure, measure_peer, name};
use crate::{
    Result,
    case::{Mode, Transport},
    contender::{Entry, Peer, Requester},
    load::StreamRequest,
    machine,
    pair::Server,
    report,
};

/// How long each item is kept before the next is taken.
const PAUSE: Duration = Duration::from_millis(1);

/// Items of the stream, of which few are taken.
const ITEMS: usize = 1_000_000;

/// Bytes of data in an item.
const SIZE: usize = 1024;

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(50);

struct Slow {
    server: u32,
    phase: Duration,
}

pub(super) fn measure(entry: Entry, quick: bool) -> Result<Value> {
    let mode = Mode::TwoWorkers;
    let server = Server::start(entry, mode)?;
    let address = server.address()?;
    let phase = Duration::from_secs(if quick { 3 } else { 10 });
    let slow = Slow { server: server.pid(), phase };
    machine::runtime(mode)?
        .block_on(async { tokio::spawn(measure_peer(entry, address, slow)).await })?
}

impl Measurement for Slow {
    async fn of<P: Peer>(self, transport: Transport, address: SocketAddr) -> Result<Value> {
        let client = std::process::id();
        let requester = P::connect(transport, address).await?;
        // What is there once does not grow.
        take(&requester, StreamRequest { items: 100, size: SIZE }, Duration::MAX).await?;
        let resident = || -> Result<[u64; 2]> {
            Ok([machine::resident_kib(client)?, machine::resident_kib(self.server)?])
        };
        let before = resident()?;
        let taking = tokio::spawn(async move {
            take(&requester, StreamRequest { items: ITEMS, size: SIZE }, self.phase).await
        });
        let mut most = before;
        while !taking.is_finished() {
            time::sleep(LOOK).await;
            for (most, now) in most.iter_mut().zip(resident()?) {
                *most = now.max(*most);
            }
        }
        let taken = taking.await??;
        let growth = |side: usize| (most[side] - before[side]) as f64 / 1024.0;
        Ok(json!({
            "item_bytes": SIZE,
            "seconds": self.phase.as_secs_f64(),
            "items_taken": taken,
            "client_growth_mib": growth(0),
            "server_growth_mib": growth(1),
        }))
    }
}

/// Takes items slowly for so long; the number of them.
async fn take<R: Requester>(
    requester: &R,
    wanted: StreamRequest,
    phase: Duration,
) -> Result<usize> {
    let mut items = pin!(requester.request_stream(wanted.encode()));
    let begin = Instant::now();
    let mut taken = 0;
    while begin.elapsed() < phase
        && let Some(item) = items.next().await
    {
        item?;
        taken += 1;
        time::sleep(PAUSE).await;
    }
    Ok(taken)
}

/// The table.
pub(super) fn text(rows: &[Value]) -> String {
    let mut lines = vec![
        ["contender", "item bytes", "items taken", "client growth MiB", "server growth MiB"]
            .map(str::to_owned),
    ];
    lines.extend(rows.iter().map(|row| {
        [
            name(row),
            figure(row, "item_bytes", 0),
            figure(row, "items_taken", 0),
            figure(row, "client_growth_mib", 2),
            figure(row, "server_growth_mib", 2),
        ]
    }));
    report::table(&lines)
}
