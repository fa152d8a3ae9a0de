//! The program of the example: unchanged with its old set-up and with ours.

use std::net::SocketAddr;

use rsock::{
    Client, Server,
    rsocket_rust::{RSocketAcceptor, RSocketRequester, RSocketResponder},
};
use rsock_tests::{
    record::limit_time,
    script::Peer,
    wire::{C, N, can, p, rn, rr, rs},
};
use rsocket_rust::{Result, async_trait, prelude::*};
use rsocket_rust_transport_tcp::TcpClientTransport;
use tokio::net::TcpListener;

use crate::program;

/// The lines of the program. (Not tried: one side moved and the other not. That crate's server asks
/// its clients back on stream 0, and its client sends a channel's items without credit.)
const LINES: [&str; 7] = ["hello, Ada", "0", "1", "2", "20", "22", "24"];

/// Our server with the program's acceptor; its addresses of TCP and WebSocket.
async fn ours() -> Vec<String> {
    limit_time();
    let server = Server::builder().bind(&["tcp://127.0.0.1:0", "ws://127.0.0.1:0/rsocket"]).await;
    let server = server.expect("free ports");
    let uris = server.addresses();
    tokio::spawn(server.serve(RSocketAcceptor::new(program::acceptor())).into_future());
    uris
}

/// Their TCP transport, on a port that was free.
struct FreePort(TcpListener);

#[async_trait]
impl ServerTransport for FreePort {
    type Item = TcpClientTransport;

    async fn start(&mut self) -> Result<()> {
        Ok(())
    }

    async fn next(&mut self) -> Option<Result<TcpClientTransport>> {
        let accepted = self.0.accept().await;
        Some(accepted.map(|(socket, _)| socket.into()).map_err(Into::into))
    }
}

async fn theirs() -> SocketAddr {
    limit_time();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound listener has one");
    let server = RSocketFactory::receive().transport(FreePort(listener));
    tokio::spawn(server.acceptor(program::acceptor()).serve());
    address
}

async fn our_client(uri: &str) -> RSocketRequester {
    let responder = RSocketResponder::made_by(program::client_acceptor());
    Client::builder().responder(responder).connect(uri).await.expect("a connection").into()
}

async fn their_client(address: SocketAddr) -> impl RSocket {
    let client = RSocketFactory::connect().transport(TcpClientTransport::from(address));
    client.acceptor(program::client_acceptor()).start().await.expect("a connection")
}

#[tokio::test]
async fn one_program_says_the_same_with_the_old_set_up_and_with_ours() {
    let (old, new) = (theirs().await, ours().await);
    assert_eq!(program::ask(&their_client(old).await).await.unwrap(), LINES);
    for uri in &new {
        assert_eq!(program::ask(&our_client(uri).await).await.unwrap(), LINES);
    }
}

/// RS-02: what the crate's own engine does not do.
#[tokio::test]
async fn an_endless_stream_gives_three_items_for_a_request_n_of_three() {
    for uri in ours().await {
        let mut peer = Peer::established(&uri).await;
        peer.send(rs(1, 3, "")).await;
        peer.expect_all((0..3).map(|n| p(1, N, n.to_string()))).await;
        assert_eq!(peer.ping_collecting().await, []);
        peer.send(rn(1, 2)).await;
        peer.expect_all((3..5).map(|n| p(1, N, n.to_string()))).await;
        assert_eq!(peer.ping_collecting().await, []);
        peer.send(can(1)).await;
        peer.send(rn(1, 100)).await;
        assert_eq!(peer.ping_collecting().await, []);
    }
}

/// The acceptor was given a requester: what it asks goes out on a stream of the server's.
#[tokio::test]
async fn a_responder_asks_back() {
    for uri in ours().await {
        let mut peer = Peer::established(&uri).await;
        peer.send(rr(1, "hello")).await;
        peer.expect(rr(2, "who are you?")).await;
        peer.send(p(2, N | C, "the wire")).await;
        peer.expect(p(1, N | C, "hello, the wire")).await;
        peer.send(rr(3, "")).await;
        assert_eq!(peer.expect_error(3, 0x204).await, "no greeting");
    }
}
