//! Frames that may come at any time, and frames that should not have come.

use rsock::ConnectionState;
use rsock_tests::{
    link::Served,
    script::SCHEMES,
    wire::{C, I, N, can, err, ext, ka, lease, mp, p, resume_ok, rn, rr, rs, setup},
};

use crate::{connected, each};

/// MDP-02 to MDP-05, MDP-07, EXT-02, EXT-06.
#[tokio::test]
async fn pushes_and_extensions() {
    let served = Served::start().await;
    let saw = &served.fixture.recorder;
    for (round, mut peer) in each(&served).await.into_iter().enumerate() {
        let mut unmarked = mp("unmarked");
        unmarked.flags = 0;
        peer.send_all([mp("x"), mp(""), unmarked, mp("stray").on(1), mp("stray").on(2)]).await;
        peer.send(rs(1, 1, "inf")).await;
        peer.expect(p(1, N, "0")).await;
        peer.send_all([ext(0, I, 5), ext(1, I, 5), ext(2, I, 0), rn(1, 1)]).await;
        peer.expect(p(1, N, "1")).await;
        peer.send_all([mp("panic"), can(1)]).await;
        peer.fence().await;
        for line in ["push x", "push ", "push unmarked", "push panic"] {
            assert_eq!(saw.count(line), round + 1, "{line}");
        }
        assert_eq!(saw.count("push stray"), 0);
    }
}

/// SETUP-18, SETUP-23, SETUP-25, RESUME-40, LEASE-14, CONN-06, H054, H055, H126.
#[tokio::test]
async fn what_a_server_should_not_send() {
    for scheme in SCHEMES {
        let (client, mut peer) = connected(scheme).await;
        peer.send(ka(0, 0, "")).await;
        for code in [1, 2, 3, 4, 0x201, 0x301, 0] {
            peer.send(err(0, code, "too late")).await;
        }
        peer.send_all([setup(), resume_ok(7), lease(1000, 1), rr(0, "x"), rr(1, "x")]).await;
        peer.send_all([p(0, N, ""), p(9, N, ""), p(8, N, ""), can(0), can(7), can(8)]).await;
        peer.fence().await;
        assert_eq!(client.state(), ConnectionState::Established);
        // SID-13 from this side: even ids are the server's.
        peer.send(rr(2, "asked by the server")).await;
        peer.expect(p(2, N | C, "asked by the server")).await;
        peer.send(mp("pushed")).await;
        peer.fence().await;
    }
}
