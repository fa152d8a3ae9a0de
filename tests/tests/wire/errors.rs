//! ERROR: codes and texts.

use rsock::Error;
use rsock_tests::{
    link::Served,
    script::SCHEMES,
    wire::{C, N, can, err, p, rc, rn, rr, rs},
};

use crate::{connected, each, items, spawn};

/// ERR-02, ERR-12: a text that does not fit a frame is cut, and between two characters.
#[tokio::test]
async fn a_text_of_twenty_megabytes_is_one_frame() {
    let served = Served::start().await;
    for mut peer in each(&served).await {
        peer.send(rr(1, "err-text:10000000")).await;
        let text = peer.expect_error(1, 0x201).await;
        // The largest frame has 16,777,215 bytes; an "é" has two, and none of them is halved.
        assert_eq!(text.len(), 0xff_ffff - 10 - 1);
        assert!(text.chars().all(|character| character == 'é'));
        peer.fence().await;
    }
}

/// ERR-05, ERR-08, ERR-09, RR-05: each failure has the code of what became of the request.
#[tokio::test]
async fn codes_say_what_became_of_the_request() {
    let served = Served::start().await;
    for mut peer in each(&served).await {
        for (request, code, text) in [
            ("err", 0x201, "no luck"),
            ("err-rejected", 0x202, "not now"),
            ("err-canceled", 0x203, "gave up"),
            ("err-invalid", 0x204, "makes no sense"),
            ("err-code:769", 0x301, "of our own"),
            ("err-code:4294967294", 0xffff_fffe, "of our own"),
        ] {
            peer.send(rr(1, request)).await;
            peer.expect(err(1, code, text)).await;
        }
        // ERR-05: it is the end, whatever credit there is.
        peer.send(rs(3, 9, "err-after:2")).await;
        peer.expect_all(items(3, 0..2)).await;
        peer.expect(err(3, 0x201, "no luck")).await;
        peer.send_all([rn(3, 5), can(3), p(3, N, "x"), err(3, 0x201, "x")]).await;
        // RC-23: a channel may be refused without a REQUEST_N.
        peer.send(rc(5, 9, "err")).await;
        peer.expect(err(5, 0x201, "no luck")).await;
        peer.send_all([p(5, N, "x"), p(5, C, "")]).await;
        peer.fence().await;
    }
}

/// ERR-03, ERR-06, ERR-07 of streams: the code is the peer's, the text what can be read of it.
#[tokio::test]
async fn a_stream_fails_with_the_code_it_is_given() {
    for scheme in SCHEMES {
        let (client, mut peer) = connected(scheme).await;
        for (turn, code) in [0, 0x101, 0x210, 0x301, 0x8000_0001, u32::MAX].into_iter().enumerate()
        {
            let id = 2 * turn as u32 + 1;
            let mut stream = client.request_stream("s");
            let failure = spawn(async move { futures_util::StreamExt::next(&mut stream).await });
            peer.expect(rs(id, 256, "s")).await;
            peer.send(err(id, code, [b'a', 0xff])).await;
            let Some(Err(Error::Other { code: heard, message })) = failure.await.unwrap() else {
                panic!("{code:#x} is a code like any other");
            };
            assert_eq!((heard.0, &message[..]), (code, "a\u{fffd}"));
        }
        peer.fence().await;
    }
}
