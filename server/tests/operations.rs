//! The service as those see it who run it: replaced under load, started by systemd, looked at by monitors.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails where it panics, its helpers included")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::{
        fd::OwnedFd,
        unix::net::{UnixDatagram, UnixListener},
    },
    process::{self, Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::join_all};
use rsock::{
    Client, CloseReason, Error, ErrorCode, Payload, PayloadExt, Sent, Side, Window,
    metadata::{Features, Notice},
};
use tokio::sync::watch;

/// A service on a free port; killed if its test fails.
struct Running {
    process: Child,
    uri: String,
    /// The host and port for those who run it.
    admin: Option<String>,
}

fn rsockd(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rsockd"));
    command.args(flags).env_remove("RSOCKD_LOG");
    command
}

impl Running {
    fn start(flags: &[&str]) -> Self {
        let mut command = rsockd(&["--listen=tcp://127.0.0.1:0"]);
        Self::of(command.args(flags).stdin(Stdio::null()))
    }

    fn of(command: &mut Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut line = || lines.next().unwrap().unwrap();
        let uri = line().strip_prefix("listening on ").unwrap().to_owned();
        let admin = line().strip_prefix("health and figures at http://").map(str::to_owned);
        Self { process, uri, admin }
    }

    /// The answer to a GET at the address for those who run it: its status and its body.
    fn get(&self, path: &str) -> (u16, String) {
        let mut socket = TcpStream::connect(self.admin.as_ref().unwrap()).unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn terminate(&self) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    /// It has ended as it should.
    fn ended(mut self) {
        let mut log = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        assert!(self.process.wait().unwrap().success(), "{log}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended, as it should.
        let _ = self.process.kill();
    }
}

fn to(route: &str) -> Payload {
    Payload::new("hello").route(route).unwrap()
}

/// Whether the server has said CONNECTION_CLOSE, and nothing worse.
fn is_close(reason: &CloseReason) -> bool {
    matches!(
        reason,
        CloseReason::Finished(Side::Peer)
            | CloseReason::Error { by: Side::Peer, code: ErrorCode::CONNECTION_CLOSE, .. }
    )
}

/// A client that connects elsewhere when it is told that its server stops.
struct Mover {
    newest: watch::Receiver<Client>,
}

impl Mover {
    async fn connect(uri: &str, next: &str) -> Self {
        let (tell, mut told) = tokio::sync::mpsc::channel(8);
        let client = Client::builder()
            .heed(Features::DRAIN, move |notice| {
                // There is one.
                let _ = tell.try_send(notice);
            })
            .connect(uri)
            .await
            .unwrap();
        let (moved, newest) = watch::channel(client);
        let next = next.to_owned();
        tokio::spawn(async move {
            while let Some(notice) = told.recv().await {
                let Notice::Drain { requests, .. } = notice else { continue };
                assert!(requests >= Duration::from_millis(500), "{requests:?}: no time to move");
                let before = moved.send_replace(Client::connect(&next).await.unwrap());
                // What is open on it ends there.
                before.close().await;
            }
        });
        Self { newest }
    }

    fn client(&self) -> Client {
        self.newest.borrow().clone()
    }
}

/// A request of one who got hold of a client just before it was closed for another is asked of that.
async fn ask(mover: &Mover) -> Result<Payload, Error> {
    loop {
        let client = mover.client();
        match client.request_response(to("echo")).await {
            Err(Error::Closed {
                reason: CloseReason::Finished(Side::Local),
                sent: Sent::Never,
                ..
            }) => {}
            outcome => return outcome,
        }
    }
}

/// Whoever heeds the notice loses no request; who does not is told that the connection closes, and nothing
/// worse.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_replaced_under_load() {
    let flags = ["--drain-spread=2s", "--drain-limit=20s"];
    let (before, after) = (Running::start(&flags), Running::start(&flags));
    let movers = join_all((0..8).map(|_| Mover::connect(&before.uri, &after.uri))).await;
    let movers: Vec<_> = movers.into_iter().map(Arc::new).collect();
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let load = movers.iter().flat_map(|mover| (0..4).map(move |_| Arc::clone(mover)));
    let load: Vec<_> = load
        .map(|mover| {
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            tokio::spawn(async move {
                while !stop.load(Relaxed) {
                    assert_eq!(ask(&mover).await.unwrap().data, "hello");
                    asked.fetch_add(1, Relaxed);
                }
            })
        })
        .collect();
    let others: Vec<_> = join_all((0..8).map(|_| Client::connect(&before.uri))).await;
    let others: Vec<_> = others
        .into_iter()
        .map(|client| {
            let client = client.unwrap();
            tokio::spawn(async move {
                let error = loop {
                    if let Err(error) = client.request_response(to("echo")).await {
                        break error;
                    }
                };
                (error, client.closed().await)
            })
        })
        .collect();
    while asked.load(Relaxed) < 1_000 {
        tokio::task::yield_now().await;
    }
    before.terminate();
    for other in others {
        let (error, closed) = other.await.unwrap();
        assert!(is_close(&closed), "{closed:?}");
        match &error {
            Error::Rejected(why) => assert!(why.contains("stopping"), "{why}"),
            Error::Closed { reason, .. } => assert!(is_close(reason), "{reason:?}"),
            error => panic!("{error}"),
        }
    }
    tokio::task::spawn_blocking(|| before.ended()).await.unwrap();
    let until = asked.load(Relaxed) + 1_000;
    while asked.load(Relaxed) < until {
        assert!(load.iter().all(|task| !task.is_finished()), "a request was lost");
        tokio::task::yield_now().await;
    }
    stop.store(true, Relaxed);
    for task in load {
        task.await.unwrap();
    }
    after.terminate();
    tokio::task::spawn_blocking(|| after.ended()).await.unwrap();
}

/// Subscriptions never end by themselves: their clients are sent elsewhere one after the other. With
/// `RSOCK_TESTS_FULL` there are 10,000.
#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_close_spread_over_the_drain() {
    let is_full = std::env::var_os("RSOCK_TESTS_FULL").is_some();
    let (count, spread) = if is_full { (10_000, 5) } else { (300, 3) };
    let flag = format!("--drain-spread={spread}s");
    let service = Running::start(&[&flag, "--max-newcomers=20000"]);
    let mut subscribed = Vec::new();
    for _ in 0..count {
        let client = Client::connect(&service.uri).await.unwrap();
        let mut items = client.request_stream(Payload::new("").route("topic.room").unwrap());
        // It has begun when its first item, which says where, is there; or is behind this.
        client.request_response(to("echo")).await.unwrap();
        subscribed.push(tokio::spawn(async move {
            while let Some(Ok(_)) = items.next().await {}
            let at = Instant::now();
            (at, client.closed().await)
        }));
    }
    let begun = Instant::now();
    service.terminate();
    let mut ends = Vec::new();
    for subscription in subscribed {
        let (at, closed) = subscription.await.unwrap();
        assert!(is_close(&closed), "{closed:?}");
        ends.push(at - begun);
    }
    tokio::task::spawn_blocking(|| service.ended()).await.unwrap();
    ends.sort();
    let within = |from: u32, to: u32| {
        let times = Duration::from_secs(spread) * from / 10..Duration::from_secs(spread) * to / 10;
        ends.iter().filter(|end| times.contains(end)).count()
    };
    let tenths: Vec<_> = (0..10).map(|tenth| within(tenth, tenth + 1)).collect();
    if is_full {
        println!("ended by tenths of {spread} s: {tenths:?}, the last after {:?}", ends.last());
    }
    // However slow the machine is, they do not end together.
    assert!(tenths.iter().all(|some| *some <= count / 2), "{tenths:?}");
    assert!(ends[count - 1] >= Duration::from_secs(spread) * 8 / 10, "{:?}", ends.last());
}

/// It says how the drain goes until that is over, and alone has figures.
#[tokio::test(flavor = "multi_thread")]
async fn those_who_run_it_have_an_address_of_their_own() {
    let flags = ["--admin-listen=http://127.0.0.1:0", "--drain-limit=60s"];
    let mut service = Running::start(&flags);
    let client = Client::connect(&service.uri).await.unwrap();
    let unread = Payload::new(r#"{"to":1000}"#).route("range").unwrap();
    let mut open = client.request_stream(unread).window(Window::new(1).manual());
    open.next().await.unwrap().unwrap();
    assert_eq!(service.get("/readyz"), (200, "ready\n".to_owned()));
    let (status, figures) = service.get("/metrics");
    assert!(status == 200 && figures.contains("\nrsockd_open_connections 1\n"), "{figures}");
    assert_eq!(service.get("/-").0, 404);
    service.terminate();
    while service.get("/readyz") != (503, "draining\n".to_owned()) {}
    assert_eq!(service.get("/healthz").0, 200);
    assert!(service.get("/metrics").1.contains("\nrsockd_draining 1\n"));
    // Once more, and it does not wait for the stream.
    service.terminate();
    assert_eq!(service.process.wait().unwrap().code(), Some(143));
    assert!(open.next().await.unwrap().is_err());
}

/// Whoever watches it learns that a file of settings has been wrong since.
#[test]
fn reloads_are_counted_by_what_came_of_them() {
    let file = std::env::temp_dir().join(format!("rsockd-reloads-{}.toml", process::id()));
    fs::write(&file, "max_warnings = 5\n").unwrap();
    let config = format!("--config={}", file.display());
    let service = Running::start(&[&config, "--admin-listen=http://127.0.0.1:0"]);
    let figures = |done: u32, failed: u32| {
        let success = u32::from(failed == 0);
        let expected = format!(
            "rsockd_config_reloads_total{{result=\"done\"}} {done}\n\
             rsockd_config_reloads_total{{result=\"failed\"}} {failed}\n"
        );
        let success = format!("\nrsockd_config_last_reload_success {success}\n");
        loop {
            let (_, text) = service.get("/metrics");
            if text.contains(&expected) && text.contains(&success) {
                break;
            }
        }
    };
    let hang_up = || {
        let id = service.process.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
    };
    figures(0, 0);
    hang_up();
    figures(1, 0);
    fs::write(&file, "max_warnings = \"many\"\n").unwrap();
    hang_up();
    figures(1, 1);
    fs::remove_file(&file).unwrap();
    service.terminate();
    service.ended();
}

/// A service whose standard input is a listening socket, which systemd would have passed on as its first.
fn activated(socket: &OwnedFd, name: &str, listen: &str) -> Running {
    let passed = "exec 3<&0 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", passed, "sh", env!("CARGO_BIN_EXE_rsockd"), "--listen", listen]);
    command.env("LISTEN_FDNAMES", name).env_remove("RSOCKD_LOG");
    Running::of(command.stdin(Stdio::from(socket.try_clone().unwrap())))
}

/// The socket stays while the service is replaced: a client that comes meanwhile is served by the next.
#[tokio::test(flavor = "multi_thread")]
async fn sockets_of_systemds_are_served_by_one_process_after_the_other() {
    let path = std::env::temp_dir().join(format!("rsockd-activated-{}", process::id()));
    let tcp = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
    for (socket, listen, scheme) in [
        (tcp(), "systemd:rsocket", "tcp://127.0.0.1:"),
        (tcp(), "ws+systemd:rsocket/rsocket", "ws://127.0.0.1:"),
        (UnixListener::bind(&path).unwrap().into(), "systemd:rsocket", "unix:/"),
    ] {
        let first = activated(&socket, "rsocket", listen);
        let uri = first.uri.clone();
        assert!(uri.starts_with(scheme), "{uri}");
        let client = Client::connect(&uri).await.unwrap();
        assert_eq!(client.request_response(to("echo")).await.unwrap().data, "hello");
        drop(client);
        first.terminate();
        tokio::task::spawn_blocking(|| first.ended()).await.unwrap();
        let waiting = tokio::spawn(async move {
            let client = Client::connect(&uri).await.unwrap();
            client.request_response(to("echo")).await
        });
        let second = activated(&socket, "rsocket", listen);
        assert_eq!(waiting.await.unwrap().unwrap().data, "hello");
        second.terminate();
        tokio::task::spawn_blocking(|| second.ended()).await.unwrap();
    }
    fs::remove_file(path).unwrap();
}

#[test]
fn a_socket_that_systemd_has_not_passed_on_is_named() {
    let output = rsockd(&["--listen=systemd:rsocket"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("systemd has passed on no socket of the name \"rsocket\""), "{said}");
}

/// systemd starts a service again that is silent for as long as the unit says.
#[test]
fn a_service_that_is_alive_says_so_to_the_watchdog() {
    let place = std::env::temp_dir().join(format!("rsockd-watchdog-{}", process::id()));
    // One of a test that was killed.
    let _ = fs::remove_file(&place);
    let socket = UnixDatagram::bind(&place).unwrap();
    let mut command = rsockd(&["--listen=tcp://127.0.0.1:0"]);
    command.env("NOTIFY_SOCKET", &place).env("WATCHDOG_USEC", "20000").stdin(Stdio::null());
    let service = Running::of(&mut command);
    let told = || {
        let mut news = [0; 256];
        let read = socket.recv(&mut news).unwrap();
        String::from_utf8(news[..read].to_vec()).unwrap().trim_end().to_owned()
    };
    let news: Vec<_> = (0..4).map(|_| told()).collect();
    assert_eq!(news, ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"]);
    service.terminate();
    service.ended();
    fs::remove_file(&place).unwrap();
}
