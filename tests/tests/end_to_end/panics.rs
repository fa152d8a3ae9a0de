//! A handler that panics costs one stream.

use futures_util::{StreamExt, stream};
use rsock::Error;
use rsock_tests::link::{Link, TRANSPORTS};

#[tokio::test]
async fn a_panic_costs_one_stream() {
    let panicked = || Err(Error::Application("the handler panicked".into()));
    for transport in TRANSPORTS {
        let link = Link::start(transport).await;
        for (requester, saw) in link.ways() {
            // Goes on through all of it.
            let mut other = requester.request_stream("inf").credit(2);
            for request in ["panic", "panic-now"] {
                other.next().await.unwrap().unwrap();
                let reply = requester.request_response(request).await;
                assert_eq!(reply, panicked(), "{transport:?} {request}");
                let items = requester.request_stream(request).collect::<Vec<_>>();
                assert_eq!(items.await, [panicked()], "{transport:?} {request}");
                let source = stream::once(async move { request }).chain(stream::pending());
                let items = requester.request_channel(source).collect::<Vec<_>>();
                assert_eq!(items.await, [panicked()], "{transport:?} {request}");
            }
            let items = requester.request_stream("panic-after:3");
            let items = items.collect::<Vec<_>>().await;
            assert_eq!(items.len(), 4);
            assert_eq!(items[3], panicked());
            requester.fire_and_forget("panic").await.unwrap();
            requester.metadata_push("panic").await.unwrap();
            saw.wait("push panic").await;
            requester.metadata_push("after it").await.unwrap();
            saw.wait("push after it").await;
            other.next().await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn a_panic_in_a_destructor_costs_no_more() {
    for transport in TRANSPORTS {
        let link = Link::start(transport).await;
        for (requester, saw) in link.ways() {
            // The answer was ready, and the panic came after it.
            let _ = requester.request_response("panic-drop-done").await;
            let call = tokio::spawn(requester.request_response("panic-drop"));
            saw.wait("panic-drop runs").await;
            call.abort();
            let mut items = requester.request_stream("panic-drop");
            items.next().await.unwrap().unwrap();
            drop(items);
            saw.wait("dropped panic-drop").await;
            let source = stream::once(async { "panic-drop" }).chain(stream::pending());
            let mut items = requester.request_channel(source);
            items.next().await.unwrap().unwrap();
            drop(items);
            saw.wait_count("dropped panic-drop", 2).await;
            // A source of the requester's own.
            let grenade = Grenade;
            let source = stream::iter(["listen", "x"]).map(move |item| {
                let _held = &grenade;
                item
            });
            let _ = requester.request_channel(source).collect::<Vec<_>>().await;
            let reply = requester.request_response("still here").await;
            assert_eq!(reply.unwrap().data, "still here");
        }
    }
}

/// Also when it is the end of the connection that drops them.
#[tokio::test]
async fn a_panic_in_a_destructor_at_the_end_hides_nothing() {
    for transport in TRANSPORTS {
        let link = Link::start(transport).await;
        let call = tokio::spawn(link.client.request_response("panic-drop"));
        let mut items = link.client.request_stream("panic-drop").credit(1);
        items.next().await.unwrap().unwrap();
        let pending = tokio::spawn(link.client.request_response("never"));
        link.server_saw.wait("panic-drop runs").await;
        link.server_saw.wait("never runs").await;
        link.client.abort().await;
        assert!(matches!(call.await.unwrap(), Err(Error::Closed { .. })));
        assert!(matches!(pending.await.unwrap(), Err(Error::Closed { .. })));
        link.server_saw.wait("dropped never").await;
        link.server_saw.wait("dropped panic-drop").await;
    }
}

/// A channel that is dropped before it was sent: its source goes with it.
#[tokio::test]
async fn a_panic_in_the_destructor_of_a_source_that_was_never_polled() {
    for transport in TRANSPORTS {
        let link = Link::start(transport).await;
        for (requester, _) in link.ways() {
            let mut pending = requester.request_stream("inf").credit(1);
            pending.next().await.unwrap().unwrap();
            let grenade = Grenade;
            let source = stream::iter(["listen", "x"]).map(move |item| {
                let _held = &grenade;
                item
            });
            let mut channel = requester.request_channel(source);
            assert!(futures_util::poll!(channel.next()).is_pending());
            drop(channel);
            let reply = requester.request_response("still here").await;
            assert_eq!(reply.unwrap().data, "still here", "{transport:?}");
            pending.next().await.unwrap().unwrap();
        }
        // And one that the end of the connection finds unsent.
        let grenade = Grenade;
        let source = stream::iter(["listen", "x"]).map(move |item| {
            let _held = &grenade;
            item
        });
        let mut channel = link.client.request_channel(source);
        let pending = tokio::spawn(link.client.request_response("never"));
        link.server_saw.wait("never runs").await;
        let ending = link.client.abort();
        assert!(futures_util::poll!(channel.next()).is_pending());
        ending.await;
        assert!(matches!(channel.next().await, Some(Err(Error::Closed { .. }))));
        assert!(matches!(pending.await.unwrap(), Err(Error::Closed { .. })));
    }
}

struct Grenade;

impl Drop for Grenade {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("a source's destructor panics");
        }
    }
}
