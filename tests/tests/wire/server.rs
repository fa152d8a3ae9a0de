//! The server under test: `[s]`, and `[b]` from its side.

use rsock_tests::{
    link::Served,
    script::Peer,
    wire::{C, Frame, I, M, MAX_N, N, R, can, err, ext, fnf, ka, mp, p, rc, rn, rr, rs},
};

async fn each(served: &Served) -> Vec<Peer> {
    let mut peers = Vec::new();
    for uri in &served.uris {
        peers.push(Peer::established(uri).await);
    }
    peers
}

fn items(stream: u32, range: std::ops::Range<usize>) -> impl Iterator<Item = Frame> {
    range.map(move |n| p(stream, N, n.to_string()))
}

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

/// RS-04, RS-05, RS-06, RS-07, RR-05, ERR-10: how streams end.
#[tokio::test]
async fn ends_need_no_credit() {
    let served = Served::start().await;
    for mut peer in each(&served).await {
        peer.send(rs(1, 3, "count:3")).await;
        peer.expect_all(items(1, 0..2)).await;
        peer.expect_last(1, "2").await;
        // A stream that knows its length completes on its last item.
        peer.send(rs(3, 3, "sized:3")).await;
        peer.expect_all(items(3, 0..2)).await;
        peer.expect(p(3, N | C, "2")).await;
        peer.send(rs(5, 1, "empty")).await;
        peer.expect(p(5, C, "")).await;
        peer.send(rs(7, 9, "err-after:2")).await;
        peer.expect_all(items(7, 0..2)).await;
        peer.expect(err(7, 0x201, "no luck")).await;
        peer.send(rs(9, 1, "err-after:1")).await;
        peer.expect_all(items(9, 0..1)).await;
        peer.expect(err(9, 0x201, "no luck")).await;
        peer.send(rr(11, "err")).await;
        peer.expect(err(11, 0x201, "no luck")).await;
        // RS-17: ids that have ended are free.
        peer.send(rs(1, 1, "count:1")).await;
        peer.expect_last(1, "0").await;
        peer.fence().await;
    }
}

/// FRAME-09, RR-02, RR-13, PAY-02: absent, empty and present metadata are three things.
#[tokio::test]
async fn metadata_and_data_come_back_as_they_were() {
    let served = Served::start().await;
    for mut peer in each(&served).await {
        for metadata in [None, Some(""), Some("m")] {
            for data in ["", "d"] {
                let with = |frame: Frame| match metadata {
                    Some(metadata) => frame.metadata(metadata),
                    None => frame,
                };
                peer.send(with(rr(1, data))).await;
                peer.expect(with(p(1, N | C, data))).await;
                peer.send(with(rs(1, 1, data))).await;
                let got = peer.next().await;
                assert_eq!(got.metadata.as_deref(), metadata.map(str::as_bytes));
                assert_eq!(got.data, data.as_bytes());
                if got.flags & C == 0 {
                    peer.expect(p(1, C, "")).await;
                }
            }
        }
        peer.send(fnf(5, "told").metadata("m")).await;
        served.fixture.recorder.wait("fnf told").await;
        peer.fence().await;
    }
}

/// FRAME-07, FRAME-12, FRAME-15, FRAME-17: what is not defined is not looked at.
#[tokio::test]
async fn undefined_flags_and_surplus_bytes_mean_nothing() {
    let served = Served::start().await;
    for mut peer in each(&served).await {
        peer.send(rr(1, "d").flags(0x07f)).await;
        peer.expect(p(1, N | C, "d")).await;
        peer.send(rr(1, "d").flags(I)).await;
        peer.expect(p(1, N | C, "d")).await;
        peer.send(ka(R | M, 0, "\0\0\x02abc")).await;
        peer.expect(ka(0, 0, "\0\0\x02abc")).await;
        peer.send(rs(1, 1, "inf")).await;
        peer.expect(p(1, N, "0")).await;
        peer.send(rn(1, 2).data([0, 0, 0, 9])).await;
        peer.expect_all(items(1, 1..3)).await;
        peer.fence().await;
        peer.send(can(1).flags(0x1ff).data("why")).await;
        peer.fence().await;
    }
    served.fixture.recorder.wait_count("dropped inf", 2).await;
}

/// FNF-01, FNF-02, FNF-05: never an answer.
#[tokio::test]
async fn fire_and_forget_is_never_answered() {
    let served = Served::start().await;
    for mut peer in each(&served).await {
        peer.send_all([fnf(1, "one"), can(1), rn(1, 1), p(1, N, "x"), err(1, 0x201, "")]).await;
        peer.send_all([rr(3, "never"), fnf(3, "on a live id"), fnf(1, "two")]).await;
        peer.fence().await;
        peer.send(can(3)).await;
        peer.fence().await;
    }
    let heard = &served.fixture.recorder;
    assert_eq!(heard.count("fnf one"), 2);
    assert_eq!(heard.count("fnf two"), 2);
    assert_eq!(heard.count("fnf on a live id"), 0);
}

/// RR-08, RR-09, RR-11, RR-14, FRAME-21.
#[tokio::test]
async fn requests_are_independent() {
    let served = Served::start().await;
    for mut peer in each(&served).await {
        peer.send(rr(1, "never")).await;
        peer.send_all([rn(1, 1), p(1, N, "x"), err(1, 0x201, ""), rr(1, "echo")]).await;
        peer.send(rr(3, "echo")).await;
        peer.expect(p(3, N | C, "echo")).await;
        peer.send(can(3)).await;
        peer.fence().await;
        let runs = served.fixture.recorder.count("dropped never");
        peer.send(can(1)).await;
        served.fixture.recorder.wait_count("dropped never", runs + 1).await;
        peer.fence().await;
    }
}

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

/// KA-04, KA-05, KA-06, KA-12, KA-14.
#[tokio::test]
async fn keepalive_is_echoed_to_the_letter() {
    let served = Served::start().await;
    for mut peer in each(&served).await {
        let all: Vec<u8> = (0..=255).collect();
        for data in [all, Vec::new(), vec![7; 64 << 10]] {
            peer.send(ka(R, 12_345, &data)).await;
            peer.expect(ka(0, 0, &data)).await;
        }
        peer.send(ka(R, u64::MAX, "top")).await;
        peer.expect(ka(0, 0, "top")).await;
        peer.send_all([ka(0, 0, "not asked"), ka(R, 0, "stray").on(1)]).await;
        peer.fence().await;
    }
}

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
