//! Presence over real connections: who is seen to come and go as connections are closed, cut and taken up
//! again.

use std::{
    collections::BTreeSet,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use rsock::{
    Acceptor, Client, Error, Feed, Outlet, Payload, Request, RequestStream, Requester, Resume,
    ResumeLimits, Router, Server, memory, stream_feed,
    topic::{PresenceEvent, PresenceEvents, Topic},
};
use rsock_tests::{
    cutter::Cutter,
    record::limit_time,
    script::{PATIENCE, Peer},
    wire::{CLOSE, FIN, N, p, route, rs},
};
use rsock_topics::{Limits, PresenceSession, Service, Settings, TopicName, TopicSettings};

use crate::ask;

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(3 * PATIENCE, what).await.expect("in time")
}

/// Topics of which members who are lost stay for an hour, or for a moment; and of two members.
fn topics() -> Service {
    let grace = |presence_grace| TopicSettings { presence_grace, ..TopicSettings::default() };
    let patterns = [
        ("long.*", grace(Duration::from_secs(60 * 60))),
        ("short.*", grace(Duration::from_millis(1))),
        (
            "small.*",
            TopicSettings { max_members: 2, max_subscriptions: 4, ..TopicSettings::default() },
        ),
    ];
    Service::new(Settings::new(Limits::default(), patterns).expect("valid"))
}

/// A stream whose client is present for as long as it lasts: it says so, and then nothing.
struct Here {
    _session: PresenceSession,
    is_told: bool,
}

impl Here {
    fn of(topics: &Service, request: &Request) -> Result<Self, Error> {
        let topic = TopicName::of_client(request.param("topic").unwrap_or_default())?;
        let name = String::from_utf8_lossy(request.data());
        let session = topics.appear(request, &topic, &name, None)?;
        Ok(Self { _session: session, is_told: false })
    }
}

impl Feed for Here {
    fn poll_fill(&mut self, out: &mut Outlet<'_>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if !self.is_told && out.has_room() {
            out.send("here".into())?;
            self.is_told = true;
        }
        Poll::Pending
    }
}

fn app(topics: &Service) -> Router<()> {
    let service = topics.clone();
    let here = stream_feed(move |(), request: Request| Here::of(&service, &request));
    topics.add_to(Router::new(())).route("here.{*topic}", here)
}

/// The addresses of a server, for TCP and for WebSockets, that keeps sessions for as long.
async fn serve(acceptor: impl Acceptor, window: Duration) -> Vec<String> {
    limit_time();
    let mut limits = ResumeLimits::default();
    limits.window = window;
    let listen = ["tcp://127.0.0.1:0", "ws://127.0.0.1:0/rsocket"];
    let server = Server::builder().resume(limits, 10).bind(&listen).await.expect("free ports");
    let uris = server.addresses();
    tokio::spawn(server.serve(acceptor).into_future());
    uris
}

const MINUTE: Duration = Duration::from_secs(60);

async fn connect(uri: &str) -> Client {
    Client::connect(uri).await.expect("a connection")
}

/// A client joins; it is there when this returns, unless there are too many to be seen.
async fn join(client: &Requester, topic: &str, name: &str) -> (Pin<Box<RequestStream>>, bool) {
    let options = format!(r#"{{"name":"{name}","start":true}}"#);
    let first = ask(&format!("topic.{topic}"), &options);
    let sent = stream::iter([first]).chain(stream::pending());
    let mut items = Box::pin(client.request_channel(sent));
    let start = within(items.next()).await.expect("an item").expect("it may");
    let start = json(&start);
    (items, start["start"]["presence"] != "full")
}

/// The JSON of an item: behind the header of an entry of composite metadata.
fn json(item: &Payload) -> serde_json::Value {
    let metadata = item.metadata.as_deref().expect("metadata");
    serde_json::from_slice(&metadata[4..]).expect("JSON")
}

async fn appear(client: &Requester, topic: &str, name: &str) -> Pin<Box<RequestStream>> {
    let (there, is_seen) = join(client, topic, name).await;
    assert!(is_seen);
    there
}

fn watch(client: &Requester, topic: &str) -> PresenceEvents {
    Topic::new(client, topic).presence().away(true).watch()
}

/// The next event: `join ann`, `all 2`.
async fn next(events: &mut PresenceEvents) -> String {
    match within(events.try_next()).await.expect("no failure").expect("it goes on") {
        PresenceEvent::Here(member) => format!("here {}{}", member.name, away(member.away)),
        PresenceEvent::All { total } => format!("all {total}"),
        PresenceEvent::Join(member) => format!("join {}", member.name),
        PresenceEvent::Leave { name, .. } => format!("leave {name}"),
        PresenceEvent::Away { name } => format!("away {name}"),
        PresenceEvent::Back { name } => format!("back {name}"),
        other => format!("{other:?}"),
    }
}

fn away(is_away: bool) -> &'static str {
    if is_away { " away" } else { "" }
}

#[tokio::test]
async fn members_come_and_go() {
    let uris = serve(app(&topics()), MINUTE).await;
    for (round, uri) in uris.iter().enumerate() {
        let topic = format!("long.{round}");
        let [watching, of_ann, of_bob] =
            [connect(uri).await, connect(uri).await, connect(uri).await];
        let ann = appear(&of_ann, &topic, "ann").await;
        let mut events = watch(&watching, &topic);
        assert_eq!(next(&mut events).await, "here ann");
        assert_eq!(next(&mut events).await, "all 1");
        let _bob = appear(&of_bob, &topic, "bob").await;
        assert_eq!(next(&mut events).await, "join bob");
        let members = Topic::new(&watching, &*topic).presence().members().await.expect("a page");
        let names: Vec<_> = members.members.iter().map(|member| &*member.name).collect();
        assert_eq!((names, members.total), (vec!["ann", "bob"], 2));
        // A stream that is cancelled, and a connection that is closed in order, leave at once.
        drop(ann);
        assert_eq!(next(&mut events).await, "leave ann");
        within(of_bob.abort()).await;
        assert_eq!(next(&mut events).await, "leave bob");
        let count = Topic::new(&watching, &*topic).presence().count().await;
        assert_eq!(count.expect("a number"), 0);
    }
}

/// Two devices: one leave, after the last.
#[tokio::test]
async fn two_devices_are_one_member() {
    let uris = serve(app(&topics()), MINUTE).await;
    let watching = connect(&uris[0]).await;
    let mut events = watch(&watching, "long.1");
    assert_eq!(next(&mut events).await, "all 0");
    let [phone, laptop] = [connect(&uris[0]).await, connect(&uris[1]).await];
    let on_phone = appear(&phone, "long.1", "ann").await;
    let on_laptop = appear(&laptop, "long.1", "ann").await;
    drop(on_phone);
    let bob = appear(&phone, "long.1", "bob").await;
    drop(on_laptop);
    drop(bob);
    for wanted in ["join ann", "join bob", "leave ann", "leave bob"] {
        assert_eq!(next(&mut events).await, wanted);
    }
}

/// A client whose socket is killed is gone when its grace is over; one that is back before has not left.
#[tokio::test]
async fn a_killed_client_leaves_after_its_grace_and_a_reload_is_silent() {
    let uris = serve(app(&topics()), MINUTE).await;
    for (round, uri) in uris.iter().enumerate() {
        let cutter = Cutter::start(uri, []).await;
        let watching = connect(uri).await;
        let [short, long] = [format!("short.{round}"), format!("long.{round}")];
        let [mut of_short, mut of_long] = [watch(&watching, &short), watch(&watching, &long)];
        for events in [&mut of_short, &mut of_long] {
            assert_eq!(next(events).await, "all 0");
        }
        let killed = connect(cutter.uri()).await;
        let (_short, _long) =
            (appear(&killed, &short, "ann").await, appear(&killed, &long, "ann").await);
        cutter.cut();
        assert_eq!(next(&mut of_short).await, "join ann");
        // The server knows of the loss by then.
        assert_eq!(next(&mut of_short).await, "leave ann");
        let again = connect(uri).await;
        let ann = appear(&again, &long, "ann").await;
        drop(ann);
        for wanted in ["join ann", "leave ann"] {
            assert_eq!(next(&mut of_long).await, wanted);
        }
    }
}

/// A client that closes its WebSocket for good has left; a page that is left, or loaded again, has its grace.
#[tokio::test]
async fn a_page_that_is_loaded_again_is_not_seen_to_leave() {
    let uris = serve(app(&topics()), MINUTE).await;
    let watching = connect(&uris[0]).await;
    let mut events = watch(&watching, "long.1");
    assert_eq!(next(&mut events).await, "all 0");
    for name in ["ann", "bob"] {
        let mut page = Peer::established(&uris[1]).await;
        page.send(rs(1, 1, name).metadata(route("here.long.1"))).await;
        page.expect(p(1, N, "here")).await;
        assert_eq!(next(&mut events).await, format!("join {name}"));
        let code: u16 = if name == "ann" { 1_001 } else { 1_000 };
        page.message(FIN | CLOSE, code.to_be_bytes()).await;
        page.expect_end().await;
    }
    assert_eq!(next(&mut events).await, "leave bob");
    let page = connect(&uris[1]).await;
    drop(appear(&page, "long.1", "ann").await);
    assert_eq!(next(&mut events).await, "leave ann");
}

/// A session that may be resumed is away while it has no transport, and gone when it is over.
#[tokio::test]
async fn a_resumable_session_is_away_until_it_is_back() {
    for (round, window) in [MINUTE, Duration::from_millis(1)].into_iter().enumerate() {
        let uris = serve(app(&topics()), window).await;
        for uri in &uris {
            let topic = format!("long.{round}");
            let cutter = Cutter::start(uri, []).await;
            let watching = connect(uri).await;
            let mut events = watch(&watching, &topic);
            assert_eq!(next(&mut events).await, "all 0");
            let pauses = (Duration::from_millis(1), Duration::from_millis(20));
            let resume = Resume::new().pauses(pauses.0, pauses.1);
            let session = Client::builder().resume(resume);
            let session = session.connect(cutter.uri()).await.expect("a connection");
            let there = appear(&session, &topic, "ann").await;
            assert_eq!(next(&mut events).await, "join ann");
            cutter.refuse(true);
            cutter.cut();
            assert_eq!(next(&mut events).await, "away ann");
            if window == MINUTE {
                let mut late = watch(&watching, &topic);
                assert_eq!(next(&mut late).await, "here ann away");
                cutter.refuse(false);
                assert_eq!(next(&mut events).await, "back ann");
                drop(there);
            }
            // It was waited for, and has no grace beside.
            assert_eq!(next(&mut events).await, "leave ann");
        }
    }
}

/// Whom a topic is full for is told, and is seen nowhere, but takes part.
#[tokio::test]
async fn a_full_topic_shows_no_more_members() {
    let topics = topics();
    let uris = serve(app(&topics), MINUTE).await;
    let client = connect(&uris[0]).await;
    let _members =
        [appear(&client, "small.1", "ann").await, appear(&client, "small.1", "bob").await];
    let (mut cy, is_seen) = join(&client, "small.1", "cy").await;
    assert!(!is_seen);
    Topic::new(&client, "small.1").publish("hello").await.expect("room");
    assert_eq!(within(cy.next()).await.expect("an item").expect("no failure").data, "hello");
    let topic = TopicName::parse("small.1").expect("a name");
    let figures = topics.presence_of(&topic);
    assert_eq!((figures.members, figures.sessions, figures.full), (2, 2, 1));
    assert_eq!(topics.figures().unseen_members, 1);
    let mut watchers = Vec::new();
    for _ in 0..4 {
        let mut watching = client.request_stream(ask("presence.small.1", ""));
        within(watching.next()).await.expect("an item").expect("room");
        watchers.push(watching);
    }
    let more = client.request_stream(ask("presence.small.1", "")).next().await.expect("an end");
    let more = more.expect_err("there are four").to_string();
    assert!(more.contains("too many subscriptions: "), "{more}");
    let names = Topic::new(&client, "small.1").presence().members().await.expect("a page");
    assert!(names.members.iter().all(|member| member.name != "cy"));
}

/// A stream of an application's own, whose client is present for as long as it lasts.
#[tokio::test]
async fn somebody_is_present_who_has_not_joined() {
    let topics = topics();
    let uris = serve(app(&topics), MINUTE).await;
    let client = connect(&uris[0]).await;
    let mut events = watch(&client, "long.1");
    assert_eq!(next(&mut events).await, "all 0");
    let mut here = client.request_stream(ask("here.long.1", "ann"));
    assert_eq!(within(here.next()).await.expect("an item").expect("it may").data, "here");
    assert_eq!(next(&mut events).await, "join ann");
    // It said so itself, and joins beside it unseen.
    let first = ask("topic.long.1", r#"{"name":"bob","presence":false,"start":true}"#);
    let sent = stream::iter([first]).chain(stream::pending());
    let mut unseen = Box::pin(client.request_channel(sent));
    within(unseen.next()).await.expect("an item").expect("it may");
    drop(here);
    assert_eq!(next(&mut events).await, "leave ann");
    let error = client.request_stream(ask("here.long.1", "a\nb")).next().await;
    let error = error.expect("an end").expect_err("not a name").to_string();
    assert!(error.contains("is not a valid name"), "{error}");
}

/// The members that a watcher knows of.
#[derive(Default)]
struct Known {
    names: BTreeSet<String>,
    is_whole: bool,
}

impl Known {
    /// Every item must fit what was told before it.
    fn take(&mut self, item: &Payload) {
        let event = json(item);
        let name = event["name"].as_str().unwrap_or_default().to_owned();
        match event["event"].as_str().expect("an event") {
            "here" | "join" => assert!(self.names.insert(name.clone()), "{name} twice"),
            "leave" => assert!(self.names.remove(&name), "{name} was not there"),
            "all" => self.is_whole = true,
            other => panic!("{other}"),
        }
    }

    /// Whether all have gone, and the last has come.
    fn is_at_the_end(&self) -> bool {
        self.is_whole && self.names.len() == 1 && self.names.contains("end")
    }
}

/// A watcher that asks for few items at a time, while members come and go, knows who is there in the end.
#[tokio::test]
async fn a_slow_watcher_knows_who_is_there_in_the_end() {
    let topics = topics();
    let uris = serve(app(&topics), MINUTE).await;
    let client = connect(&uris[0]).await;
    let watching = connect(&uris[1]).await;
    let mut sessions = Vec::new();
    for n in 0..150 {
        sessions.push(appear(&client, "long.1", &format!("m{n:03}")).await);
    }
    let mut items = watching.request_stream(ask("presence.long.1", "")).credit(1);
    let mut known = Known::default();
    let mut last = None;
    loop {
        let item = within(items.next()).await.expect("an item").expect("no failure");
        known.take(&item);
        if known.is_at_the_end() {
            break;
        }
        // While it reads, they leave, and others come for a moment.
        if !sessions.is_empty() {
            drop(sessions.remove(0));
            let of_moment = appear(&client, "long.1", &format!("n{:03}", sessions.len())).await;
            if sessions.is_empty() {
                last = Some(appear(&client, "long.1", "end").await);
            }
            drop(of_moment);
        }
    }
    drop(last);
}

/// Members of many connections that come and go on several threads: every watcher knows who is there in the
/// end, and has been woken for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn watchers_know_who_is_there_whoever_comes_and_goes() {
    let uris = serve(app(&topics()), MINUTE).await;
    let watching: Vec<_> = (0..6)
        .map(|n: usize| {
            let uri = uris[n % 2].clone();
            tokio::spawn(async move {
                let client = connect(&uri).await;
                let credit = [1, 7, 256][n % 3];
                let mut items = client.request_stream(ask("presence.long.1", "")).credit(credit);
                let mut known = Known::default();
                while !known.is_at_the_end() {
                    let item = within(items.next()).await.expect("an item").expect("no failure");
                    known.take(&item);
                }
            })
        })
        .collect();
    let coming: Vec<_> = (0..8)
        .map(|n: usize| {
            let uri = uris[n % 2].clone();
            tokio::spawn(async move {
                let client = connect(&uri).await;
                let mut last = None;
                for round in 0..40 {
                    // Some names are of several.
                    let name = format!("m{}.{}", n % 5, round % 7);
                    last = Some(appear(&client, "long.1", &name).await);
                }
                drop(last);
                // What it has left is known when this is answered.
                Topic::new(&client, "long.1").presence().count().await.expect("a number");
            })
        })
        .collect();
    for coming in coming {
        coming.await.expect("it comes and goes");
    }
    let client = connect(&uris[0]).await;
    let _end = appear(&client, "long.1", "end").await;
    for watching in watching {
        watching.await.expect("it knows");
    }
}

/// A half-open connection: nothing comes and nothing ends. Who has appeared by it counts as lost after three
/// KEEPALIVEs that did not come, whatever lifetime was agreed, and leaves after the grace.
#[tokio::test(start_paused = true)]
async fn a_mute_client_is_lost_in_time() {
    limit_time();
    let topics = topics();
    let server = Server::builder().without_listeners(app(&topics));
    let start = |end| {
        let server = server.clone();
        tokio::spawn(async move { server.serve_over(end).await });
    };
    let (near, far) = memory(4_096);
    start(far);
    let watching = Client::builder().connect_over(near).await.expect("memory connects");
    let mut events = watch(&watching, "room.1");
    assert_eq!(next(&mut events).await, "all 0");
    let (near, mut there) = memory(4_096);
    let (mut here, far) = memory(4_096);
    start(far);
    let relay = async move { tokio::io::copy_bidirectional(&mut there, &mut here).await };
    let (mute, muted) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(async move {
        let mut relay = Box::pin(relay);
        tokio::select! {
            _ = &mut relay => {}
            _ = muted => std::future::pending().await,
        }
    });
    let client = Client::builder().keepalive(Duration::from_secs(20), 10 * MINUTE);
    let client = client.connect_over(near).await.expect("memory connects");
    let _there = appear(&client, "room.1", "ann").await;
    assert_eq!(next(&mut events).await, "join ann");
    mute.send(()).expect("it relays");
    let start = tokio::time::Instant::now();
    let left = events.try_next().await.expect("no failure").expect("it goes on");
    assert!(matches!(left, PresenceEvent::Leave { name, .. } if name == "ann"));
    // Three intervals, and a grace of five seconds, from the last frame that came.
    let seconds = start.elapsed().as_secs();
    assert!((60..=65).contains(&seconds), "{seconds}");
}
