//! Many clients at a time: those that say nothing, and those that come while certificates are exchanged.

use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use rsock::Server;
use rsock_tests::process::{Process, rsockd};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{Authority, Running, authority::Files, client, hurried, trusting, who};

/// A thousand that say nothing, or a byte now and then, hold up nobody, and are closed in time.
#[tokio::test]
async fn a_thousand_who_say_nothing_hold_up_nobody() {
    let authority = Authority::new();
    let limit = Duration::from_secs(3);
    let tls = authority.server(&["localhost"]).server();
    let builder = Server::builder().tls(tls).config(hurried(limit));
    let server = Running::start(builder, &["tls://127.0.0.1:0"]).await;
    let address = format!("127.0.0.1:{}", server.port());
    let mut crowd = JoinSet::new();
    for one in 0..1_000_u32 {
        let mut socket = TcpStream::connect(&address).await.expect("a connection");
        crowd.spawn(async move {
            // The beginning of a client's first record, a byte a second.
            let mut said = b"\x16\x03\x01\x02\x00\x01".iter().filter(|_| one % 4 == 0);
            loop {
                let gone = tokio::time::timeout(Duration::from_secs(1), socket.read_u8()).await;
                match (gone, said.next()) {
                    (Ok(_), _) => return,
                    (Err(_), Some(byte)) if socket.write_all(&[*byte]).await.is_err() => return,
                    (Err(_), _) => {}
                }
            }
        });
    }
    let began = Instant::now();
    let asking = client(trusting(&authority)).connect(&server.uri()).await.expect("served");
    assert_eq!(who(&asking).await, "tls 1.3 localhost - nobody");
    assert!(began.elapsed() < limit, "{:?}", began.elapsed());
    while crowd.join_next().await.is_some() {}
    assert_eq!(server.meter.read().tls_handshake_timeouts, 1_000);
    assert_eq!(who(&asking).await, "tls 1.3 localhost - nobody");
}

/// `rsockd` is asked for other certificates again and again, of which every third cannot be used, while two hundred
/// connect each second: none of them fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_exchanged_while_two_hundred_connect_each_second() {
    const EXCHANGES: usize = 9;
    let authority = Authority::new();
    let files = Files::new(&authority.server(&["localhost"]));
    let mut command = Command::new(rsockd());
    command.args(["--listen", "tls://localhost:0", "--tls-check-interval", "0s", "--tls-cert"]);
    command.arg(files.chain()).arg("--tls-key").arg(files.key());
    let server = Process::start(command, 1).await;
    let uri = server.uris[0].clone();
    let connected = AtomicU64::new(0);
    let connecting = async {
        let mut clock = interval(Duration::from_millis(5));
        // A slow machine gets fewer of them, and not all at once.
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut coming = JoinSet::new();
        loop {
            tokio::select! {
                _ = clock.tick(), if coming.len() < 64 => {
                    let (uri, tls) = (uri.clone(), trusting(&authority));
                    coming.spawn(async move {
                        let asking = client(tls).connect(&uri).await.expect("a connection");
                        asking.request_response("x").await.expect("an answer");
                    });
                }
                Some(came) = coming.join_next() => {
                    came.expect("none fails");
                    connected.fetch_add(1, Relaxed);
                }
            }
        }
    };
    let exchanging = async {
        for round in 1..=EXCHANGES {
            let until = connected.load(Relaxed) + 40;
            while connected.load(Relaxed) < until {
                tokio::task::yield_now().await;
            }
            let issued = authority.server(&["localhost"]);
            let told = if round % 3 == 0 {
                fs::write(files.chain(), &issued.chain).expect("a file");
                "certificates were not reloaded, those from before are kept: "
            } else {
                files.write(&issued);
                "certificates were reloaded: "
            };
            let id = server.id().to_string();
            Command::new("kill").args(["-HUP", &id]).status().await.expect("it is there");
            let times = if round % 3 == 0 { round / 3 } else { round - round / 3 };
            server.log.wait_containing_count(told, times).await;
        }
    };
    tokio::select! {
        () = exchanging => {}
        never = connecting => never,
    }
    assert!(connected.load(Relaxed) >= 40 * EXCHANGES as u64);
}
