//! Request/response and fire-and-forget.

use futures_util::StreamExt;
use rsock::{Error, ErrorCode};
use rsock_tests::{
    link::Served,
    script::SCHEMES,
    wire::{C, Frame, N, can, err, fnf, p, rn, rr, rs},
};

use crate::{connected, each, spawn};

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

/// RR-02, RR-03, RR-06, RR-12, ERR-03, ERR-06, ERR-07, H074, H076, H077, H125.
#[tokio::test]
async fn every_kind_of_reply() {
    for scheme in SCHEMES {
        let (client, mut peer) = connected(scheme).await;
        let mut id = 1;
        let mut ask = async |frames: Vec<Frame>| {
            let call = spawn(client.request_response("q").optional());
            peer.expect(rr(id, "q")).await;
            peer.send_all(frames.into_iter().map(|frame| frame.on(id))).await;
            id += 2;
            call.await.unwrap()
        };
        let value = |reply: Result<Option<rsock::Payload>, Error>| reply.unwrap().unwrap().data;
        assert_eq!(value(ask(vec![p(1, N | C, "both")]).await), "both");
        assert_eq!(value(ask(vec![p(1, N, "a"), p(1, N, "b")]).await), "a");
        assert_eq!(value(ask(vec![p(1, 0, "bare"), p(1, C, "")]).await), "bare");
        assert_eq!(value(ask(vec![p(1, N | C, "")]).await), "");
        assert_eq!(ask(vec![p(1, C, "junk")]).await, Ok(None));
        let first_wins = vec![p(1, N | C, "a"), p(1, N | C, "b"), err(1, 0x201, "x")];
        assert_eq!(value(ask(first_wins).await), "a");
        let out_of_place = vec![can(1), rn(1, 5), p(1, N | C, "still")];
        assert_eq!(value(ask(out_of_place).await), "still");
        let mut failure = async |frame| ask(vec![frame]).await.unwrap_err();
        assert_eq!(failure(err(1, 0x201, "x")).await, Error::Application("x".into()));
        assert_eq!(failure(err(1, 0x202, "x")).await, Error::Rejected("x".into()));
        assert_eq!(failure(err(1, 0x203, "")).await, Error::Canceled("".into()));
        assert_eq!(failure(err(1, 0x204, "x")).await, Error::Invalid("x".into()));
        for code in [0, 0x101, 0x210, 0x301, 0x8000_0001, 0xffff_fffe, u32::MAX] {
            let expected =
                Error::Other { code: ErrorCode(code), message: "\u{fffd}\u{fffd}".into() };
            assert_eq!(failure(err(1, code, [0xff, 0xfe])).await, expected);
        }
        client.fire_and_forget("f").await.unwrap();
        let id = peer.next().await.stream;
        peer.send_all([p(id, N | C, "no"), err(id, 0x201, "")]).await;
        peer.fence().await;
    }
}

/// RR-07, CAN-03: dropped calls say so at once, and what comes later is dropped.
#[tokio::test]
async fn a_dropped_call_cancels() {
    for scheme in SCHEMES {
        let (client, mut peer) = connected(scheme).await;
        let call = spawn(client.request_response("q"));
        peer.expect(rr(1, "q")).await;
        call.abort();
        peer.expect(can(1)).await;
        peer.send(p(1, N | C, "late")).await;
        peer.fence().await;
        let mut items = client.request_stream("s").credit(4);
        let first = spawn(async move { (items.next().await, items) });
        peer.expect(rs(3, 4, "s")).await;
        peer.send(p(3, N, "0")).await;
        let (item, items) = first.await.unwrap();
        assert_eq!(item.unwrap().unwrap().data, "0");
        drop(items);
        peer.expect(can(3)).await;
        peer.send_all([p(3, N, "1"), err(3, 0x201, "")]).await;
        peer.fence().await;
    }
}
