//! Request/stream.

use futures_util::StreamExt;
use rsock_tests::{
    link::Served,
    script::SCHEMES,
    wire::{C, F, N, err, p, rr, rs},
};

use crate::{connected, each, items, spawn};

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

/// PAY-03, PAY-04, PAY-05, H070, H071: how items and ends may look.
#[tokio::test]
async fn items_and_ends_in_every_form() {
    for scheme in SCHEMES {
        let (client, mut peer) = connected(scheme).await;
        for (id, end, last) in [(1, p(1, N | C, "z"), true), (3, p(3, C, "junk"), false)] {
            let items = spawn(client.request_stream("s").collect::<Vec<_>>());
            peer.expect(rs(id, 256, "s")).await;
            peer.send_all([p(id, N, ""), p(id, 0, "bare"), end]).await;
            let items = items.await.unwrap();
            let items: Vec<_> = items.into_iter().map(|item| item.unwrap().data).collect();
            let expected: &[&str] = if last { &["", "bare", "z"] } else { &["", "bare"] };
            assert_eq!(items, expected);
        }
        // RR-04: the first reply is the last, but its fragments are one reply.
        let call = spawn(client.request_response("q"));
        peer.expect(rr(5, "q")).await;
        peer.send_all([p(5, F | N, "part"), p(5, N, "rest"), p(5, N, "more")]).await;
        assert_eq!(call.await.unwrap().unwrap().data, "partrest");
        peer.fence().await;
    }
}
