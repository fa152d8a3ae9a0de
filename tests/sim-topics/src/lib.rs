//! Deterministic simulation of topics: the core without its routes, readers that are driven as a connection
//! drives them, members, publishers, those who come and go, a clock, and a model that knows what each of
//! them may be told.
//!
//! A world is a function of its seed. Where the core calls out (a reader's sink, a connection's wake) and
//! between the steps of a reader's wait, other threads do something, as they may in a service: so one thread
//! makes the orders of events that several would. What must hold has a name: [`Invariant`].

use rsock_topics as topics;

mod act;
mod board;
mod broken;
mod connection;
mod disk;
mod fold;
mod judge;
mod look;
mod member;
mod model;
mod plan;
mod publish;
mod room;
mod run;
mod settle;
mod shelf;
mod subscribe;
mod subscription;
mod totals;
mod trace;
mod watch;
mod world;

/// Whether the core, or what drives it, has this fault: this one has none. See `tests/faults.rs`.
fn is_broken(_: &str) -> bool {
    false
}

pub use broken::{Broken, Invariant};
pub use run::{Failure, OPERATIONS, Run, Totals, run_seed};
