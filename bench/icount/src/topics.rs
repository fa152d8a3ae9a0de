//! Topics, with clients that do as little as they can: what is counted is the server's.

use std::{
    future::poll_fn,
    io, mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use rsock::{Endpoint, Router, Server};
use rsock_topics::{
    Kind, Limits, Message, Publish, Retention, Service, Settings, TopicName, TopicSettings,
};
use rsock_wire::{COMPOSITE, named, prefix_len, route, rr, rs, setup_of};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    runtime::{Builder, Runtime},
};

use crate::{Result, measured};

/// The work that topics are given.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    /// Messages to a hundred subscribers on each of ten connections, one message after the other.
    FanOut { topic: &'static str },
    /// Publishes that are answered, to as many topics in turn, of which the first has so many subscribers
    /// without credit.
    Publish { topics: u64, subscribers: u32 },
    /// One reader, from the start.
    CatchUp,
}

const DATA: [u8; 200] = [b'x'; 200];
/// A topic that keeps the newest of each key.
pub(crate) const LATEST: &str = "board.lobby";
pub(crate) const LOG: &str = "room.000000";
const CONNECTIONS: u32 = 10;
const SUBSCRIBERS: u32 = 100;
/// Subscriptions of a connection at most.
const OF_A_CONNECTION: u32 = 4_000;
const IN_FLIGHT: u64 = 64;
/// Messages of a topic before it is published to, at most: as many as lie in one piece of memory.
const PIECE: u64 = 64;
const KEYS: u64 = 16;
/// Publishes before anything is counted.
const WARM_UP: u64 = IN_FLIGHT;
/// Bytes of a frame's length.
const PREFIX: usize = 3;
/// Milliseconds: longer than anything here takes.
const NEVER: u32 = i32::MAX as u32 / 4;
const UNLIMITED: u32 = i32::MAX as u32;

/// The log that is kept is bounded by bytes: the bound by number spares what is young, and how long all of
/// this takes is not always the same.
fn settings() -> Result<Settings> {
    let retention = Retention { messages: u64::MAX, bytes: 16 << 20, ..Retention::default() };
    let log = TopicSettings { retention, ..TopicSettings::default() };
    let latest = TopicSettings { kind: Kind::Latest, ..log.clone() };
    let limits = Limits {
        memory: usize::MAX,
        topics: usize::MAX,
        topics_of_one: usize::MAX,
        ..Limits::default()
    };
    Ok(Settings::new(limits, [("board.>", latest), ("room.>", log)])?)
}

/// The connection of a client: it is said what was prepared, and counts the frames that come and does no
/// more with them. A buffer between the two would cost more than what is counted.
#[derive(Clone, Default)]
struct Line(Arc<Mutex<Ends>>);

#[derive(Default)]
struct Ends {
    /// The bytes that the server has not read yet.
    unread: Bytes,
    server: Option<Waker>,
    /// The bytes that there are of the next frame's length.
    prefix: Vec<u8>,
    /// Bytes of a frame that are still to come.
    left: usize,
    frames: u64,
    client: Option<Waker>,
}

impl Ends {
    fn count(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left == 0 {
                let missing = PREFIX - self.prefix.len();
                let (now, rest) = bytes.split_at(missing.min(bytes.len()));
                self.prefix.extend_from_slice(now);
                bytes = rest;
                if let Some(&prefix) = self.prefix.first_chunk::<PREFIX>() {
                    self.left = prefix_len(prefix);
                    self.prefix.clear();
                }
            } else {
                let now = self.left.min(bytes.len());
                bytes = &bytes[now..];
                self.left -= now;
                self.frames += u64::from(self.left == 0);
            }
        }
    }
}

impl Line {
    /// A connection; its server runs as a task.
    fn new(endpoint: Endpoint) -> Self {
        let line = Self::default();
        let far = line.clone();
        tokio::spawn(async move { endpoint.serve_over(far).await });
        let binary = b"application/octet-stream";
        let setup = setup_of((1, 0), NEVER, NEVER, COMPOSITE.as_bytes(), binary);
        line.say(setup.prefixed().into());
        line
    }

    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says this after what is on its way.
    fn say(&self, bytes: Bytes) {
        let mut ends = self.ends();
        ends.unread = if ends.unread.is_empty() {
            bytes
        } else {
            [mem::take(&mut ends.unread), bytes].concat().into()
        };
        if let Some(server) = ends.server.take() {
            server.wake();
        }
    }

    /// Waits for so many frames, and no more.
    async fn take(&self, frames: u64) -> Result<()> {
        let come = poll_fn(|cx| {
            let mut ends = self.ends();
            if ends.frames >= frames && ends.left == 0 {
                return Poll::Ready(mem::take(&mut ends.frames));
            }
            ends.client = Some(cx.waker().clone());
            Poll::Pending
        });
        match come.await {
            come if come == frames => Ok(()),
            come => Err(format!("{come} frames, expected {frames}").into()),
        }
    }

    /// Subscribes so often; each is answered by its position.
    async fn subscribe(
        &self,
        subscribers: u32,
        (topic, options, n): (&str, &str, u32),
    ) -> Result<()> {
        let request = rs(1, n, options).metadata(route_of(topic));
        for subscriber in 0..subscribers {
            self.say(request.clone().on(2 * subscriber + 1).prefixed().into());
            self.take(1).await?;
        }
        Ok(())
    }
}

impl AsyncRead for Line {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut ends = self.ends();
        if ends.unread.is_empty() {
            ends.server = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let len = ends.unread.len().min(buffer.remaining());
        buffer.put_slice(&ends.unread.split_to(len));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut ends = self.ends();
        ends.count(bytes);
        if let Some(client) = ends.client.take() {
            client.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn route_of(topic: &str) -> Vec<u8> {
    route(&format!("topic.{topic}"))
}

/// A publish; in a topic of the newest by key each replaces one of a few.
fn publish(number: u64, topic: &str) -> Vec<u8> {
    let mut metadata = route_of(topic);
    if topic == LATEST {
        let key = format!(r#"{{"key":"{:02}"}}"#, number % KEYS);
        metadata.extend(named(&[0x80 | 0x05], key));
    }
    // Numbers of here are small.
    rr(2 * number as u32 + 1, DATA).metadata(metadata).prefixed()
}

fn name_of(topic: u64) -> String {
    format!("room.{topic:06}")
}

/// The numbers of the topics that are published to one after the other: neighbours in no map.
fn spread(number: u64, topics: u64) -> u64 {
    number.wrapping_mul(7_919) % topics
}

/// A server and its clients on one thread.
struct Stage {
    runtime: Runtime,
    service: Service,
    endpoint: Endpoint,
    publisher: Line,
}

impl Stage {
    /// It is never taken apart: that would be counted.
    fn new() -> Result<&'static Self> {
        let service = Service::new(settings()?);
        let endpoint = Server::builder().without_listeners(service.add_to(Router::new(())));
        // What is too old is looked for each second, by a task of whoever asks first. That one is over
        // before anything is counted.
        let first = runtime()?;
        first.block_on(async {
            let line = Line::new(endpoint.clone());
            line.say(publish(0, "room.first").into());
            line.take(1).await
        })?;
        drop(first);
        let runtime = runtime()?;
        let publisher = runtime.block_on(async { Line::new(endpoint.clone()) });
        Ok(Box::leak(Box::new(Self { runtime, service, endpoint, publisher })))
    }

    /// Connections with so many subscribers each.
    fn subscribed(
        &self,
        connections: u32,
        subscribers: u32,
        one: (&str, &str, u32),
    ) -> Result<&'static [Line]> {
        let lines = self.runtime.block_on(async {
            let mut lines = Vec::new();
            for _ in 0..connections {
                let line = Line::new(self.endpoint.clone());
                line.subscribe(subscribers, one).await?;
                lines.push(line);
            }
            Result::Ok(lines)
        })?;
        Ok(lines.leak())
    }

    /// Asks for all of it, as many at once as are in flight.
    fn ask(&self, publishes: &[Bytes]) -> Result<()> {
        self.runtime.block_on(async {
            for some in publishes {
                self.publisher.say(some.clone());
                self.publisher.take(IN_FLIGHT).await?;
            }
            Ok(())
        })
    }

    /// Publishes to a topic without a request.
    fn put(&self, topic: &str, messages: u64) -> Result<()> {
        let name = TopicName::parse(topic)?;
        let message = Message { data: &DATA, ..Message::default() };
        let publish = Publish { message, ..Publish::default() };
        for _ in 0..messages {
            self.service.topics().publish(&name, None, &publish, self.service.clock().now())?;
        }
        Ok(())
    }
}

fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_time().build()?)
}

/// Does the work, a little of it beforehand; what is prepared is not counted.
pub(crate) fn run(work: Work, units: u64) -> Result<()> {
    let stage = Stage::new()?;
    match work {
        Work::FanOut { topic } => fan_out(stage, topic, units),
        Work::Publish { topics, subscribers } => publishes(stage, topics, subscribers, units),
        Work::CatchUp => catch_up(stage, units),
    }
}

fn fan_out(stage: &Stage, topic: &str, units: u64) -> Result<()> {
    let one = (topic, r#"{"start":true}"#, UNLIMITED);
    let lines = stage.subscribed(CONNECTIONS, SUBSCRIBERS, one)?;
    let messages = units / u64::from(CONNECTIONS * SUBSCRIBERS);
    let all: Vec<Bytes> =
        (0..WARM_UP + messages).map(|number| publish(number, topic).into()).collect();
    let (warm_up, counted) = all.split_at(WARM_UP as usize);
    let deliver = |publishes: &[Bytes]| {
        stage.runtime.block_on(async {
            for publish in publishes {
                stage.publisher.say(publish.clone());
                stage.publisher.take(1).await?;
                for line in lines {
                    line.take(u64::from(SUBSCRIBERS)).await?;
                }
            }
            Ok(())
        })
    };
    deliver(warm_up)?;
    measured(&mut || deliver(counted))
}

fn publishes(stage: &Stage, topics: u64, subscribers: u32, units: u64) -> Result<()> {
    // The credit of each is spent by its position.
    let one = (LOG, r#"{"start":true}"#, 1);
    let connections = subscribers.div_ceil(OF_A_CONNECTION);
    stage.subscribed(connections, subscribers / connections.max(1), one)?;
    for topic in 0..topics {
        stage.service.topics().open(&TopicName::parse(&name_of(topic))?)?;
    }
    // As in the midst of it: a new piece of memory is begun now by one and now by another.
    for number in 0..topics.min(units) {
        stage.put(&name_of(spread(number, topics)), PIECE + number % PIECE)?;
    }
    let all: Vec<_> = (0..WARM_UP + units)
        .map(|number| publish(number, &name_of(spread(number, topics))))
        .collect();
    let (warm_up, counted) = all.split_at(WARM_UP as usize);
    let batches = |publishes: &[Vec<u8>]| -> Vec<Bytes> {
        publishes.chunks(IN_FLIGHT as usize).map(|some| some.concat().into()).collect()
    };
    stage.ask(&batches(warm_up))?;
    let counted = batches(counted);
    measured(&mut || stage.ask(&counted))
}

fn catch_up(stage: &Stage, units: u64) -> Result<()> {
    stage.put(LOG, units)?;
    let line = stage.runtime.block_on(async { Line::new(stage.endpoint.clone()) });
    let subscribe = rs(1, UNLIMITED, r#"{"from":"start"}"#).metadata(route_of(LOG));
    let subscribe: Bytes = subscribe.prefixed().into();
    measured(&mut || {
        stage.runtime.block_on(async {
            line.say(subscribe.clone());
            line.take(units).await
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_however_their_bytes_come() {
        let bytes = [publish(0, LOG), publish(1, LATEST)].concat();
        for len in 1..bytes.len() {
            let mut ends = Ends::default();
            bytes.chunks(len).for_each(|some| ends.count(some));
            assert_eq!((ends.frames, ends.left, ends.prefix.len()), (2, 0, 0));
        }
    }
}
