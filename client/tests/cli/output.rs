//! The output that is shown, and where.

use std::{
    io::{BufRead, BufReader, Read},
    process::Command,
};

use crate::support::{Service, rsock, spawn};

#[test]
fn formats() {
    let service = Service::start();
    for (format, line) in [
        ("text", "{ \"a\": 1 }\n"),
        ("json", "{\"a\":1}\n"),
        ("hex", "7b202261223a2031207d\n"),
        ("base64", "eyAiYSI6IDEgfQ==\n"),
        ("raw", "{ \"a\": 1 }"),
        ("none", ""),
    ] {
        rsock(&["request", &service.tcp, "-d", "{ \"a\": 1 }", "--out", format]).printed(line);
    }
}

#[test]
fn all_but_data_goes_to_stderr() {
    let service = Service::start();
    let range = ["stream", &service.tcp, "-r", "range", "-d", "3", "--request-n", "2"];
    let done = rsock(&[range.as_slice(), &["-vv"]].concat());
    assert_eq!(done.stdout(), "0\n1\n2\n");
    let stderr = done.stderr();
    for line in [
        "→ SETUP version=1.0 keepalive=20000ms/90000ms ",
        "→ REQUEST_STREAM stream=1 n=2 route=range 1 B + 10 B metadata\n",
        "← PAYLOAD stream=1 [N] 1 B, 1 of 2 credit left\n",
        "→ REQUEST_N stream=1 n=",
        "→ CONNECTION_CLOSE: closed\n",
        "rsock: 3 items, 3 bytes in ",
    ] {
        assert!(stderr.contains(line), "{line}\n{stderr}");
    }
}

/// AUTH-12: of their bytes too only what is not secret.
#[test]
fn the_bytes_of_frames_are_shown_without_secrets() {
    let service = Service::start();
    let auth = ["--auth-simple", "ann:hunter2", "--auth-in", "both"];
    let done = rsock(&[&["request", &service.tcp, "-d", "hello", "-vvv"][..], &auth].concat());
    let said = done.stderr();
    assert_eq!(done.code(), 0, "{said}");
    assert!(
        said.contains("    0000  00 00 00 00 05 00 00 01  00 00 00 00 4e 20 00 01  |"),
        "{said}"
    );
    // The end of the request, and so of its answer.
    assert_eq!(said.matches("68  65 6c 6c 6f").count() + said.matches("68 65 6c 6c 6f").count(), 2);
    assert!(!said.contains("hunter") && !said.contains("68 75 6e"), "{said}");
    assert!(said.contains(".. .. .."), "{said}");
}

#[test]
fn long_json_is_indented_where_it_is_asked_for() {
    let service = Service::start();
    let list = (0..40).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let json = format!("{{\"a\":[{list}],\"b\":{{\"c\":\"d\"}}}}");
    let indented = format!(
        "{{\n  \"a\": [\n    {}\n  ],\n  \"b\": {{\"c\": \"d\"}}\n}}\n",
        list.replace(',', ",\n    ")
    );
    for format in ["text", "json"] {
        let request = ["request", &service.tcp, "-d", &json, "--out", format];
        // Nothing changes what a program reads.
        rsock(&request).printed(&format!("{json}\n"));
        rsock(&[&request[..], &["--pretty=never"]].concat()).printed(&format!("{json}\n"));
        rsock(&[&request[..], &["--pretty=always"]].concat()).printed(&indented);
    }
    let short = ["request", &service.tcp, "-d", "{\"a\":1}", "--pretty=always"];
    rsock(&short).printed("{\"a\":1}\n");
}

/// The command on a terminal of 60 columns that `script` makes, and what it shows there; `None` where there
/// is no `script`.
#[cfg(target_os = "linux")]
fn on_a_terminal(arguments: &str) -> Option<String> {
    let line = format!("stty rows 24 cols 60; {} {arguments}", env!("CARGO_BIN_EXE_rsock"));
    let shown = Command::new("script").args(["-qec", &line, "/dev/null"]).output();
    let Ok(shown) = shown else {
        eprintln!("SKIPPED: there is no `script` to make a terminal");
        return None;
    };
    Some(String::from_utf8(shown.stdout).unwrap().replace("\r\n", "\n"))
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_has_colours_and_readable_json() {
    let service = Service::start();
    let json = r#"'{"name":"a longer value than half a line","list":[1,2,3]}'"#;
    let request = format!("request {} -d {json}", service.tcp);
    let Some(shown) = on_a_terminal(&request) else { return };
    let indented =
        "{\n  \"name\": \"a longer value than half a line\",\n  \"list\": [1, 2, 3]\n}\n";
    // It fits 60 columns.
    assert_eq!(shown, format!("{}\n", json.trim_matches('\'')));
    let wide = format!("{} --pretty never", request.replace("longer", "very much longer"));
    let shown = on_a_terminal(&wide).unwrap();
    assert_eq!(shown.lines().count(), 1, "{shown}");
    let shown = on_a_terminal(&request.replace("longer", "very much longer")).unwrap();
    assert_eq!(shown, indented.replace("longer", "very much longer"));
    let help = on_a_terminal("request -h").unwrap();
    assert!(help.contains("\x1b[1m"), "{help}");
}

/// On a terminal that shows nothing else for some time, and nowhere else.
#[cfg(target_os = "linux")]
#[test]
fn a_long_transfer_says_how_far_it_is() {
    let service = Service::start();
    let stream = format!("stream {} -r range --delay 10ms --timeout 1500ms", service.tcp);
    let Some(shown) = on_a_terminal(&format!("{stream} --out none")) else { return };
    let (progress, rest) = shown.split_once("rsock: ").unwrap();
    assert!(progress.starts_with("\r\x1b[Ksent ") && progress.contains(" items, "), "{shown:?}");
    // No line of it stays.
    assert!(progress.ends_with("\r\x1b[K") && !progress.contains('\n'), "{shown:?}");
    assert_eq!(rest, "not done within 1.5s, as --timeout says\n");
    for (options, stderr) in [("--out none -q", ""), ("", ""), ("--out none", "2>&1 | cat")] {
        let shown = on_a_terminal(&format!("{stream} {options} {stderr}")).unwrap();
        assert!(!shown.contains("sent "), "{shown:?}");
    }
}

#[test]
fn quiet_is_errors_alone() {
    let service = Service::start();
    let done = rsock(&["channel", &service.tcp, "-q"]);
    assert_eq!((done.code(), done.stderr().as_str()), (0, ""));
    let done = rsock(&["request", &service.tcp, "-r", "nowhere", "-q", "--show", "metadata"]);
    assert_eq!(done.stderr(), "rsock: REJECTED: no route \"nowhere\"\n");
    assert_eq!(rsock(&["request", &service.tcp, "-q", "-v"]).code(), 2);
    let metadata = ["-d", "x", "-m", "json={}", "--show", "metadata"];
    let done = rsock(&[&["request", &service.tcp, "-q"][..], &metadata].concat());
    assert_eq!(done.stderr(), "application/json: {}\n");
}

#[test]
fn metadata_of_replies_is_shown_on_request() {
    let service = Service::start();
    let request = ["request", &service.ws, "-d", "x", "--show", "metadata"];
    let done = rsock(&[request.as_slice(), &["-m", "json={}", "-m", "a/b=\u{1}"]].concat());
    assert_eq!(done.stdout(), "x\n");
    assert_eq!(done.stderr(), "application/json: {}\na/b: \\u{1}\n");

    let plain = ["--metadata-mime", "text", "-m", "hi"];
    let done = rsock(&[request.as_slice(), &plain].concat());
    assert_eq!(done.stderr(), "text/plain: hi\n");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let service = Service::start();
    let mut child = spawn(&["stream", &service.tcp, "-r", "range"]);
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "0\n");
    drop(stdout);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(stderr, "");
    assert!(service.was_cancelled());
}

#[test]
fn help_and_version() {
    let done = rsock(&["--help"]);
    assert!(done.stdout().contains("Exit codes:") && done.stdout().contains("Examples"));
    assert_eq!(done.code(), 0);
    rsock(&["--version"]).printed(concat!("rsock ", env!("CARGO_PKG_VERSION"), "\n"));
    assert_eq!(rsock::<&str>(&[]).code(), 2);
    let done = rsock(&["strem"]);
    assert_eq!(done.code(), 2);
    assert!(done.stderr().contains("'stream'"), "{}", done.stderr());
}

/// On a terminal and elsewhere, whatever its width.
#[test]
fn help_fits_100_columns() {
    let commands =
        ["", "request", "stream", "channel", "fnf", "push", "completion"].map(str::to_owned);
    let of_topics = ["sub", "pub", "join", "presence", "history", "ls", "purge", "rm"];
    let of_topics = of_topics.map(|command| format!("topic {command}"));
    for command in commands.iter().chain(&of_topics) {
        for (help, columns) in [("-h", "80"), ("-h", "250"), ("--help", "80"), ("--help", "250")] {
            let command: Vec<_> = command.split_whitespace().collect();
            let shown = Command::new(env!("CARGO_BIN_EXE_rsock"))
                .args(command.iter().chain([&help]))
                .env("COLUMNS", columns)
                .output()
                .unwrap();
            let shown = String::from_utf8(shown.stdout).unwrap();
            let longest = shown.lines().max_by_key(|line| line.chars().count()).unwrap();
            assert!(longest.chars().count() <= 100, "{command:?} {help}: {longest}");
            assert!(!shown.contains('\x1b'), "coloured, and not on a terminal");
            let takes_times = !matches!(command[..], [] | ["completion"]);
            assert_eq!(shown.contains("a number alone is seconds"), takes_times);
        }
    }
}

/// Where nobody watches, what comes at once is written at once.
#[cfg(target_os = "linux")]
#[test]
fn items_are_written_in_blocks() {
    let service = Service::start();
    let script = "seq 20000 | \"$0\" \"$@\" | tail -n 1; grep syscw /proc/$$/io";
    let done = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_rsock"), "channel", &service.tcp])
        .output()
        .unwrap();
    // The shell's count has those of the programs it has run.
    let said = String::from_utf8(done.stdout).unwrap();
    let (last, writes) = said.trim().split_once("\nsyscw: ").unwrap();
    assert_eq!(last, "20000");
    let writes: u64 = writes.parse().unwrap();
    assert!(writes < 4_000, "{writes} writes of 20,000 items");
}
