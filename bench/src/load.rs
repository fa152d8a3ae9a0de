//! The load: the same for every contender, so that what differs is theirs.

use std::{
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::{task::JoinSet, time};

use crate::{
    Result,
    case::{Case, Interaction, Transport},
    contender::{Peer, Requester},
    machine::{Meter, Reading},
};

/// A measurement that has not ended by then never will: `rsocket_rust` leaves a request pending
/// for ever when its connection has closed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A short stream is asked for again until this much has been timed, so that the fastest are not
/// measured over a few milliseconds.
pub(crate) const LEAST_STREAMED: Duration = Duration::from_millis(250);

/// What to do, and how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) case: Case,
    /// Before counting starts.
    pub(crate) warm_up: Duration,
    /// How long requests are counted.
    pub(crate) count_for: Duration,
    /// How long a stream is.
    pub(crate) items: usize,
    pub(crate) meter: Meter,
}

/// What was counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tally {
    pub(crate) messages: u64,
    /// How long that took, and what it cost meanwhile.
    pub(crate) spent: Reading,
}

/// The data of a stream request: how many items of which size are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamRequest {
    pub(crate) items: usize,
    pub(crate) size: usize,
}

impl StreamRequest {
    pub(crate) fn encode(self) -> Bytes {
        Bytes::from(format!("{} {}", self.items, self.size))
    }

    pub(crate) fn decode(data: &[u8]) -> Option<Self> {
        let (items, size) = std::str::from_utf8(data).ok()?.split_once(' ')?;
        Some(Self { items: items.parse().ok()?, size: size.parse().ok()? })
    }

    /// One item, to be cloned for each that is sent.
    pub(crate) fn item(self) -> Bytes {
        Bytes::from(vec![b'i'; self.size])
    }
}

/// Connects and measures one contender once.
pub(crate) async fn drive<P: Peer>(
    transport: Transport,
    address: SocketAddr,
    load: Load,
) -> Result<Tally> {
    let requester = P::connect(transport, address).await?;
    let measured = async {
        match load.case.interaction {
            Interaction::RequestResponse { in_flight } => {
                request_response(requester, in_flight, load).await
            }
            Interaction::RequestStream => request_stream(requester, load).await,
        }
    };
    time::timeout(PATIENCE, measured).await.map_err(|_| "the contender hung")?
}

/// Requests from `in_flight` tasks, each waiting for its answer before it asks again, counted
/// from the end of the warm-up.
async fn request_response<R: Requester>(
    requester: R,
    in_flight: usize,
    load: Load,
) -> Result<Tally> {
    let data = Bytes::from(vec![b'x'; load.case.size]);
    let stop = Arc::new(AtomicBool::new(false));
    let mut askers: JoinSet<Result<()>> = JoinSet::new();
    let counters: Vec<_> = (0..in_flight).map(|_| Arc::new(Counter::default())).collect();
    for counter in &counters {
        let (requester, data, stop) = (requester.clone(), data.clone(), Arc::clone(&stop));
        let counter = Arc::clone(counter);
        askers.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let answered = requester.request_response(data.clone()).await?;
                if answered != data.len() {
                    return Err(format!("{answered} bytes echoed of {}", data.len()).into());
                }
                counter.increment();
            }
            Ok(())
        });
    }
    let total = || counters.iter().map(|counter| counter.read()).sum::<u64>();

    time::sleep(load.warm_up).await;
    let (before, started) = (total(), load.meter.start()?);
    time::sleep(load.count_for).await;
    let (after, spent) = (total(), load.meter.since(&started)?);

    stop.store(true, Ordering::Relaxed);
    while let Some(asker) = askers.join_next().await {
        asker??;
    }
    Ok(Tally { messages: after - before, spent })
}

/// Streams of `load.items`, one after the other, timed from the request to the completion.
async fn request_stream<R: Requester>(requester: R, load: Load) -> Result<Tally> {
    let size = load.case.size;
    consume(&requester, StreamRequest { items: load.items / 100 + 1, size }).await?;

    let mut messages = 0;
    let begin = Instant::now();
    let started = load.meter.start()?;
    while begin.elapsed() < LEAST_STREAMED {
        consume(&requester, StreamRequest { items: load.items, size }).await?;
        messages += load.items as u64;
    }
    Ok(Tally { messages, spent: load.meter.since(&started)? })
}

async fn consume<R: Requester>(requester: &R, wanted: StreamRequest) -> Result<()> {
    let mut items = pin!(requester.request_stream(wanted.encode()));
    let mut taken = 0;
    while let Some(item) = items.next().await {
        if item? != wanted.size {
            return Err("an item of the wrong size".into());
        }
        taken += 1;
    }
    if taken != wanted.items {
        return Err(format!("a stream ended after {taken} of {} items", wanted.items).into());
    }
    Ok(())
}

/// Answers counted by one task, on cache lines of its own: a shared one would be a cost of ours
/// in the measure of theirs.
#[derive(Default)]
#[repr(align(128))]
struct Counter(AtomicU64);

impl Counter {
    /// Only its own task calls this, so a load and a store are enough.
    fn increment(&self) {
        self.0.store(self.0.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_request_is_read_as_written() {
        let wanted = StreamRequest { items: 1_000_000, size: 32 };
        assert_eq!(StreamRequest::decode(&wanted.encode()), Some(wanted));
        assert_eq!(wanted.item().len(), 32);
        assert_eq!(StreamRequest::decode(b"many"), None);
    }
}
