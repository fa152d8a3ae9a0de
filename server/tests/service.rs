//! The service in this process, as clients meet it over TCP and WebSocket.

#![expect(clippy::unwrap_used, reason = "a test fails where it panics, its helpers included")]

use std::{collections::HashSet, time::Duration};

use futures_util::{StreamExt, TryStreamExt, stream};
use rsock::{Client, Error, ErrorCode, Payload, PayloadExt, Window, metadata::WellKnownMime};
use rsock_server::{DefaultRoute, Options, Service, StartError};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};

struct Running {
    addresses: Vec<String>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

impl Running {
    /// Over both transports, on free ports, unless `options` say otherwise.
    async fn start(options: Options) -> Self {
        let listen = ["tcp://127.0.0.1:0", "ws://127.0.0.1:0/rsocket"].map(str::to_owned).into();
        let service = Service::bind(Options { listen, ..options }).await.unwrap();
        let addresses = service.addresses();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(service.run(async move {
            // Dropping the sender stops it as well.
            let _ = stopped.await;
        }));
        Self { addresses, stop, served }
    }

    /// A client over each transport.
    async fn clients(&self) -> Vec<Client> {
        let mut clients = Vec::new();
        for uri in &self.addresses {
            clients.push(Client::connect(uri).await.unwrap());
        }
        clients
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        within(self.served).await.unwrap();
    }

    /// The answer of the WebSocket port to a plain GET: its head and its body.
    async fn get(&self, path: &str) -> (String, String) {
        self.ask("GET", path).await
    }

    async fn ask(&self, method: &str, path: &str) -> (String, String) {
        let authority = self.addresses[1].strip_prefix("ws://").unwrap();
        let authority = authority.strip_suffix("/rsocket").unwrap();
        let mut socket = TcpStream::connect(authority).await.unwrap();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within(socket.read_to_string(&mut answer)).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }
}

/// Fails a test that hangs.
async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("it hangs")
}

fn to(route: &str, data: &'static str) -> Payload {
    Payload::new(data).route(route).unwrap()
}

fn json(payload: &Payload) -> Value {
    serde_json::from_slice(&payload.data).unwrap()
}

#[tokio::test]
async fn echo_answers_with_what_it_was_sent() {
    let service = Running::start(Options::default()).await;
    for client in service.clients().await {
        let sent = to("echo", "hello").entry(WellKnownMime::TextPlain, "a note").unwrap();
        assert_eq!(client.request_response(sent.clone()).await.unwrap(), sent);
        let streamed: Vec<_> = client.request_stream(sent.clone()).try_collect().await.unwrap();
        assert_eq!(streamed, [sent]);
        let large = Payload::new(vec![7; 3 << 20]).route("echo").unwrap();
        assert_eq!(within(client.request_response(large.clone())).await.unwrap(), large);
    }
    service.end().await;
}

#[tokio::test]
async fn echo_takes_fire_and_forget_and_counts_it() {
    let service = Running::start(Options::default()).await;
    for (before, client) in service.clients().await.into_iter().enumerate() {
        client.fire_and_forget(to("echo", "gone")).await.unwrap();
        let status = json(&client.request_response(to("status", "")).await.unwrap());
        assert_eq!(status["fire_and_forget"]["taken"], before + 1);
    }
    service.end().await;
}

#[tokio::test]
async fn echo_returns_a_channel_payload_by_payload() {
    let service = Running::start(Options::default()).await;
    for client in service.clients().await {
        let sent: Vec<_> =
            (0..1_000).map(|n| Payload::new(n.to_string()).route("echo").unwrap()).collect();
        let outgoing = stream::iter(sent.clone());
        let echoed: Vec<_> =
            within(client.request_channel(outgoing).credit(7).try_collect()).await.unwrap();
        assert_eq!(echoed, sent);
    }
    service.end().await;
}

#[tokio::test]
async fn echo_takes_no_more_of_a_channel_than_is_taken_of_it() {
    let service = Running::start(Options::default()).await;
    for client in service.clients().await {
        let (taken, polled) = (5, std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0)));
        let counter = std::sync::Arc::clone(&polled);
        let endless = stream::repeat_with(move || {
            counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            to("echo", "again")
        });
        let mut echoes = client.request_channel(endless).window(Window::new(taken).manual());
        for _ in 0..taken {
            echoes.next().await.unwrap().unwrap();
        }
        // By the time this is answered, what the service would take has been asked for.
        client.request_response(to("echo", "")).await.unwrap();
        let bound = taken as usize + 2 * rsock::DEFAULT_CREDIT as usize;
        assert!(polled.load(std::sync::atomic::Ordering::Relaxed) <= bound);
    }
    service.end().await;
}

#[tokio::test]
async fn range_gives_the_numbers_asked_for() {
    let service = Running::start(Options::default()).await;
    for client in service.clients().await {
        let asked = to("range", r#"{"from":98,"to":102,"size":4,"interval_ms":1}"#);
        let numbers: Vec<_> = client.request_stream(asked).try_collect().await.unwrap();
        let texts: Vec<_> = numbers.iter().map(|item| &*item.data).collect();
        assert_eq!(texts, [&b"98  "[..], b"99  ", b"100 ", b"101 "]);
    }
    service.end().await;
}

#[tokio::test]
async fn range_is_endless_and_gives_no_more_than_its_credit() {
    let service = Running::start(Options::default()).await;
    for client in service.clients().await {
        let mut numbers = client.request_stream(to("range", "")).window(Window::new(3).manual());
        for number in 0..3 {
            assert_eq!(numbers.next().await.unwrap().unwrap().data, number.to_string());
        }
        // All that was asked for is here, and an answer behind it shows that no more came.
        client.request_response(to("echo", "")).await.unwrap();
        assert!(futures_util::FutureExt::now_or_never(numbers.next()).is_none());
        numbers.request_n(1);
        assert_eq!(within(numbers.next()).await.unwrap().unwrap().data, "3");
        let many = client.request_stream(to("range", r#"{"from":5}"#)).take(100_000);
        let last = within(many.try_fold(Payload::default(), async |_, item| Ok(item))).await;
        assert_eq!(last.unwrap().data, "100004");
    }
    service.end().await;
}

#[tokio::test]
async fn wrong_options_are_invalid_and_told_why() {
    let service = Running::start(Options::default()).await;
    for client in service.clients().await {
        for (route, data, expected) in [
            ("range", r#"{"too":5}"#, "unknown field `too`"),
            ("range", r#"{"to":"5"}"#, "invalid type: string"),
            ("range", r#"{"size":1048577}"#, "1048576 is the most"),
            ("range", "5", "not a JSON object"),
            ("clock", r#"{"interval_ms":0}"#, "1 is the least"),
            ("status", r#"{"interval":9}"#, "unknown field `interval`"),
        ] {
            let answer = client.request_stream(to(route, data)).next().await.unwrap();
            match answer {
                Err(Error::Invalid(text)) => {
                    assert!(
                        text.contains(expected) && text.contains("options look like"),
                        "{text}"
                    );
                }
                other => panic!("{route} {data}: {other:?}"),
            }
        }
    }
    service.end().await;
}

#[tokio::test]
async fn an_error_text_does_not_quote_all_that_was_sent() {
    let service = Running::start(Options::default()).await;
    let [client, ..] = &service.clients().await[..] else { panic!("there are two") };
    let data = format!("{{\"{}\":1}}", "é".repeat(100_000));
    let asked = Payload::new(data).route("range").unwrap();
    let Some(Err(Error::Invalid(text))) = client.request_stream(asked).next().await else {
        panic!("it is invalid")
    };
    assert!(text.len() < 1_000, "{} bytes", text.len());
    service.end().await;
}

#[tokio::test]
async fn clock_tells_the_time_and_ticks() {
    let service = Running::start(Options::default()).await;
    for client in service.clients().await {
        let time = client.request_response(to("clock", "")).await.unwrap();
        let time = std::str::from_utf8(&time.data).unwrap();
        assert!(time.len() == 24 && humantime::parse_rfc3339(time).is_ok(), "{time}");
        let ticks = client.request_stream(to("clock", r#"{"interval_ms":1}"#)).take(3);
        let ticks: Vec<_> = within(ticks.map_ok(|tick| json(&tick)).try_collect()).await.unwrap();
        assert_eq!((&ticks[0]["seq"], &ticks[0]["missed"]), (&0.into(), &0.into()));
        let number = |tick: &Value, field| tick[field].as_u64().unwrap();
        for pair in ticks.windows(2) {
            let expected = number(&pair[0], "seq") + number(&pair[1], "missed") + 1;
            assert_eq!(number(&pair[1], "seq"), expected);
        }
    }
    service.end().await;
}

/// Who reads the status by a program relies on its names, and who reads it himself on their order.
#[tokio::test]
async fn the_figures_of_the_status_keep_their_names_and_their_order() {
    let service = Running::start(Options::default()).await;
    let client = &service.clients().await[0];
    let status = client.request_response(to("status", "")).await.unwrap();
    let text = String::from_utf8(status.data.to_vec()).unwrap();
    let strings: Vec<&str> = text.split('"').skip(1).step_by(2).collect();
    let version = ["version", env!("CARGO_PKG_VERSION")];
    assert_eq!(strings[..2], version);
    assert_eq!(
        strings[2..].join(" "),
        "uptime_seconds \
         connections open total full failed_accepts refused turned_away refused_addresses violations setup_timeouts \
         handshake_timeouts keepalive_timeouts paused_reads paused_for_rate proxies refused tls handshakes failed timeouts \
         http open requests refused forbidden timeouts evicted \
         memory max used refused paused paused_for_handlers given_up_streams ended stalled_parts \
         sessions suspended resumed broken_transports refused refused_transports evicted \
         replayed_frames overflows \
         streams open credit_violations refused_payloads \
         requests received refused beyond_lease beyond_rate \
         leases connections running \
         fire_and_forget taken failed dropped \
         items in out \
         topics topics bytes presence_bytes subscriptions watchers published duplicates events updates missed \
         unseen_members overrun_watchers dropped_for_memory forgotten_ids \
         refused invalid outcome_unknown other began_anew closed conflict disk_behind disk_full no_disk no_memory no_topic \
         not_permitted overrun permission_ended read_only too_fast too_many_keys too_many_subscriptions \
         too_many_topics frames in out ignored bytes in out credit_stalls \
         dropped error_texts keepalive_replies metadata_pushes \
         log lines_left_out warnings_left_out"
    );
    service.end().await;
}

/// Whoever looks at one sees what the other has.
#[tokio::test]
async fn each_figure_of_the_status_is_among_the_metrics() {
    let service = Running::start(Options::default()).await;
    let client = &service.clients().await[0];
    let status = json(&client.request_response(to("status", "")).await.unwrap());
    let (_, metrics) = service.get("/metrics").await;
    let named: HashSet<&str> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("rsockd_")?.split([' ', '{']).next())
        .map(|name| name.strip_suffix("_total").unwrap_or(name))
        .collect();
    // Figures that have another name where they stand alone.
    let others = [
        ("version", "build_info"),
        ("connections.total", "connections"),
        ("connections.turned_away", "evicted_newcomers"),
        ("proxies.refused", "refused_proxy_headers"),
        ("tls.handshakes", "tls_handshakes"),
        ("tls.failed", "failed_tls_handshakes"),
        ("tls.timeouts", "tls_handshake_timeouts"),
        ("http.open", "open_http_connections"),
        ("http.refused", "refused_http_requests"),
        ("http.evicted", "evicted_http_connections"),
        ("memory.max", "memory_bytes"),
        ("memory.used", "memory_bytes"),
        ("memory.refused", "refused_memory"),
        ("memory.paused", "paused_for_memory"),
        ("memory.paused_for_handlers", "paused_for_consumers"),
        ("memory.ended", "ended_for_memory"),
        ("sessions.resumed", "resumes"),
        ("sessions.overflows", "retention_overflows"),
        ("streams.refused_payloads", "refused_assemblies"),
        ("requests.received", "requests_in"),
        ("requests.refused", "refused_streams"),
        ("requests.beyond_lease", "refused_leases"),
        ("requests.beyond_rate", "rate_limited_requests"),
        ("http.forbidden", "forbidden_http_requests"),
        ("leases.connections", "leased_connections"),
        ("leases.running", "leased_requests"),
        ("fire_and_forget.taken", "fire_and_forget"),
        ("frames.ignored", "ignored_unknown_stream"),
        ("dropped.error_texts", "cut_error_texts"),
        ("dropped.keepalive_replies", "dropped_keepalive_replies"),
        ("dropped.metadata_pushes", "dropped_pushes"),
        ("log.lines_left_out", "log_lines_left_out"),
    ];
    let mut missing = Vec::new();
    let mut rest = vec![(String::new(), &status)];
    while let Some((path, value)) = rest.pop() {
        if let Value::Object(members) = value {
            let below =
                |name: &String| format!("{path}{}{name}", if path.is_empty() { "" } else { "." });
            rest.extend(members.iter().map(|(name, value)| (below(name), value)));
            continue;
        }
        let (section, name) = path.rsplit_once('.').unwrap_or(("", &path));
        let other = others.iter().find(|(known, _)| *known == path).map(|(_, name)| *name);
        let is_there = match section {
            "topics.refused" => {
                metrics.contains(&format!("topic_refused_total{{reason=\"{name}\"}}"))
            }
            "topics" => named.contains(&*format!("topic_{name}")),
            _ => {
                let names =
                    [name.to_owned(), format!("{section}_{name}"), format!("{name}_{section}")];
                names.iter().map(|name| &**name).chain(other).any(|name| named.contains(name))
            }
        };
        if !is_there {
            missing.push(path);
        }
    }
    assert_eq!(missing, [""; 0]);
    service.end().await;
}

#[tokio::test]
async fn status_tells_the_figures() {
    let service = Running::start(Options::default()).await;
    let clients = service.clients().await;
    for client in &clients {
        let status = json(&client.request_response(to("status", "")).await.unwrap());
        assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(status["connections"]["open"], clients.len());
        let mut stream = client.request_stream(to("status", r#"{"interval_ms":1}"#));
        let mut received = 0;
        for _ in 0..3 {
            let status = json(&within(stream.next()).await.unwrap().unwrap());
            assert!(status["requests"]["received"].as_u64() >= Some(received));
            received = status["requests"]["received"].as_u64().unwrap();
        }
        assert!(received >= 2, "{received}");
    }
    service.end().await;
}

#[tokio::test]
async fn routes_lists_what_there_is() {
    let service = Running::start(Options::default()).await;
    for client in service.clients().await {
        let list = client.request_response(to("routes", "")).await.unwrap();
        let list = String::from_utf8(list.data.to_vec()).unwrap();
        for route in ["clock", "echo", "range", "routes", "status"] {
            assert!(list.lines().any(|line| line.starts_with(route)), "{list}");
        }
        // In the form that is asked for.
        for (mime, is_json) in [(WellKnownMime::Json, true), (WellKnownMime::TextPlain, false)] {
            let asked =
                to("routes", "").accept(&[WellKnownMime::Cbor.into(), mime.into()]).unwrap();
            let list = client.request_response(asked).await.unwrap();
            assert_eq!(serde_json::from_slice::<Value>(&list.data).is_ok(), is_json, "{list:?}");
            assert!(!is_json || json(&list)[1]["answers"][3] == "request-channel", "{list:?}");
        }
    }
    service.end().await;
}

#[tokio::test]
async fn an_unknown_route_is_rejected_with_its_name_and_a_way_out() {
    let service = Running::start(Options::default()).await;
    for client in service.clients().await {
        match client.request_response(to("ecco", "")).await {
            Err(Error::Rejected(text)) => {
                assert_eq!(
                    &*text,
                    "no route \"ecco\" (did you mean \"echo\"?); request the route \"routes\" for the list"
                );
            }
            other => panic!("{other:?}"),
        }
    }
    service.end().await;
}

#[tokio::test]
async fn a_request_without_a_route_goes_to_the_default_one() {
    let none = Options { default_route: DefaultRoute::None, ..Options::default() };
    let routes = DefaultRoute::Route("routes".to_owned());
    let routes = Options { default_route: routes, ..Options::default() };
    for (options, expected) in
        [(Options::default(), Ok("hello")), (routes, Ok("clock")), (none, Err("no default"))]
    {
        let service = Running::start(options).await;
        for client in service.clients().await {
            match (client.request_response("hello").await, expected) {
                (Ok(reply), Ok(start)) => assert!(reply.data.starts_with(start.as_bytes())),
                (Err(Error::Rejected(text)), Err(why)) => assert!(text.contains(why), "{text}"),
                (other, _) => panic!("{other:?}"),
            }
        }
        service.end().await;
    }
}

#[tokio::test]
async fn a_default_route_that_does_not_exist_is_an_error() {
    let default_route = DefaultRoute::Route("ecco".to_owned());
    let started = Service::bind(Options { default_route, ..Options::default() }).await;
    let error = started.map(|service| service.addresses()).unwrap_err();
    assert!(matches!(&error, StartError::DefaultRoute { name, .. } if name == "ecco"));
    assert!(error.to_string().contains("echo"), "{error}");
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused() {
    let service = Running::start(Options { max_streams: 1, ..Options::default() }).await;
    for client in service.clients().await {
        let mut open = client.request_stream(to("range", ""));
        open.next().await.unwrap().unwrap();
        let refused = client.request_response(to("echo", "")).await;
        assert!(matches!(refused, Err(Error::Rejected(_))), "{refused:?}");
    }
    service.end().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_until_one_ends_whichever_port_they_come_to() {
    let service = Running::start(Options { max_connections: 1, ..Options::default() }).await;
    for (full, index) in (1..).zip([0, 1, 1, 0]) {
        let uri = &service.addresses[index];
        let first = Client::connect(uri).await.unwrap();
        within(first.request_response(to("echo", ""))).await.unwrap();
        let second = Client::connect(&service.addresses[0]).await.unwrap();
        let mut waiting = std::pin::pin!(second.request_response(to("echo", "at last")));
        loop {
            assert!(futures_util::FutureExt::now_or_never(waiting.as_mut()).is_none());
            let status = json(&within(first.request_response(to("status", ""))).await.unwrap());
            if status["connections"]["full"] == full {
                break;
            }
        }
        within(first.close()).await;
        assert_eq!(within(waiting).await.unwrap().data, "at last");
        assert_eq!(
            json(&within(second.request_response(to("status", ""))).await.unwrap())["connections"]
                ["full"],
            full
        );
        within(second.close()).await;
    }
    service.end().await;
}

#[tokio::test]
async fn the_websocket_port_answers_plain_http() {
    let service = Running::start(Options::default()).await;
    for (path, status, expected) in [
        ("/healthz", "200", "ok\n"),
        ("/readyz", "200", "ready\n"),
        ("/", "200", "rsock request tcp://127.0.0.1:"),
        ("/rsocket", "426", "WebSocket"),
        ("/rsocket/", "426", "WebSocket"),
        (
            "/metrics",
            "200",
            "# TYPE rsockd_connections_total counter\nrsockd_connections_total 0\n",
        ),
        (
            "/metric",
            "404",
            "/healthz, /readyz and /metrics, and RSocket over WebSocket at /rsocket.",
        ),
    ] {
        let (head, body) = service.get(path).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {head}");
        assert!(body.contains(expected), "{path}: {body}");
    }
    let (head, body) = service.ask("HEAD", "/healthz").await;
    assert!(head.contains("content-length: 3") && body.is_empty(), "{head}\n{body}");
    let (head, _) = service.ask("OPTIONS", "/healthz").await;
    assert!(head.starts_with("HTTP/1.1 204 ") && head.contains("allow: GET, HEAD"), "{head}");
    service.end().await;
}

#[tokio::test]
async fn the_metrics_tell_the_course_of_requests_and_what_topics_do() {
    let service = Running::start(Options::default()).await;
    let client = &service.clients().await[0];
    client.request_response(to("echo", "x")).await.unwrap();
    let wrong = client.request_stream(to("range", "no options")).next().await.unwrap();
    assert_eq!(wrong.unwrap_err().code(), ErrorCode::INVALID);
    let items: Vec<_> =
        client.request_stream(to("range", r#"{"to":3}"#)).try_collect().await.unwrap();
    assert_eq!(items.len(), 3);
    let mut dropped = client.request_stream(to("range", ""));
    dropped.next().await.unwrap().unwrap();
    drop(dropped);
    client.request_response(to("topic.room", "hello")).await.unwrap();
    // The last of them is counted when its CANCEL has come.
    let figures = loop {
        let (head, body) = service.get("/metrics").await;
        assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
        if body.contains("interaction=\"request_stream\",outcome=\"canceled\"} 1") {
            break body;
        }
    };
    for line in [
        "rsockd_requests_total{interaction=\"request_response\",outcome=\"ok\"} 2",
        "rsockd_requests_total{interaction=\"request_stream\",outcome=\"invalid\"} 1",
        "rsockd_requests_total{interaction=\"request_stream\",outcome=\"ok\"} 1",
        "rsockd_request_seconds_count{interaction=\"request_response\"} 2",
        "rsockd_request_seconds_bucket{interaction=\"request_stream\",le=\"+Inf\"} 3",
        "rsockd_first_item_seconds_count{interaction=\"request_stream\"} 2",
        "rsockd_topic_published_total 1",
        "rsockd_draining 0",
    ] {
        assert!(figures.lines().any(|told| told == line), "{line}: {figures}");
    }
    service.end().await;
    let service = Running::start(Options { metrics: false, ..Options::default() }).await;
    assert!(service.get("/metrics").await.0.starts_with("HTTP/1.1 404 "));
    service.end().await;
}

/// Whoever sends clients here sees that it is not ready before it takes none.
#[tokio::test]
async fn it_is_not_ready_before_it_stops_and_takes_connections_meanwhile() {
    let drain_grace = Duration::from_secs(3_600);
    let service = Running::start(Options { drain_grace, ..Options::default() }).await;
    service.stop.send(()).unwrap();
    let running = Running { stop: oneshot::channel().0, ..service };
    while !running.get("/readyz").await.0.starts_with("HTTP/1.1 503 ") {
        tokio::task::yield_now().await;
    }
    assert!(running.get("/metrics").await.1.contains("\nrsockd_draining 1\n"));
    assert!(running.get("/healthz").await.0.starts_with("HTTP/1.1 200 "));
    for client in running.clients().await {
        assert_eq!(client.request_response(to("echo", "x")).await.unwrap().data, "x");
    }
    running.served.abort();
}

/// They never end by themselves; what they are sent until then arrives.
#[tokio::test]
async fn a_shutdown_does_not_wait_for_subscriptions() {
    let drain_limit = Duration::from_secs(3_600);
    let service = Running::start(Options { drain_limit, ..Options::default() }).await;
    let clients = service.clients().await;
    let mut streams = Vec::new();
    for client in &clients {
        client.request_response(to("topic.room", "hello")).await.unwrap();
        for (route, options) in [("topic.room", r#"{"from":"start"}"#), ("presence.room", "")] {
            let mut stream = client.request_stream(to(route, options));
            within(stream.next()).await.unwrap().unwrap();
            streams.push(stream);
        }
        let asked = to("range", r#"{"to":3}"#);
        let mut others = client.request_stream(asked).window(Window::new(1).manual());
        others.next().await.unwrap().unwrap();
        streams.push(others);
    }
    service.stop.send(()).unwrap();
    // What ends is waited for on the same connections.
    for stream in streams.iter_mut().skip(2).step_by(3) {
        stream.request_n(10);
        let rest = within(stream.by_ref().try_collect::<Vec<_>>()).await.unwrap();
        assert_eq!(rest.last().unwrap().data, "2");
    }
    within(service.served).await.unwrap();
    for mut stream in streams {
        let mut last = None;
        while let Some(item) = within(stream.next()).await {
            last = Some(item);
        }
        assert!(!matches!(last, Some(Err(ref error)) if !matches!(error, Error::Closed { .. })));
    }
}

#[tokio::test]
async fn a_shutdown_lets_open_streams_end_and_takes_nothing_new() {
    let service = Running::start(Options::default()).await;
    let clients = service.clients().await;
    let asked = || to("range", r#"{"to":6}"#);
    let mut streams: Vec<_> = clients
        .iter()
        .map(|client| client.request_stream(asked()).window(Window::new(2).manual()))
        .collect();
    for stream in &mut streams {
        stream.next().await.unwrap().unwrap();
    }
    service.stop.send(()).unwrap();
    for (client, mut stream) in clients.iter().zip(streams) {
        // Until the service has turned to stopping, it still answers.
        let refused = loop {
            match client.request_response(to("echo", "x")).await {
                Ok(reply) => assert_eq!(reply.data, "x"),
                Err(error) => break error,
            }
            tokio::task::yield_now().await;
        };
        // With the reason, which its connection ends with, too.
        assert_eq!(refused, Error::Rejected("the service is stopping".into()));
        stream.request_n(10);
        let rest = within(stream.try_collect::<Vec<_>>()).await.unwrap();
        assert_eq!(rest.last().unwrap().data, "5");
    }
    within(service.served).await.unwrap();
    assert!(Client::connect(&service.addresses[0]).await.is_err());
}
