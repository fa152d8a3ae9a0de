//! `rsock topic`: against the topics of a service, on TCP, a WebSocket and a Unix socket.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, ChildStdout},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use rsock::{Router, Server};
use rsock_topics::{Service as Topics, Settings};
use tokio::runtime::Runtime;

use crate::support::{Done, rsock, rsock_with, spawn};

/// A service with topics, in a runtime of its own.
struct Service {
    tcp: String,
    ws: String,
    unix: String,
    _runtime: Runtime,
}

impl Service {
    fn start() -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let (process, number) = (std::process::id(), STARTED.fetch_add(1, Relaxed));
        let socket = std::env::temp_dir().join(format!("rsock-topic-{process}-{number}.sock"));
        Self::start_at(&format!("unix:{}", socket.display()))
    }

    /// With this Unix socket, which another may have had before.
    fn start_at(unix: &str) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let uris = ["tcp://127.0.0.1:0", "ws://127.0.0.1:0/rsocket", unix];
        let server = runtime.block_on(Server::builder().bind(&uris)).expect("free ports");
        let addresses = server.addresses();
        let app = Topics::new(Settings::default()).add_to(Router::new(()));
        runtime.spawn(server.serve(app).into_future());
        let [tcp, ws, unix] = addresses.try_into().expect("three");
        Self { tcp, ws, unix, _runtime: runtime }
    }

    fn uris(&self) -> [&str; 3] {
        [&self.tcp, &self.ws, &self.unix]
    }

    /// Publishes these, and tells the epoch.
    fn publish(&self, topic: &str, messages: &[&str]) -> String {
        let input = messages.join("\n") + "\n";
        let done =
            rsock_with(&["topic", "pub", &self.tcp, topic, "--out", "json"], input.as_bytes());
        assert_eq!((done.code(), done.stderr().as_str()), (0, ""));
        let line = done.stdout().lines().next().expect("an acknowledgement").to_owned();
        let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        line["epoch"].as_str().expect("an epoch").to_owned()
    }
}

/// A command that goes on, with what it prints.
struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut child = spawn(arguments);
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, stdin, stdout }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("text");
        if line.is_empty() {
            panic!("it has ended: {}", self.said());
        }
        line.trim_end().to_owned()
    }

    /// The next line that holds this.
    fn line_with(&mut self, text: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(text) {
                return line;
            }
        }
    }

    fn send(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("it is open");
        writeln!(stdin, "{line}").expect("it reads");
    }

    fn said(&mut self) -> String {
        let mut said = String::new();
        let mut stderr = self.child.stderr.take().expect("a pipe");
        stderr.read_to_string(&mut said).expect("text");
        said
    }

    /// Its end of input, and its end.
    fn end(mut self) -> (i32, String) {
        drop(self.stdin.take());
        let said = self.said();
        (self.child.wait().expect("its end").code().expect("a code"), said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

fn as_json(done: &Done) -> Vec<serde_json::Value> {
    let stdout = done.stdout();
    stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn what_is_published_is_received_from_where_one_asks() {
    let service = Service::start();
    for (number, uri) in service.uris().into_iter().enumerate() {
        let topic = format!("room.{number}");
        let topic = topic.as_str();
        rsock_with(&["topic", "pub", uri, topic, "-d", "-"], b"1\n\n3\n").printed("");
        rsock(&["topic", "pub", uri, topic, "-d", "4", "-d", "@@5"]).printed("");
        let sub =
            |from: &str, n: &str| rsock(&["topic", "sub", uri, topic, "--from", from, "-n", n]);
        sub("start", "5").printed("1\n\n3\n4\n@5\n");
        sub("last:2", "2").printed("4\n@5\n");
        sub("since:1h", "1").printed("1\n");
        sub("since:2020-01-01T00:00:00Z", "1").printed("1\n");
        let line = rsock(&["topic", "ls", uri, "--prefix", topic, "--out", "json"]);
        let epoch = as_json(&line)[0]["epoch"].as_str().expect("an epoch").to_owned();
        sub(&format!("{epoch}:2"), "2").printed("3\n4\n");
        rsock(&["topic", "history", uri, topic, "--limit", "2"]).printed("4\n@5\n");
        rsock(&["topic", "history", uri, topic, "--limit", "2", "--reverse"]).printed("@5\n4\n");
        let page =
            |option: &str| rsock(&["topic", "history", uri, topic, option, &format!("{epoch}:3")]);
        page("--after").printed("4\n@5\n");
        page("--before").printed("1\n\n");
    }
}

#[test]
fn all_that_is_told_is_json_where_it_is_asked_for() {
    let service = Service::start();
    let uri = &service.ws;
    let publish = [
        "topic",
        "pub",
        uri,
        "t",
        "-d",
        "{ \"x\": 1.10 }",
        "--sender",
        "ann",
        "--key",
        "k",
        "--id",
        "m-7",
        "--message-header",
        "type=text",
        "--message-header",
        "edits=42",
        "--out",
        "json",
    ];
    let acknowledged = as_json(&rsock(&publish));
    assert_eq!((&acknowledged[0]["topic"], &acknowledged[0]["offset"]), (&"t".into(), &1.into()));
    assert!(acknowledged[0].get("duplicate").is_none());
    assert_eq!(as_json(&rsock(&publish))[0]["duplicate"], true);
    rsock_with(&["topic", "pub", uri, "t"], b"text\n\xff\n").printed("");
    for command in [
        &["sub", "--from", "start", "-n", "3", "--live"][..],
        &["sub", "--from", "start", "-n", "3", "--meta", "full", "--echo", "false"],
        &["history"],
    ] {
        let arguments = [&["topic", command[0], uri, "t", "--out", "json"], &command[1..]].concat();
        let done = rsock(&arguments);
        assert!(done.stdout().contains("\"data\":{\"x\":1.10}"), "{}", done.stdout());
        let lines = as_json(&done);
        let first = &lines[0];
        assert_eq!((&first["offset"], &first["from"]), (&1.into(), &"ann".into()));
        assert_eq!((&first["key"], &first["headers"]["edits"]), (&"k".into(), &42.into()));
        assert_eq!((&lines[1]["text"], &lines[2]["base64"]), (&"text".into(), &"/w==".into()));
    }
    let done = rsock(&[
        "topic", "sub", uri, "t", "--from", "last:1", "-n", "1", "--meta", "offset", "--out",
        "json",
    ]);
    assert_eq!(as_json(&done)[0].get("time"), None);
    assert_eq!(as_json(&done)[0]["offset"], 3);
    let listed = as_json(&rsock(&["topic", "ls", uri, "--out", "json"]));
    assert_eq!((&listed[0]["topic"], &listed[0]["head"]), (&"t".into(), &3.into()));
}

#[test]
fn a_subscription_goes_on_behind_its_last_message_and_tells_what_is_lost() {
    let mut service = Service::start();
    let unix = service.unix.clone();
    let mut running = Running::start(&["topic", "sub", &unix, "t", "--from", "start", "--live"]);
    service.publish("t", &["1", "2"]);
    assert_eq!((running.line(), running.line()), ("1".to_owned(), "2".to_owned()));
    for round in 3..6 {
        drop(service);
        service = Service::start_at(&unix);
        let message = round.to_string();
        service.publish("t", &[&message]);
        assert_eq!(running.line(), message);
    }
    running.child.kill().expect("it runs");
    let said = running.said();
    assert_eq!(said.matches("rsock: connected anew\n").count(), 3, "{said}");
    assert_eq!(said.matches("rsock: missed: the topic began anew, as epoch ").count(), 3, "{said}");
}

#[test]
fn a_gap_is_told_and_a_failure_where_it_is_to_be_one() {
    let service = Service::start();
    for (number, uri) in service.uris().into_iter().enumerate() {
        // Of a topic that was deleted, a later one of its name tells no exact gap.
        let topic = format!("t.{number}");
        let topic = topic.as_str();
        let epoch = service.publish(topic, &["1", "2", "3"]);
        rsock(&["topic", "purge", uri, topic]).printed("");
        service.publish(topic, &["kept"]);
        let from = format!("{epoch}:1");
        let kept = ["topic", "sub", uri, topic, "--from", &from, "-n", "1"];
        let done = rsock(&kept);
        assert_eq!((done.code(), done.stdout().as_str()), (0, "kept\n"));
        let missed = "rsock: missed: 2 to 3, 2 messages that are not kept any more\n";
        assert_eq!(done.stderr(), missed);
        let done = rsock(&[&kept[..], &["--fail-on-gap"]].concat());
        assert_eq!((done.code(), done.stdout().as_str(), done.stderr().as_str()), (3, "", missed));
        let done = rsock(&[&kept[..], &["--out", "json"]].concat());
        assert_eq!(
            as_json(&done)[0]["gap"],
            serde_json::json!({ "from": 2, "to": 3, "exact": true })
        );
        assert_eq!(done.stderr(), "");
        rsock(&["topic", "rm", uri, topic]).printed("");
        let done = rsock(&["topic", "rm", uri, topic]);
        assert_eq!(done.code(), 72, "{}", done.stderr());
    }
}

#[test]
fn people_chat_and_see_who_comes_and_goes() {
    let service = Service::start();
    for (number, (one, other)) in
        [(&service.tcp, &service.ws), (&service.ws, &service.unix)].into_iter().enumerate()
    {
        let topic = format!("lobby.{number}");
        let topic = topic.as_str();
        service.publish(topic, &["{\"text\":\"before\"}"]);
        let mut watcher = Running::start(&["topic", "presence", one, topic, "-f"]);
        assert_eq!(watcher.line(), "0 members in all");
        let mut ann = Running::start(&["topic", "join", one, topic, "--name", "ann"]);
        assert!(ann.line().ends_with(" ?: before"));
        assert_eq!(watcher.line(), "ann joins");
        let mut bob =
            Running::start(&["topic", "join", other, topic, "--name", "bob", "--from", "new"]);
        assert_eq!(watcher.line(), "bob joins");
        let members = rsock(&["topic", "presence", other, topic]);
        members.printed("ann\nbob\n");
        ann.send("hello");
        assert!(bob.line().ends_with(" ann: hello"));
        bob.send("hi \u{1b}[31mann");
        // What would command a terminal does not.
        let line = ann.line();
        assert!(line.contains(" bob: hi ") && !line.contains('\u{1b}'), "{line}");
        // What he says of himself is not said to the room.
        bob.send("/info {\"avatar\":3}");
        assert_eq!(watcher.line(), "bob says {\"avatar\":3}");
        bob.send("/info");
        assert_eq!(watcher.line(), "bob says nothing");
        let (code, said) = bob.end();
        // Who leaves may not be told of the last of it.
        let says = "* here: ann, bob\n* bob says {\"avatar\":3}\n* bob says nothing\n";
        assert!(code == 0 && says.starts_with(&said) && said.len() > 17, "{said}");
        assert_eq!(watcher.line(), "bob leaves");
        let (code, said) = ann.end();
        let says = "* here: ann\n* bob joins\n* bob says {\"avatar\":3}\n* bob says nothing\n* bob leaves\n";
        assert!(code == 0 && says.starts_with(&said) && said.len() > 12, "{said}");
        rsock(&["topic", "history", one, topic, "--limit", "1"]).printed("hi \u{1b}[31mann\n");
    }
}

/// Killed in the middle of it, each run goes on behind the last line that the one before has written.
#[test]
fn a_position_in_a_file_outlives_the_command() {
    let service = Service::start();
    let file = format!("{}.position", service.unix.trim_start_matches("unix:"));
    let lines: Vec<_> = (1..=900).map(|n: u32| n.to_string()).collect();
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    let arguments = |uri, more: &[&'static str]| {
        let sub = ["topic", "sub", uri, "t", "--position", &file, "--from", "start"];
        [&sub[..], more].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    // Before there is any message, it has a place as well.
    let first = arguments(&service.tcp, &["--live", "--out", "json"]);
    let mut first = Running::start(&first.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(first.line(), "{\"live\":{\"offset\":0}}");
    drop(first);
    assert!(std::fs::read_to_string(&file).expect("a position").ends_with(":0\n"));
    service.publish("t", &lines);
    let mut read = 0;
    for uri in service.uris() {
        rsock(&arguments(uri, &["-n", "3"])).printed(&(lines[read..read + 3].join("\n") + "\n"));
        read += 3;
        let command = arguments(uri, &[]);
        let command: Vec<_> = command.iter().map(String::as_str).collect();
        let mut running = Running::start(&command);
        for line in &lines[read..read + 5] {
            assert_eq!(running.line(), *line);
        }
        running.child.kill().expect("it runs");
        running.child.wait().expect("its end");
        // What it wrote behind these is read from its pipe, which has outlived it.
        read += 5 + (&mut running.stdout).lines().count();
        // What was written last may not be kept yet, and comes once more.
        let kept = std::fs::read_to_string(&file).expect("a position");
        let kept: usize =
            kept.trim().rsplit(':').next().expect("an offset").parse().expect("a number");
        assert!(kept == read || kept + 1 == read, "{kept} of {read}");
        read = kept;
        if read + 8 > lines.len() {
            break;
        }
    }
    std::fs::remove_file(&file).expect("it is there");
}

/// The service is away while they type.
#[test]
fn messages_typed_while_offline_are_sent_after_reconnect_once() {
    let service = Service::start();
    let unix = service.unix.clone();
    let arguments = ["topic", "join", &unix, "t", "--name", "ann", "--out", "json"];
    let mut ann = Running::start(&arguments);
    // She is there.
    ann.line_with("\"all\"");
    drop(service);
    for line in ["one", "two", "three"] {
        ann.send(line);
    }
    let service = Service::start_at(&unix);
    let sub = ["topic", "sub", service.tcp.as_str(), "t", "--from", "start", "-n", "3"];
    rsock(&sub).printed("one\ntwo\nthree\n");
    // She is a member again.
    assert_eq!(ann.line_with("\"anew\""), "{\"event\":\"anew\"}");
    ann.line_with("\"all\"");
    let (code, said) = ann.end();
    assert_eq!(code, 0, "{said}");
    rsock(&["topic", "history", &service.tcp, "t"]).printed("one\ntwo\nthree\n");
}

#[test]
fn a_topic_that_is_closed_ends_its_readers_and_takes_nothing_more() {
    let service = Service::start();
    let uri = &service.tcp;
    let mut reader = Running::start(&["topic", "sub", uri, "answer", "--from", "start"]);
    rsock(&["topic", "pub", uri, "answer", "-d", "part"]).printed("");
    rsock(&["topic", "pub", uri, "answer", "-d", "end", "--close"]).printed("");
    assert_eq!((reader.line(), reader.line()), ("part".to_owned(), "end".to_owned()));
    let (code, said) = reader.end();
    assert_eq!((code, said.as_str()), (0, ""));
    let done = rsock(&["topic", "pub", uri, "answer", "-d", "more"]);
    assert_eq!(done.code(), 72);
    assert_eq!(
        done.stderr(),
        "rsock: REJECTED: closed: the last message of topic \"answer\" is 2\n"
    );
}

#[test]
fn refusals_and_wrong_usage_are_told_with_their_codes() {
    let service = Service::start();
    let uri = service.tcp.as_str();
    service.publish("t", &["1"]);
    for (arguments, code, said) in [
        (&["pub", uri, "a b", "-d", "x"][..], 74, "rsock: INVALID: \"a b\" is not a topic's name"),
        (&["sub", uri, "a b"], 74, "rsock: INVALID: \"a b\" is not a topic's name"),
        (
            &["pub", uri, "t", "-d", "x", "--expect", "7"],
            72,
            "rsock: REJECTED: conflict: the last offset",
        ),
        (&["sub", uri, "t", "--from", "newest"], 2, "expected new, start, last:N, since:TIME"),
        (&["pub", uri, "t", "--id", "x"], 2, "rsock: --id is of one message"),
        (&["pub", uri, "t", "--delete"], 2, "--key"),
        (&["join", uri, "t"], 2, "--name"),
        (
            &["sub", uri, "t", "--metadata-mime", "text"],
            2,
            "topics have their options in composite",
        ),
        (
            &["sub", uri, "t", "--auth-in", "request", "--auth-bearer", "x"],
            2,
            "credentials go into SETUP",
        ),
        (
            &["history", uri, "t", "--after", "0123456789abcdef:1"],
            72,
            "rsock: REJECTED: began anew",
        ),
        (&["purg", uri], 2, "'purge'"),
        (&["ls", "tcp://127.0.0.1:1"], 7, "cannot connect to"),
    ] {
        let done = rsock(&[&["topic"], arguments].concat());
        let stderr = done.stderr();
        assert_eq!((done.code(), done.stdout().as_str()), (code, ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
    }
    rsock(&["topic", "pub", uri, "t", "--ephemeral", "-d", "typing"]).printed("");
    let done = rsock_with(&["topic", "pub", uri, "t", "-v"], b"");
    assert!(done.stderr().ends_with("rsock: 0 messages published\n"), "{}", done.stderr());
}

/// A line a message, many on their way at a time, and none lost.
#[test]
fn many_lines_are_published_in_order() {
    let service = Service::start();
    let uri = &service.ws;
    let lines: String = (1..=1_000).map(|n| format!("{n}\n")).collect();
    let done =
        rsock_with(&["topic", "pub", uri, "t", "-d", "-", "--out", "json", "-v"], lines.as_bytes());
    assert!(done.stderr().ends_with("rsock: 1000 messages published\n"), "{}", done.stderr());
    let acknowledged = as_json(&done);
    assert!(acknowledged.iter().map(|line| line["offset"].as_u64()).eq((1..=1_000).map(Some)));
    rsock(&["topic", "sub", uri, "t", "--from", "start", "-n", "1000"]).printed(&lines);
}
