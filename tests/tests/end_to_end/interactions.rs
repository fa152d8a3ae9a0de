//! Each interaction, its payloads and its errors.

use futures_util::{StreamExt, TryStreamExt, stream, stream::FuturesUnordered};
use rsock::{
    Client, Config, ControlError, Error, ErrorCode, Payload, PayloadExt, RequestError, Router,
    SendError, Server, Text, request_response,
};
use rsock_tests::link::{Link, TRANSPORTS, Transport};

/// The bytes that a frame may hold beside its header, and a request its request-n.
const MAX_DATA: usize = rsock::proto::MAX_FRAME_BYTES - 10;

#[tokio::test]
async fn request_response_echoes() {
    for transport in TRANSPORTS {
        let link = Link::start(transport).await;
        for (requester, _) in link.ways() {
            for metadata in [None, Some(""), Some("m")] {
                for data in ["", "d"] {
                    let mut payload = Payload::new(data);
                    payload.metadata = metadata.map(Into::into);
                    let reply = requester.request_response(payload.clone()).await;
                    assert_eq!(reply, Ok(payload), "{transport:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn rr_02_no_answer_is_not_an_empty_one() {
    for transport in TRANSPORTS {
        let link = Link::start(transport).await;
        for (requester, _) in link.ways() {
            assert_eq!(requester.request_response("empty").optional().await, Ok(None));
            let answer = requester.request_response("size:0").optional().await;
            assert_eq!(answer, Ok(Some(Payload::default())));
        }
        let frames = link.frames.lines();
        assert!(frames.contains(&"< P(1,C)".to_owned()), "{frames:?}");
    }
}

#[tokio::test]
async fn rr_02_a_route_may_answer_nothing() {
    let app = Router::new(())
        .route("find", request_response(async |(), Text(key): Text| (key == "a").then_some("b")));
    let server = Server::bind("tcp://127.0.0.1:0").await.expect("a free port");
    let uri = server.addresses().remove(0);
    tokio::spawn(server.serve(app).into_future());
    let client = Client::connect(&uri).await.expect("a connection");
    for (key, expected) in [("a", Some(Payload::new("b"))), ("c", None)] {
        let request = Payload::new(key).route("find").expect("a short route");
        assert_eq!(client.request_response(request).optional().await, Ok(expected));
    }
}

/// A fire-and-forget is over when its turn to be written has come, and what is asked then may have its
/// slot: the end of the one is told before the beginning of the other.
#[tokio::test]
async fn requests_beside_fire_and_forgets_that_wait_for_their_turn() {
    let mut config = Config::default();
    config.fragment_bytes = None;
    let link = Link::with(Transport::Memory, Client::builder().config(config), Server::builder());
    let link = link.await;
    // More than a driver writes before it lets others ask.
    let long = vec![b'x'; 300 << 10];
    let notes = async {
        for _ in 0..40 {
            link.client.fire_and_forget(long.clone()).await.expect("taken");
        }
    };
    let requests = async {
        let mut replies = FuturesUnordered::new();
        for n in 0..2_000 {
            let mut reply = Box::pin(link.client.request_response(n.to_string()).into_future());
            // Asked whenever the driver lets others run, whatever it is at.
            assert!(futures_util::poll!(reply.as_mut()).is_pending());
            replies.push(reply);
            tokio::task::yield_now().await;
        }
        while let Some(reply) = replies.next().await {
            reply.expect("a reply");
        }
    };
    let both = async { tokio::join!(notes, requests) };
    tokio::time::timeout(rsock_tests::script::PATIENCE, both).await.expect("nothing hangs");
}

#[tokio::test]
async fn fire_and_forget_and_metadata_push() {
    for transport in TRANSPORTS {
        let link = Link::start(transport).await;
        for (requester, saw) in link.ways() {
            for n in 0..100 {
                requester.fire_and_forget(format!("told {n}")).await.unwrap();
            }
            requester.metadata_push("pushed").await.unwrap();
            saw.wait("fnf told 99").await;
            saw.wait("push pushed").await;
            // In the order in which they were sent (FNF-03).
            let heard = saw.lines();
            let heard = heard.iter().filter(|line| line.starts_with("fnf"));
            assert!(heard.eq(&(0..100).map(|n| format!("fnf told {n}")).collect::<Vec<_>>()));
        }
    }
}

#[tokio::test]
async fn request_stream() {
    for transport in TRANSPORTS {
        let link = Link::start(transport).await;
        for (requester, _) in link.ways() {
            for (credit, count) in [(1, 10), (7, 100), (256, 0), (256, 256), (1000, 999)] {
                for kind in ["count", "sized"] {
                    let items = requester
                        .request_stream(format!("{kind}:{count}"))
                        .credit(credit)
                        .map_ok(|item| item.data)
                        .try_collect::<Vec<_>>()
                        .await
                        .unwrap();
                    let expected: Vec<_> = (0..count).map(|n| n.to_string()).collect();
                    assert_eq!(items, expected, "{transport:?} {kind} {credit}");
                }
            }
        }
    }
}

#[tokio::test]
async fn channels_with_credit_both_ways() {
    for transport in TRANSPORTS {
        let link = Link::start(transport).await;
        for (requester, _) in link.ways() {
            for (first, credit) in [("echo", 1), ("echo", 64), ("one-by-one", 3)] {
                let numbers = (1..500).map(|n: u32| n.to_string());
                let sent: Vec<String> = std::iter::once(first.to_owned()).chain(numbers).collect();
                let echoed = requester
                    .request_channel(stream::iter(sent.clone()))
                    .credit(credit)
                    .map_ok(|item| item.data)
                    .try_collect::<Vec<_>>()
                    .await
                    .unwrap();
                assert_eq!(echoed, sent, "{transport:?} {first} {credit}");
            }
            let into_one = stream::iter(["listen", "a", "b", "c"]);
            let reply = requester.request_channel(into_one).try_collect::<Vec<_>>();
            assert_eq!(reply.await, Ok(vec!["3".into()]));
            let one_sided = stream::once(async { "src:5" }).chain(stream::pending());
            let items = requester.request_channel(one_sided).take(5).count().await;
            assert_eq!(items, 5);
        }
    }
}

#[tokio::test]
async fn errors_of_each_kind_with_their_text() {
    for transport in TRANSPORTS {
        let link = Link::start(transport).await;
        for (requester, _) in link.ways() {
            let code = ErrorCode(0x301);
            let message = "of our own".into();
            for (data, error) in [
                ("err", Error::Application("no luck".into())),
                ("err-rejected", Error::Rejected("not now".into())),
                ("err-canceled", Error::Canceled("gave up".into())),
                ("err-invalid", Error::Invalid("makes no sense".into())),
                ("err-code:769", Error::Other { code, message }),
            ] {
                let reply = requester.request_response(data).await;
                assert_eq!(reply, Err(error), "{transport:?}");
            }
            let items = requester.request_stream("err-after:2").collect::<Vec<_>>();
            let failure = Error::Application("no luck".into());
            let expected = [Ok("0".into()), Ok("1".into()), Err(failure.clone())];
            assert_eq!(items.await, expected, "{transport:?}");
            let refused = requester.request_channel(stream::iter(["err", "x"]));
            assert_eq!(refused.collect::<Vec<_>>().await, [Err(failure)]);
            let failing = stream::iter([Ok("listen"), Err(Error::invalid("my source"))]);
            let failed = requester.request_channel(failing).collect::<Vec<_>>();
            assert_eq!(failed.await, [Err(Error::invalid("my source"))]);
        }
        // Whose input fails is cancelled with it.
        link.server_saw.wait("dropped listen").await;
        link.client_saw.wait("dropped listen").await;
    }
}

#[tokio::test]
async fn large_payloads() {
    for transport in TRANSPORTS {
        let link = Link::start(transport).await;
        for (requester, _) in link.ways() {
            for len in [1 << 20, MAX_DATA] {
                let sent = vec![b'x'; len];
                let reply = requester.request_response(sent.clone()).await.unwrap();
                assert!(reply.data == sent, "{transport:?} {len}");
            }
            let half = MAX_DATA / 2 - 3;
            let sent = Payload::new(vec![1; half]).with_metadata(vec![2; half]);
            let items = requester.request_stream(sent.clone()).try_collect::<Vec<_>>();
            assert!(items.await.unwrap() == [sent], "{transport:?}");
        }
    }
}

/// FRAME-02: refused here, and nothing is sent.
#[tokio::test]
async fn payloads_beyond_the_largest_frame_fail_locally() {
    let mut config = Config::default();
    config.fragment_bytes = None;
    // What fails is not open: the next has its place.
    let client = Client::builder().config(config.clone()).max_requests(1);
    let server = Server::builder().config(config).max_requests(1);
    let link = Link::with(Transport::Memory, client, server).await;
    let too_large = vec![0; rsock::proto::MAX_FRAME_BYTES];
    for (requester, saw) in link.ways() {
        let is_local =
            |error: Error| matches!(error, Error::Request(RequestError::PayloadTooLarge { .. }));
        let reply = requester.request_response(too_large.clone()).await;
        assert!(is_local(reply.unwrap_err()));
        let mut items = requester.request_stream(too_large.clone());
        assert!(is_local(items.next().await.unwrap().unwrap_err()));
        let mut channel = requester.request_channel(stream::iter([too_large.clone()]));
        assert!(is_local(channel.next().await.unwrap().unwrap_err()));
        let told = requester.fire_and_forget(too_large.clone()).await;
        assert!(is_local(told.unwrap_err()));
        let pushed = requester.metadata_push(too_large.clone()).await;
        let is_local = matches!(pushed, Err(Error::Control(ControlError::PayloadTooLarge { .. })));
        assert!(is_local, "{pushed:?}");
        // Later in a channel it fails the channel, in both directions.
        let later = stream::iter(["listen".into(), too_large.clone()]);
        let failed = requester.request_channel(later).collect::<Vec<_>>().await;
        assert!(
            matches!(&failed[..], [Err(Error::Send(SendError::PayloadTooLarge { .. }))]),
            "{failed:?}"
        );
        saw.wait("dropped listen").await;
        // A reply that does not fit is the handler's failure.
        let reply = requester.request_response("size:16777210").await;
        assert!(matches!(reply, Err(Error::Application(_))), "{reply:?}");
        let reply = requester.request_response("still here").await.unwrap();
        assert_eq!(reply.data, "still here");
    }
}

/// TCP-05: a limit of our own ends the connection of who does not keep it.
#[tokio::test]
async fn a_frame_limit_of_the_server() {
    for transport in TRANSPORTS {
        let mut config = Config::default();
        config.max_frame_bytes = 1 << 20;
        let server = Server::builder().config(config.clone());
        config.fragment_bytes = None;
        let client = Client::builder().config(config);
        let link = Link::with(transport, client, server).await;
        let fits = vec![0; (1 << 20) - 6];
        assert!(link.client.request_response(fits).await.is_ok());
        let error = link.client.request_response(vec![0; 1 << 20]).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains("CONNECTION_ERROR"), "{transport:?}: {error}");
    }
}

/// Requests beyond the limit wait, and go on when there is room.
#[tokio::test]
async fn requests_beyond_max_requests_wait() {
    for transport in TRANSPORTS {
        let client = Client::builder().max_requests(3);
        let link = Link::with(transport, client, Server::builder()).await;
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(tokio::spawn(link.client.request_response("never")));
        }
        link.server_saw.wait_count("never runs", 3).await;
        let waiting: Vec<_> = (0..10)
            .map(|n| tokio::spawn(link.client.request_response(format!("waiting {n}"))))
            .collect();
        // One that waits and is dropped sends nothing (RR-10).
        let mut dropped = Box::pin(link.client.request_response("nobody waits"));
        assert!(futures_util::poll!(&mut dropped).is_pending());
        drop(dropped);
        assert_eq!(link.frames.count("> RR(7,\"waiting 0\")"), 0);
        held.pop().unwrap().abort();
        for (n, call) in waiting.into_iter().enumerate() {
            let reply = call.await.unwrap().unwrap();
            assert_eq!(reply.data, format!("waiting {n}"));
        }
        let sent = link.frames.lines().join("\n");
        assert!(!sent.contains("nobody waits"), "{sent}");
    }
}
