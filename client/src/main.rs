//! rsock.
fn main() {}
