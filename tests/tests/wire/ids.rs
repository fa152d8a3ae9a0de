//! Stream ids.

use rsock_tests::{
    link::Served,
    script::{Peer, SCHEMES},
    wire::{C, F, MAX_N, N, can, fnf, p, rc, rn, rr, rs},
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

/// TCP-08: without a resume nothing of a connection is known to the next.
#[tokio::test]
async fn nothing_outlives_a_connection() {
    let served = Served::start().await;
    for (round, uri) in served.uris.iter().enumerate() {
        let mut first = Peer::established(uri).await;
        first.send_all([rr(1, "never"), rs(3, 1, "inf"), rr(5, "a").flags(F)]).await;
        first.expect(p(3, N, "0")).await;
        first.finish().await;
        first.expect_end().await;
        served.fixture.recorder.wait_count("dropped never", round + 1).await;
        let mut second = Peer::established(uri).await;
        second.send_all([rn(3, 9), p(5, N, "b"), can(1)]).await;
        second.fence().await;
        second.send(rr(1, "anew")).await;
        second.expect(p(1, N | C, "anew")).await;
    }
    for scheme in SCHEMES {
        for _ in 0..2 {
            let (client, mut peer) = connected(scheme).await;
            client.fire_and_forget("f").await.unwrap();
            peer.expect(fnf(1, "f")).await;
        }
    }
}
