//! The requests of a conversation that run: those that have something are asked, in turn.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::AcqRel},
    },
    task::{Context, Poll, Wake, Waker},
};

use rsock::{BoxStream, Error, Payload};

use crate::plain::input::{Input, Report};

/// The items that answer a request.
pub(super) type Source = BoxStream<Result<Payload, Error>>;

/// Something that has come of a request.
pub(super) enum Item {
    Next(Payload),
    Complete,
    Failed(Error),
    /// The one who answers a channel has taken payloads, or asks for them.
    Taken(Report),
}

/// All that run: as many as the engine lets be open.
#[derive(Default)]
pub(super) struct Streams {
    running: HashMap<u64, Running>,
    ready: Arc<Ready>,
}

struct Running {
    source: Source,
    /// That which was asked for without credit, to see whether it is the end.
    ahead: Option<Payload>,
    input: Option<Input>,
    told: Report,
    turn: Arc<Turn>,
    waker: Waker,
}

/// Those that are to be asked, each at most once, and whoever asks them.
#[derive(Default)]
struct Ready(Mutex<(VecDeque<u64>, Option<Waker>)>);

/// The place of one among these.
struct Turn {
    id: u64,
    is_queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Turn {
    fn queue(&self) {
        if self.is_queued.swap(true, AcqRel) {
            return;
        }
        // It is changed by single calls, and right whoever panics.
        let mut ready = self.ready.0.lock().unwrap_or_else(PoisonError::into_inner);
        ready.0.push_back(self.id);
        let waker = ready.1.take();
        drop(ready);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.queue();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.queue();
    }
}

impl Streams {
    pub(super) fn insert(&mut self, id: u64, source: Source, input: Option<Input>) {
        let ready = Arc::clone(&self.ready);
        let turn = Arc::new(Turn { id, is_queued: AtomicBool::new(false), ready });
        let waker = Waker::from(Arc::clone(&turn));
        turn.queue();
        let told = Report::default();
        self.running.insert(id, Running { source, ahead: None, input, told, turn, waker });
    }

    pub(super) fn remove(&mut self, id: u64) {
        self.running.remove(&id);
    }

    pub(super) fn input(&self, id: u64) -> Option<&Input> {
        self.running.get(&id)?.input.as_ref()
    }

    /// It can be asked again.
    pub(super) fn stir(&self, id: u64) {
        if let Some(running) = self.running.get(&id) {
            running.turn.queue();
        }
    }

    /// The next item of any that has credit, or may have ended.
    pub(super) fn poll_item(
        &mut self,
        cx: &mut Context<'_>,
        has_credit: impl Fn(u64) -> bool,
    ) -> Poll<(u64, Item)> {
        loop {
            let next = {
                let mut ready = self.ready.0.lock().unwrap_or_else(PoisonError::into_inner);
                let next = ready.0.pop_front();
                if next.is_none() {
                    ready.1 = Some(cx.waker().clone());
                }
                next
            };
            let Some(id) = next else { return Poll::Pending };
            let Some(running) = self.running.get_mut(&id) else { continue };
            // From now on it may be queued again.
            running.turn.is_queued.store(false, std::sync::atomic::Ordering::Release);
            let polled = running.poll(has_credit(id));
            if let Some(item) = polled {
                if matches!(item, Item::Complete | Item::Failed(_)) {
                    self.running.remove(&id);
                } else {
                    // It may have more.
                    running.turn.queue();
                }
                return Poll::Ready((id, item));
            }
        }
    }
}

impl Running {
    fn poll(&mut self, has_credit: bool) -> Option<Item> {
        if has_credit && let Some(ahead) = self.ahead.take() {
            return Some(Item::Next(ahead));
        }
        if self.ahead.is_none() {
            match self.source.as_mut().poll_next(&mut Context::from_waker(&self.waker)) {
                Poll::Ready(None) => return Some(Item::Complete),
                Poll::Ready(Some(Err(error))) => return Some(Item::Failed(error)),
                Poll::Ready(Some(Ok(payload))) if has_credit => return Some(Item::Next(payload)),
                Poll::Ready(Some(Ok(payload))) => self.ahead = Some(payload),
                Poll::Pending => {}
            }
        }
        let report = self.input.as_ref()?.report(&self.waker);
        let has_news = report.taken > 0
            || report.is_asked != self.told.is_asked
            || report.is_dropped != self.told.is_dropped;
        self.told = report;
        has_news.then_some(Item::Taken(report))
    }
}
