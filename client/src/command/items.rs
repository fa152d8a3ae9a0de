//! Consuming a stream of items under credit: as it comes, slowly, or step by step.

use std::time::{Duration, Instant};

use futures_util::{FutureExt, StreamExt};
use rsock::{Client, ConnectionState, Error, Payload, RequestStream, Window};
use rsock_cli::{Count, Rounded};
use tokio::{task::consume_budget, time};

use crate::{
    args::{ConnectionArgs, FlowArgs, OutputArgs},
    exit::{Failure, hint_at_fragments},
    metadata,
    render::{Output, answer, say},
    terminal::{Key, Terminal},
};

/// How the items of a stream are asked for and shown.
pub(crate) struct Items {
    flow: FlowArgs,
    output: Output,
    terminal: Option<Terminal>,
    verbose: bool,
    /// When it began, until what came of it is said.
    started: Option<Instant>,
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
            started: None,
            first_after: None,
            received: 0,
            bytes: 0,
            asked: 0,
        })
    }

    /// Shows all items, or as many as `--take` allows. The rest is cancelled with the stream.
    pub(crate) async fn consume(mut self, stream: RequestStream) -> Result<(), Failure> {
        self.started = Some(Instant::now());
        let consumed = self.take_items(stream).await;
        self.end(consumed).await
    }

    /// The same for a stream that begins anew where its connection was lost.
    pub(crate) async fn consume_anew(
        mut self,
        client: &Client,
        payload: Payload,
    ) -> Result<(), Failure> {
        self.started = Some(Instant::now());
        let consumed = loop {
            match self.take_items(client.request_stream(payload.clone())).await {
                Err(Failure::Error(Error::Closed { fragmented, .. })) if follows(client).await => {
                    // It may go on like this for ever.
                    if let Some(fragmented) = fragmented {
                        let hint = hint_at_fragments(&fragmented);
                        say(format_args!("rsock: right before, {fragmented}; {hint}"));
                    }
                    say("rsock: the stream begins anew");
                }
                consumed => break consumed,
            }
        };
        self.end(consumed).await
    }

    async fn end(mut self, consumed: Result<(), Failure>) -> Result<(), Failure> {
        // What has come before a failure is shown as well.
        let shown = self.output.flush().await;
        self.summarize();
        consumed.and(shown)
    }

    async fn take_items(&mut self, stream: RequestStream) -> Result<(), Failure> {
        let left = self.flow.take.map_or(u64::MAX, |take| take.saturating_sub(self.received));
        self.asked = self.received + left.min(self.flow.request_n.into());
        let stream = stream.window(self.window());
        match self.terminal.take() {
            Some(mut terminal) => {
                let consumed = self.step(stream, &mut terminal).await;
                self.terminal = Some(terminal);
                consumed
            }
            None => self.flow(stream).await,
        }
    }

    fn window(&self) -> Window {
        let window = Window::new(self.flow.request_n);
        let window =
            if self.flow.step { window.manual() } else { window.refill_at(self.flow.refill) };
        match self.flow.take {
            Some(take) => window.at_most(take.saturating_sub(self.received)),
            None => window,
        }
    }

    async fn flow(&mut self, mut stream: RequestStream) -> Result<(), Failure> {
        while !self.is_enough() {
            // However fast they come, Ctrl-C and the clock are heard.
            consume_budget().await;
            let item = match stream.next().now_or_never() {
                Some(item) => item,
                None => {
                    // What is here is shown while there is nothing more.
                    self.output.pause().await?;
                    tokio::select! {
                        biased;
                        item = stream.next() => item,
                        failure = self.output.failed() => return Err(failure),
                    }
                }
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
        terminal: &mut Terminal,
    ) -> Result<(), Failure> {
        while !self.is_enough() {
            tokio::select! {
                biased;
                item = stream.next() => match item {
                    Some(item) => {
                        self.show(&item?).await?;
                        self.output.pause().await?;
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
            answer(format_args!("{received} received; Enter asks for {n} more, q quits"));
        }
    }

    fn is_enough(&self) -> bool {
        self.flow.take.is_some_and(|take| self.received >= take)
    }

    async fn show(&mut self, item: &Payload) -> Result<(), Failure> {
        self.received += 1;
        self.bytes += item.data.len() as u64;
        if self.first_after.is_none() {
            self.first_after = self.started.map(|started| started.elapsed());
        }
        self.output.write(item).await?;
        if let Some(delay) = self.flow.delay
            && !self.is_enough()
        {
            self.output.pause().await?;
            time::sleep(delay).await;
        }
        Ok(())
    }

    /// Says once what came, if it is to.
    fn summarize(&mut self) {
        let Some(started) = self.started.take().filter(|_| self.verbose) else { return };
        let elapsed = Rounded(started.elapsed());
        let (items, bytes) = (Count(self.received, "item"), Count(self.bytes, "byte"));
        match self.first_after.map(Rounded) {
            Some(first) => {
                say(format_args!("rsock: {items}, {bytes} in {elapsed}, the first after {first}"));
            }
            None => say(format_args!("rsock: no items in {elapsed}")),
        }
    }
}

/// Also where Ctrl-C or the time is what ends it.
impl Drop for Items {
    fn drop(&mut self) {
        self.summarize();
    }
}

/// Waits for the connection that follows one that was lost; false if none does.
async fn follows(client: &Client) -> bool {
    loop {
        match client.ping().await {
            Ok(_) => return true,
            // That one is lost as well.
            Err(Error::Closed { .. }) if !matches!(client.state(), ConnectionState::Closed(_)) => {}
            Err(_) => return false,
        }
    }
}
