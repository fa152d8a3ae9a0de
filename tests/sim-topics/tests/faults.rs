//! The checks bite: cores with a fault are found out, each in some of a thousand worlds.
//!
//! This is the simulation once more, over a copy of the core in which faults can be switched on.

#![allow(dead_code, unreachable_pub, reason = "the simulation uses more of itself")]

use std::cell::Cell;

include!(concat!(env!("OUT_DIR"), "/copy.rs"));

#[path = "../src/act.rs"]
mod act;
#[path = "../src/board.rs"]
mod board;
#[path = "../src/broken.rs"]
mod broken;
#[path = "../src/connection.rs"]
mod connection;
#[path = "../src/disk.rs"]
mod disk;
#[path = "../src/fold.rs"]
mod fold;
#[path = "../src/judge.rs"]
mod judge;
#[path = "../src/look.rs"]
mod look;
#[path = "../src/member.rs"]
mod member;
#[path = "../src/model.rs"]
mod model;
#[path = "../src/plan.rs"]
mod plan;
#[path = "../src/publish.rs"]
mod publish;
#[path = "../src/room.rs"]
mod room;
#[path = "../src/run.rs"]
mod run;
#[path = "../src/settle.rs"]
mod settle;
#[path = "../src/shelf.rs"]
mod shelf;
#[path = "../src/subscribe.rs"]
mod subscribe;
#[path = "../src/subscription.rs"]
mod subscription;
#[path = "../src/totals.rs"]
mod totals;
#[path = "../src/trace.rs"]
mod trace;
#[path = "../src/watch.rs"]
mod watch;
#[path = "../src/world.rs"]
mod world;

/// Worlds in which a fault has to show.
const WORLDS: u64 = 1_500;

thread_local! {
    static BROKEN: Cell<&'static str> = const { Cell::new("") };
}

/// Whether this fault is switched on.
fn is_broken(fault: &str) -> bool {
    BROKEN.get() == fault
}

fn find(fault: &'static str) -> Option<(u64, broken::Broken)> {
    BROKEN.set(fault);
    let found = (0..WORLDS)
        .find_map(|seed| Some((seed, run::Run::seeded(seed, run::OPERATIONS).try_go().err()?)));
    BROKEN.set("");
    found
}

#[test]
fn every_fault_is_found() {
    assert!(NOT_MADE.is_empty(), "build.rs names places that are not in the core: {NOT_MADE:?}");
    // A panic is told below.
    std::panic::set_hook(Box::new(|_| {}));
    // One of whoever drives the core: a reader that has waited does not look again.
    let faults = FAULTS.iter().copied().chain(["does_not_look_again"]);
    let mut missed = Vec::new();
    // `FAULT=name` looks for those alone whose names have this in them.
    let only = std::env::var("FAULT").unwrap_or_default();
    for fault in faults.filter(|fault| fault.contains(&only)) {
        match find(fault) {
            Some((seed, broken)) => println!("{fault}: seed {seed}: {broken}"),
            None => missed.push(fault),
        }
    }
    drop(std::panic::take_hook());
    assert!(missed.is_empty(), "not found: {missed:?}");
    BROKEN.set("");
    for seed in 0..20 {
        let sound = run::Run::seeded(seed, run::OPERATIONS).try_go();
        assert!(sound.is_ok(), "the copy without faults: {sound:?}");
    }
}
