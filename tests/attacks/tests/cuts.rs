//! Sessions through transports that are disturbed in a dozen ways: a share of the ten thousand that
//! `cargo run --release -p rsock-attacks -- cuts` lets happen.
#![cfg(target_os = "linux")]

use rsock_attacks::cuts::{self, Kind, Plan};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_survive_whatever_happens_to_their_transports() {
    let plan = Plan { seed: 1, cuts: 400, clients: 24, kinds: Kind::ALL.into() };
    let totals = cuts::run(plan).await;
    assert_eq!(totals.broken, Vec::<String>::new(), "{totals}");
    assert!(totals.cuts() >= 300, "{totals}");
}
