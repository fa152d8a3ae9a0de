//! Observers: the beginnings and ends of requests they are told, on both sides.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, poll, stream};
use rsock::{
    Beginning, Client, Ended, Error, Feed, Observe, ObserveRequest, Outlet, Payload, PayloadExt,
    Payloads, Peer, Reconnect, Request, Responder, Router, Server, Side, fire_and_forget,
    request_response, request_stream, stream_feed,
};
use rsock_tests::{
    cutter::Cutter,
    fixture::Fixture,
    link::Served,
    record::{Recorder, limit_time},
};

/// Notes what it is told.
#[derive(Clone, Default)]
struct Notes(Arc<Recorder>);

struct Noted {
    notes: Notes,
    name: String,
}

impl Observe for Notes {
    fn begin(&self, request: &Beginning<'_>) -> Option<Arc<dyn ObserveRequest>> {
        assert!(!request.address().is_empty() && request.connection_id() > 0);
        let by = if request.by() == Side::Peer { "peer's" } else { "our" };
        let route = request.route()?;
        let name = format!("{by} {} {route}", request.name());
        self.0.note(format!("{name} begins"));
        Some(Arc::new(Noted { notes: self.clone(), name }))
    }
}

impl ObserveRequest for Noted {
    fn first_item(&self, after: Duration) {
        assert!(after < Duration::from_secs(60));
        self.notes.0.note(format!("{}: first item", self.name));
    }

    fn end(&self, end: &Ended<'_>) {
        let Ended { outcome, sent, received, duration, .. } = end;
        assert!(*duration < Duration::from_secs(60));
        let (sent, received) = (sent.payloads, received.payloads);
        self.notes.0.note(format!("{}: {outcome}, {sent} sent, {received} received", self.name));
    }
}

fn routes() -> Router<()> {
    Router::new(())
        .route("echo", request_response(async |(), payload: Payload| payload))
        .route("nothing", request_response(async |(), ()| None::<Payload>))
        .route("fail", request_response(async |(), ()| Err::<Payload, _>(Error::invalid("no"))))
        .route("never", request_response(async |(), ()| pending::<Payload>().await))
        .route(
            "panic",
            request_response(async |(), ()| -> Payload { panic!("a handler panics") })
                .request_stream(|(), ()| {
                    stream::once(async { panic!("a handler panics") }).map(|(): ()| "")
                }),
        )
        .route(
            "count",
            request_stream(|(), ()| stream::iter((0..3).map(|n| n.to_string()))).request_channel(
                |(), first: Payload, rest: Payloads| stream::iter([Ok(first)]).chain(rest),
            ),
        )
        .route(
            "broken",
            request_stream(|(), ()| stream::iter([Ok("item"), Err(Error::rejected("enough"))])),
        )
        .route(
            "endless",
            request_stream(|(), ()| stream::repeat_with(|| "again"))
                .request_channel(|(), _: Payload, rest: Payloads| rest.chain(stream::pending())),
        )
        .route("forget", fire_and_forget(async |(), ()| ()))
        .route("hang", fire_and_forget(async |(), ()| pending::<()>().await))
}

/// Sends all that it may at once, and counts how often it is asked.
struct Fives {
    left: usize,
    polls: Arc<AtomicUsize>,
}

impl Feed for Fives {
    fn poll_fill(&mut self, out: &mut Outlet<'_>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.polls.fetch_add(1, Relaxed);
        while self.left > 0 {
            if !out.has_room() {
                return Poll::Pending;
            }
            out.send(Payload::new("five!"))?;
            self.left -= 1;
        }
        Poll::Ready(Err(Error::rejected("enough")))
    }
}

/// It is asked for many items at once, as it is where nobody observes.
#[tokio::test]
async fn a_feed_that_is_observed_is_still_a_feed() {
    limit_time();
    let (notes, polls) = (Notes::default(), Arc::<AtomicUsize>::default());
    let counted = Arc::clone(&polls);
    let fives = move |(), ()| Ok::<_, Error>(Fives { left: 100, polls: Arc::clone(&counted) });
    let server = Server::builder().observe(Arc::new(notes.clone()));
    let server = server.bind(&["tcp://127.0.0.1:0"]).await.expect("a free port");
    let uri = server.addresses().remove(0);
    tokio::spawn(server.serve(Router::new(()).route("fives", stream_feed(fives))).into_future());
    let client = Client::connect(&uri).await.expect("it listens");
    let items: Vec<_> = client.request_stream(to("fives")).collect().await;
    assert_eq!((items.len(), &items[100]), (101, &Err(Error::rejected("enough"))));
    let name = "peer's request-stream fives";
    notes.0.wait(&format!("{name}: first item")).await;
    notes.0.wait(&format!("{name}: failed with REJECTED, 100 sent, 1 received")).await;
    let polls = polls.load(Relaxed);
    assert!(polls < 20, "{polls} polls for 100 items");
}

fn to(route: &str) -> Payload {
    Payload::new("x").route(route).expect("a short route")
}

/// A server and a client of it, and what each observes.
async fn link(observed: bool) -> (Client, Notes, Notes) {
    limit_time();
    let (of_server, of_client) = (Notes::default(), Notes::default());
    let mut server = Server::builder();
    let mut client = Client::builder();
    if observed {
        server = server.observe(Arc::new(of_server.clone()));
        client = client.observe(Arc::new(of_client.clone()));
    }
    let server = server.bind(&["tcp://127.0.0.1:0"]).await.expect("a free port");
    let uri = server.addresses().remove(0);
    tokio::spawn(server.serve(routes()).into_future());
    (client.connect(&uri).await.expect("it listens"), of_server, of_client)
}

#[tokio::test]
async fn both_sides_see_how_each_interaction_ends() {
    let (client, of_server, of_client) = link(true).await;
    let (of_server, of_client) = (&of_server.0, &of_client.0);
    client.request_response(to("echo")).await.expect("an answer");
    client.request_response(to("nothing")).optional().await.expect("an end");
    client.request_response(to("fail")).await.expect_err("it fails");
    let _: Vec<_> = client.request_stream(to("count")).try_collect().await.expect("items");
    let items: Vec<_> = client.request_stream(to("broken")).collect().await;
    assert_eq!(items.len(), 2);
    let sent = stream::iter((0..4).map(|_| to("count")));
    let _: Vec<_> = client.request_channel(sent).try_collect().await.expect("items");
    client.fire_and_forget(to("forget")).await.expect("it is on its way");
    let pushed = to("news").metadata.expect("a route");
    client.metadata_push(pushed).await.expect("it is on its way");
    of_server.wait("peer's metadata-push news: completed, 0 sent, 1 received").await;
    assert_eq!(
        of_client.lines(),
        [
            "our request-response echo begins",
            "our request-response echo: completed, 1 sent, 1 received",
            "our request-response nothing begins",
            "our request-response nothing: completed, 1 sent, 0 received",
            "our request-response fail begins",
            "our request-response fail: failed with INVALID, 1 sent, 0 received",
            "our request-stream count begins",
            "our request-stream count: first item",
            "our request-stream count: completed, 1 sent, 3 received",
            "our request-stream broken begins",
            "our request-stream broken: first item",
            "our request-stream broken: failed with REJECTED, 1 sent, 1 received",
            "our request-channel count begins",
            "our request-channel count: first item",
            "our request-channel count: completed, 4 sent, 4 received",
            "our fire-and-forget forget begins",
            "our fire-and-forget forget: completed, 1 sent, 0 received",
            "our metadata-push news begins",
            "our metadata-push news: completed, 1 sent, 0 received",
        ]
    );
    assert_eq!(
        of_server.lines(),
        [
            "peer's request-response echo begins",
            "peer's request-response echo: completed, 1 sent, 1 received",
            "peer's request-response nothing begins",
            "peer's request-response nothing: completed, 0 sent, 1 received",
            "peer's request-response fail begins",
            "peer's request-response fail: failed with INVALID, 0 sent, 1 received",
            "peer's request-stream count begins",
            "peer's request-stream count: first item",
            "peer's request-stream count: completed, 3 sent, 1 received",
            "peer's request-stream broken begins",
            "peer's request-stream broken: first item",
            "peer's request-stream broken: failed with REJECTED, 1 sent, 1 received",
            "peer's request-channel count begins",
            "peer's request-channel count: first item",
            "peer's request-channel count: completed, 4 sent, 4 received",
            "peer's fire-and-forget forget begins",
            "peer's fire-and-forget forget: completed, 0 sent, 1 received",
            "peer's metadata-push news begins",
            "peer's metadata-push news: completed, 0 sent, 1 received",
        ]
    );
}

#[tokio::test]
async fn what_is_cancelled_and_what_panics_is_told_apart() {
    let (client, of_server, of_client) = link(true).await;
    let (of_server, of_client) = (&of_server.0, &of_client.0);
    let mut never = Box::pin(client.request_response(to("never")));
    assert!(poll!(&mut never).is_pending());
    of_server.wait("peer's request-response never begins").await;
    drop(never);
    of_client.wait("our request-response never: cancelled, 1 sent, 0 received").await;
    of_server.wait("peer's request-response never: cancelled, 0 sent, 1 received").await;
    let mut endless = client.request_stream(to("endless")).credit(1);
    endless.next().await.expect("endless").expect("no error");
    drop(endless);
    of_client.wait("our request-stream endless: cancelled, 1 sent, 1 received").await;
    of_server.wait_containing("peer's request-stream endless: cancelled, ").await;
    let mut channel = client
        .request_channel(stream::iter([to("endless"), to("endless")]).chain(stream::pending()));
    channel.next().await.expect("an item").expect("no error");
    drop(channel);
    of_client.wait("our request-channel endless: cancelled, 2 sent, 1 received").await;
    of_server.wait("peer's request-channel endless: cancelled, 1 sent, 2 received").await;
    client.request_response(to("panic")).await.expect_err("it panics");
    let panicked =
        "peer's request-response panic: failed with APPLICATION_ERROR, 0 sent, 1 received";
    of_server.wait(panicked).await;
    client.request_stream(to("panic")).next().await.expect("an end").expect_err("it panics");
    let panicked = "peer's request-stream panic: failed with APPLICATION_ERROR, 0 sent, 1 received";
    of_server.wait(panicked).await;
}

#[tokio::test]
async fn what_is_lost_with_its_connection_is_told() {
    let (client, of_server, of_client) = link(true).await;
    let (of_server, of_client) = (&of_server.0, &of_client.0);
    let mut never = Box::pin(client.request_response(to("never")));
    assert!(poll!(&mut never).is_pending());
    let mut endless = client.request_stream(to("endless")).credit(1);
    endless.next().await.expect("endless").expect("no error");
    let opened = stream::iter([to("endless")]).chain(stream::pending());
    let mut channel = Box::pin(client.request_channel(opened));
    assert!(poll!(channel.next()).is_pending());
    client.fire_and_forget(to("hang")).await.expect("it is on its way");
    of_server.wait("peer's fire-and-forget hang begins").await;
    client.abort().await;
    never.await.expect_err("it is over");
    channel.next().await.expect("an end").expect_err("it is over");
    while endless.next().await.is_some_and(|item| item.is_ok()) {}
    for (what, taken) in [("response never", 0), ("channel endless", 0)] {
        of_client
            .wait(&format!("our request-{what}: connection lost, 1 sent, {taken} received"))
            .await;
        of_server
            .wait(&format!("peer's request-{what}: connection lost, 0 sent, 1 received"))
            .await;
    }
    of_server.wait("peer's fire-and-forget hang: connection lost, 0 sent, 1 received").await;
    for (side, lines) in [("our", of_client.lines()), ("peer's", of_server.lines())] {
        let lost = format!("{side} request-stream endless: connection lost, ");
        assert!(lines.iter().any(|line| line.starts_with(&lost)), "{lines:?}");
    }
    // What cannot even be asked.
    client.request_response(to("echo")).await.expect_err("it is over");
    client.request_stream(to("count")).next().await.expect("an end").expect_err("it is over");
    client.fire_and_forget(to("forget")).await.expect_err("it is over");
    let lines = of_client.lines();
    let last = &lines[lines.len() - 6..];
    assert_eq!(
        last,
        [
            "our request-response echo begins",
            "our request-response echo: connection lost, 1 sent, 0 received",
            "our request-stream count begins",
            "our request-stream count: connection lost, 1 sent, 0 received",
            "our fire-and-forget forget begins",
            "our fire-and-forget forget: connection lost, 1 sent, 0 received",
        ]
    );
}

/// A client that reconnects goes on, and so does its observer; what was open is lost, on both sides of it.
#[tokio::test]
async fn what_is_lost_with_one_of_a_clients_connections_is_told() {
    limit_time();
    let served = Served::start().await;
    let cutter = Cutter::start(served.tcp(), []).await;
    let (notes, answering) = (Notes::default(), Fixture::default());
    let builder = Client::builder().acceptor(answering.clone()).observe(Arc::new(notes.clone()));
    let builder = builder.reconnect(Reconnect::new());
    let client = builder.connect(cutter.uri()).await.expect("it listens");
    let never = || Payload::new("never").route("never").expect("a short route");
    client.request_response(to("first")).await.expect("an answer");
    let back = served.fixture.requester().expect("it was accepted");
    let asked = tokio::spawn(back.request_response(never()));
    answering.recorder.wait("never runs").await;
    let asking = tokio::spawn(client.request_response(never()));
    served.fixture.recorder.wait("never runs").await;
    cutter.cut();
    asking.await.expect("no panic").expect_err("its connection is lost");
    asked.await.expect("no panic").expect_err("its connection is lost");
    notes.0.wait("our request-response never: connection lost, 1 sent, 0 received").await;
    notes.0.wait("peer's request-response never: connection lost, 0 sent, 1 received").await;
    client.request_response(to("second")).await.expect("an answer");
    notes.0.wait("our request-response second: completed, 1 sent, 1 received").await;
    // What is cancelled after it is not taken for lost.
    let back = served.fixture.requester().expect("it was accepted");
    let asked = tokio::spawn(back.request_response(never()));
    answering.recorder.wait_count("never runs", 2).await;
    asked.abort();
    notes.0.wait("peer's request-response never: cancelled, 0 sent, 1 received").await;
}

/// The server asks back: its observer sees what it asks, the client's what is asked of it.
#[tokio::test]
async fn either_side_is_observed_when_it_asks_and_when_it_is_asked() {
    limit_time();
    struct Back;
    impl Responder for Back {
        async fn request_response(self: Arc<Self>, request: Request) -> Result<Payload, Error> {
            request.peer().requester().request_response(to("back")).await
        }
    }
    let (of_server, of_client) = (Notes::default(), Notes::default());
    let server = Server::builder().observe(Arc::new(of_server.clone()));
    let server = server.bind(&["tcp://127.0.0.1:0"]).await.expect("a free port");
    let uri = server.addresses().remove(0);
    tokio::spawn(server.serve(async |_: Peer| Ok(Back)).into_future());
    let app = Router::new(()).route("back", request_response(async |(), ()| "back"));
    let client = Client::builder().acceptor(app).observe(Arc::new(of_client.clone()));
    let client = client.connect(&uri).await.expect("it listens");
    assert_eq!(client.request_response(to("there")).await.expect("an answer").data, "back");
    of_server.0.wait("peer's request-response there: completed, 1 sent, 1 received").await;
    assert_eq!(
        of_server.0.lines(),
        [
            "peer's request-response there begins",
            "our request-response back begins",
            "our request-response back: completed, 1 sent, 1 received",
            "peer's request-response there: completed, 1 sent, 1 received",
        ]
    );
    assert_eq!(
        of_client.0.lines(),
        [
            "our request-response there begins",
            "peer's request-response back begins",
            "peer's request-response back: completed, 1 sent, 1 received",
            "our request-response there: completed, 1 sent, 1 received",
        ]
    );
}

/// Panics whenever it is told something, and every other time that a request begins.
#[derive(Clone, Default)]
struct Panics(Arc<AtomicUsize>);

impl Observe for Panics {
    fn begin(&self, request: &Beginning<'_>) -> Option<Arc<dyn ObserveRequest>> {
        assert_eq!(self.0.fetch_add(1, Relaxed) % 2, 0, "an observer panics at {request:?}");
        Some(Arc::new(self.clone()))
    }
}

impl ObserveRequest for Panics {
    fn first_item(&self, _: Duration) {
        panic!("an observer panics at an item");
    }

    fn end(&self, end: &Ended<'_>) {
        panic!("an observer panics at {end:?}");
    }
}

#[tokio::test]
async fn an_observer_that_panics_costs_nobody_anything() {
    limit_time();
    let panics = || Arc::new(Panics::default());
    let server = Server::builder().observe(panics());
    let server = server.bind(&["tcp://127.0.0.1:0"]).await.expect("a free port");
    let uri = server.addresses().remove(0);
    tokio::spawn(server.serve(routes()).into_future());
    let client = Client::builder().observe(panics());
    let client = client.connect(&uri).await.expect("it listens");
    for _ in 0..2 {
        client.request_response(to("echo")).await.expect("an answer");
        client.request_response(to("fail")).await.expect_err("it fails");
        let items: Vec<_> = client.request_stream(to("count")).try_collect().await.expect("items");
        assert_eq!(items.len(), 3);
        let sent = stream::iter((0..4).map(|_| to("count")));
        let items: Vec<_> = client.request_channel(sent).try_collect().await.expect("items");
        assert_eq!(items.len(), 4);
        client.fire_and_forget(to("forget")).await.expect("it is on its way");
        drop(client.request_stream(to("endless")).credit(1).next().await);
    }
}
