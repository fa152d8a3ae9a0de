//! The client under test, where more is needed than a frame on an established connection.

use futures_util::{StreamExt, stream};
use rsock::{Client, CloseReason, Config, Error};
use rsock_tests::{
    script::SCHEMES,
    wire::{
        BINARY, C, CLOSE, CONTINUATION, F, FIN, MAX_N, N, PING, TEXT, can, err, fnf, hex, message,
        p, prefixed, rc, rn, rr, rs,
    },
};

use crate::{CE, Stage, Then, connected, connected_by};

/// H003, H004, H006, H010, H011: the bytes of a server that make no frames.
#[tokio::test]
async fn bytes_that_are_no_frames() {
    let mut stage = Stage::start().await;
    for (row, wire) in [("H003", "000000"), ("H004", "000003 010203")] {
        let (_client, mut peer) = connected("tcp", &stage.fixture).await;
        peer.raw(hex(wire)).await;
        stage.judge(row, peer, &CE).await;
    }
    let mut config = Config::default();
    config.max_frame_bytes = 1 << 20;
    // Lengths announced and not kept.
    for (scheme, wire) in [("tcp", "ffffff 00000002"), ("ws", "82 7f 0000000000200000 0102")] {
        let builder = Client::builder().config(config.clone());
        let (_client, mut peer) = connected_by(builder, scheme, &stage.fixture).await;
        peer.raw(hex(wire)).await;
        stage.judge("H006", peer, &CE).await;
    }
    for resets in [false, true] {
        let (client, mut peer) = connected("tcp", &stage.fixture).await;
        let call = tokio::spawn(client.request_response("q").into_future());
        peer.expect(rr(1, "q")).await;
        peer.raw(hex("000010 00000001 28a0")).await;
        if resets {
            peer.reset();
        } else {
            peer.finish().await;
            stage.judge("H010", peer, &Then::End).await;
        }
        let error = call.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Closed { .. }), "{error}");
        stage.nobody_noticed("H010, H011").await;
    }
}

/// H007, H008, H009: large, small and many.
#[tokio::test]
async fn frames_of_any_size_and_number() {
    let mut stage = Stage::start().await;
    for scheme in SCHEMES {
        let (client, mut peer) = connected(scheme, &stage.fixture).await;
        let call = tokio::spawn(client.request_response("q").into_future());
        peer.expect(rr(1, "q")).await;
        let data = vec![b'x'; 0xff_ffff - 6];
        peer.send(p(1, N | C, &data)).await;
        assert!(call.await.unwrap().unwrap().data == data);
        for byte in peer.framed(&rr(2, "bytewise").encode()) {
            peer.raw([byte]).await;
        }
        peer.expect(p(2, N | C, "bytewise")).await;
        let ids = (1..=10_000).map(|n| 2 * n);
        peer.send_all(ids.clone().map(|id| rr(id, ""))).await;
        for id in ids {
            peer.expect(p(id, N | C, "")).await;
        }
        stage.judge("H007, H008, H009", peer, &Then::Alive).await;
    }
}

/// H055, H070 to H077: answers that are none, on calls that go on.
#[tokio::test]
async fn answers_out_of_place() {
    let mut stage = Stage::start().await;
    for scheme in SCHEMES {
        let (client, mut peer) = connected(scheme, &stage.fixture).await;
        for code in 1..=4 {
            peer.send(err(0, code, "too late")).await;
        }
        let call = tokio::spawn(client.request_response("q").into_future());
        peer.expect(rr(1, "q")).await;
        peer.send_all([can(1), rn(1, 1), p(1, N, "first"), p(1, N | C, "second")]).await;
        peer.send(err(1, 0x201, "third")).await;
        assert_eq!(call.await.unwrap().unwrap().data, "first");
        client.fire_and_forget("told").await.unwrap();
        peer.expect(fnf(3, "told")).await;
        peer.send_all([p(3, N | C, "a reply"), err(3, 0x201, ""), can(3), rn(3, 1)]).await;
        let items = client.request_stream("s").credit(9).collect::<Vec<_>>();
        let items = tokio::spawn(items);
        peer.expect(rs(5, 9, "s")).await;
        peer.send_all([can(5), rn(5, 1), p(5, 0, "bare"), p(5, C, "junk"), p(5, N, "late")]).await;
        assert_eq!(items.await.unwrap(), [Ok("bare".into())]);
        let (source, replies) = (stream::iter(["a"]).chain(stream::pending()), 3);
        let items = client.request_channel(source).credit(replies).collect::<Vec<_>>();
        let items = tokio::spawn(items);
        peer.expect(rc(7, replies, "a")).await;
        peer.send_all([can(7), can(7), rn(7, 1), p(7, N, "b"), p(7, C, ""), p(7, C, "")]).await;
        peer.send(err(7, 0x201, "late")).await;
        assert_eq!(items.await.unwrap(), [Ok("b".into())]);
        stage.judge("H070 to H077", peer, &Then::Alive).await;
    }
}

/// H068, H069: more than was asked for, by the hundred thousand where there is time.
#[tokio::test]
async fn items_beyond_the_credit() {
    let mut stage = Stage::start().await;
    let many = crate::many(5_000, 100_000);
    for scheme in SCHEMES {
        let (client, mut peer) = connected(scheme, &stage.fixture).await;
        let items = tokio::spawn(client.request_stream("s").credit(1).collect::<Vec<_>>());
        peer.expect(rs(1, 1, "s")).await;
        let got = peer.blast((0..many).map(|_| p(1, N, "x"))).await;
        assert_eq!((got.count("CAN"), got.total()), (1, 1), "{got:?}");
        assert!(matches!(items.await.unwrap().last(), Some(Err(Error::Canceled(_)))));
        // The same towards its responder.
        peer.send(rc(2, 1, "sink:1")).await;
        peer.expect(rn(2, 1)).await;
        let got = peer.blast((0..many).map(|_| p(2, N, "x"))).await;
        assert_eq!((got.count("ERR 0x203"), got.total()), (1, 1), "{got:?}");
        stage.judge("H068, H069", peer, &Then::Alive).await;
    }
}

/// H078: what the caller gives up crosses what the server says of it.
#[tokio::test]
async fn calls_given_up_while_they_are_answered() {
    let mut stage = Stage::start().await;
    for scheme in SCHEMES {
        let (client, mut peer) = connected(scheme, &stage.fixture).await;
        for n in 0..200 {
            let call = tokio::spawn(client.request_response("q").into_future());
            let id = 2 * n + 1;
            // The CANCEL of the call before may come first.
            let mut asked = peer.next().await;
            if asked == can(id.max(3) - 2) {
                asked = peer.next().await;
            }
            assert_eq!(asked, rr(id, "q"));
            let (answered_first, answers) =
                (n % 2 == 0, [p(id, N | C, "a"), err(id, 0x201, "b"), p(id, C, "")]);
            if answered_first {
                peer.send_all(answers).await;
                call.abort();
            } else {
                call.abort();
                peer.send_all(answers).await;
            }
            // What became of it depends on who was first, but it is over.
            let _ = call.await;
        }
        let got = peer.fence_collecting().await;
        assert!(got.iter().all(|frame| *frame == can(frame.stream)), "{got:?}");
        assert!(got.len() <= 200);
        stage.judge("H078", peer, &Then::Alive).await;
    }
}

/// H127 `[c]`: of a text of sixteen megabytes the first KiB is told; one that is none is a text.
#[tokio::test]
async fn error_texts_of_any_kind() {
    let mut stage = Stage::start().await;
    for scheme in SCHEMES {
        let (client, mut peer) = connected(scheme, &stage.fixture).await;
        let large = "é".repeat(0x7f_fff0);
        let kept = "é".repeat(512) + "…";
        for (id, text, heard) in
            [(1, large.as_bytes(), &kept[..]), (3, &b"\xff\0\x1b[31m"[..], "\u{fffd}\0\u{1b}[31m")]
        {
            let call = tokio::spawn(client.request_response("q").into_future());
            peer.expect(rr(id, "q")).await;
            peer.send(err(id, 0x201, text)).await;
            assert!(call.await.unwrap() == Err(Error::Application(heard.into())));
        }
        stage.judge("H127", peer, &Then::Alive).await;
        // The words with which a server ends it are in the log, without what would act on a terminal.
        let (client, mut peer) = connected(scheme, &stage.fixture).await;
        peer.send(err(0, 0x101, "\u{1b}[31mred by a server")).await;
        assert!(matches!(client.closed().await, CloseReason::Error { .. }));
        let line = stage.log.wait_line(&[&peer.address(), "red by a server"]).await;
        assert!(!line.contains('\u{1b}'), "{line:?}");
        stage.judge("H127", peer, &Then::End).await;
    }
}

/// H128: a server that says it will close, and does not.
#[tokio::test]
async fn a_server_that_never_closes() {
    let mut stage = Stage::start().await;
    for scheme in SCHEMES {
        let (client, mut peer) = connected(scheme, &stage.fixture).await;
        let call = tokio::spawn(client.request_response("q").into_future());
        peer.expect(rr(1, "q")).await;
        peer.send_all([err(0, 0x102, "going"), rr(2, "new"), fnf(4, "new"), rs(6, MAX_N, "inf")])
            .await;
        peer.expect_error(2, 0x202).await;
        peer.expect_error(6, 0x202).await;
        assert!(client.request_response("new").await.is_err());
        // It is the caller who does not wait for ever.
        call.abort();
        peer.expect(can(1)).await;
        stage.judge("H128", peer, &Then::End).await;
        assert!(matches!(client.closed().await, CloseReason::Finished(_)));
    }
    assert_eq!(stage.fixture.recorder.count("fnf new"), 0);
}

/// H140 to H145: messages that a server may not send, and some that it may.
#[tokio::test]
async fn websocket_frames() {
    let mut stage = Stage::start().await;
    let request = rr(2, "x").encode();
    let prefixed = prefixed(&request);
    for (row, wire, code) in [
        ("H140 text", message(FIN | TEXT, None, b"hello"), 1003),
        ("H140 empty", message(FIN | BINARY, None, b""), 1000),
        ("H140 short", message(FIN | BINARY, None, b"12345"), 1000),
        ("H144", message(FIN | BINARY, None, &prefixed), 1000),
        ("H145 masked", message(FIN | BINARY, Some([1, 2, 3, 4]), &request), 1002),
        ("H145 reserved", message(FIN | 0x40 | BINARY, None, &request), 1002),
        ("H145 opcode", message(FIN | 0x3, None, &request), 1002),
        ("continuation of nothing", message(FIN | CONTINUATION, None, b"x"), 1002),
        ("long ping", message(FIN | PING, None, &[0; 126]), 1002),
    ] {
        let (_client, mut peer) = connected("ws", &stage.fixture).await;
        peer.raw(&wire).await;
        assert_eq!(peer.next().await.code(), Some(0x101), "{row}");
        peer.expect_end().await;
        assert_eq!(peer.close_code, Some(code), "{row}");
        stage.nobody_noticed(row).await;
    }
    // H141
    let (_client, mut peer) = connected("ws", &stage.fixture).await;
    let request = rr(2, "y".repeat(1000)).encode();
    for (index, byte) in request.iter().enumerate() {
        let first = if index == 0 { BINARY } else { CONTINUATION };
        let last = if index + 1 == request.len() { FIN } else { 0 };
        peer.message(first | last, [*byte]).await;
        if index % 100 == 50 {
            peer.message(FIN | PING, index.to_string()).await;
        }
    }
    peer.expect(p(2, N | C, "y".repeat(1000))).await;
    assert_eq!(peer.pongs.len(), 10);
    peer.message(FIN | CLOSE, 1001_u16.to_be_bytes()).await;
    peer.expect_end().await;
    assert_eq!(peer.close_code, Some(1001));
    // H142
    let mut config = Config::default();
    config.max_frame_bytes = 64 << 10;
    let builder = Client::builder().config(config);
    let (_client, mut peer) = connected_by(builder, "ws", &stage.fixture).await;
    peer.message(BINARY, [0; 1024]).await;
    for _ in 0..64 {
        peer.message(CONTINUATION, [0; 1024]).await;
    }
    stage.judge("H142", peer, &CE).await;
}

/// H099 by the socket, and H100: a call whose answer never ends fails with its connection.
#[tokio::test]
async fn answers_in_fragments_without_an_end() {
    let mut stage = Stage::start().await;
    for scheme in SCHEMES {
        let (client, mut peer) = connected(scheme, &stage.fixture).await;
        let calls = [1, 3].map(|_| tokio::spawn(client.request_response("q").into_future()));
        peer.expect_all([rr(1, "q"), rr(3, "q")]).await;
        peer.send_all([p(1, F | N, "part"), p(3, F | N, "part"), can(1)]).await;
        let [given_up, lost] = calls;
        assert!(matches!(given_up.await.unwrap(), Err(Error::Canceled(_))));
        peer.fence().await;
        peer.finish().await;
        assert!(matches!(lost.await.unwrap(), Err(Error::Closed { .. })));
        stage.judge("H099, H100", peer, &Then::End).await;
    }
}
