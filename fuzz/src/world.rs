//! The simulator's worlds, with decisions read off the input instead of drawn from a seed.

use rsock_sim::Run;

/// Runs the world that `data` says; what does not hold in it is a panic.
///
/// `simulate --input FILE` shows the operations of an input, and the fewest that break the same.
pub fn world(data: &[u8]) {
    if let Err(broken) = Run::from_bytes(data).go() {
        panic!("{broken}");
    }
}
