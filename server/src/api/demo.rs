//! `echo` and `range`: for a first try, for tests and for measuring.

use std::{
    future::ready,
    pin::Pin,
    task::{self, Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use rsock::{MethodRoute, Payload, Payloads, request_response, request_stream};
use serde::Deserialize;
use tokio::time::{Instant, Sleep, sleep};

use super::{ApiOptions, JsonOptions};
use crate::app::App;

pub(super) fn echo() -> MethodRoute<App> {
    request_response(async |_: App, payload: Payload| payload)
        .fire_and_forget(async |app: App, _: Payload| app.take_fire_and_forget())
        .request_stream(|_, payload: Payload| stream::once(ready(payload)))
        .request_channel(|_, first: Payload, rest: Payloads| {
            stream::once(ready(Ok(first))).chain(rest)
        })
        .about("what it is sent, data and metadata")
}

pub(super) fn range() -> MethodRoute<App> {
    request_stream(|_: App, JsonOptions(options)| Range::new(options)).about(
        "the numbers of {\"from\":0,\"to\":10,\"interval_ms\":0,\"size\":0}, each padded to size; \
         without to, endless",
    )
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RangeOptions {
    from: u64,
    /// Without it, it goes on to what no one will see the end of.
    to: Option<u64>,
    interval_ms: u32,
    size: usize,
}

/// The largest size of an item that can be asked for.
const MAX_SIZE: usize = 1 << 20;

impl ApiOptions for RangeOptions {
    const EXAMPLE: &'static str = r#"{"from":0,"to":10,"interval_ms":0,"size":0}"#;

    fn problem(&self) -> Option<String> {
        let size = self.size;
        (size > MAX_SIZE).then(|| format!("size is {size}, and {MAX_SIZE} is the most"))
    }
}

/// Bytes that items are cut from. Small, since each open stream may hold such a chunk.
const CHUNK: usize = 1_024;

/// Digits of the largest number.
const MAX_DIGITS: usize = 20;

/// The numbers of a range as JSON texts.
struct Range {
    next: u64,
    /// The first number that is not given.
    end: u64,
    size: usize,
    interval: Duration,
    /// Until when to wait for the next number.
    wait: Option<Pin<Box<Sleep>>>,
    chunk: BytesMut,
}

impl Range {
    fn new(options: RangeOptions) -> Self {
        Self {
            next: options.from,
            end: options.to.unwrap_or(u64::MAX),
            size: options.size,
            interval: Duration::from_millis(options.interval_ms.into()),
            wait: None,
            chunk: BytesMut::new(),
        }
    }

    /// The number as text. Items share chunks, so most of them need no allocation of their own.
    fn text(&mut self, number: u64) -> Bytes {
        let needed = self.size.max(MAX_DIGITS);
        if self.chunk.capacity() < needed {
            self.chunk = BytesMut::with_capacity(needed.max(CHUNK));
        }
        self.chunk.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        let len = self.chunk.len().max(self.size);
        self.chunk.resize(len, b' ');
        let text = self.chunk.split().freeze();
        if self.chunk.capacity() == 0 {
            // Even an empty rest keeps what it is the rest of.
            self.chunk = BytesMut::new();
        }
        text
    }

    /// Lets the interval since the item before pass.
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.wait {
            Some(wait) => wait.as_mut().poll(cx),
            None => Poll::Ready(()),
        }
    }

    fn start_wait(&mut self) {
        match &mut self.wait {
            _ if self.interval.is_zero() => {}
            Some(wait) => wait.as_mut().reset(Instant::now() + self.interval),
            none => *none = Some(Box::pin(sleep(self.interval))),
        }
    }
}

impl Stream for Range {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.next >= self.end {
            return Poll::Ready(None);
        }
        task::ready!(self.poll_wait(cx));
        let number = self.next;
        self.next += 1;
        self.start_wait();
        Poll::Ready(Some(self.text(number)))
    }

    /// Exact, so that it is never polled ahead of its credit.
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.end.saturating_sub(self.next);
        usize::try_from(left).map_or((usize::MAX, None), |left| (left, Some(left)))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    async fn items(options: RangeOptions) -> Vec<Bytes> {
        let range = Range::new(options);
        let (hint, items) = (range.size_hint(), range.collect::<Vec<_>>().await);
        assert_eq!(hint, (items.len(), Some(items.len())));
        items
    }

    #[tokio::test]
    async fn numbers_are_json_texts() {
        let to = Some(1_002);
        let texts = items(RangeOptions { from: 998, to, ..RangeOptions::default() }).await;
        assert_eq!(texts, ["998", "999", "1000", "1001"]);
    }

    #[tokio::test]
    async fn numbers_are_padded_and_never_cut() {
        let to = Some(101);
        for (size, expected) in [(0, "100"), (2, "100"), (3, "100"), (5, "100  ")] {
            let texts =
                items(RangeOptions { from: 100, to, size, ..RangeOptions::default() }).await;
            assert_eq!(texts, [expected]);
        }
        let to = Some(3);
        let texts = items(RangeOptions { to, size: MAX_SIZE, ..RangeOptions::default() }).await;
        assert!(texts.iter().all(|text| text.len() == MAX_SIZE));
    }

    /// It may wait for long before the next is asked for.
    #[tokio::test]
    async fn an_item_that_was_given_is_not_kept() {
        for size in [CHUNK, 16 << 10, MAX_SIZE] {
            let mut range = Range::new(RangeOptions { size, ..RangeOptions::default() });
            assert!(range.next().await.unwrap().is_unique(), "{size}");
        }
    }

    #[tokio::test]
    async fn an_empty_range_has_no_items() {
        for (from, to) in [(0, 0), (5, 5), (5, 3), (u64::MAX, 0)] {
            let to = Some(to);
            assert!(items(RangeOptions { from, to, ..RangeOptions::default() }).await.is_empty());
        }
    }

    #[tokio::test]
    async fn without_an_end_it_goes_on() {
        let mut range = Range::new(RangeOptions::default());
        for number in 0..10_000 {
            assert_eq!(range.next().await.unwrap(), number.to_string());
        }
        assert!(range.size_hint().0 > 1 << 31);
        let last = RangeOptions { from: u64::MAX - 1, ..RangeOptions::default() };
        assert_eq!(items(last).await, [(u64::MAX - 1).to_string()]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_interval_passes_between_items_and_not_before_the_first() {
        let interval_ms = 50;
        let options = RangeOptions { to: Some(3), interval_ms, ..RangeOptions::default() };
        let (start, mut range) = (Instant::now(), Range::new(options));
        for number in 0..3 {
            assert_eq!(range.next().await.unwrap(), number.to_string());
            assert_eq!(start.elapsed(), Duration::from_millis(50 * number));
        }
        // The end is known at once.
        assert_eq!(range.next().now_or_never(), Some(None));
    }
}
