//! The allocator of the binary. Memory that a burst took goes back to the system a second after it
//! was given up, also where nothing happens any more; glibc keeps it (`docs/performance.md`). Where
//! connections hold much of what they may, it goes back at once: what is kept for later comes on top
//! of what they hold.

use std::{io, sync::Arc, thread};

use rsock::MemoryBudget;
use tikv_jemalloc_ctl::{Access, AsName};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How long memory that nobody uses is kept for whoever needs some, in milliseconds. Ten times as long,
/// as jemalloc has it, saves no CPU that could be measured.
const KEPT_FOR_MS: isize = 1_000;

/// Sets how long unused memory is kept: to be called before there are threads, each of which has an
/// arena then that is as the first.
pub(crate) fn set_up() {
    keep_for(KEPT_FOR_MS);
}

/// Keeps nothing while this budget is under pressure.
///
/// # Errors
/// There can be no more threads.
pub(crate) fn follow(memory: &Arc<MemoryBudget>) -> io::Result<()> {
    let budget = Arc::clone(memory);
    let follower = thread::Builder::new().name("rsockd-memory".to_owned()).spawn(move || {
        loop {
            keep_for(if budget.is_under_pressure() { 0 } else { KEPT_FOR_MS });
            thread::park();
        }
    })?;
    // It may be a thread that serves, which others wait for: giving back takes a while.
    memory.on_pressure(move || follower.thread().unpark());
    Ok(())
}

/// Arenas that are not in use refuse, and will be made as all: then, memory goes back later.
fn keep_for(milliseconds: isize) {
    let _ = "arenas.dirty_decay_ms\0".name().write(milliseconds);
    let arenas: u32 = "arenas.narenas\0".name().read().unwrap_or(1);
    for arena in 0..arenas {
        let setting = format!("arena.{arena}.dirty_decay_ms\0");
        let _ = setting.as_str().name().write(milliseconds);
    }
}
