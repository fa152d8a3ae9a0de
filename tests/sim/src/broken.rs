//! The invariants, and how it is said that one does not hold.

use std::fmt;

/// An invariant that holds in every world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Invariant {
    /// 1: what is delivered is a prefix of what was sent, byte by byte and in order.
    Order,
    /// 2: no item without credit for it.
    Credit,
    /// 3: a half of a stream ends once, and nothing follows.
    Terminal,
    /// 4: ids are odd for the client, even for the server, and count up.
    StreamIds,
    /// 5: metadata before data; the fragments of a payload in order and by themselves.
    Fragments,
    /// 6: queues are no longer than is said.
    Bounds,
    /// 7: long transfers do not keep a new request waiting.
    Fairness,
    /// 8: no deadline has passed once the time was handled.
    Deadline,
    /// 9: both ends agree on positions, and what is replayed is what was written.
    Positions,
    /// 10: with an open link, credit and leases everything finishes, and nothing is left.
    Rest,
    /// Frames are well formed, and come when they may.
    Wire,
    /// No request without a permit.
    Lease,
    /// The application is told what happened, and of the connection's end only for a reason.
    Told,
    /// Nothing panics.
    Panic,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Order => "1 (what is delivered is a prefix of what was sent)",
            Self::Credit => "2 (no item without credit)",
            Self::Terminal => "3 (a half ends once, and nothing follows)",
            Self::StreamIds => "4 (stream ids)",
            Self::Fragments => "5 (fragments)",
            Self::Bounds => "6 (queues are bounded)",
            Self::Fairness => "7 (a new request does not wait for long transfers)",
            Self::Deadline => "8 (no deadline in the past)",
            Self::Positions => "9 (resume positions)",
            Self::Rest => "10 (everything finishes, nothing is left)",
            Self::Wire => "of the wire (frames in form and in place)",
            Self::Lease => "of leases (no request without a permit)",
            Self::Told => "of the application (it is told what happened)",
            Self::Panic => "of sanity (no panic)",
        };
        f.write_str(text)
    }
}

/// Something did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The invariant.
    pub invariant: Invariant,
    /// How it showed.
    pub detail: String,
}

impl Broken {
    /// It is the same thing that does not hold, with other numbers.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let words = |broken: &Self| -> String {
            let before = broken.detail.split('(').next().unwrap_or_default();
            before.chars().filter(|character| !character.is_ascii_digit()).collect()
        };
        self.invariant == other.invariant && words(self) == words(other)
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant {}: {}", self.invariant, self.detail)
    }
}

impl std::error::Error for Broken {}

pub(crate) type Check<T = ()> = Result<T, Broken>;

/// Returns that an invariant is broken, unless the condition holds.
macro_rules! hold {
    ($condition:expr, $invariant:ident, $($detail:tt)+) => {
        if !$condition {
            return Err($crate::Broken {
                invariant: $crate::Invariant::$invariant,
                detail: format!($($detail)+),
            });
        }
    };
}

/// The value, or that an invariant is broken.
macro_rules! some {
    ($value:expr, $invariant:ident, $($detail:tt)+) => {
        match $value {
            Some(value) => value,
            None => {
                return Err($crate::Broken {
                    invariant: $crate::Invariant::$invariant,
                    detail: format!($($detail)+),
                })
            }
        }
    };
}

pub(crate) use {hold, some};
