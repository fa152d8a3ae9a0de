//! Decisions of a seed.

/// A generator of numbers: SplitMix64, which is enough for schedules.
#[derive(Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another one, of this one's seed.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    /// A number below `bound`; 0 if that is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// A number up to about `bound`, small ones as likely as large ones.
    pub(crate) fn up_to(&mut self, bound: usize) -> usize {
        let bits = bound.max(1).ilog2() as usize + 1;
        let bits = self.below(bits + 1);
        self.below(1 << bits)
    }
}
