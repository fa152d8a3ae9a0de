//! What `rsockd` may hold: the formula of `ARCHITECTURE.md`, with the flags that set what is in it.

/// Bytes the process may hold for its connections, over all of them.
pub const MEMORY_MAX: u64 = 256 << 20;
/// What a connection costs by being there.
pub const CONNECTION: u64 = 16 << 10;
/// What allocators, threads and tables keep when everything has gone.
pub const KEPT: u64 = 16 << 20;

/// The flags of the server under attack.
pub fn flags() -> Vec<String> {
    // Sessions go soon, so that it is seen how.
    vec!["--resume-window".to_owned(), "4s".to_owned()]
}

/// What it may grow by with so many connections.
pub fn growth(connections: u64) -> u64 {
    MEMORY_MAX + connections * CONNECTION
}

/// What may be left of what it had at the start, when attackers have gone.
pub fn left(start: u64) -> u64 {
    start + start / 5 + KEPT
}
