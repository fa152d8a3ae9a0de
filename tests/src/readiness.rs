//! Byte streams whose readiness is scripted, call by call, or whose writes are noted.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The outcome of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// At most so many bytes.
    Limit(usize),
    /// Not ready; the task is woken at once, so that it has to come back.
    Pending,
    /// Not ready, and nobody is woken.
    Never,
    /// It fails.
    Error(io::ErrorKind),
}

/// Steps of one direction: they are taken in turn.
#[derive(Clone, Debug)]
pub struct Steps {
    steps: Vec<Step>,
    next: usize,
    repeat: bool,
    /// The last one is taken for ever.
    stays: bool,
}

impl Steps {
    /// These, and then without limits.
    pub fn once(steps: impl Into<Vec<Step>>) -> Self {
        Self { steps: steps.into(), next: 0, repeat: false, stays: false }
    }

    /// These, and the last one for ever.
    pub fn until(steps: impl Into<Vec<Step>>) -> Self {
        Self { stays: true, ..Self::once(steps) }
    }

    /// These, over and over.
    pub fn cycle(steps: impl Into<Vec<Step>>) -> Self {
        Self { repeat: true, ..Self::once(steps) }
    }

    fn take(&mut self) -> Step {
        if self.repeat && self.next >= self.steps.len() {
            self.next = 0;
        }
        if self.stays && self.next >= self.steps.len() {
            self.next = self.steps.len().saturating_sub(1);
        }
        let step = self.steps.get(self.next).copied();
        self.next += 1;
        step.unwrap_or(Step::Limit(usize::MAX))
    }
}

/// Cuts a byte stream: reads see its end, writes fail.
#[derive(Clone, Debug, Default)]
pub struct Cut(Arc<Mutex<(bool, Option<Waker>)>>);

impl Cut {
    /// Now.
    pub fn cut(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = true;
        if let Some(reader) = state.1.take() {
            reader.wake();
        }
    }

    fn is_cut(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    fn poll_cut(&self, cx: &Context<'_>) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.0 {
            state.1 = Some(cx.waker().clone());
        }
        state.0
    }
}

/// A byte stream that keeps to a script.
#[derive(Debug)]
pub struct Scripted<IO> {
    io: IO,
    cut: Cut,
    reads: Steps,
    writes: Steps,
}

impl<IO> Scripted<IO> {
    /// Over `io`, with a script for each direction.
    pub fn new(io: IO, reads: Steps, writes: Steps) -> Self {
        Self { io, cut: Cut::default(), reads, writes }
    }

    /// The limit that cuts it.
    pub fn cutter(&self) -> Cut {
        self.cut.clone()
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Scripted<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut.poll_cut(cx) {
            return Poll::Ready(Ok(()));
        }
        match self.reads.take() {
            Step::Pending => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Step::Never => Poll::Pending,
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
        if self.cut.is_cut() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        match self.writes.take() {
            Step::Pending => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Step::Never => Poll::Pending,
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

/// Numbers that look random and are the same for the same seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }

    /// So many steps that come through, over and over; or once, with a failure behind them that stays.
    pub fn steps(&mut self, count: usize, failure: Option<io::ErrorKind>) -> Steps {
        let mut steps: Vec<_> = (0..count)
            .map(|_| match self.below(8) {
                0..=1 => Step::Pending,
                2..=3 => Step::Limit(1 + self.below(4)),
                4..=5 => Step::Limit(1 + self.below(40)),
                _ => Step::Limit(1 + self.below(2_000)),
            })
            .collect();
        match failure {
            Some(kind) => {
                steps.push(Step::Error(kind));
                Steps::until(steps)
            }
            None => {
                // One that never comes through would hang.
                steps.push(Step::Limit(3));
                Steps::cycle(steps)
            }
        }
    }
}
