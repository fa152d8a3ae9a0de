//! Each command, on each transport.

use bytes::Bytes;
use rsock::{
    Payload,
    metadata::{CompositeMetadata, WellKnownMime},
};

use crate::support::{Received, Service, rsock, rsock_with};

#[test]
fn a_request_prints_its_answer() {
    let service = Service::start();
    for uri in service.uris() {
        rsock(&["request", uri, "-r", "echo", "-d", "hello"]).printed("hello\n");
        rsock(&[uri, "-d", "hello"]).printed("hello\n");
    }
}

#[test]
fn a_stream_prints_its_items() {
    let service = Service::start();
    for uri in service.uris() {
        rsock(&["stream", uri, "-r", "range", "-d", "3"]).printed("0\n1\n2\n");
        rsock(&["--stream", "--route=range", "-d", "3", uri]).printed("0\n1\n2\n");
    }
}

#[test]
fn a_channel_sends_lines_and_prints_what_comes_back() {
    let service = Service::start();
    for uri in service.uris() {
        let lines = b"a\n\nb\r\nc";
        rsock_with(&["channel", uri, "-r", "echo", "-d", "-"], lines).printed("a\n\nb\r\nc\n");
        rsock_with(&["channel", uri], lines).printed("a\n\nb\r\nc\n");
        rsock_with(&["channel", uri, "-d", "x", "-d", "-", "-d", "y"], b"a\n").printed("x\na\ny\n");
    }
}

#[test]
fn a_channel_without_input_is_not_opened() {
    let service = Service::start();
    let done = rsock(&["channel", &service.tcp]);
    assert_eq!((done.code(), done.stdout().as_str()), (0, ""));
    assert_eq!(done.stderr(), "rsock: the input was empty: no channel was opened\n");
}

#[test]
fn fire_and_forget_arrives_however_large() {
    let mut service = Service::start();
    let large = "x".repeat(12 << 20);
    let file = std::env::temp_dir().join(format!("rsock-fnf-{}", std::process::id()));
    std::fs::write(&file, &large).unwrap();
    let from_file = format!("@{}", file.display());
    for uri in service.uris().map(str::to_owned) {
        rsock(&["fnf", &uri, "-d", "small"]).printed("");
        assert_eq!(service.received(), Received::Fnf(Payload::new("small")));
        rsock(&["fnf", &uri, "-d", &from_file]).printed("");
        assert!(service.received() == Received::Fnf(Payload::new(large.clone())));
    }
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_push_carries_metadata() {
    let mut service = Service::start();
    for uri in service.uris().map(str::to_owned) {
        rsock(&["push", &uri, "-m", "json={}", "-r", "a"]).printed("");
        let Received::Push(metadata) = service.received() else { panic!() };
        let entries: Vec<_> = CompositeMetadata::new(metadata).map(Result::unwrap).collect();
        assert_eq!(entries[0].mime, WellKnownMime::Routing.into());
        assert_eq!(entries[1].mime, WellKnownMime::Json.into());
        assert_eq!(entries[1].content, "{}");
    }
    let done = rsock(&["push", &service.tcp]);
    assert_eq!(done.code(), 2);
    assert!(done.stderr().contains("push sends metadata"), "{done:?}");
}

#[test]
fn setup_declares_what_is_sent() {
    let mut service = Service::start();
    let expected = |metadata: &'static str, data: &'static str, setup: &'static str| {
        let [metadata, data, setup] = [metadata, data, setup].map(Bytes::from);
        Received::Setup(metadata, data, setup)
    };
    rsock(&["request", &service.tcp]).printed("\n");
    let composite = "message/x.rsocket.composite-metadata.v0";
    assert_eq!(service.setup(), expected(composite, "application/json", ""));

    let types = ["--data-mime", "cbor", "--metadata-mime", "routing", "--setup-data", "me"];
    let arguments = [&["request", &service.tcp, "-r", "echo", "-d", "x"], types.as_slice()];
    rsock(&arguments.concat()).printed("x\n");
    let routing = "message/x.rsocket.routing.v0";
    assert_eq!(service.setup(), expected(routing, "application/cbor", "me"));
}
