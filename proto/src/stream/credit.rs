//! Request-n: how much one side may send, and when the other asks for more.

use crate::frame::MAX_U31;

/// What a sender may still send: the sum of all request-n, less what was sent.
///
/// Credit adds up and cannot be taken back (RS-03, RN-02). 2^31−1 is a number like any other on
/// the wire, and sums beyond it do not wrap (RN-05, RS-13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credit(u64);

impl Credit {
    /// Credit for `n` items.
    pub const fn new(n: u64) -> Self {
        Self(n)
    }

    /// Adds a request-n.
    pub fn add(&mut self, n: u32) {
        self.0 = self.0.saturating_add(n.into());
    }

    /// Spends one; false if there is none.
    #[must_use]
    pub fn take(&mut self) -> bool {
        let available = self.0 > 0;
        self.0 -= u64::from(available);
        available
    }

    /// Items left.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// A receiver's policy for granting credit: so many items outstanding, more asked for when some
/// part of them has been consumed, and never more in total than wanted.
///
/// What a slow consumer makes us hold is at most `size` items (DOS-05).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    size: u32,
    /// Consumed items that make a refill; `None` never refills by itself.
    refill_at: Option<u32>,
    consumed: u32,
    /// Items not yet asked for, where the consumer has said how many it wants.
    unasked: Option<u64>,
}

impl Window {
    /// Keeps up to `size` items outstanding and refills when half of them are consumed.
    ///
    /// `size` is taken between 1 and 2^31−1 (RN-01).
    pub fn new(size: u32) -> Self {
        let size = size.clamp(1, MAX_U31);
        Self { size, refill_at: Some(size.div_ceil(2)), consumed: 0, unasked: None }
    }

    /// Refills when `percent` of the window is consumed; 100 waits for all of it.
    #[must_use]
    pub fn refill_at(mut self, percent: u8) -> Self {
        let share = u64::from(self.size) * u64::from(percent.clamp(1, 100));
        // At most `size`, hence a u32.
        self.refill_at = Some((share.div_ceil(100) as u32).max(1));
        self
    }

    /// Asks for nothing by itself after the first `size` items.
    #[must_use]
    pub fn manual(mut self) -> Self {
        self.refill_at = None;
        self
    }

    /// Never asks for more than `items` in all. At least the first item is asked for, since a
    /// request cannot ask for none.
    #[must_use]
    pub fn at_most(mut self, items: u64) -> Self {
        self.unasked = Some(items.max(1));
        self
    }

    /// The first request-n.
    pub fn initial(&mut self) -> u32 {
        self.ask(self.size)
    }

    /// Notes `items` consumed; the request-n this calls for, 0 for none yet.
    pub fn consume(&mut self, items: u32) -> u32 {
        let Some(refill_at) = self.refill_at else {
            return 0;
        };
        self.consumed = self.consumed.saturating_add(items).min(self.size);
        if self.consumed < refill_at {
            return 0;
        }
        let grant = std::mem::take(&mut self.consumed);
        self.ask(grant)
    }

    fn ask(&mut self, n: u32) -> u32 {
        let Some(unasked) = &mut self.unasked else {
            return n;
        };
        // The smaller of the two is at most `n`, hence a u32.
        let n = (*unasked).min(n.into()) as u32;
        *unasked -= u64::from(n);
        n
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_request_n_is_a_number_and_not_unbounded() {
        let mut credit = Credit::new(MAX_U31.into());
        credit.0 -= u64::from(MAX_U31) - 1;
        assert!(credit.take());
        assert!(!credit.take());
        credit.add(1);
        assert!(credit.take());
        for _ in 0..4 {
            credit.add(MAX_U31);
        }
        assert_eq!(credit.get(), 4 * u64::from(MAX_U31));
    }

    #[test]
    fn a_window_refills_at_half_and_stops_at_its_total() {
        let mut window = Window::new(5).at_most(12);
        assert_eq!(window.initial(), 5);
        let asked: Vec<u32> = (0..12).map(|_| window.consume(1)).collect();
        assert_eq!(asked, [0, 0, 3, 0, 0, 3, 0, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn outstanding_items_never_exceed_the_window() {
        for size in 1..20 {
            for percent in [1, 50, 75, 100] {
                let mut window = Window::new(size).refill_at(percent);
                let mut outstanding = window.initial();
                for _ in 0..100 {
                    assert!((1..=size).contains(&outstanding));
                    outstanding -= 1;
                    outstanding += window.consume(1);
                }
            }
        }
    }
}
