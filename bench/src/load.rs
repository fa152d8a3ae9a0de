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

/// The work to do, and how much of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) case: Case,
    pub(crate) extent: Extent,
    pub(crate) meter: Meter,
}

/// How much is done of a case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// Before counting starts.
    pub(crate) warm_up: Duration,
    /// How long requests are counted.
    pub(crate) count_for: Duration,
    /// How long a stream is.
    pub(crate) items: usize,
}

impl Default for Extent {
    fn default() -> Self {
        Self {
            warm_up: Duration::from_millis(150),
            count_for: Duration::from_millis(500),
            items: 1_000_000,
        }
    }
}

impl Extent {
    /// Shorter, for a look.
    pub(crate) fn quick() -> Self {
        Self {
            warm_up: Duration::from_millis(100),
            count_for: Duration::from_millis(250),
            items: 100_000,
        }
    }
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
                request_response(vec![requester], in_flight, load).await
            }
            Interaction::Spread { in_flight, connections } => {
                let mut requesters = vec![requester];
                while requesters.len() < connections {
                    requesters.push(P::connect(transport, address).await?);
                }
                request_response(requesters, in_flight, load).await
            }
            Interaction::RequestStream => request_stream(requester, load).await,
            Interaction::Streams { at_a_time } => request_streams(requester, at_a_time, load).await,
            Interaction::RequestChannel => request_channel(requester, load).await,
            Interaction::FireAndForget => fire_and_forget(requester, load).await,
        }
    };
    time::timeout(PATIENCE, measured).await.map_err(|_| "the contender hung")?
}

/// Requests from `in_flight` tasks, each waiting for its answer before it asks again, counted
/// from the end of the warm-up. Each goes round the connections, where there are several.
async fn request_response<R: Requester>(
    requesters: Vec<R>,
    in_flight: usize,
    load: Load,
) -> Result<Tally> {
    let Extent { warm_up, count_for, .. } = load.extent;
    let data = request_data(load.case.size);
    let requesters: Arc<[R]> = requesters.into();
    let count = requesters.len();
    let stop = Arc::new(AtomicBool::new(false));
    let mut askers: JoinSet<Result<()>> = JoinSet::new();
    let counters: Vec<_> = (0..in_flight).map(|_| Arc::new(Counter::default())).collect();
    let histogram = Arc::new(Histogram::new());
    let timed_one_in = if in_flight == 1 { 1 } else { TIMED_ONE_IN };
    for (task, counter) in counters.iter().enumerate() {
        let (requesters, data, stop) = (Arc::clone(&requesters), data.clone(), Arc::clone(&stop));
        let (mut next, step) = (task % count, in_flight % count);
        let (counter, histogram) = (Arc::clone(counter), Arc::clone(&histogram));
        askers.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let is_timed = counter.read().is_multiple_of(timed_one_in);
                let asked = is_timed.then(Instant::now);
                let answered = requesters[next].request_response(data.clone()).await?;
                next += step;
                if next >= count {
                    next -= count;
                }
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

    time::sleep(warm_up).await;
    histogram.clear();
    let (before, started) = (total(), load.meter.start()?);
    time::sleep(count_for).await;
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

/// Streams that run at the same time, all of which are taken before the next are asked for.
async fn request_streams<R: Requester>(
    requester: R,
    at_a_time: usize,
    load: Load,
) -> Result<Tally> {
    let mut laps = Laps::of(load);
    while let Some(items) = laps.next()? {
        let mut takers = JoinSet::new();
        for stream in 0..at_a_time {
            let items = (items + stream) / at_a_time;
            let wanted = StreamRequest { items, size: load.case.size };
            let requester = requester.clone();
            takers.spawn(async move {
                consume(requester.request_stream(wanted.encode()), wanted).await
            });
        }
        while let Some(taken) = takers.join_next().await {
            taken??;
        }
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
    let data = request_data(load.case.size);
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

/// So many bytes, which are JSON for who reads that.
fn request_data(size: usize) -> Bytes {
    let mut data = vec![b'x'; size];
    if let [first, .., last] = &mut data[..] {
        (*first, *last) = (b'"', b'"');
    }
    Bytes::from(data)
}

/// Moves of so many items, again and again, timed from the first to the last having been handled.
pub(crate) struct Laps {
    load: Load,
    /// When the warm-up began.
    began: Option<Instant>,
    started: Option<(Instant, Mark)>,
    messages: u64,
}

impl Laps {
    pub(crate) fn of(load: Load) -> Self {
        Self { load, began: None, started: None, messages: 0 }
    }

    /// Called when all before have been handled: how many to move next, short moves of the warm-up
    /// first. `None` when enough has been timed.
    pub(crate) fn next(&mut self) -> Result<Option<usize>> {
        let Extent { warm_up, items, .. } = self.load.extent;
        match &self.started {
            None if self.began.is_none_or(|began| began.elapsed() < warm_up) => {
                self.began.get_or_insert_with(Instant::now);
                return Ok(Some(items / 100 + 1));
            }
            None => self.started = Some((Instant::now(), self.load.meter.start()?)),
            Some((began, _)) if began.elapsed() >= LEAST_STREAMED => return Ok(None),
            Some(_) => {}
        }
        self.messages += items as u64;
        Ok(Some(items))
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
