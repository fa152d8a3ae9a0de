//! Seeing frames pass: for logs and tools.

use std::sync::Arc;

use bytes::Bytes;

/// Which way a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the peer.
    In,
    /// To the peer.
    Out,
}

/// Called with every frame, without its transport's prefix, in the order of reading and writing, and
/// with the other end's address, which tells connections apart. It runs in the connection's task: it
/// should be quick.
pub type FrameTap = Arc<dyn Fn(&str, Direction, Bytes) + Send + Sync>;
