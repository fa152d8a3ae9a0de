//! Shared by the tests: a peer that is not ours, handlers to ask, pairs of ends to ask them, and
//! what watches the whole.

pub mod cutter;
pub mod fixture;
pub mod link;
pub mod log;
pub mod process;
pub mod readiness;
pub mod record;
pub mod script;

pub use rsock_wire as wire;
