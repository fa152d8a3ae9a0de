//! The handshake: the server that a client takes, and the words in which it refuses another.

use std::sync::Arc;

use rsock::{
    Client, ConnectError, Server,
    tls::{ClientTls, Roots, ServerTls, TlsErrorKind, TlsVersion, rustls},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    process::Command,
};

use crate::{Authority, Running, client, hurried, raw, refusal, trusting, who};

#[tokio::test]
async fn a_client_that_trusts_the_authority_is_served() {
    let authority = Authority::new();
    let server = Running::of(authority.server(&["localhost", "127.0.0.1"]).server()).await;
    let asking = client(trusting(&authority)).connect(&server.uri()).await.expect("a connection");
    assert_eq!(who(&asking).await, "tls 1.3 localhost - nobody");
    // What an address is asked for has no name, and is found in the certificate all the same.
    for scheme in ["tls", "tcp+tls", "TCPS"] {
        let uri = format!("{scheme}://127.0.0.1:{}", server.port());
        let asking = client(trusting(&authority)).connect(&uri).await.expect("a connection");
        assert_eq!(who(&asking).await, "tls 1.3 - - nobody");
    }
    assert_eq!(server.meter.read().tls_handshakes, 4);
}

#[tokio::test]
async fn both_kinds_of_cryptography_speak_to_each_other() {
    let (aws, ring) =
        (rustls::crypto::aws_lc_rs::default_provider(), rustls::crypto::ring::default_provider());
    let providers = [Arc::new(aws), Arc::new(ring)];
    let authority = Authority::new();
    for serving in &providers {
        let tls = authority.server(&["localhost"]).server().provider(Arc::clone(serving));
        let server = Running::of(tls).await;
        for asking in &providers {
            for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
                let tls = trusting(&authority).provider(Arc::clone(asking)).min_version(version);
                let asking = client(tls).connect(&server.uri()).await.expect("a connection");
                assert_eq!(who(&asking).await, "tls 1.3 localhost - nobody");
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_trusted_is_told_with_what_to_do() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = Running::of(authority.server(&["a.example", "b.example"]).server()).await;
    let uri = server.uri();

    let (kind, text) = refusal(trusting(&other), &uri).await;
    assert_eq!(kind, TlsErrorKind::UnknownIssuer);
    assert!(kind.is_certificate() && text.contains("rsock --ca FILE"), "{text}");
    assert!(text.starts_with(&format!("localhost:{}: ", server.port())), "{text}");

    let (kind, text) = refusal(trusting(&authority), &uri).await;
    assert!(matches!(kind, TlsErrorKind::NameMismatch { .. }), "{kind:?}");
    let expected = "the server's certificate is not for localhost but for a.example, b.example; if \
                    that is the server you mean, ask for that name (ClientTls::server_name, rsock \
                    --sni a.example)";
    assert!(text.ends_with(expected), "{text}");
    let named = trusting(&authority).server_name("b.example");
    let asking = client(named).connect(&uri).await.expect("a connection");
    assert_eq!(who(&asking).await, "tls 1.3 b.example - nobody");

    let expired = Running::of(authority.expired(&["localhost"]).server()).await;
    let (kind, text) = refusal(trusting(&authority), &expired.uri()).await;
    assert!(kind == TlsErrorKind::Expired && text.contains("has to be renewed"), "{text}");
    // Whoever does not look is warned and served.
    let blind = client(ClientTls::new().roots(Roots::Insecure));
    let asking = blind.connect(&expired.uri()).await.expect("a connection");
    assert_eq!(who(&asking).await, "tls 1.3 localhost - nobody");
    assert_eq!(expired.meter.read().failed_tls_handshakes, 1);
}

#[tokio::test]
async fn each_name_has_its_certificate() {
    let authority = Authority::new();
    let first = authority.server(&["a.example"]);
    let (chain, key) = authority.server(&["b.example", "*.c.example"]).pair();
    let server = Running::of(first.server().also(chain, key)).await;
    for (name, is_right) in [
        ("a.example", true),
        ("b.example", true),
        ("x.c.example", true),
        ("B.EXAMPLE", true),
        ("c.example", false),
        ("x.y.c.example", false),
        ("d.example", false),
    ] {
        let tls = trusting(&authority).server_name(name);
        let outcome = client(tls).connect(&server.uri()).await;
        assert_eq!(outcome.is_ok(), is_right, "{name}");
    }
    // Who asks for no name, or for one that there is not, sees the first.
    let (kind, _) = refusal(trusting(&authority), &server.uris[0]).await;
    let TlsErrorKind::NameMismatch { names, .. } = kind else { panic!("{kind:?}") };
    assert_eq!(names, ["a.example"]);
}

#[tokio::test]
async fn versions_and_protocols_are_agreed_upon() {
    let authority = Authority::new();
    let issued = authority.server(&["localhost"]);
    let strict = Running::of(issued.server().min_version(TlsVersion::Tls13)).await;
    let asking = client(trusting(&authority)).connect(&strict.uri()).await.expect("1.3");
    assert_eq!(who(&asking).await, "tls 1.3 localhost - nobody");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let old = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("a version")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let (kind, text) = refusal(ClientTls::new().config(Arc::new(old)), &strict.uri()).await;
    assert!(kind == TlsErrorKind::Version && text.contains("--tls-min"), "{text}");

    let named = Running::of(issued.server().alpn(["rsocket"])).await;
    for (offered, agreed) in [(&["rsocket", "x"][..], "rsocket"), (&[], "-")] {
        let tls = trusting(&authority).alpn(offered.iter().copied());
        let asking = client(tls).connect(&named.uri()).await.expect("a connection");
        assert_eq!(who(&asking).await, format!("tls 1.3 localhost {agreed} nobody"));
    }
    let (kind, text) = refusal(trusting(&authority).alpn(["h2"]), &named.uri()).await;
    assert!(kind == TlsErrorKind::Alpn && text.contains("--alpn"), "{text}");
    // Where nothing is set, everybody is let in.
    let open = Running::of(issued.server()).await;
    let tls = trusting(&authority).alpn(["h2"]);
    let asking = client(tls).connect(&open.uri()).await.expect("a connection");
    assert_eq!(who(&asking).await, "tls 1.3 localhost - nobody");
}

#[tokio::test]
async fn a_port_that_speaks_something_else_is_told() {
    let authority = Authority::new();
    let clear = Running::start(Server::builder(), &["tcp://127.0.0.1:0"]).await;
    let (kind, text) =
        refusal(trusting(&authority), &format!("tls://{}", &clear.uris[0][6..])).await;
    // It answers with an error of RSocket, or not at all.
    assert!(matches!(kind, TlsErrorKind::NotTls | TlsErrorKind::Closed), "{text}");
    let web = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let uri = format!("tls://{}", web.local_addr().expect("an address"));
    let answering = async {
        let (mut socket, _) = web.accept().await.expect("a connection");
        socket.read_u8().await.expect("a byte");
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("it is taken");
        socket
    };
    let (socket, (kind, text)) = tokio::join!(answering, refusal(trusting(&authority), &uri));
    assert!(kind == TlsErrorKind::NotTls && text.contains("does not speak TLS"), "{text}");
    drop(socket);
}

#[tokio::test]
async fn what_cannot_be_used_is_named_before_anything_begins() {
    let authority = Authority::new();
    let issued = authority.server(&["localhost"]);
    let bind = async |tls: ServerTls| {
        let bound = Server::builder().tls(tls).bind(&["tls://127.0.0.1:0"]).await;
        bound.map(drop).expect_err("it cannot be used").to_string()
    };
    let error = bind(ServerTls::new("/nowhere/cert.pem", "/nowhere/key.pem")).await;
    assert!(error.starts_with("/nowhere/cert.pem: it cannot be read: "), "{error}");
    let (chain, key) = issued.pair();
    let (_, other) = authority.server(&["localhost"]).pair();
    let error = bind(ServerTls::new(chain.clone(), other)).await;
    assert!(error.contains("the key does not belong to the first certificate"), "{error}");
    let error = bind(ServerTls::new(chain.clone(), chain)).await;
    assert!(error.contains("has no private key"), "{error}");
    let error = bind(ServerTls::new(key.clone(), key)).await;
    assert!(error.contains("has no certificate"), "{error}");
    let bare = Server::bind("tls://127.0.0.1:0").await.map(drop).expect_err("no certificate");
    assert!(bare.to_string().contains("--tls-cert FILE"), "{bare}");

    let missing =
        Client::builder().tls(ClientTls::new().roots(Roots::Pem("/nowhere/ca.pem".into())));
    let error = missing.connect("tls://localhost:1").await.map(drop).expect_err("no such file");
    assert!(matches!(error, ConnectError::TlsSettings(_)) && !error.is_retryable(), "{error}");
    assert!(error.to_string().starts_with("/nowhere/ca.pem: "), "{error}");
}

/// The limit begins when a client comes, and holds over all that comes before SETUP.
#[tokio::test]
async fn who_says_nothing_or_little_is_closed_in_time_and_holds_up_nobody() {
    use std::time::{Duration, Instant};

    let authority = Authority::new();
    let limit = Duration::from_millis(400);
    let tls = authority.server(&["localhost"]).server();
    let builder = Server::builder().tls(tls).config(hurried(limit));
    let server = Running::start(builder, &["tls://127.0.0.1:0", "wss://127.0.0.1:0/x"]).await;
    let began = Instant::now();
    let address = |uri: &str| uri.split('/').nth(2).expect("an address").to_owned();
    let silent = async |uri: &str| {
        let mut socket = TcpStream::connect(address(uri)).await.expect("a connection");
        // A reset is an end too.
        let _ = socket.read_to_end(&mut Vec::new()).await;
    };
    let slow = async |uri: &str| {
        let mut socket = TcpStream::connect(address(uri)).await.expect("a connection");
        let mut said = 0;
        for byte in b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".iter().cycle() {
            let gone = tokio::time::timeout(Duration::from_millis(50), socket.read_u8()).await;
            if gone.is_ok() || socket.write_all(&[*byte]).await.is_err() {
                break;
            }
            said += 1;
        }
        said
    };
    // Hands are shaken, and then nothing is said.
    let half = async |uri: &str| {
        let mut stream = raw(&authority, None, uri).await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    let (raw, web) = (&*server.uris[0], &*server.uris[1]);
    let served = async {
        let asking = client(trusting(&authority)).connect(&server.uri()).await.expect("served");
        who(&asking).await
    };
    let (_, _, said, _, _, answer) =
        tokio::join!(silent(raw), silent(web), slow(raw), half(raw), half(web), served);
    assert!(said > 2, "{said}");
    assert_eq!(answer, "tls 1.3 localhost - nobody");
    let took = began.elapsed();
    assert!(took >= limit && took < limit * 10, "{took:?}");
    assert_eq!(server.meter.read().tls_handshake_timeouts, 3);
}

/// Another implementation, if it is there.
#[tokio::test]
async fn openssl_sees_what_was_set() {
    let authority = Authority::new();
    let tls = authority.server(&["a.example"]).server().alpn(["rsocket"]);
    let server = Running::of(tls).await;
    for (version, shown) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let target = format!("127.0.0.1:{}", server.port());
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &target, version, "-alpn", "rsocket", "-brief"]);
        command.args(["-servername", "a.example", "-verify_hostname", "a.example"]);
        command.stdin(std::process::Stdio::null());
        let Ok(output) = command.output().await else { return };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(shown) && said.contains("Peer certificate"), "{said}");
    }
}
