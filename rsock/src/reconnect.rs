//! Reconnecting: how a client that has lost its connection comes to another.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use rsock_proto::CloseReason;

/// The shortest pause that grows: none would never be longer, and would take a processor to dial with.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
/// The shortest pause after a server has refused a connection with REJECTED_SETUP.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(1);

/// Connects anew when the connection is lost: for
/// [`ClientBuilder::reconnect`](crate::ClientBuilder::reconnect).
///
/// What is pending when a connection is lost fails with the reason, since the server may have done
/// it; handles stay good, and what is asked meanwhile waits for the next connection, in its order and
/// for at most [`wait`](Self::wait). Nothing is sent twice. With
/// [`resume`](crate::ClientBuilder::resume) as well, the session is resumed as long as that is
/// possible, without any loss, and a new connection follows where it is not: where its window is over,
/// where the server does not know it any more, and at servers that do not have resume.
///
/// Attempts are made at growing intervals: before the n-th, somewhere between 0 and the smaller of the
/// longest pause and 2^(n−1) times the first ("full jitter"), so that many clients do not come at
/// once. The first is made at once, unless the lost connection was not accepted, or not for
/// [`stable_after`](Self::stable_after): a server that takes connections and drops them is not
/// hammered.
///
/// A refusal of the first SETUP ever ends the client, and so do INVALID_SETUP and UNSUPPORTED_SETUP at
/// any time; a REJECTED_SETUP of a later one has it try again, after a second at the least. A server
/// that says it closes (CONNECTION_CLOSE) is left when its streams have ended; closing or aborting the
/// client ends it for good.
///
/// ```
/// use std::time::Duration;
///
/// use rsock::{Client, Reconnect, ReconnectEvent};
///
/// let builder = Client::builder().reconnect(Reconnect::new().wait(Duration::from_secs(5)).observe(
///     |event| match event {
///         ReconnectEvent::Lost(reason) => eprintln!("lost: {reason}"),
///         ReconnectEvent::AttemptFailed { error, pause, .. } => {
///             eprintln!("{error}; trying again in {pause:.1?}");
///         }
///         ReconnectEvent::Connected { attempts } => eprintln!("back after {attempts} attempts"),
///         _ => {}
///     },
/// ));
/// # drop(builder);
/// ```
#[derive(Clone)]
#[must_use]
pub struct Reconnect {
    pauses: (Duration, Duration),
    pub(crate) attempts: Option<u32>,
    pub(crate) stable_after: Duration,
    pub(crate) wait: Duration,
    pub(crate) observer: Option<Observer>,
}

type Observer = Arc<dyn Fn(&ReconnectEvent) + Send + Sync>;

/// An event of a client that reconnects.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReconnectEvent {
    /// The connection is lost, or its server is about to close it and it has no streams left: what was
    /// pending has failed for this reason. Another is dialled.
    Lost(CloseReason),
    /// An attempt failed; the next one follows.
    AttemptFailed {
        /// Its number since the connection was lost, from 1 on.
        attempt: u32,
        /// How it failed.
        error: String,
        /// The time until the next.
        pause: Duration,
    },
    /// A server has accepted a new connection, on the same handles.
    Connected {
        /// How many attempts it took, this one included.
        attempts: u32,
    },
    /// No more attempts are made: the client is closed, for this reason.
    GaveUp(CloseReason),
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            pauses: (Duration::from_millis(100), Duration::from_secs(15)),
            attempts: None,
            stable_after: Duration::from_secs(10),
            wait: Duration::from_secs(10),
            observer: None,
        }
    }
}

impl Reconnect {
    /// Reconnects with the defaults, for as long as it takes.
    pub fn new() -> Self {
        Self::default()
    }

    /// The longest pauses before the second attempt, and before any; both are at least 1 ms. Default
    /// 100 ms and 15 s.
    pub fn pauses(mut self, first: Duration, longest: Duration) -> Self {
        let first = first.max(SHORTEST_PAUSE);
        self.pauses = (first, longest.max(first));
        self
    }

    /// How many attempts are made in a row without a server accepting any of them; then the client
    /// closes, with the reason of the last one it had. One is made at any rate. Default `None`: any number.
    pub fn attempts(mut self, max: impl Into<Option<u32>>) -> Self {
        self.attempts = max.into();
        self
    }

    /// How long a connection must have been accepted for the next attempt to count as a first one.
    /// Default 10 s.
    pub fn stable_after(mut self, time: Duration) -> Self {
        self.stable_after = time;
        self
    }

    /// How long a request waits for a connection while there is none, before it fails with
    /// [`Error::Unavailable`](crate::Error::Unavailable); zero has it fail at once, and
    /// [`Duration::MAX`] lets it wait for ever. As many wait as
    /// [`max_requests`](crate::ClientBuilder::max_requests) says, and more for their turn. Default 10 s.
    pub fn wait(mut self, limit: Duration) -> Self {
        self.wait = limit;
        self
    }

    /// Tells what happens to the connection. It runs in the connection's task: it should be quick.
    pub fn observe(mut self, observer: impl Fn(&ReconnectEvent) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// The longest pause before an attempt, the first of which, made at once, is 0.
    fn longest_pause(&self, attempt: u32) -> Duration {
        let (first, longest) = self.pauses;
        match attempt {
            0 => Duration::ZERO,
            _ => first.saturating_mul(1 << (attempt - 1).min(31)).min(longest),
        }
    }

    /// How long to wait before an attempt.
    pub(crate) fn pause(&self, attempt: u32, is_refused: bool) -> Duration {
        // Spread, not secret: 32 bits of it.
        let random = RandomState::new().hash_one(attempt) >> 32;
        let part = random as f64 / f64::from(u32::MAX);
        let pause = self.longest_pause(attempt).mul_f64(part);
        if is_refused { pause.max(PAUSE_AFTER_REFUSAL) } else { pause }
    }
}

impl fmt::Debug for Reconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnect")
            .field("pauses", &self.pauses)
            .field("attempts", &self.attempts)
            .field("stable_after", &self.stable_after)
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_are_spread_and_have_a_bound() {
        let reconnect = Reconnect::new().pauses(Duration::from_millis(100), Duration::from_secs(2));
        assert_eq!(reconnect.pause(0, false), Duration::ZERO);
        for (attempt, longest) in
            [(1, 100), (2, 200), (3, 400), (5, 1_600), (6, 2_000), (99, 2_000)]
        {
            let longest = Duration::from_millis(longest);
            let pauses: Vec<_> = (0..200).map(|_| reconnect.pause(attempt, false)).collect();
            assert!(pauses.iter().all(|pause| *pause <= longest), "{attempt}: {pauses:?}");
            // Of two hundred, some are short and some long.
            assert!(pauses.iter().any(|pause| *pause < longest / 4), "{attempt}: {pauses:?}");
            assert!(pauses.iter().any(|pause| *pause > longest / 4 * 3), "{attempt}: {pauses:?}");
        }
    }

    /// They would be none for ever, and the server be dialled as fast as a processor can.
    #[test]
    fn pauses_grow_out_of_nothing() {
        let none = Reconnect::new().pauses(Duration::ZERO, Duration::ZERO);
        assert_eq!(none.longest_pause(9), Duration::from_millis(1));
        let grows = Reconnect::new().pauses(Duration::ZERO, Duration::from_millis(100));
        assert_eq!(grows.longest_pause(4), Duration::from_millis(8));
        assert_eq!(grows.longest_pause(9), Duration::from_millis(100));
    }

    #[test]
    fn a_refusal_is_not_answered_within_a_second() {
        let reconnect = Reconnect::new();
        assert!((0..20).all(|attempt| reconnect.pause(attempt, true) >= PAUSE_AFTER_REFUSAL));
        assert!((0..20).all(|attempt| reconnect.pause(attempt, true) <= Duration::from_secs(15)));
    }
}
