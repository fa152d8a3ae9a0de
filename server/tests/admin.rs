//! The service administered over HTTP, over real sockets.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails where it panics, its helpers included")]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::StreamExt;
use rsock::{Client, Payload, PayloadExt};
use serde_json::{Value, json};
use support::Directory;

/// A service in a process of its own; killed if its test fails.
struct Running {
    process: Child,
    tcp: String,
    authority: String,
}

impl Running {
    fn start(flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rsockd"));
        command.args(["--listen=tcp://127.0.0.1:0", "--listen=ws://127.0.0.1:0/rsocket"]);
        command.args(flags).env_remove("RSOCKD_LOG").stdin(Stdio::null());
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut address =
            || lines.next().unwrap().unwrap().strip_prefix("listening on ").unwrap().to_owned();
        let (tcp, ws) = (address(), address());
        Self { process, tcp, authority: ws.split('/').nth(2).unwrap().to_owned() }
    }

    /// The status of an answer, and its JSON.
    fn ask(&self, method: &str, path: &str, headers: &str) -> (u16, Value) {
        self.ask_with(method, path, headers, "")
    }

    fn ask_with(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, Value) {
        let mut socket = TcpStream::connect(&self.authority).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let (authority, length) = (&self.authority, body.len());
        let request = format!(
            "{method} /api/admin/{path} HTTP/1.1\r\nHost: {authority}\r\n{headers}Content-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        );
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let json = serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"));
        assert!(head.to_lowercase().contains("content-type: application/json"), "{head}");
        (head.split(' ').nth(1).unwrap().parse().unwrap(), json)
    }

    fn get(&self, path: &str) -> Value {
        let (status, json) = self.ask("GET", path, "");
        assert_eq!(status, 200, "{json}");
        json
    }

    fn log(mut self) -> String {
        let mut log = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        assert!(self.process.wait().unwrap().success(), "{log}");
        log
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended, as it should.
        let _ = self.process.kill();
    }
}

fn basic(name: &str) -> String {
    let pair = format!("{name}:{name}'s password");
    format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode(pair))
}

async fn connect(uri: &str) -> Client {
    Client::builder().wait_until_accepted(true).connect(uri).await.unwrap()
}

#[tokio::test]
async fn connections_are_seen_with_their_streams_and_closed() {
    let service = Running::start(&[]);
    assert_eq!(service.get("connections"), json!({ "connections": [], "more": false }));
    let first = connect(&service.tcp).await;
    let range = Payload::new(r#"{"from":0,"to":1000}"#).route("range").unwrap();
    let mut items = first.request_stream(range).credit(4);
    for _ in 0..2 {
        items.next().await.unwrap().unwrap();
    }
    let _second = connect(&format!("ws://{}/rsocket", service.authority)).await;
    let page = service.get("connections?limit=1");
    assert_eq!(page["more"], true);
    let one = &page["connections"][0];
    assert_eq!(
        (&one["transport"], &one["tls"], &one["subject"]),
        (&json!("tcp"), &json!(null), &json!(null))
    );
    assert_eq!(
        (&one["streams"], &one["resumable"], &one["stuck"]),
        (&json!(1), &json!(false), &json!(false))
    );
    assert!(one["address"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(one["bytes_in"].as_u64() > Some(0) && one["age_s"].as_f64() >= Some(0.0), "{one}");
    let id = one["id"].as_u64().unwrap();
    let rest = service.get(&format!("connections?after={id}"));
    assert_eq!(
        (&rest["more"], &rest["connections"][0]["transport"]),
        (&json!(false), &json!("ws"))
    );
    assert_eq!(rest["connections"].as_array().unwrap().len(), 1);
    let details = service.get(&format!("connections/{id}"));
    let stream = &details["open"][0];
    assert_eq!(
        (&stream["route"], &stream["interaction"]),
        (&json!("range"), &json!("request-stream"))
    );
    assert_eq!((&stream["direction"], &stream["stream"]), (&json!("in"), &json!(1)));
    assert!(
        stream["granted"].as_u64() >= Some(4) && stream["sent"].as_u64() >= Some(2),
        "{stream}"
    );
    let (status, closed) = service.ask("POST", &format!("close/{id}"), "");
    assert_eq!((status, closed), (200, json!({ "closed": id, "gently": false })));
    let reason = first.closed().await;
    assert!(reason.to_string().contains("CONNECTION_CLOSE"), "{reason}");
    for (method, path, expected) in [
        ("POST", format!("close/{}", u64::MAX), 404),
        ("GET", format!("connections/{}", u64::MAX), 404),
        ("GET", "connections/x".to_owned(), 400),
        ("GET", "connections?limit=5000".to_owned(), 400),
        ("GET", "connections?befor=5".to_owned(), 400),
        ("POST", format!("close/{id}?gentl"), 400),
        ("GET", "nothing".to_owned(), 404),
        ("POST", "connections".to_owned(), 405),
        ("GET", format!("close/{id}"), 405),
    ] {
        let (status, told) = service.ask(method, &path, "");
        assert_eq!(status, expected, "{path}: {told}");
        assert!(told["error"]["message"].is_string() && told["error"]["code"].is_string());
    }
}

/// Of this machine, by itself, and by no page but the service's own.
#[test]
fn who_may_where_nobody_is_asked() {
    let service =
        Running::start(&["--allow-origin=https://app.example", "--allow-host=chat.example"]);
    let own = format!("Origin: http://{}\r\n", service.authority);
    assert_eq!(service.ask("GET", "connections", &own).0, 200);
    assert_eq!(service.ask("POST", "reload", &own).0, 200);
    // What may use the service may not administer it.
    for origin in ["https://app.example", "http://localhost:3000"] {
        let (status, told) = service.ask("POST", "reload", &format!("Origin: {origin}\r\n"));
        assert_eq!((status, &told["error"]["code"]), (403, &json!("REJECTED")), "{told}");
    }
    let form = "Content-Type: text/plain\r\n";
    assert_eq!(service.ask("POST", "drain", form).0, 415);
    let json = "Content-Type: application/json; charset=utf-8\r\n";
    assert_eq!(service.ask_with("POST", "reload", json, "{}").0, 200);
    assert_eq!(service.ask("POST", "revoke", "").0, 415);
    assert_eq!(service.ask_with("POST", "revoke", json, r#"{"subject":"ann"}"#).0, 409);
    let proxied = Running::start(&["--proxy-trust=127.0.0.1"]);
    let (status, told) = proxied.ask("GET", "connections", "X-Forwarded-For: 203.0.113.9\r\n");
    assert_eq!((status, &told["error"]["message"]), (403, &json!("not permitted: admin")));
    assert_eq!(proxied.ask("GET", "connections", "").0, 200);
}

#[test]
fn who_may_where_people_are_asked() {
    let directory = Directory::new("admin");
    directory.change("[[deny]]", "[[grant]]\nroles = [\"ops\"]\nallow = [\"admin\"]\n[[deny]]");
    let audit = directory.0.join("audit");
    let access = format!("--access={}", directory.settings().display());
    let service = Running::start(&[&access, &format!("--audit={}", audit.display())]);
    // Whoever is on this machine has to say who they are.
    assert_eq!(service.ask("GET", "connections", "").0, 401);
    assert_eq!(service.ask("GET", "connections", &basic("ann")).0, 403);
    assert_eq!(service.ask("GET", "connections", &basic("ops")).0, 200);
    assert_eq!(service.ask("POST", "reload", &basic("ops")).0, 200);
    let json = format!("{}Content-Type: application/json\r\n", basic("ops"));
    let (status, ended) = service.ask_with("POST", "revoke", &json, r#"{"subject":"ann"}"#);
    assert_eq!((status, ended["ended"].is_u64()), (200, true));
    assert_eq!(service.ask("POST", "drain", &basic("ops")).0, 202);
    let log = service.log();
    assert!(log.contains("asked by who administers it: stopping"), "{log}");
    let told = fs::read_to_string(audit).unwrap();
    for action in ["reload", "revoke", "drain"] {
        let line =
            told.lines().find(|line| line.contains(&format!("\"action\":\"{action}\""))).unwrap();
        assert!(
            line.contains("\"event\":\"admin\"") && line.contains("\"subject\":\"ops\""),
            "{line}"
        );
    }
}

/// As they act, with where they come from and what comes next.
#[test]
fn settings_are_told_with_their_sources() {
    let directory = Directory::new("admin-config");
    let file = directory.0.join("rsockd.toml");
    fs::write(&file, "max_streams = 77\nmax_topics = 5\nmax_warnings = 3\n").unwrap();
    let service = Running::start(&[&format!("--config={}", file.display()), "--mtu=4000"]);
    let told = |name: &str| {
        let config = service.get("config");
        let all = config["settings"].as_array().unwrap().clone();
        (all.into_iter().find(|one| one["name"] == name).unwrap(), config["problems"].clone())
    };
    let (one, problems) = told("max_streams");
    assert_eq!((&one["value"], &one["default"]), (&json!(77), &json!(4_096)));
    assert_eq!((&one["source"], &one["line"]), (&json!("file"), &json!(1)));
    assert_eq!((&one["reload"], one.get("next")), (&json!("new-connections"), None));
    assert!(one["about"].as_str().unwrap().starts_with("Streams a connection may hold"));
    assert_eq!(problems, json!([]));
    assert_eq!(told("mtu").0["source"], "flag");
    assert_eq!(told("console").0["source"], "default");
    assert_eq!(told("listen").0["value"].as_array().unwrap().len(), 2);
    assert_eq!(service.get("config")["file"], json!(file.display().to_string()));
    // What was changed acts when it is read, or with a restart.
    fs::write(&file, "max_streams = 88\nmax_topics = 6\nmax_warnings = 3\n").unwrap();
    assert_eq!(told("max_streams").0["next"], 88);
    let (status, reloaded) = service.ask("POST", "reload", "");
    let changed =
        json!({ "live": [], "new_connections": ["max_streams"], "restart": ["max_topics"] });
    assert_eq!((status, &reloaded["changed"]), (200, &changed));
    let (one, _) = told("max_streams");
    assert_eq!((&one["value"], one.get("next")), (&json!(88), None));
    let (one, _) = told("max_topics");
    assert_eq!((&one["value"], &one["next"]), (&json!(5), &json!(6)));
    // One mistake, and nothing changes.
    fs::write(&file, "max_streams = 99\nmax_topic = 6\n").unwrap();
    let (status, refused) = service.ask("POST", "reload", "");
    assert_eq!(status, 409);
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("nothing was changed: ") && message.contains("max_topic"),
        "{message}"
    );
    let (one, problems) = told("max_streams");
    assert_eq!(one["value"], 88);
    assert!(problems[0].as_str().unwrap().contains("max_topic"), "{problems}");
}

#[tokio::test]
async fn a_drain_ends_the_service_as_a_signal_does() {
    let service = Running::start(&["--drain-spread=0s"]);
    let client = connect(&service.tcp).await;
    assert_eq!(service.ask("POST", "drain", ""), (202, json!({ "draining": true })));
    client.closed().await;
    let log = service.log();
    assert!(log.contains("admin: drain") && log.contains("stopped"), "{log}");
}
