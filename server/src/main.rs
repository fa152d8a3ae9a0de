//! rsockd.
fn main() {}
