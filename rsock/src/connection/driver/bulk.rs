//! Bulk work of a thread, in turn. What moves much at a time, items of a mebibyte or long frames, takes a
//! fraction of a millisecond a wake; with hundreds of such connections, a small request would wait
//! behind all of them. Once a thread has moved much since its sockets were asked, whoever has more of
//! the kind stands in line, and a few are called each time that the sockets have been asked again.

use std::{
    cell::RefCell,
    collections::VecDeque,
    mem,
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
    task::Context,
};

use tokio::{
    runtime::{Handle, Id},
    task::yield_now,
};

use super::Driver;
use crate::{
    connection::Mailbox,
    sync::{AtomicUsize, Mutex, MutexGuard},
};

/// Bytes a connection moves in a wake, in or out, from which on its next wake is bulk work.
const BULK_BYTES: usize = 64 << 10;
/// Bytes a thread moves before bulk work stands in line: a millisecond, give or take.
const SHIFT_BYTES: usize = 1 << 20;
/// How many are called each time. Beside many small requests, bulk work keeps a share of the thread.
const CALLS: usize = 4;

/// The standing of a driver in the line.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Standing {
    /// Nowhere: it works when it is woken.
    #[default]
    Free,
    /// In line: it works when it is called.
    Waiting,
    /// It was called, and does its work in this wake.
    Called,
}

/// The driver's knowledge of its bulk work.
#[derive(Debug, Default)]
pub(super) struct Bulk {
    standing: Standing,
    /// Its last wake was bulk work.
    is_bulky: bool,
    /// Its handlers are to yield what may be much, and others were before it.
    must_wait: bool,
    /// Bytes that its handlers have yielded in this wake.
    pub(super) yielded: usize,
}

/// Those of a thread who wait for their turn. Drivers may go on on other threads, and so may who calls
/// them.
#[derive(Default)]
struct Line {
    /// Bytes since the sockets were asked.
    moved: AtomicUsize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Each driver once at most.
    waiting: VecDeque<Arc<Mailbox>>,
    is_conducted: bool,
}

thread_local! {
    /// The line of the runtime that was last at work on this thread.
    static LINE: RefCell<Option<(Id, Arc<Line>)>> = const { RefCell::new(None) };
}

impl Line {
    /// Nothing can panic under the lock.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has somebody called each time that the sockets have been asked, and this one among them.
    fn conduct(self: &Arc<Self>, waiting: Option<Arc<Mailbox>>, runtime: &Handle) {
        let mut inner = self.lock();
        inner.waiting.extend(waiting);
        if !mem::replace(&mut inner.is_conducted, true) {
            drop(inner);
            let conductor = Conductor(Arc::clone(self));
            runtime.spawn(async move {
                loop {
                    yield_now().await;
                    if !conductor.0.go_on() {
                        return;
                    }
                }
            });
        }
    }

    /// The sockets were asked: whether anybody waits any more.
    fn go_on(&self) -> bool {
        self.moved.store(0, Relaxed);
        let mut inner = self.lock();
        let waiting = inner.waiting.len();
        let called: Vec<_> = inner.waiting.drain(..waiting.min(CALLS)).collect();
        inner.is_conducted = waiting > CALLS;
        drop(inner);
        for mailbox in called {
            mailbox.call();
        }
        waiting > CALLS
    }
}

/// The task that calls those in line, as long as there are any. Where its runtime ends, all are
/// called.
struct Conductor(Arc<Line>);

impl Drop for Conductor {
    fn drop(&mut self) {
        while self.0.go_on() {}
    }
}

/// Whether this thread has moved so much that who has more of the kind had better wait.
#[inline]
fn is_busy() -> bool {
    let of_line = |(_, line): &(Id, Arc<Line>)| line.moved.load(Relaxed) >= SHIFT_BYTES;
    LINE.try_with(|line| line.try_borrow().is_ok_and(|line| line.as_ref().is_some_and(of_line)))
        .unwrap_or_default()
}

/// Does something with the line of this thread's runtime; nothing where there is none.
fn with_line<T>(work: impl FnOnce(&Arc<Line>, &Handle) -> T) -> Option<T> {
    let runtime = Handle::try_current().ok()?;
    let line = LINE.try_with(|line| {
        let mut line = line.try_borrow_mut().ok()?;
        if line.as_ref().is_none_or(|(id, _)| *id != runtime.id()) {
            *line = Some((runtime.id(), Arc::default()));
        }
        line.as_ref().map(|(_, line)| Arc::clone(line))
    });
    line.ok().flatten().map(|line| work(&line, &runtime))
}

impl Driver {
    /// Woken: whether it is to work, or waits for its turn.
    #[inline]
    pub(super) fn takes_turn(&mut self, cx: &Context<'_>) -> bool {
        match self.bulk.standing {
            Standing::Free if !self.bulk.is_bulky => true,
            Standing::Free | Standing::Called => {
                self.bulk.standing = Standing::Free;
                !self.bulk.is_bulky || !is_busy() || !self.stands_in_line(cx)
            }
            Standing::Waiting => {
                let is_called = self.mailbox.is_called(cx.waker());
                if is_called {
                    self.bulk.standing = Standing::Called;
                }
                is_called
            }
        }
    }

    /// Whether it waits until it is called.
    #[cold]
    pub(super) fn stands_in_line(&mut self, cx: &Context<'_>) -> bool {
        let joined = with_line(|line, runtime| {
            line.conduct(Some(Arc::clone(&self.mailbox)), runtime);
        });
        // Where there is no line it goes on; and where another thread has called it just now.
        let waits = joined.is_some() && !self.mailbox.is_called(cx.waker());
        self.bulk.standing = if waits { Standing::Waiting } else { Standing::Called };
        if waits {
            self.lets_others_run();
        }
        waits
    }

    /// Others go on first: they are told what is held, and may read into the same memory.
    pub(super) fn lets_others_run(&mut self) {
        self.settle_memory();
        self.release_input();
    }

    /// Before handlers yield: whether others go before.
    #[inline]
    pub(super) fn lets_others_yield(&mut self) -> bool {
        if self.bulk.standing != Standing::Called && is_busy() {
            self.bulk.must_wait = true;
        }
        self.bulk.must_wait
    }

    /// Whether handlers were to yield, and others go before.
    #[inline]
    pub(super) fn must_wait(&mut self) -> bool {
        mem::take(&mut self.bulk.must_wait)
    }

    /// The end of a wake in which so many bytes were moved.
    #[inline]
    pub(super) fn has_moved(&mut self, bytes: usize) {
        let is_much = bytes >= BULK_BYTES;
        // Many wait for memory for long frames, and look for it at the same time.
        self.bulk.is_bulky = is_much || self.memory.is_paused();
        if is_much {
            note(bytes);
        }
    }
}

/// This thread has moved so many bytes more.
#[cold]
fn note(bytes: usize) {
    with_line(|line, runtime| {
        if line.moved.fetch_add(bytes, Relaxed) + bytes >= SHIFT_BYTES {
            line.conduct(None, runtime);
        }
    });
}
