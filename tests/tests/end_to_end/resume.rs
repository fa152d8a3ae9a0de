//! Sessions that lose their transport again and again: nothing is lost, and nothing comes twice.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use rsock::{
    Client, ClientBuilder, CloseReason, ConnectionState, Error, ErrorCode, Resume, ResumeLimits,
    Server, ServerBuilder, SessionEvent, Side,
};
use rsock_tests::{cutter::Cutter, link::Served, maybe_sent, script::PATIENCE};

/// The events that a client's observer was told, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Events(Arc<Mutex<VecDeque<SessionEvent>>>);

impl Events {
    pub(crate) fn resume(&self) -> Resume {
        let events = self.clone();
        Resume::new()
            .pauses(Duration::from_millis(1), Duration::from_millis(20))
            .observe(move |event| events.lock().push_back(event.clone()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<SessionEvent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count(&self, wanted: &SessionEvent) -> usize {
        self.lock().iter().filter(|event| *event == wanted).count()
    }
}

fn resumable() -> ServerBuilder {
    Server::builder().resume(ResumeLimits::default(), 100).max_sessions_per_address(100)
}

fn client(events: &Events) -> ClientBuilder {
    Client::builder().resume(events.resume())
}

/// Budgets of bytes that look random and are the same each time.
pub(crate) fn budgets(count: usize, mean: usize) -> impl Iterator<Item = usize> {
    let mut state = 0x9E37_79B9_u64;
    std::iter::repeat_with(move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        100 + (state >> 33) as usize % (2 * mean)
    })
    .take(count)
}

pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(3 * PATIENCE, what).await.expect("in time")
}

async fn stream_through(uri: &str, cuts: usize, mean: usize, items: usize, credit: u32) {
    let events = Events::default();
    let cutter = Cutter::start(uri, budgets(cuts, mean)).await;
    let client = client(&events).connect(cutter.uri()).await.expect("a connection");
    let mut numbers = client.request_stream(format!("count:{items}")).credit(credit);
    for expected in 0..items {
        let item = within(numbers.next()).await.expect("an item").expect("no failure");
        assert_eq!(item.data, expected.to_string());
    }
    assert!(within(numbers.next()).await.is_none());
    assert_eq!(cutter.cuts(), cuts);
    assert_eq!(events.count(&SessionEvent::Resumed), events.count(&SessionEvent::Suspended));
    assert_eq!(within(client.close()).await, CloseReason::Finished(Side::Local));
}

#[tokio::test]
async fn resume_14_a_stream_survives_fifty_cuts() {
    let served = Served::with(resumable()).await;
    for uri in [served.tcp(), served.ws(), served.unix()] {
        stream_through(uri, 50, 2_000, 10_000, 256).await;
    }
    let reading = served.meter.read();
    assert!(reading.stats.resumes >= 120, "{reading:?}");
    assert_eq!(reading.suspended_sessions, 0);
    assert_eq!(reading.stats.retention_overflows, 0);
}

/// The whole of it: 100,000 items, and a small window that has credit cross the cuts as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resume_14_a_hundred_thousand_items_survive_fifty_cuts() {
    if std::env::var_os("RSOCK_TESTS_FULL").is_none() {
        return;
    }
    let served = Served::with(resumable()).await;
    for uri in [served.tcp(), served.ws(), served.unix()] {
        stream_through(uri, 50, 20_000, 100_000, 256).await;
        stream_through(uri, 50, 20_000, 100_000, 7).await;
    }
}

#[tokio::test]
async fn resume_14_a_channel_survives_cuts_in_both_directions() {
    let served = Served::with(resumable()).await;
    for uri in [served.tcp(), served.ws(), served.unix()] {
        let events = Events::default();
        let cutter = Cutter::start(uri, budgets(30, 2_000)).await;
        let client = client(&events).connect(cutter.uri()).await.expect("a connection");
        let sent = stream::iter((0..3_000).map(|n| format!("item {n}")));
        let echoed: Vec<_> = within(client.request_channel(sent).credit(16).try_collect())
            .await
            .expect("no failure");
        let echoed: Vec<_> = echoed.iter().map(|item| item.data.clone()).collect();
        let expected: Vec<_> = (0..3_000).map(|n| format!("item {n}")).collect();
        assert_eq!(echoed, expected);
        assert_eq!(cutter.cuts(), 30);
    }
}

#[tokio::test]
async fn resume_13_requests_are_served_once_though_cut() {
    let served = Served::with(resumable()).await;
    let events = Events::default();
    let cutter = Cutter::start(served.tcp(), budgets(40, 600)).await;
    let client = client(&events).connect(cutter.uri()).await.expect("a connection");
    for n in 0..300 {
        let reply = within(client.request_response(format!("echo {n}"))).await.expect("a reply");
        assert_eq!(reply.data, format!("echo {n}"));
        within(client.fire_and_forget(format!("note {n}"))).await.expect("taken");
    }
    within(client.request_response("last")).await.expect("a reply");
    let heard: Vec<_> = served
        .fixture
        .recorder
        .lines()
        .into_iter()
        .filter(|line| line.starts_with("fnf"))
        .collect();
    let expected: Vec<_> = (0..300).map(|n| format!("fnf note {n}")).collect();
    assert_eq!(heard, expected);
    assert!(cutter.cuts() >= 20, "{}", cutter.cuts());
}

#[tokio::test]
async fn what_is_asked_while_apart_waits_and_is_served() {
    let served = Served::with(resumable()).await;
    let events = Events::default();
    let cutter = Cutter::start(served.tcp(), []).await;
    let client = client(&events).connect(cutter.uri()).await.expect("a connection");
    within(client.request_response("before")).await.expect("a reply");
    cutter.refuse(true);
    cutter.cut();
    let suspended = async {
        while client.state() != ConnectionState::Suspended {
            tokio::task::yield_now().await;
        }
    };
    within(suspended).await;
    let asked = client.request_response("while apart");
    let mut asked = std::pin::pin!(asked);
    assert!(futures_util::poll!(asked.as_mut()).is_pending());
    cutter.refuse(false);
    assert_eq!(within(asked).await.expect("a reply").data, "while apart");
    assert_eq!(client.state(), ConnectionState::Established);
    assert_eq!(events.count(&SessionEvent::Resumed), 1);
}

#[tokio::test]
async fn resume_29_when_the_window_is_over_everything_ends_on_both_sides() {
    let mut limits = ResumeLimits::default();
    limits.window = Duration::from_millis(200);
    let served = Served::with(Server::builder().resume(limits, 100)).await;
    let events = Events::default();
    let cutter = Cutter::start(served.tcp(), []).await;
    let resume = events.resume().window(Duration::from_millis(200));
    let client =
        Client::builder().resume(resume).connect(cutter.uri()).await.expect("a connection");
    let mut endless = client.request_stream("inf").credit(2);
    within(endless.next()).await.expect("an item").expect("no failure");
    let never = client.request_response("never");
    cutter.refuse(true);
    cutter.cut();
    let over = maybe_sent(CloseReason::ResumeWindowOver);
    assert_eq!(within(never).await, Err(over.clone()));
    let rest: Vec<_> = within(endless.collect()).await;
    assert_eq!(rest.last(), Some(&Err(over)));
    served.fixture.recorder.wait("dropped inf").await;
    assert_eq!(within(client.closed()).await, CloseReason::ResumeWindowOver);
}

/// A server that shuts down takes no transport any more: sessions without one are over.
#[tokio::test]
async fn a_shutdown_does_not_wait_for_what_cannot_come_back() {
    for lost_before in [true, false] {
        let limit = Duration::from_secs(3_600);
        let mut served = Served::with(resumable().drain_limit(limit)).await;
        let events = Events::default();
        let cutter = Cutter::start(served.tcp(), []).await;
        let client = client(&events).connect(cutter.uri()).await.expect("a connection");
        let mut endless = client.request_stream("inf").credit(2);
        within(endless.next()).await.expect("an item").expect("no failure");
        cutter.refuse(true);
        if lost_before {
            cutter.cut();
            let back = served.fixture.requester().expect("a connection");
            while back.state() != ConnectionState::Suspended {
                tokio::task::yield_now().await;
            }
            served.begin_shutdown();
        } else {
            served.begin_shutdown();
            while client.request_response("new").await.is_ok() {}
            cutter.cut();
        }
        within(served.ended()).await;
        client.abort().await;
    }
}

#[tokio::test]
async fn resume_21_a_session_that_is_gone_is_followed_by_a_fresh_one() {
    let served = Served::with(resumable()).await;
    let events = Events::default();
    let cutter = Cutter::start(served.tcp(), []).await;
    let client = client(&events).max_requests(2);
    let client = client.connect(cutter.uri()).await.expect("a connection");
    within(client.request_response("before")).await.expect("a reply");
    let never = client.request_response("never");
    let mut never = std::pin::pin!(never);
    assert!(futures_util::poll!(never.as_mut()).is_pending());
    served.fixture.recorder.wait("never runs").await;
    // Another session takes the place of this one at the server, as after its restart.
    cutter.refuse(true);
    let back = served.fixture.requester().expect("a connection");
    cutter.cut();
    while client.state() != ConnectionState::Suspended {
        tokio::task::yield_now().await;
    }
    let mut ping = std::pin::pin!(client.ping());
    assert!(futures_util::poll!(ping.as_mut()).is_pending());
    end_session(&served, &back).await;
    cutter.refuse(false);
    let failed = within(never).await;
    let Err(Error::Closed { reason: CloseReason::Error { by: Side::Peer, code, .. }, .. }) =
        &failed
    else {
        panic!("{failed:?}");
    };
    assert_eq!(*code, ErrorCode::REJECTED_RESUME);
    within(ping).await.expect_err("it went with its session");
    // What has failed with the session is not open any more.
    let mut never = client.request_response("never");
    assert!(futures_util::poll!(&mut never).is_pending());
    assert_eq!(within(client.request_response("after")).await.expect("a reply").data, "after");
    drop(never);
    let renewed = events.lock().iter().any(|event| matches!(event, SessionEvent::Renewed(_)));
    assert!(renewed, "{events:?}");
    assert_eq!(within(client.close()).await, CloseReason::Finished(Side::Local));
}

#[tokio::test]
async fn without_renewal_the_refusal_is_the_end() {
    let served = Served::with(resumable()).await;
    let events = Events::default();
    let cutter = Cutter::start(served.tcp(), []).await;
    let resume = events.resume().renew(false);
    let client =
        Client::builder().resume(resume).connect(cutter.uri()).await.expect("a connection");
    within(client.request_response("before")).await.expect("a reply");
    cutter.refuse(true);
    let back = served.fixture.requester().expect("a connection");
    cutter.cut();
    end_session(&served, &back).await;
    cutter.refuse(false);
    let reason = within(client.closed()).await;
    assert!(
        matches!(&reason, CloseReason::Error { code: ErrorCode::REJECTED_RESUME, .. }),
        "{reason:?}"
    );
}

/// The server forgets the session, which has lost its transport.
async fn end_session(served: &Served, back: &rsock::Requester) {
    let suspended = async {
        while back.state() != ConnectionState::Suspended {
            tokio::task::yield_now().await;
        }
    };
    within(suspended).await;
    // So many more that the oldest has to go.
    let mut fillers = Vec::new();
    for _ in 0..100 {
        let filler = Client::builder().resume(Resume::new()).connect(served.tcp()).await;
        fillers.push(filler.expect("a connection"));
        within(fillers[fillers.len() - 1].request_response("x")).await.expect("a reply");
    }
    let reason = within(back.closed()).await;
    assert_eq!(reason, CloseReason::Finished(Side::Local), "H120");
    for filler in fillers {
        within(filler.close()).await;
    }
}

#[tokio::test]
async fn resume_33_a_session_that_is_closed_cannot_be_resumed() {
    let served = Served::with(resumable()).await;
    let client =
        Client::builder().resume(Resume::new()).connect(served.tcp()).await.expect("a connection");
    within(client.request_response("x")).await.expect("a reply");
    let back = served.fixture.requester().expect("a connection");
    within(client.close()).await;
    assert_eq!(within(back.closed()).await, CloseReason::Finished(Side::Peer));
    assert_eq!(served.meter.read().suspended_sessions, 0);
}

#[tokio::test]
async fn both_sides_ask_across_a_cut() {
    let served = Served::with(resumable()).await;
    let events = Events::default();
    let cutter = Cutter::start(served.tcp(), budgets(20, 1_000)).await;
    let client = client(&events)
        .acceptor(rsock_tests::fixture::Fixture::default())
        .connect(cutter.uri())
        .await
        .expect("a connection");
    within(client.request_response("x")).await.expect("a reply");
    let back = served.fixture.requester().expect("a connection");
    for n in 0..200 {
        let there = client.request_response(format!("there {n}"));
        let here = back.request_response(format!("here {n}"));
        let (there, here) = within(futures_util::future::join(there, here)).await;
        assert_eq!(there.expect("a reply").data, format!("there {n}"));
        assert_eq!(here.expect("a reply").data, format!("here {n}"));
    }
    assert!(cutter.cuts() >= 10, "{}", cutter.cuts());
}

#[tokio::test]
async fn connecting_over_a_stream_of_ones_own_cannot_be_resumed() {
    let (near, _far) = rsock::memory(1_000);
    let refused = Client::builder().resume(Resume::new()).connect_over(near).await;
    assert!(refused.is_err_and(|error| error.to_string().contains("URI")));
}
