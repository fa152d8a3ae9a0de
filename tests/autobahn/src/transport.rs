//! The library's WebSocket, as its sources have it.

use std::sync::Arc;

use bytes::Bytes;

#[allow(dead_code, unused_imports, reason = "a server's HTTP is not taken along")]
#[path = "../../../rsock/src/transport/websocket/mod.rs"]
pub(crate) mod websocket;

/// The events that the framing tells of, under the name that the library has for them.
pub(crate) enum Received {
    Frame(Bytes),
    Control,
    #[allow(dead_code, reason = "the suite tells how it ended")]
    End(Option<(u16, Arc<str>)>),
}
