//! Request-n: how much one side may send, and when the other asks for more.

use crate::frame::MAX_U31;

/// The credit that a sender still has: the sum of all request-n, less what was sent.
///
/// Credit adds up and cannot be taken back (RS-03, RN-02). 2^31−1 is a number like any other on
/// the wire, and sums beyond it do not wrap (RN-05, RS-13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credit {
    left: u64,
    /// Kept beside it, and not what was spent: that would cost a little with each item.
    granted: u64,
}

impl Credit {
    /// Credit for `n` items.
    pub const fn new(n: u64) -> Self {
        Self { left: n, granted: n }
    }

    /// Adds a request-n.
    pub fn add(&mut self, n: u32) {
        self.left = self.left.saturating_add(n.into());
        self.granted = self.granted.saturating_add(n.into());
    }

    /// Spends one; false if there is none.
    #[must_use]
    pub fn take(&mut self) -> bool {
        let available = self.left > 0;
        self.left -= u64::from(available);
        available
    }

    /// Items left.
    pub const fn get(self) -> u64 {
        self.left
    }

    /// Items asked for in all.
    pub const fn granted(self) -> u64 {
        self.granted
    }
}

/// A receiver's policy for granting credit: so many items outstanding, more asked for when some
/// part of them has been consumed, and never more in total than wanted.
///
/// A slow consumer makes us hold at most `size` items (DOS-05), and no more of them than make
/// `bytes`, once it is seen how large they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    size: u32,
    /// Consumed items that make a refill; `None` never refills by itself.
    refill_at: Option<u32>,
    /// Items asked for and not consumed.
    outstanding: u32,
    /// Bytes that outstanding items may make.
    bytes: usize,
    /// The size of the largest of the last few items, in bytes: it falls by a sixteenth with each. None
    /// has come where it is 0.
    item_bytes: usize,
    growth: Option<Growth>,
    /// Items not yet asked for, where the consumer has said how many it wants.
    unasked: Option<u64>,
}

/// How far a window may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Growth {
    /// The window it began with, and shrinks back to.
    least: u32,
    most: u32,
    /// The bytes that its items may hold together.
    bytes: usize,
}

impl Window {
    /// Bytes that a window's items may make unless it says otherwise: 4 MiB.
    pub const DEFAULT_BYTES: usize = 4 << 20;

    /// Keeps up to `size` items outstanding and refills when half of them are consumed.
    ///
    /// `size` is taken between 1 and 2^31−1 (RN-01).
    pub fn new(size: u32) -> Self {
        let size = size.clamp(1, MAX_U31);
        Self {
            size,
            refill_at: Some(size.div_ceil(2)),
            outstanding: 0,
            bytes: Self::DEFAULT_BYTES,
            item_bytes: 0,
            growth: None,
            unasked: None,
        }
    }

    /// Refills when `percent` of the window is consumed; 100 waits for all of it.
    #[must_use]
    pub fn refill_at(mut self, percent: u8) -> Self {
        let share = u64::from(self.size) * u64::from(percent.clamp(1, 100));
        // At most `size`, hence a u32.
        self.refill_at = Some((share.div_ceil(100) as u32).max(1));
        self
    }

    /// Asks for fewer items where they are so large that `size` of them make more than `bytes`, but
    /// always for one: an item larger than that comes alone. The first request-n is for all `size`,
    /// since no item has come yet, unless the window [expects](Self::expecting) some size. Default
    /// [`DEFAULT_BYTES`](Self::DEFAULT_BYTES).
    #[must_use]
    pub fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// Expects items of about so many bytes, as the first of a channel was that came with its request:
    /// already the first request-n is for no more of them than make [`bytes`](Self::bytes). It makes no
    /// difference to a [`manual`](Self::manual) window.
    #[must_use]
    pub fn expecting(mut self, item_bytes: usize) -> Self {
        self.item_bytes = item_bytes;
        self
    }

    /// Asks for nothing by itself after the first `size` items.
    #[must_use]
    pub fn manual(mut self) -> Self {
        self.refill_at = None;
        self
    }

    /// Doubles, up to `most` items, while the consumer waits for items that come in bursts of a good
    /// part of the window: then it is the window that holds the sender up. A window never grows beyond
    /// `bytes` of such items as came last, and shrinks when larger ones come.
    #[must_use]
    pub fn grows_to(mut self, most: u32, bytes: usize) -> Self {
        let most = most.clamp(self.size, MAX_U31);
        self.growth = Some(Growth { least: self.size, most, bytes });
        self
    }

    /// Whether it makes a difference what bursts come.
    pub fn may_grow(&self) -> bool {
        self.growth.is_some() && self.refill_at.is_some()
    }

    /// Notes that a consumer waited, and then had a burst of `items`, `bytes` in all. The request-n
    /// this calls for, 0 for none.
    pub fn burst(&mut self, items: usize, bytes: usize) -> u32 {
        let (Some(growth), Some(refill_at)) = (&mut self.growth, self.refill_at) else {
            return 0;
        };
        let (size, items) = (self.size, items.max(1));
        // What a full window of such items holds.
        let holds = (bytes / items).saturating_mul(size as usize);
        if holds > growth.bytes && size / 2 >= growth.least {
            self.size = size / 2;
            self.refill_at = Some((refill_at / 2).max(1));
            return 0;
        }
        let is_bulk = items >= (size / 4).max(1) as usize;
        if !is_bulk || size > growth.most / 2 || holds > growth.bytes / 2 {
            return 0;
        }
        self.size = 2 * size;
        self.refill_at = Some(2 * refill_at);
        self.outstanding = self.outstanding.saturating_add(size);
        self.ask(size)
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
        // Who asks for more himself has said how many he wants.
        let by_bytes = if self.refill_at.is_some() { self.most_by_bytes() } else { None };
        self.outstanding = by_bytes.unwrap_or(self.size);
        self.ask(self.outstanding)
    }

    /// How many items may be outstanding, where they are so large that it is fewer than `size`.
    fn most_by_bytes(&self) -> Option<u32> {
        let is_beyond = self.item_bytes.saturating_mul(self.size as usize) > self.bytes;
        // Fewer than `size`, hence a u32.
        is_beyond.then(|| ((self.bytes / self.item_bytes) as u32).max(1))
    }

    /// Notes an item of so many bytes consumed; the request-n this calls for, 0 for none yet.
    pub fn consume(&mut self, bytes: usize) -> u32 {
        let Some(refill_at) = self.refill_at else {
            return 0;
        };
        self.outstanding = self.outstanding.saturating_sub(1);
        self.item_bytes = bytes.max(self.item_bytes - self.item_bytes / 16);
        let (mut size, mut refill_at) = (self.size, refill_at);
        // As for most items: a window made smaller by their size asks no sooner.
        if self.outstanding > size.saturating_sub(refill_at) {
            return 0;
        }
        if let Some(most) = self.most_by_bytes() {
            let share = u64::from(refill_at) * 100 / u64::from(size);
            size = most;
            // At most `size`, too.
            refill_at = ((u64::from(size) * share / 100) as u32).max(1);
        }
        if self.outstanding > size - refill_at.min(size) {
            return 0;
        }
        let grant = size - self.outstanding;
        self.outstanding = size;
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

    /// An item of which no window of these tests has too many bytes.
    const SMALL: usize = 32;

    #[test]
    fn the_largest_request_n_is_a_number_and_not_unbounded() {
        let mut credit = Credit::new(MAX_U31.into());
        credit.left -= u64::from(MAX_U31) - 1;
        assert!(credit.take());
        assert!(!credit.take());
        credit.add(1);
        assert!(credit.take());
        for _ in 0..4 {
            credit.add(MAX_U31);
        }
        assert_eq!(credit.get(), 4 * u64::from(MAX_U31));
        assert_eq!(credit.granted(), 5 * u64::from(MAX_U31) + 1);
    }

    #[test]
    fn a_window_refills_at_half_and_stops_at_its_total() {
        let mut window = Window::new(5).at_most(12);
        assert_eq!(window.initial(), 5);
        let asked: Vec<u32> = (0..12).map(|_| window.consume(SMALL)).collect();
        assert_eq!(asked, [0, 0, 3, 0, 0, 3, 0, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn a_window_grows_for_small_items_that_come_in_bulk() {
        let mut window = Window::new(256).grows_to(4_096, 256 << 10);
        assert_eq!(window.initial(), 256);
        let mut outstanding = 256_u32;
        // Bursts of 32-byte items as large as the window lets them be.
        for _ in 0..20 {
            let items = outstanding;
            outstanding += window.burst(items as usize, 32 * items as usize);
            for _ in 0..items {
                outstanding = outstanding - 1 + window.consume(SMALL);
            }
            assert!(outstanding <= 4_096);
        }
        assert!(outstanding > 2_048, "{outstanding}");
        // Larger ones: it shrinks to what it was, and no further.
        for _ in 0..100 {
            let items = outstanding.min(300);
            outstanding += window.burst(items as usize, 64 * 1024 * items as usize);
            for _ in 0..items {
                outstanding = outstanding - 1 + window.consume(SMALL);
            }
        }
        assert!((128..=256).contains(&outstanding), "{outstanding}");
    }

    #[test]
    fn a_window_does_not_grow_for_trickles_or_large_items() {
        let mut window = Window::new(256).grows_to(4_096, 256 << 10);
        assert_eq!(window.burst(3, 96), 0);
        assert_eq!(window.burst(256, 256 << 10), 0);
        assert_eq!(Window::new(256).burst(256, 0), 0);
        assert_eq!(Window::new(256).grows_to(4_096, 1 << 20).manual().burst(256, 0), 0);
        assert_eq!(window.burst(64, 64 * 32), 256);
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
                    outstanding += window.consume(SMALL);
                }
            }
        }
    }

    #[test]
    fn a_window_asks_by_bytes_as_well() {
        for (size, bytes, item_bytes, most) in [
            (256, 4 << 20, 1 << 20, 4),
            (256, 1 << 20, 64 << 20, 1),
            (8, 1_000, 300, 3),
            (8, 1_000, 125, 8),
        ] {
            for percent in [1, 50, 100] {
                let mut window = Window::new(size).bytes(bytes).refill_at(percent);
                let mut outstanding = window.initial();
                assert_eq!(outstanding, size, "the sizes are not known yet");
                // However long it takes, what is outstanding comes down to what may wait.
                for _ in 0..2 * size {
                    outstanding = outstanding - 1 + window.consume(item_bytes);
                    assert!(outstanding >= 1);
                }
                assert!(outstanding <= most, "{outstanding} of {item_bytes} B");
                // Small ones again: the window is as large as before after a while.
                for _ in 0..1_000 {
                    outstanding = outstanding - 1 + window.consume(1);
                }
                assert!(outstanding > size / 2 - 1 || percent == 100, "{outstanding}");
            }
        }
    }

    #[test]
    fn the_first_request_n_counts_the_bytes_it_expects() {
        for (expected, n) in [(0, 256), (16 << 10, 256), (1 << 20, 4), (3 << 19, 2), (1 << 30, 1)] {
            let mut window = Window::new(256).expecting(expected);
            assert_eq!(window.initial(), n, "{expected}");
            // Small ones, after all: the window is as large as without it, after as many items as it takes
            // a large one to be forgotten.
            let mut outstanding = n;
            for _ in 0..400 {
                outstanding = outstanding - 1 + window.consume(SMALL);
                assert!((1..=256).contains(&outstanding));
            }
            assert!(outstanding > 127, "{outstanding}");
        }
        assert_eq!(Window::new(256).expecting(1 << 20).manual().initial(), 256);
        assert_eq!(Window::new(256).expecting(1 << 20).at_most(3).initial(), 3);
    }

    #[test]
    fn what_a_consumer_asks_for_itself_does_not_refill_a_window_beyond_its_size() {
        let mut window = Window::new(4);
        let mut outstanding = window.initial() + 100;
        for _ in 0..200 {
            outstanding = outstanding - 1 + window.consume(SMALL);
            assert!(outstanding <= 104);
        }
        assert!(outstanding <= 104);
    }
}
