//! Publishing what is not to be lost: an outbox that outlives connections.

use std::{
    error, fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use rsock_proto::CloseReason;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::{
    message::{NewMessage, Published},
    outbox::{Entry, Outbox, Place},
    wire,
};
use crate::{error::Error, requester::Requester, state::ConnectionState};

/// The settings of a publisher: made by [`Topic::publisher`](super::Topic::publisher).
#[derive(Clone)]
#[must_use]
pub struct PublisherBuilder {
    requester: Requester,
    topic: Arc<str>,
    sender: Option<String>,
    max_messages: u32,
    max_bytes: u32,
    in_flight: usize,
    wait: Duration,
    patience: Duration,
}

impl PublisherBuilder {
    pub(super) fn new(requester: Requester, topic: Arc<str>) -> Self {
        Self {
            requester,
            topic,
            sender: None,
            max_messages: 1_024,
            max_bytes: 4 << 20,
            in_flight: 64,
            wait: Duration::from_secs(10),
            patience: Duration::from_secs(60),
        }
    }

    /// The sender of each message that does not name one itself. By default, none is named.
    pub fn sender(mut self, name: impl Into<String>) -> Self {
        self.sender = Some(name.into());
        self
    }

    /// Messages that may wait for their acknowledgement, those on their way included: at least 1. Default 1,024.
    pub fn max_messages(mut self, messages: u32) -> Self {
        self.max_messages = messages.clamp(1, u32::MAX >> 4);
        self
    }

    /// Bytes of messages that may wait for their acknowledgement; a message that is larger is refused. Default
    /// 4 MiB.
    pub fn max_bytes(mut self, bytes: u32) -> Self {
        self.max_bytes = bytes.clamp(1, u32::MAX >> 4);
        self
    }

    /// Messages that may be on their way at a time: at least 1. With 1, order holds also behind a message that
    /// was refused for now. Default 64.
    pub fn in_flight(mut self, messages: usize) -> Self {
        self.in_flight = messages.max(1);
        self
    }

    /// How long publishing waits for a place in a full outbox. Default 10 s.
    pub fn wait(mut self, limit: Duration) -> Self {
        self.wait = limit;
        self
    }

    /// How long a message is sent again that the service refuses for now, or of which it says that the outcome
    /// is not known; then that is its end. The time without a connection does not count. Default 60 s.
    pub fn patience(mut self, limit: Duration) -> Self {
        self.patience = limit;
        self
    }

    /// The publisher, whose task runs on the runtime that this is called in.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(self) -> Publisher {
        let Self { requester, topic, sender, max_messages, max_bytes, in_flight, wait, patience } =
            self;
        // There is a place for each that has a permit.
        let (queue, entries) = mpsc::channel(max_messages as usize);
        let (resolved, resolved_seen) = watch::channel(0);
        let counters = Arc::<Counters>::default();
        let outbox = Outbox::new(
            requester.clone(),
            entries,
            resolved,
            Arc::clone(&counters),
            in_flight,
            patience,
        );
        // It ends with the last handle and the last message, or with the connection; nobody joins it.
        drop(tokio::spawn(outbox));
        Publisher {
            shared: Arc::new(Shared {
                requester,
                queue,
                messages: Arc::new(Semaphore::new(max_messages as usize)),
                bytes: Arc::new(Semaphore::new(max_bytes as usize)),
                max_messages,
                max_bytes,
                topic,
                sender,
                wait,
                counters,
                resolved: resolved_seen,
            }),
        }
    }
}

impl fmt::Debug for PublisherBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublisherBuilder").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// A publisher to one topic, with an outbox: what is not acknowledged yet waits there, in order, and is sent
/// again after its connection was lost. Cheap to clone.
///
/// Each message has an id, at random unless it brings one, by which the service knows it again: it is
/// published once, as long as the service remembers its id (by default, for as many messages as it keeps of
/// the topic). Messages of one publisher are published in their order; behind one that is refused for now,
/// those that were on their way already may come first, unless [`in_flight`](PublisherBuilder::in_flight) is 1.
///
/// When the last handle is dropped, what waits is still sent. When the client closes for good, what waits
/// fails: [`flush`](Self::flush) before.
///
/// ```
/// use rsock::{Client, topic::Topic};
///
/// # async fn run(client: &Client) -> Result<(), rsock::topic::PublishError> {
/// let publisher = Topic::new(client, "room.1").publisher().sender("ann").start();
/// let published = publisher.publish("hello").await?;
/// println!("it is message {}", published.offset);
///
/// // Many at a time: each waits for a place, and not for the one before.
/// let mut receipts = Vec::new();
/// for n in 0..100 {
///     receipts.push(publisher.send(n.to_string()).await?);
/// }
/// publisher.flush().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
}

struct Shared {
    requester: Requester,
    queue: mpsc::Sender<Entry>,
    messages: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    max_messages: u32,
    max_bytes: u32,
    topic: Arc<str>,
    sender: Option<String>,
    wait: Duration,
    counters: Arc<Counters>,
    /// Up to which message all have their outcome.
    resolved: watch::Receiver<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Given to the outbox.
    pub(super) taken: AtomicU64,
    pub(super) published: AtomicU64,
    pub(super) duplicates: AtomicU64,
    pub(super) repeated: AtomicU64,
    pub(super) failed: AtomicU64,
}

/// How far a publisher has come, in messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublisherCounts {
    /// Those that wait for their acknowledgement.
    pub waiting: u64,
    /// The bytes of these.
    pub waiting_bytes: u64,
    /// Those that were acknowledged.
    pub published: u64,
    /// Those of them that had been published already when they were sent again.
    pub duplicates: u64,
    /// How often one was sent again.
    pub repeated: u64,
    /// Those that have failed.
    pub failed: u64,
}

impl Publisher {
    /// Publishes a message, and waits for its acknowledgement. Dropping this does not take it back.
    ///
    /// # Errors
    /// [`PublishError::Full`] and [`PublishError::TooLarge`]: it was not taken.
    /// [`PublishError::Failed`]: it was refused, or the client has closed.
    pub async fn publish(&self, message: impl Into<NewMessage>) -> Result<Published, PublishError> {
        self.send(message).await?.await.map_err(PublishError::Failed)
    }

    /// Waits for a place in the outbox, at most as long as [`wait`](PublisherBuilder::wait) says, and puts a
    /// message there. Its receipt tells what comes of it, and may be dropped.
    ///
    /// # Errors
    /// [`PublishError::Full`] and [`PublishError::TooLarge`]; [`PublishError::Failed`] if the client has closed.
    pub async fn send(&self, message: impl Into<NewMessage>) -> Result<Receipt, PublishError> {
        let shared = &*self.shared;
        let message = shared.complete(message.into())?;
        let size = shared.size_of(&message)?;
        let place = async {
            // Neither is ever closed.
            let messages = Arc::clone(&shared.messages).acquire_owned().await.ok()?;
            let bytes = Arc::clone(&shared.bytes).acquire_many_owned(size).await.ok()?;
            Some(Place(messages, bytes))
        };
        match tokio::time::timeout(shared.wait, place).await {
            Ok(Some(place)) => shared.take(&message, place),
            _ => Err(shared.full(shared.wait)),
        }
    }

    /// Puts a message into the outbox if there is a place for it now.
    ///
    /// # Errors
    /// [`PublishError::Full`] and [`PublishError::TooLarge`]; [`PublishError::Failed`] if the client has closed.
    pub fn try_publish(&self, message: impl Into<NewMessage>) -> Result<Receipt, PublishError> {
        let shared = &*self.shared;
        let message = shared.complete(message.into())?;
        let size = shared.size_of(&message)?;
        let messages = Arc::clone(&shared.messages).try_acquire_owned();
        let bytes = Arc::clone(&shared.bytes).try_acquire_many_owned(size);
        match (messages, bytes) {
            (Ok(messages), Ok(bytes)) => shared.take(&message, Place(messages, bytes)),
            _ => Err(shared.full(Duration::ZERO)),
        }
    }

    /// Waits until all that was given to the outbox so far has its outcome, whatever that is.
    pub async fn flush(&self) {
        let taken = self.shared.counters.taken.load(Relaxed);
        let mut resolved = self.shared.resolved.clone();
        // An outbox that has ended has told each what came of it.
        let _ = resolved.wait_for(|resolved| *resolved >= taken).await;
    }

    /// How far it has come.
    pub fn counts(&self) -> PublisherCounts {
        let shared = &*self.shared;
        let (messages, bytes) =
            (shared.messages.available_permits(), shared.bytes.available_permits());
        PublisherCounts {
            waiting: u64::from(shared.max_messages).saturating_sub(messages as u64),
            waiting_bytes: u64::from(shared.max_bytes).saturating_sub(bytes as u64),
            published: shared.counters.published.load(Relaxed),
            duplicates: shared.counters.duplicates.load(Relaxed),
            repeated: shared.counters.repeated.load(Relaxed),
            failed: shared.counters.failed.load(Relaxed),
        }
    }
}

impl Shared {
    /// The message with what every one has.
    fn complete(&self, mut message: NewMessage) -> Result<NewMessage, PublishError> {
        if let Some(sender) = &self.sender
            && !message.has_sender()
        {
            message = message.sender(sender);
        }
        if message.id.is_none() {
            message.id = Some(random_id().map_err(PublishError::Failed)?);
        }
        Ok(message)
    }

    fn size_of(&self, message: &NewMessage) -> Result<u32, PublishError> {
        let bytes = message.size();
        match u32::try_from(bytes).ok().filter(|size| *size <= self.max_bytes) {
            Some(size) => Ok(size),
            None => Err(PublishError::TooLarge { bytes, max_bytes: self.max_bytes as usize }),
        }
    }

    fn full(&self, waited: Duration) -> PublishError {
        PublishError::Full { messages: self.max_messages as usize, waited }
    }

    fn take(&self, message: &NewMessage, place: Place) -> Result<Receipt, PublishError> {
        let payload = wire::publish(&self.topic, message).map_err(PublishError::Failed)?;
        let (answer, answered) = oneshot::channel();
        // Before it is in the queue: whoever flushes then waits for it, and not for less.
        self.counters.taken.fetch_add(1, Relaxed);
        let entry = Entry { payload, answer, _place: place };
        // It has a place there; so the outbox has ended, and with it the client.
        let sent = self.queue.try_send(entry);
        sent.map_err(|_| PublishError::Failed(self.over()))?;
        Ok(Receipt(answered))
    }

    fn over(&self) -> Error {
        Error::never_sent(match self.requester.state() {
            ConnectionState::Closed(reason) => reason,
            _ => CloseReason::Disconnected,
        })
    }
}

/// 128 random bits, in hexadecimal digits.
pub(super) fn random_id() -> Result<String, Error> {
    let mut random = [0; 16];
    let filled = getrandom::fill(&mut random);
    filled.map_err(|error| Error::application(format!("no random id: {error}")))?;
    Ok(format!("{:032x}", u128::from_be_bytes(random)))
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("topic", &self.shared.topic)
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

/// The outcome of a message in an outbox: a future of its acknowledgement. Dropping it takes nothing back.
#[derive(Debug)]
pub struct Receipt(oneshot::Receiver<Result<Published, Error>>);

impl Future for Receipt {
    type Output = Result<Published, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // An outbox that goes without a word goes with its runtime.
        Pin::new(&mut self.0)
            .poll(cx)
            .map(|told| told.unwrap_or_else(|_| Err(CloseReason::Disconnected.into())))
    }
}

/// Why a publisher did not publish a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishError {
    /// The outbox had no place for it, for as long as that was waited for: it was not taken.
    Full {
        /// The messages that there is a place for, if they are small.
        messages: usize,
        /// The time it was waited for.
        waited: Duration,
    },
    /// It is larger than the outbox: it was not taken.
    TooLarge {
        /// The bytes that it counts.
        bytes: usize,
        /// The bytes that there is a place for.
        max_bytes: usize,
    },
    /// It was refused, or the client has closed: if [`Error::sent`] says `Maybe` then, it may have been published.
    Failed(Error),
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { messages, waited } => write!(
                f,
                "outbox full: no place within {waited:?}, {messages} messages and their bytes may wait for \
                 their acknowledgement"
            ),
            Self::TooLarge { bytes, max_bytes } => {
                write!(f, "too large: {bytes} bytes, and the outbox takes {max_bytes}")
            }
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl error::Error for PublishError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Failed(error) => error.source(),
            _ => None,
        }
    }
}
