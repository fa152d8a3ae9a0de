//! Calls dropped after any number of polls: what was sent is taken back, what was not is never sent,
//! and whoever comes next has the place.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, poll, stream};
use rsock::{
    Client, ClientBuilder, CloseReason, Direction, Grant, Load, Requester, ResumeLimits, Server,
    SharedLease, Side, memory,
};
use rsock_tests::{
    fixture::Fixture,
    never_sent,
    readiness::{Scripted, Step, Steps},
    record::limit_time,
    wire::{C, CAN, ERROR, F, FNF, Frame, MP, PAYLOAD, RC, RR, RS},
};
use tokio::task::yield_now;

use crate::line::Line;

type Call = fn(Client) -> BoxFuture<'static, ()>;

/// Every call there is, as a future to be dropped.
const CALLS: [(&str, Call); 13] = [
    ("response", |client| client.request_response("x").map(drop).boxed()),
    ("response that never comes", |client| client.request_response("never").map(drop).boxed()),
    ("optional response", |client| client.request_response("x").optional().map(drop).boxed()),
    ("stream", |client| drained(client.request_stream("count:5").credit(2))),
    ("stream without end", |client| drained(client.request_stream("inf").credit(3))),
    ("channel", |client| drained(client.request_channel(stream::iter(["a", "b", "c"])).credit(1))),
    ("channel without end", |client| {
        drained(client.request_channel(stream::repeat("x").take(1_000_000)).credit(2))
    }),
    ("channel that does not begin", |client| {
        drained(client.request_channel(stream::pending::<&str>()))
    }),
    ("fire-and-forget", |client| {
        async move { client.fire_and_forget("told").await }.map(drop).boxed()
    }),
    ("metadata push", |client| {
        async move { client.metadata_push("pushed").await }.map(drop).boxed()
    }),
    ("ping", |client| async move { client.ping().await }.map(drop).boxed()),
    ("next lease", |client| async move { client.next_lease().await }.map(drop).boxed()),
    ("closed", |client| async move { client.closed().await }.map(drop).boxed()),
];

fn drained(items: rsock::RequestStream) -> BoxFuture<'static, ()> {
    items.for_each(async |_| {}).boxed()
}

/// The frames of a client, as they were written and read.
#[derive(Clone, Debug, Default)]
struct Frames(Arc<Mutex<Vec<(Direction, Frame)>>>);

impl Frames {
    fn tap(&self, client: ClientBuilder) -> ClientBuilder {
        let frames = self.clone();
        client.tap(Arc::new(move |_, direction, bytes| {
            let frame = Frame::decode(&bytes).expect("frames by the letter");
            frames.0.lock().unwrap_or_else(PoisonError::into_inner).push((direction, frame));
        }))
    }

    fn take(&self) -> Vec<(Direction, Frame)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The ends of a stream for its requester.
fn is_last(frame: &Frame, request: u8) -> bool {
    match frame.kind {
        ERROR => true,
        PAYLOAD => frame.flags & C != 0 || request == RR && frame.flags & F == 0,
        _ => false,
    }
}

/// CANCEL was sent for what was sent and had not ended, once, and for nothing else.
fn check_cancels(frames: &[(Direction, Frame)], what: &str) {
    let out = |(direction, _): &&(Direction, Frame)| *direction == Direction::Out;
    let requests: Vec<_> = frames
        .iter()
        .filter(out)
        .filter(|(_, frame)| [RR, RS, RC].contains(&frame.kind))
        .map(|(_, frame)| (frame.stream, frame.kind))
        .collect();
    let cancels = frames.iter().filter(out).filter(|(_, frame)| frame.kind == CAN);
    for (_, cancel) in cancels {
        let asked = requests.iter().any(|(stream, _)| *stream == cancel.stream);
        assert!(asked, "{what}: a CANCEL for nothing in {frames:?}");
    }
    for (stream, request) in requests {
        let at = |direction, is_it: &dyn Fn(&Frame) -> bool| {
            let mut places = frames.iter().enumerate().filter(|(_, (there, frame))| {
                *there == direction && frame.stream == stream && is_it(frame)
            });
            (places.next().map(|(at, _)| at), places.count())
        };
        let (cancel, more) = at(Direction::Out, &|frame| frame.kind == CAN);
        let (end, _) = at(Direction::In, &|frame| is_last(frame, request));
        assert_eq!(more, 0, "{what}: one CANCEL in {frames:?}");
        match (cancel, end) {
            (Some(cancel), Some(end)) => assert!(cancel < end, "{what}: {frames:?}"),
            (None, None) => panic!("{what}: stream {stream} is left alone in {frames:?}"),
            _ => {}
        }
    }
}

/// Whether anything was asked but what is asked by [`goes_on`].
fn asked(frames: &[(Direction, Frame)]) -> bool {
    frames.iter().any(|(direction, frame)| {
        let asks = [RR, RS, RC, FNF, MP].contains(&frame.kind);
        *direction == Direction::Out && asks && frame.data != b"after"
    })
}

async fn poll_and_drop(mut call: BoxFuture<'static, ()>, polls: usize) {
    for _ in 0..polls {
        if poll!(&mut call).is_ready() {
            break;
        }
        yield_now().await;
    }
}

/// The next request has the one permit there is, and the connection the streams it had.
async fn goes_on(client: &Requester, line: &Line, what: &str) {
    let reply = client.request_response("after").await;
    assert_eq!(reply.unwrap_or_else(|error| panic!("{what}: {error}")).data, "after");
    rests(line, what).await;
}

async fn rests(line: &Line, what: &str) {
    for _ in 0..10_000 {
        if line.meter.read().open_streams == 0 {
            return;
        }
        yield_now().await;
    }
    panic!("{what}: streams stay open: {:?}", line.meter.read());
}

fn one_at_a_time(frames: &Frames) -> ClientBuilder {
    frames.tap(Client::builder().max_requests(1))
}

#[tokio::test(start_paused = true)]
async fn calls_under_way() {
    for limit in [usize::MAX, 5] {
        let line = Line::new(Server::builder());
        let steps = Steps::cycle([Step::Limit(limit), Step::Pending]);
        line.scripts.lock().unwrap().push_back([steps.clone(), steps]);
        let frames = Frames::default();
        let client = line.connect(one_at_a_time(&frames)).await;
        client.request_response("x").await.expect("a reply");
        for (name, call) in CALLS {
            for polls in 0..25 {
                frames.take();
                let what = format!("{name} after {polls} polls");
                poll_and_drop(call(client.clone()), polls).await;
                goes_on(&client, &line, &what).await;
                let frames = frames.take();
                check_cancels(&frames, &what);
                assert!(polls > 0 || !asked(&frames), "{what}: {frames:?}");
            }
        }
    }
}

/// The permit is another's: nothing is sent, and the place in the queue is given back.
#[tokio::test(start_paused = true)]
async fn calls_that_wait_for_their_turn() {
    let (line, frames) = (Line::new(Server::builder()), Frames::default());
    let client = line.connect(one_at_a_time(&frames)).await;
    let mut round = 0;
    for (name, call) in CALLS {
        for polls in 0..4 {
            round += 1;
            let mut first = client.request_response("never");
            assert!(poll!(&mut first).is_pending());
            line.fixture.recorder.wait_count("never runs", round).await;
            frames.take();
            let what = format!("{name} after {polls} polls");
            poll_and_drop(call(client.clone()), polls).await;
            assert!(!asked(&frames.take()), "{what}");
            drop(first);
            goes_on(&client, &line, &what).await;
            assert!(!asked(&frames.take()), "{what}");
        }
    }
}

/// There is no lease: what is dropped is never sent, and its permit is free.
#[tokio::test(start_paused = true)]
async fn calls_that_wait_for_a_lease() {
    let allowed = Arc::new(AtomicU32::new(0));
    let policy = Arc::clone(&allowed);
    let policy = move |_: &Load| Grant::new(policy.load(Relaxed), Duration::from_secs(1));
    let (line, frames) = (Line::new(Server::builder().lease(policy)), Frames::default());
    let client = line.connect(one_at_a_time(&frames).lease(SharedLease::default())).await;
    for (name, call) in CALLS {
        for polls in 0..6 {
            allowed.store(0, Relaxed);
            // The lease before has run out, and what it allowed with it.
            tokio::time::sleep(Duration::from_secs(2)).await;
            frames.take();
            let what = format!("{name} after {polls} polls");
            poll_and_drop(call(client.clone()), polls).await;
            yield_now().await;
            allowed.store(5, Relaxed);
            goes_on(&client, &line, &what).await;
            let frames = frames.take();
            let taken = ["fire-and-forget", "metadata push"].contains(&name) && polls > 0;
            assert!(taken || !asked(&frames), "{what}: {frames:?}");
            check_cancels(&frames, &what);
        }
    }
}

/// There is no transport: what is dropped is never sent, and the session goes on.
#[tokio::test(start_paused = true)]
async fn calls_while_the_session_is_suspended() {
    let server = Server::builder().resume(ResumeLimits::default(), 10);
    for (name, call) in CALLS {
        for polls in 0..4 {
            let (line, frames) = (Line::new(server.clone()), Frames::default());
            let client = one_at_a_time(&frames).resume(line.resume()).wait_until_accepted(true);
            let client = line.connect(client).await;
            line.set_down(true);
            line.cut();
            while client.state() != rsock::ConnectionState::Suspended {
                yield_now().await;
            }
            frames.take();
            let what = format!("{name} after {polls} polls");
            poll_and_drop(call(client.clone()), polls).await;
            line.set_down(false);
            goes_on(&client, &line, &what).await;
            let frames = frames.take();
            check_cancels(&frames, &what);
            assert!(polls > 0 || !asked(&frames), "{what}: {frames:?}");
        }
    }
}

/// A server asks before it has accepted: that waits, and what is dropped is never sent.
#[tokio::test(start_paused = true)]
async fn calls_before_the_acceptor_has_answered() {
    limit_time();
    for polls in 0..4 {
        let (near, far) = memory(256);
        let fixture = Fixture::default();
        let asked: Arc<Mutex<Option<Requester>>> = Arc::default();
        let (gate, requester) = (Arc::clone(&fixture.gate), Arc::clone(&asked));
        let acceptor = move |peer: rsock::Peer| {
            *requester.lock().unwrap() = Some(peer.requester().clone());
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.map_err(rsock::Error::application)?.forget();
                Ok::<_, rsock::Error>(Fixture::default())
            }
        };
        let server = Server::builder().max_requests(1);
        tokio::spawn(async move { server.serve_over(far, acceptor).await });
        let frames = Frames::default();
        let client = frames.tap(Client::builder().acceptor(fixture.clone()));
        let client = client.connect_over(near).await.expect("memory connects");
        let requester = loop {
            yield_now().await;
            if let Some(requester) = asked.lock().unwrap().clone() {
                break requester;
            }
        };
        let held = Arc::new("x");
        let items = Arc::clone(&held);
        let items = stream::repeat_with(move || *items);
        poll_and_drop(drained(requester.request_channel(items)), polls).await;
        let mut gone = false;
        for _ in 0..10 {
            yield_now().await;
            gone = gone || Arc::strong_count(&held) == 1;
        }
        assert!(gone, "it is let go before the acceptor has answered");
        let next = tokio::spawn(requester.request_response("after"));
        tokio::time::sleep(Duration::from_secs(1)).await;
        fixture.gate.add_permits(1);
        assert_eq!(next.await.expect("no panic").expect("a reply").data, "after");
        let seen = frames.take();
        assert!(seen.iter().all(|(_, frame)| frame.kind != RC), "{seen:?}");
        drop(client);
    }
}

/// A close that is not waited for is a close.
#[tokio::test(start_paused = true)]
async fn closing() {
    type Close = fn(Client) -> BoxFuture<'static, ()>;
    let closes: [Close; 2] = [
        |client| async move { client.close().await }.map(drop).boxed(),
        |client| async move { client.abort().await }.map(drop).boxed(),
    ];
    for close in closes {
        for polls in 0..10 {
            let line = Line::new(Server::builder());
            let client = line.connect(Client::builder()).await;
            let reply = client.request_response("x").await;
            reply.expect("a reply");
            poll_and_drop(close(client.clone()), polls).await;
            if polls == 0 {
                goes_on(&client, &line, "a close that was not polled").await;
            } else {
                assert_eq!(client.closed().await, CloseReason::Finished(Side::Local));
                let late = client.request_response("late").await;
                let reason = CloseReason::Finished(Side::Local);
                assert_eq!(late, Err(never_sent(reason)));
            }
        }
    }
}

/// A connection that is not waited for is none.
#[tokio::test(start_paused = true)]
async fn connecting() {
    limit_time();
    for polls in 0..12 {
        let (near, far) = memory(64);
        let (server, fixture) = (Server::builder(), Fixture::default());
        let serving = tokio::spawn(async move { server.serve_over(far, fixture).await });
        let steps = || Steps::cycle([Step::Limit(20), Step::Pending]);
        let near = Scripted::new(near, steps(), steps());
        let connecting = Client::builder().wait_until_accepted(true).connect_over(near);
        poll_and_drop(connecting.map(drop).boxed(), polls).await;
        serving.await.expect("no panic");
    }
}
