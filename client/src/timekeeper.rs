//! The thread that keeps time: Ctrl-C, and the end of a process that is stuck, whatever in.

use std::{
    future::poll_fn,
    pin::pin,
    process,
    sync::mpsc::{SyncSender, sync_channel},
    task::Poll,
    thread,
    time::Duration,
};

use tokio::{
    runtime::Builder,
    sync::{mpsc, watch},
    time,
};

use crate::exit::{Failure, INTERRUPTED, TIMEOUT};

/// After which a process whose time is over, or that was interrupted, ends in any case: as when it
/// sits in a write to a stderr that nobody reads.
const PATIENCE: Duration = Duration::from_secs(2);

/// The handle that the rest of the process has on it.
pub(crate) struct Timekeeper {
    interrupted: watch::Receiver<bool>,
    limit: mpsc::Sender<Duration>,
}

impl Timekeeper {
    /// Begins.
    ///
    /// # Errors
    /// [`Failure::Local`] if the system gives no thread.
    pub(crate) fn start() -> Result<Self, Failure> {
        let cannot = |error| Failure::Local(format!("cannot start: {error}"));
        let runtime = Builder::new_current_thread().enable_all().build().map_err(cannot)?;
        let (sender, interrupted) = watch::channel(false);
        let (limit, limits) = mpsc::channel(1);
        let (hears, heard) = sync_channel(1);
        let keep = move || runtime.block_on(keep_time(hears, sender, limits));
        // Not joined: it ends with the process.
        thread::Builder::new().spawn(keep).map_err(cannot)?;
        // Ctrl-C is heard from here on, and not only once the thread runs.
        let _ = heard.recv();
        Ok(Self { interrupted, limit })
    }

    /// The process ends a moment after this time at the latest.
    pub(crate) fn limit(&self, limit: Duration) {
        // There is one connection, and one limit for it.
        let _ = self.limit.try_send(limit);
    }

    /// Waits for Ctrl-C. A second one, or too long a goodbye, ends the process.
    pub(crate) async fn interrupted(&self) -> Failure {
        // The sender lives as long as the process.
        if self.interrupted.clone().wait_for(|is| *is).await.is_err() {
            std::future::pending::<()>().await;
        }
        Failure::Interrupted
    }
}

async fn keep_time(
    hears: SyncSender<()>,
    interrupted: watch::Sender<bool>,
    mut limits: mpsc::Receiver<Duration>,
) {
    let expired = async {
        match limits.recv().await {
            Some(limit) => time::sleep(limit + PATIENCE).await,
            // The rest of the process is at its end.
            None => std::future::pending().await,
        }
    };
    let asked = async {
        let mut first = pin!(tokio::signal::ctrl_c());
        let begun = poll_fn(|cx| Poll::Ready(first.as_mut().poll(cx))).await;
        // Whoever began it waits for this.
        let _ = hears.send(());
        let heard = match begun {
            Poll::Ready(heard) => heard,
            Poll::Pending => first.await,
        };
        // Where the system has no such signal there is nothing to wait for.
        if heard.is_err() {
            std::future::pending::<()>().await;
        }
        interrupted.send_replace(true);
        let _ = time::timeout(PATIENCE, tokio::signal::ctrl_c()).await;
    };
    let code = tokio::select! {
        () = expired => TIMEOUT,
        () = asked => INTERRUPTED,
    };
    process::exit(code.into());
}
