//! The input that is read, and when.

use std::{
    io::{Read, Write},
    thread,
};

use crate::support::{Received, Service, rsock, rsock_with, spawn};

/// The size of a pipe in Linux, and of what our reader takes at once.
const BUFFERED: usize = (64 << 10) + (8 << 10);

#[test]
fn stdin_is_read_as_the_peer_grants_credit() {
    let mut service = Service::start();
    let mut child = spawn(&["channel", &service.tcp, "-r", "take", "-d", "5", "-d", "-"]);
    let mut stdin = child.stdin.take().unwrap();
    // Far more than anything on the way may hold; the pipe breaks when the child has seen enough.
    let typist = thread::spawn(move || {
        let line = [&[b'x'; 999], b"\n".as_slice()].concat();
        (0..10_000).take_while(|_| stdin.write_all(&line).is_ok()).count() * line.len()
    });
    for _ in 0..5 {
        assert!(matches!(service.received(), Received::Line(line) if line.len() == 999));
    }
    assert!(child.wait().unwrap().success());
    let typed = typist.join().unwrap();
    assert!(typed <= 5 * 1_000 + BUFFERED + 2_000, "{typed} bytes were taken");
}

#[test]
fn a_line_is_sent_when_it_is_typed() {
    let service = Service::start();
    let mut child = spawn(&["channel", &service.ws]);
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    for line in ["one\n", "two\n", "three\n"] {
        stdin.write_all(line.as_bytes()).unwrap();
        let mut echoed = vec![0; line.len()];
        stdout.read_exact(&mut echoed).unwrap();
        assert_eq!(echoed, line.as_bytes());
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn binary_data_goes_there_and_back_unchanged() {
    let service = Service::start();
    let data: Vec<u8> = (0..100_000_u32).map(|n| (n * 7 + n / 256) as u8).collect();
    let file = std::env::temp_dir().join(format!("rsock-binary-{}", std::process::id()));
    std::fs::write(&file, &data).unwrap();
    let from_file = format!("@{}", file.display());
    for uri in service.uris() {
        let raw = ["request", uri, "--out", "raw", "-d"];
        let done = rsock(&[raw.as_slice(), &[&from_file]].concat());
        assert!(done.0.stdout == data && done.code() == 0);
        let done = rsock_with(&[raw.as_slice(), &["-"]].concat(), &data);
        assert!(done.0.stdout == data && done.code() == 0);
    }
    std::fs::remove_file(file).unwrap();
}

#[test]
fn wrong_input_is_told_before_anything_is_sent() {
    let service = Service::start();
    let long = "x".repeat(256);
    for (arguments, expected) in [
        (["-r", &long], "--route: routing tag is 256 bytes long: expected at most 255"),
        (["-d", "@/nonexistent"], "cannot read /nonexistent"),
        (["-m", "json"], "expected MIME=VALUE"),
        (["-m", "jsn={}"], "\"jsn\" is not a valid MIME type"),
        (["-m", "json=@/nonexistent"], "cannot read /nonexistent"),
        (["--setup-data", "-"], "stdin belongs to -d"),
        (["--timeout", "5y"], "\"y\" is not a unit of time: ms, s, m, h and d are"),
        (["--mtu", "0"], "0 is not in 64..=16777215"),
        (["--timeout", "0s"], "'--timeout <TIME>': it must be more than 0, as 500ms or 10s"),
        (["--timeout", "1h30"], "it is not a time: write 500ms, 10s, 5m, 1h or 1h30m"),
        (["--connect-timeout", "0"], "must be more than 0"),
        (["--resume=0s", "-v"], "must be more than 0"),
        (["--keepalive", "0/90s"], "must be more than 0"),
    ] {
        let done = rsock(&[&["request", &service.tcp], arguments.as_slice()].concat());
        assert!(done.stderr().contains(expected), "{}", done.stderr());
        assert_eq!((done.code(), done.stdout().as_str()), (2, ""));
    }
    assert!(service.frames().is_empty());
}
