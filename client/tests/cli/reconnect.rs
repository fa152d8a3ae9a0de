//! `--reconnect`: a command that outlives its server.

use std::io::{BufRead, BufReader, Read};

use crate::support::{Service, rsock, spawn};

fn next_line(output: &mut impl BufRead) -> String {
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    line
}

/// Reads on to a line that begins so.
fn wait_line(output: &mut impl BufRead, start: &str) {
    loop {
        let line = next_line(output);
        assert_ne!(line, "", "{start} was never said");
        if line.starts_with(start) {
            return;
        }
    }
}

#[test]
fn a_stream_begins_anew_and_says_so() {
    let mut service = Service::start();
    let unix = service.unix.clone();
    let mut child =
        spawn(&["stream", &unix, "-r", "silent", "--reconnect", "--take", "3", "--timeout", "60s"]);
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    for _ in 0..2 {
        assert_eq!(next_line(&mut stdout), "0\n");
        drop(service);
        wait_line(&mut stderr, "rsock: the connection is lost, connecting anew: ");
        service = Service::start_at(&unix);
    }
    // The third item is the last that was asked for.
    assert_eq!(next_line(&mut stdout), "0\n");
    let (mut rest, mut said) = (String::new(), String::new());
    stdout.read_to_string(&mut rest).unwrap();
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{said}");
    assert_eq!(rest, "");
    assert!(said.contains("rsock: connected anew"), "{said}");
    assert!(said.ends_with("rsock: the stream begins anew\n"), "{said}");
}

#[test]
fn what_cannot_begin_anew_fails_by_its_reason() {
    let service = Service::start();
    let arguments = ["request", &service.unix, "-r", "never", "--reconnect", "--timeout", "60s"];
    let child = spawn(&arguments);
    let asked = |frame: &rsock::frame::Frame| matches!(frame, rsock::frame::Frame::Request(_));
    assert!(service.has_received(asked));
    drop(service);
    let done = child.wait_with_output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    // The service says that it stops, if it has the time to.
    let code = done.status.code().unwrap();
    assert!(matches!(code, 56 | 70), "{code}: {said}");
    assert!(said.contains("rsock: the connection is lost, connecting anew"), "{said}");
}

/// There is nothing to come back to.
#[test]
fn a_first_connection_is_not_waited_for() {
    let done = rsock(&["stream", "unix:/nonexistent/rsock.sock", "-r", "x", "--reconnect"]);
    assert_eq!((done.code(), done.stdout().as_str()), (7, ""));
}
