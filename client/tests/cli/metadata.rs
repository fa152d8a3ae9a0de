//! Credentials, types and traces: where they go, and what is shown of them.

use std::process::Command;

use rsock::{
    Direction,
    frame::Frame,
    metadata::{CompositeMetadata, Entry, Extensions, TraceContext, TraceId, mime},
};

use crate::support::{Done, Service, rsock};

const PASSWORD: &str = "hunter2";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const AUTH: &str = mime::AUTHENTICATION;

/// The metadata entries of SETUP and of the request that came last, as type and content; of SETUP without the
/// last, which says what `rsock` heeds, as always.
fn sent(service: &Service) -> [Vec<(String, Vec<u8>)>; 2] {
    let (mut setup, mut request) = (None, None);
    for (direction, frame) in service.frames() {
        match frame {
            Frame::Setup(frame) => setup = frame.payload.metadata,
            Frame::Request(frame) if direction == Direction::In => request = frame.payload.metadata,
            _ => {}
        }
    }
    let [mut setup, request] = [setup, request].map(|metadata| {
        let entries = CompositeMetadata::new(metadata.unwrap_or_default()).map(Result::unwrap);
        let entries = entries.map(|Entry { mime, content }| (mime.to_string(), content.to_vec()));
        entries.collect::<Vec<_>>()
    });
    let heeded = setup.pop().map(|heeded| vec![heeded]);
    assert_eq!(heeded, Some(entry(mime::FEATURES, "drain")));
    [setup, request]
}

fn entry(mime: &str, content: impl AsRef<[u8]>) -> Vec<(String, Vec<u8>)> {
    vec![(mime.to_owned(), content.as_ref().to_vec())]
}

#[test]
fn credentials_go_into_setup_unless_told_otherwise() {
    let service = Service::start();
    let (simple, bearer) = (b"\x80\0\x03annhunter2", b"\x81hunter2");
    for uri in service.uris() {
        let request = ["request", uri, "-d", "x"];
        for (options, setup, asked) in [
            (vec!["--auth-simple", "ann:hunter2"], entry(AUTH, simple), vec![]),
            (vec!["--auth-bearer", PASSWORD], entry(AUTH, bearer), vec![]),
            (vec!["--auth-bearer=hunter2", "--auth-in=request"], vec![], entry(AUTH, bearer)),
            (
                vec!["--auth-bearer=hunter2", "--auth-in=both"],
                entry(AUTH, bearer),
                entry(AUTH, bearer),
            ),
            (vec!["--auth-simple=ann:"], entry(AUTH, b"\x80\0\x03ann"), vec![]),
            (vec!["--auth-simple=:a:b"], entry(AUTH, b"\x80\0\0a:b"), vec![]),
        ] {
            rsock(&[&request[..], &options].concat()).printed("x\n");
            assert_eq!(sent(&service), [setup, asked], "{options:?}");
        }
        // As rsc spells them.
        rsock(&[uri, "-d", "x", "-u", "ann:hunter2"]).printed("x\n");
        assert_eq!(sent(&service), [vec![], entry(AUTH, simple)]);
        let setup = ["--sm", "bearer:hunter2", "--smmt", "MESSAGE_RSOCKET_AUTHENTICATION"];
        rsock(&[&[uri, "-d", "x"], &setup[..]].concat()).printed("x\n");
        assert_eq!(sent(&service), [entry(AUTH, bearer), vec![]]);
    }
}

#[test]
fn empty_credentials_are_none() {
    for given in ["env:RSOCK_TEST_EMPTY", "@/dev/null"] {
        let done = Command::new(env!("CARGO_BIN_EXE_rsock"))
            .args(["request", "tcp://127.0.0.1:1", "--auth-bearer", given])
            .env("RSOCK_TEST_EMPTY", "")
            .output()
            .unwrap();
        assert_eq!(done.status.code(), Some(2));
        let said = String::from_utf8(done.stderr).unwrap();
        assert_eq!(said, format!("rsock: --auth-bearer: {given} is empty\n"));
    }
}

#[test]
fn credentials_are_read_where_they_do_not_show() {
    let service = Service::start();
    let file = std::env::temp_dir().join(format!("rsock-token-{}", std::process::id()));
    std::fs::write(&file, "hunter2\n").unwrap();
    let from_file = format!("@{}", file.display());
    rsock(&["request", &service.tcp, "-d", "x", "--auth-bearer", &from_file]).printed("x\n");
    assert_eq!(sent(&service)[0], entry(AUTH, b"\x81hunter2"));
    std::fs::write(&file, "ann:hunter2\r\n").unwrap();
    rsock(&["request", &service.tcp, "-d", "x", "--auth-simple", &from_file]).printed("x\n");
    assert_eq!(sent(&service)[0], entry(AUTH, b"\x80\0\x03annhunter2"));
    std::fs::remove_file(file).unwrap();

    let from_environment = Command::new(env!("CARGO_BIN_EXE_rsock"))
        .args(["request", &service.tcp, "-d", "x", "--auth-bearer", "env:RSOCK_TEST_TOKEN"])
        .env("RSOCK_TEST_TOKEN", "from the environment")
        .output();
    Done(from_environment.unwrap()).printed("x\n");
    assert_eq!(sent(&service)[0], entry(AUTH, b"\x81from the environment"));
}

/// AUTH-12
#[test]
fn no_secret_is_ever_shown() {
    let service = Service::start();
    let mut stderr = String::new();
    for auth in ["--auth-simple=ann:hunter2", "--auth-bearer=hunter2", "--metadata=auth=hunter2"] {
        let request = ["request", &service.tcp, "-r", "echo", "-d", "x", auth];
        let verbose = ["-vv", "--auth-in", "both", "--show", "metadata"];
        let done = rsock(&[&request[..], &verbose].concat());
        assert_eq!((done.code(), done.stdout().as_str()), (0, "x\n"));
        stderr += &done.stderr();
    }
    assert!(!stderr.contains(PASSWORD), "{stderr}");
    for line in [
        "data=application/json auth=simple user=ann 0 B + 53 B metadata\n",
        "→ REQUEST_RESPONSE stream=1 route=echo auth=bearer 1 B + ",
        "← PAYLOAD stream=1 [NC] route=echo auth=simple user=ann 1 B + ",
        "message/x.rsocket.authentication.v0: simple user=ann\n",
        "message/x.rsocket.authentication.v0: bearer\n",
        "message/x.rsocket.routing.v0: echo\n",
    ] {
        assert!(stderr.contains(line), "{line}\n{stderr}");
    }
}

/// AUTH-10
#[test]
fn credentials_in_clear_to_another_machine_are_warned_of() {
    let warning = "rsock: warning: the credentials go to \"no-such-host.invalid\" in clear";
    let [tcp, ws] = ["tcp://no-such-host.invalid:1", "ws://no-such-host.invalid/rsocket"];
    for (command, uri, auth) in [
        ("request", ws, "--auth-bearer=hunter2"),
        ("stream", tcp, "--auth-simple=ann:hunter2"),
        ("channel", tcp, "--metadata=auth=hunter2"),
        ("fnf", tcp, "--setup-metadata=auth=hunter2"),
        ("request", ws, "--header=Authorization: Bearer hunter2"),
    ] {
        let done = rsock(&[command, uri, auth]);
        assert_eq!(done.code(), 6);
        let stderr = done.stderr();
        assert_eq!(stderr.matches(warning).count(), 1, "{stderr}");
        assert!(!stderr.contains(PASSWORD), "{stderr}");
    }
    let done = rsock(&["request", tcp]);
    assert!(!done.stderr().contains("warning"), "{}", done.stderr());
    // `printed` sees that nothing is said about this machine.
    let service = Service::start();
    for uri in service.uris() {
        rsock(&["request", uri, "-d", "x", "--auth-bearer=t"]).printed("x\n");
    }
}

#[test]
fn types_and_traces_go_into_the_request() {
    let service = Service::start();
    let options = ["--request-data-mime", "cbor", "--accept", "text", "--accept", "x/y"];
    let request = ["request", &service.tcp, "-d", "x", "-m", "json={}", "--traceparent", PARENT];
    let done = rsock(&[&request[..], &options, &["--show", "metadata", "-vv"]].concat());
    assert_eq!(done.code(), 0);
    let expected = [
        (mime::MIME_TYPE, &b"\x81"[..]),
        (mime::ACCEPT_MIME_TYPES, b"\xa1\x02x/y"),
        (mime::TRACEPARENT, PARENT.as_bytes()),
        (mime::APPLICATION_JSON, b"{}"),
    ];
    let expected = expected.map(|(mime, content)| (mime.to_owned(), content.to_vec()));
    assert_eq!(sent(&service)[1], expected);
    let stderr = done.stderr();
    for line in [
        &format!("stream=1 mime=application/cbor accept=text/plain,x/y traceparent={PARENT} 1 B"),
        "message/x.rsocket.mime-type.v0: application/cbor\n",
        "message/x.rsocket.accept-mime-types.v0: text/plain,x/y\n",
    ] {
        assert!(stderr.contains(line), "{line}\n{stderr}");
    }
}

#[test]
fn who_shows_json_asks_for_it() {
    let service = Service::start();
    let request = ["request", &service.tcp, "-d", "{}", "--out", "json"];
    rsock(&request).printed("{}\n");
    assert_eq!(sent(&service)[1], entry(mime::ACCEPT_MIME_TYPES, b"\x85"));
    rsock(&[&request[..], &["--accept", "text"]].concat()).printed("{}\n");
    assert_eq!(sent(&service)[1], entry(mime::ACCEPT_MIME_TYPES, b"\xa1"));
    // Other metadata has no room for it.
    rsock(&[&request[..], &["--metadata-mime", "text", "-m", "hi"]].concat()).printed("{}\n");
    rsock(&["request", &service.tcp, "-d", "{}"]).printed("{}\n");
    assert_eq!(sent(&service)[1], []);
}

#[test]
fn a_trace_has_ids_of_its_own() {
    let service = Service::start();
    let trace = |options: &[&str]| {
        let done = rsock(&[&["request", &service.tcp, "-d", "x"], options].concat());
        assert_eq!((done.code(), done.stdout().as_str()), (0, "x\n"));
        let requests = service.frames().into_iter().filter_map(|(_, frame)| match frame {
            Frame::Request(request) => request.payload.metadata,
            _ => None,
        });
        let metadata = requests.last().unwrap();
        let said = Extensions::read(&metadata, mime::COMPOSITE_METADATA).unwrap();
        let Some(TraceContext::Zipkin(zipkin)) = said.trace() else { panic!("{said:?}") };
        let span = zipkin.span.unwrap();
        assert!(matches!(span.trace_id, TraceId::Long(1..)));
        assert!(span.span_id > 0 && span.parent_id.is_none());
        (zipkin, done.stderr())
    };
    let (first, said) = trace(&["--trace", "-v"]);
    assert_eq!(first.sampling.to_string(), "sampled");
    assert!(said.contains(&format!("rsock: {first}\n")), "{said}");
    let (second, said) = trace(&["--trace=not-sampled", "-vv"]);
    assert_eq!(second.sampling.to_string(), "not sampled");
    assert!(said.contains(&format!("→ REQUEST_RESPONSE stream=1 {second} 1 B")), "{said}");
    assert_ne!(first.span, second.span);
    assert_eq!(trace(&["--trace=debug"]).1, "");
}

#[test]
fn setup_has_metadata_too() {
    let service = Service::start();
    let setup = ["--setup-metadata", "json={}", "--setup-metadata", "a/b=c", "--setup-data", "d"];
    let request = ["request", &service.ws, "-d", "x", "--auth-bearer", "t"];
    rsock(&[&request[..], &setup].concat()).printed("x\n");
    let all = [entry(mime::APPLICATION_JSON, "{}"), entry("a/b", "c"), entry(AUTH, b"\x81t")];
    assert_eq!(sent(&service), [all.concat(), vec![]]);
}

#[test]
fn what_makes_no_sense_is_told_before_anything_is_sent() {
    let service = Service::start();
    let plain = ["--metadata-mime", "json"];
    for (command, arguments, expected) in [
        ("request", vec!["--auth-simple", "hunter2"], "--auth-simple: expected USER:PASSWORD"),
        ("request", vec!["--auth-bearer", "@/nonexistent"], "cannot read /nonexistent"),
        ("request", vec!["--auth-bearer", "@-"], "stdin belongs to -d"),
        ("request", vec!["--auth-bearer", "env:NO_SUCH_VARIABLE"], "\"NO_SUCH_VARIABLE\" is set"),
        (
            "request",
            vec!["--auth-bearer=hunter2", "--auth-simple=a:hunter2"],
            "cannot be used with",
        ),
        ("request", vec!["--auth-in=nowhere"], "possible values: setup, request, both"),
        ("push", vec!["-m", "text=x", "--auth-in=request"], "push is not a request"),
        ("push", vec!["-m", "text=x", "--trace"], "push is not a request"),
        ("request", vec!["--auth-bearer=hunter2", plain[0], plain[1]], "need composite metadata"),
        (
            "request",
            vec!["--auth-bearer=hunter2", "--auth-in=request", plain[0], plain[1]],
            "metadata of the type application/json has no room for credentials",
        ),
        ("request", vec!["--trace", plain[0], plain[1]], "has no room for a trace"),
        ("request", vec!["--trace=maybe"], "possible values: undecided, not-sampled, sampled"),
        ("request", vec!["--traceparent", "00-1-2-3"], "expected 00-<32 hex digits>"),
        ("request", vec!["--accept", "jsn"], "\"jsn\" is not a valid MIME type"),
        ("request", vec!["--request-data-mime", "jsn"], "\"jsn\" is not a valid MIME type"),
        ("request", vec!["--setup-metadata", "json"], "--setup-metadata \"json\": expected MIME="),
    ] {
        let done = rsock(&[&[command, &service.tcp], &arguments[..]].concat());
        let stderr = done.stderr();
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
        assert!(!stderr.contains(PASSWORD), "{stderr}");
        assert_eq!((done.code(), done.stdout().as_str()), (2, ""), "{arguments:?}");
    }
    assert!(service.frames().is_empty());
}
