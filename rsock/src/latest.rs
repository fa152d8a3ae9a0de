//! The newest value of something that changes: readers that are slow get fewer values, and none is old.

use std::{
    fmt,
    task::{Context, Poll},
};

use rsock_proto::SharedPayload;
use tokio::sync::watch;

use crate::{
    boxed::BoxFuture,
    connection::feed::{Feed, Outlet},
    error::Error,
};

/// A feed of the newest value: first the one there is, then each that a reader is ready for. What comes
/// while the peer has not asked for an item, or its socket takes none, is passed over but for the last.
/// The stream completes when the sender is gone, behind its last value.
///
/// What was sent cannot be taken back: a peer that asks for many items and is slow to look at them has them
/// in its own queue. It asks for one at a time, or passes over what has arrived meanwhile, as
/// [`RequestStream::newest`](crate::RequestStream::newest) does.
///
/// ```
/// # use rsock::*;
/// # use std::time::Duration;
/// # use tokio::sync::watch;
/// # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
/// let (clock, ticks) = watch::channel(SharedPayload::new(None, b"0"));
/// tokio::spawn(async move {
///     for tick in 1_u64.. {
///         tokio::time::sleep(Duration::from_millis(10)).await;
///         clock.send_replace(SharedPayload::new(None, tick.to_string().as_bytes()));
///     }
/// });
/// let app = Router::new(ticks).route("ticks", stream_feed(
///     |ticks: watch::Receiver<SharedPayload>, ()| Ok(latest(ticks)),
/// ));
/// Server::builder().bind(&["tcp://127.0.0.1:0"]).await?.serve(app).await;
/// # Ok(())
/// # }
/// ```
pub fn latest(values: watch::Receiver<SharedPayload>) -> Latest {
    let mut values = values;
    values.mark_changed();
    Latest { state: State::New(values) }
}

/// The feed that [`latest`] makes.
pub struct Latest {
    state: State,
}

enum State {
    /// There is a value that was not sent.
    New(watch::Receiver<SharedPayload>),
    Waiting(BoxFuture<Option<watch::Receiver<SharedPayload>>>),
    Over,
}

impl Feed for Latest {
    fn poll_fill(&mut self, out: &mut Outlet<'_>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            match &mut self.state {
                State::New(_) if !out.has_room() => return Poll::Pending,
                State::New(values) => {
                    let newest = values.borrow_and_update().clone();
                    out.send_shared(&newest)?;
                    let mut values = values.clone();
                    self.state = State::Waiting(Box::pin(async move {
                        values.changed().await.ok().map(|()| values)
                    }));
                }
                State::Waiting(change) => match change.as_mut().poll(cx) {
                    Poll::Ready(Some(values)) => self.state = State::New(values),
                    Poll::Ready(None) => self.state = State::Over,
                    Poll::Pending => return Poll::Pending,
                },
                State::Over => return Poll::Ready(Ok(())),
            }
        }
    }

    fn is_endless(&self) -> bool {
        true
    }
}

impl fmt::Debug for Latest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latest").finish_non_exhaustive()
    }
}
