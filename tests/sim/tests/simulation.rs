//! Seeds: two engines, their applications and the wire between them, in every order of events.
//!
//! `SEED=n cargo test -p rsock-sim` runs that one alone. `cargo run --release -p rsock-sim` goes on
//! for as long as it is let.

use rsock_sim::{OPERATIONS, Run, Totals, run_seed};

const SEEDS: u64 = 2_000;

#[test]
fn what_must_hold_holds_for_every_seed() {
    let seeds = match std::env::var("SEED") {
        Ok(seed) => {
            let seed: u64 = seed.parse().expect("SEED is a number");
            seed..seed + 1
        }
        Err(_) => 0..SEEDS,
    };
    let alone = seeds.clone().count() == 1;
    let mut sum = Totals::default();
    for seed in seeds {
        match run_seed(seed, OPERATIONS) {
            Ok(totals) => sum += totals,
            Err(failure) => panic!("{failure}"),
        }
    }
    println!("{sum:?}");
    // A world in which nothing happens would hold.
    let much = sum.requests > 15_000
        && sum.items > 25_000
        && sum.cuts_in_handshake > 50
        && sum.resumes > 400
        && sum.takeovers > 50
        && sum.windows_over > 10
        && sum.held > 50
        && sum.replayed > 200
        && sum.unleased > 20;
    assert!(alone || much, "too little happened: {sum:?}");
}

#[test]
fn a_seed_is_the_same_run_every_time() {
    for seed in 0..50 {
        let [first, second] = [(); 2].map(|()| Run::seeded(seed, OPERATIONS));
        assert_eq!(first.ops, second.ops, "{seed}");
        // Not a byte is different on the wire.
        assert_eq!(first.try_go(), second.try_go(), "{seed}");
    }
}
