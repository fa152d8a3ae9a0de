//! The byte stream below every framing, whatever it is made of.

#[cfg(any(feature = "tls", feature = "websocket"))]
use std::time::Duration;
use std::{
    any::Any,
    fmt,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

#[cfg(feature = "websocket")]
use bytes::Bytes;
use bytes::BytesMut;
#[cfg(feature = "websocket")]
use hyper::upgrade::Upgraded;
#[cfg(feature = "websocket")]
use hyper_util::rt::TokioIo;
#[cfg(any(feature = "tls", feature = "websocket"))]
use tokio::io::AsyncReadExt;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    net::TcpStream,
};

#[cfg(feature = "tls")]
use crate::transport::tls::{TlsInfo, TlsStream};
#[cfg(unix)]
use crate::transport::unix::{self, UnixUser};
use crate::transport::{Framing, address::Security, tcp};

/// Any byte stream that frames lie on.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for T {}

/// The socket that a connection reads and writes. A new kind of transport is a variant here.
pub(crate) enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
    /// One of the others, and what protects it; in a box, since it is as large as a driver.
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream>),
    /// One end of a pipe in memory.
    Memory(DuplexStream),
    /// Something of the caller's own.
    Own(Box<dyn ByteStream>),
    /// None for now, while a session waits for another: reads see the end.
    None,
}

impl Socket {
    /// A byte stream of the caller's. Kinds that are known are held as what they are: no call through a
    /// table for each read, and [`settled`](Self::settled) works for them.
    pub(crate) fn from_caller<T>(stream: T) -> Self
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut stream = Some(stream);
        let any: &mut dyn Any = &mut stream;
        if let Some(tcp) = any.downcast_mut::<Option<TcpStream>>().and_then(Option::take) {
            return Self::Tcp(tcp);
        }
        #[cfg(unix)]
        if let Some(unix) = any.downcast_mut::<Option<UnixStream>>().and_then(Option::take) {
            return Self::Unix(unix);
        }
        if let Some(memory) = any.downcast_mut::<Option<DuplexStream>>().and_then(Option::take) {
            return Self::Memory(memory);
        }
        stream.map_or(Self::None, |own| Self::Own(Box::new(own)))
    }

    /// The connection that an HTTP server gives up, and the bytes that it has read of it and not looked at.
    #[cfg(feature = "websocket")]
    pub(crate) fn from_upgraded(upgraded: Upgraded) -> (Self, Bytes) {
        match upgraded.downcast::<TokioIo<TcpStream>>() {
            Ok(parts) => (Self::Tcp(parts.io.into_inner()), parts.read_buf),
            // Something that the HTTP server has wrapped; it has these bytes itself.
            Err(other) => (Self::Own(Box::new(TokioIo::new(other))), Bytes::new()),
        }
    }

    /// Sets what every socket of ours is set to.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => tcp::prepare_tcp(socket),
            #[cfg(unix)]
            Self::Unix(socket) => unix::prepare(socket),
            #[cfg(feature = "tls")]
            Self::Tls(socket) => socket.inner().prepare(),
            Self::Memory(_) | Self::Own(_) | Self::None => Ok(()),
        }
    }

    /// The two ends of a transport that is made of this socket, as far as they are known.
    pub(crate) fn ends(&self, framing: &Framing, peer: Arc<str>) -> Ends {
        #[cfg_attr(not(feature = "websocket"), expect(unused_variables, reason = "WebSocket's"))]
        let (raw, web) = self.security().schemes();
        let below = self.below();
        let scheme = match (below, framing) {
            #[cfg(feature = "websocket")]
            (_, Framing::WebSocket(_)) => web,
            (Self::Tcp(_), _) => raw,
            #[cfg(unix)]
            (Self::Unix(_), _) => "unix",
            _ => "own",
        };
        Ends {
            peer,
            scheme,
            local: match below {
                Self::Tcp(socket) => socket.local_addr().ok(),
                _ => None,
            },
            #[cfg(unix)]
            user: match below {
                Self::Unix(socket) => unix::user(socket),
                _ => None,
            },
            #[cfg(feature = "tls")]
            tls: self.tls().cloned(),
        }
    }

    /// The protection of the bytes on their way.
    pub(crate) fn security(&self) -> Security {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(_) => Security::Tls,
            _ => Security::Clear,
        }
    }

    /// The outcome of its TLS handshake, if there was one.
    #[cfg(feature = "tls")]
    pub(crate) fn tls(&self) -> Option<&Arc<TlsInfo>> {
        match self {
            Self::Tls(socket) => Some(socket.info()),
            _ => None,
        }
    }

    /// The identity of the other end, as the transport itself proves it: the digest of the key of its
    /// certificate.
    pub(crate) fn identity(&self) -> TransportIdentity {
        #[cfg(feature = "tls")]
        if let Some(certificate) = self.tls().and_then(|tls| tls.certificate()) {
            return Some(Box::new(*certificate.spki_sha256()));
        }
        None
    }

    /// The socket itself, without what protects it.
    fn below(&self) -> &Self {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(socket) => socket.inner(),
            other => other,
        }
    }

    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// The same, woken by the runtime this runs on where that can be had. It is woken by the one it was
    /// made on otherwise, for as long as that lives: each time across threads, if each has its own.
    pub(crate) fn settled(self) -> io::Result<Self> {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(mut socket) => {
                socket.settle()?;
                Ok(Self::Tls(socket))
            }
            Self::Tcp(socket) => Ok(Self::Tcp(TcpStream::from_std(socket.into_std()?)?)),
            #[cfg(unix)]
            Self::Unix(socket) => Ok(Self::Unix(UnixStream::from_std(socket.into_std()?)?)),
            other @ (Self::Memory(_) | Self::Own(_) | Self::None) => Ok(other),
        }
    }
}

/// The identity that a transport has proven, as far as it proves that at all.
pub(crate) type TransportIdentity = Option<Box<[u8; 32]>>;

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp(_) => "Tcp",
            #[cfg(unix)]
            Self::Unix(_) => "Unix",
            #[cfg(feature = "tls")]
            Self::Tls(_) => "Tls",
            Self::Memory(_) => "Memory",
            Self::Own(_) => "Own",
            Self::None => "None",
        })
    }
}

/// Does this with whatever the socket is, or that where there is none.
macro_rules! with {
    ($socket:expr, $io:ident => $does:expr, none => $none:expr) => {
        match $socket {
            Socket::Tcp($io) => $does,
            #[cfg(unix)]
            Socket::Unix($io) => $does,
            #[cfg(feature = "tls")]
            Socket::Tls($io) => $does,
            Socket::Memory($io) => $does,
            Socket::Own($io) => $does,
            Socket::None => $none,
        }
    };
}

impl AsyncRead for Socket {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        with!(self.get_mut(), io => Pin::new(io).poll_read(cx, buf), none => Poll::Ready(Ok(())))
    }
}

fn not_connected<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
}

impl AsyncWrite for Socket {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        with!(self.get_mut(), io => Pin::new(io).poll_write(cx, buf), none => not_connected())
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        with!(
            self.get_mut(),
            io => Pin::new(io).poll_write_vectored(cx, bufs),
            none => not_connected()
        )
    }

    fn is_write_vectored(&self) -> bool {
        with!(self, io => io.is_write_vectored(), none => false)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with!(self.get_mut(), io => Pin::new(io).poll_flush(cx), none => Poll::Ready(Ok(())))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with!(self.get_mut(), io => Pin::new(io).poll_shutdown(cx), none => Poll::Ready(Ok(())))
    }
}

/// How long, and for how many bytes, a connection is read whose other end was answered before all of it was
/// read: closed at once, it would be reset, and the answer might not be seen.
#[cfg(any(feature = "tls", feature = "websocket"))]
pub(crate) const LINGER: (Duration, usize) = (Duration::from_millis(500), 1 << 20);

/// Reads and forgets what still comes, within bounds, so that an answer arrives.
#[cfg(any(feature = "tls", feature = "websocket"))]
pub(crate) async fn linger(io: &mut (impl AsyncRead + Unpin)) {
    let (time, bytes) = LINGER;
    let discard = async {
        let mut buffer = vec![0; 8 << 10];
        let mut left = bytes;
        while let Ok(read @ 1..) = io.read(&mut buffer).await {
            left = left.saturating_sub(read);
            if left == 0 {
                return;
            }
        }
    };
    // There is nothing to do about what goes on for longer.
    let _ = tokio::time::timeout(time, discard).await;
}

/// The two ends of a transport, as far as it knows them.
#[derive(Clone)]
pub(crate) struct Ends {
    pub(crate) peer: Arc<str>,
    pub(crate) scheme: &'static str,
    pub(crate) local: Option<SocketAddr>,
    #[cfg(unix)]
    pub(crate) user: Option<UnixUser>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Arc<TlsInfo>>,
}

/// A byte stream and what is known of it: what a connection begins with, and what a session goes on on.
pub(crate) struct Transport {
    pub(crate) socket: Socket,
    pub(crate) framing: Framing,
    /// The bytes that were read and not looked at.
    pub(crate) input: BytesMut,
    /// The other end's address.
    pub(crate) peer: Arc<str>,
}

impl Transport {
    /// A byte stream of the caller's, with a u24 length before each frame.
    pub(crate) fn from_caller<T>(stream: T, peer: &str) -> Self
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Self {
            socket: Socket::from_caller(stream),
            framing: Framing::LengthPrefixed,
            input: BytesMut::new(),
            peer: peer.into(),
        }
    }

    /// The two ends of the socket, as far as they are known.
    pub(crate) fn ends(&self) -> Ends {
        self.socket.ends(&self.framing, Arc::clone(&self.peer))
    }

    /// The same, woken by the runtime this runs on where that can be had.
    pub(crate) fn settled(mut self) -> io::Result<Self> {
        self.socket = self.socket.settled()?;
        Ok(self)
    }
}
