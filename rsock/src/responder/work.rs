//! Futures of handlers, in boxes that are used again: one whose future has ended takes the next of
//! its type on the same thread.

use std::{
    any::Any,
    cell::RefCell,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use super::Answer;
use crate::{
    connection::{guard, poll_guarded},
    error::Error,
};

/// How many empty boxes a thread keeps: as many as requests are commonly under way at once.
const MAX_KEPT: usize = 128;
/// The largest box that is kept, in bytes.
const MAX_KEPT_SIZE: usize = 1 << 10;

thread_local! {
    static KEPT: RefCell<Vec<Work>> = const { RefCell::new(Vec::new()) };
}

/// A handler's future, boxed.
pub(crate) type Work = Pin<Box<dyn Room>>;

/// Where futures of one type live, one after the other. To be polled until the one in it has ended.
pub(crate) trait Room: Future<Output = Answer> + Send {
    /// Drops the future.
    fn vacate(self: Pin<&mut Self>);

    /// Takes the future out of `next`, which is an `Option` of one; false if it is of another type.
    fn occupy(self: Pin<&mut Self>, next: &mut dyn Any) -> bool;
}

/// What a handler's future may come to.
pub(crate) trait Outcome {
    fn into_answer(self) -> Answer;
}

impl Outcome for Answer {
    fn into_answer(self) -> Answer {
        self
    }
}

impl Outcome for () {
    fn into_answer(self) -> Answer {
        Ok(None)
    }
}

pin_project! {
    struct Single<F> {
        #[pin]
        future: Option<F>,
    }
}

impl<F: Future<Output: Outcome>> Future for Single<F> {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        match self.project().future.as_pin_mut() {
            Some(future) => future.poll(cx).map(Outcome::into_answer),
            None => Poll::Pending,
        }
    }
}

impl<F: Future<Output: Outcome> + Send + 'static> Room for Single<F> {
    fn vacate(self: Pin<&mut Self>) {
        self.project().future.set(None);
    }

    fn occupy(self: Pin<&mut Self>, next: &mut dyn Any) -> bool {
        let Some(next) = next.downcast_mut::<Option<F>>() else { return false };
        self.project().future.set(next.take());
        true
    }
}

/// Boxes a future, in a box that has been used if the thread's last is of its type.
pub(super) fn work<F: Future<Output: Outcome> + Send + 'static>(future: F) -> Work {
    let mut future = Some(future);
    // There is none while the thread ends.
    let kept = KEPT.try_with(|kept| kept.borrow_mut().pop()).ok().flatten();
    if let Some(mut room) = kept
        && room.as_mut().occupy(&mut future)
    {
        return room;
    }
    Box::pin(Single { future })
}

/// How far a handler's future has come at once.
pub(crate) enum Started {
    Ended(Result<Answer, Error>),
    /// Its waker will be called.
    Waits(Work),
}

/// Polls a future for the first time.
pub(super) fn start<F>(future: F, cx: &mut Context<'_>) -> Started
where
    F: Future<Output: Outcome> + Send + 'static,
{
    let mut work = work(future);
    let answer = match poll_guarded(&mut work, cx) {
        Poll::Pending => return Started::Waits(work),
        Poll::Ready(answer) => answer,
    };
    vacate_guarded(work);
    Started::Ended(answer)
}

/// As [`vacate`], and what a destructor has to say in its panic is left to the panic hook.
pub(crate) fn vacate_guarded(work: Work) {
    let _ = guard(|| vacate(work));
}

/// Drops a future that has ended, or that nobody wants any more, and keeps its box.
fn vacate(mut work: Work) {
    work.as_mut().vacate();
    if size_of_val(&*work) <= MAX_KEPT_SIZE {
        let _ = KEPT.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() < MAX_KEPT {
                kept.push(work);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::{future::ready, panic, sync::Arc, task::Waker};

    use super::*;

    fn address(work: &Work) -> *const () {
        (&raw const **work).cast()
    }

    fn poll(work: &mut Work) -> Poll<Answer> {
        work.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    fn kept() -> usize {
        KEPT.with(|kept| kept.borrow().len())
    }

    #[test]
    fn a_box_takes_the_next_future_of_its_type() {
        let answer = |data: &'static str| work(ready(Ok::<_, crate::Error>(Some(data.into()))));
        let mut first = answer("first");
        let place = address(&first);
        assert!(matches!(poll(&mut first), Poll::Ready(Ok(Some(reply))) if reply.data == "first"));
        vacate(first);
        let mut next = answer("next");
        assert_eq!(address(&next), place);
        assert!(matches!(poll(&mut next), Poll::Ready(Ok(Some(reply))) if reply.data == "next"));
        vacate(next);
        // One of another type finds no room in it.
        let mut other = work(async {});
        assert!(matches!(poll(&mut other), Poll::Ready(Ok(None))));
        assert_eq!(kept(), 0);
    }

    #[test]
    fn an_empty_box_holds_nothing_of_its_future() {
        let held = Arc::new(());
        let holder = Arc::clone(&held);
        let work = work(async move { drop(holder) });
        assert_eq!(Arc::strong_count(&held), 2);
        vacate(work);
        assert_eq!((Arc::strong_count(&held), kept()), (1, 1));
    }

    #[test]
    fn a_future_that_panics_as_it_is_dropped_leaves_no_box() {
        struct Panics;
        impl Drop for Panics {
            fn drop(&mut self) {
                panic!("as it is dropped");
            }
        }
        let panics = Panics;
        let work = work(async move { drop(panics) });
        let vacated = panic::catch_unwind(panic::AssertUnwindSafe(|| vacate(work)));
        assert!(vacated.is_err());
        assert_eq!(kept(), 0);
    }

    #[test]
    fn neither_many_boxes_nor_large_ones_are_kept() {
        let all: Vec<_> = (0..=MAX_KEPT).map(|_| work(async {})).collect();
        all.into_iter().for_each(vacate);
        assert_eq!(kept(), MAX_KEPT);
        let large = [0_u8; MAX_KEPT_SIZE];
        let work = work(async move {
            std::future::pending::<()>().await;
            assert_eq!(large.len(), MAX_KEPT_SIZE);
        });
        assert_eq!(kept(), MAX_KEPT - 1);
        vacate(work);
        assert_eq!(kept(), MAX_KEPT - 1);
    }
}
