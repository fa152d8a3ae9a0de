//! Messages on their way from a disk to a reader: read where that may take its time, a few at a time, and
//! given up where too many wait for readers that do not come for them.

use std::{
    collections::VecDeque,
    mem,
    ops::Range,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tokio::sync::Semaphore;

use super::Service;
use crate::{
    log::Segment,
    position::Offset,
    refusal::Refusal,
    sync::{Mutex, lock},
    time::Now,
    topic::Topic,
};

/// Bytes that are read for one reader at once.
const BYTES: usize = 64 << 10;
/// Bytes that are read for each item that a reader asks for, where that are few: it would hold the others.
const BYTES_AN_ITEM: u64 = 1 << 10;
/// Readers that are read for at a time.
const AT_A_TIME: usize = 8;
/// Memory of what has been read for readers that have not come for it yet, those of all topics together. The
/// socket of a reader may be full by then: what has waited longest goes, and is read again.
const MAX_WAITING_BYTES: usize = 8 << 20;

/// Messages, and where to go on.
type Loaded = Result<(Option<Arc<Segment>>, Offset), Refusal>;

/// The side of a range that is read, if not all of it fits.
#[derive(Clone, Copy, Debug)]
pub(super) enum Side {
    First,
    Last,
}

/// Reads from disks, for all readers.
#[derive(Debug)]
pub(super) struct Loads {
    turns: Arc<Semaphore>,
    waiting: Arc<Mutex<Waiting>>,
}

/// Messages that were read and have not been come for: the oldest first.
#[derive(Debug, Default)]
struct Waiting {
    places: VecDeque<(Arc<Place>, usize)>,
    bytes: usize,
}

/// The place where a reader finds what was read for it.
#[derive(Debug)]
struct Place(Mutex<State>);

#[derive(Debug)]
enum State {
    /// It is being read; the reader is woken.
    Reading(Option<Waker>),
    Loaded(Loaded),
    /// It had to go for others.
    GivenUp,
}

impl Default for Loads {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(AT_A_TIME)), waiting: Arc::default() }
    }
}

impl Waiting {
    /// Puts what was read where its reader finds it; the oldest go that are too many.
    fn add(&mut self, place: Arc<Place>, loaded: Loaded) {
        let bytes = match &loaded {
            Ok((Some(segment), _)) => segment.bytes(),
            _ => 0,
        };
        let waker = match mem::replace(&mut *lock(&place.0), State::Loaded(loaded)) {
            State::Reading(waker) => waker,
            _ => None,
        };
        self.bytes += bytes;
        self.places.push_back((place, bytes));
        // The newest stays, however large.
        while self.bytes > MAX_WAITING_BYTES
            && self.places.len() > 1
            && let Some((oldest, bytes)) = self.places.pop_front()
        {
            self.bytes -= bytes;
            *lock(&oldest.0) = State::GivenUp;
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn remove(&mut self, place: &Arc<Place>) {
        if let Some(at) = self.places.iter().position(|(other, _)| Arc::ptr_eq(other, place))
            && let Some((_, bytes)) = self.places.remove(at)
        {
            self.bytes -= bytes;
        }
    }
}

/// Messages that are being read for a reader.
#[derive(Debug)]
pub(super) struct Loading {
    place: Arc<Place>,
    waiting: Arc<Mutex<Waiting>>,
}

impl Loading {
    /// Reads as much of these as a reader takes that has so much credit.
    pub(super) fn start(
        service: &Service,
        topic: &Arc<Topic>,
        wanted: Range<Offset>,
        side: Side,
        credit: u64,
    ) -> Self {
        let bytes =
            usize::try_from(credit.saturating_mul(BYTES_AN_ITEM)).unwrap_or(BYTES).min(BYTES);
        let (topic, now) = (Arc::clone(topic), service.0.clock.now());
        service.0.loads.start(move || load(&topic, wanted, side, bytes, now))
    }

    /// The messages that were read; none if they had to go for others, and are to be asked for again.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<Option<Loaded>> {
        let mut state = lock(&self.place.0);
        match mem::replace(&mut *state, State::GivenUp) {
            State::Reading(_) => {
                *state = State::Reading(Some(cx.waker().clone()));
                Poll::Pending
            }
            State::GivenUp => Poll::Ready(None),
            State::Loaded(loaded) => {
                // Whoever adds takes the two locks the other way round.
                drop(state);
                lock(&self.waiting).remove(&self.place);
                Poll::Ready(Some(loaded))
            }
        }
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        lock(&self.waiting).remove(&self.place);
    }
}

impl Loads {
    fn start(&self, load: impl FnOnce() -> Loaded + Send + 'static) -> Loading {
        let place = Arc::new(Place(Mutex::new(State::Reading(None))));
        let loading = Loading { place: Arc::clone(&place), waiting: Arc::clone(&self.waiting) };
        let (turns, waiting) = (Arc::clone(&self.turns), Arc::clone(&self.waiting));
        tokio::spawn(async move {
            // It is never closed.
            let _turn = turns.acquire_owned().await;
            if Arc::strong_count(&place) == 1 {
                // Its reader has gone.
                return;
            }
            let read = tokio::task::spawn_blocking(load).await;
            // The process stops, or a disk's reading has panicked.
            let loaded = read
                .unwrap_or_else(|error| Err(Refusal::failed(format_args!("not read: {error}"))));
            if Arc::strong_count(&place) > 1 {
                lock(&waiting).add(place, loaded);
            }
        });
        loading
    }
}

fn load(topic: &Topic, wanted: Range<Offset>, side: Side, bytes: usize, now: Now) -> Loaded {
    match side {
        Side::First => topic.load(wanted, bytes, now),
        Side::Last => topic.load_last(wanted, bytes, now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        entry::{Encoder, Entry, Message},
        memory::Held,
        name::TopicName,
        position::Epoch,
        time::Instant,
    };

    const MIB: usize = 1 << 20;

    /// A message of a MiB, as part of what is held.
    fn loaded(held: &Arc<Held>) -> Loaded {
        let encoder = Encoder::new(&TopicName::parse("t").expect("a name"), Epoch(1));
        let data = vec![b'x'; MIB];
        let message = Message { data: &data, ..Message::default() };
        let entry = Entry::new(&encoder, Offset(1), 0, Instant(0), &message);
        Ok((Segment::of(vec![entry], held), Offset(2)))
    }

    async fn come_for(loading: &mut Loading) -> bool {
        let loaded = std::future::poll_fn(|cx| loading.poll(cx)).await;
        loaded.is_some_and(|loaded| loaded.is_ok())
    }

    /// Readers whose sockets are full do not come for what was read for them, and there may be any number.
    #[tokio::test]
    async fn what_nobody_comes_for_is_bounded_and_the_oldest_goes() {
        let (loads, held) = (Loads::default(), Held::new(Arc::default()));
        let mut all = Vec::new();
        for _ in 0..100 {
            let of_one = Arc::clone(&held);
            all.push(loads.start(move || loaded(&of_one)));
        }
        // One that is asked for last is read last.
        let of_one = Arc::clone(&held);
        let mut last = loads.start(move || loaded(&of_one));
        assert!(come_for(&mut last).await, "others do not keep it from its reader");
        let most = MAX_WAITING_BYTES + (1 + AT_A_TIME) * (MIB + 4_096);
        assert!(held.bytes() <= most, "{} of {most}", held.bytes());
        let mut there = 0;
        for mut loading in all {
            there += usize::from(come_for(&mut loading).await);
        }
        assert!((1..=8 + AT_A_TIME).contains(&there), "{there}");
        drop(last);
        assert_eq!((held.bytes(), lock(&loads.waiting).bytes), (0, 0));
    }

    #[tokio::test]
    async fn nothing_is_kept_for_a_reader_that_has_gone() {
        let (loads, held) = (Loads::default(), Held::new(Arc::default()));
        for _ in 0..20 {
            let of_one = Arc::clone(&held);
            drop(loads.start(move || loaded(&of_one)));
        }
        let of_one = Arc::clone(&held);
        assert!(come_for(&mut loads.start(move || loaded(&of_one))).await);
        assert_eq!(held.bytes(), 0);
    }
}
