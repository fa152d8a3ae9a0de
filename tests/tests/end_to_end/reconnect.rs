//! Clients that lose their server again and again, without resume: what is pending fails by its
//! reason, and what is asked afterwards goes to the next one.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt, StreamExt};
use rsock::{
    Client, CloseReason, Config, ConnectError, ConnectionState, Error, ErrorCode, Meter, Payload,
    PayloadExt, Peer as Other, Reconnect, ReconnectEvent, Request, Responder, ResumeLimits, Sent,
    Server, Side, metadata::Authentication,
};
use rsock_tests::{
    cutter::Cutter,
    link::{Served, free_path},
    process::{Process, rsockd},
    script::{PATIENCE, Peer, PeerListener, SCHEMES},
    wire::{C, Framing, N, err, ka, mp, p},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf},
    process::Command,
    sync::{mpsc, watch},
};

use crate::resume::{Events as SessionEvents, within};

/// The events that a client's observer was told, in order.
#[derive(Clone, Debug)]
struct Events(watch::Sender<Vec<ReconnectEvent>>);

impl Default for Events {
    fn default() -> Self {
        Self(watch::Sender::new(Vec::new()))
    }
}

impl Events {
    fn reconnect(&self) -> Reconnect {
        let events = self.clone();
        Reconnect::new()
            .pauses(Duration::from_millis(1), Duration::from_millis(20))
            .wait(PATIENCE)
            .observe(move |event| events.0.send_modify(|events| events.push(event.clone())))
    }

    /// Waits until as many events are of this kind.
    async fn wait(&self, count: usize, is_meant: impl Fn(&ReconnectEvent) -> bool) {
        let mut events = self.0.subscribe();
        let are_told = |events: &Vec<ReconnectEvent>| {
            events.iter().filter(|event| is_meant(event)).count() >= count
        };
        if tokio::time::timeout(PATIENCE, events.wait_for(are_told)).await.is_err() {
            panic!("{:?}", self.0.borrow());
        }
    }

    async fn wait_connected(&self, count: usize) {
        self.wait(count, |event| matches!(event, ReconnectEvent::Connected { .. })).await;
    }

    fn gave_up(&self) -> Option<CloseReason> {
        self.0.borrow().iter().find_map(|event| match event {
            ReconnectEvent::GaveUp(reason) => Some(reason.clone()),
            _ => None,
        })
    }
}

fn is_lost(event: &ReconnectEvent) -> bool {
    matches!(event, ReconnectEvent::Lost(_))
}

fn failed_attempt(event: &ReconnectEvent) -> bool {
    matches!(event, ReconnectEvent::AttemptFailed { .. })
}

fn lost(reason: CloseReason, sent: Sent) -> Error {
    Error::Closed { reason, sent, fragmented: None }
}

async fn serve_at(uri: &str) -> Process {
    let mut command = Command::new(rsockd());
    command.args(["--listen", uri, "--listen", "tcp://127.0.0.1:0"]);
    // A Unix socket has no URI that a test has to be told.
    Process::start(command, if uri.starts_with("unix:") { 1 } else { 2 }).await
}

#[tokio::test]
async fn a_client_outlives_three_restarts_of_its_server() {
    let path = format!("unix:{}", free_path().display());
    for uri in ["tcp://127.0.0.1:0", "ws://127.0.0.1:0/rsocket", &path] {
        for is_asked in [false, true] {
            outlive_restarts(uri, is_asked).await;
        }
    }
}

fn routed(data: &'static str, route: &str) -> Payload {
    Payload::new(data).route(route).expect("a short route")
}

async fn outlive_restarts(uri: &str, is_asked: bool) {
    let mut server = serve_at(uri).await;
    let uri = if uri.starts_with("unix:") { uri.to_owned() } else { server.uris[0].clone() };
    let (events, meter) = (Events::default(), Arc::new(Meter::default()));
    let builder = Client::builder().meter(Arc::clone(&meter)).reconnect(events.reconnect());
    let client = builder.connect(&uri).await.expect("a connection");
    let ask = |data: &'static str| client.request_response(routed(data, "echo"));
    for round in 1..=3 {
        assert_eq!(within(ask("before")).await.expect("a reply").data, "before");
        let clock = routed(r#"{"interval_ms":5}"#, "clock");
        let mut ticks = client.request_stream(clock);
        within(ticks.next()).await.expect("a tick").expect("no failure");
        if is_asked {
            // It would be waited for.
            drop(ticks);
            let id = server.id().to_string();
            let asked = Command::new("kill").args(["-TERM", &id]).status().await;
            assert!(asked.expect("a signal").success());
            assert!(within(server.ended()).await.success());
        } else {
            drop(server);
            let end =
                within(ticks.skip_while(|tick| std::future::ready(tick.is_ok())).next()).await;
            let Some(Err(Error::Closed { reason, sent: Sent::Maybe, .. })) = end else {
                panic!("{end:?}")
            };
            assert_ne!(reason, CloseReason::Finished(Side::Local));
        }
        events.wait(round, is_lost).await;
        // Asked while there is nobody.
        let waiting = ask("after");
        let (restarted, reply) = tokio::join!(serve_at(&uri), within(waiting));
        assert_eq!(reply.expect("a reply").data, "after");
        events.wait_connected(round).await;
        assert_eq!(client.state(), ConnectionState::Established);
        server = restarted;
    }
    assert_eq!(meter.read().reconnects, 3);
    assert_eq!(within(client.close()).await, CloseReason::Finished(Side::Local));
    assert_eq!(events.gave_up(), None);
}

/// Waits until the connection is so.
async fn reaches(client: &Client, state: ConnectionState) {
    within(async {
        while client.state() != state {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// The next client, who has been told that it was taken, and knows.
async fn accept(listener: &PeerListener, client: &Client) -> Peer {
    let mut peer = listener.accept_setup().await;
    take(&mut peer, client).await;
    peer
}

async fn take(peer: &mut Peer, client: &Client) {
    // It asks for a sign of life by itself.
    assert_eq!(peer.next().await.to_string(), "KA(R)");
    peer.send(ka(0, 0, "")).await;
    reaches(client, ConnectionState::Established).await;
}

#[tokio::test]
async fn what_is_asked_waits_for_no_longer_than_it_may() {
    let listener = PeerListener::bind().await;
    let events = Events::default();
    for wait in [Duration::ZERO, Duration::from_millis(40)] {
        let builder = Client::builder().reconnect(events.reconnect().wait(wait));
        let client = builder.connect(&listener.uri()).await.expect("a connection");
        let mut peer = accept(&listener, &client).await;
        let pending = tokio::spawn(client.request_response("pending"));
        peer.next().await;
        drop(peer);
        let failed = within(pending).await.expect("no panic");
        assert_eq!(failed, Err(lost(CloseReason::Disconnected, Sent::Maybe)), "{wait:?}");
        // Nobody answers the next connection.
        let _silent = listener.accept_setup().await;
        reaches(&client, ConnectionState::Connecting).await;
        let mut items = client.request_stream("x");
        let refused = [
            within(client.request_response("x")).await.expect_err("no server"),
            within(client.fire_and_forget("x")).await.expect_err("no server"),
            within(client.ping()).await.expect_err("no server"),
            within(client.metadata_push("x")).await.expect_err("no server"),
            within(items.next()).await.expect("an end").expect_err("no server"),
        ];
        for error in refused {
            let expected = Error::Unavailable { waited: wait, reason: CloseReason::Disconnected };
            assert_eq!(error, expected);
        }
        within(client.abort()).await;
    }
}

/// What waits is sent when a server has taken the connection, in its order and once.
#[tokio::test]
async fn nothing_is_sent_before_the_next_server_takes_the_connection() {
    for scheme in SCHEMES {
        let listener = PeerListener::bind_for(scheme).await;
        let events = Events::default();
        let builder = Client::builder().reconnect(events.reconnect());
        let uri = listener.uri();
        let (client, mut peer) = tokio::join!(builder.connect(&uri), listener.accept_setup());
        let client = client.expect("a connection");
        take(&mut peer, &client).await;
        drop(peer);
        events.wait(1, is_lost).await;
        let asked = client.clone();
        let asked = tokio::spawn(async move {
            let calls = (0..3).map(|n| asked.request_response(format!("{n}")));
            futures_util::future::join_all(calls).await
        });
        for _ in 0..2 {
            let mut refusing = listener.accept_setup().await;
            refusing.next().await;
            refusing.send(err(0, 0x101, "not yet")).await;
            // Nothing was asked of it.
            while let Some(frame) = refusing.next_or_end().await {
                assert!(!frame.is_request(), "{frame}");
            }
        }
        let mut peer = accept(&listener, &client).await;
        for n in 0..3 {
            let request = peer.next().await;
            assert_eq!(request.data, n.to_string().as_bytes(), "{request}");
            peer.send(p(request.stream, N | C, format!("{n}!"))).await;
        }
        for (n, reply) in within(asked).await.expect("no panic").into_iter().enumerate() {
            assert_eq!(reply.expect("a reply").data, format!("{n}!"));
        }
        events.wait_connected(1).await;
        let told = events.0.borrow().last().cloned();
        assert_eq!(told, Some(ReconnectEvent::Connected { attempts: 3 }));
    }
}

/// A first refusal ends it, and so does one that no other attempt can change; REJECTED_SETUP has it
/// try again, and not within a second.
#[tokio::test]
async fn refusals_of_setup_end_what_they_must() {
    let refused =
        |code: ErrorCode| CloseReason::Error { by: Side::Peer, code, message: "no".into() };
    for code in [ErrorCode::REJECTED_SETUP, ErrorCode::INVALID_SETUP, ErrorCode::UNSUPPORTED_SETUP]
    {
        let listener = PeerListener::bind().await;
        let events = Events::default();
        let builder = Client::builder().reconnect(events.reconnect());
        let client = builder.connect(&listener.uri()).await.expect("a connection");
        listener.accept_setup().await.send(err(0, code.0, "no")).await;
        assert_eq!(within(client.closed()).await, refused(code));
        assert_eq!(events.gave_up(), Some(refused(code)));

        let events = Events::default();
        let builder = Client::builder().reconnect(events.reconnect());
        let client = builder.connect(&listener.uri()).await.expect("a connection");
        drop(accept(&listener, &client).await);
        listener.accept_setup().await.send(err(0, code.0, "no")).await;
        if code != ErrorCode::REJECTED_SETUP {
            assert_eq!(within(client.closed()).await, refused(code));
            assert_eq!(events.gave_up(), Some(refused(code)));
            continue;
        }
        events.wait(1, failed_attempt).await;
        let before = std::time::Instant::now();
        let waiting = tokio::spawn(client.request_response("x"));
        let mut peer = accept(&listener, &client).await;
        assert!(before.elapsed() > Duration::from_millis(900), "{:?}", before.elapsed());
        let request = peer.next().await;
        peer.send(p(request.stream, N | C, "y")).await;
        assert_eq!(within(waiting).await.expect("no panic").expect("a reply").data, "y");
    }
}

#[tokio::test]
async fn attempts_may_have_an_end() {
    let served = Served::start().await;
    let cutter = Cutter::start(served.tcp(), []).await;
    let events = Events::default();
    let builder = Client::builder().reconnect(events.reconnect().attempts(3));
    let client =
        builder.wait_until_accepted(true).connect(cutter.uri()).await.expect("a connection");
    cutter.refuse(true);
    cutter.cut();
    events.wait(1, is_lost).await;
    let waiting = tokio::spawn(client.request_response("x"));
    let reason = within(client.closed()).await;
    // A relay that closes what it has taken.
    assert_eq!(reason, CloseReason::ClosedAfterSetup);
    assert_eq!(within(waiting).await.expect("no panic"), Err(lost(reason.clone(), Sent::Never)));
    assert_eq!(events.gave_up(), Some(reason));
    assert_eq!(events.0.borrow().iter().filter(|event| failed_attempt(event)).count(), 2);
}

/// CONNECTION_CLOSE: what is under way goes on there, and what is new waits for the next server.
#[tokio::test]
async fn a_server_that_says_it_closes_is_left() {
    let listener = PeerListener::bind().await;
    let events = Events::default();
    let builder = Client::builder().reconnect(events.reconnect());
    let client = builder.connect(&listener.uri()).await.expect("a connection");
    let mut peer = accept(&listener, &client).await;
    let under_way = tokio::spawn(client.request_response("under way"));
    let request = peer.next().await;
    peer.send(err(0, 0x102, "going away")).await;
    // The answer to this shows that the farewell was read.
    peer.send(ka(0x080, 0, "fence")).await;
    assert_eq!(peer.next().await.data, b"fence");
    let next = tokio::spawn(client.request_response("next"));
    peer.send(p(request.stream, N | C, "done")).await;
    assert_eq!(within(under_way).await.expect("no panic").expect("a reply").data, "done");
    let mut another = accept(&listener, &client).await;
    let request = another.next().await;
    assert_eq!(request.data, b"next");
    another.send(p(request.stream, N | C, "there")).await;
    assert_eq!(within(next).await.expect("no panic").expect("a reply").data, "there");
    while let Some(frame) = peer.next_or_end().await {
        assert!(!frame.is_request(), "{frame}");
    }
    events.wait_connected(1).await;
}

#[tokio::test]
async fn credentials_are_asked_for_before_each_setup() {
    let listener = PeerListener::bind().await;
    let events = Events::default();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let builder = Client::builder().reconnect(events.reconnect()).authentication_with(move || {
        let number = count.fetch_add(1, Relaxed);
        async move {
            match number {
                // The issuer is not there for a while.
                2 => Err("the issuer does not answer".to_owned()),
                number => Ok(Authentication::bearer(&format!("token {number}"))),
            }
        }
    });
    let client = builder.connect(&listener.uri()).await.expect("a connection");
    for number in [0, 1, 3] {
        let mut peer = listener.accept().await;
        let setup = peer.next().await;
        let metadata =
            String::from_utf8_lossy(setup.metadata.as_ref().expect("credentials")).into_owned();
        assert!(metadata.ends_with(&format!("token {number}")), "{metadata}");
        peer.next().await;
        peer.send(ka(0, 0, "")).await;
        reaches(&client, ConnectionState::Established).await;
    }
    let failed = events.0.borrow().iter().find(|event| failed_attempt(event)).cloned();
    let Some(ReconnectEvent::AttemptFailed { attempt: 1, error, .. }) = failed else {
        panic!("{failed:?}")
    };
    assert_eq!(error, "no credentials for the connection: the issuer does not answer");

    let refused = Client::builder()
        .authentication_with(|| std::future::ready(Err("no")))
        .connect(&listener.uri())
        .await
        .expect_err("no credentials");
    assert_eq!(refused, ConnectError::Credentials("no".into()));
}

/// With resume as well: first that, without any loss, and a new connection where the session is gone.
#[tokio::test]
async fn a_session_is_resumed_where_it_can_be() {
    let resumable = || Server::builder().resume(ResumeLimits::default(), 100);
    let served = Served::with(resumable()).await;
    let cutter = Cutter::start(served.tcp(), []).await;
    let (events, sessions) = (Events::default(), SessionEvents::default());
    let builder = Client::builder().reconnect(events.reconnect()).resume(sessions.resume());
    let client = builder.connect(cutter.uri()).await.expect("a connection");
    let mut numbers = client.request_stream("count:100").credit(5);
    for expected in 0..100 {
        if expected % 25 == 10 {
            cutter.cut();
        }
        let item = within(numbers.next()).await.expect("an item").expect("no failure");
        assert_eq!(item.data, expected.to_string());
    }
    assert_eq!(*events.0.borrow(), []);
    assert!(sessions.count(&rsock::SessionEvent::Resumed) >= 1);

    // Another server on the way: it does not know the session.
    drop(cutter);
    let listener = PeerListener::bind().await;
    let relay = Cutter::start(&listener.uri(), []).await;
    let events = Events::default();
    let builder = Client::builder().reconnect(events.reconnect()).resume(sessions.resume());
    let client = builder.connect(relay.uri()).await.expect("a connection");
    let mut peer = accept(&listener, &client).await;
    let pending = tokio::spawn(client.request_response("pending"));
    peer.next().await;
    relay.cut();
    let mut resuming = listener.accept().await;
    assert!(resuming.next().await.to_string().starts_with("RESUME("));
    resuming.send(err(0, 0x004, "no such session")).await;
    let failed = within(pending).await.expect("no panic").expect_err("its session is gone");
    assert!(
        matches!(
            &failed,
            Error::Closed {
                reason: CloseReason::Error { code: ErrorCode::REJECTED_RESUME, .. },
                ..
            }
        ),
        "{failed:?}"
    );
    accept(&listener, &client).await;
    events.wait_connected(1).await;
}

/// A server without resume is spoken to without it, from the first connection on.
#[tokio::test]
async fn without_resume_a_server_is_spoken_to_without_it() {
    let served = Served::start().await;
    let mut begun = 0;
    for uri in [served.tcp(), served.ws(), served.unix()] {
        let cutter = Cutter::start(uri, []).await;
        let (events, sessions) = (Events::default(), SessionEvents::default());
        let builder = Client::builder().reconnect(events.reconnect()).resume(sessions.resume());
        let client = builder.connect(cutter.uri()).await.expect("a connection");
        let reply = within(client.request_response("first")).await.expect("a reply");
        assert_eq!(reply.data, "first", "{uri}");
        assert_eq!(*events.0.borrow(), [], "{uri}: nothing was lost");
        for _ in 0..3 {
            let never = tokio::spawn(client.request_response("never"));
            begun += 1;
            served.fixture.recorder.wait_count("never runs", begun).await;
            cutter.cut();
            let failed = within(never).await.expect("no panic");
            assert_eq!(failed, Err(lost(CloseReason::Disconnected, Sent::Maybe)), "{uri}");
            let reply = within(client.request_response("again")).await.expect("a reply");
            assert_eq!(reply.data, "again", "{uri}");
        }
        within(client.close()).await;
        assert_eq!(events.gave_up(), None);
    }
}

#[tokio::test]
async fn closing_ends_the_attempts() {
    for now in [false, true] {
        let served = Served::start().await;
        let cutter = Cutter::start(served.tcp(), []).await;
        let events = Events::default();
        let builder = Client::builder().reconnect(events.reconnect()).wait_until_accepted(true);
        let client = builder.connect(cutter.uri()).await.expect("a connection");
        cutter.refuse(true);
        cutter.cut();
        events.wait(2, failed_attempt).await;
        let waiting = tokio::spawn(client.request_response("x"));
        let reason =
            within(if now { client.abort().boxed() } else { client.close().boxed() }).await;
        assert_eq!(reason, CloseReason::Finished(Side::Local));
        let failed = within(waiting).await.expect("no panic");
        assert_eq!(failed, Err(lost(reason, Sent::Never)));
        assert_eq!(events.gave_up(), None);
    }
}

#[tokio::test]
async fn a_byte_stream_alone_cannot_reconnect() {
    let (near, _far) = rsock::memory(64);
    let refused = Client::builder().reconnect(Reconnect::new()).connect_over(near).await;
    let error = refused.expect_err("nothing can be dialled");
    assert!(error.to_string().contains("something that dials"), "{error}");
}

/// A byte stream that fails to be written to once it is told to.
struct Failing {
    io: DuplexStream,
    fails: Arc<AtomicBool>,
}

impl AsyncRead for Failing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Failing {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.fails.load(Relaxed) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// The other ends of the byte streams that a client has dialled, in their order.
fn dialled(
    fails: Arc<AtomicBool>,
) -> (impl Fn() -> std::future::Ready<io::Result<Failing>>, mpsc::Receiver<DuplexStream>) {
    let (ends, dialled) = mpsc::channel(16);
    let dial = move || {
        let (io, end) = tokio::io::duplex(1 << 16);
        let is_first = ends.try_send(end).is_ok() && !fails.load(Relaxed);
        let fails = if is_first { Arc::clone(&fails) } else { Arc::default() };
        std::future::ready(Ok(Failing { io, fails }))
    };
    (dial, dialled)
}

async fn say(io: &mut DuplexStream, frame: rsock_tests::wire::Frame) {
    io.write_all(&Framing::Tcp.wrap_masked(None, &frame.encode())).await.expect("room");
}

/// The next frame that is not SETUP, or a KEEPALIVE, which is answered.
async fn heard(io: &mut DuplexStream) -> Option<rsock_tests::wire::Frame> {
    loop {
        let mut len = [0; 4];
        io.read_exact(&mut len[1..]).await.ok()?;
        let mut frame = vec![0; u32::from_be_bytes(len) as usize];
        io.read_exact(&mut frame).await.ok()?;
        let frame = rsock_tests::wire::Frame::decode(&frame).expect("a frame");
        match frame.to_string().get(..2) {
            Some("KA") => say(io, ka(0, 0, "")).await,
            Some("SE") => {}
            _ => return Some(frame),
        }
    }
}

/// The server says why it ends, and cannot be written to any more when that is read.
#[tokio::test]
async fn a_write_that_failed_costs_no_transport_but_its_own() {
    let fails = Arc::new(AtomicBool::new(false));
    let (dial, mut ends) = dialled(Arc::clone(&fails));
    let events = Events::default();
    let builder = Client::builder().reconnect(events.reconnect());
    let client = builder.connect_with(dial).await.expect("a connection");
    let mut first = ends.recv().await.expect("an end");
    say(&mut first, ka(0, 0, "")).await;
    reaches(&client, ConnectionState::Established).await;
    fails.store(true, Relaxed);
    let failed = client.clone();
    let failed = tokio::spawn(async move { failed.request_response("x").await });
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    say(&mut first, err(0, 0x101, "enough")).await;
    within(failed).await.expect("no panic").expect_err("it is over");
    let mut second = ends.recv().await.expect("an end");
    let asked = tokio::spawn(client.request_response("y"));
    let request = within(heard(&mut second)).await.expect("a request");
    // As long as a failed write waits for what was unread.
    tokio::time::sleep(Duration::from_millis(300)).await;
    say(&mut second, p(request.stream, N | C, "z")).await;
    assert_eq!(within(asked).await.expect("no panic").expect("a reply").data, "z");
    assert_eq!(events.0.borrow().iter().filter(|event| is_lost(event)).count(), 1);
}

/// What one server allowed is nothing to the next, and who waits for it waits no longer than for a
/// connection.
#[tokio::test]
async fn a_lease_ends_with_its_connection() {
    let listener = PeerListener::bind().await;
    let events = Events::default();
    let policy = |_: &rsock::Load| rsock::Grant::new(0, Duration::from_secs(60));
    let wait = Duration::from_millis(40);
    let builder = Client::builder()
        .reconnect(events.reconnect().wait(wait))
        .lease(policy)
        .responder(rsock::Router::new(()));
    let client = builder.connect(&listener.uri()).await.expect("a connection");
    let mut peer = listener.accept_setup().await;
    peer.send_all([ka(0, 0, ""), rsock_tests::wire::lease(60_000, 1)]).await;
    assert_eq!(peer.next().await.to_string(), "LEASE(60000,0)");
    within(client.next_lease()).await.expect("a lease");
    let spent = tokio::spawn(client.request_response("spent"));
    while !peer.next().await.is_request() {}
    let mut waiting = client.request_response("waits for a lease");
    assert!(futures_util::poll!(&mut waiting).is_pending());
    assert_eq!(client.lease().map(|lease| lease.requests), Some(1));
    drop(peer);
    within(spent).await.expect("no panic").expect_err("it is over");
    let mut silent = listener.accept_setup().await;
    assert_eq!(client.lease(), None);
    let error = within(waiting).await.expect_err("no server");
    assert!(matches!(error, Error::Unavailable { waited, .. } if waited == wait), "{error:?}");
    assert_eq!(silent.next().await.to_string(), "LEASE(60000,0)");
}

/// Closing waits for what was asked before, for as long as that waits.
#[tokio::test]
async fn closing_does_not_wait_for_a_server_that_nothing_is_asked_of() {
    let listener = PeerListener::bind().await;
    for is_cancelled in [false, true] {
        let events = Events::default();
        let wait = if is_cancelled { Duration::MAX } else { Duration::from_millis(40) };
        let builder = Client::builder().reconnect(events.reconnect().wait(wait));
        let client = builder.connect(&listener.uri()).await.expect("a connection");
        drop(accept(&listener, &client).await);
        let _silent = listener.accept_setup().await;
        reaches(&client, ConnectionState::Connecting).await;
        let waiting = tokio::spawn(client.request_response("x"));
        tokio::task::yield_now().await;
        let closing = tokio::spawn(async move { client.close().await });
        tokio::task::yield_now().await;
        if is_cancelled {
            waiting.abort();
        } else {
            within(waiting).await.expect("no panic").expect_err("no server");
        }
        let closed = tokio::time::timeout(Duration::from_secs(5), closing).await;
        assert_eq!(closed.expect("in time").expect("no panic"), CloseReason::Finished(Side::Local));
    }
}

/// A first server is waited for as without reconnecting: nothing was lost.
#[tokio::test]
async fn the_first_server_may_take_its_time() {
    for wait in [Duration::ZERO, Duration::from_millis(1)] {
        let listener = PeerListener::bind().await;
        let (events, sessions) = (Events::default(), SessionEvents::default());
        let builder = Client::builder().reconnect(events.reconnect().wait(wait));
        let uri = listener.uri();
        let connecting = builder.resume(sessions.resume()).wait_until_accepted(true).connect(&uri);
        let serving = async {
            let mut peer = listener.accept_setup().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            peer.send(ka(0, 0, "")).await;
            loop {
                let frame = peer.next().await;
                if frame.to_string().starts_with("KA(R") {
                    peer.send(ka(0, 0, frame.data)).await;
                } else if frame.is_request() {
                    peer.send(p(frame.stream, N | C, "y")).await;
                }
            }
        };
        let asking = async {
            let client = within(connecting).await.expect("a connection");
            within(client.request_response("x")).await.expect("a reply")
        };
        tokio::select! {
            reply = asking => assert_eq!(reply.data, "y"),
            () = serving => {}
        }
    }
}

/// A panic in what dials, or in what gives credentials, is a failed attempt.
#[tokio::test]
async fn what_panics_while_it_dials_is_tried_again() {
    let events = Events::default();
    let (made, (dial, mut ends)) = (Arc::new(AtomicUsize::new(0)), dialled(Arc::default()));
    let (dials, asks) = (Arc::clone(&made), Arc::new(AtomicUsize::new(0)));
    let builder = Client::builder().reconnect(events.reconnect()).authentication_with(move || {
        assert_ne!(asks.fetch_add(1, Relaxed), 1, "no credentials at once");
        let asked = asks.load(Relaxed);
        async move {
            assert_ne!(asked, 3, "no credentials");
            Ok::<_, String>(Authentication::bearer("x"))
        }
    });
    let connecting = builder.connect_with(move || {
        assert_ne!(dials.fetch_add(1, Relaxed), 1, "no dial");
        dial()
    });
    let client = connecting.await.expect("a connection");
    let mut first = ends.recv().await.expect("an end");
    say(&mut first, ka(0, 0, "")).await;
    reaches(&client, ConnectionState::Established).await;
    drop(first);
    events.wait(3, failed_attempt).await;
    let mut second = ends.recv().await.expect("an end");
    let asked = tokio::spawn(client.request_response("x"));
    let request = within(heard(&mut second)).await.expect("a request");
    say(&mut second, p(request.stream, N | C, "y")).await;
    assert_eq!(within(asked).await.expect("no panic").expect("a reply").data, "y");
}

/// It would be waited for as long as a silent peer may live, 90 s, and with it all that is asked.
#[tokio::test]
async fn a_server_that_neither_takes_nor_refuses_a_connection_is_left_for_the_next() {
    let listener = PeerListener::bind().await;
    let (events, mut config) = (Events::default(), Config::default());
    config.setup_timeout = Duration::from_millis(100);
    let builder = Client::builder().config(config).reconnect(events.reconnect());
    let client = builder.connect(&listener.uri()).await.expect("a connection");
    drop(accept(&listener, &client).await);
    let _silent = within(listener.accept_setup()).await;
    let waiting = tokio::spawn(client.request_response("x"));
    let told = "the transport failed: the server has not taken the connection within 100ms";
    events
        .wait(
            1,
            |event| matches!(event, ReconnectEvent::AttemptFailed { error, .. } if error == told),
        )
        .await;
    let mut peer = within(accept(&listener, &client)).await;
    let request = within(peer.next()).await;
    peer.send(p(request.stream, N | C, "y")).await;
    assert_eq!(within(waiting).await.expect("no panic").expect("a reply").data, "y");
    // One that was taken has as long as it wants.
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(client.state(), ConnectionState::Established);
}

/// A push that never left says so; whether a ping had is not looked at.
#[tokio::test]
async fn a_push_that_was_not_written_never_left() {
    let listener = PeerListener::bind().await;
    let events = Events::default();
    let builder = Client::builder().reconnect(events.reconnect().attempts(1));
    let client = builder.connect(&listener.uri()).await.expect("a connection");
    let mut peer = accept(&listener, &client).await;
    // More than the socket takes, so that what follows waits.
    let mut pushes: Vec<_> = (0..400)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.metadata_push(vec![b'x'; 60_000]).await })
        })
        .collect();
    peer.next().await;
    tokio::task::yield_now().await;
    drop(listener);
    peer.reset();
    let (mut never, mut left) = (0, 0);
    for push in pushes.drain(..) {
        match within(push).await.expect("no panic") {
            Ok(()) => left += 1,
            Err(error) => {
                assert_eq!(error.sent(), Sent::Never, "{error:?}");
                never += 1;
            }
        }
    }
    assert!(left > 0 && never > 0, "{left} left, {never} did not");
}

/// The handler of a push that hangs is ended with its connection.
#[tokio::test]
async fn a_push_that_hangs_does_not_hold_up_those_of_the_next_connection() {
    #[derive(Clone)]
    struct Pushed(mpsc::Sender<String>);

    impl Responder for Pushed {
        async fn metadata_push(self: Arc<Self>, request: Request) {
            let metadata = request.metadata().cloned().unwrap_or_default();
            let text = String::from_utf8(metadata.to_vec()).expect("UTF-8");
            self.0.send(text.clone()).await.expect("the test listens");
            if text == "hangs" {
                std::future::pending::<()>().await;
            }
        }
    }

    let listener = PeerListener::bind().await;
    let events = Events::default();
    let (pushed, mut pushes) = mpsc::channel(9);
    let pushed = Pushed(pushed);
    let accept_pushes = move |_: Other| {
        let pushed = pushed.clone();
        async move { Ok(pushed) }
    };
    let builder = Client::builder().reconnect(events.reconnect()).acceptor(accept_pushes);
    let client = builder.connect(&listener.uri()).await.expect("a connection");
    let mut peer = accept(&listener, &client).await;
    peer.send_all([mp("hangs"), mp("waits")]).await;
    assert_eq!(within(pushes.recv()).await.expect("a push"), "hangs");
    drop(peer);
    let mut peer = accept(&listener, &client).await;
    peer.send(mp("goes on")).await;
    assert_eq!(within(pushes.recv()).await.expect("a push"), "goes on");
}
