//! The streams that a requester drops are cancelled at once.

use futures_util::{StreamExt, stream};
use rsock_tests::link::{Link, TRANSPORTS};

#[tokio::test]
async fn a_dropped_response_cancels() {
    for transport in TRANSPORTS {
        let link = Link::start(transport).await;
        for ((requester, saw), arrow) in link.ways().into_iter().zip(['>', '<']) {
            let call = tokio::spawn(requester.request_response("never"));
            saw.wait("never runs").await;
            call.abort();
            saw.wait("dropped never").await;
            let id = if arrow == '>' { 1 } else { 2 };
            link.frames.wait(&format!("{arrow} CAN({id})")).await;
        }
        assert_no_bad_frames(&link);
    }
}

#[tokio::test]
async fn a_dropped_stream_cancels() {
    for transport in TRANSPORTS {
        let link = Link::start(transport).await;
        for (requester, saw) in link.ways() {
            // Running, waiting for credit, and waiting for its handler.
            let mut items = requester.request_stream("inf").credit(8);
            for _ in 0..100 {
                items.next().await.unwrap().unwrap();
            }
            drop(items);
            saw.wait("dropped inf").await;
            let mut items = requester.request_stream("inf").credit(1);
            items.next().await.unwrap().unwrap();
            drop(items);
            saw.wait_count("dropped inf", 2).await;
            let mut items = requester.request_stream("never");
            assert!(futures_util::poll!(items.next()).is_pending());
            // It is on its way when a later request is answered.
            requester.request_response("x").await.unwrap();
            drop(items);
            saw.wait("dropped never").await;
        }
        assert_no_bad_frames(&link);
    }
}

#[tokio::test]
async fn a_dropped_channel_cancels_both_halves() {
    for transport in TRANSPORTS {
        let link = Link::start(transport).await;
        for (requester, saw) in link.ways() {
            let source = stream::iter(0..).map(|n: u32| format!("item {n}"));
            let mut channel = requester.request_channel(source).credit(2);
            for _ in 0..10 {
                channel.next().await.unwrap().unwrap();
            }
            drop(channel);
            saw.wait("dropped item 0").await;
            // The responder's input fails with the reason.
            let source = stream::once(async { "listen" }).chain(stream::pending());
            let mut channel = requester.request_channel(source);
            assert!(futures_util::poll!(channel.next()).is_pending());
            requester.request_response("x").await.unwrap();
            drop(channel);
            saw.wait("dropped listen").await;
        }
        assert_no_bad_frames(&link);
    }
}

#[tokio::test]
async fn a_responder_that_drops_its_input_stops_the_requester() {
    for transport in TRANSPORTS {
        let link = Link::start(transport).await;
        for (requester, _) in link.ways() {
            let (ended, dropped) = tokio::sync::oneshot::channel::<()>();
            let source =
                stream::once(async { "cancel-in" }).chain(stream::pending()).inspect(move |_| {
                    let _held = &ended;
                });
            let items = requester.request_channel(source).collect::<Vec<_>>();
            assert_eq!(items.await.len(), 3);
            // Dropped with our source.
            assert!(dropped.await.is_err());
        }
        assert_no_bad_frames(&link);
    }
}

/// Nothing is sent for what is never polled, nor for a source without items (RC-22).
#[tokio::test]
async fn what_is_not_polled_is_not_sent() {
    for transport in TRANSPORTS {
        let link = Link::start(transport).await;
        drop(link.client.request_response("not polled"));
        drop(link.client.request_stream("not polled"));
        drop(link.client.request_channel(stream::iter(["not polled"])));
        drop(link.client.fire_and_forget("not polled"));
        link.client.request_response("polled").await.unwrap();
        let requests: Vec<_> = link.frames.lines();
        let requests = requests.iter().filter(|line| line.contains("polled"));
        assert_eq!(requests.count(), 2, "the request and its reply");
    }
}

/// Every frame of both sides was one that the peer's own decoder takes.
fn assert_no_bad_frames(link: &Link) {
    let lines = link.frames.lines();
    let bad: Vec<_> = lines.iter().filter(|line| line.starts_with("BAD")).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}
