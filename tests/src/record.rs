//! A record of what happened, as lines of text to wait for.

use std::{
    collections::VecDeque,
    panic,
    sync::{Arc, Mutex, Once, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::timeout};

/// Lines kept; a test that makes more reads counters and not lines.
const MAX_LINES: usize = 20_000;
/// How long to wait for a line before the test has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Lines in the order in which they were written.
#[derive(Debug)]
pub struct Recorder(watch::Sender<VecDeque<String>>);

impl Default for Recorder {
    fn default() -> Self {
        Self(watch::Sender::new(VecDeque::new()))
    }
}

impl Recorder {
    /// Writes a line.
    pub fn note(&self, line: impl Into<String>) {
        self.0.send_modify(|lines| {
            if lines.len() < MAX_LINES {
                lines.push_back(line.into());
            }
        });
    }

    /// Everything so far.
    pub fn lines(&self) -> Vec<String> {
        self.0.borrow().iter().cloned().collect()
    }

    fn last_lines(&self) -> Vec<String> {
        let lines = self.lines();
        lines[lines.len().saturating_sub(30)..].to_vec()
    }

    /// How often this line was written.
    pub fn count(&self, line: &str) -> usize {
        self.0.borrow().iter().filter(|other| *other == line).count()
    }

    /// Waits until a line is there.
    pub async fn wait(&self, line: &str) {
        self.wait_count(line, 1).await;
    }

    /// Waits until a line is there so often.
    pub async fn wait_count(&self, line: &str, count: usize) {
        let mut lines = self.0.subscribe();
        let there =
            |lines: &VecDeque<String>| lines.iter().filter(|other| *other == line).count() >= count;
        let waited = timeout(PATIENCE, lines.wait_for(there)).await.is_ok();
        assert!(waited, "{count} × {line:?} not in {:#?}", self.last_lines());
    }

    /// Waits for a line that contains all of these; gives it back.
    pub async fn wait_line(&self, parts: &[&str]) -> String {
        let mut lines = self.0.subscribe();
        let is_it = |line: &&String| parts.iter().all(|part| line.contains(part));
        let there = |lines: &VecDeque<String>| lines.iter().find(is_it).is_some();
        let waited = timeout(PATIENCE, lines.wait_for(there)).await.is_ok();
        assert!(waited, "{parts:?} not in {:#?}", self.last_lines());
        self.lines().iter().find(is_it).cloned().unwrap_or_default()
    }

    /// Waits until a line contains this.
    pub async fn wait_containing(&self, part: &str) {
        self.wait_containing_count(part, 1).await;
    }

    /// Waits until so many lines contain this.
    pub async fn wait_containing_count(&self, part: &str, count: usize) {
        let mut lines = self.0.subscribe();
        let there = |lines: &VecDeque<String>| {
            lines.iter().filter(|line| line.contains(part)).count() >= count
        };
        let waited = timeout(PATIENCE, lines.wait_for(there)).await.is_ok();
        assert!(waited, "{count} × {part:?} not in {:#?}", self.last_lines());
    }
}

/// Writes a line when dropped: a handler's last word.
#[derive(Debug)]
pub struct Guard {
    recorder: Arc<Recorder>,
    line: String,
}

impl Guard {
    /// For a handler of this name.
    pub fn new(recorder: &Arc<Recorder>, name: &str) -> Self {
        Self { recorder: Arc::clone(recorder), line: format!("dropped {name}") }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.recorder.note(std::mem::take(&mut self.line));
    }
}

/// How long a whole test program may run: many times what it needs.
const PROGRAM_LIMIT: Duration = Duration::from_secs(300);

/// A test that hangs fails: from the first call on, the program has a time limit.
pub fn limit_time() {
    static LIMIT: Once = Once::new();
    LIMIT.call_once(|| {
        std::thread::spawn(|| {
            std::thread::sleep(PROGRAM_LIMIT);
            eprintln!("a test hangs: the program has run for {PROGRAM_LIMIT:?}");
            std::process::exit(101);
        });
    });
}

static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Records panics from now on, of any thread, beside what the hook before did.
pub fn record_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let mut panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
            panics.push(info.to_string());
            drop(panics);
            before(info);
        }));
    });
}

/// Panics in the code under test since `record_panics`; a failed assertion of a test is its own.
pub fn panics() -> Vec<String> {
    let panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
    let ours = |panic: &&String| !panic.contains("tests/");
    panics.iter().filter(ours).cloned().collect()
}
