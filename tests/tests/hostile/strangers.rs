//! The shares of strangers, and what they may take from others: nothing.

use std::time::Duration;

use rsock::{Config, ResumeLimits, Server, ServerBuilder};
use rsock_tests::{
    link::Served,
    script::Peer,
    wire::{C, N, p, resume_of, resume_ok, rn, rr, rs, setup, setup_resumable, tracked},
};

fn resumable(max_sessions: usize) -> ServerBuilder {
    Server::builder().resume(ResumeLimits::default(), max_sessions)
}

/// A session with a stream that has sent one item, and what it has sent.
async fn session(uri: &str, token: &[u8]) -> Peer {
    let mut peer = Peer::connect(uri).await;
    peer.send_all([setup_resumable(token), rs(1, 1, "inf")]).await;
    peer.expect(p(1, N, "0")).await;
    peer
}

async fn come_back(uri: &str, token: &[u8]) -> Peer {
    let mut peer = Peer::connect(uri).await;
    peer.send(resume_of((1, 0), token, tracked([&p(1, N, "0")]), 0)).await;
    peer
}

/// It is resumed, and goes on.
async fn goes_on(peer: &mut Peer) {
    peer.expect(resume_ok(tracked([&rs(1, 1, "inf")]))).await;
    peer.send(rn(1, 1)).await;
    peer.expect(p(1, N, "1")).await;
}

/// H152: a full service whose clients all lose their transport takes them all up again, whoever came in
/// the meantime; and one that is full refuses with a reason.
#[tokio::test]
async fn a_full_service_hears_who_comes_back() {
    let mut config = Config::default();
    config.setup_timeout = Duration::from_secs(2);
    config.resume = Some(ResumeLimits::default());
    let served = Served::with(Server::builder().config(config).max_connections(4)).await;
    for (uri, name) in served.uris.iter().zip(["tcp", "web"]) {
        let tokens: Vec<_> = (0..4).map(|n| format!("{name} {n}").into_bytes()).collect();
        for token in &tokens {
            drop(session(uri, token).await);
        }
        let mut back = Vec::new();
        for token in &tokens {
            let mut peer = come_back(uri, token).await;
            goes_on(&mut peer).await;
            back.push(peer);
        }
        // One more waits for a place, and is refused when it has waited long enough.
        let mut stranger = Peer::connect(uri).await;
        stranger.send_all([setup(), rr(1, "x")]).await;
        let said = stranger.expect_refusal(0x003).await;
        assert!(said.contains("all 4 connections are in use; try again later"), "{said}");
        // Whoever has taken the place of one does not keep it out.
        let mut waiting = Peer::connect(uri).await;
        waiting.send_all([setup(), rr(1, "x")]).await;
        drop(back.pop());
        waiting.expect(p(1, N | C, "x")).await;
        let mut peer = Peer::connect(uri).await;
        let sent = tracked([&p(1, N, "0"), &p(1, N, "1")]);
        peer.send(resume_of((1, 0), &tokens[3], sent, 0)).await;
        peer.expect(resume_ok(tracked([&rs(1, 1, "inf"), &rn(1, 1)]))).await;
        for peer in back.iter_mut().chain([&mut peer, &mut waiting]) {
            peer.send(rsock_tests::wire::err(0, 0x101, "bye")).await;
            while peer.next_or_end().await.is_some() {}
        }
    }
    let reading = served.meter.read();
    assert_eq!((reading.refused_connections, reading.evicted_newcomers), (2, 0), "{reading:?}");
}

/// H153: sockets that say nothing, half a handshake, or SETUP to an acceptor that takes its time, keep
/// nobody out.
#[tokio::test]
async fn silent_sockets_lock_nobody_out() {
    let served = Served::with(Server::builder().max_connections(2).max_newcomers(4)).await;
    let (mut silent, mut sockets) = (Vec::new(), Vec::new());
    for n in 0..12 {
        for uri in &served.uris {
            if n % 4 == 0 {
                let mut slow = Peer::connect(uri).await;
                slow.send(setup().data("wait")).await;
                silent.push(slow);
            } else {
                let address = uri.split("//").nth(1).and_then(|rest| rest.split('/').next());
                let address = address.expect("an address");
                let socket = tokio::net::TcpStream::connect(address).await;
                let mut socket = socket.expect("a connection");
                let half: &[u8] = if n % 2 == 0 { b"GET /rsocket HTTP/1.1\r\n" } else { b"" };
                // Closed already, if enough have come since.
                let _ = tokio::io::AsyncWriteExt::write_all(&mut socket, half).await;
                sockets.push(socket);
            }
        }
        for uri in &served.uris {
            let mut polite = Peer::connect(uri).await;
            polite.send_all([setup(), rr(1, "x")]).await;
            polite.expect(p(1, N | C, "x")).await;
            polite.finish().await;
            while polite.next_or_end().await.is_some() {}
        }
    }
    let reading = served.meter.read();
    assert!(reading.evicted_newcomers >= 16, "{reading:?}");
}

/// H120, H154: a session ends for one that was accepted, and for no other.
#[tokio::test]
async fn no_session_ends_for_one_that_is_not_accepted() {
    let served = Served::with(resumable(1)).await;
    for (uri, token) in served.uris.iter().zip([b"tcp", b"web"]) {
        drop(session(uri, token).await);
        for wish in ["reject", "unsupported", "panic", "wait"] {
            for n in 0..3 {
                let mut stranger = Peer::connect(uri).await;
                let theirs = format!("{wish} {n}").into_bytes();
                stranger.send(setup_resumable(&theirs).data(wish)).await;
                match wish {
                    "wait" => {}
                    "unsupported" => drop(stranger.expect_refusal(0x002).await),
                    _ => drop(stranger.expect_refusal(0x003).await),
                }
            }
        }
        let mut peer = come_back(uri, token).await;
        goes_on(&mut peer).await;
        peer.send(rsock_tests::wire::err(0, 0x101, "bye")).await;
        while peer.next_or_end().await.is_some() {}
    }
    assert_eq!(served.meter.read().evicted_sessions, 0);
}

/// RESUME-30: two ask for one token at the same time; whoever is accepted first has it.
#[tokio::test]
async fn of_two_that_ask_for_one_token_the_first_to_be_accepted_has_it() {
    let served = Served::with(resumable(10)).await;
    for (n, uri) in (1..).zip(&served.uris) {
        let mut slow = Peer::connect(uri).await;
        slow.send(setup_resumable(b"token").data("wait")).await;
        served.fixture.recorder.wait_count("acceptor waits", n).await;
        let mut quick = session(uri, b"token").await;
        served.fixture.gate.add_permits(1);
        let said = slow.expect_refusal(0x003).await;
        assert!(said.contains("in use"), "{said}");
        quick.send(rsock_tests::wire::err(0, 0x101, "bye")).await;
        while quick.next_or_end().await.is_some() {}
    }
}

/// H120, H155: an address that floods takes from itself.
#[tokio::test]
async fn a_strangers_sessions_end_his_own() {
    let served = Served::with(resumable(8)).await;
    for (uri, token) in served.uris.iter().zip([b"tcp", b"web"]) {
        let mut kept = session(uri, token).await;
        for n in 0..100 {
            drop(session(uri, format!("{token:?} {n}").as_bytes()).await);
        }
        // All come from one address, which may hold four: one with a transport is not taken away.
        kept.send(rn(1, 1)).await;
        kept.expect(p(1, N, "1")).await;
        let mut last = come_back(uri, format!("{token:?} 99").as_bytes()).await;
        goes_on(&mut last).await;
        for peer in [&mut kept, &mut last] {
            peer.send(rsock_tests::wire::err(0, 0x101, "bye")).await;
            while peer.next_or_end().await.is_some() {}
        }
    }
    let reading = served.meter.read();
    assert!(reading.evicted_sessions >= 190 && reading.suspended_sessions <= 4, "{reading:?}");
}

/// A service that stops tells everyone that it does.
#[tokio::test]
async fn a_stop_says_so() {
    for uri in 0..2 {
        let mut served = Served::with(resumable(10)).await;
        let uri = served.uris[uri].clone();
        let mut idle = Peer::established(&uri).await;
        let mut busy = session(&uri, b"busy").await;
        let mut accepted = Peer::connect(&uri).await;
        accepted.send(setup().data("wait")).await;
        served.fixture.recorder.wait("acceptor waits").await;
        let mut silent = Peer::connect(&uri).await;
        served.begin_shutdown();
        for (peer, code) in [(&mut idle, 0x102), (&mut accepted, 0x003)] {
            assert_eq!(peer.expect_refusal(code).await, "the service is stopping");
        }
        while silent.next_or_end().await.is_some() {}
        busy.send(rsock_tests::wire::can(1)).await;
        assert_eq!(busy.expect_refusal(0x102).await, "the service is stopping");
        served.ended().await;
    }
}
