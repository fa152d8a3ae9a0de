//! A server on several runtimes of one thread each.

use std::{sync::Arc, thread};

use rsock::{
    Client, Error, Payload, PayloadExt, Peer, Request, Responder, ResumeLimits, Runtimes, Server,
    SessionEvent,
};
use rsock_tests::{cutter::Cutter, link::free_path, process::Process};
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

use crate::resume::{Events, within};

/// Answers with the name of the thread that served it.
struct WhichThread;

impl Responder for WhichThread {
    async fn request_response(self: Arc<Self>, _: Request) -> Result<Payload, Error> {
        Ok(thread::current().name().unwrap_or_default().to_owned().into())
    }
}

/// A thread with a runtime, until it is dropped.
struct Core {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Core {
    fn start(name: &str) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name(name.to_owned());
        let thread = thread.spawn(move || {
            // Dropping the sender stops it.
            let _ = runtime.block_on(stopped);
        });
        Self { handle, stop: Some(stop), thread: Some(thread.expect("a thread")) }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().expect("it is dropped once").join().expect("it does not panic");
    }
}

async fn serve(runtimes: &Runtimes) -> Vec<String> {
    let unix = format!("unix:{}", free_path().display());
    let server = Server::builder()
        .runtimes(runtimes.clone())
        .resume(ResumeLimits::default(), 100)
        .bind(&["tcp://127.0.0.1:0", "ws://127.0.0.1:0/rsocket", &unix])
        .await
        .expect("free ports");
    let uris = server.addresses();
    tokio::spawn(server.serve(async |_: Peer| Ok(WhichThread)).into_future());
    uris
}

async fn thread_of(client: &Client) -> Vec<u8> {
    within(client.request_response("")).await.expect("a reply").data.to_vec()
}

#[tokio::test]
async fn connections_are_shared_out_and_each_stays_on_its_thread() {
    let cores = ["first", "second"].map(Core::start);
    let runtimes = Runtimes::new(cores.each_ref().map(|core| core.handle.clone()));
    let uris = serve(&runtimes).await;
    let mut clients = Vec::new();
    for uri in uris.iter().cycle().take(8) {
        let client = Client::connect(uri).await.expect("a connection");
        let thread = thread_of(&client).await;
        clients.push((client, thread));
    }
    assert_eq!(runtimes.connections(), [(4, 4); 2]);
    for name in ["first", "second"] {
        let served = clients.iter().filter(|(_, thread)| thread == name.as_bytes());
        assert_eq!(served.count(), 4);
    }
    for (client, thread) in &clients {
        for _ in 0..10 {
            assert_eq!(thread_of(client).await, *thread);
        }
    }
}

/// The socket that the session goes on on was taken by another runtime, which is not needed any more.
#[tokio::test]
async fn resume_14_a_client_that_comes_back_on_another_runtime_goes_on_on_its_own() {
    for index in 0..3 {
        let mut cores = ["first", "second"].map(|name| Some(Core::start(name)));
        let handles = cores.iter().flatten().map(|core| core.handle.clone());
        let runtimes = Runtimes::new(handles);
        let uri = serve(&runtimes).await.swap_remove(index);
        let events = Events::default();
        let cutter = Cutter::start(&uri, []).await;
        let client = Client::builder().resume(events.resume()).connect(cutter.uri()).await;
        let client = client.expect("a connection");
        let own = thread_of(&client).await;
        cutter.cut();
        // Where there is a connection already, the next one is not placed.
        assert_eq!(thread_of(&client).await, own);
        assert_eq!(events.count(&SessionEvent::Resumed), 1);
        let totals = runtimes.connections().into_iter().map(|(_, total)| total);
        assert!(totals.eq([1, 1]));
        let other = usize::from(own == b"first");
        cores[other] = None;
        for _ in 0..10 {
            assert_eq!(thread_of(&client).await, own);
        }
        within(client.close()).await;
    }
}

#[tokio::test]
async fn rsockd_with_a_runtime_for_each_core_takes_a_session_up_again_on_either() {
    for index in 0..2 {
        let server = Process::rsockd_with(&["--runtime=per-core", "--workers=2"]).await;
        let events = Events::default();
        let cutter = Cutter::start(&server.uris[index], []).await;
        let client = Client::builder().resume(events.resume()).connect(cutter.uri()).await;
        let client = client.expect("a connection");
        for cuts in 1..=10 {
            let echo = Payload::new(format!("echo {cuts}")).route("echo").expect("short");
            let reply = within(client.request_response(echo)).await.expect("a reply");
            assert_eq!(reply.data, format!("echo {cuts}"));
            cutter.cut();
        }
        let status = Payload::new("").route("status").expect("short");
        let status = within(client.request_response(status)).await.expect("a reply");
        let status = String::from_utf8(status.data.to_vec()).expect("JSON");
        let (_, cores) = status.split_once("\"cores\":").expect("figures of each core");
        let totals = cores.split("\"total\":").skip(1).map(|rest| {
            let digits = rest.find(|it: char| !it.is_ascii_digit()).unwrap_or(rest.len());
            rest[..digits].parse::<u32>().expect("a number")
        });
        let totals: Vec<_> = totals.collect();
        assert!(totals.len() == 2 && !totals.contains(&0), "{status}");
        assert_eq!(totals.iter().sum::<u32>(), 11, "{status}");
        assert_eq!(events.count(&SessionEvent::Resumed), 10);
        within(client.close()).await;
    }
}
