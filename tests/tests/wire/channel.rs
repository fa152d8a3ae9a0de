//! Request/channel: two halves.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use rsock::Error;
use rsock_tests::{
    link::Served,
    record::{Guard, Recorder},
    script::SCHEMES,
    wire::{C, MAX_N, N, can, err, p, rc, rn, rr},
};

use crate::{connected, each, spawn};

/// RC-04 to RC-12: the two halves of a channel.
#[tokio::test]
async fn channel_halves_end_apart() {
    let served = Served::start().await;
    let saw = &served.fixture.recorder;
    for (round, mut peer) in each(&served).await.into_iter().enumerate() {
        // RC-07: one payload and complete.
        peer.send(rc(1, 9, "x").flags(C)).await;
        peer.expect_last(1, "x").await;
        // RC-05, RC-10: half-closed up, credit still counts.
        peer.send(rc(1, 1, "src:3").flags(C)).await;
        peer.expect(p(1, N, "0")).await;
        peer.fence().await;
        peer.send(rn(1, 2)).await;
        peer.expect(p(1, N, "1")).await;
        peer.expect_last(1, "2").await;
        // RC-03 from the other side: one at a time, each paid for.
        peer.send(rc(1, 2, "one-by-one")).await;
        peer.expect(p(1, N, "one-by-one")).await;
        peer.expect(rn(1, 1)).await;
        peer.fence().await;
        peer.send(p(1, N, "a")).await;
        let got = [peer.next().await, peer.next().await];
        assert!(got.contains(&p(1, N, "a")) && got.contains(&rn(1, 1)), "{got:?}");
        // The echo has no credit left, and takes no further item than it asked for.
        peer.send(p(1, N | C, "b")).await;
        peer.fence().await;
        peer.send(rn(1, 5)).await;
        peer.expect_last(1, "b").await;
        // RC-11: half-closed down.
        peer.send(rc(1, 9, "done")).await;
        let got = [peer.next().await, peer.next().await];
        assert!(got.contains(&p(1, C, "")) && got.contains(&rn(1, 256)), "{got:?}");
        peer.send_all([p(1, N, "late"), p(1, C, "")]).await;
        saw.wait_count("in complete", 2 * round + 1).await;
        assert_eq!(saw.count("in late"), round + 1);
        // RC-12: now the id is free. RC-06, RC-09: what follows COMPLETE is ignored.
        peer.send(rc(1, 1, "listen")).await;
        peer.expect(rn(1, 256)).await;
        peer.send_all([p(1, N, "1"), p(1, N | C, "2")]).await;
        peer.send_all([p(1, N, "3"), p(1, C, "")]).await;
        let got = peer.fence_collecting().await;
        assert_eq!(got.first().map(|frame| &frame.data[..]), Some(&b"2"[..]));
        assert_eq!(got.last().map(|frame| frame.flags & C), Some(C));
        saw.wait_count("in complete", 2 * round + 2).await;
        assert_eq!(saw.count("in 3"), 0);
    }
}

/// RC-13, RC-14, RC-16, RC-18, RC-19, RC-21, H068.
#[tokio::test]
async fn channels_that_fail_or_are_cancelled() {
    let served = Served::start().await;
    let saw = &served.fixture.recorder;
    for (round, mut peer) in each(&served).await.into_iter().enumerate() {
        peer.send_all([rc(1, 1, "listen"), err(1, 0x201, "mine")]).await;
        saw.wait_count("dropped listen", round + 1).await;
        peer.fence_collecting().await;
        // RC-14: also when our half is complete.
        peer.send(rc(3, 1, "done")).await;
        while peer.next().await != p(3, C, "") {}
        peer.send(err(3, 0x201, "later")).await;
        saw.wait_count("in failed: APPLICATION_ERROR: later", round + 1).await;
        // RC-16, also after its own COMPLETE.
        peer.send_all([rc(5, MAX_N, "src:0"), can(5)]).await;
        peer.send_all([rc(5, 1, "src:0"), p(5, C, ""), can(5)]).await;
        saw.wait_count("dropped src", 2 * (round + 1)).await;
        peer.fence_collecting().await;
        // RC-18
        peer.send(rc(7, 9, "cancel-in")).await;
        let got = peer.fence_collecting().await;
        assert!(got.contains(&can(7)), "{got:?}");
        assert_eq!(got.iter().filter(|frame| frame.flags & N != 0).count(), 3);
        peer.send_all([p(7, N, "x"), p(7, C, "")]).await;
        peer.fence().await;
        // RC-19
        peer.send_all([rc(9, 1, "sink:2"), rc(9, 1, "src:3")]).await;
        peer.expect(rn(9, 2)).await;
        peer.fence().await;
        // RC-21: two were asked for. What is too much ends the stream, once.
        peer.send_all([p(9, N, "1"), p(9, N, "2")]).await;
        peer.fence().await;
        peer.send_all((0..1000).map(|_| p(9, N, "too much"))).await;
        peer.expect_error(9, 0x203).await;
        peer.fence().await;
        saw.wait_count("dropped sink", round + 1).await;
        peer.send(rr(9, "free")).await;
        peer.expect(p(9, N | C, "free")).await;
    }
}

/// RC-01, RC-02, RC-03, RC-08, RC-15, RC-17, RC-22, ERR-13, H075.
#[tokio::test]
async fn a_channel_sends_what_it_is_granted() {
    for scheme in SCHEMES {
        let (client, mut peer) = connected(scheme).await;
        let recorder = Arc::new(Recorder::default());
        let guard = Guard::new(&recorder, "source");
        let source = stream::iter(0..).map(move |n| {
            let _held = &guard;
            n.to_string()
        });
        let replies = spawn(client.request_channel(source).credit(3).collect::<Vec<_>>());
        peer.expect(rc(1, 3, "0")).await;
        peer.fence().await;
        peer.send(rn(1, 2)).await;
        peer.expect_all([p(1, N, "1"), p(1, N, "2")]).await;
        peer.fence().await;
        // RC-17: our half ends, the other goes on. Twice is once.
        peer.send_all([can(1), can(1), rn(1, 5)]).await;
        recorder.wait("dropped source").await;
        peer.fence().await;
        peer.send_all([p(1, N, "reply"), p(1, C, "")]).await;
        let replies = replies.await.unwrap();
        assert_eq!(replies.len(), 1);
        assert_eq!(replies[0].as_ref().unwrap().data, "reply");
        // RC-22: a source without items sends nothing at all.
        let none = client.request_channel(stream::empty::<&str>());
        assert_eq!(none.count().await, 0);
        peer.fence().await;
        // RC-08, RC-15.
        let source = stream::iter(["a", "b"]);
        let replies = spawn(client.request_channel(source).collect::<Vec<_>>());
        peer.expect(rc(3, 256, "a")).await;
        peer.send(rn(3, 9)).await;
        peer.expect_last(3, "b").await;
        peer.send_all([rn(3, 9), err(3, 0x203, "enough")]).await;
        assert_eq!(replies.await.unwrap(), [Err(Error::Canceled("enough".into()))]);
        // ERR-13: a source that fails says APPLICATION_ERROR, whatever its own error is.
        let source = stream::iter([Ok("a"), Err(Error::rejected("mine"))]);
        let replies = spawn(client.request_channel(source).collect::<Vec<_>>());
        peer.expect(rc(5, 256, "a")).await;
        peer.send(rn(5, 9)).await;
        peer.expect(err(5, 0x201, "mine")).await;
        assert_eq!(replies.await.unwrap(), [Err(Error::rejected("mine"))]);
        peer.fence().await;
    }
}
