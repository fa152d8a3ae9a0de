//! Plain HTTP beside WebSockets, on one port.

use std::{sync::Arc, time::Duration};

use rsock::{
    Client, Error, HttpLimits, MemoryBudget, Peer as Other, Router, Server, ServerBuilder,
    request_response,
};
use rsock_tests::{
    http::{HttpPeer, Site},
    link::Served,
    log,
    record::record_panics,
    script::Peer,
};

use crate::resume::within;

fn limits(change: impl FnOnce(&mut HttpLimits)) -> HttpLimits {
    let mut limits = HttpLimits::default();
    change(&mut limits);
    limits
}

async fn served_with(builder: ServerBuilder) -> (Served, Site) {
    let site = Site::default();
    let handler = site.clone();
    let served = Served::with(builder.http(move |request| handler.clone().answer(request))).await;
    (served, site)
}

async fn served(limits: HttpLimits) -> (Served, Site) {
    served_with(Server::builder().http_limits(limits)).await
}

#[tokio::test]
async fn a_handler_sees_the_request_and_answers_it() {
    let (served, _) = served(HttpLimits::default()).await;
    let mut peer = HttpPeer::connect(served.ws()).await;
    let about = "GET /about?a=b&c HTTP/1.1\r\nHost: x\r\nuser-AGENT: me\r\n\r\n";
    peer.send(about).await;
    assert_eq!(peer.answer().await.text(), "true a=b&c me 127.0.0.1 http");
    // All on one connection.
    for (method, path, status, body) in [
        ("GET", "/hello", 200, "hello\n"),
        ("HEAD", "/hello", 200, ""),
        ("DELETE", "/method", 200, "DELETE"),
        ("OPTIONS", "/options", 204, ""),
        ("OPTIONS", "*", 404, "not found\n"),
        ("GET", "/items", 200, "item 0\nitem 1\nitem 2\n"),
        ("HEAD", "/items", 200, ""),
        ("GET", "/wrong-header", 500, "The answer has a header that cannot be sent.\n"),
        ("GET", "/none", 404, "not found\n"),
    ] {
        let answer = peer.ask(method, path).await;
        assert_eq!((answer.status(), answer.text()), (status, body), "{method} {path}");
    }
    let answer = peer.ask("HEAD", "/hello").await;
    assert!(answer.head.contains("content-length: 6\r\n"), "{}", answer.head);
    let body = vec![b'x'; 100_000];
    peer.send(format!("POST /shout HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len()))
        .await;
    peer.send(&body).await;
    assert_eq!(peer.answer().await.body, body.to_ascii_uppercase());
    peer.send("POST /count HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for _ in 0..3 {
        peer.send("3\r\nabc\r\n").await;
    }
    peer.send("0\r\n\r\n").await;
    assert_eq!(peer.answer().await.text(), "9");
    let reading = served.meter.read();
    assert_eq!((reading.http_requests, reading.open_http_connections), (13, 1));
    // And WebSockets beside.
    let client = Client::connect(served.ws()).await.expect("a connection");
    let answer = within(client.request_response("hi")).await.expect("an answer");
    assert_eq!(answer.data, "hi");
}

#[tokio::test]
async fn a_client_of_http_1_0_is_answered_to_the_end_of_its_connection() {
    let (served, _) = served(HttpLimits::default()).await;
    let mut peer = HttpPeer::connect(served.ws()).await;
    peer.send("GET /items HTTP/1.0\r\n\r\n").await;
    let answer = peer.answer().await;
    assert!(!answer.head.contains("transfer-encoding"), "{}", answer.head);
    assert_eq!(answer.text(), "item 0\nitem 1\nitem 2\n");
    // It may ask for more.
    let mut peer = HttpPeer::connect(served.ws()).await;
    for _ in 0..2 {
        peer.send("GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
        let answer = peer.answer().await;
        assert!(answer.head.contains("connection: keep-alive\r\n"), "{}", answer.head);
        assert_eq!(answer.text(), "hello\n");
    }
    peer.send("GET /hello HTTP/1.0\r\n\r\n").await;
    assert_eq!(peer.answer().await.text(), "hello\n");
    peer.expect_end().await;
}

#[tokio::test]
async fn a_client_that_waits_for_100_is_told_only_when_its_body_is_read() {
    let (served, _) = served(HttpLimits::default()).await;
    let request = |path, length| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\
             Expect: 100-continue\r\n\r\n"
        )
    };
    let mut peer = HttpPeer::connect(served.ws()).await;
    peer.send(request("/shout", 3)).await;
    assert!(peer.head().await.starts_with("HTTP/1.1 100 "));
    peer.send("abc").await;
    assert_eq!(peer.answer().await.text(), "ABC");
    // What is too long is refused without its being sent.
    peer.send(request("/shout", 1 << 21)).await;
    let answer = peer.answer().await;
    assert_eq!(answer.status(), 413);
    assert!(answer.head.contains("connection: close\r\n"), "{}", answer.head);
    peer.expect_end().await;
    let mut peer = HttpPeer::connect(served.ws()).await;
    peer.send(request("/unread", 3)).await;
    assert_eq!(peer.answer().await.text(), "not read\n");
}

#[tokio::test]
async fn a_body_may_be_read_while_it_is_answered() {
    let (served, _) = served(HttpLimits::default()).await;
    let mut peer = HttpPeer::connect(served.ws()).await;
    peer.send("POST /mirror HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    peer.head().await;
    for _ in 0..3 {
        peer.send("4\r\nping\r\n").await;
        peer.read_some("4\r\nping\r\n".len()).await;
    }
    peer.send("0\r\n\r\n").await;
    peer.read_some("0\r\n\r\n".len()).await;
    assert_eq!(peer.ask("GET", "/hello").await.text(), "hello\n");
}

#[tokio::test]
async fn a_body_that_is_kept_does_not_keep_its_connection() {
    let (mut served, site) = served(HttpLimits::default()).await;
    let mut peer = HttpPeer::connect(served.ws()).await;
    peer.send("POST /keep HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n").await;
    assert_eq!(peer.answer().await.text(), "kept\n");
    drop(peer);
    let meter = Arc::clone(&served.meter);
    while meter.read().open_http_connections > 0 {
        tokio::task::yield_now().await;
    }
    served.begin_shutdown();
    within(served.ended()).await;
    site.recorder.note("let go");
}

/// Must be seen: a slow reader holds its producer back.
#[tokio::test]
async fn a_client_that_reads_nothing_holds_its_producer_back() {
    let (served, site) = served(HttpLimits::default()).await;
    let mut peer = HttpPeer::connect(served.ws()).await;
    peer.send("GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let produced = site.produced_at_rest().await;
    println!("produced for a client that reads nothing: {} KiB", produced >> 10);
    assert!(produced <= 256 << 10, "{produced}");
    // Others are served meanwhile, and it goes on when it reads.
    assert_eq!(HttpPeer::connect(served.ws()).await.ask("GET", "/hello").await.status(), 200);
    peer.head().await;
    peer.read_some(1 << 20).await;
    assert!(site.produced_at_rest().await >= 1 << 20);
    drop(peer);
    within(site.recorder.wait("dropped /endless")).await;
}

#[tokio::test]
async fn what_is_under_way_is_dropped_when_the_client_goes() {
    let (served, site) = served(HttpLimits::default()).await;
    for path in ["/never", "/quiet", "/endless", "/tick"] {
        let mut peer = HttpPeer::connect(served.ws()).await;
        peer.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        if path != "/never" {
            peer.head().await;
        }
        drop(peer);
        within(site.recorder.wait(&format!("dropped {path}"))).await;
    }
    while served.meter.read().open_http_connections > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_handler_that_panics_costs_its_request_alone() {
    record_panics();
    let log = log::capture();
    let (served, _) = served(HttpLimits::default()).await;
    let mut peer = HttpPeer::connect(served.ws()).await;
    let mut other = Peer::established(served.ws()).await;
    let answer = peer.ask("GET", "/panic").await;
    assert_eq!(answer.status(), 500);
    assert_eq!(answer.text(), "The server failed to answer this request.\n");
    log.wait_line(&["a handler panicked", "as it was asked to"]).await;
    assert_eq!(peer.ask("GET", "/hello").await.status(), 200);
    // A stream that panics or fails is seen to be cut off.
    for path in ["/panic-later", "/fail"] {
        let mut peer = HttpPeer::connect(served.ws()).await;
        peer.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        let rest = peer.expect_end().await;
        assert!(!rest.ends_with("0\r\n\r\n"), "{path}: {rest}");
    }
    other.fence().await;
}

#[tokio::test]
async fn a_quiet_stream_outlives_every_limit() {
    let soon = Duration::from_millis(300);
    let mut config = rsock::Config::default();
    config.setup_timeout = soon;
    let limits = limits(|limits| {
        (limits.idle_timeout, limits.body_timeout, limits.stall_timeout) = (soon, soon, soon);
    });
    let (served, _) = served_with(Server::builder().config(config).http_limits(limits)).await;
    let mut quiet = HttpPeer::connect(served.ws()).await;
    quiet.send("GET /quiet HTTP/1.1\r\nHost: x\r\n\r\n").await;
    quiet.head().await;
    // As many limits as another connection reaches meanwhile.
    for _ in 0..5 {
        let mut idle = HttpPeer::connect(served.ws()).await;
        idle.ask("GET", "/hello").await;
        idle.expect_end().await;
    }
    assert_eq!(served.meter.read().open_http_connections, 1);
    assert_eq!(served.meter.read().http_timeouts, 0, "an idle connection's end is no failure");
}

#[tokio::test]
async fn a_shutdown_closes_idle_connections_and_lets_answers_end() {
    let builder = Server::builder().drain_limit(Duration::from_secs(60));
    let (mut served, site) = served_with(builder).await;
    let mut idle = HttpPeer::connect(served.ws()).await;
    idle.ask("GET", "/hello").await;
    let mut half = HttpPeer::connect(served.ws()).await;
    half.ask("GET", "/hello").await;
    half.send("GET /hel").await;
    let mut body = HttpPeer::connect(served.ws()).await;
    body.send("POST /shout HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na").await;
    let mut ticks = HttpPeer::connect(served.ws()).await;
    ticks.send("GET /tick HTTP/1.1\r\nHost: x\r\n\r\n").await;
    ticks.head().await;
    while served.meter.read().http_requests < 4 {
        tokio::task::yield_now().await;
    }
    served.begin_shutdown();
    idle.expect_end().await;
    half.expect_end().await;
    body.send("bc").await;
    let answer = body.answer().await;
    assert_eq!(answer.text(), "ABC");
    assert!(answer.head.contains("connection: close\r\n"), "the last one: {}", answer.head);
    body.expect_end().await;
    // The stream goes on, and the server ends with it.
    ticks.read_some(20).await;
    drop(ticks);
    within(site.recorder.wait("dropped /tick")).await;
    within(served.ended()).await;
}

#[tokio::test]
async fn a_stream_that_does_not_end_is_ended_at_the_drain_limit() {
    let builder = Server::builder().drain_limit(Duration::from_millis(100));
    let (mut served, site) = served_with(builder).await;
    let mut ticks = HttpPeer::connect(served.ws()).await;
    ticks.send("GET /tick HTTP/1.1\r\nHost: x\r\n\r\n").await;
    ticks.head().await;
    served.begin_shutdown();
    ticks.expect_end().await;
    within(site.recorder.wait("dropped /tick")).await;
    within(served.ended()).await;
    // As when a server is dropped without a word.
    let (served, _) = served_with(Server::builder()).await;
    let mut quiet = HttpPeer::connect(served.ws()).await;
    quiet.send("GET /quiet HTTP/1.1\r\nHost: x\r\n\r\n").await;
    quiet.head().await;
    served.kill();
    quiet.expect_end().await;
}

#[tokio::test]
async fn idle_connections_are_given_up_for_others_and_busy_ones_are_not() {
    let two = limits(|limits| {
        (limits.max_connections, limits.max_connections_per_address) = (2, Some(2));
    });
    let (served, _) = served(two).await;
    let mut quiet = HttpPeer::connect(served.ws()).await;
    quiet.send("GET /quiet HTTP/1.1\r\nHost: x\r\n\r\n").await;
    quiet.head().await;
    let mut idle = HttpPeer::connect(served.ws()).await;
    assert_eq!(idle.ask("GET", "/hello").await.status(), 200);
    let mut second = HttpPeer::connect(served.ws()).await;
    second.send("GET /quiet HTTP/1.1\r\nHost: x\r\n\r\n").await;
    second.head().await;
    idle.expect_end().await;
    // Nobody is idle: whoever comes is answered once, and no stream.
    let mut third = HttpPeer::connect(served.ws()).await;
    let answer = third.ask("GET", "/hello").await;
    assert_eq!((answer.status(), answer.text()), (200, "hello\n"));
    assert!(answer.head.contains("connection: close\r\n"), "{}", answer.head);
    third.expect_end().await;
    let mut fourth = HttpPeer::connect(served.ws()).await;
    let answer = fourth.ask("GET", "/tick").await;
    assert_eq!(answer.status(), 503);
    assert!(answer.text().contains("max_http_connections"), "{}", answer.text());
    let reading = served.meter.read();
    assert_eq!((reading.evicted_http_connections, reading.refused_http_requests), (1, 1));
    drop(quiet);
    let mut fifth = HttpPeer::connect(served.ws()).await;
    loop {
        let answer = fifth.ask("GET", "/hello").await;
        if !answer.head.contains("connection: close\r\n") {
            break;
        }
        fifth = HttpPeer::connect(served.ws()).await;
    }
}

#[tokio::test]
async fn a_body_is_counted_for_as_long_as_it_is_held() {
    let budget = MemoryBudget::new(4 << 20);
    let held = Arc::new(std::sync::Mutex::new(None));
    let hold = Arc::clone(&held);
    let builder =
        Server::builder().memory(Arc::clone(&budget)).http(move |request: rsock::HttpRequest| {
            let hold = Arc::clone(&hold);
            async move {
                let body = request.into_body().at_most(1 << 30).bytes().await?;
                *hold.lock().expect("nobody panics") = Some(body);
                Ok::<_, rsock::HttpBodyError>(rsock::HttpResponse::new(204, ""))
            }
        });
    let served = Served::with(builder).await;
    let mut peer = HttpPeer::connect(served.ws()).await;
    let body = vec![b'x'; 1 << 20];
    let head = |len| format!("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: {len}\r\n\r\n");
    peer.send(head(body.len())).await;
    peer.send(&body).await;
    assert_eq!(peer.answer().await.status(), 204);
    assert!(budget.used() >= 1 << 20, "{budget:?}");
    held.lock().expect("nobody panics").take();
    assert!(budget.used() < 64 << 10, "{budget:?}");
    // More than there is.
    peer.send(head(64 << 20)).await;
    for _ in 0..64 {
        if peer.try_send(&body).await.is_err() {
            break;
        }
    }
    assert_eq!(peer.answer().await.status(), 503);
}

/// The request that opened a WebSocket, as the acceptor and the handlers see it.
#[tokio::test]
async fn what_http_said_is_in_the_peer() {
    let budget = MemoryBudget::new(64 << 20);
    let accepted = Arc::new(std::sync::Mutex::new(Vec::new()));
    let heads = Arc::clone(&accepted);
    let app = Router::new(()).route(
        "who",
        request_response(async |_, request: rsock::Request| {
            let head = request.peer().http();
            head.map_or_else(
                || "nobody".to_owned(),
                |head| {
                    let session = head.header("cookie").unwrap_or("no cookie").to_owned();
                    let query = head.query().unwrap_or("-");
                    format!("{} {query} {} {session}", head.path(), head.origin().unwrap_or("-"))
                },
            )
        }),
    );
    let acceptor = move |peer: Other| {
        let (app, heads) = (app.clone(), Arc::clone(&heads));
        async move {
            let cookie = peer.http().and_then(|head| head.header("cookie")).map(str::len);
            heads.lock().expect("nobody panics").push(cookie);
            Ok::<_, Error>(app)
        }
    };
    let builder = Server::builder().memory(Arc::clone(&budget));
    let server = builder.bind(&["tcp://127.0.0.1:0", "ws://127.0.0.1:0/rsocket"]).await;
    let server = server.expect("free ports");
    let [tcp, ws] = server.addresses().try_into().expect("two");
    let serving = tokio::spawn(server.serve(acceptor).into_future());
    let asked = async |uri: &str, cookie: String| {
        let client = Client::builder()
            .header("Origin", "https://a.example")
            .header("Cookie", cookie)
            .connect(uri)
            .await
            .expect("a connection");
        let who = rsock::PayloadExt::route(rsock::Payload::default(), "who").expect("short");
        let answer = within(client.request_response(who)).await.expect("an answer");
        (String::from_utf8(answer.data.to_vec()).expect("text"), client)
    };
    let (answer, small) = asked(&ws, "id=1".to_owned()).await;
    assert_eq!(answer, "/rsocket - https://a.example id=1");
    // A long one is for the acceptor alone, and not kept.
    let (answer, _large) = asked(&ws, "c".repeat(10_000)).await;
    assert_eq!(answer, "/rsocket - https://a.example no cookie");
    assert!(budget.used() < 4 << 10, "{budget:?}");
    let client = Client::connect(&tcp).await.expect("a connection");
    let who = rsock::PayloadExt::route(rsock::Payload::default(), "who").expect("short");
    assert_eq!(within(client.request_response(who)).await.expect("an answer").data, "nobody");
    assert_eq!(*accepted.lock().expect("nobody panics"), [Some(4), Some(10_000), None]);
    drop(small);
    serving.abort();
}

/// It would look like an empty answer, or no answer, otherwise.
#[tokio::test]
async fn a_stream_that_fails_before_its_first_item_is_a_500() {
    record_panics();
    let (served, _) = served(HttpLimits::default()).await;
    for version in ["1.0", "1.1"] {
        for path in ["/fail-first", "/panic-first"] {
            let mut peer = HttpPeer::connect(served.ws()).await;
            peer.send(format!("GET {path} HTTP/{version}\r\nHost: x\r\n\r\n")).await;
            let answer = peer.answer().await;
            let told = "The server failed to answer this request.\n";
            assert_eq!((answer.status(), answer.text()), (500, told), "{path} {version}");
        }
        let mut peer = HttpPeer::connect(served.ws()).await;
        peer.send(format!("GET /nothing HTTP/{version}\r\nHost: x\r\n\r\n")).await;
        let answer = peer.answer().await;
        assert_eq!((answer.status(), answer.text()), (200, ""), "{version}");
    }
    // One that has nothing yet is not waited for: its head is there, and its body breaks off.
    let mut peer = HttpPeer::connect(served.ws()).await;
    peer.send("GET /fail-later HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(peer.head().await.starts_with("HTTP/1.1 200 "));
    assert_eq!(peer.expect_end().await, "");
    // Who is told no length would take that for the whole answer.
    let mut peer = HttpPeer::connect(served.ws()).await;
    peer.send("GET /fail-later HTTP/1.0\r\n\r\n").await;
    assert_eq!(peer.answer().await.status(), 500);
}

/// A part of it had come before its turn, and nothing of it comes any more.
#[tokio::test]
async fn half_a_head_behind_a_request_has_a_heads_time() {
    let mut config = rsock::Config::default();
    config.setup_timeout = Duration::from_millis(200);
    let builder = Server::builder().config(config);
    let (served, _) = served_with(builder).await;
    let mut idle = HttpPeer::connect(served.ws()).await;
    assert_eq!(idle.ask("GET", "/hello").await.text(), "hello\n");
    for (ahead, answers) in [
        ("GET /hello HTTP/1.1\r\nHost: x\r\n\r\nGET /hel", 1),
        ("GET /hello HTTP/1.1\r\nHost: x\r\n\r\nGET /hello HTTP/1.1\r\nHost: x\r\n\r\nG", 2),
    ] {
        let mut peer = HttpPeer::connect(served.ws()).await;
        peer.send(ahead).await;
        for _ in 0..answers {
            assert_eq!(peer.answer().await.text(), "hello\n");
        }
        // Sooner than the next request of one that is idle may come, which has 75 s.
        peer.expect_end().await;
    }
    // Nothing has come of the next one: this had all the time of one that is idle.
    assert_eq!(idle.ask("GET", "/hello").await.text(), "hello\n");
}

/// Readers who take nothing of large answers hold what they were sent, and it is known.
#[tokio::test]
async fn answers_that_nobody_takes_are_counted() {
    const ANSWER: usize = 1 << 20;
    let budget = MemoryBudget::new(8 << 20);
    let handler = |request: rsock::HttpRequest| async move {
        let body = bytes::Bytes::from(vec![b'x'; ANSWER]);
        match request.path() {
            "/whole" => rsock::HttpResponse::new(200, body),
            _ => rsock::HttpResponse::stream(200, futures_util::stream::iter([Ok(body)])),
        }
    };
    let builder = Server::builder().memory(Arc::clone(&budget)).http(handler);
    let served = Served::with(builder).await;
    for path in ["/whole", "/stream"] {
        let mut readers = Vec::new();
        let mut refused = 0;
        for _ in 0..20 {
            let mut reader = HttpPeer::connect(served.ws()).await;
            reader.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
            let head = reader.head().await;
            // A stream's head has left when it is known.
            let is_refused = match path {
                "/whole" => head.starts_with("HTTP/1.1 503 "),
                _ => budget.used() + ANSWER > budget.max() / 8 * 7,
            };
            refused += usize::from(is_refused);
            readers.push(reader);
            assert!(budget.used() <= budget.max(), "{} bytes", budget.used());
        }
        assert!(refused > 0, "{path}: 20 MiB were sent to nobody");
        drop(readers);
        within(async {
            while budget.used() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}
