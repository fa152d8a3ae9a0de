//! `rsockd` itself: what it prints, how it starts and how it stops.

#![expect(clippy::unwrap_used, reason = "a test fails where it panics, its helpers included")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio},
};

use futures_util::{StreamExt, TryStreamExt, stream};
use rsock::{Client, Payload, PayloadExt};

fn rsockd(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rsockd"));
    command.args(flags).env_remove("RSOCKD_LOG").stdin(Stdio::null());
    command
}

/// A service at work on free ports; killed if its test fails.
struct Running {
    process: Child,
    stdout: Option<BufReader<ChildStdout>>,
    stderr: Option<BufReader<ChildStderr>>,
    addresses: Vec<String>,
}

impl Running {
    fn start(flags: &[&str]) -> Self {
        let listen = ["--listen=tcp://127.0.0.1:0", "--listen=ws://127.0.0.1:0/rsocket"];
        Self::of(rsockd(&listen).args(flags), listen.len())
    }

    /// With this command, which makes it listen at so many addresses.
    fn of(command: &mut Command, listeners: usize) -> Self {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let mut addresses = Vec::new();
        for _ in 0..listeners {
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            addresses.push(line.strip_prefix("listening on ").unwrap().trim_end().to_owned());
        }
        Self { process, stdout: Some(stdout), stderr: Some(stderr), addresses }
    }

    #[cfg(unix)]
    fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    /// Reads the log up to a line with this text, which is returned.
    fn wait_for_log(&mut self, text: &str) -> String {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            let stderr = self.stderr.as_mut().unwrap();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "the log ended");
        }
        line
    }

    /// Its exit code, and what was left to read of stdout and stderr.
    fn end(mut self) -> (Option<i32>, String, String) {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        self.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (self.process.wait().unwrap().code(), stdout, stderr)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended, as it should.
        let _ = self.process.kill();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn it_says_where_it_listens_and_stops_cleanly() {
    for signal in ["-TERM", "-INT"] {
        let service = Running::start(&[]);
        let uri = &service.addresses[0];
        for uri in &service.addresses {
            let client = Client::connect(uri).await.unwrap();
            assert_eq!(client.request_response("hello").await.unwrap().data, "hello");
        }
        let try_it = format!("rsock stream {uri} -r range");
        service.signal(signal);
        let (code, stdout, stderr) = service.end();
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stdout.contains(&try_it), "{stdout}");
        assert!(stderr.contains("stopped"), "{stderr}");
    }
}

/// On a terminal and elsewhere, whatever its width.
#[test]
fn help_fits_100_columns() {
    for (help, columns) in [("-h", "80"), ("-h", "250"), ("--help", "80"), ("--help", "250")] {
        let shown = text(&rsockd(&[help]).env("COLUMNS", columns).output().unwrap().stdout);
        let longest = shown.lines().max_by_key(|line| line.chars().count()).unwrap();
        assert!(longest.chars().count() <= 100, "{help}: {longest}");
        assert!(!shown.contains('\x1b'), "coloured, and not on a terminal");
        assert!(shown.contains("a number alone is seconds"), "{shown}");
    }
}

/// Their senders do not hear of it: the log does, a few times, and the status.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn fire_and_forgets_that_fail_are_logged_and_counted() {
    let service = Running::start(&["--max-warnings=2"]);
    let client = Client::connect(&service.addresses[0]).await.unwrap();
    let to = |route: &str| Payload::new("x").route(route).unwrap();
    for _ in 0..9 {
        client.fire_and_forget(to("nope")).await.unwrap();
    }
    client.fire_and_forget(to("echo")).await.unwrap();
    let status = client.request_response(to("status")).await.unwrap();
    assert!(text(&status.data).contains("\"fire_and_forget\":{\"taken\":1,\"failed\":9,"));
    client.close().await;
    service.signal("-TERM");
    let (_, _, log) = service.end();
    let line = "INFO rsock::router: a fire-and-forget request failed: REJECTED: no route \"nope\"";
    assert_eq!(log.matches(line).count(), 2, "{log}");
    assert!(log.contains("7 more fire-and-forget requests failed within 10 s"), "{log}");
}

/// What cannot be listened on, and what is wrong with it, is told before anything is announced.
#[test]
fn addresses_that_nobody_could_open_are_refused() {
    for (uri, expected) in [
        ("ws://127.0.0.1:0/a b", "' ', which is written %20"),
        ("ws://127.0.0.1:0/x#y", "has no fragment"),
        ("ws://127.0.0.1:0/é", "which is written %C3%A9"),
        ("ws://ann:s3cret@127.0.0.1:0/", "has no credentials"),
        ("tcp://ann:s3cret@127.0.0.1:0", "has no credentials"),
        ("http://ann:s3cret@127.0.0.1:0", "is not supported"),
        ("tcp://127.0.0.1", "has no port"),
    ] {
        let refused = rsockd(&["--listen", uri]).output().unwrap();
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{uri}: {said}");
        assert!(said.contains(expected), "{uri}: {said}");
        assert!(!said.contains("s3cret"), "{uri}: {said}");
        assert!(refused.stdout.is_empty(), "{uri}");
    }
}

/// Who takes the TCP port for another is named in the log, and so is what to do.
#[test]
fn who_speaks_something_else_to_the_tcp_port_is_named() {
    let mut service = Running::start(&["--max-warnings=3"]);
    let address = service.addresses[0].strip_prefix("tcp://").unwrap().to_owned();
    for (words, named) in [
        (&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], "speaks HTTP"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "speaks TLS"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "speaks the PROXY protocol"),
    ] {
        let mut socket = TcpStream::connect(&address).unwrap();
        socket.write_all(words).unwrap();
        service.wait_for_log(named);
    }
}

/// SETUP, and a request whose answer has 200 bytes, with length prefixes.
fn asking_for_200_bytes() -> Vec<u8> {
    let setup = [
        &[0, 0, 22, 0, 0, 0, 0, 0x04, 0, 0, 1, 0, 0, 0, 0, 0x27, 0x10, 0, 0, 0x75, 0x30][..],
        &[1, b'm', 1, b'd'],
    ];
    let request = [&[0, 0, 206, 0, 0, 0, 1, 0x10, 0][..], &[b'x'; 200]];
    [setup.concat(), request.concat()].concat()
}

/// Whoever cannot take fragments may close its socket with some of them unread, which resets it.
#[test]
fn a_client_that_ends_right_behind_fragments_is_named_with_the_flag_that_avoids_them() {
    let mut service = Running::start(&["--mtu=64", "--log=debug"]);
    let address = service.addresses[0].strip_prefix("tcp://").unwrap().to_owned();
    let ask = || {
        let mut socket = TcpStream::connect(&address).unwrap();
        socket.write_all(&asking_for_200_bytes()).unwrap();
        socket
    };
    // This one has read all that it has asked for.
    let mut socket = ask();
    let mut answer = [0; 200 + 4 * (3 + 6)];
    socket.read_exact(&mut answer).unwrap();
    drop(socket);
    let line = service.wait_for_log("connection ended");
    assert!(line.contains("DEBUG") && !line.contains("fragments"), "{line}");

    let socket = ask();
    assert!(socket.peek(&mut answer).unwrap() > 0);
    drop(socket);
    let line = service.wait_for_log("connection ended");
    let told = "right before, an answer or item had left in 4 fragments of at most 64 bytes";
    assert!(line.contains(" WARN ") && line.contains(told) && line.contains("--mtu"), "{line}");
}

#[test]
fn who_may_have_the_port_is_told_where_it_is_in_use() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let refused = rsockd(&["--listen", &format!("tcp://127.0.0.1:{port}")]).output().unwrap();
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("sport = :{port}")), "{said}");
    assert!(said.contains("--listen tcp://127.0.0.1:0"), "{said}");
}

/// What is left of a service that was killed is in nobody's way.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_is_served_removed_at_the_end_and_replaced_after_a_kill() {
    use std::os::unix::fs::PermissionsExt;

    let path = std::env::temp_dir().join(format!("rsockd-{}.sock", std::process::id()));
    let uri = format!("unix:{}", path.display());
    let start = || {
        let flags = ["--listen", &uri, "--unix-mode=0660"];
        let service = Running::of(rsockd(&flags).arg("--runtime=shared"), 1);
        assert_eq!(service.addresses, [uri.as_str()]);
        service
    };
    let ask = async || {
        let client = Client::connect(&uri).await.unwrap();
        assert_eq!(client.request_response("hello").await.unwrap().data, "hello");
    };
    let mut service = start();
    ask().await;
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o660);
    let second = rsockd(&["--listen", &uri]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = format!("cannot listen: {uri}: already in use: somebody listens on it");
    assert!(text(&second.stderr).contains(&said), "{}", text(&second.stderr));
    ask().await;
    service.process.kill().unwrap();
    service.end();
    assert!(path.exists());
    let service = start();
    ask().await;
    service.signal("-TERM");
    let (code, stdout, stderr) = service.end();
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains(&format!("rsock stream {uri} -r range")), "{stdout}");
    assert!(!path.exists());
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn with_a_runtime_for_each_core_all_of_them_serve_and_drain() {
    let to = |route, data: String| Payload::new(data).route(route).unwrap();
    let mut service = Running::start(&["--runtime=per-core", "--workers=2"]);
    let mut clients = Vec::new();
    for (index, uri) in service.addresses.iter().cycle().take(8).enumerate() {
        let client = Client::connect(uri).await.unwrap();
        let reply = client.request_response(to("echo", index.to_string())).await.unwrap();
        assert_eq!(reply.data, index.to_string());
        client.fire_and_forget(to("echo", "gone".to_owned())).await.unwrap();
        let sent: Vec<_> = (0..1_000).map(|n| to("echo", n.to_string())).collect();
        let echoed = client.request_channel(stream::iter(sent.clone())).credit(7);
        assert_eq!(echoed.try_collect::<Vec<_>>().await.unwrap(), sent);
        let numbers = client.request_stream(to("range", r#"{"to":1000}"#.to_owned()));
        let mut numbers = numbers.credit(1);
        assert_eq!(numbers.next().await.unwrap().unwrap().data, "0");
        clients.push((client, numbers));
    }
    let status = clients[0].0.request_response(to("status", String::new())).await.unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status.data).unwrap();
    let shared_out = serde_json::json!([{"open": 4, "total": 4}, {"open": 4, "total": 4}]);
    assert_eq!(status["connections"]["cores"], shared_out);
    assert_eq!(status["connections"]["open"], 8);
    assert_eq!(status["fire_and_forget"]["taken"], 8);

    service.signal("-TERM");
    service.wait_for_log("SIGTERM: stopping");
    for (client, mut numbers) in clients {
        let mut count = 1;
        while let Some(number) = numbers.next().await {
            assert_eq!(number.unwrap().data, count.to_string());
            count += 1;
        }
        assert_eq!(count, 1_000);
        drop(client);
    }
    let (code, _, stderr) = service.end();
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("stopped"), "{stderr}");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn limits_are_those_of_all_cores_together() {
    let flags = ["--runtime=per-core", "--workers=2", "--max-connections=1"];
    let service = Running::start(&flags);
    for uri in service.addresses.iter().cycle().take(8) {
        let client = Client::connect(uri).await.unwrap();
        assert_eq!(client.request_response("hello").await.unwrap().data, "hello");
    }
    let [first, second] = [(); 2].map(|()| Client::connect(&service.addresses[0]));
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    // Whichever is served first makes room for the other.
    let ask = async |client: Client| {
        assert_eq!(client.request_response("at last").await.unwrap().data, "at last");
        client.close().await;
    };
    tokio::join!(ask(first), ask(second));
    drop(service);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_stops_it_at_once() {
    let mut service = Running::start(&[]);
    let client = Client::connect(&service.addresses[0]).await.unwrap();
    let endless = Payload::new("").route("range").unwrap();
    let mut endless = client.request_stream(endless).credit(1);
    endless.next().await.unwrap().unwrap();
    service.signal("-TERM");
    service.wait_for_log("SIGTERM: stopping");
    service.signal("-INT");
    let (code, _, stderr) = service.end();
    assert_eq!(code, Some(130), "{stderr}");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn the_log_shows_frames_at_trace() {
    let service = Running::start(&["--log=info,rsock=trace"]);
    let client = Client::connect(&service.addresses[1]).await.unwrap();
    client.request_response("hello").await.unwrap();
    service.signal("-TERM");
    let (code, _, stderr) = service.end();
    assert_eq!(code, Some(0), "{stderr}");
    for expected in [
        "rsock::frames: in  SETUP ",
        "in  REQUEST_RESPONSE stream=1 5 B",
        "out PAYLOAD stream=1 [NC] 5 B",
    ] {
        assert!(stderr.contains(expected), "{expected} in {stderr}");
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_stops_nothing() {
    let request = |data: &str, route| Payload::new(data.to_owned()).route(route).unwrap();
    for signals in 1..=2 {
        let mut service = Running::start(&["--log=trace"]);
        let client = Client::connect(&service.addresses[0]).await.unwrap();
        let mut endless = client.request_stream(request("", "range")).credit(1);
        endless.next().await.unwrap().unwrap();
        // More lines than the pipe and the process hold, until some are left out.
        let left_out = async || {
            let status = client.request_response(request("", "status")).await.unwrap();
            let status: serde_json::Value = serde_json::from_slice(&status.data).unwrap();
            status["log"]["lines_left_out"].as_u64().unwrap()
        };
        while left_out().await == 0 {
            let echoes = (0..1_000).map(|_| client.request_response(request("x", "echo")));
            futures_util::future::try_join_all(echoes).await.unwrap();
        }
        assert!(endless.next().await.unwrap().is_ok(), "a stream under way goes on");
        service.signal("-TERM");
        // Requests are refused as soon as it has heard the signal.
        while client.request_response(request("x", "echo")).await.is_ok() {}
        if signals == 2 {
            service.signal("-TERM");
        } else {
            drop(endless);
        }
        let code = service.process.wait().unwrap().code();
        assert_eq!(code, Some(if signals == 2 { 143 } else { 0 }));
    }
}

/// Connects, says what is not RSocket, and reads to the end.
fn offend(address: &str) {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.write_all(b"\0\0\x03abc").unwrap();
    // It is told why, if the reset behind that leaves time to.
    let _ = socket.read_to_end(&mut Vec::new());
}

#[cfg(unix)]
#[test]
fn warnings_about_one_address_are_summed_up() {
    let service = Running::start(&["--max-warnings=3"]);
    let address = service.addresses[0].strip_prefix("tcp://").unwrap();
    for _ in 0..30 {
        offend(address);
    }
    service.signal("-TERM");
    let (code, _, stderr) = service.end();
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(stderr.matches("connection ended: ").count(), 3, "{stderr}");
    let sum = "27 more connections ended by violations within 10 s peer=127.0.0.1";
    assert!(stderr.contains(sum), "{stderr}");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn files_are_raised_to_their_limit_and_connections_fit_them() {
    let limited = |limits: &str, flags: &str| {
        let rsockd = env!("CARGO_BIN_EXE_rsockd");
        let run = format!("{limits}; exec {rsockd} --listen=tcp://127.0.0.1:0 {flags}");
        let mut command = Command::new("sh");
        command.args(["-c", &run]).env_remove("RSOCKD_LOG").stdin(Stdio::null());
        Running::of(&mut command, 1)
    };
    // Fewer than the connections, which are all served.
    let service = limited("ulimit -Sn 20", "--max-connections=60");
    let mut clients = Vec::new();
    for _ in 0..60 {
        let client = Client::connect(&service.addresses[0]).await.unwrap();
        assert_eq!(client.request_response("hello").await.unwrap().data, "hello");
        clients.push(client);
    }
    drop((clients, service));

    let mut service = limited("ulimit -n 60", "--max-connections=1000 --workers=1");
    service.wait_for_log("may open 60 files, which is too few for --max-connections 1000");
    let mut clients = Vec::new();
    // Those beyond wait, and nothing fails.
    for _ in 0..40 {
        clients.push(Client::connect(&service.addresses[0]).await.unwrap());
    }
    let status = Payload::new("").route("status").unwrap();
    let status = clients[0].request_response(status).await.unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status.data).unwrap();
    assert_eq!(status["connections"]["failed_accepts"], 0);
    // Files that run out all the same are told of once.
    let id = service.process.id();
    rlimit::prlimit(id as i32, rlimit::Resource::NOFILE, Some((10, 10)), None).unwrap();
    clients.drain(1..10);
    let address = service.addresses[0].strip_prefix("tcp://").unwrap();
    let _one_more = TcpStream::connect(address).unwrap();
    service.wait_for_log("cannot accept connections beside the open ones: allow more open files");
    assert_eq!(clients[0].request_response("hello").await.unwrap().data, "hello");
    service.signal("-TERM");
    let (code, _, stderr) = service.end();
    assert_eq!(code, Some(0), "{stderr}");
    assert!(!stderr.contains("cannot accept"), "{stderr}");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn an_announcement_that_nobody_reads_stops_nothing() {
    use std::os::{fd::OwnedFd, unix::net::UnixStream};

    let (mut full, mut reader) = UnixStream::pair().unwrap();
    full.set_nonblocking(true).unwrap();
    let mut filled = 0;
    while let Ok(written) = full.write(&[b'.'; 4_096]) {
        filled += written;
    }
    full.set_nonblocking(false).unwrap();
    let mut process = rsockd(&["--listen=tcp://127.0.0.1:0"])
        .stdout(OwnedFd::from(full))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(process.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("listening on ") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "the log ended");
    }
    let uri = line.trim_end().split("listening on ").last().unwrap();
    let client = Client::connect(uri).await.unwrap();
    assert_eq!(client.request_response("hello").await.unwrap().data, "hello");
    client.close().await;
    let id = process.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert_eq!(process.wait().unwrap().code(), Some(0));
    // It did hang in the pipe.
    let mut read = Vec::new();
    reader.read_to_end(&mut read).unwrap();
    assert_eq!(read.len(), filled);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn neither_a_hangup_nor_a_reader_that_leaves_ends_it() {
    let mut service = Running::start(&[]);
    let client = Client::connect(&service.addresses[0]).await.unwrap();
    service.signal("-HUP");
    service.wait_for_log("reload: the settings are as they were");
    // The ends of its pipes that are read; what it writes now is lost.
    drop((service.stdout.take(), service.stderr.take()));
    assert_eq!(client.request_response("hello").await.unwrap().data, "hello");
    service.signal("-TERM");
    assert_eq!(service.process.wait().unwrap().code(), Some(0));
}

/// A file of settings; removed when its test is over.
struct Settings(std::path::PathBuf);

impl Settings {
    fn new(name: &str, text: &str) -> Self {
        let file = format!("rsockd-{name}-{}.toml", std::process::id());
        let settings = Self(std::env::temp_dir().join(file));
        settings.become_text(text);
        settings
    }

    fn become_text(&self, text: &str) {
        std::fs::write(&self.0, text).unwrap();
    }

    fn flag(&self) -> String {
        format!("--config={}", self.0.display())
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn settings_are_read_anew_all_of_them_or_none() {
    let settings = Settings::new("reload", "max_streams = 1");
    let mut service = Running::start(&[&settings.flag()]);
    let uri = service.addresses[0].clone();
    // Whether a second stream of a connection is let in beside one that is open.
    let takes_two = async |client: &Client| {
        let _open = client.request_stream(Payload::new("").route("clock").unwrap());
        let mut first = std::pin::pin!(_open);
        first.next().await.unwrap().unwrap();
        client.request_response("hello").await.is_ok()
    };
    let old = Client::connect(&uri).await.unwrap();
    assert!(!takes_two(&old).await);
    let hang_up = |service: &mut Running, text: &str, expected: &str| {
        settings.become_text(text);
        service.signal("-HUP");
        service.wait_for_log(expected)
    };
    // One thing is wrong: nothing changes.
    hang_up(&mut service, "max_streams = 2\nmtu = 1", "reload: nothing was changed");
    assert!(!takes_two(&Client::connect(&uri).await.unwrap()).await);
    hang_up(&mut service, "max_streams = 2", "reload: changed for new connections: max_streams");
    assert!(takes_two(&Client::connect(&uri).await.unwrap()).await);
    assert!(!takes_two(&old).await);
    // At once.
    let live = "max_streams = 2\nlog = 'info,rsock=debug'\nmax_warnings = 7\nmax_topics = 5";
    hang_up(&mut service, live, "reload: changed: max_warnings, log");
    service.wait_for_log("reload: max_topics changed: that takes a restart");
    drop(Client::connect(&uri).await.unwrap());
    service.wait_for_log("DEBUG rsock");
    service.signal("-TERM");
    assert_eq!(service.end().0, Some(0));
}

/// As a unit of `Type=notify-reload` has it.
#[cfg(target_os = "linux")]
#[test]
fn systemd_is_told_when_it_is_ready_reloads_and_stops() {
    use std::os::unix::net::UnixDatagram;

    let place = std::env::temp_dir().join(format!("rsockd-notify-{}", std::process::id()));
    let _ = std::fs::remove_file(&place);
    let socket = UnixDatagram::bind(&place).unwrap();
    let told = || {
        let mut news = [0; 256];
        let read = socket.recv(&mut news).unwrap();
        text(&news[..read])
    };
    let listen = ["--listen=tcp://127.0.0.1:0"];
    let service = Running::of(rsockd(&listen).env("NOTIFY_SOCKET", &place), listen.len());
    assert_eq!(told().trim_end(), "READY=1");
    service.signal("-HUP");
    let reloading = told();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(told().trim_end(), "READY=1");
    service.signal("-TERM");
    assert_eq!(told().trim_end(), "STOPPING=1");
    assert_eq!(service.end().0, Some(0));
    std::fs::remove_file(&place).unwrap();
}

#[cfg(unix)]
#[test]
fn the_log_may_be_an_object_a_line() {
    let service = Running::start(&["--log-format=json", "--log=debug"]);
    drop(TcpStream::connect(&service.addresses[0]["tcp://".len()..]).unwrap());
    // A SETUP, and a frame that no client may send: KEEPALIVE of four bytes.
    let mut socket = TcpStream::connect(&service.addresses[0]["tcp://".len()..]).unwrap();
    let setup = b"\0\0\0\0\x04\0\0\x01\0\0\0\0\x4e\x20\0\x01\x5f\x90\x03a/b\x03a/b";
    let wrong = b"\0\0\0\0\x0c\0\0\0\0\0";
    for frame in [&setup[..], wrong] {
        let length = u32::try_from(frame.len()).unwrap().to_be_bytes();
        socket.write_all(&[&length[1..], frame].concat()).unwrap();
    }
    socket.read_to_end(&mut Vec::new()).unwrap();
    service.signal("-TERM");
    let (code, _, stderr) = service.end();
    assert_eq!(code, Some(0), "{stderr}");
    let events =
        stderr.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let events: Vec<_> = events.collect();
    let is_start = |event: &&serde_json::Value| {
        event["message"].as_str().is_some_and(|text| text.starts_with("listening on"))
    };
    let started = events.iter().find(is_start).unwrap();
    assert_eq!((&started["level"], &started["target"]), (&"INFO".into(), &"rsockd".into()));
    assert!(started["timestamp"].is_string());
    let ended = events.iter().find(|event| event["level"] == "WARN").unwrap();
    let peer = socket.local_addr().unwrap().to_string();
    assert_eq!((&ended["peer"], &ended["conn"]), (&peer.into(), &1.into()), "{ended}");
}

#[test]
fn wrong_settings_are_code_78_and_a_line_each() {
    let settings = Settings::new("wrong", "max_conections = 5\nmtu = 1\n");
    for command in [&[][..], &["config", "check"], &["config", "show"]] {
        let Output { status, stdout, stderr } =
            rsockd(&[&settings.flag()]).args(command).output().unwrap();
        assert_eq!((status.code(), text(&stdout)), (Some(78), String::new()));
        let stderr = text(&stderr);
        assert_eq!(stderr.lines().count(), 2, "{stderr}");
        assert!(stderr.contains(".toml:1:1: unknown key \"max_conections\", is it"), "{stderr}");
    }
    let missing = rsockd(&["--config=/nowhere/rsockd.toml"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(78));
    assert!(text(&missing.stderr).starts_with("/nowhere/rsockd.toml: cannot be read: "));
    let variable = rsockd(&["config", "check"]).env("RSOCKD_MTU", "1").output().unwrap();
    assert_eq!(variable.status.code(), Some(78));
    settings.become_text("topic = [{ pattern = 'a.>' }, { pattern = 'a.>' }]");
    let twice = rsockd(&[&settings.flag(), "config", "check"]).output().unwrap();
    assert_eq!(twice.status.code(), Some(78), "{}", text(&twice.stderr));
    settings.become_text("");
    let right = rsockd(&[&settings.flag(), "config", "check"]).output().unwrap();
    assert!(right.status.success() && text(&right.stdout).contains("nothing is wrong"));
}

#[test]
fn a_failed_start_is_one_line_and_its_code_says_whether_it_was_asked_wrongly() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("tcp://{}", taken.local_addr().unwrap());
    let authority = &taken["tcp://".len()..];
    let linux = cfg!(target_os = "linux");
    let runtimes = ["--runtime=shared", "--runtime=per-core"].into_iter().take(1 + linux as usize);
    for (flag, code, expected) in [
        (format!("--listen={taken}"), 1, authority),
        ("--listen=http://localhost".to_owned(), 2, "\"http\" is not supported"),
        ("--listen=localhost:1".to_owned(), 2, "no scheme"),
        ("--default-route=ecco".to_owned(), 2, "no default route \"ecco\""),
    ] {
        for runtime in runtimes.clone() {
            let Output { status, stdout, stderr } = rsockd(&[&flag, runtime]).output().unwrap();
            let stderr = text(&stderr);
            assert_eq!(status.code(), Some(code), "{stderr}");
            assert!(stdout.is_empty());
            assert_eq!(stderr.lines().count(), 1, "{stderr}");
            assert!(stderr.starts_with("rsockd: ") && stderr.contains(expected), "{stderr}");
        }
    }
}

#[test]
fn wrong_flags_are_code_2() {
    for flag in ["--lisen=x", "--max-frame=1", "--log=loud", "file"] {
        let Output { status, stdout, stderr } = rsockd(&[flag]).output().unwrap();
        assert_eq!(status.code(), Some(2), "{flag}");
        assert!(stdout.is_empty() && text(&stderr).contains("error: "), "{flag}");
    }
}

#[test]
fn it_tells_its_version_and_its_flags() {
    let version = text(&rsockd(&["--version"]).output().unwrap().stdout);
    assert_eq!(version, concat!("rsockd ", env!("CARGO_PKG_VERSION"), "\n"));
    let help = text(&rsockd(&["--help"]).output().unwrap().stdout);
    for expected in ["--listen", "tcp://127.0.0.1:7878 ws://127.0.0.1:7879/rsocket", "RSOCKD_"] {
        assert!(help.contains(expected), "{help}");
    }
}
