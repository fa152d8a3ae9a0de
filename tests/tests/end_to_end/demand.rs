//! The peer's demand, seen by a handler and passed on: frames of a caller and of a service played by
//! hand, and rsock between them.

use std::{future::ready, sync::Arc};

use futures_util::{StreamExt, stream};
use rsock::{
    Acceptor, AcceptorExt, Client, ClientBuilder, Demand, Error, Grants, Payload, Payloads,
    Peer as Other, Request, Requester, Responder, Router, Server, request_stream,
};
use rsock_tests::{
    record::{Recorder, limit_time},
    script::{Peer, PeerListener},
    wire::{C, Frame, MAX_N, N, can, err, p, rc, rn, rs},
};

async fn serve(acceptor: impl Acceptor) -> String {
    let server = Server::bind("tcp://127.0.0.1:0").await.expect("a free port");
    let uri = server.addresses().remove(0);
    tokio::spawn(server.serve(acceptor).into_future());
    uri
}

/// One that asks, a link that passes everything on, and one that answers.
struct Chain {
    near: Peer,
    far: Peer,
    _link: Client,
}

impl Chain {
    async fn new() -> Self {
        Self::linked_by(Client::builder()).await
    }

    async fn linked_by(link: ClientBuilder) -> Self {
        limit_time();
        let listener = PeerListener::bind().await;
        let uri = listener.uri();
        let (link, far) = tokio::join!(link.connect(&uri), listener.accept_setup());
        let link = link.expect("it listens");
        let requester: Requester = (*link).clone();
        let uri = serve(move |_: Other| ready(Ok(requester.clone()))).await;
        Self { near: Peer::established(&uri).await, far, _link: link }
    }

    /// Nothing more is on its way to the far end, nor to the near one.
    async fn expect_silence(&mut self) {
        for _ in 0..2 {
            assert_eq!(self.near.ping_collecting().await, []);
            assert_eq!(self.far.ping_collecting().await, []);
        }
    }
}

fn numbered(stream: u32, range: std::ops::Range<u32>) -> Vec<Frame> {
    range.map(|n| p(stream, N, n.to_string())).collect()
}

#[tokio::test]
async fn a_stream_is_asked_for_what_was_asked_for_and_no_more() {
    let Chain { mut near, mut far, _link } = Chain::new().await;
    near.send(rs(1, 1, "s")).await;
    far.expect(rs(1, 1, "s")).await;
    let mut sent = 0;
    for n in [1, 1, 3, 1, 70] {
        far.send_all(numbered(1, sent..sent + 1)).await;
        near.expect(p(1, N, sent.to_string())).await;
        sent += 1;
        near.send(rn(1, n)).await;
        far.expect(rn(1, n)).await;
    }
    // Also what is asked for while there is some left.
    near.send(rn(1, 2)).await;
    far.expect(rn(1, 2)).await;
    let mut chain = Chain { near, far, _link };
    chain.expect_silence().await;
    chain.far.send_all(numbered(1, sent..1 + 78 - 1)).await;
    chain.near.expect_all(numbered(1, sent..1 + 78 - 1)).await;
    chain.expect_silence().await;
    // The end needs no credit, once the last item asked for is there.
    chain.far.send(p(1, N | C, "last")).await;
    chain.near.expect_last(1, "last").await;
}

#[tokio::test]
async fn every_end_goes_through() {
    let Chain { mut near, mut far, _link } = Chain::new().await;
    near.send(rs(1, 2, "cancelled")).await;
    far.expect(rs(1, 2, "cancelled")).await;
    far.send(p(1, N, "0")).await;
    near.expect(p(1, N, "0")).await;
    near.send(can(1)).await;
    far.expect(can(1)).await;
    near.send(rs(3, 1, "failed")).await;
    far.expect(rs(3, 1, "failed")).await;
    far.send(err(3, 0x202, "not now")).await;
    assert_eq!(near.expect_error(3, 0x202).await, "not now");
    // Whoever asked has gone.
    let uri = serve({
        let requester: Requester = (*_link).clone();
        move |_: Other| ready(Ok(requester.clone()))
    })
    .await;
    let mut gone = Peer::established(&uri).await;
    gone.send(rs(1, 1, "gone")).await;
    far.expect(rs(5, 1, "gone")).await;
    gone.reset();
    far.expect(can(5)).await;
    // Whoever answers has gone.
    near.send(rs(5, 1, "lost")).await;
    far.expect(rs(7, 1, "lost")).await;
    drop(far);
    let frame = near.next().await;
    assert!(frame.code().is_some(), "{frame:?}");
}

#[tokio::test]
async fn a_channel_is_asked_for_in_both_directions() {
    let mut chain = Chain::new().await;
    chain.near.send(rc(1, 2, "first")).await;
    chain.far.expect(rc(1, 2, "first")).await;
    // Nobody has asked the near end for anything.
    chain.expect_silence().await;
    for n in [1, 5] {
        chain.far.send(rn(1, n)).await;
        chain.near.expect(rn(1, n)).await;
    }
    chain.near.send_all(numbered(1, 0..6)).await;
    chain.far.expect_all(numbered(1, 0..6)).await;
    chain.far.send_all(numbered(1, 0..2)).await;
    chain.near.expect_all(numbered(1, 0..2)).await;
    chain.expect_silence().await;
    chain.near.send(rn(1, 3)).await;
    chain.far.expect(rn(1, 3)).await;
    // One direction ends, and then the other.
    chain.far.send(rn(1, 1)).await;
    chain.near.expect(rn(1, 1)).await;
    chain.near.send(p(1, N | C, "last")).await;
    chain.far.expect_last(1, "last").await;
    chain.far.send(p(1, N | C, "last")).await;
    chain.near.expect_last(1, "last").await;
    // The answering side wants nothing more of the asking one, whose answers go on.
    chain.near.send(rc(3, 1, "first")).await;
    chain.far.expect(rc(3, 1, "first")).await;
    chain.far.send(can(3)).await;
    chain.near.expect(can(3)).await;
    chain.far.send(p(3, N, "0")).await;
    chain.near.expect(p(3, N, "0")).await;
    chain.near.send(can(3)).await;
    chain.far.expect(can(3)).await;
}

/// What has no end is asked for in portions: who does not take it keeps no more than a window waiting.
#[tokio::test]
async fn demand_without_a_bound_is_passed_on_as_there_is_room() {
    let mut chain = Chain::linked_by(Client::builder().credit(4)).await;
    chain.near.send(rs(1, MAX_N, "s")).await;
    chain.far.expect(rs(1, 4, "s")).await;
    chain.expect_silence().await;
    let (mut asked, mut sent) = (4, 0);
    while sent < 100 {
        chain.far.send_all(numbered(1, sent..sent + 2)).await;
        chain.near.expect_all(numbered(1, sent..sent + 2)).await;
        sent += 2;
        while asked < sent + 4 {
            let frame = chain.far.next().await;
            asked += frame.number();
            assert!(asked <= sent + 4, "{asked} after {sent}: {frame:?}");
        }
    }
    chain.expect_silence().await;
}

/// Says what is demanded of it, and when it is over.
struct Watching(Arc<Recorder>);

impl Watching {
    fn watch(&self, name: &'static str, mut demand: Demand) {
        let recorder = Arc::clone(&self.0);
        tokio::spawn(async move {
            while let Some(granted) = demand.changed().await {
                recorder.note(format!("{name} {granted} {}", demand.is_unbounded()));
            }
            recorder.note(format!("{name} over"));
        });
    }
}

impl Responder for Watching {
    fn request_stream(
        self: Arc<Self>,
        mut request: Request,
    ) -> impl stream::Stream<Item = Result<Payload, Error>> + Send {
        self.watch("stream", request.demand());
        self.watch("again", request.demand());
        stream::pending()
    }

    fn request_channel(
        self: Arc<Self>,
        mut first: Request,
        rest: Payloads,
    ) -> impl stream::Stream<Item = Result<Payload, Error>> + Send {
        self.watch("channel", first.demand());
        rest
    }

    async fn request_response(self: Arc<Self>, mut request: Request) -> Result<Payload, Error> {
        Ok(format!("{:?}", request.demand().granted()).into())
    }
}

#[tokio::test]
async fn a_handler_sees_all_that_was_asked_for() {
    limit_time();
    let recorder = Arc::new(Recorder::default());
    let watching = Arc::clone(&recorder);
    let uri = serve(move |_: Other| ready(Ok(Watching(Arc::clone(&watching))))).await;
    let mut peer = Peer::established(&uri).await;
    peer.send(rs(1, 2, "s")).await;
    recorder.wait("stream 2 false").await;
    peer.send(rn(1, 1)).await;
    recorder.wait("stream 3 false").await;
    recorder.wait("again 3 false").await;
    peer.send(rn(1, MAX_N)).await;
    recorder.wait(&format!("stream {} true", u64::from(MAX_N) + 3)).await;
    peer.send(rn(1, MAX_N)).await;
    recorder.wait(&format!("stream {} true", 2 * u64::from(MAX_N) + 3)).await;
    peer.send(can(1)).await;
    recorder.wait("stream over").await;
    recorder.wait("again over").await;
    peer.send(rc(3, 1, "c")).await;
    recorder.wait("channel 1 false").await;
    peer.send(rn(3, 4)).await;
    recorder.wait("channel 5 false").await;
    drop(peer);
    recorder.wait("channel over").await;
    let client = Client::connect(&uri).await.expect("it listens");
    let answer = client.request_response("").await.expect("an answer");
    assert_eq!(answer.data, u64::MAX.to_string());
}

/// A layer passes it on as it is, or says what else is asked for; a route takes it like a payload.
#[tokio::test]
async fn demand_goes_through_layers() {
    let app = Router::new(())
        .route(
            "granted",
            request_stream(|(), mut demand: Demand| {
                stream::once(async move { demand.changed().await.unwrap_or(0).to_string() })
            }),
        )
        .default_route("granted")
        .wrap(async |mut request, next| {
            if request.data() == "double" {
                let grants = Grants::new();
                grants.grant(2 * request.demand().granted());
                request.set_demand(grants.demand());
            }
            next.run(request).await
        });
    limit_time();
    let mut peer = Peer::established(&serve(app).await).await;
    peer.send(rs(1, 7, "")).await;
    peer.expect_last(1, "7").await;
    peer.send(rs(3, 7, "double")).await;
    peer.expect_last(3, "14").await;
}

/// Whoever calls a responder in this process grants as he likes.
#[tokio::test]
async fn demand_is_granted_by_hand() {
    limit_time();
    let listener = PeerListener::bind().await;
    let uri = listener.uri();
    let (link, far) = tokio::join!(Client::connect(&uri), listener.accept_setup());
    let (link, mut far) = (link.expect("it listens"), far);
    let requester = Arc::new((*link).clone());
    let mut request = Request::new("by hand".into(), Other::local());
    let grants = Grants::new();
    request.set_demand(grants.demand());
    let mut items = Box::pin(Responder::request_stream(Arc::clone(&requester), request));
    let items = tokio::spawn(async move { (items.next().await, items) });
    assert_eq!(far.ping_collecting().await, [], "nothing was granted");
    grants.grant(2);
    far.expect(rs(1, 2, "by hand")).await;
    far.send(p(1, N, "0")).await;
    let (first, mut items) = items.await.expect("no panic");
    assert_eq!(first.expect("an item").expect("no error").data, "0");
    let more = tokio::spawn(async move { (items.next().await, items) });
    grants.grant(3);
    far.expect(rn(1, 3)).await;
    more.abort();
    let _ = more.await;
    far.expect(can(1)).await;
    // Of nothing, nothing is asked.
    let mut request = Request::new("never".into(), Other::local());
    request.set_demand(Grants::new().demand());
    let mut items = Box::pin(Responder::request_stream(requester, request));
    assert!(items.next().await.is_none());
    assert_eq!(far.ping_collecting().await, []);
}

/// A channel's own items may be made as they are asked for.
#[tokio::test]
async fn a_channels_responder_is_heard() {
    limit_time();
    let listener = PeerListener::bind().await;
    let uri = listener.uri();
    let (link, far) = tokio::join!(Client::connect(&uri), listener.accept_setup());
    let (link, mut far) = (link.expect("it listens"), far);
    let mut answers = link.request_channel_with(|demand| {
        let asked = stream::unfold(demand, async |mut demand| {
            Some((demand.changed().await?.to_string(), demand))
        });
        stream::once(ready("first".to_owned())).chain(asked)
    });
    let answers = tokio::spawn(async move { answers.next().await });
    let opened = far.next().await;
    assert_eq!(opened.data, b"first");
    far.send(rn(1, 5)).await;
    far.expect(p(1, N, "5")).await;
    far.send(rn(1, 2)).await;
    far.expect(p(1, N, "7")).await;
    far.send(p(1, N | C, "end")).await;
    assert_eq!(answers.await.expect("no panic").expect("an item").expect("it is").data, "end");
}
