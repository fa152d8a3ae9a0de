//! `--reconnect`: a command that outlives its server.

use std::io::{BufRead, BufReader, Read};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

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

/// The next frame of a client, whose KEEPALIVEs are answered: they show that it is taken.
async fn next_frame(socket: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 4];
    socket.read_exact(&mut length[1..]).await.unwrap();
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    socket.read_exact(&mut frame).await.unwrap();
    if frame[4..6] == [0x0C, 0x80] {
        let answer = [&length[1..], &frame[..5], &[0], &frame[6..]].concat();
        socket.write_all(&answer).await.unwrap();
    }
    frame
}

/// A server that cannot take fragments would end one connection after the other, and nothing be said of
/// why.
#[test]
fn a_stream_that_begins_anew_behind_fragments_says_what_to_do() {
    let service = Service::start();
    let listener = service.runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let uri = format!("tcp://{}", listener.local_addr().unwrap());
    service.runtime.spawn(async move {
        for answers in [false, true] {
            let (mut socket, _) = listener.accept().await.unwrap();
            while !next_frame(&mut socket).await.ends_with(b"end") {}
            if answers {
                // The only item of stream 1.
                let item = [0, 0, 7, 0, 0, 0, 1, 0x28, 0x60, b'x'];
                socket.write_all(&item).await.unwrap();
                let _ = socket.read_to_end(&mut Vec::new()).await;
            }
        }
    });
    let long = format!("{}end", "x".repeat(200));
    let done =
        rsock(&["stream", &uri, "-d", &long, "--mtu", "64", "--reconnect", "--timeout", "20s"]);
    let said = done.stderr();
    assert_eq!((done.code(), done.stdout().as_str()), (0, "x\n"), "{said}");
    let told = "rsock: right before, a request had left in 4 fragments of at most 64 bytes; ";
    assert!(said.contains(told) && said.contains(": try --mtu 16777215, "), "{said}");
    assert!(said.ends_with("rsock: the stream begins anew\n"), "{said}");
}
