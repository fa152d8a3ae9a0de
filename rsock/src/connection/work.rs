//! Futures of handlers, in boxes that are used again: one whose future has ended takes the next of
//! its type on the same thread.

use std::{
    any::{Any, TypeId},
    cell::RefCell,
    future::{Future, ready},
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use rsock_proto::Payload;

use crate::error::Error;

/// The answer to a request-response; `None` completes without a payload.
pub(crate) type Answer = Result<Option<Payload>, Error>;

/// How many empty boxes a thread keeps: as many as requests are commonly under way at once.
const MAX_KEPT: usize = 128;
/// The largest box that is kept, in bytes.
const MAX_KEPT_SIZE: usize = 1 << 10;

thread_local! {
    static KEPT: RefCell<Vec<Work>> = const { RefCell::new(Vec::new()) };
}

/// A handler's future, boxed.
pub(crate) type Work = Pin<Box<dyn ReusableBox>>;

/// A box for futures of one type, one after the other.
pub(crate) trait ReusableBox: Send {
    /// Polls the future. When it has ended, what it came to is told before it is dropped; one that
    /// panics as it is dropped has told it as well.
    fn run(self: Pin<&mut Self>, cx: &mut Context<'_>, answer: &mut Option<Answer>);

    /// Makes the next future with what is in `make`, an `Option` of a closure; false if that makes
    /// futures of another type.
    fn refill(self: Pin<&mut Self>, make: &mut dyn Any) -> bool;
}

/// A value that a handler's future may come to.
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
    /// The box of what `M` makes.
    struct Single<M, F> {
        #[pin]
        future: Option<F>,
        maker: PhantomData<fn() -> M>,
    }
}

impl<M, F> ReusableBox for Single<M, F>
where
    M: FnOnce() -> F + 'static,
    F: Future<Output: Outcome> + Send + 'static,
{
    fn run(self: Pin<&mut Self>, cx: &mut Context<'_>, answer: &mut Option<Answer>) {
        let mut future = self.project().future;
        if let Some(running) = future.as_mut().as_pin_mut()
            && let Poll::Ready(outcome) = running.poll(cx)
        {
            *answer = Some(outcome.into_answer());
            future.set(None);
        }
    }

    fn refill(self: Pin<&mut Self>, make: &mut dyn Any) -> bool {
        let Some(make) = make.downcast_mut::<Option<M>>() else { return false };
        if let Some(make) = make.take() {
            self.project().future.set(Some(make()));
        }
        true
    }
}

/// Makes a future in a box: one that has been used, if the thread's last was for the same.
#[inline]
pub(crate) fn work<M, F>(make: M) -> Work
where
    M: FnOnce() -> F + 'static,
    F: Future<Output: Outcome> + Send + 'static,
{
    if TypeId::of::<F>() == TypeId::of::<Answering>() {
        // It is in a box, and needs no other around it.
        let mut future = make();
        let answering = (&mut future as &mut dyn Any).downcast_mut::<Answering>();
        return answering.and_then(|answering| answering.0.take()).unwrap_or_else(|| {
            Box::pin(Single { future: Some(future), maker: PhantomData::<fn() -> M> })
        });
    }
    // There is none while the thread ends.
    let kept = KEPT.try_with(|kept| kept.borrow_mut().pop()).ok().flatten();
    let mut make = Some(make);
    if let Some(mut used) = kept
        && used.as_mut().refill(&mut make)
    {
        return used;
    }
    let future = make.map(|make| make());
    Box::pin(Single { future, maker: PhantomData::<fn() -> M> })
}

/// Keeps the box of a future that has ended.
#[inline(always)]
pub(crate) fn keep(work: Work) {
    let _ = KEPT.try_with(|kept| put(kept, work));
}

#[inline(always)]
fn put(kept: &RefCell<Vec<Work>>, work: Work) {
    if size_of_val(&*work) <= MAX_KEPT_SIZE {
        let mut kept = kept.borrow_mut();
        if kept.len() < MAX_KEPT {
            kept.push(work);
        }
    }
}

/// The answer to what is not done.
#[cold]
pub(crate) fn refused(error: Error) -> Work {
    work(move || ready(Err::<Option<Payload>, _>(error)))
}

/// A handler's future on the way to its answer, after which its box is kept.
pub(crate) struct Answering(Option<Work>);

impl Answering {
    pub(crate) fn new(work: Work) -> Self {
        Self(Some(work))
    }
}

impl Future for Answering {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let mut answer = None;
        if let Some(working) = &mut self.0 {
            working.as_mut().run(cx, &mut answer);
        }
        let Some(answer) = answer else { return Poll::Pending };
        if let Some(worked) = self.0.take() {
            // Not by `keep`: the driver, which has a request's box most often, has it inlined.
            let _ = KEPT.try_with(|kept| put(kept, worked));
        }
        Poll::Ready(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        panic::{AssertUnwindSafe, catch_unwind},
        sync::Arc,
        task::Waker,
    };

    use super::*;

    fn address(work: &Work) -> *const () {
        (&raw const **work).cast()
    }

    fn run(work: &mut Work) -> Option<Answer> {
        let mut answer = None;
        work.as_mut().run(&mut Context::from_waker(Waker::noop()), &mut answer);
        answer
    }

    fn reply(data: &'static str) -> Work {
        work(move || ready(Ok::<_, Error>(Some(data.into()))))
    }

    fn kept() -> usize {
        KEPT.with(|kept| kept.borrow().len())
    }

    #[test]
    fn a_box_takes_the_next_future_of_its_type() {
        let mut first = reply("first");
        let place = address(&first);
        assert!(matches!(run(&mut first), Some(Ok(Some(reply))) if reply.data == "first"));
        keep(first);
        let mut next = reply("next");
        assert_eq!(address(&next), place);
        assert!(matches!(run(&mut next), Some(Ok(Some(reply))) if reply.data == "next"));
        assert!(run(&mut next).is_none(), "it answers once");
        keep(next);
        // One of another type does not fit into it.
        let mut other = work(|| async {});
        assert!(matches!(run(&mut other), Some(Ok(None))));
        assert_eq!(kept(), 0);
    }

    #[test]
    fn an_empty_box_holds_nothing_of_its_future() {
        let held = Arc::new(());
        struct Held(#[expect(dead_code, reason = "it is there to be dropped")] Arc<()>);
        impl Future for Held {
            type Output = ();

            fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
                Poll::Ready(())
            }
        }
        let mut work = work({
            let held = Arc::clone(&held);
            || Held(held)
        });
        assert_eq!(Arc::strong_count(&held), 2);
        assert!(run(&mut work).is_some());
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[test]
    fn a_future_that_panics_as_it_is_dropped_has_answered() {
        struct Panics;
        impl Future for Panics {
            type Output = ();

            fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
                Poll::Ready(())
            }
        }
        impl Drop for Panics {
            fn drop(&mut self) {
                panic!("as it is dropped");
            }
        }
        let mut work = work(|| Panics);
        let mut answer = None;
        let cx = &mut Context::from_waker(Waker::noop());
        let ran = catch_unwind(AssertUnwindSafe(|| work.as_mut().run(cx, &mut answer)));
        assert!(ran.is_err());
        assert!(matches!(answer, Some(Ok(None))));
        // It is not dropped again.
        assert!(run(&mut work).is_none());
    }

    #[test]
    fn neither_many_boxes_nor_large_ones_are_kept() {
        let all: Vec<_> = (0..=MAX_KEPT).map(|_| work(|| async {})).collect();
        all.into_iter().for_each(keep);
        assert_eq!(kept(), MAX_KEPT);
        let large = [0_u8; MAX_KEPT_SIZE];
        let work = work(move || async move {
            pending::<()>().await;
            assert_eq!(large.len(), MAX_KEPT_SIZE);
        });
        assert_eq!(kept(), MAX_KEPT - 1);
        keep(work);
        assert_eq!(kept(), MAX_KEPT - 1);
    }
}
