//! The order of writing: control first, then streams that just became sendable, then the rest in
//! turn (fq_codel's new and old lists over bytes, RFC 8290).

use std::collections::VecDeque;

use crate::stream::{StreamKey, Turn};

/// The lists a stream waits in, at most once each; so they are bounded by the number of streams.
///
/// A stream that ends leaves its entries behind; they are skipped when met and swept when they
/// outnumber the live ones.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    /// Streams with a CANCEL or REQUEST_N to write.
    control: VecDeque<StreamKey>,
    /// Streams that had nothing to send until now: one quantum each, first come first served.
    new: VecDeque<StreamKey>,
    /// Streams that had their turn. One that has written all it had stays for another, which it
    /// loses if it still has nothing then: else bulk in small pieces would be new every time.
    old: VecDeque<StreamKey>,
    /// New streams served since an old one was.
    streak: usize,
}

/// New streams that may go ahead of an old one: enough for a burst of small answers, and a bound
/// on how long they can keep a long transfer waiting.
const MAX_STREAK: usize = 64;

impl Scheduler {
    /// Lists a stream that has a CANCEL or REQUEST_N to write, if it is not listed.
    #[inline]
    pub(crate) fn add_control(&mut self, key: StreamKey, turn: &mut Turn) {
        if turn.enter_control() {
            self.control.push_back(key);
        }
    }

    /// Lists a stream that has data to write, if it is not listed.
    #[inline]
    pub(crate) fn add_data(&mut self, key: StreamKey, turn: &mut Turn) {
        if turn.enter_data() {
            self.new.push_back(key);
        }
    }

    /// Lists a stream again that has had its turn.
    #[inline]
    pub(crate) fn keep_data(&mut self, key: StreamKey) {
        self.old.push_back(key);
    }

    pub(crate) fn pop_control(&mut self) -> Option<StreamKey> {
        self.control.pop_front()
    }

    pub(crate) fn pop_data(&mut self) -> Option<StreamKey> {
        if (self.streak < MAX_STREAK || self.old.is_empty())
            && let Some(key) = self.new.pop_front()
        {
            self.streak += 1;
            return Some(key);
        }
        self.streak = 0;
        self.old.pop_front()
    }

    /// Entries of streams with data to write.
    pub(crate) fn data_len(&self) -> usize {
        self.new.len() + self.old.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.control.is_empty() && self.new.is_empty() && self.old.is_empty()
    }

    /// Forgets the entries of streams that have ended, once they are most of what is listed.
    #[inline]
    pub(crate) fn sweep(&mut self, live: usize, is_live: impl Fn(StreamKey) -> bool) {
        let longest = self.control.len().max(self.new.len()).max(self.old.len());
        if longest > 64 {
            self.sweep_lists(live, is_live);
        }
    }

    #[cold]
    fn sweep_lists(&mut self, live: usize, is_live: impl Fn(StreamKey) -> bool) {
        for list in [&mut self.control, &mut self.new, &mut self.old] {
            if list.len() > 2 * live + 64 {
                list.retain(|key| is_live(*key));
            }
        }
    }
}
