//! A conformance kit in plain text: each `case` of the `.txt` files says what one side serves, what
//! the other does and what must be seen. It asks what the older test kit of RSocket asks, and a
//! little more. Each case runs over TCP and over WebSocket, and with either side asking; cases that
//! cut the line run with the client asking.
//!
//! That nothing more comes is shown without waiting: what was sent later has been answered. What the
//! frames look like is held by the tests in `wire/`.

mod case;
mod player;
mod service;

use std::{collections::HashMap, sync::Arc, time::Duration};

use rsock::{Client, Error, Payload, Peer, Requester, Resume, ResumeLimits, Server, SessionEvent};
use rsock_tests::{
    cutter::Cutter,
    record::{Recorder, limit_time},
};
use tokio::sync::mpsc;

use crate::{
    case::{Case, Step, read, word},
    player::Call,
    service::Service,
};

/// The two ends, asking and answering, and the line between them.
struct Stage {
    requester: Requester,
    /// The client, which stays connected as long as it is held.
    _client: Client,
    cutter: Cutter,
    service: Service,
    /// The history of the session.
    events: Arc<Recorder>,
    cuts: usize,
}

impl Stage {
    async fn set(case: &Case, listen: &str, server_asks: bool) -> Self {
        let service = Service::new(case);
        let (sender, mut requesters) = mpsc::channel(1);
        let answering = service.clone();
        let acceptor = move |peer: Peer| {
            let (sender, answering) = (sender.clone(), answering.clone());
            async move {
                sender.send(peer.requester().clone()).await.map_err(Error::application)?;
                Ok(answering)
            }
        };
        let mut server = Server::builder();
        let mut client = Client::builder().responder(service.clone());
        let events = Arc::new(Recorder::default());
        if case.cuts() {
            server = server.resume(ResumeLimits::default(), 1);
            let noting = Arc::clone(&events);
            let resume = Resume::new()
                .pauses(Duration::from_millis(1), Duration::from_millis(20))
                .observe(move |event: &SessionEvent| {
                    noting.note(match event {
                        SessionEvent::Suspended => "suspended",
                        SessionEvent::Resumed => "resumed",
                        _ => "other",
                    });
                });
            client = client.resume(resume);
        }
        let server = server.bind(&[listen]).await.expect("a free port");
        let cutter = Cutter::start(&server.addresses()[0], []).await;
        tokio::spawn(server.serve(acceptor).into_future());
        let client = client.connect(cutter.uri()).await.expect("a connection");
        let back = requesters.recv().await.expect("the client is taken");
        let requester = if server_asks { back } else { Requester::clone(&client) };
        Self { requester, _client: client, cutter, service, events, cuts: 0 }
    }

    /// All that was sent before has been seen by both sides.
    async fn fence(&self) {
        for _ in 0..2 {
            self.requester.ping().await.expect("an answer to KEEPALIVE");
        }
    }

    async fn cut(&mut self) {
        self.fence().await;
        self.cutter.refuse(true);
        self.cutter.cut();
        self.cuts += 1;
        self.events.wait_count("suspended", self.cuts).await;
    }

    async fn mend(&self) {
        self.cutter.refuse(false);
        self.events.wait_count("resumed", self.cuts).await;
    }
}

async fn play(case: &Case, listen: &str, server_asks: bool, file: &str) {
    let mut stage = Stage::set(case, listen, server_asks).await;
    let mut calls: HashMap<&str, Call> = HashMap::new();
    for (number, step) in &case.steps {
        let way = if server_asks { "server asks" } else { "client asks" };
        let place = format!("{file}:{number} ({}), {listen}, {way}", case.name);
        let call = |calls: &mut HashMap<&str, Call>, name: &str| {
            calls.remove(name).unwrap_or_else(|| panic!("{place}: nothing is called {name}"))
        };
        match step {
            Step::Serve { .. } => {}
            Step::Open { kind, name, script } => {
                let mut opened = Call::new(&stage.requester, kind, script);
                opened.take_now().await;
                calls.insert(name, opened);
            }
            Step::Request(name, n) => {
                let mut asked = call(&mut calls, name);
                asked.request(*n);
                asked.take_now().await;
                calls.insert(name, asked);
            }
            Step::Drop(name) => drop(call(&mut calls, name)),
            Step::Tell(told) => {
                let sent = stage.requester.fire_and_forget(told.clone()).await;
                assert_eq!(sent, Ok(()), "{place}");
            }
            Step::Push(metadata) => {
                let sent = stage.requester.metadata_push(metadata.clone()).await;
                assert_eq!(sent, Ok(()), "{place}");
            }
            Step::Has(name, count) => {
                let mut waiting = call(&mut calls, name);
                waiting.wait_for(*count).await;
                assert_eq!(waiting.words().len(), *count, "{place}: {:?}", waiting.words());
                calls.insert(name, waiting);
            }
            Step::Got(name, expected) => {
                let got = call(&mut calls, name);
                let expected: Vec<_> = expected.iter().map(word).collect();
                assert_eq!(got.words(), expected, "{place}");
                calls.insert(name, got);
            }
            Step::NoMore(name) => {
                let mut quiet = call(&mut calls, name);
                let before = quiet.words();
                stage.fence().await;
                quiet.take_now().await;
                assert_eq!((quiet.words(), quiet.state()), (before, "open".into()), "{place}");
                calls.insert(name, quiet);
            }
            Step::Ends(name) => {
                let mut ended = call(&mut calls, name);
                ended.wait_for(usize::MAX).await;
                assert_eq!(ended.state(), "ended", "{place}: {:?}", ended.words());
                calls.insert(name, ended);
            }
            Step::Fails(name, error) => {
                let mut failed = call(&mut calls, name);
                failed.wait_for(usize::MAX).await;
                assert_eq!(failed.state(), *error, "{place}: {:?}", failed.words());
                calls.insert(name, failed);
            }
            Step::Saw(line) => stage.service.saw.wait(line).await,
            Step::Cut => stage.cut().await,
            Step::Mend => stage.mend().await,
        }
    }
}

async fn play_all(file: &str, text: &str) {
    limit_time();
    for case in read(file, text) {
        for listen in ["tcp://127.0.0.1:0", "ws://127.0.0.1:0/rsocket"] {
            let ways: &[bool] = if case.cuts() { &[false] } else { &[false, true] };
            for server_asks in ways {
                play(&case, listen, *server_asks, file).await;
            }
        }
    }
}

/// RR-01, RR-02, FNF-03, ERR-10, MDP-01
#[tokio::test]
async fn requests() {
    play_all("requests.txt", include_str!("requests.txt")).await;
}

/// RS-02, RS-04, RS-05, RS-07, RS-13
#[tokio::test]
async fn streams() {
    play_all("streams.txt", include_str!("streams.txt")).await;
}

/// RC-02, RC-09, RC-13
#[tokio::test]
async fn channels() {
    play_all("channels.txt", include_str!("channels.txt")).await;
}

/// RESUME-14
#[tokio::test]
async fn sessions() {
    play_all("sessions.txt", include_str!("sessions.txt")).await;
}

#[test]
fn payloads_are_read_as_they_are_written() {
    for text in ["a", "a/b", "/", "/b", "a/"] {
        assert_eq!(word(&case::payload(text)), text);
    }
    assert_eq!(case::payload("/"), Payload::default().with_metadata(""));
}

#[test]
#[should_panic(expected = "x.txt:2: nothing a case can say: \"A has\"")]
fn a_line_that_says_nothing_is_named() {
    read("x.txt", "case a\nA has\n");
}
