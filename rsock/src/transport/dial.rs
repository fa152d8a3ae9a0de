//! Dialling: from a URI to a byte stream that frames lie on, as often as it is needed.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::net::TcpStream;

#[cfg(feature = "websocket")]
use crate::transport::websocket;
use crate::{
    error::ConnectError,
    transport::{
        Framing, connect_tcp,
        link::Transport,
        uri::{Scheme, Uri},
    },
};

/// Where to dial, and how.
#[derive(Clone, Debug)]
pub(crate) struct Dial {
    pub(crate) uri: Uri,
    /// How long connecting may take, the WebSocket handshake included.
    pub(crate) limit: Duration,
    /// The longest message of a WebSocket.
    #[cfg_attr(not(feature = "websocket"), expect(dead_code, reason = "WebSocket's alone"))]
    pub(crate) max_frame_bytes: usize,
    /// Headers of the WebSocket handshake.
    #[cfg(feature = "websocket")]
    pub(crate) headers: Vec<(String, String)>,
}

impl Dial {
    /// Opens a connection.
    pub(crate) async fn open(&self) -> Result<(TcpStream, Framing, Bytes), ConnectError> {
        let stream = connect_tcp(&self.uri, self.limit).await?;
        match self.uri.scheme {
            Scheme::Tcp => Ok((stream, Framing::LengthPrefixed, Bytes::new())),
            #[cfg(feature = "websocket")]
            Scheme::WebSocket => {
                let address = self.uri.to_string();
                let limit = self.limit;
                let authority = self.uri.authority();
                let handshake =
                    websocket::connect(stream, &authority, &self.uri.path, &self.headers, None);
                let (stream, leftover) = tokio::time::timeout(limit, handshake)
                    .await
                    .map_err(|_| ConnectError::Timeout { address: address.clone(), after: limit })?
                    .map_err(|error| ConnectError::Handshake {
                        address: address.clone(),
                        error: error.to_string(),
                    })?;
                let role = websocket::Role::Client;
                let framing = websocket::WebSocketFraming::new(role, self.max_frame_bytes);
                Ok((stream, Framing::WebSocket(framing), leftover))
            }
        }
    }

    /// Opens another connection, for a session that has lost its own.
    pub(crate) async fn again(self) -> Result<Transport, ConnectError> {
        let (stream, framing, leftover) = self.open().await?;
        let input = BytesMut::from(&leftover[..]);
        let peer = self.uri.to_string().into();
        Ok(Transport { io: Box::new(stream), framing, input, peer })
    }
}
