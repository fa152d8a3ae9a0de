//! Streams and their credit as a peer sees them that is not ours, by the requirements of `docs/spec.md`.

mod client;
mod metadata;
mod server;
mod split;
