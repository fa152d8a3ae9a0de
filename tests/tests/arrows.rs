//! Which part may know which: the arrows of the architecture, read off the sources.
//!
//! What is not in a table is not allowed. A change of the architecture is a change here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Modules of `rsock-proto`, each with those of its siblings that it may use. `metadata` is a leaf:
/// it sees bytes and not frames, and nothing in the state machine sees it.
const PROTO: &[(&str, &[&str])] = &[
    ("config", &[]),
    // What a peer said is shown, too.
    ("error", &["config", "printable"]),
    ("metadata", &[]),
    ("payload", &[]),
    ("printable", &[]),
    ("stats", &[]),
    ("frame", &["config", "error", "payload", "printable"]),
    ("stream", &["config", "error", "frame", "payload"]),
    // The scheduler lists streams by their keys.
    ("transmit", &["frame", "stream"]),
    ("connection", &["config", "error", "frame", "payload", "stats", "stream", "transmit"]),
];

/// Modules of `rsock`. The driver knows handlers as `dyn Handle`, acceptors as `dyn Accept` and transports
/// as bytes and frames: no responder, no requester, no router, no client, no server; a transport knows
/// nothing of connections.
const RSOCK: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("demand", &["sync"]),
    ("observe", &["error", "sync"]),
    // Names of types, and what data may be.
    ("body", &[]),
    ("boxed", &[]),
    ("state", &[]),
    // Settings, which what obeys them reads.
    ("lease", &[]),
    ("live_config", &["sync"]),
    ("reconnect", &[]),
    ("resume", &[]),
    ("credentials", &["error"]),
    // What a client heeds, before its responder.
    ("heed", &["boxed", "connection", "error"]),
    // A client's SETUP, for each of its connections.
    ("setup", &["credentials", "error", "resume"]),
    ("meter", &["error", "warnings"]),
    ("nearest", &[]),
    ("newest", &["error"]),
    ("network", &[]),
    ("memory", &["sync"]),
    ("pattern", &[]),
    ("route_cache", &[]),
    ("runtimes", &[]),
    ("spawn", &[]),
    // Locks, which models replace.
    ("sync", &[]),
    ("tap", &[]),
    ("transport", &["error", "nearest"]),
    ("warnings", &["network", "sync"]),
    ("payload", &["body", "boxed", "error", "route_cache"]),
    (
        "connection",
        &[
            "boxed",
            "demand",
            "error",
            "lease",
            "memory",
            "meter",
            "network",
            "observe",
            "reconnect",
            "resume",
            "setup",
            "state",
            "sync",
            "tap",
            "transport",
            "warnings",
        ],
    ),
    ("settings", &["connection", "lease", "memory", "meter", "observe", "state", "tap"]),
    ("streams", &["boxed", "connection", "demand", "error", "newest", "observe"]),
    ("latest", &["boxed", "connection", "error"]),
    ("requester", &["connection", "demand", "error", "observe", "payload", "state", "streams"]),
    // Whom a connection is to; what it asks of its other end goes through its mailbox.
    ("rate_limit", &["error", "meter"]),
    (
        "peer",
        &[
            "connection",
            "error",
            "memory",
            "observe",
            "rate_limit",
            "requester",
            "settings",
            "state",
            "transport",
        ],
    ),
    ("request", &["connection", "demand", "error", "pattern", "peer"]),
    ("responder", &["boxed", "connection", "error", "peer", "request", "streams"]),
    (
        "observed",
        &["boxed", "connection", "error", "observe", "peer", "request", "responder", "streams"],
    ),
    ("limited", &["boxed", "connection", "rate_limit", "responder"]),
    ("acceptor", &["boxed", "connection", "error", "limited", "observed", "peer", "responder"]),
    ("layer", &["acceptor", "boxed", "error", "peer", "request", "responder", "streams"]),
    ("forward", &["connection", "demand", "error", "request", "requester", "responder", "streams"]),
    (
        "router",
        &[
            "acceptor",
            "body",
            "boxed",
            "connection",
            "demand",
            "error",
            "meter",
            "nearest",
            "pattern",
            "payload",
            "peer",
            "request",
            "responder",
            "streams",
            "warnings",
        ],
    ),
    (
        "client",
        &[
            "acceptor",
            "connection",
            "credentials",
            "error",
            "heed",
            "lease",
            "peer",
            "reconnect",
            "requester",
            "responder",
            "resume",
            "settings",
            "setup",
            "state",
            "transport",
        ],
    ),
    // Behind a feature: topics, as a client sees them, which is on the wire alone.
    ("topic", &["boxed", "error", "payload", "reconnect", "requester", "state", "streams"]),
    // Behind a feature: the trait of another crate, beside the public API.
    (
        "rsocket_rust",
        &["acceptor", "client", "error", "peer", "request", "requester", "responder", "streams"],
    ),
    // What is beside WebSockets on their ports.
    (
        "http",
        &[
            "boxed",
            "connection",
            "error",
            "memory",
            "meter",
            "observe",
            "peer",
            "sync",
            "transport",
        ],
    ),
    (
        "caller",
        &[
            "acceptor",
            "boxed",
            "error",
            "observed",
            "peer",
            "rate_limit",
            "request",
            "responder",
            "streams",
        ],
    ),
    (
        "server",
        &[
            "acceptor",
            "boxed",
            "connection",
            "error",
            "http",
            "lease",
            "live_config",
            "runtimes",
            "settings",
            "state",
            "sync",
            "transport",
        ],
    ),
];

/// Modules of `rsock-topics`. Each engine is a function of its state, its input and the time it is given;
/// `serve` alone, behind its feature, knows connections and tasks, and `store` files.
const TOPICS: &[(&str, &[&str])] = &[
    ("refusal", &[]),
    ("sync", &[]),
    ("name", &["refusal"]),
    ("position", &[]),
    ("json", &[]),
    ("time", &[]),
    ("rate", &["refusal", "time"]),
    ("settings", &["name", "rate"]),
    ("options", &["entry", "json", "name", "position", "refusal"]),
    ("memory", &["sync"]),
    ("entry", &["memory", "name", "position", "sync", "time"]),
    ("log", &["entry", "memory", "position", "settings", "sync", "time"]),
    ("dedup", &["memory", "position"]),
    ("ephemeral", &["entry", "memory", "name", "position", "rate", "sync", "time"]),
    ("presence", &["entry", "log", "name", "options", "position", "refusal", "settings", "time"]),
    // What topics are written to, and read from after a crash.
    ("store", &["entry", "memory", "name", "position", "refusal", "sync", "time"]),
    (
        "topic",
        &[
            "dedup",
            "entry",
            "ephemeral",
            "log",
            "memory",
            "name",
            "options",
            "position",
            "presence",
            "rate",
            "refusal",
            "settings",
            "sync",
            "time",
        ],
    ),
    (
        "cursor",
        &["entry", "log", "name", "options", "position", "refusal", "settings", "time", "topic"],
    ),
    (
        "history",
        &[
            "cursor", "entry", "json", "log", "name", "options", "position", "refusal", "time",
            "topic",
        ],
    ),
    (
        "registry",
        &[
            "dedup", "entry", "memory", "name", "options", "position", "presence", "rate",
            "refusal", "settings", "sync", "time", "topic",
        ],
    ),
    (
        "join",
        &[
            "cursor", "dedup", "entry", "log", "name", "options", "position", "refusal",
            "settings", "time", "topic",
        ],
    ),
    (
        "serve",
        &[
            "cursor", "dedup", "entry", "history", "join", "log", "memory", "name", "options",
            "position", "presence", "rate", "refusal", "registry", "settings", "store", "sync",
            "time", "topic",
        ],
    ),
];

/// Modules of `rsock-access`. It is a function of what it is given and of the time: see
/// [`access_is_a_function`].
const ACCESS: &[(&str, &[&str])] = &[
    ("action", &[]),
    ("name", &[]),
    ("seal", &[]),
    ("pattern", &[]),
    ("grants", &["action", "pattern"]),
    ("rules", &["action", "grants", "pattern"]),
    ("principal", &["grants"]),
    ("revoked", &["principal"]),
    ("throttle", &["name"]),
    ("users", &["name"]),
    ("jwks", &["principal"]),
    ("jwt", &["action", "grants", "jwks", "name", "pattern", "principal"]),
    ("settings", &["action", "name", "pattern", "rules"]),
];

/// The files beside the driver, which uses all of them: each with those of its siblings that it may use.
const CONNECTION: &[(&str, &[&str])] = &[
    ("budget", &[]),
    ("inlet", &[]),
    ("shares", &[]),
    // Boxes for handlers' futures.
    ("work", &[]),
    ("spare_inlets", &["inlet"]),
    ("arrivals", &["shares"]),
    ("doors", &["arrivals", "shares"]),
    ("snapshot", &[]),
    ("mailbox", &["doors", "inlet", "snapshot"]),
    ("inflow", &["inlet", "mailbox"]),
    ("permit", &["mailbox"]),
    ("sessions", &["mailbox", "shares"]),
    ("wake_group", &["mailbox"]),
    ("feed", &["mailbox", "wake_group"]),
    ("producers", &["feed", "mailbox", "work"]),
    // What is above, as the driver holds it.
    ("handle", &["feed", "inflow", "mailbox", "work"]),
];

/// The crates of the workspace that a crate must not depend on, beside what is developed with it.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("rsock", &["rsock-server", "rsock-topics", "rsock-client", "rsock-sim", "rsock-tests"]),
    ("topics", &["rsock-server", "rsock-client", "rsock-sim", "rsock-tests"]),
    ("server", &["rsock-client", "rsock-sim", "rsock-tests"]),
    // It speaks to whatever serves topics, and knows the wire alone.
    ("client", &["rsock-server", "rsock-topics", "rsock-sim", "rsock-tests"]),
    ("fuzz", &["rsock", "rsock-server", "rsock-client", "rsock-tests"]),
];

/// All that the engine stands on.
const PROTO_DEPENDENCIES: &[&str] = &["bytes"];

/// All that the conventions of both command lines stand on.
const CLI_DEPENDENCIES: &[&str] = &["clap"];

/// All that permissions stand on. Nothing of it waits, opens or asks for the time.
const ACCESS_DEPENDENCIES: &[&str] = &[
    "argon2",
    "aws-lc-rs",
    "base64",
    "bcrypt",
    "humantime",
    "rustls-pki-types",
    "serde",
    "serde_json",
];

/// All that the simulator stands on: it sees the engine and neither tasks nor sockets, and so runs in
/// seconds, and under the fuzzer.
const SIM_DEPENDENCIES: &[&str] = &["bytes", "rsock-proto", "rsock-wire"];

/// All that the simulator of topics stands on: their core, without its routes and its files.
const SIM_TOPICS_DEPENDENCIES: &[&str] =
    &["rsock-proto", "rsock-sim", "rsock-topics", "serde_json"];

/// All that the tests' own codec stands on: an error shared with the engine's cannot hide.
const WIRE_DEPENDENCIES: &[&str] = &[];

/// No file is longer.
const MAX_LINES: usize = 800;
/// Fields of a struct that is a part of the driver.
const MAX_FIELDS: usize = 15;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Every Rust source below `directory`, with its text.
fn sources(directory: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && name != "node_modules" && !name.starts_with('.')
            {
                directories.push(path);
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).expect("a source");
                found.push((path, text));
            }
        }
    }
    found.sort();
    found
}

/// The text without comments, and without the tests at its end.
fn code(text: &str) -> String {
    let tests = ["#[cfg(test)]\nmod tests {", "#[cfg(test)]\nmod tests;"];
    let end = tests.iter().filter_map(|start| text.find(start)).min().unwrap_or(text.len());
    let lines = text[..end].lines();
    lines.map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// The first name of each path behind `crate::`.
fn used(code: &str) -> BTreeSet<String> {
    behind(code, "crate::")
}

/// The first name of each path behind this one.
fn behind(code: &str, prefix: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices(prefix) {
        let rest = &code[at + prefix.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            names.extend(members(group));
        } else {
            names.insert(name(rest));
        }
    }
    names
}

/// The first names in a group, as far as its closing bracket.
fn members(group: &str) -> Vec<String> {
    let (mut depth, mut names, mut start) = (0, Vec::new(), true);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => start = true,
            _ if start && !character.is_whitespace() => {
                names.push(name(&group[at..]));
                start = false;
            }
            _ => {}
        }
    }
    names
}

fn name(path: &str) -> String {
    path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn check(krate: &str, table: &[(&str, &[&str])]) -> Vec<String> {
    let allowed: BTreeMap<_, _> = table.iter().copied().collect();
    let src = root().join(krate).join("src");
    let mut wrong = Vec::new();
    for (path, text) in sources(&src) {
        let inside = path.strip_prefix(&src).expect("a path below src");
        let module = inside.iter().next().expect("a name").to_string_lossy();
        let module = module.trim_end_matches(".rs");
        if matches!(module, "lib" | "tests") || inside.ends_with("tests.rs") {
            continue;
        }
        let shown = path.strip_prefix(root()).expect("a path in the workspace").display();
        let Some(allowed) = allowed.get(module) else {
            wrong.push(format!("{shown}: module {module} is not in the table"));
            continue;
        };
        let code = code(&text);
        for name in used(&code) {
            if name != module && !allowed.contains(&name.as_str()) {
                wrong.push(format!("{shown}: {module} must not use crate::{name}"));
            }
        }
        if code.contains("use super::*") {
            wrong.push(format!("{shown}: `use super::*` outside of tests"));
        }
    }
    wrong
}

#[test]
fn modules_keep_to_the_arrows() {
    let wrong = [
        check("proto", PROTO),
        check("rsock", RSOCK),
        check("topics", TOPICS),
        check("access", ACCESS),
        check_connection(),
    ]
    .concat();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn check_connection() -> Vec<String> {
    let directory = root().join("rsock/src/connection");
    let mut wrong = Vec::new();
    for (path, text) in sources(&directory) {
        let inside = path.strip_prefix(&directory).expect("a path below it");
        let module = inside.with_extension("").to_string_lossy().into_owned();
        if module == "mod" || inside.starts_with("driver") {
            continue;
        }
        let Some((_, allowed)) = CONNECTION.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{}: it is not in the table", path.display()));
            continue;
        };
        for name in behind(&code(&text), "connection::") {
            if name != module && !allowed.contains(&name.as_str()) {
                wrong.push(format!("{}: {module} must not use {name}", path.display()));
            }
        }
    }
    wrong
}

/// What may use something, by whatever way, is not used by it: no room is its own cellar.
#[test]
fn no_arrows_make_a_circle() {
    for (name, table) in
        [("proto", PROTO), ("rsock", RSOCK), ("access", ACCESS), ("connection", CONNECTION)]
    {
        let mut left: Vec<_> = table.to_vec();
        while !left.is_empty() {
            let before = left.len();
            let names: BTreeSet<_> = left.iter().map(|(module, _)| *module).collect();
            left.retain(|(_, uses)| uses.iter().any(|used| names.contains(used)));
            let circle: Vec<_> = left.iter().map(|(module, _)| *module).collect();
            assert!(left.len() < before, "{name}: a circle among {circle:?}");
        }
    }
}

/// A kind of transport is a variant and a file: whoever is above knows a `Socket` alone.
#[test]
fn sockets_are_known_to_transports_alone() {
    let src = root().join("rsock/src");
    let kinds = ["TcpStream", "TcpListener", "UnixStream", "UnixListener", "DuplexStream"];
    let mut wrong = Vec::new();
    for (path, text) in sources(&src) {
        if path.starts_with(src.join("transport")) || path.ends_with("tests.rs") {
            continue;
        }
        let code = code(&text);
        for kind in kinds.iter().filter(|kind| code.contains(**kind)) {
            wrong.push(format!("{}: {kind}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The names in `[dependencies]`.
fn dependencies(krate: &str) -> Vec<String> {
    let manifest = fs::read_to_string(root().join(krate).join("Cargo.toml")).expect("a manifest");
    let mut section = "";
    let mut names = Vec::new();
    for line in manifest.lines() {
        let line = line.trim();
        if line.starts_with('[') {
            section = line;
            let table = line.strip_prefix("[dependencies.").and_then(|rest| rest.strip_suffix(']'));
            names.extend(table.map(str::to_owned));
        } else if section == "[dependencies]" && !line.starts_with('#') && line.contains('=') {
            let end = line.find(['.', '=', ' ']).expect("it has a =");
            names.push(line[..end].to_owned());
        }
    }
    names
}

#[test]
fn crates_keep_to_the_arrows() {
    assert_eq!(dependencies("proto"), PROTO_DEPENDENCIES);
    assert_eq!(dependencies("cli"), CLI_DEPENDENCIES);
    assert_eq!(dependencies("access"), ACCESS_DEPENDENCIES);
    assert_eq!(dependencies("tests/sim"), SIM_DEPENDENCIES);
    assert_eq!(dependencies("tests/sim-topics"), SIM_TOPICS_DEPENDENCIES);
    assert_eq!(dependencies("tests/wire"), WIRE_DEPENDENCIES);
    for (krate, forbidden) in FORBIDDEN {
        let dependencies = dependencies(krate);
        assert!(dependencies.contains(&"bytes".to_owned()), "{krate}: {dependencies:?}");
        for name in *forbidden {
            assert!(!dependencies.iter().any(|other| other == name), "{krate} depends on {name}");
        }
    }
}

/// Who somebody is and what they may do is decided by what is given: text, state and the time.
#[test]
fn access_is_a_function() {
    let forbidden =
        ["std::fs", "std::net::Tcp", "Instant::now", "SystemTime", "std::thread", "async "];
    let mut wrong = Vec::new();
    for (path, text) in sources(&root().join("access/src")) {
        let code = code(&text);
        for word in forbidden.iter().filter(|word| code.contains(**word)) {
            wrong.push(format!("{}: {word}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_are_short_and_queues_bounded() {
    let mut wrong = Vec::new();
    // Spelled so that this file does not hold them.
    let unbounded = ["unbounded", "_channel"].concat();
    let of_std = ["mpsc::", "channel()"].concat();
    let allow =
        ["allow", "expect"].map(|what| [format!("#[{what}("), format!("#![{what}(")]).concat();
    for (path, text) in sources(&root()) {
        let shown = path.strip_prefix(root()).expect("a path in the workspace").display();
        let lines = text.lines().count();
        if lines > MAX_LINES {
            wrong.push(format!("{shown}: {lines} lines, at most {MAX_LINES}"));
        }
        for (number, line) in text.lines().enumerate() {
            if line.contains(&unbounded) || line.contains(&of_std) {
                wrong.push(format!("{shown}:{}: a queue without a bound", number + 1));
            }
        }
        for allow in &allow {
            for (at, _) in text.match_indices(allow.as_str()) {
                let attribute = text[at..].split(']').next().unwrap_or("");
                if !attribute.contains("reason") {
                    let number = text[..at].lines().count() + 1;
                    wrong.push(format!("{shown}:{number}: a lint is silenced without a reason"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The structs of a source, each with the number of its named fields.
fn structs(code: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        let Some((_, rest)) = line.split_once("struct ").filter(|_| line.ends_with(" {")) else {
            continue;
        };
        let is_field = |line: &&str| {
            let line = line.trim_start();
            let name = line.split_once(": ").map_or("", |(name, _)| name);
            let name = name.rsplit(' ').next().unwrap_or("");
            !line.starts_with("//") && !name.is_empty() && name.chars().all(is_of_name)
        };
        let fields = lines.by_ref().take_while(|line| *line != "}").filter(is_field).count();
        found.push((name(rest), fields));
    }
    found
}

fn is_of_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

#[test]
fn the_parts_of_a_driver_are_small() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (path, text) in sources(&root().join("rsock/src/connection/driver")) {
        for (name, fields) in structs(&code(&text)) {
            count += 1;
            if fields > MAX_FIELDS {
                wrong.push(format!("{}: {name} has {fields} fields", path.display()));
            }
        }
    }
    assert!(count > 20, "{count} structs: they are not found any more");
    assert!(wrong.is_empty(), "at most {MAX_FIELDS} fields:\n{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_sources_reads() {
    let text = "use crate::{\n  a::{B, C}, // crate::x\n  d,\n};\nlet e = crate::f::g();\n\
                #[cfg(test)]\nmod tests {\n use crate::h; }";
    let names: Vec<_> = used(&code(text)).into_iter().collect();
    assert_eq!(names, ["a", "d", "f"]);
    let text =
        "pub(super) struct A<T> {\n    /// b: c\n    pub(super) d: T,\n    e: f::G,\n}\nstruct H;";
    assert_eq!(structs(text), [("A".to_owned(), 2)]);
}
