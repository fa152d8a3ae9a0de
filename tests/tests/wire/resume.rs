//! Resume: a session whose transport is lost, as a peer sees it that is not ours.

use std::time::Duration;

use rsock::{
    Client, CloseReason, ConnectError, ConnectionState, ErrorCode, Resume, ResumeLimits, Server,
    Side,
};
use rsock_tests::{
    fixture::Fixture,
    link::Served,
    script::{PATIENCE, Peer, PeerListener, SCHEMES},
    wire::{
        C, F, Frame, L, N, R, can, err, fnf, ka, lease, mp, p, rc, resume, resume_of, resume_ok,
        rn, rr, rs, setup, setup_resumable, tracked, u,
    },
};

use tokio::time::timeout;

use crate::spawn;

const TOKEN: &[u8] = b"a token";

async fn served() -> Served {
    Served::with(Server::builder().resume(ResumeLimits::default(), 100)).await
}

async fn session(uri: &str, token: &[u8]) -> Peer {
    let mut peer = Peer::connect(uri).await;
    peer.send(setup_resumable(token)).await;
    peer
}

/// A new transport on which the session goes on from these positions; what it says of ours.
async fn resumed(uri: &str, token: &[u8], server: u64) -> (Peer, u64) {
    let mut peer = Peer::connect(uri).await;
    peer.send(resume_of((1, 0), token, server, 0)).await;
    let answer = peer.next().await;
    let position: [u8; 8] = answer.fixed.clone().try_into().expect("RESUME_OK");
    assert!(answer == resume_ok(u64::from_be_bytes(position)), "{answer}");
    (peer, u64::from_be_bytes(position))
}

/// RESUME-16, RESUME-17, RESUME-20, RESUME-26, RESUME-41, H111, H112, H124: what names no session of ours.
#[tokio::test]
async fn a_resume_that_fits_nothing_is_refused() {
    let (without, with) = (Served::start().await, served().await);
    for uri in &without.uris {
        let mut peer = Peer::connect(uri).await;
        peer.send(resume(TOKEN)).await;
        peer.expect_refusal(0x004).await;
        let mut peer = session(uri, TOKEN).await;
        peer.expect_refusal(0x003).await;
    }
    for uri in &with.uris {
        for n in 0..500 {
            let mut peer = Peer::connect(uri).await;
            peer.send(resume(format!("guess {n}").as_bytes())).await;
            peer.expect_refusal(0x004).await;
        }
        for refused in [
            resume_of((9, 9), TOKEN, 0, 0),
            resume_of((0, 1), TOKEN, 0, 0),
            resume_of((1, 0), b"", 0, 0),
            resume_of((1, 0), TOKEN, 1 << 63, 0),
            resume_of((1, 0), TOKEN, 0, u64::MAX),
        ] {
            let mut peer = Peer::connect(uri).await;
            peer.send(refused).await;
            peer.expect_refusal(0x004).await;
        }
        let whole = resume(TOKEN).encode();
        for len in 6..whole.len() {
            let mut peer = Peer::connect(uri).await;
            peer.send_bytes(&whole[..len]).await;
            peer.expect_refusal(0x101).await;
        }
        let mut peer = Peer::connect(uri).await;
        peer.send(resume(TOKEN).on(1)).await;
        peer.expect_refusal(0x001).await;
        let mut peer = session(uri, b"").await;
        peer.expect_refusal(0x003).await;
    }
}

/// RESUME-04 to RESUME-08, RESUME-12, RESUME-13, RESUME-15, RESUME-38, MDP-06, KA-13.
#[tokio::test]
async fn positions_count_what_they_should_and_the_rest_comes_again() {
    let served = served().await;
    for (uri, token) in served.uris.iter().zip([b"tcp", b"web"]) {
        let mut peer = session(uri, token).await;
        let sent = [
            rr(1, "one"),
            fnf(3, "x"),
            rs(5, 2, "count:5"),
            rc(7, 9, "be").flags(F),
            p(7, N, "gun"),
            can(77),
            p(8, N, "unknown"),
            mp("not counted"),
            ka(0, 0, "not counted"),
            lease(1, 1),
            can(0),
        ];
        peer.send_all(sent.clone()).await;
        let mut got = Vec::new();
        // The reply, two items, what the channel returns, and the grant for more of it.
        while got.len() < 5 {
            got.push(peer.next().await);
        }
        // Half a frame does not count, and goes with its transport.
        let half = peer.framed(&rr(9, "half of a frame").encode());
        peer.raw(&half[..half.len() - 4]).await;
        drop(peer);
        let received = tracked(&got[..2]);
        let (mut peer, ours) = resumed(uri, token, received).await;
        assert_eq!(ours, tracked(&sent));
        for frame in &got[2..] {
            peer.expect(frame.clone()).await;
        }
        peer.send_all([rn(5, 9), p(7, C, "")]).await;
        let mut rest = vec![peer.next().await];
        while rest.iter().filter(|frame| frame.flags & C != 0 && frame.stream != 0).count() < 2 {
            rest.push(peer.next().await);
        }
        let items: Vec<_> =
            rest.iter().filter(|frame| frame.stream == 5).map(Frame::text).collect();
        assert_eq!(items.join(""), "234");
        // And once more: positions go on.
        let before = tracked(&got) + tracked(&rest);
        drop(peer);
        let (mut peer, ours) = resumed(uri, token, before).await;
        assert_eq!(ours, tracked(&sent) + tracked(&[rn(5, 9), p(7, C, "")]));
        peer.send(rr(11, "after")).await;
        peer.expect(p(11, N | C, "after")).await;
    }
}

/// RESUME-11, RESUME-18, RESUME-19, RESUME-34, H113, H114: who asks is refused, and the session waits on
/// for its client.
#[tokio::test]
async fn positions_that_do_not_fit_are_refused_and_cost_nothing_else() {
    let served = served().await;
    let request = rs(1, 3, "inf");
    let len = tracked([&request]);
    let item = tracked([&p(1, N, "0")]);
    let mut tokens = 0..;
    for uri in &served.uris {
        let wrong = [(3, 0), (3 * item + 1, 0), (u64::MAX >> 1, 0), (3 * item, len + 1), (0, 0)];
        for (server, client) in wrong {
            let token = format!("{:?}", tokens.next()).into_bytes();
            let mut peer = session(uri, &token).await;
            peer.send(request.clone()).await;
            for n in 0..3 {
                peer.expect(p(1, N, n.to_string())).await;
            }
            // RESUME-34: one item is acknowledged, and not available any more.
            peer.send(ka(R, item, "")).await;
            peer.expect(ka(0, len, "")).await;
            drop(peer);
            let mut peer = Peer::connect(uri).await;
            peer.send(resume_of((1, 0), &token, server, client)).await;
            peer.expect_refusal(0x004).await;
            let (mut peer, ours) = resumed(uri, &token, 3 * item).await;
            assert_eq!(ours, len);
            peer.send(rn(1, 1)).await;
            peer.expect(p(1, N, "3")).await;
        }
    }
    assert_eq!(served.meter.read().stats.resumes, 10);
}

/// RESUME-31, H149: a RESUME that was delayed on its way, whose client has got on elsewhere meanwhile.
#[tokio::test]
async fn a_resume_that_comes_too_late_does_not_take_the_session_along() {
    let served = served().await;
    let item = tracked([&p(1, N, "0")]);
    for (uri, token) in served.uris.iter().zip([b"tcp", b"web"]) {
        let mut peer = session(uri, token).await;
        peer.send(rs(1, 3, "inf")).await;
        for n in 0..3 {
            peer.expect(p(1, N, n.to_string())).await;
        }
        let mut late = Peer::connect(uri).await;
        drop(peer);
        let (mut peer, len) = resumed(uri, token, item).await;
        peer.expect_all([p(1, N, "1"), p(1, N, "2")]).await;
        peer.send(ka(R, 3 * item, "")).await;
        peer.expect(ka(0, len, "")).await;
        late.send(resume_of((1, 0), token, item, 0)).await;
        late.expect_refusal(0x004).await;
        peer.send(rn(1, 1)).await;
        peer.expect(p(1, N, "3")).await;
    }
}

/// H150: what a proxy leaves behind when it stops costs the transport, and not the session.
#[tokio::test]
async fn bytes_that_are_no_frames_cost_the_transport_alone() {
    let served = served().await;
    let nonsense: [(&[u8], &[u8]); 3] = [
        // A prefix and a header that cannot be; half a frame; HTTP.
        (b"\0\0\x02xy", b"\x82\x82\0\0\0\0xy"),
        (b"\0\0\x09\0\0\0\x03", b"\x82\x89\0\0\0\0\0\0"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", b"HTTP/1.1 502 Bad Gateway\r\n\r\n"),
    ];
    // An unmasked frame, a text frame, a close frame.
    let of_websocket: [&[u8]; 3] =
        [b"\x82\x06\0\0\0\x01\x24\0", b"\x81\x82\0\0\0\0hi", b"\x88\x82\0\0\0\0\x03\xf3"];
    let tcp = nonsense.iter().map(|(bytes, _)| (0, *bytes));
    let web = nonsense.iter().map(|(_, bytes)| (1, *bytes)).chain(of_websocket.map(|b| (1, b)));
    let len = tracked([&rs(1, 1, "inf")]);
    let item = tracked([&p(1, N, "0")]);
    for (n, (uri, bytes)) in tcp.chain(web).enumerate() {
        let (uri, token) = (&served.uris[uri], n.to_string().into_bytes());
        let mut peer = session(uri, &token).await;
        peer.send(rs(1, 1, "inf")).await;
        peer.expect(p(1, N, "0")).await;
        peer.raw(bytes).await;
        peer.finish().await;
        peer.expect_end().await;
        let (mut peer, ours) = resumed(uri, &token, item).await;
        assert_eq!(ours, len);
        peer.send(rn(1, 1)).await;
        peer.expect(p(1, N, "1")).await;
    }
    assert!(served.meter.read().stats.broken_transports >= 4);
}

/// RESUME-03, RESUME-30, RESUME-32, H115, H118: tokens are bytes, and in use by one.
#[tokio::test]
async fn a_token_is_bytes_and_has_one_owner() {
    let served = served().await;
    for (uri, last) in served.uris.iter().zip([0xFF, 0xFD]) {
        let mut first = session(uri, &[0xFF, last]).await;
        first.send(rr(1, "x")).await;
        first.expect(p(1, N | C, "x")).await;
        let mut second = session(uri, &[0xFF, last]).await;
        second.expect_refusal(0x003).await;
        let mut third = Peer::connect(uri).await;
        third.send(resume(&[0xFF, 0xFE])).await;
        third.expect_refusal(0x004).await;
        first.send(rr(3, "y")).await;
        first.expect(p(3, N | C, "y")).await;
    }
}

/// RESUME-31, H117: the newest transport has the session; the others are closed.
#[tokio::test]
async fn a_second_transport_takes_over() {
    let served = served().await;
    for (uri, token) in served.uris.iter().zip([b"tcp", b"web"]) {
        let mut first = session(uri, token).await;
        first.send(rs(1, 1, "inf")).await;
        first.expect(p(1, N, "0")).await;
        let (mut second, _) = resumed(uri, token, 0).await;
        first.expect_end().await;
        second.expect(p(1, N, "0")).await;
        second.send(rn(1, 1)).await;
        second.expect(p(1, N, "1")).await;
        // Two at the same time: one wins, and nothing is lost on the way.
        let sent = tracked(&[p(1, N, "0"), p(1, N, "1")]);
        let (mut third, mut fourth) = (Peer::connect(uri).await, Peer::connect(uri).await);
        let both = [
            third.send(resume_of((1, 0), token, sent, 0)),
            fourth.send(resume_of((1, 0), token, sent, 0)),
        ];
        futures_util::future::join_all(both).await;
        second.expect_end().await;
        let mut alive = 0;
        for peer in [&mut third, &mut fourth] {
            peer.send(rn(1, 1)).await;
        }
        for peer in [&mut third, &mut fourth] {
            let mut frames = Vec::new();
            while let Some(frame) = peer.next_or_end().await {
                frames.push(frame);
                if frames.len() == 2 {
                    alive += 1;
                    assert_eq!(frames[1], p(1, N, "2"));
                    break;
                }
            }
        }
        assert_eq!(alive, 1);
    }
}

/// RESUME-25, RESUME-39, RESUME-40, SETUP-17, H116.
#[tokio::test]
async fn resume_out_of_place() {
    let served = served().await;
    for (uri, token) in served.uris.iter().zip([b"tcp", b"web"]) {
        let mut peer = Peer::connect(uri).await;
        peer.send_all([setup(), resume_ok(0), resume(b"x").on(1), rr(1, "x")]).await;
        peer.expect(p(1, N | C, "x")).await;
        peer.send(resume(token)).await;
        peer.expect_refusal(0x101).await;

        let mut peer = session(uri, token).await;
        peer.send(rr(1, "x")).await;
        peer.expect(p(1, N | C, "x")).await;
        drop(peer);
        // RESUME-39: a request right behind it.
        let mut peer = Peer::connect(uri).await;
        peer.send_all([resume_of((1, 0), token, 0, 0), rr(3, "behind")]).await;
        peer.next().await;
        peer.expect_all([p(1, N | C, "x"), p(3, N | C, "behind")]).await;
        peer.send_all([setup_resumable(token), rr(5, "y")]).await;
        peer.expect(p(5, N | C, "y")).await;
        peer.send(resume(token)).await;
        peer.expect_refusal(0x101).await;
    }
}

/// RESUME-28, RESUME-29, RESUME-37, RESUME-44, H119: while apart producers are held, and when the
/// window is over, everything goes.
#[tokio::test]
async fn the_window_and_its_end() {
    let mut limits = ResumeLimits::default();
    limits.window = Duration::from_millis(300);
    limits.max_bytes = 10_000;
    let served = Served::with(Server::builder().resume(limits, 100)).await;
    for (ended, uri) in served.uris.iter().enumerate() {
        let mut peer = session(uri, TOKEN).await;
        peer.send(rs(1, 0x7fff_ffff, "inf")).await;
        peer.expect(p(1, N, "0")).await;
        drop(peer);
        served.fixture.recorder.wait_count("dropped inf", ended + 1).await;
        let mut peer = Peer::connect(uri).await;
        peer.send(resume(TOKEN)).await;
        peer.expect_refusal(0x004).await;
    }
    let reading = served.meter.read();
    assert!(reading.stats.items_out < 4_000, "{reading:?}");
    assert_eq!(reading.suspended_sessions, 0);
}

/// RESUME-33: an end on purpose is the end of the session as well.
#[tokio::test]
async fn a_session_that_was_ended_cannot_be_resumed() {
    let served = served().await;
    for uri in &served.uris {
        for code in [0x101, 0x102] {
            let mut peer = session(uri, TOKEN).await;
            peer.send_all([rr(1, "x"), err(0, code, "bye")]).await;
            while peer.next_or_end().await.is_some() {}
            let mut peer = Peer::connect(uri).await;
            peer.send(resume(TOKEN)).await;
            peer.expect_refusal(0x004).await;
        }
    }
}

/// LEASE-20, RESUME-27, RESUME-43, FRAG-29.
#[tokio::test]
async fn leases_begin_anew_and_fragments_go_on() {
    let lease_of_one = |_: &rsock::Load| rsock::Grant::new(1, Duration::from_secs(600));
    let builder = Server::builder().resume(ResumeLimits::default(), 10).lease(lease_of_one);
    let served = Served::with(builder).await;
    for (uri, token) in served.uris.iter().zip([b"tcp", b"web"]) {
        let mut peer = Peer::connect(uri).await;
        peer.send(setup_resumable(token).flags(L)).await;
        assert_eq!(peer.next().await.kind, lease(0, 0).kind);
        let sent = [rr(1, "be").flags(F), p(1, N | F, "gin")];
        peer.send_all(sent.clone()).await;
        // The lease is used up, and renewed; then the transport is lost in mid request.
        assert_eq!(peer.next().await.kind, lease(0, 0).kind);
        drop(peer);
        let (mut peer, ours) = resumed(uri, token, 0).await;
        assert_eq!(ours, tracked(&sent));
        assert_eq!(peer.next().await.kind, lease(0, 0).kind, "RESUME-27");
        peer.send(p(1, N, "ning")).await;
        peer.expect(p(1, N | C, "beginning")).await;
    }
}

// ---- as client ------------------------------------------------------------------------------------

/// Our client, which asks for resume, the server played by hand, and where it listens.
async fn resumable(scheme: &str) -> (Client, Peer, PeerListener) {
    let listener = PeerListener::bind_for(scheme).await;
    let uri = listener.uri();
    let quick =
        Resume::new().pauses(Duration::from_millis(1), Duration::from_millis(5)).renew(false);
    let connecting = Client::builder().acceptor(Fixture::default()).resume(quick);
    let (client, peer) = tokio::join!(connecting.connect(&uri), listener.accept());
    let mut peer = peer;
    let setup = peer.next().await;
    assert!(setup.flags & R != 0, "RESUME-02: {setup}");
    // A server that says nothing has no session to come back to.
    peer.send(ka(0, 0, "")).await;
    (client.expect("a connection"), peer, listener)
}

/// The client comes back; the positions it names.
async fn comes_back(listener: &PeerListener) -> (Peer, u64, u64) {
    let mut peer = listener.accept().await;
    let first = peer.next().await;
    assert_eq!(first.kind, resume(b"").kind, "RESUME-09: {first}");
    let at = first.fixed.len() - 16;
    let position =
        |at: usize| u64::from_be_bytes(first.fixed[at..at + 8].try_into().expect("eight"));
    let (server, client) = (position(at), position(at + 8));
    (peer, server, client)
}

/// RESUME-02, RESUME-09, RESUME-10, RESUME-13, RESUME-22, RESUME-38, SID-15, KA-16, WS-10, H123.
#[tokio::test]
async fn a_client_comes_back_and_goes_on() {
    for scheme in SCHEMES {
        let (client, mut peer, listener) = resumable(scheme).await;
        let one = spawn(client.request_response("one"));
        peer.expect(rr(1, "one")).await;
        let mut items = client.request_stream("items").credit(2);
        let items = spawn(async move {
            use futures_util::StreamExt;
            let mut all = Vec::new();
            while let Some(item) = items.next().await {
                all.push(item.expect("no failure").data);
            }
            all
        });
        peer.expect(rs(3, 2, "items")).await;
        peer.send(p(3, N, "a")).await;
        peer.expect(rn(3, 1)).await;
        let half = peer.framed(&p(3, N, "half of a frame").encode());
        peer.raw(&half[..half.len() - 2]).await;
        drop(peer);
        let two = spawn(client.request_response("two"));
        // It is told to try again, then loses the transport again.
        let (mut peer, server, first) = comes_back(&listener).await;
        assert_eq!((server, first), (tracked([&p(3, N, "a")]), 0));
        peer.send(err(0, 0x101, "not now")).await;
        let (peer, ..) = comes_back(&listener).await;
        drop(peer);
        let (mut peer, ..) = comes_back(&listener).await;
        // The request of the stream has arrived, REQUEST_N has not.
        peer.send(resume_ok(tracked(&[rr(1, "one"), rs(3, 2, "items")]))).await;
        peer.expect_all([rn(3, 1), rr(5, "two")]).await;
        peer.send_all([p(3, N, "b"), p(3, N | C, "c"), p(1, N | C, "1"), p(5, N | C, "2")]).await;
        assert_eq!(items.await.expect("no panic"), ["a", "b", "c"]);
        assert_eq!(one.await.expect("no panic").expect("a reply").data, "1");
        assert_eq!(two.await.expect("no panic").expect("a reply").data, "2");
        assert_eq!(client.state(), ConnectionState::Established);
        drop(client);
        while peer.next_or_end().await.is_some() {}
    }
}

/// RESUME-21, RESUME-23, H121, H122: what ends it for good.
#[tokio::test]
async fn a_client_gives_up_when_there_is_nothing_to_resume() {
    for scheme in SCHEMES {
        for (answer, told) in [
            (err(0, 0x004, "unknown"), None),
            (resume_ok(9_999), Some(0x101)),
            (resume_ok(3), Some(0x101)),
            (resume_ok(1 << 63), Some(0x101)),
            (p(1, N | C, "early"), Some(0x101)),
        ] {
            let (client, mut peer, listener) = resumable(scheme).await;
            let call = spawn(client.request_response("x"));
            peer.expect(rr(1, "x")).await;
            drop(peer);
            let (mut peer, ..) = comes_back(&listener).await;
            peer.send(answer.clone()).await;
            if let Some(code) = told {
                peer.expect_refusal(code).await;
            } else {
                peer.expect_end().await;
            }
            let failed = call.await.expect("no panic").expect_err("no reply");
            let reason = client.closed().await;
            assert_eq!(failed, reason.clone().into(), "{answer}");
            if told.is_none() {
                let unknown = CloseReason::Error {
                    by: Side::Peer,
                    code: ErrorCode::REJECTED_RESUME,
                    message: "unknown".into(),
                };
                assert_eq!(reason, unknown);
            }
        }
    }
}

/// A proxy that reaches no server: there is no session, and that is told and not waited for.
#[tokio::test]
async fn a_server_that_closes_right_behind_setup_is_told_as_that() {
    for scheme in SCHEMES {
        for settings in [Some(Resume::new()), None] {
            let listener = PeerListener::bind_for(scheme).await;
            let uri = listener.uri();
            let connecting = match settings {
                Some(resume) => Client::builder().resume(resume),
                None => Client::builder(),
            };
            let connecting = connecting.wait_until_accepted(true);
            let closing = async { drop(listener.accept().await) };
            let (connected, ()) = tokio::join!(connecting.connect(&uri), closing);
            let error = connected.expect_err("no connection");
            assert_eq!(error, ConnectError::Closed(CloseReason::ClosedAfterSetup));
            assert!(error.to_string().contains("right after SETUP"), "{error}");
        }
    }
}

/// The ends of a session at its client, but for a close: what a server says, on which kind of
/// transport.
fn ends_of_sessions() -> [(bool, Frame); 7] {
    [
        // In the place of RESUME_OK, and while all is well.
        (true, resume_ok(9_999)),
        (true, p(1, N | C, "early")),
        (true, err(0, 0x004, "unknown")),
        (true, err(0, 0x102, "stopping")),
        (true, err(0, 0x201, "nonsense")),
        (false, err(0, 0x101, "something is wrong")),
        (false, u(0, 0x3E, 0)),
    ]
}

/// RESUME-21, RESUME-23, H151: while its server lives, a client that renews is not dead for good.
#[tokio::test]
async fn a_client_that_renews_goes_on_whatever_ends_its_session() {
    for scheme in SCHEMES {
        for (in_handshake, said) in ends_of_sessions() {
            let listener = PeerListener::bind_for(scheme).await;
            let uri = listener.uri();
            let quick = Resume::new().pauses(Duration::from_millis(1), Duration::from_millis(5));
            let connecting = Client::builder().resume(quick);
            let (client, peer) = tokio::join!(connecting.connect(&uri), listener.accept_setup());
            let (client, mut peer) = (client.expect("a connection"), peer);
            peer.send(ka(0, 0, "")).await;
            let pending = spawn(client.request_response("pending"));
            peer.expect(rr(1, "pending")).await;
            if in_handshake {
                drop(peer);
                (peer, ..) = comes_back(&listener).await;
            }
            peer.send(said.clone()).await;
            let failed = pending.await.expect("no panic").expect_err("its session is over");
            assert!(matches!(failed, rsock::Error::Closed { .. }), "{said}: {failed:?}");
            // A fresh one, which is refused, and closed, and answered by no server of ours.
            let mut refused = listener.accept_setup().await;
            refused.send(err(0, 0x003, "full; try again later")).await;
            drop(refused);
            drop(listener.accept_setup().await);
            let mut proxy = listener.accept_setup().await;
            proxy.raw(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await;
            drop(proxy);
            let mut peer = listener.accept_setup().await;
            let after = spawn(client.request_response("after"));
            peer.expect(rr(1, "after")).await;
            peer.send(p(1, N | C, "at last")).await;
            assert_eq!(after.await.expect("no panic").expect("a reply").data, "at last");
            // What a proxy says in the place of RESUME_OK is no answer.
            drop(peer);
            let (proxy, ..) = comes_back(&listener).await;
            let mut proxy = proxy;
            proxy.raw(b"\0\0\x02xy").await;
            let (mut peer, ..) = comes_back(&listener).await;
            peer.send(resume_ok(tracked([&rr(1, "after")]))).await;
            let last = spawn(client.request_response("last"));
            peer.expect(rr(3, "last")).await;
            client.abort().await;
            last.await.expect("no panic").expect_err("it was aborted");
        }
    }
}

/// H156: what a WebSocket is closed with is told, harmless; a session outlives it.
#[tokio::test]
async fn the_code_and_reason_of_a_websocket_that_is_closed_are_told() {
    let close = |code: u16, reason: &str| [&code.to_be_bytes()[..], reason.as_bytes()].concat();
    let listener = PeerListener::bind_for("ws").await;
    let uri = listener.uri();
    for is_accepted in [true, false] {
        let (client, peer) = tokio::join!(Client::connect(&uri), listener.accept_setup());
        let (client, mut peer) = (client.expect("a connection"), peer);
        if is_accepted {
            peer.send(ka(0, 0, "")).await;
        }
        peer.message(0x88, close(1011, "no backend \u{202e}x")).await;
        let reason = client.closed().await;
        let told =
            CloseReason::WebSocketClosed { code: 1011, reason: "no backend \u{202e}x".into() };
        assert_eq!(reason, told);
        let said = "the peer closed the WebSocket with code 1011: no backend \\u{202e}x";
        assert_eq!(reason.to_string(), said);
    }
    let (client, mut peer, listener) = resumable("ws").await;
    let call = spawn(client.request_response("x"));
    peer.expect(rr(1, "x")).await;
    peer.message(0x88, close(1001, "the proxy restarts")).await;
    let (mut peer, ..) = comes_back(&listener).await;
    peer.send(resume_ok(tracked([&rr(1, "x")]))).await;
    peer.send(p(1, N | C, "y")).await;
    assert_eq!(call.await.expect("no panic").expect("a reply").data, "y");
}

/// KA-11: a server that has fallen silent costs the transport, and not the session.
#[tokio::test]
async fn a_silent_server_is_dialled_again() {
    for scheme in SCHEMES {
        let listener = PeerListener::bind_for(scheme).await;
        let uri = listener.uri();
        let short = Duration::from_millis(50);
        let connecting = Client::builder().keepalive(short, 3 * short).resume(Resume::new());
        let (client, mute) = tokio::join!(connecting.connect(&uri), listener.accept());
        let client = client.expect("a connection");
        let call = spawn(client.request_response("x"));
        let (mut peer, ..) = comes_back(&listener).await;
        drop(mute);
        peer.send(resume_ok(0)).await;
        let request = peer.next().await;
        assert!(request == rr(1, "x"), "{request}");
        peer.send(p(1, N | C, "y")).await;
        assert_eq!(call.await.expect("no panic").expect("a reply").data, "y");
    }
}

/// Nothing is pending, and nothing was told that may not have arrived.
#[tokio::test]
async fn closing_does_not_wait_for_a_server_that_does_not_answer_resume() {
    for scheme in SCHEMES {
        let (client, peer, listener) = resumable(scheme).await;
        drop(peer);
        let (mut silent, ..) = comes_back(&listener).await;
        let closing = tokio::spawn(async move { client.close().await });
        let reason = timeout(PATIENCE, closing).await.expect("in time").expect("no panic");
        assert_eq!(reason, CloseReason::Finished(Side::Local));
        // One that has the session after all is told.
        silent.expect_error(0, 0x102).await;
    }
}
