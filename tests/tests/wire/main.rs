//! Streams and their credit as a peer sees them that is not ours: rows of part 2 of `protocol.md`.

mod client;
mod server;
mod split;
