//! Certificates that are exchanged while a server runs.

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use rsock::{Server, tls::TlsErrorKind};

use crate::{Authority, Running, authority::Files, client, refusal, trusting, who};

#[tokio::test]
async fn others_are_shown_from_then_on_and_connections_stay() {
    let (before, after) = (Authority::new(), Authority::new());
    let files = Files::new(&before.server(&["localhost"]));
    let tls = files.server();
    let reloader = tls.reloader();
    assert!(reloader.certificates().is_empty());
    let server = Running::of(tls).await;
    let kept = client(trusting(&before)).connect(&server.uri()).await.expect("a connection");
    assert!(reloader.reload_if_changed().expect("they can be read").is_none());

    files.write(&after.server(&["localhost", "other.example"]));
    let reloaded = reloader.reload_if_changed().expect("they belong together").expect("others");
    assert_eq!(reloaded.certificates()[0].names(), ["localhost", "other.example"]);
    assert!(reloaded.certificates()[0].seconds_left() > 0);
    assert_eq!(reloaded.certificates()[0].path(), Some(&*files.chain()));
    let asking = client(trusting(&after)).connect(&server.uri()).await.expect("a connection");
    assert_eq!(who(&asking).await, "tls 1.3 localhost - nobody");
    let (kind, _) = refusal(trusting(&before), &server.uri()).await;
    assert_eq!(kind, TlsErrorKind::UnknownIssuer);
    assert_eq!(who(&kept).await, "tls 1.3 localhost - nobody");
}

#[tokio::test]
async fn what_cannot_be_used_changes_nothing_and_is_named_once() {
    let authority = Authority::new();
    let files = Files::new(&authority.server(&["localhost"]));
    let tls = files.server();
    let reloader = tls.reloader();
    let server = Running::of(tls).await;
    let is_served = async || client(trusting(&authority)).connect(&server.uri()).await.is_ok();

    // Between the two files, as somebody finds them who comes while they are written.
    fs::write(files.chain(), authority.server(&["localhost"]).chain).expect("a file");
    let error = reloader.reload_if_changed().expect_err("they do not belong together");
    assert_eq!(error.place(), files.key().display().to_string());
    assert!(error.problem().contains("does not belong to the first certificate"), "{error}");
    assert!(is_served().await);
    assert!(reloader.reload_if_changed().expect("the same").is_none());
    reloader.reload().expect_err("whoever asks is told");

    files.write(&authority.expired(&["localhost"]));
    let error = reloader.reload_if_changed().expect_err("it has expired");
    assert!(error.to_string().ends_with("cert.pem: it is not valid any more"), "{error}");
    assert!(is_served().await);

    fs::remove_file(files.key()).expect("it is there");
    let error = reloader.reload_if_changed().expect_err("there is none");
    assert!(error.to_string().contains("key.pem: it cannot be read"), "{error}");
    assert!(is_served().await);
}

/// As Kubernetes does it: a link to a folder is exchanged for a link to another.
#[cfg(unix)]
#[tokio::test]
async fn a_link_that_is_exchanged_is_followed() {
    use std::os::unix::fs::symlink;

    use rsock::tls::ServerTls;

    let authority = Authority::new();
    let (first, second) = (
        Files::new(&authority.server(&["a.example"])),
        Files::new(&authority.server(&["b.example"])),
    );
    let (current, next) = (first.folder().join("current"), first.folder().join("next"));
    symlink(first.folder(), &current).expect("a link");
    let tls = ServerTls::new(current.join("cert.pem"), current.join("key.pem"));
    let reloader = tls.reloader();
    let _server = Running::of(tls).await;
    symlink(second.folder(), &next).expect("a link");
    fs::rename(&next, &current).expect("in its place");
    let reloaded = reloader.reload_if_changed().expect("they can be used").expect("others");
    assert_eq!(reloaded.certificates()[0].names(), ["b.example"]);
}

#[cfg(unix)]
#[tokio::test]
async fn keys_that_others_can_read_are_told() {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt};

    let files = Files::new(&Authority::new().server(&["localhost"]));
    let reloader = files.server().reloader();
    for (mode, is_told) in [(0o600, false), (0o640, false), (0o644, true)] {
        fs::set_permissions(files.key(), Permissions::from_mode(mode)).expect("it is ours");
        assert_eq!(!reloader.exposed_keys().is_empty(), is_told, "{mode:o}");
    }
}

/// Clients connect all the time while certificates are exchanged, of which every other cannot be used.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_while_many_connect() {
    let authority = Authority::new();
    let files = Files::new(&authority.server(&["localhost"]));
    let tls = files.server();
    let reloader = tls.reloader();
    let builder = Server::builder().tls(tls);
    let server = Running::start(builder, &["tls://127.0.0.1:0"]).await;
    let (is_over, connected) = (AtomicBool::new(false), AtomicU64::new(0));
    let connecting = async || {
        while !is_over.load(Relaxed) {
            let asking = client(trusting(&authority)).connect(&server.uri()).await;
            assert_eq!(who(&asking.expect("a connection")).await, "tls 1.3 localhost - nobody");
            connected.fetch_add(1, Relaxed);
        }
    };
    let exchanging = async {
        let mut taken = 0;
        for round in 0..20 {
            let issued = authority.server(&["localhost"]);
            if round % 2 == 0 {
                files.write(&issued);
                reloader.reload_if_changed().expect("they belong together").expect("others");
                taken += 1;
            } else {
                fs::write(files.chain(), issued.chain).expect("a file");
                reloader.reload_if_changed().expect_err("they do not");
            }
            let until = connected.load(Relaxed) + 5;
            while connected.load(Relaxed) < until {
                tokio::task::yield_now().await;
            }
        }
        is_over.store(true, Relaxed);
        taken
    };
    let (taken, ..) =
        tokio::join!(exchanging, connecting(), connecting(), connecting(), connecting());
    assert_eq!(taken, 10);
    assert_eq!(server.meter.read().failed_tls_handshakes, 0);
}
