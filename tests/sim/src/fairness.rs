//! How long a new request waits for streams that have more to send than one turn lets them.

use std::collections::{BTreeMap, BTreeSet};

use crate::broken::{Check, hold};

/// New streams that may go ahead of a long transfer before it has another turn.
const STREAK: usize = 64;

/// The streams that one side's requests are waiting for.
#[derive(Debug, Default)]
pub(crate) struct Fairness {
    /// Requests not written, with the long transfers there were before them, and the bytes of those
    /// that went ahead nevertheless.
    waiting: BTreeMap<u32, (BTreeSet<u32>, usize)>,
    /// Streams that have had a turn and were not done with what they had.
    veterans: BTreeSet<u32>,
    /// The most streams there were.
    streams: usize,
}

impl Fairness {
    pub(crate) fn opened(&mut self, id: u32) {
        self.waiting.insert(id, (self.veterans.clone(), 0));
    }

    /// It is not to be written any more.
    pub(crate) fn forget(&mut self, id: u32) {
        self.waiting.remove(&id);
        self.veterans.remove(&id);
    }

    /// A frame of a stream's data is written; `more` if the stream has still some. `turn` bytes are
    /// the most that a turn is.
    pub(crate) fn wrote(
        &mut self,
        id: u32,
        bytes: usize,
        more: bool,
        streams: usize,
        turn: usize,
    ) -> Check {
        self.streams = self.streams.max(streams);
        if let Some((_, waited)) = self.waiting.remove(&id) {
            let turns = 2 + self.streams / STREAK;
            hold!(
                waited <= turns.saturating_mul(turn),
                Fairness,
                "the request of stream {id} waited for {waited} bytes of long transfers, where a \
                 turn is {turn}"
            );
        }
        for (veterans, waited) in self.waiting.values_mut() {
            if veterans.contains(&id) {
                *waited += bytes;
            }
            if !more {
                veterans.remove(&id);
            }
        }
        if more {
            self.veterans.insert(id);
        } else {
            self.veterans.remove(&id);
        }
        Ok(())
    }
}
