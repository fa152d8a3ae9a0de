//! The services that answer the peer, as a driver holds them.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use rsock_proto::{
    Payload, Window,
    frame::{self, StreamId},
};

#[cfg(feature = "websocket")]
use crate::transport::websocket::HttpHead;
use crate::{
    boxed::BoxFuture,
    connection::{feed::ItemSource, inflow::Inflow, mailbox::Mailbox, work::Work},
    error::Error,
    memory::MemoryBudget,
    transport::socket::Ends,
};

/// The stream of a request, and how many items its peer had asked for when it came. By its id, so that it
/// takes no more than 8 bytes: a request is moved a few times.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) stream: StreamId,
    pub(crate) granted: u32,
}

impl Asked {
    pub(crate) fn new(stream: StreamId, granted: u64) -> Self {
        // Where it is more, the connection says so soon.
        Self { stream, granted: u32::try_from(granted).unwrap_or(u32::MAX) }
    }
}

/// A responder as the driver holds it: one object a connection, one box a request.
pub(crate) trait Handle: Send + Sync {
    /// Answers `Ok(None)`, to nobody.
    fn fire_and_forget(&self, payload: Payload) -> Work;
    fn request_response(&self, payload: Payload) -> Work;
    fn request_stream(&self, payload: Payload, asked: Asked) -> ItemSource;
    fn request_channel(&self, first: Payload, rest: Inflow, asked: Asked) -> ItemSource;
    fn metadata_push(&self, metadata: Bytes) -> BoxFuture<()>;
}

/// A connection that somebody has to accept, with all that there is to know of its other end.
pub(crate) struct Arrival {
    /// The client's; at a client its own.
    pub(crate) setup: frame::Setup,
    pub(crate) ends: Ends,
    /// The way to ask the other end.
    pub(crate) mailbox: Arc<Mailbox>,
    /// How many items what is asked of it keeps outstanding.
    pub(crate) window: Window,
    /// Payloads are cut into fragments, so that they need not fit a frame.
    pub(crate) fragments: bool,
    pub(crate) memory: Arc<MemoryBudget>,
    /// The request that opened its WebSocket.
    #[cfg(feature = "websocket")]
    pub(crate) http: Option<HttpHead>,
}

/// An acceptor as a server holds it.
pub(crate) trait Accept: Send + Sync {
    fn accept(&self, arrival: Arrival) -> BoxFuture<Result<Arc<dyn Handle>, Error>>;
}

impl fmt::Debug for dyn Accept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Accept")
    }
}
