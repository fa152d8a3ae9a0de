//! Requests that are passed on: what can be asked can answer.

use std::{future::ready, sync::Arc};

use futures_util::{StreamExt, TryStreamExt, stream};
use rsock::{
    Client, Error, Identity, Layered, Payload, PayloadExt, Peer, Request, Requester, Responder,
    Server, Wrap,
};
use rsock_tests::{
    fixture::Fixture,
    record::{Recorder, limit_time},
};
use tokio::net::TcpListener;

/// A server with this fixture, one before it that passes everything on, and a client of that.
async fn chain(fixture: &Fixture) -> (Client, Client) {
    limit_time();
    let behind = Server::bind("tcp://127.0.0.1:0").await.expect("a free port");
    let uri = behind.addresses().remove(0);
    tokio::spawn(behind.serve(fixture.clone()).into_future());
    let link = Client::connect(&uri).await.expect("it listens");
    let before = Server::bind("tcp://127.0.0.1:0").await.expect("a free port");
    let uri = before.addresses().remove(0);
    let requester: Requester = (*link).clone();
    let acceptor = move |_: Peer| ready(Ok(requester.clone()));
    tokio::spawn(before.serve(acceptor).into_future());
    (Client::connect(&uri).await.expect("it listens"), link)
}

#[tokio::test]
async fn all_interactions_are_passed_on() {
    let fixture = Fixture::default();
    let (client, _link) = chain(&fixture).await;
    let payload = Payload { metadata: Some("m".into()), data: "echo".into() };
    let direct = Arc::new(fixture.clone()).request_response(local(payload.clone())).await;
    let passed_on = client.request_response(payload).await;
    assert_eq!(passed_on.expect("an answer"), direct.expect("an answer"));
    assert_eq!(client.request_response("empty").optional().await.expect("an end"), None);
    let error = client.request_response("err-rejected").await.expect_err("it fails");
    let direct = Arc::new(fixture.clone()).request_response(local("err-rejected".into())).await;
    assert_eq!(error.to_string(), direct.expect_err("it fails").to_string());
    client.fire_and_forget("told").await.expect("it is on its way");
    fixture.recorder.wait("fnf told").await;
    client.metadata_push("pushed").await.expect("it is on its way");
    fixture.recorder.wait("push pushed").await;
}

fn local(payload: Payload) -> Request {
    Request::new(payload, Peer::local())
}

#[tokio::test]
async fn streams_and_channels_are_passed_on_whole_and_cancelled_there() {
    let fixture = Fixture::default();
    let (client, _link) = chain(&fixture).await;
    let items: Vec<Payload> =
        client.request_stream("count:1000").credit(7).try_collect().await.expect("items");
    assert_eq!(items.len(), 1000);
    let sent = stream::iter((0..500).map(|n| Payload::from(format!("echo {n}"))));
    let echoes: Vec<Payload> =
        client.request_channel(sent).credit(5).try_collect().await.expect("echoes");
    assert!(echoes.len() >= 499, "{}", echoes.len());
    assert_eq!(echoes.last().expect("the last").data, "echo 499");
    let mut endless = client.request_stream("inf").credit(3);
    assert_eq!(endless.next().await.expect("endless").expect("no error").data, "0");
    drop(endless);
    fixture.recorder.wait("dropped inf").await;
}

/// What its peer is told when the connection behind is lost.
#[tokio::test]
async fn the_end_behind_is_told_before() {
    limit_time();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let link = Client::connect(&format!("tcp://{address}")).await.expect("it listens");
    let (behind, _) = listener.accept().await.expect("it comes");
    let requester = Arc::new((*link).clone());
    let asked = tokio::spawn(Responder::request_response(requester, local("x".into())));
    drop(behind);
    let error = asked.await.expect("no panic").expect_err("nobody answers");
    assert!(matches!(error, Error::Closed { .. }), "{error}");
}

/// What an acceptor finds out about a peer is there for whoever serves it.
#[tokio::test]
async fn an_identity_goes_with_the_connection() {
    limit_time();
    struct Greeter(Arc<Recorder>);
    impl Responder for Greeter {
        async fn metadata_push(self: Arc<Self>, push: Request) {
            let name = push.identity().map(Identity::name).unwrap_or("nobody");
            let route = push.route().unwrap_or("nowhere");
            self.0.note(format!("{name} pushes to {route} at {}", push.peer().scheme()));
        }

        async fn request_response(self: Arc<Self>, request: Request) -> Result<Payload, Error> {
            let name = request.identity().map(Identity::name).unwrap_or("nobody");
            Ok(format!("hello {name} at {}", request.peer().address()).into())
        }
    }
    let server = Server::bind("tcp://127.0.0.1:0").await.expect("a free port");
    let uri = server.addresses().remove(0);
    let recorder = Arc::new(Recorder::default());
    let heard = Arc::clone(&recorder);
    let acceptor = move |peer: Peer| {
        let name = String::from_utf8_lossy(&peer.setup().payload.data).into_owned();
        let identified = peer.identify(Identity::new(name));
        let greeter = Greeter(Arc::clone(&heard));
        ready(identified.map(|()| greeter).map_err(|_| Error::rejected("it was somebody before")))
    };
    // Pushes go through layers as well.
    let acceptor = Layered::new(acceptor, Wrap::new(async |request, next| next.run(request).await));
    tokio::spawn(server.serve(acceptor).into_future());
    let client = Client::builder().setup("alice").connect(&uri).await.expect("it listens");
    let answer = client.request_response("").await.expect("an answer");
    assert!(answer.data.starts_with(b"hello alice at 127.0.0.1:"), "{answer:?}");
    let pushed = Payload::default().route("news").expect("a short route");
    client.metadata_push(pushed.metadata.expect("the route")).await.expect("it is on its way");
    recorder.wait("alice pushes to news at tcp").await;
}
