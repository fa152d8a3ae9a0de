//! Byte streams that carry frames: TCP and memory with a length before each frame, and WebSocket
//! with its own framing.

pub(crate) mod dial;
pub(crate) mod listen;
pub(crate) mod socket;
pub(crate) mod uri;
#[cfg(feature = "websocket")]
pub(crate) mod websocket;

use std::{io, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use rsock_proto::{
    SendBuf, Violation,
    frame::{self, InputLimits},
};
use tokio::{
    io::DuplexStream,
    net::{TcpStream, lookup_host},
};

use crate::error::ConnectError;
use uri::Uri;

/// Two ends of a connection in memory, each holding at most `capacity` bytes in flight.
pub fn memory(capacity: usize) -> (DuplexStream, DuplexStream) {
    tokio::io::duplex(capacity)
}

/// What a transport took off its input.
#[cfg_attr(not(feature = "websocket"), expect(dead_code, reason = "WebSocket's alone"))]
pub(crate) enum Received {
    /// A whole frame.
    Frame(Bytes),
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

    /// What has come of a frame that is not whole yet, if that can be told.
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

/// Opens a TCP connection to the first address of the host that takes it.
pub(crate) async fn connect_tcp(uri: &Uri, limit: Duration) -> Result<TcpStream, ConnectError> {
    let address = uri.authority();
    let connecting = async {
        let addresses: Vec<_> = lookup_host((uri.host.as_str(), uri.port))
            .await
            .map_err(|error| ConnectError::Resolve {
                host: uri.host.clone(),
                error: error.to_string(),
            })?
            .collect();
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(ConnectError::io(address.clone(), &last))
    };
    let stream = tokio::time::timeout(limit, connecting)
        .await
        .map_err(|_| ConnectError::Timeout { address: address.clone(), after: limit })??;
    prepare(&stream).map_err(|error| ConnectError::io(address, &error))?;
    Ok(stream)
}

/// Bytes that may wait in a socket before they are sent. Whatever waits there can no longer be
/// overtaken: the system's own limit, megabytes, lets a small answer wait behind a large one for
/// as long as a slow link takes for them.
///
/// Measured beside answers of 16 MiB over 500 Mbit/s: with 64 KiB a small one takes 6.6 ms in the
/// median, with 128 KiB 8.5 ms, with the system's limit 55 ms. Loopback is not slower for it.
#[cfg(any(target_os = "android", target_os = "linux"))]
const MAX_UNSENT_BYTES: u32 = 64 << 10;

/// What every TCP socket of ours is set to: small frames leave at once, we coalesce ourselves, and
/// what cannot leave waits with us.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    // Without it, answers wait for longer and are none the worse.
    #[cfg(any(target_os = "android", target_os = "linux"))]
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(MAX_UNSENT_BYTES);
    stream.set_nodelay(true)
}

#[cfg(any(target_os = "android", target_os = "linux"))]
#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn little_waits_unsent_in_a_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = Uri::parse(&format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
        let stream = connect_tcp(&uri, Duration::from_secs(5)).await.unwrap();
        let socket = socket2::SockRef::from(&stream);
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), MAX_UNSENT_BYTES);
        assert!(stream.nodelay().unwrap());
    }
}
