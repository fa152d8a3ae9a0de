//! Exit codes by cause, and what is said.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::support::{Service, rsock};

#[test]
fn errors_of_a_request() {
    let service = Service::start();
    for (route, code, said) in [
        ("application", 71, "rsock: APPLICATION_ERROR: why\n"),
        ("nowhere", 72, "rsock: REJECTED: no route \"nowhere\"\n"),
        ("canceled", 73, "rsock: CANCELED: why\n"),
        ("invalid", 74, "rsock: INVALID: why\n"),
        ("other", 75, "rsock: 0x00000301: why\n"),
    ] {
        for uri in service.uris() {
            let done = rsock(&["request", uri, "-r", route, "-d", "why"]);
            assert_eq!((done.code(), done.stderr().as_str()), (code, said));
            assert_eq!(done.stdout(), "");
        }
    }
    let done = rsock(&["request", &service.tcp, "-r", "application", "-d", "\x1b[2Jx\u{202e}"]);
    assert_eq!(done.stderr(), "rsock: APPLICATION_ERROR: \\u{1b}[2Jx\\u{202e}\n");
}

#[test]
fn errors_of_streams_and_channels() {
    let service = Service::start();
    let done = rsock(&["stream", &service.tcp, "-r", "breaks"]);
    assert_eq!((done.code(), done.stdout().as_str()), (71, "0\n1\n"));
    assert_eq!(done.stderr(), "rsock: APPLICATION_ERROR: broke\n");
    let done = rsock(&["channel", &service.ws, "-r", "nowhere", "-d", "x"]);
    assert_eq!((done.code(), done.stdout().as_str()), (72, ""));
}

#[test]
fn a_refused_setup() {
    let service = Service::start();
    for uri in service.uris() {
        let done = rsock(&["request", uri, "--setup-data", "reject"]);
        assert_eq!(done.code(), 67);
        assert!(done.stderr().contains("REJECTED_SETUP: not you; "), "{}", done.stderr());
        // What has no answer learns of it too.
        assert_eq!(rsock(&["fnf", uri, "-d", "x", "--setup-data", "reject"]).code(), 67);
        assert_eq!(rsock(&["push", uri, "-m", "text=x", "--setup-data", "reject"]).code(), 67);
    }
}

#[test]
fn a_unix_socket_that_is_not_there() {
    let socket = std::env::temp_dir().join(format!("rsock-nobody-{}.sock", std::process::id()));
    let uri = format!("unix:{}", socket.display());
    let done = rsock(&["request", &uri]);
    assert_eq!(done.code(), 7);
    let (says, asks) = (format!("cannot connect to {uri}: "), "; is the service running? ");
    assert!(done.stderr().contains(&says) && done.stderr().contains(asks), "{}", done.stderr());
    let done = rsock(&["request", "unix:x.sock"]);
    assert_eq!(done.code(), 2);
    assert!(done.stderr().contains("begins with /"), "{}", done.stderr());
}

/// A server that answers whatever comes first with these bytes, and closes.
fn answering(service: &Service, answer: Vec<u8>) -> String {
    answering_behind(service, b"", answer)
}

/// The same, once this has come.
fn answering_behind(service: &Service, wanted: &'static [u8], answer: Vec<u8>) -> String {
    let listener = service.runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    service.runtime.spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let (mut buf, mut got) = ([0; 1024], Vec::new());
        while got.is_empty() || !got.ends_with(wanted) {
            let count = socket.read(&mut buf).await.unwrap();
            assert!(count > 0);
            got.extend_from_slice(&buf[..count]);
        }
        socket.write_all(&answer).await.unwrap();
        socket.shutdown().await.unwrap();
        // Until the other side closes too.
        while socket.read(&mut buf).await.is_ok_and(|count| count > 0) {}
    });
    format!("tcp://{address}")
}

#[test]
fn errors_of_a_connection() {
    let service = Service::start();
    for (error, code, name) in [
        (1, 65, "INVALID_SETUP"),
        (2, 66, "UNSUPPORTED_SETUP"),
        (3, 67, "REJECTED_SETUP"),
        (4, 68, "REJECTED_RESUME"),
        (0x101, 69, "CONNECTION_ERROR"),
        (0x102, 70, "CONNECTION_CLOSE"),
    ] {
        // ERROR on stream 0: length, stream id, type and flags, code, text.
        let mut frame = vec![0, 0, 13, 0, 0, 0, 0, 0x2C, 0];
        frame.extend(u32::to_be_bytes(error));
        frame.extend(b"why");
        let done = rsock(&["request", &answering(&service, frame)]);
        assert_eq!(done.code(), code, "{}", done.stderr());
        assert!(done.stderr().contains(&format!("{name}: why")), "{}", done.stderr());
        assert_eq!(done.stderr().lines().count(), 1);
    }
    let done = rsock(&["request", &answering(&service, Vec::new())]);
    assert_eq!(done.code(), 56);
    assert!(
        done.stderr().starts_with("rsock: the server closed the connection right after SETUP"),
        "{}",
        done.stderr()
    );
}

/// Peers that cannot take fragments end the connection, some with an ERROR.
#[test]
fn an_end_right_behind_fragments() {
    let service = Service::start();
    let long = format!("{}end", "x".repeat(200));
    let connection_error = b"\0\0\x0d\0\0\0\0\x2c\0\0\0\x01\x01why".to_vec();
    for (answer, code) in [(Vec::new(), 56), (connection_error, 69)] {
        let uri = answering_behind(&service, b"end", answer.clone());
        let done = rsock(&["request", &uri, "-d", &long, "--mtu", "64"]);
        assert_eq!(done.code(), code, "{}", done.stderr());
        let told = "right before, a request had left in 4 fragments of at most 64 bytes; ";
        let said = done.stderr();
        assert!(said.contains(told) && said.contains(": try --mtu 16777215, "), "{said}");
        assert_eq!(said.lines().count(), 1);
        // What is said to do helps, or it was something else.
        let uri = answering_behind(&service, b"end", answer);
        let done = rsock(&["request", &uri, "-d", &long, "--mtu", "16777215"]);
        assert!(!done.stderr().contains("fragment"), "{}", done.stderr());
    }
}

#[test]
fn no_connection() {
    let service = Service::start();
    let free = service.runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let nobody = format!("tcp://{}", free.local_addr().unwrap());
    drop(free);
    let done = rsock(&["request", &nobody]);
    assert_eq!(done.code(), 7);
    assert!(done.stderr().contains("refused"), "{}", done.stderr());
    assert!(done.stderr().contains("is the service running? `rsockd` starts one"));

    let done = rsock(&["request", "tcp://no-such-host.invalid:1"]);
    assert_eq!(done.code(), 6, "{}", done.stderr());

    let wrong_path = service.ws.replace("/rsocket", "/elsewhere");
    let done = rsock(&["request", &wrong_path]);
    assert_eq!(done.code(), 7);
    assert!(done.stderr().contains("WebSocket handshake failed"), "{}", done.stderr());

    let done = rsock(&["request", "http://localhost:1"]);
    assert_eq!(done.code(), 2, "{}", done.stderr());
}

#[test]
fn timeouts() {
    let service = Service::start();
    for uri in service.uris() {
        let done = rsock(&["request", uri, "-r", "never", "--timeout", "50ms"]);
        assert_eq!((done.code(), done.stdout().as_str()), (28, ""));
        assert_eq!(done.stderr(), "rsock: not done within 50ms, as --timeout says\n");
    }
    assert!(service.was_cancelled());

    // It takes connections and says nothing: the system's queue accepts for it.
    let mute = service.runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let uri = format!("ws://{}", mute.local_addr().unwrap());
    let done = rsock(&["request", &uri, "--connect-timeout", "50ms"]);
    assert_eq!(done.code(), 28);
    assert!(done.stderr().contains("--connect-timeout allows more"), "{}", done.stderr());
    let uri = uri.replace("ws:", "tcp:");
    let done = rsock(&["request", &uri, "--keepalive", "20ms/60ms"]);
    assert_eq!(done.code(), 56, "{}", done.stderr());
}

#[test]
fn a_wrong_path_is_a_line_that_names_the_right_one() {
    let service = Service::start();
    let (base, _) = service.ws.rsplit_once('/').expect("a path");
    let done = rsock(&["request", &format!("{base}/elsewhere?token=x")]);
    let said = done.stderr();
    assert_eq!((done.code(), said.lines().count()), (7, 1), "{said}");
    assert!(said.ends_with(&format!("it is at {}\n", service.ws)), "{said}");
    // With a slash at the end it is the same.
    rsock(&["request", &format!("{}/", service.ws), "-d", "x"]).printed("x\n");
}

#[test]
fn each_port_asked_in_the_way_of_the_other() {
    let service = Service::start();
    let done = rsock(&["request", &service.tcp.replace("tcp:", "ws:")]);
    assert_eq!(done.code(), 7);
    let said = done.stderr();
    assert!(said.contains("handshake failed: what answers does not speak HTTP ("), "{said}");
    assert!(said.ends_with(
        "is this its WebSocket port and path? rsockd has ws://127.0.0.1:7879/rsocket\n"
    ));
    let tcp = service.ws.replace("ws:", "tcp:").replace("/rsocket", "");
    let done = rsock(&["request", &tcp]);
    let said = done.stderr();
    assert_eq!(done.code(), 56, "{said}");
    assert!(said.contains("reached by ws://HOST:PORT/PATH"), "{said}");
}

#[test]
fn headers_of_the_handshake_are_sent_or_wrong_usage() {
    let service = Service::start();
    for header in ["Host: api.example.com", "Sec-WebSocket-Protocol: rsocket"] {
        rsock(&["request", &service.ws, "-d", "x", "-H", header]).printed("x\n");
    }
    for header in ["Connection: close", "sec-websocket-key: x", "a b: c"] {
        let done = rsock(&["request", &service.ws, "-d", "x", "-H", header]);
        let name = header.split(':').next().expect("a name").to_owned();
        assert_eq!(done.code(), 2, "{}", done.stderr());
        assert!(done.stderr().contains(&format!("the header {name:?} of")), "{}", done.stderr());
    }
}

/// To a program all is JSON, and the code is the same.
#[test]
fn errors_come_in_the_form_of_the_output() {
    let service = Service::start();
    let unreachable = "unix:/nonexistent/rsock.sock";
    for (arguments, code, said) in [
        (
            &["request", &service.tcp, "-r", "nowhere"][..],
            72,
            r#"{"code":"REJECTED","error":"REJECTED: no route \"nowhere\"","exit":72}"#,
        ),
        (
            &["stream", &service.tcp, "-r", "application"],
            72,
            r#"{"code":"REJECTED","error":"REJECTED: no route \"application\"","exit":72}"#,
        ),
        (&["fnf", unreachable], 7, r#","exit":7,"hint":"is the service running? "#),
        (&["push", &service.tcp], 2, r#"give it with -m or -r","exit":2}"#),
        (
            &["channel", &service.tcp, "--setup-data", "reject", "-d", "x"],
            67,
            r#""code":"REJECTED_SETUP""#,
        ),
        (&["request", &service.tcp, "-r", "never", "--timeout", "20ms"], 28, r#""exit":28"#),
        (&["request", &service.tcp, "--tiemout"], 2, r#"similar argument exists: '--timeout'"#),
    ] {
        for form in [&["--out", "json"][..], &["--out=json"]] {
            let done = rsock(&[arguments, form].concat());
            assert_eq!((done.code(), done.stdout().as_str()), (code, ""), "{}", done.stderr());
            let stderr = done.stderr();
            assert!(stderr.contains(said), "{stderr}");
            assert_eq!(stderr.lines().count(), 1, "{stderr}");
            let told: serde_json::Value = serde_json::from_str(&stderr).unwrap();
            assert_eq!(told["exit"], code);
        }
        let done = rsock(arguments);
        assert!(done.stderr().starts_with("rsock: ") || done.stderr().starts_with("error: "));
    }
}

#[test]
fn what_was_meant_is_suggested() {
    for (arguments, said) in [
        (&["request", "localhost:7878"][..], "did you mean tcp://localhost:7878?\n"),
        (&["localhost:7878"], "did you mean tcp://localhost:7878?\n"),
        (&["request", "tpc://localhost:7878"], "did you mean tcp://localhost:7878?\n"),
        (&["request", "http://localhost:7879/rsocket"], "mean ws://localhost:7879/rsocket?\n"),
        (&["strem", "tcp://localhost:7878"], "'stream'"),
        (&["request", "tcp://localhost:7878", "--tiemout", "5s"], "'--timeout'"),
    ] {
        let done = rsock(arguments);
        assert_eq!(done.code(), 2, "{}", done.stderr());
        assert!(done.stderr().contains(said), "{}", done.stderr());
    }
}

#[test]
fn credentials_in_a_uri_are_used_or_refused_and_never_shown() {
    let service = Service::start();
    let with_credentials = |uri: &str| uri.replacen("://", "://ann:s3cret@", 1);
    let done = rsock(&["request", &with_credentials(&service.ws), "-d", "x", "-vv"]);
    assert_eq!((done.code(), done.stdout().as_str()), (0, "x\n"), "{}", done.stderr());
    assert!(!done.stderr().contains("s3cret"), "{}", done.stderr());
    let done = rsock(&["request", &with_credentials(&service.tcp), "-d", "x", "-vv"]);
    let said = done.stderr();
    assert_eq!(done.code(), 2, "{said}");
    assert!(said.contains("--auth-simple") && !said.contains("s3cret"), "{said}");
}

/// It would be left out in silence otherwise, credentials included.
#[test]
fn a_header_where_there_is_no_http() {
    let service = Service::start();
    let header = "X-Tenant: blue";
    for uri in [&service.tcp, "unix:/nowhere.sock", "TCP://127.0.0.1:1"] {
        let done = rsock(&["request", uri, "-H", header, "-d", "x"]);
        let said = done.stderr();
        assert_eq!((done.code(), done.stdout().as_str()), (2, ""), "{said}");
        assert!(said.contains("-H X-Tenant: only the handshake of a WebSocket has"), "{said}");
    }
    let done = rsock(&["request", &service.ws, "-H", header, "-r", "echo", "-d", "x"]);
    assert_eq!(done.code(), 0, "{}", done.stderr());
}
