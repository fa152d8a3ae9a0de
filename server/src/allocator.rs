//! The allocator of the binary. Memory that a burst took goes back to the system a second after it
//! was given up, also where nothing happens any more; glibc keeps it (`docs/performance.md`).

use tikv_jemalloc_ctl::{Access, AsName};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How long memory that nobody uses is kept for whoever needs some, in milliseconds. Ten times as long,
/// as jemalloc has it, saves no CPU that could be measured.
const KEPT_FOR_MS: isize = 1_000;

/// To be called before there are threads: each has arenas of its own, and only the first is there yet.
pub(crate) fn set_up() {
    for setting in ["arenas.dirty_decay_ms\0", "arena.0.dirty_decay_ms\0"] {
        // Without it memory goes back later.
        let _ = setting.name().write(KEPT_FOR_MS);
    }
}
