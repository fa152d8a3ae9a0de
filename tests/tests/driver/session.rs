//! Sessions over transports in memory, each of which keeps to a script until it breaks.

use std::{io, time::Duration};

use crate::line::{Line, Peer};
use futures_util::{FutureExt, StreamExt, TryStreamExt, poll, stream};
use rsock::{
    Client, CloseReason, ConnectError, Error, Grant, Load, RequestStream, ResumeLimits, Server,
    ServerBuilder, SessionEvent, SharedLease, Side, Window,
};
use rsock_tests::{
    fixture::Fixture,
    maybe_sent, never_sent,
    readiness::{Random, Step, Steps},
    wire::{R, ka, resume_of, setup_resumable},
};

fn resumable() -> ServerBuilder {
    Server::builder().resume(ResumeLimits::default(), 100)
}

/// Every interaction at a time, both ways; all that was sent arrives, once and in order.
async fn everything(client: &Client, line: &Line) {
    let large = "x".repeat(700);
    let responses = async {
        for n in 0..5 {
            let asked = format!("{n} {large}");
            assert_eq!(client.request_response(asked.clone()).await.expect("a reply").data, asked);
        }
        let optional = client.request_response("y").optional().await.expect("a reply");
        assert_eq!(optional.expect("a payload").data, "y");
    };
    let items = async {
        let items = client.request_stream("count:40").credit(3);
        let items: Vec<_> = items.map_ok(|item| item.data).try_collect().await.expect("items");
        assert_eq!(items, (0..40).map(|n| n.to_string()).collect::<Vec<_>>());
    };
    let echoes = async {
        let sent: Vec<_> = (0..30).map(|n| format!("item {n}")).collect();
        let echoes = client.request_channel(stream::iter(sent.clone())).credit(4);
        let echoes: Vec<_> = echoes.map_ok(|item| item.data).try_collect().await.expect("echoes");
        assert_eq!(echoes, sent);
    };
    let told = async {
        for n in 0..3 {
            client.fire_and_forget(format!("told {n}")).await.expect("taken");
        }
    };
    tokio::join!(responses, items, echoes, told);
    for n in 0..3 {
        line.fixture.recorder.wait(&format!("fnf told {n}")).await;
    }
    let back = line.fixture.requester().expect("a client was accepted");
    let items = back.request_stream("count:10").credit(2);
    let items: Vec<_> = items.map_ok(|item| item.data).try_collect().await.expect("items");
    assert_eq!(items.len(), 10);
}

/// A session goes on whatever each call gives, and with leases or not.
#[tokio::test(start_paused = true)]
async fn any_script_of_readiness() {
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let line = Line::new(Server::builder().lease(SharedLease::new(5)));
        let script = [random.steps(12, None), random.steps(12, None)];
        line.scripts.lock().unwrap().push_back(script);
        let mut client = Client::builder().acceptor(line.fixture.clone());
        if seed % 2 == 0 {
            client = client.lease(SharedLease::new(2).ttl(Duration::from_secs(3)));
        }
        let client = line.connect(client).await;
        everything(&client, &line).await;
        assert_eq!(client.close().await, CloseReason::Finished(Side::Local), "seed {seed}");
    }
}

/// A transport that fails at whichever call: all that was asked ends, by itself or with the reason.
#[tokio::test(start_paused = true)]
async fn any_script_of_failing_transports() {
    let mut failed = 0;
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let line = Line::new(Server::builder().lease(SharedLease::new(20)));
        let (kind, good) = (io::ErrorKind::ConnectionReset, random.below(60));
        let mut script = [random.steps(12, None), random.steps(12, None)];
        script[random.below(2)] = random.steps(good, Some(kind));
        line.scripts.lock().unwrap().push_back(script);
        let mut client = Client::builder();
        if seed % 2 == 0 {
            client = client.lease(SharedLease::default());
        }
        let client = line.connect(client).await;
        let last = |mut items: RequestStream| async move {
            let mut last = None;
            while let Some(item) = items.next().await {
                last = item.err();
            }
            last
        };
        let sent = stream::iter(vec!["x"; 100]);
        let ends = tokio::join!(
            client.request_response("x".repeat(700)).map(Result::err),
            client.request_response("never").optional().map(Result::err),
            last(client.request_stream("inf").credit(3)),
            last(client.request_channel(sent).credit(4)),
            client.ping().map(Result::err),
            client.fire_and_forget("told").map(Result::err),
            client.metadata_push("pushed").map(Result::err),
        );
        let reason = client.closed().await;
        let is_expected =
            matches!(reason, CloseReason::Disconnected | CloseReason::ClosedAfterSetup);
        assert!(is_expected, "seed {seed}: {reason:?}");
        // How far each had come, the seed says.
        let is_told = |end: &Option<Error>| match end {
            Some(Error::Closed { reason: told, .. }) => *told == reason,
            _ => false,
        };
        assert!(is_told(&ends.1) && is_told(&ends.2), "seed {seed}: {ends:?}");
        for end in [ends.0, ends.3, ends.4, ends.5, ends.6] {
            failed += usize::from(end.is_some());
            assert!(end.is_none() || is_told(&end), "seed {seed}: {end:?}");
        }
    }
    assert!(failed > 100, "{failed}");
}

/// Transports that break at whichever call, one after the other: nothing is lost, nothing comes twice.
#[tokio::test(start_paused = true)]
async fn any_script_of_breaking_transports() {
    let mut resumes = 0;
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let line = Line::new(resumable().lease(SharedLease::new(20)));
        for _ in 0..6 {
            // SETUP goes through once at the least, so that there is a session.
            let good = 4 + random.below(60);
            let mut script = [random.steps(12, None), random.steps(12, None)];
            script[random.below(2)] = random.steps(good, Some(io::ErrorKind::ConnectionReset));
            line.scripts.lock().unwrap().push_back(script);
        }
        let builder = || {
            let client = Client::builder().acceptor(line.fixture.clone()).resume(line.resume());
            let client = if seed % 2 == 0 { client.lease(SharedLease::new(20)) } else { client };
            // A server that has not heard of the session has a fresh one set up, which loses what
            // was asked before.
            client.wait_until_accepted(true)
        };
        let client = loop {
            match line.try_connect(builder()).await {
                Ok(client) => break client,
                // There is no session before the server's first word.
                Err(error) => {
                    assert_eq!(error, ConnectError::Closed(CloseReason::ClosedAfterSetup));
                }
            }
        };
        everything(&client, &line).await;
        resumes += line.meter.read().stats.resumes;
        // The last words may meet a break, and nobody resumes for those alone.
        let reason = client.close().await;
        let is_expected = matches!(reason, CloseReason::Finished(Side::Local) | CloseReason::Io(_));
        assert!(is_expected, "seed {seed}: {reason:?}");
        let renewed =
            line.events().iter().any(|(_, event)| matches!(event, SessionEvent::Renewed(_)));
        assert!(!renewed, "seed {seed}: {:?}", line.events());
    }
    assert!(resumes > 100, "{resumes}");
}

// ---- what waits -----------------------------------------------------------------------------------

/// Credit that is asked for while the request itself waits: for a lease, and for a transport.
#[tokio::test(start_paused = true)]
async fn credit_asked_for_while_the_request_waits() {
    let mut asked = 0;
    let policy = move |_: &Load| {
        asked += 1;
        Grant::new(if asked > 3 { 10 } else { 0 }, Duration::from_secs(10))
    };
    let line = Line::new(resumable().lease(policy));
    let leased = line.connect(Client::builder().lease(SharedLease::default())).await;
    let suspended = line.connect(Client::builder().resume(line.resume())).await;
    suspended.request_response("x").await.expect("a reply");
    line.set_down(true);
    line.cut();
    for client in [leased, suspended] {
        let mut items = client.request_stream("count:5").window(Window::new(2).manual());
        assert!(poll!(items.next()).is_pending());
        items.request_n(2);
        tokio::time::sleep(Duration::from_millis(1)).await;
        items.request_n(1);
        line.set_down(false);
        let items: Vec<_> = items.try_collect().await.expect("items");
        assert_eq!(items.len(), 5);
    }
}

/// A ping whose answer was lost with the transport is sent again, whether the side that asks has
/// noticed the loss before the session goes on or not.
#[tokio::test(start_paused = true)]
async fn pings_outlive_their_transport() {
    let line = Line::new(resumable());
    let client = Client::builder().max_requests(1).acceptor(Fixture::default());
    let client = line.connect(client.resume(line.resume()).wait_until_accepted(true)).await;
    let back = line.fixture.requester().expect("a client was accepted");
    for n in 1..=20 {
        let pings = [client.ping().boxed(), back.ping().boxed()];
        line.cut();
        for ping in pings {
            ping.await.expect("an answer");
        }
        assert_eq!(line.events().len(), 2 * n, "{:?}", line.events());
    }
    // While there is none, it waits.
    line.set_down(true);
    line.cut();
    let mut ping = client.ping().boxed();
    assert!(poll!(&mut ping).is_pending());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(poll!(&mut ping).is_pending());
    line.set_down(false);
    ping.await.expect("an answer");
    client.request_response("x").await.expect("a reply");
}

/// A server whose client comes back before it knows that it was gone.
#[tokio::test(start_paused = true)]
async fn a_ping_under_way_when_another_transport_takes_over() {
    let line = Line::new(resumable());
    let (mut first, mut second) = (Peer::join(&line), Peer::join(&line));
    first.send(&setup_resumable(b"token")).await;
    first.send(&ka(R, 0, "")).await;
    assert_eq!(first.next().await.to_string(), "KA()");
    let back = line.fixture.requester().expect("a client was accepted");
    let ping = tokio::spawn(async move { back.ping().await });
    let asked = first.next().await;
    assert!(asked.to_string().starts_with("KA(R"), "{asked}");
    second.send(&resume_of((1, 0), b"token", 0, 0)).await;
    assert_eq!(second.next().await.to_string(), "RESUME_OK(0)");
    let again = second.next().await;
    assert_eq!(again.data, asked.data);
    second.send(&ka(0, 0, &again.data)).await;
    ping.await.expect("no panic").expect("an answer");
}

/// Whoever asks while a connection ends is told why it did.
#[tokio::test(start_paused = true)]
async fn requests_that_meet_the_end_learn_the_reason() {
    let line = Line::new(Server::builder());
    for breaks in [true, false] {
        let client = line.connect(Client::builder()).await;
        client.request_response("x").await.expect("a reply");
        let reason = if breaks {
            line.cut();
            CloseReason::Disconnected
        } else {
            drop(client.abort().now_or_never());
            CloseReason::Finished(Side::Local)
        };
        let (reply, items) = (client.request_response("x"), client.request_stream("count:5"));
        let (reply, items, ping) = tokio::join!(reply, items.collect::<Vec<_>>(), client.ping());
        let error = never_sent(reason.clone());
        assert_eq!(reply, Err(error.clone()));
        assert_eq!(items, [Err(error.clone())]);
        // Nobody keeps count of pings that are under way.
        assert_eq!(ping, Err(if breaks { maybe_sent(reason) } else { error }));
    }
}

/// What was sent before a ping has arrived when it is answered.
#[tokio::test]
async fn a_ping_is_behind_what_was_sent_before() {
    for limit in [1, 7, usize::MAX] {
        let line = Line::new(Server::builder());
        let steps = Steps::cycle([Step::Limit(limit), Step::Pending]);
        line.scripts.lock().unwrap().push_back([steps.clone(), steps]);
        let client = line.connect(Client::builder()).await;
        for n in 0..20 {
            client.fire_and_forget(format!("told {n} {}", "x".repeat(1_000))).await.expect("taken");
            client.ping().await.expect("an answer");
            let heard = line.fixture.recorder.lines();
            let told = format!("fnf told {n}");
            assert!(heard.iter().any(|line| line.starts_with(&told)), "{n}");
        }
    }
}
