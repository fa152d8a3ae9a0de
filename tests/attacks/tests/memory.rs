//! Attacks at a small part of their size, every day; `cargo run --release -p rsock-attacks -- memory`
//! has all of them whole.
#![cfg(target_os = "linux")]

use rsock_attacks::{attack, memory};

/// A percent of these shows whether the measuring works, and most of what an attack could break.
#[tokio::test]
async fn what_small_attacks_make_it_hold() {
    for name in ["metadata_pushes", "half_payloads", "half_heads"] {
        let attack = attack::find(name).expect("a name in the list");
        let measured = memory::measure(attack, 5).await;
        assert_eq!(measured.problem(), None, "{measured}");
    }
}
