//! Byte streams whose readiness is scripted, call by call, or whose writes are noted.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// At most so many bytes.
    Limit(usize),
    /// Not ready; the task is woken at once, so that it has to come back.
    Pending,
    /// It fails.
    Error(io::ErrorKind),
}

/// Steps of one direction: they are taken in turn, and the last one stays.
#[derive(Clone, Debug)]
pub struct Steps {
    steps: Vec<Step>,
    next: usize,
    repeat: bool,
}

impl Steps {
    /// These, and then without limits.
    pub fn once(steps: impl Into<Vec<Step>>) -> Self {
        Self { steps: steps.into(), next: 0, repeat: false }
    }

    /// These, over and over.
    pub fn cycle(steps: impl Into<Vec<Step>>) -> Self {
        Self { repeat: true, ..Self::once(steps) }
    }

    fn take(&mut self) -> Step {
        if self.repeat && self.next >= self.steps.len() {
            self.next = 0;
        }
        let step = self.steps.get(self.next).copied();
        self.next += 1;
        step.unwrap_or(Step::Limit(usize::MAX))
    }
}

/// A byte stream that keeps to a script.
#[derive(Debug)]
pub struct Scripted<IO> {
    io: IO,
    reads: Steps,
    writes: Steps,
}

impl<IO> Scripted<IO> {
    /// Over `io`, with a script for each direction.
    pub fn new(io: IO, reads: Steps, writes: Steps) -> Self {
        Self { io, reads, writes }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Scripted<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.reads.take() {
            Step::Pending => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Step::Error(kind) => Poll::Ready(Err(kind.into())),
            Step::Limit(limit) => {
                let mut part = vec![0; limit.min(buffer.remaining())];
                let mut part = ReadBuf::new(&mut part);
                let polled = Pin::new(&mut self.io).poll_read(cx, &mut part);
                buffer.put_slice(part.filled());
                polled
            }
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Scripted<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.writes.take() {
            Step::Pending => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Step::Error(kind) => Poll::Ready(Err(kind.into())),
            Step::Limit(limit) => {
                let part = &bytes[..bytes.len().min(limit)];
                Pin::new(&mut self.io).poll_write(cx, part)
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// A byte stream that notes what each write gives it, however many slices that has.
#[derive(Debug)]
pub struct Noted<IO> {
    io: IO,
    writes: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl<IO> Noted<IO> {
    /// Over `io`, which takes whole writes; and where they are noted.
    pub fn new(io: IO) -> (Self, Arc<Mutex<Vec<Vec<u8>>>>) {
        let writes = Arc::default();
        (Self { io, writes: Arc::clone(&writes) }, writes)
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Noted<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Noted<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, bytes))?;
        let mut writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        writes.push(bytes[..written].to_vec());
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let whole: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        self.poll_write(cx, &whole)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
