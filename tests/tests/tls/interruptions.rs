//! Connections with TLS that are cut, stall, or come in pieces.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use rsock::{
    Client, Meter, PayloadExt, Reconnect, Request, Resume, ResumeLimits, Router, Server,
    request_stream,
};
use rsock_tests::{
    cutter::Cutter,
    wire::{C, rr, setup},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{Authority, Running, client, next, raw, send, trusting};

/// Relays both ways in pieces of so many bytes, each in a packet of its own as far as the system lets it.
async fn in_pieces(target: String, bytes: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(&target).await.expect("a connection");
            for socket in [&near, &far] {
                socket.set_nodelay(true).expect("a TCP socket");
            }
            let (near_in, near_out) = near.into_split();
            let (far_in, far_out) = far.into_split();
            for (mut from, mut to) in [(near_in, far_out), (far_in, near_out)] {
                tokio::spawn(async move {
                    let mut piece = vec![0; bytes];
                    while let Ok(read @ 1..) = from.read(&mut piece).await {
                        if to.write_all(&piece[..read]).await.is_err() {
                            return;
                        }
                        tokio::task::yield_now().await;
                    }
                });
            }
        }
    });
    format!("tls://localhost:{}", address.port())
}

#[tokio::test]
async fn records_may_come_in_pieces_of_any_size() {
    let authority = Authority::new();
    let server = Running::of(authority.server(&["localhost"]).server()).await;
    for bytes in (1..24).chain([100, 1_000, 4_096, 16_384]) {
        let uri = in_pieces(format!("127.0.0.1:{}", server.port()), bytes).await;
        let asking = client(trusting(&authority)).connect(&uri).await.expect("a connection");
        let data = vec![b'x'; if bytes < 24 { 700 } else { 200_000 }];
        let answer = asking.request_response(data.clone()).await.expect("an answer");
        assert!(answer.data == data, "{bytes}");
    }
}

/// A session goes on after its connection was cut, wherever that was, and nothing is lost or twice there.
#[tokio::test]
async fn a_session_outlives_what_is_cut_without_a_farewell() {
    let authority = Authority::new();
    let numbers = request_stream(|_, _: Request| {
        futures_util::stream::iter((0..400_u32).map(|n| Bytes::from(format!("{n:0200}"))))
    });
    let tls = authority.server(&["localhost"]).server();
    let builder = Server::builder().tls(tls).resume(ResumeLimits::default(), 10);
    let server = builder.bind(&["tls://127.0.0.1:0"]).await.expect("a free port");
    let uri = server.addresses()[0].clone();
    let app = Router::new(()).route("numbers", numbers).default_route("numbers");
    let serving = tokio::spawn(async move { server.serve(app).await });
    // Within handshakes, within records, and between them.
    let cutter = Cutter::start(&uri, (0..12).map(|cut| 4_000 + cut * 4_999)).await;
    let uri = cutter.uri().replacen("127.0.0.1", "localhost", 1);
    let asking = Client::builder()
        .tls(trusting(&authority))
        .resume(Resume::new())
        .reconnect(Reconnect::new());
    let asking = asking.connect(&uri).await.expect("a connection");
    let asked = rsock::Payload::default().route("numbers").expect("a name");
    let items: Vec<_> = asking.request_stream(asked).try_collect().await.expect("all of them");
    let expected: Vec<_> = (0..400_u32).map(|n| format!("{n:0200}")).collect();
    let got: Vec<_> = items.iter().map(|item| String::from_utf8_lossy(&item.data)).collect();
    assert!(got == expected, "{} of {}", got.len(), expected.len());
    assert!(cutter.cuts() >= 5, "{}", cutter.cuts());
    serving.abort();
}

/// The rest of what a socket does not take at once leaves when it does, though nothing new is written.
#[tokio::test]
async fn what_waits_encrypted_leaves_without_more_to_write() {
    let authority = Authority::new();
    let meter = Arc::new(Meter::default());
    let tls = authority.server(&["localhost"]).server();
    let builder = Server::builder().tls(tls).meter(Arc::clone(&meter));
    let server = Running::start(builder, &["tls://127.0.0.1:0"]).await;
    let mut peer = raw(&authority, None, &server.uris[0]).await;
    send(&mut peer, &setup()).await;
    let long = vec![b'x'; 4 << 20];
    // Nothing of the answer is read before all of it has been asked for.
    for stream in [1, 3, 5] {
        send(&mut peer, &rr(stream, &long[..(10 << 20) / 4])).await;
    }
    let mut left: std::collections::BTreeMap<u32, usize> = [(1, 0), (3, 0), (5, 0)].into();
    while !left.is_empty() {
        let frame = next(&mut peer).await;
        let stream = frame.header().stream;
        *left.get_mut(&stream).expect("one of them") += frame.data.len();
        if frame.has(C) {
            assert_eq!(left.remove(&stream), Some((10 << 20) / 4));
        }
    }
}

/// With a runtime for each core, a session's next transport may be another's: the socket below TLS moves.
#[test]
fn a_session_is_taken_up_on_whichever_runtime() {
    use rsock::Runtimes;
    use rsock_tests::wire::{N, p, resume, setup_resumable};

    let start = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().expect("a runtime")
    };
    let (ours, theirs) = (start(), [start(), start()]);
    let runtimes = Runtimes::new(theirs.each_ref().map(|runtime| runtime.handle().clone()));
    ours.block_on(async {
        let authority = Authority::new();
        let tls = authority.server(&["localhost"]).server();
        let builder = Server::builder().tls(tls).runtimes(runtimes);
        let builder = builder.resume(ResumeLimits::default(), 10);
        let server = Running::start(builder, &["tls://127.0.0.1:0"]).await;
        let token = b"0123456789abcdef";
        let mut peer = raw(&authority, None, &server.uris[0]).await;
        send(&mut peer, &setup_resumable(token)).await;
        send(&mut peer, &rr(1, "x")).await;
        assert_eq!(next(&mut peer).await, p(1, N | C, "x"));
        for _ in 0..12 {
            let mut other = raw(&authority, None, &server.uris[0]).await;
            send(&mut other, &resume(token)).await;
            assert!(next(&mut other).await.to_string().starts_with("RESUME_OK"));
            // The answer of the beginning comes again: this peer has forgotten it.
            assert_eq!(next(&mut other).await, p(1, N | C, "x"));
            peer = other;
        }
        drop(peer);
    });
    for runtime in theirs {
        runtime.shutdown_background();
    }
}
