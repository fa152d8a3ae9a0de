//! Tests of the store.

mod committing;
mod damage;
mod many;
mod packs;
mod world;

use super::faulty::Fault;

/// A number from the environment, for runs that are longer than a test may be.
fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// `CUTS=30000` runs as many worlds, of three or four cuts each; `SEED=7` one of them again.
#[test]
fn power_cuts_lose_nothing_that_was_acknowledged() {
    let (first, worlds) = match from_environment("SEED") {
        Some(seed) => (seed, 1),
        None => (0, from_environment("CUTS").unwrap_or(300)),
    };
    let mut cuts = 0;
    let mut seen = world::Seen::default();
    for seed in first..first + worlds {
        match world::run(seed) {
            Ok((more, saw)) => {
                cuts += more;
                seen.add(saw);
            }
            Err(error) => panic!("{error}"),
        }
    }
    println!("{cuts} cuts in {worlds} worlds: {seen:?}");
}

#[test]
fn an_error_of_any_call_is_never_a_lie() {
    for seed in 1..=from_environment("WORLDS").unwrap_or(2) {
        for call in 1..=world::calls(seed) {
            if let Err(error) = world::run_with(seed, call, Fault::Error) {
                panic!("{error}");
            }
        }
    }
}

#[test]
fn a_disk_that_is_full_from_any_call_on_is_never_a_lie() {
    for seed in 1..=from_environment("WORLDS").unwrap_or(2) {
        for call in 1..=world::calls(seed) {
            if let Err(error) = world::run_with(seed, call, Fault::Full) {
                panic!("{error}");
            }
        }
    }
}
