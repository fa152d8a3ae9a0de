//! Leases: what is granted, what waits, and what is refused.

use std::time::Duration;

use rsock::{Client, Grant, Load, ResumeLimits, Server, SharedLease};
use rsock_tests::{
    fixture::Fixture,
    link::Served,
    script::{Peer, PeerListener, SCHEMES},
    wire::{
        C, F, Frame, L, M, N, R, can, err, fnf, frame, ka, lease, p, rc, resume_of, rn, rr, rs,
        setup, setup_resumable,
    },
};

use crate::spawn;

const REJECTED: u32 = 0x202;

/// So many requests for ten minutes.
fn grants(requests: u32) -> impl Fn(&Load) -> Grant + Clone + Send + Sync {
    move |_: &Load| Grant::new(requests, Duration::from_secs(600))
}

/// A peer whose SETUP asks for leases, on each transport.
async fn each_leased(served: &Served) -> Vec<Peer> {
    let mut peers = Vec::new();
    for uri in &served.uris {
        let mut peer = Peer::connect(uri).await;
        peer.send(setup().flags(L)).await;
        peers.push(peer);
    }
    peers
}

/// Our client, which asks for leases, and the server played by hand.
async fn leased_client(scheme: &str) -> (Client, Peer) {
    let listener = PeerListener::bind_for(scheme).await;
    let uri = listener.uri();
    let connecting = Client::builder().acceptor(Fixture::default()).lease(grants(2));
    let (client, peer) = tokio::join!(connecting.connect(&uri), listener.accept_setup());
    (client.expect("a connection"), peer)
}

fn ttl_and_n(lease: &Frame) -> (u32, u32) {
    let field = |at: usize| u32::from_be_bytes(lease.fixed[at..at + 4].try_into().expect("four"));
    (field(0), field(4))
}

/// LEASE-01, LEASE-02, LEASE-11, LEASE-12, LEASE-23, H110: what is beyond the lease is refused,
/// whatever it is, and its handler never called.
#[tokio::test]
async fn requests_beyond_the_lease_are_refused() {
    // Asked again, the policy would give as much again: half of it is left here.
    let policy = {
        move |load: &Load| {
            Grant::new(if load.left == 0 { 4 } else { load.left }, Duration::from_secs(600))
        }
    };
    let served = Served::with(Server::builder().lease(policy)).await;
    for mut peer in each_leased(&served).await {
        let granted = peer.next().await;
        assert_eq!(ttl_and_n(&granted), (600_000, 4), "{granted}");
        // In one write: the lease is not renewed between them.
        let within = [rr(1, "never"), rs(3, 1, "never"), rc(5, 1, "sink:1"), fnf(7, "within")];
        let beyond = [
            rr(9, "x"),
            rs(11, 1, "inf"),
            rc(13, 1, "echo"),
            rr(15, "be").flags(F),
            p(15, N, "yond"),
            fnf(17, "beyond"),
        ];
        peer.send_all(within.into_iter().chain(beyond)).await;
        let mut refused = Vec::new();
        while refused.len() < 4 {
            let frame = peer.next().await;
            if frame.code() == Some(REJECTED) {
                refused.push(frame.stream);
            }
        }
        assert_eq!(refused, [9, 11, 13, 15]);
        peer.send_all([can(1), can(3), can(5), ka(R, 0, "end")]).await;
        while peer.next().await != ka(0, 0, "end") {}
    }
    let heard: Vec<_> = served
        .fixture
        .recorder
        .lines()
        .into_iter()
        .filter(|line| line.starts_with("fnf"))
        .collect();
    assert_eq!(heard, ["fnf within", "fnf within"]);
    assert_eq!(served.meter.read().stats.refused_leases, 10);
}

/// LEASE-03, LEASE-05, LEASE-06, LEASE-08, LEASE-09, LEASE-10, LEASE-22, CAN-07, FNF-06, MDP-06.
#[tokio::test]
async fn a_client_asks_only_within_its_lease() {
    for scheme in SCHEMES {
        let (client, mut peer) = leased_client(scheme).await;
        let granted = peer.next().await;
        assert_eq!(ttl_and_n(&granted), (600_000, 2), "LEASE-05");
        let calls: Vec<_> =
            (0..10).map(|n| spawn(client.request_response(n.to_string()))).collect();
        // The fence shows that none of them was sent.
        assert_eq!(peer.ping_collecting().await, [], "LEASE-03");
        peer.send_all([lease(60_000, 5), lease(60_000, 1)]).await;
        peer.expect(rr(1, "0")).await;
        assert_eq!(peer.ping_collecting().await, [], "LEASE-06");
        peer.send(lease(60_000, 3)).await;
        peer.expect_all([rr(3, "1"), rr(5, "2"), rr(7, "3")]).await;
        assert_eq!(peer.ping_collecting().await, [], "LEASE-09");
        peer.send_all([lease(60_000, 0), lease(0, 5)]).await;
        assert_eq!(peer.ping_collecting().await, [], "LEASE-08");
        peer.send(p(1, N | C, "answer")).await;
        // Giving a call up gives no permit back, and a push needs none.
        client.metadata_push("m").await.expect("taken");
        peer.expect(rsock_tests::wire::mp("m")).await;
        calls[1].abort();
        peer.expect(can(3)).await;
        assert_eq!(peer.ping_collecting().await, [], "CAN-07");
        let with_metadata =
            frame(0, lease(0, 0).kind, M, &lease(60_000, 6).fixed, "").metadata("load");
        peer.send(with_metadata).await;
        for n in 4..10 {
            peer.expect(rr(1 + 2 * n, n.to_string())).await;
        }
        let newest = client.lease().expect("a lease");
        assert_eq!(newest.metadata.as_deref(), Some(&b"load"[..]), "LEASE-22");
        for call in calls {
            call.abort();
        }
        // Frames on open streams need none.
        peer.send(lease(60_000, 1)).await;
    }
}

/// LEASE-04, LEASE-13: a server's requester waits as well, and what runs goes on.
#[tokio::test]
async fn a_server_asks_only_within_its_lease() {
    let served = Served::with(Server::builder().lease(SharedLease::default())).await;
    for uri in &served.uris {
        let mut peer = Peer::connect(uri).await;
        peer.send(setup().flags(L).data("ask")).await;
        peer.next().await;
        assert_eq!(peer.ping_collecting().await, [], "LEASE-04");
        peer.send(lease(60_000, 1)).await;
        peer.expect(rr(2, "asked inside")).await;
        peer.send(p(2, N | C, "told")).await;
        peer.send(rs(1, 1, "count:3")).await;
        peer.expect(p(1, N, "0")).await;
        peer.send_all([lease(0, 0), rn(1, 2)]).await;
        peer.expect(p(1, N, "1")).await;
        let last = peer.next().await;
        assert_eq!(last.text(), "2", "LEASE-13");
    }
}

/// LEASE-14, LEASE-15, LEASE-16, LEASE-17, LEASE-19, H107, H108: frames that are no lease here.
#[tokio::test]
async fn leases_out_of_place() {
    let served = Served::start().await;
    for uri in &served.uris {
        let mut peer = Peer::established(uri).await;
        peer.send_all([lease(1_000, 1), lease(1_000, 1).on(1), lease(1_000, 1).on(2)]).await;
        peer.fence().await;
        let mut cut = lease(1_000, 1).encode();
        cut.pop();
        peer.send_bytes(cut).await;
        peer.expect_refusal(0x101).await;
        let mut peer = Peer::connect(uri).await;
        peer.send(setup().flags(L)).await;
        peer.expect_refusal(0x002).await;
    }
    for scheme in SCHEMES {
        let (client, mut peer) = leased_client(scheme).await;
        peer.next().await;
        peer.send_all([lease(60_000, 2), lease(1 << 31, 0), lease(1, 1 << 31), lease(0, 0).on(1)])
            .await;
        let calls: Vec<_> = (0..3).map(|n| spawn(client.request_response(n.to_string()))).collect();
        peer.expect_all([rr(1, "0"), rr(3, "1")]).await;
        assert_eq!(peer.ping_collecting().await, [], "LEASE-19");
        for call in calls {
            call.abort();
        }
    }
}

/// The room is shared among those whom leases bind, and taken by their requests alone.
#[tokio::test]
async fn a_policy_counts_those_whom_it_binds() {
    let server = Server::builder().lease(SharedLease::new(1_000));
    let served = Served::with(server.resume(ResumeLimits::default(), 10)).await;
    let counted = async |connections, requests| {
        loop {
            let reading = served.meter.read();
            if (reading.leased_connections, reading.leased_requests) == (connections, requests) {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    for uri in &served.uris {
        let mut strangers = Vec::new();
        for _ in 0..3 {
            strangers.push(Peer::connect(uri).await);
        }
        // Without leases, and with more than there is room for.
        let mut free = Peer::established(uri).await;
        free.send_all((0..1_500).map(|n| rs(1 + 2 * n, 1, "never"))).await;
        free.fence().await;
        let mut first = Peer::connect(uri).await;
        first.send(setup_resumable(b"token").flags(L)).await;
        assert_eq!(ttl_and_n(&first.next().await), (10_000, 1_000));
        first.send_all((0..10).map(|n| rs(1 + 2 * n, 1, "never"))).await;
        counted(1, 10).await;
        let mut second = Peer::connect(uri).await;
        second.send(setup().flags(L)).await;
        assert_eq!(ttl_and_n(&second.next().await), (10_000, 990 / 2));
        // A session without a transport starts nothing, and what it has started goes on.
        drop(first);
        counted(1, 10).await;
        drop(second);
        counted(0, 10).await;
        let mut third = Peer::connect(uri).await;
        third.send(setup().flags(L)).await;
        assert_eq!(ttl_and_n(&third.next().await), (10_000, 990));
        let mut again = Peer::connect(uri).await;
        again.send(resume_of((1, 0), b"token", 0, 0)).await;
        counted(2, 10).await;
        drop(third);
        again.send_all((0..10).map(|n| can(1 + 2 * n))).await;
        counted(1, 0).await;
        again.send(err(0, 0x101, "the end")).await;
        counted(0, 0).await;
    }
}

/// H109: the last of a million counts.
#[tokio::test]
async fn a_flood_of_leases() {
    let many = if std::env::var_os("RSOCK_TESTS_FULL").is_some() { 500_000 } else { 5_000 };
    for scheme in SCHEMES {
        let (client, mut peer) = leased_client(scheme).await;
        peer.next().await;
        peer.send_all((0..many).flat_map(|_| [lease(60_000, 0), lease(60_000, u32::MAX >> 1)]))
            .await;
        let call = spawn(client.request_response("x"));
        peer.expect(rr(1, "x")).await;
        peer.send_all((0..many).flat_map(|_| [lease(60_000, 9), lease(60_000, 0)])).await;
        assert_eq!(peer.ping_collecting().await, []);
        let waits = spawn(client.request_response("y"));
        assert_eq!(peer.ping_collecting().await, []);
        call.abort();
        waits.abort();
    }
}
