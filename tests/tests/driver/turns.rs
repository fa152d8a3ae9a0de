//! The order of turns while the socket takes less than there is to send, and while others move
//! much.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use futures_util::{Stream, StreamExt, stream};
use rsock::{Client, Error, Payload, Peer, Request, Responder, Server, memory};
use rsock_tests::record::limit_time;
use tokio::{io::DuplexStream, sync::Notify};

/// Much more than a transport of `CAPACITY` bytes holds.
const LARGE: usize = 8 << 20;
const CAPACITY: usize = 64 << 10;
/// As much as a thread moves before bulk work stands in line.
const LARGE_ITEM: usize = 1 << 20;

/// Answers `large` with a large payload, and anything else with itself.
#[derive(Clone, Default)]
struct Sizes {
    /// The large one was asked for.
    asked: Arc<Notify>,
    /// Items of streams of `large` ones, of all connections.
    yielded: Arc<AtomicUsize>,
}

impl Responder for Sizes {
    async fn request_response(self: Arc<Self>, request: Request) -> Result<Payload, Error> {
        let payload = request.into_payload();
        if payload.data == "large" {
            self.asked.notify_one();
            return Ok(Payload::new(vec![0; LARGE]));
        }
        Ok(payload)
    }

    fn request_stream(
        self: Arc<Self>,
        request: Request,
    ) -> impl Stream<Item = Result<Payload, Error>> + Send {
        let payload = request.into_payload();
        let is_large = payload.data == "large";
        stream::repeat_with(move || {
            if is_large {
                self.yielded.fetch_add(1, Relaxed);
                return Ok(Payload::new(vec![0; LARGE_ITEM]));
            }
            Ok(payload.clone())
        })
        .take(1_000)
    }
}

async fn connect(sizes: &Sizes) -> Client {
    limit_time();
    let (near, far): (DuplexStream, DuplexStream) = memory(CAPACITY);
    let responder = sizes.clone();
    let acceptor = move |_: Peer| {
        let responder = responder.clone();
        async move { Ok(responder) }
    };
    tokio::spawn(async move { Server::builder().serve_over(far, acceptor).await });
    Client::builder().connect_over(near).await.expect("memory connects")
}

/// Runs it where it has its turn like the drivers; what a test blocks on is polled less often.
async fn on_a_task(work: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(work).await.expect("no panic");
}

/// A handler is asked although a long answer fills whatever the socket takes.
#[tokio::test]
async fn a_small_answer_does_not_wait_for_a_large_one() {
    on_a_task(small_beside_large()).await;
}

async fn small_beside_large() {
    let sizes = Sizes::default();
    let client = connect(&sizes).await;
    let large = tokio::spawn(client.request_response("large"));
    sizes.asked.notified().await;
    for _ in 0..4 {
        assert_eq!(client.request_response("small").await.expect("an answer").data, "small");
    }
    assert!(!large.is_finished(), "the small ones came after the large one");
    assert_eq!(large.await.expect("no panic").expect("an answer").data.len(), LARGE);
}

/// So is a stream, again and again.
#[tokio::test]
async fn a_stream_goes_on_beside_a_large_answer() {
    on_a_task(stream_beside_large()).await;
}

async fn stream_beside_large() {
    let sizes = Sizes::default();
    let client = connect(&sizes).await;
    let large = tokio::spawn(client.request_response("large"));
    sizes.asked.notified().await;
    assert_eq!(client.request_stream("item").count().await, 1_000);
    assert!(!large.is_finished(), "the stream went on after the large answer");
    assert_eq!(large.await.expect("no panic").expect("an answer").data.len(), LARGE);
}

/// However many connections move as much as they can, a small request on another waits for a few of
/// them and not for all: as long as these take turns, and again when all of them are new.
#[tokio::test]
async fn a_small_request_does_not_wait_for_bulk_on_other_connections() {
    on_a_task(small_beside_bulk()).await;
}

async fn small_beside_bulk() {
    let sizes = Sizes::default();
    let polite = connect(&sizes).await;
    let mut others = Vec::new();
    for _ in 0..100 {
        others.push(connect(&sizes).await);
    }
    polite.ping().await.expect("it is up");
    let bulk: Vec<_> = others
        .iter()
        .map(|client| {
            let mut items = client.request_stream("large").credit(4);
            tokio::spawn(async move { while items.next().await.is_some() {} })
        })
        .collect();
    for round in 0..50 {
        let before = sizes.yielded.load(Relaxed);
        assert_eq!(polite.request_response("small").await.expect("an answer").data, "small");
        let passed = sizes.yielded.load(Relaxed) - before;
        assert!(passed <= 20, "{passed} items were made before the answer of round {round}");
    }
    let before = sizes.yielded.load(Relaxed);
    while sizes.yielded.load(Relaxed) < before + 1_000 {
        tokio::task::yield_now().await;
    }
    for bulk in bulk {
        bulk.abort();
    }
}
