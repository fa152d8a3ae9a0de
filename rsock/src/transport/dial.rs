//! Dialling: from a URI to a byte stream that frames lie on, as often as it is needed.

use std::{io, pin::Pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

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
        #[cfg(feature = "websocket")]
        let until = tokio::time::Instant::now() + self.limit;
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
                let (stream, leftover) = tokio::time::timeout_at(until, handshake)
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

    /// The same over and over.
    pub(crate) fn again(self) -> DialAgain {
        let dial = Arc::new(self);
        Arc::new(move || {
            let dial = Arc::clone(&dial);
            Box::pin(async move {
                let (stream, framing, leftover) = dial.open().await?;
                let input = BytesMut::from(&leftover[..]);
                let peer = dial.uri.to_string().into();
                Ok(Transport { io: Box::new(stream), framing, input, peer })
            })
        })
    }
}

/// Opens another connection, for a session that has lost its own.
pub(crate) type DialAgain = Arc<dyn Fn() -> Dialling + Send + Sync>;

/// A connection in the making.
pub(crate) type Dialling = Pin<Box<dyn Future<Output = Result<Transport, ConnectError>> + Send>>;

/// What the byte streams of a caller's own are called where there is an address otherwise.
pub(crate) const OWN: &str = "a transport of the caller's own";

/// Dials as the caller does, within `limit`.
pub(crate) async fn dial_own<IO>(
    dialling: impl Future<Output = io::Result<IO>>,
    limit: Duration,
) -> Result<IO, ConnectError> {
    match tokio::time::timeout(limit, dialling).await {
        Ok(dialled) => dialled.map_err(|error| ConnectError::io(OWN, &error)),
        Err(_) => Err(ConnectError::Timeout { address: OWN.into(), after: limit }),
    }
}

/// The same over and over.
pub(crate) fn own_again<IO, F, D>(dial: Arc<F>, limit: Duration) -> DialAgain
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn() -> D + Send + Sync + 'static,
    D: Future<Output = io::Result<IO>> + Send + 'static,
{
    Arc::new(move || {
        let dialling = dial();
        Box::pin(async move {
            let io = Box::new(dial_own(dialling, limit).await?);
            let (framing, input) = (Framing::LengthPrefixed, BytesMut::new());
            Ok(Transport { io, framing, input, peer: OWN.into() })
        })
    })
}
