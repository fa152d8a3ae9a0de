//! The driver apart: sockets that give and take as a script says, a clock that is paused, and calls
//! dropped at every point.

mod cancellation;
mod clock;
mod line;
mod memory;
mod portions;
mod sent;
mod session;
mod turns;
mod waits;

use std::{io, pin::pin, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture, poll, stream};
use rsock::{
    Client, ClientBuilder, CloseReason, Error, Meter, Payload, Requester, Server, Violation, memory,
};
use rsock_tests::{
    fixture::Fixture,
    maybe_sent,
    readiness::{Noted, Scripted, Step, Steps},
    record::{Recorder, limit_time},
    wire::{C, Frame, N, R, ka, p, rr, setup, unprefixed},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::Instant,
};

use line::{Line, Peer};

struct Pair {
    client: Client,
    fixture: Fixture,
    meters: [Arc<Meter>; 2],
}

/// A client and a server over memory of `capacity` bytes; the client's reads and writes are scripted.
async fn pair(capacity: usize, reads: Steps, writes: Steps) -> Pair {
    limit_time();
    let (near, far) = memory(capacity);
    let meters = [Arc::new(Meter::default()), Arc::new(Meter::default())];
    let fixture = Fixture::default();
    let (server, acceptor) = (Server::builder().meter(Arc::clone(&meters[1])), fixture.clone());
    tokio::spawn(async move { server.serve_over(far, acceptor).await });
    let client = Client::builder().meter(Arc::clone(&meters[0])).acceptor(Fixture::default());
    let client = client.connect_over(Scripted::new(near, reads, writes)).await;
    Pair { client: client.expect("memory connects"), fixture, meters }
}

fn scripts() -> Vec<Vec<Step>> {
    vec![
        vec![Step::Limit(usize::MAX)],
        vec![Step::Limit(1)],
        vec![Step::Pending, Step::Limit(3)],
        vec![Step::Limit(7), Step::Pending, Step::Pending, Step::Limit(1)],
        vec![Step::Limit(64), Step::Pending],
    ]
}

/// However bytes come and go, what is said is the same.
#[tokio::test]
async fn any_readiness() {
    for reads in scripts() {
        for writes in scripts() {
            let pair = pair(100, Steps::cycle(reads.clone()), Steps::cycle(writes)).await;
            let client = &pair.client;
            let large = vec![b'x'; 5_000];
            let reply = client.request_response(large.clone()).await.unwrap();
            assert_eq!(reply.data, large);
            let items = client.request_stream("count:100").credit(3).count().await;
            assert_eq!(items, 100);
            let sent: Vec<_> = (0..100).map(|n: u32| n.to_string()).collect();
            let echoes = client.request_channel(stream::iter(sent.clone())).credit(5);
            let echoes: Vec<_> = echoes.map_ok(|item| item.data).try_collect().await.unwrap();
            assert_eq!(echoes, sent);
            client.fire_and_forget("told").await.unwrap();
            assert_eq!(client.close().await, CloseReason::Finished(rsock::Side::Local));
            pair.fixture.recorder.wait("fnf told").await;
        }
    }
}

/// TCP-07: SETUP, and whatever is sent by itself, leaves with its prefix in one write, however many
/// parts it is made of.
#[tokio::test]
async fn a_frame_is_one_write() {
    limit_time();
    let (near, far) = memory(1 << 20);
    let (noted, writes) = Noted::new(near);
    tokio::spawn(async move { Server::builder().serve_over(far, Fixture::default()).await });
    let large = Payload::new(vec![b'x'; 20_000]).with_metadata(vec![b'm'; 10_000]);
    let client = Client::builder().setup(large.clone()).connect_over(noted).await.unwrap();
    for payload in ["small".into(), Payload::new(vec![b'x'; 5_000]), large] {
        client.request_response(payload).await.unwrap();
    }
    let mut names = Vec::new();
    for write in writes.lock().unwrap().iter() {
        // What was asked for by then may leave with SETUP, but no frame is begun and not ended.
        let mut rest = &write[..];
        while !rest.is_empty() {
            let (frame, behind) = unprefixed(rest).expect("a whole frame");
            let name = Frame::decode(frame).unwrap().to_string();
            names.push(name.split('(').next().unwrap_or_default().to_owned());
            rest = behind;
        }
    }
    assert_eq!(names, ["SETUP", "RR", "RR", "RR"]);
}

/// A peer that closes its side right behind a request is still given what is answered at once.
#[tokio::test]
async fn an_answer_before_the_end_that_is_known() {
    let line = Line::new(Server::builder());
    for begins_with_it in [false, true] {
        let mut peer = Peer::join(&line);
        peer.send(&setup()).await;
        if !begins_with_it {
            peer.send(&rr(1, "before")).await;
            assert_eq!(peer.next().await.data, b"before");
        }
        peer.send(&rr(3, "last")).await;
        peer.0.shutdown().await.unwrap();
        assert_eq!(peer.next().await.data, b"last");
    }
}

/// A transport that fails while the last words are written: they are not tried again, and the driver
/// is at its end.
#[tokio::test]
async fn a_failure_while_flushing() {
    limit_time();
    let (near, mut far) = memory(1 << 10);
    let fails = Step::Error(io::ErrorKind::BrokenPipe);
    // SETUP leaves; the farewell has to wait, and then the transport is gone.
    let writes = Steps::once([Step::Limit(usize::MAX), Step::Pending, fails, fails]);
    let scripted = Scripted::new(near, Steps::once([]), writes);
    let client = Client::builder().connect_over(scripted).await.unwrap();
    let mut setup = [0; 3];
    far.read_exact(&mut setup).await.unwrap();
    let mut setup = vec![0; usize::from(setup[2])];
    far.read_exact(&mut setup).await.unwrap();
    assert!(matches!(client.close().await, CloseReason::Io(_)));
    let mut rest = Vec::new();
    far.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, [0; 0]);
}

/// A peer that never reads: the time for the last words is limited, and the driver is at its end.
#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_take_the_farewell() {
    limit_time();
    let (near, mut far) = memory(16);
    let client = Client::builder().connect_over(near).await.unwrap();
    assert!(matches!(client.close().await, CloseReason::Io(_)));
    let mut rest = Vec::new();
    far.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest.len(), 16);
}

/// A transport that fails, at whichever call: everything pending ends with the reason.
#[tokio::test]
async fn any_failure() {
    for kind in [io::ErrorKind::ConnectionReset, io::ErrorKind::Other] {
        for good in 0..12 {
            for fails_to_read in [true, false] {
                let mut steps = vec![Step::Limit(20); good];
                steps.extend([Step::Error(kind); 3]);
                let (broken, whole) = (Steps::once(steps), Steps::once([]));
                let pair = match fails_to_read {
                    true => pair(64, broken, whole).await,
                    false => pair(64, whole, broken).await,
                };
                let client = &pair.client;
                let call = tokio::spawn(client.request_response("never"));
                let items = tokio::spawn(client.request_stream("inf").for_each(async |_| {}));
                // Goes on until there is no connection.
                while client.request_response("x").await.is_ok() {}
                let Err(Error::Closed { reason, .. }) = call.await.unwrap() else {
                    panic!("a call that cannot have been answered");
                };
                let is_expected = match kind {
                    io::ErrorKind::Other => matches!(reason, CloseReason::Io(_)),
                    _ => {
                        matches!(reason, CloseReason::Disconnected | CloseReason::ClosedAfterSetup)
                    }
                };
                assert!(is_expected, "{kind:?} {good}: {reason:?}");
                items.await.unwrap();
                assert_eq!(client.closed().await, reason);
                rests(&pair.meters).await;
            }
        }
    }
}

/// Waits until no streams are open.
async fn rests(meters: &[Arc<Meter>]) {
    for _ in 0..100_000 {
        if meters.iter().all(|meter| meter.read().open_streams == 0) {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("streams stay open: {:?}", meters.iter().map(|meter| meter.read()).collect::<Vec<_>>());
}

/// A call to be dropped in the middle.
type Call = fn(Requester) -> BoxFuture<'static, ()>;

const CALLS: [(&str, Call); 7] = [
    ("response", |requester| requester.request_response("x").map(drop).boxed()),
    ("response that never comes", |requester| {
        requester.request_response("never").map(drop).boxed()
    }),
    ("stream", |requester| {
        let items = requester.request_stream("count:5").credit(2);
        items.for_each(async |_| {}).boxed()
    }),
    ("stream without end", |requester| {
        let items = requester.request_stream("inf").credit(3);
        items.for_each(async |_| {}).boxed()
    }),
    ("channel", |requester| {
        let items = requester.request_channel(stream::iter(["a", "b", "c"])).credit(1);
        items.for_each(async |_| {}).boxed()
    }),
    ("channel without end", |requester| {
        let source = stream::repeat("x").take(1_000_000);
        requester.request_channel(source).credit(2).for_each(async |_| {}).boxed()
    }),
    ("fire-and-forget", |requester| {
        async move { requester.fire_and_forget("x").await }.map(drop).boxed()
    }),
];

/// Dropped after any number of polls, a call leaves nothing behind.
#[tokio::test]
async fn cancellation_after_any_number_of_polls() {
    for step in [Step::Limit(usize::MAX), Step::Limit(5)] {
        let steps = || Steps::cycle([step, Step::Pending]);
        let pair = pair(64, steps(), steps()).await;
        // Open, so that what is measured is the calls and not the handshake.
        pair.client.request_response("x").await.unwrap();
        for (name, call) in CALLS {
            for polls in 0..40 {
                let mut call = call(Requester::clone(&pair.client));
                for _ in 0..polls {
                    if poll!(&mut call).is_ready() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
                drop(call);
                rests(&pair.meters).await;
                let reply = pair.client.request_response("after").await;
                assert_eq!(reply.expect(name).data, "after", "{name} after {polls} polls");
            }
        }
        let stats = pair.meters.each_ref().map(|meter| meter.read().stats);
        assert!(stats.iter().all(|stats| stats.credit_violations == 0), "{stats:?}");
    }
}

/// The same where the connection ends at that point.
#[tokio::test]
async fn an_end_after_any_number_of_polls() {
    for (name, call) in CALLS {
        for polls in 0..20 {
            let steps = || Steps::cycle([Step::Limit(9), Step::Pending]);
            let pair = pair(64, steps(), steps()).await;
            let mut call = call(Requester::clone(&pair.client));
            let mut done = false;
            for _ in 0..polls {
                done = done || poll!(&mut call).is_ready();
                tokio::task::yield_now().await;
            }
            let closing = pair.client.abort();
            assert_eq!(closing.await, CloseReason::Finished(rsock::Side::Local), "{name}");
            if !done {
                // Nothing hangs.
                call.await;
            }
            rests(&pair.meters).await;
        }
    }
}

// ---- a paused clock -------------------------------------------------------------------------------

/// SETUP-30, in virtual time: to the millisecond.
#[tokio::test(start_paused = true)]
async fn setup_has_a_time_limit() {
    let (near, far) = memory(1024);
    let start = Instant::now();
    let mut config = rsock::Config::default();
    config.setup_timeout = Duration::from_secs(7);
    let server = Server::builder().config(config);
    let serving = server.serve_over(far, Fixture::default());
    let reading = frames(near);
    let ((), (frames, end)) = tokio::join!(serving, reading);
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].code(), Some(1), "{}", frames[0]);
    assert_eq!((end - start).as_secs(), 7);
}

/// SETUP-20, SETUP-30: an acceptor that never answers is not waited for any longer either.
#[tokio::test(start_paused = true)]
async fn acceptors_have_a_time_limit() {
    let (near, far) = memory(1024);
    let start = Instant::now();
    let fixture = Fixture::default();
    let acceptor = fixture.clone();
    tokio::spawn(async move { Server::builder().serve_over(far, acceptor).await });
    let client = Client::builder().setup("wait").connect_over(near).await.unwrap();
    let reply = client.request_response("x").await;
    assert!(
        matches!(reply, Err(Error::Closed { reason: CloseReason::Error { .. }, .. })),
        "{reply:?}"
    );
    assert_eq!(start.elapsed().as_secs(), 10);
    assert_eq!(fixture.recorder.lines(), ["acceptor waits"]);
}

/// KA-02, KA-10: a server that is mute gets KEEPALIVE at the interval, and then the end.
#[tokio::test(start_paused = true)]
async fn keepalive_in_virtual_time() {
    let (near, far) = memory(1024);
    let start = Instant::now();
    let client = keepalive(5, 21).connect_over(near).await.unwrap();
    let call = tokio::spawn(client.request_response("x"));
    let (frames, _) = frames(far).await;
    let sent = frames.iter().filter(|frame| **frame == ka(R, 0, "")).count();
    assert_eq!(sent, 4, "{frames:?}");
    assert_eq!(frames.last().and_then(Frame::code), Some(0x101));
    let reason = CloseReason::Violation(Violation::KeepaliveTimeout);
    assert_eq!(call.await.unwrap(), Err(maybe_sent(reason)));
    // The last words had nobody to be refused by.
    assert_eq!(start.elapsed().as_secs(), 21);
}

/// KA-09: what has arrived is a sign of life, however late we come to read it.
#[tokio::test(start_paused = true)]
async fn what_has_arrived_counts_before_the_clock() {
    let (near, mut far) = memory(1024);
    let client = keepalive(5, 21).connect_over(near).await.unwrap();
    let call = tokio::spawn(client.request_response("x"));
    let mut asked = Vec::new();
    while !asked.ends_with(b"x") {
        far.read_buf(&mut asked).await.unwrap();
    }
    let answer = p(1, N | C, "late").encode();
    let len = [0, 0, answer.len() as u8];
    far.write_all(&[&len[..], &answer].concat()).await.unwrap();
    // As after the machine has slept: the answer is there, and the lifetime is over.
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(call.await.unwrap().unwrap().data, "late");
}

/// SETUP-32, KA-10: not before the interval has passed, however short the lifetime.
#[tokio::test(start_paused = true)]
async fn a_lifetime_shorter_than_the_interval() {
    let (near, far) = memory(1024);
    let start = Instant::now();
    let client = keepalive(60, 1).connect_over(near).await.unwrap();
    let reason = client.closed().await;
    assert_eq!(reason, CloseReason::Violation(Violation::KeepaliveTimeout));
    assert!(start.elapsed().as_secs() >= 60);
    drop(far);
}

/// A day of silence between two of ours, with nothing lost and nothing leaked.
#[tokio::test(start_paused = true)]
async fn a_day_of_keepalive() {
    let (near, far) = memory(1024);
    let frames: Arc<Recorder> = Arc::default();
    tokio::spawn(async move { Server::builder().serve_over(far, Fixture::default()).await });
    let client = keepalive(20, 90).tap(rsock_tests::link::tap(&frames));
    let client = client.connect_over(near).await.unwrap();
    let call = tokio::spawn(client.request_response("never"));
    tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
    assert!(!call.is_finished());
    assert_eq!(client.request_response("x").await.unwrap().data, "x");
    let sent = frames.count("> KA(R)");
    assert!((4_319..=4_321).contains(&sent), "{sent}");
}

fn keepalive(interval: u64, lifetime: u64) -> ClientBuilder {
    Client::builder().keepalive(Duration::from_secs(interval), Duration::from_secs(lifetime))
}

/// Reads a connection to its end without saying anything; the frames, and when it ended.
async fn frames(mut io: DuplexStream) -> (Vec<Frame>, Instant) {
    let mut input = Vec::new();
    let read = pin!(io.read_to_end(&mut input));
    read.await.expect("memory does not fail");
    let end = Instant::now();
    let (mut rest, mut frames) = (&input[..], Vec::new());
    while !rest.is_empty() {
        let (frame, behind) = unprefixed(rest).expect("a whole frame");
        frames.push(Frame::decode(frame).expect("frames by the letter"));
        rest = behind;
    }
    (frames, end)
}
