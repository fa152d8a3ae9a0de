//! Feeds that are woken together: by one entry in their connection's mailbox, however many they are.

use std::{
    fmt, mem,
    sync::{Arc, PoisonError, Weak, atomic::Ordering},
    task::Waker,
};

use crate::{
    connection::mailbox::{Group, Mailbox},
    sync::{AtomicBool, Mutex, MutexGuard},
};

/// Feeds of one connection that wait for the same, such as the next message of a topic.
///
/// [`Requester::wake_group`](crate::Requester::wake_group) makes one. A feed joins it by
/// [`Outlet::wait_in`](crate::Outlet::wait_in), and leaves it when it is woken; it then looks once more at
/// what it waits for. To wake the group takes one lock, and at most one task, however many wait.
pub struct WakeGroup {
    waiting: Mutex<Waiting>,
    /// It is in the mailbox, and its driver will take all that wait.
    is_listed: AtomicBool,
    /// Weak: feeds hold their groups, and must not keep a mailbox alive that holds them.
    mailbox: Weak<Mailbox>,
}

#[derive(Default)]
struct Waiting {
    /// Slots of the driver. One may be there twice, or be another's by now: that is polled in vain.
    slots: Vec<u32>,
    /// Those of whom the driver knows nothing; one may be there twice, too.
    others: Vec<Waker>,
}

impl WakeGroup {
    pub(crate) fn new(mailbox: &Arc<Mailbox>) -> Arc<Self> {
        Arc::new(Self {
            waiting: Mutex::default(),
            is_listed: AtomicBool::new(false),
            mailbox: Arc::downgrade(mailbox),
        })
    }

    /// No user code runs under the lock, so a poisoned one still holds whole values.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes all that wait in it. False if their connection is over.
    pub fn wake(self: &Arc<Self>) -> bool {
        if self.is_listed.swap(true, Ordering::AcqRel) {
            return true;
        }
        let group = Arc::clone(self);
        if self.mailbox.upgrade().is_some_and(|mailbox| mailbox.ready_group(group)) {
            return true;
        }
        // Nobody takes it from there; who waits by a waker is told here.
        self.take(&mut |_| {});
        false
    }

    /// The producer at this place waits; by its waker, if that is another connection's.
    pub(crate) fn join(&self, mailbox: &Arc<Mailbox>, slot: usize, waker: &Waker) {
        match u32::try_from(slot) {
            Ok(slot) if self.mailbox.as_ptr() == Arc::as_ptr(mailbox) => {
                let slots = &mut self.lock().slots;
                if slots.len() == slots.capacity() {
                    // So there are no more than twice as many as feeds wait.
                    slots.sort_unstable();
                    slots.dedup();
                }
                slots.push(slot);
            }
            _ => self.join_by_waker(waker),
        }
    }

    pub(crate) fn join_by_waker(&self, waker: &Waker) {
        let others = &mut self.lock().others;
        if others.len() == others.capacity() {
            // As for the slots. Not at each join: thousands may wait.
            others.sort_unstable_by_key(|other| other.data().addr());
            others.dedup_by(|other, before| other.will_wake(before));
        }
        others.push(waker.clone());
    }
}

impl Group for WakeGroup {
    fn take(&self, go_on: &mut dyn FnMut(usize)) {
        // Whoever wakes it from here on lists it again. Whoever was too late to list it came before this:
        // what they had to tell is seen by those who are taken here.
        self.is_listed.swap(false, Ordering::AcqRel);
        let Waiting { mut slots, others } = mem::take(&mut *self.lock());
        for slot in slots.drain(..) {
            go_on(slot as usize);
        }
        let mut waiting = self.lock();
        if waiting.slots.capacity() == 0 {
            waiting.slots = slots;
        }
        drop(waiting);
        for other in others {
            other.wake();
        }
    }
}

impl fmt::Debug for WakeGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WakeGroup").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use super::*;
    use crate::state::ConnectionState;

    struct Nobody;

    impl Wake for Nobody {
        fn wake(self: Arc<Self>) {}
    }

    /// Who is polled in vain and joins again, by either way, does not make it grow.
    #[test]
    fn it_holds_no_more_than_twice_as_many_as_wait() {
        let mailbox = Mailbox::new(1, ConnectionState::Established);
        let group = WakeGroup::new(&mailbox);
        let wakers: Vec<_> = (0..100).map(|_| Waker::from(Arc::new(Nobody))).collect();
        for _ in 0..1_000 {
            for (slot, waker) in wakers.iter().enumerate() {
                group.join(&mailbox, slot, waker);
                group.join_by_waker(waker);
            }
        }
        let Waiting { slots, others } = &*group.lock();
        assert!((100..=400).contains(&slots.len()), "{}", slots.len());
        assert!((100..=400).contains(&others.len()), "{}", others.len());
    }
}
