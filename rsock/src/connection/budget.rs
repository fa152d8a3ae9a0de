//! How long a driver may keep its worker to itself.

/// Turns a driver takes before it lets other tasks run. A turn reads one buffer full at most, so this
/// bounds what one wake handles to eight of them.
const TURNS: u32 = 8;

/// The turns left in this wake.
#[derive(Debug)]
pub(super) struct Budget(u32);

impl Budget {
    pub(super) fn new() -> Self {
        Self(TURNS)
    }

    /// Takes a turn; false if there is none left.
    pub(super) fn take(&mut self) -> bool {
        let left = self.0 > 0;
        self.0 -= u32::from(left);
        left
    }
}
