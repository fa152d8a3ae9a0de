//! Who gets a turn while the socket takes less than there is to send.

use std::sync::Arc;

use futures_util::{Stream, StreamExt, stream};
use rsock::{Client, Error, Payload, Requester, Responder, Server, Setup, memory};
use rsock_tests::record::limit_time;
use tokio::{io::DuplexStream, sync::Notify};

/// Much more than a transport of `CAPACITY` bytes holds.
const LARGE: usize = 8 << 20;
const CAPACITY: usize = 64 << 10;

/// Answers `large` with a large payload, and anything else with itself.
#[derive(Clone, Default)]
struct Sizes {
    /// The large one was asked for.
    asked: Arc<Notify>,
}

impl Responder for Sizes {
    async fn request_response(self: Arc<Self>, payload: Payload) -> Result<Payload, Error> {
        if payload.data == "large" {
            self.asked.notify_one();
            return Ok(Payload::new(vec![0; LARGE]));
        }
        Ok(payload)
    }

    fn request_stream(
        self: Arc<Self>,
        payload: Payload,
    ) -> impl Stream<Item = Result<Payload, Error>> + Send {
        stream::repeat_with(move || Ok(payload.clone())).take(1_000)
    }
}

async fn connect(sizes: &Sizes) -> Client {
    limit_time();
    let (near, far): (DuplexStream, DuplexStream) = memory(CAPACITY);
    let responder = sizes.clone();
    let acceptor = move |_: Setup, _: Requester| {
        let responder = responder.clone();
        async move { Ok(responder) }
    };
    tokio::spawn(async move { Server::builder().serve_over(far, acceptor).await });
    Client::builder().connect_over(near).await.expect("memory connects")
}

/// Where it has its turn like the drivers; what a test blocks on is polled less often.
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
