//! Layers: what stands before a responder sees all four interactions, and how each ends.

use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use futures_util::{StreamExt, TryStreamExt, stream};
use rsock::{
    Acceptor, AcceptorExt, CheckCredentials, Client, CloseReason, End, Error, ErrorCode, Identity,
    Payload, PayloadExt, Payloads, Peer, Reply, Request, Responder, Router, Server, Text,
    fire_and_forget, metadata::Authentication, proto::Interaction, request_channel,
    request_response, request_stream,
};
use rsock_tests::record::{Recorder, limit_time};

fn routes() -> Router<()> {
    Router::new(())
        .route("upper", request_response(async |(), Text(text): Text| text.to_uppercase()))
        .route("fail", request_response(async |(), ()| Err::<Payload, _>(Error::invalid("no"))))
        .route("count", request_stream(|(), ()| stream::iter((0..10).map(|n| n.to_string()))))
        .route("endless", request_stream(|(), ()| stream::repeat_with(|| "again")))
        .route("forget", fire_and_forget(async |(), ()| ()))
        .route(
            "echo",
            request_channel(|(), first: Payload, rest: Payloads| {
                stream::iter([Ok(first)]).chain(rest)
            }),
        )
}

async fn client(acceptor: impl Acceptor) -> Client {
    limit_time();
    let server = Server::bind("tcp://127.0.0.1:0").await.expect("a free port");
    let uri = server.addresses().remove(0);
    tokio::spawn(server.serve(acceptor).into_future());
    Client::connect(&uri).await.expect("it listens")
}

fn to(route: &str) -> Payload {
    Payload::new("x").route(route).expect("a short route")
}

#[tokio::test]
async fn a_wrapper_sees_every_interaction_and_its_end() {
    let (recorder, items) = (Arc::new(Recorder::default()), Arc::new(AtomicUsize::new(0)));
    let (noting, counted) = (Arc::clone(&recorder), Arc::clone(&items));
    let app = routes()
        .wrap(move |request, next| {
            let counted = Arc::clone(&counted);
            async move {
                let reply = next.run(request).await?;
                Ok(reply.inspect(move |item| {
                    counted.fetch_add(item.is_ok().into(), Relaxed);
                }))
            }
        })
        .wrap(move |request, next| {
            let asked = next.interaction().map_or("push", Interaction::name);
            let noting = Arc::clone(&noting);
            async move {
                let route = request.route().unwrap_or("-").to_owned();
                let note = move |end: End| noting.note(format!("{asked} {route} {end:?}"));
                match next.run(request).await {
                    Ok(reply) => Ok(reply.on_end(note)),
                    Err(error) => {
                        note(End::Failed(error.clone()));
                        Err(error)
                    }
                }
            }
        });
    let client = client(app).await;
    assert_eq!(client.request_response(to("upper")).await.expect("an answer").data, "X");
    recorder.wait("request-response upper Complete").await;
    client.request_response(to("fail")).await.expect_err("it fails");
    recorder.wait("request-response fail Failed(Invalid(\"no\"))").await;
    let counted: Vec<Payload> =
        client.request_stream(to("count")).try_collect().await.expect("items");
    assert_eq!(counted.len(), 10);
    recorder.wait("request-stream count Complete").await;
    client.fire_and_forget(to("forget")).await.expect("it is on its way");
    recorder.wait("fire-and-forget forget Complete").await;
    client.metadata_push(to("news").metadata.expect("a route")).await.expect("it is on its way");
    recorder.wait("push news Complete").await;
    let sent = stream::iter((0..5).map(|_| to("echo")));
    let echoes: Vec<Payload> = client.request_channel(sent).try_collect().await.expect("echoes");
    assert_eq!(echoes.len(), 5);
    recorder.wait("request-channel echo Complete").await;
    assert_eq!(items.load(Relaxed), 1 + 10 + 5);
    let mut endless = client.request_stream(to("endless")).credit(4);
    endless.next().await.expect("endless").expect("no error");
    drop(endless);
    recorder.wait("request-stream endless Dropped").await;
}

#[tokio::test]
async fn a_wrapper_refuses_identifies_and_changes() {
    let app = routes()
        .wrap(async |request, next| {
            let who = request.identity().map(|who| who.name().to_owned());
            match who {
                Some(who) if who == "alice" => {
                    let reply = next.run(request).await?;
                    Ok(reply.map(|payload| [&payload.data[..], b"!"].concat().into()))
                }
                Some(_) => Ok(Reply::one("not for you")),
                None => Err(Error::rejected("who are you?")),
            }
        })
        .wrap(async |mut request, next| {
            if let Some(credentials) = request.authentication()? {
                let name = if credentials.is_bearer("a") { "alice" } else { "bob" };
                request.identify(Identity::new(name));
            }
            next.run(request).await
        });
    let client = client(app).await;
    let error = client.request_response(to("upper")).await.expect_err("it is nobody");
    assert!(error.to_string().contains("who are you?"), "{error}");
    let with = |token: &'static str, route: &str| {
        to(route).authentication(&Authentication::Bearer { token: token.into() })
    };
    let reply = client.request_response(with("b", "upper").expect("credentials")).await;
    assert_eq!(reply.expect("an answer").data, "not for you");
    let reply = client.request_response(with("a", "upper").expect("credentials")).await;
    assert_eq!(reply.expect("an answer").data, "X!");
    let items = client.request_stream(with("a", "count").expect("credentials"));
    let items: Vec<Payload> = items.try_collect().await.expect("items");
    assert_eq!((items.len(), &items[9].data[..]), (10, &b"9!"[..]));
    let error = client.request_stream(to("count")).next().await.expect("an error");
    assert!(error.expect_err("it is refused").to_string().contains("who are you?"));
}

/// A responder that says who asks.
struct Who(Arc<Recorder>);

impl Responder for Who {
    async fn request_response(self: Arc<Self>, request: Request) -> Result<Payload, Error> {
        Ok(request.identity().map_or("nobody", Identity::name).to_owned().into())
    }

    fn request_stream(
        self: Arc<Self>,
        request: Request,
    ) -> impl stream::Stream<Item = Result<Payload, Error>> + Send {
        stream::once(self.request_response(request))
    }

    async fn metadata_push(self: Arc<Self>, push: Request) {
        self.0.note(format!("{:?} pushed", push.identity().map(Identity::name)));
    }
}

/// Looks a token up, which takes a while.
async fn owner(request: Request) -> Result<Identity, Error> {
    let credentials = request.authentication()?;
    tokio::task::yield_now().await;
    match credentials {
        Some(credentials) if credentials.is_bearer("a") => Ok(Identity::new("alice")),
        Some(credentials) if credentials.is_bearer("b") => Ok(Identity::new("bob")),
        Some(_) => Err(Error::invalid("the token is wrong")),
        None => Err(Error::rejected("there is no token")),
    }
}

fn bearer(token: &'static str) -> Payload {
    let credentials = Authentication::Bearer { token: token.into() };
    Payload::new("x").authentication(&credentials).expect("short credentials")
}

#[tokio::test]
async fn each_request_is_authorized_by_its_own_credentials() {
    let recorder = Arc::new(Recorder::default());
    let noting = Arc::clone(&recorder);
    let acceptor = move |_: Peer| ready(Ok(Who(Arc::clone(&noting))));
    let client = client(acceptor.authorize_requests(owner)).await;
    for (token, name) in [("a", "alice"), ("b", "bob")] {
        let answer = client.request_response(bearer(token)).await.expect("an answer");
        assert_eq!(answer.data, name);
        let items: Vec<Payload> =
            client.request_stream(bearer(token)).try_collect().await.expect("items");
        assert_eq!(items[0].data, name);
    }
    // All are refused in the same words.
    let refused = Error::rejected("not authorized");
    for request in
        [bearer("c"), Payload::new("x"), Payload { metadata: Some("?".into()), ..bearer("a") }]
    {
        assert_eq!(client.request_response(request.clone()).await, Err(refused.clone()));
        assert_eq!(client.request_stream(request.clone()).next().await, Some(Err(refused.clone())));
        let pushed = request.metadata.unwrap_or_default();
        client.metadata_push(pushed).await.expect("it is on its way");
    }
    client.metadata_push(bearer("b").metadata.expect("credentials")).await.expect("it is sent");
    recorder.wait("Some(\"bob\") pushed").await;
    assert_eq!(recorder.lines().len(), 1, "{:?}", recorder.lines());
}

#[tokio::test]
async fn a_handler_takes_who_asks() {
    let app = Router::new(())
        .route("known", request_response(async |(), who: Identity| who.name().to_owned()))
        .route(
            "unknown",
            request_response(async |(), who: Option<Identity>| format!("{:?}", who.is_some())),
        );
    let open = client(app.clone()).await;
    let error = open.request_response(to("known")).await.expect_err("it is nobody");
    assert!(matches!(&error, Error::Rejected(text) if text.contains("who asks")), "{error}");
    assert_eq!(open.request_response(to("unknown")).await.expect("an answer").data, "false");
    let closed = client(app.authorize_requests(owner)).await;
    let request = bearer("b").route("known").expect("a short route");
    assert_eq!(closed.request_response(request).await.expect("an answer").data, "bob");
}

#[tokio::test]
async fn each_connection_is_authorized_by_its_setup() {
    limit_time();
    let server = Server::bind("tcp://127.0.0.1:0").await.expect("a free port");
    let uri = server.addresses().remove(0);
    let acceptor = async |peer: Peer| {
        assert_eq!(peer.identity().expect("it was asked before").name(), "alice");
        Ok(Who(Arc::default()))
    };
    tokio::spawn(server.serve(acceptor.authorize_connections(owner)).into_future());
    let client = Client::builder().setup(bearer("a")).connect(&uri).await.expect("it listens");
    assert_eq!(client.request_response("x").await.expect("an answer").data, "alice");
    for setup in [bearer("c"), Payload::default()] {
        let client = Client::builder().setup(setup).connect(&uri).await.expect("it listens");
        let reason = client.closed().await;
        let CloseReason::Error { code, message, .. } = reason else { panic!("{reason}") };
        assert_eq!((code, &*message), (ErrorCode::REJECTED_SETUP, "not authorized"));
    }
}
