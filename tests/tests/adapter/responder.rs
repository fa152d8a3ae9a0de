//! A responder written for `rsocket_rust`, as our server serves it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use rsock::{Server, rsocket_rust::RSocketAcceptor};
use rsock_tests::{
    record::{Guard, Recorder, limit_time},
    script::Peer,
    wire::{C, Frame, N, can, err, fnf, mp, p, rc, rn, rr, rs, setup},
};
use rsocket_rust::{Result, async_trait, error::RSocketError, prelude::*};

use crate::{payload, text};

/// Does what the data of a request says, `command:number`; anything else it gives back.
#[derive(Clone, Default)]
struct Old {
    recorder: Arc<Recorder>,
    /// Items its streams were polled for.
    made: Arc<AtomicUsize>,
}

impl Old {
    fn counter(&self, name: &str) -> Flux<Result<Payload>> {
        let (made, guard) = (Arc::clone(&self.made), Guard::new(&self.recorder, name));
        let mut numbers = (0_u64..).map(move |n| {
            let _held = &guard;
            made.fetch_add(1, Relaxed);
            Ok(payload(&n.to_string()))
        });
        // As `stream!` has it: nothing is known of the length.
        Box::pin(stream::poll_fn(move |_| numbers.next().into()))
    }
}

fn error(name: &str) -> Result<Option<Payload>> {
    let said = || "said".to_owned();
    Err(match name {
        "application" => RSocketError::ApplicationException(said()),
        "rejected" => RSocketError::RequestRejected(said()),
        "canceled" => RSocketError::RequestCancelled(said()),
        "invalid" => RSocketError::RequestInvalid(said()),
        "own" => RSocketError::Reserved(0x301, said()),
        "setup" => RSocketError::RejectedSetup(said()),
        "described" => RSocketError::WithDescription(said()),
        "io" => return Err(io::Error::other("said").into()),
        _ => return Err(std::fmt::Error.into()),
    }
    .into())
}

#[async_trait]
impl RSocket for Old {
    async fn metadata_push(&self, req: Payload) -> Result<()> {
        assert_eq!(req.data(), None);
        self.recorder.note(format!("push {}", req.metadata_utf8().unwrap_or_default()));
        Err(std::fmt::Error.into())
    }

    async fn fire_and_forget(&self, req: Payload) -> Result<()> {
        self.recorder.note(format!("fnf {}", text(&req)));
        assert_ne!(text(&req), "panic", "a fire-and-forget handler panics");
        Err(std::fmt::Error.into())
    }

    async fn request_response(&self, req: Payload) -> Result<Option<Payload>> {
        // Empty data is none, as off their own wire.
        let Some(data) = req.data_utf8() else {
            return Ok(Some(req));
        };
        match data.split_once(':').unwrap_or((data, "")) {
            ("nothing", _) => Ok(None),
            ("neither", _) => Ok(Some(Payload::new(None, None))),
            ("error", name) => error(name),
            ("panic", _) => panic!("a handler panics"),
            ("never", _) => {
                let _guard = Guard::new(&self.recorder, "never");
                self.recorder.note("never runs");
                std::future::pending().await
            }
            _ => Ok(Some(req)),
        }
    }

    fn request_stream(&self, req: Payload) -> Flux<Result<Payload>> {
        match text(&req) {
            "panic" => panic!("a stream handler panics when it is made"),
            "panic later" => {
                let panics = stream::poll_fn(|_| panic!("a stream handler panics"));
                Box::pin(stream::once(async { Ok(payload("0")) }).chain(panics))
            }
            "error" => {
                let failure = stream::once(async { error("invalid").map(|_| payload("")) });
                // What comes behind an error is not sent.
                Box::pin(self.counter("error").take(2).chain(failure).chain(self.counter("more")))
            }
            "two" => Box::pin(self.counter("two").take(2)),
            "empty" => Box::pin(stream::empty()),
            _ => self.counter("numbers"),
        }
    }

    fn request_channel(&self, mut reqs: Flux<Result<Payload>>) -> Flux<Result<Payload>> {
        let recorder = Arc::clone(&self.recorder);
        let guard = Guard::new(&self.recorder, "channel");
        Box::pin(rsocket_rust::stream! {
            let _held = guard;
            while let Some(req) = reqs.next().await {
                match req {
                    Ok(req) if text(&req) == "error" => yield error("invalid").map(|_| req),
                    Ok(req) if text(&req) == "panic" => panic!("a channel handler panics"),
                    Ok(req) => yield Ok(payload(&format!("{}!", text(&req)))),
                    Err(failure) => recorder.note(format!("in failed: {failure}")),
                }
            }
            recorder.note("in complete");
        })
    }
}

async fn serve() -> (Vec<String>, Old) {
    limit_time();
    let server = Server::builder().bind(&["tcp://127.0.0.1:0", "ws://127.0.0.1:0/rsocket"]).await;
    let server = server.expect("free ports");
    let uris = server.addresses();
    let old = Old::default();
    let responder = old.clone();
    let acceptor: ServerResponder = Box::new(move |setup, _| {
        let data = setup.data().map(|data| String::from_utf8_lossy(data).into_owned());
        responder.recorder.note(format!(
            "setup {:?} {:?} {:?} {:?} {:?} {:?}",
            setup.metadata_mime_type(),
            setup.data_mime_type(),
            setup.keepalive_interval(),
            setup.keepalive_lifetime(),
            setup.metadata(),
            data,
        ));
        match data.as_deref() {
            Some("refuse") => Err(std::fmt::Error.into()),
            Some("invalid") => Err(RSocketError::InvalidSetup("said".into()).into()),
            Some("panic") => panic!("an acceptor panics"),
            _ => Ok(Box::new(responder.clone())),
        }
    });
    tokio::spawn(server.serve(RSocketAcceptor::new(acceptor)).into_future());
    (uris, old)
}

fn items(stream: u32, range: std::ops::Range<usize>) -> impl Iterator<Item = Frame> {
    range.map(move |n| p(stream, N, n.to_string()))
}

/// RR-01, RR-02, FNF-01, MDP-02
#[tokio::test]
async fn one_answer_or_none() {
    let (uris, old) = serve().await;
    for uri in uris {
        let mut peer = Peer::established(&uri).await;
        peer.send(rr(1, "hello").metadata("m")).await;
        peer.expect(p(1, N | C, "hello").metadata("m")).await;
        peer.send(rr(3, "").metadata("")).await;
        peer.expect(p(3, N | C, "").metadata("")).await;
        peer.send(rr(5, "nothing")).await;
        peer.expect(p(5, C, "")).await;
        peer.send(rr(7, "neither")).await;
        peer.expect(p(7, N | C, "")).await;
        peer.send(fnf(9, "forget me")).await;
        peer.send(mp("pushed")).await;
        peer.fence().await;
    }
    old.recorder.wait_count("fnf forget me", 2).await;
    old.recorder.wait_count("push pushed", 2).await;
}

/// ERR-01, ERR-06, ERR-11
#[tokio::test]
async fn errors_keep_their_code_and_text() {
    let (uris, _) = serve().await;
    let expected = [
        ("application", 0x201, "said"),
        ("rejected", 0x202, "said"),
        ("canceled", 0x203, "said"),
        ("invalid", 0x204, "said"),
        ("own", 0x301, "said"),
        // A code that belongs on stream 0.
        ("setup", 0x201, "said"),
        ("described", 0x201, "said"),
        ("io", 0x201, "said"),
        ("other", 0x201, &std::fmt::Error.to_string()),
    ];
    for uri in uris {
        let mut peer = Peer::established(&uri).await;
        for ((name, code, text), id) in expected.into_iter().zip((1..).step_by(2)) {
            peer.send(rr(id, format!("error:{name}"))).await;
            peer.expect(err(id, code, text)).await;
        }
        peer.send(rs(101, 9, "error")).await;
        peer.expect_all(items(101, 0..2)).await;
        peer.expect(err(101, 0x204, "said")).await;
        peer.send(rc(103, 9, "error")).await;
        assert_eq!(peer.ping_collecting().await.last(), Some(&err(103, 0x204, "said")));
        peer.fence().await;
    }
}

/// A panic costs its stream and nothing else.
#[tokio::test]
async fn panics_cost_one_stream() {
    let (uris, _) = serve().await;
    for uri in uris {
        let mut peer = Peer::established(&uri).await;
        peer.send(fnf(1, "panic")).await;
        for request in [rr(3, "panic"), rs(5, 9, "panic"), rc(7, 9, "panic")] {
            let id = request.stream;
            peer.send(request).await;
            let last = peer.ping_collecting().await.pop();
            assert_eq!(last, Some(err(id, 0x201, "the handler panicked")));
        }
        peer.send(rs(9, 9, "panic later")).await;
        peer.expect_all(items(9, 0..1)).await;
        assert_eq!(peer.expect_error(9, 0x201).await, "the handler panicked");
        peer.fence().await;
        let mut refused = Peer::connect(&uri).await;
        refused.send(setup().data("panic")).await;
        refused.expect_refusal(0x003).await;
    }
}

/// RS-02, RS-07, RS-13: credit is what polls a stream, one item beyond it at most.
#[tokio::test]
async fn streams_are_polled_under_credit_and_dropped_on_cancel() {
    let (uris, old) = serve().await;
    for (round, uri) in uris.iter().enumerate() {
        let before = old.made.load(Relaxed);
        let mut peer = Peer::established(uri).await;
        peer.send(rs(1, 3, "numbers")).await;
        peer.expect_all(items(1, 0..3)).await;
        peer.fence().await;
        assert_eq!(old.made.load(Relaxed) - before, 4, "one is polled for to see the end");
        peer.send(rn(1, 5)).await;
        peer.expect_all(items(1, 3..8)).await;
        peer.fence().await;
        assert_eq!(old.made.load(Relaxed) - before, 9);
        peer.send(can(1)).await;
        old.recorder.wait_count("dropped numbers", round + 1).await;
        peer.send(rs(3, 2, "two")).await;
        peer.expect_all(items(3, 0..1)).await;
        peer.expect_last(3, "1").await;
        peer.send(rs(5, 1, "empty")).await;
        peer.expect(p(5, C, "")).await;
        peer.send(rr(7, "never")).await;
        old.recorder.wait_count("never runs", round + 1).await;
        peer.send(can(7)).await;
        old.recorder.wait_count("dropped never", round + 1).await;
        peer.fence().await;
    }
}

/// A stream ends with its connection: nothing runs on for a peer that has gone.
#[tokio::test]
async fn streams_are_dropped_when_the_peer_vanishes() {
    let (uris, old) = serve().await;
    for (round, uri) in uris.iter().enumerate() {
        let mut peer = Peer::established(uri).await;
        peer.send(rs(1, 2, "numbers")).await;
        peer.expect_all(items(1, 0..2)).await;
        peer.reset();
        old.recorder.wait_count("dropped numbers", round + 1).await;
    }
}

/// RC-02, RC-09, RC-13: both directions of a channel under the credit of the other side.
#[tokio::test]
async fn channels_obey_credit_in_both_directions() {
    let (uris, old) = serve().await;
    for (round, uri) in uris.iter().enumerate() {
        let mut peer = Peer::established(uri).await;
        peer.send(rc(1, 2, "a")).await;
        // Its first poll of the rest is what grants the window.
        let mut first = [peer.next().await, peer.next().await];
        first.sort_by_key(|frame| frame.kind != rn(1, 1).kind);
        assert_eq!(first, [rn(1, 256), p(1, N, "a!")]);
        peer.send_all([p(1, N, "b"), p(1, N, "c"), p(1, N, "d")]).await;
        peer.expect(p(1, N, "b!")).await;
        peer.fence().await;
        peer.send(rn(1, 1)).await;
        peer.expect(p(1, N, "c!")).await;
        peer.send(p(1, C, "")).await;
        peer.fence().await;
        peer.send(rn(1, 9)).await;
        peer.expect_last(1, "d!").await;
        old.recorder.wait_count("in complete", round + 1).await;

        peer.send(rc(3, 9, "a")).await;
        peer.ping_collecting().await;
        peer.send(err(3, 0x202, "no more")).await;
        old.recorder.wait_count("dropped channel", 2 * round + 2).await;
        peer.fence().await;
    }
}

/// SETUP-16: what the acceptor is told, and how it refuses.
#[tokio::test]
async fn setups_are_shown_and_refused() {
    let (uris, old) = serve().await;
    for uri in uris {
        let mut peer = Peer::connect(&uri).await;
        peer.send(setup().data("refuse").metadata("m")).await;
        assert_eq!(peer.expect_refusal(0x003).await, std::fmt::Error.to_string());
        let mut peer = Peer::connect(&uri).await;
        peer.send(setup().data("invalid")).await;
        assert_eq!(peer.expect_refusal(0x001).await, "said");
    }
    let expected = format!(
        "setup {:?} {:?} {:?} {:?} {:?} {:?}",
        Some("message/x.rsocket.composite-metadata.v0"),
        Some("application/octet-stream"),
        Duration::from_secs(20),
        Duration::from_secs(90),
        Some(Bytes::from_static(b"m")),
        Some("refuse"),
    );
    old.recorder.wait_count(&expected, 2).await;
}
