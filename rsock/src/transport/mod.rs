//! Byte streams that carry frames: TCP, Unix sockets and memory with a length before each frame, and
//! WebSocket with its own framing.

pub(crate) mod address;
pub(crate) mod dial;
#[cfg(feature = "tracing")]
pub(crate) mod foreign;
pub(crate) mod listen;
pub(crate) mod proxy;
pub(crate) mod socket;
mod tcp;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(unix)]
pub(crate) mod unix;
#[cfg(feature = "websocket")]
pub(crate) mod websocket;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rsock_proto::{
    SendBuf, Violation,
    frame::{self, InputLimits},
};
use tokio::io::DuplexStream;

pub use tcp::prepare_tcp;

/// Two ends of a connection in memory, each holding at most `capacity` bytes in flight.
pub fn memory(capacity: usize) -> (DuplexStream, DuplexStream) {
    tokio::io::duplex(capacity)
}

/// A frame or an event that a transport took off its input.
#[cfg_attr(not(feature = "websocket"), expect(dead_code, reason = "WebSocket's alone"))]
pub(crate) enum Received {
    /// A whole frame.
    Frame(Bytes),
    /// The answer to a ping of the transport.
    Pong,
    /// Something of the transport's own, dealt with.
    Control,
    /// The peer ends the transport, and may have said why, with a code.
    End(Option<(u16, Arc<str>)>),
}

/// How frames lie on a byte stream.
pub(crate) enum Framing {
    LengthPrefixed,
    #[cfg(feature = "websocket")]
    WebSocket(websocket::WebSocketFraming),
}

impl Framing {
    /// A buffer that writes frames so.
    pub(crate) fn send_buf(&self) -> SendBuf {
        match self {
            Self::LengthPrefixed => SendBuf::length_prefixed(),
            #[cfg(feature = "websocket")]
            Self::WebSocket(framing) => framing.send_buf(),
        }
    }

    /// Takes the next frame off `input`; `None` while it is incomplete. What the transport itself
    /// has to answer goes to `output`.
    #[cfg_attr(not(feature = "websocket"), expect(unused_variables, reason = "WebSocket's alone"))]
    pub(crate) fn decode(
        &mut self,
        input: &mut BytesMut,
        limits: InputLimits,
        output: &mut SendBuf,
    ) -> Result<Option<Received>, Violation> {
        match self {
            Self::LengthPrefixed => {
                let frame = frame::deframe(input, limits)?;
                Ok(frame.map(Received::Frame))
            }
            #[cfg(feature = "websocket")]
            Self::WebSocket(framing) => framing.decode(input, limits, output),
        }
    }

    /// The part that has come of a frame that is not whole yet, if that can be told.
    pub(crate) fn frame_start<'a>(&self, input: &'a [u8]) -> Option<&'a [u8]> {
        match self {
            Self::LengthPrefixed => input.get(frame::PREFIX_LEN..),
            #[cfg(feature = "websocket")]
            Self::WebSocket(_) => None,
        }
    }

    /// Bytes of a message that has come in part and lies in memory of its own.
    #[inline]
    pub(crate) fn partial_bytes(&self) -> usize {
        match self {
            Self::LengthPrefixed => 0,
            #[cfg(feature = "websocket")]
            Self::WebSocket(framing) => framing.partial_bytes(),
        }
    }

    /// Memory of such a message.
    #[inline]
    pub(crate) fn partial_memory(&self) -> usize {
        match self {
            Self::LengthPrefixed => 0,
            #[cfg(feature = "websocket")]
            Self::WebSocket(framing) => framing.partial_memory(),
        }
    }

    /// Whether the transport has pings of its own.
    pub(crate) fn has_pings(&self) -> bool {
        !matches!(self, Self::LengthPrefixed)
    }

    /// Pings the peer, if the transport can, and says whether it did.
    #[cfg_attr(not(feature = "websocket"), expect(unused_variables, reason = "WebSocket's alone"))]
    pub(crate) fn ping(&mut self, output: &mut SendBuf) -> bool {
        match self {
            Self::LengthPrefixed => false,
            #[cfg(feature = "websocket")]
            Self::WebSocket(framing) => framing.ping(output),
        }
    }

    /// Nothing but the transport's own farewell follows.
    #[cfg_attr(not(feature = "websocket"), expect(unused_variables, reason = "WebSocket's alone"))]
    pub(crate) fn close(&mut self, output: &mut SendBuf) {
        match self {
            Self::LengthPrefixed => {}
            #[cfg(feature = "websocket")]
            Self::WebSocket(framing) => framing.close(output),
        }
    }
}
