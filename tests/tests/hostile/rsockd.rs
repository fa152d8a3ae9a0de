//! The service itself: what ends a connection is one line of its log, and no more than that.

use rsock_tests::{
    process::Process,
    script::Peer,
    wire::{FIN, TEXT, hex, rr, setup, setup_of, u},
};

#[tokio::test]
async fn the_log_names_what_ended_a_connection() {
    // Each of them, and not the first few and a sum.
    let mut server = Process::rsockd_with(&["--max-warnings=100"]).await;
    let (tcp, ws) = (server.uris[0].clone(), server.uris[1].clone());
    let mut witness = Peer::established(&tcp).await;
    let rows = [
        (false, rr(1, "x").encode(), 1, "first frame"),
        (false, setup_of((2, 0), 1, 1, b"", b"").encode(), 1, "2.0"),
        (false, setup_of((1, 0), 0, 1, b"", b"").encode(), 1, "keepalive"),
        (false, setup().encode()[..15].to_vec(), 1, "SETUP ends"),
        (true, rr(0x8000_0001, "x").encode(), 0x101, "reserved bit"),
        (true, u(1, 0x20, 0).encode(), 0x101, "0x20"),
        (true, hex("00000001 1100 000004 010203"), 0x101, "metadata"),
        (true, hex("00000001 2000 0000"), 0x101, "REQUEST_N"),
    ];
    for uri in [&tcp, &ws] {
        for (established, frame, code, words) in &rows {
            let mut peer = Peer::connect(uri).await;
            if *established {
                peer.send(setup()).await;
            }
            peer.send_bytes(frame).await;
            let address = peer.address();
            let text = peer.expect_refusal(*code).await;
            assert!(text.contains(words), "{text}");
            server.log.wait_line(&[&address, &text]).await;
            witness.fence().await;
        }
    }
    for (uri, wire, words) in [
        (&tcp, hex("000003 010203"), "3 bytes"),
        (&tcp, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), ""),
    ] {
        let mut peer = Peer::connect(uri).await;
        peer.raw(wire).await;
        let address = peer.address();
        while peer.next_or_end().await.is_some() {}
        server.log.wait_line(&[&address, words]).await;
        witness.fence().await;
    }
    let mut peer = Peer::established(&ws).await;
    let address = peer.address();
    peer.message(FIN | TEXT, "hello").await;
    peer.expect_refusal(0x101).await;
    server.log.wait_line(&[&address, "text message"]).await;
    witness.fence().await;
    assert!(server.is_running());
    let log = server.log.lines();
    let panics: Vec<_> = log.iter().filter(|line| line.contains("panicked")).collect();
    assert!(panics.is_empty(), "{panics:#?}");
}
