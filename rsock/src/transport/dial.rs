//! Dialling: from a URI to a byte stream that frames lie on, as often as it is needed.

#[cfg(feature = "websocket")]
use std::error::Error;
use std::{io, pin::Pin, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};

#[cfg(feature = "tls")]
use crate::transport::tls;
#[cfg(unix)]
use crate::transport::unix;
#[cfg(feature = "websocket")]
use crate::transport::websocket;
use crate::{
    error::ConnectError,
    transport::{
        Framing,
        address::{Address, Layout, Uri},
        socket::{Socket, Transport},
        tcp::{self, Tried},
    },
};

/// The address to dial, and how.
#[derive(Clone, Debug)]
pub(crate) struct Dial {
    pub(crate) uri: Uri,
    /// How long connecting may take, the handshakes of TLS and WebSocket included.
    pub(crate) limit: Duration,
    /// With a URI that asks for it.
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<tls::Connector>,
    /// The longest message of a WebSocket.
    #[cfg_attr(not(feature = "websocket"), expect(dead_code, reason = "WebSocket's alone"))]
    pub(crate) max_frame_bytes: usize,
    /// Headers of the WebSocket handshake.
    #[cfg(feature = "websocket")]
    pub(crate) headers: websocket::Headers,
}

impl Dial {
    /// Opens a connection.
    pub(crate) async fn open(&self) -> Result<Transport, ConnectError> {
        let (limit, mut tried) = (self.limit, Tried::default());
        let opened = tokio::time::timeout(limit, self.open_unlimited(&mut tried)).await;
        opened.unwrap_or_else(|_| {
            let address = self.uri.address.to_string();
            let tried = tried.beside(&address);
            Err(ConnectError::Timeout { address, after: limit, tried })
        })
    }

    async fn open_unlimited(&self, tried: &mut Tried) -> Result<Transport, ConnectError> {
        let Uri { address, layout, .. } = &self.uri;
        let socket = match address {
            Address::Tcp(target) => Socket::Tcp(tcp::connect(target, tried).await?),
            #[cfg(unix)]
            Address::Unix(name) => {
                let connected = unix::connect(name).await;
                Socket::Unix(connected.map_err(|error| ConnectError::io(name.to_string(), error))?)
            }
        };
        #[cfg(feature = "tls")]
        let socket = match &self.tls {
            Some(tls) => tls.connect(socket, &address.to_string()).await?,
            None => socket,
        };
        let peer = self.uri.to_string().into();
        match layout {
            Layout::Prefixed => {
                let (framing, input) = (Framing::LengthPrefixed, BytesMut::new());
                Ok(Transport { socket, framing, input, peer })
            }
            #[cfg(feature = "websocket")]
            Layout::WebSocket { path, user } => {
                let host = match address {
                    Address::Tcp(target) => target.header(self.uri.security.http_port()),
                    #[cfg(unix)]
                    Address::Unix(_) => "localhost".to_owned(),
                };
                let user = user.as_ref().map(|user| user.0.as_str());
                let handshake = websocket::connect(socket, &host, path, &self.headers, user);
                let (socket, leftover) = handshake.await.map_err(|error| self.failed(error))?;
                let role = websocket::Role::Client;
                let framing = websocket::WebSocketFraming::new(role, self.max_frame_bytes);
                let (framing, input) = (Framing::WebSocket(framing), BytesMut::from(&leftover[..]));
                Ok(Transport { socket, framing, input, peer })
            }
        }
    }

    /// The handshake of the WebSocket has failed, if it is not TLS that has: of a client's certificate, that
    /// is told when its own handshake seems to be over.
    #[cfg(feature = "websocket")]
    fn failed(&self, error: websocket::HandshakeError) -> ConnectError {
        #[cfg(feature = "tls")]
        if let Some(kind) = system_error(&error).and_then(tls::kind_of) {
            let address = self.uri.address.to_string();
            return ConnectError::Tls { address, kind, error: io_error(error) };
        }
        ConnectError::Handshake { address: self.uri.to_string(), error: io_error(error) }
    }

    /// The same over and over.
    pub(crate) fn again(self) -> DialAgain {
        let dial = Arc::new(self);
        Arc::new(move || {
            let dial = Arc::clone(&dial);
            Box::pin(async move { dial.open().await })
        })
    }
}

/// The failure of a handshake, of the kind that the system's error had if that ended it.
#[cfg(feature = "websocket")]
fn io_error(error: websocket::HandshakeError) -> rsock_proto::IoError {
    let kind = system_error(&error).map_or(io::ErrorKind::InvalidData, io::Error::kind);
    io::Error::new(kind, error).into()
}

/// The error of the socket that has ended a handshake, if that has.
#[cfg(feature = "websocket")]
fn system_error(error: &websocket::HandshakeError) -> Option<&io::Error> {
    let mut cause = error.source();
    while let Some(error) = cause
        && !error.is::<io::Error>()
    {
        cause = error.source();
    }
    cause.and_then(|error| error.downcast_ref())
}

/// Opens another connection, for a session that has lost its own.
pub(crate) type DialAgain = Arc<dyn Fn() -> Dialling + Send + Sync>;

/// A connection in the making.
pub(crate) type Dialling = Pin<Box<dyn Future<Output = Result<Transport, ConnectError>> + Send>>;

/// The name of byte streams of a caller's own where there is an address otherwise.
pub(crate) const OWN: &str = "a transport of the caller's own";

/// Dials as the caller does, within `limit`.
pub(crate) async fn dial_own<IO>(
    dialling: impl Future<Output = io::Result<IO>>,
    limit: Duration,
) -> Result<Transport, ConnectError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match tokio::time::timeout(limit, dialling).await {
        Ok(Ok(stream)) => Ok(Transport::from_caller(stream, OWN)),
        Ok(Err(error)) => Err(ConnectError::io(OWN, error)),
        Err(_) => {
            Err(ConnectError::Timeout { address: OWN.into(), after: limit, tried: String::new() })
        }
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
        Box::pin(dial_own(dialling, limit))
    })
}
