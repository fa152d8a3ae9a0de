//! The end of thousands of streams, as a peer brings it about with one frame: no poll of the driver does
//! more than a portion of it, so that others are served between. Polls are counted, and not time.

use std::{
    future::{Future, poll_fn, ready},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures_util::{FutureExt, Stream, stream};
use rsock::{Error, Grant, Load, Payload, Request, Requester, Responder, Response, Server, memory};
use rsock_tests::{
    record::limit_time,
    wire::{Frame, L, MAX_N, RR, err, lease, rs, setup, u, unprefixed},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::oneshot,
};

/// As many as either side may have open by default.
const STREAMS: usize = 4_096;
/// The number that one poll may end.
const PORTION: usize = 64;

/// Answers with streams that never yield, and counts those that have been dropped.
#[derive(Clone, Default)]
struct Endless {
    running: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}

impl Responder for Endless {
    fn request_stream(
        self: Arc<Self>,
        _: Request,
    ) -> impl Stream<Item = Result<Payload, Error>> + Send {
        self.running.fetch_add(1, Relaxed);
        let counted = Counted(Arc::clone(&self.dropped));
        stream::poll_fn(move |_| {
            let _ = &counted;
            Poll::Pending
        })
    }
}

/// Counts how often it is woken.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// Says whether it was woken.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

/// Lets the runtime deliver what is to be woken.
async fn breathe() {
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
}

/// How a peer ends it all.
enum End {
    Frame(Frame),
    Disconnect,
}

async fn ends_in_portions(end: End) {
    limit_time();
    let responder = Endless::default();
    let requester: Arc<Mutex<Option<Requester>>> = Arc::default();
    let acceptor = {
        let (responder, requester) = (responder.clone(), Arc::clone(&requester));
        move |peer: rsock::Peer| {
            *requester.lock().expect("nothing panics") = Some(peer.requester().clone());
            ready(Ok::<_, Error>(responder.clone()))
        }
    };
    let (mut peer, far) = memory(16 << 20);
    let server = Server::builder();
    let mut serving = pin!(server.serve_over(far, acceptor));
    let woken = Arc::new(Flag::default());
    let waker = Waker::from(Arc::clone(&woken));

    // The peer has as many streams open as it may, and so have we.
    let ids = (0..STREAMS as u32).map(|turn| 2 * turn + 1);
    let frames = [setup()].into_iter().chain(ids.map(|id| rs(id, 1, "endless")));
    let bytes: Vec<u8> = frames.flat_map(|frame| frame.prefixed()).collect();
    peer.write_all(&bytes).await.expect("room");
    while responder.running.load(Relaxed) < STREAMS {
        assert!(serving.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        breathe().await;
    }
    let asks = requester.lock().expect("nothing panics").clone().expect("it was accepted");
    let wakes = Arc::new(Wakes::default());
    let consumer = Waker::from(Arc::clone(&wakes));
    let mut calls: Vec<Pin<Box<Response>>> =
        (0..STREAMS).map(|_| Box::pin(asks.request_response("call"))).collect();
    for call in &mut calls {
        assert!(call.as_mut().poll(&mut Context::from_waker(&consumer)).is_pending());
    }
    for _ in 0..10 {
        assert!(serving.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        breathe().await;
    }
    assert_eq!(wakes.0.load(Relaxed), 0);

    match end {
        End::Frame(frame) => peer.write_all(&frame.prefixed()).await.expect("room"),
        End::Disconnect => peer.shutdown().await.expect("memory closes"),
    }
    let ended = || responder.dropped.load(Relaxed) + wakes.0.load(Relaxed);
    let mut before = ended();
    let mut polls = 0;
    loop {
        breathe().await;
        assert!(woken.0.swap(false, Relaxed), "it sleeps, and {before} have ended");
        polls += 1;
        let served = serving.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(ended() - before <= PORTION, "{} in one poll", ended() - before);
        before = ended();
        if served.is_ready() || before == 2 * STREAMS {
            break;
        }
    }
    assert_eq!(responder.dropped.load(Relaxed), STREAMS);
    assert_eq!(wakes.0.load(Relaxed), STREAMS);
    assert!(polls >= 2 * STREAMS / PORTION);
    for mut call in calls {
        let failed = poll_fn(|cx| call.as_mut().poll(cx)).await;
        assert!(matches!(failed, Err(Error::Closed { .. })), "{failed:?}");
    }
}

#[tokio::test]
async fn an_error_on_the_connection_ends_thousands_of_streams_in_portions() {
    ends_in_portions(End::Frame(err(0, 0x101, vec![b'E'; 1 << 20]))).await;
}

#[tokio::test]
async fn a_violation_ends_thousands_of_streams_in_portions() {
    ends_in_portions(End::Frame(u(0, 0x30, 0))).await;
}

#[tokio::test]
async fn a_lost_transport_ends_thousands_of_streams_in_portions() {
    ends_in_portions(End::Disconnect).await;
}

/// How many requests a peer finds written by now.
async fn requests_written(peer: &mut DuplexStream, input: &mut Vec<u8>) -> usize {
    while let Some(read) = peer.read_buf(input).now_or_never() {
        assert!(read.expect("memory does not fail") > 0, "it is not closed");
    }
    let (mut requests, mut at) = (0, 0);
    while let Some((frame, next)) = unprefixed(&input[at..]) {
        requests += usize::from(Frame::decode(frame).expect("a frame").kind == RR);
        at = input.len() - next.len();
    }
    input.drain(..at);
    requests
}

/// The event that thousands of requests wait for.
#[derive(Clone, Copy, PartialEq)]
enum For {
    Lease,
    /// That SETUP is accepted.
    Acceptor,
}

/// Thousands of requests wait; when what they wait for comes, they go in portions.
async fn go_in_portions(waits_for: For) {
    limit_time();
    let requester: Arc<Mutex<Option<Requester>>> = Arc::default();
    let (accept, accepted) = oneshot::channel::<()>();
    let acceptor = {
        let (requester, accepted) = (Arc::clone(&requester), Mutex::new(Some(accepted)));
        move |peer: rsock::Peer| {
            *requester.lock().expect("nothing panics") = Some(peer.requester().clone());
            let accepted = accepted.lock().expect("nothing panics").take();
            async move {
                if waits_for == For::Acceptor
                    && let Some(accepted) = accepted
                {
                    accepted.await.expect("it is told");
                }
                Ok::<_, Error>(Endless::default())
            }
        }
    };
    let (mut peer, far) = memory(16 << 20);
    let server = Server::builder().lease(|_: &Load| Grant::new(1, Duration::from_secs(600)));
    let mut serving = pin!(server.serve_over(far, acceptor));
    let woken = Arc::new(Flag::default());
    let waker = Waker::from(Arc::clone(&woken));
    let flags = if waits_for == For::Lease { L } else { 0 };
    peer.write_all(&setup().flags(flags).prefixed()).await.expect("room");
    let mut serve = async || {
        assert!(serving.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        breathe().await;
    };
    serve().await;
    serve().await;
    let asks = requester.lock().expect("nothing panics").clone().expect("it has come");
    let mut calls: Vec<_> = (0..STREAMS).map(|_| Box::pin(asks.request_response("call"))).collect();
    for call in &mut calls {
        assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    // Some are not wanted any more when it comes.
    drop(calls.split_off(STREAMS - PORTION));
    let mut input = Vec::new();
    for _ in 0..5 {
        serve().await;
    }
    assert_eq!(requests_written(&mut peer, &mut input).await, 0, "they wait");
    match waits_for {
        For::Lease => peer.write_all(&lease(600_000, MAX_N).prefixed()).await.expect("room"),
        For::Acceptor => accept.send(()).expect("it is waited for"),
    }
    let mut written = 0;
    while written < calls.len() {
        woken.0.store(false, Relaxed);
        serve().await;
        let now = requests_written(&mut peer, &mut input).await;
        assert!((1..=PORTION).contains(&now), "{now} in one poll, after {written}");
        written += now;
        assert!(woken.0.load(Relaxed) || written == calls.len(), "it sleeps after {written}");
    }
    serve().await;
    assert_eq!(requests_written(&mut peer, &mut input).await, 0);
}

#[tokio::test]
async fn a_lease_lets_thousands_of_requests_go_in_portions() {
    go_in_portions(For::Lease).await;
}

#[tokio::test]
async fn accepted_it_asks_what_thousands_have_waited_to_ask_in_portions() {
    go_in_portions(For::Acceptor).await;
}
