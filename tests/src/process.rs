//! Servers as processes of their own, and what they cost.

use std::{
    path::{Path, PathBuf},
    process::{Command as Build, Stdio},
    sync::{Arc, OnceLock},
};

use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::{
    record::{Recorder, limit_time},
    script::PATIENCE,
};

/// A process that serves; it is killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// The addresses it listens on, as it says itself.
    pub uris: Vec<String>,
    /// The lines it writes to standard error.
    pub log: Arc<Recorder>,
    _stdout: Lines<BufReader<ChildStdout>>,
}

/// The beginnings of addresses that are listened on.
const SCHEMES: [&str; 4] = ["tcp://", "ws://", "tls://", "wss://"];

impl Process {
    /// The fixture of these tests, by the path Cargo gives to integration tests.
    pub async fn fixture(path: &str) -> Self {
        Self::fixture_with(path, &[]).await
    }

    /// The same with settings, as the program describes them.
    pub async fn fixture_with(path: &str, settings: &[&str]) -> Self {
        let mut command = Command::new(path);
        command.args(settings);
        Self::start(command, 2).await
    }

    /// `rsockd` of this build, on free ports.
    pub async fn rsockd() -> Self {
        Self::rsockd_with(&[]).await
    }

    /// The same with these flags.
    pub async fn rsockd_with(flags: &[&str]) -> Self {
        let mut command = Command::new(rsockd());
        command.args(flags);
        for uri in ["tcp://127.0.0.1:0", "ws://127.0.0.1:0/rsocket"] {
            command.args(["--listen", uri]);
        }
        Self::start(command, 2).await
    }

    /// Starts a server that prints its URIs on standard output, a line each, for a test.
    pub async fn start(command: Command, uris: usize) -> Self {
        limit_time();
        Self::start_for_long(command, uris).await
    }

    /// The same for a program that may run for as long as it likes.
    pub async fn start_for_long(mut command: Command, uris: usize) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the server starts");
        let log = Arc::new(Recorder::default());
        let stderr = child.stderr.take().expect("its log is a pipe");
        let written = Arc::clone(&log);
        tokio::spawn(async move {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                written.note(line);
            }
        });
        let stdout = child.stdout.take().expect("its output is a pipe");
        let mut lines = BufReader::new(stdout).lines();
        let mut found = Vec::new();
        while found.len() < uris {
            let line = timeout(PATIENCE, lines.next_line())
                .await
                .expect("the server says where it listens in time")
                .expect("its output can be read");
            let line = line.expect("the server says where it listens");
            let words = line.split_whitespace();
            found.extend(
                words
                    .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()))
                    .filter(|word| SCHEMES.iter().any(|scheme| word.starts_with(scheme)))
                    .map(str::to_owned),
            );
        }
        Self { child, uris: found, log, _stdout: lines }
    }

    /// Its memory now, in bytes, as the system counts it.
    pub fn memory(&self) -> u64 {
        Self::memory_of(self.id())
    }

    /// The most memory it has had since `forget_peak`, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = proc(self.id(), "status");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|line| line.trim().strip_suffix(" kB"));
        peak.and_then(|kib| kib.parse::<u64>().ok()).expect("a number of KiB") << 10
    }

    /// Begins to look for the peak anew.
    pub fn forget_peak(&self) {
        let path = format!("/proc/{}/clear_refs", self.id());
        std::fs::write(path, "5").expect("our own child");
    }

    /// Its address space, in bytes: also what it has asked for and not touched.
    pub fn address_space(&self) -> u64 {
        let statm = proc(self.id(), "statm");
        let pages = statm.split_whitespace().next().expect("a size");
        pages.parse::<u64>().expect("a number") * 4096
    }

    /// The memory of any process.
    pub fn memory_of(id: u32) -> u64 {
        let statm = proc(id, "statm");
        let pages = statm.split_whitespace().nth(1).expect("a resident size");
        let pages: u64 = pages.parse().expect("a number");
        // Linux has pages of 4 KiB on what these tests run on.
        pages * 4096
    }

    /// Its time on a processor so far, in ticks of 10 ms.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = proc(self.id(), "stat");
        // The name, in brackets, may hold anything.
        let (_, fields) = stat.rsplit_once(") ").expect("a name in brackets");
        let fields: Vec<_> = fields.split_whitespace().collect();
        [11, 12].map(|index| fields[index].parse::<u64>().expect("a number")).iter().sum()
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The number of the process.
    pub fn id(&self) -> u32 {
        self.child.id().expect("the server has not ended")
    }

    /// Kills it, and waits until nothing of it is left.
    pub async fn killed(mut self) {
        self.child.kill().await.expect("our own child");
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        self.child.wait().await.expect("our own child")
    }
}

fn proc(id: u32, file: &str) -> String {
    std::fs::read_to_string(format!("/proc/{id}/{file}")).expect("Linux has /proc")
}

/// The program `rsockd` of this build, built if it is not there as its sources are.
pub fn rsockd() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| built("rsock-server", "rsockd"))
}

/// The program `rsock` of this build, likewise.
pub fn rsock() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| built("rsock-client", "rsock"))
}

fn built(package: &str, program: &str) -> PathBuf {
    // target/debug/deps/test-… → target/debug/rsockd; a program lies beside it.
    let own = std::env::current_exe().expect("our own path");
    let beside = own.parent().expect("a directory");
    let directory = if beside.ends_with("deps") { beside.parent() } else { Some(beside) };
    let directory = directory.expect("Cargo's target directory");
    let path = directory.join(program);
    if !is_fresh(&path) {
        let mut build = Build::new(env!("CARGO"));
        build.args(["build", "--package", package, "--bin", program]);
        if directory.ends_with("release") {
            build.arg("--release");
        }
        let built = build.status().expect("cargo runs");
        assert!(built.success(), "{program} does not build");
    }
    path
}

/// Whether a program is there and not older than its sources, which Cargo lists beside it: where Cargo
/// was asked for the tests of one package, it builds no other's programs anew.
fn is_fresh(program: &Path) -> bool {
    let changed = |path: &Path| path.metadata().and_then(|file| file.modified()).ok();
    let sources = std::fs::read_to_string(program.with_extension("d")).unwrap_or_default();
    let sources = sources.split_once(": ").map_or("", |(_, sources)| sources);
    let built = changed(program);
    built.is_some() && sources.split_whitespace().all(|source| changed(Path::new(source)) <= built)
}
