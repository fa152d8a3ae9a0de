//! Memory that connections share: what is drawn is given back, who holds most is refused first, and
//! what waits for a consumer that takes nothing does not stop the others for long.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, Stream, StreamExt, poll, stream};
use rsock::{
    Client, ClientBuilder, Error, MemoryBudget, Meter, Payload, PayloadExt, Payloads, Request,
    Responder, ResumeLimits, Router, Server, ServerBuilder, memory, request_channel,
    request_response, request_stream,
};
use rsock_tests::{
    record::limit_time,
    wire::{rc, rn, rr, rs, setup, setup_resumable},
};
use tokio::{io::AsyncWriteExt, time::Instant};

use crate::line::{Line, Peer};

const ITEM: usize = 100_000;

fn routes() -> Router<()> {
    Router::new(())
        .route("never", request_response(async |(), _: Payload| std::future::pending::<()>().await))
        .route("answer", request_response(async |(), _: Payload| "answer"))
        .route("large", request_stream(|(), _: Payload| stream::repeat_with(|| vec![b'x'; ITEM])))
        .route(
            "echo",
            request_channel(|(), first: Payload, rest: Payloads| {
                stream::iter([Ok(first)]).chain(rest)
            }),
        )
}

async fn connect(server: ServerBuilder, client: ClientBuilder) -> Client {
    let (near, far) = memory(64 << 10);
    tokio::spawn(async move { server.serve_over(far, routes()).await });
    client.connect_over(near).await.expect("memory connects")
}

fn asked(route: &str, bytes: usize) -> Payload {
    Payload::new(vec![b'x'; bytes]).route(route).expect("a short route")
}

/// Whatever happens on a connection, nothing of it is drawn when it is over.
#[tokio::test]
async fn what_is_drawn_is_given_back() {
    limit_time();
    let budgets = [(); 2].map(|()| MemoryBudget::new(64 << 20));
    let server =
        Server::builder().memory(Arc::clone(&budgets[0])).resume(ResumeLimits::default(), 10);
    let client = Client::builder().memory(Arc::clone(&budgets[1]));
    let client = connect(server, client).await;
    let waiting: Vec<_> = (0..20).map(|_| client.request_response(asked("never", ITEM))).collect();
    let mut waiting: Vec<_> = waiting.into_iter().map(Box::pin).collect();
    for request in &mut waiting {
        assert!(poll!(request).is_pending());
    }
    let mut items = client.request_stream(asked("large", 10)).credit(10);
    for _ in 0..5 {
        items.next().await.expect("endless").expect("no error");
    }
    let sent = stream::iter((0..50).map(|_| asked("echo", ITEM)));
    let echoes = client.request_channel(sent).credit(3).count().await;
    assert_eq!(echoes, 50);
    client.ping().await.expect("it is alive");
    let requests = 20 * ITEM;
    assert!(budgets[0].used() >= requests, "{:?}", budgets[0]);
    assert!(budgets[0].used() < 3 * requests, "a block is charged once: {:?}", budgets[0]);
    assert!(budgets[1].used() >= ITEM, "items wait: {:?}", budgets[1]);
    drop((waiting, items));
    client.close().await;
    until(|| budgets.iter().all(|budget| budget.used() == 0)).await;
}

/// Waits for other tasks to bring something about.
async fn until(done: impl Fn() -> bool) {
    while !done() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_greediest_is_refused_and_others_are_served() {
    limit_time();
    let (budget, meter) = (MemoryBudget::new(4 << 20), Arc::new(Meter::default()));
    let server = || Server::builder().memory(Arc::clone(&budget)).meter(Arc::clone(&meter));
    let greedy = connect(server(), Client::builder()).await;
    let polite = connect(server(), Client::builder()).await;
    let mut waiting = Vec::new();
    let refused = loop {
        let mut request = Box::pin(greedy.request_response(asked("never", ITEM)));
        assert!(poll!(&mut request).is_pending());
        // The answer to what was asked before it, or none.
        greedy.ping().await.expect("it is alive");
        match request.as_mut().now_or_never() {
            Some(answer) => break answer.expect_err("it is never answered"),
            None => waiting.push(request),
        }
    };
    assert!(matches!(&refused, Error::Rejected(text) if text.contains("memory")), "{refused}");
    assert!((5..=40).contains(&waiting.len()), "{} requests wait", waiting.len());
    assert!(budget.used() <= budget.max());
    assert!(meter.read().stats.refused_memory >= 1);
    for _ in 0..10 {
        let answer = polite.request_response(asked("answer", ITEM)).await;
        assert_eq!(answer.expect("it is served").data, "answer");
    }
    // What goes makes room.
    drop(waiting);
    greedy.ping().await.expect("it is alive");
    let answer = greedy.request_response(asked("answer", ITEM)).await;
    assert_eq!(answer.expect("it is served again").data, "answer");
}

/// A consumer that takes nothing holds the others up for ten seconds, and then fails alone.
#[tokio::test(start_paused = true)]
async fn what_nobody_takes_is_given_up() {
    let meter = Arc::new(Meter::default());
    let client = Client::builder().max_waiting_bytes(1 << 20).meter(Arc::clone(&meter));
    let client = connect(Server::builder(), client).await;
    let mut slow = client.request_stream(asked("large", 10)).credit(100);
    slow.next().await.expect("endless").expect("no error");
    until(|| meter.read().paused_for_consumers == 1).await;
    let began = Instant::now();
    let answer = client.request_response(asked("answer", 10)).await;
    assert_eq!(answer.expect("it comes").data, "answer");
    let waited = began.elapsed();
    assert!(waited >= Duration::from_secs(9) && waited < Duration::from_secs(12), "{waited:?}");
    let mut taken = 0;
    let end = loop {
        match slow.next().await.expect("it ends with an error") {
            Ok(item) => taken += item.data.len(),
            Err(error) => break error,
        }
    };
    assert!(taken <= 2 << 20, "{taken}");
    assert!(matches!(&end, Error::Canceled(text) if text.contains("nothing was taken")), "{end}");
    assert_eq!(meter.read().given_up_streams, 1);
}

/// As `rsock stream … | less`: where nobody else waits, the consumer decides how long it takes.
#[tokio::test(start_paused = true)]
async fn who_is_alone_takes_as_long_as_he_likes() {
    let meter = Arc::new(Meter::default());
    let client = Client::builder().max_waiting_bytes(1 << 20).meter(Arc::clone(&meter));
    let client = connect(Server::builder(), client).await;
    let mut alone = client.request_stream(asked("large", 10)).credit(100);
    for _ in 0..5 {
        for _ in 0..20 {
            alone.next().await.expect("endless").expect("no error");
        }
        tokio::time::sleep(Duration::from_secs(300)).await;
    }
    assert!(meter.read().paused_for_consumers > 0);
    assert_eq!(meter.read().given_up_streams, 0);
}

/// One that is slow but takes something is waited for.
#[tokio::test(start_paused = true)]
async fn a_slow_consumer_loses_nothing() {
    let meter = Arc::new(Meter::default());
    let client = Client::builder().max_waiting_bytes(1 << 20).meter(Arc::clone(&meter));
    let client = connect(Server::builder(), client).await;
    let mut slow = client.request_stream(asked("large", 10)).credit(100);
    for _ in 0..150 {
        slow.next().await.expect("endless").expect("no error");
        tokio::time::sleep(Duration::from_secs(4)).await;
    }
    assert!(meter.read().paused_for_consumers > 0);
    assert_eq!(meter.read().given_up_streams, 0);
}

/// Where one stream's end would not make room, more of them end at once, and not one each ten seconds.
#[tokio::test(start_paused = true)]
async fn as_many_are_given_up_as_it_takes() {
    limit_time();
    let meter = Arc::new(Meter::default());
    let client = Client::builder().max_waiting_bytes(1 << 20).meter(Arc::clone(&meter));
    let client = connect(Server::builder(), client).await;
    let mut slow: Vec<_> =
        (0..8).map(|_| client.request_stream(asked("large", 10)).credit(3)).collect();
    for items in &mut slow {
        items.next().await.expect("endless").expect("no error");
    }
    until(|| meter.read().paused_for_consumers >= 1).await;
    let began = Instant::now();
    let answer = client.request_response(asked("answer", 10)).await;
    assert_eq!(answer.expect("it comes").data, "answer");
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    assert!(meter.read().given_up_streams >= 2, "{}", meter.read().given_up_streams);
}

/// Where there is no memory at all, no handler is asked for more; it is when there is again.
#[tokio::test(start_paused = true)]
async fn handlers_yield_nothing_while_there_is_no_memory() {
    limit_time();
    let (budget, meter) = (MemoryBudget::new(ITEM / 4 * 3), Arc::new(Meter::default()));
    let server = || Server::builder().memory(Arc::clone(&budget)).meter(Arc::clone(&meter));
    let polite = connect(server(), Client::builder()).await;
    let mut items = polite.request_stream(asked("large", 10)).credit(1);
    items.next().await.expect("endless").expect("no error");
    // This one asks for an item that is more than there is, and takes little of it.
    let (mut deaf, far) = memory(1 << 10);
    let deaf_server = server();
    tokio::spawn(async move {
        deaf_server.serve_over(far, routes().default_route("large")).await;
    });
    for frame in [setup(), rs(1, 10, "")] {
        deaf.write_all(&frame.prefixed()).await.expect("it is taken");
    }
    until(|| budget.used() >= budget.max()).await;
    let began = Instant::now();
    // Its credit is there already, or comes with this.
    items.next().await.expect("endless").expect("no error");
    items.next().await.expect("endless").expect("no error");
    let waited = began.elapsed();
    // For so long a peer may take nothing.
    assert!(waited >= Duration::from_secs(1) && waited < Duration::from_secs(5), "{waited:?}");
    let read = meter.read();
    assert_eq!(read.ended_for_memory, 1);
    assert!(read.paused_for_memory >= 1);
}

/// Who has held little while memory was short is served as before when it is not short any more.
#[tokio::test]
async fn what_was_short_once_is_not_short_for_good() {
    limit_time();
    let budget = MemoryBudget::new(560 << 10);
    let server = || Server::builder().memory(Arc::clone(&budget));
    let polite = connect(server(), Client::builder()).await;
    let (mut greedy, mut waiting) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        let client = connect(server(), Client::builder()).await;
        for _ in 0..20 {
            let mut request = Box::pin(client.request_response(asked("never", 20_000)));
            assert!(poll!(&mut request).is_pending());
            waiting.push(request);
        }
        client.ping().await.expect("it is alive");
        greedy.push(client);
    }
    // A short request keeps all that was read with it.
    let mut kept = Box::pin(polite.request_response(asked("never", 10)));
    assert!(poll!(&mut kept).is_pending());
    for _ in 0..20 {
        polite.fire_and_forget(asked("answer", 15_000)).await.expect("it is sent");
    }
    polite.ping().await.expect("it is alive");
    drop(kept);
    polite.ping().await.expect("it is alive");
    drop((waiting, greedy));
    until(|| budget.used() < budget.max() / 2).await;
    let answer = polite.request_response(asked("answer", 12_000)).await;
    assert_eq!(answer.expect("it is served").data, "answer");
}

/// What sessions retain is counted while they go on writing, and not when they come to rest: many that
/// are busy at the same time share what there is.
#[tokio::test(start_paused = true)]
async fn sessions_retain_no_more_than_there_is_memory_however_many_write() {
    limit_time();
    let budget = MemoryBudget::new(2 << 20);
    let server = Server::builder().memory(Arc::clone(&budget)).resume(ResumeLimits::default(), 100);
    let server = server.without_listeners(async |_: rsock::Peer| Ok(Large));
    let mut peers = Vec::new();
    for token in 0..30_u8 {
        // All of what is retained may be on its way.
        let (near, far) = memory(8 << 20);
        let server = server.clone();
        tokio::spawn(async move { server.serve_over(far).await });
        let mut peer = Peer(near);
        peer.send(&setup_resumable(&[token])).await;
        peer.send(&rs(1, 0x7fff_ffff, "")).await;
        peers.push(peer);
    }
    // The clock goes on when nobody has anything to do.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(budget.used() > budget.max() / 2, "{budget:?}");
    // A turn's worth of one of them, and what an allocator makes of it.
    assert!(budget.used() < budget.max() + (128 << 10), "{budget:?}");
}

/// Frames that nobody would wait for one by one are as much together as long ones.
#[tokio::test(start_paused = true)]
async fn many_half_frames_are_read_as_far_as_there_is_memory() {
    limit_time();
    let (budget, meter) = (MemoryBudget::new(2 << 20), Arc::new(Meter::default()));
    let server = Server::builder().memory(Arc::clone(&budget)).meter(Arc::clone(&meter));
    let server = server.without_listeners(async |_: rsock::Peer| Ok(Large));
    let mut peers = Vec::new();
    for _ in 0..200 {
        let (near, far) = memory(256 << 10);
        let server = server.clone();
        tokio::spawn(async move { server.serve_over(far).await });
        let mut peer = Peer(near);
        peer.send(&setup()).await;
        let half = &rr(1, vec![b'x'; 120_000]).encode()[..100_000];
        peer.0.write_all(&[&[1, 0xd4, 0xc6], half].concat()).await.expect("it is open");
        peers.push(peer);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(budget.used() >= budget.max() / 8 * 7, "{budget:?}");
    // A little more for short frames, and a first read of each.
    let most = budget.max() + (1 << 20) + peers.len() * (8 << 10);
    assert!(budget.used() <= most, "{budget:?}");
    assert!(meter.read().paused_for_memory > 100);
    // What has no memory for long is ended, and so is what does not come on.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(budget.used() < budget.max() / 2, "{budget:?}");
    let client = connect(
        Server::builder().memory(Arc::clone(&budget)).meter(Arc::clone(&meter)),
        Client::builder(),
    );
    let answer = client.await.request_response(asked("answer", ITEM)).await;
    assert_eq!(answer.expect("it is served").data, "answer");
}

struct Large;

impl Responder for Large {
    fn request_stream(
        self: Arc<Self>,
        _: Request,
    ) -> impl Stream<Item = Result<Payload, Error>> + Send {
        stream::repeat_with(|| Ok(Payload::new(vec![b'x'; 16 << 10])))
    }
}

/// The first of a channel says how large items are: a handler that takes none of them for long has not
/// asked for more than may wait.
#[tokio::test]
async fn a_channel_asks_for_no_more_than_its_bytes_allow() {
    limit_time();
    let server = Server::builder().without_listeners(async |_: rsock::Peer| Ok(Echoes));
    let (near, far) = memory(64 << 10);
    tokio::spawn(async move { server.serve_over(far).await });
    let mut peer = Peer(near);
    peer.send(&setup()).await;
    for (stream, bytes, asked) in
        [(1, 0, 256), (3, 16 << 10, 256), (5, 1 << 20, 4), (7, 5 << 20, 1)]
    {
        peer.send(&rc(stream, 1, vec![b'x'; bytes])).await;
        assert_eq!(peer.next().await, rn(stream, asked), "{bytes}");
    }
    // What a handler asks for itself is asked for.
    peer.send(&rc(9, 1, vec![b'c'; 1 << 20])).await;
    assert_eq!(peer.next().await, rn(9, 100));
}

struct Echoes;

impl Responder for Echoes {
    fn request_channel(
        self: Arc<Self>,
        first: Request,
        rest: Payloads,
    ) -> impl Stream<Item = Result<Payload, Error>> + Send {
        let first = first.into_payload();
        if first.data.starts_with(b"c") { rest.credit(100) } else { rest }
    }
}

/// A session whose transport is lost while it is not read waits for another, and does nothing else.
#[tokio::test(start_paused = true)]
async fn a_pause_ends_with_its_transport() {
    let line =
        Line::new(Server::builder().max_waiting_bytes(1 << 20).resume(ResumeLimits::default(), 10));
    let client =
        line.connect(Client::builder().acceptor(line.fixture.clone()).resume(line.resume())).await;
    let sent = stream::iter((0..100).map(|_| Payload::new(vec![b'x'; ITEM])));
    let mut echoes = client.request_channel(sent).credit(1);
    echoes.next().await.expect("an echo").expect("no error");
    until(|| line.meter.read().paused_for_consumers == 1).await;
    line.set_down(true);
    line.cut();
    // The server notices when it writes.
    let back = line.fixture.requester().expect("a client was accepted");
    let asked = tokio::spawn(back.request_response("x").into_future());
    while line.meter.read().suspended_sessions == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Longer than consumers are waited for. The clock goes on while nobody is busy, and not otherwise.
    tokio::time::sleep(Duration::from_secs(15)).await;
    line.set_down(false);
    assert_eq!(asked.await.expect("no panic").expect("an answer").data, "x");
    drop(echoes);
    client.abort().await;
}
