//! How long a small request waits beside a large answer, on one connection over a link that is
//! slower than either side: what stands in front of it is what the sender has let go of too early.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::{self, MissedTickBehavior};

use super::{Measurement, figure, link, link::Link, measure_peer, name, proxy};
use crate::{
    Result,
    case::{Mode, Transport},
    contender::{Contender, Entry, Peer, Requester},
    load, machine,
    pair::Server,
    report,
};

/// The rate of the link, each way.
const MEGABITS: u32 = 500;

/// Bytes of data in a small request and in its answer.
const SMALL: usize = 32;

/// How often a small request is made; the next waits for the answer.
const EVERY: Duration = Duration::from_millis(5);

/// Longer than anything here takes; a contender that hangs has failed.
const PATIENCE: Duration = Duration::from_secs(120);

struct Shaped {
    bulk: usize,
    phase: Duration,
}

/// Large answers in a row: how many bytes came in how long.
#[derive(Default)]
struct Bulk {
    bytes: usize,
    took: Duration,
}

pub(super) fn measure(entry: Entry, link: Link, quick: bool) -> Result<Value> {
    let mode = Mode::TwoWorkers;
    let (server, address) = match link {
        Link::Namespace => {
            let server = link::apart(entry, mode, MEGABITS)?;
            let address = server.address()?;
            (server, address)
        }
        Link::Loopback => {
            let server = Server::start(entry, mode)?;
            let address = server.address()?;
            (server, address)
        }
        Link::Proxy => {
            let server = Server::start(entry, mode)?;
            let address = proxy::start(server.address()?, MEGABITS)?;
            (server, address)
        }
    };
    let shaped = Shaped {
        bulk: match entry.contender {
            // As shipped it writes a payload as one frame, which holds less than 16 MiB.
            Contender::RsocketRust => 15 << 20,
            _ => 16 << 20,
        },
        phase: Duration::from_secs(if quick { 3 } else { 10 }),
    };
    let mut row = machine::runtime(mode)?.block_on(async {
        let measured = tokio::spawn(measure_peer(entry, address, shaped));
        time::timeout(PATIENCE, measured).await.map_err(|_| "the contender hung")??
    })?;
    row["link"] = json!(link.name());
    drop(server);
    Ok(row)
}

impl Measurement for Shaped {
    async fn of<P: Peer>(self, transport: Transport, address: SocketAddr) -> Result<Value> {
        let requester = P::connect(transport, address).await?;
        // The connection finds its pace.
        bulk(&requester, self.bulk, Duration::from_secs(1)).await?;
        let bulk_alone = bulk(&requester, self.bulk, self.phase).await?;
        let small_alone = small(&requester, self.phase).await?;

        let stop = Arc::new(AtomicBool::new(false));
        let series = tokio::spawn({
            let (requester, stop) = (requester.clone(), Arc::clone(&stop));
            async move { bulk_until(&requester, self.bulk, || stop.load(Ordering::Relaxed)).await }
        });
        let small_beside = small(&requester, self.phase).await;
        stop.store(true, Ordering::Relaxed);
        let bulk_beside = series.await??;
        let small_beside = small_beside?;
        Ok(json!({
            "megabits": MEGABITS,
            "bulk_bytes": self.bulk,
            "bulk_alone_mb_s": bulk_alone.rate(),
            "bulk_beside_mb_s": bulk_beside.rate(),
            "bulk_of_alone": bulk_beside.rate() / bulk_alone.rate(),
            "small_requests": small_beside.len(),
            "small_alone_p50_ms": percentile(&small_alone, 0.5),
            "small_alone_p99_ms": percentile(&small_alone, 0.99),
            "small_beside_p50_ms": percentile(&small_beside, 0.5),
            "small_beside_p99_ms": percentile(&small_beside, 0.99),
            "small_beside_max_ms": percentile(&small_beside, 1.0),
        }))
    }
}

impl Bulk {
    /// Megabytes a second.
    fn rate(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.took.as_secs_f64()
    }
}

async fn bulk<R: Requester>(requester: &R, size: usize, least: Duration) -> Result<Bulk> {
    let begin = Instant::now();
    bulk_until(requester, size, || begin.elapsed() >= least).await
}

/// Asks for the next as soon as one has come.
async fn bulk_until<R: Requester>(
    requester: &R,
    size: usize,
    is_over: impl Fn() -> bool,
) -> Result<Bulk> {
    let mut bulk = Bulk::default();
    let begin = Instant::now();
    while bulk.bytes == 0 || !is_over() {
        let answered = requester.request_response(load::give(size)).await?;
        if answered != size {
            return Err(format!("{answered} bytes came of {size}").into());
        }
        bulk.bytes += size;
        bulk.took = begin.elapsed();
    }
    Ok(bulk)
}

/// Small requests, one at a time: how long each took, in milliseconds, sorted.
async fn small<R: Requester>(requester: &R, phase: Duration) -> Result<Vec<f64>> {
    let data = Bytes::from(vec![b'x'; SMALL]);
    let mut ticks = time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waited = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < phase {
        ticks.tick().await;
        let asked = Instant::now();
        requester.request_response(data.clone()).await?;
        waited.push(asked.elapsed().as_secs_f64() * 1e3);
    }
    waited.sort_by(f64::total_cmp);
    Ok(waited)
}

/// The value that this part of them does not exceed.
fn percentile(sorted: &[f64], part: f64) -> Option<f64> {
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// The table.
pub(super) fn text(rows: &[Value]) -> String {
    let mut lines = vec![
        [
            "contender",
            "link",
            "bulk alone MB/s",
            "beside MB/s",
            "of alone",
            "small alone p50 / p99 ms",
            "beside p50 / p99 ms",
        ]
        .map(str::to_owned),
    ];
    lines.extend(rows.iter().map(|row| {
        let pair = |half: &str, other: &str| {
            format!("{} / {}", figure(row, half, 2), figure(row, other, 2))
        };
        [
            name(row),
            row["link"].as_str().unwrap_or_default().to_owned(),
            figure(row, "bulk_alone_mb_s", 1),
            figure(row, "bulk_beside_mb_s", 1),
            figure(row, "bulk_of_alone", 3),
            pair("small_alone_p50_ms", "small_alone_p99_ms"),
            pair("small_beside_p50_ms", "small_beside_p99_ms"),
        ]
    }));
    report::table(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_was_seen() {
        let sorted: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(percentile(&sorted, 0.5), Some(100.0));
        assert_eq!(percentile(&sorted, 0.99), Some(198.0));
        assert_eq!(percentile(&sorted, 1.0), Some(200.0));
        assert_eq!(percentile(&[], 0.5), None);
    }
}
