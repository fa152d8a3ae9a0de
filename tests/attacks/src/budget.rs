//! The memory that `rsockd` may hold: the formula of `ARCHITECTURE.md`, with the flags that set
//! what is in it.

use std::path::PathBuf;

/// `memory.max`: bytes the process may hold for its connections, over all of them.
pub const MEMORY_MAX: u64 = 256 << 20;
/// Bytes of all topics: their logs, and themselves.
pub const TOPIC_MEMORY: u64 = 64 << 20;
/// Topics of which only the name and the numbering are remembered.
const RECORDS: u64 = 100_000 * 300;
/// The cost of a connection that is not counted: of its being there.
const CONNECTION: u64 = 16 << 10;
/// Threads that serve.
const THREADS: u64 = 2;
/// The memory of a thread: blocks, buffers, a read under way.
const THREAD: u64 = 4 << 20;
/// The memory that an allocator keeps for the next burst when everything has gone.
const KEPT: u64 = 16 << 20;

/// The flags of the server under attack.
pub fn flags() -> Vec<String> {
    let (max, threads) = (MEMORY_MAX.to_string(), THREADS.to_string());
    // Sessions go soon, so that it is seen how.
    let topics = TOPIC_MEMORY.to_string();
    let flags = ["--memory-max", &max, "--topic-memory", &topics, "--workers", &threads];
    let flags = flags.into_iter().chain(["--resume-window", "4s"]);
    let directory = directory().display().to_string();
    let flags =
        flags.chain(["--data", &directory, "--topic", "disk.>=durable,messages=100000,bytes=1GiB"]);
    flags.map(str::to_owned).collect()
}

/// The directory of its durable topics: empty when a server is started, and removed by
/// [`clean_up`].
fn directory() -> PathBuf {
    let directory = std::env::temp_dir().join(format!("rsock-attacks-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    directory
}

/// Removes what servers under attack have left on disk.
pub fn clean_up() {
    directory();
}

/// The growth it may show with so many connections, and with topics or without.
pub fn growth(connections: u64, has_topics: bool) -> u64 {
    MEMORY_MAX + connections * CONNECTION + THREADS * THREAD + topics(has_topics)
}

/// The growth over the start that may be left when attackers have gone.
pub fn left(start: u64, has_topics: bool) -> u64 {
    start + start / 5 + KEPT + topics(has_topics)
}

fn topics(has_topics: bool) -> u64 {
    if has_topics { TOPIC_MEMORY + RECORDS } else { 0 }
}
