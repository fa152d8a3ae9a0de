//! The load: the same for every contender, so that what differs is theirs.

use std::{
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::{task::JoinSet, time};

use crate::{
    Result,
    case::{Case, Interaction, Transport},
    contender::{Peer, Requester},
    latency::{Histogram, Latency, TIMED_ONE_IN},
    machine::{Mark, Meter, Reading},
};

/// A measurement that has not ended by then never will: `rsocket_rust` leaves a request pending
/// for ever when its connection has closed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A short stream is asked for again until this much has been timed, so that the fastest are not
/// measured over a few milliseconds.
const LEAST_STREAMED: Duration = Duration::from_millis(250);

/// The work to do, and for how long.
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

/// The counts of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tally {
    pub(crate) messages: u64,
    /// How long that took, and what it cost meanwhile.
    pub(crate) spent: Reading,
    /// Of requests that have an answer.
    pub(crate) latency: Option<Latency>,
}

/// The request in the data of a stream request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Items(StreamRequest),
    /// An empty item, once so many fire-and-forget requests have been handled since the connection
    /// began.
    Arrival(u64),
}

impl Asked {
    pub(crate) fn encode(self) -> Bytes {
        match self {
            Self::Items(wanted) => wanted.encode(),
            Self::Arrival(count) => Bytes::from(format!("arrival {count}")),
        }
    }

    pub(crate) fn decode(data: &[u8]) -> Option<Self> {
        match std::str::from_utf8(data).ok()?.strip_prefix("arrival ") {
            Some(count) => Some(Self::Arrival(count.parse().ok()?)),
            None => StreamRequest::decode(data).map(Self::Items),
        }
    }
}

/// How many items of which size are wanted.
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

/// The beginning of a request that is answered with so many bytes, as in `give 1024`.
const GIVE: &[u8] = b"give ";

/// The data of a request that is answered with so many bytes.
pub(crate) fn give(size: usize) -> Bytes {
    Bytes::from(format!("give {size}"))
}

/// The answer to a request: its own data, unless it asks to be [given](give) some.
pub(crate) fn answer(data: Bytes) -> Bytes {
    static GIVEN: OnceLock<Bytes> = OnceLock::new();
    let wanted = data.strip_prefix(GIVE).and_then(|size| str::from_utf8(size).ok()?.parse().ok());
    match wanted {
        Some(size @ ..=MOST_GIVEN) => {
            GIVEN.get_or_init(|| Bytes::from(vec![b'g'; MOST_GIVEN])).slice(..size)
        }
        _ => data,
    }
}

/// The longest answer.
const MOST_GIVEN: usize = 16 << 20;

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
            Interaction::RequestChannel => request_channel(requester, load).await,
            Interaction::FireAndForget => fire_and_forget(requester, load).await,
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
    let histogram = Arc::new(Histogram::new());
    let timed_one_in = if in_flight == 1 { 1 } else { TIMED_ONE_IN };
    for counter in &counters {
        let (requester, data, stop) = (requester.clone(), data.clone(), Arc::clone(&stop));
        let (counter, histogram) = (Arc::clone(counter), Arc::clone(&histogram));
        askers.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let is_timed = counter.read().is_multiple_of(timed_one_in);
                let asked = is_timed.then(Instant::now);
                let answered = requester.request_response(data.clone()).await?;
                if let Some(asked) = asked {
                    histogram.record(asked.elapsed());
                }
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
    histogram.clear();
    let (before, started) = (total(), load.meter.start()?);
    time::sleep(load.count_for).await;
    let (after, spent) = (total(), load.meter.since(&started)?);
    let latency = histogram.latency();

    stop.store(true, Ordering::Relaxed);
    while let Some(asker) = askers.join_next().await {
        asker??;
    }
    Ok(Tally { messages: after - before, spent, latency })
}

async fn request_stream<R: Requester>(requester: R, load: Load) -> Result<Tally> {
    let mut laps = Laps::of(load);
    while let Some(items) = laps.next()? {
        let wanted = StreamRequest { items, size: load.case.size };
        consume(requester.request_stream(wanted.encode()), wanted).await?;
    }
    laps.tally()
}

async fn request_channel<R: Requester>(requester: R, load: Load) -> Result<Tally> {
    let mut laps = Laps::of(load);
    while let Some(items) = laps.next()? {
        let wanted = StreamRequest { items, size: load.case.size };
        let item = wanted.item();
        let outgoing = stream::iter(0..items).map(move |_| item.clone());
        consume(requester.request_channel(outgoing), wanted).await?;
    }
    laps.tally()
}

async fn fire_and_forget<R: Requester>(requester: R, load: Load) -> Result<Tally> {
    let data = Bytes::from(vec![b'x'; load.case.size]);
    let mut sent = 0;
    let mut laps = Laps::of(load);
    while let Some(items) = laps.next()? {
        for _ in 0..items {
            requester.fire_and_forget(data.clone()).await?;
        }
        sent += items as u64;
        let arrived = requester.request_stream(Asked::Arrival(sent).encode());
        consume(arrived, StreamRequest { items: 1, size: 0 }).await?;
    }
    laps.tally()
}

/// Moves of `load.items`, again and again, timed from the first to the last having been handled.
pub(crate) struct Laps {
    load: Load,
    started: Option<(Instant, Mark)>,
    messages: u64,
}

impl Laps {
    pub(crate) fn of(load: Load) -> Self {
        Self { load, started: None, messages: 0 }
    }

    /// Called when all before have been handled: how many to move next, the warm-up first. `None`
    /// when enough has been timed.
    pub(crate) fn next(&mut self) -> Result<Option<usize>> {
        match &self.started {
            None if self.messages == 0 => {
                self.messages = 1;
                return Ok(Some(self.load.items / 100 + 1));
            }
            None => {
                self.messages = 0;
                self.started = Some((Instant::now(), self.load.meter.start()?));
            }
            Some((began, _)) if began.elapsed() >= LEAST_STREAMED => return Ok(None),
            Some(_) => {}
        }
        self.messages += self.load.items as u64;
        Ok(Some(self.load.items))
    }

    pub(crate) fn tally(&self) -> Result<Tally> {
        let (_, started) = self.started.as_ref().ok_or("nothing was timed")?;
        let spent = self.load.meter.since(started)?;
        Ok(Tally { messages: self.messages, spent, latency: None })
    }
}

async fn consume(items: impl Stream<Item = Result<usize>>, wanted: StreamRequest) -> Result<()> {
    let mut items = pin!(items);
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
    fn what_is_asked_is_read_as_written() {
        let wanted = StreamRequest { items: 1_000_000, size: 32 };
        assert_eq!(StreamRequest::decode(&wanted.encode()), Some(wanted));
        assert_eq!(wanted.item().len(), 32);
        for asked in [Asked::Items(wanted), Asked::Arrival(7)] {
            assert_eq!(Asked::decode(&asked.encode()), Some(asked));
        }
        for data in [&b"many"[..], b"arrival", b"arrival x"] {
            assert_eq!(Asked::decode(data), None);
        }
    }
}
