//! Work that computes for long, on a task of its own.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use tokio::{sync::mpsc, task::AbortHandle};

/// Items a spawned stream may be ahead of its connection.
const AHEAD: usize = 16;

/// Runs a stream handler on its own task: the connection sees an ordinary stream, and the task runs
/// at most 16 items ahead of what was asked for. The task ends with the stream.
pub fn spawned<S, I, F, St>(
    handler: F,
) -> impl Fn(S, I) -> Spawned<St::Item> + Send + Sync + 'static
where
    F: Fn(S, I) -> St + Send + Sync + 'static,
    St: Stream<Item: Send> + Send + 'static,
{
    move |state, input| {
        let (sender, items) = mpsc::channel(AHEAD);
        let mut stream = Box::pin(handler(state, input));
        let task = tokio::spawn(async move {
            while let Some(item) = std::future::poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
                if sender.send(item).await.is_err() {
                    return;
                }
            }
        });
        Spawned { items, task: task.abort_handle() }
    }
}

/// The items of a stream that runs on its own task.
#[derive(Debug)]
pub struct Spawned<T> {
    items: mpsc::Receiver<T>,
    task: AbortHandle,
}

impl<T> Stream for Spawned<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.items.poll_recv(cx)
    }
}

impl<T> Drop for Spawned<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}
