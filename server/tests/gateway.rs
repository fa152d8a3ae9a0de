//! The gateway over real sockets: routes and topics by plain HTTP, with who may do what.

#![expect(clippy::unwrap_used, reason = "a test fails where it panics, its helpers included")]

mod support;

use base64::{Engine, prelude::BASE64_STANDARD};
use rsock::metadata::Authentication;
use rsock_server::{Options, TopicRule};
use serde_json::{Value, json};
use support::{Directory, Running, now, token, within};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

/// An answer, whose headers are in lower case.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{}\n{}", self.head, self.body))
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The text of the error.
    fn refusal(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
    }
}

fn authority(service: &Running) -> &str {
    service.addresses[1].split('/').nth(2).unwrap()
}

/// Sends a request.
async fn send(service: &Running, request: &str, headers: &str, body: &str) -> TcpStream {
    let mut socket = TcpStream::connect(authority(service)).await.unwrap();
    let (host, length) = (authority(service), body.len());
    let head = format!(
        "{request} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(body.as_bytes()).await.unwrap();
    socket
}

/// Sends a request, and reads the answer to its end. Chunks are put together.
async fn ask(service: &Running, request: &str, headers: &str, body: &str) -> Answer {
    let mut socket = send(service, request, headers, body).await;
    let mut answer = String::new();
    within(socket.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let head = head.to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut rest = body;
    let body = if head.contains("transfer-encoding: chunked") {
        let mut whole = String::new();
        while let Some((length, behind)) = rest.split_once("\r\n") {
            let length = usize::from_str_radix(length, 16).unwrap();
            whole.push_str(&behind[..length]);
            rest = behind[length..].trim_start_matches("\r\n");
        }
        whole
    } else {
        body.to_owned()
    };
    Answer { status, head, body }
}

async fn get(service: &Running, path: &str, headers: &str) -> Answer {
    ask(service, &format!("GET {path}"), headers, "").await
}

async fn post(service: &Running, path: &str, headers: &str, body: &str) -> Answer {
    ask(service, &format!("POST {path}"), headers, body).await
}

fn as_user(name: &str) -> String {
    let credentials = BASE64_STANDARD.encode(format!("{name}:{name}'s password"));
    format!("Authorization: Basic {credentials}\r\n")
}

/// A stream of events, whose parts come as they come.
struct Events(BufReader<TcpStream>);

impl Events {
    async fn open(service: &Running, path: &str, headers: &str) -> Self {
        let headers = format!("Accept: text/event-stream\r\n{headers}");
        let mut events =
            Self(BufReader::new(send(service, &format!("GET {path}"), &headers, "").await));
        assert!(events.line().await.contains(" 200 "), "{path}");
        while !events.line().await.is_empty() {}
        events
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        within(self.0.read_line(&mut line)).await.unwrap();
        line.trim_end().to_owned()
    }

    /// The lines of the next event that has data.
    async fn next(&mut self) -> String {
        let mut lines = Vec::new();
        loop {
            let line = self.line().await;
            let is_length = line.len() <= 4 && usize::from_str_radix(&line, 16).is_ok();
            if line.starts_with("data: ") || line.starts_with("id: ") || line.starts_with("event: ")
            {
                lines.push(line);
            } else if !is_length && !lines.iter().any(|line: &String| line.starts_with("data: ")) {
                lines.clear();
            } else if !is_length {
                return lines.join("|");
            }
        }
    }
}

#[tokio::test]
async fn routes_are_asked_by_their_interactions() {
    let service = Running::start(Options::default()).await;
    let sent = "Content-Type: application/json\r\nRsock-Metadata: x/own=YQ==\r\n";
    let answer = post(&service, "/api/request/echo", sent, "{\"a\":1}").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\"a\":1}"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("rsock-metadata"), Some("x/own=yq=="), "in lower case here");
    assert_eq!(post(&service, "/api/fnf/echo", "", "gone").await.status, 202);
    let lines = get(&service, "/api/stream/range?data=%7B%22to%22%3A3%7D", "").await;
    assert_eq!((lines.status, lines.body.as_str()), (200, "0\n1\n2\n"));
    let taken = get(&service, "/api/stream/range?take=2", "").await;
    assert_eq!(taken.body, "0\n1\n");
    let octets = "Accept: application/octet-stream\r\n";
    let octets = post(&service, "/api/stream/range", octets, "{\"to\":2}").await;
    assert_eq!(octets.body, "\0\0\0\u{1}0\0\0\0\u{1}1");
    for (request, headers, status, text) in [
        ("POST /api/request/ecko", "", 404, "no route \"ecko\""),
        ("GET /api/request/echo", "", 405, "it takes POST"),
        ("POST /api/request/range", "", 405, "route \"range\""),
        ("GET /api/stream/range?n=5", "", 400, "\"n\" is not a parameter"),
        ("GET /api/stream/echo", "Accept: image/png\r\n", 406, "there is application/x-ndjson"),
        ("POST /api/request/echo", "Rsock-Metadata: x\r\n", 400, "Rsock-Metadata"),
        ("GET /api/elsewhere", "", 404, "There is /api/request/{route}"),
        ("GET /api/stream/range?data=%7B%22too%22%3A3%7D", "", 400, "unknown field `too`"),
    ] {
        let answer = ask(&service, request, headers, "").await;
        assert_eq!(answer.status, status, "{request}: {}", answer.body);
        assert!(answer.refusal().starts_with(text), "{request}: {}", answer.body);
    }
    let late = "Rsock-Timeout: 50ms\r\n";
    let late = get(&service, "/api/stream/clock?data=%7B%22interval_ms%22%3A60000%7D", late).await;
    assert!(late.body.ends_with("is over, 50ms\"}}\n"), "{}", late.body);
    for path in ["/api/routes", "/api/status", "/api/topics"] {
        let answer = get(&service, path, "").await;
        assert_eq!(answer.header("content-type"), Some("application/json"), "{path}");
        answer.json();
    }
    service.end().await;
}

#[tokio::test]
async fn a_topic_is_published_to_read_and_polled() {
    let service = Running::start(Options::default()).await;
    let id = "Idempotency-Key: \"one\"\r\n";
    let first = post(&service, "/api/topics/room.1?from=ann", id, "hello").await.json();
    let again = post(&service, "/api/topics/room.1?from=ann", id, "hello").await.json();
    assert_eq!((&first["offset"], &again["duplicate"]), (&json!(1), &json!(true)));
    let epoch = first["epoch"].as_str().unwrap();
    // What is new is known by a position, before there is anything.
    let polled = get(&service, "/api/topics/room.1?poll=0", "").await;
    let next = polled.header("rsock-next").unwrap().to_owned();
    assert_eq!((polled.status, next.as_str()), (204, format!("{epoch}:1").as_str()));
    let waiting = format!("/api/topics/room.1?poll=20s&after={next}");
    let (polled, published) = tokio::join!(
        get(&service, &waiting, ""),
        post(&service, "/api/topics/room.1", "", "{\"x\":[1,2]}")
    );
    assert_eq!((polled.status, published.status), (200, 200));
    let page = polled.json();
    assert_eq!(page["items"][0]["data"], json!({ "x": [1, 2] }));
    assert_eq!(page["next"], json!(format!("{epoch}:2")));
    // A batch: a line for each, in their order, whatever one of them is.
    let batch = "{\"text\":\"a\",\"from\":\"bob\"}\nnonsense\n\n{\"base64\":\"/w==\"}";
    let lines = "Content-Type: application/x-ndjson\r\n";
    let answers = post(&service, "/api/topics/room.1", lines, batch).await.body;
    let answers: Vec<Value> =
        answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&answers[0]["offset"], &answers[2]["offset"]), (&json!(3), &json!(4)));
    assert_eq!(answers[1]["error"]["code"], json!("INVALID"));
    let history = get(&service, "/api/topics/room.1/history?limit=1&reverse=true", "").await.json();
    assert_eq!(history["messages"][0]["base64"], json!("/w=="));
    let lines = get(&service, "/api/topics/room.1?from=last:2&take=2", "").await.body;
    assert_eq!(lines.lines().count(), 3, "{lines}");
    // A gap is told, and gone on behind.
    post(&service, "/api/request/topics", "", "{\"purge\":\"room.1\"}").await;
    post(&service, "/api/topics/room.1", "", "after").await;
    let page =
        get(&service, &format!("/api/topics/room.1?poll=0&after={epoch}:2"), "").await.json();
    assert_eq!(page["gap"], json!({ "from": 3, "to": 4 }));
    assert_eq!(page["items"][0]["text"], json!("after"));
    for (path, text) in [
        ("/api/topics/room.1?after=x&poll=0", "not a position"),
        ("/api/topics/room.1?after=ff:1", "epoch"),
        ("/api/topics/room.1?from=new&after=ff:1", "either from or after"),
        ("/api/topics/room.1?from=last:x", "from: \"last:x\""),
        ("/api/topics/room.1?lag=slow", "lag"),
        ("/api/topics/a..b", "\"a..b\" is not a topic's name"),
        ("/api/topics/room%2F1", "\"room/1\" is not a topic's name"),
        ("/api/topics/room.1%00", "\"room.1\\0\" is not a topic's name"),
    ] {
        let answer = get(&service, path, "").await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.body);
        assert!(answer.refusal().contains(text), "{path}: {}", answer.body);
    }
    service.end().await;
}

#[tokio::test]
async fn events_go_on_where_the_last_one_was() {
    let service = Running::start(Options::default()).await;
    for text in ["one", "two", "three"] {
        assert_eq!(post(&service, "/api/topics/feed", "", text).await.status, 200);
    }
    let mut events = Events::open(&service, "/api/topics/feed?from=start", "").await;
    let first = events.next().await;
    let (id, data) = first.split_once('|').unwrap();
    assert_eq!(data, "data: one");
    let last = format!("Last-Event-ID: {}\r\n", id.strip_prefix("id: ").unwrap());
    drop(events);
    // What the address says is what the page said when it began.
    let mut events = Events::open(&service, "/api/topics/feed?from=start", &last).await;
    assert!(events.next().await.ends_with("data: two"));
    assert!(events.next().await.ends_with("data: three"));
    post(&service, "/api/topics/feed?from=ann", "", "four\nlines").await;
    assert!(events.next().await.ends_with("data: four|data: lines"));
    // Of a numbering that is not any more, that is said first.
    let other = "Last-Event-ID: 00000000000000ff:7\r\n";
    let mut events = Events::open(&service, "/api/topics/feed", other).await;
    let gap = events.next().await;
    assert!(gap.contains("event: gap|data: {\"gap\":{\"epoch\":\"00000000000000ff\""), "{gap}");
    assert!(events.next().await.ends_with("data: one"));
    // At the end a page that asks again is told that there is nothing more.
    let ended = get(&service, "/api/stream/range?take=1", "Last-Event-ID: end\r\n").await;
    assert_eq!(ended.status, 204);
    // Members come and go.
    let mut presence = Events::open(&service, "/api/topics/feed/presence", "").await;
    assert!(presence.next().await.starts_with("event: all|"));
    // Whoever stops is told so, and comes again.
    let stop = tokio::spawn(service.end());
    let end = events.next().await;
    let end = if end.contains("event: drain") { end } else { events.next().await };
    let all = [end, events.next().await, events.next().await].join(" ");
    assert!(all.contains("event: drain") || all.contains("data: two"), "{all}");
    drop((events, presence));
    within(stop).await.unwrap();
}

#[tokio::test]
async fn who_asks_is_judged_as_by_any_other_way() {
    let directory = Directory::new("gateway-access");
    let service = Running::of(&directory).await;
    let (ann, ops) = (as_user("ann"), as_user("ops"));
    for (request, headers, status) in [
        ("POST /api/request/echo", "", 200),
        ("GET /api/stream/range?take=1", "", 403),
        ("GET /api/stream/range?take=1", &*ann, 200),
        ("GET /api/stream/range?take=1", &*ops, 200),
        ("GET /api/status", &*ann, 403),
        ("GET /api/status", &*ops, 200),
        ("POST /api/topics/room.1", "", 403),
        ("POST /api/topics/room.1", &*ops, 403),
        ("POST /api/topics/room.1", &*ann, 200),
        ("GET /api/topics/room.1?poll=0", &*ann, 204),
        ("GET /api/topics/room.1/history", &*ann, 200),
        ("GET /api/topics/room.1/presence", &*ann, 200),
        // Denied whatever it is written like.
        ("POST /api/topics/room.staff", &*ann, 403),
        ("POST /api/topics/room.%73taff", &*ann, 403),
        ("POST /api/topics/room%2estaff", &*ann, 403),
        ("POST /api/request/topic.room.staff", &*ann, 403),
        ("POST /api/request/topic.room.%73taff", &*ann, 403),
        ("POST /api/topics/room..staff", &*ann, 400),
        ("POST /api/topics/room.staff%2f", &*ann, 400),
        ("POST /api/topics//room.staff", &*ann, 404),
        ("POST /api/topics/room.%2573taff", &*ann, 400),
        ("GET /api/stream/topic.room.staff", &*ann, 403),
        ("GET /api/topics/room.staff/history", &*ann, 403),
        ("GET /api/topics/room.staff/presence", &*ann, 403),
        ("POST /api/topics/room.1?from=bob", &*ann, 403),
        ("GET /api/status", "Authorization: Basic YW5uOndyb25n\r\n", 401),
        ("GET /api/status", "Authorization: Bearer x.y.z\r\n", 401),
        ("GET /api/topics/room.1?ticket=none", "", 401),
        ("POST /api/topics/room.1?ticket=none", "", 401),
        ("GET /api/topics/room.1?ticket=none", "Accept: text/event-stream\r\n", 204),
        ("POST /api/ticket?ticket=none", &*ann, 400),
    ] {
        let body = if request.starts_with("GET") { "" } else { "text" };
        let answer = ask(&service, request, headers, body).await;
        assert_eq!(answer.status, status, "{request} {headers}: {}", answer.body);
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{request}");
        if status == 401 {
            assert!(answer.header("www-authenticate").is_some());
        }
    }
    // The name of who is known is the sender's.
    let history = get(&service, "/api/topics/room.1/history", &ann).await.json();
    assert_eq!(history["messages"][0]["from"], json!("ann"));
    service.end().await;
}

#[tokio::test]
async fn a_ticket_stands_for_who_has_it_once() {
    let directory = Directory::new("gateway-tickets");
    let service = Running::of(&directory).await;
    let ticket = async |headers: &str| {
        let answer = post(&service, "/api/ticket", headers, "").await;
        answer.json()["ticket"].as_str().unwrap_or_default().to_owned()
    };
    let of_ann = ticket(&as_user("ann")).await;
    let path = format!("/api/topics/room.1?poll=0&ticket={of_ann}");
    assert_eq!(get(&service, &path, "").await.header("rsock-next").map(str::len), Some(18));
    let spent = get(&service, &path, "").await;
    assert_eq!((spent.status, spent.header("rsock-next")), (401, None));
    // It is what its owner is, and no more; credentials beside it are not looked at.
    let of_guest = ticket("").await;
    let refused =
        post(&service, &format!("/api/topics/room.1?ticket={of_guest}"), &as_user("ann"), "").await;
    assert_eq!(refused.status, 403);
    // Of a token that has ended it counts no more.
    let short = token(&json!({ "sub": "ann", "exp": now() + 1, "roles": ["chat"] }));
    let Authentication::Bearer { token } = short else { panic!("a token") };
    let own = format!("Authorization: Bearer {}\r\n", String::from_utf8_lossy(&token));
    let of_token = ticket(&own).await;
    let path = format!("/api/topics/room.1?ticket={of_token}");
    let ended = async {
        while get(&service, "/api/topics/room.1?poll=0", &own).await.status != 401 {
            tokio::task::yield_now().await;
        }
    };
    within(ended).await;
    let late = post(&service, &path, "", "").await;
    assert_eq!(late.status, 401, "{}", late.body);
    service.end().await;
}

#[tokio::test]
async fn pages_of_allowed_sites_may_see_the_answers() {
    let options =
        Options { allow_origin: vec!["https://app.example".to_owned()], ..Options::default() };
    let service = Running::start(options).await;
    let page = "Origin: https://app.example\r\n";
    let answer = post(&service, "/api/request/echo", page, "x").await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(answer.header("vary"), Some("origin"));
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    let asked = ask(&service, "OPTIONS /api/topics/room.1", page, "").await;
    assert_eq!(asked.status, 204);
    assert!(asked.header("access-control-allow-headers").unwrap().contains("last-event-id"));
    let refused =
        post(&service, "/api/request/echo", "Origin: https://evil.example\r\n", "x").await;
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (403, None));
    let fails = get(&service, "/api/topics/a..b", page).await;
    assert_eq!(fails.header("access-control-allow-origin"), Some("https://app.example"));
    service.end().await;
}

#[tokio::test]
async fn a_cookie_counts_for_pages_of_its_sites_alone() {
    let directory = Directory::new("gateway-cookie");
    directory.change(
        "[[grant]]\nroles = [\"guest\"]",
        "[auth.cookie]\nname = \"session\"\norigins = [\"https://app.example\"]\n[[grant]]\nroles = [\"guest\"]",
    );
    let service = Running::of(&directory).await;
    let token = token(&json!({ "sub": "ann", "exp": now() + 600, "roles": ["chat"] }));
    let Authentication::Bearer { token } = token else { panic!("a token") };
    let cookie = format!("Cookie: session={}\r\n", String::from_utf8_lossy(&token));
    let own = format!("Origin: http://{}\r\n", authority(&service));
    for (method, more, status) in [
        ("POST", "Origin: https://app.example\r\n", 200),
        ("POST", &own, 200),
        ("POST", "Sec-Fetch-Site: same-origin\r\n", 200),
        ("POST", "Origin: https://evil.example\r\n", 403),
        ("POST", "Sec-Fetch-Site: cross-site\r\n", 403),
        ("POST", "Sec-Fetch-Site: same-site\r\n", 403),
        ("POST", "", 401),
        ("GET", "", 401),
        ("GET", "Sec-Fetch-Site: same-origin\r\n", 204),
    ] {
        let path = if method == "GET" { "/api/topics/room.1?poll=0" } else { "/api/topics/room.2" };
        let answer =
            ask(&service, &format!("{method} {path}"), &format!("{cookie}{more}"), "x").await;
        assert_eq!(answer.status, status, "{method} {more}: {}", answer.body);
    }
    let page = format!("{cookie}Origin: https://app.example\r\n");
    let answer = get(&service, "/api/topics/room.1?poll=0", &page).await;
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    service.end().await;
}

/// Whoever is nobody shares what an address may ask for, however many connections it has.
#[tokio::test]
async fn how_often_one_asks_counts_over_all_connections() {
    let options = Options { requests_per_second: Some(5), ..Options::default() };
    let service = Running::start(options).await;
    let mut refused = None;
    for _ in 0..20 {
        let answer = post(&service, "/api/request/echo", "", "x").await;
        if answer.status != 200 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("20 requests at once are more than 5 a second");
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    assert!(refused.refusal().starts_with("rate limit: 5 requests/s"), "{}", refused.body);
    service.end().await;
}

#[tokio::test]
async fn a_permission_that_ends_ends_the_stream() {
    let directory = Directory::new("gateway-ended");
    let service = Running::of(&directory).await;
    let ann = as_user("ann");
    let mut events = Events::open(&service, "/api/topics/room.1", &ann).await;
    post(&service, "/api/topics/room.1", &ann, "before").await;
    assert!(events.next().await.ends_with("data: before"));
    directory.change("\"room.*\", ", "");
    service.live.apply(&service.options).unwrap();
    let end = events.next().await;
    assert!(end.contains("event: error|data: {\"error\":{\"code\":\"REJECTED\""), "{end}");
    assert!(end.contains("permission ended"), "{end}");
    service.end().await;
}

/// Whoever sends lines and does not read what they are answered with is not read either.
#[tokio::test]
async fn a_batch_is_read_as_its_answers_are() {
    const MOST: usize = 16 << 20;
    let service = Running::start(Options::default()).await;
    let mut socket = TcpStream::connect(authority(&service)).await.unwrap();
    let head = format!(
        "POST /api/topics/feed HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-ndjson\r\n\
         Transfer-Encoding: chunked\r\n\r\n",
        authority(&service)
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let lines = "{\"text\":\"x\"}\n".repeat(1_000);
    let chunk = format!("{:x}\r\n{lines}\r\n", lines.len());
    let mut sent = 0;
    // What is not taken for so long is not taken.
    while let Ok(written) =
        tokio::time::timeout(std::time::Duration::from_secs(2), socket.write_all(chunk.as_bytes()))
            .await
    {
        written.unwrap();
        sent += chunk.len();
        assert!(sent < MOST, "it reads on and on");
    }
    let next = get(&service, "/api/topics/feed?poll=0", "").await;
    assert_eq!(next.status, 204, "others are served");
    service.end().await;
}

#[tokio::test]
async fn a_line_without_an_end_is_told_and_the_end() {
    let service = Running::start(Options::default()).await;
    let lines = "Content-Type: application/x-ndjson\r\n";
    let long = format!("{{\"text\":\"first\"}}\n{{\"text\":\"{}", "x".repeat(3 << 20));
    let answer = post(&service, "/api/topics/feed", lines, &long).await;
    let answers: Vec<Value> =
        answer.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers[0]["offset"], json!(1), "{answers:?}");
    let told = answers[1]["error"]["message"].as_str().unwrap();
    assert!(told.contains("too long: at most 2097152 bytes"), "{told}");
    assert_eq!(answers.len(), 2);
    // Deep JSON is text, and no reader of others is troubled by it.
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    assert_eq!(post(&service, "/api/topics/feed", "", &deep).await.status, 200);
    let item = get(&service, "/api/topics/feed?from=last:1&take=1", "").await.body;
    let item: Value = serde_json::from_str(item.lines().nth(1).unwrap()).unwrap();
    assert_eq!(item["text"].as_str().map(str::len), Some(10_000));
    service.end().await;
}

/// A poll that nobody waits for any more is no reader any more.
#[tokio::test]
async fn a_poll_ends_with_its_client() {
    let service = Running::start(Options::default()).await;
    let subscribers = async || {
        let topics = get(&service, "/api/topics", "").await.json();
        topics["topics"][0]["subscribers"].as_u64()
    };
    let until = async |count: u64| {
        while subscribers().await != Some(count) {
            tokio::task::yield_now().await;
        }
    };
    post(&service, "/api/topics/feed", "", "x").await;
    let mut polls = Vec::new();
    for _ in 0..20 {
        polls.push(send(&service, "GET /api/topics/feed?poll=50s", "", "").await);
    }
    within(until(20)).await;
    drop(polls);
    within(until(0)).await;
    service.end().await;
}

/// Who polls a durable topic that has never had a message is told nothing of a new numbering when everybody has left it.
#[tokio::test]
async fn an_empty_durable_topic_keeps_its_numbering_while_nobody_is_there() {
    let directory = Directory::new("gateway-empty");
    let topic = vec![TopicRule::read("feed=durable").unwrap()];
    let data = Some(directory.0.join("data"));
    let service = Running::start(Options { topic, data, ..Options::default() }).await;
    let first = get(&service, "/api/topics/feed?poll=0", "").await;
    let next = first.header("rsock-next").unwrap().to_owned();
    let is_listed = async || {
        let topics = get(&service, "/api/topics", "").await.json();
        topics["topics"].as_array().is_some_and(|topics| !topics.is_empty())
    };
    within(async {
        while is_listed().await {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let again = get(&service, &format!("/api/topics/feed?poll=0&after={next}"), "").await;
    assert_eq!((again.status, again.header("rsock-next")), (204, Some(&*next)), "{}", again.body);
    let published = post(&service, "/api/topics/feed", "", "first").await.json();
    assert_eq!(published["epoch"].as_str(), next.split(':').next());
    let page = get(&service, &format!("/api/topics/feed?poll=0&after={next}"), "").await.json();
    assert_eq!((page.get("gap"), &page["items"][0]["text"]), (None, &json!("first")));
    service.end().await;
}

/// Of what may not be published nothing is read, however long it is said to be.
#[tokio::test]
async fn who_may_not_publish_is_told_before_anything_is_read() {
    let directory = Directory::new("gateway-unread");
    let service = Running::of(&directory).await;
    for kind in ["text/plain", "application/x-ndjson"] {
        let mut socket = TcpStream::connect(authority(&service)).await.unwrap();
        let head = format!(
            "POST /api/topics/room.1 HTTP/1.1\r\nHost: {}\r\nContent-Type: {kind}\r\n\
             Content-Length: 60000000\r\n\r\n",
            authority(&service)
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        within(socket.read_exact(&mut status)).await.unwrap();
        assert_eq!(&status[9..], b"403", "{kind}");
    }
    service.end().await;
}

/// However small the parts are in which it comes, a line is looked at once.
#[tokio::test]
async fn a_line_in_tiny_parts_costs_what_one_in_a_piece_does() {
    let service = Running::start(Options::default()).await;
    let mut socket = TcpStream::connect(authority(&service)).await.unwrap();
    let head = format!(
        "POST /api/topics/feed HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-ndjson\r\n\
         Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        authority(&service)
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let parts = "8\r\nxxxxxxxx\r\n".repeat(200_000) + "0\r\n\r\n";
    within(socket.write_all(parts.as_bytes())).await.unwrap();
    let mut answer = String::new();
    within(socket.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.contains("not a message"), "{answer}");
    service.end().await;
}

#[tokio::test]
async fn a_poll_of_a_topic_that_has_ended_is_told_so() {
    let service = Running::start(Options::default()).await;
    let last = post(&service, "/api/topics/feed?close=true", "", "bye").await.json();
    let page = get(&service, "/api/topics/feed?poll=20s&from=start", "").await.json();
    assert_eq!(page["items"][0]["text"], json!("bye"));
    let after = format!("{}:{}", last["epoch"].as_str().unwrap(), last["offset"]);
    let ended = get(&service, &format!("/api/topics/feed?poll=20s&after={after}"), "").await;
    assert_eq!((ended.status, ended.refusal().split(':').next()), (409, Some("closed")));
    // More parameters than there are for anything cost nothing more.
    let many: String = (0..3_000).map(|n| format!("{n}&")).collect();
    assert_eq!(get(&service, &format!("/api/topics/feed?{many}"), "").await.status, 400);
    service.end().await;
}
