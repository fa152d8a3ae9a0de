//! Commands that wait, and end: for a server that says nothing, and for a reader that does not
//! read.

use std::{
    io::Read,
    process::{Child, Output, Stdio},
    sync::mpsc::sync_channel,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::support::{Done, Service, rsock, spawn, spawn_with};

/// More than any command here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// How it ended, without anything of its output being read before.
fn ended(mut child: Child) -> Done {
    let id = child.id();
    let (sender, receiver) = sync_channel(1);
    std::thread::spawn(move || {
        let status = child.wait().unwrap();
        sender.send((status, child)).unwrap();
    });
    let Ok((status, mut child)) = receiver.recv_timeout(PATIENCE) else {
        panic!("process {id} does not end");
    };
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    for (stream, output) in [
        (child.stdout.take().map(|stream| Box::new(stream) as Box<dyn Read>), &mut stdout),
        (child.stderr.take().map(|stream| Box::new(stream) as Box<dyn Read>), &mut stderr),
    ] {
        stream.map(|mut stream| stream.read_to_end(output).unwrap());
    }
    Done(Output { status, stdout, stderr })
}

/// A server that takes connections, reads them if it is to, and says nothing.
fn mute(service: &Service, reads: bool) -> String {
    let listener = service.runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    service.runtime.spawn(async move {
        let mut taken = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            if reads {
                tokio::spawn(async move {
                    while socket.read(&mut [0; 1024]).await.is_ok_and(|n| n > 0) {}
                });
            } else {
                taken.push(socket);
            }
        }
    });
    format!("tcp://{address}")
}

#[test]
fn a_server_that_never_speaks() {
    let service = Service::start();
    for reads in [true, false] {
        let uri = mute(&service, reads);
        for (command, data) in [("fnf", "-d"), ("push", "-m")] {
            for limit in ["--timeout", "--connect-timeout"] {
                let done = rsock(&[command, &uri, data, "text=x", limit, "200ms"]);
                assert_eq!(done.code(), 28, "{command} {limit}: {}", done.stderr());
                assert_eq!(
                    done.stderr(),
                    "rsock: sent, but the server has shown no sign of life within 200ms: whether it was \
                     read is not known\n"
                );
            }
            let done = rsock(&[command, &uri, data, "text=x", "--keepalive", "50ms/150ms"]);
            assert_eq!(done.code(), 56, "{}", done.stderr());
        }
        let done = rsock(&["request", &uri, "--timeout", "200ms"]);
        assert_eq!(done.stderr(), "rsock: not done within 200ms, as --timeout says\n");
    }
    // One that speaks has been told.
    for uri in service.uris() {
        assert_eq!(rsock(&["fnf", uri, "-d", "x", "--timeout", "10s"]).code(), 0);
        assert_eq!(rsock(&["push", uri, "-m", "text=x", "--timeout", "10s"]).code(), 0);
    }
}

/// Nobody reads what is shown: time passes all the same.
#[test]
fn a_blocked_stdout_does_not_outlive_the_timeout() {
    let service = Service::start();
    let start = Instant::now();
    let large = ["request", &service.tcp, "-d", &"x".repeat(100_000)];
    let streams = ["stream", &service.tcp, "-r", "range"];
    for command in [large.as_slice(), streams.as_slice()] {
        let done = ended(spawn(&[command, &["--timeout", "300ms"]].concat()));
        assert_eq!(done.code(), 28, "{}", done.stderr());
        assert_eq!(done.stderr(), "rsock: not done within 300ms, as --timeout says\n");
    }
    assert!(start.elapsed() < PATIENCE);
}

/// The same where it is stderr that nobody reads: the process is stuck in it, and ends.
#[test]
fn a_blocked_stderr_does_not_outlive_the_timeout() {
    let service = Service::start();
    let streams = ["stream", &service.tcp, "-r", "range", "-vv", "--out", "none"];
    let done = ended(spawn(&[streams.as_slice(), &["--timeout", "100ms"]].concat()));
    assert_eq!(done.code(), 28);
}

/// A reader that comes late still has all of it.
#[test]
fn a_reader_that_takes_its_time_has_everything() {
    let service = Service::start();
    let mut child = spawn(&["stream", &service.tcp, "-r", "range", "-d", "50000"]);
    let mut stdout = child.stdout.take().unwrap();
    assert!(service.has_sent_an_item());
    let mut shown = String::new();
    stdout.read_to_string(&mut shown).unwrap();
    assert!(shown.lines().eq((0..50_000).map(|n| n.to_string())));
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// What cannot be shown is not asked for; what shows nothing needs no stdout.
#[cfg(unix)]
#[test]
fn a_closed_stdout_is_an_error() {
    let mut service = Service::start();
    for (command, route) in [
        (["request", &service.tcp], "echo"),
        (["stream", &service.ws], "range"),
        (["channel", &service.tcp], "echo"),
    ] {
        let done = ended(spawn_with(">&-", &[command.as_slice(), &["-d", "1"]].concat()));
        assert_eq!(done.code(), 23, "{}", done.stderr());
        assert_eq!(
            done.stderr(),
            "rsock: cannot write to stdout: it is closed, and the data would be lost; --out none does \
             without it\n"
        );
        let quiet = [command.as_slice(), &["-r", route, "-d", "1", "--out", "none"]].concat();
        let done = ended(spawn_with(">&-", &quiet));
        assert_eq!((done.code(), done.stderr().as_str()), (0, ""));
    }
    assert_eq!(ended(spawn_with(">&-", &["fnf", &service.tcp, "-d", "x"])).code(), 0);
    service.received();
    let done = ended(spawn_with("> /dev/null", &["request", &service.tcp, "-d", "x"]));
    assert_eq!((done.code(), done.stderr().as_str()), (0, ""));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error() {
    let service = Service::start();
    for command in ["request", "channel"] {
        let done = ended(spawn_with("> /dev/full", &[command, &service.tcp, "-d", "x"]));
        assert_eq!(done.code(), 23, "{}", done.stderr());
        assert!(done.stderr().starts_with("rsock: cannot write to stdout: "), "{}", done.stderr());
    }
}

/// A reader that has gone ends the command, though no further item comes to be written.
#[test]
fn a_reader_that_goes_ends_a_stream_that_is_silent() {
    let service = Service::start();
    let mut child = spawn(&["stream", &service.tcp, "-r", "silent"]);
    // It has nothing to read from the start: the first item cannot be written.
    drop(child.stdout.take());
    let done = ended(child);
    assert_eq!((done.code(), done.stderr().as_str()), (0, ""));
    assert!(service.was_cancelled());
}

/// The first payload of a channel never comes, and its connection is lost.
#[test]
fn a_channel_without_input_ends_with_its_connection() {
    let service = Service::start();
    let listener = service.runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let uri = format!("tcp://{}", listener.local_addr().unwrap());
    service.runtime.spawn(async move {
        for last_words in [&b""[..], b"\0\0\x0d\0\0\0\0\x2c\0\0\0\x01\x02why"] {
            let (mut socket, _) = listener.accept().await.unwrap();
            assert!(socket.read(&mut [0; 1024]).await.unwrap() > 0);
            socket.write_all(last_words).await.unwrap();
        }
    });
    for (code, said) in [(56, "right after SETUP"), (70, "CONNECTION_CLOSE: why")] {
        let mut child = spawn(&["channel", &uri, "-d", "-"]);
        let stdin = child.stdin.take();
        let done = ended(child);
        assert_eq!(done.code(), code, "{}", done.stderr());
        assert!(done.stderr().contains(said), "{}", done.stderr());
        drop(stdin);
    }
}

/// The peer's reason, though the socket closes right behind it (CONN-02).
#[test]
fn a_server_that_says_why_it_closes() {
    let service = Service::start();
    let listener = service.runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let uri = format!("tcp://{}", listener.local_addr().unwrap());
    service.runtime.spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            assert!(socket.read(&mut [0; 1024]).await.unwrap() > 0);
            // KEEPALIVE, past which ERROR is no refusal; then CONNECTION_CLOSE.
            let keepalive = b"\0\0\x0e\0\0\0\0\x0c\0\0\0\0\0\0\0\0\0";
            socket.write_all(keepalive).await.unwrap();
            socket.write_all(b"\0\0\x16\0\0\0\0\x2c\0\0\0\x01\x02rolling over").await.unwrap();
        }
    });
    for command in ["request", "stream", "channel", "fnf", "push"] {
        let data = if command == "push" { "-m" } else { "-d" };
        let done = ended(spawn(&[command, &uri, data, "text=x"]));
        assert_eq!(done.code(), 70, "{command}: {}", done.stderr());
        assert!(done.stderr().contains("CONNECTION_CLOSE: rolling over"), "{}", done.stderr());
    }
}

/// It did speak RSocket: nobody is told to doubt that.
#[test]
fn a_server_that_is_gone_after_an_item() {
    let service = Service::start();
    let listener = service.runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let uri = format!("tcp://{}", listener.local_addr().unwrap());
    service.runtime.spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        // SETUP and the request, in one piece or two.
        let (mut read, mut bytes) = (Vec::new(), [0; 1024]);
        while !read.windows(5).any(|text| text == b"hello") {
            let n = socket.read(&mut bytes).await.unwrap();
            read.extend_from_slice(&bytes[..n]);
        }
        socket.write_all(b"\0\0\x09\0\0\0\x01\x28\x20one").await.unwrap();
    });
    let done = ended(spawn(&["stream", &uri, "-d", "hello"]));
    assert_eq!((done.code(), done.stdout().as_str()), (56, "one\n"), "{}", done.stderr());
    let said = done.stderr();
    assert!(said.contains("; it has stopped, or something on the way"), "{said}");
}

/// What came until then is said.
#[cfg(unix)]
#[test]
fn ctrl_c_leaves_a_summary() {
    let service = Service::start();
    let stream = &["stream", &service.tcp, "-r", "silent", "-v"][..];
    let channel = &["channel", &service.tcp, "-v", "-d", "x", "-d", "-"];
    for (command, said) in
        [(stream, "rsock: 1 item, 1 byte in "), (channel, "rsock: 1 payload sent")]
    {
        let mut child = spawn(command);
        let stdin = child.stdin.take();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 2]).unwrap();
        let interrupt = ["-INT", &child.id().to_string()];
        assert!(std::process::Command::new("kill").args(interrupt).status().unwrap().success());
        let done = ended(child);
        assert_eq!(done.code(), 130);
        assert!(done.stderr().contains(said), "{}", done.stderr());
        drop(stdin);
    }
}

/// One that is stuck ends with the second Ctrl-C, or a moment after the first.
#[cfg(unix)]
#[test]
fn ctrl_c_ends_what_is_stuck() {
    let service = Service::start();
    let child = spawn_with("2>&1", &["stream", &service.tcp, "-r", "range", "-vv"]);
    assert!(service.has_sent_an_item());
    let interrupt = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .stderr(Stdio::null())
        .status();
    assert!(interrupt.unwrap().success());
    assert_eq!(ended(child).code(), 130);
}
