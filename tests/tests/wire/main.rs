//! The requirements of `docs/spec.md`, by area, as a peer sees it that is not ours: our server
//! and our client, each over TCP and WebSocket.

mod channel;
mod credit;
mod ending;
mod errors;
mod fragmentation;
mod framing;
mod ids;
mod keepalive;
mod lease;
mod metadata;
mod request;
mod resume;
mod sent;
mod setup;
mod stream;
mod unexpected;

use rsock::Client;
use rsock_tests::{
    fixture::Fixture,
    link::Served,
    script::{Peer, PeerListener},
    wire::{Frame, N, p},
};

/// A peer on each transport of our server.
async fn each(served: &Served) -> Vec<Peer> {
    let mut peers = Vec::new();
    for uri in &served.uris {
        peers.push(Peer::established(uri).await);
    }
    peers
}

/// Our client, which answers with the fixture, and the server played by hand.
async fn connected(scheme: &str) -> (Client, Peer) {
    let listener = PeerListener::bind_for(scheme).await;
    let uri = listener.uri();
    let connecting = Client::builder().acceptor(Fixture::default());
    let (client, peer) = tokio::join!(connecting.connect(&uri), listener.accept_setup());
    (client.expect("a connection"), peer)
}

fn spawn<T: Send + 'static>(
    work: impl IntoFuture<Output = T, IntoFuture: Send> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    let work = work.into_future();
    tokio::spawn(work)
}

/// Numbered items of a stream.
fn items(stream: u32, range: std::ops::Range<usize>) -> impl Iterator<Item = Frame> {
    range.map(move |n| p(stream, N, n.to_string()))
}
