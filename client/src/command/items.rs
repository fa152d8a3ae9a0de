//! Consuming a stream of items under credit: as it comes, slowly, or step by step.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use rsock::{Payload, RequestStream, Window};
use tokio::time;

use crate::{
    args::{ConnectionArgs, FlowArgs, OutputArgs},
    exit::Failure,
    metadata,
    render::{Output, say},
    terminal::{Key, Terminal},
};

/// How the items of a stream are asked for and shown.
pub(crate) struct Items {
    flow: FlowArgs,
    output: Output,
    terminal: Option<Terminal>,
    verbose: bool,
    started: Instant,
    first_after: Option<Duration>,
    received: u64,
    bytes: u64,
    /// Items asked for in all.
    asked: u64,
}

impl Items {
    pub(crate) fn new(
        connection: &ConnectionArgs,
        flow: FlowArgs,
        output: &OutputArgs,
    ) -> Result<Self, Failure> {
        let metadata_mime = metadata::mime_name(&connection.metadata_mime)?;
        Ok(Self {
            terminal: flow.step.then(Terminal::open).transpose()?,
            flow,
            output: Output::new(output, metadata_mime)?,
            verbose: connection.verbose > 0,
            started: Instant::now(),
            first_after: None,
            received: 0,
            bytes: 0,
            asked: 0,
        })
    }

    /// Shows all items, or as many as `--take` allows. The rest is cancelled with the stream.
    pub(crate) async fn consume(mut self, stream: RequestStream) -> Result<(), Failure> {
        self.started = Instant::now();
        self.asked = self.flow.take.unwrap_or(u64::MAX).min(self.flow.request_n.into());
        let stream = stream.window(self.window());
        let consumed = match self.terminal.take() {
            Some(terminal) => self.step(stream, terminal).await,
            None => self.flow(stream).await,
        };
        // What has come before a failure is shown as well.
        let shown = self.output.flush().await;
        if self.verbose {
            self.summarize();
        }
        consumed.and(shown)
    }

    fn window(&self) -> Window {
        let window = Window::new(self.flow.request_n);
        let window =
            if self.flow.step { window.manual() } else { window.refill_at(self.flow.refill) };
        match self.flow.take {
            Some(take) => window.at_most(take),
            None => window,
        }
    }

    async fn flow(&mut self, mut stream: RequestStream) -> Result<(), Failure> {
        while !self.is_enough() {
            let item = tokio::select! {
                biased;
                item = stream.next() => item,
                failure = self.output.failed() => return Err(failure),
            };
            match item {
                Some(item) => self.show(&item?).await?,
                None => break,
            }
        }
        Ok(())
    }

    async fn step(
        &mut self,
        mut stream: RequestStream,
        mut terminal: Terminal,
    ) -> Result<(), Failure> {
        while !self.is_enough() {
            tokio::select! {
                biased;
                item = stream.next() => match item {
                    Some(item) => {
                        self.show(&item?).await?;
                        self.prompt();
                    }
                    None => break,
                },
                failure = self.output.failed() => return Err(failure),
                // Until the first item is here, a channel may not be open yet.
                key = terminal.key(), if self.received > 0 => match key {
                    Key::More => self.ask(&mut stream, self.flow.request_n),
                    Key::Exactly(n) => self.ask(&mut stream, n),
                    Key::Quit => break,
                },
            }
        }
        Ok(())
    }

    /// Asks for `n` more, or for what is left of `--take`.
    fn ask(&mut self, stream: &mut RequestStream, n: u32) {
        let unasked = self.flow.take.unwrap_or(u64::MAX).saturating_sub(self.asked);
        // At most `n`, hence a u32.
        let n = unasked.min(n.into()) as u32;
        self.asked += u64::from(n);
        stream.request_n(n);
    }

    /// Says that it is the person's turn, when all that was asked for is here.
    fn prompt(&self) {
        if self.received == self.asked && !self.is_enough() {
            let (received, n) = (self.received, self.flow.request_n);
            say(format_args!("{received} received; Enter asks for {n} more, q quits"));
        }
    }

    fn is_enough(&self) -> bool {
        self.flow.take.is_some_and(|take| self.received >= take)
    }

    async fn show(&mut self, item: &Payload) -> Result<(), Failure> {
        self.received += 1;
        self.bytes += item.data.len() as u64;
        self.first_after.get_or_insert_with(|| self.started.elapsed());
        self.output.write(item).await?;
        if let Some(delay) = self.flow.delay
            && !self.is_enough()
        {
            time::sleep(delay).await;
        }
        Ok(())
    }

    fn summarize(&self) {
        let Self { received, bytes, .. } = self;
        let elapsed = self.started.elapsed();
        match self.first_after {
            Some(first) => say(format_args!(
                "rsock: {received} items, {bytes} bytes in {elapsed:.1?}, the first after {first:.1?}"
            )),
            None => say(format_args!("rsock: no items in {elapsed:.1?}")),
        }
    }
}
