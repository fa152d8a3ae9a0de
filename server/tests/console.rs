//! The console's files and what they ask first, over real sockets.

#![expect(clippy::unwrap_used, reason = "a test fails where it panics, its helpers included")]

mod support;

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use rsock_server::{ConsoleKind, Options, Service};
use serde_json::{Value, json};
use support::Directory;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};

/// Fails a test that hangs.
async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work).await.expect("it hangs")
}

/// A service on a WebSocket's port.
struct Running {
    authority: String,
    stop: oneshot::Sender<()>,
    done: JoinHandle<()>,
}

/// An answer, whose headers are in lower case.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn has(&self, header: &str) -> bool {
        self.head.lines().any(|line| line == header)
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{}", self.body))
    }
}

impl Running {
    async fn start(options: Options) -> Self {
        Self::at("ws://127.0.0.1:0/rsocket", options).await
    }

    async fn at(uri: &str, mut options: Options) -> Self {
        options.listen = vec![uri.to_owned()];
        let service = Service::bind(options).await.unwrap();
        let authority = service.addresses()[0].split('/').nth(2).unwrap().to_owned();
        let authority = authority.replace("0.0.0.0", "127.0.0.1");
        let (stop, stopped) = oneshot::channel::<()>();
        let done = tokio::spawn(service.run(async {
            let _ = stopped.await;
        }));
        Self { authority, stop, done }
    }

    async fn stop(self) {
        drop(self.stop);
        within(self.done).await.unwrap();
    }

    async fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        let mut socket = TcpStream::connect(&self.authority).await.unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}Connection: close\r\n\r\n",
            self.authority
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within(socket.read_to_string(&mut answer)).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    async fn get(&self, path: &str, headers: &str) -> Answer {
        self.ask("GET", path, headers).await
    }
}

const BROWSER: &str = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";

fn basic(name: &str, password: &str) -> String {
    format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode(format!("{name}:{password}")))
}

#[tokio::test]
async fn a_browser_sees_the_console_and_others_the_text() {
    let service = Running::start(Options::default()).await;
    let page = service.get("/", BROWSER).await;
    assert_eq!(page.status, 200);
    assert!(page.body.starts_with("<!doctype html>"), "{}", page.body);
    for header in [
        "content-type: text/html; charset=utf-8",
        "cache-control: no-cache",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "cross-origin-opener-policy: same-origin",
        "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
         img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ] {
        assert!(page.has(header), "{header}: {}", page.head);
    }
    let text = service.get("/", "Accept: */*\r\n").await;
    assert!(text.body.starts_with("rsockd ") && text.has("vary: accept"), "{}", text.body);
    // The same again is not sent again, nor is it to who asks for the head.
    let tag = page.head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    let again = service.get("/", &format!("{BROWSER}If-None-Match: {tag}\r\n")).await;
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    let head = service.ask("HEAD", "/console", "").await;
    let length = format!("content-length: {}", page.body.len());
    assert_eq!((head.status, head.body.as_str(), head.has(&length)), (200, "", true));
    assert_eq!(service.ask("POST", "/console", "Content-Length: 0\r\n").await.status, 405);
    service.stop().await;
}

#[tokio::test]
async fn where_rsocket_is_on_the_root_the_console_is_beside_it() {
    let service = Running::at("ws://127.0.0.1:0/", Options::default()).await;
    assert_eq!(service.get("/", BROWSER).await.status, 426);
    assert_eq!(service.get("/console", BROWSER).await.status, 200);
    assert_eq!(service.get("/api/console", "").await.json()["websockets"], json!(["/"]));
    service.stop().await;
}

#[tokio::test]
async fn links_of_other_pages_lead_to_the_console_and_they_read_nothing_of_it() {
    let service = Running::start(Options::default()).await;
    let of = |site: &str, mode: &str| {
        format!("{BROWSER}Sec-Fetch-Site: {site}\r\nSec-Fetch-Mode: {mode}\r\n")
    };
    for path in ["/", "/console"] {
        assert_eq!(service.get(path, &of("cross-site", "navigate")).await.status, 200);
        assert_eq!(service.get(path, &of("cross-site", "no-cors")).await.status, 403);
    }
    assert_eq!(service.get("/api/console", &of("cross-site", "cors")).await.status, 403);
    service.stop().await;
}

#[tokio::test]
async fn there_is_a_console_where_it_is_asked_for_or_harmless() {
    let page = async |uri: &str, options: Options| {
        let service = Running::at(uri, options).await;
        let status = service.get("/console", BROWSER).await.status;
        // Both are there or neither.
        let asked = service.get("/api/console", "").await.status;
        assert_eq!(asked == 404, status == 404);
        service.stop().await;
        status
    };
    let (near, far) = ("ws://127.0.0.1:0/rsocket", "ws://0.0.0.0:0/rsocket");
    let of = |console, open_to_all| Options { console, open_to_all, ..Options::default() };
    assert_eq!(page(near, of(ConsoleKind::Auto, false)).await, 200);
    assert_eq!(page(near, of(ConsoleKind::Off, false)).await, 404);
    assert_eq!(page(far, of(ConsoleKind::Auto, true)).await, 404);
    assert_eq!(page(far, of(ConsoleKind::On, true)).await, 200);
    // By a proxy others come.
    let proxied =
        Options { proxy_trust: vec!["127.0.0.1".to_owned()], ..of(ConsoleKind::Auto, false) };
    assert_eq!(page(near, proxied).await, 404);
    let directory = Directory::new("console");
    let access = Some(directory.settings().into());
    assert_eq!(page(far, Options { access, ..Options::default() }).await, 200);
}

#[tokio::test]
async fn the_console_is_told_who_one_is_and_what_one_may_do() {
    let service = Running::start(Options::default()).await;
    let told = service.get("/api/console", "").await;
    assert!(told.has("content-type: application/json") && told.has("cache-control: no-store"));
    assert_eq!(
        told.json(),
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "asks": false,
            "subject": null,
            "may": ["console", "metrics", "admin"],
            "websockets": ["/rsocket"],
            "draining": false,
        })
    );
    assert_eq!(service.ask("POST", "/api/console", "Content-Length: 0\r\n").await.status, 405);
    service.stop().await;

    let directory = Directory::new("console-told");
    directory.change(
        "[[deny]]",
        "[[grant]]\nroles = [\"ops\"]\nallow = [\"console\", \"admin\"]\n[[deny]]",
    );
    let access = Some(directory.settings().into());
    let service = Running::start(Options { access, ..Options::default() }).await;
    // The page itself holds no secret.
    assert_eq!(service.get("/", BROWSER).await.status, 200);
    let told = service.get("/api/console", &basic("ops", "ops's password")).await.json();
    assert_eq!((&told["subject"], &told["may"]), (&json!("ops"), &json!(["console", "admin"])));
    let refused = service.get("/api/console", &basic("ann", "ann's password")).await;
    let error = json!({ "error": { "code": "REJECTED", "message": "not permitted: console" } });
    assert_eq!((refused.status, refused.json()), (403, error));
    // Guests have roles here, and not this permission.
    assert_eq!(service.get("/api/console", "").await.status, 403);
    let wrong = service.get("/api/console", &basic("ann", "wrong")).await;
    assert_eq!(
        (wrong.status, wrong.has("www-authenticate: basic realm=\"rsockd\", bearer")),
        (401, true)
    );
    // A browser does not open its own window for what a script has asked.
    let script =
        format!("{}Sec-Fetch-Mode: cors\r\nSec-Fetch-Site: same-origin\r\n", basic("ann", "wrong"));
    let wrong = service.get("/api/console", &script).await;
    assert_eq!((wrong.status, wrong.has("www-authenticate: bearer")), (401, true));
    service.stop().await;
}
