//! One runtime of one thread for each core.

use std::{io, num::NonZeroUsize, thread};

use rsock::Runtimes;
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

/// Threads with a runtime each. They end when this is dropped, and what runs on them is dropped.
#[derive(Debug)]
pub(crate) struct Cores {
    cores: Vec<Core>,
    runtimes: Runtimes,
}

#[derive(Debug)]
struct Core {
    /// The thread waits for this to be dropped.
    stop: oneshot::Sender<()>,
    /// Resolves when it has ended.
    ended: oneshot::Receiver<()>,
}

impl Cores {
    /// Starts so many threads.
    ///
    /// # Errors
    /// If the system gives no thread, or none of what a runtime needs.
    pub(crate) fn start(count: NonZeroUsize) -> io::Result<Self> {
        let (mut cores, mut handles) = (Vec::new(), Vec::new());
        for index in 0..count.get() {
            let (core, handle) = start_core(index)?;
            cores.push(core);
            handles.push(handle);
        }
        Ok(Self { cores, runtimes: Runtimes::new(handles) })
    }

    pub(crate) fn runtimes(&self) -> &Runtimes {
        &self.runtimes
    }

    /// Ends the threads, and returns when they have ended.
    pub(crate) async fn end(self) {
        let (stops, ended): (Vec<_>, Vec<_>) =
            self.cores.into_iter().map(|core| (core.stop, core.ended)).unzip();
        drop(stops);
        for ended in ended {
            // Nothing is sent: the sender is dropped at the end.
            let _ = ended.await;
        }
    }
}

fn start_core(index: usize) -> io::Result<(Core, Handle)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let (stop, stopped) = oneshot::channel::<()>();
    let (ending, ended) = oneshot::channel();
    thread::Builder::new().name(format!("rsockd-core-{index}")).spawn(move || {
        // Nothing is sent: the sender is dropped.
        let _ = runtime.block_on(stopped);
        drop(runtime);
        drop::<oneshot::Sender<()>>(ending);
    })?;
    Ok((Core { stop, ended }, handle))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn each_has_a_thread_and_ends_with_what_runs_on_it() {
        let cores = Cores::start(NonZeroUsize::new(3).unwrap()).unwrap();
        let held = Arc::new(());
        let mut names = Vec::new();
        for handle in cores.runtimes().handles() {
            let (tell, told) = oneshot::channel();
            let held = Arc::clone(&held);
            handle.spawn(async move {
                let _ = tell.send(thread::current().name().map(str::to_owned));
                let _held = held;
                std::future::pending::<()>().await;
            });
            names.push(told.await.unwrap().unwrap());
        }
        assert_eq!(names, ["rsockd-core-0", "rsockd-core-1", "rsockd-core-2"]);
        cores.end().await;
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
