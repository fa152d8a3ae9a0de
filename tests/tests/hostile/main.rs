//! Malformed and hostile input over real sockets; H001 and its like number the inputs.
//!
//! Frames are sent to our server and to our client, each over TCP and WebSocket. After every row
//! another connection still works, the log names what ended the connection, and nothing has
//! panicked. `docs/hostile.md` has a line for each input with the tests that hold it.

mod bytes;
mod client;
mod floods;
mod fragments;
mod http;
mod rsockd;
mod setup;
mod strangers;
mod streams;
mod websocket;

use std::sync::Arc;

use rsock::{Client, ClientBuilder, ConnectionState, Server, ServerBuilder};
use rsock_tests::{
    fixture::Fixture,
    link::Served,
    log,
    record::{self, Recorder},
    script::{Peer, PeerListener, SCHEMES},
    wire::{Frame, ka},
};

/// The reaction that an input must have.
#[derive(Clone, Debug)]
enum Then {
    /// `∅, ✓`
    Alive,
    /// These come, and nothing else; then `✓`.
    Answers(Vec<Frame>),
    /// As `Answers`, sorted by stream: those of different streams may come in any order.
    Unordered(Vec<Frame>),
    /// ERROR of this code on the first stream, and nothing else; then `✓`.
    Refused(u32),
    /// `< ERR(0,code), X` with one of these codes.
    Error(&'static [u32]),
    /// `X`, with or without a word before it.
    End,
}

/// CONNECTION_ERROR.
const CE: Then = Then::Error(&[0x101]);
/// INVALID_SETUP.
const INVALID_SETUP: Then = Then::Error(&[1]);

/// A server, what our clients answer with, connections that must not suffer, and the log.
struct Stage {
    served: Served,
    /// Of the clients.
    fixture: Fixture,
    client: Client,
    witnesses: Vec<Peer>,
    log: Arc<Recorder>,
}

impl Stage {
    async fn start() -> Self {
        Self::with(Server::builder()).await
    }

    async fn with(builder: ServerBuilder) -> Self {
        record::record_panics();
        let log = log::capture();
        let served = Served::with(builder).await;
        let fixture = Fixture::default();
        let mut witnesses = Vec::new();
        for uri in &served.uris {
            witnesses.push(Peer::established(uri).await);
        }
        let (client, peer) = connected("tcp", &fixture).await;
        witnesses.push(peer);
        Self { served, fixture, client, witnesses, log }
    }

    /// Sends frames made by hand, in one go, to an established connection: to the server, and to the
    /// client on the ids that are the server's.
    async fn frames(&mut self, row: &str, frames: &[Vec<u8>], then: Then) {
        self.frames_to_server(row, frames, then.clone()).await;
        let then = match then {
            Then::Answers(answers) => {
                let mirrored = |frame: Frame| Frame { stream: mirrored_id(frame.stream), ..frame };
                Then::Answers(answers.into_iter().map(mirrored).collect())
            }
            Then::Unordered(answers) => {
                let mirrored = |frame: Frame| Frame { stream: mirrored_id(frame.stream), ..frame };
                Then::Unordered(answers.into_iter().map(mirrored).collect())
            }
            then => then,
        };
        for scheme in SCHEMES {
            let (client, mut peer) = connected(scheme, &self.fixture).await;
            let wire: Vec<u8> =
                frames.iter().flat_map(|frame| peer.framed(&mirrored(frame))).collect();
            peer.raw(wire).await;
            self.judge(&format!("{row} [c]"), peer, &then).await;
            drop(client);
        }
    }

    /// The same to the server alone.
    async fn frames_to_server(&mut self, row: &str, frames: &[Vec<u8>], then: Then) {
        for uri in self.served.uris.clone() {
            let mut peer = Peer::established(&uri).await;
            let wire: Vec<u8> = frames.iter().flat_map(|frame| peer.framed(frame)).collect();
            peer.raw(wire).await;
            self.judge(row, peer, &then).await;
        }
    }

    /// The same without SETUP before.
    async fn first_frames(&mut self, row: &str, frames: &[Vec<u8>], then: Then) {
        for uri in self.served.uris.clone() {
            let mut peer = Peer::connect(&uri).await;
            let wire: Vec<u8> = frames.iter().flat_map(|frame| peer.framed(frame)).collect();
            peer.raw(wire).await;
            self.judge(row, peer, &then).await;
        }
    }

    /// Sees that what follows is what should, and that nobody else has noticed.
    async fn judge(&mut self, row: &str, mut peer: Peer, then: &Then) {
        let address = peer.address();
        let mut heard = None;
        match then {
            Then::Alive => peer.fence().await,
            Then::Answers(expected) => {
                let got = peer.fence_collecting().await;
                assert!(got == *expected, "{row}: {got:?}\n{}", peer.trace());
            }
            Then::Unordered(expected) => {
                let mut got = peer.fence_collecting().await;
                got.sort_by_key(|frame| frame.stream);
                assert!(got == *expected, "{row}: {got:?}\n{}", peer.trace());
            }
            Then::Refused(code) => {
                let got = peer.fence_collecting().await;
                let codes: Vec<_> = got.iter().map(Frame::code).collect();
                assert!(codes == [Some(*code)], "{row}: {got:?}\n{}", peer.trace());
            }
            Then::Error(codes) => {
                let got = peer.next().await;
                let is_expected =
                    got.stream == 0 && got.code().is_some_and(|code| codes.contains(&code));
                assert!(is_expected, "{row}: {got}\n{}", peer.trace());
                peer.expect_end().await;
                heard = Some(got.text());
            }
            Then::End => {
                while let Some(frame) = peer.next_or_end().await {
                    let is_error = frame.stream == 0 && frame.code().is_some();
                    assert!(is_error, "{row}: {frame}\n{}", peer.trace());
                }
            }
        }
        if let Some(words) = heard {
            // What the peer was told is what the log says of it.
            self.log.wait_line(&[&address, "connection ended", &words]).await;
        }
        self.nobody_noticed(row).await;
    }

    async fn nobody_noticed(&mut self, row: &str) {
        for witness in &mut self.witnesses {
            witness.fence().await;
        }
        assert_eq!(self.client.state(), ConnectionState::Established, "{row}");
        let panics = record::panics();
        assert!(panics.is_empty(), "{row}: {panics:#?}");
    }
}

/// How many there are of something: what the protocol's notes say with `RSOCK_TESTS_FULL` set, fewer
/// for every day.
fn many(few: usize, full: usize) -> usize {
    if std::env::var_os("RSOCK_TESTS_FULL").is_some() { full } else { few }
}

/// A client of ours that knows it is accepted, and the server played by hand.
async fn connected(scheme: &str, fixture: &Fixture) -> (Client, Peer) {
    connected_by(Client::builder(), scheme, fixture).await
}

/// The same with settings.
async fn connected_by(builder: ClientBuilder, scheme: &str, fixture: &Fixture) -> (Client, Peer) {
    let listener = PeerListener::bind_for(scheme).await;
    let uri = listener.uri();
    let connecting = builder.acceptor(fixture.clone());
    let (client, peer) = tokio::join!(connecting.connect(&uri), listener.accept_setup());
    let mut peer = peer;
    peer.send(ka(0, 0, "")).await;
    (client.expect("a connection"), peer)
}

/// A frame for the client: the ids it may be asked on are the even ones.
fn mirrored(frame: &[u8]) -> Vec<u8> {
    let mut mirrored = frame.to_vec();
    if let Some(id) = mirrored.first_chunk_mut::<4>() {
        *id = mirrored_id(u32::from_be_bytes(*id)).to_be_bytes();
    }
    mirrored
}

/// 1 is 2 and 2 is 1; what is no id of a stream stays.
fn mirrored_id(id: u32) -> u32 {
    match id {
        0 | 0x7fff_ffff.. => id,
        id if id % 2 == 1 => id + 1,
        id => id - 1,
    }
}
