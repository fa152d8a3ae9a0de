//! Seeds: topics, their readers and publishers, in every order of events.
//!
//! `SEED=n cargo test -p rsock-sim-topics` runs that one alone. `cargo run --release -p rsock-sim-topics`
//! goes on for as long as it is let.

use rsock_sim_topics::{OPERATIONS, Totals, run_seed};

const SEEDS: u64 = 200;

#[test]
fn what_must_hold_holds_for_every_seed() {
    let seeds = match std::env::var("SEED") {
        Ok(seed) => {
            let seed: u64 = seed.parse().expect("SEED is a number");
            seed..seed + 1
        }
        Err(_) => 0..SEEDS,
    };
    // A panic is told with its seed; while a run is shrunk there are many of them.
    std::panic::set_hook(Box::new(|_| {}));
    let is_alone = seeds.clone().count() == 1;
    let mut sum = Totals::default();
    for seed in seeds {
        match run_seed(seed, OPERATIONS) {
            Ok(totals) => sum += totals,
            Err(failure) => {
                drop(std::panic::take_hook());
                panic!("{failure}")
            }
        }
    }
    println!("{sum:?}");
    // A world in which nothing happens would hold.
    let much = sum.published > 25_000
        && sum.refused > 8_000
        && sum.duplicates > 1_500
        && sum.items > 20_000
        && sum.gaps > 2_000
        && sum.ended > 1_000
        && sum.failed > 200
        && sum.joins > 1_500
        && sum.payloads > 8_000
        && sum.held_back > 500
        && sum.sessions > 1_000
        && sum.watches > 300
        && sum.told > 3_000
        && sum.wakes > 4_000
        && sum.handfuls > 0
        && sum.reopened > 600
        && sum.let_go > 10_000
        && sum.commits > 1_000
        && sum.loads > 100
        && sum.found > 50
        && sum.disk_failures > 0
        && sum.deletions > 200
        && sum.forgotten > 300;
    assert!(is_alone || much, "too little happened: {sum:?}");
}
