//! The invariants, and how it is said that one does not hold.

use std::fmt;

/// An invariant of topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Invariant {
    /// L1: from the oldest that is kept to the newest all are there, as they were published.
    Whole,
    /// L2: readers see what was acknowledged, and nothing else.
    Visible,
    /// L3: offsets never repeat within an epoch, and go on where they were as long as they are remembered.
    Offsets,
    /// L4: memory is bounded, and given back.
    Memory,
    /// Retention lets go of what it should and of nothing else.
    Retention,
    /// C1: what a reader is told accounts for every offset, once and in order.
    Account,
    /// C2: a reader's place never goes back.
    Forward,
    /// C3: no wake is lost: whoever has credit reaches the head.
    Awake,
    /// C4: a reader without credit is asked for nothing, and nobody is woken who did not wait.
    Quiet,
    /// Items have the bytes they should, and come under credit.
    Item,
    /// Events never overtake messages, and reach whoever is there.
    Events,
    /// I1, and the answers to publishes: what a sequence of publishes may be answered.
    Answer,
    /// A join takes no more payloads than it has credit for, and answers each once, in order.
    Member,
    /// A reader begins where it asked to, and ends when it should.
    Begin,
    /// See `Begin`.
    End,
    /// P1: what a watcher of presence was told is the members as they are shown.
    Presence,
    /// Nothing panics.
    Panic,
}

/// Something did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The invariant.
    pub invariant: Invariant,
    /// How it showed.
    pub detail: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.detail)
    }
}

/// Ends the run because an invariant is broken, unless the condition holds. It unwinds: what breaks may be
/// in the middle of a call of the core's that calls back.
macro_rules! hold {
    ($condition:expr, $invariant:ident, $($detail:tt)+) => {
        if !$condition {
            std::panic::panic_any($crate::broken::Broken {
                invariant: $crate::broken::Invariant::$invariant,
                detail: format!($($detail)+),
            });
        }
    };
}

pub(crate) use hold;
