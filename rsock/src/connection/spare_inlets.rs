//! Inlets that have been used, kept for the next request of their thread: one that waits for its
//! answer is then the only memory a request takes at its requester.

use std::{cell::RefCell, sync::Arc, task::Waker};

use crate::connection::inlet::Inlet;

/// How many a thread keeps: as many as are commonly asked for at once.
const MAX_KEPT: usize = 128;

thread_local! {
    static KEPT: RefCell<Vec<Arc<Inlet>>> = const { RefCell::new(Vec::new()) };
}

/// An inlet as good as new, for this consumer.
pub(crate) fn take_inlet(consumer: &Waker) -> Arc<Inlet> {
    // There is none while the thread ends.
    let kept = KEPT.try_with(|kept| kept.borrow_mut().pop()).ok().flatten();
    let mut inlet = kept.unwrap_or_default();
    if !inlet.renew(consumer) {
        inlet = Arc::default();
        // Nobody else has this one.
        inlet.renew(consumer);
    }
    inlet
}

/// Keeps an inlet whose stream is over, unless somebody else still has it.
pub(crate) fn keep_inlet(inlet: Arc<Inlet>) {
    if Arc::strong_count(&inlet) == 1 {
        let _ = KEPT.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() < MAX_KEPT {
                kept.push(inlet);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> usize {
        KEPT.with(|kept| kept.borrow().len())
    }

    #[test]
    fn only_what_nobody_else_has_is_kept() {
        let inlet = Arc::new(Inlet::default());
        let driver = Arc::clone(&inlet);
        keep_inlet(inlet);
        assert_eq!(kept(), 0);
        let address = Arc::as_ptr(&driver);
        keep_inlet(driver);
        assert_eq!(kept(), 1);
        assert_eq!(Arc::as_ptr(&take_inlet(Waker::noop())), address);
        assert_eq!(kept(), 0);
    }

    #[test]
    fn no_more_are_kept_than_a_thread_may() {
        for _ in 0..=MAX_KEPT {
            keep_inlet(Arc::default());
        }
        assert_eq!(kept(), MAX_KEPT);
    }
}
