//! Directories written by the engine, and each of them changed in many places, without a fuzzer and on any toolchain.
//! It is a process of its own, since its memory is bounded.

use std::{alloc::System, fs, path::Path};

use cap::Cap;

/// Some hundred times what the largest of these directories takes.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, 128 << 20);

/// Changes of each directory.
const CHANGES: u64 = 20;

/// What the fuzzer has found, if anything.
#[test]
fn what_was_found_is_mended() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/store");
    for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
        println!("{}", entry.path().display());
        rsock_fuzz::store(&fs::read(entry.path()).expect("the corpus can be read"));
    }
}

#[test]
fn directories_of_any_bytes_are_opened_or_refused() {
    let (seeds, mut random) = (rsock_fuzz::store_seeds(), 9_u64);
    let mut below = |end: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % end.max(1) as u64).unwrap_or_default()
    };
    for (number, seed) in seeds.iter().enumerate() {
        // Shown if one fails.
        println!("seed {number}");
        rsock_fuzz::store(seed);
        for change in 0..CHANGES {
            println!("change {change}");
            let mut bytes = seed.clone();
            for _ in 0..1 + below(6) {
                let at = below(bytes.len());
                match below(4) {
                    0 => bytes.truncate(at.max(1)),
                    1 => bytes.push(below(256) as u8),
                    2 => bytes[at] = below(256) as u8,
                    _ => bytes.splice(at..at, (0..4).map(|_| below(256) as u8)).for_each(drop),
                }
            }
            rsock_fuzz::store(&bytes);
        }
    }
}
