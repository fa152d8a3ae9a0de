//! A TCP relay that cuts connections: after so many bytes, or when told to.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
};

/// Stands between a client and a server.
#[derive(Debug)]
pub struct Cutter {
    uri: String,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
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
    /// Relays to `target`, which is `tcp://…` or `ws://…`. Each of `budgets` is the number of bytes
    /// after which one connection is cut; when they are used up, connections are left alone.
    pub async fn start(target: &str, budgets: impl IntoIterator<Item = usize>) -> Self {
        let (scheme, rest) = target.split_once("://").expect("a URI");
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared::default());
        shared.budgets.lock().unwrap_or_else(PoisonError::into_inner).extend(budgets);
        let accepting = tokio::spawn(accept(listener, authority.to_owned(), Arc::clone(&shared)));
        Self { uri: format!("{scheme}://{address}{path}"), shared, accepting }
    }

    /// Where clients connect to.
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
    }
}

async fn accept(listener: TcpListener, target: String, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        if shared.refuses.load(Relaxed) {
            continue;
        }
        let (target, shared) = (target.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            if let Ok(server) = TcpStream::connect(target).await {
                relay(client, server, &shared).await;
            }
        });
    }
}

/// Relays until the budget is spent, or one side ends. What is cut is dropped on both sides at once.
async fn relay(mut client: TcpStream, mut server: TcpStream, shared: &Shared) {
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
