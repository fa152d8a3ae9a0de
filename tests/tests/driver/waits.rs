//! The end of each wait: whoever waits for a connection learns that it is over, or is about to be,
//! and why.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, poll, stream};
use rsock::{
    Client, ClientBuilder, CloseReason, ConnectionState, Error, ErrorCode, Grants, Meter, Payload,
    Requester, Resume, Server, SessionEvent, SharedLease, Side, Violation, memory,
};
use rsock_tests::{
    fixture::Fixture,
    maybe_sent, never_sent,
    readiness::{Scripted, Step, Steps},
    record::limit_time,
    wire::{C, Frame, N, err, fnf, ka, lease, p, prefix_len, rr, rs},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf},
    sync::{Semaphore, mpsc},
    time::{Instant, sleep, timeout},
};

use crate::line::Peer;

/// How soon somebody is told: without a wait for anything but tasks. The clock is paused.
const AT_ONCE: Duration = Duration::from_millis(1);

async fn at_once<T>(work: impl Future<Output = T>) -> T {
    timeout(AT_ONCE, work).await.expect("it is told at once")
}

fn said_by_the_peer(code: u32, message: &str) -> CloseReason {
    CloseReason::Error { by: Side::Peer, code: ErrorCode(code), message: message.into() }
}

/// A client, and the server played by hand, which has read SETUP.
async fn client_of(builder: ClientBuilder) -> (Client, Peer) {
    limit_time();
    let (near, far) = memory(4096);
    let client = builder.connect_over(near).await.expect("memory connects");
    let mut peer = Peer(far);
    assert!(peer.next().await.to_string().starts_with("SETUP"));
    (client, peer)
}

async fn client() -> (Client, Peer) {
    client_of(Client::builder()).await
}

/// Past the time in which ERROR on stream 0 would be a refusal.
async fn accepted(client: &Client, peer: &mut Peer) {
    let mut accepted = std::pin::pin!(client.ping());
    assert!(poll!(accepted.as_mut()).is_pending());
    let asked = peer.next().await;
    peer.send(&ka(0, 0, &asked.data)).await;
    accepted.await.expect("an answer");
}

/// Everything there is to ask, each with what it is told.
fn asked(requester: &Requester) -> [(&'static str, BoxFuture<'static, Result<(), Error>>); 6] {
    let all = [(); 3].map(|()| requester.clone());
    let [told, pushed, pinged] = all;
    let first = |item: Option<Result<Payload, Error>>| item.expect("a reason").map(drop);
    let mut items = requester.request_stream("s");
    let mut channel = requester.request_channel(stream::iter(["c"]));
    [
        ("response", requester.request_response("r").map(|reply| reply.map(drop)).boxed()),
        ("stream", async move { first(items.next().await) }.boxed()),
        ("channel", async move { first(channel.next().await) }.boxed()),
        ("fire-and-forget", async move { told.fire_and_forget("f").await }.boxed()),
        ("push", async move { pushed.metadata_push("m").await }.boxed()),
        ("ping", async move { pinged.ping().await.map(drop) }.boxed()),
    ]
}

async fn all_fail(requester: &Requester, reason: &CloseReason) {
    for (name, call) in asked(requester) {
        assert_eq!(at_once(call).await, Err(never_sent(reason.clone())), "{name}");
    }
}

/// RC-22, CONN-05: a source that has nothing yet does not hold the answers up, nor does a demand of
/// nothing.
#[tokio::test(start_paused = true)]
async fn a_channel_without_its_first_payload_ends_with_its_connection() {
    let violation = Violation::FrameTooShort { len: 1 };
    for (how, reason) in [
        ("the peer goes", CloseReason::ClosedAfterSetup),
        ("refusal", said_by_the_peer(3, "no entry")),
        ("violation", CloseReason::Violation(violation)),
        ("silence", CloseReason::Violation(Violation::KeepaliveTimeout)),
        ("close", CloseReason::Finished(Side::Local)),
        ("abort", CloseReason::Finished(Side::Local)),
        ("the last handle", CloseReason::Finished(Side::Local)),
    ] {
        let (client, mut peer) = client().await;
        let mut answers = client.request_channel(stream::pending::<Payload>());
        assert!(poll!(answers.next()).is_pending(), "{how}");
        let grants = Grants::new();
        let mut undemanded = client.request_stream("s").demand(grants.demand());
        assert!(poll!(undemanded.next()).is_pending(), "{how}");
        let mut closing = None;
        match how {
            "the peer goes" => peer.0.shutdown().await.expect("memory"),
            "refusal" => peer.send(&err(0, 3, "no entry")).await,
            "violation" => peer.0.write_all(&[0, 0, 1, 0]).await.expect("memory"),
            "silence" => sleep(Duration::from_secs(90)).await,
            "close" => closing = Some(client.clone()),
            "abort" => drop(client.abort().now_or_never()),
            _ => {}
        }
        if how == "the last handle" {
            drop(client);
        }
        if let Some(client) = closing {
            drop(client.close().now_or_never());
        }
        for mut items in [answers, undemanded] {
            let ended = at_once(items.next()).await;
            assert_eq!(ended, Some(Err(never_sent(reason.clone()))), "{how}");
            assert_eq!(at_once(items.next()).await, None, "{how}");
        }
    }
}

/// The same while other streams keep the connection up: it could not be opened any more.
#[tokio::test(start_paused = true)]
async fn a_channel_without_its_first_payload_ends_when_no_more_may_be_opened() {
    for by_peer in [true, false] {
        let (client, mut peer) = client().await;
        accepted(&client, &mut peer).await;
        let mut open = client.request_response("open");
        assert!(poll!(&mut open).is_pending());
        peer.next().await;
        let mut answers = client.request_channel(stream::pending::<Payload>());
        assert!(poll!(answers.next()).is_pending());
        let reason = if by_peer {
            peer.send(&err(0, 0x102, "rolling over")).await;
            said_by_the_peer(0x102, "rolling over")
        } else {
            drop(client.close().now_or_never());
            CloseReason::Finished(Side::Local)
        };
        let told = Some(Err(never_sent(reason.clone())));
        assert_eq!(at_once(answers.next()).await, told);
        assert_eq!(client.state(), ConnectionState::Draining(reason.clone()));
        all_fail(&client, &reason).await;
        // One that is asked for now does not take anything of its source.
        let source = stream::poll_fn(|_| -> Poll<Option<Payload>> { panic!("polled") });
        assert_eq!(at_once(client.request_channel(source).next()).await, told);
        // What is open runs to its end.
        peer.send(&p(1, N | C, "done")).await;
        assert_eq!(open.await.expect("a reply").data, "done");
        let side = if by_peer { Side::Peer } else { Side::Local };
        assert_eq!(client.closed().await, CloseReason::Finished(side));
        all_fail(&client, &reason).await;
    }
}

/// CONN-02, CONN-05: what the peer has said outlives its transport.
#[tokio::test(start_paused = true)]
async fn the_peers_reason_is_told_everywhere() {
    for closes in [true, false] {
        let (client, mut peer) = client_of(Client::builder().max_requests(1)).await;
        accepted(&client, &mut peer).await;
        let mut items = client.request_stream("s");
        assert!(poll!(items.next()).is_pending());
        peer.next().await;
        peer.send(&p(1, N, "one")).await;
        assert_eq!(items.next().await.expect("an item").expect("no failure").data, "one");
        // They wait for the permit.
        let mut waiting = asked(&client);
        for (name, call) in &mut waiting {
            assert!(poll!(call).is_pending(), "{name}");
        }
        let reason = said_by_the_peer(0x102, "rolling over");
        peer.send(&err(0, 0x102, "rolling over")).await;
        for (name, call) in waiting {
            assert_eq!(at_once(call).await, Err(never_sent(reason.clone())), "{name}");
        }
        if closes {
            drop(peer);
        } else {
            // A peer that stays and says nothing more.
            sleep(Duration::from_secs(90)).await;
        }
        assert_eq!(at_once(items.next()).await, Some(Err(maybe_sent(reason.clone()))));
        assert_eq!(client.closed().await, reason);
        all_fail(&client, &reason).await;
    }
}

/// What fails on an idle connection that the peer closes learns why, as what is asked later does.
#[tokio::test(start_paused = true)]
async fn an_idle_connection_that_the_peer_closes() {
    let (client, mut peer) = client().await;
    accepted(&client, &mut peer).await;
    let mut ping = std::pin::pin!(client.ping());
    assert!(poll!(ping.as_mut()).is_pending());
    let mut channel = client.request_channel(stream::pending::<Payload>());
    assert!(poll!(channel.next()).is_pending());
    peer.next().await;
    peer.send(&err(0, 0x102, "bye")).await;
    let reason = said_by_the_peer(0x102, "bye");
    assert_eq!(at_once(ping).await, Err(maybe_sent(reason.clone())));
    assert_eq!(at_once(channel.next()).await, Some(Err(never_sent(reason.clone()))));
    assert_eq!(client.closed().await, CloseReason::Finished(Side::Peer));
    all_fail(&client, &reason).await;
}

/// A write that fails says nothing: why, stands in what was not read yet.
#[tokio::test(start_paused = true)]
async fn what_the_peer_said_is_read_before_its_transport_is_given_up() {
    for (code, text) in [(3, "no entry"), (0x101, "broken"), (0x102, "full")] {
        for (reads, failing) in [
            (vec![Step::Pending], 0),
            (vec![Step::Pending, Step::Pending, Step::Limit(3)], 1),
            (vec![Step::Pending, Step::Limit(1), Step::Pending], 9),
        ] {
            limit_time();
            let (near, mut far) = memory(4096);
            far.write_all(&err(0, code, text).prefixed()).await.expect("memory");
            let mut writes = vec![Step::Limit(1); failing];
            writes.push(Step::Error(io::ErrorKind::BrokenPipe));
            let near = Scripted::new(near, Steps::once(reads), Steps::until(writes));
            let client = Client::builder().connect_over(near).await.expect("memory connects");
            let reply = at_once(client.request_response("x")).await;
            let reason = said_by_the_peer(code, text);
            assert_eq!(reply, Err(never_sent(reason.clone())), "{code:#x}");
            assert_eq!(client.closed().await, reason);
        }
    }
    // Where nothing was said, or the peer goes on and on, it is lost all the same.
    for talks in [false, true] {
        let (near, mut far) = memory(4096);
        let talking = tokio::spawn(async move {
            let frame = rr(2, "x").encode();
            let mut talk = vec![0, 0, frame.len() as u8];
            talk.extend(frame);
            while talks && far.write_all(&talk).await.is_ok() {}
            far
        });
        let writes = Steps::until([Step::Error(io::ErrorKind::BrokenPipe)]);
        let near = Scripted::new(near, Steps::once([]), writes);
        let client = Client::builder().connect_over(near).await.expect("memory connects");
        if talks {
            // The clock does not stand still while somebody talks.
            tokio::time::resume();
        }
        let start = Instant::now();
        let lost = if talks { CloseReason::Disconnected } else { CloseReason::ClosedAfterSetup };
        assert_eq!(client.closed().await, lost);
        assert!(talks || start.elapsed() <= Duration::from_millis(200));
        talking.abort();
    }
}

/// A peer that takes nothing, or a byte now and then, does not hold up who wants to be gone: neither
/// from the beginning nor when `close` has waited for it.
#[tokio::test(start_paused = true)]
async fn abort_does_not_wait_for_a_peer_that_takes_its_time() {
    for pause in [Duration::from_millis(900), Duration::from_secs(3_600)] {
        let (near, mut far) = memory(64);
        let client = Client::builder().connect_over(near).await.expect("memory connects");
        client.fire_and_forget(vec![0; 300]).await.expect("taken");
        let reading = tokio::spawn(async move {
            while matches!(far.read(&mut [0]).await, Ok(1)) {
                sleep(pause).await;
            }
        });
        sleep(AT_ONCE).await;
        let start = Instant::now();
        client.abort().await;
        assert!(start.elapsed() <= Duration::from_secs(2), "{:?}", start.elapsed());
        reading.abort();
    }
    let (near, mut far) = memory(64);
    let client = Client::builder().connect_over(near).await.expect("memory connects");
    client.fire_and_forget(vec![0; 300]).await.expect("taken");
    let reading = tokio::spawn(async move {
        let mut byte = [0];
        while matches!(far.read(&mut byte).await, Ok(1)) {
            sleep(Duration::from_secs(9)).await;
        }
    });
    let closing = tokio::spawn({
        let client = client.clone();
        async move { client.close().await }
    });
    sleep(Duration::from_secs(60)).await;
    assert!(!closing.is_finished());
    let start = Instant::now();
    let reason = client.abort().await;
    assert!(start.elapsed() <= Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(matches!(reason, CloseReason::Io(_)), "{reason:?}");
    assert_eq!(closing.await.expect("no panic"), reason);
    reading.abort();
}

/// FNF-03: `Ok` is said of what is on its way; until then it waits, and fails with its connection.
#[tokio::test(start_paused = true)]
async fn a_fire_and_forget_that_has_to_wait_is_not_said_to_be_on_its_way() {
    let meter = Arc::new(Meter::default());
    let builder = || {
        let builder = Client::builder().lease(SharedLease::default()).meter(Arc::clone(&meter));
        builder.acceptor(Fixture::default())
    };
    let (client, mut peer) = client_of(builder()).await;
    let mut told = [client.fire_and_forget("1").boxed(), client.fire_and_forget("2").boxed()];
    for told in &mut told {
        assert!(poll!(told).is_pending());
    }
    let [first, dropped] = told;
    sleep(AT_ONCE).await;
    drop(dropped);
    let mut third = client.fire_and_forget("3").boxed();
    assert!(poll!(&mut third).is_pending());
    sleep(AT_ONCE).await;
    peer.send(&lease(60_000, 1)).await;
    at_once(first).await.expect("there is a lease for it");
    assert!(poll!(&mut third).is_pending());
    peer.send(&err(0, 0x102, "bye")).await;
    let bye = never_sent(said_by_the_peer(0x102, "bye"));
    assert_eq!(at_once(third).await, Err(bye));
    let mut sent = Vec::new();
    let mut prefix = [0; 3];
    while peer.0.read_exact(&mut prefix).await.is_ok() {
        let mut bytes = vec![0; prefix_len(prefix)];
        peer.0.read_exact(&mut bytes).await.expect("whole frames");
        sent.push(Frame::decode(&bytes).expect("frames by the letter"));
    }
    let told: Vec<_> = sent.iter().filter(|frame| frame.stream == 1).collect();
    assert_eq!(told, [&fnf(1, "1")], "{sent:?}");
    assert!(sent.iter().all(|frame| frame.stream <= 1), "{sent:?}");
    assert_eq!(meter.read().lost_fire_and_forget, 0);
}

// ---- what is lost --------------------------------------------------------------------------------

/// A client whose transports end with us, one after the other; and what it is told.
async fn session(dials: usize) -> (Client, Dialled, Arc<Meter>, mpsc::Receiver<SessionEvent>) {
    limit_time();
    let (dialled, transports) = mpsc::channel(100);
    let (told, events) = mpsc::channel(100);
    let meter = Arc::new(Meter::default());
    let resume = Resume::new().observe(move |event| told.try_send(event.clone()).expect("a test"));
    let builder = Client::builder().resume(resume).meter(Arc::clone(&meter));
    let gate = Arc::new(Semaphore::new(dials));
    let opens = Arc::clone(&gate);
    let client = builder.connect_with(move || {
        let (gate, dialled) = (Arc::clone(&gate), dialled.clone());
        async move {
            gate.acquire().await.expect("it is never closed").forget();
            let (near, far) = memory(4096);
            dialled.try_send(far).expect("a test");
            Ok(near)
        }
    });
    let transports = Dialled { transports, opens };
    (client.await.expect("memory connects"), transports, meter, events)
}

struct Dialled {
    transports: mpsc::Receiver<DuplexStream>,
    /// How many more there are to be had.
    opens: Arc<Semaphore>,
}

impl Dialled {
    async fn next(&mut self) -> Peer {
        Peer(self.transports.recv().await.expect("a client dials"))
    }
}

/// RESUME-21: what was said to be on its way and is not known to have arrived is counted, and told.
#[tokio::test(start_paused = true)]
async fn fire_and_forgets_of_a_session_that_is_gone_are_lost() {
    let (client, mut dialled, meter, mut events) = session(2).await;
    let mut peer = dialled.next().await;
    assert!(peer.next().await.to_string().starts_with("SETUP"));
    let mut position = 0;
    for n in 0..5 {
        client.fire_and_forget(n.to_string()).await.expect("on its way");
        position += peer.next().await.encode().len() as u64;
    }
    // The first five have arrived; of the next two nobody knows.
    peer.send(&ka(0, position, "")).await;
    for _ in 0..2 {
        client.fire_and_forget("unacknowledged").await.expect("on its way");
        peer.next().await;
    }
    drop(peer);
    assert_eq!(events.recv().await, Some(SessionEvent::Suspended));
    // What is told now is kept for the next transport.
    client.fire_and_forget("kept").await.expect("kept");
    client.fire_and_forget(vec![b'x'; 100_000]).await.expect("kept, in fragments");
    let mut ping = std::pin::pin!(client.ping());
    assert!(poll!(ping.as_mut()).is_pending());
    let mut push = std::pin::pin!(client.metadata_push("m"));
    assert!(poll!(push.as_mut()).is_pending());
    let mut peer = dialled.next().await;
    assert!(peer.next().await.to_string().starts_with("RESUME"));
    peer.send(&err(0, 4, "no such session")).await;
    let reason = said_by_the_peer(4, "no such session");
    assert_eq!(ping.await, Err(maybe_sent(reason.clone())));
    assert_eq!(push.await, Err(never_sent(reason.clone())));
    assert_eq!(events.recv().await, Some(SessionEvent::Lost { fire_and_forget: 4 }));
    assert_eq!(meter.read().lost_fire_and_forget, 4);
    // Between two sessions nothing is on its way.
    let mut between = client.fire_and_forget("between").boxed();
    assert!(poll!(&mut between).is_pending());
    sleep(AT_ONCE).await;
    assert!(poll!(&mut between).is_pending());
    dialled.opens.add_permits(1);
    let mut peer = dialled.next().await;
    assert!(peer.next().await.to_string().starts_with("SETUP"));
    assert_eq!(events.recv().await, Some(SessionEvent::Renewed(reason)));
    between.await.expect("on its way");
    assert_eq!(peer.next().await, fnf(1, "between"));
    assert_eq!(meter.read().lost_fire_and_forget, 4);
}

/// A session that is being closed is not followed by another when the server does not know it.
#[tokio::test(start_paused = true)]
async fn a_close_that_meets_the_end_of_its_session_is_the_end() {
    let (client, mut dialled, meter, mut events) = session(9).await;
    let mut peer = dialled.next().await;
    assert!(peer.next().await.to_string().starts_with("SETUP"));
    accepted(&client, &mut peer).await;
    let mut open = client.request_response("open");
    assert!(poll!(&mut open).is_pending());
    client.fire_and_forget("told").await.expect("on its way");
    peer.next().await;
    drop(peer);
    assert_eq!(events.recv().await, Some(SessionEvent::Suspended));
    let mut peer = dialled.next().await;
    let mut close = std::pin::pin!(client.close());
    assert!(poll!(close.as_mut()).is_pending());
    assert!(peer.next().await.to_string().starts_with("RESUME"));
    peer.send(&err(0, 4, "no such session")).await;
    let reason = said_by_the_peer(4, "no such session");
    assert_eq!(at_once(&mut open).await, Err(maybe_sent(reason.clone())));
    assert_eq!(timeout(Duration::from_secs(1), close).await, Ok(reason));
    assert_eq!(meter.read().lost_fire_and_forget, 1);
    assert_eq!(events.recv().await, Some(SessionEvent::Lost { fire_and_forget: 1 }));
    assert_eq!(events.recv().await, None, "it is over");
}

/// SETUP itself was lost on its way: nothing that followed it has arrived.
#[tokio::test(start_paused = true)]
async fn fire_and_forgets_behind_a_setup_that_was_lost_are_lost() {
    let (client, mut dialled, meter, mut events) = session(9).await;
    client.fire_and_forget("lost").await.expect("on its way");
    sleep(AT_ONCE).await;
    // Nobody reads it: there is no session to come back to.
    drop(dialled.next().await);
    assert_eq!(events.recv().await, Some(SessionEvent::Lost { fire_and_forget: 1 }));
    assert_eq!(meter.read().lost_fire_and_forget, 1);
    assert_eq!(client.closed().await, CloseReason::ClosedAfterSetup);
}

/// SETUP-24: without a session, what followed a SETUP that is refused, or of which nothing is heard.
#[tokio::test(start_paused = true)]
async fn fire_and_forgets_behind_a_setup_that_is_refused_are_lost() {
    for (accepts, refuses, lost) in
        [(false, true, 2), (false, false, 2), (true, true, 0), (true, false, 0)]
    {
        let meter = Arc::new(Meter::default());
        let (client, mut peer) = client_of(Client::builder().meter(Arc::clone(&meter))).await;
        if accepts {
            accepted(&client, &mut peer).await;
        }
        for _ in 0..2 {
            client.fire_and_forget("told").await.expect("on its way");
            peer.next().await;
        }
        if refuses {
            peer.send(&err(0, 0x101, "no entry")).await;
        }
        drop(peer);
        client.closed().await;
        assert_eq!(meter.read().lost_fire_and_forget, lost, "{accepts} {refuses}");
    }
    // Closed here, they have had their time.
    let meter = Arc::new(Meter::default());
    let (client, _peer) = client_of(Client::builder().meter(Arc::clone(&meter))).await;
    client.fire_and_forget("told").await.expect("on its way");
    client.close().await;
    assert_eq!(meter.read().lost_fire_and_forget, 0);
}

/// SETUP-24: a client that has told something and is closed learns of a refusal that comes meanwhile.
#[tokio::test(start_paused = true)]
async fn a_close_that_meets_a_refusal() {
    for (code, refuses) in [(3, true), (0x101, true), (0x102, false)] {
        for split in [false, true] {
            let meter = Arc::new(Meter::default());
            let (client, mut peer) = client_of(Client::builder().meter(Arc::clone(&meter))).await;
            client.fire_and_forget("told").await.expect("on its way");
            let closing = tokio::spawn(async move { client.close().await });
            assert_eq!(peer.next().await, fnf(1, "told"));
            peer.next().await;
            let frame = err(0, code, "no entry").encode();
            let frame = [&[0, 0, frame.len() as u8], &frame[..]].concat();
            let (start, rest) = frame.split_at(if split { 5 } else { 0 });
            peer.0.write_all(start).await.expect("memory");
            sleep(AT_ONCE).await;
            peer.0.write_all(rest).await.expect("memory");
            let expected = if refuses {
                said_by_the_peer(code, "no entry")
            } else {
                CloseReason::Finished(Side::Local)
            };
            assert_eq!(closing.await.expect("no panic"), expected);
            assert_eq!(meter.read().lost_fire_and_forget, u64::from(refuses));
        }
    }
}

/// The requests that were promised and did not get further than the send buffer's door.
#[tokio::test(start_paused = true)]
async fn fire_and_forgets_that_were_not_written_are_lost() {
    let meter = Arc::new(Meter::default());
    let (client, mut peer) = client_of(Client::builder().meter(Arc::clone(&meter))).await;
    accepted(&client, &mut peer).await;
    // More than the socket and the buffer take.
    for _ in 0..100 {
        client.fire_and_forget(vec![0; 10_000]).await.expect("on its way");
    }
    sleep(AT_ONCE).await;
    // In one write: what it has begun is not known.
    drop(peer);
    client.closed().await;
    let lost = meter.read().lost_fire_and_forget;
    assert!((80..=100).contains(&lost), "{lost}");
}

/// A stream that the peer has opened is not ours to count.
#[tokio::test(start_paused = true)]
async fn the_peers_streams_are_not_counted() {
    let meter = Arc::new(Meter::default());
    let builder = Client::builder().meter(Arc::clone(&meter)).acceptor(Fixture::default());
    let (client, mut peer) = client_of(builder).await;
    peer.send(&rs(2, 9, "never")).await;
    peer.send(&fnf(4, "never")).await;
    peer.send(&rr(6, "x")).await;
    assert_eq!(peer.next().await, p(6, N | C, "x"));
    let mut call = client.request_response("cancelled");
    assert!(poll!(&mut call).is_pending());
    drop(call);
    drop(peer);
    client.closed().await;
    assert_eq!(meter.read().lost_fire_and_forget, 0);
}

// ---- whatever the other side does ----------------------------------------------------------------

/// Everything that waits on a connection, with what it waits for; none of it is answered by who says
/// nothing but KEEPALIVE.
fn waits(client: &Client) -> Vec<(&'static str, BoxFuture<'static, ()>)> {
    let [one, two, three, four, five] = [(); 5].map(|()| client.clone());
    let mut pending = client.request_channel(stream::pending::<Payload>());
    let source = stream::iter(["c"]).chain(stream::pending());
    let mut open = client.request_channel(source);
    let mut items = client.request_stream("s");
    vec![
        ("response", client.request_response("r").map(drop).boxed()),
        ("items", async move { drop(items.next().await) }.boxed()),
        ("channel", async move { drop(open.next().await) }.boxed()),
        ("channel without a payload", async move { drop(pending.next().await) }.boxed()),
        ("fire-and-forget", async move { drop(one.fire_and_forget("f").await) }.boxed()),
        ("push", async move { drop(two.metadata_push("m").await) }.boxed()),
        ("lease", async move { drop(three.next_lease().await) }.boxed()),
        ("the end", async move { drop(four.closed().await) }.boxed()),
        ("close", async move { drop(five.close().await) }.boxed()),
    ]
}

/// The behaviour of a peer once it has read SETUP, for as long as it is let.
async fn misbehave(how: &'static str, mut far: DuplexStream) {
    let alive = ka(0, 0, "").encode();
    let alive = [&[0, 0, alive.len() as u8], &alive[..]].concat();
    match how {
        "dies" => return,
        "is silent" => {}
        "reads and is silent" => {
            while far.read(&mut [0; 1024]).await.is_ok_and(|count| count > 0) {}
        }
        "closes its half" => {
            far.shutdown().await.expect("memory");
            while far.read(&mut [0; 1024]).await.is_ok_and(|count| count > 0) {}
        }
        "stops in a frame" => far.write_all(&alive[..5]).await.expect("memory"),
        "is alive and does not read" => {
            while far.write_all(&alive).await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        }
        "is alive and reads" => loop {
            let mut read = [0; 1024];
            match timeout(Duration::from_secs(1), far.read(&mut read)).await {
                Ok(Ok(0) | Err(_)) => return,
                _ if far.write_all(&alive).await.is_err() => return,
                _ => {}
            }
        },
        how => unreachable!("{how}"),
    }
    std::future::pending().await
}

/// Nothing waits beyond the time that `docs/waits.md` says, and what may wait for ever ends with
/// `abort`.
#[tokio::test(start_paused = true)]
async fn every_wait_ends_whatever_the_other_side_does() {
    let lifetime = Duration::from_secs(90);
    for (how, within) in [
        ("dies", Some(Duration::ZERO)),
        ("closes its half", Some(Duration::ZERO)),
        ("is silent", Some(lifetime)),
        ("reads and is silent", Some(lifetime)),
        ("stops in a frame", Some(lifetime)),
        ("is alive and does not read", None),
        ("is alive and reads", None),
    ] {
        for leases in [false, true] {
            let count = waits(&client().await.0).len();
            for index in 0..count {
                let builder = Client::builder().acceptor(Fixture::default());
                let builder = if leases { builder.lease(SharedLease::default()) } else { builder };
                let (near, mut far) = memory(256);
                let client = builder.connect_over(near).await.expect("memory connects");
                let mut held = client.request_response(vec![0; 1_000]);
                assert!(poll!(&mut held).is_pending());
                let (name, wait) = waits(&client).swap_remove(index);
                let waiting = tokio::spawn(wait);
                assert!(far.read(&mut [0; 64]).await.expect("SETUP") > 0);
                let misbehaving = tokio::spawn(misbehave(how, far));
                let start = Instant::now();
                let until = within.unwrap_or(lifetime * 10) + Duration::from_secs(1);
                let ended = timeout(until, client.closed()).await.is_ok();
                // With nothing open, as where a lease is waited for, a close is all it takes.
                if name != "close" {
                    assert_eq!(ended, within.is_some(), "{how}: {name}, {leases}");
                }
                let abort = timeout(Duration::from_secs(2), client.abort()).await;
                abort.unwrap_or_else(|_| panic!("{how}: {name}, {leases}: no abort"));
                let ended = timeout(AT_ONCE, waiting).await;
                ended.unwrap_or_else(|_| panic!("{how}: {name}, {leases}: waits")).expect(name);
                assert!(start.elapsed() <= until + Duration::from_secs(2));
                misbehaving.abort();
            }
        }
    }
}

/// A session that nobody takes up again: everything that waits for it ends with its window.
#[tokio::test(start_paused = true)]
async fn every_wait_ends_with_the_window_of_its_session() {
    let window = Duration::from_secs(60);
    for how in ["no transport", "is silent", "reads and is silent", "dies"] {
        let (client, mut dialled, _, _events) =
            session(if how == "no transport" { 1 } else { 1_000 }).await;
        let mut peer = dialled.next().await;
        accepted_after_setup(&client, &mut peer).await;
        let mut all: Vec<_> = waits(&client)
            .into_iter()
            .filter(|(name, _)| *name != "close")
            .map(|(name, wait)| (name, tokio::spawn(wait)))
            .collect();
        sleep(AT_ONCE).await;
        drop(peer);
        let misbehaving = tokio::spawn(async move {
            let mut transports = tokio::task::JoinSet::new();
            loop {
                let far = dialled.next().await.0;
                transports.spawn(misbehave(how, far));
            }
        });
        let start = Instant::now();
        let reason = client.closed().await;
        assert!(start.elapsed() <= window + Duration::from_secs(1), "{how}: {:?}", start.elapsed());
        assert_eq!(reason, CloseReason::ResumeWindowOver, "{how}");
        for (name, wait) in &mut all {
            let ended = timeout(AT_ONCE, wait).await;
            ended.unwrap_or_else(|_| panic!("{how}: {name} waits")).expect(name);
        }
        misbehaving.abort();
    }
}

async fn accepted_after_setup(client: &Client, peer: &mut Peer) {
    assert!(peer.next().await.to_string().starts_with("SETUP"));
    accepted(client, peer).await;
}

/// Connecting has its limit, whatever the server does with its connection.
#[tokio::test(start_paused = true)]
async fn connecting_ends() {
    let limit = Duration::from_secs(3);
    for how in ["is silent", "reads and is silent", "dies", "is alive and does not read"] {
        limit_time();
        let (near, far) = memory(256);
        let misbehaving = tokio::spawn(misbehave(how, far));
        let builder = Client::builder().connect_timeout(limit).wait_until_accepted(true);
        let start = Instant::now();
        builder.connect_over(near).await.expect_err("it is not accepted");
        let most = limit + Duration::from_secs(2);
        assert!(start.elapsed() <= most, "{how}: {:?}", start.elapsed());
        misbehaving.abort();
    }
    let dial = || std::future::pending::<io::Result<DuplexStream>>();
    let start = Instant::now();
    let error = Client::builder().connect_timeout(limit).connect_with(dial).await.err();
    assert!(error.is_some() && start.elapsed() == limit);
}

// ---- a driver that panics ------------------------------------------------------------------------

/// A byte stream that panics at the nth call for reading or writing.
struct Panicking<IO> {
    io: IO,
    calls: usize,
}

impl<IO> Panicking<IO> {
    fn count(&mut self) {
        assert_ne!(self.calls, 0, "a transport panics");
        self.calls -= 1;
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Panicking<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.count();
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Panicking<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.count();
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// A transport of the caller's own panics, and with it the connection's task: whoever waits is told,
/// whatever the driver had in its hands.
#[tokio::test]
async fn a_transport_that_panics_ends_every_wait() {
    for calls in 0..60 {
        limit_time();
        let (near, far) = memory(256);
        let served = async { Server::builder().serve_over(far, Fixture::default()).await };
        let served = tokio::spawn(served);
        let near = Panicking { io: near, calls };
        let client = Client::builder().max_requests(8).connect_over(near).await.expect("memory");
        let mut all: Vec<_> = waits(&client)
            .into_iter()
            .filter(|(name, _)| *name != "close")
            .map(|(name, wait)| (name, tokio::spawn(wait)))
            .collect();
        for _ in 0..10 {
            let client = client.clone();
            let asks = async move { while client.request_response("x").await.is_ok() {} };
            all.push(("responses", tokio::spawn(asks)));
        }
        for (name, wait) in all {
            let ended = timeout(Duration::from_secs(20), wait).await;
            ended.unwrap_or_else(|_| panic!("{calls}: {name} waits")).expect(name);
        }
        assert_eq!(client.close().await, CloseReason::Disconnected);
        served.abort();
    }
}
