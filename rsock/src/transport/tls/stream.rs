//! A socket behind TLS.

use std::{
    io::{self, IoSlice},
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::TlsInfo;
use crate::transport::socket::Socket;

/// A socket, and the keys that protect what goes over it.
pub(crate) struct TlsStream {
    stream: tokio_rustls::TlsStream<Socket>,
    info: Arc<TlsInfo>,
}

impl TlsStream {
    pub(super) fn new(stream: tokio_rustls::TlsStream<Socket>, info: TlsInfo) -> Self {
        Self { stream, info: Arc::new(info) }
    }

    pub(crate) fn info(&self) -> &Arc<TlsInfo> {
        &self.info
    }

    /// The socket below.
    pub(crate) fn inner(&self) -> &Socket {
        self.stream.get_ref().0
    }

    /// The same over a socket that is woken by the runtime this runs on.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        let below = self.stream.get_mut().0;
        *below = mem::replace(below, Socket::None).settled()?;
        Ok(())
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.stream).poll_read(cx, buf)) {
            // Many close without saying so in TLS. To frames it is the same: what is cut off shows.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            outcome => Poll::Ready(outcome),
        }
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Whoever has closed already hears no farewell.
        match ready!(Pin::new(&mut self.stream).poll_shutdown(cx)) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Poll::Ready(Ok(())),
            outcome => Poll::Ready(outcome),
        }
    }
}
