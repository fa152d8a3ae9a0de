//! Blocks ` ```console ` of documents show what happens: each is run, by the programs of this build, in
//! the order of its document and against one service of its own.
//!
//! For who writes them:
//!
//! - `$ COMMAND` goes to a shell. Below it stands all that it prints, stdout and stderr together. `rsockd`,
//!   and what the README says in its place, is the document's service, and goes on.
//! - `…` on a line stands for any number of lines that are left out.
//! - `# elsewhere: COMMAND` is what the reader does in another terminal once all above it has been
//!   printed. `pkill` of `rsockd` meets the document's service alone; a command with `rsock` or `curl` is run to its
//!   end, and should succeed.
//! - `^C` is Ctrl-C, once all above it has been printed, and that should be something: a shell that is
//!   about to start a program keeps it to itself.
//! - A time stands for any time: `1.7ms`, `2026-11-29T21:44:52.909Z`, `1764417433123`; so does the epoch of a
//!   topic, `9f3c1a7be2d04411`, for any epoch. The ports 7878 and 7879 stand for
//!   those of the service, `/tmp/` for a folder of the test's own, and `examples/` for those here.
//! - `<!-- not run: REASON -->` on the line before a block keeps it from being run. Without curl, neither are the
//!   blocks with it, but where CI=true.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Duration,
};

use rsock_tests::process::{rsock, rsockd};

use crate::{documents, root};

/// When a line that is to come is given up.
const PATIENCE: Duration = Duration::from_secs(60);

const ADDRESSES: [&str; 2] = ["127.0.0.1:7878", "127.0.0.1:7879"];

/// How the README says `rsockd` before anything is installed.
const BY_CARGO: &str = "cargo run --release --bin rsockd";

#[derive(Debug, PartialEq, Eq)]
struct Block<'a> {
    /// Counted from 1.
    line: usize,
    not_run: Option<&'a str>,
    lines: Vec<Shown<'a>>,
}

impl Block<'_> {
    /// Whether this program is called in it.
    fn wants(&self, program: &str) -> bool {
        self.lines.iter().any(|line| match line {
            Shown::Command(command) | Shown::Elsewhere(command) => {
                command.split_whitespace().any(|word| word == program)
            }
            _ => false,
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Shown<'a> {
    Command(&'a str),
    Printed(&'a str),
    LeftOut,
    Elsewhere(&'a str),
    Interrupt,
}

impl<'a> Shown<'a> {
    fn read(line: &'a str) -> Self {
        if let Some(command) = line.strip_prefix("$ ") {
            Self::Command(command)
        } else if let Some(command) = line.strip_prefix("# elsewhere: ") {
            Self::Elsewhere(command)
        } else {
            match line.trim() {
                "…" => Self::LeftOut,
                "^C" => Self::Interrupt,
                _ => Self::Printed(line),
            }
        }
    }
}

/// The blocks of a document.
///
/// # Errors
/// A command stands in a block of another kind, in which nobody would run it.
fn blocks(text: &str) -> Result<Vec<Block<'_>>, String> {
    let mut found = Vec::new();
    let mut lines = (1..).zip(text.lines());
    let mut before = "";
    while let Some((line, text)) = lines.next() {
        if let Some(kind) = text.trim_start().strip_prefix("```") {
            let inside = lines.by_ref().take_while(|(_, text)| text.trim_start() != "```");
            let lines: Vec<_> = inside.map(|(_, text)| Shown::read(text)).collect();
            let reason = before.strip_prefix("<!-- not run: ");
            let not_run = reason.and_then(|reason| reason.strip_suffix(" -->"));
            if kind == "console" {
                found.push(Block { line, not_run, lines });
            } else if lines.iter().any(|line| matches!(line, Shown::Command(_))) {
                return Err(format!("line {line}: a command in a block that is not of a console"));
            }
        }
        before = text;
    }
    Ok(found)
}

/// A program at work; killed with all it has started if its test fails.
struct Running {
    process: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut process = command
            .env_remove("RSOCKD_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("it starts");
        let stdout = BufReader::new(process.stdout.take().expect("a pipe"));
        let (sender, lines) = mpsc::sync_channel(1_000);
        thread::spawn(move || {
            // Once nobody reads, it is over.
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { process, lines }
    }

    /// The line it prints next; `None` at its end.
    fn next(&self) -> Result<Option<String>, String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => Err(format!("nothing more within {PATIENCE:?}")),
        }
    }

    /// Sends it a signal, as `-INT`, and whatever it has started.
    fn signal(&self, name: &str) {
        let group = format!("-{}", self.process.id());
        let sent = Command::new("kill").args([name, "--", &group]).status();
        assert!(sent.expect("kill").success(), "no process to send {name} to");
    }

    /// Ends it at once, and returns what was left to read.
    fn kill(mut self) -> Vec<String> {
        self.signal("-KILL");
        self.process.wait().expect("our own child");
        std::iter::from_fn(|| self.lines.recv().ok()).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended, as it should.
        let group = format!("-{}", self.process.id());
        let _ = Command::new("kill")
            .args(["-KILL", "--", &group])
            .stderr(Stdio::null())
            .status()
            .and_then(|_| self.process.wait());
    }
}

/// One reader's machine: a service, a folder, and programs to call.
struct Machine {
    folder: PathBuf,
    /// Of the service, in the order of `ADDRESSES`.
    addresses: [String; 2],
    service: Option<Running>,
    /// The lines of the service that nobody has read.
    announced: Vec<String>,
    others: Vec<Running>,
}

impl Machine {
    fn start(name: &str) -> Self {
        let name = name.replace(|c: char| !c.is_alphanumeric(), "-");
        let folder = std::env::temp_dir().join(format!("rsock-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let addresses = ["127.0.0.1:0", "127.0.0.1:0"].map(str::to_owned);
        let (service, announced, others) = (None, Vec::new(), Vec::new());
        let mut machine = Self { folder, addresses, service, announced, others };
        machine.serve();
        machine
    }

    /// Starts the service, or starts it anew at its addresses.
    fn serve(&mut self) {
        let [tcp, ws] = &self.addresses;
        let (tcp, ws) = (format!("tcp://{tcp}"), format!("ws://{ws}/rsocket"));
        let mut command = Command::new(rsockd());
        let service =
            Running::start(command.args(["--listen", &tcp, "--listen", &ws]).stderr(Stdio::null()));
        let line = || service.next().expect("in time").expect("it says where it listens");
        self.announced = vec![line(), line()];
        for (line, (address, scheme)) in
            self.announced.iter().zip(self.addresses.iter_mut().zip(["tcp://", "ws://"]))
        {
            let said = line.strip_prefix("listening on ").and_then(|uri| uri.strip_prefix(scheme));
            *address = said.unwrap().trim_end_matches("/rsocket").to_owned();
        }
        self.service = Some(service);
    }

    /// A command as it is run here.
    fn here(&self, command: &str) -> String {
        let folder = format!("{}/", self.folder.display());
        let command = command.replace("/tmp/", &folder);
        let examples = format!(" {}/examples/", root().display());
        let command = command.replace(" examples/", &examples);
        ADDRESSES
            .iter()
            .zip(&self.addresses)
            .fold(command, |text, (shown, own)| text.replace(shown, own))
    }

    /// A line that was printed, as it is shown.
    fn shown(&self, line: &str) -> String {
        let folder = format!("{}/", self.folder.display());
        let line = line.replace(&folder, "/tmp/");
        ADDRESSES
            .iter()
            .zip(&self.addresses)
            .fold(line, |text, (shown, own)| text.replace(own, shown))
    }

    fn shell(&self, command: &str) -> Running {
        let programs = rsock().parent().expect("a folder").as_os_str().to_owned();
        let mut path = programs;
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let script = format!("exec 2>&1\n{}", self.here(command));
        Running::start(Command::new("sh").args(["-c", &script]).env("PATH", path))
    }

    /// Does what the reader does in another terminal.
    fn elsewhere(&mut self, command: &str) -> Result<(), String> {
        let words: Vec<_> = command.split_whitespace().collect();
        match words[..] {
            ["rsockd"] => self.serve(),
            ["rsockd", ref flags @ ..] => {
                let flags: Vec<_> = flags.iter().map(|flag| self.here(flag)).collect();
                let mut command = Command::new(rsockd());
                let other = Running::start(command.args(flags).stderr(Stdio::null()));
                other.next()?;
                self.others.push(other);
            }
            ["pkill", "-KILL", "rsockd"] => {
                self.service.take().ok_or("the service is not running")?.kill();
            }
            ["pkill", signal, "rsockd"] => {
                self.service.as_ref().ok_or("the service is not running")?.signal(signal);
            }
            _ if words.contains(&"rsock") || words.contains(&"curl") => {
                let mut running = self.shell(command);
                let mut printed = Vec::new();
                while let Some(line) = running.next()? {
                    printed.push(line);
                }
                let ended = running.process.wait().map_err(|error| error.to_string())?;
                if !ended.success() {
                    return Err(format!("elsewhere, {command} fails:\n{}", printed.join("\n")));
                }
            }
            _ => return Err(format!("nobody has said how to do {command:?} elsewhere")),
        }
        Ok(())
    }

    /// Runs a block, and says where it is not as it is shown.
    fn follow(&mut self, block: &Block<'_>) -> Result<(), String> {
        let mut lines = block.lines.iter().peekable();
        while let Some(line) = lines.next() {
            let command = match line {
                Shown::Command(command) => command,
                Shown::Elsewhere(command) => {
                    self.elsewhere(command)?;
                    continue;
                }
                _ => return Err(format!("line {}: nothing has been called", block.line)),
            };
            let mut behind = Vec::new();
            while let Some(line) = lines.next_if(|line| !matches!(line, Shown::Command(_))) {
                behind.push(line);
            }
            self.run(command, &behind)
                .map_err(|wrong| format!("line {}: $ {command}\n{wrong}", block.line))?;
        }
        Ok(())
    }

    fn run(&mut self, command: &str, behind: &[&Shown<'_>]) -> Result<(), String> {
        if command == BY_CARGO {
            let service = self.service.take().ok_or("the service is not running")?;
            let mut printed = std::mem::take(&mut self.announced);
            // It has said all when it serves: what comes in one write is read in one.
            while printed.len() < behind.len() {
                printed.extend(service.next()?);
            }
            self.service = Some(service);
            let printed: Vec<_> = printed.iter().map(|line| self.shown(line)).collect();
            let same = printed.len() == behind.len()
                && printed.iter().zip(behind).all(|(line, shown)| Shown::Printed(line) == **shown);
            return if same { Ok(()) } else { Err(format!("it prints\n{}", printed.join("\n"))) };
        }
        let running = self.shell(command);
        let mut printed = Vec::new();
        let mut left_out = false;
        for shown in behind {
            match shown {
                Shown::Command(_) => unreachable!("a command is not behind itself"),
                Shown::LeftOut => left_out = true,
                Shown::Interrupt => running.signal("-INT"),
                Shown::Elsewhere(command) => self.elsewhere(command)?,
                Shown::Printed(expected) => loop {
                    let told = |what: &str| {
                        format!("shown is\n{expected}\nand {what}:\n{}", printed.join("\n"))
                    };
                    let next = running.next().map_err(|wrong| told(&wrong))?;
                    let next = next.ok_or_else(|| told("it has printed all of this"))?;
                    let next = self.shown(&next);
                    let is_it = form(&next) == form(expected);
                    printed.push(next);
                    if is_it {
                        left_out = false;
                        break;
                    }
                    if !left_out {
                        let told = format!("shown is\n{expected}\nand it prints:");
                        return Err(format!("{told}\n{}", printed.join("\n")));
                    }
                },
            }
        }
        while let Some(line) = running.next()? {
            if !left_out {
                return Err(format!("it prints as well:\n{}", self.shown(&line)));
            }
        }
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A line with all times and all epochs the same.
fn form(line: &str) -> String {
    let is_of_word = |c: char| c.is_alphanumeric() || matches!(c, '.' | ':' | '-');
    let mut formed = String::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| is_of_word(c) != is_of_word(first)).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        let (epoch, offset) = word.split_at(word.find(':').unwrap_or(word.len()));
        if is_time(word) {
            formed.push_str("TIME");
        } else if is_epoch(epoch) {
            formed.push_str("EPOCH");
            formed.push_str(offset);
        } else {
            formed.push_str(word);
        }
        rest = behind;
    }
    formed
}

fn is_time(word: &str) -> bool {
    let is_number = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_digit())
            && text.chars().all(|c| c.is_ascii_digit() || c == '.')
    };
    let is_date = word.len() >= 20
        && word.ends_with('Z')
        && word.as_bytes()[10] == b'T'
        && word[..4].bytes().all(|byte| byte.is_ascii_digit());
    // In JSON there is a colon before it.
    let number = word.strip_prefix(':').unwrap_or(word);
    let is_unix_time = number.len() == 13 && number.bytes().all(|byte| byte.is_ascii_digit());
    let units = ["ns", "µs", "ms", "s"];
    is_date
        || is_unix_time
        || units.iter().any(|unit| word.strip_suffix(unit).is_some_and(is_number))
}

fn is_epoch(word: &str) -> bool {
    word.len() == 16 && word.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether there is no curl here, which a developer's machine need not have.
fn lacks_curl() -> bool {
    let found = Command::new("curl").arg("--version").stdout(Stdio::null()).status();
    found.is_err() && std::env::var_os("CI").is_none_or(|value| value != "true")
}

#[test]
fn consoles_show_what_happens() {
    let (mut wrong, mut run) = (Vec::new(), 0);
    for (path, text) in documents() {
        let blocks = blocks(&text).unwrap_or_else(|wrong| panic!("{path}, {wrong}"));
        let mut machine = None;
        for block in &blocks {
            match block.not_run {
                Some(reason) => assert!(reason.len() > 10, "{path}: {reason:?} is not a reason"),
                None if block.wants("curl") && lacks_curl() => {
                    eprintln!("SKIPPED: {path}, line {}: there is no curl here", block.line);
                }
                None => {
                    let machine = machine.get_or_insert_with(|| Machine::start(&path));
                    wrong.extend(
                        machine.follow(block).err().map(|wrong| format!("{path}, {wrong}")),
                    );
                    run += 1;
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(run >= 5, "{run} blocks were found");
}

#[test]
fn a_console_that_shows_something_else_is_found() {
    let mut machine = Machine::start("itself");
    let mut outcome = |text: &str| {
        let text = format!("```console\n{text}\n```\n");
        machine.follow(&blocks(&text).unwrap()[0])
    };
    for right in [
        "$ echo a; echo b >&2\na\nb",
        "$ seq 9\n  …\n3\n  …",
        "$ echo 1.5ms at 2026-11-29T21:44:52.909Z\n200µs at 2024-01-01T00:00:00Z",
        "$ echo '\"e\":\"9f3c1a7be2d04411\",\"t\":1764417433123 9f3c1a7be2d04411:4'\n\"e\":\"00000000000000ff\",\"t\":1000000000000 00000000000000ff:4",
        "$ rsock request tcp://127.0.0.1:7878 -d hi\nhi\n$ ls /tmp/",
        "$ rsock stream tcp://127.0.0.1:7878 -r range -d '{\"interval_ms\":9}'\n0\n  …\n^C",
        "$ echo tcp://127.0.0.1:7878\ntcp://127.0.0.1:7878",
    ] {
        assert_eq!(outcome(right), Ok(()), "{right}");
    }
    for other in [
        "$ echo a\nb",
        "$ echo a",
        "$ echo a\na\nb",
        "$ seq 9\n  …\n10\n",
        "$ echo 1.5 ms\n2.5 ms",
        "$ echo 9f3c1a7be2d04411:4\n9f3c1a7be2d04411:5",
        "$ rsock request tcp://127.0.0.1:7878 -r nope\nrsock: done",
        "a\n$ echo a",
    ] {
        assert!(outcome(other).is_err(), "{other}");
    }
}

#[test]
fn blocks_are_read() {
    let text = "x\n<!-- not run: why -->\n```console\n$ a\n```\n```rust\n$x\n```\n";
    let block = Block { line: 3, not_run: Some("why"), lines: vec![Shown::Command("a")] };
    assert_eq!(blocks(text), Ok(vec![block]));
    for hidden in ["```sh\n$ a\n```", "- x\n  ```\n$ a\n  ```"] {
        assert!(blocks(hidden).is_err(), "{hidden}");
    }
}
