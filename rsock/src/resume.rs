//! How a client keeps its session when it loses its transport.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use rsock_proto::{CloseReason, ResumeLimits};

/// Asks for a session that outlives its transport (RESUME-01): for
/// [`ClientBuilder::resume`](crate::ClientBuilder::resume).
///
/// When the transport is lost, the client dials again until the window is over, with growing and
/// jittered pauses, and goes on where it was: nothing is lost and nothing delivered twice. What is
/// asked meanwhile waits. If the server does not know the session any more, or says what cannot be or
/// ends it with an error, everything pending fails with that, and a fresh session is set up on the
/// same handles, unless that is turned off. That is tried for as long as the window says, too, also
/// while the server refuses it.
///
/// A session begins with the server's first word: if it closes the transport before that, there is
/// nothing to come back to, and the connection has failed.
#[derive(Clone)]
#[must_use]
pub struct Resume {
    pub(crate) limits: ResumeLimits,
    pub(crate) pauses: (Duration, Duration),
    pub(crate) renew: bool,
    pub(crate) observer: Option<Observer>,
}

type Observer = Arc<dyn Fn(&SessionEvent) + Send + Sync>;

/// An event of a client's session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionEvent {
    /// The transport is lost; it is dialled again.
    Suspended,
    /// An attempt to dial or to resume failed, for this reason; another follows.
    AttemptFailed(String),
    /// The session goes on where it was.
    Resumed,
    /// The session could not be resumed for this reason, which is how all that was pending failed.
    /// A fresh one has been set up.
    Renewed(CloseReason),
    /// The session is over, and it is not known of so many fire-and-forgets that the server has them:
    /// their calls had returned `Ok`, and nobody else will hear of it. A fresh session may follow.
    Lost {
        /// How many.
        fire_and_forget: u64,
    },
}

impl Default for Resume {
    fn default() -> Self {
        Self {
            limits: ResumeLimits::default(),
            pauses: (Duration::from_millis(100), Duration::from_secs(5)),
            renew: true,
            observer: None,
        }
    }
}

impl Resume {
    /// Resume with the defaults: for 60 s, with 1 MiB of frames retained.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long to try, from the loss of the transport on. Default 60 s.
    pub fn window(mut self, window: Duration) -> Self {
        self.limits.window = window;
        self
    }

    /// Bytes of frames retained until the server has them. Default 1 MiB; requests wait beyond it.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.limits.max_bytes = bytes;
        self
    }

    /// The first pause between attempts, and the longest it grows to. Default 100 ms and 5 s.
    pub fn pauses(mut self, first: Duration, longest: Duration) -> Self {
        self.pauses = (first, longest.max(first));
        self
    }

    /// Whether a fresh session follows one that the server does not know any more, or ends with an
    /// error; not one that either side has closed. Default true.
    pub fn renew(mut self, renew: bool) -> Self {
        self.renew = renew;
        self
    }

    /// Tells what happens to the session. It runs in the connection's task: it should be quick.
    pub fn observe(mut self, observer: impl Fn(&SessionEvent) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// The longest pause before this attempt, the first being 1: twice as long each time.
    pub(crate) fn longest_pause(&self, attempt: u32) -> Duration {
        let (first, longest) = self.pauses;
        first.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(longest)
    }

    /// How long to wait before this attempt, the first being 0, which is made at once: somewhere in
    /// the second half of the longest pause, so that many clients do not come at the same time.
    pub(crate) fn pause(&self, attempt: u32) -> Duration {
        if attempt == 0 {
            return Duration::ZERO;
        }
        let doubled = self.longest_pause(attempt);
        // Spread, not secret.
        let random = RandomState::new().hash_one(attempt);
        let half = doubled / 2;
        let share = u32::try_from(random >> 48).unwrap_or(0);
        half + half / (1 << 16) * share
    }
}

impl fmt::Debug for Resume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resume").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// A token nobody can guess: 128 random bits, as text that every implementation compares alike
/// (RESUME-32).
///
/// # Errors
/// If the operating system gives no random bytes.
pub(crate) fn new_token() -> Result<Bytes, getrandom::Error> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit_and_are_spread() {
        let resume = Resume::new();
        assert_eq!(resume.pause(0), Duration::ZERO);
        for attempt in 1..40 {
            let full = Duration::from_millis(100 << (attempt - 1).min(16));
            let full = full.min(Duration::from_secs(5));
            let pause = resume.pause(attempt);
            assert!(pause >= full / 2 && pause <= full, "{attempt}: {pause:?}");
        }
        let spread: std::collections::BTreeSet<_> = (0..20).map(|_| resume.pause(9)).collect();
        assert!(spread.len() > 10);
    }

    #[test]
    fn resume_32_tokens_are_text_of_128_bits() {
        let [a, b] = [(); 2].map(|()| new_token().expect("random bytes"));
        assert_eq!(a.len(), 32);
        assert!(a.is_ascii() && a != b);
    }
}
