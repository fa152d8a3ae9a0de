//! Stream ids.

use rsock_tests::{
    link::Served,
    script::SCHEMES,
    wire::{C, MAX_N, N, can, fnf, p, rc, rn, rr, rs},
};

use crate::{connected, each, items, spawn};

/// SID-05, SID-12, SID-13, SID-14, H060.
#[tokio::test]
async fn ids_may_come_in_any_order_but_not_twice() {
    let served = Served::start().await;
    for mut peer in each(&served).await {
        for id in [9, 3, MAX_N, 1, 1] {
            peer.send(rr(id, "d")).await;
            peer.expect(p(id, N | C, "d")).await;
        }
        peer.send_all([rr(2, "d"), fnf(4, "even"), rs(6, 1, "inf"), rc(8, 1, "d")]).await;
        peer.fence().await;
        peer.send_all([rs(1, 1, "inf"), rr(1, "echo"), rn(1, 1)]).await;
        peer.expect_all(items(1, 0..2)).await;
        peer.send(can(1)).await;
        peer.fence().await;
    }
    assert_eq!(served.fixture.recorder.count("fnf even"), 0);
}

/// SID-01, SID-03, SETUP-01, SETUP-19, RR-14: ids, and answers in any order.
#[tokio::test]
async fn ids_count_up_and_answers_come_in_any_order() {
    for scheme in SCHEMES {
        let (client, mut peer) = connected(scheme).await;
        client.fire_and_forget("f").await.unwrap();
        peer.expect(fnf(1, "f")).await;
        let mut calls = Vec::new();
        for n in 0..100_u32 {
            calls.push(spawn(client.request_response(n.to_string())));
            peer.expect(rr(3 + 2 * n, n.to_string())).await;
        }
        peer.send_all((0..100).rev().map(|n| p(3 + 2 * n, N | C, format!("re {n}")))).await;
        for (n, call) in calls.into_iter().enumerate() {
            assert_eq!(call.await.unwrap().unwrap().data, format!("re {n}"));
        }
        peer.fence().await;
    }
}
