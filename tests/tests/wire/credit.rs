//! Request-n: how many items, and no more.

use futures_util::StreamExt;
use rsock::Error;
use rsock_tests::{
    link::Served,
    script::SCHEMES,
    wire::{C, MAX_N, N, can, p, rc, rn, rs},
};

use crate::{connected, each, items, spawn};

/// RS-02, RS-03, RN-02, RC-20: so many as were asked for and no more, however it is asked.
#[tokio::test]
async fn exactly_what_was_asked_for() {
    let served = Served::start().await;
    for mut peer in each(&served).await {
        peer.send(rs(1, 5, "inf")).await;
        peer.expect_all(items(1, 0..5)).await;
        peer.fence().await;
        peer.send(rn(1, 3)).await;
        peer.expect_all(items(1, 5..8)).await;
        peer.fence().await;
        peer.send_all((0..5).map(|_| rn(1, 1))).await;
        peer.expect_all(items(1, 8..13)).await;
        peer.fence().await;
        peer.send(can(1)).await;
        peer.fence().await;
        served.fixture.recorder.wait("dropped inf").await;
        // CAN-05: once more means nothing, nor does credit for what has ended.
        peer.send_all([can(1), rn(1, 9)]).await;
        peer.fence().await;
    }
    served.fixture.recorder.wait_count("dropped inf", 2).await;
}

/// RS-11, RS-12, RN-03, RN-04, RN-05, RS-13, RC-24.
#[tokio::test]
async fn request_n_at_its_limits() {
    let served = Served::start().await;
    for mut peer in each(&served).await {
        peer.send(rs(1, 0, "inf")).await;
        peer.fence().await;
        peer.send_all([rn(1, 0), rn(1, 0x8000_0000), rn(1, 0x8000_0001), rn(1, u32::MAX)]).await;
        peer.fence().await;
        peer.send(rn(1, 1)).await;
        peer.expect(p(1, N, "0")).await;
        peer.send(can(1)).await;
        for frame in [rs(3, 0x8000_0000, "inf"), rc(3, 0x8000_0001, "inf")] {
            peer.send(frame).await;
            peer.expect_error(3, 0x204).await;
        }
        peer.send_all([rs(5, MAX_N, "never"), rn(5, MAX_N), rn(5, MAX_N), rn(5, MAX_N)]).await;
        peer.send_all([rc(7, 0, "src:2"), can(5)]).await;
        peer.fence().await;
        peer.send(rn(7, 1)).await;
        peer.expect(p(7, N, "0")).await;
        peer.fence().await;
        peer.send(rn(7, MAX_N)).await;
        peer.expect_last(7, "1").await;
        // RC-18: its handler is gone, and wants nothing more of ours.
        peer.expect(can(7)).await;
        peer.send(can(7)).await;
        peer.fence().await;
    }
}

/// RS-01, DOS-05: consuming is what asks for more.
#[tokio::test]
async fn credit_follows_consumption() {
    for scheme in SCHEMES {
        let (client, mut peer) = connected(scheme).await;
        let mut items = client.request_stream("s").credit(4);
        let first = spawn(async move { (items.next().await, items) });
        peer.expect(rs(1, 4, "s")).await;
        peer.send_all((0..4).map(|n| p(1, N, n.to_string()))).await;
        let (_, mut items) = first.await.unwrap();
        // One of four is consumed: nothing is asked for.
        peer.fence().await;
        items.next().await.unwrap().unwrap();
        peer.expect(rn(1, 2)).await;
        items.next().await.unwrap().unwrap();
        peer.fence().await;
        items.next().await.unwrap().unwrap();
        peer.expect(rn(1, 2)).await;
        peer.send(p(1, C, "ignored")).await;
        assert!(items.next().await.is_none());
        peer.fence().await;
    }
}

/// RS-14, H069: more than was asked for.
#[tokio::test]
async fn items_nobody_asked_for_fail_the_stream_once() {
    for scheme in SCHEMES {
        let (client, mut peer) = connected(scheme).await;
        let items = client.request_stream("s").credit(2);
        let items = spawn(items.collect::<Vec<_>>());
        peer.expect(rs(1, 2, "s")).await;
        peer.send_all((0..1000).map(|n| p(1, N, n.to_string()))).await;
        let got = peer.fence_collecting().await;
        let cancels = got.iter().filter(|frame| **frame == can(1)).count();
        assert_eq!(cancels, 1, "{got:?}");
        let mut items = items.await.unwrap();
        assert!(matches!(items.pop(), Some(Err(Error::Canceled(_)))));
        assert!(items.iter().all(Result::is_ok));
        assert!(items.len() >= 2);
    }
}

/// RN-01: larger wishes are split.
#[tokio::test]
async fn request_n_is_never_larger_than_its_field() {
    for scheme in SCHEMES {
        let (client, mut peer) = connected(scheme).await;
        let mut items = client.request_stream("s").credit(u32::MAX);
        let first = spawn(async move { (items.next().await, items) });
        peer.expect(rs(1, MAX_N, "s")).await;
        peer.send(p(1, N, "0")).await;
        let (_, mut items) = first.await.unwrap();
        items.request_n(u32::MAX);
        peer.expect(rn(1, MAX_N)).await;
        items.request_n(1);
        peer.expect(rn(1, 1)).await;
        drop(items);
        peer.expect(can(1)).await;
    }
}
