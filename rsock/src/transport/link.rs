//! The byte stream of a connection, which may change where its session goes on on another.

use std::{
    any::Any,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::transport::Framing;

/// Any byte stream that frames lie on.
pub(crate) trait ByteStream: Any + AsyncRead + AsyncWrite + Unpin + Send {
    /// To find out what it is.
    fn into_any(self: Box<Self>) -> Box<dyn Any + Send>;
}

impl<T: Any + AsyncRead + AsyncWrite + Unpin + Send> ByteStream for T {
    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }
}

/// Has a socket woken by the runtime this runs on. It is woken by the one it was made on otherwise,
/// for as long as that lives: each time across threads, if each has its own.
pub(crate) fn settle(socket: TcpStream) -> io::Result<TcpStream> {
    TcpStream::from_std(socket.into_std()?)
}

/// A byte stream on its way to the session that goes on on it.
pub(crate) struct Transport {
    pub(crate) io: Box<dyn ByteStream>,
    pub(crate) framing: Framing,
    /// What was read and not looked at.
    pub(crate) input: BytesMut,
    /// The other end's address.
    pub(crate) peer: Arc<str>,
}

impl Transport {
    /// The same, woken by the runtime this runs on where that can be had.
    pub(crate) fn settled(mut self) -> io::Result<Self> {
        let io: &dyn Any = &*self.io;
        if io.is::<TcpStream>() {
            let Ok(socket) = self.io.into_any().downcast::<TcpStream>() else {
                return Err(io::ErrorKind::Unsupported.into());
            };
            self.io = Box::new(settle(*socket)?);
        }
        Ok(self)
    }
}

/// What a connection reads and writes.
pub(crate) enum Link<IO> {
    /// The transport it began with.
    First(IO),
    /// Another, after a resume.
    Later(Box<dyn ByteStream>),
    /// None for now: reads see the end.
    None,
}

impl<IO> Link<IO> {
    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Link<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::First(io) => Pin::new(io).poll_read(cx, buf),
            Self::Later(io) => Pin::new(io).poll_read(cx, buf),
            Self::None => Poll::Ready(Ok(())),
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Link<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::First(io) => Pin::new(io).poll_write(cx, buf),
            Self::Later(io) => Pin::new(io).poll_write(cx, buf),
            Self::None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::First(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Self::Later(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Self::None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::First(io) => io.is_write_vectored(),
            Self::Later(io) => io.is_write_vectored(),
            Self::None => false,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::First(io) => Pin::new(io).poll_flush(cx),
            Self::Later(io) => Pin::new(io).poll_flush(cx),
            Self::None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::First(io) => Pin::new(io).poll_shutdown(cx),
            Self::Later(io) => Pin::new(io).poll_shutdown(cx),
            Self::None => Poll::Ready(Ok(())),
        }
    }
}
