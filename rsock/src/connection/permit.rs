//! Waiting for the right to ask.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use rsock_proto::CloseReason;
use tokio::sync::TryAcquireError;

use crate::{
    boxed::BoxFuture,
    connection::mailbox::{Mailbox, Permit},
    error::Error,
    state::ConnectionState,
};

/// A permit that is waited for once none is free.
#[derive(Default)]
pub(crate) struct AwaitedPermit(Option<BoxFuture<Option<Permit>>>);

impl AwaitedPermit {
    pub(crate) fn poll(
        &mut self,
        mailbox: &Arc<Mailbox>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Permit, Error>> {
        let waiting = match &mut self.0 {
            Some(waiting) => waiting,
            none => match mailbox.try_permit() {
                Ok(permit) => return Poll::Ready(Ok(permit)),
                Err(TryAcquireError::Closed) => return Poll::Ready(Err(refused(mailbox))),
                Err(TryAcquireError::NoPermits) => {
                    let mailbox = Arc::clone(mailbox);
                    none.insert(Box::pin(async move { mailbox.permit().await }))
                }
            },
        };
        let permit = ready!(waiting.as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(permit.ok_or_else(|| refused(mailbox)))
    }
}

/// The error of whatever is asked of a connection that takes nothing any more.
pub(crate) fn refused(mailbox: &Mailbox) -> Error {
    Error::never_sent(mailbox.refusing().unwrap_or(CloseReason::Disconnected))
}

/// Waits until nothing new is asked of a connection any more.
pub(crate) async fn refusal(mailbox: Arc<Mailbox>) {
    use ConnectionState::{Closed, Draining};
    // One whose mailbox has gone takes nothing either.
    let mut state = mailbox.watch();
    drop(mailbox);
    let _ = state.wait_for(|state| matches!(state, Draining(_) | Closed(_))).await;
}
