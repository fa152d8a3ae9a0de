//! Asking again: for whom it is safe, and what is waited for before.

use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    boxed::BoxFuture, error::Error, reconnect::Reconnect, requester::Requester,
    state::ConnectionState,
};

/// A stream that has lasted so long is no failed attempt.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// Asks again after what may pass: where the connection was lost, when there is another; where the service
/// refused, after pauses that grow as those of a client that reconnects do.
pub(super) struct Retry {
    requester: Requester,
    pauses: Reconnect,
    /// Failures in a row.
    failures: u32,
    asked_at: Instant,
    waiting: Option<BoxFuture<Result<(), Error>>>,
}

/// The pause before it is asked again, where that is known before.
pub(super) type Pause = Option<Duration>;

impl Retry {
    pub(super) fn new(requester: Requester) -> Self {
        Self {
            requester,
            pauses: Reconnect::new(),
            failures: 0,
            asked_at: Instant::now(),
            waiting: None,
        }
    }

    pub(super) fn requester(&self) -> &Requester {
        &self.requester
    }

    /// It is asked now.
    pub(super) fn asks(&mut self) {
        self.asked_at = Instant::now();
    }

    /// It has failed so; it is to be asked again when [`poll_ready`](Self::poll_ready) says so.
    ///
    /// # Errors
    /// The same, where asking again would not help.
    pub(super) fn failed(&mut self, error: Error) -> Result<Pause, Error> {
        if is_of_connection(&error) {
            self.waiting = Some(Box::pin(connected(self.requester.clone(), error)));
            return Ok(None);
        }
        if !may_pass(&error) {
            return Err(error);
        }
        if self.asked_at.elapsed() >= STABLE_AFTER {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        let pause = self.pauses.pause(self.failures, false);
        self.waiting = Some(Box::pin(async move {
            tokio::time::sleep(pause).await;
            Ok(())
        }));
        Ok(Some(pause))
    }

    /// Waits until it is time to ask, again or at first.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Some(waiting) = &mut self.waiting else { return Poll::Ready(Ok(())) };
        let waited = ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        Poll::Ready(waited)
    }
}

/// Whether there was no connection, or it was lost.
pub(super) fn is_of_connection(error: &Error) -> bool {
    matches!(error, Error::Closed { .. } | Error::Unavailable { .. })
}

/// Whether a refusal is another one later, for what does no harm when it is done twice. What failed while it
/// was done, as where a disk or what is behind the service did not answer, may succeed then.
pub(super) fn may_pass(error: &Error) -> bool {
    error.is_retryable()
        || matches!(error, Error::Application(text) if !text.starts_with("not of a topic"))
}

/// Waits for the next connection.
///
/// # Errors
/// The one that was given, if there will be none.
async fn connected(requester: Requester, error: Error) -> Result<(), Error> {
    use ConnectionState::{Closed, Draining, Reconnecting, Suspended};
    let mut state = requester.watch();
    drop(requester);
    let is_settled =
        |state: &ConnectionState| !matches!(state, Draining(_) | Reconnecting | Suspended);
    match state.wait_for(is_settled).await.as_deref() {
        Ok(Closed(_)) | Err(_) => Err(error),
        Ok(_) => Ok(()),
    }
}
