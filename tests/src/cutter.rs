//! A relay over TCP or Unix sockets that cuts connections: after so many bytes, or when told to.

use std::{
    collections::VecDeque,
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::Notify,
    task::JoinHandle,
};

use crate::link::free_path;

/// Stands between a client and a server.
#[derive(Debug)]
pub struct Cutter {
    uri: String,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
    /// Of a Unix socket.
    file: Option<PathBuf>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Bytes, of both directions together, after which the connections are cut, one after the other.
    budgets: Mutex<VecDeque<usize>>,
    cuts: AtomicUsize,
    cut_now: Notify,
    /// New connections are closed at once.
    refuses: AtomicBool,
}

impl Cutter {
    /// Relays to `target`, which is `tcp://…`, `ws://…` or `unix:…`. Each of `budgets` is the number of bytes
    /// after which one connection is cut; when they are used up, connections are left alone.
    pub async fn start(target: &str, budgets: impl IntoIterator<Item = usize>) -> Self {
        let shared = Arc::new(Shared::default());
        shared.budgets.lock().unwrap_or_else(PoisonError::into_inner).extend(budgets);
        if let Some(path) = target.strip_prefix("unix:") {
            let own = free_path();
            let listener = UnixListener::bind(&own).expect("a free name");
            let uri = format!("unix:{}", own.display());
            let (path, sees) = (path.to_owned(), Arc::clone(&shared));
            let accepting = tokio::spawn(async move {
                while let Ok((client, _)) = listener.accept().await {
                    pass(client, UnixStream::connect(path.clone()), &sees);
                }
            });
            return Self { uri, shared, accepting, file: Some(own) };
        }
        let (scheme, rest) = target.split_once("://").expect("a URI");
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (authority, sees) = (authority.to_owned(), Arc::clone(&shared));
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                pass(client, TcpStream::connect(authority.clone()), &sees);
            }
        });
        Self { uri: format!("{scheme}://{address}{path}"), shared, accepting, file: None }
    }

    /// The address that clients connect to.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Connections that were cut.
    pub fn cuts(&self) -> usize {
        self.shared.cuts.load(Relaxed)
    }

    /// Cuts what is connected now.
    pub fn cut(&self) {
        self.shared.cut_now.notify_waiters();
    }

    /// Whether new connections are closed at once, as if the server were gone.
    pub fn refuse(&self, refuses: bool) {
        self.shared.refuses.store(refuses, Relaxed);
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
        if let Some(file) = &self.file {
            // What is left of it is in the folder of things that go.
            let _ = std::fs::remove_file(file);
        }
    }
}

/// Relays what a client says to what is connected to for it, unless clients are refused.
fn pass<S>(
    client: S,
    connecting: impl Future<Output = io::Result<S>> + Send + 'static,
    shared: &Arc<Shared>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if shared.refuses.load(Relaxed) {
        return;
    }
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        if let Ok(server) = connecting.await {
            relay(client, server, &shared).await;
        }
    });
}

/// Relays until the budget is spent, or one side ends. What is cut is dropped on both sides at once.
async fn relay<S: AsyncRead + AsyncWrite + Unpin>(mut client: S, mut server: S, shared: &Shared) {
    let next = shared.budgets.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let mut budget = next.unwrap_or(usize::MAX);
    let cut_now = shared.cut_now.notified();
    let mut cut_now = std::pin::pin!(cut_now);
    let (mut up, mut down) = (vec![0; 4_096], vec![0; 4_096]);
    loop {
        let (from_client, count) = tokio::select! {
            read = client.read(&mut up) => (true, read.unwrap_or(0)),
            read = server.read(&mut down) => (false, read.unwrap_or(0)),
            () = &mut cut_now => {
                shared.cuts.fetch_add(1, Relaxed);
                return;
            }
        };
        let passed = count.min(budget);
        budget -= passed;
        let written = if from_client {
            server.write_all(&up[..passed]).await
        } else {
            client.write_all(&down[..passed]).await
        };
        if budget == 0 {
            shared.cuts.fetch_add(1, Relaxed);
            return;
        }
        if count == 0 || written.is_err() {
            return;
        }
    }
}
