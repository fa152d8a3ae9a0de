//! A topic, as small as it can be: a log that many streams of one connection read by feeds.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicUsize,
            Ordering::{AcqRel, Acquire},
        },
    },
    task::{Context, Poll},
};

use futures_util::StreamExt;
use rsock::{Client, Error, Feed, Outlet, Request, Router, SharedPayload, WakeGroup, stream_feed};
use tokio::task::{JoinSet, yield_now};

use crate::Result;

/// Streams that read.
const READERS: u64 = 64;
/// Messages that are kept: as many as a reader can be behind.
const KEPT: usize = 256;
const DATA: [u8; 200] = [b'x'; 200];
const METADATA: &[u8] =
    br#"{"topic":"room.lobby","epoch":"9f3c1a7be2d04411","offset":42,"time":1764417}"#;

#[derive(Default)]
pub(crate) struct Topic {
    head: AtomicUsize,
    log: Mutex<Vec<SharedPayload>>,
    group: Mutex<Option<Arc<WakeGroup>>>,
}

impl Topic {
    pub(crate) fn router() -> (Arc<Self>, Router<Arc<Self>>) {
        let topic = Arc::new(Self::default());
        let router = Router::new(Arc::clone(&topic));
        (topic, router.route("topic", stream_feed(subscribe)).default_route("topic"))
    }

    fn publish(&self) {
        let message = SharedPayload::new(Some(METADATA), &DATA);
        let at = self.head.load(Acquire) % KEPT;
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if at < log.len() {
            log[at] = message;
        } else {
            log.push(message);
        }
        drop(log);
        self.head.fetch_add(1, AcqRel);
        if let Some(group) = &*self.group.lock().unwrap_or_else(PoisonError::into_inner) {
            group.wake();
        }
    }
}

fn subscribe(topic: Arc<Topic>, request: Request) -> std::result::Result<Cursor, Error> {
    let mut group = topic.group.lock().unwrap_or_else(PoisonError::into_inner);
    let group = group.get_or_insert_with(|| request.peer().requester().wake_group()).clone();
    let next = topic.head.load(Acquire);
    Ok(Cursor { topic: Arc::clone(&topic), group, next })
}

struct Cursor {
    topic: Arc<Topic>,
    group: Arc<WakeGroup>,
    next: usize,
}

impl Feed for Cursor {
    fn poll_fill(
        &mut self,
        out: &mut Outlet<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<std::result::Result<(), Error>> {
        loop {
            let log = self.topic.log.lock().unwrap_or_else(PoisonError::into_inner);
            while self.next < self.topic.head.load(Acquire) {
                if !out.has_room() {
                    return Poll::Pending;
                }
                out.send_shared(&log[self.next % KEPT])?;
                self.next += 1;
            }
            drop(log);
            out.wait_in(&self.group, cx);
            if self.next == self.topic.head.load(Acquire) {
                return Poll::Pending;
            }
        }
    }
}

/// So many deliveries, of messages that are published one after the other.
pub(crate) async fn deliveries(client: Client, topic: Arc<Topic>, units: u64) -> Result<()> {
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let items = client.request_stream("").take((units / READERS) as usize);
        readers.spawn(items.fold(Ok(()), async |all, item| all.and_then(|()| item.map(drop))));
    }
    while topic.group.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
        yield_now().await;
    }
    // The last of them has subscribed when this is answered.
    client.ping().await?;
    let publisher = tokio::spawn(async move {
        loop {
            topic.publish();
            yield_now().await;
        }
    });
    while let Some(read) = readers.join_next().await {
        read??;
    }
    publisher.abort();
    Ok(())
}
