//! Sessions through transports that are disturbed in a dozen ways: a share of the ten thousand that
//! `cargo run --release -p rsock-attacks -- cuts` lets happen.
#![cfg(target_os = "linux")]

use rsock_attacks::cuts::{self, Kind, Plan};

/// Found with them, and not mended yet.
const OPEN: [Kind; 4] = [Kind::Replayed, Kind::LateResume, Kind::PageDown, Kind::PageUp];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_survive_whatever_happens_to_their_transports() {
    let kinds = Kind::ALL.into_iter().filter(|kind| !OPEN.contains(kind)).collect();
    let totals = cuts::run(Plan { seed: 1, cuts: 400, clients: 24, kinds }).await;
    assert_eq!(totals.broken, Vec::<String>::new(), "{totals}");
    assert!(totals.cuts() >= 300, "{totals}");
}
