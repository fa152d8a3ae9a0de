//! Stdout, written to by a thread of its own: a reader that takes its time keeps nobody else waiting.

use std::{
    io::{self, Write},
    mem,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use tokio::sync::Notify;

use crate::exit::Failure;

/// Bytes that wait for the reader, give or take an item.
const MAX_WAITING: usize = 64 << 10;

/// Stdout was closed when the process began. Before `main` the standard library opens /dev/null in
/// its place, where all that is written disappears without an error.
static IS_CLOSED: AtomicBool = AtomicBool::new(false);

#[cfg(unix)]
#[ctor::ctor]
fn look_at_stdout() {
    let is_open = |descriptor: &str| std::fs::symlink_metadata(descriptor).is_ok();
    // Where there is no such folder, nothing can be told.
    IS_CLOSED.store(is_open("/dev/fd/.") && !is_open("/dev/fd/1"), Ordering::Relaxed);
}

/// The place data goes to.
pub(crate) struct Stdout(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// There is something to write, or nothing follows.
    work: Condvar,
    /// Something has been written, or cannot be.
    progress: Notify,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// The thread is at a write.
    is_writing: bool,
    /// Nothing follows.
    is_over: bool,
    /// Why nothing more is written.
    failure: Option<(io::ErrorKind, String)>,
}

impl Shared {
    /// Nothing panics under the lock, so a poisoned one still holds whole values.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) {
        let mut batch = Vec::new();
        loop {
            let mut state = self.lock();
            state.is_writing = false;
            self.progress.notify_one();
            while state.waiting.is_empty() {
                if state.is_over {
                    return;
                }
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            batch.clear();
            mem::swap(&mut batch, &mut state.waiting);
            state.is_writing = true;
            drop(state);
            let mut stdout = io::stdout().lock();
            if let Err(error) = stdout.write_all(&batch).and_then(|()| stdout.flush()) {
                self.lock().failure = Some((error.kind(), error.to_string()));
                return self.progress.notify_one();
            }
        }
    }
}

impl Stdout {
    /// Opens it.
    ///
    /// # Errors
    /// [`Failure::Output`] if there is none.
    pub(crate) fn open() -> Result<Self, Failure> {
        if IS_CLOSED.load(Ordering::Relaxed) {
            let problem = "it is closed, and the data would be lost; --out none does without it";
            return Err(Failure::Output(io::Error::other(problem)));
        }
        let shared = Arc::<Shared>::default();
        let writer = Arc::clone(&shared);
        // Not joined: it may sit in a write that never returns.
        thread::spawn(move || writer.write());
        Ok(Self(shared))
    }

    /// Writes this as soon as what came before is written. Returns when not much is left to write.
    pub(crate) async fn write(&self, data: &[u8]) -> Result<(), Failure> {
        self.until(|state| state.waiting.len() < MAX_WAITING)
            .await?
            .waiting
            .extend_from_slice(data);
        self.0.work.notify_one();
        Ok(())
    }

    /// Waits until all is written.
    pub(crate) async fn flush(&self) -> Result<(), Failure> {
        self.until(|state| state.waiting.is_empty() && !state.is_writing).await.map(drop)
    }

    /// Waits until it cannot be written to any more.
    pub(crate) async fn failed(&self) -> Failure {
        match self.until(|_| false).await {
            Err(failure) => failure,
            // Nothing is never enough.
            Ok(_) => std::future::pending().await,
        }
    }

    async fn until(
        &self,
        is_enough: impl Fn(&State) -> bool,
    ) -> Result<MutexGuard<'_, State>, Failure> {
        loop {
            {
                let state = self.0.lock();
                if let Some((kind, error)) = &state.failure {
                    return Err(Failure::Output(io::Error::new(*kind, error.clone())));
                }
                if is_enough(&state) {
                    return Ok(state);
                }
            }
            self.0.progress.notified().await;
        }
    }
}

impl Drop for Stdout {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.work.notify_one();
    }
}
