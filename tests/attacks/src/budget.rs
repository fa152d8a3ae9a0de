//! What `rsockd` may hold: the formula of `ARCHITECTURE.md`, with the flags that set what is in it.

/// `memory.max`: bytes the process may hold for its connections, over all of them.
pub const MEMORY_MAX: u64 = 256 << 20;
/// What a connection costs that is not counted: by being there.
const CONNECTION: u64 = 16 << 10;
/// Threads that serve.
const THREADS: u64 = 2;
/// What a thread has: blocks, buffers, a read under way.
const THREAD: u64 = 4 << 20;
/// What an allocator keeps for the next burst when everything has gone.
const KEPT: u64 = 16 << 20;

/// The flags of the server under attack.
pub fn flags() -> Vec<String> {
    let (max, threads) = (MEMORY_MAX.to_string(), THREADS.to_string());
    // Sessions go soon, so that it is seen how.
    let flags = ["--memory-max", &max, "--workers", &threads, "--resume-window", "4s"];
    flags.map(str::to_owned).into()
}

/// What it may grow by with so many connections.
pub fn growth(connections: u64) -> u64 {
    MEMORY_MAX + connections * CONNECTION + THREADS * THREAD
}

/// What may be left of what it had at the start, when attackers have gone.
pub fn left(start: u64) -> u64 {
    start + start / 5 + KEPT
}
