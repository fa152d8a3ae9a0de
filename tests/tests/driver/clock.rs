//! Behaviour that depends on time, in virtual time: to the millisecond, and without waiting for
//! any.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use futures_util::{FutureExt, poll};
use rsock::{
    Client, CloseReason, ConnectionState, Grant, Load, Reconnect, ResumeLimits, Server,
    SessionEvent, SharedLease, Side, memory,
};
use rsock_tests::{
    fixture::Fixture,
    maybe_sent, never_sent,
    readiness::{Step, Steps},
    record::limit_time,
    wire::{C, N, R, ka, lease, p, resume_of, rr, setup_resumable},
};
use tokio::{
    io::AsyncReadExt,
    task::coop::consume_budget,
    time::{Instant, sleep, sleep_until},
};

use crate::line::{Line, Peer};

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A task that has used up its turn cannot set its timer: it does when it goes on.
#[tokio::test(start_paused = true)]
async fn a_timer_is_set_however_late_in_a_turn() {
    limit_time();
    let (near, far) = memory(64);
    let server = Server::builder();
    let mut serving = pin!(server.serve_over(far, Fixture::default()));
    let start = Instant::now();
    let mut first = true;
    poll_fn(|cx| {
        if std::mem::take(&mut first) {
            while pin!(consume_budget()).poll(cx).is_ready() {}
        }
        serving.as_mut().poll(cx)
    })
    .await;
    // There was no SETUP.
    assert!(start.elapsed() >= seconds(10) && start.elapsed() < seconds(13));
    drop(near);
}

// ---- the end --------------------------------------------------------------------------------------

/// The last words to a peer that broke the protocol are not pressed on it for longer than a second.
#[tokio::test(start_paused = true)]
async fn last_words_have_a_second() {
    let (near, far) = memory(8);
    let serving = async { Server::builder().serve_over(far, Fixture::default()).await };
    let breaking = async {
        let mut peer = Peer(near);
        // It should be SETUP.
        peer.send(&rr(1, "x")).await;
        sleep(seconds(30)).await;
        peer
    };
    let start = Instant::now();
    let ended = async {
        serving.await;
        start.elapsed()
    };
    let (elapsed, _peer) = tokio::join!(ended, breaking);
    assert_eq!(elapsed, seconds(1));
}

/// A peer that has read all and does not close is waited for a moment only.
#[tokio::test(start_paused = true)]
async fn lingering_is_short() {
    let (near, far) = memory(4096);
    let client = Client::builder().connect_over(near).await.expect("memory connects");
    let start = Instant::now();
    assert_eq!(client.close().await, CloseReason::Finished(Side::Local));
    assert_eq!(start.elapsed(), millis(200));
    drop(far);
}

/// At a regular end, a peer has ten seconds for anything, and as long as it takes something all the
/// time it needs.
#[tokio::test(start_paused = true)]
async fn a_regular_end_waits_for_progress() {
    for reads in [false, true] {
        let (near, mut far) = memory(64);
        let client = Client::builder().connect_over(near).await.expect("memory connects");
        client.fire_and_forget(vec![0; 300]).await.expect("taken");
        let start = Instant::now();
        let reading = tokio::spawn(async move {
            let mut byte = [0];
            let mut goes_on = reads;
            while goes_on {
                sleep(seconds(9)).await;
                goes_on = matches!(far.read(&mut byte).await, Ok(1));
            }
            far
        });
        let reason = client.close().await;
        if reads {
            assert_eq!(reason, CloseReason::Finished(Side::Local));
            assert!(start.elapsed() > seconds(9 * 300));
        } else {
            assert!(matches!(reason, CloseReason::Io(_)), "{reason:?}");
            assert_eq!(start.elapsed(), seconds(10));
        }
        drop(reading);
    }
}

/// What is read because a deadline has come is told before anything new is opened, which may have the
/// place of a stream that has just ended.
#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_with_a_deadline_is_not_lost() {
    let (near, far) = memory(4096);
    let connecting = Client::builder().keepalive(seconds(5), seconds(90)).connect_over(near);
    let client = connecting.await.expect("memory connects");
    let mut peer = Peer(far);
    let mut first = client.request_response("first");
    assert!(poll!(&mut first).is_pending());
    // SETUP and the request have left.
    sleep(millis(1)).await;
    // The answer, another request and the deadline are there before the driver looks.
    assert!(peer.send(&p(1, N | C, "answer")).now_or_never().is_some());
    let mut second = client.request_response("second");
    assert!(poll!(&mut second).is_pending());
    tokio::time::advance(seconds(5)).await;
    let answer = tokio::time::timeout(seconds(1), first).await.expect("it is not lost");
    assert_eq!(answer.expect("a reply").data, "answer");
    drop(second);
}

// ---- sessions -------------------------------------------------------------------------------------

/// RESUME-28: the client tries with growing pauses until its window is over, and no longer.
#[tokio::test(start_paused = true)]
async fn a_client_tries_until_its_window_is_over() {
    let line = Line::new(Server::builder().resume(ResumeLimits::default(), 10));
    let resume = line.resume().window(seconds(90)).pauses(millis(100), seconds(5));
    let client = line.connect(Client::builder().resume(resume).wait_until_accepted(true)).await;
    let pending = tokio::spawn(client.request_response("never"));
    line.fixture.recorder.wait("never runs").await;
    let start = Instant::now();
    line.set_down(true);
    line.cut();
    let late = tokio::spawn({
        let client = client.clone();
        async move { client.request_response("late").await }
    });
    assert_eq!(client.closed().await, CloseReason::ResumeWindowOver);
    assert_eq!(start.elapsed(), seconds(90));
    let over = CloseReason::ResumeWindowOver;
    assert_eq!(pending.await.expect("no panic"), Err(maybe_sent(over.clone())));
    assert_eq!(late.await.expect("no panic"), Err(never_sent(over)));
    let events = line.events();
    assert_eq!(events[0].1, SessionEvent::Suspended);
    let attempts = &events[1..];
    assert!(attempts.iter().all(|(_, event)| matches!(event, SessionEvent::AttemptFailed(_))));
    assert_eq!(attempts[0].0, events[0].0, "the first is made at once");
    let mut longest = millis(100);
    for pair in attempts.windows(2) {
        let pause = pair[1].0 - pair[0].0;
        // Timers have a resolution of a millisecond.
        assert!(pause >= longest / 2 && pause <= longest + millis(1), "{pause:?} of {longest:?}");
        longest = (longest * 2).min(seconds(5));
    }
    assert!(attempts.len() >= 90 / 5, "{attempts:?}");
}

/// A line that is cut as soon as it is there is not dialled without pauses; one that lasts is dialled
/// at once.
#[tokio::test(start_paused = true)]
async fn a_line_that_does_not_last_is_dialled_with_growing_pauses() {
    let line = Line::new(Server::builder().resume(ResumeLimits::default(), 10));
    let resume = line.resume().pauses(millis(100), seconds(5));
    let client = line.connect(Client::builder().resume(resume).wait_until_accepted(true)).await;
    let cut = async || {
        line.cut();
        assert_eq!(client.request_response("x").await.expect("a reply").data, "x");
    };
    for _ in 0..9 {
        cut().await;
    }
    sleep(seconds(60)).await;
    cut().await;
    let events = line.events();
    let mut pauses = events.chunks(2).map(|pair| match pair {
        [(lost, SessionEvent::Suspended), (found, SessionEvent::Resumed)] => *found - *lost,
        pair => panic!("{pair:?}"),
    });
    assert_eq!(pauses.next(), Some(Duration::ZERO));
    let mut longest = millis(100);
    for pause in pauses.by_ref().take(8) {
        assert!(pause >= longest / 2 && pause <= longest + millis(1), "{pause:?} of {longest:?}");
        longest = (longest * 2).min(seconds(5));
    }
    assert_eq!(pauses.next(), Some(Duration::ZERO), "it had lasted");
    assert_eq!(pauses.next(), None);
}

/// RESUME-21: a server that takes the transport and says nothing has the time of a setup.
#[tokio::test(start_paused = true)]
async fn a_mute_server_is_given_up_for_another_transport() {
    let line = Line::new(Server::builder().resume(ResumeLimits::default(), 10));
    let mute = || [Steps::until([Step::Never]), Steps::once([])];
    line.scripts.lock().unwrap().push_back([Steps::once([]), Steps::once([])]);
    line.scripts.lock().unwrap().push_back(mute());
    let client = Client::builder().resume(line.resume()).wait_until_accepted(true);
    let client = line.connect(client).await;
    let start = Instant::now();
    line.cut();
    assert_eq!(client.request_response("x").await.expect("a reply").data, "x");
    let elapsed = start.elapsed();
    assert!(elapsed >= seconds(10) + millis(50) && elapsed <= seconds(10) + millis(102));
    let events: Vec<_> = line.events().into_iter().map(|(_, event)| event).collect();
    assert!(
        matches!(
            events[..],
            [SessionEvent::Suspended, SessionEvent::AttemptFailed(_), SessionEvent::Resumed]
        ),
        "{events:?}"
    );
}

/// KA-11: a transport on which nothing comes for the lifetime is given up, and the session is not.
#[tokio::test(start_paused = true)]
async fn a_silent_transport_is_replaced() {
    let line = Line::new(Server::builder().resume(ResumeLimits::default(), 10));
    // The answer to the first KEEPALIVE, and nothing after it.
    let mut reads = vec![Step::Limit(usize::MAX); 1];
    reads.push(Step::Never);
    line.scripts.lock().unwrap().push_back([Steps::until(reads), Steps::once([])]);
    let start = Instant::now();
    let client = Client::builder().keepalive(seconds(5), seconds(21)).resume(line.resume());
    let client = line.connect(client).await;
    assert_eq!(client.request_response("x").await.expect("a reply").data, "x");
    let elapsed = start.elapsed();
    assert!(elapsed >= seconds(21) && elapsed <= seconds(26), "{elapsed:?}");
    assert_eq!(line.meter.read().stats.resumes, 1);
}

/// RESUME-28, RESUME-44: a server keeps a session for its window, and no longer.
#[tokio::test(start_paused = true)]
async fn a_server_keeps_a_session_for_its_window() {
    let mut limits = ResumeLimits::default();
    limits.window = seconds(300);
    let line = Line::new(Server::builder().resume(limits, 10));
    let mut peer = Peer::join(&line);
    peer.send(&setup_resumable(b"token")).await;
    peer.send(&ka(R, 0, "")).await;
    peer.next().await;
    let back = line.fixture.requester().expect("a client was accepted");
    // Longer than the lifetime that SETUP has.
    for _ in 0..2 {
        drop(peer);
        sleep(seconds(299)).await;
        assert_eq!(back.state(), ConnectionState::Suspended);
        peer = Peer::join(&line);
        peer.send(&resume_of((1, 0), b"token", 0, 0)).await;
        assert_eq!(peer.next().await.to_string(), "RESUME_OK(0)");
        assert_eq!(back.state(), ConnectionState::Established);
    }
    drop(peer);
    let start = Instant::now();
    assert_eq!(back.closed().await, CloseReason::ResumeWindowOver);
    assert_eq!(start.elapsed(), seconds(300));
    let mut peer = Peer::join(&line);
    peer.send(&resume_of((1, 0), b"token", 0, 0)).await;
    assert_eq!(peer.next().await.code(), Some(4), "REJECTED_RESUME");
}

/// Somebody relies on it that the client is alive: silence counts for what it is sooner, on every
/// transport of the session from then on.
#[tokio::test(start_paused = true)]
async fn a_shortened_lifetime_suspends_a_mute_session() {
    let line = Line::new(Server::builder().resume(ResumeLimits::default(), 10));
    let mut peer = Peer::join(&line);
    peer.send(&setup_resumable(b"token")).await;
    peer.send(&ka(R, 0, "")).await;
    peer.next().await;
    let back = line.fixture.requester().expect("a client was accepted");
    back.shorten_lifetime(seconds(60));
    back.shorten_lifetime(seconds(70));
    for round in 0..2 {
        let start = Instant::now();
        let state = back.state_after(&ConnectionState::Established).await;
        assert_eq!((state, start.elapsed()), (ConnectionState::Suspended, seconds(60)), "{round}");
        peer = Peer::join(&line);
        peer.send(&resume_of((1, 0), b"token", 0, 0)).await;
        assert_eq!(peer.next().await.to_string(), "RESUME_OK(0)");
    }
    drop(peer);
    assert_eq!(back.state_after(&ConnectionState::Established).await, ConnectionState::Suspended);
    let over = back.state_after(&ConnectionState::Suspended).await;
    assert_eq!(over, ConnectionState::Closed(CloseReason::ResumeWindowOver));
    // It may be said too late.
    back.shorten_lifetime(seconds(60));
}

// ---- reconnecting ---------------------------------------------------------------------------------

/// A server that takes connections and drops them is not dialled without end, and one that was there
/// for ten seconds is dialled again at once.
#[tokio::test(start_paused = true)]
async fn a_server_that_drops_what_it_takes_is_not_hammered() {
    let line = Line::new(Server::builder());
    let reconnect = Reconnect::new().wait(Duration::MAX);
    let client = line.connect(Client::builder().reconnect(reconnect)).await;
    let dialled = || line.dialled.load(Relaxed);
    let mut cuts = 0;
    let start = Instant::now();
    while start.elapsed() < seconds(120) {
        if client.ping().await.is_ok() {
            line.cut();
            cuts += 1;
        }
        sleep(millis(1)).await;
    }
    // Seven pauses up to 6.4 s, and then some of 7.5 s in the mean.
    assert!((10..60).contains(&dialled()), "{} in two minutes", dialled());
    assert!(cuts >= 10, "{cuts}");

    client.ping().await.expect("another connection");
    sleep(seconds(10)).await;
    let before = dialled();
    let start = Instant::now();
    line.cut();
    while dialled() == before {
        sleep(millis(1)).await;
    }
    assert!(start.elapsed() <= millis(2), "{:?}", start.elapsed());
    assert_eq!(client.request_response("x").await.expect("a reply").data, "x");
}

/// A server that is gone is looked for for as long as it takes.
#[tokio::test(start_paused = true)]
async fn a_server_that_is_gone_for_a_day_is_found_again() {
    let line = Line::new(Server::builder());
    let reconnect = Reconnect::new().wait(Duration::MAX);
    let client = line.connect(Client::builder().reconnect(reconnect)).await;
    client.ping().await.expect("it is there");
    line.set_down(true);
    line.cut();
    let mut call = pin!(client.request_response("x"));
    sleep(millis(10)).await;
    assert!(poll!(&mut call).is_pending());
    sleep(seconds(86_400)).await;
    assert!(poll!(&mut call).is_pending());
    line.set_down(false);
    let start = Instant::now();
    assert_eq!(call.await.expect("a reply").data, "x");
    assert!(start.elapsed() <= seconds(15), "{:?}", start.elapsed());
}

// ---- leases ---------------------------------------------------------------------------------------

/// The calls of a policy, and when.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<(Duration, Load)>>>);

impl Asked {
    /// A policy that gives these in turn, and the last one for ever.
    fn policy(&self, grants: Vec<(u32, u64)>) -> impl FnMut(&Load) -> Grant + Clone + use<> {
        let (asked, start, mut next) = (self.clone(), Instant::now(), 0);
        move |load| {
            let mut asked = asked.0.lock().unwrap_or_else(PoisonError::into_inner);
            asked.push((start.elapsed(), *load));
            let (requests, ttl) = grants[next.min(grants.len() - 1)];
            next += 1;
            Grant::new(requests, millis(ttl))
        }
    }

    fn times(&self) -> Vec<u128> {
        let asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().map(|(at, _)| at.as_millis()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_is_asked_at_three_quarters_of_the_time() {
    let asked = Asked::default();
    let line = Line::new(Server::builder().lease(asked.policy(vec![(5, 10_000), (5, 20_000)])));
    let client = line.connect(Client::builder().lease(SharedLease::default())).await;
    sleep(seconds(40)).await;
    assert_eq!(asked.times(), [0, 7_500, 22_500, 37_500]);
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn a_policy_is_asked_at_half_of_the_requests() {
    let asked = Asked::default();
    let line = Line::new(Server::builder().lease(asked.policy(vec![(4, 10_000)])));
    let client = line.connect(Client::builder().lease(SharedLease::default())).await;
    for requests in 1..=6 {
        // Longer than requests may still be counted against the lease before.
        sleep(millis(60)).await;
        let asking = Instant::now();
        client.request_response("x").await.expect("a reply");
        assert_eq!(asking.elapsed(), millis(0), "it need not wait");
        assert_eq!(asked.times().len(), 1 + requests / 2);
    }
}

/// After a lease of 0: when a request ends, and otherwise now and then.
#[tokio::test(start_paused = true)]
async fn a_policy_that_gave_nothing_is_asked_when_there_may_be_room() {
    let asked = Asked::default();
    let policy = asked.policy(vec![(1, 10_000), (0, 10_000), (0, 10_000), (1, 10_000)]);
    let line = Line::new(Server::builder().lease(policy));
    let client = line.connect(Client::builder().lease(SharedLease::default())).await;
    let mut first = client.request_response("never").boxed();
    assert!(poll!(&mut first).is_pending());
    line.fixture.recorder.wait("never runs").await;
    assert_eq!(asked.times(), [0, 0], "its one request is gone");
    let second = tokio::spawn(client.request_response("x"));
    sleep(seconds(1)).await;
    drop(first);
    sleep(millis(1)).await;
    assert_eq!(asked.times()[2..], [1_000]);
    assert_eq!(second.await.expect("no panic").expect("a reply").data, "x");
    assert_eq!(asked.times()[3], 1_100);
}

/// LEASE-07, LEASE-09: a lease is over when its time is, and a request waits for the next.
#[tokio::test(start_paused = true)]
async fn leases_run_out() {
    let (near, far) = memory(4096);
    let client = Client::builder().lease(SharedLease::default());
    let client = client.connect_over(near).await.expect("memory connects");
    let mut peer = Peer(far);
    assert!(peer.next().await.to_string().starts_with("SETUP(L"));
    let start = Instant::now();
    peer.send(&lease(1_000, 5)).await;
    client.next_lease().await.expect("a lease");
    sleep_until(start + millis(999)).await;
    let in_time = tokio::spawn(client.request_response("in time"));
    let asked = peer.next().await;
    assert_eq!((asked.data.as_slice(), start.elapsed()), (&b"in time"[..], millis(999)));
    peer.send(&p(asked.stream, N + C, "x")).await;
    in_time.await.expect("no panic").expect("a reply");
    sleep_until(start + millis(1_001)).await;
    let late = tokio::spawn(client.request_response("late"));
    let mut next = peer.next().boxed();
    tokio::select! {
        frame = &mut next => panic!("{frame:?} without a lease"),
        () = sleep(seconds(5)) => {}
    }
    drop(next);
    peer.send(&lease(1_000, 1)).await;
    let asked = peer.next().await;
    assert_eq!(asked.data, b"late");
    peer.send(&p(asked.stream, N + C, "x")).await;
    late.await.expect("no panic").expect("a reply");
}
