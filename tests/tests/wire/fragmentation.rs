//! Payloads in fragments, in both directions.

use futures_util::{StreamExt, stream};
use rsock::{Client, Config, Error, Payload, Server};
use rsock_tests::{
    fixture::Fixture,
    link::Served,
    script::{Peer, PeerListener, SCHEMES},
    wire::{C, F, Frame, N, R, can, err, fnf, ka, p, rc, rn, rr, rs},
};

use crate::{connected, each, items, spawn};

/// Settings with the smallest fragments that every peer takes, and little room for the peer's.
fn small() -> Config {
    let mut config = Config::default();
    config.fragment_bytes = Some(64);
    config.max_payload_bytes = 4 << 10;
    config.max_reassembly_bytes = 16 << 10;
    config.max_empty_fragments = 10;
    config
}

/// Our client with those settings, and the server played by hand.
async fn small_client(scheme: &str) -> (Client, Peer) {
    let listener = PeerListener::bind_for(scheme).await;
    let uri = listener.uri();
    let connecting = Client::builder().config(small()).acceptor(Fixture::default());
    let (client, peer) = tokio::join!(connecting.connect(&uri), listener.accept_setup());
    (client.expect("a connection"), peer)
}

/// FRAG-01, FRAG-04, FRAG-05, FRAG-07, FRAG-12, FRAG-18, FRAG-26, H089, H093, H096, H101.
#[tokio::test]
async fn requests_in_fragments_are_served_when_they_are_whole() {
    let served = Served::start().await;
    for mut peer in each(&served).await {
        // A byte each: metadata, then data.
        peer.send(rr(1, "").metadata("m").flags(F)).await;
        peer.send_all(["e", "t"].map(|part| p(1, F | N, "").metadata(part))).await;
        peer.send(p(1, F | N, "d").metadata("a")).await;
        peer.fence().await;
        peer.send_all([p(1, F | N, "a"), p(1, F | N, "t"), p(1, N, "a")]).await;
        peer.expect(p(1, N | C, "data").metadata("meta")).await;
        // H093: whatever the last one says.
        for end in [N, 0, C, N | C] {
            peer.send_all([rr(1, "a").flags(F), p(1, F, "b"), p(1, end, "c")]).await;
            peer.expect(p(1, N | C, "abc")).await;
        }
        // H096: empty metadata, on each of them.
        peer.send_all([rr(1, "").metadata("").flags(F), p(1, N, "d").metadata("")]).await;
        peer.expect(p(1, N | C, "d").metadata("")).await;
        // FRAG-12: two at a time.
        peer.send_all([rr(1, "a").flags(F), rr(3, "x").flags(F)]).await;
        peer.send_all([p(3, F | N, "y"), p(1, N, "b"), p(3, N, "z")]).await;
        peer.expect_all([p(1, N | C, "ab"), p(3, N | C, "xyz")]).await;
        // H089: the id is in use.
        peer.send_all([rr(1, "a").flags(F), rr(1, "x"), fnf(1, "x"), p(1, N, "b")]).await;
        peer.expect(p(1, N | C, "ab")).await;
        // H101
        let runs = served.fixture.recorder.count("fnf told");
        peer.send_all([fnf(5, "to").flags(F), rr(5, "x"), p(5, N, "ld"), rr(5, "y")]).await;
        peer.expect(p(5, N | C, "y")).await;
        assert_eq!(served.fixture.recorder.count("fnf told"), runs + 1);
        peer.fence().await;
    }
    assert_eq!(served.fixture.recorder.count("fnf x"), 0);
}

/// FRAG-14, FRAG-19, RN-09, H090: what comes between fragments.
#[tokio::test]
async fn other_frames_between_fragments() {
    let served = Served::start().await;
    for mut peer in each(&served).await {
        peer.send_all([rs(1, 2, "in").flags(F), ka(R, 0, "k"), rr(3, "other")]).await;
        peer.expect_all([ka(0, 0, "k"), p(3, N | C, "other")]).await;
        peer.send_all([rn(1, 3), p(1, N, "f")]).await;
        // FRAG-19: two by the first frame, three by REQUEST_N.
        peer.expect_all(items(1, 0..5)).await;
        peer.fence().await;
        peer.send(can(1)).await;
        peer.fence().await;
    }
}

/// FRAG-15, FRAG-17, FRAG-25, FRAG-27, FNF-04, H091, H092, H095.
#[tokio::test]
async fn fragments_that_lead_nowhere() {
    let served = Served::start().await;
    for mut peer in each(&served).await {
        for given_up in [can(1), err(1, 0x201, "never mind")] {
            for first in [rr(1, "gone"), fnf(1, "gone"), rs(1, 9, "gone"), rc(1, 9, "gone")] {
                peer.send_all([first.flags(F), given_up.clone(), p(1, N, "tail")]).await;
            }
        }
        peer.send_all([p(7, F | N, "x"), p(7, N, "y"), p(8, F | N, "x"), p(0, F | N, "x")]).await;
        peer.fence().await;
        // H095: metadata behind data is refused, metadata before it is not.
        peer.send_all([rr(1, "data").flags(F), p(1, F | N, "").metadata("late")]).await;
        peer.expect_error(1, 0x204).await;
        peer.send_all([p(1, N, "rest"), rr(1, "").flags(F), p(1, N, "d").metadata("m")]).await;
        peer.expect(p(1, N | C, "d").metadata("m")).await;
        peer.fence().await;
    }
    let heard = served.fixture.recorder.lines();
    assert!(!heard.iter().any(|line| line.contains("gone") || line.contains("tail")), "{heard:?}");
}

/// FRAG-08, FRAG-09, FRAG-10, FRAG-11, H094: the items of a channel.
#[tokio::test]
async fn items_in_fragments() {
    let served = Served::start().await;
    for mut peer in each(&served).await {
        let completes = [
            [rc(1, 9, "a").flags(F | C), p(1, N, "b")],
            [rc(1, 9, "a").flags(F), p(1, N | C, "b")],
            [rc(1, 9, "a").flags(F), p(1, C, "b")],
        ];
        for frames in completes {
            peer.send_all(frames).await;
            peer.expect_last(1, "ab").await;
        }
        let ends = [
            // FRAG-08: COMPLETE ends it, whatever FOLLOWS says.
            vec![p(1, F | N | C, "a"), p(1, F | N, "late"), p(1, N, "late")],
            // FRAG-10
            vec![p(1, F | N, ""), p(1, C, "a")],
            // FRAG-07
            vec![p(1, F, ""), p(1, N | C, "a")],
        ];
        for frames in ends {
            peer.send(rc(1, 9, "one-by-one")).await;
            let got = [peer.next().await, peer.next().await];
            assert!(got.contains(&rn(1, 1)) && got.contains(&p(1, N, "one-by-one")), "{got:?}");
            peer.send_all(frames).await;
            let mut got = peer.fence_collecting().await;
            // FRAG-11: one item, one credit, which the handler may have asked for again.
            got.retain(|frame| *frame != rn(1, 1));
            let last: Vec<u8> = got.iter().flat_map(|frame| frame.data.clone()).collect();
            assert_eq!(last, b"a", "{got:?}");
            assert_eq!(got.last().map(|frame| frame.flags & C), Some(C));
        }
    }
}

/// Sees that fragments are as they should be (FRAG-03, FRAG-04, FRAG-06); the payload they make.
async fn expect_fragments(peer: &mut Peer, first: &Frame, completes: bool) -> Frame {
    let mut whole = peer.next().await;
    assert_eq!((whole.stream, whole.kind, &whole.fixed), (first.stream, first.kind, &first.fixed));
    let mut fragment = whole.clone();
    while fragment.flags & F != 0 {
        let len = fragment.encode().len();
        assert!((61..=64).contains(&len), "{len} bytes\n{}", peer.trace());
        let has_data = !whole.data.is_empty();
        fragment = peer.next().await;
        assert_eq!(fragment.stream, whole.stream, "FRAG-13\n{}", peer.trace());
        assert!(fragment.encode().len() <= 64 && fragment.flags & N != 0, "{}", peer.trace());
        assert!(fragment.flags & (F | C) != F | C, "{}", peer.trace());
        assert!(fragment.metadata.is_none() || !has_data, "{}", peer.trace());
        whole.data.extend(&fragment.data);
        if let Some(more) = &fragment.metadata {
            whole.metadata.as_mut().expect("begun in the first").extend(more);
        }
    }
    assert_eq!(fragment.flags & C != 0, completes, "{}", peer.trace());
    whole
}

/// FRAG-01, FRAG-03, FRAG-04, FRAG-06, FRAG-13, RN-08: what our server cuts.
#[tokio::test]
async fn what_a_server_cuts() {
    let served = Served::with(Server::builder().config(small())).await;
    let (metadata, data) = ("m".repeat(100), "d".repeat(100));
    for mut peer in each(&served).await {
        peer.send(rr(1, &data).metadata(&metadata)).await;
        let reply = expect_fragments(&mut peer, &p(1, N, ""), true).await;
        assert_eq!(
            (reply.metadata, reply.data),
            (Some(metadata.clone().into()), data.clone().into())
        );
        // RN-08: two items are two credits, in however many fragments.
        peer.send(rs(3, 2, "bulk")).await;
        for _ in 0..2 {
            let item = expect_fragments(&mut peer, &p(3, N, ""), false).await;
            assert_eq!(item.data.len(), 16 << 10);
        }
        peer.fence().await;
        peer.send(can(3)).await;
        peer.fence().await;
    }
}

/// The same of our client, and RC-03, FRAG-11: one credit for an item.
#[tokio::test]
async fn what_a_client_cuts() {
    for scheme in SCHEMES {
        let (client, mut peer) = small_client(scheme).await;
        let payload = Payload::new("d".repeat(1000)).with_metadata("m".repeat(200));
        let call = spawn(client.request_response(payload.clone()));
        let request = expect_fragments(&mut peer, &rr(1, ""), false).await;
        assert_eq!((request.metadata, request.data), (Some(vec![b'm'; 200]), vec![b'd'; 1000]));
        peer.send_all([p(1, F | N, "re"), p(1, N, "ply")]).await;
        assert_eq!(call.await.unwrap().unwrap().data, "reply");
        client.fire_and_forget(payload.clone()).await.unwrap();
        let told = expect_fragments(&mut peer, &fnf(3, ""), false).await;
        assert_eq!(told.data.len(), 1000);
        let replies =
            spawn(client.request_channel(stream::iter(vec![payload; 3])).credit(7).count());
        let opened = expect_fragments(&mut peer, &rc(5, 7, ""), false).await;
        assert_eq!(opened.data.len(), 1000);
        peer.fence().await;
        peer.send(rn(5, 1)).await;
        let item = expect_fragments(&mut peer, &p(5, N, ""), false).await;
        assert_eq!(item.data.len(), 1000);
        peer.fence().await;
        // FRAG-15: who cancels gives up.
        peer.send(err(5, 0x203, "enough")).await;
        assert_eq!(replies.await.unwrap(), 1);
        peer.fence().await;
    }
}

/// FRAG-16, FRAG-17, H099: a responder that gives up in mid-payload.
#[tokio::test]
async fn answers_that_end_in_the_middle() {
    for scheme in SCHEMES {
        let (client, mut peer) = connected(scheme).await;
        let call = spawn(client.request_response("q"));
        peer.expect(rr(1, "q")).await;
        peer.send_all([p(1, F | N, "part"), can(1)]).await;
        assert!(matches!(call.await.unwrap(), Err(Error::Canceled(_))));
        let items = spawn(client.request_stream("s").collect::<Vec<_>>());
        peer.expect(rs(3, 256, "s")).await;
        peer.send_all([p(3, N, "0"), p(3, F | N, "part"), err(3, 0x201, "no")]).await;
        let items = items.await.unwrap();
        assert_eq!(items, [Ok("0".into()), Err(Error::Application("no".into()))]);
        // On a channel the item is dropped, and our half ends (RC-17).
        let source = stream::iter(["a"]).chain(stream::pending());
        let items = spawn(client.request_channel(source).collect::<Vec<_>>());
        peer.expect(rc(5, 256, "a")).await;
        peer.send_all([p(5, F | N, "part"), can(5), p(5, N, "whole"), p(5, C, "")]).await;
        assert_eq!(items.await.unwrap(), [Ok("whole".into())]);
        peer.fence().await;
    }
}

/// FRAG-22, FRAG-23, FRAG-24: too much of it, towards the server.
#[tokio::test]
async fn a_server_takes_so_much_and_no_more() {
    let served = Served::with(Server::builder().config(small())).await;
    let kilobyte = "x".repeat(1 << 10);
    for mut peer in each(&served).await {
        peer.send(rr(1, &kilobyte).flags(F)).await;
        peer.send_all((0..20).map(|_| p(1, F | N, &kilobyte))).await;
        peer.expect_error(1, 0x203).await;
        peer.fence().await;
        peer.send(rr(1, "").flags(F)).await;
        peer.send_all((0..20).map(|_| p(1, F | N, ""))).await;
        peer.expect_error(1, 0x203).await;
        peer.fence().await;
        // FRAG-23: sixteen of a kilobyte, each far from its own limit.
        peer.send_all((0..17).map(|n| rr(2 * n + 1, &kilobyte).flags(F))).await;
        let refused = peer.next().await;
        assert_eq!(refused.code(), Some(0x203), "{refused}");
        peer.fence().await;
        peer.send_all((0..17).map(|n| can(2 * n + 1))).await;
        peer.fence().await;
    }
    assert_eq!(served.meter.read().open_streams, 0);
    assert!(served.meter.read().stats.refused_assemblies >= 6);
}

/// FRAG-22, FRAG-24: towards the client, which fails the call and says CANCEL.
#[tokio::test]
async fn a_client_takes_so_much_and_no_more() {
    for scheme in SCHEMES {
        let (client, mut peer) = small_client(scheme).await;
        for (id, part, count) in [(1, "x".repeat(1 << 10), 6), (3, String::new(), 20)] {
            let call = spawn(client.request_response("q"));
            peer.expect(rr(id, "q")).await;
            peer.send_all((0..count).map(|_| p(id, F | N, &part))).await;
            peer.expect(can(id)).await;
            assert!(matches!(call.await.unwrap(), Err(Error::Canceled(_))));
            peer.fence().await;
        }
    }
}

/// Whoever cannot take fragments ends the connection: with an ERROR, as rsocket-kotlin 0.20 does, or
/// without a word. The error tells what it came behind.
#[tokio::test]
async fn an_end_right_behind_a_request_in_fragments_is_told() {
    for scheme in SCHEMES {
        for (said, ends) in [(None, true), (None, false), (Some(err(0, 0x101, "no")), true)] {
            let (client, mut peer) = small_client(scheme).await;
            let answer = spawn(client.request_response("x".repeat(120)));
            peer.expect(rr(1, "x".repeat(58)).flags(F)).await;
            peer.expect_all([p(1, F | N, "x".repeat(58)), p(1, N, "xxxx")]).await;
            if let Some(said) = said {
                peer.send(said).await;
            }
            if ends {
                peer.finish().await;
            } else {
                peer.reset();
            }
            let error = answer.await.expect("no panic").expect_err("nobody answers");
            let text = error.to_string();
            let told = "right before, a request had left in 3 fragments of at most 64 bytes";
            assert!(text.ends_with(told), "{text}");
            let Error::Closed { fragmented: Some(fragmented), .. } = error else {
                panic!("{error:?}");
            };
            assert_eq!((fragmented.fragments, fragmented.frame_bytes), (3, 64));
            assert!(fragmented.is_request && fragmented.is_pending);
        }
    }
}

/// Whatever comes behind the fragments shows that the peer has taken them.
#[tokio::test]
async fn an_end_behind_what_was_taken_is_no_matter_of_fragments() {
    for scheme in SCHEMES {
        let (client, mut peer) = small_client(scheme).await;
        let answer = spawn(client.request_response("x".repeat(120)));
        peer.expect(rr(1, "x".repeat(58)).flags(F)).await;
        peer.expect_all([p(1, F | N, "x".repeat(58)), p(1, N, "xxxx")]).await;
        peer.send(p(1, N | C, "ok")).await;
        assert_eq!(answer.await.expect("no panic"), Ok("ok".into()));
        let unanswered = spawn(client.request_response("x".repeat(120)));
        peer.expect(rr(3, "x".repeat(58)).flags(F)).await;
        peer.reset();
        let error = unanswered.await.expect("no panic").expect_err("nobody answers");
        assert!(matches!(error, Error::Closed { fragmented: None, .. }), "{error:?}");
        // A request that was whole.
        let (client, mut peer) = small_client(scheme).await;
        let unanswered = spawn(client.request_response("x"));
        peer.expect(rr(1, "x")).await;
        peer.reset();
        let error = unanswered.await.expect("no panic").expect_err("nobody answers");
        assert!(matches!(error, Error::Closed { fragmented: None, .. }), "{error:?}");
        drop(client);
    }
}
