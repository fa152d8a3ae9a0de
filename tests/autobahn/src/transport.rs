//! The library's WebSocket, as its sources have it.

use bytes::Bytes;

#[path = "../../../rsock/src/transport/websocket/mod.rs"]
pub(crate) mod websocket;

/// The events that the framing tells of, under the name that the library has for them.
pub(crate) enum Received {
    Frame(Bytes),
    Control,
    End,
}
